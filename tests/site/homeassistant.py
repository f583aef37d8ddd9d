"""A line's entities in a real Home Assistant: names, device and classes as they are shown, states that follow the line, what becomes
of them when the line is killed, the broker is restarted and Home Assistant is, and a log without a word against the messages.

    homeassistant.py TAGPIN BUNDLE FOLDER HASS...

FOLDER is the folder of its configuration, HASS... the command that starts it there. Prints a line for each check; exit 1 if one failed.
"""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from broker import STARTED, TAGPIN, WORK, Broker, Line, access, check, end, port, wait

FOLDER, HASS = Path(sys.argv[3]), sys.argv[4:]
COUNTERS = {
    "parts": "Parts",
    "accept": "Accepted",
    "reject": "Rejected",
    "review": "For review",
    "foreign": "Foreign",
    "safe": "Not decided",
    "late": "Late",
    "faults": "Faults",
}
LAST = {"action": "Last part", "tag": "Last tag", "verdict": "Last verdict", "fault": "Last fault"}
IMAGE = {"snapshot": "Last part not accepted"}
# All that is shown, as one JSON value.
SHOWN = """{% set ns = namespace(all=[]) %}{% for e in integration_entities('mqtt') %}{% set d = device_id(e) %}
{% set ns.all = ns.all + [{'id': e, 'state': states(e), 'attributes': dict(states[e].attributes) if states[e] else {},
'device': device_attr(d, 'name'), 'version': device_attr(d, 'sw_version'), 'device_id': d}] %}{% endfor %}{{ ns.all | to_json }}"""


