//! Tests only: our convolutions against tract-linalg's micro-kernels on the same GEMM.
//! `tools/arm-cycles/measure --tiles` counts the cycles of both.
//!
//! tract's kernel gets packed operands and stops at the accumulators; ours reads the image as it
//! lies and goes on to int8 outputs.

use super::epilogue::{Epilogue, Reach};
use super::*;
use crate::quant::{Clamp, requant_rndne};
use crate::random::Random;
use tract_linalg::mmm::{AsInputValue, FusedSpec, MMMInputValue, MatMatMul};
use tract_onnx::prelude::{DatumType, Tensor, tract_linalg};

/// One GEMM, prepared for both.
struct Product {
    shape: ConvShape,
    kernels: Kernels,
    input: Vec<i8>,
    weights: Vec<i16>,
    bias: Vec<i32>,
    scale: Vec<f32>,
}

const ZERO_POINT: i8 = -4;
const CLAMP: Clamp = Clamp { lo: -128, hi: 127, zero_point: -4 };

impl Product {
    fn of(pixels: usize, channels: usize, outputs: usize) -> Self {
        let mut r = Random::new(1, 1);
        let mut drawn = |n: usize, most: i32| -> Vec<i32> { (0..n).map(|_| r.range(-most, most)).collect() };
        Self {
            shape: super::tests::shape([pixels, 1, channels], outputs, 1, 1, 0, 1, 1).unwrap(),
            kernels: Kernels::choose().unwrap(),
            input: drawn(pixels * channels, 127).into_iter().map(|v| v as i8).collect(),
            weights: drawn(channels * outputs, 127).into_iter().map(|v| v as i16).collect(),
            bias: drawn(outputs, 20_000),
            scale: vec![1e-3; outputs],
        }
    }

    /// Runs our kernels on it, `times` times; the outputs of the last run.
    fn ours(&self, times: usize) -> Vec<i8> {
        let (s, k) = (&self.shape, self.kernels);
        let reaches: Vec<Reach> = Reach::of_channels(&self.weights, ZERO_POINT, &self.bias, &self.scale).collect();
        let mut bias = self.bias.clone();
        let packed = k.pack(&self.weights, s.weights(), ZERO_POINT, &mut bias);
        let blocks = k.epilogue_blocks(s, &packed, &reaches, &bias, &self.scale);
        let reach = Reach::furthest(&reaches);
        let (mut out, mut scratch) = (vec![0; s.output.iter().product()], vec![0; k.scratch_len(s)]);
        for _ in 0..times {
            let e = Epilogue { bias: &bias, scale: &self.scale, clamp: CLAMP, blocks: &blocks, reach };
            let layer = Layer { shape: s, zero_point: ZERO_POINT, weights: &packed, epilogue: e };
            k.conv(layer, &self.input, &mut out, &mut scratch);
        }
        out
    }

    /// tract-linalg's accumulators over the input as it is, `[pixels][outputs]`, and the kernel's
    /// name.
    fn theirs(&self, times: usize) -> (String, Vec<i32>) {
        let ([pixels, _, k], n) = (self.shape.input, self.shape.output[2]);
        let mmm: Box<dyn MatMatMul> =
            tract_linalg::MmmDispatch::native().preferred_kernel(DatumType::I32, Some(n), Some(k), Some(pixels)).unwrap();
        let index = mmm.packings().iter().position(|p| format!("{:?}", p.0).to_lowercase().contains("i8")).unwrap();
        let weights: Vec<i8> = self.weights.iter().map(|w| *w as i8).collect();
        let a = Tensor::from_shape(&[n, k], &weights).unwrap();
        let b = Tensor::from_shape(&[pixels, k], &self.input).unwrap();
        let packing = &mmm.packings()[index];
        let (a, b) = (packing.0.prepare_one(&a, 1, 0).unwrap(), packing.1.prepare_one(&b, 1, 0).unwrap());
        let mut accumulators = Tensor::zero::<i32>(&[pixels, n]).unwrap();
        let operand = |v: &dyn MMMInputValue| v.mn();
        assert_eq!((operand(&*a).to_string(), operand(&*b).to_string()), (n.to_string(), pixels.to_string()));
        // SAFETY: the store covers `accumulators`, which has as many rows and columns as the
        // product, and lives longer than the runs.
        unsafe {
            let mut scratch = mmm.allocate_scratch_space();
            for _ in 0..times {
                let product =
                    FusedSpec::AddMatMul { a: AsInputValue::Borrowed(&*a), b: AsInputValue::Borrowed(&*b), packing: index };
                let store = FusedSpec::Store(mmm.c_view(Some(1), Some(0)).wrap(&accumulators.view_mut()));
                mmm.run_with_scratch_space(n, pixels, &mut *scratch, &[product, store]).unwrap();
            }
        }
        (mmm.name().to_string(), accumulators.try_as_plain_ram().unwrap().as_slice::<i32>().unwrap().to_vec())
    }
}

/// Pixels, channels and outputs of 1x1 convolutions in EfficientNet-Lite0: early, in the middle,
/// late.
const PRODUCTS: [(usize, usize, usize); 3] = [(3136, 24, 144), (196, 112, 672), (49, 1152, 320)];

#[test]
fn both_make_the_same_accumulators() {
    for (pixels, channels, outputs) in PRODUCTS {
        let p = Product::of(pixels, channels, outputs);
        let (_, accumulators) = p.theirs(1);
        let want = accumulators.iter().enumerate().map(|(i, sum)| {
            let o = i % outputs;
            let weights: i32 = p.weights[o * channels..][..channels].iter().map(|w| *w as i32).sum();
            requant_rndne(p.bias[o] + sum - ZERO_POINT as i32 * weights, p.scale[o], CLAMP)
        });
        assert!(p.ours(1).into_iter().eq(want), "{pixels} x {channels} x {outputs}");
    }
}

/// Not a test: `tools/arm-cycles/measure --tiles` counts its cycles.
#[test]
#[ignore = "runs one product for tools/arm-cycles/measure --tiles"]
fn tiles() {
    let given = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let times: usize = given("TILES_TIMES").parse().unwrap();
    let numbers: Vec<usize> = given("TILES_PRODUCT").split('x').map(|n| n.parse().unwrap()).collect();
    let &[pixels, channels, outputs] = numbers.as_slice() else { panic!("TILES_PRODUCT: three numbers") };
    let product = Product::of(pixels, channels, outputs);
    let name = match given("TILES_OF").as_str() {
        "ours" => {
            std::hint::black_box(product.ours(times));
            product.kernels.name().to_string()
        }
        _ => std::hint::black_box(product.theirs(times)).0,
    };
    println!("tiles of {name}");
}
