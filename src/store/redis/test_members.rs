//! Members over hosts in random runs: the real scripts in a real Redis whose clock the test sets, and what
//! several hosts tell of their members while they die, stand still, stop, and lose their Redis.
//!
//! The model is short: at the end members are the persons with a socket, each change was heard once, and
//! nobody goes whom a host keeps that lives. `SEEDS=a..b` runs others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::id::GroupKey;
use crate::protocol::members::IdPath;
use crate::protocol::pace::Pace;
use crate::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use crate::protocol::ttl::Ttl;

use super::ends::Ends;
use super::keeping::Word;
use super::members::{Heard, Members};
use super::scripts::{Script, Scripts};

const LEASE_MS: u64 = 3000;
const GRACE_MS: u64 = 800;
const PATIENCE_MS: u64 = 5000;
const POLL_MS: u64 = 400;
const HOSTS: usize = 3;
const PERSONS: usize = 5;
const STEPS: usize = 250;

struct Server(Child, u16);

impl Server {
    fn start() -> Server {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, as Debian's package has it");
        Server(child, port)
    }

    fn connection(&self) -> Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.1)).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % most
    }
}

enum Sent {
    Poll,
    Word(Box<Word>),
}

struct Host {
    members: Members,
    sockets: BTreeMap<usize, u32>,
    /// Sent over its connection, in order.
    under_way: VecDeque<(Sent, Cmd)>,
    /// Answered, and not read yet.
    answers: VecDeque<(Sent, Value)>,
    polls: bool,
    poll_at: u64,
    stands_still: bool,
    is_connected: bool,
    is_ending: bool,
    /// Persons of whom Redis knows that this run keeps them.
    known: BTreeSet<usize>,
    run: String,
}

struct World {
    redis: Connection,
    scripts: BTreeMap<u8, String>,
    rules: Arc<StreamRules>,
    began: Instant,
    now: u64,
    dice: Dice,
    hosts: Vec<Host>,
    /// What whoever follows the group shows.
    shown: BTreeMap<String, u64>,
    last: u64,
}

fn person(n: usize) -> String {
    format!("p{n}")
}

fn key() -> GroupKey {
    GroupKey::new("presence", "room")
}

impl World {
    fn new(server: &Server, seed: u64) -> World {
        let mut redis = server.connection();
        let _: Value = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        let all = Scripts::new(Uuid::from_u128(1), 0);
        let scripts = [Script::Ends, Script::Member].map(|script| {
            let text = all.text(script);
            let clock = text.replace(
                "redis.call('TIME')",
                "{redis.call('GET', 'sim:now') / 1000, 0}",
            );
            let clock = clock.replace("time[1] * 1000 +", "math.floor(time[1] * 1000 + 0.5) +");
            let told = clock.replace("'PUBLISH', 'stream::events'", "'RPUSH', 'sim:events'");
            assert!(told.contains("sim:now") && told.contains("sim:events"));
            let mut load = redis::cmd("SCRIPT");
            let sha: String = load.arg("LOAD").arg(told).query(&mut redis).unwrap();
            (script as u8, sha)
        });
        let rule = StreamRule {
            streams: StreamPattern::read("presence").unwrap(),
            ttl: Ttl::NEVER,
            pace: Pace::NONE,
            members: Some(MembersRule {
                id: IdPath::read("query.user").unwrap(),
                data: None,
                grace_ms: GRACE_MS,
                restart_grace_ms: PATIENCE_MS,
            }),
        };
        let mut world = World {
            redis,
            scripts: scripts.into(),
            rules: Arc::new(StreamRules::new(vec![rule])),
            began: Instant::now(),
            now: 1_800_000_000_000,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            hosts: Vec::new(),
            shown: BTreeMap::new(),
            last: 0,
        };
        world.pass(0);
        world.hosts = (0..HOSTS).map(|at| world.host(at)).collect();
        world
    }

    fn host(&mut self, at: usize) -> Host {
        let place = format!("machine:{at}");
        let lease = Duration::from_millis(LEASE_MS);
        let mut members = Members::new(Arc::clone(&self.rules), lease, place, self.at());
        members.begin(self.at());
        Host {
            members,
            sockets: BTreeMap::new(),
            under_way: VecDeque::new(),
            answers: VecDeque::new(),
            polls: false,
            poll_at: self.now + self.dice.below(POLL_MS as usize) as u64,
            stands_still: false,
            is_connected: true,
            is_ending: false,
            known: BTreeSet::new(),
            run: String::new(),
        }
    }

    fn at(&self) -> Instant {
        self.began + Duration::from_millis(self.now - 1_800_000_000_000)
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let mut set = redis::cmd("SET");
        let _: Value = set
            .arg("sim:now")
            .arg(self.now)
            .query(&mut self.redis)
            .unwrap();
    }

    fn sha(&self, script: Script) -> String {
        self.scripts[&(script as u8)].clone()
    }

