//! A bare socket: bytes as they go over the wire.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;

use super::DEADLINE;
pub(crate) use super::frame::{frame, header, text};

/// The key of RFC 6455, whose answer is known.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A socket whose reads and writes go on where a stop or a signal has interrupted them: those with a
/// deadline are not taken up again by themselves (signal(7)).
pub(crate) struct Patient(pub(crate) TcpStream);

impl Deref for Patient {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.read(buffer))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn uninterrupted(mut moved: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match moved() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A connection to whoever listens at `address`. Where nobody does, the kernel may take the port itself for this
/// side's own and connect the socket with itself (RFC 9293 §3.5, simultaneous open): that is nobody, too.
pub(crate) fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// A socket with a deadline on every read and write.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = reach(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A socket from another address of loopback.
#[allow(dead_code, reason = "for tests of what one address may have")]
pub(crate) fn connect_from(from: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A socket whose kernel buffers are small: it is soon full when nobody reads.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// An upgrade request that is in order, with further header lines, each ending in CR LF.
pub(crate) fn upgrade_request(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n{more}\r\n"
    )
}

/// Upgrades the socket: what is read from it next are frames.
pub(crate) fn upgrade(mut stream: TcpStream, target: &str) -> TcpStream {
    stream
        .write_all(upgrade_request(target, "").as_bytes())
        .unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Reads up to the empty line that ends an answer's head, and not a byte further.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let len = uninterrupted(|| stream.read(&mut byte)).expect("an answer in time");
        assert!(
            len == 1,
            "the end, after {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Everything up to the end that the server makes of the connection.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // It closed while something of ours was unread: as good an end as any.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server did not end the connection: {error}"),
    }
    bytes
}

/// An HTTP answer and the end of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Header lines in their order, without `date`.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// Sends these bytes as a request and reads the answer to its end.
pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = connect(address);
    // The answer may come, and the connection end, before all of a large request is taken.
    let _ = stream.write_all(request.as_ref());
    let bytes = String::from_utf8(read_to_end(&mut stream)).unwrap();
    let (head, body) = bytes.split_once("\r\n\r\n").expect("a whole head");
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let (dates, headers): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("date: "));
    assert_eq!(dates.len(), 1, "{head}");
    Answer {
        status: status.parse().unwrap(),
        headers: headers.into_iter().map(str::to_owned).collect(),
        body: body.to_owned(),
    }
}

/// A frame without its mask, which no client may send.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len());
    frame.extend(payload);
    frame
}

/// The next frame of the server: its first byte, and its payload.
pub(crate) fn read_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut short = [0; 2];
    stream.read_exact(&mut short).expect("a frame in time");
    assert!(short[1] & 0x80 == 0, "frames of a server are not masked");
    let len = match short[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            usize::from(u16::from_be_bytes(len))
        }
        127 => {
            let mut len = [0; 8];
            stream.read_exact(&mut len).unwrap();
            u64::from_be_bytes(len) as usize
        }
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).expect("a whole frame");
    (short[0], payload)
}

/// Reads on to the close frame and gives its body: nothing, or a code and a reason.
pub(crate) fn read_close(stream: &mut impl Read) -> Option<(u16, String)> {
    loop {
        let (first, payload) = read_frame(stream);
        if first == 0x88 {
            let (code, reason) = payload.split_first_chunk::<2>()?;
            let reason = String::from_utf8(reason.to_vec()).unwrap();
            return Some((u16::from_be_bytes(*code), reason));
        }
    }
}
