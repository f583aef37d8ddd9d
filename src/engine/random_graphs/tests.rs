//! What every set of kernels computes is what the definitions give, operator by operator.

use super::{Drawn, drawn};
use crate::engine::{Engine, lower};
use crate::kernels::Kernels;
use std::collections::HashMap;

/// A number from the environment.
pub(in crate::engine) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// TAGPIN_TEST_CASES graphs from TAGPIN_TEST_SEED on.
#[test]
fn random_graphs_give_what_the_definitions_give() {
    let (first, cases) = (setting("TAGPIN_TEST_SEED", 0), setting("TAGPIN_TEST_CASES", 2000));
    eprintln!("TAGPIN_TEST_SEED={first} TAGPIN_TEST_CASES={cases}");
    let mut operators: HashMap<String, u64> = HashMap::new();
    for seed in first..first + cases {
        let Drawn { graph, input, logits: expected, .. } = drawn(seed);
        for node in &graph.nodes {
            *operators.entry(node.op.clone()).or_default() += 1;
        }
        for kernels in Kernels::available() {
            let lowered = lower::lower(&graph, kernels).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let mut engine = Engine::build(kernels, lowered).unwrap();
            let mut logits = vec![0; engine.spec().logits];
            engine.infer(&input, &mut logits).unwrap();
            assert!(logits == expected, "seed {seed}, {}: {:?}", kernels.name(), engine.nodes());
        }
    }
    eprintln!("{operators:?}");
    for op in [
        "Conv",
        "Gemm",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Relu",
        "HardSwish",
        "LeakyRelu",
        "Concat",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Pad",
        "Slice",
        "Transpose",
    ] {
        assert!(operators[op] > cases / 40, "{op} was hardly drawn");
    }
}
