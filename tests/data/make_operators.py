"""Makes operators.bin, spellings of every operator of the engine's table: python3 tests/data/make_operators.py (needs onnx, onnxruntime, numpy).

Each case is one small model. What it means is judged by onnx.reference and by ONNX Runtime without optimisation, which must agree
where both can run it. `runs`: the engine must give that answer; `scores`: its softmax must; `index`: the first of its largest
logits must be the answer. `refused`: the engine must refuse it and
name the node that is given. What is printed says which of those ONNX itself allows.

The input of a float model is `((i * 7919 + 13) % 511 - 255) / 128`, that of an integer model the code `(i * 89 + 7) % 256`, less 128
for int8; i counts in the model's own order.

operators.bin: for each case a line `name verdict node tolerance onnx-bytes expected-values`, then these bytes, then little-endian f32.
"""

import os
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from onnx.reference import ReferenceEvaluator

HERE = os.path.dirname(os.path.abspath(__file__))
SCALE = 0.02
OUT = 0.03
CASES = []


class B:
    """A model under construction; methods return names."""

    def __init__(self, shape=(1, 4, 3, 4), opset=20, seed=1, it=T.FLOAT, sym=None):
        self.rng, self.nodes, self.init, self.n = np.random.default_rng(seed), [], [], 0
        self.shape, self.opset, self.it, self.sym = shape, opset, it, sym

    def c(self, v):
        self.n += 1
        self.init.append(nh.from_array(np.asarray(v), f"k{self.n}"))
        return f"k{self.n}"

    def i64(self, *v):
        return self.c(np.array(v, np.int64))

    def f(self, v):
        return self.c(np.asarray(v, np.float32))

    def real(self, *shape, lo=-1.0, hi=1.0):
        return self.f(self.rng.uniform(lo, hi, shape))

    def op(self, kind, *ins, n=1, name=None, domain="", **attributes):
        self.n += 1
        name = name or f"{kind}{self.n}"
        outs = [f"t{self.n}_{i}" for i in range(n)]
        self.nodes.append(h.make_node(kind, list(ins), outs, name=name, domain=domain, **attributes))
        return outs[0] if n == 1 else outs

    def ms(self, kind, *ins, **attributes):
        return self.op(kind, *ins, domain="com.microsoft", **attributes)

    def q(self, x, scale=SCALE, zp=3, ty=np.int8, **attributes):
        return self.op("QuantizeLinear", x, self.f(scale), self.c(ty(zp)), **attributes)

    def dq(self, x, scale=SCALE, zp=3, ty=np.int8, **attributes):
        return self.op("DequantizeLinear", x, self.f(scale), self.c(ty(zp)), **attributes)

    def qdq(self, x, scale=SCALE, zp=3, ty=np.int8):
        return self.dq(self.q(x, scale, zp, ty), scale, zp, ty)

    def x(self, scale=SCALE, zp=3, ty=np.int8):
        return self.qdq("x", scale, zp, ty)

    def ints(self, *shape, lo=-127, hi=128, ty=np.int8):
        return self.rng.integers(lo, hi, shape).astype(ty)

    def w(self, shape, axis=0, scale=0.01, ty=np.int8, zp=0):
        n = shape[axis]
        lo, hi = (0, 256) if ty == np.uint8 else (-127, 128)
        self.scales = (self.rng.uniform(0.5, 1.5, n) * scale).astype(np.float32)
        v = self.c(self.ints(*shape, lo=lo, hi=hi, ty=ty))
        return self.op("DequantizeLinear", v, self.c(self.scales), self.c(np.full(n, zp, ty)), axis=axis)

    def bias(self, n, s_in=SCALE, factor=1.0):
        v = self.c(self.rng.integers(-4000, 4000, n).astype(np.int32))
        return self.op("DequantizeLinear", v, self.c((self.scales * np.float32(s_in * factor)).astype(np.float32)), axis=0)

    def out(self, y, scale=OUT, zp=-5, ty=np.int8):
        return self.qdq(y, scale, zp, ty)

    def model(self, out, out_type=T.FLOAT):
        last = self.nodes[-1]
        last.output[list(last.output).index(out)] = "out"
        dims = list(self.shape) if self.sym is None else [self.sym] + list(self.shape[1:])
        graph = h.make_graph(
            self.nodes, "g", [h.make_tensor_value_info("x", self.it, dims)],
            [h.make_tensor_value_info("out", out_type, None)], self.init,
        )
        return h.make_model(graph, opset_imports=[h.make_opsetid("", self.opset), h.make_opsetid("com.microsoft", 1)], ir_version=10)


def pattern(shape, it):
    n = int(np.prod(shape))
    i = np.arange(n, dtype=np.int64)
    if it == T.FLOAT:
        return ((i * 7919 + 13) % 511 - 255).astype(np.float32).reshape(shape) / 128
    code = (i * 89 + 7) % 256
    return (code.astype(np.uint8) if it == T.UINT8 else (code - 128).astype(np.int8)).reshape(shape)


def judged(model, x):
    """What ONNX Runtime and onnx.reference answer; None for one that refuses."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    answers = []
    for run in (
        lambda: ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0],
        lambda: ReferenceEvaluator(model).run(None, {"x": x})[0],
    ):
        try:
            answers.append(np.asarray(run(), np.float32))
        except Exception as e:
            answers.append(None)
            answers_why[len(answers) - 1] = str(e).replace("\n", " ")[:90]
    return answers


answers_why = {}
written = []


def case(name, b, out, verdict="runs", node="-", tol=OUT, out_type=T.FLOAT, judge=None):
    """`tol`: the largest difference from the judges' answer; `judge`: `ort` or `ref` where the other one is known to be wrong."""
    model = b.model(out, out_type)
    x = pattern(b.shape, b.it)
    by_ort, by_ref = judged(model, x)
    if by_ort is not None and by_ref is not None and judge is None:
        ok = by_ort.shape == by_ref.shape and np.allclose(by_ort, by_ref, atol=tol * 1.01, rtol=0, equal_nan=True)
        if not ok and verdict == "runs":
            sys.exit(f"{name}: the judges disagree: {by_ort.shape} {by_ref.shape} {by_ort.ravel()[:6]} {by_ref.ravel()[:6]}")
    answer = by_ref if judge == "ref" or by_ort is None else by_ort
    if verdict in ("runs", "index") and answer is None:
        sys.exit(f"{name}: no judge runs it: {answers_why}")
    kind = "illegal" if answer is None else "legal"
    written.append((name, verdict, kind))
    expected = answer.ravel().astype("<f4").tobytes() if verdict in ("runs", "scores", "index") else b""
    data = model.SerializeToString()
    CASES.append(f"{name} {verdict} {node} {tol} {len(data)} {len(expected) // 4}\n".encode() + data + expected)


def refused(name, b, out, node, **k):
    case(name, b, out, "refused", node, **k)


def broadcasting():
    shapes = [[], [1], [4], [1, 4], [3, 1], [3, 4], [4, 1, 1], [1, 4, 1, 1], [1, 1, 3, 1], [1, 1, 1, 4], [4, 3, 4], [1, 4, 3, 4], [1, 1, 1, 1, 1], [2, 1, 1, 1]]
    for op in ("Add", "Sub", "Mul", "Div"):
        for shape in shapes:
            b = B()
            k = b.real(*shape, lo=0.5, hi=1.5)
            case(f"{op}_constant_{'x'.join(map(str, shape)) or 'scalar'}", b, b.out(b.op(op, b.x(), k)))
        b = B()
        k = b.real(4, 1, 1, lo=0.5, hi=1.5)
        y = b.out(b.op(op, k, b.x(), name="node"))
        case(f"{op}_constant_first", b, y)
    for op in ("Add", "Mul"):
        for shape in ([4], [4, 1, 1], [1, 1, 3, 4]):
            b = B()
            k = b.dq(b.c(b.ints(*shape)), 0.01, 0)
            case(f"{op}_dequantised_{len(shape)}", b, b.out(b.op(op, b.x(), k)))
    b = B()
    k = b.w((4, 1, 1), 0)
    case("Add_dequantised_by_slices", b, b.out(b.op("Add", b.x(), k)))
    b = B()
    refused("Add_shapes", b, b.out(b.op("Add", b.x(), b.real(2, 3), name="node")), "node")
    for op in ("Add", "Sub", "Mul"):
        for first in (False, True):
            for what in ("pixel", "row", "column", "plane", "vector", "same", "crossed"):
                b = B((1, 3, 3, 3)) if what in ("vector", "row") else B()
                x = b.x()
                c, hh, ww = b.shape[1:]
                other = {
                    "pixel": lambda: b.qdq(b.op("GlobalAveragePool", x)),
                    "row": lambda: b.op("Slice", x, b.i64(1), b.i64(2), b.i64(2)),
                    "column": lambda: b.op("Slice", x, b.i64(1), b.i64(2), b.i64(3)),
                    "plane": lambda: b.op("Slice", x, b.i64(1), b.i64(2), b.i64(1)),
                    "vector": lambda: b.op("Flatten", b.qdq(b.op("GlobalAveragePool", x))),
                    "same": lambda: b.qdq(x, 0.05, 1),
                    "crossed": lambda: b.op("Transpose", b.op("Reshape", x, b.i64(1, c, ww, hh)), perm=[0, 1, 3, 2]),
                }[what]()
                case(f"{op}_{what}_{'first' if first else 'second'}", b, b.out(b.op(op, *((other, x) if first else (x, other)))))
        b = B()
        x = b.x()
        g = b.qdq(b.op("GlobalAveragePool", x))
        p = b.op("Slice", x, b.i64(1), b.i64(2), b.i64(1))
        case(f"{op}_both_widened", b, b.out(b.op(op, g, p)))
        b = B()
        x = b.x()
        case(f"{op}_itself", b, b.out(b.op(op, x, x)))
    b = B()
    x = b.x()
    case("Div_of_two", b, b.out(b.op("Div", x, b.qdq(x, 0.05, 1), name="node")), judge="ort")
    for op, k in (("Min", 0.4), ("Max", -0.3), ("Pow", 2.0), ("Pow", 3.0)):
        b = B()
        case(f"{op}_{k}", b, b.out(b.op(op, b.x(), b.f(k))))
    b = B()
    case("Min_of_three", b, b.out(b.op("Min", b.x(), b.f(0.1), b.f(0.2), name="node")))
    b = B()
    case("PRelu_scalar", b, b.out(b.op("PRelu", b.x(), b.f([0.2]))))
    b = B()
    case("PRelu_all_alike", b, b.out(b.op("PRelu", b.x(), b.f(np.full((4, 1, 1), 0.2)))))
    b = B()
    case("PRelu_by_channel", b, b.out(b.op("PRelu", b.x(), b.real(4, 1, 1), name="node")))
    b = B()
    refused("PRelu_wider", b, b.out(b.op("PRelu", b.x(), b.real(2, 1, 1, 1), name="node")), "node")


