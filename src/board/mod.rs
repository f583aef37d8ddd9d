//! Facts about the board: its name, low voltage, throttling, and what its pins do when the process
//! that drives them dies.
//!
//! All is read from files below one root, so that a test can present another board.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A board, seen through `/proc`, `/sys` and `/boot`.
#[derive(Clone, Debug)]
pub struct Board {
    root: PathBuf,
}

/// A problem of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The supply is below 4.63 V.
    UnderVoltage,
    /// The firmware has lowered the clock: heat or supply.
    Throttled,
}

impl Trouble {
    /// The name used in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnderVoltage => "under_voltage",
            Self::Throttled => "throttled",
        }
    }

    /// What it means and what to do.
    pub const fn mend(self) -> &'static str {
        match self {
            Self::UnderVoltage => "the supply is too low: use a stronger one and a shorter cable; inference gets slower",
            Self::Throttled => "the clock is lowered: cool the board or lower its load; inference gets slower",
        }
    }
}

/// What happens to a GPIO line when the process that drives it is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterDeath {
    /// The kernel goes on driving its last level.
    Persists,
    /// The line becomes an input: a pull resistor decides.
    Released,
    /// Unknown on this board, for this reason.
    NotTold(String),
}

/// What the firmware reports about its supply and clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Power {
    /// Its problems, possibly none.
    Told(Vec<Trouble>),
    /// It reports nothing, for this reason.
    NotTold(String),
}

impl Default for Board {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Board {
    /// The board whose `/proc`, `/sys` and `/boot` lie below `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read(self.root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim_end_matches(['\0', '\n', ' ']).to_string())
    }

    /// The model that the device tree names; nothing on a PC.
    pub fn model(&self) -> Option<String> {
        self.read("proc/device-tree/model")
    }

    /// Low voltage and throttling now, as the firmware tells through sysfs.
    pub fn power(&self) -> Power {
        let mut troubles = Vec::new();
        let throttled = self.read("sys/devices/platform/soc/soc:firmware/get_throttled");
        let flags = throttled.and_then(|t| u32::from_str_radix(t.trim_start_matches("0x"), 16).ok());
        // Bits of the firmware's get_throttled: 0 under-voltage, 1 clock capped, 2 throttled, 3
        // soft temperature limit; from 16 on the same since boot.
        if let Some(flags) = flags {
            troubles.extend((flags & 1 != 0).then_some(Trouble::UnderVoltage));
            troubles.extend((flags & 0b1110 != 0).then_some(Trouble::Throttled));
            return Power::Told(troubles);
        }
        let monitors = std::fs::read_dir(self.root.join("sys/class/hwmon")).into_iter().flatten().flatten();
        for monitor in monitors {
            let file = |name: &str| std::fs::read_to_string(monitor.path().join(name)).ok();
            if file("name").is_some_and(|n| n.trim() == "rpi_volt") {
                troubles.extend(file("in0_lcrit_alarm").is_some_and(|a| a.trim() == "1").then_some(Trouble::UnderVoltage));
                return Power::Told(troubles);
            }
        }
        Power::NotTold("no get_throttled and no rpi_volt in /sys: not a Raspberry Pi's kernel".into())
    }

    /// What happens to a GPIO line (character device) when the process that drives it is killed.
    pub fn after_death(&self) -> AfterDeath {
        let Some(model) = self.model().filter(|m| m.contains("Raspberry Pi")) else {
            return AfterDeath::NotTold("not a Raspberry Pi: the driver of the GPIO chip decides".into());
        };
        for module in ["pinctrl_rp1", "pinctrl_bcm2835"] {
            if let Some(value) = self.read(&format!("sys/module/{module}/parameters/persist_gpio_outputs")) {
                return if value.starts_with(['Y', '1']) { AfterDeath::Persists } else { AfterDeath::Released };
            }
        }
        let config = ["boot/firmware/config.txt", "boot/config.txt"].iter().find_map(|path| self.read(path));
        match config {
            Some(text) if has_strict_gpiod(&text) => AfterDeath::Released,
            Some(_) => AfterDeath::NotTold(format!("{model} without `dtparam=strict_gpiod` in config.txt")),
            None => AfterDeath::NotTold(format!("{model} without a readable config.txt")),
        }
    }
}

/// Whether config.txt asks for lines to be released. The last such line wins.
fn has_strict_gpiod(config: &str) -> bool {
    let parameters = config.lines().map(str::trim).filter_map(|l| l.strip_prefix("dtparam="));
    let mut values = parameters.flat_map(|p| p.split(',')).filter_map(|p| {
        let (name, value) = p.split_once('=').unwrap_or((p, "on"));
        (name.trim() == "strict_gpiod").then(|| !matches!(value.trim(), "off" | "0" | "no" | "false"))
    });
    values.next_back().unwrap_or(false)
}

