//! One WebSocket to a server, or one HTTP request: blocking, each wait with an end.
//!
//! May not know what is said over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use iii_stream::config::EngineAddress;
use iii_stream::net::dial::not_with_itself;
use iii_stream::net::tls::{showing, trust, trust_only, why_of_io};
use iii_stream::notes::Shown;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tungstenite::client::client_with_config;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{Request, generate_key};
use tungstenite::http::Response;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::place::Place;

/// What we are, for its log.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A longer message from a server ends the connection: the longest list that one may be asked for.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// So much is read of the answer to a plain HTTP request.
const HTTP_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The address is one, and nobody listens there.
    #[error("{0}")]
    Nobody(String),
    /// Somebody does, and does not let us in.
    #[error("{place} answers {status}{body}")]
    Refused {
        /// The address.
        place: String,
        /// The code and its words.
        status: Box<str>,
        /// The code.
        code: u16,
        /// `: what it says`, or nothing.
        body: Box<str>,
    },
    /// Nothing came in time.
    #[error("no answer from {place} within {within:?}")]
    Silent {
        /// The address.
        place: String,
        /// How long was waited.
        within: Duration,
    },
    /// It has closed the connection, and says why.
    #[error("{place} has closed the connection{why}")]
    Closed {
        /// The address.
        place: String,
        /// `: 1012 reason`, or nothing.
        why: Box<str>,
    },
    /// Anything else.
    #[error("{place}: {what}")]
    Broken {
        /// The address.
        place: String,
        /// What went wrong.
        what: Box<str>,
    },
}

/// A TCP socket whose reads and writes have an end.
pub(super) struct Timed {
    tcp: TcpStream,
    until: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(ErrorKind::TimedOut.into()),
            // Below a millisecond the kernel could round to never.
            false => Ok(left.max(Duration::from_millis(1))),
        }
    }
}

/// A time limit of the socket shows as one that would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.tcp.set_read_timeout(Some(self.left()?))?;
            match self.tcp.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read.map_err(timed_out),
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.tcp.set_write_timeout(Some(self.left()?))?;
            match self.tcp.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written.map_err(timed_out),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a connection under TLS goes by.
#[derive(Clone, Copy)]
pub(super) struct Secured<'a> {
    /// Who has to be there.
    pub(super) name: &'a ServerName<'static>,
    /// The one certificate that it may show, if that is known.
    pub(super) certificate: Option<&'a Path>,
    /// Our own certificate and its key, for a server that asks for one.
    pub(super) own: Option<(&'a Path, &'a Path)>,
}

