//! Inner loops: convolutions, GEMMs and elementwise operators on int8 slices; resizing of a frame's
//! rows for preprocessing; blocks of a JPEG to samples.
//!
//! Shapes and slices in, slices out. Every kernel gives the bits that `quant` defines. Each folder
//! holds the kernel sets of one architecture: a set implements [`KernelSet`] and inherits the rest
//! from `generic`. The README beside this file tells how to add one.

pub mod blend;
pub mod elementwise;
pub mod epilogue;
pub mod generic;
pub mod inverse_dct;
mod shape;

#[cfg(feature = "std")]
#[allow(unsafe_code, reason = "items of a caller that waits, given to other threads")]
pub mod pool;
#[cfg(feature = "std")]
pub mod select;
#[cfg(feature = "std")]
mod set;

// Shared by the sets of all architectures. 64-bit ARM uses all of it, others a part.
#[cfg(feature = "std")]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "not every architecture uses all of it"))]
mod capabilities;
#[cfg(feature = "std")]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "not every architecture uses all of it"))]
mod panels;
#[cfg(feature = "std")]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "not every architecture uses all of it"))]
#[allow(unsafe_code, reason = "the plan's scratch seen as bytes, and copies behind checked lengths")]
mod patches;
#[cfg(feature = "std")]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "not every architecture uses all of it"))]
#[allow(unsafe_code, reason = "the plan's scratch seen as numbers")]
mod taps;
#[cfg(feature = "std")]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code, reason = "not every architecture uses all of it"))]
mod window;

#[cfg(feature = "std")]
pub use select::Kernels;
#[cfg(feature = "std")]
pub use set::{KernelSet, Panels, Weights};
pub use shape::{ConvShape, Layer, WeightShape};

/// The folder of each architecture that has kernels of its own; the others run `generic` alone.
macro_rules! architectures {
    ($($arch:literal => $folder:ident),+ $(,)?) => {
        $(#[cfg(all(feature = "std", target_arch = $arch))]
        #[allow(unsafe_code, reason = "vector instructions behind checked lengths")]
        mod $folder;)+

        /// The sets of this architecture that this CPU has, the best first.
        #[cfg(feature = "std")]
        fn for_this_cpu() -> Vec<&'static dyn KernelSet> {
            $(#[cfg(target_arch = $arch)]
            return $folder::sets();)+
            #[cfg(not(any($(target_arch = $arch),+)))]
            Vec::new()
        }
    };
}

architectures! {
    "aarch64" => aarch64,
    "arm" => armv7,
    "x86_64" => x86_64,
}

#[cfg(all(test, feature = "engine"))]
#[allow(unsafe_code, reason = "another library's kernels, whose runs are unsafe")]
mod against_tract;
#[cfg(all(test, feature = "line"))]
#[allow(unsafe_code, reason = "a test's allocator")]
mod guarded;
#[cfg(all(test, feature = "std"))]
mod tests;
