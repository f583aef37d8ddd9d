//! One image by itself: scores and decision by the line's own preprocessing, engine, head and rule.
//!
//! An image is a part of one frame. [`ImageClassifier`] owns the model and all memory that one
//! image needs, so that a copy of it works on a thread of its own. `tagpin classify` and the
//! prediction endpoint write what it finds as [`ImageRecord`].

mod heat;
mod tree;

use crate::bundle::Bundle;
use crate::category::add_up;
use crate::decide::{Decider, Decision, Observation, Policy, PolicyError, TagPolicy, TagRule, TagSet, Task, Verdict};
use crate::distance::Distance;
use crate::engine::{Engine, EngineError};
use crate::frame::{FrameError, FrameView};
use crate::head::{Score, TagId, Temperature, top_k};
use crate::heat::Heat;
use crate::pictures::Picture;
use crate::preprocess::{PlanError, Preprocessor, Target, quantise};
use crate::settings::Settings;
use crate::time::Instant;
pub use heat::{Finding, HeatRecord};
use serde::Serialize;
use std::sync::Arc;
pub use tree::{Branch, CategoryRecord, SHOWN, Tree, What};

/// Version of [`ImageRecord`]. Fields are only added.
const SCHEMA: u32 = 2;

/// The rule for images by themselves.
#[derive(Clone, Debug)]
pub struct Rule(Decider);

impl Rule {
    /// One frame decides; what the policy says of several frames has no meaning here.
    pub fn new(task: Task, tags: &[TagPolicy], policy: Policy) -> Result<Self, PolicyError> {
        let Policy { unknown, foreign, .. } = policy;
        Ok(Self(Decider::new(task, tags, Policy { unknown, foreign, ..Policy::default() })?))
    }

    /// The decision on one image. `scores`: one a tag; `beyond`: it lies beyond the bundle's
    /// distance limit.
    pub fn decide(&mut self, scores: &[Score], beyond: bool) -> Decision {
        let at = Instant::default();
        self.0.forget();
        self.0.step(at, Observation::Scores { captured_at: at, scores, beyond })
    }
}

/// Why an image was not classified.
#[derive(Debug)]
pub enum ClassifyError {
    /// The decoded image is no frame.
    Frame(FrameError),
    /// It cannot be brought to the model's input.
    Plan(PlanError),
    /// The model failed.
    Engine(EngineError),
}

