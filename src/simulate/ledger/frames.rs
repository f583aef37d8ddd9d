//! Which part each frame shows, whether that part needs it, and when a part has its verdict or gets
//! no more frames.

use super::{Answer, Ledger, MOST_IN_FLIGHT, Noted, Passing, Shot};
use crate::simulate::naive::Seen;
use crate::simulate::site::Way;
use crate::time::Instant;

impl Ledger {
    /// The belt's part before the camera at `exposed`, as far as it has been told.
    pub(in crate::simulate) fn before_camera(&self, exposed: Instant) -> Option<usize> {
        let exposed = exposed.as_micros();
        let came = |p: &Passing| match self.site.to_camera {
            Way::Us(us) => Some(p.trigger + us),
            Way::Counts(counts) => {
                let at = self.heard.partition_point(|(position, ..)| *position < p.position + counts);
                self.heard.get(at).map(|(_, at, _)| *at)
            }
        };
        (self.run_from..self.parts.len()).rev().find(|i| came(&self.parts[*i]).is_some_and(|at| at <= exposed))
    }

    /// When a part's deadline is over; `None` while the belt has not told so.
    pub(in crate::simulate) fn deadline(&self, p: &Passing) -> Option<u64> {
        self.known(p, self.site.deadline)
    }

    /// Whether a part needs a frame that comes up at `now`; `None` where both are right.
    pub(in crate::simulate) fn needs(&self, part: usize, now: u64) -> Option<bool> {
        let p = &self.parts[part];
        let ended = p.touching || p.failed || p.passed.is_some() || p.taken.len() >= self.site.frames;
        match self.deadline(p).map(|deadline| now.cmp(&deadline)) {
            _ if ended => Some(false),
            None | Some(std::cmp::Ordering::Less) => Some(true),
            Some(std::cmp::Ordering::Equal) => None,
            Some(std::cmp::Ordering::Greater) => Some(false),
        }
    }

    /// A frame came up at `now`, and the line took it for its part `taken`, counted from 0, or for
    /// none. One that may show either of two parts, as far as is known, is for neither.
    pub(in crate::simulate) fn offered(&mut self, shot: Shot, now: Instant, taken: Option<u64>) {
        let Shot { exposed, known, image, shows_part } = shot;
        self.end_overdue(now.as_micros());
        if !self.camera_works {
            self.note(now, Noted::Camera(true));
        }
        let shown = self.before_camera(exposed);
        let [first, last] = known.map(|at| self.before_camera(at));
        let is_sure = first == shown && last == shown;
        let mut needs = shown.filter(|_| is_sure).map_or(Some(false), |part| self.needs(part, now.as_micros()));
        if let Some(part) = shown.filter(|_| needs == Some(true))
            && self.is_frozen(part, image, now.as_micros())
        {
            needs = Some(false);
        }
        let before = self.verdict;
        match (taken, shown) {
            (Some(t), Some(s)) if t != s as u64 => self.verdict.swapped += 1,
            (Some(_), None) => self.verdict.swapped += 1,
            (Some(_), Some(_)) if needs == Some(false) => self.verdict.doubled += 1,
            (None, Some(_)) if needs == Some(true) => self.verdict.lost += 1,
            _ => {}
        }
        if self.verdict != before && self.first.is_none() {
            let (exposed, now) = (exposed.as_micros(), now.as_micros());
            let what = format!("shows part {shown:?}, needed {needs:?}, was taken for {taken:?}");
            self.first = Some(format!("the frame exposed at {exposed} us, there at {now} us: {what}"));
        }
        // Whatever older part still waits gets no more frames once this one was seen for sure.
        self.parts[..first.unwrap_or(0)].iter_mut().rev().take(MOST_IN_FLIGHT).for_each(|p| {
            p.passed.get_or_insert(now.as_micros());
        });
        if let Some(part) = shown.filter(|_| taken.is_some() && needs != Some(false)) {
            let [_, last] = known;
            self.parts[part].taken.push(last.as_micros());
            self.parts[part].empty |= !shows_part;
            self.working = Some(part);
        }
        self.end_overdue(now.as_micros());
    }

    /// Whether a frame that `part` needs shows what a frame of the last part with frames showed.
    /// Then this part gets no frames, and that one the late action if it is not at a gate yet.
    pub(in crate::simulate) fn is_frozen(&mut self, part: usize, image: u64, now: u64) -> bool {
        self.parts[part].images.push(image);
        let last = (self.run_from..part).rev().find(|p| !self.parts[*p].images.is_empty());
        let Some(last) = last.filter(|p| self.site.frozen_is_late && self.parts[*p].images.contains(&image)) else {
            return false;
        };
        self.parts[part].failed = true;
        self.parts[part].ended.get_or_insert(now);
        self.doubt(last, now);
        true
    }

    /// The model answered on the frame that it had. `stamp`: the moment that the frame states.
    pub(in crate::simulate) fn answered(&mut self, stamp: Instant, now: Instant, answer: Answer) {
        let Some(part) = self.working.take() else { return };
        let (now, stamp) = (now.as_micros(), stamp.as_micros());
        self.idle_since = now;
        let p = &mut self.parts[part];
        match answer {
            Answer::Scores { scores, beyond } if now - stamp <= self.site.stale_us => {
                p.seen.push(Seen { at_us: now, beyond, scores });
                p.answered = now;
            }
            _ => p.failed = true,
        }
        if p.failed || p.seen.len() >= self.site.frames {
            p.ended.get_or_insert(now);
        }
        self.end_overdue(now);
    }
}
