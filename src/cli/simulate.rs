//! `tagpin simulate`: device.toml on a simulated belt, before one buys the real one; and the long run that must not lose a part.
//!
//! Decides nothing: it makes a script of its arguments and prints what came of it.

use super::{Model, PARTS, Refused};
use crate::bundle::Bundle;
use crate::engine::Engine;
use crate::settings::{Settings, SettingsError};
use crate::simulate::{self, Fault, Outcome, Quantile, Script, Spread, view};
use crate::time::Micros;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Arguments of `simulate`.
#[derive(clap::Args, Debug)]
pub(super) struct Simulate {
    /// Bundle whose tags and inference time count [default: models/parts.tagpin]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Settings of the device (device.toml) in gate mode; without it the built-in demonstration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Parts on the belt
    #[arg(long, default_value_t = 200)]
    parts: u64,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds from one part to the next: one number, or two as LO..HI
    #[arg(long, default_value = "500..700", value_name = "MS")]
    spacing_ms: Range,
    /// Milliseconds for which a part is in view
    #[arg(long, default_value_t = 200.0, value_name = "MS")]
    view_ms: f64,
    /// The camera's frames a second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    fps: u32,
    /// Milliseconds from a frame's exposure until it is there: one number, or LO..HI
    #[arg(long, default_value = "10..20", value_name = "MS")]
    arrival_ms: Range,
    /// Inference times of `tagpin bench --json` from the board that is meant; without it this machine is timed
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    /// Faults a million cases, as NAME=RATE with names lost, corrupt, gone, engine, touching, write; several by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME=RATE")]
    faults: Vec<Rate>,
    /// Encoder counts a second, for delays in counts
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    counts_per_second: u32,
    /// The long run: so many parts under a heavy-tailed model and every kind of fault; exit 1 if one is lost, swapped, doubled or unsafe
    #[arg(long, value_name = "PARTS")]
    soak: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A number or two.
#[derive(Clone, Copy, Debug)]
struct Range(f64, f64);

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.parse::<f64>().ok().filter(|n| (0.001..=600_000.0).contains(n));
        let (lo, hi) = text.split_once("..").unwrap_or((text, text));
        match (number(lo), number(hi)) {
            (Some(lo), Some(hi)) if lo <= hi => Ok(Self(lo, hi)),
            _ => Err("expected milliseconds, as 500 or 400..600".into()),
        }
    }
}

/// A fault and how often it strikes in a million cases.
#[derive(Clone, Copy, Debug)]
struct Rate(Fault, u32);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rate) = text.split_once('=').ok_or("expected NAME=RATE, as lost=5000")?;
        let fault = Fault::ALL.into_iter().find(|f| f.name() == name);
        let names: Vec<&str> = Fault::ALL.iter().map(|f| f.name()).collect();
        let fault = fault.ok_or_else(|| format!("\"{name}\", expected {}", names.join(", ")))?;
        let rate = rate.parse().ok().filter(|r| *r <= 1_000_000);
        Ok(Self(fault, rate.ok_or_else(|| format!("{text}: expected a rate of 0..=1000000"))?))
    }
}

fn ms(ms: f64) -> Micros {
    Micros((ms * 1000.0) as u64)
}

fn spread(range: Range) -> Spread {
    Spread { lo: ms(range.0), hi: ms(range.1) }
}

pub(super) fn run(args: &Simulate) -> Result<u8, Refused> {
    let model = Model::read(args.bundle.as_deref().unwrap_or(PARTS.as_ref()))?;
    let bundle = model.bundle()?;
    if let Some(parts) = args.soak {
        return soak(args, &bundle, parts);
    }
    let settings = super::settings(args.settings.as_deref(), &bundle, args.settings.is_none());
    let settings = settings.map_err(|e| Refused(e.0))?;
    let (inference, timed) = match &args.bench {
        Some(path) => (from_bench(path)?, format!("from {}", path.display())),
        None => (timed_here(&bundle)?, "timed on this machine".into()),
    };
    let script = Script {
        seed: args.seed,
        parts: args.parts,
        spacing: spread(args.spacing_ms),
        in_view: ms(args.view_ms),
        fps: args.fps,
        arrival: spread(args.arrival_ms),
        inference,
        faults: args.faults.iter().map(|r| (r.0, r.1)).collect(),
        counts_per_second: args.counts_per_second,
    };
    let outcome = simulate::run(&bundle, &settings, &script)?;
    /// Parts at each spacing that is tried.
    const TRIED: u64 = 2000;
    let fastest = simulate::fastest(&bundle, &settings, &script, TRIED)?;
    if args.json {
        println!("{}", to_json(&outcome, fastest.as_ref()));
    } else {
        let names: Vec<&str> = settings.outputs.iter().map(|o| o.name.as_str()).collect();
        report(&outcome, fastest.as_ref(), &names, &settings, &timed);
    }
    Ok(!outcome.verdict.is_clean() as u8)
}

