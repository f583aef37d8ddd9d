//! Depthwise convolutions by NEON: any kernel, stride, padding and dilation, any number of
//! channels.
//!
//! Two taps make a sum of products that fits i16 (see `neon`), which is added to accumulators of
//! i32 that begin at the bias:
//!
//! ```text
//! t = x[i] * w[i] + x[i + 1] * w[i + 1]     8 lanes of i16: smull, smlal
//! acc += t                                  4 lanes of i32: saddw
//! ```
//!
//! Multiplying is what bounds it: two multiplies a tap and 16 channels, one a cycle on A72 and A76.
//! Lists say where the taps of an output lie (`taps`), so that every kernel is one loop over four
//! taps at a time. A row of outputs is gone over once for each block of 16 channels, two outputs
//! side by side: 16 products are made before the first is added up, which is how a core that runs
//! in order need not wait, and both use the same weights.
//!
//! The last block of a layer whose channels are no multiple of 16 overlaps the one before. Fewer
//! than 16 channels are computed as 16, of which the others belong to the next column and meet
//! weights of zero. Weights in several parts (`Fit`) are more taps, at the same places.

use super::requant::{Outputs, Sums, for_reach};
use crate::kernels::Layer;
use crate::kernels::epilogue::{EpilogueBlock, LANES};
use crate::kernels::panels::{depthwise_blocks, most_parts};
use crate::kernels::taps::Taps;
use core::arch::aarch64::*;
use core::arch::asm;

/// Those blocks of any layer that `takes` names; weights and bias as `panels::pack_depthwise` left
/// them. `scratch`: `taps::scratch_len`.
pub(super) fn depthwise(
    l: Layer<'_, [i8]>,
    input: &[i8],
    output: &mut [i8],
    scratch: &mut [i16],
    takes: fn(&EpilogueBlock) -> bool,
) {
    for_reach!(l.epilogue, BY_UZP, layer::[](l, input, output, scratch, takes));
}

fn layer<const REACH: u8>(
    layer: Layer<'_, [i8]>,
    input: &[i8],
    output: &mut [i8],
    scratch: &mut [i16],
    takes: fn(&EpilogueBlock) -> bool,
) {
    let Layer { shape: s, zero_point, epilogue: e, .. } = layer;
    let (c, [oh, ow, _], len) = (s.input[2], s.output, s.patch_len() * LANES);
    assert_eq!(output.len(), oh * ow * c, "output length");
    let mut taps = Taps::new(s, input, zero_point, scratch, most_parts(&e));
    let (inside, step, n) = (taps.inside(), s.stride[1] * c, LANES.min(c));
    let outputs = Outputs::<REACH>::new(&e);
    for (oy, out) in output.chunks_exact_mut(ow * c).enumerate() {
        taps.row(oy);
        for (first, weights, block) in depthwise_blocks(layer, len).filter(|(_, _, block)| takes(block)) {
            let at = |ox: usize| {
                let (base, list) = taps.of(ox);
                (base.wrapping_add(first), &list[..weights.len() / LANES])
            };
            let mut put = |ox: usize, values| Outputs::<REACH>::put(values, &mut out[ox * c + first..][..n]);
            // Where their number is odd, the last is computed twice.
            let (mut base, shared) = at(inside.start);
            for a in inside.clone().step_by(2) {
                let b = (a + 1).min(inside.end - 1);
                let both = [base, if b > a { base.wrapping_add(step) } else { base }];
                // SAFETY: of each tap 16 values are readable from a block's first channel on, as
                // `Taps` has it.
                let [one, two] = outputs.requant_two(unsafe { sum_two(both, [shared; 2], weights, block) }, block);
                put(a, one);
                put(b, two);
                base = base.wrapping_add(2 * step);
            }
            let mut others = (0..inside.start).chain(inside.end..ow);
            while let Some(a) = others.next() {
                let b = others.next().unwrap_or(a);
                let [(base_a, list_a), (base_b, list_b)] = [at(a), at(b)];
                // SAFETY: the same.
                let accumulators = unsafe { sum_two([base_a, base_b], [list_a, list_b], weights, block) };
                let [one, two] = outputs.requant_two(accumulators, block);
                put(a, one);
                put(b, two);
            }
        }
    }
}

