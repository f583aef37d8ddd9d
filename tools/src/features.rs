//! Features of images by a frozen backbone, in f32 or in int8, computed once per file.
//!
//! They are cached by file hash, backbone and size, and for changed copies also by the change. A
//! changed file or backbone has another key.

use crate::data::{self, Entry, hex_hash, read_listed};
use crate::graph::{self, Graph, Node, Op, Runner};
use crate::head;
use crate::predict::{self, Int8};
use crate::progress::{Interrupt, Interrupted};
use crate::run_folder;
use crate::train::augment::Augment;
use anyhow::Result;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tagpin::bundle::Fit;
use tagpin::preprocess::Preprocessor;
use tagpin::random::Random;

/// A file's hash and features; `None` once the user asked to stop.
type Made = Option<(String, Vec<f32>)>;

/// A backbone in one of its forms.
pub enum Network<'a> {
    /// In f32.
    Float(&'a Graph),
    /// Its quantised form, and the graph that was quantised.
    Int8(&'a [u8], &'a Graph),
}

/// Gives one image's features.
type Extract<'a> = Box<dyn FnMut(&[u8]) -> Result<Vec<f32>> + 'a>;

impl<'a> Network<'a> {
    fn graph(&self) -> &'a Graph {
        match self {
            Self::Float(graph) | Self::Int8(_, graph) => graph,
        }
    }

    fn onnx(&self) -> Result<Cow<'a, [u8]>> {
        Ok(match self {
            Self::Float(graph) => graph::write(graph, None)?.into(),
            Self::Int8(onnx, _) => (*onnx).into(),
        })
    }
}

/// A network that was loaded, for all threads.
enum Loaded {
    Float(Runner),
    Int8(Box<Int8>),
}

impl Loaded {
    fn of(network: &Network<'_>) -> Result<Self> {
        Ok(match network {
            Network::Float(graph) => Self::Float(Runner::whole(graph)?),
            Network::Int8(onnx, graph) => Self::Int8(Box::new(Int8::load(onnx, graph.normalise)?)),
        })
    }

    /// For one thread.
    fn extract(&self) -> Extract<'_> {
        match self {
            Self::Float(runner) => Box::new(|rgb| Ok(runner.run(rgb)?.swap_remove(0))),
            Self::Int8(int8) => {
                let mut int8 = int8.clone();
                Box::new(move |rgb| Ok(predict::real_one(&int8.logits(rgb)?)))
            }
        }
    }
}

/// Cached features of one network at one size.
struct Cache {
    path: PathBuf,
    known: HashMap<String, Vec<f32>>,
}

/// Most bytes of cached features over all networks; the oldest are deleted first.
const KEPT: u64 = 2 << 30;

impl Cache {
    fn of(network: &Network<'_>, fit: Fit) -> Result<Self> {
        let (onnx, side) = (network.onnx()?, network.graph().side);
        let key = hex_hash(format!("features-1 {} {side} {fit:?}", hex_hash(&onnx)).as_bytes());
        let path = run_folder::cache().join(format!("features-{}.bin", &key[..16]));
        let known = Self::read(&path);
        Ok(Self { path, known })
    }

    fn read(path: &Path) -> HashMap<String, Vec<f32>> {
        std::fs::read(path).ok().and_then(|b| postcard::from_bytes(&b).ok()).unwrap_or_default()
    }

    /// Adds new features to the cache, together with what another command added meanwhile.
    fn keep(&mut self, made: impl Iterator<Item = (String, Vec<f32>)>) -> Result<()> {
        self.known.extend(made);
        std::fs::create_dir_all(run_folder::cache())?;
        let lock = std::fs::File::create(run_folder::cache().join("features.lock"))?;
        lock.lock()?;
        let mut all = Self::read(&self.path);
        all.extend(self.known.iter().map(|(hash, features)| (hash.clone(), features.clone())));
        let sorted: BTreeMap<String, Vec<f32>> = all.into_iter().collect();
        run_folder::write_file(&self.path, &postcard::to_stdvec(&sorted)?)?;
        self.forget_old()
    }

    fn forget_old(&self) -> Result<()> {
        let mut files = Vec::new();
        for file in std::fs::read_dir(run_folder::cache())? {
            let file = file?;
            let (name, about) = (file.file_name(), file.metadata()?);
            if name.to_string_lossy().starts_with("features-") && file.path() != self.path {
                files.push((about.modified()?, about.len(), file.path()));
            }
        }
        files.sort();
        let mut all: u64 = std::fs::metadata(&self.path)?.len() + files.iter().map(|f| f.1).sum::<u64>();
        for (_, bytes, path) in files {
            if all <= KEPT {
                break;
            }
            std::fs::remove_file(path)?;
            all -= bytes;
        }
        Ok(())
    }
}

