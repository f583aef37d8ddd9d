"use strict";
// Asks for the state twice a second and shows it. Names come from a model or a file: they are set as text only.
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const AXIS = { seconds: 20, left: 110, lane: 26 };
// Longest wait for the state, and for what a person asks for.
const PATIENCE = { look: 2500, ask: 10000 };
let state = null, edited = false, lastImage = "", asking = 0, seen = Date.now();

function make(name, text, cls) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}
function draw(name, attributes) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
}
// A status that is the same is not said again by a screen reader.
function say(id, text) { if (at(id).textContent !== text) at(id).textContent = text; }
function ago(ms) {
  const s = ms / 1000;
  return s < 10 ? s.toFixed(1) + " s" : s < 120 ? Math.round(s) + " s" : s < 7200 ? Math.round(s / 60) + " min" : Math.round(s / 3600) + " h";
}
const words = (kind) => kind.replaceAll("_", " ");

function showHead(s) {
  say("model", s.model);
  const last = s.parts[0], decided = s.parts.find((p) => p.action !== "safe");
  const fault = s.trouble;
  // A part that had passed its trigger by then may be decided since.
  const isSafe = s.safe && (!decided || s.safe.ago_ms < decided.ago_ms - decided.decided_ms);
  const isTroubled = fault && fault.ago_ms < 10000 && (!decided || fault.ago_ms < decided.ago_ms);
  let mode = "running", text = "Running";
  if (isSafe) {
    [mode, text] = ["safe", "Outputs safe: " + words(s.safe.kind)];
  } else if (!s.camera) {
    [mode, text] = ["trouble", "No frames from the camera"];
  } else if (isTroubled) {
    [mode, text] = ["trouble", "Running, with faults: " + words(fault.kind)];
  } else if (!last) {
    [mode, text] = ["waiting", "Running, no part yet"];
  }
  at("head").dataset.state = mode;
  say("status", text);
  say("since", last ? `Last part ${last.part}: ${last.action}, ${ago(last.ago_ms)} ago` : "");
}

function showFigures(f) {
  const shown = [["Parts", f.parts], ["Accepted", f.accept], ["Rejected", f.reject], ["Review", f.review], ["No verdict", f.safe],
    ["Unknown", f.unknown], ["Foreign", f.foreign], ["Late", f.late], ["Too close", f.too_close], ["Missed", f.missed_triggers],
    ["Edges", f.edges], ["Failed edges", f.edges_failed], ["Faults", f.faults]];
  at("figures").replaceChildren(...shown.map(([name, value]) => {
    const div = make("div");
    div.append(make("dt", name), make("dd", value));
    return div;
  }));
}

// Items are kept by run and part, so that images are not loaded again.
function showParts(list, parts, edges, run) {
  const known = new Map([...list.children].map((li) => [li.dataset.part, li]));
  const items = parts.map((p) => {
    const name = `${run}/${p.part}`, li = known.get(name) ?? make("li");
    if (!li.dataset.part) {
      li.dataset.part = name;
      const img = make("img");
      img.alt = p.image ? `Part ${p.part}` : "No image";
      if (p.image) img.src = `/part.jpg?part=${p.part}&run=${encodeURIComponent(run)}`;
      li.append(img, make("div"));
    }
    li.className = p.action;
    const title = make("p");
    title.append(make("b", p.action === "safe" ? "no verdict" : p.action), ` ${p.tag ?? p.verdict}`);
    const text = [title, make("p", p.why), make("p", `part ${p.part}, ${ago(p.ago_ms)} ago`, "small")];
    if (p.late) text.push(make("p", "late: the verdict came after its gate", "late"));
    for (const e of edges.filter((e) => e.part === p.part && e.state === "active")) {
      const late = e.late || e.outcome !== "done";
      text.push(make("p", `${e.output}: ${e.outcome === "done" ? "fired" : e.outcome}${e.late ? `, ${e.late_ms.toFixed(1)} ms late` : ""}`, late ? "late" : "small"));
    }
    li.lastChild.replaceChildren(...text);
    return li;
  });
  if (items.length !== list.children.length || items.some((li, i) => list.children[i] !== li)) list.replaceChildren(...items);
}

