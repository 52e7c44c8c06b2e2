//! All that a shard can ask of the world, and what the store answers.

use std::sync::Arc;
use std::time::Duration;

use crate::id::{CallId, GroupKey, ItemId, LocalGroupId, SlotId, Text, WorkerId};
use crate::metrics::StoreMetrics;
use crate::protocol::answer::{Outcome, UpdateError};
use crate::protocol::call::ErrorBody;
use crate::protocol::frame::{Event, EventFrame, SyncFrame};
use crate::protocol::groups::Names;
use crate::protocol::input::{StreamFunction, UpdateOp};
use crate::protocol::ttl::Ttl;
use crate::time::ClockReading;

use super::content::Content;
use super::marks::Marks;
use super::snapshot::Snapshot;
use super::{Cursor, Decides, Slice, SliceLimits, ValueLimits};

/// What a shard asks of the world. The worker performs it in the order of these fields.
#[derive(Default)]
pub struct Effects {
    /// To the store; what follows from them waits in the shard for its answers.
    pub requests: Vec<Request>,
    /// To the engine, exactly one per call, before the fan-out.
    pub replies: Vec<Reply>,
    /// To the engine: events that triggers follow, in the order of each group.
    pub fired: Vec<Fired>,
    /// To the engine: custom functions that are to be asked in place of the store.
    pub custom: Vec<CustomCall>,
    /// To the workers that listen: one per worker and event, not per subscriber.
    pub deliveries: Vec<Delivery>,
    /// How many events came about, heard by somebody or not. Nothing is to be done for it.
    pub events: u64,
    /// Persons who are no members, for there are as many as may be. Likewise.
    pub members_refused: u64,
}

/// An event that some trigger follows.
pub struct Fired {
    /// The state of the hooks when it happened: triggers that came later do not hear of it.
    pub version: u64,
    /// The event's group.
    pub key: GroupKey,
    /// The event, encoded; its item is in it.
    pub frame: Arc<EventFrame>,
}

/// A custom function is to be asked. Its answer comes back as [`Told`].
pub struct CustomCall {
    /// Who asks.
    pub shard: WorkerId,
    /// The group's slot in that shard.
    pub slot: u32,
    /// The call's name within the shard.
    pub number: u64,
    /// Which function.
    pub function: StreamFunction,
    /// The stream whose function it is.
    pub key: GroupKey,
    /// A subscriber waits for it, and no SDK worker.
    pub of_join: bool,
    /// Its input: a JSON object.
    pub input: Text,
}

/// The answer to one call.
pub struct Reply {
    /// Which call.
    pub call: CallId,
    /// What became of it.
    pub outcome: Outcome,
}

/// Something for the subscribers of one group on one worker.
pub struct Delivery {
    /// Which worker.
    pub to: WorkerId,
    /// The group's entry there.
    pub local: LocalGroupId,
    /// What it is to do.
    pub what: Delivered,
}

/// What a worker gets for a group.
pub enum Delivered {
    /// An event for all that match.
    Event(Arc<EventFrame>),
    /// A join takes effect here, in the order of the events.
    Entered {
        /// The socket that joined.
        connection: SlotId,
        /// The worker's own name for the join.
        token: u32,
        /// What it is sent first; `None` when the store could not tell.
        sync: Option<Arc<SyncFrame>>,
    },
    /// What came between is lost: every subscription begins anew with a `sync` of this.
    Afresh(Arc<Snapshot>),
}

/// One thing for the store to do. Numbers rise by one within a shard.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub shard: WorkerId,
    /// After a refusal the store refuses everything of that shard and epoch unseen.
    pub epoch: u32,
    /// Its place in the shard's order.
    pub number: u64,
    /// What to do.
    pub kind: RequestKind,
}

/// What a store can be asked.
#[derive(Debug, Clone)]
pub enum RequestKind {
    /// The owner has decided: keep this value.
    Put {
        /// The item's group.
        group: GroupKey,
        /// Its name.
        item: ItemId,
        /// Its new value.
        value: Text,
        /// The time of the change, in ms since 1970.
        time: u64,
        /// What is to be kept beside.
        marks: Marks,
    },
    /// The owner has decided: the item is gone.
    Remove {
        /// The item's group.
        group: GroupKey,
        /// Its name.
        item: ItemId,
        /// The time of the change, in ms since 1970.
        time: u64,
    },
    /// No time up to this one is to be given out after the next start.
    Times {
        /// In ms since 1970.
        time: u64,
    },
    /// The store decides.
    Decide(Question),
}

