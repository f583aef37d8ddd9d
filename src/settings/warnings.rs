//! What settings say that cannot have been meant: they run, but an output waits for what nothing
//! gives.

use super::{Drive, LineMode, Mode, OutputSettings, Settings, TriggerKind};
use crate::decide::{Action, Combine, Policy};
use crate::frame::TimedBy;
use crate::head::Score;
use crate::line::{MAX_PARTS, Shape, Travel};
use crate::outputs::{Backend, State};
use crate::station::Calls;
use crate::time::{Micros, Millis};
use crate::triggers::{Role, TriggerSpec};

/// What a source says of the frames that show parts.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// From one frame to the next; 0 where unknown.
    pub interval: Micros,
    /// How long a part is seen after its trigger, where the source knows it.
    pub in_view: Option<Micros>,
    /// Whether it draws its images, or reads them from files.
    pub is_drawn: bool,
    /// How it knows when a frame was exposed.
    pub timed_by: TimedBy,
}

/// Something to think over; it forbids nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// An output waits for an action that no tag has.
    NoTagGives {
        /// The output.
        output: String,
        /// What it waits for.
        action: Action,
    },
    /// An output waits for foreign parts, which the bundle cannot tell.
    NoDistance {
        /// The output.
        output: String,
    },
    /// An output is a file of edges, which is read for one release.
    EdgesInFile {
        /// The output.
        output: String,
    },
    /// Nobody states how long a part is before the camera.
    ViewNotStated {
        /// For so long a frame counts as showing it.
        way: Travel,
    },
    /// A part has left the view before enough frames of it can come.
    LeavesTooSoon {
        /// How long it is in view, until half of it has left.
        in_view: Micros,
        /// From one frame to the next.
        interval: Micros,
    },
    /// A part is waited for beyond its first gate.
    DeadlineBehindGate,
    /// A part may be given up before its frames can surely show it: as old as one may be, it may be
    /// of before the part came.
    DeadlineBeforeFrames {
        /// The part's deadline.
        deadline: Micros,
        /// Its way to the camera.
        to_camera: Micros,
        /// How old a frame may be.
        max_latency: Micros,
        /// Frames that decide it.
        frames: u64,
        /// The longest time until they are there.
        needed: Micros,
    },
    /// More parts are on their way to the last gate than can be followed.
    TooManyOnTheWay {
        /// The output whose gate is the last.
        output: String,
        /// How many there are.
        parts: u64,
    },
    /// A part is given up before it has come before the camera.
    DeadlineBeforeCamera {
        /// The part's deadline.
        deadline: Travel,
        /// Its way to the camera.
        to_camera: Travel,
    },
    /// Parts come faster than they may follow one another.
    PeriodBelowSpacing {
        /// From one part to the next.
        period: Micros,
        /// The least distance.
        min_spacing: Micros,
    },
    /// A pulse lasts until the next part is at the gate.
    PulseBeyondPeriod {
        /// The output.
        output: String,
        /// How long it lasts.
        width: Micros,
        /// From one part to the next.
        period: Micros,
    },
    /// A part's moment may be farther from the truth than a pulse may be late.
    JitterBeyondWindow {
        /// The stated jitter.
        max_jitter: Micros,
        /// The output whose window is the smallest.
        output: String,
        /// That window.
        window: Micros,
    },
    /// A part may be at the sensor behind the gate while the one before is waited for there.
    ConfirmedTogether {
        /// The longest time until a part is seen.
        within: Micros,
        /// From one part to the next, at least.
        apart: Micros,
    },
    /// An output waits for somebody to acknowledge, and nothing brings that.
    NothingAcknowledges {
        /// The output.
        output: String,
    },
    /// A ready line that says "ready" when the program has ended.
    ReadyAtRest {
        /// The output.
        output: String,
    },
    /// A key of `[decide]` that the highest scores do not use.
    NoMeaning {
        /// The key.
        key: &'static str,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTagGives { output, action: Action::Reject } => write!(
                f,
                "output {output} waits for rejects, but no tag gives one: name the defects in [decide] reject = [...], or give \
                 tags a role when the bundle is made (train --defect TAG)"
            ),
            Self::NoTagGives { output, action } => {
                let action = action.name();
                write!(f, "output {output} waits for {action}, but no tag gives it: name tags in [decide] {action} = [...]")
            }
            Self::NoDistance { output } => write!(
                f,
                "output {output} waits for foreign parts, but this bundle has no distance limit, so no part is foreign; remove \
                 \"foreign\" from its `on`, or train with tools that write one"
            ),
            Self::EdgesInFile { output } => write!(
                f,
                "output {output} has backend = \"events\", which the next release refuses: the log of [events] holds its edges; \
                 remove the output, or make it \"simulated\""
            ),
            Self::ViewNotStated { way } => {
                let way = shown(*way);
                write!(
                    f,
                    "trigger.deadline_ms is not stated, so a frame counts as showing a part until {way} after its trigger, also \
                     where the part has left the view by then: state how long after its trigger a part is still in view"
                )
            }
            Self::LeavesTooSoon { in_view, interval } => write!(
                f,
                "a part has half left the view {} ms after its trigger, and a frame comes each {} ms: parts are judged by what is \
                 left of them, or not at all; raise the frame rate, or slow the belt down",
                in_view.0 / 1000,
                interval.0 / 1000
            ),
            Self::DeadlineBehindGate => f.write_str(
                "trigger.deadline_ms lies behind the first gate, where a part without a verdict gets the late action: leave it \
                 out, or make the delay longer",
            ),
            Self::DeadlineBeforeFrames { deadline, to_camera, max_latency, frames, needed } => write!(
                f,
                "a part's deadline is {} ms, and the {} that surely show it may take until {} ms after its trigger, by \
                 to_camera_ms {}{} and the frame rate: parts may get no verdict; make deadline_ms longer{}",
                deadline.0 / 1000,
                if *frames == 1 { "frame".to_string() } else { format!("{frames} frames") },
                needed.0.div_ceil(1000),
                to_camera.0 / 1000,
                if max_latency.0 > 0 { format!(", max_latency_ms {}", max_latency.0 / 1000) } else { String::new() },
                if max_latency.0 > 0 { ", or max_latency_ms as short as it is" } else { ", frames fewer, or the frame rate higher" }
            ),
            Self::TooManyOnTheWay { output, parts } => write!(
                f,
                "{parts} parts are on their way to output {output} at once, and {MAX_PARTS} can be followed: every one too many \
                 makes the line safe and gives up all of them; let parts come slower, or the gate be nearer"
            ),
            Self::DeadlineBeforeCamera { deadline, to_camera } => write!(
                f,
                "a part is before the camera {} after its trigger, but its deadline is {}, so no frame ever counts for it: make \
                 trigger.deadline_ms or deadline_counts longer than to_camera",
                shown(*to_camera),
                shown(*deadline)
            ),
            Self::PeriodBelowSpacing { period, min_spacing } => write!(
                f,
                "trigger.period_ms is {}, less than min_spacing_ms {}, so parts are too close to each other: make the period \
                 longer, or the spacing shorter",
                period.0 / 1000,
                min_spacing.0 as f64 / 1000.0
            ),
            Self::PulseBeyondPeriod { output, width, period } => write!(
                f,
                "output {output} is active for {} ms, and trigger.period_ms is {}: a pulse meets the part behind its own; make \
                 width_ms shorter, or the period longer",
                width.0 / 1000,
                period.0 / 1000
            ),
            Self::JitterBeyondWindow { max_jitter, output, window } => write!(
                f,
                "trigger.max_jitter_ms is {}, more than the {} ms that a pulse of output {output} may be late (window_ms): a \
                 pulse may meet the part beside its own; make the jitter smaller, or trigger by gpio",
                max_jitter.0 / 1000,
                window.0 as f64 / 1000.0
            ),
            Self::ConfirmedTogether { within, apart } => write!(
                f,
                "confirm.within_ms is {}, and parts may be {} ms apart: what is seen is taken for the oldest part that is waited \
                 for, so where one is missed a later one is named; make within_ms shorter than parts are apart",
                within.0 / 1000,
                apart.0 as f64 / 1000.0
            ),
            Self::NothingAcknowledges { output } => write!(
                f,
                "output {output} is active until somebody acknowledges, and nothing here brings that: state [acknowledge], \
                 trigger by words on standard input or a socket, or let a PLC write ([modbus] write)"
            ),
            Self::ReadyAtRest { output } => write!(
                f,
                "output {output} shows ready, and its safe state is active: it says ready when the line is safe, and after the \
                 program has ended; make safe \"inactive\""
            ),
            Self::NoMeaning { key } => {
                write!(f, "decide.{key} has no effect with combine = \"best\": remove it, or choose \"consensus\"")
            }
        }
    }
}

