//! The page: what it shows, who may change what, and that nobody who looks at it changes an edge.

use crate::program::*;
use crate::site::Line;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub const KEY: &str = "00112233445566778899aabbccddeeff";

/// device.toml with a page; `state`: its folder.
pub fn device(state: &Path, log: &Path) -> String {
    let key = sha256(KEY);
    format!(
        "[trigger]\nkind = \"barrier\"\n[outputs.lamp]\nmode = \"level\"\non = [\"accept\"]\n[page]\nlisten = \"127.0.0.1:PORT\"\n\
         keys = [\"{key}\"]\n[state]\nfolder = \"{}\"\n[events]\npath = \"{}\"\n",
        state.display(),
        log.display()
    )
}

/// The hash that the program itself prints for nobody's eyes: of a key, as `tagpin key new` writes
/// it.
pub fn sha256(key: &str) -> String {
    tagpin::keys::KeyHash::of(key).to_string()
}

/// A run that ends after `count` parts of `source`, with its events on standard output.
fn parts_of(file: &str, source: &str, count: &str) -> Command {
    tagpin(&["run", "--bundle", PARTS, "--settings", file, "--source", source, "--parts", count, "--json"])
}

pub fn get(line: &Line, path: &str) -> String {
    line.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
}

pub fn post(line: &Line, path: &str, headers: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}");
    line.ask(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

pub fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

/// Waits until the state is as it is wanted.
fn until(line: &Line, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let state = body(&get(line, "/state"));
        if wanted(&state) {
            return state;
        }
        assert!(Instant::now() < end, "{what}: {state}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn parts(state: &Value) -> &Vec<Value> {
    state["parts"].as_array().unwrap()
}

/// Beside a washer and its scores stood "part 10: accept, nut", and the frame of a third part.
#[test]
fn the_last_image_its_scores_and_its_verdict_are_of_one_part() {
    let folder = folder("page-image");
    let line = Line::start("page-image", &device(&folder, &folder.join("log.jsonl")));
    let decided = |s: &Value| parts(s).iter().find(|p| p["part"] == s["image"]["part"]).cloned();
    let mut last = 0;
    for _ in 0..5 {
        let state = until(&line, "a frame whose part is decided", |s| {
            s["image"]["number"].as_u64().is_some_and(|n| n > last) && decided(s).is_some()
        });
        let (image, part) = (&state["image"], decided(&state).unwrap());
        last = image["number"].as_u64().unwrap();
        let scores = image["scores"].as_array().unwrap().iter();
        let best = scores.max_by(|a, b| a[1].as_f64().unwrap().total_cmp(&b[1].as_f64().unwrap())).unwrap();
        assert_eq!(best, &part["top"][0], "{image} beside {part}");
        // A frame that was told of stays there for who asks for its images, whatever came since.
        for path in ["/live.jpg", "/model.jpg"] {
            let answer = get(&line, &format!("{path}?frame={last}"));
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("JFIF"), "{path} of frame {last}");
        }
    }
    assert!(get(&line, "/live.jpg?frame=999999").starts_with("HTTP/1.1 404"));
    assert!(get(&line, "/model.jpg?frame=x").starts_with("HTTP/1.1 400"));
}

#[test]
fn the_page_shows_parts_and_a_threshold_set_with_a_key_holds_from_the_next_trigger_on() {
    let folder = folder("page-state");
    let (state, log) = (folder.join("state"), folder.join("log.jsonl"));
    std::fs::create_dir(&state).unwrap();
    let text = device(&state, &log);
    let line = Line::start("page", &text);
    let first = until(&line, "parts with images", |s| parts(s).len() > 4 && parts(s)[0]["image"] == true);
    // An image of each kind, and the files of the page, all under one policy.
    let number = parts(&first)[0]["part"].as_u64().unwrap();
    for path in ["/live.jpg", "/model.jpg", &format!("/part.jpg?part={number}")] {
        let answer = get(&line, path);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("image/jpeg") && answer.contains("JFIF"), "{path}");
    }
    for path in ["/", "/page.js", "/page.css", "/state"] {
        let answer = get(&line, path);
        assert!(answer.contains("Content-Security-Policy: default-src 'none'; script-src 'self'"), "{path}: {answer}");
    }
    assert!(get(&line, "/part.jpg?part=999999").starts_with("HTTP/1.1 404"));
    assert_eq!(first["image"]["frame_size"], json!([320, 240]));
    // Every image votes for this defect then. What the line does is as before.
    let strict = json!({ "tags": [{ "tag": "gear_chipped", "threshold": 0.0, "review_low": 0.0 }] });
    let what_if = body(&post(&line, "/what-if", "Content-Type: application/json\r\n", &strict));
    assert_eq!(what_if["then"], json!([0, what_if["parts"], 0]), "{what_if}");
    assert!(what_if["now"][0].as_u64().unwrap() > 0, "{what_if}");
    let json = "Content-Type: application/json\r\n";
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let refused = [
        (json.to_string(), "HTTP/1.1 401"),
        (format!("{json}Authorization: Bearer {}\r\n", sha256(KEY)), "HTTP/1.1 401"),
        (key.clone(), "HTTP/1.1 415"),
        (format!("{json}{key}Origin: http://evil.example\r\n"), "HTTP/1.1 403"),
        (format!("{json}{key}Sec-Fetch-Site: cross-site\r\n"), "HTTP/1.1 403"),
    ];
    for (headers, status) in refused {
        let answer = post(&line, "/rules", &headers, &strict);
        assert!(answer.starts_with(status), "{headers}{answer}");
    }
    let rebound = b"POST /rules HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(line.ask(rebound).starts_with("HTTP/1.1 421"));
    assert!(line.ask(b"GET /state HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 421"));
    assert!(get(&line, "/..%2f..%2fetc/passwd").starts_with("HTTP/1.1 400"));
    let wrong = json!({ "tags": [{ "tag": "nut", "threshold": 0.5, "review_low": 0.6 }] });
    assert!(
        post(&line, "/rules", &format!("{json}{key}"), &wrong).contains("nut: the review band begins above the threshold")
    );
    // What nobody understands was passed over, and the rest done.
    let nut = json!({ "tag": "nut", "threshold": 0.9, "review_low": 0.8 });
    for odd in [
        json!({ "tags": [nut], "frobnicate": 1 }),
        json!({ "tags": [{ "tag": "nut", "threshold": 0.9, "review_low": 0.8, "unknown": "accept" }] }),
        json!({ "tags": [nut, nut] }),
        json!([[["nut", 0.9, 0.8]]]),
        json!({ "tags": [["nut", 0.9, 0.8]] }),
        json!({ "tags": [{ "tag": "nut", "threshold": 1.0000000001, "review_low": 0.8 }] }),
        json!({ "tags": [{ "tag": "nut", "threshold": null, "review_low": 0.1 }] }),
    ] {
        let answer = post(&line, "/rules", &format!("{json}{key}"), &odd);
        assert!(answer.starts_with("HTTP/1.1 400"), "{odd}: {answer}");
    }
    // A tab that was opened before another recipe was chosen saved its thresholds for that one.
    let rules_of = |key: &str, value: &str| {
        let mut rules_of = first["rules_of"].clone();
        rules_of[key] = json!(value);
        json!({ "tags": [nut], "rules_of": rules_of })
    };
    for odd in [rules_of("run", "another"), rules_of("bundle_sha256", &sha256("another"))] {
        for path in ["/rules", "/what-if"] {
            let answer = post(&line, path, &format!("{json}{key}"), &odd);
            assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("nothing was changed"), "{odd}: {answer}");
        }
    }
    let run = first["run"].as_str().unwrap();
    assert!(get(&line, &format!("/part.jpg?part={number}&run={run}")).starts_with("HTTP/1.1 200"));
    assert!(get(&line, &format!("/part.jpg?part={number}&run=another")).starts_with("HTTP/1.1 404"));
    for odd in [json!({}), json!({ "recipe": 1 }), json!({ "recipe": null, "x": 1 }), json!([null])] {
        let answer = post(&line, "/recipe", &format!("{json}{key}"), &odd);
        assert!(answer.starts_with("HTTP/1.1 409") || answer.starts_with("HTTP/1.1 400"), "{odd}: {answer}");
    }
    let kind = format!("Content-Type: application/jsonx\r\n{key}");
    assert!(post(&line, "/rules", &kind, &json!({ "tags": [nut] })).starts_with("HTTP/1.1 415"));
    let whole = "GET http://evil.example/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(line.ask(whole.as_bytes()).starts_with("HTTP/1.1 421"), "the address that is asked for counts");
    assert!(!state.join("overrides.toml").exists());

    // A key may stand wherever the answer to a wrong one says.
    for same in [format!("authorization: bearer {KEY}\r\n"), format!("Prediction-Key: {KEY}\r\n")] {
        let answer = post(&line, "/rules", &format!("{json}{same}"), &json!({ "tags": [] }));
        assert!(answer.starts_with("HTTP/1.1 200") && body(&answer)["changed"] == 0, "{same}{answer}");
    }
    // Of a tag's two numbers one alone: the other may have been saved by somebody else.
    for (rule, threshold, review_low) in [
        (json!({ "tag": "bolt", "threshold": 0.9 }), 0.9, 0.5),
        (json!({ "tag": "bolt", "review_low": 0.25 }), 0.9, 0.25),
        (json!({ "tag": "bolt", "threshold": 0.5, "review_low": 0.5 }), 0.5, 0.5),
    ] {
        let change = json!({ "tags": [rule], "rules_of": first["rules_of"] });
        let answer = post(&line, "/rules", &format!("{json}{key}"), &change);
        assert!(answer.starts_with("HTTP/1.1 200") && body(&answer)["changed"] == 1, "{answer}");
        let now =
            body(&get(&line, "/state"))["tags"].as_array().unwrap().iter().find(|t| t["tag"] == "bolt").cloned().unwrap();
        assert_eq!((&now["threshold"], &now["review_low"]), (&json!(threshold), &json!(review_low)));
    }
    // Of people who saved for different tags at once one put back what the others had saved.
    let saves = |n: usize| {
        let tags = ["bolt", "nut", "washer", "gear"];
        let (line, headers) = (&line, format!("{json}{key}"));
        let saved = std::thread::scope(|scope| {
            let one = |(i, tag): (usize, &'static str)| {
                let value = (10 * n + i) as f64 / 1000.0;
                let change = json!({ "tags": [{ "tag": tag, "threshold": 0.5 + value, "review_low": 0.25 + value }] });
                let headers = headers.clone();
                scope.spawn(move || (body(&post(line, "/rules", &headers, &change))["changed"] == 1, tag, 0.5 + value))
            };
            let all: Vec<_> = tags.into_iter().enumerate().map(one).collect();
            all.into_iter().map(|save| save.join().unwrap()).collect::<Vec<_>>()
        });
        let now = body(&get(line, "/state"));
        for (is_one, tag, threshold) in saved {
            let held =
                now["tags"].as_array().unwrap().iter().find(|t| t["tag"] == tag).unwrap()["threshold"].as_f64().unwrap();
            assert!(is_one && (held - threshold).abs() < 1e-3, "round {n}: {tag} is {held}, {threshold} was saved");
        }
    };
    (1..9).for_each(saves);
    let plain = ["bolt", "nut", "washer", "gear"].map(|tag| json!({ "tag": tag, "threshold": 0.5, "review_low": 0.5 }));
    assert!(post(&line, "/rules", &format!("{json}{key}"), &json!({ "tags": plain })).starts_with("HTTP/1.1 200"));
    let saved = post(&line, "/rules", &format!("{json}{key}"), &strict);
    assert!(saved.starts_with("HTTP/1.1 200") && body(&saved)["changed"] == 1, "{saved}");
    let triggered = body(&get(&line, "/state"))["figures"]["triggers"].as_u64().unwrap();
    // A part that is of the other defect's tag is named by that.
    let is_later = |p: &&Value| p["part"].as_u64().unwrap() > triggered;
    let is_named = |p: &&Value| p["tag"] == "gear_chipped" && p["why"].as_str().unwrap().starts_with("gear_chipped");
    let later = until(&line, "parts under the new rules", |s| parts(s).iter().filter(is_later).filter(is_named).count() > 1);
    assert!(parts(&later).iter().filter(is_later).all(|p| p["action"] == "reject"), "{later}");
    drop(line);
    let told = std::fs::read_to_string(&log).unwrap();
    let rules: Vec<Value> =
        told.lines().map(|l| serde_json::from_str(l).unwrap()).filter(|e: &Value| e["event"] == "rule").collect();
    let rules: Vec<&Value> = rules.iter().filter(|r| r["tag"] == "gear_chipped").collect();
    assert_eq!((rules.len(), &rules[0]["tag"]), (1, &json!("gear_chipped")));
    let (old, new, who) = (&rules[0]["old_threshold"], &rules[0]["threshold"], rules[0]["who"].as_str().unwrap());
    assert_eq!((old, new, who), (&json!(0.5), &json!(0.0), &*format!("page, 127.0.0.1, key {}", &sha256(KEY)[..15])));
    // What was saved is shown by `check` and holds in the next run; for another bundle it is
    // ignored, and that is told.
    let file = settings("page-check", &text.replace("PORT", "0"));
    let check = || String::from_utf8(finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file])).stdout).unwrap();
    assert!(check().contains("sets thresholds on top of device.toml, tags: 5"), "{}", check());
    let run = || finish(parts_of(&file, &fast_conveyor(5), "4"));
    let strictly = |out: &std::process::Output| {
        of(&events(out), "part").iter().all(|p| p["tag"] == "gear_chipped" && p["action"] == "reject")
    };
    assert!(strictly(&run()));
    let overrides = state.join("overrides.toml");
    let other = std::fs::read_to_string(&overrides).unwrap().replace("sha256 = \"", "sha256 = \"0");
    std::fs::write(&overrides, other).unwrap();
    let out = run();
    assert!(!strictly(&out) && stderr(&out).contains("is for another bundle or recipe and is ignored"), "{}", stderr(&out));
    assert!(check().contains("warning  overrides: "), "{}", check());
    std::fs::write(&overrides, "spoiled").unwrap();
    let out = run();
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("remove it to go back to device.toml"),
        "{}",
        stderr(&out)
    );
    // A pipe in its place made both wait for ever.
    std::fs::remove_file(&overrides).unwrap();
    assert!(Command::new("mkfifo").arg(&overrides).status().unwrap().success());
    let out = run();
    assert!(out.status.code() == Some(2) && stderr(&out).contains("only regular files are read"), "{}", stderr(&out));
    assert!(check().contains("only regular files are read"), "{}", check());
}

