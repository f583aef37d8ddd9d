//! `tagpin simulate`: device.toml on a simulated belt, before one buys the real one; and the long
//! run that must not lose a part.
//!
//! Decides nothing: it makes a script of its arguments and prints what came of it.

use super::{Model, Refused};
use crate::bundle::Bundle;
use crate::decide::Task;
use crate::engine::Engine;
use crate::frame::{Colour, Layout, PixelFormat};
use crate::line::MAX_PARTS;
use crate::settings::{DEMO, SOAK, Settings, TriggerKind};
use crate::simulate::drawn::{self, Coverage};
use crate::simulate::{self, Fault, ModelTag, Moves, Outcome, Plan, Quantile, Script, Spread, view};
use crate::sources::{FrameBuffer, Pacing};
use crate::supervisor::vision::Vision;
use crate::time::Micros;
use crate::triggers::{Role, TriggerSpec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What says how one belt is; the long runs draw it, or have their own.
const OF_ONE_BELT: [&str; 7] = ["parts", "spacing_ms", "view_ms", "fps", "arrival_ms", "bench", "faults"];

/// Arguments of `simulate`.
#[derive(clap::Args, Debug)]
pub(super) struct Simulate {
    /// Bundle whose tags and inference time count [default: the shipped parts model]
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
    #[arg(long, default_value = "200", value_name = "MS", value_parser = milliseconds)]
    view_ms: f64,
    /// The camera's frames a second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    fps: u32,
    /// Milliseconds from a frame's exposure until it is there: one number, or LO..HI [default:
    /// 10..20, or up to [trigger] max_latency_ms where that is less]
    #[arg(long, value_name = "MS")]
    arrival_ms: Option<Range>,
    /// Inference times of `tagpin bench --json` from the board that is meant; without it this
    /// machine is timed
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    /// Faults a million cases, as NAME=RATE: lost, corrupt, gone, engine, touching, write,
    /// told_late, stall, foreign, frozen, restart; behind a [confirm] also not_thrown, stray;
    /// several by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME=RATE")]
    faults: Vec<Rate>,
    /// Milliseconds from one change of the model to the next: one number, or LO..HI [without a
    /// number: 20..5000, as the long runs have it]; a part must be judged by the model of its trigger
    #[arg(long, num_args = 0..=1, default_missing_value = "20..5000", value_name = "MS")]
    swap: Option<Range>,
    /// Encoder counts a second, for delays in counts
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    counts_per_second: u32,
    /// The long run: this number of parts with a heavy-tailed model and every kind of fault; exit 1 if
    /// one is lost, swapped, doubled or unsafe
    #[arg(long, value_name = "PARTS", conflicts_with_all = OF_ONE_BELT)]
    soak: Option<u64>,
    /// Draw settings by seed from what device.toml can say of a gate, 500 parts each; --soak says
    /// how many parts in all
    #[arg(long, conflicts_with = "settings", conflicts_with_all = OF_ONE_BELT, conflicts_with = "counts_per_second")]
    drawn: bool,
    /// Only drawn setting I, counted from 0, shown whole
    #[arg(long, requires = "drawn", value_name = "I", value_parser = clap::value_parser!(u64).range(..u64::from(u32::MAX)))]
    only: Option<u64>,
    /// Let the simulated line itself make a mistake, to see that it is found: lose@N, the outputs
    /// are never told of part N; exit 1
    #[arg(long, value_name = "lose@N")]
    drill: Option<Lose>,
    /// Print one JSON object, of a belt that is no long run
    #[arg(long, conflicts_with_all = ["soak", "drawn"])]
    json: bool,
}

impl Simulate {
    /// The part, counted from 1, that the drill loses on a belt of `parts`.
    fn loses(&self, parts: u64) -> Result<Option<u64>, Refused> {
        match self.drill {
            Some(Lose(part)) if part > parts => {
                Err(format!("--drill lose@{part}: {parts} parts are on the belt; name one of them").into())
            }
            drill => Ok(drill.map(|Lose(part)| part)),
        }
    }

    /// Each kind of fault with its rate.
    fn faults(&self) -> Result<Vec<(Fault, u32)>, Refused> {
        let all: Vec<(Fault, u32)> = self.faults.iter().map(|Rate(fault, rate)| (*fault, *rate)).collect();
        let twice = all.iter().enumerate().find(|(i, (fault, _))| all[..*i].iter().any(|(before, _)| before == fault));
        match twice {
            Some((_, (fault, _))) => Err(format!("--faults: {} stands twice; state one rate", fault.name()).into()),
            None => Ok(all),
        }
    }
}

/// The part, counted from 1, that a drill loses.
#[derive(Clone, Copy, Debug)]
struct Lose(u64);

impl std::str::FromStr for Lose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = text.strip_prefix("lose@").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        part.map(Self).ok_or_else(|| "expected lose@N with a part counted from 1, as lose@7".into())
    }
}

