//! From a frame to scores: is it usable, does it show that a part has come, preprocessing, the
//! model, the head.
//!
//! Reads no clock, opens nothing, allocates nothing per frame. Which part a frame belongs to, and
//! what its scores lead to, is the station's business.

use crate::bundle::{Bundle, Tables};
use crate::category::add_up;
use crate::decide::{TagSet, Task};
use crate::distance::{Distance, Spread};
use crate::events::Why;
use crate::fault::Reason;
use crate::frame::{Fingerprint, Layout};
use crate::head::{Score, Temperature};
use crate::preprocess::{Plan, PlanError, Preprocessor, Target, quantise};
use crate::scene::Crossing;
use crate::settings::{Settings, TriggerKind};
use crate::sources::{FrameBuffer, Pacing};
use crate::station::Slot;
use crate::triggers::Presence;

/// What turns an image into logits.
pub trait Classifier: Send {
    /// `input`: NHWC int8. `logits`: Q16.16, one a tag. An error says in words why there are none.
    #[expect(clippy::result_large_err, reason = "the words stand in the error itself: nothing is allocated")]
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), Why>;

    /// Distance of the last image from the training images; `None` where the bundle has none.
    fn distance(&self) -> Option<Distance>;
}

/// What a usable frame shows besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// No part that came since the last frame.
    Nothing,
    /// A part that has come into view.
    Part,
    /// The crossing of the conveyor's light barrier that is new in this frame.
    Crossing(Crossing),
}

/// A bundle's model: what turns a frame at the model's size into scores.
pub struct Model {
    classifier: Box<dyn Classifier>,
    table: Vec<u8>,
    temperature: Temperature,
    limit: Option<Distance>,
    sha256: [u8; 32],
}

impl Model {
    /// Makes the bundle's, without the bundle, of its engine or a drill around that.
    pub fn maker(bundle: &Bundle<'_>) -> impl FnOnce(Box<dyn Classifier>) -> Self + Send + use<> {
        let contract = &bundle.contract;
        debug_assert_eq!(contract.input.tables.int8.len(), Tables::LEN);
        let (table, temperature) = (contract.input.tables.int8.to_vec(), contract.temperature());
        let (limit, sha256) = (bundle.spread.as_ref().map(Spread::limit), bundle.sha256);
        move |classifier| Self { classifier, table, temperature, limit, sha256 }
    }

    /// A model of this bundle that gives no logits, for tests of its way.
    #[cfg(test)]
    pub(crate) fn drawn(sha256: [u8; 32]) -> Box<Self> {
        struct Mute;
        impl Classifier for Mute {
            fn infer(&mut self, _: &[i8], _: &mut [i32]) -> Result<(), Why> {
                Err(Why::NONE)
            }

            fn distance(&self) -> Option<Distance> {
                None
            }
        }
        let temperature = Temperature::ONE;
        Box::new(Self { classifier: Box::new(Mute), table: Vec::new(), temperature, limit: None, sha256 })
    }

    /// The bundle's hash.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

/// The model and what is between it and a frame. While another model takes its place it holds both.
pub struct Vision {
    models: [Option<Box<Model>>; 2],
    /// Where the model stands that classifies the frame at hand.
    slot: Slot,
    preprocessor: Preprocessor,
    target: Target,
    tensor: Vec<i8>,
    logits: Vec<i32>,
    /// One a tag, then one a category that settings name.
    scores: Vec<Score>,
    categories: Vec<TagSet>,
    task: Task,
    barrier: bool,
    presence: Option<Presence>,
    frozen_after: u32,
    pacing: Pacing,
    layout: Option<Layout>,
    last_print: Option<Fingerprint>,
    same: u32,
    crossing: Option<Crossing>,
    missed_triggers: u64,
}

impl Vision {
    /// For the bundle's model and the site's settings. `classifier`: the bundle's engine, or a
    /// drill around it.
    pub fn new(bundle: &Bundle<'_>, classifier: Box<dyn Classifier>, settings: &Settings, pacing: Pacing) -> Self {
        let contract = &bundle.contract;
        let input = contract.input;
        let target = Target::of(&input, settings.roi);
        let tags = contract.tags.len();
        Self {
            models: [Some(Box::new(Model::maker(bundle)(classifier))), None],
            slot: Slot::First,
            preprocessor: Preprocessor::new(target),
            target,
            tensor: vec![0; input.width as usize * input.height as usize * 3],
            logits: vec![0; tags],
            scores: vec![Score(0); tags + settings.categories.len()],
            categories: settings.leaves(),
            task: contract.task,
            barrier: settings.trigger == TriggerKind::Barrier,
            presence: match settings.trigger {
                TriggerKind::Presence(rules) => Some(Presence::new(rules)),
                _ => None,
            },
            frozen_after: settings.frozen_after,
            pacing,
            layout: None,
            last_print: None,
            same: 0,
            crossing: None,
            missed_triggers: 0,
        }
    }

    /// Hash of the bundle whose model classifies.
    pub fn sha256(&self) -> [u8; 32] {
        self.model().sha256
    }

    /// Where a slot's model stands.
    fn place(&mut self, slot: Slot) -> &mut Option<Box<Model>> {
        &mut self.models[slot as usize]
    }

