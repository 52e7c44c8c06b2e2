//! Joins, leaves, events and their order, as subscribers and SDK workers see them.

use serde_json::{Value, json};

use crate::support::clients::{item_input, join, leave, set_input};
use crate::support::{SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape, wait_until};

const ROOM: (&str, &str) = ("chat", "room");

fn told(kind: &str, id: Option<&str>, data: Value) -> (String, Option<String>, Value) {
    (kind.to_owned(), id.map(str::to_owned), data)
}

#[test]
fn frames_are_as_specified_to_the_byte() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        let group = ("S\"1", "G/\u{1f600}\u{7f}\n");
        subscriber.start_join("a", group, None);
        subscriber.start_join("b", group, Some("u1"));
        let head = r#""streamName":"S\"1","groupId":"G/😀"#.to_owned() + "\u{7f}" + r#"\n","id":"#;
        let mut last = 0;
        let mut expect = |subscriber: &mut Subscriber, rest: &str| {
            let text = subscriber.next_text();
            let (timestamp, after) = text
                .strip_prefix(r#"{"type":"stream","timestamp":"#)
                .and_then(|rest| rest.split_once(','))
                .expect("the keys in their order");
            assert_eq!(after, format!("{head}{rest}"));
            let timestamp: u64 = timestamp.parse().unwrap();
            // A refusal is no event of the group, whose time may run ahead of the clock.
            if !rest.contains("unauthorized") {
                assert!(timestamp >= last);
                last = timestamp;
            }
        };
        expect(
            &mut subscriber,
            r#"null,"event":{"type":"sync","data":[]}}"#,
        );
        expect(
            &mut subscriber,
            r#""u1","event":{"type":"sync","data":null}}"#,
        );
        let set = |value: &str| {
            let mut input = set_input(group, "u1", Value::Null).to_string();
            input.insert_str(input.find("null").unwrap(), value);
            input.replacen(&format!("{value}null"), value, 1)
        };
        // The value as the text it came in, and one frame for each subscription.
        for (value, kind) in [
            (r#"{"b":1.10, "a":1E2}"#, "create"),
            (r#""\u0041""#, "update"),
        ] {
            sdk.send_text(&format!(
                r#"{{"type":"invokefunction","function_id":"stream::set","data":{},"action":{{"type":"void"}}}}"#,
                set(value)
            ));
            let rest = format!(r#""u1","event":{{"type":"{kind}","data":{value}}}}}"#);
            expect(&mut subscriber, &rest);
            expect(&mut subscriber, &rest);
        }
        sdk.delete(group, "u1");
        let rest = r#""u1","event":{"type":"delete","data":"\u0041"}}"#;
        expect(&mut subscriber, rest);
        expect(&mut subscriber, rest);
        sdk.send_event(group, None, "ty\"p", json!({"a": 2}));
        expect(
            &mut subscriber,
            r#"null,"event":{"type":"event","event":{"type":"ty\"p","data":{"a":2}}}}"#,
        );
        subscriber.start_join("x".repeat(2000).as_str(), group, None);
        expect(&mut subscriber, r#"null,"event":{"type":"unauthorized"}}"#);
    });
}

/// Every cell of the table of who gets what.
#[test]
fn an_event_reaches_its_group_and_its_item() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut of_group = Subscriber::connect(&server);
        let mut of_u1 = Subscriber::connect(&server);
        let mut of_empty = Subscriber::connect(&server);
        of_group.join("s", ROOM);
        of_u1.join_item("s", ROOM, "u1");
        of_empty.join_item("s", ROOM, "");
        sdk.set(ROOM, "u1", json!(1));
        sdk.set(ROOM, "u1", json!(2));
        sdk.delete(ROOM, "u1");
        sdk.set(ROOM, "u2", json!(3));
        sdk.send_event(ROOM, None, "all", json!(4));
        sdk.send_event(ROOM, Some("u1"), "one", json!(5));
        sdk.send_event(ROOM, Some(""), "none", json!(6));
        let u1 = [
            told("create", Some("u1"), json!(1)),
            told("update", Some("u1"), json!(2)),
            told("delete", Some("u1"), json!(2)),
        ];
        let one = told("event", Some("u1"), json!({"type": "one", "data": 5}));
        let none = told("event", Some(""), json!({"type": "none", "data": 6}));
        let mut all = u1.to_vec();
        all.push(told("create", Some("u2"), json!(3)));
        all.push(told("event", None, json!({"type": "all", "data": 4})));
        all.extend([one.clone(), none.clone()]);
        assert_eq!(of_group.take(7), all);
        let mut mine = u1.to_vec();
        mine.push(one);
        assert_eq!(of_u1.take(4), mine);
        assert_eq!(of_empty.take(1), [none]);
        // Other groups and streams are other rooms.
        sdk.set(("chat", "Room"), "u1", json!(0));
        sdk.set(("Chat", "room"), "u1", json!(0));
        sdk.set(ROOM, "u1", json!("last"));
        for subscriber in [&mut of_group, &mut of_u1] {
            assert_eq!(
                subscriber.take(1),
                [told("create", Some("u1"), json!("last"))]
            );
        }
    });
}

