//! What a run shows to other machines: opened before anything runs, started with it, and kept
//! going.

use super::access::Access;
use super::changes::Recorder;
use super::gallery::Gallery;
use super::http::{Handler, Limits, Server};
use super::keep::{self, Keeper, Votes};
use super::metrics::{self, Collector, Histograms, Metrics};
use super::modbus::{self, Filler, Modbus, Registers, Triggering, Writers};
use super::mqtt::{self, Mqtt, Publisher};
use super::page::{self, Page};
use super::predict::{Endpoint, Rules, Served};
use super::recipes::Recipes;
use crate::bundle::Bundle;
use crate::classify::ImageClassifier;
use crate::engine::Engine;
use crate::events::sinks::Sink;
use crate::events::{Client, Events, QUEUE, SMALL_QUEUE, Sinking};
use crate::ring::Ring;
use crate::settings::{Listening, Settings};
use crate::supervisor::{Beside, Onlooker, Tuning, lowest_priority};
use crate::triggers::{Posts, TriggerSpec};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A gallery's places that go round where frames are only shown.
const SHOWN: usize = 6;
/// The same where images are kept on disk: the line goes on while one is written.
const KEPT: usize = 12;

/// What a run has of this, open.
#[derive(Default)]
pub struct Opened {
    /// Sinks of its events.
    pub sinks: Vec<Sinking>,
    /// Clients of its events.
    pub clients: Vec<Client>,
    /// Who looks at frames, and new rules.
    pub beside: Beside,
}

