//! An answer.

/// An answer to a request.
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) content: Vec<u8>,
}

/// The reason phrase of a status; empty where none is needed.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

impl Response {
    /// An answer of bytes.
    pub fn new(status: u16, kind: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", kind.to_string()), ("X-Content-Type-Options", "nosniff".into())];
        Self { status, headers, content: bytes.into() }
    }

    /// An answer of plain text, with an end of line.
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// An answer of JSON.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(value).expect("records of text and numbers are JSON");
        Self::new(status, "application/json", bytes)
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Status line and headers, with the empty line after them.
    pub(super) fn head(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // Where there is nothing, its length is not stated either (RFC 9110, 8.6).
        if self.status != 204 {
            head += &format!("Content-Length: {}\r\n", self.content.len());
        }
        head += if keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" };
        head.into_bytes()
    }
}
