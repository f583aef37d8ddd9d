//! Where in an image a finding comes from: `tagpin classify --heat`.

use crate::program::*;
use std::path::Path;
use tagpin::bundle::Bundle;
use tagpin::frame::{Colour, FrameView, Layout, PixelFormat};
use tagpin::pictures::{Budget, Picture};
use tagpin::preprocess::{Preprocessor, Target};
use tagpin::random::Random;
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// Side of the shipped model's input image.
const SIDE: usize = 96;

/// Each image takes two hundred inferences, which an emulator runs thirty times as long.
fn fewer(cases: u64) -> u64 {
    if emulated() { cases / 10 } else { cases }
}

/// Drawn parts as the model sees them, one file each; `change` is given the image and its case's
/// numbers.
fn parts(at: &Path, seed: u64, cases: u64, mut change: impl FnMut(&mut [u8], &mut Random)) {
    let bytes = std::fs::read(PARTS).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let mut preprocessor = Preprocessor::new(Target::of(&bundle.contract.input, None));
    for case in 0..cases {
        let mut random = Random::new(seed ^ 0x4ea7, case);
        let kind = Kind::ALL[random.range(0, Kind::ALL.len() as i32 - 1) as usize];
        let mut frame = vec![0; WIDTH * HEIGHT * 3];
        render(&Shot::draw(kind, &Conditions::TRAINING, seed, case), case * 1000, &mut frame);
        let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), WIDTH as u32, HEIGHT as u32);
        let mut rgb = preprocessor.image(&FrameView::new(layout, &frame).unwrap()).unwrap().to_vec();
        change(&mut rgb, &mut random);
        Picture::write_png(&at.join(format!("{case:03}.png")), SIDE as u32, SIDE as u32, &rgb).unwrap();
    }
}

/// What `classify --heat` says of each image in `at`.
fn heat(at: &Path, more: &[&str]) -> Vec<serde_json::Value> {
    let [images, heat] = [at, &at.join("heat")].map(|p| p.to_str().unwrap().to_string());
    let out = finish(tagpin(&[&["classify", PARTS, &images, "--json", "--heat", &heat], more].concat()));
    assert!(out.status.success(), "{}", stderr(&out));
    events(&out)
}

/// The hottest cell's left, top, right and lower edge in pixels.
fn hottest(record: &serde_json::Value) -> [f64; 4] {
    std::array::from_fn(|i| record["heat"]["hottest"][i].as_f64().unwrap() * SIDE as f64)
}

/// "Says where it saw it": parts with something striped on them that no part has, at drawn places,
/// which makes them foreign. The hottest cell lies on it in nine of ten.
#[test]
fn the_heat_of_a_part_with_a_mark_lies_on_the_mark() {
    const MARK: usize = 20;
    let folder = folder("heat-marks");
    let (seed, cases) = drawn_cases(fewer(40));
    let mut places = Vec::new();
    parts(&folder, seed, cases, |rgb, random| {
        let at = [0, 1].map(|_| random.range(4, (SIDE - MARK - 4) as i32) as usize);
        for (y, x) in (0..MARK * MARK).map(|i| (at[1] + i / MARK, at[0] + i % MARK)) {
            let colour = if (x - at[0]) / 4 % 2 == 0 { [230, 30, 210] } else { [20, 240, 60] };
            rgb[3 * (y * SIDE + x)..][..3].copy_from_slice(&colour);
        }
        places.push(at);
    });
    let found = heat(&folder, &["--heat-of", "distance"]);
    let foreign = found.iter().filter(|record| record["verdict"] == "foreign").count() as u64;
    assert_eq!(found.len(), places.len());
    let mut on = 0;
    for (record, at) in found.iter().zip(&places) {
        let edges = hottest(record);
        let overlaps = |low: f64, high: f64, from: usize| low < (from + MARK) as f64 && high > from as f64;
        on += u64::from(overlaps(edges[0], edges[2], at[0]) && overlaps(edges[1], edges[3], at[1]));
        assert_eq!(record["heat"]["of"], "distance");
        assert_eq!(record["heat"]["grid"], serde_json::json!([12, 12]));
        // The image is the model's own, red in that cell.
        let painted = Picture::open(record["heat"]["file"].as_str().unwrap().as_ref(), Budget::HOST).unwrap();
        let middle = [0, 1].map(|i| ((edges[i] + edges[i + 2]) / 2.0) as usize);
        let pixel = &painted.rgb[3 * (middle[1] * SIDE + middle[0])..][..3];
        assert_eq!((painted.width, painted.height), (SIDE as u32, SIDE as u32));
        assert!(pixel[0] >= 190 && pixel[1] < 80, "{pixel:?}");
    }
    println!("the hottest cell lies on the mark in {on} of {cases}; {foreign} are foreign");
    assert!(10 * on >= 9 * cases && 10 * foreign >= 8 * cases, "on the mark in {on} of {cases}, {foreign} foreign");
}

