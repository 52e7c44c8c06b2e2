//! Members over hosts: what this host tells Redis of those whom it keeps, its lease there, and what it does
//! for runs of hosts that have ended.
//!
//! One lease for all members of a run. May not know whom a run keeps: `keeping` does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::streams::StreamRules;
use crate::shard::{HeardEvent, Learned};
use crate::time::Rarely;

use super::Redis;
use super::answers;
use super::keeping::{Keeping, Life, Said, Seen, Word};
use super::message::{change_head, names_of, read_names, stored};
use super::names::{
    ENDS, GROUPS, RUNS, TIMES, TTLS, is_ambiguous, members_key, redis_key, run_key,
};
use super::refusals::shared_key;
use super::scripts::Script;
use super::work::{Job, Work};

/// Members of an ended run that are taken at once.
const ENDED_MAX: usize = 128;

/// When it is looked again whether Redis has taken what it was told before.
const RENEWAL_AGAIN: Duration = Duration::from_millis(50);

/// What the store knows of members and of the hosts that keep them.
pub(super) struct Members {
    keeping: Keeping,
    rules: Arc<StreamRules>,
    lease: Duration,
    /// When the lease is renewed next. None: that is under way.
    renew_at: Option<Instant>,
    /// When Redis was last told to renew it.
    told_at: Instant,
    /// Since when this host has looked without a break, by Redis's clock.
    since: Option<u64>,
    /// Words for ended runs that are under way.
    of_ended: usize,
    wants_more: bool,
    /// One of those words was refused.
    has_failed: bool,
    failures: Rarely,
}

impl Members {
    pub(super) fn new(
        rules: Arc<StreamRules>,
        lease: Duration,
        place: String,
        now: Instant,
    ) -> Members {
        Members {
            keeping: Keeping::new(place),
            rules,
            lease,
            renew_at: Some(now),
            told_at: now,
            since: None,
            of_ended: 0,
            wants_more: false,
            has_failed: false,
            failures: Rarely::default(),
        }
    }

    /// Whether the settings say that there are members.
    pub(super) fn are_set(&self) -> bool {
        self.rules.iter().any(|rule| rule.members.is_some())
    }

    pub(super) fn keep(&mut self, key: GroupKey, item: ItemId, data: Text, connections: u32) {
        self.keeping.keep(key, item, data, connections);
    }

    /// The connections stand: nothing is known of what others did meanwhile.
    pub(super) fn begin(&mut self, now: Instant) {
        self.keeping.say_all_again();
        (self.since, self.renew_at, self.of_ended) = (None, Some(now), 0);
    }

    /// The process ends in good order.
    pub(super) fn end(&mut self, now: Instant) {
        self.keeping.end();
        self.renew_at = Some(now);
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.keeping.again_at()
    }

    /// How long a run that was found ended is waited for.
    fn patience_ms(&self) -> u64 {
        let members = self.rules.iter().filter_map(|rule| rule.members.as_ref());
        let graces = members.map(|members| members.restart_grace_ms);
        graces.max().unwrap_or(0)
    }

    fn grace_ms(&self, key: &GroupKey) -> u64 {
        let rule = self.rules.of(key.stream());
        let members = rule.and_then(|rule| rule.members.as_ref());
        members.map_or(0, |members| members.grace_ms)
    }

    /// What the script that every host calls now and then is to do for this run, as it takes it.
    pub(super) fn pack_life(&mut self, command: &mut Cmd, now: Instant) {
        let takes = if self.of_ended == 0 { ENDED_MAX } else { 0 };
        self.pack_run(command, takes, now);
    }

    /// The same for the lease alone, whatever is under way; see [`Members::next_renewal_at`].
    pub(super) fn pack_renewal(&mut self, command: &mut Cmd, now: Instant) {
        self.renew_at = Some(now);
        self.pack_run(command, 0, now);
    }

    /// `takes`: so many members of ended runs.
    fn pack_run(&mut self, command: &mut Cmd, takes: usize, now: Instant) {
        if !self.are_set() {
            command.arg("").arg("").arg(0).arg(0).arg("").arg(0);
            return;
        }
        let is_due = self.renew_at.is_some_and(|at| at <= now);
        let does = match self.keeping.life() {
            Life::New => "begin",
            Life::Kept if is_due => "keep",
            Life::Kept => "look",
            Life::Ended if is_due => "end",
            Life::Ended => "rest",
        };
        if is_due {
            self.renew_at = None;
            self.told_at = now;
        }
        command.arg(&**self.keeping.run()).arg(does);
        command.arg(self.lease.as_millis() as u64);
        command.arg(self.patience_ms());
        let since = self.since.map(|since| since.to_string());
        command.arg(since.unwrap_or_default());
        command.arg(takes);
    }

    /// When the lease has to be renewed, though nobody has taken Redis's answer to the last time.
    pub(super) fn next_renewal_at(&self) -> Option<Instant> {
        let is_kept = self.are_set() && self.is_kept();
        is_kept.then(|| self.told_at + self.lease / 3)
    }

