"""A line's messages against a real Mosquitto: availability with its last will, state, parts in their order over a broker that is
killed, losses that are counted, passwords, TLS, and Home Assistant's discovery.

    mqtt.py TAGPIN BUNDLE

Prints a line for each check; exit 1 if one failed.
"""

import json
import subprocess
import sys

from broker import WORK, Broker, Line, Listener, access, check, end, wait


def numbers(messages):
    return [json.loads(m)["part"] for m in messages]


def without_repetitions(values):
    return list(dict.fromkeys(values))


def a_broker_that_is_there():
    broker = Broker("plain")
    broker.start()
    listener = Listener(broker, "plain")
    line = Line("plain", access(broker))
    check(wait("parts", lambda: len(listener.of("tagpin/north/part")) >= 10), "parts come")
    check(wait("an image", lambda: listener.of("tagpin/north/snapshot")), "an image of a part that is not accepted comes")
    image = (listener.of("tagpin/north/snapshot") or [b""])[0]
    check(image[:2] == b"\xff\xd8" and image[-2:] == b"\xff\xd9", f"it is a JPEG of {len(image)} bytes")
    late = Listener(broker, "late")
    topics = ["availability", "start", "state"]
    wait("what is kept", lambda: all(late.of(f"tagpin/north/{t}") for t in topics))
    kept = {topic: payload for topic, retained, payload in late.seen() if retained}
    check(kept.get("tagpin/north/availability") == b"online", "who comes later is told that the line is online")
    check(json.loads(kept.get("tagpin/north/state", b"{}")).get("event") == "status", "and its newest figures")
    check(json.loads(kept.get("tagpin/north/start", b"{}")).get("event") == "start", "and what it runs")
    config = json.loads(kept.get("homeassistant/device/tagpin_north/config", b"{}"))
    check(len(config.get("components", {})) >= 12, f"Home Assistant is told of {len(config.get('components', {}))} entities in one message")
    before = len(late.of("homeassistant/device/tagpin_north/config"))
    publish = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", "line", "-P", "secret"]
    subprocess.run([*publish, "-t", "homeassistant/status", "-m", "online"], check=True)
    again = wait("discovery", lambda: len(late.of("homeassistant/device/tagpin_north/config")) > before, 5)
    check(again, "a Home Assistant that was started again is told again")
    late.stop()
    check(line.stop() == 0, "the run ends with 0")
    parts = [e["part"] for e in line.events("part")]
    wait("the last part", lambda: numbers(listener.of("tagpin/north/part"))[-1:] == parts[-1:], 5)
    check(numbers(listener.of("tagpin/north/part")) == parts, f"all {len(parts)} parts came once, in their order")
    offline = wait("offline", lambda: listener.of("tagpin/north/availability")[-1:] == [b"offline"], 5)
    check(offline, "and the line is offline")

    line = Line("killed", access(broker))
    wait("online", lambda: listener.of("tagpin/north/availability")[-1:] == [b"online"])
    line.process.kill()
    will = wait("the will", lambda: listener.of("tagpin/north/availability")[-1:] == [b"offline"], 20)
    check(will, "after kill -9 the broker says offline by itself")
    listener.stop()
    return broker


def a_broker_that_goes(broker):
    listener = Listener(broker, "before")
    line = Line("goes", access(broker))
    wait("parts", lambda: len(listener.of("tagpin/north/part")) >= 5)
    broker.kill()
    listener.stop()
    first = numbers(listener.of("tagpin/north/part"))
    told = wait("the fault", lambda: any("no connection to the broker" in (f["why"] or "") for f in line.events("fault")))
    check(told, "that the broker is away is told")
    at = len(line.events("part"))
    wait("more parts", lambda: len(line.events("part")) >= at + 10)
    broker.start()
    listener = Listener(broker, "after")
    back = wait("connected", lambda: any("connected to" in n["text"] for n in line.events("note")), 40)
    check(back, "and that it is back")
    wait("parts after it", lambda: len(listener.of("tagpin/north/part")) > at, 20)
    line.stop()
    parts = [e["part"] for e in line.events("part")]
    wait("the last part", lambda: numbers(listener.of("tagpin/north/part"))[-1:] == parts[-1:], 5)
    rest = numbers(listener.of("tagpin/north/part"))
    listener.stop()
    # A subscriber may join after a message was handed on, so both are looked at: nothing between them is missing.
    whole = without_repetitions(first + rest) == parts
    check(whole, f"{len(parts)} parts, {len(rest)} of them after the broker came back: none lost, in their order")
    summary = line.events("summary")[0]
    lost = {s["sink"]: s["lost"] for s in summary["sinks"]}["mqtt"]
    check(lost == 0, "none counted as lost")


def a_broker_that_stays_away(broker):
    broker.kill()
    line = Line("away", access(broker, "spool = 5\n"), parts=30)
    code = line.process.wait(timeout=60)
    summary = line.events("summary")[0]
    lost = {s["sink"]: s["lost"] for s in summary["sinks"]}["mqtt"]
    all_messages = summary["parts"] + sum(summary["faults"].values())
    check(code == 0 and summary["parts"] == 30, "without a broker all 30 parts are sorted")
    check(lost >= 25 and lost <= all_messages, f"with room for 5 messages {lost} are counted as lost")
    check("messages wait already" in line.told(), "and told")


def a_wrong_password():
    broker = Broker("wrong")
    broker.start()
    line = Line("wrong", access(broker).replace('user = "line"', 'user = "other"'), parts=12)
    line.process.wait(timeout=60)
    faults = [f["why"] for f in line.events("fault")]
    check(any("refuses this user and password" in (f or "") for f in faults), f"a wrong user is told: {faults[:1]}")
    check(len(line.events("part")) == 12, "and the line goes on")


def encrypted():
    tls = WORK / "certificates"
    tls.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tls)

    for ca in ["ca", "other"]:
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem")
    (tls / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "names", "-out", "cert.pem")
    for file in tls.iterdir():
        file.chmod(0o644)
    broker = Broker("tls", tls)
    broker.start()
    listener = Listener(broker, "tls", ["--cafile", tls / "ca.pem"])
    line = Line("tls", access(broker, f'tls = "yes"\nca_file = "{tls}/ca.pem"\n'))
    check(wait("parts", lambda: len(listener.of("tagpin/north/part")) >= 5), "parts come over TLS")
    line.stop()
    line = Line("stranger", access(broker, f'tls = "yes"\nca_file = "{tls}/other.pem"\n'), parts=12)
    line.process.wait(timeout=60)
    faults = [f["why"] for f in line.events("fault")]
    check(any("certificate" in (f or "").lower() for f in faults), f"a certificate of somebody else is refused: {faults[:1]}")
    check(len(line.events("part")) == 12, "and the line goes on")
    listener.stop()


try:
    there = a_broker_that_is_there()
    a_broker_that_goes(there)
    a_broker_that_stays_away(there)
    a_wrong_password()
    encrypted()
finally:
    status = end()
sys.exit(status)
