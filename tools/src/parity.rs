//! `parity`: proof that the int8 model on the device agrees with the float one that was trained, or where it does not.
//!
//! Does not judge the model itself, only that both say the same.

use crate::data::{self, split::Side};
use crate::decision::{self, Decision};
use crate::graph::{Op, Runner};
use crate::judged::Judged;
use crate::metrics::{self, Interval};
use crate::predict;
use crate::run::Run;
use crate::run_folder;
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tagpin::bundle::Bundle;
use tagpin::engine::Engine;

/// Compare int8 and float on held-out pictures; exit 1 if a gate is not met.
#[derive(clap::Args, Clone, Debug)]
pub struct Parity {
    /// Run folder; `parity.json` is written into it.
    #[arg(required_unless_present = "recorded")]
    pub run: Option<PathBuf>,
    #[command(flatten)]
    pub gates: Gates,
    /// Folder recorded on a board by `tagpin run --record`: replay it and compare bit for bit.
    #[arg(long, requires = "bundle")]
    pub recorded: Option<PathBuf>,
    /// The bundle that ran there.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
}

/// What must hold.
#[derive(clap::Args, Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Gates {
    /// Least agreement among pictures whose two best float scores differ by more than the margin.
    #[arg(long, default_value_t = 0.99)]
    pub agreement: f64,
    /// The margin of a sure picture.
    #[arg(long, default_value_t = 0.1)]
    pub margin: f32,
    /// Least share of sure pictures.
    #[arg(long, default_value_t = 0.85)]
    pub sure: f64,
    /// Most points of recall that a tag may lose; one picture is always allowed.
    #[arg(long, default_value_t = 0.01)]
    pub loss: f64,
}

impl Default for Gates {
    fn default() -> Self {
        Self { agreement: 0.99, margin: 0.1, sure: 0.85, loss: 0.01 }
    }
}

/// A gate and what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// What must hold, and what was found.
    pub text: String,
    /// Whether it holds.
    pub met: bool,
}

/// One tag's change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagChange {
    /// The tag.
    pub tag: String,
    /// Pictures of it.
    pub pictures: usize,
    /// Recall in float.
    pub float: f64,
    /// Recall in int8.
    pub int8: f64,
    /// int8 minus float, paired.
    pub change: Interval,
}

/// A picture whose decision differs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flip {
    /// The file.
    pub path: PathBuf,
    /// Tags that pass their thresholds in float.
    pub float: Vec<String>,
    /// Tags that pass their thresholds in int8.
    pub int8: Vec<String>,
    /// Largest difference of a score.
    pub dp: f32,
}

/// How far a layer's values are from float.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerError {
    /// The node.
    pub node: String,
    /// Root mean square of the difference over that of the value: what int8 costs up to here.
    pub error: f64,
    /// By how much it grew over its inputs' worst.
    pub added: f64,
}

/// How ONNX Runtime's int8 compares with ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Onnxruntime {
    /// Its version.
    pub version: String,
    /// Pictures compared.
    pub pictures: usize,
    /// Share with the same top logit.
    pub agreement: f64,
    /// Largest difference of a logit.
    pub largest: f32,
}

/// All that was compared: `parity.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures.
    pub pictures: usize,
    /// Share with the same top tag (multilabel: the same tags at one half).
    pub agreement: f64,
    /// Share of sure pictures.
    pub sure: f64,
    /// Agreement among them.
    pub agreement_sure: f64,
    /// Mean difference of scores.
    pub mean_dp: f64,
    /// Largest difference of a score.
    pub largest_dp: f32,
    /// Per tag.
    pub tags: Vec<TagChange>,
    /// Decisions that differ.
    pub flips: Vec<Flip>,
    /// Layers in order.
    pub layers: Vec<LayerError>,
    /// Beside ONNX Runtime, or why not.
    pub onnxruntime: Result<Onnxruntime, String>,
    /// The gates.
    pub gates: Vec<Gate>,
}

impl Figures {
    /// Whether all gates are met.
    pub fn proven(&self) -> bool {
        self.gates.iter().all(|g| g.met)
    }
}

