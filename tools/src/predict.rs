//! Runs models on images: logits by the runtime's engine (int8) or by tract (float), scores by the
//! runtime's head.

use crate::data::TaskName;
use crate::graph::{Graph, Normalise, Runner};
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::sync::Arc;
use tagpin::bundle::Bundle;
use tagpin::decide::Task;
use tagpin::distance::{Spread, Stage};
use tagpin::engine::Engine;
use tagpin::head::{Score, Temperature};
use tagpin::quant::{self, logit_q16};

/// The runtime's engine with what quantises images for it.
#[derive(Clone)]
pub struct Int8 {
    engine: Engine,
    /// The graph's bytes.
    onnx: Arc<[u8]>,
    /// int8 value of each byte of each channel.
    tables: Vec<u8>,
}

impl Int8 {
    /// Loads a quantised graph.
    pub fn load(onnx: &[u8], normalise: Normalise) -> Result<Self> {
        let engine = Engine::load(onnx)?;
        let spec = engine.spec();
        let int8 = |x: f32| quant::quantise(x, spec.scale, spec.zero_point) as u8;
        let tables = normalise.table().into_iter().map(int8).collect();
        Ok(Self { engine, onnx: onnx.into(), tables })
    }

    /// A bundle's network.
    pub fn of_bundle(bundle: &Bundle<'_>) -> Result<Self> {
        let tables = bundle.contract.input.tables.int8.to_vec();
        Ok(Self { engine: Engine::load(bundle.graph)?, onnx: bundle.graph.into(), tables })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The graph's bytes.
    pub fn onnx(&self) -> &[u8] {
        &self.onnx
    }

    /// From now on features of these stages are taken.
    pub fn look_at(&mut self, stages: &[Stage<'_>]) -> Result<()> {
        Ok(self.engine.look_at(stages)?)
    }

    /// From now on the distance of each image is measured, by the section of a bundle.
    pub fn measure_by(&mut self, section: &[u8]) -> Result<()> {
        Ok(self.engine.measure_by(Spread::read(section)?.to_owned())?)
    }

    /// Whether the last image lies beyond the distance limit; never where no distance is measured.
    fn beyond(&self) -> bool {
        self.engine.distance().zip(self.engine.spread()).is_some_and(|(d, spread)| d > spread.limit())
    }

    /// The last image's distance from the training images; 0 where no distance is measured.
    pub fn distance(&self) -> f64 {
        self.engine.distance().map_or(0.0, tagpin::distance::Distance::real)
    }

    /// Features of an image at the stages that are looked at.
    pub fn features(&mut self, rgb: &[u8]) -> Result<Vec<i32>> {
        self.logits(rgb)?;
        Ok(self.engine.features().to_vec())
    }

    /// Logits, or features of a graph without a head, in Q16.16. `rgb`: `[side, side, 3]` of the
    /// model's side.
    pub fn logits(&mut self, rgb: &[u8]) -> Result<Vec<i32>> {
        let (mut input, mut logits) = (vec![0; rgb.len()], vec![0; self.engine.spec().logits]);
        tagpin::preprocess::quantise(rgb, &self.tables, &mut input);
        self.engine.infer(&input, &mut logits)?;
        Ok(logits)
    }
}

/// Logits in Q16.16 of each image by the int8 engine. Images: `[side, side, 3]` at the model's
/// side.
pub fn int8(onnx: &[u8], normalise: Normalise, images: &[&[u8]]) -> Result<Vec<Vec<i32>>> {
    let int8 = Int8::load(onnx, normalise)?;
    let bar = crate::progress::bar("int8", images.len() as u64);
    let one = |int8: &mut Int8, rgb: &&[u8]| {
        bar.inc(1);
        int8.logits(rgb)
    };
    let logits = images.par_iter().map_init(|| int8.clone(), one).collect();
    bar.finish_and_clear();
    logits
}

/// What the device computes of images before it decides.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `[images][tags]`, Q16.16.
    pub logits: Vec<Vec<i32>>,
    /// Whether each image lies beyond the distance limit.
    pub beyond: Vec<bool>,
}

/// Logits of each image, and whether it lies beyond the distance limit. Images: `[side, side, 3]`
/// at the model's side.
pub fn see<T: AsRef<[u8]> + Sync>(int8: &Int8, images: &[T]) -> Result<Seen> {
    let bar = crate::progress::bar("int8", images.len() as u64);
    let one = |int8: &mut Int8, rgb: &T| {
        bar.inc(1);
        Ok((int8.logits(rgb.as_ref())?, int8.beyond()))
    };
    let seen: Result<Vec<(Vec<i32>, bool)>> = images.par_iter().map_init(|| int8.clone(), one).collect();
    bar.finish_and_clear();
    let (logits, beyond) = seen?.into_iter().unzip();
    Ok(Seen { logits, beyond })
}

/// Logits of each image in f32.
pub fn float(graph: &Graph, images: &[&[u8]]) -> Result<Vec<Vec<f32>>> {
    Runner::whole(graph)?.run_all("float", images)
}

/// Q16.16 as f32.
pub fn real(logits: &[Vec<i32>]) -> Vec<Vec<f32>> {
    logits.iter().map(|l| real_one(l)).collect()
}

/// One image's Q16.16 as f32.
pub fn real_one(logits: &[i32]) -> Vec<f32> {
    logits.iter().map(|&v| v as f32 / 65536.0).collect()
}

/// f32 as Q16.16, as the engine would give it. Fails on a value that Q16.16 cannot hold: beyond
/// 32768, or NaN.
pub fn fixed(logits: &[Vec<f32>]) -> Result<Vec<Vec<i32>>> {
    let one = |&v: &f32| logit_q16(1, v).with_context(|| format!("a float logit is {v}, expected -32768 to 32768"));
    logits.iter().map(|l| l.iter().map(one).collect()).collect()
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
