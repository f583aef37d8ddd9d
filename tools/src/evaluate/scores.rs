//! Every image's scores and what the device decides, as a table for other programs: `scores.csv`.

use super::Judge;
use crate::decision;
use crate::judged::Judged;
use crate::predict;
use anyhow::Result;

/// One row an image: path, side or further set, its tags, the decision, and every tag's score.
/// Several tags stand with `;` between them.
pub fn csv<'a>(judge: &Judge<'_>, sides: impl Iterator<Item = (&'a str, &'a Judged)>) -> Result<Vec<u8>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    let head = ["path", "side", "tags", "predicted", "verdict", "action"].map(String::from);
    out.write_record(head.iter().chain(judge.tags))?;
    for (side, judged) in sides {
        let scores = predict::scores(judge.task, &judged.int8, judge.decision.temperature());
        let decisions = judge.decided(&scores, &judged.beyond)?;
        for ((entry, scores), d) in judged.entries.iter().zip(&scores).zip(&decisions) {
            let names = |tags: &[usize]| judge.names(tags).join(";");
            let said = [
                entry.path.to_string_lossy().into_owned(),
                side.into(),
                names(&entry.tags),
                names(&decision::predicted(judge.task, d)),
                d.verdict.name().into(),
                d.action.map_or("", |a| a.name()).into(),
            ];
            out.write_record(said.into_iter().chain(scores.iter().map(|s| format!("{:.6}", s.probability()))))?;
        }
    }
    Ok(out.into_inner()?)
}
