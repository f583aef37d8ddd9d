"""The prediction endpoint against Microsoft's own two SDKs, a crowd of clients, and a Python server on the same model and files.

    predict.py TAGPIN BUNDLE ONNX IMAGES ROUNDS

Prints a line for each thing looked at; exit 1 if one is not as it should be.
"""

import http.client
import io
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from azure.cognitiveservices.vision.computervision import ComputerVisionClient
from azure.cognitiveservices.vision.computervision.models import ComputerVisionErrorResponseException, VisualFeatureTypes
from azure.cognitiveservices.vision.customvision.prediction import CustomVisionPredictionClient
from azure.cognitiveservices.vision.customvision.prediction.models import CustomVisionErrorException
from msrest.authentication import ApiKeyCredentials
from msrest.exceptions import HttpOperationError

PROJECT = "0f3b2a5e-1111-4222-8333-444455556666"
CLIENTS, REQUESTS, SECONDS = 32, 2000, 4
TOLERANCE = 1e-6

tagpin, bundle, onnx, folder = sys.argv[1:5]
rounds, least = int(sys.argv[5]), float(sys.argv[6])
files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
images = [open(name, "rb").read() for name in files]
bad = []


def check(what, good, found=""):
    print(f"{'ok ' if good else 'BAD'}  {what}{f': {found}' if found else ''}", flush=True)
    if not good:
        bad.append(what)


