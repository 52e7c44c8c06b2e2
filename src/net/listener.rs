//! A listener that a poll watches: whether somebody waits, and when accepting goes on after the
//! process had no descriptor left.
//!
//! May not know what becomes of the sockets.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::time::RarelyOfAll;

/// Sockets accepted in one turn, at most.
pub const ACCEPTS_A_TURN: usize = 64;
/// How long accepting rests when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// One listener.
pub struct Listener {
    /// None: it is closed.
    socket: Option<TcpListener>,
    /// Sockets wait: the poll has said so and no accept since has found none.
    is_acceptable: bool,
    /// No accept before this.
    rests_until: Option<Instant>,
    /// That it rests, and why: said for all listeners together.
    said: Arc<RarelyOfAll>,
    /// Who connects there, for the log.
    whom: &'static str,
}

impl Listener {
    /// Has the poll watch the socket under that name.
    pub fn watch(
        socket: std::net::TcpListener,
        token: Token,
        registry: &Registry,
        whom: &'static str,
        said: Arc<RarelyOfAll>,
    ) -> io::Result<Listener> {
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Listener {
            socket: Some(socket),
            is_acceptable: true,
            rests_until: None,
            said,
            whom,
        })
    }

    /// The poll says that somebody waits.
    pub fn wake(&mut self) {
        self.is_acceptable = self.socket.is_some();
    }

    /// It has rested long enough.
    pub fn go_on(&mut self, now: Instant) {
        self.rests_until.take_if(|until| *until <= now);
    }

    /// Whether somebody waits and may be accepted now.
    pub fn is_due(&self) -> bool {
        self.is_acceptable && self.rests_until.is_none()
    }

    /// When accepting goes on, if it rests.
    pub fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// The next socket that waits, in no poll yet. None: nobody waits, or accepting rests.
    pub fn accept(&mut self, now: Instant) -> Option<TcpStream> {
        self.go_on(now);
        match self.is_due() {
            true => self.take(now),
            false => None,
        }
    }

    /// Closes it. Closing resets whoever waits: so they are accepted before.
    pub fn close(&mut self, now: Instant) -> Vec<TcpStream> {
        let rest = std::iter::from_fn(|| self.take(now)).collect();
        self.socket = None;
        self.is_acceptable = false;
        self.rests_until = None;
        rest
    }

    fn take(&mut self, now: Instant) -> Option<TcpStream> {
        let socket = self.socket.as_ref()?;
        loop {
            match socket.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_acceptable = false;
                    return None;
                }
                Err(error) if is_nothing(&error) => {}
                Err(error) => {
                    self.rest(now, &error);
                    return None;
                }
            }
        }
    }

    /// No accept before that time: others are to be accepted in between.
    pub fn pause(&mut self, until: Instant) {
        self.rests_until = Some(until);
    }

    /// No accept for a while, for that reason.
    pub fn rest(&mut self, now: Instant, why: &dyn fmt::Display) {
        self.rests_until = Some(now + REST);
        if !self.said.ask(now) {
            return;
        }
        tracing::warn!(
            "cannot accept {}: {why}; trying again every {} ms (open files: ulimit -n); \
             this is said every {} s while it lasts",
            self.whom,
            REST.as_millis(),
            RarelyOfAll::EVERY.as_secs()
        );
    }
}

/// The peer was gone before it was accepted, or a signal came: the next one.
fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream as Client};

    use mio::{Events, Poll};

    use super::*;

    const TOKEN: Token = Token(7);

    fn listener(poll: &Poll) -> (Listener, SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let said = Arc::default();
        let listener = Listener::watch(socket, TOKEN, poll.registry(), "clients", said);
        (listener.unwrap(), address)
    }

    /// Returns when the poll has said that somebody waits.
    fn wait(poll: &mut Poll, listener: &mut Listener) {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(10)))
            .unwrap();
        assert!(events.iter().any(|event| event.token() == TOKEN));
        listener.wake();
    }

    #[test]
    fn whoever_waits_is_accepted_and_then_nobody_does() {
        let mut poll = Poll::new().unwrap();
        let (mut listener, address) = listener(&poll);
        let now = Instant::now();
        assert!(listener.accept(now).is_none() && !listener.is_due());
        let _clients = [(); 2].map(|()| Client::connect(address).unwrap());
        wait(&mut poll, &mut listener);
        assert!(listener.is_due());
        assert!(listener.accept(now).is_some() && listener.accept(now).is_some());
        assert!(listener.accept(now).is_none() && !listener.is_due());
    }

    #[test]
    fn accepting_rests_after_a_failure_and_goes_on_by_itself() {
        let mut poll = Poll::new().unwrap();
        let (mut listener, address) = listener(&poll);
        let _client = Client::connect(address).unwrap();
        wait(&mut poll, &mut listener);
        let now = Instant::now();
        listener.rest(now, &io::Error::other("no descriptor left"));
        assert!(listener.accept(now).is_none() && !listener.is_due());
        let rested = listener.rests_until().unwrap();
        assert_eq!(rested, now + REST);
        assert!(listener.accept(rested).is_some());
        assert!(listener.rests_until().is_none());
        listener.rest(rested, &io::Error::other("no descriptor left"));
        assert!(!listener.said.ask(rested), "once is enough");
        listener.pause(rested + REST * 9);
        assert!(listener.accept(rested + REST * 8).is_none());
    }

    #[test]
    fn whoever_waits_when_it_closes_is_accepted_before() {
        let mut poll = Poll::new().unwrap();
        let (mut listener, address) = listener(&poll);
        let _client = Client::connect(address).unwrap();
        wait(&mut poll, &mut listener);
        let now = Instant::now();
        assert_eq!(listener.close(now).len(), 1);
        listener.wake();
        assert!(!listener.is_due() && listener.accept(now).is_none());
        assert!(Client::connect(address).is_err(), "nobody listens there");
    }
}