/// Logits of `entries` by a graph that ends in a matrix on cached features; `None` if it ends
/// otherwise, or if not all features are cached.
pub fn logits(entries: &[Entry], graph: &Graph, fit: Fit) -> Result<Option<Vec<Vec<f32>>>> {
    let Some(Node { op: Op::Linear(head), .. }) = graph.nodes.last() else { return Ok(None) };
    let cache = Cache::of(&Network::Float(&graph.clone().headless()), fit)?;
    Ok(entries.iter().map(|e| cache.known.get(&e.sha256).map(|f| head::apply(head, f))).collect())
}

/// Changed copies of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copies {
    /// How they are changed.
    pub augment: Augment,
    /// Of the changes.
    pub seed: u64,
    /// How many of each image.
    pub each: usize,
}

/// An image as the network gets it: as it is, or a copy of it by its number.
struct Wanted<'a> {
    entry: &'a Entry,
    copy: Option<(&'a Copies, usize)>,
    /// Key of its features in the cache.
    key: String,
}

impl<'a> Wanted<'a> {
    fn copy(entry: &'a Entry, copies: &'a Copies, number: usize) -> Self {
        let change = hex_hash(format!("{:?} {}", copies.augment, copies.seed).as_bytes());
        Self { entry, copy: Some((copies, number)), key: format!("{} {} {number}", entry.sha256, &change[..16]) }
    }

    /// Applies the change to `rgb`, `[side, side, 3]`. It does not depend on the image's position
    /// in the list.
    fn changed(&self, rgb: Vec<u8>, side: usize) -> Vec<u8> {
        let Some((copies, number)) = self.copy else { return rgb };
        let image = u64::from_str_radix(&self.entry.sha256[..16], 16).unwrap_or_default();
        copies.augment.apply(&rgb, side, &mut Random::new(copies.seed ^ image, number as u64))
    }
}

/// Features of `entries`, `[entries][outputs of the network]`, and how many had to be computed.
pub fn of(root: &Path, entries: &[Entry], network: &Network<'_>, fit: Fit) -> Result<(Vec<Vec<f32>>, usize)> {
    let wanted = entries.iter().map(|entry| Wanted { entry, copy: None, key: entry.sha256.clone() }).collect();
    known_or_made(root, wanted, network, fit)
}

/// Features of changed copies of `entries`, `[entries][copies.each][outputs of the network]`.
pub fn of_copies(
    root: &Path,
    entries: &[Entry],
    network: &Network<'_>,
    fit: Fit,
    copies: &Copies,
) -> Result<Vec<Vec<Vec<f32>>>> {
    if copies.each == 0 {
        return Ok(vec![Vec::new(); entries.len()]);
    }
    let of_one = |entry| (0..copies.each).map(move |number| Wanted::copy(entry, copies, number));
    let (features, _) = known_or_made(root, entries.iter().flat_map(of_one).collect(), network, fit)?;
    let mut features = features.into_iter();
    Ok(entries.iter().map(|_| features.by_ref().take(copies.each).collect()).collect())
}

fn known_or_made(root: &Path, wanted: Vec<Wanted<'_>>, network: &Network<'_>, fit: Fit) -> Result<(Vec<Vec<f32>>, usize)> {
    let side = network.graph().side;
    let target = data::target(side, fit)?;
    let mut cache = Cache::of(network, fit)?;
    let missing: Vec<&Wanted<'_>> = wanted.iter().filter(|w| !cache.known.contains_key(&w.key)).collect();
    if !missing.is_empty() {
        let interrupt = Interrupt::listen()?;
        let loaded = Loaded::of(network)?;
        let what = if let Network::Float(_) = network { "features" } else { "int8 features" };
        let bar = crate::progress::bar(what, missing.len() as u64);
        let done = AtomicUsize::new(0);
        let made: Vec<Result<Made>> = missing
            .par_iter()
            .map_init(
                || (Preprocessor::new(target), loaded.extract()),
                |(preprocessor, extract), w| {
                    if interrupt.stopped() {
                        return Ok(None);
                    }
                    let name = || root.join(&w.entry.path).display().to_string();
                    let rgb = read_listed(root, w.entry).and_then(|b| data::rgb_of(&b, preprocessor));
                    let values = extract(&w.changed(rgb.map_err(|e| e.context(name()))?, side))?;
                    bar.inc(1);
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(Some((w.key.clone(), values)))
                },
            )
            .collect();
        bar.finish_and_clear();
        let made: Vec<Made> = made.into_iter().collect::<Result<_>>()?;
        let kept = cache.keep(made.into_iter().flatten());
        if interrupt.stopped() {
            return Err(Interrupted(match kept {
                Ok(()) => {
                    let n = done.into_inner();
                    format!("interrupted; {n} images' features are kept, the same command goes on from there")
                }
                Err(e) => format!("interrupted; nothing is kept: {e:#}"),
            })
            .into());
        }
        // It is only a cache: if it cannot be written, the next command takes longer.
        if let Err(e) = kept {
            eprintln!("warning: features are not kept for the next time: {e:#}");
        }
    }
    Ok((wanted.iter().map(|w| cache.known[&w.key].clone()).collect(), missing.len()))
}
