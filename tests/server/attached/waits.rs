//! What waits while the link to an engine is down: joins, leaves, calls, upgrades; for how long, and how much of it.

use super::*;

#[test]
fn a_join_asked_while_the_link_is_down_waits_for_it_and_its_triggers() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let gate = trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}));
    engine.attach(std::slice::from_ref(&gate), &[]).end();
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    subscriber.join("other", ("free", "g"));
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    link.answer_list(&list, &[]);
    let list = link.types();
    link.send(&gate);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    link.answer_list(&list, &[]);
    let call = link.next_call("gate");
    assert_eq!(call["data"]["subscription_id"], "s");
    link.answer(&call, json!({"result": {"unauthorized": true}}));
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn a_join_that_has_waited_long_enough_is_admitted_as_when_its_function_fails() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.call_timeout_ms = 200);
    let gate = trigger("j", "stream:join", "gate", json!({}));
    engine.attach(&[gate], &[]).end();
    let mut subscriber = Subscriber::connect(&server);
    let since = Instant::now();
    subscriber.join("s", ROOM);
    assert!(since.elapsed().as_millis() >= 200);
}

#[test]
fn a_required_join_that_has_waited_long_enough_for_its_engine_is_refused() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.call_timeout_ms = 200;
        config.join_required = vec![ROOM.0.to_owned()];
    });
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    assert_eq!(
        subscriber.next().kind,
        "unauthorized",
        "the engine is silent"
    );
    engine.attach(&[], &[]).end();
    subscriber.start_join("s", ROOM, None);
    assert_eq!(subscriber.next().kind, "unauthorized", "the engine is gone");
    subscriber.join("s", ("free", "g"));
}

#[test]
fn leaves_are_owed_until_the_link_is_back_and_their_trigger_known() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let bye = trigger("l", "stream:leave", "bye", json!({}));
    let link = engine.attach(std::slice::from_ref(&bye), &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    link.end();
    subscriber.leave("s");
    // It is answered by a join behind it: the leave has been served.
    subscriber.join("t", ("other", "g"));
    subscriber.close();
    let mut link = engine.attach(&[], &[]);
    // Its functions are listed, but no worker has registered the trigger again yet.
    link.send(&bye);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    for subscription in ["s", "t"] {
        let call = link.next_call("bye");
        assert_eq!(call["data"]["subscription_id"], subscription);
        link.answer(&call, json!({}));
    }
}

#[test]
fn leaves_wait_no_longer_than_a_call_once_the_link_is_back() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.call_timeout_ms = 200);
    let bye = trigger("l", "stream:leave", "bye", json!({}));
    let link = engine.attach(&[bye], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    link.end();
    subscriber.close();
    let mut link = engine.attach(&[], &[]);
    wait_until("nothing is owed any more", || {
        server.shared().owed.load(Ordering::Relaxed) == 0
    });
    link.settle();
}

#[test]
fn calls_of_custom_functions_wait_for_the_link_and_those_under_way_end() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let functions = ["stream::list(chat)"];
    let mut link = engine.attach(&[], &functions);
    let mut first = Subscriber::connect(&server);
    first.start_join("s", ROOM, None);
    link.next_call("stream::list(chat)");
    link.end();
    // What was under way has failed: no `sync`, but the subscription stands. The next one waits.
    let mut second = Subscriber::connect(&server);
    second.start_join("s", ROOM, None);
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    let call = link.next_call("stream::list(chat)");
    link.answer(&call, json!({"result": [1]}));
    link.answer_list(&list, &functions);
    let list = link.types();
    link.answer_list(&list, &functions);
    assert_eq!(second.sync().data, json!([1]));
    link.start(
        "stream::send",
        json!({"stream_name": "chat", "group_id": "room", "type": "x", "data": 1}),
    );
    assert_eq!(link.next()["function_id"], "stream::send");
    for subscriber in [&mut first, &mut second] {
        assert_eq!(subscriber.next().kind, "event");
    }
}

#[test]
fn a_socket_that_needs_the_auth_function_is_refused_while_nobody_can_be_asked() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.auth.function = Some("login".to_owned());
    });
    let status = || {
        let mut stream = raw::connect(server.stream());
        let request = raw::upgrade_request("/", "");
        stream.write_all(request.as_bytes()).unwrap();
        let head = raw::read_head(&mut stream);
        head[9..12].parse::<u16>().unwrap()
    };
    assert_eq!(status(), 503, "the engine was never there");
    let mut link = engine.attach(&[], &[]);
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        let call = link.next_call("login");
        let gone = json!({"code": "function_not_found", "message": "Function login not found"});
        link.answer(&call, json!({"error": gone}));
        asked.join().unwrap()
    });
    assert_eq!(asked, 503, "nobody has the function");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        let call = link.next_call("login");
        link.answer(&call, json!({"error": {"code": "no", "message": "no"}}));
        asked.join().unwrap()
    });
    assert_eq!(asked, 401, "it was asked, and failed");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(status);
        link.next_call("login");
        link.end();
        asked.join().unwrap()
    });
    assert_eq!(asked, 503, "the link was lost while it was asked");
    assert_eq!(status(), 503);
}

#[test]
fn calls_beyond_what_may_wait_are_refused_and_the_link_is_read_on() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| config.limits.calls_in_flight = 1);
    let mut link = engine.attach(&[], &["stream::get(chat)"]);
    link.start("stream::get", item_input(ROOM, "i"));
    let call = link.next_call("stream::get(chat)");
    let id = link.start("stream::get", item_input(ROOM, "j"));
    assert_eq!(
        link.next(),
        json!({"type": "invocationresult", "invocation_id": id, "function_id": "stream::get",
            "error": {"code": "STREAM_GET_ERROR", "message": "Failed to get value: server is overloaded"}})
    );
    assert_eq!(server.shared().engine.calls_refused.get(), 1);
    link.answer(&call, json!({"result": 5}));
    assert_eq!(link.next()["result"], 5);
}
