//! `--record`: keeps the model's input image, logits and scores of classified frames for replay on
//! the host.
//!
//! Beside the line, never in it: the line copies a frame into a free place of memory and goes on,
//! and a thread of the recorder's own writes it. A frame that finds no free place, or that the disk
//! refuses, is lost and counted; writing goes on with the next one. What is written ends at a cap,
//! and a folder that holds a run is never written into.

use super::vision::Vision;
use crate::events::{Events, FaultKind, Remedy, Why};
use crate::head::Score;
use crossbeam_queue::ArrayQueue;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

/// Frames that may wait for the disk.
const PLACES: usize = 16;
/// How long the writer sleeps when nothing waits: nobody wakes it, so that recording is no system
/// call of the line.
const NAP: Duration = Duration::from_millis(10);
/// The file that says which bundle a folder's frames are of.
const MARK: &str = "bundle.sha256";

/// A folder of this run's own that gets classified frames.
pub struct Recorder {
    folder: PathBuf,
    cap: u64,
}

impl Recorder {
    /// Makes the folder and writes which bundle it belongs to. `cap`: bytes of frames that are kept
    /// at most. Refuses a folder that holds a run already.
    pub fn new(folder: PathBuf, cap: u64, bundle_sha256: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => std::io::Error::new(
                e.kind(),
                "is no folder, or lies in what is none; name a folder, which is made if need be",
            ),
            kind => std::io::Error::new(kind, format!("cannot be made: {e}; name a folder in a place that can be written")),
        })?;
        let mark = write_new(&folder.join(MARK), format!("{bundle_sha256}\n").as_bytes());
        mark.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                std::io::Error::new(e.kind(), "holds a recorded run already; name a folder of its own for each run")
            }
            kind => std::io::Error::new(kind, format!("cannot be written: {e}; change its owner or name another folder")),
        })?;
        Ok(Self { folder, cap })
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes).inspect_err(|_| {
        // What was written of it is of no use to anyone; the error that counts is the first.
        let _ = std::fs::remove_file(path);
    })
}

/// What is kept of one frame.
#[derive(Clone)]
struct Kept {
    rgb: Vec<u8>,
    logits: Vec<i32>,
    scores: Vec<Score>,
}

/// Where the line and the recorder's thread meet.
pub(super) struct Recording {
    folder: PathBuf,
    cap: u64,
    free: ArrayQueue<Kept>,
    full: ArrayQueue<Kept>,
    /// Set once the cap is reached: no more frames are taken.
    is_full: AtomicBool,
    /// Set once the line keeps no frame any more.
    is_closed: AtomicBool,
}

impl Recording {
    /// All memory that it will ever need, for frames of this model.
    pub(super) fn new(recorder: Recorder, vision: &Vision) -> Self {
        let (rgb_len, tags) = vision.sizes();
        let place = Kept { rgb: vec![0; rgb_len], logits: vec![0; tags], scores: vec![Score(0); tags] };
        let (free, full) = (ArrayQueue::new(PLACES), ArrayQueue::new(PLACES));
        // As many places as the queue holds.
        (0..PLACES).for_each(|_| drop(free.push(place.clone())));
        Self {
            folder: recorder.folder,
            cap: recorder.cap,
            free,
            full,
            is_full: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Takes the last classified frame, or counts it as lost; never waits.
    pub(super) fn keep(&self, vision: &Vision, events: &Events) {
        if self.is_full.load(Relaxed) {
            return;
        }
        let Some(mut place) = self.free.pop() else {
            events.counters().record_lost.fetch_add(1, Relaxed);
            return;
        };
        let (rgb, logits, scores) = vision.last();
        // Lengths are the model's, so this copies and allocates nothing.
        place.rgb.clear();
        place.rgb.extend_from_slice(rgb);
        place.logits.copy_from_slice(logits);
        // A replay has the tags' scores alone.
        place.scores.copy_from_slice(&scores[..logits.len()]);
        // Places are as many as either queue holds.
        let _ = self.full.push(place);
    }

    /// The line has ended: what waits is written, and no more comes.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Release);
    }

    /// The recorder's thread: writes until it is closed and nothing waits.
    pub(super) fn write(&self, events: &Events) {
        let counters = events.counters();
        let (mut frames, mut bytes, mut failing, mut told_lost) = (0u64, 0u64, false, 0);
        loop {
            // Read before the queue: what was kept before the end is in it then.
            let over = self.is_closed.load(Acquire);
            while let Some(place) = self.full.pop() {
                let size = (place.rgb.len() + 4 * place.logits.len() + 2 * place.scores.len()) as u64;
                if bytes + size > self.cap {
                    self.is_full.store(true, Relaxed);
                    let (folder, mb) = (self.folder.display(), self.cap / 1_000_000);
                    events.note(&format_args!(
                        "--record {folder}: the {mb} MB of --record-mb are written; no more frames are kept"
                    ));
                    return;
                }
                match self.write_frame(frames, &place) {
                    Ok(()) => {
                        (frames, bytes) = (frames + 1, bytes + size);
                        counters.recorded.fetch_add(1, Relaxed);
                        if std::mem::take(&mut failing) {
                            let lost = counters.record_lost.load(Relaxed);
                            events.note(&format_args!("--record writes again; it has lost {lost} frames"));
                        }
                    }
                    Err(e) => {
                        counters.record_lost.fetch_add(1, Relaxed);
                        if !std::mem::replace(&mut failing, true) {
                            tell(
                                events,
                                &format_args!(
                                    "--record {}: {e}; frames are lost until it writes again",
                                    self.folder.display()
                                ),
                            );
                        }
                    }
                }
                let _ = self.free.push(place);
            }
            if over {
                return;
            }
            let lost = counters.record_lost.load(Relaxed);
            if lost > told_lost && !failing {
                tell(events, &format_args!("--record is slower than the line: {lost} frames are lost so far"));
            }
            told_lost = lost;
            std::thread::sleep(NAP);
        }
    }

    /// The three files of a frame, or none: its image comes last, by which a reader finds it.
    fn write_frame(&self, number: u64, kept: &Kept) -> std::io::Result<()> {
        let path = |ending: &str| self.folder.join(format!("{number:08}.{ending}"));
        let logits: Vec<u8> = kept.logits.iter().flat_map(|l| l.to_le_bytes()).collect();
        let scores: Vec<u8> = kept.scores.iter().flat_map(|s| s.0.to_le_bytes()).collect();
        let files = [(path("logits"), &logits), (path("scores"), &scores), (path("rgb"), &kept.rgb)];
        for (i, (file, bytes)) in files.iter().enumerate() {
            write_new(file, bytes).inspect_err(|_| {
                // Those of this frame only, which this call made.
                files[..i].iter().for_each(|(file, _)| drop(std::fs::remove_file(file)));
            })?;
        }
        Ok(())
    }
}

fn tell(events: &Events, why: &dyn std::fmt::Display) {
    events.fault(FaultKind::Record, None, Remedy::Told, Why::of(why));
}
