//! A socket under TLS as its server: reads give what was opened, writes take what is to be sealed.
//!
//! What is written to it in one go becomes records of its own; the sealed bytes that the socket did not
//! take are held here, one record at most and what the session itself says. A line of the PROXY protocol that
//! a proxy sends before the session is given as it came. May not know what else the bytes mean.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use mio::net::TcpStream;

use super::Offer;
use super::session::{RECORD_BYTES, SEALED_BYTES, Session};
use crate::fanout::{Socket, Written};
use crate::net::Tcp;
use crate::protocol::proxied::Beginning;
use crate::reading::Received;

/// A record of a handshake: whatever begins otherwise is no TLS.
const HANDSHAKE: u8 = 22;
/// A session that has more to say than that, to a peer that does not listen, is over.
const HELD_BYTES_MAX: usize = 128 * 1024;
/// What is told to a client that speaks HTTP where TLS is spoken.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 44\r\n\r\nthis port speaks TLS: use https:// or wss://";

thread_local! {
    /// Room of each thread for the record that it seals.
    static ROOM: RefCell<Room> = RefCell::new(Room {
        plain: Vec::with_capacity(RECORD_BYTES),
        sealed: vec![0; SEALED_BYTES],
    });
}

struct Room {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

/// One socket.
pub(super) struct Served {
    tcp: Tcp,
    session: Session,
    /// Sealed bytes that the socket has not taken.
    held: Vec<u8>,
    /// Nothing of the session has come yet.
    is_new: bool,
    /// What has come of a line of the PROXY protocol before the session. None: no such line is read, or it
    /// has been.
    line: Option<Vec<u8>>,
    /// Nothing more is read.
    is_over: bool,
    /// The end of what is sent is among what is held, or has gone.
    is_ended: bool,
    /// What has ended the session, for the log.
    fault: Option<Box<str>>,
}

impl Served {
    /// The peer speaks first.
    pub(super) fn new(stream: TcpStream, offer: &mut Offer) -> io::Result<Served> {
        Ok(Served {
            tcp: Tcp::new(stream),
            session: offer.session().map_err(io::Error::other)?,
            held: Vec::new(),
            is_new: true,
            line: None,
            is_over: false,
            is_ended: false,
            fault: None,
        })
    }

    pub(super) fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    pub(super) fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Whether the handshake is not over.
    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// What has come and could not be opened yet.
    pub(super) fn kept_bytes(&self) -> usize {
        let line = self.line.as_ref().map_or(0, Vec::len);
        self.session.kept_bytes() + line
    }

    /// The peer is a proxy, which may say in a line before the session whom it speaks for.
    pub(super) fn expect_line(&mut self) {
        self.line = Some(Vec::new());
    }

    /// What has ended the session; told once.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.fault.take().map(String::from)
    }

    /// Nothing more will be read or written.
    pub(super) fn shutdown(&mut self) {
        self.say_end();
        self.tcp.shutdown();
    }

    /// Nothing more will be written.
    pub(super) fn shutdown_write(&mut self) {
        self.say_end();
        if self.held.is_empty() {
            self.tcp.shutdown_write();
        }
    }

