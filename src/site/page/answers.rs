//! What the page's server answers.

use super::{Page, Passed, Ruling, SHOWN_PARTS, held};
use crate::audit::{Change, Locked, Log};
use crate::bundle::Hex;
use crate::decide::{TagRule, Verdict};
use crate::events::record::probability;
use crate::events::{Events, FaultEvent, RuleEvent, What, Why};
use crate::fault::Reason;
use crate::head::{Score, TagId};
use crate::pictures::Picture;
use crate::site::gallery::Shown;
use crate::site::http::{Body, BodyError, Handler, Request, Response};
use crate::time::{Clock, Instant};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Most bytes of a choice of a recipe.
const MAX_CHOICE: usize = 4096;
/// Most bytes of rules that are sent: 1024 tags with long names.
const MAX_RULES: usize = 256 * 1024;
/// Nothing but what this server sends is loaded, run, framed or sent to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers for a page.
pub struct Server {
    /// What it shows.
    pub page: Arc<Page>,
    /// The run's.
    pub events: Arc<Events>,
}

/// Rules as a person sets them. What is more than this is refused: it was meant to do something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tags: Vec<WantedTag>,
    /// What the person saw when setting them; not checked where it is left out.
    rules_of: Option<RulesOf>,
}

/// What rules are for, so that those of one product are never set for another.
#[derive(Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct RulesOf {
    run: String,
    bundle_sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedTag {
    tag: String,
    /// What is left out stays.
    #[serde(default, deserialize_with = "stated")]
    threshold: Option<f64>,
    #[serde(default, deserialize_with = "stated")]
    review_low: Option<f64>,
}

/// A number: `null`, which a script makes of what is none, is not left out.
fn stated<'d, D: Deserializer<'d>>(value: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(value).map(Some)
}

/// A recipe as a person chooses it; `null` for device.toml as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    recipe: Value,
}

/// A body's object. A list with the right number of values is none.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let has_objects = |value: &Value| value.is_object();
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let of_tags =
        |value: &Value| value.get("tags").and_then(Value::as_array).is_none_or(|tags| tags.iter().all(has_objects));
    if !has_objects(&value) || !of_tags(&value) || value.get("rules_of").is_some_and(Value::is_array) {
        return Err("expected an object, with an object a tag and one as rules_of".into());
    }
    // From the bytes: of a key that is there twice, the value has one.
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

fn file(kind: &str, bytes: &'static [u8]) -> Response {
    Response::new(200, kind, bytes).with("Cache-Control", "no-cache")
}

fn jpeg(image: Result<Vec<u8>, String>) -> Response {
    match image {
        Ok(bytes) => Response::new(200, "image/jpeg", bytes).with("Cache-Control", "no-store"),
        Err(why) => Response::text(500, &why),
    }
}

impl Handler for Server {
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response {
        let answer = match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["rules"]) => self.change(request, body),
            ("POST", ["recipe"]) => self.choose(request, body),
            ("POST", ["what-if"]) => {
                self.page.access.admit_look(request).map_or_else(|b| b.response(), |()| self.what_if(body))
            }
            ("GET" | "HEAD", path) => {
                self.page.access.admit_look(request).map_or_else(|b| b.response(), |()| self.show(path, request))
            }
            _ => Response::text(405, "expected GET, or POST at /rules, /recipe and /what-if").with("Allow", "GET, POST"),
        };
        let answer = answer.with("Content-Security-Policy", POLICY).with("Referrer-Policy", "no-referrer");
        answer.with("Cross-Origin-Resource-Policy", "same-origin").with("X-Frame-Options", "DENY")
    }
}

impl Server {
    fn show(&self, path: &[&str], request: &Request) -> Response {
        match path {
            [] => file("text/html; charset=utf-8", include_bytes!("page.html")),
            ["page.css"] => file("text/css; charset=utf-8", include_bytes!("page.css")),
            ["page.js"] => file("text/javascript; charset=utf-8", include_bytes!("page.js")),
            ["favicon.ico"] => Response::new(204, "image/x-icon", Vec::new()),
            ["state"] => Response::json(200, &self.state()).with("Cache-Control", "no-store"),
            ["live.jpg" | "model.jpg" | "part.jpg"] if request.query("run").is_some_and(|run| run != self.events.run()) => {
                Response::text(404, "it was of another run, whose images are not kept")
            }
            ["live.jpg"] => self.frame_image(request, |shown| Ok(shown.jpeg.clone())),
            ["model.jpg"] => {
                let [width, height] = self.page.gallery.size();
                self.frame_image(request, |shown| Picture::to_jpeg(width, height, &shown.rgb, 90))
            }
            ["part.jpg"] => self.part_image(request.query("part").and_then(|n| n.parse().ok())),
            _ => Response::text(404, "there is no such page"),
        }
    }

