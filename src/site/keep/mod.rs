//! Images of parts that are kept on disk: of the kinds that device.toml states, and no others.
//!
//! A sink. When a part's end is told, [`Votes`] says what its frames said, and the gallery still
//! has them: the last one is written, or each of them where they disagree, as JPEG of the region
//! that the model sees, at full size, with a JSON file beside. [`crate::ring`] is where they go.
//! `KEEP.md` beside this folder's parent says what is kept, how long, and what that means where
//! people are in view.
//!
//! Terms: *lost*: an image that should have been kept and is not.

mod votes;

pub use votes::{Said, Votes};

use super::gallery::{Whole, rgb_of};
use crate::bundle::{Fit, Hex};
use crate::decide::{Action, Decision, Verdict};
use crate::events::sinks::{Allowance, Sink, Told};
use crate::events::{Event, Events, FaultKind, PartEvent, Remedy, What, Why};
use crate::pictures::Picture;
use crate::pictures::tag_folder;
use crate::preprocess::{Roi, Target};
use crate::random::Random;
use crate::ring::{Image, Kind, NotKept, Ring};
use crate::settings::Keeping;
use crate::sources::FrameBuffer;
use crate::time::{Instant, Micros};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// JPEG quality.
const QUALITY: u8 = 90;
/// Most scores in a JSON file, the best first.
const SCORES: usize = 16;
/// How often the folder is looked after where no image comes.
const TEND_EVERY: Micros = Micros(30_000_000);
/// Longest side of what is converted at once.
const TILE: u32 = 2048;

/// What was in an image's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The disk or the folder.
    Folder,
    /// It is larger than its kind's quota or the folder's cap.
    Quota,
    /// The line had gone on before the frame was copied.
    Overtaken,
    /// The day's bytes were written.
    Allowance,
    /// No JPEG could be made of it.
    Image,
}

impl Lost {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Folder, Self::Quota, Self::Overtaken, Self::Allowance, Self::Image];

    /// The name used in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Quota => "quota",
            Self::Overtaken => "overtaken",
            Self::Allowance => "allowance",
            Self::Image => "image",
        }
    }
}

/// What was kept and lost so far, and what the folder holds.
#[derive(Debug, Default)]
pub struct Figures {
    /// Images that were kept, in the order of [`Kind::ALL`].
    pub kept: [AtomicU64; 5],
    /// Images that were lost, in the order of [`Lost::ALL`].
    pub lost: [AtomicU64; 5],
    /// Images in the folder.
    pub images: AtomicU64,
    /// Bytes that they take.
    pub bytes: AtomicU64,
}

/// What a [`Keeper`] is made of.
pub struct Of {
    /// Which images are kept.
    pub settings: Keeping,
    /// What of a frame the model sees.
    pub roi: Option<Roi>,
    /// Where they go.
    pub ring: Ring,
    /// What frames said, and where they are.
    pub votes: Arc<Votes>,
    /// Where it is counted.
    pub figures: Arc<Figures>,
}

/// What is kept of a part, beside its image.
#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    run: &'a str,
    part: u64,
    at: u64,
    wall: Option<u64>,
    kind: &'static str,
    kinds: Vec<&'static str>,
    verdict: &'static str,
    tag: Option<&'a str>,
    action: Option<&'static str>,
    late: bool,
    scores: Vec<ScoreRecord<'a>>,
    beyond: bool,
    bundle_sha256: String,
    frame: FrameRecord,
}

#[derive(Serialize)]
struct ScoreRecord<'a> {
    tag: &'a str,
    score: f64,
    score_raw: u16,
}

#[derive(Serialize)]
struct FrameRecord {
    sequence: u64,
    captured_at: u64,
    width: u32,
    height: u32,
    roi: Option<[u32; 4]>,
}

/// What the keeper is told.
pub fn wants(what: &What) -> bool {
    matches!(what, What::Part(_) | What::Rule(_) | What::Status(_))
}

/// Every kind that a part is of, in the order of [`Kind::ALL`], whether it is kept or not.
fn kinds(decision: &Decision, action: Option<Action>, said: Said, is_drawn: bool) -> Vec<Kind> {
    let unsure = matches!(decision.verdict, Verdict::Review | Verdict::Unknown) || !decision.band.is_empty();
    let is = |kind: &Kind| match kind {
        Kind::Drawn => is_drawn,
        Kind::Foreign => decision.verdict == Verdict::Foreign,
        Kind::Disagreeing => said.disagree,
        Kind::Uncertain => unsure || said.near,
        Kind::Rejected => action == Some(Action::Reject),
    };
    Kind::ALL.into_iter().filter(is).collect()
}

