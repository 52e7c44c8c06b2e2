//! The link to a running engine: finding its address, connecting, upgrading, and trying again.
//!
//! What is said over it stands in `attached`. Names are resolved on a thread that lives no longer than
//! the question: it is the one system call here that can take its time.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tungstenite::handshake::client::generate_key;

use crate::id::SlotId;
use crate::mesh::engine_thread;
use crate::net::channel::{self, Channel};
use crate::protocol::connection::Connection;
use crate::protocol::dial;

use super::Engine;
use super::address::EngineAddress;
use super::peers::Phase;

/// How soon the link is tried again after it was lost.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// How soon after the first failure; twice as long after each further one.
const RETRY: Duration = Duration::from_secs(1);
/// And never longer than this.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Each wait differs by up to so much of itself, so that many servers do not come at once.
const JITTER: f64 = 0.3;

/// How long a message of an engine may be, whatever its workers may send us directly: a reference
/// engine passes on what its own workers send it, 64 MiB at most, and ids. What is too long for us is
/// refused call by call: the link is everybody's.
pub(super) const LINK_MESSAGE_BYTES_MAX: usize = 72 * 1024 * 1024;

/// The engine to attach to.
#[derive(Debug, Clone)]
pub struct Attach {
    address: EngineAddress,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What we are called there.
    pub(super) name: String,
    /// Where we are listed there. None: the engine's own default.
    pub(super) namespace: Option<String>,
}

/// Why nothing can be attached to, ever.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The configuration lets no such address pass.
    #[error("{0} is no address of an engine, expected ws://host:port or wss://host:port")]
    Address(String),
    /// Nobody vouches for any server.
    #[error(
        "cannot attach to {address}: no certificates to trust ({cause}); install the system's \
         (package ca-certificates), or name a file of them in SSL_CERT_FILE"
    )]
    Trust {
        /// Without secrets.
        address: String,
        /// What was found instead.
        cause: String,
    },
}

impl Attach {
    /// Reads the address and, for `wss`, what the operating system trusts.
    pub fn new(url: &str, name: String, namespace: Option<String>) -> Result<Attach, AttachError> {
        let wrong = || AttachError::Address(crate::config::without_secrets(url));
        let address = EngineAddress::parse(url).ok_or_else(wrong)?;
        let tls = if address.is_tls {
            let name = ServerName::try_from(address.host.clone()).map_err(|_| wrong())?;
            let config = channel::trust().map_err(|cause| AttachError::Trust {
                address: address.shown.clone(),
                cause,
            })?;
            Some((config, name))
        } else {
            None
        };
        Ok(Attach {
            address,
            tls,
            name,
            namespace,
        })
    }

    /// Where, without secrets.
    pub fn shown(&self) -> &str {
        &self.address.shown
    }
}

/// How far the link is.
pub(super) struct Link {
    to: Attach,
    state: State,
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// Why the socket that is about to end does so, where that is known.
    why: Option<String>,
    chance: Chance,
}

enum State {
    /// Tried at that time.
    Waiting(Instant),
    /// The name is being resolved.
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>),
    /// Connecting or upgrading. The other addresses of that name are still to be tried.
    Dialling { id: SlotId, rest: Vec<SocketAddr> },
    /// Upgraded.
    Up(SlotId),
}

impl Link {
    /// Due at once.
    pub(super) fn new(to: Attach, now: Instant) -> Link {
        Link {
            to,
            state: State::Waiting(now),
            failures: 0,
            why: None,
            chance: Chance::default(),
        }
    }

    /// What we are called there, and where we are listed.
    pub(super) fn known_as(&self) -> (&str, Option<&str>) {
        (&self.to.name, self.to.namespace.as_deref())
    }

    /// Where, without secrets.
    pub(super) fn shown(&self) -> &str {
        self.to.shown()
    }

    /// The socket, while messages can be sent.
    pub(super) fn up(&self) -> Option<SlotId> {
        match self.state {
            State::Up(id) => Some(id),
            _ => None,
        }
    }

