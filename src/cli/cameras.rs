//! `tagpin cameras`: which cameras there are, what each offers, and the source string that opens
//! it.

use super::{Refused, fitted};
use crate::sources;
use crate::terminal::escaped;
use std::process::Command;

/// Arguments of `cameras`.
#[derive(clap::Args, Debug)]
pub(super) struct Cameras {
    /// Program that lists CSI cameras
    #[arg(long, default_value = "rpicam-hello", value_name = "PROGRAM")]
    rpicam: String,
}

/// Prints a line. What a camera says of itself commands no terminal.
fn show(line: &str) {
    println!("{}", fitted(&escaped(line), 4));
}

/// How a C library or an emulator that starts a program in a child tells that it is not there.
const NOT_STARTED: i32 = 127;

pub(super) fn run(args: &Cameras) -> Result<u8, Refused> {
    let mut found = 0;
    match sources::cameras() {
        Ok(cameras) => {
            for camera in &cameras {
                found += 1;
                show(&format!("{} ({})", camera.name, camera.path));
                show(&format!("  source: camera:{}", camera.path));
                camera.facts.iter().for_each(|fact| show(&format!("  {fact}")));
            }
        }
        Err(why) => show(&format!("USB cameras: {why}")),
    }
    // CSI cameras give plain V4L2 clients raw sensor data only; their own program knows them.
    match Command::new(&args.rpicam).arg("--list-cameras").output() {
        Ok(out) if out.status.success() => {
            let text = String::from_utf8_lossy(&out.stdout);
            if text.contains(" : ") {
                found += 1;
                println!("CSI cameras, by {}\n  source: rpicam:?width=640&height=480&fps=30", args.rpicam);
                text.lines().filter(|l| !l.trim().is_empty()).for_each(|line| show(&format!("  {line}")));
            }
        }
        Ok(out) if out.status.code() == Some(NOT_STARTED) => {
            show(&format!("CSI cameras: {} cannot be started: {}", args.rpicam, out.status))
        }
        Ok(out) => show(&format!("CSI cameras: {} ended: {}", args.rpicam, out.status)),
        Err(e) => show(&format!("CSI cameras: {} cannot be started: {e}", args.rpicam)),
    }
    if found == 0 {
        println!("no camera found; plug one in, and add the user to the group `video`");
    }
    Ok((found == 0) as u8)
}