/// A board whose disk is read-only sorts as ever; only saving is refused, in words. `check` warns,
/// and calls no problem what a run starts with.
#[test]
fn where_nothing_can_be_written_a_change_is_refused_and_nothing_changes() {
    let folder = folder("page-full");
    // A folder in which nobody, root neither, can make a file.
    let text = device(Path::new("/proc"), &folder.join("log.jsonl"));
    let line = Line::start("page-readonly", &text);
    until(&line, "parts", |s| parts(s).len() > 1);
    let change = json!({ "tags": [{ "tag": "nut", "threshold": 1.0, "review_low": 1.0 }] });
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n");
    let answer = post(&line, "/rules", &headers, &change);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("nothing was changed"), "{answer}");
    let nut = |s: &Value| s["tags"].as_array().unwrap().iter().find(|t| t["tag"] == "nut").unwrap()["threshold"].clone();
    assert_eq!(nut(&body(&get(&line, "/state"))), 0.5);
    let file = settings("page-readonly-check", &text.replace("PORT", "0"));
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(told.contains("warning  state: /proc: ") && told.contains("OK: no problems"), "{told}");
}

/// One save that waited for the record of changes held everybody's page, and eight held it for
/// eight seconds.
#[test]
fn whoever_looks_waits_for_nobody_who_saves_and_whoever_saves_waits_for_few() {
    let folder = folder("page-saving-state");
    let (state, log) = (folder.join("state"), folder.join("log.jsonl"));
    std::fs::create_dir(&state).unwrap();
    let line = Line::start("page-saving", &device(&state, &log));
    until(&line, "parts", |s| parts(s).len() > 1);
    let record = std::fs::File::open(state.join("audit.log")).unwrap();
    rustix::fs::flock(&record, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let save = |tag: &'static str| {
            let change = json!({ "tags": [{ "tag": tag, "threshold": 0.9 }] });
            let answer = post(&line, "/rules", &headers, &change);
            assert!(answer.starts_with("HTTP/1.1 409") || answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("nothing was changed") && begin.elapsed() < Duration::from_secs(4), "{answer}");
        };
        for tag in ["nut", "bolt", "gear_chipped", "nut"] {
            scope.spawn(move || save(tag));
        }
        std::thread::sleep(Duration::from_millis(200));
        for _ in 0..5 {
            let asked = Instant::now();
            let found = body(&get(&line, "/state"));
            let tried = post(&line, "/what-if", &headers, &json!({ "tags": [{ "tag": "nut", "threshold": 0.9 }] }));
            assert!(asked.elapsed() < Duration::from_millis(500) && found["camera"] == true, "{:?}", asked.elapsed());
            assert!(tried.starts_with("HTTP/1.1 200"), "{tried}");
        }
    });
    rustix::fs::flock(&record, rustix::fs::FlockOperation::Unlock).unwrap();
    let answer = post(&line, "/rules", &headers, &json!({ "tags": [{ "tag": "nut", "threshold": 0.9 }] }));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A camera from which nothing came any more stood there as "Running", between two faults.
