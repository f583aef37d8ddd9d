//! The engine against what ONNX Runtime answered, against tract, and against broken files.

use super::oracle::Oracle;
use super::*;
use crate::kernels::Kernels;
use crate::quant::quantise;
use std::collections::HashMap;
use std::path::PathBuf;
use tract_onnx::pb;
use tract_onnx::prelude::Framework;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A real NCHW input quantised to the engine's NHWC.
fn quantised(spec: &EngineSpec, nchw: &[f32]) -> Vec<i8> {
    let [h, w, c] = spec.input;
    (0..h * w * c).map(|i| quantise(nchw[i % c * h * w + i / c], spec.scale, spec.zero_point)).collect()
}

/// Differences in output steps from what ONNX Runtime answered for a file of `tests/data/networks`,
/// for every set of kernels.
fn against_onnx_runtime(name: &str) -> f32 {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/networks");
    let file = |extension: &str| std::fs::read(folder.join(name).with_extension(extension)).unwrap();
    let (onnx, expected) = (file("onnx"), floats(&file("expected")));
    let mut answers = Vec::new();
    for kernels in Kernels::available() {
        let mut engine = Engine::load_for(kernels, &onnx).unwrap_or_else(|e| panic!("{name}: {e}"));
        let nchw: Vec<f32> = (0..engine.spec().input.iter().product::<usize>())
            .map(|i| ((i * 7919 + 13) % 511) as f32 - 255.0)
            .map(|x| x / 128.0)
            .collect();
        let mut logits = vec![0; engine.spec().logits];
        engine.infer(&quantised(engine.spec(), &nchw), &mut logits).unwrap();
        answers.push((kernels.name(), logits, engine.spec().output_step.unwrap_or(0.01)));
    }
    let (_, logits, step) = &answers[0];
    for (kernels, other, _) in &answers {
        assert!(other == logits, "{name}: {kernels} and {} differ", answers[0].0);
    }
    assert_eq!(logits.len(), expected.len(), "{name}");
    let off = logits.iter().zip(&expected).map(|(q, e)| (*q as f32 / 65536.0 - e).abs() / step).fold(0.0, f32::max);
    eprintln!("{name}: largest difference {off:.3} steps of {step}");
    off
}

/// Any number of threads gives the same logits, also where layers have fewer rows than there are
/// threads.
#[test]
fn threads_change_no_logit() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/networks");
    for name in ["mobilenet_v1_qdq_s8", "efficientnet_lite_qdq_s8", "resnet18_qdq_s8", "op_conv_dilated"] {
        let onnx = std::fs::read(folder.join(name).with_extension("onnx")).unwrap();
        for kernels in Kernels::available() {
            let answer = |threads: usize| {
                let mut engine = Engine::load_for(kernels, &onnx).unwrap().with_threads(threads).unwrap();
                assert_eq!(engine.threads(), threads);
                let input: Vec<i8> =
                    (0..engine.spec().input.iter().product::<usize>()).map(|i| (i * 89 % 251) as u8 as i8).collect();
                let mut logits = vec![0; engine.spec().logits];
                for _ in 0..3 {
                    engine.infer(&input, &mut logits).unwrap();
                }
                logits
            };
            let one = answer(1);
            for threads in 2..=4 {
                assert!(answer(threads) == one, "{name}, {}, {threads} threads", kernels.name());
            }
        }
    }
    let onnx = std::fs::read(folder.join("op_add.onnx")).unwrap();
    assert!(Engine::load(&onnx).unwrap().with_threads(5).is_err());
}

/// Each operator alone: products to the bit, the others within a step of the output.
#[test]
fn operators_agree_with_onnx_runtime() {
    for name in
        ["conv", "conv_groups", "conv_dilated", "depthwise", "gemm", "matmul", "concat", "shuffle", "max_pool", "pad"]
    {
        let off = against_onnx_runtime(&format!("op_{name}"));
        assert!(off < 0.01, "{name}: {off} steps");
    }
    for name in [
        "add",
        "add_channel",
        "mul",
        "mul_pixel",
        "mul_scalar",
        "sigmoid",
        "hardswish",
        "hswish_parts",
        "leaky_relu",
        "average_pool",
        "average_pool_whole",
        "global_average",
    ] {
        let off = against_onnx_runtime(&format!("op_{name}"));
        assert!(off < 1.01, "{name}: {off} steps");
    }
}

