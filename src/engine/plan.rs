//! The plan: packed weights, one arena of activations, and steps that run in order. Names are
//! resolved at load, and nothing is allocated during inference, except in [`super::island`].

use super::activations::{self, Activation};
use super::island::{real, store};
use super::lowered::{Lowered, NodeReport, Output, Step, Tensor, TensorId};
use super::meter::Meter;
use super::operation::{MAX_THREADS, Operation, Scratch};
use super::{EngineError, EngineSpec};
use crate::distance::{Distance, Spread, Stage};
use crate::kernels::pool::Pool;
use crate::kernels::{Kernels, elementwise};
use crate::quant::{logit_q16, quantise};
use std::ops::Range;
use std::sync::Arc;

/// One layer of a plan, as [`Engine::layers`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// The kernel that runs it.
    pub kernel: String,
    /// Multiply-adds of one run.
    pub macs: u64,
    /// Whether scalar loops run it, several times slower than this CPU's kernels, because its
    /// weights do not fit int8.
    pub scalar: bool,
    /// Whether tract runs it in f32.
    pub island: bool,
}

/// A loaded model: weights and the memory that one inference needs.
#[derive(Clone, Debug)]
pub struct Engine {
    spec: EngineSpec,
    kernels: Kernels,
    steps: Vec<Step>,
    output: Output,
    places: Vec<Range<usize>>,
    input: TensorId,
    /// Of an input in f32, the value of each code of each channel.
    tables: Vec<[f32; 256]>,
    arena: Vec<i8>,
    scratch: Vec<i16>,
    accumulators: Vec<i32>,
    /// Results of the island that ran last.
    results: Vec<f32>,
    reports: Vec<NodeReport>,
    pool: Option<Arc<Pool>>,
    activations: Vec<Activation>,
    meter: Option<Meter>,
}

impl Engine {
    /// Places every activation in the arena and allocates all memory that inference needs.
    pub(super) fn build(kernels: Kernels, lowered: Lowered) -> Result<Self, EngineError> {
        Self::build_by(kernels, lowered, places)
    }

    /// As [`Self::build`], but gives every activation a place of its own, so that all can be read
    /// after a run.
    pub(super) fn build_apart(kernels: Kernels, lowered: Lowered) -> Result<Self, EngineError> {
        Self::build_by(kernels, lowered, |tensors, _, _, _| {
            let mut end = 0;
            let place = |t: &Tensor| {
                let start = end;
                end = start + t.len.next_multiple_of(64);
                start..start + t.len
            };
            tensors.iter().map(place).collect()
        })
    }

    fn build_by(
        kernels: Kernels,
        lowered: Lowered,
        places: impl Fn(&[Tensor], &[Step], TensorId, TensorId) -> Vec<Range<usize>>,
    ) -> Result<Self, EngineError> {
        let tensors = &lowered.tensors;
        let (logits, last) = match &lowered.output {
            Output::Quantised(id, _) | Output::Table(id, _) => (tensors[id.0].len, *id),
            Output::Dense(id, d, _) => (d.outputs(), *id),
            Output::Reals(id, order) => (order.len(), *id),
        };
        let places = places(tensors, &lowered.steps, lowered.input, last);
        let arena = places.iter().map(|p| p.end).max().unwrap_or(0);
        if arena > 1 << 28 {
            return Err(EngineError::Limit(format!("activations of {arena} bytes")));
        }
        let mut needed = match &lowered.output {
            Output::Dense(_, d, _) => (d.scratch_len(kernels), logits),
            Output::Quantised(..) | Output::Table(..) | Output::Reals(..) => (0, logits),
        };
        for step in &lowered.steps {
            let (values, accumulators) = step.operation.scratch_len(kernels);
            needed = (needed.0.max(values), needed.1.max(accumulators));
        }
        let quant = tensors[lowered.input.0].quant;
        let activations = activations::of(&lowered, last);
        let spec = EngineSpec {
            input: lowered.image,
            channels_last: lowered.channels_last,
            scale: quant.scale,
            zero_point: quant.zero_point,
            logits,
            real_input: lowered.real_input,
            islands: lowered.steps.iter().filter(|s| matches!(s.operation, Operation::Island(_))).count(),
            absorbed: lowered.absorbed,
            output_step: if let Output::Quantised(_, q) = &lowered.output { Some(q.scale) } else { None },
        };
        let value = |code: usize| (code as u8 as i8 as f32 - quant.zero_point as f32) * quant.scale;
        let channels = if lowered.real_input { lowered.image[2] } else { 0 };
        let tables = vec![std::array::from_fn(value); channels];
        Ok(Self {
            spec,
            tables,
            kernels,
            steps: lowered.steps,
            output: lowered.output,
            places,
            input: lowered.input,
            arena: vec![0; arena],
            scratch: vec![0; needed.0],
            accumulators: vec![0; needed.1],
            results: Vec::new(),
            reports: lowered.reports,
            pool: None,
            activations,
            meter: None,
        })
    }

