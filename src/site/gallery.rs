//! The last classified frames, for whoever shows or keeps images: taken over from the line in
//! passing.
//!
//! A few places of memory go round. The line exchanges its frame for the memory of the next free
//! place; a place that somebody is looking at is passed over, so the line never waits and copies
//! only the model's small image.

use crate::bundle::{Fit, Input};
use crate::head::Score;
use crate::pictures::Picture;
use crate::preprocess::{Plan, Target};
use crate::sources::FrameBuffer;
use crate::supervisor::{Onlooker, Seen};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Longest side of a frame as it is shown.
const SHOWN_SIDE: u32 = 640;

/// One classified frame.
#[derive(Clone)]
struct Place {
    number: u64,
    part: u64,
    rgb: Vec<u8>,
    scores: Vec<Score>,
    beyond: bool,
    frame: FrameBuffer,
}

/// What was seen of a frame, besides the frame.
pub struct Glance<'a> {
    /// The part that it counts for.
    pub part: u64,
    /// The model's input image, RGB8.
    pub rgb: &'a [u8],
    /// Its scores.
    pub scores: &'a [Score],
    /// Whether it lies beyond the distance limit.
    pub beyond: bool,
}

/// A classified frame as it is shown, with what the model saw and said of this one.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its number among the classified frames of the run, from 1.
    pub number: u64,
    /// The part that it counts for.
    pub part: u64,
    /// Columns and rows of the frame itself.
    pub size: [u32; 2],
    /// The frame, no larger than a page shows it.
    pub jpeg: Vec<u8>,
    /// The model's input image, RGB8.
    pub rgb: Vec<u8>,
    /// Its scores.
    pub scores: Vec<Score>,
}

/// A frame as the line had it, with what the model said of it.
#[derive(Debug)]
pub struct Whole {
    /// Its scores.
    pub scores: Vec<Score>,
    /// Whether it lies beyond the distance limit.
    pub beyond: bool,
    /// The frame.
    pub frame: FrameBuffer,
}

/// The last classified frames.
pub struct Gallery {
    size: [u32; 2],
    places: Vec<Mutex<Place>>,
    newest: AtomicUsize,
    count: AtomicU64,
}

impl Gallery {
    /// No frame was seen. `input`: the model's; `tags`: how many are decided on; `places`: frames
    /// that it holds, at least 2.
    pub fn new(input: Input<'_>, tags: usize, places: usize) -> Self {
        let size = [u32::from(input.width), u32::from(input.height)];
        let place = || {
            let rgb = vec![0; 3 * size[0] as usize * size[1] as usize];
            let scores = vec![Score(0); tags];
            Mutex::new(Place { number: 0, part: 0, rgb, scores, beyond: false, frame: FrameBuffer::empty() })
        };
        let places = (0..places).map(|_| place()).collect();
        Self { size, places, newest: AtomicUsize::new(0), count: AtomicU64::new(0) }
    }

