//! `dataset check`: writes the data contract, which says what the data is, what it is for, and what
//! is wrong with it. The data stays as it is.

use super::left_out::{self, LeftOut};
use super::roles::Roles;
use super::survey::{self, Look};
use super::twins::{self, Bound, Pair, Twins};
use super::{ADVISED, Dataset, FEWEST, TaskName, sources};
use crate::demand::Least;
use crate::run_folder;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Say what a dataset holds and what is wrong with it; write the data contract.
#[derive(clap::Args, Clone, Debug)]
pub struct Check {
    /// A folder of tagged folders, a CSV or TSV list (`path,tag` or `path,tags`), or a COCO file.
    pub data: PathBuf,
    /// What the prediction is for: target, unit, decision_owner, consumer, deadline_ms; which tags
    /// are defects, which good.
    #[arg(long)]
    pub about: Option<PathBuf>,
    /// Take the tags as exclusive or not, whatever the form suggests.
    #[arg(long, value_enum)]
    pub task: Option<TaskName>,
    /// Contract to write.
    #[arg(long, default_value = "contract.json")]
    pub out: PathBuf,
    /// How alike two images must be to be of one part: auto (above what different parts of this
    /// set reach), a likeness between 0.1 and 1, or exact (the same bytes).
    #[arg(long, default_value = "auto", value_name = "auto|0..1|exact")]
    pub alike: Bound,
    /// Go on with tags of fewer than 5 images; every later figure carries a warning.
    #[arg(long)]
    pub allow_few: bool,
    /// Overwrite an existing contract.
    #[arg(long)]
    pub force: bool,
}

/// What the prediction is for: what only a person can say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What is predicted.
    pub target: Option<String>,
    /// `image` or `part`: what one prediction is about.
    pub unit: Option<Unit>,
    /// Who decides by it.
    pub decision_owner: Option<String>,
    /// What acts on it.
    pub consumer: Option<String>,
    /// Milliseconds after the trigger at which it must be there.
    pub deadline_ms: Option<u32>,
    /// The board that it must be there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// What each tag must reach before a model ships.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aims: BTreeMap<String, Least>,
    /// Tags of defects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<String>,
    /// Tags of parts as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<String>,
}

/// What one prediction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Each image by itself.
    Image,
    /// A part, which several images may show.
    Part,
}

impl About {
    /// Reads `about.toml`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = tagpin::regular::read_text(path, tagpin::regular::TEXT)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{}: expected {EXAMPLE}", path.display()))
    }

    /// Refuses aims of tags that are not there, and shares that are none.
    fn refuse_aims(&self, tags: &[String]) -> Result<()> {
        for (tag, least) in &self.aims {
            ensure!(tags.contains(tag), "aims: there is no tag \"{tag}\"; the tags are {}", tags.join(", "));
            for (what, share) in [("recall", least.recall), ("precision", least.precision)] {
                let Some(share) = share else { continue };
                ensure!((0.0..1.0).contains(&share), "aims of \"{tag}\": {what} = {share}, expected 0 or more and below 1");
            }
        }
        Ok(())
    }

    /// The roles that it states, not yet compared with any tags.
    pub fn roles(&self) -> Roles {
        Roles { good: self.good.clone(), defects: self.defects.clone() }
    }

    /// Every question with its answer.
    pub fn answers(&self) -> [(&'static str, Option<String>); 5] {
        let unit = self.unit.map(|u| match u {
            Unit::Image => "image".to_string(),
            Unit::Part => "part".to_string(),
        });
        [
            ("target", self.target.clone()),
            ("unit", unit),
            ("decision owner", self.decision_owner.clone()),
            ("consumer", self.consumer.clone()),
            ("deadline", self.deadline_ms.map(|ms| format!("{ms} ms after the trigger{}", on(&self.board)))),
        ]
    }
}

/// Where a deadline holds.
fn on(board: &Option<String>) -> String {
    board.as_ref().map_or_else(String::new, |b| format!(", on {b}"))
}

