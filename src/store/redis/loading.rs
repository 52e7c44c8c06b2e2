//! The names of all groups, read in pieces while calls are served: after each connect, and when keys
//! have vanished.
//!
//! What is heard meanwhile counts more than what was read. Lists of groups wait until all names are
//! there; whose key a read is of is asked for one by one until then.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::id::GroupKey;
use crate::shard::Question;
use crate::time::Rarely;

use super::Redis;
use super::answers;
use super::error::Fault;
use super::hearing::Of;
use super::listing::{Listing, NAME_UNITS};
use super::message::read_names;
use super::names::{GROUPS, Names, PREFIX, TIMES, is_ambiguous, redis_key};
use super::work::{Asker, Job, Piece, Work};

/// Entries that Redis looks at for one answer.
const PIECE_LEN: usize = 1000;
/// Groups of which others have told, that are looked for at once; beyond them all names are read again.
const FINDING_MAX: usize = 1024;
/// How often it is said how far the reading is, and how often all is read again for others' sake.
const SAY_EVERY: Duration = Duration::from_secs(2);
const AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How often the names of a Redis with few keys are read again, whatever was told: others may have made
/// and removed groups past everybody.
const ROUND_EVERY: Duration = Duration::from_secs(30);
const FEW_KEYS: u64 = 100_000;

/// All names while they are read.
pub(super) struct Loading {
    names: Names,
    /// Joined names that were heard of meanwhile.
    touched: HashSet<String>,
    /// Groups that the index names and whose keys were not found yet, and all whose keys were.
    indexed: HashSet<String>,
    indexed_len: usize,
    found: HashSet<String>,
    began: Instant,
    say: Rarely,
    has_said: bool,
}

/// What is known of names as a whole.
pub(super) struct Known {
    /// Nothing was missed since they were read.
    is_whole: bool,
    loading: Option<Box<Loading>>,
    /// Lists that wait for the names, and until when.
    lists: Vec<(Asker, Option<Box<str>>, Instant)>,
    /// Redis can be asked for the keys of hashes alone: it is version 6 or later.
    by_type: bool,
    /// Others have told of more groups than can be looked for.
    is_due: bool,
    /// Groups that others have emptied, by joined name: what is kept of them goes.
    gone: Option<std::collections::hash_set::IntoIter<String>>,
    read_at: Option<Instant>,
    /// Keys of any kind, when that was last told.
    pub(super) keys_len: Option<u64>,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            is_whole: false,
            loading: None,
            lists: Vec::new(),
            by_type: true,
            is_due: false,
            gone: None,
            read_at: None,
            keys_len: None,
        }
    }
}

impl Known {
    /// Whether something of emptied groups is still to go.
    pub(super) fn has_gone(&self) -> bool {
        self.gone.is_some()
    }
}

impl Redis {
    pub(super) fn names_are_whole(&self) -> bool {
        self.known.is_whole
    }

    /// Reads them all, beside what else is done.
    pub(super) fn load_names(&mut self) {
        let began = Instant::now();
        if self.known.loading.is_some() || !self.link.is_up() {
            return;
        }
        let mut say = Rarely::every(SAY_EVERY);
        say.ask(began);
        self.known.is_due = false;
        self.known.loading = Some(Box::new(Loading {
            names: Names::default(),
            touched: HashSet::new(),
            indexed: HashSet::new(),
            indexed_len: 0,
            found: HashSet::new(),
            began,
            say,
            has_said: false,
        }));
        self.push_piece(Piece::Index("0".to_owned()));
    }

    fn push_piece(&mut self, piece: Piece) {
        self.calls.push(Job::own(Work::Names(piece)));
    }

    pub(super) fn pack_piece(&self, piece: &Piece) -> Cmd {
        let mut command = Cmd::new();
        match piece {
            Piece::Index(cursor) => command.arg("HSCAN").arg(GROUPS).arg(cursor),
            Piece::Times(cursor) => command.arg("HSCAN").arg(TIMES).arg(cursor),
            Piece::Keys(cursor) => {
                command.arg("SCAN").arg(cursor);
                command.arg("MATCH").arg(format!("{PREFIX}*"))
            }
        };
        command.arg("COUNT").arg(PIECE_LEN);
        if matches!(piece, Piece::Keys(_)) && self.known.by_type {
            command.arg("TYPE").arg("hash");
        }
        command
    }

