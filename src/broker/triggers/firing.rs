//! What is told to triggers, one after another: each turn has a budget, and goes on where the one before
//! stopped. An event, a join, what is published or logged, and what the server itself tells take this
//! way, so that each of them costs a turn no more however many hear of it.

use std::collections::VecDeque;

use crate::config::Limits;
use crate::id::{ItemId, SlotId, Text};
use crate::notes::Shown;
use crate::protocol::listing::inputs;
use crate::protocol::logs::LogEntry;
use crate::shard::Fired;

use crate::broker::Broker;
use crate::broker::awaits::Handler;
use crate::broker::lines::Level;
use crate::broker::registry::Functions;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::trigger::{CIRCLE_CALLS_A_SECOND, Called};
use crate::broker::turn::Turn;

/// One thing that is told to several triggers, as far as it has been told.
pub(in crate::broker) struct Firing {
    audience: Audience,
    /// The registration to look at next, and the first one that came too late.
    from: u64,
    until: u64,
    payload: Payload,
    /// The join that its audience is asked about.
    join: Option<SlotId>,
    /// A trigger has published it: what it is told to publishes no further. Else each level of a nested
    /// value would be told to all of them, and the levels multiply.
    is_of_trigger: bool,
    /// Functions of ours that cannot read it: they are not asked again.
    unreadable: Vec<Box<str>>,
    was_told: bool,
    /// The socket that brought it about, which is left unread meanwhile.
    by: Option<SlotId>,
}

/// What the triggers are told, made once there is somebody who hears of it.
enum Payload {
    Text(Text),
    Event(Fired),
    Entry(Box<LogEntry>),
    /// The join's own.
    Join,
}

/// Firings that wait for their turn, each kind in order: no kind waits behind a flood of another.
#[derive(Default)]
pub(super) struct Firings {
    queues: [VecDeque<Firing>; 3],
    /// What those hold that are neither of joins nor of logs.
    bytes: usize,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum FiringKind {
    /// Somebody waits to be let in.
    Joins,
    /// What has happened, or was published.
    Events,
    /// Telemetry.
    Logs,
}

impl Firing {
    fn new(audience: Audience, payload: Payload) -> Firing {
        Firing {
            audience,
            from: 0,
            until: u64::MAX,
            payload,
            join: None,
            is_of_trigger: false,
            unreadable: Vec::new(),
            was_told: false,
            by: None,
        }
    }

    /// An event.
    pub(in crate::broker) fn of_event(fired: Fired) -> Firing {
        let audience = Audience::Event {
            key: fired.key.clone(),
            item: fired.frame.item().map(ItemId::from),
            version: fired.version,
        };
        Firing::new(audience, Payload::Event(fired))
    }

    /// A join, which the audience has to say something on.
    pub(in crate::broker) fn of_join(stream: &str, join: SlotId) -> Firing {
        Firing {
            join: Some(join),
            ..Firing::new(Audience::Join(stream.into()), Payload::Join)
        }
    }

    /// What is published under that topic: by an SDK worker, or by a trigger.
    pub(in crate::broker) fn of_topic(topic: &str, data: &str, by: Option<SlotId>) -> Firing {
        Firing {
            is_of_trigger: by.is_none(),
            by,
            ..Firing::new(Audience::Topic(topic.into()), Payload::Text(data.into()))
        }
    }

    /// What is logged.
    pub(in crate::broker) fn of_log(entry: LogEntry) -> Firing {
        let audience = Audience::Log((*entry.severity_text).into());
        Firing::new(audience, Payload::Entry(Box::new(entry)))
    }

    /// What the server itself tells.
    pub(in crate::broker) fn of_server(audience: Audience, payload: Text) -> Firing {
        Firing::new(audience, Payload::Text(payload))
    }

    /// The same for a socket that is left unread meanwhile.
    pub(in crate::broker) fn by(mut self, by: Option<SlotId>) -> Firing {
        self.by = by;
        self
    }

    fn kind(&self) -> FiringKind {
        match self.audience {
            Audience::Join(_) => FiringKind::Joins,
            Audience::Log(_) => FiringKind::Logs,
            _ => FiringKind::Events,
        }
    }

    /// What it keeps, though others may share it.
    fn held_bytes(&self) -> usize {
        let payload = match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::Event(fired) => fired.frame.text().len(),
            Payload::Entry(entry) => entry.body.len() + entry.attributes.len(),
            Payload::Join => 0,
        };
        size_of::<Firing>() + payload
    }

    fn may_be_told(&self, called: &Called, turn: &mut Turn, functions: &Functions) -> bool {
        match self.audience {
            Audience::Log(_) | Audience::FunctionsAvailable | Audience::WorkersAvailable => {
                called.listens(turn, functions)
            }
            Audience::Topic(_) if self.is_of_trigger => {
                let function = called.target.function();
                function.id != inputs::PUBLISH || functions.find(function).is_some()
            }
            _ => !self.unreadable.contains(&called.target.function_id),
        }
    }

