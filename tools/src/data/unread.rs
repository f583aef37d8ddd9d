//! Identifies a file that no decoder accepts, by its first bytes: a decoder's own message says only
//! that it is not an image.

use super::files;
use super::left_out::Kind;

/// The kind of a file that no decoder accepts, and why it is left out.
pub fn what_it_is(bytes: &[u8], error: &str) -> (Kind, String) {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let format = match bytes.get(4..12) {
        Some(b"ftypavif" | b"ftypavis") => Some("AVIF"),
        Some(b) if b.starts_with(b"ftyphei") || b.starts_with(b"ftyphev") || b.starts_with(b"ftypmif1") => Some("HEIC"),
        Some(b) if b.starts_with(b"ftyp") => Some("film"),
        _ if starts(b"II*\0") || starts(b"MM\0*") => Some("TIFF"),
        _ if starts(b"GIF8") => Some("GIF"),
        _ => None,
    };
    if let Some(name) = format {
        return (
            Kind::Format(name.into()),
            format!("by its bytes it is {name}, whatever its ending; {}", files::undecoded(name)),
        );
    }
    let why = if bytes.is_empty() {
        "it is empty".into()
    } else if bytes.len() < 1024 && looks_like_a_link(bytes) {
        let to = String::from_utf8_lossy(bytes);
        format!("it holds only the path {}: a symbolic link that was copied as text; copy the images themselves", to.trim())
    } else if bytes.trim_ascii_start().starts_with(b"<") {
        "it is HTML or XML, as a failed download leaves; fetch it again".into()
    } else {
        error.into()
    };
    (Kind::Damaged, why)
}

fn looks_like_a_link(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.trim();
    !text.contains(['\n', '\0']) && (text.starts_with("../") || text.starts_with('/') || text.starts_with("./"))
}
