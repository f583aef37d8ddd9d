//! Bundles as boards have them: what older tools packed runs as it always did.

use tagpin::bundle::{Bundle, Hex};
use tagpin::engine::Engine;
use tagpin::frame::{Colour, FrameView, Layout, PixelFormat};
use tagpin::head::Score;
use tagpin::pictures::Picture;
use tagpin::preprocess::{Preprocessor, Target, quantise};
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// Logits and scores of `patterns.tagpin` for `part.jpg`, then for the first shots of seed 7 of each kind in order. Recorded at commit
/// 100bbe8, which knew format 1 only, by this test.
const RECORDED: [([i32; 4], [u16; 4]); 9] = [
    ([-202971, 173160, 46586, 3297], [172, 53583, 7767, 4012]),
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
        let rgb = preprocessor.picture(&FrameView::new(*layout, rgb).unwrap()).unwrap();
        let (mut tensor, mut logits, mut scores) = (vec![0; rgb.len()], [0; 4], [Score(0); 4]);
        quantise(rgb, input.tables.int8, &mut tensor);
        engine.infer(&tensor, &mut logits).unwrap();
        contract.task.score(&logits, contract.temperature(), &mut scores);
        got.push((logits, scores.map(|s| s.0)));
    }
    assert_eq!(got, RECORDED);
}
