//! `[mqtt]`: the broker that a line tells, and what it tells.

use super::reader::Table;
use crate::decide::Action;
use std::path::PathBuf;

/// A broker, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publishing {
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who the line says that it is.
    pub user: Option<String>,
    /// The file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Whether the connection is encrypted and the broker's certificate checked.
    pub tls: bool,
    /// The file of the certificates that are believed; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// The line's name: topics are `tagpin/NAME/...`.
    pub name: String,
    /// Where Home Assistant looks for devices; empty where it is told of none.
    pub discovery: String,
    /// Parts whose image is sent, by what happens to them.
    pub snapshots: Vec<Action>,
    /// Parts and faults that wait while the broker is away, at most.
    pub spool: usize,
}

impl Publishing {
    /// Broker and port as people write them.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Host and port of `HOST`, `HOST:PORT`, `ADDRESS` or `[ADDRESS]:PORT`.
fn place(text: &str, port: u16) -> Option<(String, u16)> {
    let host_of = |host: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        (!host.is_empty() && host.len() <= 253 && host.chars().all(good)).then(|| host.to_owned())
    };
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((text.into(), port));
    }
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { port } else { rest.strip_prefix(':')?.parse().ok()? };
        return Some((host.into(), port)).filter(|(_, port)| *port != 0);
    }
    match text.split_once(':') {
        None => Some((host_of(text)?, port)),
        Some((host, rest)) => Some((host_of(host)?, rest.parse().ok().filter(|port| *port != 0)?)),
    }
}

