//! Questions on a terminal, and their answers.

use super::super::entered::lines;
use crate::cli::Refused;
use crate::terminal::{escaped, fitted};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

/// How soon a signal or an answer is seen.
const LOOK: Duration = Duration::from_millis(50);
/// Lines that wait to be answers.
const WAITING: usize = 64;
/// Keys that stop or kill a program: they end the conversation too, or would leave the gate active.
const KEYS: [i32; 2] = [signal_hook::consts::SIGQUIT, signal_hook::consts::SIGTSTP];

/// Who answers.
pub(super) struct Person {
    entered: Receiver<String>,
    /// What was entered and is no answer yet.
    waiting: RefCell<VecDeque<String>>,
    /// Whether standard input has ended.
    has_ended: Cell<bool>,
    at_terminal: bool,
    signalled: Arc<AtomicBool>,
}

impl Person {
    /// Listens to standard input; a signal ends the conversation at the next question or part.
    pub(super) fn new() -> Result<Self, Refused> {
        let signalled = crate::cli::signals::flag(&KEYS)?;
        let at_terminal = std::io::stdin().is_terminal();
        Ok(Self { entered: lines(), waiting: RefCell::default(), has_ended: Cell::new(false), at_terminal, signalled })
    }

    /// Says something.
    pub(super) fn tell(&self, what: &str) {
        println!("{}", fitted(&std::io::stdout(), &escaped(what), 2));
    }

    /// An error where a signal came, or nobody can answer any more.
    pub(super) fn stopped(&self) -> Result<(), Refused> {
        if self.signalled.load(Ordering::Relaxed) {
            return Err("stopped by a signal; nothing was written".into());
        }
        let mut waiting = self.waiting.borrow_mut();
        while waiting.len() < WAITING && !self.has_ended.get() {
            match self.entered.try_recv() {
                Ok(line) => waiting.push_back(line),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.has_ended.set(true),
            }
        }
        if self.has_ended.get() && waiting.is_empty() { Err(ended()) } else { Ok(()) }
    }

    /// A line that was entered meanwhile.
    pub(super) fn entered(&self) -> Result<Option<String>, Refused> {
        self.stopped()?;
        Ok(self.waiting.borrow_mut().pop_front())
    }

    /// At a terminal, what was entered before there was a question is an answer to none. A program
    /// may write its answers ahead.
    pub(super) fn forget(&self) -> Result<(), Refused> {
        while self.at_terminal && self.entered()?.is_some() {}
        Ok(())
    }

    /// The next line that is entered, without what stands around it.
    fn line(&self) -> Result<String, Refused> {
        loop {
            if let Some(line) = self.entered()? {
                return Ok(line.trim().to_string());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks until `read` takes the answer. `default`: what an empty answer is.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Refused> {
        loop {
            self.forget()?;
            let shown = default.map_or(String::new(), |default| format!(" [{default}]"));
            print!("{}: ", fitted(&std::io::stdout(), &escaped(&format!("{question}{shown}")), 2));
            std::io::stdout().flush()?;
            let line = self.line()?;
            match read(if line.is_empty() { default.unwrap_or("") } else { &line }) {
                Ok(answer) => return Ok(answer),
                Err(why) => self.tell(&why),
            }
        }
    }

    /// Asks for one of some words, the first being the default; what it stands for.
    pub(super) fn choose<T: Copy>(&mut self, question: &str, words: &[(&'static str, T)]) -> Result<T, Refused> {
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" | ");
        self.ask(&format!("{question} ({all})"), words.first().map(|(word, _)| *word), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(format!("expected {all}"))
        })
    }

    /// Asks for one of a list by its number, the first being the default; its place.
    pub(super) fn pick(&mut self, question: &str, list: &[&str]) -> Result<usize, Refused> {
        list.iter().enumerate().for_each(|(i, what)| println!("  {}  {what}", i + 1));
        self.ask(question, Some("1"), |text| {
            let place = text.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < list.len());
            place.ok_or(format!("expected a number from 1 to {}", list.len()))
        })
    }

    /// Asks for whole milliseconds.
    pub(super) fn milliseconds(&mut self, question: &str, default: u64, most: u64) -> Result<u64, Refused> {
        self.ask(question, Some(&default.to_string()), |text| milliseconds(text, most))
    }
}

/// Whole milliseconds as they are entered.
pub(super) fn milliseconds(text: &str, most: u64) -> Result<u64, String> {
    let value = text.parse().ok().filter(|ms| (1..=most).contains(ms));
    value.ok_or(format!("expected milliseconds, 1 to {most}"))
}

fn ended() -> Refused {
    "standard input ended before all was asked; nothing was written".into()
}
