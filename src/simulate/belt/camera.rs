//! The camera and the model: what each frame shows, when it is there, what is lost, damaged or
//! frozen, and what scores it gets.

use super::{Frame, Simulated, Working};
use crate::fault::Reason;
use crate::frame::{CapturedAt, Fingerprint, TimedBy};
use crate::head::Score;
use crate::random::Random;
use crate::simulate::fault::Fault;
use crate::simulate::ledger::{Answer, Noted, Shot};
use crate::station::Input;
use crate::time::{Instant, Micros};

impl Simulated<'_> {
    /// How long the line goes without a frame.
    pub(super) fn patience(&self) -> Micros {
        Micros(self.settings.frame_timeout.micros().0 + 1)
    }

    pub(super) fn no_frame(&mut self, reason: Reason, now: Instant) {
        self.ledger.note(now, Noted::Camera(false));
        self.camera = (false, now);
        self.step_alone(Input::NoFrame(reason));
    }

    pub(super) fn expose(&mut self, now: Instant) {
        self.belt.exposures += 1;
        // Counted from the start, so that no microseconds are lost. A camera's clock is not the
        // belt's: it is a thousandth slower, so that no spacing stays in step with its frames.
        self.belt.next_exposure =
            Instant::from_micros(1_000_000 + self.belt.exposures * 1_000_997 / self.script.fps.max(1) as u64);
        if self.strikes(Fault::CameraGone) {
            self.count(Fault::CameraGone);
            self.belt.gone_until = now.plus(Micros(self.belt.random.range(200_000, 3_000_000) as u64));
        }
        let lost = self.strikes(Fault::FrameLost);
        let corrupt = self.strikes(Fault::FrameCorrupt);
        if now < self.belt.gone_until {
            return;
        }
        if lost {
            return self.count(Fault::FrameLost);
        }
        if corrupt {
            self.count(Fault::FrameCorrupt);
        }
        let arrival = now.plus(self.script.arrival.draw(&mut self.belt.random));
        let arrival = self.arrivals.back().map_or(arrival, |(last, _)| arrival.max(*last));
        // How long a part has been before the camera; by counts as long as a belt takes that runs.
        let since = |came: &Result<Instant, i64>| match came {
            Ok(at) => (*at <= now).then(|| now.since(*at)),
            Err(count) => {
                let gone = u64::try_from(self.belt.motion.position(now) - *count).ok()?;
                Some(Micros(gone * 1_000_000 / self.script.counts_per_second.max(1) as u64))
            }
        };
        let before = self.belt.passed.iter().rev().find_map(|(came, kind)| Some((since(came)?, *kind)));
        let shown = before.filter(|(since, _)| *since < self.script.in_view).map(|(_, kind)| kind);
        let mut frame = Frame { exposed: now, arrived: arrival, image: self.belt.exposures, shows: shown, corrupt };
        if self.strikes(Fault::Frozen) {
            self.count(Fault::Frozen);
            let until = now.plus(Micros(self.belt.random.range(1000, 2_000_000) as u64));
            self.belt.frozen = Some((until, frame.clone()));
        }
        if let Some((_, stuck)) = self.belt.frozen.as_ref().filter(|(until, _)| now < *until) {
            frame = Frame { exposed: now, arrived: arrival, corrupt, ..stuck.clone() };
        }
        self.arrivals.push_back((arrival, frame));
    }

    /// What a model says of a frame: mostly its part's tag for sure, now and then doubtful, near a
    /// threshold, or wrong. Each model calls a part by another tag than the model before it.
    fn scores(&self, frame: &Frame, model: u64) -> (Vec<u16>, bool) {
        let Some(kind) = frame.shows else { return (vec![900; self.tags as usize], false) };
        let mut r = Random::new(kind.seed ^ model.wrapping_mul(0x9e37_79b9_7f4a_7c15), frame.image);
        let tags = u64::from(self.tags);
        let tag = ((u64::from(kind.tag) + model % tags) % tags) as u16;
        let sure = r.range(0, 9) < 8;
        let score = |r: &mut Random, t: u16| match (sure, t == tag) {
            (true, true) => r.range(52_000, 65_535) as u16,
            (true, false) => r.range(0, 9000) as u16,
            (false, _) => r.range(0, 65_535) as u16,
        };
        let scores = (0..self.tags).map(|t| score(&mut r, t)).collect();
        (scores, kind.foreign && r.range(0, 9) > 0)
    }

    pub(super) fn frame(&mut self, frame: Frame, now: Instant) {
        if frame.corrupt {
            return self.no_frame(Reason::Corrupt, now);
        }
        self.camera = (true, now);
        let (exposed, image, shows_part) = (frame.exposed, frame.image, frame.shows.is_some());
        let captured_at = match self.latency {
            None => CapturedAt::Exposure { at: exposed, uncertainty: Micros(0), by: TimedBy::Shown },
            Some(latency) => CapturedAt::Arrival { at: frame.arrived, latency, by: TimedBy::Setting },
        };
        let known = match self.latency {
            None => [exposed; 2],
            Some(latency) => [frame.arrived.minus(latency), frame.arrived],
        };
        let print = self.compares_images.then_some(Fingerprint(image));
        let ticket = self.step(Input::Frame { captured_at, shows: None, print });
        let taken = ticket.as_ref().map(|t| self.before + t.part().id.0 - 1);
        self.ledger.offered(Shot { exposed, known, image, shows_part }, now, taken);
        let Some(ticket) = ticket else { return };
        let takes = self.script.inference.draw(&mut self.belt.random).max(Micros(1));
        let fails = self.strikes(Fault::Engine);
        let watchdog = self.settings.watchdog.micros();
        let hangs = takes > watchdog;
        let takes = takes.min(watchdog);
        self.outcome.busy.0 += takes.0;
        self.working = Some(Working { frame, ticket, since: now, until: now.plus(takes), fails, hangs });
    }

    pub(super) fn answer(&mut self, now: Instant) {
        let Some(Working { frame, ticket, since, fails, .. }) = self.working.take_if(|w| !w.hangs) else {
            // No beat came in time: the run ends, and the model still has its frame.
            self.outcome.hung += 1;
            self.ends = true;
            return;
        };
        let stamp = ticket.captured_at();
        let exposed = frame.exposed;
        let part = ticket.part();
        let used = self.models.at(ticket.model());
        let own = self.ledger.at_work();
        if let Some((part, _)) = own {
            self.ledger.judged_by(part, used, now);
        }
        self.camera.1 = now;
        if fails {
            self.count(Fault::Engine);
            self.ledger.answered(stamp, now, Answer::Failed);
            self.step_alone(Input::NotClassified { ticket, reason: Reason::Engine });
        } else {
            // What the frame's part must be judged by, and what the line judges it by.
            let used = used.unwrap_or(u64::MAX);
            let (scores, beyond) = self.scores(&frame, own.map_or(used, |(_, model)| model));
            let (given, given_beyond) = self.scores(&frame, used);
            let given: Vec<Score> = given.iter().map(|s| Score(*s)).collect();
            self.ledger.answered(stamp, now, Answer::Scores { scores, beyond });
            self.step_alone(Input::Scores { ticket, scores: &given, beyond: given_beyond });
        }
        self.to_verdict.add(now.since(part.trigger.at).0);
        if let Some(row) = self.row(part.id.0) {
            row.exposed = exposed.since(part.trigger.at);
            row.taken = since.since(part.trigger.at);
        }
    }
}
