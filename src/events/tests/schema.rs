//! A naive reading of the part of JSON Schema (draft 2020-12) that `events.schema.json` uses. It
//! refuses a keyword that it does not know, so that none is without effect. Validators on the
//! registry would give crates that the tools share other features, and build these twice.

use serde_json::Value;

const KEYWORDS: [&str; 17] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "const",
    "enum",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "oneOf",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
];

/// Why `value` does not match; `root` holds the definitions. Keys that the schema does not state
/// are told too: what is written must be documented, whatever readers may ignore. `open`: except at
/// this level, where another schema states them.
pub(super) fn check(root: &Value, schema: &Value, value: &Value, at: &str, open: bool) -> Result<(), String> {
    let schema = schema.as_object().ok_or(format!("{at}: the schema is no object"))?;
    for (keyword, rule) in schema {
        if !KEYWORDS.contains(&keyword.as_str()) {
            return Err(format!("{at}: the schema uses {keyword}, which this test does not read"));
        }
        let refuse = |found: String| Err(format!("{at}: {keyword} {rule}, found {found}"));
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().and_then(|r| r.strip_prefix("#/$defs/")).ok_or(format!("{at}: {rule}"))?;
                check(root, &root["$defs"][name], value, at, open)?;
            }
            "type" => {
                let found = kind(value);
                let fits = |t: &Value| t == found || t == "number" && found == "integer";
                if !rule.as_array().map_or(fits(rule), |all| all.iter().any(fits)) {
                    return refuse(format!("{value}"));
                }
            }
            "const" if rule != value => return refuse(value.to_string()),
            "enum" if !rule.as_array().is_some_and(|all| all.contains(value)) => return refuse(value.to_string()),
            "minimum" if value.as_f64().is_some_and(|v| v < rule.as_f64().unwrap()) => return refuse(value.to_string()),
            "maximum" if value.as_f64().is_some_and(|v| v > rule.as_f64().unwrap()) => return refuse(value.to_string()),
            "minLength" if value.as_str().is_some_and(|v| v.chars().count() < rule.as_u64().unwrap() as usize) => {
                return refuse(value.to_string());
            }
            "maxLength" if value.as_str().is_some_and(|v| v.chars().count() > rule.as_u64().unwrap() as usize) => {
                return refuse(value.to_string());
            }
            "required" => {
                if let Some(key) = rule.as_array().unwrap().iter().find(|k| value.get(k.as_str().unwrap()).is_none()) {
                    return refuse(format!("no {key}"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{i}]"), false)?;
                }
            }
            "oneOf" => {
                let all = rule.as_array().unwrap();
                let outcomes: Vec<_> = all.iter().map(|s| check(root, s, value, at, true)).collect();
                if outcomes.iter().filter(|o| o.is_ok()).count() != 1 {
                    // The definition of the event's own name says most.
                    let own = format!("#/$defs/{}", value["event"].as_str().unwrap_or("?"));
                    let at = all.iter().position(|s| s["$ref"] == own.as_str());
                    return outcomes[at.unwrap_or(0)].clone().and(refuse("more or fewer than one".into()));
                }
            }
            _ => {}
        }
    }
    let Some(keys) = value.as_object() else { return Ok(()) };
    for (key, inner) in keys {
        let stated = schema.get("properties").and_then(|p| p.get(key)).or(schema.get("additionalProperties"));
        match stated {
            Some(rule) => check(root, rule, inner, &format!("{at}.{key}"), false)?,
            None if open || schema.contains_key("oneOf") || schema.contains_key("$ref") => {}
            None => return Err(format!("{at}: the schema does not state {key}")),
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks a whole event; head and event are stated in two places, and together they state every
/// key.
pub(super) fn event(schema: &Value, value: &Value) -> Result<(), String> {
    check(schema, schema, value, "event", true)?;
    let name = value["event"].as_str().unwrap_or("?");
    let own = &schema["$defs"][name]["properties"];
    let unknown = value.as_object().unwrap().keys().find(|k| schema["properties"].get(k).is_none() && own.get(k).is_none());
    unknown.map_or(Ok(()), |key| Err(format!("{name}: the schema does not state {key}")))
}
