//! Features and distance of an image, taken while the network runs: at each stage right after its
//! layer.

use super::{Activation, Engine, EngineError};
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
    fn of<'a>(activations: &[Activation], stages: impl Iterator<Item = Stage<'a>>) -> Result<Self, EngineError> {
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

impl Engine {
    /// From now on each inference takes the features of these stages.
    pub fn look_at(&mut self, stages: &[Stage<'_>]) -> Result<(), EngineError> {
        self.meter = Some(Meter::of(self.activations(), stages.iter().copied())?);
        Ok(())
    }

    /// From now on each inference takes the features of the spread's stages and measures the
    /// distance.
    pub fn measure_by(&mut self, spread: Spread<Vec<u8>>) -> Result<(), EngineError> {
        let meter = Meter::of(self.activations(), spread.stages())?;
        self.meter = Some(Meter { spread: Some(spread), ..meter });
        Ok(())
    }

    /// The features of the last inference, stage by stage as [`features`] gives them; empty if no
    /// stage is looked at.
    pub fn features(&self) -> &[i32] {
        self.meter.as_ref().map_or(&[], |meter| &meter.features)
    }

    /// How the training images lie, if that is known.
    pub fn spread(&self) -> Option<&Spread<Vec<u8>>> {
        self.meter.as_ref()?.spread.as_ref()
    }

    /// The distance of the last inference's image; `None` if there is nothing to measure it by.
    pub fn distance(&self) -> Option<Distance> {
        self.meter.as_ref().filter(|m| m.spread.is_some()).map(|m| m.distance)
    }
}
