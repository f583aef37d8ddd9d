//! A conveyor with metal parts, drawn in fixed point: the runtime's built-in source and the tools'
//! first dataset.
//!
//! Pure: takes a shot or a moment, gives RGB8, the same bits on every CPU, without a heap.
//!
//! Terms: *shot*: one part under one light. *Conditions*: the ranges a shot is drawn from.
//! *Barrier*: the simulated light barrier that a part's middle crosses when it is near the middle
//! of the image.

mod shape;

use crate::random::Random;
use crate::time::{Instant, Micros};
pub use shape::Kind;
use shape::{ONE, cover, sin_cos};

/// Columns of a frame.
pub const WIDTH: usize = 320;
/// Rows of a frame.
pub const HEIGHT: usize = 240;
/// Distance between the middles of two parts on the belt, in pixels; larger than a frame, so that
/// one is seen at a time.
pub const SPACING: u64 = 400;

/// The ranges that a shot is drawn from, each inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Rotation in 1/65536 turns.
    pub rotation: (u16, u16),
    /// Size of the part in 1/256 of its nominal size.
    pub size: (u16, u16),
    /// Shift to each side in pixels.
    pub shift: u16,
    /// Brightness in 1/256, below and above normal.
    pub light: [(u16, u16); 2],
    /// Radius of blur in 1/16 pixel.
    pub blur: (u16, u16),
    /// Amplitude of noise in grey levels.
    pub noise: (u16, u16),
}

impl Conditions {
    /// What models are trained on: 0.8 of all rotations, light within a fifth of normal, blur up to
    /// 1.25 pixels.
    pub const TRAINING: Self = Self {
        rotation: (0, 52_428),
        size: (225, 285),
        shift: 16,
        light: [(205, 255), (256, 307)],
        blur: (0, 20),
        noise: (1, 6),
    };

    /// What models never saw: the other rotations, darker and brighter light, stronger blur.
    pub const BEYOND: Self = Self {
        rotation: (52_429, 65_535),
        size: (225, 285),
        shift: 16,
        light: [(160, 204), (308, 358)],
        blur: (21, 32),
        noise: (1, 8),
    };
}

/// One part under one light; all that an image depends on but the belt's own texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// What lies there.
    pub kind: Kind,
    /// Rotation in 1/65536 turns.
    pub rotation: u16,
    /// Size in 1/256.
    pub size: u16,
    /// Shift of the middle in pixels, right and down.
    pub shift: [i32; 2],
    /// Brightness in 1/256.
    pub light: u16,
    /// How much brighter the right and the lower edge are, in 1/256 over the whole image.
    pub slope: [i32; 2],
    /// Blur radius in 1/16 pixel.
    pub blur: u16,
    /// Amplitude of noise.
    pub noise: u16,
    /// The part's own grey.
    pub grey: u8,
    /// What its red and blue differ from its grey.
    pub tint: [i8; 2],
    /// Seed of belt texture and noise.
    pub seed: u64,
}

impl Shot {
    /// Draws a shot of `kind` from `conditions`; `seed` and `index` decide everything.
    pub fn draw(kind: Kind, conditions: &Conditions, seed: u64, index: u64) -> Self {
        let mut r = Random::new(seed, index);
        let pair = |r: &mut Random, (lo, hi): (u16, u16)| r.range(lo as i32, hi as i32) as u16;
        let side = (r.next() >> 63) as usize;
        let shift = conditions.shift as i32;
        Self {
            kind,
            rotation: pair(&mut r, conditions.rotation),
            size: pair(&mut r, conditions.size),
            shift: [r.range(-shift, shift), r.range(-shift, shift)],
            light: pair(&mut r, conditions.light[side]),
            slope: [r.range(-40, 40), r.range(-40, 40)],
            blur: pair(&mut r, conditions.blur),
            noise: pair(&mut r, conditions.noise),
            grey: r.range(105, 205) as u8,
            tint: [r.range(-14, 14) as i8, r.range(-14, 14) as i8],
            seed: r.next(),
        }
    }
}

