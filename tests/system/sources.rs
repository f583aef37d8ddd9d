//! Sources that misbehave, through the binary: what is not whole, not in time or of unknown age
//! decides nothing, and is told.

mod cameras;
mod capture;

use crate::program::*;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

const PART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/part.jpg");

fn verdicts(events: &[Value]) -> usize {
    of(events, "part").iter().filter(|e| e["verdict"] != "safe").count()
}

fn faults(events: &[Value], kind: &str) -> u64 {
    summary(events)["faults"][kind].as_u64().unwrap_or(0)
}

fn run_folder(folder: &Path) -> (Output, Vec<Value>) {
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--source", &format!("dir:{}", folder.display())]));
    let all = events(&out);
    (out, all)
}

/// A JPEG that broke off was decoded with grey for the rest, and sorted.
#[test]
fn an_image_that_breaks_off_decides_nothing_and_the_next_one_does() {
    let folder = folder("cut-jpeg");
    let whole = std::fs::read(PART).unwrap();
    std::fs::write(folder.join("a.jpg"), &whole[..whole.len() / 2]).unwrap();
    let closed = [&whole[..whole.len() / 2], &[0xff, 0xd9]].concat();
    std::fs::write(folder.join("b.jpg"), closed).unwrap();
    std::fs::write(folder.join("c.jpg"), &whole).unwrap();
    let (out, all) = run_folder(&folder);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!((faults(&all, "corrupt"), verdicts(&all)), (2, 1));
    let out = finish(tagpin(&["classify", PARTS, folder.to_str().unwrap()]));
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("2 of 3 files were skipped"), "{}", stderr(&out));
}

#[test]
fn pictures_beyond_the_budget_are_refused_in_words_and_the_run_goes_on() {
    let folder = folder("budget");
    // A PNG that states 5000 x 5000 and holds nothing: 72 MB of pixels.
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let ihdr = [b"IHDR".as_slice(), &5000u32.to_be_bytes(), &5000u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for body in [ihdr.as_slice(), b"IDAT", b"IEND"] {
        bytes.extend((body.len() as u32 - 4).to_be_bytes());
        bytes.extend(body);
        bytes.extend(crc32(body).to_be_bytes());
    }
    std::fs::write(folder.join("a.png"), bytes).unwrap();
    std::fs::copy(PART, folder.join("b.jpg")).unwrap();
    let out = finish(tagpin(&["classify", PARTS, folder.to_str().unwrap(), "--picture-mb", "64"]));
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("5000x5000") && stderr(&out).contains("at most 64 MB"), "{}", stderr(&out));
    let text = format!("[source]\nopen = \"dir:{}\"\npicture_mb = 64\n", folder.display());
    let file = settings("budget-settings", &text);
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file]));
    let all = events(&out);
    assert_eq!((out.status.code(), faults(&all, "corrupt"), verdicts(&all)), (Some(0), 1, 1));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ byte as u32, |c, _| (c >> 1) ^ (0xedb8_8320 * (c & 1))))
}

#[test]
fn a_folder_says_what_it_left_out_and_an_empty_one_is_refused() {
    let root = folder("left-out");
    let (full, linked) = (root.join("full"), root.join("linked"));
    std::fs::create_dir(&full).unwrap();
    std::fs::create_dir(&linked).unwrap();
    std::fs::copy(PART, linked.join("1.jpg")).unwrap();
    std::os::unix::fs::symlink(&linked, full.join("link")).unwrap();
    std::fs::write(full.join("phone.heic"), "").unwrap();
    let (out, all) = run_folder(&full);
    assert_eq!((out.status.code(), verdicts(&all)), (Some(0), 1));
    assert!(stderr(&out).contains("1 .heic file"), "{}", stderr(&out));
    std::fs::remove_file(full.join("link")).unwrap();
    let path = full.to_str().unwrap();
    for args in [vec!["classify", PARTS, path], vec!["run", "--bundle", PARTS, "--source", &format!("dir:{path}")]] {
        let out = finish(tagpin(&args));
        assert_eq!(out.status.code(), Some(2), "{args:?}");
    }
}

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const HEADER: &[u8] = b"YUV4MPEG2 W320 H240 F20:1 Ip C420\n";

/// A frame of one grey, so that a torn one would hold two.
fn y4m_frame(n: usize) -> Vec<u8> {
    let mut frame = b"FRAME\n".to_vec();
    frame.extend(vec![(40 + 3 * n % 180) as u8; WIDTH * HEIGHT]);
    frame.extend(vec![128; WIDTH * HEIGHT / 2]);
    frame
}

