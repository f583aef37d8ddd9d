//! What an image's heat map is of, and the map as JSON.

use crate::head::TagId;
use crate::heat::Heat;
use serde::Serialize;

/// What a heat map shows the places of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The distance from the training images.
    Distance,
    /// A tag's logit.
    Tag(TagId),
}

/// Where an image's finding comes from, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct HeatRecord {
    /// `distance`, or the tag's name.
    of: String,
    /// Rows and columns of cells.
    grid: [usize; 2],
    /// The hottest cell's left, top, right and lower edge, in shares of the model's image.
    hottest: [f64; 4],
    /// The painted image.
    file: String,
}

impl HeatRecord {
    /// `tag`: the name of a tag; `file`: the painted image's.
    pub fn new(finding: Finding, heat: &Heat, tag: impl Fn(TagId) -> String, file: String) -> Self {
        let of = match finding {
            Finding::Distance => "distance".into(),
            Finding::Tag(id) => tag(id),
        };
        let hottest = heat.hottest().map(|x| (x * 1e4).round() / 1e4);
        Self { of, grid: [heat.rows, heat.columns], hottest, file }
    }
}
