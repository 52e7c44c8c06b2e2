//! The link to a running engine whose worker we are: what is known of it, what is said over it, and what
//! waits for it. How it comes about is for whoever has the socket.

pub(in crate::broker) mod attached;
mod configuration;
mod conversation;
mod gates;
mod lists;
mod settling;
mod standing;
pub(in crate::broker) mod waiting;

use crate::id::SlotId;
use crate::protocol::attached::Greeting;

/// What an engine is told of this server, and what the log is told of that engine.
#[derive(Debug, Clone)]
pub struct KnownAs {
    /// What we are called there.
    pub name: String,
    /// Where we are listed there. None: the engine's own default.
    pub namespace: Option<String>,
    /// Its address, without secrets.
    pub shown: String,
    /// Our process.
    pub pid: u32,
    /// The system that it runs on.
    pub os: String,
}

/// The link, as far as messages go over it.
pub(in crate::broker) struct Link {
    known_as: KnownAs,
    up: Option<SlotId>,
    /// Why the socket that is about to end does so, where that is known.
    why: Option<String>,
    /// The engine itself has given that reason.
    is_refused: bool,
    /// The engine has taken us in, which whoever dials has not heard yet.
    has_settled: bool,
    /// What the engine said first on this link, and on the last one that it did not refuse: the next
    /// one takes that one's place.
    greeting: Option<Greeting>,
    older: Option<Greeting>,
}

impl Link {
    fn new(known_as: KnownAs) -> Link {
        Link {
            known_as,
            up: None,
            why: None,
            is_refused: false,
            has_settled: false,
            greeting: None,
            older: None,
        }
    }

    /// What we are called there, and where we are listed.
    pub(in crate::broker) fn known_as(&self) -> (&str, Option<&str>) {
        (&self.known_as.name, self.known_as.namespace.as_deref())
    }

    /// Where, without secrets.
    pub(in crate::broker) fn shown(&self) -> &str {
        &self.known_as.shown
    }

    /// The socket, while messages can be sent.
    pub(in crate::broker) fn up(&self) -> Option<SlotId> {
        self.up
    }

    /// What the engine has said first.
    fn greeted(&mut self, greeting: Greeting) {
        self.greeting = Some(greeting);
    }

    /// The link whose place the next one takes.
    fn older(&self) -> Option<&Greeting> {
        self.older.as_ref()
    }

    /// The engine has taken us in: the next loss is a new one.
    fn settled(&mut self) {
        self.has_settled = true;
        self.is_refused = false;
    }

    /// Remembers why the socket is about to end.
    fn because(&mut self, why: impl Into<String>) {
        self.why = Some(why.into());
    }

    /// The same, where it is the engine that says so.
    fn refused_because(&mut self, why: impl Into<String>) {
        self.because(why);
        self.is_refused = true;
    }

    /// The engine does not let us register something on this link: it takes nobody's place, and the next
    /// one comes later.
    fn is_rejected(&mut self) {
        self.is_refused = true;
    }

    /// Its socket has ended. What the engine has refused has taken nobody's place.
    fn ended(&mut self) {
        self.up = None;
        if let Some(greeting) = self.greeting.take().filter(|_| !self.is_refused) {
            self.older = Some(greeting);
        }
    }
}
