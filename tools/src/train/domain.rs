//! What kind of images these are, and what that sets where a person does not: how they are changed
//! in training, how they are brought to the network's square, how rare tags are treated.

use super::augment::Augment;
use super::balance::Balance;
use serde::{Deserialize, Serialize};
use tagpin::bundle::Fit;

/// What kind of images these are: which changes keep their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Things photographed upright, in any light.
    #[default]
    General,
    /// Parts on a belt: any way round, light and focus drift.
    Conveyor,
    /// A surface looked at closely: any way round, defects may be small and must not be cut out.
    Surface,
    /// Labels and print: upright, nearly straight, grey matters more than colour.
    Document,
}

impl Domain {
    /// Its changes.
    pub fn augment(self) -> Augment {
        let general = Augment {
            flip_x: true,
            flip_y: false,
            turns: false,
            rotation: 10.0,
            crop: 0.75,
            brightness: 0.3,
            contrast: 0.25,
            colour: 0.1,
            blur: 0.15,
            noise: 6,
            cutout: 0.15,
        };
        match self {
            Self::General => general,
            Self::Conveyor => Augment {
                flip_y: true,
                turns: true,
                crop: 0.88,
                brightness: 0.5,
                colour: 0.05,
                blur: 0.33,
                cutout: 0.0,
                ..general
            },
            Self::Surface => Augment { flip_y: true, turns: true, crop: 0.85, colour: 0.05, cutout: 0.0, ..general },
            Self::Document => Augment { flip_x: false, rotation: 3.0, crop: 0.92, colour: 0.0, cutout: 0.0, ..general },
        }
    }

    /// How its images are brought to the network's square: where small things at the edge or
    /// straight lines tell, nothing is distorted.
    pub fn fit(self) -> Fit {
        match self {
            Self::General | Self::Conveyor => Fit::Stretch,
            Self::Surface | Self::Document => Fit::Pad,
        }
    }

    /// How its rare tags are treated: on a belt or a surface the rare ones are the defects.
    pub fn balance(self) -> Balance {
        match self {
            Self::General | Self::Document => Balance::None,
            Self::Conveyor | Self::Surface => Balance::Weights,
        }
    }
}
