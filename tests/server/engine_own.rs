//! The engine's own functions: what they list, what they tell, and who hears of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use iii_stream::shard::Decides;

use crate::support::{ONE_WORKER, SdkWorker, SharedCues, TestServer, raw};

/// A server, and one SDK worker on it.
fn alone() -> (TestServer, SdkWorker) {
    let server = TestServer::start(ONE_WORKER);
    let sdk = SdkWorker::connect(&server);
    (server, sdk)
}

fn result(sdk: &mut SdkWorker, function_id: &str, data: Value) -> Value {
    let result = sdk.call(function_id, data);
    assert!(result.get("error").is_none(), "{result}");
    result["result"].clone()
}

fn register_trigger(
    sdk: &mut SdkWorker,
    id: &str,
    trigger_type: &str,
    function: &str,
    config: Value,
) {
    sdk.send(
        &json!({"type": "registertrigger", "id": id, "trigger_type": trigger_type,
        "function_id": function, "config": config}),
    );
    sdk.settle();
}

/// The data of the next call of that function.
fn told(sdk: &mut SdkWorker, function: &str) -> Value {
    let call = sdk.next_call();
    assert_eq!(call["function_id"], function, "{call}");
    call["data"].clone()
}

fn ids(list: &Value, key: &str) -> Vec<String> {
    let ids = list.as_array().unwrap().iter();
    ids.map(|row| row[key].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_worker_describes_itself_and_is_listed() {
    let (_server, mut sdk) = alone();
    let about = json!({"runtime": "node", "version": "1.2", "name": "host:1", "os": "linux", "pid": 77,
        "telemetry": {"language": "en", "framework": null}});
    let done = result(&mut sdk, "engine::workers::register", about);
    assert_eq!(done, json!({"success": true}));
    sdk.register("b");
    sdk.register("a");

    let list = result(&mut sdk, "engine::workers::list", json!({}));
    assert!(list["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    let rows = list["workers"].as_array().unwrap();
    let names = [
        "host:1",
        "iii-engine-functions",
        "iii-pubsub",
        "iii-stream",
        "iii-worker-manager",
    ];
    assert_eq!(ids(&list["workers"], "name"), names);
    let mut mine = rows[0].clone();
    assert!(
        mine["connected_at_ms"].take().as_u64().unwrap() <= list["timestamp"].as_u64().unwrap()
    );
    assert_eq!(
        mine,
        json!({"active_invocations": 1, "connected_at_ms": null, "function_count": 2,
            "functions": ["a", "b"], "id": sdk.worker_id, "internal": false,
            "ip_address": "127.0.0.1", "latest_metrics": null, "name": "host:1", "os": "linux",
            "pid": 77, "runtime": "node", "status": "connected", "version": "1.2"})
    );
    assert_eq!(rows[3]["function_count"], 8);
    assert_eq!(rows[2]["functions"], json!(["publish"]));
    assert_eq!(
        (&rows[1]["internal"], &rows[4]["internal"]),
        (&json!(true), &json!(true))
    );

    // Runtime and version are replaced, the rest stays.
    result(
        &mut sdk,
        "engine::workers::register",
        json!({"name": "host:2"}),
    );
    let asked = json!({"worker_id": sdk.worker_id});
    let list = result(&mut sdk, "engine::workers::list", asked);
    let row = &list["workers"][0];
    assert_eq!(
        (
            &row["name"],
            &row["runtime"],
            &row["version"],
            &row["os"],
            &row["pid"]
        ),
        (
            &json!("host:2"),
            &json!("unknown"),
            &Value::Null,
            &json!("linux"),
            &json!(77)
        )
    );
    let none = result(
        &mut sdk,
        "engine::workers::list",
        json!({"worker_id": "nobody"}),
    );
    assert_eq!(none["workers"], json!([]));
}

#[test]
fn a_worker_without_a_pid_is_listed_only_by_its_id() {
    let (server, mut sdk) = alone();
    let quiet = SdkWorker::connect(&server);
    let list = result(&mut sdk, "engine::workers::list", json!({}));
    assert_eq!(list["workers"].as_array().unwrap().len(), 4);
    let asked = json!({"worker_id": quiet.worker_id});
    let list = result(&mut sdk, "engine::workers::list", asked);
    let row = &list["workers"][0];
    assert_eq!(row["id"], json!(quiet.worker_id));
    assert_eq!(row["active_invocations"], 0);
    assert!(row.get("pid").is_none() && row.get("isolation").is_none());
    assert_eq!(row["name"], Value::Null);
}

#[test]
fn what_no_function_of_the_engine_can_read_is_refused() {
    let (_server, mut sdk) = alone();
    let rows = [
        (
            "engine::workers::register",
            json!({"pid": -1}),
            "invalid value: integer `-1`, expected u32",
        ),
        (
            "engine::workers::register",
            json!([]),
            "invalid type: sequence, expected struct RegisterWorkerInput",
        ),
        (
            "engine::workers::list",
            json!(5),
            "invalid type: integer `5`, expected struct WorkersListInput",
        ),
        (
            "engine::functions::list",
            json!({"include_internal": 1}),
            "invalid type: integer `1`, expected a boolean",
        ),
        (
            "engine::triggers::list",
            json!("x"),
            "invalid type: string \"x\", expected struct TriggersListInput",
        ),
        (
            "engine::trigger-types::list",
            json!(null),
            "invalid type: null, expected struct TriggerTypesListInput",
        ),
        (
            "engine::health::check",
            json!(true),
            "invalid type: boolean `true`, expected struct HealthCheckInput",
        ),
        ("engine::log::info", json!({}), "missing field `message`"),
        ("publish", json!({"topic": "t"}), "missing field `data`"),
    ];
    for (function, data, phrase) in rows {
        let message = format!("Failed to deserialize input for {function}: {phrase}");
        assert_eq!(
            sdk.error_of(function, data),
            ("deserialization_error".to_owned(), message)
        );
    }
    assert_eq!(
        sdk.error_of("publish", json!({"topic": "", "data": 1})),
        ("topic_not_set".to_owned(), "Topic is not set".to_owned())
    );
    let id = "00000000-0000-4000-8000-000000000001";
    sdk.send_text(&format!(
        r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"publish","data":{{"topic":"t","data":"\ud83d"}}}}"#
    ));
    assert_eq!(sdk.result(id)["error"]["code"], "invocation_error");
    for gone in ["engine::channels::create", "engine::baggage::get"] {
        assert_eq!(sdk.error_of(gone, json!({})).0, "function_not_found");
    }
}

#[test]
fn functions_are_listed_by_id_and_internal_ones_on_demand() {
    let (_server, mut sdk) = alone();
    sdk.send(
        &json!({"type": "registerfunction", "id": "my::fn", "description": "d",
        "request_format": {"a": 1}, "metadata": {"m": 1}}),
    );
    let list = result(&mut sdk, "engine::functions::list", json!({}));
    let listed = ids(&list["functions"], "function_id");
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[..2], ["my::fn", "publish"]);
    assert_eq!(
        list["functions"][0],
        json!({"description": "d", "function_id": "my::fn", "metadata": {"m": 1},
            "request_format": {"a": 1}, "response_format": null})
    );
    assert_eq!(list["functions"][1]["description"], "Publishes an event");
    let all = result(
        &mut sdk,
        "engine::functions::list",
        json!({"include_internal": true}),
    );
    let all = ids(&all["functions"], "function_id");
    assert_eq!(all.len(), 25);
    assert!(all.is_sorted() && all.contains(&"engine::trigger-types::list".to_owned()));
}

#[test]
fn triggers_and_their_types_are_listed() {
    let (_server, mut sdk) = alone();
    sdk.send(
        &json!({"type": "registertrigger", "id": "t1", "trigger_type": "stream",
        "function_id": "f", "config": {"stream_name": "zz"}, "metadata": {"m": 1}}),
    );
    register_trigger(&mut sdk, "t0", "log", "engine::x", Value::Null);
    sdk.send(&json!({"type": "registertriggertype", "id": "mine", "description": "of my own"}));
    let list = result(&mut sdk, "engine::triggers::list", json!({}));
    assert_eq!(
        list["triggers"],
        json!([{"config": {"stream_name": "zz"}, "function_id": "f", "id": "t1",
            "metadata": {"m": 1}, "trigger_type": "stream"}])
    );
    let all = json!({"include_internal": true});
    let list = result(&mut sdk, "engine::triggers::list", all.clone());
    assert_eq!(ids(&list["triggers"], "id"), ["t0", "t1"]);
    let types = result(&mut sdk, "engine::trigger-types::list", json!({}));
    let public = [
        "log",
        "mine",
        "stream",
        "stream:join",
        "stream:leave",
        "subscribe",
    ];
    assert_eq!(ids(&types["trigger_types"], "id"), public);
    assert_eq!(types["trigger_types"][1]["description"], "of my own");
    assert!(
        types["trigger_types"][2]
            .get("call_request_format")
            .is_some()
    );
    let types = result(&mut sdk, "engine::trigger-types::list", all);
    assert_eq!(types["trigger_types"].as_array().unwrap().len(), 8);
}

#[test]
fn health_follows_the_store() {
    let cues = SharedCues::default();
    let server = TestServer::on_double(ONE_WORKER, Decides::Owner, &cues);
    let mut sdk = SdkWorker::connect(&server);
    let health = result(&mut sdk, "engine::health::check", json!({}));
    assert_eq!(health["status"], "healthy");
    for component in ["logs", "metrics", "otel", "spans"] {
        let disabled = json!({"details": null, "status": "disabled"});
        assert_eq!(health["components"][component], disabled);
    }
    assert_eq!(health["components"]["stream"]["status"], "healthy");
    cues.refuse_after(0);
    let group = ("s", "g");
    let input = json!({"stream_name": "s", "group_id": "g", "item_id": "i", "data": 1});
    sdk.error_of("stream::set", input);
    let health = result(&mut sdk, "engine::health::check", json!({}));
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["components"]["stream"]["status"], "degraded");
    sdk.set(group, "i", json!(1));
    let health = result(&mut sdk, "engine::health::check", json!({}));
    assert_eq!(health["status"], "healthy");
}

