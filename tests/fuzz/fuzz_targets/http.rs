//! Bytes as what a client sends over one connection of HTTP, in pieces drawn by the last byte.
//!
//! A second, naive reading of RFC 9112 goes through the same bytes: what reaches the handler are
//! its requests, with its methods, paths and bodies, no more and no fewer. So a body ends where the
//! next request begins, no request states its length twice, and no path leads elsewhere. Each has
//! one answer, in order, and no more memory is held than a read of the socket and the limit of a
//! body take. An image in a form stands in the body, between its empty line and its delimiter.
//!
//! Laxer than RFC 9112's grammar, as it allows: a line may end without its carriage return in a
//! head, spaces may follow a chunk's size, and an extension of a chunk is not looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Mutex;
use std::time::Duration;
use tagpin::site::http::{Body, BodyError, Handler, Limits, Request, Response, converse};
use tagpin::site::upload;
use tagpin_fuzz::{SENT, answered, within};

/// Most memory: a read of the socket, what it is moved to, answers, and the largest body.
const MEMORY: usize = 512 << 10;
const PATIENCE: Duration = Duration::from_secs(2);
const LIMITS: Limits = Limits { connections: 1, idle: PATIENCE, head: PATIENCE, body: PATIENCE, answer: PATIENCE };

/// The most that is read of a body, by the path's first segment; `None`: nothing is.
fn limit(path: &[String]) -> Option<usize> {
    match path.first().map(String::as_str) {
        Some("leave") => None,
        Some("small") => Some(8),
        _ => Some(1000),
    }
}

/// A request as the handler or the model sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    path: Vec<String>,
    /// `None`: it was not read. An error: whether it is too large.
    body: Option<Result<Vec<u8>, bool>>,
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Seen>>);

impl Handler for Recorder {
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response {
        let read = limit(&request.path).map(|most| body.read(most));
        if let Some(Ok(bytes)) = &read {
            check_upload(request.header("content-type").unwrap_or(""), bytes);
        }
        let body = read.map(|read| read.map_err(|e| e == BodyError::TooLarge));
        let mut all = self.0.lock().expect("nobody panics with it");
        all.push(Seen { method: request.method.clone(), path: request.path.clone(), body });
        Response::text(200, &all.len().to_string())
    }
}

/// What a boundary may be in a content type: behind each `boundary =`, in quotes or up to `;`.
fn boundaries(kind: &str) -> Vec<&str> {
    let small = kind.to_ascii_lowercase();
    let stated = small.match_indices("boundary").filter_map(|(at, word)| {
        let value = kind[at + word.len()..].trim_start().strip_prefix('=')?.trim_start();
        match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split(';').next().map(str::trim_end),
        }
    });
    stated.collect()
}

fn check_upload(kind: &str, body: &[u8]) {
    let Ok(image) = upload::image(kind, body) else { return };
    assert!(!image.is_empty(), "an image of nothing");
    let begin = (image.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    assert!(begin <= body.len() && image.len() <= body.len() - begin, "an image that nobody sent");
    if !kind.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("multipart/form-data")) {
        return assert_eq!(image.len(), body.len(), "a body without a form is the image");
    }
    let stands = boundaries(kind).into_iter().any(|boundary| {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let holds_none = image.windows(delimiter.len()).all(|window| window != delimiter);
        let starts = body.starts_with(&delimiter[2..]) || body[..begin].windows(delimiter.len()).any(|w| w == delimiter);
        starts && body[..begin].ends_with(b"\r\n\r\n") && body[begin + image.len()..].starts_with(&delimiter) && holds_none
    });
    assert!(stands, "no part of a form");
}

/// How a body's length is stated.
enum Length {
    Nothing,
    Bytes(u64),
    Chunks,
}

/// A head as the model reads it.
struct Head {
    method: String,
    path: Vec<String>,
    length: Length,
    stays: bool,
    expects: bool,
}

/// Why the model reads no further.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It was said, or a body was not read to its end: nothing more is answered.
    Closed,
    /// The client left, or within a head, whose wrong beginning may have been refused.
    Left,
    /// A head is wrong: one refusal is answered.
    Refused,
}

