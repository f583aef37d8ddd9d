//! Drills: faults of the program itself at a chosen part, to see on the real line that outputs go safe.
//!
//! Knows no output; it wraps the classifier.

use crate::engine::{Engine, EngineError};

/// What turns a picture into logits.
pub trait Classifier: Send {
    /// `input`: NHWC int8. `logits`: Q16.16, one a tag.
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError>;
}

impl Classifier for Engine {
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        Engine::infer(self, input, logits)
    }
}

/// What goes wrong, and at which inference or event (counted from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drill {
    kind: Kind,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Panic,
    Hang,
    Engine,
    Rails,
    Abort,
    Sink,
}

const KINDS: [(&str, Kind); 6] = [
    ("panic", Kind::Panic),
    ("hang", Kind::Hang),
    ("engine", Kind::Engine),
    ("rails", Kind::Rails),
    ("abort", Kind::Abort),
    ("sink", Kind::Sink),
];

impl Drill {
    /// The event at which the sink on standard output panics; `None` for drills of the classifier.
    pub fn sink_event(self) -> Option<u64> {
        (self.kind == Kind::Sink).then_some(self.at)
    }
}

impl std::str::FromStr for Drill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected panic@N, hang@N, engine@N, rails@N, abort@N or sink@N";
        let (name, at) = text.split_once('@').ok_or(expected)?;
        let kind = KINDS.iter().find(|(n, _)| *n == name).ok_or(expected)?.1;
        let at = at.parse().ok().filter(|n| *n > 0).ok_or(expected)?;
        Ok(Self { kind, at })
    }
}

/// A classifier that fails as the drill says, from its inference on.
pub struct Drilled<C> {
    inner: C,
    drill: Drill,
    count: u64,
}

impl<C> Drilled<C> {
    /// Wraps `inner`.
    pub fn new(inner: C, drill: Drill) -> Self {
        Self { inner, drill, count: 0 }
    }
}

impl<C: Classifier> Classifier for Drilled<C> {
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        self.count += 1;
        if self.count < self.drill.at {
            return self.inner.infer(input, logits);
        }
        match self.drill.kind {
            Kind::Panic => panic!("a drill: the classifier panics"),
            Kind::Sink => self.inner.infer(input, logits),
            Kind::Abort => std::process::abort(),
            Kind::Hang => loop {
                std::thread::park();
            },
            Kind::Engine => Err(EngineError::Length { what: "input (a drill)", found: 0, expected: input.len() }),
            Kind::Rails => {
                logits.fill(i32::MAX);
                Ok(())
            }
        }
    }
}
