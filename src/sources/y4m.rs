//! YUV4MPEG2 from a file, a pipe or standard input, so that FFmpeg and GStreamer can feed the line.
//!
//! A regular file is read frame by frame as frames are wanted, none is skipped, and its end is the
//! run's. A pipe (`y4m:-`, or a FIFO by its path) is live: it is read as fast as it is written, the
//! newest frame wins, and its end is a fault. A frame of a pipe is as old as its first byte; what
//! comes faster than the stated rate, or had been waiting, counts as old ([`Pace`]).
//!
//! When framing is lost (a pause inside a frame, foreign bytes) the next `FRAME` is looked for;
//! since image data may hold that word by chance, the frame behind it only proves the next header
//! and is thrown away. An image that holds a header is none: bytes of it are missing, as when its
//! writer was started again, and the next frame begins inside it. Does not decode video. Format:
//! the `yuv4mpeg(5)` manual page of mjpegtools.

use super::pipe::{Arrivals, Pace, Pipe};
use super::spec::ColourOptions;
use super::{FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec, make_room};
use crate::frame::{CapturedAt, Colour, Layout, Matrix, PixelFormat, Range, TimedBy};
use crate::time::{Clock, Instant, Micros};
use memchr::memmem;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// What a stream's header begins with, and a frame's.
const STREAM: &[u8] = b"YUV4MPEG2 ";
const FRAME: &[u8] = b"FRAME";
/// Longest header line; real ones stay below 200 bytes.
const MAX_LINE: usize = 1024;

/// Rows from which on video is BT.709 unless it says otherwise, as players have it.
const HD_ROWS: u32 = 720;

/// `y4m:PATH?matrix=709&range=limited`, or `y4m:-` for standard input.
pub(super) struct Y4mSource {
    spec: SourceSpec,
    limits: Limits,
    clock: Arc<dyn Clock>,
    colour: ColourOptions,
    pipe: Pipe<File>,
    live: bool,
    header: Header,
    sequence: u64,
    line: Box<[u8; MAX_LINE]>,
    /// After a fault nothing tells where the next frame begins.
    lost: bool,
    arrivals: Arrivals,
    pace: Pace,
}

/// What a stream header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    layout: Layout,
    /// From one frame to the next; 0 if it is not said.
    interval: Micros,
}

