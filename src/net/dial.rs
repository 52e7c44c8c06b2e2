//! Reaching somebody by name: resolving, connecting, and how soon it is tried again.
//!
//! A name is resolved on a thread that lives no longer than the question: it is the one system call
//! here that can take its time. May not know who is reached, or what is said to him.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::{MaybeTls, trust};
use crate::chance::Chance;

/// With TLS: whom we trust, and who the other side has to be.
pub type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// What the operating system trusts, for one who has to show a certificate of that name. Err: it trusts
/// nobody.
pub fn tls_for(name: Option<&ServerName<'static>>) -> Result<Option<Tls>, String> {
    match name {
        Some(name) => Ok(Some((trust()?, name.clone()))),
        None => Ok(None),
    }
}

/// Begins to connect. The outcome is told by the poll.
pub fn connect(address: SocketAddr, tls: Option<&Tls>) -> io::Result<MaybeTls> {
    let stream = TcpStream::connect(address)?;
    not_with_itself(stream.local_addr()?, address)?;
    match tls {
        Some((config, name)) => {
            MaybeTls::tls(stream, Arc::clone(config), name.clone()).map_err(io::Error::other)
        }
        None => Ok(MaybeTls::plain(stream)),
    }
}

/// Err: the socket was connected with itself, so nobody listens there. Where a port of this host is free, the kernel may
/// take it for our own end (RFC 9293 §3.5, simultaneous open); kept open, it would keep from the port whoever is to listen.
pub fn not_with_itself(ours: SocketAddr, theirs: SocketAddr) -> io::Result<()> {
    match ours == theirs {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(()),
    }
}

/// The addresses of a name, on their way.
pub struct Resolving {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
}

impl Resolving {
    /// Asks for them. `is_told` runs on another thread when they are there, or right away where no
    /// question is needed.
    pub fn begin(host: &str, port: u16, is_told: impl FnOnce() + Send + 'static) -> Resolving {
        let (sender, answer) = crossbeam_channel::bounded(1);
        // Nobody listens when the process ends. The channel has room for the one answer.
        let tell = move |found| {
            let _ = sender.try_send(found);
            is_told();
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            tell(Ok(vec![SocketAddr::new(ip, port)]));
            return Resolving { answer };
        }
        let host = host.to_owned();
        let question = move || tell((&*host, port).to_socket_addrs().map(Iterator::collect));
        let thread = std::thread::Builder::new().name("resolve".to_owned());
        if let Err(error) = thread.spawn(question) {
            let (sender, answer) = crossbeam_channel::bounded(1);
            let _ = sender.try_send(Err(error));
            return Resolving { answer };
        }
        Resolving { answer }
    }

    /// What has come of it. None: nothing yet.
    pub fn look(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        match self.answer.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(unresolved())),
        }
    }
}

/// Nobody can say why.
pub fn unresolved() -> io::Error {
    io::Error::other("its name could not be resolved")
}

/// How long to wait before the next attempt: twice as long after each that failed, and never quite the
/// same as others wait.
pub struct Retry {
    first: Duration,
    most: Duration,
    failures: u32,
    chance: Chance,
}

impl Retry {
    /// From about `first` up to `most`.
    pub fn new(first: Duration, most: Duration) -> Retry {
        Retry {
            first,
            most,
            failures: 0,
            chance: Chance::default(),
        }
    }

    /// An attempt has failed.
    pub fn wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(self.most);
        self.chance.between(whole / 2, whole)
    }

    /// One has not: the next failure is the first again.
    pub fn begin_afresh(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_afresh() {
        let ms = Duration::from_millis;
        let mut retry = Retry::new(ms(100), ms(5000));
        for whole in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = retry.wait();
            assert!((ms(whole / 2)..=ms(whole)).contains(&wait), "{wait:?}");
        }
        retry.begin_afresh();
        assert!(retry.wait() <= ms(100));
    }

    #[test]
    fn a_socket_that_is_connected_with_itself_has_reached_nobody() {
        let tcp = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, tcp, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let itself = socket.local_addr().unwrap();
        socket.connect(&itself).unwrap();
        let stream = std::net::TcpStream::from(socket);
        let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let refused = not_with_itself(ours, theirs).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(not_with_itself(ours, ([127, 0, 0, 1], 1).into()).is_ok());
    }

    #[test]
    fn an_address_needs_no_question() {
        let resolving = Resolving::begin("::1", 7, || {});
        let found = resolving.look().unwrap().unwrap();
        assert_eq!(found, ["[::1]:7".parse().unwrap()]);
    }

    #[test]
    fn whoever_asks_for_a_name_is_told_when_its_addresses_are_there() {
        let (tell, told) = channel();
        let resolving = Resolving::begin("localhost", 7, move || tell.send(()).unwrap());
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        let found = resolving.look().unwrap().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }
}
