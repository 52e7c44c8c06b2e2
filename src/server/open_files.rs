//! How many sockets the limit of open files leaves room for, and who may have them.
//!
//! Store, Redis and the link to an engine open files at any time, so a part of the limit is no
//! socket's that somebody else opens, in whatever phase it is. Opens nothing.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::PEERS_MAX;
use crate::config::{Config, Io, Limits};
use crate::mesh::SocketRoom;

use super::acme;

/// No accepted socket gets the last of these: standard streams, segments and snapshots of the file
/// store, both connections of Redis, the link to an engine, the resolver's sockets, and some to spare.
const KEPT: usize = 48;
/// For each thread: its poll, what wakes it, its listener.
const KEPT_A_THREAD: usize = 3;
/// Of the rest one part in so many is for SDK workers and for sockets that are not let in yet.
const SHARE: usize = 16;
const SHARE_MIN: usize = 8;
const SHARE_MAX: usize = 256;
/// The kernel's table of our files has room for so many from the start: 8 bytes each.
const TABLE_MAX: u64 = 128 * 1024;

/// What the limit leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// The limit itself.
    limit: usize,
    /// Sockets of subscribers that are let in.
    pub(super) subscribers: usize,
    /// Sockets on the worker port that are let in.
    pub(super) sdk_workers: usize,
    /// All sockets.
    pub(super) room: SocketRoom,
}

impl OpenFiles {
    /// By the limit that the process may raise its own to.
    pub(super) fn of(config: &Config, workers: usize) -> OpenFiles {
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // The poll of that thread, what wakes it, its listener, and one socket too many.
        let acme = config.acme.as_ref().map_or(0, |_| acme::SOCKETS_MAX + 4);
        let admin = config
            .admin
            .as_ref()
            .map_or(0, |_| KEPT_A_THREAD + PEERS_MAX);
        let rings = if config.io == Io::Epoll { 0 } else { workers };
        let others = config.worker_listeners.len() + acme + admin + rings;
        OpenFiles::within(limit, workers, others)
    }

    fn within(limit: usize, workers: usize, others: usize) -> OpenFiles {
        let kept = KEPT + KEPT_A_THREAD * (workers + 2) + others;
        // A limit so small serves somebody all the same.
        let all = limit - kept.min(limit / 2);
        let share = (all / SHARE).clamp(SHARE_MIN, SHARE_MAX).min(all / 2);
        OpenFiles {
            limit,
            subscribers: (all - share).max(1),
            sdk_workers: (all / 2).max(1),
            room: SocketRoom {
                all,
                stream: all - share / 2,
            },
        }
    }

    /// Limits within what there is room for.
    pub(super) fn fit(&self, limits: &Limits) -> Limits {
        Limits {
            connections: limits.connections.min(self.subscribers),
            worker_connections: limits.worker_connections.min(self.sdk_workers),
            ..limits.clone()
        }
    }

    /// Lowers the limits that are beyond it. Gives the line about that.
    pub(super) fn lower(&self, config: &mut Config) -> Option<String> {
        let limits = &mut config.limits;
        let settings = [
            (
                "connections",
                "subscribers",
                &mut limits.connections,
                self.subscribers,
            ),
            (
                "worker_connections",
                "sockets on the worker port",
                &mut limits.worker_connections,
                self.sdk_workers,
            ),
        ];
        let mut lowered = Vec::new();
        for (key, of, limit, most) in settings {
            if *limit > most {
                lowered.push(format!("{most} {of} at most, limits.{key} is {limit}"));
                *limit = most;
            }
        }
        (!lowered.is_empty()).then(|| {
            format!(
                "open files {}: {}; LimitNOFILE= (systemd), --ulimit nofile= (docker) or ulimit -n \
                 raises it",
                self.limit,
                lowered.join("; ")
            )
        })
    }
}

/// Raises the limit of open files as far as the system allows, and has the kernel make room for them.
pub(super) fn raise() {
    raise_limit();
    make_room();
}

fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays as it is: {error}");
        }
    }
}

/// The kernel doubles its table of a process's files where that is full. In a process with threads the one that
/// opened the file too many waits for it some 10 ms, so the table is made long before that.
fn make_room() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = limit.min(TABLE_MAX).saturating_sub(1);
    // The file is closed at once. Without it the table grows as it would.
    let _ = rustix::io::fcntl_dupfd_cloexec(io::stderr(), last as i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_any_limit_is_for_subscribers_and_never_all() {
        for (limit, subscribers) in [
            (64, 24),
            (256, 183),
            (1024, 903),
            (20_000, 19_683),
            (1_048_576, 1_048_259),
        ] {
            let files = OpenFiles::within(limit, 2, 1);
            assert_eq!(files.subscribers, subscribers, "{files:?}");
            assert!(files.subscribers < files.room.stream && files.room.stream < files.room.all);
            assert!(files.room.all + 32 <= limit);
        }
        for limit in 0..300 {
            OpenFiles::within(limit, 256, 8);
        }
        let unlimited = OpenFiles::within(usize::MAX, 2, 1);
        assert!(unlimited.subscribers > 1 << 40);
    }

    #[test]
    fn what_is_lowered_is_said_once() {
        let mut config = Config::default();
        config.limits.worker_connections = 100;
        let files = OpenFiles::within(1024, 2, 1);
        let line = files.lower(&mut config).unwrap();
        assert!(
            line.starts_with("open files 1024: 903 subscribers at most, limits.connections is 1000000; LimitNOFILE="),
            "{line}"
        );
        assert_eq!(config.limits.connections, 903);
        assert_eq!(files.lower(&mut config), None);
    }
}
