//! Many sends in one system call (`io_uring_enter(2)`): what sockets of a thread are sent is copied here, and
//! goes together. With `kernel` and the server's `scheduling` one of the files with `unsafe` in them: no crate
//! keeps the bytes of a request where they are for as long as the kernel may read them.
//!
//! ```text
//! Tcp::write ──► queue ──► submit ──► taken whole: nothing more is heard of it
//!                                └──► not whole: `left` here, until its socket settles
//! ```
//! A thread that has not called [`begin`] queues nothing. A descriptor stands here only while it is open on
//! this thread: a socket settles before it is closed or goes to another thread. May not know what the bytes
//! mean.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

/// A longer write goes by itself: its bytes cost more than its system call.
pub(super) const SEND_BYTES_MAX: usize = 2 * 1024;
/// Sends that go together, at most.
const SENDS_MAX: usize = 64;
/// Bytes of all of them, at most.
const ARENA_BYTES: usize = 64 * 1024;
/// Fewer sends than these go one by one, which costs no more then.
const SENDS_MIN: usize = 2;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// What is left of what a socket was sent here, because it did not take all of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// What it did not take.
    pub(super) bytes: Vec<u8>,
    /// It takes nothing any more.
    pub(super) is_dead: bool,
    /// Behind these bytes comes the end of what is written.
    pub(super) is_end: bool,
}

struct Ring {
    /// None: the kernel has refused it since.
    uring: Option<IoUring>,
    /// The bytes of what is queued, one send behind the other.
    arena: Box<[u8]>,
    used: usize,
    queued: Vec<Send>,
    /// The number of the next submission, never 0.
    number: u32,
    left: BTreeMap<RawFd, Left>,
    /// Sends that were not taken whole since somebody asked.
    cut: u64,
}

/// One that is queued, and where its bytes are.
struct Send {
    socket: RawFd,
    from: usize,
    to: usize,
}

/// What the kernel says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nothing, for it has not been asked.
    NotAsked,
    /// The bytes that were taken, or an error below zero.
    Is(i32),
    /// It was asked, and its answer will not be heard.
    Lost,
}

type Answers = [Answer; SENDS_MAX];

const NONE_ASKED: Answers = [Answer::NotAsked; SENDS_MAX];

/// From here on what this thread's sockets are sent goes together, with [`submit`].
pub fn begin() -> io::Result<()> {
    let ring = Ring::open()?;
    RING.with_borrow_mut(|place| *place = Some(ring));
    Ok(())
}

/// Whether the kernel lets this process have as many rings as that.
pub fn probe(rings: usize) -> io::Result<()> {
    // On a thread of its own: who has made a ring is interrupted, as by a signal, some time after it has gone.
    let thread = std::thread::Builder::new().name("rings".to_owned());
    let probe = move || {
        let rings: io::Result<Vec<Ring>> = (0..rings).map(|_| Ring::open()).collect();
        rings.map(drop)
    };
    let failed = |_| Err(io::Error::other("a thread has panicked"));
    thread.spawn(probe)?.join().unwrap_or_else(failed)
}

/// Sends what is queued: to be called before the thread sleeps. Gives how many sends were not taken whole
/// since the last call.
pub fn submit() -> u64 {
    let cut = with_ring(|ring| {
        ring.submit();
        std::mem::take(&mut ring.cut)
    });
    cut.unwrap_or(0)
}

/// Queues these `len` bytes for the socket, and gives the number of the submission that they go with. None:
/// there is no ring.
pub(super) fn queue(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>], len: usize) -> Option<u32> {
    with_ring(|ring| ring.queue(socket.as_raw_fd(), slices, len)).flatten()
}

