//! The listeners on which SDK workers connect, each with its own rules. Accepting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};

use crate::net::{ACCEPT_REST, ACCEPTS_A_TURN, Accepted, accept};
use crate::protocol::rbac::Filter;

use super::Engine;

/// The poll's name for the first listener; those that follow have the numbers below. No slot reaches
/// them.
const FIRST: usize = usize::MAX - 1;

/// One listener, and who may do what there.
pub struct Listener {
    /// Where SDK workers connect.
    pub socket: std::net::TcpListener,
    /// None: everything may be done.
    pub rules: Option<Rules>,
}

/// The rules of one listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The function that is asked about each socket.
    pub auth_function: Option<String>,
    /// What all may call that are let in.
    pub exposed: Arc<[Filter]>,
}

/// The listeners, by number.
#[derive(Default)]
pub(super) struct Listeners(Vec<Open>);

struct Open {
    /// None: it is closed.
    socket: Option<TcpListener>,
    is_acceptable: bool,
    rules: Option<Arc<Rules>>,
}

impl Listeners {
    /// Has the poll watch them all.
    pub(super) fn watch(listeners: Vec<Listener>, registry: &Registry) -> io::Result<Listeners> {
        let mut watched = Vec::new();
        for listener in listeners {
            let mut socket = TcpListener::from_std(listener.socket);
            let token = Token(FIRST - watched.len());
            registry.register(&mut socket, token, Interest::READABLE)?;
            watched.push(Open {
                socket: Some(socket),
                is_acceptable: true,
                rules: listener.rules.map(Arc::new),
            });
        }
        Ok(Listeners(watched))
    }

    /// Somebody waits there; false when it is no listener's token.
    pub(super) fn wakes(&mut self, token: Token) -> bool {
        let number = FIRST.checked_sub(token.0);
        let Some(listener) = number.and_then(|number| self.0.get_mut(number)) else {
            return false;
        };
        listener.is_acceptable = true;
        true
    }

    pub(super) fn are_acceptable(&self) -> bool {
        self.0.iter().any(|listener| listener.is_acceptable)
    }

    pub(super) fn rules_of(&self, number: usize) -> Option<&Arc<Rules>> {
        self.0.get(number)?.rules.as_ref()
    }

    fn close(&mut self) {
        for listener in &mut self.0 {
            listener.socket = None;
            listener.is_acceptable = false;
        }
    }
}

impl Engine {
    pub(super) fn accept(&mut self) {
        if self
            .accept_after
            .is_some_and(|after| after > self.now.monotonic)
        {
            return;
        }
        self.accept_after = None;
        for number in 0..self.listeners.0.len() {
            for _ in 0..ACCEPTS_A_TURN {
                if !self.listeners.0[number].is_acceptable || !self.accept_one(number) {
                    break;
                }
            }
        }
    }

    /// Nobody new from now on. Closing resets what waits: so nobody waits.
    pub(super) fn stop_accepting(&mut self) {
        for number in 0..self.listeners.0.len() {
            while self.accept_one(number) {}
        }
        self.listeners.close();
    }

    fn accept_one(&mut self, number: usize) -> bool {
        let listener = &mut self.listeners.0[number];
        let Some(socket) = &listener.socket else {
            return false;
        };
        match accept(socket) {
            Accepted::Stream(stream) => {
                let until = self.now.monotonic + Duration::from_millis(self.limits.handshake_ms);
                match self.peers.insert(stream, number, self.poll.registry()) {
                    Ok(id) => self.handshakes.push(until, id),
                    Err(error) => tracing::warn!("cannot watch an SDK worker's socket: {error}"),
                }
                true
            }
            Accepted::Nobody => {
                listener.is_acceptable = false;
                false
            }
            Accepted::Failed(error) => {
                tracing::warn!(
                    "cannot accept SDK workers: {error}; trying again soon (open files: ulimit -n)"
                );
                self.accept_after = Some(self.now.monotonic + ACCEPT_REST);
                false
            }
        }
    }
}
