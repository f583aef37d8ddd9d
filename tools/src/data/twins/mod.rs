//! Twins: images that show the same part again, lighter or darker, turned a little, mirrored,
//! blurred, moved.
//!
//! Candidates are each image's nearest neighbours by a coarse plane, in ten forms (turned and
//! mirrored); each candidate is then judged by the likeness of 64x64 planes ([`plane`]). Images
//! before one background are compared by what differs from it ([`scene`]). The bound is set per
//! dataset: random pairs, nearly all of different parts, are measured, and the bound lies above
//! them. Pairs just below it are *doubtful*: reported, but not joined.
//!
//! Pairs are joined to *clusters* only where at least half of the pairs across are alike, and a
//! cluster may hold at most a quarter of the images: a chain of pairs is not one part.

pub mod plane;
pub mod scene;

use super::survey::Look;
use super::{Dataset, Entry, hex_hash};
use crate::run_folder;
use plane::{Coarse, Detail, FORMS, Lay, Plane, form, likeness, product};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tagpin::random::Random;

/// Two images that show the same part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Index of the first.
    pub a: usize,
    /// Index of the second, larger.
    pub b: usize,
    /// The same bytes.
    pub exact: bool,
    /// Likeness, up to 1.
    pub likeness: f32,
}

/// How alike two images must be to count as twins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// By the set: above what pairs of different parts reach.
    #[default]
    Measured,
    /// From this likeness on.
    Stated(f32),
    /// The same bytes only.
    Exact,
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Measured),
            "exact" => Ok(Self::Exact),
            _ => match text.parse() {
                Ok(at) if (0.1..=1.0).contains(&at) => Ok(Self::Stated(at)),
                _ => Err("expected auto, exact, or a likeness between 0.1 and 1".into()),
            },
        }
    }
}

/// Twins of a set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Twins {
    /// `[images]`: index of the first image in each image's cluster.
    pub clusters: Vec<usize>,
    /// Pairs within clusters.
    pub pairs: Vec<Pair>,
    /// Pairs that may be twins and were not joined.
    pub doubtful: Vec<Pair>,
    /// Images of each scene that several parts share.
    pub scenes: Vec<usize>,
    /// The bounds that were used: outside scenes, then of each scene.
    pub bounds: Vec<f32>,
}

/// Share of pixels that are neither black nor white, below which two images are compared as if
/// clipped alike.
const MOSTLY_KNOWN: f32 = 0.6;
/// Least likeness of two marks that are the same mark, not neighbours.
const SAME_MARK: f32 = 0.85;
/// Candidates per image, among the images after it.
const NEAREST: usize = 12;
/// Coarse likeness below which no pair is a candidate.
const LEAST_COARSE: f32 = 0.35;
/// Least bound outside scenes, where whole images are compared; then within a scene, where the
/// background was taken out.
const LEAST: f32 = 0.66;
const LEAST_IN_SCENE: f32 = 0.4;
/// Largest bound. In a small set the random pairs may be twins; they must not raise the bound above
/// the likeness of twins.
const MOST: f32 = 0.8;
/// How far below the bound a pair is doubtful.
const DOUBTFUL: f32 = 0.1;
/// Pairs drawn at random that say how alike different parts are.
const DRAWN: usize = 300;
/// A cluster holds at most 1 / `LARGEST_SHARE` of the images, but may always hold [`ALWAYS`].
const LARGEST_SHARE: usize = 4;
const ALWAYS: usize = 8;

/// The twins of a dataset, found or as they were found before. `looks`: of each entry.
pub fn of(dataset: &Dataset, looks: &[Look], bound: Bound) -> Twins {
    let key = hex_hash(format!("twins-1 {bound:?} {}", dataset.sha256()).as_bytes());
    let path = run_folder::cache().join(format!("twins-{}.bin", &key[..16]));
    let known = std::fs::read(&path).ok().and_then(|b| postcard::from_bytes::<Twins>(&b).ok());
    if let Some(known) = known.filter(|k| k.clusters.len() == dataset.entries.len()) {
        return known;
    }
    let found = find(&dataset.entries, looks, bound);
    // It is only a cache: if it cannot be written, the next command takes longer.
    let _ = std::fs::create_dir_all(run_folder::cache())
        .map_err(anyhow::Error::from)
        .and_then(|()| run_folder::write_file(&path, &postcard::to_stdvec(&found)?));
    found
}