    /// An image of the frame that the request names by its number, or of the newest.
    fn frame_image(&self, request: &Request, image: impl Fn(&Shown) -> Result<Vec<u8>, String>) -> Response {
        let number = request.query("frame").map(str::parse);
        let shown = match number {
            None => self.page.newest(),
            Some(Ok(number)) => self.page.shown(number).ok_or(None),
            Some(Err(_)) => return Response::text(400, "expected frame=NUMBER"),
        };
        match shown {
            Ok(shown) => jpeg(image(&shown)),
            Err(None) => Response::text(404, "no such frame was shown, or it is not kept any more"),
            Err(Some(why)) => Response::text(500, &why),
        }
    }

    fn part_image(&self, part: Option<u64>) -> Response {
        let image = {
            let memory = held(&self.page.memory);
            let all = memory.parts.iter().chain(&memory.not_accepted);
            all.filter(|p| Some(p.event.part) == part).find_map(|p| p.image.clone())
        };
        image.map_or_else(|| Response::text(404, "no image of this part is kept"), |small| jpeg(small.jpeg()))
    }

    /// Everything that the page shows, but for images.
    fn state(&self) -> Value {
        let (page, opening) = (&*self.page, self.events.opening());
        let names = |i: usize| opening.tags.get(i).map_or("?", |t| t.tag.as_str());
        // All of one frame: of another one its scores would stand beside a part that they are not
        // of.
        let image = page.newest().ok().map(|shown| {
            let scores = shown.scores.iter().enumerate().map(|(i, s)| json!([names(i), probability(*s)]));
            json!({ "number": shown.number, "part": shown.part, "frame_size": shown.size, "scores": scores.collect::<Vec<_>>() })
        });
        let mut memory = held(&page.memory);
        memory.catch_up(&page.gallery);
        let memory = &*memory;
        // Counted when the parts are: making the image can take a while.
        let (figures, now) = (self.events.counters().figures(), crate::supervisor::SystemClock.now());
        let ago_ms = |at: Instant| now.since(at).0 / 1000;
        let fault = |(at, f): &(Instant, FaultEvent)| {
            json!({
                "kind": f.kind.name(), "part": f.part, "count": f.count, "why": f.why.as_str(), "ago_ms": ago_ms(*at),
                "action": f.remedy.name(),
            })
        };
        let last_frame = self.events.snapshot().image(|shown| (shown.part > 0).then_some(shown.captured_at));
        let ruling = page.ruling();
        let (tags, bundle, rules_of) = (ruling.tags.clone(), self.events.bundle(), self.rules_of(&ruling));
        drop(ruling);
        let part = |p: &Passed| self.part(p, &tags, now);
        let edges = memory.edges.iter().map(|e| {
            let late = e.done.since(e.scheduled);
            json!({
                "part": e.part, "output": opening.outputs.get(e.output as usize).map(|o| &o.output), "state": e.state,
                "outcome": e.outcome, "ago_ms": ago_ms(e.done), "late_ms": late.0 as f64 / 1e3, "late": late > page.late_edge,
            })
        });
        let outputs = opening.outputs.iter().zip(self.events.snapshot().edges()).map(|(o, edge)| {
            json!({ "output": o.output, "state": edge.map_or(o.safe, |e| e.state), "safe": o.safe, "place": o.place })
        });
        json!({
            "run": self.events.run(), "version": opening.version, "board": opening.device.board, "kernels": opening.kernel,
            "source": opening.source, "time": opening.time, "automatic": opening.automatic,
            "model": bundle.name, "bundle_sha256": bundle.sha256, "task": opening.bundle.task,
            "image": image, "frame_ago_ms": last_frame.map(ago_ms), "frame_timeout_ms": page.frame_timeout.0 / 1000,
            "model_size": page.gallery.size(), "roi": page.roi,
            "parts": memory.parts.iter().rev().take(SHOWN_PARTS).map(part).collect::<Vec<_>>(),
            "not_accepted": memory.not_accepted.iter().rev().take(SHOWN_PARTS).map(part).collect::<Vec<_>>(),
            "edges": edges.collect::<Vec<_>>(), "outputs": outputs.collect::<Vec<_>>(),
            "camera": self.events.snapshot().camera_works(),
            "safe": memory.safe.as_ref().map(fault), "trouble": memory.trouble.as_ref().map(fault),
            "faults": memory.faults.iter().rev().map(fault).collect::<Vec<_>>(),
            "figures": {
                "triggers": figures.triggers, "parts": figures.parts, "accept": figures.accept, "reject": figures.reject,
                "review": figures.review, "unknown": figures.unknown, "foreign": figures.foreign, "safe": figures.safe,
                "late": figures.late, "given_up": figures.given_up, "too_close": figures.too_close,
                "missed_triggers": figures.missed_triggers, "skipped_frames": figures.skipped_frames, "edges": figures.edges,
                "edges_failed": figures.edges_failed, "faults": figures.faults.iter().sum::<u64>(),
            },
            "tags": opening.tags.iter().zip(tags.iter()).map(|(t, policy)| json!({
                "tag": t.tag, "role": t.role, "action": policy.action.name(), "threshold": probability(policy.rule.threshold),
                "review_low": probability(policy.rule.review_low),
            })).collect::<Vec<_>>(),
            "rules_of": rules_of, "recipes": page.recipes.as_ref().map(|r| json!({ "names": r.names, "current": r.current })),
            "can_change": match (&page.state, page.access.keys.is_open()) {
                (_, true) => Some("device.toml states no keys under [page]; `tagpin key new` draws one"),
                (None, _) => Some("device.toml states no folder under [state]"),
                _ => None,
            },
        })
    }

