//! A Raspberry Pi's pins through its GPIO registers, by rppal.
//!
//! A pin keeps its last level when the process dies: see the wiring in
//! src/line/README.md.

use super::{Output, Polarity, State, WriteError};
use rppal::gpio::{Gpio, Level, OutputPin};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct Rppal {
    /// Held for one store to a register, which cannot hang; the second way is taken only while the
    /// first stands elsewhere.
    pin: Arc<Mutex<OutputPin>>,
    polarity: Polarity,
}

fn level(polarity: Polarity, state: State) -> Level {
    match (polarity, state) {
        (Polarity::ActiveHigh, State::Active) | (Polarity::ActiveLow, State::Inactive) => Level::High,
        _ => Level::Low,
    }
}

fn gpio() -> Result<Gpio, String> {
    Gpio::new().map_err(|e| {
        format!(
            "no Raspberry Pi GPIO: {e}; use backend = \"gpiochip\" on other boards, and add the user to the group `gpio`"
        )
    })
}

impl Rppal {
    pub(super) fn open(pin: u8, polarity: Polarity, first: State) -> Result<Self, String> {
        let pin = gpio()?.get(pin).map_err(|e| format!("pin {pin}: {e}; free it or choose another"))?;
        let mut pin = match level(polarity, first) {
            Level::High => pin.into_output_high(),
            Level::Low => pin.into_output_low(),
        };
        // The supervisor brings lines to their safe state; letting go must not float a pin that
        // holds a gate.
        pin.set_reset_on_drop(false);
        Ok(Self { pin: Arc::new(Mutex::new(pin)), polarity })
    }
}

impl Output for Rppal {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).write(level(self.polarity, state));
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self { pin: self.pin.clone(), polarity: self.polarity })
    }
}

pub(super) fn probe(pin: u8) -> Result<String, String> {
    gpio()?.get(pin).map(|_| format!("BCM pin {pin}")).map_err(|e| format!("pin {pin}: {e}; free it or choose another"))
}