/// Feeds standard input by a list of bytes and pauses; gives the output and the recorded images.
fn feed(name: &str, pieces: Vec<(Vec<u8>, u64)>) -> (Output, Vec<Value>, Vec<Vec<u8>>) {
    let record = folder(name).join("record");
    let mut run = tagpin(&run_recorded("y4m:-", record.to_str().unwrap()));
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for (bytes, pause) in pieces {
            if stdin.write_all(&bytes).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
    });
    let out = wait(child, Duration::from_secs(120));
    writer.join().unwrap();
    recorded(out, &record)
}

fn run_recorded<'a>(source: &'a str, record: &'a str) -> [&'a str; 8] {
    ["run", "--bundle", PARTS, "--json", "--source", source, "--record", record]
}

/// The output, the events, and the images in the folder of a recorded run.
fn recorded(out: Output, record: &Path) -> (Output, Vec<Value>, Vec<Vec<u8>>) {
    let all = events(&out);
    let files = std::fs::read_dir(record).unwrap().flatten().map(|e| e.path());
    let images = files.filter(|p| p.extension().is_some_and(|e| e == "rgb")).map(|p| std::fs::read(p).unwrap()).collect();
    (out, all, images)
}

fn assert_none_is_torn(images: &[Vec<u8>]) {
    for image in images {
        let (least, most) = (image.iter().min().unwrap(), image.iter().max().unwrap());
        assert!(most - least <= 2, "an image of grey levels {least} to {most}");
    }
}

/// A writer's pause inside a frame ended the run with exit 0, and all later frames were lost.
#[test]
fn a_pause_inside_a_frame_costs_that_frame_and_no_image_is_torn() {
    let mut pieces = vec![(HEADER.to_vec(), 0)];
    for n in 0..40 {
        let frame = y4m_frame(n);
        if n == 12 {
            pieces.push((frame[..50_000].to_vec(), 1800));
            pieces.push((frame[50_000..].to_vec(), 50));
        } else {
            pieces.push((frame, 50));
        }
    }
    let (out, all, images) = feed("y4m-pause", pieces);
    assert_eq!(out.status.code(), Some(3), "a live stream that ends is no success: {}", stderr(&out));
    assert!(faults(&all, "truncated") >= 1, "{}", summary(&all));
    assert!(images.len() >= 15, "{} images", images.len());
    assert_none_is_torn(&images);
    // It went on behind the pause: the last image is one of the last frames.
    let last = (40 + 3 * 39) as f32;
    let seen = images.iter().map(|p| p[0] as f32 / 255.0 * 219.0 + 16.0).fold(0.0, f32::max);
    assert!(last - seen < 20.0, "the brightest image is {seen}, the last frame {last}");
}

#[test]
fn a_stream_that_breaks_off_or_loses_its_framing_is_told() {
    let frames = |from: usize, to: usize| (from..to).map(|n| (y4m_frame(n), 50));
    let start = || vec![(HEADER.to_vec(), 0)].into_iter();
    let (out, all, images) =
        feed("y4m-cut", start().chain(frames(0, 12)).chain([(y4m_frame(12)[..9_000].to_vec(), 0)]).collect());
    assert_eq!(out.status.code(), Some(3));
    assert!(faults(&all, "truncated") + faults(&all, "source_gone") >= 1);
    assert_none_is_torn(&images);
    // Foreign bytes, then a writer that was started again.
    let junk = (vec![7; 5_000], 50);
    let again = (HEADER.to_vec(), 0);
    let pieces = start().chain(frames(0, 12)).chain([junk]).chain(frames(12, 20)).chain([again]).chain(frames(20, 34));
    let (out, all, images) = feed("y4m-junk", pieces.collect());
    assert_eq!(out.status.code(), Some(3));
    assert!(faults(&all, "corrupt") >= 1, "{}", summary(&all));
    assert!(images.len() >= 15, "{} images", images.len());
    assert_none_is_torn(&images);
}