/// A reject pulse on a real pin without anything that stops the belt when it cannot come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unguarded {
    /// The output.
    pub output: String,
    /// From the trigger to its gate.
    pub way: Travel,
}

impl std::fmt::Display for Unguarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = shown(self.way);
        write!(
            f,
            "no output shows ready, fault or heartbeat: after a fault or restart the parts on the belt pass unsorted for {way} \
             ({}); wire one of these to the belt",
            self.output
        )
    }
}

/// A pulse that may still be on when the next part is at its gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeetsNext {
    /// The output.
    pub output: String,
    /// Where the file states it.
    pub place: String,
    /// How long it is active.
    pub width: Micros,
    /// How late it may begin.
    pub window: Micros,
    /// The least distance of two parts.
    pub min_spacing: Micros,
}

impl std::fmt::Display for MeetsNext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { output, place, .. } = self;
        let ms = |span: Micros| span.0 as f64 / 1000.0;
        let [width, window, least] = [self.width, self.window, self.min_spacing].map(ms);
        write!(
            f,
            "{place}: outputs.{output}: width_ms {width} and window_ms {window} are more than trigger.min_spacing_ms {least}: \
             the pulse of one part may meet the next part at this gate; make both together at most {least}, or min_spacing_ms \
             at least {}",
            (width + window).ceil()
        )
    }
}

