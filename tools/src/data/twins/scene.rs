//! Finds images of one scene, as a fixed camera takes them, and removes the background from each.
//!
//! Before a fixed camera all images look alike, though each shows another part. So images that
//! agree coarsely are grouped to a scene and aligned to one of them; the background is their
//! median, pixel by pixel. What remains of an image is what a change of light, a small shift or
//! blur of the background cannot explain.

use super::plane::{self, Coarse, Detail, FORMS, Lay, Plane, SIDE, form, likeness, product};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Least dot product of coarse planes of two images of one scene.
const SAME_SCENE: f32 = 0.9;
/// Most images that are tried as the first of a scene.
const TRIED: usize = 150;
/// Fewest images of a scene that come under several tags, at least two under the second: one part
/// has one tag.
const FEWEST_OF_TAGS: usize = 16;
/// Fewest images of a scene with one tag: fewer may be the same part, photographed repeatedly.
const FEWEST: usize = 20;
/// Most images whose median is the background.
const MEDIAN_OF: usize = 101;

/// Groups of images with a common background. `tags`: of each image. Smaller groups are none.
pub fn scenes(planes: &[Plane], tags: &[&[usize]]) -> Vec<Vec<(usize, Lay)>> {
    let n = planes.len();
    let tried: Vec<usize> = crate::data::spread(n, TRIED).collect();
    let leaders: Vec<Coarse> = tried.iter().map(|&i| plane::coarse(&planes[i], Lay::STRAIGHT, false)).collect();
    // `[n]`: leaders that agree with an image, and in which form.
    let agrees: Vec<Vec<Option<usize>>> = planes
        .par_iter()
        .map(|p| {
            let forms: Vec<Coarse> = (0..FORMS).map(|f| plane::coarse(p, form(f), false)).collect();
            let best = |leader: &Coarse| {
                let all = forms.iter().map(|f| product(leader, f)).enumerate();
                all.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, s)| *s >= SAME_SCENE).map(|(f, _)| f)
            };
            leaders.iter().map(best).collect()
        })
        .collect();
    let mut free = vec![true; n];
    let mut found = Vec::new();
    loop {
        let size = |l: usize| (0..n).filter(|&i| free[i] && agrees[i][l].is_some()).count();
        let Some(leader) = (0..tried.len()).max_by_key(|&l| (size(l), std::cmp::Reverse(l))) else { break };
        let members: Vec<usize> = (0..n).filter(|&i| free[i] && agrees[i][leader].is_some()).collect();
        if members.len() < FEWEST_OF_TAGS {
            break;
        }
        members.iter().for_each(|&i| free[i] = false);
        let mut of_tags: BTreeMap<&[usize], usize> = BTreeMap::new();
        members.iter().for_each(|&i| *of_tags.entry(tags[i]).or_default() += 1);
        let several = of_tags.values().filter(|n| **n >= 2).count() > 1;
        if several || members.len() >= FEWEST {
            let first = Detail::of(planes[tried[leader]].normalised());
            let lay = |&i: &usize| (i, on_leader(&first, &planes[i], form(agrees[i][leader].expect("it is a member"))));
            found.push(members.par_iter().map(lay).collect());
        }
    }
    found
}

/// How a member lies on its scene's first image: straight, unless it clearly lies otherwise, as
/// laying blurs.
fn on_leader(first: &Detail, member: &Plane, from: Lay) -> Lay {
    let member = Detail::of(member.normalised());
    let (straight, near) = likeness(first, &member, Lay::STRAIGHT);
    let (other, lay) = if from == Lay::STRAIGHT { (straight, near) } else { likeness(first, &member, from) };
    let (best, lay) = if other > straight + 0.02 { (other, lay) } else { (straight, near) };
    let moved = lay.shift[0].hypot(lay.shift[1]);
    if best < 0.2 || (!lay.mirror && lay.turn.abs() < 0.9 && moved < 0.9) { Lay::STRAIGHT } else { lay }
}

/// Each member without the background.
pub fn beside_background(members: &[(Plane, Lay)]) -> Vec<Plane> {
    let laid: Vec<Plane> =
        members.par_iter().map(|(p, lay)| if *lay == Lay::STRAIGHT { p.clone() } else { p.laid(*lay) }).collect();
    let background = background(&laid);
    let terms = terms(&background);
    laid.into_par_iter().map(|p| residual(&p, &background, &terms)).collect()
}

