//! Data as people have it: what is read, what is left out and told, what is refused, and what stays
//! together.

mod support;

use std::path::Path;
use support::{folder, json, refused, run, tools};

/// An image that no other resembles: coloured patches drawn by the seed.
fn patches(path: &Path, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let colours: Vec<[u8; 3]> = (0..64).map(|_| [next(), next(), next()]).collect();
    let rgb: Vec<u8> = (0..64 * 64).flat_map(|i| colours[i / 64 / 8 * 8 + i % 64 / 8]).collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    tagpin::pictures::Picture::write_png(path, 64, 64, &rgb).unwrap();
}

/// `n` images in each of the folders.
fn tagged(at: &Path, tags: &[&str], n: u64) {
    for (t, tag) in tags.iter().enumerate() {
        (0..n).for_each(|i| patches(&at.join(tag).join(format!("{i:03}.png")), 1000 * t as u64 + i + 1));
    }
}

/// Sides by path.
fn sides(split: &Path) -> std::collections::BTreeMap<String, String> {
    let split = json(split.to_path_buf());
    let entries = split["dataset"]["entries"].as_array().unwrap();
    let side = |(e, s): (&serde_json::Value, &serde_json::Value)| {
        (e["path"].as_str().unwrap().to_string(), s.as_str().unwrap().to_string())
    };
    entries.iter().zip(split["sides"].as_array().unwrap()).map(side).collect()
}

/// `train --out photos --force` once deleted the photos.
#[test]
fn force_replaces_a_run_folder_and_nothing_else() {
    let at = folder("data-force");
    tagged(&at.join("photos"), &["ok", "bad"], 20);
    let train = |out: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        let how = ["train", "--small", "--only", "--epochs", "1", "--batch", "8", "--data", "photos", "--out", out];
        how.into_iter().chain(more.iter().copied()).collect()
    };
    let text = refused(&train("photos", &["--force"]), &at);
    assert!(
        text.contains("photos exists and is no run folder") && text.contains("--force replaces run folders only"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(at.join("photos/ok")).unwrap().count(), 20, "the images are still there");
    // The control: a run folder is kept, or replaced when asked; one that holds somebody's images
    // is kept.
    run(&train("first", &[]), &at);
    assert!(refused(&train("first", &[]), &at).contains("first exists; name another or add --force"));
    run(&train("first", &["--force"]), &at);
    std::fs::copy(at.join("photos/ok/000.png"), at.join("first/000.png")).unwrap();
    assert!(refused(&train("first", &["--force"]), &at).contains("first/000.png"));
    assert!(at.join("first/000.png").exists() && at.join("first/float.onnx").exists());
    std::fs::remove_file(at.join("first/000.png")).unwrap();
    std::fs::create_dir(at.join("first/notes")).unwrap();
    assert!(refused(&train("first", &["--force"]), &at).contains("first/notes"));
    // Files: a list or a split is replaced, an image or a folder never.
    let text = refused(&["dataset", "split", "photos", "--out", "photos/ok/000.png", "--force"], &at);
    assert!(text.contains("is an image"), "{text}");
    assert!(refused(&["dataset", "check", "photos", "--out", "photos", "--force"], &at).contains("photos is a folder"));
    let left: Vec<_> = std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        left.iter().all(|name| ["photos", "first", "cache"].contains(&name.as_str())),
        "nothing half made stays: {left:?}"
    );
}

