//! Chooses the activations of a network at which features are taken.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tagpin::distance::{MAX_FEATURES, Stage};
use tagpin::engine::{Activation, Engine};

/// Most stages that are taken.
const STAGES: usize = 3;

/// A stage with its own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageName {
    /// Name of the value in the graph.
    pub name: String,
    /// Its channels.
    pub channels: u16,
    /// Rows times columns.
    pub positions: u32,
}

impl StageName {
    fn of(a: &Activation) -> Self {
        Self { name: a.name.clone(), channels: a.channels as u16, positions: a.positions as u32 }
    }

    /// As the runtime takes it.
    pub fn stage(&self) -> Stage<'_> {
        Stage { name: &self.name, channels: self.channels, positions: self.positions }
    }
}

/// The stages of a network.
///
/// Candidates are *cuts*: activations that all information passes through. Of cuts of equal width
/// the last counts; the wide inside of an inverted bottleneck does not, because the next, narrower
/// cut condenses it. The middle three are taken: early ones see texture, late ones only what
/// separates the tags. For EfficientNet-Lite0 these are the ends of blocks 4, 7 and 10. A network
/// without cuts is measured where it is pooled.
pub fn choose(engine: &Engine) -> Result<Vec<StageName>> {
    let chosen = of(engine.activations());
    if chosen.is_empty() {
        bail!("the network has no activation of at most {MAX_FEATURES} features that its whole rest depends on");
    }
    Ok(chosen)
}

fn of(activations: &[Activation]) -> Vec<StageName> {
    let mut widths: Vec<&Activation> = Vec::new();
    for a in activations.iter().filter(|a| a.is_cut && !a.is_depthwise && a.positions > 1) {
        match widths.last_mut() {
            Some(last) if last.channels == a.channels => *last = a,
            _ => widths.push(a),
        }
    }
    let summed = |i: usize| widths.get(i + 1).is_some_and(|next| next.channels < widths[i].channels);
    let kept: Vec<StageName> = (0..widths.len()).filter(|i| !summed(*i)).map(|i| StageName::of(widths[i])).collect();
    let first = kept.len().saturating_sub(STAGES) / 2;
    let mut chosen: Vec<StageName> = kept.into_iter().skip(first).take(STAGES).collect();
    while chosen.iter().map(|s| s.stage().features()).sum::<usize>() > MAX_FEATURES {
        chosen.pop();
    }
    if chosen.is_empty() {
        let pooled = activations.iter().rev().skip(1).find(|a| a.is_cut && a.positions == 1 && a.channels <= MAX_FEATURES);
        let last = activations.last().filter(|a| a.is_cut && a.positions == 1 && a.channels <= MAX_FEATURES);
        chosen.extend(pooled.or(last).map(StageName::of));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels, positions, whether a cut and whether depthwise, of each activation; names are
    /// their numbers.
    fn named(list: &[(usize, usize, bool, bool)]) -> Vec<Activation> {
        let one = |(layer, &(channels, positions, is_cut, is_depthwise)): (usize, &(usize, usize, bool, bool))| Activation {
            name: layer.to_string(),
            layer,
            channels,
            positions,
            is_cut,
            is_depthwise,
        };
        list.iter().enumerate().map(one).collect()
    }

    fn chosen(list: &[(usize, usize, bool, bool)]) -> Vec<(String, u16)> {
        of(&named(list)).into_iter().map(|s| (s.name, s.channels)).collect()
    }

    /// Stem, then blocks of expansion, depthwise, projection and perhaps a sum:
    /// EfficientNet-Lite0's.
    #[test]
    fn lite0_is_looked_at_behind_blocks_4_7_and_10() {
        let mut list = vec![(32, 112, true, false), (32, 112, true, true), (16, 112, true, false)];
        let mut ends = Vec::new();
        let mut channels = 16;
        for (out, times) in [(24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)] {
            for i in 0..times {
                let cut = i == 0;
                list.extend([(6 * channels, 9, cut, false), (6 * channels, 9, cut, true), (out, 9, cut, false)]);
                if i > 0 {
                    list.push((out, 9, true, false));
                }
                channels = out;
            }
            ends.push(list.len() - 1);
        }
        list.extend([(1280, 9, true, false), (1280, 1, true, false)]);
        let wanted: Vec<(String, u16)> = [(1, 40), (2, 80), (3, 112)].map(|(i, c)| (ends[i].to_string(), c)).to_vec();
        assert_eq!(chosen(&list), wanted);
    }

    #[test]
    fn networks_of_other_shapes_have_stages_too() {
        // Residual blocks that widen: the ends of the first three widths.
        let resnet = [
            (64, 100, true, false),
            (64, 25, false, false),
            (64, 25, true, false),
            (128, 9, true, false),
            (256, 4, true, false),
            (512, 4, true, false),
        ];
        assert_eq!(chosen(&resnet), [("2".into(), 64), ("3".into(), 128), ("4".into(), 256)]);
        // One convolution is one stage; a network of matrices is looked at before its last.
        assert_eq!(chosen(&[(8, 16, true, false), (8, 1, true, false)]), [("0".into(), 8)]);
        assert_eq!(chosen(&[(50, 1, true, false), (20, 1, true, false)]), [("0".into(), 50)]);
        assert_eq!(chosen(&[(50, 1, true, false)]), [("0".into(), 50)]);
        // Features that do not fit are not looked at.
        assert_eq!(chosen(&[(500, 4, true, false), (700, 4, true, false)]), [("0".into(), 500)]);
        assert_eq!(chosen(&[(2000, 4, true, false), (2000, 1, true, false), (9, 1, true, false)]), [("1".into(), 2000)]);
        assert_eq!(chosen(&[(2000, 4, false, false)]), []);
    }
}
