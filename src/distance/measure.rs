//! From features to the distance.

use super::Distance;
use super::encoding::{AXIS_BITS, SCALE_BITS, Spread};

/// Largest scaled feature: 16 standard deviations in 1/256. What lies farther off counts as this,
/// so that no accumulator overflows.
pub(super) const MOST: i64 = 4095;

impl<B: AsRef<[u8]>> Spread<B> {
    /// The distance of an image from the training images. Allocates nothing.
    ///
    /// `features`: those of all stages in order. `scaled`: scratch. Both [`Spread::features`] long,
    /// or it panics.
    ///
    /// ```text
    /// z[i] = clamp((features[i] - centre[i]) * scale[i])              in 1/256 of a deviation
    /// p[a] = sum over i of axis[a][i] * z[i]                          the same
    /// distance^2 = sum over a of weight[a] * p[a]^2 + rest * (|z|^2 - |p|^2)
    /// ```
    pub fn measure(&self, features: &[i32], scaled: &mut [i16]) -> Distance {
        let n = self.features();
        assert_eq!((features.len(), scaled.len()), (n, n), "as many as the spread has features");
        let mut whole = 0u64;
        for (((z, feature), centre), scale) in scaled.iter_mut().zip(features).zip(self.centres()).zip(self.scales()) {
            let far = (*feature as i64 - centre as i64) * scale as i64;
            *z = ((far + (1 << (SCALE_BITS - 1))) >> SCALE_BITS).clamp(-MOST, MOST) as i16;
            whole += (*z as i32 * *z as i32) as u64;
        }
        let (mut total, mut along) = (0u64, 0u64);
        for (axis, weight) in self.axes() {
            let p = (dot(axis, scaled) + (1 << (AXIS_BITS - 1))) >> AXIS_BITS;
            let square = p.unsigned_abs() as u64 * p.unsigned_abs() as u64;
            along += square;
            total = total.saturating_add(square.saturating_mul(weight as u64));
        }
        let rest = whole.saturating_sub(along).saturating_mul(self.rest() as u64);
        // Squares are in 2^-16 and weights too: the root is in 2^-16.
        Distance(total.saturating_add(rest).isqrt() as u32)
    }
}

/// An axis times the scaled features. By Cauchy and Schwarz the total fits an i32, whatever it
/// passes on the way.
fn dot(axis: &[[u8; 2]], scaled: &[i16]) -> i32 {
    let product = |(a, z): (&[u8; 2], &i16)| i16::from_le_bytes(*a) as i32 * *z as i32;
    axis.iter().zip(scaled).map(product).fold(0, i32::wrapping_add)
}
