//! Random graphs of f32 and int8 mixed: what islands and plan give together is what the definitions
//! give.
//!
//! As in [`super::random_graphs`], each node's result is computed in the plainest way while it is
//! drawn, here in f64. Where a value is quantised, none may lie so near to the middle of two codes
//! that f32 could round it to the other one.

use super::plan::Engine;
use super::proto::{Attribute, Constant, Graph, Node, Type, Values};
use super::random_graphs::tests::setting;
use crate::kernels::Kernels;
use crate::random::Random;
use std::collections::HashMap;

/// `[1, c, h, w]`, in ONNX's order.
#[derive(Clone)]
struct Tensor {
    name: String,
    dims: [usize; 4],
    values: Vec<f64>,
}

impl Tensor {
    fn at(&self, [_, c, y, x]: [usize; 4]) -> f64 {
        let [_, _, h, w] = self.dims;
        self.values[(c * h + y) * w + x]
    }
}

/// Each index of a tensor of this shape, in order.
fn indices([n, c, h, w]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..n * c * h * w).map(move |i| [i / w / h / c, i / w / h % c, i / w % h, i % w])
}

struct Drawing {
    random: Random,
    nodes: Vec<Node>,
    constants: HashMap<String, Constant>,
    tensors: Vec<Tensor>,
}

impl Drawing {
    fn number(&mut self, lo: i32, hi: i32) -> usize {
        self.random.range(lo, hi) as usize
    }

    fn real(&mut self) -> f32 {
        self.random.range(-1000, 1000) as f32 * 1e-3
    }

    fn constant(&mut self, dims: &[usize], values: Values) -> String {
        let name = format!("k{}", self.constants.len());
        self.constants.insert(name.clone(), Constant { dims: dims.to_vec(), values });
        name
    }

