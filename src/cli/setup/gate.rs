//! The gate's output: asked for, pulsed, and its way from the trigger measured.

use super::ask::{Person, milliseconds};
use super::watch::Watch;
use super::{Taken, is_low, name_of, pin};
use crate::cli::Refused;
use crate::line::MAX_PARTS;
use crate::outputs::{self, Backend, Polarity, State};
use crate::setup::written::{Output, Pin};
use crate::supervisor::SystemClock;
use crate::time::{Clock, Instant, Micros};
use std::cmp::Ordering;
use std::time::Duration;

/// Longest way from the trigger to the gate.
const LONGEST_MS: u64 = 600_000;

/// The gate's output; at rest but for the length of a pulse.
pub(super) struct Gate {
    pub(super) output: Output,
    pub(super) width_ms: u64,
    line: Line,
}

/// Its line; `None` where it is simulated. Goes to rest when it is dropped.
struct Line(Option<Box<dyn outputs::Output>>);

impl Line {
    fn set(&mut self, state: State) -> Result<(), Refused> {
        self.0.as_mut().map_or(Ok(()), |line| line.apply(state)).map_err(|e| e.to_string().into())
    }

    /// Active for so long, or until a signal.
    fn pulse(&mut self, person: &Person, width_ms: u64) -> Result<(), Refused> {
        self.set(State::Active)?;
        let waited = wait(person, SystemClock.now().plus(Micros(width_ms * 1000)));
        self.set(State::Inactive)?;
        waited
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Err(Refused(why)) = self.set(State::Inactive) {
            crate::terminal::tell(&format!("tagpin: the gate may be active still: {}", why.join("; ")), 8);
        }
    }
}

/// Asks for the output and pulses it until the person has seen it move. `taken`: pins of others.
pub(super) fn asked(person: &mut Person, taken: &Taken) -> Result<Gate, Refused> {
    let name = person.ask("Its name", Some("reject_gate"), name_of)?;
    loop {
        let pin = pin(person, "Gate", false, taken)?;
        let active_low = if pin.is_some() { is_low(person)? } else { false };
        let width_ms = person.milliseconds("Length of its pulse, ms", 100, 10_000)?;
        let output = Output { name: name.clone(), pin, active_low };
        let Some(Pin { chip, line }) = output.pin.clone() else {
            person.tell("Nothing is wired: the output is simulated.");
            return Ok(Gate { output, width_ms, line: Line(None) });
        };
        let backend = Backend::Gpiochip { chip, line };
        let polarity = if active_low { Polarity::ActiveLow } else { Polarity::ActiveHigh };
        let mut line = match outputs::open(&name, &backend, polarity, State::Inactive) {
            Ok(line) => Line(Some(line)),
            Err(e) => {
                person.tell(&e.to_string());
                continue;
            }
        };
        loop {
            person.ask("Mind your hands; Enter pulses it once", Some("pulse"), |_| Ok(()))?;
            line.pulse(person, width_ms)?;
            match person.choose("Did it move", &[("yes", Some(true)), ("no", Some(false)), ("again", None)])? {
                Some(true) => return Ok(Gate { output, width_ms, line }),
                Some(false) => break,
                None => {}
            }
        }
    }
}