fn soak(args: &Simulate, bundle: &Bundle<'_>, parts: u64) -> Result<u8, Refused> {
    let settings = match &args.settings {
        Some(path) => super::settings(Some(path), bundle, false),
        None => super::model_tags(bundle, Settings::soak),
    };
    let settings = settings.map_err(|e: SettingsError| Refused(e.0))?;
    let script = Script {
        seed: args.seed,
        parts,
        spacing: Spread { lo: ms(60.0), hi: ms(130.0) },
        in_view: ms(60.0),
        fps: 60,
        arrival: Spread { lo: ms(4.0), hi: ms(12.0) },
        inference: Quantile::heavy(ms(12.0), ms(30.0), ms(300.0), ms(1900.0)),
        faults: vec![
            (Fault::FrameLost, 5000),
            (Fault::FrameCorrupt, 3000),
            (Fault::CameraGone, 20),
            (Fault::Engine, 1000),
            (Fault::Touching, 1000),
            (Fault::Write, 500),
        ],
        counts_per_second: args.counts_per_second,
    };
    let outcome = simulate::run(bundle, &settings, &script)?;
    let v = outcome.verdict;
    let faults: u64 = outcome.faults.iter().map(|(_, n)| n).sum();
    println!(
        "parts={} lost={} swapped={} doubled={} faults={faults} unsafe={}",
        outcome.parts, v.lost, v.swapped, v.doubled, v.not_safe
    );
    let kinds: Vec<String> = outcome.faults.iter().map(|(name, n)| format!("{name} {n}")).collect();
    println!(
        "seed {}, {:.1} h of line time, up to {} parts in flight, {} edges, {} parts late, {} without an answer; faults: {}",
        args.seed,
        outcome.line_time.0 as f64 / 3.6e9,
        outcome.most_in_flight,
        outcome.edges,
        outcome.late,
        outcome.undecided,
        kinds.join(", ")
    );
    Ok(!v.is_clean() as u8)
}

/// Median, 90th, 99th and largest of preprocessing and inference together, from `bench --json`.
fn from_bench(path: &Path) -> Result<Quantile, Refused> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("--bench {name}: cannot be read: {e}"))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| format!("--bench {name}: {e}; expected the output of `tagpin bench MODEL --json`"))?;
    let of = |quantile: &str| -> Result<Micros, String> {
        let stages = &value["stages"];
        let infer = stages["infer"][quantile].as_f64().filter(|t| (0.0..=600_000.0).contains(t));
        let infer = infer.ok_or_else(|| format!("--bench {name}: no stages.infer.{quantile} in milliseconds"))?;
        Ok(ms(infer + stages["preprocess"][quantile].as_f64().unwrap_or(0.0).clamp(0.0, 600_000.0)))
    };
    Ok(Quantile::measured(of("p50")?, of("p90")?, of("p99")?, of("max")?))
}

/// The bundle's inference on this machine.
fn timed_here(bundle: &Bundle<'_>) -> Result<Quantile, Refused> {
    let mut engine = Engine::from_bundle(bundle)?;
    let (input, mut logits) = (vec![0; engine.spec().input.iter().product()], vec![0; engine.spec().logits]);
    let mut times = Vec::with_capacity(100);
    engine.infer(&input, &mut logits)?;
    for _ in 0..100 {
        let begin = std::time::Instant::now();
        engine.infer(&input, &mut logits)?;
        times.push(Micros(begin.elapsed().as_micros() as u64));
    }
    times.sort_unstable();
    Ok(Quantile::measured(times[49], times[89], times[98], times[99]))
}

fn utilisation(o: &Outcome) -> f64 {
    100.0 * o.busy.0 as f64 / o.line_time.0.max(1) as f64
}

fn to_json(o: &Outcome, fastest: Option<&(Micros, Outcome)>) -> Value {
    let v = o.verdict;
    let [p50, p99, p999, max] = o.to_verdict;
    let faults: serde_json::Map<String, Value> = o.faults.iter().map(|(k, n)| (k.to_string(), json!(n))).collect();
    json!({
        "schema": 1, "parts": o.parts, "lost": v.lost, "swapped": v.swapped, "doubled": v.doubled, "unsafe": v.not_safe,
        "faults": faults, "late": o.late, "undecided": o.undecided, "most_in_flight": o.most_in_flight,
        "line_time": o.line_time.0, "utilisation_percent": (utilisation(o) * 100.0).round() / 100.0,
        "to_verdict": { "p50": p50, "p99": p99, "p999": p999, "max": max },
        "fastest": fastest.map(|(spacing, _)| json!({ "spacing": spacing.0, "parts_per_second": 1e6 / spacing.0 as f64 })),
    })
}

fn report(o: &Outcome, fastest: Option<&(Micros, Outcome)>, names: &[&str], settings: &Settings, timed: &str) {
    let width = if std::io::stdout().is_terminal() {
        rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |s| s.ws_col as usize)
    } else {
        100
    };
    print!("{}", view::draw(&o.shown, names, width.saturating_sub(50).clamp(20, 100)));
    let ms = |us: u32| us as f64 / 1000.0;
    let [p50, p99, p999, max] = o.to_verdict;
    println!(
        "\n{} parts in {:.0} s: {} late, {} without an answer, up to {} in flight; the model (times {timed}) works {:.1} % of the time",
        o.parts,
        o.line_time.0 as f64 / 1e6,
        o.late,
        o.undecided,
        o.most_in_flight,
        utilisation(o)
    );
    println!(
        "from trigger to verdict: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, largest {:.1} ms; the first gate is {:.1} ms away",
        ms(p50),
        ms(p99),
        ms(p999),
        ms(max),
        settings.first_gate().map_or(0.0, |g| g.0 as f64 / 1000.0)
    );
    let faults: Vec<String> = o.faults.iter().filter(|(_, n)| *n > 0).map(|(k, n)| format!("{k} {n}")).collect();
    if !faults.is_empty() {
        println!("faults of the script: {}", faults.join(", "));
    }
    let v = o.verdict;
    println!("against the belt: {} lost, {} swapped, {} doubled, {} unsafe", v.lost, v.swapped, v.doubled, v.not_safe);
    match fastest {
        Some((spacing, at)) => println!(
            "fastest line without a late or unseen part: one part in {:.1} ms, {:.1} parts a second (2000 tried; the model works {:.0} % of the time)",
            spacing.0 as f64 / 1000.0,
            1e6 / spacing.0 as f64,
            utilisation(at)
        ),
        None => {
            println!("no spacing up to 10 s was free of late or unseen parts: see the times from trigger to verdict above")
        }
    }
}
