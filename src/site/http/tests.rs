//! Heads and bodies as they should not be, and a server whose clients misbehave, over real sockets.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

fn parse(head: &str) -> Result<Option<(Request, usize)>, BadHead> {
    Request::parse(head.as_bytes())
}

fn read(head: &str) -> Request {
    parse(head).unwrap().unwrap_or_else(|| panic!("no end: {head}")).0
}

#[test]
fn a_head_is_read_whole_or_not_at_all() {
    let head = "POST /a/%42%20c//d?x=1&Y=a%2Bb+c HTTP/1.1\r\nHost: box:80\r\nContent-Length: 3\r\n\r\nabc";
    let (request, taken) = parse(head).unwrap().unwrap();
    assert_eq!((request.method.as_str(), taken), ("POST", head.len() - 3));
    assert_eq!(request.path, ["a", "B c", "d"]);
    assert_eq!((request.query("X"), request.query("y"), request.query("z")), (Some("1"), Some("a+b c"), None));
    assert_eq!(request.header("host"), Some("box:80"));
    for cut in 0..taken {
        assert_eq!(parse(&head[..cut]), Ok(None), "{cut}");
    }
    assert_eq!(read("GET http://box/a?b HTTP/1.1\r\nHost: box\r\n\r\n").path, ["a"]);
}

/// Each of these is how one request is hidden in another, or how a path leads out of a folder.
#[test]
fn ambiguous_heads_and_paths_that_lead_elsewhere_are_refused() {
    let body = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
    for good in ["A: b", "Content-Length: 0", "Content-Length: 12", "Transfer-Encoding: Chunked"] {
        read(&body(good));
    }
    for bad in [
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 1, 1",
        "Content-Length: 99999999999999999999999",
        "Content-Length:",
        "Host: b",
        " folded: 1",
        "a b: 1",
        "Content-Length : 1",
    ] {
        assert!(matches!(parse(&body(bad)), Err(BadHead::Malformed(_))), "{bad}: {:?}", parse(&body(bad)));
    }
    let path = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for bad in
        ["/../etc/passwd", "/a/%2e%2e/b", "/a/..%2fb", "/%5c..", "/a%00", "/%zz", "/%f", "/%ff", "a", "*", "/.", "/?%f"]
    {
        assert!(matches!(parse(&path(bad)), Err(BadHead::Malformed(_))), "{bad}: {:?}", parse(&path(bad)));
    }
    assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err() && parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n").is_err());
    assert!(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    let many: String = (0..=MAX_HEADERS).map(|i| format!("x{i}: 1\r\n")).collect();
    assert_eq!(parse(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(BadHead::TooLarge));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(MAX_HEAD));
    assert_eq!(parse(&long), Err(BadHead::TooLarge));
}

/// Found by `tests/fuzz`: any word before `://`, and any path with `://` in it, was taken for a
/// proxy's whole address. Who guards `/public` saw another path than the handler.
#[test]
fn only_a_whole_address_of_http_loses_what_stands_before_its_path() {
    let path = |target: &str| parse(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|read| read.unwrap().0.path);
    for (target, expected) in [
        ("http://a/b/c?d", ["b", "c"].as_slice()),
        ("HTTPS://a:80/b", &["b"]),
        ("http://a", &[]),
        ("http://a?b=/c", &[]),
        ("/public/x://a/secret", &["public", "x:", "a", "secret"]),
        ("/public?next=http://a/secret", &["public"]),
    ] {
        assert_eq!(path(target).unwrap(), expected, "{target}");
    }
    let host = |head: &str| read(head).header("host").map(str::to_string);
    assert_eq!(host("GET http://evil/state HTTP/1.1\r\nHost: sorter\r\n\r\n"), Some("evil".into()), "its host counts");
    assert_eq!(host("GET /state HTTP/1.1\r\nHost: sorter\r\n\r\n"), Some("sorter".into()));
    for bad in ["htttp://a/b", "://a/b", "public/x://a/b", "ftp://a/b"] {
        assert!(matches!(path(bad), Err(BadHead::Malformed(_))), "{bad}: {:?}", path(bad));
    }
}

/// A no-break space around a length was no part of it here, and may be to a proxy.
#[test]
fn no_other_blanks_than_those_of_http_are_taken_off_a_value() {
    for bad in ["Content-Length: \u{a0}5", "Content-Length: 5\u{2003}", "Transfer-Encoding: chunked\u{a0}"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{bad}\r\n\r\n");
        assert!(matches!(parse(&head), Err(BadHead::Malformed(_))), "{bad}: {:?}", parse(&head));
    }
    assert_eq!(read("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 5 \t\r\n\r\n").length, request::Length::Bytes(5));
}

/// An old client that says both keeps nothing open: RFC 9112, 9.3.
#[test]
fn who_says_close_is_not_kept_whatever_else_is_said() {
    for (minor, said, stays) in [
        (0, "keep-alive", true),
        (0, "close, keep-alive", false),
        (0, "x", false),
        (1, "x", true),
        (1, "keep-alive,close", false),
    ] {
        let request = read(&format!("GET / HTTP/1.{minor}\r\nHost: a\r\nConnection: {said}\r\n\r\n"));
        assert_eq!(request.keep_alive, stays, "HTTP/1.{minor} {said}");
    }
}

#[test]
fn no_bytes_make_the_reader_of_heads_panic() {
    let head = "POST /a/%42?x=%41 HTTP/1.1\r\nHost: box:80\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (seed, cases) = crate::random::drawn_cases(20_000);
    let mut read = 0;
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let mut bytes = head.as_bytes().to_vec();
        for _ in 0..random.range(1, 4) {
            let at = random.range(0, bytes.len() as i32 - 1) as usize;
            bytes[at] = random.next() as u8;
        }
        if let Ok(Some((request, taken))) = Request::parse(&bytes) {
            read += 1;
            assert!(taken <= bytes.len() && request.path.iter().all(|s| s != ".." && !s.contains('/')), "{request:?}");
        }
    }
    assert!(read > cases / 10, "{read} of {cases} heads were read");
}

