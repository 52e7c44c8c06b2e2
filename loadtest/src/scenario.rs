//! The scenarios: what a run consists of, in the order in which it happens.
//!
//! `fanout`: connect a publisher, note the server's memory, connect and join all subscribers, note
//! it again, publish through warm-up and window, wait for what is outstanding, judge. Each step
//! ends by itself: joins by `join_timeout`, sending by the window, waiting by `drain_timeout`.
//! The client threads (`driver`) do the work; this file only starts them. May not touch a socket.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::client::{ClientError, Clock};
use crate::driver::{CpuUsed, Driver, First};
use crate::proc::{self, Process};
use crate::publisher::Published;
use crate::report::Progress;
use crate::subscribers::Received;
use crate::target::Target;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Descriptors besides the sockets: standard streams, polls, wakers, the timer, `/proc`.
const OTHER_FILES: u64 = 32;

/// Everything a run of `fanout` is told, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) engine: Target,
    pub(crate) stream: Target,
    pub(crate) groups: u32,
    /// Of each group.
    pub(crate) subscribers: u32,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) seconds: u32,
    pub(crate) value_bytes: usize,
    pub(crate) void: bool,
    pub(crate) publishers: usize,
    pub(crate) threads: usize,
    pub(crate) sources: u8,
    pub(crate) handshakes: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) stream_name: String,
    pub(crate) pid: Option<u32>,
    /// Marks what this run publishes.
    pub(crate) run: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Closed loop: this many sets under way over all groups.
    InFlight(u64),
    /// Sets a second over all groups, at fixed times.
    Rate(f64),
}

impl Plan {
    pub(crate) fn subscribers_in_all(&self) -> usize {
        self.groups as usize * self.subscribers as usize
    }

    /// Thread `thread`'s share: the same number of each group.
    pub(crate) fn subscribers_of(&self, thread: usize) -> usize {
        let of_each = (self.subscribers as usize + self.threads - 1 - thread) / self.threads;
        self.groups as usize * of_each
    }
}

/// The measured part of a run, on the run's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    /// When sending begins: the warm-up, which is checked but not measured.
    pub(crate) begin_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl Window {
    pub(crate) fn holds(&self, at_ns: u64) -> bool {
        self.start_ns <= at_ns && at_ns < self.end_ns
    }

    pub(crate) fn second_of(&self, at_ns: u64) -> Option<usize> {
        self.holds(at_ns)
            .then(|| ((at_ns - self.start_ns) / NS_PER_SECOND) as usize)
    }
}

/// What the client threads tell each other and the progress line.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) joined: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    /// Sets handed to the publisher's sockets: nothing beyond may be heard.
    pub(crate) sets: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot look at process {0}: no such process, or not allowed")]
    NoProcess(u32),
    #[error(
        "{needed} open files are needed, but the limit of this process is {limit} (ulimit -Hn)"
    )]
    OpenFiles { needed: u64, limit: u64 },
    #[error("cannot connect to {port} {host}: {cause}{}", advice.map(|a| format!(" ({a})")).unwrap_or_default())]
    Connect {
        port: &'static str,
        host: String,
        cause: ClientError,
        advice: Option<&'static str>,
    },
    #[error("{port} {host} did not finish the WebSocket upgrade within {seconds} s")]
    PublisherTimeout {
        port: &'static str,
        host: String,
        seconds: u64,
    },
    #[error(
        "no join was answered for {seconds} s: {joined} of {wanted} subscribers have their sync"
    )]
    JoinTimeout {
        seconds: u64,
        joined: usize,
        wanted: usize,
    },
    #[error("the publisher's connection ended: {0}")]
    PublisherLost(#[source] ClientError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a client thread died")]
    ThreadDied,
}

/// What a run measured; `report` turns it into figures.
pub(crate) struct Outcome {
    pub(crate) received: Received,
    pub(crate) published: Published,
    pub(crate) cpu: CpuUsed,
    pub(crate) rss_before: Option<u64>,
    pub(crate) rss_joined: Option<u64>,
}

