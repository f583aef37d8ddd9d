//! `tagpin capture`: which images are kept, how large the folder becomes, and how it ends.

use super::{HEADER, PART, camera, has_python, y4m_frame};
use crate::program::*;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

/// `tagpin capture` with a source and a folder, and what else is given.
fn capture(source: &str, out: &Path, more: &[&str]) -> std::process::Command {
    tagpin(&[&["capture", "--source", source, "--out", out.to_str().unwrap()], more].concat())
}

/// The same with standard input, which is closed behind `input`.
fn fed(source: &str, out: &Path, more: &[&str], input: &[u8]) -> Output {
    let mut command = capture(source, out, more);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that is refused reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    wait(child, Duration::from_secs(60))
}

/// Names of the files in a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn film(frames: usize) -> Vec<u8> {
    (0..frames).fold(HEADER.to_vec(), |film, n| [film, y4m_frame(n)].concat())
}

/// People must train on what their camera sees: full size, by digit into the tag's folder, never
/// beyond the limit.
#[test]
fn capture_keeps_images_in_tag_folders_and_stops_when_the_folder_is_full() {
    let out = folder("capture");
    let path = out.to_str().unwrap();
    let common = ["capture", "--source", "conveyor?fps=20", "--out", path];
    let mut child = tagpin(&[&common[..], &["--tags", "good,bad", "--count", "3"]].concat());
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    stdin.write_all(b"1\n2\n2\n").unwrap();
    let done = wait(child, Duration::from_secs(60));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let count = |name: &str| std::fs::read_dir(out.join(name)).map_or(0, |d| d.count());
    assert_eq!((count("good"), count("bad")), (1, 2));
    let last = tagpin::pictures::Picture::open(&out.join("last.jpg"), tagpin::pictures::Budget::DEVICE).unwrap();
    assert_eq!((last.width as usize, last.height as usize), (tagpin::scene::WIDTH, tagpin::scene::HEIGHT));
    let done = finish(tagpin(&[&common[..], &["--every", "0.05", "--max-mb", "1"]].concat()));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(stderr(&done).contains("--max-mb"), "{}", stderr(&done));
    let done = finish(tagpin(&[&common[..], &["--tags", "../out"]].concat()));
    assert_eq!(done.status.code(), Some(2));
}

/// The thread that reads the keys read the video: hundreds of images that nobody had asked for,
/// and torn ones.
#[test]
fn capture_refuses_standard_input_as_both_the_video_and_the_keys() {
    let out = folder("capture-stdin").join("out");
    for source in ["y4m:-", "faulty(y4m:-)?drop=0.1"] {
        let done = fed(source, &out, &[], &film(20));
        assert_eq!(done.status.code(), Some(2), "{source}: {}", stderr(&done));
        assert!(stderr(&done).contains("--every") && stderr(&done).contains("FIFO"), "{source}: {}", stderr(&done));
        assert!(!out.exists(), "{source}");
    }
    let done = fed("y4m:-", &out, &["--every", "0.01", "--count", "1"], &film(20));
    assert_eq!((done.status.code(), stderr(&done).as_str()), (Some(0), ""));
    assert_eq!(files(&out), ["000001.jpg", "last.jpg"]);
}

/// Lines that were there before the first frame, and the end of the input behind them: none of the
/// images was kept.
#[test]
fn capture_keeps_an_image_for_each_line_that_came_before_the_input_ended() {
    let out = folder("capture-lines");
    let done = fed("conveyor?fps=20", &out, &["--tags", "good,bad"], b"1\n2\n2\n");
    assert_eq!((done.status.code(), stderr(&done).as_str()), (Some(0), ""));
    assert_eq!((files(&out.join("good")).len(), files(&out.join("bad")).len()), (1, 2));
    let done = fed("conveyor?fps=20", &out, &["--tags", "good", "--count", "5"], b"1\n");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(stderr(&done).contains("1 of 5 images kept: standard input ended"), "{}", stderr(&done));
}