#[test]
fn the_page_knows_whether_frames_come() {
    let folder = folder("page-camera-film");
    let film = folder.join("film");
    assert!(Command::new("mkfifo").arg(&film).status().unwrap().success());
    let text = device(&folder, &folder.join("log.jsonl")).replace("[trigger]\nkind = \"barrier\"\n", "");
    let text = format!("[source]\nframe_timeout_ms = 300\nfirst_frame_timeout_ms = 20000\n{text}");
    let source = format!("y4m:{}", film.display());
    let goes_on = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let writes = goes_on.clone();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut film = std::fs::File::create(film).unwrap();
        let _ = film.write_all(b"YUV4MPEG2 W96 H96 F30:1 Cmono\n");
        for n in 0u8.. {
            while !writes.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let mut frame = vec![90; 96 * 96];
            frame[0] = n % 250;
            if film.write_all(&[b"FRAME\n".as_slice(), &frame].concat()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(33));
        }
    });
    let line = Line::of("page-camera", &text, &source);
    until(&line, "frames", |s| s["camera"] == true);
    goes_on.store(false, std::sync::atomic::Ordering::Relaxed);
    until(&line, "none", |s| s["camera"] == false && s["trouble"]["kind"] == "no_frame");
    goes_on.store(true, std::sync::atomic::Ordering::Relaxed);
    until(&line, "frames again", |s| s["camera"] == true);
}

