//! A socket under TLS as its client: the link to a running engine, or a connection to Redis.
//!
//! May not know what the bytes mean.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::faults;
use crate::fanout::Written;
use crate::net::Tcp;
use crate::reading::Received;

/// Our end of a session as its client, and the socket below.
pub(super) struct Called {
    tcp: Tcp,
    session: ClientConnection,
    /// What ended the session, for the log.
    fault: Option<String>,
}

impl Called {
    /// The handshake begins with the first write.
    pub(super) fn new(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Called, rustls::Error> {
        Ok(Called {
            tcp: Tcp::new(stream),
            session: ClientConnection::new(config, name)?,
            fault: None,
        })
    }

    pub(super) fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    pub(super) fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// What has ended the session; told once.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// Whether the session itself has something to say.
    pub(super) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Nothing more will be written.
    pub(super) fn shutdown_write(&mut self) {
        self.session.send_close_notify();
        // What does not go out now would only have told the other side what the end of TCP tells.
        let _ = self.flush();
        self.tcp.shutdown_write();
    }

    /// Nothing more will be read or written.
    pub(super) fn shutdown(&mut self) {
        self.tcp.shutdown();
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Received {
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
                Err(error) => return self.broken(error.to_string()),
            }
            if let Err(error) = self.session.process_new_packets() {
                let _ = self.flush(); // the alert that says why, as far as it goes
                return self.broken(faults::why(&error));
            }
        }
    }

    fn broken(&mut self, why: String) -> Received {
        self.fault = Some(why);
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

    pub(super) fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Written {
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

    pub(super) fn flush(&mut self) -> Written {
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
