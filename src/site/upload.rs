//! The image in a request's body: the body itself, or the part of a form that holds it.

/// The part's name that Custom Vision's clients use.
const PART: &str = "imagedata";

/// The image's bytes, a part of `body`, never none. `kind`: the body's content type. `Err`: what
/// was expected.
pub fn image<'b>(kind: &str, body: &'b [u8]) -> Result<&'b [u8], &'static str> {
    let media = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let image = match media.as_str() {
        "multipart/form-data" => {
            let boundary = parameter(kind, "boundary").filter(|b| (1..=70).contains(&b.len()));
            part(&boundary.ok_or("the form states no boundary")?, body)?
        }
        // The last is what curl calls any bytes unless it is told otherwise.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => body,
        media if media.starts_with("image/") => body,
        _ => return Err("expected an image as application/octet-stream, image/*, or a form with a part imageData"),
    };
    if image.is_empty() { Err("expected an image, found nothing") } else { Ok(image) }
}

/// A parameter of a header's value, with or without quotes.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim_end(), &after[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(found.into());
        }
        rest = next.trim_start().strip_prefix(';').unwrap_or("");
    }
}

/// Where `needle` begins in `bytes`. It begins with a carriage return, which images have few of.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&b| b == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The part that is named `imageData`; where none is, the first that is a file or the only one.
fn part<'b>(boundary: &str, body: &'b [u8]) -> Result<&'b [u8], &'static str> {
    const WRONG: &str = "the form is not whole";
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter may stand at the very beginning.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => &body[find(body, &delimiter).ok_or(WRONG)? + delimiter.len()..],
    };
    let mut files = Vec::new();
    while !rest.starts_with(b"--") {
        let head = find(rest, b"\r\n").ok_or(WRONG)?;
        rest = &rest[head..];
        // A part without headers has its empty line at once.
        let end = find(rest, b"\r\n\r\n").ok_or(WRONG)?;
        let headers = String::from_utf8_lossy(&rest[..end]).into_owned();
        let content = &rest[end + 4..];
        let length = find(content, &delimiter).ok_or(WRONG)?;
        let disposition = headers.lines().find(|l| l.to_ascii_lowercase().starts_with("content-disposition:")).unwrap_or("");
        if parameter(disposition, "name").is_some_and(|n| n.eq_ignore_ascii_case(PART)) {
            return Ok(&content[..length]);
        }
        files.push((parameter(disposition, "filename").is_some(), &content[..length]));
        rest = &content[length + delimiter.len()..];
    }
    let file = files.iter().find(|(is_file, _)| *is_file || files.len() == 1);
    file.map(|(_, content)| *content).ok_or("the form has no part imageData")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (head, content) in parts {
            body.extend_from_slice(format!("--B-1\r\n{head}\r\n\r\n").as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--B-1--\r\n");
        body
    }

    #[test]
    fn the_image_is_found_in_bodies_and_forms() {
        let bytes: &[u8] = b"\xff\xd8\r\n--B\r\n\r\nend";
        let named = "Content-Disposition: form-data; name=\"imageData\"; filename=\"a; name=b.jpg\"";
        let other = "content-disposition: form-data; name=file; filename=x.jpg\r\nContent-Type: image/jpeg";
        let text = "Content-Disposition: form-data; name=\"note\"";
        let kind = "multipart/form-data; charset=utf-8; boundary=\"B-1\"";
        for (kind, body) in [
            ("application/octet-stream", bytes.to_vec()),
            ("image/jpeg; q=1", bytes.to_vec()),
            ("", bytes.to_vec()),
            ("application/x-www-form-urlencoded", bytes.to_vec()),
            (kind, form(&[(named, bytes)])),
            ("Multipart/Form-Data;boundary=B-1", form(&[(text, b"1"), (named, bytes)])),
            (kind, form(&[(other, b"no"), (named, bytes)])),
            (kind, form(&[(text, b"1"), (other, bytes)])),
            (kind, form(&[(text, bytes)])),
            (kind, [b"preamble\r\n".to_vec(), form(&[(named, bytes)])].concat()),
        ] {
            assert_eq!(image(kind, &body), Ok(bytes), "{kind} {}", String::from_utf8_lossy(&body));
        }
        for (kind, body) in [
            ("application/json", bytes.to_vec()),
            ("application/octet-stream", vec![]),
            ("multipart/form-data", form(&[(named, bytes)])),
            ("multipart/form-data; boundary=other", form(&[(named, bytes)])),
            (kind, form(&[(text, bytes), (text, bytes)])),
            (kind, form(&[])),
            (kind, form(&[(named, b"")])),
        ] {
            assert!(image(kind, &body).is_err(), "{kind}");
        }
    }

    #[test]
    fn no_bytes_make_a_form_panic_and_a_cut_one_is_no_image() {
        let head = "Content-Disposition: form-data; name=\"imageData\"";
        let whole = form(&[("X: y", b"1"), (head, b"the image")]);
        for cut in 0..whole.len() - "B-1--\r\n".len() - 2 {
            assert!(image("multipart/form-data; boundary=B-1", &whole[..cut]).is_err(), "{cut}");
        }
        let (seed, cases) = crate::random::drawn_cases(20_000);
        for case in 0..cases {
            let mut random = crate::random::Random::new(seed, case);
            let mut bytes = whole.clone();
            for _ in 0..3 {
                let at = random.range(0, bytes.len() as i32 - 1) as usize;
                bytes[at] = random.next() as u8;
            }
            let _ = image("multipart/form-data; boundary=B-1", &bytes);
            let kind: String = bytes[..40].iter().map(|&b| char::from(b)).collect();
            let _ = image(&format!("multipart/form-data; {kind}"), &bytes);
        }
    }
}
