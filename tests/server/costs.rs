//! What one peer may cost: beyond its pace it is left unread for a while and loses nothing; what a byte of
//! it brings about is bounded, whatever it sends.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use iii_stream::config::Config;
use serde_json::json;
use tungstenite::Message;

use crate::support::clients::{join, leave, set_input};
use crate::support::{
    ONE_WORKER, SdkWorker, Shape, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw,
    wait_until,
};

const ROOM: (&str, &str) = ("costs", "room");

#[test]
fn joins_beyond_their_pace_are_answered_later_all_of_them_and_others_notice_nothing() {
    const JOINS: usize = 150;
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.joins_per_s = 50);
        let mut greedy = Subscriber::on_worker(&server, 0);
        let mut other = Subscriber::on_worker(&server, 0);
        let since = Instant::now();
        for n in 0..JOINS {
            greedy.start_join(&n.to_string(), ("costs", &format!("g{n}")), None);
        }
        greedy.send_message(Message::Ping("behind".into()));
        for n in 0..40 {
            let asked = Instant::now();
            other.join(&n.to_string(), ROOM);
            assert!(asked.elapsed() < Duration::from_secs(1), "others wait");
        }
        let (mut synced, mut pongs) = (HashSet::new(), 0);
        while synced.len() < JOINS || pongs == 0 {
            match greedy.next_message() {
                Message::Pong(_) => pongs += 1,
                message => assert!(synced.insert(message.into_text().unwrap().to_string())),
            }
        }
        // One second's worth at once, the others at 50 a second.
        let took = since.elapsed();
        assert!(took > Duration::from_millis(1900), "{took:?}");
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(("costs", "g149"), "i", json!(1));
        assert_eq!(greedy.next().kind, "create");
        greedy.close();
        wait_until("only the other one is left", || {
            server.shared().connections_len() == 1
        });
    });
}

#[test]
fn bytes_beyond_their_pace_are_read_later_and_none_is_lost() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.limits.read_bytes_per_s = 64 * 1024;
        });
        let mut greedy = Subscriber::on_worker(&server, 0);
        let mut other = Subscriber::on_worker(&server, 0);
        let since = Instant::now();
        // Ignored, as large as it is; the join behind it is served.
        greedy.send(&json!("x".repeat(192 * 1024)).to_string());
        greedy.start_join("behind", ROOM, None);
        other.join("other", ROOM);
        assert!(since.elapsed() < Duration::from_millis(1500), "others wait");
        greedy.sync();
        let took = since.elapsed();
        assert!(took > Duration::from_millis(1900), "{took:?}");
        greedy.close();
    });
}

#[test]
fn sdk_workers_have_a_pace_where_the_settings_give_one() {
    fn took(change: impl FnOnce(&mut Config)) -> Duration {
        let server = TestServer::with(THREE_WORKERS, change);
        let mut sdk = SdkWorker::connect(&server);
        let since = Instant::now();
        let value = "x".repeat(1000);
        let calls: Vec<String> = (0..90)
            .map(|n| sdk.start("stream::set", set_input(ROOM, "i", json!([n, value]))))
            .collect();
        let mut other = SdkWorker::connect(&server);
        other.set(ROOM, "other", json!(1));
        assert!(since.elapsed() < Duration::from_millis(1500), "others wait");
        for (n, call) in calls.iter().enumerate() {
            let result = sdk.result(call);
            assert_eq!(result["result"]["new_value"][0], json!(n), "{result}");
        }
        since.elapsed()
    }
    let calls = took(|config| config.limits.calls_per_s = 30);
    assert!(calls > Duration::from_millis(1900), "{calls:?}");
    let bytes = took(|config| config.limits.worker_read_bytes_per_s = 36 * 1024);
    assert!(bytes > Duration::from_millis(1900), "{bytes:?}");
}

/// Sends bytes and then a ping; gives what came before its answer, in bytes.
fn answered(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    socket.write_all(bytes).unwrap();
    socket.write_all(&raw::frame(0x89, b"marker")).unwrap();
    let mut answered = 0;
    loop {
        let (first, payload) = raw::read_frame(socket);
        if (first, &*payload) == (0x8a, b"marker") {
            return answered;
        }
        answered += payload.len() + 2;
    }
}

