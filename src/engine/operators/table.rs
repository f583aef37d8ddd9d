//! The table: one entry an operator.
//!
//! To add an operator, write its entry here, its rule in [`super::shapes`] and what computes it in
//! `lower`; a spelling of it in tests/data/make_operators.py then shows that all three say what
//! ONNX says.

use super::{Fact, Input, Known, Operator, Presence, Says, Why, shapes};
use crate::engine::operators::Call;
use crate::engine::proto::Node;

type Rule = fn(&Call<'_>) -> Result<Vec<Fact>, Why>;

const fn required(name: &'static str) -> Input {
    Input { name, kind: Presence::Required, since: 0 }
}

const fn optional(name: &'static str) -> Input {
    Input { name, kind: Presence::Optional, since: 0 }
}

const fn many(name: &'static str) -> Input {
    Input { name, kind: Presence::Many, since: 0 }
}

impl Input {
    const fn since(mut self, opset: i64) -> Self {
        self.since = opset;
        self
    }
}

const fn known(name: &'static str, says: Says) -> Known {
    Known { name, says, since: 0, until: i64::MAX, required: false }
}

impl Known {
    const fn since(mut self, opset: i64) -> Self {
        self.since = opset;
        self
    }

    const fn until(mut self, opset: i64) -> Self {
        self.until = opset;
        self
    }

    const fn must(mut self) -> Self {
        self.required = true;
        self
    }
}

const fn onnx(
    name: &'static str,
    since: i64,
    inputs: &'static [Input],
    attributes: &'static [Known],
    shape: Rule,
) -> Operator {
    Operator { name, microsoft: false, since, inputs, outputs: 1, attributes, real: true, shape }
}

const fn microsoft(name: &'static str, inputs: &'static [Input], attributes: &'static [Known], shape: Rule) -> Operator {
    Operator { name, microsoft: true, since: 0, inputs, outputs: 1, attributes, real: false, shape }
}

const fn outputs(mut operator: Operator, most: usize) -> Operator {
    operator.outputs = most;
    operator
}

/// One that works on integers and their scales: it is either lowered to int8 or refused.
const fn quantised(mut operator: Operator) -> Operator {
    operator.real = false;
    operator
}

/// One of ONNX Runtime's own that works on real values.
const fn in_f32(mut operator: Operator) -> Operator {
    operator.real = true;
    operator
}

/// Any whole number: the shape rule looks whether it is an axis.
const ANY: Says = Says::Int(i64::MIN, i64::MAX);
const FLAG: Says = Says::Int(0, 1);
const X: &[Input] = &[required("X")];
const AB: &[Input] = &[required("A"), required("B")];
const AUTO_PAD: Says = Says::Text(&["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]);
const NONE: &[Known] = &[];
const AXIS: &[Known] = &[known("axis", ANY)];
const WINDOW: &[Known] = &[
    known("auto_pad", AUTO_PAD),
    known("dilations", Says::Ints),
    known("group", Says::Int(1, 1 << 16)),
    known("kernel_shape", Says::Ints),
    known("pads", Says::Ints),
    known("strides", Says::Ints),
];
/// In ONNX Runtime's QOperator form scale and zero point follow each operand.
const QUANTISED_UNARY: &[Input] =
    &[required("X"), required("X_scale"), optional("X_zero_point"), required("Y_scale"), optional("Y_zero_point")];
const QUANTISED_BINARY: &[Input] = &[
    required("A"),
    required("A_scale"),
    optional("A_zero_point"),
    required("B"),
    required("B_scale"),
    optional("B_zero_point"),
    required("C_scale"),
    optional("C_zero_point"),
];
const QUANTISED_POOL: &[Known] = &[
    known("auto_pad", AUTO_PAD),
    known("ceil_mode", FLAG),
    known("channels_last", Says::Int(0, 0)),
    known("count_include_pad", FLAG),
    known("dilations", Says::Ints),
    known("kernel_shape", Says::Ints).must(),
    known("pads", Says::Ints),
    known("strides", Says::Ints),
];

/// Every operator that is known here.
const TABLE: &[Operator] = &[
    quantised(onnx(
        "QuantizeLinear",
        10,
        &[required("x"), required("y_scale"), optional("y_zero_point")],
        &[
            known("axis", ANY).since(13),
            // Of 8-bit floats only, which no scale here makes.
            known("saturate", FLAG).since(19),
            known("block_size", Says::Int(0, 0)).since(21),
            // Of TensorProto: as the zero point, uint8 or int8.
            known("output_dtype", Says::Int(0, 3)).since(21),
            known("precision", Says::Int(0, 1)).since(23),
        ],
        shapes::quantize,
    )),
    microsoft(
        "QuantizeLinear",
        &[required("x"), required("y_scale"), optional("y_zero_point")],
        &[known("axis", ANY)],
        shapes::quantize,
    ),
    quantised(onnx(
        "DequantizeLinear",
        10,
        &[required("x"), required("x_scale"), optional("x_zero_point")],
        &[
            known("axis", ANY).since(13),
            known("block_size", Says::Int(0, 0)).since(21),
            known("output_dtype", Says::Int(0, 1)).since(23),
        ],
        shapes::dequantize,
    )),
    microsoft(
        "DequantizeLinear",
        &[required("x"), required("x_scale"), optional("x_zero_point")],
        &[known("axis", ANY)],
        shapes::dequantize,
    ),
    onnx("Conv", 1, &[required("X"), required("W"), optional("B")], WINDOW, shapes::conv),
    quantised(onnx(
        "QLinearConv",
        10,
        &[
            required("x"),
            required("x_scale"),
            required("x_zero_point"),
            required("w"),
            required("w_scale"),
            required("w_zero_point"),
            required("y_scale"),
            required("y_zero_point"),
            optional("B"),
        ],
        WINDOW,
        shapes::qlinear_conv,
    )),
    onnx(
        "Gemm",
        7,
        &[required("A"), required("B"), optional("C")],
        &[known("alpha", Says::Real), known("beta", Says::Real), known("transA", FLAG), known("transB", FLAG)],
        shapes::gemm,
    ),
    microsoft(
        "QGemm",
        &[
            required("A"),
            required("A_scale"),
            required("A_zero_point"),
            required("B"),
            required("B_scale"),
            required("B_zero_point"),
            optional("C"),
            optional("Y_scale"),
            optional("Y_zero_point"),
        ],
        &[known("alpha", Says::Real), known("transA", FLAG), known("transB", FLAG)],
        shapes::qgemm,
    ),
    onnx("MatMul", 1, AB, NONE, shapes::matmul),
    quantised(onnx(
        "MatMulInteger",
        10,
        &[required("A"), required("B"), optional("a_zero_point"), optional("b_zero_point")],
        NONE,
        shapes::matmul_integer,
    )),
    quantised(onnx(
        "QLinearMatMul",
        10,
        &[
            required("a"),
            required("a_scale"),
            required("a_zero_point"),
            required("b"),
            required("b_scale"),
            required("b_zero_point"),
            required("y_scale"),
            required("y_zero_point"),
        ],
        NONE,
        shapes::qlinear_matmul,
    )),
    onnx("Add", 7, AB, NONE, shapes::binary),
    onnx("Sub", 7, AB, NONE, shapes::binary),
    onnx("Mul", 7, AB, NONE, shapes::binary),
    onnx("Div", 7, AB, NONE, shapes::binary),
    onnx("Pow", 7, &[required("X"), required("Y")], NONE, shapes::binary),
    onnx("PRelu", 7, &[required("X"), required("slope")], NONE, shapes::prelu),
    onnx("Min", 8, &[many("data_0")], NONE, shapes::variadic),
    onnx("Max", 8, &[many("data_0")], NONE, shapes::variadic),
    microsoft("QLinearAdd", QUANTISED_BINARY, NONE, shapes::qlinear_binary),
    microsoft("QLinearMul", QUANTISED_BINARY, NONE, shapes::qlinear_binary),
    onnx(
        "BatchNormalization",
        9,
        &[required("X"), required("scale"), required("B"), required("mean"), required("var")],
        &[
            known("epsilon", Says::Real),
            // Of training only.
            known("momentum", Says::Real),
            known("training_mode", Says::Int(0, 0)).since(14),
        ],
        shapes::batch_normalization,
    ),
    onnx(
        "Cast",
        9,
        &[required("input")],
        &[
            known("to", ANY).must(),
            // Of 8-bit floats only.
            known("saturate", FLAG).since(19),
            known("round_mode", Says::Text(&["up", "down", "nearest"])).since(24),
        ],
        shapes::cast,
    ),
    onnx("GlobalAveragePool", 1, X, NONE, shapes::global_pool),
    onnx("GlobalMaxPool", 1, X, NONE, shapes::global_pool),
    onnx(
        "ReduceMean",
        1,
        &[required("data"), optional("axes").since(18)],
        &[known("axes", Says::Ints).until(17), known("keepdims", FLAG), known("noop_with_empty_axes", FLAG).since(18)],
        shapes::reduced,
    ),
    onnx(
        "AveragePool",
        1,
        X,
        &[
            known("auto_pad", AUTO_PAD),
            known("ceil_mode", FLAG).since(10),
            known("count_include_pad", FLAG).since(7),
            known("dilations", Says::Ints).since(19),
            known("kernel_shape", Says::Ints).must(),
            known("pads", Says::Ints),
            known("strides", Says::Ints),
        ],
        shapes::pool,
    ),
    onnx(
        "MaxPool",
        8,
        X,
        &[
            known("auto_pad", AUTO_PAD),
            known("ceil_mode", FLAG).since(10),
            known("dilations", Says::Ints).since(10),
            known("kernel_shape", Says::Ints).must(),
            known("pads", Says::Ints),
            // Of the indices only, which are not given here.
            known("storage_order", FLAG),
            known("strides", Says::Ints),
        ],
        shapes::pool,
    ),
    microsoft("QLinearGlobalAveragePool", QUANTISED_UNARY, &[known("channels_last", Says::Int(0, 0))], shapes::global_pool),
    microsoft("QLinearAveragePool", QUANTISED_UNARY, QUANTISED_POOL, shapes::pool),
    onnx(
        "Pad",
        2,
        &[required("data"), required("pads").since(11), optional("constant_value").since(11), optional("axes").since(18)],
        &[
            known("mode", Says::Text(&["constant", "reflect", "edge"])),
            known("pads", Says::Ints).until(10).must(),
            known("value", Says::Real).until(10),
        ],
        shapes::pad,
    ),
    onnx("Relu", 6, X, NONE, shapes::real),
    onnx(
        "Clip",
        6,
        &[required("input"), optional("min").since(11), optional("max").since(11)],
        &[known("min", Says::Bound).until(10), known("max", Says::Bound).until(10)],
        shapes::clip,
    ),
    onnx("Softmax", 1, X, AXIS, shapes::softmax),
    microsoft(
        "QLinearSoftmax",
        QUANTISED_UNARY,
        &[known("axis", ANY), known("opset", Says::Int(1, super::super::proto::NEWEST_OPSET)).must()],
        shapes::first,
    ),
    onnx("Sigmoid", 6, X, NONE, shapes::real),
    onnx("Tanh", 6, X, NONE, shapes::real),
    onnx("HardSigmoid", 6, X, &[known("alpha", Says::Real), known("beta", Says::Real)], shapes::real),
    onnx("HardSwish", 14, X, NONE, shapes::real),
    onnx("LeakyRelu", 6, X, &[known("alpha", Says::Real)], shapes::real),
    onnx("ThresholdedRelu", 10, X, &[known("alpha", Says::Real)], shapes::real),
    onnx("Elu", 6, X, &[known("alpha", Says::Real)], shapes::real),
    onnx("Selu", 6, X, &[known("alpha", Says::Real), known("gamma", Says::Real)], shapes::real),
    onnx("Celu", 12, X, &[known("alpha", Says::Real)], shapes::real),
    onnx("Softplus", 1, X, NONE, shapes::real),
    onnx("Softsign", 1, X, NONE, shapes::real),
    onnx("Gelu", 20, X, &[known("approximate", Says::Text(&["none", "tanh"]))], shapes::real),
    in_f32(microsoft("Gelu", X, NONE, shapes::real)),
    onnx("Mish", 18, X, NONE, shapes::real),
    onnx("Swish", 24, X, &[known("alpha", Says::Real)], shapes::real),
    onnx("Erf", 9, X, NONE, shapes::real),
    onnx("Exp", 6, X, NONE, shapes::real),
    onnx("Log", 6, X, NONE, shapes::real),
    onnx("Sqrt", 6, X, NONE, shapes::real),
    onnx("Abs", 6, X, NONE, shapes::real),
    onnx("Neg", 6, X, NONE, shapes::real),
    onnx("Reciprocal", 6, X, NONE, shapes::real),
    microsoft("QLinearSigmoid", QUANTISED_UNARY, NONE, shapes::first),
    microsoft("QLinearLeakyRelu", QUANTISED_UNARY, &[known("alpha", Says::Real)], shapes::first),
    onnx("Concat", 4, &[many("inputs")], &[known("axis", ANY).must()], shapes::concat),
    microsoft(
        "QLinearConcat",
        &[required("Y_scale"), required("Y_zero_point"), many("inputs")],
        &[known("axis", ANY).must()],
        shapes::qlinear_concat,
    ),
    outputs(
        onnx(
            "Split",
            2,
            &[required("input"), optional("split").since(13)],
            &[
                known("axis", ANY),
                known("split", Says::Ints).until(12),
                known("num_outputs", Says::Int(1, 1 << 16)).since(18),
            ],
            shapes::split,
        ),
        1 << 10,
    ),
    onnx(
        "Slice",
        10,
        &[required("data"), required("starts"), required("ends"), optional("axes"), optional("steps")],
        NONE,
        shapes::slice,
    ),
    onnx("Flatten", 1, X, AXIS, shapes::flatten),
    onnx("Reshape", 5, &[required("data"), required("shape")], &[known("allowzero", FLAG).since(14)], shapes::reshape),
    onnx(
        "Squeeze",
        1,
        &[required("data"), optional("axes").since(13)],
        &[known("axes", Says::Ints).until(12)],
        shapes::squeeze,
    ),
    onnx(
        "Unsqueeze",
        1,
        &[required("data"), required("axes").since(13)],
        &[known("axes", Says::Ints).until(12).must()],
        shapes::unsqueeze,
    ),
    onnx("Transpose", 1, X, &[known("perm", Says::Ints)], shapes::transpose),
    onnx("Identity", 1, X, NONE, shapes::first),
    onnx(
        "Dropout",
        7,
        &[required("data"), optional("ratio").since(12), optional("training_mode").since(12)],
        &[known("ratio", Says::Real).until(11), known("seed", ANY).since(12)],
        shapes::dropout,
    ),
    onnx("Shape", 1, X, &[known("start", ANY).since(15), known("end", ANY).since(15)], shapes::shape),
    onnx("Size", 1, X, NONE, shapes::size),
    onnx("Gather", 1, &[required("data"), required("indices")], AXIS, shapes::gather),
    onnx("ConstantOfShape", 9, &[required("input")], &[known("value", Says::Tensor)], shapes::constant_of_shape),
    onnx("Expand", 8, &[required("input"), required("shape")], NONE, shapes::expand),
];

/// Axes are an attribute up to this opset, then an input.
const fn reduction(name: &'static str) -> Operator {
    onnx(name, 1, REDUCED, REDUCTION, shapes::reduced)
}

const REDUCED: &[Input] = &[required("data"), optional("axes").since(18)];
const REDUCTION: &[Known] =
    &[known("axes", Says::Ints).until(17), known("keepdims", FLAG), known("noop_with_empty_axes", FLAG).since(18)];
const ARG: &[Known] = &[known("axis", ANY), known("keepdims", FLAG), known("select_last_index", FLAG).since(12)];

/// Operators without an int8 kernel: they run in islands.
const IN_F32: &[Operator] = &[
    onnx(
        "Resize",
        10,
        // In opset 10 the second input is the scales.
        &[required("X"), optional("roi"), optional("scales").since(11), optional("sizes").since(11)],
        &[
            known("mode", Says::Text(&["nearest", "linear", "cubic"])),
            known(
                "coordinate_transformation_mode",
                Says::Text(&["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
            )
            .since(11),
            known("nearest_mode", Says::Text(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])).since(11),
            known("cubic_coeff_a", Says::Real).since(11),
            known("exclude_outside", Says::Int(0, 0)).since(11),
            // Of a mode that is not known here.
            known("extrapolation_value", Says::Real).since(11),
            known("antialias", Says::Int(0, 0)).since(18),
            known("axes", Says::Ints).since(18),
            known("keep_aspect_ratio_policy", Says::Text(&["stretch"])).since(18),
        ],
        shapes::resize,
    ),
    onnx(
        "LayerNormalization",
        17,
        &[required("X"), required("Scale"), optional("B")],
        // The type in which it computes is float either way.
        &[known("axis", ANY), known("epsilon", Says::Real), known("stash_type", Says::Int(1, 1))],
        shapes::layer_normalization,
    ),
    onnx(
        "InstanceNormalization",
        6,
        &[required("input"), required("scale"), required("B")],
        &[known("epsilon", Says::Real)],
        shapes::channel_normalization,
    ),
    onnx(
        "GroupNormalization",
        // Before, scale and bias were one a group.
        21,
        &[required("X"), required("scale"), required("bias")],
        &[
            known("epsilon", Says::Real),
            known("num_groups", Says::Int(1, 1 << 16)).must(),
            known("stash_type", Says::Int(1, 1)),
        ],
        shapes::channel_normalization,
    ),
    onnx(
        "LRN",
        1,
        X,
        &[
            known("alpha", Says::Real),
            known("beta", Says::Real),
            known("bias", Says::Real),
            known("size", Says::Int(1, 1 << 10)).must(),
        ],
        shapes::local_response,
    ),
    onnx("LpNormalization", 1, X, &[known("axis", ANY), known("p", Says::Int(1, 2))], shapes::along_axis),
    onnx("MeanVarianceNormalization", 9, X, &[known("axes", Says::Ints)], shapes::mean_variance),
    onnx("LogSoftmax", 1, X, AXIS, shapes::softmax),
    onnx("Hardmax", 1, X, AXIS, shapes::softmax),
    onnx("ArgMax", 1, &[required("data")], ARG, shapes::arg),
    onnx("ArgMin", 1, &[required("data")], ARG, shapes::arg),
    onnx(
        "ConvTranspose",
        1,
        &[required("X"), required("W"), optional("B")],
        &[
            known("auto_pad", Says::Text(&["NOTSET"])),
            known("dilations", Says::Ints),
            known("group", Says::Int(1, 1 << 16)),
            known("kernel_shape", Says::Ints),
            known("output_padding", Says::Ints),
            known("pads", Says::Ints),
            known("strides", Says::Ints),
        ],
        shapes::conv_transpose,
    ),
    onnx(
        "ReduceSum",
        1,
        &[required("data"), optional("axes").since(13)],
        &[known("axes", Says::Ints).until(12), known("keepdims", FLAG), known("noop_with_empty_axes", FLAG).since(13)],
        shapes::reduced,
    ),
    reduction("ReduceMax"),
    reduction("ReduceMin"),
    reduction("ReduceProd"),
    reduction("ReduceL1"),
    reduction("ReduceL2"),
    reduction("ReduceSumSquare"),
    reduction("ReduceLogSum"),
    reduction("ReduceLogSumExp"),
    onnx("Floor", 6, X, NONE, shapes::real),
    onnx("Ceil", 6, X, NONE, shapes::real),
    onnx("Round", 11, X, NONE, shapes::real),
    onnx("Sign", 9, X, NONE, shapes::real),
    onnx("Sin", 7, X, NONE, shapes::real),
    onnx("Cos", 7, X, NONE, shapes::real),
    onnx("Atan", 7, X, NONE, shapes::real),
    onnx("Sum", 8, &[many("data_0")], NONE, shapes::variadic),
    onnx("Mean", 8, &[many("data_0")], NONE, shapes::variadic),
    onnx("Equal", 7, AB, NONE, shapes::compared),
    onnx("Greater", 7, AB, NONE, shapes::compared),
    onnx("Less", 7, AB, NONE, shapes::compared),
    onnx("GreaterOrEqual", 12, AB, NONE, shapes::compared),
    onnx("LessOrEqual", 12, AB, NONE, shapes::compared),
    onnx("And", 7, AB, NONE, shapes::logical),
    onnx("Or", 7, AB, NONE, shapes::logical),
    onnx("Not", 1, X, NONE, shapes::not),
    onnx("Where", 9, &[required("condition"), required("X"), required("Y")], NONE, shapes::chosen),
    onnx(
        "DepthToSpace",
        1,
        &[required("input")],
        &[known("blocksize", Says::Int(1, 64)).must(), known("mode", Says::Text(&["DCR", "CRD"])).since(11)],
        shapes::blocks,
    ),
    onnx("SpaceToDepth", 1, &[required("input")], &[known("blocksize", Says::Int(1, 64)).must()], shapes::blocks),
    onnx("Tile", 6, &[required("input"), required("repeats")], NONE, shapes::tile),
];

/// The entry of a node's operator.
pub(super) fn find(node: &Node) -> Result<&'static Operator, Why> {
    let entry = TABLE.iter().chain(IN_F32).find(|o| o.name == node.op && o.microsoft == node.microsoft);
    entry.ok_or_else(|| match node.op.split_once("::") {
        Some((domain, _)) => format!("its domain \"{domain}\" is unknown"),
        None => "this operator is unknown here".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is searched by name and domain: a second entry would never be found.
    #[test]
    fn no_operator_stands_there_twice() {
        let all: Vec<&Operator> = TABLE.iter().chain(IN_F32).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].iter().any(|b| a.name == b.name && a.microsoft == b.microsoft), "{}", a.name);
        }
    }

    #[test]
    fn only_the_last_input_may_be_many() {
        for operator in TABLE.iter().chain(IN_F32) {
            let before = operator.inputs.len().saturating_sub(1);
            assert!(operator.inputs[..before].iter().all(|i| i.kind != Presence::Many), "{}", operator.name);
        }
    }
}
