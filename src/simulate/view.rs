//! The first parts of a simulated line as rows of text: trigger, exposure, model, verdict, gate.
//!
//! Knows no schedule; it draws what it is given.

use crate::time::{Instant, Micros};

/// One part.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number.
    pub part: u64,
    /// Its trigger.
    pub trigger: Instant,
    /// From there to the exposure of its last frame.
    pub exposed: Micros,
    /// From there until the model took that frame.
    pub taken: Micros,
    /// From there to its verdict.
    pub verdict: Micros,
    /// What happened to it.
    pub action: &'static str,
    /// Whether its verdict was late.
    pub late: bool,
    /// Edges that it caused: line, active, from the trigger.
    pub edges: Vec<(u8, bool, Micros)>,
}

impl Row {
    /// Parts that are kept to be shown.
    pub const SHOWN: usize = 12;
}

/// Draws rows over one scale of `columns`, from trigger to the latest verdict; `outputs` are the
/// lines' names.
pub fn draw(rows: &[Row], outputs: &[&str], columns: usize) -> String {
    let span = rows.iter().map(|r| r.verdict.0).max().unwrap_or(0).max(1000);
    let column = |at: Micros| ((at.0.min(span) * (columns as u64 - 1)) / span) as usize;
    let ms = |at: Micros| at.0 as f64 / 1000.0;
    let scale = format!("0 {:>w$.0} ms", ms(Micros(span)), w = columns.saturating_sub(5));
    let mut text = format!("{:>5} {:>9}  {scale:<columns$}  {:>8}  gate\n", "part", "at s", "verdict");
    for row in rows {
        let mut bar = vec!['.'; columns];
        bar[column(row.exposed)..=column(row.taken)].fill('-');
        bar[column(row.taken)..=column(row.verdict)].fill('=');
        bar[column(row.exposed)] = 'o';
        bar[0] = 'T';
        let drawn: String = bar.into_iter().collect();
        let gates: Vec<String> = row
            .edges
            .iter()
            .filter(|(_, active, _)| *active)
            .map(|(line, _, at)| format!("{} +{:.1} ms", outputs.get(*line as usize).unwrap_or(&"?"), ms(*at)))
            .collect();
        let gates = if gates.is_empty() { "no output".into() } else { gates.join(", ") };
        let late = if row.late { " (late)" } else { "" };
        text += &format!(
            "{:>5} {:>9.3}  {drawn}  {:>5.1} ms  {}{late}: {gates}\n",
            row.part,
            row.trigger.as_micros() as f64 / 1e6,
            ms(row.verdict),
            row.action,
        );
    }
    text + "      T trigger, o exposure, - frame on its way, = model; its end is the verdict\n"
}