#[test]
fn every_subscription_that_matches_gets_a_frame_event_by_event() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("g1", ROOM);
        subscriber.join("g2", ROOM);
        subscriber.join_item("i", ROOM, "u1");
        for n in 0..200 {
            sdk.void("stream::set", set_input(ROOM, "u1", json!(n)));
            sdk.void("stream::set", set_input(ROOM, "u2", json!(n)));
        }
        for n in 0..200 {
            let kind = if n == 0 { "create" } else { "update" };
            for (item, frames) in [("u1", 3), ("u2", 2)] {
                let wanted = vec![told(kind, Some(item), json!(n)); frames];
                assert_eq!(subscriber.take(frames), wanted, "before any later event");
            }
        }
    });
}

#[test]
fn an_id_joined_again_moves() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        sdk.set(ROOM, "u1", json!(1));
        assert_eq!(subscriber.join("s", ROOM).data, json!([1]));
        assert_eq!(
            subscriber.join("s", ROOM).data,
            json!([1]),
            "each join has its sync"
        );
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
        assert_eq!(subscriber.join_item("s", ROOM, "u2").data, json!(null));
        sdk.set(ROOM, "u1", json!(2));
        sdk.set(ROOM, "u2", json!(3));
        assert_eq!(subscriber.take(1), [told("create", Some("u2"), json!(3))]);
        let elsewhere = ("chat", "elsewhere");
        assert_eq!(subscriber.join("s", elsewhere).data, json!([]));
        sdk.set(ROOM, "u2", json!(4));
        subscriber.hears_only_the_marker(&mut sdk, elsewhere);
    });
}

#[test]
fn a_refused_join_leaves_the_older_subscription_alone() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("s", ROOM);
        let long = "x".repeat(1025);
        subscriber.start_join("s", ("chat", &long), None);
        assert_eq!(subscriber.next().kind, "unauthorized");
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn a_leave_needs_its_id_alone_and_has_no_answer() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.leave("never joined");
        subscriber.join("left", ROOM);
        subscriber.join("stays", ROOM);
        subscriber.leave("left"); // its names are those of no group
        subscriber.leave("left");
        subscriber.join("barrier", ("chat", "other"));
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
        let mut stranger = Subscriber::connect(&server);
        stranger.leave("stays");
        stranger.join("barrier", ("chat", "other"));
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn whoever_left_and_joins_again_has_a_sync_and_what_follows() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        for n in 0..20 {
            let before: Vec<u32> = if n == 0 { vec![] } else { vec![n - 1] };
            assert_eq!(subscriber.join("s", ROOM).data, json!(before));
            sdk.set(ROOM, "u1", json!(n));
            let kind = if n == 0 { "create" } else { "update" };
            assert_eq!(subscriber.take(1), [told(kind, Some("u1"), json!(n))]);
            subscriber.leave("s");
        }
    });
}

#[test]
fn messages_of_one_id_take_effect_in_their_order() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        for n in 0..300 {
            let group = format!("g{}", n % 7);
            subscriber.send(&join("s", ("chat", &group), None));
            if n % 3 == 0 {
                subscriber.send(&leave("s"));
            }
        }
        subscriber.send(&join("s", ROOM, None));
        for n in 0..300 {
            assert_eq!(subscriber.sync().group, format!("g{}", n % 7));
        }
        assert_eq!(subscriber.sync().group, ROOM.1);
        for n in 0..7 {
            sdk.set(("chat", &format!("g{n}")), "u", json!(0));
        }
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn a_group_is_the_pair_of_its_names() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut left = Subscriber::connect(&server);
        let mut right = Subscriber::connect(&server);
        left.join("s", ("a", "b:c"));
        right.join("s", ("a:b", "c"));
        sdk.set(("a", "b:c"), "i", json!("left"));
        sdk.set(("a:b", "c"), "i", json!("right"));
        assert_eq!(left.take(1), [told("create", Some("i"), json!("left"))]);
        assert_eq!(right.take(1), [told("create", Some("i"), json!("right"))]);
        let all = sdk.call("stream::list_all", json!({}));
        assert_eq!(
            all["result"]["stream"],
            json!([{"groups": ["b:c"], "id": "a"}, {"groups": ["c"], "id": "a:b"}])
        );
    });
}

