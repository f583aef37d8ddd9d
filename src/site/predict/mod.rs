//! The prediction endpoint: images in by HTTP, tags and decisions out, in the words of the services
//! that clients were made for.
//!
//! [`dialect`] says what a path asks for and in whose words, [`upload`] finds the image in a body,
//! [`replies`] writes the answer. A [`queue`] lets as many images be decoded and classified at a
//! time as there are engines; a bounded number waits, and one above gets 503. Nothing is fetched by
//! address, and nothing is kept.

mod dialect;
mod queue;
mod replies;

use crate::bundle::{Bundle, Hex};
use crate::classify::ImageClassifier;
use crate::decide::{PolicyError, TagRule};
use crate::pictures::{Budget, Picture, PictureError};
use crate::site::access::{Access, Barred};
use crate::site::http::{Body, BodyError, Handler, Request, Response};
use crate::site::upload;
use dialect::{Ask, Dialect};
use queue::Queue;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a multipart body may hold besides its image.
const MULTIPART: usize = 64 * 1024;

/// What an endpoint takes.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who may ask.
    pub access: Access,
    /// Most bytes of an uploaded image.
    pub image_bytes: usize,
    /// Most memory that decoding one image may take.
    pub decode: Budget,
    /// Images that are decoded and classified at a time.
    pub engines: usize,
    /// Requests that wait for that, at most.
    pub queue: usize,
    /// Longest wait.
    pub patience: Duration,
}

/// A model that is served.
pub struct Served {
    name: String,
    id: String,
    version: String,
    tags: Vec<String>,
    tag_ids: Vec<String>,
    idle: Mutex<Vec<ImageClassifier>>,
    /// Rules that may change meanwhile; `None` of it, or where it gives none, those of the settings.
    rules: Option<RulesNow>,
}

/// What gives the rules that hold now, one a tag.
pub type RulesNow = Box<dyn Fn() -> Option<Vec<TagRule>> + Send + Sync>;

impl Served {
    /// `classifier`: the bundle's; as many copies are made as `engines`.
    pub fn new(name: String, bundle: &Bundle<'_>, classifier: ImageClassifier, engines: usize) -> Self {
        let hash = Hex(&bundle.sha256).to_string();
        let tags = classifier.names().to_vec();
        let tag_ids = tags.iter().map(|tag| replies::uuid(&[hash.as_bytes(), tag.as_bytes()])).collect();
        let idle = vec![classifier; engines.max(1)];
        let (id, version) = (replies::uuid(&[hash.as_bytes()]), hash);
        Self { name, id, version, tags, tag_ids, idle: Mutex::new(idle), rules: None }
    }

    /// The same by rules that may change while it is served.
    pub fn following(self, rules: RulesNow) -> Self {
        Self { rules: Some(rules), ..self }
    }

    /// What clients call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<ImageClassifier>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An engine at work; it goes back even if the work panics.
struct Borrowed<'m>(&'m Served, Option<ImageClassifier>);

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.0.idle().extend(self.1.take());
    }
}

