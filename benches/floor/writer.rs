//! The side that is measured: writes the frame to the sockets of one group after another, as far as so many
//! frames may be under way.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::uring::Ring;
use super::{Load, READER};

/// How frames get into the sockets.
pub(crate) enum Way {
    /// One system call each.
    Write,
    /// One system call for as many as may go, up to those of a turn.
    Uring(Box<Ring>),
}

/// What one round gave.
pub(crate) struct Round {
    pub(crate) deliveries_per_second: f64,
    pub(crate) cpu_us_per_delivery: f64,
    /// Of one system call that writes.
    pub(crate) deliveries_per_call: f64,
}

pub(crate) struct Writer {
    pub(crate) sockets: Vec<TcpStream>,
    /// Where the reader says how many bytes it has read in all.
    progress: TcpStream,
    reader: Child,
    written_bytes: u64,
    read_bytes: u64,
    next_group: usize,
    frame: &'static [u8],
}

impl Writer {
    pub(crate) fn connect(
        connections: usize,
        frame: &'static [u8],
        reader_spins: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let reader = Command::new(std::env::current_exe()?)
            .arg(READER)
            .arg(listener.local_addr()?.to_string())
            .arg(connections.to_string())
            .arg(reader_spins.to_string())
            .spawn()?;
        let (progress, _) = listener.accept()?;
        let mut sockets = Vec::with_capacity(connections);
        while sockets.len() < connections {
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            progress,
            reader,
            written_bytes: 0,
            read_bytes: 0,
            next_group: 0,
            frame,
        })
    }

    pub(crate) fn write_for(
        &mut self,
        load: &Load,
        time: Duration,
        way: &mut Way,
    ) -> io::Result<Round> {
        let bytes = load.bytes(self.frame.len());
        let bytes_in_flight = load.in_flight * bytes;
        let (begin, cpu_begin, calls_begin) = (Instant::now(), cpu_ns(), way.submissions());
        let mut deliveries = 0;
        while begin.elapsed() < time {
            while self.written_bytes + bytes > self.read_bytes + bytes_in_flight {
                way.submit()?;
                self.read_bytes = newest_total(&mut self.progress)?;
            }
            let first = self.next_group * load.subscribers;
            for socket in first..first + load.subscribers {
                way.send(socket, &mut self.sockets[socket], self.frame)?;
            }
            self.written_bytes += bytes;
            self.next_group = (self.next_group + 1) % load.groups;
            deliveries += load.subscribers as u64;
        }
        way.submit()?;
        let cpu_ns = cpu_ns() - cpu_begin;
        let calls = match way {
            Way::Write => deliveries,
            Way::Uring(_) => way.submissions() - calls_begin,
        };
        Ok(Round {
            deliveries_per_second: deliveries as f64 / begin.elapsed().as_secs_f64(),
            cpu_us_per_delivery: cpu_ns as f64 / 1e3 / deliveries as f64,
            deliveries_per_call: deliveries as f64 / calls as f64,
        })
    }
}

impl Way {
    fn send(
        &mut self,
        place: usize,
        socket: &mut TcpStream,
        frame: &'static [u8],
    ) -> io::Result<()> {
        match self {
            Way::Write => socket.write_all(frame), // blocks never: what is under way fits every socket
            Way::Uring(ring) => ring.push(place, socket.as_raw_fd()),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        match self {
            Way::Write => Ok(()),
            Way::Uring(ring) => ring.submit(),
        }
    }

    fn submissions(&self) -> u64 {
        match self {
            Way::Write => 0,
            Way::Uring(ring) => ring.submissions,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

/// The newest of what the reader has said, in one system call however often it has said something.
fn newest_total(progress: &mut TcpStream) -> io::Result<u64> {
    let mut totals = [0; 8 * 512];
    let mut len = 0;
    while len == 0 || len % 8 != 0 {
        match progress.read(&mut totals[len..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => len += read,
        }
    }
    let mut newest = [0; 8];
    newest.copy_from_slice(&totals[len - 8..len]);
    Ok(u64::from_le_bytes(newest))
}

/// Nanoseconds that this process has been on a core: with threads that the kernel may have made for a ring.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
