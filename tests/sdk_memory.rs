//! What SDK workers that read nothing, or answer nothing, can make the server hold. A process of its
//! own, for it looks at its memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[path = "support/memory.rs"]
mod memory;
#[allow(dead_code, unused_imports, reason = "this binary uses a part of it")]
mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use iii_stream::shard::Decides;
use serde_json::{Value, json};
use uuid::Uuid;

use memory::resident_bytes;
use support::clients::{item_input, set_input};
use support::{SdkWorker, Shape, SharedCues, Subscriber, TestServer, raw, wait_until};

/// One test at a time: their memory is one.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1024 * 1024;

/// A mailbox as long as those of servers that run.
const ROOMY: Shape = Shape {
    threads: 1,
    mailbox_len: 4096,
};

fn server() -> TestServer {
    TestServer::with(ROOMY, |config| config.limits.call_queue_bytes = MIB)
}

/// An SDK worker that reads nothing.
fn deaf(server: &TestServer) -> TcpStream {
    raw::upgrade(raw::connect_narrow(server.worker()), "/")
}

fn frame(message: &Value) -> Vec<u8> {
    raw::text(&message.to_string())
}

fn call(function_id: &str, data: &Value) -> Value {
    json!({"type": "invokefunction", "invocation_id": Uuid::new_v4().to_string(),
        "function_id": function_id,
        "data": data})
}

fn grown_since(before: usize) -> usize {
    resident_bytes().saturating_sub(before)
}

#[test]
fn answers_stay_shared_when_something_else_is_sent_after_them() {
    const GETS: usize = 300;
    let _alone = ALONE.lock();
    let server = server();
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("late");
    sdk.set(("s", "g"), "i", json!("x".repeat(MIB)));
    let mut deaf = deaf(&server);
    deaf.write_all(&frame(&call("late", &json!(1)))).unwrap();
    let late = sdk.next_call();
    let before = resident_bytes();
    let gets = (0..GETS).flat_map(|_| frame(&call("stream::get", &item_input(("s", "g"), "i"))));
    deaf.write_all(&gets.collect::<Vec<u8>>()).unwrap();
    for _ in 0..20 {
        sdk.get(("s", "g"), "i"); // its answer comes after some of theirs
    }
    sdk.answer(&late, json!({"result": 2}));
    sdk.settle();
    let grown = grown_since(before);
    assert!(
        grown < 64 * MIB,
        "{grown} bytes for answers that are shared"
    );
}

#[test]
fn answers_to_a_caller_that_reads_nothing_are_refused_when_too_much_waits_for_it() {
    const CALLS: usize = 100;
    let _alone = ALONE.lock();
    let server = server();
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("f");
    let mut deaf = deaf(&server);
    let calls = (0..CALLS).flat_map(|_| frame(&call("f", &json!(1))));
    deaf.write_all(&calls.collect::<Vec<u8>>()).unwrap();
    let calls: Vec<Value> = (0..CALLS).map(|_| sdk.next_call()).collect();
    let before = resident_bytes();
    for call in &calls {
        sdk.answer(call, json!({"result": "x".repeat(MIB)}));
    }
    sdk.settle();
    let grown = grown_since(before);
    assert!(grown < 48 * MIB, "{grown} bytes of answers");
    let mut told = 0;
    let mut reader = SdkWorker::upgraded(deaf);
    for _ in 0..CALLS {
        let result = reader.next_result().unwrap();
        if result.get("error").is_some() {
            assert_eq!(result["error"]["message"], "server is overloaded");
            told += 1;
        }
    }
    assert!(told > 0 && told < CALLS, "{told} are refused");
}