/// Sample points of one pixel, in 1/16 pixel at blur radius 1/2: an eight-queens pattern, so that
/// no edge meets two at once.
const SAMPLES: [[i32; 2]; 8] = [[-7, -3], [-5, 5], [-3, -7], [-1, 1], [1, -1], [3, 7], [5, -5], [7, 3]];

/// Draws a shot at nominal position. `belt`: how far the belt has moved, in pixels. `rgb`:
/// `[HEIGHT, WIDTH, 3]`.
///
/// Panics if `rgb` has another length.
pub fn render(shot: &Shot, belt: u64, rgb: &mut [u8]) {
    render_at(shot, WIDTH as i32 * 8 + shot.shift[0] * 16, belt, rgb);
}

/// Draws with the part's middle at `middle` sixteenths of a pixel from the left edge.
fn render_at(shot: &Shot, middle: i32, belt: u64, rgb: &mut [u8]) {
    assert_eq!(rgb.len(), WIDTH * HEIGHT * 3, "one RGB8 frame");
    let (sin, cos) = sin_cos(shot.rotation);
    let (cx, cy) = (middle, HEIGHT as i32 * 8 + shot.shift[1] * 16);
    // A nominal part has a radius of 78 pixels; local = pixels/16 * unit, in 1/ONE of that radius.
    let unit = (ONE as i64 * 256 * 256 / (78 * 16 * shot.size as i64)) as i32;
    let reach = 78 * 16 * shot.size as i32 / 256 * 5 / 4 + 16 * 6;
    let spread = 8 + shot.blur as i32;
    let mut noise = Random::new(shot.seed, belt);
    for (y, row) in rgb.chunks_exact_mut(WIDTH * 3).enumerate() {
        let near_y = (y as i32 * 16 - cy).abs() < reach;
        let fibre = fibre(shot.seed, y as u64);
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let mut base = [52 + fibre, 58 + fibre, 55 + fibre];
            let speck = Random::new(shot.seed ^ 0x5eed, (x as u64 + belt) << 16 | y as u64).next();
            let speck = (speck >> 61) as i32 - 3;
            base.iter_mut().for_each(|b| *b += speck);
            if near_y && (x as i32 * 16 - cx).abs() < reach {
                base = part_over(shot, base, [x as i32 * 16 + 8 - cx, y as i32 * 16 + 8 - cy], spread, unit, (sin, cos));
            }
            let slope = shot.slope[0] * (x as i32 - 160) / 320 + shot.slope[1] * (y as i32 - 120) / 240;
            let light = shot.light as i32 + slope;
            let bits = noise.next();
            for (c, out) in pixel.iter_mut().enumerate() {
                // Four bytes added up are near enough to a bell curve; deviation about 0.58 of the
                // amplitude.
                let n = (0..4).map(|i| (bits >> (16 * c + 4 * i) & 15) as i32).sum::<i32>() - 30;
                *out = (((base[c] * light) >> 8) + n * shot.noise as i32 / 16).clamp(0, 255) as u8;
            }
        }
    }
}

/// The belt's weave: three grey levels of slow change from row to row.
fn fibre(seed: u64, y: u64) -> i32 {
    let at = |i: u64| (Random::new(seed ^ 0xf1b7e, i).next() >> 60) as i32;
    let (i, f) = (y / 6, (y % 6) as i32);
    (at(i) * (6 - f) + at(i + 1) * f) / 12
}

