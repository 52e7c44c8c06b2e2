//! The lock-free tricks of the mesh, each a small type that `tests/loom_wake.rs` walks.
//!
//! [`WakeFlag`]: one system call for many messages. [`Room`]: the bound in bytes. [`Waiters`]: who
//! waits for room in a full mailbox. May not know what a message is, nor how a thread is woken.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Raised while a wake-up of its thread is under way or has not been looked at yet.
#[derive(Default)]
pub struct WakeFlag {
    raised: AtomicBool,
}

impl WakeFlag {
    /// Sender, after its push. True: this sender makes the wake-up system call.
    pub fn raise(&self) -> bool {
        !self.raised.swap(true, Ordering::AcqRel)
    }

    /// Receiver, before its drain. A swap and not a store: it must read the last `raise`, or a push
    /// that chose not to wake us could still be invisible to the drain.
    pub fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }
}

/// Bytes that a mailbox's messages hold, and how many they may.
pub struct Room {
    held_bytes: AtomicUsize,
    bytes_max: usize,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Room {
        Room {
            held_bytes: AtomicUsize::new(0),
            bytes_max,
        }
    }

    /// Sender, before its push: false when there is no room beside what is there; beside nothing any
    /// message has room. A refusal leaves no trace: if it were added and taken away again, another
    /// sender could see it between, and both could wait beside an empty mailbox.
    pub fn reserve(&self, bytes: usize) -> bool {
        let add = |held: usize| {
            let sum = held.saturating_add(bytes);
            (held == 0 || sum <= self.bytes_max).then_some(sum)
        };
        self.held_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .is_ok()
    }

    /// Receiver, after it has taken a message; sender, whose push found no slot.
    pub fn release(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// How many threads a mesh can hold.
pub const THREADS_MAX: usize = 64 * WAITER_WORDS;
const WAITER_WORDS: usize = 5;

/// The threads that found a mailbox full and want to be woken when there is room.
#[derive(Default)]
pub struct Waiters {
    words: [AtomicU64; WAITER_WORDS],
}

impl Waiters {
    /// Sender that found the queue full. **It must try once more afterwards**: the receiver may
    /// have made room before it could see the mark. The fence orders the mark before that try,
    /// and the receiver's fence its removal before its look; without either both could miss.
    pub fn mark(&self, thread: usize) {
        self.words[thread / 64].fetch_or(1 << (thread % 64), Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Receiver, after it has taken messages: whom to wake.
    pub fn take(&self, mut wake: impl FnMut(usize)) {
        fence(Ordering::SeqCst);
        for (number, word) in self.words.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marks = word.swap(0, Ordering::AcqRel);
            while marks != 0 {
                wake(64 * number + marks.trailing_zeros() as usize);
                marks &= marks - 1;
            }
        }
    }
}
