//! `bar leak`: how much planted twins inflate test figures, when the split keeps them together and
//! when it does not.

use super::Seeds;
use super::worlds::{Change, Rgb};
use crate::data::split::{self, SHARES, Side};
use crate::data::{check, sources};
use crate::features::Network;
use crate::head;
use crate::train::{leak, quick};
use crate::{backbone, run_folder};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tagpin::bundle::Fit;
use tagpin::pictures::Picture;
use tagpin::random::Random;

/// Measure how much planted twins inflate the figures of a split that does not keep them together.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of tagged images.
    #[arg(long)]
    data: PathBuf,
    /// A backbone, as `backbone import` makes it.
    #[arg(long)]
    backbone: PathBuf,
    /// Seeds of the planted twins, as in 1..3; each is judged on ten splits of each kind.
    #[arg(long, default_value = "1")]
    seeds: Seeds,
    /// Share of the images that get a planted twin.
    #[arg(long, default_value_t = 0.2)]
    planted: f64,
    /// Print the figures as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Computes and prints.
pub fn run(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for seed in args.seeds.0.clone() {
        let folder = std::env::temp_dir().join(format!("tagpin-tools-leak-{}-{seed}", std::process::id()));
        let leak = of_seed(args, seed, &folder);
        let _ = std::fs::remove_dir_all(&folder);
        let leak = leak?;
        if !args.json {
            println!("seed {seed}");
            leak::print(&leak);
        }
        all.push(leak);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn of_seed(args: &Args, seed: u64, folder: &Path) -> Result<leak::Leak> {
    plant(args, seed, folder)?;
    let checked = check::check(folder, None, None, true)?;
    let split = split::split(checked, None, SHARES, seed)?;
    let backbone = backbone::load(&args.backbone, None, None)?;
    let fit = Fit::Stretch;
    let ([train, validation], _) = quick::sides(&split, &Network::Float(&backbone), fit, [Side::Train, Side::Validation])?;
    let fitted = head::fit(
        &train.examples(),
        &validation.examples(),
        split.dataset.tags.len(),
        split.dataset.task,
        head::ChosenBy::Images,
    )?;
    leak::measure(&split, &backbone, fit, fitted.penalty, seed)
}

/// Copies the images into `folder` and adds a changed twin of some of them.
fn plant(args: &Args, seed: u64, folder: &Path) -> Result<()> {
    ensure!((0.0..=1.0).contains(&args.planted), "--planted {}: expected a share between 0 and 1", args.planted);
    let data = sources::open(&args.data, None)?.dataset;
    let mut random = Random::new(seed, 0x1eac);
    let mut order: Vec<usize> = (0..data.entries.len()).collect();
    crate::train::shuffle(&mut order, &mut random);
    let again = (data.entries.len() as f64 * args.planted) as usize;
    for (k, i) in order.into_iter().enumerate() {
        let e = &data.entries[i];
        let Some(tag) = e.tags.first().map(|t| &data.tags[*t]) else { continue };
        let name = |ending: &str| folder.join(tag).join(format!("{i:06}{ending}"));
        std::fs::create_dir_all(folder.join(tag)).with_context(|| format!("{} cannot be made", folder.display()))?;
        let from = data.file(e);
        let ending = from.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        std::fs::copy(&from, name(&ending)).with_context(|| format!("{} cannot be copied", from.display()))?;
        if k < again
            && let Ok(image) = Picture::open(&from, tagpin::pictures::Budget::HOST)
        {
            let change = Change::ALL[k % Change::ALL.len()];
            let twin = Rgb::of(&image).again(change, &mut random);
            run_folder::write_file(&name("_again.jpg"), &twin.jpeg()?)?;
        }
    }
    Ok(())
}
