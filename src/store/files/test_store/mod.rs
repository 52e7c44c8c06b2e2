//! The store with real shards on a disk that fails: what was accepted is found again, nothing that
//! was refused is, and order within a group holds, whatever happens when.

use std::collections::{BTreeMap, VecDeque};

mod damage;
mod ours;
mod power;
mod small;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::test_disk::TestDisk;
use super::*;
use crate::config::FileStore;
use crate::id::{CallId, GroupKey, Text};
use crate::protocol::answer::Outcome;
use crate::shard::{
    Ask, Command, Delivered, Effects, Join, Restored, Shard, SliceLimits, ValueLimits,
};

const CALL: CallId = CallId {
    slot: 0,
    generation: 0,
};

fn keys() -> [GroupKey; 4] {
    [("s", "a"), ("s", "b"), ("a", "b:c"), ("a:b", "c")].map(|(s, g)| GroupKey::new(s, g))
}

fn settings(fsync: Fsync) -> FileStore {
    FileStore {
        fsync,
        segment_bytes: 700,
        ..FileStore::at("disk")
    }
}

/// Items in order, by group: what the store has accepted.
type Values = BTreeMap<GroupKey, Vec<(String, String)>>;

#[derive(Default)]
struct Model {
    values: Values,
    times: BTreeMap<GroupKey, u64>,
    /// All that a group has been, in order.
    states: BTreeMap<GroupKey, Vec<Vec<(String, String)>>>,
    /// What a subscriber heard, by stream and group.
    heard: BTreeMap<(String, String), Heard>,
}

/// The latest times that were told.
#[derive(Debug, Default)]
struct Heard {
    last: u64,
    event: u64,
}

impl Model {
    fn accept(&mut self, kind: &RequestKind) {
        let (group, time) = match kind {
            RequestKind::Put { group, time, .. } | RequestKind::Remove { group, time, .. } => {
                (group, *time)
            }
            RequestKind::Times { .. } | RequestKind::Decide(_) => return,
        };
        let last = self.times.insert(group.clone(), time);
        assert!(last < Some(time), "times rise within a group");
        let items = self.values.entry(group.clone()).or_default();
        match kind {
            RequestKind::Put { item, value, .. } => {
                let known = items.iter_mut().find(|(name, _)| **name == **item);
                match known {
                    Some((_, known)) => *known = value.to_string(),
                    None => items.push((item.to_string(), value.to_string())),
                }
            }
            _ => {
                let RequestKind::Remove { item, .. } = kind else {
                    return;
                };
                items.retain(|(name, _)| **name != **item);
            }
        }
        let states = self.states.entry(group.clone()).or_default();
        states.push(items.clone());
    }

    /// The machine lost its power. Of each group an earlier state may be there, never a mixture.
    fn lose(&mut self, found: Values) {
        for key in keys() {
            let now = found.get(&key).cloned().unwrap_or_default();
            let states = self.states.remove(&key).unwrap_or_default();
            assert!(now.is_empty() || states.contains(&now), "{key:?}: {now:?}");
            self.states.insert(key, vec![now]);
        }
        self.values = found;
        self.times.clear();
        self.heard.clear();
    }

