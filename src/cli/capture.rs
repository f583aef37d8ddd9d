//! `tagpin capture`: images to tag, from the very source that a line will see, full size and as
//! JPEG.
//!
//! An image is kept at a stated interval, or when a line is entered: a digit chooses the tag's
//! folder. The newest frame is always at `last.jpg`. No image is ever half written, and it stops
//! before the folder grows beyond its limit. Where it ends before all the images that were wanted
//! are kept, it says how many are, and why it ended.

use super::Refused;
use super::entered::lines;
use super::run::tell;
use crate::bundle::Fit;
use crate::pictures::Picture;
use crate::preprocess::{Preprocessor, Target};
use crate::sources::life::{Do, Life, Outcome};
use crate::sources::{self, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec};
use crate::supervisor::SystemClock;
use crate::time::{Clock, Instant, Micros};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

const EXIT_CODES: &str = "Exit codes: 0 done, or no more files or lines came; 1 the folder is full, or the files held \
no whole frame; 2 could not start, or an image could not be written; 3 the live source ended.";

/// Arguments of `capture`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Capture {
    /// Source: the same string, with the same controls, as `run` will get
    #[arg(long)]
    source: SourceSpec,
    /// Folder that gets the images
    #[arg(long)]
    out: PathBuf,
    /// Tags by digit: 1 is the first
    #[arg(long, value_delimiter = ',', value_name = "TAG,...")]
    tags: Vec<String>,
    /// Keep an image at this interval, instead of whenever a line is entered; y4m:- needs it
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    every: Option<Micros>,
    /// Images after which it ends; 0 goes on
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Most that the folder may hold, last.jpg included, in MB
    #[arg(long, default_value_t = 500, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_mb: u64,
    /// JPEG quality
    #[arg(long, default_value_t = 92, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
}

fn seconds(text: &str) -> Result<Micros, String> {
    let value: f64 = text.parse().map_err(|_| "expected seconds".to_string())?;
    if (0.01..=86_400.0).contains(&value) { Ok(Micros((value * 1e6) as u64)) } else { Err("expected 0.01..=86400".into()) }
}

/// Tags become folders, so they may not lead out of the one that was named.
fn folder_name(tag: &str) -> Result<&str, String> {
    let plain = !tag.is_empty() && !tag.starts_with('.') && !tag.contains(['/', '\0']);
    if plain { Ok(tag) } else { Err(format!("tag \"{tag}\": expected a name that can be a folder's")) }
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.metadata().map_or(0, |m| if m.is_dir() { size_of(&e.path()) } else { m.len() })).sum()
}

/// A size for people, rounded up: what is there is never shown as nothing.
fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KB", bytes.div_ceil(1 << 10)) } else { format!("{} MB", bytes.div_ceil(1 << 20)) }
}

/// Writes a file so that it is never seen half written, and leaves nothing where that fails.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Why no further image can be kept.
enum Stop {
    /// The folder would grow beyond its limit.
    Full(String),
    /// A file or folder cannot be written.
    Unwritten(String),
}

fn unwritten(path: &Path, e: &std::io::Error) -> Stop {
    Stop::Unwritten(format!("{} cannot be written: {e}", path.display()))
}

/// The folder of images.
struct Album<'a> {
    args: &'a Capture,
    /// Bytes in the folder, `last.jpg` left out.
    bytes: u64,
    /// Bytes of `last.jpg`.
    last: u64,
    kept: u64,
    preprocessor: Option<(u32, u32, Preprocessor)>,
}

impl<'a> Album<'a> {
    fn new(args: &'a Capture) -> Self {
        let last = std::fs::symlink_metadata(args.out.join("last.jpg")).map_or(0, |m| m.len());
        Self { args, bytes: size_of(&args.out).saturating_sub(last), last, kept: 0, preprocessor: None }
    }

    /// The frame as a JPEG, full size.
    fn jpeg(&mut self, frame: &FrameBuffer) -> Result<Vec<u8>, String> {
        let view = frame.view().map_err(|e| e.to_string())?;
        let (width, height) = (frame.layout.width, frame.layout.height);
        if self.preprocessor.as_ref().is_none_or(|(w, h, _)| (*w, *h) != (width, height)) {
            let side = |n: u32| u16::try_from(n).map_err(|e| e.to_string());
            let target = Target { width: side(width)?, height: side(height)?, fit: Fit::Stretch, roi: None };
            self.preprocessor = Some((width, height, Preprocessor::new(target)));
        }
        let (_, _, preprocessor) = self.preprocessor.as_mut().ok_or("no conversion")?;
        let rgb = preprocessor.image(&view).map_err(|e| e.to_string())?;
        Picture::to_jpeg(width, height, rgb, self.args.quality)
    }

    /// Whether another file fits in, beside all that is there.
    fn make_sure_of_room(&self, jpeg: &[u8]) -> Result<(), Stop> {
        let (held, more, cap) = (self.bytes + self.last, jpeg.len() as u64, self.args.max_mb);
        if held + more <= cap << 20 {
            return Ok(());
        }
        let (folder, held, more) = (self.args.out.display(), size(held), size(more));
        Err(Stop::Full(format!(
            "{folder} is full: it holds {held}, and {more} more go beyond --max-mb {cap}; make room or raise --max-mb"
        )))
    }

