//! A certificate for `localhost`, of an authority that only the test knows; clients under TLS; and a way
//! through TLS for clients that speak none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iii_stream::config::{MinVersion, TlsFiles};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::raw;

pub(crate) struct Localhost {
    /// Whom to trust, as PEM.
    pub(crate) authority: String,
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Localhost {
    pub(crate) fn make() -> Localhost {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "an authority of this test");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // By some clients' rules a certificate with its authority's name is that authority's own.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &authority).unwrap();
        Localhost {
            authority: authority.pem(),
            certificate,
            key,
        }
    }

    /// Writes what a server needs of it, and the authority as `ca.pem`.
    pub(crate) fn write(&self, folder: &Path) -> TlsFiles {
        let files = TlsFiles {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
            min_version: MinVersion::Tls12,
        };
        std::fs::write(&files.key, self.key.serialize_pem()).unwrap();
        std::fs::write(&files.cert, self.certificate.pem()).unwrap();
        std::fs::write(folder.join("ca.pem"), &self.authority).unwrap();
        files
    }

    /// A client that trusts it, and speaks these versions.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap();
        config.with_root_certificates(roots).with_no_client_auth()
    }

    /// One that shows the certificate itself as well.
    pub(crate) fn client_with_certificate(&self, shows: &Localhost) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(shows.key.serialize_der().into());
        let chain = vec![shows.certificate.der().clone()];
        config
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap()
    }
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, raw::Patient>;

/// A socket under TLS whose handshake has not begun.
pub(crate) fn connect(address: SocketAddr, config: ClientConfig) -> TlsStream {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, raw::Patient(raw::connect(address)))
}

/// What the other side shows. Err: there was no handshake.
pub(crate) fn shown(address: SocketAddr, config: ClientConfig) -> io::Result<Vec<u8>> {
    let mut stream = connect(address, config);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    // Of a client's certificate it says with its next words what it thinks.
    stream.write_all(&raw::frame(0x89, b""))?;
    let certificates = stream.conn.peer_certificates().unwrap_or_default();
    Ok(certificates[0].to_vec())
}

/// A port of its own: what comes there goes to a server under TLS, and back.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Tunnel {
    pub(crate) fn to(server: SocketAddr, config: ClientConfig) -> Tunnel {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for plain in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let name = ServerName::try_from("localhost").unwrap();
                let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
                let (plain, sealed) = (plain.unwrap(), raw::connect(server));
                // Its end is that of both sockets.
                std::thread::spawn(move || carry(plain, sealed, session));
            }
        });
        Tunnel { address, is_over }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn carry(
    plain: std::net::TcpStream,
    sealed: std::net::TcpStream,
    mut session: ClientConnection,
) -> io::Result<()> {
    for stream in [&plain, &sealed] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let (mut plain, mut sealed) = (TcpStream::from_std(plain), TcpStream::from_std(sealed));
    let mut poll = Poll::new()?;
    for (number, stream) in [&mut plain, &mut sealed].into_iter().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(stream, Token(number), both)?;
    }
    let mut events = Events::with_capacity(8);
    let mut buffer = vec![0; 64 * 1024];
    let (mut to_plain, mut has_ended): (Vec<u8>, bool) = (Vec::new(), false);
    loop {
        let mut has_moved = false;
        if !session.wants_write()
            && let Some(len) = moved(plain.read(&mut buffer[..16 * 1024]))?
        {
            if len == 0 {
                session.send_close_notify();
                session.complete_io(&mut sealed).ok();
                return sealed.shutdown(Shutdown::Write);
            }
            session.writer().write_all(&buffer[..len])?;
            has_moved = true;
        }
        while session.wants_write() && moved(session.write_tls(&mut sealed))?.is_some() {
            has_moved = true;
        }
        if to_plain.is_empty() && !has_ended {
            if let Some(len) = moved(session.read_tls(&mut sealed))? {
                has_ended = len == 0;
                has_moved = true;
                let processed = session.process_new_packets();
                let _ = session.write_tls(&mut sealed); // an alert, perhaps
                processed.map_err(io::Error::other)?;
            }
            while let Ok(len @ 1..) = session.reader().read(&mut buffer) {
                to_plain.extend_from_slice(&buffer[..len]);
            }
        }
        if !to_plain.is_empty()
            && let Some(len) = moved(plain.write(&to_plain))?
        {
            to_plain.drain(..len);
            has_moved = true;
        }
        if has_ended && to_plain.is_empty() {
            return plain.shutdown(Shutdown::Both);
        }
        if !has_moved {
            poll.poll(&mut events, None)?;
        }
    }
}

/// None: nothing for now.
fn moved(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        outcome => outcome.map(Some),
    }
}
