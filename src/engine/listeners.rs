//! The listeners on which SDK workers connect. Accepting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::net::TcpStream;

use crate::broker::Rules;
use crate::net::tls::{MaybeTls, Offer, Offered};
use crate::net::{self, ACCEPTS_A_TURN, listener_token};
use crate::time::RarelyOfAll;

use super::Engine;

/// One listener, and who may do what there.
pub struct Listener {
    /// Where SDK workers connect.
    pub socket: std::net::TcpListener,
    /// None: everything may be done.
    pub rules: Option<Rules>,
    /// The function that is called in place of each that is called through it.
    pub middleware: Option<String>,
    /// What it shows under TLS. None: it is plain.
    pub tls: Option<Arc<Offered>>,
}

/// The listeners, by number.
#[derive(Default)]
pub(super) struct Listeners(Vec<(net::Listener, Option<Offer>)>);

impl Listeners {
    /// Has the poll watch them all.
    pub(super) fn watch(
        listeners: Vec<Listener>,
        registry: &Registry,
        said: &Arc<RarelyOfAll>,
    ) -> io::Result<Listeners> {
        let mut watched = Vec::new();
        for Listener { socket, tls, .. } in listeners {
            let token = listener_token(watched.len());
            let said = Arc::clone(said);
            let listener = net::Listener::watch(socket, token, registry, "SDK workers", said)?;
            watched.push((listener, tls.map(Offer::new)));
        }
        Ok(Listeners(watched))
    }

    /// The poll says that somebody waits there.
    pub(super) fn wake(&mut self, number: usize) {
        if let Some((listener, _)) = self.0.get_mut(number) {
            listener.wake();
        }
    }

    /// Whether somebody waits and may be accepted now.
    pub(super) fn are_due(&self) -> bool {
        self.0.iter().any(|(listener, _)| listener.is_due())
    }

    /// When accepting goes on at the first that rests.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        let rests = self.0.iter();
        let rests = rests.filter_map(|(listener, _)| listener.rests_until());
        rests.min()
    }
}

impl Engine {
    pub(super) fn accept(&mut self) {
        let now = self.now().monotonic;
        let accepts_per_s = self.broker.turn.limits.accepts_per_s;
        for number in 0..self.listeners.0.len() {
            self.listeners.0[number].0.go_on(now);
            for _ in 0..ACCEPTS_A_TURN {
                let (listener, _) = &mut self.listeners.0[number];
                let shared = &self.broker.turn.ports.shared;
                if listener.is_due() && !shared.has_room_for_socket() {
                    listener.rest(now, &shared.no_room());
                    break;
                }
                if listener.is_due()
                    && accepts_per_s > 0
                    && let Err(until) = shared.accepts[1].take(now, accepts_per_s)
                {
                    listener.pause(until);
                    break;
                }
                let Some(stream) = listener.accept(now) else {
                    break;
                };
                self.enter_socket(number, stream);
            }
        }
    }

    /// Nobody new from now on. Closing resets what waits: so nobody waits.
    pub(super) fn stop_accepting(&mut self) {
        let now = self.now().monotonic;
        for number in 0..self.listeners.0.len() {
            let (listener, _) = &mut self.listeners.0[number];
            for stream in listener.close(now) {
                self.enter_socket(number, stream);
            }
        }
    }

    /// Has all threads know how many sockets there are here.
    pub(super) fn count_sockets(&self) {
        let len = self.peers.len();
        self.broker
            .turn
            .ports
            .shared
            .sdk_sockets
            .store(len, Ordering::Relaxed);
    }

    fn enter_socket(&mut self, number: usize, stream: TcpStream) {
        let within = Duration::from_millis(self.broker.turn.limits.handshake_ms);
        let until = self.now().monotonic + within;
        let ip = stream.peer_addr().ok().map(|address| address.ip());
        let id = self.broker.turn.enter(number, ip);
        let offer = self.listeners.0[number].1.as_mut();
        let is_proxy = ip.is_some_and(|ip| self.proxies.trust(ip));
        let watched = MaybeTls::accepted(stream, offer).and_then(|mut socket| {
            if is_proxy {
                socket.expect_line();
            }
            let registry = self.poll.registry();
            self.peers.insert(id, socket, number, registry)
        });
        match watched {
            Ok(()) => {
                self.schedule.handshakes.push(until, id);
                self.broker
                    .turn
                    .debug(id, || "connects to the worker port".to_owned());
                self.end_oldest_waiting();
            }
            Err(error) => {
                self.broker.remove(id);
                tracing::warn!("cannot watch an SDK worker's socket: {error}");
            }
        }
        self.count_sockets();
    }
}
