//! What the log of the process says: what is served where, what fails or is refused and why, who comes and goes.

use super::*;

#[test]
fn the_first_lines_say_what_is_served_where() {
    let process = start("first-lines");
    let stream = process.stream;
    let worker = process.worker;
    assert!(stream.port() != 0 && worker.port() != 0 && stream.ip().is_loopback());
    let log = process.log.borrow();
    let starts = format!(
        "INFO iii-stream {} starts with config.yaml",
        env!("CARGO_PKG_VERSION")
    );
    assert!(log[0].ends_with(&starts), "{log:?}");
    let warning =
        "WARN config.yaml: no adapter in it: values live in memory and end with the process";
    assert!(log[1].ends_with(warning), "{log:?}");
    let more = &log[2..log.len() - 1];
    assert!(
        more.iter().all(|line| line.contains("WARN open files ")),
        "{log:?}"
    );
    let last = log.last().unwrap();
    let started =
        format!("INFO serves subscribers on {stream} and SDK workers on {worker}; 2 threads");
    assert!(last.contains(&started), "{log:?}");
    assert!(last.ends_with("; values in memory"), "{log:?}");
}

#[test]
fn without_a_file_the_first_line_says_so() {
    let directory = Directory::new("no-file");
    let process = Process::spawn(directory.command(&["--use-default-config"]));
    process.line_with("");
    assert!(process.log.borrow()[0].ends_with(" starts with no config file"));
}

