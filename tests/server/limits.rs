//! Every limit: what is just within it is served, and what is beyond it does only what is said.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::{
    ONE_WORKER, SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw, wait_until,
};

const ROOM: (&str, &str) = ("limits", "room");

fn failed(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

#[test]
fn a_name_over_its_limit_is_refused_by_join_and_call() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.name_bytes = 10);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        let (fits, long) = ("0123456789", "0123456789a");
        subscriber.join_item(fits, (fits, fits), fits);
        let joins = [
            (long, (fits, fits), None),
            (fits, (long, fits), None),
            (fits, (fits, long), None),
            (fits, (fits, fits), Some(long)),
        ];
        for (id, group, item) in joins {
            subscriber.start_join(id, group, item);
            let heard = subscriber.next();
            assert_eq!(heard.kind, "unauthorized");
            assert_eq!((&*heard.stream, &*heard.group), group);
            assert_eq!(heard.id.as_deref(), item);
        }
        let path = format!("/stream/s/{long}");
        assert_eq!(Subscriber::at(&server, &path).next().kind, "unauthorized");
        let set = set_input((fits, fits), fits, json!(1));
        assert!(sdk.call("stream::set", set).get("error").is_none());
        let calls = [
            ("stream::set", "STREAM_SET_ERROR", "set value"),
            ("stream::get", "STREAM_GET_ERROR", "get value"),
            ("stream::delete", "STREAM_DELETE_ERROR", "delete value"),
            ("stream::list", "STREAM_GET_GROUP_ERROR", "get group"),
            (
                "stream::list_groups",
                "STREAM_LIST_GROUPS_ERROR",
                "list groups",
            ),
            ("stream::send", "STREAM_SEND_ERROR", "send event"),
            ("stream::update", "STREAM_UPDATE_ERROR", "update value"),
        ];
        for (function, code, what) in calls {
            let input = json!({"stream_name": long, "group_id": "g", "item_id": "i", "data": 1,
                "type": "t", "ops": []});
            let message = format!("Failed to {what}: limits.name_bytes exceeded: 11 > 10");
            assert_eq!(sdk.error_of(function, input), (code.to_owned(), message));
        }
        assert_eq!(subscriber.next().kind, "create");
        subscriber.hears_only_the_marker_of_item(&mut sdk, (fits, fits), fits);
    });
}

