//! What Home Assistant is told, so that the line stands there as a device without a line of YAML.
//!
//! One retained message states all of it ("device discovery"). Names of keys are those of Home
//! Assistant's MQTT integration: <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>.

use serde_json::{Map, Value, json};

/// The topic of the message.
pub(super) fn topic(prefix: &str, name: &str) -> String {
    format!("{prefix}/device/tagpin_{name}/config")
}

/// The message. `base`: the topics' first levels, `tagpin/NAME`.
pub(super) fn config(name: &str, base: &str, version: &str) -> Vec<u8> {
    let id = |what: &str| format!("tagpin_{name}_{what}");
    let mut parts = Map::new();
    let mut add = |what: &str, platform: &str, label: &str, more: Value| {
        let mut one = json!({
            "platform": platform, "unique_id": id(what), "name": label, "default_entity_id": format!("{platform}.{}", id(what)),
        });
        if let (Value::Object(one), Value::Object(more)) = (&mut one, more) {
            one.extend(more);
        }
        parts.insert(what.into(), one);
    };
    let state = format!("{base}/state");
    for (what, label, value) in [
        ("parts", "Parts", "value_json.parts"),
        ("accept", "Accepted", "value_json.accept"),
        ("reject", "Rejected", "value_json.reject"),
        ("review", "For review", "value_json.review"),
        ("foreign", "Foreign", "value_json.foreign"),
        ("safe", "Not decided", "value_json.safe"),
        ("late", "Late", "value_json.late"),
        ("faults", "Faults", "value_json.faults.values() | sum"),
    ] {
        let template = format!("{{{{ {value} }}}}");
        add(
            what,
            "sensor",
            label,
            json!({ "state_topic": state, "value_template": template, "state_class": "total_increasing" }),
        );
    }
    let part = format!("{base}/part");
    for (what, label, value) in [
        ("action", "Last part", "value_json.action"),
        ("tag", "Last tag", "value_json.tag or 'none'"),
        ("verdict", "Last verdict", "value_json.verdict"),
    ] {
        let template = format!("{{{{ {value} }}}}");
        add(
            what,
            "sensor",
            label,
            json!({ "state_topic": part, "value_template": template, "json_attributes_topic": part }),
        );
    }
    add(
        "fault",
        "sensor",
        "Last fault",
        json!({
            "state_topic": format!("{base}/fault"), "value_template": "{{ value_json.kind }}", "entity_category": "diagnostic",
            "json_attributes_topic": format!("{base}/fault"),
        }),
    );
    add(
        "snapshot",
        "image",
        "Last part not accepted",
        json!({
            "image_topic": format!("{base}/snapshot"), "content_type": "image/jpeg",
        }),
    );
    let config = json!({
        "device": { "identifiers": [format!("tagpin_{name}")], "name": format!("tagpin {name}"), "sw_version": version },
        "origin": { "name": "tagpin", "sw_version": version },
        "availability_topic": format!("{base}/availability"),
        "components": parts,
    });
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_has_an_id_of_its_own_and_a_topic_that_the_line_writes() {
        let config: Value = serde_json::from_slice(&config("north", "tagpin/north", "0.1.0")).unwrap();
        assert_eq!(config["availability_topic"], "tagpin/north/availability");
        let components = config["components"].as_object().unwrap();
        let ids: std::collections::BTreeSet<&str> = components.values().map(|c| c["unique_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), components.len());
        for (name, component) in components {
            let topic = component.get("state_topic").or(component.get("image_topic")).unwrap().as_str().unwrap();
            let written = ["state", "part", "fault", "snapshot"].map(|last| format!("tagpin/north/{last}"));
            assert!(written.contains(&topic.to_owned()), "{name}: {topic}");
            let entity = component["default_entity_id"].as_str().unwrap();
            assert!(entity.starts_with(component["platform"].as_str().unwrap()), "{entity}");
        }
    }
}
