//! What other machines of a site may see and ask: [page], [predict], [metrics], [modbus]; [state],
//! the folder that they may write to, [keep], images of parts on disk, and [recipes]. Nothing
//! listens without its table; [page] alone listens without `listen`, on loopback.

use super::reader::Table;
use super::{LineMode, OutputSettings};
use crate::keys::{KeyHash, Keys};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where a server listens, and who may ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its table in device.toml.
    pub table: &'static str,
    /// Address and port.
    pub at: SocketAddr,
    /// Hashes of the keys; none opens it to everybody who can reach it, which is this machine
    /// alone.
    pub keys: Keys,
    /// Names, besides addresses and `localhost`, that clients without a key may know it by.
    pub hosts: Vec<String>,
}

/// The prediction endpoint of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicting {
    /// Where, and who may ask.
    pub listening: Listening,
    /// Most bytes of an uploaded image.
    pub image_bytes: usize,
    /// Requests that wait, at most.
    pub queue: usize,
}

/// Registers for a PLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// Address and port.
    pub at: SocketAddr,
    /// Results that wait at most, where the PLC buffers them.
    pub results: usize,
    /// Peers that may write; none where nobody may.
    pub writers: Vec<IpAddr>,
}

/// What other machines may see and ask, and where the answers of people are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The prediction endpoint.
    pub predict: Option<Predicting>,
    /// Figures for Prometheus.
    pub metrics: Option<Listening>,
    /// Registers for a PLC.
    pub modbus: Option<Polling>,
    /// A broker that is told what the line does.
    pub mqtt: Option<super::Publishing>,
    /// Images of parts that are kept.
    pub keep: Option<super::Keeping>,
    /// The page: everybody who reaches it may look, and its keys open changes.
    pub page: Option<Listening>,
    /// Folder of what people change while the line runs; without it nothing can be changed.
    pub state: Option<PathBuf>,
    /// What they changed, where that was put on top.
    pub overrides: Option<super::Overrides>,
    /// Recipes, in the order of the file.
    pub recipes: Vec<super::Recipe>,
    /// The one that these settings are of.
    pub recipe: Option<String>,
}

impl Site {
    /// Everything that listens: its table, its address, and who may ask.
    pub fn listening(&self) -> impl Iterator<Item = (&'static str, SocketAddr, &'static str)> {
        let http = self.predict.iter().map(|p| &p.listening).chain(&self.metrics);
        let http = http.map(|l| (l.table, l.at, if l.keys.is_open() { "no key needed" } else { "with a key" }));
        let who = |p: &Polling| if p.writers.is_empty() { "read only" } else { "with writers" };
        let looks = |l: &Listening| if l.keys.is_open() { "read only" } else { "changes with a key" };
        let page = self.page.iter().map(move |l| (l.table, l.at, looks(l)));
        http.chain(page).chain(self.modbus.iter().map(move |p| ("modbus", p.at, who(p))))
    }
}

/// Reads the tables of this file. `mode`: what outputs follow; `outputs`: the file's.
pub(super) fn site(root: &mut Table<'_>, mode: LineMode, outputs: &[OutputSettings]) -> Site {
    let mut t = root.table("predict");
    let in_gate_mode = t.choice("in_gate_mode", &[("no", false), ("yes", true)]);
    let image_bytes = (t.integer("image_mb", 4, 1..=256) as usize) << 20;
    let queue = t.integer("queue", 8, 0..=1024) as usize;
    let predict = listening(&mut t, "predict").map(|listening| Predicting { listening, image_bytes, queue });
    if predict.is_some() && mode != LineMode::State && !in_gate_mode {
        let why =
            "in gate mode predictions take time that the line may need; state in_gate_mode = \"yes\", or remove [predict]";
        t.problem("listen", why.into());
    }
    let mut t = root.table("metrics");
    let metrics = listening(&mut t, "metrics");
    drop(t);
    let modbus = modbus(&mut root.table("modbus"));
    let mqtt = super::mqtt::mqtt(&mut root.table("mqtt"));
    let keep = super::keep::keep(&mut root.table("keep"));
    let page = page(&mut root.table("page"));
    let mut t = root.table("state");
    let state = folder(&mut t);
    drop(t);
    let recipes = super::recipes::recipes(root, outputs, state.is_some());
    let site = Site { predict, metrics, modbus, mqtt, keep, page, state, overrides: None, recipes, recipe: None };
    let all: Vec<_> = site.listening().collect();
    for (i, (table, at, _)) in all.iter().enumerate() {
        if let Some((other, taken, _)) = all[..i].iter().find(|(_, taken, _)| meet(*taken, *at)) {
            let mut t = root.table(table);
            t.allow_all();
            t.problem("listen", format!("{at}, where [{other}] listens already ({taken}); choose another port"));
        }
    }
    site
}