/// A span of at least a microsecond and at most ten minutes.
fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| (0.001..=600_000.0).contains(n));
    number.ok_or_else(|| "expected milliseconds, 0.001..=600000".into())
}

/// A number or two.
#[derive(Clone, Copy, Debug)]
struct Range(f64, f64);

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (lo, hi) = text.split_once("..").unwrap_or((text, text));
        match (milliseconds(lo), milliseconds(hi)) {
            (Ok(lo), Ok(hi)) if lo <= hi => Ok(Self(lo, hi)),
            _ => Err("expected milliseconds, 0.001..=600000, as 500 or 400..600".into()),
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

/// The longest way of a frame that the site states, if it counts.
fn arrival(args: &Simulate, settings: &Settings) -> Spread {
    const DEFAULT: Range = Range(10.0, 20.0);
    match args.arrival_ms {
        Some(range) => spread(range),
        None => within_latency(spread(DEFAULT), settings),
    }
}

/// No longer than [trigger] max_latency_ms, where that is stated.
fn within_latency(spread: Spread, settings: &Settings) -> Spread {
    let most = settings.max_latency.unwrap_or(Micros(u64::MAX));
    Spread { lo: spread.lo.min(most), hi: spread.hi.min(most) }
}

fn spread(range: Range) -> Spread {
    Spread { lo: ms(range.0), hi: ms(range.1) }
}

/// device.toml as text, and what a line reads out of it.
struct File {
    text: String,
    settings: Settings,
}

impl File {
    /// The named file, or a built-in one.
    fn read(path: Option<&Path>, built_in: &str, name: &str, bundle: &Bundle<'_>) -> Result<Self, Refused> {
        let (text, name) = match path {
            None => (built_in.to_string(), name.to_string()),
            Some(path) => {
                let text = crate::regular::read_text(path, crate::regular::TEXT)
                    .map_err(|e| format!("{}: cannot be read: {e}", path.display()))?;
                (text, path.display().to_string())
            }
        };
        let settings = super::model_tags(bundle, |model| Settings::parse(&text, &name, model));
        Ok(Self { settings: settings.map_err(|e| Refused(e.0))?, text })
    }

    fn plan<'p>(&'p self, task: Task, tags: &'p [ModelTag]) -> Plan<'p> {
        Plan { task, tags, settings: &self.settings, text: &self.text }
    }
}

pub(super) fn run(args: &Simulate) -> Result<u8, Refused> {
    let model = Model::read(args.bundle.as_deref())?;
    let bundle = model.bundle()?;
    if args.drawn {
        return drawn(args, &bundle, args.soak.unwrap_or(500_000));
    }
    if let Some(parts) = args.soak {
        return soak(args, &bundle, parts);
    }
    let file = File::read(args.settings.as_deref(), DEMO, "the built-in demo.toml", &bundle)?;
    let tags = simulate::model_tags(&bundle);
    let plan = file.plan(bundle.contract.task, &tags);
    let (inference, timed) = match &args.bench {
        Some(path) => from_bench(path, &file.settings)?,
        None => timed_here(&bundle, &file.settings)?,
    };
    let script = Script {
        seed: args.seed,
        parts: args.parts,
        spacing: spread(args.spacing_ms),
        in_view: ms(args.view_ms),
        fps: args.fps,
        arrival: arrival(args, &file.settings),
        inference,
        faults: args.faults()?,
        counts_per_second: args.counts_per_second,
        moves: Moves::Steadily,
        model_changes: args.swap.map(spread),
        loses: args.loses(args.parts)?,
    };
    let outcome = simulate::run(&plan, &script)?;
    let fastest = Fastest::of(&plan, &script, &outcome)?;
    if args.json {
        println!("{}", to_json(&outcome, &fastest, &file.settings, &timed));
    } else {
        report(&outcome, &fastest, &file.settings, &timed);
    }
    Ok(!outcome.verdict.is_clean() as u8)
}

/// How fast the belt may run, or why it may not at all.
enum Fastest {
    /// One part in this time, and what came of it.
    Belt(Micros, Box<Outcome>),
    /// Not even parts ten seconds apart are all sorted.
    TooSlow,
    /// The watchdog ends the run for the model's longest time.
    Hangs,
    /// With the faults of the script the run ends by itself.
    Held,
}

impl Fastest {
    /// Parts at each spacing that is tried.
    const TRIED: u64 = 2000;

    fn of(plan: &Plan<'_>, script: &Script, outcome: &Outcome) -> Result<Self, Refused> {
        if simulate::hangs(plan, script) {
            return Ok(Self::Hangs);
        }
        if outcome.held > 0 {
            return Ok(Self::Held);
        }
        let found = simulate::fastest(plan, script, Self::TRIED)?;
        Ok(found.map_or(Self::TooSlow, |(spacing, outcome)| Self::Belt(spacing, Box::new(outcome))))
    }

    fn told(&self, settings: &Settings) -> String {
        match self {
            Self::Belt(spacing, at) => format!(
                "one part in {:.1} ms, {:.1} a second; the model works {:.0} % of it",
                spacing.0 as f64 / 1000.0,
                1e6 / spacing.0 as f64,
                utilisation(at)
            ),
            Self::TooSlow => "none up to 10 s from part to part: see the times above".into(),
            Self::Hangs => {
                let watchdog = settings.watchdog.micros().0 / 1000;
                format!("none: the model's longest time is above watchdog_ms {watchdog}, where the run ends as hung, exit 3")
            }
            Self::Held => {
                format!("none: the run ends, exit 3, after {} failed inferences in a row", settings.max_faults)
            }
        }
    }
}

/// What `settings` state that the simulated belt does not go by, each with what it does instead.
fn not_simulated(settings: &Settings) -> Vec<String> {
    let mut all = vec!["[source] open: frames come as --fps and --arrival-ms say".to_string()];
    let by = match settings.trigger {
        TriggerKind::Input if settings.inputs.iter().any(|i| matches!(i, TriggerSpec::Period(_))) => "kind and period_ms",
        TriggerKind::Presence(_) => "kind, roi, level, area",
        _ => "kind",
    };
    all.push(format!("[trigger] {by}: parts come as --spacing-ms says, and are in view for --view-ms"));
    if settings.inputs.iter().any(|i| i.max_jitter().is_some()) {
        all.push("[trigger] max_jitter_ms: each word is there at its part's moment".into());
    }
    let has = |wanted: Role| {
        let of = |i: &TriggerSpec| matches!(i, TriggerSpec::Gpio(g) if g.lines.iter().any(|(role, _)| *role == wanted));
        settings.inputs.iter().any(of)
    };
    if has(Role::EncoderA) {
        all.push("[encoder]: the belt runs at --counts-per-second, and no count is lost".into());
    }
    if has(Role::Acknowledge) {
        all.push("[acknowledge]: somebody presses the button every few seconds".into());
    }
    if has(Role::Confirm) {
        all.push("[confirm] debounce_ms: each part behind the gate is seen for itself".into());
    }
    if settings.outputs.iter().any(|o| o.backend.is_pin()) {
        all.push("outputs' backend: a pin moves at once".into());
    }
    all
}

/// What a long run came to.
#[derive(Default)]
struct Soaked {
    outcome: Outcome,
    settings: u64,
    refused: u64,
}

impl Soaked {
    fn add(&mut self, o: &Outcome) {
        let (sum, v) = (&mut self.outcome, o.verdict);
        sum.parts += o.parts;
        sum.verdict.lost += v.lost;
        sum.verdict.swapped += v.swapped;
        sum.verdict.doubled += v.doubled;
        sum.verdict.not_safe += v.not_safe;
        sum.line_time.0 += o.line_time.0;
        sum.model_changes += o.model_changes;
        sum.edges += o.edges;
        sum.late += o.late;
        sum.undecided += o.undecided;
        sum.given_up += o.given_up;
        sum.harmed += o.harmed;
        sum.unseen += o.unseen;
        sum.held += o.held;
        sum.hung += o.hung;
        sum.most_in_flight = sum.most_in_flight.max(o.most_in_flight);
        for (name, n) in &o.faults {
            match sum.faults.iter_mut().find(|(k, _)| k == name) {
                Some((_, all)) => *all += n,
                None => sum.faults.push((name, *n)),
            }
        }
    }

    /// Whether each kind of fault that the settings allow struck often enough; asked of a million
    /// parts only.
    fn all_struck(&self) -> bool {
        const LEAST: u64 = 40;
        self.outcome.parts < 1_000_000 || self.outcome.faults.iter().all(|(_, n)| *n >= LEAST)
    }

    /// The line that scripts read, and one for people.
    fn print(&self, seed: u64, values: Option<usize>) {
        let (o, v) = (&self.outcome, self.outcome.verdict);
        let faults: u64 = o.faults.iter().map(|(_, n)| n).sum();
        print!(
            "parts={} lost={} swapped={} doubled={} faults={faults} unsafe={}",
            o.parts, v.lost, v.swapped, v.doubled, v.not_safe
        );
        match values {
            Some(values) => {
                println!(" settings={} refused={} values={values}/{}", self.settings, self.refused, Coverage::all());
            }
            None => println!(),
        }
        let kinds: Vec<String> = o.faults.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let about = format!(
            "seed {seed}, {:.1} h of line time, up to {} parts in flight, {} edges, {} parts late, {} given up, {} without an answer, {} not followed, {} runs ended by themselves, {} changes of the model; faults: {}",
            o.line_time.0 as f64 / 3.6e9,
            o.most_in_flight,
            o.edges,
            o.late,
            o.given_up,
            o.undecided,
            o.unseen,
            o.held + o.hung,
            o.model_changes,
            kinds.join(", ")
        );
        println!("{}", super::fitted(&about, 4));
    }
}

fn soak(args: &Simulate, bundle: &Bundle<'_>, parts: u64) -> Result<u8, Refused> {
    let file = File::read(args.settings.as_deref(), SOAK, "the built-in soak.toml", bundle)?;
    let tags = simulate::model_tags(bundle);
    let script = Script { counts_per_second: args.counts_per_second, ..Script::soak(args.seed, parts) };
    let arrival = within_latency(script.arrival, &file.settings);
    let model_changes = args.swap.map(spread).or(script.model_changes);
    let script = Script { arrival, model_changes, loses: args.loses(parts)?, ..script };
    let mut soaked = Soaked::default();
    soaked.add(&simulate::run(&file.plan(bundle.contract.task, &tags), &script)?);
    soaked.print(args.seed, None);
    Ok((!soaked.outcome.verdict.is_clean() || !soaked.all_struck()) as u8)
}

/// Lines drawn by seed, each with [`PARTS_A_SETTING`] parts; the first that the ledger does not
/// agree with is shown.
fn drawn(args: &Simulate, bundle: &Bundle<'_>, parts: u64) -> Result<u8, Refused> {
    /// Parts on each drawn line.
    const PARTS_A_SETTING: u64 = 500;
    /// How often each value must be drawn in a million parts.
    const LEAST: u64 = 20;
    let loses = args.loses(PARTS_A_SETTING)?;
    let tags = simulate::model_tags(bundle);
    let (mut soaked, mut coverage) = (Soaked::default(), Coverage::default());
    let all = args.only.map_or(0..parts.div_ceil(PARTS_A_SETTING), |only| only..only + 1);
    let mut shown = false;
    for index in all {
        let drawn = drawn::draw(args.seed, index, &tags, PARTS_A_SETTING);
        soaked.settings += 1;
        let settings = super::model_tags(bundle, |model| Settings::parse(&drawn.text, "drawn", model));
        let settings = match settings {
            Ok(settings) => settings,
            Err(e) => {
                soaked.refused += 1;
                if args.only.is_some() {
                    println!("{}\n{e}", drawn.text);
                }
                continue;
            }
        };
        coverage.add(&drawn.coverage);
        let plan = Plan { task: bundle.contract.task, tags: &tags, settings: &settings, text: &drawn.text };
        let model_changes = args.swap.map(spread).or(drawn.script.model_changes);
        let script = Script { model_changes, loses, ..drawn.script };
        let outcome = simulate::run(&plan, &script)?;
        if args.only.is_some() || !outcome.verdict.is_clean() && !shown {
            shown = true;
            let first = outcome.first.as_deref().unwrap_or("every line was in its state");
            println!("# setting {index} of seed {}: {:?}, {first}\n{}", args.seed, outcome.verdict, drawn.text);
        }
        soaked.add(&outcome);
    }
    // Each value as often as its share of a million parts asks for.
    let least = (LEAST * soaked.settings * PARTS_A_SETTING / 1_000_000).max(1);
    let values = coverage.reached(least);
    soaked.print(args.seed, Some(values));
    let covered = args.only.is_some() || soaked.settings < 200 || values == Coverage::all();
    let refused = soaked.refused * 20 > soaked.settings;
    Ok((!soaked.outcome.verdict.is_clean() || refused || !covered || !soaked.all_struck()) as u8)
}

/// Median, 90th, 99th and largest of preprocessing, inference and head together, from `bench
/// --json`; beside them where they are from.
fn from_bench(path: &Path, settings: &Settings) -> Result<(Quantile, String), Refused> {
    let name = path.display();
    let text =
        crate::regular::read_text(path, crate::regular::TEXT).map_err(|e| format!("--bench {name}: cannot be read: {e}"))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| format!("--bench {name}: {e}; expected the output of `tagpin bench MODEL --json`"))?;
    let of = |quantile: &str| -> Result<Micros, String> {
        let stages = &value["stages"];
        let infer = stages["infer"][quantile].as_f64().filter(|t| (0.0..=600_000.0).contains(t));
        let infer = infer.ok_or_else(|| format!("--bench {name}: no stages.infer.{quantile} in milliseconds"))?;
        let other = |stage: &str| stages[stage][quantile].as_f64().unwrap_or(0.0).clamp(0.0, 600_000.0);
        Ok(ms(infer + other("preprocess") + other("head")))
    };
    let stated = settings.threads as u64;
    let threads = match value["threads"].as_u64().filter(|threads| *threads != stated) {
        Some(threads) => format!(", with {threads} threads where [engine] says {stated}"),
        None => String::new(),
    };
    let none = if value["stages"]["preprocess"].is_null() { ", without preprocessing: time the bundle" } else { "" };
    let times = Quantile::measured(of("p50")?, of("p90")?, of("p99")?, of("max")?);
    Ok((times, format!("from {name}{threads}{none}")))
}