    /// The same engine on `threads` threads, 1 to [`MAX_THREADS`]: the caller's and waiting
    /// workers. The logits do not depend on their number. Fails if there are too many, or if the
    /// system cannot start them.
    pub fn with_threads(mut self, threads: usize) -> Result<Self, EngineError> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(EngineError::Limit(format!("{threads} threads, expected 1 to {MAX_THREADS}")));
        }
        let one = self.scratch.len() / self.threads();
        let pool = || Pool::new(threads).map_err(|e| EngineError::Limit(format!("{threads} threads: {e}")));
        self.pool = if threads > 1 { Some(Arc::new(pool()?)) } else { None };
        self.scratch = vec![0; one * threads];
        Ok(self)
    }

    /// Threads that compute a layer.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.threads())
    }

    /// What the model takes and gives.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// The kernels that run it.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// How each node of the graph is run.
    pub fn nodes(&self) -> &[NodeReport] {
        &self.reports
    }

    /// The plan's layers in the order in which they run. The last is the one that computes the
    /// logits, if they come from a GEMM.
    pub fn layers(&self) -> Vec<LayerReport> {
        let step = |s: &Step| LayerReport {
            kernel: s.operation.describe(),
            macs: s.operation.macs(),
            scalar: s.operation.is_scalar(self.kernels),
            island: matches!(s.operation, Operation::Island(_)),
        };
        let last = match &self.output {
            Output::Dense(_, d, _) => {
                Some(LayerReport { kernel: d.describe(), macs: d.macs(), scalar: d.is_scalar(self.kernels), island: false })
            }
            Output::Quantised(..) | Output::Table(..) | Output::Reals(..) => None,
        };
        self.steps.iter().map(step).chain(last).collect()
    }

    /// The activations that could be looked at, in the order in which they are made.
    pub fn activations(&self) -> &[Activation] {
        &self.activations
    }

    /// Multiply-adds of one inference.
    pub fn macs(&self) -> u64 {
        let last = if let Output::Dense(_, d, _) = &self.output { d.macs() } else { 0 };
        self.steps.iter().map(|s| s.operation.macs()).sum::<u64>() + last
    }

    /// Bytes of activations held at once.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of activations that one inference writes.
    pub fn bytes_written(&self) -> usize {
        self.steps.iter().map(|s| self.places[s.dst.0].len()).sum()
    }

    /// Bytes of packed weights and of what their epilogues need (biases and scales).
    pub fn weight_bytes(&self) -> usize {
        let last = if let Output::Dense(_, d, steps) = &self.output { d.bytes() + 4 * steps.len() } else { 0 };
        self.steps.iter().map(|s| s.operation.bytes()).sum::<usize>() + last
    }

    /// From now on each inference takes the features of these stages.
    pub fn look_at(&mut self, stages: &[Stage<'_>]) -> Result<(), EngineError> {
        self.meter = Some(Meter::new(&self.activations, stages.iter().copied())?);
        Ok(())
    }

    /// From now on each inference takes the features of the spread's stages and measures the
    /// distance.
    pub fn measure_by(&mut self, spread: Spread<Vec<u8>>) -> Result<(), EngineError> {
        self.meter = Some(Meter::measuring(&self.activations, spread)?);
        Ok(())
    }

    /// The features of the last inference, stage by stage as [`crate::distance::features`] gives
    /// them; empty if no stage is looked at.
    pub fn features(&self) -> &[i32] {
        self.meter.as_ref().map_or(&[], Meter::features)
    }

    /// The spread of the training images, if the bundle has one.
    pub fn spread(&self) -> Option<&Spread<Vec<u8>>> {
        self.meter.as_ref()?.spread()
    }

    /// The distance of the last inference's image; `None` if there is nothing to measure it by.
    pub fn distance(&self) -> Option<Distance> {
        self.meter.as_ref()?.distance()
    }

    /// Sets the real value of each code, per channel, of an input in f32; does nothing if the input
    /// is int8.
    pub(super) fn read_input_as(&mut self, value: impl Fn(usize, i8) -> f32) {
        for (channel, table) in self.tables.iter_mut().enumerate() {
            *table = std::array::from_fn(|code| value(channel, code as u8 as i8));
        }
    }

    /// What an activation holds after a run, if it has a place of its own.
    pub(super) fn values(&self, id: TensorId) -> &[i8] {
        &self.arena[self.places[id.0].clone()]
    }

    /// The graph's input in the last run as reals in the file's order; an int8 input is
    /// dequantised.
    pub(super) fn reals(&self) -> Vec<f32> {
        let ([h, w, c], values) = (self.spec.input, self.values(self.input));
        let value = |i: usize| match self.spec.real_input {
            true => real(values, i),
            false => {
                let at = if self.spec.channels_last { i } else { i % (h * w) * c + i / (h * w) };
                (values[at] as f32 - self.spec.zero_point as f32) * self.spec.scale
            }
        };
        (0..h * w * c).map(value).collect()
    }

    /// Runs one inference. Allocates nothing where [`EngineSpec::islands`] is 0.
    ///
    /// `input`: NHWC int8, as [`EngineSpec::input`]. `logits`: Q16.16, [`EngineSpec::logits`] of
    /// them. Fails if lengths differ, if an island fails or gives NaN, or if a logit does not fit
    /// Q16.16: no logit is saturated.
    pub fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        self.infer_watched(input, logits, |_| ())
    }

    /// As [`Engine::infer`]; `after` is called when each of [`Engine::layers`] has run, with its
    /// index.
    pub fn infer_watched(&mut self, input: &[i8], logits: &mut [i32], after: impl FnMut(usize)) -> Result<(), EngineError> {
        let [h, w, c] = self.spec.input;
        if input.len() != h * w * c {
            return Err(EngineError::Length { what: "input", found: input.len(), expected: h * w * c });
        }
        let place = self.places[self.input.0].clone();
        match self.spec.real_input {
            false => self.arena[place].copy_from_slice(input),
            true => {
                let (tables, last) = (&self.tables, self.spec.channels_last);
                let value = |i: usize| {
                    let at = if last { i } else { i % (h * w) * c + i / (h * w) };
                    tables[at % c][input[at] as u8 as usize]
                };
                store((0..h * w * c).map(value), &mut self.arena[place]);
            }
        }
        self.run(logits, after)
    }

    /// As [`Engine::infer_watched`], for an input in f32 in the file's own order; an int8 input is
    /// quantised.
    pub fn infer_reals(&mut self, input: &[f32], logits: &mut [i32], after: impl FnMut(usize)) -> Result<(), EngineError> {
        let [h, w, c] = self.spec.input;
        if input.len() != h * w * c {
            return Err(EngineError::Length { what: "input", found: input.len(), expected: h * w * c });
        }
        let place = self.places[self.input.0].clone();
        let EngineSpec { real_input, channels_last, scale, zero_point, .. } = self.spec;
        if real_input {
            store(input.iter().copied(), &mut self.arena[place]);
        } else {
            for (i, q) in self.arena[place].iter_mut().enumerate() {
                let at = if channels_last { i } else { i % c * h * w + i / c };
                *q = quantise(input[at], scale, zero_point);
            }
        }
        self.run(logits, after)
    }

    /// Runs all steps on the input that lies in the arena.
    fn run(&mut self, logits: &mut [i32], mut after: impl FnMut(usize)) -> Result<(), EngineError> {
        if logits.len() != self.spec.logits {
            return Err(EngineError::Length { what: "logits", found: logits.len(), expected: self.spec.logits });
        }
        let mut scratch = Scratch { values: &mut self.scratch, accumulators: &mut self.accumulators };
        for (index, step) in self.steps.iter().enumerate() {
            let dst = self.places[step.dst.0].clone();
            let place = |i: usize| step.sources.get(i).map(|id| self.places[id.0].clone());
            if let Operation::Island(island) = &step.operation {
                self.results.clear();
                let (arena, results) = (&self.arena, &mut self.results);
                island
                    .run(|i| place(i).map_or(&[][..], |range| &arena[range]), |values| results.extend_from_slice(values))
                    .map_err(|why| EngineError::Island(format!("{}: {why}", island.describe())))?;
                // An infinite one is defined: QuantizeLinear makes the last code of it, and a logit
                // is none.
                if let Some(index) = results.iter().position(|x| x.is_nan()) {
                    return Err(EngineError::NoNumber { island: island.describe(), index });
                }
                store(results.iter().copied(), &mut self.arena[dst]);
                after(index);
                continue;
            }
            // The arena's plan keeps a step's inputs apart from its output; two inputs may be one
            // tensor.
            const APART: &str = "places of one step are disjoint";
            if let Operation::Concat(parts) = &step.operation {
                let (all, mut at) = (parts.iter().map(|(channels, _)| channels).sum(), 0);
                for (i, (channels, table)) in parts.iter().enumerate() {
                    let part = place(i).expect("a concatenation has a source for each part");
                    let [part, out] = self.arena.get_disjoint_mut([part, dst.clone()]).expect(APART);
                    elementwise::place_channels(part, *channels, table, all, at, out);
                    at += channels;
                }
                look(&mut self.meter, index, &self.arena[dst]);
                after(index);
                continue;
            }
            let a = place(0).expect("every operation has an input");
            let b = place(1).filter(|b| *b != a).unwrap_or(0..0);
            let [a, b, out] = self.arena.get_disjoint_mut([a, b, dst]).expect(APART);
            let b = if b.is_empty() { &*a } else { &*b };
            let shared = match (&self.pool, &step.operation) {
                (Some(pool), Operation::Conv(conv)) => conv.run_by(pool, self.kernels, a, out, scratch.values),
                _ => false,
            };
            if !shared {
                step.operation.run(self.kernels, a, b, out, &mut scratch);
            }
            look(&mut self.meter, index, out);
            after(index);
        }
        if let Some(meter) = &mut self.meter {
            meter.measure();
        }
        match &self.output {
            Output::Quantised(id, quant) => {
                let values = &self.arena[self.places[id.0].clone()];
                for (i, (logit, &q)) in logits.iter_mut().zip(values).enumerate() {
                    *logit = logit_of(i, q as i32 - quant.zero_point as i32, quant.scale)?;
                }
            }
            Output::Table(id, table) => {
                let values = &self.arena[self.places[id.0].clone()];
                for (i, (logit, &q)) in logits.iter_mut().zip(values).enumerate() {
                    *logit = logit_of(i, 1, table[q as u8 as usize])?;
                }
            }
            Output::Reals(id, order) => {
                let values = &self.arena[self.places[id.0].clone()];
                for (i, (logit, &at)) in logits.iter_mut().zip(order).enumerate() {
                    *logit = logit_of(i, 1, real(values, at as usize))?;
                }
            }
            Output::Dense(id, dense, scales) => {
                let accumulators = &mut self.accumulators[..logits.len()];
                dense.run(self.kernels, &self.arena[self.places[id.0].clone()], accumulators, &mut self.scratch);
                for (i, ((logit, acc), scale)) in logits.iter_mut().zip(accumulators).zip(scales).enumerate() {
                    *logit = logit_of(i, *acc, *scale)?;
                }
                after(self.steps.len());
            }
        }
        Ok(())
    }
}