#[test]
fn what_is_published_reaches_every_subscription_of_the_topic_as_it_is() {
    let (server, mut sdk) = alone();
    let mut other = SdkWorker::connect(&server);
    sdk.register("f");
    other.register("g");
    for (id, config) in [
        ("a", json!({"topic": "t"})),
        ("b", json!({"topic": "t", "condition_function_id": "never"})),
        ("c", json!({"topic": "u"})),
        ("d", json!({})),
    ] {
        register_trigger(&mut sdk, id, "subscribe", "f", config);
    }
    register_trigger(&mut other, "e", "subscribe", "g", json!({"topic": "t"}));
    for data in [json!({"x": 1}), json!([1]), json!(1), Value::Null] {
        let answer = sdk.call("publish", json!({"topic": "t", "data": data}));
        assert!(answer.get("result").is_none() && answer.get("error").is_none());
        assert_eq!(
            (told(&mut sdk, "f"), told(&mut sdk, "f")),
            (data.clone(), data.clone())
        );
        assert_eq!(told(&mut other, "g"), data);
    }
    // One that is removed leaves the others.
    sdk.send(&json!({"type": "unregistertrigger", "id": "a"}));
    sdk.call("publish", json!(["t", "last"]));
    assert_eq!(told(&mut sdk, "f"), "last");
    assert_eq!(told(&mut other, "g"), "last");
    sdk.void("publish", json!({"topic": "u", "data": "marker"}));
    assert_eq!(told(&mut sdk, "f"), "marker", "nothing came before it");
}