    /// Reads what is there, once, and gives what that opened, at the beginning of the buffer. That may
    /// be nothing: the rest of a record has still to come, or it was of the session itself.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Received {
        if self.is_over {
            return Received::End;
        }
        // The session opens from one half of the buffer into the other.
        let (plain, input) = buffer.split_at_mut(buffer.len() / 2);
        let input = &mut input[..plain.len()];
        let kept = self.session.kept_bytes();
        if kept >= input.len() {
            return self.broken("a message of the handshake is too long");
        }
        let (len, more) = match self.tcp.read(&mut input[kept..]) {
            Received::Bytes { len, more } => (len, more),
            other => return other,
        };
        let of_line = match self.line_in(&input[..len]) {
            Ok(of_line) => of_line,
            Err(first) => return self.refuse(first),
        };
        plain[..of_line].copy_from_slice(&input[..of_line]);
        let (plain, input) = (&mut plain[of_line..], &mut input[of_line..]);
        let len = len - of_line;
        if len == 0 {
            return Received::Bytes { len: of_line, more };
        }
        if std::mem::take(&mut self.is_new) && input[0] != HANDSHAKE {
            return self.refuse(input[0]);
        }
        let opened = self.session.feed(input, len, plain, &mut self.held);
        let is_dead = self.held.len() > HELD_BYTES_MAX || self.flush() == Written::Gone;
        match opened {
            Err(error) => self.broken(&error.to_string()),
            Ok(_) if is_dead => self.broken("it takes no answer"),
            Ok(len) => {
                self.is_over = self.session.is_ended();
                let more = more || self.is_over;
                let len = of_line + len;
                Received::Bytes { len, more }
            }
        }
    }

    /// How many of these bytes, the first of them, are of the line before the session. Err: no session can
    /// follow, by the first byte of all.
    fn line_in(&mut self, came: &[u8]) -> Result<usize, u8> {
        let Some(line) = &mut self.line else {
            return Ok(0);
        };
        let before = line.len();
        line.extend_from_slice(came);
        let of_line = match Beginning::of(line) {
            Beginning::Incomplete => return Ok(came.len()),
            Beginning::Proxied { len, .. } => len - before,
            Beginning::Other if before == 0 => 0,
            Beginning::Other | Beginning::Broken => return Err(line[0]),
        };
        self.line = None;
        Ok(of_line)
    }

    fn broken(&mut self, why: &str) -> Received {
        self.fault = Some(why.into());
        self.is_over = true;
        Received::End
    }

    /// No TLS. Who speaks HTTP is told so in HTTP; a socket that is new takes it.
    fn refuse(&mut self, first: u8) -> Received {
        if first.is_ascii_uppercase() {
            let _ = self.tcp.write(&[IoSlice::new(NO_TLS)]);
            self.tcp.shutdown_write();
            return self.broken("it speaks HTTP without TLS");
        }
        self.broken("what it has sent is no TLS")
    }

    /// Writes what is held.
    pub(super) fn flush(&mut self) -> Written {
        if self.held.is_empty() {
            return self.tcp.flush();
        }
        let written = self.tcp.write(&[IoSlice::new(&self.held)]);
        match written {
            Written::All => {
                self.held = Vec::new();
                if self.is_ended {
                    self.tcp.shutdown_write();
                }
            }
            Written::Part(len) => {
                self.held.drain(..len);
            }
            Written::Gone => {}
        }
        match written {
            Written::Part(_) => Written::Part(0),
            other => other,
        }
    }

    /// Writes the slices in order, as one, as far as the socket takes them; what was sealed and not taken
    /// is held, and counts as taken.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        ROOM.with_borrow_mut(|room| self.write_sealed(slices, room))
    }

    /// Sealed bytes that the socket has not taken.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len() + self.tcp.held_bytes()
    }

    fn write_sealed(&mut self, slices: &[IoSlice<'_>], room: &mut Room) -> Written {
        if self.is_ended {
            return Written::Gone;
        }
        match self.flush() {
            Written::All => {}
            other => return other,
        }
        let mut taken = 0;
        let mut rest = Rest { slices, at: 0 };
        while let Some(plain) = rest.next(&mut room.plain) {
            let len = plain.len();
            let Some(sealed) = self.session.seal(plain, &mut room.sealed) else {
                return Written::Gone;
            };
            let sealed = &room.sealed[..sealed];
            taken += len;
            match self.tcp.write(&[IoSlice::new(sealed)]) {
                Written::All => {}
                Written::Part(gone) => {
                    self.held.extend_from_slice(&sealed[gone..]);
                    return Written::Part(taken);
                }
                Written::Gone => return Written::Gone,
            }
        }
        Written::All
    }

    /// What goes out last. What the socket does not take of it now would only have told what the end of
    /// TCP tells.
    fn say_end(&mut self) {
        if std::mem::replace(&mut self.is_ended, true) || self.session.is_handshaking() {
            return;
        }
        ROOM.with_borrow_mut(|room| {
            if let Some(len) = self.session.end(&mut room.sealed) {
                self.held.extend_from_slice(&room.sealed[..len]);
            }
        });
        let _ = self.flush();
    }
}

/// What is still to be sealed, record by record.
struct Rest<'a, 'b> {
    slices: &'a [IoSlice<'b>],
    /// So much of the first is done.
    at: usize,
}