    fn part(&self, p: &Passed, tags: &[crate::decide::TagPolicy], now: Instant) -> Value {
        let (opening, e) = (self.events.opening(), &p.event);
        let name = |id: TagId| opening.tags.get(id.0 as usize).map_or("?", |t| t.tag.as_str());
        let best = e.top.first().map(|(id, score)| (name(*id), probability(*score), *id));
        let of = |id: TagId| e.top.iter().find(|(t, _)| *t == id).map(|(_, score)| probability(*score));
        let why = match (e.decision.verdict, e.decision.tag) {
            (Verdict::Safe(reason), _) => format!("no verdict: {}", reason_words(reason)),
            (Verdict::Foreign, _) => "unlike everything that the model was trained on".into(),
            (Verdict::Unknown, _) => match best {
                Some((tag, score, id)) => {
                    let threshold = tags.get(id.0 as usize).map_or(0.0, |t| probability(t.rule.threshold));
                    format!("no tag is sure: {tag} {score:.2} is below {threshold:.2}")
                }
                None => "no tag is sure".into(),
            },
            (Verdict::Review, Some(tag)) => format!("{} lies in its review band", name(tag)),
            (_, Some(tag)) => of(tag).map_or(name(tag).to_string(), |score| format!("{} {score:.2}", name(tag))),
            (verdict, None) => verdict.name().into(),
        };
        json!({
            "part": e.part, "verdict": e.decision.verdict.name(), "action": e.action.map_or("safe", |a| a.name()),
            "tag": e.decision.tag.map(name), "why": why, "late": e.late, "image": p.image.is_some(),
            "ago_ms": now.since(e.trigger).0 / 1000, "decided_ms": (e.captured_at.since(e.trigger).0 + e.age.0) as f64 / 1e3,
            "top": e.top.iter().map(|(id, score)| json!([name(*id), probability(*score)])).collect::<Vec<_>>(),
        })
    }

    /// What rules that are set now are for.
    fn rules_of(&self, ruling: &Ruling) -> RulesOf {
        RulesOf { run: self.events.run().into(), bundle_sha256: Hex(&ruling.bundle).to_string() }
    }

    /// The rules that a body states; else an answer that says what is wrong.
    fn wanted(body: &mut Body<'_>) -> Result<Wanted, Response> {
        let bytes = body.read(MAX_RULES).map_err(|e| match e {
            BodyError::TooLarge => Response::text(413, "too many rules"),
            BodyError::Slow => Response::text(408, "the rules did not come in time"),
            BodyError::Malformed | BodyError::Gone => Response::text(400, "the body was cut off"),
        })?;
        object(&bytes).map_err(|e| Response::text(400, &format!("no rules: {e}")))
    }

