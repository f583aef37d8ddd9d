//! What decoding takes of the system's memory, measured in a process of its own.

use super::*;
use image::ExtendedColorType::Rgb8;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;

const WIDTH: u32 = 2000;
const HEIGHT: u32 = 1500;
/// Program pages that a decoder touches for the first time, and its tables and rows.
const BESIDE_KB: u64 = 4096;

fn noise() -> Vec<u8> {
    let mut random = Random::new(1, 4);
    (0..3 * WIDTH * HEIGHT / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn png(rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Up);
    encoder.write_image(rgb, width, height, Rgb8).unwrap();
    bytes
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&kind[..], content].concat();
    [&(content.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
}

/// The stream of zlib in a PNG's image chunks.
fn stream(mut png: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    png = &png[8..];
    while let Some((length, rest)) = png.split_first_chunk::<4>() {
        let end = 4 + u32::from_be_bytes(*length) as usize;
        if rest.starts_with(b"IDAT") {
            stream.extend_from_slice(&rest[4..end]);
        }
        png = &rest[end + 4..];
    }
    stream
}

/// Files of which each takes memory in another way, all of 2000x1500.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let (noise, flat) = (noise(), vec![90; 3 * (WIDTH * HEIGHT) as usize]);
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([WIDTH.to_le_bytes(), HEIGHT.to_le_bytes(), [1, 0, 24, 0]].as_flattened());
    bmp.resize(54, 0);
    bmp.extend(&noise);
    let plain = png(&flat, WIDTH, HEIGHT);
    let (header, pixels) = plain.split_at(8 + 25);
    let with = |kind, content: &[u8]| [header, &chunk(kind, content), pixels].concat();
    // A profile of 27 MB in 100 KB.
    let profile = [b"icc\0\0", &stream(&png(&vec![0; 27_000_000], 3000, 3000))[..]].concat();
    let text = [b"Comment\0", &vec![b'x'; 9_000_000][..]].concat();
    let jpeg = Picture::to_jpeg(WIDTH, HEIGHT, &flat, 90).unwrap();
    let mut turned = jpeg[..2].to_vec();
    turned.extend(b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
    turned.extend(&jpeg[2..]);
    let lossless = |rgb: &[u8]| {
        let mut bytes = Vec::new();
        WebPEncoder::new_lossless(&mut bytes).encode(rgb, WIDTH, HEIGHT, Rgb8).unwrap();
        bytes
    };
    let canvas = [&[8, 0, 0, 0][..], &(WIDTH - 1).to_le_bytes()[..3], &(HEIGHT - 1).to_le_bytes()[..3]].concat();
    let image = lossless(&flat)[20..].to_vec();
    let webp_exif = webp_of(&[(b"VP8X", &canvas), (b"VP8L", &image), (b"EXIF", &vec![1; 9_000_000])]);
    vec![
        ("jpeg", jpeg.clone()),
        ("jpeg with 9 MB behind its end", [&jpeg[..], &vec![7; 9_000_000]].concat()),
        ("jpeg that is turned", turned),
        ("bmp", bmp),
        ("png", plain.clone()),
        ("png of noise", png(&noise, WIDTH, HEIGHT)),
        ("png with a colour profile", with(b"iCCP", &profile)),
        ("png with a text", with(b"tEXt", &text)),
        ("png with an orientation of 9 MB", with(b"eXIf", &vec![1; 9_000_000])),
        ("webp", lossless(&flat)),
        ("webp of noise", lossless(&noise)),
        ("webp with an orientation of 9 MB", webp_exif),
    ]
}

/// The smallest budget within which these bytes are decoded.
fn smallest(what: &str, bytes: &[u8]) -> u64 {
    let mut budget = 1;
    loop {
        match Picture::decode(bytes, Budget(budget)) {
            Err(PictureError::TooLarge { needed, .. }) if needed > budget => budget = needed,
            Err(e) => panic!("{what}: {e}"),
            Ok(_) => return budget,
        }
    }
}

/// Whether this may run in an emulator, which has memory of its own and starts no such process.
fn is_foreign() -> bool {
    let is_foreign = cfg!(not(target_arch = "x86_64"));
    if is_foreign {
        eprintln!("skipped: measured on x86-64 only");
    }
    is_foreign
}

/// A line of /proc/self/status in KB.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a test of this module, run in a process of its own, prints behind `told `.
fn told(test: &str, path: &Path, budget: u64) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("pictures::tests::memory::{test}"));
    command.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let out = command.env("TAGPIN_TEST_FILE", path).env("TAGPIN_TEST_BUDGET", budget.to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let found = text.lines().find_map(|line| line.split_once("told ")).map(|(_, told)| told.to_string());
    found.unwrap_or_else(|| panic!("{}: {}{text}{}", path.display(), out.status, String::from_utf8_lossy(&out.stderr)))
}

/// File and budget, in a process that [`told`] started.
fn asked() -> Option<(std::path::PathBuf, Budget)> {
    let budget = std::env::var("TAGPIN_TEST_BUDGET").ok()?.parse().ok()?;
    Some((std::env::var_os("TAGPIN_TEST_FILE")?.into(), Budget(budget)))
}

#[test]
#[ignore = "run by `decoding_takes_no_more_memory_than_its_budget`"]
fn open_and_tell_the_peak() {
    let Some((path, budget)) = asked() else { return };
    let before = status("VmHWM");
    let refused = Picture::open(&path, budget).err();
    println!("\ntold {} {}", status("VmHWM") - before, refused.map_or(String::new(), |e| e.to_string()));
}

/// The file's own bytes were not counted, nor what a PNG's colour profile unpacks to: within 96 MB
/// a BMP of 7900x4000 took 201 MB, and so did a PNG of noise or a JPEG with 90 MB behind its end.
#[test]
fn decoding_takes_no_more_memory_than_its_budget() {
    if is_foreign() {
        return;
    }
    let folder = scratch("memory");
    for (what, bytes) in files() {
        let path = folder.join(what);
        std::fs::write(&path, &bytes).unwrap();
        let budget = smallest(what, &bytes);
        drop(bytes);
        let peak = |budget| {
            let told = told("open_and_tell_the_peak", &path, budget);
            let (peak, refused) = told.split_once(' ').unwrap();
            (peak.parse::<u64>().unwrap(), refused.to_string())
        };
        let (kb, refused) = peak(budget);
        let most = budget / 1024;
        println!("{what}: {kb} KB within {most}");
        assert!(refused.is_empty(), "{what}: {refused}");
        assert!(kb <= most + BESIDE_KB, "{what}: {kb} KB were taken, {most} are allowed");
        // The nearest that is refused takes less; and what is allowed is not counted twice.
        let (kb, refused) = peak(budget - 1);
        assert!(kb < most && refused.contains("at most"), "{what}: {kb} KB; {refused}");
        assert!(most < 40_000, "{what}: {most} KB are asked for");
        std::fs::remove_file(path).unwrap();
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// What is refused says how much of it is the file's, and what to do.
#[test]
fn a_file_that_takes_too_much_is_told_with_its_numbers() {
    let jpeg = [WHOLE, &vec![0; 3 << 20]].concat();
    let error = Picture::decode(&jpeg, Budget::megabytes(2)).unwrap_err().to_string();
    assert!(error.contains("takes 4 MB to decode, 4 of them for its file, at most 2 MB"), "{error}");
    let folder = scratch("numbers");
    let file = folder.join("large.jpg");
    // Nothing of it is on the disk: were it read, that would take seconds.
    std::fs::File::create(&file).unwrap().set_len(40 << 30).unwrap();
    let error = Picture::open(&file, Budget::HOST).unwrap_err().to_string();
    assert!(error.contains("is a file of 40960 MB") && error.contains("at most 1024 MB"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "run by `memory_that_the_system_does_not_have_is_an_error_of_the_image`"]
fn open_where_memory_is_short() {
    let Some((path, budget)) = asked() else { return };
    let (all, short) = (getrlimit(Resource::As), (status("VmSize") + (100 << 10)) << 10);
    setrlimit(Resource::As, Rlimit { current: Some(short), ..all }).unwrap();
    let refused = Picture::open(&path, budget).err();
    setrlimit(Resource::As, all).unwrap();
    println!("\ntold {}", refused.map_or(String::new(), |e| e.to_string()));
}

/// Where the system gave no memory (`ulimit -v`), a run ended at its second part: "memory
/// allocation of 94800000 bytes failed", exit 134.
#[test]
fn memory_that_the_system_does_not_have_is_an_error_of_the_image() {
    if is_foreign() {
        return;
    }
    let folder = scratch("short");
    let side = 8192u32;
    let mut ihdr = [side.to_be_bytes(); 2].as_flattened().to_vec();
    ihdr.extend([8, 2, 0, 0, 0]);
    let png = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &ihdr), chunk(b"IDAT", &[]), chunk(b"IEND", &[])].concat();
    let mut jpeg = WHOLE.to_vec();
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let size = ((side - 1) | (side - 1) << 14).to_le_bytes();
    let webp = webp_of(&[(b"VP8L", &[&[0x2f], &size[..], &grey_by_groups(1, 256)].concat())]);
    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\x20\0\0\0\x20\0\0\x01\0\x18\0".to_vec();
    bmp.resize(54, 0);
    for (what, bytes) in [("png", png), ("jpeg", jpeg), ("webp", webp), ("bmp", bmp), ("file", Vec::new())] {
        let path = folder.join(what);
        std::fs::write(&path, bytes).unwrap();
        if what == "file" {
            std::fs::File::create(&path).unwrap().set_len(500 << 20).unwrap();
        }
        let error = told("open_where_memory_is_short", &path, Budget::HOST.0);
        assert!(error.contains("MB that the system does not have"), "{what}: {error}");
    }
    // The nearest good one.
    let path = folder.join("good");
    std::fs::write(&path, WHOLE).unwrap();
    assert_eq!(told("open_where_memory_is_short", &path, Budget::HOST.0), "");
    std::fs::remove_dir_all(folder).unwrap();
}
