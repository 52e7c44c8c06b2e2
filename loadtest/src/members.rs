//! `presence --members-by-server`: rooms whose members the server keeps, watched by one socket a room.
//!
//! The server needs `streams: [{stream: load, members: {id: query.user}}]`. Persons come, reload, open a
//! second tab and go for good; what each watcher has made of its events is compared with who has a socket,
//! and each change has to be heard once.

use std::collections::BTreeMap;
use std::time::Duration;

use mio::{Events, Poll, Token};
use serde_json::Value;

use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::cost::{Cost, Memory};
use crate::error::{RunError, connect_error};
use crate::message::join;
use crate::report::{Better, Check, Figure, Report};
use crate::run::Run;
use crate::scenario::{NS_PER_SECOND, Setup};
use crate::target::source_address;
use crate::waiting::{SLEEP_MAX, wait};

/// Past the grace: so late a member may go.
const LATE: Duration = Duration::from_secs(2);
/// So long a second tab is open.
const TAB: Duration = Duration::from_millis(200);

/// Everything a run is told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    /// Persons in each.
    pub(crate) rooms: Vec<u32>,
    /// Persons a second who reload, open a tab or go.
    pub(crate) moves: f64,
    /// How long a reload takes.
    pub(crate) away: Duration,
    /// What the server has: how long somebody stays whose last socket is gone.
    pub(crate) grace: Duration,
}

/// What one watcher has made of what it heard.
#[derive(Default)]
struct Watched {
    members: BTreeMap<String, u64>,
    is_synced: bool,
    time: u64,
    events: u64,
    faults: Vec<String>,
}

impl Watched {
    fn hear(&mut self, text: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Value>(text) else {
            return self.faults.push("no JSON".to_owned());
        };
        let (event, time) = (&message["event"], message["timestamp"].as_u64());
        let time = time.unwrap_or_default();
        let connections = |value: &Value| value["connections"].as_u64().unwrap_or_default();
        if event["type"] == "sync" {
            let members = event["data"].as_array().into_iter().flatten();
            let known =
                |member: &Value| Some((member["id"].as_str()?.to_owned(), connections(member)));
            self.members = members.filter_map(known).collect();
            (self.is_synced, self.time) = (true, time);
            return;
        }
        self.events += 1;
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let before = match event["type"].as_str() {
            Some("delete") => self.members.remove(&id),
            _ => self.members.insert(id, connections(&event["data"])),
        };
        let fits = before.is_some() == (event["type"] != "create");
        if !fits || time <= self.time {
            let shown = String::from_utf8_lossy(text).into_owned();
            self.faults.push(shown);
        }
        self.time = time;
    }
}

/// One socket and whose it is.
struct Socket {
    client: Client,
    room: usize,
    /// None: a watcher.
    user: Option<usize>,
    is_asked: bool,
}

struct Crowd<'a> {
    plan: &'a Plan,
    poll: Poll,
    clock: Clock,
    buffer: ReadBuffer,
    sockets: BTreeMap<usize, Socket>,
    next: usize,
    watched: Vec<Watched>,
    /// The sockets of each person.
    tabs: Vec<Vec<usize>>,
    /// Sockets that have ended by themselves.
    lost: u64,
}

