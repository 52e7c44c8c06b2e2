//! What a worker asks the engine thread about its sockets, and the answers: joins that functions decide,
//! upgrades that the auth function decides, leaves that are owed to functions.

use std::sync::Arc;

use crate::id::{GroupKey, ItemId, SlotId, WorkerId};

/// One subscription, as functions of SDK workers are told of it.
#[derive(Debug, Clone)]
pub struct Presence {
    /// The client's name for the subscription.
    pub subscription: Box<str>,
    /// Its group.
    pub key: GroupKey,
    /// Its item; none for the whole group.
    pub item: Option<ItemId>,
    /// What the auth function said of the socket: a JSON text.
    pub context: Option<Arc<str>>,
}

/// A join that functions have to be asked about. It comes back with their word.
#[derive(Debug)]
pub struct JoinRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// The socket, on that worker.
    pub connection: SlotId,
    /// The worker's own name for the join.
    pub token: u32,
    /// What is asked about.
    pub presence: Presence,
}

/// An upgrade that the auth function has to be asked about.
#[derive(Debug)]
pub struct AuthRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// The socket, on that worker.
    pub connection: SlotId,
    /// The function's input: a JSON text.
    pub input: Box<str>,
}

/// Who is asked about upgrades.
#[derive(Debug, Clone)]
pub struct AuthFunction {
    /// The function's id.
    pub id: Box<str>,
    /// Whether subscribers are let in when it cannot be asked or does not answer.
    pub admits_failures: bool,
}

/// The auth function's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerdict {
    /// The socket opens, with that context.
    Admitted(Option<Arc<str>>),
    /// The function was asked, and what came back does not admit: 401. Why, for the log.
    Unauthorized(Box<str>),
    /// Nobody could be asked, or nobody answered: 503. Why, for the log.
    Unavailable(Box<str>),
}

impl Presence {
    /// Bytes it holds on the heap; the context is the socket's.
    pub fn held_bytes(&self) -> usize {
        let item_len = self.item.as_ref().map_or(0, |item| item.len());
        self.subscription.len() + self.key.joined().len() + item_len
    }
}