/// A writer that was killed inside a frame and started again at once, or lost some bytes: the rest
/// of the frame was taken from the next one, headers and all, and sorted.
#[test]
fn a_frame_with_bytes_missing_is_not_filled_up_from_the_next_one() {
    let whole = y4m_frame(12);
    for (name, cut, again, file) in [
        ("y4m-again", 60_000, HEADER, false),
        ("y4m-again-tail", whole.len() - 30, HEADER, false),
        ("y4m-missing", 60_000, b"", false),
        ("y4m-missing-tail", whole.len() - 5, b"", false),
        ("y4m-missing-file", 60_000, b"", true),
    ] {
        let mut pieces = vec![(HEADER.to_vec(), 0)];
        pieces.extend((0..12).map(|n| (y4m_frame(n), 50)));
        pieces.extend([(whole[..cut].to_vec(), 0), (again.to_vec(), 0)]);
        pieces.extend((13..34).map(|n| (y4m_frame(n), 50)));
        let (out, all, images) = if file {
            let folder = folder(name);
            let (path, record) = (folder.join("a.y4m"), folder.join("record"));
            std::fs::write(&path, pieces.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>()).unwrap();
            let source = format!("y4m:{}", path.display());
            recorded(finish(tagpin(&run_recorded(&source, record.to_str().unwrap()))), &record)
        } else {
            feed(name, pieces)
        };
        assert_eq!(out.status.code(), Some(if file { 0 } else { 3 }), "{name}: {}", stderr(&out));
        assert!(faults(&all, "truncated") >= 1, "{name}: {}", summary(&all));
        assert_none_is_torn(&images);
        // It goes on behind the gap: the last frames are there.
        let last = (40 + 3 * 33) as f32;
        let seen = images.iter().map(|p| p[0] as f32 / 255.0 * 219.0 + 16.0).fold(0.0, f32::max);
        assert!(images.len() >= 12 && last - seen < 20.0, "{name}: {} images, the brightest {seen}", images.len());
    }
}

#[test]
fn a_y4m_file_that_is_cut_is_told_and_a_whole_one_ends_well() {
    let folder = folder("y4m-file");
    let path = folder.join("cut.y4m");
    let mut bytes = HEADER.to_vec();
    (0..4).for_each(|n| bytes.extend(y4m_frame(n)));
    for (cut, truncated) in [(0, 0), (3_000, 1)] {
        std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--source", &format!("y4m:{}", path.display())]));
        let all = events(&out);
        assert_eq!((out.status.code(), faults(&all, "truncated")), (Some(0), truncated), "{}", stderr(&out));
        assert_eq!(verdicts(&all) as u64, 4 - truncated);
    }
}

/// A pretended camera program; `body` is run for each of its lives, with `$M` the metadata's path.
pub fn camera(name: &str, body: &str) -> (PathBuf, String) {
    let folder = folder(name);
    let program = folder.join("camera.py");
    let text = format!(
        "#!/usr/bin/env python3\nimport os, sys, time\na = sys.argv\n\
         meta = open(a[a.index('--metadata') + 1], 'wb', buffering=0) if '--metadata' in a else None\n\
         starts = {starts:?}\nopen(starts, 'a').write('start\\n')\nlives = len(open(starts).read().split())\n\
         W, H = 128, 96\n\
         def out(b):\n    v = memoryview(b)\n    while v:\n        v = v[os.write(1, v):]\n\
         def frame(n):\n    out(bytes([40 + n % 180]) * (W * H) + bytes([128]) * (W * H // 2))\n\
         def stamp(t):\n    meta.write(b'SensorTimestamp=%d\\n\\n' % int(t * 1e9))\n{body}\n",
        starts = folder.join("starts").display().to_string(),
    );
    script(&program, &text);
    let source = format!("rpicam:?width=128&height=96&fps=20&program={}", program.display());
    (folder, source)
}

pub fn starts(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("starts")).unwrap_or_default().lines().count()
}

pub fn has_python() -> bool {
    let found = std::process::Command::new("python3").arg("-c").arg("").status().is_ok_and(|s| s.success());
    if !found {
        eprintln!("skipped: the pretended camera needs python3");
    }
    found
}

/// It took longer for its first frame than may pass between two: it was killed and started again
/// for ever.
#[test]
fn a_camera_that_starts_slowly_is_waited_for() {
    if !has_python() {
        return;
    }
    let (folder, source) = camera(
        "slow-start",
        "time.sleep(1.5)\nn = 0\nwhile True:\n    frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)",
    );
    let text = format!("[source]\nopen = \"{source}\"\nframe_timeout_ms = 400\n");
    let file = settings("slow-start-settings", &text);
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "20"]));
    assert_eq!((out.status.code(), starts(&folder)), (Some(0), 1), "{}", stderr(&out));
}

