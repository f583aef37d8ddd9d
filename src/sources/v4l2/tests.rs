//! Formats, stamps and intervals, without a camera.

use super::*;
use v4l::timestamp::Timestamp;

/// A camera that has motion JPEG at 30 images a second and YUYV at 10 was opened with YUYV, and
/// nothing could be said against it.
#[test]
fn a_format_that_is_asked_for_is_the_one_that_is_opened() {
    let offered = [FourCC::new(b"MJPG"), FourCC::new(b"H264"), FourCC::new(b"YUYV")];
    let opened = |source: &str| {
        let spec: SourceSpec = source.parse().unwrap();
        choose(&spec, Wanted::read(&spec)?.format, &offered).map(|code| code.to_string())
    };
    assert_eq!(opened("v4l2:/dev/video0").unwrap(), "YUYV");
    assert_eq!(opened("v4l2:/dev/video0?format=MJPG").unwrap(), "MJPG");
    let why = |source: &str| opened(source).unwrap_err().why;
    assert_eq!(why("v4l2:/dev/video0?format=NV12"), "the camera offers MJPG, H264, YUYV, expected NV12, as was asked for");
    assert_eq!(why("v4l2:/dev/video0?format=H264"), "format=H264, expected one of YUYV, NV12, YU12, MJPG");
    assert_eq!(why("v4l2:/dev/video0?format="), "format=, expected one of YUYV, NV12, YU12, MJPG");
}

/// Flags of drivers whose stamps are of a clock that nobody names, and of whoever filled the
/// buffer.
const UNKNOWN: Flags = Flags::TSTAMP_SRC_SOE;
const COPIED: Flags = Flags::TIMESTAMP_COPY.union(Flags::TSTAMP_SRC_SOE);

/// A run began with a driver that never says when a frame was exposed, and then gave no part a
/// frame.
#[test]
fn a_driver_without_stamps_of_our_clock_is_one_that_knows_the_arrival() {
    let worth = |flags: Flags, latency| worth(&Metadata { flags, ..Metadata::default() }, latency);
    let latency = Some(Micros(80_000));
    for flags in [UNKNOWN, COPIED, Flags::TSTAMP_SRC_EOF, Flags::empty(), Flags::ERROR] {
        assert_eq!((worth(flags, None), worth(flags, latency)), (TimedBy::Arrival, TimedBy::Setting), "{flags:?}");
    }
    for source in [Flags::TSTAMP_SRC_SOE, Flags::TSTAMP_SRC_EOF, Flags::ERROR] {
        let flags = Flags::TIMESTAMP_MONOTONIC | source;
        assert_eq!((worth(flags, None), worth(flags, latency)), (TimedBy::Driver, TimedBy::Driver), "{flags:?}");
    }
}

/// A camera that said 30 frames a second gave 10 in the dark: frames that began before a part's
/// trigger were stated as behind it.
#[test]
fn a_frame_may_have_been_exposed_since_the_one_before_it() {
    let stated = Micros(33_333);
    let meta = |sequence, us| Metadata { sequence, timestamp: Timestamp::new(5, us), ..Metadata::default() };
    let before = Some((7, Instant::from_micros(5_000_000)));
    for (sequence, us, expected) in [(8, 100_000, 100_000), (8, 33_000, 33_333), (9, 100_000, 50_000), (7, 90_000, 90_000)] {
        let found = longest_interval(stated, before, &mut None, &meta(sequence, us));
        assert_eq!(found, Some(Micros(expected)), "{sequence} {us}");
    }
}

/// After each reopening the first frame had the stated interval again: it had been exposed
/// since before its part's trigger.
#[test]
fn the_first_frame_of_an_opening_may_have_been_exposed_as_long_as_any_before() {
    let (stated, mut longest) = (Micros(33_333), None);
    let meta = |sequence, us| Metadata {
        sequence,
        timestamp: Timestamp::new(5, us),
        flags: Flags::TIMESTAMP_MONOTONIC | Flags::TSTAMP_SRC_EOF,
        ..Metadata::default()
    };
    let now = Instant::from_micros(5_900_000);
    let first = longest_interval(stated, None, &mut longest, &meta(0, 100_000));
    assert_eq!(first, None, "nothing was measured yet");
    assert_eq!(captured_at(&meta(0, 100_000), first, now, None).exposed_from(), None);
    let before = Some((0, Instant::from_micros(5_100_000)));
    assert_eq!(longest_interval(stated, before, &mut longest, &meta(1, 200_000)), Some(Micros(100_000)));
    let before = Some((1, Instant::from_micros(5_200_000)));
    assert_eq!(longest_interval(stated, before, &mut longest, &meta(2, 233_000)), Some(stated), "of this frame alone");
    let first = longest_interval(stated, None, &mut longest, &meta(0, 800_000));
    assert_eq!(first, Some(Micros(100_000)), "opened again");
    let from = captured_at(&meta(0, 800_000), first, now, None).exposed_from();
    assert_eq!(from, Some(Instant::from_micros(5_700_000)));
}

/// What each driver's flags are worth: a stamp of another clock was taken for one of ours, and
/// the end of a frame for its beginning.
#[test]
fn a_stamp_is_worth_what_the_drivers_flags_say() {
    const NOW: u64 = 100_000_000;
    let (interval, now) = (Micros(33_333), Instant::from_micros(NOW));
    let captured = |flags: Flags, us: u64, latency| {
        let timestamp = Timestamp::new((us / 1_000_000) as _, (us % 1_000_000) as _);
        captured_at(&Metadata { flags, timestamp, ..Metadata::default() }, Some(interval), now, latency)
    };
    let start = Flags::TIMESTAMP_MONOTONIC | Flags::TSTAMP_SRC_SOE;
    let end = Flags::TIMESTAMP_MONOTONIC | Flags::TSTAMP_SRC_EOF;
    let latency = Some(Micros(80_000));
    for age in [0, 1, 20_000, 1_999_999] {
        let stamp = NOW - age;
        let exposed = Instant::from_micros(stamp);
        let known = captured(start, stamp, None);
        assert_eq!((known.exposed_from(), known.exposed_to()), (Some(exposed), Some(exposed)), "{age}");
        let about = captured(end, stamp, latency);
        let (from, to) = (about.exposed_from().unwrap(), about.exposed_to().unwrap());
        assert!(from <= exposed.minus(interval) && from.plus(Micros(2)) >= exposed.minus(interval), "{age}: {about:?}");
        assert!(to >= exposed && to <= exposed.plus(Micros(2)), "{age}: {about:?}");
        assert_eq!((known.timed_by(), about.timed_by()), (TimedBy::Driver, TimedBy::Driver));
    }
    // From the future, from long ago, of another clock: the arrival, if somebody vouches for
    // it.
    for (flags, stamp) in
        [(start, NOW + 1), (end, NOW + 1), (start, NOW - 2_000_001), (end, 0), (UNKNOWN, NOW - 1), (COPIED, NOW - 1)]
    {
        assert_eq!(captured(flags, stamp, None), CapturedAt::Unknown { at: now }, "{flags:?} {stamp}");
        assert_eq!(captured(flags, stamp, latency).exposed_from(), Some(Instant::from_micros(NOW - 80_000)));
    }
}
