//! The way to a running engine: finding its address, connecting, upgrading, and trying again.
//!
//! What is said over the link is for the broker; how a name is resolved and an address connected to, for
//! `net::dial`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::handshake::client::generate_key;

use crate::broker::{KnownAs, Level};
use crate::chance::Chance;
use crate::config::EngineAddress;
use crate::id::SlotId;
use crate::life::Sockets as _;
use crate::mesh::engine_thread;
use crate::net::dial::{Resolving, Tls, connect, tls_for};
use crate::protocol::connection::{Connection, PING_FRAME};
use crate::protocol::dial;

use super::Engine;
use super::peers::{Phase, Waits};
use super::silence::{PING_EVERY, Silence, Step};

/// How soon the link is tried again, at the least and at the most: by chance, so that many servers do
/// not come at once. Some engines forget the triggers of workers that are back before we are, and the
/// first wait of workers is a second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(250));
/// After so long a time of trying, and where the engine itself refuses us, that is enough.
const RETRY_SOON_FOR: Duration = Duration::from_secs(300);
const RETRY_LATER: (Duration, Duration) = (Duration::from_millis(700), Duration::from_millis(1300));
/// How soon a failure is told again in the log; each time twice as long, up to this.
const SAY_AGAIN: Duration = Duration::from_secs(5);
const SAY_AGAIN_MAX: Duration = Duration::from_secs(300);

/// How long a message of an engine may be, whatever its workers may send us directly: a reference
/// engine passes on what its own workers send it, 64 MiB at most, and ids. What is too long for us is
/// refused call by call: the link is everybody's.
pub(super) const LINK_MESSAGE_BYTES_MAX: usize = 72 * 1024 * 1024;

/// The engine to attach to.
#[derive(Debug, Clone)]
pub struct Attach {
    address: EngineAddress,
    tls: Option<Tls>,
    /// How often it is pinged.
    ping_every: Duration,
    /// What we are called there.
    name: String,
    /// Where we are listed there. None: the engine's own default.
    namespace: Option<String>,
}

/// Why nothing can be attached to, ever.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
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
    /// Reads, for `wss`, what the operating system trusts.
    pub fn new(
        address: EngineAddress,
        name: String,
        namespace: Option<String>,
    ) -> Result<Attach, AttachError> {
        let tls = tls_for(address.server_name.as_ref()).map_err(|cause| AttachError::Trust {
            address: address.shown.clone(),
            cause,
        })?;
        Ok(Attach {
            address,
            tls,
            ping_every: PING_EVERY,
            name,
            namespace,
        })
    }

    /// For tests: it is pinged so often, and given up after three times that without a word.
    pub fn ping_every(&mut self, every: Duration) {
        self.ping_every = every;
    }

    /// Where, without secrets.
    pub fn shown(&self) -> &str {
        &self.address.shown
    }

    /// What the broker has to know of it.
    pub(super) fn known_as(&self) -> KnownAs {
        use std::env::consts::{ARCH, FAMILY, OS};
        KnownAs {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            shown: self.address.shown.clone(),
            pid: std::process::id(),
            os: format!("{OS} {ARCH} ({FAMILY})"),
        }
    }
}

/// How far the link is.
pub(super) struct Dial {
    to: Attach,
    state: State,
    /// Since when there has been no link that the engine has settled; none while there is one.
    tried_since: Option<Instant>,
    silence: Silence,
    said: Said,
    chance: Chance,
}

/// When a failure to attach was told in the log, and when it is told again.
#[derive(Default)]
struct Said {
    again_at: Option<Instant>,
    every: Duration,
}

enum State {
    /// Tried at that time.
    Waiting(Instant),
    /// The name is being resolved.
    Resolving(Resolving),
    /// Connecting or upgrading. The other addresses of that name are still to be tried.
    Dialling { id: SlotId, rest: Vec<SocketAddr> },
    /// Upgraded.
    Up(SlotId),
}

impl Dial {
    /// Due at once.
    pub(super) fn new(to: Attach, now: Instant) -> Dial {
        let silence = Silence::new(to.ping_every, now);
        Dial {
            to,
            state: State::Waiting(now),
            tried_since: Some(now),
            silence,
            said: Said::default(),
            chance: Chance::default(),
        }
    }

    /// Whether that socket is the link, connecting or upgraded.
    fn is(&self, id: SlotId) -> bool {
        match &self.state {
            State::Up(link) | State::Dialling { id: link, .. } => *link == id,
            State::Waiting(_) | State::Resolving(_) => false,
        }
    }

