//! The operators of ONNX Runtime's QOperator form: inputs, their steps and zero points, and those
//! of the output.
//!
//! Each is lowered as the real operator between a DequantizeLinear and a QuantizeLinear.

use super::constants::{Weights, centred_weights, integers};
use super::{Bias, Lowering, Pending, Value, View, Why};
use crate::engine::Absorbed;
use crate::engine::operators::axis_of;
use crate::engine::proto::{Attribute, Node, Values};
use std::borrow::Cow;
use std::rc::Rc;

impl<'g> Lowering<'g> {
    pub(super) fn qlinear(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let pending = match node.op.as_str() {
            "QLinearConv" => self.qlinear_conv(node)?,
            "QLinearAdd" | "QLinearMul" => {
                let (a, b) = (self.operand_or_constant(node, 0)?, self.operand_or_constant(node, 3)?);
                let (ty, dims) = self.made(node)?;
                let quant = self.quant(node, 6, ty)?;
                return match self.combine(&node.op["QLinear".len()..], a, b, dims)? {
                    Value::Function { view, values } => {
                        Ok(Value::Int(View { id: self.emit_function(view.id, &values, quant)?, ..view }))
                    }
                    Value::Pending(pending) => self.emit(&pending, quant).map(Value::Int),
                    other => Err(format!("it gives {}", other.describe())),
                };
            }
            "QLinearSigmoid" if self.ends_the_graph(&node.outputs) => {
                let logits = Value::Real(self.int(node, 0)?);
                return Ok(Value::Scores(Box::new(logits), Absorbed::Sigmoid));
            }
            "QLinearSoftmax" => {
                self.int(node, 0)?;
                return self.softmax(node, 0);
            }
            "QLinearSigmoid" | "QLinearLeakyRelu" => {
                let src = self.int(node, 0)?;
                let (f, (ty, _)) = (self.formula(node)?, self.made(node)?);
                let (quant, values) = (self.quant(node, 3, ty)?, self.identity(src.id).map(f));
                return Ok(Value::Int(View { id: self.emit_function(src.id, &values, quant)?, ..src }));
            }
            "QLinearAveragePool" => {
                let src = self.int(node, 0)?;
                self.average_pool_of(node, &src)?
            }
            "QLinearGlobalAveragePool" => {
                let src = self.int(node, 0)?;
                self.global_average_of(&src, &[2, 3], self.made(node)?.1)?
            }
            "QLinearConcat" => {
                let parts: Vec<View> =
                    (2..node.inputs.len()).step_by(3).map(|i| self.int(node, i)).collect::<Result<_, _>>()?;
                self.concat_of(node, &parts)?
            }
            "QLinearMatMul" | "QGemm" => self.qlinear_product(node)?,
            _ => return Err("no int8 kernel for this operator in this build".into()),
        };
        let scale = match node.op.as_str() {
            "QLinearConv" | "QLinearMatMul" => 6,
            "QGemm" if self.name(node, 7).is_err() => return Ok(Value::Pending(pending)),
            "QGemm" => 7,
            "QLinearConcat" => 0,
            _ => 3,
        };
        let quant = self.quant(node, scale, self.made(node)?.0)?;
        self.emit(&pending, quant).map(Value::Int)
    }

    /// The real view of an int8 tensor, or a dequantised constant; scale and zero point follow it.
    fn operand_or_constant(&mut self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        match self.constant(node, i) {
            Err(_) => self.int(node, i).map(Value::Real),
            Ok(_) => self.constant_weights(node, i, 0).map(|w| Value::Weights(Rc::new(w))),
        }
    }

    /// Constant weights of input `i`, their scales and zero points after it; these lie along
    /// `axis`.
    fn constant_weights(&self, node: &'g Node, i: usize, axis: usize) -> Result<Weights<'g>, Why> {
        let (constant, scales) = (self.constant(node, i)?, self.scales(node, i + 1)?);
        let zero_points = match self.name(node, i + 2) {
            Ok(_) => integers(&self.constant(node, i + 2)?.values)?,
            Err(_) => vec![0],
        };
        Ok(Weights { constant: Cow::Borrowed(constant), zero_points, scales, axis })
    }

    /// The int32 biases of input `i`, or zeros.
    fn accumulated(&self, node: &'g Node, i: usize, n: usize) -> Result<Bias, Why> {
        let values = match self.name(node, i) {
            Err(_) => vec![0; n],
            Ok(_) => match &self.constant(node, i)?.values {
                Values::I32(v) if v.len() == n => v.clone(),
                Values::I32(v) if v.len() == 1 => vec![v[0]; n],
                other => return Err(format!("a bias of {} in another shape, expected {n} of int32", other.element())),
            },
        };
        Ok(Bias { values, rounded: false })
    }

    fn qlinear_conv(&mut self, node: &'g Node) -> Result<Pending, Why> {
        let src = self.int(node, 0)?;
        let w = self.constant_weights(node, 3, 0)?;
        let values = centred_weights(&w.constant, &w.zero_points, 0)?;
        let s_in = self.get(src.id).quant.scale;
        let steps: Vec<f32> = w.scales.iter().map(|s| s_in * s).collect();
        let bias = self.accumulated(node, 8, w.constant.dims.first().copied().unwrap_or(0))?;
        self.conv_of(node, &src, &w.constant.dims, values, bias, &steps)
    }

    fn qlinear_product(&mut self, node: &'g Node) -> Result<Pending, Why> {
        let src = self.int(node, 0)?;
        let flag = |name: &str| matches!(node.attributes.get(name), Some(Attribute::Int(1)));
        let (gemm, src) = (node.op == "QGemm", if flag("transA") { src.turned() } else { src });
        let alpha = if let Some(Attribute::Float(alpha)) = node.attributes.get("alpha") { *alpha } else { 1.0 };
        let transposed = gemm && flag("transB");
        let rank = self.dims(node, 3)?.len();
        let axis = if transposed { 0 } else { axis_of(-1, rank)? };
        let weights = self.constant_weights(node, 3, axis)?;
        let weights = self.product_weights(&src, &weights, transposed, alpha)?;
        let n = weights.outputs();
        let bias = if gemm { self.accumulated(node, 6, n)? } else { Bias { values: vec![0; n], rounded: false } };
        let (_, dims) = self.made(node)?;
        self.product_of(&src, weights, bias, dims)
    }
}