/// Ten seconds of silence looked as if the check hung.
#[test]
fn check_says_on_a_terminal_that_it_waits_and_leaves_nothing_behind() {
    if !has_python() {
        return;
    }
    /// Runs a command with standard error on a terminal and standard output in a file; prints what
    /// the terminal got.
    const TERMINAL: &str = "import pty, sys\npty.spawn(['sh', '-c', '\"$@\" > \"$0\"'] + sys.argv[1:])";
    let life = "n = 0\nwhile True:\n    frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)";
    for (name, start, shown) in [("waits", "time.sleep(2.2)", true), ("at-once", "pass", false)] {
        let (folder, source) = camera(name, &format!("{start}\n{life}"));
        let text = format!("[source]\nopen = \"{source}\"\nfirst_frame_timeout_ms = 9000\n");
        let file = settings(&format!("{name}-settings"), &text);
        let check = tagpin(&["check", "--bundle", PARTS, "--settings", &file]);
        let found = folder.join("found");
        let mut command = std::process::Command::new("python3");
        command.args(["-c", TERMINAL]).arg(&found).arg(check.get_program()).args(check.get_args());
        let out = finish(command);
        let seen = String::from_utf8_lossy(&out.stdout).into_owned();
        let found = std::fs::read_to_string(found).unwrap();
        assert!(found.contains("ok       source"), "{found}\n{seen}");
        if shown {
            for seconds in 0..=2 {
                let line = format!("\rwaiting for the first frame: {seconds} s; first_frame_timeout_ms is 9000");
                assert!(seen.contains(&line), "{seconds}: {seen:?}");
            }
        }
        // Either nothing at all, or blanks over what was there.
        let rows: Vec<&str> = seen.split('\r').collect();
        assert!(seen.is_empty() || matches!(rows[..], [.., blank, ""] if blank.trim().is_empty()), "{seen:?}");
        if !emulated() && shown {
            let out = finish(check);
            assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(0), ""), "no terminal is told nothing");
        }
    }
}

/// A pause inside a frame tore every later image: nothing in the bytes tells where a frame
/// begins.
#[test]
fn a_camera_program_that_pauses_inside_a_frame_is_started_again() {
    if !has_python() {
        return;
    }
    // It writes down when it started and when each of its frames was whole.
    let body = "log = open(starts + '.log', 'a')\n\
         def tell():\n    log.write('%d %f\\n' % (lives, time.monotonic())); log.flush()\n\
         tell()\nn = 0\nwhile True:\n    \
         if n == 10 and not os.path.exists(starts + '.paused'):\n        \
         open(starts + '.paused', 'w').write(str(lives))\n        \
         out(bytes([200]) * 5000); time.sleep(1.2); out(bytes([200]) * (W * H * 3 // 2 - 5000))\n    \
         else: frame(n)\n    \
         tell(); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)";
    let (folder, source) = camera("pause", body);
    let record = folder.join("record");
    let text = format!("[source]\nopen = \"{source}\"\nframe_timeout_ms = 400\n");
    let file = settings("pause-settings", &text);
    let args =
        ["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "40", "--record", record.to_str().unwrap()];
    let out = finish(tagpin(&args));
    let all = events(&out);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(faults(&all, "truncated") >= 1, "{}", summary(&all));
    let log = std::fs::read_to_string(folder.join("starts.log")).unwrap();
    let told: Vec<(usize, f64)> = log
        .lines()
        .filter_map(|line| line.split_once(' ').and_then(|(life, at)| Some((life.parse().ok()?, at.parse().ok()?))))
        .collect();
    // The program that paused gave nothing after it. On a loaded machine another may be held up for
    // as long: each start follows such a silence, and none happens without.
    let paused: usize = std::fs::read_to_string(folder.join("starts.paused")).unwrap().parse().unwrap();
    assert_eq!(told.iter().filter(|(life, _)| *life == paused).count(), 11, "{log}");
    assert!(starts(&folder) > paused, "{log}");
    let silences = told.windows(2).filter(|w| w[0].0 < w[1].0).map(|w| w[1].1 - w[0].1);
    silences.for_each(|silence| assert!(silence > 0.35, "started again after {silence} s: {log}"));
    for entry in std::fs::read_dir(&record).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|e| e == "rgb")) {
        assert_none_is_torn(&[std::fs::read(entry.path()).unwrap()]);
    }
}

