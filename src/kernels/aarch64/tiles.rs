//! Convolutions and GEMMs in tiles of four pixels and 16 channels: what the aarch64 kernel sets
//! share, whichever instruction multiplies ([`Multiply`]). `requant` turns the accumulators into
//! outputs.
//!
//! Weights lie in panels of 16 channels, `[channels / 16][taps / 4][64]`; how the 64 of a step lie
//! is the multiplication's. 4 x 16 accumulators take 16 of the 32 registers; they begin at the bias
//! and are requantised where they are. Values enter as they are: the zero point's share,
//! `zero_point * sum of weights`, is taken off the bias at load, and padding holds the zero point.
//! What was taken off weights that do not fit i8 (`Fit::shift`) is made good from the total of a
//! pixel's values, which costs one step of a panel for all of a tile's panels.

use super::requant::{Outputs, Sums, load};
use crate::kernels::epilogue::{EpilogueBlock, Fit, LANES};
use crate::kernels::patches::{Rows, Tiles, bytes, row};
use crate::kernels::{self, Panels};
use core::arch::aarch64::*;
use core::arch::asm;

/// Pixels of a tile.
pub(super) const PIXELS: usize = 4;
/// Bytes of one step of a panel: four taps of 16 channels.
pub(super) const STEP: usize = 4 * LANES;

/// Multiplies the taps of a few pixels by one panel.
pub(super) trait Multiply {
    /// Bytes behind the last panel that are readable.
    const SLACK: usize = 0;
    /// Whether it adds products in i16, where weights of -128 may meet.
    const NARROW: bool = true;

    /// Adds 16 values to a total, four or so to each of its lanes.
    #[inline(always)]
    fn add_up(total: int32x4_t, values: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        unsafe { vpadalq_s16(total, vpaddlq_s8(values)) }
    }

    /// Bytes that [`Multiply::arrange`] needs for a tile of this many taps.
    fn room(_taps: usize) -> usize {
        0
    }

    /// A tile's rows as [`Multiply::tile`] reads them, for all panels: as they lie, or laid out in
    /// `room`.
    #[inline(always)]
    fn arrange<'r, const N: usize>(rows: Rows<'r, N>, _room: &'r mut [i8]) -> Rows<'r, N> {
        rows
    }

    /// `accumulators`, with which each of `N` pixels' begin, plus their products with the first `4
    /// * QUADS` channels of a panel.
    ///
    /// # Safety
    /// `panel` points to [`STEP`] bytes for each four taps, begun ones included, and to as many as
    /// [`Multiply::SLACK`] says behind them. `rows` are as [`Multiply::arrange`] gave them.
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        accumulators: &[i32; LANES],
    ) -> [Sums; N];

    /// The same, of all 16 channels of a panel in which weights of -128 meet
    /// (`Fit::apart`).
    ///
    /// # Safety
    /// As for [`Multiply::tile`].
    unsafe fn tile_apart<const N: usize>(rows: &Rows<'_, N>, panel: *const i8, accumulators: &[i32; LANES]) -> [Sums; N] {
        // SAFETY: the caller's promise.
        unsafe { Self::tile::<N, 4>(rows, panel, accumulators) }
    }
}