/// Compares and writes `parity.json`.
pub fn parity(run: &Run, test: &Judged, gates: &Gates) -> Result<Figures> {
    let task = run.split.dataset.task;
    let tags = &run.split.dataset.tags;
    let decision = Decision::of(run)?;
    let fixed = predict::fixed(&test.float);
    let (fs, is) =
        (predict::scores(task, &fixed, decision.temperature()), predict::scores(task, &test.int8, decision.temperature()));
    let (float, int8) = (predict::probabilities(&fs), predict::probabilities(&is));
    let truth = test.truth();
    let n = float.len();
    ensure!(n > 0, "there are no pictures to compare on");
    let (cf, ci) = (metrics::predictions(&float, task), metrics::predictions(&int8, task));
    let agrees: Vec<bool> = cf.iter().zip(&ci).map(|(a, b)| a == b).collect();
    let margin = |s: &Vec<f32>| match task {
        crate::data::TaskName::Multiclass => {
            let top = metrics::best(s);
            let second = s.iter().enumerate().filter(|(t, _)| *t != top).map(|(_, p)| *p).fold(0.0, f32::max);
            s[top] - second
        }
        // Each tag is decided by itself at one half; a margin between two scores is twice the distance to it.
        crate::data::TaskName::Multilabel => s.iter().map(|p| (p - 0.5).abs() * 2.0).fold(1.0, f32::min),
    };
    let sure: Vec<usize> = (0..n).filter(|&i| margin(&float[i]) > gates.margin).collect();
    let share = |of: usize, all: usize| of as f64 / all.max(1) as f64;
    let agreement_sure = share(sure.iter().filter(|&&i| agrees[i]).count(), sure.len());
    let dp = |i: usize| float[i].iter().zip(&int8[i]).map(|(a, b)| (a - b).abs());
    let each: Vec<usize> = (0..n).collect();
    let change = |t: usize| {
        let of: Vec<usize> = (0..n).filter(|&i| truth[i].contains(&t)).collect();
        let found = |predictions: &[Vec<usize>], i: usize| predictions[i].contains(&t);
        let recall = |p: &[Vec<usize>]| share(of.iter().filter(|&&i| found(p, i)).count(), of.len());
        let paired = |at: &[usize]| {
            let delta = |&k: &usize| f64::from(u8::from(found(&ci, of[k]))) - f64::from(u8::from(found(&cf, of[k])));
            at.iter().map(delta).sum::<f64>() / at.len().max(1) as f64
        };
        let change = metrics::bootstrap(&each[..of.len()], 0x9a7, paired);
        TagChange { tag: tags[t].clone(), pictures: of.len(), float: recall(&cf), int8: recall(&ci), change }
    };
    let tag_changes: Vec<TagChange> = (0..tags.len()).map(change).collect();
    let names = |of: Vec<usize>| -> Vec<String> { of.into_iter().map(|t| tags[t].clone()).collect() };
    let roles = run.roles();
    let (vf, vi) = (decision.decide(task, &roles, &fs)?, decision.decide(task, &roles, &is)?);
    let flips = (0..n).filter(|&i| vf[i] != vi[i]).map(|i| Flip {
        path: test.root.join(&test.entries[i].path),
        float: names(decision::predicted(task, &vf[i])),
        int8: names(decision::predicted(task, &vi[i])),
        dp: dp(i).fold(0.0, f32::max),
    });
    let mut found = vec![
        Gate {
            text: format!(
                "agreement of {:.2} % among {} sure pictures, at least {:.2} %",
                100.0 * agreement_sure,
                sure.len(),
                100.0 * gates.agreement
            ),
            met: agreement_sure >= gates.agreement,
        },
        Gate {
            text: format!(
                "{:.1} % of pictures are sure (margin above {}), at least {:.1} %",
                100.0 * share(sure.len(), n),
                gates.margin,
                100.0 * gates.sure
            ),
            met: share(sure.len(), n) >= gates.sure,
        },
    ];
    for t in tag_changes.iter().filter(|t| t.pictures > 0) {
        let lost = t.float - t.int8;
        let allowed = gates.loss.max(1.0 / t.pictures as f64);
        if lost > allowed + 1e-9 {
            found.push(Gate {
                text: format!(
                    "tag \"{}\" loses {:.1} points of recall, at most {:.1}",
                    t.tag,
                    100.0 * lost,
                    100.0 * allowed
                ),
                met: false,
            });
        }
    }
    if found.len() == 2 {
        found.push(Gate {
            text: format!("no tag loses more than the larger of {:.1} points and one picture", 100.0 * gates.loss),
            met: true,
        });
    }
    let (layers, onnxruntime) = rayon::join(|| layers(run, test), || onnxruntime(run, test));
    let figures = Figures {
        pictures: n,
        agreement: share(agrees.iter().filter(|a| **a).count(), n),
        sure: share(sure.len(), n),
        agreement_sure,
        mean_dp: (0..n).flat_map(dp).map(f64::from).sum::<f64>() / (n * tags.len()) as f64,
        largest_dp: (0..n).flat_map(dp).fold(0.0, f32::max),
        tags: tag_changes,
        flips: flips.collect(),
        layers: layers?,
        onnxruntime: onnxruntime.map_err(|e| format!("{e:#}")),
        gates: found,
    };
    run_folder::write_json(&run.file("parity.json"), &figures)?;
    print(&figures);
    Ok(figures)
}

