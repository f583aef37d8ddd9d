//! Frames of a part that passes: which one has it in the middle, and what several parts say of the
//! line's times.
//!
//! The belt behind a part is the same in most frames, so what differs from each pixel's median is
//! the part. Terms: *offset*: from a part's trigger to a frame's exposure.

use crate::time::Micros;

/// Grey levels by which a pixel must differ from its median to be the part's.
const DIFFERS: i32 = 24;
/// Least share of a frame that a part covers.
const LEAST_PART: f32 = 0.01;
/// Frames below which no median says what is behind a part.
const LEAST_FRAMES: usize = 5;
/// Offsets are rounded up to this in a file that people read.
const STEP_MS: u64 = 10;

/// A small image of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// From the trigger to its exposure; below 0: it was exposed before.
    pub offset_us: i64,
    /// Columns and rows.
    pub size: [usize; 2],
    /// RGB8, `[rows, columns, 3]`.
    pub rgb: Vec<u8>,
}

/// Microseconds as they are told: whole milliseconds, the nearest.
fn told_ms(us: i64) -> i64 {
    (us as f64 / 1000.0).round() as i64
}

impl Glimpse {
    /// The offset as it is told.
    pub fn offset_ms(&self) -> i64 {
        told_ms(self.offset_us)
    }

    fn grey(&self, pixel: usize) -> i32 {
        let [r, g, b] = [0, 1, 2].map(|c| i32::from(self.rgb[3 * pixel + c]));
        (2 * r + 5 * g + b) / 8
    }
}

/// A part in a frame.
#[derive(Clone, Copy)]
struct Seen {
    /// From the middle of the frame to its own, in units of the frame's longer side.
    at: [f32; 2],
    /// Share of the frame that it covers.
    share: f32,
}

impl Seen {
    /// Its distance from the middle.
    fn distance(self) -> f32 {
        self.at[0].hypot(self.at[1])
    }
}