#[test]
fn a_value_too_deep_or_too_large_is_an_error() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.limits.value_bytes = 1000;
            config.limits.update_ops = 3;
        });
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("s", ROOM);
        let mut set = |value: &str| {
            let id = uuid::Uuid::new_v4().to_string();
            let input = set_input(ROOM, "i", json!("HERE")).to_string();
            sdk.send_text(&format!(
                r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"stream::set","data":{}}}"#,
                input.replace(r#""HERE""#, value)
            ));
            sdk.result(&id)
        };
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(set(&nested(125)).get("error").is_none());
        for (value, cause) in [
            (nested(126), "limits.json_depth exceeded: 126 > 125"),
            (
                format!("\"{}\"", "x".repeat(999)),
                "limits.value_bytes exceeded: 1001 > 1000",
            ),
        ] {
            assert_eq!(
                error_in(&set(&value)),
                failed("STREAM_SET_ERROR", &format!("Failed to set value: {cause}"))
            );
        }
        for (value, phrase) in [
            ("1e309", "number out of range"),
            (r#""\ud83d""#, r"lone surrogate in a \u escape"),
        ] {
            let message = format!("Failed to deserialize input for stream::set: {phrase}");
            assert_eq!(
                error_in(&set(value)),
                failed("deserialization_error", &message)
            );
        }
        assert!(
            set(&format!("\"{}\"", "x".repeat(998)))
                .get("error")
                .is_none()
        );
        let ops = |count: usize| {
            let mut input = item_input(ROOM, "counter");
            input["ops"] = json!(vec![
                json!({"type": "increment", "path": "n", "by": 1});
                count
            ]);
            input
        };
        assert!(sdk.call("stream::update", ops(3)).get("error").is_none());
        assert_eq!(
            sdk.error_of("stream::update", ops(4)),
            failed(
                "STREAM_UPDATE_ERROR",
                "Failed to update value: limits.update_ops exceeded: 4 > 3"
            )
        );
        // What an update makes of a value within the limit may be beyond it.
        let mut grow = item_input(ROOM, "i");
        grow["ops"] = json!([{"type": "append", "path": "", "value": "yy"}]);
        let (code, message) = sdk.error_of("stream::update", grow);
        assert_eq!(code, "STREAM_UPDATE_ERROR");
        assert!(
            message.contains("limits.value_bytes exceeded: 1002 > 1000"),
            "{message}"
        );
        let kinds: Vec<String> = (0..3).map(|_| subscriber.next().kind).collect();
        assert_eq!(
            kinds,
            ["create", "update", "create"],
            "of the refused nothing is heard"
        );
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn a_subscription_too_many_is_refused_and_a_known_id_may_move() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.subscriptions = 3);
        let mut subscriber = Subscriber::connect(&server);
        for id in ["a", "b", "c", "d"] {
            subscriber.start_join(id, ROOM, None);
        }
        let mut kinds: Vec<String> = (0..4).map(|_| subscriber.next().kind).collect();
        kinds.sort();
        assert_eq!(kinds, ["sync", "sync", "sync", "unauthorized"]);
        assert_eq!(
            subscriber.join_item("a", ROOM, "i").id.as_deref(),
            Some("i")
        );
        subscriber.leave("b");
        subscriber.join("d", ROOM);
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(ROOM, "other", json!(1));
        let both = subscriber.take(2);
        assert_eq!(both[0], both[1], "c and d");
        let refused: u64 = server
            .shared()
            .workers
            .iter()
            .map(|worker| worker.joins_refused.get())
            .sum();
        assert_eq!(refused, 1);
    });
}

#[test]
fn a_subscription_that_equals_too_many_is_refused_and_one_that_takes_the_place_of_its_like_is_not()
{
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.equal_subscriptions = 3);
        let mut subscriber = Subscriber::connect(&server);
        for item in [None, Some("i")] {
            for id in ["a", "b", "c", "d"] {
                let id = format!("{id}{item:?}");
                subscriber.start_join(&id, ROOM, item);
            }
            let mut kinds: Vec<String> = (0..4).map(|_| subscriber.next().kind).collect();
            kinds.sort();
            assert_eq!(kinds, ["sync", "sync", "sync", "unauthorized"]);
            // Joined again, moved away and back: never more than three.
            let moves = [
                ("a", item, "sync"),
                ("a", Some("elsewhere"), "sync"),
                ("d", item, "sync"),
                ("a", item, "unauthorized"),
            ];
            for (id, item_of, kind) in moves {
                subscriber.start_join(&format!("{id}{item:?}"), ROOM, item_of);
                assert_eq!(subscriber.next().kind, kind, "{id} {item_of:?}");
            }
        }
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(ROOM, "i", json!(1));
        let heard = subscriber.take(6);
        assert!(heard.iter().all(|event| *event == heard[0]));
        subscriber.start_join("marker", ("limits", "other"), None);
        assert_eq!(subscriber.next().kind, "sync");
    });
}

#[test]
fn sockets_that_send_no_head_make_room_for_those_that_come_later() {
    use std::io::Write;
    let by_len = |config: &mut iii_stream::config::Config| config.limits.handshakes = 4;
    let by_bytes =
        |config: &mut iii_stream::config::Config| config.limits.handshakes_bytes = 40_000;
    for (limit, begun) in [
        (&by_len as &dyn Fn(&mut iii_stream::config::Config), 10),
        (&by_bytes, 10_000),
    ] {
        let server = TestServer::with(ONE_WORKER, limit);
        let request = raw::upgrade_request("/", &format!("x: {}\r\n", "y".repeat(20_000)));
        let mut stopped: Vec<_> = (0..12)
            .map(|_| {
                let mut stream = raw::connect(server.stream());
                stream.write_all(&request.as_bytes()[..begun]).unwrap();
                stream
            })
            .collect();
        let ended = || server.shared().workers[0].handshakes_ended.get();
        wait_until("the oldest are ended", || ended() >= 8);
        assert_eq!(raw::read_to_end(&mut stopped[0]), [0; 0]);
        // The youngest may go on, and whoever comes is let in.
        let youngest = stopped.last_mut().unwrap();
        youngest.write_all(&request.as_bytes()[begun..]).unwrap();
        assert!(raw::read_head(youngest).starts_with("HTTP/1.1 101 "));
        for _ in 0..20 {
            Subscriber::connect(&server).join("s", ROOM);
        }
        assert!(ended() <= 11, "{}", ended());
    }
}

