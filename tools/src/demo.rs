//! Makes the shipped model: draw, train, quantise, evaluate, pack, with one seed.
//! It runs the single commands one after the other.

use crate::data::roles::RoleFlags;
use crate::run::Run;
use crate::train::domain::Domain;
use crate::{data, distance, evaluate, pack, quantise, synth, train};
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// Make the shipped parts model from nothing: synth, train, quantise, evaluate, pack.
#[derive(clap::Args, Clone, Debug)]
pub struct Demo {
    /// Bundle to write.
    #[arg(long, default_value = "models/parts.tagpin")]
    pub out: PathBuf,
    /// Folder for images and the run; it must not exist yet.
    #[arg(long, default_value = "runs/parts")]
    pub work: PathBuf,
    /// Images of each tag, for all three sides.
    #[arg(long, default_value_t = 700)]
    pub per_tag: u64,
    /// Times that every image is seen.
    #[arg(long, default_value_t = 24)]
    pub epochs: usize,
    /// Seed of everything; further held-out images use the one after it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `train`'s flags by themselves, so that their defaults are stated once.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    train: train::Train,
}

/// What the drawn parts are for.
const ABOUT: &str = r#"target = "kind of part on the belt"
unit = "part"
decision_owner = "whoever tries tagpin"
consumer = "the built-in line's outputs"
deadline_ms = 900
defects = ["gear_chipped", "washer_cracked"]
good = ["bolt", "bracket", "empty", "gear", "nut", "washer"]
"#;

/// Runs all steps and prints how long each took.
pub fn run(args: &Demo) -> Result<()> {
    if args.work.exists() {
        bail!("{} exists; name another folder or remove it", args.work.display());
    }
    let at = |name: &str| args.work.join(name);
    let mut stages = train::Stages::begin();
    let held = (args.per_tag * 15 / 100).max(5);
    let draw = |name: &str, per_tag: u64, seed: u64, beyond: bool| {
        synth::run(&synth::Synth { out: at(name), per_tag, seed: args.seed + seed, beyond })
    };
    draw("pictures", args.per_tag, 0, false)?;
    draw("beyond", held, 1, true)?;
    let about = at("about.toml");
    std::fs::write(&about, ABOUT).with_context(|| format!("{} cannot be written", about.display()))?;
    stages.done("synth");
    let flags =
        ["train", "--small", "--only", "--domain", "conveyor", "--balance", "none", "--patience", "0"].map(OsString::from);
    let given = [
        ("--data", at("pictures").into_os_string()),
        ("--about", about.into_os_string()),
        ("--out", at("run").into_os_string()),
        ("--epochs", args.epochs.to_string().into()),
        ("--seed", args.seed.to_string().into()),
    ];
    let given = given.into_iter().flat_map(|(flag, value)| [flag.into(), value]);
    train::run(&Defaults::parse_from(flags.into_iter().chain(given)).train)?;
    stages.done("train");
    let run = Run::open(&at("run"))?;
    let also = vec![format!("beyond={}", at("beyond").display())];
    let options = evaluate::Options { also, ignore: Some("empty".into()), ..evaluate::Options::default() };
    quantise::quantise_run(&run, &quantise::Options::default())?;
    stages.done("int8");
    let conveyor = distance::Options { domain: Some(Domain::Conveyor), ..distance::Options::default() };
    distance::of_run(&run, &conveyor)?;
    stages.done("distance");
    train::prove(&run, &mut stages, &options)?;
    pack::pack_run(&run, &args.out, true, &RoleFlags::default())?;
    stages.done("pack");
    println!("model {}", data::hex_hash(&run.int8()?));
    Ok(())
}
