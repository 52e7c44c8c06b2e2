//! Sockets and the poll as worker and engine use them: every system call on a stream.
//!
//! May not know what goes over it.

pub mod dial;
mod handshakes;
mod kernel;
mod listener;
mod ready;
pub mod tls;

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::fanout::{Socket, Written};
use crate::id::SlotId;
use crate::mesh::inquiries::KernelLook;
use crate::reading::Received;

pub use handshakes::{Handshakes, Turn};
pub use listener::{ACCEPTS_A_TURN, Listener};
pub use ready::{Ready, WAKE, listener_token, wait, wake_up};

/// One accepted stream.
pub struct Tcp {
    stream: TcpStream,
}

impl Tcp {
    /// Takes the stream over.
    pub fn new(stream: TcpStream) -> Tcp {
        // Without it small frames that follow one another arrive up to 40 ms late. It fails only on
        // a socket that is dead already.
        let _ = stream.set_nodelay(true);
        Tcp { stream }
    }

    /// Has the poll watch it, under the name of its slot.
    pub fn register(&mut self, id: SlotId, registry: &Registry) -> io::Result<()> {
        registry.register(
            &mut self.stream,
            token_of(id),
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// Who is at the other end; `None` when it is gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// What the kernel says of the connection.
    pub fn kernel(&self) -> Option<KernelLook> {
        kernel::look(self.stream.as_fd())
    }

    /// Takes it out of the poll, before it is closed.
    pub fn deregister(&mut self, registry: &Registry) {
        // The descriptor is closed right after, which takes it out as well.
        let _ = registry.deregister(&mut self.stream);
    }

    /// The stream itself, for a protocol between TCP and the caller.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// What broke it or kept it from connecting; the system tells it once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error().ok()?
    }

    /// Reads what is there, at most a buffer full.
    pub fn read(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Received::End,
                // A stream socket that gave less than was asked for is empty, and what comes later
                // is told anew (epoll(7), question 9).
                Ok(len) => Received::Bytes {
                    len,
                    more: len == buffer.len(),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Received::End,
            };
        }
    }

    /// Nothing more will be read or written. The descriptor stays until it is dropped.
    pub fn shutdown(&self) {
        // It fails only when the peer has ended the connection already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Nothing more will be written.
    pub fn shutdown_write(&self) {
        // It fails only when the peer has ended the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Socket for Tcp {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let written = match slices {
                [single] => self.stream.write(single),
                several => self.stream.write_vectored(several),
            };
            return match written {
                Ok(written) if written == len => Written::All,
                Ok(0) => Written::Gone,
                Ok(written) => Written::Part(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Part(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Written::Gone,
            };
        }
    }
}

/// The poll's name for what stands in a slot.
pub fn token_of(id: SlotId) -> Token {
    Token(id.slot as usize | (id.generation as usize) << 32)
}

/// The slot of such a name.
pub fn id_of(token: Token) -> SlotId {
    SlotId {
        slot: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    }
}
