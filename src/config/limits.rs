//! Every limit, its default, its unit, and what happens there. The key of each under `server.limits` is the
//! field's name.

pub(super) const KIB: usize = 1024;

pub(super) const MIB: usize = 1024 * KIB;

/// Subscribers in all; above: 503 with `Retry-After`.
pub const CONNECTIONS_MAX: usize = 1_000_000;

/// Sockets on the worker port, of SDK workers and pages; above: 503 with `Retry-After`.
pub const WORKER_CONNECTIONS_MAX: usize = 10_000;

/// Joins and leaves of one subscriber's socket in a second; beyond: it is not read for a while.
pub const JOINS_PER_S_MAX: usize = 1000;

/// What is read of one subscriber's socket in a second; beyond: likewise.
pub const READ_BYTES_PER_S_MAX: usize = 4 * MIB;

/// Of the memory of the control group or the machine the process may have so much.
pub const MEMORY_PERCENT_MAX: u64 = 85;

/// Both ports: no whole head by then: closed.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Both ports: a longer head is answered 431.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * KIB;

/// Subscribers that are not let in yet: without a whole head, or waiting for `auth_function`; above:
/// the oldest is ended.
pub const HANDSHAKES_MAX: usize = 10_000;

/// What those have sent and wait with; above: the oldest is ended.
pub const HANDSHAKES_BYTES_MAX: usize = 64 * MIB;

/// One message from a subscriber; larger: close 1009.
pub const MESSAGE_BYTES_MAX: usize = MIB;

/// One message from an SDK worker; larger: close 1009. Deployed workers send up to this.
pub const CALL_BYTES_MAX: usize = 16 * MIB;

/// What has come of such messages that are not whole, of all SDK workers together; above: the worker
/// whose message began first is closed with 1013.
pub const PARTIAL_CALL_BYTES_MAX: usize = 256 * MIB;

/// Stream, group, item, subscription id; longer: a join is answered `unauthorized`, a call gets an
/// error.
pub const NAME_BYTES_MAX: usize = 1024;

/// Depth of a value, which is what deployed readers can parse; deeper: an error.
pub const JSON_DEPTH_MAX: usize = 125;

/// One item's text; larger: an error.
pub const VALUE_BYTES_MAX: usize = 16 * MIB;

/// Operations in one `stream::update`; more: an error.
pub const UPDATE_OPS_MAX: usize = 1000;

/// Subscriptions of one connection; a further join is answered `unauthorized`.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Subscriptions of one connection to the same group and item; a further join is answered
/// `unauthorized`.
pub const EQUAL_SUBSCRIPTIONS_MAX: usize = 64;
/// Persons in one group of a stream with members; a further one subscribes and is no member.
pub const MEMBERS_PER_GROUP_MAX: usize = 100_000;

/// How far a reader may be behind, in all its groups together; further: it is brought up to date by
/// item.
pub const BEHIND_BYTES_MAX: usize = MIB;

/// Custom events that wait for each subscription of such a reader; more: the oldest go.
pub const CUSTOM_EVENTS_BEHIND_MAX: usize = 1000;

/// What all readers of one worker may hold up; above: less may wait for each, and those that take
/// nothing of `sync`s that have begun are closed with 1013.
pub const BEHIND_BYTES_WORKER_MAX: usize = 256 * MIB;

/// Messages in one mailbox; full: its senders pause reading.
pub const MAILBOX_LEN_MAX: usize = 4096;

/// What the messages of one mailbox hold; an empty mailbox takes any one message.
pub const MAILBOX_BYTES_MAX: usize = 16 * MIB;

/// Calls that wait for an SDK worker's function, in all; above: `server is overloaded`.
pub const CALLS_IN_FLIGHT_MAX: usize = 100_000;

/// Joins that wait for functions, in all; a further one is answered `unauthorized`. Their calls count
/// here and not among [`CALLS_IN_FLIGHT_MAX`].
pub const JOINS_IN_FLIGHT_MAX: usize = 100_000;

/// What waits unsent for one slow SDK worker; above: its socket is not read, calls to it are
/// refused.
pub const CALL_QUEUE_BYTES_MAX: usize = 64 * MIB;

/// Triggers of types that no worker serves yet, in all; a further one is refused.
pub const EARLY_TRIGGERS_MAX: usize = 10_000;

/// What those hold; above: likewise.
pub const EARLY_TRIGGERS_BYTES_MAX: usize = 16 * MIB;

/// A socket from which nothing has come for so long is pinged. 0: never.
pub const PING_INTERVAL_MS: u64 = 25_000;

/// A socket from which nothing comes for so long after that is closed.
pub const PONG_TIMEOUT_MS: u64 = 20_000;

/// A socket for which something waits and that takes no byte for so long is closed with 1013.
pub const STALL_TIMEOUT_MS: u64 = 60_000;

/// A file cannot ask for less: a turn's answers must fit.
pub(super) const MAILBOX_LEN_MIN: usize = 8;

const _: () = assert!(MAILBOX_LEN_MAX >= MAILBOX_LEN_MIN);