/// A step of a panel, of its first `4 * QUADS` channels; `panel` goes on to the next step.
///
/// # Safety
/// [`STEP`] bytes are readable there.
#[inline(always)]
pub(super) unsafe fn weights<const QUADS: usize>(panel: &mut *const i8) -> [int8x16_t; QUADS] {
    const { assert!(QUADS == 1 || QUADS == 2 || QUADS == 4) };
    // SAFETY: the caller's promise; the instructions are of aarch64's baseline.
    unsafe {
        let mut registers = [vdupq_n_s8(0); QUADS];
        if QUADS == 1 {
            asm!(
                "ldr {a:q}, [{panel}], {on}",
                a = out(vreg) registers[0], panel = inout(reg) *panel, on = const STEP,
                options(readonly, nostack, preserves_flags)
            );
        }
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

/// A convolution that is not depthwise; see `KernelSet::conv`. Groups are computed one after the
/// other.
pub(super) fn convolve<M: Multiply, const REACH: u8>(
    layer: kernels::Layer<'_, Panels>,
    input: &[i8],
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let kernels::Layer { shape: s, zero_point, .. } = layer;
    let [oh, ow, oc] = s.output;
    assert_eq!(output.len(), oh * ow * oc, "output length");
    let (room, scratch) = bytes(scratch).split_at_mut(M::room(s.patch_len()));
    for group in 0..s.groups {
        let layer = Group::<REACH>::new::<M>(layer, group);
        let tiles = Tiles::<PIXELS>::new(s, group, input, zero_point, scratch);
        match layer.blocks.iter().any(|block| block.fit.shifted) {
            false => layer.walk::<M, false>(tiles, output, room),
            true => layer.walk::<M, true>(tiles, output, room),
        }
    }
}

/// The total of each pixel's values.
#[inline(never)]
fn totals<M: Multiply, const N: usize>(rows: &Rows<'_, N>) -> [i32; N] {
    /// All bits of 16 values and none of 16 more.
    const FIRST: [i8; 32] = {
        let mut first = [0; 32];
        first.split_at_mut(16).0.copy_from_slice(&[-1; 16]);
        first
    };
    let (whole, rest) = (rows.taps() / 16, rows.taps() % 16);
    // SAFETY: a pixel's taps may be read in whole loads of 16, and 16 of the 32 from 1 to 15 on.
    // NEON is part of aarch64's baseline.
    unsafe {
        let mut totals = [vdupq_n_s32(0); N];
        for i in 0..whole {
            totals = core::array::from_fn(|p| M::add_up(totals[p], vld1q_s8(rows.of(p).add(16 * i))));
        }
        if rest > 0 {
            let first = vld1q_s8(FIRST.as_ptr().add(16 - rest));
            totals = core::array::from_fn(|p| {
                M::add_up(totals[p], vandq_s8(vld1q_s8(rows.of(p).add(16 * whole)), first))
            });
        }
        totals.map(|total| vaddvq_s32(total))
    }
}

/// Adds to a block's accumulators what was taken off its weights: the shift times the total of the
/// pixel's values.
#[inline(always)]
fn shift<const N: usize>(accumulators: &mut [Sums; N], fit: &Fit, totals: &[i32; PIXELS]) {
    let shift = load(&fit.shift);
    for (accumulators, total) in accumulators.iter_mut().zip(totals) {
        for (acc, shift) in accumulators.iter_mut().zip(shift) {
            // SAFETY: NEON is part of aarch64's baseline; registers only.
            *acc = unsafe { vmlaq_n_s32(*acc, shift, *total) };
        }
    }
}

/// A fully connected layer, up to its accumulators. `bias` includes the zero point's share.
pub(super) fn product<M: Multiply>(
    input: &[i8],
    Panels { values: weights, fits }: &Panels,
    bias: &[i32],
    accumulators: &mut [i32],
    scratch: &mut [i16],
) {
    let panel_len = input.len().div_ceil(4) * STEP;
    assert_eq!(weights.len(), accumulators.len().div_ceil(LANES) * panel_len + M::SLACK, "a panel for each 16 accumulators");
    let (room, scratch) = bytes(scratch).split_at_mut(M::room(input.len()));
    let row = M::arrange(row(input, scratch), room);
    let total: i32 = input.iter().map(|x| i32::from(*x)).sum();
    let panels = weights.chunks_exact(panel_len).zip(fits);
    for ((accumulators, bias), (panel, fit)) in accumulators.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
        // SAFETY: the panel's length is that of all taps, and it has the others or the slack behind
        // it.
        let [acc] = unsafe {
            match fit.apart {
                false => M::tile::<1, 4>(&row, panel.as_ptr(), &[0; LANES]),
                true => M::tile_apart(&row, panel.as_ptr(), &[0; LANES]),
            }
        };
        let mut whole = [0; LANES];
        for (q, acc) in acc.into_iter().enumerate() {
            // SAFETY: the array holds 16 values, written four at a time.
            unsafe { vst1q_s32(whole.as_mut_ptr().add(4 * q), acc) };
        }
        for ((sum, bias), (acc, shift)) in accumulators.iter_mut().zip(bias).zip(whole.into_iter().zip(fit.shift)) {
            *sum = acc.wrapping_add(shift * total).wrapping_add(*bias);
        }
    }
}

/// One group of a layer: its panels, one for each block of channels, and what follows them.
struct Group<'l, const REACH: u8> {
    weights: &'l [i8],
    blocks: &'l [EpilogueBlock],
    /// Bytes of a panel: those of all taps.
    panel_len: usize,
    outputs: Outputs<REACH>,
    /// The group's first output channel, how many it has, and how many the layer.
    first: usize,
    channels: usize,
    all: usize,
}

