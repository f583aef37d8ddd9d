//! Exposure, gain, white balance, focus and mains frequency, as the source string states them.
//!
//! They are set at every opening and read back: a camera that forgets or rounds them would shift
//! every score. The automatic that rules a value is switched off first.

use super::SourceSpec;
use crate::sources::{Automatic, SourceError};
use v4l::Device;
use v4l::control::{Control, Description, Type, Value};

/// Options that [`apply`] reads.
pub(in crate::sources) const OPTIONS: [&str; 5] = ["exposure_us", "gain", "white_balance", "focus", "mains"];

/// A control of linux/v4l2-controls.h.
#[derive(Clone, Copy)]
struct Id(u32, &'static str);

const AUTO_EXPOSURE: Id = Id(0x009a_0901, "automatic exposure");
const EXPOSURE: Id = Id(0x009a_0902, "exposure time");
const AUTO_GAIN: Id = Id(0x0098_0912, "automatic gain");
const GAIN: Id = Id(0x0098_0913, "gain");
const AUTO_WHITE: Id = Id(0x0098_090c, "automatic white balance");
const RED: Id = Id(0x0098_090e, "red balance");
const BLUE: Id = Id(0x0098_090f, "blue balance");
const KELVIN: Id = Id(0x0098_091a, "white balance temperature");
const AUTO_FOCUS: Id = Id(0x009a_090c, "automatic focus");
const FOCUS: Id = Id(0x009a_090a, "focus");
const MAINS: Id = Id(0x0098_0918, "mains frequency");

/// What shall be set: a control, its value, and whether the camera may lack it.
fn wanted(spec: &SourceSpec) -> Result<Vec<(Id, i64, bool)>, SourceError> {
    let mut all = Vec::new();
    let number = |key: &str, least: i64| -> Result<Option<i64>, SourceError> {
        spec.text_option(key).map(|_| spec.number(key, 0, least..=i64::from(i32::MAX))).transpose()
    };
    if let Some(us) = number("exposure_us", 1)? {
        // V4L2 counts exposure so; a device would take the next lower count without a word.
        const UNIT_US: i64 = 100;
        if us % UNIT_US != 0 {
            let lower = us - us % UNIT_US;
            let near = if lower == 0 { UNIT_US.to_string() } else { format!("{lower} or {}", lower + UNIT_US) };
            return Err(spec.error(format!("exposure_us={us}: V4L2 counts exposure in {UNIT_US} us, expected {near}")));
        }
        // Menu entry 1 is manual.
        all.extend([(AUTO_EXPOSURE, 1, true), (EXPOSURE, us / UNIT_US, false)]);
    }
    if let Some(gain) = number("gain", 0)? {
        all.extend([(AUTO_GAIN, 0, true), (GAIN, gain, false)]);
    }
    if let Some(focus) = number("focus", 0)? {
        all.extend([(AUTO_FOCUS, 0, true), (FOCUS, focus, false)]);
    }
    if let Some(text) = spec.text_option("white_balance") {
        all.push((AUTO_WHITE, 0, true));
        let pair = text.split_once(',').and_then(|(r, b)| Some((r.parse::<i32>().ok()?, b.parse::<i32>().ok()?)));
        match (pair, text.parse::<u16>()) {
            (Some((red, blue)), _) => all.extend([(RED, red.into(), false), (BLUE, blue.into(), false)]),
            (None, Ok(kelvin)) => all.push((KELVIN, kelvin.into(), false)),
            (None, Err(_)) => {
                let expected = "expected the camera's red and blue, as in 120,140, or its temperature in kelvin, as in 4600";
                return Err(spec.error(format!("white_balance={text}, {expected}")));
            }
        }
    }
    match spec.text_option("mains") {
        None => {}
        Some("50") => all.push((MAINS, 1, false)),
        Some("60") => all.push((MAINS, 2, false)),
        Some(other) => return Err(spec.error(format!("mains={other}, expected 50 or 60"))),
    }
    Ok(all)
}

/// Sets what the source string states; refuses what the camera lacks, cannot hold or does not keep.
pub(super) fn apply(spec: &SourceSpec, device: &Device) -> Result<(), SourceError> {
    let wanted = wanted(spec)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let offered = device.query_controls().unwrap_or_default();
    for (Id(id, name), value, may_lack) in wanted {
        let Some(control) = offered.iter().find(|c| c.id == id) else {
            if may_lack {
                continue;
            }
            return Err(spec.error(format!("the camera has no {name}; `tagpin cameras` lists its controls")));
        };
        set(spec, device, control, name, value)?;
    }
    Ok(())
}

fn set(spec: &SourceSpec, device: &Device, control: &Description, name: &str, value: i64) -> Result<(), SourceError> {
    if !(control.minimum..=control.maximum).contains(&value) {
        return Err(spec.error(format!("{name} {value}: this camera takes {}..={}", control.minimum, control.maximum)));
    }
    let typed = if control.typ == Type::Boolean { Value::Boolean(value != 0) } else { Value::Integer(value) };
    device
        .set_control(Control { id: control.id, value: typed })
        .map_err(|e| spec.error(format!("{name} {value} was refused: {e}")))?;
    let found = match device.control(control.id).map(|c| c.value) {
        Ok(Value::Integer(found)) => found,
        Ok(Value::Boolean(found)) => found as i64,
        Ok(_) => value,
        Err(e) => return Err(spec.error(format!("{name} cannot be read back: {e}"))),
    };
    if found != value {
        return Err(spec.error(format!("{name} is {found} after {value} was set; state what the camera can hold")));
    }
    Ok(())
}

/// What the camera decides by itself now. A camera without the control decides nothing that could
/// be changed.
pub(super) fn automatics(device: &Device) -> Vec<Automatic> {
    let is_on = |Id(id, _): Id, off: i64| match device.control(id).map(|c| c.value) {
        Ok(Value::Integer(found)) => found != off,
        Ok(Value::Boolean(found)) => found,
        _ => false,
    };
    // Menu entry 1 of exposure is manual.
    let exposure = is_on(AUTO_EXPOSURE, 1).then_some(Automatic::Exposure);
    exposure.into_iter().chain(is_on(AUTO_WHITE, 0).then_some(Automatic::WhiteBalance)).collect()
}

/// A camera's controls for people: name, range, and the option that sets it.
pub(in crate::sources) fn list(device: &Device) -> Vec<String> {
    let option = |id: u32| match id {
        _ if id == EXPOSURE.0 => " (exposure_us=, in 100 us)",
        _ if id == GAIN.0 => " (gain=)",
        _ if id == RED.0 || id == BLUE.0 => " (white_balance=RED,BLUE)",
        _ if id == KELVIN.0 => " (white_balance=KELVIN)",
        _ if id == FOCUS.0 => " (focus=)",
        _ if id == MAINS.0 => " (mains=50|60)",
        _ => "",
    };
    let controls = device.query_controls().unwrap_or_default();
    let shown = controls.iter().filter(|c| c.typ != Type::CtrlClass);
    shown.map(|c| format!("{} {}..={}{}", c.name, c.minimum, c.maximum, option(c.id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most USB cameras have one colour temperature and no gains of red and blue: nothing could be
    /// stated for them, though `check` asked for it. And 550 us became 500 without a word.
    #[test]
    fn controls_are_what_the_source_states_or_an_error_with_what_can_be_stated() {
        let stated = |options: &str| {
            let spec: SourceSpec = format!("v4l2:/dev/video0?{options}").parse().unwrap();
            wanted(&spec).map(|all| all.iter().map(|(Id(_, name), value, _)| (*name, *value)).collect::<Vec<_>>())
        };
        assert_eq!(
            stated("white_balance=4600").unwrap(),
            [("automatic white balance", 0), ("white balance temperature", 4600)]
        );
        assert_eq!(
            stated("white_balance=120,140").unwrap(),
            [("automatic white balance", 0), ("red balance", 120), ("blue balance", 140)]
        );
        assert_eq!(stated("exposure_us=600").unwrap(), [("automatic exposure", 1), ("exposure time", 6)]);
        for (options, near) in [("exposure_us=550", "expected 500 or 600"), ("exposure_us=99", "expected 100")] {
            let why = stated(options).unwrap_err().why;
            assert!(why.ends_with(near), "{why}");
        }
        for white in ["", "warm", "120,", "120;140", "-1", "70000"] {
            let why = stated(&format!("white_balance={white}")).unwrap_err().why;
            assert!(why.contains("120,140") && why.contains("4600"), "{why}");
        }
    }
}
