//! Random quantised graphs with what they must give, for tests and for `tagpin-tools graphs`.
//!
//! Each graph is drawn node by node, and each node's result computed in the plainest way while it
//! is drawn: kernels and lowering have no part in it.

use super::proto::{Attribute, Constant, Graph, Node, Type, Values};
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
    /// Whether the file has it as uint8.
    unsigned: bool,
}

/// A zero point as the file has it.
fn stored(zero_point: i8, unsigned: bool) -> Values {
    match unsigned {
        false => Values::I8(vec![zero_point]),
        true => Values::U8(vec![(zero_point as i16 + 128) as u8]),
    }
}

impl Tensor {
    fn at(&self, y: usize, x: usize, c: usize) -> i8 {
        self.values[(y * self.dims[1] + x) * self.dims[2] + c]
    }

    /// As the file has it: channels first, and of its own type.
    fn stored(&self) -> Constant {
        let [h, w, c] = self.dims;
        let values = (0..h * w * c).map(|i| self.at(i / w % h, i % w, i / w / h));
        let values = match self.unsigned {
            false => Values::I8(values.collect()),
            true => Values::U8(values.map(|v| v as u8 ^ 128).collect()),
        };
        Constant { dims: vec![1, c, h, w], values }
    }

    /// Less the zero point; nothing outside the image.
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
        self.nodes.push(Node { name: name.clone(), op, microsoft: false, inputs, outputs, attributes });
        name
    }

    /// A step and zero point, as constants of either kind of int8.
    fn quant(&mut self) -> (f32, i8, bool, [String; 2]) {
        let (scale, zero_point) = (self.random.range(20, 900) as f32 * 1e-4, self.random.range(-128, 127) as i8);
        let unsigned = self.number(0, 1) == 1;
        let inputs = [self.constant(&[], Values::F32(vec![scale])), self.constant(&[], stored(zero_point, unsigned))];
        (scale, zero_point, unsigned, inputs)
    }

    fn dequantised(&mut self, t: &Tensor) -> String {
        let scale = self.constant(&[], Values::F32(vec![t.scale]));
        let zero_point = self.constant(&[], stored(t.zero_point, t.unsigned));
        self.node("DequantizeLinear", &[t.name.clone(), scale, zero_point], &[])
    }

    /// Quantises a real result, after a clip or none, and keeps what `f` says its values are.
    fn quantised(&mut self, real: String, dims: [usize; 3], clip: bool, f: impl Fn(usize, f32, Clamp) -> i8) {
        let (scale, zero_point, unsigned, [s, z]) = self.quant();
        let (mut real, mut clamp) = (real, Clamp::full(zero_point));
        if clip {
            let (lo, hi) = (0.0, scale * self.random.range(30, 300) as f32);
            let [min, max] = [lo, hi].map(|x| self.constant(&[], Values::F32(vec![x])));
            real = self.node("Clip", &[real, min, max], &[]);
            clamp = Clamp { lo: quantise(lo, scale, zero_point), hi: quantise(hi, scale, zero_point), zero_point };
        }
        let name = self.node("QuantizeLinear", &[real, s, z], &[]);
        let values = (0..dims.iter().product()).map(|i| f(i, scale, clamp)).collect();
        self.tensors.push(Tensor { name, dims, values, scale, zero_point, unsigned });
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
        let steps = if self.number(0, 1) == 0 { 1 } else { out };
        let (codes, zero_points, weights) = self.weights(out, taps, steps);
        let mut scales: Vec<f32> = (0..steps).map(|_| self.random.range(1, 300) as f32 * 1e-4).collect();
        let mut bias: Vec<i32> = (0..out).map(|_| self.random.range(-9000, 9000)).collect();
        // A channel that is all but dead: its quantiser had to saturate the bias.
        if steps == out && self.number(0, 3) == 0 {
            let channel = self.number(0, out as i32 - 1);
            scales[channel] = 1e-9;
            bias[channel] = if self.number(0, 1) == 0 { i32::MAX } else { i32::MIN + 1 };
        }
        let accumulator: Vec<f32> = scales.iter().map(|s| t.scale * s).collect();
        let real = self.dequantised(&t);
        let axis = [("axis", Attribute::Int(0))];
        let dims = [out, cg, kernel, kernel];
        let w_in = [
            self.constant(&dims, codes),
            self.constant(&[steps], Values::F32(scales.clone())),
            self.constant(&[steps], zero_points),
        ];
        let w_in = self.node("DequantizeLinear", &w_in, &axis);
        // A real bias is rounded to the accumulator, so to one of these values again.
        let b_in = match self.number(0, 2) {
            0 => {
                let real = (0..out).map(|o| (bias[o] as f64 * accumulator[o % steps] as f64) as f32).collect::<Vec<_>>();
                let rounded = |o: usize| (real[o] as f64 / accumulator[o % steps] as f64).round_ties_even();
                let inside = (0..out).all(|o| rounded(o).abs() <= i32::MAX as f64);
                // The least output scale that is drawn, and half of it.
                if inside && accumulator.iter().all(|a| a / 0.002 < 0.5) {
                    bias = (0..out).map(|o| rounded(o) as i32).collect();
                    self.constant(&[out], Values::F32(real))
                } else {
                    self.whole_bias(&bias, &accumulator)
                }
            }
            _ => self.whole_bias(&bias, &accumulator),
        };
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
            let reach: i64 = weights[o * taps..][..taps].iter().map(|w| 510 * w.unsigned_abs() as i64).sum();
            // Where the accumulator could leave i32, it is of twice the step.
            let half = bias[o].unsigned_abs() as i64 + reach > i32::MAX as i64;
            let mut acc = if half { bias[o] / 2 } else { bias[o] };
            for (ci, k) in (0..cg).flat_map(|ci| (0..kernel * kernel).map(move |k| (ci, k))) {
                let sy = (y * stride + k / kernel * dilation) as i64 - pad as i64;
                let sx = (x * stride + k % kernel * dilation) as i64 - pad as i64;
                let weight = weights[(o * cg + ci) * kernel * kernel + k] as f32;
                let weight = if half { (weight / 2.0).round_ties_even() } else { weight };
                acc += t.centred(sy, sx, o / (out / groups) * cg + ci) * weight as i32;
            }
            let step = accumulator[o % steps] * if half { 2.0 } else { 1.0 };
            requant_rndne(acc, step / scale, clamp)
        });
    }

    /// Weights of `out` outputs: as they are stored, their zero points, and the weights less these.
    /// Zero points, where there are any, are of every size, and weights reach to both ends.
    fn weights(&mut self, out: usize, taps: usize, zero_points: usize) -> (Values, Values, Vec<i32>) {
        let wide = self.number(0, 2) == 0;
        let unsigned = self.number(0, 1) == 0;
        let zeros: Vec<i32> = match (unsigned, self.number(0, 2)) {
            (false, _) => vec![0; zero_points],
            (true, 0) => vec![self.pick([0, 1, 100, 127, 128, 129, 160, 254, 255]) as i32; zero_points],
            (true, _) => (0..zero_points).map(|_| self.random.range(0, 255)).collect(),
        };
        let least = if unsigned { 0 } else { -128 };
        let mut codes = Vec::new();
        for i in 0..out * taps {
            let zero = zeros[i / taps % zero_points];
            codes.push(match wide {
                true => self.random.range(least, least + 255),
                false => (zero + self.random.range(-40, 40)).clamp(least, least + 255),
            });
        }
        let stored = |v: &[i32]| match unsigned {
            true => Values::U8(v.iter().map(|v| *v as u8).collect()),
            false => Values::I8(v.iter().map(|v| *v as i8).collect()),
        };
        let weights = codes.iter().enumerate().map(|(i, code)| code - zeros[i / taps % zero_points]).collect();
        (stored(&codes), stored(&zeros), weights)
    }

    /// An int32 bias of the accumulator's scales.
    fn whole_bias(&mut self, bias: &[i32], scales: &[f32]) -> String {
        let inputs = [
            self.constant(&[bias.len()], Values::I32(bias.to_vec())),
            self.constant(&[scales.len()], Values::F32(scales.to_vec())),
            self.constant(&[scales.len()], Values::I32(vec![0; scales.len()])),
        ];
        self.node("DequantizeLinear", &inputs, &[("axis", Attribute::Int(0))])
    }

    /// A GEMM over all values of an image, in ONNX's order.
    fn gemm(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let (n, out) = (h * w * c, self.number(1, 20));
        let (codes, zero_points, weights) = self.weights(out, n, 1);
        let s_w = self.random.range(1, 60) as f32 * 1e-4;
        let bias: Vec<i32> = (0..out).map(|_| self.random.range(-9000, 9000)).collect();
        let real = self.dequantised(&t);
        let flat = self.node("Flatten", &[real], &[]);
        let w_in =
            [self.constant(&[out, n], codes), self.constant(&[], Values::F32(vec![s_w])), self.constant(&[], zero_points)];
        let w_in = self.node("DequantizeLinear", &w_in, &[]);
        let b_in = self.whole_bias(&bias, &[t.scale * s_w]);
        let real = self.node("Gemm", &[flat, w_in, b_in], &[("transB", Attribute::Int(1))]);
        let to = self.constant(&[4], Values::I64(vec![1, -1, 1, 1]));
        let real = self.node("Reshape", &[real, to], &[]);
        self.quantised(real, [1, 1, out], false, |o, scale, clamp| {
            let value = |i: usize| t.centred((i % (h * w) / w) as i64, (i % w) as i64, i / (h * w));
            let acc: i32 = (0..n).map(|i| value(i) * weights[o * n + i]).sum();
            requant_rndne(acc + bias[o], t.scale * s_w / scale, clamp)
        });
    }

    /// Two tensors that broadcast.
    fn two(&mut self) {
        let a = self.any();
        let b = self.any();
        let sign = self.pick([0, 1, 2]) as f32 - 1.0;
        let add = sign != 0.0;
        let fits = |i: usize| a.dims[i] == b.dims[i] || a.dims[i] == 1 || b.dims[i] == 1;
        if !(0..3).all(fits) {
            return;
        }
        let dims: [usize; 3] = std::array::from_fn(|i| a.dims[i].max(b.dims[i]));
        let inputs = [self.dequantised(&a), self.dequantised(&b)];
        let real = self.node(["Sub", "Mul", "Add"][(sign + 1.0) as usize], &inputs, &[]);
        let clip = self.number(0, 2) == 0;
        self.quantised(real, dims, clip, |i, scale, clamp| {
            let [y, x, c] = [i / dims[2] / dims[1], i / dims[2] % dims[1], i % dims[2]];
            let [x, y] = [&a, &b].map(|t| t.at(y % t.dims[0], x % t.dims[1], c % t.dims[2]));
            match add {
                true => add_rndne(x, a.zero_point, a.scale / scale, y, b.zero_point, sign * (b.scale / scale), clamp),
                false => {
                    let product = (x as i32 - a.zero_point as i32) * (y as i32 - b.zero_point as i32);
                    requant_rndne(product, a.scale * b.scale / scale, clamp)
                }
            }
        });
    }

    /// A tensor and a constant that broadcasts to it.
    fn with_constant(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let along: [usize; 3] = [c, h, w].map(|n| if self.number(0, 1) == 0 { 1 } else { n });
        let n = along.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|_| self.random.range(20, 200) as f32 * 0.01).collect();
        let scalar = values.iter().all(|v| *v == values[0]);
        // Axes of one value in front may be left out.
        let first = along.iter().position(|d| *d != 1).unwrap_or(3);
        let shape = &along[self.number(0, first as i32)..];
        let real = self.dequantised(&t);
        let k = self.constant(shape, Values::F32(values.clone()));
        let (op, f): (_, fn(f32, f32) -> f32) = match self.number(0, 3) {
            0 => ("Add", |x, k| x + k),
            1 => ("Sub", |x, k| x - k),
            2 => ("Mul", |x, k| x * k),
            _ => ("Div", |x, k| x / k),
        };
        let real = self.node(op, &[real, k], &[]);
        self.quantised(real, t.dims, false, |i, scale, clamp| {
            let [y, x, ch] = [i / c / w, i / c % w, i % c];
            let k = values[(ch % along[0] * along[1] + y % along[1]) * along[2] + x % along[2]];
            let q = t.values[i] as i32 - t.zero_point as i32;
            if scalar {
                return quantise(f(q as f32 * t.scale, k), scale, clamp.zero_point);
            }
            let [factor, addend] = match op {
                "Add" => [1.0, k],
                "Sub" => [1.0, -k],
                "Mul" => [k, 0.0],
                _ => [1.0 / k, 0.0],
            };
            clamp.round(q as f32 * (factor * (t.scale / scale)) + addend / scale)
        });
    }

    /// Some of the indices of one axis, forwards or backwards.
    fn slice(&mut self) {
        let t = self.any();
        let axis = self.number(0, 2);
        let n = t.dims[axis];
        let (start, step) = (self.number(0, n as i32 - 1), self.number(1, 2));
        let back = self.number(0, 2) == 0;
        let taken: Vec<usize> = match back {
            true => (0..=start).rev().step_by(step).collect(),
            false => (start..n).step_by(step).collect(),
        };
        let end = if back { i64::MIN } else { i64::MAX };
        let step = if back { -(step as i64) } else { step as i64 };
        // Rows, columns and channels are ONNX's axes 2, 3 and 1.
        let numbers = [start as i64, end, [2, 3, 1][axis], step].map(|v| self.constant(&[1], Values::I64(vec![v])));
        let inputs: Vec<String> = std::iter::once(t.name.clone()).chain(numbers).collect();
        let name = self.node("Slice", &inputs, &[]);
        let mut dims = t.dims;
        dims[axis] = taken.len();
        let value = |i: usize| {
            let mut at = [i / dims[2] / dims[1], i / dims[2] % dims[1], i % dims[2]];
            at[axis] = taken[at[axis]];
            t.at(at[0], at[1], at[2])
        };
        let values = (0..dims.iter().product()).map(value).collect();
        self.tensors.push(Tensor { name, dims, values, ..t });
    }

    /// Rows and columns exchanged; or the channels last and then first again, which is nothing.
    fn transpose(&mut self) {
        let t = self.any();
        let perm = |p: [i64; 4]| Attribute::Ints(p.to_vec());
        if self.number(0, 1) == 0 {
            let last = self.node("Transpose", std::slice::from_ref(&t.name), &[("perm", perm([0, 2, 3, 1]))]);
            let name = self.node("Transpose", &[last], &[("perm", perm([0, 3, 1, 2]))]);
            self.tensors.push(Tensor { name, ..t });
            return;
        }
        let name = self.node("Transpose", std::slice::from_ref(&t.name), &[("perm", perm([0, 1, 3, 2]))]);
        let [h, w, c] = t.dims;
        let values = (0..h * w * c).map(|i| t.at(i / c % h, i / c / h, i % c)).collect();
        self.tensors.push(Tensor { name, dims: [w, h, c], values, ..t });
    }

    fn pad(&mut self) {
        let t = self.any();
        let [h, w, c] = t.dims;
        let [top, left, bottom, right] = [0; 4].map(|_: i32| self.number(0, 2));
        let pads = [0, 0, top, left, 0, 0, bottom, right].map(|p| p as i64);
        let pads = self.constant(&[8], Values::I64(pads.to_vec()));
        let real = self.dequantised(&t);
        let real = self.node("Pad", &[real, pads], &[]);
        let [oh, ow] = [h + top + bottom, w + left + right];
        self.quantised(real, [oh, ow, c], false, |i, scale, clamp| {
            let place = |at: usize, before: usize| at as i64 - before as i64;
            let q = t.centred(place(i / c / ow, top), place(i / c % ow, left), i % c);
            quantise(q as f32 * t.scale, scale, clamp.zero_point)
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

/// A graph that was drawn.
pub struct Drawn {
    /// One real input `[1, channels, rows, columns]`, which its first node quantises.
    pub graph: Graph,
    /// The input's codes, NHWC, as [`super::Engine::infer`] takes them.
    pub input: Vec<i8>,
    /// Scale and zero point of the input's codes.
    pub input_quant: (f32, i8),
    /// The output, Q16.16, in ONNX's order.
    pub logits: Vec<i32>,
    /// Every int8 or uint8 tensor of the graph as the file has it, by its name.
    pub tensors: Vec<(String, Constant)>,
}

/// The graph of this seed: 2 to 12 operators after the input's QuantizeLinear, of up to 9 rows,
/// columns and 64 channels.
pub fn drawn(seed: u64) -> Drawn {
    let random = Random::new(seed, 11);
    let mut d = Drawing { random, nodes: Vec::new(), constants: HashMap::new(), tensors: Vec::new() };
    let dims @ [h, w, c] = [d.number(1, 9), d.number(1, 9), d.pick([1, 3, 8, 16, 20])];
    let (scale, zero_point, unsigned, [s, z]) = d.quant();
    let name = d.node("QuantizeLinear", &["in".into(), s, z], &[]);
    let input: Vec<i8> = (0..h * w * c).map(|_| d.random.range(-128, 127) as i8).collect();
    d.tensors.push(Tensor { name, dims, values: input.clone(), scale, zero_point, unsigned });
    for _ in 0..d.number(2, 12) {
        match d.number(0, 16) {
            0..=3 => d.conv(),
            4..=6 => d.two(),
            7 => d.function(),
            8 => d.concat(),
            9 => d.pool(),
            10 => d.global_average(),
            11 => d.with_constant(),
            12 | 13 => d.slice(),
            14 => d.transpose(),
            15 => {
                if d.number(0, 1) == 0 {
                    d.pad()
                } else {
                    d.gemm()
                }
            }
            _ => d.shuffle(),
        }
    }
    let last = d.tensors.last().expect("the input is one").clone();
    let [oh, ow, oc] = last.dims;
    // Logits are in ONNX's order.
    let logit = |i: usize| logit_q16(last.centred((i / ow % oh) as i64, (i % ow) as i64, i / ow / oh), last.scale);
    let logits = (0..oc * oh * ow).map(logit).collect::<Option<_>>().expect("drawn scales are small");
    let output = d.dequantised(&last);
    let graph = Graph {
        opset: 20,
        nodes: d.nodes,
        constants: d.constants,
        input: "in".into(),
        input_dims: vec![1, c, h, w],
        input_type: Type::F32,
        output,
        output_type: Some(Type::F32),
        stated: HashMap::new(),
    };
    let tensors = d.tensors.iter().map(|t| (t.name.clone(), t.stored())).collect();
    Drawn { graph, input, input_quant: (scale, zero_point), logits, tensors }
}

#[cfg(test)]
pub(super) mod tests;
