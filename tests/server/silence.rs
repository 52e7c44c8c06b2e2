//! Peers that say nothing, and peers that take nothing: who is pinged, who is ended, and who stays.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iii_stream::metrics::{Closed, WorkerMetrics};
use serde_json::json;

use crate::support::raw::{self, frame};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, on_each_shape, wait_until};

const GROUP: (&str, &str) = ("silence", "room");
const PING: [u8; 2] = [0x89, 0];
const ONE: Duration = Duration::from_millis(100);

/// What stands between a client and the server, and one day forwards nothing more, nor says so.
struct Cable {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Cable {
    fn to(server: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(server).unwrap();
            let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let cut_too = Arc::clone(&cut);
            std::thread::spawn(move || forward(back, &cut_too));
            forward((client, server), &cut);
        });
        Cable { address, is_cut }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
    }
}

/// Until it is cut, or an end is gone. The sockets stay open for as long as the test may take.
fn forward((mut from, mut to): (TcpStream, TcpStream), is_cut: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let mut buffer = [0; 16 * 1024];
    while !is_cut.load(Ordering::Acquire) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) if to.write_all(&buffer[..len]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    if is_cut.load(Ordering::Acquire) {
        std::mem::forget((from, to));
    }
}

/// How many sockets that worker has ended for that reason.
fn closed_as(worker: &WorkerMetrics, reason: Closed) -> u64 {
    worker.closed.of(reason as usize).get()
}

/// A server that pings after so many ms, and waits for so many.
fn server_with(shape: crate::support::Shape, ping: u64, pong: u64) -> TestServer {
    TestServer::with(shape, |config| {
        config.limits.ping_interval_ms = ping;
        config.limits.pong_timeout_ms = pong;
    })
}

/// What comes within that time: a frame, or nothing.
fn within(stream: &mut TcpStream, time: Duration) -> Option<(u8, Vec<u8>)> {
    stream.set_read_timeout(Some(time)).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream
        .set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    match peeked {
        Ok(len) => {
            assert!(len > 0, "it is closed");
            Some(raw::read_frame(stream))
        }
        Err(error) => {
            assert!(matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut
            ));
            None
        }
    }
}

#[test]
fn a_peer_that_is_cut_off_is_found_in_its_time_and_its_leave_fires_once() {
    on_each_shape(|shape| {
        let (ping, pong) = (500, 3_000);
        let server = server_with(shape, ping, pong);
        let mut sdk = SdkWorker::connect(&server);
        sdk.register("left");
        sdk.trigger("t", "stream:leave", "left", json!({"stream_name": GROUP.0}));
        let cable = Cable::to(server.stream());
        let mut lost = Subscriber::to(cable.address);
        lost.join("lost", GROUP);
        cable.cut();
        let cut_at = Instant::now();
        let call = sdk.next_call_of("left");
        assert_eq!(call["data"]["subscription_id"], "lost");
        let took = cut_at.elapsed();
        assert!(took >= Duration::from_millis(pong), "{took:?}");
        // What was told twice would be told before this.
        let mut other = Subscriber::connect(&server);
        other.join("other", GROUP);
        other.reset();
        assert_eq!(sdk.next_call_of("left")["data"]["subscription_id"], "other");
        let workers = server.shared().workers.iter();
        let closed: u64 = workers
            .map(|worker| closed_as(worker, Closed::Silent))
            .sum();
        assert_eq!(closed, 1);
    });
}

#[test]
fn who_answers_late_but_in_time_stays() {
    let server = server_with(ONE_WORKER, 200, 20_000);
    let mut stream = raw::upgrade(raw::connect(server.stream()), "/");
    for _ in 0..3 {
        assert_eq!(raw::read_frame(&mut stream), (PING[0], Vec::new()));
        assert_eq!(within(&mut stream, ONE * 10), None, "one ping, and time");
        stream.write_all(&frame(0x8A, b"")).unwrap();
    }
    assert_eq!(closed_as(&server.shared().workers[0], Closed::Silent), 0);
}