/// A line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// Name in small letters and value of a header.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, mut value) = (&line[..colon], &line[colon + 1..]);
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    let is_text = value.iter().all(|b| *b == b'\t' || *b >= b' ' && *b != 0x7f);
    (is_token(name) && is_text).then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value))
}

/// Undoes `%41`; `None` if that gives no text.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// The segments of a target's path.
fn path(target: &[u8]) -> Option<Vec<String>> {
    let target = std::str::from_utf8(target).ok()?;
    let local = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return None;
        }
        &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let words = query.split('&').flat_map(|pair| pair.splitn(2, '='));
    if words.map(unescaped).any(|word| word.is_none()) {
        return None;
    }
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(unescaped).collect::<Option<_>>()?;
    let leads_elsewhere = |s: &String| s == "." || s == ".." || s.contains(['/', '\\', '\0']);
    (!segments.iter().any(leads_elsewhere)).then_some(segments)
}

/// A head and what follows; how it ends where there is none.
fn head(mut bytes: &[u8]) -> Result<(Head, &[u8]), End> {
    let mut next = || -> Result<&[u8], End> {
        let (line, rest) = line(bytes).ok_or(End::Left)?;
        bytes = rest;
        Ok(line)
    };
    let mut first = next()?;
    while first.is_empty() {
        first = next()?;
    }
    let mut lines = Vec::new();
    loop {
        match next()? {
            [] => break,
            line => lines.push(line),
        }
    }
    checked(first, &lines).map(|head| (head, bytes)).ok_or(End::Refused)
}

fn checked(first: &[u8], lines: &[&[u8]]) -> Option<Head> {
    let words: Vec<&[u8]> = first.split(|b| *b == b' ').collect();
    let [method, target, version] = words.as_slice() else { return None };
    let is_new = match *version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return None,
    };
    if !is_token(method) || target.iter().any(|b| *b <= b' ' || *b == 0x7f) || lines.len() > 64 {
        return None;
    }
    let fields: Vec<(String, &[u8])> = lines.iter().map(|line| field(line)).collect::<Option<_>>()?;
    let all = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, value)| *value).collect::<Vec<_>>();
    if all("host").len() > 1 || is_new && all("host").is_empty() {
        return None;
    }
    let length = match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => Length::Nothing,
        ([n], []) if !n.is_empty() => {
            let digit = |sum: u64, b: &u8| sum.checked_mul(10)?.checked_add(char::from(*b).to_digit(10)? as u64);
            Length::Bytes(n.iter().try_fold(0, digit)?)
        }
        ([], [coding]) if is_new && coding.eq_ignore_ascii_case(b"chunked") => Length::Chunks,
        _ => return None,
    };
    let says = |word: &[u8]| {
        all("connection").iter().flat_map(|v| v.split(|b| *b == b',')).any(|w| w.trim_ascii().eq_ignore_ascii_case(word))
    };
    Some(Head {
        method: String::from_utf8_lossy(method).into_owned(),
        path: path(target)?,
        length,
        stays: !says(b"close") && (is_new || says(b"keep-alive")),
        expects: is_new && all("expect").iter().any(|v| v.eq_ignore_ascii_case(b"100-continue")),
    })
}

/// A body in chunks and what follows; an error: whether it is too large.
fn chunks(mut bytes: &[u8], most: usize) -> Result<(Vec<u8>, &[u8]), bool> {
    // With its carriage return.
    fn whole<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], bool> {
        let end = bytes.iter().position(|b| *b == b'\n').ok_or(false)?;
        let line = bytes[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')).ok_or(false)?;
        *bytes = &bytes[end + 1..];
        Ok(line)
    }
    let mut body = Vec::new();
    loop {
        let line = whole(&mut bytes)?;
        let size = line.split(|b| *b == b';').next().expect("a split has a first piece");
        let digits = size.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(size.len());
        if !(1..=16).contains(&digits) || size[digits..].iter().any(|b| *b != b' ' && *b != b'\t') {
            return Err(false);
        }
        let size =
            size[..digits].iter().fold(0u64, |sum, b| sum << 4 | char::from(*b).to_digit(16).expect("a digit") as u64);
        if size == 0 {
            break;
        }
        if size > (most - body.len()) as u64 {
            return Err(true);
        }
        let (data, rest) = bytes.split_at_checked(size as usize).ok_or(false)?;
        body.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n").ok_or(false)?;
    }
    loop {
        match whole(&mut bytes)? {
            [] => return Ok((body, bytes)),
            line => field(line).ok_or(false)?,
        };
    }
}

