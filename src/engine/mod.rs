//! Thread kind 3: the sockets of SDK workers, or the one to an engine whose worker we are. What they say
//! is for the `broker`; here is what it needs of the outside: the poll, the sockets, the clocks, the log.
//!
//! [`Engine::run`] is the order of work in one turn. May not know a worker or the store but through
//! the messages of `mesh`, nor what is registered or called.

mod admission;
mod dial;
mod life;
mod listeners;
mod memory;
mod peers;
mod silence;
mod sockets;

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::broker::{self, Broker, Effect, Level, Line, OfListener};
use crate::life::{Schedule, Sockets as _};
use crate::mesh::{EnginePorts, engine_thread};
use crate::net::{self, Ready};
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::time::{Now, TurnClock, sleep_until};

pub use crate::broker::{Authenticator, Rules, Settings};
pub use dial::{Attach, AttachError};
pub use listeners::Listener;

use dial::Dial;
use listeners::Listeners;
use memory::Meter;
use peers::{Peers, Written};

const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What one turn reads at most before replies are written again.
const READ_BYTES_A_TURN: usize = 4 * READ_BUFFER_BYTES;
/// What one turn writes at most.
const WRITE_BYTES_A_TURN: usize = 256 * 1024;

/// What the engine thread is made with.
pub struct Parts {
    /// The poll whose waker the mesh has.
    pub poll: Poll,
    /// Where SDK workers connect: nowhere if there is an engine to attach to.
    pub listeners: Vec<Listener>,
    /// That engine.
    pub attach: Option<Attach>,
    /// Web pages of elsewhere that may connect where there are no rules.
    pub origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub proxies: Proxies,
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// What the settings say of the broker.
    pub settings: Settings,
    /// How long calls under way have at the end of the process.
    pub drain: Duration,
}

/// The engine thread.
pub struct Engine {
    poll: Poll,
    listeners: Listeners,
    /// Web pages of elsewhere that may connect where there are no rules.
    origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    proxies: Proxies,
    drain: Duration,
    buffer: Vec<u8>,
    broker: Broker,
    peers: Peers,
    meter: Meter,
    /// The way to the engine whose worker we are. None: we are the engine.
    dial: Option<Box<Dial>>,
    /// Whose turn it is to be read, and who has had its time.
    schedule: Schedule,
    /// When the last socket is closed, whatever is under way; set when the process begins to end.
    drain_until: Option<Instant>,
    /// When the end of the process goes on.
    drain_at: Instant,
    /// The time for calls under way is over, and who waited was told.
    has_stopped_calls: bool,
}

