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
    /// Bytes of values.
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
