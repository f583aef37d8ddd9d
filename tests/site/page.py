"""The page in Chromium: no foreign request, nothing serious for axe, a change by keyboard, a look at two widths in light and dark."""
import fcntl, json, os, pathlib, signal, subprocess, sys, tempfile, time
import urllib.request
from playwright.sync_api import sync_playwright

tagpin, bundle, axe, shots = sys.argv[1:5]
work = pathlib.Path(tempfile.mkdtemp())
(work / "state").mkdir()
lines = subprocess.run([tagpin, "key", "new"], capture_output=True, text=True, check=True).stdout.splitlines()
key, hash_ = (next(l.split()[1] for l in lines if l.startswith(word)) for word in ("key", "hash"))
import socket
with socket.create_server(("127.0.0.1", 0)) as s:
    port = s.getsockname()[1]
(work / "device.toml").write_text(f"""
[source]
roi = {{ x = 40, y = 0, width = 240, height = 240 }}
[line]
mode = "gate"
[safety]
watchdog_ms = 20000
[trigger]
kind = "barrier"
[outputs.good]
mode = "pulse"
width_ms = 40
delay_ms = 1200
on = ["accept"]
[outputs.reject_gate]
mode = "pulse"
width_ms = 80
delay_ms = 900
on = ["reject"]
[page]
listen = "127.0.0.1:{port}"
keys = ["{hash_}"]
[state]
folder = "{work}/state"
[recipes.strict.tags]
gear_chipped = {{ threshold = 0.3 }}
[recipes."night shift".decide]
unknown = "review"
""")
run = subprocess.Popen([tagpin, "run", "--bundle", bundle, "--settings", work / "device.toml", "--source", "conveyor?seed=7", "--parts", "0"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
origin, bad = f"http://127.0.0.1:{port}", []
def good(what, holds):
    print(("ok   " if holds else "BAD  ") + what, flush=True)
    if not holds:
        bad.append(what)
def until(page, expression, seconds):
    """Waits until it holds. Playwright's own wait evaluates text within the page, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.1)
try:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"])
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page = context.new_page()
                asked, errors = [], []
                page.on("request", lambda r: asked.append(r.url))
                page.on("console", lambda m: errors.append(f"{m.text} {m.location['url']}") if m.type == "error" else None)
                page.on("pageerror", lambda e: errors.append(str(e)))
                page.goto(origin + "/")
                until(page, "document.getElementById('status').textContent === 'Running'", 60)
                until(page, "document.querySelectorAll('#parts li').length > 5 && document.querySelectorAll('#not-accepted li').length > 0", 90)
                until(page, "document.querySelector('#roi rect')", 20)
                page.screenshot(path=f"{shots}/page-{width}-{scheme}.png", full_page=True)
                if (width, scheme) == (1280, "light"):
                    page.screenshot(path=f"{shots}/top.png")  # README.md shows it
                wide = page.evaluate("document.documentElement.scrollWidth")
                name = f"{width} wide, {scheme}"
                good(f"{name}: nothing scrolls sideways ({wide})", wide <= width)
                good(f"{name}: {len(asked)} requests, all to its own host", all(u.startswith(origin + "/") for u in asked) and len(asked) > 6)
                good(f"{name}: no error on the console {errors[:2]}", not errors)
                # The page's policy runs no script from elsewhere; axe is put in by the debugger.
                found = page.evaluate(pathlib.Path(axe).read_text() + "\n;axe.run()")
                serious = [v["id"] + ": " + v["nodes"][0]["html"] for v in found["violations"] if v["impact"] in ("serious", "critical")]
                good(f"{name}: axe: {len(found['passes'])} rules pass, none serious {serious}", not serious)
                if (width, scheme) == (390, "dark"):
                    # By keyboard alone: a threshold, the key, save.
                    field = page.get_by_label("Threshold of nut")
                    field.focus()
                    page.keyboard.press("Control+A")
                    page.keyboard.type("1")
                    until(page, "document.getElementById('what-if').textContent.startsWith('Of the last')", 20)
                    print("     " + page.text_content("#what-if"))
                    page.focus("#key")
                    page.keyboard.type("wrong")
                    page.keyboard.press("Enter")
                    until(page, "document.getElementById('saved').textContent.includes('not one of')", 20)
                    page.keyboard.press("Control+A")
                    page.keyboard.type(key)
                    page.keyboard.press("Tab")
                    page.keyboard.press("Enter")
                    until(page, "document.getElementById('saved').textContent.startsWith('Saved: 1 tag changed')", 20)
                    good("a change by keyboard, refused with a wrong key, saved with the right one", "tags.\"nut\"" in (work / "state/overrides.toml").read_text())
                    # What is typed while a save waits for the record of changes stays, and is not saved.
                    with open(work / "state/audit.log") as record:
                        fcntl.flock(record, fcntl.LOCK_EX)
                        page.get_by_label("Threshold of nut").fill("0.8")
                        page.focus("#key")
                        page.keyboard.press("Enter")
                        until(page, "document.getElementById('saved').textContent === 'Saving'", 5)
                        page.get_by_label("Threshold of bolt").fill("0.9")
                        time.sleep(0.3)
                    until(page, "document.getElementById('what-if').textContent.startsWith('Of the last')", 20)
                    until(page, "fetch('/state').then((s) => s.json()).then((s) => s.tags.find((t) => t.tag === 'nut').threshold === 0.8)", 20)
                    time.sleep(1.2)
                    typed = page.get_by_label("Threshold of bolt").input_value()
                    kept = (work / "state/overrides.toml").read_text()
                    good(f"what is typed during a save stays ({typed}), and only what was there is saved", typed == "0.9" and "bolt" not in kept)
                    page.get_by_label("Threshold of bolt").fill("")
                    until(page, "document.getElementById('what-if').textContent === 'Expected a score from 0 to 1 in each field.'", 5)
                    page.click("#reset")
                    # What is typed for one recipe is not saved for the next.
                    page.get_by_label("Threshold of gear_chipped").fill("0.123")
                    page.select_option("#recipe", "strict")
                    page.focus("#recipe-key")
                    page.keyboard.type(key)
                    page.keyboard.press("Enter")
                    until(page, "document.getElementById('chosen').textContent === 'The line goes by strict.'", 30)
                    until(page, "document.getElementById('status').textContent === 'Running'", 30)
                    until(page, "document.getElementById('what-if').textContent.includes('what was typed here is dropped')", 30)
                    shown = page.get_by_label("Threshold of gear_chipped").input_value()
                    good(f"a threshold that was typed before the recipe changed is dropped ({shown})", shown == "0.3")
                    until(page, "document.querySelectorAll('#not-accepted li').length > 0", 60)
                    runs = page.evaluate("[...document.querySelectorAll('main li[data-part]')].map((li) => li.dataset.part.split('/')[0])")
                    new = page.evaluate("fetch('/state').then((s) => s.json()).then((s) => s.run)")
                    good(f"after the change all {len(runs)} images are the new run's", set(runs) == {new})
                    good("a recipe by keyboard: the page follows the line into its next run",
                         (work / "state/recipe.toml").read_text().count('"strict"') == 1)
                context.close()
        context = browser.new_context()
        page = context.new_page()
        page.goto(origin + "/")
        until(page, "document.getElementById('status').textContent === 'Running'", 20)
        # A line that stands still answers nothing, as a phone without its network hears nothing.
        os.kill(run.pid, signal.SIGSTOP)
        until(page, "document.getElementById('status').textContent === 'No answer from tagpin'", 8)
        page.screenshot(path=f"{shots}/page-lost.png")
        good("a line that answers nothing is not shown as running: " + page.text_content("#since"), "s ago" in page.text_content("#since"))
        os.kill(run.pid, signal.SIGCONT)
        until(page, "document.getElementById('status').textContent !== 'No answer from tagpin'", 20)
        print("     then: " + page.text_content("#status"))
        run.terminate()
        run.wait(20)
        until(page, "document.getElementById('status').textContent === 'No answer from tagpin'", 20)
        good("when the run ends the page says so", True)
finally:
    run.kill()
sys.exit(bool(bad))
