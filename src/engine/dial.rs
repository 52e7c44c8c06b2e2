//! The way to a running engine: finding its address, connecting, upgrading, and trying again.
//!
//! What is said over the link is for the broker; how a name is resolved and an address connected to, for
//! `net::dial`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::handshake::client::generate_key;

use crate::broker::KnownAs;
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
    /// Addresses at which the engine itself has refused us, and when each may be tried again.
    held_back: Vec<(SocketAddr, Instant)>,
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
    /// One address has come to nothing: the others of that name are tried next.
    Between(Vec<SocketAddr>),
    /// Connecting or upgrading.
    Dialling(Way),
    /// Upgraded.
    Up(Way),
}

/// The socket to one of the addresses of the engine's name.
struct Way {
    id: SlotId,
    at: SocketAddr,
    /// The others, which are still to be tried if this one comes to nothing.
    rest: Vec<SocketAddr>,
}

impl Dial {
    /// Due at once.
    pub(super) fn new(to: Attach, now: Instant) -> Dial {
        let silence = Silence::new(to.ping_every, now);
        Dial {
            to,
            state: State::Waiting(now),
            tried_since: Some(now),
            held_back: Vec::new(),
            silence,
            said: Said::default(),
            chance: Chance::default(),
        }
    }

    /// Whether that socket is the link, connecting or upgraded.
    fn is(&self, id: SlotId) -> bool {
        match &self.state {
            State::Up(way) | State::Dialling(way) => way.id == id,
            State::Waiting(_) | State::Resolving(_) | State::Between(_) => false,
        }
    }

