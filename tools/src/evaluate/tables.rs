//! The figures as `evaluate` prints them.

use super::Evaluation;
use crate::metrics;
use crate::progress::tell;
use crate::run::Run;

/// Figures as tables.
pub fn text(e: &Evaluation, run: &Run) -> String {
    let mut s = String::new();
    for f in &e.sets {
        tell!(s, "\n{} ({} images counted)", f.name, f.counted);
        tell!(s, "  top-1    int8 {}   float {}   difference {}", f.int8, f.float, f.difference);
        tell!(s, "  macro-F1 {}   mAP {}", f.macro_f1, f.map);
        tell!(s, "  calibration error {:.3}, {:.3} before the temperature", f.ece[1], f.ece[0]);
        for (name, right) in &f.baselines {
            tell!(s, "  {name} {right:.3}");
        }
        tell!(
            s,
            "  {:<18}{:>8}{:>8}{:>11}{:>24}{:>8}{:>11}{:>12}{:>10}",
            "tag",
            "train",
            "here",
            "precision",
            "recall",
            "AP",
            "threshold",
            "precision",
            "recall"
        );
        for t in &f.tags {
            let recall = t.recall.map_or("-".into(), |r| r.to_string());
            tell!(
                s,
                "  {:<18}{:>8}{:>8}{:>11}{recall:>24}{:>8}{:>11.3}{:>12}{:>10}",
                t.tag,
                t.train,
                t.images,
                metrics::show(t.precision),
                metrics::show(t.ap),
                t.threshold,
                metrics::show(t.precision_at),
                metrics::show(t.recall_at)
            );
        }
        for t in f.tags.iter().filter(|t| t.images == 0) {
            tell!(s, "  {}: no image here, so nothing is known of it", t.tag);
        }
        let d = f.decided;
        tell!(
            s,
            "  at the thresholds: {} right, {} wrong, {} for review, {} unknown, {} foreign",
            d.right,
            d.wrong,
            d.review,
            d.unknown,
            d.foreign
        );
    }
    tell!(s, "\nslices of the test images, worst first");
    for part in e.slices.iter().take(8) {
        tell!(s, "  {:<40}{:>6}   {}", part.name, part.images, part.right);
    }
    if e.shifted.len() > 1 {
        tell!(s, "\nchanged images ({})", e.shifted[0].decided.images);
        for shift in &e.shifted {
            let d = shift.decided;
            let share = |n: usize| 100.0 * n as f64 / d.images.max(1) as f64;
            tell!(
                s,
                "  {:<26} right {:>5.1} %   passed and wrong {:>5.1} %   unknown {:>5.1} %   foreign {:>5.1} %",
                shift.name,
                100.0 * shift.right,
                share(d.wrong),
                share(d.unknown),
                share(d.foreign)
            );
        }
    }
    tell!(s, "\nnot an image of any tag");
    for i in &e.invalid {
        tell!(
            s,
            "  {:<12}{:>3} of {:<3} pass a threshold, {:>3} as a good part   highest {:.3} ({})",
            i.name,
            i.accepted,
            i.images,
            i.passes,
            i.highest,
            i.tag
        );
    }
    if e.looks > 1 {
        tell!(
            s,
            "\nwarning: test images of this split were looked at {} times; choices made by them bias the figures",
            e.looks
        );
    }
    for w in &run.record.warnings {
        tell!(s, "warning: {w}");
    }
    s
}