/// Blends the part and its shadow over `base` at offset `d` (1/16 pixel) from the part's middle.
fn part_over(shot: &Shot, base: [i32; 3], d: [i32; 2], spread: i32, unit: i32, (sin, cos): (i32, i32)) -> [i32; 3] {
    let local = |x: i32, y: i32| {
        let (u, v) = (((x as i64 * unit as i64) >> 8) as i32, ((y as i64 * unit as i64) >> 8) as i32);
        ((u * cos + v * sin) >> 14, (v * cos - u * sin) >> 14)
    };
    let (mut metal, mut sheen, mut shadow) = (0, 0, 0);
    for [sx, sy] in SAMPLES {
        let (x, y) = (d[0] + sx * spread / 8, d[1] + sy * spread / 8);
        let (u, v) = local(x, y);
        if cover(shot.kind, u, v) {
            metal += 1;
            // Light comes from the upper left whatever the rotation, so the sheen is taken in
            // image coordinates.
            sheen -= (x + y) / 96;
        } else {
            let (u, v) = local(x - 64, y - 64);
            shadow += cover(shot.kind, u, v) as i32;
        }
    }
    let grey = shot.grey as i32;
    let colour = [grey + shot.tint[0] as i32, grey, grey + shot.tint[1] as i32];
    let mut out = [0; 3];
    for c in 0..3 {
        let clear = 8 - metal - shadow;
        out[c] = (colour[c] * metal + sheen + base[c] * clear + base[c] * shadow * 5 / 8) / 8;
    }
    out
}

/// A belt that carries one part after another past the camera.
#[derive(Clone, Copy, Debug)]
pub struct Conveyor {
    /// Seed of parts, light and noise.
    pub seed: u64,
    /// Belt speed in pixels a second.
    pub speed: u32,
    /// What the parts are drawn from.
    pub conditions: Conditions,
}

/// What the simulator knows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// When the part crossed the barrier.
    pub at: Instant,
    /// The part's number on this belt, from 0.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
}

impl Conveyor {
    /// The shot of part `number`. Light drifts slowly: the whole range in 64 parts and back.
    pub fn part(&self, number: u64) -> Shot {
        let kind = Kind::PARTS[Random::new(self.seed ^ 0x6b1d, number).range(0, Kind::PARTS.len() as i32 - 1) as usize];
        let mut shot = Shot::draw(kind, &self.conditions, self.seed, number);
        let (lo, hi) = (self.conditions.light[0].0 as u64, self.conditions.light[1].1 as u64);
        let phase = number % 128;
        let drift = lo + (hi - lo) * if phase < 64 { phase } else { 128 - phase } / 64;
        shot.light = (drift * 3 / 4 + shot.light as u64 / 4) as u16;
        shot.seed = self.seed;
        shot
    }

    /// How far the belt has moved `elapsed` after the start, in pixels. Part 0 starts half a
    /// spacing before the barrier.
    pub fn belt(&self, elapsed: Micros) -> u64 {
        (elapsed.0 as u128 * self.speed as u128 / 1_000_000) as u64
    }

    /// When the middle of part `number` is at the barrier, as time since the start.
    pub fn crossing(&self, number: u64) -> Micros {
        let distance = (number * SPACING + SPACING / 2) as u128;
        Micros((distance * 1_000_000).div_ceil(self.speed.max(1) as u128) as u64)
    }

    /// From a part's crossing of the barrier until half of it has left the view, whatever its
    /// shift.
    pub fn in_view(&self) -> Micros {
        let distance = WIDTH as u64 / 2 - u64::from(self.conditions.shift);
        Micros(distance * 1_000_000 / u64::from(self.speed.max(1)))
    }

    /// The last part that crossed the barrier by `elapsed`, if one did; `start` is the run's first
    /// moment.
    pub fn last_crossing(&self, start: Instant, elapsed: Micros) -> Option<Crossing> {
        let number = (self.belt(elapsed) + SPACING / 2).checked_div(SPACING)?.checked_sub(1)?;
        Some(Crossing { at: start.plus(self.crossing(number)), number, kind: self.part(number).kind })
    }

