//! The first parts of a simulated line as rows of text: trigger, exposure, model, verdict, gate.
//!
//! It schedules nothing; it draws what it is given.

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

/// Columns beside the bar and what happened: part, trigger, verdict, and what separates them.
const BESIDE: usize = 32;
/// Columns of the bar, at least and at most.
const BAR: [usize; 2] = [16, 100];

/// Draws rows over one scale from trigger to the latest verdict, `width` columns wide; `outputs` are
/// the lines' names. What does not fit is cut.
pub fn draw(rows: &[Row], outputs: &[&str], width: usize) -> String {
    let ms = |at: Micros| at.0 as f64 / 1000.0;
    let happened = |row: &Row| {
        let name = |line: u8| outputs.get(line as usize).unwrap_or(&"?");
        let active = row.edges.iter().filter(|(_, active, _)| *active);
        let gates: Vec<String> = active.map(|(line, _, at)| format!("{} +{:.1} ms", name(*line), ms(*at))).collect();
        let gates = if gates.is_empty() { "no output".into() } else { gates.join(", ") };
        format!("{}{}: {gates}", row.action, if row.late { " (late)" } else { "" })
    };
    let all: Vec<String> = rows.iter().map(happened).collect();
    let longest = all.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let columns = width.saturating_sub(BESIDE + longest).clamp(BAR[0], BAR[1]);
    let room = width.saturating_sub(BESIDE + columns);
    let span = rows.iter().map(|r| r.verdict.0).max().unwrap_or(0).max(1000);
    let column = |at: Micros| ((at.0.min(span) * (columns as u64 - 1)) / span) as usize;
    let scale = format!("0 {:>w$.0} ms", ms(Micros(span)), w = columns.saturating_sub(5));
    let mut text = format!("{:>5} {:>9}  {scale:<columns$}  {:>8}  gate\n", "part", "at s", "verdict");
    for (row, happened) in rows.iter().zip(&all) {
        let mut bar = vec!['.'; columns];
        bar[column(row.exposed)..=column(row.taken)].fill('-');
        bar[column(row.taken)..=column(row.verdict)].fill('=');
        bar[column(row.exposed)] = 'o';
        bar[0] = 'T';
        let drawn: String = bar.into_iter().collect();
        let shown: String = match happened.chars().count() > room {
            true => happened.chars().take(room.saturating_sub(3)).chain("...".chars()).collect(),
            false => happened.clone(),
        };
        let (at, verdict) = (row.trigger.as_micros() as f64 / 1e6, ms(row.verdict));
        text += &format!("{:>5} {at:>9.3}  {drawn}  {verdict:>5.1} ms  {shown}\n", row.part);
    }
    text + "      T trigger, o exposure, - frame on its way, = model; ends with the verdict\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_fits_its_terminal_however_many_gates_a_part_has() {
        let row = |gates: u64| Row {
            part: 7,
            trigger: Instant::from_micros(3_000_000),
            exposed: Micros(12_000),
            taken: Micros(20_000),
            verdict: Micros(52_500),
            action: "reject",
            late: gates > 2,
            edges: (0..gates).map(|i| (i as u8, true, Micros(900_000 + i))).collect(),
        };
        let names = ["reject_gate", "a_gate_with_a_long_name", "lamp", "lamp2"];
        for width in [80, 100, 200] {
            let text = draw(&[row(0), row(1), row(4)], &names, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("reject: no output") && text.contains("reject: reject_gate +900.0 ms"), "{text}");
        }
        assert!(draw(&[row(4)], &names, 200).contains("reject (late): reject_gate +900.0 ms, a_gate_with_a_long_name"));
        assert!(draw(&[row(4)], &names, 80).contains("..."));
    }
}