/// The structures that int8 classifiers have, in both forms of ONNX Runtime's quantiser, lower
/// whole and give its answer.
#[test]
fn networks_lower_whole_and_agree_with_onnx_runtime() {
    for network in
        ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet_lite", "resnet18", "squeezenet", "shufflenet_v2"]
    {
        for form in ["qdq_s8", "qop_u8"] {
            let off = against_onnx_runtime(&format!("{network}_{form}"));
            assert!(off < 2.01, "{network}_{form}: {off} steps");
        }
    }
}

/// The oracle that `pack` asks gives the plan's answer for whole networks.
#[test]
fn tract_in_f32_agrees_with_the_plan() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/networks");
    for network in ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet_lite", "resnet18"] {
        let onnx = std::fs::read(folder.join(format!("{network}_qdq_s8.onnx"))).unwrap();
        let mut engine = Engine::load(&onnx).unwrap();
        let [h, w, c] = engine.spec().input;
        let nchw: Vec<f32> = (0..h * w * c).map(|i| (((i * 7919 + 13) % 511) as f32 - 255.0) / 128.0).collect();
        let mut logits = vec![0; engine.spec().logits];
        engine.infer(&quantised(engine.spec(), &nchw), &mut logits).unwrap();
        let real = Oracle::load(&onnx, &[1, c, h, w]).unwrap().run(&nchw).unwrap();
        let step = engine.spec().output_step.unwrap();
        assert_eq!(logits.len(), real.len(), "{network}");
        for (q, r) in logits.iter().zip(&real) {
            assert!((*q as f32 / 65536.0 - r).abs() < 3.01 * step, "{network}: {q} for {r}, step {step}");
        }
    }
}

/// Broken files end in an error, quickly and without a panic: truncations and random bytes of real
/// models.
#[test]
fn broken_models_are_refused() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut seed = 3u64;
    for (name, mutants) in [
        ("tiny_qdq", 3000),
        ("networks/mobilenet_v3_qdq_s8", 300),
        ("networks/squeezenet_qop_u8", 500),
        ("networks/shufflenet_v2_qdq_s8", 300),
        ("networks/op_hswish_parts", 1000),
        ("networks/op_shuffle", 1000),
        ("networks/op_pad", 1000),
        ("networks/op_average_pool_whole", 1000),
    ] {
        let onnx = std::fs::read(data.join(name).with_extension("onnx")).unwrap();
        assert!(Engine::load(&onnx).is_ok(), "{name}");
        for n in (0..onnx.len()).step_by(onnx.len() / 50) {
            assert!(Engine::load(&onnx[..n]).is_err(), "{name}: {n} bytes");
        }
        for _ in 0..mutants {
            let mut bytes = onnx.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 17) as u8;
            }
            if let Ok(mut engine) = Engine::load(&bytes)
                && engine.macs() < 1 << 20
            {
                let input = vec![0; engine.spec().input.iter().product()];
                let mut logits = vec![0; engine.spec().logits];
                match engine.infer(&input, &mut logits) {
                    Ok(()) | Err(EngineError::Logit { .. }) => {}
                    Err(e) => panic!("{name}: {e}"),
                }
            }
        }
    }
}