    /// When it has to be looked after without the poll saying so.
    fn next_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Waiting(at) => Some(at),
            State::Between(_) => Some(now),
            State::Up(_) => Some(self.silence.next_at()),
            State::Resolving(_) | State::Dialling(_) => None,
        }
    }

    /// The engine has taken us in: the next loss is a new one.
    fn has_settled(&mut self) {
        self.tried_since = None;
        self.said = Said::default();
        if let State::Up(way) = &self.state {
            let at = way.at;
            self.held_back.retain(|(held, _)| *held != at);
        }
    }

    /// The socket that was dialled is upgraded.
    fn is_up(&mut self, now: Instant) {
        self.silence = Silence::new(self.to.ping_every, now);
        self.state = match std::mem::replace(&mut self.state, State::Waiting(now)) {
            State::Dialling(way) => State::Up(way),
            other => other,
        };
    }

    /// An attempt at every address has come to nothing.
    fn wait(&mut self, now: Instant) -> Duration {
        let since = *self.tried_since.get_or_insert(now);
        let is_soon = now.saturating_duration_since(since) < RETRY_SOON_FOR;
        let (least, most) = match is_soon {
            true => RETRY,
            false => RETRY_LATER,
        };
        let wait = self.chance.between(least, most);
        self.state = State::Waiting(now + wait);
        wait
    }

    /// The engine itself refuses us there: that address waits, and no other.
    fn hold_back(&mut self, at: SocketAddr, now: Instant) {
        let (least, most) = RETRY_LATER;
        let until = now + self.chance.between(least, most);
        self.held_back.retain(|(held, _)| *held != at);
        self.held_back.push((at, until));
    }

    /// Those of these addresses that may be tried now. Err: none, before that time.
    fn may_be_tried(
        &mut self,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<Vec<SocketAddr>, Instant> {
        self.held_back.retain(|(_, until)| *until > now);
        let until = |at: &SocketAddr| {
            let mut held_back = self.held_back.iter();
            held_back
                .find(|(held, _)| held == at)
                .map(|(_, until)| *until)
        };
        match addresses.iter().filter_map(until).min() {
            Some(first) if addresses.iter().all(|at| until(at).is_some()) => Err(first),
            _ => Ok(addresses
                .into_iter()
                .filter(|at| until(at).is_none())
                .collect()),
        }
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
            State::Between(rest) if may_dial => {
                let rest = rest.clone();
                self.dial(rest);
            }
            State::Up(way) => {
                let id = way.id;
                self.look_for_silence(id);
            }
            State::Resolving(resolving) => match resolving.look() {
                Some(Ok(addresses)) => self.dial(addresses),
                Some(Err(error)) => self.not_connected(&error.to_string()),
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
        let heard_at = self
            .broker
            .turn
            .members
            .get(id)
            .map_or(now, |it| it.heard_at);
        match dial.silence.step(now, heard_at) {
            Some(Step::Ping) => self.broker.turn.members.send_control(id, &PING_FRAME),
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
        let shared = Arc::clone(&self.broker.turn.ports.shared);
        let engine = engine_thread(self.broker.turn.ports.to_commands.len());
        let address = &dial.to.address;
        let resolving = Resolving::begin(&address.host, address.port, move || shared.wake(engine));
        dial.state = State::Resolving(resolving);
        // An address is there at once.
        self.tend_link();
    }

    /// Connects to the first of these addresses that lets itself be connected to.
    fn dial(&mut self, addresses: Vec<SocketAddr>) {
        let now = self.now().monotonic;
        let Some(dial) = &mut self.dial else {
            return;
        };
        let addresses = match dial.may_be_tried(addresses, now) {
            Ok(addresses) => addresses,
            Err(until) => return dial.state = State::Waiting(until),
        };
        let mut why = "its name has no address".to_owned();
        let mut rest = addresses.into_iter();
        while let Some(at) = rest.next() {
            match self.dial_one(at) {
                Ok(id) => {
                    let within = Duration::from_millis(self.broker.turn.limits.handshake_ms);
                    self.schedule.handshakes.push(now + within, id);
                    if let Some(dial) = &mut self.dial {
                        let rest = rest.collect();
                        dial.state = State::Dialling(Way { id, at, rest });
                    }
                    return;
                }
                Err(error) => why = error.to_string(),
            }
        }
        self.not_connected(&why);
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
        let id = self.broker.turn.enter_link(request.bytes());
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
        let limit = self.broker.turn.limits.handshake_bytes;
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
                    dial.is_up(now);
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
        let was_settled = dial.tried_since.is_none();
        let (State::Up(way) | State::Dialling(way)) =
            std::mem::replace(&mut dial.state, State::Waiting(now))
        else {
            return;
        };
        if is_refused {
            dial.hold_back(way.at, now);
        }
        if is_ending {
            return;
        }
        // One that was never settled is one more attempt, and the next address is tried.
        match way.rest.is_empty() {
            _ if was_settled => {
                dial.wait(now);
                self.broker.turn.say_detached(&why);
            }
            true => self.not_connected(&why),
            false => dial.state = State::Between(way.rest),
        }
    }

    /// An attempt came to nothing at every address: the next one comes later.
    fn not_connected(&mut self, why: &str) {
        let now = self.now().monotonic;
        let Some(dial) = &mut self.dial else {
            return;
        };
        dial.wait(now);
        if dial.said.is_due(now) {
            tracing::warn!(
                "cannot attach to the engine at {}: {why}; trying again and again. Is it running, and is \
                 this its address?",
                dial.to.shown()
            );
        }
    }

    /// When the link has to be looked after.
    pub(super) fn next_link_step(&self) -> Option<Instant> {
        let next = self.dial.as_ref()?.next_at(self.now().monotonic);
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
            let wait = link.wait(now);
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
            link.wait(now).as_millis() <= 250,
            "the next loss is a new one"
        );
    }

    #[test]
    fn an_address_that_refuses_us_waits_a_second_and_holds_up_no_other() {
        let now = Instant::now();
        let ms = |ms| now + Duration::from_millis(ms);
        let [one, two] = [1, 2].map(|host| SocketAddr::from(([10, 0, 0, host], 49134)));
        let mut link = link(now);
        assert_eq!(link.may_be_tried(vec![one, two], now), Ok(vec![one, two]));
        link.hold_back(one, now);
        assert_eq!(link.may_be_tried(vec![one, two], ms(600)), Ok(vec![two]));
        let until = link.may_be_tried(vec![one], ms(600)).unwrap_err();
        assert!((ms(700)..=ms(1300)).contains(&until));
        link.hold_back(two, ms(600));
        assert_eq!(
            link.may_be_tried(vec![one, two], ms(650)),
            Err(until),
            "the first of them"
        );
        assert_eq!(link.may_be_tried(vec![one, two], ms(1301)), Ok(vec![one]));
        assert_eq!(
            link.may_be_tried(vec![one, two], ms(1901)),
            Ok(vec![one, two])
        );
        assert_eq!(link.may_be_tried(Vec::new(), now), Ok(Vec::new()));
        assert!(
            link.wait(now).as_millis() <= 250,
            "who fails by itself comes soon"
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
