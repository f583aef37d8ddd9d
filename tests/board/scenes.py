"""What is shown on the emulated board. Each scene boots a guest, runs the real binary in it, and asserts its pins from outside."""

import base64
import json
import struct
import time
import zlib

from machine import Edge, Failed, Machine, expect

# Where the conveyor is the source, nothing is wired to the pins.
RUN = "tagpin run --allow-drawn --json --bundle /job/parts.tagpin --settings /job/device.toml"
# Emulation on a busy machine; what is asserted is that edges follow triggers, not how fast this CPU is.
TOLERANCE_S = 0.06


def gpiochip(name: str, line: int, rest: str) -> str:
    return f'[outputs.{name}]\nbackend = "gpiochip"\nchip = "/dev/gpiochip0"\nline = {line}\n{rest}\n'


def start(m: Machine, settings: str, more: str = "", program: str = RUN):
    """Starts the program in the background and waits until it has begun."""
    m.write("/job/device.toml", settings)
    m.sh(f"{program} {more} >/tmp/out 2>/tmp/err & echo $! >/tmp/pid")
    m.sh("for i in $(seq 200); do grep -q start /tmp/out && break; usleep 50000; done; grep -q start /tmp/out || { cat /tmp/err; false; }")


def stop(m: Machine, signal: str = "TERM", status: int = 0) -> list[dict]:
    """Ends the program and gives its events."""
    m.sh(f"kill -{signal} $(cat /tmp/pid)")
    return finished(m, status)


def finished(m: Machine, status: int, timeout: float = 60) -> list[dict]:
    m.sh("wait $(cat /tmp/pid)", timeout=timeout, status=status)
    return [json.loads(line) for line in m.sh("cat /tmp/out").splitlines() if line.startswith("{")]


def wait_for_text(m: Machine, pattern: str, seconds: int = 30):
    m.sh(f"for i in $(seq {seconds * 10}); do grep -q '{pattern}' /tmp/out && break; usleep 100000; done; grep -q '{pattern}' /tmp/out || {{ tail -3 /tmp/out; cat /tmp/err; false; }}", timeout=seconds + 30)


def sorting(m: Machine) -> str:
    """virt: a button opens parts, three at a time are on their way, each fires the gate at its own moment."""
    delay, width = 3.0, 0.2
    start(
        m,
        '[source]\nopen = "v4l2:/dev/video0?width=640&height=360"\nframe_timeout_ms = 3000\n[line]\nmode = "gate"\n'
        # A press raises the pin: of a line that is active when low that is the end, 0.1 s before its next beginning.
        '[trigger]\nkind = "gpio"\nchip = "/dev/gpiochip0"\nline = 3\nactive = "low"\nedge = "falling"\ndebounce_ms = 5\nmax_latency_ms = 100\n'
        + gpiochip("gate", 5, 'mode = "pulse"\nwidth_ms = 200\ndelay_ms = 3000\non = ["accept", "reject", "review", "unknown"]')
        + gpiochip("alive", 6, 'on = ["heartbeat"]\nperiod_ms = 400')
        + gpiochip("ready", 7, 'on = ["ready"]'),
        "--parts 8",
    )
    m.wait_level(7, 1, 20, "the line is ready")
    begin = time.time()
    for pause in (1.0, 1.0, 0.7, 1.3, 1.0, 0.9, 1.1, 1.0):
        m.press()
        time.sleep(pause)
    events = finished(m, 0)
    presses = [p.at for p in m.presses(begin)]
    gate = m.edges(5, begin)
    rises, falls = [e.at for e in gate if e.level == 1], [e.at for e in gate if e.level == 0]
    expect(len(presses) == 8 and len(rises) == 8 and len(falls) == 8, f"8 presses, 8 pulses: {len(presses)}, {gate}")
    errors = [abs(rise - press - delay) for press, rise in zip(presses, rises)]
    widths = [abs(fall - rise - width) for rise, fall in zip(rises, falls)]
    expect(max(errors) < TOLERANCE_S, f"gate after each press: off by {errors}")
    expect(max(widths) < TOLERANCE_S, f"width of each pulse: off by {widths}")
    flight = max(sum(p <= at < p + delay for p in presses) for at in presses)
    expect(flight >= 3, f"{flight} parts in flight")
    beats = [e.at for e in m.edges(6, begin)]
    gaps = [b - a for a, b in zip(beats, beats[1:])]
    expect(len(beats) > 20 and max(gaps) < 0.2 + TOLERANCE_S * 2, f"heartbeat of 0.2 s: {len(beats)} edges, longest {max(gaps):.3f} s")
    expect(m.level(5) == m.level(6) == m.level(7) == 0, "all pins are safe at the end")
    summary = events[-1]
    expect(summary["event"] == "summary" and summary["parts"] == 8 and summary["late"] == 0, str(summary))
    return f"8 parts, {flight} in flight, pulses within {max(errors) * 1000:.1f} ms of their moment, width within {max(widths) * 1000:.1f} ms"