/// What a store that decides is asked.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of Ask")]
pub enum Question {
    /// Set an item: answered by [`Verdict::Decided`].
    Set {
        group: GroupKey,
        item: ItemId,
        data: Text,
        ttl: Option<Ttl>,
    },
    /// Change parts of an item: answered by [`Verdict::Decided`].
    Update {
        group: GroupKey,
        item: ItemId,
        ops: Arc<[UpdateOp]>,
        ttl: Option<Ttl>,
    },
    /// Remove an item: answered by [`Verdict::Decided`].
    Delete { group: GroupKey, item: ItemId },
    /// Give an event its time, and tell it to other hosts: answered by [`Verdict::Decided`].
    Send {
        group: GroupKey,
        id: Option<ItemId>,
        kind: Box<str>,
        data: Text,
    },
    /// Read an item: answered by [`Verdict::Found`].
    Get { group: GroupKey, item: ItemId },
    /// Read all items: answered by [`Verdict::Listed`].
    List { group: GroupKey },
    /// All groups, of one stream if it is named: answered by [`Verdict::Groups`].
    Groups { stream: Option<Box<str>> },
    /// Tell of the group's events from here on, and what it holds here, or one item of it: answered
    /// by [`Verdict::Cut`].
    Follow {
        group: GroupKey,
        item: Option<ItemId>,
    },
    /// A member has so many sockets here: answered by [`Verdict::Accepted`] at once, whatever becomes of it.
    Keep {
        group: GroupKey,
        item: ItemId,
        data: Text,
        connections: u32,
    },
    /// Tell of the group's events no more: answered by [`Verdict::Accepted`].
    Unfollow { group: GroupKey },
}

/// The store's word on one request: one for each, in order of their numbers within a shard.
pub struct Answer {
    /// Who asked.
    pub shard: WorkerId,
    /// As in the request.
    pub epoch: u32,
    /// As in the request.
    pub number: u64,
    /// The word.
    pub verdict: Verdict,
}

/// What a store says.
pub enum Verdict {
    /// The write is as durable as the configuration promises.
    Accepted,
    /// It is not and never will be: the cause, for the caller.
    Refused(Arc<str>),
    /// The store's decision on a change or an event.
    Decided {
        /// The value before, if the item was there.
        old: Option<Text>,
        /// The value now, if it is there.
        new: Option<Text>,
        /// Operations of an update that failed.
        errors: Vec<UpdateError>,
        /// When, in ms since 1970.
        time: u64,
    },
    /// An item's value, if it is there.
    Found(Option<Text>),
    /// The values of a group in order, each with a comma before it, in pieces of any number.
    Listed(Vec<Text>),
    /// Stream and group names.
    Groups(Names),
    /// Items at one point between the group's events: those before are in it, those after are not.
    Cut {
        /// All, or the one that was asked for if it is there.
        items: Content,
        /// When, by the store's clock, in ms since 1970: not before any event that is in it.
        time: u64,
    },
}

/// What a shard learns from outside.
pub enum Learned {
    /// The store's word on a request of this shard.
    Answer(Answer),
    /// What a channel that all hosts share tells of a group.
    Channel(GroupKey, FromChannel),
    /// The store has changed an item of itself, for this host: triggers are to hear of it. Whoever follows the
    /// group hears by the channel.
    Made {
        /// The item's group.
        key: GroupKey,
        /// Its name.
        item: ItemId,
        /// What became of it.
        event: HeardEvent,
        /// When, by the store's clock, in ms since 1970.
        time: u64,
        /// It had a time to live, and that is over.
        has_expired: bool,
    },
    /// The channel is lost: what comes next of any group is a [`FromChannel::Read`].
    Lost,
}

/// What a channel that all hosts share tells, in one order for all of them.
pub enum FromChannel {
    /// Something happened, here or elsewhere.
    Event {
        /// The item that it is about; `None` for a custom event of the group.
        item: Option<ItemId>,
        /// What.
        event: HeardEvent,
        /// When, by the store's clock, in ms since 1970.
        time: u64,
        /// The group had no items before it.
        is_first: bool,
        /// A server of ours has made it, in one step with the change.
        is_ours: bool,
    },
    /// The group was read again at this point between its events.
    Read {
        /// All that it holds.
        items: Content,
        /// When, by the store's clock.
        time: u64,
        /// The channel was lost before.
        is_after_loss: bool,
    },
}

/// An event as the channel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeardEvent {
    /// An item that was not there: its value.
    Create(Text),
    /// One that was: its new value.
    Update(Text),
    /// One that is gone: its last value.
    Delete(Text),
    /// Something that is not kept.
    Custom {
        /// The caller's word for it.
        kind: Box<str>,
        /// JSON text.
        data: Text,
    },
}

impl HeardEvent {
    /// As frames are made of it.
    pub(super) fn borrowed(&self) -> Event<'_> {
        match self {
            HeardEvent::Create(data) => Event::Create(data),
            HeardEvent::Update(data) => Event::Update(data),
            HeardEvent::Delete(data) => Event::Delete(data),
            HeardEvent::Custom { kind, data } => Event::Custom { kind, data },
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            HeardEvent::Create(data) | HeardEvent::Update(data) | HeardEvent::Delete(data) => {
                data.len()
            }
            HeardEvent::Custom { kind, data } => kind.len() + data.len(),
        }
    }
}

impl FromChannel {
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            FromChannel::Event { item, event, .. } => {
                item.as_ref().map_or(0, |item| item.len()) + event.held_bytes()
            }
            FromChannel::Read { items, .. } => items.held_bytes(),
        }
    }

    /// Nobody takes it: drops a part with each step.
    pub(super) fn drop_in_steps(self) -> impl Iterator<Item = ()> + Send {
        let items = match self {
            FromChannel::Event { .. } => Content::default(),
            FromChannel::Read { items, .. } => items,
        };
        items.drop_in_steps()
    }
}