#[test]
fn a_camera_programs_last_words_are_told_and_one_that_closes_its_output_is_replaced() {
    if !has_python() {
        return;
    }
    let body = "if lives == 1:\n    sys.stderr.write('ERROR: no cable\\n'); sys.exit(7)\nn = 0\nwhile True:\n    if lives == 2 and n == 5:\n        os.close(1); time.sleep(1000)\n    frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)";
    let (folder, source) = camera("words", body);
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--source", &source, "--parts", "20"]));
    assert_eq!((out.status.code(), starts(&folder)), (Some(0), 3), "{}", stderr(&out));
    assert!(stderr(&out).contains("exit status: 7: ERROR: no cable"), "{}", stderr(&out));
    assert!(stderr(&out).contains("closed its output"), "{}", stderr(&out));
}

/// A program that gives no frame often says why, and goes on: that was kept from whoever asked.
#[test]
fn what_a_camera_program_says_is_told_when_it_gives_no_frame() {
    if !has_python() {
        return;
    }
    let body = "while lives < 3:\n    sys.stderr.write('WARN: no signal\\n'); sys.stderr.flush(); time.sleep(0.01)\n\
                n = 0\nwhile True:\n    frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)";
    let (folder, source) = camera("says", body);
    let text = format!("[source]\nopen = \"{source}\"\nfirst_frame_timeout_ms = 2000\nframe_timeout_ms = 400\n");
    let file = settings("says-settings", &text);
    let check = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(told.contains("no frame came in time; the last that the camera program said: WARN: no signal"), "{told}");
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "20"]));
    assert!(stderr(&out).contains("said: WARN: no signal"), "{}", stderr(&out));
    assert_eq!((out.status.code(), starts(&folder)), (Some(0), 3), "the third gives frames");
}

/// A line of metadata that always comes behind the next frame agreed with itself: every frame got
/// the time of the one before it.
#[test]
fn lines_that_all_come_a_frame_late_give_no_frame_its_time() {
    if !has_python() {
        return;
    }
    for (name, late) in [("all-late", 1), ("none-late", 0)] {
        let body = format!(
            "n = 0\ntimes = []\nwhile True:\n    times.append(time.monotonic() - 0.02); frame(n)\n    \
             if n >= {late}: stamp(times[n - {late}])\n    n += 1; time.sleep(0.05)"
        );
        let (_, source) = camera(name, &body);
        let text = format!(
            "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 300\n\
             [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 250\non = [\"reject\", \"accept\"]\n"
        );
        let file = settings(&format!("{name}-settings"), &text);
        let all = events(&finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "12"])));
        let with_frames = of(&all, "part").iter().filter(|e| e["frames"].as_u64() > Some(0)).count();
        match late {
            0 => assert!(with_frames >= 8, "{with_frames} parts"),
            _ => assert!(with_frames == 0 && faults(&all, "source_gone") > 0, "{with_frames} parts: {:?}", summary(&all)),
        }
    }
}

/// A frame that comes with no time of its own was taken for a part that came after its exposure.
#[test]
fn frames_of_unknown_age_are_given_to_no_part_and_known_ones_are() {
    if !has_python() {
        return;
    }
    let gate = |source: &str, extra: &str| {
        format!(
            "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 300\n{extra}\n\
             [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 250\non = [\"reject\", \"accept\"]\n"
        )
    };
    for (name, with_stamp) in [("ageless", false), ("stamped", true)] {
        let stamp = if with_stamp { "stamp(t - 0.02)" } else { "pass" };
        let body = format!("n = 0\nwhile True:\n    t = time.monotonic(); frame(n); {stamp}; n += 1; time.sleep(0.05)");
        let (_, source) = camera(name, &body);
        let file = settings(&format!("{name}-settings"), &gate(&source, ""));
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "14"]));
        let all = events(&out);
        let with_frames = of(&all, "part").iter().filter(|e| e["frames"].as_u64() > Some(0)).count();
        if with_stamp {
            assert!(with_frames >= 10, "{with_frames} parts, {}", stderr(&out));
        } else {
            assert_eq!(with_frames, 0, "{}", stderr(&out));
            assert!(faults(&all, "no_frame") > 0 && stderr(&out).contains("max_latency_ms"), "{}", stderr(&out));
        }
    }
    // A source that can never say is refused at start, unless somebody vouches for it; zero is no
    // statement.
    let (_, source) = camera("mute", "n = 0\nwhile True:\n    frame(n); n += 1; time.sleep(0.05)");
    let mute = format!("{source}&metadata=0");
    for (latency, code) in [("", 2), ("max_latency_ms = 0", 2), ("max_latency_ms = 60", 0)] {
        let file = settings("mute-settings", &gate(&mute, latency));
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "3"]));
        assert_eq!(out.status.code(), Some(code), "{latency}: {}", stderr(&out));
    }
}

