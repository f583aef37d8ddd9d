//! `report`: one self-contained page. The verdict first, then everything that it rests on.
//!
//! It shows the figures that the other commands wrote.

mod line;
mod plots;
mod trade;

use crate::data::check::Contract;
use crate::decision::Decision;
use crate::distance;
use crate::evaluate::{Decided, Evaluation, HeatMap, Mistake, SetFigures};
use crate::latency::Latency;
use crate::metrics::{self, Interval};
use crate::parity;
use crate::quantise::Quantisation;
use crate::run::Run;
use crate::run_folder::{self, read_json};
use crate::verdict::{Answer, Verdict};
use anyhow::Result;
use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::path::{Path, PathBuf};
use tagpin::bundle::Fit;
use tagpin::preprocess::{Preprocessor, Target};

/// Write a run's report again.
#[derive(clap::Args, Clone, Debug)]
pub struct Report {
    /// Run folder; `report.html` is written into it.
    pub run: PathBuf,
}

/// All that a page shows.
struct Page<'a> {
    run: &'a Run,
    evaluation: Evaluation,
    parity: parity::Figures,
    decision: Decision,
    quantisation: Quantisation,
    verdict: Verdict,
    latency: Latency,
    trade: Vec<trade::Beside>,
    distance: Option<distance::Figures>,
}

/// Writes `report.html`.
pub fn write(run: &Run) -> Result<()> {
    let of = run.folder().display();
    let evaluation = Evaluation::of(run)?;
    let parity = parity::Figures::of(run)?;
    let decision = Decision::of(run)?;
    let latency = evaluation.latency.clone();
    let page = Page {
        verdict: Verdict::of(run, &evaluation, &parity, &decision),
        quantisation: read_json(&run.file("quantisation.json"), &format!("quantise {of}"))?,
        trade: trade::beside(run, &latency)?,
        latency,
        distance: distance::in_run(run)?.map(|(_, figures)| figures),
        run,
        evaluation,
        parity,
        decision,
    };
    let path = run.file("report.html");
    run_folder::write_file(&path, page.html()?.into_string().as_bytes())?;
    run_folder::write_json(&run.file("verdict.json"), &page.verdict)?;
    page.verdict.print();
    println!("{}", path.display());
    Ok(())
}

fn percent(x: f64) -> String {
    format!("{:.1} %", 100.0 * x)
}

/// Value and interval.
pub fn with_interval(i: Interval) -> Markup {
    html! { (format!("{:.3}", i.value)) " " span.dim { (format!("[{:.3}, {:.3}]", i.low, i.high)) } }
}

/// A table of text cells, the first column left.
pub fn table(head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { @for h in head { th { (h) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        } }
    }
}

pub fn text(s: impl std::fmt::Display) -> Markup {
    html! { (s.to_string()) }
}

/// A share as a bar.
fn bar(share: f64) -> Markup {
    html! { span.bar title=(percent(share)) { span style=(format!("width:{:.1}%", 100.0 * share)) {} } }
}

