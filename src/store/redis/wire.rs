//! One connection to Redis: commands out, whole answers in. Commands are packed and answers parsed by
//! the `redis` crate.
//!
//! May not know what is asked or answered.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Instant;

use mio::Registry;
use redis::{Cmd, Parser, Value};

use crate::fanout::{Socket as _, Written};
use crate::id::SlotId;
use crate::net::dial::{Tls, connect};
use crate::net::tls::MaybeTls;
use crate::reading::{Received, Unread};

use super::error::Fault;

/// What is read in one turn before everything else has its turn again.
const READ_BYTES_A_TURN: usize = 256 * 1024;
/// No more commands are packed while so much waits for the socket.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Wire {
    socket: MaybeTls,
    id: SlotId,
    unsent: Vec<u8>,
    /// How many bytes of `unsent` have been sent.
    sent: usize,
    parser: Parser,
    unread: Unread,
    /// The poll has said something of it: it stands, or could not connect.
    is_known: bool,
    /// Bytes have come over the connection, so it stands.
    has_heard: bool,
    /// When bytes last came, or the connection was begun.
    heard_at: Instant,
    /// Bytes packed, and bytes handed to the socket, since it was begun.
    packed: u64,
    written: u64,
}

impl Wire {
    /// Begins to connect. What is queued meanwhile goes out when that is done.
    pub(super) fn connect(
        address: SocketAddr,
        tls: Option<&Tls>,
        id: SlotId,
        registry: &Registry,
    ) -> io::Result<Wire> {
        let mut socket = connect(address, tls)?;
        socket.register(id, registry)?;
        Ok(Wire {
            socket,
            id,
            unsent: Vec::new(),
            sent: 0,
            parser: Parser::new(),
            unread: Unread::default(),
            is_known: false,
            has_heard: false,
            heard_at: Instant::now(),
            packed: 0,
            written: 0,
        })
    }

    /// Before it is dropped.
    pub(super) fn leave(&mut self, registry: &Registry) {
        self.socket.deregister(registry);
    }

    pub(super) fn id(&self) -> SlotId {
        self.id
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent.len() - self.sent < UNSENT_BYTES_MAX
    }

    pub(super) fn queue(&mut self, command: &Cmd) {
        let before = self.unsent.len();
        command.write_packed_command(&mut self.unsent);
        self.packed += (self.unsent.len() - before) as u64;
    }

    /// Where the next command begins among all bytes.
    pub(super) fn packed(&self) -> u64 {
        self.packed
    }

    /// What begins behind it has never left.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// When Redis last gave a sign of life on it, or it was begun.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The poll says that something is there, the end with it or not, or that it has room again.
    pub(super) fn is_ready(&mut self, ends: bool) {
        self.is_known = true;
        self.unread.is_told(ends);
    }

    /// Whether there may be more to read.
    pub(super) fn has_more(&self) -> bool {
        self.unread.is_there()
    }

    /// Nothing more can be written: what was said before that is still to be read.
    pub(super) fn reads_to_its_end(&mut self) {
        self.unread.is_told(true);
    }

    /// Writes what it takes. Err: why it is broken.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        if !self.is_known {
            return Ok(()); // a write would swallow what kept it from connecting
        }
        if self.socket.wants_write() && matches!(self.socket.flush(), Written::Gone) {
            return Err(self.fault());
        }
        while self.sent < self.unsent.len() {
            let rest = self.unsent.len() - self.sent;
            let taken = match self.socket.write_bytes(&self.unsent[self.sent..]) {
                Written::All => rest,
                Written::Part(0) => break,
                Written::Part(len) => len,
                Written::Gone => return Err(self.fault()),
            };
            self.sent += taken;
            self.written += taken as u64;
        }
        if self.sent == self.unsent.len() {
            self.unsent.clear();
            self.unsent.shrink_to(UNSENT_BYTES_MAX);
            self.sent = 0;
        }
        Ok(())
    }

    /// Hands over the answers that are there whole. Err: why it is broken; what came before counts.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        answers: &mut Vec<Value>,
        now: Instant,
    ) -> Result<(), Fault> {
        // What kept it from connecting, or cut it: a read would not tell, but for what came before.
        let broken = match self.unread.is_there() && !self.has_heard {
            true => self.socket.take_error().map(Fault::Broken),
            false => None,
        };
        let mut read = 0;
        while self.unread.is_there() && read < READ_BYTES_A_TURN {
            let received = self.socket.read(buffer);
            self.unread.was_read(&received);
            match received {
                Received::Bytes { len, .. } => {
                    self.has_heard = true;
                    self.heard_at = now;
                    read += len;
                    self.parse(&buffer[..len], answers)?;
                }
                Received::Nothing => {}
                Received::End => return Err(broken.unwrap_or_else(|| self.fault())),
            }
        }
        broken.map_or(Ok(()), Err)
    }

    fn parse(&mut self, bytes: &[u8], answers: &mut Vec<Value>) -> Result<(), Fault> {
        let mut lent = Lent(bytes);
        loop {
            match self.parser.parse_value(&mut lent) {
                Ok(value) => answers.push(value),
                Err(error) if error.is_timeout() => return Ok(()),
                Err(_) => return Err(Fault::NoRedis),
            }
        }
    }

    fn fault(&mut self) -> Fault {
        let fault = self.socket.take_error();
        Fault::Broken(fault.unwrap_or_else(|| "broken pipe".to_owned()))
    }
}

/// Bytes for the parser, which keeps what it needs of them; then there is nothing, for now.
struct Lent<'b>(&'b [u8]);

impl Read for Lent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}
