//! Whom this host keeps as members, with how many sockets each, and what of it Redis has still to be told.
//!
//! Pure: no connection, no command, no clock. A run is this host's name there from its start on, or from
//! when others have found it dead: then all is told anew by another name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::members::{connections_in, renewed, value_of};

/// Words under way at once: calls of others go between them.
const UNDER_WAY_MAX: usize = 256;
/// What Redis has refused is told again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// Whom this host keeps, and by which name.
pub(super) struct Keeping {
    /// What stands before the `#` of its runs: the machine and the port.
    place: String,
    run: Arc<str>,
    state: Life,
    members: HashMap<(GroupKey, ItemId), Kept>,
    to_say: VecDeque<(GroupKey, ItemId)>,
    again: VecDeque<(Instant, GroupKey, ItemId)>,
    under_way: usize,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Redis does not know it.
    New,
    /// It is there, and its lease is renewed.
    Kept,
    /// It has ended in good order.
    Ended,
}

struct Kept {
    data: Text,
    connections: u32,
    /// One of its sockets has come since that was told.
    has_come: bool,
    /// Its data is another than was told.
    is_other: bool,
    /// It stands in `to_say`, in `again`, or is under way.
    is_queued: bool,
    /// It has changed since that went out.
    has_changed: bool,
}

/// What is told of one member.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) key: GroupKey,
    pub(super) item: ItemId,
    pub(super) run: Arc<str>,
    /// For a run that has ended, whose member this was.
    pub(super) is_of_ended: bool,
    pub(super) connections: u32,
    pub(super) has_come: bool,
    pub(super) is_other: bool,
    data: Text,
    pub(super) seen: Seen,
}

/// What stands in Redis of a member, by its last word.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Of the record; 0: there is none.
    pub(super) number: u64,
    pub(super) value: Option<Text>,
    /// The value is no text: it is replaced.
    pub(super) raw: Option<Vec<u8>>,
    /// Sockets at other hosts that live.
    pub(super) others: u32,
    /// Some host was not seen for long, and may come back.
    pub(super) is_found: bool,
    /// The data that was told last.
    pub(super) before: Option<Text>,
}

/// What Redis says to a word.
pub(super) enum Said {
    /// It is so, whatever was written.
    Done,
    /// Something else stands there than it was made of.
    Other(Box<Seen>),
    /// The run is dead.
    Fenced,
    /// It was refused, or nobody knows.
    Refused,
}

impl Keeping {
    pub(super) fn new(place: String) -> Keeping {
        let run = run_in(&place);
        Keeping {
            place,
            run,
            state: Life::New,
            members: HashMap::new(),
            to_say: VecDeque::new(),
            again: VecDeque::new(),
            under_way: 0,
        }
    }

    pub(super) fn run(&self) -> &Arc<str> {
        &self.run
    }

    pub(super) fn life(&self) -> Life {
        self.state
    }

    /// A member has so many sockets here from now on.
    pub(super) fn keep(&mut self, key: GroupKey, item: ItemId, data: Text, connections: u32) {
        let of = (key, item);
        match self.members.get_mut(&of) {
            Some(kept) => {
                kept.has_come |= connections > kept.connections;
                kept.is_other |= kept.data != data;
                kept.connections = connections;
                kept.data = data;
                kept.has_changed = true;
            }
            None if connections == 0 => return,
            None => {
                let kept = Kept {
                    data,
                    connections,
                    has_come: true,
                    is_other: true,
                    is_queued: false,
                    has_changed: true,
                };
                self.members.insert(of.clone(), kept);
            }
        }
        self.queue(of);
    }

    fn queue(&mut self, of: (GroupKey, ItemId)) {
        if let Some(kept) = self.members.get_mut(&of)
            && !std::mem::replace(&mut kept.is_queued, true)
        {
            self.to_say.push_back(of);
        }
    }

    /// What is to be told next.
    pub(super) fn next_word(&mut self, now: Instant) -> Option<Word> {
        if self.state != Life::Kept || self.under_way >= UNDER_WAY_MAX {
            return None;
        }
        while let Some((_, key, item)) = self.again.pop_front_if(|(at, ..)| *at <= now) {
            self.to_say.push_back((key, item));
        }
        let of = self.to_say.pop_front()?;
        let kept = self.members.get_mut(&of)?;
        kept.has_changed = false;
        self.under_way += 1;
        let (key, item) = of;
        Some(Word {
            run: Arc::clone(&self.run),
            is_of_ended: false,
            connections: kept.connections,
            has_come: kept.has_come,
            is_other: kept.is_other,
            data: Text::clone(&kept.data),
            seen: Seen::default(),
            key,
            item,
        })
    }

