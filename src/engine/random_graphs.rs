//! Random quantised graphs: what every set of kernels computes is what the definitions give, operator by operator.
//!
//! Each graph is drawn node by node, and each node's result computed in the plainest way while it is drawn.

use super::plan::Engine;
use super::proto::{Attribute, Constant, Graph, Node, Values};
use crate::kernels::Kernels;
use crate::quant::{Clamp, add_rndne, logit_q16, quantise, requant_rndne};
use crate::random::Random;
use std::collections::HashMap;

/// An int8 tensor as the definitions computed it: rows, columns, channels; step; zero point.
#[derive(Clone)]
struct Tensor {
    name: String,
    dims: [usize; 3],
    values: Vec<i8>,
    scale: f32,
    zero_point: i8,
}

impl Tensor {
    fn at(&self, y: usize, x: usize, c: usize) -> i8 {
        self.values[(y * self.dims[1] + x) * self.dims[2] + c]
    }

    /// Less the zero point; nothing outside the picture.
    fn centred(&self, y: i64, x: i64, c: usize) -> i32 {
        let inside = y >= 0 && x >= 0 && y < self.dims[0] as i64 && x < self.dims[1] as i64;
        if inside { self.at(y as usize, x as usize, c) as i32 - self.zero_point as i32 } else { 0 }
    }
}

struct Drawing {
    random: Random,
    nodes: Vec<Node>,
    constants: HashMap<String, Constant>,
    tensors: Vec<Tensor>,
}

