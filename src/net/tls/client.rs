//! The bytes of one socket, plain or through TLS: one that the worker port has accepted, the link to a
//! running engine, or a connection to Redis.
//!
//! What stands between a socket and its frames stands here, for both ports: [`MaybeTls::read`] gives plain
//! bytes, [`Socket::write`] takes such, and what a layer has to say for itself goes out with
//! [`MaybeTls::flush`], which is asked for whenever the socket takes bytes. May not know what the bytes mean.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Registry;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::fanout::{Socket, Written};
use crate::id::SlotId;
use crate::mesh::inquiries::KernelLook;
use crate::net::Tcp;
use crate::reading::Received;

/// One socket.
pub enum MaybeTls {
    /// As it is.
    Plain(Tcp),
    /// Under TLS, as its client.
    Tls(Box<Tls>),
}

/// Our end of a TLS session, and the socket below.
pub struct Tls {
    tcp: Tcp,
    session: ClientConnection,
    /// What ended the session, for the log.
    fault: Option<String>,
}

impl MaybeTls {
    /// As it is.
    pub fn plain(stream: TcpStream) -> MaybeTls {
        MaybeTls::Plain(Tcp::new(stream))
    }

    /// The handshake begins with the first write.
    pub fn tls(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<MaybeTls, rustls::Error> {
        Ok(MaybeTls::Tls(Box::new(Tls {
            tcp: Tcp::new(stream),
            session: ClientConnection::new(config, name)?,
            fault: None,
        })))
    }

    fn tcp(&mut self) -> &mut Tcp {
        match self {
            MaybeTls::Plain(tcp) => tcp,
            MaybeTls::Tls(tls) => &mut tls.tcp,
        }
    }

    /// Has the poll watch it, under the name of its slot.
    pub fn register(&mut self, id: SlotId, registry: &Registry) -> io::Result<()> {
        self.tcp().register(id, registry)
    }

    /// Who is at the other end; `None` when it is gone.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            MaybeTls::Plain(tcp) => tcp.peer(),
            MaybeTls::Tls(tls) => tls.tcp.peer(),
        }
    }

    /// What the kernel says of the connection.
    pub fn kernel(&self) -> Option<KernelLook> {
        match self {
            MaybeTls::Plain(tcp) => tcp.kernel(),
            MaybeTls::Tls(tls) => tls.tcp.kernel(),
        }
    }

    /// Takes it out of the poll, before it is closed.
    pub fn deregister(&mut self, registry: &Registry) {
        self.tcp().deregister(registry);
    }

    /// Why it could not connect, or what broke it; told once.
    pub fn take_error(&mut self) -> Option<String> {
        if let MaybeTls::Tls(tls) = self
            && let Some(fault) = tls.fault.take()
        {
            return Some(fault);
        }
        let error = self.tcp().take_error()?;
        Some(error.to_string())
    }

    /// Reads what is there, at most a buffer full.
    pub fn read(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            MaybeTls::Plain(tcp) => tcp.read(buffer),
            MaybeTls::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes what the session itself has to say; all there is of a plain socket is written already.
    pub fn flush(&mut self) -> Written {
        match self {
            MaybeTls::Plain(_) => Written::All,
            MaybeTls::Tls(tls) => tls.flush(),
        }
    }

    /// Whether the session itself has something to say.
    pub fn wants_write(&self) -> bool {
        match self {
            MaybeTls::Plain(_) => false,
            MaybeTls::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Writes what the socket takes.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Written {
        self.write(&[IoSlice::new(bytes)])
    }

    /// Nothing more will be written.
    pub fn shutdown_write(&mut self) {
        if let MaybeTls::Tls(tls) = self {
            tls.session.send_close_notify();
            // What does not go out now would only have told the other side what the end of TCP tells.
            let _ = tls.flush();
        }
        self.tcp().shutdown_write();
    }

    /// Nothing more will be read or written. The descriptor stays until it is dropped.
    pub fn shutdown(&mut self) {
        self.tcp().shutdown();
    }
}

impl Socket for MaybeTls {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        match self {
            MaybeTls::Plain(tcp) => tcp.write(slices),
            MaybeTls::Tls(tls) => tls.write_slices(slices),
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            match self.session.reader().read(buffer) {
                Ok(0) => return Received::End,
                // More may stand in the session, of which the poll knows nothing.
                Ok(len) => return Received::Bytes { len, more: true },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Received::End,
            }
            match self.session.read_tls(self.tcp.stream_mut()) {
                Ok(0) => return Received::End,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Received::Nothing;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.broken(&error),
            }
            if let Err(error) = self.session.process_new_packets() {
                let _ = self.flush(); // the alert that says why, as far as it goes
                return self.broken(&error);
            }
        }
    }

    fn broken(&mut self, why: &dyn std::fmt::Display) -> Received {
        self.fault = Some(why.to_string());
        Received::End
    }

    fn write(&mut self, bytes: &[u8]) -> Written {
        let mut taken = 0;
        loop {
            // Its buffer is bounded: it takes a part where it is full.
            taken += match self.session.writer().write(&bytes[taken..]) {
                Ok(len) => len,
                Err(_) => return Written::Gone,
            };
            match self.flush() {
                Written::All if taken == bytes.len() => return Written::All,
                Written::All if self.session.is_handshaking() => return Written::Part(taken),
                Written::All => {}
                Written::Part(_) => return Written::Part(taken),
                Written::Gone => return Written::Gone,
            }
        }
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Written {
        let mut taken = 0;
        for slice in slices {
            match self.write(slice) {
                Written::All => taken += slice.len(),
                Written::Part(len) => return Written::Part(taken + len),
                Written::Gone => return Written::Gone,
            }
        }
        Written::All
    }

    fn flush(&mut self) -> Written {
        while self.session.wants_write() {
            match self.session.write_tls(self.tcp.stream_mut()) {
                Ok(0) => return Written::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Part(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fault = Some(error.to_string());
                    return Written::Gone;
                }
            }
        }
        Written::All
    }
}

/// What a session trusts: the certificates of the operating system, or those that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name in their place. Err: there are none.
pub fn trust() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first();
        return Err(why.map_or("none was found".to_owned(), ToString::to_string));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}