    /// What it would send now goes out.
    fn send(&mut self, at: usize) {
        let (now, ends, member) = (self.at(), self.sha(Script::Ends), self.sha(Script::Member));
        let host = &mut self.hosts[at];
        if host.stands_still || !host.is_connected {
            return;
        }
        while let Some(word) = host.members.next_word(now) {
            let command = host.members.pack_word(&member, &word);
            host.under_way
                .push_back((Sent::Word(Box::new(word)), command));
        }
        if !host.polls && host.poll_at <= self.now {
            host.polls = true;
            let own = Ends::new(Arc::clone(&self.rules), now);
            let command = own.pack(&ends, &[], &mut host.members, now);
            host.run = host.members.run().to_string();
            host.under_way.push_back((Sent::Poll, command));
        }
    }

    /// Redis carries out the next command of that host.
    fn carry_out(&mut self, at: usize) -> bool {
        let Some((sent, command)) = self.hosts[at].under_way.pop_front() else {
            return false;
        };
        let answer = command.query(&mut self.redis);
        let value: Value = answer.unwrap_or_else(|error| unreachable!("{error}"));
        if let Sent::Word(word) = &sent
            && !word.is_of_ended
            && let Value::Array(parts) = &value
            && matches!(&parts[0], Value::BulkString(said) if said == b"done" || said == b"nothing")
        {
            let of: usize = word.item[1..].parse().unwrap();
            match word.connections {
                0 => self.hosts[at].known.remove(&of),
                _ => self.hosts[at].known.insert(of),
            };
        }
        self.hosts[at].answers.push_back((sent, value));
        self.hear();
        true
    }

    /// It reads one answer.
    fn read(&mut self, at: usize) -> bool {
        let (now, member) = (self.at(), self.sha(Script::Member));
        let host = &mut self.hosts[at];
        if host.stands_still {
            return false;
        }
        let Some((sent, value)) = host.answers.pop_front() else {
            return false;
        };
        let mut words = Vec::new();
        match sent {
            Sent::Word(word) => {
                let heard = Heard::read(&word, value);
                words.extend(host.members.answered(*word, heard.said, now));
                if host.members.wants_more() {
                    host.poll_at = self.now;
                }
            }
            Sent::Poll => {
                host.polls = false;
                host.poll_at = self.now + POLL_MS;
                let Value::Array(parts) = value else {
                    unreachable!("{value:?}");
                };
                let mut parts = parts.into_iter().skip(2);
                let mut next = || parts.next().unwrap();
                words = host.members.take_runs(next(), next(), next(), now);
            }
        }
        for word in words {
            let command = host.members.pack_word(&member, &word);
            host.under_way
                .push_back((Sent::Word(Box::new(word)), command));
        }
        let run = host.members.run().to_string();
        if run != host.run {
            host.run = run; // others have found it dead
            host.known.clear();
        }
        true
    }

    /// What Redis has told since.
    fn hear(&mut self) {
        let mut range = redis::cmd("LRANGE");
        let range = range.arg("sim:events").arg(0).arg(-1);
        let told: Vec<String> = range.query(&mut self.redis).unwrap();
        let _: Value = redis::cmd("DEL")
            .arg("sim:events")
            .query(&mut self.redis)
            .unwrap();
        for message in told {
            let message: Json = serde_json::from_str(&message).unwrap();
            let time = message["timestamp"].as_u64().unwrap();
            assert!(time > self.last, "times rise");
            self.last = time;
            let id = message["id"].as_str().unwrap().to_owned();
            let event = &message["event"];
            let connections = event["data"]["connections"].as_u64().unwrap();
            let was = match event["type"].as_str().unwrap() {
                "delete" => {
                    self.is_gone(&id);
                    self.shown.remove(&id).is_some()
                }
                "create" => self.shown.insert(id.clone(), connections).is_none(),
                _ => {
                    let was = self.shown.insert(id.clone(), connections);
                    was.is_some_and(|was| was != connections)
                }
            };
            assert!(was, "{id}: a change that is none: {message}");
        }
    }

    /// Nobody goes whom a host keeps that lives.
    fn is_gone(&mut self, id: &str) {
        let of: usize = id[1..].parse().unwrap();
        for host in &self.hosts {
            let mut score = redis::cmd("ZSCORE");
            let score = score.arg("iii-stream:runs").arg(&host.run);
            let lease: Option<f64> = score.query(&mut self.redis).unwrap();
            let lives = lease.is_some_and(|lease| lease > self.now as f64);
            assert!(!lives || !host.known.contains(&of), "{id} has a socket");
        }
    }

    fn come(&mut self, at: usize, of: usize) {
        let host = &mut self.hosts[at];
        if host.stands_still || host.is_ending {
            return;
        }
        let sockets = host.sockets.entry(of).or_default();
        *sockets += 1;
        let item = person(of).as_str().into();
        host.members.keep(key(), item, "{}".into(), *sockets);
    }

