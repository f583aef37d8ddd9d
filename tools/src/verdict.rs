//! Ship or not: what stands against it, and what a reader must know, from a run's figures.
//!
//! Computes no figure itself. Objections and cautions are values: a sentence is made of each once, where it is shown.

use crate::decision::{Decision, StatedAim};
use crate::evaluate::Evaluation;
use crate::metrics::Interval;
use crate::parity;
use crate::run::Run;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What forbids shipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objection {
    /// A baseline is as good.
    Baseline {
        /// Its name.
        name: String,
        /// Share of test images that it gets right.
        share: f64,
        /// The model's share.
        int8: Interval,
    },
    /// int8 is worse than float, and the interval says that this is no chance.
    Int8Loss(Int8Loss),
    /// A gate of `parity`.
    Parity {
        /// The gate, with what was found.
        gate: String,
    },
    /// No threshold meets an aim on validation images.
    Aim(StatedAim),
    /// Nothing is known of a tag.
    NoTestImages {
        /// The tag.
        tag: String,
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
    /// One that an older history states in its own words; read for one release.
    #[serde(untagged)]
    Told(String),
}

/// What does not forbid shipping but must be known.
#[derive(Clone, Debug, PartialEq)]
pub enum Caution {
    /// The interval reaches down to a baseline.
    NearBaseline {
        /// Its name.
        name: String,
        /// Share of test images that it gets right.
        share: f64,
        /// The model's share.
        int8: Interval,
    },
    /// int8 is worse than float, which may be chance.
    Int8Loss(Int8Loss),
    /// Too few test images of a tag for its figures to mean much.
    FewTestImages {
        /// The tag.
        tag: String,
        /// Its test images.
        images: usize,
    },
    /// Test images were looked at before.
    Looks {
        /// So many times.
        times: u32,
    },
    /// Images of nothing pass a threshold.
    InvalidPasses {
        /// Which.
        kinds: Vec<String>,
    },
    /// A slice is clearly worse.
    Slice {
        /// Its name.
        name: String,
        /// Share of its images that are right.
        share: Interval,
    },
    /// What the data or the training said.
    Data {
        /// In its own words.
        warning: String,
    },
}

/// int8 minus float, share of test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Int8Loss {
    /// The difference, below zero where int8 is worse.
    pub difference: Interval,
}

impl std::fmt::Display for Int8Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (points, all) = (-100.0 * self.difference.value, self.difference);
        write!(f, "int8 loses {points:.1} points of top-1 {all}; calibrate on more images (--calibration), or train longer")
    }
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Baseline { name, share, int8 } => {
                write!(f, "it does not beat \"{name}\": {:.3} against {share:.3}", int8.value)
            }
            Self::Int8Loss(loss) => loss.fmt(f),
            Self::Parity { gate } => write!(f, "int8 against float: {gate}"),
            Self::Aim(aim) => aim.fmt(f),
            Self::NoTestImages { tag } => write!(f, "tag \"{tag}\" has no test image: nothing is known of it"),
            Self::Published { before, int8 } => {
                write!(f, "it does not beat the one published before: {int8} against {before}")
            }
            Self::Told(words) => f.write_str(words),
            Self::Paired { run, difference, images } => write!(
                f,
                "it does not beat the one published before ({}): {difference} on {images} images of both",
                run.display()
            ),
        }
    }
}

impl std::fmt::Display for Caution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NearBaseline { name, share, int8 } => {
                write!(f, "its interval reaches down to \"{name}\": {int8} against {share:.3}")
            }
            Self::Int8Loss(loss) => loss.fmt(f),
            Self::FewTestImages { tag, images } => {
                write!(f, "tag \"{tag}\" has {images} test images: its figures mean little")
            }
            Self::Looks { times } => {
                write!(f, "test images were looked at {times} times; choices made by them bias the figures")
            }
            Self::InvalidPasses { kinds } => write!(f, "images of nothing pass a threshold: {}", kinds.join(", ")),
            Self::Slice { name, share } => write!(f, "it is clearly worse on \"{name}\": {share}"),
            Self::Data { warning } => f.write_str(warning),
        }
    }
}

/// Ship, or why not.
pub struct Verdict {
    /// What forbids shipping; empty for ship.
    pub against: Vec<Objection>,
    /// What does not forbid it but must be known.
    pub cautions: Vec<Caution>,
}

/// Share of top-1 that int8 may cost.
const INT8_LOSS: f64 = 0.005;
/// Test images of a tag below which its figures mean little.
const FEW_IMAGES: usize = 5;

impl Verdict {
    /// Of a run's figures.
    pub fn of(run: &Run, e: &Evaluation, p: &parity::Figures, d: &Decision) -> Self {
        let (mut against, mut cautions) = (Vec::new(), Vec::new());
        let f = &e.sets[0];
        for (name, share) in &f.baselines {
            let (name, share, int8) = (name.clone(), *share, f.int8);
            if int8.value <= share {
                against.push(Objection::Baseline { name, share, int8 });
            } else if int8.low <= share {
                cautions.push(Caution::NearBaseline { name, share, int8 });
            }
        }
        if f.difference.value < -INT8_LOSS {
            let loss = Int8Loss { difference: f.difference };
            // A loss whose interval holds 0 may be chance: two images of 380 are half a point.
            match f.difference.high < 0.0 {
                true => against.push(Objection::Int8Loss(loss)),
                false => cautions.push(Caution::Int8Loss(loss)),
            }
        }
        against.extend(p.gates.iter().filter(|g| !g.met).map(|g| Objection::Parity { gate: g.text.clone() }));
        against.extend(d.aims.iter().filter(|a| !a.met).cloned().map(Objection::Aim));
        for t in &f.tags {
            let tag = t.tag.clone();
            match t.pictures {
                0 => against.push(Objection::NoTestImages { tag }),
                images if images < FEW_IMAGES => cautions.push(Caution::FewTestImages { tag, images }),
                _ => {}
            }
        }
        if e.looks > 1 {
            cautions.push(Caution::Looks { times: e.looks });
        }
        let kinds: Vec<String> = e.invalid.iter().filter(|i| i.accepted > 0).map(|i| i.name.clone()).collect();
        if !kinds.is_empty() {
            cautions.push(Caution::InvalidPasses { kinds });
        }
        if let Some(worst) = e.slices.first().filter(|s| s.right.high < f.int8.low) {
            cautions.push(Caution::Slice { name: worst.name.clone(), share: worst.right });
        }
        cautions.extend(run.record.warnings.iter().map(|w| Caution::Data { warning: w.clone() }));
        Self { against, cautions }
    }

    /// Whether to ship.
    pub fn ship(&self) -> bool {
        self.against.is_empty()
    }

    /// In one line.
    pub fn line(&self) -> String {
        let because: Vec<String> = self.against.iter().map(ToString::to_string).collect();
        if self.ship() { "ship".into() } else { format!("do not ship, because {}", because.join("; ")) }
    }
}
