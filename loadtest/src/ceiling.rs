//! `ceiling`: what this program itself can take, so that a figure near it is not taken for a server's.
//!
//! A thread on a core of its own plays the server: it writes frames made for all subscribers at once,
//! so many in each write, and keeps two rounds of them under way. The thread that is measured does
//! what every client thread of `fanout` does, with the same code and all checks.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::check::audit::Truth;
use crate::check::received::Received;
use crate::client::{Clock, wall_ms};
use crate::driver::Driver;
use crate::error::RunError;

use crate::message::GroupId;
use crate::plan;
use crate::proc;
use crate::run::Run;
use crate::scenario::{Order, Pace, Setup, Shared, new_run};
use crate::stamp::{self, ItemId, Stamp};
use crate::target::Target;

const STREAM_NAME: &str = "load";
/// Frames that a server coalesces into one write: none, some, many.
const FRAMES_PER_WRITE: [u32; 5] = [1, 4, 16, 64, 256];
const ROUNDS_UNDER_WAY: u64 = 2;
/// For what is under way when the time is over.
const DRAIN: Duration = Duration::from_secs(5);

/// What it is told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) subscribers: u32,
    pub(crate) value_bytes: usize,
    pub(crate) seconds: u32,
}

/// One size of writes.
struct Level {
    frames_per_write: u32,
    received: Received,
    seconds: f64,
    cpu_ns: u64,
}

/// What was measured.
pub(crate) struct Ceiling {
    plan: Plan,
    levels: Vec<Level>,
    machine: Vec<String>,
}

/// Measures every size of writes.
pub(crate) fn run(plan: &Plan) -> Result<Ceiling, RunError> {
    let mut ceiling = Ceiling {
        plan: plan.clone(),
        levels: Vec::new(),
        machine: Vec::new(),
    };
    for frames_per_write in FRAMES_PER_WRITE {
        let (level, machine) = measure(plan, frames_per_write)?;
        ceiling.levels.push(level);
        ceiling.machine = machine;
    }
    Ok(ceiling)
}

fn measure(plan: &Plan, frames_per_write: u32) -> Result<(Level, Vec<String>), RunError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let load = plan.load(listener.local_addr()?);
    let run = Run::prepare(&load.setup, load.connections_in_all())?;
    run.shared.sets.store(u64::MAX, Ordering::Release); // whatever is heard has been sent
    let (reports, _) = mpsc::channel();
    let mut driver = Driver::new(&load, &run.shared, run.clock, 0, reports)?;
    let waker = driver.waker()?;
    let mut feeder = None;
    run.join_on_threads(
        load.subscribers_in_all(),
        [Side::Receiver(&mut driver), Side::Feeder(&mut feeder)],
        |side| match side {
            Side::Receiver(driver) => driver.join_all(),
            Side::Feeder(feeder) => {
                *feeder = Some(Feeder::accept(&listener, &load, frames_per_write)?);
                Ok(())
            }
        },
    )?;
    let window = run.window(&load.setup);
    let mut cpu_ns = 0;
    let began = Instant::now();
    run.on_threads(
        [
            Side::Receiver((&mut driver, &mut cpu_ns)),
            Side::Feeder(&mut feeder),
        ],
        || thread::sleep(Duration::from_millis(20)),
        |side| match side {
            Side::Receiver((driver, cpu_ns)) => {
                let before_ns = proc::thread_cpu_ns()?;
                driver.follow(window, &waker)?;
                *cpu_ns = proc::thread_cpu_ns()? - before_ns;
                Ok(())
            }
            Side::Feeder(feeder) => {
                let feeder = feeder.as_mut().ok_or(RunError::ThreadDied(1))?;
                let fed = feeder.feed(plan, &run.shared, run.clock);
                run.shared.stop.store(true, Ordering::Relaxed);
                Ok(fed?)
            }
        },
    )?;
    let seconds = began.elapsed().as_secs_f64();
    let sets = feeder.map_or(0, |feeder| u64::from(feeder.sequence));
    let level = Level {
        frames_per_write,
        received: driver.finish(sets, &Truth::default()),
        seconds,
        cpu_ns,
    };
    Ok((level, run.notes()))
}

/// The two threads.
enum Side<R, F> {
    Receiver(R),
    Feeder(F),
}

impl Plan {
    fn load(&self, stream: SocketAddr) -> plan::Plan {
        let target = Target::at(stream);
        plan::Plan {
            setup: Setup {
                engine: target.clone(),
                stream: target,
                warmup: Duration::ZERO,
                seconds: self.seconds,
                value_bytes: self.value_bytes,
                publishers: 1,
                threads: 1,
                sources: 1,
                handshakes: 100,
                join_timeout: DRAIN,
                drain_timeout: DRAIN,
                stream_name: STREAM_NAME.to_owned(),
                order: Order::Sent,
                late: DRAIN,
                audits: false,
                pid: None,
                admin: None,
                run: new_run(),
            },
            groups: 1,
            subscribers: self.subscribers,
            spread: 1,
            pace: Pace::InFlight(1),
            void: false,
            pace_ms: None,
            unchecked: false,
        }
    }
}

/// Plays the server.
struct Feeder {
    sockets: Vec<WebSocket<TcpStream>>,
    run: u32,
    padding: String,
    frames_per_write: u32,
    first_ms: u64,
    /// Of the next frame.
    sequence: u32,
    text: Vec<u8>,
}