    /// When there is something to be told again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        let (at, ..) = self.again.front()?;
        (self.state == Life::Kept).then_some(*at)
    }

    /// Redis's word on a word of this run. Gives it back if it is to go out once more.
    pub(super) fn answered(&mut self, mut word: Word, said: Said, now: Instant) -> Option<Word> {
        let is_ours = word.run == self.run && !word.is_of_ended;
        let of = (word.key.clone(), ItemId::clone(&word.item));
        if let Said::Other(seen) = said {
            if word.is_of_ended {
                word.seen = *seen;
                return Some(word);
            }
            if let Some(kept) = self.members.get_mut(&of).filter(|_| is_ours) {
                kept.has_changed = false;
                word.connections = kept.connections;
                word.has_come = kept.has_come;
                word.is_other = kept.is_other;
                word.data = Text::clone(&kept.data);
                word.seen = *seen;
                return Some(word);
            }
            return None;
        }
        if !is_ours {
            return None;
        }
        self.under_way = self.under_way.saturating_sub(1);
        let kept = self.members.get_mut(&of)?;
        kept.is_queued = false;
        match said {
            Said::Done if kept.has_changed => {
                kept.has_come &= kept.connections > word.connections;
                kept.is_other &= kept.data != word.data;
                self.queue(of);
            }
            Said::Done if kept.connections == 0 => drop(self.members.remove(&of)),
            Said::Done => (kept.has_come, kept.is_other) = (false, false),
            Said::Fenced => {
                self.queue(of);
                self.is_fenced();
            }
            Said::Refused => {
                kept.is_queued = true;
                self.again.push_back((now + AGAIN, of.0, of.1));
            }
            Said::Other(_) => {}
        }
        None
    }

    /// Redis has taken the run, or renewed its lease.
    pub(super) fn is_kept(&mut self) {
        if self.state == Life::New {
            self.state = Life::Kept;
        }
    }

    /// Others have found the run dead: another one begins, and all whom this host keeps come anew.
    pub(super) fn is_fenced(&mut self) {
        if self.state == Life::Kept {
            self.run = run_in(&self.place);
            self.state = Life::New;
            self.say_all(true);
        }
    }

    /// The connection stands anew: what was told may be lost, or be another's by now.
    pub(super) fn say_all_again(&mut self) {
        self.say_all(false);
    }

    /// Others may have taken the run for ended for a while, and have told of its members without it.
    pub(super) fn say_each_again(&mut self) {
        for (of, kept) in &mut self.members {
            kept.has_changed = true;
            if !std::mem::replace(&mut kept.is_queued, true) {
                self.to_say.push_back(of.clone());
            }
        }
    }

    fn say_all(&mut self, has_come: bool) {
        self.under_way = 0;
        self.again.clear();
        self.to_say.clear();
        for (of, kept) in &mut self.members {
            kept.has_come |= has_come;
            kept.is_queued = true;
            self.to_say.push_back(of.clone());
        }
    }

    /// The process ends: nobody leaves by that.
    pub(super) fn end(&mut self) {
        self.state = Life::Ended;
    }
}

impl Word {
    /// A member of a run that has ended.
    pub(super) fn of_ended(run: Arc<str>, key: GroupKey, item: ItemId) -> Word {
        Word {
            key,
            item,
            run,
            is_of_ended: true,
            connections: 0,
            has_come: false,
            is_other: false,
            data: "".into(),
            seen: Seen::default(),
        }
    }

    /// What is to be kept as told, and what its item is to be.
    pub(super) fn texts(&self) -> (Text, Text) {
        let seen = &self.seen;
        let before = seen.before.as_ref();
        let is_new = seen.number == 0 && !self.is_of_ended;
        let now = match before {
            Some(before) if !self.is_other && !is_new => before,
            _ => &self.data,
        };
        let old = seen.value.as_deref();
        let mut connections = (seen.others + self.connections) as usize;
        if seen.is_found {
            connections = connections.max(old.and_then(connections_in).unwrap_or(0));
        }
        let connections = connections.max(1);
        let value = match old {
            Some(old) if old.starts_with('{') => {
                let before = before.map_or("{}", |before| &**before);
                renewed(old, (before, &**now), &self.item, connections)
            }
            _ => value_of(now, &self.item, connections),
        };
        (Text::clone(now), value.into())
    }
}

/// Names of places may be anything; these characters stand between the parts of a record.
fn run_in(place: &str) -> Arc<str> {
    let place = place.replace(['#', '=', ';', ' ', '\n'], "_");
    format!("{place}#{}", Uuid::new_v4()).into()
}