// Frame, model's image, scores and verdict are of one frame.
function showImages(s) {
  if (!s.image) return;
  const { number, part, frame_size, scores } = s.image, decided = s.parts.find((p) => p.part === part);
  say("verdict", decided ? `Part ${part}: ${decided.action}. ${decided.why}` : `Part ${part}: not decided yet`);
  const query = `?frame=${number}&run=${encodeURIComponent(s.run)}`;
  if (query === lastImage) return;
  lastImage = query;
  at("live").src = "/live.jpg" + query;
  at("seen").src = "/model.jpg" + query;
  const [w, h] = frame_size, [x, y, rw, rh] = s.roi ?? [0, 0, w, h];
  at("roi").setAttribute("viewBox", `0 0 ${w} ${h}`);
  at("roi").setAttribute("preserveAspectRatio", "none");
  at("roi").replaceChildren(draw("rect", { x, y, width: rw, height: rh }));
  say("live-caption", `The camera's frame, ${w} x ${h}; the model sees ${s.roi ? `the region at ${x}, ${y}, ${rw} x ${rh}` : "all of it"}`);
  const best = [...scores].sort((a, b) => b[1] - a[1]).slice(0, 8);
  at("scores").replaceChildren(...best.map(([tag, score]) => {
    const li = make("li"), svg = draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(draw("rect", { width: 100, height: 10, class: "track" }), draw("rect", { width: 100 * score, height: 10 }));
    li.append(make("span", tag), svg, make("span", score.toFixed(3)));
    return li;
  }));
}

function showAxis(s) {
  const { seconds, left, lane } = AXIS, width = Math.max(at("axis").clientWidth, 280), lanes = s.outputs.map((o) => o.output);
  const x = (ms) => left + (width - left) * (1 - ms / 1000 / seconds), height = lane * (lanes.length + 1) + 18;
  const svg = at("axis"), all = [];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const label = (text, px, py) => { const t = draw("text", { x: px, y: py }); t.textContent = text; return t; };
  ["parts", ...lanes].forEach((name, i) => {
    all.push(label(name.length > 15 ? name.slice(0, 14) + "\u2026" : name, 0, lane * i + 17));
    all.push(draw("line", { x1: left, x2: width, y1: lane * (i + 1), y2: lane * (i + 1), class: "lane" }));
  });
  for (let t = 0; t <= seconds; t += 5) all.push(label(t ? `-${t} s` : "now", Math.min(x(t * 1000), width - 30), height - 3));
  for (const p of s.parts) if (p.ago_ms < seconds * 1000) all.push(draw("line", { x1: x(p.ago_ms), x2: x(p.ago_ms), y1: 4, y2: lane, class: "part" }));
  lanes.forEach((name, i) => {
    const own = s.edges.filter((e) => e.output === name);
    own.forEach((e, n) => {
      if (e.state !== "active") return;
      const end = own[n + 1]?.ago_ms ?? 0;
      if (end > seconds * 1000) return;
      const from = Math.max(x(e.ago_ms), left), cls = e.outcome === "failed" ? "failed" : e.late ? "late-on" : "on";
      all.push(draw("rect", { x: from, y: lane * (i + 1) + 5, width: Math.max(x(end) - from, 2), height: lane - 9, class: cls }));
    });
  });
  svg.replaceChildren(...all);
  const recent = s.edges.filter((e) => e.ago_ms < seconds * 1000), late = recent.filter((e) => e.late).length;
  say("axis-text", `${s.parts.filter((p) => p.ago_ms < seconds * 1000).length} parts, ${recent.length} edges, ${late} of them late.`);
}