/// Sends what is queued if that submission is still to come, and gives what is left of what the socket was
/// sent. From then on nothing of it is here.
pub(super) fn settle(socket: BorrowedFd<'_>, number: u32) -> Option<Left> {
    let left = with_ring(|ring| {
        if number == ring.number {
            ring.submit();
        }
        // Nearly always it is empty.
        match ring.left.is_empty() {
            true => None,
            false => ring.left.remove(&socket.as_raw_fd()),
        }
    });
    left.flatten()
}

fn with_ring<T>(run: impl FnOnce(&mut Ring) -> T) -> Option<T> {
    let with = |place: &RefCell<Option<Ring>>| place.borrow_mut().as_mut().map(run);
    RING.try_with(with).ok().flatten() // at the end of a thread it is gone
}

impl Ring {
    /// A ring that has made one send, for kernels and filters of system calls may refuse any part of that.
    fn open() -> io::Result<Ring> {
        let entries = SENDS_MAX as u32;
        let mut ring = Ring {
            uring: Some(quickest(entries).or_else(|_| IoUring::new(entries))?),
            arena: vec![0; ARENA_BYTES].into(),
            used: 0,
            queued: Vec::with_capacity(SENDS_MAX),
            number: 1,
            left: BTreeMap::new(),
            cut: 0,
        };
        let (one_end, _other_end) = UnixStream::pair()?;
        ring.queue(one_end.as_raw_fd(), &[IoSlice::new(b"x")], 1);
        let mut answers = NONE_ASKED;
        ring.ask(&mut answers)?;
        ring.forget_queued();
        match answers[0] {
            Answer::Is(1) => Ok(ring),
            Answer::Is(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn queue(&mut self, socket: RawFd, slices: &[IoSlice<'_>], len: usize) -> Option<u32> {
        self.uring.as_ref()?;
        if self.queued.len() == SENDS_MAX || self.used + len > ARENA_BYTES {
            self.submit();
        }
        let from = self.used;
        for slice in slices {
            let to = self.used + slice.len();
            self.arena[self.used..to].copy_from_slice(slice);
            self.used = to;
        }
        let to = self.used;
        self.queued.push(Send { socket, from, to });
        Some(self.number)
    }

    fn submit(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let mut answers = NONE_ASKED;
        if self.queued.len() >= SENDS_MIN
            && let Err(error) = self.ask(&mut answers)
        {
            tracing::warn!("io_uring fails: a system call a write from here on: {error}");
        }
        for (number, answer) in answers[..self.queued.len()].iter().enumerate() {
            self.learn(number, *answer);
        }
        self.forget_queued();
    }

    fn forget_queued(&mut self) {
        self.queued.clear();
        self.used = 0;
        self.number = self.number.checked_add(1).unwrap_or(1);
    }

    /// Has the kernel make what is queued, and waits for all its answers. An error of the ring is its end.
    fn ask(&mut self, answers: &mut Answers) -> io::Result<()> {
        let Some(uring) = &mut self.uring else {
            return Ok(());
        };
        let mut submission = uring.submission();
        let mut asked = 0;
        for send in &self.queued {
            let bytes = &self.arena[send.from..send.to];
            let (socket, len) = (types::Fd(send.socket), bytes.len() as u32);
            let request = opcode::Send::new(socket, bytes.as_ptr(), len)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(asked);
            // SAFETY: the bytes lie in the arena, which the kernel only reads. Nobody writes to it, moves its bytes
            // or drops it while the kernel may read them: this function ends when each request has its answer, or
            // when the ring has ended, and then `end` leaves the arena to those without one.
            if unsafe { submission.push(&request) }.is_err() {
                break; // it has room for all
            }
            asked += 1;
        }
        drop(submission);
        let mut left = asked;
        while left > 0 {
            let entered = uring.submit_and_wait(left as usize);
            for answer in uring.completion() {
                let place = answers.get_mut(answer.user_data() as usize);
                if let Some(place @ Answer::NotAsked) = place {
                    *place = Answer::Is(answer.result());
                    left -= 1;
                }
            }
            match entered {
                Err(error) if left > 0 && error.kind() != ErrorKind::Interrupted => {
                    self.end(asked as usize, answers);
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The ring ends, with so many requests in it. Those that the kernel has not taken it will not make. Of
    /// those that it has taken and not answered nobody knows.
    fn end(&mut self, asked: usize, answers: &mut Answers) {
        let Some(mut uring) = self.uring.take() else {
            return;
        };
        let taken = asked.saturating_sub(uring.submission().len()); // it takes them in order
        let lost = answers[..taken].iter_mut();
        let lost = lost.filter(|answer| **answer == Answer::NotAsked);
        let mut is_any_lost = false;
        for answer in lost {
            (*answer, is_any_lost) = (Answer::Lost, true);
        }
        if is_any_lost {
            let copy = self.arena.clone();
            std::mem::forget(std::mem::replace(&mut self.arena, copy));
        }
    }

    /// What became of one that was queued.
    fn learn(&mut self, number: usize, answer: Answer) {
        let Send { socket, from, to } = self.queued[number];
        let bytes = &self.arena[from..to];
        // SAFETY: it is open, for its socket settles before it is closed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(socket) };
        let taken = match answer {
            Answer::Is(len) if len >= 0 => Ok(len as usize),
            Answer::Is(error) if error == -libc::EAGAIN => Err(Errno::AGAIN),
            Answer::Lost => Err(Errno::IO), // a part may be sent: sent again it would be there twice
            // Nothing was sent. The error may be the ring's: the socket itself says what it is.
            Answer::Is(_) | Answer::NotAsked => send(borrowed, bytes),
        };
        let (bytes, is_dead) = match taken {
            Ok(len) if len == bytes.len() => return,
            Ok(len @ 1..) => (bytes[len..].to_vec(), false),
            Err(Errno::AGAIN) => (bytes.to_vec(), false),
            Ok(0) | Err(_) => (Vec::new(), true),
        };
        if is_dead {
            // So the poll tells of it once more: its owner may have passed over what it told before. It fails
            // only where the peer has ended the connection, and the poll tells all the same.
            let _ = rustix::net::shutdown(borrowed, Shutdown::Both);
        }
        self.cut += u64::from(!is_dead);
        let left = Left {
            bytes,
            is_dead,
            is_end: false,
        };
        self.left.insert(socket, left);
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// With all that spares work where one thread submits and waits (Linux 6.1).
fn quickest(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use io_uring::register::Restriction;
    use mio::{Events, Poll};

    use super::*;
    use crate::fanout::{Socket, Written};
    use crate::id::SlotId;
    use crate::net::{Ready, Tcp, token_of};

    const WAITS: Duration = Duration::from_secs(60);

    /// False where the kernel has no rings for us: then there is nothing to test.
    fn has_begun() -> bool {
        let begun = begin();
        if let Err(error) = &begun {
            eprintln!("this kernel has no rings: {error}");
        }
        begun.is_ok()
    }

    /// Both ends of a connection: ours, and a peer's that takes little in advance.
    fn pair() -> (Tcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let small = socket2::SockRef::from(&listener);
        small.set_recv_buffer_size(4096).unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let small = socket2::SockRef::from(&ours);
        small.set_send_buffer_size(4096).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(WAITS)).unwrap();
        ours.set_nonblocking(true).unwrap();
        (Tcp::new(mio::net::TcpStream::from_std(ours)), peer)
    }

    fn write(socket: &mut Tcp, bytes: &[u8]) -> Written {
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        socket.write(&[IoSlice::new(head), IoSlice::new(tail)])
    }

    /// Some bytes that are different everywhere.
    fn text(from: usize, len: usize) -> Vec<u8> {
        (from..from + len).map(|at| (at % 251) as u8).collect()
    }

    fn heard(peer: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut heard = vec![0; len];
        peer.read_exact(&mut heard).unwrap();
        heard
    }

    /// Until it takes nothing and holds something; gives what was taken for it.
    fn fill(socket: &mut Tcp) -> usize {
        let mut taken = 0;
        loop {
            match write(socket, &text(taken, 1000)) {
                Written::All => taken += 1000,
                Written::Part(0) => return taken,
                other => unreachable!("it takes a thousand or nothing: {other:?}"),
            }
            submit();
        }
    }

    fn wait(mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + WAITS;
        while !is_so() {
            assert!(Instant::now() < until, "it did not come");
        }
    }

    #[test]
    fn what_many_sockets_are_sent_goes_together_and_each_has_its_own_in_order() {
        if !has_begun() {
            return;
        }
        let mut pairs: Vec<(Tcp, TcpStream)> = (0..3 * SENDS_MAX / 2).map(|_| pair()).collect();
        let mut sent = vec![Vec::new(); pairs.len()];
        for round in 0..4 {
            for (number, (socket, _)) in pairs.iter_mut().enumerate() {
                let len = match (round, number % 4) {
                    (1, 0) => SEND_BYTES_MAX,     // soon more than the arena has room for
                    (2, 1) => SEND_BYTES_MAX + 1, // goes by itself, behind what is queued
                    _ => 1 + number,
                };
                let bytes = text(number * 7 + round, len);
                assert_eq!(write(socket, &bytes), Written::All);
                sent[number].extend(bytes);
            }
        }
        assert_eq!(submit(), 0);
        for ((_, peer), sent) in pairs.iter_mut().zip(sent) {
            assert!(heard(peer, sent.len()) == sent);
        }
    }

    #[test]
    fn nothing_is_sent_before_it_is_submitted_and_one_alone_is_sent_all_the_same() {
        if !has_begun() {
            return;
        }
        let (mut socket, mut peer) = pair();
        assert_eq!(write(&mut socket, b"one"), Written::All);
        peer.set_nonblocking(true).unwrap();
        let nothing = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        peer.set_nonblocking(false).unwrap();
        submit();
        assert_eq!(heard(&mut peer, 3), b"one");
    }

    #[test]
    fn whatever_a_slow_peer_takes_it_gets_all_that_was_taken_for_it_in_order() {
        if !has_begun() {
            return;
        }
        let mut seed = 1_u64;
        let mut up_to = |most: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % most
        };
        let mut pairs: Vec<(Tcp, TcpStream)> = (0..3).map(|_| pair()).collect();
        let mut counts = [(0, 0); 3];
        let mut held = 0;
        for (_, peer) in &pairs {
            peer.set_nonblocking(true).unwrap();
        }
        let until = Instant::now() + WAITS;
        while counts.iter().any(|(_, heard)| *heard < 300_000) {
            assert!(Instant::now() < until, "{counts:?}");
            let number = up_to(3);
            let ((socket, peer), (sent, heard)) = (&mut pairs[number], &mut counts[number]);
            match up_to(8) {
                0..5 => {
                    let most = [300, 3000, 30_000][up_to(3)];
                    let bytes = text(*sent, 1 + up_to(most));
                    match write(socket, &bytes) {
                        Written::All => *sent += bytes.len(),
                        Written::Part(taken) => *sent += taken,
                        Written::Gone => unreachable!("the peer is there"),
                    }
                    assert!(socket.held_bytes() <= SEND_BYTES_MAX);
                    held += usize::from(socket.held_bytes() > 0);
                }
                5 => drop(submit()),
                6 => assert_ne!(socket.flush(), Written::Gone),
                _ => {
                    let most = [2, 5000][up_to(2)];
                    let mut buffer = vec![0; 1 + up_to(most)];
                    if let Ok(len) = peer.read(&mut buffer) {
                        assert!(buffer[..len] == text(*heard, len));
                        *heard += len;
                    }
                }
            }
        }
        assert!(held > 10, "{held}");
        for ((mut socket, mut peer), (sent, heard)) in pairs.into_iter().zip(counts) {
            socket.shutdown_write(); // behind what is held
            let reads = std::thread::spawn(move || {
                peer.set_nonblocking(false).unwrap();
                let mut rest = Vec::new();
                peer.read_to_end(&mut rest).unwrap();
                assert!(rest == text(heard, sent - heard));
            });
            wait(|| socket.flush() == Written::All);
            reads.join().unwrap();
        }
    }

    #[test]
    fn the_poll_says_when_a_socket_takes_what_it_did_not_take() {
        if !has_begun() {
            return;
        }
        let (mut socket, mut peer) = pair();
        let mut poll = Poll::new().unwrap();
        let id = SlotId::first(3);
        socket.register(id, poll.registry()).unwrap();
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(WAITS)).unwrap(); // it takes bytes
        let len = fill(&mut socket);
        assert!(socket.held_bytes() > 0);
        assert!(heard(&mut peer, len - socket.held_bytes()).starts_with(&text(0, 1000)));
        let until = Instant::now() + WAITS;
        while socket.held_bytes() > 0 {
            assert!(Instant::now() < until);
            poll.poll(&mut events, Some(WAITS)).unwrap();
            for event in events.iter() {
                let is_told = matches!(Ready::from(event), Ready::Socket { id: of, takes_bytes: true, .. } if of == id);
                assert!(is_told);
                socket.flush();
            }
        }
    }

    #[test]
    fn a_socket_found_dead_is_told_of_once_more_and_takes_nothing() {
        if !has_begun() {
            return;
        }
        let (mut socket, peer) = pair();
        let (mut other, mut other_peer) = pair();
        let mut poll = Poll::new().unwrap();
        socket.register(SlotId::first(3), poll.registry()).unwrap();
        let mut events = Events::with_capacity(8);
        socket2::SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(peer); // with a reset
        wait(|| {
            poll.poll(&mut events, Some(WAITS)).unwrap();
            events.iter().any(|event| event.is_read_closed())
        });
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "all is told");
        assert_eq!(write(&mut socket, b"to nobody"), Written::All);
        assert_eq!(write(&mut other, b"to somebody"), Written::All);
        assert_eq!(submit(), 0);
        poll.poll(&mut events, Some(WAITS)).unwrap();
        let event = events.iter().next().expect("it is told once more");
        assert_eq!(event.token(), token_of(SlotId::first(3)));
        assert_eq!(socket.flush(), Written::Gone);
        assert_eq!(write(&mut socket, b"to nobody"), Written::Gone);
        assert_eq!(heard(&mut other_peer, 11), b"to somebody");
    }

    #[test]
    fn a_socket_that_is_closed_has_sent_all_and_leaves_nothing_to_the_next_of_its_descriptor() {
        if !has_begun() {
            return;
        }
        let (mut socket, mut peer) = pair();
        let (mut other, mut other_peer) = pair();
        assert_eq!(write(&mut other, b"other"), Written::All);
        assert_eq!(write(&mut socket, b"last words"), Written::All);
        drop(socket);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"last words");
        assert_eq!(heard(&mut other_peer, 5), b"other");

        let (mut full, _peer_of_full) = pair();
        fill(&mut full);
        wait(|| full.flush() == Written::Part(0) && full.held_bytes() > 0);
        drop(full);
        let (mut dead, peer_of_dead) = pair();
        drop(peer_of_dead);
        wait(|| {
            let _ = write(&mut dead, b"x");
            submit();
            with_ring(|ring| !ring.left.is_empty()).unwrap()
        });
        drop(dead);
        assert!(with_ring(|ring| ring.left.is_empty() && ring.queued.is_empty()).unwrap());
    }

    #[test]
    fn a_socket_goes_to_another_thread_with_what_it_has_not_taken() {
        if !has_begun() {
            return;
        }
        let (mut socket, mut peer) = pair();
        let poll = Poll::new().unwrap();
        socket.register(SlotId::first(0), poll.registry()).unwrap();
        let mut len = fill(&mut socket);
        let reads = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        let queued = [write(&mut socket, &text(len, 10))];
        len += if queued == [Written::All] { 10 } else { 0 };
        socket.deregister(poll.registry());
        std::thread::spawn(move || {
            assert!(has_begun());
            wait(|| socket.flush() == Written::All);
            assert_eq!(write(&mut socket, &text(len, 100)), Written::All);
        })
        .join()
        .unwrap();
        assert!(reads.join().unwrap() == text(0, len + 100));
        assert!(with_ring(|ring| ring.left.is_empty() && ring.queued.is_empty()).unwrap());
    }

    /// All that is queued for three sockets is heard, and so is what is written after it.
    fn sends_with(change: impl FnOnce(&mut Ring)) {
        let mut pairs: Vec<(Tcp, TcpStream)> = (0..3).map(|_| pair()).collect();
        with_ring(change).unwrap();
        for (number, (socket, _)) in pairs.iter_mut().enumerate() {
            assert_eq!(write(socket, &text(number, 100)), Written::All);
        }
        assert_eq!(submit(), 0);
        for (number, (socket, peer)) in pairs.iter_mut().enumerate() {
            assert_eq!(write(socket, b"more"), Written::All);
            submit();
            assert!(heard(peer, 100) == text(number, 100));
            assert_eq!(heard(peer, 4), b"more");
        }
    }

    #[test]
    fn where_a_ring_fails_what_is_queued_is_sent_without_it_and_all_that_follows() {
        if !has_begun() {
            return;
        }
        // It lets no thread in but the one that made it.
        let of_another = std::thread::spawn(|| quickest(SENDS_MAX as u32).ok());
        let Some(of_another) = of_another.join().unwrap() else {
            return eprintln!("this kernel has no such rings");
        };
        sends_with(|ring| ring.uring = Some(of_another));
        assert!(with_ring(|ring| ring.uring.is_none()).unwrap());
    }

    #[test]
    fn what_a_ring_refuses_is_sent_without_it() {
        if !has_begun() {
            return;
        }
        let refusing = IoUring::builder()
            .setup_r_disabled()
            .build(SENDS_MAX as u32)
            .unwrap();
        let mut nothing_but_nop = [Restriction::sqe_op(opcode::Nop::CODE)];
        let submitter = refusing.submitter();
        submitter
            .register_restrictions(&mut nothing_but_nop)
            .unwrap();
        submitter.register_enable_rings().unwrap();
        sends_with(|ring| ring.uring = Some(refusing));
        assert!(with_ring(|ring| ring.uring.is_some()).unwrap());
    }

    #[test]
    fn a_socket_whose_answer_is_lost_is_sent_nothing_twice_and_ends() {
        if !has_begun() {
            return;
        }
        let (mut socket, mut peer) = pair();
        let mut answers = NONE_ASKED;
        assert_eq!(write(&mut socket, b"perhaps"), Written::All);
        let before = with_ring(|ring| ring.arena.as_ptr() as usize).unwrap();
        with_ring(|ring| {
            ring.end(1, &mut answers); // as if it had taken the one that is queued
            assert_eq!(answers[..2], [Answer::Lost, Answer::NotAsked]);
            ring.learn(0, answers[0]);
            ring.forget_queued();
        });
        let after = with_ring(|ring| ring.arena.as_ptr() as usize).unwrap();
        assert_ne!(before, after, "the kernel may read it still");
        assert_eq!(write(&mut socket, b"x"), Written::Gone);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert!(all.is_empty());
    }

    #[test]
    fn as_many_rings_as_there_are_workers_may_be_had() {
        match probe(4) {
            Ok(()) => assert!(begin().is_ok()),
            Err(error) => eprintln!("this kernel has no rings: {error}"),
        }
    }
}
