//! `tagpin inspect`: a bundle's contract, and where each node of its graph, or of a bare ONNX file, runs.
//!
//! Runs nothing.

use super::{Model, Refused, hex};
use crate::bundle::{Section, sha256};
use crate::engine::{Engine, EngineError};
use serde_json::json;
use std::path::PathBuf;

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
    let model = Model::read(&args.model)?;
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
                    "arena_bytes": engine.arena_bytes(), "nodes": nodes(&engine),
                })
            ),
            false => graph(&engine),
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
        let sections: Vec<_> = bundle.sections().map(|e| {
            json!({ "id": e.id.0, "name": Section::of(e.id.0).map(Section::name), "critical": e.critical(), "bytes": e.len, "sha256": hex(e.sha256) })
        }).collect();
        println!(
            "{:#}",
            json!({
                "schema": 1, "format": bundle.format, "sections": sections, "name": c.name, "bundle_sha256": hex(&bundle.sha256), "graph_sha256": hex(&c.graph_sha256),
                "dataset_sha256": hex(&c.dataset_sha256), "run_sha256": hex(&c.run_sha256), "task": format!("{:?}", c.task).to_lowercase(),
                "tags": tags, "temperature": c.temperature_q16 as f64 / 65536.0, "mixed": c.mixed,
                "input": { "width": c.input.width, "height": c.input.height, "fit": c.input.fit.name(), "scale": c.input.scale, "zero_point": c.input.zero_point },
                "multiply_adds": engine.macs(), "arena_bytes": engine.arena_bytes(), "nodes": nodes(&engine),
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
    println!();
    println!("{:<20} {:<6} {:>9} {:>11}", "tag", "role", "threshold", "review from");
    for t in c.tags.iter().take(32) {
        let (threshold, review) = (t.rule.threshold.to_string(), t.rule.review_low.to_string());
        println!("{:<20} {:<6} {threshold:>9} {review:>11}", t.name, t.role.name());
    }
    if c.tags.len() > 32 {
        println!("... and {} more", c.tags.len() - 32);
    }
    if bundle.format > 1 {
        println!("\n{:<24} {:>9} {:>9}", "section", "bytes", "critical");
        for e in bundle.sections() {
            println!("{:<24} {:>9} {:>9}", e.id.to_string(), e.len, if e.critical() { "yes" } else { "no" });
        }
    }
    println!();
    graph(&engine);
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

fn graph(engine: &Engine) {
    let run: Vec<_> = engine.nodes().iter().filter(|n| n.place != "folded").collect();
    println!(
        "engine   {:.2} M multiply-adds, {} KiB of activations; all {} nodes in int8, {} steps\n",
        engine.macs() as f64 / 1e6,
        engine.arena_bytes().div_ceil(1024),
        engine.nodes().len(),
        run.len()
    );
    println!("{:<28} {:<18} runs as", "node", "operator");
    for n in &run {
        println!("{:<28} {:<18} {}", n.name, n.op, n.place);
    }
    println!("and {} nodes folded into these", engine.nodes().len() - run.len());
}
