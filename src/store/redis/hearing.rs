//! What is known of groups that somebody here follows, of marks on their way, and of what waits for
//! either.
//!
//! Sends nothing, and may not know what messages say.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use uuid::Uuid;

use crate::id::GroupKey;
use crate::shard::FromChannel;
use crate::time::Rarely;

use super::ahead::Ahead;
use super::answers::Cut;
use super::looks::{Looks, Notices};
use super::work::Asker;

/// What the store knows of the channel.
pub(super) struct Hearing {
    /// By joined name: names that join to the same stand side by side.
    pub(super) followed: HashMap<String, Vec<Followed>>,
    /// Marks and cuts that have not taken their place, by number.
    pub(super) cuts: HashMap<u64, Pending>,
    pub(super) next_mark: u64,
    /// Marks on their way, in the order in which they will be heard.
    pub(super) marks: VecDeque<(u64, Instant)>,
    /// Groups to be read again, when it is time.
    pub(super) again: BTreeMap<(Instant, u64), GroupKey>,
    /// Tells entries of the same time apart.
    pub(super) next_again: u64,
    /// Groups whose time to be read again has come, and whether the channel was lost before.
    pub(super) to_read: VecDeque<(GroupKey, bool)>,
    /// Readings of our own under way.
    pub(super) own_reads: usize,
    /// Groups of which others have told, that are being looked for.
    pub(super) finding: HashSet<String>,
    pub(super) looks: Looks,
    pub(super) notices: Notices,
    /// Joined names of groups that may have no items any more, and whether we are to be told.
    pub(super) to_forget: BTreeMap<(Instant, u64), (String, bool)>,
    pub(super) are_to_forget: HashSet<(String, bool)>,
    pub(super) ahead: Ahead,
    /// Where our marks are published.
    pub(super) cut_channel: String,
    /// Where the joined name of a message is put together.
    pub(super) joined: String,
    /// Joined names of groups of which it was said that some values are no JSON.
    pub(super) told_unreadable: HashSet<String>,
    pub(super) odd_messages: Rarely,
    pub(super) odd_times: Rarely,
}

/// A group with subscribers here.
pub(super) struct Followed {
    pub(super) key: GroupKey,
    /// Its events are told to its shard.
    pub(super) is_on: bool,
    /// Waits behind a cut whose answer has not come.
    pub(super) held: VecDeque<BehindCut>,
    pub(super) read_at: Option<Instant>,
    /// It is to be read again.
    pub(super) is_due: bool,
    /// How many of its events were told; cuts in between do not count.
    pub(super) told: u64,
    /// What it held when it was last read, and what had been told then.
    pub(super) seen: Option<(u64, u64)>,
    /// How many bytes its items had then.
    pub(super) bytes: usize,
    /// How many items it had when that was last asked, and what had been told then.
    pub(super) counted: Option<(u64, u64)>,
}

/// What waits behind a cut.
pub(super) enum BehindCut {
    Event(FromChannel),
    /// A further cut, by its number.
    Cut(u64),
}

/// A mark on its way, or a cut whose answer is.
pub(super) struct Pending {
    pub(super) of: Of,
    /// None: of no group.
    pub(super) key: Option<GroupKey>,
    pub(super) is_heard: bool,
    pub(super) answer: Option<Cut>,
}

/// For whom a mark or a cut is.
pub(super) enum Of {
    Join(Asker),
    /// For us: the group is read again.
    Again {
        is_after_loss: bool,
    },
    /// Nobody waits for it longer than that.
    Listing(Asker, Option<Box<str>>, Instant),
    Beat,
}

impl Hearing {
    pub(super) fn new(process: Uuid) -> Hearing {
        Hearing {
            followed: HashMap::new(),
            cuts: HashMap::new(),
            next_mark: 0,
            marks: VecDeque::new(),
            again: BTreeMap::new(),
            next_again: 0,
            to_read: VecDeque::new(),
            own_reads: 0,
            finding: HashSet::new(),
            looks: Looks::default(),
            notices: Notices::default(),
            to_forget: BTreeMap::new(),
            are_to_forget: HashSet::new(),
            ahead: Ahead::default(),
            cut_channel: format!("iii-stream:cut:{process}"),
            joined: String::new(),
            told_unreadable: HashSet::new(),
            odd_messages: Rarely::default(),
            odd_times: Rarely::default(),
        }
    }

    pub(super) fn follow(&mut self, key: &GroupKey) {
        let with_name = self.followed.entry(key.joined().into()).or_default();
        if !with_name.iter().any(|followed| followed.key == *key) {
            with_name.push(Followed {
                key: key.clone(),
                is_on: false,
                held: VecDeque::new(),
                read_at: None,
                is_due: false,
                told: 0,
                seen: None,
                bytes: 0,
                counted: None,
            });
        }
    }

    pub(super) fn unfollow(&mut self, key: &GroupKey) {
        if let Some(with_name) = self.followed.get_mut(key.joined()) {
            with_name.retain(|followed| followed.key != *key);
            if with_name.is_empty() {
                self.followed.remove(key.joined());
            }
        }
    }

    /// Since when the channel has not told what it should.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.marks.front().map(|(_, sent)| *sent)
    }

    pub(super) fn find(&mut self, key: &GroupKey) -> Option<&mut Followed> {
        let with_name = self.followed.get_mut(key.joined())?;
        with_name.iter_mut().find(|followed| followed.key == *key)
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let again = self.again.keys().next().map(|(at, _)| *at);
        let forget = self.to_forget.keys().next().map(|(at, _)| *at);
        [again, forget].into_iter().flatten().min()
    }

    pub(super) fn cut_for_join(&mut self, asker: Asker, key: &GroupKey) -> u64 {
        debug_assert!(self.followed.contains_key(key.joined()));
        self.pending(Of::Join(asker), Some(key.clone()))
    }

    pub(super) fn mark_for_listing(
        &mut self,
        asker: Asker,
        stream: Option<Box<str>>,
        until: Instant,
    ) -> u64 {
        self.pending(Of::Listing(asker, stream, until), None)
    }

    pub(super) fn mark_for_beat(&mut self) -> u64 {
        self.pending(Of::Beat, None)
    }

    /// Takes the next number for it.
    pub(super) fn pending(&mut self, of: Of, key: Option<GroupKey>) -> u64 {
        let mark = self.next_mark;
        self.next_mark += 1;
        let pending = Pending {
            of,
            key,
            is_heard: false,
            answer: None,
        };
        self.cuts.insert(mark, pending);
        mark
    }

    pub(super) fn has_sent(&mut self, mark: u64, now: Instant) {
        self.marks.push_back((mark, now));
    }
}
