//! Chooses the kernel set for this CPU: once at load, overridable, shown by `check` and `bench`.
//! Every choice gives the same bits.

use super::{KernelSet, for_this_cpu, generic};
use std::ops::Deref;

/// The environment variable that overrides the choice: `generic`, or the name of a set that this
/// CPU has.
pub const OVERRIDE: &str = "TAGPIN_KERNELS";

/// A set of kernels that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(&'static dyn KernelSet);

impl Deref for Kernels {
    type Target = dyn KernelSet;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Kernels {
    /// Every set that this CPU has, the best first; generic is always the last.
    pub fn available() -> Vec<Self> {
        let mut sets = for_this_cpu();
        sets.push(&generic::Generic);
        sets.into_iter().map(Self).collect()
    }

    /// The best set, or the one that [`OVERRIDE`] names.
    pub fn choose() -> Result<Self, String> {
        let sets = Self::available();
        let Ok(wanted) = std::env::var(OVERRIDE) else { return Ok(sets[0]) };
        sets.iter().copied().find(|s| s.name() == wanted).ok_or_else(|| {
            let names: Vec<&str> = sets.iter().map(|s| s.name()).collect();
            format!("{OVERRIDE}={wanted}: this CPU has {}", names.join(", "))
        })
    }
}