    /// What holds now with what is wanted in place of it; else an answer that says what is wrong.
    fn rules(&self, ruling: &Ruling, wanted: &Wanted) -> Result<Vec<TagRule>, Response> {
        if wanted.rules_of.as_ref().is_some_and(|shown| *shown != self.rules_of(ruling)) {
            let why = "the line has another recipe, bundle or run than the page showed; look at its thresholds first, nothing \
                       was changed";
            return Err(Response::text(409, why));
        }
        let mut rules: Vec<TagRule> = ruling.tags.iter().map(|t| t.rule).collect();
        for (i, WantedTag { tag, threshold, review_low }) in wanted.tags.iter().enumerate() {
            if wanted.tags[..i].iter().any(|before| before.tag == *tag) {
                return Err(Response::text(400, &format!("{tag}: stands there twice; which one is meant?")));
            }
            let at = self.events.opening().tags.iter().position(|t| t.tag == *tag);
            let rule = at.and_then(|at| rules.get_mut(at));
            let rule = rule.ok_or_else(|| Response::text(400, &format!("the model has no tag \"{tag}\"")))?;
            let score = |p: f64| {
                let score = Some(p).filter(|p| (0.0..=1.0).contains(p)).and_then(|p| Score::from_probability(p as f32));
                score.ok_or_else(|| Response::text(400, &format!("{tag}: {p}, expected scores from 0 to 1")))
            };
            let threshold = threshold.map_or(Ok(rule.threshold), &score)?;
            let review_low = review_low.map_or(Ok(rule.review_low), score)?;
            let new = TagRule { threshold, review_low };
            if new.review_low > new.threshold {
                return Err(Response::text(400, &format!("{tag}: the review band begins above the threshold; lower it")));
            }
            // Four digits are shown: what was not touched stays to the last bit.
            let same = |a: Score, b: Score| probability(a) == probability(b);
            if !same(rule.threshold, new.threshold) || !same(rule.review_low, new.review_low) {
                *rule = new;
            }
        }
        Ok(rules)
    }

    fn what_if(&self, body: &mut Body<'_>) -> Response {
        let page = &*self.page;
        let rules = Self::wanted(body).and_then(|wanted| {
            let ruling = page.ruling();
            Ok((self.rules(&ruling, &wanted)?, ruling.tags.clone()))
        });
        let (rules, now) = match rules {
            Ok(both) => both,
            Err(refusal) => return refusal,
        };
        let mut then = now.clone();
        then.iter_mut().zip(rules).for_each(|(tag, rule)| tag.rule = rule);
        let memory = held(&page.memory);
        Response::json(200, &memory.history.what_if(page.task, page.policy, page.every_frame, &now, &then))
    }

    /// Who may change something, in words; else an answer that says why nobody does.
    fn who(&self, request: &Request) -> Result<String, Response> {
        let key = self.page.access.admit_change(request).map_err(|barred| barred.response())?;
        // A form of another site can send text, but not this.
        if !request.is_json() {
            return Err(Response::text(415, "expected Content-Type: application/json"));
        }
        let from = request.peer.map_or(String::new(), |peer| format!("{peer}, "));
        Ok(format!("page, {from}key {key}"))
    }

    /// Another recipe: kept, and the line sees it.
    fn choose(&self, request: &Request, body: &mut Body<'_>) -> Response {
        let who = match self.who(request) {
            Ok(who) => who,
            Err(refusal) => return refusal,
        };
        let Some(recipes) = &self.page.recipes else {
            return Response::text(409, "device.toml states no [recipes]; nothing was changed");
        };
        let Ok(bytes) = body.read(MAX_CHOICE) else { return Response::text(400, "no choice of a recipe came") };
        let choice = match object(&bytes) {
            Ok(Choice { recipe: Value::Null }) => None,
            Ok(Choice { recipe: Value::String(name) }) => Some(name),
            Ok(Choice { recipe }) => {
                return Response::text(400, &format!("no choice of a recipe: {recipe}, expected its name or null"));
            }
            Err(e) => return Response::text(400, &format!("no choice of a recipe: {e}")),
        };
        match recipes.choose(choice.as_deref(), &who) {
            Ok(()) => Response::json(200, &json!({ "recipe": choice })),
            Err(why) => Response::text(409, &why),
        }
    }

