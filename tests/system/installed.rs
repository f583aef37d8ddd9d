//! Signed bundles: installed, rolled back, refused in words with the current one undisturbed, and
//! taken over by a line that runs, between two triggers.

use crate::program::*;
use minisign::KeyPair;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tagpin::bundle::{Bundle, Contract, Section, write};
use tagpin::decide::{Role, TagRule};
use tagpin::engine::Engine;
use tagpin::head::Score;
use tagpin::installed::{Comment, beside};

/// A device with one key, and the folder of a line.
pub struct Device {
    pub folder: PathBuf,
    pub pair: KeyPair,
}

impl Device {
    pub fn new(name: &str) -> Self {
        let folder = folder(name);
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        std::fs::create_dir(folder.join("keys.d")).unwrap();
        std::fs::write(folder.join("keys.d/site.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
        Self { folder, pair }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a bundle file, signed by this device's key.
    pub fn signed(&self, name: &str, bytes: &[u8], version: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        sign(&path, &self.pair, &Comment { model: "parts".into(), version }.to_string());
        path
    }

    /// `tagpin bundle COMMAND ...` with this device's keys.
    pub fn bundle(&self, args: &[&str]) -> Output {
        let keys = self.path("keys.d").display().to_string();
        finish(tagpin(&[&["bundle"], args, &["--keys", &keys, "--json", "--no-line"]].concat()))
    }

    /// Installs into the line's folder, with more arguments.
    pub fn install(&self, bundle: &Path, more: &[&str]) -> Output {
        let line = self.path("line");
        let args = ["install", bundle.to_str().unwrap(), "--into", line.to_str().unwrap()];
        self.bundle(&[&args, more].concat())
    }

    /// What is in the line's folder: its bundles as `status` tells them, and every name.
    pub fn state(&self) -> (Value, Vec<String>) {
        let line = self.path("line");
        let out = self.bundle(&["status", line.to_str().unwrap()]);
        let status = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)));
        let names = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().file_name());
        let all = names(line.clone()).chain(names(line.join("bundles")));
        let mut all: Vec<String> = all.map(|name| name.to_string_lossy().into_owned()).collect();
        all.sort();
        (status, all)
    }

    pub fn current(&self) -> String {
        self.state().0["current"]["sha256"].as_str().unwrap_or("none").to_string()
    }

    /// Runs one part from the line's folder.
    pub fn runs(&self) -> Output {
        let (line, keys) = (self.path("line"), self.path("keys.d"));
        let [line, keys] = [&line, &keys].map(|p| p.to_str().unwrap());
        finish(tagpin(&["run", "--bundle", line, "--keys", keys, "--source", &fast_conveyor(1), "--parts", "1", "--json"]))
    }
}

pub fn sign(path: &Path, pair: &KeyPair, comment: &str) {
    let bytes = std::fs::read(path).unwrap();
    let signature = minisign::sign(None, &pair.sk, bytes.as_slice(), Some(comment), None).unwrap();
    std::fs::write(beside(path), signature.into_string()).unwrap();
}

/// The shipped model with a changed contract, and a self-test of an image whose logits are right.
pub fn bundle_with(edit: impl Fn(&mut Contract<'_>)) -> Vec<u8> {
    with_self_test(edit, |_| ())
}

/// The same with logits as `wrong` leaves them.
pub fn with_self_test(edit: impl Fn(&mut Contract<'_>), wrong: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let file = std::fs::read(PARTS).unwrap();
    let bundle = Bundle::read(&file).unwrap();
    let mut contract = bundle.contract.clone();
    edit(&mut contract);
    let image: Vec<u8> =
        (0..contract.input.width as usize * contract.input.height as usize * 3).map(|i| (i * 31 % 256) as u8).collect();
    let mut engine = Engine::from_bundle(&bundle).unwrap();
    let mut section = engine.self_test_section(&contract, &[image]).unwrap();
    wrong(&mut section);
    let distance = bundle.section(Section::Distance).unwrap();
    write(&contract, bundle.graph, &[(Section::Distance, distance), (Section::SelfTest, &section)]).unwrap()
}

/// A bundle of its own hash, by its temperature.
pub fn numbered(n: u32) -> Vec<u8> {
    bundle_with(|c| c.temperature_q16 += n)
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(out)))
}

