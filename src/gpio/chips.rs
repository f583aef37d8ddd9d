//! Which `/dev/gpiochipN` a label means: numbers differ between boards, kernels and boots.
//!
//! Opens no chip itself: who calls says how a chip's label is read.

use std::path::{Path, PathBuf};

/// The name under which device.toml may ask for the 40-pin header of whatever Raspberry Pi this is.
pub const HEADER: &str = "header";

/// Labels of the header's chip: Pi 5, 500 and CM5; Pi 4, 400 and CM4; Pi 1 to 3, Zero, Zero 2 and
/// CM1 to CM3. (Drivers pinctrl-rp1 and pinctrl-bcm2835 of Linux.)
const HEADER_LABELS: [&str; 3] = ["pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835"];

/// A chip and a line by one of their names: any label of the header's chip is the header, and its
/// lines may be called GPIO17.
pub(super) fn named(chip: &str, line: &str) -> (String, String) {
    if chip != HEADER && !HEADER_LABELS.contains(&chip) {
        return (chip.into(), line.into());
    }
    (HEADER.into(), line.strip_prefix("GPIO").unwrap_or(line).into())
}

/// A GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    /// Its device, links followed.
    pub path: PathBuf,
    /// Its label.
    pub label: String,
    /// Its lines.
    pub lines: u32,
}

/// All chips below `dev`, in the order of their numbers. `info` gives a chip's label and lines, or
/// nothing for what cannot be opened. Numbers may have gaps; a link to another chip (as recent
/// Raspberry Pi systems make for old programs) is that chip.
pub fn scan(dev: &Path, info: &dyn Fn(&Path) -> Option<(String, u32)>) -> Vec<Chip> {
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    let is_chip = |path: &PathBuf| {
        let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("gpiochip"));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(is_chip).flat_map(std::fs::canonicalize).collect();
    paths.sort_by_key(|p| (p.as_os_str().len(), p.clone()));
    paths.dedup();
    let chip = |path: PathBuf| info(&path).map(|(label, lines)| Chip { path, label, lines });
    paths.into_iter().filter_map(chip).collect()
}

/// The one chip that `wanted` names: a label, or [`HEADER`].
pub fn choose<'c>(wanted: &str, chips: &'c [Chip]) -> Result<&'c Chip, String> {
    let fits = |label: &str| chips.iter().filter(|c| c.label == label).collect::<Vec<_>>();
    let found = if wanted == HEADER {
        HEADER_LABELS.iter().map(|label| fits(label)).find(|f| !f.is_empty()).unwrap_or_default()
    } else {
        fits(wanted)
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] if chips.is_empty() => {
            Err(format!("no chip \"{wanted}\": this machine shows no GPIO chip; check the group `gpio` and the kernel"))
        }
        [] => {
            let labels: Vec<String> = chips.iter().map(|c| format!("{} ({})", c.label, c.path.display())).collect();
            let what =
                if wanted == HEADER { "no Raspberry Pi header".into() } else { format!("no chip labelled \"{wanted}\"") };
            Err(format!("{what}; found {}", labels.join(", ")))
        }
        several => {
            let paths: Vec<String> = several.iter().map(|c| c.path.display().to_string()).collect();
            Err(format!("{} chips are labelled \"{wanted}\"; name one by its path: {}", several.len(), paths.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of chips, and their labels.
    type Chips = &'static [(&'static str, &'static str)];

    /// A folder of chips that holds their labels as text: name, label; or name, `-> other` for a
    /// link.
    fn tree(name: &str, chips: &[(&str, &str)]) -> PathBuf {
        let dev = std::env::temp_dir().join(format!("tagpin-chips-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dev);
        std::fs::create_dir_all(&dev).unwrap();
        for (chip, label) in chips {
            match label.strip_prefix("-> ") {
                Some(other) => std::os::unix::fs::symlink(other, dev.join(chip)).unwrap(),
                None => std::fs::write(dev.join(chip), label).unwrap(),
            }
        }
        dev
    }

    fn chosen(name: &str, wanted: &str, chips: &[(&str, &str)]) -> Result<String, String> {
        let dev = tree(name, chips);
        let found = scan(&dev, &|path| std::fs::read_to_string(path).ok().filter(|l| l != "closed").map(|l| (l, 54)));
        let chip = choose(wanted, &found).map(|c| c.path.file_name().unwrap().to_string_lossy().into_owned());
        std::fs::remove_dir_all(&dev).unwrap();
        chip
    }

    const OTHERS: [(&str, &str); 2] = [("gpiochip11", "gpio-brcmstb@107d508500"), ("gpiochip10", "raspberrypi-exp-gpio")];

    #[test]
    fn the_header_is_found_on_every_board_whatever_its_number() {
        let boards: [(&str, Chips, &str); 6] = [
            ("pi5-6.6", &[("gpiochip0", "gpio-brcmstb@107d508500"), ("gpiochip4", "pinctrl-rp1"), OTHERS[1]], "gpiochip4"),
            ("pi5-6.12", &[("gpiochip0", "pinctrl-rp1"), ("gpiochip4", "-> gpiochip0"), OTHERS[0], OTHERS[1]], "gpiochip0"),
            ("pi4", &[("gpiochip0", "pinctrl-bcm2711"), ("gpiochip1", "raspberrypi-exp-gpio")], "gpiochip0"),
            ("zero2", &[("gpiochip0", "pinctrl-bcm2835"), ("gpiochip1", "raspberrypi-exp-gpio")], "gpiochip0"),
            ("no-zero", &[("gpiochip1", "pinctrl-bcm2835")], "gpiochip1"),
            (
                "gaps",
                &[("gpiochip2", "gpio-vf610"), ("gpiochip512", "pinctrl-bcm2711"), ("gpiochip7", "closed")],
                "gpiochip512",
            ),
        ];
        for (name, chips, expected) in boards {
            assert_eq!(chosen(name, HEADER, chips).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_label_finds_its_chip_and_a_name_that_is_no_chip_is_passed_over() {
        let chips = [("gpiochip0", "pinctrl-rp1"), ("gpiochip", "pinctrl-rp1"), ("gpiochip4x", "pinctrl-rp1"), OTHERS[0]];
        assert_eq!(chosen("label", "pinctrl-rp1", &chips).as_deref(), Ok("gpiochip0"));
    }

    #[test]
    fn two_chips_of_one_label_are_refused_and_both_are_named() {
        let why = chosen("two", "pl061", &[("gpiochip3", "pl061"), ("gpiochip0", "pl061")]).unwrap_err();
        assert!(
            why.contains("2 chips are labelled \"pl061\"") && why.contains("gpiochip0, ") && why.contains("gpiochip3"),
            "{why}"
        );
    }

    #[test]
    fn a_board_without_the_chip_names_what_it_has() {
        let why = chosen("other", HEADER, &OTHERS).unwrap_err();
        assert!(why.contains("no Raspberry Pi header; found raspberrypi-exp-gpio"), "{why}");
        assert!(chosen("none", "pinctrl-rp1", &[]).unwrap_err().contains("shows no GPIO chip"));
    }
}
