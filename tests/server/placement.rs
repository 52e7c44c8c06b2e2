//! Where subscribers live: with the owner of their first group, or with the emptiest worker. On the way
//! nothing is lost, doubled or reordered.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use iii_stream::config::Config;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::clients::{join, leave};
use crate::support::process::Directory;
use crate::support::tls::{Localhost, Tunnel};
use crate::support::{SdkWorker, Subscriber, THREE_WORKERS, TestServer, raw, wait_until};

/// A group that worker 2 owns.
const HOME: (&str, &str) = ("s", "g@2");

/// A server whose sockets are accepted by worker 0.
fn placing(change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::with(THREE_WORKERS, change);
    server.shared().steered_stay.store(false, Ordering::Relaxed);
    server.steer_to(0);
    server
}

fn counts(server: &TestServer) -> Vec<usize> {
    let counts = server.shared().connections.iter();
    counts.map(|count| count.load(Ordering::Relaxed)).collect()
}

fn handed_over(server: &TestServer) -> u64 {
    let workers = server.shared().workers.iter();
    workers.map(|worker| worker.handed_over.get()).sum()
}

fn events_sent(server: &TestServer) -> u64 {
    let workers = server.shared().workers.iter();
    workers.map(|worker| worker.events_sent.get()).sum()
}

fn joins_home(server: &TestServer) -> u64 {
    let workers = server.shared().workers.iter();
    workers.map(|worker| worker.joins_home.get()).sum()
}

/// Kind, and what is told.
fn read(stream: &mut TcpStream) -> (String, Value) {
    let (first, payload) = raw::read_frame(stream);
    assert_eq!(first, 0x81, "{payload:?}");
    let message: Value = serde_json::from_slice(&payload).unwrap();
    let kind = message["event"]["type"].as_str().unwrap().to_owned();
    (kind, message["groupId"].clone())
}

#[test]
fn a_room_s_subscribers_live_with_its_owner_and_its_events_cross_no_threads() {
    let server = placing(|_| {});
    let mut sdk = SdkWorker::connect(&server);
    let mut room: Vec<Subscriber> = (0..10)
        .map(|n| match n % 3 {
            0 => Subscriber::at(&server, "/stream/s/g@2"),
            1 => Subscriber::at(&server, "/stream/s/g@2/u"),
            _ => {
                let mut subscriber = Subscriber::connect(&server);
                subscriber.start_join("a", HOME, None);
                subscriber
            }
        })
        .collect();
    for subscriber in &mut room {
        assert_eq!(subscriber.next().kind, "sync");
    }
    assert_eq!(counts(&server), [0, 0, 10]);
    assert_eq!((handed_over(&server), joins_home(&server)), (10, 10));
    for n in 0..20 {
        sdk.set(HOME, "u", json!(n));
    }
    for subscriber in &mut room {
        for n in 0..20 {
            assert_eq!(subscriber.next().data, n);
        }
    }
    assert_eq!(events_sent(&server), 0);
    // The first group has decided; a further one moves nobody.
    room[2].join("b", ("s", "g@1"));
    sdk.set(("s", "g@1"), "u", json!(1));
    assert_eq!(room[2].next().data, 1);
    assert_eq!(counts(&server), [0, 0, 10]);
    assert_eq!((handed_over(&server), events_sent(&server)), (10, 1));
    drop(room);
    wait_until("all are counted out", || counts(&server) == [0, 0, 0]);
    wait_until("the room is forgotten", || {
        let shared = server.shared();
        let mut workers = shared.workers.iter();
        workers.all(|worker| worker.followed_groups.get() == 0)
    });
    assert_eq!(server.shared().let_in.load(Ordering::Relaxed), 0);
}

