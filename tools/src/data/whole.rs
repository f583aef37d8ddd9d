//! Whether a file is a whole picture where decoders are lenient, and what it is where they say only that it is none.

use super::files;
use super::left_out::Kind;

/// What a file that no decoder reads is, by its first bytes, and why it is left out.
pub fn unread(bytes: &[u8], error: &str) -> (Kind, String) {
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
        format!(
            "it holds only the path {}: a symbolic link that was copied as text; copy the pictures themselves",
            to.trim()
        )
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

/// What is wrong with a file that decodes: a JPEG may lack its end, or have a hole of zeros, and give a grey area without an error.
pub fn fault(bytes: &[u8]) -> Option<String> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    // Whether a long run of zero bytes can be a picture: where an AC table's shortest code is "end of block", a flat area is zeros.
    let mut zeros_are_flat = true;
    let (mut baseline, mut hole, mut ended, mut at) = (false, 0, false, 2);
    while at + 1 < bytes.len() {
        let [0xff, marker] = bytes[at..at + 2] else { return None };
        if marker == 0xff {
            at += 1;
            continue;
        }
        ended = marker == 0xd9;
        if ended {
            break;
        }
        let Some(length) = bytes.get(at + 2..at + 4) else { break };
        let length = u16::from_be_bytes([length[0], length[1]]) as usize;
        let Some(segment) = bytes.get(at + 4..at + 2 + length.max(2)) else { break };
        match marker {
            0xc0 | 0xc1 => baseline = true,
            0xc4 => zeros_are_flat &= !has_ac_code_of_zeros_that_goes_on(segment),
            _ => {}
        }
        at += 2 + length.max(2);
        if marker == 0xda {
            let begin = at;
            while at + 1 < bytes.len() && (bytes[at] != 0xff || matches!(bytes[at + 1], 0 | 0xd0..=0xd7)) {
                at += 1;
            }
            let runs = bytes[begin..at].chunk_by(|a, b| a == b).filter(|r| r[0] == 0).map(<[u8]>::len);
            hole = hole.max(runs.max().unwrap_or(0));
        }
    }
    if !ended {
        return Some("the JPEG has no end: it was cut off, and its lower part is grey; copy it again".into());
    }
    let holed = baseline && !zeros_are_flat && hole >= HOLE;
    holed.then(|| "the JPEG has a hole of zeros, behind which it is garbage; copy it again".into())
}

/// Bytes of zeros that no picture needs.
const HOLE: usize = 128;

/// Whether an AC table of a DHT segment (ITU-T T.81, B.2.4.2) gives its all-zero code to anything but "end of block".
fn has_ac_code_of_zeros_that_goes_on(mut segment: &[u8]) -> bool {
    while let [class, rest @ ..] = segment {
        let Some((counts, symbols)) = rest.split_at_checked(16) else { return false };
        let all: usize = counts.iter().map(|n| *n as usize).sum();
        let (Some(first), Some(next)) = (symbols.first(), symbols.get(all..)) else { return false };
        if class >> 4 == 1 && *first != 0 {
            return true;
        }
        segment = next;
    }
    false
}