/// Reads the table; `None` where it states no broker.
pub(super) fn mqtt(t: &mut Table<'_>) -> Option<Publishing> {
    let tls = t.choice("tls", &[("no", false), ("yes", true)]);
    let file = |t: &mut Table<'_>, key| t.has(key).then(|| PathBuf::from(t.text(key, "")));
    let (password_file, ca_file) = (file(t, "password_file"), file(t, "ca_file"));
    let user = t.has("user").then(|| t.text("user", "").to_owned());
    let name = t.text("name", "line").to_owned();
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.is_empty() || name.len() > 48 || !is_name(&name) {
        let why = "expected 1 to 48 letters, digits, - and _: it is part of every topic";
        t.problem("name", format!("\"{name}\", {why}"));
    }
    let discovery = t.text("discovery", "homeassistant").to_owned();
    let is_topic = discovery.split('/').all(|level| !level.is_empty() && is_name(level));
    if !discovery.is_empty() && (discovery.len() > 128 || !is_topic) {
        let why = "expected words of letters, digits, - and _ with / between them, or \"\" for none";
        t.problem("discovery", format!("\"{discovery}\", {why}"));
    }
    let snapshots = match t.has("snapshots") {
        false => vec![Action::Reject, Action::Review],
        true => {
            let all = [Action::Accept, Action::Reject, Action::Review];
            let mut chosen = Vec::new();
            for (text, at) in t.texts("snapshots") {
                match all.into_iter().find(|a| a.name() == text) {
                    Some(action) => chosen.push(action),
                    None => t.problem_at(at, format!("snapshots: \"{text}\", expected accept, reject or review")),
                }
            }
            chosen
        }
    };
    let spool = t.integer("spool", 1000, 1..=100_000) as usize;
    if password_file.is_some() && user.is_none() {
        t.problem("password_file", "a password without a user; state user".into());
    }
    if ca_file.is_some() && !tls {
        t.problem("ca_file", "certificates are only looked at with tls = \"yes\"".into());
    }
    if !t.is_on_by("broker") {
        return None;
    }
    let text = t.text("broker", "").to_owned();
    let Some((host, port)) = place(&text, if tls { 8883 } else { 1883 }) else {
        let why = "expected a name or an address, with its port if that is not 1883 (8883 with tls)";
        t.problem("broker", format!("\"{text}\", {why}"));
        return None;
    };
    Some(Publishing { host, port, user, password_file, tls, ca_file, name, discovery, snapshots, spool })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};
    use crate::settings::{ModelTags, Settings};

    fn parse(text: &str) -> Result<Option<Publishing>, String> {
        let tags = ModelTags { names: &["bolt"], rules: &[TagRule::default()], roles: &[Role::Good], categories: None };
        let parsed = Settings::parse(&format!("[mqtt]\n{text}"), "test", tags);
        parsed.map(|s| s.site.mqtt).map_err(|e| e.0.join("\n"))
    }

    #[test]
    fn a_table_with_a_broker_has_the_usual_ports_and_topics() {
        let plain = parse("broker = \"b\"\n").unwrap().unwrap();
        let (user, password_file, ca_file) = (None, None, None);
        let (host, name, discovery) = ("b".into(), "line".into(), "homeassistant".into());
        let snapshots = vec![Action::Reject, Action::Review];
        let usual = Publishing {
            host,
            port: 1883,
            user,
            password_file,
            tls: false,
            ca_file,
            name,
            discovery,
            snapshots,
            spool: 1000,
        };
        assert_eq!((plain.place(), plain), ("b:1883".into(), usual));
        let all = "broker = \"2001:db8::7\"\ntls = \"yes\"\nca_file = \"ca\"\nuser = \"u\"\npassword_file = \"p\"\n\
                   name = \"A-b_9\"\ndiscovery = \"\"\nsnapshots = [\"accept\"]\nspool = 7\n";
        let all = parse(all).unwrap().unwrap();
        assert_eq!((all.place().as_str(), all.tls, all.spool), ("[2001:db8::7]:8883", true, 7));
        assert_eq!((all.user.as_deref(), all.password_file, all.ca_file), (Some("u"), Some("p".into()), Some("ca".into())));
        assert_eq!((all.name.as_str(), all.discovery.as_str(), all.snapshots), ("A-b_9", "", vec![Action::Accept]));
        assert_eq!(parse("broker = \"b\"\nsnapshots = []\n").unwrap().unwrap().snapshots, []);
        assert_eq!(parse("broker = \"b\"\ndiscovery = \"a/b\"\n").unwrap().unwrap().discovery, "a/b");
        assert!(parse(&format!("broker = \"b\"\nname = \"{}\"\n", "n".repeat(48))).is_ok());
        assert!(parse(&format!("broker = \"b\"\ndiscovery = \"{}\"\n", "n".repeat(128))).is_ok());
    }

    #[test]
    fn what_cannot_be_a_topic_or_says_half_of_something_is_refused() {
        let long = |key: &str, n: usize| format!("{key} = \"{}\"", "n".repeat(n));
        for (wrong, why) in [
            (
                "broker = \"mqtt://b\"",
                "broker: \"mqtt://b\", expected a name or an address, with its port if that is not 1883",
            ),
            ("name = \"\"", "name: \"\", expected 1 to 48 letters"),
            ("name = \"a/b\"", "name: \"a/b\", expected 1 to 48 letters"),
            ("name = \"a#\"", "expected 1 to 48 letters"),
            (&long("name", 49), "expected 1 to 48 letters"),
            ("discovery = \"a//b\"", "discovery: \"a//b\", expected words of letters"),
            ("discovery = \"+\"", "expected words of letters"),
            (&long("discovery", 129), "expected words of letters"),
            ("snapshots = [\"foreign\"]", "snapshots: \"foreign\", expected accept, reject or review"),
            ("password_file = \"p\"", "password_file: a password without a user; state user"),
            ("ca_file = \"c\"", "ca_file: certificates are only looked at with tls = \"yes\""),
            ("spool = 0", "spool"),
        ] {
            let broker = if wrong.starts_with("broker") { "" } else { "broker = \"b\"\n" };
            let told = parse(&format!("{broker}{wrong}\n")).expect_err(wrong);
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }

    #[test]
    fn a_broker_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, host, port) in [
            ("broker", "broker", 1883),
            ("broker.local:1884", "broker.local", 1884),
            ("192.0.2.7", "192.0.2.7", 1883),
            ("2001:db8::7", "2001:db8::7", 1883),
            ("[2001:db8::7]", "2001:db8::7", 1883),
            ("[2001:db8::7]:9", "2001:db8::7", 9),
        ] {
            assert_eq!(place(text, 1883), Some((host.into(), port)), "{text}");
        }
        for text in
            ["", ":1883", "broker:", "broker:0", "broker:70000", "mqtt://broker", "a b", "[broker]:1", "a:1:2", "[::1]x"]
        {
            assert_eq!(place(text, 1883), None, "{text}");
        }
    }
}
