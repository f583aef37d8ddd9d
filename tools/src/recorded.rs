//! Replays what `tagpin run --record` kept on a board, with its bundle: the host must give the same
//! logits and scores, bit for bit.

use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use tagpin::bundle::{Bundle, Hex};
use tagpin::engine::Engine;
use tagpin::head::Score;

/// Replays all frames of `folder`; returns how many there were. Fails at the first difference.
pub fn replay(folder: &Path, bundle: &Bundle<'_>, mut engine: Engine) -> Result<usize> {
    let read = |name: &str| {
        let path = folder.join(name);
        tagpin::regular::read(&path, tagpin::regular::LARGE).with_context(|| format!("{} cannot be read", path.display()))
    };
    let recorded = String::from_utf8(read("bundle.sha256")?).context("bundle.sha256 is not text")?;
    let own = Hex(&bundle.sha256).to_string();
    ensure!(
        recorded.trim() == own,
        "it was recorded with the bundle {}, this one is {own}; give the one that ran there",
        recorded.trim()
    );
    let contract = &bundle.contract;
    let spec = engine.spec().clone();
    let mut frames = 0;
    loop {
        let name = |ending: &str| format!("{frames:08}.{ending}");
        if !folder.join(name("rgb")).exists() {
            break;
        }
        let (rgb, logits, scores) = (read(&name("rgb"))?, read(&name("logits"))?, read(&name("scores"))?);
        ensure!(
            rgb.len() == spec.input.iter().product::<usize>()
                && logits.len() == 4 * spec.logits
                && scores.len() == 2 * spec.logits,
            "frame {frames} is incomplete; it was being written when the recording ended. Remove it"
        );
        let mut input = vec![0; rgb.len()];
        tagpin::preprocess::quantise(&rgb, contract.input.tables.int8, &mut input);
        let mut ours = vec![0; spec.logits];
        engine.infer(&input, &mut ours)?;
        let theirs = logits.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        if let Some((t, (a, b))) = ours.iter().copied().zip(theirs).enumerate().find(|(_, (a, b))| a != b) {
            bail!("frame {frames}: logit of \"{}\" is {b} on the board, {a} here", contract.tags[t].name);
        }
        let mut own = vec![Score(0); spec.logits];
        contract.task.score(&ours, contract.temperature(), &mut own);
        let theirs = scores.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        if let Some((t, (a, b))) = own.iter().map(|s| s.0).zip(theirs).enumerate().find(|(_, (a, b))| a != b) {
            bail!("frame {frames}: score of \"{}\" is {b} on the board, {a} here", contract.tags[t].name);
        }
        frames += 1;
    }
    ensure!(frames > 0, "{}: no recorded frames; record with `tagpin run --record`", folder.display());
    Ok(frames)
}
