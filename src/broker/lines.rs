//! What the log is to hear, as data: the shell says it.

use std::fmt;
use std::time::Instant;

use crate::notes::Notes;

/// One line.
#[derive(Debug)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is to be put right.
    Error,
    /// Something is not as it should be.
    Warn,
    /// For whoever looks.
    Info,
    /// For whoever asks for it.
    Debug,
}

/// Lines that are to be said, and warnings of which a peer could bring about many: those are held back.
#[derive(Default)]
pub(in crate::broker) struct Lines {
    held: Notes,
    due: Vec<Line>,
    /// Somebody hears what is said at [`Level::Debug`].
    pub(in crate::broker) shows_debug: bool,
}

impl Lines {
    /// One line that is always said.
    pub(in crate::broker) fn say(&mut self, level: Level, text: String) {
        self.due.push(Line { level, text });
    }

    /// Says it now, or later with how often, as [`Notes::take`] has it.
    pub(in crate::broker) fn warn(
        &mut self,
        now: Instant,
        kind: &'static str,
        whose: &str,
        text: fmt::Arguments<'_>,
    ) {
        if let Some(line) = self.held.take(now, kind, whose, text) {
            self.say(Level::Warn, line);
        }
    }

    /// As [`Notes::count`].
    pub(in crate::broker) fn count(&mut self, now: Instant, kind: &str, whose: &str) -> bool {
        self.held.count(now, kind, whose)
    }

    /// When something that was held back is due.
    pub(in crate::broker) fn next_at(&self) -> Option<Instant> {
        self.held.next_at()
    }

    /// What is to be said now.
    pub(in crate::broker) fn take_due(&mut self, now: Instant) -> Vec<Line> {
        let due = &mut self.due;
        let mut say = |text| {
            due.push(Line {
                level: Level::Warn,
                text,
            })
        };
        self.held.due(now, &mut say);
        std::mem::take(&mut self.due)
    }

    /// All that is left to be said.
    pub(in crate::broker) fn take_all(&mut self) -> Vec<Line> {
        let due = &mut self.due;
        self.held.all(|text| {
            due.push(Line {
                level: Level::Warn,
                text,
            })
        });
        std::mem::take(&mut self.due)
    }
}