    pub(super) fn take_piece(&mut self, piece: Piece, value: Value, now: Instant) {
        if let Some(error) = answers::error_of(&value) {
            if matches!(piece, Piece::Keys(_)) && self.known.by_type {
                self.known.by_type = false;
                return self.push_piece(piece);
            }
            return self.cannot_load(&error, now);
        }
        let Some((cursor, entries)) = piece_of(value) else {
            return self.cannot_load(&Fault::Unexpected.to_string(), now);
        };
        let is_last = cursor == "0";
        let next = match piece {
            Piece::Index(_) => {
                self.take_index(entries);
                if is_last {
                    Piece::Keys(cursor)
                } else {
                    Piece::Index(cursor)
                }
            }
            Piece::Keys(_) => {
                self.take_keys(entries);
                if is_last {
                    Piece::Times(cursor)
                } else {
                    Piece::Keys(cursor)
                }
            }
            Piece::Times(_) => {
                self.take_times(entries, now);
                if is_last {
                    return self.has_loaded(now);
                }
                Piece::Times(cursor)
            }
        };
        self.say_how_far(now);
        self.push_piece(next);
    }

    fn take_index(&mut self, entries: Vec<Value>) {
        let Some(loading) = &mut self.known.loading else {
            return;
        };
        for names in entries.into_iter().skip(1).step_by(2) {
            let key = answers::bytes(names).and_then(|names| read_names(&names));
            if let Some(key) = key
                && !loading.touched.contains(key.joined())
            {
                loading.indexed_len += usize::from(loading.indexed.insert(key.joined().to_owned()));
                loading.names.enter(&key);
            }
        }
    }

    fn take_keys(&mut self, entries: Vec<Value>) {
        let Some(loading) = &mut self.known.loading else {
            return;
        };
        for key in entries.into_iter().filter_map(answers::bytes) {
            let key = String::from_utf8(key).unwrap_or_default();
            let Some(joined) = key.strip_prefix(PREFIX) else {
                continue;
            };
            if loading.found.insert(joined.to_owned())
                && !loading.indexed.remove(joined)
                && !loading.touched.contains(joined)
            {
                loading.names.enter_unnamed(joined);
            }
        }
    }

    /// Times that a crash left behind, of groups that are no more, go.
    fn take_times(&mut self, entries: Vec<Value>, now: Instant) {
        let keys = entries.into_iter().step_by(2).filter_map(answers::bytes);
        for key in keys {
            let key = String::from_utf8(key).unwrap_or_default();
            let found = self.known.loading.as_ref().map(|loading| &loading.found);
            if let Some(joined) = key.strip_prefix(PREFIX)
                && found.is_some_and(|found| !found.contains(joined))
            {
                self.forget_later(joined.to_owned(), false, now);
            }
        }
    }

    /// All names are read.
    fn has_loaded(&mut self, now: Instant) {
        let Some(loading) = self.known.loading.take() else {
            return;
        };
        let Loading {
            mut names,
            touched,
            indexed,
            found,
            ..
        } = *loading;
        self.known.gone = Some(indexed.into_iter());
        if loading.has_said {
            tracing::info!(
                "{}: the names of all {} groups are read, in {} ms",
                self.shown,
                found.len(),
                now.saturating_duration_since(loading.began).as_millis(),
            );
        }
        // What is being listed is listed anew: all names are others.
        let begun = std::mem::take(&mut self.names.listings);
        names.listings = begun.into_iter().map(Listing::restart).collect();
        let old = std::mem::replace(&mut self.names, names);
        self.chores.drop_later(old.into_rubbish());
        self.chores.drop_later(found.into_iter().map(drop));
        self.chores.drop_later(touched.into_iter().map(drop));
        self.known.is_whole = true;
        self.known.read_at = Some(now);
        for (asker, stream, until) in std::mem::take(&mut self.known.lists) {
            self.list(asker, stream, until);
        }
    }

    /// What is kept of groups that others have emptied goes.
    pub(super) fn go_on_forgetting(&mut self, now: Instant) {
        while self.chores.units > 0
            && let Some(gone) = &mut self.known.gone
        {
            self.chores.spend(NAME_UNITS);
            match gone.next() {
                Some(joined) => self.forget_later(joined, true, now),
                None => self.known.gone = None,
            }
        }
    }

    fn say_how_far(&mut self, now: Instant) {
        let Some(loading) = &mut self.known.loading else {
            return;
        };
        if loading.say.ask(now).is_some() {
            loading.has_said = true;
            tracing::info!(
                "{}: reading the names of groups, {} of them so far; lists of groups wait, all else is \
                 served",
                self.shown,
                loading.found.len().max(loading.indexed_len),
            );
        }
    }

    /// The names are read again after a while.
    fn cannot_load(&mut self, cause: &str, now: Instant) {
        tracing::warn!("{}: cannot read the names of groups: {cause}", self.shown);
        self.known.loading = None;
        self.known.is_due = true;
        self.known.read_at = Some(now);
        for (asker, stream, until) in std::mem::take(&mut self.known.lists) {
            self.refuse_pending(&Of::Listing(asker, stream, until), cause);
        }
    }