def inputs(m: Machine) -> str:
    """virt: a belt that is driven by hand (one encoder count a press) takes a part to its gate; a press acknowledges an alarm."""
    every = 'on = ["accept", "reject", "review", "unknown"]'
    source = '[source]\nopen = "conveyor?fps=20"\nframe_timeout_ms = 3000\n[line]\nmode = "gate"\n[trigger]\nkind = "stdin"\nmax_jitter_ms = 5000\n'
    program = "mkfifo /tmp/words 2>/dev/null; exec 9<>/tmp/words; " + RUN
    start(
        m,
        source
        + '[encoder]\nchip = "/dev/gpiochip0"\na = 3\n'
        + gpiochip("gate", 5, f'mode = "pulse"\nwidth_ms = 300\ndelay_counts = 3\n{every}'),
        "--parts 1 <&9",
        program,
    )
    m.press()
    m.sh("sleep 1; echo trigger >&9; sleep 2")
    begin = time.time()
    for count in range(3):  # counted from the part's trigger, when the belt stood at one already
        expect(not m.edges(5, begin), "the part is not at its gate before the third count")
        # Both edges of the second press wait for who reads them: each counts.
        if count == 1:
            m.sh("kill -STOP $(cat /tmp/pid)")
        m.press()
        time.sleep(0.4)
        if count == 1:
            m.sh("kill -CONT $(cat /tmp/pid)")
        time.sleep(0.8)
    summary = finished(m, 0)[-1]
    third = m.presses(begin)[2].at
    rises = [e.at - third for e in m.edges(5, begin) if e.level == 1]
    expect(len(rises) == 1 and 0 <= rises[0] < TOLERANCE_S, f"the gate moves with the third count: {rises}")
    expect(summary["parts"] == 1 and summary["late"] == 0, str(summary))

    start(
        m,
        source
        + '[acknowledge]\nchip = "/dev/gpiochip0"\nline = 3\n'
        + gpiochip("alarm", 6, f'mode = "latched"\ndelay_ms = 500\n{every}'),
        "<&9",
        program,
    )
    m.sh("sleep 1; echo trigger >&9")
    m.wait_level(6, 1, 10, "the alarm")
    time.sleep(1)
    expect(m.level(6) == 1, "the alarm stays")
    m.press()
    m.wait_level(6, 0, 5, "the alarm is acknowledged")
    stop(m)
    return f"gate {rises[0] * 1000:.1f} ms after the third encoder count; alarm acknowledged"


def setup(m: Machine) -> str:
    """virt: `tagpin setup` with a camera, a button as sensor and a gate: it pulses when it is told to, and when a part was pressed."""
    source = "v4l2:/dev/video0?width=640&height=360"
    m.sh("mkfifo /tmp/words 2>/dev/null; exec 9<>/tmp/words")
    m.sh(f"tagpin setup --bundle /job/parts.tagpin --source '{source}' --within-ms 1000 --out /tmp/set.toml <&9 >/tmp/out 2>/tmp/err & echo $! >/tmp/pid")

    def answer(question: str, *words: str):
        wait_for_text(m, question)
        m.sh("".join(f"echo {word} >&9; " for word in words))

    answer("Longest time from exposure", "100")
    answer("Trigger .1.", "1", "3", "/dev/gpiochip0", "rising", "as_is")
    wait_for_text(m, "Cover the sensor")
    m.press()
    # The trigger's own line was taken for the gate's, and driven against the sensor.
    answer("Seen", "gate", "3", "/dev/gpiochip0", "5", "/dev/gpiochip0", "high", "200")
    wait_for_text(m, "Mind your hands")
    wait_for_text(m, "That is the trigger.s line")
    expect(m.level(5) == 0, "the gate is at rest before it is pulsed")
    begin = time.time()
    m.sh("echo >&9")
    answer("Did it move", "yes")
    pulse = m.edges(5, begin)
    expect([e.level for e in pulse] == [1, 0] and abs(pulse[1].at - pulse[0].at - 0.2) < TOLERANCE_S, f"one pulse of 0.2 s: {pulse}")
    answer("Ready", "5", "/dev/gpiochip0", "7", "/dev/gpiochip0", "high")
    wait_for_text(m, "That is the gate.s line")
    for part in range(1, 6):
        wait_for_text(m, f"Part {part} of 5")
        time.sleep(0.5)
        m.press()
        m.sh(f"for i in $(seq 300); do [ $(grep -o 'In the middle at' /tmp/out | wc -l) -ge {part} ] && break; usleep 100000; done", timeout=60)
        m.sh("echo 500 >&9")
    answer("Enter to measure", "1500")
    late = []
    for delay, verdict in ((1.5, "early"), (1.6, "right")):
        wait_for_text(m, f"will pulse {round(delay * 1000)} ms")
        time.sleep(0.5)
        begin = time.time()
        m.press()
        m.sh(f"for i in $(seq 100); do [ $(grep -o 'Was the pulse' /tmp/out | wc -l) -ge {1 + (delay > 1.5)} ] && break; usleep 100000; done", timeout=60)
        rises = [e.at for e in m.edges(5, begin) if e.level == 1]
        expect(len(rises) == 1, f"one pulse after the trigger: {rises}")
        late.append(rises[0] - m.presses(begin)[0].at - delay)
        m.sh(f"echo {verdict} >&9")
    expect(max(abs(s) for s in late) < TOLERANCE_S, f"pulses after their trigger: off by {late}")
    wait_for_text(m, "problems\\? found", 60)
    problems = m.sh("grep PROBLEM /tmp/out", status=None)
    expect(not problems, problems)
    m.sh("wait $(cat /tmp/pid)", status=0)
    text = m.sh("cat /tmp/set.toml")
    for line in ('kind = "gpio"', "max_latency_ms = 100", "width_ms = 200", "delay_ms = 1600", 'on = ["ready"]'):
        expect(line in text, f"{line} in {text}")
    expect(m.level(5) == 0, "the gate is at rest at the end")
    return f"pulses within {max(abs(s) for s in late) * 1000:.1f} ms of what was asked for; device.toml checked"


