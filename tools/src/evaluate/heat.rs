//! Where in its image a mistake comes from, for the report: the runtime's heat map of the tag that
//! the image was wrongly given, or of the distance where it is foreign.

use super::{Judge, Mistake};
use crate::judged::Judged;
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tagpin::heat::Heat;

/// Mistakes that get a heat map, the worst ones: each takes about two hundred inferences.
const HEATED: usize = 6;

/// A heat map with the name of what it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeatMap {
    /// A tag, or `distance`.
    pub of: String,
    /// Rows of cells.
    pub rows: usize,
    /// Columns of cells.
    pub columns: usize,
    /// By how much the finding falls without the cell; below zero where it rises. `[rows][columns]`
    pub cells: Vec<f64>,
}

impl HeatMap {
    /// Paints it over an image `[height, width, 3]` in the model's fit.
    pub fn paint(&self, rgb: &mut [u8], width: usize) {
        Heat { rows: self.rows, columns: self.columns, cells: self.cells.clone() }.paint(rgb, width);
    }
}

/// Adds heat maps to the worst of the mistakes among `judged`.
pub(super) fn add(c: &Judge<'_>, judged: &Judged, mistakes: &mut [Mistake]) -> Result<()> {
    mistakes.par_iter_mut().take(HEATED).try_for_each(|mistake| {
        if let Some(i) = judged.entries.iter().position(|e| judged.root.join(&e.path) == mistake.path) {
            mistake.heat = Some(map(c, judged, i, mistake)?);
        }
        Ok(())
    })
}

fn map(c: &Judge<'_>, judged: &Judged, i: usize, mistake: &Mistake) -> Result<HeatMap> {
    // The tag that is surest among those it should not have; where it has none, the one it lacks.
    let wrong = mistake.predicted.iter().find(|tag| !mistake.tagged.contains(tag));
    let tag = wrong.or_else(|| mistake.tagged.iter().find(|tag| !mistake.predicted.contains(tag)));
    let tag = tag.and_then(|tag| c.tags.iter().position(|t| t == tag)).filter(|_| !judged.beyond[i]);
    let of = tag.map_or("distance".into(), |t| c.tags[t].clone());
    let mut network = c.network.clone();
    let mut measure = |rgb: &[u8]| -> Result<f64> {
        let logits = network.logits(rgb)?;
        Ok(match tag {
            Some(t) => f64::from(logits[t]),
            None => network.distance(),
        })
    };
    let rgb = &judged.rgb[i];
    let whole = measure(rgb)?;
    let heat = Heat::of((rgb, c.run.graph.side), whole, measure)?;
    Ok(HeatMap { of, rows: heat.rows, columns: heat.columns, cells: heat.cells })
}