    /// Columns and rows of the model's input image.
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// How many frames were seen.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Shows `look` each frame that came after number `last` and is still there, oldest first;
    /// gives the newest's number.
    pub fn since(&self, last: u64, mut look: impl FnMut(Glance<'_>)) -> u64 {
        let mut newer: Vec<(u64, usize)> = Vec::with_capacity(self.places.len());
        for (i, place) in self.places.iter().enumerate() {
            let number = place.lock().unwrap_or_else(PoisonError::into_inner).number;
            if number > last {
                newer.push((number, i));
            }
        }
        newer.sort_unstable();
        for &(number, i) in &newer {
            let place = self.places[i].lock().unwrap_or_else(PoisonError::into_inner);
            // The line may have come round meanwhile.
            if place.number == number {
                let Place { part, beyond, .. } = *place;
                look(Glance { part, rgb: &place.rgb, scores: &place.scores, beyond });
            }
        }
        newer.last().map_or(last, |(number, _)| *number)
    }

    /// The newest frame, whole and no larger than a page shows it; `None` before the first.
    pub fn newest(&self) -> Option<Result<Shown, String>> {
        let place = self.places[self.newest.load(Ordering::Acquire)].lock().unwrap_or_else(PoisonError::into_inner);
        let copy = (place.number > 0).then(|| place.clone())?;
        drop(place);
        Some(shown(copy))
    }

    /// The same of the last frame that counts for a part; `None` where it is not there any more.
    pub fn of(&self, part: u64) -> Option<Result<Shown, String>> {
        let frame_of = |place: &Mutex<Place>| {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            (place.number > 0 && place.part == part).then(|| place.clone())
        };
        self.places.iter().filter_map(frame_of).max_by_key(|place| place.number).map(shown)
    }

    /// Numbers of the frames that count for a part and are there, oldest first.
    pub fn numbers_of(&self, part: u64) -> Vec<u64> {
        let number_of = |place: &Mutex<Place>| {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            (place.number > 0 && place.part == part).then_some(place.number)
        };
        let mut numbers: Vec<u64> = self.places.iter().filter_map(number_of).collect();
        numbers.sort_unstable();
        numbers
    }

    /// A copy of the frame of this number; `None` where the line has gone on.
    pub fn copy_of(&self, number: u64) -> Option<Whole> {
        self.places.iter().find_map(|place| {
            let place = place.lock().unwrap_or_else(PoisonError::into_inner);
            let copy = || Whole { scores: place.scores.clone(), beyond: place.beyond, frame: place.frame.clone() };
            (place.number == number).then(copy)
        })
    }
}

/// A frame brought to a size: `[height, width, 3]`, RGB8.
pub fn rgb_of(frame: &FrameBuffer, target: Target) -> Result<Vec<u8>, String> {
    let view = frame.view().map_err(|e| e.to_string())?;
    let mut taps = vec![0; Plan::taps_len(view.layout(), target).map_err(|e| e.to_string())?];
    let plan = Plan::new(view.layout(), target, &mut taps).map_err(|e| e.to_string())?;
    let (mut scratch, mut rgb) =
        (vec![0; plan.scratch_len()], vec![0; 3 * usize::from(target.width) * usize::from(target.height)]);
    plan.run(&view, &taps, &mut scratch, &mut rgb);
    Ok(rgb)
}

/// A frame as it is shown.
fn shown(place: Place) -> Result<Shown, String> {
    let Place { number, part, rgb: model_rgb, scores, frame, .. } = place;
    let size = [frame.layout.width, frame.layout.height];
    let longest = size[0].max(size[1]).max(1);
    let side = |n: u32| (n * SHOWN_SIDE.min(longest) / longest).max(1);
    let (width, height) = (side(size[0]), side(size[1]));
    let target = Target { width: width as u16, height: height as u16, fit: Fit::Stretch, roi: None };
    let rgb = rgb_of(&frame, target)?;
    Ok(Shown { number, part, size, jpeg: Picture::to_jpeg(width, height, &rgb, 80)?, rgb: model_rgb, scores })
}

impl Onlooker for Gallery {
    fn saw(&self, seen: &Seen<'_>, frame: &mut FrameBuffer) {
        let newest = self.newest.load(Ordering::Relaxed);
        let places = self.places.len();
        for at in (1..places).map(|i| (newest + i) % places) {
            let Ok(mut place) = self.places[at].try_lock() else { continue };
            if place.rgb.len() != seen.rgb.len() || place.scores.len() != seen.scores.len() {
                return;
            }
            place.rgb.copy_from_slice(seen.rgb);
            place.scores.copy_from_slice(seen.scores);
            (place.part, place.beyond) = (seen.part, seen.beyond);
            place.number = self.count.load(Ordering::Relaxed) + 1;
            std::mem::swap(&mut place.frame, frame);
            self.count.store(place.number, Ordering::Release);
            self.newest.store(at, Ordering::Release);
            return;
        }
    }
}
