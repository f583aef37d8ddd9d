//! Tables of what other machines see.

use super::*;

/// Such a table was passed over: a page that nobody could reach, a log that was never written.
#[cfg(feature = "site")]
#[test]
fn a_table_that_does_nothing_is_told_with_what_it_lacks_and_a_page_listens_on_loopback() {
    let lacks = [("events", "path"), ("keep", "folder"), ("metrics", "listen"), ("modbus", "listen"), ("mqtt", "broker")];
    for (table, key) in lacks.into_iter().chain([("predict", "listen"), ("state", "folder")]) {
        let value = if key == "listen" { "127.0.0.1:1" } else { "a" };
        let told = format!("device.toml:2:1: {table}.{key}: is missing: [{table}] does nothing without it; state it, or");
        let problems = parse(&format!("\n[{table}]\n")).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(&told), "{table}: {problems:?}");
        assert!(parse(&format!("[{table}]\n{key} = \"{value}\"\n")).is_ok(), "{table}");
    }
    let misspelt = parse("[predict]\nlistn = \"127.0.0.1:1\"\n").unwrap_err();
    assert!(misspelt.iter().any(|problem| problem.contains("did you mean \"listen\"?")), "{misspelt:?}");
    let at = |text: &str| parse(text).unwrap().site.page.map(|page| page.at.to_string());
    assert_eq!(at("[page]\n").as_deref(), Some("127.0.0.1:8000"));
    assert_eq!(at("[page]\nlisten = \"127.0.0.2:1\"\n").as_deref(), Some("127.0.0.2:1"));
    assert_eq!(at(""), None);
}

/// Nothing may listen that nobody asked for, and nothing beyond this machine without a key.
#[cfg(feature = "site")]
#[test]
fn nothing_listens_unless_stated_and_beyond_loopback_a_key_is_asked_for() {
    let hash = crate::keys::KeyHash::of("a key").to_string();
    assert_eq!(parse("").unwrap().site, Site::default());
    let predict = |text: &str| parse(&format!("[predict]\n{text}\n")).map(|s| s.site.predict.unwrap());
    let p = predict(&format!("listen = \"0.0.0.0:8080\"\nkeys = [\"{hash}\"]\nhosts = [\"sorter\"]\nimage_mb = 2")).unwrap();
    assert_eq!(
        (p.listening.keys.0.len(), p.listening.hosts.as_slice(), p.image_bytes),
        (1, &["sorter".to_string()][..], 2 << 20)
    );
    assert!(predict("listen = \"127.0.0.1:8080\"").is_ok() && predict("listen = \"[::1]:8080\"").is_ok());
    for (text, told) in [
        ("listen = \"0.0.0.0:8080\"", "device.toml:2:10: predict.listen: other machines reach this address"),
        ("listen = \"0.0.0.0:8080\"\nkeys = []", "other machines reach this address"),
        ("listen = \"localhost\"", "\"localhost\", expected an address and a port"),
        ("listen = \"127.0.0.1:1\"\nkeys = [\"a key\"]", "predict: keys: expected sha256: and 64 hexadecimal digits"),
        // It was told that it needs keys as well.
        ("listen = \"0.0.0.0:1\"\nkeys = [\"a key\"]", "predict: keys: expected sha256: and 64 hexadecimal digits"),
        ("listen = \"127.0.0.1:1\"\nhost = [\"a\"]", "did you mean \"hosts\"?"),
        // It was told as "" first.
        ("listen = 8000", "predict.listen: found integer, expected text"),
        // No client ever sends these.
        ("listen = \"127.0.0.1:1\"\nhosts = [\"http://sorter\"]", "hosts: \"http://sorter\", expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"sorter:8000\"]", "hosts: \"sorter:8000\", expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"*\"]", "expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"\"]", "expected a name alone"),
    ] {
        let problems = predict(text).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(told), "{text}: {problems:?}");
    }
    let open = "[metrics]\nlisten = \"192.168.1.2:9464\"\n";
    assert!(parse(open).unwrap_err()[0].contains("metrics.listen: other machines"), "{:?}", parse(open));
    let same = "[predict]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n";
    assert!(parse(same).unwrap_err()[0].contains("device.toml:4:10: metrics.listen: 127.0.0.1:1, where [predict] listens"));
    // `check` was content with these, and the run could not start.
    let both = |predict: &str, modbus: &str| {
        let keys = format!("keys = [\"{hash}\"]");
        parse(&format!("[predict]\nlisten = \"{predict}\"\n{keys}\n[modbus]\nlisten = \"{modbus}\"\n")).is_ok()
    };
    for (predict, modbus, fits) in [
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("127.0.0.1:1", "0.0.0.0:1", false),
        ("[::]:1", "127.0.0.1:1", false),
        ("[::]:1", "[::1]:1", false),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", false),
        ("0.0.0.0:1", "[::1]:1", true),
        ("127.0.0.2:1", "127.0.0.1:1", true),
        ("0.0.0.0:1", "127.0.0.1:2", true),
        ("0.0.0.0:0", "0.0.0.0:0", true),
    ] {
        assert_eq!(both(predict, modbus), fits, "{predict} {modbus}");
    }
    assert!(parse("[state]\nfolder = \"\"\n").unwrap_err()[0].contains("state.folder: the path is empty"));
    let modbus =
        |text: &str| parse(&format!("[modbus]\nlisten = \"0.0.0.0:1502\"\n{text}\n")).map(|s| s.site.modbus.unwrap());
    assert_eq!(modbus("allow = [\"10.0.0.2\"]").unwrap().writers, [] as [std::net::IpAddr; 0], "write is off");
    assert_eq!(modbus("write = \"yes\"\nallow = [\"10.0.0.2\", \"::1\"]").unwrap().writers.len(), 2);
    assert!(modbus("write = \"yes\"").unwrap_err()[0].contains("nobody may; state allow"));
    assert!(modbus("allow = [\"plc:502\"]").unwrap_err()[0].contains("\"plc:502\", expected the address of a peer"));
    assert!(modbus("allow = [\"0.0.0.0\"]").unwrap_err()[0].contains("\"0.0.0.0\" is no peer's address"));
    let gate =
        "[line]\nmode = \"gate\"\n[outputs.a]\ndelay_ms = 9\non = [\"reject\"]\n[predict]\nlisten = \"127.0.0.1:1\"\n";
    assert!(parse(gate).unwrap_err()[0].contains("state in_gate_mode = \"yes\""));
    assert!(parse(&format!("{gate}in_gate_mode = \"yes\"\n")).unwrap().site.predict.is_some());
}