    /// When it has to be looked after without the poll saying so.
    fn next_at(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => Some(at),
            State::Up(_) => Some(self.silence.next_at()),
            _ => None,
        }
    }

    /// The engine has taken us in: the next loss is a new one.
    fn has_settled(&mut self) {
        self.tried_since = None;
        self.said = Said::default();
    }

    /// `is_refused`: the engine itself wants us no longer.
    fn wait(&mut self, now: Instant, is_refused: bool) -> Duration {
        let since = *self.tried_since.get_or_insert(now);
        let is_soon = now.saturating_duration_since(since) < RETRY_SOON_FOR;
        let (least, most) = match is_soon && !is_refused {
            true => RETRY,
            false => RETRY_LATER,
        };
        let wait = self.chance.between(least, most);
        self.state = State::Waiting(now + wait);
        wait
    }
}

impl Said {
    /// Whether it is to be told now.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.again_at.is_some_and(|at| now < at) {
            return false;
        }
        self.every = (self.every * 2).clamp(SAY_AGAIN, SAY_AGAIN_MAX);
        self.again_at = Some(now + self.every);
        true
    }
}

impl Engine {
    /// Goes on with the link as far as that is due.
    pub(super) fn tend_link(&mut self) {
        let now = self.now().monotonic;
        // What the last one handed over is forgotten first.
        let may_dial = self.drain_until.is_none() && !self.broker.is_forgetting();
        let has_settled = self.broker.take_settled();
        let Some(dial) = &mut self.dial else {
            return;
        };
        if has_settled {
            dial.has_settled();
        }
        match &dial.state {
            State::Waiting(at) if *at <= now && may_dial => self.resolve(),
            State::Up(id) => {
                let id = *id;
                self.look_for_silence(id);
            }
            State::Resolving(resolving) => match resolving.look() {
                Some(Ok(addresses)) => self.dial(addresses),
                Some(Err(error)) => self.not_connected(&error.to_string(), false),
                None => {}
            },
            _ => {}
        }
    }

    fn look_for_silence(&mut self, id: SlotId) {
        let now = self.now().monotonic;
        let Some(dial) = &mut self.dial else {
            return;
        };
        let heard_at = self.broker.members.get(id).map_or(now, |it| it.heard_at);
        match dial.silence.step(now, heard_at) {
            Some(Step::Ping) => self.broker.members.send_control(id, &PING_FRAME),
            Some(Step::GiveUp(silent_for)) => {
                let seconds = silent_for.as_secs_f32();
                self.end_link(id, format!("nothing has come from it for {seconds:.0} s"));
            }
            None => {}
        }
    }

    /// Asks for the addresses of the engine's host, without waiting for them.
    fn resolve(&mut self) {
        let Some(dial) = &mut self.dial else {
            return;
        };
        let shared = Arc::clone(&self.broker.ports.shared);
        let engine = engine_thread(self.broker.ports.to_commands.len());
        let address = &dial.to.address;
        let resolving = Resolving::begin(&address.host, address.port, move || shared.wake(engine));
        dial.state = State::Resolving(resolving);
        // An address is there at once.
        self.tend_link();
    }

    /// Connects to the first of these addresses that lets itself be connected to.
    fn dial(&mut self, addresses: Vec<SocketAddr>) {
        let mut why = "its name has no address".to_owned();
        let mut rest = addresses.into_iter();
        while let Some(address) = rest.next() {
            match self.dial_one(address) {
                Ok(id) => {
                    let within = Duration::from_millis(self.broker.limits.handshake_ms);
                    self.schedule
                        .handshakes
                        .push(self.now().monotonic + within, id);
                    if let Some(dial) = &mut self.dial {
                        let rest = rest.collect();
                        dial.state = State::Dialling { id, rest };
                    }
                    return;
                }
                Err(error) => why = error.to_string(),
            }
        }
        self.not_connected(&why, false);
    }

    fn dial_one(&mut self, address: SocketAddr) -> io::Result<SlotId> {
        let Some(dial) = &self.dial else {
            return Err(io::Error::other("nobody to attach to"));
        };
        let to = &dial.to;
        let socket = connect(address, to.tls.as_ref())?;
        let key = generate_key();
        let request = dial::Request {
            host: &to.address.authority,
            target: &to.address.target,
            credentials: to.address.credentials.as_deref(),
            key: &key,
        };
        let id = self.broker.enter_link(request.bytes());
        let inserted = self
            .peers
            .insert_link(id, socket, key, self.poll.registry());
        match inserted {
            Ok(()) => Ok(id),
            Err(error) => {
                self.broker.remove(id);
                Err(error)
            }
        }
    }

