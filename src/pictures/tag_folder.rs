//! Folders that are named for tags: of a tag that cannot be a folder's name, too.

/// Most bytes of a folder's name; file systems take 255.
const LONGEST: usize = 180;

/// The folder of a tag: its name wherever that can be a folder's. What would lead elsewhere, be
/// hidden or command a terminal, and `%` itself, stands there as `%` and two hexadecimal digits; a
/// leading `_` too, which is for folders of no tag. No two tags have one folder.
pub fn tag_folder(tag: &str) -> String {
    let mut name = String::new();
    for (i, c) in tag.char_indices() {
        let leads = i == 0 && (c == '.' || c == '_');
        if leads || c.is_control() || matches!(c, '/' | '\\' | '%') {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| name += &format!("%{b:02X}"));
        } else {
            name.push(c);
        }
    }
    if name.len() <= LONGEST {
        return name;
    }
    let end = (0..=LONGEST).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let hash = crate::bundle::sha256(tag.as_bytes());
    let hash: String = hash[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}%-{hash}", &name[..end])
}

/// The tag whose folder has this name: the name itself where [`tag_folder`] writes no such name, as
/// of a folder that somebody made by hand or of a tag too long for a folder's name.
pub fn folder_tag(folder: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = folder.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        let (byte, taken) = escaped.filter(|_| *first == b'%').map_or((*first, 1), |byte| (byte, 3));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    String::from_utf8(bytes).ok().filter(|tag| tag_folder(tag) == folder).unwrap_or_else(|| folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    /// A tag is data of a bundle that somebody else may have made: it leads out of no folder.
    #[test]
    fn a_tag_is_one_folder_of_its_own_below_the_rings_whatever_it_is_called() {
        for (tag, name) in [
            ("bolt", "bolt"),
            ("gear chipped", "gear chipped"),
            ("Mutter-5,0_ü", "Mutter-5,0_ü"),
            ("..", "%2E."),
            (".", "%2E"),
            ("../../etc/cron.d", "%2E.%2F..%2Fetc%2Fcron.d"),
            ("/etc", "%2Fetc"),
            ("a/b", "a%2Fb"),
            ("_foreign", "%5Fforeign"),
            ("100%", "100%25"),
            ("a\u{1b}[2J\0\n\u{85}", "a%1B[2J%00%0A%C2%85"),
        ] {
            assert_eq!(tag_folder(tag), name);
            assert_eq!(folder_tag(name), tag);
        }
        for by_hand in ["100%", "50%2f", "%41", "a%2", "%+1", "%FF", "_unknown", "%E2%82%AC"] {
            assert_eq!(folder_tag(by_hand), by_hand);
        }
        let (seed, cases) = drawn_cases(2000);
        let mut names = std::collections::BTreeMap::new();
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let length = random.range(1, 5) as usize * if random.range(0, 9) == 0 { 60 } else { 1 };
            let letters = ['a', '/', '.', '%', '_', '2', 'F', '\\', '\u{7f}', '\u{fffd}', '🔩'];
            let tag: String = (0..length).map(|_| letters[random.range(0, letters.len() as i32 - 1) as usize]).collect();
            let name = tag_folder(&tag);
            assert!(name.len() <= 255 && !name.starts_with(['.', '_']) && !name.contains(['/', '\0']), "{tag}: {name}");
            let whose = names.entry(name.clone()).or_insert(tag.clone());
            assert_eq!(*whose, tag, "{name}");
            assert!(folder_tag(&name) == tag || name.contains("%-") && folder_tag(&name) == name, "{tag}: {name}");
        }
    }
}