/// Finds twins. `looks`: of each entry. The same images give the same twins.
pub fn find(entries: &[Entry], looks: &[Look], bound: Bound) -> Twins {
    let mut twins = Twins::default();
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut exact = Vec::new();
    // Of files with the same bytes the first stands for all.
    let mut single = Vec::new();
    for (i, e) in entries.iter().enumerate() {
        match first.get(e.sha256.as_str()) {
            Some(&a) => exact.push(Pair { a, b: i, exact: true, likeness: 1.0 }),
            None => {
                first.insert(&e.sha256, i);
                single.push(i);
            }
        }
    }
    let mut judged = Vec::new();
    if bound != Bound::Exact {
        let planes: Vec<Plane> = single.par_iter().map(|&i| looks[i].light()).collect();
        let tags: Vec<&[usize]> = single.iter().map(|&i| entries[i].tags.as_slice()).collect();
        let scenes = scene::scenes(&planes, &tags);
        twins.scenes = scenes.iter().map(Vec::len).collect();
        let mut outside = vec![true; single.len()];
        scenes.iter().flatten().for_each(|(i, _)| outside[*i] = false);
        let outside: Vec<usize> = (0..single.len()).filter(|&i| outside[i]).collect();
        let of_outside = outside.iter().map(|&i| planes[i].clone()).collect();
        let mut sets = vec![(outside, Set::of_light(of_outside), LEAST)];
        for members in &scenes {
            let grey: Vec<(Plane, Lay)> = members.iter().map(|(i, lay)| (looks[single[*i]].grey(), *lay)).collect();
            let set = Set::of_residuals(scene::beside_background(&grey));
            sets.push((members.iter().map(|m| m.0).collect(), set, LEAST_IN_SCENE));
        }
        for (members, set, least) in sets {
            let of: Vec<usize> = members.iter().map(|&m| single[m]).collect();
            let at = match bound {
                Bound::Stated(at) => at,
                _ => set.bound(least),
            };
            twins.bounds.push(at);
            let mut pairs = set.pairs(at - DOUBTFUL);
            pairs.retain(|p| same_colours(&looks[of[p.a]], &looks[of[p.b]]));
            judged.push(Judged { of, set, at, pairs });
        }
    }
    join(&mut twins, entries.len(), exact, judged);
    twins
}

/// Images that are compared with one another.
struct Set {
    details: Vec<Detail>,
    /// `[images][FORMS]`.
    coarse: Vec<Vec<Coarse>>,
    /// The light itself, if images are compared by it.
    light: Vec<Plane>,
    /// What differs from the common scene, not normalised, so that the strongest mark counts most.
    in_place: Vec<Plane>,
}

/// The coarse plane in all forms.
fn forms(plane: &Plane) -> Vec<Coarse> {
    (0..FORMS).map(|f| plane::coarse(plane, form(f), true)).collect()
}

struct Judged {
    /// Which entries they are.
    of: Vec<usize>,
    set: Set,
    at: f32,
    /// Indices are within the set.
    pairs: Vec<Pair>,
}

impl Set {
    /// Images that share no background.
    fn of_light(light: Vec<Plane>) -> Self {
        let (details, coarse) = light.par_iter().map(|p| (Detail::of(p.normalised()), forms(p))).unzip();
        Self { details, coarse, light, in_place: Vec::new() }
    }

    /// Images of one scene, less the scene.
    fn of_residuals(planes: Vec<Plane>) -> Self {
        let (details, coarse) = planes.par_iter().map(|p| (Detail::of(p.normalised()), forms(p))).unzip();
        let in_place = planes.into_par_iter().map(|p| p.without_mean()).collect();
        Self { details, coarse, light: Vec::new(), in_place }
    }

    /// The form of `b` that is most like `a`, and how much.
    fn nearest_form(&self, a: usize, b: usize) -> (f32, Lay) {
        let straight = &self.coarse[a][0];
        let all = self.coarse[b].iter().map(|f| product(straight, f)).enumerate();
        let (f, most) = all.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are forms");
        (most, form(f))
    }

    fn likeness(&self, a: usize, b: usize) -> f32 {
        self.likeness_from(a, b, self.nearest_form(a, b).1)
    }

    /// How alike two images are at best, laid near `from`.
    fn likeness_from(&self, a: usize, b: usize, from: Lay) -> f32 {
        let (x, y) = (&self.details[a], &self.details[b]);
        match self.light.get(a).zip(self.light.get(b)) {
            // Members of a scene lie on one another already: the very same mark in the same place
            // is enough.
            None => {
                let (spread, in_place) =
                    (likeness(x, y, from).0, plane::likeness_in_place(&self.in_place[a], &self.in_place[b]));
                if in_place >= SAME_MARK { spread.max(in_place) } else { spread }
            }
            Some(_) if x.known().min(y.known()) >= MOSTLY_KNOWN => likeness(x, y, from).0,
            // What one exposure clipped is clipped in the other too.
            Some((p, q)) => {
                let (p, q) = (p.clipped_as(q), q.clipped_as(p));
                likeness(&Detail::of(p.normalised()), &Detail::of(q.normalised()), from).0
            }
        }
    }

    /// The bound: just above what 99 % of random pairs reach. Nearly all of these are of different
    /// parts.
    fn bound(&self, least: f32) -> f32 {
        let n = self.details.len();
        if n < 2 {
            return least;
        }
        let mut random = Random::new(n as u64, 0x7717);
        let mut draw = |_| {
            let a = random.range(0, n as i32 - 1) as usize;
            let b = random.range(0, n as i32 - 2) as usize;
            (a, if b >= a { b + 1 } else { b })
        };
        let drawn: Vec<(usize, usize)> = (0..DRAWN).map(&mut draw).collect();
        let mut reached: Vec<f32> = drawn.into_par_iter().map(|(a, b)| self.likeness(a, b)).collect();
        reached.sort_by(f32::total_cmp);
        // Where images are few or twins many, twins are drawn as well: the largest are not looked
        // at by themselves.
        let at = |q: usize| reached[reached.len() * q / 100];
        let high = at(99).min(at(50) + 2.5 * (at(90) - at(50))).max(0.0);
        (high + 0.25 * (1.0 - high)).clamp(least, MOST)
    }

