//! The listeners on which SDK workers connect, each with its own rules. Accepting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::net::TcpStream;

use crate::net::{self, ACCEPTS_A_TURN, listener_token};
use crate::protocol::rbac::Filter;
use crate::protocol::rbac::asked::Registration;

use super::Engine;

/// One listener, and who may do what there.
pub struct Listener {
    /// Where SDK workers connect.
    pub socket: std::net::TcpListener,
    /// None: everything may be done.
    pub rules: Option<Rules>,
    /// The function that is called in place of each that is called through it.
    pub middleware: Option<String>,
}

/// The rules of one listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The function that is asked about each socket.
    pub auth_function: Option<String>,
    /// The functions that are asked about each registration, by its kind.
    pub on_function: Option<Arc<str>>,
    /// The same of triggers.
    pub on_trigger: Option<Arc<str>>,
    /// The same of trigger types.
    pub on_trigger_type: Option<Arc<str>>,
    /// What all may call that are let in.
    pub exposed: Arc<[Filter]>,
}

impl Rules {
    /// The function that is asked about a registration of that kind.
    pub(super) fn asked_about(&self, registration: Registration) -> Option<&Arc<str>> {
        match registration {
            Registration::Function => self.on_function.as_ref(),
            Registration::Trigger => self.on_trigger.as_ref(),
            Registration::TriggerType => self.on_trigger_type.as_ref(),
        }
    }

    fn ask(&self, function_id: &str) -> bool {
        let of_registrations = [&self.on_function, &self.on_trigger, &self.on_trigger_type];
        let mut named = of_registrations.into_iter().flatten().map(|named| &**named);
        self.auth_function.as_deref() == Some(function_id)
            || named.any(|named| named == function_id)
    }
}

/// The listeners, by number.
#[derive(Default)]
pub(super) struct Listeners(Vec<Open>);

struct Open {
    listener: net::Listener,
    rules: Option<Arc<Rules>>,
    middleware: Option<Arc<str>>,
}

impl Listeners {
    /// Has the poll watch them all.
    pub(super) fn watch(listeners: Vec<Listener>, registry: &Registry) -> io::Result<Listeners> {
        let mut watched = Vec::new();
        for Listener {
            socket,
            rules,
            middleware,
        } in listeners
        {
            let token = listener_token(watched.len());
            watched.push(Open {
                listener: net::Listener::watch(socket, token, registry, "SDK workers")?,
                rules: rules.map(Arc::new),
                middleware: middleware.map(Arc::from),
            });
        }
        Ok(Listeners(watched))
    }

    /// The poll says that somebody waits there.
    pub(super) fn wake(&mut self, number: usize) {
        if let Some(open) = self.0.get_mut(number) {
            open.listener.wake();
        }
    }

    /// Whether somebody waits and may be accepted now.
    pub(super) fn are_due(&self) -> bool {
        self.0.iter().any(|open| open.listener.is_due())
    }

    /// When accepting goes on at the first that rests.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        let rests = self.0.iter().filter_map(|open| open.listener.rests_until());
        rests.min()
    }

    /// Whether some listener has that function asked: about sockets, registrations or calls.
    pub(super) fn ask(&self, function_id: &str) -> bool {
        self.0.iter().any(|open| {
            let is_in_rules = open
                .rules
                .as_ref()
                .is_some_and(|rules| rules.ask(function_id));
            is_in_rules || open.middleware.as_deref() == Some(function_id)
        })
    }

    /// The function that is called in place of each that is called through that listener.
    pub(super) fn middleware_of(&self, number: usize) -> Option<&Arc<str>> {
        self.0.get(number)?.middleware.as_ref()
    }

    pub(super) fn rules_of(&self, number: usize) -> Option<&Arc<Rules>> {
        self.0.get(number)?.rules.as_ref()
    }
}

impl Engine {
    pub(super) fn accept(&mut self) {
        for number in 0..self.listeners.0.len() {
            for _ in 0..ACCEPTS_A_TURN {
                let listener = &mut self.listeners.0[number].listener;
                let shared = &self.ports.shared;
                if listener.is_due() && !shared.has_room_for_socket() {
                    listener.rest(self.now.monotonic, &shared.no_room());
                    break;
                }
                let Some(stream) = listener.accept(self.now.monotonic) else {
                    break;
                };
                self.enter_socket(number, stream);
            }
        }
    }

    /// Nobody new from now on. Closing resets what waits: so nobody waits.
    pub(super) fn stop_accepting(&mut self) {
        for number in 0..self.listeners.0.len() {
            let listener = &mut self.listeners.0[number].listener;
            for stream in listener.close(self.now.monotonic) {
                self.enter_socket(number, stream);
            }
        }
    }

    /// Has all threads know how many sockets there are here.
    pub(super) fn count_sockets(&self) {
        let len = self.peers.len();
        self.ports.shared.sdk_sockets.store(len, Ordering::Relaxed);
    }

    fn enter_socket(&mut self, number: usize, stream: TcpStream) {
        let until = self.now.monotonic + Duration::from_millis(self.limits.handshake_ms);
        match self.peers.insert(stream, number, self.poll.registry()) {
            Ok(id) => {
                self.handshakes.push(until, id);
                self.debug(id, || "connects to the worker port".to_owned());
                self.end_oldest_waiting();
            }
            Err(error) => tracing::warn!("cannot watch an SDK worker's socket: {error}"),
        }
        self.count_sockets();
    }
}