    /// Whether that socket is the link, connecting or upgraded.
    pub(super) fn is(&self, id: SlotId) -> bool {
        match &self.state {
            State::Up(link) | State::Dialling { id: link, .. } => *link == id,
            State::Waiting(_) | State::Resolving(_) => false,
        }
    }

    /// When it has to be looked after without the poll saying so.
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => Some(at),
            _ => None,
        }
    }

    /// The engine has taken us in: the next loss is a new one.
    pub(super) fn has_settled(&mut self) {
        self.failures = 0;
    }

    /// Remembers why the socket is about to end.
    pub(super) fn because(&mut self, why: impl Into<String>) {
        self.why = Some(why.into());
    }

    fn wait(&mut self, now: Instant) -> Duration {
        let wait = retry_after(self.failures).mul_f64(1.0 + JITTER * self.chance.signed());
        self.failures += 1;
        self.state = State::Waiting(now + wait);
        wait
    }
}

/// How long to wait after so many failures in a row, before jitter.
fn retry_after(failures: u32) -> Duration {
    match failures {
        0 => RETRY_FIRST,
        count => RETRY
            .saturating_mul(2_u32.saturating_pow(count - 1))
            .min(RETRY_MAX),
    }
}

impl Engine {
    /// Goes on with the link as far as that is due.
    pub(super) fn tend_link(&mut self) {
        let now = self.now.monotonic;
        let is_ending = self.drain_until.is_some();
        let Some(attached) = &mut self.attached else {
            return;
        };
        match &attached.link.state {
            State::Waiting(at) if *at <= now && !is_ending => self.resolve(),
            State::Resolving(answer) => match answer.try_recv() {
                Ok(Ok(addresses)) => self.dial(addresses),
                Ok(Err(error)) => self.not_connected(&error.to_string()),
                Err(TryRecvError::Disconnected) => self.not_connected("the name was not resolved"),
                Err(TryRecvError::Empty) => {}
            },
            _ => {}
        }
    }

    /// Asks for the addresses of the engine's host, without waiting for them.
    fn resolve(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let address = &attached.link.to.address;
        let (host, port) = (address.host.clone(), address.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.dial(vec![SocketAddr::new(ip, port)]);
        }
        let (sender, answer) = crossbeam_channel::bounded(1);
        let shared = Arc::clone(&self.ports.shared);
        let engine = engine_thread(self.ports.to_commands.len());
        let question = move || {
            let found = (&*host, port).to_socket_addrs().map(Iterator::collect);
            let _ = sender.try_send(found); // nobody listens when the process ends
            shared.wake(engine);
        };
        attached.link.state = State::Resolving(answer);
        let asked = std::thread::Builder::new()
            .name("resolve".to_owned())
            .spawn(question);
        if let Err(error) = asked {
            self.not_connected(&error.to_string());
        }
    }

    /// Connects to the first of these addresses that lets itself be connected to.
    fn dial(&mut self, addresses: Vec<SocketAddr>) {
        let mut why = "its name has no address".to_owned();
        let mut rest = addresses.into_iter();
        while let Some(address) = rest.next() {
            match self.dial_one(address) {
                Ok(id) => {
                    let until =
                        self.now.monotonic + Duration::from_millis(self.limits.handshake_ms);
                    self.handshakes.push(until, id);
                    if let Some(attached) = &mut self.attached {
                        let rest = rest.collect();
                        attached.link.state = State::Dialling { id, rest };
                    }
                    return;
                }
                Err(error) => why = error.to_string(),
            }
        }
        self.not_connected(&why);
    }

    fn dial_one(&mut self, address: SocketAddr) -> io::Result<SlotId> {
        let Some(attached) = &self.attached else {
            return Err(io::Error::other("nobody to attach to"));
        };
        let to = &attached.link.to;
        let stream = TcpStream::connect(address)?;
        let socket = match &to.tls {
            Some((config, name)) => {
                Channel::tls(stream, Arc::clone(config), name.clone()).map_err(io::Error::other)?
            }
            None => Channel::plain(stream),
        };
        let key = generate_key();
        let request = dial::Request {
            host: &to.address.authority,
            target: &to.address.target,
            credentials: to.address.credentials.as_deref(),
            key: &key,
        };
        self.peers
            .insert_link(socket, request.bytes(), key, self.poll.registry())
    }

