//! Images that show none of the tags, or nothing: how many of them would the device pass?

use super::{Invalid, Judge, shifts};
use crate::data;
use crate::decision;
use crate::judged::Judged;
use crate::predict;
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::path::Path;
use tagpin::decide::{self, Action, Verdict};

/// Number of test images that are blurred.
const DEFOCUSED: usize = 40;

/// Whether the device would pass it as a good part: a tag holds whose action is accept.
fn passes(d: &decide::Decision) -> bool {
    d.verdict == Verdict::Present && d.action == Some(Action::Accept)
}

/// Test images blurred until no shape is left. One that still passes as its own good tag is not
/// held against the model.
fn defocused(c: &Judge<'_>, test: &Judged) -> Result<Invalid> {
    let chosen: Vec<usize> = data::spread(test.rgb.len(), DEFOCUSED).collect();
    let images: Vec<Vec<u8>> = chosen.par_iter().map(|&i| shifts::defocused(&test.rgb[i], c.run.graph.side)).collect();
    let own = |k: usize, d: &decide::Decision| decision::predicted(c.task, d) == test.entries[chosen[k]].tags;
    nothing(c, "out of focus", &images, own)
}

/// Counts what the device accepts of images that show none of the tags. `own(k, decision)`: whether
/// the decision on image `k` is right after all.
fn nothing(
    c: &Judge<'_>,
    name: &str,
    images: &[Vec<u8>],
    own: impl Fn(usize, &decide::Decision) -> bool,
) -> Result<Invalid> {
    let seen = predict::see(&c.network, images)?;
    let scores = predict::scores(c.task, &seen.logits, c.decision.temperature());
    let decisions = c.decided(&scores, &seen.beyond)?;
    // Names the surest tag that passes; if none passes, the tag with the highest score.
    let passing = decisions.iter().enumerate().filter(|(k, d)| passes(d) && !own(*k, d));
    let named = passing.filter_map(|(k, d)| d.tag.map(|tag| (tag.0 as usize, scores[k][tag.0 as usize])));
    let flat = scores.iter().flat_map(|s| s.iter().copied().enumerate());
    let surest = named.max_by_key(|(_, s)| *s).or_else(|| flat.max_by_key(|(_, s)| *s));
    let (tag, highest) = surest.map_or((0, 0.0), |(t, s)| (t, s.probability()));
    Ok(Invalid {
        name: name.into(),
        images: images.len(),
        accepted: decisions.iter().filter(|d| d.verdict == Verdict::Present).count(),
        passes: decisions.iter().enumerate().filter(|(k, d)| passes(d) && !own(*k, d)).count(),
        highest,
        tag: c.tags[tag].clone(),
    })
}

/// What the device accepts of each kind of image that shows none of the tags, and of test images
/// out of focus. `unseen`: a folder of more such images.
pub(super) fn invalid(c: &Judge<'_>, test: &Judged, unseen: Option<&Path>) -> Result<Vec<Invalid>> {
    let mut sets: Vec<(String, Vec<Vec<u8>>)> =
        shifts::invalid(c.run.graph.side).into_iter().map(|(name, p)| (name.to_string(), p)).collect();
    if let Some(folder) = unseen {
        let listing = tagpin::pictures::list(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
        listing.remarks().for_each(|remark| eprintln!("{remark}"));
        let mut preprocessor = tagpin::preprocess::Preprocessor::new(c.run.target()?);
        let mut images = Vec::new();
        for file in listing.files {
            match tagpin::regular::read(&file, tagpin::pictures::Budget::HOST.0)
                .map_err(anyhow::Error::from)
                .and_then(|b| data::rgb_of(&b, &mut preprocessor))
            {
                Ok(rgb) => images.push(rgb),
                Err(e) => eprintln!("skipped {}: {e}", file.display()),
            }
        }
        ensure!(!images.is_empty(), "--unseen {}: no readable images", folder.display());
        sets.push(("unseen tag".into(), images));
    }
    let mut found: Vec<Invalid> =
        sets.iter().map(|(name, images)| nothing(c, name, images, |_, _| false)).collect::<Result<_>>()?;
    found.push(defocused(c, test)?);
    Ok(found)
}