#[test]
fn whoever_says_anything_is_not_pinged() {
    let server = server_with(ONE_WORKER, 3_000, 100);
    let mut stream = raw::upgrade(raw::connect(server.stream()), "/");
    let began = Instant::now();
    // An answer that nobody has asked for, half a frame, and the other half of it.
    let whole = frame(0x82, b"xy");
    let said = [&frame(0x8A, b"")[..], &whole[..3], &whole[3..]];
    for what in said.into_iter().cycle() {
        stream.write_all(what).unwrap();
        assert_eq!(within(&mut stream, ONE), None);
        if began.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    assert_eq!(raw::read_frame(&mut stream), (PING[0], Vec::new()));
    assert!(raw::read_to_end(&mut stream).is_empty(), "without a word");
}

#[test]
fn nobody_is_pinged_where_the_interval_is_zero() {
    let server = server_with(ONE_WORKER, 0, 100);
    let mut stream = raw::upgrade(raw::connect(server.stream()), "/");
    assert_eq!(within(&mut stream, ONE * 15), None);
}

#[test]
fn an_sdk_worker_that_does_not_answer_is_ended_and_its_functions_with_it() {
    let server = server_with(ONE_WORKER, 200, 200);
    let mut stream = raw::upgrade(raw::connect(server.worker()), "/");
    let register = json!({"type": "registerfunction", "id": "lost"}).to_string();
    stream.write_all(&frame(0x81, register.as_bytes())).unwrap();
    loop {
        let (first, _) = raw::read_frame(&mut stream);
        if first == PING[0] {
            break;
        }
    }
    assert!(raw::read_to_end(&mut stream).is_empty(), "without a word");
    assert_eq!(server.shared().engine.silent_closed.get(), 1);
    let mut sdk = SdkWorker::connect(&server);
    assert_eq!(sdk.error_of("lost", json!({})).0, "function_not_found");
}

#[test]
fn who_takes_nothing_is_closed_with_1013_and_who_takes_little_stays() {
    let stall = Duration::from_secs(3);
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.ping_interval_ms = 0;
        config.limits.stall_timeout_ms = stall.as_millis() as u64;
        config.limits.behind_bytes = 1 << 30;
    });
    let mut sdk = SdkWorker::connect(&server);
    let narrow = || {
        let mut reader = Subscriber::over(raw::connect_narrow(server.stream()), &server);
        reader.join("s", GROUP);
        reader
    };
    let (mut stalled, slow) = (narrow(), narrow());
    let began = Instant::now();
    let (mut some, mut read_at) = ([0; 8 * 1024], began);
    let mut take_little = || {
        if read_at.elapsed() >= ONE {
            let mut stream = slow.stream();
            assert!(stream.read(&mut some).unwrap() > 0, "it is closed");
            read_at = Instant::now();
        }
    };
    for n in 0..100 {
        sdk.set(GROUP, "i", json!(format!("{n}{}", "x".repeat(100_000))));
        take_little();
    }
    let worker = &server.shared().workers[0];
    wait_until("the stalled one is closed", || {
        take_little();
        closed_as(worker, Closed::Stalled) == 1
    });
    assert!(began.elapsed() >= stall);
    assert_eq!(stalled.close_code(), Some(1013));
    let until = Instant::now() + stall * 2;
    wait_until("the slow one has had its time twice", || {
        take_little();
        Instant::now() > until
    });
    assert_eq!(closed_as(worker, Closed::Stalled), 1);
}

/// Set when it is dropped, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn pings_are_answered_beside_a_worker_that_has_all_it_can_do() {
    let server = TestServer::start(ONE_WORKER);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", GROUP);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut sdk = SdkWorker::connect(&server);
                while !is_over.load(Ordering::Acquire) {
                    for _ in 0..200 {
                        sdk.send(
                            &json!({"type": "invokefunction", "function_id": "stream::set",
                            "data": {"stream_name": "busy", "group_id": "g", "item_id": "i",
                                "data": "x".repeat(2000)}}),
                        );
                    }
                    sdk.settle();
                }
            });
        }
        let _over = Over(&is_over);
        let mut pinging = raw::upgrade(raw::connect(server.stream()), "/");
        for n in 0..200_u8 {
            pinging.write_all(&frame(0x89, &[n])).unwrap();
            assert_eq!(raw::read_frame(&mut pinging), (0x8A, vec![n]));
        }
    });
    // A ping is answered in the turn that reads it. The bound is in the thread's own time.
    let longest = server.shared().workers[0].loop_turns.longest();
    assert!(longest < Duration::from_millis(100), "{longest:?}");
}
