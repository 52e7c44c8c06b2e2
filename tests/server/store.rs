//! A store on its own thread that is slow, refuses, or decides: what clients may be told, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iii_stream::id::WorkerId;
use iii_stream::shard::{Cursor, Decides, Learned, Request, SliceLimits, Store};
use iii_stream::store::Memory;
use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::{
    SdkWorker, SharedCues, Subscriber, THREE_WORKERS, TestServer, on_each_shape, wait_until,
};

const ROOM: (&str, &str) = ("stored", "room@0");
/// Long enough that what is told too early comes long before it.
const DELAY: Duration = Duration::from_millis(300);

#[test]
fn nobody_is_told_of_a_write_before_the_store_has_accepted_it() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Owner, &cues);
        let mut writer = SdkWorker::connect(&server);
        let mut reader = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::on_worker(&server, shape.threads - 1);
        let mut joiner = Subscriber::on_worker(&server, 0);
        subscriber.join("s", ROOM);
        cues.delay(DELAY);
        let began = Instant::now();
        let set = writer.start("stream::set", set_input(ROOM, "i", json!(1)));
        std::thread::scope(|scope| {
            let not_early = |what: &str| {
                assert!(
                    began.elapsed() >= DELAY,
                    "{what} came before the store had accepted"
                );
            };
            scope.spawn(move || {
                assert_eq!(writer.result(&set)["result"]["new_value"], 1);
                not_early("the reply");
            });
            scope.spawn(move || {
                assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(1)));
                not_early("the event");
            });
            scope.spawn(move || {
                // Either its read came first and found nothing, or it waited for the write.
                loop {
                    if reader.get(ROOM, "i") == Some(json!(1)) {
                        break not_early("the read");
                    }
                }
            });
            scope.spawn(move || {
                let synced = joiner.join("s", ROOM).data;
                if synced == json!([1]) {
                    not_early("the sync");
                } else {
                    assert_eq!(joiner.next().told(), ("create", Some("i"), &json!(1)));
                    not_early("the event behind the sync");
                }
            });
        });
    });
}

#[test]
fn a_group_without_writes_under_way_answers_while_another_waits() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Owner, &cues);
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(("stored", "other@0"), "i", json!("here"));
        cues.delay(Duration::from_secs(2));
        let began = Instant::now();
        let set = sdk.start("stream::set", set_input(ROOM, "i", json!(1)));
        assert_eq!(sdk.get(("stored", "other@0"), "i"), Some(json!("here")));
        let groups = sdk.call("stream::list_groups", json!({"stream_name": "stored"}));
        let mut subscriber = Subscriber::connect(&server);
        let synced = subscriber.join("s", ("stored", "other@0"));
        assert_eq!(synced.data, json!(["here"]));
        if began.elapsed() < Duration::from_secs(2) {
            assert_eq!(groups["result"], json!(["other@0"]), "from accepted items");
        }
        assert!(sdk.result(&set).get("error").is_none());
        assert!(began.elapsed() >= Duration::from_secs(2));
    });
}

/// Writes of one caller, some of which are refused: value, subscribers and replies agree.
#[test]
fn nothing_that_rests_on_a_refused_write_survives() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Owner, &cues);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::on_worker(&server, shape.threads - 1);
        subscriber.join("s", ROOM);
        sdk.set(ROOM, "i", json!({"n": 0}));
        assert_eq!(subscriber.next().kind, "create");
        cues.delay(Duration::from_millis(50));
        for round in 0..10 {
            cues.refuse_after(round % 4);
            let mut increment = item_input(ROOM, "i");
            increment["ops"] = json!([{"type": "increment", "path": "n", "by": 1}]);
            let calls: Vec<String> = (0..8)
                .map(|_| sdk.start("stream::update", increment.clone()))
                .collect();
            let results: Vec<Value> = calls.iter().map(|id| sdk.result(id)).collect();
            let refused = results
                .iter()
                .filter(|result| result.get("error").is_some());
            let refused: Vec<_> = refused.map(error_in).collect();
            assert!(!refused.is_empty());
            assert_eq!(
                refused[0],
                (
                    "STREAM_UPDATE_ERROR".to_owned(),
                    "Failed to update value: disk full".to_owned()
                )
            );
            // Each success rests on the success before it, and each was heard.
            let mut last = None;
            for result in results
                .iter()
                .filter(|result| result.get("error").is_none())
            {
                let heard = subscriber.next();
                assert_eq!(heard.kind, "update");
                assert_eq!(heard.data, result["result"]["new_value"]);
                if let Some(last) = last.replace(heard.data) {
                    assert_eq!(result["result"]["old_value"], last);
                }
            }
            if let Some(last) = last {
                assert_eq!(sdk.get(ROOM, "i"), Some(last));
            }
            subscriber.hears_only_the_marker(&mut sdk, ROOM);
        }
        cues.delay(Duration::ZERO);
        let before = sdk.get(ROOM, "i");
        let set = sdk.set(ROOM, "i", json!("good again"));
        assert_eq!(Some(set["old_value"].clone()), before);
        assert_eq!(subscriber.next().data, json!("good again"));
    });
}

