//! Draws a dataset with the renderer of the runtime's conveyor: one folder per tag, seeded, PNG.

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tagpin::pictures::Picture;
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// Draw images of parts on a conveyor into one folder a tag.
#[derive(clap::Args, Clone, Debug)]
pub struct Synth {
    /// Folder to make; it must not exist yet.
    #[arg(long)]
    pub out: PathBuf,
    /// Images of each tag.
    #[arg(long, default_value_t = 100)]
    pub per_tag: u64,
    /// Seed: the same seed draws the same images.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Draw rotation, light and blur beyond the ranges of training.
    #[arg(long)]
    pub beyond: bool,
}

/// Writes the images.
pub fn run(args: &Synth) -> Result<()> {
    if args.out.exists() {
        bail!("{} exists; name another folder or remove it", args.out.display());
    }
    for kind in Kind::ALL {
        std::fs::create_dir_all(args.out.join(kind.name()))
            .with_context(|| format!("{} cannot be made", args.out.display()))?;
    }
    let conditions = if args.beyond { Conditions::BEYOND } else { Conditions::TRAINING };
    let jobs = args.per_tag * Kind::ALL.len() as u64;
    let bar = crate::progress::bar("drawing", jobs);
    (0..jobs).into_par_iter().try_for_each(|i| {
        let kind = Kind::ALL[i as usize % Kind::ALL.len()];
        let shot = Shot::draw(kind, &conditions, args.seed, i);
        let mut rgb = vec![0; WIDTH * HEIGHT * 3];
        // A belt position of its own: no two images share their texture.
        render(&shot, i * 1000, &mut rgb);
        let path = args.out.join(kind.name()).join(format!("{:05}.png", i / Kind::ALL.len() as u64));
        bar.inc(1);
        Picture::write_png(Path::new(&path), WIDTH as u32, HEIGHT as u32, &rgb).map_err(anyhow::Error::msg)
    })?;
    bar.finish_and_clear();
    println!("{jobs} images of {} tags in {}", Kind::ALL.len(), args.out.display());
    Ok(())
}
