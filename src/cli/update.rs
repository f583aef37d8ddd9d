//! How a running line loads and tries a bundle that was installed meanwhile.

use super::{Model, Refused, keys, model_tags};
use crate::bundle::Bundle;
use crate::engine::Engine;
use crate::events::Update;
#[cfg(feature = "site")]
use crate::settings::{Overridden, Overrides};
use crate::settings::{Settings, SettingsError};
use crate::supervisor::drill::{Drill, Drilled};
use crate::supervisor::vision::Classifier;
use crate::supervisor::{Tuning, vision};
use crate::update::{Fixed, Follower, Loaded, NotLoaded, record};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a run decides whether it takes a bundle.
pub(super) struct Line {
    /// Folder of the keys that are trusted.
    pub(super) keys: PathBuf,
    /// Its device.toml.
    pub(super) settings: Option<PathBuf>,
    /// The recipe of it that the run goes by.
    pub(super) recipe: Option<String>,
    /// Threads of its engine.
    pub(super) threads: usize,
    /// It records frames.
    pub(super) records: bool,
    /// What fails of a bundle that it takes over.
    pub(super) drill: Option<Drill>,
}

/// Settings as they were when the run began, whatever became of the file since.
struct Stated {
    /// Text and name of the file.
    file: Option<(String, String)>,
    recipe: Option<String>,
}

impl Stated {
    fn read(file: Option<&Path>, recipe: Option<String>) -> Result<Self, Refused> {
        let read = |file: &Path| {
            let text = crate::regular::read_text(file, crate::regular::TEXT);
            let name = file.display().to_string();
            text.map(|text| (text, name.clone())).map_err(|e| format!("{name}: cannot be read: {e}"))
        };
        Ok(Self { file: file.map(read).transpose()?, recipe })
    }

    /// What they say with a bundle.
    fn with(&self, bundle: &Bundle<'_>) -> Result<Settings, SettingsError> {
        let Some((text, name)) = &self.file else { return Ok(model_tags(bundle, Settings::plain)) };
        let draft = model_tags(bundle, |model| Settings::draft_of(text, name, self.recipe.as_deref(), model))?;
        if draft.problems.is_empty() { Ok(draft.settings) } else { Err(SettingsError(draft.problems)) }
    }
}

/// Follows `folder`, from which the line runs the bundle of `file`.
pub(super) fn follower(
    line: Line,
    folder: &Path,
    file: &Path,
    bundle: &Bundle<'_>,
    tuning: Arc<Tuning>,
) -> Result<Follower, Refused> {
    let stated = Stated::read(line.settings.as_deref(), line.recipe.clone())?;
    let fixed = Fixed::of(bundle, stated.with(bundle).map_err(|e| Refused(e.0))?);
    let wants_signature = !keys(&line.keys)?.is_empty();
    let load = move |file: &Path, wait: &dyn Fn()| load(&line, wants_signature, &stated, &fixed, file, wait);
    Ok(Follower::new(folder.into(), file.into(), bundle.sha256, record(bundle), tuning, Box::new(load)))
}

/// Loads and tries the bundle at `file`; `wait` is called before what takes long.
/// `wants_signature`: whether there were keys when the run began.
fn load(
    line: &Line,
    wants_signature: bool,
    stated: &Stated,
    fixed: &Fixed,
    file: &Path,
    wait: &dyn Fn(),
) -> Result<Loaded, NotLoaded> {
    let unread = |e: Refused| NotLoaded { sha256: None, outcome: Update::Refused, why: e.0.join("; ") };
    wait();
    let model = Model::read(Some(file)).map_err(unread)?;
    let bundle = model.bundle().map_err(unread)?;
    let sha256 = Some(bundle.sha256);
    let refused = |why: String| NotLoaded { sha256, outcome: Update::Refused, why };
    let restart = |why: String| NotLoaded { sha256, outcome: Update::RestartNeeded, why };
    let signed = keys(&line.keys).and_then(|trusted| match wants_signature && trusted.is_empty() {
        true => Err(Refused::from(format!("{} has no key any more, but had one when the run began", line.keys.display()))),
        false => model.signed(&bundle, &line.keys),
    });
    signed.map_err(|e| refused(e.0.join("; ")))?;
    #[cfg_attr(not(feature = "site"), expect(unused_mut, reason = "only `site` lays something on top"))]
    let mut settings = stated.with(&bundle).map_err(|e| restart(e.0.join("; ")))?;
    let differs = fixed.differences(&Fixed::of(&bundle, settings.clone()));
    if !differs.is_empty() {
        return Err(restart(format!("other {}", differs.join(", "))));
    }
    if line.records {
        return Err(restart("--record keeps frames of one bundle".into()));
    }
    #[cfg(feature = "site")]
    let remark = model_tags(&bundle, |tags| Overrides::apply(&mut settings, tags, &super::hex(&bundle.sha256)))
        .map(|overridden| if overridden == Overridden::No { String::new() } else { overridden.to_string() })
        .map_err(|e| refused(e.0.join("; ")))?;
    #[cfg(not(feature = "site"))]
    let remark = String::new();
    wait();
    let mut engine = Engine::from_bundle(&bundle).map_err(|e| refused(e.to_string()))?;
    engine.self_test_when(&bundle, wait).map_err(|e| refused(e.to_string()))?;
    let (made, threads, drill) = (vision::Model::maker(&bundle), line.threads, line.drill.clone());
    let finish = move || {
        let engine = engine.with_threads(threads).map_err(|e| format!("[engine] threads: {e}"))?;
        let classifier: Box<dyn Classifier> = match drill {
            Some(drill) => Box::new(Drilled::new(engine, drill)),
            None => Box::new(engine),
        };
        Ok(Box::new(made(classifier)))
    };
    Ok(Loaded {
        sha256: bundle.sha256,
        finish: Box::new(finish),
        rules: settings.tags.iter().map(|tag| tag.rule).collect(),
        record: record(&bundle),
        remark,
    })
}