/// Opset 10 says a clip's bounds by attributes, and exporters write one that is none as infinite.
#[test]
fn a_clip_with_an_infinite_bound_as_attribute_is_a_relu() {
    let onnx = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_qdq.onnx")).unwrap();
    let mut relu = proto::read(&onnx).unwrap();
    relu.opset = 10;
    // Scales lie along an axis since opset 13 only.
    for node in relu.nodes.iter_mut().filter(|n| n.op == "DequantizeLinear") {
        node.attributes.clear();
        for name in &node.inputs[1..] {
            let constant = relu.constants.get_mut(name).unwrap();
            constant.dims.clear();
            match &mut constant.values {
                proto::Values::F32(v) => v.truncate(1),
                proto::Values::I8(v) => v.truncate(1),
                proto::Values::I32(v) => v.truncate(1),
                other => panic!("{other:?}"),
            }
        }
    }
    let mut clip = relu.clone();
    for node in clip.nodes.iter_mut().filter(|n| n.op == "Relu") {
        node.op = "Clip".into();
        let bounds = [("min", 0.0), ("max", f32::INFINITY)];
        node.attributes = bounds.map(|(name, x)| (name.into(), proto::Attribute::Float(x))).into();
    }
    let kernels = Kernels::choose().unwrap();
    let [relu, clip] = [relu, clip].map(|graph| {
        let mut engine = Engine::build(kernels, lower::lower(&graph, kernels).unwrap()).unwrap();
        let input: Vec<i8> = (0..16 * 16 * 3).map(|i| (i * 89 % 251) as u8 as i8).collect();
        let mut logits = vec![0; engine.spec().logits];
        engine.infer(&input, &mut logits).unwrap();
        logits
    });
    assert_eq!(relu, clip);
}

#[test]
fn an_operator_without_a_kernel_is_refused_by_name() {
    let onnx = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_refused.onnx")).unwrap();
    match Engine::load(&onnx) {
        Err(EngineError::Refused { nodes, .. }) => {
            assert_eq!((nodes[0].node.as_str(), nodes[0].op.as_str()), ("normalise", "LRN"));
        }
        other => panic!("{other:?}"),
    }
}

/// All that stands in the way is told at once, also what lies behind it; and no advice to do what
/// was done already.
#[test]
fn every_refused_node_is_named_at_once() {
    let onnx = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/networks/mobilenet_v1_qdq_s8.onnx")).unwrap();
    let mut graph = proto::read(&onnx).unwrap();
    let convolutions: Vec<usize> = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].op == "Conv").collect();
    let (unknown, said) = (convolutions[1], convolutions[4]);
    graph.nodes[unknown].op = "QLinearLRN".into();
    graph.nodes[said].attributes.insert("speed".into(), proto::Attribute::Int(3));
    // What an exporter states about the values between keeps the shapes known behind a refused
    // node.
    let names = [unknown, said].map(|i| graph.nodes[i].name.clone());
    let kernels = Kernels::choose().unwrap();
    let Err(error) = lower::lower(&graph, kernels) else { panic!("it was lowered") };
    let EngineError::Refused { nodes, quantised: true } = &error else { panic!("{error:?}") };
    assert_eq!(nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), names);
    assert!(nodes[1].why.contains("speed"), "{}", nodes[1].why);
    let told = error.to_string();
    assert!(names.iter().all(|name| told.contains(name.as_str())) && !told.contains("quantise the model"), "{told}");
}

/// Two outputs of one file: each by its name, neither without; nodes that the other one needs do
/// not stand in the way.
#[test]
fn one_of_several_outputs_is_chosen_by_name() {
    let onnx = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_qdq.onnx")).unwrap();
    let mut model = tract_onnx::onnx().proto_model_for_read(&mut onnx.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let logits = graph.output[0].name.clone();
    let mut second = graph.output[0].clone();
    second.name = "best".into();
    let node = tract_onnx::pb::NodeProto {
        name: "best".into(),
        op_type: "ArgMax".into(),
        input: vec![logits.clone()],
        output: vec!["best".into()],
        ..Default::default()
    };
    graph.node.push(node);
    // An index beside the scores is no choice.
    let mut index = second.clone();
    if let Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(t)), .. }) = &mut index.r#type {
        t.elem_type = pb::tensor_proto::DataType::Int64 as i32;
    }
    let mut beside = graph.clone();
    beside.output.push(index);
    let beside = proto::from_proto(pb::ModelProto { graph: Some(beside), ..model.clone() }, None).unwrap();
    assert_eq!(beside.output, logits);
    let graph = model.graph.as_mut().unwrap();
    graph.output.push(second);
    let kernels = Kernels::choose().unwrap();
    let load = |output| {
        let graph = proto::from_proto(model.clone(), output)?;
        Engine::build(kernels, lower::lower(&graph, kernels)?)
    };
    let answer = |engine: &mut Engine| {
        let input: Vec<i8> =
            (0..engine.spec().input.iter().product::<usize>()).map(|i| (i * 89 % 251) as u8 as i8).collect();
        let mut logits = vec![0; engine.spec().logits];
        engine.infer(&input, &mut logits).unwrap();
        logits
    };
    assert_eq!(answer(&mut load(Some(&logits)).unwrap()), answer(&mut Engine::load(&onnx).unwrap()));
    let told = |output| load(output).unwrap_err().to_string();
    assert!(told(None).contains("\"best\"") && told(None).contains("--output"), "{}", told(None));
    assert!(told(Some("worst")).contains("no output \"worst\""), "{}", told(Some("worst")));
    assert!(told(Some("best")).contains("ArgMax"), "{}", told(Some("best")));
}

