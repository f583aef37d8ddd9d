//! MQTT: what the line does, told to a broker by the topics in `MQTT.md`.
//!
//! A sink puts parts and faults into a spool, of which the connection hands over as much as the
//! broker confirms. Figures and images are not kept: of them only the newest is worth something. A
//! broker that is away, slow or refuses reaches nothing but the spool. [`spool`] is what waits,
//! [`discovery`] what Home Assistant is told.

mod discovery;
mod spool;

use super::gallery::Gallery;
use crate::events::sinks::{Sink, json_line};
use crate::events::{Event, Events, FaultKind, PartEvent, Remedy, UpdateEvent, What, Why, clock_is_set};
use crate::regular;
use crate::settings::Publishing;
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Incoming, LastWill, MqttOptions, PublishOptions, QoS,
    StateError, TlsConfiguration, Transport,
};
use spool::Spool;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first pause before another try, and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Silence after which a broker counts as gone, in seconds; the broker's own measure of the line is
/// one and a half times as long.
const KEEP_ALIVE: u16 = 10;
/// Requests between the sink and the connection. More than are ever handed over at once.
const REQUESTS: usize = 64;
/// Most bytes of a message: a part's event with the longest names is a tenth of it, an image of 640
/// columns a quarter.
const MESSAGE: usize = 1 << 20;
/// Most bytes of a password, and of certificates.
const SECRET: u64 = 64 << 10;

/// What a message that was handed over is confirmed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirms {
    /// The oldest of the spool.
    Spooled,
    /// Something that is not kept.
    Nothing,
    /// That the line is off: nothing follows.
    Leave,
}

/// A connection that the broker accepted.
struct Link {
    client: Client,
    /// What its next confirmations are for.
    unconfirmed: VecDeque<Confirms>,
}

/// How a connection ended.
struct Ended {
    /// When the broker had accepted it.
    accepted: Option<Instant>,
    why: String,
    /// Whether the broker closed it, for no reason that it told.
    by_broker: bool,
}

/// What is known of the broker from one connection to the next.
struct Tries {
    /// Since when it takes nothing, where that was told.
    away: Option<Instant>,
    /// When that was told as a fault last.
    fault: Option<Instant>,
    /// Whether Home Assistant's starts are listened to.
    hears: bool,
}

/// A part or a fault on its way.
#[derive(Debug)]
struct Message {
    topic: &'static str,
    json: Vec<u8>,
}

/// What sink and connection share.
struct Waiting {
    spool: Spool<Message>,
    link: Option<Link>,
    /// The newest figures, the event of the run's start, and that of the newest bundle which a
    /// running line took over or went back to; empty bytes take the last run's out of the broker.
    state: Option<Vec<u8>>,
    start: Option<Vec<u8>>,
    update: Vec<u8>,
    /// The run is over.
    over: bool,
}

/// A line's side of the connection.
pub struct Mqtt {
    settings: Publishing,
    /// `tagpin/NAME`.
    base: String,
    transport: Transport,
    password: Option<String>,
    gallery: Option<Arc<Gallery>>,
    waiting: Mutex<Waiting>,
}

