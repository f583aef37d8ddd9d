//! `tagpin capture`: images to tag, from the very source that a line will see, full size and as
//! JPEG.
//!
//! An image is kept at a stated interval, or when a line is entered: a digit chooses the tag's
//! folder. The newest frame is always at `last.jpg`. It stops before the folder grows beyond its
//! limit.

use super::Refused;
use super::entered::lines;
use crate::bundle::Fit;
use crate::pictures::Picture;
use crate::preprocess::{Preprocessor, Target};
use crate::sources::life::{Do, Life, Outcome};
use crate::sources::{self, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceSpec};
use crate::supervisor::SystemClock;
use crate::terminal::tell;
use crate::time::{Clock, Instant, Micros};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

/// Arguments of `capture`.
#[derive(clap::Args, Debug)]
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
    /// Keep an image at this interval, instead of whenever a line is entered
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    every: Option<Micros>,
    /// Images after which it ends; 0 goes on
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Most that the folder may hold, in MB
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

struct Album<'a> {
    args: &'a Capture,
    bytes: u64,
    kept: u64,
    preprocessor: Option<(u32, u32, Preprocessor)>,
}

impl Album<'_> {
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

    /// `last.jpg`, never half written.
    fn show(&mut self, jpeg: &[u8]) -> Result<(), String> {
        let (part, whole) = (self.args.out.join("last.jpg.part"), self.args.out.join("last.jpg"));
        std::fs::write(&part, jpeg)
            .and_then(|()| std::fs::rename(&part, &whole))
            .map_err(|e| format!("{}: {e}", whole.display()))
    }

    /// Keeps an image; says where, or that the folder is full.
    fn keep(&mut self, tag: Option<&str>, jpeg: &[u8]) -> Result<PathBuf, String> {
        if self.bytes + jpeg.len() as u64 > self.args.max_mb << 20 {
            return Err(format!(
                "{} holds {} MB: full; make room or raise --max-mb",
                self.args.out.display(),
                self.bytes >> 20
            ));
        }
        let folder = tag.map_or(self.args.out.clone(), |t| self.args.out.join(t));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut number = self.kept + 1;
        let path = loop {
            let path = folder.join(format!("{number:06}.jpg"));
            if !path.exists() {
                break path;
            }
            number += 1;
        };
        std::fs::write(&path, jpeg).map_err(|e| format!("{}: {e}", path.display()))?;
        (self.bytes, self.kept) = (self.bytes + jpeg.len() as u64, self.kept + 1);
        Ok(path)
    }
}

/// The next frame, whatever has to be done for it; false once there are no more.
fn next(source: &mut dyn Source, life: &mut Life, frame: &mut FrameBuffer, clock: &SystemClock) -> Result<bool, Refused> {
    loop {
        match life.next(clock.now()) {
            Do::Rest(span) => std::thread::sleep(span.duration()),
            Do::Reopen => {
                let outcome = source.reopen().map_or_else(
                    |e| {
                        tell(&format!("tagpin: {e}"), 8);
                        Outcome::Refused
                    },
                    |()| Outcome::Opened,
                );
                life.tell(clock.now(), outcome);
            }
            Do::Ask(span) => {
                let outcome = match source.next(frame, span.duration()) {
                    Ok(()) => Outcome::Frame,
                    Err(NoFrame::End) => return Ok(false),
                    Err(fault) => {
                        tell(&format!("tagpin: {fault}"), 8);
                        match fault {
                            NoFrame::Timeout => Outcome::Nothing,
                            _ if source.pacing() == Pacing::Pulled => continue,
                            NoFrame::Gone(_) | NoFrame::FormatChanged(_) => Outcome::Lost,
                            _ if source.is_broken() => Outcome::Lost,
                            _ => Outcome::Damaged,
                        }
                    }
                };
                life.tell(clock.now(), outcome);
                if outcome == Outcome::Frame {
                    return Ok(true);
                }
            }
        }
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
    std::fs::create_dir_all(&args.out).map_err(|e| format!("--out {}: {e}", args.out.display()))?;
    let clock = SystemClock;
    let limits = Limits::default();
    let mut source = sources::open(&args.source, &(Arc::new(clock) as _), limits)?;
    let entered = args.every.is_none().then(lines);
    let first = Micros(limits.first_frame.as_micros() as u64);
    let mut life = Life::new(clock.now(), Micros(1_000_000), first, source.interval());
    let mut album = Album { args, bytes: size_of(&args.out), kept: 0, preprocessor: None };
    let mut frame = FrameBuffer::empty();
    let (mut due, mut shown) = (Instant::default(), None::<Instant>);
    if entered.is_some() {
        let choices: Vec<String> = args.tags.iter().enumerate().map(|(i, t)| format!("{} {t}", i + 1)).collect();
        println!(
            "Enter keeps an image{}",
            if choices.is_empty() { String::new() } else { format!("; {}", choices.join(", ")) }
        );
    }
    while next(&mut *source, &mut life, &mut frame, &clock)? {
        let now = clock.now();
        let mut wanted: Vec<Option<&str>> = Vec::new();
        match &entered {
            None if now >= due => {
                due = now.plus(args.every.unwrap_or_default());
                wanted.push(None);
            }
            None => {}
            Some(lines) => loop {
                match lines.try_recv() {
                    Ok(line) => match line.trim().parse::<usize>() {
                        Ok(digit) if (1..=args.tags.len()).contains(&digit) => {
                            wanted.push(Some(args.tags[digit - 1].as_str()))
                        }
                        Ok(digit) => tell(&format!("tagpin: {digit}: there is no such tag; name them with --tags"), 8),
                        Err(_) => wanted.push(None),
                    },
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(0),
                }
            },
        }
        if wanted.is_empty() && shown.is_some_and(|at| now.since(at) < SHOWN_EVERY) {
            continue;
        }
        let jpeg = album.jpeg(&frame)?;
        album.show(&jpeg)?;
        shown = Some(now);
        for tag in wanted {
            match album.keep(tag, &jpeg) {
                Ok(path) => println!("{}", path.display()),
                Err(why) => {
                    tell(&format!("tagpin: {why}"), 8);
                    return Ok(1);
                }
            }
            if args.count > 0 && album.kept >= args.count {
                return Ok(0);
            }
        }
    }
    Ok(0)
}
