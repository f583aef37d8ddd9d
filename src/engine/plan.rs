//! The plan: packed weights, one arena, steps run in order. No allocation and no dispatch on names while it runs.
//!
//! Does not know ONNX.

use super::operation::{Dense, MAX_THREADS, Operation, Scratch, Step};
use super::{Absorbed, EngineError, EngineSpec};
use crate::kernels::pool::Pool;
use crate::kernels::{Kernels, elementwise};
use crate::quant::logit_q16;
use std::ops::Range;
use std::sync::Arc;

/// Index of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TensorId(pub(super) usize);

/// Step and zero point of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quant {
    pub(super) scale: f32,
    pub(super) zero_point: i8,
}

/// A graph as steps, before anything has its place in memory.
pub(super) struct Lowered {
    pub(super) tensors: Vec<Tensor>,
    pub(super) steps: Vec<Step>,
    pub(super) input: TensorId,
    /// Rows, columns and channels of the input.
    pub(super) image: [usize; 3],
    /// Whether the file has the input's channels last.
    pub(super) channels_last: bool,
    pub(super) output: Output,
    pub(super) absorbed: Option<Absorbed>,
    pub(super) reports: Vec<NodeReport>,
}

/// An activation; an image lies as rows, columns, channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    pub(super) len: usize,
    pub(super) quant: Quant,
}

/// Where the logits come from.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// An int8 tensor: each logit is a multiple of its step.
    Quantised(TensorId, Quant),
    /// A function of an int8 tensor: the logit of each code, `values[q as u8]`.
    Table(TensorId, Box<[i32; 256]>),
    /// A product whose sums are the logits in these steps: nothing is rounded before the head.
    Dense(TensorId, Dense, Vec<f32>),
}

/// What became of one node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The kernel that runs it, or `folded` into another node's.
    pub place: String,
}

/// One layer of a plan, as [`Engine::layers`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// The kernel that runs it.
    pub kernel: String,
    /// Multiply-adds of one run.
    pub macs: u64,
    /// Whether the plain loops run it, several times slower than this CPU's kernels: weights that do not fit int8.
    pub scalar: bool,
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
    arena: Vec<i8>,
    scratch: Vec<i16>,
    sums: Vec<i32>,
    reports: Vec<NodeReport>,
    pool: Option<Arc<Pool>>,
}

impl Engine {
    /// Gives every activation its place and takes all memory that inference needs.
    pub(super) fn build(kernels: Kernels, lowered: Lowered) -> Result<Self, EngineError> {
        let tensors = &lowered.tensors;
        let (logits, last) = match &lowered.output {
            Output::Quantised(id, _) | Output::Table(id, _) => (tensors[id.0].len, *id),
            Output::Dense(id, d, _) => (d.outputs(), *id),
        };
        let places = places(tensors, &lowered.steps, lowered.input, last);
        let arena = places.iter().map(|p| p.end).max().unwrap_or(0);
        if arena > 1 << 28 {
            return Err(EngineError::Limit(format!("activations of {arena} bytes")));
        }
        let mut needed = match &lowered.output {
            Output::Dense(_, d, _) => (d.scratch_len(kernels), logits),
            Output::Quantised(..) | Output::Table(..) => (0, logits),
        };
        for step in &lowered.steps {
            let (values, sums) = step.operation.scratch_len(kernels);
            needed = (needed.0.max(values), needed.1.max(sums));
        }
        let quant = tensors[lowered.input.0].quant;
        let spec = EngineSpec {
            input: lowered.image,
            channels_last: lowered.channels_last,
            scale: quant.scale,
            zero_point: quant.zero_point,
            logits,
            absorbed: lowered.absorbed,
            output_step: if let Output::Quantised(_, q) = &lowered.output { Some(q.scale) } else { None },
        };
        Ok(Self {
            spec,
            kernels,
            steps: lowered.steps,
            output: lowered.output,
            places,
            input: lowered.input,
            arena: vec![0; arena],
            scratch: vec![0; needed.0],
            sums: vec![0; needed.1],
            reports: lowered.reports,
            pool: None,
        })
    }

    /// The same engine on `threads` threads, 1 to [`MAX_THREADS`]: the caller's and others that wait for it. The logits do not
    /// depend on their number. An error, if there are more than that or the system gives none.
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

    /// What became of each node of the graph.
    pub fn nodes(&self) -> &[NodeReport] {
        &self.reports
    }