# Numbers of vivid's menu `test_pattern`.
PATTERNS = {"colorbar": 0, "white": 6, "blue": 9, "cross": 19}


def pictures(m: Machine) -> str:
    """virt: the camera shows known patterns, and each pattern's own pin answers."""
    slowest = shown(m, CAMERA, ["white", "blue", "colorbar", "cross", "blue", "white"])
    return f"6 changes of 4 patterns, the right pin and no other, slowest {slowest:.2f} s"


def shown(m: Machine, source: str, order: list[str]) -> float:
    """Lets the camera show these patterns, and expects each one's pin and no other; the longest time that one took."""
    pins = dict(zip(PATTERNS, (0, 1, 2, 4)))
    outputs = "".join(gpiochip(tag, pin, f'mode = "level"\non = ["tag:{tag}"]') for tag, pin in pins.items())
    start(
        m,
        f'[source]\nopen = "{source}"\nframe_timeout_ms = 3000\nfrozen_after = 0\n' + outputs,
        program=RUN.replace("parts.tagpin", "patterns.tagpin"),
    )
    slowest = 0.0
    for tag in order:
        m.sh(f"v4l2-ctl -d /dev/video0 --set-ctrl test_pattern={PATTERNS[tag]}")
        begin = time.monotonic()
        m.wait_level(pins[tag], 1, 10, f"{source}: pattern {tag}")
        slowest = max(slowest, time.monotonic() - begin)
        time.sleep(0.3)
        active = [t for t, pin in pins.items() if m.level(pin) == 1]
        expect(active == [tag], f"{source}: pattern {tag}: active pins {active}")
    stop(m)
    expect(not any(m.level(pin) for pin in pins.values()), "all pins are safe at the end")
    return slowest


def cameras(m: Machine) -> str:
    """virt: `cameras` and `capture`; controls are set, kept and read back; every format that the camera has shows the same."""
    listed = m.sh("tagpin cameras --rpicam /bin/false")
    for line in ("(/dev/video0)", "source: camera:/dev/video0", "YUYV: 320x180", "NV12: 320x180", "Gain 0..=255 (gain=)"):
        expect(line in listed, f"{line} in {listed}")
    kept = []
    for gain, source in ((77, "camera:/dev/video0"), (42, "v4l2:/dev/video0")):
        folder = f"/tmp/{gain}"
        source = f"{source}?width=640&height=360&gain={gain}"
        m.sh(f"tagpin capture --source '{source}' --out {folder} --tags good --every 0.2 --count 3 </dev/null", timeout=90)
        controls = m.sh("v4l2-ctl -d /dev/video0 --get-ctrl gain,gain_automatic").split()
        expect(controls == ["gain:", str(gain), "gain_automatic:", "0"], f"{source}: read back from outside: {controls}")
        images = m.sh(f"find {folder} -name '*.jpg' -size +2").split()
        expect(len(images) >= 3, f"{source}: {images}")
        kept.append(len(images))
    for option, why in (("gain=256", "takes 0..=255"), ("exposure_us=1000", "has no exposure time"), ("format=MJPG", "expected MJPG")):
        refused = m.sh(f"tagpin capture --source '{CAMERA}&{option}' --out /tmp/none --every 1 --count 1 </dev/null 2>&1", status=2)
        expect(why in refused, f"{option}: {refused}")
    formats = ("camera:0?width=640&height=360&format=NV12", CAMERA + "&format=NV12", CAMERA + "&format=YU12")
    for source in formats:
        shown(m, source, ["white", "blue", "colorbar", "cross"])
    return f"listed; {kept} images kept; gain set and read back; 4 patterns in NV12 twice and in YU12, the right pin and no other"


def guarded(source: str, extra: str = "") -> str:
    """Pin 5 is up while parts are seen, pin 1 is up (its safe state) whenever they are not."""
    every = 'on = ["accept", "reject", "review", "unknown"]'
    return (
        f'[source]\nopen = "{source}"\nframe_timeout_ms = 1500\nfrozen_after = 0\n[decide]\nstale_after_ms = 2000\n'
        f"[safety]\nwatchdog_ms = 1500\nmax_faults = 3\n{extra}"
        + gpiochip("seen", 5, f'mode = "level"\n{every}')
        + gpiochip("stop", 1, 'safe = "active"\nmode = "level"\non = ["tag:bolt"]')
    )


CAMERA = "v4l2:/dev/video0?width=640&height=360"


def is_safe(m: Machine, what: str, timeout: float = 10):
    m.wait_level(5, 0, timeout, what)
    m.wait_level(1, 1, timeout, what)


def works(m: Machine, what: str, timeout: float = 20):
    m.wait_level(5, 1, timeout, what)
    m.wait_level(1, 0, timeout, what)