const EXAMPLE: &str = "target = \"material of the part\", unit = \"part\" or \"image\", decision_owner = \"line lead\", \
consumer = \"reject gate\", deadline_ms = 120, board = \"Raspberry Pi 4\", defects = [\"chipped\"], good = [\"whole\"], and below them [aims.chipped] recall = 0.95";

/// Two images that show the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Duplicate {
    /// The first file.
    pub a: PathBuf,
    /// The second file.
    pub b: PathBuf,
    /// The same bytes, not only the same look.
    pub exact: bool,
    /// How alike they are, up to 1.
    pub likeness: f32,
    /// Tags of the first, if they differ from the second's.
    pub tags_a: Vec<String>,
    /// Tags of the second.
    pub tags_b: Vec<String>,
}

impl Duplicate {
    /// Whether somebody tagged the same image in two ways.
    pub fn conflicts(&self) -> bool {
        self.tags_a != self.tags_b
    }
}

/// The data contract: what the data is, what it is for and what is wrong with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contract {
    /// Format of this file.
    pub contract: u32,
    /// What a person said.
    pub about: About,
    /// The folder or list that was given.
    pub data: PathBuf,
    /// Where it lies.
    pub root: PathBuf,
    /// Whether tags exclude one another.
    pub task: TaskName,
    /// Whether --allow-few accepted tags with too few images.
    #[serde(default)]
    pub few_allowed: bool,
    /// Readable images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Images of each tag.
    pub tags: BTreeMap<String, usize>,
    /// Images of the most frequent tag over those of the rarest.
    pub imbalance: f64,
    /// Smallest, middle and largest width and height.
    pub sizes: [[u32; 2]; 3],
    /// Images without a tag.
    pub untagged: usize,
    /// By further column: images without a value in it.
    pub missing: BTreeMap<String, usize>,
    /// Pairs that show the same part.
    pub duplicates: Vec<Duplicate>,
    /// Pairs that may show the same part and were not joined, most alike first: for a person to
    /// judge.
    pub doubtful: Vec<Duplicate>,
    /// How alike images must be to count as twins.
    pub alike: Bound,
    /// Least likeness at which images were joined: outside scenes, then within each scene.
    pub bounds: Vec<f32>,
    /// Number of images in each scene (a background that many parts share, as before a fixed
    /// camera).
    pub scenes: Vec<usize>,
    /// Files that look like data and cannot be used.
    pub skipped: Vec<LeftOut>,
    /// Number of files that are not data, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// Remarks on how the data was read, where the format leaves a choice.
    pub notes: Vec<String>,
    /// What a reader of any later figure must know.
    pub warnings: Vec<String>,
    /// Hash over all tags and files.
    pub dataset_sha256: String,
    /// SHA-256 of each file.
    pub files: BTreeMap<PathBuf, String>,
}

/// Version of [`Contract`] and of the split that holds it.
pub const VERSION: u32 = 2;

/// A dataset reduced to its readable images, with what was seen of them.
pub struct Checked {
    /// Readable images only.
    pub dataset: Dataset,
    /// `[entries]`.
    pub looks: Vec<Look>,
    /// Which entries show the same part.
    pub twins: Twins,
    /// The contract.
    pub contract: Contract,
}

/// Opens and checks a dataset. Fails if a tag has fewer than five images, unless `allow_few`.
pub fn check(data: &Path, task: Option<TaskName>, about: Option<&Path>, allow_few: bool) -> Result<Checked> {
    check_alike(data, task, about, allow_few, Bound::default())
}