impl Y4mSource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Self, SourceError> {
        spec.allow(&["matrix", "range"])?;
        let colour = ColourOptions::read(spec)?;
        let failed = |e: std::io::Error| spec.error(format!("cannot be opened: {e}"));
        let file = match spec.path() {
            "" => return Err(spec.error("expected y4m:PATH or y4m:-")),
            "-" => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
            path => open_file(path),
        };
        let file = file.map_err(failed)?;
        let live = !file.metadata().map_err(failed)?.is_file();
        let mut pipe = Pipe::new(file);
        let mut line = Box::new([0; MAX_LINE]);
        let n = pipe.line(&mut line[..], limits.first_frame).map_err(|e| spec.error(format!("no Y4M header: {e}")))?;
        let header = header(&line[..n], colour).map_err(|why| spec.error(why))?;
        let (spec, clock, now) = (spec.clone(), clock.clone(), clock.now());
        let (arrivals, pace) = (Arrivals::new(now, header.interval), Pace::new(now));
        Ok(Self { spec, limits, clock, colour, pipe, live, header, sequence: 0, line, lost: false, arrivals, pace })
    }

    /// Waits for the next frame's first byte; the frame's time.
    fn arrival(&mut self, timeout: Duration) -> Result<CapturedAt, NoFrame> {
        if !self.live {
            // An image from a file is shown when it is wanted.
            return Ok(CapturedAt::Exposure { at: self.clock.now(), uncertainty: Micros(0), by: TimedBy::Shown });
        }
        let timeout = Micros(timeout.as_micros() as u64);
        let first = self.arrivals.first_byte(&mut (&self.pipe, &*self.clock), timeout)?;
        Ok(self.pace.captured(first, self.limits.latency))
    }

    fn frame(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let deadline = self.clock.now().plus(Micros(timeout.as_micros() as u64));
        if self.lost {
            self.find_marker(timeout, deadline)?;
            self.payload(frame, timeout)?;
            self.lost = false;
        }
        loop {
            let captured_at = self.arrival(timeout)?;
            let n = self.pipe.line(&mut self.line[..], timeout).inspect_err(|e| self.lost |= *e != NoFrame::End)?;
            let line = &self.line[..n];
            if line.starts_with(STREAM) {
                // Its writer was started again.
                let header = header(line, self.colour).map_err(|why| {
                    self.lost = true;
                    NoFrame::Corrupt(why)
                })?;
                if std::mem::replace(&mut self.header, header).layout != header.layout {
                    let Layout { width, height, format, .. } = header.layout;
                    return Err(NoFrame::FormatChanged(format!("now {width}x{height} {format:?}")));
                }
                continue;
            }
            if line != FRAME && !line.starts_with(b"FRAME ") {
                self.lost = true;
                return Err(NoFrame::Corrupt("no FRAME marker where one was due".into()));
            }
            self.payload(frame, timeout)?;
            frame.layout = self.header.layout;
            frame.sequence = self.sequence;
            frame.captured_at = captured_at;
            frame.crossing = None;
            self.sequence += 1;
            return Ok(());
        }
    }

    fn payload(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let needed = self.header.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
        make_room(&mut frame.bytes, needed)?;
        let outcome = self.pipe.fill(&mut frame.bytes, timeout);
        self.arrivals.read(self.clock.now());
        let fault = match (outcome, header_within(&frame.bytes)) {
            (Ok(_), None) => return Ok(()),
            (Ok(_), Some(found)) => NoFrame::Truncated { found, needed },
            (Err(NoFrame::End | NoFrame::Timeout), _) => NoFrame::Truncated { found: 0, needed },
            (Err(other), _) => other,
        };
        self.lost = true;
        Err(fault)
    }

    /// Reads on until a frame's marker and its line have passed.
    fn find_marker(&mut self, timeout: Duration, deadline: Instant) -> Result<(), NoFrame> {
        let mut matched = 0;
        loop {
            let byte = self.pipe.byte(timeout)?;
            if matched == FRAME.len() && byte == b'\n' {
                return Ok(());
            }
            matched = match byte {
                b'F' => 1,
                // Parameters follow; they are text.
                b' '..=b'~' if matched == FRAME.len() => matched,
                b if FRAME.get(matched) == Some(&b) => matched + 1,
                _ => 0,
            };
            if self.clock.now() >= deadline {
                return Err(NoFrame::Timeout);
            }
        }
    }
}

/// Where a header stands in an image's bytes. By chance one does in a frame of some hundred
/// million.
fn header_within(image: &[u8]) -> Option<usize> {
    let ends = |at: &usize| matches!(image.get(at + FRAME.len()), None | Some(b'\n' | b' '));
    let frame = memmem::find_iter(image, FRAME).find(ends);
    frame.into_iter().chain(memmem::find(image, STREAM)).min()
}

/// A FIFO is opened without waiting for its writer: the first frame has a time limit of its own.
fn open_file(path: &str) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
    let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    fcntl_setfl(&file, OFlags::RDONLY)?;
    Ok(File::from(file))
}

