//! What a model says of pictures: logits by the runtime's engine and by tract, scores by the runtime's head.
//!
//! Does not judge them.

use crate::data::TaskName;
use crate::graph::{Graph, Normalise, Runner};
use anyhow::Result;
use rayon::prelude::*;
use tagpin::decide::Task;
use tagpin::engine::Engine;
use tagpin::head::{Score, Temperature};
use tagpin::quant;

/// Logits in Q16.16 of each picture by the int8 engine. Pictures are `[side, side, 3]` of the model's side.
pub fn int8(onnx: &[u8], normalise: Normalise, pictures: &[&[u8]]) -> Result<Vec<Vec<i32>>> {
    let engine = Engine::load(onnx)?;
    let spec = engine.spec().clone();
    let int8 = |x: f32| quant::quantise(x, spec.scale, spec.zero_point) as u8;
    let tables: Vec<u8> = normalise.table().into_iter().map(int8).collect();
    let bar = crate::progress::bar("int8", pictures.len() as u64);
    let logits = pictures
        .par_iter()
        .map_init(
            || engine.clone(),
            |engine, rgb| {
                let mut input = vec![0; rgb.len()];
                tagpin::preprocess::quantise(rgb, &tables, &mut input);
                let mut logits = vec![0; spec.logits];
                engine.infer(&input, &mut logits)?;
                bar.inc(1);
                Ok(logits)
            },
        )
        .collect();
    bar.finish_and_clear();
    logits
}

/// Logits of each picture in f32.
pub fn float(graph: &Graph, pictures: &[&[u8]]) -> Result<Vec<Vec<f32>>> {
    Runner::whole(graph)?.run_all("float", pictures)
}

/// Q16.16 as f32.
pub fn real(logits: &[Vec<i32>]) -> Vec<Vec<f32>> {
    logits.iter().map(|l| l.iter().map(|&v| v as f32 / 65536.0).collect()).collect()
}

/// f32 as Q16.16, as the engine would give it.
pub fn fixed(logits: &[Vec<f32>]) -> Vec<Vec<i32>> {
    logits.iter().map(|l| l.iter().map(|&v| (v as f64 * 65536.0).round().clamp(-2e9, 2e9) as i32).collect()).collect()
}

/// The temperature as the contract holds it.
pub fn q16(temperature: f64) -> Temperature {
    let q16 = (temperature * 65536.0).round().clamp(1.0, u32::MAX as f64) as u32;
    Temperature::from_q16(q16).unwrap_or(Temperature::ONE)
}

/// Scores by the device's head.
pub fn scores(task: TaskName, logits: &[Vec<i32>], temperature: Temperature) -> Vec<Vec<Score>> {
    let one = |l: &Vec<i32>| {
        let mut scores = vec![Score(0); l.len()];
        Task::from(task).score(l, temperature, &mut scores);
        scores
    };
    logits.iter().map(one).collect()
}

/// Scores as probabilities.
pub fn probabilities(scores: &[Vec<Score>]) -> Vec<Vec<f32>> {
    scores.iter().map(|s| s.iter().map(|s| s.probability()).collect()).collect()
}
