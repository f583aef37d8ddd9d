//! Output lines that a verdict switches: simulated, or GPIO by character device or registers.
//!
//! A line is [`State::Active`] or [`State::Inactive`]; high and low exist only inside a backend.

mod gpiochip;
mod rppal;
mod simulated;

/// The state of a line as the rest of the program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Doing what the line is for.
    Active,
    /// Not doing it.
    Inactive,
}

impl State {
    /// The name used in settings, events and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// Which voltage stands for active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High is active.
    ActiveHigh,
    /// Low is active.
    ActiveLow,
}

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Simulated: its edges are only recorded.
    Simulated,
    /// A GPIO character device, by path or label, and a line, by offset or name.
    Gpiochip {
        /// `/dev/gpiochipN` or the chip's label.
        chip: String,
        /// Offset or name.
        line: String,
    },
    /// A Raspberry Pi's GPIO registers.
    Rppal {
        /// BCM number.
        pin: u8,
    },
}

impl Backend {
    /// The name used in settings and events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Gpiochip { .. } => "gpiochip",
            Self::Rppal { .. } => "rppal",
        }
    }

    /// Whether it is a pin, which moves something.
    pub const fn is_pin(&self) -> bool {
        matches!(self, Self::Gpiochip { .. } | Self::Rppal { .. })
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Simulated => f.write_str("simulated"),
            Self::Gpiochip { chip, line } => write!(f, "gpiochip {chip} line {line}"),
            Self::Rppal { pin } => write!(f, "rppal pin {pin}"),
        }
    }
}

/// Why a line cannot be requested or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputError {
    /// The output's name in device.toml.
    pub output: String,
    /// What was found, what was expected, what to do.
    pub why: String,
}

impl std::fmt::Display for OutputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "output \"{}\": {}", self.output, self.why)
    }
}

impl std::error::Error for OutputError {}

/// Why a line could not be written. Creating and showing it allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The kernel refused.
    System {
        /// The line's offset on its chip.
        line: u32,
        /// The system's error number.
        code: i32,
    },
    /// A drill.
    Drill,
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::System { line, code } = self else { return f.write_str("cannot be written: a drill") };
        let mend = match code {
            // ENXIO, ENODEV
            6 | 19 => "; its chip is gone: bring its driver or its bus back",
            // EIO, ETIMEDOUT, EREMOTEIO
            5 | 110 | 121 => "; its chip does not answer: look at its bus and supply",
            _ => "",
        };
        write!(f, "line {line} cannot be set: error {code} of the system{mend}")
    }
}

/// One line.
pub trait Output: Send {
    /// Brings the line to `state`; on return it is there. Allocates nothing.
    fn apply(&mut self, state: State) -> Result<(), WriteError>;

    /// A second handle to the same line, for a thread that makes it safe while a write to another
    /// line hangs.
    fn second(&self) -> Box<dyn Output>;
}

/// Requests the line `name` at `backend` and brings it to `first` without a glitch.
pub fn open(name: &str, backend: &Backend, polarity: Polarity, first: State) -> Result<Box<dyn Output>, OutputError> {
    let error = |why: String| OutputError { output: name.into(), why };
    match backend {
        Backend::Simulated => Ok(Box::new(simulated::Simulated::open())),
        Backend::Gpiochip { chip, line } => {
            gpiochip::Gpiochip::open(chip, line, polarity, first).map(|o| Box::new(o) as _).map_err(error)
        }
        Backend::Rppal { pin } => rppal::Rppal::open(*pin, polarity, first).map(|o| Box::new(o) as _).map_err(error),
    }
}

/// Checks whether a line could be requested, without requesting it: `check` asks while another
/// process may hold it.
pub fn probe(name: &str, backend: &Backend) -> Result<String, OutputError> {
    let error = |why: String| OutputError { output: name.into(), why };
    match backend {
        Backend::Simulated => Ok("simulated".into()),
        Backend::Gpiochip { chip, line } => crate::gpio::probe(chip, line).map_err(error),
        Backend::Rppal { pin } => rppal::probe(*pin).map_err(error),
    }
}
