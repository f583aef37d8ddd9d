"""A guest under QEMU: a shell on its serial port, its pins seen from outside, its button pressed from outside.

Nothing here asks the guest what its pins do: on machine virt QEMU's own trace tells each edge of the PL061 chip, on raspi3b the
GPIO registers are read through QMP.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from debian import Guest

# GPIO registers of BCM2837 (BCM2835 ARM Peripherals, 6.1; base of BCM2837).
GPFSEL0, GPLEV0 = 0x3F200000, 0x3F200034


class Failed(Exception):
    """A scene saw something else than it must."""


@dataclass(frozen=True)
class Edge:
    """A pin's change: seconds of the host's clock, pin, level."""

    at: float
    pin: int
    level: int


class Machine:
    def __init__(self, guest: Guest, initramfs: bytes, model: str, arguments: str = "", cpus: int = 2):
        self.model = model
        self.folder = tempfile.TemporaryDirectory(prefix="tagpin-board-")
        folder = Path(self.folder.name)
        (folder / "initramfs").write_bytes(initramfs)
        self.trace_path = folder / "trace"
        qmp = folder / "qmp"
        command = ["qemu-system-aarch64", "-kernel", str(guest.kernel()), "-initrd", str(folder / "initramfs")]
        boot = f"loglevel=3 panic=-1 rdinit=/init {arguments}"
        if model == "virt":
            command += ["-M", "virt", "-cpu", "cortex-a72", "-smp", str(cpus), "-m", "512", "-append", f"console=ttyAMA0 {boot}"]
            command += ["-serial", "stdio", "-D", str(self.trace_path), "-msg", "timestamp=on"]
            command += ["-trace", "pl061_set_output", "-trace", "pl061_input_change"]
            command += ["-qtest", f"unix:{folder / 'qtest'},server=on,wait=off", "-qtest-log", "none"]
        else:
            tree = guest.device_tree("bcm2837-rpi-3-b.dtb")
            # With one thread for all four CPUs the guest's clock keeps up with its work.
            command += ["-M", "raspi3b", "-accel", "tcg,thread=single", "-dtb", str(tree)]
            command += ["-append", f"console=ttyS1,115200 {boot}", "-serial", "null", "-serial", "stdio"]
        command += ["-display", "none", "-monitor", "none", "-no-reboot", "-net", "none"]
        command += ["-qmp", f"unix:{qmp},server=on,wait=off"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.taken = 0
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_for(lambda line: line.endswith("@@READY"), 90, "the guest to start")
        self._connect(qmp)
        self.pins_socket = None
        self.watching = False
        self.register_edges: list[Edge] = []
        self.functions: list[tuple[float, int]] = []

    def _read(self):
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").replace("\r", "").replace("\0", "").rstrip("\n")
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
        with self.news:
            self.lines.append("@@GONE")
            self.news.notify_all()

    def wait_for(self, fits, timeout: float, what: str) -> list[str]:
        """Lines of the serial port up to the first that fits."""
        end = time.monotonic() + timeout
        with self.news:
            begin = self.taken
            while True:
                while self.taken < len(self.lines):
                    line = self.lines[self.taken]
                    self.taken += 1
                    if fits(line):
                        return self.lines[begin : self.taken]
                    if line == "@@GONE":
                        raise Failed(f"the guest went away while waiting for {what}: " + self.tail() + self.errors())
                left = end - time.monotonic()
                if left <= 0:
                    raise Failed(f"waited {timeout:.0f} s for {what}: " + self.tail())
                self.news.wait(left)

    def tail(self) -> str:
        return "\n    | " + "\n    | ".join(self.lines[-12:])

    def errors(self) -> str:
        return "\n" + (self.process.stderr.read() or b"").decode()[-600:]

    def sh(self, line: str, timeout: float = 60, status: int | None = 0) -> str:
        """Runs one line of shell in the guest; its output. `status`: the exit status that it must have, None for any."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        found = self.wait_for(lambda got: re.search(r"@@STATUS \d+$", got) is not None, timeout, f"`{line[:80]}`")
        last = re.search(r"^(.*)@@STATUS (\d+)$", found[-1])
        text = "\n".join(found[:-1] + ([last.group(1)] if last.group(1) else []))
        if status is not None and int(last.group(2)) != status:
            raise Failed(f"`{line[:120]}` ended with {last.group(2)}, expected {status}:\n{text[-1500:]}")
        return text

    def write(self, path: str, text: str):
        """Puts a text file into the guest."""
        self.sh(f": >{path}")
        for line in text.splitlines():
            quoted = line.replace("'", "'\\''")
            self.sh(f"printf '%s\\n' '{quoted}' >>{path}")

    def _connect(self, path: Path):
        self.qmp_socket = socket.socket(socket.AF_UNIX)
        self.qmp_socket.connect(str(path))
        self.qmp_file = self.qmp_socket.makefile("rw")
        self.qmp_lock = threading.Lock()
        self.qmp_file.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, command: str, **arguments):
        with self.qmp_lock:
            self.qmp_file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self.qmp_file.flush()
            while True:
                line = self.qmp_file.readline()
                if not line:
                    raise Failed("QMP was closed")
                answer = json.loads(line)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise Failed(f"QMP {command}: {answer['error']}")

    def press(self) -> float:
        """Presses the button on line 3 of virt's PL061 (QEMU holds it for 100 ms); when."""
        at = time.time()
        self.qmp("system_powerdown")
        return at

    def bounce(self, pin: int, times: int, period: float) -> float:
        """Moves an input pin of virt's PL061 up and down, `times` times, through QEMU's test interface, as a contact does that
        closes and then opens: it stays up for 0.1 s in the middle. How often a second it bounced."""
        if self.pins_socket is None:
            children = self.qmp("qom-list", path="/machine/unattached")
            name = next(c["name"] for c in children if c["type"] == "child<pl061>")
            self.chip = f"/machine/unattached/{name}"
            self.pins_socket = socket.socket(socket.AF_UNIX)
            self.pins_socket.connect(str(Path(self.folder.name) / "qtest"))
            self.pins_file = self.pins_socket.makefile("rw")
        begin = time.monotonic()
        for i in range(2 * times):
            self.pins_file.write(f"set_irq_in {self.chip} unnamed-gpio-in {pin} {1 - i % 2}\n")
            self.pins_file.flush()
            answer = self.pins_file.readline()
            if not answer.startswith("OK"):
                raise Failed(f"the pin cannot be moved: {answer}")
            if i == times // 2 * 2:
                time.sleep(0.1)
                begin += 0.1
            time.sleep(max(0.0, begin + (i + 1) * period / 2 - time.monotonic()))
        return times / (time.monotonic() - begin)

    def _trace(self, event: str) -> list[Edge]:
        words = {"pl061_set_output": "setting output", "pl061_input_change": "input"}[event]
        pattern = re.compile(rf"\d+@([\d.]+):{event} \S+ {words} (\d+) (?:changed )?to (\d)")
        text = self.trace_path.read_text() if self.trace_path.exists() else ""
        return [Edge(float(at), int(pin), int(level)) for at, pin, level in pattern.findall(text)]

    def edges(self, pin: int, since: float = 0.0) -> list[Edge]:
        """Edges of an output pin, as QEMU saw them: the trace on virt, the watched register on raspi3b."""
        all_edges = self._trace("pl061_set_output") if self.model == "virt" else self.register_edges
        found: list[Edge] = []
        for edge in all_edges:
            if edge.pin == pin and (not found or found[-1].level != edge.level):
                found.append(edge)
        return [e for e in found if e.at >= since]

    def presses(self, since: float = 0.0) -> list[Edge]:
        return [e for e in self._trace("pl061_input_change") if e.level == 1 and e.at >= since]

    def level(self, pin: int) -> int:
        """The pin's level now."""
        if self.model != "virt":
            return self.register(GPLEV0) >> pin & 1
        found = self.edges(pin)
        return found[-1].level if found else 0

    def register(self, address: int) -> int:
        text = self.qmp("human-monitor-command", **{"command-line": f"xp /1wx {address}"})
        return int(text.strip().split(":")[1], 16)

    def is_output(self, pin: int) -> bool:
        """Whether the pin's function is output (raspi3b)."""
        return self.register(GPFSEL0 + 4 * (pin // 10)) >> 3 * (pin % 10) & 7 == 1

    def watch_pins(self, pins: list[int]):
        """From now on the level register is read all the time; pulses shorter than 100 ms may be missed."""

        def watch():
            known = {}
            while self.watching:
                try:
                    value = self.register(GPLEV0)
                except (Failed, OSError, ValueError):
                    return
                for pin in pins:
                    level = value >> pin & 1
                    if known.get(pin) != level:
                        known[pin] = level
                        self.register_edges.append(Edge(time.time(), pin, level))
                time.sleep(0.02)

        self.watching = True
        threading.Thread(target=watch, daemon=True).start()

    def wait_level(self, pin: int, level: int, timeout: float, what: str):
        end = time.monotonic() + timeout
        while self.level(pin) != level:
            if time.monotonic() > end:
                raise Failed(f"pin {pin} did not become {level} in {timeout:.0f} s: {what}{self.tail()}")
            time.sleep(0.05)

    def close(self):
        self.watching = False
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def expect(condition: bool, what: str):
    if not condition:
        raise Failed(what)