    /// Writes `last.jpg`.
    fn show(&mut self, jpeg: &[u8]) -> Result<(), Stop> {
        // While it is written, the one before is still there.
        self.make_sure_of_room(jpeg)?;
        let path = self.args.out.join("last.jpg");
        write(&path, jpeg).map_err(|e| unwritten(&path, &e))?;
        self.last = jpeg.len() as u64;
        Ok(())
    }

    /// Keeps an image; says where.
    fn keep(&mut self, tag: Option<&str>, jpeg: &[u8]) -> Result<PathBuf, Stop> {
        self.make_sure_of_room(jpeg)?;
        let folder = tag.map_or(self.args.out.clone(), |t| self.args.out.join(t));
        std::fs::create_dir_all(&folder).map_err(|e| unwritten(&folder, &e))?;
        let mut number = self.kept + 1;
        let path = loop {
            let path = folder.join(format!("{number:06}.jpg"));
            if !path.exists() {
                break path;
            }
            number += 1;
        };
        write(&path, jpeg).map_err(|e| unwritten(&path, &e))?;
        (self.bytes, self.kept) = (self.bytes + jpeg.len() as u64, self.kept + 1);
        Ok(path)
    }

    /// Shows the image, and keeps it for each of `wanted` until there are enough.
    fn take(&mut self, jpeg: &[u8], wanted: &[Option<&str>]) -> Result<(), Stop> {
        self.show(jpeg)?;
        for tag in wanted {
            if self.is_done() {
                break;
            }
            println!("{}", self.keep(*tag, jpeg)?.display());
        }
        Ok(())
    }

    /// Whether as many are kept as were wanted.
    fn is_done(&self) -> bool {
        self.args.count > 0 && self.kept >= self.args.count
    }

    /// How many are kept, and why no more.
    fn so_far(&self, why: &str) -> String {
        match (self.args.count, self.kept) {
            (0, 1) => format!("1 image kept: {why}"),
            (0, kept) => format!("{kept} images kept: {why}"),
            (wanted, kept) => format!("{kept} of {wanted} images kept: {why}"),
        }
    }
}

/// The source, opened again whenever it must be, and what it has given so far.
struct Feed {
    source: Box<dyn Source>,
    life: Life,
    clock: SystemClock,
    whole: u64,
    /// Frames that were damaged, and those that did not come.
    faults: u64,
}

impl Feed {
    /// Longest time between two frames.
    const STEADY: Micros = Micros(1_000_000);

    fn open(spec: &SourceSpec, clock: SystemClock) -> Result<Self, SourceError> {
        let limits = Limits::default();
        let source = sources::open(spec, &(Arc::new(clock) as _), limits)?;
        let first = Micros(limits.first_frame.as_micros() as u64);
        let mut life = Life::new(clock.now(), Self::STEADY, first, source.interval());
        if let Some(took) = source.start() {
            life.has_started(clock.now(), took);
        }
        Ok(Self { source, life, clock, whole: 0, faults: 0 })
    }

    /// Fills `frame` with the next whole one, whatever has to be done for it; false once there are
    /// no more.
    fn next(&mut self, frame: &mut FrameBuffer) -> bool {
        let is_there = match self.source.pacing() {
            Pacing::Live => self.next_live(frame),
            Pacing::Pulled => self.next_pulled(frame),
        };
        self.whole += u64::from(is_there);
        is_there
    }

    /// A frame that is as large as it says.
    fn ask(&mut self, frame: &mut FrameBuffer, span: Micros) -> Result<(), NoFrame> {
        self.source.next(frame, span.duration())?;
        frame.view().map(drop).map_err(|e| NoFrame::Corrupt(e.to_string()))
    }

    fn next_pulled(&mut self, frame: &mut FrameBuffer) -> bool {
        loop {
            let fault = match self.ask(frame, Self::STEADY) {
                Ok(()) => return true,
                Err(NoFrame::End) => return false,
                Err(fault) => fault,
            };
            self.faults += 1;
            tell(&self.source.explain(&fault));
            if matches!(fault, NoFrame::Gone(_))
                && let Err(e) = self.source.reopen()
            {
                tell(&e);
                return false;
            }
        }
    }