/// Runs the scenario from connecting to judging.
pub(crate) fn run(plan: &Plan) -> Result<Report, RunError> {
    let setup = &plan.setup;
    let persons: Vec<usize> = (0..plan.rooms.len())
        .flat_map(|room| std::iter::repeat_n(room, plan.rooms[room] as usize))
        .collect();
    let run = Run::prepare(setup, persons.len() + plan.rooms.len())?;
    let mut crowd = Crowd::new(plan, run.clock, persons.len())?;
    let before = run.meter.rss_bytes();
    for room in 0..plan.rooms.len() {
        crowd.open(room, None)?;
    }
    crowd.turn_until(|crowd| crowd.watched.iter().all(|watched| watched.is_synced))?;
    let began_ns = run.clock.now_ns();
    for (user, room) in persons.iter().enumerate() {
        crowd.open(*room, Some(user))?;
        while crowd.under_way() >= setup.handshakes {
            crowd.turn()?;
        }
    }
    crowd.turn_until(|crowd| crowd.differences(&persons).is_empty())?;
    let gathered_ns = run.clock.now_ns() - began_ns;
    let joined = run.meter.rss_bytes();
    let heard = crowd.events();
    let (start, start_ns) = (run.meter.sample(), run.clock.now_ns());
    let expected = crowd.live(&persons)?;
    let (end, end_ns) = (run.meter.sample(), run.clock.now_ns());
    crowd.wait((plan.grace + LATE).as_nanos() as u64)?;
    let changes = crowd.events() - heard;
    let mut differences = crowd.differences(&persons);
    let different = differences.len() as u64;
    let told: Vec<String> = crowd
        .watched
        .iter()
        .flat_map(|watched| watched.faults.iter().cloned())
        .collect();
    let check = |key, label, count| Check { key, label, count };
    let checks = vec![
        check(
            "members_wrong",
            "members that are not the persons with a socket",
            different,
        ),
        check(
            "changes_wrong",
            "events that fit no member, or not its time",
            told.len() as u64,
        ),
        check(
            "changes_miscounted",
            "changes not heard once",
            changes.abs_diff(expected),
        ),
        check("connections_lost", "connections lost", crowd.lost),
    ];
    differences.extend(told);
    differences.truncate(10);
    let seconds = (end_ns - start_ns) as f64 / NS_PER_SECOND as f64;
    let per_second = persons.len() as f64 * NS_PER_SECOND as f64 / gathered_ns.max(1) as f64;
    let mut figures = vec![Figure::new(
        "members_per_second",
        "members that came",
        "/s",
        Some(per_second),
        Better::More,
    )];
    let memory = Memory { before, joined };
    let labels = ["server memory a member", "server memory with all"];
    figures.extend(memory.figures(labels, Some(persons.len())));
    let cost = Cost::between(&start, &end, seconds);
    let keys = ["server_cpu_us_per_change", "client_cpu_us_per_change"];
    figures.extend(cost.figures(
        keys,
        ["server CPU a change", "client CPU a change"],
        expected,
    ));
    Ok(Report {
        scenario: "members",
        title: format!(
            "{} members that the server keeps in {} rooms",
            persons.len(),
            plan.rooms.len()
        ),
        settings: vec![
            ("members", persons.len().into()),
            ("rooms", plan.rooms.len().into()),
            ("moves_per_second", plan.moves.into()),
            ("grace_seconds", plan.grace.as_secs_f64().into()),
            ("away_seconds", plan.away.as_secs_f64().into()),
        ],
        figures,
        counts: vec![("changes", changes), ("changes_expected", expected)],
        checks,
        heard: crowd.events(),
        machine: run.notes(),
        first_differences: differences,
        ..Report::default()
    })
}

impl<'a> Crowd<'a> {
    fn new(plan: &'a Plan, clock: Clock, persons: usize) -> Result<Self, RunError> {
        Ok(Self {
            plan,
            poll: Poll::new()?,
            clock,
            buffer: ReadBuffer::new(),
            sockets: BTreeMap::new(),
            next: 0,
            watched: plan.rooms.iter().map(|_| Watched::default()).collect(),
            tabs: vec![Vec::new(); persons],
            lost: 0,
        })
    }

    fn open(&mut self, room: usize, user: Option<usize>) -> Result<(), RunError> {
        let setup = &self.plan.setup;
        let mut target = setup.stream.clone();
        if let Some(user) = user {
            target.path = format!("{}?user=u{user}", target.path);
        }
        let token = self.next;
        self.next += 1;
        let source = source_address(token, setup.sources);
        let registry = self.poll.registry();
        let client = Client::connect(&target, source, registry, Token(token));
        let client = client.map_err(|cause| self.cannot_connect(cause))?;
        let socket = Socket {
            client,
            room,
            user,
            is_asked: false,
        };
        self.sockets.insert(token, socket);
        if let Some(user) = user {
            self.tabs[user].push(token);
        }
        Ok(())
    }

    /// One of the person's sockets ends, with a close or without a word.
    fn end(&mut self, user: usize, says_so: bool) {
        if let Some(token) = self.tabs[user].pop()
            && let Some(mut socket) = self.sockets.remove(&token)
            && says_so
        {
            // What the server makes of it shows in the events.
            let _ = socket.client.close();
        }
    }

    fn under_way(&self) -> usize {
        let opening = |socket: &&Socket| !socket.client.is_open();
        self.sockets
            .values()
            .rev()
            .take(self.plan.setup.handshakes)
            .filter(opening)
            .count()
    }

