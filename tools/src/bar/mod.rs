//! `bar`: measures the tools' own quality figures on the data and seeds given.
//!
//! Each figure is computed from what a user would get; nothing here is used elsewhere.

mod foreign;
mod good_only;
mod leak;
mod trashnet;
mod twins;
mod verdict;
mod worlds;

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Print a figure that the tools are held to.
#[derive(clap::Args, Clone, Debug)]
pub struct Bar {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    Twins(twins::Args),
    GoodOnly(good_only::Args),
    Foreign(foreign::Args),
    Leak(leak::Args),
    Trashnet(trashnet::Args),
    Verdict(verdict::Args),
}

/// Runs the subcommand.
pub fn run(args: &Bar) -> Result<()> {
    match &args.command {
        Command::Twins(args) => twins::run(args),
        Command::GoodOnly(args) => good_only::run(args),
        Command::Foreign(args) => foreign::run(args),
        Command::Leak(args) => leak::run(args),
        Command::Trashnet(args) => trashnet::run(args),
        Command::Verdict(args) => verdict::run(args),
    }
}

/// Seeds as a range, `A..B` with both ends in it, or one.
#[derive(Clone, Debug)]
struct Seeds(std::ops::RangeInclusive<u64>);

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if from <= to => Ok(Self(from..=to)),
            _ => Err("expected A..B, as in 1..10, or one number".into()),
        }
    }
}

/// Trains on `data` as a user would, by this program's own `train` with the options `how`, into
/// the new folder `out`.
fn train(data: &Path, backbone: &Path, size: Option<usize>, seed: u64, out: &Path, how: &[&str]) -> Result<()> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("train").args(how).args(["--seed", &seed.to_string(), "--data"]).arg(data);
    command.arg("--backbone").arg(backbone).arg("--out").arg(out);
    command.args(size.iter().flat_map(|s| ["--size".to_string(), s.to_string()]));
    let done = command.output().context("train cannot be started")?;
    ensure!(done.status.success(), "train: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
