//! What each tag must reach before a model ships, and whether test images show that it does.
//!
//! A person demands it in about.toml (`[aims.scratched] recall = 0.95`) or by `tune`; a tag that
//! nobody speaks of gets the default of its role. A demand is shown by an interval, never by the
//! share alone.

use crate::data::check::About;
use crate::decision::{self, StatedAim};
use crate::metrics::{self, Counts, Interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tagpin::decide::Role;

/// The least recall and precision of a tag, as about.toml states them: shares between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// TP / (TP + FN) at the thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// TP / (TP + FP) at the thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// TP / (TP + FN).
    Recall,
    /// TP / (TP + FP).
    Precision,
}

impl Measure {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recall => "recall",
            Self::Precision => "precision",
        }
    }
}

/// Who demands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// about.toml.
    About,
    /// `tune`.
    Tune,
    /// Nobody: the default of the tag's role.
    Default,
}

/// Least recall of a defect where nobody states one.
const DEFECT_RECALL: f64 = 0.9;
/// Least recall and precision of any tag where nobody states one.
const ANY: f64 = 0.7;

/// One figure that a tag must reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// The tag.
    pub tag: String,
    /// Of what.
    pub measure: Measure,
    /// The least share.
    pub least: f64,
    /// Who says so.
    pub by: By,
}

impl std::fmt::Display for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by {
            By::About => "",
            By::Tune => ", tuned for",
            By::Default => ", by default",
        };
        write!(f, "{} of \"{}\" at least {}{by}", self.measure.name(), self.tag, self.least)
    }
}

/// What is demanded of `tags`, each with its role: by `tune`, else by about.toml, else by default.
pub fn of(tags: &[String], roles: &[Role], about: &About, tuned: &[StatedAim]) -> Vec<Demand> {
    let mut all = Vec::new();
    for (tag, role) in tags.iter().zip(roles) {
        let mut stated: BTreeMap<Measure, (f64, By)> = BTreeMap::new();
        let said = about.aims.get(tag).copied().unwrap_or_default();
        let mut say = |measure, least: Option<f64>, by| least.map(|l| stated.insert(measure, (l, by)));
        say(Measure::Recall, said.recall, By::About);
        say(Measure::Precision, said.precision, By::About);
        for aim in tuned.iter().filter(|a| a.tag == *tag) {
            match aim.aim {
                decision::Aim::Recall(least) => say(Measure::Recall, Some(least), By::Tune),
                decision::Aim::Precision(least) => say(Measure::Precision, Some(least), By::Tune),
                decision::Aim::Cost { .. } => None,
            };
        }
        if stated.is_empty() {
            let recall = if *role == Role::Defect { DEFECT_RECALL } else { ANY };
            stated.insert(Measure::Recall, (recall, By::Default));
            stated.insert(Measure::Precision, (ANY, By::Default));
        }
        all.extend(stated.into_iter().map(|(measure, (least, by))| Demand { tag: tag.clone(), measure, least, by }));
    }
    all
}

/// With this many images a share is known well enough: its interval is at most 14 points either
/// way.
pub const TELLING: usize = 50;

/// Whether images show that a demand is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The whole interval is at or above it.
    Met,
    /// The whole interval is below it.
    Refuted,
    /// The interval holds it, though there are images enough to tell a good model from a bad one.
    NotShown,
    /// The interval holds it, and there are few images.
    TooFew {
        /// How many more of the tag would tell, if they come out as those before.
        more: usize,
    },
}

/// A demand and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is demanded.
    pub demand: Demand,
    /// What was found.
    pub share: Interval,
    /// Images that it was found on.
    pub images: usize,
    /// Whether the demand is met.
    pub standing: Standing,
}

impl Finding {
    /// Of a tag's counts at the thresholds.
    pub fn of(demand: Demand, counts: Counts) -> Self {
        let images = match demand.measure {
            Measure::Recall => counts.positives(),
            Measure::Precision => counts.true_positives + counts.false_positives,
        };
        let share = metrics::wilson(counts.true_positives, images);
        let least = demand.least;
        let standing = if images > 0 && share.low >= least {
            Standing::Met
        } else if share.high < least {
            Standing::Refuted
        } else if images >= TELLING {
            Standing::NotShown
        } else {
            // Below the demand so far: as many as tell anything.
            let enough = metrics::enough(share.value, least).unwrap_or(TELLING);
            Standing::TooFew { more: enough.saturating_sub(images).max(1) }
        };
        Self { demand, share, images, standing }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { demand, share, images, standing } = self;
        let found = match images {
            0 => "no image tells".into(),
            n => format!("{share} on {n} images"),
        };
        match standing {
            Standing::Met => write!(f, "met: {demand}: {found}"),
            Standing::Refuted => write!(f, "{demand}: {found}"),
            Standing::NotShown => write!(f, "{demand}: not shown by {found}"),
            Standing::TooFew { more } => write!(f, "{more} more test images of \"{}\" ({demand}: {found})", demand.tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(least: f64, true_positives: usize, false_negatives: usize) -> Standing {
        let demand = Demand { tag: "scrap".into(), measure: Measure::Recall, least, by: By::About };
        Finding::of(demand, Counts { true_positives, false_negatives, false_positives: 3 }).standing
    }

    /// A run with a recall of 0.50 on a defect was shipped, and one whose interval began at 0.500.
    #[test]
    fn a_demand_is_met_by_the_intervals_lower_end_and_by_nothing_less() {
        assert_eq!(standing(0.9, 50, 50), Standing::Refuted);
        assert_eq!(standing(0.9, 95, 5), Standing::NotShown, "0.95 of 100 begins at 0.888");
        assert_eq!(standing(0.9, 190, 10), Standing::Met, "0.95 of 200 begins at 0.910");
        assert!(
            matches!(standing(0.9, 9, 0), Standing::TooFew { more } if (20..40).contains(&more)),
            "35 of 35 begin at 0.901"
        );
        assert!(matches!(standing(0.9, 7, 1), Standing::TooFew { more: 42 }), "below so far: 50 tell");
        assert!(matches!(standing(0.9, 0, 0), Standing::TooFew { more: 50 }));
        assert_eq!(standing(0.9, 1, 7), Standing::Refuted, "eight are enough to see that it is bad");
    }

    #[test]
    fn what_a_person_says_comes_before_the_default_and_what_was_tuned_for_before_that() {
        let tags = ["bolt", "crack", "nut"].map(String::from);
        let roles = [Role::Good, Role::Defect, Role::Other];
        let least = Least { recall: Some(0.99), precision: None };
        let about = About { aims: [("nut".to_string(), least)].into(), ..About::default() };
        let tuned = [StatedAim { tag: "bolt".into(), aim: decision::Aim::Precision(0.8), met: true }];
        let said: Vec<String> = of(&tags, &roles, &about, &tuned).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "precision of \"bolt\" at least 0.8, tuned for",
                "recall of \"crack\" at least 0.9, by default",
                "precision of \"crack\" at least 0.7, by default",
                "recall of \"nut\" at least 0.99",
            ]
        );
    }
}
