//! Triggers by word, through the binary: whatever comes in, nothing ends in silence, and the good
//! words still sort.

use crate::program::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

/// A gate 300 ms behind the trigger that every part fires.
pub fn gate(trigger: &str) -> String {
    format!(
        "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[decide]\nunknown = \"accept\"\n\
         [outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 300\non = [\"accept\", \"reject\"]\n"
    )
}

/// A run that is under way; its events are read by a thread.
pub struct Line {
    child: Child,
    stdin: Option<ChildStdin>,
    events: std::thread::JoinHandle<Vec<Value>>,
}

impl Line {
    pub fn start(name: &str, trigger: &str, args: &[&str]) -> Self {
        let file = settings(name, &gate(trigger));
        let mut command = tagpin(&[&["run", "--json", "--bundle", PARTS, "--settings", &file], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("the run starts").unwrap();
        // Frames must flow first.
        std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 400 }));
        let read = move || {
            let rest = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap());
            std::iter::once(serde_json::from_str(&first).unwrap()).chain(rest).collect()
        };
        let stdin = child.stdin.take();
        Self { child, stdin, events: std::thread::spawn(read) }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    pub fn triggers(&mut self, parts: usize) {
        for _ in 0..parts {
            self.write(b"trigger\n");
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Bytes of memory that it holds.
    fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        4096 * text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }

    /// Its exit code, events and standard error.
    pub fn end(self) -> (Option<i32>, Vec<Value>, String) {
        let out = wait(self.child, Duration::from_secs(60));
        drop(self.stdin);
        (out.status.code(), self.events.join().unwrap(), stderr(&out))
    }
}

/// Parts whose gate fired.
pub fn sorted(all: &[Value]) -> usize {
    of(all, "edge").iter().filter(|e| e["line"] == "any" && e["state"] == "active").count()
}

/// A byte that was no text ended the trigger for good, without a word; ten parts come behind it
/// here.
#[test]
fn what_is_no_word_is_told_and_counted_and_the_trigger_goes_on() {
    let mut line = Line::start("words-odd", "kind = \"stdin\"\nmax_jitter_ms = 5000", &[]);
    line.triggers(2);
    line.write(b"\xff\xfe\n");
    line.write(b"TRIGGER\nnonsense\n");
    line.write(&[b"a".repeat(1000), b"\n".to_vec()].concat());
    line.triggers(10);
    std::thread::sleep(Duration::from_millis(1500));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!((code, s["parts"].as_u64(), sorted(&all)), (Some(0), Some(12), 12), "{err}");
    assert_eq!(s["passed_over"], 4, "{s}");
    let told: Vec<&Value> = of(&all, "fault").into_iter().filter(|f| f["kind"] == "input").collect();
    // At most once a second, with how many it stands for.
    assert!((1..=3).contains(&told.len()), "{told:?}");
    assert_eq!(s["faults"]["input"].as_u64(), Some(told.len() as u64));
    assert!(told[0]["why"].as_str().unwrap().contains("no text; expected \"trigger\""), "{}", told[0]);
    assert!(err.contains("passed over at the trigger"), "{err}");
}

/// `< /dev/null`, as a service has it: no part could ever come, and the run went on without a word.
#[test]
fn the_end_of_the_input_is_told_and_ends_with_exit_3_behind_the_last_part() {
    let mut line = Line::start("words-end", "kind = \"stdin\"\nmax_jitter_ms = 5000", &[]);
    line.triggers(10);
    line.write(b"trigger");
    drop(line.stdin.take());
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!((code, s["parts"].as_u64(), sorted(&all)), (Some(3), Some(11), 11), "those on their way are sorted: {err}");
    assert_eq!((s["ended"].as_str(), s["outputs_safe"].as_bool()), (Some("the trigger's input ended"), Some(true)));
    assert_eq!(s["faults"]["trigger"], 1);
    assert!(err.contains("the trigger's input has ended"), "{err}");
    for mode in ["gate", "state"] {
        let text = gate("kind = \"stdin\"\nmax_jitter_ms = 5000").replace("\"gate\"", &format!("\"{mode}\""));
        let text = if mode == "state" { text.replace("delay_ms = 300\n", "") } else { text };
        let file = settings(&format!("words-null-{mode}"), &text);
        let out = finish(tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]));
        assert_eq!(out.status.code(), Some(3), "{mode}: {}", stderr(&out));
        assert!(stderr(&out).contains("the trigger's input has ended"), "{mode}: {}", stderr(&out));
    }
}