/// Why a request has no prediction.
#[derive(Debug)]
enum Refusal {
    /// Who asks may not.
    Barred(Barred),
    /// There is no such path.
    Path,
    /// The path is there, with another method: the one to use.
    Method(&'static str),
    /// It asks for something that is not offered: what, and what to do instead.
    Unsupported(&'static str),
    /// There is no model of this name; the names that there are.
    Model(String, String),
    /// The body could not be read.
    Body(BodyError),
    /// The body is no image upload: what was expected.
    Upload(&'static str),
    /// The image cannot be decoded.
    Image(PictureError),
    /// The image cannot be brought to the model's input, or the model failed.
    Classify(crate::classify::ClassifyError),
    /// The rules that hold now are not of this model's tags.
    Rules(PolicyError),
    /// Everything is busy.
    Full,
}

/// Requests, counted by how they ended.
#[derive(Debug, Default)]
pub struct Answered {
    /// With a prediction.
    pub predicted: AtomicU64,
    /// With a refusal that is the client's to settle.
    pub refused: AtomicU64,
    /// With 503: everything was busy.
    pub full: AtomicU64,
    /// With an error of the model's.
    pub failed: AtomicU64,
}

/// The endpoint: models and rules.
pub struct Endpoint {
    models: Vec<Served>,
    rules: Rules,
    queue: Queue,
    answered: Answered,
}

impl Endpoint {
    /// An endpoint for `models`, at least one; the first is meant where a client names none.
    pub fn new(models: Vec<Served>, rules: Rules) -> Self {
        assert!(!models.is_empty(), "an endpoint serves at least one model");
        let queue = Queue::new(rules.engines, rules.queue);
        Self { models, rules, queue, answered: Answered::default() }
    }

    /// How its requests ended so far.
    pub fn answered(&self) -> &Answered {
        &self.answered
    }

    /// The model of that name, or the first where a client names none.
    fn model(&self, name: Option<&str>) -> Result<&Served, Refusal> {
        let Some(name) = name else { return Ok(&self.models[0]) };
        self.models.iter().find(|m| m.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(Served::name).collect();
            Refusal::Model(name.into(), names.join(", "))
        })
    }

    fn predict(&self, request: &Request, body: &mut Body<'_>, ask: &Ask<'_>) -> Result<Response, Refusal> {
        self.rules.access.admit(request).map_err(Refusal::Barred)?;
        let (dialect, model) = match *ask {
            Ask::Image { dialect, model } => (dialect, self.model(model)?),
            // A project is a number that a bundle has not: only a name that is there counts.
            Ask::Project { dialect, project } => (dialect, self.model(Some(project)).unwrap_or(&self.models[0])),
            Ask::Models if !matches!(request.method.as_str(), "GET" | "HEAD") => return Err(Refusal::Method("GET")),
            Ask::Models => return Ok(replies::models(&self.models)),
            Ask::Live => return Err(Refusal::Method("GET")),
            Ask::Unsupported(_, why) => return Err(Refusal::Unsupported(why)),
            Ask::Unknown => return Err(Refusal::Path),
        };
        if request.method != "POST" {
            return Err(Refusal::Method("POST"));
        }
        let top = match request.query("top").map(str::parse) {
            None => usize::MAX,
            Some(Ok(top)) => top,
            Some(Err(_)) => return Err(Refusal::Unsupported("expected top=NUMBER, tags that are answered")),
        };
        let body = body.read(self.rules.image_bytes + MULTIPART).map_err(Refusal::Body)?;
        let upload = upload::image(request.header("content-type").unwrap_or(""), &body).map_err(Refusal::Upload)?;
        if upload.len() > self.rules.image_bytes {
            return Err(Refusal::Body(BodyError::TooLarge));
        }
        let _place = self.queue.enter(self.rules.patience).ok_or(Refusal::Full)?;
        let image = Picture::decode(upload, self.rules.decode).map_err(Refusal::Image)?;
        let mut engine = Borrowed(model, model.idle().pop());
        let classifier = engine.1.as_mut().expect("a queue's place comes with an engine");
        if let Some(rules) = model.rules.as_ref().and_then(|rules| rules()) {
            classifier.set_rules(&rules).map_err(Refusal::Rules)?;
        }
        let found = classifier.classify(&image).map_err(Refusal::Classify)?;
        Ok(match dialect {
            Dialect::CustomVision => replies::custom_vision(model, &found),
            Dialect::ComputerVision(features) => {
                let size = [image.width, image.height];
                replies::computer_vision(model, &found, size, replies::format(upload), features)
            }
            Dialect::Plain => Response::json(200, &found.record(request.query("name").unwrap_or("").into(), top)),
        })
    }
}

impl Handler for Endpoint {
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response {
        let segments = request.segments();
        let ask = dialect::of(request, &segments);
        // Who asks whether the server lives has no key.
        if matches!(ask, Ask::Live) && matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response::json(200, &serde_json::json!({}));
        }
        let outcome = self.predict(request, body, &ask);
        let counter = match &outcome {
            Ok(_) => &self.answered.predicted,
            Err(Refusal::Full) => &self.answered.full,
            Err(Refusal::Classify(crate::classify::ClassifyError::Engine(_)) | Refusal::Rules(_)) => &self.answered.failed,
            Err(_) => &self.answered.refused,
        };
        counter.fetch_add(1, Relaxed);
        outcome.unwrap_or_else(|refusal| replies::refusal(ask.dialect(), &refusal, self.rules.image_bytes))
    }
}
