//! What a model must beat: nearest mean colour, and logistic regression on 24x24 grey pictures.
//!
//! Knows no network; a baseline that comes near the network says that the task is easier than it looks.

use crate::dataset::Dataset;
use crate::network::{SIDE, best};
use rayon::prelude::*;

/// Predicted tags by nearest mean colour of the training pictures' tags.
pub fn nearest_mean_colour(train: &Dataset, test: &Dataset) -> Vec<usize> {
    let mean = |rgb: &[u8]| -> [f64; 3] {
        std::array::from_fn(|c| rgb.iter().skip(c).step_by(3).map(|&v| v as f64).sum::<f64>() / (rgb.len() / 3) as f64)
    };
    let mut centres = vec![([0.0; 3], 0.0); train.tags.len()];
    for s in &train.samples {
        let (centre, n) = &mut centres[s.tag];
        centre.iter_mut().zip(mean(&s.rgb)).for_each(|(c, m)| *c += m);
        *n += 1.0;
    }
    let nearest = |rgb: &[u8]| {
        let m = mean(rgb);
        let off = |(c, n): &([f64; 3], f64)| -> f64 { c.iter().zip(m).map(|(c, m)| (c / n - m).powi(2)).sum() };
        (0..centres.len()).min_by(|&a, &b| off(&centres[a]).total_cmp(&off(&centres[b]))).unwrap_or(0)
    };
    test.samples.iter().map(|s| nearest(&s.rgb)).collect()
}

/// Side of the grey pictures of the regression.
const GREY: usize = 24;

fn grey(rgb: &[u8]) -> Vec<f32> {
    let cell = SIDE / GREY;
    let one = |i: usize| {
        let (y0, x0) = (i / GREY * cell, i % GREY * cell);
        let pixel = |k: usize| ((y0 + k / cell) * SIDE + x0 + k % cell) * 3;
        let sum: u32 = (0..cell * cell).flat_map(|k| rgb[pixel(k)..][..3].iter().map(|&v| v as u32)).sum();
        sum as f32 / (cell * cell * 3) as f32 / 255.0
    };
    (0..GREY * GREY).map(one).collect()
}

/// Predicted tags by multinomial logistic regression on standardised 24x24 grey pictures (gradient descent, L2 1e-3).
pub fn logistic_regression(train: &Dataset, test: &Dataset) -> Vec<usize> {
    let (n, k) = (GREY * GREY, train.tags.len());
    let mut x: Vec<Vec<f32>> = train.samples.par_iter().map(|s| grey(&s.rgb)).collect();
    let rows = x.len() as f32;
    let mean: Vec<f32> = (0..n).map(|i| x.iter().map(|r| r[i]).sum::<f32>() / rows).collect();
    let spread = |i: usize| (x.iter().map(|r| (r[i] - mean[i]).powi(2)).sum::<f32>() / rows).sqrt().max(1e-3);
    let spread: Vec<f32> = (0..n).map(spread).collect();
    let standard = |r: &mut Vec<f32>| r.iter_mut().enumerate().for_each(|(i, v)| *v = (*v - mean[i]) / spread[i]);
    x.iter_mut().for_each(standard);
    let mut w = vec![0f32; (n + 1) * k];
    let mut velocity = w.clone();
    let scores = |w: &[f32], r: &[f32]| -> Vec<f32> {
        let mut s = w[n * k..].to_vec();
        for (v, w) in r.iter().zip(w.chunks_exact(k)) {
            s.iter_mut().zip(w).for_each(|(s, w)| *s += v * w);
        }
        s
    };
    let bar = crate::progress::bar("baseline", 300);
    for _ in 0..300 {
        // Chunks are summed in order, so that the result does not depend on the number of cores.
        let parts: Vec<Vec<f32>> = x
            .par_chunks(256)
            .zip(train.samples.par_chunks(256))
            .map(|(rows, samples)| {
                let mut g = vec![0f32; w.len()];
                for (r, s) in rows.iter().zip(samples) {
                    let mut p = scores(&w, r);
                    let top = p.iter().copied().fold(f32::MIN, f32::max);
                    p.iter_mut().for_each(|v| *v = (*v - top).exp());
                    let sum: f32 = p.iter().sum();
                    p.iter_mut().for_each(|v| *v /= sum);
                    p[s.tag] -= 1.0;
                    for (v, g) in r.iter().chain([&1.0]).zip(g.chunks_exact_mut(k)) {
                        g.iter_mut().zip(&p).for_each(|(g, p)| *g += v * p);
                    }
                }
                g
            })
            .collect();
        for i in 0..w.len() {
            let gradient = parts.iter().map(|p| p[i]).sum::<f32>() / rows + 1e-3 * w[i];
            velocity[i] = 0.9 * velocity[i] - 0.03 * gradient;
            w[i] += velocity[i];
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let predict = |s: &crate::dataset::Sample| {
        let mut r = grey(&s.rgb);
        standard(&mut r);
        best(&scores(&w, &r))
    };
    test.samples.par_iter().map(predict).collect()
}