    /// The name of this host's run.
    #[cfg(test)]
    pub(super) fn run(&self) -> &Arc<str> {
        self.keeping.run()
    }

    /// What is to be told next.
    pub(super) fn next_word(&mut self, now: Instant) -> Option<Word> {
        self.keeping.next_word(now)
    }

    /// Whether Redis knows the run, as far as it was told.
    pub(super) fn is_kept(&self) -> bool {
        self.keeping.life() == Life::Kept
    }

    /// As the script takes it.
    pub(super) fn pack_word(&self, sha: &str, word: &Word) -> Cmd {
        let Word { key, item, .. } = word;
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha).arg(8);
        command.arg(GROUPS).arg(TIMES).arg(ENDS).arg(TTLS).arg(RUNS);
        command.arg(redis_key(key)).arg(members_key(key));
        command.arg(run_key(&word.run));
        command.arg(names_of(key)).arg(u8::from(is_ambiguous(key)));
        command.arg(change_head(key, item)).arg(&**item);
        command.arg(&*word.run);
        command.arg(if word.is_of_ended { "ended" } else { "own" });
        command.arg(word.connections);
        command.arg(u8::from(word.has_come));
        command.arg(u8::from(word.is_other));
        command.arg(self.grace_ms(key));
        let (data, value) = word.texts();
        let seen = &word.seen;
        command.arg(seen.number).arg(u8::from(seen.raw.is_some()));
        command.arg(seen.raw.as_deref().unwrap_or_default());
        command.arg(seen.others).arg(u8::from(seen.is_found));
        command.arg(&*data).arg(&*value);
        command
    }

    /// Redis's word on a word. Gives it back if it is to go out once more.
    pub(super) fn answered(&mut self, word: Word, said: Said, now: Instant) -> Option<Word> {
        let is_of_ended = word.is_of_ended;
        let is_refused = matches!(said, Said::Refused);
        let again = self.keeping.answered(word, said, now);
        if is_of_ended && again.is_none() {
            self.of_ended = self.of_ended.saturating_sub(1);
            self.has_failed |= is_refused;
            self.wants_more = self.of_ended == 0 && !self.has_failed;
        }
        again
    }

    /// All is told for an ended run that was asked for: there may be more. Asked once.
    pub(super) fn wants_more(&mut self) -> bool {
        std::mem::take(&mut self.wants_more)
    }

    /// What the script has said of runs. Gives what is to be told for one that has ended.
    pub(super) fn take_runs(
        &mut self,
        life: Value,
        time: Value,
        ended: Value,
        now: Instant,
    ) -> Vec<Word> {
        let life = answers::bytes(life);
        self.take_life(life.as_deref(), answers::number(time), now);
        let Value::Array(names) = ended else {
            return Vec::new();
        };
        let mut names = names.into_iter().filter_map(answers::bytes);
        let Some(run) = names.next().and_then(|run| String::from_utf8(run).ok()) else {
            return Vec::new();
        };
        let run: Arc<str> = run.into();
        let of = names.filter_map(|name| member_of(&name));
        let words = of.map(|(key, item)| Word::of_ended(Arc::clone(&run), key, item));
        let words: Vec<Word> = words.collect();
        self.of_ended += words.len();
        self.has_failed = false;
        words
    }

    /// What became of the run, and when. `None`: it was refused.
    fn take_life(&mut self, life: Option<&[u8]>, time: Option<u64>, now: Instant) {
        match life {
            Some(b"kept" | b"late") => {
                self.keeping.is_kept();
                if matches!(life, Some(b"late")) {
                    self.keeping.say_each_again();
                }
                self.since = self.since.or(time);
                self.renew_at.get_or_insert(now + self.lease / 3);
            }
            Some(b"fenced") => {
                self.keeping.is_fenced();
                (self.since, self.renew_at) = (None, Some(now));
            }
            Some(_) => {}
            // It may be refused to all: then nobody is dead of whom nothing is heard.
            None => (self.since, self.renew_at) = (None, Some(now)),
        }
    }
}

/// What Redis says to a word, and what came of it.
pub(super) struct Heard {
    pub(super) said: Said,
    /// What was written of the item, and when.
    pub(super) made: Option<(HeardEvent, u64)>,
    /// The group has no items any more, but a time.
    is_empty: bool,
    failure: Option<String>,
}

impl Heard {
    fn of(said: Said) -> Heard {
        Heard {
            said,
            made: None,
            is_empty: false,
            failure: None,
        }
    }

    fn refused(failure: Option<String>) -> Heard {
        let failure = failure.unwrap_or_else(|| "Redis answered something else".to_owned());
        Heard {
            failure: Some(failure),
            ..Heard::of(Said::Refused)
        }
    }