impl Mqtt {
    /// Reads password and certificates; why they cannot be read otherwise. `gallery`: where images
    /// of parts are, if they are wanted.
    pub fn open(settings: &Publishing, gallery: Option<Arc<Gallery>>) -> Result<Self, String> {
        let read = |key: &str, path: &std::path::Path| {
            let holds =
                if key == "password_file" { "the user's password at the broker" } else { "certificates in PEM form" };
            let told =
                |e| format!("[mqtt] {key}: {}: {e}; expected a file that tagpin can read, with {holds}", path.display());
            let bytes = regular::read(path, SECRET).map_err(told)?;
            if bytes.is_empty() { Err(format!("[mqtt] {key}: {}: it is empty", path.display())) } else { Ok(bytes) }
        };
        let password = settings.password_file.as_deref().map(|path| {
            let text = String::from_utf8(read("password_file", path)?);
            let text = text.map_err(|_| format!("[mqtt] password_file: {}: it is no UTF-8", path.display()))?;
            Ok::<_, String>(text.trim_end_matches(['\r', '\n']).to_owned())
        });
        let transport = match (settings.tls, settings.ca_file.as_deref()) {
            (false, _) => Transport::tcp(),
            (true, Some(path)) => {
                let ca = read("ca_file", path)?;
                if !String::from_utf8_lossy(&ca).contains("-----BEGIN CERTIFICATE-----") {
                    return Err(format!("[mqtt] ca_file: {}: no certificate in PEM form in it", path.display()));
                }
                Transport::tls_with_config(TlsConfiguration::Simple { ca, alpn: None, client_auth: None })
            }
            (true, None) => {
                let tls = TlsConfiguration::try_default_rustls();
                Transport::tls_with_config(
                    tls.map_err(|e| format!("[mqtt] tls: the system's certificates: {e}; state ca_file"))?,
                )
            }
        };
        let waiting = Waiting {
            spool: Spool::new(settings.spool),
            link: None,
            state: None,
            start: None,
            update: Vec::new(),
            over: false,
        };
        Ok(Self {
            settings: settings.clone(),
            base: format!("tagpin/{}", settings.name),
            transport,
            password: password.transpose()?,
            gallery,
            waiting: Mutex::new(waiting),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked left whole messages.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(format!("tagpin-{}", settings.name), (settings.host.as_str(), settings.port));
        options.set_keep_alive(KEEP_ALIVE).set_transport(self.transport.clone()).set_clean_session(true);
        options.set_max_packet_size(MESSAGE, MESSAGE);
        options.set_last_will(LastWill::new(self.topic("availability"), "offline", QoS::AtLeastOnce, true));
        if let Some(user) = &settings.user {
            options.set_credentials(user.clone(), self.password.clone().unwrap_or_default());
        }
        options
    }

    fn topic(&self, last: &str) -> String {
        format!("{}/{last}", self.base)
    }

    /// Publishes what is not kept; `false` where the connection takes nothing.
    fn tell(&self, link: &mut Link, topic: String, bytes: Vec<u8>, how: PublishOptions, confirms: Option<Confirms>) -> bool {
        let told = link.client.try_publish(topic, bytes, how).is_ok();
        if told {
            link.unconfirmed.extend(confirms);
        }
        told
    }

    /// Hands over what the broker may take now.
    fn hand_over(&self, waiting: &mut Waiting) {
        let Waiting { spool, link: Some(link), .. } = waiting else { return };
        while let Some(message) = spool.next() {
            let how = PublishOptions::new(QoS::AtLeastOnce);
            if !self.tell(link, self.topic(message.topic), message.json.clone(), how, Some(Confirms::Spooled)) {
                return;
            }
            spool.hand_over();
        }
    }

    /// What the broker keeps for those who come later.
    fn introduce(&self, waiting: &mut Waiting) {
        let Waiting { link: Some(link), state, start, update, .. } = waiting else { return };
        let kept = || PublishOptions::new(QoS::AtLeastOnce).retained();
        if !self.settings.discovery.is_empty() {
            let config = discovery::config(&self.settings.name, &self.base, env!("CARGO_PKG_VERSION"));
            let topic = discovery::topic(&self.settings.discovery, &self.settings.name);
            self.tell(link, topic, config, kept(), Some(Confirms::Nothing));
        }
        self.tell(link, self.topic("availability"), b"online".to_vec(), kept(), Some(Confirms::Nothing));
        for (last, event) in [("start", start.as_ref()), ("update", Some(&*update)), ("state", state.as_ref())] {
            if let Some(event) = event {
                self.tell(link, self.topic(last), event.clone(), kept(), Some(Confirms::Nothing));
            }
        }
    }

    /// Ends the connection, once the run is over and the broker has everything, that the line is off
    /// too: ended without it, the broker has no last will to tell. `confirmed`: what it has now.
    fn leave(&self, waiting: &mut Waiting, confirmed: Option<Confirms>) {
        let Waiting { spool, link: Some(link), over: true, .. } = waiting else { return };
        if confirmed == Some(Confirms::Leave) {
            // Refused, the broker has the last will.
            let _ = link.client.try_disconnect();
            waiting.link = None;
        } else if spool.len() == 0 && !link.unconfirmed.contains(&Confirms::Leave) {
            let how = PublishOptions::new(QoS::AtLeastOnce).retained();
            self.tell(link, self.topic("availability"), b"offline".to_vec(), how, Some(Confirms::Leave));
        }
    }

    /// Drives the connection until `stop`, again and again.
    pub fn drive(&self, events: &Arc<Events>, stop: &AtomicBool) {
        let mut tries = Tries { away: None, fault: None, hears: !self.settings.discovery.is_empty() };
        let mut back_off = BACK_OFF[0];
        while !stop.load(Ordering::Acquire) {
            if self.settings.tls && !clock_is_set() {
                if tries.away.is_none() {
                    tries.away = Some(Instant::now());
                    events.note(&"mqtt: the system's clock is not set, so no certificate can be judged; waiting for it");
                }
                pause(BACK_OFF[0], stop);
                continue;
            }
            let (client, mut connection) = Client::builder(self.options()).capacity(REQUESTS).build();
            let Ended { accepted, why, by_broker } = self.converse(client, &mut connection, events, &mut tries);
            let mut waiting = self.waiting();
            waiting.link = None;
            waiting.spool.disconnect();
            let waits = waiting.spool.len();
            if waiting.over || stop.load(Ordering::Acquire) {
                drop(waiting);
                if waits > 0 {
                    let place = self.settings.place();
                    events.note(&format_args!(
                        "mqtt: the run is over, and {waits} messages that the broker {place} did not confirm are lost"
                    ));
                }
                return;
            }
            drop(waiting);
            // A broker that takes connections only to end them is as good as one that is away.
            let stood = accepted.is_some_and(|at| at.elapsed() >= BACK_OFF[1]);
            back_off = if stood { BACK_OFF[0] } else { back_off };
            if tries.away.is_none() && tries.fault.is_none_or(|at| at.elapsed() >= BACK_OFF[1]) {
                (tries.away, tries.fault) = (Some(Instant::now()), Some(Instant::now()));
                let hint = match accepted {
                    Some(_) if !stood && by_broker => format!(
                        "; where it does so again and again, another client is called tagpin-{}: state a name of its own under \
                         [mqtt]",
                        self.settings.name
                    ),
                    _ => String::new(),
                };
                let why = format!(
                    "mqtt: no connection to the broker {}: {why}{hint}; {waits} messages wait, at most {} do; it is tried again",
                    self.settings.place(),
                    self.settings.spool
                );
                events.fault(FaultKind::Sink, None, Remedy::Told, Why::of(&why));
            }
            pause(back_off, stop);
            back_off = (back_off * 2).min(BACK_OFF[1]);
        }
    }

    /// One connection from its beginning to its end.
    fn converse(&self, client: Client, connection: &mut Connection, events: &Arc<Events>, tries: &mut Tries) -> Ended {
        let mut client = Some(client);
        let mut accepted = None;
        for event in connection.iter() {
            let packet = match event {
                Ok(rumqttc::Event::Incoming(packet)) => packet,
                Ok(rumqttc::Event::Outgoing(_)) => continue,
                Err(e) => {
                    if let Some(bytes) = too_large(&e) {
                        // It is kept there, and would end each connection.
                        tries.hears = false;
                        return Ended { accepted, why: self.deaf(bytes), by_broker: false };
                    }
                    return Ended { accepted, why: in_words(&e), by_broker: is_closed(&e) };
                }
            };
            let mut waiting = self.waiting();
            match packet {
                Incoming::ConnAck(_) => {
                    let Some(client) = client.take() else { continue };
                    if tries.hears {
                        // Not heard, it is asked again with the next connection.
                        let _ = client.try_subscribe(self.births(), QoS::AtMostOnce);
                    }
                    accepted = Some(Instant::now());
                    waiting.link = Some(Link { client, unconfirmed: VecDeque::new() });
                    self.introduce(&mut waiting);
                    self.hand_over(&mut waiting);
                }
                Incoming::PubAck(_) => {
                    if let Some(since) = tries.away.take() {
                        let (place, waits) = (self.settings.place(), waiting.spool.len());
                        let away = since.elapsed().as_secs_f64();
                        events.note(&format_args!("mqtt: connected to {place} after {away:.1} s; {waits} messages waited"));
                    }
                    let confirms = waiting.link.as_mut().and_then(|link| link.unconfirmed.pop_front());
                    if confirms == Some(Confirms::Spooled) {
                        waiting.spool.confirm();
                    }
                    self.hand_over(&mut waiting);
                    self.leave(&mut waiting, confirms);
                }
                // Home Assistant was started again and has forgotten what is not kept.
                Incoming::Publish(message) if message.payload.as_ref() == b"online" => self.introduce(&mut waiting),
                _ => {}
            }
        }
        Ended { accepted, why: "the connection was closed".into(), by_broker: true }
    }

    /// The topic in which Home Assistant tells that it was started.
    fn births(&self) -> String {
        format!("{}/status", self.settings.discovery)
    }

    /// That nothing of the one topic is heard any more that the line listens to.
    fn deaf(&self, bytes: usize) -> String {
        format!(
            "a message of {bytes} bytes lies in {}, at most {MESSAGE} are taken: it is not listened to in this run any more, so a \
             start of Home Assistant is not seen; empty that topic",
            self.births()
        )
    }

    fn image(&self, events: &Events, part: &PartEvent) {
        let Some(gallery) = &self.gallery else { return };
        if !part.action.is_some_and(|action| self.settings.snapshots.contains(&action)) || self.waiting().link.is_none() {
            return;
        }
        match gallery.of(part.part) {
            Some(Ok(shown)) => {
                if let Some(link) = &mut self.waiting().link {
                    let how = PublishOptions::new(QoS::AtMostOnce);
                    // An image that does not get through is followed by the next part's.
                    self.tell(link, self.topic("snapshot"), shown.jpeg, how, None);
                }
            }
            Some(Err(e)) => events.note(&format_args!("mqtt: no image of part {}: {e}", part.part)),
            // It had none, or the line has gone on.
            None => {}
        }
    }
}

/// The bytes of a message that came and is larger than any that is taken.
fn too_large(e: &ConnectionError) -> Option<usize> {
    match e {
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(n))) => Some(*n),
        _ => None,
    }
}