#[test]
fn a_name_that_was_not_given_and_a_page_of_another_site_are_strangers() {
    let hosts = ["sorter.example".to_string()];
    let ask =
        |method: &str, headers: &str| check_origin(&read(&format!("{method} / HTTP/1.1\r\n{headers}\r\n\r\n")), &hosts);
    for host in ["127.0.0.1:80", "192.168.1.9", "[::1]:8080", "[fe80::1]", "localhost:1", "LOCALHOST", "Sorter.example:80"] {
        assert_eq!(ask("GET", &format!("Host: {host}")), Ok(()), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::1].evil.example",
        "[::1]:80:evil.example",
        "127.0.0.1:evil.example",
        "localhost:80a",
        "[::1",
        "",
    ] {
        assert_eq!(ask("GET", &format!("Host: {host}")), Err(Stranger::Host), "{host}");
    }
    let own = "Host: 127.0.0.1:80\r\nOrigin: http://127.0.0.1:80";
    assert_eq!(ask("POST", own), Ok(()));
    assert_eq!(ask("POST", &format!("{own}\r\nSec-Fetch-Site: same-origin")), Ok(()));
    for other in [
        "Host: 127.0.0.1:80\r\nOrigin: http://evil.example",
        "Host: 127.0.0.1:80\r\nOrigin: null",
        "Host: 127.0.0.1:80\r\nSec-Fetch-Site: cross-site",
        "Host: 127.0.0.1:80\r\nSec-Fetch-Site: same-site",
        "Host: 127.0.0.1:80\r\nOrigin: http://127.0.0.1:81",
    ] {
        assert_eq!(ask("POST", other), Err(Stranger::CrossSite), "{other}");
    }
}

/// Answers with the body's length; panics at /panic; refuses without reading at /refuse.
struct Echo;

impl Handler for Echo {
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response {
        match request.segments().as_slice() {
            ["panic"] => panic!("a drill: the handler panics"),
            ["refuse"] => Response::text(403, "no"),
            _ => match body.read(1000) {
                Ok(bytes) => Response::text(200, &format!("{} {}", bytes.len(), String::from_utf8_lossy(&bytes))),
                Err(BodyError::TooLarge) => Response::text(413, "large"),
                Err(BodyError::Slow) => Response::text(408, "slow"),
                Err(e) => Response::text(400, &format!("{e:?}")),
            },
        }
    }
}

struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(limits: Limits) -> Self {
        Self::serving(limits, Arc::new(Echo))
    }

    fn serving(limits: Limits, handler: Arc<dyn Handler>) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let (address, stop) = (server.address().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || server.serve(handler, &stopped));
        Self { address, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Everything that comes until the server closes.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn limits() -> Limits {
    let ms = Duration::from_millis;
    Limits { connections: 8, idle: ms(1500), head: ms(300), body: ms(300), answer: ms(2000) }
}

#[test]
fn bodies_come_whole_in_pieces_and_on_request_over_one_connection() {
    let running = Running::start(limits());
    let requests = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\nt: 1\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = running.ask(requests.as_bytes());
    let last: Vec<&str> = answer.split("HTTP/1.1 200 OK").skip(1).map(|a| a.lines().last().unwrap()).collect();
    assert_eq!(last, ["3 abc", "12 ab0123456789", "0 "], "{answer}");
    // A client that waits to be asked is asked.
    let mut stream = running.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[test]
fn what_is_too_large_too_slow_or_wrong_is_told_and_the_next_client_is_served() {
    let running = Running::start(limits());
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let large = [post("Content-Length: 300000\r\n\r\n"), vec![b'x'; 300_000]].concat();
    let endless =
        [post("Transfer-Encoding: chunked\r\n\r\n"), b"100\r\n".to_vec(), vec![b'x'; 256], b"\r\n".to_vec()].concat();
    let endless = [endless.as_slice(), &format!("200000\r\n{}", "y".repeat(200_000)).into_bytes()].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (large, "413 "),
        (endless, "413 "),
        (post("Content-Length: 5\r\n\r\nab"), "408 "),
        (post("Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "408 "),
        (post("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "400 "),
        (post("Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"), "400 "),
        (post("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), "400 "),
        (b"GET / HTTP/1.1\r\nHost:".to_vec(), "408 "),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(), "400 "),
        (b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "500 "),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD)).into_bytes(), "431 "),
        (
            [b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n".to_vec(), vec![b'x'; 500_000]].concat(),
            "403 ",
        ),
    ];
    for (bytes, status) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let answer = running.ask(&bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(answer.contains("Connection: close"), "{shown}: {answer}");
        assert!(running.ask(b"GET / HTTP/1.0\r\n\r\n").contains("200 OK"), "after {shown}");
    }
}

/// Found by `tests/fuzz`: a line without a size ended a body, and any line was a trailer. Where a
/// proxy sees a body end, the server went on, and the other way round: so one request is hidden in
/// another.
#[test]
fn a_body_in_chunks_ends_only_where_its_sizes_and_trailers_say() {
    let running = Running::start(limits());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ask = |chunks: &str| running.ask(format!("{head}{chunks}").as_bytes());
    for good in ["2\r\nab\r\n0\r\n\r\n", "2 ;x\r\nab\r\n00\r\nt: 1\r\nu:\r\n\r\n"] {
        assert!(ask(good).contains("2 ab"), "{good:?}: {}", ask(good));
    }
    for bad in [
        "2\r\nab\r\n\r\n\r\n",
        "2\r\nab\r\n;x\r\n\r\n",
        "2\r\nab\r\n \r\n\r\n",
        "2\r\nab\r\n0\r\n\n\r\n",
        "2\r\nab\r\n0\r\nt: 1\n\r\n",
        "2\r\nab\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        "2\r\nab\r\n0\r\n folded\r\n\r\n",
        "2\r\nab\r\n0\r\nt: 1\rGET / HTTP/1.1\r\n\r\n",
    ] {
        assert!(ask(bad).starts_with("HTTP/1.1 400 "), "{bad:?}: {}", ask(bad));
    }
}

/// A client that sends a byte now and then never runs into a time-out of each read.
#[test]
fn a_head_and_a_body_that_drip_are_cut_off() {
    let running = Running::start(limits());
    for begin in ["GET / HTTP/1.1\r\nHost: a\r\nx: ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n"] {
        let mut stream = running.connect();
        stream.write_all(begin.as_bytes()).unwrap();
        let begun = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answer = [0; 12];
        let got = loop {
            let _ = stream.write_all(b"y");
            match stream.read(&mut answer) {
                Ok(n) => break n,
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(10), "{begin}: still served"),
            }
        };
        assert_eq!(&answer[..got], b"HTTP/1.1 408", "{begin}");
    }
}

#[test]
fn one_connection_too_many_is_told_503_and_silent_ones_leave_room_again() {
    let running = Running::start(Limits { connections: 3, idle: Duration::from_millis(400), ..limits() });
    let silent: Vec<TcpStream> = (0..3).map(|_| running.connect()).collect();
    std::thread::sleep(Duration::from_millis(150));
    let answer = running.ask(b"");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After: 1"), "{answer}");
    let begun = Instant::now();
    while !running.ask(b"GET / HTTP/1.0\r\n\r\n").contains("200 OK") {
        assert!(begun.elapsed() < Duration::from_secs(10), "silent connections are held");
    }
    drop(silent);
}

/// Counts what it is asked to do; at /slow only when it may go on.
#[derive(Default)]
struct Counts {
    done: AtomicUsize,
    begun: AtomicUsize,
    may_go_on: AtomicBool,
}

impl Handler for Counts {
    fn answer(&self, request: &Request, _: &mut Body<'_>) -> Response {
        self.begun.fetch_add(1, Ordering::SeqCst);
        while request.segments() == ["slow"] && !self.may_go_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        Response::text(200, &"x".repeat(100_000))
    }
}

/// The next answer's status and length, `None` where the connection has ended without a whole one.
fn next_answer(stream: &mut TcpStream) -> Option<(u16, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut content = vec![0; length];
    stream.read_exact(&mut content).ok()?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status != 503 || head.contains("retry-after: ") && head.contains("connection: close"), "{head}");
    Some((status, length))
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";

/// Over a change of recipe a page kept its connection: thresholds saved over it were answered with
/// 200 by the run that was over. They held nowhere and replaced those of the recipe that ran.
#[test]
fn an_idle_connection_ends_with_its_server_and_an_answer_on_its_way_is_whole() {
    let counts = Arc::new(Counts::default());
    let running = Running::serving(limits(), counts.clone());
    let [mut idle, mut late, mut slow] = [(); 3].map(|()| running.connect());
    for stream in [&mut idle, &mut late] {
        stream.write_all(GET).unwrap();
        assert_eq!(next_answer(stream), Some((200, 100_001)));
    }
    slow.write_all(SLOW).unwrap();
    until(|| counts.begun.load(Ordering::SeqCst) == 3);
    running.stop.store(true, Ordering::Release);
    // Read before the listener has seen the stop, or after it.
    late.write_all(GET).unwrap();
    assert!(matches!(next_answer(&mut late), None | Some((503, _))));
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!running.thread.as_ref().unwrap().is_finished(), "it waits for the answer on its way");
    assert!(TcpStream::connect(running.address).is_err(), "the next run can listen there already");
    counts.may_go_on.store(true, Ordering::SeqCst);
    assert_eq!(next_answer(&mut slow), Some((200, 100_001)));
    drop(slow);
    drop(running);
    assert_eq!(counts.done.load(Ordering::SeqCst), 3, "what came late was done by nobody");
}

/// Stops at drawn moments against clients that ask without a pause.
#[test]
fn whenever_the_stop_comes_what_was_answered_as_done_was_done_and_nothing_after_it() {
    let (seed, cases) = crate::random::drawn_cases(40);
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let counts = Arc::new(Counts::default());
        let mut running = Running::serving(limits(), counts.clone());
        let (done, after) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    let mut stream = running.connect();
                    scope.spawn(move || {
                        let mut done = 0;
                        let end = Instant::now() + Duration::from_secs(20);
                        while Instant::now() < end
                            && stream.write_all(GET).is_ok()
                            && next_answer(&mut stream).is_some_and(|(status, _)| status == 200)
                        {
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(random.range(0, 20_000) as u64));
            running.stop.store(true, Ordering::Release);
            running.thread.take().unwrap().join().unwrap();
            let after = counts.begun.load(Ordering::SeqCst);
            (clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>(), after)
        });
        let begun = counts.begun.load(Ordering::SeqCst);
        assert_eq!((done, begun), (after, after), "seed {seed}, case {case}: answered as done, begun");
    }
}

fn until(wanted: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !wanted() {
        assert!(Instant::now() < end, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