/// `backbone import` waited for ever for whoever writes into a pipe.
#[test]
fn a_pipe_and_a_device_are_refused_wherever_a_file_is_named() {
    let folder = folder("special-files");
    tagged(&folder.join("data"), &["a", "b"], 3);
    let onnx = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tiny_qdq.onnx");
    std::fs::create_dir(folder.join("run")).unwrap();
    for pipe in ["pipe", "pipe.whl", "run/run.json"] {
        assert!(std::process::Command::new("mkfifo").arg(folder.join(pipe)).status().unwrap().success());
    }
    for (file, wheel) in [("pipe", "pipe.whl"), ("/dev/zero", "/dev/zero")] {
        for args in [
            &["dataset", "check", "data", "--about", file][..],
            &["dataset", "split", "data", "--keep", file, "--force"],
            &["backbone", "import", file],
            &["backbone", "import", wheel],
            &["pack", "--onnx", file, "--tags", "a,b", "--out", "made"],
            &["pack", "--onnx", onnx, "--tags", file, "--out", "made"],
            &["distance", file, "--out", "made", "--split", file],
            &["parity", "--recorded", file, "--bundle", file],
            &["evaluate", "run"],
            &["report", "run"],
            &["runs", "verdict", "run"],
            &["pack", "run", "--out", "made"],
        ] {
            let words = refused(args, &folder);
            assert!(words.contains("only regular files are read"), "{args:?}: {words}");
        }
    }
    let words = refused(&["train", "--data", "data", "--small", "--out", "run", "--force"], &folder);
    assert!(words.contains("is no run folder"), "{words}");
    run(&["dataset", "check", "data", "--allow-few"], &folder);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_images_are_read() {
    let at = folder("data-outputs");
    tagged(&at.join("photos"), &["ok", "bad"], 6);
    for args in [
        ["dataset", "check", "photos", "--out", "nowhere/c.json"],
        ["dataset", "split", "photos", "--out", "nowhere/s.json"],
    ] {
        let out = tools(&args, &at);
        let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr).into_owned());
        assert!(out.status.code() == Some(2) && errors.contains("cannot be written") && text.is_empty(), "{text}{errors}");
    }
    std::fs::write(at.join("file"), "").unwrap();
    let args = ["train", "--small", "--data", "photos", "--out", "file/run"];
    assert!(refused(&args, &at).contains("file cannot be made"));
}

#[test]
fn a_checkpoint_of_an_interrupted_run_is_not_passed_over() {
    let at = folder("data-checkpoint");
    tagged(&at.join("photos"), &["ok", "bad"], 20);
    std::fs::write(at.join("cut.checkpoint"), "what an interrupted run left").unwrap();
    let train = ["train", "--small", "--only", "--epochs", "1", "--batch", "8", "--data", "photos", "--out", "cut"];
    let text = refused(&train, &at);
    assert!(text.contains("cut.checkpoint") && text.contains("--resume goes on"), "{text}");
    run(&[train.as_slice(), &["--force"]].concat(), &at);
}