    /// Puts a model of the same tags, task and input into a slot; gives back what stood there.
    pub fn put(&mut self, slot: Slot, model: Option<Box<Model>>) -> Option<Box<Model>> {
        std::mem::replace(self.place(slot), model)
    }

    /// The model in `slot` classifies from now on. Panics where none stands there.
    pub fn choose(&mut self, slot: Slot) {
        assert!(self.place(slot).is_some(), "the station gives tickets for slots that hold a model");
        self.slot = slot;
    }

    fn model(&self) -> &Model {
        self.models[self.slot as usize].as_ref().expect("the chosen slot holds a model")
    }

    /// Forgets what the source looked like: it was opened again.
    pub fn source_reopened(&mut self) {
        self.layout = None;
        self.same = 0;
        if let Some(presence) = &mut self.presence {
            presence.forget();
        }
    }

    /// Crossings of the light barrier for which no frame was taken, because too many frames were
    /// lost.
    pub fn missed_triggers(&self) -> u64 {
        self.missed_triggers
    }

    /// Looks at a frame before it is given to a part: whether it can be used, and whether it shows
    /// that a part has come. Beside it the number of its pixels, where equal frames mean a frozen
    /// camera: not in files, whose frames are as they are.
    pub fn look(&mut self, frame: &FrameBuffer) -> Result<(Shows, Option<Fingerprint>), Reason> {
        let view = frame.view().map_err(|e| match e {
            crate::frame::FrameError::Truncated { .. } => Reason::Truncated,
            _ => Reason::FormatChanged,
        })?;
        let mut print = None;
        if self.pacing == Pacing::Live {
            if self.layout.is_some_and(|l| l != frame.layout) {
                return Err(Reason::FormatChanged);
            }
            self.layout = Some(frame.layout);
            if self.frozen_after > 0 {
                print = Some(Fingerprint::of(&view));
                if self.is_frozen(print) {
                    return Err(Reason::Frozen);
                }
            }
        }
        if self.presence.as_mut().is_some_and(|p| p.appears(&view)) {
            return Ok((Shows::Part, print));
        }
        let news = frame.crossing.filter(|c| self.barrier && self.crossing.is_none_or(|old| c.number > old.number));
        let shows = news.map_or(Shows::Nothing, |crossing| {
            self.missed_triggers += crossing.number - self.crossing.map_or(0, |c| c.number + 1);
            self.crossing = Some(crossing);
            Shows::Crossing(crossing)
        });
        Ok((shows, print))
    }

    /// Takes the number of the newest frame; whether as many in a row as the site says were equal.
    fn is_frozen(&mut self, print: Option<Fingerprint>) -> bool {
        self.same = if print == self.last_print { self.same + 1 } else { 0 };
        self.last_print = print;
        self.same >= self.frozen_after
    }

    /// Stage A and B of preprocessing.
    pub fn preprocess(&mut self, frame: &FrameBuffer) -> Result<(), Reason> {
        let view = frame.view().map_err(|_| Reason::Truncated)?;
        let rgb = self.preprocessor.image(&view).map_err(|_| Reason::FormatChanged)?;
        let model = self.models[self.slot as usize].as_ref().expect("the chosen slot holds a model");
        quantise(rgb, &model.table, &mut self.tensor);
        Ok(())
    }

    /// Why frames of this layout cannot be brought to the model's input, if they cannot.
    pub fn why_unusable(&self, frame: &FrameBuffer) -> Option<PlanError> {
        Plan::taps_len(frame.layout, self.target).err()
    }

    /// The model and the head; or the reason with its explanation, if there is one. Logits that are
    /// all at one rail are no answer.
    #[expect(clippy::result_large_err, reason = "the words stand in the error itself: nothing is allocated")]
    pub fn infer(&mut self) -> Result<(), (Reason, Why)> {
        let model = self.models[self.slot as usize].as_mut().expect("the chosen slot holds a model");
        model.classifier.infer(&self.tensor, &mut self.logits).map_err(|why| (Reason::Engine, why))?;
        let rails = self.logits.iter().all(|&l| l == i32::MAX) || self.logits.iter().all(|&l| l == i32::MIN);
        if rails {
            return Err((Reason::Engine, Why::of(&"all logits are at one end of their range")));
        }
        self.task.score(&self.logits, model.temperature, &mut self.scores[..self.logits.len()]);
        add_up(&self.categories, &mut self.scores);
        Ok(())
    }

    /// The scores of the last inference: one a tag, then one a category that settings name.
    pub fn scores(&self) -> &[Score] {
        &self.scores
    }

    /// Bytes of the model's input image, and how many tags it has.
    pub fn sizes(&self) -> (usize, usize) {
        (self.tensor.len(), self.logits.len())
    }

    /// Whether the last frame lies beyond the bundle's distance limit; never where the bundle has
    /// none.
    pub fn beyond(&self) -> bool {
        let model = self.model();
        model.limit.zip(model.classifier.distance()).is_some_and(|(limit, distance)| distance > limit)
    }

    /// The model's input image of the last preprocessed frame, its logits and the scores of its
    /// tags and of the categories that settings name.
    pub fn last(&self) -> (&[u8], &[i32], &[Score]) {
        (self.preprocessor.last(), &self.logits, &self.scores)
    }
}