    fn reals(&mut self, dims: &[usize]) -> (String, Vec<f32>) {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.real()).collect();
        (self.constant(dims, Values::F32(values.clone())), values)
    }

    fn node(&mut self, op: &str, inputs: &[String], attributes: &[(&str, Attribute)]) -> String {
        let name = format!("n{}", self.nodes.len());
        let attributes = attributes.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let (op, inputs, outputs) = (op.to_string(), inputs.to_vec(), vec![name.clone()]);
        self.nodes.push(Node { name: name.clone(), op, microsoft: false, inputs, outputs, attributes });
        name
    }

    fn any(&mut self) -> Tensor {
        let n = self.tensors.len() as i32;
        let i = self.number(0, n - 1).max(self.number(0, n - 1));
        self.tensors[i].clone()
    }

    fn keep(&mut self, name: String, dims: [usize; 4], f: impl Fn([usize; 4]) -> f64) {
        self.tensors.push(Tensor { name, dims, values: indices(dims).map(f).collect() });
    }

    fn conv(&mut self) {
        let t = self.any();
        let [_, c, h, w] = t.dims;
        let (out, kernel) = (self.number(1, 5), self.number(1, 3));
        if kernel > h + 1 || kernel > w {
            return;
        }
        let (k, weights) = self.reals(&[out, c, kernel, kernel]);
        let (b, bias) = self.reals(&[out]);
        // One row above, none below.
        let pads = ("pads", Attribute::Ints(vec![1, 0, 0, 0]));
        let name = self.node("Conv", &[t.name.clone(), k, b], &[pads]);
        self.keep(name, [1, out, h + 2 - kernel, w + 1 - kernel], |[_, o, y, x]| {
            let mut sum = bias[o] as f64;
            for [_, ci, ky, kx] in indices([1, c, kernel, kernel]).filter(|[_, _, ky, _]| y + ky > 0) {
                sum += weights[((o * c + ci) * kernel + ky) * kernel + kx] as f64 * t.at([0, ci, y + ky - 1, x + kx]);
            }
            sum
        });
    }

    fn unary(&mut self) {
        let t = self.any();
        let (op, f): (_, fn(f64) -> f64) = match self.number(0, 6) {
            0 => ("Relu", |x| x.max(0.0)),
            1 => ("Sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
            2 => ("Tanh", f64::tanh),
            3 => ("Mish", |x| x * x.exp().ln_1p().tanh()),
            4 => ("Softplus", |x| x.exp().ln_1p()),
            5 => ("HardSwish", |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            _ => ("Neg", |x| -x),
        };
        let name = self.node(op, std::slice::from_ref(&t.name), &[]);
        self.keep(name, t.dims, |at| f(t.at(at)));
    }

    /// Two tensors that broadcast.
    fn two(&mut self) {
        let (a, b) = (self.any(), self.any());
        if !(0..4).all(|i| a.dims[i] == b.dims[i] || a.dims[i] == 1 || b.dims[i] == 1) {
            return;
        }
        let (op, f): (_, fn(f64, f64) -> f64) = match self.number(0, 3) {
            0 => ("Add", |a, b| a + b),
            1 => ("Sub", |a, b| a - b),
            2 => ("Max", f64::max),
            _ => ("Mul", |a, b| a * b),
        };
        let name = self.node(op, &[a.name.clone(), b.name.clone()], &[]);
        let dims = std::array::from_fn(|i| a.dims[i].max(b.dims[i]));
        let of = |t: &Tensor, at: [usize; 4]| t.at(std::array::from_fn(|i| at[i] % t.dims[i]));
        self.keep(name, dims, |at| f(of(&a, at), of(&b, at)));
    }

    /// What goes over one axis: its values as a row, the result for each.
    fn along(&mut self) {
        let t = self.any();
        let axis = self.number(1, 3);
        let row = |at: [usize; 4]| -> Vec<f64> {
            let place = |i| std::array::from_fn(|a| if a == axis { i } else { at[a] });
            (0..t.dims[axis]).map(|i| t.at(place(i))).collect()
        };
        let ty = Attribute::Int(axis as i64);
        let mut one = t.dims;
        one[axis] = 1;
        match self.number(0, 3) {
            0 => {
                let name = self.node("Softmax", std::slice::from_ref(&t.name), &[("axis", ty)]);
                let share = |at: [usize; 4]| {
                    let row = row(at);
                    row[at[axis]].exp() / row.iter().map(|x| x.exp()).sum::<f64>()
                };
                self.keep(name, t.dims, share);
            }
            1 => {
                let axes = self.constant(&[1], Values::I64(vec![axis as i64]));
                let name = self.node("ReduceMax", &[t.name.clone(), axes], &[]);
                self.keep(name, one, |at| row(at).into_iter().fold(f64::NEG_INFINITY, f64::max));
            }
            2 => {
                let axes = self.constant(&[1], Values::I64(vec![axis as i64]));
                let name = self.node("ReduceMean", &[t.name.clone(), axes], &[]);
                self.keep(name, one, |at| row(at).iter().sum::<f64>() / t.dims[axis] as f64);
            }
            _ => {
                let inner = t.dims[3];
                let (k, scale) = self.reals(&[inner]);
                let (b, bias) = self.reals(&[inner]);
                let epsilon = ("epsilon", Attribute::Float(0.5));
                let name = self.node("LayerNormalization", &[t.name.clone(), k, b], &[epsilon]);
                self.keep(name, t.dims, |at| {
                    let row: Vec<f64> = (0..inner).map(|x| t.at([0, at[1], at[2], x])).collect();
                    let mean = row.iter().sum::<f64>() / inner as f64;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / inner as f64;
                    (row[at[3]] - mean) / (variance + 0.5).sqrt() * scale[at[3]] as f64 + bias[at[3]] as f64
                });
            }
        }
    }

    fn moved(&mut self) {
        let t = self.any();
        let [_, c, h, w] = t.dims;
        match self.number(0, 2) {
            0 => {
                let perm = ("perm", Attribute::Ints(vec![0, 3, 1, 2]));
                let name = self.node("Transpose", std::slice::from_ref(&t.name), &[perm]);
                self.keep(name, [1, w, c, h], |[_, a, b, c]| t.at([0, b, c, a]));
            }
            1 if h * w <= 16 => {
                let empty = String::new();
                let scales = self.constant(&[4], Values::F32(vec![1.0, 1.0, 2.0, 3.0]));
                let how = [
                    ("mode", Attribute::Text("nearest".into())),
                    ("nearest_mode", Attribute::Text("floor".into())),
                    ("coordinate_transformation_mode", Attribute::Text("asymmetric".into())),
                ];
                let name = self.node("Resize", &[t.name.clone(), empty, scales], &how);
                self.keep(name, [1, c, 2 * h, 3 * w], |[_, c, y, x]| t.at([0, c, y / 2, x / 3]));
            }
            _ => {
                let other = self.any();
                if other.dims[2..] != t.dims[2..] || c + other.dims[1] > 12 {
                    return;
                }
                let axis = ("axis", Attribute::Int(1));
                let name = self.node("Concat", &[t.name.clone(), other.name.clone()], &[axis]);
                let part =
                    |[n, ch, y, x]: [usize; 4]| if ch < c { t.at([n, ch, y, x]) } else { other.at([n, ch - c, y, x]) };
                self.keep(name, [1, c + other.dims[1], h, w], part);
            }
        }
    }

    /// To int8 and back, if no value lies in the middle of two codes.
    fn through_int8(&mut self) {
        let t = self.any();
        let largest = t.values.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        let scale = (largest / self.random.range(60, 140) as f64) as f32;
        let zero_point = self.random.range(-30, 30) as i8;
        let code = |x: f64| (x / scale as f64).round_ties_even();
        let middle = |x: &f64| ((x / scale as f64).fract().abs() - 0.5).abs() < 1e-3;
        if t.values.iter().any(middle) {
            return;
        }
        let s = self.constant(&[], Values::F32(vec![scale]));
        let z = self.constant(&[], Values::I8(vec![zero_point]));
        let q = self.node("QuantizeLinear", &[t.name.clone(), s.clone(), z.clone()], &[]);
        let name = self.node("DequantizeLinear", &[q, s, z], &[]);
        let kept = |x: f64| code(x).clamp(-128.0 - zero_point as f64, 127.0 - zero_point as f64);
        self.keep(name, t.dims, |at| kept(t.at(at)) * scale as f64);
    }
}

/// A graph, its input in ONNX's order, and what it gives.
fn drawn(seed: u64) -> (Graph, Vec<f32>, Tensor) {
    let random = Random::new(seed, 17);
    let mut d = Drawing { random, nodes: Vec::new(), constants: HashMap::new(), tensors: Vec::new() };
    let dims = [1, d.number(1, 4), d.number(1, 5), d.number(1, 5)];
    let input: Vec<f32> = (0..dims.iter().product()).map(|_| d.real() * 2.0).collect();
    d.tensors.push(Tensor { name: "in".into(), dims, values: input.iter().map(|&x| x.into()).collect() });
    for _ in 0..d.number(3, 14) {
        match d.number(0, 9) {
            0 | 1 => d.conv(),
            2 => d.unary(),
            3 | 4 => d.two(),
            5 => d.along(),
            6 => d.moved(),
            _ => d.through_int8(),
        }
    }
    let last = d.tensors.last().unwrap().clone();
    // A last softmax would be the head's.
    let output = d.node("Abs", std::slice::from_ref(&last.name), &[]);
    let last = Tensor { name: output.clone(), values: last.values.iter().map(|x| x.abs()).collect(), ..last };
    super::proto::keep_needed(&mut d.nodes, &output);
    let graph = Graph {
        opset: 18,
        nodes: d.nodes,
        constants: d.constants,
        input: "in".into(),
        input_dims: dims.to_vec(),
        input_type: Type::F32,
        output,
        output_type: None,
        stated: HashMap::new(),
    };
    (graph, input, last)
}

/// TAGPIN_TEST_CASES graphs from TAGPIN_TEST_SEED on; 300, because each is built by tract.
#[test]
fn random_mixed_graphs_give_what_the_definitions_give() {
    let (first, cases) = (setting("TAGPIN_TEST_SEED", 0), setting("TAGPIN_TEST_CASES", 300).min(3000));
    eprintln!("TAGPIN_TEST_SEED={first} TAGPIN_TEST_CASES={cases}");
    let kernels = Kernels::choose().unwrap();
    let (mut islands, mut several, mut int8) = (0, 0, 0);
    for seed in first..first + cases {
        let (graph, input, expected) = drawn(seed);
        let lowered = super::lower::lower(&graph, kernels).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut engine = Engine::build(kernels, lowered).unwrap();
        let mut logits = vec![0; engine.spec().logits];
        engine.infer_reals(&input, &mut logits, |_| ()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let range = expected.values.iter().fold(1e-2f64, |m, x| m.max(x.abs()));
        assert_eq!(logits.len(), expected.values.len(), "seed {seed}");
        for (i, (found, x)) in logits.iter().zip(&expected.values).enumerate() {
            let off = (*found as f64 / 65536.0 - x).abs();
            assert!(off <= 1e-4 * range + 2e-5, "seed {seed}, value {i}: {off} of {x}: {:?}", engine.nodes());
        }
        islands += usize::from(engine.spec().islands > 0);
        several += usize::from(engine.spec().islands > 1);
        int8 += usize::from(engine.layers().iter().any(|layer| layer.kernel.starts_with("int8 table")));
    }
    eprintln!("{islands} with islands, {several} with several, {int8} with int8 tables between");
    assert!(islands as u64 > cases / 2 && several as u64 > cases / 10 && int8 > 0, "{islands}, {several}, {int8}");
}