#[test]
fn a_call_that_fails_and_that_nobody_waits_for_leaves_a_line_in_the_log() {
    let process = start("void");
    let mut sdk = sdk(&process);
    let void = json!({
        "type": "invokefunction", "function_id": "stream::send", "action": {"type": "void"},
        "data": {"stream_name": "s", "group_id": "g", "kind": "typing", "data": 1},
    });
    for _ in 0..3 {
        sdk.send(Message::text(void.to_string())).unwrap();
    }
    let line = process.line_with("stream::send");
    assert!(
        line.contains("WARN") && line.contains("missing field `type`"),
        "{line}"
    );
    assert!(line.contains("waits for no answer"), "{line}");
    sdk.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
    assert_eq!(sdk.read().unwrap().to_text().unwrap(), r#"{"type":"pong"}"#);
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let warnings = log.iter().filter(|line| line.contains("stream::send"));
    let warnings: Vec<&String> = warnings.collect();
    assert_eq!(warnings.len(), 2, "{log:?}");
    assert!(warnings[1].ends_with("(and 1 more like it)"), "{log:?}");
}

/// Reads lines until all of these words were in one, in any order.
fn hears_of(process: &Process, words: &[&str]) {
    let is_said = |word: &&str| {
        let log = process.log.borrow();
        log.iter().any(|line| line.contains(*word))
    };
    while let Some(missing) = words.iter().find(|word| !is_said(word)) {
        process.line_with(missing);
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = raw::connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    raw::read_head(&mut stream)
}

#[test]
fn every_refusal_by_a_limit_is_told_by_its_name_and_once_a_second() {
    let limits = "limits: {connections: 2, worker_connections: 3, message_bytes: 1000, subscriptions: 1, \
                  name_bytes: 20, handshake_bytes: 1000, handshake_ms: 1000, call_bytes: 2000, value_bytes: 100}";
    let process = start_as(
        "refusals",
        &format!("threads: 1, drain_ms: 500, {limits}"),
        "",
        |directory| directory.command(&[]),
    );
    let silent = [raw::connect(process.stream), raw::connect(process.worker)];
    let large = raw::upgrade_request("/", &format!("a: {}\r\n", "x".repeat(1000)));
    for address in [process.stream, process.worker] {
        assert!(ask(address, &large).starts_with("HTTP/1.1 431 "));
    }
    let mut held = [subscriber(&process), subscriber(&process)];
    for _ in 0..10 {
        assert!(ask(process.stream, &raw::upgrade_request("/", "")).starts_with("HTTP/1.1 503 "));
    }
    let long = "x".repeat(21);
    for (id, group) in [("second", "g"), ("s", &*long)] {
        held[0]
            .send(Message::text(join(id, ("s", group), None)))
            .unwrap();
        let answer = held[0].read().unwrap();
        assert!(answer.to_text().unwrap().contains("unauthorized"));
    }
    held[0].send(Message::text(" ".repeat(1001))).unwrap();
    assert_eq!(close_code(&mut held[0]), Some(1009));
    let mut sdks = [sdk(&process), sdk(&process), sdk(&process)];
    assert!(ask(process.worker, &raw::upgrade_request("/", "")).starts_with("HTTP/1.1 503 "));
    let id = "00000000-0000-4000-8000-000000000001";
    let input =
        json!({"stream_name": "s", "group_id": "g", "item_id": "i", "data": "x".repeat(200)});
    let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set", "data": input});
    sdks[0].send(Message::text(call.to_string())).unwrap();
    sdks[0].read().unwrap();
    sdks[1].send(Message::text(" ".repeat(2001))).unwrap();
    assert_eq!(close_code(&mut sdks[1]), Some(1009));
    hears_of(
        &process,
        &[
            " is answered 503: limits.connections (2) are there",
            " is answered 503: limits.worker_connections (3) are there",
            "`unauthorized`: limits.subscriptions (1)",
            "`unauthorized`: limits.name_bytes (20)",
            "1009: message would have 1001 bytes, limit 1000 (limits.message_bytes)",
            "1009: message would have 2001 bytes, limit 2000 (limits.call_bytes)",
            "its call of stream::set is refused: Failed to set value: limits.value_bytes exceeded: 202 > 100",
            "limits.handshake_ms (1000)",
            "a socket from 127.0.0.1: is answered 431: its request has more than limits.handshake_bytes (1000)",
        ],
    );
    // The nine that were held back are a line of their own.
    hears_of(&process, &["(and 8 more like it)"]);
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let busy = log
        .iter()
        .filter(|line| line.contains("limits.connections (2)"));
    assert_eq!(busy.count(), 2, "{log:?}");
    let all_warn = log
        .iter()
        .filter(|line| line.contains("limits."))
        .all(|line| line.contains("WARN"));
    assert!(all_warn, "{log:?}");
    drop(silent);
}

#[test]
fn failures_of_one_function_hide_none_of_another() {
    let process = start("failures");
    let mut sdk = sdk(&process);
    let send = |sdk: &mut Socket, message: serde_json::Value| {
        sdk.send(Message::text(message.to_string())).unwrap();
    };
    send(
        &mut sdk,
        json!({"type": "invokefunction", "function_id": "engine::workers::register", "action": {"type": "void"},
            "data": {"name": "my-app", "runtime": "node"}}),
    );
    for (function, of_type) in [
        ("onSet", "stream"),
        ("onJoin", "stream:join"),
        ("onTick", "cron"),
        ("onGet", "http"),
    ] {
        send(
            &mut sdk,
            json!({"type": "registerfunction", "id": function}),
        );
        send(
            &mut sdk,
            json!({"type": "registertrigger", "id": format!("trigger-{function}"), "trigger_type": of_type,
                "function_id": function, "config": {"stream_name": "s"}}),
        );
    }
    send(&mut sdk, json!({"type": "ping"}));
    while !sdk.read().unwrap().to_text().unwrap().contains("pong") {}
    let set = json!({"type": "invokefunction", "function_id": "stream::set", "action": {"type": "void"},
        "data": {"stream_name": "s", "group_id": "g", "item_id": "i", "data": 1}});
    for _ in 0..3 {
        send(&mut sdk, set.clone());
    }
    let mut subscriber = open(raw::connect(process.stream), process.stream, "/stream/s/g/");
    for _ in 0..4 {
        let call: serde_json::Value =
            serde_json::from_str(sdk.read().unwrap().to_text().unwrap()).unwrap();
        send(
            &mut sdk,
            json!({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": call["function_id"],
                "error": {"code": "oops", "message": "thrown"}}),
        );
    }
    subscriber.read().unwrap();
    process.signal(Signal::TERM);
    process.line_with("ended");
    let log = process.log.borrow();
    let said = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(said("function onJoin failed: oops: thrown"), 1, "{log:?}");
    assert_eq!(said("function onSet failed: oops: thrown"), 2, "{log:?}");
    assert_eq!(
        said("function onSet failed: oops: thrown (and 1 more like it)"),
        1,
        "{log:?}"
    );
    for (part, function) in [("cron", "onTick"), ("http", "onGet")] {
        let line = format!(
            "SDK worker my-app (node, 127.0.0.1): its trigger of type {part} for function {function} waits until \
             a worker serves that type; the {part} worker is not part of this server: run it beside an engine (--engine) \
             (trigger trigger-{function})"
        );
        assert_eq!(said(&line), 1, "{line} in {log:?}");
    }
}

/// The subscriber stands without a `sync`, and is told of nothing.
#[test]
fn a_list_that_fails_for_who_joins_is_told() {
    let process = start("list-fails");
    let mut store = process.sdk();
    store.register("stream::list(chat)");
    let mut subscriber = process.subscriber();
    subscriber.start_join("s", ("chat", "room"), None);
    let asked = store.next_call();
    store.answer(
        &asked,
        json!({"error": {"code": "oops", "message": "thrown"}}),
    );
    process.line_with("WARN function stream::list(chat) failed: oops: thrown");
    subscriber.start_join("s", ("chat", "room"), None);
    store.next_call();
    drop(store);
    process.line_with("WARN function stream::list(chat) failed: ");
}

#[test]
fn whom_a_function_or_an_origin_keeps_out_is_told_with_its_cause() {
    let keys = "auth_function: letIn";
    let server = "threads: 1, drain_ms: 500, auth_timeout_ms: 300, allowed_origins: ['https://a.example', '*.b.example']";
    let process = start_as("kept-out", server, keys, |directory| directory.command(&[]));
    let ask = |more: &str| {
        let mut stream = raw::connect(process.stream);
        let request = raw::upgrade_request("/?token=secret", more);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    raw::read_head(&mut ask("origin: https://evil.example\r\n"));
    raw::read_head(&mut ask(""));
    let mut sdk = sdk(&process);
    sdk.send(Message::text(
        json!({"type": "registerfunction", "id": "letIn"}).to_string(),
    ))
    .unwrap();
    // Another thread asks for the function: it is there once what was said behind it is answered.
    sdk.send(Message::text(json!({"type": "ping"}).to_string()))
        .unwrap();
    assert!(sdk.read().unwrap().to_text().unwrap().contains("pong"));
    for word in [
        json!({"result": {"unauthorized": true}}),
        json!({"result": 5}),
        json!({"error": {"code": "oops", "message": "token table is down"}}),
        json!(null),
    ] {
        let mut stream = ask("authorization: Bearer secret\r\n");
        let call: serde_json::Value =
            serde_json::from_str(sdk.read().unwrap().to_text().unwrap()).unwrap();
        if let serde_json::Value::Object(mut word) = word {
            word.insert("type".to_owned(), json!("invocationresult"));
            word.insert("invocation_id".to_owned(), call["invocation_id"].clone());
            word.insert("function_id".to_owned(), json!("letIn"));
            sdk.send(Message::text(serde_json::Value::Object(word).to_string()))
                .unwrap();
        }
        assert!(!raw::read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    }
    hears_of(
        &process,
        &[
            "its page is of https://evil.example, server.allowed_origins has https://a.example, *.b.example",
            "is refused by letIn: nobody has registered it",
            "is refused by letIn: it says no",
            "is refused by letIn: it answers neither an object nor null",
            "is refused by letIn: it throws: oops: token table is down",
            "is refused by letIn: it has not answered within server.auth_timeout_ms",
        ],
    );
    let log = process.log.borrow().join("\n");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn who_asks_for_it_sees_who_comes_and_goes() {
    let process = start_as("debug", "threads: 1, drain_ms: 500", "", |directory| {
        let mut command = directory.command(&[]);
        command.env("RUST_LOG", "debug");
        command
    });
    let mut sdk = sdk(&process);
    for message in [
        json!({"type": "registerfunction", "id": "onSet"}),
        json!({"type": "registertrigger", "id": "t", "trigger_type": "stream", "function_id": "onSet", "config": {"stream_name": "s"}}),
        json!({"type": "registertriggertype", "id": "mine", "description": ""}),
    ] {
        sdk.send(Message::text(message.to_string())).unwrap();
    }
    let path = "/stream/chat/room%201/?token=secret";
    let mut subscriber = open(raw::connect(process.stream), process.stream, path);
    subscriber.read().unwrap();
    subscriber
        .send(Message::text(join("mine", ("s", "g"), Some("i"))))
        .unwrap();
    subscriber.read().unwrap();
    let leave = json!({"type": "leave", "data": {"subscriptionId": "mine", "streamName": "s", "groupId": "g"}});
    subscriber.send(Message::text(leave.to_string())).unwrap();
    assert!(
        ask(
            process.stream,
            &raw::upgrade_request("/nowhere?token=secret", "")
        )
        .starts_with("HTTP/1.1 404 ")
    );
    drop(subscriber);
    hears_of(
        &process,
        &[
            " connects to the worker port",
            " asks for / and is upgraded",
            " is let in",
            " registers function onSet",
            " registers trigger t of type stream for onSet",
            " serves trigger type mine",
            " connects",
            " asks for /stream/chat/room%201/ and is let in",
            " joins chat > room 1",
            " joins s > g > i",
            " has joined as mine",
            " leaves s > g",
            " asks for /nowhere and is answered 404",
            " is gone",
        ],
    );
    let log = process.log.borrow().join("\n");
    assert!(!log.contains("secret"), "{log}");
}
