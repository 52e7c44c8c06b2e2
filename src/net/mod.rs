//! Sockets and the poll as worker and engine use them: every system call on a stream.
//!
//! May not know what goes over it.

pub mod dial;
mod handshakes;
mod kernel;
mod listener;
mod ready;
pub mod ring;
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

pub use handshakes::{Allowed, Handshakes};
pub use listener::{ACCEPTS_A_TURN, Listener};
pub use ready::{Ready, WAKE, listener_token, wait, wake_up};

use ring::Left;

/// One accepted stream. What is sent may go with what others are sent, see [`ring`]: to who writes it is a
/// socket that takes a little more than the kernel's own buffer.
pub struct Tcp {
    stream: TcpStream,
    /// The submission that it was queued for last, since it settled. 0: none.
    queued: u32,
    /// What it has not taken of that. While there is any, nothing is queued.
    left: Option<Box<Left>>,
}

impl Tcp {
    /// Takes the stream over.
    pub fn new(stream: TcpStream) -> Tcp {
        // Without it small frames that follow one another arrive up to 40 ms late. It fails only on
        // a socket that is dead already.
        let _ = stream.set_nodelay(true);
        Tcp {
            stream,
            queued: 0,
            left: None,
        }
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

    /// Takes it out of the poll, before it is closed or goes to another thread.
    pub fn deregister(&mut self, registry: &Registry) {
        self.settle();
        // The descriptor is closed right after, which takes it out as well.
        let _ = registry.deregister(&mut self.stream);
    }

    /// The stream itself, for a protocol between TCP and the caller, which writes in no other way.
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
    pub fn shutdown(&mut self) {
        self.settle();
        self.left = None;
        // It fails only when the peer has ended the connection already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Nothing more will be written: what it has not taken goes before the end.
    pub fn shutdown_write(&mut self) {
        self.settle();
        if let Some(left) = &mut self.left {
            left.is_end = true;
            return;
        }
        // It fails only when the peer has ended the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What was queued of it is sent, and what it did not take of that is here.
    fn settle(&mut self) {
        let queued = std::mem::take(&mut self.queued);
        if queued != 0
            && let Some(left) = ring::settle(self.stream.as_fd(), queued)
        {
            self.left = Some(Box::new(left));
        }
    }
}

/// It is closed, and its descriptor may name another socket right after.
impl Drop for Tcp {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Socket for Tcp {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        match self.flush() {
            Written::All => {}
            other => return other,
        }
        let len = slices.iter().map(|slice| slice.len()).sum();
        if (1..=ring::SEND_BYTES_MAX).contains(&len)
            && let Some(number) = ring::queue(self.stream.as_fd(), slices, len)
        {
            self.queued = number;
            return Written::All;
        }
        write(&mut self.stream, slices, len)
    }

    fn flush(&mut self) -> Written {
        self.settle();
        let Some(left) = &mut self.left else {
            return Written::All;
        };
        if left.is_dead {
            return Written::Gone;
        }
        let slices = [IoSlice::new(&left.bytes)];
        let written = write(&mut self.stream, &slices, left.bytes.len());
        match written {
            Written::All => {
                let is_end = left.is_end;
                self.left = None;
                if is_end {
                    self.shutdown_write();
                }
                Written::All
            }
            Written::Part(taken) => {
                left.bytes.drain(..taken);
                Written::Part(0)
            }
            Written::Gone => Written::Gone,
        }
    }

    fn held_bytes(&self) -> usize {
        self.left.as_ref().map_or(0, |left| left.bytes.len())
    }
}

/// Writes at once.
fn write(stream: &mut TcpStream, slices: &[IoSlice<'_>], len: usize) -> Written {
    loop {
        let written = match slices {
            [single] => stream.write(single),
            several => stream.write_vectored(several),
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