def functions():
    table = [
        ("Sigmoid", {}), ("Tanh", {}), ("Exp", {}), ("Abs", {}), ("Neg", {}), ("Erf", {}), ("Softplus", {}), ("Softsign", {}),
        ("Mish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("HardSwish", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("ThresholdedRelu", {}), ("ThresholdedRelu", {"alpha": 0.2}),
        ("Elu", {}), ("Elu", {"alpha": 0.5}), ("Selu", {}), ("Selu", {"alpha": 1.1, "gamma": 0.9}), ("Celu", {}), ("Celu", {"alpha": 0.7}),
        ("Relu", {}), ("Identity", {}), ("Dropout", {}),
    ]
    for op, attributes in table:
        b = B()
        y = b.op(op, b.x(), **attributes)
        # Something behind it, so that a last Sigmoid is not the head's.
        case(f"{op}_{'_'.join(map(str, attributes.values())) or 'plain'}", b, b.op("Flatten", b.out(b.op("Add", b.out(y), b.f(0.1)))))
    b = B(opset=24)
    case("Swish_24", b, b.op("Flatten", b.out(b.op("Swish", b.x(), alpha=1.3))))
    b = B()
    case("Gelu_microsoft", b, b.op("Flatten", b.out(b.ms("Gelu", b.x()))))
    # Everywhere that a value below 0 may be.
    for op in ("Log", "Sqrt"):
        b = B()
        # What has no value becomes the lowest code, as ONNX Runtime has it; ONNX leaves it open.
        case(f"{op}_below_0", b, b.out(b.op(op, b.x())), judge="ort")
    b = B()
    y = b.op("Sqrt", b.x(SCALE, 0, np.uint8))
    case("Sqrt_of_uint8", b, b.op("Flatten", b.out(y)))
    b = B()
    y = b.op("Reciprocal", b.op("Add", b.op("Abs", b.x()), b.f(0.5)))
    case("Reciprocal_of_function", b, b.op("Flatten", b.out(y)))
    # As exporters write them.
    b = B()
    x = b.x()
    case("silu_in_parts", b, b.out(b.op("Mul", x, b.op("Sigmoid", x))))
    b = B()
    x = b.x()
    e = b.op("Add", b.op("Erf", b.op("Div", x, b.f(2**0.5))), b.f(1.0))
    case("gelu_in_parts", b, b.out(b.op("Mul", b.op("Mul", x, e), b.f(0.5))))
    b = B()
    x = b.x()
    y = b.op("Div", b.op("Mul", x, b.op("Clip", b.op("Add", x, b.f(3)), b.f(0), b.f(6))), b.f(6))
    case("hardswish_in_parts", b, b.out(y))
    for name, lo, hi in (("both", -0.3, 0.5), ("min", -0.3, None), ("max", None, 0.5), ("none", None, None), ("infinite", -np.inf, 0.4)):
        for after in ("x", "conv"):
            b = B()
            y = b.x()
            if after == "conv":
                y = b.op("Conv", y, b.w((5, 4, 1, 1)))
            ins = [b.f(lo) if lo is not None else ""] + ([b.f(hi)] if hi is not None else [])
            case(f"Clip_{name}_{after}", b, b.out(b.op("Clip", y, *[i for i in ins] if any(ins) else [])))
    b = B()
    case("Clip_crossed", b, b.out(b.op("Clip", b.x(), b.f(0.5), b.f(0.1), name="node")))
    b = B()
    refused("Clip_of_one_a_channel", b, b.out(b.op("Clip", b.x(), b.real(4, 1, 1), name="node")), "node")
    b = B(opset=10)
    case("Clip_by_attributes", b, b.out(b.op("Clip", b.x(), min=-0.2, max=0.5)))
    b = B()
    refused("Clip_attributes_too_new", b, b.out(b.op("Clip", b.x(), min=-0.2, max=0.5, name="node")), "node")
    b = B()
    x = b.x()
    case("function_of_a_sum", b, b.out(b.op("Tanh", b.op("Add", x, b.qdq(x, 0.05, 1)), name="node")))


def axes():
    from itertools import permutations

    for perm in permutations(range(4)):
        b = B()
        y = b.op("Transpose", b.x(), perm=list(perm))
        case(f"Transpose_{''.join(map(str, perm))}", b, b.out(b.op("Add", y, b.f(0.1))))
    b = B()
    case("Transpose_without_perm", b, b.op("Transpose", b.x()))
    b = B()
    refused("Transpose_twice_one", b, b.op("Transpose", b.x(), perm=[0, 1, 1, 3], name="node"), "node")
    b = B()
    case("Transpose_codes", b, b.dq(b.op("Transpose", b.q("x"), perm=[0, 2, 3, 1])))
    b = B()
    y = b.op("Transpose", b.op("Conv", b.x(), b.w((5, 4, 1, 1))), perm=[0, 2, 3, 1])
    case("Transpose_before_quantised", b, b.out(b.op("Transpose", b.out(y), perm=[0, 3, 1, 2])))
    for to in ([1, 48], [48], [-1], [0, -1], [1, 12, 4], [0, 0, 12], [1, 2, 2, 3, 4], [1, 4, 4, 3], [3, 16], [2, 24], [1, 1, 48, 1]):
        b = B()
        case(f"Reshape_{'_'.join(map(str, to))}", b, b.out(b.op("Add", b.op("Reshape", b.x(), b.i64(*to)), b.f(0.1))))
        b = B()
        case(f"Reshape_codes_{'_'.join(map(str, to))}", b, b.dq(b.op("Reshape", b.q("x"), b.i64(*to))))
    b = B()
    refused("Reshape_allowzero", b, b.op("Reshape", b.x(), b.i64(0, 48), allowzero=1, name="node"), "node")
    b = B()
    refused("Reshape_too_small", b, b.op("Reshape", b.x(), b.i64(1, 47), name="node"), "node")
    b = B()
    refused("Reshape_open_twice", b, b.op("Reshape", b.x(), b.i64(-1, -1), name="node"), "node")
    b = B((1, 6, 3, 2))
    y = b.op("Reshape", b.op("Transpose", b.op("Reshape", b.x(), b.i64(1, 2, 3, 3, 2)), perm=[0, 2, 1, 3, 4]), b.i64(1, 6, 3, 2))
    case("shuffle", b, b.out(b.op("Conv", y, b.w((4, 6, 1, 1)))))
    for axis in (0, 1, 2, 3, 4, -1, -3):
        b = B()
        case(f"Flatten_{axis}", b, b.op("Flatten", b.x(), axis=axis))
    b = B()
    refused("Flatten_5", b, b.op("Flatten", b.x(), axis=5, name="node"), "node")
    for opset in (11, 13, 21):
        b = B((1, 4, 1, 3), opset)
        y = b.op("Squeeze", b.x(), b.i64(2)) if opset >= 13 else b.op("Squeeze", b.x(), axes=[2])
        case(f"Squeeze_{opset}", b, y)
        b = B((1, 4, 2, 3), opset)
        y = b.op("Unsqueeze", b.x(), b.i64(-1, 1)) if opset >= 13 else b.op("Unsqueeze", b.x(), axes=[5, 1])
        case(f"Unsqueeze_{opset}", b, y)
    b = B((1, 4, 1, 3))
    case("Squeeze_all", b, b.op("Squeeze", b.x()))
    b = B()
    refused("Squeeze_of_4", b, b.op("Squeeze", b.x(), b.i64(1), name="node"), "node")
    big, small = 2**63 - 1, -(2**63)
    for name, args in {
        "channels": ([1], [3], [1]), "rows": ([1], [3], [2]), "columns": ([0], [2], [3]), "last": ([-1], [big], [3]),
        "step": ([0], [big], [3], [2]), "back": ([-1], [small], [3], [-1]), "back_by_2": ([3], [0], [3], [-2]), "two": ([1, 0], [3, 2], [1, -1]),
        "no_axes": ([0, 1], [1, 3]), "beyond": ([1], [99], [1]), "all": ([0], [99], [1]),
    }.items():
        b = B()
        case(f"Slice_{name}", b, b.op("Slice", b.x(), *[b.i64(*a) for a in args]))
        b = B()
        case(f"Slice_codes_{name}", b, b.dq(b.op("Slice", b.q("x"), *[b.i64(*a) for a in args])))
    b = B()
    refused("Slice_nothing", b, b.op("Slice", b.x(), b.i64(3), b.i64(1), b.i64(1), name="node"), "node")
    b = B()
    refused("Slice_by_0", b, b.op("Slice", b.x(), b.i64(0), b.i64(1), b.i64(1), b.i64(0), name="node"), "node")
    b = B()
    refused("Slice_axis_twice", b, b.op("Slice", b.x(), b.i64(0, 0), b.i64(1, 1), b.i64(1, 1), name="node"), "node")
    for name, opset, axis, sizes, attributes in (
        ("equal", 13, 1, None, {}), ("sizes", 13, 1, [1, 3], {}), ("rows", 13, 2, [2, 1], {}), ("columns", 13, -1, None, {}),
        ("old", 11, 1, None, {"split": [3, 1]}), ("counted", 18, 1, None, {"num_outputs": 2}), ("uneven", 18, 2, None, {"num_outputs": 2}),
    ):
        b = B(opset=opset)
        ins = [b.x()] + ([b.i64(*sizes)] if sizes else [])
        parts = b.op("Split", *ins, n=2, axis=axis, **attributes)
        case(f"Split_{name}_first", b, b.out(b.op("Add", parts[0], b.f(0.1))))
        b = B(opset=opset)
        ins = [b.x()] + ([b.i64(*sizes)] if sizes else [])
        parts = b.op("Split", *ins, n=2, axis=axis, **attributes)
        case(f"Split_{name}_second", b, b.out(b.op("Add", parts[1], b.f(0.1))))
    b = B()
    parts = b.op("Split", b.x(), b.i64(1, 2), n=2, axis=1, name="node")
    refused("Split_too_few", b, b.out(b.op("Add", parts[0], b.f(0.1))), "node")
    for axis in (0, 1, 2, 3, -1, -3):
        b = B()
        x = b.x()
        case(f"Concat_{axis}", b, b.out(b.op("Concat", x, b.qdq(x, 0.05, 1), axis=axis)))
        b = B()
        q = b.q("x")
        case(f"Concat_codes_{axis}", b, b.dq(b.op("Concat", q, q, axis=axis)))
    b = B()
    x = b.x()
    v = b.op("Flatten", b.qdq(b.op("GlobalAveragePool", x)))
    case("Concat_vectors", b, b.out(b.op("Concat", v, b.qdq(v, 0.05, 1), v, axis=1)))
    b = B()
    x = b.x()
    refused("Concat_shapes", b, b.out(b.op("Concat", x, b.op("Flatten", x), axis=1, name="node")), "node")
    b = B()
    x = b.x()
    refused("Concat_without_axis", b, b.out(b.op("Concat", x, x, name="node")), "node")


def pools():
    for op in ("MaxPool", "AveragePool"):
        for name, opset, a in (
            ("plain", 11, {}), ("strides", 11, {"strides": [2, 1]}), ("pads", 11, {"pads": [1, 0, 1, 1]}), ("ceil", 11, {"strides": [2, 2], "ceil_mode": 1}),
            ("same_upper", 11, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}), ("same_lower", 11, {"auto_pad": "SAME_LOWER"}),
            ("valid", 11, {"auto_pad": "VALID"}), ("dilated", 19, {"dilations": [2, 1]}),
        ):
            b = B((1, 4, 5, 5), opset)
            case(f"{op}_{name}", b, b.out(b.op(op, b.x(), kernel_shape=[2, 3], **a)))
    b = B((1, 4, 5, 5))
    case("AveragePool_count_padding", b, b.out(b.op("AveragePool", b.x(), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)))
    b = B((1, 4, 5, 5))
    case("AveragePool_count_padding_and_ceil", b, b.out(b.op("AveragePool", b.x(), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1, ceil_mode=1, name="node")))
    b = B(opset=11)
    refused("AveragePool_dilated_too_old", b, b.out(b.op("AveragePool", b.x(), kernel_shape=[2, 2], dilations=[2, 2], name="node")), "node")
    b = B()
    refused("MaxPool_without_kernel", b, b.out(b.op("MaxPool", b.x(), name="node")), "node")
    b = B()
    case("MaxPool_codes", b, b.dq(b.op("MaxPool", b.q("x"), kernel_shape=[2, 2])))
    b = B(opset=11)
    refused("MaxPool_codes_too_old", b, b.dq(b.op("MaxPool", b.q("x"), kernel_shape=[2, 2], name="node")), "node")
    b = B()
    refused("MaxPool_in_padding", b, b.out(b.op("MaxPool", b.x(), kernel_shape=[1, 1], pads=[1] * 4, name="node")), "node")
    b = B()
    refused("MaxPool_with_indices", b, b.out(b.op("MaxPool", b.x(), n=2, kernel_shape=[2, 2], name="node")[0]), "node")
    for name, kernel in (("bad_kernel", [2]), ("kernel_0", [0, 2])):
        b = B()
        refused(f"MaxPool_{name}", b, b.out(b.op("MaxPool", b.x(), kernel_shape=kernel, name="node")), "node")
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        b = B()
        case(op, b, b.out(b.op(op, b.x())))
    b = B()
    case("GlobalAveragePool_of_function", b, b.out(b.op("GlobalAveragePool", b.op("HardSwish", b.x()))))
    b = B()
    case("MaxPool_of_function", b, b.out(b.op("MaxPool", b.op("Abs", b.x()), kernel_shape=[2, 2])))
    for axes_ in ([2, 3], [-1, -2], [3, 2]):
        for keep in (0, 1):
            b = B(opset=13)
            case(f"ReduceMean_{'_'.join(map(str, axes_))}_{keep}", b, b.out(b.op("ReduceMean", b.x(), axes=axes_, keepdims=keep)))
    b = B()
    case("ReduceMean_18", b, b.out(b.op("ReduceMean", b.x(), b.i64(2, 3), keepdims=0)))
    b = B()
    case("ReduceMean_all", b, b.out(b.op("ReduceMean", b.x())))
    b = B()
    case("ReduceMean_noop", b, b.out(b.op("ReduceMean", b.x(), noop_with_empty_axes=1)))
    b = B()
    case("ReduceMean_over_channels_and_rows", b, b.out(b.op("ReduceMean", b.x(), b.i64(1, 2))))
    b = B()
    case("ReduceMean_one_axis", b, b.out(b.op("ReduceMean", b.x(), b.i64(3))))
    b = B()
    y = b.op("ReduceMean", b.op("Transpose", b.x(), perm=[0, 2, 3, 1]), b.i64(1, 2), keepdims=0)
    case("ReduceMean_channels_last", b, b.out(y))
    b = B()
    refused("ReduceMean_attribute_too_new", b, b.out(b.op("ReduceMean", b.x(), axes=[2, 3], name="node")), "node")
    for name, opset, pads, rest, kw in (
        ("plain", 11, [0, 0, 1, 2, 0, 0, 0, 1], [0.0], {}), ("no_value", 13, [0, 0, 1, 2, 0, 0, 0, 1], [], {}),
        ("mode", 13, [0, 0, 1, 0, 0, 0, 0, 1], [], {"mode": "constant"}), ("none", 13, [0] * 8, [], {}),
    ):
        b = B(opset=opset)
        case(f"Pad_{name}", b, b.out(b.op("Pad", b.x(), b.i64(*pads), *map(b.f, rest), **kw)))
    b = B()
    case("Pad_axes", b, b.out(b.op("Pad", b.x(), b.i64(1, 2, 0, 1), b.f(0.0), b.i64(2, -1))))
    b = B()
    case("Pad_exact_value", b, b.out(b.op("Pad", b.x(), b.i64(0, 0, 1, 1, 0, 0, 1, 1), b.f(np.float32(SCALE) * np.float32(7)))))
    b = B()
    case("Pad_value_between", b, b.out(b.op("Pad", b.x(), b.i64(0, 0, 1, 1, 0, 0, 1, 1), b.f(0.137), name="node")))
    b = B()
    case("Pad_codes", b, b.dq(b.op("Pad", b.q("x"), b.i64(0, 0, 1, 1, 0, 0, 1, 1), b.c(np.int8(3)))))
    b = B()
    case("Pad_channels", b, b.out(b.op("Pad", b.x(), b.i64(0, 1, 0, 0, 0, 0, 2, 0))))
    b = B()
    y = b.op("Pad", b.op("Transpose", b.x(), perm=[0, 2, 3, 1]), b.i64(0, 1, 2, 0, 0, 0, 1, 0))
    case("Pad_channels_last", b, b.out(y))
    for name, pads, kw in (("channels_and_columns", [0, 1, 0, 1, 0, 0, 0, 0], {}), ("crop", [0, 0, -1, 0, 0, 0, 0, 0], {}), ("reflect", [0, 0, 1, 1, 0, 0, 1, 1], {"mode": "reflect"}), ("edge", [0, 0, 1, 1, 0, 0, 1, 1], {"mode": "edge"})):
        b = B()
        y = b.out(b.op("Pad", b.x(), b.i64(*pads), name="node", **kw))
        case(f"Pad_{name}", b, y) if name != "crop" else refused("Pad_crop", b, y, "node")


