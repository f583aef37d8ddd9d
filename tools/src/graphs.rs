//! `graphs`: random int8 networks as ONNX files, with input and answer, for another runtime to judge.
//!
//! They are the ones that the engine's own tests draw, with what the definitions say of every
//! tensor. Each lies as ONNX's own test data does: `model.onnx`, and in `test_data_set_0` the input
//! and the outputs, the first of which is what this engine answers.

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tagpin::engine::proto::{Constant, Fact, Values};
use tagpin::engine::random_graphs::{self, Drawn};
use tagpin::engine::{Engine, message};

/// Draw random int8 networks as ONNX files, each with an input and what this engine answers.
#[derive(clap::Args, Clone, Debug)]
pub struct Graphs {
    /// Number of networks.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub n: u64,
    /// Seed of the first; the others follow it. The same seed draws the same network.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to make; it must not exist yet.
    #[arg(long)]
    pub out: PathBuf,
}

/// Writes the networks.
pub fn run(args: &Graphs) -> Result<()> {
    if args.out.exists() {
        bail!("{} exists; name another folder or remove it", args.out.display());
    }
    let end = args.seed.checked_add(args.n).with_context(|| format!("--seed {} is too large", args.seed))?;
    (args.seed..end).into_par_iter().try_for_each(|seed| {
        let folder = args.out.join(format!("graph_{seed:06}"));
        write(seed, &folder).with_context(|| format!("seed {seed}"))
    })?;
    println!("{} networks from seed {} on in {}", args.n, args.seed, args.out.display());
    Ok(())
}

/// Writes the network of one seed.
fn write(seed: u64, folder: &Path) -> Result<()> {
    let drawn = random_graphs::drawn(seed);
    let facts = drawn.tensors.iter().map(|(name, t)| (name.clone(), Fact { ty: t.values.element(), dims: t.dims.clone() }));
    let model = message::model(&drawn.graph, &facts.collect::<Vec<_>>()).context("a drawn graph has a message")?;
    let onnx = model.encode_to_vec();
    let mut engine = Engine::load(&onnx)?;
    let mut logits = vec![0; engine.spec().logits];
    engine.infer(&drawn.input, &mut logits)?;
    ensure!(logits == drawn.logits, "{} answers otherwise than the definitions", engine.kernels().name());
    let (_, last) = drawn.tensors.last().context("a drawn graph has its input's tensor")?;
    let values = Values::F32(logits.iter().map(|&q| q as f32 / 65536.0).collect());
    let answer = Constant { dims: last.dims.clone(), values };
    let data = folder.join("test_data_set_0");
    std::fs::create_dir_all(&data).with_context(|| format!("{} cannot be made", data.display()))?;
    let save = |path: PathBuf, bytes: Vec<u8>| {
        std::fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
    };
    save(folder.join("model.onnx"), onnx)?;
    let outputs = std::iter::once((&drawn.graph.output, &answer)).chain(drawn.tensors.iter().map(|(name, t)| (name, t)));
    let outputs = outputs.enumerate().map(|(i, (name, values))| (format!("output_{i}.pb"), name, values));
    let input = input(&drawn);
    for (file, name, values) in std::iter::once(("input_0.pb".into(), &drawn.graph.input, &input)).chain(outputs) {
        let tensor = message::tensor(name, values).context("a drawn tensor has a message")?;
        save(data.join(file), tensor.encode_to_vec())?;
    }
    Ok(())
}

/// The input as the file wants it: what its codes stand for, channels first.
fn input(drawn: &Drawn) -> Constant {
    let dims = drawn.graph.input_dims.clone();
    let (channels, pixels) = (dims[1], dims[2] * dims[3]);
    let (scale, zero_point) = drawn.input_quant;
    let code = |i: usize| drawn.input[i % pixels * channels + i / pixels] as f32 - zero_point as f32;
    Constant { values: Values::F32((0..channels * pixels).map(|i| code(i) * scale).collect()), dims }
}
