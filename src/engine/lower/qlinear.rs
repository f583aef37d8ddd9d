//! The operators of ONNX Runtime's QOperator form: inputs, their steps and zero points, and those of the output.
//!
//! Computes nothing of its own: each is the real operator between its DequantizeLinear and QuantizeLinear.

use super::window::{axis, int};
use super::{ConstantWeights, Kind, Lowering, OTHER_QUANT, Pending, Shape, Value, Why, centred_weights, integers};
use crate::engine::Absorbed;
use crate::engine::plan::TensorId;
use crate::engine::proto::Node;

impl<'g> Lowering<'g> {
    pub(super) fn qlinear(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let pending = match node.op.as_str() {
            "QLinearConv" => return self.qlinear_conv(node),
            "QLinearAdd" | "QLinearMul" => {
                let (a, b) = (self.operand_or_constant(node, 0)?, self.operand_or_constant(node, 3)?);
                let quant = self.quant(node, 6)?;
                return match self.combine(&node.op["QLinear".len()..], a, b)? {
                    Value::Function { src, values } => self.emit_function(src, &values, quant).map(Value::Int),
                    Value::Pending(pending) => self.emit(pending, quant).map(Value::Int),
                    other => Err(format!("it gives {}", other.describe())),
                };
            }
            "QLinearSigmoid" if self.ends_the_graph(&node.outputs) => {
                let logits = Value::Real(self.operand(node, 0)?);
                return Ok(Value::Scores(Box::new(logits), Absorbed::Sigmoid));
            }
            "QLinearSoftmax" if self.ends_the_graph(&node.outputs) => {
                let logits = Value::Real(self.operand(node, 0)?);
                return Ok(Value::Scores(Box::new(logits), Absorbed::Softmax));
            }
            "QLinearSigmoid" | "QLinearLeakyRelu" => {
                let src = self.operand(node, 0)?;
                let (f, quant) = (self.formula(node)?, self.quant(node, 3)?);
                let values = self.identity(src).map(f);
                return self.emit_function(src, &values, quant).map(Value::Int);
            }
            "QLinearGlobalAveragePool" | "QLinearAveragePool" => {
                if int(node, "channels_last", 0)? != 0 {
                    return Err("channels_last".into());
                }
                let src = self.operand(node, 0)?;
                match node.op.as_str() {
                    "QLinearAveragePool" => self.average_pool_of(node, src)?,
                    _ => self.global_average_of(src)?,
                }
            }
            "QLinearConcat" => {
                let parts = (2..node.inputs.len()).step_by(3).map(|i| self.operand(node, i)).collect::<Result<_, _>>()?;
                let pending = self.concat_of(parts, axis(node, "axis", i64::MAX)?)?;
                let quant = self.quant(node, 0)?;
                return self.emit(pending, quant).map(Value::Int);
            }
            "QLinearMatMul" | "QGemm" => return self.qlinear_product(node),
            _ => return Err("no int8 kernel for this operator in this build".into()),
        };
        let quant = self.quant(node, 3)?;
        self.emit(pending, quant).map(Value::Int)
    }

    /// The int8 tensor of input `i`, whose step and zero point follow it.
    fn operand(&mut self, node: &'g Node, i: usize) -> Result<TensorId, Why> {
        let src = self.int(node, i)?;
        self.same_quant(node, i, src)
    }

    /// The tensor, if what follows input `i` is what it was made with.
    fn same_quant(&self, node: &'g Node, i: usize, src: TensorId) -> Result<TensorId, Why> {
        if self.quant(node, i + 1)? == self.get(src).quant { Ok(src) } else { Err(OTHER_QUANT.into()) }
    }

    /// The real view of an [`Lowering::operand`], or a constant.
    fn operand_or_constant(&mut self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        let Ok(constant) = self.constant(node, i) else { return self.operand(node, i).map(Value::Real) };
        let zero_points = integers(&self.constant(node, i + 2)?.values)?;
        Ok(Value::Weights { constant, zero_points, scales: self.steps(node, i + 1)?, axis: 0 })
    }

    /// Constant weights of input `i`, their steps and zero points after it; these go along `axis`.
    fn constant_weights(&self, node: &'g Node, i: usize, axis: usize) -> Result<ConstantWeights, Why> {
        let (constant, scales) = (self.constant(node, i)?, self.steps(node, i + 1)?);
        let values = centred_weights(constant, &integers(&self.constant(node, i + 2)?.values)?, axis)?;
        Ok((constant.dims.clone(), values, scales))
    }

    fn optional_bias(&self, node: &'g Node, i: usize, n: usize) -> Result<Vec<i32>, Why> {
        match self.name(node, i) {
            Err(_) => Ok(vec![0; n]),
            Ok(_) => integers(&self.constant(node, i)?.values),
        }
    }

    fn qlinear_conv(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.operand(node, 0)?;
        let (dims, values, scales) = self.constant_weights(node, 3, 0)?;
        let s_in = self.get(src).quant.scale;
        let steps: Vec<f32> = scales.iter().map(|s| s_in * s).collect();
        let bias = self.optional_bias(node, 8, dims.first().copied().unwrap_or(0))?;
        let quant = self.quant(node, 6)?;
        let pending = self.conv_of(node, src, &dims, values, bias, &steps)?;
        self.emit(pending, quant).map(Value::Int)
    }

    fn qlinear_product(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = match self.take(node, 0)? {
            Value::Int(id) | Value::Reshaped { id, shape: Shape::Flat, real: false } => id,
            other => return Err(format!("input 0 is {}, expected an int8 tensor", other.describe())),
        };
        self.same_quant(node, 0, src)?;
        let gemm = node.op == "QGemm";
        if gemm && int(node, "transA", 0)? != 0 {
            return Err("expected transA 0".into());
        }
        let transposed = gemm && int(node, "transB", 0)? != 0;
        let axis = if transposed { 0 } else { 1 };
        let weights = self.constant_weights(node, 3, axis)?;
        let outputs = weights.0.get(axis).copied().unwrap_or(0);
        let bias = if gemm { self.optional_bias(node, 6, outputs)? } else { vec![0; outputs] };
        let (matrix, steps) = self.product_of(src, weights, transposed, bias)?;
        let pending = Pending::new(Kind::Dense(matrix, steps), vec![1, 1, outputs]);
        let last = if gemm { 7 } else { 6 };
        match self.name(node, last) {
            Err(_) if gemm => Ok(Value::Pending(pending)),
            _ => {
                let quant = self.quant(node, last)?;
                self.emit(pending, quant).map(Value::Int)
            }
        }
    }
}