/// What a frame takes from its arrival to its scores on this machine, by what the line runs: it is
/// looked at, brought to the model's input, classified and scored. `settings`: with their region of
/// interest and threads.
fn timed_here(bundle: &Bundle<'_>, settings: &Settings) -> Result<(Quantile, String), Refused> {
    let engine = Engine::from_bundle(bundle)?.with_threads(settings.threads);
    let engine = engine.map_err(|e| format!("[engine] threads: {e}"))?;
    let [width, height] = settings.roi.map_or([640, 480], |r| [(r.x + r.width).max(640), (r.y + r.height).max(480)]);
    // A pixel of this format is half of a pair.
    let width = width.next_multiple_of(2);
    let mut frame = FrameBuffer::empty();
    frame.layout = Layout::packed(PixelFormat::Yuyv, Colour::default(), width, height);
    frame.bytes = (0..width as usize * height as usize * 2).map(|i| (i * 37 % 253) as u8).collect();
    let mut vision = Vision::new(bundle, Box::new(engine), settings, Pacing::Live);
    let mut times = Vec::with_capacity(100);
    for i in 0..101u8 {
        // No two frames of a camera are the same.
        frame.bytes[0] = i;
        let begin = std::time::Instant::now();
        vision.look(&frame).map_err(|reason| reason.name())?;
        vision.preprocess(&frame).map_err(|reason| reason.name())?;
        vision.infer().map_err(|(reason, why)| format!("{}: {}", reason.name(), why.as_str()))?;
        std::hint::black_box(vision.beyond());
        times.push(Micros(begin.elapsed().as_micros() as u64));
    }
    // The first warms up.
    let times = &mut times[1..];
    times.sort_unstable();
    let threads = if settings.threads == 1 { "1 thread".into() } else { format!("{} threads", settings.threads) };
    let told = format!("timed on this machine from a frame of {width}x{height} to its scores, {threads}");
    Ok((Quantile::measured(times[49], times[89], times[98], times[99]), told))
}

