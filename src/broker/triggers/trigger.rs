//! One trigger, one served type: what was registered, and what it counts.
//!
//! Pure. May not know the other triggers.

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{LogTrigger, PresenceTrigger, StreamTrigger, SubscribeTrigger};

use crate::broker::holdings::ID_BYTES_MAX;
use crate::broker::target::Target;
use crate::broker::triggers::audience::Audience;

/// One trigger as it was registered.
pub(in crate::broker) struct Trigger {
    pub(in crate::broker) id: Box<str>,
    pub(in crate::broker) trigger_type: Box<str>,
    pub(in crate::broker) target: Target,
    /// It names its namespace; else it follows its owner's.
    pub(in crate::broker) names_namespace: bool,
    pub(in crate::broker) config: Option<Box<RawValue>>,
    pub(in crate::broker) owner: SlotId,
    /// The number of its owner's listener, if that has rules: then it calls only what its owner has
    /// or may call.
    pub(in crate::broker) guard: Option<usize>,
    /// The newer and the older one of its id, of workers whose listener has rules: the newest fires.
    pub(in crate::broker) above: Option<SlotId>,
    pub(in crate::broker) below: Option<SlotId>,
    /// It hears of events that happened in this state of the hooks, or later.
    pub(in crate::broker) since: u64,
    /// It was registered before anybody served its type, and nobody does yet.
    pub(in crate::broker) is_early: bool,
    pub(in crate::broker) order: u64,
    pub(in crate::broker) matcher: Matcher,
    pub(in crate::broker) rate: Rate,
}

/// What is to be called, and what is asked before.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) struct Called {
    pub(in crate::broker) target: Target,
    pub(in crate::broker) condition: Option<Box<str>>,
    /// A worker with rules, which has to have both or to be allowed to call them.
    pub(in crate::broker) on_behalf: Option<SlotId>,
}

/// The owner of triggers that end with no socket: they were registered by calls.
pub(in crate::broker) const NOBODY: SlotId = SlotId {
    slot: u32::MAX,
    generation: u32::MAX,
};

/// The longest metadata of a trigger: a small event may bring about a call with it.
const METADATA_BYTES_MAX: usize = 64 * 1024;

/// What a trigger listens to.
pub(in crate::broker) enum Matcher {
    Event(StreamTrigger),
    Join(PresenceTrigger),
    Leave(PresenceTrigger),
    Log(LogTrigger),
    Topic(SubscribeTrigger),
    FunctionsAvailable,
    WorkersAvailable,
    /// Its type is served by a worker, or by nobody yet.
    Elsewhere,
}

/// A trigger type that a worker serves.
pub(in crate::broker) struct ServedType {
    pub(in crate::broker) owner: SlotId,
    pub(in crate::broker) description: Box<str>,
    pub(in crate::broker) trigger_request_format: Option<Box<RawValue>>,
    pub(in crate::broker) call_request_format: Option<Box<RawValue>>,
}

/// How often a trigger fires within a second, to tell once that it may run in a circle.
#[derive(Default)]
pub(in crate::broker) struct Rate {
    second: u64,
    count: u32,
    was_told: bool,
}

/// A trigger that fires this often within a second is told of in the log, once.
pub(in crate::broker) const CIRCLE_CALLS_A_SECOND: u32 = 1000;

impl Trigger {
    /// A trigger that is to be registered.
    pub(in crate::broker) fn new(
        id: &str,
        trigger_type: &str,
        function_id: &str,
        owner: SlotId,
        since: u64,
    ) -> Trigger {
        Trigger {
            id: id.into(),
            trigger_type: trigger_type.into(),
            target: Target {
                function_id: function_id.into(),
                namespace: None,
                metadata: None,
            },
            names_namespace: false,
            config: None,
            owner,
            guard: None,
            above: None,
            below: None,
            since,
            is_early: false,
            order: 0,
            matcher: Matcher::Elsewhere,
            rate: Rate::default(),
        }
    }