/// Features are the same bits whatever computes the layers; what the rest of a network depends on
/// is marked as such.
#[test]
fn stages_are_looked_at_by_name_and_shape() {
    use crate::distance::Stage;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/networks");
    for name in ["efficientnet_lite_qdq_s8", "resnet18_qdq_s8", "mobilenet_v1_qdq_s8"] {
        let onnx = std::fs::read(folder.join(name).with_extension("onnx")).unwrap();
        let first = Engine::load(&onnx).unwrap();
        let cuts: Vec<&Activation> = first.activations().iter().filter(|a| a.is_cut && a.positions > 1).collect();
        assert!(cuts.len() >= 3 && cuts.len() < first.activations().len(), "{name}: {} cuts", cuts.len());
        let stages: Vec<Stage<'_>> = cuts
            .iter()
            .take(4)
            .map(|a| Stage { name: &a.name, channels: a.channels as u16, positions: a.positions as u32 })
            .collect();
        let mut answers = Vec::new();
        for (kernels, threads) in Kernels::available().into_iter().flat_map(|k| [(k, 1), (k, 3)]) {
            let mut engine = Engine::load_for(kernels, &onnx).unwrap().with_threads(threads).unwrap();
            engine.look_at(&stages).unwrap();
            let input: Vec<i8> =
                (0..engine.spec().input.iter().product::<usize>()).map(|i| (i * 89 % 251) as u8 as i8).collect();
            let mut logits = vec![0; engine.spec().logits];
            engine.infer(&input, &mut logits).unwrap();
            assert_eq!(engine.distance(), None, "nothing to measure by");
            answers.push((engine.features().to_vec(), logits));
        }
        assert_eq!(answers[0].0.len(), stages.iter().map(Stage::features).sum::<usize>());
        assert!(answers.iter().all(|a| *a == answers[0]), "{name}");
        assert!(answers[0].0.iter().any(|f| *f != answers[0].0[0]), "{name}: features say something");
        let refused = |stage: Stage<'_>| first.clone().look_at(&[stage]).unwrap_err().to_string();
        let text = refused(Stage { name: "nowhere", ..stages[0] });
        assert!(text.contains("\"nowhere\"") && text.contains("none of this name"), "{text}");
        let text = refused(Stage { channels: 7, ..stages[0] });
        assert!(text.contains("of 7 channels") && text.contains(&format!("of {}", stages[0].channels)), "{text}");
    }
}

/// Replaces the real constant `name` in a file's bytes by `factor` times its values.
fn scaled(onnx: &mut [u8], name: &str, factor: f32) {
    let graph = proto::read(onnx).unwrap();
    let proto::Values::F32(values) = &graph.constants[name].values else { panic!("{name}") };
    let bytes = |factor: f32| values.iter().flat_map(|x| (x * factor).to_le_bytes()).collect::<Vec<u8>>();
    let found: Vec<usize> =
        onnx.windows(4 * values.len()).enumerate().filter(|(_, w)| *w == bytes(1.0)).map(|(at, _)| at).collect();
    assert_eq!(found.len(), 1, "{name} stands there once");
    onnx[found[0]..][..4 * values.len()].copy_from_slice(&bytes(factor));
}