    /// What subscribers are told: times rise over every restart.
    fn hear(&mut self, out: &Effects) {
        for delivery in &out.deliveries {
            let text = match &delivery.what {
                Delivered::Afresh(_) => unreachable!("files have no channel"),
                Delivered::Event(frame) => frame.text().to_owned(),
                Delivered::Entered { sync, .. } => {
                    let sync = sync.as_ref().unwrap();
                    let bytes = sync.pieces_from(0).collect::<Vec<_>>().concat();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            let field = |name: &str, end: char| {
                let (_, rest) = text.split_once(name).unwrap();
                rest.split(end).next().unwrap().to_owned()
            };
            let time: u64 = field("\"timestamp\":", ',').parse().unwrap();
            let group = (
                field("\"streamName\":\"", '"'),
                field("\"groupId\":\"", '"'),
            );
            let heard = self.heard.entry(group).or_default();
            if text.contains(r#""type":"sync""#) {
                let least = heard.event + u64::from(!text.contains(r#""id":null"#));
                assert!(least <= time, "{heard:?} {text}");
            } else {
                assert!(heard.last < time, "{heard:?} {text}");
                heard.event = time;
            }
            heard.last = heard.last.max(time);
        }
    }

    fn last_time(&self) -> u64 {
        let times = self.heard.values().map(|heard| heard.last);
        times.max().unwrap_or(0)
    }

    fn values(&self) -> Values {
        let mut values = self.values.clone();
        values.retain(|_, items| !items.is_empty());
        values
    }
}

enum ToShard {
    Learned(Vec<Learned>),
    Slice(Cursor),
}

enum ToStore {
    Requests(Vec<Request>),
    Slice(WorkerId, Slice),
}

struct World {
    disk: TestDisk,
    settings: FileStore,
    shards: Vec<Shard>,
    files: Files,
    to_shards: Vec<VecDeque<ToShard>>,
    to_store: VecDeque<ToStore>,
    /// What the store has not answered.
    asked: Vec<Request>,
    /// Of that, the batch that it has tried to write.
    doubtful: Vec<Request>,
    model: Model,
    now: u64,
}

fn start(
    disk: &TestDisk,
    settings: &FileStore,
    workers: usize,
) -> Result<(Files, Vec<Shard>), StoreError> {
    start_locked(disk.clone(), settings, workers)
}

fn start_locked(
    disk: TestDisk,
    settings: &FileStore,
    workers: usize,
) -> Result<(Files, Vec<Shard>), StoreError> {
    let limits = ValueLimits {
        json_depth: 9,
        value_bytes: 999,
    };
    let shard = |n| Shard::new(WorkerId(n as u16), Decides::Owner, limits);
    let mut shards: Vec<Shard> = (0..workers).map(shard).collect();
    let mut restore = |restored: Restored| {
        let owner = owner_of(restored.key(), workers);
        shards[owner].restore(restored);
    };
    let disk = Box::new(disk);
    let mut started = Files::on(disk, settings, workers, &mut restore)?;
    // The same seed has to be the same run, whatever the clock says.
    started.files.slice_rest = Duration::ZERO;
    for shard in &mut shards {
        shard.restored(started.time);
        shard.keep_times_from(started.time);
        shard.check_invariants();
    }
    Ok((started.files, shards))
}

fn owner_of(key: &GroupKey, workers: usize) -> usize {
    key.joined().len() % workers
}

/// What the shards would list.
fn listed(shards: &mut [Shard]) -> Values {
    let mut values = Values::new();
    for key in keys() {
        let shard = &mut shards[owner_of(&key, shards.len())];
        let slice = whole(shard);
        let items = slice.into_iter().filter(|(found, _)| *found == key);
        let items: Vec<_> = items.flat_map(|(_, items)| items).collect();
        let list = ask(shard, &key, Ask::List { call: CALL });
        let Some(Outcome::List(chunks)) = list.replies.first().map(|reply| &reply.outcome) else {
            unreachable!("a list is answered at once")
        };
        let text: String = chunks.iter().map(|chunk| &**chunk).collect();
        let expected: String = items.iter().map(|(_, value)| format!(",{value}")).collect();
        assert_eq!(text, expected, "slices hold what lists do");
        if !items.is_empty() {
            values.insert(key, items);
        }
    }
    values
}

type Named = (GroupKey, Vec<(String, String)>);

fn whole(shard: &Shard) -> Vec<Named> {
    let limits = SliceLimits {
        items: 99,
        bytes: 9_999_999,
        groups: 99,
    };
    let owned = |(name, value): (Box<str>, Text)| (name.to_string(), value.to_string());
    let pieces = shard.slice(Cursor::default(), limits).pieces.into_iter();
    pieces
        .map(|piece| (piece.key, piece.items.into_iter().map(owned).collect()))
        .collect()
}

fn ask(shard: &mut Shard, key: &GroupKey, ask: Ask) -> Effects {
    let mut out = Effects::default();
    let key = key.clone();
    shard.begin_turn(0, &mut out);
    shard.apply(Command::Group { key, ask }, 0, &mut out);
    out
}

impl World {
    fn new(disk: TestDisk, settings: FileStore, workers: usize) -> World {
        World::with(disk.clone(), disk, settings, workers)
    }

    fn new_locked(lock: TestDisk, disk: TestDisk, settings: FileStore) -> World {
        World::with(lock, disk, settings, 1)
    }

    /// `lock`: what has the lock of the disk, if anything has.
    fn with(lock: TestDisk, disk: TestDisk, settings: FileStore, workers: usize) -> World {
        let (files, shards) = start_locked(lock, &settings, workers).unwrap();
        World {
            to_shards: shards.iter().map(|_| VecDeque::new()).collect(),
            disk,
            settings,
            shards,
            files,
            to_store: VecDeque::new(),
            asked: Vec::new(),
            doubtful: Vec::new(),
            model: Model::default(),
            now: 1000,
        }
    }

    /// The process ended; what the disk holds is loaded, by as many workers.
    fn restart(&mut self, disk: TestDisk, workers: usize) {
        let (files, mut shards) = start(&disk, &self.settings, workers).unwrap();
        let found = listed(&mut shards);
        if found != self.model.values() {
            // Of what nobody was told the outcome of, the whole batch may be there.
            let batch = std::mem::take(&mut self.doubtful);
            batch
                .iter()
                .for_each(|asked| self.model.accept(&asked.kind));
        }
        assert_eq!(found, self.model.values());
        self.go_on(disk, files, shards);
    }

    /// A start on a disk that may have lost what was not synced.
    fn restart_with_less(&mut self, disk: TestDisk, workers: usize) {
        let (files, mut shards) = start(&disk, &self.settings, workers).unwrap();
        let batch = std::mem::take(&mut self.doubtful);
        batch
            .iter()
            .for_each(|asked| self.model.accept(&asked.kind));
        self.model.lose(listed(&mut shards));
        self.go_on(disk, files, shards);
    }

    fn go_on(&mut self, disk: TestDisk, files: Files, shards: Vec<Shard>) {
        self.asked.clear();
        self.doubtful.clear();
        self.disk = disk;
        self.to_shards = shards.iter().map(|_| VecDeque::new()).collect();
        self.to_store.clear();
        self.files = files;
        self.shards = shards;
    }

    /// A subscriber joins an item, or a custom event is sent: either bears a time without a write.
    fn stamp(&mut self, key: &GroupKey, joins: bool) {
        let ask = match joins {
            true => Ask::Join(Join {
                worker: WorkerId(0),
                local: CALL,
                connection: CALL,
                token: 0,
                item: Some("i0".into()),
            }),
            false => Ask::Send {
                id: None,
                kind: "k".into(),
                data: "1".into(),
                call: None,
            },
        };
        self.apply(key, ask);
    }

    fn apply(&mut self, key: &GroupKey, ask: Ask) {
        let owner = owner_of(key, self.shards.len());
        let mut out = Effects::default();
        let key = key.clone();
        self.shards[owner].apply(Command::Group { key, ask }, self.now, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, out: Effects) {
        self.model.hear(&out);
        if !out.requests.is_empty() {
            self.to_store.push_back(ToStore::Requests(out.requests));
        }
    }

    fn change(&mut self, key: &GroupKey, item: &str, value: Option<String>) {
        let ask = match value {
            Some(value) => Ask::Set {
                item: item.into(),
                data: value.into(),
                call: Some(CALL),
            },
            None => Ask::Delete {
                item: item.into(),
                call: Some(CALL),
            },
        };
        self.apply(key, ask);
    }

    /// Takes so many messages. Whether everything was accepted.
    fn turn_of_store(&mut self, messages: usize) -> bool {
        let mut requests = Vec::new();
        for _ in 0..messages {
            match self.to_store.pop_front() {
                Some(ToStore::Requests(batch)) => requests.extend(batch),
                Some(ToStore::Slice(shard, slice)) => self.files.take_slice(shard, slice),
                None => break,
            }
        }
        let mut learned = Vec::new();
        self.files.serve(requests.clone(), &mut learned);
        let mut all_accepted = true;
        let mut asks = Vec::new();
        let mut later = Vec::new();
        self.files.tend(&mut asks, &mut later);
        self.asked.extend(requests);
        for learned in learned.into_iter().chain(later) {
            let Learned::Answer(answer) = learned else {
                continue;
            };
            let is_it =
                |asked: &Request| (asked.shard, asked.number) == (answer.shard, answer.number);
            let at = self.asked.iter().position(is_it).unwrap();
            let request = self.asked.remove(at);
            match answer.verdict {
                Verdict::Accepted => self.model.accept(&request.kind),
                _ => all_accepted = false,
            }
            let shard = answer.shard.index();
            let learned = vec![Learned::Answer(answer)];
            self.to_shards[shard].push_back(ToShard::Learned(learned));
        }
        // What comes behind an undecided batch is never written.
        if self.asked.is_empty() || self.doubtful.is_empty() {
            self.doubtful.clone_from(&self.asked);
        }
        all_accepted &= self.asked.is_empty();
        for (shard, cursor, _) in asks {
            self.to_shards[shard.index()].push_back(ToShard::Slice(cursor));
        }
        all_accepted
    }

    fn turn_of_shard(&mut self, shard: usize, messages: usize, limits: SliceLimits) {
        for _ in 0..messages {
            match self.to_shards[shard].pop_front() {
                Some(ToShard::Learned(learned)) => {
                    for learned in learned {
                        let mut out = Effects::default();
                        self.shards[shard].learn(learned, self.now, &mut out);
                        self.perform(out);
                    }
                }
                Some(ToShard::Slice(cursor)) => {
                    let slice = self.shards[shard].slice(cursor, limits);
                    let worker = WorkerId(shard as u16);
                    self.to_store.push_back(ToStore::Slice(worker, slice));
                }
                None => break,
            }
        }
    }

    /// One turn of the store, and what follows.
    fn settle_once(&mut self) -> bool {
        self.turn_of_store(1) & self.settle()
    }

    /// Everything that waits is served.
    fn settle(&mut self) -> bool {
        let limits = SliceLimits {
            items: 2,
            bytes: 40,
            groups: 2,
        };
        let mut all_accepted = true;
        self.disk.end_syncs();
        let mut turns_idle = 0;
        while turns_idle < TURNS_OF_AN_END {
            let is_idle = self.to_store.is_empty() && self.to_shards.iter().all(VecDeque::is_empty);
            turns_idle = if is_idle { turns_idle + 1 } else { 0 };
            all_accepted &= self.turn_of_store(3);
            self.disk.end_syncs();
            for shard in 0..self.shards.len() {
                self.turn_of_shard(shard, 3, limits);
            }
        }
        all_accepted
    }
}

/// The end of a snapshot: it is synced, the log is, it is named, its name is synced.
const TURNS_OF_AN_END: usize = 5;

fn random_change(world: &mut World, random: &mut SmallRng, step: usize) {
    let key = keys()[random.random_range(0..4)].clone();
    let item = format!("i{}", random.random_range(0..6));
    let value = random
        .random_bool(0.65)
        .then(|| format!("\"{step} {}\"", "x".repeat(random.random_range(0..30))));
    world.change(&key, &item, value);
}

/// Whatever a disk does, and however the process or the machine ends.
fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let fsync = [Fsync::Always, Fsync::Interval, Fsync::Never][random.random_range(0..3)];
    let workers = random.random_range(1..4);
    let hours = random.random_range(0..2);
    let settings = FileStore {
        save_interval: Duration::from_secs(3600 * hours),
        ..settings(fsync)
    };
    let mut world = World::new(TestDisk::default(), settings, workers);
    let (fails, syncs_wait) = (random.random_bool(0.5), random.random_bool(0.5));
    for step in 0..400 {
        world.disk.syncs_wait(syncs_wait);
        if random.random_bool(0.05) {
            world.disk.end_syncs();
        }
        world.now = world
            .now
            .saturating_add_signed(random.random_range(-20..40));
        match random.random_range(0..100) {
            0..34 => random_change(&mut world, &mut random, step),
            34..40 => {
                let key = keys()[random.random_range(0..4)].clone();
                world.stamp(&key, random.random_bool(0.6));
            }
            40..65 => {
                let messages = random.random_range(1..6);
                world.turn_of_store(messages);
            }
            65..90 => {
                let limits = SliceLimits {
                    items: random.random_range(1..4),
                    bytes: random.random_range(1..60),
                    groups: random.random_range(1..4),
                };
                let shard = random.random_range(0..world.shards.len());
                let messages = random.random_range(1..8);
                world.turn_of_shard(shard, messages, limits);
            }
            90..94 if fails => {
                world.disk.syncs_work();
                let room = random.random_bool(0.5);
                world.disk.room(room.then(|| random.random_range(0..300)));
                world.disk.cuts_fail(random.random_bool(0.2));
                world.disk.creations_fail(random.random_bool(0.2));
            }
            94..96 if fails && fsync != Fsync::Never => {
                world.disk.fail_sync_after(random.random_range(0..3));
            }
            96..98 => {
                let workers = random.random_range(1..4);
                if fsync == Fsync::Interval && !fails && random.random_bool(0.5) {
                    let lost = match random.random_bool(0.5) {
                        true => world
                            .disk
                            .after_power_loss(|more| random.random_range(0..=more)),
                        false => world.disk.after_blocks_lost(|| random.random_bool(0.5)),
                    };
                    world.restart_with_less(lost, workers);
                    continue;
                }
                let disk = match fsync {
                    Fsync::Always if random.random_bool(0.5) => {
                        world.disk.after_blocks_lost(|| random.random_bool(0.5))
                    }
                    _ => world.disk.copy(),
                };
                if fails {
                    // A disk that refuses times holds no joins up.
                    world.model.heard.clear();
                }
                world.restart(disk, workers);
            }
            98 => {
                world.disk.room(None);
                world.disk.cuts_fail(false);
                world.disk.creations_fail(false);
                world.settle();
                world.disk.syncs_wait(false);
                world.disk.end_syncs();
                world.files.close();
                // What a failed sync has left in doubt may be lost with the power, until it is
                // written anew.
                let disk = match fails {
                    true => world.disk.copy(),
                    false => world.disk.after_power_loss(|_| 0),
                };
                if fails {
                    world.model.heard.clear();
                }
                world.restart(disk, workers);
            }
            _ => {}
        }
    }
    world.disk.room(None);
    world.disk.cuts_fail(false);
    world.disk.creations_fail(false);
    world.settle_once();
    assert_eq!(listed(&mut world.shards), world.model.values());
    world.restart(world.disk.copy(), workers);
}

#[test]
fn what_was_accepted_is_found_again_and_nothing_that_was_refused() {
    let one = std::env::var("STORE_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..400,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("STORE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A store with some batches; the last one alone is in the last part of its log.
fn with_batches() -> (World, Values, usize) {
    let quiet = FileStore {
        segment_bytes: 1 << 20,
        ..settings(Fsync::Interval)
    };
    let mut world = World::new(TestDisk::default(), quiet, 2);
    let [a, b, ..] = keys();
    for n in 0..3 {
        world.change(&a, &format!("i{n}"), Some(format!("{n}")));
        world.change(&b, "i", Some(format!("\"{n}\"")));
        world.settle();
    }
    let before = world.model.values();
    let whole = world.disk.read(LOG).len();
    world.change(&a, "i0", None);
    world.change(&a, "i1", Some("[1]".to_owned()));
    world.change(&b, "new", Some("{}".to_owned()));
    world.turn_of_store(9);
    (world, before, whole)
}

const LOG: &str = "00000000000000000001.log";

#[test]
fn a_batch_that_was_cut_off_at_any_byte_is_gone_whole_and_kept_aside() {
    let (world, before, whole) = with_batches();
    let bytes = world.disk.read(LOG);
    for len in whole..=bytes.len() {
        let disk = TestDisk::default();
        disk.put(LOG, bytes[..len].to_vec());
        let (_, mut shards) = start(&disk, &world.settings, 3).unwrap();
        if len == bytes.len() {
            assert_eq!(listed(&mut shards), world.model.values());
            continue;
        }
        assert_eq!(listed(&mut shards), before, "cut to {len}");
        assert_eq!(disk.read(LOG), &bytes[..whole]);
        if len > whole {
            let aside = format!("{LOG}.torn-at-{whole}");
            assert_eq!(disk.read(&aside), &bytes[whole..len]);
            // It happens again at the same place.
            disk.put(LOG, bytes[..len].to_vec());
            start(&disk, &world.settings, 3).unwrap();
            assert_eq!(disk.read(&format!("{aside}-2")), &bytes[whole..len]);
        }
    }
}

#[test]
fn a_changed_bit_is_never_taken_for_a_value() {
    let (world, ..) = with_batches();
    let bytes = world.disk.read(LOG);
    let mut prefixes = Vec::new();
    for len in 0..=bytes.len() {
        let disk = TestDisk::default();
        disk.put(LOG, bytes[..len].to_vec());
        if let Ok((_, mut shards)) = start(&disk, &world.settings, 1) {
            prefixes.push(listed(&mut shards));
        }
    }
    let mut refused = 0;
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let disk = TestDisk::default();
        disk.put(LOG, changed.clone());
        match start(&disk, &world.settings, 1) {
            Ok((_, mut shards)) => assert!(prefixes.contains(&listed(&mut shards)), "bit {bit}"),
            Err(error) => {
                refused += 1;
                assert_eq!(disk.read(LOG), changed, "a refusal changes nothing");
                let error = error.to_string();
                let names = error.contains(LOG) && error.contains("iii-stream recover --data disk");
                assert!(names || error.contains("newer version"), "{error}");
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_write_refused_at_any_byte_leaves_nothing_and_the_next_one_works() {
    for room in 0.. {
        let (mut world, ..) = with_batches();
        let [a, ..] = keys();
        world.settle();
        let before = world.model.values();
        world.disk.room(Some(room));
        world.change(&a, "i1", Some("\"refused\"".to_owned()));
        world.change(&a, "i9", Some("\"refused\"".to_owned()));
        let fits = world.settle();
        if fits {
            assert!(room > 100);
            return;
        }
        assert_eq!(listed(&mut world.shards), before);
        let (_, mut shards) = start(&world.disk.copy(), &world.settings, 2).unwrap();
        assert_eq!(listed(&mut shards), before, "room for {room}");
        world.disk.room(None);
        world.change(&a, "i1", Some("\"good\"".to_owned()));
        assert!(world.settle());
        assert_eq!(listed(&mut world.shards), world.model.values());
        world.restart(world.disk.copy(), 1);
    }
}

#[test]
fn a_segment_that_cannot_be_cut_back_is_closed_where_the_batch_began() {
    let (mut world, ..) = with_batches();
    let [a, ..] = keys();
    world.settle();
    world.disk.cuts_fail(true);
    world.disk.room(Some(20));
    world.change(&a, "i1", Some("\"refused\"".to_owned()));
    assert!(!world.settle());
    world.disk.room(None);
    world.change(&a, "i1", Some("\"good\"".to_owned()));
    assert!(world.settle());
    let logs = names_with(&world.disk, ".log");
    assert_eq!(logs.len(), 2, "{logs:?}");
    world.restart(world.disk.copy(), 1);
}

#[test]
fn after_a_sync_that_failed_all_is_written_anew() {
    let always = FileStore {
        segment_bytes: 1 << 20,
        ..settings(Fsync::Always)
    };
    let mut world = World::new(TestDisk::default(), always, 1);
    let [a, b, ..] = keys();
    world.change(&a, "kept", Some("1".to_owned()));
    assert!(world.settle());
    world.disk.fail_sync_after(0);
    world.change(&a, "lost", Some("2".to_owned()));
    assert!(!world.settle(), "the batch is refused");
    world.change(&b, "more", Some("3".to_owned()));
    assert!(world.settle());
    let names = world.disk.names();
    assert!(
        names.iter().any(|name| name.ends_with(".snapshot")) && !names.contains(&LOG.to_owned()),
        "{names:?}"
    );
    world.restart(world.disk.after_power_loss(|_| 0), 1);
}

#[test]
fn what_a_dead_disk_may_still_hold_is_not_refused_before_the_log_says_so() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Always), 1);
    let [a, b, ..] = keys();
    world.change(&a, "kept", Some("1".to_owned()));
    assert!(world.settle());
    world.disk.fail_sync_after(0);
    world.disk.cuts_fail(true);
    world.disk.creations_fail(true);
    world.change(&a, "doubtful", Some("2".to_owned()));
    assert!(!world.settle());
    world.change(&b, "behind", Some("3".to_owned()));
    assert!(!world.settle());
    assert_eq!(world.asked.len(), 2, "nobody is told anything");
    assert!(world.files.is_stuck(), "nothing more is handed to it");
    // Killed now, whole batch and all: it is there, and nobody was told that it is not.
    let (_, mut shards) = start(&world.disk.copy(), &world.settings, 1).unwrap();
    assert_eq!(listed(&mut shards)[&a].len(), 2);
    world.disk.creations_fail(false);
    assert!(!world.settle_once(), "both are refused");
    assert!(world.asked.is_empty() && !world.files.is_stuck());
    world.change(&a, "good", Some("4".to_owned()));
    assert!(world.settle());
    world.restart(world.disk.copy(), 1);
    world.restart(world.disk.after_power_loss(|more| more), 1);
}

#[test]
fn what_somebody_else_takes_away_while_it_runs_is_written_anew() {
    for fault in ["none", "removed", "cut", "removed before it is closed"] {
        let (mut world, ..) = with_batches();
        world.settle();
        match fault {
            "none" => {}
            "cut" => {
                let len = world.disk.read(LOG).len() as u64;
                world.disk.reopen(LOG).unwrap().cut(len - 1).unwrap();
            }
            _ => world.disk.remove(LOG).unwrap(),
        }
        if fault.contains("closed") {
            world.files.log.roll(&mut world.files.disk).unwrap();
        }
        world.change(&keys()[2], "after", Some("1".to_owned()));
        world.settle();
        world.files.check_at = Some(Instant::now());
        world.settle_once();
        assert!(world.settle());
        let names = world.disk.names();
        let snapshots = names.iter().filter(|name| name.ends_with(".snapshot"));
        assert_eq!(
            snapshots.count(),
            usize::from(fault != "none"),
            "{fault}: {names:?}"
        );
        world.restart(world.disk.copy(), 1);
    }
}

/// With a snapshot, and something in the log behind it.
fn with_snapshot() -> World {
    let (mut world, ..) = with_batches();
    world.settle();
    make_snapshot(&mut world);
    world
}

fn make_snapshot(world: &mut World) {
    world.files.is_to_write_anew = true;
    world.settle_once();
    world.settle();
    world.change(&keys()[2], "behind", Some("1".to_owned()));
    world.settle();
}

fn names_with(disk: &TestDisk, end: &str) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.ends_with(end));
    names
}

#[test]
fn a_snapshot_that_somebody_else_takes_away_is_written_anew() {
    let mut world = with_snapshot();
    let snapshot = names_with(&world.disk, ".snapshot").remove(0);
    world.disk.remove(&snapshot).unwrap();
    world.files.check_at = Some(Instant::now());
    world.settle_once();
    world.settle();
    assert_eq!(names_with(&world.disk, ".snapshot").len(), 1);
    world.restart(world.disk.copy(), 1);
}

#[test]
fn a_log_that_stood_behind_a_snapshot_is_missed() {
    let mut world = with_snapshot();
    let log = names_with(&world.disk, ".log").remove(0);
    let mut without = world.disk.copy();
    without.remove(&log).unwrap();
    let error = start(&without, &world.settings, 1)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with(&format!("disk/{log}: missing")),
        "{error}"
    );
    // A head that a loss of power has left half written is no such case, at the first start or the next.
    let mut torn = world.disk.copy();
    torn.reopen(&log).unwrap().cut(7).unwrap();
    for _ in 0..2 {
        assert!(start(&torn, &world.settings, 1).is_ok());
    }
    world.restart(world.disk.copy(), 1);
}

/// A snapshot was made and is damaged before the segments that it stands for were removed.
#[test]
fn what_a_damaged_snapshot_has_lost_is_taken_from_the_log() {
    let (mut world, ..) = with_batches();
    world.settle();
    let earlier = world.disk.read(LOG);
    make_snapshot(&mut world);
    let snapshot = names_with(&world.disk, ".snapshot").remove(0);
    let disk = world.disk.copy();
    disk.put(LOG, earlier);
    world.restart(disk.copy(), 1);
    disk.put(&snapshot, Vec::new());
    let mut found = Values::new();
    let offline = offline::Offline::read(&disk).unwrap();
    assert!(!offline.losses.is_empty());
    let text = |(name, value): &(Box<str>, Text)| (name.to_string(), value.to_string());
    let each = offline.each_group(|key, items| {
        found.insert(key.clone(), items.iter().map(text).collect());
        Ok(())
    });
    each.unwrap();
    let mut expected = world.model.values();
    expected.retain(|_, items| !items.is_empty());
    assert_eq!(found, expected);
}

#[test]
fn numbers_that_are_never_reached_are_nobodys() {
    let (mut world, ..) = with_batches();
    world.settle();
    let disk = world.disk.copy();
    for name in ["18446744073709551615.log", "18446744073709551615.snapshot"] {
        disk.put(name, world.disk.read(LOG));
    }
    world.restart(disk, 1);
}

#[test]
fn the_end_is_synced_also_where_nothing_more_can_be_written() {
    let (mut world, ..) = with_batches();
    world.settle();
    world.disk.room(Some(0));
    world.files.close();
    world.restart(world.disk.after_power_loss(|_| 0), 1);
}

#[test]
fn a_turn_is_one_write_whatever_it_holds() {
    let (mut world, ..) = with_batches();
    world.settle();
    let before = world.disk.writes();
    for n in 0..50 {
        world.change(&keys()[n % 4], &format!("i{n}"), Some("1".to_owned()));
    }
    world.turn_of_store(50);
    assert_eq!(world.disk.writes(), before + 1);
}

#[test]
fn old_segments_and_snapshots_go_when_a_newer_snapshot_holds_them() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 2);
    let mut random = SmallRng::seed_from_u64(1);
    for step in 0..3000 {
        random_change(&mut world, &mut random, step);
        world.settle();
    }
    let names = world.disk.names();
    let bytes: usize = names.iter().map(|name| world.disk.read(name).len()).sum();
    assert!(
        names.len() < 8 && bytes < 6000,
        "{names:?} of {bytes} bytes"
    );
}

#[test]
fn times_without_a_write_rise_over_a_kill_when_the_clock_has_stepped_back() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 2);
    let [a, b, ..] = keys();
    for round in 0..20_u64 {
        world.now = 1_000_000 + round * 7;
        for _ in 0..5 {
            world.stamp(&a, true);
            world.stamp(&a, false);
            world.stamp(&b, true);
            world.settle();
        }
        let told = world.model.last_time();
        world.now = 5;
        world.restart(world.disk.copy(), 1 + round as usize % 3);
        world.stamp(&a, true); // the model checks each time
        world.settle();
        let next = world.model.last_time();
        assert!(
            next > told && next <= told + 1000,
            "{next} is far beyond {told}"
        );
    }
}