    /// The connections are lost: what others do now is not heard of.
    pub(super) fn drop_names(&mut self, cause: &str) {
        self.known.is_whole = false;
        self.known.loading = None;
        self.known.read_at = None;
        self.known.gone = None;
        let begun = std::mem::take(&mut self.names.listings);
        let begun = begun.into_iter().map(|listing| {
            let Listing {
                asker,
                stream,
                until,
                ..
            } = listing;
            (asker, stream, until)
        });
        let waiting = std::mem::take(&mut self.known.lists);
        for (asker, stream, until) in begun.chain(waiting) {
            self.refuse_pending(&Of::Listing(asker, stream, until), cause);
        }
    }

    /// A list, at a point where everything before it was heard.
    pub(super) fn list(&mut self, asker: Asker, stream: Option<Box<str>>, until: Instant) {
        if !self.known.is_whole {
            return self.known.lists.push((asker, stream, until));
        }
        let listing = Listing::new(asker, stream, until);
        self.names.listings.push_back(listing);
    }

    pub(super) fn expire_listings(&mut self, now: Instant) {
        let lists = std::mem::take(&mut self.known.lists);
        let (late, left) = lists.into_iter().partition(|(.., until)| *until <= now);
        self.known.lists = left;
        let late: Vec<_> = late;
        for (asker, stream, until) in late {
            let cause = "timed out, the names of groups are still being read";
            self.refuse_pending(&Of::Listing(asker, stream, until), cause);
        }
    }

    pub(super) fn has_lists(&self) -> bool {
        !self.known.lists.is_empty()
    }

    // What is heard and found out beside.

    pub(super) fn enter_name(&mut self, key: &GroupKey) {
        self.names.enter(key);
        if let Some(loading) = &mut self.known.loading {
            loading.names.enter(key);
            loading.touched.insert(key.joined().to_owned());
        }
    }

    pub(super) fn remove_name(&mut self, key: &GroupKey) {
        self.names.remove(key);
        if let Some(loading) = &mut self.known.loading {
            loading.names.remove(key);
            loading.touched.insert(key.joined().to_owned());
        }
    }

    pub(super) fn remove_joined_name(&mut self, joined: &str) {
        self.names.remove_joined(joined);
        if let Some(loading) = &mut self.known.loading {
            loading.names.remove_joined(joined);
            loading.touched.insert(joined.to_owned());
        }
    }

    /// Others have told of a group. It has a name here once it was found.
    pub(super) fn find_later(&mut self, key: &GroupKey) {
        if self.names.has(key) || self.hearing.finding.contains(key.joined()) {
            return;
        }
        if self.hearing.finding.len() >= FINDING_MAX {
            self.known.is_due = true;
            return;
        }
        self.hearing.finding.insert(key.joined().to_owned());
        self.calls.push(Job::own(Work::Find(key.clone())));
    }

    pub(super) fn take_find(&mut self, key: &GroupKey, value: Value) {
        self.hearing.finding.remove(key.joined());
        // Whose a key is that may be two pairs', no stranger's message says.
        if answers::number(value).is_some_and(|len| len > 0) && !self.names.is_of_another(key) {
            self.enter_name(key);
        }
    }

    /// With each beat: what could not be found one by one.
    pub(super) fn tend_names(&mut self, now: Instant) {
        let Known {
            read_at,
            is_due,
            keys_len,
            ..
        } = self.known;
        let is_past = |time| read_at.is_none_or(|at| at + time <= now);
        let has_few = keys_len.is_some_and(|len| len <= FEW_KEYS);
        if (is_due && is_past(AGAIN_EVERY)) || (has_few && is_past(ROUND_EVERY)) {
            self.load_names();
        }
    }

    /// Before a read of a key that may be two pairs': whose it is.
    pub(super) fn ask_owner(&mut self, question: &Question) {
        let key = match question {
            Question::Get { .. }
            | Question::List { .. }
            | Question::Follow { .. }
            | Question::Update { .. } => question.group(),
            _ => None,
        };
        if let Some(key) = key.filter(|key| is_ambiguous(key)) {
            self.calls.push(Job::own(Work::Owner(key.clone())));
        }
    }

    pub(super) fn pack_owner(key: &GroupKey) -> Cmd {
        let mut command = redis::cmd("HGET");
        command.arg(GROUPS).arg(redis_key(key));
        command
    }

    pub(super) fn take_owner(&mut self, value: Value) {
        if let Some(owner) = answers::bytes(value).and_then(|names| read_names(&names)) {
            self.names.enter(&owner);
        }
    }
}

/// The next cursor, and the entries.
fn piece_of(value: Value) -> Option<(String, Vec<Value>)> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    let cursor = parts.next().and_then(answers::bytes)?;
    let Some(Value::Array(entries)) = parts.next() else {
        return None;
    };
    Some((String::from_utf8(cursor).ok()?, entries))
}
