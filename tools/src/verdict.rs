//! Ship or not: what stands against it, and what a reader must know, from a run's figures.
//!
//! Computes no figure itself.

use crate::decision::Decision;
use crate::evaluate::Evaluation;
use crate::parity;
use crate::run::Run;

/// Ship, or why not.
pub struct Verdict {
    /// What forbids shipping; empty for ship.
    pub against: Vec<String>,
    /// What does not forbid it but must be known.
    pub cautions: Vec<String>,
}

/// Share of top-1 that int8 may cost.
const INT8_LOSS: f64 = 0.005;

impl Verdict {
    /// Of a run's figures.
    pub fn of(run: &Run, e: &Evaluation, p: &parity::Figures, d: &Decision) -> Self {
        let (mut against, mut cautions) = (Vec::new(), Vec::new());
        let f = &e.sets[0];
        for (name, right) in &f.baselines {
            if f.int8.value <= *right {
                against.push(format!("it does not beat \"{name}\": {:.3} against {right:.3}", f.int8.value));
            } else if f.int8.low <= *right {
                cautions.push(format!("its interval reaches down to \"{name}\": {} against {right:.3}", f.int8));
            }
        }
        if f.difference.value < -INT8_LOSS {
            let loss = format!(
                "int8 loses {:.1} points of top-1 {}; calibrate on more pictures (--calibration), or train longer",
                -100.0 * f.difference.value,
                f.difference
            );
            // A loss whose interval holds 0 may be chance: two pictures of 380 are half a point.
            if f.difference.high < 0.0 { against.push(loss) } else { cautions.push(loss) }
        }
        against.extend(p.gates.iter().filter(|g| !g.met).map(|g| format!("int8 against float: {}", g.text)));
        against.extend(d.aims.iter().filter(|a| a.ends_with("not met")).cloned());
        for t in &f.tags {
            match t.pictures {
                0 => against.push(format!("tag \"{}\" has no test picture: nothing is known of it", t.tag)),
                n if n < 5 => cautions.push(format!("tag \"{}\" has {n} test pictures: its figures mean little", t.tag)),
                _ => {}
            }
        }
        if e.looks > 1 {
            cautions.push(format!("test pictures were looked at {} times; choices made by them bias the figures", e.looks));
        }
        let accepted: Vec<&str> = e.invalid.iter().filter(|i| i.accepted > 0).map(|i| i.name.as_str()).collect();
        if !accepted.is_empty() {
            cautions.push(format!("pictures of nothing pass a threshold: {}", accepted.join(", ")));
        }
        if let Some(worst) = e.slices.first().filter(|s| s.right.high < f.int8.low) {
            cautions.push(format!("it is clearly worse on \"{}\": {}", worst.name, worst.right));
        }
        cautions.extend(run.record.warnings.iter().cloned());
        Self { against, cautions }
    }

    /// Whether to ship.
    pub fn ship(&self) -> bool {
        self.against.is_empty()
    }

    /// In one line.
    pub fn line(&self) -> String {
        if self.ship() { "ship".into() } else { format!("do not ship, because {}", self.against.join("; ")) }
    }
}