/// Pictures on which layers are compared: each needs all inner values twice.
const LAYER_PICTURES: usize = 8;

fn layers(run: &Run, test: &Judged) -> Result<Vec<LayerError>> {
    let graph = &run.graph;
    let taps: Vec<usize> = (0..graph.nodes.len()).filter(|&n| !matches!(graph.nodes[n].op, Op::MaxPool(_))).collect();
    let float = Runner::new(graph, &taps)?;
    let int8 = Runner::quantised(&run.int8()?, graph, &taps)?;
    let chosen: Vec<&Vec<u8>> = data::spread(test.rgb.len(), LAYER_PICTURES).map(|i| &test.rgb[i]).collect();
    let one = |rgb: &&Vec<u8>| -> Result<Vec<(f64, f64)>> {
        let (a, b) = (float.run(rgb)?, int8.run(rgb)?);
        let squares = |(a, b): (&Vec<f32>, &Vec<f32>)| {
            let of = |(x, y): (&f32, &f32)| (((x - y) as f64).powi(2), (*x as f64).powi(2));
            a.iter().zip(b).map(of).fold((0.0, 0.0), |sum, s| (sum.0 + s.0, sum.1 + s.1))
        };
        Ok(a.iter().zip(&b).map(squares).collect())
    };
    let mut sums = vec![(0.0f64, 0.0f64); taps.len()];
    for of_one in chosen.par_iter().map(one).collect::<Vec<_>>() {
        sums.iter_mut().zip(of_one?).for_each(|(sum, s)| *sum = (sum.0 + s.0, sum.1 + s.1));
    }
    let error: Vec<f64> = sums.iter().map(|(d, v)| (d / v.max(1e-30)).sqrt()).collect();
    let layer = |(k, &n): (usize, &usize)| {
        let inputs = graph.nodes[n].inputs.iter().filter_map(|e| match e {
            crate::graph::Edge::Node(i) => taps.iter().position(|t| t == i).map(|at| error[at]),
            crate::graph::Edge::Picture => Some(0.0),
        });
        let before = inputs.fold(0.0, f64::max);
        LayerError { node: graph.nodes[n].name.clone(), error: error[k], added: error[k] - before }
    };
    Ok(taps.iter().enumerate().map(layer).collect())
}

/// What runs the same file in ONNX Runtime; reads `[n][3*side*side]` f32, writes `[n][tags]` f32 and prints its version.
const SCRIPT: &str = r#"
import sys, numpy as np, onnxruntime as ort
model, source, target, side = sys.argv[1:5]
options = ort.SessionOptions()
options.log_severity_level = 3
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
x = np.fromfile(source, dtype="<f4").reshape(-1, 1, 3, int(side), int(side))
name = session.get_inputs()[0].name
np.concatenate([session.run(None, {name: p})[0].reshape(1, -1) for p in x]).astype("<f4").tofile(target)
print(ort.__version__)
"#;

fn onnxruntime(run: &Run, test: &Judged) -> Result<Onnxruntime> {
    let model = run.file("int8.onnx");
    let (source, target) = (run.file("onnxruntime.in"), run.file("onnxruntime.out"));
    let remove = || [&source, &target].map(|p| std::fs::remove_file(p).is_ok());
    let compared = compare(run, test, &model, &source, &target);
    remove();
    compared
}