/// Watches the board until `stopped`, and reports each problem when it begins.
pub fn watch(board: &Board, stopped: &dyn Fn() -> bool, tell: &dyn Fn(Trouble)) {
    const EVERY: u32 = 50;
    const NAP: Duration = Duration::from_millis(100);
    let mut known: Vec<Trouble> = Vec::new();
    while let Power::Told(troubles) = board.power() {
        troubles.iter().filter(|t| !known.contains(t)).for_each(|t| tell(*t));
        known = troubles;
        for _ in 0..EVERY {
            if stopped() {
                return;
            }
            std::thread::sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths below the root, and what stands there.
    type Files = &'static [(&'static str, &'static str)];

    fn board(name: &str, files: &[(&str, &str)]) -> (Board, PathBuf) {
        let root = std::env::temp_dir().join(format!("tagpin-board-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (Board::at(&root), root)
    }

    const MODEL: (&str, &str) = ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");

    #[test]
    fn low_voltage_and_throttling_are_read_where_the_kernel_tells_them() {
        const THROTTLED: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
        const NAME: &str = "sys/class/hwmon/hwmon1/name";
        const ALARM: &str = "sys/class/hwmon/hwmon1/in0_lcrit_alarm";
        let both = vec![Trouble::UnderVoltage, Trouble::Throttled];
        let cases: [(&str, Files, Option<Vec<Trouble>>); 6] = [
            ("well", &[(THROTTLED, "0\n")], Some(vec![])),
            ("both", &[(THROTTLED, "50005\n")], Some(both)),
            ("past", &[(THROTTLED, "0x50000\n")], Some(vec![])),
            ("volt", &[(NAME, "rpi_volt\n"), (ALARM, "1\n")], Some(vec![Trouble::UnderVoltage])),
            ("volt-well", &[(NAME, "rpi_volt\n"), (ALARM, "0\n")], Some(vec![])),
            ("pc", &[(NAME, "coretemp\n")], None),
        ];
        for (name, files, expected) in cases {
            let (board, root) = board(name, files);
            match (board.power(), expected) {
                (Power::Told(found), Some(expected)) => assert_eq!(found, expected, "{name}"),
                (Power::NotTold(_), None) => {}
                (found, expected) => panic!("{name}: {found:?}, expected {expected:?}"),
            }
            let _ = std::fs::remove_dir_all(root);
        }
    }

    #[test]
    fn what_a_dead_process_leaves_on_its_lines_is_read_from_kernel_or_config() {
        const RP1: &str = "sys/module/pinctrl_rp1/parameters/persist_gpio_outputs";
        const BCM: &str = "sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs";
        const CONFIG: &str = "boot/firmware/config.txt";
        let cases: [(&str, Files, Option<AfterDeath>); 6] = [
            ("rp1", &[(RP1, "Y\n"), MODEL], Some(AfterDeath::Persists)),
            ("bcm", &[(BCM, "N\n"), MODEL], Some(AfterDeath::Released)),
            ("strict", &[(CONFIG, "dtparam=audio=on,strict_gpiod\n"), MODEL], Some(AfterDeath::Released)),
            ("off", &[(CONFIG, "dtparam=strict_gpiod\ndtparam=strict_gpiod=off\n"), MODEL], None),
            ("comment", &[(CONFIG, "#dtparam=strict_gpiod\n"), MODEL], None),
            ("pc", &[], None),
        ];
        for (name, files, expected) in cases {
            let (board, root) = board(name, files);
            match (board.after_death(), expected) {
                (AfterDeath::NotTold(_), None) => {}
                (found, expected) => assert_eq!(Some(found), expected, "{name}"),
            }
            let _ = std::fs::remove_dir_all(root);
        }
    }

    #[test]
    fn a_trouble_is_told_once_when_it_begins() {
        let (board, root) = board("watch", &[("sys/devices/platform/soc/soc:firmware/get_throttled", "1")]);
        let told = std::cell::RefCell::new(Vec::new());
        let looks = std::cell::Cell::new(0);
        watch(&board, &|| looks.replace(looks.get() + 1) >= 1, &|t| told.borrow_mut().push(t));
        assert_eq!(told.into_inner(), [Trouble::UnderVoltage]);
        let _ = std::fs::remove_dir_all(root);
    }
}
