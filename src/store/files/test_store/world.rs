//! Real shards and the real store on a disk that fails, with messages that take their time.

use super::*;

pub(super) const CALL: CallId = CallId {
    slot: 0,
    generation: 0,
};

pub(super) fn keys() -> [GroupKey; 4] {
    [("s", "a"), ("s", "b"), ("a", "b:c"), ("a:b", "c")].map(|(s, g)| GroupKey::new(s, g))
}

pub(super) fn settings(fsync: Fsync) -> FileStore {
    FileStore {
        fsync,
        segment_bytes: 700,
        ..FileStore::at("disk")
    }
}

pub(super) enum ToShard {
    Learned(Vec<Learned>),
    Slice(Cursor),
}

pub(super) enum ToStore {
    Requests(Vec<Request>),
    Slice(WorkerId, Slice),
}

pub(super) struct World {
    pub(super) disk: TestDisk,
    pub(super) settings: FileStore,
    pub(super) shards: Vec<Shard>,
    pub(super) files: Files,
    pub(super) to_shards: Vec<VecDeque<ToShard>>,
    pub(super) to_store: VecDeque<ToStore>,
    /// What the store has not answered.
    pub(super) asked: Vec<Request>,
    /// Of that, the batch that it has tried to write.
    pub(super) doubtful: Vec<Request>,
    pub(super) model: Model,
    pub(super) now: u64,
}

pub(super) fn start(
    disk: &TestDisk,
    settings: &FileStore,
    workers: usize,
) -> Result<(Files, Vec<Shard>), StoreError> {
    start_locked(disk.clone(), settings, workers)
}

pub(super) fn start_locked(
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

pub(super) fn owner_of(key: &GroupKey, workers: usize) -> usize {
    key.joined().len() % workers
}

/// What the shards would list.
pub(super) fn listed(shards: &mut [Shard]) -> Values {
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

pub(super) type Named = (GroupKey, Vec<(String, String)>);

pub(super) fn whole(shard: &Shard) -> Vec<Named> {
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

pub(super) fn ask(shard: &mut Shard, key: &GroupKey, ask: Ask) -> Effects {
    let mut out = Effects::default();
    let key = key.clone();
    shard.begin_turn(0, &mut out);
    shard.apply(Command::Group { key, ask }, 0, &mut out);
    out
}

impl World {
    pub(super) fn new(disk: TestDisk, settings: FileStore, workers: usize) -> World {
        World::with(disk.clone(), disk, settings, workers)
    }

    pub(super) fn new_locked(lock: TestDisk, disk: TestDisk, settings: FileStore) -> World {
        World::with(lock, disk, settings, 1)
    }

    /// `lock`: what has the lock of the disk, if anything has.
    pub(super) fn with(
        lock: TestDisk,
        disk: TestDisk,
        settings: FileStore,
        workers: usize,
    ) -> World {
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
    pub(super) fn restart(&mut self, disk: TestDisk, workers: usize) {
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
    pub(super) fn restart_with_less(&mut self, disk: TestDisk, workers: usize) {
        let (files, mut shards) = start(&disk, &self.settings, workers).unwrap();
        let batch = std::mem::take(&mut self.doubtful);
        batch
            .iter()
            .for_each(|asked| self.model.accept(&asked.kind));
        self.model.lose(listed(&mut shards));
        self.go_on(disk, files, shards);
    }

    pub(super) fn go_on(&mut self, disk: TestDisk, files: Files, shards: Vec<Shard>) {
        self.asked.clear();
        self.doubtful.clear();
        self.disk = disk;
        self.to_shards = shards.iter().map(|_| VecDeque::new()).collect();
        self.to_store.clear();
        self.files = files;
        self.shards = shards;
    }

    /// A subscriber joins an item, or a custom event is sent: either bears a time without a write.
    pub(super) fn stamp(&mut self, key: &GroupKey, joins: bool) {
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

    pub(super) fn apply(&mut self, key: &GroupKey, ask: Ask) {
        let owner = owner_of(key, self.shards.len());
        let mut out = Effects::default();
        let key = key.clone();
        self.shards[owner].apply(Command::Group { key, ask }, self.now, &mut out);
        self.perform(out);
    }

    pub(super) fn perform(&mut self, out: Effects) {
        self.model.hear(&out);
        if !out.requests.is_empty() {
            self.to_store.push_back(ToStore::Requests(out.requests));
        }
    }

    pub(super) fn change(&mut self, key: &GroupKey, item: &str, value: Option<String>) {
        let ask = match value {
            Some(value) => Ask::Set {
                item: item.into(),
                data: value.into(),
                ttl: None,
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
    pub(super) fn turn_of_store(&mut self, messages: usize) -> bool {
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

    pub(super) fn turn_of_shard(&mut self, shard: usize, messages: usize, limits: SliceLimits) {
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
    pub(super) fn settle_once(&mut self) -> bool {
        self.turn_of_store(1) & self.settle()
    }

    /// Everything that waits is served.
    pub(super) fn settle(&mut self) -> bool {
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