    /// The function that is called for it, on behalf of whom.
    pub(in crate::broker) fn called(&self) -> Called {
        Called {
            target: self.target.clone(),
            condition: self.condition().map(Box::from),
            on_behalf: self.guard.map(|_| self.owner),
        }
    }

    /// Whether it follows that, beyond what the lists of followers say.
    pub(super) fn hears_of(&self, audience: &Audience) -> bool {
        match (&self.matcher, audience) {
            (Matcher::Event(_), Audience::Event { version, .. }) => self.since <= *version,
            (Matcher::Log(matcher), Audience::Log(severity)) => matcher.matches(severity),
            (Matcher::Elsewhere, _) => false,
            _ => true,
        }
    }

    /// The function that it puts joins to, and of which stream; none: of all.
    pub(in crate::broker) fn join_function(&self) -> Option<(Option<&str>, &str)> {
        match &self.matcher {
            Matcher::Join(matcher) => Some((matcher.stream.as_deref(), &*self.target.function_id)),
            _ => None,
        }
    }

    /// Whether another one of its id would do just the same.
    pub(in crate::broker) fn is_same_as(&self, other: &Trigger) -> bool {
        let config = |trigger: &Trigger| {
            let config = trigger.config.as_deref();
            config.map(|json| json.get().to_owned())
        };
        self.trigger_type == other.trigger_type
            && self.target == other.target
            && config(self) == config(other)
    }

    /// Functions that it names: its condition, and the one that it calls.
    pub(in crate::broker) fn functions(&self) -> impl Iterator<Item = &str> {
        self.condition()
            .into_iter()
            .chain([&*self.target.function_id])
    }

    fn condition(&self) -> Option<&str> {
        match &self.matcher {
            Matcher::Event(matcher) => matcher.condition.as_deref(),
            Matcher::Join(matcher) | Matcher::Leave(matcher) => matcher.condition.as_deref(),
            _ => None,
        }
    }

    /// Bytes of its texts.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let Target {
            function_id,
            namespace,
            metadata,
        } = &self.target;
        let texts = self.id.len() + self.trigger_type.len() + function_id.len();
        let shared = [namespace, metadata].into_iter().flatten();
        let config = self.config.as_ref().map_or(0, |json| json.get().len());
        texts + config + shared.map(|text| text.len()).sum::<usize>()
    }

    /// Ids are kept for every call under way: none may be long.
    pub(super) fn check_ids(&self) -> Result<(), ErrorBody> {
        let refused = |message| Err(ErrorBody::new("trigger_registration_failed", message));
        let namespace = self.target.namespace.as_deref();
        let mut lens = self.functions().chain(namespace).map(str::len);
        if let Some(len) = lens.find(|len| *len > ID_BYTES_MAX) {
            return refused(format!(
                "a function's id is too long: {len} > {ID_BYTES_MAX} bytes"
            ));
        }
        let len = self.target.metadata_bytes();
        if len > METADATA_BYTES_MAX {
            return refused(format!(
                "its metadata goes with each call and is too long: {len} > {METADATA_BYTES_MAX} bytes"
            ));
        }
        Ok(())
    }
}

impl ServedType {
    /// Bytes of its texts.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let formats = [&self.trigger_request_format, &self.call_request_format];
        let formats = formats.into_iter().flatten();
        let bytes: usize = formats.map(|json| json.get().len()).sum();
        self.description.len() + bytes
    }
}

impl Rate {
    /// True once in the trigger's life.
    pub(super) fn goes_in_a_circle(&mut self, second: u64) -> bool {
        if self.second != second {
            *self = Rate {
                second,
                count: 0,
                was_told: self.was_told,
            };
        }
        self.count += 1;
        let is_news = self.count == CIRCLE_CALLS_A_SECOND && !self.was_told;
        self.was_told |= is_news;
        is_news
    }
}
