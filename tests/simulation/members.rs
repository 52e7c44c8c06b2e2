//! Members against a model: sockets come and go, time passes, workers write and delete, the store refuses,
//! clocks step, and the process is killed and starts again with what the store has kept.
//!
//! The shard is the real one. The model is who has sockets, and since when somebody has none.

#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use iii_stream::id::{GroupKey, ItemId, SlotId, WorkerId};
use iii_stream::protocol::members::{IdPath, connections_in};
use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use iii_stream::shard::{
    Answer, Ask, Command, Decides, Delivered, Effects, Hold, Join, Learned, Lease, Request,
    RequestKind, Restored, Shard, ValueLimits, Verdict,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const GRACE_MS: u64 = 5_000;
const RESTART_MS: u64 = 20_000;
/// How late something may be done: the turns here are as far apart.
const LATE_MS: u64 = 1_000;
const PERSONS: [&str; 4] = ["ann", "bob", "cy", "dee"];

struct World {
    random: SmallRng,
    shard: Shard,
    /// What the store has accepted.
    log: Vec<Restored>,
    refuses: bool,
    uptime: u64,
    wall: u64,
    began: u64,
    next_socket: u32,
    sockets: BTreeMap<&'static str, BTreeSet<u32>>,
    /// Since when somebody has no socket, by uptime.
    alone: BTreeMap<&'static str, u64>,
    /// Whom a worker has deleted since its last join.
    away: BTreeSet<&'static str>,
    /// What a subscriber has made of what it heard.
    heard: BTreeMap<String, String>,
    /// A worker's delete is on its way.
    deletes: BTreeSet<&'static str>,
    /// The epoch that the store has refused last.
    void: Option<u32>,
}

fn key() -> GroupKey {
    GroupKey::new("presence", "room")
}

fn rules() -> Arc<StreamRules> {
    Arc::new(StreamRules::new(vec![StreamRule {
        streams: StreamPattern::read("presence").unwrap(),
        ttl: Ttl::NEVER,
        pace: Pace::NONE,
        members: Some(MembersRule {
            id: IdPath::read("context.id").unwrap(),
            data: None,
            grace_ms: GRACE_MS,
            restart_grace_ms: RESTART_MS,
        }),
    }]))
}

fn shard(wall: u64) -> Shard {
    let limits = ValueLimits {
        json_depth: 9,
        value_bytes: 9999,
    };
    let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
    shard.set_stream_rules(rules());
    shard.begin_at(wall);
    shard
}

impl World {
    fn new(seed: u64) -> World {
        let wall = 1_700_000_000_000;
        let mut world = World {
            random: SmallRng::seed_from_u64(seed),
            shard: shard(wall),
            log: Vec::new(),
            refuses: false,
            uptime: 0,
            wall,
            began: 0,
            next_socket: 0,
            sockets: BTreeMap::new(),
            alone: BTreeMap::new(),
            away: BTreeSet::new(),
            heard: BTreeMap::new(),
            deletes: BTreeSet::new(),
            void: None,
        };
        world.listen();
        world
    }

    fn listen(&mut self) {
        let name = SlotId {
            slot: 0,
            generation: 1,
        };
        self.ask(Ask::Join(Join {
            worker: WorkerId(0),
            local: name,
            connection: name,
            token: 0,
            item: None,
        }));
    }

    fn ask(&mut self, ask: Ask) {
        let mut out = Effects::default();
        let command = Command::Group { key: key(), ask };
        self.shard.apply(command, self.wall, &mut out);
        self.carry_out(out);
    }

    fn turn(&mut self) {
        let mut out = Effects::default();
        self.shard.set_uptime(self.uptime - self.began);
        self.shard.begin_turn(self.wall, &mut out);
        self.shard.do_due(self.wall, &mut out);
        self.carry_out(out);
        self.shard.check_invariants();
    }

    fn carry_out(&mut self, mut out: Effects) {
        loop {
            for delivery in out.deliveries.drain(..) {
                if let Delivered::Event(frame) = delivery.what {
                    self.hear(frame.text());
                }
            }
            let requests = std::mem::take(&mut out.requests);
            if requests.is_empty() {
                return;
            }
            for request in requests {
                // Behind a refusal everything of its epoch is refused unseen.
                let is_void = self.void.is_some_and(|epoch| request.epoch <= epoch);
                let refuses = is_void || (self.refuses && self.random.random_range(0..3) > 0);
                let verdict = match refuses {
                    true => Verdict::Refused("full".into()),
                    false => {
                        self.keep(&request);
                        Verdict::Accepted
                    }
                };
                if refuses {
                    self.void = self.void.max(Some(request.epoch));
                }
                let answer = Answer {
                    shard: request.shard,
                    epoch: request.epoch,
                    number: request.number,
                    verdict,
                };
                self.shard
                    .learn(Learned::Answer(answer), self.wall, &mut out);
                self.shard.check_invariants();
            }
        }
    }

    fn keep(&mut self, request: &Request) {
        let sequence = self.log.len() as u64 + 1;
        self.log.extend(match request.kind.clone() {
            RequestKind::Put {
                group,
                item,
                value,
                time,
                marks,
            } => Some(Restored::Put {
                sequence,
                key: group,
                item,
                value,
                time,
                marks,
            }),
            RequestKind::Remove { group, item, time } => Some(Restored::Remove {
                sequence,
                key: group,
                item,
                time,
            }),
            _ => None,
        });
    }

    /// Each change is heard once, and nobody is seen to leave who has not.
    fn hear(&mut self, text: &str) {
        let field = |name: &str, end: char| {
            let (_, rest) = text.split_once(name).unwrap();
            rest.split(end).next().unwrap().to_owned()
        };
        let (person, kind) = (field(r#""id":""#, '"'), field(r#""event":{"type":""#, '"'));
        let (_, data) = text.split_once(r#""data":"#).unwrap();
        let data = data.strip_suffix("}}").unwrap().to_owned();
        let known = self.heard.get(&person).cloned();
        match kind.as_str() {
            "create" => assert_eq!(known, None, "{text}"),
            _ => assert!(known.is_some(), "{text}"),
        }
        if kind == "update" {
            assert_ne!(known.as_ref(), Some(&data), "a change that is none: {text}");
        }
        if kind != "delete" {
            self.heard.insert(person, data);
            return;
        }
        self.heard.remove(&person);
        let person = PERSONS.into_iter().find(|known| *known == person).unwrap();
        if self.deletes.contains(person) {
            self.away.insert(person);
            return;
        }
        let alone = self.alone.get(person);
        let alone = alone.unwrap_or_else(|| panic!("{person} has a socket: {text}"));
        let passed = self.uptime - alone;
        assert!(passed >= GRACE_MS, "{person} may come back: {passed} ms");
    }

    fn pick(&mut self) -> &'static str {
        PERSONS[self.random.random_range(0..PERSONS.len())]
    }

    fn step(&mut self) {
        let person = self.pick();
        match self.random.random_range(0..20) {
            0..6 => self.come(person),
            6..11 => self.go(person),
            11..15 => {
                let ms = [10, 100, 900, 3_000, 6_000][self.random.random_range(0..5)];
                self.pass(ms);
            }
            15 => {
                self.wall = self
                    .wall
                    .saturating_add_signed([-4_000, 9_000][self.random.random_range(0..2)])
            }
            16 => {
                self.next_socket += 1; // no value comes twice
                let status = self.next_socket;
                self.ask(Ask::Set {
                    item: person.into(),
                    data: format!(r#"{{"status":{status}}}"#).into(),
                    ttl: None,
                    call: None,
                });
            }
            17 => {
                self.deletes.insert(person);
                self.ask(Ask::Delete {
                    item: person.into(),
                    call: None,
                });
                self.deletes.remove(person);
            }
            18 => {
                self.refuses = !self.refuses;
            }
            _ => self.restart(),
        }
        self.turn();
    }

    fn come(&mut self, person: &'static str) {
        let socket = self.next_socket;
        self.next_socket += 1;
        self.sockets.entry(person).or_default().insert(socket);
        self.alone.remove(person);
        self.away.remove(person);
        let hold = Hold {
            lease: lease(socket),
            id: ItemId::from(person),
            data: format!(r#"{{"name":"{person}"}}"#).into(),
        };
        self.ask(Ask::Hold(Box::new(hold)));
    }

    fn go(&mut self, person: &'static str) {
        let Some(sockets) = self.sockets.get_mut(person) else {
            return;
        };
        let Some(socket) = sockets.pop_first() else {
            return;
        };
        if sockets.is_empty() {
            self.sockets.remove(person);
            self.alone.insert(person, self.uptime);
        }
        let release = Ask::Release {
            lease: lease(socket),
            id: ItemId::from(person),
        };
        self.ask(release);
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(200) {
            self.uptime += 200;
            self.wall += 200;
            self.turn();
        }
    }

    /// The process is killed. Of those with a socket some come back, each with one.
    fn restart(&mut self) {
        self.refuses = false;
        self.void = None;
        self.began = self.uptime;
        self.shard = shard(self.wall);
        for restored in std::mem::take(&mut self.log) {
            self.shard.restore(copy(&restored));
            self.log.push(restored);
        }
        self.shard.restored(0);
        self.heard = self.items();
        self.listen();
        let there: Vec<&'static str> = self.sockets.keys().copied().collect();
        self.sockets.clear();
        for person in PERSONS {
            // Whoever left shortly before is given as long as all others.
            self.alone.insert(person, self.uptime);
        }
        for person in there {
            if self.random.random_range(0..3) > 0 {
                let heard = self.heard.get(person).cloned();
                self.come(person);
                if heard
                    .as_ref()
                    .is_some_and(|value| connections_in(value).is_some())
                {
                    assert_eq!(
                        self.heard.get(person),
                        heard.as_ref(),
                        "a return is no change"
                    );
                }
            }
        }
    }

    fn items(&self) -> BTreeMap<String, String> {
        let look = self.shard.items_of(&key(), 0, usize::MAX, usize::MAX);
        let items = look.map_or(Vec::new(), |look| look.items);
        items
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    /// When everything has had its time, members are the persons with a socket.
    fn settle(&mut self) {
        self.refuses = false;
        self.pass(RESTART_MS + GRACE_MS + 2 * LATE_MS);
        let items = self.items();
        assert_eq!(items, self.heard, "a subscriber knows what is there");
        for person in PERSONS {
            let sockets = self.sockets.get(person).map_or(0, BTreeSet::len);
            let there = items.get(person).and_then(|value| connections_in(value));
            if self.away.contains(person) || sockets == 0 {
                continue;
            }
            // A worker's set may say something else; the next change puts it right.
            let is_told = there.is_none_or(|told| told == sockets);
            assert!(
                items.contains_key(person) && is_told,
                "{person}: {sockets} {items:?}"
            );
        }
        for person in items.keys() {
            let is_there = self.sockets.contains_key(&**person);
            let by_worker =
                items[person].starts_with(r#"{"status""#) && !items[person].contains("\"id\"");
            assert!(is_there || by_worker, "a ghost: {person} {items:?}");
        }
    }
}

fn lease(socket: u32) -> Lease {
    Lease {
        worker: WorkerId((socket % 3) as u16),
        connection: SlotId {
            slot: socket,
            generation: 1,
        },
    }
}

fn copy(restored: &Restored) -> Restored {
    match restored {
        Restored::Put {
            sequence,
            key,
            item,
            value,
            time,
            marks,
        } => Restored::Put {
            sequence: *sequence,
            key: key.clone(),
            item: item.clone(),
            value: value.clone(),
            time: *time,
            marks: *marks,
        },
        Restored::Remove {
            sequence,
            key,
            item,
            time,
        } => Restored::Remove {
            sequence: *sequence,
            key: key.clone(),
            item: item.clone(),
            time: *time,
        },
        Restored::Piece { .. } => unreachable!("there is no snapshot"),
    }
}

#[test]
fn members_are_the_persons_with_a_socket_and_each_change_is_heard_once() {
    for seed in super::seeds(60) {
        eprintln!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..4 {
            for _ in 0..60 {
                world.step();
            }
            world.settle();
        }
    }
}