/// Mailboxes that hold less than one message take one at a time, and nothing is lost.
#[test]
fn messages_larger_than_a_mailbox_pass() {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.limits.mailbox_bytes = 1000;
        // All of it may wait for a reader.
        config.limits.behind_bytes = 16 * 1024 * 1024;
    });
    let mut sdk = SdkWorker::connect(&server);
    let mut subscribers: Vec<Subscriber> = (0..3)
        .map(|worker| Subscriber::on_worker(&server, worker))
        .collect();
    for subscriber in &mut subscribers {
        for owner in 0..3 {
            subscriber.join(&owner.to_string(), ("big", &format!("g@{owner}")));
        }
    }
    let value = "x".repeat(20_000);
    for n in 0..50 {
        for owner in 0..3 {
            let group = format!("g@{owner}");
            sdk.void(
                "stream::set",
                set_input(("big", &group), "i", json!([n, value])),
            );
        }
    }
    for subscriber in &mut subscribers {
        let mut next = [0; 3];
        for _ in 0..150 {
            let heard = subscriber.next();
            let owner: usize = heard.group["g@".len()..].parse().unwrap();
            assert_eq!(heard.data[0], json!(next[owner]));
            assert_eq!(heard.data[1], json!(value));
            next[owner] += 1;
        }
        assert_eq!(next, [50; 3]);
    }
}

#[test]
fn a_reader_too_far_behind_ends_on_what_is_there_and_nobody_else_notices() {
    const ITEMS: usize = 5;
    const CHANGES: usize = 2_000;
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.limits.behind_bytes = 64 * 1024;
            config.limits.custom_events_behind = 7;
        });
        let mut sdk = SdkWorker::connect(&server);
        let mut reads: Vec<Subscriber> = (0..shape.threads)
            .map(|worker| Subscriber::on_worker(&server, worker))
            .collect();
        server.steer_to(0);
        let stopped = raw::connect_narrow(server.stream());
        let mut stopped = Subscriber::over(stopped, &server);
        let watches = raw::connect_narrow(server.stream());
        let mut watches = Subscriber::over(watches, &server);
        server.steer_to(usize::MAX);
        for subscriber in reads.iter_mut().chain([&mut stopped]) {
            subscriber.join("s", ROOM);
        }
        watches.join_item("w", ROOM, "0");
        let value = "x".repeat(8 * 1024);
        let mut there = BTreeMap::new();
        for sent in 0..CHANGES {
            let item = (sent * 7 % ITEMS).to_string();
            let kind = match sent % 3 {
                0 if sent % 2 == 0 => {
                    sdk.send_event(ROOM, None, "k", json!(sent));
                    "event"
                }
                1 if there.contains_key(&item) && sent % 4 == 0 => {
                    sdk.delete(ROOM, &item);
                    there.remove(&item);
                    "delete"
                }
                _ => {
                    let data = json!({"id": item, "n": sent, "pad": value});
                    sdk.set(ROOM, &item, data.clone());
                    match there.insert(item.clone(), data) {
                        Some(_) => "update",
                        None => "create",
                    }
                }
            };
            for subscriber in &mut reads {
                assert_eq!(subscriber.next().kind, kind, "none is missing");
            }
        }
        sdk.send_event(ROOM, None, "k", json!("last"));
        sdk.send_event(ROOM, Some("0"), "k", json!("last"));
        let numbers = |items: &BTreeMap<String, Value>| -> Vec<(String, Value)> {
            let items = items.iter();
            items
                .map(|(item, data)| (item.clone(), data["n"].clone()))
                .collect()
        };
        let (mut mine, mut customs, mut time) = (BTreeMap::new(), Vec::new(), 0);
        while customs.last() != Some(&json!("last")) || numbers(&mine) != numbers(&there) {
            let heard = stopped.next();
            assert!(heard.timestamp >= time, "times never fall");
            time = heard.timestamp;
            let item = heard.data["id"].as_str().unwrap_or_default().to_owned();
            match &*heard.kind {
                "sync" => {
                    let items = heard.data.as_array().unwrap().iter();
                    let by_id =
                        |item: &Value| (item["id"].as_str().unwrap().to_owned(), item.clone());
                    mine = items.map(by_id).collect();
                }
                "event" => customs.push(heard.data["data"].clone()),
                "delete" => assert!(mine.remove(&item).is_some(), "it held it"),
                kind => {
                    let held = mine.insert(item, heard.data);
                    assert_eq!(held.is_some(), kind == "update");
                }
            }
        }
        assert!(customs.len() >= 7, "the last ones come: {customs:?}");
        let mut value = None;
        loop {
            let heard = watches.next();
            match &*heard.kind {
                "event" => break,
                "delete" => assert!(value.take().is_some(), "it held it"),
                kind => assert_eq!(value.replace(heard.data).is_some(), kind == "update"),
            }
        }
        let number = |value: &Value| value["n"].clone();
        assert_eq!(value.as_ref().map(number), there.get("0").map(number));
    });
}