#[test]
fn a_list_is_in_the_order_of_first_insertion() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        for item in ["c", "a", "b"] {
            sdk.set(ROOM, item, json!(item));
        }
        sdk.set(ROOM, "c", json!("c again"));
        sdk.delete(ROOM, "a");
        sdk.set(ROOM, "a", json!("a again"));
        let wanted = json!(["c again", "b", "a again"]);
        assert_eq!(sdk.list(ROOM), wanted);
        assert_eq!(
            Subscriber::at(&server, "/stream/chat/room").sync().data,
            wanted
        );
        for item in ["c", "b", "a"] {
            sdk.delete(ROOM, item);
        }
        let groups = sdk.call("stream::list_groups", json!({"stream_name": "chat"}));
        assert_eq!(
            groups["result"],
            json!([]),
            "an empty group is gone at once"
        );
    });
}

#[test]
fn timestamps_strictly_rise_within_a_group() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        let joined = subscriber.join("s", ROOM);
        for n in 0..500 {
            match n % 4 {
                0 => sdk.void("stream::set", set_input(ROOM, "u1", json!(n))),
                1 => sdk.void("stream::delete", item_input(ROOM, "u1")),
                2 => sdk.void(
                    "stream::send",
                    json!({"stream_name": ROOM.0, "group_id": ROOM.1, "type": "t", "data": n}),
                ),
                _ => sdk.void(
                    "stream::send",
                    json!({"stream_name": ROOM.0, "group_id": ROOM.1, "id": "u1", "type": "t", "data": n}),
                ),
            }
        }
        let mut last = joined.timestamp;
        for n in 0..500 {
            let heard = subscriber.next();
            // A group's sync may bear the time of the last event; whatever follows is later.
            assert!(heard.timestamp > last, "event {n}: {heard:?} after {last}");
            last = heard.timestamp;
        }
        let group = subscriber.join("again", ROOM);
        assert!(
            group.timestamp >= last,
            "not older than any event already sent"
        );
        let item = subscriber.join_item("item", ROOM, "u1");
        assert!(item.timestamp > group.timestamp, "newer than all before it");
        sdk.set(ROOM, "u1", json!("end"));
        let heard = [subscriber.next(), subscriber.next(), subscriber.next()];
        assert!(heard.iter().all(|heard| heard.timestamp > item.timestamp));
        assert!(
            heard.iter().all(|other| *other == heard[0]),
            "one event, one time"
        );
    });
}

#[test]
fn all_subscribers_hear_one_order() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut subscribers: Vec<Subscriber> = (0..6)
            .map(|n| Subscriber::on_worker(&server, n % shape.threads))
            .collect();
        for subscriber in &mut subscribers {
            subscriber.join("s", ROOM);
        }
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let mut sdk = SdkWorker::connect(&server);
                scope.spawn(move || {
                    for n in 0..200 {
                        sdk.void("stream::set", set_input(ROOM, "u", json!([writer, n])));
                    }
                    sdk.settle();
                });
            }
        });
        let first = subscribers[0].take(600);
        for writer in 0..3 {
            let its: Vec<u64> = first
                .iter()
                .filter(|(_, _, data)| data[0] == writer)
                .map(|(_, _, data)| data[1].as_u64().unwrap())
                .collect();
            assert_eq!(
                its,
                (0..200).collect::<Vec<_>>(),
                "one caller's calls keep their order"
            );
        }
        for subscriber in &mut subscribers[1..] {
            assert_eq!(subscriber.take(600), first);
        }
    });
}

/// An item that counts. Whoever joins must see every number from its `sync` on, each once.
struct Counting {
    next: u64,
}

impl Counting {
    /// From a `sync` that lists the counter alone, if it is there.
    fn from(sync: &Value) -> Counting {
        let at = sync.as_array().expect("a list").first();
        Counting {
            next: at.map_or(0, |at| at.as_u64().unwrap() + 1),
        }
    }

    fn hear(&mut self, data: &Value) {
        assert_eq!(data, &json!(self.next), "no gap, and nothing twice");
        self.next += 1;
    }
}

/// A group of worker 0, whose counter is raised without pause until the test is done.
fn while_counting(test: impl Fn(&TestServer, (&str, &str))) {
    let group = ("count", "er@0");
    let server = TestServer::start(THREE_WORKERS);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut sdk = SdkWorker::connect(&server);
        let done = &done;
        scope.spawn(move || {
            for n in 0_u64.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                if n % 16 == 0 {
                    sdk.set(group, "n", json!(n)); // no further ahead than the test can read
                } else {
                    sdk.void("stream::set", set_input(group, "n", json!(n)));
                }
            }
        });
        // However the test ends, the counter ends with it.
        struct Done<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let _done = Done(done);
        test(&server, group);
    });
}