#[test]
fn a_refusal_is_told_with_its_cause_and_the_next_write_works() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Owner, &cues);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("s", ROOM);
        cues.refuse_after(0);
        assert_eq!(
            sdk.error_of("stream::set", set_input(ROOM, "i", json!(1))),
            (
                "STREAM_SET_ERROR".to_owned(),
                "Failed to set value: disk full".to_owned()
            )
        );
        assert_eq!(sdk.get(ROOM, "i"), None);
        assert_eq!(sdk.list(ROOM), json!([]));
        assert_eq!(sdk.set(ROOM, "i", json!(2))["old_value"], json!(null));
        assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(2)));
        cues.refuse_after(0);
        let (code, message) = sdk.error_of("stream::delete", item_input(ROOM, "i"));
        assert_eq!(code, "STREAM_DELETE_ERROR");
        assert_eq!(message, "Failed to delete value: disk full");
        assert_eq!(sdk.get(ROOM, "i"), Some(json!(2)));
        sdk.delete(ROOM, "i");
        assert_eq!(subscriber.next().kind, "delete");
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

/// Whoever is told of an overload can rely on it: the call was not made, and none before it is lost.
#[test]
fn calls_that_wait_too_long_for_their_owner_are_refused_and_not_made() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double_with(shape, Decides::Owner, &cues, |config| {
            config.call_timeout_ms = 300;
        });
        let mut sdk = SdkWorker::connect(&server);
        cues.delay(Duration::from_secs(1));
        let calls: Vec<(usize, String)> = (0..1000)
            .map(|n| {
                (
                    n,
                    sdk.start("stream::set", set_input(ROOM, &n.to_string(), json!(n))),
                )
            })
            .collect();
        let mut made = Vec::new();
        let mut overloaded = 0;
        let results: Vec<(usize, Value)> = calls
            .iter()
            .map(|(n, id)| {
                let result = sdk.result(id);
                // The first refusal has been seen: the store need not be slow any longer.
                if result.get("error").is_some() {
                    cues.delay(Duration::ZERO);
                }
                (*n, result)
            })
            .collect();
        for (n, result) in results {
            if result.get("error").is_none() {
                made.push(n);
                continue;
            }
            overloaded += 1;
            assert_eq!(
                error_in(&result),
                (
                    "STREAM_SET_ERROR".to_owned(),
                    "Failed to set value: server is overloaded".to_owned()
                )
            );
        }
        assert!(overloaded > 0);
        assert_eq!(sdk.list(ROOM), json!(made));
    });
}

