//! One WebSocket to the server, with its socket: every system call on a connection is here.
//!
//! Uses `wire` for the bytes. Reads into the thread's one buffer and keeps only what is not yet a
//! whole frame. May not know what a message means, nor count anything.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use crate::stream::{self, Stream};
use crate::target::Target;
use crate::wire::{self, Frame, Message, WireError};

/// Room for what a server coalesces into one write, and small enough to stay in the cache.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the server closed the connection with code {0}")]
    ClosedWith(u16),
    #[error("the server closed the connection")]
    Closed,
}

impl ClientError {
    /// What to do about it, for the one who reads the error.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        let Self::Io(error) = self else { return None };
        if let Some(advice) = stream::advice(error) {
            return Some(advice);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some("is the server running?"),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
                Some("local ports used up: raise --sources")
            }
            io::ErrorKind::ConnectionReset => {
                Some("did the server reach its own limit of open files?")
            }
            _ => None,
        }
    }
}

/// Nanoseconds since the process began to measure. All times of a run are of this clock.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// This machine's clock, in milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The read buffer that all connections of a thread share.
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; READ_BYTES],
        }
    }

    /// Puts `rest` at the front and gives the buffer with room behind it.
    fn behind(&mut self, rest: &[u8]) -> &mut [u8] {
        if self.bytes.len() < 2 * rest.len() {
            self.bytes.resize(4 * rest.len(), 0); // ends: `wire` bounds a frame
        }
        self.bytes[..rest.len()].copy_from_slice(rest);
        &mut self.bytes
    }

    /// Puts `begun` right before the bytes at `filled`, and lets that begin with it.
    fn put_before(&mut self, filled: &mut Range<usize>, begun: &[u8]) {
        if filled.start < begun.len() {
            let moved = begun.len()..begun.len() + filled.len();
            self.bytes.resize(self.bytes.len().max(moved.end), 0);
            self.bytes.copy_within(filled.clone(), moved.start);
            *filled = moved;
        }
        let start = filled.start - begun.len();
        self.bytes[start..filled.start].copy_from_slice(begun);
        filled.start = start;
    }
}

/// Who hears what comes on a connection. Times are those at which a read returned.
pub(crate) trait Ear {
    /// Bytes that came where no frame was begun. How many of them need no look at their frames; where
    /// these end inside a frame and others follow, `begun` gets what came of it.
    fn follow(&mut self, now_ns: u64, bytes: &[u8], begun: &mut Vec<u8>) -> usize;

    fn hear(&mut self, now_ns: u64, message: Message<'_>);
}

/// One that wants nothing but texts.
struct Texts<F>(F);

impl<F: FnMut(u64, &[u8])> Ear for Texts<F> {
    fn follow(&mut self, _: u64, _: &[u8], _: &mut Vec<u8>) -> usize {
        0
    }

    fn hear(&mut self, now_ns: u64, message: Message<'_>) {
        (self.0)(now_ns, message.text);
    }
}

/// A connection in whichever state it is.
pub(crate) struct Client {
    stream: Stream,
    is_open: bool,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Client {
    /// Begins to connect. The upgrade request waits in `unsent` until the socket takes it, and a
    /// refused connection shows as the error of that write.
    pub(crate) fn connect(
        target: &Target,
        source: Option<std::net::SocketAddr>,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, ClientError> {
        let socket = Socket::new(
            Domain::for_address(target.address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&source.into())?;
        }
        match socket.connect(&target.address.into()) {
            Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(e.into());
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let stream = Stream::new(stream, target.trusted())?;
        let unsent = wire::opening(&target.host, &target.path);
        Ok(Self {
            stream,
            is_open: false,
            rest: Vec::new(),
            unsent,
        })
    }

    /// Whether the upgrade is done.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Appends one text message; `flush` sends it.
    pub(crate) fn queue(&mut self, text: &[u8]) {
        wire::write_message(text, &mut self.unsent);
    }

    /// Sends what is queued, as far as the socket takes it; `turn` goes on with the rest.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        let mut sent = 0;
        let result: Result<(), ClientError> = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match self.stream.write(&self.unsent[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e.into()),
            }
        };
        self.unsent.drain(..sent);
        result?;
        Ok(self.stream.flush()?)
    }

    /// Sends a close frame and ends our half; the server's end shows as an error of `turn`.
    pub(crate) fn close(&mut self) -> Result<(), ClientError> {
        wire::write_close(&mut self.unsent);
        self.flush()?;
        Ok(self.stream.end()?)
    }

    /// Does what `event` allows. Each text goes to `sink` with the time at which the read that
    /// completed it returned.
    pub(crate) fn turn(
        &mut self,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        sink: impl FnMut(u64, &[u8]),
    ) -> Result<(), ClientError> {
        self.turn_with(event, buffer, clock, &mut Texts(sink))
    }

    /// The same for an ear that knows what is to come.
    pub(crate) fn turn_with(
        &mut self,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        ear: &mut impl Ear,
    ) -> Result<(), ClientError> {
        if event.is_writable() {
            self.flush()?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Ok(());
        }
        loop {
            let kept = self.rest.len();
            let bytes = buffer.behind(&self.rest);
            let room = bytes.len() - kept;
            let read = match self.stream.read(&mut bytes[kept..]) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.flush(), // pongs
                Err(e) => return Err(e.into()),
            };
            let now_ns = clock.now_ns();
            let mut followed = 0;
            if self.is_open && kept == 0 {
                followed = ear.follow(now_ns, &bytes[..read], &mut self.rest);
            }
            if followed < read {
                let mut filled = followed..kept + read;
                if kept == 0 && !self.rest.is_empty() {
                    let begun = std::mem::take(&mut self.rest);
                    buffer.put_before(&mut filled, &begun);
                }
                let filled = &buffer.bytes[filled];
                let used = self.take(filled, now_ns, ear)?;
                self.rest.clear();
                self.rest.extend_from_slice(&filled[used..]);
            }
            // A short read emptied the socket, and what comes later is a new event: the call that
            // would only say so is saved. An end already announced needs the read that sees it.
            if read < room && self.stream.is_empty_after_short_read() && !event.is_read_closed() {
                return self.flush();
            }
        }
    }

    /// Takes what is whole off the front of `bytes`: the answer to the upgrade, then frames.
    fn take(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        ear: &mut impl Ear,
    ) -> Result<usize, ClientError> {
        let mut used = 0;
        if !self.is_open {
            let Some(answer_bytes) = wire::read_answer(bytes)? else {
                return Ok(0);
            };
            self.is_open = true;
            used = answer_bytes;
        }
        let mut close = None;
        let unsent = &mut self.unsent;
        used += wire::split(&bytes[used..], |frame| match frame {
            Frame::Message(message) => ear.hear(now_ns, message),
            Frame::Ping(payload) => wire::write_pong(payload, unsent),
            Frame::Pong => {}
            Frame::Close(code) => {
                close = Some(code.map_or(ClientError::Closed, ClientError::ClosedWith))
            }
        })?;
        close.map_or(Ok(used), Err)
    }
}
