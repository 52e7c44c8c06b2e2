//! The engine's own functions: what they list, what they tell, and who hears of it.

mod told;
mod turns;

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