fn utilisation(o: &Outcome) -> f64 {
    100.0 * o.busy.0 as f64 / o.line_time.0.max(1) as f64
}

fn to_json(o: &Outcome, fastest: &Fastest, settings: &Settings, timed: &str) -> Value {
    let v = o.verdict;
    let [p50, p99, p999, max] = o.to_verdict;
    let faults: serde_json::Map<String, Value> = o.faults.iter().map(|(k, n)| (k.to_string(), json!(n))).collect();
    let spacing = if let Fastest::Belt(spacing, _) = fastest { Some(*spacing) } else { None };
    json!({
        "schema": 1, "parts": o.parts, "lost": v.lost, "swapped": v.swapped, "doubled": v.doubled, "unsafe": v.not_safe,
        "faults": faults, "late": o.late, "given_up": o.given_up, "undecided": o.undecided, "unseen": o.unseen,
        "harmed": o.harmed, "held": o.held, "hung": o.hung, "model_changes": o.model_changes, "most_in_flight": o.most_in_flight,
        "line_time": o.line_time.0, "utilisation_percent": (utilisation(o) * 100.0).round() / 100.0,
        "model_times": timed, "to_verdict": { "p50": p50, "p99": p99, "p999": p999, "max": max },
        "fastest": spacing.map(|spacing| json!({ "spacing": spacing.0, "parts_per_second": 1e6 / spacing.0 as f64 })),
        "fastest_told": fastest.told(settings), "not_simulated": not_simulated(settings),
    })
}

