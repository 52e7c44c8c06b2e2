//! Thread kind 3: calls come in from SDK workers, commands go to the owners, replies go back.
//!
//! [`Engine::run`] is the order of work in one turn. May not know a worker or the store but through
//! the messages of `mesh`.

mod calls;
mod embedded;
mod peers;
mod registry;
mod serve;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::config::Limits;
use crate::id::{SlotId, WorkerId};
use crate::mesh::{EnginePorts, ToEngine, engine_thread};
use crate::metrics::EngineMetrics;
use crate::net::id_of;
use crate::shard::Command;
use crate::time::{Deadlines, Now, Rarely, sleep_until};

use calls::Calls;
use peers::{Liveness, Peers};
use registry::Functions;

/// The poll's names for what is no connection. No slot reaches them.
const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What one turn reads at most before replies are written again.
const READ_BYTES_A_TURN: usize = 4 * READ_BUFFER_BYTES;

/// What the engine thread is made with.
pub struct Parts {
    /// The poll whose waker the mesh has.
    pub poll: Poll,
    /// The listener on the worker port.
    pub listener: std::net::TcpListener,
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// The limits that hold here.
    pub limits: Limits,
    /// How long a call may wait for an SDK worker, or for room at its owner.
    pub call_timeout: Duration,
    /// How long calls under way have at the end of the process.
    pub drain: Duration,
}

/// The token that the engine's waker has to be made with.
pub fn wake_token() -> Token {
    WAKE
}

/// The engine thread.
pub struct Engine {
    poll: Poll,
    listener: Option<TcpListener>,
    is_acceptable: bool,
    /// No accept before this: the process had no descriptor left.
    accept_after: Option<Instant>,
    ports: EnginePorts,
    limits: Limits,
    call_timeout: Duration,
    drain: Duration,
    now: Now,
    buffer: Vec<u8>,
    peers: Peers,
    functions: Functions,
    calls: Calls,
    /// Sockets with something to read, each once.
    readable: VecDeque<SlotId>,
    /// Sockets with commands that found their owner full.
    parked: Vec<SlotId>,
    /// The same of sockets that have ended since: what was sent is done all the same.
    orphans: VecDeque<(WorkerId, Command)>,
    handshakes: Deadlines<SlotId>,
    closing: Deadlines<SlotId>,
    /// When the last socket is closed, whatever is under way; set when the process begins to end.
    drain_until: Option<Instant>,
    /// When the end of the process goes on.
    drain_at: Instant,
    warned: Rarely,
}

impl Engine {
    /// Makes the engine of these parts; [`Engine::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Engine> {
        let mut listener = TcpListener::from_std(parts.listener);
        parts
            .poll
            .registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Engine {
            poll: parts.poll,
            listener: Some(listener),
            is_acceptable: true,
            accept_after: None,
            ports: parts.ports,
            limits: parts.limits,
            call_timeout: parts.call_timeout,
            drain: parts.drain,
            now: Now::read(),
            buffer: vec![0; READ_BUFFER_BYTES],
            peers: Peers::default(),
            functions: Functions::default(),
            calls: Calls::default(),
            readable: VecDeque::new(),
            parked: Vec::new(),
            orphans: VecDeque::new(),
            handshakes: Deadlines::default(),
            closing: Deadlines::default(),
            drain_until: None,
            drain_at: Instant::now(),
            warned: Rarely::default(),
        })
    }

    /// The engine's life. It ends when the process does and all its sockets are closed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.is_done() {
            self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            self.now = Now::read(); // the turn's one look at the clocks
            self.read_replies();
            self.deliver_parked(); // what found its owner full, before anything after it
            self.accept();
            self.read_sockets(); // bytes → messages → commands
            self.flush_commands(); // one wake-up an owner
            self.end_overdue();
            self.go_on_draining();
            self.write_sockets(); // one write a socket
        }
        Ok(())
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.sleep_at_most();
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in events.iter() {
            match event.token() {
                WAKE => {}
                LISTENER => self.is_acceptable = true,
                token => {
                    let id = id_of(token);
                    let ends = event.is_read_closed() || event.is_error();
                    if event.is_readable() || ends {
                        self.has_bytes(id, ends);
                    }
                    if event.is_writable() {
                        self.peers.unblock(id);
                    }
                }
            }
        }
        let workers = self.ports.to_commands.len();
        self.ports.shared.wakes[engine_thread(workers)].lower();
        Ok(())
    }

    fn sleep_at_most(&mut self) -> Option<Duration> {
        let has_work = !self.readable.is_empty()
            || self.peers.has_dirty()
            || !self.ports.mailbox.is_empty()
            || (self.is_acceptable && self.accept_after.is_none());
        if has_work {
            return Some(Duration::ZERO);
        }
        let parked = self
            .parked
            .iter()
            .filter_map(|id| self.peers.get(*id)?.parked_until)
            .min();
        sleep_until([
            self.handshakes.next_at(),
            self.closing.next_at(),
            self.accept_after,
            self.calls.next_deadline(),
            parked,
            self.next_drain_step(),
        ])
    }

    fn read_replies(&mut self) {
        let len = self.ports.mailbox.len();
        for _ in 0..len {
            match self.ports.mailbox.take() {
                Some(ToEngine::Reply(reply)) => self.reply(reply),
                Some(_) => {}
                None => break,
            }
        }
        if len > 0 {
            let shared = &self.ports.shared;
            self.ports
                .mailbox
                .tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn flush_commands(&mut self) {
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
    }

    fn write_sockets(&mut self) {
        let mut written = Vec::new();
        self.peers
            .write_all(|id, liveness| written.push((id, liveness)));
        for (id, liveness) in written {
            match liveness {
                // It may have been held for what it had not taken.
                Liveness::Alive => self.queue(id),
                Liveness::Dead => self.end(id),
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_drained =
            self.drain_until.is_some() && self.peers.is_empty() && self.orphans.is_empty();
        is_drained || self.ports.shared.stopping.load(Ordering::Acquire)
    }

    fn metrics(&self) -> &EngineMetrics {
        &self.ports.shared.engine
    }
}