/// The tag of a good part comes from the part, not from the belt around it: parts lie in the middle
/// of the image.
#[test]
fn the_heat_of_a_tag_lies_on_the_part() {
    let folder = folder("heat-tags");
    let (seed, cases) = drawn_cases(fewer(20));
    parts(&folder, seed, cases, |_, _| {});
    let found = heat(&folder, &[]);
    let on = found.iter().filter(|record| {
        let [left, top, right, lower] = hottest(record);
        let margin = SIDE as f64 / 8.0;
        left >= margin && top >= margin && right <= SIDE as f64 - margin && lower <= SIDE as f64 - margin
    });
    let on = on.count() as u64;
    for record in &found {
        let of = if record["verdict"] == "foreign" { "distance" } else { record["tags"][0]["tag"].as_str().unwrap() };
        assert_eq!(record["heat"]["of"], of);
    }
    println!("the hottest cell lies on the part in {on} of {cases}");
    assert!(10 * on >= 9 * cases, "on the part in {on} of {cases}");
}

#[test]
fn heat_needs_a_folder_that_can_be_written_and_leaves_the_table_as_it_is() {
    let at = folder("heat-table");
    let image = "tests/data/part.jpg";
    let plain = finish(tagpin(&["classify", PARTS, image])).stdout;
    let heat = at.join("new/heat");
    let out = finish(tagpin(&["classify", PARTS, image, "--heat", heat.to_str().unwrap()]));
    assert_eq!((out.status.code(), &out.stdout), (Some(0), &plain));
    assert!(heat.join("00000-part.png").is_file());
    let file = at.join("file");
    std::fs::write(&file, "x").unwrap();
    let out = finish(tagpin(&["classify", PARTS, image, "--heat", file.to_str().unwrap()]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("--heat") && stderr(&out).contains("cannot be made"), "{}", stderr(&out));
}

/// Shares of one job wrote over one another's images, and an image that lay there was replaced.
#[test]
fn heat_maps_of_shares_have_names_of_their_own_and_replace_nothing() {
    let folder = folder("heat-shares");
    parts(&folder, 1, 4, |_, _| {});
    let heat = crate::program::folder("heat-shares-into");
    let [images, into] = [&folder, &heat].map(|p| p.to_str().unwrap());
    let share = |n: &str| finish(tagpin(&["classify", PARTS, images, "--json", "--heat", into, "--shard", n]));
    let written = |n: &str| {
        let out = share(n);
        assert!(out.status.success(), "{}", stderr(&out));
        events(&out).iter().map(|r| r["heat"]["file"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let mut all = [written("1/2"), written("2/2")].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), std::fs::read_dir(&heat).unwrap().count()), (4, 4), "{all:?}");
    std::fs::write(&all[0], "somebody's").unwrap();
    let out = share("1/2");
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("cannot be written: File exists") && stderr(&out).contains("--heat"), "{}", stderr(&out));
    assert_eq!(std::fs::read_to_string(&all[0]).unwrap(), "somebody's");
}