    /// A part of the engine's answer to the upgrade.
    pub(super) fn received_answer(&mut self, id: SlotId, input: &[u8]) {
        let limit = self.broker.limits.handshake_bytes;
        let now = self.now().monotonic;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Phase::Waits(waits) = &mut peer.phase else {
            return;
        };
        let Waits::Dial { bytes, key } = &mut **waits else {
            return;
        };
        bytes.extend_from_slice(input);
        match dial::read_answer(bytes, limit, key) {
            dial::Answer::Incomplete => {}
            dial::Answer::Refused(why) => self.end_link(id, why),
            dial::Answer::Upgraded { consumed } => {
                let mut kept = std::mem::take(bytes);
                peer.phase = Phase::Open(Connection::default());
                if let Some(dial) = &mut self.dial {
                    dial.state = State::Up(id);
                    dial.silence = Silence::new(dial.to.ping_every, now);
                }
                self.broker.link_is_up(id);
                self.received_frames(id, &mut kept[consumed..]);
            }
        }
    }

    /// Ends the link, for that reason.
    pub(super) fn end_link(&mut self, id: SlotId, why: impl Into<String>) {
        self.broker.end_link_because(why);
        self.end(id);
    }

    /// A socket has ended, or is about to. Nothing, if it is not the link.
    pub(super) fn link_ended(&mut self, id: SlotId) {
        let now = self.now().monotonic;
        let is_ending = self.drain_until.is_some();
        let fault = self
            .peers
            .get_mut(id)
            .and_then(|peer| peer.socket.take_error());
        let Some(dial) = self.dial.as_mut().filter(|dial| dial.is(id)) else {
            return;
        };
        if self.broker.take_settled() {
            dial.has_settled();
        }
        let (why, is_refused) = self.broker.take_end_of_link();
        let why = why.or(fault);
        let why = why.unwrap_or_else(|| "it ended the connection".to_owned());
        match std::mem::replace(&mut dial.state, State::Waiting(now)) {
            _ if is_ending => {}
            // One that was never settled is one more attempt.
            State::Up(_) if dial.tried_since.is_none() => {
                dial.wait(now, is_refused);
                self.broker.detach(&why);
            }
            State::Dialling { rest, .. } if !rest.is_empty() => self.dial(rest),
            _ => self.not_connected(&why, is_refused),
        }
    }

    /// An attempt came to nothing: the next one comes later.
    fn not_connected(&mut self, why: &str, is_refused: bool) {
        let now = self.now().monotonic;
        let Some(dial) = &mut self.dial else {
            return;
        };
        dial.wait(now, is_refused);
        if dial.said.is_due(now) {
            let line = format!(
                "cannot attach to the engine at {}: {why}; trying again and again. Is it running, and is \
                 this its address?",
                dial.to.shown()
            );
            self.broker.notes.say(Level::Warn, line);
        }
    }

    /// When the link has to be looked after.
    pub(super) fn next_link_step(&self) -> Option<Instant> {
        let next = self.dial.as_ref()?.next_at();
        next.filter(|_| self.drain_until.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(now: Instant) -> Dial {
        Dial::new(
            Attach::new("ws://localhost:1".parse().unwrap(), "me".to_owned(), None).unwrap(),
            now,
        )
    }

    #[test]
    fn it_is_tried_again_within_a_quarter_of_a_second_for_minutes() {
        let start = Instant::now();
        let mut link = link(start);
        let mut now = start;
        let mut waits = Vec::new();
        while now < start + Duration::from_secs(900) {
            let wait = link.wait(now, false);
            waits.push((now - start, wait));
            now += wait;
        }
        let is_early = |at: &Duration| *at < RETRY_SOON_FOR;
        for (at, wait) in &waits {
            let (least, most) = match is_early(at) {
                true => (100, 250),
                false => (700, 1300),
            };
            let wait = wait.as_millis();
            assert!((least..=most).contains(&wait), "{wait} ms after {at:?}");
        }
        link.has_settled();
        assert!(
            link.wait(now, false).as_millis() <= 250,
            "the next loss is a new one"
        );
    }

    #[test]
    fn who_is_refused_comes_again_after_a_second() {
        let now = Instant::now();
        let mut link = link(now);
        assert!(link.wait(now, true).as_millis() >= 700);
        assert!(
            link.wait(now, false).as_millis() <= 250,
            "the next attempt fails by itself"
        );
    }

    #[test]
    fn failures_in_a_row_are_told_now_and_then() {
        let start = Instant::now();
        let mut said = Said::default();
        let told = (0..4000).filter(|n| said.is_due(start + Duration::from_millis(250 * n)));
        let told: Vec<u64> = told.map(|n| n / 4).collect();
        assert_eq!(told, [0, 5, 15, 35, 75, 155, 315, 615, 915]);
    }
}
