//! The geometry of a convolution (sizes, strides, padding, groups), and a [`Layer`]: geometry with
//! weights. No heap, core only.

use super::epilogue::Epilogue;

/// A two-dimensional convolution over NHWC, batch 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Rows, columns and channels of the input.
    pub input: [usize; 3],
    /// Rows, columns and channels of the output.
    pub output: [usize; 3],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Distance between kernel taps.
    pub dilation: [usize; 2],
    /// Padding above and to the left; what lies beyond the other edges follows from the output's
    /// size.
    pub pad: [usize; 2],
    /// Input channels are split into this many groups.
    pub groups: usize,
}

impl ConvShape {
    /// Multiply-adds of one run.
    pub fn macs(&self) -> u64 {
        let [h, w, c] = self.output.map(|v| v as u64);
        h * w * c * self.patch_len() as u64
    }

    /// How its weights fall into groups.
    pub fn weights(&self) -> WeightShape {
        WeightShape { channels: self.output[2] / self.groups, taps: self.patch_len(), groups: self.groups }
    }

    /// Values of one group's input under the kernel.
    pub fn patch_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.input[2] / self.groups)
    }

    /// Some rows of the output as a convolution of its own, and which rows of the input that reads.
    /// None, if the first of them lies in the padding below the image with all its taps, or if
    /// there are no rows.
    pub fn rows(&self, rows: core::ops::Range<usize>) -> Option<(Self, core::ops::Range<usize>)> {
        let [h, w, c] = self.input;
        let top = rows.start * self.stride[0];
        let (first, pad) = (top.saturating_sub(self.pad[0]), self.pad[0].saturating_sub(top));
        if rows.is_empty() || first >= h {
            return None;
        }
        let reach = (rows.len() - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1;
        let read = reach.saturating_sub(pad).clamp(1, h - first);
        let output = [rows.len(), self.output[1], self.output[2]];
        Some((Self { input: [read, w, c], output, pad: [pad, self.pad[1]], ..*self }, first..first + read))
    }

    /// Of the outputs along a side (0: down, 1: to the right) those whose taps all lie in the
    /// image.
    pub fn inside(&self, side: usize) -> core::ops::Range<usize> {
        let (stride, pad) = (self.stride[side], self.pad[side]);
        let reach = (self.kernel[side] - 1) * self.dilation[side] + 1;
        let end = (self.input[side] + pad).checked_sub(reach).map_or(0, |room| room / stride + 1).min(self.output[side]);
        pad.div_ceil(stride).min(end)..end
    }

    /// Whether each channel is convolved on its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.input[2] && self.groups == self.output[2]
    }

    /// Whether the input's pixels are the patches: 1x1, stride 1, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.input[..2] == self.output[..2]
    }
}

/// How weights `[groups][channels][taps]` fall into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// Outputs of a group.
    pub channels: usize,
    /// Weights of an output.
    pub taps: usize,
    /// Groups, which share neither inputs nor outputs; 1 of a fully connected layer.
    pub groups: usize,
}

/// A convolution with its numbers, as kernels are given it. `W`: how its weights lie.
#[derive(Debug)]
pub struct Layer<'a, W: ?Sized> {
    /// What it computes.
    pub shape: &'a ConvShape,
    /// The input's zero point.
    pub zero_point: i8,
    /// As the set of kernels that runs it packed them.
    pub weights: &'a W,
    /// What follows its accumulators.
    pub epilogue: Epilogue<'a>,
}

impl<W: ?Sized> Clone for Layer<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: ?Sized> Copy for Layer<'_, W> {}

impl<'a, W: ?Sized> Layer<'a, W> {
    /// The same layer with its weights seen in another way.
    #[inline(always)]
    pub fn with<V: ?Sized>(self, weights: &'a V) -> Layer<'a, V> {
        Layer { shape: self.shape, zero_point: self.zero_point, weights, epilogue: self.epilogue }
    }
}
