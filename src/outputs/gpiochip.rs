//! GPIO lines through the character device (uAPI v2): any board, chips found by label because their numbers change.
//!
//! Knows no register. The kernel applies polarity and sets the first value in the same call that takes the line.

use super::{Output, OutputError, Polarity, State};
use gpiocdev::Request;
use gpiocdev::line::Value;
use std::path::PathBuf;

pub(super) struct Gpiochip {
    name: String,
    request: Request,
    offset: u32,
}

fn value(state: State) -> Value {
    match state {
        State::Active => Value::Active,
        State::Inactive => Value::Inactive,
    }
}

/// What was found of a chip and line.
struct Found {
    path: PathBuf,
    label: String,
    offset: u32,
    used_by: Option<String>,
}

/// A chip by path or label; labels of all chips are named when none fits, and two of one label are refused.
fn find(chip: &str, line: &str) -> Result<Found, String> {
    let path = if chip.starts_with('/') {
        PathBuf::from(chip)
    } else {
        let chips = gpiocdev::chip::chips().map_err(|e| format!("no GPIO chips: {e}; is /dev/gpiochip* there?"))?;
        let mut labels = Vec::new();
        let mut fits = Vec::new();
        for path in chips {
            let Ok(info) = gpiocdev::chip::Chip::from_path(&path).and_then(|c| c.info()) else { continue };
            if info.label == chip {
                fits.push(path.clone());
            }
            labels.push(format!("{} ({})", info.label, path.display()));
        }
        match fits.as_slice() {
            [one] => one.clone(),
            [] if labels.is_empty() => {
                return Err(format!(
                    "no chip \"{chip}\": this machine shows no GPIO chip; check the group `gpio` and the kernel"
                ));
            }
            [] => return Err(format!("no chip labelled \"{chip}\"; found {}", labels.join(", "))),
            _ => return Err(format!("{} chips are labelled \"{chip}\"; name one by its path", fits.len())),
        }
    };
    let chip = gpiocdev::chip::Chip::from_path(&path).map_err(|e| {
        format!(
            "{} cannot be opened: {e}; name a chip by label or path, and add the user to the group `gpio`",
            path.display()
        )
    })?;
    let info = chip.info().map_err(|e| format!("{}: {e}", path.display()))?;
    let line_info = match line.parse::<u32>() {
        Ok(offset) if offset >= info.num_lines => {
            return Err(format!("line {offset} of \"{}\", which has 0..={}", info.label, info.num_lines - 1));
        }
        Ok(offset) => chip.line_info(offset).map_err(|e| format!("line {offset}: {e}"))?,
        Err(_) => chip.find_line_info(line).ok_or_else(|| format!("no line named \"{line}\" on \"{}\"", info.label))?,
    };
    let used_by = line_info.used.then(|| line_info.consumer.clone());
    Ok(Found { path, label: info.label, offset: line_info.offset, used_by })
}

impl Gpiochip {
    pub(super) fn open(name: &str, chip: &str, line: &str, polarity: Polarity, first: State) -> Result<Self, String> {
        let found = find(chip, line)?;
        let mut builder = Request::builder();
        builder.on_chip(&found.path).with_consumer("tagpin").with_line(found.offset).as_output(value(first));
        if polarity == Polarity::ActiveLow {
            builder.as_active_low();
        }
        let request = builder.request().map_err(|e| match &found.used_by {
            Some(other) => {
                format!("line {} of \"{}\" is held by \"{other}\"; free it or choose another", found.offset, found.label)
            }
            None => format!("line {} of \"{}\" cannot be taken: {e}", found.offset, found.label),
        })?;
        Ok(Self { name: name.into(), request, offset: found.offset })
    }
}

impl Output for Gpiochip {
    fn apply(&mut self, state: State) -> Result<(), OutputError> {
        let done = self.request.set_value(self.offset, value(state));
        done.map_err(|e| OutputError { output: self.name.clone(), why: format!("line {} cannot be set: {e}", self.offset) })
    }
}

pub(super) fn probe(chip: &str, line: &str) -> Result<String, String> {
    let found = find(chip, line)?;
    match found.used_by {
        Some(other) => {
            Err(format!("line {} of \"{}\" is held by \"{other}\"; free it or choose another", found.offset, found.label))
        }
        None => Ok(format!("{} ({}) line {}", found.label, found.path.display(), found.offset)),
    }
}