def products():
    for name, shape, a in (
        ("plain", (5, 4, 2, 3), {}), ("pads", (5, 4, 3, 3), {"pads": [1, 1, 1, 1]}), ("uneven_pads", (5, 4, 3, 3), {"pads": [0, 1, 2, 0]}),
        ("strides", (5, 4, 3, 3), {"pads": [1] * 4, "strides": [2, 1]}), ("groups", (6, 2, 3, 3), {"pads": [1] * 4, "group": 2}),
        ("depthwise", (4, 1, 3, 3), {"pads": [1] * 4, "group": 4}), ("multiplier", (8, 1, 3, 3), {"pads": [1] * 4, "group": 4}),
        ("dilated", (5, 4, 2, 2), {"dilations": [2, 2]}), ("same_upper", (5, 4, 2, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("same_lower", (5, 4, 2, 2), {"auto_pad": "SAME_LOWER"}), ("valid", (5, 4, 3, 3), {"auto_pad": "VALID"}), ("kernel_shape", (5, 4, 2, 3), {"kernel_shape": [2, 3]}),
    ):
        b = B()
        case(f"Conv_{name}", b, b.out(b.op("Conv", b.x(), b.w(shape), b.bias(shape[0]), **a)))
    b = B()
    refused("Conv_kernel_shape_wrong", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 2, 3)), kernel_shape=[3, 2], name="node")), "node")
    b = B()
    refused("Conv_pads_and_auto_pad", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 3, 3)), auto_pad="SAME_UPPER", pads=[1] * 4, name="node")), "node")
    b = B()
    refused("Conv_unknown_attribute", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)), padding=1, name="node")), "node")
    b = B()
    refused("Conv_four_inputs", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)), b.bias(5), b.f(1.0), name="node")), "node")
    b = B()
    refused("Conv_in_groups_that_do_not_fit", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)), group=3, name="node")), "node")
    b = B()
    refused("Conv_bias_too_long", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)), b.real(6), name="node")), "node")
    for name, make in {
        "real": lambda b: b.real(5), "real_large": lambda b: b.f(b.rng.uniform(-3, 3, 5)), "other_scale": lambda b: b.bias(5, factor=0.37),
        "one_scale": lambda b: b.op("DequantizeLinear", b.c(b.rng.integers(-4000, 4000, 5).astype(np.int32)), b.f(0.0003)),
        "int8": lambda b: b.dq(b.c(b.ints(5)), 0.01, 0),
    }.items():
        b = B()
        case(f"Conv_bias_{name}", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)), make(b))))
    b = B()
    case("Conv_bias_too_coarse", b, b.qdq(b.op("Conv", b.x(0.5), b.w((5, 4, 1, 1), scale=1.0), b.real(5)), 0.01, 0), tol=0.01)
    for op, const in (("Add", (5, 1, 1)), ("Mul", (5, 1, 1)), ("Sub", (5, 1, 1)), ("Add", ()), ("Mul", ())):
        b = B()
        y = b.op(op, b.op("Conv", b.x(), b.w((5, 4, 1, 1)), b.bias(5)), b.real(*const, lo=-1.5, hi=1.5))
        case(f"Conv_then_{op}_{len(const)}", b, b.out(y))
    b = B()
    case("Conv_then_Add_by_column", b, b.out(b.op("Add", b.op("Conv", b.x(), b.w((5, 4, 1, 1))), b.real(4), name="node")))
    for ty, zp in ((np.uint8, 128), (np.uint8, 100), (np.int8, 7)):
        b = B()
        case(f"Conv_weights_{ty.__name__}_{zp}", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 3, 3), ty=ty, zp=zp), pads=[1] * 4)))
    b = B()
    v = b.c(np.full((5, 4, 1, 1), -128, np.int8))
    case("Conv_weights_all_-128", b, b.out(b.op("Conv", b.x(), b.op("DequantizeLinear", v, b.f(0.003)))))
    b = B()
    case("Conv_weights_along_inputs", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1), axis=1), name="node")))
    b = B()
    case("Conv_weights_real", b, b.out(b.op("Conv", b.x(), b.real(5, 4, 1, 1), name="node")))
    for axis in (None, 0):
        b = B()
        s = b.f(0.01) if axis is None else b.f(b.rng.uniform(0.005, 0.02, 5))
        z = b.c(np.int8(0)) if axis is None else b.c(np.zeros(5, np.int8))
        kw = {} if axis is None else {"axis": 0}
        w = b.op("DequantizeLinear", b.op("QuantizeLinear", b.real(5, 4, 3, 3), s, z, **kw), s, z, **kw)
        case(f"Conv_weights_quantised_inside_{axis}", b, b.out(b.op("Conv", b.x(), w, b.real(5))))
    for ty, lo, hi in ((np.int8, -127, 127), (np.uint8, 3, 200)):
        b = B()
        s, z = b.f(b.rng.uniform(0.003, 0.005, 5)), b.c(np.full(5, 0 if ty == np.int8 else 128, ty))
        v = b.op("Clip", b.op("QuantizeLinear", b.real(5, 4, 3, 3), s, z, axis=0), b.c(ty(lo)), b.c(ty(hi)))
        case(f"Conv_weights_narrowed_{ty.__name__}", b, b.out(b.op("Conv", b.x(), b.op("DequantizeLinear", v, s, z, axis=0))))
        b = B()
        y = b.op("Clip", b.q("x", SCALE, 3, ty), b.c(ty(lo // 2)), b.c(ty(hi // 3)))
        case(f"Clip_codes_{ty.__name__}", b, b.out(b.op("Conv", b.dq(y, SCALE, 3, ty), b.w((5, 4, 1, 1)))))
        b = B()
        y = b.op("Clip", b.q("x", SCALE, 3, ty), "", b.c(ty(hi // 3)))
        case(f"Clip_codes_above_{ty.__name__}", b, b.dq(y, SCALE, 3, ty))
    b = B()
    w = b.op("Transpose", b.w((4, 5, 1, 1), axis=1), perm=[1, 0, 2, 3])
    case("Conv_weights_transposed", b, b.out(b.op("Conv", b.x(), w)))
    b = B()
    v = b.c(b.rng.integers(-127, 128, (6, 4, 1, 1)).astype(np.int8))
    ws = np.full(6, 1e-9, np.float32)
    bias = b.c(np.array([2147483000, -2147483000, 2147483647, -2147483648, 5, 0], np.int32))
    w = b.op("DequantizeLinear", v, b.c(ws), axis=0)
    bd = b.op("DequantizeLinear", bias, b.c((ws * np.float32(SCALE)).astype(np.float32)), axis=0)
    case("Conv_bias_saturated", b, b.qdq(b.op("Conv", b.x(SCALE, -128), w, bd), 0.001, 0), tol=0.001)
    for op in ("BatchNormalization",):
        for after in ("x", "conv"):
            b = B(opset=15)
            y = b.x() if after == "x" else b.op("Conv", b.x(), b.w((4, 4, 1, 1)), b.bias(4))
            p = [b.real(4, lo=-1.5, hi=1.5), b.real(4), b.real(4), b.real(4, lo=0.5, hi=2)]
            case(f"{op}_{after}", b, b.out(b.op(op, y, *p, epsilon=1e-3)))
    b = B()
    p = [b.real(4), b.real(4), b.real(4), b.real(4, lo=0.5, hi=2)]
    refused("BatchNormalization_training", b, b.out(b.op("BatchNormalization", b.x(), *p, training_mode=1, n=3, name="node")[0]), "node")
    for name, shape, wshape, a, cshape in (
        ("plain", (1, 48), (48, 5), {}, (5,)), ("transB", (1, 48), (5, 48), {"transB": 1}, (5,)), ("no_c", (1, 48), (48, 5), {}, None),
        ("alpha", (1, 48), (48, 5), {"alpha": 0.37}, (5,)), ("alpha_negative", (1, 48), (5, 48), {"alpha": -0.37, "transB": 1}, (5,)), ("beta", (1, 48), (48, 5), {"beta": 0.5}, (1, 5)),
        ("transA", (48, 1), (48, 5), {"transA": 1}, ()), ("c_one", (1, 48), (48, 5), {}, (1, 1)), ("rows", (4, 12), (12, 5), {}, (5,)), ("turned_rows", (12, 4), (12, 5), {"transA": 1}, (5,)),
    ):
        for real in (False, True):
            b = B()
            y = b.op("Reshape", b.x(), b.i64(*shape))
            w = b.w(wshape, axis=0 if "transB" in a else 1, scale=0.003)
            c = [] if cshape is None else [b.real(*cshape)] if real or cshape != (5,) else [b.bias(5)]
            case(f"Gemm_{name}_{'real' if real else 'int'}", b, b.out(b.op("Gemm", y, w, *c, **a)))
    b = B()
    case("Gemm_c_a_row", b, b.out(b.op("Gemm", b.op("Reshape", b.x(), b.i64(4, 12)), b.w((12, 5), axis=1), b.real(4, 1), name="node")))
    b = B()
    y = b.op("Flatten", b.x())
    case("Gemm_unquantised_logits", b, b.op("Gemm", y, b.w((5, 48), scale=0.003), b.bias(5), transB=1), tol=1e-3)
    b = B()
    y = b.op("Flatten", b.x())
    case("Gemm_logits_with_real_bias", b, b.op("Gemm", y, b.w((5, 48), scale=0.003), b.real(5), transB=1), tol=1e-3)
    b = B((1, 7, 1, 1))
    case("Conv_logits", b, b.op("Conv", b.x(), b.w((5, 7, 1, 1), scale=0.003), b.bias(5)), tol=1e-3)
    b = B((1, 7, 1, 1))
    case("Conv_logits_flattened", b, b.op("Flatten", b.op("Conv", b.x(), b.w((5, 7, 1, 1), scale=0.003), b.bias(5))), tol=1e-3)
    for name, shape, wshape in (("vector", (1, 48), (48, 5)), ("three", (1, 1, 48), (48, 5)), ("rows", (1, 12, 4), (4, 5)), ("rank_3_weights", (1, 12, 4), (1, 4, 5))):
        b = B()
        y = b.op("Reshape", b.x(), b.i64(*shape))
        case(f"MatMul_{name}", b, b.out(b.op("MatMul", y, b.w(wshape, axis=len(wshape) - 1, scale=0.003))))
        b = B()
        y = b.op("Reshape", b.x(), b.i64(*shape))
        case(f"MatMul_then_Add_{name}", b, b.out(b.op("Add", b.op("MatMul", y, b.w(wshape, axis=len(wshape) - 1, scale=0.003)), b.real(5))))
    b = B()
    y = b.op("Reshape", b.op("Transpose", b.x(), perm=[0, 2, 3, 1]), b.i64(1, 12, 4))
    case("MatMul_pixels", b, b.out(b.op("MatMul", y, b.w((4, 5), axis=1, scale=0.02))))
    b = B()
    w = b.op("Transpose", b.w((5, 48), axis=0, scale=0.003), perm=[1, 0])
    case("MatMul_weights_transposed", b, b.out(b.op("MatMul", b.op("Flatten", b.x()), w)))
    b = B()
    x = b.x()
    m = b.op("Reshape", x, b.i64(4, 12))
    case("MatMul_of_two", b, b.out(b.op("MatMul", m, b.op("Transpose", m, perm=[1, 0]), name="node")))
    b = B()
    refused("MatMul_shapes", b, b.out(b.op("MatMul", b.op("Flatten", b.x()), b.w((47, 5), axis=1), name="node")), "node")
    b = B()
    q = b.op("Reshape", b.q("x"), b.i64(1, 48))
    s = b.op("MatMulInteger", q, b.c(b.ints(48, 5)), b.c(np.int8(3)))
    y = b.op("Mul", b.op("Cast", b.op("Add", s, b.c(np.arange(5, dtype=np.int32) * 100)), to=T.FLOAT), b.f(0.0002))
    case("MatMulInteger", b, b.out(y))
    b = B()
    q = b.op("Reshape", b.q("x"), b.i64(1, 48))
    refused("MatMulInteger_other_zero_point", b, b.out(b.op("Mul", b.op("Cast", b.op("MatMulInteger", q, b.c(b.ints(48, 5)), b.c(np.int8(4)), name="node"), to=T.FLOAT), b.f(0.0002))), "node")


def ends():
    for opset in (11, 13):
        for name, shape, kw, runs in (
            ("default", (1, 5), {}, True), ("axis_1", (1, 5), {"axis": 1}, True), ("axis_-1", (1, 5), {"axis": -1}, True),
            ("axis_0", (1, 5), {"axis": 0}, opset < 13), ("image_default", (1, 5, 1, 1), {}, opset < 13), ("image_axis_1", (1, 5, 1, 1), {"axis": 1}, True),
        ):
            b = B((1, 4, 3, 4), opset)
            y = b.out(b.op("Gemm", b.op("Flatten", b.x()), b.w((5, 48), scale=0.003) if opset >= 13 else b.dq(b.c(b.ints(5, 48)), 0.003, 0), *([] if opset >= 11 else [b.f(0)]), transB=1))
            y = b.op("Reshape", y, b.i64(*shape)) if len(shape) > 2 else y
            y = b.op("Softmax", y, name="node", **kw)
            if runs:
                case(f"Softmax_{opset}_{name}", b, y, "scores", tol=2e-3)
            else:
                refused(f"Softmax_{opset}_{name}", b, y, "node")
    b = B()
    y = b.out(b.op("Gemm", b.op("Flatten", b.x()), b.w((5, 48), scale=0.003), transB=1))
    case("LogSoftmax", b, b.op("LogSoftmax", y, name="node"), tol=0.001)
    b = B()
    y = b.op("Softmax", b.out(b.op("Gemm", b.op("Flatten", b.x()), b.w((5, 48), scale=0.003), transB=1)), name="node")
    case("Softmax_then_Mul", b, b.op("Mul", y, b.f(2.0)), tol=0.001)
    for op in ("Relu", "HardSwish", "Tanh", "Neg"):
        b = B()
        case(f"{op}_at_the_end", b, b.op(op, b.out(b.op("Conv", b.x(), b.w((5, 4, 3, 3))))))
    b = B()
    y = b.op("Mul", b.out(b.op("Gemm", b.op("Flatten", b.x()), b.w((5, 48), scale=0.003), transB=1)), b.f(1.7))
    case("Softmax_of_scaled_logits", b, b.op("Softmax", y), "scores", tol=2e-3)
    b = B()
    refused("output_of_codes", b, b.q("x"), "out", out_type=T.INT8)
    b = B()
    case("output_of_the_input", b, b.op("Identity", "x"), tol=0.0001)
    b = B()
    case("output_unquantised", b, b.op("GlobalAveragePool", b.x()), tol=0.001)


def formats():
    for opset in (10, 13, 19, 21, 23, 24, 25):
        for ty, zp in ((np.int8, -7), (np.uint8, 99)):
            b = B(opset=opset)
            y = b.op("Conv", b.x(SCALE, zp, ty), b.w((5, 4, 1, 1)) if opset >= 13 else b.dq(b.c(b.ints(5, 4, 1, 1)), 0.01, 0))
            case(f"opset_{opset}_{ty.__name__}", b, b.out(y, OUT, zp, ty))
    for name, ty in (("int8", T.INT8), ("uint8", T.UINT8), ("absent", None)):
        b = B(opset=21)
        kw = {} if ty is None else {"output_dtype": ty}
        y = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", b.f(SCALE), **kw), b.f(SCALE))
        case(f"QuantizeLinear_output_{name}", b, b.out(b.op("Conv", y, b.w((5, 4, 1, 1)))))
        b = B(opset=21)
        y = b.op("Conv", b.x(), b.w((5, 4, 1, 1)))
        case(f"QuantizeLinear_inside_{name}", b, b.op("DequantizeLinear", b.op("QuantizeLinear", y, b.f(OUT), **kw), b.f(OUT)))
    b = B(opset=21)
    refused("QuantizeLinear_output_against_zero_point", b, b.dq(b.q("x", output_dtype=T.UINT8, name="node")), "node")
    b = B(opset=21)
    y = b.op("QuantizeLinear", "x", b.f(SCALE), b.c(np.int16(3)), name="node")
    refused("QuantizeLinear_int16", b, b.op("DequantizeLinear", y, b.f(SCALE), b.c(np.int16(3))), "node")
    b = B(opset=20)
    refused("QuantizeLinear_output_too_old", b, b.op("DequantizeLinear", b.op("QuantizeLinear", "x", b.f(SCALE), output_dtype=T.INT8, name="node"), b.f(SCALE)), "node")
    b = B()
    s, z = b.f([0.01, 0.02, 0.03, 0.04]), b.c(np.zeros(4, np.int8))
    refused("QuantizeLinear_by_channel", b, b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z, axis=1, name="node"), s, z, axis=1), "node")
    b = B()
    refused("QuantizeLinear_negative_scale", b, b.dq(b.op("QuantizeLinear", "x", b.f(-0.1), b.c(np.int8(0)), name="node")), "node")
    b = B(opset=21)
    w = b.op("DequantizeLinear", b.c(b.ints(5, 4, 1, 1)), b.real(5, 2, 1, 1, lo=0.01, hi=0.02), b.c(np.zeros((5, 2, 1, 1), np.int8)), axis=1, block_size=2, name="node")
    refused("DequantizeLinear_blocks", b, b.out(b.op("Conv", b.x(), w)), "node")
    b = B()
    case("DequantizeLinear_other_scale", b, b.out(b.op("Conv", b.dq(b.q("x"), 0.05, -9), b.w((5, 4, 1, 1)))))
    b = B()
    y = b.op("DequantizeLinear", b.q("x", SCALE, 40, np.uint8), b.f(SCALE))
    case("DequantizeLinear_without_zero_point_uint8", b, b.out(b.op("Conv", y, b.w((5, 4, 1, 1)))))
    b = B()
    y = b.op("DequantizeLinear", b.q("x"), b.f(SCALE))
    case("DequantizeLinear_without_zero_point_int8", b, b.out(b.op("Conv", y, b.w((5, 4, 1, 1)))))
    b = B()
    refused("DequantizeLinear_other_type", b, b.op("DequantizeLinear", b.q("x"), b.f(SCALE), b.c(np.uint8(3)), name="node"), "node")
    b = B()
    y = b.op("Conv", b.x(), b.w((5, 4, 1, 1)))
    a, c = b.qdq(y, 0.03, -5), b.qdq(y, 0.03, -5)
    case("pairs_of_their_own_alike", b, b.out(b.op("Add", a, c)))
    b = B()
    y = b.op("Conv", b.x(), b.w((5, 4, 1, 1)))
    a, c = b.qdq(y, 0.03, -5), b.qdq(y, 0.05, 7, np.uint8)
    case("pairs_of_their_own_apart", b, b.out(b.op("Add", a, c)))
    b = B()
    y = b.op("Conv", b.x(), b.w((5, 4, 1, 1)))
    a, c = b.qdq(b.op("Relu", y), 0.03, -5), b.qdq(y, 0.05, 7)
    case("relu_and_not", b, b.out(b.op("Add", a, c)))
    b = B()
    case("input_quantised_twice", b, b.out(b.op("Add", b.x(), b.x())))
    b = B()
    case("input_quantised_apart", b, b.out(b.op("Add", b.x(), b.op("DequantizeLinear", b.op("QuantizeLinear", "x", b.f(0.05), b.c(np.int8(0)), name="node"), b.f(0.05), b.c(np.int8(0))))))
    b = B()
    case("rescaled", b, b.out(b.qdq(b.x(), 0.011, 9, np.uint8)))
    b = B()
    case("microsoft_pair", b, b.ms("DequantizeLinear", b.ms("QuantizeLinear", "x", b.f(SCALE), b.c(np.uint8(9))), b.f(SCALE), b.c(np.uint8(9))))
    for name, it, shape in (("int8", T.INT8, (1, 4, 3, 4)), ("uint8", T.UINT8, (1, 4, 3, 4))):
        ty = np.int8 if it == T.INT8 else np.uint8
        b = B(shape, it=it)
        case(f"input_{name}", b, b.out(b.op("Conv", b.dq("x", SCALE, 3, ty), b.w((5, 4, 1, 1)))))
        b = B(shape, it=it)
        y = b.qdq(b.op("Mul", b.op("Cast", "x", to=T.FLOAT), b.f(1 / 64)), SCALE, 3)
        case(f"input_{name}_cast", b, b.out(b.op("Conv", y, b.w((5, 4, 1, 1)))))
        b = B(shape, it=it)
        y = b.op("Div", b.op("Sub", b.op("Cast", "x", to=T.FLOAT), b.real(4, 1, 1, lo=20, hi=90)), b.real(4, 1, 1, lo=40, hi=70))
        case(f"input_{name}_normalised", b, b.out(b.op("Conv", b.qdq(y, SCALE, 3), b.w((5, 4, 1, 1)))))
    b = B((1, 3, 4, 4))
    case("input_transposed_first", b, b.out(b.op("Conv", b.qdq(b.op("Transpose", "x", perm=[0, 3, 1, 2])), b.w((5, 4, 3, 3)), b.bias(5))))
    b = B((1, 3, 4, 4))
    case("input_transposed_after", b, b.out(b.op("Conv", b.qdq(b.op("Transpose", b.x(), perm=[0, 3, 1, 2])), b.w((5, 4, 3, 3)), b.bias(5))))
    b = B((1, 3, 4, 4), it=T.UINT8)
    y = b.op("Transpose", b.dq("x", SCALE, 9, np.uint8), perm=[0, 3, 1, 2])
    case("input_uint8_transposed", b, b.op("Transpose", b.out(b.op("Conv", y, b.w((5, 4, 3, 3)))), perm=[0, 2, 3, 1]))
    b = B(sym="N")
    s = b.op("Gather", b.op("Shape", "x"), b.c(np.int64(0)), axis=0)
    shape = b.op("Concat", b.op("Unsqueeze", s, b.i64(0)), b.i64(-1), axis=0)
    case("batch_by_shape", b, b.out(b.op("Gemm", b.op("Reshape", b.x(), shape), b.w((48, 5), axis=1, scale=0.003))))
    for sym in (-1, 0):
        b = B(sym=sym)
        case(f"batch_{sym}", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 1, 1)))))
    b = B(sym="N", opset=15)
    x = b.x()
    shape = b.op("Concat", b.op("Shape", x, end=1), b.i64(48), axis=0)
    case("shape_of_a_part", b, b.op("Reshape", x, shape))
    b = B()
    x = b.x()
    sizes = b.op("Cast", b.op("Cast", b.op("Slice", b.op("Shape", x), b.i64(2), b.i64(4)), to=T.FLOAT), to=T.INT64)
    case("shape_cast_and_back", b, b.op("Reshape", x, b.op("Concat", b.i64(4), sizes, axis=0)))
    b = B()
    k = b.op("Expand", b.op("ConstantOfShape", b.i64(1), value=nh.from_array(np.array([0.25], np.float32))), b.i64(4, 1, 1))
    case("constant_of_shape", b, b.out(b.op("Add", b.x(), k)))
    b = B()
    y = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", b.op("Constant", value_float=SCALE), b.c(np.int8(3))), b.op("Constant", value_float=SCALE), b.c(np.int8(3)))
    case("constant_float", b, b.out(b.op("Mul", y, b.op("Constant", value_floats=[0.5, 1.5, 0.7, 1.1]))))
    b = B()
    case("constant_ints", b, b.op("Reshape", b.x(), b.op("Constant", value_ints=[1, -1])))
    b = B()
    case("constant_int", b, b.op("Reshape", b.x(), b.op("Unsqueeze", b.op("Constant", value_int=-1), b.i64(0))))
    b = B()
    case("constant_tensor", b, b.out(b.op("Add", b.x(), b.op("Constant", value=nh.from_array(np.float32(0.3))))))
    b = B()
    refused("unknown_domain", b, b.out(b.op("Relu", b.x(), domain="some.where", name="node")), "node")
    b = B()
    refused("unknown_operator", b, b.out(b.op("DynamicQuantizeLinear", b.x(), n=3, name="node")[1]), "node")
    b = B()
    refused("unknown_microsoft", b, b.out(b.ms("FusedConv", b.x(), b.w((5, 4, 1, 1)), name="node")), "node")


