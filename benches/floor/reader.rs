//! The other process: reads whatever comes and says after each turn how much that was.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

/// Its life, which ends when the writer closes. `spins`: it never sleeps, so that no write has to wake it.
pub(crate) fn read(address: &str, connections: &str, spins: bool) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let connections: usize = connections.parse().map_err(io::Error::other)?;
    let mut progress = TcpStream::connect(address)?;
    progress.set_nodelay(true)?;
    let mut poll = Poll::new()?;
    let mut sockets = Vec::with_capacity(connections);
    for index in 0..connections {
        let socket = TcpStream::connect(address)?; // blocks while the writer's backlog is full
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry()
            .register(&mut socket, Token(index), Interest::READABLE)?;
        sockets.push(socket);
    }
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    let longest = spins.then_some(Duration::ZERO);
    loop {
        poll.poll(&mut events, longest)?;
        if events.is_empty() {
            continue;
        }
        for event in &events {
            match read_all(&mut sockets[event.token().0], &mut buffer)? {
                Some(bytes) => total += bytes,
                None => return Ok(()),
            }
        }
        if progress.write_all(&total.to_le_bytes()).is_err() {
            return Ok(()); // the writer is done
        }
    }
}

/// `None`: the writer has closed.
fn read_all(socket: &mut mio::net::TcpStream, buffer: &mut [u8]) -> io::Result<Option<u64>> {
    let mut total = 0;
    loop {
        match socket.read(buffer) {
            Ok(0) => return Ok(None),
            Ok(bytes) => {
                total += bytes as u64;
                if bytes < buffer.len() {
                    return Ok(Some(total));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Some(total)),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}