/// Reads a stream header. What it does not say about colour follows the options, else the image's
/// size.
fn header(line: &[u8], options: ColourOptions) -> Result<Header, String> {
    let text = std::str::from_utf8(line).map_err(|_| "no Y4M header: it is not text")?;
    let mut words = text.split(' ');
    if words.next() != Some("YUV4MPEG2") {
        return Err("no Y4M header: expected YUV4MPEG2; convert with `ffmpeg -pix_fmt yuv420p -f yuv4mpegpipe`".into());
    }
    let (mut width, mut height, mut format, mut interval) = (0, 0, PixelFormat::I420, Micros(0));
    let (mut matrix, mut range) = (None, Range::Limited);
    for word in words.filter(|w| !w.is_empty()) {
        let (key, value) = word.split_at_checked(1).unwrap_or((word, ""));
        let number = || value.parse().map_err(|_| format!("header field {word}: expected a number"));
        match key {
            "W" => width = number()?,
            "H" => height = number()?,
            "C" => {
                // The endings tell where chroma is sited; preprocessing averages over it.
                format = match value {
                    "420" | "420jpeg" | "420mpeg2" | "420paldv" => PixelFormat::I420,
                    "422" => PixelFormat::I422,
                    "mono" => PixelFormat::Grey8,
                    other => {
                        return Err(format!("chroma {other}: expected 420, 422 or mono; convert with `-pix_fmt yuv420p`"));
                    }
                }
            }
            "F" => {
                let rate = value.split_once(':').and_then(|(n, d)| Some((n.parse::<u64>().ok()?, d.parse::<u64>().ok()?)));
                interval = match rate {
                    Some((n @ 1.., d @ 1..=1_000_000)) => Micros(d * 1_000_000 / n),
                    _ => Micros(0),
                };
            }
            "I" if !matches!(value, "p" | "?") => return Err(format!("interlacing {value}: expected progressive frames")),
            "X" => match value.split_once('=') {
                Some(("COLORRANGE", "FULL")) => range = Range::Full,
                Some(("COLORRANGE", "LIMITED")) => range = Range::Limited,
                Some(("COLORMATRIX" | "COLORSPACE", "BT709" | "709")) => matrix = Some(Matrix::Bt709),
                Some(("COLORMATRIX" | "COLORSPACE", "BT601" | "601" | "SMPTE170M" | "BT470BG")) => {
                    matrix = Some(Matrix::Bt601)
                }
                _ => {}
            },
            _ => {}
        }
    }
    let by_size = if height >= HD_ROWS { Matrix::Bt709 } else { Matrix::Bt601 };
    let colour = options.over(Colour { matrix: matrix.unwrap_or(by_size), range });
    let layout = Layout::packed(format, colour, width, height);
    layout.byte_len().map_err(|e| e.to_string())?;
    Ok(Header { layout, interval })
}