#[test]
fn every_file_left_out_is_counted_by_kind() {
    let at = folder("data-left-out");
    let data = at.join("photos");
    tagged(&data, &["ok", "bad"], 6);
    let copy = |from: &str, to: &str| {
        std::fs::create_dir_all(data.join(to).parent().unwrap()).unwrap();
        std::fs::copy(data.join(from), data.join(to)).unwrap();
    };
    let write = |to: &str, bytes: &[u8]| {
        std::fs::create_dir_all(data.join(to).parent().unwrap()).unwrap();
        std::fs::write(data.join(to), bytes).unwrap();
    };
    (0..5).for_each(|i| write(&format!("ok/IMG_{i}.HEIC"), b"\0\0\0\x18ftypheic"));
    write("ok/renamed.jpg", b"\0\0\0\x18ftypheic\0\0\0\0");
    write("ok/old.tif", b"II*\0");
    write("bad/empty.png", b"");
    write("bad/page.jpg", b"<html>404</html>");
    write("bad/link.jpg", b"../elsewhere/1.jpg");
    write("bad/noending", b"x");
    write("bad/notes.txt", b"x");
    write("ok/._000.png", b"resource fork");
    copy("ok/000.png", "ok/@eaDir/000.png");
    copy("ok/000.png", "ok/.thumbnails/000.png");
    copy("ok/000.png", "__MACOSX/ok/000.png");
    copy("bad/000.png", "bad/000_mask.png");
    copy("ok/001.png", "001.png");
    // A JPEG by the ending that browsers give it.
    copy("bad/001.png", "bad/more.jfif");
    let out = tools(&["dataset", "check", "photos"], &at);
    let (text, errors) =
        (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
    assert!(out.status.success(), "{errors}");
    let line = text.lines().find(|l| l.trim_start().starts_with("skipped")).unwrap();
    for part in ["13 files", "6 HEIC", "3 damaged", "1 TIFF", "1 without an ending", "1 masks", "1 in no tagged folder"] {
        assert!(line.contains(part), "no \"{part}\" in {line}");
    }
    assert!(text.contains("1 .txt") && text.contains("4 hidden"), "{text}");
    for part in ["it is empty", "HTML", "a symbolic link that was copied as text"] {
        assert!(errors.contains(part), "no \"{part}\" in {errors}");
    }
    assert!(errors.contains("3 more of this kind"), "three of a kind are named, the others counted: {errors}");
    let contract = json(at.join("contract.json"));
    let skipped = contract["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 13, "the contract has all of them");
    let renamed = skipped.iter().find(|s| s["path"] == "ok/renamed.jpg").unwrap();
    assert!(renamed["why"].as_str().unwrap().starts_with("by its bytes it is HEIC"), "{renamed}");
    assert_eq!(contract["tags"], serde_json::json!({"bad": 7, "ok": 6}));
}

#[test]
fn a_jpeg_that_was_cut_off_or_holed_is_damaged() {
    let at = folder("data-jpeg");
    let data = at.join("photos");
    tagged(&data, &["ok", "bad"], 6);
    let mut rgb = Vec::new();
    let mut state = 7u32;
    (0..96 * 96 * 3).for_each(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        rgb.push((state >> 24) as u8);
    });
    let mut whole = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut whole).encode(&rgb, 96, 96, image::ExtendedColorType::Rgb8).unwrap();
    let mut holed = whole.clone();
    let middle = holed.len() / 2;
    holed[middle..middle + 600].fill(0);
    let mut trailed = whole.clone();
    trailed.extend([0; 300]);
    // A black image is a long run of one code: no hole.
    let mut black = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut black)
        .encode(&vec![0; 256 * 256 * 3], 256, 256, image::ExtendedColorType::Rgb8)
        .unwrap();
    let files = [
        ("whole", &whole[..]),
        ("trailed", &trailed),
        ("black", &black),
        ("cut", &whole[..whole.len() - 100]),
        ("holed", &holed),
    ];
    files.iter().for_each(|(name, bytes)| std::fs::write(data.join(format!("ok/{name}.jpg")), bytes).unwrap());
    run(&["dataset", "check", "photos"], &at);
    let contract = json(at.join("contract.json"));
    let skipped: Vec<&str> = contract["skipped"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
    assert_eq!(skipped, ["ok/cut.jpg", "ok/holed.jpg"], "{contract}");
}

#[test]
fn tags_without_images_do_not_vanish() {
    let at = folder("data-empty-tags");
    tagged(&at.join("photos"), &["ok", "bad"], 6);
    std::fs::create_dir(at.join("photos/scratch")).unwrap();
    std::fs::create_dir(at.join("photos/dent")).unwrap();
    (0..7).for_each(|i| std::fs::write(at.join(format!("photos/dent/{i}.heic")), "x").unwrap());
    let text = refused(&["dataset", "check", "photos"], &at);
    assert!(text.contains("tag \"dent\"") && text.contains("7 HEIC") && text.contains("tag \"scratch\""), "{text}");
    let text = run(&["dataset", "check", "photos", "--allow-few"], &at);
    assert!(text.contains("warning  tag \"dent\" has no image"), "{text}");
}