class HomeAssistant:
    """Home Assistant with an owner, on a port of its own."""

    def __init__(self):
        self.port, self.token, self.process = port(), None, None
        (FOLDER / "configuration.yaml").write_text(
            f"homeassistant:\n  name: Hall\nhttp:\n  server_host: 127.0.0.1\n  server_port: {self.port}\napi:\nconfig:\nonboarding:\n"
        )

    def start(self):
        """Starts it; `False` if it ended or did not answer."""
        log = open(WORK / "hass", "ab")
        self.process = subprocess.Popen(HASS, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        STARTED.append(self.process)

        def answers():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/onboarding", timeout=5) as answer:
                    return answer.status == 200
            except urllib.error.HTTPError:
                return True
            except OSError:
                assert self.process.poll() is None, (WORK / "hass").read_text()[-2000:]
                return False

        # The first start installs what it needs.
        return wait("Home Assistant", answers, 240)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path, value=None, form=None, text=False):
        head = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        body = None
        if value is not None:
            body, head["Content-Type"] = json.dumps(value).encode(), "application/json"
        if form is not None:
            body = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, head)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read() if text else json.loads(answer.read())

    def owner(self):
        """Makes the first user, as who opens it for the first time does."""
        client = f"http://127.0.0.1:{self.port}/"
        user = {"client_id": client, "name": "Owner", "username": "owner", "password": "only for this test", "language": "en"}
        code = self.ask("/api/onboarding/users", user)["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, "client_id": client}
        self.token = self.ask("/auth/token", form=grant)["access_token"]

    def add_mqtt(self, broker):
        """Fills in the form of "Add integration", "MQTT"; what it says."""
        flow = self.ask("/api/config/config_entries/flow", {"handler": "mqtt"})
        fields = {"broker": "127.0.0.1", "port": broker.port, "username": "line", "password": "secret"}
        names = {f["name"] for f in flow["data_schema"]}
        # Older ones show these only to who asks for more.
        if "protocol" in names:
            fields["protocol"] = "5"
        if "other_settings" in names:
            fields["other_settings"] = {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"}
        return self.ask(f"/api/config/config_entries/flow/{flow['flow_id']}", fields)

    def shown(self, name="north"):
        """Entities of a line by what they end in."""
        start = f"tagpin_{name}_"
        entities = json.loads(self.ask("/api/template", {"template": SHOWN}, text=True))
        return {e["id"].partition("." + start)[2]: e for e in entities if "." + start in e["id"]}

    def states(self, name="north"):
        return {what: e["state"] for what, e in self.shown(name).items()}

    def log(self):
        """Warnings and errors about messages; that the broker was away is none."""
        lines = (FOLDER / "home-assistant.log").read_text().splitlines()
        who = r"(WARNING|ERROR|CRITICAL) .*(\[homeassistant\.(components\.(mqtt|sensor|image|recorder)|helpers)\b|\] .*tagpin)"
        return [line for line in lines if re.search(who, line) and "[homeassistant.components.mqtt.client]" not in line]


def everything_is_shown(home, line, version):
    all_of_it = {*COUNTERS, *LAST, *IMAGE}
    complete = wait("entities", lambda: set(home.shown()) == all_of_it)
    shown = home.shown()
    check(complete, f"{len(shown)} of {len(all_of_it)} entities are there: {' '.join(sorted(set(shown) ^ all_of_it)) or 'all'}")
    platforms = {what: e["id"].partition(".")[0] for what, e in shown.items()}
    check(platforms == {what: "image" if what in IMAGE else "sensor" for what in all_of_it}, "sensors, and an image")
    names = {what: e["attributes"].get("friendly_name") for what, e in shown.items()}
    wanted = {what: f"tagpin north {label}" for what, label in {**COUNTERS, **LAST, **IMAGE}.items()}
    check(names == wanted, f"by their names: {', '.join(sorted(set(names.values()) ^ set(wanted.values()))) or names['parts']}")
    devices = {(e["device"], e["version"], e["device_id"]) for e in shown.values()}
    check({d[:2] for d in devices} == {("tagpin north", version)} and len(devices) == 1, f"of one device: {sorted(devices)[0][:2]}")
    classes = {what: e["attributes"].get("state_class") for what, e in shown.items()}
    counted = classes == {what: "total_increasing" if what in COUNTERS else None for what in all_of_it}
    check(counted, "counters are counters, which statistics are kept of")
    units = {(e["attributes"].get("unit_of_measurement"), e["attributes"].get("device_class")) for e in shown.values()}
    check(units == {(None, None)}, "numbers of parts without a unit")


def everything_follows(home, line):
    wait("parts", lambda: home.states()["parts"].isdecimal())
    before = int(home.states()["parts"])
    rises = wait("more parts", lambda: int(home.states()["parts"]) >= before + 5)
    check(rises, f"the counter of parts goes from {before} to {home.states()['parts']}")
    now = {what: int(state) for what, state in home.states().items() if what in COUNTERS}
    figures = [{**{w: e[w] for w in COUNTERS if w != "faults"}, "faults": sum(e["faults"].values())} for e in line.events("status")]
    check(now in figures, f"all eight as the line's own status has them: {now['accept']} accepted, {now['reject']} rejected")
    last = home.shown()["action"]
    number = last["attributes"]["part"]
    wait("the line's own event", lambda: any(e["part"] == number for e in line.events("part")), 5)
    event = next(e for e in line.events("part") if e["part"] == number)
    seen = {what: home.shown()[what] for what in ["action", "tag", "verdict"]}
    parts = {e["part"]: e for e in line.events("part")}
    good = all(e["state"] == (parts[e["attributes"]["part"]][what] or "none") for what, e in seen.items())
    check(good and last["state"] == event["action"], f"part {number}: {event['action']}, {event['tag']}, {event['verdict']}")
    wait("an image", lambda: "entity_picture" in home.shown()["snapshot"]["attributes"] and home.states()["snapshot"] != "unknown")
    image = home.ask(home.shown()["snapshot"]["attributes"]["entity_picture"], text=True)
    check(image[:2] == b"\xff\xd8" and image[-2:] == b"\xff\xd9", f"the image is a JPEG of {len(image)} bytes")


def a_broker_that_restarts(home, broker, line):
    broker.kill()
    gone = wait("its end", lambda: set(home.states().values()) == {"unavailable"}, 20)
    wait("the fault", lambda: line.events("fault"))
    broker.start()
    # Home Assistant tries again after ten seconds.
    back = wait("states", lambda: home.states()["faults"] == str(len(line.events("fault"))), 60)
    check(gone and back, f"without the broker all are unavailable, then back: {home.states()['faults']} faults counted")


def faults(home, line):
    def told():
        shown = home.shown()["fault"]
        of_line = {e["at"]: e["kind"] for e in line.events("fault")}
        return shown["state"] == of_line.get(shown["attributes"].get("at"), "")

    check(wait("a fault", told), f"a fault is shown as the line tells it: {home.states()['fault']}")


def a_line_that_is_killed(home, broker):
    before = {what: e["id"] for what, e in home.shown().items()}
    gone = wait("the will", lambda: set(home.states().values()) == {"unavailable"}, 20)
    check(gone, "after kill -9 all are unavailable")
    line = Line("again", access(broker), source="faulty(conveyor?speed=900&seed=5)?drop=0.05&seed=3")
    # The broker kept the figures of the run that was killed: those are shown until the new run's first.
    back = wait("states", lambda: home.states()["parts"] in {str(e["parts"]) for e in line.events("status")})
    check(back, f"started again they are back, with {home.states()['parts']} parts of the new run")
    after = {what: e["id"] for what, e in home.shown().items()}
    check(after == before, f"the same {len(after)}, none twice")
    return line


def a_home_assistant_that_restarts(home):
    before = {what: e["id"] for what, e in home.shown().items()}
    home.stop()
    check(home.start(), "Home Assistant restarts")
    back = wait("states", lambda: home.states().get("parts", "").isdecimal(), 30)
    after = {what: e["id"] for what, e in home.shown().items()}
    check(back and after == before, f"the same {len(after)} entities, {home.states()['parts']} parts")


def a_name_that_is_no_word_of_home_assistant(home, broker):
    line = Line("capital", access(broker).replace('"north"', '"Hall-B"'))
    there = wait("entities", lambda: len(home.shown("hall_b")) == len({*COUNTERS, *LAST, *IMAGE}))
    line.stop()
    check(there, f'a line "Hall-B" has {len(home.shown("hall_b"))} entities tagpin_hall_b_...')


def the_log(home, broker):
    said = home.log()
    check(not said, f"its log has nothing against any message {said[:3] or ''}")
    # Were it silent about all, that would tell nothing.
    publish = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-u", "line", "-P", "secret"]
    bad = {
        "device": {"identifiers": ["bad"], "name": "bad"},
        "origin": {"name": "bad"},
        "components": {"n": {"platform": "sensor", "unique_id": "bad_n", "state_topic": "bad", "state_class": "rising"}},
    }
    subprocess.run([*publish, "-t", "homeassistant/device/bad/config", "-m", json.dumps(bad)], check=True)
    check(wait("a complaint", home.log, 10), "and would have: a wrong state_class is told")


home = HomeAssistant()
try:
    begin = time.monotonic()
    broker = Broker("plain")
    broker.start()
    check(home.start(), f"Home Assistant {(FOLDER / '.HA_VERSION').read_text()} answers")
    home.owner()
    added = home.add_mqtt(broker)
    check(added.get("type") == "create_entry", f'"Add integration", "MQTT": {added.get("errors") or added.get("title")}')
    version = subprocess.run([TAGPIN, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    line = Line("first", access(broker))
    everything_is_shown(home, line, version)
    everything_follows(home, line)
    a_broker_that_restarts(home, broker, line)
    line.process.kill()
    line = a_line_that_is_killed(home, broker)
    faults(home, line)
    first = home.log()
    check(not first, f"up to here its log has nothing against any message {first[:3] or ''}")
    a_home_assistant_that_restarts(home)
    a_name_that_is_no_word_of_home_assistant(home, broker)
    line.stop()
    check(wait("offline", lambda: set(home.states().values()) == {"unavailable"}, 10), "a line that ends is unavailable")
    the_log(home, broker)
    print(f"     {time.monotonic() - begin:.0f} s")
finally:
    status = end()
sys.exit(status)
