//! `dataset split`: assigns each image to training, validation or test, in a file that every later
//! command reads.
//!
//! Images of the same part (twins) or the same group form a *cluster*, and a cluster is never
//! divided between sides: otherwise the test figures would be too good.

use super::check::{self, Checked, Contract};
use super::groups::{self, Wanted};
use super::twins::{self, Bound, Pair};
use super::{Dataset, Entry, TaskName, files, survey};
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
    /// What stays together: a column of the list, `folder` for the folder below a tag's, or a
    /// pattern that finds the part in a file's path, with a group in brackets, as in 'part(\d+)'.
    #[arg(long, value_name = "COLUMN|PATTERN")]
    pub group: Option<String>,
    /// Images stay together that were taken one after the other with no longer gap, by their EXIF
    /// times.
    #[arg(long, value_name = "SECONDS")]
    pub group_gap: Option<u64>,
    /// How alike two images must be to be of one part: auto (above what different parts of this
    /// set reach), a likeness between 0.1 and 1, or exact (the same bytes).
    #[arg(long, default_value = "auto", value_name = "auto|0..1|exact")]
    pub alike: Bound,
    /// An earlier split: its images keep their side, new ones are shared out. Without it, a split
    /// that --force replaces.
    #[arg(long, value_name = "SPLIT")]
    pub keep: Option<PathBuf>,
    /// Column that names the side of each image (train, val or test); `none` splits anew what
    /// lies in folders of these names.
    #[arg(long, value_name = "COLUMN|none", conflicts_with = "keep")]
    pub sides: Option<String>,
    /// Parts of training, validation and test.
    #[arg(long, value_delimiter = ',', default_value = "70,15,15")]
    pub shares: Vec<f64>,
    /// Seed: the same seed splits the same files in the same way.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Go on with tags of fewer than 5 images; every later figure carries a warning.
    #[arg(long)]
    pub allow_few: bool,
    /// Overwrite an existing split; its images keep their side, unless --anew.
    #[arg(long)]
    pub force: bool,
    /// Forget the sides of the split that --force replaces.
    #[arg(long, requires = "force")]
    pub anew: bool,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Trained on.
    Train,
    /// Settings, thresholds and scales are chosen on it.
    Validation,
    /// Judged on, once.
    Test,
}

impl Side {
    /// All sides.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The side that people mean by a folder's or a column's word.
    pub fn named(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "validate" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Where the images of splits lie now, if they were moved: the program's `--root`.
pub static MOVED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();

/// A dataset and what each image of it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Split {
    /// Format of this file.
    pub split: u32,
    /// Which seed.
    pub seed: u64,
    /// Columns whose values stay together.
    pub groups: Vec<String>,
    /// The images.
    pub dataset: Dataset,
    /// `[entries]`: what each is for.
    pub sides: Vec<Side>,
    /// `[entries]`: images of one cluster show the same thing or belong to one group.
    pub clusters: Vec<usize>,
    /// What the data is.
    pub contract: Contract,
}

impl Split {
    /// Reads a split file.
    pub fn read(path: &Path) -> Result<Self> {
        let json: serde_json::Value = run_folder::read_json(path, "dataset split")?;
        let (name, version) = (path.display(), json["split"].as_u64());
        if let Some(other) = version.filter(|v| *v != u64::from(check::VERSION)) {
            bail!("{name} is of version {other}, this program reads {}; run `dataset split` again", check::VERSION);
        }
        let damaged = || format!("{name} is damaged; run `dataset split` again");
        let mut split: Self = serde_json::from_value(json).with_context(damaged)?;
        if let Some(root) = MOVED.get() {
            split.dataset.root = root.clone();
        }
        let n = split.dataset.entries.len();
        let tags = split.dataset.tags.len();
        let of_tags = split.dataset.entries.iter().flat_map(|e| &e.tags).all(|&t| t < tags);
        ensure!(split.sides.len() == n && split.clusters.len() == n && of_tags, damaged());
        Ok(split)
    }

    /// Reports images in the data's folder that the split does not have yet. `None` for a list,
    /// which names its files itself.
    pub fn news(&self) -> Option<String> {
        let data = &self.contract.data;
        if !data.is_dir() {
            return None;
        }
        let found = files::below(data, true).ok()?;
        let known: std::collections::HashSet<PathBuf> = self
            .dataset
            .entries
            .iter()
            .map(|e| &e.path)
            .chain(self.contract.skipped.iter().map(|s| &s.path))
            .map(|p| data.join(p))
            .collect();
        let n = found.images.iter().filter(|p| !known.contains(*p)).count();
        (n > 0).then(|| {
            format!(
                "{n} images in {} are not in this split; `dataset split {} --keep SPLIT` adds them, and the others keep their side",
                data.display(),
                data.display()
            )
        })
    }

