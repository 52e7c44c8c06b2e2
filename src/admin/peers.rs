//! The connections of the admin port: reading one request, writing one answer, and letting go of who is
//! slow or silent.
//!
//! May not know what is asked.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::net::TcpStream;

use crate::collections::Named;
use crate::fanout::{Socket as _, Written};
use crate::id::SlotId;
use crate::net::Tcp;
use crate::reading::Received;

use super::http::{self, Answer, BODY_BYTES_MAX, HEAD_BYTES_MAX, Parsed, Request};

/// Connections at once; a further one takes the place of the one that is silent for longest.
pub const PEERS_MAX: usize = 64;
/// For its request, and again for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What one peer is read of in a turn: whoever sends without end takes no turn for itself.
const READS_A_TURN: usize = 16;
/// For its end, once it has its answer.
const LINGER: Duration = Duration::from_secs(1);

/// The connections.
#[derive(Default)]
pub(super) struct Peers {
    all: Named<Peer>,
    /// In which they are read.
    buffer: Vec<u8>,
    /// Those of which more may be there than their turn has read: the poll does not say so again.
    unfinished: Vec<SlotId>,
}

struct Peer {
    tcp: Tcp,
    stage: Stage,
    /// When it is let go.
    until: Instant,
    is_head: bool,
}

enum Stage {
    /// Its request is not whole.
    Reads(Vec<u8>),
    /// Workers are asked.
    Waits,
    /// The answer, and how much of it is written.
    Writes(Vec<u8>, usize),
    /// Everything is written; what comes is thrown away until the peer ends it.
    Lingers,
}

impl Peers {
    /// Somebody has connected.
    pub(super) fn enter(&mut self, stream: TcpStream, registry: &Registry, now: Instant) {
        if self.all.len() >= PEERS_MAX {
            self.let_go_of_one();
        }
        let id = self.all.insert(Peer {
            tcp: Tcp::new(stream),
            stage: Stage::Reads(Vec::new()),
            until: now + PATIENCE,
            is_head: false,
        });
        let peer = self.all.get_mut(id);
        let watched = peer.map_or(Ok(()), |peer| peer.tcp.register(id, registry));
        if watched.is_err() {
            self.all.remove(id);
        }
    }

    /// Of those without a request the one that is there for longest; else the one that is done with.
    fn let_go_of_one(&mut self) {
        let oldest = |is_it: fn(&Stage) -> bool| {
            let peers = self.all.iter().filter(|(_, peer)| is_it(&peer.stage));
            peers.min_by_key(|(_, peer)| peer.until).map(|(id, _)| id)
        };
        let lingers = oldest(|stage| matches!(stage, Stage::Lingers));
        let reads = lingers.or_else(|| oldest(|stage| matches!(stage, Stage::Reads(_))));
        let first = reads.or_else(|| oldest(|_| true));
        if let Some(id) = first {
            self.all.remove(id);
        }
    }

    /// The poll says that bytes, or the end, are there. Gives the request that is whole now, or what is
    /// answered without one.
    pub(super) fn read(&mut self, id: SlotId) -> Option<Result<Request, Answer>> {
        self.buffer.resize(64 * 1024, 0);
        let peer = self.all.get_mut(id)?;
        for _ in 0..READS_A_TURN {
            let len = match peer.tcp.read(&mut self.buffer) {
                Received::Bytes { len, .. } => len,
                Received::Nothing => return None,
                Received::End => {
                    // One that has asked may end its side and wait for the answer.
                    if matches!(peer.stage, Stage::Reads(_) | Stage::Lingers) {
                        self.all.remove(id);
                    }
                    return None;
                }
            };
            let Stage::Reads(bytes) = &mut peer.stage else {
                continue; // what comes behind a request is passed over
            };
            bytes.extend_from_slice(&self.buffer[..len]);
            let parsed = match http::parse(bytes) {
                Parsed::Incomplete if bytes.len() <= HEAD_BYTES_MAX + BODY_BYTES_MAX => continue,
                Parsed::Incomplete => Err(Answer::error(413, "the request is too long")),
                Parsed::Refused(status, what) => Err(Answer::error(status, what)),
                Parsed::Request(request) => {
                    peer.is_head = request.method == "HEAD";
                    Ok(request)
                }
            };
            peer.stage = Stage::Waits;
            self.unfinished.push(id);
            return Some(parsed);
        }
        self.unfinished.push(id);
        None
    }

    /// Whether some have to be read on without a word of the poll.
    pub(super) fn are_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Those that have.
    pub(super) fn take_unfinished(&mut self) -> Vec<SlotId> {
        std::mem::take(&mut self.unfinished)
    }

    /// Answers that peer, if it is there still.
    pub(super) fn answer(&mut self, id: SlotId, answer: &Answer, now: Instant) {
        if let Some(peer) = self.all.get_mut(id)
            && matches!(peer.stage, Stage::Waits)
        {
            peer.until = now + PATIENCE;
            peer.stage = Stage::Writes(answer.bytes(peer.is_head), 0);
            self.write(id, now);
        }
    }

    /// It takes bytes.
    pub(super) fn write(&mut self, id: SlotId, now: Instant) {
        let Some(peer) = self.all.get_mut(id) else {
            return;
        };
        while let Stage::Writes(bytes, at) = &mut peer.stage {
            let rest = &bytes[*at..];
            match peer.tcp.write(&[IoSlice::new(rest)]) {
                Written::All => {
                    // What it has sent beyond its request would else reset it before it has read this.
                    peer.tcp.shutdown_write();
                    peer.stage = Stage::Lingers;
                    peer.until = now + LINGER;
                }
                Written::Part(0) => return,
                Written::Part(taken) => *at += taken,
                Written::Gone => {
                    self.all.remove(id);
                    return;
                }
            }
        }
    }

    /// Lets go of who has had its time. Gives them.
    pub(super) fn end_overdue(&mut self, now: Instant) -> Vec<SlotId> {
        let overdue = self.all.iter().filter(|(_, peer)| peer.until <= now);
        let overdue: Vec<SlotId> = overdue.map(|(id, _)| id).collect();
        for id in &overdue {
            self.all.remove(*id);
        }
        overdue
    }

    /// When the next one has had its time.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.all.iter().map(|(_, peer)| peer.until).min()
    }
}
