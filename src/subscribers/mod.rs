//! What a worker makes of its subscribers: connections, joins, leaves, its shard of the groups, and the
//! fan-out to its sockets. Messages, commands and bytes in; messages and writes out.
//!
//! No socket, poll, clock, thread or log line: sockets are lent as [`Socket`], the time is handed in
//! with each turn, and what the log is to hear leaves as [`Note`]. The shell is `worker`: it says when
//! which of these is called, and for how long.

mod admission;
mod ages;
mod clients;
mod closed;
mod closing;
mod connections;
mod effects;
mod endings;
mod half_open;
mod inquiries;
mod joins;
mod leaves;
mod life;
mod mailboxes;
mod measures;
mod notes;
mod persons;
mod placement;
mod settings;
mod turns;

use core::net::{IpAddr, SocketAddr}; // an address is data
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::fanout::{self, Fanout};
use crate::id::SlotId;
use crate::life::Schedule;
use crate::mesh::{AuthFunction, WorkerPorts};
use crate::metrics::{Closed, WorkerMetrics};
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::shard::hooks::Hooks;
use crate::shard::{Command, Effects, Learned, Shard, UNITS_A_TURN};
use crate::time::{ClockReading, Now};

use ages::Ages;
use closed::ClosedSockets;
use closing::Drain;
pub use closing::drain_for;
use connections::{Connection, Connections};
pub use connections::{Look, Socket, State};
use endings::Endings;
use half_open::HalfOpen;
use inquiries::Looking;
pub use joins::FRESH;
use leaves::Debts;
use measures::Measures;
use notes::Notes;
pub use notes::{Asked, Limit, Named, Note, What};
use persons::Persons;
use placement::Departures;

/// What a command costs beside the bytes that it moves.
pub const COMMAND_COST: usize = 1024;

/// What subscribers are made with.
pub struct Parts {
    /// The worker's mailboxes.
    pub ports: WorkerPorts,
    /// Its groups, with what the store has kept of them.
    pub shard: Shard,
    /// Who is asked about each subscriber; `None`: nobody.
    pub auth: Option<AuthFunction>,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub proxies: Proxies,
    /// The limits that hold here.
    pub limits: Limits,
    /// A group's owner takes sockets that follow it first while it has fewer followers of it; 0: nobody is
    /// placed.
    pub place_below: usize,
    /// What may wait.
    pub bounds: Bounds,
    /// Makes names that nobody guesses, for the subscriptions of paths.
    pub name: Box<dyn FnMut() -> Box<str> + Send>,
    /// Both clocks.
    pub now: Now,
}

/// How much may wait on a worker before it takes no more. A test may set less.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages of one socket, joins that wait for functions or their `sync` included. At that number
    /// the socket is not read until one is done.
    pub messages: usize,
    /// Bytes that a socket that reads slowly may have queued for itself before it is left unread, and its
    /// joins unanswered: one answer more is always sent, whatever its size.
    pub queue_bytes: usize,
    /// A socket that asks for a leave while more than this is owed is left unread: leaves that end a
    /// subscription are as many as there were joins, but of unknown ids it could ask without end.
    pub owed_bytes: usize,
    /// Commands that may wait in the shard for the store; above, it takes no more until answers come.
    pub commands: usize,
    /// What the shard spends in one turn on what may go on in the next.
    pub shard_units: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            messages: 64,
            queue_bytes: 256 * 1024,
            owed_bytes: 8 * 1024 * 1024,
            commands: 64 * 1024,
            shard_units: UNITS_A_TURN,
        }
    }
}

/// A subscriber, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whom {
    /// Its socket.
    pub id: SlotId,
    /// Its address; `None` when it is gone.
    pub peer: Option<SocketAddr>,
}