def faults(m: Machine) -> str:
    """virt: camera gone and back, line held, panic, hung model, full disk, clock set back, kill -9: the pins, from outside."""
    seen = []
    # A camera that is unplugged and plugged in again, without the program being started again.
    start(m, guarded(CAMERA))
    works(m, "the first frames")
    m.sh("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    is_safe(m, "the camera's driver is gone")
    m.sh("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind")
    works(m, "the camera's driver is back")
    # The wall clock is nobody's clock here.
    m.sh("date -s 2001-01-01 >/dev/null")
    time.sleep(1.5)
    expect(m.level(5) == 1 and m.level(1) == 0, "the wall clock was set back, the line goes on")
    # A second process may not have the settings; with others of the same lines it says whose those are.
    m.sh("cp /tmp/out /tmp/out1; cp /job/device.toml /tmp/other.toml")
    text = m.sh(f"{RUN} 2>&1", status=2)
    # On a terminal lines end between words.
    expect("another run uses these settings" in " ".join(text.split()), text)
    text = m.sh(f"{RUN.replace('/job/device.toml', '/tmp/other.toml')} 2>&1", status=2)
    expect('is held by "tagpin"' in " ".join(text.split()), text)
    summary = stop(m)[-1]
    is_safe(m, "SIGTERM")
    expect(summary["faults"].get("source_gone", 0) >= 1 and summary["ended"] == "signal", str(summary))
    seen += ["camera gone and back", "clock set back", "settings and line held"]

    for drill, status, word in (("panic@6", 101, "panic"), ("hang@6", 3, "missed_beat")):
        start(m, guarded(CAMERA), f"--drill {drill}")
        works(m, f"before {drill}")
        is_safe(m, drill, timeout=15)
        summary = finished(m, status)[-1]
        expect(word in summary["faults"], str(summary))
        seen.append(drill.split("@")[0])

    # An event log on a file system that is full: the line goes on without it.
    m.sh("mkdir -p /tmp/full && mount -t tmpfs -o size=64k none /tmp/full && dd if=/dev/zero of=/tmp/full/filler bs=1k count=60 2>/dev/null; true")
    start(m, guarded(CAMERA, '[events]\npath = "/tmp/full/log"\nmax_kb = 4096\n'))
    works(m, "a full disk")
    m.sh("for i in $(seq 600); do grep -q 'cannot write: /tmp/full/log' /tmp/err && break; usleep 50000; done; grep -q 'cannot write: /tmp/full/log' /tmp/err")
    expect(m.level(5) == 1, "the line goes on although its log cannot be written")
    stop(m)
    seen.append("full disk")

    # kill -9: PL061's driver in this kernel leaves the level of a released line as it was; there is no switch for that.
    start(m, guarded(CAMERA))
    works(m, "before kill -9")
    m.sh("kill -9 $(cat /tmp/pid)")
    m.sh("wait $(cat /tmp/pid)", status=137)
    time.sleep(0.5)
    expect(m.level(5) == 1, "a process that was killed leaves its lines as they were")
    m.sh("tagpin safe --bundle /job/parts.tagpin --settings /job/device.toml")
    is_safe(m, "tagpin safe")
    seen.append("kill -9 and safe")
    return ", ".join(seen)


def pulsing(watchdog_ms: int, width_ms: int, window_ms: int) -> str:
    """Pin 5 pulses once in two seconds, as long as pin 6 beats every 0.2 s; pin 7 is a second gate behind it."""
    every = 'on = ["accept", "reject", "review", "unknown"]'
    gate = f'mode = "pulse"\nwidth_ms = {width_ms}\nwindow_ms = {window_ms}\n{every}\n'
    return (
        '[source]\nopen = "conveyor?fps=10"\nframe_timeout_ms = 8000\n[line]\nmode = "gate"\nlate_ms = 100\n'
        f'[trigger]\nkind = "period"\nperiod_ms = 2000\n[safety]\nwatchdog_ms = {watchdog_ms}\n'
        + gpiochip("gate", 5, gate + "delay_ms = 1500")
        + gpiochip("alive", 6, 'on = ["heartbeat"]\nperiod_ms = 400')
        + gpiochip("second", 7, gate + "delay_ms = 1600")
    )


def in_pulse(m: Machine, pin: int, what: str) -> float:
    """Waits for a pulse to begin; when it did."""
    m.wait_level(pin, 0, 20, f"{what}: no pulse before it")
    begin = time.time()
    m.wait_level(pin, 1, 20, what)
    return [e.at for e in m.edges(pin, begin) if e.level == 1][-1]


def stopped(m: Machine) -> str:
    """virt: SIGSTOP in a pulse, and kill -9 in one: the pin stays, the heartbeat stops; then SIGCONT, and `tagpin safe`."""
    # The stall is longer than pulse and window, and shorter than the watchdog.
    width, window, stall = 1.0, 0.3, 3.0
    start(m, pulsing(20_000, 1000, 300))
    in_pulse(m, 5, "the first pulse")
    rise = in_pulse(m, 5, "the pulse to be stopped in")
    m.sh("kill -STOP $(cat /tmp/pid)")
    halted = time.time()
    time.sleep(stall)
    held, beats = m.edges(5, halted), m.edges(6, halted)
    expect(m.level(5) == 1 and not held, f"the pin stays as it is while the process is stopped: {held}")
    # The signal takes effect before the shell answers: no beat after that, so its last was within half a period before.
    expect(not beats, f"the heartbeat has stopped: {beats}")
    # The signal takes effect before the shell answers.
    m.sh("kill -CONT $(cat /tmp/pid)")
    resumed = time.time()
    m.wait_level(5, 0, 10, "the pulse ends after SIGCONT")
    time.sleep(4.5)
    fall = next(e.at for e in m.edges(5, halted) if e.level == 0)
    expect(fall - resumed < 0.02, f"the pulse ends within 20 ms of SIGCONT: {fall - resumed:.3f} s")
    expect(len(m.edges(6, resumed)) > 10, "the heartbeat beats again")
    # The period goes on from trigger to trigger: no pulse begins later than its window after its due time.
    period = 2.0
    rises = [e.at for e in m.edges(5, halted) if e.level == 1]
    late = [(at - rise + period / 2) % period - period / 2 for at in rises]
    expect(len(rises) >= 1 and all(-TOLERANCE_S < x < window + TOLERANCE_S for x in late), f"no edge beyond its window: {late}")
    widths = [b.at - a.at for a, b in zip(m.edges(5, halted)[1:], m.edges(5, halted)[2:]) if a.level == 1]
    expect(widths and all(abs(w - width) < TOLERANCE_S for w in widths), f"whole pulses afterwards: {widths}")
    summary = stop(m)[-1]
    expect(summary["outputs_safe"] and m.level(5) == 0, str(summary))
    shown = f"stopped for {stall:.0f} s in a pulse: held, ended {(fall - resumed) * 1000:.1f} ms after the shell had sent SIGCONT, {summary['faults']}"

    # Killed in a pulse: what ExecStopPost runs makes it safe.
    start(m, pulsing(20_000, 1000, 300))
    in_pulse(m, 5, "the pulse to be killed in")
    m.sh("kill -9 $(cat /tmp/pid)")
    killed_at = time.time()
    m.sh("wait $(cat /tmp/pid)", status=137)
    time.sleep(0.5)
    expect(m.level(5) == 1 and not m.edges(6, killed_at), f"the pin stays, the heartbeat stops: {m.edges(6, killed_at)}")
    begin = time.time()
    m.sh("tagpin safe --settings /job/device.toml")
    m.wait_level(5, 0, 5, "tagpin safe")
    safe = m.edges(5, begin)[-1].at - begin
    expect(safe < 2.0, f"safe after {safe:.2f} s")
    return shown + f"; killed in one: `tagpin safe` within {safe:.2f} s"


def jammed(m: Machine) -> str:
    """virt: a write to one pin does not come back: the others are safe within the watchdog's time, exit 3, the pin is named."""
    watchdog = 2.0
    start(m, pulsing(2000, 1800, 300), "--drill stuck:second@3")
    begin = time.time()
    in_pulse(m, 5, "the pulse before the one that the jam meets")
    rise = in_pulse(m, 5, "the pulse that the jam meets")
    events = finished(m, 3)
    summary = events[-1]
    fall = next(e.at for e in m.edges(5, rise) if e.level == 0)
    # The second gate is due 0.1 s behind the first. The thread that would have ended the pulse after 1.8 s hangs.
    expect(fall - rise < 1.6 < watchdog, f"safe {fall - rise - 0.1:.2f} s after the write that hangs")
    cut = [e for e in events if e["event"] == "edge" and e["output"] == "gate"][-1]
    expect(cut["outcome"] == "cut" and cut["state"] == "inactive", str(cut))
    beats = [e for e in m.edges(6, fall) if e.level == 1]
    expect(not beats and m.level(6) == 0, f"the heartbeat has ended: {beats}")
    expect(len([e for e in m.edges(7, begin) if e.level == 1]) == 1, f"the pin that hangs moved once before: {m.edges(7, begin)}")
    expect(summary["outputs_unknown"] == ["second"] and not summary["outputs_safe"], str(summary))
    return f"the others safe {fall - rise - 0.1:.2f} s after the write that hangs, of {watchdog:.0f} s; \"{summary['ended']}\""


def unbound(m: Machine) -> str:
    """virt: the chip's driver is unbound in a pulse: no write can succeed, so the heartbeat stops, exit 3, and every pin is named."""
    driver, chip = "/sys/bus/amba/drivers/pl061_gpio", "9030000.pl061"
    start(m, pulsing(2000, 1000, 300))
    in_pulse(m, 5, "the first pulse")
    in_pulse(m, 5, "the pulse to be cut off in")
    m.sh(f"echo {chip} >{driver}/unbind", timeout=30)
    gone = time.time()
    events = finished(m, 3, timeout=30)
    took = time.time() - gone
    summary = events[-1]
    expect(not m.edges(6, gone), f"the heartbeat has stopped, which stops the belt: {m.edges(6, gone)}")
    expect(m.level(5) == 1, "a pin that cannot be written stays as it was")
    unknown = set(summary["outputs_unknown"])
    expect(not summary["outputs_safe"] and {"alive", "gate"} <= unknown <= {"alive", "gate", "second"}, str(summary))
    # An output that was safe when the chip went had nothing to be written; it may be called safe only if it is.
    expect("second" in unknown or m.level(7) == 0, f"second is called safe: {summary}")
    # The same chip again: what ExecStopPost runs makes its lines safe, and a new start sorts.
    m.sh(f"echo {chip} >{driver}/bind && tagpin safe --settings /job/device.toml")
    expect([m.level(pin) for pin in (5, 6, 7)] == [0, 0, 0], "tagpin safe")
    start(m, pulsing(2000, 1000, 300))
    in_pulse(m, 5, "a pulse with the chip that is back")
    stop(m)
    return f"ended {took:.1f} s after the chip was gone, \"{summary['ended']}\", {sorted(unknown)} named as unknown; safe and sorting when it is back"


def starved(m: Machine) -> str:
    """virt: a process takes all memory: the line goes on to the pulse; where the line itself is killed for it, `tagpin safe` helps."""
    period, window = 2.0, 0.3
    hog = "tail /dev/zero >/dev/null 2>&1"
    m.write("/job/device.toml", pulsing(20_000, 1000, 300))
    told = m.sh(f"sh -c 'ulimit -v 40000; exec {RUN} --parts 1' 2>&1", status=2)
    expect("too little memory" in told, told)
    start(m, pulsing(20_000, 1000, 300))
    rise = in_pulse(m, 5, "the first pulse")
    begin = time.time()
    # The kernel kills the largest process when nothing is left; it takes and loses all memory three times.
    m.sh(f"for i in 1 2 3; do {hog}; done; true", timeout=120)
    ended = time.time()
    time.sleep(2 * period)
    m.sh("kill -0 $(cat /tmp/pid)")
    rises = [e.at for e in m.edges(5, begin) if e.level == 1]
    late = [(at - rise + period / 2) % period - period / 2 for at in rises]
    expect(len(rises) >= 2 and all(-TOLERANCE_S < x < window + TOLERANCE_S for x in late), f"each pulse within its window: {late}")
    # Killed for its memory in a pulse: as after kill -9.
    in_pulse(m, 5, "the pulse to be killed in")
    m.sh(f"echo 1000 >/proc/$(cat /tmp/pid)/oom_score_adj; {hog}; wait $(cat /tmp/pid)", status=137, timeout=60)
    events = [json.loads(line) for line in m.sh("cat /tmp/out").splitlines() if line.endswith("}")]
    missed = len([e for e in events if e["event"] == "fault" and e["kind"] == "missed_edge"])
    told = len([e for e in events if e["event"] == "edge" and e["output"] == "gate" and e["state"] == "active"])
    seen = len([e for e in m.edges(5) if e.level == 1])
    expect(seen - told in (0, 1), f"each pulse is told, but for the one that it was killed in: {seen} seen, {told} told")
    killed_at = time.time()
    time.sleep(0.5)
    expect(m.level(5) == 1 and not m.edges(6, killed_at), "the pin stays, the heartbeat stops")
    m.sh("tagpin safe --settings /job/device.toml")
    expect(m.level(5) == 0, "tagpin safe")
    return f"{len(rises)} pulses while memory was taken three times in {ended - begin:.1f} s, {missed} missed and told; killed: heartbeat stops, safe mends it"


def bouncing(m: Machine) -> str:
    """virt: a trigger that bounces at 1 kHz: one part with a debounce or a least spacing, else all outputs safe and told."""
    every = 'on = ["accept", "reject", "review", "unknown"]'
    delay, parts, bounces = 2.0, 6, 50

    def settings(trigger: str) -> str:
        return (
            '[source]\nopen = "conveyor?fps=10"\nframe_timeout_ms = 8000\n[line]\nmode = "gate"\nlate_ms = 60\n'
            f'[trigger]\nkind = "gpio"\nchip = "/dev/gpiochip0"\nline = 3\n{trigger}\n'
            + gpiochip("gate", 5, f'mode = "pulse"\nwidth_ms = 100\ndelay_ms = {delay * 1000:.0f}\n{every}')
            + gpiochip("stop", 1, 'safe = "active"\nmode = "level"\ndelay_ms = 2000\non = ["tag:bolt"]')
            + gpiochip("ready", 7, 'on = ["ready"]')
        )

    shown = []
    for name, trigger in (
        ("debounce", "debounce_ms = 20"),
        ("least spacing", 'debounce_ms = 0\nmin_spacing_ms = 300\ntoo_close = "ignore"'),
    ):
        start(m, settings(trigger), f"--parts {parts}")
        m.wait_level(7, 1, 20, "the line is ready")
        begin = time.time()
        rate = 0.0
        for _ in range(parts):
            rate = max(rate, m.bounce(3, bounces, 0.001))
            time.sleep(0.8)
        summary = finished(m, 0)[-1]
        presses = first_of_bursts(m.presses(begin))
        rises = [e.at for e in m.edges(5, begin) if e.level == 1]
        expect(len(presses) == parts and summary["parts"] == parts, f"{name}: {len(presses)} bursts, {summary}")
        # A debounced edge is the one after which the line was still: when the contact stays closed, and for so long.
        slack = TOLERANCE_S + (bounces * 0.002 if name == "debounce" else 0.0)
        off = [min((rise - press - delay for press in presses), key=abs) for rise in rises]
        expect(all(-TOLERANCE_S < e < slack for e in off), f"{name}: each pulse at a part's moment: off by {off}")
        # Where each bounce reaches the program, this kernel under emulation loses some: that is told, and makes the line safe.
        lost = summary["faults"].get("trigger", 0)
        expect(len(rises) + summary["given_up"] == parts and (lost > 0 or len(rises) == parts), f"{name}: {rises}, {summary}")
        expect(name != "debounce" or len(rises) == parts, f"{name}: {rises}, {summary}")
        shown.append(f"{name}: {parts} parts of {bounces} bounces at up to {rate:.0f} Hz, {len(rises)} pulses, {lost} losses told")

    # Nothing is stated that could tell a bounce from a part: more parts than can be followed, or edges that the kernel lost. The
    # line is safe, and goes on with what comes after that: no pulse is of a part that was on its way.
    start(m, settings("debounce_ms = 0"))
    m.wait_level(7, 1, 20, "the line is ready")
    begin = time.time()
    m.bounce(3, 4 * 64, 0.001)
    wait_for_text(m, '"action":"safe"')
    time.sleep(delay + 1)
    rises = [e for e in m.edges(5, begin) if e.level == 1]
    events = stop(m)
    expect(m.level(1) == 1 and m.level(5) == 0, "the line is safe in the end")
    summary = events[-1]
    expect(summary["faults"].get("overflow", 0) + summary["faults"].get("trigger", 0) > 0, str(summary))
    safe = [e["at"] for e in events if e["event"] == "fault" and e["action"] == "safe"]
    triggered = {e["part"]: e["at"] for e in events if e["event"] == "trigger"}
    fired = [e for e in events if e["event"] == "edge" and e["output"] == "gate" and e["state"] == "active"]
    given_up = [e for e in fired if any(triggered[e["part"]] < at < e["done"] for at in safe)]
    expect(not given_up, f"pulses of parts that were given up: {given_up}")
    return "; ".join(shown) + f"; without either: safe, {summary['faults']}, {len(rises)} pulses"


def first_of_bursts(presses: list[Edge]) -> list[float]:
    """The first edge of each burst: one that follows no other within 0.3 s."""
    times = [p.at for p in presses]
    return [at for before, at in zip([0.0, *times], times) if at - before > 0.3]


def renumbered(m: Machine) -> str:
    """virt: the camera goes with three parts in flight and comes back under another number: each part gets a pulse, at its moment."""
    delay = 5.0
    pulse = f'mode = "pulse"\nwidth_ms = 200\ndelay_ms = {delay * 1000:.0f}'
    start(
        m,
        f'[source]\nopen = "{CAMERA}"\nframe_timeout_ms = 3000\n[line]\nmode = "gate"\n'
        '[trigger]\nkind = "gpio"\nchip = "/dev/gpiochip0"\nline = 3\ndebounce_ms = 5\nmax_latency_ms = 100\ndeadline_ms = 1000\n'
        + gpiochip("good", 5, f'{pulse}\non = ["accept"]')
        + gpiochip("thrown", 4, f'{pulse}\non = ["reject"]')
        + gpiochip("ready", 7, 'on = ["ready"]'),
        "--parts 5",
        program=RUN.replace("parts.tagpin", "patterns.tagpin"),
    )
    m.wait_level(7, 1, 20, "the line is ready")
    begin = time.time()
    seen = [m.press()]
    time.sleep(1.2)
    # Whoever holds the old node keeps its number from being given again.
    m.sh("exec 7</dev/video0; echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    unseen = []
    for _ in range(2):
        unseen.append(m.press())
        time.sleep(1.1)
    flight = sum(at <= time.time() < at + delay for at in seen + unseen)
    m.sh("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind")
    videos = m.sh("ls /dev | grep video").split()
    expect(videos == ["video1"], f"the camera has another number: {videos}")
    m.wait_level(7, 1, 20, "the line is ready again")
    for _ in range(2):
        seen.append(m.press())
        time.sleep(1.2)
    summary = finished(m, 0)[-1]
    m.sh("exec 7<&-")
    presses = [p.at for p in m.presses(begin)]
    expect(len(presses) == 5 and flight == 3, f"{len(presses)} parts, {flight} in flight when the camera is back")
    for pin, parts in ((5, [presses[0], *presses[3:]]), (4, presses[1:3])):
        errors = [e.at - at - delay for e, at in zip([e for e in m.edges(pin, begin) if e.level == 1], parts)]
        expect(len(errors) == len(parts) and all(abs(e) < TOLERANCE_S for e in errors), f"pin {pin}: {m.edges(pin, begin)} for {parts}")
    expect(summary["faults"].get("source_gone", 0) >= 1, str(summary))
    return f"back as {videos[0]} with {flight} parts in flight: seen before and after it accepted, unseen ones thrown out, each at its moment"


REPLUG_CYCLES = 100


def replug(m: Machine) -> str:
    """virt: the camera's driver is unbound and bound again a hundred times; recovery, pins, memory, descriptors."""
    start(m, guarded(CAMERA))
    works(m, "the first frames")
    begin = time.time()
    out = m.sh(f"sh /job/replug.sh {REPLUG_CYCLES}", timeout=REPLUG_CYCLES * 6)
    cycles = [dict(w.split("=") for w in line.split()) for line in out.splitlines() if line.startswith("cycle=")]
    expect(len(cycles) == REPLUG_CYCLES, f"{len(cycles)} cycles: {out[-500:]}")
    recovery = sorted(float(c["recovered"]) for c in cycles)
    expect(recovery[-1] < 2.0, f"recovery took up to {recovery[-1]:.2f} s of the guest's time")
    expect(all(c["fds"] == cycles[0]["fds"] for c in cycles), f"descriptors: {[c['fds'] for c in cycles]}")
    kib = [int(c["kib"]) for c in cycles]
    expect(kib[-1] <= kib[9] + 512, f"resident memory grew from {kib[9]} KiB to {kib[-1]} KiB")
    stop(m)
    seen, stopped = m.edges(5, begin), m.edges(1, begin)
    falls = sum(e.level == 0 for e in seen)
    rises = sum(e.level == 1 for e in stopped)
    expect(falls >= REPLUG_CYCLES and rises >= REPLUG_CYCLES, f"pins were safe {falls} and {rises} times")
    return f"{REPLUG_CYCLES} times: back in {recovery[len(recovery) // 2]:.2f} s, at most {recovery[-1]:.2f} s; memory {kib[9]} -> {kib[-1]} KiB, {cycles[0]['fds']} descriptors"


def rppal(name: str, pin: int, rest: str) -> str:
    return f'[outputs.{name}]\nbackend = "rppal"\npin = {pin}\n{rest}\n'


def pulses(m: Machine, pin: int, begin: float) -> list[float]:
    """Lengths of the pulses that were seen."""
    edges: list[Edge] = m.edges(pin, begin)
    return [b.at - a.at for a, b in zip(edges, edges[1:]) if a.level == 1]


def pi(m: Machine) -> str:
    """raspi3b: nokhwa and v4l2 each move a pin through the Pi's registers; kill -9 leaves them, safe mends it."""
    m.watch_pins([17, 22, 27])
    every = 'on = ["accept", "reject", "review", "unknown"]'
    shown = []
    for source, pin in (("camera:0?width=640&height=360", 17), (CAMERA, 27)):
        begin = time.time()
        start(
            m,
            f'[source]\nopen = "{source}"\nframe_timeout_ms = 8000\nfrozen_after = 0\n[line]\nmode = "gate"\n'
            '[trigger]\nkind = "period"\nperiod_ms = 3000\nmax_latency_ms = 100\n'
            + rppal("gate", pin, f'mode = "pulse"\nwidth_ms = 800\ndelay_ms = 2500\n{every}'),
            "--parts 2",
        )
        summary = finished(m, 0, timeout=90)[-1]
        seen = pulses(m, pin, begin)
        expect(summary["parts"] == 2 and len(seen) == 2, f"{source}: pulses {seen}, {summary}")
        expect(all(0.4 < width < 2.0 for width in seen), f"{source}: pulses of 0.8 s were {seen}")
        expect(m.level(pin) == 0, f"{source}: the pin is safe at the end")
        shown.append(f"{source.split(':')[0]}: {', '.join(f'{w:.2f} s' for w in seen)}")
    # kill -9 with a pin that is held: registers keep it until somebody writes them.
    start(m, f'[source]\nopen = "{CAMERA}"\nframe_timeout_ms = 8000\nfrozen_after = 0\n' + rppal("held", 22, f'mode = "latched"\n{every}'))
    m.wait_level(22, 1, 60, "the latched pin")
    m.sh("kill -9 $(cat /tmp/pid)")
    m.sh("wait $(cat /tmp/pid)", status=137)
    time.sleep(1)
    expect(m.level(22) == 1 and m.is_output(22), "rppal's pin keeps its level when the process is killed")
    m.sh("tagpin safe --bundle /job/parts.tagpin --settings /job/device.toml", timeout=90)
    expect(m.level(22) == 0, "tagpin safe")
    return "; ".join(shown) + "; kill -9 leaves the pin, safe mends it"


def killed(m: Machine, persist: bool) -> str:
    """raspi3b: what the kernel does with a gpiochip line when its process is killed, with and without persisting outputs."""
    every = 'on = ["accept", "reject", "review", "unknown"]'
    settings = (
        '[source]\nopen = "conveyor?fps=10"\nframe_timeout_ms = 8000\n[line]\nmode = "gate"\n'
        '[trigger]\nkind = "period"\nperiod_ms = 500\n'
        f'[outputs.held]\nbackend = "gpiochip"\nchip = "header"\nline = 23\nmode = "latched"\ndelay_ms = 400\n{every}\n'
    )
    start(m, settings)
    m.wait_level(23, 1, 60, "the latched line")
    expect(m.is_output(23), "the line is an output")
    m.sh("kill -9 $(cat /tmp/pid)")
    m.sh("wait $(cat /tmp/pid)", status=137)
    time.sleep(1)
    still = m.is_output(23)
    expect(still == persist, f"persist_gpio_outputs={persist}: after kill -9 the line is {'driven' if still else 'released'}")
    told = m.sh("tagpin check --allow-drawn --bundle /job/parts.tagpin --settings /job/device.toml", status=None, timeout=120)
    expect(("PROBLEM  killed" in told) == persist and ("dtparam=strict_gpiod" in told) == persist, told)
    m.sh("tagpin safe --bundle /job/parts.tagpin --settings /job/device.toml", timeout=90)
    expect(m.level(23) == 0, "tagpin safe")
    return "driven on, check reports it" if persist else "released, check is content"


def record(m: Machine, folder) -> str:
    """virt: not a test: writes what the model sees of each pattern as PNG files, to train and evaluate patterns.tagpin on."""
    settings = f'[source]\nopen = "{CAMERA}"\nframe_timeout_ms = 3000\nfrozen_after = 0\n'
    images = 0
    for tag, number in PATTERNS.items():
        for i, brightness in enumerate((100, 107, 114, 121, 128, 135, 142, 149, 156)):
            place = folder / ("train" if i % 2 == 0 else "held-out") / tag
            place.mkdir(parents=True, exist_ok=True)
            controls = f"test_pattern={number},brightness={brightness},contrast={96 + brightness // 4},saturation={brightness}"
            m.sh(f"v4l2-ctl -d /dev/video0 --set-ctrl {controls}")
            m.sh("rm -rf /tmp/kept")
            start(m, settings, "--parts 12 --record /tmp/kept")
            finished(m, 0)
            for name in m.sh("ls /tmp/kept | grep rgb").split()[2:]:
                rgb = base64.b64decode("".join(m.sh(f"base64 /tmp/kept/{name}").split()))
                side = int((len(rgb) // 3) ** 0.5)
                (place / f"{brightness}-{name[:-4]}.png").write_bytes(png(side, rgb))
                images += 1
    return f"{images} images in {folder}"


def png(side: int, rgb: bytes) -> bytes:
    """A square RGB8 image as PNG (ISO/IEC 15948)."""
    rows = b"".join(b"\0" + rgb[y * side * 3 : (y + 1) * side * 3] for y in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
