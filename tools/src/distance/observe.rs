//! Features of images by an int8 network, as the device takes them; of changed copies too.

use super::stages::{self, StageName};
use crate::predict::Int8;
use crate::train::augment::Augment;
use anyhow::Result;
use rayon::prelude::*;
use tagpin::distance::Stage;
use tagpin::random::Random;

/// How images are changed, so that what changes no tag is not taken for foreign.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// How far.
    pub augment: Augment,
    /// Changed copies of each image.
    pub views: usize,
    /// Of the changes.
    pub seed: u64,
}

/// An int8 network with its stages.
pub struct Observer {
    int8: Int8,
    side: usize,
    /// Where features are taken.
    pub stages: Vec<StageName>,
    /// Multiply-adds of the network.
    pub macs: u64,
}

impl Observer {
    /// A network, and the stages that suit it.
    pub fn of(mut int8: Int8) -> Result<Self> {
        let chosen = stages::choose(int8.engine())?;
        let (side, macs) = (int8.engine().spec().input[0], int8.engine().macs());
        let stages: Vec<Stage<'_>> = chosen.iter().map(StageName::stage).collect();
        int8.look_at(&stages)?;
        Ok(Self { int8, side, stages: chosen, macs })
    }

    /// Features of each image, `[images][features]`. Images are `[side, side, 3]` of the network's
    /// side.
    pub fn features<T: AsRef<[u8]> + Sync>(&self, images: &[T]) -> Result<Vec<Vec<i32>>> {
        let bar = crate::progress::bar("features", images.len() as u64);
        let one = |int8: &mut Int8, rgb: &T| {
            bar.inc(1);
            int8.features(rgb.as_ref())
        };
        let features = images.par_iter().map_init(|| self.int8.clone(), one).collect();
        bar.finish_and_clear();
        features
    }

    /// Features of changed copies, those of one image together: `[images * views][features]`.
    pub fn changed<T: AsRef<[u8]> + Sync>(&self, images: &[T], changes: Changes) -> Result<Vec<Vec<i32>>> {
        let bar = crate::progress::bar("changed copies", (images.len() * changes.views) as u64);
        let one = |int8: &mut Int8, i: usize| {
            bar.inc(1);
            let mut random = Random::new(changes.seed, i as u64);
            let rgb = images[i / changes.views].as_ref();
            int8.features(&changes.augment.apply(rgb, self.side, &mut random))
        };
        let all = (0..images.len() * changes.views).into_par_iter();
        let features = all.map_init(|| self.int8.clone(), one).collect();
        bar.finish_and_clear();
        features
    }
}