/// Logit `index` in Q16.16, or an error that says why there is none.
fn logit_of(index: usize, acc: i32, scale: f32) -> Result<i32, EngineError> {
    logit_q16(acc, scale).ok_or(EngineError::Logit { index, value: acc as f64 * scale as f64 })
}

/// Shows what layer `index` gave to the meter, if there is one.
fn look(meter: &mut Option<Meter>, index: usize, activation: &[i8]) {
    if let Some(meter) = meter {
        meter.look(index, activation);
    }
}

/// Places every activation in one arena so that those needed at the same time do not overlap: first
/// fit, in order of making.
fn places(tensors: &[Tensor], steps: &[Step], input: TensorId, last: TensorId) -> Vec<Range<usize>> {
    let mut last_use = vec![0; tensors.len()];
    for (at, step) in steps.iter().enumerate() {
        step.sources.iter().for_each(|id| last_use[id.0] = at);
    }
    last_use[last.0] = steps.len();
    let mut places: Vec<Range<usize>> = vec![0..0; tensors.len()];
    let mut live = vec![input];
    places[input.0] = 0..tensors[input.0].len;
    for (at, step) in steps.iter().enumerate() {
        live.retain(|id| last_use[id.0] >= at);
        let len = tensors[step.dst.0].len;
        let mut taken: Vec<Range<usize>> = live.iter().map(|id| places[id.0].clone()).collect();
        taken.sort_by_key(|r| r.start);
        let mut start = 0;
        for r in taken {
            if r.start >= start + len {
                break;
            }
            start = start.max(r.end.next_multiple_of(64));
        }
        places[step.dst.0] = start..start + len;
        live.push(step.dst);
    }
    places
}
