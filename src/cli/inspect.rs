//! `tagpin inspect`: a bundle's contract, and where each node of its graph, or of a bare ONNX file,
//! runs.
//!
//! Runs a graph only where part of it runs in islands, to tell each one's share of the time.

use super::{Model, Refused, fitted, hex};
use crate::bundle::{Section, sha256};
use crate::category::Categories;
use crate::engine::{Engine, EngineError};
use crate::events::sinks::shown;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `inspect`.
#[derive(clap::Args, Debug)]
pub(super) struct Inspect {
    /// Bundle to show, or an int8 model NAME.onnx
    model: PathBuf,
    /// Output of the ONNX file to look at, where it has several
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Inspect) -> Result<u8, Refused> {
    let model = Model::read(Some(&args.model))?;
    if args.model.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        let engine = match Engine::load_output(&model.bytes, args.output.as_deref()) {
            Ok(engine) => engine,
            Err(e) => return refused(args, &e),
        };
        match args.json {
            true => println!(
                "{:#}",
                json!({
                    "schema": 1, "graph_sha256": hex(&sha256(&model.bytes)), "multiply_adds": engine.macs(),
                    "arena_bytes": engine.arena_bytes(), "nodes": nodes(&engine), "islands": islands_json(&engine)?,
                })
            ),
            false => graph(&engine)?,
        }
        return Ok(0);
    }
    let bundle = model.bundle()?;
    let engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", model.path.display()))?;
    let c = &bundle.contract;
    if args.json {
        let tags: Vec<_> = c.tags.iter().map(|t| {
            json!({ "name": t.name, "role": t.role, "threshold": t.rule.threshold.probability(), "review_low": t.rule.review_low.probability() })
        }).collect();
        let category = |c: &Categories<'_>, id| json!({ "name": c.name(id), "parent": c.parent(id).map(|p| c.name(p)), "tags": c.leaves(id).iter().count() });
        let categories: Vec<_> = bundle.categories.iter().flat_map(|c| c.ids().map(move |id| category(c, id))).collect();
        let sections: Vec<_> = bundle.sections().map(|e| {
            json!({ "id": e.id.0, "name": Section::of(e.id.0).map(Section::name), "critical": e.critical(), "bytes": e.len, "sha256": hex(e.sha256) })
        }).collect();
        println!(
            "{:#}",
            json!({
                "schema": 1, "format": bundle.format, "sections": sections, "name": c.name, "bundle_sha256": hex(&bundle.sha256), "graph_sha256": hex(&c.graph_sha256),
                "dataset_sha256": hex(&c.dataset_sha256), "run_sha256": hex(&c.run_sha256), "task": format!("{:?}", c.task).to_lowercase(),
                "tags": tags, "categories": categories, "temperature": c.temperature_q16 as f64 / 65536.0, "mixed": c.mixed,
                "input": { "width": c.input.width, "height": c.input.height, "fit": c.input.fit.name(), "scale": c.input.scale, "zero_point": c.input.zero_point },
                "multiply_adds": engine.macs(), "arena_bytes": engine.arena_bytes(), "nodes": nodes(&engine), "islands": islands_json(&engine)?,
            })
        );
        return Ok(0);
    }
    println!("{}  {:?}, {} tags, {}x{} {}", c.name, c.task, c.tags.len(), c.input.width, c.input.height, c.input.fit.name());
    println!(
        "format   {}\nbundle   {}\ngraph    {}\ndataset  {}\nrun      {}",
        bundle.format,
        hex(&bundle.sha256),
        hex(&c.graph_sha256),
        hex(&c.dataset_sha256),
        hex(&c.run_sha256)
    );
    println!(
        "input    scale {} zero point {}; temperature {:.3}",
        c.input.scale,
        c.input.zero_point,
        c.temperature_q16 as f64 / 65536.0
    );
    if let Some(spread) = &bundle.spread {
        let ((fitted_on, left_out), stages) =
            (spread.images(), spread.stages().map(|s| s.name.to_string()).collect::<Vec<_>>());
        let far = format!(
            "distance limit {}, for {:.2} % false rejects: fitted on {fitted_on} images, set by {left_out} others; {} features, {} axes, of {}",
            spread.limit(),
            spread.false_reject_ppm() as f64 / 1e4,
            spread.features(),
            spread.rank(),
            stages.join(", ")
        );
        println!("{}", fitted(&far, 9));
    }
    println!();
    println!("{:<20} {:<6} {:>9} {:>11}", "tag", "role", "threshold", "review from");
    for t in c.tags.iter().take(32) {
        let (threshold, review) = (t.rule.threshold.to_string(), t.rule.review_low.to_string());
        println!("{:<20} {:<6} {threshold:>9} {review:>11}", t.name, t.role.name());
    }
    if c.tags.len() > 32 {
        println!("... and {} more", c.tags.len() - 32);
    }
    if let Some(categories) = &bundle.categories {
        println!("\n{:<44} {:>4}   settings name it as \"category:NAME\"", "category", "tags");
        for (id, name) in categories.ids().zip(categories.names()).take(32) {
            let depth = categories.up(Some(id)).count() - 1;
            let name = shown(&format!("{:indent$}{name}", "", indent = 2 * depth), 44);
            println!("{name:<44} {:>4}", categories.leaves(id).iter().count());
        }
        if categories.ids().count() > 32 {
            println!("... and {} more; --json has all", categories.ids().count() - 32);
        }
    }
    if bundle.format > 1 {
        println!("\n{:<24} {:>9} {:>9}", "section", "bytes", "critical");
        for e in bundle.sections() {
            println!("{:<24} {:>9} {:>9}", e.id.to_string(), e.len, if e.critical() { "yes" } else { "no" });
        }
    }
    println!();
    graph(&engine)?;
    Ok(0)
}

