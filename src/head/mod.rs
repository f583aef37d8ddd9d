//! Logits to scores: softmax or sigmoid in fixed point, the same bits on every CPU.
//!
//! Terms: a logit is Q16.16; a [`Score`] is a probability in 1/65535; temperature divides the
//! logits before either function.

/// A probability: 0..=65535 stands for 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Score(pub u16);

impl Score {
    /// Probability one half, rounded up: the default threshold.
    pub const HALF: Self = Self(32768);

    /// The score nearest to probability `p`, or nothing if `p` is outside 0..=1 or not a number.
    pub fn from_probability(p: f32) -> Option<Self> {
        (0.0..=1.0).contains(&p).then_some(Self((p * 65535.0 + 0.5) as u16))
    }

    /// The probability that this score stands for.
    pub fn probability(self) -> f32 {
        self.0 as f32 / 65535.0
    }

    /// This score less `by`, held at zero.
    pub const fn less(self, by: Self) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl core::fmt::Display for Score {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:.3}", self.probability())
    }
}

/// Index of a tag in the bundle's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u16);

/// Softmax temperature in Q16.16; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temperature(core::num::NonZeroU32);

impl Temperature {
    /// Temperature 1: logits as they are.
    pub const ONE: Self = Self(core::num::NonZeroU32::new(65536).expect("65536 is not zero"));

    /// From Q16.16; zero gives nothing.
    pub const fn from_q16(q16: u32) -> Option<Self> {
        match core::num::NonZeroU32::new(q16) {
            Some(t) => Some(Self(t)),
            None => None,
        }
    }

    /// In Q16.16.
    pub const fn q16(self) -> u32 {
        self.0.get()
    }
}

const ONE_Q31: u64 = 1 << 31;

/// `exp(-distance / temperature)` in Q31; `distance` is Q16.16.
///
/// `2^-(n + f) = 2^-n * exp(-f ln 2)`, the second factor by its Taylor series in Horner form (11
/// terms: error below 2^-30).
fn exp_neg_q31(distance: u32, temperature: Temperature) -> u64 {
    const LOG2_E_Q31: u64 = 3_098_164_009; // round(2^31 / ln 2)
    const LN_2_Q31: u64 = 1_488_522_236; // round(2^31 * ln 2)
    // distance / temperature in Q32; 64 nats and more are zero at 31 bits.
    let nats = ((distance as u64) << 32) / temperature.q16() as u64;
    if nats >= 64 << 32 {
        return 0;
    }
    let log2 = ((nats as u128 * LOG2_E_Q31 as u128) >> 31) as u64;
    let (whole, fraction) = (log2 >> 32, (log2 & 0xffff_ffff) >> 1);
    let z = (fraction * LN_2_Q31) >> 31;
    // Divisors that the compiler knows become multiplications.
    let term = |e: u64, k: u64| ONE_Q31 - ((z * e) >> 31) / k;
    let e = term(ONE_Q31, 11);
    let e = term(term(term(term(term(e, 10), 9), 8), 7), 6);
    let e = term(term(term(term(term(e, 5), 4), 3), 2), 1);
    if whole >= 32 { 0 } else { e >> whole }
}

/// Softmax: scores that add up to 1, rounded one by one.
///
/// `logits`, `scores`: `[n]`, Q16.16 and 0..=65535. Within 2^-14 of real arithmetic. Does nothing
/// for n = 0. Panics if the lengths differ.
pub fn softmax(logits: &[i32], temperature: Temperature, scores: &mut [Score]) {
    assert_eq!(logits.len(), scores.len(), "one score a logit");
    let Some(&max) = logits.iter().max() else { return };
    let weight = |&x: &i32| exp_neg_q31(max.abs_diff(x), temperature);
    let sum: u64 = logits.iter().map(weight).sum();
    for (score, logit) in scores.iter_mut().zip(logits) {
        *score = Score(((weight(logit) * 65535 + sum / 2) / sum) as u16);
    }
}

/// Sigmoid of each logit by itself.
///
/// `logits`, `scores`: `[n]`, Q16.16 and 0..=65535. Within 2^-14 of real arithmetic. Panics if the
/// lengths differ.
pub fn sigmoid(logits: &[i32], temperature: Temperature, scores: &mut [Score]) {
    assert_eq!(logits.len(), scores.len(), "one score a logit");
    for (score, &logit) in scores.iter_mut().zip(logits) {
        let small = exp_neg_q31(logit.unsigned_abs(), temperature);
        let part = if logit >= 0 { ONE_Q31 } else { small };
        let sum = ONE_Q31 + small;
        *score = Score(((part * 65535 + sum / 2) / sum) as u16);
    }
}

/// The best scores in falling order, ties by lower index; fills `best` from the front and returns
/// how many there are.
pub fn top_k(scores: &[Score], best: &mut [(TagId, Score)]) -> usize {
    let mut len = 0;
    for (i, &score) in scores.iter().enumerate() {
        let at = best[..len].partition_point(|&(_, s)| s >= score);
        if at == best.len() {
            continue;
        }
        len = (len + 1).min(best.len());
        best[at..len].rotate_right(1);
        best[at] = (TagId(i as u16), score);
    }
    len
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    fn lcg(seed: &mut u64) -> u32 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as u32
    }

    #[test]
    fn softmax_and_sigmoid_stay_within_two_to_the_minus_14_of_f64() {
        let mut seed = 7;
        for round in 0..2000 {
            let n = 1 + lcg(&mut seed) as usize % 40;
            let spread = 1 << (10 + round % 16);
            let logits: Vec<i32> = (0..n).map(|_| (lcg(&mut seed) % (2 * spread)) as i32 - spread as i32).collect();
            let t = Temperature::from_q16(6554 + lcg(&mut seed) % 400_000).unwrap();
            let real: Vec<f64> = logits.iter().map(|&x| x as f64 / t.q16() as f64).collect();
            let max = real.iter().cloned().fold(f64::MIN, f64::max);
            let sum: f64 = real.iter().map(|x| (x - max).exp()).sum();
            let mut scores = vec![Score(0); n];
            softmax(&logits, t, &mut scores);
            for (x, s) in real.iter().zip(&scores) {
                let p = s.0 as f64 / 65535.0;
                assert!((p - (x - max).exp() / sum).abs() < 1.0 / 16384.0, "softmax {p}");
            }
            sigmoid(&logits, t, &mut scores);
            for (x, s) in real.iter().zip(&scores) {
                let p = s.0 as f64 / 65535.0;
                assert!((p - 1.0 / (1.0 + (-x).exp())).abs() < 1.0 / 16384.0, "sigmoid {p}");
            }
        }
    }

    #[test]
    fn extreme_logits_do_not_overflow() {
        let mut s = [Score(0); 3];
        softmax(&[i32::MAX, i32::MIN, i32::MAX], Temperature::from_q16(1).unwrap(), &mut s);
        assert_eq!(s, [Score(32768), Score(0), Score(32768)]);
        sigmoid(&[i32::MAX, i32::MIN, 0], Temperature::from_q16(u32::MAX).unwrap(), &mut s);
        assert_eq!(s[2], Score(32768));
    }

    #[test]
    fn top_k_orders_and_breaks_ties_by_index() {
        let scores = [3, 9, 9, 1, 7].map(Score);
        let mut best = [(TagId(0), Score(0)); 3];
        assert_eq!(top_k(&scores, &mut best), 3);
        assert_eq!(best.map(|b| b.0.0), [1, 2, 4]);
        assert_eq!(top_k(&scores[..1], &mut best), 1);
        assert_eq!(top_k(&scores, &mut []), 0);
    }
}
