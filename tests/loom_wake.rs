//! The interleavings of the wake-up flag and of the mark for room, under `cfg(loom)`.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --test loom_wake`
//!
//! loom cannot see into crossbeam, mio or the kernel. The stand-in queue here is as weak as a queue
//! with release pushes and acquire pops, no stronger: behind a lock even a wrong flag would pass.
//!
//! These are all types of ours that rest on an order between threads without a lock. What threads share
//! beside them is single numbers and flags on which no other memory rests (counters, the pressure of
//! memory, the pace, the end of the process), or stands behind a mutex (what TLS offers; its generation
//! only says that a look there is worth while).
//!
//! ThreadSanitizer is not run: the stable compiler has no flag for it, and with one the standard library is
//! not instrumented, so that its channels and mutexes are reported as races in a program that has none.
#![cfg(loom)]

use iii_stream::mesh::wake::{Room, Waiters, WakeFlag};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;

/// Walks every interleaving with at most three preemptions: what is beyond takes minutes and has
/// never been where a mistake was (Musuvathi and Qadeer, "Iterative context bounding", 2007).
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// A receiver that sleeps after its drain is woken by whatever came after it: else loom finds that
/// nobody can go on.
#[test]
fn no_push_is_slept_through() {
    model(|| {
        let flag = Arc::new(WakeFlag::default());
        let pushed = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let wake_up = Arc::new(Notify::new());
        let senders: Vec<_> = (0..2)
            .map(|number| {
                let (flag, pushed, wake_up) = (flag.clone(), pushed.clone(), wake_up.clone());
                thread::spawn(move || {
                    // No stronger than the release of a queue's slot.
                    pushed[number].store(1, Ordering::Release);
                    if flag.raise() {
                        wake_up.notify();
                    }
                })
            })
            .collect();
        loop {
            flag.lower();
            if pushed.iter().all(|slot| slot.load(Ordering::Acquire) == 1) {
                break;
            }
            wake_up.wait();
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// A sender that found the queue full and waits is woken, or finds room at its second try.
#[test]
fn nobody_waits_beside_a_queue_with_room() {
    model(|| {
        let room = Arc::new(AtomicUsize::new(0));
        let waiters = Arc::new(Waiters::default());
        let receiver = {
            let (room, waiters) = (room.clone(), waiters.clone());
            thread::spawn(move || {
                room.store(1, Ordering::Release);
                let mut woken = false;
                waiters.take(|thread| woken |= thread == 70);
                woken
            })
        };
        let mut got = room.load(Ordering::Acquire) == 1;
        if !got {
            waiters.mark(70);
            got = room.load(Ordering::Acquire) == 1;
        }
        let woken = receiver.join().unwrap();
        assert!(got || woken, "it waits for ever");
    });
}

/// A sender that was refused for its bytes is woken, or the mailbox holds a message whose taking
/// will wake it: senders that are refused side by side do not see each other.
#[test]
fn nobody_waits_beside_an_empty_mailbox() {
    model(|| {
        let room = Arc::new(Room::new(10));
        assert!(room.reserve(10), "an empty mailbox takes any message");
        let waiters = Arc::new(Waiters::default());
        let senders: Vec<_> = (0..2)
            .map(|number| {
                let (room, waiters) = (room.clone(), waiters.clone());
                thread::spawn(move || {
                    room.reserve(10) || {
                        waiters.mark(number);
                        room.reserve(10)
                    }
                })
            })
            .collect();
        room.release(10);
        let mut woken = [false; 2];
        waiters.take(|number| woken[number] = true);
        let sent: Vec<bool> = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect();
        let is_empty = room.reserve(11); // which else has no room
        for (number, has_sent) in sent.into_iter().enumerate() {
            assert!(has_sent || woken[number] || !is_empty, "it waits for ever");
        }
    });
}
