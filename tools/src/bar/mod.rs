//! `bar`: measures the tools' own quality figures on the data and seeds given.
//!
//! Each figure is computed from what a user would get; nothing here is used elsewhere.

mod foreign;
mod good_only;
mod leak;
mod twins;
mod verdict;
mod worlds;

use anyhow::Result;

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
    Verdict(verdict::Args),
}

/// Runs the subcommand.
pub fn run(args: &Bar) -> Result<()> {
    match &args.command {
        Command::Twins(args) => twins::run(args),
        Command::GoodOnly(args) => good_only::run(args),
        Command::Foreign(args) => foreign::run(args),
        Command::Leak(args) => leak::run(args),
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