/// Whether the broker closed a connection in order.
fn is_closed(e: &ConnectionError) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, UnexpectedEof};
    let closed = |e: &std::io::Error| matches!(e.kind(), ConnectionAborted | UnexpectedEof);
    match e {
        ConnectionError::Io(e) => closed(e),
        ConnectionError::MqttState(StateError::Io(e)) => closed(e),
        ConnectionError::MqttState(StateError::ConnectionAborted) => true,
        _ => false,
    }
}

/// Why there is no connection, and what to do where that is known.
fn in_words(e: &ConnectionError) -> String {
    match e {
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized) => {
            "it refuses this user and password; look at user and password_file".into()
        }
        ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) => {
            "it says that it cannot serve now".into()
        }
        ConnectionError::ConnectionRefused(code) => format!("it refuses the connection ({code:?})"),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "it does not answer".into(),
        ConnectionError::Io(e) => e.to_string(),
        e => e.to_string(),
    }
}

/// Whether something listens where the broker should be.
pub fn probe(settings: &Publishing) -> Result<(), String> {
    use std::net::{TcpStream, ToSocketAddrs};
    let place = settings.place();
    let told = |e: std::io::Error| format!("{place}: {e}; a run goes on without its broker and tries again");
    let mut found = (settings.host.as_str(), settings.port).to_socket_addrs().map_err(told)?;
    let address = found.next().ok_or_else(|| format!("{place}: no address of that name"))?;
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).map(drop).map_err(told)
}

