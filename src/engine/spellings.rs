//! Every spelling of tests/data/operators.bin: the engine answers what ONNX says, or refuses the
//! node that stands in the way.
//!
//! tests/data/make_operators.py makes the file and says what is in it.

use super::*;

/// One model of the file.
struct Spelling<'a> {
    name: &'a str,
    verdict: &'a str,
    node: &'a str,
    tolerance: f32,
    onnx: &'a [u8],
    expected: Vec<f32>,
}

fn spellings(mut bytes: &[u8]) -> Vec<Spelling<'_>> {
    let mut all = Vec::new();
    while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
        let line: Vec<&str> = std::str::from_utf8(&bytes[..end]).unwrap().split(' ').collect();
        let &[name, verdict, node, tolerance, onnx, expected] = line.as_slice() else { panic!("{line:?}") };
        let (onnx, rest) = bytes[end + 1..].split_at(onnx.parse().unwrap());
        let (expected, rest) = rest.split_at(4 * expected.parse::<usize>().unwrap());
        let expected = expected.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        all.push(Spelling { name, verdict, node, tolerance: tolerance.parse().unwrap(), onnx, expected });
        bytes = rest;
    }
    all
}

/// What the engine answers to the input that the file's answers are for.
fn answer(engine: &mut Engine, ty: proto::Type) -> Result<Vec<i32>, EngineError> {
    let spec = engine.spec().clone();
    let [h, w, c] = spec.input;
    let mut logits = vec![0; spec.logits];
    if ty == proto::Type::F32 {
        let reals: Vec<f32> = (0..h * w * c).map(|i| (((i * 7919 + 13) % 511) as f32 - 255.0) / 128.0).collect();
        engine.infer_reals(&reals, &mut logits, |_| ())?;
    } else {
        let value = |i: usize| {
            let at = if spec.channels_last { i } else { i % c * h * w + i / c };
            (((at * 89 + 7) % 256) as i32 - 128) as i8
        };
        engine.infer(&(0..h * w * c).map(value).collect::<Vec<_>>(), &mut logits)?;
    }
    Ok(logits)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// What is wrong with the engine's answer to one model.
fn wrong(case: &Spelling<'_>, kernels: Kernels) -> Option<String> {
    match (Engine::load_for(kernels, case.onnx), case.verdict) {
        (Err(EngineError::Refused { nodes, .. }), "refused") if nodes[0].node == case.node => None,
        (Err(e), _) => Some(format!("refused: {e}")),
        (Ok(_), "refused") => Some("runs, but was to be refused".into()),
        (Ok(mut engine), verdict) => {
            let ty = proto::read(case.onnx).unwrap().input_type;
            let logits = match answer(&mut engine, ty) {
                Ok(logits) => logits,
                // Zero divided by zero: ONNX says nothing of it, and no score is made of it.
                Err(EngineError::NoNumber { .. }) if case.name == "Div_of_two" => return None,
                Err(e) => return Some(format!("fails: {e}")),
            };
            if (case.name.starts_with("island"), engine.spec().islands) == (true, 0) {
                return Some("was to run in an island".into());
            }
            let mut got: Vec<f32> = logits.iter().map(|&q| q as f32 / 65536.0).collect();
            if verdict == "scores" {
                got = softmax(&got);
            }
            if verdict == "index" {
                let largest = got.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                got = got.iter().position(|x| *x == largest).map(|i| i as f32).into_iter().collect();
            }
            let off = got.iter().zip(&case.expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let right = got.len() == case.expected.len() && off <= case.tolerance * 1.01;
            (!right).then(|| format!("off by {off} of {}: {got:?} for {:?}", case.tolerance, case.expected))
        }
    }
}

#[test]
fn every_spelling_means_what_it_means_to_onnx_or_is_refused_by_name() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/operators.bin");
    let bytes = std::fs::read(path).unwrap();
    let all = spellings(&bytes);
    assert!(all.len() > 800, "{} models", all.len());
    let mut failures = Vec::new();
    for case in &all {
        for kernels in Kernels::available() {
            if let Some(why) = wrong(case, kernels) {
                failures.push(format!("{} ({}): {why}", case.name, kernels.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), all.len(), failures.join("\n"));
}

/// What the head computes is not in the plan: the proof sets the plan beside what goes into it.
#[test]
fn what_the_head_computes_is_proved_by_what_goes_into_it() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/operators.bin")).unwrap();
    let mut proved = 0;
    for case in spellings(&bytes).iter().filter(|case| ["index", "scores"].contains(&case.verdict)) {
        let engine = Engine::load(case.onnx).unwrap();
        assert!(engine.spec().absorbed.is_some(), "{}", case.name);
        let [h, w, c] = engine.spec().input;
        let real = |_, code: i8| code as f32 / 64.0;
        let real: Option<&dyn Fn(usize, i8) -> f32> = if engine.spec().real_input { Some(&real) } else { None };
        let found = proof::prove(case.onnx, &proof::drawn(h * w * c, 3, 7), real).unwrap();
        assert!(found.parted.is_none() && found.unread.is_empty() && found.agree > 0, "{}: {found:?}", case.name);
        proved += 1;
    }
    assert!(proved > 20, "{proved}");
}