/// Whether a part is drawn: one in `one_in`, by `seed`, each part by itself.
fn is_drawn(seed: u64, part: u64, one_in: u64) -> bool {
    one_in > 0 && Random::new(seed, part).next().is_multiple_of(one_in)
}

/// The region of a frame that the model sees, in full size: columns, rows, RGB8.
fn region(frame: &FrameBuffer, roi: Option<Roi>) -> Result<(u32, u32, Vec<u8>), String> {
    let whole = Roi { x: 0, y: 0, width: frame.layout.width, height: frame.layout.height };
    let Roi { x, y, width, height } = roi.unwrap_or(whole);
    let row = 3 * width as usize;
    let mut rgb = vec![0; row * height as usize];
    for top in (0..height).step_by(TILE as usize) {
        for left in (0..width).step_by(TILE as usize) {
            let (columns, rows) = (TILE.min(width - left), TILE.min(height - top));
            let part = Roi { x: x + left, y: y + top, width: columns, height: rows };
            // Both are at most a tile's.
            let target = Target { width: columns as u16, height: rows as u16, fit: Fit::Stretch, roi: Some(part) };
            for (i, from) in rgb_of(frame, target)?.chunks_exact(3 * columns as usize).enumerate() {
                let at = (top as usize + i) * row + 3 * left as usize;
                rgb[at..at + from.len()].copy_from_slice(from);
            }
        }
    }
    Ok((width, height, rgb))
}

/// The sink that keeps images.
pub struct Keeper {
    of: Of,
    allowance: Allowance,
    tended: Option<Instant>,
    /// What is wrong was told, and nothing was kept since.
    failing: bool,
    /// Losses that are no fault of the folder were told, each once.
    told: [bool; 5],
}

impl Keeper {
    /// Nothing was kept yet.
    pub fn new(of: Of) -> Self {
        let allowance = Allowance::new(of.settings.bytes_per_day);
        Self { of, allowance, tended: None, failing: false, told: [false; 5] }
    }

    /// An image is lost; the first of its reason is told, and of the folder's each time that it
    /// stops working.
    fn lose(&mut self, events: &Events, part: Option<u64>, lost: Lost, why: &dyn std::fmt::Display) {
        if part.is_some() {
            self.of.figures.lost[lost as usize].fetch_add(1, Relaxed);
        }
        let told = if lost == Lost::Folder { &mut self.failing } else { &mut self.told[lost as usize] };
        if !std::mem::replace(told, true) {
            let why = Why::of(&format_args!("keep: {why}; images are lost, the line goes on"));
            events.fault(FaultKind::Sink, None, Remedy::Told, why);
        }
    }

    /// What the folder holds.
    fn count(&self) {
        let (images, bytes) = self.of.ring.holds();
        self.of.figures.images.store(images as u64, Relaxed);
        self.of.figures.bytes.store(bytes, Relaxed);
    }

    /// The folder works: that is told where it did not.
    fn works(&mut self, events: &Events) {
        if std::mem::take(&mut self.failing) {
            let lost: u64 = self.of.figures.lost.iter().map(|n| n.load(Relaxed)).sum();
            events.note(&format_args!("keep writes again; it has lost {lost} images"));
        }
    }

    fn tend(&mut self, events: &Events, event: &Event) {
        if self.tended.is_some_and(|at| event.at.since(at) < TEND_EVERY) {
            return;
        }
        self.tended = Some(event.at);
        if let Err(e) = self.of.ring.tend(event.wall) {
            self.lose(events, None, Lost::Folder, &e);
        }
        self.count();
    }

    /// Keeps what is to be kept of a part; whether nothing of that was lost.
    fn part(&mut self, events: &Events, event: &Event, part: &PartEvent) -> bool {
        let settings = &self.of.settings;
        // A run's number is drawn by the system.
        let seed = settings.seed.unwrap_or_else(|| u64::from_str_radix(events.run(), 16).unwrap_or(0));
        let said = self.of.votes.of(part.part);
        let kinds = kinds(&part.decision, part.action, said, is_drawn(seed, part.part, settings.one_in));
        let Some(kind) = kinds.iter().copied().find(|kind| settings.keeps(*kind)) else { return true };
        let numbers = self.of.votes.gallery().numbers_of(part.part);
        // Without an image that was classified there is none to keep.
        if numbers.is_empty() && part.top.is_empty() {
            return true;
        }
        let wanted = if kind == Kind::Disagreeing { &numbers[..] } else { &numbers[numbers.len().saturating_sub(1)..] };
        let (mut kept, mut lost) = (0, 0);
        for number in wanted {
            // One that the line has used again meanwhile is gone; the part's others may be there.
            let Some(frame) = self.of.votes.gallery().copy_of(*number) else { continue };
            match self.image(events, event, part, &kinds, kind, &frame) {
                true => kept += 1,
                false => lost += 1,
            }
        }
        if kept + lost == 0 {
            let why = format!("part {}: the line had gone on before its image was taken", part.part);
            self.lose(events, Some(part.part), Lost::Overtaken, &why);
        }
        self.count();
        kept > 0 && lost == 0
    }

