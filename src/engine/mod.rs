//! The int8 engine: an ONNX graph, lowered to one plan of integer kernels, run on one image at a
//! time. Nodes that have no int8 kernel run in f32, by tract, in islands of the plan.
//!
//! [`proto`] validates what tract's parser read, [`lower`] recognises the quantised graph, [`plan`]
//! runs it, and an [`island`] runs the rest. A node that neither can run as ONNX defines it is
//! refused by name. For tests and tools, [`oracle`] runs the same file through tract in f32, and
//! [`random_graphs`] draws graphs together with their expected results.

mod activations;
mod island;
mod lower;
mod lowered;
pub mod message;
mod meter;
mod operation;
mod operators;
pub mod oracle;
mod plan;
pub mod proof;
mod proof_spelling;
pub mod proto;
pub mod random_graphs;
mod self_test;

use crate::kernels::Kernels;
pub use activations::Activation;
pub use lowered::NodeReport;
pub use operation::MAX_THREADS;
pub use plan::{Engine, LayerReport};
pub use self_test::{SelfTestError, SelfTested};

/// What an engine takes and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSpec {
    /// Rows, columns and channels of the input, NHWC.
    pub input: [usize; 3],
    /// Whether the file's own input has its channels last (most have them first).
    pub channels_last: bool,
    /// Whether the graph reads its input in f32. The int8 input then holds codes: code `c` stands
    /// for the image's byte `c + 128`, normalised by the bundle's contract, or divided by 255
    /// without a contract.
    pub real_input: bool,
    /// Islands: groups of nodes that tract runs in f32. With none, inference allocates nothing.
    pub islands: usize,
    /// Scale of the int8 input.
    pub scale: f32,
    /// Zero point of the int8 input.
    pub zero_point: i8,
    /// Number of logits.
    pub logits: usize,
    /// The function after the logits that the head computes.
    pub absorbed: Option<Absorbed>,
    /// Scale of the output, if the graph quantises it.
    pub output_step: Option<f32>,
}

/// What `run` returns, or in words why tract panicked in it. What `run` was changing then must not
/// be used any more.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    crate::caught::caught(run).map_err(|said| format!("tract gave up on it: {said}"))
}

/// A last operator that the head computes instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absorbed {
    /// Softmax over the tags.
    Softmax,
    /// Sigmoid of each tag.
    Sigmoid,
    /// The index of the best tag, which is the one with the highest score.
    ArgMax,
}

/// A node that cannot be run, or the graph's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The node's name, or its output's.
    pub node: String,
    /// The operator, or `input` or `output`.
    pub op: String,
    /// What was found and what was expected.
    pub why: String,
}

/// A file's text made safe for a terminal: without control characters, and shortened.
fn shown(text: &str) -> String {
    const MOST: usize = 400;
    let escaped = |c: char| if c.is_control() { c.escape_default().collect::<String>() } else { c.to_string() };
    let mut shown: String = text.chars().take(MOST).map(escaped).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// What to do about logits that are too large.
const SCALE_DOWN: &str = "divide the model's output by a constant, and its temperature with it";

/// Most refused nodes that one message names.
const TOLD: usize = 30;

/// Why a model cannot be run.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineError {
    /// The bytes are no ONNX model.
    Parse(String),
    /// The model leaves the limits of [`proto`].
    Limit(String),
    /// Nodes cannot be run exactly: all of them.
    Refused {
        /// Each with its reason, in order of execution.
        nodes: Vec<Refusal>,
        /// Whether anything of the model is quantised.
        quantised: bool,
    },
    /// An input or output of another length than [`EngineSpec`] says.
    Length {
        /// Which.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that the model needs.
        expected: usize,
    },
    /// The bundle's contract and the graph disagree.
    Contract(String),
    /// An island failed while it ran.
    Island(String),
    /// An island gave NaN, as for zero divided by zero.
    NoNumber {
        /// What the island is.
        island: String,
        /// Which of its results.
        index: usize,
    },
    /// A logit that Q16.16 cannot hold, so that there is no score.
    Logit {
        /// Which.
        index: usize,
        /// What it is.
        value: f64,
    },
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parse(why) => write!(f, "not an ONNX model: {why}"),
            Self::Limit(why) => write!(f, "model refused: {}", shown(why)),
            Self::Refused { nodes, quantised } => {
                match nodes.as_slice() {
                    [Refusal { node, op, why }] => {
                        write!(f, "node \"{}\" ({}) cannot run: {}", shown(node), shown(op), shown(why))?;
                    }
                    nodes => {
                        write!(f, "{} nodes cannot run:", nodes.len())?;
                        for Refusal { node, op, why } in nodes.iter().take(TOLD) {
                            write!(f, "\n  node \"{}\" ({}): {}", shown(node), shown(op), shown(why))?;
                        }
                        if nodes.len() > TOLD {
                            write!(f, "\n  and {} more", nodes.len() - TOLD)?;
                        }
                    }
                }
                if *quantised { Ok(()) } else { write!(f, "; quantise the model as static QDQ, int8") }
            }
            Self::Length { what, found, expected } => write!(f, "{what} of {found} values, the model has {expected}"),
            Self::Island(why) => write!(f, "{}", shown(why)),
            Self::NoNumber { island, index } => write!(f, "{}: value {index} of its results is no number", shown(island)),
            Self::Logit { index, value } => {
                write!(f, "logit {index} is {value}, scores are computed of -32768 to 32768; {SCALE_DOWN}")
            }
            Self::Contract(why) => write!(f, "contract and graph disagree: {why}; repack with `tagpin-tools pack`"),
        }
    }
}