class Server:
    """A program that prints where it listens."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            sys.exit(f"BAD  {command}: no address in {line!r}")
        self.host, self.port = found[1], int(found[2])
        self.url = f"http://{self.host}:{self.port}"
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.1)
        sys.exit(f"BAD  {command}: nothing listens at {self.url}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=30)[0]


def classified():
    out = subprocess.run([tagpin, "classify", bundle, folder, "--json", "--top", "1024"], stdout=subprocess.PIPE, text=True, check=True)
    return [{t["tag"]: t["score"] for t in json.loads(line)["tags"]} for line in out.stdout.splitlines()]


def worst(scores, expected):
    """The largest difference; infinite where the tags are not the same."""
    if set(scores) != set(expected):
        return float("inf")
    return max(abs(scores[tag] - expected[tag]) for tag in expected)


def raised(kind, call):
    try:
        call()
    except kind as e:
        return e
    except HttpOperationError as e:
        return f"another exception: {type(e).__name__} {e}"
    return "no exception"


def sdks():
    key, hashed = (line.split()[1] for line in subprocess.check_output([tagpin, "key", "new"], text=True).splitlines()[:2])
    server = Server(tagpin, "serve", f"Iteration1={bundle}", "--listen", "127.0.0.1:0", "--key", hashed)
    expected = classified()
    custom = CustomVisionPredictionClient(server.url, ApiKeyCredentials(in_headers={"Prediction-key": key}))
    vision = ComputerVisionClient(server.url, ApiKeyCredentials(in_headers={"Ocp-Apim-Subscription-Key": key}))
    for name, call in {
        "classify_image": lambda i: custom.classify_image(PROJECT, "Iteration1", images[i]),
        "classify_image_with_no_store, an open file": lambda i: custom.classify_image_with_no_store(PROJECT, "Iteration1", open(files[i], "rb")),
    }.items():
        replies = [call(i) for i in range(len(images))]
        difference = max(worst({p.tag_name: p.probability for p in r.predictions}, e) for r, e in zip(replies, expected))
        in_order = all([p.probability for p in r.predictions] == sorted((p.probability for p in r.predictions), reverse=True) for r in replies)
        typed = all(p.tag_id and p.tag_type == "Regular" for r in replies for p in r.predictions) and all(r.created and r.id for r in replies)
        check(f"Custom Vision SDK, {name}", difference <= TOLERANCE and in_order and typed, f"{len(images)} images, difference {difference:.1e}")
    difference, categories = 0, 0
    for image, scores in zip(images, expected):
        reply = vision.analyze_image_in_stream(io.BytesIO(image), visual_features=[VisualFeatureTypes.categories, VisualFeatureTypes.tags])
        difference = max(difference, worst({t.name: t.confidence for t in reply.tags}, scores))
        categories += reply.categories[0].name in (*scores, "others_") and reply.metadata.width > 0
    check("Computer Vision SDK, analyze_image_in_stream, chunked", difference <= TOLERANCE and categories == len(images), f"difference {difference:.1e}")
    tags = vision.tag_image_in_stream(io.BytesIO(images[0])).tags
    check("Computer Vision SDK, tag_image_in_stream", worst({t.name: t.confidence for t in tags}, expected[0]) <= TOLERANCE)

    wrong = CustomVisionPredictionClient(server.url, ApiKeyCredentials(in_headers={"Prediction-key": "0" * 32}))
    large, broken = b"\xff\xd8\xff" + bytes(5 << 20), images[0][: len(images[0]) // 2]
    for what, code, call in [
        ("wrong key", "Unauthorized", lambda: wrong.classify_image(PROJECT, "Iteration1", images[0])),
        ("too large", "BadRequestImageSizeBytes", lambda: custom.classify_image(PROJECT, "Iteration1", large)),
        ("broken image", "BadRequestImageFormat", lambda: custom.classify_image(PROJECT, "Iteration1", broken)),
        ("no such iteration", "NotFoundIteration", lambda: custom.classify_image(PROJECT, "Iteration2", images[0])),
        ("an address", "BadRequestNotSupported", lambda: custom.classify_image_url(PROJECT, "Iteration1", "http://127.0.0.1/")),
    ]:
        e = raised(CustomVisionErrorException, call)
        found = e.error.code if isinstance(e, CustomVisionErrorException) and e.error else e
        check(f"Custom Vision SDK, {what}", found == code, found)
    wrong = ComputerVisionClient(server.url, ApiKeyCredentials(in_headers={"Ocp-Apim-Subscription-Key": "0" * 32}))
    for what, code, call in [
        ("wrong key", "Unauthorized", lambda: wrong.analyze_image_in_stream(io.BytesIO(images[0]))),
        ("too large", "InvalidRequest", lambda: vision.analyze_image_in_stream(io.BytesIO(large))),
        ("broken image", "InvalidRequest", lambda: vision.analyze_image_in_stream(io.BytesIO(broken))),
        ("an address", "InvalidRequest", lambda: vision.analyze_image("http://127.0.0.1/")),
    ]:
        e = raised(ComputerVisionErrorResponseException, call)
        found = e.error.error.code if isinstance(e, ComputerVisionErrorResponseException) and e.error else e
        check(f"Computer Vision SDK, {what}", found == code, found)
    check("a stop by SIGTERM", "0 failed" in server.stop())


def crowd(server, path, requests=REQUESTS, want=None):
    """`requests` images from all clients, each over one connection; whoever is told 503 comes back. Seconds, answers, 503s."""
    left, lock = iter(range(requests)), threading.Lock()
    answers, full, wrong = [0], [0], [0]

    def client():
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        while True:
            with lock:
                i = next(left, None)
            if i is None:
                return connection.close()
            image = images[i % len(images)]
            while True:
                connection.request("POST", path, image, {"Content-Type": "application/octet-stream"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 503:
                    break
                with lock:
                    full[0] += 1
                time.sleep(0.02)
            good = answer.status == 200 and (want is None or want(i % len(images), json.loads(body)))
            with lock:
                answers[0] += 1
                wrong[0] += not good

    begin = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.monotonic() - begin, answers[0], full[0], wrong[0]


def load():
    expected = classified()

    def want(i, reply):
        return worst({t["tag"]: t["score"] for t in reply["tags"]}, expected[i]) <= TOLERANCE

    server = Server(tagpin, "serve", bundle, "--listen", "127.0.0.1:0", "--queue", "8")
    _, answers, full, wrong = crowd(server, "/classify", want=want)
    last = server.stop()
    counted = f"served {REQUESTS} predictions; 0 refused, {full} told to come back (503), 0 failed"
    check(f"{REQUESTS} requests from {CLIENTS} clients, queue of 8", answers == REQUESTS and wrong == 0, f"{answers} answered, {wrong} wrong, {full} times 503")
    check("the server counted the same", last.startswith(counted), last.strip())


def pressed(server):
    """Images a second with every client busy; the client is wrk, so that the cores are the servers'."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "post.lua")
    command = ["wrk", "-t", "1", "-c", str(CLIENTS), "-d", f"{SECONDS}s", "-s", script, server.url + "/classify", "--", *files]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"BAD  {server.url}: {out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def peers():
    """Throughput in turn with a Python server, each with its own processes and the same client."""
    ratios = []
    here = os.path.dirname(os.path.abspath(__file__))
    for i in range(rounds):
        server = Server(tagpin, "serve", bundle, "--listen", "127.0.0.1:0")
        crowd(server, "/classify", 200)
        ours = pressed(server)
        server.stop()
        server = Server(sys.executable, os.path.join(here, "uvicorn_peer.py"), onnx)
        _, answers, _, wrong = crowd(server, "/classify", 200)
        if wrong or answers != 200:
            sys.exit(f"BAD  the Python server answered {wrong} of {answers} requests wrongly")
        theirs = pressed(server)
        server.stop()
        ratios.append(ours / theirs)
        print(f"     round {i + 1}: tagpin {ours:.0f} images/s, FastAPI with uvicorn and ONNX Runtime {theirs:.0f}, ratio {ours / theirs:.2f}", flush=True)
    ratio = statistics.median(ratios)
    check(f"throughput at least {least} times", ratio >= least, f"median {ratio:.2f} of {rounds} rounds, {os.cpu_count()} cores")


sdks()
load()
peers()
sys.exit(1 if bad else 0)
