//! How fast does a start read what is kept: a snapshot of so many items of 100 bytes, and a log?
//!
//! `LOAD_ITEMS=10000000` for the figure of PERF.md; the default is small enough for every run.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use iii_stream::config::FileStore;
use iii_stream::id::{GroupKey, WorkerId};
use iii_stream::shard::{
    Cursor, Decides, Request, RequestKind, Shard, SliceLimits, Store, ValueLimits,
};
use iii_stream::store::files::Files;

const VALUE: &str = r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#;
const ITEMS_IN_A_GROUP: usize = 1000;
const BATCH: usize = 1000;

/// A directory that is gone when the bench ends.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(directory: &Directory, segment_bytes: usize) -> FileStore {
    FileStore {
        segment_bytes,
        ..FileStore::at(&directory.0)
    }
}

fn shard() -> Shard {
    let limits = ValueLimits {
        json_depth: 0,
        value_bytes: 0,
    };
    Shard::new(WorkerId(0), Decides::Owner, limits)
}

fn load(settings: &FileStore) -> (Files, Shard) {
    let mut shard = shard();
    let started = Files::start(settings, 1, &mut |restored| shard.restore(restored));
    let started = started.expect("the directory was written just now");
    shard.restored(started.time);
    (started.files, shard)
}

/// A log of so many items.
fn write(settings: &FileStore, items: usize) {
    let (mut files, _) = load(settings);
    let mut learned = Vec::new();
    for first in (0..items).step_by(BATCH) {
        let request = |n: usize| Request {
            shard: WorkerId(0),
            epoch: 0,
            number: n as u64,
            kind: RequestKind::Put {
                group: GroupKey::new("presence", &format!("room-{}", n / ITEMS_IN_A_GROUP)),
                item: format!("item-{n:08}").into(),
                value: VALUE.into(),
                time: 1_795_474_467_867 + n as u64,
                marks: Default::default(),
            },
        };
        files.serve((first..first + BATCH).map(request).collect(), &mut learned);
        learned.clear();
    }
    files.close();
}

/// Has a snapshot made of what the log holds.
fn snapshot(settings: &FileStore) {
    let (mut files, shard) = load(settings);
    let mut asks = Vec::new();
    files.tend(&mut asks, &mut Vec::new());
    let is_there = || {
        let names = std::fs::read_dir(&settings.path).expect("it is there");
        let mut names = names.map(|entry| entry.expect("an entry").file_name());
        names.any(|name| {
            name.to_string_lossy().starts_with("000")
                && name.to_string_lossy().ends_with(".snapshot")
        })
    };
    while !is_there() {
        // None is asked for while what was written is being synced.
        while let Some((worker, cursor, limits)) = asks.pop() {
            files.take_slice(worker, shard.slice(cursor, limits));
        }
        std::thread::yield_now();
        files.tend(&mut asks, &mut Vec::new());
    }
}

fn start(criterion: &mut Criterion) {
    let items = std::env::var("LOAD_ITEMS").map_or(200_000, |items| {
        items.parse().expect("LOAD_ITEMS is a number")
    });
    let mut group = criterion.benchmark_group("start");
    group
        .throughput(Throughput::Elements(items as u64))
        .sample_size(10);
    let path = std::env::temp_dir().join(format!("iii-load-{}", std::process::id()));
    let directory = Directory(path);
    let large = settings(&directory, 1 << 30);
    write(&large, items);
    let bench = |settings: &FileStore| {
        let shard = load(settings).1;
        assert_eq!(shard.groups_len(), items.div_ceil(ITEMS_IN_A_GROUP));
        shard
    };
    group.bench_function("from a log", |bencher| {
        bencher.iter_batched(
            || (),
            |()| black_box(bench(&large)),
            BatchSize::PerIteration,
        );
    });
    // Any log is longer than this, so that a snapshot is due at once.
    snapshot(&settings(&directory, 1 << 20));
    group.bench_function("from a snapshot", |bencher| {
        bencher.iter_batched(
            || (),
            |()| black_box(bench(&large)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let mut next = Some(Cursor::default());
    let shard = load(&large).1;
    let mut group = criterion.benchmark_group("slice");
    group.bench_function(
        "1024 items of a shard, one turn's part of a snapshot",
        |bencher| {
            let limits = SliceLimits {
                items: 1024,
                bytes: 256 * 1024,
                groups: 1024,
            };
            bencher.iter(|| {
                let slice = shard.slice(next.take().unwrap_or_default(), limits);
                next = slice.next;
                black_box(slice)
            });
        },
    );
    group.finish();
}

criterion_group!(benches, start);
criterion_main!(benches);