#[test]
fn what_comes_with_the_first_join_is_served_after_it_wherever_it_is_cut() {
    let server = placing(|_| {});
    let mut sent = raw::upgrade_request("/", "").into_bytes();
    sent.extend(raw::text(&leave("unknown")));
    sent.extend(raw::frame(0x89, b"before"));
    sent.extend(raw::text(&join("a", HOME, None)));
    sent.extend(raw::text(&join("b", ("s", "h@1"), None)));
    sent.extend(raw::text(&leave("a")));
    sent.extend(raw::text(&join("a", ("s", "i@0"), None)));
    sent.extend(raw::frame(0x89, b"after"));
    sent.extend(raw::frame(0x88, b""));
    let len = sent.len();
    for cut in (0..=len).step_by(7) {
        let mut stream = raw::connect(server.stream());
        stream.write_all(&sent[..cut]).unwrap();
        stream.write_all(&sent[cut..]).unwrap();
        let head = raw::read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // A close ends what waits: whatever comes comes in its order, and the close is answered.
        let mut syncs = Vec::new();
        loop {
            let (first, payload) = raw::read_frame(&mut stream);
            match first {
                0x8A => assert!(payload == b"before" || payload == b"after"),
                0x81 => {
                    let message: Value = serde_json::from_slice(&payload).unwrap();
                    assert_eq!(message["event"]["type"], "sync");
                    syncs.push(message["groupId"].as_str().unwrap().to_owned());
                }
                other => {
                    assert_eq!(other, 0x88, "cut at {cut}");
                    break;
                }
            }
        }
        let place = |group: &str| ["g@2", "i@0"].iter().position(|of| *of == group);
        let of_a: Vec<_> = syncs.iter().filter_map(|group| place(group)).collect();
        assert!(
            of_a.is_sorted() && syncs.len() <= 3,
            "cut at {cut}: {syncs:?}"
        );
    }
    wait_until("all are counted out", || counts(&server) == [0, 0, 0]);
}

#[test]
fn frames_behind_a_head_with_a_path_come_after_its_join() {
    let server = placing(|_| {});
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(HOME, "u", json!(1));
    for n in 0..50 {
        let mut sent = raw::upgrade_request("/stream/s/g@2", "").into_bytes();
        sent.extend(raw::frame(0x89, b"p"));
        sent.extend(raw::text(&join("b", ("s", "h@1"), None)));
        let cut = sent.len() * n / 50;
        let mut stream = raw::connect(server.stream());
        stream.write_all(&sent[..cut]).unwrap();
        stream.write_all(&sent[cut..]).unwrap();
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let (first, payload) = raw::read_frame(&mut stream);
            if first == 0x8A {
                heard.push("pong".to_owned());
                continue;
            }
            let message: Value = serde_json::from_slice(&payload).unwrap();
            heard.push(message["groupId"].as_str().unwrap().to_owned());
        }
        heard.sort_unstable();
        assert_eq!(heard, ["g@2", "h@1", "pong"], "each once");
    }
    assert_eq!((handed_over(&server), joins_home(&server)), (50, 50));
}

#[test]
fn what_the_auth_function_says_of_a_socket_goes_with_it() {
    let server = placing(|config| config.auth.function = Some("onAuth".to_owned()));
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("onAuth");
    sdk.register("onJoin");
    sdk.trigger("t", "stream:join", "onJoin", json!({"stream_name": "s"}));
    for n in 0..10 {
        let path = if n % 2 == 0 { "/stream/s/g@2" } else { "/" };
        let mut sent = raw::upgrade_request(path, "").into_bytes();
        if n % 2 == 1 {
            sent.extend(raw::text(&join("a", HOME, None)));
        }
        sent.extend(raw::text(&join("b", ("s", "h@1"), None)));
        let mut stream = raw::connect(server.stream());
        stream.write_all(&sent).unwrap();
        let asked = sdk.next_call_of("onAuth");
        assert_eq!(handed_over(&server), n, "it waits where it was accepted");
        sdk.answer(&asked, json!({"result": {"context": {"user": n}}}));
        assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
        for group in ["g@2", "h@1"] {
            let asked = sdk.next_call_of("onJoin");
            assert_eq!(asked["data"]["group_id"], group);
            assert_eq!(asked["data"]["context"], json!({"user": n}));
            sdk.answer(&asked, json!({"result": null}));
        }
        let mut heard: Vec<String> = (0..2)
            .map(|_| read(&mut stream).1.as_str().unwrap().to_owned())
            .collect();
        heard.sort_unstable();
        assert_eq!(heard, ["g@2", "h@1"]);
        assert_eq!(handed_over(&server), n + 1);
    }
}

