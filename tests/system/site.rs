//! What a running line shows to other machines, and that it shows nothing unless it is asked to.

use crate::program::*;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A line that runs until it is dropped, and the port that its table `listen` names.
pub struct Line {
    child: Child,
    port: u16,
}

impl Line {
    /// `text`: device.toml, in which PORT stands for a free port.
    pub fn start(name: &str, text: &str) -> Self {
        Self::of(name, text, &fast_conveyor(5))
    }

    /// The same with frames of `source`.
    pub fn of(name: &str, text: &str, source: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = settings(name, &text.replace("PORT", &port.to_string()));
        let mut command = tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--source", source]);
        Self { child: command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), port }
    }

    /// The whole answer to a request, as soon as the line listens.
    pub fn ask(&self, bytes: &[u8]) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < end, "nothing listens: {e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn figures(&self) -> BTreeMap<String, f64> {
        let answer = self.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
        let lines = body.lines().filter(|l| !l.starts_with('#'));
        lines.map(|l| l.rsplit_once(' ').unwrap()).map(|(name, value)| (name.into(), value.parse().unwrap())).collect()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BARRIER: &str = "[trigger]\nkind = \"barrier\"\n[outputs.lamp]\nmode = \"level\"\non = [\"accept\"]\n";

#[test]
fn prometheus_sees_every_part_once_and_the_times_of_each() {
    let line = Line::start("metrics", &format!("{BARRIER}[metrics]\nlisten = \"127.0.0.1:PORT\"\n"));
    let end = Instant::now() + Duration::from_secs(60);
    let sum =
        |f: &BTreeMap<String, f64>, name: &str| f.iter().filter(|(k, _)| k.starts_with(name)).map(|(_, v)| v).sum::<f64>();
    let figures = loop {
        let figures = line.figures();
        // A histogram's sink writes a moment after the counters.
        if sum(&figures, "tagpin_parts_total{") >= 5.0 && figures["tagpin_image_age_seconds_count"] >= 5.0 {
            break figures;
        }
        assert!(Instant::now() < end, "{figures:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let parts = sum(&figures, "tagpin_parts_total{");
    assert!(figures["tagpin_triggers_total"] >= parts);
    assert!(sum(&figures, "tagpin_tag_parts_total{") <= parts);
    assert!(sum(&figures, "tagpin_simulated_parts_total{") >= 5.0, "{figures:?}");
    let stage = |end: &str| figures[&format!("tagpin_stage_duration_seconds_{end}")];
    assert_eq!(stage("bucket{stage=\"total\",le=\"+Inf\"}"), stage("count{stage=\"total\"}"));
    let mean = stage("sum{stage=\"total\"}") / stage("count{stage=\"total\"}");
    assert!(mean > stage("sum{stage=\"infer\"}") / stage("count{stage=\"infer\"}") && mean < 5.0, "{mean}");
    assert!(figures.keys().any(|k| k.starts_with("tagpin_bundle_info{name=\"parts\",sha256=\"")), "{figures:?}");
    // Each later look shows as much or more.
    let later = line.figures();
    let counters = figures.iter().filter(|(k, _)| k.contains("_total") || k.contains("_count") || k.contains("_bucket"));
    for (name, value) in counters {
        assert!(later[name] >= *value, "{name} fell from {value} to {}", later[name]);
    }
    let ask = |head: &str| line.ask(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(ask("GET /metrics HTTP/1.1\r\nHost: rebound.example").starts_with("HTTP/1.1 421"));
    assert!(ask("POST /metrics HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 405"));
    assert!(ask("GET /etc/passwd HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_line_predicts_for_others_what_classify_says() {
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/part.jpg");
    let expected = events(&finish(tagpin(&["classify", PARTS, image, "--json"]))).remove(0);
    let bytes = std::fs::read(image).unwrap();
    let line = Line::start("predict", &format!("{BARRIER}[predict]\nlisten = \"127.0.0.1:PORT\"\n"));
    let head = "POST /classify?top=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = line.ask(&[format!("{head}Content-Length: {}\r\n\r\n", bytes.len()).as_bytes(), &bytes].concat());
    let found: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    for key in ["verdict", "action", "tag", "tags"] {
        assert_eq!(found[key], expected[key], "{key}: {answer}");
    }
}

/// Sends requests of Modbus and gives what comes back, without transaction, length and unit.
fn poll(line: &Line, requests: &[&[u8]]) -> Vec<Vec<u8>> {
    let end = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", line.port)) {
            Ok(stream) => break stream,
            Err(e) => assert!(Instant::now() < end, "nothing listens: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let ask = |(i, request): (usize, &&[u8])| {
        let length = request.len() as u8 + 1;
        stream.write_all(&[&[9, i as u8, 0, 0, 0, length, 7], *request].concat()).unwrap();
        let mut head = [0; 7];
        stream.read_exact(&mut head).unwrap();
        assert_eq!((head[0], head[1], head[6]), (9, i as u8, 7), "another request's answer");
        let mut reply = vec![0; u16::from_be_bytes([head[4], head[5]]) as usize - 1];
        stream.read_exact(&mut reply).unwrap();
        reply
    };
    requests.iter().enumerate().map(ask).collect()
}

#[test]
fn a_plc_reads_parts_and_sets_coils_only_where_it_may() {
    let modbus = "[modbus]\nlisten = \"127.0.0.1:PORT\"\nallow = [\"127.0.0.1\"]\n";
    let reading = Line::start("modbus-reads", &format!("{BARRIER}{modbus}"));
    let writing = Line::start("modbus-writes", &format!("{BARRIER}{modbus}write = \"yes\"\n"));
    let end = Instant::now() + Duration::from_secs(60);
    for line in [&reading, &writing] {
        let result = loop {
            let block = poll(line, &[&[4, 0, 48, 0, 16]]).remove(0);
            let words: Vec<u16> = block[2..].chunks(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
            assert_eq!((block[..2].to_vec(), words[0]), (vec![4, 32], words[15]));
            if words[2] >= 2 {
                break words;
            }
            assert!(Instant::now() < end, "{words:?}");
        };
        // The verdict on a drawn part: present, of a tag that there is.
        assert_eq!(result[3], 1, "{result:?}");
        assert!((1..=8).contains(&result[5]) && result[6] > 20_000, "{result:?}");
        assert_eq!(poll(line, &[&[2, 0, 0, 0, 2]])[0], [2, 1, 0b11], "online, and a result that was not acknowledged");
    }
    assert_eq!(poll(&reading, &[&[5, 0, 1, 0xff, 0], &[1, 0, 0, 0, 3]]), [vec![0x85, 1], vec![1, 1, 0]]);
    assert_eq!(poll(&writing, &[&[5, 0, 1, 0xff, 0], &[1, 0, 0, 0, 3]]), [vec![5, 0, 1, 0xff, 0], vec![1, 1, 0b10]]);
    // What is no Modbus ends that connection only.
    assert_eq!(writing.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "");
    assert_eq!(poll(&writing, &[&[4, 0, 1, 0, 1]])[0], [4, 2, 0, 1]);
}

/// Sockets of a process that listen, by /proc: their inodes in its descriptors and in the system's
/// table.
fn listening(pid: u32) -> usize {
    let table =
        ["tcp", "tcp6"].map(|t| std::fs::read_to_string(format!("/proc/{pid}/net/{t}")).unwrap_or_default()).concat();
    let fields = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let inodes: Vec<String> = fields.filter(|f| f.get(3) == Some(&"0A")).map(|f| format!("socket:[{}]", f[9])).collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = open.filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
    links.filter(|l| inodes.iter().any(|i| l.as_os_str() == i.as_str())).count()
}

#[test]
fn a_run_listens_nowhere_unless_it_is_asked_to() {
    let asked = Line::start("listens", &format!("{BARRIER}[metrics]\nlisten = \"127.0.0.1:PORT\"\n"));
    asked.figures();
    let silent = Line::start("silent", BARRIER);
    std::thread::sleep(Duration::from_millis(300));
    if !emulated() {
        assert_eq!((listening(asked.child.id()), listening(silent.child.id())), (1, 0));
    }
    // A port that is taken is told with every other problem, before anything runs.
    let file = settings("taken", &format!("{BARRIER}[metrics]\nlisten = \"127.0.0.1:{}\"\n", asked.port));
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "1"]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains("[metrics] listen: 127.0.0.1:"), "{}", stderr(&out));
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains(&format!("ok       metrics: 127.0.0.1:{}, no key needed; in use now", asked.port)), "{text}");
    // An address that this machine has not.
    let file = settings("elsewhere", &format!("{BARRIER}[modbus]\nlisten = \"192.0.2.1:1502\"\n"));
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("PROBLEM  modbus: 192.0.2.1:1502: "), "{text}");
}
