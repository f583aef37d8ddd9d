//! A camera program as a child process that never outlives this one, and whose last words are kept.
//!
//! It runs in a process group of its own, so that its helpers end with it. The group is led by a
//! second small process, the *keeper*, which waits on a pipe that only this process holds: however
//! this process ends, the pipe closes and the keeper ends the group. It is there before the program
//! is, so there is no moment at which a killed process leaves the program behind.

use crate::terminal::without_sequences;
use rustix::process::{Pid, Signal, kill_process_group, setpgid};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest line that is kept of what the program says.
const MAX_WORDS: usize = 300;

pub(super) struct CameraProgram {
    child: Child,
    keeper: Option<Child>,
    /// The last line of its standard error that says something.
    words: Arc<Mutex<String>>,
}

impl CameraProgram {
    /// Starts it; its standard output is the caller's to read.
    pub(super) fn start(command: &mut Command) -> std::io::Result<(Self, ChildStdout)> {
        // Without a keeper (no shell) only a killed process would leave its program behind.
        let keeper = Command::new("sh")
            .args(["-c", "read _; kill -KILL 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .ok();
        let group = keeper.as_ref().and_then(|k| i32::try_from(k.id()).ok()).unwrap_or(0);
        // The keeper makes the group itself. Where `spawn` may return before it has (under
        // qemu-user), the program could not join it: so it is made from here too. An error says
        // that the keeper was first.
        if let Some(leader) = Pid::from_raw(group) {
            let _ = setpgid(Some(leader), Some(leader));
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(group);
        let words = Arc::new(Mutex::new(String::new()));
        let mut program = match command.spawn() {
            Ok(child) => Self { child, keeper, words },
            Err(e) => {
                end(keeper);
                return Err(e);
            }
        };
        if let Some(mut stderr) = program.child.stderr.take() {
            let words = program.words.clone();
            std::thread::spawn(move || listen(&mut stderr, &words));
        }
        let stdout = program.child.stdout.take();
        stdout.map(|out| (program, out)).ok_or_else(|| std::io::Error::other("no pipe from the program"))
    }

    /// Why it gives no more frames: its output has ended.
    pub(super) fn why_ended(&mut self) -> String {
        /// How long a program that has closed its output may take to end.
        const PATIENCE: Duration = Duration::from_millis(300);
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => break None,
            }
        };
        // Its last words may still be on their way.
        std::thread::sleep(Duration::from_millis(20));
        let how = status.map_or("closed its output but goes on".into(), |s| format!("ended: {s}"));
        self.last_words().map_or(format!("the camera program {how}"), |words| format!("the camera program {how}: {words}"))
    }

    /// The last line that it wrote to its standard error.
    pub(super) fn last_words(&self) -> Option<String> {
        self.words.lock().map(|w| w.clone()).ok().filter(|words| !words.is_empty())
    }
}

impl Drop for CameraProgram {
    fn drop(&mut self) {
        // The group's number stays its own until its leader has been waited for. The program runs
        // for ever by itself; nothing is lost by ending it.
        let leader = self.keeper.as_ref().unwrap_or(&self.child).id();
        if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        end(self.keeper.take());
    }
}

fn end(keeper: Option<Child>) {
    if let Some(mut keeper) = keeper {
        let _ = keeper.kill();
        let _ = keeper.wait();
    }
}

/// Keeps the last line that is not empty, until the program has closed its standard error.
fn listen(stderr: &mut dyn Read, words: &Mutex<String>) {
    let (mut bytes, mut line) = ([0; 512], Vec::with_capacity(MAX_WORDS));
    let keep = |line: &mut Vec<u8>| {
        // Colours and control characters are for a terminal.
        let text = without_sequences(&String::from_utf8_lossy(line));
        let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !text.is_empty()
            && let Ok(mut words) = words.lock()
        {
            *words = text;
        }
        line.clear();
    };
    loop {
        match stderr.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => {
                for &byte in &bytes[..n] {
                    match byte {
                        b'\n' => keep(&mut line),
                        _ if line.len() < MAX_WORDS => line.push(byte),
                        _ => {}
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    keep(&mut line);
}