fn compare(run: &Run, test: &Judged, model: &Path, source: &Path, target: &Path) -> Result<Onnxruntime> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(source)?);
    for rgb in &test.rgb {
        for v in run.graph.normalise.planes(rgb) {
            file.write_all(&v.to_le_bytes())?;
        }
    }
    file.flush()?;
    drop(file);
    let out = std::process::Command::new("python3")
        .args(["-c", SCRIPT])
        .args([model, source, target])
        .arg(run.graph.side.to_string())
        .output()
        .context("python3 is not there")?;
    if !out.status.success() {
        let error = String::from_utf8_lossy(&out.stderr);
        bail!("python3 with onnxruntime is not there: {}", error.lines().last().unwrap_or("no message"));
    }
    let values: Vec<f32> =
        std::fs::read(target)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let tags = run.split.dataset.tags.len();
    ensure!(values.len() == test.rgb.len() * tags, "onnxruntime gave {} logits", values.len());
    let ours = predict::real(&test.int8);
    let rows: Vec<&[f32]> = values.chunks_exact(tags).collect();
    let same = ours.iter().zip(&rows).filter(|(a, b)| metrics::best(a) == metrics::best(b)).count();
    let difference = |(a, b): (&Vec<f32>, &&[f32])| a.iter().zip(*b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    Ok(Onnxruntime {
        version: String::from_utf8_lossy(&out.stdout).trim().to_string(),
        pictures: rows.len(),
        agreement: same as f64 / rows.len().max(1) as f64,
        largest: ours.iter().zip(&rows).map(difference).fold(0.0, f32::max),
    })
}

fn print(f: &Figures) {
    println!("\nint8 against float on {} pictures", f.pictures);
    println!(
        "  agreement {:.2} %   mean |dp| {:.4}   largest |dp| {:.3}   {} decisions differ",
        100.0 * f.agreement,
        f.mean_dp,
        f.largest_dp,
        f.flips.len()
    );
    println!("  {:<18}{:>9}{:>8}{:>8}   change of recall", "tag", "pictures", "float", "int8");
    for t in &f.tags {
        println!("  {:<18}{:>9}{:>8.3}{:>8.3}   {}", t.tag, t.pictures, t.float, t.int8, t.change);
    }
    for flip in f.flips.iter().take(10) {
        let of = |t: &[String]| if t.is_empty() { "nothing".into() } else { t.join(";") };
        println!("  {}: {} in float, {} in int8, |dp| {:.3}", flip.path.display(), of(&flip.float), of(&flip.int8), flip.dp);
    }
    let mut worst: Vec<&LayerError> = f.layers.iter().collect();
    worst.sort_by(|a, b| b.added.total_cmp(&a.added));
    println!("  layers that add most error (share of the value's size, added by it)");
    for l in worst.iter().take(5) {
        println!("    {:<28}{:>8.4}{:>9.4}", l.node, l.error, l.added);
    }
    match &f.onnxruntime {
        Ok(o) => println!(
            "  beside ONNX Runtime {} on the same file: {:.2} % the same top tag, largest difference of a logit {:.5}",
            o.version,
            100.0 * o.agreement,
            o.largest
        ),
        Err(why) => println!("  not compared with ONNX Runtime: {why}"),
    }
    for g in &f.gates {
        println!("  {} {}", if g.met { "met     " } else { "NOT MET " }, g.text);
    }
}

/// Replays what a board recorded and compares its logits bit for bit.
fn replay(folder: &Path, bundle: &Path) -> Result<usize> {
    let bytes = std::fs::read(bundle).with_context(|| format!("{} cannot be read", bundle.display()))?;
    let bundle = Bundle::read(&bytes)?;
    let engine = Engine::from_bundle(&bundle)?;
    crate::recorded::replay(folder, &bundle, engine)
}

/// Compares a run, or replays a recording.
pub fn run(args: &Parity) -> Result<bool> {
    if let (Some(recorded), Some(bundle)) = (&args.recorded, &args.bundle) {
        let frames = replay(recorded, bundle)?;
        println!("{frames} recorded frames give the same logits and scores, bit for bit");
        return Ok(true);
    }
    let run = Run::open(args.run.as_deref().context("name a run folder, or --recorded and --bundle")?)?;
    let test = Judged::both(&run, Side::Test)?;
    Ok(parity(&run, &test, &args.gates)?.proven())
}