/// The subscribers of one worker.
pub struct Subscribers<S> {
    ports: WorkerPorts,
    shard: Shard,
    hooks: Arc<Hooks>,
    fanout: Fanout,
    connections: Connections<S>,
    auth: Option<AuthFunction>,
    allowed_origins: Vec<OriginRule>,
    proxies: Proxies,
    /// Where those are that have come through a proxy.
    proxied: HashMap<SlotId, SocketAddr>,
    limits: Limits,
    place_below: usize,
    /// Who goes to another worker in this turn.
    departures: Departures,
    bounds: Bounds,
    name: Box<dyn FnMut() -> Box<str> + Send>,
    now: Now,
    persons: Persons,
    /// When the shard began, by the clock that never steps.
    shard_began: Instant,
    /// The clock of a store that other hosts use as well.
    store_clock: Option<ClockReading>,
    /// Whose turn it is to be read, and who has had its time.
    schedule: Schedule,
    /// Sockets with something queued to be written.
    to_write: VecDeque<SlotId>,
    /// Commands of own sockets to the own shard.
    own_commands: VecDeque<Command>,
    /// What the store has said and the shard has not heard yet.
    learned: VecDeque<Learned>,
    effects: Effects,
    /// Sockets that are not let in yet.
    half_open: HalfOpen,
    /// As what those are counted whose addresses are bounded.
    addresses: HashMap<SlotId, IpAddr>,
    debts: Debts,
    endings: Endings,
    drain: Drain,
    /// Replies went to the engine thread in this turn.
    has_replied: bool,
    /// A group's time ran more than a second ahead of the clock, and that was said.
    said_ahead: bool,
    notes: Notes,
    /// What is asked from outside and not answered yet.
    looking: Option<Box<Looking>>,
    closed: ClosedSockets,
    /// Why the server closes a socket, while it does.
    closing_for: Option<(Closed, u16)>,
    ages: Ages,
    /// Sockets that take no byte, and since when.
    blocked: HashMap<SlotId, Instant>,
    measures: Measures,
}

/// When the shard began, which is now unless it was there before, as where values were read.
fn began(shard: &mut Shard, now: Now) -> Instant {
    if shard.began_at() == 0 {
        shard.begin_at(now.wall_ms);
    }
    let uptime = Duration::from_millis(now.wall_ms.saturating_sub(shard.began_at()));
    now.monotonic.checked_sub(uptime).unwrap_or(now.monotonic)
}

impl<S: Socket> Subscribers<S> {
    /// What every connection costs, its socket included.
    pub const CONNECTION_BYTES: usize = size_of::<Connection<S>>();

    /// Nobody is there yet.
    pub fn new(mut parts: Parts) -> Subscribers<S> {
        let now = parts.now;
        let schedule = Schedule::new(&parts.limits, parts.now.monotonic);
        let shard_began = began(&mut parts.shard, now);
        parts.shard.set_units_a_turn(parts.bounds.shard_units);
        let rules = Arc::clone(parts.shard.stream_rules());
        parts.shard.set_members_max(parts.limits.members_per_group);
        let half_open = HalfOpen::new(&parts.limits, parts.ports.shared.connections.len());
        Subscribers {
            ports: parts.ports,
            shard: parts.shard,
            hooks: Arc::default(),
            fanout: Fanout::new(fanout::Bounds {
                reader: parts.limits.behind_bytes,
                worker: parts.limits.behind_bytes_worker,
                custom_events: parts.limits.custom_events_behind,
            }),
            connections: Connections::default(),
            auth: parts.auth,
            allowed_origins: parts.allowed_origins,
            proxies: parts.proxies,
            proxied: HashMap::new(),
            limits: parts.limits,
            place_below: parts.place_below,
            departures: Departures::default(),
            bounds: parts.bounds,
            name: parts.name,
            now: parts.now,
            persons: Persons::new(rules),
            shard_began,
            store_clock: None,
            schedule,
            to_write: VecDeque::new(),
            own_commands: VecDeque::new(),
            learned: VecDeque::new(),
            effects: Effects::default(),
            half_open,
            addresses: HashMap::new(),
            debts: Debts::default(),
            endings: Endings::default(),
            drain: Drain::Serving,
            has_replied: false,
            said_ahead: false,
            notes: Notes::default(),
            looking: None,
            closed: ClosedSockets::default(),
            closing_for: None,
            ages: Ages::new(),
            blocked: HashMap::new(),
            measures: Measures::new(now.monotonic),
        }
    }

    /// The time that the shard goes by, in ms since 1970: that of the store, where hosts share it.
    fn shard_now(&self) -> u64 {
        let now = self.now;
        self.store_clock
            .map_or(now.wall_ms, |clock| clock.ms_at(now.monotonic))
    }

    /// What this worker has of the mesh.
    pub fn ports(&self) -> &WorkerPorts {
        &self.ports
    }

    /// The same, for the shell, which hands sockets on.
    pub fn ports_mut(&mut self) -> &mut WorkerPorts {
        &mut self.ports
    }

    /// The limits that hold here.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The id of the function that is asked about upgrades now; empty: nobody is.
    pub fn auth_function(&self) -> &str {
        self.auth.as_ref().map_or("", |auth| &auth.id)
    }

    /// What the shard asks for and nobody has carried out.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// Its shard of the groups.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Who has heard what.
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// Panics where what should hold does not: for tests, since it looks at everyone.
    pub fn check_invariants(&mut self) {
        self.shard.check_invariants();
        self.fanout.check_invariants(&mut self.connections);
    }

    fn metrics(&self) -> &WorkerMetrics {
        &self.ports.shared.workers[self.ports.id.index()]
    }
}