impl std::error::Error for EngineError {}

impl Engine {
    /// Loads an ONNX model for the best kernels of this CPU; refuses by name what cannot be run
    /// exactly.
    pub fn load(onnx: &[u8]) -> Result<Self, EngineError> {
        Self::load_output(onnx, None)
    }

    /// Loads an ONNX model for one of its outputs, by name; without a name it must have only one,
    /// or only one of float.
    pub fn load_output(onnx: &[u8], output: Option<&str>) -> Result<Self, EngineError> {
        let kernels = Kernels::choose().map_err(EngineError::Limit)?;
        Self::build(kernels, lower::lower(&proto::read_output(onnx, output)?, kernels)?)
    }

    /// Loads an ONNX model for one set of kernels; the result does not depend on which.
    pub fn load_for(kernels: Kernels, onnx: &[u8]) -> Result<Self, EngineError> {
        Self::build(kernels, lower::lower(&proto::read(onnx)?, kernels)?)
    }

    /// Loads the graph of a bundle and checks it against the bundle's contract. Each inference
    /// measures the image's distance, if the bundle says how.
    pub fn from_bundle(bundle: &crate::bundle::Bundle<'_>) -> Result<Self, EngineError> {
        use crate::decide::Task;
        let mut engine = Self::load(bundle.graph)?;
        if engine.spec().real_input {
            let tables = bundle.contract.input.tables;
            let code = |i: usize| tables.int8.get(i).map(|&q| q as i8);
            if let Some(i) = (0..tables.int8.len()).find(|&i| code(i) != Some((i % 256) as u8 as i8 ^ -128)) {
                let why = format!("input code {i} is {:?}; of an input in f32 it is the byte less 128", code(i));
                return Err(EngineError::Contract(why));
            }
            let real = tables.real.as_chunks::<4>().0;
            engine.read_input_as(|channel, code| {
                real.get(256 * channel + (code as u8 ^ 128) as usize).map_or(f32::NAN, |b| f32::from_le_bytes(*b))
            });
        }
        if let Some(spread) = &bundle.spread {
            engine.measure_by(spread.to_owned())?;
        }
        let (spec, contract) = (engine.spec(), &bundle.contract);
        let input = &contract.input;
        let expected = [input.height as usize, input.width as usize, 3];
        let disagree = |what: &str, graph: &dyn std::fmt::Debug, contract: &dyn std::fmt::Debug| {
            Err(EngineError::Contract(format!("{what}: graph {graph:?}, contract {contract:?}")))
        };
        if spec.input != expected {
            return disagree("input", &spec.input, &expected);
        }
        if (spec.scale, spec.zero_point) != (input.scale, input.zero_point) {
            return disagree("input step and zero point", &(spec.scale, spec.zero_point), &(input.scale, input.zero_point));
        }
        if spec.logits != contract.tags.len() {
            return disagree("tags", &spec.logits, &contract.tags.len());
        }
        if (spec.islands > 0) != contract.mixed {
            return disagree("mixed", &(spec.islands > 0), &contract.mixed);
        }
        match (spec.absorbed, contract.task) {
            (Some(Absorbed::Softmax | Absorbed::ArgMax), Task::Multilabel) | (Some(Absorbed::Sigmoid), Task::Multiclass) => {
                disagree("task", &spec.absorbed, &contract.task)
            }
            _ => Ok(engine),
        }
    }
}

#[cfg(test)]
mod random_islands;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;
