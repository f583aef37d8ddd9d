//! Plots as SVG inside the page.
//!
//! Draws with a fixed set of colours that the page's style sheet replaces, so that they fit light
//! and dark.

use crate::evaluate::TagFigures;
use crate::metrics::Interval;
use crate::run::Epoch;
use anyhow::{Result, anyhow};
use maud::{Markup, PreEscaped};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Width and height in the page's units; the page scales them.
const SIZE: (u32, u32) = (460, 300);
/// Text, axes and grid; the style sheet names the same values.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
/// Lines that can be told apart by people who see colours differently (Okabe and Ito 2008).
const LINES: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(148, 103, 60),
    RGBColor(120, 120, 120),
];

/// Points of a line and its name.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    /// A mark on it.
    dot: Option<(f64, f64)>,
}

/// What a chart shows beside its lines.
#[derive(Clone, Copy)]
struct Extras {
    diagonal: bool,
    legend_right: bool,
}

/// Neither diagonal nor a legend in the way of falling or rising curves.
const PLAIN: Extras = Extras { diagonal: false, legend_right: false };

fn chart(
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    names: [&str; 2],
    lines: &[Line],
    extras: Extras,
) -> Result<Markup> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root, x, y, names, lines, extras).map_err(|e| anyhow!("a plot cannot be drawn: {e}"))?;
        root.present().map_err(|e| anyhow!("a plot cannot be drawn: {e}"))?;
    }
    // Scaled by the page instead of fixed.
    let (w, h) = SIZE;
    let svg = svg.replacen(&format!("<svg width=\"{w}\" height=\"{h}\""), "<svg", 1);
    Ok(PreEscaped(svg))
}

fn draw<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    names: [&str; 2],
    lines: &[Line],
    extras: Extras,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 12).into_font().color(&INK);
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(44)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .x_desc(names[0])
        .y_desc(names[1])
        .x_labels(6)
        .y_labels(6)
        .draw()?;
    if extras.diagonal {
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], GRID.stroke_width(2)))?;
    }
    for (i, line) in lines.iter().enumerate() {
        let colour = LINES[i % LINES.len()];
        let series = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        series.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(line.dot.iter().map(|&at| Circle::new(at, 4, colour.filled())))?;
    }
    if lines.len() > 1 && lines.len() <= LINES.len() {
        chart
            .configure_series_labels()
            .position(if extras.legend_right { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::LowerLeft })
            .label_font(font)
            .background_style(TRANSPARENT)
            .border_style(TRANSPARENT)
            .draw()?;
    }
    Ok(())
}

/// Loss and share right by epoch, training against validation.
pub fn training(curve: &[Epoch]) -> Result<(Markup, Markup)> {
    let last = curve.len().max(2) as f64;
    let line = |name: &str, of: fn(&Epoch) -> f64| Line {
        name: name.into(),
        points: curve.iter().map(|e| (e.epoch as f64, of(e))).collect(),
        dot: None,
    };
    let losses = [line("training (changed images)", |e| e.loss), line("validation", |e| e.validation_loss)];
    let rights = [line("training (changed images)", |e| e.training), line("validation", |e| e.validation)];
    let points = |lines: &[Line]| -> Vec<f64> { lines.iter().flat_map(|l| l.points.iter().map(|p| p.1)).collect() };
    let top = points(&losses).into_iter().fold(0.1, f64::max) * 1.05;
    let low = (points(&rights).into_iter().fold(1.0, f64::min) - 0.03).max(0.0);
    Ok((
        chart(1.0..last, 0.0..top, ["epoch", "loss"], &losses, PLAIN)?,
        chart(1.0..last, low..1.0, ["epoch", "right"], &rights, PLAIN)?,
    ))
}

/// Precision against recall of each tag; of the eight worst, if there are more.
pub fn precision_recall(tags: &[TagFigures]) -> Result<Markup> {
    let mut with: Vec<&TagFigures> = tags.iter().filter(|t| !t.curve.is_empty()).collect();
    if with.len() > LINES.len() {
        with.sort_by(|a, b| a.ap.unwrap_or(0.0).total_cmp(&b.ap.unwrap_or(0.0)));
        with.truncate(LINES.len());
    }
    let lines: Vec<Line> = with
        .iter()
        .map(|t| {
            let first = t.curve.first().map(|p| (0.0, p.precision as f64));
            let points = first.into_iter().chain(t.curve.iter().map(|p| (p.recall as f64, p.precision as f64)));
            Line { name: t.tag.clone(), points: points.collect(), dot: None }
        })
        .collect();
    chart(0.0..1.0, 0.0..1.02, ["recall", "precision"], &lines, PLAIN)
}

/// Share right against score.
pub fn reliability(bins: &[(usize, f64, f64)]) -> Result<Markup> {
    let points = bins.iter().filter(|b| b.0 > 0).map(|b| (b.1, b.2)).collect();
    let line = Line { name: "int8".into(), points, dot: None };
    chart(0.0..1.0, 0.0..1.02, ["score", "right"], &[line], Extras { diagonal: true, ..PLAIN })
}

/// Share right with its interval against multiply-adds, in millions, of runs by name; at most as
/// many as there are colours.
pub fn trade(runs: &[(String, f64, Interval)]) -> Result<Markup> {
    let runs = &runs[..runs.len().min(LINES.len())];
    let line = |(name, macs, top1): &(String, f64, Interval)| Line {
        name: name.clone(),
        points: vec![(*macs, top1.low), (*macs, top1.high)],
        dot: Some((*macs, top1.value)),
    };
    let lines: Vec<Line> = runs.iter().map(line).collect();
    let most = runs.iter().map(|r| r.1).fold(0.0, f64::max);
    let (low, high) = runs.iter().fold((1.0f64, 0.0f64), |(l, h), r| (l.min(r.2.low), h.max(r.2.high)));
    // Room below for the names, in the corner where nobody wants to be: many multiply-adds and few
    // right.
    let room = (high - low).max(0.02) * 0.5;
    let extras = Extras { legend_right: true, ..PLAIN };
    let y = (low - room).max(0.0)..(high + 0.1 * room).min(1.0).max(low + 0.01);
    chart(0.0..most * 1.1, y, ["million multiply-adds", "right, int8"], &lines, extras)
}