/// Waits, but not beyond `stop`.
fn pause(span: Duration, stop: &AtomicBool) {
    let end = Instant::now() + span;
    while Instant::now() < end && !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the broker is told.
pub fn wants(what: &What) -> bool {
    let is_taken = |update: &UpdateEvent| update.from_part.is_some();
    matches!(what, What::Start | What::Part(_) | What::Fault(_) | What::Status(_) | What::Summary)
        || matches!(what, What::Update(update) if is_taken(update))
}

/// The sink that fills the spool.
pub struct Publisher {
    mqtt: Arc<Mqtt>,
    line: Vec<u8>,
}

impl Publisher {
    /// A sink of `mqtt`.
    pub fn new(mqtt: Arc<Mqtt>) -> Self {
        Self { mqtt, line: Vec::new() }
    }
}

impl Sink for Publisher {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        crate::supervisor::lowest_priority();
        let mqtt = &*self.mqtt;
        json_line(&mut self.line, events, event)?;
        let json = self.line.trim_ascii_end().to_vec();
        let topic = match &event.what {
            What::Part(_) => "part",
            What::Fault(_) => "fault",
            What::Start | What::Update(_) => {
                let is_start = matches!(event.what, What::Start);
                let mut waiting = mqtt.waiting();
                // The broker may have answered before the start was written.
                if let Some(link) = &mut waiting.link {
                    let how = PublishOptions::new(QoS::AtLeastOnce).retained();
                    let topic = mqtt.topic(if is_start { "start" } else { "update" });
                    mqtt.tell(link, topic, json.clone(), how, Some(Confirms::Nothing));
                }
                if is_start {
                    waiting.start = Some(json);
                } else {
                    waiting.update = json;
                }
                return Ok(());
            }
            _ => {
                let mut waiting = mqtt.waiting();
                waiting.over = matches!(event.what, What::Summary);
                // Nothing follows the summary in which a lost one would be made good.
                let how = if waiting.over { (QoS::AtLeastOnce, Some(Confirms::Nothing)) } else { (QoS::AtMostOnce, None) };
                if let Some(link) = &mut waiting.link {
                    mqtt.tell(link, mqtt.topic("state"), json.clone(), PublishOptions::new(how.0).retained(), how.1);
                }
                mqtt.leave(&mut waiting, None);
                waiting.state = Some(json);
                return Ok(());
            }
        };
        let mut waiting = mqtt.waiting();
        let kept = waiting.spool.keep(Message { topic, json });
        mqtt.hand_over(&mut waiting);
        let waits = waiting.spool.len();
        drop(waiting);
        if let What::Part(part) = &event.what {
            mqtt.image(events, part);
        }
        kept.map_err(|_| {
            let place = mqtt.settings.place();
            std::io::Error::other(format!("the broker {place} takes nothing, and {waits} messages wait already"))
        })
    }

    /// Until half of the spool is free: what is told each second needs no room, and a slow broker
    /// frees a place now and then.
    fn is_stuck(&self) -> bool {
        self.mqtt.waiting().spool.len() * 2 > self.mqtt.settings.spool
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Update;
    use crate::simulate::SimulatedClock;

    /// Where the broker had answered before the run's start was written, whoever came later was not
    /// told what the line runs, until the connection was lost.
    #[test]
    fn the_start_of_a_run_is_kept_by_the_broker_whichever_comes_first() {
        let settings = Publishing {
            host: "127.0.0.1".into(),
            port: 1883,
            user: None,
            password_file: None,
            tls: false,
            ca_file: None,
            name: "north".into(),
            discovery: String::new(),
            snapshots: Vec::new(),
            spool: 10,
        };
        for connects_first in [true, false] {
            let mqtt = Arc::new(Mqtt::open(&settings, None).unwrap());
            // Nobody drives it: what is told waits in it.
            let (client, _connection) = Client::builder(mqtt.options()).capacity(REQUESTS).build();
            let link = || Some(Link { client: client.clone(), unconfirmed: VecDeque::new() });
            if connects_first {
                mqtt.waiting().link = link();
                mqtt.introduce(&mut mqtt.waiting());
            }
            let events = Events::kept(Arc::new(SimulatedClock::default()));
            events.tell(What::Start);
            let mut all = Vec::new();
            events.take_all(&mut all);
            all.iter().for_each(|event| Publisher::new(mqtt.clone()).write(&events, event).unwrap());
            if !connects_first {
                mqtt.waiting().link = link();
                mqtt.introduce(&mut mqtt.waiting());
            }
            let waiting = mqtt.waiting();
            let told = waiting.link.as_ref().map(|link| link.unconfirmed.len());
            assert_eq!((told, waiting.start.is_some()), (Some(3), true), "availability, start, no update: {connects_first}");
            drop(waiting);
            // What a running line took over is kept beside what it began with, and what it refused
            // is not.
            let update = |outcome, from_part| {
                let (before, running) = ([1; 32], [2; 32]);
                What::Update(UpdateEvent { outcome, bundle: Some(running), before, running, from_part, why: Why::NONE })
            };
            for what in [update(Update::TakenOver, Some(4)), update(Update::Refused, None)] {
                assert_eq!(wants(&what), matches!(&what, What::Update(u) if u.outcome == Update::TakenOver));
                events.tell(what);
            }
            events.take_all(&mut all);
            let wanted = all.drain(..).filter(|event| wants(&event.what) && matches!(event.what, What::Update(_)));
            wanted.for_each(|event| Publisher::new(mqtt.clone()).write(&events, &event).unwrap());
            let kept = String::from_utf8(mqtt.waiting().update.clone()).unwrap();
            assert!(kept.contains("\"outcome\":\"taken_over\"") && kept.contains("\"from_part\":4"), "{kept}");
        }
    }
}
