//! GPIO lines through the character device (uAPI v2): any board, chips found by label because their
//! numbers change.
//!
//! The kernel applies polarity, debounces inputs, time-stamps their edges, and sets an output's
//! first value in the same call that requests the line.

mod chips;
mod inputs;

pub use chips::{Chip, HEADER, choose, scan};
pub use inputs::{Edge, InputLine, InputLines, Pull, Slope};

use gpiocdev::Request;
use gpiocdev::line::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a line is, and which process holds it.
struct Found {
    chip: Chip,
    offset: u32,
    used_by: Option<String>,
}

fn chips() -> Vec<Chip> {
    scan(Path::new("/dev"), &|path| {
        let info = gpiocdev::chip::Chip::from_path(path).and_then(|c| c.info()).ok()?;
        Some((info.label, info.num_lines))
    })
}

/// A line by chip (label, path, or [`HEADER`]) and offset or name.
fn find(chip: &str, line: &str) -> Result<Found, String> {
    let chip = if chip.starts_with('/') {
        let path = std::fs::canonicalize(chip).unwrap_or(PathBuf::from(chip));
        let opened = gpiocdev::chip::Chip::from_path(&path).and_then(|c| c.info()).map_err(|e| {
            format!(
                "{} cannot be opened: {e}; name a chip by label or path, and add the user to the group `gpio`",
                path.display()
            )
        })?;
        Chip { path, label: opened.label, lines: opened.num_lines }
    } else {
        choose(chip, &chips())?.clone()
    };
    let failed = |e: gpiocdev::Error| format!("{}: {e}", chip.path.display());
    let device = gpiocdev::chip::Chip::from_path(&chip.path).map_err(failed)?;
    let info = match line.parse::<u32>() {
        Ok(offset) if offset >= chip.lines => {
            return Err(format!("line {offset} of \"{}\", which has 0..={}", chip.label, chip.lines.saturating_sub(1)));
        }
        Ok(offset) => device.line_info(offset).map_err(failed)?,
        Err(_) => device.find_line_info(line).ok_or_else(|| format!("no line named \"{line}\" on \"{}\"", chip.label))?,
    };
    let used_by = info.used.then(|| info.consumer.clone());
    Ok(Found { chip, offset: info.offset, used_by })
}

/// Whether two places, each a chip and a line, are the same pin. Chips and lines have several
/// names: they are looked up on this machine if it has both lines, else compared by name.
pub fn is_same(a: (&str, &str), b: (&str, &str)) -> bool {
    let place = |(chip, line)| find(chip, line).ok().map(|found| (found.chip.path, found.offset));
    let named = |(chip, line)| chips::named(chip, line);
    named(a) == named(b) || place(a).is_some_and(|a| place(b).is_some_and(|b| a == b))
}

impl Found {
    /// Why the line cannot be requested: another process holds it. `None` if it is free.
    fn held(&self) -> Option<String> {
        let (offset, label) = (self.offset, &self.chip.label);
        let held = |other| format!("line {offset} of \"{label}\" is held by \"{other}\"; free it or choose another");
        self.used_by.as_ref().map(held)
    }

    fn refused(&self, e: &gpiocdev::Error) -> String {
        self.held().unwrap_or_else(|| format!("line {} of \"{}\" cannot be taken: {e}", self.offset, self.chip.label))
    }
}

/// Finds a line and checks that it could be requested, without requesting it; returns where it is.
pub fn probe(chip: &str, line: &str) -> Result<String, String> {
    let found = find(chip, line)?;
    match found.held() {
        Some(why) => Err(why),
        None => Ok(format!("{} ({}) line {}", found.chip.label, found.chip.path.display(), found.offset)),
    }
}

/// A line that this process drives, from any thread. Each is a request of its own, because the
/// kernel locks a request during a write: a write that hangs then blocks no other line, unless the
/// chip's driver does.
#[derive(Clone)]
pub struct OutputLine {
    request: Arc<Request>,
    offset: u32,
}

fn value(active: bool) -> Value {
    if active { Value::Active } else { Value::Inactive }
}

impl OutputLine {
    /// Requests a line and drives it to its first value without a glitch.
    pub fn open(chip: &str, line: &str, active_low: bool, first: bool) -> Result<Self, String> {
        let found = find(chip, line)?;
        let mut builder = Request::builder();
        builder.on_chip(&found.chip.path).with_consumer("tagpin").with_line(found.offset).as_output(value(first));
        if active_low {
            builder.as_active_low();
        }
        let request = builder.request().map_err(|e| found.refused(&e))?;
        Ok(Self { request: Arc::new(request), offset: found.offset })
    }

    /// Its offset on its chip.
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Drives the line; the system's error number if that fails. Takes no lock and no memory of
    /// this process.
    pub fn set(&self, active: bool) -> Result<(), i32> {
        let done = self.request.set_value(self.offset, value(active));
        // There is no system error if the call failed before it was made.
        done.map(drop).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap_or_default())
    }
}
