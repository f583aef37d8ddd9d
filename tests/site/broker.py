"""A Mosquitto, a listener on it and a line that tells it what it does: what mqtt.py and homeassistant.py share.

The script that imports this was called with TAGPIN BUNDLE first.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TAGPIN, BUNDLE = sys.argv[1:3]
WORK = Path(tempfile.mkdtemp())
os.chmod(WORK, 0o755)
FAILED = []
STARTED = []


def check(good, what):
    print(("ok   " if good else "BAD  ") + what, flush=True)
    if not good:
        FAILED.append(what)


def port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def wait(what, good, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if good():
            return True
        time.sleep(0.05)
    print(f"     waited {seconds} s for {what}")
    return False


class Broker:
    """Mosquitto with a password, and with TLS where it has a certificate."""

    def __init__(self, name, tls=None):
        self.port, self.folder = port(), WORK / name
        self.folder.mkdir()
        self.passwords = self.folder / "passwords"
        self.passwords.touch()
        subprocess.run(["mosquitto_passwd", "-b", self.passwords, "line", "secret"], check=True, capture_output=True)
        # It gives up its rights where it is started by root.
        self.passwords.chmod(0o644)
        text = f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {self.passwords}\nlog_type all\n"
        if tls:
            text += f"cafile {tls}/ca.pem\ncertfile {tls}/cert.pem\nkeyfile {tls}/key.pem\n"
        self.config = self.folder / "mosquitto.conf"
        self.config.write_text(text)
        self.process = None

    def start(self):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(["mosquitto", "-c", self.config], stdout=log, stderr=log)
        STARTED.append(self.process)

        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0

        assert wait("mosquitto", answers, 10), (self.folder / "log").read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Listener:
    """mosquitto_sub on every topic; what it has seen."""

    def __init__(self, broker, name, more=()):
        self.file = open(WORK / f"{name}.seen", "wb")
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", "line", "-P", "secret", "-q", "1", "-t", "#"]
        command += ["-F", "%t %r %x", *more]
        self.process = subprocess.Popen(command, stdout=self.file, stderr=subprocess.DEVNULL)
        STARTED.append(self.process)

    def seen(self):
        """Topic, whether it was kept for those who come later, payload."""
        messages = []
        # It may be writing the last line just now.
        whole = Path(self.file.name).read_text().rpartition("\n")[0]
        for line in whole.splitlines():
            words = line.split(" ")
            messages.append((words[0], words[1] == "1", bytes.fromhex(words[2]) if len(words) > 2 else b""))
        return messages

    def of(self, topic):
        return [payload for t, _, payload in self.seen() if t == topic]

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Line:
    """A run on the built-in conveyor; its own events."""

    def __init__(self, name, mqtt, parts=0, source="conveyor?speed=900&seed=5"):
        self.name = name
        settings = WORK / f"{name}.toml"
        settings.write_text('[trigger]\nkind = "barrier"\n[outputs.lamp]\non = ["accept"]\n[mqtt]\n' + mqtt)
        command = [TAGPIN, "run", "--json", "--bundle", BUNDLE, "--settings", settings, "--source", source]
        command += ["--parts", str(parts)] if parts else []
        self.file = open(WORK / f"{name}.events", "wb")
        self.errors = open(WORK / f"{name}.errors", "wb")
        self.process = subprocess.Popen(command, stdout=self.file, stderr=self.errors)
        STARTED.append(self.process)

    def events(self, kind):
        events = []
        for line in Path(self.file.name).read_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event["event"] == kind:
                events.append(event)
        return events

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def told(self):
        return Path(self.errors.name).read_text()


def access(broker, more=""):
    password = WORK / "password"
    password.write_text("secret\n")
    return f'broker = "127.0.0.1:{broker.port}"\nuser = "line"\npassword_file = "{password}"\nname = "north"\n{more}'


def end():
    """Ends what was started; the exit status."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
    return 1 if FAILED else 0
