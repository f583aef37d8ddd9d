//! Inner loops: on int8 slices convolutions, products and what lies between them; on a frame's rows the sums of preprocessing.
//!
//! Knows no tract, bundle or frame: shapes and slices in, slices out. Every kernel gives the bits that `quant` defines.

pub mod blend;
pub mod generic;
pub mod glue;

#[cfg(all(feature = "std", target_arch = "arm"))]
#[allow(unsafe_code, reason = "kernels in assembly behind checked lengths")]
mod armv7;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod depthwise;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "one instruction without a stable intrinsic, and vector loads behind checked lengths")]
mod dotprod;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "one instruction without a stable intrinsic, and vector loads behind checked lengths")]
mod dotprod_depthwise;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "loops in assembly, and vector stores behind checked lengths")]
mod inorder;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "a loop in assembly behind checked lengths")]
mod listed;
#[cfg(all(feature = "std", any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
mod narrow;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod neon;
#[cfg(all(feature = "std", any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64")))]
#[allow(unsafe_code, reason = "the plan's scratch seen as bytes, and copies behind checked lengths")]
mod patches;
#[cfg(feature = "std")]
#[allow(unsafe_code, reason = "items of a caller that waits, given to other threads")]
pub mod pool;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod requant;
#[cfg(feature = "std")]
pub mod select;
#[cfg(all(feature = "std", any(target_arch = "aarch64", target_arch = "arm")))]
#[allow(unsafe_code, reason = "the plan's scratch seen as numbers")]
mod taps;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
#[allow(unsafe_code, reason = "vector stores behind checked lengths")]
mod tiles;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod vnni;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod vnni_depthwise;
#[cfg(all(feature = "std", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod window;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "calls of functions compiled for features that a token proves")]
mod x86;

#[cfg(feature = "std")]
pub use select::Kernels;

/// What the kernel says of the CPU: the auxiliary vector's AT_HWCAP (Linux, getauxval(3)).
#[cfg(all(feature = "std", any(target_arch = "aarch64", target_arch = "arm")))]
fn capabilities() -> Option<u64> {
    const AT_HWCAP: usize = 16;
    const WORD: usize = size_of::<usize>();
    let words = std::fs::read("/proc/self/auxv").ok()?;
    let mut words = words.as_chunks::<WORD>().0.iter().map(|word| usize::from_ne_bytes(*word));
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_HWCAP {
            return Some(value as u64);
        }
    }
    None
}

/// A convolution's weights, packed for one set of kernels.
#[cfg(feature = "std")]
#[derive(Clone, Debug)]
pub enum Weights {
    /// i16 panels of [`generic::pack`], one group after the other.
    Wide(Vec<i16>),
    /// i8 panels of the kernels for one CPU; the bias holds the zero point's share.
    Narrow(Panels),
}

/// Weights as the kernels for one CPU read them, in blocks of channels.
#[cfg(feature = "std")]
#[derive(Clone, Debug)]
pub struct Panels {
    values: Vec<i8>,
    /// Of each block, whether two weights of -128 meet where a kernel adds their products in i16 (`narrow::meet`). Empty for the sets
    /// that add all products in i32.
    meet: Vec<bool>,
}

#[cfg(feature = "std")]
impl Weights {
    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Wide(w) => 2 * w.len(),
            Self::Narrow(w) => w.values.len(),
        }
    }
}

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
    /// Padding above and to the left; what lies beyond the other edges follows from the output's size.
    pub pad: [usize; 2],
    /// Input channels are split into so many groups.
    pub groups: usize,
}

impl ConvShape {
    /// Multiply-adds of one run.
    pub fn macs(&self) -> u64 {
        let [h, w, c] = self.output.map(|v| v as u64);
        h * w * c * self.patch_len() as u64
    }

    /// Values of one group's input under the kernel.
    pub fn patch_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.input[2] / self.groups)
    }

    /// Some rows of the output as a convolution of its own, and which rows of the input that reads. None, if the first of them
    /// lies in the padding below the picture with all its taps, or if there are no rows.
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

    /// Of the outputs along a side (0: down, 1: to the right) those whose taps all lie in the picture.
    pub fn inside(&self, side: usize) -> core::ops::Range<usize> {
        let (stride, pad) = (self.stride[side], self.pad[side]);
        let reach = (self.kernel[side] - 1) * self.dilation[side] + 1;
        let end = (self.input[side] + pad).checked_sub(reach).map_or(0, |room| room / stride + 1).min(self.output[side]);
        pad.div_ceil(stride).min(end)..end
    }

    /// Whether each channel is convolved by itself.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.input[2] && self.groups == self.output[2]
    }

    /// Whether the input's pixels are the patches: 1x1, stride 1, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.input[..2] == self.output[..2]
    }
}

#[cfg(all(test, feature = "engine"))]
#[allow(unsafe_code, reason = "another library's kernels, whose runs are unsafe")]
mod beside;
#[cfg(all(test, feature = "runtime"))]
#[allow(unsafe_code, reason = "a test's allocator")]
mod guarded;
#[cfg(all(test, feature = "std"))]
mod tests;
