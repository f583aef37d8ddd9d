//! Frames that show nothing (black, white, grey, ramps, noise, images out of focus), on which a
//! head is trained to be unsure.
//!
//! Softmax scores add up to 1 whatever the frame shows, and a head that never saw such frames gives
//! nearly all of it to one tag. Here each frame is an equal example of every tag, so that none
//! reaches its threshold (outlier exposure, Hendrycks et al. 2019). With only two tags, one a
//! defect, they are examples of the defect, since a score of one half would reach a threshold of
//! 0.5.

use super::quick::SideFeatures;
use crate::data::{
    self, TaskName,
    split::{Side, Split},
};
use crate::evaluate::shifts;
use crate::graph::{Graph, Normalise};
use crate::predict;
use anyhow::Result;
use tagpin::bundle::Fit;
use tagpin::decide::Role;
use tagpin::random::Random;

/// Training images that are put out of focus.
const DEFOCUSED: usize = 24;
/// Plain frames, ramps and frames of noise, of each.
const EACH: usize = 4;

/// The frames, each `[side, side, 3]`: drawn by `seed`, unlike those that evaluation draws.
fn frames(split: &Split, side: usize, fit: Fit, seed: u64) -> Result<Vec<Vec<u8>>> {
    let mut r = Random::new(seed, 0x0707);
    let n = side * side;
    let mut all: Vec<Vec<u8>> = [0, 255, 128].into_iter().map(|v| vec![v; 3 * n]).collect();
    for k in 0..EACH {
        let colour: [u8; 3] = std::array::from_fn(|_| r.range(0, 255) as u8);
        // Light with a little of a colour, and any colour.
        let grey = r.range(0, 255) as u8;
        let plain = if k % 2 == 0 { [grey; 3] } else { colour };
        all.push((0..3 * n).map(|i| plain[i % 3]).collect());
        let (from, to, upright) = (r.range(0, 255), r.range(0, 255), r.range(0, 1) == 0);
        let ramp = |i: usize| from + (to - from) * if upright { i / side } else { i % side } as i32 / side as i32;
        all.push((0..3 * n).map(|i| ramp(i / 3) as u8).collect());
        let (middle, spread) = (r.range(0, 255), r.range(8, 255));
        all.push((0..3 * n).map(|_| (middle + r.range(-spread, spread)).clamp(0, 255) as u8).collect());
        all.push((0..3 * n).map(|_| r.range(0, 255) as u8).collect());
    }
    let train = split.entries(Side::Train);
    let chosen: Vec<data::Entry> = data::spread(train.len(), DEFOCUSED).map(|i| train[i].clone()).collect();
    let images = data::load(&split.dataset.root, &chosen, data::target(side, fit)?)?;
    all.extend(images.iter().map(|rgb| shifts::defocused(rgb, side)));
    Ok(all)
}

/// Examples by the headless int8 network. `backbone`: the graph that was quantised; `roles`: one a
/// tag.
pub fn examples(split: &Split, int8: &[u8], backbone: &Graph, fit: Fit, roles: &[Role], seed: u64) -> Result<SideFeatures> {
    let frames = frames(split, backbone.side, fit, seed)?;
    let images: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let normalise: Normalise = backbone.normalise;
    let of_frames = predict::real(&predict::int8(int8, normalise, &images)?);
    let (mut features, mut tags) = (Vec::new(), Vec::new());
    for (f, of) in of_frames.iter().flat_map(|f| as_tags(split.dataset.task, roles).into_iter().map(move |t| (f, t))) {
        features.push(f.clone());
        tags.push(of);
    }
    Ok(SideFeatures { copies: vec![Vec::new(); tags.len()], features, tags })
}

/// What each frame is an example of, in turn.
fn as_tags(task: TaskName, roles: &[Role]) -> Vec<Vec<usize>> {
    let all = || (0..roles.len()).map(|t| vec![t]);
    match task {
        TaskName::Multilabel => vec![Vec::new()],
        TaskName::Multiclass if roles.len() == 2 && roles.contains(&Role::Defect) => {
            all().filter(|t| roles[t[0]] == Role::Defect).collect()
        }
        TaskName::Multiclass => all().collect(),
    }
}

impl SideFeatures {
    /// Appends further examples.
    pub fn with(&self, more: &Self) -> Self {
        Self {
            features: self.features.iter().chain(&more.features).cloned().collect(),
            copies: self.copies.iter().chain(&more.copies).cloned().collect(),
            tags: self.tags.iter().chain(&more.tags).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_nothing_is_an_example_of_every_tag_or_of_the_only_defect_or_of_none() {
        use Role::{Defect, Good, Other};
        assert_eq!(as_tags(TaskName::Multiclass, &[Other, Other, Other]), [[0], [1], [2]]);
        assert_eq!(as_tags(TaskName::Multiclass, &[Good, Defect]), [[1]]);
        assert_eq!(as_tags(TaskName::Multiclass, &[Good, Defect, Other]).len(), 3);
        assert_eq!(as_tags(TaskName::Multilabel, &[Good, Defect]), [Vec::<usize>::new()]);
    }
}
