"""What all sinks together cost the line: a bare line and one with page, MQTT, Modbus, metrics and kept images all on and in use,
beside a saturated core, in turn.

    beside.py TAGPIN BUNDLE ROUNDS [PARTS]

A part each 20 ms with a pulse of its own. With everything on there are four viewers that ask as the page does, a PLC that reads and
acknowledges each result, Mosquitto, and a scrape each second. The clients stand for other machines, so they and the load keep to one
core; the line may run on any. Exit 1: the median of the rounds' p99.9 is more than 0.1 ms later with everything on, an edge was later
than `late_ms`, a client was not served, or more than 24 MiB of memory came on top.
"""

import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

TAGPIN, BUNDLE, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
PARTS = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
LATE_MS, MORE_P999_MS, MORE_MIB = 5.0, 0.1, 24.0
WORK = pathlib.Path(tempfile.mkdtemp())
OTHER = max(os.sched_getaffinity(0))
bad = []

BARE = """
[source]
open = "conveyor?seed=7&fps=60"
[line]
mode = "gate"
[trigger]
kind = "period"
period_ms = 20
deadline_ms = 150
[outputs.gate]
mode = "pulse"
width_ms = 5
delay_ms = 200
on = ["accept", "reject", "review"]
"""
EVERYTHING = """
[page]
listen = "127.0.0.1:{page}"
[metrics]
listen = "127.0.0.1:{metrics}"
[modbus]
listen = "127.0.0.1:{modbus}"
results = 64
write = "yes"
allow = ["127.0.0.1"]
[mqtt]
broker = "127.0.0.1:{mqtt}"
name = "beside"
[keep]
folder = "{folder}/kept"
one_in = 5
[state]
folder = "{folder}/state"
"""


def check(what, good, found):
    print(f"{'ok ' if good else 'BAD'}  {what}: {found}", flush=True)
    if not good:
        bad.append(what)


def on_the_other_core():
    os.sched_setaffinity(0, {OTHER})


def free_ports(count):
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [s.getsockname()[1] for s in free]


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return answer.read()


class Clients:
    """Four viewers, a scraper and a PLC, each on a thread of this process until the line has left."""

    def __init__(self, ports):
        self.ports, self.over, self.read, self.looks, self.scrapes = ports, threading.Event(), 0, 0, 0
        work = [self.view] * 4 + [self.scrape, self.acknowledge]
        self.threads = [threading.Thread(target=self.until_over, args=(each,), daemon=True) for each in work]
        for thread in self.threads:
            thread.start()

    def until_over(self, work):
        on_the_other_core()
        while not self.over.is_set():
            try:
                work()
            except (OSError, ModbusException):
                # Not there yet, or no longer.
                time.sleep(0.1)

    def view(self):
        state = json.loads(get(self.ports["page"], "/state"))
        self.looks += 1
        get(self.ports["page"], "/live.jpg?frame=1")
        get(self.ports["page"], "/model.jpg?frame=1")
        for part in state["parts"][:4]:
            if part["image"]:
                try:
                    get(self.ports["page"], f"/part.jpg?part={part['part']}")
                except urllib.error.HTTPError:
                    # It has left the gallery since.
                    pass
        time.sleep(0.5)

    def scrape(self):
        get(self.ports["metrics"], "/metrics")
        self.scrapes += 1
        time.sleep(1)

    def acknowledge(self):
        plc = ModbusTcpClient("127.0.0.1", port=self.ports["modbus"], timeout=2, retries=0)
        if not plc.connect() or plc.write_coil(1, True).isError():
            raise OSError("no answer")
        while not self.over.is_set():
            if not plc.read_discrete_inputs(1, count=1).bits[0]:
                time.sleep(0.005)
                continue
            plc.read_input_registers(48, count=16)
            self.read += 1
            plc.write_coil(0, True)
            plc.write_coil(0, False)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(5)


def resident_mib(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0.0)


def run(everything):
    """p99.9 and largest lateness in ms, the most memory in MiB, and what the clients saw."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    (folder / "kept").mkdir()
    (folder / "state").mkdir()
    ports = dict(zip(("page", "metrics", "modbus", "mqtt"), free_ports(4)))
    settings = folder / "device.toml"
    settings.write_text(BARE + (EVERYTHING.format(folder=folder, **ports) if everything else ""))
    load = [subprocess.Popen([TAGPIN, "bench", BUNDLE, "--iters", "1000000000"], stdout=subprocess.DEVNULL, preexec_fn=on_the_other_core)]
    clients = None
    if everything:
        load.append(subprocess.Popen(["mosquitto", "-p", str(ports["mqtt"])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=on_the_other_core))
        time.sleep(0.5)
        clients = Clients(ports)
    try:
        with (folder / "out").open("w") as out, (folder / "errors").open("w") as errors:
            command = [TAGPIN, "run", "--json", "--bundle", BUNDLE, "--settings", settings, "--parts", str(PARTS)]
            line = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
            most = 0.0
            while line.poll() is None:
                most = max(most, resident_mib(line.pid))
                time.sleep(0.2)
    finally:
        if clients:
            clients.stop()
        for process in load:
            process.kill()
            process.wait()
    if line.returncode != 0:
        sys.exit(f"BAD  the line ended with {line.returncode}: {(folder / 'errors').read_text()[-2000:]}")
    last = json.loads((folder / "out").read_text().splitlines()[-1])
    assert last["event"] == "summary", last
    late = last["edge_jitter"]
    return late["p999"] / 1000, late["max"] / 1000, most, last, clients


bare, full = [], []
for i in range(ROUNDS):
    # In turn, and each first in every other round.
    for everything in ([False, True] if i % 2 == 0 else [True, False]):
        p999, largest, most, last, clients = run(everything)
        (full if everything else bare).append((p999, largest, most, last, clients))
        seen = f"; {clients.looks} looks, {clients.scrapes} scrapes, {clients.read} results read" if clients else ""
        print(f"round {i + 1}, {'everything' if everything else 'bare line '}: {last['edges']} edges, p99.9 {p999:.3f}, largest {largest:.3f} ms, {most:.1f} MiB{seen}", flush=True)

medians = [statistics.median(p999 for p999, *_ in rounds) for rounds in (bare, full)]
check(f"p99.9 in the median of {ROUNDS} rounds at most {MORE_P999_MS} ms later", medians[1] - medians[0] <= MORE_P999_MS, f"{medians[0]:.3f} ms bare, {medians[1]:.3f} ms with everything")
largest = [max(largest for _, largest, *_ in rounds) for rounds in (bare, full)]
check(f"no edge later than {LATE_MS} ms", largest[1] <= LATE_MS, f"largest {largest[0]:.3f} ms bare, {largest[1]:.3f} ms with everything")
memory = [statistics.median(most for _, _, most, *_ in rounds) for rounds in (bare, full)]
check(f"at most {MORE_MIB:.0f} MiB more", memory[1] - memory[0] <= MORE_MIB, f"{memory[0]:.1f} MiB bare, {memory[1]:.1f} MiB with everything")
least = min(min(clients.looks, clients.scrapes, clients.read) for *_, clients in full)
check("every client was served in each round", least > 3, f"at least {least} answers each")
lost = {}
for *_, last, _ in full:
    for sink in last["sinks"]:
        lost[sink["sink"]] = lost.get(sink["sink"], 0) + sink["lost"]
print(f"events that sinks lost, counted, of {ROUNDS} rounds: {lost}")
sys.exit(1 if bad else 0)