impl Feeder {
    /// Takes every subscriber's connection and answers its join.
    fn accept(
        listener: &TcpListener,
        load: &plan::Plan,
        frames_per_write: u32,
    ) -> io::Result<Self> {
        let mut feeder = Self {
            sockets: Vec::new(),
            run: load.setup.run,
            padding: stamp::padding(load.setup.value_bytes),
            frames_per_write,
            first_ms: wall_ms(),
            sequence: 0,
            text: Vec::new(),
        };
        feeder.begin_text(feeder.first_ms, "null", "sync");
        feeder.text.extend_from_slice(b"[]}}");
        let sync = String::from_utf8_lossy(&feeder.text).into_owned();
        while feeder.sockets.len() < load.connections_in_all() {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut socket = tungstenite::accept(stream).map_err(io::Error::other)?;
            socket.read().map_err(io::Error::other)?; // the join
            let answer = Message::text(sync.as_str());
            socket.send(answer).map_err(io::Error::other)?;
            feeder.sockets.push(socket);
        }
        Ok(feeder)
    }

    /// Writes rounds until the time is over, and waits until all has been heard.
    fn feed(&mut self, plan: &Plan, shared: &Shared, clock: Clock) -> io::Result<()> {
        let per_round = u64::from(plan.subscribers) * u64::from(self.frames_per_write);
        let until = Instant::now() + Duration::from_secs(plan.seconds.into());
        let heard = || shared.deliveries.load(Ordering::Relaxed);
        let (mut written, mut bytes) = (0, Vec::new());
        while Instant::now() < until {
            self.next_round(clock, &mut bytes)?;
            for socket in &mut self.sockets {
                socket.get_mut().write_all(&bytes)?;
            }
            written += per_round;
            while written > heard() + (ROUNDS_UNDER_WAY - 1) * per_round && Instant::now() < until {
                thread::yield_now();
            }
        }
        while heard() < written && Instant::now() < until + DRAIN {
            thread::yield_now();
        }
        Ok(())
    }

    /// Replaces `bytes` by the frames of the next round.
    fn next_round(&mut self, clock: Clock, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        for _ in 0..self.frames_per_write {
            let kind = if self.sequence == 0 {
                "create"
            } else {
                "update"
            };
            let id = format!("\"{}\"", ItemId(0));
            self.begin_text(self.first_ms + u64::from(self.sequence), &id, kind);
            let stamp = Stamp {
                run: self.run,
                sequence: self.sequence,
                sent_ns: clock.now_ns(),
                group: 0,
                item: 0,
            };
            stamp.write_value(&self.padding, &mut self.text);
            self.text.extend_from_slice(b"}}");
            let header = FrameHeader {
                opcode: OpCode::Data(Data::Text),
                ..FrameHeader::default()
            };
            let written = header.format(self.text.len() as u64, bytes);
            written.map_err(io::Error::other)?;
            bytes.extend_from_slice(&self.text);
            self.sequence += 1;
        }
        Ok(())
    }

    /// A text up to its data.
    fn begin_text(&mut self, at_ms: u64, id: &str, kind: &str) {
        let group = GroupId(0);
        self.text.clear();
        write!(
            self.text,
            r#"{{"type":"stream","timestamp":{at_ms},"streamName":"{STREAM_NAME}","groupId":"{group}","id":{id},"event":{{"type":"{kind}","data":"#
        )
        .expect("a Vec takes every write");
    }
}

impl Level {
    fn messages(&self) -> u64 {
        self.received.deliveries_in_all
    }

    /// What the thread would take if it were never idle.
    fn messages_per_core_second(&self) -> f64 {
        self.messages() as f64 * 1e9 / self.cpu_ns.max(1) as f64
    }

    fn is_clean(&self) -> bool {
        let checks = self.received.faults.checks();
        self.messages() > 0 && checks.iter().all(|check| check.count == 0)
    }
}

impl Ceiling {
    /// Whether all that was written was heard, once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.levels.iter().all(Level::is_clean)
    }

    pub(crate) fn to_json(&self) -> Value {
        let levels: Vec<Value> = self
            .levels
            .iter()
            .map(|level| {
                json!({
                    "frames_per_write": level.frames_per_write,
                    "messages": level.messages(),
                    "messages_per_second": level.messages() as f64 / level.seconds,
                    "messages_per_core_second": level.messages_per_core_second(),
                })
            })
            .collect();
        json!({
            "scenario": "ceiling",
            "subscribers": self.plan.subscribers,
            "value_bytes": self.plan.value_bytes,
            "seconds": self.plan.seconds,
            "clean": self.is_clean(),
            "levels": levels,
            "machine": self.machine,
        })
    }
}

impl Display for Ceiling {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Plan {
            subscribers,
            value_bytes,
            ..
        } = self.plan;
        writeln!(
            f,
            "ceiling of one client thread, {subscribers} subscribers, values of {value_bytes} bytes, \
             all checks on"
        )?;
        writeln!(
            f,
            "  {:<18}{:>16}{:>22}{:>20}",
            "frames a write", "messages/s", "messages/s of a core", "CPU a message, us"
        )?;
        for level in &self.levels {
            let of_core = level.messages_per_core_second();
            writeln!(
                f,
                "  {:<18}{:>16.0}{of_core:>22.0}{:>20.3}",
                level.frames_per_write,
                level.messages() as f64 / level.seconds,
                1e6 / of_core
            )?;
        }
        for note in &self.machine {
            writeln!(f, "  machine: {note}")?;
        }
        for level in self.levels.iter().filter(|level| !level.is_clean()) {
            writeln!(
                f,
                "  ! {} frames a write: a check failed",
                level.frames_per_write
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::stamp::VALUE_BYTES_MIN;

    #[test]
    fn all_that_is_fed_is_heard() {
        let ceiling = run(&Plan {
            subscribers: 5,
            value_bytes: VALUE_BYTES_MIN,
            seconds: 1,
        })
        .unwrap();
        assert!(ceiling.is_clean(), "{ceiling}");
        let json = ceiling.to_json();
        assert!(json["levels"][0]["messages"].as_u64() > Some(0), "{json}");
    }
}
