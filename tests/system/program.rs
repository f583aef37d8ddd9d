//! Starts the real binary and reads what it prints.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The shipped model.
pub const PARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/parts.tagpin");

/// Whether the tests run for another CPU than the machine's, under qemu-user.
pub fn emulated() -> bool {
    let machine = std::fs::read_to_string("/proc/sys/kernel/arch").unwrap_or_default();
    !machine.trim().is_empty() && !machine.trim().starts_with(std::env::consts::ARCH)
}

/// A conveyor as fast as this machine can draw and classify it; parts must be seen near the
/// barrier.
pub fn fast_conveyor(seed: u64) -> String {
    format!("conveyor?seed={seed}&speed={}", if emulated() { 300 } else { 800 })
}

/// The binary, under the emulator that Cargo runs this target's tests with, if the machine needs
/// one.
pub fn tagpin(args: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_tagpin");
    let (variable, default) = match std::env::consts::ARCH {
        "arm" => ("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER", "qemu-arm -L /usr/arm-linux-gnueabihf"),
        _ => ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64 -L /usr/aarch64-linux-gnu"),
    };
    let mut command = if emulated() {
        let line = std::env::var(variable).unwrap_or(default.into());
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a runner has a name"));
        command.args(words).arg(binary);
        command
    } else {
        Command::new(binary)
    };
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// Runs to the end; a test must not hang.
pub fn finish(mut command: Command) -> Output {
    wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts"), Duration::from_secs(120))
}

/// Waits for a child, reading both pipes.
pub fn wait(mut child: Child, patience: Duration) -> Output {
    use std::io::Read;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(child.stdout.take().map(|p| Box::new(p) as _));
    let err = read(child.stderr.take().map(|p| Box::new(p) as _));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if begin.elapsed() > patience {
            let _ = child.kill();
            panic!("the program did not end in {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().expect("read"), stderr: err.join().expect("read") }
}

/// JSON lines of standard output.
pub fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Events of one kind.
pub fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|e| e["event"] == kind).collect()
}

/// The last event, which must be the summary.
pub fn summary(events: &[Value]) -> &Value {
    let last = events.last().expect("a run prints events");
    assert_eq!(last["event"], "summary", "{last}");
    last
}

/// The last state that the timeline shows for a line; its safe state if it never moved.
pub fn final_state(events: &[Value], line: &str) -> String {
    let edge = events.iter().rev().find(|e| e["event"] == "edge" && e["line"] == line);
    edge.map_or("unmoved".into(), |e| e["state"].as_str().expect("a state").to_string())
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder of this test's own.
pub fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the target folder can be written");
    path
}

/// A settings file in a folder of its own; returns its path.
pub fn settings(name: &str, text: &str) -> String {
    let path = folder(name).join("device.toml");
    std::fs::write(&path, text).expect("the target folder can be written");
    path.display().to_string()
}

/// Writes a program that a test starts. A child process writes it: while this process had the file
/// open for writing, another test could start a child that inherits it, and the kernel starts no
/// program that somebody has open for writing.
pub fn script(path: &Path, text: &str) {
    let mut child = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("the shell reads");
    assert!(child.wait().expect("the shell ends").success(), "{} cannot be written", path.display());
}

/// The seed and number of cases that the environment states, else 1 and `default_cases`.
pub fn drawn_cases(default_cases: u64) -> (u64, u64) {
    let number = |key: &str, default| std::env::var(key).map_or(default, |text| text.parse().unwrap());
    let (seed, cases) = (number("TAGPIN_TEST_SEED", 1), number("TAGPIN_TEST_CASES", default_cases));
    println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={cases}");
    (seed, cases)
}