#[test]
fn publish_may_be_a_trigger_s_function_and_does_not_run_away() {
    let (_server, mut sdk) = alone();
    sdk.register("f");
    for at in 0..20 {
        let id = format!("p{at}");
        register_trigger(&mut sdk, &id, "subscribe", "publish", json!({"topic": "t"}));
    }
    register_trigger(&mut sdk, "end", "subscribe", "f", json!({"topic": "u"}));
    let mut data = json!({"topic": "u", "data": "end"});
    for _ in 0..2 {
        data = json!({"topic": "t", "data": data});
    }
    sdk.call("publish", data);
    sdk.call("publish", json!({"topic": "u", "data": "marker"}));
    assert_eq!(told(&mut sdk, "f"), "marker", "the levels do not multiply");
    sdk.call(
        "publish",
        json!({"topic": "t", "data": {"topic": "u", "data": "once each"}}),
    );
    for _ in 0..20 {
        assert_eq!(told(&mut sdk, "f"), "once each");
    }
}

#[test]
fn whoever_follows_workers_hears_of_each_that_comes_describes_itself_and_goes() {
    let (server, mut sdk) = alone();
    sdk.register("f");
    let available = "engine::workers-available";
    register_trigger(&mut sdk, "w", available, "f", Value::Null);
    let other = SdkWorker::connect(&server);
    let id = other.worker_id.clone();
    let event = |event: &str, id: &str| json!({"event": event, "worker_id": id});
    assert_eq!(told(&mut sdk, "f"), event("worker_connected", &id));
    let mut other = other;
    other.void("engine::workers::register", json!({"name": "n"}));
    assert_eq!(told(&mut sdk, "f"), event("worker_metadata_updated", &id));
    // A sender of telemetry is no worker.
    drop(raw::upgrade(raw::connect(server.worker()), "/otel"));
    drop(other);
    assert_eq!(told(&mut sdk, "f"), event("worker_disconnected", &id));
    let mine = sdk.worker_id.clone();
    sdk.void("engine::workers::register", json!({}));
    assert_eq!(told(&mut sdk, "f"), event("worker_metadata_updated", &mine));
}