/// How far a part goes from one frame to the next, in the same unit: in the middle of all frames
/// that show one.
fn step(found: &[Seen]) -> f32 {
    let both = found.array_windows::<2>().filter(|pair| pair.iter().all(|seen| seen.share >= LEAST_PART));
    let mut all: Vec<f32> = both.map(|[a, b]| (b.at[0] - a.at[0]).hypot(b.at[1] - a.at[1])).collect();
    all.sort_unstable_by(f32::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// Where the part is in each frame.
fn found(frames: &[Glimpse]) -> Vec<Seen> {
    let pixels = frames.iter().map(|f| f.rgb.len() / 3).min().unwrap_or(0);
    let mut behind = vec![0; pixels];
    let mut levels = Vec::with_capacity(frames.len());
    for (pixel, behind) in behind.iter_mut().enumerate() {
        levels.clear();
        levels.extend(frames.iter().map(|f| f.grey(pixel)));
        levels.sort_unstable();
        *behind = levels[levels.len() / 2];
    }
    let of = |frame: &Glimpse| {
        let [columns, rows] = frame.size;
        let (mut n, mut x, mut y) = (0u32, 0.0, 0.0);
        for pixel in (0..pixels).filter(|pixel| (frame.grey(*pixel) - behind[*pixel]).abs() > DIFFERS) {
            n += 1;
            x += (pixel % columns) as f32 + 0.5;
            y += (pixel / columns) as f32 + 0.5;
        }
        let (n, side) = (n as f32, columns.max(rows) as f32);
        let at = [x / n - columns as f32 / 2.0, y / n - rows as f32 / 2.0].map(|d| d / side);
        Seen { at, share: n / pixels.max(1) as f32 }
    };
    frames.iter().map(of).collect()
}

/// A part farther than this from the middle is on its way to it or away from it.
const NEAR: f32 = 0.2;

/// In each frame the distance of a part from the middle, where one is near it.
fn near(found: &[Seen]) -> Vec<Option<f32>> {
    let most = found.iter().map(|seen| seen.share).fold(0.0, f32::max);
    // Parts are not of one size.
    let is_part = |seen: &Seen| seen.share >= LEAST_PART.max(most / 4.0);
    found.iter().map(|seen| Some(seen.distance()).filter(|distance| is_part(seen) && *distance <= NEAR)).collect()
}

/// How long before its trigger a part was near the middle already, as far as frames show it: the
/// next one is there as long before its own.
pub fn ahead(frames: &[Glimpse]) -> Micros {
    let near = near(&found(frames));
    let first = frames.iter().position(|frame| frame.offset_us >= 0).unwrap_or(0);
    if frames.len() < LEAST_FRAMES || near.get(first).is_none_or(Option::is_none) {
        return Micros(0);
    }
    let earliest = (0..first).rev().take_while(|i| near[*i].is_some()).last();
    earliest.map_or(Micros(0), |i| Micros(frames[i].offset_us.unsigned_abs()))
}

/// The frames from the trigger on in which a part is in the middle, one of each part that passes.
/// `until`: of frames before that only. None: nothing moves, or there are too few frames to say.
pub fn middles(frames: &[Glimpse], until: Option<Micros>) -> Vec<usize> {
    /// What one part may be farther from the middle than another, besides a frame's way and a
    /// quarter: of the one that is there at the trigger the nearest frame may have come before.
    const AS_NEAR: f32 = 0.08;
    /// Of frames as good as the best of a part the first is taken: it stands still.
    const AS_GOOD: f32 = 0.02;
    if frames.len() < LEAST_FRAMES {
        return Vec::new();
    }
    let found = found(frames);
    let near = near(&found);
    let end = until.map_or(i64::MAX, |until| until.0 as i64);
    let mut parts: Vec<(usize, f32)> = Vec::new();
    let mut is_same_part = false;
    for i in 0..frames.len() {
        let distance = near[i].filter(|_| (0..end).contains(&frames[i].offset_us));
        match (distance, parts.last_mut()) {
            (Some(distance), Some(part)) if is_same_part => {
                if distance < part.1 - AS_GOOD {
                    *part = (i, distance);
                }
            }
            (Some(distance), _) => parts.push((i, distance)),
            (None, _) => {}
        }
        is_same_part = distance.is_some();
    }
    let best = parts.iter().map(|(_, distance)| *distance).fold(f32::INFINITY, f32::min);
    let as_near = AS_NEAR.max(1.25 * step(&found));
    parts.retain(|(_, distance)| *distance <= best + as_near);
    parts.into_iter().map(|(i, _)| i).collect()
}

/// The frame that a trigger is for, where that is clear. `earlier`: what parts before had; `until`:
/// from then on frames may show the next part.
///
/// No frame says whose it is, so one of these is taken only where somebody has said so of an
/// earlier part.
pub fn likeliest(frames: &[Glimpse], middles: &[usize], earlier: &[Micros], until: Option<Micros>) -> Option<usize> {
    let offset = |i: &usize| frames[*i].offset_us;
    let mut sorted = earlier.to_vec();
    sorted.sort_unstable();
    let usual = sorted.get(sorted.len() / 2).copied();
    let end = until.filter(|until| usual.is_none_or(|usual| usual < *until)).map_or(i64::MAX, |until| until.0 as i64);
    let mut own = middles.iter().filter(|i| offset(i) < end);
    match usual {
        Some(usual) => own.min_by_key(|i| (offset(i) - usual.0 as i64).abs()).copied(),
        None => own.next().filter(|_| own.next().is_none()).copied(),
    }
}

/// What several parts say of a line's times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Offsets of the frames in which parts were centred, sorted.
    pub offsets: Vec<Micros>,
    /// From one frame to the next.
    pub interval: Micros,
    /// Longest time from a frame's exposure until it was here.
    pub arrival: Micros,
}

impl Timing {
    /// `offsets`: at least one.
    pub fn new(mut offsets: Vec<Micros>, interval: Micros, arrival: Micros) -> Self {
        offsets.sort_unstable();
        Self { offsets, interval, arrival }
    }

    /// The offsets as they are told, in milliseconds.
    pub fn offsets_ms(&self) -> String {
        let all: Vec<String> = self.offsets.iter().map(|offset| told_ms(offset.0 as i64).to_string()).collect();
        all.join(", ")
    }

    fn median(&self) -> Micros {
        self.offsets.get(self.offsets.len() / 2).copied().unwrap_or_default()
    }

    /// Between the earliest and the latest part.
    fn spread(&self) -> Micros {
        let [first, last] = [self.offsets.first(), self.offsets.last()].map(|o| o.copied().unwrap_or_default());
        Micros(last.0 - first.0)
    }

    /// Whether the parts are so far from each other that one may have been taken for another.
    pub fn is_wide(&self) -> bool {
        self.spread() > Micros((4 * self.interval.0).max(self.median().0 / 4))
    }

    /// Milliseconds of `[trigger] to_camera_ms`: half a frame before the median, so that the first
    /// frame exposed after it lies up to half a frame to either side.
    pub fn to_camera_ms(&self) -> u64 {
        self.median().0.saturating_sub(self.interval.0 / 2) / 1000
    }

    /// Milliseconds of `[trigger] deadline_ms`: until the latest part's frame is here, one more
    /// frame being lost.
    pub fn deadline_ms(&self) -> u64 {
        up(self.median().0 + self.spread().0 + 2 * self.interval.0 + self.arrival.0)
    }

    /// Milliseconds of `[trigger] min_spacing_ms`: of two parts as near as this each has a frame of
    /// its own, however early or late it is.
    pub fn min_spacing_ms(&self) -> u64 {
        up(self.spread().0 + 2 * self.interval.0)
    }
}

fn up(us: u64) -> u64 {
    us.div_ceil(1000 * STEP_MS) * STEP_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    /// A belt with a square part of `side` pixels whose middle is at `at`.
    fn frame(offset_us: i64, size: [usize; 2], at: [i32; 2], side: i32, random: &mut Random) -> Glimpse {
        let [columns, rows] = size;
        let mut rgb = Vec::new();
        for pixel in 0..columns * rows {
            let [x, y] = [(pixel % columns) as i32, (pixel / columns) as i32];
            let is_part = (x - at[0]).abs() <= side / 2 && (y - at[1]).abs() <= side / 2;
            // The belt has a pattern, and every pixel noise.
            let level = if is_part { 200 } else { 60 + (x * 7 + y * 3) % 40 } + random.range(-8, 8);
            rgb.extend([level as u8; 3]);
        }
        Glimpse { offset_us, size, rgb }
    }

    #[test]
    fn the_frame_with_the_part_in_the_middle_is_found_whatever_its_way_and_speed() {
        let (seed, cases) = drawn_cases(100);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let size = [random.range(24, 48) as usize, random.range(20, 40) as usize];
            let [columns, rows] = size.map(|n| n as i32);
            let (is_across, is_backwards) = (random.range(0, 1) == 0, random.range(0, 1) == 0);
            let (step, side) = (random.range(2, 5), random.range(6, 12));
            let before = random.range(0, 4);
            let length = if is_across { columns } else { rows };
            let frames: Vec<Glimpse> = (0..40)
                .map(|i| {
                    let way = (i - before) * step - side;
                    let way = if is_backwards { length - 1 - way } else { way };
                    let at = if is_across { [way, rows / 2] } else { [columns / 2, way] };
                    frame(i64::from(i - before) * 33_333, size, at, side, &mut random)
                })
                .collect();
            let centre = |i: usize| {
                let way = (i as i32 - before) * step - side;
                let way = if is_backwards { length - 1 - way } else { way };
                (way as f32 + 0.5 - length as f32 / 2.0).abs()
            };
            let found = middles(&frames, None);
            assert_eq!(found.len(), 1, "seed {seed} case {case}: {found:?}");
            let found = found[0];
            let best = (0..frames.len()).map(centre).fold(f32::INFINITY, f32::min);
            assert!(centre(found) <= best + step as f32, "seed {seed} case {case}: {found}, {} of {best}", centre(found));
        }
    }

    /// Tried on the conveyor: of a part that was still in view at the trigger of the next one the
    /// offset was 33 ms, and of the other four 633 to 699.
    #[test]
    fn of_two_parts_that_pass_it_is_the_one_that_earlier_triggers_had() {
        let mut random = Random::new(2, 0);
        let frames: Vec<Glimpse> = (0..40)
            .map(|i| {
                let x = if i < 12 { 20 + 4 * i } else { 4 * i - 60 };
                frame(i64::from(i) * 33_333, [40, 30], [x, 15], 8, &mut random)
            })
            .collect();
        let middles = middles(&frames, None);
        let offsets: Vec<i64> = middles.iter().map(|i| frames[*i].offset_ms()).collect();
        assert_eq!(offsets, [0, 667], "the first is in the middle at once, the second at frame 20");
        let likely = |earlier: &[u64], until: Option<u64>| {
            let earlier: Vec<Micros> = earlier.iter().map(|ms| Micros(1000 * ms)).collect();
            likeliest(&frames, &middles, &earlier, until.map(|ms| Micros(1000 * ms))).map(|i| frames[i].offset_ms())
        };
        assert_eq!([likely(&[650, 690], None), likely(&[20], None)], [Some(667), Some(0)]);
        assert_eq!(likely(&[], None), None, "either may be the part that was at the trigger");
        // The second frame may show the next part: a wrong first answer spread.
        assert_eq!([likely(&[], Some(640)), likely(&[20], Some(640))], [Some(0), Some(0)]);
        assert_eq!(likely(&[], Some(0)), None, "both may show the next part");
        assert_eq!(likely(&[690], Some(640)), Some(667), "somebody has said so of a part before");
    }

    /// Of a fast belt the frame in which a part was nearest to the middle may have come just before
    /// its trigger. The one after it was not named, and the next part's was taken for it.
    #[test]
    fn the_part_that_is_before_the_camera_at_its_trigger_is_found_though_its_best_frame_came_before() {
        let (seed, cases) = drawn_cases(100);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            // The trigger's first frame shows it a quarter of a frame's way to a whole one behind
            // the middle.
            let (step, side) = (random.range(3, 4), random.range(6, 12));
            let late = random.range(step / 4, step);
            let apart = 13 * step;
            // The two differ in their size.
            let other = random.range(side * 3 / 4, side * 4 / 3);
            let frames: Vec<Glimpse> = (-10..20)
                .map(|i| {
                    let x = 20 + late + i * step;
                    let (x, side) = if x > 46 { (x - apart, other) } else { (x, side) };
                    frame(i64::from(i) * 33_333, [40, 30], [x, 15], side, &mut random)
                })
                .collect();
            let first = middles(&frames, None).first().map(|i| frames[*i].offset_ms());
            assert_eq!(first, Some(0), "seed {seed} case {case}: {step} {late}");
        }
    }

    /// Of a slow belt, or many frames a second, a part is near the middle for many frames before
    /// its trigger: so is the next one before its own.
    #[test]
    fn how_long_a_part_was_near_the_middle_before_its_trigger_is_known() {
        for (way, ahead_ms) in [(0, 7 * 20), (4, 3 * 20), (8, 0), (30, 0)] {
            let mut random = Random::new(3, way as u64);
            // At the trigger it is at 20 - way of 40 columns, one more with each frame.
            let frames: Vec<Glimpse> =
                (-20..25).map(|i| frame(i64::from(i) * 20_000, [40, 30], [20 - way + i, 15], 8, &mut random)).collect();
            let found = ahead(&frames).0 / 1000;
            assert!(found.abs_diff(ahead_ms) <= 20, "{way}: {found} ms");
        }
    }

    #[test]
    fn where_nothing_moves_or_too_little_was_seen_no_frame_is_named() {
        let mut random = Random::new(1, 0);
        let still: Vec<Glimpse> = (0..30).map(|i| frame(i * 33_333, [32, 24], [-99, 0], 4, &mut random)).collect();
        assert!(middles(&still, None).is_empty());
        let few: Vec<Glimpse> = (0..4).map(|i| frame(i * 33_333, [32, 24], [i as i32 * 8, 12], 8, &mut random)).collect();
        assert!(middles(&few, None).is_empty());
        assert!(middles(&[], None).is_empty());
    }

    #[test]
    fn times_bound_what_was_seen() {
        let ms = |ms: u64| Micros(1000 * ms);
        let timing = Timing::new([260, 300, 267, 250, 280].map(ms).to_vec(), ms(33), ms(40));
        assert_eq!((timing.median(), timing.spread()), (ms(267), ms(50)));
        assert_eq!(timing.to_camera_ms(), 250);
        // 267 + 50 + 66 + 40 and 50 + 66, rounded up to ten.
        assert_eq!((timing.deadline_ms(), timing.min_spacing_ms()), (430, 120));
        assert_eq!(Timing::new(vec![ms(5)], ms(33), ms(0)).to_camera_ms(), 0);
        assert!(!timing.is_wide());
        assert!(Timing::new([33, 633, 666, 666, 699].map(ms).to_vec(), ms(33), ms(0)).is_wide());
    }
}
