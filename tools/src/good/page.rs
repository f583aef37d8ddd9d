//! The page of a model of good images: false rejects, drift, the least and the most typical parts.

use super::Report;
use crate::report::{table, text, thumbnail, with_interval};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::path::PathBuf;

/// Images shown of either kind.
const SHOWN: usize = 12;

/// The whole page.
pub(super) fn html(r: &Report) -> Markup {
    let mut order: Vec<&(PathBuf, f64)> = r.order.iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let least: Vec<_> = order.iter().take(SHOWN).copied().collect();
    let most: Vec<_> = order.iter().rev().take(SHOWN).copied().collect();
    let d = &r.distance;
    let rows: Vec<Vec<Markup>> = d
        .held_out
        .iter()
        .chain(&d.foreign)
        .map(|c| vec![text(&c.name), text(c.images), text(c.beyond), with_interval(c.share())])
        .collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "good parts only" }
                style { (PreEscaped(include_str!("../report/style.css"))) }
            }
            body {
                header {
                    p.dim { "tagpin model of good parts only" }
                    h1 { "good" }
                    p { "False rejects: " (with_interval(r.false_rejects.share())) " of " (r.false_rejects.images)
                        " good images, each measured by a fit without it; the limit was set by the same images in changed light." }
                    @match &r.bad {
                        None => p { "Recall is unknown: no images of bad parts were given (--bad DIR)." },
                        Some(bad) => p {
                            "Recall of bad images: " (with_interval(bad.recall())) ", AUROC " (format!("{:.3}", bad.auroc)) "."
                            @if bad.tuned { " The limit was set by these images, so both figures flatter it." }
                        },
                    }
                }
                main {
                    section {
                        h2 { "Distance" }
                        p { (d.line()) ". Fitted with " (d.changes) "." }
                        (table(&["images", "number", "foreign", "share"], &rows))
                    }
                    section {
                        h2 { "Drift" }
                        p { "Distance over the images' order. Rank correlation " (format!("{:.2}", r.drift)) ": "
                            @if r.drifts { "later images differ from earlier ones." } @else { "this may be chance." } }
                        (plot(r))
                    }
                    section { h2 { "Least typical" } (shown(&least)) }
                    section { h2 { "Most typical" } (shown(&most)) }
                }
            }
        }
    }
}

fn shown(images: &[&(PathBuf, f64)]) -> Markup {
    html! {
        div style="display:flex;flex-wrap:wrap;gap:0.5rem" {
            @for (path, distance) in images {
                figure {
                    @if let Some(url) = thumbnail(path) { img src=(url) alt=(path.display()); }
                    figcaption { (format!("{distance:.2}")) " " span.dim { (path.file_name().unwrap_or_default().to_string_lossy()) } }
                }
            }
        }
    }
}

/// A dot an image, and the limit as a line.
fn plot(r: &Report) -> Markup {
    let (width, height) = (460.0, 200.0);
    let top = r.order.iter().map(|(_, d)| *d).fold(r.distance.limit, f64::max).max(1e-9) * 1.05;
    let x = |i: usize| 5.0 + (width - 10.0) * i as f64 / (r.order.len() - 1).max(1) as f64;
    let y = |d: f64| height - 5.0 - (height - 10.0) * d / top;
    let limit = y(r.distance.limit);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label="distance over the images' order" {
            line x1="5" x2=(width - 5.0) y1=(format!("{limit:.1}")) y2=(format!("{limit:.1}")) stroke="currentColor" stroke-dasharray="4" {}
            @for (i, (_, d)) in r.order.iter().enumerate() {
                circle cx=(format!("{:.1}", x(i))) cy=(format!("{:.1}", y(*d))) r="2" fill="currentColor" {}
            }
        }
    }
}