impl<'l, const REACH: u8> Group<'l, REACH> {
    /// Panics if there are not a block and a panel for each 16 channels of each group.
    fn new<M: Multiply>(layer: kernels::Layer<'l, Panels>, group: usize) -> Self {
        let kernels::Layer { shape: s, weights: Panels { values: weights, .. }, epilogue: e, .. } = layer;
        let (all, panel_len) = (s.output[2], s.patch_len().div_ceil(4) * STEP);
        let channels = all / s.groups;
        let blocks = channels.div_ceil(LANES);
        assert_eq!(e.blocks.len(), s.groups * blocks, "a block for each 16 channels");
        assert_eq!(weights.len(), e.blocks.len() * panel_len + M::SLACK, "a panel for each block");
        Self {
            weights: &weights[group * blocks * panel_len..],
            blocks: &e.blocks[group * blocks..][..blocks],
            panel_len,
            outputs: Outputs::new(&e),
            first: group * channels,
            channels,
            all,
        }
    }

    /// All its tiles. `SHIFTED`: whether a block is (`Fit::shifted`).
    fn walk<M: Multiply, const SHIFTED: bool>(
        &self,
        mut tiles: Tiles<'_, PIXELS>,
        output: &mut [i8],
        room: &mut [i8],
    ) {
        while let Some((pixel, pixels, rows)) = tiles.next() {
            let totals = if SHIFTED { totals::<M, PIXELS>(&rows) } else { [0; PIXELS] };
            let out = &mut output[pixel * self.all..(pixel + pixels) * self.all];
            match pixels {
                PIXELS => self.whole::<M, SHIFTED>(&M::arrange(rows, room), &totals, out),
                1 => self.part::<M, 1>(&M::arrange(rows.first(), room), &totals, out),
                2 => self.part::<M, 2>(&M::arrange(rows.first(), room), &totals, out),
                _ => self.part::<M, PIXELS>(&M::arrange(rows, room), &totals, out),
            }
        }
    }