/// Plain, or under TLS.
pub(super) enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Stream {
    /// Connects to a host.
    pub(super) fn connect(
        (host, port): (&str, u16),
        tls: Option<Secured<'_>>,
        until: Instant,
    ) -> io::Result<Stream> {
        let bare = host.trim_matches(['[', ']']);
        let addresses: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
        let mut connected = Err(io::Error::other("the name has no address"));
        for address in addresses {
            let left = until.saturating_duration_since(Instant::now());
            connected = TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1)))
                .and_then(|tcp| not_with_itself(tcp.local_addr()?, address).map(|()| tcp));
            if connected.is_ok() {
                break;
            }
        }
        let tcp = connected.map_err(timed_out)?;
        tcp.set_nodelay(true)?;
        let timed = Timed { tcp, until };
        let Some(Secured {
            name,
            certificate,
            own,
        }) = tls
        else {
            return Ok(Stream::Plain(timed));
        };
        let config = certificate.map_or_else(trust, trust_only);
        let config = config.and_then(|config| match own {
            Some((cert, key)) => showing(&config, cert, key),
            None => Ok(config),
        });
        let config = config.map_err(|why| io::Error::other(format!("certificates: {why}")))?;
        let session = ClientConnection::new(config, name.clone()).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(session, timed))))
    }

    /// From now on what takes longer fails.
    pub(super) fn wait_until(&mut self, until: Instant) {
        match self {
            Stream::Plain(timed) => timed.until = until,
            Stream::Tls(tls) => tls.sock.until = until,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(timed) => timed.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(timed) => timed.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(timed) => timed.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// An open WebSocket.
pub(super) struct Client {
    socket: WebSocket<Stream>,
    place: String,
    within: Duration,
}

impl Client {
    /// Connects and upgrades.
    pub(super) fn connect(place: &Place, within: Duration) -> Result<Client, ClientError> {
        let until = Instant::now() + within;
        let stream = connect(place, until, within)?;
        let request = upgrade_of(place).map_err(|what| broken(place.shown(), &what))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(usize::MAX);
        match client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Client {
                socket,
                place: place.shown().to_owned(),
                within,
            }),
            Err(HandshakeError::Interrupted(_)) => Err(silent(place.shown(), within)),
            Err(HandshakeError::Failure(error)) => Err(of_error(place.shown(), within, error)),
        }
    }

    /// Sends a message, within the time that a connection may take.
    pub(super) fn send(&mut self, text: String) -> Result<(), ClientError> {
        let until = Instant::now() + self.within;
        self.socket.get_mut().wait_until(until);
        let sent = self.socket.send(Message::text(text));
        sent.map_err(|error| of_error(&self.place, self.within, error))
    }

    /// The next message, or whatever else shows that somebody is there. None: nothing until then.
    pub(super) fn next(&mut self, until: Instant) -> Result<Option<Message>, ClientError> {
        self.socket.get_mut().wait_until(until);
        match self.socket.read() {
            Ok(Message::Close(frame)) => {
                // Its answer goes out with the next flush; whoever is gone needs none.
                let _ = self.socket.flush();
                Err(self.closed(frame))
            }
            Ok(message) => Ok(Some(message)),
            Err(Error::Io(error)) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Err(self.closed(None)),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                Err(self.closed(None))
            }
            Err(error) => Err(of_error(&self.place, self.within, error)),
        }
    }

    /// Its address, without secrets.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Nothing has come for so long.
    pub(super) fn silent(&self, within: Duration) -> ClientError {
        silent(&self.place, within)
    }

    /// Asks whether somebody is there.
    pub(super) fn ping(&mut self) -> Result<(), ClientError> {
        let until = Instant::now() + self.within;
        self.socket.get_mut().wait_until(until);
        let sent = self.socket.send(Message::Ping(Default::default()));
        sent.map_err(|error| of_error(&self.place, self.within, error))
    }

    fn closed(&self, frame: Option<CloseFrame>) -> ClientError {
        let why = frame.map(|frame| {
            let code = u16::from(frame.code);
            match frame.reason.is_empty() {
                true => format!(": {code}"),
                false => format!(": {code} {}", Shown(&frame.reason)),
            }
        });
        ClientError::Closed {
            place: self.place.clone(),
            why: why.unwrap_or_default().into(),
        }
    }
}

/// Status code, its words, and the first line of what follows, of a plain GET.
pub(super) fn get(
    place: &Place,
    path: &str,
    within: Duration,
) -> Result<(u16, String, String), ClientError> {
    let (code, words, body) = get_whole(place, path, within, HTTP_BYTES_MAX)?;
    Ok((code, words, first_line(&body)))
}

/// The same with all that follows, as far as so many bytes reach. Nothing of it is escaped.
pub(super) fn get_whole(
    place: &Place,
    path: &str,
    within: Duration,
    bytes_max: u64,
) -> Result<(u16, String, String), ClientError> {
    let until = Instant::now() + within;
    let mut stream = connect(place, until, within)?;
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: iii-stream/{VERSION}\r\nconnection: close\r\n",
        place.address.authority
    );
    for (name, value) in headers_of(place) {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let mut answer = Vec::new();
    let asked = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.flush())
        .and_then(|()| stream.take(bytes_max).read_to_end(&mut answer));
    let is_whole = answer.windows(4).any(|four| four == b"\r\n\r\n");
    match asked {
        // Whoever closes without a farewell of TLS has said all the same.
        Err(error) if !is_whole => {
            return Err(of_error(place.shown(), within, Error::Io(error)));
        }
        _ => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let line = head.lines().next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..))
        .and_then(|rest| Some((rest.get(..3)?.parse().ok()?, rest.get(3..)?.trim())));
    match status {
        Some((code, words)) => Ok((code, words.to_owned(), body.to_owned())),
        None => Err(broken(place.shown(), NO_HTTP)),
    }
}