#[test]
fn a_single_large_event_reaches_a_hundred_subscribers() {
    let server = TestServer::start(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscribers: Vec<Subscriber> = (0..100).map(|_| Subscriber::connect(&server)).collect();
    for subscriber in &mut subscribers {
        subscriber.join("s", ROOM);
    }
    let value = "x".repeat(8 * 1024 * 1024);
    sdk.void("stream::set", set_input(ROOM, "i", json!(value)));
    for subscriber in &mut subscribers {
        let text = subscriber.next_text();
        assert!(text.len() > value.len() && text.contains(r#""type":"create""#));
    }
    sdk.set(ROOM, "i", json!("small"));
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next().data, json!("small"));
    }
}

#[test]
fn a_large_room_is_synced_whole_over_a_slow_socket() {
    const ITEMS: usize = 100_000;
    let server = TestServer::start(THREE_WORKERS);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..ITEMS {
        let set = set_input(ROOM, &n.to_string(), json!(n));
        sdk.void("stream::set", set);
    }
    assert_eq!(
        sdk.get(ROOM, &(ITEMS - 1).to_string()),
        Some(json!(ITEMS - 1))
    );
    let slow = raw::connect_narrow(server.stream());
    let mut slow = Subscriber::over(slow, &server);
    slow.start_join("s", ROOM, None);
    let mut quick = Subscriber::connect(&server);
    let mut watcher = Subscriber::connect(&server);
    watcher.join_item("w", ROOM, "0");
    let sync = quick.join("s", ROOM);
    // Its sync waits in the middle of a chunk; what changes now is not in it and follows.
    let reading = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            wait_until("the change is made", || reading.load(Ordering::Relaxed));
            (slow.sync(), slow.next())
        });
        sdk.set(ROOM, "0", json!("changed"));
        assert_eq!(
            watcher.next().data,
            json!("changed"),
            "while the slow one waits"
        );
        assert_eq!(quick.next().data, json!("changed"));
        reading.store(true, Ordering::Relaxed);
        let (whole, change) = reader.join().unwrap();
        let wanted: Vec<Value> = (0..ITEMS).map(|n| json!(n)).collect();
        assert!(
            whole.data == json!(wanted),
            "{} of them",
            whole.data.as_array().unwrap().len()
        );
        assert!(sync.data == whole.data);
        assert_eq!(change.told(), ("update", Some("0"), &json!("changed")));
    });
}

