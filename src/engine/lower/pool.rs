//! Lowers average pools, max pools and padding.

use super::{Axes, Kind, Lowering, MAX_MACS, Pending, Value, View, Why};
use crate::engine::operation::Operation;
use crate::engine::operators::{Window, kernel_shape, reduced_axes, spread_pads};
use crate::engine::proto::{Attribute, Node, Type, Values};
use crate::kernels::ConvShape;
use crate::quant::quantise;

/// Most pixels of a global average: this many 15-bit values added up fit i32.
const MAX_PIXELS: usize = 1 << 15;

impl<'g> Lowering<'g> {
    /// The integers of input `i`, or of the attribute where older opsets have it.
    pub(super) fn whole_numbers(&self, node: &'g Node, i: usize, attribute: &str) -> Result<Option<Vec<i64>>, Why> {
        match node.attributes.get(attribute) {
            Some(Attribute::Ints(v)) => return Ok(Some(v.clone())),
            Some(other) => return Err(format!("{attribute} {other:?}, expected integers")),
            None if self.name(node, i).is_err() => return Ok(None),
            None => {}
        }
        self.constant(node, i)?.integers().map(Some).ok_or_else(|| format!("{attribute} must be integers"))
    }

    /// The tensor with these axes moved to the front, and the number of pixels they make.
    fn pixels_first(&mut self, view: &View, over: &[usize]) -> Result<(super::TensorId, usize), Why> {
        let dims = view.axes.dims();
        let kept: Vec<usize> = (0..dims.len()).filter(|a| !over.contains(a)).collect();
        let pixels: usize = over.iter().map(|&a| dims[a]).product();
        if pixels > MAX_PIXELS {
            return Err(format!("a mean of {pixels} values, at most {MAX_PIXELS}"));
        }
        // For an image this is its order in memory.
        let perm: Vec<usize> = over.iter().copied().chain(kept).collect();
        let turned = View { id: view.id, axes: view.axes.transposed(&perm) };
        let rows = Axes::rows(&turned.axes.dims());
        Ok((self.arrange(&turned, rows)?, pixels))
    }

    pub(super) fn global_average_of(&mut self, src: &View, over: &[usize], dims: &[usize]) -> Result<Pending, Why> {
        let (id, pixels) = self.pixels_first(src, over)?;
        Ok(Pending::new(Kind::GlobalAverage(id, pixels), Axes::rows(dims), self.at))
    }

    pub(super) fn global_average(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let (_, to) = self.made(node)?;
        let rank = self.dims(node, 0)?.len();
        let over = match node.op.as_str() {
            "ReduceMean" => {
                let noop = matches!(node.attributes.get("noop_with_empty_axes"), Some(Attribute::Int(1)));
                reduced_axes(self.whole_numbers(node, 1, "axes")?, rank, noop)?
            }
            _ => vec![2, 3],
        };
        match self.take(node, 0)? {
            value if over.is_empty() => Ok(value),
            Value::Real(src) => self.global_average_of(&src, &over, to).map(Value::Pending),
            Value::Function { view, values } => {
                let (id, pixels) = self.pixels_first(&view, &over)?;
                let what = Kind::GlobalAverageOf(id, values, pixels);
                Ok(Value::Pending(Pending::new(what, Axes::rows(to), self.at)))
            }
            other => Err(format!("input is {}, expected a dequantised int8 tensor", other.describe())),
        }
    }

    /// How a pool's window moves over its input.
    fn pooled(&mut self, node: &'g Node, src: &View) -> Result<(super::TensorId, ConvShape), Why> {
        let (id, [h, w, c]) = self.image(src)?;
        let (kernel, one) = match node.op.as_str() {
            "GlobalMaxPool" => ([h, w], [1, 1]),
            _ => (kernel_shape(node, 2)?.ok_or("its attribute kernel_shape is missing")?, [1, 1]),
        };
        let window = match node.op.as_str() {
            "GlobalMaxPool" => Window { output: one, stride: one, dilation: one, pad: [0, 0] },
            _ => Window::read(node, 2, [h, w], kernel)?,
        };
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
        Ok((id, shape))
    }

    pub(super) fn average_pool_of(&mut self, node: &'g Node, src: &View) -> Result<Pending, Why> {
        let (src, shape) = self.pooled(node, src)?;
        let flag = |name: &str| matches!(node.attributes.get(name), Some(Attribute::Int(1)));
        let count_padding = flag("count_include_pad");
        if count_padding && flag("ceil_mode") {
            return Err("count_include_pad with ceil_mode".into());
        }
        if shape.kernel[0] * shape.kernel[1] > 1 << 16 {
            return Err(format!("a kernel of {:?}", shape.kernel));
        }
        Ok(Pending::new(Kind::AveragePool { src, shape, count_padding }, Axes::image(shape.output), self.at))
    }

