//! The verdict on a run: ship, do not ship, or too few images to say; with every reason, and what
//! to do about each.
//!
//! Figures come from `evaluate`, `parity` and `demand`. Reasons are values; each becomes a sentence
//! only where it is shown.

use crate::decision::{Decision, StatedAim};
use crate::demand::{self, Finding, Standing};
use crate::evaluate::Evaluation;
use crate::latency::Board;
use crate::metrics::{self, Interval};
use crate::parity::{self, Harm};
use crate::run::Run;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What forbids shipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objection {
    /// A baseline is as good, or its interval does not rule it out.
    Baseline {
        /// Its name.
        name: String,
        /// Share of test images that it gets right.
        share: f64,
        /// The model's share.
        int8: Interval,
    },
    /// int8 decides worse than float, and that is no chance.
    Harm(Harm),
    /// A tag does not reach what is demanded of it.
    Demand(Finding),
    /// No threshold meets an aim on validation images.
    Aim(StatedAim),
    /// Frames that show nothing pass as a good part.
    NothingPasses {
        /// What they are.
        kind: String,
        /// How many pass.
        passes: usize,
        /// Of how many.
        of: usize,
        /// The tag with the highest score.
        tag: String,
    },
    /// Images as the domain allows them are judged clearly worse.
    Shift {
        /// What was changed and how far.
        name: String,
        /// Share right minus that of the unchanged images.
        change: Interval,
    },
    /// The network alone takes longer than the deadline.
    Deadline {
        /// After the trigger.
        deadline_ms: u32,
        /// Of one image: on the machine that evaluated, or the least estimate for the board.
        latency_ms: f64,
        /// The board, where one is stated.
        board: Option<String>,
    },
    /// The model published before is as good.
    Published {
        /// Its share of test images.
        before: Interval,
        /// The model's share.
        int8: Interval,
    },
    /// The model published before is as good on the images of both test sets.
    Paired {
        /// Its run.
        run: PathBuf,
        /// This model's share minus its.
        difference: Interval,
        /// Images of both.
        images: usize,
    },
    /// An objection in the form of an older history; still read for one release.
    #[serde(untagged)]
    Old(serde_json::Value),
}

/// What cannot be told yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Whether a tag reaches what is demanded of it.
    Demand(Finding),
    /// Whether a baseline is beaten.
    Baseline {
        /// Its name.
        name: String,
        /// Share of test images that it gets right.
        share: f64,
        /// The model's share.
        int8: Interval,
        /// Further test images that would tell.
        more: usize,
    },
}

/// What does not forbid shipping but must be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caution {
    /// int8 may cost decisions: the interval does not rule it out.
    Int8Loss(Harm),
    /// Test images were looked at before.
    Looks {
        /// How often.
        times: u32,
    },
    /// A slice is clearly worse.
    Slice {
        /// Its name.
        name: String,
        /// Share of its images that are right.
        share: Interval,
    },
    /// The deadline holds on a board on which nothing was measured.
    Unmeasured {
        /// The board.
        board: String,
        /// After the trigger.
        deadline_ms: u32,
        /// On the machine that evaluated.
        latency_ms: f64,
        /// At least and at most on the board, where multiply-adds give an estimate.
        estimated: Option<[f64; 2]>,
    },
    /// The temperature lies on a bound of its search: scores are surer or less sure than images
    /// show.
    Temperature {
        /// What logits are divided by.
        value: f64,
    },
    /// What the data or the training said.
    Data {
        /// In its own words.
        warning: String,
    },
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Baseline { name, share, int8 } => write!(f, "it does not beat \"{name}\": {int8} against {share:.3}"),
            Self::Harm(harm) => write!(f, "int8 is worse than float: {harm}"),
            Self::Demand(finding) => finding.fmt(f),
            Self::Aim(aim) => aim.fmt(f),
            Self::NothingPasses { kind, passes, of, tag } => {
                write!(f, "{passes} of {of} frames of nothing ({kind}) pass as a good part, the surest as \"{tag}\"")
            }
            Self::Shift { name, change } => {
                write!(f, "images {name}, which the domain allows, change its share right by {change}")
            }
            Self::Deadline { deadline_ms, latency_ms, board } => {
                let on = board.as_ref().map_or("here".into(), |b| format!("on {b}"));
                write!(f, "one image takes {latency_ms:.1} ms {on}, the deadline is {deadline_ms} ms")
            }
            Self::Published { before, int8 } => {
                write!(f, "it does not beat the one published before: {int8} against {before}")
            }
            Self::Paired { run, difference, images } => write!(
                f,
                "it does not beat the one published before ({}): {difference} on {images} images of both",
                run.display()
            ),
            Self::Old(value) => match value.as_str() {
                Some(words) => f.write_str(words),
                None => value.fmt(f),
            },
        }
    }
}