#[test]
fn sockets_on_the_worker_port_that_wait_to_be_let_in_are_few_and_the_oldest_go() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.handshakes = 4;
        config.limits.handshakes_bytes = 64 * 1024;
    });
    let mut sdk = SdkWorker::connect(&server);
    let mut silent: Vec<TcpStream> = (0..10).map(|_| raw::connect(server.worker())).collect();
    for oldest in &mut silent[..6] {
        assert!(
            raw::read_to_end(oldest).is_empty(),
            "it says nothing, and is old"
        );
    }
    let mut newer = SdkWorker::connect(&server);
    newer.set(("s", "g"), "i", json!(1));
    sdk.set(("s", "g"), "i", json!(2));
    // What they have sent counts as well.
    let mut heads: Vec<TcpStream> = (0..3).map(|_| raw::connect(server.worker())).collect();
    for head in &mut heads {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(30 * 1024));
        std::io::Write::write_all(head, long.as_bytes()).unwrap();
    }
    assert!(raw::read_to_end(&mut heads[0]).is_empty());
    SdkWorker::connect(&server).set(("s", "g"), "i", json!(3));
}

#[test]
fn the_turns_of_a_thread_are_counted_by_length_and_none_is_long_for_one_socket() {
    const SUBSCRIPTIONS: usize = 5000;
    let server = TestServer::with(ONE_WORKER, |config| config.limits.joins_per_s = 0);
    let mut sdk = SdkWorker::connect(&server);
    let mut greedy = Subscriber::connect(&server);
    for n in 0..SUBSCRIPTIONS {
        let group = format!("g{}", n % 100);
        greedy.join_item(&n.to_string(), ("limits", &group), &n.to_string());
    }
    sdk.call("stream::set", set_input(("limits", "g7"), "7", json!(1)));
    assert_eq!(greedy.next().kind, "create");
    drop(greedy);
    wait_until("the socket is forgotten", || {
        server.shared().connections_len() == 0
    });
    // The turn that forgot it is counted once it has ended.
    let turns = &server.shared().workers[0].loop_turns;
    let count = || turns.steps().map(|(_, count)| count).sum::<u64>();
    let before = count();
    sdk.call("stream::set", set_input(("limits", "g7"), "7", json!(2)));
    wait_until("a further turn has ended", || count() > before);
    // Each join was answered before the next one was sent.
    assert!(count() > SUBSCRIPTIONS as u64, "{} turns", count());
    let from = std::time::Duration::from_millis(500);
    let long = turns.steps().filter(|(below, _)| *below > 2 * from);
    let long: u64 = long.map(|(_, count)| count).sum();
    assert_eq!(long, 0, "the longest took {:?}", turns.longest());
    assert!(turns.longest() > std::time::Duration::ZERO);
    let engine = &server.shared().engine.loop_turns;
    assert!(engine.steps().any(|(_, count)| count > 0));
}

#[test]
fn messages_that_are_not_whole_are_bounded_over_all_sdk_workers_and_the_oldest_goes() {
    const PART_BYTES: usize = 300 * 1024;
    let server = TestServer::with(ONE_WORKER, |config| {
        config.limits.partial_call_bytes = 1024 * 1024;
    });
    let whole = json!({"type": "unknown", "text": "x".repeat(PART_BYTES)}).to_string();
    let whole = raw::text(&whole);
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = raw::upgrade(raw::connect(server.worker()), "/");
        let (_, hello) = raw::read_frame(&mut socket);
        assert!(hello.starts_with(b"{"));
        sockets.push(socket);
    }
    for socket in &mut sockets {
        std::io::Write::write_all(socket, &whole[..PART_BYTES]).unwrap();
    }
    let closed = raw::read_close(&mut sockets[0]);
    let reason = "limits.partial_call_bytes: too much is not whole";
    assert_eq!(closed, Some((1013, reason.to_owned())));
    // The others end theirs, and what they send then is taken.
    for socket in &mut sockets[1..] {
        std::io::Write::write_all(socket, &whole[PART_BYTES..]).unwrap();
        std::io::Write::write_all(socket, &raw::text(r#"{"type":"ping"}"#)).unwrap();
        let (_, pong) = raw::read_frame(socket);
        assert_eq!(pong, br#"{"type":"pong"}"#);
    }
}