impl Page<'_> {
    fn foreign(&self) -> Markup {
        let Some(figures) = &self.distance else {
            return html! { p { "The model has no distance limit, so nothing is foreign to it." } };
        };
        let row = |kind: &str, c: &distance::Caught| {
            vec![text(format!("{kind}{}", c.name)), text(c.images), text(c.beyond), with_interval(c.share())]
        };
        let rows: Vec<Vec<Markup>> = figures
            .held_out
            .iter()
            .map(|c| row("not foreign: ", c))
            .chain(figures.foreign.iter().map(|c| row("", c)))
            .collect();
        html! {
            p { "Distance from the training images: " (figures.line()) "." }
            (table(&["images", "number", "foreign", "share"], &rows))
            p.dim { "Fitted with " (figures.changes) "." }
        }
    }

    fn html(&self) -> Result<Markup> {
        let name = self.run.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let answer = self.verdict.answer;
        let words = answer.words();
        let sections: [(&str, &str, Markup); 16] = [
            ("next", "What to do next", self.next()),
            ("wrong", "What goes wrong", self.wrong()),
            ("demands", "What is demanded", self.demands()),
            ("data", "Data contract", self.data()),
            ("training", "Training", self.training()?),
            ("figures", "Figures on test images", html! { (self.summary()) (self.figures()?) }),
            ("confusion", "Confusion", self.confusion()),
            ("mistakes", "Worst mistakes", self.thumbnails(&self.evaluation.sets[0].mistakes, 24)),
            ("suspects", "Perhaps tagged wrongly", self.thumbnails(&self.evaluation.suspects, 24)),
            ("slices", "Slices", self.slices()),
            ("shift", "Changed and invalid images", self.shift()),
            ("foreign", "Foreign images", self.foreign()),
            ("parity", "int8 against float", self.parity()),
            ("latency", "Latency", self.latency()),
            ("trade", "Size against speed", trade::html(&self.trade, self.run.graph.side)?),
            ("provenance", "Provenance", self.provenance()),
        ];
        Ok(html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (name) ": " (words) }
                    style { (PreEscaped(include_str!("style.css"))) }
                }
                body {
                    header {
                        p.dim { "tagpin model report" }
                        h1 { (name) }
                        div.verdict.ship[answer == Answer::Ship].stop[answer == Answer::DoNotShip].few[answer == Answer::TooFew] {
                            strong { (words[..1].to_uppercase()) (words[1..]) }
                            ul {
                                @for a in &self.verdict.against { li { (a) } }
                                @if answer == Answer::TooFew { @for l in &self.verdict.lacking { li { (l) } } }
                            }
                        }
                        (self.line())
                        @if !self.verdict.cautions.is_empty() {
                            details {
                                summary { (self.verdict.cautions.len()) " notes" }
                                ul { @for c in &self.verdict.cautions { li { (c) } } }
                            }
                        }
                        nav { @for (id, title, _) in &sections { a href=(format!("#{id}")) { (title) } } }
                    }
                    main { @for (id, title, body) in &sections { section id=(id) { h2 { (title) } (body) } } }
                }
            }
        })
    }

    fn summary(&self) -> Markup {
        let f = &self.evaluation.sets[0];
        let tile = |label: &str, value: String, under: String| {
            html! {
                div.tile { div.dim { (label) } div.big { (value) } div.dim { (under) } }
            }
        };
        let range = |i: Interval| format!("95 %: {:.3} to {:.3}", i.low, i.high);
        let best = f.baselines.iter().map(|b| b.1).fold(0.0, f64::max);
        html! { div.tiles {
            (tile("top-1, int8, test", format!("{:.3}", f.int8.value), range(f.int8)))
            (tile("macro-F1", format!("{:.3}", f.macro_f1.value), range(f.macro_f1)))
            (tile("best baseline", format!("{best:.3}"), "top-1".into()))
            (tile("int8 minus float", format!("{:+.1} points", 100.0 * f.difference.value), format!("95 %: {:+.1} to {:+.1}", 100.0 * f.difference.low, 100.0 * f.difference.high)))
            (tile("int8 agrees", percent(self.parity.agreement), format!("{} images", self.parity.images)))
            (tile("model", format!("{:.1} M", self.latency.macs as f64 / 1e6), format!("multiply-adds, {} KB", self.quantisation.bytes / 1024)))
        } }
    }

    fn data(&self) -> Markup {
        let c: &Contract = &self.run.split.contract;
        let most = c.tags.values().copied().max().unwrap_or(1).max(1) as f64;
        let rows: Vec<Vec<Markup>> = c.tags.iter().map(|(t, n)| vec![text(t), text(n), bar(*n as f64 / most)]).collect();
        let side = |s: [u32; 2]| format!("{}x{}", s[0], s[1]);
        let conflicts: Vec<_> = c.duplicates.iter().filter(|d| d.conflicts()).collect();
        let exact = c.duplicates.iter().filter(|d| d.exact).count();
        html! {
            dl {
                @for (question, answer) in c.about.answers() { dt { (question) } dd { (answer.unwrap_or_else(|| "not stated".into())) } }
                dt { "roles" } dd { (self.run.record.roles) }
                dt { "task" } dd { (format!("{:?}", c.task)) ", " (c.images) " images, " (c.tags.len()) " tags" }
                dt { "sizes" } dd { (side(c.sizes[0])) " to " (side(c.sizes[2])) ", middle " (side(c.sizes[1])) }
                dt { "imbalance" } dd { (format!("{:.1} to 1", c.imbalance)) }
                dt { "duplicates" } dd { (exact) " exact pairs, " (c.duplicates.len() - exact) " near pairs; pairs lie on one side of the split" }
                dt { "skipped" } dd { (c.skipped.len()) " files" @if !c.skipped.is_empty() { ": " (crate::data::left_out::counts(&c.skipped)) } }
                @if c.untagged > 0 { dt { "without a tag" } dd { (c.untagged) } }
                @for (column, n) in &c.missing { dt { "missing" } dd { "column " (column) " is empty for " (n) } }
            }
            (table(&["tag", "images", ""], &rows))
            @if !conflicts.is_empty() {
                h3 { "Duplicates with different tags" }
                ul { @for d in conflicts { li {
                    code { (d.a.display()) } " is " (d.tags_a.join(";")) ", "
                    code { (d.b.display()) } " is " (d.tags_b.join(";"))
                } } }
            }
            @if !c.skipped.is_empty() {
                h3 { "Files that could not be used" }
                ul { @for f in c.skipped.iter().take(20) { li { code { (f.path.display()) } ": " (f.why) } } }
            }
        }
    }

    fn training(&self) -> Result<Markup> {
        let r = &self.run.record;
        let penalties: Vec<Vec<Markup>> = r
            .penalties
            .iter()
            .map(|(p, loss, right)| vec![text(p), text(format!("{loss:.4}")), text(format!("{right:.4}"))])
            .collect();
        let curves = if r.curve.is_empty() { None } else { Some(plots::training(&r.curve)?) };
        Ok(html! {
            p { (r.kind) " training on " (r.train) " images; " (r.validation) " validation images chose. Validation: " (percent(r.validation_right)) " right." }
            @if let Some((loss, right)) = curves { div.plots { figure { (loss) figcaption { "log loss by epoch" } } figure { (right) figcaption { "share right by epoch" } } } }
            @if !penalties.is_empty() { h3 { "Head" } (table(&["penalty", "log loss", "validation"], &penalties)) }
            @if !r.settings.is_empty() { dl { @for (k, v) in &r.settings { dt { (k) } dd { (v) } } } }
        })
    }

    fn set(&self, f: &SetFigures) -> Result<Markup> {
        let rows: Vec<Vec<Markup>> = f
            .tags
            .iter()
            .map(|t| {
                vec![
                    text(&t.tag),
                    text(t.train),
                    text(t.images),
                    text(metrics::show(t.precision)),
                    t.recall.map_or(text("-"), with_interval),
                    text(metrics::show(t.ap)),
                    text(format!("{:.3}", t.threshold)),
                    text(metrics::show(t.precision_at)),
                    text(metrics::show(t.recall_at)),
                ]
            })
            .collect();
        let d = f.decided;
        let without: Vec<&str> = f.tags.iter().filter(|t| t.images == 0).map(|t| t.tag.as_str()).collect();
        let mut rarest: Vec<_> = f.tags.iter().collect();
        rarest.sort_by_key(|t| t.train);
        Ok(html! {
            h3 { (f.name) ", " (f.counted) " images counted" }
            dl {
                dt { "top-1" } dd { "int8 " (with_interval(f.int8)) ", float " (with_interval(f.float)) }
                dt { "macro-F1" } dd { (with_interval(f.macro_f1)) }
                dt { "mAP" } dd { (with_interval(f.map)) }
                dt { "calibration error" } dd { (format!("{:.3}; {:.3} before the temperature of {:.2}", f.ece[1], f.ece[0], self.decision.temperature)) }
                @for (name, right) in &f.baselines { dt { (name) } dd { (format!("{right:.3}")) } }
                dt { "at the thresholds" } dd { (decided(d)) }
                dt { "rarest tags" } dd { @for (i, t) in rarest.iter().take(3).enumerate() { @if i > 0 { ", " } (t.tag) " (" (t.train) " trained on)" } }
                @if !without.is_empty() { dt { "no image here" } dd { (without.join(", ")) } }
            }
            (table(&["tag", "trained on", "here", "precision", "recall", "AP", "threshold", "precision at it", "recall at it"], &rows))
            div.plots {
                figure { (plots::precision_recall(&f.tags)?) figcaption { "precision against recall" } }
                figure { (plots::reliability(&f.reliability)?) figcaption { "share right against score: on the line is honest" } }
            }
        })
    }

    fn figures(&self) -> Result<Markup> {
        let looks = self.evaluation.looks;
        let sets: Vec<Markup> = self.evaluation.sets.iter().map(|f| self.set(f)).collect::<Result<_>>()?;
        Ok(html! {
            p {
                @if looks == 1 { "Test images were used once, for this page, and chose nothing." }
                @else { "Test images of this split were looked at " (looks) " times, by all runs that share it." }
                " Intervals are 95 %, by bootstrap over images that show different things; per tag by Wilson."
            }
            @if !self.decision.aims.is_empty() { p { "Thresholds: " (self.decision.aims.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")) "." } }
            @for s in sets { (s) }
        })
    }

    fn confusion(&self) -> Markup {
        let f = &self.evaluation.sets[0];
        if f.confusion.is_empty() {
            return html! { p { "Tags do not exclude one another here, so there is no such table." } };
        }
        html! {
            p.dim { "Rows are what an image is tagged, columns what int8 calls it." }
            div.wide { table.matrix {
                thead { tr { th {} @for t in &f.tags { th { (t.tag) } } } }
                tbody { @for (i, row) in f.confusion.iter().enumerate() {
                    tr {
                        th { (f.tags[i].tag) }
                        @let all = row.iter().sum::<usize>().max(1) as f64;
                        @for (k, n) in row.iter().enumerate() {
                            td.good[i == k].bad[i != k && *n > 0] style=(format!("--share:{:.3}", *n as f64 / all)) { @if *n > 0 { (n) } }
                        }
                    }
                } }
            } }
        }
    }

    fn thumbnails(&self, mistakes: &[Mistake], most: usize) -> Markup {
        if mistakes.is_empty() {
            return html! { p { "None." } };
        }
        html! {
            div.thumbs { @for m in mistakes.iter().take(most) {
                figure {
                    @if let Some(url) = thumbnail(&m.path) { a href=(file_url(&m.path)) { img src=(url) alt=(m.path.display()) width="128" height="128"; } }
                    @if let Some((heat, url)) = self.heated(m) {
                        img.heat src=(url) alt=(format!("where {} was seen: the redder the more", heat.of)) width="128" height="128";
                    }
                    figcaption {
                        b { (words(&m.predicted)) } (format!(" {:.2}", m.score)) br;
                        "tagged " (words(&m.tagged)) (format!(" {:.2}", m.score_of_tag)) br;
                        @if let Some(heat) = &m.heat { "red: where " i { (heat.of) } " was seen" br; }
                        span.dim { (m.path.file_name().unwrap_or_default().to_string_lossy()) }
                    }
                }
            } }
        }
    }

    /// A mistake's image as the model has it, with its heat map, as a data URL; nothing if it has
    /// none or the file is gone.
    fn heated<'m>(&self, mistake: &'m Mistake) -> Option<(&'m HeatMap, String)> {
        let (heat, target) = (mistake.heat.as_ref()?, self.run.target().ok()?);
        let mut rgb = scaled(&mistake.path, target)?;
        heat.paint(&mut rgb, target.width.into());
        Some((heat, data_url(&rgb, target.width, target.height)?))
    }

    fn slices(&self) -> Markup {
        let rows: Vec<Vec<Markup>> = self
            .evaluation
            .slices
            .iter()
            .take(30)
            .map(|s| vec![text(&s.name), text(s.images), with_interval(s.right), bar(s.right.value)])
            .collect();
        html! { p.dim { "Parts of the test images, worst first." } (table(&["part", "images", "right", ""], &rows)) }
    }

    fn shift(&self) -> Markup {
        let share = |n: usize, d: Decided| percent(n as f64 / d.images.max(1) as f64);
        let rows: Vec<Vec<Markup>> = self
            .evaluation
            .shifted
            .iter()
            .map(|s| {
                let d = s.decided;
                vec![
                    text(&s.name),
                    bar(s.right),
                    text(percent(s.right)),
                    text(share(d.wrong, d)),
                    text(share(d.review, d)),
                    text(share(d.unknown, d)),
                    text(share(d.foreign, d)),
                ]
            })
            .collect();
        let invalid: Vec<Vec<Markup>> = self
            .evaluation
            .invalid
            .iter()
            .map(|i| vec![text(&i.name), text(i.images), text(i.accepted), text(format!("{:.3}", i.highest)), text(&i.tag)])
            .collect();
        html! {
            @if let Some(first) = self.evaluation.shifted.first() {
                p.dim { (first.decided.images) " test images, changed; what the thresholds make of them." }
                (table(&["change", "", "right", "passed and wrong", "review", "unknown", "foreign"], &rows))
            }
            h3 { "Images of nothing" }
            (table(&["image", "images", "pass a threshold", "highest score", "of tag"], &invalid))
            p.dim { "Files that cannot be decoded never reach the model: the source reports them and the outputs go to their safe state." }
        }
    }

    fn parity(&self) -> Markup {
        let p = &self.parity;
        let tags: Vec<Vec<Markup>> = p
            .tags
            .iter()
            .map(|t| {
                vec![
                    text(&t.tag),
                    text(t.images),
                    text(format!("{:.3}", t.float)),
                    text(format!("{:.3}", t.int8)),
                    with_interval(t.change),
                ]
            })
            .collect();
        let flips: Vec<Vec<Markup>> = p
            .flips
            .iter()
            .take(40)
            .map(|f| {
                vec![
                    html! { code { (f.path.file_name().unwrap_or_default().to_string_lossy()) } },
                    text(words(&f.float)),
                    text(words(&f.int8)),
                    text(format!("{:.3}", f.dp)),
                ]
            })
            .collect();
        let top = p.layers.iter().map(|l| l.error).fold(1e-9, f64::max);
        let layers: Vec<Vec<Markup>> = p
            .layers
            .iter()
            .map(|l| {
                vec![text(&l.node), text(format!("{:.4}", l.error)), text(format!("{:+.4}", l.added)), bar(l.error / top)]
            })
            .collect();
        let tried: Vec<Vec<Markup>> = self
            .quantisation
            .tried
            .iter()
            .map(|c| vec![text(c.name()), text(percent(c.agreement)), text(format!("{:.4}", c.mean_dp))])
            .collect();
        html! {
            ul.gates {
                @for h in p.harmed() { li.missed { (h) } }
                @if p.harmed().next().is_none() { li.met { "no harm that can be told from chance; " (p.harm[0]) } }
            }
            dl {
                dt { "agreement" } dd { (percent(p.agreement)) " of " (p.images) " images" }
                dt { "difference of a score" } dd { "mean " (format!("{:.4}", p.mean_dp)) ", largest " (format!("{:.3}", p.largest_dp)) }
                dt { "ONNX Runtime" } dd { @match &p.onnxruntime {
                    Ok(o) => { "version " (o.version) " on the same file: " (percent(o.agreement)) " the same top tag, largest difference of a logit " (format!("{:.5}", o.largest)) }
                    Err(why) => { "not compared: " (why) }
                } }
            }
            (table(&["tag", "images", "recall, float", "recall, int8", "change"], &tags))
            h3 { "Decisions that differ" }
            @if flips.is_empty() { p { "None." } } @else { (table(&["image", "float", "int8", "|dp|"], &flips)) }
            h3 { "What was tried" }
            p.dim { "On " (self.quantisation.choice) " validation images; calibrated on " (self.quantisation.calibration) " training images. The last was taken." }
            (table(&["way", "agreement", "mean |dp|"], &tried))
            details { summary { "Error layer by layer" }
                p.dim { "Root mean square of the difference over that of the value, and what the layer adds to its inputs'." }
                (table(&["layer", "error", "added", ""], &layers)) }
        }
    }

    fn latency(&self) -> Markup {
        let l = &self.latency;
        html! {
            p { "One image, one thread, on the machine that wrote this page, which is not the board: median " (format!("{:.2} ms", l.median_ms)) ", worst of 15 " (format!("{:.2} ms", l.worst_ms)) " with the kernels " code { (l.kernels) } "." }
            p { (format!("{:.1} M multiply-adds, {} KB of memory for values.", l.macs as f64 / 1e6, l.arena / 1024)) " On the board: " code { "tagpin bench BUNDLE" } "." }
            (self.boards())
        }
    }

    fn provenance(&self) -> Markup {
        let r = &self.run.record;
        let stages: Vec<(String, f64)> = read_json(&self.run.file("stages.json"), "train").unwrap_or_default();
        let optional = |s: &Option<String>| s.clone().unwrap_or_else(|| "none".into());
        html! {
            dl {
                dt { "made by" } dd { (r.tool) ", evaluator " (r.evaluator) }
                dt { "command" } dd { code { (r.command) } }
                dt { "commit" } dd { code { (optional(&r.commit)) } }
                dt { "seed" } dd { (r.seed) }
                dt { "backbone" } dd { (optional(&r.backbone)) @if let Some(h) = &r.backbone_sha256 { " " code { (h) } } }
                dt { "data" } dd { code { (r.dataset_sha256) } }
                dt { "split" } dd { code { (r.split_sha256) } " (seed " (self.run.split.seed) ")" }
                dt { "int8 graph" } dd { code { (self.quantisation.graph_sha256) } }
                dt { "took" } dd { @for (i, (stage, s)) in stages.iter().enumerate() { @if i > 0 { ", " } (stage) " " (format!("{s:.0} s")) } }
            }
        }
    }
}

fn words(tags: &[String]) -> String {
    if tags.is_empty() { "nothing".into() } else { tags.join(", ") }
}

fn decided(d: Decided) -> String {
    let Decided { right, wrong, review, unknown, foreign, .. } = d;
    format!("{right} right, {wrong} wrong, {review} for review, {unknown} unknown, {foreign} foreign, of {}", d.images)
}

/// Where the image itself lies, for a click: it opens on the machine that has it.
fn file_url(path: &Path) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(b);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    format!(
        "file://{}",
        bytes.map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect::<String>()
    )
}

/// A small JPEG as a data URL; nothing if the file is gone.
pub fn thumbnail(path: &Path) -> Option<String> {
    data_url(&scaled(path, Target { width: 128, height: 128, fit: Fit::Pad, roi: None })?, 128, 128)
}

/// An image file as RGB8 of the target's size; nothing if it is gone.
fn scaled(path: &Path, target: Target) -> Option<Vec<u8>> {
    let bytes = tagpin::regular::read(path, tagpin::regular::LARGE).ok()?;
    crate::data::rgb_of(&bytes, &mut Preprocessor::new(target)).ok()
}

/// RGB8 `[height, width, 3]` as a JPEG in a data URL.
fn data_url(rgb: &[u8], width: u16, height: u16) -> Option<String> {
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 72);
    encoder.encode(rgb, width.into(), height.into(), image::ExtendedColorType::Rgb8).ok()?;
    Some(format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg)))
}

/// Writes a finished run's report.
pub fn run(args: &Report) -> Result<()> {
    write(&Run::open(&args.run)?)
}