#[test]
fn dark_images_are_told() {
    let at = folder("data-dark");
    tagged(&at.join("photos"), &["ok", "bad"], 6);
    assert!(!run(&["dataset", "check", "photos"], &at).contains("nearly black"));
    let rgb: Vec<u8> = (0..64 * 64 * 3).map(|i| (i % 15) as u8).collect();
    tagpin::pictures::Picture::write_png(&at.join("photos/ok/dark.png"), 64, 64, &rgb).unwrap();
    assert!(run(&["dataset", "check", "photos", "--force"], &at).contains("1 images are nearly black"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let at = folder("data-links");
    tagged(&at.join("real"), &["a", "b"], 6);
    std::fs::create_dir_all(at.join("photos/b")).unwrap();
    symlink(at.join("real/a"), at.join("photos/a")).unwrap();
    (0..6).for_each(|i| symlink(at.join(format!("real/b/{i:03}.png")), at.join(format!("photos/b/{i}.png"))).unwrap());
    symlink("../../real/gone.png", at.join("photos/b/broken.png")).unwrap();
    symlink("..", at.join("photos/b/loop")).unwrap();
    let out = tools(&["dataset", "check", "photos"], &at);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{errors}");
    assert_eq!(json(at.join("contract.json"))["tags"], serde_json::json!({"a": 6, "b": 6}));
    assert!(errors.contains("b/broken.png: a symbolic link to ../../real/gone.png"), "{errors}");
    assert!(errors.contains("b/loop: a symbolic link to"), "{errors}");
}

#[test]
fn foreign_layouts_are_refused_with_what_was_found_and_the_mend() {
    let at = folder("data-layouts");
    let refuse = |data: &str| refused(&["dataset", "check", data], &at);
    tagged(&at.join("wrapped/dataset"), &["ok", "bad"], 6);
    assert!(refuse("wrapped").contains("give wrapped/dataset as the data"));
    tagged(&at.join("single"), &["ok"], 6);
    assert!(refuse("single").contains("1 tag, \"ok\"") && refuse("single").contains("must not pass"));
    patches(&at.join("loose/000.png"), 1);
    assert!(refuse("loose").contains("no tagged folders, 1 images beside"));
    for side in ["train", "valid"] {
        patches(&at.join(format!("boxes/{side}/images/000.png")), 1);
        std::fs::create_dir_all(at.join(format!("boxes/{side}/labels"))).unwrap();
    }
    let text = refuse("boxes");
    assert!(text.contains("detection export") && text.contains("\"images\", \"labels\""), "{text}");
    std::fs::write(at.join("boxes/data.yaml"), "names: [ok, bad]\n").unwrap();
    assert!(refuse("boxes").contains("data.yaml"));
    tagged(&at.join("mixed"), &["train", "test", "ok"], 6);
    assert!(refuse("mixed").contains("\"ok\" is none"));
    tagged(&at.join("blank"), &[" lead", "ok"], 6);
    assert!(refuse("blank").contains("begins or ends with a blank"));
    std::fs::write(at.join("tasks.json"), r#"[{"id": 1, "annotations": []}]"#).unwrap();
    assert!(refuse("tasks.json").contains("Label Studio"));
    // Controls: a list of names beside a folder a tag is nothing to refuse, and inner folders are a
    // column.
    tagged(&at.join("inner"), &["metal/can", "metal/lid", "glass/jar"], 6);
    let text = run(&["dataset", "check", "inner"], &at);
    assert!(text.contains("\"can\", \"jar\", \"lid\"") && text.contains("column \"folder\""), "{text}");
}

#[test]
fn sides_that_are_missing_are_made_and_tags_that_are_not_taught_are_refused() {
    let at = folder("data-sides");
    for (side, tag, from) in [("train", "ok", 0), ("train", "bad", 20), ("valid", "ok", 40), ("valid", "bad", 60)] {
        (0..20).for_each(|i| patches(&at.join(format!("photos/{side}/{tag}/{i}.png")), from + i + 1));
    }
    let text = run(&["dataset", "split", "photos", "--seed", "2"], &at);
    assert!(text.contains("there is no test side; a part of the training images becomes it"), "{text}");
    let of = sides(&at.join("split.json"));
    assert!(of.iter().filter(|(p, _)| p.starts_with("valid/")).all(|(_, s)| s == "validation"));
    assert!(of.iter().filter(|(p, _)| p.starts_with("train/")).any(|(_, s)| s == "test"));
    (0..6).for_each(|i| patches(&at.join(format!("photos/test/new/{i}.png")), 100 + i));
    let text = refused(&["dataset", "split", "photos", "--out", "n.json"], &at);
    assert!(text.contains("tag \"new\" has no training image, 6 elsewhere"), "{text}");
    run(&["dataset", "split", "photos", "--out", "n.json", "--sides", "none"], &at);
}

#[test]
fn added_images_leave_the_others_on_their_side() {
    let at = folder("data-keep");
    tagged(&at.join("photos"), &["ok", "bad"], 20);
    run(&["dataset", "split", "photos", "--out", "a.json"], &at);
    let old = sides(&at.join("a.json"));
    for i in 0..10 {
        patches(&at.join(format!("photos/ok/n{i}.png")), 5000 + i);
        patches(&at.join(format!("photos/bad/n{i}.png")), 6000 + i);
    }
    // The twin of a test image goes where that is.
    let judged = old.iter().find(|(_, s)| *s == "test").unwrap().0;
    std::fs::copy(at.join("photos").join(judged), at.join("photos/ok/twin.png")).unwrap();
    let out =
        tools(&["train", "--small", "--only", "--epochs", "1", "--batch", "8", "--split", "a.json", "--out", "r"], &at);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && errors.contains("21 images in") && errors.contains("--keep"), "{errors}");
    for args in [["--out", "b.json", "--keep", "a.json"].as_slice(), &["--out", "a.json", "--force"]] {
        let text = run(&[&["dataset", "split", "photos"], args].concat(), &at);
        assert!(text.contains("41 images keep the side of an earlier split, 20 are new"), "{text}");
        let new = sides(&at.join(args[1]));
        assert!(old.iter().all(|(path, side)| new[path] == *side), "old images stay");
        assert_eq!(new["ok/twin.png"], "test");
        assert!(["train", "validation", "test"].iter().all(|s| new.iter().any(|(p, side)| p.contains("/n") && side == s)));
    }
    // Whoever wants a new split says so.
    let text = run(&["dataset", "split", "photos", "--out", "a.json", "--force", "--anew", "--seed", "9"], &at);
    assert!(!text.contains("keep the side"), "{text}");
}

/// A TIFF block in an APP1 segment that says when the image was taken.
fn taken_at(jpeg: &[u8], time: &str) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    tiff.extend(b"\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0");
    tiff.extend(b"\x01\0\x03\x90\x02\0\x14\0\0\0\x2c\0\0\0\0\0\0\0");
    tiff.extend(time.as_bytes());
    tiff.push(0);
    let mut file = jpeg[..2].to_vec();
    file.extend([0xff, 0xe1]);
    file.extend(((tiff.len() + 8) as u16).to_be_bytes());
    file.extend(b"Exif\0\0");
    file.extend(tiff);
    file.extend(&jpeg[2..]);
    file
}

#[test]
fn parts_are_told_by_file_names_and_by_the_time_between_shots() {
    let at = folder("data-groups");
    for part in 0..20u64 {
        for shot in 0..4u64 {
            let tag = ["ok", "bad"][part as usize % 2];
            patches(&at.join(format!("photos/{tag}/part{part:02}_{shot}.png")), part * 10 + shot + 1);
        }
    }
    patches(&at.join("photos/ok/other.png"), 999);
    let text = run(&["dataset", "split", "photos", "--group", r"part(\d+)_"], &at);
    assert!(text.contains("20 groups of 80 images; 1 others stand for themselves"), "{text}");
    let mut of_part = std::collections::BTreeMap::new();
    for (path, side) in sides(&at.join("split.json")).iter().filter(|(p, _)| p.contains("part")) {
        let part = path.split("part").nth(1).unwrap()[..2].to_string();
        assert_eq!(of_part.entry(part).or_insert(side.clone()), side, "{path}");
    }
    let mut split = json(at.join("split.json"));
    let moved = if split["sides"][0] == "train" { "test" } else { "train" };
    split["sides"][0] = moved.into();
    std::fs::write(at.join("split.json"), split.to_string()).unwrap();
    let text = refused(&["train", "--small", "--split", "split.json", "--out", "r"], &at);
    assert!(text.contains("leak") && text.contains(r"are of one part(\d+)_"), "{text}");
    let refuse = |group: &str| refused(&["dataset", "split", "photos", "--group", group, "--out", "x.json"], &at);
    assert!(refuse("part(").contains("regular expression"));
    assert!(refuse(r"piece(\d+)").contains("found in no file's path"));
    assert!(refuse("shift").contains("no image has this column"));
    assert!(refused(&["dataset", "split", "photos", "--group-gap", "5", "--out", "x.json"], &at).contains("EXIF"));

    // Four shots of each part within six seconds, a minute between parts.
    for part in 0..20 {
        for shot in 0..4 {
            let tag = ["ok", "bad"][part % 2];
            let from = at.join(format!("photos/{tag}/part{part:02}_{shot}.png"));
            let image = tagpin::pictures::Picture::open(&from, tagpin::pictures::Budget::HOST).unwrap();
            let mut jpeg = Vec::new();
            image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
                .encode(&image.rgb, image.width, image.height, image::ExtendedColorType::Rgb8)
                .unwrap();
            let to = at.join(format!("timed/{tag}/{:03}.jpg", part * 4 + shot));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, taken_at(&jpeg, &format!("2026:03:01 10:{part:02}:{:02}", shot * 2))).unwrap();
        }
    }
    let text = run(&["dataset", "split", "timed", "--group-gap", "10", "--out", "timed.json"], &at);
    assert!(text.contains("20 groups of 80 images"), "{text}");
    let mut of_part = std::collections::BTreeMap::new();
    for (path, side) in sides(&at.join("timed.json")) {
        let n: usize = path.split('/').nth(1).unwrap()[..3].parse().unwrap();
        assert_eq!(*of_part.entry(n / 4).or_insert(side.clone()), side, "{path}");
    }
}

