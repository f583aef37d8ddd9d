//! The scalar definition of every int8 number this project computes. Each kernel must give these
//! bits on every CPU.
//!
//! Terms: a real value is `scale * (q - zero_point)`. Activations are asymmetric int8 per tensor,
//! weights symmetric int8 per output channel in -127..=127, accumulators i32. f32 is used for one
//! IEEE multiply (and one add in [`add_rndne`]), never fused, so that SSE, NEON and VFP agree.

/// `1.5 * 2^23`: added to an f32 in `-2^22..=2^22` it leaves the nearest integer, ties to even, in
/// the low mantissa bits.
pub const ROUND_MAGIC: f32 = 12_582_912.0;

/// The range and zero point an operator's result is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Smallest value of the result, -128..=127.
    pub lo: i8,
    /// Largest value of the result, `lo..=127`.
    pub hi: i8,
    /// Zero point of the result.
    pub zero_point: i8,
}

impl Clamp {
    /// The whole int8 range about `zero_point`.
    pub const fn full(zero_point: i8) -> Self {
        Self { lo: i8::MIN, hi: i8::MAX, zero_point }
    }

    /// Rounds a real multiple of the output step and clamps it: `clamp(rndne(x), lo - zp, hi - zp)
    /// + zp`.
    #[inline(always)]
    pub fn round(self, x: f32) -> i8 {
        let zp = self.zero_point as i32;
        let lo = (self.lo as i32 - zp) as f32;
        let hi = (self.hi as i32 - zp) as f32;
        // The bounds are integers, so clamping first rounds to the same value and keeps the magic
        // number in its range.
        let x = if x >= lo { x } else { lo };
        let x = if x <= hi { x } else { hi };
        let q = (x + ROUND_MAGIC).to_bits() as i32 - ROUND_MAGIC.to_bits() as i32;
        (q + zp) as i8
    }
}

/// Requantises an accumulator: `clamp(rndne(f32(acc) * scale), lo - zp, hi - zp) + zp`.
///
/// `scale`: s_in * s_w / s_out of the channel, finite and positive. Rounding: ties to even (IEEE
/// 754-2019 4.3.1). It is what ONNX Runtime's QLinearConv computes.
#[inline(always)]
pub fn requant_rndne(acc: i32, scale: f32, clamp: Clamp) -> i8 {
    clamp.round(acc as f32 * scale)
}

/// Adds two quantised values: `round(f32(a - za) * ra + f32(b - zb) * rb)`, two multiplies and one
/// add, none fused.
///
/// `ra`, `rb`: s_a / s_out and s_b / s_out. Within one step of ONNX Runtime, which divides after
/// adding.
#[inline(always)]
pub fn add_rndne(a: i8, za: i8, ra: f32, b: i8, zb: i8, rb: f32, clamp: Clamp) -> i8 {
    let x = (a as i32 - za as i32) as f32 * ra;
    let y = (b as i32 - zb as i32) as f32 * rb;
    clamp.round(x + y)
}

/// A logit in Q16.16 from an accumulator: `rndne(acc * scale * 65536)`; `None` where Q16.16 has no
/// such number: from 32768 on, below -32768, or NaN. It never saturates, because scores of a
/// clamped logit are another model's.
///
/// `scale`: the accumulator's real step. Computed in f64 (IEEE on every target) so that no logit
/// loses its fraction.
#[inline]
pub fn logit_q16(acc: i32, scale: f32) -> Option<i32> {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    let x = acc as f64 * scale as f64 * 65536.0 + MAGIC - MAGIC;
    (i32::MIN as f64..=i32::MAX as f64).contains(&x).then_some(x as i32)
}

/// QuantizeLinear of ONNX: `clamp(rndne(x / scale) + zp)`; a NaN becomes -128.
#[inline]
pub fn quantise(x: f32, scale: f32, zero_point: i8) -> i8 {
    Clamp::full(zero_point).round(x / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_breaks_ties_to_even_and_clamps() {
        let c = Clamp { lo: -100, hi: 100, zero_point: 3 };
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5].map(|x| c.round(x)), [3, 5, 5, 3, 1]);
        assert_eq!([c.round(1e30), c.round(-1e30)], [100, -100]);
        assert_eq!([c.round(f32::INFINITY), c.round(f32::NEG_INFINITY)], [100, -100]);
    }

    #[test]
    fn every_accumulator_near_a_tie_matches_exact_arithmetic() {
        // scale 2^-4 makes every product exact, so f64's own rounding is the reference.
        for acc in -5000..5000 {
            let exact = (acc as f64 / 16.0).round_ties_even().clamp(-128.0, 127.0) as i8;
            assert_eq!(requant_rndne(acc, 0.0625, Clamp::full(0)), exact, "acc {acc}");
        }
    }

    #[test]
    fn a_logit_that_q16_does_not_hold_is_none() {
        assert_eq!(logit_q16(3, 0.5), Some(98304));
        assert_eq!([logit_q16(32767, 1.0), logit_q16(-32768, 1.0)], [Some(32767 << 16), Some(i32::MIN)]);
        assert_eq!([logit_q16(1, 32768.0), logit_q16(1, -32768.1)], [None; 2]);
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY, f32::NAN].map(|x| logit_q16(1, x)), [None; 3]);
        assert_eq!([logit_q16(i32::MAX, 1.0), logit_q16(i32::MIN, f32::MAX)], [None; 2]);
    }
}
