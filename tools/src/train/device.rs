//! The device that trains a network: the CPU, or a GPU if the tools were built for one.

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};

/// Where to train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceName {
    /// All cores; the same command gives the same bits.
    #[default]
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX, in tools built with `--features wgpu`.
    Wgpu,
    /// An NVIDIA GPU, in tools built with `--features cuda`.
    Cuda,
}

impl DeviceName {
    /// Its name, which is also that of the feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device, tried. Fails if the tools were built without it or this machine has none.
    pub fn open(self) -> Result<Device> {
        let name = self.name();
        let device = self.built().with_context(|| {
            format!("--device {name}: these tools were built without it; build them with `cargo build --release --features tagpin-tools/{name}`")
        })?;
        // The framework panics if there is no GPU.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let tried = std::panic::catch_unwind(|| Tensor::<1>::ones([1], &device).into_data());
        std::panic::set_hook(hook);
        ensure!(
            tried.is_ok(),
            "--device {name}: this machine has no such GPU, or its driver is missing; train with --device cpu"
        );
        Ok(device)
    }

    fn built(self) -> Option<Device> {
        match self {
            Self::Cpu => Some(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(Device::cuda(0)),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}