#[test]
fn a_server_of_a_trigger_type_that_reads_nothing_is_handed_no_more_triggers() {
    let _alone = ALONE.lock();
    let server = server();
    let mut deaf = deaf(&server);
    deaf.write_all(&frame(
        &json!({"type": "registertriggertype", "id": "x", "description": "d"}),
    ))
    .unwrap();
    let mut sdk = SdkWorker::connect(&server);
    wait_until("the type is there", || {
        let types = sdk.call("engine::trigger-types::list", json!({}));
        types.to_string().contains(r#""id":"x""#)
    });
    let before = resident_bytes();
    for _ in 0..100 {
        sdk.trigger("t", "x", "f", json!("x".repeat(MIB)));
    }
    sdk.settle();
    let grown = grown_since(before);
    assert!(grown < 48 * MIB, "{grown} bytes for one trigger");
    sdk.trigger("u", "x", "f", json!(1));
    loop {
        let (id, code, message) = sdk.refusal();
        assert_eq!(
            (&*code, &*message),
            ("trigger_registration_failed", "server is overloaded")
        );
        if id == "u" {
            return;
        }
    }
}

#[test]
fn trace_fields_that_are_longer_than_any_trace_are_not_kept() {
    let _alone = ALONE.lock();
    let server = TestServer::start(ROOMY);
    let mut callee = SdkWorker::connect(&server);
    callee.register("f");
    let mut sdk = SdkWorker::connect(&server);
    let before = resident_bytes();
    for _ in 0..100 {
        let mut call = call("f", &json!(1));
        call["baggage"] = "x".repeat(MIB).into();
        call["traceparent"] = "t".into();
        sdk.send(&call);
        let call = callee.next_call();
        assert_eq!(
            (&call["traceparent"], call.get("baggage")),
            (&json!("t"), None)
        );
    }
    let grown = grown_since(before);
    assert!(grown < 48 * MIB, "{grown} bytes for calls that wait");
}

/// Writes on until nothing is taken for a second: gives the bytes that were.
fn write_on(stream: &mut TcpStream, frames: &[u8], most: usize) -> usize {
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut taken = 0;
    while taken < most {
        match stream.write(&frames[taken % frames.len()..]) {
            Ok(len) => taken += len,
            Err(_) => break,
        }
    }
    taken
}

#[test]
fn an_answer_that_holds_nothing_weighs_its_entry_and_its_trace() {
    let _alone = ALONE.lock();
    let server = server();
    let mut deaf = deaf(&server);
    let mut get = call("stream::get", &item_input(("s", "g"), "missing"));
    get["baggage"] = "b".repeat(8000).into();
    let frames = frame(&get).repeat(100);
    let before = resident_bytes();
    let taken = write_on(&mut deaf, &frames, 100 * MIB);
    assert!(
        taken < 64 * MIB,
        "{taken} bytes are read of one that reads nothing"
    );
    let grown = grown_since(before);
    assert!(grown < 32 * MIB, "{grown} bytes for answers");
    SdkWorker::connect(&server).set(("s", "g"), "i", json!(1));
}

#[test]
fn a_frame_of_logs_with_a_long_name_and_many_records_makes_no_copies_of_it() {
    let _alone = ALONE.lock();
    let server = server();
    let mut deaf = deaf(&server);
    for message in [
        json!({"type": "registerfunction", "id": "heard"}),
        json!({"type": "registertrigger", "id": "l", "trigger_type": "log", "function_id": "heard", "config": {}}),
    ] {
        deaf.write_all(&frame(&message)).unwrap();
    }
    let name = "n".repeat(2 * MIB);
    let records = vec!["{}"; 50_000].join(",");
    let logs = format!(
        r#"LOGS{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{name}"}}}}]}},"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#
    );
    let mut sender = SdkWorker::connect(&server);
    sender.settle();
    let before = resident_bytes();
    sender.send_message(tungstenite::Message::binary(logs.into_bytes()));
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..20 {
        sdk.set(("s", "g"), "i", json!(n));
    }
    sender.settle();
    let grown = grown_since(before);
    assert!(grown < 64 * MIB, "{grown} bytes for one frame");
}

#[test]
fn what_calls_under_way_keep_is_bounded() {
    const CALLS: usize = 5000;
    let _alone = ALONE.lock();
    let server = server();
    let mut callee = SdkWorker::connect(&server);
    callee.register("silent");
    let end = callee.stream().try_clone().unwrap();
    let mut sdk = SdkWorker::connect(&server);
    let mut other = SdkWorker::connect(&server);
    other.register("f");
    let mut call = call("silent", &json!(1));
    (call["traceparent"], call["baggage"]) = ("t".repeat(8000).into(), "b".repeat(8000).into());
    let before = resident_bytes();
    std::thread::scope(|scope| {
        scope.spawn(|| while callee.next_result().is_some() {});
        for n in 0..CALLS {
            call["invocation_id"] = Uuid::from_u128(n as u128).to_string().into();
            sdk.send(&call);
            if n % 50 == 0 {
                sdk.settle();
            }
        }
        sdk.settle();
        let grown = grown_since(before);
        assert!(server.shared().engine.calls_refused.get() > CALLS as u64 / 2);
        // Each refusal is kept by the test, with its trace.
        assert!(
            grown < (CALLS * 16_000) * 3,
            "{grown} bytes for calls that wait"
        );
        end.shutdown(Shutdown::Both).unwrap();
    });
    let id = sdk.start("f", json!(1));
    let call = other.next_call();
    other.answer(&call, json!({"result": 1}));
    assert_eq!(sdk.result(&id)["result"], 1);
}

#[test]
fn what_waits_for_conditions_that_never_answer_is_bounded() {
    let _alone = ALONE.lock();
    let server = server();
    let mut asked = SdkWorker::connect(&server);
    asked.register("silent");
    let config = json!({"stream_name": "s", "condition_function_id": "silent"});
    asked.trigger("t", "stream", "handler", config);
    let end = asked.stream().try_clone().unwrap();
    let mut sdk = SdkWorker::connect(&server);
    let before = resident_bytes();
    std::thread::scope(|scope| {
        scope.spawn(|| while asked.next_result().is_some() {});
        for n in 0..100 {
            sdk.set(("s", "g"), &format!("i{}", n % 3), json!("x".repeat(MIB)));
        }
        sdk.settle();
        let grown = grown_since(before);
        end.shutdown(Shutdown::Both).unwrap();
        assert!(grown < 64 * MIB, "{grown} bytes for handlers that wait");
    });
    assert!(server.shared().engine.trigger_calls_dropped.get() > 0);
}

#[test]
fn leaves_of_many_triggers_wait_for_their_callee_as_those_of_one() {
    const TRIGGERS: usize = 3000;
    const LEAVES: usize = 200;
    let _alone = ALONE.lock();
    let server = server();
    let mut deaf = deaf(&server);
    deaf.write_all(&frame(&json!({"type": "registerfunction", "id": "left"})))
        .unwrap();
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..TRIGGERS {
        sdk.trigger(&n.to_string(), "stream:leave", "left", json!({}));
    }
    let before = resident_bytes();
    let mut client = Subscriber::connect(&server);
    for n in 0..LEAVES {
        client.leave(&format!("s{n}"));
    }
    client.join("last", ("s", "g"));
    for _ in 0..20 {
        sdk.set(("s", "g"), "i", json!(1)); // the leaves are ahead of their answers
    }
    let grown = grown_since(before);
    assert!(grown < 32 * MIB, "{grown} bytes for leaves that are owed");
    let mut reader = SdkWorker::upgraded(deaf);
    for n in 0..3 * TRIGGERS {
        let call = reader.next_call();
        let subscription = format!("s{}", n / TRIGGERS);
        assert_eq!(call["data"]["subscription_id"], *subscription);
    }
}

#[test]
fn calls_of_our_functions_by_triggers_do_not_pile_up_at_a_slow_store() {
    const TRIGGERS: usize = 400;
    let _alone = ALONE.lock();
    let cues = SharedCues::default();
    let server = TestServer::on_double_with(ROOMY, Decides::Owner, &cues, |config| {
        config.limits.call_queue_bytes = MIB;
    });
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..TRIGGERS {
        let topic = json!({"topic": "t"});
        sdk.trigger(&n.to_string(), "subscribe", "stream::set", topic);
    }
    cues.delay(Duration::from_secs(1));
    let before = resident_bytes();
    let set = set_input(("s", "g"), "i", json!("x".repeat(MIB)));
    sdk.call("publish", json!({"topic": "t", "data": set}));
    sdk.settle();
    let grown = grown_since(before);
    assert!(grown < 160 * MIB, "{grown} bytes for calls that wait");
    cues.delay(Duration::ZERO);
}

#[test]
fn what_one_worker_registers_is_bounded() {
    let _alone = ALONE.lock();
    let server = TestServer::start(ROOMY);
    let mut sdk = SdkWorker::connect(&server);
    let text = "x".repeat(8 * MIB);
    for n in 0..9 {
        sdk.send(&json!({"type": "registerfunction", "id": format!("f{n}"), "metadata": text}));
        sdk.trigger(&n.to_string(), "stream:join", "f", json!({"x": text}));
    }
    let (id, code, message) = sdk.refusal();
    assert_eq!((&*id, &*code), ("7", "trigger_registration_failed"));
    assert!(message.contains("67108864 bytes"), "{message}");
    let mut other = SdkWorker::connect(&server);
    other.register("mine");
    other.start("f6", json!(1));
    other.start("mine", json!(1));
    assert_eq!(sdk.next_call()["function_id"], "f6");
    assert_eq!(other.next_call()["function_id"], "mine");
    let not_found = "Function f7 not found".to_owned();
    let found = other.error_of("f7", json!(1));
    assert_eq!(found, ("function_not_found".to_owned(), not_found));
    sdk.send(&json!({"type": "unregisterfunction", "id": "f6"}));
    sdk.register("f7");
    other.start("f7", json!(1));
    assert_eq!(sdk.next_call()["function_id"], "f7", "there is room again");
    sdk.register(&"f".repeat(4097));
    let found = other.error_of(&"f".repeat(4097), json!(1));
    assert_eq!(found.0, "function_not_found");
}
