//! Decision tables as text: stated scores, and the decision that they must give.
//!
//! One file, `tests/data/decisions.tsv`, is run by the device, the tools and `classify`, each
//! building the rule its own way; its head describes the columns. A [`Row`] holds what is stated
//! and turns it into device.toml or into a policy.

use super::{Action, Combine, Decision, Policy, Preference, Role, TagPolicy, TagRule, Task};
use crate::head::{Score, TagId};
use crate::time::Millis;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

/// One tag of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub role: Role,
    /// Threshold, 0..=1.
    pub threshold: f32,
    /// Start of the review band, 0..=1.
    pub review_low: f32,
}

/// One frame of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Scores, one a tag, 0..=1.
    Scores {
        /// Milliseconds since the first frame.
        at_ms: u64,
        /// Whether it lies beyond the distance limit.
        beyond: bool,
        /// The scores.
        scores: Vec<f32>,
    },
    /// No usable frame.
    Missing {
        /// Milliseconds since the first frame.
        at_ms: u64,
    },
}

/// What a row must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The word.
    pub verdict: String,
    /// What happens to the part; the late action where the verdict is `safe`.
    pub action: String,
    /// The tag that names the verdict.
    pub tag: Option<String>,
    /// Tags whose `tag:` outputs are called for, in the bundle's order.
    pub driving: Vec<String>,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Line of the file, counted from 1.
    pub line: usize,
    /// What the row shows.
    pub name: String,
    /// Whether tags exclude one another.
    pub task: Task,
    /// Tags in the bundle's order.
    pub tags: Vec<Tag>,
    /// Keys of `[decide]` and `[line]` that differ from their defaults, with values as device.toml
    /// spells them, lists with commas.
    pub policy: Vec<(String, String)>,
    /// Frames in the order of time.
    pub frames: Vec<Frame>,
    /// The decision after the last of them.
    pub expected: Expected,
}

/// Why a table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// Line of the file, counted from 1.
    pub line: usize,
    /// What was found, and what was expected.
    pub what: String,
}

impl core::fmt::Display for TableError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl core::error::Error for TableError {}

/// Time between two frames that state none.
const FRAME_MS: u64 = 10;
const COLUMNS: usize = 9;

/// Reads a table. Empty lines and lines that begin with `#` are passed over.
pub fn parse(text: &str) -> Result<Vec<Row>, TableError> {
    let lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim_end_matches('\r')));
    lines.filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')).map(|(line, l)| row(line, l)).collect()
}

/// The rows of `default`, or of the file that `TAGPIN_DECISIONS` names: what tests run. Panics with
/// the place of a mistake.
pub fn stated(default: &str) -> Vec<Row> {
    let file = std::env::var("TAGPIN_DECISIONS");
    let text = match &file {
        Ok(path) => std::fs::read_to_string(path).unwrap_or_else(|e| panic!("TAGPIN_DECISIONS={path}: {e}")),
        Err(_) => default.into(),
    };
    let rows = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.as_deref().unwrap_or("decisions.tsv")));
    assert!(!rows.is_empty(), "a table without rows shows nothing");
    rows
}

fn row(line: usize, text: &str) -> Result<Row, TableError> {
    let wrong = |what: String| TableError { line, what };
    let cells: Vec<&str> = text.split('\t').map(str::trim).collect();
    let [name, task, tags, policy, frames, verdict, action, tag, driving] = cells[..] else {
        return Err(wrong(format!("{} columns, expected {COLUMNS} with tabs between them", cells.len())));
    };
    let task = match task {
        "multiclass" => Task::Multiclass,
        "multilabel" => Task::Multilabel,
        other => return Err(wrong(format!("task \"{other}\", expected multiclass or multilabel"))),
    };
    let tags: Vec<Tag> = tags.split(';').map(|t| self::tag(t.trim())).collect::<Result<_, _>>().map_err(wrong)?;
    let policy = absent(policy).map_or(Ok(vec![]), |p| {
        let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()));
        p.split(' ').filter(|p| !p.is_empty()).map(|p| pair(p).ok_or(format!("\"{p}\", expected key=value"))).collect()
    });
    let mut read = Vec::new();
    for text in frames.split('|') {
        let at_ms = read.last().map_or(0, |f: &Frame| f.at_ms() + FRAME_MS);
        read.push(frame(text.trim(), at_ms, tags.len()).map_err(wrong)?);
    }
    let names = |cell: &str| absent(cell).map_or(vec![], |c| c.split(',').map(str::to_string).collect());
    let expected = Expected {
        verdict: verdict.into(),
        action: action.into(),
        tag: absent(tag).map(str::to_string),
        driving: names(driving),
    };
    let row = Row { line, name: name.into(), task, tags, policy: policy.map_err(wrong)?, frames: read, expected };
    row.policy().and_then(|_| row.tag_policies()).map_err(wrong)?;
    Ok(row)
}

