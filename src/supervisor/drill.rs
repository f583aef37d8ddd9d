//! Drills: faults of the program itself at a chosen part, to see on the real line that outputs go
//! safe.
//!
//! They wrap the classifier or one output; what is around it takes them for the real one.

use super::vision::Classifier;
use crate::distance::Distance;
use crate::events::Why;
use crate::outputs::{Output, State, WriteError};
use std::time::Duration;

/// What goes wrong, and at which inference, event or write (counted from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    kind: Kind,
    /// The output or sink, of drills that name one.
    of: Option<String>,
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
    Unwritable,
    Stuck,
    NewEngine,
    NewLate,
    Late,
}

/// How much longer an inference takes that makes its part late.
const LONGER: Duration = Duration::from_millis(400);

const KINDS: [(&str, Kind); 10] = [
    ("panic", Kind::Panic),
    ("hang", Kind::Hang),
    ("engine", Kind::Engine),
    ("rails", Kind::Rails),
    ("abort", Kind::Abort),
    ("sink", Kind::Sink),
    ("unwritable", Kind::Unwritable),
    ("stuck", Kind::Stuck),
    ("new-engine", Kind::NewEngine),
    ("new-late", Kind::NewLate),
];

impl Drill {
    /// The sink that panics, standard output's where none is named, and the event at which it does;
    /// `None` for other drills.
    pub fn sink(&self) -> Option<(&str, u64)> {
        (self.kind == Kind::Sink).then_some((self.of.as_deref().unwrap_or("stdout"), self.at))
    }

    /// The drill of a bundle that is taken over, if it is one.
    pub fn of_new_bundle(&self) -> Option<Self> {
        let kind = match self.kind {
            Kind::NewEngine => Kind::Engine,
            Kind::NewLate => Kind::Late,
            _ => return None,
        };
        Some(Self { kind, ..self.clone() })
    }

    /// Whether the output that the drill concerns, if it concerns one, is among `names`; else why
    /// not.
    pub fn check_outputs(&self, names: &[&str]) -> Result<(), String> {
        match &self.of {
            Some(wanted) if self.kind != Kind::Sink && !names.contains(&wanted.as_str()) => {
                let names: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
                Err(format!("no output \"{wanted}\"; expected one of {}", names.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// The output `name`, failing as the drill says if it concerns that one.
    pub fn of_output(&self, name: &str, output: Box<dyn Output>) -> Box<dyn Output> {
        match &self.of {
            Some(wanted) if self.kind != Kind::Sink && wanted == name => {
                Box::new(DrilledOutput { inner: output, kind: self.kind, left: self.at })
            }
            _ => output,
        }
    }
}

impl std::str::FromStr for Drill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected panic@N, hang@N, engine@N, rails@N, abort@N, sink@N, sink:NAME@N, \
             unwritable:OUTPUT@N, stuck:OUTPUT@N, new-engine@N or new-late@N";
        let (what, at) = text.rsplit_once('@').ok_or(expected)?;
        let (name, of) = what.split_once(':').map_or((what, None), |(name, of)| (name, Some(of.to_string())));
        let kind = KINDS.iter().find(|(n, _)| *n == name).ok_or(expected)?.1;
        let at = at.parse().ok().filter(|n| *n > 0).ok_or(expected)?;
        if kind != Kind::Sink && of.is_some() != matches!(kind, Kind::Unwritable | Kind::Stuck) {
            return Err(expected.into());
        }
        Ok(Self { kind, of, at })
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
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), Why> {
        self.count += 1;
        if self.count < self.drill.at {
            return self.inner.infer(input, logits);
        }
        match self.drill.kind {
            Kind::Panic => panic!("a drill: the classifier panics"),
            Kind::Sink | Kind::Unwritable | Kind::Stuck | Kind::NewEngine | Kind::NewLate => self.inner.infer(input, logits),
            Kind::Late => {
                std::thread::sleep(LONGER);
                self.inner.infer(input, logits)
            }
            Kind::Abort => std::process::abort(),
            Kind::Hang => loop {
                std::thread::park();
            },
            Kind::Engine => Err(Why::of(&"a drill: the engine fails")),
            Kind::Rails => {
                logits.fill(i32::MAX);
                Ok(())
            }
        }
    }

    fn distance(&self) -> Option<Distance> {
        self.inner.distance()
    }
}

/// An output that fails as the drill says, from its write of that number on.
struct DrilledOutput {
    inner: Box<dyn Output>,
    kind: Kind,
    /// Writes up to the first that fails, this one included.
    left: u64,
}

impl Output for DrilledOutput {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        if self.left > 1 {
            self.left -= 1;
            return self.inner.apply(state);
        }
        if self.kind == Kind::Stuck {
            loop {
                std::thread::park();
            }
        }
        Err(WriteError::Drill)
    }

    fn second(&self) -> Box<dyn Output> {
        self.inner.second()
    }
}
