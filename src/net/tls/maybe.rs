//! The bytes of one socket, plain or through TLS: what a port has accepted, the link to a running engine,
//! or a connection to Redis.
//!
//! What stands between a socket and its frames stands here, for both ports: [`MaybeTls::read`] gives plain
//! bytes, [`Socket::write`] takes such, and what a layer has to say for itself goes out with
//! [`Socket::flush`], which is asked for whenever the socket takes bytes. May not know what the bytes mean.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Registry;
use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::Offer;
use super::client::Called;
use super::served::Served;
use crate::fanout::{Socket, Written};
use crate::id::SlotId;
use crate::mesh::inquiries::KernelLook;
use crate::net::Tcp;
use crate::reading::Received;

/// One socket.
pub enum MaybeTls {
    /// As it is.
    Plain(Tcp),
    /// Under TLS.
    Tls(Box<Tls>),
}

/// Each byte here is one of every socket's. In a debug build each knows its poll, too.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<MaybeTls>() == 16);

/// Which side of the session is ours.
pub struct Tls(Side);

enum Side {
    Client(Called),
    Server(Served),
}

impl MaybeTls {
    /// As it is.
    pub fn plain(stream: TcpStream) -> MaybeTls {
        MaybeTls::Plain(Tcp::new(stream))
    }

    /// Under TLS, as its client: the handshake begins with the first write.
    pub fn tls(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<MaybeTls, rustls::Error> {
        let side = Side::Client(Called::new(stream, config, name)?);
        Ok(MaybeTls::Tls(Box::new(Tls(side))))
    }

    /// One that was accepted: plain where nothing is offered.
    pub fn accepted(stream: TcpStream, offer: Option<&mut Offer>) -> io::Result<MaybeTls> {
        let Some(offer) = offer else {
            return Ok(MaybeTls::plain(stream));
        };
        let side = Side::Server(Served::new(stream, offer)?);
        Ok(MaybeTls::Tls(Box::new(Tls(side))))
    }

    /// The peer is a proxy, which may say in a line of the PROXY protocol before anything else whom it speaks
    /// for: [`MaybeTls::read`] gives that line first, as it gives the one of a plain socket.
    pub fn expect_line(&mut self) {
        if let MaybeTls::Tls(tls) = self
            && let Side::Server(served) = &mut tls.0
        {
            served.expect_line();
        }
    }

    fn tcp(&self) -> &Tcp {
        match self {
            MaybeTls::Plain(tcp) => tcp,
            MaybeTls::Tls(tls) => match &tls.0 {
                Side::Client(called) => called.tcp(),
                Side::Server(served) => served.tcp(),
            },
        }
    }

    fn tcp_mut(&mut self) -> &mut Tcp {
        match self {
            MaybeTls::Plain(tcp) => tcp,
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.tcp_mut(),
                Side::Server(served) => served.tcp_mut(),
            },
        }
    }

    /// Has the poll watch it, under the name of its slot.
    pub fn register(&mut self, id: SlotId, registry: &Registry) -> io::Result<()> {
        self.tcp_mut().register(id, registry)
    }

    /// Who is at the other end; `None` when it is gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.tcp().peer()
    }

    /// What the kernel says of the connection.
    pub fn kernel(&self) -> Option<KernelLook> {
        self.tcp().kernel()
    }

    /// Takes it out of the poll, before it is closed.
    pub fn deregister(&mut self, registry: &Registry) {
        self.tcp_mut().deregister(registry);
    }

    /// What has ended the session, if there is one; told once.
    pub fn take_fault(&mut self) -> Option<String> {
        match self {
            MaybeTls::Plain(_) => None,
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.take_fault(),
                Side::Server(served) => served.take_fault(),
            },
        }
    }

    /// Why it could not connect, or what broke it; told once.
    pub fn take_error(&mut self) -> Option<String> {
        if let Some(fault) = self.take_fault() {
            return Some(fault);
        }
        let error = self.tcp().take_error()?;
        Some(error.to_string())
    }

    /// Whether it has been accepted and its handshake is not over: what comes costs more than its bytes.
    pub fn is_handshaking(&self) -> bool {
        match self {
            MaybeTls::Plain(_) => false,
            MaybeTls::Tls(tls) => match &tls.0 {
                Side::Client(_) => false,
                Side::Server(served) => served.is_handshaking(),
            },
        }
    }

    /// What it has read and could not open yet.
    pub fn kept_bytes(&self) -> usize {
        match self {
            MaybeTls::Plain(_) => 0,
            MaybeTls::Tls(tls) => match &tls.0 {
                Side::Client(_) => 0,
                Side::Server(served) => served.kept_bytes(),
            },
        }
    }

    /// Reads what is there, at most a buffer full.
    pub fn read(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            MaybeTls::Plain(tcp) => tcp.read(buffer),
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.read(buffer),
                Side::Server(served) => served.read(buffer),
            },
        }
    }

    /// Whether the session itself has something to say.
    pub fn wants_write(&self) -> bool {
        match self {
            MaybeTls::Plain(_) => false,
            MaybeTls::Tls(tls) => match &tls.0 {
                Side::Client(called) => called.wants_write(),
                Side::Server(served) => served.held_bytes() > 0,
            },
        }
    }

    /// Writes what the socket takes.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Written {
        self.write(&[IoSlice::new(bytes)])
    }

    /// Nothing more will be written.
    pub fn shutdown_write(&mut self) {
        match self {
            MaybeTls::Plain(tcp) => tcp.shutdown_write(),
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.shutdown_write(),
                Side::Server(served) => served.shutdown_write(),
            },
        }
    }

    /// Nothing more will be read or written. The descriptor stays until it is dropped.
    pub fn shutdown(&mut self) {
        match self {
            MaybeTls::Plain(tcp) => tcp.shutdown(),
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.shutdown(),
                Side::Server(served) => served.shutdown(),
            },
        }
    }
}

impl Socket for MaybeTls {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        match self {
            MaybeTls::Plain(tcp) => tcp.write(slices),
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.write_slices(slices),
                Side::Server(served) => served.write(slices),
            },
        }
    }

    fn flush(&mut self) -> Written {
        match self {
            MaybeTls::Plain(tcp) => tcp.flush(),
            MaybeTls::Tls(tls) => match &mut tls.0 {
                Side::Client(called) => called.flush(),
                Side::Server(served) => served.flush(),
            },
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            MaybeTls::Plain(tcp) => tcp.held_bytes(),
            MaybeTls::Tls(tls) => match &tls.0 {
                Side::Client(_) => 0,
                Side::Server(served) => served.held_bytes(),
            },
        }
    }
}