/// Opens everything that device.toml states, or tells every problem. `engine`: the bundle's.
/// `posts`: where a PLC's triggers go.
pub fn open(settings: &Settings, bundle: &Bundle<'_>, engine: &Engine, posts: &Posts) -> Result<Opened, Vec<String>> {
    let (mut opened, mut problems) = (Opened::default(), Vec::new());
    let tuning = Arc::new(Tuning::new(bundle.sha256, settings.tags.iter().map(|tag| tag.rule).collect()));
    opened.beside.tuning = Some(tuning.clone());
    let site = &settings.site;
    // A board has few clients, and each connection takes memory.
    let limits = Limits { connections: 16, ..Limits::default() };
    let taken = |table: &str, at, e| format!("[{table}] listen: {at}: {e}; choose another address or port");
    let mut bind =
        |l: &Listening| Server::bind(l.at, limits).map_err(|e: std::io::Error| problems.push(taken(l.table, l.at, e))).ok();
    let metrics = site.metrics.as_ref().and_then(|l| Some((l, bind(l)?)));
    let page = site.page.as_ref().and_then(|l| Some((l, bind(l)?)));
    let predict = site.predict.as_ref().and_then(|p| Some((p, bind(&p.listening)?)));
    if let Some(recorder) = Recorder::of(settings, bundle) {
        opened.beside.acknowledges = Some(recorder.acknowledges());
        opened.sinks.push(recorder.sink());
        opened.clients.push(recorder.client());
    }
    let kept = site.keep.as_ref().map(|_| Arc::new(keep::Figures::default()));
    if let Some((l, server)) = metrics {
        let kept = kept.clone();
        let times = Arc::new(Histograms::default());
        let access = access(l);
        let shown = times.clone();
        let make = move || Box::new(Collector(times.clone())) as Box<dyn Sink>;
        opened.sinks.push(Sinking { name: "metrics", wants: Box::new(metrics::wants), queue: QUEUE, make: Box::new(make) });
        opened.clients.push(client("metrics server", server, move |events| {
            Arc::new(Metrics { events: events.clone(), times: shown.clone(), kept: kept.clone(), access: access.clone() })
        }));
    }
    let sends_images = site.mqtt.as_ref().is_some_and(|m| !m.snapshots.is_empty());
    let places = if site.keep.is_some() { KEPT } else { SHOWN };
    let gallery = || Arc::new(Gallery::new(bundle.contract.input, settings.tags.len(), places));
    let gallery = (page.is_some() || sends_images || site.keep.is_some()).then(gallery);
    opened.beside.onlooker = gallery.clone().map(|gallery| gallery as Arc<dyn Onlooker>);
    if let (Some(k), Some(gallery), Some(figures)) = (&site.keep, gallery.clone(), kept) {
        match Ring::open(&k.folder, k.limits) {
            Ok(ring) => {
                let votes = Arc::new(Votes::new(gallery, &settings.tags, k.near));
                opened.beside.onlooker = Some(votes.clone());
                let (settings, roi, mut first) = (k.clone(), settings.roi, Some(ring));
                let make = move || {
                    // After a panic the folder is taken over anew, with the next part.
                    let ring = first.take().unwrap_or_else(|| Ring::at(&settings.folder, settings.limits));
                    let (settings, votes, figures) = (settings.clone(), votes.clone(), figures.clone());
                    Box::new(Keeper::new(keep::Of { settings, roi, ring, votes, figures })) as Box<dyn Sink>
                };
                opened.sinks.push(Sinking {
                    name: "keep",
                    wants: Box::new(keep::wants),
                    queue: SMALL_QUEUE,
                    make: Box::new(make),
                });
            }
            Err(e) => problems.push(format!("[keep] folder: {e}")),
        }
    }
    if let (Some((l, server)), Some(gallery)) = (page, gallery.clone()) {
        let page = Arc::new(Page::new(page::Of { settings, bundle, access: access(l), gallery, tuning: tuning.clone() }));
        let (told, shown) = (page.clone(), page);
        let make = move || Box::new(page::Listener(told.clone())) as Box<dyn Sink>;
        opened.sinks.push(Sinking { name: "page", wants: Box::new(page::wants), queue: QUEUE, make: Box::new(make) });
        let serve = move |events: &Arc<Events>| Arc::new(page::Server { page: shown.clone(), events: events.clone() });
        opened.clients.push(client("page server", server, serve));
    }
    if let Some(p) = &site.modbus {
        let of = |input: &TriggerSpec| match input {
            TriggerSpec::Modbus { max_jitter } => Some(Triggering { posts: posts.clone(), max_jitter: *max_jitter }),
            _ => None,
        };
        let triggering = settings.inputs.iter().find_map(of);
        let recipes = Recipes::of(settings);
        let registers = Registers::new(p.results, triggering.is_some(), recipes.as_ref());
        let acknowledges = opened.beside.acknowledges.clone().map(|counted| (counted, settings.inputs.len()));
        let writers = Writers { peers: p.writers.clone(), triggering, acknowledges, recipes };
        match Modbus::bind(p.at, registers.clone(), writers) {
            Ok(server) => {
                let make = move || Box::new(Filler(registers.clone())) as Box<dyn Sink>;
                opened.sinks.push(Sinking {
                    name: "modbus",
                    wants: Box::new(modbus::wants),
                    queue: SMALL_QUEUE,
                    make: Box::new(make),
                });
                let serve = move |events: &Arc<Events>, stop: &Arc<AtomicBool>| {
                    server.serve(events, stop);
                };
                opened.clients.push(Client { name: "modbus server", run: Box::new(serve) });
            }
            Err(e) => problems.push(taken("modbus", p.at, e)),
        }
    }
    if let Some(m) = &site.mqtt {
        match Mqtt::open(m, gallery.filter(|_| sends_images)) {
            Ok(mqtt) => {
                let mqtt = Arc::new(mqtt);
                let told = mqtt.clone();
                let make = move || Box::new(Publisher::new(told.clone())) as Box<dyn Sink>;
                opened.sinks.push(Sinking {
                    name: "mqtt",
                    wants: Box::new(mqtt::wants),
                    queue: SMALL_QUEUE,
                    make: Box::new(make),
                });
                let drive = move |events: &Arc<Events>, stop: &Arc<AtomicBool>| {
                    lowest_priority();
                    mqtt.drive(events, stop);
                };
                opened.clients.push(Client { name: "mqtt connection", run: Box::new(drive) });
            }
            Err(e) => problems.push(e),
        }
    }
    if let Some((p, server)) = predict {
        match ImageClassifier::new(bundle, engine.clone(), settings) {
            Ok(classifier) => {
                let rules = Rules {
                    access: access(&p.listening),
                    image_bytes: p.image_bytes,
                    decode: settings.picture_budget,
                    engines: 1,
                    queue: p.queue,
                    patience: Duration::from_secs(10),
                };
                let (tuning, sha256) = (tuning.clone(), bundle.sha256);
                let served = Served::new(bundle.contract.name.into(), bundle, classifier, 1)
                    .following(Box::new(move || tuning.now_of(sha256)));
                let endpoint = Arc::new(Endpoint::new(vec![served], rules));
                opened.clients.push(client("predict", server, move |_| endpoint.clone()));
            }
            Err(e) => problems.push(format!("[predict]: {e}")),
        }
    }
    if problems.is_empty() { Ok(opened) } else { Err(problems) }
}

fn access(l: &Listening) -> Access {
    Access { keys: l.keys.clone(), hosts: l.hosts.clone() }
}

/// A server as a client of the run's events, below everything that the line does.
fn client<H: Handler>(
    name: &'static str,
    server: Server,
    handler: impl Fn(&Arc<Events>) -> Arc<H> + Send + 'static,
) -> Client {
    let serve = move |events: &Arc<Events>, stop: &Arc<AtomicBool>| {
        lowest_priority();
        server.serve(handler(events), stop);
    };
    Client { name, run: Box::new(serve) }
}