#[test]
fn a_socket_that_ends_between_its_join_and_its_sync_is_forgotten() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Owner, &cues);
        let mut sdk = SdkWorker::connect(&server);
        for round in 0..6 {
            let worker = round % shape.threads;
            cues.delay(DELAY);
            let set = sdk.start("stream::set", set_input(ROOM, "i", json!(round)));
            let mut ends = Subscriber::on_worker(&server, worker);
            ends.start_join("s", ROOM, None);
            ends.join("barrier", ("stored", "other")); // the join before it is with the owner
            match round % 2 {
                0 => ends.reset(),
                _ => ends.close(),
            }
            // Whoever takes the free slot gets nothing that was meant for the one before.
            let mut next = Subscriber::on_worker(&server, worker);
            next.start_join("s", ("stored", "quiet"), None);
            assert_eq!(next.sync().group, "quiet");
            sdk.result(&set);
            cues.delay(Duration::ZERO);
            sdk.set(ROOM, "i", json!("more"));
            next.hears_only_the_marker(&mut sdk, ("stored", "quiet"));
            next.close();
            wait_until("both sockets are gone", || {
                server.shared().connections_len() == 0
            });
        }
        let mut last = Subscriber::connect(&server);
        assert_eq!(last.join("s", ROOM).data, json!(["more"]));
        last.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn joins_that_wait_for_a_slow_store_hold_up_no_pong() {
    let cues = SharedCues::default();
    let server = TestServer::on_double(THREE_WORKERS, Decides::Owner, &cues);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::on_worker(&server, 1);
    cues.delay(Duration::from_secs(1));
    let set = sdk.start("stream::set", set_input(ROOM, "i", json!(1)));
    // Until a read waits for the write, the write has not reached its owner.
    subscriber.start_join("s", ROOM, None);
    subscriber.send_message(tungstenite::Message::Ping(b"now".to_vec().into()));
    loop {
        match subscriber.next_message() {
            tungstenite::Message::Pong(payload) => {
                assert_eq!(&payload[..], b"now");
                break;
            }
            // The join came first, and found no write.
            tungstenite::Message::Text(text) => assert!(text.as_str().contains(r#""data":[]"#)),
            other => panic!("{other:?}"),
        }
    }
    assert!(sdk.result(&set).get("error").is_none());
}

#[test]
fn a_store_that_decides_serves_all_that_the_owner_would() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        let server = TestServer::on_double(shape, Decides::Shared, &cues);
        let mut sdk = SdkWorker::connect(&server);
        let mut subscriber = Subscriber::on_worker(&server, shape.threads - 1);
        assert_eq!(subscriber.join("s", ROOM).data, json!([]));
        assert_eq!(
            sdk.set(ROOM, "i", json!({"n": 1})),
            json!({"new_value": {"n": 1}, "old_value": null})
        );
        let mut update = item_input(ROOM, "i");
        update["ops"] = json!([{"type": "increment", "path": "n", "by": 2}]);
        let updated = sdk.call("stream::update", update);
        assert_eq!(
            updated["result"],
            json!({"new_value": {"n": 3}, "old_value": {"n": 1}})
        );
        assert_eq!(sdk.get(ROOM, "i"), Some(json!({"n": 3})));
        assert_eq!(sdk.get(ROOM, "none"), None);
        assert_eq!(sdk.list(ROOM), json!([{"n": 3}]));
        let groups = sdk.call("stream::list_groups", json!({"stream_name": "stored"}));
        assert_eq!(groups["result"], json!([ROOM.1]));
        let all = sdk.call("stream::list_all", json!({}));
        assert_eq!(
            all["result"]["stream"],
            json!([{"groups": [ROOM.1], "id": "stored"}])
        );
        assert_eq!(
            Subscriber::connect(&server).join("s", ROOM).data,
            json!([{"n": 3}])
        );
        sdk.delete(ROOM, "i");
        sdk.delete(ROOM, "i");
        sdk.send_event(ROOM, Some("i"), "t", json!(1));
        let kinds: Vec<String> = (0..4).map(|_| subscriber.next().kind).collect();
        assert_eq!(kinds, ["create", "update", "delete", "event"]);
        cues.refuse_after(0);
        assert_eq!(
            sdk.error_of("stream::set", set_input(ROOM, "i", json!(1))),
            (
                "STREAM_SET_ERROR".to_owned(),
                "Failed to set value: disk full".to_owned()
            )
        );
        assert_eq!(sdk.set(ROOM, "i", json!(2))["old_value"], json!(null));
        assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(2)));
        subscriber.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn joins_at_a_store_that_decides_have_no_gap_and_nothing_twice() {
    on_each_shape(|shape| {
        let cues = SharedCues::default();
        cues.delay(Duration::from_millis(1));
        let server = TestServer::on_double(shape, Decides::Shared, &cues);
        std::thread::scope(|scope| {
            let mut sdk = SdkWorker::connect(&server);
            scope.spawn(move || {
                for n in 0..400 {
                    sdk.set(ROOM, "n", json!(n));
                }
            });
            for round in 0..10 {
                let mut subscriber = Subscriber::on_worker(&server, round % shape.threads);
                let synced = subscriber.join("s", ROOM).data;
                let first = synced
                    .as_array()
                    .and_then(|values| values.first()?.as_u64());
                let first = first.map_or(0, |n| n + 1);
                for n in first..400.min(first + 20) {
                    assert_eq!(subscriber.next().data, json!(n));
                }
            }
        });
    });
}

/// Accepts what it is asked once it is no longer stuck.
struct Stuck {
    /// So many more turns.
    turns: usize,
    was_asked: Arc<AtomicBool>,
}

impl Store for Stuck {
    fn decides(&self) -> Decides {
        Decides::Owner
    }

    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
        self.was_asked.fetch_or(self.is_stuck(), Ordering::Relaxed);
        Memory.serve(requests, learned);
    }

    fn tend(
        &mut self,
        _: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        _: &mut Vec<Learned>,
    ) -> Option<Duration> {
        self.turns = self.turns.saturating_sub(1);
        self.is_stuck().then_some(Duration::from_millis(5))
    }

    fn is_stuck(&self) -> bool {
        self.turns > 0
    }
}

#[test]
fn a_store_that_is_stuck_is_asked_nothing_and_then_everything() {
    on_each_shape(|shape| {
        let was_asked = Arc::new(AtomicBool::new(false));
        let store = Stuck {
            turns: 60,
            was_asked: Arc::clone(&was_asked),
        };
        let server = TestServer::on_store(shape, Box::new(store), |_| {});
        let mut sdk = SdkWorker::connect(&server);
        let sets: Vec<String> = (0..100)
            .map(|n| sdk.start("stream::set", set_input(ROOM, "i", json!(n))))
            .collect();
        for (n, set) in sets.iter().enumerate() {
            assert_eq!(sdk.result(set)["result"]["new_value"], n);
        }
        assert!(!was_asked.load(Ordering::Relaxed));
    });
}
