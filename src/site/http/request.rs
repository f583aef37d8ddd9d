//! A request's head.

use super::{MAX_HEAD, MAX_HEADERS};

/// What may stand around a value; other spaces of Unicode belong to it.
const BLANKS: [char; 2] = [' ', '\t'];

/// How the length of a body is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    None,
    /// That many bytes.
    Bytes(u64),
    /// In pieces that each state their own.
    Chunked,
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// Segments of the path, with escapes undone; none of them is empty, `.` or `..`.
    pub path: Vec<String>,
    /// Who asks, where that is known.
    pub peer: Option<std::net::IpAddr>,
    query: Vec<(String, String)>,
    /// Names in small letters, values without blanks around them.
    headers: Vec<(String, String)>,
    /// Whether the connection stays open after the answer.
    pub(super) keep_alive: bool,
    /// Whether the client sends its body only when it is asked to.
    pub(super) expects_continue: bool,
    pub(super) length: Length,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// It is no HTTP, or ambiguous: what is wrong.
    Malformed(&'static str),
    /// It is larger than [`MAX_HEAD`], or has more headers than [`MAX_HEADERS`].
    TooLarge,
}

impl Request {
    /// Reads a head: the request and the bytes that it took; `None` while it has no end yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadHead> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let taken = match head.parse(bytes) {
            Ok(httparse::Status::Complete(taken)) if taken <= MAX_HEAD => taken,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
            Err(_) => return Err(BadHead::Malformed("no HTTP/1.1 head")),
        };
        let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
            return Err(BadHead::Malformed("no HTTP/1.1 request line"));
        };
        let headers = head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
        Self::checked(method, target, minor, headers).map(|request| Some((request, taken))).map_err(BadHead::Malformed)
    }

    fn checked(method: &str, target: &str, minor: u8, mut headers: Vec<(String, String)>) -> Result<Self, &'static str> {
        let values = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        let hosts = values("host");
        if hosts.len() > 1 || hosts.is_empty() && minor > 0 {
            return Err("expected one Host header");
        }
        // Two statements of a body's length are how one request is hidden in another.
        let length = match (values("transfer-encoding").as_slice(), values("content-length").as_slice()) {
            ([], []) => Length::None,
            ([], [n]) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                Length::Bytes(n.parse().map_err(|_| "Content-Length is too large")?)
            }
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") && minor > 0 => Length::Chunked,
            _ => return Err("expected one Content-Length, or Transfer-Encoding: chunked"),
        };
        let connection = values("connection").join(",").to_ascii_lowercase();
        let asks = |word: &str| connection.split(',').any(|w| w.trim_matches(BLANKS) == word);
        let keep_alive = !asks("close") && (minor > 0 || asks("keep-alive"));
        let expects_continue = minor > 0 && values("expect").iter().any(|v| v.eq_ignore_ascii_case("100-continue"));
        let (host, local) = local(target).ok_or("expected a path that begins with /")?;
        // Where both are stated, the target's counts: RFC 9112, 3.2.2.
        if let Some(host) = host {
            headers.retain(|(name, _)| name != "host");
            headers.push(("host".into(), host.into()));
        }
        let (path, query) = local.split_once('?').unwrap_or((local, ""));
        let segments: Option<Vec<String>> = path.split('/').filter(|s| !s.is_empty()).map(|s| unescape(s, false)).collect();
        let path = segments.ok_or("the path has an escape that is no text")?;
        if path.iter().any(|s| matches!(s.as_str(), "." | "..") || s.contains(['/', '\\', '\0'])) {
            return Err("the path leads elsewhere");
        }
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, true)?, unescape(value, true)?))
        };
        let query: Option<Vec<_>> = query.split('&').filter(|p| !p.is_empty()).map(pair).collect();
        let query = query.ok_or("the query has an escape that is no text")?;
        Ok(Self { method: method.into(), path, peer: None, query, headers, keep_alive, expects_continue, length })
    }

    /// A header's first value; `name` in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether its body is said to be JSON.
    pub fn is_json(&self) -> bool {
        let kind = self.header("content-type").and_then(|kind| kind.split(';').next());
        kind.is_some_and(|kind| kind.trim_matches(BLANKS).eq_ignore_ascii_case("application/json"))
    }

    /// A parameter of the query; the first, where it is repeated.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    /// All values of a parameter that may be repeated.
    pub fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The path's segments, for matching.
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// Path and query of a target, behind its host. It may be a whole address, which a proxy is sent;
/// then its path may be empty.
fn local(target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    let is_address = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let (host, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    is_address.then_some((Some(host), local))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Undoes `%41`, and `+` where it stands for a space; `None` if that gives no text.
fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}