/// Bias and the sum over taps of value times weight, of 16 channels of two outputs. `lists`: where
/// each output's taps lie, seen from its base, once for each part; `weights`: `[part][taps][16]`.
///
/// # Safety
/// 16 values are readable at each tap.
#[inline(always)]
unsafe fn sum_two(bases: [*const i8; 2], lists: [&[isize]; 2], weights: &[i8], block: &EpilogueBlock) -> [Sums; 2] {
    let taps = lists[0].len();
    assert!(lists[1].len() == taps && weights.len() == taps * LANES, "weights of each tap");
    // Weights of -128 that meet are taken one by one.
    let fours = if block.fit.apart { 0 } else { taps / 4 };
    let (c0, c1, c2, c3): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    let (d0, d1, d2, d3): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    // SAFETY: the caller's promise; both lists and the weights are as long as each other, and a
    // block begins with 16 words. The instructions are of aarch64's baseline.
    unsafe {
        asm!(
            "ldp {c0:q}, {c1:q}, [{begin}]",
            "ldp {c2:q}, {c3:q}, [{begin}, #32]",
            "ldp {d0:q}, {d1:q}, [{begin}]",
            "ldp {d2:q}, {d3:q}, [{begin}, #32]",
            "cbz {n}, 3f",
            // Four taps: products of the first and the third, then of the second and the fourth on
            // top of them.
            "2:",
            "ldp {o0}, {o1}, [{list_a}]",
            "ldp {p0}, {p1}, [{list_b}]",
            "ldp {w0:q}, {w1:q}, [{w}]",
            "ldr {x0:q}, [{a}, {o0}]",
            "ldr {y0:q}, [{b}, {p0}]",
            "ldp {o2}, {o3}, [{list_a}, #16]",
            "ldp {p2}, {p3}, [{list_b}, #16]",
            "ldp {w2:q}, {w3:q}, [{w}, #32]",
            "ldr {x2:q}, [{a}, {o2}]",
            "ldr {y2:q}, [{b}, {p2}]",
            "smull {t0:v}.8h, {x0:v}.8b, {w0:v}.8b",
            "smull2 {t1:v}.8h, {x0:v}.16b, {w0:v}.16b",
            "smull {t2:v}.8h, {y0:v}.8b, {w0:v}.8b",
            "smull2 {t3:v}.8h, {y0:v}.16b, {w0:v}.16b",
            "ldr {x0:q}, [{a}, {o1}]",
            "ldr {y0:q}, [{b}, {p1}]",
            "smull {t4:v}.8h, {x2:v}.8b, {w2:v}.8b",
            "smull2 {t5:v}.8h, {x2:v}.16b, {w2:v}.16b",
            "smull {t6:v}.8h, {y2:v}.8b, {w2:v}.8b",
            "smull2 {t7:v}.8h, {y2:v}.16b, {w2:v}.16b",
            "ldr {x2:q}, [{a}, {o3}]",
            "ldr {y2:q}, [{b}, {p3}]",
            "add {list_a}, {list_a}, #32",
            "add {list_b}, {list_b}, #32",
            "add {w}, {w}, #64",
            "subs {n}, {n}, #1",
            "smlal {t0:v}.8h, {x0:v}.8b, {w1:v}.8b",
            "smlal2 {t1:v}.8h, {x0:v}.16b, {w1:v}.16b",
            "smlal {t2:v}.8h, {y0:v}.8b, {w1:v}.8b",
            "smlal2 {t3:v}.8h, {y0:v}.16b, {w1:v}.16b",
            "smlal {t4:v}.8h, {x2:v}.8b, {w3:v}.8b",
            "smlal2 {t5:v}.8h, {x2:v}.16b, {w3:v}.16b",
            "smlal {t6:v}.8h, {y2:v}.8b, {w3:v}.8b",
            "smlal2 {t7:v}.8h, {y2:v}.16b, {w3:v}.16b",
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h",
            "saddw {d0:v}.4s, {d0:v}.4s, {t2:v}.4h",
            "saddw2 {d1:v}.4s, {d1:v}.4s, {t2:v}.8h",
            "saddw {d2:v}.4s, {d2:v}.4s, {t3:v}.4h",
            "saddw2 {d3:v}.4s, {d3:v}.4s, {t3:v}.8h",
            "saddw {c0:v}.4s, {c0:v}.4s, {t4:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {t4:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {t5:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {t5:v}.8h",
            "saddw {d0:v}.4s, {d0:v}.4s, {t6:v}.4h",
            "saddw2 {d1:v}.4s, {d1:v}.4s, {t6:v}.8h",
            "saddw {d2:v}.4s, {d2:v}.4s, {t7:v}.4h",
            "saddw2 {d3:v}.4s, {d3:v}.4s, {t7:v}.8h",
            "b.ne 2b",
            // One tap at a time.
            "3:",
            "cbz {rest}, 5f",
            "4:",
            "ldr {o0}, [{list_a}]",
            "ldr {p0}, [{list_b}]",
            "ldr {w0:q}, [{w}]",
            "add {list_a}, {list_a}, #8",
            "add {list_b}, {list_b}, #8",
            "add {w}, {w}, #16",
            "ldr {x0:q}, [{a}, {o0}]",
            "ldr {y0:q}, [{b}, {p0}]",
            "subs {rest}, {rest}, #1",
            "smull {t0:v}.8h, {x0:v}.8b, {w0:v}.8b",
            "smull2 {t1:v}.8h, {x0:v}.16b, {w0:v}.16b",
            "smull {t2:v}.8h, {y0:v}.8b, {w0:v}.8b",
            "smull2 {t3:v}.8h, {y0:v}.16b, {w0:v}.16b",
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h",
            "saddw {d0:v}.4s, {d0:v}.4s, {t2:v}.4h",
            "saddw2 {d1:v}.4s, {d1:v}.4s, {t2:v}.8h",
            "saddw {d2:v}.4s, {d2:v}.4s, {t3:v}.4h",
            "saddw2 {d3:v}.4s, {d3:v}.4s, {t3:v}.8h",
            "b.ne 4b",
            "5:",
            a = in(reg) bases[0], b = in(reg) bases[1], begin = in(reg) block.begin.as_ptr(),
            list_a = inout(reg) lists[0].as_ptr() => _, list_b = inout(reg) lists[1].as_ptr() => _,
            w = inout(reg) weights.as_ptr() => _, n = inout(reg) fours => _, rest = inout(reg) taps - 4 * fours => _,
            o0 = out(reg) _, o1 = out(reg) _, o2 = out(reg) _, o3 = out(reg) _,
            p0 = out(reg) _, p1 = out(reg) _, p2 = out(reg) _, p3 = out(reg) _,
            x0 = out(vreg) _, x2 = out(vreg) _, y0 = out(vreg) _, y2 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            t4 = out(vreg) _, t5 = out(vreg) _, t6 = out(vreg) _, t7 = out(vreg) _,
            c0 = out(vreg) c0, c1 = out(vreg) c1, c2 = out(vreg) c2, c3 = out(vreg) c3,
            d0 = out(vreg) d0, d1 = out(vreg) d1, d2 = out(vreg) d2, d3 = out(vreg) d3,
            options(readonly, nostack)
        );
    }
    [[c0, c1, c2, c3], [d0, d1, d2, d3]]
}