/// [`check`], with the user's bound on how alike twins are.
pub fn check_alike(
    data: &Path,
    task: Option<TaskName>,
    about: Option<&Path>,
    allow_few: bool,
    alike: Bound,
) -> Result<Checked> {
    let about = about.map(About::read).transpose()?.unwrap_or_default();
    let sources::Opened { mut dataset, mut skipped, ignored, empty, notes } = sources::open(data, task)?;
    about.roles().of(&dataset.tags).context("about.toml")?;
    about.refuse_aims(&dataset.tags).context("about.toml")?;
    let survey = survey::survey(&dataset)?;
    skipped.extend(survey.skipped);
    skipped.sort();
    left_out::tell(&skipped);
    dataset.entries = survey.entries;
    let looks = survey.looks;
    let mut warnings = without_images(&empty, allow_few)?;
    warnings.extend(dataset.enough(allow_few)?);
    let twins = twins::of(&dataset, &looks, alike);
    let names = |i: usize| dataset.entries[i].tags.iter().map(|&t| dataset.tags[t].clone()).collect();
    let path = |i: usize| dataset.entries[i].path.clone();
    let of = |p: &Pair| Duplicate {
        a: path(p.a),
        b: path(p.b),
        exact: p.exact,
        likeness: p.likeness,
        tags_a: names(p.a),
        tags_b: names(p.b),
    };
    let duplicates: Vec<Duplicate> = twins.pairs.iter().map(of).collect();
    let mut doubtful: Vec<Duplicate> = twins.doubtful.iter().map(of).collect();
    doubtful.sort_by(|p, q| q.likeness.total_cmp(&p.likeness));
    let conflicts = duplicates.iter().filter(|d| d.conflicts()).count();
    if conflicts > 0 {
        warnings.push(format!("{conflicts} pairs of duplicates carry different tags; correct them or remove one of each"));
    }
    let counts = dataset.counts();
    let imbalance = *counts.iter().max().unwrap_or(&0) as f64 / (*counts.iter().min().unwrap_or(&0)).max(1) as f64;
    if imbalance > 10.0 {
        warnings.push(format!("the most frequent tag has {imbalance:.0} times the images of the rarest"));
    }
    warnings.extend(dark(&looks));
    for (question, answer) in about.answers() {
        if answer.is_none() {
            warnings.push(format!("{question}: not stated; say it in about.toml"));
        }
    }
    let mut areas: Vec<[u32; 2]> = looks.iter().map(|l| [l.width, l.height]).collect();
    areas.sort_by_key(|[w, h]| (*w as u64 * *h as u64, *w));
    let middle = areas.get(areas.len() / 2).copied().unwrap_or_default();
    let columns: std::collections::BTreeSet<&String> = dataset.entries.iter().flat_map(|e| e.columns.keys()).collect();
    let without = |c: &String| dataset.entries.iter().filter(|e| !e.columns.contains_key(c)).count();
    let contract = Contract {
        contract: VERSION,
        about,
        data: std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned()),
        root: dataset.root.clone(),
        task: dataset.task,
        images: dataset.entries.len(),
        tags: dataset.tags.iter().cloned().zip(counts).collect(),
        imbalance,
        sizes: [areas.first().copied().unwrap_or_default(), middle, areas.last().copied().unwrap_or_default()],
        untagged: dataset.entries.iter().filter(|e| e.tags.is_empty()).count(),
        missing: columns.into_iter().map(|c| (c.clone(), without(c))).filter(|(_, n)| *n > 0).collect(),
        duplicates,
        doubtful,
        alike,
        bounds: twins.bounds.clone(),
        scenes: twins.scenes.clone(),
        skipped,
        ignored,
        notes,
        warnings,
        few_allowed: allow_few,
        dataset_sha256: dataset.sha256(),
        files: dataset.entries.iter().map(|e| (e.path.clone(), e.sha256.clone())).collect(),
    };
    Ok(Checked { dataset, looks, twins, contract })
}

/// Refuses tags without a usable image, which would otherwise vanish silently; with `allow_few`,
/// returns a warning for each instead.
fn without_images(empty: &BTreeMap<String, String>, allow_few: bool) -> Result<Vec<String>> {
    let told: Vec<String> =
        empty.iter().map(|(tag, found)| format!("tag \"{tag}\" has no image that can be used: found {found}")).collect();
    if !told.is_empty() && !allow_few {
        bail!("{}. Add images, or take the folder away; --allow-few goes on without", told.join("; "));
    }
    Ok(told)
}

/// An image counts as black if no value is above this.
const DARK: u8 = 24;

