//! Subscriptions with a pace: how far apart they are written to, what comes together, and who does not wait.

use std::time::{Duration, Instant};

use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::{
    Heard, ONE_WORKER, SdkWorker, Subscriber, TestServer, on_each_shape, wait_until,
};

const ROOM: (&str, &str) = ("cursors", "room");
const OTHER: (&str, &str) = ("cursors", "other");
/// So much of a turn may lie between its look at the clock and its writes.
const TURN: Duration = Duration::from_millis(20);

/// The text of a join that asks for that pace.
fn join_at(subscription: &str, group: (&str, &str), item: Option<&str>, pace: Value) -> String {
    let data = json!({
        "subscriptionId": subscription, "streamName": group.0, "groupId": group.1, "id": item,
        "paceMs": pace,
    });
    json!({"type": "join", "data": data}).to_string()
}

fn of(heard: &Heard) -> String {
    format!("{} {}", heard.id.as_deref().unwrap_or("-"), heard.kind)
}

/// The next so many frames.
fn take(subscriber: &mut Subscriber, count: usize) -> Vec<Heard> {
    (0..count).map(|_| subscriber.next()).collect()
}

/// The first change comes at once, and what comes then comes together, so much later at least.
fn hears_at_its_pace(server: &TestServer, subscriber: &mut Subscriber, pace: Duration) {
    let mut sdk = SdkWorker::connect(server);
    let began = Instant::now();
    sdk.set(ROOM, "there", json!(0));
    assert_eq!(of(&subscriber.next()), "there create");
    for n in 1..20 {
        sdk.set(ROOM, "there", json!(n));
        sdk.set(ROOM, "new", json!(n));
        sdk.send_event(ROOM, None, "tick", json!(n));
    }
    sdk.set(ROOM, "never", json!(1));
    sdk.delete(ROOM, "never");
    let asked = began.elapsed();
    let heard = take(subscriber, 21);
    let waited = began.elapsed();
    if asked < pace {
        assert!(waited + TURN >= pace, "{waited:?} after the first");
        let changes = heard.iter().filter(|heard| heard.kind != "event");
        let changes: Vec<(String, &Value)> =
            changes.map(|heard| (of(heard), &heard.data)).collect();
        let last = json!(19);
        assert_eq!(
            changes,
            [
                ("there update".to_owned(), &last),
                ("new create".to_owned(), &last)
            ]
        );
        let ticks = heard.iter().filter(|heard| heard.kind == "event");
        let ticks: Vec<&Value> = ticks.map(|heard| &heard.data["data"]).collect();
        assert!(ticks.iter().map(|n| n.as_u64()).eq((1..20).map(Some)));
        assert!(heard.is_sorted_by_key(|heard| heard.timestamp));
    }
    sdk.send_event(ROOM, None, "last", json!(0));
    while subscriber.next().data["type"] != "last" {}
}

#[test]
fn a_subscription_is_written_to_at_the_pace_that_its_join_asks_for() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.send(&join_at("s", ROOM, None, json!(700)));
        subscriber.sync();
        hears_at_its_pace(&server, &mut subscriber, Duration::from_millis(700));
    });
}

#[test]
fn a_path_may_ask_for_a_pace() {
    let server = TestServer::start(ONE_WORKER);
    let mut subscriber = Subscriber::at(&server, "/stream/cursors/room?pace_ms=700");
    subscriber.sync();
    hears_at_its_pace(&server, &mut subscriber, Duration::from_millis(700));
}

#[test]
fn the_settings_may_give_a_stream_a_pace_and_a_join_may_ask_for_a_slower_one() {
    for asked in [json!(null), json!(10), json!(700)] {
        let server = TestServer::with(ONE_WORKER, |config| {
            config.streams = StreamRules::new(vec![StreamRule {
                streams: StreamPattern::read("cur*").unwrap(),
                ttl: Ttl::NEVER,
                pace: Pace::of_ms(if asked == 700 { 20 } else { 700 }).unwrap(),
                members: None,
            }]);
        });
        let mut subscriber = Subscriber::connect(&server);
        subscriber.send(&join_at("s", ROOM, None, asked));
        subscriber.sync();
        hears_at_its_pace(&server, &mut subscriber, Duration::from_millis(700));
    }
}

#[test]
fn who_asks_for_what_is_no_pace_is_told_unauthorized_and_stays() {
    let server = TestServer::start(ONE_WORKER);
    let mut subscriber = Subscriber::connect(&server);
    let wrong = [
        json!(-1),
        json!(60_001),
        json!(1.5),
        json!("50"),
        json!(true),
        json!({}),
    ];
    for (n, pace) in wrong.into_iter().enumerate() {
        subscriber.send(&join_at(&n.to_string(), ROOM, Some("u"), pace));
        let heard = subscriber.next();
        assert_eq!(
            (&*heard.kind, heard.id.as_deref()),
            ("unauthorized", Some("u"))
        );
    }
    subscriber.send(&join_at("s", ROOM, None, json!(0)));
    subscriber.sync();
    let mut by_path = Subscriber::at(&server, "/stream/cursors/room?pace_ms=soon");
    assert_eq!(by_path.next().kind, "unauthorized");
    by_path.join("s", ROOM);
    assert_eq!(server.shared().workers[0].joins_refused.get(), 7);
}