/// tiny_qdq with its last layer's scales times `factor`: its accumulators are the logits.
fn with_logits_times(factor: f32) -> Vec<u8> {
    let mut onnx = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_qdq.onnx")).unwrap();
    ["fwr_s", "fbr_s"].iter().for_each(|name| scaled(&mut onnx, name, factor));
    onnx
}

/// Logits of millions were clamped to 32768, all of them to the same: equal scores, exit 0, and
/// `pack` said "proved".
#[test]
fn logits_that_have_no_score_are_an_error_and_a_refused_proof() {
    let answer = |onnx: &[u8]| {
        let mut engine = Engine::load(onnx).unwrap();
        let input = proof::drawn(engine.spec().input.iter().product(), 1, 1).swap_remove(0);
        let mut logits = vec![0; engine.spec().logits];
        engine.infer(&input, &mut logits).map(|()| (logits, input))
    };
    let (logits, input) = answer(&with_logits_times(1.0)).unwrap();
    let furthest = logits.iter().map(|q| q.unsigned_abs()).max().unwrap() as f32 / 65536.0;
    for (factor, fits) in [(32700.0 / furthest, true), (32800.0 / furthest, false), (1e9, false)] {
        let onnx = with_logits_times(factor);
        let proof = proof::prove(&onnx, std::slice::from_ref(&input), None).unwrap();
        match (answer(&onnx), proof.parted) {
            (Ok(_), None) => assert!(fits, "times {factor}"),
            (Err(e @ EngineError::Logit { .. }), Some(refusal)) => {
                assert!(!fits, "times {factor}: {e}");
                assert_eq!(refusal.op, "Gemm", "{refusal:?}");
                assert!(refusal.why.contains("-32768 to 32768"), "{}", refusal.why);
            }
            other => panic!("times {factor}: {other:?}"),
        }
    }
}

/// A graph of nodes in a row, each `[operator, second input or nothing]`, over an input of 1x3x1x2.
fn chain(nodes: &[(&str, Option<&str>)], constants: &[(&str, proto::Values)]) -> proto::Graph {
    let node = |(i, (op, second)): (usize, &(&str, Option<&str>))| proto::Node {
        name: format!("node{i}"),
        op: (*op).into(),
        microsoft: false,
        inputs: std::iter::once(format!("v{i}"))
            .chain(second.map(String::from))
            .chain(second.map(|s| format!("{s}_z")))
            .collect(),
        outputs: vec![format!("v{}", i + 1)],
        attributes: HashMap::new(),
    };
    let constant = |(name, values): &(&str, proto::Values)| {
        ((*name).to_string(), proto::Constant { dims: vec![], values: values.clone() })
    };
    proto::Graph {
        opset: 17,
        nodes: nodes.iter().enumerate().map(node).collect(),
        constants: constants.iter().map(constant).collect(),
        input: "v0".into(),
        input_dims: vec![1, 3, 1, 2],
        input_type: proto::Type::F32,
        output: format!("v{}", nodes.len()),
        output_type: None,
        stated: HashMap::new(),
    }
}

