//! Monotonic time as an argument: `Instant`, `Micros` and `Millis` are plain integers.
//!
//! The caller says what time it is, so that a test or a simulated line can choose it.

/// A moment in microseconds since an origin that does not change while the process runs (on Linux:
/// `CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

/// A span of time in milliseconds, as settings state it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u32);

impl Instant {
    /// The moment `us` microseconds after the origin.
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` lies in the future.
    pub const fn since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment plus `span`, held at the last representable moment.
    pub const fn plus(self, span: Micros) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// This moment less `span`, held at the origin.
    pub const fn minus(self, span: Micros) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Millis {
    /// The same span in microseconds.
    pub const fn micros(self) -> Micros {
        Micros(self.0 as u64 * 1000)
    }
}

impl Micros {
    /// The span as the standard library's duration.
    pub const fn duration(self) -> core::time::Duration {
        core::time::Duration::from_micros(self.0)
    }
}

impl From<Millis> for Micros {
    fn from(ms: Millis) -> Self {
        ms.micros()
    }
}

/// Whoever says what time it is: the system's clock in a run, a simulated one in tests and
/// simulations.
pub trait Clock: Send + Sync {
    /// This moment.
    fn now(&self) -> Instant;
    /// Returns once `at` has come; a simulated clock makes it come.
    fn wait_until(&self, at: Instant);
}
