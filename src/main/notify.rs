//! What a supervisor of the kind of systemd is told: that the server serves, that it still loads, that it
//! ends, that it is alive. The variable `NOTIFY_SOCKET` says where; without it nobody is told.
//!
//! May not know what a server does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use iii_stream::mesh::Shared;
use iii_stream::notes::counted;
use rustix::time::{ClockId, clock_gettime};

/// A supervisor that takes nothing for so long is not told.
const PATIENCE: Duration = Duration::from_secs(1);
/// While values are read, the supervisor is asked for so much more time,
const EXTEND_BY: Duration = Duration::from_secs(60);
/// so often, and as long as there is progress.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// So many times within its patience the threads are looked at.
const LOOKS: u32 = 4;

/// The way to the supervisor, if there is one.
#[derive(Clone)]
pub(crate) struct Notify(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Notify {
    pub(crate) fn of_environment() -> Notify {
        let address = std::env::var("NOTIFY_SOCKET").ok();
        let address = address.and_then(|name| address_of(&name));
        let socket = UnixDatagram::unbound().ok();
        let is_bounded = |socket: &UnixDatagram| socket.set_write_timeout(Some(PATIENCE)).is_ok();
        let ends = socket.filter(is_bounded).zip(address);
        Notify(ends.map(Arc::new))
    }

    /// The ports are open, and the values are there.
    pub(crate) fn is_ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The settings are read again; [`Notify::is_ready`] says when that is over.
    pub(crate) fn reloads(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// No socket has been closed yet.
    pub(crate) fn stops(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    fn tell(&self, lines: &str) {
        if let Some((socket, address)) = self.0.as_deref() {
            // Who has gone is not told.
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }

    /// Asks for more time while values are read, until `is_over`. `read` counts what has been read; a
    /// start that gets no further is not kept alive.
    pub(crate) fn extend(&self, read: &Arc<AtomicU64>, is_over: &Arc<AtomicBool>) {
        if self.0.is_none() {
            return;
        }
        let (notify, read, is_over) = (self.clone(), Arc::clone(read), Arc::clone(is_over));
        std::thread::spawn(move || {
            let mut before = None;
            while !is_over.load(Ordering::Acquire) {
                let now = read.load(Ordering::Relaxed);
                if before != Some(now) {
                    let by = EXTEND_BY.as_micros();
                    let so_far = counted(now as usize, "record");
                    notify.tell(&format!(
                        "EXTEND_TIMEOUT_USEC={by}\nSTATUS=reads values: {so_far} so far"
                    ));
                }
                before = Some(now);
                std::thread::park_timeout(EXTEND_EVERY);
            }
        });
    }

    /// Says that the process is alive for as long as every thread makes its turns, where the supervisor
    /// wants to hear that. Threads that sleep are woken for it.
    pub(crate) fn watch(&self, shared: &Arc<Shared>) {
        let Some(patience) = watchdog().filter(|_| self.0.is_some()) else {
            return;
        };
        let (notify, shared) = (self.clone(), Arc::clone(shared));
        std::thread::spawn(move || {
            let mut before = shared.turns();
            loop {
                shared.wake_all();
                std::thread::sleep(patience / LOOKS);
                let now = shared.turns();
                if before.iter().zip(&now).all(|(before, now)| now > before) {
                    notify.tell("WATCHDOG=1");
                    before = now;
                }
            }
        });
    }
}

/// A path, or a name without a file.
fn address_of(name: &str) -> Option<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(name).ok(),
    }
}

/// How long the supervisor waits for a sign of life; `None`: it does not.
fn watchdog() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    let is_meant = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let micros = variable("WATCHDOG_USEC")?.parse().ok()?;
    (is_meant && micros > 0).then(|| Duration::from_micros(micros))
}