fn report(o: &Outcome, fastest: &Fastest, settings: &Settings, timed: &str) {
    let width = crate::terminal::columns(&std::io::stdout()).unwrap_or(100);
    let names: Vec<&str> = settings.outputs.iter().map(|o| o.name.as_str()).collect();
    print!("{}", view::draw(&o.shown, &names, width));
    let ms = |us: u32| f64::from(us) / 1000.0;
    let [p50, p99, p999, max] = o.to_verdict.map(ms);
    let gate = settings.first_gate().map_or("by encoder counts".into(), |gate| {
        let ms = gate.0 as f64 / 1000.0;
        format!("{ms:.1} ms behind the trigger")
    });
    let v = o.verdict;
    let faults: Vec<String> = o.faults.iter().filter(|(_, n)| *n > 0).map(|(k, n)| format!("{k} {n}")).collect();
    println!();
    let flight = format!("up to {} of at most {MAX_PARTS}", o.most_in_flight);
    let ended = match o.held + o.hung {
        0 => "no".into(),
        _ => format!("{} times held, {} times hung: exit 3 each time, and started again", o.held, o.hung),
    };
    let rows = [
        ("parts", format!("{} in {:.0} s", o.parts, o.line_time.0 as f64 / 1e6)),
        ("in flight", flight),
        ("late", o.late.to_string()),
        ("given up", o.given_up.to_string()),
        ("not followed", format!("{} too close, or while no line was there", o.unseen)),
        ("without answer", format!("{} or with a frame that shows no part", o.undecided)),
        ("met by a pulse", format!("{} at a gate that another part had set", o.harmed)),
        ("run ended", ended),
        ("model changes", format!("{}, each part by the model of its trigger", o.model_changes)),
        ("faults of script", if faults.is_empty() { "none".into() } else { faults.join(", ") }),
        ("model works", format!("{:.1} % of the time", utilisation(o))),
        ("its times", timed.into()),
        ("to the verdict", format!("p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, largest {max:.1} ms")),
        ("first gate", gate),
        (
            "against the belt",
            format!("{} lost, {} swapped, {} doubled, {} unsafe", v.lost, v.swapped, v.doubled, v.not_safe),
        ),
        ("fastest belt", fastest.told(settings)),
        ("", format!("without faults; no part of {} in one of the rows above,", Fastest::TRIED)),
        ("", "each a point at its gate: add its length to the pulses".into()),
    ];
    let not = not_simulated(settings).into_iter().enumerate();
    for (what, figure) in rows.into_iter().chain(not.map(|(i, key)| (if i == 0 { "not simulated" } else { "" }, key))) {
        println!("{}", super::fitted(&format!("{what:<16}  {figure}"), 18));
    }
}
