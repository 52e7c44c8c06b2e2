//! The SDK sockets of one client thread: what they publish and ask goes out here.
//!
//! Writes calls; what an answer means is for the caller. May not know subscribers.

use mio::event::Event;
use mio::{Registry, Token};

use crate::check::audit::Audit;
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::message::CallWriter;
use crate::scenario::Setup;

/// All of them. Only one socket's calls have an order, so each call has a key, and those of one key
/// keep to one socket.
pub(crate) struct SdkSockets {
    sockets: Vec<Client>,
    writer: CallWriter,
    text: Vec<u8>,
}

impl SdkSockets {
    /// Begins to connect. The token of each socket is `first_token` and its index.
    pub(crate) fn connect(
        setup: &Setup,
        void: bool,
        registry: &Registry,
        first_token: usize,
    ) -> Result<Self, ClientError> {
        let connect =
            |index| Client::connect(&setup.engine, None, registry, Token(first_token + index));
        Ok(Self {
            sockets: (0..setup.publishers)
                .map(connect)
                .collect::<Result<_, _>>()?,
            writer: CallWriter::new(setup.run, &setup.stream_name, setup.value_bytes, void),
            text: Vec::new(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.sockets.iter().all(Client::is_open)
    }

    /// Bytes that no socket has taken, of the one that lags most.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let unsent = self.sockets.iter().map(Client::unsent_bytes);
        unsent.max().unwrap_or(0)
    }

    /// Queues a `stream::set` of group, item and sequence.
    pub(crate) fn set(&mut self, key: usize, number: u64, stamp: [u32; 3], sent_ns: u64) {
        self.writer.set(number, stamp, sent_ns, &mut self.text);
        self.queue(key);
    }

    /// Queues a `stream::delete`.
    pub(crate) fn delete(&mut self, key: usize, number: u64, group: u32, item: u32) {
        self.writer.delete(number, group, item, &mut self.text);
        self.queue(key);
    }

    fn queue(&mut self, key: usize) {
        let socket = key % self.sockets.len();
        self.sockets[socket].queue(&self.text);
    }

    /// Asks for the next groups of the audit, each by the socket of its key.
    pub(crate) fn ask(
        &mut self,
        audit: &mut Audit,
        key_of: impl Fn(u32) -> usize,
    ) -> Result<(), ClientError> {
        while let Some((group, calls)) = audit.next_calls(&self.writer) {
            let socket = key_of(group) % self.sockets.len();
            calls
                .iter()
                .for_each(|call| self.sockets[socket].queue(call));
        }
        self.flush()
    }

    /// One write a socket.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        self.sockets.iter_mut().try_for_each(Client::flush)
    }

    /// Reads from socket `index`.
    pub(crate) fn turn(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        sink: impl FnMut(u64, &[u8]),
    ) -> Result<(), ClientError> {
        self.sockets[index].turn(event, buffer, clock, sink)
    }
}
