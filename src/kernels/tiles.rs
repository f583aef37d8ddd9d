//! Convolutions and products by tiles of four pixels and 16 channels: what the aarch64 sets share, whatever multiplies.
//!
//! Knows no multiplication, and no arithmetic of its own: what follows sums is `quant`'s.
//!
//! Weights lie in panels of 16 channels, `[channels / 16][taps / 4][64]`; how the 64 of a step lie is the multiplication's. 4 x 16
//! sums take 16 of the 32 registers; they begin at the bias and are requantised where they are. Values enter as they are: the
//! zero point's share, `zero_point * sum of weights`, is taken off the bias at load, and padding holds the zero point.

use super::ConvShape;
use super::generic::{Epilogue, EpilogueBlock, LANES};
use super::patches::{Rows, Tiles, row};
use super::requant::{Outputs, Sums};
use core::arch::aarch64::*;
use core::arch::asm;

/// Pixels of a tile.
const PIXELS: usize = 4;
/// Bytes of one step of a panel: four taps of 16 channels.
pub(super) const STEP: usize = 4 * LANES;

/// Multiplies the taps of a few pixels by one panel.
pub(super) trait Multiply {
    /// `sums`, with which each of `N` pixels' begin, plus their products with the first `4 * QUADS` channels of a panel.
    ///
    /// # Safety
    /// `panel` points to [`STEP`] bytes for each four taps, begun ones included.
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        sums: &[i32; LANES],
    ) -> [Sums; N];
}

/// A step of a panel, of its first `4 * QUADS` channels; `panel` goes on to the next step.
///
/// # Safety
/// [`STEP`] bytes are readable there.
#[inline(always)]
pub(super) unsafe fn weights<const QUADS: usize>(panel: &mut *const i8) -> [int8x16_t; QUADS] {
    const { assert!(QUADS == 2 || QUADS == 4) };
    // SAFETY: the caller's promise; the instructions are of aarch64's baseline.
    unsafe {
        let mut registers = [vdupq_n_s8(0); QUADS];
        for [a, b] in registers.as_chunks_mut::<2>().0 {
            asm!(
                "ldp {a:q}, {b:q}, [{panel}], {on}",
                a = out(vreg) *a, b = out(vreg) *b, panel = inout(reg) *panel, on = const 2 * STEP / QUADS,
                options(readonly, nostack, preserves_flags)
            );
        }
        registers
    }
}

/// A convolution that is not depthwise and has one group; see `generic::conv` for the arguments.
#[allow(clippy::too_many_arguments)]
pub(super) fn convolve<M: Multiply, const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let [oh, ow, oc] = s.output;
    assert_eq!(output.len(), oh * ow * oc, "output length");
    let layer = Layer::<REACH>::new(s, weights, e);
    let mut tiles = Tiles::<PIXELS>::new(s, input, zero_point, scratch);
    while let Some((pixel, pixels, rows)) = tiles.next() {
        let out = &mut output[pixel * oc..(pixel + pixels) * oc];
        match pixels {
            PIXELS => layer.whole::<M>(&rows, out),
            1 => layer.part::<M, 1>(&rows.first(), out),
            2 => layer.part::<M, 2>(&rows.first(), out),
            _ => layer.part::<M, PIXELS>(&rows, out),
        }
    }
}

/// A fully connected layer up to its sums; `bias` holds the zero point's share.
pub(super) fn product<M: Multiply>(input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
    let panels = weights.chunks_exact(input.len().div_ceil(4) * STEP);
    let row = row(input, scratch);
    assert!(panels.len() >= sums.len().div_ceil(LANES), "a panel for each 16 sums");
    for ((sums, bias), panel) in sums.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
        // SAFETY: the panel's length is that of all taps.
        let [acc] = unsafe { M::tile::<1, 4>(&row, panel.as_ptr(), &[0; LANES]) };
        let mut whole = [0; LANES];
        for (q, acc) in acc.into_iter().enumerate() {
            // SAFETY: the array holds 16 values, written four at a time.
            unsafe { vst1q_s32(whole.as_mut_ptr().add(4 * q), acc) };
        }
        for ((sum, bias), acc) in sums.iter_mut().zip(bias).zip(whole) {
            *sum = acc.wrapping_add(*bias);
        }
    }
}