impl Objection {
    /// What to do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::Baseline { .. } => {
                "look at the worst mistakes and the slices, add images of what is mistaken, or train --advanced".into()
            }
            Self::Harm(_) => "quantise with more --calibration images or --aware always, or train --advanced".into(),
            Self::Demand(found) => {
                let what =
                    format!("`tune --min-{} {}={}`", found.demand.measure.name(), found.demand.tag, found.demand.least);
                format!(
                    "{what} where the other figures allow it, add images of the tag, or demand less in about.toml ([aims.TAG])"
                )
            }
            Self::Aim(_) => "aim lower, add images of the tag, or train --advanced".into(),
            Self::NothingPasses { tag, .. } => format!(
                "raise the tag's threshold (`tune RUN --threshold {tag}=0.9`), or add images of the empty place, unlit and out of \
                 focus as a tag of their own and name it by --defect"
            ),
            Self::Shift { .. } => {
                "train with --views or --advanced in this --domain, or keep light and focus steadier".into()
            }
            Self::Deadline { .. } => {
                "train with a smaller --size, or with --small; measure on the board by `tagpin bench`".into()
            }
            Self::Published { .. } | Self::Paired { .. } => {
                "keep the published one, or publish with --force and a reason".into()
            }
            Self::Old(_) => "evaluate again".into(),
        }
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demand(finding) => finding.fmt(f),
            Self::Baseline { name, share, int8, more } => {
                write!(f, "{more} more test images (whether it beats \"{name}\": {int8} against {share:.3})")
            }
        }
    }
}

impl std::fmt::Display for Caution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int8Loss(harm) => write!(f, "whether int8 costs decisions is not told well: {harm}"),
            Self::Looks { times } => {
                write!(f, "test images were looked at {times} times; choices made by them bias the figures")
            }
            Self::Slice { name, share } => write!(f, "it is clearly worse on \"{name}\": {share}"),
            Self::Unmeasured { board, deadline_ms, latency_ms, estimated } => {
                write!(
                    f,
                    "the deadline of {deadline_ms} ms on {board} was not measured there: one image takes {latency_ms:.1} ms here"
                )?;
                if let Some([low, high]) = estimated {
                    write!(f, ", {low:.0} to {high:.0} ms there by its multiply-adds")?;
                }
                f.write_str("; `tagpin bench BUNDLE` on the board")
            }
            Self::Temperature { value } => {
                write!(
                    f,
                    "the temperature of {value:.3} lies on the bound of its search: there were too few mistakes to fit it"
                )
            }
            Self::Data { warning } => f.write_str(warning),
        }
    }
}

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Everything that is demanded is shown.
    Ship,
    /// Something stands against it.
    DoNotShip,
    /// Nothing stands against it, but there are too few test images to show what is demanded.
    TooFew,
}

impl Answer {
    /// Its words, as printed.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ship => "ship",
            Self::DoNotShip => "do not ship",
            Self::TooFew => "too few to say",
        }
    }

    /// The exit code of `runs verdict` and `runs publish`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ship => 0,
            Self::DoNotShip => 1,
            Self::TooFew => 3,
        }
    }
}

/// Ship, or why not: `verdict.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// What forbids shipping; empty unless the answer is not to ship.
    pub against: Vec<Objection>,
    /// What cannot be told yet.
    pub lacking: Vec<Lack>,
    /// What is demanded of each tag, and what was found.
    pub findings: Vec<Finding>,
    /// What does not forbid it but must be known.
    pub cautions: Vec<Caution>,
}

/// Share of decisions that int8 may cost without a word.
const TOLD_WELL: f64 = 0.05;
/// Share of images that a change which the domain allows may cost.
const SHIFT_LOSS: f64 = 0.05;
/// Test images by which a comparison with a baseline is told well enough.
const TELLING: usize = 100;