/// What the model reads of one connection.
struct Meant {
    seen: Vec<Seen>,
    /// Of each request, whether its client may be asked for its body.
    asked: Vec<bool>,
    end: End,
}

fn meant(mut bytes: &[u8]) -> Meant {
    let (mut seen, mut asked) = (Vec::new(), Vec::new());
    let end = loop {
        let (head, rest) = match head(bytes) {
            Ok(read) => read,
            Err(end) => break end,
        };
        let most = limit(&head.path);
        let (body, rest) = match (&head.length, most) {
            (Length::Nothing | Length::Bytes(0), _) => (most.map(|_| Ok(Vec::new())), Some(rest)),
            (_, None) => (None, None),
            (Length::Bytes(n), Some(most)) if *n > most as u64 => (Some(Err(true)), None),
            (Length::Bytes(n), Some(_)) => match rest.split_at_checked(*n as usize) {
                Some((body, rest)) => (Some(Ok(body.to_vec())), Some(rest)),
                None => (Some(Err(false)), None),
            },
            (Length::Chunks, Some(most)) => match chunks(rest, most) {
                Ok((body, rest)) => (Some(Ok(body)), Some(rest)),
                Err(why) => (Some(Err(why)), None),
            },
        };
        seen.push(Seen { method: head.method, path: head.path, body });
        asked.push(head.expects);
        match rest {
            Some(rest) if head.stays => bytes = rest,
            _ => break End::Closed,
        }
    };
    Meant { seen, asked, end }
}

/// An answer: its status, whether the connection closes behind it, and its content.
struct Answer {
    status: u16,
    closes: bool,
    content: String,
}

/// The next of the answers. `is_head`: to a request that has none of the content.
fn answer(answers: &mut &[u8], is_head: bool) -> Answer {
    let end = answers.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&answers[..end]).expect("text");
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok()).expect("a status");
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok());
    // What asks for a body has none.
    let length = if is_head || status == 100 { 0 } else { length.expect("a stated length") };
    let closes = head.lines().any(|l| l == "Connection: close");
    let content = String::from_utf8(answers[end..end + length].to_vec()).expect("text");
    *answers = &answers[end + length..];
    Answer { status, closes, content }
}

/// One answer to each request, in order, and a refusal behind them where the model refuses.
fn check_answers(mut answers: &[u8], meant: &Meant) {
    let mut closes = false;
    for (i, request) in meant.seen.iter().enumerate() {
        assert!(!closes, "an answer behind the last one");
        let is_head = request.method == "HEAD";
        let mut found = answer(&mut answers, is_head);
        if found.status == 100 {
            assert!(meant.asked[i] && request.body.is_some(), "nobody waits to be asked");
            found = answer(&mut answers, is_head);
        }
        assert_eq!(found.status, 200);
        assert!(is_head || found.content == format!("{}\n", i + 1), "answer {i} is another's");
        closes = found.closes;
    }
    assert_eq!(closes, meant.end == End::Closed, "whether the connection closes: {:?}", meant.end);
    let may_refuse = meant.end != End::Closed;
    if !answers.is_empty() && may_refuse {
        let refusal = answer(&mut answers, false);
        assert!(matches!(refusal.status, 400 | 431) && refusal.closes, "a refusal of status {}", refusal.status);
    } else {
        assert_ne!(meant.end, End::Refused, "nothing is answered to a wrong head");
    }
    assert!(answers.is_empty(), "{} bytes behind the last answer", answers.len());
}

fuzz_target!(|data: &[u8]| {
    let Some((draw, sent)) = data.split_last() else { return };
    let sent = &sent[..sent.len().min(SENT)];
    let (answers, seen) = within(MEMORY, || {
        let recorder = Recorder::default();
        let answers = answered(sent, *draw as u64, |stream| converse(stream, &recorder, LIMITS));
        (answers, recorder.0.into_inner().expect("nobody panics with it"))
    });
    let meant = meant(sent);
    assert_eq!(seen, meant.seen, "found, and what the model reads");
    check_answers(&answers, &meant);
});
