//! Joins while their functions are asked, and what these have to say.

use crate::collections::{Named, PersistentSet};
use crate::id::{SlotId, Text};
use crate::mesh::{JoinRequest, Presence, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::trigger::payload::PresenceEvent;

use crate::broker::Broker;
use crate::broker::awaits::Awaits;
use crate::broker::target::Target;
use crate::broker::triggers::firing::Firing;
use crate::broker::triggers::trigger::Called;
use crate::broker::turn::Turn;

/// A join while its functions are asked.
struct Deciding {
    request: Box<JoinRequest>,
    /// Functions that have still to answer.
    left: usize,
    /// No further function is asked.
    are_all_asked: bool,
    is_refused: bool,
    /// Some function was asked and has answered.
    was_answered: bool,
}

/// What one function has to say on a join.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Word {
    /// It was asked, and does not refuse.
    Admits,
    /// It was asked and refuses, or was silent.
    Refuses,
    /// It failed, or is not there.
    Fails,
    /// Its condition keeps it from being asked.
    Unasked,
}

/// Joins whose functions are asked.
#[derive(Default)]
pub(in crate::broker) struct Joins {
    deciding: Named<Deciding>,
    /// Streams that nobody joins unless a function was asked and answered.
    required: PersistentSet,
    /// Whether a join is refused whose function fails or is not there.
    refuses_failed: bool,
}

impl Joins {
    /// From here on joins of these streams are refused unless a function was asked and answered, and, where
    /// it is said so, those whose function fails.
    pub(in crate::broker) fn set(
        &mut self,
        required: impl IntoIterator<Item = String>,
        refuses_failed: bool,
    ) {
        let mut streams = PersistentSet::default();
        for stream in required {
            streams.insert(stream.into());
        }
        self.required = streams;
        self.refuses_failed = refuses_failed;
    }

    /// Streams that nobody joins unless a function was asked and answered.
    pub(in crate::broker) fn required(&self) -> &PersistentSet {
        &self.required
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.deciding.is_empty()
    }

    /// There is nobody to ask about a join: that admits, unless somebody has to be asked.
    pub(in crate::broker) fn decide_unasked(&self, turn: &mut Turn, request: Box<JoinRequest>) {
        let is_admitted = !self.must_ask_about(&request);
        turn.tell(request.worker, ToWorker::JoinDecided(request, is_admitted));
    }

    /// Whether a join is refused unless a function was asked and has answered.
    fn must_ask_about(&self, request: &JoinRequest) -> bool {
        self.required.contains(request.presence.key.stream())
    }

    /// What functions are told of that join.
    pub(in crate::broker) fn payload_of(&self, join: SlotId) -> Option<Text> {
        let deciding = self.deciding.get(join)?;
        Some(payload_of(&deciding.request.presence))
    }

    /// No further function is asked about that join.
    pub(in crate::broker) fn all_asked_about(&mut self, turn: &mut Turn, join: SlotId) {
        if let Some(deciding) = self.deciding.get_mut(join) {
            deciding.are_all_asked = true;
            self.decide_if_heard(turn, join);
        }
    }

    /// One function's word. The join is decided when all have answered; one refusal is enough. A
    /// function that fails admits, for many only log, unless somebody has to be asked or the settings
    /// say otherwise.
    pub(in crate::broker) fn heard(&mut self, turn: &mut Turn, join: SlotId, word: Word) {
        let Some(deciding) = self.deciding.get_mut(join) else {
            return;
        };
        let stream = deciding.request.presence.key.stream();
        let must_ask = self.required.contains(stream);
        deciding.is_refused |=
            word == Word::Refuses || (word == Word::Fails && (must_ask || self.refuses_failed));
        deciding.was_answered |= word == Word::Admits;
        deciding.left -= 1;
        self.decide_if_heard(turn, join);
    }

    /// The join is decided once all have been asked and have answered. Where there was nobody to ask that
    /// admits, unless somebody has to be asked.
    fn decide_if_heard(&mut self, turn: &mut Turn, join: SlotId) {
        let deciding = self.deciding.get(join);
        if deciding.is_some_and(|deciding| deciding.left == 0 && deciding.are_all_asked)
            && let Some(decided) = self.deciding.remove(join)
        {
            let must_ask = self.must_ask_about(&decided.request);
            let is_refused = decided.is_refused || (must_ask && !decided.was_answered);
            let request = decided.request;
            turn.tell(request.worker, ToWorker::JoinDecided(request, !is_refused));
        }
    }
}

impl Broker {
    /// Asks all functions that a join of that stream is put to, unless the join has to wait for a running
    /// engine first.
    pub(in crate::broker) fn decide_join(&mut self, request: Box<JoinRequest>) {
        let turn = &mut self.turn;
        if self.joins.deciding.len() >= turn.limits.joins_in_flight {
            turn.metrics().calls_refused.increment();
            return turn.tell(request.worker, ToWorker::JoinDecided(request, false));
        }
        let asked = match &mut self.attached {
            Some(attached) => attached.hold_join(turn, request),
            None => Some(request),
        };
        if let Some(request) = asked {
            self.ask_join_functions(request);
        }
    }

    /// Asks them, as many in a turn as it may.
    pub(in crate::broker) fn ask_join_functions(&mut self, request: Box<JoinRequest>) {
        let stream = Box::from(request.presence.key.stream());
        let join = self.joins.deciding.insert(Deciding {
            request,
            left: 0,
            are_all_asked: false,
            is_refused: false,
            was_answered: false,
        });
        let firing = Firing::of_join(&stream, join);
        self.triggers.fire_all(&mut self.turn, firing);
    }

    /// Asks one function about a join, or first its condition.
    pub(in crate::broker) fn ask_one_about_join(
        &mut self,
        join: SlotId,
        called: Called,
        payload: &Text,
    ) {
        let Some(deciding) = self.joins.deciding.get_mut(join) else {
            return;
        };
        deciding.left += 1;
        if !called.may_be_called(&self.turn.members, &self.functions) {
            return self.joins.heard(&mut self.turn, join, Word::Unasked);
        }
        match called.condition {
            Some(condition) => {
                let namespace = called.target.namespace.clone();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(&condition, payload)
                };
                let awaits = Awaits::JoinCondition(join, Box::new(called.target));
                self.ask(&asked, awaits);
            }
            None => self.ask(&called.target.call(payload), Awaits::Join(join)),
        }
    }

    /// The condition of a join function has let it be asked.
    pub(in crate::broker) fn ask_about_join(&mut self, join: SlotId, target: &Target) {
        if let Some(payload) = self.joins.payload_of(join) {
            self.ask(&target.call(&payload), Awaits::Join(join));
        }
    }
}

/// What functions are told of who comes or goes.
pub(in crate::broker) fn payload_of(presence: &Presence) -> Text {
    let event = PresenceEvent {
        context: presence.context.as_deref(),
        stream: presence.key.stream(),
        group: presence.key.group(),
        id: presence.item.as_deref(),
        subscription_id: &presence.subscription,
    };
    let mut text = Vec::new();
    event.write(&mut text);
    String::from_utf8(text).unwrap_or_default().into()
}