impl std::fmt::Display for ClassifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame(e) => e.fmt(f),
            Self::Plan(e) => e.fmt(f),
            Self::Engine(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ClassifyError {}

/// A model and the memory that classifying one image takes.
#[derive(Clone, Debug)]
pub struct ImageClassifier {
    /// Of the model's tags, then of the categories that settings name.
    names: Arc<[String]>,
    tree: Option<Arc<Tree>>,
    categories: Arc<[TagSet]>,
    task: Task,
    temperature: Temperature,
    table: Arc<[u8]>,
    engine: Engine,
    preprocessor: Preprocessor,
    rule: Rule,
    tensor: Vec<i8>,
    logits: Vec<i32>,
    scores: Vec<Score>,
}

impl ImageClassifier {
    /// For the bundle's model and the site's region of interest, tags and policy. `engine`: the
    /// bundle's.
    pub fn new(bundle: &Bundle<'_>, engine: Engine, settings: &Settings) -> Result<Self, PolicyError> {
        let contract = &bundle.contract;
        let (tensor, logits) = (engine.spec().input.iter().product(), engine.spec().logits);
        Ok(Self {
            names: settings.names(contract.tags.iter().map(|t| t.name)).map(str::to_string).collect(),
            tree: Tree::of(bundle).map(Arc::new),
            categories: settings.leaves().into(),
            task: contract.task,
            temperature: contract.temperature(),
            table: contract.input.tables.int8.into(),
            engine,
            preprocessor: Preprocessor::new(Target::of(&contract.input, settings.roi)),
            rule: Rule::new(contract.task, &settings.tags, settings.policy)?,
            tensor: vec![0; tensor],
            logits: vec![0; logits],
            scores: vec![Score(0); logits + settings.categories.len()],
        })
    }

    /// Whether the bundle has categories.
    pub fn has_categories(&self) -> bool {
        self.tree.is_some()
    }

    /// Names of the tags in the bundle's order, then of the categories that settings name.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Decides by `rules` from the next image on, one a name in their order.
    pub fn set_rules(&mut self, rules: &[TagRule]) -> Result<(), PolicyError> {
        self.rule.0.set_rules(rules)
    }

    /// Scores and decision of one image.
    pub fn classify(&mut self, image: &Picture) -> Result<Classified<'_>, ClassifyError> {
        let (decision, reach) = self.look(image)?;
        Ok(self.found(decision, reach))
    }

    /// The same, and where in the image it comes from. `of_distance`: whether that is of the
    /// distance or of a tag; by default it is of the distance where the image is foreign. Takes
    /// about two hundred inferences.
    pub fn classify_with_heat(
        &mut self,
        image: &Picture,
        of_distance: Option<bool>,
    ) -> Result<(Classified<'_>, Finding, Heat), ClassifyError> {
        let (decision, reach) = self.look(image)?;
        let finding = match decision.tag.filter(|tag| (tag.0 as usize) < self.logits.len()) {
            _ if of_distance.unwrap_or(decision.verdict == Verdict::Foreign) => Finding::Distance,
            Some(tag) => Finding::Tag(tag),
            None => {
                let mut best = [(TagId(0), Score(0))];
                top_k(&self.scores[..self.logits.len()], &mut best);
                Finding::Tag(best[0].0)
            }
        };
        let (engine, table, tensor, logits) = (&mut self.engine, &self.table, &mut self.tensor, &mut self.logits);
        let found = |engine: &Engine, logits: &[i32]| match finding {
            Finding::Distance => engine.distance().map_or(0.0, Distance::real),
            Finding::Tag(id) => f64::from(logits[id.0 as usize]),
        };
        // The whole image has just been run.
        let whole = found(engine, logits);
        let measure = |rgb: &[u8]| {
            quantise(rgb, table, tensor);
            engine.infer(tensor, logits).map_err(ClassifyError::Engine)?;
            Ok(found(engine, logits))
        };
        let rgb = self.preprocessor.last();
        let heat = Heat::of((rgb, self.preprocessor.width()), whole, measure)?;
        Ok((self.found(decision, reach), finding, heat))
    }

    /// Runs the model on an image; its scores stay here.
    fn look(&mut self, image: &Picture) -> Result<(Decision, Option<Reach>), ClassifyError> {
        let view = FrameView::new(image.layout(), &image.rgb).map_err(ClassifyError::Frame)?;
        let rgb = self.preprocessor.image(&view).map_err(ClassifyError::Plan)?;
        quantise(rgb, &self.table, &mut self.tensor);
        self.engine.infer(&self.tensor, &mut self.logits).map_err(ClassifyError::Engine)?;
        self.task.score(&self.logits, self.temperature, &mut self.scores[..self.logits.len()]);
        add_up(&self.categories, &mut self.scores);
        let beyond = self.engine.distance().zip(self.engine.spread()).is_some_and(|(d, spread)| d > spread.limit());
        Ok((self.rule.decide(&self.scores, beyond), Reach::of(&self.engine)))
    }

    fn found(&self, decision: Decision, reach: Option<Reach>) -> Classified<'_> {
        let (names, tree) = (&self.names, self.tree.as_deref());
        let (scores, categories) = self.scores.split_at(self.logits.len());
        let seen = Seen { rgb: self.preprocessor.last(), width: self.preprocessor.width() };
        Classified { names, scores, categories, tree, decision, reach, seen }
    }
}

/// An image as the model sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// `[height, width, 3]`.
    pub rgb: &'a [u8],
    /// Its columns.
    pub width: usize,
}

/// What was found in one image.
#[derive(Clone, Copy, Debug)]
pub struct Classified<'a> {
    /// Names of the tags in the bundle's order, then of the categories that settings name.
    names: &'a [String],
    /// One score a tag.
    scores: &'a [Score],
    /// One score a category that settings name.
    categories: &'a [Score],
    tree: Option<&'a Tree>,
    /// What follows from them.
    pub decision: Decision,
    /// How far the image lies from the training images; `None` where the bundle has no distance.
    pub reach: Option<Reach>,
    /// What the model saw of it.
    pub seen: Seen<'a>,
}

/// How far an image lies from the training images, and how far it may.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reach {
    /// In deviations of the training images.
    pub distance: f64,
    /// The same in 1/65536.
    pub distance_raw: u32,
    /// The bundle's limit, beyond which an image is foreign.
    pub distance_limit: f64,
}