/// An island's infinity was a logit at the rail, and its NaN the lowest code: both had scores. That
/// an infinity has the last code is ONNX's definition.
#[test]
fn what_an_island_gives_that_is_no_number_is_an_error_and_so_is_an_infinite_logit() {
    let scale = [("s", proto::Values::F32(vec![0.5])), ("s_z", proto::Values::I8(vec![0]))];
    let codes = [("QuantizeLinear", Some("s")), ("DequantizeLinear", Some("s"))];
    let kernels = Kernels::choose().unwrap();
    for (op, quantised) in [("Exp", false), ("Exp", true), ("Sqrt", false), ("Sqrt", true)] {
        let nodes = [[(op, None)].as_slice(), if quantised { &codes } else { &[] }].concat();
        let graph = chain(&nodes, if quantised { &scale } else { &[] });
        let mut engine = Engine::build(kernels, lower::lower(&graph, kernels).unwrap()).unwrap();
        assert_eq!(engine.spec().islands, 1, "{op}");
        let mut infer = |x: f32| {
            let mut logits = vec![0; 6];
            engine.infer_reals(&[0.5, 1.0, x, 0.5, 1.5, 2.0], &mut logits, |_| ()).map(|()| logits)
        };
        let before = infer(2.0).unwrap();
        for x in [f32::NAN, if op == "Exp" { f32::NAN } else { -1.0 }] {
            let told = infer(x).unwrap_err();
            assert!(matches!(&told, EngineError::NoNumber { island, index: 2 } if island.contains(op)), "{told:?}");
            assert!(told.to_string().ends_with("value 2 of its results is no number"), "{told}");
        }
        match (infer(f32::INFINITY), quantised) {
            (Ok(logits), true) => assert_eq!(logits[2], 127 << 15, "{op}"),
            (Err(EngineError::Logit { index: 2, value: f64::INFINITY }), false) => {}
            other => panic!("{op}: {other:?}"),
        }
        assert_eq!(infer(2.0).unwrap(), before, "{op}: the next one is not touched by it");
    }
}

/// Codes whose values no score can be computed of are refused at load: a few would be at the rail,
/// most not.
#[test]
fn an_output_whose_codes_go_beyond_q16_is_refused() {
    let load = |scale: f32| {
        let constants = [("s", proto::Values::F32(vec![scale])), ("s_z", proto::Values::I8(vec![0]))];
        let graph = chain(&[("QuantizeLinear", Some("s")), ("DequantizeLinear", Some("s"))], &constants);
        lower::lower(&graph, Kernels::choose().unwrap()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(load(255.9), Ok(()));
    let told = load(257.0).unwrap_err();
    assert!(told.contains("\"v2\" (output)") && told.contains("-32768 to 32768"), "{told}");
}

/// What ONNX Runtime refuses too, and where it and ONNX differ.
#[test]
fn a_resize_that_tract_cannot_read_is_refused_and_its_neighbour_runs() {
    use proto::Values::{F32, I64};
    let load = |opset: i64, mode: &str, inputs: [&str; 3], side: i64| {
        let sizes = [("sizes", I64(vec![1, 3, 5, side])), ("scales", F32(vec![1.0, 1.0, 2.0, 2.0])), ("none", F32(vec![]))];
        let mut graph = chain(&[("Resize", None)], &sizes);
        graph.constants.iter_mut().for_each(|(_, c)| {
            c.dims = vec![match &c.values {
                F32(v) => v.len(),
                _ => 4,
            }]
        });
        graph.opset = opset;
        graph.nodes[0].inputs.extend(inputs.iter().filter(|n| **n != "-").map(|n| n.to_string()));
        let words = [("mode", mode), ("coordinate_transformation_mode", "pytorch_half_pixel")];
        graph.nodes[0].attributes = words.map(|(k, v)| (k.to_string(), proto::Attribute::Text(v.into()))).into();
        lower::lower(&graph, Kernels::choose().unwrap()).map(|_| ()).map_err(|e| e.to_string())
    };
    let refused = |told: Result<(), String>, why: &str| assert!(told.as_ref().is_err_and(|t| t.contains(why)), "{told:?}");
    for opset in [11, 12] {
        assert_eq!(load(opset, "linear", ["none", "scales", "-"], 3), Ok(()));
        refused(load(opset, "linear", ["", "scales", "-"], 3), "roi is missing");
        refused(load(opset, "linear", ["none", "", "sizes"], 3), "scales is missing");
        assert_eq!(load(opset, "linear", ["none", "none", "sizes"], 3), Ok(()));
    }
    assert_eq!(load(13, "linear", ["", "", "sizes"], 1), Ok(()));
    assert_eq!(load(13, "cubic", ["", "", "sizes"], 3), Ok(()));
    refused(load(13, "cubic", ["", "", "sizes"], 1), "differ at a side of 1");
}
