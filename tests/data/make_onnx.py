"""Makes the small ONNX files of the tests: python3 tests/data/make_onnx.py (needs onnx, numpy)."""
import numpy as np, onnx, os
from onnx import helper as h, numpy_helper as n, TensorProto as T
here = os.path.dirname(os.path.abspath(__file__)); rng = np.random.default_rng(1)
def tiny(name, extra):
    init, nodes = [], []
    def const(k, v): init.append(n.from_array(np.asarray(v), k)); return k
    def q(x, y, s, z): nodes.append(h.make_node("QuantizeLinear", [x, const(y + "_s", np.float32(s)), const(y + "_z", np.int8(z))], [y]))
    def dq(x, y, s, z, axis=None): nodes.append(h.make_node("DequantizeLinear", [x, const(y + "_s", s), const(y + "_z", z)], [y], **({} if axis is None else {"axis": axis})))
    q("in", "x", 0.02, -3); dq("x", "xr", np.float32(0.02), np.int8(-3))
    def conv(src, s_in, dst, w, s_out, z, **kw):
        ws = rng.uniform(0.004, 0.02, w.shape[0]).astype(np.float32)
        const(dst + "w", w); dq(dst + "w", dst + "wr", ws, np.zeros(w.shape[0], np.int8), 0)
        const(dst + "b", rng.integers(-500, 500, w.shape[0], dtype=np.int32)); dq(dst + "b", dst + "br", (ws * np.float32(s_in)).astype(np.float32), np.zeros(w.shape[0], np.int32), 0)
        nodes.append(h.make_node("Conv", [src, dst + "wr", dst + "br"], [dst + "c"], **kw)); nodes.append(h.make_node("Relu", [dst + "c"], [dst + "a"]))
        q(dst + "a", dst, s_out, z); dq(dst, dst + "r", np.float32(s_out), np.int8(z))
    w = lambda *s: rng.integers(-127, 128, s, dtype=np.int8)
    conv("xr", 0.02, "a", w(6, 3, 3, 3), 0.03, -128, pads=[1, 1, 1, 1], strides=[2, 2])
    conv("ar", 0.03, "b", w(6, 1, 3, 3), 0.04, -128, pads=[1, 1, 1, 1], group=6)
    nodes.append(h.make_node("Add", ["ar", "br"], ["sum"])); q("sum", "s", 0.05, -128); dq("s", "sr", np.float32(0.05), np.int8(-128))
    src = "sr"
    if extra: nodes.append(h.make_node("LRN", ["sr"], ["lrn"], name="normalise", size=extra)); src = "lrn"
    nodes.append(h.make_node("GlobalAveragePool", [src], ["g"])); q("g", "gq", 0.05, -128); dq("gq", "gr", np.float32(0.05), np.int8(-128))
    nodes.append(h.make_node("Flatten", ["gr"], ["f"]))
    fs = rng.uniform(0.004, 0.02, 4).astype(np.float32)
    const("fw", w(4, 6)); dq("fw", "fwr", fs, np.zeros(4, np.int8), 0)
    const("fb", rng.integers(-500, 500, 4, dtype=np.int32)); dq("fb", "fbr", (fs * np.float32(0.05)).astype(np.float32), np.zeros(4, np.int32), 0)
    nodes.append(h.make_node("Gemm", ["f", "fwr", "fbr"], ["out"], transB=1))
    g = h.make_graph(nodes, "tiny", [h.make_tensor_value_info("in", T.FLOAT, [1, 3, 16, 16])], [h.make_tensor_value_info("out", T.FLOAT, [1, 4])], init)
    m = h.make_model(g, opset_imports=[h.make_opsetid("", 13)], ir_version=8); onnx.checker.check_model(m)
    onnx.save(m, os.path.join(here, name + ".onnx"))
tiny("tiny_qdq", 0); tiny("tiny_lrn", 3)
# Over an even number of channels, which no known evaluator has.
tiny("tiny_refused", 2)