impl Reach {
    /// Of the image that an engine ran last; `None` where its bundle has no distance.
    fn of(engine: &Engine) -> Option<Self> {
        let (distance, spread) = (engine.distance()?, engine.spread()?);
        let digits = |d: Distance| (d.real() * 1e4).round() / 1e4;
        Some(Self { distance: digits(distance), distance_raw: distance.0, distance_limit: digits(spread.limit()) })
    }
}

impl<'a> Classified<'a> {
    /// Its categories and tags as a tree; nothing where the bundle has no categories.
    pub fn branches(&self) -> Vec<Branch<'a>> {
        self.tree.map_or(Vec::new(), |tree| tree.branches(self.scores))
    }

    /// A tag's name, or that of a category that settings name.
    pub fn name(&self, id: TagId) -> &'a str {
        &self.names[id.0 as usize]
    }

    /// The score of a tag, or of a category that settings name.
    pub fn score(&self, id: TagId) -> Score {
        let at = id.0 as usize;
        self.scores.get(at).copied().unwrap_or_else(|| self.categories[at - self.scores.len()])
    }

    /// The best `count` tags, at least one, best first; ties by the bundle's order.
    pub fn best(&self, count: usize) -> Vec<(TagId, Score)> {
        let mut best = vec![(TagId(0), Score(0)); count.clamp(1, self.scores.len())];
        let found = top_k(self.scores, &mut best);
        best.truncate(found);
        best
    }

    /// What a tag's own line says of it: `present` if it holds, `review` if it lies in its band,
    /// else empty.
    pub fn standing(&self, id: TagId) -> &'static str {
        let stands = |set: &TagSet| set.contains(id);
        match (stands(&self.decision.held), stands(&self.decision.band)) {
            (true, _) => "present",
            (_, true) => "review",
            _ => "",
        }
    }

    /// The image as JSON, with its best `top` tags.
    pub fn record(&self, path: String, top: usize) -> ImageRecord<'a> {
        let tag = |(id, score): (TagId, Score)| TagRecord {
            tag: self.name(id),
            score: score.probability(),
            score_raw: score.0,
            verdict: self.standing(id),
        };
        ImageRecord {
            schema: SCHEMA,
            path,
            verdict: self.decision.verdict.name(),
            action: self.decision.action.map(crate::decide::Action::name),
            tag: self.decision.tag.map(|id| self.name(id)),
            held: self.decision.held.iter().map(|id| self.name(id)).collect(),
            reach: self.reach,
            heat: None,
            tags: self.best(top).into_iter().map(tag).collect(),
            categories: self.tree.map(|tree| tree.records(self.scores)),
        }
    }
}

/// One tag of one image, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct TagRecord<'a> {
    tag: &'a str,
    score: f32,
    score_raw: u16,
    /// As [`Classified::standing`] gives it.
    verdict: &'static str,
}

/// One image, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct ImageRecord<'a> {
    schema: u32,
    path: String,
    verdict: &'static str,
    action: Option<&'static str>,
    /// The tag that names the verdict.
    tag: Option<&'a str>,
    /// Every tag that holds.
    held: Vec<&'a str>,
    /// Distance from the training images, and the bundle's limit; absent where the bundle has none.
    #[serde(flatten)]
    reach: Option<Reach>,
    /// Where the finding comes from, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    heat: Option<HeatRecord>,
    /// The best tags.
    tags: Vec<TagRecord<'a>>,
    /// Categories from [`SHOWN`] up, and those of the best tag, outer before inner; absent where
    /// the bundle has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<CategoryRecord<'a>>>,
}

impl ImageRecord<'_> {
    /// With where its finding comes from.
    pub fn with_heat(self, heat: HeatRecord) -> Self {
        Self { heat: Some(heat), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Action, table};

    #[test]
    fn one_image_is_decided_as_the_table_states() {
        let rows = table::tests::rows();
        let mut run = 0;
        for row in rows.iter().filter(|r| r.is_one_image()) {
            let mut rule = Rule::new(row.task, &row.tag_policies().unwrap(), Policy::default()).unwrap();
            let table::Frame::Scores { scores, .. } = &row.frames[0] else { unreachable!("is_one_image") };
            let scores: Vec<Score> = scores.iter().map(|p| Score::from_probability(*p).unwrap()).collect();
            let decision = rule.decide(&scores, false);
            row.check(&decision, decision.action.map_or("-", Action::name), "classify");
            run += 1;
        }
        assert!(run >= 25 || std::env::var_os("TAGPIN_DECISIONS").is_some(), "{run} rows need one image alone");
    }
}
