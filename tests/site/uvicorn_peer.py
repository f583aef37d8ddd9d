"""What one would write in Python: FastAPI under uvicorn, one worker a core, ONNX Runtime with one thread, Pillow for JPEG.

    uvicorn_peer.py ONNX
"""

import io
import os
import socket
import sys

import numpy
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image

MODEL = os.environ.setdefault("PEER_MODEL", sys.argv[-1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
feed = session.get_inputs()[0]
channels_last = feed.shape[-1] == 3
side = feed.shape[1] if channels_last else feed.shape[2]
app = FastAPI()


@app.post("/classify")
async def classify(request: Request):
    image = Image.open(io.BytesIO(await request.body())).convert("RGB").resize((side, side), Image.BILINEAR)
    pixels = numpy.asarray(image, numpy.float32)[None] / 255
    if not channels_last:
        pixels = pixels.transpose(0, 3, 1, 2)
    logits = session.run(None, {feed.name: numpy.ascontiguousarray(pixels)})[0][0].astype(numpy.float64)
    scores = numpy.exp(logits - logits.max())
    scores /= scores.sum()
    best = numpy.argsort(-scores)
    return {"tags": [{"tag": str(i), "score": float(scores[i])} for i in best]}


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"serving at http://127.0.0.1:{port}", flush=True)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    uvicorn.run("uvicorn_peer:app", host="127.0.0.1", port=port, workers=os.cpu_count(), log_level="error", access_log=False)