    fn image(
        &mut self,
        events: &Events,
        event: &Event,
        part: &PartEvent,
        kinds: &[Kind],
        kind: Kind,
        image: &Whole,
    ) -> bool {
        let made = region(&image.frame, self.of.roi).and_then(|(width, height, rgb)| {
            let jpeg = Picture::to_jpeg(width, height, &rgb, QUALITY)?;
            Ok((jpeg, self.json(events, event, part, kinds, kind, image)?))
        });
        let (jpeg, json) = match made {
            Ok(made) => made,
            Err(e) => {
                self.lose(events, Some(part.part), Lost::Image, &format_args!("part {}: {e}", part.part));
                return false;
            }
        };
        if !self.allowance.take(event.at, jpeg.len() + json.len()) {
            let mb = self.of.settings.bytes_per_day / 1_000_000;
            let why = format!(
                "as much is written as a day of {mb} MB allows by now; raise max_mb_per_day if the disk bears it, or keep fewer \
                 kinds"
            );
            self.lose(events, Some(part.part), Lost::Allowance, &why);
            return false;
        }
        let tag = part.decision.tag.and_then(|tag| events.opening().tags.get(tag.0 as usize));
        let folder = match (part.decision.verdict, tag) {
            (Verdict::Present | Verdict::Review, Some(tag)) => tag_folder(&tag.tag),
            (verdict, _) => format!("_{}", verdict.name()),
        };
        let kept = Image { kind, folder: &folder, part: part.part, wall: event.wall, jpeg: &jpeg, json: &json };
        match self.of.ring.keep(&kept) {
            Ok(()) => {
                self.of.figures.kept[kind as usize].fetch_add(1, Relaxed);
                self.works(events);
                true
            }
            Err(e) => {
                // The folder works all the same where only this image does not fit.
                let lost = if matches!(e, NotKept::TooLarge { .. }) { Lost::Quota } else { Lost::Folder };
                self.lose(events, Some(part.part), lost, &e);
                false
            }
        }
    }

    fn json(
        &self,
        events: &Events,
        event: &Event,
        part: &PartEvent,
        kinds: &[Kind],
        kind: Kind,
        image: &Whole,
    ) -> Result<Vec<u8>, String> {
        let opening = events.opening();
        let mut scores: Vec<_> = opening.tags.iter().zip(&image.scores).collect();
        scores.sort_by_key(|(_, score)| std::cmp::Reverse(score.0));
        scores.truncate(SCORES);
        let scores = scores.into_iter().map(|(tag, score)| ScoreRecord {
            tag: &tag.tag,
            score: f64::from(score.probability()),
            score_raw: score.0,
        });
        let record = Record {
            schema: 1,
            run: events.run(),
            part: part.part,
            at: event.at.as_micros(),
            wall: event.wall,
            kind: kind.name(),
            kinds: kinds.iter().map(|kind| kind.name()).collect(),
            verdict: part.decision.verdict.name(),
            tag: part.decision.tag.and_then(|tag| Some(opening.tags.get(tag.0 as usize)?.tag.as_str())),
            action: part.action.map(Action::name),
            late: part.late,
            scores: scores.collect(),
            beyond: image.beyond,
            bundle_sha256: Hex(&part.bundle).to_string(),
            frame: FrameRecord {
                sequence: image.frame.sequence,
                captured_at: image.frame.captured_at.instant().as_micros(),
                width: image.frame.layout.width,
                height: image.frame.layout.height,
                roi: self.of.roi.map(|roi| [roi.x, roi.y, roi.width, roi.height]),
            },
        };
        serde_json::to_vec(&record).map_err(|e| e.to_string())
    }
}