def qlinear():
    s, z = lambda b, v: b.f(v), lambda b, v, ty=np.int8: b.c(ty(v))

    def operand(b, x, scale=SCALE, zp=3, ty=np.int8):
        return [x, s(b, scale), z(b, zp, ty)]

    for ty, zp in ((np.int8, 3), (np.uint8, 130)):
        t = ty.__name__
        for op in ("QLinearAdd", "QLinearMul"):
            b = B()
            x = b.q("x", SCALE, zp, ty)
            y = b.ms(op, *operand(b, x, SCALE, zp, ty), *operand(b, x, SCALE, zp, ty), s(b, OUT), z(b, zp, ty))
            case(f"{op}_{t}", b, b.dq(y, OUT, zp, ty))
            for shape in ([4], [4, 1, 1], []):
                b = B()
                k = b.c(b.ints(*shape, lo=0, hi=120, ty=ty))
                y = b.ms(op, *operand(b, b.q("x", SCALE, zp, ty), SCALE, zp, ty), *operand(b, k, 0.01, zp, ty), s(b, OUT), z(b, zp, ty))
                case(f"{op}_{t}_constant_{len(shape)}", b, b.dq(y, OUT, zp, ty))
        for op, kw in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})):
            b = B()
            y = b.ms(op, *operand(b, b.q("x", SCALE, zp, ty), SCALE, zp, ty), s(b, OUT), z(b, zp, ty), **kw)
            case(f"{op}_{t}", b, b.op("Flatten", b.out(b.op("Add", b.dq(y, OUT, zp, ty), b.f(0.1)))))
        b = B()
        y = b.ms("QLinearGlobalAveragePool", *operand(b, b.q("x", SCALE, zp, ty), SCALE, zp, ty), s(b, OUT), z(b, zp, ty))
        case(f"QLinearGlobalAveragePool_{t}", b, b.dq(y, OUT, zp, ty))
        b = B()
        y = b.ms("QLinearAveragePool", *operand(b, b.q("x", SCALE, zp, ty), SCALE, zp, ty), s(b, OUT), z(b, zp, ty), kernel_shape=[2, 2], pads=[1, 0, 0, 0])
        case(f"QLinearAveragePool_{t}", b, b.dq(y, OUT, zp, ty))
        for axis in (1, 2, -1):
            b = B()
            x = b.q("x", SCALE, zp, ty)
            y = b.ms("QLinearConcat", s(b, OUT), z(b, zp, ty), *operand(b, x, SCALE, zp, ty), *operand(b, b.q(b.dq(x, SCALE, zp, ty), 0.05, zp, ty), 0.05, zp, ty), axis=axis)
            case(f"QLinearConcat_{t}_{axis}", b, b.dq(y, OUT, zp, ty))
        b = B()
        w = [b.c(b.ints(5, 4, 3, 3)), b.real(5, lo=0.005, hi=0.02), b.c(np.zeros(5, np.int8))]
        y = b.op("QLinearConv", *operand(b, b.q("x", SCALE, zp, ty), SCALE, zp, ty), *w, s(b, OUT), z(b, zp, ty), b.c(b.rng.integers(-3000, 3000, 5).astype(np.int32)), pads=[1] * 4)
        case(f"QLinearConv_{t}", b, b.dq(y, OUT, zp, ty), judge="ort")
        b = B()
        q = b.op("Flatten", b.q("x", SCALE, zp, ty))
        y = b.op("QLinearMatMul", *operand(b, q, SCALE, zp, ty), b.c(b.ints(48, 5, ty=np.int8)), s(b, 0.003), z(b, 0), s(b, OUT), z(b, zp, ty))
        case(f"QLinearMatMul_{t}", b, b.dq(y, OUT, zp, ty), judge="ort")
        for name, kw in (("plain", {}), ("alpha", {"alpha": 0.37}), ("transB", {"transB": 1}), ("float", {})):
            b = B()
            q = b.op("Flatten", b.q("x", SCALE, zp, ty))
            shape = (5, 48) if "transB" in kw else (48, 5)
            ends_ = [] if name == "float" else [s(b, OUT), z(b, zp, ty)]
            # ONNX Runtime's kernel takes int8 weights beside an int8 input only.
            wt, wz = (np.int8, 0) if ty == np.int8 else (np.uint8, 128)
            w = b.c(b.ints(*shape, lo=0 if wt == np.uint8 else -127, hi=256 if wt == np.uint8 else 128, ty=wt))
            y = b.ms("QGemm", *operand(b, q, SCALE, zp, ty), w, s(b, 0.003), z(b, wz, wt), b.c(b.rng.integers(-3000, 3000, 5).astype(np.int32)), *ends_, **kw)
            case(f"QGemm_{t}_{name}", b, y if name == "float" else b.dq(y, OUT, zp, ty), tol=1e-3 if name == "float" else OUT)
    b = B()
    y = b.ms("QLinearGlobalAveragePool", *operand(b, b.q("x")), s(b, OUT), z(b, 3), channels_last=1, name="node")
    refused("QLinearGlobalAveragePool_channels_last", b, b.dq(y, OUT), "node")
    b = B()
    y = b.ms("QLinearAdd", *operand(b, b.q("x")), *operand(b, b.q(b.x(), SCALE, 130, np.uint8), SCALE, 130, np.uint8), s(b, OUT), z(b, 3), name="node")
    refused("QLinearAdd_of_two_types", b, b.dq(y, OUT), "node")


