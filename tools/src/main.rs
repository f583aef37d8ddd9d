//! Host-side tools: from tagged pictures to an int8 bundle for tagpin.
#![allow(missing_docs)]

mod baseline;
mod dataset;
mod demo;
mod evaluate;
mod network;
mod onnx;
mod pack;
mod progress;
mod quantise;
mod synth;
mod train;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "tagpin-tools", version, about = "Trains, quantises, evaluates and packs models for tagpin")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Synth(synth::Synth),
    Train(train::Train),
    Quantise(quantise::Quantise),
    Evaluate(evaluate::Evaluate),
    Pack(pack::Pack),
    Demo(demo::Demo),
}

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().command {
        Command::Synth(args) => synth::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Quantise(args) => quantise::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::ExitCode::from(2)
        }
    }
}