    /// The images of a side, in the dataset's order.
    pub fn entries(&self, side: Side) -> Vec<Entry> {
        let of = self.dataset.entries.iter().zip(&self.sides).filter(|(_, s)| **s == side);
        of.map(|(e, _)| e.clone()).collect()
    }

    /// Refuses a split in which two sides share a part, by hash, by likeness or by group. Reads the
    /// files again, so that a hand-edited split or a changed file does not pass.
    pub fn refuse_leaks(&self) -> Result<()> {
        let survey = survey::survey(&self.dataset)?;
        if let Some(file) = survey.skipped.first() {
            bail!("{}: {}; run `dataset split` again", self.dataset.root.join(&file.path).display(), file.why);
        }
        let e = &self.dataset.entries;
        let leak = |a: usize, b: usize, why: &str| {
            anyhow::anyhow!(
                "leak: {} ({}) and {} ({}) {why}; figures would be too good. Run `dataset split` again (--sides none, if folders or a column \
                 name the sides)",
                e[a].path.display(),
                self.sides[a].name(),
                e[b].path.display(),
                self.sides[b].name()
            )
        };
        for Pair { a, b, exact, .. } in twins::of(&self.dataset, &survey.looks, self.contract.alike).pairs {
            if self.sides[a] != self.sides[b] {
                return Err(leak(a, b, if exact { "are the same file" } else { "show the same" }));
            }
        }
        for column in &self.groups {
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

/// Numbers the clusters: images that are twins or share a group get the same number.
fn clusters(entries: &[Entry], twins: &[usize], groups: &[String]) -> Vec<usize> {
    let mut parent: Vec<usize> = twins.to_vec();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for column in groups {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, e) in entries.iter().enumerate() {
            if let Some(value) = e.columns.get(column) {
                let held = *first.entry(value).or_insert(i);
                let (a, b) = (root(&mut parent, held), root(&mut parent, i));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    (0..entries.len()).map(|i| root(&mut parent, i)).collect()
}

/// Shares out whole clusters, each to the side that lacks its tags most (iterative stratification:
/// Sechidis et al., "On the Stratification of Multi-label Data", 2011; here over clusters instead
/// of single images). A cluster with a `fixed` image follows it; one with images fixed to
/// several sides is trained on, and counted: the second value.
fn stratify(
    entries: &[Entry],
    tags: usize,
    clusters: &[usize],
    shares: [f64; 3],
    seed: u64,
    fixed: &[Option<Side>],
) -> (Vec<Side>, usize) {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    clusters.iter().enumerate().for_each(|(i, &c)| members.entry(c).or_default().push(i));
    let counts = super::counts(tags, entries);
    let all: f64 = shares.iter().sum();
    // The last column counts images, so that sizes come out right where there are no tags.
    let wanted =
        |share: f64| -> Vec<f64> { counts.iter().chain([&entries.len()]).map(|&n| n as f64 * share / all).collect() };
    let mut lacking: Vec<Vec<f64>> = shares.iter().map(|&s| wanted(s)).collect();
    let mut sides = vec![Side::Train; entries.len()];
    let mut put = |m: &[usize], side: Side, lacking: &mut Vec<Vec<f64>>| {
        for &i in m {
            sides[i] = side;
            entries[i].tags.iter().copied().chain([tags]).for_each(|t| lacking[side as usize][t] -= 1.0);
        }
    };
    let (mut order, mut moved): (Vec<&Vec<usize>>, usize) = (Vec::new(), 0);
    for m in members.values() {
        let mut of: Vec<Side> = m.iter().filter_map(|&i| fixed[i]).collect();
        of.sort();
        of.dedup();
        match of[..] {
            [] => order.push(m),
            [one] => put(m, one, &mut lacking),
            _ => {
                moved += m.iter().filter(|&&i| fixed[i].is_some_and(|s| s != Side::Train)).count();
                put(m, Side::Train, &mut lacking);
            }
        }
    }
    let rank = |m: &[usize]| {
        let mut key = seed.to_le_bytes().to_vec();
        m.iter().for_each(|&i| key.extend(entries[i].sha256.bytes()));
        sha256(&key)
    };
    let rarest = |m: &[usize]| m.iter().flat_map(|&i| &entries[i].tags).map(|&t| counts[t]).min().unwrap_or(usize::MAX);
    order.sort_by_cached_key(|m| (std::cmp::Reverse(m.len()), rarest(m), rank(m)));
    for m in order {
        let need = |s: usize| -> f64 {
            let lacks =
                |t: usize| lacking[s][t] / (counts.get(t).copied().unwrap_or(entries.len()).max(1) as f64 * shares[s] / all);
            m.iter().flat_map(|&i| entries[i].tags.iter().copied().chain([tags])).map(lacks).sum()
        };
        let best = (0..3).filter(|&s| shares[s] > 0.0).max_by(|&a, &b| need(a).total_cmp(&need(b)).then(b.cmp(&a)));
        put(m, Side::ALL[best.expect("a share is above 0")], &mut lacking);
    }
    (sides, moved)
}

/// Default shares of the sides.
pub const SHARES: [f64; 3] = [70.0, 15.0, 15.0];

/// Splits image by image, ignoring clusters, as a careless split would: for comparison only.
pub fn regardless(split: &Split, seed: u64) -> Vec<Side> {
    let each: Vec<usize> = (0..split.sides.len()).collect();
    stratify(&split.dataset.entries, split.dataset.tags.len(), &each, SHARES, seed, &vec![None; each.len()]).0
}

/// Splits the split's own clusters again, with another seed.
pub fn again(split: &Split, seed: u64) -> Vec<Side> {
    let free = vec![None; split.sides.len()];
    stratify(&split.dataset.entries, split.dataset.tags.len(), &split.clusters, SHARES, seed, &free).0
}

/// Sides as a column states them; if it names no validation or test image, a part of training
/// becomes that side.
fn chosen(
    entries: &[Entry],
    tags: usize,
    clusters: &[usize],
    how: &How<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<Side>>> {
    let column = match how.sides {
        Some("none") => return Ok(None),
        Some(column) => column,
        None => "side",
    };
    let named = |e: &Entry| e.columns.get(column).and_then(|v| Side::named(v));
    let sides: Option<Vec<Side>> = entries.iter().map(named).collect();
    let Some(mut sides) = sides else {
        if how.sides.is_some() {
            let e = entries.iter().find(|e| named(e).is_none()).expect("one has no side");
            let found = e.columns.get(column).map_or("nothing".into(), |v| format!("\"{v}\""));
            bail!("--sides {column}: {} has {found} there, expected train, val or test", e.path.display());
        }
        return Ok(None);
    };
    let lacks = |side: Side| !sides.contains(&side);
    let shares =
        [how.shares[0], how.shares[1] * f64::from(lacks(Side::Validation)), how.shares[2] * f64::from(lacks(Side::Test))];
    let made: Vec<&str> = Side::ALL[1..].iter().filter(|s| lacks(**s)).map(|s| s.name()).collect();
    let train: Vec<usize> = (0..entries.len()).filter(|&i| sides[i] == Side::Train).collect();
    ensure!(
        !train.is_empty(),
        "there is no training side: expected a folder train beside the others, or --sides none to split anew"
    );
    if !made.is_empty() {
        notes.push(format!("there is no {} side; a part of the training images becomes it", made.join(" and no ")));
        let inner: Vec<Entry> = train.iter().map(|&i| entries[i].clone()).collect();
        let inner_clusters: Vec<usize> = train.iter().map(|&i| clusters[i]).collect();
        let (again, _) = stratify(&inner, tags, &inner_clusters, shares, how.seed, &vec![None; inner.len()]);
        train.iter().zip(again).for_each(|(&i, s)| sides[i] = s);
    }
    Ok(Some(sides))
}

/// How a dataset is split.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// What stays together beside twins.
    pub wanted: Wanted<'a>,
    /// An earlier split whose images keep their side.
    pub keep: Option<&'a Split>,
    /// Column of sides, or `none`.
    pub sides: Option<&'a str>,
    /// Of training, validation and test.
    pub shares: [f64; 3],
    /// Of the order in which clusters are shared out.
    pub seed: u64,
}

/// Splits a checked dataset.
pub fn split(checked: Checked, group: Option<&str>, shares: [f64; 3], seed: u64) -> Result<Split> {
    split_so(checked, &How { wanted: Wanted { group, gap: None }, keep: None, sides: None, shares, seed })
}

/// Splits a checked dataset with the user's options; what they led to is in the contract's notes.
pub fn split_so(checked: Checked, how: &How<'_>) -> Result<Split> {
    let Checked { mut dataset, looks, twins, mut contract } = checked;
    let (noted, warned) = (contract.notes.len(), contract.warnings.len());
    let (groups, notes) = groups::give(&mut dataset.entries, &looks, how.wanted)?;
    contract.notes.extend(notes);
    let clusters = clusters(&dataset.entries, &twins.clusters, &groups);
    let tags = dataset.tags.len();
    let fixed = fixed(&dataset.entries, how.keep, &mut contract.notes);
    let chosen =
        if how.keep.is_some() { None } else { chosen(&dataset.entries, tags, &clusters, how, &mut contract.notes)? };
    let sides = match chosen {
        Some(sides) => sides,
        None => {
            let (sides, moved) = stratify(&dataset.entries, tags, &clusters, how.shares, how.seed, &fixed);
            if moved > 0 {
                contract.notes.push(format!(
                    "{moved} old images became training images: what they stay together with now is trained on"
                ));
            }
            sides
        }
    };
    let split = Split { split: check::VERSION, seed: how.seed, groups, dataset, sides, clusters, contract };
    let split = split.with_warnings()?;
    split.contract.notes[noted..].iter().for_each(|n| println!("{:>16}  {n}", "note"));
    split.contract.warnings[warned..].iter().for_each(|w| println!("{:>16}  {w}", "warning"));
    Ok(split)
}

/// The side that each image had in an earlier split, found by its bytes, else by its path.
fn fixed(entries: &[Entry], keep: Option<&Split>, notes: &mut Vec<String>) -> Vec<Option<Side>> {
    let Some(old) = keep else { return vec![None; entries.len()] };
    let (mut by_hash, mut by_path) = (HashMap::new(), HashMap::new());
    for (e, &side) in old.dataset.entries.iter().zip(&old.sides) {
        by_hash.insert(e.sha256.as_str(), side);
        by_path.insert(&e.path, side);
    }
    let of = |e: &Entry| by_hash.get(e.sha256.as_str()).or_else(|| by_path.get(&e.path)).copied();
    let fixed: Vec<Option<Side>> = entries.iter().map(of).collect();
    let n = fixed.iter().flatten().count();
    notes.push(format!("{n} images keep the side of an earlier split, {} are new", entries.len() - n));
    fixed
}

impl Split {
    /// Refuses a split with an empty side or with a tag that has no training image; warns of a tag
    /// that has none elsewhere.
    fn with_warnings(mut self) -> Result<Self> {
        let n = Side::ALL.map(|s| self.entries(s).len());
        if let Some(empty) = (0..3).find(|&s| n[s] == 0) {
            let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
            self.clusters.iter().for_each(|c| *sizes.entry(*c).or_default() += 1);
            bail!(
                "the {} side got no images: there are {} clusters of images that stay together, the largest of {}. Add images, use a \
                 finer --group, or say how alike twins are with --alike (dataset check lists the pairs)",
                Side::ALL[empty].name(),
                sizes.len(),
                sizes.values().max().unwrap_or(&0)
            );
        }
        let of_sides = Side::ALL.map(|s| super::counts(self.dataset.tags.len(), &self.entries(s)));
        for (t, tag) in self.dataset.tags.iter().enumerate() {
            let all: usize = of_sides.iter().map(|s| s[t]).sum();
            ensure!(
                of_sides[0][t] > 0 || all == 0,
                "tag \"{tag}\" has no training image, {all} elsewhere: it cannot be trained. Put some into training, take the tag out, or \
                 split anew with --sides none"
            );
            for (_, side) in of_sides.iter().zip(Side::ALL).skip(1).filter(|(counts, _)| counts[t] == 0) {
                let side = side.name();
                self.contract.warnings.push(format!("tag \"{tag}\" has no {side} image: nothing is known of it there"));
            }
        }
        Ok(self)
    }
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
    let replaced = args.out.exists() && !args.anew && args.sides.is_none();
    let old = match &args.keep {
        Some(path) => Some(Split::read(path)?),
        None if replaced => {
            Some(Split::read(&args.out).context("the split that --force replaces gives its sides, unless --anew is given")?)
        }
        None => None,
    };
    let mut checked = check::check_alike(&args.data, args.task, args.about.as_deref(), args.allow_few, args.alike)?;
    check::print(&checked.contract);
    // Later commands may be run from anywhere.
    checked.dataset.root = std::fs::canonicalize(&checked.dataset.root)
        .with_context(|| format!("{} cannot be found", checked.dataset.root.display()))?;
    let wanted = Wanted { group: args.group.as_deref(), gap: args.group_gap };
    let how = How { wanted, keep: old.as_ref(), sides: args.sides.as_deref(), shares, seed: args.seed };
    let split = split_so(checked, &how)?;
    println!("\n{:>16}{:>8}{:>12}{:>8}", "images", "train", "validation", "test");
    let of = |side: Side| super::counts(split.dataset.tags.len(), &split.entries(side));
    let sides = Side::ALL.map(of);
    for (t, tag) in split.dataset.tags.iter().enumerate() {
        println!("{tag:>16}{:>8}{:>12}{:>8}", sides[0][t], sides[1][t], sides[2][t]);
    }
    let n = Side::ALL.map(|s| split.entries(s).len());
    println!("{:>16}{:>8}{:>12}{:>8}", "all", n[0], n[1], n[2]);
    split.refuse_leaks()?;
    run_folder::write_json(&args.out, &split)?;
    println!("\n{} (seed {}, {} clusters of images that stay together)", args.out.display(), args.seed, {
        let mut c = split.clusters.clone();
        c.sort();
        c.dedup();
        c.len()
    });
    Ok(())
}