    fn next_live(&mut self, frame: &mut FrameBuffer) -> bool {
        loop {
            match self.life.next(self.clock.now()) {
                Do::Rest(span) => std::thread::sleep(span.duration()),
                Do::Reopen => {
                    let outcome = self.source.reopen().map_or_else(
                        |e| {
                            tell(&e);
                            Outcome::Refused
                        },
                        |()| Outcome::Opened,
                    );
                    self.life.tell(self.clock.now(), outcome);
                }
                Do::Ask(span) => {
                    let fault = match self.ask(frame, span) {
                        Ok(()) => {
                            self.life.tell(self.clock.now(), Outcome::Frame);
                            return true;
                        }
                        Err(NoFrame::End) => return false,
                        Err(fault) => fault,
                    };
                    let outcome = match fault {
                        NoFrame::Timeout => Outcome::Nothing,
                        NoFrame::Gone(_) | NoFrame::FormatChanged(_) => Outcome::Lost,
                        _ if self.source.is_broken() => Outcome::Lost,
                        _ => Outcome::Damaged,
                    };
                    if self.life.tell(self.clock.now(), outcome) {
                        self.faults += 1;
                        tell(&self.source.explain(&fault));
                    }
                }
            }
        }
    }

    /// Tells why there are no more frames where somebody wanted more, or has fewer than it seems;
    /// the exit code.
    fn ended(&self, album: &Album<'_>) -> u8 {
        let Self { whole, faults, .. } = self;
        let lost = if *faults > 0 { format!(", {faults} more lost or damaged") } else { String::new() };
        match self.source.pacing() {
            Pacing::Live => {
                let why = format!("the live source ended after {whole} whole frames{lost}; start what feeds it again");
                tell(&album.so_far(&why));
                3
            }
            Pacing::Pulled if *whole == 0 => {
                let source = album.args.source.text();
                tell(&album.so_far(&format!("\"{source}\" ended without a whole frame, {faults} lost or damaged")));
                1
            }
            Pacing::Pulled => {
                if album.args.count > 0 || *faults > 0 {
                    tell(&album.so_far(&format!("the source has no more than {whole} whole frames{lost}")));
                }
                0
            }
        }
    }
}

/// When an image is kept.
enum Asked {
    /// At an interval; when the next is due.
    Every(Micros, Instant),
    /// At each line that is entered.
    Lines(Receiver<String>),
}

impl Asked {
    /// The tags' folders that get an image at `now`, `None` for the one of all, and whether more
    /// may be asked for.
    fn wanted<'t>(&mut self, tags: &'t [String], now: Instant) -> (Vec<Option<&'t str>>, bool) {
        let mut wanted = Vec::new();
        match self {
            Self::Every(interval, due) => {
                if now >= *due {
                    *due = now.plus(*interval);
                    wanted.push(None);
                }
            }
            Self::Lines(lines) => loop {
                match lines.try_recv() {
                    Ok(line) => match line.trim().parse::<usize>() {
                        Ok(digit) if (1..=tags.len()).contains(&digit) => wanted.push(Some(tags[digit - 1].as_str())),
                        Ok(digit) => tell(&format!("{digit}: there is no such tag; name them with --tags")),
                        Err(_) => wanted.push(None),
                    },
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return (wanted, false),
                }
            },
        }
        (wanted, true)
    }
}

pub(super) fn run(args: &Capture) -> Result<u8, Refused> {
    /// How often `last.jpg` is written.
    const SHOWN_EVERY: Micros = Micros(500_000);
    if args.tags.len() > 9 {
        return Err(format!("--tags: {} tags, digits choose among at most 9", args.tags.len()).into());
    }
    for tag in &args.tags {
        folder_name(tag)?;
    }
    if args.every.is_none() && args.source.is_stdin() {
        let why = "standard input is both the video and where lines are entered; state --every SECONDS, or give the \
                   video by a FIFO (y4m:PATH)";
        return Err(args.source.error(why).into());
    }
    std::fs::create_dir_all(&args.out).map_err(|e| format!("--out {}: {e}", args.out.display()))?;
    let clock = SystemClock;
    let mut feed = Feed::open(&args.source, clock)?;
    let mut asked = args.every.map_or_else(|| Asked::Lines(lines()), |every| Asked::Every(every, Instant::default()));
    let mut album = Album::new(args);
    let mut frame = FrameBuffer::empty();
    let mut shown = None::<Instant>;
    if let Asked::Lines(_) = asked {
        let choices: Vec<String> = args.tags.iter().enumerate().map(|(i, t)| format!("{} {t}", i + 1)).collect();
        println!(
            "Enter keeps an image{}",
            if choices.is_empty() { String::new() } else { format!("; {}", choices.join(", ")) }
        );
    }
    while feed.next(&mut frame) {
        let now = clock.now();
        let (wanted, goes_on) = asked.wanted(&args.tags, now);
        if !wanted.is_empty() || shown.is_none_or(|at| now.since(at) >= SHOWN_EVERY) {
            let jpeg = album.jpeg(&frame)?;
            match album.take(&jpeg, &wanted) {
                Ok(()) => shown = Some(now),
                Err(Stop::Full(why)) => {
                    tell(&album.so_far(&why));
                    return Ok(1);
                }
                Err(Stop::Unwritten(why)) => return Err(album.so_far(&why).into()),
            }
        }
        if album.is_done() {
            return Ok(0);
        }
        if !goes_on {
            if args.count > 0 || album.kept == 0 {
                tell(&album.so_far("standard input ended; state --every SECONDS where nobody enters lines"));
            }
            return Ok(0);
        }
    }
    Ok(feed.ended(&album))
}
