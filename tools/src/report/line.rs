//! The top of the page, for the people who run the line: errors per thousand parts, their cost, the
//! speed, and what to do next.

use super::{Page, table, text};
use crate::evaluate::line::Rate;
use crate::latency::Board;
use crate::verdict::Answer;
use maud::{Markup, html};

/// A number of a thousand parts, without digits that nothing stands behind.
fn per_1000(rate: Rate) -> String {
    format!("{:.0}", rate.per_1000.value)
}

fn between(rate: Rate) -> String {
    match rate.of {
        0 => "no image tells".into(),
        _ => format!("{:.0} to {:.0}, by {} of {}", rate.per_1000.low, rate.per_1000.high, rate.parts, rate.of),
    }
}

/// Text in which commands stand between backticks, as a terminal shows it, with them as code.
fn with_code(text: &str) -> Markup {
    html! { @for (i, piece) in text.split('`').enumerate() { @if i % 2 == 1 { code { (piece) } } @else { (piece) } } }
}

impl Page<'_> {
    /// Tiles below the verdict.
    pub(super) fn line(&self) -> Markup {
        let line = &self.evaluation.line;
        let tile = |label: &str, value: String, under: String| {
            html! { div.tile { div.dim { (label) } div.big { (value) } div.dim { (under) } } }
        };
        let (passed, rejected) = match line.defects {
            true => ("wrongly passed, of 1000 defective parts", "wrongly rejected, of 1000 good parts"),
            false => ("wrongly sorted, of 1000 parts", "rejected as unknown, of 1000 parts"),
        };
        html! { div.tiles {
            (tile(passed, per_1000(line.wrongly_passed), between(line.wrongly_passed)))
            (tile(rejected, per_1000(line.wrongly_rejected), between(line.wrongly_rejected)))
            (tile("for a person to look at, of 1000", per_1000(line.review), between(line.review)))
            @if let Some(cost) = line.cost_per_1000 {
                (tile("cost of 1000 parts like these", format!("{cost:.0}"), "as stated to tune".into()))
            }
            (tile("parts per second, here", format!("{:.0}", 1000.0 / self.latency.median_ms.max(1e-3)), format!("{:.1} ms each, one thread", self.latency.median_ms)))
        } }
    }

    /// What to do next, in order.
    pub(super) fn next(&self) -> Markup {
        let v = &self.verdict;
        html! {
            @match v.answer {
                Answer::Ship => p { code { "tagpin-tools runs publish " (self.run.folder().display()) " --out NAME.tagpin" } ", then " code { "tagpin check --bundle NAME.tagpin --settings device.toml" } " on the board." },
                Answer::TooFew => {
                    p { "Nothing stands against it, but the images are too few to show what is demanded. Take these, and run the same command again:" }
                    ul { @for l in &v.lacking { li { (l) } } }
                },
                Answer::DoNotShip => ol { @for o in &v.against { li { (o) br; span.dim { (with_code(&o.mend())) } } } },
            }
            @if !self.evaluation.line.defects {
                p.dim { "No tag is said to be a defect, so nothing here tells a bad part from a good one: name them by " code { "--defect TAG" } "." }
            }
        }
    }

    /// Images of what goes wrong.
    pub(super) fn wrong(&self) -> Markup {
        let line = &self.evaluation.line;
        let [passed, rejected] = match line.defects {
            true => ["Wrongly passed", "Wrongly rejected"],
            false => ["Wrongly sorted", "Rejected as unknown"],
        };
        html! {
            h3 { (passed) ", on the test side" } (self.thumbnails(&line.passed, 24))
            h3 { (rejected) ", on the test side" } (self.thumbnails(&line.rejected, 24))
        }
    }

    /// What each tag must reach.
    pub(super) fn demands(&self) -> Markup {
        let pooled = self.evaluation.pooled.as_ref();
        let rows: Vec<Vec<Markup>> = self
            .verdict
            .findings
            .iter()
            .map(|f| {
                let met = f.standing == crate::demand::Standing::Met;
                vec![
                    text(&f.demand),
                    html! { span.yes[met].no[!met] { (if met { "shown" } else { "not shown" }) } },
                    super::with_interval(f.share),
                    text(f.images),
                ]
            })
            .collect();
        html! {
            p.dim {
                @match pooled {
                    Some(p) => { "On " (p.images) " images in " (p.folds) " parts, each judged by a head fitted to the others." },
                    None => "On the test images.",
                }
                " Shown is what the lower end of the 95 % interval reaches."
            }
            (table(&["demand", "", "found", "images"], &rows))
        }
    }

    /// Parts per second by board.
    pub(super) fn boards(&self) -> Markup {
        let macs = self.latency.macs;
        let rows: Vec<Vec<Markup>> = Board::ALL
            .iter()
            .map(|b| {
                let [low, high] = b.estimated_ms(macs);
                vec![
                    text(b.name),
                    text(format!("{low:.0} to {high:.0}")),
                    text(format!("{:.0} to {:.0}", 1000.0 / high, 1000.0 / low)),
                ]
            })
            .collect();
        html! {
            (table(&["board, one thread", "ms an image", "images a second"], &rows))
            p.dim { "Estimated from multiply-adds, not measured." }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_in_a_mend_is_code_on_the_page_and_no_backtick_is_left() {
        let page = super::with_code("`tune RUN --x a<b` or <this>").into_string();
        assert_eq!(page, "<code>tune RUN --x a&lt;b</code> or &lt;this&gt;");
    }
}