    /// A part of the engine's answer to the upgrade.
    pub(super) fn received_answer(&mut self, id: SlotId, input: &[u8]) {
        let limit = self.limits.handshake_bytes;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Phase::Dial { bytes, key } = &mut peer.phase else {
            return;
        };
        bytes.extend_from_slice(input);
        match dial::read_answer(bytes, limit, key) {
            dial::Answer::Incomplete => {}
            dial::Answer::Refused(why) => self.end_link(id, why),
            dial::Answer::Upgraded { consumed } => {
                let mut kept = std::mem::take(bytes);
                peer.phase = Phase::Work(Connection::default());
                if let Some(attached) = &mut self.attached {
                    attached.link.state = State::Up(id);
                }
                self.attach();
                self.received_frames(id, &mut kept[consumed..]);
            }
        }
    }

    /// Ends the link, for that reason.
    pub(super) fn end_link(&mut self, id: SlotId, why: impl Into<String>) {
        if let Some(attached) = &mut self.attached {
            attached.link.because(why);
        }
        self.end(id);
    }

    /// The link's socket has ended, or is about to. Gives the reason when it was up and is to be again.
    pub(super) fn link_ended(&mut self, id: SlotId) -> Option<String> {
        let is_ending = self.drain_until.is_some();
        let fault = self
            .peers
            .get_mut(id)
            .and_then(|peer| peer.socket.take_error());
        let link = &mut self.attached.as_mut()?.link;
        let why = link.why.take().or(fault);
        let why = why.unwrap_or_else(|| "it ended the connection".to_owned());
        match std::mem::replace(&mut link.state, State::Waiting(self.now.monotonic)) {
            _ if is_ending => None,
            State::Up(_) => {
                link.wait(self.now.monotonic);
                Some(why)
            }
            State::Dialling { rest, .. } if !rest.is_empty() => {
                self.dial(rest);
                None
            }
            _ => {
                self.not_connected(&why);
                None
            }
        }
    }

    /// An attempt came to nothing: the next one comes later.
    fn not_connected(&mut self, why: &str) {
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.link.failures = attached.link.failures.max(1);
        let wait = attached.link.wait(now);
        tracing::warn!(
            "cannot attach to the engine at {}: {why}; trying again in {:.1} s. Is it running, and is \
             this its address?",
            attached.link.shown(),
            wait.as_secs_f64()
        );
    }
}

/// The masks of a client's frames. The peer cannot tell the next one from those before.
#[derive(Default)]
pub(super) struct Masks(Chance);

impl Masks {
    pub(super) fn next(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0.draw().to_ne_bytes();
        [a, b, c, d]
    }
}

/// Numbers by chance: a keyed hash of a counter, its key drawn by the standard library.
#[derive(Default)]
struct Chance {
    key: RandomState,
    drawn: u64,
}

impl Chance {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.key.hash_one(self.drawn)
    }

    /// Between -1 and 1.
    fn signed(&mut self) -> f64 {
        self.draw() as f64 / u64::MAX as f64 * 2.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let seconds: Vec<f64> = (0..8)
            .map(|failures| retry_after(failures).as_secs_f64())
            .collect();
        assert_eq!(seconds, [0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(retry_after(u32::MAX), RETRY_MAX);
    }

    #[test]
    fn waits_differ_by_less_than_a_third() {
        let to = Attach::new("ws://localhost:1", "me".to_owned(), None).unwrap();
        let now = Instant::now();
        let mut link = Link::new(to, now);
        for _ in 0..100 {
            link.failures = 1;
            let wait = link.wait(now).as_secs_f64();
            assert!((0.7..=1.3).contains(&wait), "{wait}");
            assert_eq!(link.failures, 2);
        }
    }

    #[test]
    fn masks_differ() {
        let mut masks = Masks::default();
        let drawn: std::collections::HashSet<[u8; 4]> = (0..100).map(|_| masks.next()).collect();
        assert!(drawn.len() > 90);
    }
}