/// Runs `fanout` from connecting to judging.
pub(crate) fn fanout(plan: &Plan) -> Result<Outcome, RunError> {
    let needed = (plan.subscribers_in_all() + plan.publishers) as u64 + OTHER_FILES;
    let limit = proc::raise_open_files();
    if needed > limit {
        return Err(RunError::OpenFiles { needed, limit });
    }
    let server = plan.pid.map(Process::new);
    if let (Some(pid), Some(server)) = (plan.pid, &server)
        && server.cpu_time().is_none()
    {
        return Err(RunError::NoProcess(pid));
    }
    let clock = Clock::start();
    let shared = Shared::default();
    let cores = core_affinity::get_core_ids().unwrap_or_default(); // before any thread is pinned

    let (reports, reported) = mpsc::channel();
    let mut drivers = Vec::new();
    for index in 0..plan.threads {
        drivers.push(Driver::new(plan, &shared, clock, index, reports.clone())?);
    }
    let waker = drivers[0].waker()?;
    let mut first = First::connect(plan, &mut drivers[0], reported, server)?;

    let rss = |first: &First| first.server().and_then(Process::rss_bytes);
    let rss_before = rss(&first);
    let pin = |index: usize| {
        // From the last core on: servers that pin begin at the first.
        if let Some(core) = cores.iter().rev().cycle().nth(index) {
            core_affinity::set_for_current(*core);
        }
    };
    let progress = Progress::joins(plan.subscribers_in_all() as u64);
    on_threads(&mut drivers, &mut first, &shared, progress, |driver, _| {
        pin(driver.index());
        driver.join_all()
    })?;
    let rss_joined = rss(&first);

    let window = window_from(clock.now_ns(), plan);
    let progress = Progress::publishing(plan);
    on_threads(
        &mut drivers,
        &mut first,
        &shared,
        progress,
        |driver, first| {
            pin(driver.index());
            match first {
                Some(first) => driver.lead(window, first),
                None => driver.follow(window, &waker),
            }
        },
    )?;

    let (published, cpu) = first.finish();
    let mut received = Received::new(plan.seconds);
    for driver in drivers {
        received.merge(driver.finish(published.sets));
    }
    Ok(Outcome {
        received,
        published,
        cpu,
        rss_before,
        rss_joined,
    })
}

fn window_from(now_ns: u64, plan: &Plan) -> Window {
    let start_ns = now_ns + plan.warmup.as_nanos() as u64;
    Window {
        begin_ns: now_ns,
        start_ns,
        end_ns: start_ns + u64::from(plan.seconds) * NS_PER_SECOND,
    }
}

