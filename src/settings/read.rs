//! What each table of device.toml means; the larger tables have files of their own.
//!
//! Tables come from the reader, and problems go back to it: nothing is opened here.

use super::names::Names;
use super::reader::Table;
use super::values::{TEN_MINUTES_MS, roi};
use super::{decide, inputs, lines, *};

/// Reads the whole file.
pub(super) fn read(root: &mut Table<'_>, model: ModelTags<'_>) -> Settings {
    let names = Names::new(model);
    let mut source = root.table("source");
    let open = source.text("open", "conveyor");
    if let Err(e) = open.parse::<crate::sources::SourceSpec>() {
        source.problem("open", e.to_string());
    }
    let frame_timeout = Millis(source.integer("frame_timeout_ms", 1000, 10..=TEN_MINUTES_MS) as u32);
    let first_frame_timeout = Millis(source.integer("first_frame_timeout_ms", 10_000, 10..=TEN_MINUTES_MS) as u32);
    let picture_budget = crate::pictures::Budget::megabytes(source.integer("picture_mb", 96, 1..=4096) as u64);
    let frozen_after = source.integer("frozen_after", 30, 0..=1_000_000) as u32;
    let source_roi = roi(&mut source, "roi");

    let mut line = root.table("line");
    let late = decide::action(&mut line, "late");
    let mode = line.choice("mode", &[("state", LineMode::State), ("gate", LineMode::Gate { late })]);
    let gated = mode != LineMode::State;
    let late_edge = Millis(line.integer("late_ms", 5, 0..=60_000) as u32).micros();
    let missed_edge = line.choice("missed_edge", &[("go_on", MissedEdge::GoOn), ("safe", MissedEdge::Safe)]);

    let mut inputs = Vec::new();
    let has_encoder = root.has("encoder");
    let trigger = inputs::trigger(root, &mut inputs, has_encoder);
    inputs::others(root, &mut inputs, has_encoder, &trigger.kind);
    let (policy, mut tags) = decide::decide(root, &names, &trigger, gated);
    let edges = lines::Edges { late: late_edge, min_spacing: trigger.spacing.min };
    let outputs = lines::outputs(root, &names, gated, has_encoder, edges);

    let categories = names.named();
    decide::cover(&mut tags, &names);

    let confirm = inputs::confirm(root, &mut inputs, &outputs);

    let mut log = root.table("events");
    let events = log.is_on_by("path").then(|| {
        let path = log.text("path", "").into();
        lines::event_file(&mut log, path)
    });
    #[cfg(feature = "site")]
    let site = super::site::site(root, mode, &outputs);
    #[cfg(feature = "site")]
    if inputs.iter().any(|i| matches!(i, TriggerSpec::Modbus { .. }))
        && site.modbus.as_ref().is_none_or(|m| m.writers.is_empty())
    {
        let why = "\"modbus\", but no PLC may write: state [modbus] listen, write = \"yes\" and allow = [\"ADDRESS\"]";
        let mut t = root.table("trigger");
        t.allow_all();
        t.problem("kind", why.into());
    }
    #[cfg(not(feature = "site"))]
    for table in ["page", "state", "predict", "metrics", "modbus", "mqtt", "keep", "recipes"]
        .into_iter()
        .filter(|t| root.has(t))
        .collect::<Vec<_>>()
    {
        root.problem(table, "this build has no `site`; rebuild with --features site, or remove the table".into());
    }
    let threads = root.table("engine").integer("threads", 1, 1..=4) as usize;
    let mut safety = root.table("safety");
    let max_faults = safety.renamed("max_faults", "max_faults_in_a_row");
    let mut settings = Settings {
        source: open.into(),
        roi: source_roi,
        frame_timeout,
        first_frame_timeout,
        picture_budget,
        frozen_after,
        mode,
        late_edge,
        missed_edge,
        confirm,
        trigger: trigger.kind,
        inputs,
        spacing: trigger.spacing,
        max_latency: trigger.max_latency,
        part: trigger.part,
        has_deadline: gated && trigger.has_deadline,
        policy,
        tags,
        categories,
        outputs,
        events,
        #[cfg(feature = "site")]
        site,
        threads,
        watchdog: Millis(safety.integer("watchdog_ms", 2000, 50..=TEN_MINUTES_MS) as u32),
        max_faults: safety.integer(max_faults, 10, 1..=1_000_000) as u32,
        renamed: Vec::new(),
    };
    if gated {
        // Of too many outputs some are not read at all.
        if !root.is_wrong("outputs") && !settings.outputs.iter().any(|o| matches!(o.drive, Drive::Calls(_))) {
            line.problem("mode", "\"gate\", but no output has a gate; add an [outputs.NAME] with `on`".into());
        }
        // A verdict that comes after the first gate is of no use, so a part is not waited for any
        // longer.
        if !trigger.has_deadline {
            settings.part.deadline = default_deadline(&settings.outputs).unwrap_or(settings.part.deadline);
        }
    }
    settings
}

/// The way to the first gate that a verdict moves, in whole milliseconds; in counts where such a
/// gate's delay is, so that a belt that stands still costs no part its frames. `None` without a
/// gate.
fn default_deadline(outputs: &[OutputSettings]) -> Option<Travel> {
    let delays = || outputs.iter().filter_map(|o| o.gate_line()).filter(|g| g.by == CalledBy::Verdict).map(|g| g.delay);
    let counts = delays().filter_map(|d| if let Travel::Counts(n) = d { Some(n) } else { None }).min();
    let times = delays().filter_map(|d| if let Travel::Time(span) = d { Some(span) } else { None }).min();
    counts.map(Travel::Counts).or(times.map(|span| Travel::Time(Micros(span.0 / 1000 * 1000))))
}