#[test]
fn an_idle_store_keeps_no_more_times() {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Interval), 1);
    let [a, ..] = keys();
    world.stamp(&a, true);
    world.settle();
    let writes = world.disk.writes();
    for _ in 0..100 {
        world.now += 1;
        world.stamp(&a, true);
        world.settle();
    }
    assert_eq!(world.disk.writes(), writes, "what was kept lasts");
    for _ in 0..100 {
        world.settle();
    }
    assert_eq!(world.disk.writes(), writes);
}

#[test]
fn times_rise_over_a_restart_when_the_clock_has_stepped_back() {
    let (mut world, ..) = with_batches();
    let [a, ..] = keys();
    world.settle();
    for item in ["i0", "i1", "i2"] {
        world.change(&a, item, None);
    }
    world.settle();
    world.now = 5; // the model checks each accepted time
    world.restart(world.disk.copy(), 1);
    world.change(&a, "i", Some("1".to_owned()));
    world.settle();
    world.files.close();
    world.restart(world.disk.copy(), 2);
    world.now = 5;
    let mut out = Effects::default();
    let (key, call) = (GroupKey::new("s", "another"), Some(CALL));
    let (item, data) = ("i".into(), "1".into());
    let ask = Ask::Set { item, data, call };
    world.shards[0].apply(Command::Group { key, ask }, 5, &mut out);
    let Some(RequestKind::Put { time, .. }) = out.requests.first().map(|request| &request.kind)
    else {
        unreachable!("a set asks for a put")
    };
    assert!(*time > 1_000_000_000_000, "above the time of the close");
}