    /// New rules: kept first, then the line's, then told.
    fn change(&self, request: &Request, body: &mut Body<'_>) -> Response {
        let page = &*self.page;
        let who = match self.who(request) {
            Ok(who) => who,
            Err(refusal) => return refusal,
        };
        let Some(folder) = &page.state else {
            return Response::text(409, "not saved: device.toml states no folder under [state]; nothing was changed");
        };
        let wanted = match Self::wanted(body) {
            Ok(wanted) => wanted,
            Err(refusal) => return refusal,
        };
        let opening = self.events.opening();
        let names: Vec<&str> = opening.tags.iter().map(|t| t.tag.as_str()).collect();
        let Some(_saving) = page.save() else {
            return Response::text(503, "not saved: another change is being saved still; nothing was changed, try again");
        };
        // Who looks does not wait for the disk.
        let ruling = page.ruling();
        let rules = match self.rules(&ruling, &wanted) {
            Ok(rules) => rules,
            Err(refusal) => return refusal,
        };
        let (bundle, mut kept, tags) = (ruling.bundle, ruling.overrides.clone(), ruling.tags.clone());
        drop(ruling);
        kept.rules.resize(rules.len(), None);
        // What nobody touched goes on following device.toml.
        let all = kept.rules.iter_mut().zip(tags.iter()).zip(&rules);
        all.filter(|((_, tag), new)| tag.rule != **new).for_each(|((kept, _), new)| *kept = Some(*new));
        let digits = |r: TagRule| {
            let [threshold, low] = [r.threshold, r.review_low].map(|s| f64::from(s.0) / 65535.0);
            format!("{threshold:.6}, review from {low:.6}")
        };
        let differ = || tags.iter().zip(&rules).zip(&names).filter(|((tag, new), _)| tag.rule != **new);
        let change = |who: &str, name: &str, old, new| {
            let [old, new] = [old, new].map(digits);
            Change { who: who.into(), what: format!("threshold {name}"), old, new }
        };
        let changes: Vec<Change> = differ().map(|((tag, new), name)| change(&who, name, tag.rule, *new)).collect();
        // Nobody else records until it is known whether this holds.
        let folder = match folder.path() {
            Ok(folder) => folder,
            Err(why) => return Response::text(409, &format!("not saved: {why}; nothing was changed")),
        };
        let log = Log::of_state(folder);
        let recorded = log.locked().and_then(|mut log| log.append(changes).map(|()| log));
        let mut log = match recorded {
            Ok(log) => log,
            Err(e) => {
                let why = format!("not saved, because it cannot be recorded who did: {e}; nothing was changed");
                return Response::text(409, &why);
            }
        };
        let take_back = |log: &mut Locked<'_>| {
            // The record says that it was done.
            if log.take_back().is_err() {
                let undone = differ().map(|((tag, new), name)| change("tagpin, not saved", name, *new, tag.rule));
                let _ = log.append(undone.collect());
            }
        };
        let before = match kept.write(folder, &names, &Hex(&bundle).to_string(), page.recipe.as_deref()) {
            Ok(before) => before,
            Err(e) => {
                take_back(&mut log);
                return Response::text(409, &format!("not saved: {e}; nothing was changed"));
            }
        };
        if page.tuning.set(bundle, rules.clone()).is_err() {
            let why = "another bundle was taken over meanwhile; look at its thresholds first";
            // Else they would hold as soon as the bundle before is back.
            return match before.bring_back() {
                Ok(()) => {
                    take_back(&mut log);
                    Response::text(409, &format!("not changed: {why}"))
                }
                Err(e) => {
                    Response::text(409, &format!("saved for the bundle before only, and not to be undone ({e}): {why}"))
                }
            };
        }
        drop(log);
        let mut ruling = page.ruling();
        // Another bundle that came in this moment has rules of its own.
        if ruling.bundle == bundle {
            ruling.overrides = kept;
            ruling.tags.iter_mut().zip(&rules).for_each(|(tag, new)| tag.rule = *new);
        }
        drop(ruling);
        let mut changed = 0;
        for (i, (tag, new)) in tags.iter().zip(rules).enumerate().filter(|(_, (tag, new))| tag.rule != *new) {
            let who = Why::of(&who);
            self.events.tell(What::Rule(RuleEvent { tag: TagId(i as u16), old: tag.rule, new, who }));
            changed += 1;
        }
        Response::json(200, &json!({ "changed": changed }))
    }
}

fn reason_words(reason: Reason) -> String {
    reason.name().replace('_', " ")
}
