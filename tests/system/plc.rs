//! Parts that a PLC triggers over Modbus, through the binary: the same path as a word's, and
//! nothing that a client does wrong moves an output.

use crate::program::*;
use crate::words::{Line, gate, sorted};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tagpin::random::Random;

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A trigger of this kind with its table; `allow`: who may write.
fn modbus(port: u16, jitter: &str, allow: &str) -> String {
    format!(
        "kind = \"modbus\"\n{jitter}\n[modbus]\nlisten = \"127.0.0.1:{port}\"\nwrite = \"yes\"\nresults = 64\n\
         allow = [\"{allow}\"]\n"
    )
}

/// The simplest client: one request, one answer.
pub struct Plc(TcpStream);

impl Plc {
    pub fn connect(port: u16) -> Self {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => return Self(stream),
                Err(e) => assert!(Instant::now() < end, "nothing listens: {e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send(&mut self, request: &[u8]) {
        self.0.write_all(&[&[0, 1, 0, 0, 0, request.len() as u8 + 1, 1], request].concat()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let mut reply = vec![0; u16::from_be_bytes([head[4], head[5]]) as usize - 1];
        self.0.read_exact(&mut reply).unwrap();
        reply
    }

    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        self.receive()
    }

    /// One holding register.
    pub fn register(&mut self, at: u8) -> u16 {
        let reply = self.ask(&[3, 0, at, 0, 1]);
        assert_eq!(reply[..2], [3, 2]);
        u16::from_be_bytes([reply[2], reply[3]])
    }

    pub fn write_register(&mut self, at: u8, to: u8) -> Vec<u8> {
        self.ask(&[6, 0, at, 0, to])
    }

    pub fn coil(&mut self, coil: u8, to: bool) -> Vec<u8> {
        self.ask(&[5, 0, coil, if to { 0xff } else { 0 }, 0])
    }

    /// The same; `None` where the connection has ended.
    pub fn try_coil(&mut self, coil: u8, to: bool) -> Option<Vec<u8>> {
        let request = [5, 0, coil, if to { 0xff } else { 0 }, 0];
        self.0.write_all(&[&[0, 1, 0, 0, 0, 6, 1], &request[..]].concat()).ok()?;
        let mut head = [0; 7];
        self.0.read_exact(&mut head).ok()?;
        let mut reply = vec![0; u16::from_be_bytes([head[4], head[5]]) as usize - 1];
        self.0.read_exact(&mut reply).ok()?;
        Some(reply)
    }

    /// A part's trigger; the moments between which it arrived.
    fn trigger(&mut self) -> [Instant; 2] {
        let sent = Instant::now();
        assert_eq!(self.coil(3, true), [5, 0, 3, 0xff, 0]);
        let answered = Instant::now();
        assert_eq!(self.coil(3, false), [5, 0, 3, 0, 0]);
        [sent, answered]
    }

    /// The next result by the map's handshake: part and verdict.
    fn result(&mut self) -> (u64, u16) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.ask(&[2, 0, 1, 0, 1]) != [2, 1, 1] {
            assert!(Instant::now() < end, "no result comes");
            std::thread::sleep(Duration::from_millis(5));
        }
        let block = self.ask(&[4, 0, 48, 0, 16]);
        let words: Vec<u16> = block[2..].chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
        assert_eq!(words[0], words[15], "torn");
        self.coil(0, true);
        self.coil(0, false);
        ((words[1] as u64) << 16 | words[2] as u64, words[3])
    }
}

/// Clients that send noise, half of a request, or nothing, each over a connection of its own.
fn misbehave(port: u16, random: &mut Random) -> Vec<TcpStream> {
    let one = |i: u64| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let bytes: Vec<u8> = match i % 3 {
            0 => (0..random.range(1, 400)).map(|_| random.next() as u8).collect(),
            // The trigger but for its last byte.
            1 => vec![0, 1, 0, 0, 0, 6, 1, 5, 0, 3, 0xff],
            _ => Vec::new(),
        };
        let _ = stream.write_all(&bytes);
        stream
    };
    (0..9).map(one).collect()
}

fn verdict(part: &Value) -> u16 {
    let all = ["present", "review", "unknown", "foreign", "safe"];
    all.iter().position(|v| part["verdict"] == *v).unwrap() as u16 + 1
}

