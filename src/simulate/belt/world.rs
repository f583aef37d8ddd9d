//! What passes: parts, the belt's counts, what falls behind the gate, and when the line is told of
//! each.

use super::{Kind, Simulated, Told};
use crate::line::{Moment, Travel};
use crate::simulate::fault::Fault;
use crate::simulate::ledger::Noted;
use crate::station::Input;
use crate::supervisor::actuation::Command;
use crate::time::{Instant, Micros};

impl Simulated<'_> {
    /// When the belt or a part behind the gate does something.
    pub(super) fn world(&self) -> Option<Instant> {
        let belt = self.belt.motion.next().filter(|_| self.has_encoder);
        belt.into_iter().chain(self.belt.falling.first().copied()).min()
    }

    /// Puts something on its way to the line; edges of one input are told in their order.
    pub(super) fn tell(&mut self, now: Instant, delay: u64, told: Told) {
        let at = self.belt.told.back().map_or(now, |(last, _)| *last).max(now.plus(Micros(delay)));
        self.belt.told.push_back((at, told));
    }

    /// The belt moves, parts fall.
    pub(super) fn world_moves(&mut self, now: Instant) {
        if self.has_encoder {
            self.belt.motion.change(now, &mut self.belt.random);
            while let Some(position) = self.belt.motion.reached(now) {
                self.tell(now, 0, Told::Belt(Moment { at: now, position }));
            }
        }
        while let Some(at) = self.belt.falling.first().copied().filter(|at| *at <= now) {
            self.belt.falling.remove(&at);
            self.tell(now, 0, Told::Seen(at));
        }
    }

    /// The belt's count as far as the line can have been told of it.
    pub(super) fn known_position(&self, now: Instant) -> i64 {
        if !self.has_encoder {
            return 0;
        }
        let on_its_way = self.belt.told.iter().find_map(|(_, told)| match told {
            Told::Belt(moment) => Some(moment.position - 1),
            Told::Trigger(moment) => Some(moment.position),
            Told::Seen(_) => None,
        });
        on_its_way.unwrap_or_else(|| self.belt.motion.position(now))
    }

    pub(super) fn hear(&mut self, told: Told, now: Instant) {
        match told {
            Told::Trigger(trigger) => {
                self.ledger.passes(trigger.at, trigger.position, now);
                self.step(Input::Trigger(trigger));
            }
            Told::Belt(moment) => {
                self.ledger.belt(moment.position, moment.at, now);
                self.peak = self.peak.max(moment.position);
                self.actuator.belt_moved(moment);
                self.step(Input::Belt(moment));
            }
            Told::Seen(at) => {
                self.ledger.note(now, Noted::Seen(at.as_micros()));
                self.command(Command::Confirm(at));
            }
        }
    }

    pub(super) fn part_comes(&mut self, now: Instant) {
        if self.has_encoder {
            let may = self.belt.motion.next_new(now);
            if may > now {
                self.belt.next_part = Some(may);
                return;
            }
        }
        let foreign = self.strikes(Fault::Foreign);
        if foreign {
            self.count(Fault::Foreign);
        }
        let tag = self.belt.random.range(0, self.tags as i32 - 1) as u16;
        let kind = Kind { tag, foreign, seed: self.belt.random.next() };
        let came = match self.to_camera {
            Travel::Time(span) => Ok(now.plus(span)),
            Travel::Counts(counts) => Err(self.belt.motion.position(now) + counts as i64),
        };
        if self.belt.passed.len() == 256 {
            self.belt.passed.pop_front();
        }
        self.belt.passed.push_back((came, kind));
        let delay = if self.strikes(Fault::ToldLate) {
            self.count(Fault::ToldLate);
            self.belt.random.range(1000, 70_000) as u64
        } else {
            0
        };
        let position = if self.has_encoder { self.belt.motion.position(now) } else { 0 };
        let last = self.belt.last_part.replace(now);
        if last.is_none_or(|last| now.since(last) >= self.debounce) {
            self.tell(now, delay, Told::Trigger(Moment { at: now, position }));
        }
        self.counts.iter().for_each(|counts| self.belt.motion.want(position + counts));
        self.belt.parts_left -= 1;
        self.belt.next_part = (self.belt.parts_left > 0).then(|| {
            let gap = if self.strikes(Fault::Touching) {
                self.count(Fault::Touching);
                Micros(1000)
            } else {
                self.script.spacing.draw(&mut self.belt.random)
            };
            now.plus(gap.max(Micros(1)))
        });
    }

    /// A pulse of the output that the sensor looks at throws a part out, which is seen in time, too
    /// late or never.
    pub(super) fn throw(&mut self, line: u8, active: bool, at: Instant) {
        let Some((_, within)) = self.sensor.filter(|(sensor, _)| active && *sensor == line) else { return };
        let r = &mut self.belt.random;
        let falls = match r.range(0, 7) {
            0 => within,
            _ => r.range(1, within as i32) as u64,
        };
        let falls = if self.strikes(Fault::NotThrown) {
            self.count(Fault::NotThrown);
            match self.belt.random.range(0, 2) {
                0 => within + 1,
                1 => within + self.belt.random.range(1, 100_000) as u64,
                _ => return,
            }
        } else {
            falls
        };
        let mut seen = at.plus(Micros(falls));
        while !self.belt.falling.insert(seen) {
            seen = seen.plus(Micros(1));
        }
    }
}