#[test]
fn a_new_set_of_functions_is_told_once_for_many_changes() {
    let (server, mut sdk) = alone();
    let available = "engine::functions-available";
    register_trigger(&mut sdk, "a", available, "f", Value::Null);
    sdk.register("f");
    let listed = |told: &Value| ids(&told["functions"], "function_id");
    let new = |listed: &[String]| listed.iter().filter(|id| id.starts_with("g-")).count();
    let first = told(&mut sdk, "f");
    assert_eq!(first["event"], "functions_changed");
    assert!(listed(&first).contains(&"f".to_owned()));
    assert!(listed(&first).contains(&"engine::workers::list".to_owned()));

    let mut other = SdkWorker::connect(&server);
    for at in 0..50 {
        other.send(&json!({"type": "registerfunction", "id": format!("g-{at}")}));
    }
    other.settle();
    let mut tellings = 0;
    loop {
        tellings += 1;
        if new(&listed(&told(&mut sdk, "f"))) == 50 {
            break;
        }
    }
    assert!(tellings < 10, "{tellings}");
    // The same ids anew are no change; the worker's end is the next.
    other.register("g-0");
    drop(other);
    assert_eq!(new(&listed(&told(&mut sdk, "f"))), 0);
}

#[test]
fn log_triggers_hear_what_is_logged_by_calls_of_their_level() {
    let (_server, mut sdk) = alone();
    sdk.register("all");
    sdk.register("warn");
    register_trigger(&mut sdk, "a", "log", "all", json!({}));
    register_trigger(&mut sdk, "w", "log", "warn", json!({"level": "warn"}));
    let answer = sdk.call(
        "engine::log::info",
        json!({"message": "hello", "data": {"k": 1}, "service_name": "svc", "trace_id": "t",
            "span_id": "s"}),
    );
    assert!(answer.get("result").is_none() && answer.get("error").is_none());
    let mut entry = told(&mut sdk, "all");
    let time = entry["timestamp_unix_nano"].take();
    assert_eq!(time, entry["observed_timestamp_unix_nano"].take());
    assert!(time.as_u64().unwrap() > 1_700_000_000_000_000_000);
    assert_eq!(
        entry,
        json!({"attributes": {"k": 1}, "body": "hello", "instrumentation_scope_name": "iii",
            "instrumentation_scope_version": "0.11.6-next.3", "observed_timestamp_unix_nano": null,
            "resource": {"service.name": "iii"}, "service_name": "svc", "severity_number": 9,
            "severity_text": "INFO", "span_id": "s", "timestamp_unix_nano": null, "trace_id": "t"})
    );
    for (level, number) in [("error", 17), ("debug", 5), ("trace", 1)] {
        let function = format!("engine::log::{level}");
        sdk.void(&function, json!({"message": level}));
        assert_eq!(told(&mut sdk, "all")["severity_number"], number);
    }
    sdk.void("engine::log::warn", json!({"message": "careful"}));
    assert_eq!(told(&mut sdk, "all")["body"], "careful");
    assert_eq!(told(&mut sdk, "warn")["severity_number"], 13);
}