/// Runs one step on every driver, each on a thread of its own, and shows how it goes. The first
/// driver is given `first`.
fn on_threads<'a>(
    drivers: &mut [Driver<'a>],
    first: &mut First,
    shared: &Shared,
    progress: Progress,
    step: impl Fn(&mut Driver<'a>, Option<&mut First>) -> Result<(), RunError> + Sync,
) -> Result<(), RunError> {
    let mut first = Some(first);
    thread::scope(|scope| {
        let step = &step;
        let start = |driver| {
            let first = first.take();
            scope.spawn(move || step(driver, first))
        };
        let handles: Vec<_> = drivers.iter_mut().map(start).collect();
        while !handles.iter().all(|handle| handle.is_finished()) {
            progress.show(shared);
        }
        let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        results
            .into_iter()
            .try_for_each(|result| result.unwrap_or(Err(RunError::ThreadDied)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    use serde_json::Value;
    use tungstenite::{Message, WebSocket};

    use super::*;
    use crate::report::Report;

    type Socket = WebSocket<TcpStream>;
    /// How often the server delivers the set with this number.
    type Copies = fn(u64) -> usize;

    /// A small server with a fault of choice: its threads end with their sockets, or with the test.
    fn server(copies: Copies) -> (Target, Target) {
        let [engine, stream] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let target = |listener: &TcpListener| {
            Target::parse(&format!("ws://{}", listener.local_addr().unwrap()))
        };
        let targets = (target(&engine).unwrap(), target(&stream).unwrap());
        thread::spawn(move || {
            let subscribers: Mutex<Vec<(String, Socket)>> = Mutex::default();
            thread::scope(|scope| {
                scope.spawn(|| subscribe(&stream, &subscribers));
                let socket = tungstenite::accept(engine.accept().unwrap().0).unwrap();
                publish(socket, &subscribers, copies);
            });
        });
        targets
    }

    fn text(socket: &mut Socket) -> Option<Value> {
        serde_json::from_str(socket.read().ok()?.to_text().unwrap()).ok()
    }

    fn subscribe(listener: &TcpListener, subscribers: &Mutex<Vec<(String, Socket)>>) {
        for stream in listener.incoming() {
            let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
            let group = text(&mut socket).unwrap()["data"]["groupId"]
                .as_str()
                .unwrap()
                .to_owned();
            let sync = r#"{"type":"stream","id":null,"event":{"type":"sync","data":[]}}"#;
            let mut subscribers = subscribers.lock().unwrap();
            socket.send(Message::text(sync)).unwrap();
            subscribers.push((group, socket));
        }
    }

    fn publish(mut socket: Socket, subscribers: &Mutex<Vec<(String, Socket)>>, copies: Copies) {
        for set in 0.. {
            let Some(call) = text(&mut socket) else {
                return;
            };
            let (group, data) = (
                call["data"]["group_id"].as_str().unwrap(),
                &call["data"]["data"],
            );
            let event = format!(
                r#"{{"type":"stream","id":"item","event":{{"type":"update","data":{data}}}}}"#
            );
            for (_, subscriber) in subscribers
                .lock()
                .unwrap()
                .iter_mut()
                .filter(|(of, _)| of == group)
            {
                (0..copies(set)).for_each(|_| subscriber.send(Message::text(&event)).unwrap());
            }
            let id = &call["invocation_id"];
            let answer = format!(
                r#"{{"type":"invocationresult","invocation_id":{id},"result":{{"new_value":1}}}}"#
            );
            if socket.send(Message::text(answer)).is_err() {
                return;
            }
        }
    }

    fn run(copies: Copies, pace: Pace, threads: usize) -> Report {
        let (engine, stream) = server(copies);
        let plan = Plan {
            engine,
            stream,
            groups: 3,
            subscribers: 4,
            pace,
            warmup: Duration::from_millis(100),
            seconds: 1,
            value_bytes: 100,
            void: false,
            publishers: 1,
            threads,
            sources: 2,
            handshakes: 5,
            join_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_millis(300),
            stream_name: "load".to_owned(),
            pid: Some(std::process::id()),
            run: 0xfeed_0001,
        };
        let outcome = fanout(&plan).unwrap();
        Report::new(&plan, outcome)
    }

    #[test]
    fn good_server_passes_in_both_loops_and_on_several_threads() {
        for (pace, threads) in [
            (Pace::InFlight(5), 1),
            (Pace::InFlight(5), 3),
            (Pace::Rate(50.0), 2),
        ] {
            let report = run(|_| 1, pace, threads);
            assert!(report.is_clean(), "{pace:?} {threads}: {report}");
        }
    }

    #[test]
    fn server_that_drops_or_repeats_one_set_does_not_pass() {
        let drops = run(|set| usize::from(set != 7), Pace::Rate(50.0), 2);
        assert!(!drops.is_clean());
        assert!(
            drops.to_string().contains("missed 4, duplicated 0"),
            "{drops}"
        );
        let repeats = run(|set| 1 + usize::from(set == 7), Pace::InFlight(2), 1);
        assert!(!repeats.is_clean());
        assert!(
            repeats.to_string().contains("missed 0, duplicated 4"),
            "{repeats}"
        );
    }

    #[test]
    fn window_has_whole_seconds_and_an_open_end() {
        let window = Window {
            begin_ns: 0,
            start_ns: NS_PER_SECOND,
            end_ns: 3 * NS_PER_SECOND,
        };
        assert_eq!(window.second_of(NS_PER_SECOND - 1), None);
        assert_eq!(window.second_of(NS_PER_SECOND), Some(0));
        assert_eq!(window.second_of(3 * NS_PER_SECOND - 1), Some(1));
        assert_eq!(window.second_of(3 * NS_PER_SECOND), None);
    }
}
