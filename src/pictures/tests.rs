use super::*;
use crate::random::Random;

mod colours;
mod memory;
mod zeros;

const WHOLE: &[u8] = include_bytes!("../../tests/data/part.jpg");

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

/// The images of tests/data/make_pictures.py: name, bytes, and what the reference decoder makes
/// of them.
fn variants() -> Vec<(String, Vec<u8>, Picture)> {
    let reference = std::fs::read(folder().join("reference.rgb")).unwrap();
    let mut rest = reference.as_slice();
    let list = std::fs::read_to_string(folder().join("list.txt")).unwrap();
    list.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_string();
            let [width, height] = [(); 2].map(|()| words.next().unwrap().parse::<u32>().unwrap());
            let (rgb, after) = rest.split_at(3 * (width * height) as usize);
            rest = after;
            let bytes = std::fs::read(folder().join(&name)).unwrap();
            (name, bytes, Picture { width, height, rgb: rgb.to_vec() })
        })
        .collect()
}

fn small_jpegs() -> impl Iterator<Item = (String, Vec<u8>)> {
    variants().into_iter().filter(|(name, ..)| name.ends_with(".jpg")).map(|(name, bytes, _)| (name, bytes))
}

/// Kinds of JPEG, each of some thousand bytes.
fn large_jpegs() -> Vec<(&'static str, Vec<u8>)> {
    let names = ["large_420", "large_444", "large_grey", "large_optimised", "large_progressive", "large_restart"];
    let large = names.map(|name| (name, std::fs::read(folder().join(format!("{name}.jpg"))).unwrap()));
    large.into_iter().chain([("part", WHOLE.to_vec())]).collect()
}

fn cases(default: u64) -> (u64, u64) {
    let number = |key, default| std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (seed, count) = (number("TAGPIN_TEST_SEED", 7), number("TAGPIN_TEST_CASES", default));
    println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={count}");
    (seed, count)
}

/// The same image without its table segments.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]) as usize;
        if jpeg[at + 1] != 0xc4 {
            bytes.extend(&jpeg[at..end]);
        }
        at = end;
    }
    bytes.extend(&jpeg[at..]);
    bytes
}

fn size_of(jpeg: &[u8]) -> [u32; 2] {
    let header = jpeg::header(jpeg).unwrap();
    [header.width, header.height]
}

fn frame(jpeg: &[u8], like: &[u8]) -> Result<Picture, PictureError> {
    Picture::decode_frame(jpeg, size_of(like), Budget::DEVICE)
}