/// What a custom function answered.
pub struct Told {
    /// The group's slot, as in the call.
    pub slot: u32,
    /// As in the call.
    pub number: u64,
    /// What came back.
    pub answer: CustomAnswer,
}

/// What came back from a custom function.
pub enum CustomAnswer {
    /// A JSON text, or nothing.
    Result(Option<Text>),
    /// It failed, or could not be asked.
    Failed(ErrorBody),
    /// A limit of ours refuses the call: the cause, for the caller.
    Refused(Arc<str>),
    /// There is no such function any more: our own store serves.
    Gone,
}

impl Effects {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.replies.is_empty()
            && self.deliveries.is_empty()
            && self.fired.is_empty()
            && self.custom.is_empty()
    }
}

impl Request {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            RequestKind::Put { item, value, .. } => item.len() + value.len(),
            RequestKind::Remove { item, .. } => item.len(),
            RequestKind::Times { .. } => 0,
            RequestKind::Decide(question) => match question {
                Question::Set { item, data, .. } => item.len() + data.len(),
                Question::Update { item, ops, .. } => {
                    item.len() + ops.iter().map(UpdateOp::held_bytes).sum::<usize>()
                }
                Question::Delete { item, .. } | Question::Get { item, .. } => item.len(),
                Question::Send { kind, data, .. } => kind.len() + data.len(),
                Question::Keep { item, data, .. } => item.len() + data.len(),
                Question::List { .. }
                | Question::Groups { .. }
                | Question::Follow { .. }
                | Question::Unfollow { .. } => 0,
            },
        }
    }
}

impl Learned {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        let len = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        let verdict = match self {
            Learned::Answer(answer) => &answer.verdict,
            Learned::Channel(_, from) => return from.held_bytes(),
            Learned::Made { event, .. } => return event.held_bytes(),
            Learned::Lost => return 0,
        };
        match verdict {
            Verdict::Accepted => 0,
            Verdict::Refused(cause) => cause.len(),
            Verdict::Decided { old, new, .. } => len(old) + len(new),
            Verdict::Found(value) => len(value),
            Verdict::Listed(values) => values.iter().map(|value| value.len()).sum(),
            Verdict::Cut { items, .. } => items.held_bytes(),
            Verdict::Groups(names) => names.held_bytes(),
        }
    }
}

impl Told {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        self.answer.held_bytes()
    }
}

impl CustomAnswer {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match self {
            CustomAnswer::Result(result) => result.as_ref().map_or(0, |text| text.len()),
            CustomAnswer::Failed(error) => error.held_bytes(),
            CustomAnswer::Refused(cause) => cause.len(),
            CustomAnswer::Gone => 0,
        }
    }
}

/// What keeps values: memory, files, Redis, and the double that tests use.
pub trait Store: std::marker::Send {
    /// Who decides what a change does.
    fn decides(&self) -> Decides;

    /// Serves one turn's requests of all shards, in order: one answer each, now or later, in the same
    /// order within a shard, and between them what other hosts have done. Accepted is as durable as the
    /// configuration promises.
    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>);

    /// Does what is due without a request, once the answers of the turn are on their way, and may ask
    /// shards for slices and answer requests of earlier turns. Gives how long it may rest; `None`:
    /// until it is asked.
    fn tend(
        &mut self,
        _asks: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        _learned: &mut Vec<Learned>,
    ) -> Option<Duration> {
        None
    }

    /// Does what is due and tells nobody anything, while a neighbour that is full holds up all else. Gives
    /// how long it may rest, as [`Store::tend`] does.
    fn tend_alone(&mut self) -> Option<Duration> {
        None
    }

    /// Whether it can answer nothing for now, so that nothing should be handed to it: what waits would
    /// only pile up. [`Store::tend`] says how soon to ask again.
    fn is_stuck(&self) -> bool {
        false
    }

    /// The poll of its thread says that one of its sockets has something or takes something; `ends`: its
    /// end is there.
    fn ready(&mut self, _id: SlotId, _ends: bool) {}

    /// What its own clock has said since this was last asked; all shards are told before they hear its
    /// answers.
    fn clock(&mut self) -> Option<ClockReading> {
        None
    }

    /// The process is about to end in good order.
    fn is_ending(&mut self) {}

    /// Whether nothing that it was asked is still on its way.
    fn is_done(&self) -> bool {
        true
    }

    /// What holds from now on for values and names that it reads itself.
    fn set_limits(&mut self, _limits: ValueLimits, _name_bytes: usize) {}

    /// Gives what it has measured since it was last asked, and how it stands.
    fn measure(&mut self, _metrics: &StoreMetrics) {}

    /// Takes the slice that a shard was asked for.
    fn take_slice(&mut self, _shard: WorkerId, _slice: Slice) {}

    /// The process ends in good order: nothing is asked any more.
    fn close(&mut self) {}
}