    /// A tile of all its pixels, whose values have these totals. `out`: `[PIXELS]` of all the
    /// layer's channels.
    #[inline(always)]
    fn whole<M: Multiply, const SHIFTED: bool>(&self, rows: &Rows<'_, PIXELS>, totals: &[i32; PIXELS], out: &mut [i8]) {
        assert!(
            out.len() == PIXELS * self.all && self.first + self.channels <= self.all,
            "outputs of a tile, and the group's among them"
        );
        let (whole, rest) = (self.channels / LANES, self.channels % LANES);
        let (blocks, last) = self.blocks.split_at(whole);
        let mut panel = self.weights.as_ptr();
        // Each pixel's outputs from the group's channel `at` on, which lie in `out`.
        let outputs_from = |out: &mut [i8], at: usize| -> [*mut i8; PIXELS] {
            core::array::from_fn(|p| out.as_mut_ptr().wrapping_add(p * self.all + self.first + at))
        };
        let mut to = outputs_from(out, 0);
        let shifted = |mut accumulators: [Sums; PIXELS], block: &EpilogueBlock| {
            if SHIFTED && block.fit.shifted {
                shift(&mut accumulators, &block.fit, totals);
            }
            accumulators
        };
        for (i, block) in blocks.iter().enumerate() {
            if M::NARROW && block.fit.apart {
                self.apart::<M, PIXELS>(panel, block, i * LANES, rows, totals, out);
                to = outputs_from(out, (i + 1) * LANES);
            } else {
                // SAFETY: each block has its panel, and each pixel has outputs of as many whole
                // blocks.
                unsafe {
                    let accumulators = shifted(M::tile::<PIXELS, 4>(rows, panel, &block.begin), block);
                    self.outputs.store_whole(accumulators, block, &mut to);
                }
            }
            panel = panel.wrapping_add(self.panel_len);
        }
        match last.first() {
            // SAFETY: the block has its panel, and each pixel has `rest` outputs after those of
            // the whole blocks.
            Some(block) if rest == 8 && !block.fit.apart => unsafe {
                self.outputs.store_eight(shifted(M::tile::<PIXELS, 2>(rows, panel, &block.begin), block), block, &to);
            },
            // SAFETY: the same.
            Some(block) if rest == 4 && !block.fit.apart => unsafe {
                self.outputs.store_four(shifted(M::tile::<PIXELS, 1>(rows, panel, &block.begin), block), block, &to);
            },
            Some(block) => self.block::<M, PIXELS>(panel, block, whole * LANES, rows, totals, out),
            None => {}
        }
    }

    /// A tile of `N` pixels, of which `out` may have fewer. Kept out of the loop over whole tiles.
    #[inline(never)]
    fn part<M: Multiply, const N: usize>(&self, rows: &Rows<'_, N>, totals: &[i32; PIXELS], out: &mut [i8]) {
        let mut panel = self.weights.as_ptr();
        for (i, block) in self.blocks.iter().enumerate() {
            self.block::<M, N>(panel, block, i * LANES, rows, totals, out);
            panel = panel.wrapping_add(self.panel_len);
        }
    }

    /// A block and its panel, from the group's channel `at` on, where pixels or channels may be
    /// fewer than accumulators.
    #[inline(always)]
    fn block<M: Multiply, const N: usize>(
        &self,
        panel: *const i8,
        block: &EpilogueBlock,
        at: usize,
        rows: &Rows<'_, N>,
        totals: &[i32; PIXELS],
        out: &mut [i8],
    ) {
        if M::NARROW && block.fit.apart {
            return self.apart::<M, N>(panel, block, at, rows, totals, out);
        }
        let channels = LANES.min(self.channels - at);
        // SAFETY: the panel has the taps of the layer, as the rows have.
        let mut accumulators = unsafe {
            match channels {
                0..=4 => M::tile::<N, 1>(rows, panel, &block.begin),
                5..=8 => M::tile::<N, 2>(rows, panel, &block.begin),
                _ => M::tile::<N, 4>(rows, panel, &block.begin),
            }
        };
        if block.fit.shifted {
            shift(&mut accumulators, &block.fit, totals);
        }
        self.outputs.store_part(accumulators, block, out, self.all, self.first + at..self.first + at + channels);
    }

    /// The same where weights of -128 meet, which is seldom: kept out of the loops, whose
    /// accumulators it would put aside.
    #[inline(never)]
    fn apart<M: Multiply, const N: usize>(
        &self,
        panel: *const i8,
        block: &EpilogueBlock,
        at: usize,
        rows: &Rows<'_, N>,
        totals: &[i32; PIXELS],
        out: &mut [i8],
    ) {
        let channels = LANES.min(self.channels - at);
        // SAFETY: the panel has the taps of the layer, as the rows have.
        let mut accumulators = unsafe { M::tile_apart(rows, panel, &block.begin) };
        if block.fit.shifted {
            shift(&mut accumulators, &block.fit, totals);
        }
        self.outputs.store_part(accumulators, block, out, self.all, self.first + at..self.first + at + channels);
    }
}
