//! What does it cost to encode one event, and to make the sync of a room?

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iii_stream::id::GroupKey;
use iii_stream::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};

fn encode(criterion: &mut Criterion) {
    let names = GroupNames::new(&GroupKey::new("presence", "room-1"));
    let mut group = criterion.benchmark_group("encode");
    for bytes in [100, 1024, 64 * 1024] {
        let value = format!("\"{}\"", "x".repeat(bytes - 2));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("event of {bytes} B"), |bencher| {
            bencher.iter(|| {
                EventFrame::encode(
                    &names,
                    1_795_474_467_867,
                    Some("user-1"),
                    Event::Update(black_box(&value)),
                )
            });
        });
    }
    let chunk: Arc<str> = format!(",{}", "1234567".repeat(9000)).into();
    let chunks = vec![chunk; 160];
    group.throughput(Throughput::Elements(1));
    group.bench_function("head of a sync over 160 chunks (10 MB)", |bencher| {
        bencher.iter(|| SyncFrame::of_group(&names, 1_795_474_467_867, black_box(chunks.clone())));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = encode
}
criterion_main!(benches);
