"""A line's registers against pymodbus and mbpoll: every part triggered and read once, nothing lost, doubled or torn, and clients that
misbehave.

    modbus.py TAGPIN BUNDLE PARTS
"""

import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from pymodbus.client import ModbusTcpClient

tagpin, bundle, parts = sys.argv[1:3] + [int(sys.argv[3])]
RESULTS = 8
bad = []


def check(what, good, found=""):
    print(f"{'ok ' if good else 'BAD'}  {what}{f': {found}' if found != '' else ''}", flush=True)
    if not good:
        bad.append(what)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Line:
    """A line whose parts are triggered by words on its standard input or over Modbus, one frame each."""

    def __init__(self, allow="127.0.0.1", trigger="stdin"):
        self.port = free_port()
        settings = os.path.join(tempfile.mkdtemp(), "device.toml")
        with open(settings, "w") as f:
            f.write(f'[trigger]\nkind = "{trigger}"\nmax_jitter_ms = 1000\n[outputs.lamp]\non = ["accept"]\n'
                    f'[modbus]\nlisten = "127.0.0.1:{self.port}"\nresults = {RESULTS}\nwrite = "yes"\nallow = ["{allow}"]\n')
        command = [tagpin, "run", "--json", "--bundle", bundle, "--settings", settings, "--source", f"y4m:{self.film()}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.events = []
        threading.Thread(target=lambda: self.events.extend(json.loads(l) for l in self.process.stdout), daemon=True).start()

    def film(self):
        """A pipe with as many frames a second as a part may want: noise, which the model sees whatever it likes in."""
        fifo = os.path.join(tempfile.mkdtemp(), "film.y4m")
        os.mkfifo(fifo)
        frames = [b"FRAME\n" + random.Random(i).randbytes(96 * 96) for i in range(50)]

        def write():
            try:
                with open(fifo, "wb", buffering=0) as f:
                    f.write(b"YUV4MPEG2 W96 H96 F300:1 Cmono\n")
                    for i in itertools.count():
                        f.write(frames[i % len(frames)])
                        time.sleep(0.003)
            except OSError:
                pass

        threading.Thread(target=write, daemon=True).start()
        return fifo

    def trigger(self):
        self.process.stdin.write("trigger\n")
        self.process.stdin.flush()

    def client(self):
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        client = ModbusTcpClient("127.0.0.1", port=self.port, timeout=5)
        if not client.connect():
            sys.exit("BAD  nothing listens")
        return client

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        time.sleep(0.2)
        return [e for e in self.events if e["event"] == "part"]


def feed(line, seen):
    """A part in 9 ms, each of which gets a frame of its own; no more on the way than the device holds for the PLC. By a connection of
    its own: pymodbus asks one thing at a time."""
    plc = line.client()
    for i in range(parts):
        while i - len(seen) > RESULTS - 2:
            time.sleep(0.001)
        assert not plc.write_coil(3, True).isError() and not plc.write_coil(3, False).isError()
        time.sleep(0.009)


def once():
    line = Line(trigger="modbus")
    plc = line.client()
    assert not plc.write_coil(1, True).isError()
    verdicts = {"present": 1, "review": 2, "unknown": 3, "foreign": 4, "safe": 5}
    actions = {"safe": 0, "accept": 1, "reject": 2, "review": 3}
    seen, torn, most = [], 0, 0
    begin = last = time.monotonic()
    threading.Thread(target=feed, args=(line, seen), daemon=True).start()
    while len(seen) < parts and time.monotonic() - last < 20:
        if not plc.read_discrete_inputs(1, count=1).bits[0]:
            continue
        # Half of the time in two requests, as a PLC with a small buffer reads.
        if len(seen) % 2:
            block = plc.read_input_registers(48, count=16).registers
        else:
            block = plc.read_input_registers(48, count=7).registers + plc.read_holding_registers(55, count=9).registers
        torn += block[0] != block[15]
        seen.append((block[1] << 16 | block[2], block[3], block[4], block[6]))
        plc.write_coil(0, True)
        assert not plc.read_discrete_inputs(1, count=1).bits[0]
        plc.write_coil(0, False)
        if len(seen) % 100 == 50:
            # Now and then the PLC is slow, and results wait.
            time.sleep(0.1)
            most = max(most, plc.read_input_registers(4, count=1).registers[0])
        last = time.monotonic()
    seconds = time.monotonic() - begin
    status = plc.read_input_registers(0, count=16).registers
    counters = plc.read_input_registers(16, count=32).registers
    lost = status[5] << 16 | status[6]
    told = [(p["part"], verdicts[p["verdict"]], actions[p["action"]], p["score_raw"] or 0) for p in line.stop()]
    check(f"{parts} parts triggered and read once each, in order, with their verdicts", seen == told and len(seen) == parts, f"{len(seen)} in {seconds:.0f} s")
    decided = sum(verdict != 5 for _, verdict, _, _ in seen)
    check("parts had frames, and results waited", decided > 0.9 * parts and most >= 4, f"{decided} decided, up to {most} waited")
    check("none lost, none torn", lost == 0 and torn == 0, f"{lost} lost, {torn} torn")
    counted = counters[3] << 16 | counters[4]
    check("the counters agree", counted == parts, f"{counted} parts")
    triggers = counters[1] << 16 | counters[2]
    check("each write of the trigger's coil is one trigger", triggers == parts, f"{triggers} triggers")


def whole_map():
    line = Line()
    plc = line.client()
    text = subprocess.run(["mbpoll", "-0", "-1", "-t", "3", "-r", "0", "-c", "64", "-p", str(line.port), "127.0.0.1"], stdout=subprocess.PIPE, text=True).stdout
    rows = dict(re.findall(r"^\[(\d+)\]:\s+(\d+)", text, re.M))
    check("mbpoll reads the whole map", len(rows) == 64 and rows["1"] == "1", f"{len(rows)} registers")
    text = subprocess.run(["mbpoll", "-0", "-1", "-t", "4:hex", "-r", "1000", "-c", "16", "-p", str(line.port), "127.0.0.1"], stdout=subprocess.PIPE, text=True).stdout
    words = re.findall(r"^\[\d+\]:\s+0x([0-9A-F]{4})", text, re.M)
    name = bytes.fromhex("".join(words)).rstrip(b"\0").decode()
    start = next(e for e in line.events if e["event"] == "start")
    check("mbpoll reads the first tag's name", name == start["tags"][0]["tag"], name)
    text = subprocess.run(["mbpoll", "-0", "-1", "-t", "1", "-r", "0", "-c", "16", "-p", str(line.port), "127.0.0.1"], stdout=subprocess.PIPE, text=True).stdout
    check("mbpoll reads the status bits", len(re.findall(r"^\[\d+\]:\s+[01]", text, re.M)) == 16)
    check("a register beside the map is refused", plc.read_input_registers(64, count=1).isError())
    beats, begin = set(), time.monotonic()
    for _ in range(25):
        beats.add(plc.read_input_registers(2, count=1).registers[0])
        time.sleep(0.1)
    seconds = time.monotonic() - begin
    # At most one a second and those at both ends; a busy machine may read past some.
    check("the heartbeat beats once a second", seconds / 2 <= len(beats) <= seconds + 2, f"{len(beats)} values in {seconds:.1f} s")
    line.stop()


def strangers():
    line = Line(allow="10.9.8.7")
    plc = line.client()
    refused = plc.write_coil(0, True)
    check("a peer that is not allowed cannot write", refused.isError() and refused.exception_code == 1)
    draw = random.Random(7)
    hold = [socket.create_connection(("127.0.0.1", line.port)) for _ in range(50)]
    for s in hold:
        try:
            s.sendall(draw.randbytes(draw.randrange(1, 400)))
        except OSError:
            pass
    for _ in range(5):
        line.trigger()
        time.sleep(0.1)
    for s in hold:
        s.close()
    time.sleep(0.3)
    other = line.client()
    count = other.read_input_registers(16, count=32).registers
    check("50 connections that send garbage change nothing", (count[3] << 16 | count[4]) == 5, f"{count[4]} of 5 parts")
    told = line.stop()
    faults = [e["kind"] for e in line.events if e["event"] == "fault"]
    check("the line went on", len(told) == 5 and line.process.returncode == 0 and not faults, f"exit {line.process.returncode}, faults {faults}")


once()
whole_map()
strangers()
sys.exit(1 if bad else 0)