#[test]
fn what_a_subscriber_sends_brings_about_no_more_than_its_bytes_but_for_what_it_joins() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.subscriptions = 2;
        config.limits.joins_per_s = 0;
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(ROOM, "i", json!("x".repeat(10_000)));
    let mut socket = raw::upgrade(raw::connect(server.stream()), "/");
    let pings: Vec<u8> = (0..1000).flat_map(|_| raw::frame(0x89, b"x")).collect();
    assert!(answered(&mut socket, &pings) <= pings.len());
    let nothing = [
        raw::frame(0x8a, b"a pong"),
        raw::text("no join"),
        raw::text(&leave("unknown")),
        raw::frame(0x82, &[0xff; 100]),
    ];
    assert_eq!(answered(&mut socket, &nothing.concat()), 0);
    let mut take = |bytes: &[u8], frames: usize| -> usize {
        socket.write_all(bytes).unwrap();
        let frames = (0..frames).map(|_| raw::read_frame(&mut socket));
        frames.map(|(_, payload)| payload.len() + 4).sum()
    };
    // A join is answered with what it joins, once for each.
    let joins = ["a", "b"].map(|id| raw::text(&join(id, ROOM, None)));
    let syncs = take(&joins.concat(), 2);
    assert!((20_000..21_000).contains(&syncs), "{syncs}");
    // One that is refused: with its names and little else.
    let many = raw::text(&join("c", ROOM, None)).repeat(100);
    let answers = take(&many, 100);
    assert!(answers <= 2 * many.len(), "{answers} for {}", many.len());
    assert_eq!(answered(&mut socket, &[]), 0);
}

#[test]
fn a_request_brings_about_no_more_than_a_few_hundred_bytes() {
    let server = TestServer::start(ONE_WORKER);
    for address in [server.stream(), server.worker()] {
        for request in [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            "x\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\n\r\n".to_owned(),
            "GET /nowhere HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(70_000)),
            raw::upgrade_request("/", "origin: a\r\norigin: b\r\n"),
        ] {
            let mut stream = raw::connect(address);
            // It may be answered before all of it is read.
            let _ = stream.write_all(request.as_bytes());
            let answer = raw::read_to_end(&mut stream);
            assert!((1..400).contains(&answer.len()), "{}", answer.len());
        }
    }
}

/// The turns of the worker that took longer than that, of all that it has had.
fn turns_above(server: &TestServer, limit: Duration) -> (u64, u64) {
    let steps: Vec<(Duration, u64)> = server.shared().workers[0].loop_turns.steps().collect();
    let long = steps.iter().filter(|(below, _)| *below > limit);
    let long: u64 = long.map(|(_, count)| count).sum();
    (long, steps.iter().map(|(_, count)| count).sum())
}

#[test]
fn who_joins_and_leaves_a_large_room_in_a_loop_makes_no_turn_of_its_worker_long() {
    const ITEMS: usize = 100_000;
    /// A step of the histogram; what this takes with all checks on is some times what it takes without.
    const TURN_MAX: Duration = Duration::from_micros(1 << 14);
    let shape = Shape {
        threads: 1,
        mailbox_len: 4096,
    };
    let server = TestServer::with(shape, |config| config.limits.joins_per_s = 0);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..ITEMS {
        sdk.void("stream::set", set_input(ROOM, &n.to_string(), json!(n)));
    }
    sdk.settle();
    sdk.get(ROOM, "0");
    let (long_before, turns_before) = turns_above(&server, TURN_MAX);
    let until = Instant::now() + Duration::from_secs(4);
    let mut socket = raw::upgrade(raw::connect(server.stream()), "/");
    let reading = std::thread::spawn(move || {
        let pair = [raw::text(&join("s", ROOM, None)), raw::text(&leave("s"))].concat();
        let mut rooms = 0;
        while Instant::now() < until {
            socket.write_all(&pair).unwrap();
            let (_, sync) = raw::read_frame(&mut socket);
            assert!(sync.len() > ITEMS * 5);
            rooms += 1;
        }
        rooms
    });
    // Others are served meanwhile, and each change makes another version of the room.
    let mut other = Subscriber::connect(&server);
    other.join_item("s", ROOM, "0");
    let mut changes = 0;
    while Instant::now() < until {
        changes += 1;
        sdk.set(ROOM, "0", json!(changes));
        assert_eq!(other.next().data, json!(changes));
    }
    let rooms = reading.join().unwrap();
    assert!(rooms > 10, "{rooms} rooms beside {changes} changes");
    let (long, turns) = turns_above(&server, TURN_MAX);
    let (long, turns) = (long - long_before, turns - turns_before);
    assert!(long * 100 <= turns, "{long} of {turns} turns are long");
}