#[test]
fn a_join_while_events_are_in_flight_has_no_gap_and_nothing_twice() {
    while_counting(|server, group| {
        for round in 0..60 {
            let mut subscriber = Subscriber::on_worker(server, round % 3);
            let mut counting = Counting::from(&subscriber.join("s", group).data);
            for _ in 0..20 {
                counting.hear(&subscriber.next().data);
            }
        }
    });
}

#[test]
fn an_id_that_leaves_and_joins_again_has_no_gap_and_nothing_twice() {
    while_counting(|server, group| {
        for worker in 0..3 {
            let mut subscriber = Subscriber::on_worker(server, worker);
            subscriber.start_join("s", group, None);
            let mut counting = Counting::from(&subscriber.sync().data);
            for _ in 0..40 {
                subscriber.leave("s");
                subscriber.start_join("s", group, None);
                // What still came for the first subscription, then the sync of the second.
                let sync = loop {
                    let heard = subscriber.next();
                    if heard.kind == "sync" {
                        break heard;
                    }
                    counting.hear(&heard.data);
                };
                counting = Counting::from(&sync.data);
                for _ in 0..5 {
                    counting.hear(&subscriber.next().data);
                }
            }
        }
    });
}

#[test]
fn the_last_subscriber_of_a_worker_leaves_while_another_joins() {
    while_counting(|server, group| {
        let mut pair = [
            Subscriber::on_worker(server, 1),
            Subscriber::on_worker(server, 1),
        ];
        pair[0].join("s", group);
        for _ in 0..40 {
            for (leaving, joining) in [(0, 1), (1, 0)] {
                pair[joining].start_join("s", group, None);
                pair[leaving].leave("s");
                let subscriber = &mut pair[joining];
                let mut counting = loop {
                    // What came before its last leave took effect is of no interest any more.
                    let heard = subscriber.next();
                    if heard.kind == "sync" {
                        break Counting::from(&heard.data);
                    }
                };
                for _ in 0..3 {
                    counting.hear(&subscriber.next().data);
                }
            }
        }
    });
}

#[test]
fn a_socket_that_ends_in_the_middle_of_everything_harms_nobody() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut stays = Subscriber::connect(&server);
        stays.join("s", ROOM);
        for n in 0..30 {
            let mut subscriber = Subscriber::connect(&server);
            for id in 0..100 {
                let group = format!("g{id}");
                subscriber.start_join(&id.to_string(), ("chat", &group), None);
                subscriber.start_join(&format!("r{id}"), ROOM, None);
            }
            sdk.void("stream::set", set_input(ROOM, "u", json!(n)));
            match n % 3 {
                0 => subscriber.reset(),
                1 => drop(subscriber),
                _ => subscriber.close(),
            }
        }
        for n in 0..30 {
            assert_eq!(stays.next().data, json!(n));
        }
        wait_until("only one socket is left", || {
            server.shared().connections_len() == 1
        });
        stays.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn sockets_are_spread_over_the_workers_where_no_group_places_them() {
    let server = TestServer::with(THREE_WORKERS, |config| config.place_below = 0);
    let subscribers: Vec<Subscriber> = (0..60).map(|_| Subscriber::connect(&server)).collect();
    let counts = || -> Vec<usize> {
        let counts = server.shared().connections.iter();
        counts
            .map(|count| count.load(std::sync::atomic::Ordering::Relaxed))
            .collect()
    };
    assert_eq!(counts().iter().sum::<usize>(), 60);
    assert!(
        counts().iter().all(|count| (15..=25).contains(count)),
        "{:?}",
        counts()
    );
    drop(subscribers);
    wait_until("all are counted out", || {
        server.shared().connections_len() == 0
    });
}

#[test]
fn one_socket_hears_many_groups() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        let names: Vec<String> = (0..200).map(|n| format!("g{n}")).collect();
        for name in &names {
            subscriber.start_join(name, ("many", name), None);
        }
        for _ in &names {
            subscriber.sync();
        }
        for (n, name) in names.iter().enumerate() {
            sdk.void("stream::set", set_input(("many", name), "i", json!(n)));
        }
        let mut heard: Vec<u64> = (0..200)
            .map(|_| subscriber.next().data.as_u64().unwrap())
            .collect();
        heard.sort_unstable();
        assert_eq!(heard, (0..200).collect::<Vec<_>>());
    });
}
