//! The wall clock, as far as it can be believed.
//!
//! Boards have no clock that runs without power: until the network has set it, theirs says 1970 or
//! the time of the last shutdown. A time before this program could have been built is no time.

use crate::time::Instant;
use std::time::{SystemTime, UNIX_EPOCH};

/// 1 January 2026, 00:00 UTC, in microseconds since 1970: nothing that writes schema 2 is older.
const FLOOR: u64 = 1_767_225_600_000_000;

/// What must be added to `now` on the monotonic clock to give microseconds since 1970; 0 while the
/// clock is not set.
pub(super) fn offset(now: Instant) -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
    offset_of(wall, now)
}

fn offset_of(wall: u64, now: Instant) -> i64 {
    if wall < FLOOR { 0 } else { wall as i64 - now.as_micros() as i64 }
}

/// Whether the system's clock can be believed: it shows a time at which this program was there.
pub fn is_set() -> bool {
    offset(Instant::default()) != 0
}

/// The wall time of `at`, if the clock was set.
pub(super) fn of(at: Instant, offset: i64) -> Option<u64> {
    (offset != 0).then(|| at.as_micros().saturating_add_signed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_set_gives_no_time() {
        let now = Instant::from_micros(5_000_000);
        assert_eq!(of(now, offset_of(12, now)), None);
        assert_eq!(of(now, offset_of(FLOOR - 1, now)), None);
        assert_eq!(of(now, offset_of(FLOOR, now)), Some(FLOOR));
        let later = Instant::from_micros(6_000_000);
        assert_eq!(of(later, offset_of(FLOOR + 7, now)), Some(FLOOR + 1_000_007));
    }
}
