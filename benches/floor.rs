//! What is the least that a delivery can cost here: a bare loop that writes a ready-made frame to N
//! sockets, and nothing else?
//!
//! The writer runs on the first core and the reader, a process of its own, on the last: two
//! processes, so that 10,000 connections fit under a limit of 20,000 open files each. A bounded
//! number of frames is under way, as with sets in flight; the reader says how many bytes it has.
//! CPU is the scheduler's run time of the writing thread, which on loopback holds the receiver's
//! TCP input as well. It knows nothing of this server, and the server's code is not in it.
//!
//! ```text
//! floor [--frame-bytes N] [--rounds N] [1x1000 …]
//! ```
//! To measure a server in turn with it: `--rounds 1` and one load, then that load with `loadtest`.

#![allow(clippy::print_stdout, reason = "its output")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

/// What one event of `loadtest fanout` has on the wire where nothing else is said.
const FRAME_BYTES: usize = 287;
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_millis(700);
/// As the first argument: this process is the reader.
const READER: &str = "read-for-the-floor";

/// One shape of load: every frame goes to the sockets of one group, and the groups take turns.
struct Load {
    groups: usize,
    subscribers: usize,
    in_flight: u64,
}

const LOADS: [Load; 5] = [
    Load::of(1, 1_000, 1),
    Load::of(1, 1_000, 4),
    Load::of(1, 5_000, 1),
    Load::of(100, 10, 128),
    Load::of(1_000, 10, 16),
];

impl Load {
    const fn of(groups: usize, subscribers: usize, in_flight: u64) -> Self {
        Self {
            groups,
            subscribers,
            in_flight,
        }
    }

    fn name(&self) -> String {
        format!("{}x{}", self.groups, self.subscribers)
    }

    /// Of one frame to one group.
    fn bytes(&self, frame_bytes: usize) -> u64 {
        (self.subscribers * frame_bytes) as u64
    }
}

/// What is asked for.
struct Asked {
    frame_bytes: usize,
    rounds: usize,
    /// All, if there is none.
    loads: Vec<String>,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut asked = Self {
            frame_bytes: FRAME_BYTES,
            rounds: ROUNDS,
            loads: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().unwrap_or_default();
                value.parse().map_err(io::Error::other)
            };
            match &*argument {
                "--bench" => {}
                "--frame-bytes" => asked.frame_bytes = number()?,
                "--rounds" => asked.rounds = number()?.max(1),
                load => asked.loads.push(load.to_owned()),
            }
        }
        Ok(asked)
    }

    fn wants(&self, load: &Load) -> bool {
        self.loads.is_empty() || self.loads.contains(&load.name())
    }
}

/// What one round gave.
struct Round {
    deliveries_per_second: f64,
    cpu_us_per_delivery: f64,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    raise_open_files();
    if arguments.get(1).is_some_and(|first| first == READER) {
        return read(&arguments[2], &arguments[3]);
    }
    pin(core_affinity::get_core_ids().and_then(|cores| cores.first().copied()));
    let asked = Asked::parse(arguments.into_iter().skip(1))?;
    println!(
        "bare write loop, frames of {} bytes, one write a delivery, {} rounds of {ROUND_TIME:?}",
        asked.frame_bytes, asked.rounds
    );
    println!(
        "{:<14}{:>12}{:>28}{:>32}",
        "groups x N", "in flight", "deliveries/s (range)", "writer CPU us/delivery (range)"
    );
    for load in LOADS.iter().filter(|load| asked.wants(load)) {
        let mut writer = Writer::connect(load.groups * load.subscribers, asked.frame_bytes)?;
        writer.write_for(load, ROUND_TIME / 2)?; // warm-up
        let rounds = (0..asked.rounds)
            .map(|_| writer.write_for(load, ROUND_TIME))
            .collect::<io::Result<Vec<Round>>>()?;
        tell(load, &rounds);
    }
    Ok(())
}

fn tell(load: &Load, rounds: &[Round]) {
    let rate = spread(rounds.iter().map(|round| round.deliveries_per_second));
    let cpu = spread(rounds.iter().map(|round| round.cpu_us_per_delivery));
    println!(
        "{:<14}{:>12}{:>28}{:>32}",
        load.name(),
        load.in_flight,
        format!("{:.0} ({:.0}-{:.0})", rate[1], rate[0], rate[2]),
        format!("{:.2} ({:.2}-{:.2})", cpu[1], cpu[0], cpu[2]),
    );
}

/// Least, median, most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    [
        sorted[0],
        sorted[sorted.len() / 2],
        sorted[sorted.len() - 1],
    ]
}

/// The side that is measured.
struct Writer {
    sockets: Vec<TcpStream>,
    /// Where the reader says how many bytes it has read in all.
    progress: TcpStream,
    reader: Child,
    written_bytes: u64,
    read_bytes: u64,
    next_group: usize,
    frame: Vec<u8>,
}

impl Writer {
    fn connect(connections: usize, frame_bytes: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let reader = Command::new(std::env::current_exe()?)
            .arg(READER)
            .arg(listener.local_addr()?.to_string())
            .arg(connections.to_string())
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
            frame: vec![b'x'; frame_bytes],
        })
    }

    fn write_for(&mut self, load: &Load, time: Duration) -> io::Result<Round> {
        let bytes = load.bytes(self.frame.len());
        let bytes_in_flight = load.in_flight * bytes;
        let (begin, cpu_begin) = (Instant::now(), thread_cpu_ns()?);
        let mut deliveries = 0;
        while begin.elapsed() < time {
            while self.written_bytes + bytes > self.read_bytes + bytes_in_flight {
                self.read_bytes = next_total(&mut self.progress)?;
            }
            let first = self.next_group * load.subscribers;
            for socket in &mut self.sockets[first..first + load.subscribers] {
                socket.write_all(&self.frame)?; // blocks never: what is under way fits every socket
            }
            self.written_bytes += bytes;
            self.next_group = (self.next_group + 1) % load.groups;
            deliveries += load.subscribers as u64;
        }
        let cpu_ns = thread_cpu_ns()? - cpu_begin;
        Ok(Round {
            deliveries_per_second: deliveries as f64 / begin.elapsed().as_secs_f64(),
            cpu_us_per_delivery: cpu_ns as f64 / 1e3 / deliveries as f64,
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

fn next_total(progress: &mut TcpStream) -> io::Result<u64> {
    let mut total = [0; 8];
    progress.read_exact(&mut total)?;
    Ok(u64::from_le_bytes(total))
}

/// The other process: reads whatever comes and says after each turn how much that was.
fn read(address: &str, connections: &str) -> io::Result<()> {
    pin(core_affinity::get_core_ids().and_then(|cores| cores.last().copied()));
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
    loop {
        poll.poll(&mut events, None)?;
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

/// Nanoseconds that this thread has been on a core.
fn thread_cpu_ns() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    first.parse().map_err(io::Error::other)
}

fn pin(core: Option<core_affinity::CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}

fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