type Attributes<'a> = &'a [(&'a str, Attribute)];

impl Drawing {
    fn number(&mut self, lo: i32, hi: i32) -> usize {
        self.random.range(lo, hi) as usize
    }

    fn pick<const N: usize>(&mut self, of: [usize; N]) -> usize {
        of[self.number(0, N as i32 - 1)]
    }

    fn constant(&mut self, dims: &[usize], values: Values) -> String {
        let name = format!("k{}", self.constants.len());
        self.constants.insert(name.clone(), Constant { dims: dims.to_vec(), values });
        name
    }

    fn node(&mut self, op: &str, inputs: &[String], attributes: Attributes<'_>) -> String {
        let name = format!("n{}", self.nodes.len());
        let attributes = attributes.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let (op, inputs, outputs) = (op.to_string(), inputs.to_vec(), vec![name.clone()]);
        self.nodes.push(Node { name: name.clone(), op, inputs, outputs, attributes });
        name
    }

    /// A step and zero point, as constants of either kind of int8.
    fn quant(&mut self) -> (f32, i8, [String; 2]) {
        let (scale, zero_point) = (self.random.range(20, 900) as f32 * 1e-4, self.random.range(-128, 127) as i8);
        let stored = match self.number(0, 1) {
            0 => Values::I8(vec![zero_point]),
            _ => Values::U8(vec![(zero_point as i16 + 128) as u8]),
        };
        (scale, zero_point, [self.constant(&[], Values::F32(vec![scale])), self.constant(&[], stored)])
    }

    fn dequantised(&mut self, t: &Tensor) -> String {
        let scale = self.constant(&[], Values::F32(vec![t.scale]));
        let zero_point = self.constant(&[], Values::I8(vec![t.zero_point]));
        self.node("DequantizeLinear", &[t.name.clone(), scale, zero_point], &[])
    }

    /// Quantises a real result, after a clip or none, and keeps what `f` says its values are.
    fn quantised(&mut self, real: String, dims: [usize; 3], clip: bool, f: impl Fn(usize, f32, Clamp) -> i8) {
        let (scale, zero_point, [s, z]) = self.quant();
        let (mut real, mut clamp) = (real, Clamp::full(zero_point));
        if clip {
            let (lo, hi) = (0.0, scale * self.random.range(30, 300) as f32);
            let [min, max] = [lo, hi].map(|x| self.constant(&[], Values::F32(vec![x])));
            real = self.node("Clip", &[real, min, max], &[]);
            clamp = Clamp { lo: quantise(lo, scale, zero_point), hi: quantise(hi, scale, zero_point), zero_point };
        }
        let name = self.node("QuantizeLinear", &[real, s, z], &[]);
        let values = (0..dims.iter().product()).map(|i| f(i, scale, clamp)).collect();
        self.tensors.push(Tensor { name, dims, values, scale, zero_point });
    }

    fn any(&mut self) -> Tensor {
        // The newest more often: graphs that are deep.
        let n = self.tensors.len() as i32;
        let i = self.number(0, n - 1).max(self.number(0, n - 1));
        self.tensors[i].clone()
    }

    fn conv(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let kernel = self.pick([1, 1, 3, 3, 5, 2]);
        let stride = self.pick([1, 1, 2]);
        let dilation = if kernel == 3 { self.pick([1, 1, 2]) } else { 1 };
        let pad = self.number(0, kernel as i32 / 2);
        let reach = (kernel - 1) * dilation + 1;
        if reach > h + 2 * pad || reach > w + 2 * pad {
            return;
        }
        let groups = match self.number(0, 3) {
            0 => c,
            1 if c.is_multiple_of(2) => 2,
            _ => 1,
        };
        let out = if groups == c && c > 1 { c } else { groups * self.number(1, 24) };
        let (cg, taps) = (c / groups, c / groups * kernel * kernel);
        let widest = self.pick([127, 127, 40]) as i32;
        let weights: Vec<i8> = (0..out * taps).map(|_| self.random.range(-widest, widest) as i8).collect();
        let steps = if self.number(0, 1) == 0 { 1 } else { out };
        let scales: Vec<f32> = (0..steps).map(|_| self.random.range(1, 300) as f32 * 1e-4).collect();
        let bias: Vec<i32> = (0..out).map(|_| self.random.range(-9000, 9000)).collect();
        let real = self.dequantised(&t);
        let axis = [("axis", Attribute::Int(0))];
        let dims = [out, cg, kernel, kernel];
        let w_in = [
            self.constant(&dims, Values::I8(weights.clone())),
            self.constant(&[steps], Values::F32(scales.clone())),
            self.constant(&[steps], Values::I8(vec![0; steps])),
        ];
        let w_in = self.node("DequantizeLinear", &w_in, &axis);
        let b_in = [
            self.constant(&[out], Values::I32(bias.clone())),
            self.constant(&[steps], Values::F32(scales.iter().map(|s| t.scale * s).collect())),
            self.constant(&[steps], Values::I32(vec![0; steps])),
        ];
        let b_in = self.node("DequantizeLinear", &b_in, &axis);
        let pair = |v: usize| Attribute::Ints(vec![v as i64; 2]);
        let attributes = [
            ("strides", pair(stride)),
            ("dilations", pair(dilation)),
            ("pads", Attribute::Ints(vec![pad as i64; 4])),
            ("group", Attribute::Int(groups as i64)),
        ];
        let real = self.node("Conv", &[real, w_in, b_in], &attributes);
        let size = |n: usize| (n + 2 * pad - reach) / stride + 1;
        let clip = self.number(0, 1) == 0;
        let [oh, ow] = [size(h), size(w)];
        self.quantised(real, [oh, ow, out], clip, |i, scale, clamp| {
            let (y, x, o) = (i / out / ow, i / out % ow, i % out);
            let mut acc = bias[o];
            for (ci, k) in (0..cg).flat_map(|ci| (0..kernel * kernel).map(move |k| (ci, k))) {
                let sy = (y * stride + k / kernel * dilation) as i64 - pad as i64;
                let sx = (x * stride + k % kernel * dilation) as i64 - pad as i64;
                let weight = weights[(o * cg + ci) * kernel * kernel + k] as i32;
                acc += t.centred(sy, sx, o / (out / groups) * cg + ci) * weight;
            }
            requant_rndne(acc, t.scale * scales[o % steps] / scale, clamp)
        });
    }

    fn two(&mut self) {
        let a = self.any();
        let b = self.any();
        let add = self.number(0, 1) == 0;
        let pixel = !add && b.dims[..2] == [1, 1] && b.dims[2] == a.dims[2];
        if a.dims != b.dims && !pixel {
            return;
        }
        let inputs = [self.dequantised(&a), self.dequantised(&b)];
        let real = self.node(if add { "Add" } else { "Mul" }, &inputs, &[]);
        let clip = self.number(0, 2) == 0;
        self.quantised(real, a.dims, clip, |i, scale, clamp| {
            let (x, y) = (a.values[i], b.values[i % b.values.len()]);
            match add {
                true => add_rndne(x, a.zero_point, a.scale / scale, y, b.zero_point, b.scale / scale, clamp),
                false => {
                    let product = (x as i32 - a.zero_point as i32) * (y as i32 - b.zero_point as i32);
                    requant_rndne(product, a.scale * b.scale / scale, clamp)
                }
            }
        });
    }

    fn function(&mut self) {
        let t = self.any();
        let real = self.dequantised(&t);
        let (op, f): (_, fn(f32) -> f32) = match self.number(0, 2) {
            0 => ("Relu", |x| x.max(0.0)),
            1 => ("HardSwish", |x| x * (1.0 / 6.0 * x + 0.5).clamp(0.0, 1.0)),
            _ => ("LeakyRelu", |x| if x < 0.0 { 0.01 * x } else { x }),
        };
        let real = self.node(op, &[real], &[]);
        self.quantised(real, t.dims, false, |i, scale, clamp| {
            let x = (t.values[i] as i32 - t.zero_point as i32) as f32 * t.scale;
            quantise(f(x), scale, clamp.zero_point)
        });
    }

    fn concat(&mut self) {
        let a = self.any();
        let b = self.any();
        if a.dims[..2] != b.dims[..2] || a.dims[2] + b.dims[2] > 64 {
            return;
        }
        let inputs = [self.dequantised(&a), self.dequantised(&b)];
        let real = self.node("Concat", &inputs, &[("axis", Attribute::Int(1))]);
        let all = a.dims[2] + b.dims[2];
        self.quantised(real, [a.dims[0], a.dims[1], all], false, |i, scale, clamp| {
            let (pixel, c) = (i / all, i % all);
            let (t, c) = if c < a.dims[2] { (&a, c) } else { (&b, c - a.dims[2]) };
            let q = t.values[pixel * t.dims[2] + c] as i32 - t.zero_point as i32;
            quantise(q as f32 * t.scale, scale, clamp.zero_point)
        });
    }

    /// A pool; a maximum keeps step and zero point, an average does not.
    fn pool(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let kernel = self.number(2, 3);
        let stride = self.number(1, 2);
        if kernel > h || kernel > w {
            return;
        }
        let pair = |v: usize| Attribute::Ints(vec![v as i64; 2]);
        let attributes = [("kernel_shape", pair(kernel)), ("strides", pair(stride)), ("pads", Attribute::Ints(vec![1; 4]))];
        let [oh, ow] = [h, w].map(|n| (n + 2 - kernel) / stride + 1);
        let taps = |i: usize| {
            let (y, x, c) = (i / c / ow, i / c % ow, i % c);
            let place = move |k: usize, o: usize| (o * stride + k) as i64 - 1;
            (0..kernel * kernel)
                .map(move |k| (place(k / kernel, y), place(k % kernel, x), c))
                .filter(move |(y, x, _)| *y >= 0 && *x >= 0 && *y < h as i64 && *x < w as i64)
        };
        if self.number(0, 1) == 0 {
            let name = self.node("MaxPool", std::slice::from_ref(&t.name), &attributes);
            let at = |(y, x, c): (i64, i64, usize)| t.at(y as usize, x as usize, c);
            let values = (0..oh * ow * c).map(|i| taps(i).map(at).max().unwrap_or(i8::MIN)).collect();
            self.tensors.push(Tensor { name, dims: [oh, ow, c], values, ..t });
            return;
        }
        let real = self.dequantised(&t);
        let real = self.node("AveragePool", &[real], &attributes);
        self.quantised(real, [oh, ow, c], false, |i, scale, clamp| {
            let sum: i32 = taps(i).map(|(y, x, c)| t.centred(y, x, c)).sum();
            requant_rndne(sum, t.scale / scale / taps(i).count() as f32, clamp)
        });
    }

    fn global_average(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let real = self.dequantised(&t);
        let real = self.node("GlobalAveragePool", &[real], &[]);
        self.quantised(real, [1, 1, c], false, |i, scale, clamp| {
            let sum: i32 = (0..h * w).map(|p| t.values[p * c + i] as i32 - t.zero_point as i32).sum();
            requant_rndne(sum, t.scale / (scale * (h * w) as f32), clamp)
        });
    }

    /// Channels shuffled, on the int8 tensor itself.
    fn shuffle(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let groups = self.pick([2, 3, 4]);
        if !c.is_multiple_of(groups) || c == groups {
            return;
        }
        let shape = |dims: &[usize]| Values::I64(dims.iter().map(|d| *d as i64).collect());
        let grouped = self.constant(&[5], shape(&[1, groups, c / groups, h, w]));
        let name = self.node("Reshape", &[t.name.clone(), grouped], &[]);
        let name = self.node("Transpose", &[name], &[("perm", Attribute::Ints(vec![0, 2, 1, 3, 4]))]);
        let whole = self.constant(&[4], shape(&[1, c, h, w]));
        let name = self.node("Reshape", &[name, whole], &[]);
        let from = |i: usize| i / c * c + i % c % groups * (c / groups) + i % c / groups;
        let values = (0..t.values.len()).map(|i| t.values[from(i)]).collect();
        self.tensors.push(Tensor { name, values, ..t });
    }
}

fn drawn(seed: u64) -> (Graph, Vec<i8>, Vec<i32>) {
    let random = Random::new(seed, 11);
    let mut d = Drawing { random, nodes: Vec::new(), constants: HashMap::new(), tensors: Vec::new() };
    let dims @ [h, w, c] = [d.number(1, 9), d.number(1, 9), d.pick([1, 3, 8, 16, 20])];
    let (scale, zero_point, [s, z]) = d.quant();
    let name = d.node("QuantizeLinear", &["in".into(), s, z], &[]);
    let input: Vec<i8> = (0..h * w * c).map(|_| d.random.range(-128, 127) as i8).collect();
    d.tensors.push(Tensor { name, dims, values: input.clone(), scale, zero_point });
    for _ in 0..d.number(2, 12) {
        match d.number(0, 10) {
            0..=3 => d.conv(),
            4 | 5 => d.two(),
            6 => d.function(),
            7 => d.concat(),
            8 => d.pool(),
            9 => d.global_average(),
            _ => d.shuffle(),
        }
    }
    let last = d.tensors.last().unwrap().clone();
    let expected = last.values.iter().map(|q| logit_q16(*q as i32 - last.zero_point as i32, last.scale)).collect();
    let output = last.name;
    let graph = Graph { nodes: d.nodes, constants: d.constants, input: "in".into(), input_dims: vec![1, c, h, w], output };
    (graph, input, expected)
}

#[test]
fn two_hundred_random_graphs_give_what_the_definitions_give() {
    let mut operators: HashMap<String, usize> = HashMap::new();
    for seed in 0..200 {
        let (graph, input, expected) = drawn(seed);
        for node in &graph.nodes {
            *operators.entry(node.op.clone()).or_default() += 1;
        }
        for kernels in Kernels::available() {
            let lowered = super::lower::lower(&graph, kernels).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let mut engine = Engine::build(kernels, lowered).unwrap();
            let mut logits = vec![0; engine.spec().logits];
            engine.infer(&input, &mut logits).unwrap();
            assert!(logits == expected, "seed {seed}, {}: {:?}", kernels.name(), engine.nodes());
        }
    }
    eprintln!("{operators:?}");
    for op in [
        "Conv",
        "Add",
        "Mul",
        "Relu",
        "HardSwish",
        "LeakyRelu",
        "Concat",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Transpose",
    ] {
        assert!(operators[op] > 5, "{op} was hardly drawn");
    }
}