def islands():
    """Operators in f32, on the model's own input; names begin with `island`. ONNX's reference has LRN, LpNormalization, a MaxPool of
    several paddings and the forms of before opset 13 of what goes over axes otherwise than its specification; there ONNX Runtime judges."""

    def case_of(name, op, *extra, opset=18, shape=(1, 4, 6, 5), tol=1e-4, refuse=False, judge=None, **attributes):
        b = B(shape, opset=opset)
        ins = ["" if e is None else e if isinstance(e, str) else b.c(e) for e in extra]
        y = b.op(op, "x", *ins, name="node", **attributes)
        if refuse:
            return refused(f"island_{op}_{name}", b, y, "node")
        case(f"island_{op}_{name}", b, y, tol=tol, judge=judge)

    rng = np.random.default_rng(3)
    r = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)
    ints = lambda *v: np.array(v, np.int64)
    for op, kw in (
        ("Relu", {}), ("Tanh", {}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}), ("HardSwish", {}), ("LeakyRelu", {"alpha": 0.2}),
        ("ThresholdedRelu", {"alpha": 0.3}), ("Elu", {"alpha": 0.7}), ("Selu", {"alpha": 1.2, "gamma": 0.9}), ("Celu", {"alpha": 0.6}), ("Celu", {}), ("Softplus", {}),
        ("Softsign", {}), ("Mish", {}), ("Erf", {}), ("Exp", {}), ("Abs", {}), ("Neg", {}), ("Floor", {}), ("Ceil", {}), ("Round", {}), ("Sign", {}), ("Sin", {}),
        ("Cos", {}), ("Atan", {}), ("Gelu", {"opset": 20}), ("Gelu", {"opset": 20, "approximate": "tanh"}), ("LRN", {"size": 3, "alpha": 0.02, "beta": 0.6, "bias": 1.5, "judge": "ort"}),
        ("LRN", {"size": 5, "judge": "ort"}), ("MeanVarianceNormalization", {}), ("MeanVarianceNormalization", {"axes": [1, 2]}), ("LpNormalization", {"axis": 1, "p": 1, "judge": "ort"}),
        ("LpNormalization", {"axis": 2}), ("LogSoftmax", {"axis": 1}), ("LogSoftmax", {}), ("LogSoftmax", {"opset": 11, "axis": 2, "judge": "ort"}), ("Hardmax", {"axis": 1}),
        ("Hardmax", {"opset": 11, "axis": 1, "judge": "ort"}), ("GlobalAveragePool", {}), ("GlobalMaxPool", {}), ("Transpose", {"perm": [0, 2, 1, 3]}), ("Flatten", {"axis": 2}),
        ("Flatten", {"axis": -1}), ("DepthToSpace", {"blocksize": 2}), ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}),
    ):
        case_of("_".join(f"{k}{v}" for k, v in kw.items()).replace(" ", "") or "plain", op, **kw)
    for alpha in (1.0, 1.7):
        b = B((1, 4, 2, 3), opset=24)
        case(f"island_Swish_{alpha}", b, b.op("Swish", "x", alpha=alpha), tol=1e-4)
    case_of("even", "LRN", size=4, refuse=True)
    case_of("2", "SpaceToDepth", blocksize=2, shape=(1, 2, 4, 6))
    case_of("over_1", "Softmax", axis=1, refuse=True)
    b = B()
    case("island_Softmax_between", b, b.op("Softmax", b.op("Relu", b.op("Softmax", "x", axis=1)), axis=2, name="node"), "refused", "node")
    b = B()
    case("island_Sigmoid", b, b.op("Relu", b.op("Sigmoid", "x")), tol=1e-4)
    b = B()
    case("island_Softmax_axis_1", b, b.op("Relu", b.op("Softmax", "x", axis=1)), tol=1e-4)
    b = B(opset=11)
    case("island_Softmax_of_old", b, b.op("Relu", b.op("Softmax", "x", axis=2)), tol=1e-4, judge="ort")
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"):
        tol = 1e-2 if op in ("ReduceProd", "ReduceSumSquare", "ReduceSum", "ReduceL1") else 1e-3
        case_of("attribute", op, axes=[1, -1], opset=11 if op == "ReduceSum" else 17, tol=tol)
        case_of("input", op, ints(-1, 1), tol=tol)
        case_of("dropped", op, ints(2), keepdims=0, tol=tol)
        case_of("all", op, tol=tol)
        case_of("none", op, noop_with_empty_axes=1, tol=tol)
    for keep in (0, 1):
        for last in (0, 1):
            for op in ("ArgMax", "ArgMin"):
                b = B()
                y = b.op("Cast", b.op(op, b.op("Round", "x"), axis=-2, keepdims=keep, select_last_index=last), to=T.FLOAT)
                case(f"island_{op}_{keep}_{last}", b, y, tol=1e-4)
    for mode in ("nearest", "linear", "cubic"):
        for how in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            more = {"nearest_mode": "floor"} if mode == "nearest" else {}
            for name, scales in (("up", (2, 3)), ("odd", (1.5, 0.7)), ("down", (0.5, 1.7))):
                if mode == "cubic" and name != "up":
                    continue
                for opset in (11, 13, 19):
                    whole = all(float(np.float32(d * np.float32(k))).is_integer() for d, k in zip((6, 5), scales))
                    roi = np.zeros(0, np.float32) if opset == 11 else None
                    judge = how == "align_corners" and not whole
                    case_of(f"{mode}_{how}_{name}_{opset}", "Resize", roi, np.array([1, 1, *scales], np.float32), mode=mode, opset=opset, coordinate_transformation_mode=how, refuse=judge, **more)
    for how in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        case_of(f"sizes_{how}", "Resize", None, None, ints(1, 4, 5, 11), mode="nearest", nearest_mode=how)
    case_of("axes", "Resize", None, np.array([2, 1.5], np.float32), axes=[2, 3], mode="linear")
    case_of("antialias", "Resize", None, np.array([1, 1, 0.5, 0.5], np.float32), mode="linear", antialias=1, refuse=True)
    case_of("crop", "Resize", np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), np.array([1, 1, 2, 2], np.float32), mode="linear", coordinate_transformation_mode="tf_crop_and_resize", refuse=True)
    case_of("policy", "Resize", None, None, ints(1, 4, 5, 11), mode="nearest", keep_aspect_ratio_policy="not_larger", refuse=True)
    case_of("old", "Resize", np.array([1, 1, 2, 1.5], np.float32), mode="linear", opset=10)
    for name, pads in (("both", (0, 0, 1, 2, 0, 0, 2, 1)), ("channels", (0, 1, 0, 1, 0, 0, 0, 0))):
        for mode in ("constant", "reflect", "edge"):
            case_of(f"{mode}_{name}", "Pad", ints(*pads), mode=mode)
            case_of(f"{mode}_{name}_old", "Pad", pads=list(pads), mode=mode, opset=10)
    case_of("axes", "Pad", ints(1, 2), np.float32(0.5), ints(3))
    case_of("negative", "Pad", ints(0, 0, -1, 1, 0, 0, 1, -2), refuse=True)
    case_of("wrap", "Pad", ints(0, 0, 1, 1, 0, 0, 1, 1), mode="wrap", opset=19, refuse=True)
    case_of("last", "LayerNormalization", r(5), r(5))
    case_of("axis", "LayerNormalization", r(6, 5), r(6, 5), axis=2, epsilon=1e-2)
    case_of("without_bias", "LayerNormalization", r(4, 6, 5), axis=1)
    case_of("shape", "LayerNormalization", r(4), axis=1, refuse=True)
    case_of("epsilon", "InstanceNormalization", r(4), r(4), epsilon=1e-2)
    case_of("groups", "GroupNormalization", r(4), r(4), num_groups=2, epsilon=1e-2, opset=21)
    case_of("of_18", "GroupNormalization", r(2), r(2), num_groups=2, opset=18, refuse=True)
    case_of("strides", "ConvTranspose", r(4, 3, 3, 3), r(3), strides=[2, 2])
    case_of("padding", "ConvTranspose", r(4, 3, 3, 2), strides=[2, 1], pads=[1, 0, 1, 1], output_padding=[1, 0])
    case_of("groups", "ConvTranspose", r(4, 3, 3, 3), r(6), dilations=[2, 2], strides=[3, 2], group=2)
    case_of("auto_pad", "ConvTranspose", r(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2], refuse=True)
    case_of("output_shape", "ConvTranspose", r(4, 3, 3, 3), output_shape=[12, 10], strides=[2, 2], refuse=True)
    case_of("same_upper", "Conv", r(3, 4, 3, 3), r(3), auto_pad="SAME_UPPER", strides=[2, 2])
    case_of("same_lower", "Conv", r(3, 4, 4, 4), auto_pad="SAME_LOWER", strides=[3, 2])
    case_of("dilated", "Conv", r(3, 4, 2, 3), dilations=[2, 1], pads=[2, 1, 0, 1])
    case_of("groups", "Conv", r(8, 1, 3, 3), group=4, pads=[1, 0, 1, 2])
    for name, kw in (
        ("plain", {}), ("padded", {"pads": [1, 1, 0, 1]}), ("counted", {"pads": [1, 1, 0, 1], "count_include_pad": 1}), ("ceil", {"strides": [2, 3], "ceil_mode": 1}),
        ("same_lower", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}), ("same_upper", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}), ("dilated", {"dilations": [2, 1], "strides": [1, 2]}),
    ):
        for op in ("AveragePool", "MaxPool"):
            if op == "AveragePool" or "count_include_pad" not in kw:
                case_of(name, op, kernel_shape=[3, 2], opset=19, judge="ort" if op == "MaxPool" else None, **kw)
    case_of("plain", "BatchNormalization", r(4), r(4), r(4), np.abs(r(4)), epsilon=1e-2)
    for shape in ((5,), (4, 1, 1), ()):
        case_of(f"by_{len(shape)}", "PRelu", r(*shape))
        for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean"):
            case_of(f"by_{len(shape)}", op, r(*shape) + np.float32(1.5))
        b = B((1, 4, 6, 5))
        case(f"island_Pow_by_{len(shape)}", b, b.op("Pow", b.op("Abs", "x"), b.c(r(*shape) + np.float32(1.5))), tol=1e-3)
    for name, bounds in (("both", (-0.2, 0.4)), ("low", (-0.2,)), ("high", (None, 0.3)), ("crossed", (0.5, 0.1))):
        case_of(name, "Clip", *(None if v is None else np.float32(v) for v in bounds))
    case_of("attributes", "Clip", min=-0.2, max=0.4, opset=10)
    case_of("some", "Gather", ints(1, -1, 3), axis=1)
    case_of("one", "Gather", np.array(2, np.int64), axis=2)
    case_of("beyond", "Gather", ints(4), axis=1, refuse=True)
    case_of("back", "Slice", ints(-1), ints(-100), ints(3), ints(-2))
    case_of("two", "Slice", ints(1, 2), ints(100, -1), ints(2, 1))
    case_of("repeats", "Tile", ints(1, 1, 2, 3))
    case_of("rows", "Expand", ints(1, 4, 6, 5))
    case_of("wider", "Expand", ints(2, 1, 4, 6, 5))
    case_of("copied", "Reshape", ints(0, -1, 3, 5))
    for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"):
        b = B()
        m = b.op(op, "x", b.op("Relu", "x"))
        m = b.op("Or", b.op("And", m, b.op("Greater", "x", b.f(-0.5))), b.op("Not", m))
        case(f"island_Where_{op}", b, b.op("Where", m, "x", b.f(0.25)), tol=1e-4)
    b = B()
    case("island_Cast", b, b.op("Cast", b.op("Cast", b.op("Mul", "x", b.f(3.0)), to=T.INT64), to=T.FLOAT), tol=1e-4)
    for name, opset, sizes in (("equal", 17, None), ("sizes", 18, (1, 2, 1)), ("counted", 18, None)):
        b = B((1, 4, 3, 4) if sizes else (1, 3, 3, 4), opset=opset)
        ins, kw = ([b.i64(*sizes)], {}) if sizes else ([], {"num_outputs": 3} if opset == 18 else {})
        a, c, d = b.op("Split", "x", *ins, n=3, axis=1, **kw)
        case(f"island_Split_{name}", b, b.op("Concat", d, b.op("Neg", a), c, axis=1), tol=1e-4)
    for name, kw in (("plain", {}), ("transB", {"transB": 1}), ("alpha", {"alpha": 0.3, "beta": 2.0})):
        for bias in ((5,), (), (1, 5)):
            b = B()
            w = b.c(r(*((5, 48) if "transB" in kw else (48, 5))))
            case(f"island_Gemm_{name}_{len(bias)}", b, b.op("Gemm", b.op("Flatten", "x"), w, b.c(r(*bias)), **kw), tol=1e-3)
    b = B()
    y = b.op("Reshape", "x", b.i64(2, 2, 12))
    case("island_MatMul_of_two", b, b.op("MatMul", y, b.op("Transpose", y, perm=[0, 2, 1])), tol=1e-3)
    b = B()
    case("island_MatMul_by_row", b, b.op("MatMul", "x", b.c(r(4))), tol=1e-3)
    b = B()
    case("island_MatMul_wider", b, b.op("MatMul", "x", b.c(r(4, 4, 2))), tol=1e-3)
    # 16-bit reals, which are computed in f32: their own rounding is the tolerance.
    b = B()
    half = lambda v: b.c(np.asarray(v, np.float16))
    y = b.op("QuantizeLinear", b.op("Cast", "x", to=T.FLOAT16), half(0.02), b.c(np.int8(3)))
    y = b.op("Conv", b.op("DequantizeLinear", y, half(0.02), b.c(np.int8(3))), half(r(5, 4, 3, 3)), half(r(5)))
    case("island_half", b, b.op("Cast", b.op("Relu", y), to=T.FLOAT), tol=2e-2, judge="ort")
    b = B()
    y = b.op("Cast", b.op("DequantizeLinear", b.q("x", 0.03125), b.c(np.float16(0.03125)), b.c(np.int8(3))), to=T.FLOAT)
    case("halves_as_scales", b, b.out(y), judge="ort")
    b = B((1, 3, 4, 4))
    case("island_last_in_channels", b, b.op("Relu", b.op("Transpose", "x", perm=[0, 2, 3, 1])), tol=1e-4)
    # An input that is read in int8 and in f32; a way around int8, which is no single island; two islands side by side.
    b = B()
    case("island_input_twice", b, b.op("Mul", b.x(), b.op("Sigmoid", "x")), tol=1e-3)
    b = B()
    y = b.op("LayerNormalization", b.x(), b.c(r(4)), b.c(r(4)))
    z = b.qdq(b.op("Relu", b.qdq(y, 0.03)), 0.02, -128)
    case("island_around_int8", b, b.op("Add", y, b.op("Softmax", z, axis=1)), tol=0.031)
    b = B()
    case("island_two", b, b.out(b.op("Add", b.qdq(b.op("Softmax", b.x(), axis=1), 0.01), b.qdq(b.op("LRN", b.x(), size=3), 0.03))))
    b = B()
    case("island_before_softmax", b, b.op("Softmax", b.op("Flatten", b.op("GlobalAveragePool", b.op("Exp", b.x())))), "scores", tol=1e-4)


