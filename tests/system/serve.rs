//! `tagpin serve` as its clients see it: the same figures as `classify`, in each dialect's words,
//! and who is kept out.

use crate::program::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

const JPEG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/part.jpg");
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures");
const PROJECT: &str = "0f3b2a5e-1111-4222-8333-444455556666";

/// A server on a free port.
struct Server {
    child: Option<Child>,
    address: String,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let mut child = tagpin(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // Byte by byte, so that nothing of the last line is taken.
        let mut byte = [0];
        while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() > 0 && byte[0] != b'\n' {
            line.push(byte[0] as char);
        }
        let address = line.split("http://").nth(1).and_then(|a| a.split(' ').next()).map(String::from);
        Self { child: Some(child), address: address.unwrap_or_else(|| panic!("no address in \"{line}\"")) }
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 && !head.ends_with("\r\n\r\n") {}
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no answer: {head}"));
        let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        Answer { status, head, body }
    }

    fn post(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let head = format!("POST {path} HTTP/1.1\r\n{host}{headers}Content-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat())
    }

    fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
    }

    /// SIGTERM; what it printed last.
    fn stop(mut self) -> String {
        let child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let out = wait(child, Duration::from_secs(20));
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        assert_eq!(stderr(&out), "");
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `classify --json` prints of a file, all tags.
fn classified(file: &str) -> Value {
    events(&finish(tagpin(&["classify", PARTS, file, "--json", "--top", "1024"]))).remove(0)
}

#[test]
fn every_dialect_gives_the_figures_of_classify() {
    let server = Server::start(&[&format!("sorter={PARTS}")]);
    for file in [JPEG, &format!("{IMAGES}/rgb.png"), &format!("{IMAGES}/lossy.webp"), &format!("{IMAGES}/rgb.bmp")] {
        let (image, mut expected) = (std::fs::read(file).unwrap(), classified(file));
        expected["path"] = "".into();
        let plain = server.post("/classify", "Content-Type: image/any\r\n", &image);
        assert_eq!((plain.status, plain.json()), (200, expected.clone()), "{file}");
        let best = server.post("/classify/Sorter?top=1&name=a", "", &image).json();
        assert_eq!((&best["tags"][0], best["tags"].as_array().unwrap().len()), (&expected["tags"][0], 1));
        assert_eq!(best["path"], "a");
        let tags = expected["tags"].as_array().unwrap();

        let form = [
            b"--b\r\nContent-Disposition: form-data; name=\"imageData\"; filename=\"imageData\"\r\n\r\n".as_slice(),
            &image,
            b"\r\n--b--\r\n",
        ];
        let path = format!("/customvision/v3.1/prediction/{PROJECT}/classify/iterations/sorter/image/nostore");
        let custom = server.post(&path, "Content-Type: multipart/form-data; boundary=b\r\n", &form.concat()).json();
        let container =
            server.post(&format!("/{PROJECT}/image"), "Content-Type: application/octet-stream\r\n", &image).json();
        for predictions in [&custom["predictions"], &container["predictions"]] {
            let found: Vec<_> = predictions.as_array().unwrap().iter().map(|p| (&p["tagName"], &p["probability"])).collect();
            assert_eq!(found, tags.iter().map(|t| (&t["tag"], &t["score"])).collect::<Vec<_>>(), "{file}");
        }
        assert_ne!(custom["id"], container["id"]);
        assert_eq!(custom["predictions"][0]["tagId"], container["predictions"][0]["tagId"]);

        let path = "/vision/v3.2/analyze?visualFeatures=Categories,Tags&language=en";
        let vision = server.post(path, "Content-Type: application/octet-stream\r\n", &image).json();
        let found: Vec<_> = vision["tags"].as_array().unwrap().iter().map(|p| (&p["name"], &p["confidence"])).collect();
        assert_eq!(found, tags.iter().map(|t| (&t["tag"], &t["score"])).collect::<Vec<_>>(), "{file}");
        let category = expected["tag"].as_str().unwrap_or("others_");
        assert_eq!(vision["categories"][0]["name"], category);
        let kind = file.rsplit('.').next().unwrap();
        let format = if kind == "jpg" { "jpeg" } else { kind };
        assert!(vision["metadata"]["format"].as_str().unwrap().eq_ignore_ascii_case(format), "{vision}");
    }
    let models = server.get("/models").json();
    assert_eq!(models["models"][0]["name"], "sorter");
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let last = server.stop();
    assert!(last.starts_with("served 21 predictions; 0 refused, 0 told to come back (503), 0 failed"), "{last}");
}

/// Refusals in the words that Microsoft's clients make exceptions of.
#[test]
fn what_is_no_image_has_no_model_or_is_too_large_is_told_in_the_dialects_words() {
    let server = Server::start(&[PARTS, "--image-mb", "1", "--picture-mb", "1"]);
    let image = std::fs::read(JPEG).unwrap();
    let large = vec![0xff; (1 << 20) + 70_000];
    let half = &image[..image.len() / 2];
    let many = std::fs::read(format!("{IMAGES}/large_444.jpg")).unwrap();
    let pixels = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x20\0\0\0\x20\0\x08\x02\0\0\0".as_slice(), &[0; 40]].concat();
    for (body, status, plain_status, custom, vision) in [
        (b"no image".as_slice(), 400, 400, "BadRequestImageFormat", "InvalidImageFormat"),
        (half, 400, 400, "BadRequestImageFormat", "InvalidImageFormat"),
        (&pixels, 400, 400, "BadRequestImageFormat", "InvalidImageFormat"),
        (b"", 400, 400, "BadRequestImageStream", "UnsupportedMediaType"),
        (&large, 400, 413, "BadRequestImageSizeBytes", "InvalidImageSize"),
    ] {
        let answer = server.post("/image", "", body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(custom)), "{}", answer.json());
        let answer = server.post("/vision/v3.2/analyze", "", body);
        assert_eq!((answer.status, answer.json()["error"]["innererror"]["code"].as_str()), (status, Some(vision)));
        assert_eq!(server.post("/classify", "", body).status, plain_status);
    }
    assert_eq!(server.post("/classify", "", &many).status, 200, "the nearest good image");
    let path = |name: &str| format!("/{PROJECT}/classify/iterations/{name}/image");
    assert_eq!(server.post(&path("parts"), "", &image).status, 200);
    for (path, status, code) in [
        (path("other"), 404, "NotFoundIteration"),
        (format!("/{PROJECT}/url"), 400, "BadRequestNotSupported"),
        (format!("/{PROJECT}/detect/iterations/parts/image"), 400, "BadRequestNotSupported"),
        ("/nothing".into(), 404, "NotFound"),
        ("/models/../classify".into(), 400, ""),
    ] {
        let answer = server.post(&path, "", &image);
        assert_eq!(answer.status, status, "{path}");
        assert!(code.is_empty() || answer.json()["code"] == code, "{path}: {}", answer.json());
    }
    let answer = server.get("/classify");
    assert_eq!((answer.status, answer.head.contains("Allow: POST")), (405, true));
}

#[test]
fn a_key_a_known_name_and_the_own_site_are_asked_for() {
    let out = finish(tagpin(&["key", "new"]));
    let text = String::from_utf8(out.stdout).unwrap();
    let word = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_string();
    let (key, hash) = (word("key "), word("hash "));
    assert!(key.len() == 32 && !hash.contains(&key), "{text}");
    let image = std::fs::read(JPEG).unwrap();
    let server = Server::start(&[PARTS, "--key", &hash]);
    for name in ["Prediction-Key", "prediction-key", "Ocp-Apim-Subscription-Key", "Authorization: Bearer"] {
        let separator = if name.contains(':') { " " } else { ": " };
        let ask = |key: &str| server.post("/image", &format!("{name}{separator}{key}\r\n"), &image).status;
        assert_eq!((ask(&key), ask(&key[1..]), ask(&hash)), (200, 401, 401), "{name}");
    }
    // A key is asked for before anything is said, but not to see whether the server lives.
    assert_eq!((server.get("/models").status, server.get("/nothing").status), (401, 401));
    assert_eq!((server.get("/v2/health/live").status, server.post("/image", "", &image).status), (200, 401));
    drop(server);

    let server = Server::start(&[PARTS, "--host", "sorter.example"]);
    // It was passed over, with every tag in the answer.
    for (top, status) in [("3", 200), ("-1", 400), ("x", 400), ("99999999999999999999", 400)] {
        assert_eq!(server.post(&format!("/classify?top={top}"), "", &image).status, status, "{top}");
    }
    let ask = |headers: &str| server.post("/image", headers, &image).status;
    assert_eq!((ask("Host: sorter.example\r\n"), ask("Host: rebound.example\r\n")), (200, 421));
    assert_eq!((ask("Origin: http://localhost\r\n"), ask("Origin: http://evil.example\r\n")), (200, 403));
}

#[test]
fn nothing_but_loopback_is_served_without_a_key_and_every_problem_is_told_at_once() {
    let out = finish(tagpin(&["serve", PARTS, PARTS, "none.tagpin", "--listen", "0.0.0.0:0"]));
    let told = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{told}");
    for problem in ["two bundles are called \"parts\"", "none.tagpin: cannot be read", "it needs a key: `tagpin key new`"] {
        assert!(told.contains(problem), "{problem}: {told}");
    }
    // Of which of the bundles it has no such tag was not said.
    let settings = folder("served_settings").join("device.toml");
    std::fs::write(&settings, "[tags.cat]\nthreshold = 0.3\n").unwrap();
    let out = finish(tagpin(&["serve", PARTS, "--settings", settings.to_str().unwrap()]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains(&format!("bundle {PARTS}: ")), "{}", stderr(&out));
    let taken = Server::start(&[PARTS]);
    let out = finish(tagpin(&["serve", PARTS, "--listen", &taken.address]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains("choose another address or port"), "{}", stderr(&out));
}

#[test]
fn more_than_wait_are_told_to_come_back_and_none_is_lost() {
    const CLIENTS: usize = 12;
    const EACH: usize = 15;
    let server = Server::start(&[PARTS, "--engines", "1", "--queue", "2"]);
    let image = std::fs::read(format!("{IMAGES}/large_444.jpg")).unwrap();
    let expected = classified(&format!("{IMAGES}/large_444.jpg"))["tags"].clone();
    let full = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let answer = server.post("/classify", "", &image);
                        if answer.status == 200 {
                            assert_eq!(answer.json()["tags"], expected);
                            break;
                        }
                        assert!(answer.status == 503 && answer.head.contains("Retry-After: 1"), "{}", answer.head);
                        full.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        }
    });
    let full = full.into_inner();
    assert!(full > 0, "twelve clients of one engine never met a full queue of two");
    let last = server.stop();
    let counted = format!("served {} predictions; 0 refused, {full} told to come back (503), 0 failed", CLIENTS * EACH);
    assert!(last.starts_with(&counted), "{last} {counted}");
}