#[test]
fn each_part_that_a_plc_triggers_is_stamped_at_arrival_sorted_and_read_once_whoever_misbehaves() {
    let seed = std::env::var("TAGPIN_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(11);
    let mut random = Random::new(seed, 0);
    let port = free_port();
    let line = Line::start("plc", &modbus(port, "max_jitter_ms = 5000", "127.0.0.1"), &[]);
    let mut plc = Plc::connect(port);
    plc.coil(1, true);
    let mut arrived = Vec::new();
    let mut others = Vec::new();
    for i in 0..16 {
        if i == 8 {
            others = misbehave(port, &mut random);
        }
        arrived.push(plc.trigger());
        // Longer than a pulse, so that each has edges of its own.
        std::thread::sleep(Duration::from_millis(random.range(40, 120) as u64));
    }
    let read: Vec<(u64, u16)> = arrived.iter().map(|_| plc.result()).collect();
    assert_eq!(plc.ask(&[2, 0, 1, 0, 1]), [2, 1, 0], "and no other");
    drop(others);
    // A part is decided before it is at its gate.
    std::thread::sleep(Duration::from_millis(700));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, sorted(&all), summary(&all)["triggers"].as_u64()), (Some(0), 16, Some(16)), "{err}");
    let parts = of(&all, "part");
    let told: Vec<(u64, u16)> = parts.iter().map(|p| (p["part"].as_u64().unwrap(), verdict(p))).collect();
    assert_eq!((read, told.len()), (told.clone(), 16), "seed {seed}");
    // One that was decided early is told before another.
    let part = |i: usize| parts.iter().find(|p| p["part"] == i + 1).unwrap();
    let trigger = |i: usize| part(i)["trigger"].as_u64().unwrap();
    for edge in of(&all, "edge").iter().filter(|e| e["line"] == "any" && e["state"] == "active") {
        let part = edge["part"].as_u64().unwrap() as usize - 1;
        assert_eq!(edge["scheduled"].as_u64().unwrap(), trigger(part) + 300_000);
    }
    // Each was stamped between its sending and its answer: so are the distances of two.
    for (i, j) in (0..16).flat_map(|i| (i + 1..16).map(move |j| (i, j))) {
        let apart = trigger(j) - trigger(i);
        let [least, most] = [arrived[j][0] - arrived[i][1], arrived[j][1] - arrived[i][0]].map(|d| d.as_micros() as u64);
        assert!((least.saturating_sub(1)..=most + 1).contains(&apart), "parts {i} and {j}: {apart} us, {least}..{most}");
    }
    // Frames count only if they were exposed behind the trigger.
    for part in &parts {
        let images = part["images"].as_array().unwrap();
        assert!(images.iter().all(|i| i["captured_at"].as_u64() > part["trigger"].as_u64()), "{part}");
    }
}

#[test]
fn a_repeated_trigger_and_a_lost_connection_are_told_and_counted_and_the_next_part_comes() {
    let port = free_port();
    let line = Line::start("plc-odd", &modbus(port, "max_jitter_ms = 5000", "127.0.0.1"), &[]);
    let mut plc = Plc::connect(port);
    let pause = || std::thread::sleep(Duration::from_millis(80));
    plc.coil(3, true);
    for _ in 0..3 {
        // As a coil, and within a write of several.
        plc.coil(3, true);
        assert_eq!(plc.ask(&[15, 0, 0, 0, 4, 1, 0b1000]), [15, 0, 0, 0, 4]);
    }
    pause();
    // Gone with the coil set: whoever comes back begins anew.
    drop(plc);
    pause();
    let mut plc = Plc::connect(port);
    assert_eq!(plc.ask(&[1, 0, 0, 0, 4]), [1, 1, 0]);
    assert_eq!(plc.ask(&[15, 0, 0, 0, 4, 1, 0b1000]), [15, 0, 0, 0, 4]);
    std::thread::sleep(Duration::from_millis(1500));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!((code, sorted(&all), s["parts"].as_u64()), (Some(0), 2, Some(2)), "{err}");
    assert_eq!(s["passed_over"], 7, "six repeated, one connection lost: {s}");
    assert!(err.contains("Trigger was written 1 while it was 1"), "{err}");
    assert!(err.contains("the PLC that wrote Trigger has disconnected"), "{err}");
}

/// A PLC that lost its cable came back on a second connection; when the first one timed out, the
/// trigger that the second held fell, and one part was two.
#[test]
fn a_connection_that_ends_does_not_let_go_of_a_trigger_that_another_one_holds() {
    let port = free_port();
    let line = Line::start("plc-two", &modbus(port, "max_jitter_ms = 5000", "127.0.0.1"), &[]);
    let pause = || std::thread::sleep(Duration::from_millis(80));
    let mut lost = Plc::connect(port);
    lost.coil(3, true);
    let mut plc = Plc::connect(port);
    plc.coil(3, true);
    drop(lost);
    pause();
    assert_eq!(plc.ask(&[1, 0, 0, 0, 4]), [1, 1, 0b1000], "it holds the trigger");
    plc.coil(3, true);
    pause();
    // The next part is one all the same.
    plc.coil(3, false);
    plc.coil(3, true);
    std::thread::sleep(Duration::from_millis(1500));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!((code, s["parts"].as_u64(), s["passed_over"].as_u64()), (Some(0), Some(2), Some(3)), "{err}");
}