def one_axis():
    """Convolutions over one axis, as in channel attention: images of one row."""
    for name, w, groups, kw in (
        ("plain", (5, 4, 3), 1, {}),
        ("padded", (5, 4, 3), 1, {"pads": [1, 2], "strides": [2], "dilations": [2], "kernel_shape": [3]}),
        ("grouped", (6, 2, 2), 2, {}),
        ("depthwise", (4, 1, 3), 4, {"pads": [1, 1]}),
        ("same", (5, 4, 4), 1, {"auto_pad": "SAME_LOWER", "strides": [3]}),
    ):
        b = B((1, 4, 3, 4))
        x = b.op("Reshape", b.x(), b.i64(1, 4, 12))
        case(f"Conv_row_{name}", b, b.out(b.op("Conv", x, b.w(w), b.bias(w[0]), group=groups, **kw)))
    b = B((1, 4, 3, 4))
    gate = b.op("Squeeze", b.qdq(b.op("GlobalAveragePool", b.x())), b.i64(-1))
    gate = b.out(b.op("Conv", b.op("Transpose", gate, perm=[0, 2, 1]), b.w((1, 1, 3)), pads=[1, 1]))
    gate = b.op("Unsqueeze", b.op("Transpose", b.qdq(b.op("Sigmoid", gate), 1 / 255, -128), perm=[0, 2, 1]), b.i64(-1))
    case("Conv_row_attention", b, b.out(b.op("Mul", b.x(), gate)))
    for ty, zp in ((np.int8, 3), (np.uint8, 130)):
        b = B((1, 4, 3, 4))
        x = b.op("Reshape", b.q("x", SCALE, zp, ty), b.i64(1, 4, 12))
        w = [b.c(b.ints(5, 4, 3)), b.real(5, lo=0.005, hi=0.02), b.c(np.zeros(5, np.int8))]
        y = b.op("QLinearConv", x, b.f(SCALE), b.c(ty(zp)), *w, b.f(OUT), b.c(ty(zp)), b.c(b.rng.integers(-3000, 3000, 5).astype(np.int32)), pads=[0, 1])
        case(f"QLinearConv_row_{ty.__name__}", b, b.dq(y, OUT, zp, ty), judge="ort")
    b = B((1, 4, 3, 4))
    case("island_Conv_row", b, b.op("Conv", b.op("Reshape", "x", b.i64(1, 4, 12)), b.real(5, 4, 3), b.real(5), pads=[1, 0]), tol=1e-4)
    b = B((1, 4, 3, 4))
    refused("Conv_row_kernel_shape", b, b.out(b.op("Conv", b.op("Reshape", b.x(), b.i64(1, 4, 12)), b.w((5, 4, 3)), kernel_shape=[2], name="node")), "node")
    b = B((1, 4, 3, 4))
    refused("Conv_row_ranks", b, b.out(b.op("Conv", b.op("Reshape", b.x(), b.i64(1, 4, 12)), b.w((5, 4, 1, 3)), name="node")), "node")
    b = B((1, 4, 3, 4))
    refused("Conv_over_three_axes", b, b.out(b.op("Conv", b.op("Reshape", b.x(), b.i64(1, 2, 2, 3, 4)), b.w((5, 2, 1, 3, 3)), name="node")), "node")
    b = B((1, 4, 12))
    refused("input_of_one_row", b, b.out(b.op("Conv", b.x(), b.w((5, 4, 3)))), "x")
    b = B((1, 4, 3, 4), opset=21)
    refused("Conv_weights_int16", b, b.out(b.op("Conv", b.x(), b.op("DequantizeLinear", b.c(b.ints(5, 4, 3, 3, ty=np.int16)), b.f(0.01), name="node"))), "node")