#[test]
fn moved_images_are_asked_for_and_found() {
    let at = folder("data-moved");
    tagged(&at.join("photos"), &["ok", "bad"], 20);
    run(&["dataset", "split", "photos"], &at);
    std::fs::rename(at.join("photos"), at.join("elsewhere")).unwrap();
    let train = ["train", "--small", "--only", "--epochs", "1", "--batch", "8", "--split", "split.json", "--out", "r"];
    let text = refused(&train, &at);
    assert!(text.contains("no longer in") && text.contains("photos") && text.contains("--root FOLDER"), "{text}");
    run(&[train.as_slice(), &["--root", "elsewhere"]].concat(), &at);
}

/// Lists as spreadsheets and labelling programs write them.
#[test]
fn lists_are_read_or_refused_by_what_was_found() {
    let at = folder("data-lists");
    tagged(&at.join("pics"), &["ok", "bad"], 6);
    let paths: Vec<(String, &str)> =
        ["ok", "bad"].iter().flat_map(|t| (0..6).map(move |i| (format!("pics/{t}/{i:03}.png"), *t))).collect();
    let list = |header: &str, row: &dyn Fn(&str, &str) -> String| -> String {
        std::iter::once(header.to_string()).chain(paths.iter().map(|(p, t)| row(p, t))).collect::<Vec<_>>().join("\n")
    };
    let usual = list("path,tag", &|p, t| format!("{p},{t}"));
    let check = |name: &str, bytes: &[u8]| {
        std::fs::write(at.join(name), bytes).unwrap();
        let out = tools(&["dataset", "check", name, "--out", "c.json", "--force"], &at);
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let reads = |name: &str, bytes: &[u8], says: &str| {
        let (code, text) = check(name, bytes);
        assert!(code == Some(0) && text.contains("Multiclass, 12 images, 2 tags") && text.contains(says), "{name}: {text}");
    };
    let refuses = |name: &str, bytes: &[u8], says: &[&str]| {
        let (code, text) = check(name, bytes);
        assert!(code == Some(2) && says.iter().all(|s| text.contains(s)), "{name}: {text}");
    };
    reads("usual.csv", usual.as_bytes(), "");
    reads("bom.csv", format!("\u{feff}{}", usual.replace('\n', "\r\n")).as_bytes(), "");
    reads("semicolons.csv", usual.replace(',', ";").as_bytes(), "separated by semicolons");
    reads("tabs.csv", usual.replace(',', "\t").as_bytes(), "separated by tabs");
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(usual.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    reads("wide.csv", &wide, "");
    reads("windows.csv", usual.replace('/', "\\").as_bytes(), "12 paths have backslashes");
    reads("dots.csv", usual.replace("pics/", "./pics/../pics/").as_bytes(), "");
    reads(
        "sides.csv",
        list("path,tag,split", &|p, t| format!("{p},{t},train")).replacen("train", "test", 1).as_bytes(),
        "--sides split",
    );
    reads("again.csv", format!("{usual}\n./pics/ok/000.png,ok").as_bytes(), "1 listed again");
    // A blank cell is a row without a tag; it does not turn the others multilabel.
    let (code, text) = check("blank.csv", usual.replacen(",ok", ",", 1).as_bytes());
    assert!(code == Some(0) && text.contains("Multiclass, 11 images") && text.contains("1 without a tag"), "{text}");
    // Files that are gone are counted, not told one by one.
    let gone: String = (0..50).map(|i| format!("\npics/gone/{i}.png,ok")).collect();
    let (code, text) = check("gone.csv", format!("{usual}{gone}").as_bytes());
    assert!(code == Some(0) && text.contains("50 missing") && text.matches("skipped pics").count() == 3, "{text}");
    refuses("capitals.csv", usual.replace(".png", ".PNG").as_bytes(), &["12 missing", "000.png", "capitals"]);
    refuses("drive.csv", usual.replace("pics/", "C:\\data\\").as_bytes(), &["drive letter"]);
    refuses("twice.csv", format!("{usual}\n./pics/ok/000.png,bad").as_bytes(), &["listed twice", "\"ok\"", "\"bad\""]);
    let latin: Vec<u8> = usual.replace("bad", "\u{fc}bel").chars().map(|c| c as u8).collect();
    refuses("latin.csv", &latin, &["line 8", "0xfc", "UTF-8"]);
    refuses("headerless.csv", usual.split_once('\n').unwrap().1.as_bytes(), &["names no columns", "path,tag"]);
    refuses("keras.csv", usual.replacen("path,tag", "filename,class", 1).as_bytes(), &["\"filename\", \"class\"", "rename"]);
    refuses(
        "onehot.csv",
        list("filename,ok,bad", &|p, t| format!("{p},{},{}", u8::from(t == "ok"), u8::from(t == "bad"))).as_bytes(),
        &["\"filename\", \"ok\", \"bad\"", "only 0 and 1"],
    );
    refuses(
        "studio.csv",
        list("annotation_id,choice,image", &|p, t| format!("1,{t},{p}")).as_bytes(),
        &["Label Studio", "\"choice\""],
    );
    refuses(
        "cloud.csv",
        list("TRAIN,gs://bucket/1.jpg,ok", &|p, t| format!("TRAIN,gs://bucket/{p},{t}")).as_bytes(),
        &["cloud"],
    );
    for (name, between) in [("comma.csv", ","), ("bar.csv", "|"), ("blank.csv", " ")] {
        let several = list("path,tags", &|p, t| format!("{p},\"{t}{between}shiny\""));
        refuses(name, several.as_bytes(), &["looks like several tags", "shiny"]);
    }
    // Controls: a name with a blank is one tag; several tags with ; are several.
    let (code, text) = check("names.csv", list("path,tag", &|p, t| format!("{p},{t} shiny")).as_bytes());
    assert!(code == Some(0) && text.contains("ok shiny"), "{text}");
    let (code, text) = check("several.csv", list("path,tags", &|p, t| format!("{p},{t};shiny")).as_bytes());
    assert!(code == Some(0) && text.contains("Multilabel, 12 images, 3 tags"), "{text}");
}

#[test]
fn names_with_accents_are_one_whatever_their_form() {
    let at = folder("data-accents");
    // "naïve" with one letter, and with an i and two dots.
    let (composed, separate) = ("na\u{ef}ve", "nai\u{308}ve");
    tagged(&at.join("pics"), &[separate, "ok"], 6);
    let rows: Vec<String> =
        (0..6).flat_map(|i| [format!("pics/{composed}/{i:03}.png,{composed}"), format!("pics/ok/{i:03}.png,ok")]).collect();
    std::fs::write(at.join("list.csv"), format!("path,tag\n{}", rows.join("\n"))).unwrap();
    let text = run(&["dataset", "check", "list.csv"], &at);
    assert!(text.contains("12 images, 2 tags") && text.contains("6 paths write their accents"), "{text}");
    let text = run(&["dataset", "check", "pics", "--force"], &at);
    assert_eq!(json(at.join("contract.json"))["tags"], serde_json::json!({composed: 6, "ok": 6}), "{text}");
}

/// One missing file once made a COCO file lose all of them.
#[test]
fn a_coco_file_loses_only_what_is_missing() {
    let at = folder("data-coco");
    tagged(&at, &["images"], 12);
    let images: Vec<_> = (0..13).map(|i| serde_json::json!({"id": i, "file_name": format!("{i:03}.png")})).rev().collect();
    let annotations: Vec<_> = (0..13).map(|i| serde_json::json!({"image_id": i, "category_id": i % 2})).collect();
    let categories = serde_json::json!([{"id": 0, "name": "ok"}, {"id": 1, "name": "bad"}]);
    let coco = serde_json::json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(at.join("coco.json"), coco.to_string()).unwrap();
    let text = run(&["dataset", "check", "coco.json"], &at);
    assert!(text.contains("12 images, 2 tags") && text.contains("1 files: 1 missing"), "{text}");
}

/// A line keeps images in folders by what it said; people move them to the tags that are true. A
/// tag that cannot be a folder's name came back under the name of its folder.
#[test]
fn images_that_a_line_kept_are_a_dataset() {
    use tagpin::pictures::tag_folder;
    use tagpin::ring::{Image, Kind, Limits, Ring};
    let at = folder("data-kept");
    let kept = at.join("kept");
    std::fs::create_dir(&kept).unwrap();
    let limits = Limits { max_bytes: 1 << 30, free_bytes: 0, days: 30, quotas: [1 << 30; 5] };
    let mut ring = Ring::open(&kept, limits).unwrap();
    for part in 1..=20 {
        let png = at.join("drawn.png");
        patches(&png, part);
        let drawn = tagpin::pictures::Picture::open(&png, tagpin::pictures::Budget::HOST).unwrap();
        let jpeg = tagpin::pictures::Picture::to_jpeg(drawn.width, drawn.height, &drawn.rgb, 90).unwrap();
        let name = tag_folder(["gear chipped", "nut/../.."][part as usize % 2]);
        let kind = Kind::ALL[part as usize % Kind::ALL.len()];
        let image = Image { kind, folder: &name, part, wall: Some(1_795_673_066_000_000), jpeg: &jpeg, json: b"{}" };
        ring.keep(&image).unwrap();
    }
    // While the line runs, too: its lock is no data.
    let text = run(&["dataset", "check", "kept"], &at);
    let contract = json(at.join("contract.json"));
    assert_eq!(contract["tags"], serde_json::json!({"gear chipped": 10, "nut/../..": 10}), "{text}");
    assert_eq!((&contract["ignored"], &contract["skipped"]), (&serde_json::json!({".json": 20}), &serde_json::json!([])));
}