impl Engine {
    /// Makes the engine of these parts; [`Engine::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Engine> {
        let of_listener = |listener: &Listener| OfListener {
            rules: listener.rules.clone().map(Into::into),
            middleware: listener.middleware.as_deref().map(Into::into),
        };
        let of_listeners = parts.listeners.iter().map(of_listener).collect();
        let said = &parts.ports.shared.said_no_room;
        let listeners = Listeners::watch(parts.listeners, parts.poll.registry(), said)?;
        let now = Now::read();
        let broker = Broker::new(broker::Parts {
            ports: parts.ports,
            settings: parts.settings,
            of_listeners,
            known_as: parts.attach.as_ref().map(Attach::known_as),
            now,
        });
        let attach = parts.attach;
        let schedule = Schedule::new(&broker.turn.limits, now.monotonic);
        Ok(Engine {
            poll: parts.poll,
            listeners,
            origins: parts.origins,
            proxies: parts.proxies,
            drain: parts.drain,
            buffer: vec![0; READ_BUFFER_BYTES],
            broker,
            peers: Peers::default(),
            meter: Meter::new(now.monotonic),
            dial: attach.map(|to| Box::new(Dial::new(to, now.monotonic))),
            schedule,
            drain_until: None,
            drain_at: now.monotonic,
            has_stopped_calls: false,
        })
    }

    /// The engine's life. It ends when the process does and all its sockets are closed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.is_done() {
            self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            let turn = TurnClock::begin();
            let shows_debug = tracing::enabled!(tracing::Level::DEBUG);
            // The turn's one look at the clocks; and what was too long for one turn.
            self.broker.begin_turn(Now::read(), shows_debug);
            self.schedule.silence.advance(self.now().monotonic);
            self.note_events(&events); // what the poll has told of is of this time, not of the last turn's
            self.measure_memory();
            self.broker.read_mailbox();
            self.broker.deliver_parked(); // what found its owner full, before anything after it
            self.carry_out(); // what all this means for sockets
            self.accept();
            self.tend_link();
            self.broker.tend_standing();
            self.read_sockets(); // bytes → messages → commands
            self.broker.take_leaves(); // what is owed to functions, as far as they have room
            self.broker.tell_functions();
            self.broker.tell_all_hooks();
            self.broker.turn.flush(); // one wake-up a worker
            self.end_overdue();
            self.go_on_draining();
            self.broker.go_on(); // what all this has brought about
            self.broker.turn.release_answers(); // those to an engine that have been held long enough
            self.carry_out();
            self.write_sockets(); // one write a socket
            self.broker.tell_all_hooks(); // what has ended since may have been a hook or an answer
            self.broker.turn.flush();
            say(self.broker.turn.take_lines());
            let metrics = self.broker.turn.metrics();
            metrics.loop_turns.note(turn.elapsed());
        }
        say(self.broker.turn.take_last_lines());
        Ok(())
    }

    /// Both clocks, as they were when the turn began.
    fn now(&self) -> Now {
        self.broker.turn.now
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.sleep_at_most();
        if net::wait(&mut self.poll, events, timeout)? {
            let workers = self.broker.turn.ports.to_commands.len();
            self.broker.turn.ports.shared.wakes[engine_thread(workers)].lower();
        }
        Ok(())
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            match Ready::from(event) {
                Ready::Mailbox => {}
                Ready::Listener(number) => self.listeners.wake(number),
                Ready::Socket {
                    id,
                    has_bytes,
                    ends,
                    takes_bytes,
                } => {
                    if has_bytes {
                        self.has_bytes(id, ends);
                    }
                    if takes_bytes && self.peers.unblock(id) {
                        self.schedule.unblock(id);
                        self.broker.turn.members.mark(id);
                    }
                }
            }
        }
    }

    fn sleep_at_most(&mut self) -> Option<Duration> {
        if !self.schedule.readable.is_empty() || self.broker.is_due() || self.listeners.are_due() {
            return Some(Duration::ZERO);
        }
        sleep_until([
            self.schedule.next_at(),
            self.listeners.rest_until(),
            self.next_drain_step(),
            self.next_link_step(),
            Some(self.meter.next_at()),
            self.broker.next_at(),
        ])
    }

    /// Does to the sockets what the broker has decided.
    fn carry_out(&mut self) {
        while !self.broker.turn.effects.is_empty() {
            for effect in self.broker.turn.effects.take() {
                match effect {
                    Effect::Close(id, last) => self.close_with(id, last),
                    Effect::End(id) => self.end(id),
                    Effect::Admit(id, access) => self.admit(id, access),
                    Effect::Settings(settings) => {
                        self.origins.clone_from(&settings.worker_origins);
                        self.proxies.clone_from(&settings.trusted_proxies);
                        let limits = self.broker.turn.limits.clone();
                        self.set_times(&limits, self.peers.ids());
                    }
                }
            }
            for id in self.broker.turn.effects.take_freed() {
                self.queue(id);
            }
        }
    }

    fn write_sockets(&mut self) {
        let before = self.broker.turn.unsent_max();
        let mut most = WRITE_BYTES_A_TURN;
        for id in self.broker.turn.members.take_dirty() {
            match self
                .peers
                .write(id, &mut self.broker.turn.members, &mut most)
            {
                // It may have been held for what it had not taken.
                Written::Alive => self.queue(id),
                Written::Dead => self.end(id),
                Written::Gone => {}
            }
        }
        for (id, has_taken) in self.peers.take_blocked() {
            let now = self.now().monotonic;
            self.schedule.note_blocked(id, has_taken, now);
        }
        if self.broker.turn.unsent_max() > before {
            for id in self.peers.ids() {
                self.queue(id); // it may have been held for what waits for all
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_drained =
            self.drain_until.is_some() && self.peers.is_empty() && !self.broker.has_orphans();
        is_drained
            || self
                .broker
                .turn
                .ports
                .shared
                .stopping
                .load(Ordering::Acquire)
    }
}

fn say(lines: Vec<Line>) {
    for Line { level, text } in lines {
        match level {
            Level::Error => tracing::error!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Info => tracing::info!("{text}"),
            Level::Debug => tracing::debug!("{text}"),
        }
    }
}