/// Whether of two sockets only one can listen: an address that stands for all holds every other.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let holds = |all: IpAddr, one: IpAddr| match all.is_unspecified() {
        true => all.is_ipv6() || one.is_ipv4(),
        false => all.to_canonical() == one.to_canonical(),
    };
    a.port() == b.port() && a.port() != 0 && (holds(a.ip(), b.ip()) || holds(b.ip(), a.ip()))
}

/// `folder`; none where it is not stated, or empty.
pub(super) fn folder(t: &mut Table<'_>) -> Option<PathBuf> {
    let folder = t.is_on_by("folder").then(|| PathBuf::from(t.text("folder", "")))?;
    if !folder.as_os_str().is_empty() {
        return Some(folder);
    }
    if !t.is_wrong("folder") {
        t.problem("folder", "the path is empty; expected a folder, name one".into());
    }
    None
}

fn modbus(t: &mut Table<'_>) -> Option<Polling> {
    let results = t.integer("results", 8, 1..=64) as usize;
    let write = t.choice("write", &[("no", false), ("yes", true)]);
    let mut writers = Vec::new();
    for (text, at) in t.texts("allow") {
        match text.parse::<IpAddr>() {
            Ok(peer) if peer.is_unspecified() => {
                t.problem_at(at, format!("allow: \"{text}\" is no peer's address; name each peer that may write"));
            }
            Ok(peer) => writers.push(peer),
            Err(_) => t.problem_at(at, format!("allow: \"{text}\", expected the address of a peer, without a port")),
        }
    }
    if write && writers.is_empty() {
        t.problem("write", "\"yes\", but nobody may; state allow = [\"ADDRESS\"]".into());
    }
    let at = address(t)?;
    Some(Polling { at, results, writers: if write { writers } else { Vec::new() } })
}

/// The page listens on loopback where its table states no address.
fn page(t: &mut Table<'_>) -> Option<Listening> {
    let is_default = t.is_written() && !t.has("listen");
    let at = if is_default { Some(SocketAddr::from(PAGE)) } else { address(t) };
    listening_at(t, "page", at)
}

/// Where the page listens unless it is stated.
const PAGE: ([u8; 4], u16) = ([127, 0, 0, 1], 8000);

/// `listen`; none where it is not stated, or wrong.
fn address(t: &mut Table<'_>) -> Option<SocketAddr> {
    if !t.is_on_by("listen") {
        return None;
    }
    let text = t.text("listen", "");
    let at = text.parse::<SocketAddr>().ok();
    if at.is_none() && !t.is_wrong("listen") {
        t.problem("listen", format!("\"{text}\", expected an address and a port, for example \"127.0.0.1:8080\""));
    }
    at
}

/// `listen`, `keys` and `hosts`.
fn listening(t: &mut Table<'_>, table: &'static str) -> Option<Listening> {
    let at = address(t);
    listening_at(t, table, at)
}

/// `keys` and `hosts` of a server at `at`.
fn listening_at(t: &mut Table<'_>, table: &'static str, at: Option<SocketAddr>) -> Option<Listening> {
    let mut hosts = Vec::new();
    for (host, at) in t.texts("hosts") {
        // What a browser shows before the path, without the port.
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/:*@".contains(c)) {
            let why = format!("hosts: \"{}\", expected a name alone, for example \"sorter\"", host.escape_debug());
            t.problem_at(at, why);
        }
        hosts.push(host);
    }
    let (mut keys, mut all_right) = (Vec::new(), true);
    for (hash, at) in t.texts("keys") {
        match hash.parse::<KeyHash>() {
            Ok(hash) => keys.push(hash),
            Err(e) => {
                all_right = false;
                t.problem_at(at, format!("keys: {e}"));
            }
        }
    }
    let at = at?;
    if keys.is_empty() && all_right && !at.ip().is_loopback() {
        let why = "other machines reach this address, so it needs keys = [\"sha256:...\"]; `tagpin key new` draws one";
        t.problem("listen", why.into());
    }
    Some(Listening { table, at, keys: Keys(keys), hosts })
}