/// The decoder that was used before rounded colours and chroma in its own way: up to 3 levels from
/// what others had trained on.
#[test]
fn pictures_in_71_forms_are_those_of_the_reference_decoder() {
    let all = variants();
    assert_eq!(all.len(), 71);
    for (name, bytes, reference) in all {
        let got = Picture::decode(&bytes, Budget::DEVICE).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((got.width, got.height), (reference.width, reference.height), "{name}");
        let apart = got.rgb.iter().zip(&reference.rgb).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(apart, Some(0), "{name}: apart by levels");
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_refused() {
    for (name, bytes) in small_jpegs() {
        for cut in 0..bytes.len() {
            assert!(Picture::decode(&bytes[..cut], Budget::DEVICE).is_err(), "{name} cut after {cut} of {}", bytes.len());
            // With the end marker put behind it, as a camera or a repair tool does.
            let mended = [&bytes[..cut], &[0xff, 0xd9]].concat();
            if cut + 2 < bytes.len() {
                assert!(Picture::decode(&mended, Budget::DEVICE).is_err(), "{name} cut after {cut} and closed");
            }
        }
    }
}

#[test]
fn a_png_bmp_or_webp_cut_anywhere_is_refused() {
    for (name, bytes, _) in variants().iter().filter(|v| !v.0.ends_with(".jpg")) {
        for cut in 0..bytes.len() {
            assert!(Picture::decode(&bytes[..cut], Budget::DEVICE).is_err(), "{name} cut after {cut} of {}", bytes.len());
        }
    }
}

#[test]
fn a_png_with_a_changed_byte_is_refused() {
    let (seed, count) = cases(200);
    let mut random = Random::new(seed, 1);
    for (name, bytes, _) in variants().iter().filter(|v| v.0.ends_with(".png")) {
        for _ in 0..count {
            let mut bytes = bytes.clone();
            let at = (random.next() % bytes.len() as u64) as usize;
            bytes[at] ^= 1 + (random.next() % 255) as u8;
            assert!(Picture::decode(&bytes, Budget::DEVICE).is_err(), "{name}: byte {at}");
        }
    }
}

/// Bytes lost, zeroed or overwritten inside the scans. JPEG has no checksum, so a hole that happens
/// to hold valid codes for exactly as many blocks cannot be told from an image; it is rare.
#[test]
fn jpegs_with_holes_are_refused() {
    let (seed, count) = cases(100);
    let (mut missed, mut all) = (0, 0);
    for (name, bytes) in large_jpegs() {
        assert!(Picture::decode(&bytes, Budget::DEVICE).is_ok(), "{name}");
        let mut random = Random::new(seed, name.len() as u64);
        let first = bytes.windows(2).position(|w| w == [0xff, 0xda]).unwrap() + 14;
        let mut here = 0;
        for _ in 0..count {
            let mut below = |n: usize| (random.next() % n as u64) as usize;
            let length = 16 + below((bytes.len() - first) / 2);
            let at = first + below(bytes.len() - first - length.min(bytes.len() - first - 3) - 2);
            let end = (at + length).min(bytes.len() - 2);
            let mut holed = bytes.clone();
            match below(3) {
                0 => drop(holed.drain(at..end)),
                1 => holed[at..end].fill(0),
                _ => holed[at..end].iter_mut().for_each(|b| *b = below(255) as u8),
            }
            if holed != bytes {
                all += 1;
                here += Picture::decode(&holed, Budget::DEVICE).is_ok() as u32;
            }
        }
        println!("{name}: {here} of {count} holes look like an image");
        missed += here;
    }
    println!("{missed} of {all}");
    assert!(missed * 200 <= all, "{missed} of {all} holes look like images");
}

/// Two intervals that changed places are as many blocks, each of valid codes: only the numbers of
/// their markers tell.
#[test]
fn restart_intervals_out_of_their_order_are_refused() {
    let whole = large_jpegs().into_iter().find(|(name, _)| *name == "large_restart").unwrap().1;
    let marks: Vec<usize> =
        (0..whole.len() - 1).filter(|&at| whole[at] == 0xff && (0xd0..=0xd7).contains(&whole[at + 1])).collect();
    assert!(marks.len() > 4 && Picture::decode(&whole, Budget::DEVICE).is_ok());
    let [first, second, third] = marks[1..4] else { unreachable!() };
    let swapped = [&whole[..first], &whole[second..third], &whole[first..second], &whole[third..]].concat();
    let refused = Picture::decode(&swapped, Budget::DEVICE).unwrap_err().to_string();
    assert!(refused.contains("where a restart is due"), "{refused}");
}

/// What libjpeg and FFmpeg take for the same image: no tables, fill bytes before markers, bytes
/// before the start and behind the end.
#[test]
fn frames_of_motion_jpeg_may_lack_tables_and_be_padded() {
    let expected = Picture::decode(WHOLE, Budget::DEVICE).unwrap();
    let bare = without_tables(WHOLE);
    assert!(bare.len() < WHOLE.len());
    let filled = |jpeg: &[u8]| {
        let scan = jpeg.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
        let mut bytes = jpeg[..2].to_vec();
        bytes.extend([0xff; 3]);
        bytes.extend(&jpeg[2..scan]);
        bytes.extend([0xff; 5]);
        bytes.extend(&jpeg[scan..jpeg.len() - 2]);
        bytes.extend([0xff; 4]);
        bytes.extend(&jpeg[jpeg.len() - 2..]);
        bytes
    };
    let front = [b"\0\x01junk\xff\xd8\0".as_slice(), &bare].concat();
    let behind = [&bare, &[0; 700][..]].concat();
    for (what, bytes) in [
        ("whole", WHOLE),
        ("bare", &bare),
        ("filled", &filled(WHOLE)),
        ("bare and filled", &filled(&bare)),
        ("junk in front", &front),
        ("padding behind", &behind),
    ] {
        let got = frame(bytes, WHOLE).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(got == expected, "{what} is another image");
    }
}

/// An end before the last scan of one component leaves an image without colours.
#[test]
fn components_in_scans_of_their_own_must_all_come() {
    let bytes = std::fs::read(folder().join("scans420.jpg")).unwrap();
    assert!(Picture::decode(&bytes, Budget::DEVICE).is_ok());
    let scans: Vec<usize> = bytes.windows(2).enumerate().filter(|(_, w)| *w == [0xff, 0xda]).map(|(at, _)| at).collect();
    assert_eq!(scans.len(), 3);
    for scan in &scans[1..] {
        // Tables stand before their scan; what is left is well-formed without them.
        let ended = [&bytes[..*scan], &[0xff, 0xd9]].concat();
        let error = Picture::decode(&ended, Budget::DEVICE).unwrap_err().to_string();
        assert!(error.contains("64 of 64 coefficients"), "{error}");
    }
}

/// A camera's frame that broke off kept the thumbnail's end marker, and was taken for a whole one.
#[test]
fn the_end_marker_of_a_thumbnail_is_not_the_images() {
    let mut app1 = vec![0xff, 0xe1, 0, 0];
    app1.extend(b"Exif\0\0thumbnail:");
    app1.extend(WHOLE);
    let length = (app1.len() - 2) as u16;
    app1[2..4].copy_from_slice(&length.to_be_bytes());
    let with_thumbnail = [&WHOLE[..2], &app1, &WHOLE[2..]].concat();
    assert!(frame(&with_thumbnail, WHOLE).is_ok());
    assert!(frame(&with_thumbnail[..with_thumbnail.len() * 3 / 4], WHOLE).is_err());
}

/// A frame whose camera wrote "turn me" was turned, and then had another size than was agreed:
/// every frame was refused.
#[test]
fn a_frame_of_motion_jpeg_is_taken_as_it_lies() {
    let turned = std::fs::read(folder().join("exif6.jpg")).unwrap();
    let plain = std::fs::read(folder().join("exif1.jpg")).unwrap();
    let frame = Picture::decode_frame(&turned, [45, 29], Budget::DEVICE).unwrap();
    assert!(frame == Picture::decode_frame(&plain, [45, 29], Budget::DEVICE).unwrap());
    let file = Picture::decode(&turned, Budget::DEVICE).unwrap();
    assert_eq!([file.width, file.height], [29, 45], "a file is turned");
}

#[test]
fn a_frame_of_another_size_is_refused_before_it_is_decoded() {
    let [w, h] = size_of(WHOLE);
    let mut bytes = WHOLE.to_vec();
    let sof = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bytes[sof + 5..sof + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let error = Picture::decode_frame(&bytes, [w, h], Budget::DEVICE).unwrap_err();
    assert!(matches!(error, PictureError::OtherSize { found: [8192, 8192], .. }), "{error}");
}

/// Each kind states its size in the header, and is refused by it: none of these files holds any
/// pixels.
#[test]
fn what_takes_too_much_memory_is_refused_by_its_header() {
    let png = |kind: u8, bits: u8, side: u32| {
        let mut ihdr = b"IHDR".to_vec();
        ihdr.extend(side.to_be_bytes());
        ihdr.extend(side.to_be_bytes());
        ihdr.extend([bits, kind, 0, 0, 0]);
        let chunk =
            |body: &[u8]| [&(body.len() as u32 - 4).to_be_bytes(), body, &crc32fast::hash(body).to_be_bytes()].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(&ihdr), chunk(b"IDAT"), chunk(b"IEND")].concat()
    };
    let mut bmp = b"BM".to_vec();
    bmp.extend([0, 0, 16, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 0, 32, 0, 0, 0, 32, 0, 0, 1, 0, 24, 0]);
    bmp.extend([0; 24]);
    let mut jpeg = WHOLE.to_vec();
    let sof = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[sof + 5..sof + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let mut webp = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f".to_vec();
    webp.extend((8191u32 | 8191 << 14).to_le_bytes());
    webp.extend([0; 9]);
    for (what, bytes) in
        [("png", png(2, 8, 8192)), ("png rgba16", png(6, 16, 8192)), ("bmp", bmp), ("jpeg", jpeg), ("webp", webp)]
    {
        let error = Picture::decode(&bytes, Budget::megabytes(64)).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { width: 8192, height: 8192, .. }), "{what}: {error}");
        assert!(error.to_string().contains("8192x8192") && error.to_string().contains("64 MB"), "{what}: {error}");
    }
    let error = Picture::decode(&png(2, 8, 50_000), Budget::DEVICE).unwrap_err();
    assert!(error.to_string().contains("8192 a side"), "{error}");
    // The nearest good one.
    assert!(Picture::decode(WHOLE, Budget::megabytes(1)).is_ok());
}

/// The decoder took memory for the planes that the image's own header states, before it compared
/// that with the canvas, and 16 MB for a partition that a few bytes stated.
#[test]
fn a_webp_that_states_more_than_it_holds_is_refused() {
    let webp = |name: &str| std::fs::read(folder().join(name)).unwrap();
    let error = |bytes: &[u8]| Picture::decode(bytes, Budget::DEVICE).map(|_| ()).unwrap_err().to_string();
    let mut alpha = webp("lossy_alpha.webp");
    let start = alpha.windows(3).position(|w| w == [0x9d, 0x01, 0x2a]).unwrap();
    alpha[start + 6] = 0x1f;
    assert!(error(&alpha).contains("as its canvas of 45x29"), "{}", error(&alpha));
    let lossy = webp("lossy.webp");
    let start = lossy.windows(3).position(|w| w == [0x9d, 0x01, 0x2a]).unwrap() + 7;
    let flipped = (8 * start..8 * (start + 40)).map(|bit| {
        let mut bytes = lossy.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Picture::decode(&bytes, Budget::DEVICE).map_or_else(|e| e.to_string(), |_| String::new())
    });
    assert!(flipped.filter(|e| e.contains("bytes of its coefficients")).count() > 0, "no bit makes partitions of one");
    let mut moving = lossy.clone();
    moving.extend(b"ANIM\0\0\0\0");
    let length = moving.len() as u32 - 8;
    moving[4..8].copy_from_slice(&length.to_le_bytes());
    assert!(error(&moving).contains("an animation"), "{}", error(&moving));
}

/// A lossless stream of one grey, behind its size, coded by `groups` groups of codes of which the
/// first has 2048 symbols of eleven bits: ten bytes a group.
fn grey_by_groups(groups: u32, pixels: u32) -> Vec<u8> {
    let (mut bytes, mut held, mut count) = (Vec::new(), 0u64, 0);
    let mut put = |value: u32, bits: u32| {
        held |= (value as u64) << count;
        count += bits;
        while count >= 8 {
            bytes.push(held as u8);
            (held, count) = (held >> 8, count - 8);
        }
    };
    // No transform, a cache of 2048 colours, blocks of 512, and an entropy image of one pixel.
    [(0, 1), (1, 1), (11, 4), (1, 1), (7, 3), (0, 1)].into_iter().for_each(|(value, bits)| put(value, bits));
    // A code of one symbol.
    let one = |put: &mut dyn FnMut(u32, u32), symbol: u32| {
        put(0b101, 3);
        put(symbol, 8);
    };
    [(groups - 1) & 255, (groups - 1) >> 8, 0, 0, 0].into_iter().for_each(|symbol| one(&mut put, symbol));
    for _ in 0..groups {
        // Fifteen lengths of the code of lengths, of which only the last, for 11, is not 0: each
        // of 2048 symbols then takes eleven bits, and to say so none.
        let lengths = [(0, 1), (11, 4), (0, 28), (0, 14), (1, 3), (1, 1), (5, 3), (2046, 12)];
        lengths.into_iter().for_each(|(value, bits)| put(value, bits));
        (0..4).for_each(|_| one(&mut put, 0));
    }
    (0..pixels).for_each(|_| put(0, 11));
    put(0, 8);
    bytes
}

/// A WebP file of these chunks.
fn webp_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (kind, content) in chunks {
        body.extend(*kind);
        body.extend((content.len() as u32).to_le_bytes());
        body.extend(*content);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// A file of 308 KB made the decoder take 1.7 GB for its tables of prefix codes: of an image of
/// 16x16, and with no word of it in the header. Transparency is such an image too.
#[test]
fn tables_of_prefix_codes_count_as_memory() {
    let lossless = |groups| {
        let size = (15u32 | 15 << 14).to_le_bytes();
        webp_of(&[(b"VP8L", &[&[0x2f], &size[..], &grey_by_groups(groups, 256)].concat())])
    };
    let lossy = std::fs::read(folder().join("lossy.webp")).unwrap();
    let vp8 = lossy.windows(4).position(|w| w == b"VP8 ").unwrap() + 8;
    let transparent = |groups| {
        let canvas = [0x10, 0, 0, 0, 44, 0, 0, 28, 0, 0];
        let alpha = [&[1], &grey_by_groups(groups, 45 * 29)[..]].concat();
        webp_of(&[(b"VP8X", &canvas), (b"ALPH", &alpha), (b"VP8 ", &lossy[vp8..])])
    };
    for what in ["lossless", "transparent"] {
        let file = |groups| if what == "lossless" { lossless(groups) } else { transparent(groups) };
        let decode = |groups| Picture::decode(&file(groups), Budget::megabytes(64));
        for groups in [1, 2, 200, 900] {
            decode(groups).unwrap_or_else(|e| panic!("{what} of {groups} groups: {e}"));
        }
        for groups in [1000, 30_000, 65_536] {
            let error = decode(groups).unwrap_err();
            let needed = matches!(error, PictureError::TooLarge { needed, .. } if needed > 64 << 20);
            assert!(needed, "{what} of {groups} groups: {error}");
        }
    }
    // A stream that ends before its first pixel, in a file that is whole.
    let size = (15u32 | 15 << 14).to_le_bytes();
    let stream = grey_by_groups(3, 256);
    for end in 0..40 {
        let cut = webp_of(&[(b"VP8L", &[&[0x2f], &size[..], &stream[..end]].concat())]);
        let error = Picture::decode(&cut, Budget::DEVICE).unwrap_err().to_string();
        assert!(error.contains("before its first pixel"), "{end}: {error}");
    }
}

fn scratch(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("tagpin-images-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn only_regular_files_are_read() {
    let folder = scratch("fifo");
    let fifo = folder.join("fifo.jpg");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    for path in [fifo.as_path(), Path::new("/dev/zero"), &folder] {
        assert!(
            matches!(Picture::open(path, Budget::DEVICE), Err(PictureError::Read(Unread::NotRegular))),
            "{}",
            path.display()
        );
    }
    let file = folder.join("large.jpg");
    std::fs::File::create(&file).unwrap().set_len(3 << 20).unwrap();
    assert!(matches!(Picture::open(&file, Budget::megabytes(2)), Err(PictureError::Read(Unread::TooLarge { .. }))));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A tag's folder that was a link vanished, a link to itself was a danger, and one folder without
/// permission refused all.
#[test]
fn one_walk_follows_links_once_and_says_what_it_left_out() {
    use std::os::unix::fs::symlink;
    let root = scratch("walk");
    let (top, other) = (root.join("top"), root.join("other"));
    std::fs::create_dir_all(top.join("a/deep")).unwrap();
    std::fs::create_dir_all(&other).unwrap();
    for file in [top.join("a/1.JPG"), top.join("a/deep/2.png"), other.join("3.webp")] {
        std::fs::write(file, WHOLE).unwrap();
    }
    for file in ["a/x.heic", "a/y.HEIC", "a/z.tiff", "a/notes.txt"] {
        std::fs::write(top.join(file), "").unwrap();
    }
    symlink(&other, top.join("linked")).unwrap();
    symlink(&other, top.join("linked-again")).unwrap();
    symlink(".", top.join("self")).unwrap();
    symlink("nowhere", top.join("a/lost.jpg")).unwrap();
    let fifo = top.join("pipe.jpg");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let listing = list(&top).unwrap();
    let names: Vec<_> = listing.files.iter().map(|f| f.strip_prefix(&top).unwrap().display().to_string()).collect();
    assert_eq!(names, ["a/1.JPG", "a/deep/2.png", "linked/3.webp"]);
    let count = |kind| listing.left_out.get(&kind).map_or(0, |(n, _)| *n);
    assert_eq!(count(LeftOut::Foreign("heic")), 2);
    assert_eq!(count(LeftOut::Foreign("tiff")), 1);
    assert_eq!((count(LeftOut::Broken), count(LeftOut::Special), count(LeftOut::Other)), (1, 1, 1));
    let remarks: Vec<String> = listing.remarks().collect();
    assert_eq!(remarks.len(), 4, "{remarks:?}");
    assert!(remarks[0].contains("2 .heic files") && remarks[0].contains("convert"), "{remarks:?}");
    std::fs::remove_dir_all(root).unwrap();
}
