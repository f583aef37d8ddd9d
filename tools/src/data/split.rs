//! `dataset split`: who is trained on, who chooses, who judges; a file that every later command uses.
//!
//! Does not know models. What shows the same thing never lies on two sides.

use super::check::{self, Checked, Contract};
use super::survey::{self, Pair};
use super::{Dataset, Entry, TaskName};
use crate::run_folder;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tagpin::bundle::sha256;

/// Split a dataset into training, validation and test, without leaks.
#[derive(clap::Args, Clone, Debug)]
pub struct SplitArgs {
    /// A folder of tagged folders, a CSV or TSV list, or a COCO file.
    pub data: PathBuf,
    /// Split to write.
    #[arg(long, default_value = "split.json")]
    pub out: PathBuf,
    /// What the prediction is for; goes into the data contract in the split.
    #[arg(long)]
    pub about: Option<PathBuf>,
    /// Take the tags as exclusive or not, whatever the form suggests.
    #[arg(long, value_enum)]
    pub task: Option<TaskName>,
    /// Column whose values stay together: one part, one shift. `folder` is the folder below a tag's.
    #[arg(long)]
    pub group: Option<String>,
    /// Parts of training, validation and test.
    #[arg(long, value_delimiter = ',', default_value = "70,15,15")]
    pub shares: Vec<f64>,
    /// Seed: the same seed splits the same files in the same way.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Go on with tags of fewer than 5 pictures; every later figure carries a warning.
    #[arg(long)]
    pub allow_few: bool,
    /// Overwrite an existing split.
    #[arg(long)]
    pub force: bool,
}

/// What a picture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// To learn from.
    Train,
    /// To choose settings, thresholds and steps by.
    Validation,
    /// To judge by, once.
    Test,
}

impl Side {
    /// All sides.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// A dataset and what each picture of it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Split {
    /// Format of this file.
    pub split: u32,
    /// Which seed.
    pub seed: u64,
    /// Column that was kept together.
    pub group: Option<String>,
    /// The pictures.
    pub dataset: Dataset,
    /// `[entries]`: what each is for.
    pub sides: Vec<Side>,
    /// `[entries]`: pictures of one cluster show the same thing or belong to one group.
    pub clusters: Vec<usize>,
    /// What the data is.
    pub contract: Contract,
}

impl Split {
    /// Reads a split file.
    pub fn read(path: &Path) -> Result<Self> {
        let split: Self = run_folder::read_json(path, "dataset split")?;
        let n = split.dataset.entries.len();
        let tags = split.dataset.tags.len();
        ensure!(
            split.split == 1
                && split.sides.len() == n
                && split.clusters.len() == n
                && split.dataset.entries.iter().flat_map(|e| &e.tags).all(|&t| t < tags),
            "{} is damaged; run `dataset split` again",
            path.display()
        );
        Ok(split)
    }

    /// The pictures of a side, in the dataset's order.
    pub fn entries(&self, side: Side) -> Vec<Entry> {
        let of = self.dataset.entries.iter().zip(&self.sides).filter(|(_, s)| **s == side);
        of.map(|(e, _)| e.clone()).collect()
    }

    /// Refuses a split in which two sides show the same: by hash, by look, by group. Looks again at the files, so that a
    /// hand-edited split or a changed file does not pass.
    pub fn refuse_leaks(&self) -> Result<()> {
        let survey = survey::survey(&self.dataset)?;
        if let Some((path, why)) = survey.skipped.first() {
            bail!("{}: {why}; run `dataset split` again", path.display());
        }
        let e = &self.dataset.entries;
        let leak = |a: usize, b: usize, why: &str| {
            anyhow::anyhow!(
                "leak: {} ({}) and {} ({}) {why}; figures would be too good. Run `dataset split` again",
                e[a].path.display(),
                self.sides[a].name(),
                e[b].path.display(),
                self.sides[b].name()
            )
        };
        for Pair { a, b, exact } in survey::duplicates(e, &survey.looks) {
            if self.sides[a] != self.sides[b] {
                return Err(leak(a, b, if exact { "are the same file" } else { "show the same" }));
            }
        }
        if let Some(column) = &self.group {
            let mut first: HashMap<&str, usize> = HashMap::new();
            for (i, entry) in e.iter().enumerate() {
                let Some(value) = entry.columns.get(column) else { continue };
                let held = *first.entry(value).or_insert(i);
                if self.sides[held] != self.sides[i] {
                    return Err(leak(held, i, &format!("are of one {column}, \"{value}\",")));
                }
            }
        }
        Ok(())
    }
}