#[test]
fn sockets_that_end_on_their_way_leave_nothing_behind() {
    let server = placing(|_| {});
    let mut sdk = SdkWorker::connect(&server);
    let mut stay = Subscriber::connect(&server);
    stay.join("stays", HOME);
    for n in 0..300 {
        let path = if n % 2 == 0 { "/stream/s/g@2" } else { "/" };
        let mut sent = raw::upgrade_request(path, "").into_bytes();
        sent.extend(raw::text(&join("a", HOME, None)));
        if n % 3 == 0 {
            sent.extend(raw::frame(0x88, b""));
        }
        let mut stream = raw::connect(server.stream());
        stream.write_all(&sent).unwrap();
        if n % 3 == 1 {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    }
    wait_until("all are counted out", || counts(&server) == [0, 0, 1]);
    wait_until("nobody else follows", || {
        let workers = server.shared().workers.iter();
        workers
            .map(|worker| worker.subscriptions.get())
            .sum::<u64>()
            == 1
    });
    assert_eq!(server.shared().let_in.load(Ordering::Relaxed), 1);
    sdk.set(HOME, "u", json!(1));
    assert_eq!(stay.next().data, 1);
}

#[test]
fn more_than_a_mailbox_holds_come_over_at_once_and_all_arrive() {
    let server = placing(|_| {});
    let mut sdk = SdkWorker::connect(&server);
    let mut sockets: Vec<TcpStream> = (0..90).map(|_| raw::connect(server.stream())).collect();
    let mut sent = raw::upgrade_request("/stream/s/g@2", "").into_bytes();
    sent.extend(raw::text(&join("b", ("s", "h@1"), None)));
    for stream in &mut sockets {
        stream.write_all(&sent).unwrap();
        // Calls for the same worker fill its mailbox as well.
        sdk.void(
            "stream::set",
            json!({"stream_name": "s", "group_id": "other@2", "item_id": "i", "data": 1}),
        );
    }
    for stream in &mut sockets {
        assert!(raw::read_head(stream).starts_with("HTTP/1.1 101 "));
        let mut heard: Vec<Value> = (0..2).map(|_| read(stream).1).collect();
        heard.sort_by_key(|group| group.as_str().unwrap().to_owned());
        assert_eq!(heard, ["g@2", "h@1"]);
    }
    assert_eq!(counts(&server), [0, 0, 90]);
    sdk.set(HOME, "u", json!(1));
    for stream in &mut sockets {
        assert_eq!(read(stream), ("create".to_owned(), json!("g@2")));
    }
}

#[test]
fn a_room_that_grows_has_its_first_members_with_the_owner_and_the_others_spread() {
    let server = placing(|config| config.place_below = 4);
    let mut sdk = SdkWorker::connect(&server);
    let mut room: Vec<Subscriber> = (0..13)
        .map(|_| {
            let mut subscriber = Subscriber::connect(&server);
            subscriber.join("a", HOME);
            subscriber
        })
        .collect();
    let counted = counts(&server);
    assert_eq!(counted.iter().sum::<usize>(), 13);
    assert!(
        counted[2] <= 6 && counted.iter().all(|count| *count >= 4),
        "{counted:?}"
    );
    assert_eq!(handed_over(&server) as usize, 13 + counted[0] + counted[1]);
    sdk.set(HOME, "u", json!(1));
    for subscriber in &mut room {
        assert_eq!(subscriber.next().data, 1);
    }
    // Each worker with members gets one message an event.
    assert_eq!(events_sent(&server), 2);
}

#[test]
fn an_owner_with_many_sockets_more_than_the_others_takes_no_more() {
    let server = placing(|_| {});
    let mut sockets: Vec<Subscriber> = (0..170)
        .map(|n| Subscriber::at(&server, &format!("/stream/s/room-{n}@2")))
        .collect();
    for subscriber in &mut sockets {
        subscriber.sync();
    }
    let counted = counts(&server);
    // 64 more than the mean, and the rest with the emptiest.
    assert!((110..=125).contains(&counted[2]), "{counted:?}");
    assert!(counted[0].abs_diff(counted[1]) <= 1, "{counted:?}");
}

#[test]
fn at_the_end_of_the_process_sockets_on_their_way_are_closed_as_all_others() {
    for round in 0..5 {
        let server = placing(|config| config.drain_ms = 2_000);
        let mut sockets: Vec<TcpStream> = (0..60).map(|_| raw::connect(server.stream())).collect();
        wait_until("all are accepted", || {
            server.shared().connections_len() == 60
        });
        let sent = raw::upgrade_request("/stream/s/g@2", "");
        for (n, stream) in sockets.iter_mut().enumerate() {
            if n == 10 * round {
                wait_until("some are on their way", || {
                    handed_over(&server) >= 5 * round as u64
                });
                server.shared().drain();
            }
            // Who comes too late is reset.
            let _ = stream.write_all(sent.as_bytes());
        }
        let mut closed = 0;
        for stream in &mut sockets {
            let bytes = raw::read_to_end(stream);
            let text = String::from_utf8_lossy(&bytes);
            if text.starts_with("HTTP/1.1 101 ") {
                assert!(text.ends_with("the server ends; come again"), "{text}");
                closed += 1;
            }
        }
        assert!(closed >= 5 * round, "{closed}");
        drop(server);
    }
}

#[test]
fn a_session_of_tls_goes_with_its_socket() {
    let localhost = Localhost::make();
    let directory = Directory::new("placement");
    let files = localhost.write(&directory.0);
    let server = placing(|config| config.tls = Some(files));
    let mut sdk = SdkWorker::connect(&server);
    for versions in [[&TLS12], [&TLS13]] {
        let tunnel = Tunnel::to(server.stream(), localhost.client(&versions));
        for path in ["/", "/stream/s/g@2"] {
            let before = handed_over(&server);
            let mut sent = raw::upgrade_request(path, "").into_bytes();
            sent.extend(raw::text(&join("a", HOME, None)));
            sent.extend(raw::text(&join("b", ("s", "h@1"), None)));
            let mut stream = raw::connect(tunnel.address);
            stream.write_all(&sent).unwrap();
            assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
            let syncs = if path == "/" { 2 } else { 3 };
            for _ in 0..syncs {
                assert_eq!(read(&mut stream).0, "sync");
            }
            assert_eq!(handed_over(&server), before + 1);
            sdk.set(("s", "h@1"), "u", json!("x".repeat(100_000)));
            let (_, payload) = raw::read_frame(&mut stream);
            assert!(payload.len() > 100_000);
            stream.write_all(&raw::frame(0x88, b"")).unwrap();
            assert_eq!(raw::read_close(&mut stream), None);
        }
    }
    wait_until("all are counted out", || counts(&server) == [0, 0, 0]);
}

#[test]
fn who_falls_silent_after_it_has_gone_over_is_pinged_and_given_up_there() {
    let server = placing(|config| {
        config.limits.ping_interval_ms = 300;
        config.limits.pong_timeout_ms = 300;
    });
    let mut stream = raw::upgrade(raw::connect(server.stream()), "/");
    stream
        .write_all(&raw::text(&join("a", HOME, None)))
        .unwrap();
    assert_eq!(read(&mut stream).0, "sync");
    assert_eq!(counts(&server), [0, 0, 1]);
    assert_eq!(raw::read_frame(&mut stream).0, 0x89);
    assert_eq!(raw::read_to_end(&mut stream), b"");
    wait_until("it is counted out", || counts(&server) == [0, 0, 0]);
}
