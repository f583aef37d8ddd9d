//! Averages, maxima and padding.
//!
//! Does not decide when an average is quantised.

use super::window::{Window, int};
use super::{Kind, Lowering, MAX_MACS, Pending, Value, Why};
use crate::engine::operation::Operation;
use crate::engine::plan::TensorId;
use crate::engine::proto::{Attribute, Node, Values};
use crate::kernels::ConvShape;
use crate::quant::quantise;

/// Most pixels of a global average, so that sums of 15-bit values fit i32.
const MAX_PIXELS: usize = 1 << 15;

impl<'g> Lowering<'g> {
    /// Rows, columns, channels.
    fn picture(&self, id: TensorId) -> Result<[usize; 3], Why> {
        <[usize; 3]>::try_from(self.get(id).dims.as_slice()).map_err(|_| "its input is no picture".into())
    }

    /// The integers of input `i`, or of the attribute where older opsets have it.
    pub(super) fn whole_numbers(&self, node: &'g Node, i: usize, attribute: &str) -> Result<Option<Vec<i64>>, Why> {
        match node.attributes.get(attribute) {
            Some(Attribute::Ints(v)) => return Ok(Some(v.clone())),
            Some(other) => return Err(format!("{attribute} {other:?}, expected integers")),
            None if self.name(node, i).is_err() => return Ok(None),
            None => {}
        }
        match &self.constant(node, i)?.values {
            Values::I64(v) => Ok(Some(v.clone())),
            Values::I32(v) => Ok(Some(v.iter().map(|&v| v.into()).collect())),
            _ => Err(format!("{attribute} must be integers")),
        }
    }

    pub(super) fn global_average_of(&self, src: TensorId) -> Result<Pending, Why> {
        let [h, w, c] = self.picture(src)?;
        if h * w > MAX_PIXELS {
            return Err(format!("{h}x{w} pixels are too many"));
        }
        Ok(Pending::new(Kind::GlobalAverage(src), vec![1, 1, c]))
    }

    pub(super) fn global_average(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        if node.op == "ReduceMean" {
            let mut axes = self.whole_numbers(node, 1, "axes")?.unwrap_or_default();
            axes.iter_mut().filter(|a| **a < 0).for_each(|a| *a += 4);
            axes.sort_unstable();
            if axes != [2, 3] {
                return Err(format!("a mean over axes {axes:?}, expected 2 and 3"));
            }
        }
        match self.take(node, 0)? {
            Value::Real(src) => self.global_average_of(src).map(Value::Pending),
            Value::Function { src, values } => {
                let Pending { dims, .. } = self.global_average_of(src)?;
                Ok(Value::Pending(Pending::new(Kind::GlobalAverageOf(src, values), dims)))
            }
            other => Err(format!("input is {}, expected a dequantised int8 tensor", other.describe())),
        }
    }

    /// Where a pool's window goes over its input.
    fn pooled(&self, node: &'g Node, src: TensorId) -> Result<ConvShape, Why> {
        let [h, w, c] = self.picture(src)?;
        let Some(Attribute::Ints(kernel)) = node.attributes.get("kernel_shape") else {
            return Err("no kernel_shape".into());
        };
        let &[kh, kw] = kernel.as_slice() else { return Err("expected a kernel of 2 dimensions".into()) };
        let kernel = [kh, kw].map(|k| usize::try_from(k).unwrap_or(0));
        let window = Window::read(node, [h, w], kernel, true)?;
        let shape = ConvShape {
            input: [h, w, c],
            output: [window.output[0], window.output[1], c],
            kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: window.pad,
            groups: c,
        };
        if shape.macs() > MAX_MACS {
            return Err("too many taps".into());
        }
        Ok(shape)
    }

    pub(super) fn average_pool_of(&self, node: &'g Node, src: TensorId) -> Result<Pending, Why> {
        let shape = self.pooled(node, src)?;
        let whole = int(node, "count_include_pad", 0)? != 0;
        if whole && int(node, "ceil_mode", 0)? != 0 {
            return Err("count_include_pad with ceil_mode".into());
        }
        if shape.kernel[0] * shape.kernel[1] > 1 << 16 {
            return Err(format!("a kernel of {:?}", shape.kernel));
        }
        Ok(Pending::new(Kind::AveragePool(src, shape, whole), shape.output.to_vec()))
    }

    pub(super) fn average_pool(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        self.average_pool_of(node, src).map(Value::Pending)
    }

    pub(super) fn max_pool(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let (Value::Real(src) | Value::Int(src) | Value::Function { src, .. }) = value else {
            return Err(format!("input is {}, expected an int8 tensor", value.describe()));
        };
        let shape = match node.op.as_str() {
            "GlobalMaxPool" => {
                let [h, w, c] = self.picture(src)?;
                let (one, kernel) = ([1, 1], [h, w]);
                ConvShape { input: [h, w, c], output: [1, 1, c], kernel, stride: one, dilation: one, pad: [0, 0], groups: c }
            }
            _ => self.pooled(node, src)?,
        };
        if let Value::Function { src, values } = value {
            let dims = shape.output.to_vec();
            return Ok(Value::Pending(Pending::new(Kind::Max(src, values, shape), dims)));
        }
        let dst = self.tensor(shape.output.to_vec(), self.get(src).quant)?;
        self.push(Operation::MaxPool(shape), vec![src], dst);
        Ok(if matches!(value, Value::Real(_)) { Value::Real(dst) } else { Value::Int(dst) })
    }

    pub(super) fn pad(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        let input @ [h, w, c] = self.picture(src)?;
        match node.attributes.get("mode") {
            None => {}
            Some(Attribute::Text(mode)) if mode == "constant" => {}
            other => return Err(format!("mode {other:?}, expected constant")),
        }
        let pads = self.whole_numbers(node, 1, "pads")?.ok_or("no pads")?;
        let &[0, 0, top, left, 0, 0, bottom, right] = pads.as_slice() else {
            return Err(format!("pads {pads:?}, expected rows and columns only"));
        };
        let side =
            |n: i64| usize::try_from(n).ok().filter(|n| *n <= 1024).ok_or(format!("pads {pads:?}, expected 0..=1024"));
        let before = [side(top)?, side(left)?];
        let output = [h + before[0] + side(bottom)?, w + before[1] + side(right)?];
        let value = self.bound(node, 2, "value", 0.0)?;
        let quant = self.get(src).quant;
        let dst = self.tensor(vec![output[0], output[1], c], quant)?;
        let value = quantise(value, quant.scale, quant.zero_point);
        self.push(Operation::Pad { input, before, output, value }, vec![src], dst);
        Ok(Value::Real(dst))
    }
}
