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
    /// What `N` pixels' sums begin with, plus their products with the first `4 * QUADS` channels of a panel.
    ///
    /// # Safety
    /// `panel` points to [`STEP`] bytes for each four taps, begun ones included.
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        begin: &[i32; LANES],
    ) -> [Sums; N];
}

/// A step of a panel, of its first `4 * QUADS` channels; `panel` goes on to the next step.
///
/// # Safety
/// [`STEP`] bytes are readable there.
#[inline(always)]
pub(super) unsafe fn weights<const QUADS: usize>(panel: &mut *const i8) -> [int8x16_t; QUADS] {
    const { assert!(QUADS == 2 || QUADS == 4) };
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    let pair = |panel: &mut *const i8| unsafe {
        let (a, b): (int8x16_t, int8x16_t);
        macro_rules! load {
            ($on:literal) => {
                asm!(
                    concat!("ldp {a:q}, {b:q}, [{panel}], #", $on),
                    a = out(vreg) a, b = out(vreg) b, panel = inout(reg) *panel,
                    options(readonly, nostack, preserves_flags)
                )
            };
        }
        if QUADS == 2 {
            load!(64)
        } else {
            load!(32)
        }
        [a, b]
    };
    let first = pair(panel);
    let second = if QUADS == 2 { first } else { pair(panel) };
    core::array::from_fn(|q| if q < 2 { first[q] } else { second[q - 2] })
}

/// All panels of a layer, one after the other: one for each block of channels.
#[derive(Clone, Copy)]
struct Panels<'w> {
    weights: &'w [i8],
    blocks: &'w [EpilogueBlock],
    /// Bytes of a panel: those of all taps.
    len: usize,
}

impl<'w> Panels<'w> {
    /// Panics if the weights are not a panel of so many taps for each block.
    fn new(weights: &'w [i8], blocks: &'w [EpilogueBlock], taps: usize) -> Self {
        let len = taps.div_ceil(4) * STEP;
        assert_eq!(weights.len(), blocks.len() * len, "a panel for each block of channels");
        Self { weights, blocks, len }
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
    assert_eq!(e.blocks.len(), oc.div_ceil(LANES), "blocks of all channels");
    let layer = Layer { panels: Panels::new(weights, e.blocks, s.patch_len()), outputs: Outputs::<REACH>::new(&e), oc };
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

/// One layer's panels and what follows them.
#[derive(Clone, Copy)]
struct Layer<'l, const REACH: u8> {
    panels: Panels<'l>,
    outputs: Outputs<REACH>,
    /// Output channels.
    oc: usize,
}

impl<const REACH: u8> Layer<'_, REACH> {
    /// A tile of all its pixels. `out`: `[PIXELS][oc]`.
    #[inline(always)]
    fn whole<M: Multiply>(&self, rows: &Rows<'_, PIXELS>, out: &mut [i8]) {
        assert_eq!(out.len(), PIXELS * self.oc, "outputs of a tile");
        let (whole, rest) = (self.oc / LANES, self.oc % LANES);
        let (blocks, last) = self.panels.blocks.split_at(whole);
        let mut panel = self.panels.weights.as_ptr();
        // SAFETY: each pixel's outputs lie in `out`.
        let mut to: [*mut i8; PIXELS] = core::array::from_fn(|p| unsafe { out.as_mut_ptr().add(p * self.oc) });
        for block in blocks {
            // SAFETY: each block has its panel, and each pixel has outputs of as many whole blocks.
            unsafe {
                let sums = M::tile::<PIXELS, 4>(rows, panel, &block.begin);
                self.outputs.store_whole(sums, block, &mut to);
            }
            panel = panel.wrapping_add(self.panels.len);
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
        let mut panel = self.panels.weights.as_ptr();
        for (i, block) in self.panels.blocks.iter().enumerate() {
            self.block::<M, N>(panel, block, i * LANES, rows, out);
            panel = panel.wrapping_add(self.panels.len);
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
