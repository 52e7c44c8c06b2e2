//! What is to be done in Redis, as plain data: who asks, what, and how far it is.
//!
//! May not know in which order commands go out, or what they are in Redis's words.

use std::sync::Arc;
use std::time::Instant;

use redis::Value;

use crate::id::{GroupKey, ItemId, Text, WorkerId};
use crate::protocol::answer::UpdateError;
use crate::protocol::input::{StreamFunction, UpdateOp};
use crate::protocol::ttl::Ttl;

use super::keeping::Word;
use super::scripts::Script;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) shard: WorkerId,
    pub(super) epoch: u32,
    pub(super) number: u64,
}

/// One thing to be done in Redis.
pub(super) struct Job {
    /// Nobody waits longer. None: it is ours, and waits as long as Redis lives.
    pub(super) until: Option<Instant>,
    pub(super) work: Work,
}

pub(super) enum Work {
    Change(Box<Change>),
    /// The first step of an update.
    Read(Box<Update>),
    Get(Asker, GroupKey, ItemId),
    List(Asker, GroupKey),
    /// Items at a point that the channel tells.
    Cut(Box<CutOf>),
    /// A point that the channel tells, with nothing read there.
    Mark(u64),
    /// A point, the time, and how many keys there are.
    Beat(u64),
    /// How many items each has.
    Look(Vec<GroupKey>),
    /// Whether a group of which others have told is there.
    Find(GroupKey),
    /// Whose the key of these names is.
    Owner(GroupKey),
    /// Deletes what has had its time; before that, items that others have written past our scripts last
    /// longer.
    End(Vec<(GroupKey, ItemId)>),
    /// Renews this host's lease and does nothing else.
    Renew,
    /// What is told of a member.
    Keep(Box<Word>),
    /// What was deleted so, in the order of its group.
    Ended(Box<Ended>),
    /// The group's time is to be at least that.
    Raise(GroupKey, u64),
    /// Removes what is kept of a group without items, by its joined name; and tells us of it in the
    /// order of the channel.
    Forget(String, bool),
    /// A piece of the names of all groups.
    Names(Piece),
    Setup(Step),
    /// Nobody waits for its answer any more.
    GivenUp,
}

impl Work {
    /// Whether an answer that is no error has a form that its command brings about.
    pub(super) fn is_answered_by(&self, value: &Value) -> bool {
        let is_text = matches!(value, Value::BulkString(_) | Value::SimpleString(_));
        match self {
            Work::Cut(_) | Work::List(..) => matches!(value, Value::Array(_)),
            Work::Get(..) | Work::Read(_) => is_text || matches!(value, Value::Nil),
            Work::Mark(_) => matches!(value, Value::Int(_)),
            Work::Setup(Step::Load(_)) => is_text,
            _ => true,
        }
    }
}

/// A reading at one point of the channel.
pub(super) struct CutOf {
    /// The number of the cut.
    pub(super) mark: u64,
    pub(super) key: GroupKey,
    /// None: all items.
    pub(super) item: Option<ItemId>,
    /// By a script, for Redis has refused the transaction.
    pub(super) by_script: bool,
}

/// A change and how far it is.
pub(super) struct Change {
    pub(super) asker: Asker,
    pub(super) key: GroupKey,
    pub(super) item: ItemId,
    /// How long the item is to last, where that is said.
    pub(super) ttl: Option<Ttl>,
    pub(super) what: What,
}

/// An item that has had its time.
pub(super) struct Ended {
    pub(super) key: GroupKey,
    pub(super) item: ItemId,
    /// By Redis's clock, in ms since 1970.
    pub(super) time: u64,
    pub(super) old: Vec<u8>,
    /// The group has no items any more, but a time.
    pub(super) is_empty: bool,
    /// It was a member's, whose grace is over.
    pub(super) is_member: bool,
}

pub(super) enum What {
    Set(Text),
    Delete,
    Send {
        id: Option<ItemId>,
        kind: Box<str>,
        data: Text,
    },
    /// What an update has computed, if the value is still the old one.
    Swap {
        ops: Arc<[UpdateOp]>,
        old: Option<Vec<u8>>,
        new: Text,
        errors: Vec<UpdateError>,
    },
}

/// An update that reads first.
pub(super) struct Update {
    pub(super) asker: Asker,
    pub(super) key: GroupKey,
    pub(super) item: ItemId,
    pub(super) ttl: Option<Ttl>,
    pub(super) ops: Arc<[UpdateOp]>,
}

/// Where the reading is; each from its cursor on.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// The names that ours have given.
    Index(String),
    /// The keys that there are, whoever made them.
    Keys(String),
    /// The groups whose last time is kept.
    Times(String),
}

/// What is said before the first call.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Login,
    Select,
    /// Whether it is a cluster.
    Info,
    Policy,
    /// Whether it gives notices of what is done to keys.
    Notices,
    /// Whether it takes writes.
    Role,
    Load(Script),
    /// What its user may not do.
    Rights,
    /// The last step.
    Time,
}

impl Job {
    /// One of our own.
    pub(super) fn own(work: Work) -> Job {
        Job { until: None, work }
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// How many answers it has.
    pub(super) fn answers_len(&self) -> usize {
        match &self.work {
            Work::Cut(cut) if !cut.by_script => 6,
            Work::Beat(_) => 3,
            Work::Look(keys) => keys.len(),
            _ => 1,
        }
    }

    /// The change, if it is one for the script.
    pub(super) fn change(&self) -> Option<&Change> {
        match &self.work {
            Work::Change(change) => Some(change),
            _ => None,
        }
    }

    /// Whether somebody waits for what it reads.
    pub(super) fn is_read(&self) -> bool {
        matches!(
            self.work,
            Work::Read(_) | Work::Get(..) | Work::List(..) | Work::Cut(..)
        )
    }
}

impl Change {
    pub(super) fn held_bytes(&self) -> usize {
        let of_what = match &self.what {
            What::Set(data) => data.len(),
            What::Delete => 0,
            What::Send { kind, data, .. } => kind.len() + data.len(),
            What::Swap { old, new, .. } => new.len() + old.as_ref().map_or(0, Vec::len),
        };
        self.key.joined().len() + self.item.len() + of_what
    }
}

impl What {
    pub(super) fn function(&self) -> StreamFunction {
        match self {
            What::Set(_) => StreamFunction::Set,
            What::Delete => StreamFunction::Delete,
            What::Send { .. } => StreamFunction::Send,
            What::Swap { .. } => StreamFunction::Update,
        }
    }
}
