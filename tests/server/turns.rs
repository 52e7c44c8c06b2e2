//! What one message brings about takes the engine thread's turns, however much it is: of triggers that
//! hear of it, of rows that it lists, of what its sender leaves behind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clients::{item_input, leave, set_input};
use crate::support::redis::RedisServer;
use crate::support::script::{ScriptedEngine, trigger};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, wait_until};

/// What a turn of the engine thread may take of its own CPU time here, in a test build.
const TURN_MAX: Duration = Duration::from_millis(150);
const MANY: usize = 40_000;

fn check_turns(server: &TestServer) {
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}

fn register_triggers(sdk: &mut SdkWorker, trigger_type: &str, function: &str, config: &Value) {
    for n in 0..MANY {
        sdk.send(&json!({"type": "registertrigger", "id": format!("t{n:06}"),
            "trigger_type": trigger_type, "function_id": function, "config": config}));
    }
    sdk.settle();
}

#[test]
fn an_event_that_very_many_triggers_hear_of_is_told_in_turns() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("heard");
    register_triggers(&mut sdk, "stream", "heard", &json!({"stream_name": "s"}));
    let mut setting = SdkWorker::connect(&server);
    for n in 0..2 {
        setting.set(("s", "g"), "i", json!(n));
    }
    for n in 0..2 {
        for _ in 0..MANY {
            let heard = sdk.next_call_of("heard");
            assert_eq!(
                heard["data"]["event"]["data"], n,
                "each in its order: {heard}"
            );
        }
    }
    check_turns(&server);
}

#[test]
fn very_many_functions_are_asked_about_a_join_in_turns() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    register_triggers(&mut sdk, "stream:join", "missing", &json!({}));
    sdk.register("refuses");
    sdk.trigger("z", "stream:join", "refuses", json!({"stream_name": "no"}));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("a", ("s", "g"));
    subscriber.start_join("b", ("no", "g"), None);
    let asked = sdk.next_call();
    sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
    assert_eq!(subscriber.next().kind, "unauthorized");
    check_turns(&server);
}

#[test]
fn very_many_functions_hear_of_a_leave_in_turns_and_others_are_not_looked_at() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("heard");
    register_triggers(
        &mut sdk,
        "stream:leave",
        "heard",
        &json!({"stream_name": "any"}),
    );
    sdk.trigger(
        "z",
        "stream:leave",
        "heard",
        json!({"stream_name": "other"}),
    );
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("a", ("any", "g"));
    subscriber.join("b", ("other", "g"));
    // A leave is told by the names in its message.
    subscriber.send(&leave("a"));
    for _ in 0..MANY {
        assert_eq!(sdk.next_call_of("heard")["data"]["subscription_id"], "a");
    }
    // Each of these is owed while the triggers of the other stream are there.
    for _ in 0..200 {
        subscriber.send(&leave("b").replace("any", "other"));
        assert_eq!(sdk.next_call_of("heard")["data"]["subscription_id"], "b");
        subscriber.join("b", ("other", "g"));
    }
    check_turns(&server);
}

#[test]
fn lists_of_very_many_rows_are_made_in_turns_and_are_whole() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.call(
        "engine::workers::register",
        json!({"name": "owner", "pid": 1}),
    );
    register_triggers(&mut sdk, "subscribe", "f", &json!({"topic": "t"}));
    for n in 0..MANY {
        sdk.send(&json!({"type": "registerfunction", "id": format!("f{n:06}")}));
        sdk.send(
            &json!({"type": "registertriggertype", "id": format!("y{n:06}"), "description": ""}),
        );
    }
    sdk.settle();
    let mut asking = SdkWorker::connect(&server);
    asking.call("engine::workers::register", json!({"name": "a", "pid": 1}));
    let mut ids_of = |function: &str, rows: &str| -> Vec<String> {
        let listed = asking.call(function, json!({}))["result"][rows].take();
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let triggers = ids_of("engine::triggers::list", "triggers");
    assert!(triggers.len() == MANY && triggers.is_sorted());
    let types = ids_of("engine::trigger-types::list", "trigger_types");
    assert!(
        types.len() == MANY + 5 && types.is_sorted(),
        "{}",
        types.len()
    );
    let listed = asking.call("engine::workers::list", json!({}));
    let workers = listed["result"]["workers"].as_array().unwrap();
    let names: Vec<&str> = workers
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let ours = [
        "iii-engine-functions",
        "iii-pubsub",
        "iii-stream",
        "iii-worker-manager",
    ];
    assert_eq!(names, [&["a"], &ours[..], &["owner"]].concat());
    let owner = &workers[5];
    assert_eq!(owner["function_count"], MANY);
    let functions = owner["functions"].as_array().unwrap();
    assert!(functions.len() == MANY && functions[MANY - 1] == format!("f{:06}", MANY - 1));
    let asked = json!({"worker_id": sdk.worker_id});
    let one = asking.call("engine::workers::list", asked);
    assert_eq!(one["result"]["workers"], json!([owner]));
    check_turns(&server);
}

#[test]
fn at_the_end_of_the_process_what_goes_on_in_turns_is_done_before_sockets_close() {
    let server = TestServer::with(ONE_WORKER, |config| config.drain_ms = 30_000);
    let mut sdk = SdkWorker::connect(&server);
    register_triggers(&mut sdk, "stream", "f", &json!({"stream_name": "s"}));
    let mut last = SdkWorker::connect(&server);
    last.register("heard");
    last.trigger("z", "stream", "heard", json!({"stream_name": "s"}));
    let mut asking = SdkWorker::connect(&server);
    let mut setting = SdkWorker::connect(&server);
    setting.set(("s", "g"), "i", json!(1)); // answered before all triggers have heard of it
    let listed = asking.start("engine::triggers::list", json!({}));
    server.shared().drain();
    assert_eq!(last.next_call_of("heard")["data"]["event"]["data"], 1);
    let listed = asking.result(&listed);
    assert_eq!(
        listed["result"]["triggers"].as_array().unwrap().len(),
        MANY + 1
    );
}