/// Pictures that show the same or belong to one group get one number.
fn clusters(entries: &[Entry], pairs: &[Pair], group: Option<&str>) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..entries.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut join = |a: usize, b: usize| {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        parent[a.max(b)] = a.min(b);
    };
    pairs.iter().for_each(|p| join(p.a, p.b));
    if let Some(column) = group {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, e) in entries.iter().enumerate() {
            if let Some(value) = e.columns.get(column) {
                let held = *first.entry(value).or_insert(i);
                join(held, i);
            }
        }
    }
    (0..entries.len()).map(|i| root(&mut parent, i)).collect()
}

/// Assigns whole clusters to sides, each to the side that lacks its tags most (iterative stratification: Sechidis et al.,
/// "On the Stratification of Multi-label Data", 2011; here over clusters instead of single pictures).
fn stratify(entries: &[Entry], tags: usize, clusters: &[usize], shares: [f64; 3], seed: u64) -> Vec<Side> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    clusters.iter().enumerate().for_each(|(i, &c)| members.entry(c).or_default().push(i));
    let counts = super::counts(tags, entries);
    let all: f64 = shares.iter().sum();
    // The last column counts pictures, so that sizes come out right where there are no tags.
    let wanted =
        |share: f64| -> Vec<f64> { counts.iter().chain([&entries.len()]).map(|&n| n as f64 * share / all).collect() };
    let mut lacking: Vec<Vec<f64>> = shares.iter().map(|&s| wanted(s)).collect();
    let rank = |m: &[usize]| {
        let mut key = seed.to_le_bytes().to_vec();
        m.iter().for_each(|&i| key.extend(entries[i].sha256.bytes()));
        sha256(&key)
    };
    let rarest = |m: &[usize]| m.iter().flat_map(|&i| &entries[i].tags).map(|&t| counts[t]).min().unwrap_or(usize::MAX);
    let mut order: Vec<&Vec<usize>> = members.values().collect();
    order.sort_by_cached_key(|m| (std::cmp::Reverse(m.len()), rarest(m), rank(m)));
    let mut sides = vec![Side::Train; entries.len()];
    for m in order {
        let need = |s: usize| -> f64 {
            let lacks =
                |t: usize| lacking[s][t] / (counts.get(t).copied().unwrap_or(entries.len()).max(1) as f64 * shares[s] / all);
            m.iter().flat_map(|&i| entries[i].tags.iter().copied().chain([tags])).map(lacks).sum()
        };
        let best = (0..3).filter(|&s| shares[s] > 0.0).max_by(|&a, &b| need(a).total_cmp(&need(b)).then(b.cmp(&a)));
        let best = best.expect("a share is above 0");
        for &i in m {
            sides[i] = Side::ALL[best];
            entries[i].tags.iter().copied().chain([tags]).for_each(|t| lacking[best][t] -= 1.0);
        }
    }
    sides
}

/// Sides for the same pictures as if no two showed the same: what a careless split does, for comparison only.
pub fn regardless(split: &Split, seed: u64) -> Vec<Side> {
    let each: Vec<usize> = (0..split.sides.len()).collect();
    stratify(&split.dataset.entries, split.dataset.tags.len(), &each, [70.0, 15.0, 15.0], seed)
}