#[test]
fn a_signed_bundle_is_installed_run_updated_and_rolled_back() {
    let device = Device::new("installed");
    let (one, two) = (device.signed("one.tagpin", &numbered(1), 1), device.signed("two.tagpin", &numbered(2), 2));
    let out = device.install(&one, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let first = json(&out);
    assert_eq!((&first["version"], &first["key"], &first["self_test_images"]), (&1.into(), &"site.pub".into(), &1.into()));
    assert!(first["previous"].is_null(), "{first}");
    let out = device.runs();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let opened = events(&out);
    assert!(opened.iter().any(|e| e.to_string().contains(first["current"].as_str().unwrap())), "another bundle ran");

    let second = json(&device.install(&two, &[]));
    assert_eq!((&second["previous"], &second["version"]), (&first["current"], &2.into()), "{second}");
    assert_ne!(second["current"], first["current"]);
    // The same again changes nothing.
    let before = device.state();
    assert_eq!(device.install(&two, &[]).status.code(), Some(0));
    assert_eq!(device.state(), before);
    // A third lets the first go.
    let third = device.signed("three.tagpin", &numbered(3), 3);
    assert_eq!(json(&device.install(&third, &[]))["previous"], second["current"]);
    assert!(!device.state().1.iter().any(|name| name.contains(first["current"].as_str().unwrap())));

    let line = device.path("line");
    for expected in [&second["current"], &device.state().0["current"]["sha256"].clone()] {
        let out = device.bundle(&["rollback", line.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        assert_eq!(json(&out)["current"], *expected);
        assert_eq!(device.runs().status.code(), Some(0));
    }
}

/// Each is refused with its reason, by the documented exit code, and nothing in the folder changes.
/// Controls stand at the end: the nearest good bundles are taken.
#[test]
fn what_must_not_run_is_refused_in_words_and_leaves_the_current_bundle_alone() {
    let device = Device::new("refused");
    let line = device.path("line");
    // A mistyped folder was "no previous bundle", and its status "none" and "none".
    for command in ["rollback", "status"] {
        let out = device.bundle(&[command, line.to_str().unwrap()]);
        let is_told = stderr(&out).contains("line: cannot be read: No such file");
        assert!(out.status.code() == Some(2) && is_told && out.stdout.is_empty(), "{command}: {}", stderr(&out));
    }
    assert_eq!(device.install(&device.signed("five.tagpin", &numbered(5), 5), &[]).status.code(), Some(0));
    let out = device.bundle(&["rollback", line.to_str().unwrap()]);
    assert!(out.status.code() == Some(1) && stderr(&out).contains("no previous bundle"), "{}", stderr(&out));

    let good = numbered(6);
    let six = |name: &str| device.signed(name, &good, 6);
    let unsigned = device.path("unsigned.tagpin");
    std::fs::write(&unsigned, &good).unwrap();
    let (foreign, other) = (six("foreign.tagpin"), KeyPair::generate_unencrypted_keypair().unwrap());
    sign(&foreign, &other, "tagpin model=parts version=6");
    let changed = six("changed.tagpin");
    std::fs::write(&changed, numbered(7)).unwrap();
    let swapped = six("swapped.tagpin");
    let text = std::fs::read_to_string(beside(&swapped)).unwrap();
    std::fs::write(beside(&swapped), text.replace("version=6", "version=9")).unwrap();
    let (nameless, model, garbled) = (six("nameless.tagpin"), six("model.tagpin"), six("garbled.tagpin"));
    sign(&nameless, &device.pair, "a new bundle");
    sign(&model, &device.pair, "tagpin model=bottles version=6");
    std::fs::write(beside(&garbled), "no signature\n").unwrap();
    let older = device.signed("older.tagpin", &good, 4);
    let same = device.signed("same.tagpin", &good, 5);
    let short = device.signed("short.tagpin", &good[..good.len() - 1], 6);
    let lying =
        device.signed("lying.tagpin", &with_self_test(|c| c.temperature_q16 += 6, |s| *s.last_mut().unwrap() ^= 1), 6);
    let link = device.path("link.tagpin");
    std::os::unix::fs::symlink(six("linked.tagpin"), &link).unwrap();
    std::fs::copy(beside(&six("linked.tagpin")), beside(&link)).unwrap();
    let pipe = device.path("pipe.tagpin");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let renamed = device.signed("renamed.tagpin", &bundle_with(|c| c.tags[0].name = "screw"), 6);
    let roles = device.signed("roles.tagpin", &bundle_with(|c| c.tags[0].role = Role::Defect), 6);
    let absent = device.path("absent.tagpin");

    let before = device.state();
    let cases: [(&Path, i32, &str); 16] = [
        (&unsigned, 1, "not signed, and"),
        (&foreign, 1, "signed by a key that is not installed (site.pub in"),
        (&changed, 1, "the signature by site.pub is not of these bytes"),
        (&swapped, 1, "the signature by site.pub is not of these bytes"),
        (&nameless, 1, "trusted comment is \"a new bundle\", expected \"tagpin model=NAME version=N\""),
        (&model, 1, "the signature is for model \"bottles\", the bundle is \"parts\""),
        (&garbled, 1, "it is no minisign signature"),
        (&older, 1, "version 4, the installed bundle has version 5"),
        (&same, 1, "version 5, the installed bundle has version 5"),
        (&short, 1, "copy the file again"),
        (&lying, 1, "self-test: image 1 gives tag"),
        (&link, 1, "is a symbolic link; name the file itself"),
        (&pipe, 2, "is a pipe, device or folder"),
        (&renamed, 1, "restart asked for: other tags than"),
        (&roles, 1, "restart asked for: other roles than"),
        (&absent, 2, "cannot be read"),
    ];
    for (path, code, why) in cases {
        let out = device.install(path, &[]);
        assert_eq!(out.status.code(), Some(code), "{}: {}", path.display(), stderr(&out));
        assert!(stderr(&out).contains(why), "{}: {}", path.display(), stderr(&out));
        assert_eq!(device.state(), before, "{}: the folder changed", path.display());
    }
    assert_eq!(device.runs().status.code(), Some(0));
    // A folder of keys that has none was no key at all: whatever lay there was taken for checked.
    let (bundle, none) = (older.display().to_string(), device.path("none").display().to_string());
    std::fs::create_dir(&none).unwrap();
    std::fs::write(device.path("none/site.txt"), device.pair.pk.to_box().unwrap().to_string()).unwrap();
    let out = finish(tagpin(&["bundle", "verify", &bundle, "--keys", &none]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains("holds no NAME.pub"), "{}", stderr(&out));
    assert_eq!(device.bundle(&["verify", &bundle]).status.code(), Some(0));
    // Without its key the very bundle that runs is refused.
    std::fs::write(device.path("keys.d/site.pub"), other.pk.to_box().unwrap().to_string()).unwrap();
    let out = device.runs();
    assert!(out.status.code() == Some(2) && stderr(&out).contains("not installed (site.pub in"), "{}", stderr(&out));
    std::fs::write(device.path("keys.d/site.pub"), device.pair.pk.to_box().unwrap().to_string()).unwrap();
    // Controls.
    let out = device.install(&six("six.tagpin"), &[]);
    assert_eq!((out.status.code(), &json(&out)["version"]), (Some(0), &6.into()), "{}", stderr(&out));
    assert_eq!(device.install(&older, &["--downgrade"]).status.code(), Some(0));
    let out = device.install(&roles, &["--force-restart"]);
    assert_eq!((out.status.code(), &json(&out)["restart"][0]), (Some(0), &"roles".into()), "{}", stderr(&out));
    assert_eq!(device.runs().status.code(), Some(0));
}

/// With the current bundle or its signature damaged nobody knew its version, and any older one was
/// taken. The same bundle mends it, and is shown with the one before it as the way back.
#[test]
fn where_the_current_bundle_is_damaged_no_older_one_slips_in_and_the_same_one_mends_it() {
    let device = Device::new("damaged-current");
    let (five, six) = (device.signed("five.tagpin", &numbered(5), 5), device.signed("six.tagpin", &numbered(6), 6));
    for bundle in [&five, &six] {
        assert_eq!(device.install(bundle, &[]).status.code(), Some(0));
    }
    let hashes = device.state().0;
    let file = device.path("line").join(std::fs::read_link(device.path("line/current")).unwrap());
    for (damaged, is_gone) in [(file.clone(), false), (beside(&file), false), (file.clone(), true), (beside(&file), true)] {
        let whole = std::fs::read(&damaged).unwrap();
        match is_gone {
            true => std::fs::remove_file(&damaged).unwrap(),
            false => std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap(),
        }
        let before = device.state();
        let out = device.install(&five, &[]);
        assert_eq!(out.status.code(), Some(1), "{}", damaged.display());
        assert!(stderr(&out).contains("is not known; install that bundle again"), "{}", stderr(&out));
        assert_eq!(device.state(), before, "{}", damaged.display());
        let out = device.install(&six, &[]);
        assert_eq!(out.status.code(), Some(0), "{}: {}", damaged.display(), stderr(&out));
        let told = json(&out);
        assert_eq!([&told["current"], &told["previous"]], [&hashes["current"]["sha256"], &hashes["previous"]["sha256"]]);
        assert_eq!(std::fs::read(&damaged).unwrap(), whole, "{}", damaged.display());
        assert_eq!(device.runs().status.code(), Some(0));
    }
    // Another one on top of a damaged one: the way back leads to the last that is good.
    std::fs::write(&file, "no bundle\n").unwrap();
    let seven = device.signed("seven.tagpin", &numbered(7), 7);
    let out = device.install(&seven, &["--downgrade"]);
    assert_eq!((out.status.code(), &json(&out)["previous"]), (Some(0), &hashes["previous"]["sha256"]), "{}", stderr(&out));
    let line = device.path("line");
    assert_eq!(device.bundle(&["rollback", line.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(device.current(), hashes["previous"]["sha256"].as_str().unwrap());
}

/// The system's own refusals: the folder, the disk, another install.
#[test]
fn a_folder_that_cannot_be_written_refuses_and_keeps_what_runs() {
    let device = Device::new("unwritable");
    let (one, two) = (device.signed("one.tagpin", &numbered(1), 1), device.signed("two.tagpin", &numbered(2), 2));
    assert_eq!(device.install(&one, &[]).status.code(), Some(0));
    let before = device.state();
    // Root may write into every folder, but makes none below a file or in /proc.
    for folder in [one.join("line"), "/proc/tagpin".into()] {
        let out = device.bundle(&["install", two.to_str().unwrap(), "--into", folder.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        assert!(stderr(&out).contains("cannot be made"), "{}", stderr(&out));
    }
    // A full disk, as a limit of a file's length looks to the program.
    if !emulated() {
        let mut command = std::process::Command::new("sh");
        command.args([
            "-c",
            "trap '' XFSZ; ulimit -f 100; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_tagpin"),
            "bundle",
            "install",
        ]);
        command
            .args(["--no-line"])
            .arg(&two)
            .arg("--into")
            .arg(device.path("line"))
            .arg("--keys")
            .arg(device.path("keys.d"));
        let out = finish(command);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        assert!(stderr(&out).contains("staged.tagpin: cannot be written: "), "{}", stderr(&out));
        assert_eq!(device.state(), before);
    }
    let lock = std::fs::File::open(device.path("line/lock")).unwrap();
    lock.lock().unwrap();
    let out = device.install(&two, &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("another install or rollback is at work there"), "{}", stderr(&out));
    assert_eq!(device.state(), before);
    drop(lock);
    let [a, b] = [&one, &two].map(|bundle| {
        let mut command = tagpin(&["bundle", "install", "--no-line"]);
        command.arg(bundle).arg("--downgrade").arg("--into").arg(device.path("line"));
        command.arg("--keys").arg(device.path("keys.d")).stdout(std::process::Stdio::null()).spawn().unwrap()
    });
    let codes = [a, b].map(|child| wait(child, std::time::Duration::from_secs(60)).status.code());
    assert!(codes.contains(&Some(0)) && codes.iter().all(|c| [Some(0), Some(2)].contains(c)), "{codes:?}");
    assert_eq!(device.runs().status.code(), Some(0));
}

/// Where no key is installed all runs as it always did.
#[test]
fn without_a_key_unsigned_bundles_run_and_install_and_with_one_they_do_neither() {
    let device = Device::new("keyless");
    let (line, none) = (device.path("line"), device.path("none"));
    let [line, none] = [&line, &none].map(|p| p.to_str().unwrap());
    // A name that was mistyped, or a disk that is not there, was no key: unsigned bundles ran.
    let out = finish(tagpin(&["bundle", "install", PARTS, "--into", line, "--keys", none, "--no-line"]));
    assert_eq!((out.status.code(), stderr(&out).contains("none")), (Some(2), true), "{}", stderr(&out));
    std::fs::create_dir(none).unwrap();
    let out = finish(tagpin(&["bundle", "install", PARTS, "--into", line, "--keys", none, "--no-line"]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("signed    no") && text.contains("no self-test"), "{text}");
    let run = |keys: &str, command: &str| {
        let mut command = tagpin(&[command, "--bundle", PARTS, "--keys", keys]);
        command.args(["--settings", "src/settings/demo.toml"]);
        command
    };
    let keys = device.path("keys.d").display().to_string();
    let mut runs = run(none, "run");
    runs.args(["--parts", "1"]);
    assert_eq!(finish(runs).status.code(), Some(0));
    let out = finish(run(&keys, "run"));
    assert!(out.status.code() == Some(2) && stderr(&out).contains("not signed, and"), "{}", stderr(&out));
    let out = finish(run(&keys, "check"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.code() == Some(1) && text.contains("PROBLEM  signature: "), "{text}");
    // A key that cannot be read must not look like no key.
    std::fs::write(device.path("keys.d/broken.pub"), "no key").unwrap();
    let good = device.signed("good.tagpin", &numbered(1), 1);
    let out = device.install(&good, &[]);
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("broken.pub: it is no minisign public key"),
        "{}",
        stderr(&out)
    );
    // The shipped model inside the program needs no signature.
    let out = finish(tagpin(&["run", "--parts", "1", "--keys", &keys, "--source", &fast_conveyor(2)]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
}

#[test]
fn a_bundle_too_slow_for_the_first_gate_is_refused() {
    let device = Device::new("slow");
    let bundle = device.signed("one.tagpin", &numbered(1), 1);
    let gate = |name: &str, line: &str| {
        settings(
            name,
            &format!(
                "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\nframes = 16\n[outputs.gate]\nbackend = \"simulated\"\n{line}\non = [\"reject\"]\n"
            ),
        )
    };
    let far = gate("slow-far", "delay_ms = 60000");
    let near = gate("slow-near", "delay_ms = 1");
    let out = device.install(&bundle, &["--settings", &near]);
    assert!(out.status.code() == Some(1) && stderr(&out).contains("too slow for"), "{}", stderr(&out));
    assert_eq!(device.current(), "none");
    // Outputs that follow the tags have no gate that a part travels to: 0.0 ms were left.
    let lamp = settings("slow-lamp", "[outputs.lamp]\non = [\"accept\"]\n");
    let out = device.install(&bundle, &["--settings", &lamp]);
    assert!(out.status.success() && json(&out)["gate_ms"].is_null(), "{}", stderr(&out));
    let out = device.install(&bundle, &["--settings", &far]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(json(&out)["part_ms"].as_f64().unwrap() > 0.0 && json(&out)["gate_ms"] == 60_000.0, "{}", json(&out));
}

/// A gate 300 ms behind a trigger by word; every part fires its pulse.
pub const GATE: &str = "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"stdin\"\n\
                    max_jitter_ms = 5000\n[decide]\nunknown = \"accept\"\n[outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\n\
                    delay_ms = 300\non = [\"accept\", \"reject\"]\n";

impl Device {
    /// Such a line, with a record of changes where this build has one.
    fn recorded(&self) -> String {
        let state = format!("[state]\nfolder = \"{}\"\n", self.folder.display());
        format!("{GATE}{}", if cfg!(feature = "site") { &state } else { "" })
    }

    /// That record.
    fn records(&self) -> Option<Vec<Value>> {
        #[cfg(feature = "site")]
        return Some(crate::audit::records(&self.path("audit.log")));
        #[cfg(not(feature = "site"))]
        None
    }
}

/// A line that runs from a device's folder, and what it has told so far.
pub struct Running {
    pub child: Child,
    pub stdin: ChildStdin,
    told: Arc<Mutex<Vec<Value>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Running {
    pub fn start(device: &Device, text: &str) -> Self {
        Self::start_with(device, text, &[])
    }

    /// The same with more arguments.
    pub fn start_with(device: &Device, text: &str, more: &[&str]) -> Self {
        // A folder of its own: tests run at the same time.
        let file = settings(&format!("settings-of-{}", device.folder.file_name().unwrap().to_string_lossy()), text);
        let [line, keys] = ["line", "keys.d"].map(|name| device.path(name).display().to_string());
        let mut command = tagpin(&["run", "--json", "--bundle", &line, "--keys", &keys, "--settings", &file]);
        command.args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, stdin) = (Arc::<Mutex<Vec<Value>>>::default(), child.stdin.take().unwrap());
        let into = told.clone();
        let read = move || lines.for_each(|l| into.lock().unwrap().push(serde_json::from_str(&l.unwrap()).unwrap()));
        let running = Self { child, stdin, told, reader: std::thread::spawn(read) };
        running.until("the start", |all| !all.is_empty());
        // Frames must flow first.
        std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 400 }));
        running
    }

    /// Waits until what was told is as `wanted`.
    pub fn until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) {
        let begin = Instant::now();
        while !wanted(&self.told.lock().unwrap()) {
            let told = || self.told.lock().unwrap().iter().rev().take(5).map(ToString::to_string).collect::<Vec<_>>();
            let patience = Duration::from_secs(if emulated() { 300 } else { 60 });
            assert!(begin.elapsed() < patience, "{what}: {:?}", told());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Parts 60 ms apart; in an emulator, where one inference takes three times as long, 400 ms.
    pub fn triggers(&mut self, parts: usize) {
        let spacing = Duration::from_millis(if emulated() { 400 } else { 60 });
        for _ in 0..parts {
            self.stdin.write_all(b"trigger\n").unwrap();
            self.stdin.flush().unwrap();
            std::thread::sleep(spacing);
        }
    }

    /// Parts until this number of updates was told, and some behind them. A trial runs
    /// only where no other thread of the machine wants to.
    pub fn triggers_until_updates(&mut self, updates: usize) {
        let begin = Instant::now();
        while of(&self.told.lock().unwrap(), "update").len() < updates {
            assert!(begin.elapsed() < Duration::from_secs(300), "no update was told");
            self.triggers(1);
        }
        self.triggers(8);
    }

    /// Everything that it told, after every part has had its gate.
    pub fn end(self) -> Vec<Value> {
        self.ended().0
    }

    /// The same, and standard error.
    pub fn ended(self) -> (Vec<Value>, String) {
        std::thread::sleep(Duration::from_millis(1000));
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let out = wait(self.child, Duration::from_secs(60));
        self.reader.join().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        (Arc::try_unwrap(self.told).unwrap().into_inner().unwrap(), stderr(&out))
    }
}

/// A folder of keys that was moved away, or whose disk was not there any more, was a device without
/// keys: a bundle that nobody had signed decided parts.
#[test]
fn a_running_line_whose_keys_are_gone_takes_no_bundle_over() {
    let device = Device::new("keys-gone");
    let one = device.signed("one.tagpin", &numbered(1), 1);
    assert_eq!(device.install(&one, &[]).status.code(), Some(0));
    let mut line = Running::start(&device, GATE);
    std::fs::write(device.path("line/bundles/unsigned.tagpin"), numbered(2)).unwrap();
    std::fs::rename(device.path("keys.d"), device.path("away")).unwrap();
    std::os::unix::fs::symlink("bundles/unsigned.tagpin", device.path("line/new")).unwrap();
    std::fs::rename(device.path("line/new"), device.path("line/current")).unwrap();
    line.triggers_until_updates(1);
    let all = line.end();
    let updates = of(&all, "update");
    assert_eq!((updates.len(), &updates[0]["outcome"]), (1, &Value::from("refused")), "{updates:?}");
    assert_none_lost(&all);
}

/// Each trigger has one end and one pulse. On a busy machine a word may be read so late that its
/// pulse meets the one before, and a pulse may be too late for its window, which is told; and a
/// part that got no frame has its end behind the next one's.
fn assert_none_lost(all: &[Value]) {
    let numbers = |events: Vec<&Value>| events.iter().map(|e| e["part"].as_u64().unwrap()).collect::<Vec<_>>();
    let parts = numbers(of(all, "trigger"));
    assert_eq!(parts, (1..=parts.len() as u64).collect::<Vec<_>>());
    let mut ends = numbers(of(all, "part"));
    ends.sort();
    assert_eq!(ends, parts);
    let pulses = of(all, "edge").into_iter().filter(|e| e["state"] == "active").collect();
    let missed = numbers(of(all, "fault").into_iter().filter(|f| f["kind"] == "missed_edge").collect());
    let pulses = numbers(pulses);
    assert!(pulses.is_sorted_by(|a, b| a < b), "a part has two pulses: {pulses:?}");
    let passed: Vec<u64> = of(all, "trigger").iter().map(|t| t["trigger"].as_u64().unwrap()).collect();
    for part in parts.into_iter().filter(|part| !pulses.contains(part) && !missed.contains(part)) {
        let meets = part > 1 && passed[part as usize - 1] - passed[part as usize - 2] < 20_000;
        assert!(meets, "part {part} has no pulse: {}", summary(all));
    }
    assert_eq!(summary(all)["given_up"], 0);
}

/// Parts that were triggered before the change are the old bundle's, those after it the new one's:
/// its hash, its temperature and its thresholds.
#[test]
fn an_installed_bundle_decides_parts_from_one_trigger_on_and_none_is_lost() {
    let device = Device::new("update-taken");
    assert_eq!(device.install(&device.signed("one.tagpin", &numbered(1), 1), &[]).status.code(), Some(0));
    let old = device.current();
    let mut line = Running::start(&device, &device.recorded());
    line.triggers(8);
    // All eight tags have a score of 0.125 by it, and that is enough.
    let flat = bundle_with(|contract| {
        contract.temperature_q16 = 1000 << 16;
        contract.tags.iter_mut().for_each(|tag| tag.rule = TagRule { threshold: Score(1), review_low: Score(1) });
    });
    assert_eq!(device.install(&device.signed("two.tagpin", &flat, 2), &[]).status.code(), Some(0));
    let new = device.current();
    line.triggers_until_updates(1);
    line.triggers(30);
    let all = line.end();
    assert_none_lost(&all);
    let updates = of(&all, "update");
    assert_eq!(updates.len(), 1, "{updates:?}");
    let update = updates[0];
    assert_eq!((&update["outcome"], &update["why"]), (&"taken_over".into(), &Value::Null));
    assert_eq!((&update["bundle_sha256"], &update["running_sha256"]), (&new.clone().into(), &new.clone().into()));
    // Whoever follows thresholds is told the new ones: of eight tags.
    let rules = of(&all, "rule");
    assert_eq!(rules.len(), 8, "{rules:?}");
    for rule in rules {
        assert_eq!((&rule["threshold"], &rule["old_threshold"]), (&0.0.into(), &0.5.into()), "{rule}");
        assert_eq!(rule["who"], format!("bundle {new}"));
    }
    // The document's example has the same fields.
    let example = include_str!("../../src/events/EVENTS.md").lines().find(|l| l.contains("\"event\":\"update\""));
    let example: Value = serde_json::from_str(example.unwrap()).unwrap();
    let fields = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(update), fields(&example));
    let from = update["from_part"].as_u64().unwrap();
    let parts = of(&all, "part");
    assert!(from > 8 && parts.len() as u64 >= from + 7, "from {from} of {}", parts.len());
    let mut decided = [0; 2];
    for part in &parts {
        let is_new = part["part"].as_u64().unwrap() >= from;
        assert_eq!(part["bundle_sha256"], *if is_new { &new } else { &old }, "{part}");
        let Some(score) = part["score_raw"].as_u64() else { continue };
        assert_eq!(score < 10_000, is_new, "another model's score: {part}");
        assert!(!is_new || part["verdict"] != "unknown", "by other thresholds: {part}");
        decided[is_new as usize] += (part["verdict"] == "present") as u32;
    }
    assert!(decided.iter().all(|n| *n >= 2), "{decided:?} parts that are not foreign");
    let [folder, keys] = ["line", "keys.d"].map(|name| device.path(name).display().to_string());
    let out =
        finish(tagpin(&["check", "--bundle", &folder, "--keys", &keys, "--settings", &settings("update-check", GATE)]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for (link, hash) in [("current", &new), ("previous", &old)] {
        assert!(text.contains(&format!("ok       {link}: parts {hash}")), "{text}");
    }
    // What was told stands in the order of its causes.
    let place = |event: &str, part: u64| all.iter().position(|e| e["event"] == event && e["part"] == part).unwrap();
    let told = all.iter().position(|e| e["event"] == "update").unwrap();
    assert!(place("trigger", from - 1) < told && told < place("trigger", from), "the update stands between two triggers");
    // Recorded with who installed it, in the words in which a start records its bundle.
    let Some(records) = device.records() else { return };
    let what: Vec<&str> = records.iter().map(|r| r["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["bundle", "bundle installed", "bundle"]);
    assert_eq!(records[2]["who"], format!("running line, installed by {}", records[1]["who"].as_str().unwrap()));
    assert_eq!([&records[2]["old"], &records[2]["new"]], [&format!("parts {old}"), &format!("parts {new}")]);
}

/// Lets `current` lead to a file as another program might, past what `install` refuses.
fn lead_to(device: &Device, file: &Path) {
    let (new, line) = (device.path("line/by-hand"), device.path("line"));
    std::os::unix::fs::symlink(file, &new).unwrap();
    std::fs::rename(&new, line.join("current")).unwrap();
}

/// The line goes on with the bundle that it has, says why, and takes the next good one.
#[test]
fn what_a_running_line_must_not_take_is_told_and_the_old_bundle_goes_on() {
    if emulated() {
        eprintln!("skipped: four trials that run only where no other thread wants to, beside a model that is emulated");
        return;
    }
    let device = Device::new("update-refused");
    assert_eq!(device.install(&device.signed("one.tagpin", &numbered(1), 1), &[]).status.code(), Some(0));
    let (old, first) = (device.current(), std::fs::canonicalize(device.path("line/current")).unwrap());
    let mut line = Running::start(&device, &device.recorded());
    let roles = device.signed("roles.tagpin", &bundle_with(|c| c.tags[0].role = Role::Defect), 2);
    assert_eq!(device.install(&roles, &["--force-restart"]).status.code(), Some(0));
    let restart = device.current();
    line.triggers_until_updates(1);
    let lying = with_self_test(|c| c.temperature_q16 += 6, |section| *section.last_mut().unwrap() ^= 1);
    lead_to(&device, &device.signed("lying.tagpin", &lying, 3));
    line.triggers_until_updates(2);
    let damaged = device.path("damaged.tagpin");
    std::fs::write(&damaged, &numbered(5)[1..]).unwrap();
    lead_to(&device, &damaged);
    line.triggers_until_updates(3);
    // Back to what it runs is no update.
    lead_to(&device, &first);
    line.triggers(10);
    assert_eq!(device.install(&device.signed("six.tagpin", &numbered(6), 6), &[]).status.code(), Some(0));
    let new = device.current();
    line.triggers_until_updates(4);
    let all = line.end();
    assert_none_lost(&all);
    let updates = of(&all, "update");
    assert_eq!(updates.len(), 4, "{updates:?}");
    let expected =
        [("restart_needed", "other roles"), ("refused", "self-test: image 1 gives tag"), ("refused", "damaged.tagpin")];
    for (update, (outcome, why)) in updates.iter().zip(expected) {
        assert_eq!((&update["outcome"], &update["running_sha256"]), (&outcome.into(), &old.clone().into()), "{update}");
        assert!(update["why"].as_str().unwrap().contains(why) && update["from_part"].is_null(), "{update}");
    }
    assert_eq!(updates[0]["bundle_sha256"], restart);
    assert_eq!(updates[2]["bundle_sha256"], Value::Null);
    let from = updates[3]["from_part"].as_u64().expect("the good one is taken over");
    for part in of(&all, "part") {
        let of = if part["part"].as_u64().unwrap() >= from { &new } else { &old };
        assert_eq!(part["bundle_sha256"], *of, "{part}");
    }
    // Each is recorded with what the line runs meanwhile.
    let Some(records) = device.records() else { return };
    let of_line = |r: &&Value| r["who"].as_str().unwrap().starts_with("running line, installed by ");
    let by_line: Vec<&Value> = records.iter().filter(of_line).collect();
    let what: Vec<&str> = by_line.iter().map(|r| r["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["bundle needs a restart", "bundle refused", "bundle refused", "bundle"]);
    assert!(by_line[..3].iter().all(|r| r["old"] == old.as_str()), "{by_line:?}");
    assert_eq!([&by_line[3]["old"], &by_line[3]["new"]], [&format!("parts {old}"), &format!("parts {new}")]);
    assert!(by_line[0]["new"].as_str().unwrap().starts_with(&format!("{restart}: other roles")), "{by_line:?}");
    assert!(by_line[2]["new"].as_str().unwrap().contains("damaged.tagpin"), "{by_line:?}");
}

/// With a umask of 077 root's copy could be read by root alone, and the line, which runs as the
/// folder's owner, never started again.
#[test]
fn a_bundle_can_be_read_by_whom_its_folder_lets_in_whatever_the_umask_of_who_installs() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let device = Device::new("umask");
    let bundle = device.signed("one.tagpin", &numbered(1), 1);
    for (name, folder_mode, expected) in [("open", 0o755, 0o644), ("closed", 0o700, 0o600)] {
        let bundles = device.path(name).join("bundles");
        std::fs::create_dir_all(&bundles).unwrap();
        std::fs::set_permissions(&bundles, std::fs::Permissions::from_mode(folder_mode)).unwrap();
        // Fails where the test is not root, who alone can give files away.
        let _ = std::os::unix::fs::chown(&bundles, Some(65534), Some(65534));
        let owner = bundles.metadata().unwrap().uid();
        let mut install = tagpin(&["bundle", "install", "--no-line"]);
        install.arg(&bundle).arg("--into").arg(device.path(name)).arg("--keys").arg(device.path("keys.d"));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(install.get_program()).args(install.get_args());
        let out = finish(command);
        assert!(out.status.success(), "{name}: {}", stderr(&out));
        let files: Vec<_> = std::fs::read_dir(&bundles).unwrap().map(|e| e.unwrap().metadata().unwrap()).collect();
        assert_eq!(files.len(), 2, "{name}: a bundle and its signature");
        for about in files {
            assert_eq!((about.mode() & 0o777, about.uid()), (expected, owner), "{name}");
        }
    }
}