    /// Pairs with at least this likeness.
    fn pairs(&self, least: f32) -> Vec<Pair> {
        let n = self.details.len();
        let bar = crate::progress::bar("comparing", n as u64);
        let found = (0..n)
            .into_par_iter()
            .flat_map_iter(|a| {
                bar.inc(1);
                let mut near: Vec<(f32, usize, Lay)> = Vec::new();
                for b in a + 1..n {
                    let (coarse, lay) = self.nearest_form(a, b);
                    let worst = if near.len() < NEAREST { LEAST_COARSE } else { near[NEAREST - 1].0 };
                    if coarse > worst {
                        near.truncate(NEAREST - 1);
                        near.push((coarse, b, lay));
                        near.sort_by(|x, y| y.0.total_cmp(&x.0));
                    }
                }
                near.into_iter().filter_map(move |(_, b, lay)| {
                    let likeness = self.likeness_from(a, b, lay);
                    (likeness >= least).then_some(Pair { a, b, exact: false, likeness })
                })
            })
            .collect();
        bar.finish_and_clear();
        found
    }
}

/// Cells in which colours may differ: where one image was turned or moved, a cell sees something
/// else.
const COLOUR_CELLS: usize = 4;
/// Share of a channel in the light of a cell by which two images of one thing may differ.
const COLOUR: f32 = 0.12;

/// Whether two images have the same colours, coarsely and apart from light: two caps of one form,
/// red and blue, are no twins.
fn same_colours(a: &Look, b: &Look) -> bool {
    let (x, y) = (a.colours(), b.colours());
    let apart = |mirror: bool| {
        let across = |i: usize| if mirror { i / 4 * 4 + 3 - i % 4 } else { i };
        let far = |i: &usize| match (x[*i], y[across(*i)]) {
            (Some(p), Some(q)) => p.iter().zip(q).any(|(p, q)| (p - q).abs() > COLOUR),
            _ => false,
        };
        (0..x.len()).filter(far).count()
    };
    apart(false) <= COLOUR_CELLS || apart(true) <= COLOUR_CELLS
}

/// Joins pairs to clusters, best first, where at least half of the images' pairs across are alike
/// too.
fn join(twins: &mut Twins, n: usize, exact: Vec<Pair>, judged: Vec<Judged>) {
    let mut cluster: Vec<usize> = (0..n).collect();
    let mut members: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
    let largest = (n / LARGEST_SHARE).max(ALWAYS);
    for p in &exact {
        let (to, from) = (cluster[p.a], cluster[p.b]);
        let moved = std::mem::take(&mut members[from]);
        moved.iter().for_each(|&m| cluster[m] = to);
        members[to].extend(moved);
    }
    for Judged { of, set, at, mut pairs } in judged {
        let inner: HashMap<usize, usize> = of.iter().enumerate().map(|(i, &e)| (e, i)).collect();
        pairs.sort_by(|p, q| q.likeness.total_cmp(&p.likeness).then((p.a, p.b).cmp(&(q.a, q.b))));
        for p in pairs {
            let pair = Pair { a: of[p.a], b: of[p.b], ..p };
            let (to, from) = (cluster[pair.a].min(cluster[pair.b]), cluster[pair.a].max(cluster[pair.b]));
            if p.likeness < at {
                if to != from {
                    twins.doubtful.push(pair);
                }
                continue;
            }
            if to != from {
                let inside = |c: usize| members[c].iter().filter_map(|m| inner.get(m).copied()).collect::<Vec<_>>();
                let (left, right) = (inside(to), inside(from));
                let across: Vec<(usize, usize)> = left.iter().flat_map(|&l| right.iter().map(move |&r| (l, r))).collect();
                let looked = super::spread(across.len(), 24).map(|i| across[i]);
                let (alike, all) = looked.fold((0, 0), |(alike, all), (l, r)| {
                    (alike + usize::from(set.likeness(l, r) >= at - DOUBTFUL), all + 1)
                });
                if 2 * alike < all || members[to].len() + members[from].len() > largest {
                    twins.doubtful.push(pair);
                    continue;
                }
                let moved = std::mem::take(&mut members[from]);
                moved.iter().for_each(|&m| cluster[m] = to);
                members[to].extend(moved);
            }
            twins.pairs.push(pair);
        }
    }
    twins.pairs.extend(exact);
    twins.pairs.sort_by_key(|p| (p.a, p.b));
    twins.doubtful.retain(|p| cluster[p.a] != cluster[p.b]);
    let mut firsts: HashMap<usize, usize> = HashMap::new();
    twins.clusters = (0..n).map(|i| *firsts.entry(cluster[i]).or_insert(i)).collect();
}