    fn go(&mut self, at: usize, of: usize) {
        let host = &mut self.hosts[at];
        if host.stands_still || host.is_ending {
            return;
        }
        let Some(sockets) = host.sockets.get_mut(&of) else {
            return;
        };
        *sockets -= 1;
        let left = *sockets;
        if left == 0 {
            host.sockets.remove(&of);
        }
        let item = person(of).as_str().into();
        host.members.keep(key(), item, "{}".into(), left);
    }

    /// What was sent may have been carried out or not; nobody hears.
    fn cut(&mut self, at: usize) {
        let len = self.hosts[at].under_way.len();
        for _ in 0..self.dice.below(len + 1) {
            self.carry_out(at);
        }
        let host = &mut self.hosts[at];
        host.under_way.clear();
        host.answers.clear();
        (host.is_connected, host.polls) = (false, false);
    }

    fn connect(&mut self, at: usize) {
        let now = self.at();
        let host = &mut self.hosts[at];
        if !host.is_connected && !host.stands_still {
            host.is_connected = true;
            host.poll_at = self.now;
            host.members.begin(now);
        }
    }

    fn step(&mut self) {
        let at = self.dice.below(HOSTS);
        let of = self.dice.below(PERSONS);
        match self.dice.below(100) {
            0..=19 => self.come(at, of),
            20..=36 => self.go(at, of),
            37..=38 => {
                self.cut(at);
                self.hosts[at] = self.host(at); // it is killed, and starts again
            }
            39 => {
                let now = self.at();
                self.hosts[at].members.end(now);
                self.hosts[at].is_ending = true;
                self.hosts[at].poll_at = self.now;
            }
            40 if self.hosts[at].is_ending => {
                self.cut(at);
                self.hosts[at] = self.host(at);
            }
            41..=43 => self.hosts[at].stands_still = true,
            44..=48 => self.hosts[at].stands_still = false,
            49 => self.cut(at),
            50 => (0..HOSTS).for_each(|at| self.cut(at)), // an outage
            51..=56 => self.connect(at),
            57..=66 => {
                let ms = [1, 50, 300, 1000, 4000][self.dice.below(5)];
                self.pass(ms);
            }
            67..=80 => self.send(at),
            81..=92 => {
                self.carry_out(at);
            }
            _ => {
                self.read(at);
            }
        }
        // Whoever stands well is not starved.
        if self.dice.below(3) == 0 {
            self.turn(at);
        }
    }

    fn turn(&mut self, at: usize) {
        self.send(at);
        while self.carry_out(at) || self.read(at) {}
    }

    /// Everybody is well again, for long enough.
    fn heal(&mut self) {
        for at in 0..HOSTS {
            self.hosts[at].stands_still = false;
            if self.hosts[at].is_ending {
                self.cut(at);
                self.hosts[at] = self.host(at);
            }
            self.connect(at);
        }
        let until = self.now + LEASE_MS + PATIENCE_MS + GRACE_MS + 4000;
        while self.now < until {
            self.pass(100);
            (0..HOSTS).for_each(|at| self.turn(at));
        }
    }

    fn check(&mut self) {
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for host in &self.hosts {
            for (of, sockets) in &host.sockets {
                *expected.entry(person(*of)).or_default() += u64::from(*sockets);
            }
        }
        assert_eq!(
            self.shown, expected,
            "members are the persons with a socket"
        );
        let mut ask = |words: &[&str]| -> Vec<String> {
            let mut command = Cmd::new();
            for word in words {
                command.arg(word);
            }
            command.query(&mut self.redis).unwrap()
        };
        let mut kept = ask(&["HKEYS", "iii-stream:members:stream:presence:room"]);
        kept.sort();
        assert_eq!(kept, expected.keys().cloned().collect::<Vec<_>>());
        assert!(ask(&["ZRANGE", "iii-stream:ends", "0", "-1"]).is_empty());
        assert_eq!(ask(&["ZRANGE", "iii-stream:runs", "0", "-1"]).len(), HOSTS);
        let runs = ask(&["KEYS", "iii-stream:run:*"]);
        let with_members = self.hosts.iter().filter(|host| !host.sockets.is_empty());
        assert_eq!(runs.len(), with_members.count(), "{runs:?}");
    }
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(seeds) = std::env::var("SEEDS") else {
        return 0..60;
    };
    let (from, to) = seeds.split_once("..").expect("SEEDS=a..b");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn members_are_the_persons_with_a_socket_whatever_becomes_of_hosts_and_of_redis() {
    let server = Server::start();
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(&server, seed);
            (0..STEPS).for_each(|_| world.step());
            world.heal();
            world.check();
        }));
        if let Err(panic) = outcome {
            eprintln!("SEEDS={seed}..{}", seed + 1);
            std::panic::resume_unwind(panic);
        }
    }
}