/// 300 MB without a line's end were 300 MB of memory.
#[test]
fn a_line_without_an_end_takes_no_memory_and_the_next_word_is_heard() {
    let mut line = Line::start("words-endless", "kind = \"stdin\"\nmax_jitter_ms = 5000", &[]);
    let before = line.memory();
    let block = vec![b'a'; 1 << 20];
    for _ in 0..if emulated() { 4 } else { 64 } {
        line.write(&block);
    }
    let after = line.memory();
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
    line.write(b"\n");
    line.triggers(10);
    std::thread::sleep(Duration::from_millis(800));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, sorted(&all), summary(&all)["passed_over"].as_u64()), (Some(0), 10, Some(1)), "{err}");
}

/// Words that waited while the process was stopped opened parts of the past: their pulses hit
/// others.
#[test]
fn a_word_that_waited_longer_than_the_stated_jitter_opens_no_part() {
    if emulated() {
        eprintln!("skipped: a stopped emulator is not a stopped program");
        return;
    }
    let mut line = Line::start("words-jitter", "kind = \"stdin\"\nmax_jitter_ms = 200", &[]);
    line.triggers(5);
    std::thread::sleep(Duration::from_millis(700));
    line.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    line.write(b"trigger\ntrigger\n");
    std::thread::sleep(Duration::from_millis(900));
    line.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(700));
    line.triggers(10);
    std::thread::sleep(Duration::from_millis(700));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!(code, Some(0), "{err}");
    assert!(s["faults"]["trigger"].as_u64().is_some_and(|n| n >= 1), "{s}");
    assert!(err.contains("2 signals of an input were lost or came too late"), "{err}");
    assert_eq!((s["parts"].as_u64(), sorted(&all)), (Some(15), 15), "before and behind the stall all are sorted: {err}");
}

fn send(path: &Path, word: &[u8]) {
    UnixDatagram::unbound().unwrap().send_to(word, path).unwrap();
}

#[test]
fn a_socket_has_its_mode_and_group_and_odd_datagrams_are_told() {
    let path = folder("words-mode").join("t.sock");
    let trigger = |extra: &str| format!("kind = \"socket\"\nmax_jitter_ms = 5000\npath = \"{}\"\n{extra}", path.display());
    let group = rustix::process::getgid().as_raw();
    for (extra, mode) in [(String::new(), 0o660), (format!("mode = \"622\"\ngroup = {group}\n"), 0o622)] {
        let line = Line::start("words-mode-settings", &trigger(&extra), &["--parts", "10"]);
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode);
        assert_eq!(std::os::unix::fs::MetadataExt::gid(&about), group);
        for odd in [b"\xff".as_slice(), b"trigger\ntrigger\n", &[b' '; 200]] {
            send(&path, odd);
        }
        for _ in 0..10 {
            send(&path, b"trigger");
            std::thread::sleep(Duration::from_millis(60));
        }
        let (code, all, err) = line.end();
        let s = summary(&all);
        assert_eq!((code, sorted(&all), s["passed_over"].as_u64()), (Some(0), 10, Some(3)), "{err}");
    }
    let file = settings("words-group", &gate(&trigger("group = \"no-such-group\"")));
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("/etc/group has no \"no-such-group\""), "{}", stderr(&out));
}

/// The socket's name was removed, and a second run took it while the first went on deaf.
#[test]
fn a_removed_socket_is_made_again_and_no_second_run_takes_it() {
    let folder = folder("words-removed");
    let path = folder.join("t.sock");
    let trigger = format!("kind = \"socket\"\nmax_jitter_ms = 5000\npath = \"{}\"", path.display());
    let line = Line::start("words-removed-first", &trigger, &["--parts", "12"]);
    let second = |name: &str| {
        let file = settings(name, &gate(&trigger));
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains("another process listens there"), "{}", stderr(&out));
    };
    second("words-removed-second");
    send(&path, b"trigger");
    std::fs::remove_file(&path).unwrap();
    second("words-removed-third");
    let end = Instant::now() + Duration::from_secs(20);
    while !path.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    // So far apart that pulses do not meet where the line is told of two at once.
    for _ in 0..11 {
        send(&path, b"trigger");
        std::thread::sleep(Duration::from_millis(150));
    }
    let (code, all, err) = line.end();
    assert_eq!((code, sorted(&all)), (Some(0), 12), "{err}");
    assert!(err.contains("the socket's name was removed; it was made again"), "{err}");
    assert!(!path.exists(), "its name is freed at the end");
    // What a killed run left behind is taken over; a file that is no socket is not.
    let line = Line::start("words-killed", &trigger, &[]);
    line.signal(Signal::KILL);
    line.end();
    assert!(path.exists());
    let line = Line::start("words-restarted", &trigger, &["--parts", "1"]);
    send(&path, b"trigger");
    assert_eq!(line.end().0, Some(0));
    std::fs::write(&path, "precious").unwrap();
    let file = settings("words-file", &gate(&trigger));
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("is no socket; remove it or choose another path"), "{}", stderr(&out));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}
