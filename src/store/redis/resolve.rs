//! A name's addresses, found on a thread that lives no longer than the question.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};

use crate::config::RedisStore;

/// How often it is looked whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// The answer on its way.
pub(super) struct Resolving {
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
    until: Instant,
}

impl Resolving {
    pub(super) fn begin(settings: &RedisStore, now: Instant) -> Resolving {
        let (sender, answer) = crossbeam_channel::bounded(1);
        let until = now + settings.connect_timeout;
        let (host, port) = (settings.address.host.clone(), settings.address.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            // It has room for one.
            let _ = sender.send(Ok(vec![SocketAddr::new(ip, port)]));
            return Resolving { answer, until };
        }
        let spawned = std::thread::Builder::new()
            .name("resolve".to_owned())
            .spawn({
                let sender = sender.clone();
                move || {
                    let found = (host, port).to_socket_addrs().map(Iterator::collect);
                    // Nobody asks any more when the process ends.
                    let _ = sender.send(found);
                }
            });
        if let Err(error) = spawned {
            let _ = sender.send(Err(error));
        }
        Resolving { answer, until }
    }

    pub(super) fn look_at(&self, now: Instant) -> Instant {
        self.until.min(now + LOOK)
    }

    /// None: not yet.
    pub(super) fn look(&self, now: Instant) -> Option<Result<Vec<SocketAddr>, String>> {
        match self.answer.try_recv() {
            Ok(Ok(addresses)) => Some(Ok(addresses)),
            Ok(Err(error)) => Some(Err(error.to_string())),
            Err(TryRecvError::Empty) if self.until > now => None,
            Err(_) => Some(Err("its name could not be resolved".to_owned())),
        }
    }
}
