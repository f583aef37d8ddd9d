//! `tagpin cameras`: which cameras there are, what each offers, and the source string that opens
//! it.
//!
//! CSI cameras give plain V4L2 clients raw sensor data only, so the Pi's own program lists them. It
//! has a time limit, and what it says when it fails is shown: that tells more than its exit code.

use super::waiting::Waiting;
use super::{Refused, fitted, signals};
use crate::sources;
use crate::terminal::{escaped, without_sequences};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long the program that lists CSI cameras may take. It needs about a second.
const LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `cameras`.
#[derive(clap::Args, Debug)]
pub(super) struct Cameras {
    /// Program that lists CSI cameras, within 10 s
    #[arg(long, default_value = "rpicam-hello", value_name = "PROGRAM")]
    rpicam: String,
}

/// Prints a line. What a camera says of itself commands no terminal.
fn show(line: &str) {
    println!("{}", fitted(&escaped(line), 4));
}

/// How a C library or an emulator that starts a program in a child tells that it is not there.
const NOT_STARTED: i32 = 127;

/// How a program that was to list cameras ended.
enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It was stopped at the time limit.
    Limit,
    /// It was stopped because this program was.
    Signal,
}

/// What a program that was to list cameras said.
struct Said {
    ended: Ended,
    stdout: String,
    stderr: String,
}

/// Runs `program --list-cameras` in a process group of its own, which ends with it, at the time
/// limit, or when a signal comes.
fn listed(program: &str) -> std::io::Result<Said> {
    /// From one look at whether it has ended to the next.
    const NAP: Duration = Duration::from_millis(10);
    /// How long the ends of its pipes are waited for. One that has left its group may hold them.
    const PATIENCE: Duration = Duration::from_secs(1);
    let stopped = signals::flag(&[])?;
    let mut command = Command::new(program);
    command.arg("--list-cameras").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).spawn()?;
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let begin = Instant::now();
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Its number stays its own, and the group's, until `try_wait` below.
    let has_ended = || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        group.is_none_or(|id| waitid(WaitId::Pid(id), options).is_ok_and(|status| status.is_some()))
    };
    let cut_short = loop {
        match has_ended() {
            true => break None,
            false if stopped.load(Ordering::Acquire) => break Some(Ended::Signal),
            false if begin.elapsed() >= LIMIT => break Some(Ended::Limit),
            false => std::thread::sleep(NAP),
        }
    };
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let until = Instant::now() + PATIENCE;
    let text = |said: Receiver<Vec<u8>>| {
        let mut bytes = Vec::new();
        while let Ok(more) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            bytes.extend(more);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    // One that a driver holds up in the kernel is not ended even by KILL, and is not waited for.
    let ended = match (cut_short, child.try_wait()?) {
        (None, Some(status)) => Ended::Itself(status),
        (cut_short, _) => cut_short.unwrap_or(Ended::Limit),
    };
    Ok(Said { ended, stdout, stderr })
}

/// What comes through a pipe, read on a thread that is left behind where its end does not come.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    /// Bytes that are read; the list of a board has 4 kB.
    const MOST: u64 = 1 << 20;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        let (mut pipe, mut bytes) = (pipe.take(MOST), [0; 4096]);
        loop {
            match pipe.read(&mut bytes) {
                Ok(n) if n > 0 && send.send(bytes[..n].to_vec()).is_ok() => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
    receive
}

/// The number that a line of the list begins with, as in `0 : imx708 [4608x2592 10-bit RGGB]
/// (/base/...)`.
fn number(line: &str) -> Option<u32> {
    let (number, _) = line.split_once(" : ")?;
    number.trim().parse().ok()
}

/// Shows the last lines of what a program said that are not empty.
fn show_last(text: &str) {
    /// Lines that are shown.
    const LINES: usize = 3;
    /// Characters of each.
    const MOST: usize = 300;
    let text = without_sequences(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        show(&format!("  {}", line.chars().take(MOST).collect::<String>()));
    }
}

/// Lists CSI cameras: how many there are; `None` where nobody knows.
fn csi(program: &str) -> Option<usize> {
    let waiting = Waiting::new("the list of CSI cameras", format!("{} s at most", LIMIT.as_secs()));
    let said = listed(program);
    drop(waiting);
    let missing = |why: &dyn std::fmt::Display| {
        show(&format!("CSI cameras: {program} cannot be started: {why}; install rpicam-apps if there may be one"));
    };
    let Said { ended, stdout, stderr } = match said {
        Ok(said) => said,
        Err(e) => {
            missing(&e);
            return None;
        }
    };
    let how = match ended {
        Ended::Itself(status) if status.success() => {
            let count = stdout.lines().filter_map(number).count();
            show(&format!("CSI cameras, by {program}{}", if count == 0 { ": none" } else { "" }));
            for line in without_sequences(&stdout).lines().filter(|line| !line.trim().is_empty()) {
                show(&format!("  {line}"));
                if let Some(number) = number(line) {
                    show(&format!("    source: rpicam:{number}?width=640&height=480&fps=30"));
                }
            }
            if count == 0 {
                show_last(&stderr);
            }
            return Some(count);
        }
        Ended::Itself(status) if status.code() == Some(NOT_STARTED) => {
            missing(&status);
            return None;
        }
        Ended::Itself(status) => format!("ended: {status}"),
        Ended::Limit => format!("gave no list within {} s and was stopped; try it by hand", LIMIT.as_secs()),
        Ended::Signal => "was stopped by a signal".into(),
    };
    let says = if stderr.trim().is_empty() { "" } else { "; it said last:" };
    show(&format!("CSI cameras: {program} {how}{says}"));
    show_last(&stderr);
    None
}

pub(super) fn run(args: &Cameras) -> Result<u8, Refused> {
    let usb = match sources::cameras() {
        Ok(cameras) => {
            for camera in &cameras {
                show(&format!("{} ({})", camera.name, camera.path));
                show(&format!("  source: camera:{}", camera.path));
                camera.facts.iter().for_each(|fact| show(&format!("  {fact}")));
            }
            Some(cameras.len())
        }
        Err(why) => {
            show(&format!("USB cameras: {why}"));
            None
        }
    };
    let csi = csi(&args.rpicam);
    let found = usb.unwrap_or(0) + csi.unwrap_or(0);
    match (found, usb, csi) {
        (0, Some(_), Some(_)) => println!("no camera found; plug one in, and add the user to the group `video`"),
        (0, ..) => show("no camera found, but not every list could be had (see above): there may be one all the same"),
        _ => {}
    }
    Ok((found == 0) as u8)
}