/// A live source that ended early was a success without a word. Files that ran out are one, with a
/// word.
#[test]
fn capture_says_how_many_images_of_how_many_it_kept_where_the_source_ends_early() {
    let folder = folder("capture-ends");
    let out = folder.join("live");
    let done = fed("y4m:-", &out, &["--every", "0.01", "--count", "50"], &film(4));
    assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
    let kept = files(&out).len() - 1;
    let told = format!("{kept} of 50 images kept: the live source ended after 4 whole frames");
    assert!((1..=4).contains(&kept) && stderr(&done).contains(&told), "{kept}: {}", stderr(&done));

    let (path, images) = (folder.join("a.y4m"), folder.join("images"));
    std::fs::write(&path, film(3)).unwrap();
    std::fs::create_dir(&images).unwrap();
    std::fs::copy(PART, images.join("a.jpg")).unwrap();
    std::fs::write(images.join("b.jpg"), "no image").unwrap();
    for (name, source, whole, lost) in [
        ("file", format!("y4m:{}", path.display()), 3, ""),
        ("images", format!("dir:{}", images.display()), 1, ", 1 more lost or damaged"),
    ] {
        let out = folder.join(format!("out-{name}"));
        let done = finish(capture(&source, &out, &["--every", "86400", "--count", "5"]));
        assert_eq!(done.status.code(), Some(0), "{name}: {}", stderr(&done));
        let told = format!("1 of 5 images kept: the source has no more than {whole} whole frames{lost}\n");
        assert!(stderr(&done).contains(&told), "{name}: {}", stderr(&done));
    }
    let source = format!("y4m:{}", path.display());
    let done = finish(capture(&source, &folder.join("enough"), &["--every", "9", "--count", "1"]));
    assert_eq!((done.status.code(), stderr(&done).as_str()), (Some(0), ""));
}

/// Not one image could be read, and that was a success.
#[test]
fn capture_of_damaged_files_alone_is_no_success() {
    let folder = folder("capture-damaged");
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    let whole = std::fs::read(PART).unwrap();
    std::fs::write(images.join("a.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(images.join("b.jpg"), "").unwrap();
    let done = finish(capture(&format!("dir:{}", images.display()), &folder.join("out"), &["--every", "0.01"]));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let told = stderr(&done);
    assert!(told.contains("0 images kept: ") && told.contains("without a whole frame, 2 lost or damaged"), "{told}");
}

/// A source of files that a drill took away was asked again for ever.
#[test]
fn capture_goes_on_or_ends_behind_a_file_source_that_is_gone() {
    let folder = folder("capture-gone");
    std::fs::copy(PART, folder.join("a.jpg")).unwrap();
    std::fs::copy(PART, folder.join("b.jpg")).unwrap();
    let source = format!("faulty(dir:{})?gone=1", folder.display());
    let done = finish(capture(&source, &folder.join("out"), &["--every", "1"]));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(stderr(&done).contains("2 lost or damaged"), "{}", stderr(&done));
}

/// "holds 0 MB: full" was said at --max-mb 1, and with last.jpg the folder held more than that.
#[test]
fn capture_counts_all_that_is_in_the_folder_and_says_how_much_that_is() {
    let out = folder("capture-full");
    let done = finish(capture("conveyor?fps=60", &out, &["--every", "0.01", "--max-mb", "1", "--quality", "100"]));
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    let all = files(&out);
    let bytes: u64 = all.iter().map(|name| std::fs::metadata(out.join(name)).unwrap().len()).sum();
    assert!(all.contains(&"last.jpg".to_string()) && !all.iter().any(|name| name.ends_with(".part")), "{all:?}");
    assert!((900_000..=1 << 20).contains(&bytes), "{bytes}");
    let held = bytes.div_ceil(1024);
    assert!(told.contains(&format!("{} images kept: ", all.len() - 1)), "{told}");
    assert!(told.contains(&format!("is full: it holds {held} KB, and ")) && told.contains("--max-mb 1"), "{told}");
}

/// What could not be written whole was left behind: `last.jpg.part`, or half an image among those
/// to train on.
#[test]
fn capture_leaves_no_half_image_where_one_cannot_be_written() {
    if emulated() {
        eprintln!("skipped: the limit's signal ends the emulator, whatever the program does with it");
        return;
    }
    // A file that may not grow is refused as on a full disk.
    let out = folder("capture-unwritten");
    let program = capture("conveyor?fps=20", &out, &["--every", "0.01"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    let done = finish(command);
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    let told = stderr(&done);
    assert!(told.contains("0 images kept: ") && told.contains("cannot be written"), "{told}");
    assert_eq!(files(&out), [""; 0]);
}

/// `run` and `check` told what a camera program that stalled had said, `capture` did not; and of
/// its colours half a sequence was shown.
#[test]
fn capture_tells_the_last_words_of_a_camera_program_that_gives_no_frame_without_their_colours() {
    if !has_python() {
        return;
    }
    let body = "n = 0\nwhile True:\n    frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)\n    \
                if lives == 1 and n == 10:\n        \
                sys.stderr.write('\\x1b[1;31mERROR: *** no answer ***\\x1b[0m\\n'); sys.stderr.flush()\n        \
                time.sleep(1000)";
    let (folder, source) = camera("capture-says", body);
    let done = finish(capture(&source, &folder.join("out"), &["--every", "0.5", "--count", "4"]));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let told = "tagpin: no frame came in time; the last that the camera program said: ERROR: *** no answer ***\n";
    assert!(stderr(&done).contains(told), "{}", stderr(&done));
}