/// Sides that somebody chose before, by the folders' names; without a validation side, a part of training becomes it.
fn kept(entries: &[Entry], tags: usize, clusters: &[usize], shares: [f64; 3], seed: u64) -> Option<Vec<Side>> {
    let side = |e: &Entry| match e.columns.get("side")?.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Side::Train),
        "val" | "valid" | "validation" => Some(Side::Validation),
        "test" => Some(Side::Test),
        _ => None,
    };
    let mut sides: Vec<Side> = entries.iter().map(side).collect::<Option<_>>()?;
    let train: Vec<usize> = (0..entries.len()).filter(|&i| sides[i] == Side::Train).collect();
    if !sides.contains(&Side::Validation) {
        let inner: Vec<Entry> = train.iter().map(|&i| entries[i].clone()).collect();
        let inner_clusters: Vec<usize> = train.iter().map(|&i| clusters[i]).collect();
        let again = stratify(&inner, tags, &inner_clusters, [shares[0], shares[1], 0.0], seed);
        train.iter().zip(again).for_each(|(&i, s)| sides[i] = s);
    }
    Some(sides)
}

/// Splits a checked dataset.
pub fn split(checked: Checked, group: Option<&str>, shares: [f64; 3], seed: u64) -> Result<Split> {
    let Checked { dataset, pairs, contract } = checked;
    if let Some(column) = group {
        let with = dataset.entries.iter().filter(|e| e.columns.contains_key(column)).count();
        ensure!(with > 0, "--group {column}: no picture has this column; name a column of the list, or `folder`");
    }
    let clusters = clusters(&dataset.entries, &pairs, group);
    let tags = dataset.tags.len();
    let sides = match kept(&dataset.entries, tags, &clusters, shares, seed) {
        Some(sides) => sides,
        None => stratify(&dataset.entries, tags, &clusters, shares, seed),
    };
    Ok(Split { split: 1, seed, group: group.map(String::from), dataset, sides, clusters, contract })
}

/// Checks, splits, prints and writes.
pub fn run(args: &SplitArgs) -> Result<()> {
    run_folder::refuse_existing(&args.out, args.force)?;
    let shares: [f64; 3] = args
        .shares
        .as_slice()
        .try_into()
        .ok()
        .filter(|s: &[f64; 3]| s.iter().all(|v| *v > 0.0 && v.is_finite()))
        .context("--shares: expected three numbers above 0, as in 70,15,15")?;
    let mut checked = check::check(&args.data, args.task, args.about.as_deref(), args.allow_few)?;
    check::print(&checked.contract);
    // Later commands may be run from anywhere.
    checked.dataset.root = std::fs::canonicalize(&checked.dataset.root)
        .with_context(|| format!("{} cannot be found", checked.dataset.root.display()))?;
    let split = split(checked, args.group.as_deref(), shares, args.seed)?;
    println!("\n{:>16}{:>8}{:>12}{:>8}", "pictures", "train", "validation", "test");
    let of = |side: Side| super::counts(split.dataset.tags.len(), &split.entries(side));
    let sides = Side::ALL.map(of);
    for (t, tag) in split.dataset.tags.iter().enumerate() {
        println!("{tag:>16}{:>8}{:>12}{:>8}", sides[0][t], sides[1][t], sides[2][t]);
    }
    let n = Side::ALL.map(|s| split.entries(s).len());
    println!("{:>16}{:>8}{:>12}{:>8}", "all", n[0], n[1], n[2]);
    ensure!(n.iter().all(|n| *n > 0), "a side got no pictures: too few clusters; add pictures or use a finer --group");
    split.refuse_leaks()?;
    run_folder::write_json(&args.out, &split)?;
    println!("\n{} (seed {}, {} clusters of pictures that stay together)", args.out.display(), args.seed, {
        let mut c = split.clusters.clone();
        c.sort();
        c.dedup();
        c.len()
    });
    Ok(())
}