/// Twenty who ask for images and never read them, and one whose request never ends.
#[test]
fn peers_that_are_stuck_change_no_edge() {
    let moved = |page: bool| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let table = if page { format!("[page]\nlisten = \"127.0.0.1:{port}\"\n") } else { String::new() };
        let gate = "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n[outputs.gate]\nmode = \"pulse\"\nwidth_ms = 20\n\
                    delay_ms = 900\non = [\"reject\"]\n[outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 1100\non = [\"accept\"]\n";
        let file = settings(&format!("page-stuck-{page}"), &format!("{gate}{table}"));
        let mut command = parts_of(&file, "conveyor?seed=9", "8");
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut peers = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        while page && peers.len() < 20 {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(mut peer) => {
                    let whole =
                        b"GET /live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(if peers.is_empty() { 0 } else { 200 });
                    let _ = peer.write_all(&whole).and_then(|()| peer.write_all(b"GET / HTT"));
                    peers.push(peer);
                }
                Err(e) => assert!(Instant::now() < end, "nothing listens: {e}"),
            }
        }
        let out = wait(child, Duration::from_secs(120));
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let all = events(&out);
        assert!(of(&all, "fault").iter().all(|f| f["kind"] != "sink"), "{}", stderr(&out));
        let edge =
            |e: &&Value| (e["part"].as_u64(), e["output"].to_string(), e["state"].to_string(), e["outcome"].to_string());
        let mut edges: Vec<_> = of(&all, "edge").iter().map(edge).collect();
        edges.sort();
        edges
    };
    let (without, with) = (moved(false), moved(true));
    assert!(without.len() >= 16, "{without:?}");
    assert_eq!(with, without);
}
