//! The line's thread: frames to the station, what it wants classified to the model, the scores
//! back; a beat all the while.

use super::beside::{Beside, EngineFailed, Seen};
use super::capture::News;
use super::record::Recording;
use super::shared::{About, Shared};
use super::vision::{Model, Shows, Vision};
use crate::events::{Image, Latency, Why};
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::sources::FrameBuffer;
use crate::station::{Input, Spare, Ticket};
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::Ordering;

pub(super) struct LineThread<'s> {
    pub(super) vision: Vision,
    pub(super) shared: &'s Shared,
    pub(super) record: Option<&'s Recording>,
    pub(super) beside: Beside,
    /// The right to make another model current.
    pub(super) spare: Option<Spare>,
    /// A model that no part needs, on its way back.
    pub(super) left: Option<Box<Model>>,
    /// How well the moment of a part that a frame shows must be known, where its gate goes by it.
    pub(super) found_within: Option<Micros>,
    /// Whether each frame is a part.
    pub(super) every_frame: bool,
}

impl LineThread<'_> {
    pub(super) fn run(&mut self, frame_timeout: Micros) {
        /// Longest wait between two beats.
        const BEAT: Micros = Micros(20_000);
        let shared = self.shared;
        // The last sign of the capture thread, and whether its silence was told since.
        let (mut last_news, mut is_told) = (shared.clock.now(), false);
        while !shared.exchange.stop.load(Ordering::Relaxed) {
            let now = shared.clock.now();
            shared.beat.store(now.as_micros(), Ordering::Relaxed);
            let wait = shared.time_left(now).unwrap_or(BEAT).min(BEAT).max(Micros(500));
            match shared.exchange.take(wait) {
                Some(News::Frame(mut frame)) => {
                    (last_news, is_told) = (shared.clock.now(), false);
                    self.frame(&mut frame);
                    shared.exchange.give_back(frame);
                }
                Some(News::Fault(reason, why)) => {
                    last_news = shared.clock.now();
                    // One silence is one fault, whoever sees it first.
                    if reason != Reason::NoFrame || !std::mem::take(&mut is_told) {
                        self.no_frame(reason, why);
                    }
                }
                Some(News::Reopened) => {
                    self.vision.source_reopened();
                    last_news = shared.clock.now();
                }
                Some(News::End) => {
                    shared.step(Input::SourceEnded { live: false });
                }
                Some(News::Lost) => {
                    shared.step(Input::SourceEnded { live: true });
                }
                None => {}
            }
            let now = shared.clock.now();
            // The capture thread knows why no frame comes, so it is heard first, unless it hangs.
            let patience = frame_timeout.max(shared.exchange.patience());
            if now.since(last_news).0 > patience.0.saturating_add(BEAT.0) {
                (last_news, is_told) = (now, true);
                self.no_frame(Reason::NoFrame, Why::NONE);
            }
            self.take_orders();
            shared.step(Input::Tick);
        }
    }

    /// Takes a model and rules that wait; gives a model back that no part needs any more.
    fn take_orders(&mut self) {
        let Some(tuning) = &self.beside.tuning else { return };
        if self.spare.is_none()
            && let Some(spare) = self.shared.take_spare()
        {
            self.left = self.vision.put(spare.slot(), None);
            self.spare = Some(spare);
        }
        self.left = self.left.take().and_then(|model| tuning.give_back(model));
        let Some(taken) = tuning.take(self.spare.is_some() && self.left.is_none()) else { return };
        if let Some((model, rules)) = taken.model
            && let Some(spare) = self.spare.take()
        {
            self.shared.runs(spare.slot(), model.sha256());
            self.vision.put(spare.slot(), Some(model));
            let about = About { back: taken.back.is_some(), why: taken.back.unwrap_or(Why::NONE), ..About::default() };
            self.shared.step_about(Input::Model { spare, rules: &rules }, &about);
        }
        if let Some(rules) = taken.rules {
            self.shared.step(Input::Rules(&rules));
        }
    }

    fn no_frame(&self, reason: Reason, why: Why) {
        self.shared.events.snapshot().show_camera(false);
        self.shared.step_about(Input::NoFrame(reason), &About { why, ..About::default() });
    }

    fn frame(&mut self, frame: &mut FrameBuffer) {
        let (shared, at) = (self.shared, frame.captured_at);
        let begin = shared.clock.now();
        // The frame waited before anybody looked: the belt has moved on since.
        let trigger = |at: Instant| {
            shared.belt.heard_of(at);
            shared.moment(at)
        };
        let too_old = match (at, self.found_within) {
            (CapturedAt::Arrival { latency, .. }, Some(within)) if latency > within => Some((latency, within)),
            _ => None,
        };
        let looked = self.vision.look(frame);
        if let (Ok((Shows::Nothing, _)), Some(too_old), true) = (&looked, too_old, self.every_frame) {
            return self.found_too_late(too_old);
        }
        let (shows, print) = match looked {
            Ok((Shows::Nothing, print)) => (None, print),
            Ok((Shows::Part, print)) => match too_old {
                Some(too_old) => {
                    self.found_too_late(too_old);
                    (None, print)
                }
                None => (trigger(at.exposed_from().unwrap_or(at.instant())), print),
            },
            Ok((Shows::Crossing(crossing), print)) => {
                shared.crossed(crossing, self.vision.missed_triggers());
                (trigger(crossing.at), print)
            }
            Err(reason) => {
                // A camera that gives another format must be opened again, too.
                shared.exchange.restart.store(true, Ordering::Relaxed);
                return self.no_frame(reason, Why::NONE);
            }
        };
        shared.events.snapshot().show_camera(true);
        if let Some(ticket) = shared.step(Input::Frame { captured_at: at, shows, print }) {
            shared.add_image(ticket.part().id, Image { captured_at: at, sequence: frame.sequence });
            self.classify(frame, ticket, begin);
        }
    }

    /// A frame that shows a part waited for longer than its gate can do with: where the part is by
    /// now nobody knows.
    fn found_too_late(&self, (latency, within): (Micros, Micros)) {
        let why = format_args!(
            "a part was found in a frame that may be {} ms old, {} at most would do: it passes unsorted",
            latency.0 / 1000,
            within.0 / 1000
        );
        self.shared.line_fault(Reason::Trigger, Why::of(&why));
    }

    #[expect(clippy::result_large_err, reason = "the words stand in the error itself: nothing is allocated")]
    fn classify(&mut self, frame: &mut FrameBuffer, ticket: Ticket, begin: Instant) {
        let shared = self.shared;
        let counters = shared.events.counters();
        counters.inferences.fetch_add(1, Ordering::Relaxed);
        self.vision.choose(ticket.model());
        let preprocessed = self.vision.preprocess(frame);
        let middle = shared.clock.now();
        let unusable = |reason| (reason, self.vision.why_unusable(frame).map_or(Why::NONE, |why| Why::of(&why)));
        let outcome = preprocessed.map_err(unusable).and_then(|()| self.vision.infer());
        counters.inferences_done.fetch_add(1, Ordering::Relaxed);
        let end = shared.clock.now();
        let captured = ticket.captured_at();
        let latency = Latency { preprocess: middle.since(begin), infer: end.since(middle), total: end.since(captured) };
        match outcome {
            Ok(()) => {
                if let Some(record) = self.record {
                    record.keep(&self.vision, &shared.events);
                }
                let (rgb, _, scores) = self.vision.last();
                shared.events.snapshot().show_image(ticket.part().id.0, ticket.captured_at(), rgb, scores);
                let beyond = self.vision.beyond();
                if let Some(onlooker) = &self.beside.onlooker {
                    let (part, captured_at) = (ticket.part().id.0, ticket.captured_at());
                    onlooker.saw(&Seen { part, captured_at, rgb, scores, beyond }, frame);
                }
                let about = About { latency, scores, ..About::default() };
                shared.step_about(Input::Scores { ticket, scores, beyond }, &about);
            }
            Err((reason, why)) => {
                if let Some(tuning) = self.beside.tuning.as_ref().filter(|_| reason == Reason::Engine) {
                    let (bundle, part) = (self.vision.sha256(), ticket.part().id.0);
                    tuning.failed(EngineFailed { bundle, part, why: why.clone() });
                }
                shared.step_about(Input::NotClassified { ticket, reason }, &About { why, latency, ..About::default() });
            }
        }
    }
}