impl Gate {
    /// From the trigger to the gate, in milliseconds: by hand first, then by pulses that hit or
    /// miss. `least`: before that no verdict is there.
    pub(super) fn measured(&mut self, person: &mut Person, watch: &mut Watch, least: u64) -> Result<u64, Refused> {
        println!();
        person.tell(
            "The way from the trigger to the gate. Let a part pass and press Enter when it is at the gate; or type milliseconds.",
        );
        let mut delay = loop {
            let typed = person.ask("Enter to measure, or ms", Some("measure"), |text| match text {
                "measure" => Ok(None),
                _ => milliseconds(text, LONGEST_MS).map(Some),
            })?;
            let delay = match typed {
                Some(delay) => delay,
                None => by_hand(person, watch)?,
            };
            // Of parts as near as those that were watched.
            let on_their_way = watch.nearest_parts().map_or(0, |nearest| delay * 1000 / nearest.0.max(1)) as usize;
            if delay <= least {
                person.tell(&format!(
                    "{delay} ms is before the verdict, which may take until {least} ms; the gate must stand farther on."
                ));
            } else if on_their_way >= MAX_PARTS {
                person.tell(&format!(
                    "{delay} ms after its trigger {on_their_way} more parts would be on their way, and a line follows \
                     {MAX_PARTS}; the gate must stand nearer."
                ));
            } else {
                break delay;
            }
        };
        if self.line.0.is_none() {
            return Ok(delay);
        }
        let step = (self.width_ms / 2).max(1);
        loop {
            println!("The gate will pulse {delay} ms after the next trigger.");
            let due = watch.triggered(person)?.plus(Micros(delay * 1000));
            wait(person, due)?;
            self.line.pulse(person, self.width_ms)?;
            let came = [("right", Ordering::Equal), ("early", Ordering::Less), ("late", Ordering::Greater)];
            match person.choose("Was the pulse", &came)? {
                Ordering::Equal => return Ok(delay),
                Ordering::Less => delay = (delay + step).min(LONGEST_MS),
                Ordering::Greater => match earlier(delay, step, least) {
                    Some(earlier) => delay = earlier,
                    None => {
                        let why = format!("Up to {least} ms there may be no verdict; the gate must stand farther on.");
                        person.tell(&why);
                    }
                },
            }
        }
    }

    /// A pulse that would reach the next part is asked for anew, once. `nearest`: between parts that
    /// were watched.
    pub(super) fn fitted(&mut self, person: &mut Person, nearest: Micros) -> Result<(), Refused> {
        let most = (nearest.0 / 2000).max(1);
        if self.width_ms <= most {
            return Ok(());
        }
        person.tell(&format!(
            "Parts came as near as {} ms. A pulse of {} ms needs twice its length between two, since it may begin late: with it \
             parts as near get the late action.",
            nearest.0 / 1000,
            self.width_ms
        ));
        self.width_ms = person.milliseconds("Length of its pulse, ms", most, 10_000)?;
        Ok(())
    }

    /// The gate at rest, its line given back.
    pub(super) fn at_rest(mut self) -> Result<Self, Refused> {
        self.line.set(State::Inactive)?;
        self.line = Line(None);
        Ok(self)
    }
}

/// A moment before `delay`, by `step` where that is behind `least`, else half of the way there;
/// `None` where there is none.
fn earlier(delay: u64, step: u64, least: u64) -> Option<u64> {
    let way = delay.checked_sub(least + 1).filter(|way| *way > 0)?;
    Some(delay - if step <= way { step } else { way.div_ceil(2) })
}

fn by_hand(person: &mut Person, watch: &mut Watch) -> Result<u64, Refused> {
    println!("Waiting for the trigger; then Enter at the gate");
    let at = watch.triggered(person)?;
    println!("It has passed the trigger");
    person.forget()?;
    loop {
        std::thread::sleep(Duration::from_millis(5));
        if person.entered()?.is_some() {
            return Ok(SystemClock.now().since(at).0 / 1000);
        }
    }
}

/// Waits for a moment.
fn wait(person: &Person, due: Instant) -> Result<(), Refused> {
    while SystemClock.now() < due {
        person.stopped()?;
        let left = due.since(SystemClock.now());
        std::thread::sleep(left.duration().min(Duration::from_millis(50)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a pulse of 200 ms, 455 ms to the gate and a verdict by 380 ms nothing earlier than 455
    /// could be reached, and the gate "must stand farther on".
    #[test]
    fn a_late_pulse_can_be_moved_to_every_moment_behind_the_verdict_and_to_none_before() {
        assert_eq!(earlier(700, 100, 380), Some(600), "a whole step where there is room");
        let mut tried = vec![455];
        while let Some(next) = earlier(tried[tried.len() - 1], 100, 380) {
            tried.push(next);
        }
        assert_eq!(tried, [455, 418, 399, 390, 385, 383, 382, 381]);
        assert_eq!((earlier(381, 100, 380), earlier(380, 1, 380), earlier(0, 1, 380)), (None, None, None));
    }
}
