//! The site's log: JSON lines in files that rotate, under a limit a day that spares an SD card.

use super::Sink;
use super::json::line;
use crate::events::{Event, Events, What};
use crate::rotating::RotatingFile;
use crate::time::{Instant, Micros};

/// Bytes that may be written: a number a day, and at once what an hour of it brings.
#[derive(Debug)]
pub struct Allowance {
    bytes_per_day: u64,
    left: f64,
    at: Option<Instant>,
    spent: bool,
}

const DAY: Micros = Micros(86_400_000_000);

impl Allowance {
    /// Nothing was written yet.
    pub fn new(bytes_per_day: u64) -> Self {
        Self { bytes_per_day, left: bytes_per_day as f64 / 24.0, at: None, spent: false }
    }

    /// Takes `bytes` at `now`. Once spent, it opens again when a tenth of an hour's bytes have come
    /// together, so that losses come in few stretches.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let hour = self.bytes_per_day as f64 / 24.0;
        let passed = now.since(*self.at.get_or_insert(now)).0 as f64 / DAY.0 as f64;
        self.at = Some(now);
        self.left = (self.left + passed * self.bytes_per_day as f64).min(hour);
        self.spent = self.left < if self.spent { hour / 10.0 } else { bytes as f64 };
        if !self.spent {
            self.left -= bytes as f64;
        }
        !self.spent
    }
}

/// The site's log.
pub struct Log {
    file: RotatingFile,
    allowance: Allowance,
    bytes: Vec<u8>,
}

impl Log {
    /// A log in `file` of at most `bytes_per_day` a day.
    pub fn new(file: RotatingFile, bytes_per_day: u64) -> Self {
        Self { file, allowance: Allowance::new(bytes_per_day), bytes: Vec::new() }
    }
}

impl Sink for Log {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        line(&mut self.bytes, events, event)?;
        // A run's ends are always there.
        let is_end = matches!(event.what, What::Start | What::Summary);
        if !self.allowance.take(event.at, self.bytes.len()) && !is_end {
            let why = format!(
                "{}: as much is written as a day of {} MB allows by now; raise [events] max_mb_per_day if the disk bears it",
                self.file.path().display(),
                self.allowance.bytes_per_day / 1_000_000
            );
            return Err(std::io::Error::other(why));
        }
        self.file.append(&self.bytes).map_err(|e| {
            let path = self.file.path().display();
            std::io::Error::new(e.kind(), format!("{path}: {e}; free space, bring the folder back or change [events]"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_brings_no_more_than_its_allowance() {
        let mut allowance = Allowance::new(86_400_000);
        let (mut written, mut stretches, mut open) = (0, 0, true);
        // 10 kB/s where 1 kB/s is allowed.
        for second in 0..86_400 {
            for part in 0..10 {
                let took = allowance.take(Instant::from_micros(second * 1_000_000 + part * 100_000), 1000);
                written += if took { 1000 } else { 0 };
                stretches += (took != open) as u32;
                open = took;
            }
        }
        assert!((86_000_000..=90_000_000).contains(&written), "{written}");
        assert!(stretches < 500, "{stretches} times opened or closed");
    }
}
