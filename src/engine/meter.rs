//! Features and distance of an image, taken while the network runs: at each stage right after its
//! layer.

use super::{Activation, EngineError};
use crate::distance::{Distance, Spread, Stage, features};
use std::ops::Range;

/// What looks at a plan's activations, with all memory that it needs.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    stages: Vec<Place>,
    features: Vec<i32>,
    spread: Option<Spread<Vec<u8>>>,
    scaled: Vec<i16>,
    distance: Distance,
}

/// A stage's layer, its channels, and where its features lie.
#[derive(Clone, Debug)]
struct Place {
    layer: usize,
    channels: usize,
    features: Range<usize>,
}

impl Meter {
    /// Looks at these stages.
    pub(super) fn new<'a>(activations: &[Activation], stages: impl Iterator<Item = Stage<'a>>) -> Result<Self, EngineError> {
        let (mut places, mut end) = (Vec::new(), 0);
        for stage in stages {
            let (channels, positions) = (stage.channels as usize, stage.positions as usize);
            let same = |a: &&Activation| a.name == stage.name && (a.channels, a.positions) == (channels, positions);
            let Some(found) = activations.iter().find(same) else {
                let (name, named) = (stage.name, activations.iter().find(|a| a.name == stage.name));
                let found = named.map_or("none of this name".into(), |a| format!("{} of {}", a.positions, a.channels));
                let why =
                    format!("distance: stage \"{name}\" of {positions} positions of {channels} channels, graph: {found}");
                return Err(EngineError::Contract(why));
            };
            places.push(Place { layer: found.layer, channels, features: end..end + stage.features() });
            end += stage.features();
        }
        let (features, scaled) = (vec![0; end], vec![0; end]);
        Ok(Self { stages: places, features, spread: None, scaled, distance: Distance::default() })
    }

    /// Looks at the spread's stages, and measures by it.
    pub(super) fn measuring(activations: &[Activation], spread: Spread<Vec<u8>>) -> Result<Self, EngineError> {
        let meter = Self::new(activations, spread.stages())?;
        Ok(Self { spread: Some(spread), ..meter })
    }

    /// Features of the last inference, stage by stage.
    pub(super) fn features(&self) -> &[i32] {
        &self.features
    }

    /// What it measures by.
    pub(super) fn spread(&self) -> Option<&Spread<Vec<u8>>> {
        self.spread.as_ref()
    }

    /// Distance of the last inference's image, if it measures one.
    pub(super) fn distance(&self) -> Option<Distance> {
        self.spread.as_ref().map(|_| self.distance)
    }

    pub(super) fn look(&mut self, layer: usize, activation: &[i8]) {
        for stage in self.stages.iter().filter(|s| s.layer == layer) {
            features(activation, stage.channels, &mut self.features[stage.features.clone()]);
        }
    }

    pub(super) fn measure(&mut self) {
        if let Some(spread) = &self.spread {
            self.distance = spread.measure(&self.features, &mut self.scaled);
        }
    }
}