/// Every limit, by the key it has under `server.limits`; what happens there stands at each default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`PING_INTERVAL_MS`].
    pub ping_interval_ms: u64,
    /// See [`PONG_TIMEOUT_MS`].
    pub pong_timeout_ms: u64,
    /// See [`STALL_TIMEOUT_MS`].
    pub stall_timeout_ms: u64,
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`WORKER_CONNECTIONS_MAX`].
    pub worker_connections: usize,
    /// Subscribers from one address; above: 503 with `Retry-After`. 0: as many as there are.
    pub connections_per_address: usize,
    /// Sockets that are accepted in a second, on each port; the others wait. 0: as fast as it goes.
    pub accepts_per_s: usize,
    /// See [`JOINS_PER_S_MAX`]. 0: as many as come.
    pub joins_per_s: usize,
    /// See [`READ_BYTES_PER_S_MAX`]. 0: as many as come.
    pub read_bytes_per_s: usize,
    /// Messages of one SDK worker in a second; beyond: its socket is not read for a while. 0: as many
    /// as come.
    pub calls_per_s: usize,
    /// What is read of one SDK worker in a second; beyond: likewise. 0: as many as come.
    pub worker_read_bytes_per_s: usize,
    /// What the process may have; above: no upgrade, and no call that would add. 0: as much as there
    /// is. None: [`MEMORY_PERCENT_MAX`] of it.
    pub memory_bytes: Option<usize>,
    /// See [`HANDSHAKE_MS_MAX`].
    pub handshake_ms: u64,
    /// See [`HANDSHAKE_BYTES_MAX`].
    pub handshake_bytes: usize,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes: usize,
    /// See [`HANDSHAKES_BYTES_MAX`].
    pub handshakes_bytes: usize,
    /// See [`MESSAGE_BYTES_MAX`].
    pub message_bytes: usize,
    /// See [`CALL_BYTES_MAX`].
    pub call_bytes: usize,
    /// See [`PARTIAL_CALL_BYTES_MAX`].
    pub partial_call_bytes: usize,
    /// See [`NAME_BYTES_MAX`].
    pub name_bytes: usize,
    /// See [`JSON_DEPTH_MAX`].
    pub json_depth: usize,
    /// See [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// See [`UPDATE_OPS_MAX`].
    pub update_ops: usize,
    /// See [`SUBSCRIPTIONS_MAX`].
    pub subscriptions: usize,
    /// See [`EQUAL_SUBSCRIPTIONS_MAX`].
    pub equal_subscriptions: usize,
    /// See [`MEMBERS_PER_GROUP_MAX`].
    pub members_per_group: usize,
    /// See [`BEHIND_BYTES_MAX`].
    pub behind_bytes: usize,
    /// [`CUSTOM_EVENTS_BEHIND_MAX`].
    pub custom_events_behind: usize,
    /// See [`BEHIND_BYTES_WORKER_MAX`].
    pub behind_bytes_worker: usize,
    /// See [`MAILBOX_LEN_MAX`]. A file asks for 8 or more; a test may set less.
    pub mailbox_len: usize,
    /// See [`MAILBOX_BYTES_MAX`].
    pub mailbox_bytes: usize,
    /// See [`CALLS_IN_FLIGHT_MAX`].
    pub calls_in_flight: usize,
    /// See [`JOINS_IN_FLIGHT_MAX`].
    pub joins_in_flight: usize,
    /// See [`CALL_QUEUE_BYTES_MAX`].
    pub call_queue_bytes: usize,
    /// See [`EARLY_TRIGGERS_MAX`].
    pub early_triggers: usize,
    /// See [`EARLY_TRIGGERS_BYTES_MAX`].
    pub early_triggers_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            ping_interval_ms: PING_INTERVAL_MS,
            pong_timeout_ms: PONG_TIMEOUT_MS,
            stall_timeout_ms: STALL_TIMEOUT_MS,
            connections: CONNECTIONS_MAX,
            worker_connections: WORKER_CONNECTIONS_MAX,
            connections_per_address: 0,
            accepts_per_s: 0,
            joins_per_s: JOINS_PER_S_MAX,
            read_bytes_per_s: READ_BYTES_PER_S_MAX,
            calls_per_s: 0,
            worker_read_bytes_per_s: 0,
            memory_bytes: None,
            handshake_ms: HANDSHAKE_MS_MAX,
            handshake_bytes: HANDSHAKE_BYTES_MAX,
            handshakes: HANDSHAKES_MAX,
            handshakes_bytes: HANDSHAKES_BYTES_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
            call_bytes: CALL_BYTES_MAX,
            partial_call_bytes: PARTIAL_CALL_BYTES_MAX,
            name_bytes: NAME_BYTES_MAX,
            json_depth: JSON_DEPTH_MAX,
            value_bytes: VALUE_BYTES_MAX,
            update_ops: UPDATE_OPS_MAX,
            subscriptions: SUBSCRIPTIONS_MAX,
            equal_subscriptions: EQUAL_SUBSCRIPTIONS_MAX,
            members_per_group: MEMBERS_PER_GROUP_MAX,
            behind_bytes: BEHIND_BYTES_MAX,
            custom_events_behind: CUSTOM_EVENTS_BEHIND_MAX,
            behind_bytes_worker: BEHIND_BYTES_WORKER_MAX,
            mailbox_len: MAILBOX_LEN_MAX,
            mailbox_bytes: MAILBOX_BYTES_MAX,
            calls_in_flight: CALLS_IN_FLIGHT_MAX,
            joins_in_flight: JOINS_IN_FLIGHT_MAX,
            call_queue_bytes: CALL_QUEUE_BYTES_MAX,
            early_triggers: EARLY_TRIGGERS_MAX,
            early_triggers_bytes: EARLY_TRIGGERS_BYTES_MAX,
        }
    }
}
