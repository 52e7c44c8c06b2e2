//! Whom our own functions tell: of what is published, of workers that come and go, of functions, of logs.

use super::*;

/// The data of the next call of that function.
fn told(sdk: &mut SdkWorker, function: &str) -> Value {
    let call = sdk.next_call();
    assert_eq!(call["function_id"], function, "{call}");
    call["data"].clone()
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