function showFaults(faults) {
  at("no-faults").hidden = faults.length > 0;
  at("faults").replaceChildren(...faults.map((f) => make("li", `${words(f.kind)}${f.part ? `, part ${f.part}` : ""}, ${ago(f.ago_ms)} ago, ${f.count} so far: ${f.action}. ${f.why}`)));
}

function showAbout(s) {
  const rows = [["Camera", s.source], ["Its time", s.time], ["Automatic", s.automatic.join(", ") || "nothing"], ["Board", s.board ?? "not an ARM board"],
    ["Model", s.model], ["Bundle", s.bundle_sha256], ["Kernels", s.kernels], ["tagpin", s.version], ["Run", s.run]];
  at("about").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
}

const touched = (input) => input.valueAsNumber !== Number(input.dataset.was);

// What somebody else saved meanwhile is shown where nobody has touched it here.
function refreshRules(s) {
  s.tags.forEach((t, i) => {
    const inputs = at("tags").rows[i].querySelectorAll("input");
    [t.threshold, t.review_low].forEach((value, n) => {
      if (!touched(inputs[n])) inputs[n].value = inputs[n].dataset.was = value;
    });
  });
}

function showRules(s) {
  const rulesOf = JSON.stringify(s.rules_of), isSame = at("tags").dataset.rulesOf === rulesOf;
  if (edited && isSame) return refreshRules(s);
  if (edited) {
    edited = false;
    say("what-if", "The line has another recipe, bundle or run now: what was typed here is dropped.");
  }
  const key = JSON.stringify(s.tags);
  if (isSame && at("tags").dataset.key === key) return;
  at("tags").dataset.key = key;
  at("tags").dataset.rulesOf = rulesOf;
  at("tags").replaceChildren(...s.tags.map((t) => {
    const tr = make("tr"), name = make("th", t.tag);
    name.scope = "row";
    tr.dataset.tag = t.tag;
    tr.append(name, make("td", t.action));
    for (const [field, title] of [["threshold", "Threshold"], ["review_low", "Review from"]]) {
      const input = make("input"), td = make("td");
      Object.assign(input, { type: "number", min: 0, max: 1, step: "any", value: t[field], required: true });
      input.setAttribute("aria-label", `${title} of ${t.tag}`);
      input.dataset.was = t[field];
      input.name = field;
      td.append(input);
      tr.append(td);
    }
    return tr;
  }));
}

// Only what was touched here: the rest may have been saved by somebody else since. It is for what
// the table was made of.
function wanted() {
  const tags = [...at("tags").rows].flatMap((tr) => {
    const inputs = [...tr.querySelectorAll("input")].filter(touched);
    return inputs.length ? [{ tag: tr.dataset.tag, ...Object.fromEntries(inputs.map((input) => [input.name, input.valueAsNumber])) }] : [];
  });
  return JSON.stringify({ tags, rules_of: JSON.parse(at("tags").dataset.rulesOf) });
}
const post = (path, headers = {}) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: wanted(), signal: AbortSignal.timeout(PATIENCE.ask) });

async function tryRules() {
  edited = false;
  for (const input of at("tags").querySelectorAll("input")) {
    const changed = touched(input);
    input.classList.toggle("changed", changed);
    edited ||= changed;
  }
  if (!edited) return say("what-if", "Nothing is changed.");
  const mine = ++asking;
  if ([...at("tags").querySelectorAll("input")].some((input) => !input.validity.valid)) return say("what-if", "Expected a score from 0 to 1 in each field.");
  const answer = await post("/what-if");
  if (mine !== asking) return;
  if (!answer.ok) return say("what-if", (await answer.text()).trim());
  const w = await answer.json(), three = ([a, r, v]) => `${a} accepted, ${r} rejected, ${v} for review`;
  const examples = w.changed.slice(0, 5).map(([part, a, b]) => `part ${part}: ${a} to ${b}`).join("; ");
  say("what-if", `Of the last ${w.parts} parts: ${three(w.then)}. Now: ${three(w.now)}. ${w.changed.length ? examples : "No part goes another way"}.`);
}