    /// What its audience is told: made once.
    fn payload(&mut self, join: impl FnOnce(SlotId) -> Option<Text>) -> Option<Text> {
        let made = match &self.payload {
            Payload::Text(text) => return Some(Text::clone(text)),
            Payload::Event(fired) => Text::from(fired.frame.text()),
            Payload::Entry(entry) => {
                let mut text = Vec::new();
                entry.write(&mut text);
                String::from_utf8(text).unwrap_or_default().into()
            }
            Payload::Join => join(self.join?)?,
        };
        self.payload = Payload::Text(Text::clone(&made));
        Some(made)
    }
}

impl Firings {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// How many of a kind wait.
    fn len_of(&self, kind: FiringKind) -> usize {
        self.queues[kind as usize].len()
    }

    /// What events hold that wait.
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn push_back(&mut self, firing: Firing) {
        self.count(&firing);
        self.queues[firing.kind() as usize].push_back(firing);
    }

    fn push_front(&mut self, firing: Firing) {
        self.count(&firing);
        self.queues[firing.kind() as usize].push_front(firing);
    }

    fn count(&mut self, firing: &Firing) {
        if firing.kind() == FiringKind::Events {
            self.bytes += firing.held_bytes();
        }
    }

    fn pop_front(&mut self, kind: FiringKind) -> Option<Firing> {
        let firing = self.queues[kind as usize].pop_front()?;
        if kind == FiringKind::Events {
            self.bytes -= firing.held_bytes();
        }
        Some(firing)
    }
}

impl Triggers {
    /// Whatever hears of it is told in its turn: what is registered from now on is not.
    pub(in crate::broker) fn fire_all(&mut self, turn: &mut Turn, mut firing: Firing) {
        firing.until = self.next_order();
        turn.hold_for_work(firing.by);
        self.firings.push_back(firing);
    }

    /// Whether more events may wait for their turn: they hold what their mailbox would.
    pub(in crate::broker) fn has_room_for_firings(&self, limits: &Limits) -> bool {
        self.firings.len_of(FiringKind::Events) < limits.mailbox_len
            && self.firings.bytes() <= limits.mailbox_bytes
    }

    /// Whether something of that kind waits to be told.
    pub(in crate::broker) fn has_firings_of(&self, kind: FiringKind) -> bool {
        self.firings.len_of(kind) > 0
    }

    fn note_circle(&mut self, turn: &mut Turn, trigger: SlotId, audience: &Audience) {
        let Audience::Event { key, .. } = audience else {
            return;
        };
        let second = turn.now.wall_ms / 1000;
        if let Some(trigger) = self.goes_in_a_circle(trigger, second) {
            turn.lines.say(Level::Warn, format!(
                "trigger {} fires more than {CIRCLE_CALLS_A_SECOND} times a second: if its function changes \
                 the stream that it follows ({}), it runs in a circle; this is said once",
                Shown(&trigger),
                Shown(key.stream())
            ));
        }
    }
}

impl Broker {
    /// Tells as many of that kind as this turn may.
    pub(in crate::broker) fn go_on_firing(&mut self, kind: FiringKind) {
        while self.turn.steps.are_left()
            && let Some(mut firing) = self.triggers.firings.pop_front(kind)
        {
            while self.turn.steps.are_left() && self.fire_next(&mut firing) {}
            let (audience, from, until) = (&firing.audience, firing.from, firing.until);
            if self.triggers.next_of(audience, from, until).is_some() {
                return self.triggers.firings.push_front(firing);
            }
            self.all_told(firing);
        }
    }

    /// Tells the next one. False: nobody is left.
    fn fire_next(&mut self, firing: &mut Firing) -> bool {
        let (from, until) = (firing.from, firing.until);
        let Some(next) = self.triggers.next_of(&firing.audience, from, until) else {
            return false;
        };
        firing.from = next.order + 1;
        self.turn.steps.take(1);
        if let Some((trigger, called)) = next.called
            && firing.may_be_told(&called, &mut self.turn, &self.functions)
        {
            firing.was_told = true;
            self.triggers
                .note_circle(&mut self.turn, trigger, &firing.audience);
            self.tell_one(firing, called);
        }
        true
    }

    fn tell_one(&mut self, firing: &mut Firing, called: Called) {
        let Some(payload) = firing.payload(|join| self.joins.payload_of(join)) else {
            return;
        };
        self.turn.steps.take_bytes(payload.len());
        if let Some(join) = firing.join {
            return self.ask_one_about_join(join, called, &payload);
        }
        let handler = Handler {
            target: called.target,
            payload,
            is_owed: false,
            on_behalf: called.on_behalf,
        };
        let function_id = handler.target.function_id.clone();
        if !self.fire(called.condition.as_deref(), handler) {
            firing.unreadable.push(function_id);
        }
    }

    /// Nobody is left who hears of it.
    fn all_told(&mut self, firing: Firing) {
        if let Audience::Event { key, item, .. } = &firing.audience
            && !firing.was_told
            && let Some(attached) = &self.attached
        {
            attached.count_lost_event(&self.turn, key, item.as_deref());
        }
        if let Some(join) = firing.join {
            self.joins.all_asked_about(&mut self.turn, join);
        }
        self.turn.release_after_work(firing.by);
    }
}