fn absent(cell: &str) -> Option<&str> {
    (cell != "-" && !cell.is_empty()).then_some(cell)
}

fn probability(text: &str) -> Result<f32, String> {
    let p: f32 = text.parse().map_err(|_| format!("\"{text}\", expected a number from 0 to 1"))?;
    Score::from_probability(p).map(|_| p).ok_or(format!("{p}, expected 0 to 1"))
}

/// `NAME ROLE THRESHOLD [REVIEW_LOW]`.
fn tag(text: &str) -> Result<Tag, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, role, threshold, low) = match words[..] {
        [name, role, threshold] => (name, role, threshold, threshold),
        [name, role, threshold, low] => (name, role, threshold, low),
        _ => return Err(format!("tag \"{text}\", expected NAME ROLE THRESHOLD [REVIEW_LOW]")),
    };
    let role = Role::ALL
        .into_iter()
        .find(|r| r.name() == role)
        .ok_or(format!("role \"{role}\", expected good, defect or other"))?;
    Ok(Tag { name: name.into(), role, threshold: probability(threshold)?, review_low: probability(low)? })
}

/// `[@MS] [!] SCORE...`, or `[@MS] missing`.
fn frame(text: &str, default_ms: u64, tags: usize) -> Result<Frame, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut at_ms = default_ms;
    if let Some(ms) = words.first().and_then(|w| w.strip_prefix('@')) {
        at_ms = ms.parse().map_err(|_| format!("\"@{ms}\", expected @MILLISECONDS"))?;
        words.remove(0);
    }
    if words == ["missing"] {
        return Ok(Frame::Missing { at_ms });
    }
    let beyond = words.first() == Some(&"!");
    if beyond {
        words.remove(0);
    }
    let scores: Vec<f32> = words.into_iter().map(probability).collect::<Result<_, _>>()?;
    if scores.len() != tags {
        return Err(format!("frame \"{text}\": {} scores for {tags} tags", scores.len()));
    }
    Ok(Frame::Scores { at_ms, beyond, scores })
}

impl Frame {
    /// Milliseconds since the first frame.
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Scores { at_ms, .. } | Self::Missing { at_ms } => *at_ms,
        }
    }
}