/// Warns of nearly black images, as 12-bit values in 16-bit files are.
fn dark(looks: &[Look]) -> Option<String> {
    let n = looks.iter().filter(|l| l.brightest <= DARK).count();
    (n > 0).then(|| {
        format!(
            "{n} images are nearly black, with no value above {DARK} of 255; if a camera wrote 10 or 12 bits into 16-bit files, multiply \
             the values by 64 or 16 before saving, as on the device"
        )
    })
}

/// Pairs that are shown on the terminal; all are in the contract.
const SHOWN: usize = 12;

/// Shows a contract on the terminal.
pub fn print(c: &Contract) {
    for (question, answer) in c.about.answers() {
        println!("{question:>16}  {}", answer.as_deref().unwrap_or("not stated"));
    }
    println!("{:>16}  {}", "roles", c.about.roles());
    println!("{:>16}  {:?}, {} images, {} tags", "data", c.task, c.images, c.tags.len());
    let [small, middle, large] = c.sizes;
    let side = |s: [u32; 2]| format!("{}x{}", s[0], s[1]);
    println!("{:>16}  {} smallest, {} middle, {} largest", "sizes", side(small), side(middle), side(large));
    let most = c.tags.values().copied().max().unwrap_or(1).max(1);
    for (tag, n) in &c.tags {
        let mark = if *n < FEWEST {
            "  too few"
        } else if *n < ADVISED {
            "  50 are advised"
        } else {
            ""
        };
        println!("{tag:>16}  {n:>6} {}{mark}", "#".repeat((n * 40 / most).max(1)));
    }
    if c.untagged > 0 {
        println!("{:>16}  {:>6}", "(no tag)", c.untagged);
    }
    println!("{:>16}  {:.1} to 1", "imbalance", c.imbalance);
    for (column, n) in &c.missing {
        println!("{:>16}  column \"{column}\" is empty for {n}", "missing values");
    }
    let exact = c.duplicates.iter().filter(|d| d.exact).count();
    println!("{:>16}  {exact} exact pairs, {} near pairs", "duplicates", c.duplicates.len() - exact);
    let pair = |d: &Duplicate| {
        let (a, b) = (d.a.display(), d.b.display());
        format!("{a} ({}) = {b} ({}), likeness {:.2}", d.tags_a.join(";"), d.tags_b.join(";"), d.likeness)
    };
    let list = |what: &str, pairs: Vec<&Duplicate>| {
        pairs.iter().take(SHOWN).for_each(|d| println!("{what:>16}  {}", pair(d)));
        if pairs.len() > SHOWN {
            println!("{what:>16}  {} more, all in the contract", pairs.len() - SHOWN);
        }
    };
    list("conflict", c.duplicates.iter().filter(|d| d.conflicts()).collect());
    for n in &c.scenes {
        println!("{:>16}  {n} images of one scene, compared by what they show beside its background", "fixed camera");
    }
    if !c.doubtful.is_empty() {
        println!(
            "{:>16}  {} pairs may be one part and are not joined; judge them, and name --group or --alike",
            "doubtful",
            c.doubtful.len()
        );
        list("", c.doubtful.iter().collect());
    }
    let by_kind = if c.skipped.is_empty() { String::new() } else { format!(": {}", left_out::counts(&c.skipped)) };
    println!("{:>16}  {} files{by_kind}", "skipped", c.skipped.len());
    if !c.ignored.is_empty() {
        let kinds: Vec<String> = c.ignored.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        println!("{:>16}  {}: no images", "not counted", kinds.join(", "));
    }
    for note in &c.notes {
        println!("{:>16}  {note}", "note");
    }
    for w in &c.warnings {
        println!("{:>16}  {w}", "warning");
    }
}

/// Checks, prints and writes the contract.
pub fn run(args: &Check) -> Result<()> {
    run_folder::refuse_existing(&args.out, args.force)?;
    let checked = check_alike(&args.data, args.task, args.about.as_deref(), args.allow_few, args.alike)?;
    print(&checked.contract);
    run_folder::write_json(&args.out, &checked.contract)?;
    println!("{:>16}  {}", "contract", args.out.display());
    Ok(())
}