/// A frame of one record for each body.
fn logs_frame(bodies: &[&str]) -> Vec<u8> {
    let records: Vec<Value> = bodies
        .iter()
        .map(|body| json!({"severityText": "Info", "severityNumber": 9, "body": {"stringValue": body}}))
        .collect();
    let resource =
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": "mysvc"}}]});
    let request =
        json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]});
    [b"LOGS".as_slice(), request.to_string().as_bytes()].concat()
}

#[test]
fn log_triggers_hear_the_records_of_telemetry_on_either_path() {
    use std::io::Write;
    let (server, mut sdk) = alone();
    sdk.register("f");
    let binary = |bytes: Vec<u8>| Message::binary(bytes);
    // Nobody follows yet: it is not looked at.
    sdk.send_message(binary(logs_frame(&["unheard"])));
    register_trigger(&mut sdk, "l", "log", "f", json!({"level": "info"}));
    sdk.send_message(binary(logs_frame(&["one", "two"])));
    for body in ["one", "two"] {
        let entry = told(&mut sdk, "f");
        assert_eq!(
            (&entry["body"], &entry["service_name"]),
            (&json!(body), &json!("mysvc"))
        );
    }
    let mut otel = raw::upgrade(raw::connect(server.worker()), "/otel");
    for frame in [
        b"LOGSnonsense".to_vec(),
        b"OTLP{}".to_vec(),
        logs_frame(&["three"]),
    ] {
        otel.write_all(&raw::frame(0x82, &frame)).unwrap();
    }
    assert_eq!(told(&mut sdk, "f")["body"], "three");
    // The socket that sent nonsense is unharmed, and so is this one.
    sdk.send_message(binary(b"LOGS[".to_vec()));
    sdk.settle();
    otel.write_all(&raw::frame(0x82, &logs_frame(&["four"])))
        .unwrap();
    assert_eq!(told(&mut sdk, "f")["body"], "four");
}

/// Each list has 32 MB: made thousands of times they would take minutes.
#[test]
fn lists_that_nobody_waits_for_are_not_made() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    let text = "x".repeat(8 * 1024 * 1024);
    for n in 0..4 {
        sdk.send(&json!({"type": "registerfunction", "id": format!("f{n}"), "metadata": text}));
    }
    for _ in 0..5000 {
        sdk.void("engine::functions::list", json!({}));
    }
    sdk.settle();
}

/// How long a call of another worker takes at most, over and over for a while.
fn longest_call(sdk: &mut SdkWorker, for_a_while: Duration) -> Duration {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    while began.elapsed() < for_a_while {
        let since = Instant::now();
        sdk.set(("s", "g"), "i", json!(1));
        longest = longest.max(since.elapsed());
    }
    longest
}

#[test]
fn lists_over_many_hidden_ids_hold_up_nobody() {
    const HIDDEN: usize = 20_000;
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..HIDDEN {
        owner.send(&json!({"type": "registerfunction", "id": format!("engine::hidden::{n}")}));
    }
    owner.settle();
    let mut asking = SdkWorker::connect(&server);
    let asked: Vec<String> = (0..100)
        .map(|_| asking.start("engine::functions::list", json!({})))
        .collect();
    let mut other = SdkWorker::connect(&server);
    let longest = longest_call(&mut other, Duration::from_millis(300));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let listed = asking.result(&asked[0]);
    let listed = listed["result"]["functions"].as_array().unwrap();
    assert_eq!(listed.len(), 9, "ours that are not internal");
}

