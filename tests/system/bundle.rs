//! Bundles as boards have them: what older tools packed runs as it always did.

use crate::program::*;
use tagpin::bundle::{Bundle, Hex};
use tagpin::engine::Engine;
use tagpin::frame::{Colour, FrameView, Layout, PixelFormat};
use tagpin::head::Score;
use tagpin::pictures::Picture;
use tagpin::preprocess::{Preprocessor, Target, quantise};
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// Logits and scores of `patterns.tagpin` for `part.jpg`, then for the first shots of seed 7 of
/// each kind in order. Recorded at commit 100bbe8, which knew format 1 only, by this test; that of
/// `part.jpg` when JPEG became what libjpeg makes of it.
const RECORDED: [([i32; 4], [u16; 4]); 9] = [
    ([-203502, 175589, 49387, -1421], [166, 53894, 7856, 3619]),
    ([-307361, 229130, 85413, 15376], [16, 56977, 6358, 2184]),
    ([-204249, 119339, 96145, -42657], [262, 36540, 25648, 3085]),
    ([-308117, 225416, -19936, 134108], [15, 51512, 1219, 12789]),
    ([-237413, 166357, 90513, -30986], [101, 47987, 15084, 2362]),
    ([-171252, 220275, 66438, -110763], [151, 59331, 5673, 380]),
    ([-181189, 154773, 60128, -68058], [305, 51390, 12125, 1715]),
    ([-289562, 138087, 166214, -8630], [36, 24786, 38071, 2642]),
    ([-278510, 59098, 150133, 33434], [67, 11512, 46175, 7782]),
];

#[test]
fn a_format_1_bundle_gives_the_scores_that_it_always_gave() {
    let bytes = include_bytes!("../board/patterns.tagpin");
    let bundle = Bundle::read(bytes).unwrap();
    let contract = &bundle.contract;
    assert_eq!(
        Hex(&bundle.sha256).to_string(),
        "50d1fe4d404b7eddd629f2c38e9c6cca6004a27fad403eb2874108e94a3b0c53",
        "the identity on its card"
    );
    let mut engine = Engine::from_bundle(&bundle).unwrap();
    let input = contract.input;
    let mut preprocessor = Preprocessor::new(Target { width: input.width, height: input.height, fit: input.fit, roi: None });
    let jpeg = Picture::decode(include_bytes!("../data/part.jpg"), tagpin::pictures::Budget::megabytes(16)).unwrap();
    let mut images = vec![(jpeg.layout(), jpeg.rgb)];
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        let mut rgb = vec![0; WIDTH * HEIGHT * 3];
        render(&Shot::draw(kind, &Conditions::TRAINING, 7, i as u64), 0, &mut rgb);
        images.push((Layout::packed(PixelFormat::Rgb8, Colour::default(), WIDTH as u32, HEIGHT as u32), rgb));
    }
    let mut got = Vec::new();
    for (layout, rgb) in &images {
        let rgb = preprocessor.image(&FrameView::new(*layout, rgb).unwrap()).unwrap();
        let (mut tensor, mut logits, mut scores) = (vec![0; rgb.len()], [0; 4], [Score(0); 4]);
        quantise(rgb, input.tables.int8, &mut tensor);
        engine.infer(&tensor, &mut logits).unwrap();
        contract.task.score(&logits, contract.temperature(), &mut scores);
        got.push((logits, scores.map(|s| s.0)));
    }
    assert_eq!(got, RECORDED);
}

/// The shipped model with a distance of its own: features against zero, and this limit.
fn with_limit(name: &str, limit: f64) -> String {
    use tagpin::bundle::{Section, write};
    use tagpin::distance::{Distance, Fit, Stage};
    let file = include_bytes!("../../models/parts.tagpin");
    let bundle = Bundle::read(file).unwrap();
    let engine = Engine::load(bundle.graph).unwrap();
    let a = engine.activations().iter().filter(|a| a.is_cut && a.positions > 1).nth(2).unwrap();
    let stage = Stage { name: &a.name, channels: a.channels as u16, positions: a.positions as u32 };
    let section = Fit {
        stages: &[stage],
        limit: Distance::from_real(limit),
        false_reject_ppm: 10_000,
        fitted: 100,
        left_out: 100,
        centres: &vec![0; stage.features()],
        scales: &vec![Fit::scale(8.0); stage.features()],
        axes: &[],
        rest: Fit::weight(1.0),
    }
    .section();
    let path = folder(name).join("limit.tagpin");
    std::fs::write(&path, write(&bundle.contract, bundle.graph, &[(Section::Distance, &section)]).unwrap()).unwrap();
    path.to_str().unwrap().to_string()
}

/// A part beyond the limit is foreign, whatever its scores; within it nothing changes. No bundle
/// had a distance, so nothing was foreign: photographs of waste passed as metal parts.
#[test]
fn what_lies_beyond_a_bundles_limit_is_foreign_on_the_line_and_in_classify() {
    let images = folder("foreign-images");
    for (i, kind) in [Kind::Bolt, Kind::Gear].into_iter().enumerate() {
        let mut rgb = vec![0; WIDTH * HEIGHT * 3];
        render(&Shot::draw(kind, &Conditions::TRAINING, 5, i as u64), 0, &mut rgb);
        Picture::write_png(&images.join(format!("{i}.png")), WIDTH as u32, HEIGHT as u32, &rgb).unwrap();
    }
    let images = images.to_str().unwrap();
    let source = format!("dir:{images}");
    for (name, limit, verdict, action) in
        [("limit-none", 0.0, "foreign", "reject"), ("limit-wide", 60_000.0, "present", "accept")]
    {
        let bundle = with_limit(name, limit);
        let out = finish(tagpin(&["classify", &bundle, images, "--json"]));
        assert!(out.status.success(), "{}", stderr(&out));
        let lines = events(&out);
        assert_eq!(lines.len(), 2);
        for line in &lines {
            assert_eq!((&line["verdict"], &line["action"]), (&verdict.into(), &action.into()), "{line}");
            assert!(line["distance"].as_f64().unwrap() > 0.0 && line["distance_limit"].as_f64() == Some(limit), "{line}");
        }
        let out = finish(tagpin(&["run", "--bundle", &bundle, "--source", &source, "--json"]));
        let all = events(&out);
        let parts = of(&all, "part");
        assert_eq!(parts.len(), 2, "{}", stderr(&out));
        assert!(parts.iter().all(|p| p["verdict"] == verdict && p["action"] == action), "{parts:?}");
    }
    // The stage that a limit names is not in the graph: refused at start.
    let path = with_limit("limit-elsewhere", 1.0);
    let bytes = std::fs::read(&path).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let section = bundle.section(tagpin::bundle::Section::Distance).unwrap();
    let mut other = section.to_vec();
    other[2] = b'?';
    let other =
        tagpin::bundle::write(&bundle.contract, bundle.graph, &[(tagpin::bundle::Section::Distance, &other)]).unwrap();
    std::fs::write(&path, other).unwrap();
    let out = finish(tagpin(&["classify", &path, images]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("distance: stage \"?"), "{}", stderr(&out));
}