impl Sink for Keeper {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        crate::supervisor::lowest_priority();
        match &event.what {
            What::Part(part) if !self.part(events, event, part) => return Err(std::io::Error::other(Told)),
            What::Rule(rule) => self.of.votes.set(rule.tag, rule.new),
            What::Status(_) => self.tend(events, event),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::TagSet;
    use crate::frame::{Colour, Layout, PixelFormat};
    use crate::head::TagId;
    use crate::random::drawn_cases;

    /// Every N-th part of a mould with as many cavities would show one cavity only.
    #[test]
    fn one_part_in_so_many_is_drawn_each_by_itself_and_by_the_seed() {
        let (seed, _) = drawn_cases(1);
        for one_in in [2u64, 7, 100] {
            let count = 4000 * one_in;
            let drawn: Vec<u64> = (1..=count).filter(|part| is_drawn(seed, *part, one_in)).collect();
            // 4000 are expected, with a deviation of 63 at most.
            assert!(drawn.len().abs_diff(4000) < 6 * 63, "1 in {one_in}: {}", drawn.len());
            // As many of each remainder.
            for remainder in 0..one_in.min(7) {
                let of = drawn.iter().filter(|part| *part % one_in.min(7) == remainder).count();
                let expected = 4000 / one_in.min(7) as usize;
                assert!(of.abs_diff(expected) < 6 * 45, "1 in {one_in}, remainder {remainder}: {of}");
            }
            // (1 - 1/N)^N of the gaps are longer than N.
            let long = drawn.windows(2).filter(|pair| pair[1] - pair[0] > one_in).count() as f64 / drawn.len() as f64;
            let expected = (1.0 - 1.0 / one_in as f64).powi(one_in as i32);
            assert!((long - expected).abs() < 0.05, "1 in {one_in}: {long} for {expected}");
            assert!(drawn.iter().any(|part| !is_drawn(seed + 1, *part, one_in)));
        }
        assert!((1..1000).all(|part| is_drawn(seed, part, 1) && !is_drawn(seed, part, 0)));
    }

    #[test]
    fn a_part_is_of_each_kind_that_its_end_and_its_frames_say() {
        let (tag, none) = (Some(TagId(0)), TagSet::EMPTY);
        let sure = Decision { verdict: Verdict::Present, action: None, tag, held: TagSet::of(TagId(0)), band: none, own: 2 };
        let of = |verdict, action, band: bool, disagree, near, drawn| {
            let band = if band { TagSet::of(TagId(1)) } else { none };
            let said = Said { disagree, near };
            let names = kinds(&Decision { verdict, band, ..sure }, action, said, drawn);
            names.into_iter().map(Kind::name).collect::<Vec<_>>().join(" ")
        };
        let (accept, reject) = (Some(Action::Accept), Some(Action::Reject));
        use Verdict::{Foreign, Present, Review, Safe, Unknown};
        assert_eq!(of(Present, accept, false, false, false, false), "");
        assert_eq!(of(Present, accept, false, false, false, true), "drawn");
        assert_eq!(of(Present, accept, false, false, true, false), "uncertain");
        assert_eq!(of(Present, accept, true, false, false, false), "uncertain");
        assert_eq!(of(Review, Some(Action::Review), false, false, false, false), "uncertain");
        assert_eq!(of(Unknown, reject, false, false, false, false), "uncertain rejected");
        assert_eq!(of(Present, reject, false, true, false, false), "disagreeing rejected");
        assert_eq!(of(Foreign, reject, false, true, true, true), "drawn foreign disagreeing uncertain rejected");
        assert_eq!(of(Safe(crate::fault::Reason::Engine), None, false, false, false, false), "");
    }

    /// The region is the frame's own bytes: also where it is converted in several tiles.
    #[test]
    fn a_region_has_the_frames_own_pixels_at_full_size() {
        let (seed, cases) = drawn_cases(12);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut below = |n: u64| random.next() % n;
            let size = match case % 3 {
                0 => [TILE as u64 + 1 + below(300), 1 + below(5)],
                1 => [1 + below(5), TILE as u64 + below(300)],
                _ => [1 + below(60), 1 + below(60)],
            };
            let (width, height) = (size[0] as u32, size[1] as u32);
            let bytes: Vec<u8> = (0..3 * width * height).map(|_| below(256) as u8).collect();
            let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), width, height);
            let frame = FrameBuffer { layout, bytes: bytes.clone(), ..FrameBuffer::empty() };
            let (x, y) = (below(u64::from(width)) as u32, below(u64::from(height)) as u32);
            let [w, h] = [width - x, height - y].map(|n| 1 + below(u64::from(n)) as u32);
            let roi = Roi { x, y, width: w, height: h };
            let (columns, rows, rgb) = region(&frame, Some(roi)).unwrap();
            let pixel = |x: u32, y: u32| &bytes[3 * (y * width + x) as usize..][..3];
            let mut expected = Vec::new();
            (y..y + h).for_each(|y| (x..x + w).for_each(|x| expected.extend_from_slice(pixel(x, y))));
            assert_eq!((columns, rows, rgb == expected), (w, h, true), "case {case}: {roi:?} of {width}x{height}");
            assert_eq!(region(&frame, None).unwrap(), (width, height, bytes), "case {case}");
        }
        let wrong = Roi { x: 1, y: 0, width: 1, height: 1 };
        assert!(region(&FrameBuffer { bytes: vec![0; 3], ..FrameBuffer::empty() }, Some(wrong)).is_err());
    }
}
