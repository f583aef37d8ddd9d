//! Host-side tools: from tagged images to an int8 bundle for tagpin.
#![allow(missing_docs)]

mod backbone;
mod bar;
mod baseline;
mod bundle;
mod data;
mod decision;
mod demand;
mod demo;
mod distance;
mod evaluate;
mod features;
mod general;
mod good;
mod graph;
mod graphs;
mod head;
mod judged;
mod latency;
mod looks;
mod metrics;
mod pack;
mod parity;
mod predict;
mod progress;
mod quantise;
mod recorded;
mod report;
mod run;
mod run_folder;
mod runs;
mod small;
mod synth;
mod train;
mod tune;
mod verdict;
mod wheel;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "tagpin-tools", version, about = "From a folder of tagged images to a proven int8 model for tagpin")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Folder in which the data's images lie now, if it was moved since the split was made.
    #[arg(long, global = true, value_name = "FOLDER")]
    root: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Check, split and convert tagged images.
    #[command(subcommand)]
    Dataset(Dataset),
    Backbone(backbone::Backbone),
    Train(Box<train::Train>),
    Quantise(quantise::Quantise),
    Distance(distance::DistanceArgs),
    Tune(tune::Tune),
    Evaluate(evaluate::Evaluate),
    Parity(parity::Parity),
    Report(report::Report),
    Runs(runs::Runs),
    Pack(pack::Pack),
    Bundle(bundle::BundleArgs),
    Synth(synth::Synth),
    Graphs(graphs::Graphs),
    Demo(demo::Demo),
    General(general::General),
    Bar(bar::Bar),
}

#[derive(Subcommand)]
enum Dataset {
    Check(data::check::Check),
    Split(data::split::SplitArgs),
    Convert(data::convert::Convert),
}

fn main() -> ExitCode {
    tagpin::broken_pipe::end_when_reader_leaves();
    let features = [("cuda", cfg!(feature = "cuda")), ("wgpu", cfg!(feature = "wgpu"))];
    let commit = git_version::git_version!(args = ["--always", "--dirty", "--abbrev=12"], fallback = "");
    let version = tagpin::version::described(env!("CARGO_PKG_VERSION"), commit, &features);
    let given = Cli::command().long_version(version).get_matches();
    let cli = Cli::from_arg_matches(&given).unwrap_or_else(|e| e.exit());
    if let Some(root) = cli.root {
        data::split::MOVED.get_or_init(|| root);
    }
    let outcome = match cli.command {
        Command::Dataset(Dataset::Check(args)) => data::check::run(&args),
        Command::Dataset(Dataset::Split(args)) => data::split::run(&args),
        Command::Dataset(Dataset::Convert(args)) => data::convert::run(&args),
        Command::Backbone(args) => backbone::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Quantise(args) => quantise::run(&args),
        Command::Distance(args) => distance::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Parity(args) => match parity::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(e) => Err(e),
        },
        Command::Report(args) => report::run(&args),
        Command::Runs(args) => match runs::run(&args) {
            Ok(code) => return code,
            Err(e) => Err(e),
        },
        Command::Pack(args) => pack::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Synth(args) => synth::run(&args),
        Command::Graphs(args) => graphs::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::General(args) => general::run(&args),
        Command::Bar(args) => bar::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<progress::Interrupted>() => {
            eprintln!("{e}");
            ExitCode::from(130)
        }
        Err(e) => {
            // The exit code says it as well, to whoever closed the pipe.
            tagpin::terminal::tell_problem("error", &format!("{e:#}"));
            ExitCode::from(2)
        }
    }
}
