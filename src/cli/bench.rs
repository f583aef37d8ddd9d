//! `tagpin bench`: how long a model takes, stage by stage; one warm-up, then exactly the inferences
//! that were asked for.
//!
//! It uses no camera. f32 exists here only to feed an engine from a raw file and to write its
//! logits into one.

use super::{Model, Refused, fitted, hex};
use crate::bundle::{Bundle, MAGIC, Tables, sha256};
use crate::engine::{Engine, EngineError, LayerReport, MAX_THREADS};
use crate::frame::{Colour, FrameView, Layout, PixelFormat};
use crate::head::Score;
use crate::preprocess::{Preprocessor, Target, quantise};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub(super) struct Bench {
    /// Bundle, or a bare int8 ONNX file
    model: PathBuf,
    /// Inferences that are timed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    iters: u32,
    /// Threads that compute a layer, 1 to 4
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_THREADS as i64))]
    threads: u8,
    /// Real input, little-endian f32 in the order of the model's own input, already normalised;
    /// without it a fixed pattern
    #[arg(long, value_name = "RAW.f32")]
    input: Option<PathBuf>,
    /// Output of the ONNX file to run, where it has several
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Write the logits of the last inference as little-endian f32
    #[arg(long, value_name = "OUT.f32")]
    dump: Option<PathBuf>,
    /// Show each layer: its kernel, multiply-adds and share of the time, and which the plain loops
    /// run
    #[arg(long)]
    layers: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Bench) -> Result<u8, Refused> {
    let begin = Instant::now();
    let model = Model::read(Some(&args.model))?;
    let bundle = model.bytes.starts_with(&MAGIC).then(|| model.bundle()).transpose()?;
    if let (Some(name), Some(_)) = (&args.output, &bundle) {
        let why = format!("--output {name}: {} is a bundle, whose output is its own; leave it out", args.model.display());
        return Err(why.into());
    }
    let engine = match &bundle {
        Some(bundle) => Engine::from_bundle(bundle),
        None => Engine::load_output(&model.bytes, args.output.as_deref()),
    };
    let model_sha256 = bundle.as_ref().map_or_else(|| sha256(&model.bytes), |b| b.sha256);
    // With a bare model there is no contract, so nothing says how to preprocess, or what follows
    // its logits.
    let mut camera = bundle.as_ref().map(Camera::new);
    let head = bundle.as_ref().map(|b| (b.contract.task, b.contract.temperature()));
    // As `run` does: the engine and what was just read of the contract are all that is needed.
    drop(bundle);
    drop(model);
    let engine = engine.and_then(|engine| engine.with_threads(args.threads.into()));
    let mut engine = engine.map_err(|e| format!("{}: {e}", args.model.display()))?;
    let spec = engine.spec().clone();
    let [h, w, c] = spec.input;
    let input = match &args.input {
        None => Tensor::Codes((0..h * w * c).map(|i| (i * 89 % 251) as u8 as i8).collect()),
        Some(path) => {
            let bytes =
                crate::regular::read(path, crate::regular::LARGE).map_err(|e| format!("--input {}: {e}", path.display()))?;
            if bytes.len() != 4 * h * w * c {
                let needed = format!("the model takes {} (1x{c}x{h}x{w} f32)", 4 * h * w * c);
                return Err(format!("--input {}: {} bytes, {needed}", path.display(), bytes.len()).into());
            }
            Tensor::Reals(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        }
    };
    let mut logits = vec![0; spec.logits];
    let mut scores = vec![Score(0); spec.logits];
    let mut stages: [Vec<u64>; 3] = std::array::from_fn(|_| Vec::with_capacity(args.iters as usize));
    let mut layers = if args.layers { vec![0; engine.layers().len()] } else { Vec::new() };
    input.run(&mut engine, &mut logits, |_| ())?;
    let first = First { ms: begin.elapsed().as_secs_f64() * 1e3, anonymous: memory_kib("RssAnon") };
    for _ in 0..args.iters {
        if let Some(camera) = &mut camera {
            stages[0].push(camera.preprocess()?);
        }
        let begin = Instant::now();
        match args.layers {
            true => time_layers(&mut engine, &input, &mut logits, &mut layers)?,
            false => input.run(&mut engine, &mut logits, |_| ())?,
        }
        stages[1].push(begin.elapsed().as_nanos() as u64);
        if let Some((task, temperature)) = head {
            let begin = Instant::now();
            task.score(&logits, temperature, &mut scores);
            stages[2].push(begin.elapsed().as_nanos() as u64);
        }
    }
    if let Some(path) = &args.dump {
        let bytes: Vec<u8> = logits.iter().flat_map(|&l| (l as f32 / 65536.0).to_le_bytes()).collect();
        std::fs::write(path, bytes).map_err(|e| format!("--dump {}: {e}", path.display()))?;
    }
    report(args, &model_sha256, &engine, &mut stages, first, &layers);
    Ok(0)
}

/// What is given to the model: a fixed pattern of codes, or a file's values.
enum Tensor {
    Codes(Vec<i8>),
    Reals(Vec<f32>),
}

impl Tensor {
    fn run(&self, engine: &mut Engine, logits: &mut [i32], after: impl FnMut(usize)) -> Result<(), EngineError> {
        match self {
            Self::Codes(codes) => engine.infer_watched(codes, logits, after),
            Self::Reals(values) => engine.infer_reals(values, logits, after),
        }
    }
}

/// Runs one inference and adds to each layer's nanoseconds those that it took.
fn time_layers(engine: &mut Engine, input: &Tensor, logits: &mut [i32], spent: &mut [u64]) -> Result<(), Refused> {
    let mut begin = Instant::now();
    input.run(engine, logits, |layer| {
        let now = Instant::now();
        spent[layer] += (now - begin).as_nanos() as u64;
        begin = now;
    })?;
    Ok(())
}

/// A table of the layers, one line each.
fn show_layers(layers: &[LayerReport], spent: &[u64], iters: u32) {
    let all = spent.iter().sum::<u64>().max(1) as f64;
    println!("{:>5} {:>8} {:>10} {:>7}  kernel", "layer", "M macs", "ms", "time");
    for (i, (layer, spent)) in layers.iter().zip(spent).enumerate() {
        let row = format!(
            "{i:>5} {:>8.2} {:>10.3} {:>5.1} %  {}{}",
            layer.macs as f64 / 1e6,
            *spent as f64 / 1e6 / iters as f64,
            *spent as f64 / all * 100.0,
            layer.kernel,
            if layer.scalar { "  SCALAR" } else { "" }
        );
        println!("{}", fitted(&row, 35));
    }
    let scalar: u64 = layers.iter().zip(spent).filter(|(layer, _)| layer.scalar).map(|(_, spent)| spent).sum();
    let told = format!(
        "{:.1} % of the time in scalar layers (weights of an output more than 255 apart, or all by choice)",
        scalar as f64 / all * 100.0
    );
    println!("{}", fitted(&told, 4));
}

/// Preprocessing of a 640x480 YUYV frame, the commonest of USB cameras.
struct Camera {
    preprocessor: Preprocessor,
    layout: Layout,
    bytes: Vec<u8>,
    table: Vec<u8>,
    tensor: Vec<i8>,
}

impl Camera {
    fn new(bundle: &Bundle<'_>) -> Self {
        let input = bundle.contract.input;
        debug_assert_eq!(input.tables.int8.len(), Tables::LEN);
        let layout = Layout::packed(PixelFormat::Yuyv, Colour::default(), 640, 480);
        Self {
            preprocessor: Preprocessor::new(Target::of(&input, None)),
            layout,
            bytes: (0..640 * 480 * 2).map(|i| (i * 37 % 253) as u8).collect(),
            table: input.tables.int8.to_vec(),
            tensor: vec![0; input.width as usize * input.height as usize * 3],
        }
    }

    fn preprocess(&mut self) -> Result<u64, Refused> {
        let begin = Instant::now();
        let rgb = self.preprocessor.image(&FrameView::new(self.layout, &self.bytes)?)?;
        quantise(rgb, &self.table, &mut self.tensor);
        Ok(begin.elapsed().as_nanos() as u64)
    }
}

/// When the first score was there, and what memory was held then.
struct First {
    ms: f64,
    anonymous: Option<u64>,
}

/// A line of /proc/self/status in KiB: VmHWM, the largest resident memory so far, or RssAnon, what
/// of it is no file's now. Nothing where the system does not tell.
fn memory_kib(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let rest = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn report(args: &Bench, model_sha256: &[u8; 32], engine: &Engine, stages: &mut [Vec<u64>; 3], first: First, spent: &[u64]) {
    let peak = memory_kib("VmHWM");
    let mut shown = Map::new();
    if !args.json {
        let about = format!(
            "{}  kernels {}, {}, {} iterations, {:.2} M multiply-adds, {} KiB of activations, {} KiB of them written an inference",
            args.model.display(),
            engine.kernels().name(),
            if args.threads == 1 { "1 thread".into() } else { format!("{} threads", args.threads) },
            args.iters,
            engine.macs() as f64 / 1e6,
            engine.arena_bytes().div_ceil(1024),
            engine.bytes_written().div_ceil(1024)
        );
        println!("{}", fitted(&about, 4));
        println!("{:<12} {:>10} {:>10} {:>10} {:>10}", "stage, ms", "p50", "p90", "p99", "max");
    }
    for (name, times) in ["preprocess", "infer", "head"].into_iter().zip(stages) {
        if times.is_empty() {
            continue;
        }
        times.sort_unstable();
        let at = |t: usize| times[(times.len() * t).div_ceil(100).max(1) - 1] as f64 / 1e6;
        let figures = [at(50), at(90), at(99), at(100)];
        if !args.json {
            let [a, b, c, d] = figures;
            println!("{name:<12} {a:>10.3} {b:>10.3} {c:>10.3} {d:>10.3}");
        }
        let [a, b, c, d] = figures.map(|ms| Value::from((ms * 1e3).round() / 1e3));
        shown.insert(name.into(), json!({ "p50": a, "p90": b, "p99": c, "max": d }));
    }
    if !args.json {
        let mib = |kib: Option<u64>| kib.map_or("unknown".into(), |k| format!("{:.1} MiB", k as f64 / 1024.0));
        let first_told = format!(
            "first score {:.1} ms after start, then {} of its own memory (weights {:.1} MiB), {} at most",
            first.ms,
            mib(first.anonymous),
            engine.weight_bytes() as f64 / 1048576.0,
            mib(peak)
        );
        println!("{}", fitted(&first_told, 4));
        if args.layers {
            show_layers(&engine.layers(), spent, args.iters);
        }
    }
    if args.json {
        let mut told = json!({
                "schema": 1, "kernel": engine.kernels().name(), "threads": args.threads, "iters": args.iters, "model_sha256": hex(model_sha256),
                "multiply_adds": engine.macs(), "arena_bytes": engine.arena_bytes(), "bytes_written": engine.bytes_written(),
                "weight_bytes": engine.weight_bytes(), "first_ms": (first.ms * 1e3).round() / 1e3, "anonymous_kib": first.anonymous, "unit": "ms", "stages": shown,
        });
        if args.layers {
            let layers = engine.layers().into_iter().zip(spent).map(|(layer, spent)| {
                let ms = *spent as f64 / 1e6 / args.iters as f64;
                json!({ "kernel": layer.kernel, "multiply_adds": layer.macs, "ms": ms, "scalar": layer.scalar })
            });
            told["layers"] = layers.collect();
        }
        println!("{told}");
    }
}
