//! How long a network takes for one image, by the device's engine on one thread.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tagpin::engine::Engine;

/// How long one image takes on the machine that measured it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The set of kernels that ran.
    pub kernels: String,
    /// Multiply-adds of an image.
    pub macs: u64,
    /// Bytes of activations.
    pub arena: usize,
    /// Middle and worst of 15, in milliseconds.
    pub median_ms: f64,
    /// The worst.
    pub worst_ms: f64,
}

impl Latency {
    /// Of an int8 graph.
    pub fn of(int8: &[u8]) -> Result<Self> {
        let mut engine = Engine::load(int8)?;
        let spec = engine.spec().clone();
        let (input, mut logits) = (vec![0; spec.input.iter().product()], vec![0; spec.logits]);
        let mut times = Vec::new();
        for _ in 0..15 {
            let begin = std::time::Instant::now();
            engine.infer(&input, &mut logits)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(Self {
            kernels: engine.kernels().name().into(),
            macs: engine.macs(),
            arena: engine.arena_bytes(),
            median_ms: times[times.len() / 2],
            worst_ms: times[times.len() - 1],
        })
    }
}

/// A board and the speed of its CPU on int8 networks, for estimates.
pub struct Board {
    /// As people write it.
    pub name: &'static str,
    /// Clock in MHz.
    mhz: f64,
    /// Multiply-adds a cycle of a small and of a large network, by the cycles in
    /// src/kernels/README.md.
    macs_per_cycle: [f64; 2],
}

impl Board {
    /// Boards with figures.
    pub const ALL: [Self; 4] = [
        Self { name: "Raspberry Pi 5", mhz: 2400.0, macs_per_cycle: [10.6, 19.0] },
        Self { name: "Raspberry Pi 4", mhz: 1800.0, macs_per_cycle: [4.3, 6.0] },
        Self { name: "Raspberry Pi 3", mhz: 1200.0, macs_per_cycle: [1.7, 2.8] },
        Self { name: "Raspberry Pi Zero 2", mhz: 1000.0, macs_per_cycle: [1.7, 2.8] },
    ];

    /// Finds a board by name, ignoring case and "Raspberry".
    pub fn named(name: &str) -> Option<&'static Self> {
        let plain = |s: &str| s.to_lowercase().replace("raspberry", "").split_whitespace().collect::<String>();
        Self::ALL.iter().find(|b| plain(name).starts_with(&plain(b.name)))
    }

    /// Milliseconds of one image, at least and at most: estimated, not measured.
    pub fn estimated_ms(&self, macs: u64) -> [f64; 2] {
        let [small, large] = self.macs_per_cycle.map(|per_cycle| macs as f64 / per_cycle / self.mhz / 1e3);
        [large, small]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lite0's 385 M multiply-adds take 20.3, 63.7 and 135 M cycles (src/kernels/README.md).
    #[test]
    fn boards_are_found_by_what_people_call_them_and_their_estimate_holds_lite0() {
        for (said, mcycles, mhz) in
            [("Raspberry Pi 4", 63.7, 1800.0), ("pi 5 8GB", 20.3, 2400.0), ("PI ZERO 2 W", 135.2, 1000.0)]
        {
            let [low, high] = Board::named(said).unwrap().estimated_ms(385_190_000);
            let known = mcycles / mhz * 1e3;
            assert!(low <= known * 1.02 && known < high, "{said}: {known} in {low}..{high}");
        }
        assert!(Board::named("Jetson").is_none());
    }
}
