//! What the log is to hear, before anybody says it: [`Notes`] holds back warnings that a peer could fill the
//! log with, and [`Shown`] is how a line shows what a peer wrote.
//!
//! Each kind of warning is a line a second at most; what was held back is counted, and told when the second
//! is over or at the end of the thread. No log, no clock: whoever has them says the lines and hands in the
//! times. May not know what is warned of.

mod words;

use std::fmt;
use std::time::{Duration, Instant};

pub use words::{Shown, counted, steers};

/// How often one kind is told.
const EVERY: Duration = Duration::from_secs(1);
/// Kinds that differ by whose they are; what is beyond is told without.
const KINDS_MAX: usize = 64;

/// What one thread has told a moment ago, or holds back.
#[derive(Debug, Default)]
pub struct Notes(Vec<Kind>);

#[derive(Debug)]
struct Kind {
    what: &'static str,
    whose: Box<str>,
    told_at: Instant,
    /// The first that was held back since, and how many.
    text: String,
    held: u64,
}

impl Notes {
    /// Only counts one whose kind is held back already. False: it is to be told by [`Notes::take`], with
    /// words that whoever asks need not make before.
    pub fn count(&mut self, now: Instant, what: &str, whose: &str) -> bool {
        let mut kinds = self.0.iter_mut();
        let kind = kinds.find(|kind| kind.what == what && *kind.whose == *whose);
        let Some(kind) = kind.filter(|kind| kind.held > 0 && kind.told_at + EVERY > now) else {
            return false;
        };
        kind.held += 1;
        true
    }

    /// Counts so many more of a kind that is held back already.
    pub fn count_more(&mut self, what: &str, more: u64) {
        let mut kinds = self.0.iter_mut();
        if let Some(kind) = kinds.find(|kind| kind.what == what && kind.whose.is_empty()) {
            kind.held += more;
        }
    }

    /// Hands over all that was held back.
    pub fn all(&mut self, mut tell: impl FnMut(String)) {
        for mut kind in self.0.drain(..) {
            if let Some(line) = kind.line() {
                tell(line);
            }
        }
    }

    /// When something is due.
    pub fn next_at(&self) -> Option<Instant> {
        let held = self.0.iter().filter(|kind| kind.held > 0);
        held.map(|kind| kind.told_at + EVERY).min()
    }

    /// Gives the line if it is to be said now. None: it is said later, with how often. Those of one `what` and
    /// `whose` are one kind.
    pub fn take(
        &mut self,
        now: Instant,
        what: &'static str,
        whose: &str,
        text: fmt::Arguments<'_>,
    ) -> Option<String> {
        let is = |kind: &Kind, whose: &str| kind.what == what && *kind.whose == *whose;
        let known = self.0.iter().position(|kind| is(kind, whose));
        let whose = match known {
            None if self.0.len() >= KINDS_MAX => "",
            _ => whose,
        };
        let known = known.or_else(|| self.0.iter().position(|kind| is(kind, whose)));
        let Some(kind) = known.map(|known| &mut self.0[known]) else {
            self.0.push(Kind {
                what,
                whose: whose.into(),
                told_at: now,
                text: String::new(),
                held: 0,
            });
            return Some(text.to_string());
        };
        if kind.held == 0 && now.saturating_duration_since(kind.told_at) >= EVERY {
            kind.told_at = now;
            return Some(text.to_string());
        }
        if kind.held == 0 {
            kind.text = text.to_string();
        }
        kind.held += 1;
        None
    }

    /// Hands over what was held back for long enough.
    pub fn due(&mut self, now: Instant, mut tell: impl FnMut(String)) {
        if self.0.is_empty() {
            return;
        }
        let is_over = |kind: &Kind| now.saturating_duration_since(kind.told_at) >= EVERY;
        self.0.retain(|kind| kind.held > 0 || !is_over(kind));
        for kind in self.0.iter_mut().filter(|kind| is_over(kind)) {
            if let Some(line) = kind.line() {
                kind.told_at = now;
                tell(line);
            }
        }
    }
}

impl Kind {
    /// What is held back, as one line.
    fn line(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.text);
        match std::mem::take(&mut self.held) {
            0 => None,
            1 => Some(text),
            held => Some(format!("{text} (and {} more like it)", held - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(notes: &mut Notes, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        notes.due(now, |line| lines.push(line));
        lines
    }

    #[test]
    fn each_kind_is_a_line_a_second_and_nothing_is_left_untold() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut notes = Notes::default();
        let mut take = |ms, whose: &str, n: u32| {
            notes.take(after(ms), "fails", whose, format_args!("{whose} {n}"))
        };
        assert_eq!(take(0, "a", 1).as_deref(), Some("a 1"));
        assert_eq!(take(10, "b", 1).as_deref(), Some("b 1"), "another kind");
        assert_eq!(
            [take(20, "a", 2), take(30, "a", 3), take(999, "a", 4)],
            [None, None, None]
        );
        assert_eq!(take(500, "b", 2), None);
        assert!(notes.count(after(600), "fails", "a") && !notes.count(after(600), "fails", "c"));
        assert_eq!(notes.next_at(), Some(after(1000)));
        assert!(due(&mut notes, after(999)).is_empty());
        assert_eq!(due(&mut notes, after(1005)), ["a 2 (and 3 more like it)"]);
        assert_eq!(notes.next_at(), Some(after(1010)));
        assert_eq!(due(&mut notes, after(1010)), ["b 2"]);
        assert_eq!(notes.next_at(), None, "nobody is woken for nothing");
        assert!(due(&mut notes, after(3000)).is_empty() && notes.0.is_empty());
    }

    #[test]
    fn kinds_of_a_peers_making_are_bounded() {
        let now = Instant::now();
        let mut notes = Notes::default();
        let lines =
            (0..1000).filter_map(|n| notes.take(now, "fails", &n.to_string(), format_args!("{n}")));
        assert_eq!(lines.count(), KINDS_MAX + 1);
        assert_eq!(
            notes.take(now, "other", "x", format_args!("y")).as_deref(),
            Some("y")
        );
        let lines = due(&mut notes, now + EVERY);
        assert_eq!(
            lines,
            [format!(
                "{} (and {} more like it)",
                KINDS_MAX + 1,
                1000 - KINDS_MAX - 2
            )]
        );
    }
}