#[test]
fn syncs_pongs_and_subscriptions_without_a_pace_do_not_wait() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.send(&join_at("s", ROOM, None, json!(60_000)));
        subscriber.sync();
        sdk.set(ROOM, "u", json!(1));
        assert_eq!(of(&subscriber.next()), "u create");
        sdk.set(ROOM, "u", json!(2)); // this one waits
        subscriber.join("other", OTHER);
        sdk.set(OTHER, "v", json!(1));
        assert_eq!(of(&subscriber.next()), "v create");
        subscriber.send_message(Message::Ping("p".into()));
        assert_eq!(subscriber.next_message(), Message::Pong("p".into()));
        sdk.set(ROOM, "u", json!(3));
        // A join of the same group takes along what goes before its `sync`.
        subscriber.send(&join_at("more", ROOM, Some("w"), json!(60_000)));
        let mut heard = vec![subscriber.next()];
        while heard.last().is_some_and(|last| last.kind != "sync") {
            heard.push(subscriber.next());
        }
        let names: Vec<String> = heard.iter().map(of).collect();
        assert!(
            names.ends_with(&["u update".to_owned(), "w sync".to_owned()]),
            "{names:?}"
        );
        assert_eq!(heard[heard.len() - 2].data, json!(3));
        let workers = &server.shared().workers;
        let paced = || workers.iter().map(|worker| worker.paced.get()).sum::<u64>();
        wait_until("subscriptions with a pace are counted", || paced() == 2);
        subscriber.leave("s");
        subscriber.leave("more");
        sdk.set(OTHER, "v", json!(2));
        assert_eq!(of(&subscriber.next()), "v update");
    });
}

/// Frames do not tell for which subscription they are.
#[test]
fn a_socket_follows_a_group_at_the_pace_of_the_first_of_its_subscriptions_there() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("other", OTHER);
        subscriber.send(&join_at("s", ROOM, None, json!(60_000)));
        subscriber.send(&join_at("t", ROOM, Some("u"), json!(0)));
        subscriber.sync();
        subscriber.sync();
        sdk.set(ROOM, "u", json!(1));
        let first = take(&mut subscriber, 2);
        assert!(first.iter().all(|heard| of(heard) == "u create"));
        sdk.set(ROOM, "u", json!(2));
        subscriber.hears_only_the_marker(&mut sdk, OTHER);
        // What takes the place of its only subscription there comes with a pace of its own.
        subscriber.leave("s");
        subscriber.send(&join_at("t", ROOM, None, json!(0)));
        assert_eq!(subscriber.sync().data, json!([2]));
        for n in 3..6 {
            sdk.set(ROOM, "u", json!(n));
            assert_eq!(subscriber.next().data, json!(n));
        }
    });
}

#[test]
fn a_room_where_all_move_and_come_and_go_shows_everyone_what_is_there() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut rooms: Vec<(Subscriber, Vec<(String, Value)>)> = Vec::new();
        for round in 0..40_u64 {
            if round % 4 == 0 {
                let mut subscriber = Subscriber::connect(&server);
                let pace = [0, 5, 30][round as usize / 4 % 3];
                subscriber.send(&join_at("s", ROOM, None, json!(pace)));
                let sync = subscriber.sync();
                let values = sync.data.as_array().unwrap().iter();
                let items =
                    values.map(|value| (value["id"].as_str().unwrap().into(), value.clone()));
                rooms.push((subscriber, items.collect()));
            }
            for n in 0..8_u64 {
                let item = format!("u{}", (round + n * n) % 11);
                match (round + n) % 3 {
                    0 => sdk.delete(ROOM, &item),
                    _ => drop(sdk.set(ROOM, &item, json!({"id": item, "n": round * 8 + n}))),
                }
            }
        }
        sdk.send_event(ROOM, None, "last", json!(0));
        let mut wanted = sdk.list(ROOM).as_array().unwrap().clone();
        wanted.sort_by_key(|value| value["id"].to_string());
        for (subscriber, items) in &mut rooms {
            loop {
                let heard = subscriber.next();
                let Some(item) = heard.id else {
                    break;
                };
                let found = items.iter().position(|(held, _)| *held == item);
                match (&*heard.kind, found) {
                    ("create", None) => items.push((item, heard.data)),
                    ("update", Some(found)) => items[found].1 = heard.data,
                    ("delete", Some(found)) => drop(items.remove(found)),
                    (kind, _) => panic!("{kind} of {item}"),
                }
            }
            items.sort_unstable_by(|one, other| {
                one.1["id"].to_string().cmp(&other.1["id"].to_string())
            });
            let values: Vec<Value> = items.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(values, wanted);
        }
    });
}