#[test]
fn a_peer_that_is_not_allowed_triggers_nothing_and_its_writes_are_told_and_counted() {
    let port = free_port();
    let line = Line::start("plc-stranger", &modbus(port, "max_jitter_ms = 5000", "10.9.8.7"), &[]);
    // Places are kept for the PLC that may write: strangers get no more than twelve.
    let mut strangers: Vec<Plc> = (0..14).map(|_| Plc::connect(port)).collect();
    std::thread::sleep(Duration::from_millis(200));
    let answers = |plc: &mut Plc| {
        let sent = plc.0.write_all(&[0, 1, 0, 0, 0, 6, 1, 4, 0, 1, 0, 1]);
        sent.is_ok() && plc.0.read(&mut [0; 64]).is_ok_and(|n| n > 0)
    };
    strangers.retain_mut(answers);
    assert_eq!(strangers.len(), 12);
    let refused: Vec<Vec<u8>> = (0..5).map(|_| strangers[0].coil(3, true)).collect();
    assert!(refused.iter().all(|reply| *reply == [0x85, 1]), "{refused:?}");
    std::thread::sleep(Duration::from_millis(600));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let s = summary(&all);
    assert_eq!((code, sorted(&all), s["triggers"].as_u64(), s["passed_over"].as_u64()), (Some(0), 0, Some(0), Some(5)));
    assert!(err.contains("a Modbus write by a peer that may not write"), "{err}");
}

/// A write that waited while the process was stopped would be stamped when it is read: its pulse
/// would hit another part.
#[test]
fn a_write_that_waited_longer_than_the_stated_jitter_is_refused_and_opens_no_part() {
    if emulated() {
        eprintln!("skipped: a stopped emulator is not a stopped program");
        return;
    }
    let port = free_port();
    let line = Line::start("plc-jitter", &modbus(port, "max_jitter_ms = 200", "127.0.0.1"), &[]);
    let mut plc = Plc::connect(port);
    plc.trigger();
    std::thread::sleep(Duration::from_millis(700));
    line.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    plc.send(&[5, 0, 3, 0xff, 0]);
    std::thread::sleep(Duration::from_millis(900));
    line.signal(Signal::CONT);
    assert_eq!(plc.receive(), [0x85, 4]);
    std::thread::sleep(Duration::from_millis(700));
    // The coil is 0 again without the PLC's doing.
    plc.trigger();
    std::thread::sleep(Duration::from_millis(700));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, sorted(&all), summary(&all)["parts"].as_u64()), (Some(0), 2, Some(2)), "{err}");
    assert!(err.contains("1 signals of an input were lost or came too late"), "{err}");
}

/// What `check` prints for these settings, and its exit code.
fn checked(name: &str, text: &str) -> (String, Option<i32>) {
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &settings(name, text), "--allow-drawn"]));
    (String::from_utf8(out.stdout).unwrap(), out.status.code())
}

#[test]
fn a_trigger_over_modbus_needs_its_jitter_and_a_plc_that_may_write() {
    let port = free_port();
    let good = gate(&modbus(port, "max_jitter_ms = 5", "127.0.0.1"));
    let (text, code) = checked("plc-good", &good);
    assert!(code == Some(0) && text.contains("input: coil 3 of [modbus]") && !text.contains("window_ms"), "{text}");
    // A pulse of 10 ms may be that late: a part may be farther from its moment.
    let (text, code) = checked("plc-wide", &good.replace("max_jitter_ms = 5", "max_jitter_ms = 11"));
    assert!(code == Some(0) && text.contains("trigger.max_jitter_ms is 11, more than the 10 ms"), "{text}");
    let nobody = "\"modbus\", but no PLC may write: state [modbus] listen, write = \"yes\" and allow";
    let pin = "backend = \"rppal\"\npin = 3\nwidth_ms";
    for (name, bad, why) in [
        ("plc-no-jitter", good.replace("max_jitter_ms = 5", ""), "[trigger] max_jitter_ms is missing"),
        ("plc-no-write", good.replace("write = \"yes\"", "write = \"no\""), nobody),
        ("plc-no-modbus", gate("kind = \"modbus\"\nmax_jitter_ms = 5"), nobody),
    ] {
        let (text, code) = checked(name, &bad);
        assert!(code == Some(1) && text.contains(why), "{name}: {text}");
        let file = settings(name, &bad.replace("width_ms", pin));
        let run = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--allow-drawn", "--parts", "1"]));
        assert!(run.status.code() == Some(2) && stderr(&run).contains(why), "{name}: {}", stderr(&run));
    }
}