/// Nobody could see afterwards why a frame had been believed, nor that the camera's automatics had
/// shifted the scores.
#[test]
fn how_a_frames_time_was_found_and_what_the_camera_decides_itself_is_told() {
    if !has_python() {
        return;
    }
    let body = "n = 0\nwhile True:\n    t = time.monotonic(); frame(n); stamp(t - 0.02); n += 1; time.sleep(0.05)";
    let (_, source) = camera("provenance", body);
    let free = "metadata=1";
    let fixed = "exposure_us=2000&white_balance=1.8,1.5";
    for (mode, options, automatics) in [("gate", free, 2), ("gate", fixed, 0), ("state", free, 0)] {
        let gate = if mode == "gate" { "mode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 250\n" } else { "" };
        let text = format!(
            "[source]\nopen = \"{source}&{options}\"\n[line]\nmode = \"{mode}\"\n[trigger]\nkind = \"period\"\nperiod_ms = 300\n\
             [outputs.gate]\n{gate}on = [\"reject\", \"accept\"]\n"
        );
        let file = settings("provenance-settings", &text);
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "6"]));
        let all = events(&out);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        assert_eq!(stderr(&out).matches("by itself").count(), automatics, "{mode} {options}: {}", stderr(&out));
        let start = of(&all, "start")[0];
        assert_eq!(start["time"], "metadata");
        assert_eq!(start["automatic"].as_array().unwrap().len(), if options == free { 2 } else { 0 });
        let images: Vec<&Value> = of(&all, "part").iter().flat_map(|p| p["images"].as_array().unwrap()).collect();
        assert!(images.iter().any(|i| i["time"] == "metadata" && i["uncertainty"] == 0), "{images:?}");
        let check = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
        let text = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(text.contains("the sensor's stamp in the metadata"), "{text}");
        assert_eq!(text.matches("warning  source: the camera sets").count(), automatics, "{mode} {options}: {text}");
    }
    // A setting vouches for the time of a source that states none; its frames say so.
    let (_, source) = camera("vouched", "n = 0\nwhile True:\n    frame(n); n += 1; time.sleep(0.05)");
    let text = format!(
        "[source]\nopen = \"{source}&metadata=0\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 300\n\
         max_latency_ms = 60\n[outputs.gate]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 250\non = [\"reject\", \"accept\"]\n"
    );
    let file = settings("vouched-settings", &text);
    let all = events(&finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "6"])));
    assert_eq!(of(&all, "start")[0]["time"], "setting");
    let images: Vec<&Value> = of(&all, "part").iter().flat_map(|p| p["images"].as_array().unwrap()).collect();
    let vouched = |i: &&Value| i["time"] == "setting" && i["uncertainty"].as_u64() >= Some(60_000);
    assert!(!images.is_empty() && images.iter().all(vouched), "{images:?}");
}

/// However the program ends, its camera program ends too, also one that is stuck and writes
/// nothing.
#[test]
fn no_camera_program_outlives_the_line() {
    if !has_python() || emulated() {
        return;
    }
    for signal in ["TERM", "KILL"] {
        let body = "open(starts + '.pid', 'w').write(str(os.getpid()))\nfor n in range(5):\n    frame(n); time.sleep(0.05)\ntime.sleep(1000)";
        let (folder, source) = camera(&format!("orphan-{signal}"), body);
        let mut child = tagpin(&["run", "--bundle", PARTS, "--json", "--source", &source]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = (0..200)
            .find_map(|_| {
                std::thread::sleep(Duration::from_millis(50));
                std::fs::read_to_string(folder.join("starts.pid")).ok().filter(|p| !p.is_empty())
            })
            .expect("the camera program starts");
        std::thread::sleep(Duration::from_millis(500));
        std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        child.wait().unwrap();
        // One that has ended and that nobody has waited for yet has no command line.
        let alive = || std::fs::read(Path::new("/proc").join(&pid).join("cmdline")).is_ok_and(|line| !line.is_empty());
        let gone = (0..60).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            !alive()
        });
        assert!(gone, "the camera program {pid} goes on after {signal}");
    }
}
