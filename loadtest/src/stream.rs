//! What a connection goes over: TCP as it is, or TLS on it.
//!
//! May not know what the bytes mean.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage, RootCertStore,
};

/// Whom a connection under TLS trusts.
#[derive(Clone, Debug)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The authorities in a file of PEM. Each connection goes through a whole handshake.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let faulty = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(file).map_err(|e| faulty(&e))?;
        for certificate in found {
            let certificate = certificate.map_err(|e| faulty(&e))?;
            roots.add(certificate).map_err(|e| faulty(&e))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| faulty(&e))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Trust {}

/// What to do about a session that did not come about.
pub(crate) fn advice(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("--ca has to name its authority, or the certificate itself")
        }
        // A type of the library below, known to us by its text alone.
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string() == "CaUsedAsEndEntity" =>
        {
            Some(
                "the server shows the certificate of an authority (CA:TRUE) as its own; openssl req -x509 makes \
                 one that is none with -addext basicConstraints=critical,CA:FALSE",
            )
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("it speaks no TLS: ws:// in place of wss://")
        }
        _ => None,
    }
}

/// One of the two.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub(crate) struct Tls {
    tcp: TcpStream,
    session: ClientConnection,
}

impl Stream {
    /// `tls`: whom it trusts, and for which host the other side has to show a certificate.
    pub(crate) fn new(tcp: TcpStream, tls: Option<(&Trust, &str)>) -> io::Result<Self> {
        let Some((trust, host)) = tls else {
            return Ok(Self::Plain(tcp));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session =
            ClientConnection::new(Arc::clone(&trust.0), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Tls { tcp, session })))
    }

    /// Whether a read that gave less than it could has emptied the socket.
    pub(crate) fn is_empty_after_short_read(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Nothing more is written.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.shutdown(Shutdown::Write),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                tls.send()?;
                tls.tcp.shutdown(Shutdown::Write)
            }
        }
    }
}

impl Tls {
    /// Sends what the session has ready, as far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(tcp) => return tcp.read(buffer),
            Self::Tls(tls) => tls,
        };
        loop {
            match tls.session.reader().read(buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.session.read_tls(&mut tls.tcp)? == 0 {
                return Ok(0);
            }
            let processed = tls.session.process_new_packets();
            tls.send()?;
            processed.map_err(io::Error::other)?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => {
                tls.send()?; // also what a full buffer holds
                let taken = tls.session.writer().write(bytes)?;
                tls.send()?;
                match taken {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.send(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_did_not_come_about_has_advice_and_other_errors_have_none() {
        let of = |error: Error| advice(&io::Error::other(error));
        let unknown = of(CertificateError::UnknownIssuer.into());
        assert!(unknown.is_some_and(|advice| advice.contains("--ca")));
        let other: Box<dyn std::error::Error + Send + Sync> = "CaUsedAsEndEntity".into();
        let other = rustls::OtherError(Arc::from(other));
        let authority = of(CertificateError::Other(other).into());
        assert!(authority.is_some_and(|advice| advice.contains("CA:TRUE")));
        let plain = of(Error::InvalidMessage(InvalidMessage::InvalidContentType));
        assert!(plain.is_some_and(|advice| advice.contains("ws://")));
        assert_eq!(advice(&io::Error::other("the cable")), None);
        assert_eq!(advice(&ErrorKind::ConnectionRefused.into()), None);
    }
}
