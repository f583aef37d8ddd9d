"""An int8 QDQ ONNX network as LiteRT takes it: the same weights, scales and zero points, NHWC, int8 in and out.

Of operators it knows what int8 classifiers of convolutions are made of: Conv (with the padding that TensorFlow calls SAME or
none), Add, GlobalAveragePool, Flatten and Gemm. Needs, from PyPI, onnx, numpy and ai-edge-litert.
"""

import flatbuffers
import numpy
import onnx
from ai_edge_litert import schema_py_generated as tfl
from onnx import numpy_helper


class Unsupported(Exception):
    """What LiteRT, or this translation, has no form for."""


class Network:
    """Builds one subgraph."""

    def __init__(self, path: str):
        graph = onnx.load(path).graph
        self.values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.nodes = list(graph.node)
        self.made_by = {output: node for node in graph.node for output in node.output}
        self.buffers, self.tensors, self.operators, self.codes = [tfl.BufferT()], [], [], []
        self.index, self.shape = {}, {}
        entry = graph.input[0]
        self.shape[entry.name] = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        self.input = self.output = None
        foreign = {n.op_type for n in self.nodes} - {"QuantizeLinear", "DequantizeLinear", "Flatten", *self.known()}
        if foreign:
            raise Unsupported(f"no form here of {', '.join(sorted(foreign))}")
        for node in self.nodes:
            if node.op_type == "QuantizeLinear":
                self.quantize(node, entry.name)

    def quantize(self, node, entry: str):
        """One activation: the operator before it, whose output it quantises."""
        source, scale, zero_point = node.input
        made = self.made_by.get(source)
        if source == entry:
            n, c, h, w = self.shape[entry]
            self.input = self.index[node.output[0]] = self.activation(source, [n, h, w, c], scale, zero_point)
            return
        if made.op_type == "DequantizeLinear" or made.op_type == "Flatten":
            # The same values with the same scale under another name.
            source = made.input[0] if made.op_type == "DequantizeLinear" else self.quantised(made.input[0])
            self.index[node.output[0]] = self.index[source]
            return
        self.output = self.index[node.output[0]] = self.known()[made.op_type](made, scale, zero_point)

    def known(self) -> dict:
        return {"Conv": self.conv, "Add": self.add, "GlobalAveragePool": self.pool, "Gemm": self.gemm}

    def quantised(self, name: str) -> str:
        """What a DequantizeLinear makes `name` of."""
        node = self.made_by[name]
        if node.op_type == "Flatten":
            return self.quantised(node.input[0])
        if node.op_type != "DequantizeLinear":
            raise Unsupported(f"{name} is not quantised")
        return node.input[0]

    def tensor(self, name, shape, dtype, scale, zero_point, axis=0, data=None) -> int:
        tensor = tfl.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), dtype
        quantization = tfl.QuantizationParametersT()
        quantization.scale = numpy.atleast_1d(scale).astype(numpy.float32)
        quantization.zeroPoint = numpy.atleast_1d(zero_point).astype(numpy.int64)
        quantization.quantizedDimension = axis
        tensor.quantization = quantization
        if data is not None:
            buffer = tfl.BufferT()
            buffer.data = numpy.frombuffer(numpy.ascontiguousarray(data).tobytes(), numpy.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, name, shape, scale, zero_point) -> int:
        zero = self.values[zero_point]
        # LiteRT's activations are int8: a uint8 one less 128 is the same numbers.
        shift = 128 if zero.dtype == numpy.uint8 else 0
        return self.tensor(name, shape, tfl.TensorType.INT8, self.values[scale], int(zero) - shift)

    def weights(self, name: str, bias: str, scale_in: float, arrange, axis: int) -> tuple[int, int]:
        quantised, scale, zero_point = self.made_by[name].input
        values, scale = self.values[quantised], numpy.atleast_1d(self.values[scale])
        zero = self.values[zero_point].astype(numpy.int32)
        if values.dtype == numpy.uint8:
            values, zero = (values.astype(numpy.int32) - 128).astype(numpy.int8), zero - 128
        if numpy.any(zero != 0):
            raise Unsupported("weights with a zero point: LiteRT's are symmetric")
        channels = values.shape[0]
        scale = numpy.broadcast_to(scale, channels).astype(numpy.float32)
        values = arrange(values)
        w = self.tensor(name, values.shape, tfl.TensorType.INT8, scale, numpy.zeros(channels), axis, values)
        made = self.made_by.get(bias)
        biases = self.values[made.input[0]] if made is not None else numpy.round(self.values[bias] / (scale * scale_in))
        biases = biases.astype(numpy.int32)
        b = self.tensor(bias, biases.shape, tfl.TensorType.INT32, scale * scale_in, numpy.zeros(channels), 0, biases)
        return w, b

    def operator(self, code: int, inputs: list, output: int, kind: int, options) -> int:
        operator = tfl.OperatorT()
        if code not in self.codes:
            self.codes.append(code)
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)
        return output

    def conv(self, node, scale: str, zero_point: str) -> int:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        source = self.index[self.quantised(node.input[0])]
        _, h, w, c = self.tensors[source].shape
        stride, group = given.get("strides", [1, 1]), given.get("group", 1)
        pads = given.get("pads", [0] * 4)
        kernel = given["kernel_shape"]
        out = [(side + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1 for i, side in enumerate((h, w))]
        same = [-(-side // stride[i]) for i, side in enumerate((h, w))]
        spare = [max((same[i] - 1) * stride[i] + kernel[i] - side, 0) for i, side in enumerate((h, w))]
        if pads == [spare[0] // 2, spare[1] // 2, -(-spare[0] // 2), -(-spare[1] // 2)]:
            padding = tfl.Padding.SAME
        elif not any(pads):
            padding = tfl.Padding.VALID
        else:
            raise Unsupported(f"padding {pads} is neither SAME nor none")
        depthwise = group == c and group > 1
        if group != 1 and not depthwise:
            raise Unsupported(f"{group} groups")
        arrange = (lambda v: v.transpose(1, 2, 3, 0)) if depthwise else (lambda v: v.transpose(0, 2, 3, 1))
        scale_in = float(self.tensors[source].quantization.scale[0])
        weights, bias = self.weights(node.input[1], node.input[2], scale_in, arrange, 3 if depthwise else 0)
        channels = self.tensors[bias].shape[0]
        output = self.activation(node.output[0], [1, *out, channels], scale, zero_point)
        options = tfl.DepthwiseConv2DOptionsT() if depthwise else tfl.Conv2DOptionsT()
        options.padding, (options.strideH, options.strideW) = padding, stride
        options.dilationHFactor = options.dilationWFactor = 1
        kinds = tfl.BuiltinOptions
        if depthwise:
            options.depthMultiplier = 1
            code, kind = tfl.BuiltinOperator.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions
        else:
            code, kind = tfl.BuiltinOperator.CONV_2D, kinds.Conv2DOptions
        return self.operator(code, [source, weights, bias], output, kind, options)

    def add(self, node, scale: str, zero_point: str) -> int:
        a, b = (self.index[self.quantised(name)] for name in node.input)
        output = self.activation(node.output[0], self.tensors[a].shape, scale, zero_point)
        return self.operator(tfl.BuiltinOperator.ADD, [a, b], output, tfl.BuiltinOptions.AddOptions, tfl.AddOptionsT())

    def pool(self, node, scale: str, zero_point: str) -> int:
        source = self.index[self.quantised(node.input[0])]
        axes = numpy.array([1, 2], numpy.int32)
        axes = self.tensor("axes", [2], tfl.TensorType.INT32, [], [], 0, axes)
        self.tensors[axes].quantization = None
        output = self.activation(node.output[0], [1, self.tensors[source].shape[3]], scale, zero_point)
        options = tfl.ReducerOptionsT()
        options.keepDims = False
        kind = tfl.BuiltinOptions.ReducerOptions
        return self.operator(tfl.BuiltinOperator.MEAN, [source, axes], output, kind, options)

    def gemm(self, node, scale: str, zero_point: str) -> int:
        source = self.index[self.quantised(node.input[0])]
        scale_in = float(self.tensors[source].quantization.scale[0])
        weights, bias = self.weights(node.input[1], node.input[2], scale_in, lambda v: v, 0)
        output = self.activation(node.output[0], [1, self.tensors[bias].shape[0]], scale, zero_point)
        options = tfl.FullyConnectedOptionsT()
        kind = tfl.BuiltinOptions.FullyConnectedOptions
        return self.operator(tfl.BuiltinOperator.FULLY_CONNECTED, [source, weights, bias], output, kind, options)

    def packed(self) -> bytes:
        graph = tfl.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [self.input], [self.output]
        model = tfl.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = tfl.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            # Per-channel weights of a fully connected layer came with version 12.
            entry.version = 12 if code == tfl.BuiltinOperator.FULLY_CONNECTED else 3
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 22)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def translated(path: str) -> bytes:
    """The network of a QDQ ONNX file, as a LiteRT file's bytes."""
    return Network(path).packed()
