//! Keys, signatures and self-tests as their users make them, with Debian's `minisign` where it is
//! installed.

mod support;

use std::path::Path;
use std::process::Command;
use support::{folder, refused, run};
use tagpin::bundle::Bundle;
use tagpin::installed::{Keys, Seen, SignatureError};

const PARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/parts.tagpin");

/// Whether Debian's program takes these arguments and ends well; `None` where there is none.
fn minisign(args: &[&str], at: &Path) -> Option<bool> {
    match Command::new("minisign").args(args).current_dir(at).output() {
        Ok(out) => Some(out.status.success()),
        Err(e) => {
            eprintln!("skipped: minisign: {e}");
            None
        }
    }
}

#[test]
fn a_signature_of_ours_is_debians_and_debians_is_ours() {
    let at = folder("sign");
    std::fs::copy(PARTS, at.join("parts.tagpin")).unwrap();
    let keys = |name: &str| {
        let folder = at.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    run(&["bundle", "keygen", "ours", "--no-password"], &at);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at.join("ours.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "who may read a secret key");
    assert!(refused(&["bundle", "keygen", "ours", "--no-password"], &at).contains("ours.key exists"));
    for (key, version, why) in [
        ("ours.pub", "7", "ours.pub: this is a public key"),
        ("ours.key", "0", "is not in 1..1000000000000000"),
        ("ours.key", "18446744073709551615", "is not in 1..1000000000000000"),
    ] {
        let text = refused(&["bundle", "sign", "parts.tagpin", "--key", key, "--version", version], &at);
        assert!(text.contains(why) && !at.join("parts.tagpin.minisig").exists(), "{text}");
    }
    let text = run(&["bundle", "sign", "parts.tagpin", "--key", "ours.key", "--version", "7"], &at);
    assert!(text.contains("tagpin model=parts version=7") && text.contains("has no self-test"), "{text}");
    std::fs::copy(at.join("ours.pub"), keys("trusted").join("ours.pub")).unwrap();
    let seen = Seen::read(&at.join("parts.tagpin"), &Keys::open(&at.join("trusted")).unwrap()).unwrap();
    let signed = seen.signed.unwrap();
    assert_eq!((signed.key.as_deref(), signed.version), (Some("ours.pub"), 7));
    let verify = ["-V", "-p", "ours.pub", "-m", "parts.tagpin"];
    let Some(accepted) = minisign(&verify, &at) else { return };
    assert!(accepted, "Debian's minisign refuses our signature");

    // Without a password, for which their program asks in a terminal.
    assert_eq!(minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs.key"], &at), Some(true));
    let sign = ["-S", "-s", "theirs.key", "-m", "parts.tagpin", "-t", "tagpin model=parts version=8"];
    assert_eq!(minisign(&sign, &at), Some(true));
    let untrusted = Seen::read(&at.join("parts.tagpin"), &Keys::open(&at.join("trusted")).unwrap()).unwrap_err();
    assert!(untrusted.to_string().contains("signed by a key that is not installed"), "{untrusted}");
    std::fs::copy(at.join("theirs.pub"), at.join("trusted/theirs.pub")).unwrap();
    let seen = Seen::read(&at.join("parts.tagpin"), &Keys::open(&at.join("trusted")).unwrap()).unwrap();
    let signed = seen.signed.unwrap();
    assert_eq!((signed.key.as_deref(), signed.version), (Some("theirs.pub"), 8));
    // The old kind of signature covers the bytes themselves, and is not taken.
    assert_eq!(minisign(&[&sign[..], &["-l"]].concat(), &at), Some(true));
    let legacy = Keys::open(&at.join("trusted")).unwrap();
    let bytes = std::fs::read(at.join("parts.tagpin")).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let found = legacy.check(&at.join("parts.tagpin"), &bytes, &bundle.contract);
    assert!(matches!(found, Err(SignatureError::Malformed { .. })), "{found:?}");
}

#[test]
fn a_self_test_is_given_to_an_older_bundle_and_changes_nothing_else() {
    let at = folder("self-test");
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data");
    run(&["bundle", "self-test", PARTS, "--out", "drawn.tagpin"], &at);
    run(&["bundle", "self-test", PARTS, "--images", images, "--out", "given.tagpin"], &at);
    assert!(refused(&["bundle", "self-test", PARTS, "--out", "drawn.tagpin"], &at).contains("drawn.tagpin"));
    let before = std::fs::read(PARTS).unwrap();
    let before = Bundle::read(&before).unwrap();
    let count = 3;
    for file in ["drawn.tagpin", "given.tagpin"] {
        let bytes = std::fs::read(at.join(file)).unwrap();
        let bundle = Bundle::read(&bytes).unwrap();
        assert_eq!((&bundle.contract, bundle.graph), (&before.contract, before.graph));
        assert_eq!(bundle.self_test.unwrap().cases().count(), count, "{file}");
        let tested = tagpin::engine::Engine::from_bundle(&bundle).unwrap().self_test(&bundle).unwrap();
        assert_eq!((tested.images, tested.tolerance), (count, 0), "{file}");
        let others = |b: &Bundle<'_>| b.sections().filter(|e| e.id.0 != 6).map(|e| *e.sha256).collect::<Vec<_>>();
        assert_eq!(others(&bundle), others(&before), "{file}");
    }
}