/// One layer's panels, one for each block of channels, and what follows them.
struct Layer<'l, const REACH: u8> {
    weights: &'l [i8],
    blocks: &'l [EpilogueBlock],
    /// Bytes of a panel: those of all taps.
    panel_len: usize,
    outputs: Outputs<REACH>,
    /// Output channels.
    oc: usize,
}

impl<'l, const REACH: u8> Layer<'l, REACH> {
    /// Panics if there are not a block and a panel for each 16 channels.
    fn new(s: &ConvShape, weights: &'l [i8], e: Epilogue<'l>) -> Self {
        let (oc, panel_len) = (s.output[2], s.patch_len().div_ceil(4) * STEP);
        assert_eq!(e.blocks.len(), oc.div_ceil(LANES), "a block for each 16 channels");
        assert_eq!(weights.len(), e.blocks.len() * panel_len, "a panel for each block");
        Self { weights, blocks: e.blocks, panel_len, outputs: Outputs::new(&e), oc }
    }

    /// A tile of all its pixels. `out`: `[PIXELS][oc]`.
    #[inline(always)]
    fn whole<M: Multiply>(&self, rows: &Rows<'_, PIXELS>, out: &mut [i8]) {
        assert_eq!(out.len(), PIXELS * self.oc, "outputs of a tile");
        let (whole, rest) = (self.oc / LANES, self.oc % LANES);
        let (blocks, last) = self.blocks.split_at(whole);
        let mut panel = self.weights.as_ptr();
        // SAFETY: each pixel's outputs lie in `out`.
        let mut to: [*mut i8; PIXELS] = core::array::from_fn(|p| unsafe { out.as_mut_ptr().add(p * self.oc) });
        for block in blocks {
            // SAFETY: each block has its panel, and each pixel has outputs of as many whole blocks.
            unsafe {
                let sums = M::tile::<PIXELS, 4>(rows, panel, &block.begin);
                self.outputs.store_whole(sums, block, &mut to);
            }
            panel = panel.wrapping_add(self.panel_len);
        }
        match last.first() {
            Some(block) if rest == 8 => {
                // SAFETY: each pixel has eight outputs behind those of the whole blocks.
                unsafe {
                    let sums = M::tile::<PIXELS, 2>(rows, panel, &block.begin);
                    self.outputs.store_eight(sums, block, &to);
                }
            }
            Some(block) => self.block::<M, PIXELS>(panel, block, whole * LANES, rows, out),
            None => {}
        }
    }

    /// A tile of `N` pixels, of which `out` may have fewer. Kept out of the loop over whole tiles.
    #[inline(never)]
    fn part<M: Multiply, const N: usize>(&self, rows: &Rows<'_, N>, out: &mut [i8]) {
        let mut panel = self.weights.as_ptr();
        for (i, block) in self.blocks.iter().enumerate() {
            self.block::<M, N>(panel, block, i * LANES, rows, out);
            panel = panel.wrapping_add(self.panel_len);
        }
    }

    /// A block and its panel, where pixels or channels may be fewer than sums.
    #[inline(always)]
    fn block<M: Multiply, const N: usize>(
        &self,
        panel: *const i8,
        block: &EpilogueBlock,
        first: usize,
        rows: &Rows<'_, N>,
        out: &mut [i8],
    ) {
        // SAFETY: the panel has the taps of the layer, as the rows have.
        let sums = unsafe {
            match self.oc - first {
                0..=8 => M::tile::<N, 2>(rows, panel, &block.begin),
                _ => M::tile::<N, 4>(rows, panel, &block.begin),
            }
        };
        self.outputs.store_part(sums, block, out, self.oc, first);
    }
}
