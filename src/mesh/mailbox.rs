//! A bounded queue between two threads, and what its senders keep while it is full.
//!
//! Nothing waits in a send: what finds the queue full goes to the sender's own backlog, in order,
//! and the sender is woken when there is room. Bounds count messages and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::wake::{Room, Waiters, WakeFlag};

/// How a thread is woken.
pub struct Wake {
    flag: WakeFlag,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Wake {
    /// `wake` gets the thread out of its sleep, or out of the next one if it is not asleep.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Wake {
        Wake {
            flag: WakeFlag::default(),
            wake: Box::new(wake),
        }
    }

    /// Wakes the thread, unless somebody has done so since it last looked.
    pub fn wake(&self) {
        if self.flag.raise() {
            (self.wake)();
        }
    }

    /// The thread itself, before it drains its mailboxes.
    pub fn lower(&self) {
        self.flag.lower();
    }
}

/// What a message holds on the heap, for the bound in bytes.
pub trait Weigh {
    /// Bytes beside the message itself.
    fn held_bytes(&self) -> usize;
}

struct Shared {
    room: Room,
    waiters: Waiters,
    /// Of the receiving thread.
    wake: Arc<Wake>,
}

/// The receiving end.
pub struct Mailbox<M> {
    queue: Receiver<M>,
    shared: Arc<Shared>,
}

/// The sending end, from which each sender makes its [`Outbox`].
pub struct Address<M> {
    queue: Sender<M>,
    shared: Arc<Shared>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Address {
            queue: self.queue.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Makes a mailbox of `len_max` messages that hold `bytes_max` bytes together; an empty one takes
/// any one message. `wake` is the receiving thread's.
pub fn mailbox<M: Weigh>(
    len_max: usize,
    bytes_max: usize,
    wake: Arc<Wake>,
) -> (Address<M>, Mailbox<M>) {
    let (sender, receiver) = bounded(len_max);
    let shared = Arc::new(Shared {
        room: Room::new(bytes_max),
        waiters: Waiters::default(),
        wake,
    });
    let address = Address {
        queue: sender,
        shared: Arc::clone(&shared),
    };
    let mailbox = Mailbox {
        queue: receiver,
        shared,
    };
    (address, mailbox)
}

impl<M: Weigh> Mailbox<M> {
    /// The next message, if there is one.
    pub fn take(&self) -> Option<M> {
        let message = self.queue.try_recv().ok()?;
        self.shared.room.release(message.held_bytes());
        Some(message)
    }

    /// Messages in it now.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is in it now.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// After messages were taken: calls `wake` with each thread that waited for room.
    pub fn tell_waiters(&self, wake: impl FnMut(usize)) {
        self.shared.waiters.take(wake);
    }
}

impl<M: Weigh> Address<M> {
    fn try_push(&self, message: M) -> Result<(), M> {
        let bytes = message.held_bytes();
        if !self.shared.room.reserve(bytes) {
            return Err(message);
        }
        match self.queue.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.shared.room.release(bytes);
                Err(message)
            }
        }
    }
}

/// One thread's way to one mailbox.
pub struct Outbox<M> {
    address: Address<M>,
    /// This thread's number among those that may wait for room.
    thread: usize,
    /// What found the mailbox full. While it is not empty everything goes to its end.
    backlog: VecDeque<M>,
    /// Messages were pushed and the receiver not woken yet.
    pushed: bool,
}

impl<M: Weigh> Outbox<M> {
    /// The way of thread number `thread` to that mailbox.
    pub fn new(address: Address<M>, thread: usize) -> Outbox<M> {
        Outbox {
            address,
            thread,
            backlog: VecDeque::new(),
            pushed: false,
        }
    }

    /// The way of another thread to the same mailbox.
    pub fn again(&self, thread: usize) -> Outbox<M> {
        Outbox::new(self.address.clone(), thread)
    }

    /// Sends, or keeps for later. The receiver is woken by [`Outbox::flush`].
    pub fn send(&mut self, message: M) {
        if let Err(message) = self.try_send(message) {
            self.backlog.push_back(message);
        }
    }

    /// Keeps the message for the next flush, behind what waits already.
    pub fn keep(&mut self, message: M) {
        self.backlog.push_back(message);
    }

    /// Sends, or gives the message back and has this thread woken when there is room.
    pub fn try_send(&mut self, message: M) -> Result<(), M> {
        if !self.backlog.is_empty() {
            return Err(message);
        }
        self.push(message)
    }

    /// Sends what was kept, as far as there is room, and wakes the receiver if it got anything:
    /// one wake-up for all that was sent since the last flush.
    pub fn flush(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.push(message) {
                self.backlog.push_front(message);
                break;
            }
        }
        if std::mem::take(&mut self.pushed) {
            self.address.shared.wake.wake();
        }
    }

    /// Whether anything waits here for room.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn push(&mut self, message: M) -> Result<(), M> {
        let mut pushed = self.address.try_push(message);
        if let Err(message) = pushed {
            self.address.shared.waiters.mark(self.thread);
            pushed = self.address.try_push(message);
        }
        self.pushed |= pushed.is_ok();
        pushed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Message(usize);

    impl Weigh for Message {
        fn held_bytes(&self) -> usize {
            self.0
        }
    }

    fn pair(len_max: usize, bytes_max: usize) -> (Outbox<Message>, Mailbox<Message>) {
        let (address, mailbox) = mailbox(len_max, bytes_max, Arc::new(Wake::new(|| {})));
        (Outbox::new(address, 3), mailbox)
    }

    #[test]
    fn many_messages_are_one_wake_up_until_the_thread_looks() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = Arc::new(Wake::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let (address, mailbox) = mailbox(10, 1000, Arc::clone(&wake));
        let mut outbox = Outbox::new(address, 0);
        let mut send = |times: usize| {
            for _ in 0..times {
                outbox.send(Message(1));
                outbox.flush();
            }
            woken.load(Ordering::Relaxed)
        };
        assert_eq!(send(3), 1);
        wake.lower();
        assert_eq!((mailbox.len(), send(2)), (3, 2));
    }

    #[test]
    fn what_finds_it_full_follows_in_order() {
        let (mut outbox, mailbox) = pair(2, 1000);
        for n in 0..5 {
            outbox.send(Message(n));
        }
        outbox.flush();
        let mut got = Vec::new();
        while let Some(Message(n)) = mailbox.take() {
            got.push(n);
            let mut woken = Vec::new();
            mailbox.tell_waiters(|thread| woken.push(thread));
            outbox.flush();
            assert!(woken.iter().all(|thread| *thread == 3));
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert!(!outbox.has_backlog());
    }

    #[test]
    fn bytes_are_bounded_and_one_message_always_fits() {
        let (mut outbox, mailbox) = pair(100, 10);
        assert!(outbox.try_send(Message(50)).is_ok());
        assert!(outbox.try_send(Message(1)).is_err());
        assert!(mailbox.take().is_some());
        let mut woken = 0;
        mailbox.tell_waiters(|_| woken += 1);
        assert_eq!(woken, 1);
        assert!(outbox.try_send(Message(6)).is_ok());
        assert!(outbox.try_send(Message(4)).is_ok());
        assert!(outbox.try_send(Message(1)).is_err());
    }
}
