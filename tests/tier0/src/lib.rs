//! Links tier 0 without a standard library or an allocator: a dependency that needs one is refused
//! by the compiler.
//!
//! `main.c` calls [`tier0_checksum`]; the same number comes out on every CPU.
#![no_std]

use tagpin::bundle::{Bundle, Fit, Section};
use tagpin::category::Categories;
use tagpin::decide::{Action, Policy, TagPolicy, TagRule, Task};
use tagpin::distance::{MAX_FEATURES, features as features_of};
use tagpin::frame::{CapturedAt, Colour, FrameView, Layout, PixelFormat, TimedBy};
use tagpin::head::{Score, Temperature, sigmoid, softmax};
use tagpin::kernels::epilogue::{Epilogue, Reach};
use tagpin::kernels::{ConvShape, Layer, elementwise, generic};
use tagpin::line::{CalledBy, Gate, GateLine, Moment, PartId, PartRules, Shape, Spacing, Travel};
use tagpin::preprocess::{Plan, Target, quantise};
use tagpin::quant::Clamp;
use tagpin::scene::{Conditions, Conveyor, HEIGHT, WIDTH};
use tagpin::station::{Effect, Input, Routing, Station, StationRules};
use tagpin::time::{Instant, Micros};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

const SIDE: usize = 32;

/// A frame through all of tier 0; 0 if anything refuses its input.
#[unsafe(no_mangle)]
pub extern "C" fn tier0_checksum() -> u32 {
    run().unwrap_or(0)
}

fn run() -> Option<u32> {
    static PARTS: &[u8] = include_bytes!("../../../models/parts.tagpin");
    static FORMAT_1: &[u8] = include_bytes!("../../board/patterns.tagpin");
    let bundle = Bundle::read(PARTS).ok()?;
    let sections = bundle.section(Section::Rules).map_or(0, <[u8]>::len) + Bundle::read(FORMAT_1).ok()?.contract.tags.len();
    let mut frame = [0u8; WIDTH * HEIGHT * 3];
    let belt = Conveyor { seed: 7, speed: 600, conditions: Conditions::TRAINING };
    let at = belt.crossing(0);
    belt.render(at, &mut frame);
    let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), WIDTH as u32, HEIGHT as u32);
    let target = Target { width: SIDE as u16, height: SIDE as u16, fit: Fit::Crop, roi: None };
    let mut taps = [0u16; 8192];
    let plan = Plan::new(layout, target, &mut taps).ok()?;
    let (mut blend, mut rgb) = ([0u16; 2 * (WIDTH * 3 + SIDE * 3)], [0u8; SIDE * SIDE * 3]);
    plan.run(&FrameView::new(layout, &frame).ok()?, &taps, &mut blend, &mut rgb);
    let mut tensor = [0i8; SIDE * SIDE * 3];
    quantise(&rgb, bundle.contract.input.tables.int8, &mut tensor);

    let shape = ConvShape {
        input: [SIDE, SIDE, 3],
        output: [16, 16, 8],
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pad: [1, 1],
        groups: 1,
    };
    let mut weights = [0i16; 8 * 27];
    weights.iter_mut().enumerate().for_each(|(i, w)| *w = (i * 37 % 255) as i16 - 127);
    let mut packed = [0i16; generic::packed_len(8, 27)];
    generic::pack(&weights, 8, 27, &mut packed);
    let epilogue = Epilogue { bias: &[100; 8], scale: &[0.002; 8], clamp: Clamp::full(-5), blocks: &[], reach: Reach::Any };
    let (mut features, mut scratch) = ([0i8; 16 * 16 * 8], [0i16; generic::scratch_len(27)]);
    let layer = Layer { shape: &shape, zero_point: 3, weights: &packed[..], epilogue };
    generic::conv(layer, &tensor, &mut features, &mut scratch);
    let mut average = [0i8; 8];
    elementwise::global_average(&features, -5, 1.0 / 256.0, Clamp::full(0), &mut average);

    let mut means_and_deviations = [0i32; 16];
    features_of(&features, 8, &mut means_and_deviations);

    let logits = average.map(|v| v as i32 * 8192);
    let (mut scores, mut sigmoids) = ([Score(0); 8], [Score(0); 8]);
    softmax(&logits, Temperature::ONE, &mut scores);
    sigmoid(&logits, Temperature::ONE, &mut sigmoids);
    let mut gate = Gate::new(&[Some(GateLine { delay: Travel::NONE, shape: Shape::Level, window: Micros(0), by: CalledBy::Verdict })], 0);
    gate.open(PartId(1), Moment::default()).ok()?;
    gate.decide(PartId(1), 1);
    let moved = gate.step(Moment::default())?.active;
    let tags = station(&sigmoids)?;

    let mut sum = 2_166_136_261u32 ^ tags as u32 ^ (sections as u32) << 8 ^ moved as u32;
    let mut mix = |v: u32| sum = (sum ^ v).wrapping_mul(16_777_619);
    rgb.iter().for_each(|&v| mix(v as u32));
    features.iter().for_each(|&v| mix(v as u8 as u32));
    means_and_deviations.iter().for_each(|&v| mix(v as u32));
    if let Some(spread) = &bundle.spread {
        let (mut seen, mut scaled) = ([0i32; MAX_FEATURES], [0i16; MAX_FEATURES]);
        let n = spread.features();
        seen[..n].iter_mut().zip(spread.centres()).enumerate().for_each(|(i, (f, c))| *f = c + means_and_deviations[i % 16]);
        mix(spread.measure(&seen[..n], &mut scaled[..n]).0);
    }
    // Two categories, b in a, for eight tags: none, a, b and so on.
    let section = *b"\x03a\nb\x04\0\0\x01\0\x10\0\0\x01\0\x02\0\0\0\x01\0\x02\0\0\0\x01\0";
    let categories = Categories::read(&section, &["0", "1", "2", "3", "4", "5", "6", "7"]).ok()?;
    categories.ids().for_each(|id| mix(categories.leaves(id).sum(&scores).0 as u32));
    scores.iter().chain(&sigmoids).for_each(|s| mix(s.0 as u32));
    Some(sum.max(1))
}

/// One part from its trigger to its decision; gives how many tags hold.
fn station(scores: &[Score; 8]) -> Option<usize> {
    let tags = [TagPolicy::new(TagRule::default(), Action::Accept); 8];
    let mut station = Station::new(StationRules {
        tags: &tags,
        policy: Policy::default(),
        routing: Routing::new(Task::Multilabel, Some(Action::Reject), &[None]),
        every_frame: false,
        spacing: Spacing::ANY,
        part: PartRules::default(),
        first_gate: None,
        parts: 0,
        max_faults: 0,
    })
    .ok()?;
    let (mut ticket, mut held) = (None, None);
    station.step(Moment::default(), Input::Trigger(Moment::default()), &mut |_| {});
    let frame = Input::Frame {
        captured_at: CapturedAt::Arrival {
            at: Instant::default().plus(Micros(5)),
            latency: Micros(0),
            by: TimedBy::Setting,
        },
        shows: None,
        print: None,
    };
    station.step(Moment::default(), frame, &mut |effect| {
        if let Effect::Classify(wanted) = effect {
            ticket = Some(wanted);
        }
    });
    station.step(Moment::default(), Input::Scores { ticket: ticket?, scores, beyond: false }, &mut |effect| {
        if let Effect::Decided(done) = effect {
            held = Some(done.decision.held.iter().count());
        }
    });
    held
}
