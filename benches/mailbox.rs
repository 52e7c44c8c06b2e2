//! What does it cost to pass one message to another thread: push and take, and the wake-up?

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iii_stream::mesh::{Mailbox, Outbox, Wake, Weigh, mailbox};
use iii_stream::net::wake_up;

struct Message([u64; 12]);

impl Weigh for Message {
    fn held_bytes(&self) -> usize {
        100
    }
}

fn pair() -> (Outbox<Message>, Mailbox<Message>, Arc<Wake>, mio::Poll) {
    let poll = mio::Poll::new().expect("a poll");
    let wake = wake_up(&poll, mio::Token(0)).expect("a waker");
    let wake = Arc::new(Wake::new(wake));
    let (address, mailbox) = mailbox(4096, 16 << 20, Arc::clone(&wake));
    (Outbox::new(address, 0), mailbox, wake, poll)
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox");
    for batch in [1, 64] {
        let (mut outbox, mailbox, wake, _poll) = pair();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(
            format!("{batch} messages a wake-up, one thread"),
            |bencher| {
                bencher.iter(|| {
                    for n in 0..batch {
                        outbox.send(Message([n; 12]));
                    }
                    outbox.flush();
                    wake.lower();
                    while let Some(message) = mailbox.take() {
                        black_box(message.0);
                    }
                });
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = messages
}
criterion_main!(benches);