impl Source for Y4mSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        self.frame(frame, timeout)
    }

    /// A file begins anew; of a pipe what comes is read on.
    fn reopen(&mut self) -> Result<(), SourceError> {
        if !self.live {
            *self = Self::open(&self.spec, &self.clock, self.limits)?;
        }
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        if self.live { Pacing::Live } else { Pacing::Pulled }
    }

    fn timed_by(&self) -> TimedBy {
        match self.live {
            false => TimedBy::Shown,
            true if self.limits.latency.is_some() => TimedBy::Setting,
            true => TimedBy::Arrival,
        }
    }

    fn layout(&self) -> Option<Layout> {
        Some(self.header.layout)
    }

    fn interval(&self) -> Micros {
        self.header.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Instant {
            Instant::default()
        }

        fn wait_until(&self, _: Instant) {}
    }

    /// A stream of grey frames that were cut, lost a piece, or are followed by foreign bytes or
    /// another header, at random: what is given was sent whole, once and in order, and from the
    /// third whole frame behind a damage on all of them are given.
    #[test]
    fn what_is_given_was_sent_whole_and_framing_is_found_again() {
        let (seed, count) = drawn_cases(100);
        let path = std::env::temp_dir().join(format!("tagpin-framing-{}.y4m", std::process::id()));
        let spec: SourceSpec = format!("y4m:{}", path.display()).parse().unwrap();
        let mut all_given = 0;
        for case in 0..count {
            let mut random = Random::new(seed, case);
            let mut below = |n: usize| (random.next() % n as u64) as usize;
            let (width, height) = (2 * (1 + below(30)), 2 * (1 + below(30)));
            let header = format!("YUV4MPEG2 W{width} H{height} F20:1 Ip C420\n");
            let mut bytes = header.clone().into_bytes();
            // Of each whole frame its grey, and how many whole ones stand between it and the
            // damage.
            let (mut sent, mut since) = (Vec::new(), 2);
            for grey in 1..=200 {
                let mut frame = [b"FRAME\n".as_slice(), b"FRAME Ip XA=b\n"][below(2)].to_vec();
                frame.resize(frame.len() + width * height * 3 / 2, grey);
                let whole = frame.len();
                let damage = below(24);
                match damage {
                    0 => frame.truncate(below(whole)),
                    1 => {
                        let at = below(whole);
                        frame.drain(at..at + 1 + below(whole - at));
                    }
                    2 => frame.extend((0..1 + below(2000)).map(|_| below(256) as u8)),
                    3 => frame.extend(header.bytes()),
                    _ => {}
                }
                if frame.len() >= whole {
                    sent.push((grey, since));
                }
                since = if damage < 3 { 0 } else { since + 1 };
                bytes.extend(frame);
            }
            std::fs::write(&path, bytes).unwrap();
            let mut source = Y4mSource::open(&spec, &(Arc::new(Still) as _), Limits::default()).unwrap();
            let (mut frame, mut given) = (FrameBuffer::empty(), Vec::new());
            loop {
                match source.next(&mut frame, Duration::from_secs(1)) {
                    Ok(()) => {
                        let grey = frame.bytes[0];
                        // Fewer bytes than a marker has may be missing at its end.
                        let rest = &frame.bytes[..frame.bytes.len() - 4];
                        assert!(rest.iter().all(|b| *b == grey), "case {case}: a torn image of {grey}");
                        given.push(grey);
                    }
                    Err(NoFrame::End) => break,
                    Err(_) => {}
                }
            }
            assert!(given.is_sorted_by(|a, b| a < b), "case {case}: {given:?}");
            let owed = sent.iter().filter(|(_, since)| *since >= 2).map(|(grey, _)| *grey);
            let missing: Vec<u8> = owed.filter(|grey| !given.contains(grey)).collect();
            assert!(missing.is_empty(), "case {case}: {missing:?} are not given");
            all_given += given.len();
        }
        std::fs::remove_file(&path).unwrap();
        assert!(all_given as u64 > 100 * count, "{all_given} of {} frames", 200 * count);
    }

    fn read(line: &str) -> Result<Header, String> {
        header(line.as_bytes(), ColourOptions::default())
    }

    #[test]
    fn headers_of_ffmpeg_and_gstreamer_are_read() {
        let ffmpeg = read("YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=FULL").unwrap();
        assert_eq!((ffmpeg.layout.width, ffmpeg.layout.format), (640, PixelFormat::I420));
        assert_eq!((ffmpeg.layout.colour.range, ffmpeg.interval), (Range::Full, Micros(40_000)));
        let gstreamer = read("YUV4MPEG2 W320 H240 Ip F30:1 A1:1 Cmono").unwrap();
        assert_eq!(gstreamer.layout.format, PixelFormat::Grey8);
    }

    #[test]
    fn colour_is_what_the_options_say_then_the_header_then_the_size() {
        let matrix = |line: &str, options| header(line.as_bytes(), options).unwrap().layout.colour.matrix;
        let none = ColourOptions::default();
        assert_eq!(matrix("YUV4MPEG2 W1280 H720", none), Matrix::Bt709);
        assert_eq!(matrix("YUV4MPEG2 W640 H480", none), Matrix::Bt601);
        assert_eq!(matrix("YUV4MPEG2 W640 H480 XCOLORMATRIX=BT709", none), Matrix::Bt709);
        let spec: SourceSpec = "y4m:-?matrix=601&range=full".parse().unwrap();
        let options = ColourOptions::read(&spec).unwrap();
        assert_eq!(matrix("YUV4MPEG2 W1280 H720", options), Matrix::Bt601);
        assert_eq!(header(b"YUV4MPEG2 W16 H16", options).unwrap().layout.colour.range, Range::Full);
    }

    #[test]
    fn bad_headers_say_what_was_expected() {
        for (line, word) in [
            ("RIFF", "YUV4MPEG2"),
            ("YUV4MPEG2 W0 H4", "1..="),
            ("YUV4MPEG2 W4 H4 C444", "420, 422 or mono"),
            ("YUV4MPEG2 W4 H4 It", "progressive"),
            ("YUV4MPEG2 W99999 H4", "8192"),
            ("YUV4MPEG2 Wx H4", "number"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