#[test]
fn a_worker_with_very_many_functions_takes_its_namespace_in_turns() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..MANY {
        sdk.send(&json!({"type": "registerfunction", "id": format!("f{n:06}")}));
    }
    register_triggers(&mut sdk, "subscribe", "f000000", &json!({"topic": "t"}));
    sdk.call("engine::workers::register", json!({"namespace": "orders"}));
    sdk.settle();
    let mut other = SdkWorker::connect(&server);
    for n in [0, MANY / 2, MANY - 1] {
        let error = other.error_of(&format!("f{n:06}"), json!({}));
        assert_eq!(error.0, "function_not_found", "it stands in its namespace");
    }
    other.void("publish", json!({"topic": "t", "data": 1}));
    for _ in 0..MANY {
        assert_eq!(sdk.next_call_of("f000000")["data"], 1);
    }
    drop(sdk);
    wait_until("its functions are gone", || {
        let error = other.error_of("f000000", json!({}));
        error.0 == "function_not_found"
    });
    check_turns(&server);
}

#[test]
fn very_many_calls_that_have_had_their_time_end_in_turns() {
    let server = TestServer::with(ONE_WORKER, |config| config.call_timeout_ms = 5000);
    let mut silent = SdkWorker::connect(&server);
    silent.register("silent");
    let mut asking = SdkWorker::connect(&server);
    let began = Instant::now();
    let calls: Vec<String> = (0..MANY)
        .map(|_| asking.start("silent", json!({})))
        .collect();
    let last = asking.result(&calls[MANY - 1]);
    assert_eq!(last["error"]["code"], "invocation_timeout");
    assert!(began.elapsed() >= Duration::from_secs(5));
    check_turns(&server);
}

#[test]
fn what_an_engine_handed_over_is_forgotten_in_turns_and_its_joins_wait_for_it_all_the_same() {
    let engine = ScriptedEngine::start();
    let server = TestServer::attached(ONE_WORKER, &engine.url(), |_| {});
    let handed_over: Vec<Value> = (0..MANY)
        .map(|n| {
            trigger(
                &format!("t{n:06}"),
                "stream:join",
                "gate",
                json!({"stream_name": "s"}),
            )
        })
        .collect();
    let link = engine.attach(&handed_over, &[]);
    link.end();
    // The first link's triggers are gone, and the function is still missed.
    let mut link = engine.attach(&[], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("a", ("s", "g"), None);
    link.settle();
    assert!(!subscriber.has_something(), "it waits for its function");
    link.send(&trigger(
        "t",
        "stream:join",
        "gate",
        json!({"stream_name": "s"}),
    ));
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    let asked = link.next_call("gate");
    link.answer(&asked, json!({"result": null}));
    assert_eq!(subscriber.next().kind, "sync");
    check_turns(&server);
}

#[test]
fn what_is_long_in_redis_takes_the_turns_of_its_thread_and_keeps_its_order() {
    const OBJECT_KEYS: usize = 40_000;
    let redis = RedisServer::start();
    let fill = r#"
        for n = 1, ARGV[1] do
            redis.call('HSET', 'stream:s:large', 'i' .. n, '{"id":"user-000001","status":"online"}')
            redis.call('HSET', 'stream:s:g' .. n, 'i', '1')
            redis.call('HSET', 'iii-stream:groups', 'stream:s:g' .. n, '["s","g' .. n .. '"]')
        end"#;
    let _: () = redis.ask(&["EVAL", fill, "0", &MANY.to_string()]);
    let server = redis.server(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let object: serde_json::Map<String, Value> = (0..OBJECT_KEYS)
        .map(|n| (format!("key {n}"), json!(n)))
        .collect();
    sdk.set(("s", "object"), "i", Value::Object(object));
    let large = ("s", "large");
    let started: Vec<String> = (0..2)
        .flat_map(|n| {
            let list = json!({"stream_name": "s", "group_id": "large"});
            [
                sdk.start("stream::list", list),
                sdk.start(
                    "stream::set",
                    set_input(large, &format!("new {n}"), json!(n)),
                ),
            ]
        })
        .collect();
    let mut update = item_input(("s", "object"), "i");
    update["ops"] = json!([{"type": "increment", "path": "key 7", "by": 1}]);
    let updates = [(); 3].map(|()| sdk.start("stream::update", update.clone()));
    let listing = sdk.start("stream::list_groups", json!({"stream_name": "s"}));
    for (n, pair) in started.chunks(2).enumerate() {
        let listed = sdk.result(&pair[0]);
        let listed = listed["result"].as_array().unwrap();
        assert_eq!(listed.len(), MANY + n, "what came before it");
        assert_eq!(sdk.result(&pair[1])["result"]["new_value"], n);
    }
    for (n, id) in updates.iter().enumerate() {
        let updated = sdk.result(id);
        assert_eq!(updated["result"]["new_value"]["key 7"], 8 + n);
    }
    let listed = sdk.result(&listing);
    assert_eq!(listed["result"].as_array().unwrap().len(), MANY + 2);
    let mut subscriber = Subscriber::connect(&server);
    let there = subscriber.join("a", large).data;
    assert_eq!(there.as_array().unwrap().len(), MANY + 2);
    let longest = server.shared().store.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}