#[test]
fn a_change_that_many_functions_of_ours_would_be_told_of_holds_up_nobody() {
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..2000 {
        owner.send(
            &json!({"type": "registertrigger", "id": format!("t{n}"), "config": {},
            "trigger_type": "engine::functions-available", "function_id": "stream::set"}),
        );
    }
    owner.settle();
    let text = "x".repeat(4 << 20);
    for n in 0..4 {
        owner.send(&json!({"type": "registerfunction", "id": format!("f{n}"), "metadata": text}));
    }
    owner.settle();
    let mut other = SdkWorker::connect(&server);
    let longest = longest_call(&mut other, Duration::from_millis(1500));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn what_is_published_to_very_many_is_told_to_all_in_turns() {
    const TRIGGERS: usize = 3000;
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("heard");
    for n in 0..TRIGGERS {
        sdk.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    sdk.settle();
    for round in 0..2 {
        let text = format!("{round}{}", "x".repeat(4000));
        sdk.void("publish", json!({"topic": "t", "data": text}));
        for _ in 0..TRIGGERS {
            assert_eq!(sdk.next_call_of("heard")["data"], *text);
        }
    }
}

/// What a turn of the engine thread may take here, in a test build beside others.
const TURN_MAX: Duration = Duration::from_millis(250);

/// Waits until the server has noticed that a worker is gone.
fn wait_for_end_of(worker_id: &str, sdk: &mut SdkWorker) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let asked = json!({"worker_id": worker_id});
    while result(sdk, "engine::workers::list", asked.clone())["workers"] != json!([]) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_worker_that_had_very_much_is_gone_at_once_and_removed_in_turns() {
    const MANY: usize = 30_000;
    let server = TestServer::start(ONE_WORKER);
    let mut other = SdkWorker::connect(&server);
    let mut owner = SdkWorker::connect(&server);
    other.register("heard");
    for n in 0..MANY {
        owner.send(&json!({"type": "registerfunction", "id": format!("f{n}")}));
        owner.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    owner.settle();
    let gone = owner.worker_id.clone();
    drop(owner);
    wait_for_end_of(&gone, &mut other);
    for n in [0, MANY / 2, MANY - 1] {
        let error = other.error_of(&format!("f{n}"), json!({}));
        assert_eq!(error.0, "function_not_found");
    }
    other.void("publish", json!({"topic": "t", "data": 1}));
    other.trigger("mine", "subscribe", "heard", json!({"topic": "t"}));
    other.void("publish", json!({"topic": "t", "data": 2}));
    assert_eq!(
        other.next_call_of("heard")["data"],
        2,
        "its triggers are gone"
    );
    let triggers = result(&mut other, "engine::triggers::list", json!({}));
    assert_eq!(ids(&triggers["triggers"], "id"), ["mine"]);
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}

#[test]
fn triggers_of_a_type_that_is_taken_over_are_handed_over_in_turns() {
    const MANY: usize = 20_000;
    let server = TestServer::start(ONE_WORKER);
    let mut owner = SdkWorker::connect(&server);
    for n in 0..MANY {
        owner.send(&json!({"type": "registertrigger", "id": format!("t{n}"),
            "trigger_type": "subscribe", "function_id": "heard", "config": {"topic": "t"}}));
    }
    owner.settle();
    let mut taker = SdkWorker::connect(&server);
    taker.send(&json!({"type": "registertriggertype", "id": "subscribe", "description": ""}));
    for n in 0..MANY {
        let handed_over = taker.next();
        assert_eq!(handed_over["type"], "registertrigger");
        assert_eq!(handed_over["id"], format!("t{n}"));
    }
    let gone = taker.worker_id.clone();
    drop(taker);
    wait_for_end_of(&gone, &mut owner);
    // They are ours again, of which the last is the last to be.
    owner.register("last");
    owner.trigger("last", "subscribe", "last", json!({"topic": "last"}));
    owner.void("publish", json!({"topic": "last", "data": 1}));
    assert_eq!(owner.next_call_of("last")["data"], 1);
    let longest = server.shared().engine.loop_turns.longest();
    assert!(longest < TURN_MAX, "{longest:?}");
}