/// The median of members in the light of the first.
fn background(laid: &[Plane]) -> Plane {
    let first = &laid[0];
    let lit: Vec<(f64, f64)> = laid.iter().map(|p| in_light_of(p, first)).collect();
    let of: Vec<usize> = crate::data::spread(laid.len(), MEDIAN_OF).collect();
    let mut values = vec![0.0; SIDE * SIDE];
    let mut known = vec![0.0; SIDE * SIDE];
    for i in 0..SIDE * SIDE {
        let seen = of.iter().filter(|&&m| laid[m].known[i] > 0.5);
        let mut all: Vec<f32> = seen.map(|&m| (lit[m].0 * f64::from(laid[m].values[i]) + lit[m].1) as f32).collect();
        if all.len() * 2 > of.len() {
            let middle = all.len() / 2;
            values[i] = *all.select_nth_unstable_by(middle, f32::total_cmp).1;
            known[i] = 1.0;
        }
    }
    Plane { values, known, ratio: first.ratio }
}

/// Gain and offset that bring a plane into another's light.
fn in_light_of(p: &Plane, other: &Plane) -> (f64, f64) {
    let mut s = [0.0f64; 5];
    for i in 0..SIDE * SIDE {
        let w = f64::from(p.known[i] * other.known[i]);
        let (x, y) = (f64::from(p.values[i]), f64::from(other.values[i]));
        [1.0, x, y, x * x, x * y].iter().zip(&mut s).for_each(|(v, s)| *s += w * v);
    }
    let [n, x, y, xx, xy] = s;
    let spread = n * xx - x * x;
    if n < 2.0 || spread < 1e-6 {
        return (1.0, 0.0);
    }
    let gain = (n * xy - x * y) / spread;
    (gain, (y - gain * x) / n)
}

/// Terms of what light, a slight shift or turn, and blur make of a background.
const TERMS: usize = 10;

/// `[pixels]`: constant, the background, its square and cube, a gradient in each direction; then,
/// in first order, what moves it to the right, down, and round its middle, and what blurs it.
fn terms(background: &Plane) -> Vec<[f64; TERMS]> {
    let b = |x: usize, y: usize| f64::from(background.values[y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)]);
    let all = (0..SIDE * SIDE).map(|i| {
        let (x, y) = (i % SIDE, i / SIDE);
        let place = |v: usize| v as f64 / SIDE as f64 - 0.5;
        let right = (b(x + 1, y) - b(x.saturating_sub(1), y)) / 2.0;
        let down = (b(x, y + 1) - b(x, y.saturating_sub(1))) / 2.0;
        let around = b(x + 1, y) + b(x.saturating_sub(1), y) + b(x, y + 1) + b(x, y.saturating_sub(1));
        let v = b(x, y);
        let turn = place(y) * right - place(x) * down;
        [1.0, v, v * v, v * v * v, place(x), place(y), right, down, turn, around - 4.0 * v]
    });
    all.collect()
}

fn residual(p: &Plane, background: &Plane, terms: &[[f64; TERMS]]) -> Plane {
    let known: Vec<f32> = p.known.iter().zip(&background.known).map(|(a, b)| a * b).collect();
    let mut matrix = [[0.0f64; TERMS + 1]; TERMS];
    for i in (0..SIDE * SIDE).filter(|&i| known[i] > 0.5) {
        for r in 0..TERMS {
            (0..TERMS).for_each(|c| matrix[r][c] += terms[i][r] * terms[i][c]);
            matrix[r][TERMS] += terms[i][r] * f64::from(p.values[i]);
        }
    }
    let weights = solved(matrix);
    let lit = |i: usize| -> f64 { terms[i].iter().zip(weights).map(|(t, w)| t * w).sum() };
    let values = (0..SIDE * SIDE).map(|i| if known[i] > 0.5 { p.values[i] - lit(i) as f32 } else { 0.0 }).collect();
    Plane { values, known, ratio: p.ratio }
}

/// Solves a symmetric system by elimination; a linearly dependent term gets weight 0.
fn solved(mut m: [[f64; TERMS + 1]; TERMS]) -> [f64; TERMS] {
    let before: [f64; TERMS] = std::array::from_fn(|k| m[k][k]);
    let mut empty = [false; TERMS];
    for k in 0..TERMS {
        let size = m[k][k];
        empty[k] = size <= before[k] * 1e-9;
        if empty[k] {
            continue;
        }
        m[k].iter_mut().for_each(|v| *v /= size);
        let pivot = m[k];
        for (_, row) in m.iter_mut().enumerate().filter(|(r, _)| *r != k) {
            let by = row[k];
            row.iter_mut().zip(pivot).for_each(|(v, p)| *v -= by * p);
        }
    }
    std::array::from_fn(|k| if empty[k] { 0.0 } else { m[k][TERMS] })
}
