"""Makes the test networks and what ONNX Runtime answers: python3 tests/data/make_networks.py (needs onnx, onnxruntime, numpy).

networks/: the structures of MobileNetV1, V2 and V3, EfficientNet-Lite, ResNet-18, SqueezeNet and ShuffleNetV2, narrow, with seeded
weights, quantised by ONNX Runtime's own quantiser; and op_*: one operator after a convolution. Beside each NAME.onnx
lies NAME.expected: f32 in the order of the model's output. The input of all is `((i * 7919 + 13) % 511 - 255) / 128` of its NCHW index i.
"""

import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "networks")
SIDE = 64


def pattern(shape):
    n = int(np.prod(shape))
    return (((np.arange(n, dtype=np.int64) * 7919 + 13) % 511 - 255) / 128).astype(np.float32).reshape(shape)


class Net:
    """A float graph under construction; `self.c` holds each value's channels."""

    def __init__(self, seed):
        self.rng, self.nodes, self.init, self.c, self.n = np.random.default_rng(seed), [], [], {"in": 3}, 0

    def const(self, value):
        self.n += 1
        self.init.append(nh.from_array(value, f"k{self.n}"))
        return f"k{self.n}"

    def op(self, kind, inputs, channels, outputs=1, **attributes):
        self.n += 1
        outs = [f"{kind.lower()}{self.n}_{i}" for i in range(outputs)]
        self.nodes.append(h.make_node(kind, inputs, outs, name=f"{kind}_{self.n}", **attributes))
        for out, c in zip(outs, channels if isinstance(channels, list) else [channels]):
            self.c[out] = c
        return outs if outputs > 1 else outs[0]

    def conv(self, x, out, k=1, stride=1, groups=1, act=None, gain=2.0, pads=None):
        c = self.c[x]
        w = self.rng.normal(0, (gain / (k * k * c // groups)) ** 0.5, (out, c // groups, k, k)).astype(np.float32)
        b = self.rng.normal(0, 0.05, out).astype(np.float32)
        pads = [k // 2] * 4 if pads is None else pads
        y = self.op("Conv", [x, self.const(w), self.const(b)], out, kernel_shape=[k, k], strides=[stride] * 2, pads=pads, group=groups)
        return self.act(y, act)

    def act(self, x, kind):
        c = self.c[x]
        if kind == "relu":
            return self.op("Relu", [x], c)
        if kind == "relu6":
            return self.op("Clip", [x, self.const(np.float32(0)), self.const(np.float32(6))], c)
        if kind == "hswish":  # as exporters of older opsets write it
            y = self.op("Add", [x, self.const(np.float32(3))], c)
            y = self.op("Clip", [y, self.const(np.float32(0)), self.const(np.float32(6))], c)
            y = self.op("Mul", [x, y], c)
            return self.op("Div", [y, self.const(np.float32(6))], c)
        if kind == "hardswish":
            return self.op("HardSwish", [x], c)
        return x

    def add(self, a, b):
        return self.op("Add", [a, b], self.c[a])

    def squeeze_excite(self, x):
        c = self.c[x]
        y = self.op("GlobalAveragePool", [x], c)
        y = self.conv(y, max(4, c // 4), act="relu")
        y = self.conv(y, c)
        y = self.op("HardSigmoid", [y], c, alpha=1 / 6, beta=0.5)
        return self.op("Mul", [x, y], c)

    def head(self, x, tags=10):
        c = self.c[x]
        y = self.op("GlobalAveragePool", [x], c)
        y = self.op("Flatten", [y], c)
        w = self.rng.normal(0, (1 / c) ** 0.5, (tags, c)).astype(np.float32)
        y = self.op("Gemm", [y, self.const(w), self.const(self.rng.normal(0, 0.1, tags).astype(np.float32))], tags, transB=1)
        return y

    def model(self, out, dims, side=SIDE):
        nodes = self.nodes
        assert nodes[-1].output[0] == out, "the last node makes the output"
        nodes[-1].output[0] = "out"
        graph = h.make_graph(
            nodes, "net", [h.make_tensor_value_info("in", T.FLOAT, [1, 3, side, side])],
            [h.make_tensor_value_info("out", T.FLOAT, dims)], self.init,
        )
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 14)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model


def mobilenet_v1(n):
    x = n.conv("in", 8, 3, 2, act="relu6")
    for out, stride in [(16, 1), (24, 2), (24, 1), (48, 2), (48, 1), (96, 2)]:
        x = n.conv(x, n.c[x], 3, stride, groups=n.c[x], act="relu6")
        x = n.conv(x, out, act="relu6")
    return n.head(x)


def inverted(n, x, out, t, k, stride, act, se=False):
    y = n.conv(x, n.c[x] * t, act=act)
    y = n.conv(y, n.c[y], k, stride, groups=n.c[y], act=act)
    if se:
        y = n.squeeze_excite(y)
    y = n.conv(y, out, gain=0.5)
    return n.add(x, y) if stride == 1 and out == n.c[x] else y


def mobilenet_v2(n):
    x = n.conv("in", 8, 3, 2, act="relu6")
    for out, stride in [(8, 1), (16, 2), (16, 1), (24, 2), (24, 1)]:
        x = inverted(n, x, out, 4, 3, stride, "relu6")
    return n.head(n.conv(x, 64, act="relu6"))


def mobilenet_v3(n):
    x = n.conv("in", 8, 3, 2, act="hswish")
    for out, k, stride, act, se in [(8, 3, 2, "relu", True), (16, 3, 2, "relu", False), (16, 5, 1, "hswish", True), (24, 5, 2, "hswish", True)]:
        x = inverted(n, x, out, 3, k, stride, act, se)
    return n.head(n.conv(x, 64, act="hardswish"))


def efficientnet_lite(n):
    x = n.conv("in", 8, 3, 2, act="relu6")
    for out, k, stride in [(8, 3, 1), (16, 3, 2), (16, 5, 2), (24, 5, 1), (24, 3, 1)]:
        x = inverted(n, x, out, 6, k, stride, "relu6")
    return n.head(n.conv(x, 64, act="relu6"))


def resnet18(n):
    x = n.conv("in", 8, 7, 2, act="relu")
    x = n.op("MaxPool", [x], 8, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for out, stride in [(8, 1), (8, 1), (16, 2), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]:
        y = n.conv(x, out, 3, stride, act="relu")
        y = n.conv(y, out, 3, gain=0.5)
        if stride != 1 or out != n.c[x]:
            x = n.conv(x, out, 1, stride, gain=1.0, pads=[0] * 4)
        x = n.act(n.add(x, y), "relu")
    return n.head(x)


def squeezenet(n):
    x = n.conv("in", 16, 3, 2, act="relu", pads=[0] * 4)
    for i, (s, e) in enumerate([(4, 16), (4, 16), (8, 24), (8, 24)]):
        if i in (0, 2):
            x = n.op("MaxPool", [x], n.c[x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        y = n.conv(x, s, act="relu")
        x = n.op("Concat", [n.conv(y, e, act="relu"), n.conv(y, e, 3, act="relu")], 2 * e, axis=1)
    x = n.conv(n.op("Dropout", [x], n.c[x]), 10, act="relu")
    return n.op("Flatten", [n.op("GlobalAveragePool", [x], 10)], 10)


def shuffle(n, x, side, groups=2):
    c = n.c[x]
    y = n.op("Reshape", [x, n.const(np.array([1, groups, c // groups, side, side], np.int64))], c)
    y = n.op("Transpose", [y], c, perm=[0, 2, 1, 3, 4])
    return n.op("Reshape", [y, n.const(np.array([1, -1, side, side], np.int64))], c)


def shufflenet_v2(n):
    x = n.conv("in", 8, 3, 2, act="relu")
    x = n.op("MaxPool", [x], 8, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    side = SIDE // 4
    for out, units in [(16, 2), (32, 3), (64, 2)]:
        for unit in range(units):
            half = out // 2
            if unit == 0:
                side //= 2
                a = n.conv(n.conv(x, n.c[x], 3, 2, groups=n.c[x]), half, act="relu")
                b = n.conv(n.conv(n.conv(x, half, act="relu"), half, 3, 2, groups=half), half, act="relu")
            else:
                a, b = n.op("Split", [x, n.const(np.array([half, half], np.int64))], [half, half], 2, axis=1)
                b = n.conv(n.conv(n.conv(b, half, act="relu"), half, 3, groups=half), half, act="relu")
            x = shuffle(n, n.op("Concat", [a, b], out, axis=1), side)
    return n.head(n.conv(x, 64, act="relu"))


NETWORKS = [mobilenet_v1, mobilenet_v2, mobilenet_v3, efficientnet_lite, resnet18, squeezenet, shufflenet_v2]

# One operator each, after a convolution that gives it 8 channels of 16x16.
OPERATORS = {
    "conv": lambda n, x: n.conv(x, 13, 5, 2),
    "conv_groups": lambda n, x: n.conv(x, 12, 3, groups=4),
    "conv_dilated": lambda n, x: n.op("Conv", [x, n.const(n.rng.normal(0, 0.2, (6, 8, 3, 3)).astype(np.float32))], 6, dilations=[2, 2], pads=[2] * 4),
    "depthwise": lambda n, x: n.conv(x, 8, 3, groups=8, act="relu6"),
    "gemm": lambda n, x: n.op("Gemm", [n.op("Flatten", [x], 2048), n.const(n.rng.normal(0, 0.02, (2048, 7)).astype(np.float32))], 7),
    "matmul": lambda n, x: n.op("MatMul", [n.op("Flatten", [n.op("GlobalAveragePool", [x], 8)], 8), n.const(n.rng.normal(0, 0.4, (8, 5)).astype(np.float32))], 5),
    "add": lambda n, x: n.add(x, n.conv(x, 8)),
    "add_channel": lambda n, x: n.op("Add", [x, n.const(n.rng.normal(0, 1, (1, 8, 1, 1)).astype(np.float32))], 8),
    "mul": lambda n, x: n.op("Mul", [x, n.conv(x, 8)], 8),
    "mul_pixel": lambda n, x: n.op("Mul", [n.op("GlobalAveragePool", [x], 8), x], 8),
    "mul_scalar": lambda n, x: n.op("Mul", [x, n.const(np.float32(0.37))], 8),
    "sigmoid": lambda n, x: n.op("MaxPool", [n.op("Sigmoid", [x], 8)], 8, kernel_shape=[1, 1]),
    "hardswish": lambda n, x: n.conv(n.act(x, "hardswish"), 6),
    "hswish_parts": lambda n, x: n.conv(n.act(x, "hswish"), 6),
    "leaky_relu": lambda n, x: n.op("LeakyRelu", [x], 8, alpha=0.1),
    "concat": lambda n, x: n.op("Concat", [x, n.conv(x, 5), x], 21, axis=1),
    "shuffle": lambda n, x: shuffle(n, x, 16, 4),
    "max_pool": lambda n, x: n.op("MaxPool", [x], 8, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    "average_pool": lambda n, x: n.op("AveragePool", [x], 8, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "average_pool_whole": lambda n, x: n.op("AveragePool", [x], 8, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=1),
    "global_average": lambda n, x: n.op("GlobalAveragePool", [x], 8),
    "pad": lambda n, x: n.op("Pad", [x, n.const(np.array([0, 0, 1, 2, 0, 0, 3, 0], np.int64))], 8),
}


class Calibration(CalibrationDataReader):
    def __init__(self, shape):
        rng = np.random.default_rng(7)
        self.data = iter([{"in": pattern(shape)}] + [{"in": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(3)])

    def get_next(self):
        return next(self.data, None)


def quantised(model, name, shape, form, activations):
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "float.onnx")
        onnx.save(model, source)
        target = os.path.join(HERE, name + ".onnx")
        quantize_static(source, target, Calibration(shape), quant_format=form, per_channel=True, activation_type=activations, weight_type=QuantType.QInt8)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # As the file says, operator by operator: fused ones round elsewhere.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL if form == QuantFormat.QOperator else ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        out = ort.InferenceSession(target, options).run(None, {"in": pattern(shape)})[0]
        out.astype(np.float32).tofile(os.path.join(HERE, name + ".expected"))
        print(f"{name}: {os.path.getsize(target)} bytes, values {out.min():.3f} to {out.max():.3f}")


def main():
    os.makedirs(HERE, exist_ok=True)
    for i, build in enumerate(NETWORKS):
        for form, activations, tag in [(QuantFormat.QDQ, QuantType.QInt8, "qdq_s8"), (QuantFormat.QOperator, QuantType.QUInt8, "qop_u8")]:
            net = Net(i)
            out = build(net)
            quantised(net.model(out, [1, 10]), f"{build.__name__}_{tag}", [1, 3, SIDE, SIDE], form, activations)
    for i, (name, build) in enumerate(OPERATORS.items()):
        net = Net(100 + i)
        out = build(net, net.conv("in", 8, 3))
        quantised(net.model(out, None, 16), f"op_{name}", [1, 3, 16, 16], QuantFormat.QDQ, QuantType.QInt8 if i % 2 else QuantType.QUInt8)


if __name__ == "__main__":
    main()