def indices():
    """The index of the best tag alone, as some exporters end a classifier: more than it comes out, its scores."""

    def scores(b):
        return b.out(b.op("Flatten", b.out(b.op("Conv", b.x(), b.w((7, 4, 3, 4)), b.bias(7)), 0.05)))

    for seed, (name, end) in enumerate((
        ("kept", lambda b, y: b.op("ArgMax", y, axis=1)),
        ("dropped", lambda b, y: b.op("ArgMax", y, axis=-1, keepdims=0)),
        ("of_softmax", lambda b, y: b.op("ArgMax", b.op("Softmax", y), axis=1)),
        ("of_sigmoid", lambda b, y: b.op("ArgMax", b.op("Sigmoid", y), axis=1)),
        ("of_log_softmax", lambda b, y: b.op("ArgMax", b.op("LogSoftmax", y), axis=1)),
        ("in_f32", lambda b, y: b.op("ArgMax", b.op("Mul", y, b.f(np.linspace(-1, 1, 7))), axis=1)),
        ("of_codes", lambda b, y: b.op("ArgMax", b.q(y, OUT, -5), axis=1)),
        ("squeezed", lambda b, y: b.op("Squeeze", b.op("ArgMax", y, axis=1), b.i64(0))),
        ("of_pixel", lambda b, y: b.op("ArgMax", b.op("Reshape", y, b.i64(1, 7, 1, 1)), axis=1)),
    )):
        b = B(seed=seed)
        case(f"ArgMax_{name}", b, end(b, scores(b)), "index", tol=0, out_type=T.INT64)
    b = B()
    case("ArgMax_int32", b, b.op("Cast", b.op("ArgMax", scores(b), axis=1), to=T.INT32), "index", tol=0, out_type=T.INT32)
    for name, op, kw in (("last_of_equals", "ArgMax", {"axis": 1, "select_last_index": 1}), ("rows", "ArgMax", {"axis": 0}), ("worst", "ArgMin", {"axis": 1})):
        b = B()
        refused(f"ArgMax_{name}", b, b.op(op, scores(b), name="node", **kw), "node", out_type=T.INT64)
    b = B()
    refused("ArgMax_of_each_pixel", b, b.op("ArgMax", b.x(), axis=1, name="node"), "node", out_type=T.INT64)
    b = B()
    refused("ArgMax_scaled", b, b.op("DequantizeLinear", b.op("Cast", b.op("ArgMax", scores(b), axis=1), to=T.INT32, name="node"), b.f(0.5)), "node")


for group in (islands, broadcasting, functions, axes, pools, products, ends, formats, qlinear, one_axis, indices):
    group()
with open(os.path.join(HERE, "operators.bin"), "wb") as f:
    f.write(b"".join(CASES))
kinds = {}
for name, verdict, kind in written:
    kinds.setdefault((verdict, kind), []).append(name)
for (verdict, kind), names in sorted(kinds.items()):
    print(f"{len(names)} {verdict}, {kind}" + (": " + ", ".join(names) if verdict == "refused" else ""))
print(sum(map(len, CASES)), "bytes")
