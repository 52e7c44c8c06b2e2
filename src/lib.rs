//! `iii-stream`: real-time streams and presence for very many subscribers, without async.
//!
//! ```text
//!  SDK workers ══ worker port            stream port ══ subscribers
//!        ║                                                ║
//!   ┌────╨─────┐   commands    ┌──────────────┐  sockets  ║
//!   │  engine  ├──────────────►│   worker 0   ╞═══════════╣
//!   │  thread  │◄──────────────┤ shard, fanout│           ║
//!   └──────────┘    replies    └──┬────────▲──┘           ║
//!                        events,  │        │              ║
//!                        syncs    ▼        │ joins        ║
//!   ┌──────────┐   requests    ┌───────────┴──┐           ║
//!   │  store   │◄──────────────┤   worker n   ╞═══════════╝
//!   │  thread  ├──────────────►│ shard, fanout│
//!   └──────────┘    answers    └──────────────┘
//! ```
//!
//! Threads own what they work on and share nothing: they pass values through bounded mailboxes
//! ([`mesh`]). A group belongs to one worker, its owner, which applies its commands one after
//! another ([`shard`]); every worker that has subscribers of the group gets each event once and
//! sweeps its own sockets ([`subscribers`], [`fanout`]). With values in memory there is no store thread: the owner
//! accepts in the same turn, through the same border.
//!
//! # The path of one `stream::set`
//!
//! ```text
//! SDK bytes     engine/sockets.rs       one read a socket, as far as the turn's budget reaches
//!  → call       protocol/call           EngineMessage; data stays text
//!  → input      protocol/input          names and data checked; protocol/json is as strict as a tree
//!  → command    broker/calls/streams    to the command mailbox of mesh.owner_of(group)
//!  → shard      shard/mod.rs            apply(command, now, &mut effects)
//!  → effects    subscribers/effects     writes → store; on acceptance: replies, events
//!  → frame      mesh                    one message to the open mailbox of each worker that listens
//!  → list       fanout/mod.rs           appended to the group's list; a sweep is due
//!  → sockets    fanout/sweep.rs         each member in one write all it lacks; its place moves on
//!  → kernel     net/mod.rs              small writes go together, by net/ring, at the end of the sweep
//! ```
//! The reply goes back through the engine's mailbox: `broker/calls/answers` finds its caller,
//! `broker/outgoing` keeps it until the socket takes it, `engine/peers` writes it.
//!
//! A join comes in from a subscriber's socket (`worker/sockets`, `subscribers/clients`) at "command", and
//! its `sync` leaves at "frame"; where `stream:join` has functions, `broker/joins` asks them
//! first. What other hosts did in Redis comes in at "shard": `store/redis/channel`, the open mailbox, then
//! `Shard::learn`. An upgrade that an auth function decides waits in `subscribers/admission` for
//! `broker/admission`; SDK workers wait in `engine/admission`. `engine::…` functions are the broker's `own`.
//!
//! # Layers
//!
//! ```text
//! main → server → worker | store | engine | admin → subscribers | broker | net → mesh → shard | fanout → protocol → id
//! ```
//! Arrows point right only; `tests/layers.rs` holds them to it. `life`, what both ports make of a socket from
//! its request to its end, stands beside `mesh`. `config` stands beside `shard`: what it holds is parsed once,
//! into what `protocol` goes by. `chance`, `control`, `log`, `machine`, `metrics`, `notes`, `reading`, `time`
//! and `collections` know nothing of the others, but that `log` shows a text as `notes` does. `protocol`,
//! `shard` and `fanout` are pure. `subscribers` is all that a worker decides: it has no I/O, and the
//! simulation runs it as it is; `worker` is its shell. `broker` is the same of the engine thread, and `engine`
//! its shell. Nobody else names either; what the log is to hear of them leaves them as data. `admin` is where
//! operators look.
//! The heads of [`protocol`], [`shard`] and [`fanout`] show each of them at work, without a server.
//! What the program does beside serving (`call`, `watch`, `doctor` and the like) stands in `src/command`,
//! beside `main`, and does not name `server`.

pub mod admin;
pub mod broker;
pub mod chance;
pub mod cli;
pub mod collections;
pub mod config;
pub mod control;
pub mod engine;
pub mod fanout;
pub mod id;
pub mod life;
pub mod log;
pub mod machine;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod notes;
pub mod protocol;
pub mod reading;
pub mod server;
pub mod shard;
pub mod store;
pub mod subscribers;
pub mod time;
pub mod worker;