    /// Draws what the camera sees `elapsed` after the start. `rgb`: `[HEIGHT, WIDTH, 3]`.
    pub fn render(&self, elapsed: Micros, rgb: &mut [u8]) {
        let belt = self.belt(elapsed);
        let number = belt / SPACING;
        let shot = self.part(number);
        let ahead = (number * SPACING + SPACING / 2) as i64 - belt as i64;
        // The part enters at the right edge and leaves at the left.
        let middle = WIDTH as i64 * 8 + 16 * (ahead + shot.shift[0] as i64);
        render_at(&shot, middle as i32, belt, rgb);
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::bundle::{Hex, sha256};

    fn frame(shot: &Shot) -> Vec<u8> {
        let mut rgb = vec![0; WIDTH * HEIGHT * 3];
        render(shot, 0, &mut rgb);
        rgb
    }

    /// The same on x86-64, aarch64 and armv7: CI runs this test on all three.
    #[test]
    fn golden_hashes() {
        let mut all = Vec::new();
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            all.extend(frame(&Shot::draw(kind, &Conditions::TRAINING, 1, i as u64)));
            all.extend(frame(&Shot::draw(kind, &Conditions::BEYOND, 2, i as u64)));
        }
        let belt = Conveyor { seed: 7, speed: 200, conditions: Conditions::TRAINING };
        let mut rgb = vec![0; WIDTH * HEIGHT * 3];
        for ms in [0, 333, 1000, 2345] {
            belt.render(Micros(ms * 1000), &mut rgb);
            all.extend(&rgb);
        }
        assert_eq!(Hex(&sha256(&all)).to_string(), "cafeb2e6a302fd53796991e48793e1a793429c786cb848d4a66ecf1a4146a4ae");
    }

    #[test]
    fn defects_cover_one_to_four_percent_of_their_part() {
        let area = |kind| {
            let grid = || (-64..64).map(|i| i * ONE / 50);
            grid().flat_map(|y| grid().map(move |x| (x, y))).filter(|&(x, y)| cover(kind, x, y)).count() as f64
        };
        for (whole, broken) in [(Kind::Gear, Kind::GearChipped), (Kind::Washer, Kind::WasherCracked)] {
            let defect = 1.0 - area(broken) / area(whole);
            assert!((0.01..=0.04).contains(&defect), "{whole:?}: {defect}");
        }
    }

    /// At the end of its view a part's middle is at the left border or beyond it, and before the
    /// next part is drawn.
    #[test]
    fn a_part_leaves_the_view_as_stated() {
        for speed in [1, 200, 600, 3000] {
            let belt = Conveyor { seed: 3, speed, conditions: Conditions::TRAINING };
            let moved = belt.belt(Micros(belt.crossing(0).0 + belt.in_view().0)) - belt.belt(belt.crossing(0));
            assert!((WIDTH as u64 / 2 - 20..=WIDTH as u64 / 2).contains(&moved) && moved < SPACING / 2, "{speed}: {moved}");
        }
    }

    #[test]
    fn a_part_is_in_the_middle_when_it_crosses_the_barrier() {
        let belt = Conveyor { seed: 3, speed: 300, conditions: Conditions { noise: (0, 0), ..Conditions::TRAINING } };
        for number in 0..20 {
            let at = belt.crossing(number);
            let crossing = belt.last_crossing(Instant::default(), at).unwrap();
            assert_eq!((crossing.number, crossing.kind), (number, belt.part(number).kind));
            assert_ne!(belt.last_crossing(Instant::default(), Micros(at.0 - 1)).map(|c| c.number), Some(number));
            let mut rgb = vec![0; WIDTH * HEIGHT * 3];
            belt.render(at, &mut rgb);
            let column = |x: usize| (0..HEIGHT).map(|y| rgb[(y * WIDTH + x) * 3 + 1] as u64).sum::<u64>() / HEIGHT as u64;
            let edge = column(2).max(column(WIDTH - 3));
            let middle = (100..220).map(column).max().unwrap();
            assert!(middle > edge + 10, "part {number}: {middle} against {edge}");
        }
    }
}