/// A way as its key states it.
fn shown(way: Travel) -> String {
    match way {
        Travel::Time(span) => format!("{} ms", span.0 / 1000),
        Travel::Counts(counts) => format!("{counts} encoder counts"),
    }
}

fn is_pin(output: &OutputSettings) -> bool {
    matches!(output.backend, Backend::Gpiochip { .. } | Backend::Rppal { .. })
}

impl Settings {
    /// The farthest reject pulse on a real pin that lets parts pass when the line is safe, if
    /// nothing tells the belt.
    pub fn unguarded(&self) -> Option<Unguarded> {
        let guards = |o: &OutputSettings| matches!(o.drive, Drive::Ready | Drive::Fault | Drive::Heartbeat(_));
        if self.mode == LineMode::State || self.outputs.iter().any(|o| guards(o) && is_pin(o)) {
            return None;
        }
        let rejects = |o: &&OutputSettings| match (&o.drive, o.mode) {
            (Drive::Calls(calls), Mode::Pulse(_)) => calls.has(Action::Reject) && o.safe == State::Inactive && is_pin(o),
            _ => false,
        };
        let length = |o: &&OutputSettings| match o.delay {
            Travel::Time(span) => (0, span.0),
            Travel::Counts(counts) => (1, counts as u64),
        };
        let farthest = self.outputs.iter().filter(rejects).max_by_key(length)?;
        Some(Unguarded { output: farthest.name.clone(), way: farthest.delay })
    }

    /// Pulses that may still be on when the next part is at their gate, where the site states how
    /// far parts are apart: a pulse that begins as late as it may is over that much later.
    pub fn pulses_that_meet_the_next_part(&self) -> Vec<MeetsNext> {
        let Travel::Time(min_spacing) = self.spacing.min else { return Vec::new() };
        if min_spacing == Micros(0) || self.mode == LineMode::State {
            return Vec::new();
        }
        let meets = |o: &OutputSettings| match (o.gate_line()?.shape, o.window) {
            (Shape::Pulse(width), window) if width.0 + window.0 > min_spacing.0 => {
                Some(MeetsNext { output: o.name.clone(), place: o.place.clone(), width, window, min_spacing })
            }
            _ => None,
        };
        self.outputs.iter().filter_map(meets).collect()
    }