impl Row {
    fn stated(&self, key: &str) -> Option<&str> {
        self.policy.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The frames that the verdict is of: a gate's part ends at its first missing frame, whatever
    /// comes behind it.
    pub fn judged(&self) -> &[Frame] {
        let missing = self.frames.iter().position(|f| matches!(f, Frame::Missing { .. }));
        match missing {
            Some(at) if self.is_gate() => &self.frames[..=at],
            _ => &self.frames,
        }
    }

    /// The policy as stated, the rest as device.toml's defaults with as many frames as `[decide]`
    /// looks back on.
    pub fn policy(&self) -> Result<Policy, String> {
        const KEYS: [&str; 13] = [
            "n",
            "k",
            "combine",
            "hysteresis",
            "dwell_ms",
            "unknown",
            "foreign",
            "pick",
            "accept",
            "reject",
            "review",
            "mode",
            "late",
        ];
        if let Some((key, _)) = self.policy.iter().find(|(k, _)| !KEYS.contains(&k.as_str())) {
            return Err(format!("policy \"{key}\", expected one of {}", KEYS.join(", ")));
        }
        let number = |key: &str, default: u8| match self.stated(key) {
            Some(v) => v.parse::<u8>().map_err(|_| format!("{key}={v}, expected a whole number")),
            None => Ok(default),
        };
        let action = |key: &str, default: Action| match self.stated(key) {
            Some(v) => Action::ALL.into_iter().find(|a| a.name() == v).ok_or(format!("{key}={v}, expected an action")),
            None => Ok(default),
        };
        let default = Policy::default();
        let n = number("n", 1)?;
        Ok(Policy {
            combine: match self.stated("combine") {
                Some(v) => Combine::ALL.into_iter().find(|c| c.name() == v).ok_or(format!("combine={v}"))?,
                None => default.combine,
            },
            n,
            k: number("k", n.div_ceil(2))?,
            hysteresis: Score::from_probability(self.stated("hysteresis").map_or(Ok(0.0), probability)?).unwrap_or_default(),
            dwell: Millis(self.stated("dwell_ms").map_or(Ok(0), |v| v.parse().map_err(|_| format!("dwell_ms={v}")))?),
            stale_after: default.stale_after,
            unknown: action("unknown", default.unknown)?,
            foreign: action("foreign", default.foreign)?,
        })
    }

    /// The tags as stated: rules, actions by role or by list, and the order of preference.
    pub fn tag_policies(&self) -> Result<Vec<TagPolicy>, String> {
        let list = |key: &str| self.stated(key).map_or(vec![], |v| v.split(',').collect::<Vec<_>>());
        let lists = Action::ALL.map(|a| (a, list(a.name())));
        let preferred = list("pick");
        let known = |name: &&str| **name == *"top" || self.tags.iter().any(|t| t.name == **name);
        if let Some(name) = lists.iter().flat_map(|(_, names)| names).chain(&preferred).find(|n| !known(n)) {
            return Err(format!("no tag \"{name}\""));
        }
        let score = |p| Score::from_probability(p).unwrap_or_default();
        let one = |tag: &Tag| {
            let listed = lists.iter().find(|(_, names)| names.contains(&tag.name.as_str())).map(|(a, _)| *a);
            let place = preferred.iter().position(|n| *n == tag.name);
            TagPolicy {
                rule: TagRule { threshold: score(tag.threshold), review_low: score(tag.review_low) },
                action: listed.unwrap_or(tag.role.action()),
                preference: place.map_or(Preference::UNLISTED, |p| Preference(p as u16)),
                is_category: false,
            }
        };
        Ok(self.tags.iter().map(one).collect())
    }

    /// Whether outputs follow parts.
    pub fn is_gate(&self) -> bool {
        self.stated("mode").unwrap_or("gate") == "gate"
    }

    /// What a part without a verdict gets; `-`, nothing, where outputs follow tags.
    pub fn late(&self) -> &str {
        if self.is_gate() { self.stated("late").unwrap_or("reject") } else { "-" }
    }

    /// Whether the row needs no more than one image and the default settings.
    pub fn is_one_image(&self) -> bool {
        self.policy.is_empty() && matches!(self.frames[..], [Frame::Scores { beyond: false, .. }])
    }

    /// A device.toml that states this row's policy, and an output for every tag, action and verdict
    /// to be listened to. The thresholds are the bundle's, except for every second tag, which
    /// states them itself.
    pub fn device_toml(&self) -> String {
        let quote = |v: &str| format!("\"{v}\"");
        let list = |v: &str| format!("[{}]", v.split(',').map(quote).collect::<Vec<_>>().join(", "));
        let gate = self.is_gate();
        let n = self.stated("n").unwrap_or("1");
        let mut text = format!("[line]\nmode = \"{}\"\n", if gate { "gate" } else { "state" });
        if gate {
            text += &format!("late = {}\n", quote(self.late()));
        }
        text += &format!("[trigger]\nkind = \"barrier\"\nframes = {n}\n[decide]\nn = {n}\n");
        for (key, value) in &self.policy {
            text += &match key.as_str() {
                "mode" | "late" | "n" => continue,
                "accept" | "reject" | "review" => format!("{key} = {}\n", list(value)),
                "pick" if value != "top" => format!("{key} = {}\n", list(value)),
                "combine" | "unknown" | "foreign" | "pick" => format!("{key} = {}\n", quote(value)),
                _ => format!("{key} = {value}\n"),
            };
        }
        for tag in self.tags.iter().skip(1).step_by(2) {
            let (name, t, low) = (&tag.name, tag.threshold, tag.review_low);
            text += &format!("[tags.\"{name}\"]\nthreshold = {t:?}\nreview_low = {low:?}\n");
        }
        let delay = if gate { "delay_ms = 100\n" } else { "" };
        let mut output = |name: String, on: &str| text += &format!("[outputs.\"{name}\"]\non = [{}]\n{delay}", quote(on));
        for word in ["accept", "reject", "review", "unknown", "foreign"] {
            output(format!("on_{word}"), word);
        }
        for tag in &self.tags {
            output(format!("tag_{}", tag.name), &format!("tag:{}", tag.name));
        }
        text
    }
}

impl Row {
    /// Panics with the row's place if `decision` and the action that was taken are not what it
    /// states. `who` decided.
    pub fn check(&self, decision: &Decision, action: &str, who: &str) {
        let name = |id: TagId| self.tags[id.0 as usize].name.clone();
        let found = Expected {
            verdict: decision.verdict.name().into(),
            action: action.into(),
            tag: decision.tag.map(name),
            driving: decision.driving(self.task).iter().map(name).collect(),
        };
        assert_eq!(found, self.expected, "decision table, line {}, \"{}\", by {who}", self.line, self.name);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{Decider, Observation};
    use super::*;
    use crate::fault::Reason;
    use crate::time::Instant;

    const TABLE: &str = include_str!("../../tests/data/decisions.tsv");

    /// The rows of the table in the repository, or of another that is asked for.
    pub(crate) fn rows() -> Vec<Row> {
        stated(TABLE)
    }

    /// What `decider` makes of the row's frames.
    pub(crate) fn decided(row: &Row, decider: &mut Decider) -> Decision {
        let mut decision = Decision::safe(Reason::NoFrame);
        for frame in row.judged() {
            let now = Instant::from_micros(1_000_000 + frame.at_ms() * 1000);
            decision = match frame {
                Frame::Missing { .. } => decider.step(now, Observation::Missing(Reason::NoFrame)),
                Frame::Scores { beyond, scores, .. } => {
                    let scores: Vec<Score> = scores.iter().map(|p| Score::from_probability(*p).unwrap()).collect();
                    decider.step(now, Observation::Scores { captured_at: now, scores: &scores, beyond: *beyond })
                }
            };
        }
        decision
    }

    #[test]
    fn the_table_is_long_enough_and_shows_every_verdict_action_and_task() {
        let rows = parse(TABLE).unwrap();
        assert!(rows.len() >= 60, "{} rows", rows.len());
        let count = |of: &dyn Fn(&Row) -> bool| rows.iter().filter(|r| of(r)).count();
        for word in ["present", "review", "unknown", "foreign", "safe"] {
            assert!(count(&|r| r.expected.verdict == word) >= 2, "{word}");
        }
        for task in [Task::Multiclass, Task::Multilabel] {
            assert!(count(&|r| r.task == task) >= 13, "{task:?}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_names_its_line_and_what_is_wrong() {
        let good = "x\tmulticlass\ta good 0.5; b defect 0.5\t-\t0.9 0.1\tpresent\taccept\ta\ta";
        assert_eq!(parse(good).map(|r| r.len()), Ok(1));
        for (from, to, what) in [
            ("multiclass", "binary", "task \"binary\""),
            ("defect", "scrap", "role \"scrap\""),
            ("0.9 0.1", "0.9", "1 scores for 2 tags"),
            ("0.9 0.1", "0.9 1.1", "1.1, expected 0 to 1"),
            ("\t-\t", "\tkk=2\t", "policy \"kk\""),
            ("\t-\t", "\treject=c\t", "no tag \"c\""),
            ("\taccept\t", "\t", "8 columns"),
        ] {
            let error = parse(&format!("# head\n{}", good.replacen(from, to, 1))).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.to_string().starts_with("line 2: ") && error.to_string().contains(what), "{error}");
        }
    }

    /// What is decided otherwise than a row states stops the test, by the row's place.
    #[test]
    fn a_row_that_is_not_kept_to_is_told_by_its_line() {
        let row =
            parse("x\tmulticlass\ta good 0.5; b defect 0.5\tpick=a,b\t0.9 0.1\tpresent\taccept\ta\ta").unwrap().remove(0);
        let mut decider = Decider::new(row.task, &row.tag_policies().unwrap(), row.policy().unwrap()).unwrap();
        let decision = decided(&row, &mut decider);
        row.check(&decision, "accept", "the rule");
        let told = std::panic::catch_unwind(|| row.check(&decision, "reject", "somebody")).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("decision table, line 1, \"x\", by somebody"), "{told}");
        // A preference is "top", or a list.
        assert!(row.device_toml().contains("pick = [\"a\", \"b\"]\n"), "{}", row.device_toml());
        let top =
            parse("x\tmulticlass\ta good 0.5; b defect 0.5\tpick=top\t0.9 0.1\tpresent\taccept\ta\ta").unwrap().remove(0);
        assert!(top.device_toml().contains("pick = \"top\"\n"), "{}", top.device_toml());
    }

    #[test]
    fn frames_without_a_time_follow_one_another_and_one_plain_frame_is_one_image() {
        let row = |policy: &str, frames: &str| {
            parse(&format!("x\tmulticlass\ta good 0.5; b defect 0.5\t{policy}\t{frames}\tpresent\taccept\ta\ta"))
                .unwrap()
                .remove(0)
        };
        let three = row("n=3", "0.9 0.1 | @500 0.9 0.1 | missing");
        assert_eq!(three.frames.iter().map(Frame::at_ms).collect::<Vec<_>>(), [0, 500, 510]);
        let one_image =
            [("-", "0.9 0.1", true), ("n=1", "0.9 0.1", false), ("-", "! 0.9 0.1", false), ("-", "missing", false)];
        for (policy, frames, expected) in one_image {
            assert_eq!(row(policy, frames).is_one_image(), expected, "{policy} {frames}");
        }
    }
}