    /// The plan's layers in the order in which they run; the last may be the one that gives the logits.
    pub fn layers(&self) -> Vec<LayerReport> {
        let step = |s: &Step| LayerReport {
            kernel: s.operation.describe(),
            macs: s.operation.macs(),
            scalar: s.operation.is_scalar(self.kernels),
        };
        let last = match &self.output {
            Output::Dense(_, d, _) => {
                Some(LayerReport { kernel: d.describe(), macs: d.macs(), scalar: d.is_scalar(self.kernels) })
            }
            Output::Quantised(..) | Output::Table(..) => None,
        };
        self.steps.iter().map(step).chain(last).collect()
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

    /// Bytes of packed weights, with what follows their sums.
    pub fn weight_bytes(&self) -> usize {
        let last = if let Output::Dense(_, d, steps) = &self.output { d.bytes() + 4 * steps.len() } else { 0 };
        self.steps.iter().map(|s| s.operation.bytes()).sum::<usize>() + last
    }

    /// Runs one inference. Allocates nothing.
    ///
    /// `input`: NHWC int8, as [`EngineSpec::input`]. `logits`: Q16.16, [`EngineSpec::logits`] of them.
    pub fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        self.infer_watched(input, logits, |_| ())
    }

    /// As [`Engine::infer`]; `after` is called when each of [`Engine::layers`] has run, with its index.
    pub fn infer_watched(
        &mut self,
        input: &[i8],
        logits: &mut [i32],
        mut after: impl FnMut(usize),
    ) -> Result<(), EngineError> {
        let place = self.places[self.input.0].clone();
        if input.len() != place.len() {
            return Err(EngineError::Length { what: "input", found: input.len(), expected: place.len() });
        }
        if logits.len() != self.spec.logits {
            return Err(EngineError::Length { what: "logits", found: logits.len(), expected: self.spec.logits });
        }
        self.arena[place].copy_from_slice(input);
        let mut scratch = Scratch { values: &mut self.scratch, sums: &mut self.sums };
        for (index, step) in self.steps.iter().enumerate() {
            let dst = self.places[step.dst.0].clone();
            let place = |i: usize| step.sources.get(i).map(|id| self.places[id.0].clone());
            // The arena's plan keeps a step's inputs apart from its output; two inputs may be one tensor.
            const APART: &str = "places of one step are disjoint";
            if let Operation::Concat(parts) = &step.operation {
                let (all, mut at) = (parts.iter().map(|(channels, _)| channels).sum(), 0);
                for (i, (channels, table)) in parts.iter().enumerate() {
                    let part = place(i).expect("a concatenation has a source for each part");
                    let [part, out] = self.arena.get_disjoint_mut([part, dst.clone()]).expect(APART);
                    elementwise::place_channels(part, *channels, table, all, at, out);
                    at += channels;
                }
                after(index);
                continue;
            }
            let a = place(0).expect("every operation has an input");
            let b = place(1).filter(|b| *b != a).unwrap_or(0..0);
            let [a, b, out] = self.arena.get_disjoint_mut([a, b, dst]).expect(APART);
            let b = if b.is_empty() { &*a } else { &*b };
            if let (Some(pool), Operation::Conv(conv)) = (&self.pool, &step.operation)
                && conv.run_by(pool, self.kernels, a, out, scratch.values)
            {
                after(index);
                continue;
            }
            step.operation.run(self.kernels, a, b, out, &mut scratch);
            after(index);
        }
        match &self.output {
            Output::Quantised(id, quant) => {
                let values = &self.arena[self.places[id.0].clone()];
                for (logit, &q) in logits.iter_mut().zip(values) {
                    *logit = logit_q16(q as i32 - quant.zero_point as i32, quant.scale);
                }
            }
            Output::Table(id, table) => {
                let values = &self.arena[self.places[id.0].clone()];
                logits.iter_mut().zip(values).for_each(|(logit, &q)| *logit = table[q as u8 as usize]);
            }
            Output::Dense(id, dense, steps) => {
                let sums = &mut self.sums[..logits.len()];
                dense.run(self.kernels, &self.arena[self.places[id.0].clone()], sums, &mut self.scratch);
                for ((logit, sum), step) in logits.iter_mut().zip(sums).zip(steps) {
                    *logit = logit_q16(*sum, *step);
                }
                after(self.steps.len());
            }
        }
        Ok(())
    }
}

/// Places every activation in one arena so that those needed at the same time do not overlap: first fit, in order of making.
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