at("rules").addEventListener("input", (e) => {
  if (e.target.id === "key") return;
  say("saved", "");
  tryRules().catch(() => say("what-if", "No answer to what these would have done."));
});
at("reset").addEventListener("click", () => {
  edited = false;
  at("tags").dataset.key = "";
  say("what-if", "Nothing is changed.");
  if (state) showRules(state);
});
at("rules").addEventListener("submit", async (e) => {
  e.preventDefault();
  say("saved", "Saving");
  // What is typed meanwhile is not saved, and stays.
  const sent = [...at("tags").querySelectorAll("input")].filter(touched).map((input) => [input, input.value]);
  try {
    const answer = await post("/rules", { Authorization: "Bearer " + at("key").value });
    if (answer.ok) {
      const { changed } = await answer.json();
      for (const [input, value] of sent) input.dataset.was = value;
      await tryRules().catch(() => {});
      say("saved", `Saved: ${changed} ${changed === 1 ? "tag" : "tags"} changed, from the next part on.`);
    } else if (answer.status === 401) {
      say("saved", "Not saved: this key is not one of the page's. `tagpin key new` draws one.");
    } else {
      say("saved", (await answer.text()).trim());
    }
  } catch {
    say("saved", "No answer came: whether it is saved is not known. It is where the line has these thresholds when it answers again.");
  }
});

function showRecipes(s) {
  at("recipes").hidden = !s.recipes;
  const key = JSON.stringify(s.recipes);
  if (!s.recipes || at("recipe").dataset.key === key) return;
  at("recipe").dataset.key = key;
  const all = [["", "none (device.toml as it is)"], ...s.recipes.names.map((name) => [name, name])];
  at("recipe").replaceChildren(...all.map(([value, text]) => {
    const option = make("option", text);
    option.value = value;
    option.selected = value === (s.recipes.current ?? "");
    return option;
  }));
  say("chosen", s.recipes.current ? `The line goes by ${s.recipes.current}.` : "The line goes by device.toml as it is.");
}
at("choosing").addEventListener("submit", async (e) => {
  e.preventDefault();
  say("chosen", "Saving");
  try {
    const headers = { "Content-Type": "application/json", Authorization: "Bearer " + at("recipe-key").value };
    const body = JSON.stringify({ recipe: at("recipe").value || null });
    const answer = await fetch("/recipe", { method: "POST", headers, body, signal: AbortSignal.timeout(PATIENCE.ask) });
    if (answer.ok) say("chosen", "Chosen: the line changes when its parts have passed. If it does not, the reason stands in its events.");
    else if (answer.status === 401) say("chosen", "Not changed: this key is not one of the page's. `tagpin key new` draws one.");
    else say("chosen", (await answer.text()).trim());
  } catch {
    say("chosen", "No answer came: whether it is chosen is not known. The line says here which recipe it goes by.");
  }
});

async function look() {
  try {
    const answer = await fetch("/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE.look) });
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    seen = Date.now();
    showHead(state);
    showFigures(state.figures);
    at("none-rejected").hidden = state.not_accepted.length > 0;
    showParts(at("not-accepted"), state.not_accepted, [], state.run);
    showParts(at("parts"), state.parts, state.edges, state.run);
    showImages(state);
    showAxis(state);
    showFaults(state.faults);
    showAbout(state);
    showRecipes(state);
    showRules(state);
    at("cannot").hidden = !state.can_change;
    say("cannot", state.can_change ? "Nothing can be saved: " + state.can_change + "." : "");
    at("saving").hidden = Boolean(state.can_change);
  } catch {
    at("head").dataset.state = "lost";
    say("status", "No answer from tagpin");
    say("since", state ? `What stands here was seen ${ago(Date.now() - seen)} ago.` : "Nothing was seen yet.");
  }
  setTimeout(look, document.hidden ? 5000 : 500);
}
look();