const NO_HTTP: &str = "what answers there speaks no HTTP";

fn connect(place: &Place, until: Instant, within: Duration) -> Result<Stream, ClientError> {
    let address = &place.address;
    let to = (&*address.host, address.port);
    let tls = address.server_name.as_ref().map(|name| Secured {
        name,
        certificate: place.certificate.as_deref(),
        own: place.own.as_ref().map(|(cert, key)| (&**cert, &**key)),
    });
    Stream::connect(to, tls, until).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => ClientError::Nobody(place.nobody()),
        ErrorKind::TimedOut => silent(place.shown(), within),
        _ => broken(place.shown(), &error.to_string()),
    })
}

fn upgrade_of(place: &Place) -> Result<Request, String> {
    let EngineAddress {
        authority, target, ..
    } = &place.address;
    let scheme = match place.address.server_name {
        Some(_) => "wss",
        None => "ws",
    };
    let mut request = Request::builder()
        .uri(format!("{scheme}://{authority}{target}"))
        .header("Host", authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("User-Agent", format!("iii-stream/{VERSION}"));
    for (name, value) in headers_of(place) {
        request = request.header(name, value);
    }
    request.body(()).map_err(|error| error.to_string())
}

/// Those of the command line, and the login that the address holds.
fn headers_of(place: &Place) -> Vec<(String, String)> {
    let login = place.address.credentials.as_ref();
    let login = login.map(|login| format!("Basic {}", BASE64.encode(login.as_bytes())));
    let login = login.map(|login| ("authorization".to_owned(), login));
    place.headers.iter().cloned().chain(login).collect()
}

fn of_error(place: &str, within: Duration, error: Error) -> ClientError {
    match error {
        Error::Http(response) => refused(place, &response),
        Error::Io(error) if error.kind() == ErrorKind::TimedOut => silent(place, within),
        // A peer that ends TLS without a word, or at once.
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => ClientError::Closed {
            place: place.to_owned(),
            why: "".into(),
        },
        Error::Protocol(ProtocolError::HandshakeIncomplete) => ClientError::Closed {
            place: place.to_owned(),
            why: " before it has answered".into(),
        },
        Error::Protocol(ProtocolError::HttparseError(_)) => broken(place, NO_HTTP),
        Error::Io(error) => broken(place, &why_of_io(&error)),
        Error::Capacity(error) => broken(place, &error.to_string()),
        error => broken(place, &error.to_string()),
    }
}

fn refused(place: &str, response: &Response<Option<Vec<u8>>>) -> ClientError {
    let body = response.body().as_deref().unwrap_or_default();
    let line = first_line(&String::from_utf8_lossy(body));
    ClientError::Refused {
        place: place.to_owned(),
        status: response.status().to_string().into(),
        code: response.status().as_u16(),
        body: match line.is_empty() {
            true => "".into(),
            false => format!(": {line}").into(),
        },
    }
}

/// As one line that harms no terminal.
fn first_line(body: &str) -> String {
    let line = body.trim_start().lines().next().unwrap_or_default();
    Shown(line).to_string()
}

fn silent(place: &str, within: Duration) -> ClientError {
    ClientError::Silent {
        place: place.to_owned(),
        within,
    }
}

fn broken(place: &str, what: &str) -> ClientError {
    ClientError::Broken {
        place: place.to_owned(),
        what: Shown(what).to_string().into(),
    }
}