    pub(super) fn read(word: &Word, value: Value) -> Heard {
        let failure = answers::error_of(&value);
        let Value::Array(parts) = value else {
            return Heard::refused(failure);
        };
        let mut parts = parts.into_iter();
        let said = parts.next().and_then(answers::bytes).unwrap_or_default();
        match &*said {
            b"nothing" => Heard::of(Said::Done),
            b"fenced" => Heard::of(Said::Fenced),
            b"other" => Heard::of(Said::Other(Box::new(seen(&mut parts)))),
            b"done" | b"gone" => {
                let time = parts.next().and_then(answers::number).unwrap_or(0);
                let old = parts.next().and_then(answers::bytes);
                let old = old.and_then(|old| stored(&old).ok());
                let became = parts.next().and_then(answers::bytes);
                let event = match (&*said, old) {
                    (b"gone", old) => HeardEvent::Delete(old.unwrap_or_else(|| "null".into())),
                    (_, Some(_)) => HeardEvent::Update(word.texts().1),
                    (_, None) => HeardEvent::Create(word.texts().1),
                };
                Heard {
                    made: Some((event, time)),
                    is_empty: became.as_deref() == Some(b"gone"),
                    ..Heard::of(Said::Done)
                }
            }
            b"owned" => {
                let owner = parts.next().and_then(answers::bytes).unwrap_or_default();
                Heard::refused(Some(shared_key(&word.key, &owner)))
            }
            _ => Heard::refused(None),
        }
    }
}

fn seen(parts: &mut impl Iterator<Item = Value>) -> Seen {
    let raw = parts.next().and_then(answers::bytes);
    let mut number = || parts.next().and_then(answers::number).unwrap_or(0);
    let (number, others) = (number(), number() as u32);
    let is_found = parts.next().and_then(answers::bytes).as_deref() == Some(b"1");
    let before = parts.next().and_then(answers::bytes);
    let before = before.and_then(|before| String::from_utf8(before).ok());
    Seen {
        number,
        value: raw.as_deref().and_then(|raw| stored(raw).ok()),
        raw,
        others,
        is_found,
        before: before.filter(|before| !before.is_empty()).map(Text::from),
    }
}

impl Redis {
    /// Tells what is to be told.
    pub(super) fn tend_members(&mut self, now: Instant) {
        while let Some(word) = self.members.next_word(now) {
            self.calls.push(Job::own(Work::Keep(Box::new(word))));
        }
    }

    /// Renews the lease while nobody takes what Redis answers. Gives when that is to be done again.
    pub(super) fn renew_alone(&mut self, now: Instant) -> Option<Duration> {
        let at = self.members.next_renewal_at()?;
        if !self.link.is_up() {
            return None; // it comes back with what is read
        }
        if at > now {
            return Some(at - now);
        }
        if !self.link.has_room() {
            return Some(RENEWAL_AGAIN);
        }
        self.send_alone(Job::own(Work::Renew), now);
        Some(
            self.members
                .next_renewal_at()?
                .saturating_duration_since(now),
        )
    }

    /// What the script has said of runs: the life of this one, the time, and an ended one with members.
    pub(super) fn take_runs(&mut self, life: Value, time: Value, ended: Value, now: Instant) {
        let failure = answers::error_of(&life);
        let was_kept = self.members.is_kept();
        for word in self.members.take_runs(life, time, ended, now) {
            self.calls.push(Job::own(Work::Keep(Box::new(word))));
        }
        if was_kept && !self.members.is_kept() {
            tracing::warn!(
                "{}: others have taken this host for dead: whom it keeps as members comes anew",
                self.shown
            );
        }
        if let Some(failure) = failure {
            self.note_member_failure(&failure, now);
        }
    }

    pub(super) fn pack_word(&self, word: &Word) -> Cmd {
        self.members
            .pack_word(self.scripts.sha(Script::Member), word)
    }

    pub(super) fn take_word(&mut self, word: Word, value: Value, now: Instant) {
        let heard = Heard::read(&word, value);
        if let Some(failure) = &heard.failure {
            self.note_member_failure(failure, now);
        }
        if heard.is_empty {
            self.forget_later(word.key.joined().to_owned(), false, now);
        }
        if let Some((event, time)) = heard.made {
            self.has_accepted();
            self.learned.push(Learned::Made {
                key: word.key.clone(),
                item: ItemId::clone(&word.item),
                event,
                time,
                has_expired: false,
            });
        }
        if let Some(again) = self.members.answered(word, heard.said, now) {
            self.calls.push(Job::own(Work::Keep(Box::new(again))));
        }
        if self.members.wants_more() {
            self.ends.ask_at(now);
        }
    }

    fn note_member_failure(&mut self, cause: &str, now: Instant) {
        if let Some(more) = self.members.failures.ask(now) {
            tracing::warn!(
                "{}: members cannot be kept: {cause}; it is tried again; {more} more since the last such line",
                self.shown
            );
        }
    }
}

/// As the scripts call an item: how long its group's names are, these, and its own.
fn member_of(name: &[u8]) -> Option<(GroupKey, ItemId)> {
    let at = name.iter().position(|byte| *byte == b':')?;
    let len: usize = std::str::from_utf8(&name[..at]).ok()?.parse().ok()?;
    let rest = &name[at + 1..];
    let key = read_names(rest.get(..len)?)?;
    let item = std::str::from_utf8(rest.get(len..)?).ok()?;
    Some((key, item.into()))
}