/// Tells all that stands in the way of a bare model.
fn refused(args: &Inspect, error: &EngineError) -> Result<u8, Refused> {
    if let (true, EngineError::Refused { nodes, .. }) = (args.json, error) {
        let nodes: Vec<_> = nodes.iter().map(|n| json!({ "name": n.node, "op": n.op, "why": n.why })).collect();
        println!("{:#}", json!({ "schema": 1, "refused": nodes }));
    }
    Err(format!("{}: {error}", args.model.display()).into())
}

/// What became of each node.
fn nodes(engine: &Engine) -> Vec<serde_json::Value> {
    engine.nodes().iter().map(|n| json!({ "name": n.name, "op": n.op, "place": n.place })).collect()
}

/// An island of a graph and its share of an inference's time.
struct Island {
    kernel: String,
    share: f64,
}

/// The islands, timed over a few inferences of a fixed pattern; none of a graph that runs wholly in
/// int8.
fn islands(engine: &Engine) -> Result<Vec<Island>, EngineError> {
    const RUNS: usize = 3;
    let layers = engine.layers();
    if engine.spec().islands == 0 {
        return Ok(Vec::new());
    }
    let (mut engine, spec) = (engine.clone(), engine.spec().clone());
    let input: Vec<i8> = (0..spec.input.iter().product::<usize>()).map(|i| (i * 89 % 251) as u8 as i8).collect();
    let (mut logits, mut spent) = (vec![0; spec.logits], vec![0.0; layers.len()]);
    for _ in 0..RUNS {
        let mut begin = Instant::now();
        engine.infer_watched(&input, &mut logits, |layer| {
            spent[layer] += begin.elapsed().as_secs_f64();
            begin = Instant::now();
        })?;
    }
    let all: f64 = spent.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let timed = layers.into_iter().zip(spent).filter(|(layer, _)| layer.island);
    Ok(timed.map(|(layer, spent)| Island { kernel: layer.kernel, share: spent / all }).collect())
}

fn islands_json(engine: &Engine) -> Result<Vec<serde_json::Value>, EngineError> {
    let island = |(i, island): (usize, Island)| json!({ "island": i + 1, "kernel": island.kernel, "time_share": (island.share * 1e4).round() / 1e4 });
    Ok(islands(engine)?.into_iter().enumerate().map(island).collect())
}

fn graph(engine: &Engine) -> Result<(), EngineError> {
    let run: Vec<_> = engine.nodes().iter().filter(|n| n.place != "folded").collect();
    let islands = islands(engine)?;
    let outside = engine.nodes().iter().filter(|n| n.place.starts_with("f32 island")).count();
    let about = format!(
        "engine   {:.2} M multiply-adds, {} KiB of activations; {}, {} steps\n",
        engine.macs() as f64 / 1e6,
        engine.arena_bytes().div_ceil(1024),
        match islands.len() {
            0 => format!("all {} nodes in int8", engine.nodes().len()),
            _ => format!("{} of {} nodes in int8, {outside} in f32", engine.nodes().len() - outside, engine.nodes().len()),
        },
        engine.layers().len()
    );
    println!("{}", fitted(&about, 9));
    println!("{:<28} {:<18} runs as", "node", "operator");
    for n in &run {
        println!("{}", fitted(&format!("{:<28} {:<18} {}", n.name, n.op, n.place), 29));
    }
    println!("and {} nodes folded into these", engine.nodes().len() - run.len());
    for (i, island) in islands.iter().enumerate() {
        println!(
            "{}",
            fitted(&format!("island {}: {:.1} % of the time, {}", i + 1, island.share * 100.0, island.kernel), 9)
        );
    }
    if !islands.is_empty() {
        println!(
            "{}",
            fitted("mixed: islands allocate memory while they run, so an inference may take longer now and then", 9)
        );
    }
    Ok(())
}
