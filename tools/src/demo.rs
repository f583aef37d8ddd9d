//! Makes the shipped model: draw, train, quantise, evaluate, pack, with one seed.
//!
//! Does nothing that the single commands do not.

use crate::{evaluate, pack, quantise, synth, train};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Make the shipped parts model from nothing: synth, train, quantise, evaluate, pack.
#[derive(clap::Args, Clone, Debug)]
pub struct Demo {
    /// Bundle to write.
    #[arg(long, default_value = "models/parts.tagpin")]
    pub out: PathBuf,
    /// Folder for pictures and the run; it must not exist yet.
    #[arg(long, default_value = "runs/parts")]
    pub work: PathBuf,
    /// Pictures of each tag to train on.
    #[arg(long, default_value_t = 500)]
    pub per_tag: u64,
    /// Times that every picture is seen.
    #[arg(long, default_value_t = 24)]
    pub epochs: usize,
    /// Seed of everything; held-out pictures use the two seeds after it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs all steps and prints how long each took.
pub fn run(args: &Demo) -> Result<()> {
    if args.work.exists() {
        bail!("{} exists; name another folder or remove it", args.work.display());
    }
    let at = |name: &str| args.work.join(name);
    let begin = std::time::Instant::now();
    let mut last = 0.0;
    let mut done = |what: &str| {
        let now = begin.elapsed().as_secs_f64();
        println!("== {what}: {:.0} s, {now:.0} s so far", now - last);
        last = now;
    };
    let held = args.per_tag.div_ceil(4).max(5);
    let draw = |name: &str, per_tag: u64, seed: u64, beyond: bool| {
        synth::run(&synth::Synth { out: at(name), per_tag, seed: args.seed + seed, beyond })
    };
    draw("train", args.per_tag, 0, false)?;
    draw("in-range", held, 1, false)?;
    draw("beyond", held, 2, true)?;
    done("synth");
    let (data, run) = (at("train"), at("run"));
    let train =
        train::Train { data: data.clone(), out: run.clone(), epochs: args.epochs, batch: 32, rate: 4e-3, seed: args.seed };
    train::run(&train)?;
    done("train");
    quantise::run(&quantise::Quantise { run: run.clone(), data: data.clone(), pictures: 400, clip: 1 })?;
    done("quantise");
    let tests = vec![format!("in range={}", at("in-range").display()), format!("beyond={}", at("beyond").display())];
    evaluate::run(&evaluate::Evaluate { run: run.clone(), train: data, tests, ignore: Some("empty".into()) })?;
    done("evaluate");
    pack::run(&pack::Pack {
        run: Some(run),
        onnx: None,
        tags: None,
        mean: Vec::new(),
        std: Vec::new(),
        fit: "crop".into(),
        task: "multiclass".into(),
        out: args.out.clone(),
        force: true,
    })?;
    done("pack");
    Ok(())
}