impl Verdict {
    /// Of a run's figures.
    pub fn of(run: &Run, e: &Evaluation, p: &parity::Figures, d: &Decision) -> Self {
        let mut v = Self {
            answer: Answer::Ship,
            against: Vec::new(),
            lacking: Vec::new(),
            findings: Self::findings(run, e, d),
            cautions: Vec::new(),
        };
        let f = &e.sets[0];
        for (name, share) in &f.baselines {
            let (name, share, int8) = (name.clone(), *share, f.int8);
            if int8.low > share {
                continue;
            }
            match metrics::enough(int8.value, share) {
                Some(enough) if f.counted < TELLING => {
                    let more = enough.saturating_sub(f.counted).max(1);
                    v.lacking.push(Lack::Baseline { name, share, int8, more });
                }
                _ => v.against.push(Objection::Baseline { name, share, int8 }),
            }
        }
        for finding in &v.findings {
            match finding.standing {
                Standing::Met => {}
                Standing::Refuted | Standing::NotShown => v.against.push(Objection::Demand(finding.clone())),
                Standing::TooFew { .. } => v.lacking.push(Lack::Demand(finding.clone())),
            }
        }
        v.against.extend(p.harmed().cloned().map(Objection::Harm));
        v.against.extend(d.aims.iter().filter(|a| !a.met).cloned().map(Objection::Aim));
        v.against.extend(e.invalid.iter().filter(|i| i.passes > 0).map(|i| Objection::NothingPasses {
            kind: i.name.clone(),
            passes: i.passes,
            of: i.images,
            tag: i.tag.clone(),
        }));
        let worse = e.shifted.iter().filter(|s| s.within && s.change.high < -SHIFT_LOSS);
        v.against.extend(worse.map(|s| Objection::Shift { name: s.name.clone(), change: s.change }));
        v.deadline(run, e);
        if let Some(whole) = p.harm.first().filter(|h| !h.shown && h.change.low < -TOLD_WELL) {
            v.cautions.push(Caution::Int8Loss(whole.clone()));
        }
        let [low, high] = metrics::TEMPERATURES;
        if d.temperature < low * 1.01 || d.temperature > high * 0.99 {
            v.cautions.push(Caution::Temperature { value: d.temperature });
        }
        if e.looks > 1 {
            v.cautions.push(Caution::Looks { times: e.looks });
        }
        if let Some(worst) = e.slices.first().filter(|s| s.right.high < f.int8.low) {
            v.cautions.push(Caution::Slice { name: worst.name.clone(), share: worst.right });
        }
        v.cautions.extend(run.record.warnings.iter().map(|w| Caution::Data { warning: w.clone() }));
        v.answered()
    }

    /// What is demanded of each tag, on all images where heads that were not fitted to them judged
    /// them, else on the test side.
    fn findings(run: &Run, e: &Evaluation, d: &Decision) -> Vec<Finding> {
        let tags = &run.split.dataset.tags;
        let demands = demand::of(tags, &run.roles(), &run.split.contract.about, &d.aims);
        let counts = |tag: &str| {
            let t = tags.iter().position(|t| t == tag).unwrap_or_default();
            e.pooled.as_ref().map_or(e.sets[0].tags[t].at, |p| p.tags[t])
        };
        demands
            .into_iter()
            .map(|demand| {
                let of = counts(&demand.tag);
                Finding::of(demand, of)
            })
            .collect()
    }

    fn deadline(&mut self, run: &Run, e: &Evaluation) {
        let about = &run.split.contract.about;
        let (Some(deadline_ms), latency_ms) = (about.deadline_ms, e.latency.median_ms) else { return };
        let board = about.board.clone();
        let estimated = board.as_deref().and_then(Board::named).map(|b| b.estimated_ms(e.latency.macs));
        // Too late even by the lower estimate; without an estimate, this machine's latency counts.
        let least_ms = estimated.map_or(latency_ms, |[least, _]| least);
        if least_ms > f64::from(deadline_ms) {
            self.against.push(Objection::Deadline { deadline_ms, latency_ms: least_ms, board });
        } else if let Some(board) = board {
            self.cautions.push(Caution::Unmeasured { board, deadline_ms, latency_ms, estimated });
        }
    }

    /// Adds further objections.
    pub fn and(mut self, more: impl IntoIterator<Item = Objection>) -> Self {
        self.against.extend(more);
        self.answered()
    }

    fn answered(mut self) -> Self {
        self.answer = if !self.against.is_empty() {
            Answer::DoNotShip
        } else if !self.lacking.is_empty() {
            Answer::TooFew
        } else {
            Answer::Ship
        };
        self
    }

    /// In one line.
    pub fn line(&self) -> String {
        let list = |all: Vec<String>| all.join("; ");
        let words = self.answer.words();
        match self.answer {
            Answer::Ship => words.into(),
            Answer::DoNotShip => {
                format!("{words}, because {}", list(self.against.iter().map(ToString::to_string).collect()))
            }
            Answer::TooFew => format!("{words}: {}", list(self.lacking.iter().map(ToString::to_string).collect())),
        }
    }

    /// The line, what is demanded, and each reason with what to do.
    pub fn print(&self) {
        println!("{}", self.line());
        for f in &self.findings {
            println!("  {:<9} {}", if f.standing == Standing::Met { "shown" } else { "NOT SHOWN" }, f.demand);
        }
        self.against.iter().for_each(|o| println!("  {o}\n    do: {}", o.mend()));
        self.cautions.iter().for_each(|c| println!("note: {c}"));
    }
}