    pub(super) fn average_pool(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        self.average_pool_of(node, &src).map(Value::Pending)
    }

    pub(super) fn max_pool(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let (Value::Real(view) | Value::Int(view) | Value::Function { view, .. }) = &value else {
            return Err(format!("input is {}, expected an int8 tensor", value.describe()));
        };
        let (src, shape) = self.pooled(node, view)?;
        let axes = Axes::image(shape.output);
        if let Value::Function { values, .. } = &value {
            return Ok(Value::Pending(Pending::new(Kind::Max(src, values.clone(), shape), axes, self.at)));
        }
        let id = self.tensor(shape.output.iter().product(), self.get(src).quant)?;
        self.push(self.at, Operation::MaxPool(shape), vec![src], id);
        let pooled = View { id, axes };
        Ok(if matches!(value, Value::Real(_)) { Value::Real(pooled) } else { Value::Int(pooled) })
    }

    pub(super) fn pad(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        if matches!(node.attributes.get("mode"), Some(Attribute::Text(mode)) if mode != "constant") {
            return Err("no int8 kernel for padding by other values of its input".into());
        }
        let value = self.take(node, 0)?;
        let (Value::Real(view) | Value::Int(view)) = &value else {
            return Err(format!("input is {}, expected an int8 tensor or its real view", value.describe()));
        };
        let rank = view.axes.dims().len();
        let pads = self.whole_numbers(node, 1, "pads")?.ok_or("its pads are missing")?;
        let stated = if self.name(node, 3).is_ok() { self.whole_numbers(node, 3, "axes")? } else { None };
        let pads = spread_pads(&pads, stated.as_deref(), rank)?;
        if pads.iter().all(|p| *p == [0, 0]) {
            return Ok(value);
        }
        // Rows and columns may be behind the channels or before them.
        let to_image: [usize; 4] = match pads.as_slice() {
            [[0, 0], [0, 0], _, _] => [0, 1, 2, 3],
            [[0, 0], _, _, [0, 0]] => [0, 3, 1, 2],
            _ => return Err(format!("pads {pads:?} of axes, expected rows and columns of an image")),
        };
        let side = |n: i64| {
            usize::try_from(n).ok().filter(|n| *n <= 1024).ok_or_else(|| format!("pads {pads:?}, expected 0..=1024"))
        };
        let [rows, columns] = [pads[to_image[2]], pads[to_image[3]]];
        let (src, input) = self.image(&View { id: view.id, axes: view.axes.transposed(&to_image) })?;
        let before = [side(rows[0])?, side(columns[0])?];
        let output = [input[0] + before[0] + side(rows[1])?, input[1] + before[1] + side(columns[1])?];
        let quant = self.get(src).quant;
        let fill = match &value {
            Value::Int(_) => self.code_of(node)?,
            _ => {
                let real = self.bound(node, 2, "value", 0.0)?;
                let code = quantise(real, quant.scale, quant.zero_point);
                let found = (code as i32 - quant.zero_point as i32) as f32 * quant.scale;
                if found != real {
                    return Err(format!("it pads with {real}, which is no value of its int8 input"));
                }
                code
            }
        };
        let id = self.tensor(output[0] * output[1] * input[2], quant)?;
        self.push(self.at, Operation::Pad { input, before, output, value: fill }, vec![src], id);
        let back = if to_image[1] == 1 { [0, 1, 2, 3] } else { [0, 2, 3, 1] };
        let padded = View { id, axes: Axes::image([output[0], output[1], input[2]]).transposed(&back) };
        Ok(if matches!(value, Value::Real(_)) { Value::Real(padded) } else { Value::Int(padded) })
    }

    /// The code with which an int8 or uint8 tensor is padded; uint8 is re-based.
    fn code_of(&self, node: &'g Node) -> Result<i8, Why> {
        let rebased = |v: u8| (v as i16 - 128) as i8;
        match (self.name(node, 2).is_ok(), self.ty(node, 0)?) {
            (false, Type::U8) => Ok(rebased(0)),
            (false, _) => Ok(0),
            (true, _) => match &self.constant(node, 2)?.values {
                Values::I8(v) if v.len() == 1 => Ok(v[0]),
                Values::U8(v) if v.len() == 1 => Ok(rebased(v[0])),
                other => Err(format!("it pads with {}, expected one int8 or uint8", other.element())),
            },
        }
    }
}
