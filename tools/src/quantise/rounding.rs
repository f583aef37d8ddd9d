//! Rounds weights so that their errors cancel: the weights rounded later make up for each weight's
//! error, by the second moments of the inputs.
//!
//! The rounding of GPTQ (Frantar et al. 2022) in the form of LDLQ (Chee et al., "QuIP", 2023),
//! which needs one decomposition and no inverse: with `H = U D U'`, U unit upper triangular, weight
//! k is rounded after adding `sum over j < k of (w[j] - q[j]) U[j, k]`.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Second moments of a value's channels, not divided by the number of pixels: `[channels,
/// channels]`.
#[derive(Clone, Debug)]
pub struct Moments {
    products: Array2<f32>,
}

/// Most pixels of one image that are counted; more add little.
const PIXELS: usize = 64;

impl Moments {
    /// Nothing seen yet.
    pub fn new(channels: usize) -> Self {
        Self { products: Array2::zeros((channels, channels)) }
    }

    /// Adds one image's values, `[channels, pixels]`.
    pub fn add(&mut self, values: &[f32]) {
        let channels = self.products.nrows();
        let pixels = values.len() / channels;
        let every = pixels.div_ceil(PIXELS);
        let all = ArrayView2::from_shape((channels, pixels), values).expect("the length was divided so");
        let some = all.slice(ndarray::s![.., ..;every]).to_owned();
        self.products += &some.dot(&some.t());
    }

    /// Joins what another saw.
    pub fn join(mut self, other: &Self) -> Self {
        self.products += &other.products;
        self
    }

    /// The moments with each channel divided by its factor, `[channels]`.
    pub fn divided(mut self, factors: &[f32]) -> Self {
        for ((i, j), sum) in self.products.indexed_iter_mut() {
            *sum /= factors[i] * factors[j];
        }
        self
    }

    /// The order of rounding, strongest inputs first, and how each error is passed on.
    fn feedback(&self) -> Feedback {
        let n = self.products.nrows();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| self.products[[b, b]].total_cmp(&self.products[[a, a]]).then(a.cmp(&b)));
        let mean = (0..n).map(|i| self.products[[i, i]]).sum::<f32>() / n as f32;
        // One percent of the mean keeps the decomposition well conditioned, as GPTQ does.
        let damp = (mean * 0.01).max(1e-12);
        // Decomposed in reverse, so that lower triangular rows become columns of U.
        let mut rows: Vec<Vec<f32>> = Vec::with_capacity(n);
        let mut pivots = Vec::with_capacity(n);
        for i in 0..n {
            let mut row = vec![0.0; i + 1];
            for j in 0..=i {
                let (a, b) = (order[n - 1 - i], order[n - 1 - j]);
                let own = self.products[[a, b]] + if i == j { damp } else { 0.0 };
                let done = if j < i { dot(&row[..j], &rows[j][..j]) } else { dot(&row[..j], &row[..j]) };
                row[j] = if j < i { (own - done) / pivots[j] } else { (own - done).max(damp * 1e-3).sqrt() };
            }
            pivots.push(row[i]);
            rows.push(row);
        }
        // Column k of U above the diagonal, for the k-th weight in rounding order.
        let column = |k: usize| {
            let rk = n - 1 - k;
            (0..k).map(|j| rows[n - 1 - j][rk] / pivots[rk]).collect()
        };
        Feedback { columns: (0..n).into_par_iter().map(column).collect(), order }
    }

    /// Rounds weights to `[-127, 127]` steps. `weights`: `[outputs, channels]`; `scales`:
    /// `[outputs]`.
    pub fn round(&self, weights: &[f32], scales: &[f32]) -> Vec<i8> {
        let n = self.products.nrows();
        let feedback = self.feedback();
        let mut rounded = vec![0; weights.len()];
        rounded.par_chunks_mut(n).zip(weights.par_chunks(n).zip(scales)).for_each(|(q, (w, scale))| {
            let mut errors = Vec::with_capacity(n);
            for (k, &i) in feedback.order.iter().enumerate() {
                let wish = w[i] + dot(&errors, &feedback.columns[k]);
                q[i] = (wish / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
                errors.push(w[i] - q[i] as f32 * scale);
            }
        });
        rounded
    }
}

struct Feedback {
    order: Vec<usize>,
    columns: Vec<Vec<f32>>,
}

/// Dot product in sixteen lanes, which the compiler vectorises.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 16];
    let (x, y) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = x.remainder().iter().zip(y.remainder()).map(|(a, b)| a * b).sum();
    for (x, y) in x.zip(y) {
        for l in 0..16 {
            lanes[l] += x[l] * y[l];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin::random::Random;

    #[test]
    fn on_inputs_that_go_together_the_result_is_closer_than_by_rounding_to_the_nearest() {
        let (channels, outputs, pixels) = (40, 8, 500);
        let mut r = Random::new(4, 4);
        let mut real = |scale: f32| r.range(-1000, 1000) as f32 / 1000.0 * scale;
        // Each channel follows a common signal, as channels of a network do.
        let common: Vec<f32> = (0..pixels * 4).map(|_| real(1.0)).collect();
        let mix: Vec<f32> = (0..channels * 4).map(|_| real(1.0)).collect();
        let x: Vec<f32> = (0..channels * pixels)
            .map(|i| (0..4).map(|k| mix[i / pixels * 4 + k] * common[k * pixels + i % pixels]).sum::<f32>() + real(0.1))
            .collect();
        let w: Vec<f32> = (0..outputs * channels).map(|_| real(0.5)).collect();
        let scales = vec![0.5 / 15.0; outputs];
        let mut moments = Moments::new(channels);
        for c in 0..10 {
            // Chunks of few enough pixels that all are summed.
            let chunk: Vec<f32> = (0..channels).flat_map(|k| x[k * pixels + c * 50..][..50].to_vec()).collect();
            moments.add(&chunk);
        }
        let error = |q: &[i8]| -> f64 {
            let at = |o: usize, p: usize| -> f32 {
                (0..channels)
                    .map(|c| (w[o * channels + c] - q[o * channels + c] as f32 * scales[o]) * x[c * pixels + p])
                    .sum()
            };
            (0..outputs).flat_map(|o| (0..pixels).map(move |p| (o, p))).map(|(o, p)| (at(o, p) as f64).powi(2)).sum()
        };
        let nearest: Vec<i8> = w.iter().map(|w| (w / scales[0]).round_ties_even() as i8).collect();
        let (clever, plain) = (error(&moments.round(&w, &scales)), error(&nearest));
        assert!(clever < plain / 3.0, "{clever} against {plain}");
    }
}