    /// What the outputs wait for in vain, and what has no effect. `has_distance`: whether the
    /// bundle can tell foreign parts.
    pub fn warnings(&self, has_distance: bool) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for output in &self.outputs {
            if output.log.is_some() {
                warnings.push(Warning::EdgesInFile { output: output.name.clone() });
            }
            let name = || output.name.clone();
            if output.drive == Drive::Ready && output.safe == State::Active {
                warnings.push(Warning::ReadyAtRest { output: name() });
            }
            if (output.drive == Drive::Fault || output.mode == Mode::Latched) && !self.can_be_acknowledged() {
                warnings.push(Warning::NothingAcknowledges { output: name() });
            }
            let Drive::Calls(calls) = &output.drive else { continue };
            for action in calls.actions().filter(|a| !self.gives(*a, calls, has_distance)) {
                warnings.push(Warning::NoTagGives { output: name(), action });
            }
            if calls.foreign && !has_distance {
                warnings.push(Warning::NoDistance { output: name() });
            }
        }
        let gate = self.first_gate().filter(|_| self.mode != LineMode::State);
        if let (Some(gate), Travel::Time(deadline)) = (gate, self.part.deadline)
            && deadline > gate
        {
            warnings.push(Warning::DeadlineBehindGate);
        }
        let (deadline, to_camera) = (self.part.deadline, self.part.to_camera);
        let is_before = match (deadline, to_camera) {
            (Travel::Time(deadline), Travel::Time(way)) => way > Micros(0) && deadline <= way,
            (Travel::Counts(deadline), Travel::Counts(way)) => way > 0 && deadline <= way,
            _ => false,
        };
        if is_before {
            warnings.push(Warning::DeadlineBeforeCamera { deadline, to_camera });
        }
        warnings.extend(self.too_many_on_the_way(self.period()));
        if let Travel::Time(min_spacing) = self.spacing.min {
            let period = self.period().filter(|period| *period < min_spacing);
            warnings.extend(period.map(|period| Warning::PeriodBelowSpacing { period, min_spacing }));
        }
        warnings.extend(self.pulses_beyond_period());
        warnings.extend(self.jitter_beyond_window());
        warnings.extend(self.confirmed_together());
        let Policy { combine, hysteresis, dwell, .. } = self.policy;
        let unused = [("hysteresis", hysteresis != Score(0)), ("dwell_ms", dwell != Millis(0))];
        if combine == Combine::Best {
            warnings.extend(unused.iter().filter(|(_, stated)| *stated).map(|&(key, _)| Warning::NoMeaning { key }));
        }
        warnings
    }

    /// From one part to the next, where a clock opens them.
    fn period(&self) -> Option<Micros> {
        let period = |i: &TriggerSpec| if let TriggerSpec::Period(period) = i { Some(period.micros()) } else { None };
        self.inputs.iter().find_map(period)
    }

    /// Whether parts that come so far apart are too many between trigger and last gate.
    fn too_many_on_the_way(&self, apart: Option<Micros>) -> Option<Warning> {
        let way = |o: &OutputSettings| match o.delay {
            Travel::Time(way) if self.mode != LineMode::State => Some(way),
            _ => None,
        };
        let last = self.outputs.iter().max_by_key(|o| way(o))?;
        let parts = way(last)?.0.div_ceil(apart.filter(|apart| apart.0 > 0)?.0);
        (parts > MAX_PARTS as u64).then(|| Warning::TooManyOnTheWay { output: last.name.clone(), parts })
    }

    /// Outputs whose pulse for one part is not over when the next one comes.
    fn pulses_beyond_period(&self) -> Vec<Warning> {
        let Some(period) = self.period() else { return Vec::new() };
        let beyond = |o: &OutputSettings| match (&o.drive, o.mode) {
            (Drive::Calls(_), Mode::Pulse(width)) if width.micros() >= period => {
                Some(Warning::PulseBeyondPeriod { output: o.name.clone(), width: width.micros(), period })
            }
            _ => None,
        };
        self.outputs.iter().filter_map(beyond).collect()
    }

    /// Whether a sensor behind the gate may wait for two parts at once.
    fn confirmed_together(&self) -> Option<Warning> {
        let within = self.confirm?.within;
        let Travel::Time(least) = self.spacing.min else { return None };
        let stated = (least > Micros(0)).then_some(least);
        let apart = self.period().into_iter().chain(stated).max().filter(|apart| *apart <= within)?;
        Some(Warning::ConfirmedTogether { within, apart })
    }

    /// Whether anything brings an acknowledgement.
    fn can_be_acknowledged(&self) -> bool {
        let brings = |input: &TriggerSpec| match input {
            TriggerSpec::Stdin { .. } | TriggerSpec::Socket(_) => true,
            TriggerSpec::Gpio(chip) => chip.lines.iter().any(|(role, _)| *role == Role::Acknowledge),
            TriggerSpec::Period(_) | TriggerSpec::Modbus { .. } => false,
        };
        #[cfg(feature = "site")]
        let by_network = self.site.modbus.as_ref().is_some_and(|modbus| !modbus.writers.is_empty());
        #[cfg(not(feature = "site"))]
        let by_network = false;
        by_network || self.inputs.iter().any(brings)
    }

    /// The stated jitter of the trigger, where a pulse must be nearer to its part than that.
    fn jitter_beyond_window(&self) -> Option<Warning> {
        let max_jitter = self.inputs.iter().find_map(|i| i.max_jitter())?;
        let smallest = self.smallest_window().filter(|o| self.mode != LineMode::State && max_jitter > o.window)?;
        Some(Warning::JitterBeyondWindow { max_jitter, output: smallest.name.clone(), window: smallest.window })
    }

    /// What may be meant otherwise beside the source.
    pub fn warnings_of_view(&self, view: View) -> Vec<Warning> {
        let View { interval, in_view, is_drawn, .. } = view;
        if self.mode == LineMode::State {
            return Vec::new();
        }
        let mut warnings: Vec<Warning> = self.deadline_before_frames(view).into_iter().collect();
        // A trigger that is found in a frame is of a part that this frame shows.
        let may_have_left = !self.trigger.is_seen_in_frames() || self.part.frames > 1;
        if may_have_left && !self.has_deadline && in_view.is_none() && !is_drawn {
            warnings.push(Warning::ViewNotStated { way: self.part.deadline });
        }
        let each_frame = Some(interval).filter(|_| self.trigger == TriggerKind::EveryFrame);
        warnings.extend(self.too_many_on_the_way(each_frame));
        // Frames come at any moment within their interval, and half of the time in view a part is
        // whole.
        let needed = Micros(interval.0 * u64::from(self.part.frames) * 2);
        let at_barrier = in_view.filter(|span| self.trigger == TriggerKind::Barrier && *span < needed);
        warnings.extend(at_barrier.map(|in_view| Warning::LeavesTooSoon { in_view, interval }));
        warnings
    }

    /// Whether a part's deadline is over before its frames can be there, where a frame of which
    /// only the arrival is known may be as old as is stated.
    fn deadline_before_frames(&self, view: View) -> Option<Warning> {
        let max_latency = match view.timed_by {
            TimedBy::Setting => self.max_latency.filter(|_| self.needs_time())?,
            TimedBy::Arrival => return None,
            TimedBy::Shown | TimedBy::Driver | TimedBy::Metadata => Micros(0),
        };
        let (Travel::Time(deadline), Travel::Time(to_camera)) = (self.part.deadline, self.part.to_camera) else {
            return None;
        };
        let frames = u64::from(self.part.frames);
        // The first may have come just before, but for one that has found its part. Of a deadline
        // before the camera more is told.
        let waited = frames - u64::from(self.trigger.is_seen_in_frames());
        let needed = Micros(to_camera.0 + max_latency.0 + view.interval.0 * waited);
        (to_camera < deadline && deadline <= needed).then_some(Warning::DeadlineBeforeFrames {
            deadline,
            to_camera,
            max_latency,
            frames,
            needed,
        })
    }

    /// Whether an output on `action` is reached as its name says: a reject by some tag, whatever
    /// else throws parts out; the other two by a tag, a band, or what the site does with parts that
    /// no tag names.
    fn gives(&self, action: Action, calls: &Calls, has_distance: bool) -> bool {
        let by_tag = self.tags.iter().any(|t| t.action == action);
        let by_band = action == Action::Review && self.tags.iter().any(|t| t.rule.review_low < t.rule.threshold);
        let Policy { unknown, foreign, .. } = self.policy;
        let late = self.mode == LineMode::Gate { late: action };
        let otherwise = unknown == action || late || has_distance && foreign == action || calls.unknown;
        by_tag || by_band || action != Action::Reject && otherwise
    }
}
