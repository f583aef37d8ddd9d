//! Compares this run with the runs beside it: image size and multiply-adds against share right and
//! time.
//!
//! Times of all runs are measured one after the other on this machine; the other figures are
//! theirs.

use super::{plots, table, text, with_interval};
use crate::evaluate::Evaluation;
use crate::latency::Latency;
use crate::metrics::Interval;
use crate::run::{EVALUATOR, Record, Run, folders_in};
use anyhow::Result;
use maud::{Markup, html};
use std::path::Path;

/// A run that was judged on the same test images, this one among them.
pub struct Beside {
    own: bool,
    name: String,
    record: Record,
    top1: Interval,
    macro_f1: Interval,
    latency: Latency,
}

/// The proven runs in the folder that holds `run`, whose own latency is known, trained on the same
/// split: fewest multiply-adds first.
pub fn beside(run: &Run, latency: &Latency) -> Result<Vec<Beside>> {
    let own = std::path::absolute(run.folder())?;
    let Some(folder) = own.parent() else { return Ok(Vec::new()) };
    let read = |path: &Path| -> Option<Beside> {
        // A run that is damaged or half done is not this report's concern.
        let record = Record::of(path).ok()?;
        let evaluation = Evaluation::in_folder(path).ok()?;
        if record.split_sha256 != run.record.split_sha256 || evaluation.evaluator != EVALUATOR {
            return None;
        }
        let (f, own) = (&evaluation.sets[0], path == own);
        let onnx = || tagpin::regular::read(&path.join("int8.onnx"), tagpin::regular::LARGE).ok();
        let latency = if own { latency.clone() } else { Latency::of(&onnx()?).ok()? };
        Some(Beside {
            own,
            name: path.file_name()?.to_string_lossy().into_owned(),
            top1: f.int8,
            macro_f1: f.macro_f1,
            latency,
            record,
        })
    };
    let mut found: Vec<Beside> = folders_in(folder)?.iter().filter_map(|p| read(p)).collect();
    found.sort_by(|a, b| a.record.macs.cmp(&b.record.macs).then(a.name.cmp(&b.name)));
    Ok(found)
}

/// The table and the plot; how to get one, if there is only this run.
pub fn html(runs: &[Beside], side: usize) -> Result<Markup> {
    let smaller = side.saturating_sub(64).max(32);
    if runs.len() < 2 {
        return Ok(html! {
            p { "No other run in this folder was trained on the same split. The same command with " code { "--size " (smaller) } ", " code { "--split" } " and another " code { "--out" } " beside this one shows here what a smaller image gives and costs." }
        });
    }
    let row = |r: &Beside| {
        vec![
            html! { @if r.own { strong { (r.name) " (this one)" } } @else { (r.name) } },
            text(&r.record.kind),
            text(r.record.side),
            text(format!("{:.1}", r.record.macs as f64 / 1e6)),
            text(format!("{:.2}", r.latency.median_ms)),
            with_interval(r.top1),
            with_interval(r.macro_f1),
        ]
    };
    let points: Vec<(String, f64, Interval)> =
        runs.iter().map(|r| (format!("{}, {}", r.name, r.record.side), r.record.macs as f64 / 1e6, r.top1)).collect();
    Ok(html! {
        p.dim { "Runs beside this one, trained on the same split and judged on the same test images; milliseconds are one int8 image on one thread, measured in a row on this machine. Choosing by this table is choosing by test images: keep some that nobody looked at." }
        (table(&["run", "training", "size", "M multiply-adds", "ms", "top-1", "macro-F1"], &runs.iter().map(row).collect::<Vec<_>>()))
        div.plots { figure { (plots::trade(&points)?) figcaption { "share right against multiply-adds, with 95 % intervals" } } }
    })
}