#[test]
fn numbers_that_a_snapshot_holds_are_not_given_out_anew_when_the_end_of_the_log_is_lost() {
    for bytes_left in [head::HEAD_BYTES, 7] {
        lose_the_end_of_the_log(bytes_left);
    }
}

fn lose_the_end_of_the_log(bytes_left: usize) {
    let mut world = World::new(TestDisk::default(), settings(Fsync::Never), 1);
    let write = |world: &mut World, value: u32| {
        for key in keys() {
            world.change(&key, "i", Some(value.to_string()));
            world.turn_of_store(1);
        }
    };
    let is_asked = |world: &World| {
        let mut queue = world.to_shards[0].iter();
        queue.any(|message| matches!(message, ToShard::Slice(_)))
    };
    for value in 0.. {
        write(&mut world, value);
        if is_asked(&world) {
            break;
        }
        world.settle();
    }
    // While the snapshot is made more is written, and each slice holds all of it.
    write(&mut world, 1_000);
    world.settle();
    let disk = world.disk.copy();
    let mut names = disk.names();
    names.retain(|name| name != identity::NAME);
    assert_eq!(names.len(), 2, "{names:?}");
    let log = names.iter().find(|name| name.ends_with(".log")).unwrap();
    disk.put(log, disk.read(log)[..bytes_left].to_vec());
    world.restart_with_less(disk, 1);
    assert!(!world.model.values().is_empty());
    write(&mut world, 2_000);
    world.settle();
    world.restart(world.disk.copy(), 1);
}

#[test]
fn a_group_that_a_snapshot_holds_in_parts_of_several_times_is_whole_after_a_loss_of_power() {
    let seldom_synced = FileStore {
        save_interval: Duration::from_secs(3600),
        ..settings(Fsync::Interval)
    };
    let mut world = World::new(TestDisk::default(), seldom_synced, 1);
    let [a, ..] = keys();
    let write = |world: &mut World, value: u32| {
        for item in 0..6 {
            world.change(&a, &format!("i{item}"), Some(value.to_string()));
        }
        world.turn_of_store(9);
    };
    let limits = SliceLimits {
        items: 1,
        bytes: 99,
        groups: 9,
    };
    for value in 0..200 {
        write(&mut world, value);
        world.turn_of_shard(0, 9, limits);
        let lost = world.disk.after_power_loss(|_| 0);
        let (_, mut shards) = start(&lost, &world.settings, 1).unwrap();
        let found = listed(&mut shards).remove(&a).unwrap_or_default();
        let states = &world.model.states[&a];
        assert!(found.is_empty() || states.contains(&found), "{found:?}");
    }
    let is_snapshot = |name: &String| name.ends_with(".snapshot") && name != snapshot::NEW;
    assert!(world.disk.names().iter().any(is_snapshot));
}
