//! Files that somebody names: only regular ones are read, and their names are shown as they are.

use crate::program::{PARTS, finish, folder, settings, stderr, tagpin};
use std::path::Path;
use std::time::{Duration, Instant};

fn stdout(out: &std::process::Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A bundle or settings read from /dev/zero took all memory, and from a pipe hung until somebody
/// wrote to it.
#[test]
fn a_pipe_a_device_and_a_folder_are_refused_in_words() {
    let folder = folder("regular");
    let fifo = folder.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let huge = folder.join("huge");
    std::fs::File::create(&huge).unwrap().set_len(3 << 30).unwrap();
    for (path, words) in [
        (fifo.as_path(), "only regular files are read"),
        (Path::new("/dev/zero"), "only regular files are read"),
        (&folder, "only regular files are read"),
        (&huge, "is a file of 3072 MB, at most"),
    ] {
        let path = path.to_str().unwrap();
        for arguments in [
            &["check", "--bundle", path][..],
            &["check", "--settings", path],
            &["run", "--settings", path, "--parts", "1"],
            &["run", "--bundle", path, "--parts", "1"],
            &["safe", "--settings", path],
            &["classify", path, path],
            &["classify", PARTS, path],
            &["inspect", path],
            &["bench", path],
            &["simulate", "--settings", path],
            &["simulate", "--bench", path],
            &["bench", PARTS, "--input", path],
            &["serve", &format!("one={path}"), "--listen", "127.0.0.1:0"],
        ] {
            // A folder of nothing is no file that is not regular, where images are looked for.
            if arguments == ["classify", PARTS, path] && path == folder.to_str().unwrap() {
                continue;
            }
            let begin = Instant::now();
            let out = finish(tagpin(arguments));
            assert!(begin.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", begin.elapsed());
            assert!(matches!(out.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {}", out.status, stderr(&out));
            assert!(stderr(&out).contains(words) || stdout(&out).contains(words), "{arguments:?}: {}", stderr(&out));
        }
    }
    assert!(finish(tagpin(&["check", "--bundle", PARTS])).status.success(), "the nearest good file");
    // Thresholds that were set at the page: a run waited for ever for them.
    let state = folder.join("state");
    std::fs::create_dir(&state).unwrap();
    let file = settings("regular-state", &format!("[state]\nfolder = \"{}\"\n", state.display()));
    let overrides = state.join("overrides.toml");
    let check = || finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    assert!(check().status.success(), "no overrides");
    std::fs::rename(&fifo, &overrides).unwrap();
    let out = check();
    let told = stderr(&out) + &stdout(&out);
    assert!(!out.status.success() && told.contains("overrides.toml: cannot be read: is a pipe"), "{told}");
}

/// A file's name could clear the screen of whoever classified it.
#[test]
fn names_command_no_terminal() {
    let folder = folder("names");
    let image = folder.join("a\u{1b}[2J\u{202e}b.jpg");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/part.jpg"), &image).unwrap();
    std::fs::write(folder.join("broken\u{1b}[2J.jpg"), "no image").unwrap();
    let out = finish(tagpin(&["classify", PARTS, folder.to_str().unwrap()]));
    let (told, skipped) = (stdout(&out), stderr(&out));
    assert!(told.contains("a\\u{1b}[2J\\u{202e}b.jpg"), "{told:?}");
    assert!(skipped.contains("broken\\u{1b}[2J.jpg"), "{skipped:?}");
    let missing = finish(tagpin(&["classify", PARTS, "gone\u{1b}[2J"]));
    assert!(stderr(&missing).contains("gone\\u{1b}[2J"), "{:?}", stderr(&missing));
    for text in [told, skipped, stderr(&missing)] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
}