impl<'a> Rest<'a, '_> {
    /// The next record's. It stands where it stood if that is in one piece, else in `room`.
    fn next<'r>(&mut self, room: &'r mut Vec<u8>) -> Option<&'r [u8]>
    where
        'a: 'r,
    {
        while let [first, behind @ ..] = self.slices
            && self.at == first.len()
        {
            (self.slices, self.at) = (behind, 0);
        }
        let [first, behind @ ..] = self.slices else {
            return None;
        };
        let left = &first[self.at..];
        if left.len() >= RECORD_BYTES || behind.is_empty() {
            let len = left.len().min(RECORD_BYTES);
            self.at += len;
            return Some(&left[..len]);
        }
        room.clear();
        while let [first, behind @ ..] = self.slices
            && room.len() < RECORD_BYTES
        {
            let left = &first[self.at..];
            let len = left.len().min(RECORD_BYTES - room.len());
            room.extend_from_slice(&left[..len]);
            self.at += len;
            if len < left.len() {
                break;
            }
            (self.slices, self.at) = (behind, 0);
        }
        Some(room)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Std};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use socket2::{Domain, SockRef, Socket as Socket2, Type};

    use super::super::{Look, MaybeTls, Offered};
    use super::*;
    use crate::config::{MinVersion, TlsFiles};
    use crate::net::ring;

    type Client = StreamOwned<ClientConnection, Std>;

    /// Files of this test alone, and what they show.
    pub(crate) struct Port {
        folder: PathBuf,
        certificate: String,
        offered: Arc<Offered>,
        offer: Offer,
        listener: TcpListener,
        buffer: Vec<u8>,
    }

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    impl Port {
        pub(crate) fn open(name: &str) -> Port {
            let name = format!("iii-stream-served-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let (certificate, key) = pair();
            let files = TlsFiles {
                cert: folder.join("cert.pem"),
                key: folder.join("key.pem"),
                client_ca: None,
                min_version: MinVersion::Tls12,
            };
            std::fs::write(&files.cert, &certificate).unwrap();
            std::fs::write(&files.key, &key).unwrap();
            let offered = Arc::new(Offered::load(files).unwrap());
            Port {
                offer: Offer::new(Arc::clone(&offered)),
                offered,
                certificate,
                folder,
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                buffer: vec![0; 64 * 1024],
            }
        }

        /// Both ends of one more connection.
        fn connect(&mut self) -> (Std, Served) {
            let client = Std::connect(self.listener.local_addr().unwrap()).unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            let (socket, _) = self.listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = TcpStream::from_std(socket);
            (client, Served::new(socket, &mut self.offer).unwrap())
        }

        /// The same as the ports have it, where the kernel takes little in advance.
        pub(crate) fn accept_narrow(&mut self) -> (Std, MaybeTls) {
            let client = Socket2::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_recv_buffer_size(4096).unwrap(); // before it says how much it takes
            let address = self.listener.local_addr().unwrap();
            client.connect(&address.into()).unwrap();
            let client = Std::from(client);
            let (socket, _) = self.listener.accept().unwrap();
            SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = TcpStream::from_std(socket);
            let accepted = MaybeTls::accepted(socket, Some(&mut self.offer));
            (client, accepted.unwrap())
        }

        /// A client that trusts the certificate, on a thread of its own, and what it comes to.
        pub(crate) fn client<T: Send + 'static>(
            &self,
            client: Std,
            run: impl FnOnce(Client) -> T + Send + 'static,
        ) -> std::thread::JoinHandle<T> {
            let mut roots = RootCertStore::empty();
            let der =
                rustls::pki_types::CertificateDer::from_pem_slice(self.certificate.as_bytes());
            roots.add(der.unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(Arc::new(config), name).unwrap();
            std::thread::spawn(move || run(StreamOwned::new(session, client)))
        }

        /// Reads until so many bytes have come, or the end.
        fn read(&mut self, served: &mut Served, wanted: usize) -> Vec<u8> {
            let until = Instant::now() + Duration::from_secs(60);
            let mut heard = Vec::new();
            while heard.len() < wanted && Instant::now() < until {
                ring::submit();
                match served.read(&mut self.buffer) {
                    Received::Bytes { len, .. } => heard.extend_from_slice(&self.buffer[..len]),
                    Received::Nothing => std::thread::yield_now(),
                    Received::End => break,
                }
            }
            heard
        }
    }

    impl Drop for Port {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn what_the_socket_does_not_take_is_held_and_goes_later_in_order() {
        sends_all_to_a_slow_client("held");
    }

    #[test]
    fn so_it_is_where_records_go_with_those_of_others() {
        match ring::begin() {
            Ok(()) => sends_all_to_a_slow_client("held-ring"),
            Err(error) => eprintln!("this kernel has no rings: {error}"),
        }
    }

    fn sends_all_to_a_slow_client(name: &str) {
        let mut port = Port::open(name);
        let (client, mut served) = port.connect();
        let text: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let len = text.len();
        let client = port.client(client, move |mut client| {
            client.write_all(b"hello").unwrap();
            gone.recv().unwrap();
            let mut heard = vec![0; len];
            client.read_exact(&mut heard).unwrap();
            let mut end = Vec::new();
            client.read_to_end(&mut end).unwrap(); // the end was said
            (heard, end)
        });
        assert_eq!(port.read(&mut served, 5), b"hello");
        // In many pieces, some larger than a record.
        let mut sizes = [70_000, 1, 16_384, 16_385, 300, 0, 40_000]
            .into_iter()
            .cycle();
        let mut sent = 0;
        let mut go = Some(go);
        while sent < text.len() {
            let mut slices = Vec::new();
            let mut to = sent;
            for size in sizes.by_ref().take(5) {
                let from = to;
                to = (to + size).min(text.len());
                slices.push(IoSlice::new(&text[from..to]));
            }
            let before = sent;
            match served.write(&slices) {
                Written::All => sent = to,
                Written::Part(taken) => {
                    sent += taken;
                    assert!((1..=SEALED_BYTES).contains(&served.held_bytes()) || taken == 0);
                    if let Some(go) = go.take() {
                        let again = served.write(&slices);
                        assert_eq!(
                            again,
                            Written::Part(0),
                            "it takes nothing beside what it holds"
                        );
                        go.send(()).unwrap();
                    }
                    while served.flush() != Written::All {
                        std::thread::yield_now();
                    }
                }
                Written::Gone => panic!("the client is there"),
            }
            ring::submit();
            assert!(sent > before || served.held_bytes() == 0);
        }
        served.shutdown_write();
        assert_eq!(
            served.write(&[IoSlice::new(b"x")]),
            Written::Gone,
            "it has ended"
        );
        let (heard, end) = client.join().unwrap();
        assert!(heard == text && end.is_empty());
    }

    #[test]
    fn several_slices_become_one_record() {
        let slices = [&b"ab"[..], b"", b"c", b"defg"].map(IoSlice::new);
        let mut rest = Rest {
            slices: &slices,
            at: 0,
        };
        let mut room = Vec::new();
        assert_eq!(rest.next(&mut room), Some(&b"abcdefg"[..]));
        assert_eq!(rest.next(&mut room), None);
        let large = vec![7; RECORD_BYTES + 10];
        let slices = [
            IoSlice::new(b"ab"),
            IoSlice::new(&large),
            IoSlice::new(b"cd"),
        ];
        let mut rest = Rest {
            slices: &slices,
            at: 0,
        };
        let lens: Vec<usize> =
            std::iter::from_fn(|| rest.next(&mut room).map(<[u8]>::len)).collect();
        assert_eq!(lens, [RECORD_BYTES, 14]);
    }

    #[test]
    fn who_speaks_http_or_nothing_that_is_known_is_turned_away() {
        let mut port = Port::open("plain");
        let (mut client, mut served) = port.connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        assert!(port.read(&mut served, 1).is_empty());
        assert_eq!(
            served.take_fault().as_deref(),
            Some("it speaks HTTP without TLS")
        );
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ")
                && answer.ends_with("this port speaks TLS: use https:// or wss://")
        );

        let (mut client, mut served) = port.connect();
        client.write_all(b"\x00\x01garbage").unwrap();
        assert!(port.read(&mut served, 1).is_empty());
        assert_eq!(
            served.take_fault().as_deref(),
            Some("what it has sent is no TLS")
        );
        assert_eq!(served.take_fault(), None);

        // A record that says it is one, and is not.
        let (mut client, mut served) = port.connect();
        client.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).unwrap();
        assert!(port.read(&mut served, 1).is_empty());
        assert!(served.take_fault().is_some());
        let mut alert = [0; 7];
        client.read_exact(&mut alert).unwrap();
        assert_eq!(alert[0], 21, "{alert:?}");
    }

    #[test]
    fn a_line_before_the_session_is_given_as_it_came_however_it_is_cut() {
        let mut port = Port::open("line");
        let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 3112\r\n".to_vec();
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend_from_slice(&[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 12, 40]);
        for line in [text, binary] {
            for cut in 0..=line.len() {
                let (mut client, mut served) = port.connect();
                served.expect_line();
                client.write_all(&line[..cut]).unwrap();
                let mut heard = port.read(&mut served, cut);
                assert_eq!(served.kept_bytes(), cut % line.len());
                client.write_all(&line[cut..]).unwrap();
                let client = port.client(client, |mut client| {
                    client.write_all(b"hello").unwrap();
                    let mut heard = [0; 2];
                    client.read_exact(&mut heard).unwrap();
                    heard
                });
                heard.extend(port.read(&mut served, line.len() - cut + 5));
                assert_eq!(heard, [&line[..], b"hello"].concat(), "cut at {cut}");
                assert_eq!(served.write(&[IoSlice::new(b"ok")]), Written::All);
                assert_eq!(&client.join().unwrap(), b"ok");
            }
        }
    }

    #[test]
    fn where_no_line_is_expected_or_it_is_broken_nothing_follows_it() {
        let mut port = Port::open("no-line");
        for (line, is_expected, why) in [
            (
                &b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 3112\r\n"[..],
                false,
                "it speaks HTTP without TLS",
            ),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
                false,
                "what it has sent is no TLS",
            ),
            (b"PROXY nonsense\r\n", true, "it speaks HTTP without TLS"),
            (
                b"POST / HTTP/1.1\r\n\r\n",
                true,
                "it speaks HTTP without TLS",
            ),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c0123456789ab",
                true,
                "what it has sent is no TLS",
            ),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
                true,
                "what it has sent is no TLS",
            ),
        ] {
            let (mut client, mut served) = port.connect();
            if is_expected {
                served.expect_line();
            }
            client.write_all(line).unwrap();
            assert!(port.read(&mut served, usize::MAX).len() < line.len());
            assert_eq!(
                served.take_fault().as_deref(),
                Some(why),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn a_message_of_the_handshake_that_never_ends_is_cut_off() {
        let mut port = Port::open("long");
        let (mut client, mut served) = port.connect();
        // A hello of 60,000 bytes, in records of one byte.
        let mut sent = vec![22, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
        for _ in 0..10_000 {
            sent.extend_from_slice(&[22, 3, 1, 0, 1, 7]);
        }
        let writer = std::thread::spawn(move || client.write_all(&sent).map(|()| client));
        assert!(port.read(&mut served, 1).is_empty());
        let fault = served.take_fault();
        assert_eq!(
            fault.as_deref(),
            Some("a message of the handshake is too long")
        );
        drop(served);
        let _ = writer.join().unwrap();
    }

    #[test]
    fn new_files_are_shown_to_the_next_and_bad_ones_to_nobody() {
        let mut port = Port::open("reload");
        let (client, mut served) = port.connect();
        let hello = |mut client: Client| {
            client.write_all(b"hello").unwrap();
            let mut heard = [0; 2];
            client.read_exact(&mut heard).unwrap();
            (client.conn.peer_certificates().unwrap()[0].to_vec(), heard)
        };
        let first = port.client(client, hello);
        assert_eq!(port.read(&mut served, 5), b"hello");
        assert_eq!(port.offered.look(), Look::Same);

        // Half of a new pair, and then the rest.
        let (certificate, key) = pair();
        std::fs::write(port.folder.join("cert.pem"), &certificate).unwrap();
        assert_eq!(port.offered.look(), Look::Same, "it may be half written");
        let faulty = port.offered.look();
        assert!(
            matches!(&faulty, Look::Faulty(why) if why.to_string().contains("is not the key of")),
            "{faulty:?}"
        );
        assert_eq!(port.offered.look(), Look::Same, "that is said once");
        let (old, mut still) = port.connect();
        let old = port.client(old, hello);
        assert_eq!(port.read(&mut still, 5), b"hello");
        std::fs::write(port.folder.join("key.pem"), &key).unwrap();
        assert!(matches!(port.offered.look(), Look::Taken(_)));
        assert!(
            matches!(port.offered.reload(), Look::Taken(_)),
            "asked for, they are read again"
        );

        for served in [&mut served, &mut still] {
            assert_eq!(served.write(&[IoSlice::new(b"ok")]), Written::All);
        }
        let (first, old) = (first.join().unwrap(), old.join().unwrap());
        assert_eq!(first, old);
        port.certificate = certificate;
        let (new, mut served) = port.connect();
        let new = port.client(new, hello);
        assert_eq!(port.read(&mut served, 5), b"hello");
        assert_eq!(served.write(&[IoSlice::new(b"ok")]), Written::All);
        assert_ne!(new.join().unwrap().0, first.0);
    }
}
