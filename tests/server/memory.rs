//! What holds when the process has as much memory as it may: nothing is added, everything else goes on, and
//! there is room again once values are gone, whatever the allocator keeps.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::process::{Directory, Process, config};
use crate::support::raw::{ask, upgrade_request};
use crate::support::script::ScriptedEngine;
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, on_each_shape, wait_until};

const ROOM: (&str, &str) = ("memory", "room");
const MIB: usize = 1 << 20;
const VALUE_BYTES: usize = 16 * 1024;

/// What is resident of that process.
fn resident_bytes(process: &Process) -> usize {
    let path = format!("/proc/{}/statm", process.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn refused(function: &str) -> (String, String) {
    let (code, what) = match function {
        "stream::set" => ("STREAM_SET_ERROR", "set value"),
        _ => ("STREAM_UPDATE_ERROR", "update value"),
    };
    let message = format!("Failed to {what}: server is out of memory");
    (code.to_owned(), message)
}

fn value(letter: &str) -> Value {
    json!(letter.repeat(VALUE_BYTES))
}

/// Sets items from that one on until one is refused; gives its number.
fn fill(sdk: &mut SdkWorker, from: usize) -> usize {
    let mut next = from;
    loop {
        let calls: Vec<(usize, String)> = (next..next + 64)
            .map(|n| {
                let input = set_input(ROOM, &n.to_string(), value("x"));
                (n, sdk.start("stream::set", input))
            })
            .collect();
        next += calls.len();
        let mut first = None;
        for (n, call) in calls {
            let result = sdk.result(&call);
            if result.get("error").is_some() {
                assert_eq!(error_in(&result), refused("stream::set"));
                first = first.or(Some(n));
            }
        }
        if let Some(first) = first {
            return first;
        }
        assert!(next < 1 << 20, "it never ends");
    }
}

fn has_room(sdk: &mut SdkWorker) -> bool {
    let result = sdk.call("stream::set", set_input(ROOM, "probe", json!(1)));
    let is_set = result.get("error").is_none();
    if is_set {
        sdk.delete(ROOM, "probe");
    }
    is_set
}

#[test]
fn a_server_that_is_full_refuses_what_adds_and_has_room_again_once_values_are_gone() {
    let limit = 64 * MIB;
    let directory = Directory::new("memory").with_file(&config(
        "",
        &format!("threads: 1, limits: {{memory_bytes: {limit}}}"),
    ));
    let process = Process::start(directory.command(&["--config", "config.yaml"]));
    let mut sdk = process.sdk();
    let mut subscriber = process.subscriber();
    subscriber.join_item("s", ROOM, "0");
    let len = fill(&mut sdk, 0);
    assert!(len > 1000, "{len}");
    let line = process.line_with("limits.memory_bytes");
    assert!(line.contains("WARN") && line.contains("64 MiB"), "{line}");
    let resident = resident_bytes(&process);
    assert!(
        resident < limit + 12 * MIB,
        "it stops at the limit: {resident}"
    );

    assert_eq!(subscriber.next().kind, "create");
    assert_eq!(
        sdk.error_of("stream::set", set_input(ROOM, "new", json!(1))),
        refused("stream::set")
    );
    let larger = set_input(ROOM, "0", json!("y".repeat(VALUE_BYTES + 100)));
    assert_eq!(sdk.error_of("stream::set", larger), refused("stream::set"));
    let mut update = item_input(ROOM, "new");
    update["ops"] = json!([{"type": "set", "path": "", "value": 1}]);
    assert_eq!(
        sdk.error_of("stream::update", update),
        refused("stream::update")
    );
    sdk.void("stream::set", set_input(ROOM, "void", json!(1)));
    // What is no larger, reads and fan-out go on.
    sdk.set(ROOM, "0", value("z"));
    assert_eq!(subscriber.next().told(), ("update", Some("0"), &value("z")));
    assert_eq!(sdk.get(ROOM, "0"), Some(value("z")));
    assert_eq!(sdk.get(ROOM, "void"), None);
    assert_eq!(sdk.get(ROOM, "new"), None);
    sdk.send_event(ROOM, Some("0"), "typing", json!(1));
    assert_eq!(subscriber.next().kind, "event");
    subscriber.join_item("t", ROOM, "1");
    let answer = ask(process.stream, upgrade_request("/", ""));
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains(&"retry-after: 1".to_owned()));
    assert!(answer.body.starts_with("server is out of memory"));

    for _ in 0..2 {
        // A program that comes to delete is let in.
        let mut sdk = process.sdk();
        let calls: Vec<String> = (0..len / 2)
            .map(|n| sdk.start("stream::delete", item_input(ROOM, &n.to_string())))
            .collect();
        for call in calls {
            let result = sdk.result(&call);
            assert!(result.get("error").is_none(), "{result}");
        }
        let deleted = Instant::now();
        wait_until("there is room", || has_room(&mut sdk));
        let within = deleted.elapsed();
        assert!(within < Duration::from_secs(2), "{within:?}");
        process.subscriber().join("again", ("memory", "other"));
        // And what comes then is bounded as before.
        let refilled = fill(&mut sdk, 0);
        assert!(refilled > len / 10, "{refilled} of {len}");
        let resident = resident_bytes(&process);
        assert!(resident < limit + 16 * MIB, "{resident}");
    }
}

#[test]
fn calls_through_an_engine_are_refused_likewise() {
    let engine = ScriptedEngine::start();
    let server = TestServer::attached(ONE_WORKER, &engine.url(), |config| {
        config.limits.memory_bytes = Some(MIB);
    });
    let mut link = engine.attach(&[], &[]);
    wait_until("it is measured", || server.shared().memory.is_full());
    let mut call = |function: &str, input: Value| {
        let id = link.start(function, input);
        let result = link.next();
        assert_eq!(result["invocation_id"], json!(id));
        result
    };
    let set = call("stream::set", set_input(ROOM, "new", json!(1)));
    assert_eq!(error_in(&set), refused("stream::set"));
    let delete = call("stream::delete", item_input(ROOM, "new"));
    assert!(delete.get("error").is_none(), "{delete}");
    let list = json!({"stream_name": ROOM.0, "group_id": ROOM.1});
    assert_eq!(call("stream::list", list)["result"], json!([]));
    assert_eq!(server.shared().workers[0].calls_out_of_memory.get(), 1);
}

#[test]
fn without_a_limit_nothing_is_measured_against_one() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| config.limits.memory_bytes = Some(0));
        let mut sdk = SdkWorker::connect(&server);
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(
            Subscriber::connect(&server).join("s", ROOM).data,
            json!([1])
        );
        wait_until("it is measured", || server.shared().memory.held_bytes() > 0);
        assert_eq!(server.shared().memory.limit_bytes(), 0);
    });
    let server = TestServer::start(ONE_WORKER);
    wait_until("it is measured", || {
        server.shared().memory.limit_bytes() > 0
    });
}
