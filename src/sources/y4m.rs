//! YUV4MPEG2 from a file or standard input, so that FFmpeg and GStreamer can feed the line.
//!
//! Does not decode video. Format: the `yuv4mpeg(5)` manual page of mjpegtools.

use super::pipe::Pipe;
use super::{FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::frame::{Colour, Layout, Matrix, PixelFormat, Range};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

/// Longest header line; real ones stay below 200 bytes.
const MAX_LINE: usize = 1024;

/// `y4m:PATH`, or `y4m:-` for standard input.
pub(super) struct Y4mSource {
    spec: SourceSpec,
    limits: Limits,
    pipe: Pipe<File>,
    layout: Layout,
    sequence: u64,
    line: Box<[u8; MAX_LINE]>,
    /// After a fault nothing tells where the next frame begins.
    lost: bool,
}

impl Y4mSource {
    pub(super) fn open(spec: &SourceSpec, limits: Limits) -> Result<Self, SourceError> {
        spec.allow(&[])?;
        let file = match spec.path() {
            "" => return Err(spec.error("expected y4m:PATH or y4m:-")),
            "-" => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
            path => File::open(path),
        };
        let mut pipe = Pipe::new(file.map_err(|e| spec.error(format!("cannot be opened: {e}")))?);
        let mut line = Box::new([0; MAX_LINE]);
        let n = pipe.line(&mut line[..], limits.first_frame).map_err(|e| spec.error(format!("no Y4M header: {e}")))?;
        let layout = header(&line[..n]).map_err(|why| spec.error(why))?;
        Ok(Self { spec: spec.clone(), limits, pipe, layout, sequence: 0, line, lost: false })
    }
}

/// The layout that a stream header states.
fn header(line: &[u8]) -> Result<Layout, String> {
    let text = std::str::from_utf8(line).map_err(|_| "no Y4M header: it is not text")?;
    let mut words = text.split(' ');
    if words.next() != Some("YUV4MPEG2") {
        return Err("no Y4M header: expected YUV4MPEG2; convert with `ffmpeg -pix_fmt yuv420p -f yuv4mpegpipe`".into());
    }
    let (mut width, mut height, mut format) = (0, 0, PixelFormat::I420);
    let mut colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
    for word in words.filter(|w| !w.is_empty()) {
        let (key, value) = word.split_at_checked(1).unwrap_or((word, ""));
        let number = || value.parse().map_err(|_| format!("header field {word}: expected a number"));
        match key {
            "W" => width = number()?,
            "H" => height = number()?,
            "C" => {
                format = match value {
                    "420" | "420jpeg" | "420mpeg2" | "420paldv" => PixelFormat::I420,
                    "422" => PixelFormat::I422,
                    "mono" => PixelFormat::Grey8,
                    other => {
                        return Err(format!("chroma {other}: expected 420, 422 or mono; convert with `-pix_fmt yuv420p`"));
                    }
                }
            }
            "I" if !matches!(value, "p" | "?") => return Err(format!("interlacing {value}: expected progressive frames")),
            "X" if value == "COLORRANGE=FULL" => colour.range = Range::Full,
            _ => {}
        }
    }
    let layout = Layout::packed(format, colour, width, height);
    layout.byte_len().map_err(|e| e.to_string())?;
    Ok(layout)
}

impl Source for Y4mSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        if self.lost {
            return Err(NoFrame::End);
        }
        let got = self.frame(frame, timeout);
        self.lost = matches!(got, Err(NoFrame::Truncated { .. } | NoFrame::Corrupt(_) | NoFrame::FormatChanged(_)));
        got
    }

    /// A file begins anew; standard input cannot.
    fn reopen(&mut self) -> Result<(), SourceError> {
        if self.spec.path() == "-" {
            return Err(self.spec.error("standard input cannot be read twice"));
        }
        *self = Self::open(&self.spec, self.limits)?;
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Pulled
    }
}

impl Y4mSource {
    fn frame(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let n = self.pipe.line(&mut self.line[..], timeout)?;
        let line = &self.line[..n];
        if line.starts_with(b"YUV4MPEG2 ") {
            return Err(NoFrame::FormatChanged("a second stream header".into()));
        }
        if !line.starts_with(b"FRAME") {
            return Err(NoFrame::Corrupt("no FRAME marker where one was due".into()));
        }
        let needed = self.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
        frame.bytes.resize(needed, 0);
        self.pipe.fill(&mut frame.bytes, timeout).map_err(|e| match e {
            NoFrame::End | NoFrame::Timeout => NoFrame::Truncated { found: 0, needed },
            other => other,
        })?;
        frame.layout = self.layout;
        frame.sequence = self.sequence;
        frame.stamp = Stamp::Arrival;
        frame.crossing = None;
        self.sequence += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_ffmpeg_and_gstreamer_are_read() {
        let ffmpeg = b"YUV4MPEG2 W640 H480 F25:1 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=FULL";
        let layout = header(ffmpeg).unwrap();
        assert_eq!((layout.width, layout.format, layout.colour.range), (640, PixelFormat::I420, Range::Full));
        let gstreamer = b"YUV4MPEG2 W320 H240 Ip F30:1 A1:1 Cmono";
        assert_eq!(header(gstreamer).unwrap().format, PixelFormat::Grey8);
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
            let error = header(line.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