    /// Persons reload, open a second tab and go, in turn, at times fixed beforehand. Gives how many events
    /// that has to make.
    fn live(&mut self, persons: &[usize]) -> Result<u64, RunError> {
        let begin_ns = self.clock.now_ns();
        let end_ns = begin_ns + u64::from(self.plan.setup.seconds) * NS_PER_SECOND;
        let every_ns = (NS_PER_SECOND as f64 / self.plan.moves) as u64;
        let mut later: BTreeMap<(u64, usize), Then> = BTreeMap::new();
        let (mut due_ns, mut at, mut expected) = (begin_ns, 0, 0);
        while self.clock.now_ns() < end_ns || !later.is_empty() {
            let now_ns = self.clock.now_ns();
            while let Some(((when, user), _)) = later.first_key_value()
                && *when <= now_ns
            {
                let key = (*when, *user);
                match later.remove(&key) {
                    Some(Then::Back) => self.open(persons[key.1], Some(key.1))?,
                    Some(Then::CloseTab) => self.end(key.1, true),
                    None => {}
                }
            }
            while due_ns <= now_ns && due_ns < end_ns {
                due_ns += every_ns;
                let user = at % persons.len();
                at += 1;
                let is_free = !later.keys().any(|(_, busy)| *busy == user);
                if !is_free || self.tabs[user].is_empty() {
                    continue;
                }
                match at % 3 {
                    0 => {
                        self.end(user, at % 2 == 0);
                        let away_ns = self.plan.away.as_nanos() as u64;
                        later.insert((now_ns + away_ns, user), Then::Back);
                    }
                    1 => {
                        self.open(persons[user], Some(user))?;
                        let tab_ns = TAB.as_nanos() as u64;
                        later.insert((now_ns + tab_ns, user), Then::CloseTab);
                        expected += 2;
                    }
                    _ => {
                        self.end(user, at % 2 == 0);
                        expected += 1;
                    }
                }
            }
            self.turn()?;
        }
        Ok(expected)
    }

    fn turn_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), RunError> {
        let patience = self.plan.setup.join_timeout;
        let until_ns = self.clock.now_ns() + patience.as_nanos() as u64;
        while !is_so(self) {
            self.turn()?;
            if self.clock.now_ns() > until_ns {
                return Err(RunError::JoinTimeout {
                    seconds: patience.as_secs(),
                    joined: self
                        .watched
                        .iter()
                        .map(|watched| watched.members.len())
                        .sum(),
                    wanted: self.tabs.len(),
                });
            }
        }
        Ok(())
    }

    fn wait(&mut self, ns: u64) -> Result<(), RunError> {
        let until_ns = self.clock.now_ns() + ns;
        while self.clock.now_ns() < until_ns {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), RunError> {
        let mut events = Events::with_capacity(256);
        wait(&mut self.poll, &mut events, SLEEP_MAX)?;
        for event in &events {
            let Token(token) = event.token();
            let Some(socket) = self.sockets.get_mut(&token) else {
                continue;
            };
            let watched = match socket.user {
                None => Some(&mut self.watched[socket.room]),
                Some(_) => None,
            };
            let mut watched = watched;
            let hear = |_: u64, text: &[u8]| {
                if let Some(watched) = &mut watched {
                    watched.hear(text);
                }
            };
            let mut turned = socket
                .client
                .turn(event, &mut self.buffer, &self.clock, hear);
            if turned.is_ok() && socket.client.is_open() && !socket.is_asked {
                socket.is_asked = true;
                let stream = &self.plan.setup.stream_name;
                socket.client.queue(&join(stream, socket.room as u32));
                turned = socket.client.flush();
            }
            if let Err(cause) = turned {
                if !socket.is_asked {
                    return Err(self.cannot_connect(cause));
                }
                self.sockets.remove(&token);
                self.lost += 1;
            }
        }
        Ok(())
    }

    fn events(&self) -> u64 {
        self.watched.iter().map(|watched| watched.events).sum()
    }

    /// Who is there and should not be, or not so often, and who is not.
    fn differences(&self, persons: &[usize]) -> Vec<String> {
        let mut expected: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); self.watched.len()];
        for (user, room) in persons.iter().enumerate() {
            let tabs = self.tabs[user].len() as u64;
            if tabs > 0 {
                expected[*room].insert(format!("u{user}"), tabs);
            }
        }
        let mut differences = Vec::new();
        for (room, (watched, expected)) in self.watched.iter().zip(expected).enumerate() {
            let all = watched.members.keys().chain(expected.keys());
            let ids: std::collections::BTreeSet<&String> = all.collect();
            for id in ids {
                let (is, should) = (watched.members.get(id), expected.get(id));
                if is != should {
                    differences.push(format!(
                        "room {room}: {id} is there {is:?} times, not {should:?}"
                    ));
                }
            }
        }
        differences
    }

    fn cannot_connect(&self, cause: ClientError) -> RunError {
        connect_error("the stream port", &self.plan.setup.stream.host, cause)
    }
}

/// What a person does later.
enum Then {
    Back,
    CloseTab,
}
