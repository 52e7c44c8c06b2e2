//! What does one command cost its owner, from command to reply and event, with values in memory?

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use iii_stream::id::{GroupKey, SlotId, WorkerId};
use iii_stream::shard::{Ask, Command, Decides, Effects, Join, Shard, Store, ValueLimits};
use iii_stream::store::Memory;

const NOW: u64 = 1_795_474_467_867;

fn main_slot() -> SlotId {
    SlotId {
        slot: 0,
        generation: 1,
    }
}

/// A shard with one group of so many items, and so many workers that listen.
fn shard(items: usize, listeners: u16) -> Shard {
    let limits = ValueLimits {
        json_depth: 125,
        value_bytes: 16 << 20,
    };
    let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
    let mut effects = Effects::default();
    for item in 0..items {
        run(&mut shard, vec![set(item)], &mut effects);
    }
    for worker in 0..listeners {
        let join = Join {
            worker: WorkerId(worker),
            local: main_slot(),
            connection: main_slot(),
            token: 0,
            item: None,
        };
        run(&mut shard, vec![command(Ask::Join(join))], &mut effects);
    }
    shard
}

fn command(ask: Ask) -> Command {
    let key = GroupKey::new("presence", "room-1");
    Command::Group { key, ask }
}

fn set(item: usize) -> Command {
    command(Ask::Set {
        item: format!("item-{item}").into(),
        data: Arc::from(
            r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#,
        ),
        ttl: None,
        call: Some(main_slot()),
    })
}

/// As a worker does it: all commands of a turn, the store's answers, and the effects are gone.
fn run(shard: &mut Shard, commands: Vec<Command>, effects: &mut Effects) {
    for command in commands {
        shard.apply(command, NOW, effects);
    }
    let mut learned = Vec::new();
    Memory.serve(std::mem::take(&mut effects.requests), &mut learned);
    for learned in learned {
        shard.learn(learned, NOW, effects);
    }
    black_box(&effects.replies);
    effects.replies.clear();
    effects.deliveries.clear();
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for (name, items, listeners, batch) in [
        ("set, 1 item, nobody listens", 1, 0, 1),
        ("set, 1 item, 1 worker listens", 1, 1, 1),
        ("set, 1 item, 15 workers listen", 1, 15, 1),
        ("set, 100,000 items, 1 worker listens", 100_000, 1, 1),
        ("64 sets of a turn, 1 worker listens", 1, 1, 64),
    ] {
        let mut shard = shard(items, listeners);
        let mut effects = Effects::default();
        let mut next = 0;
        group.throughput(criterion::Throughput::Elements(batch as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    next += 7919;
                    (0..batch)
                        .map(|n| set((next + n) % items))
                        .collect::<Vec<_>>()
                },
                |commands| run(&mut shard, commands, &mut effects),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = apply
}
criterion_main!(benches);
