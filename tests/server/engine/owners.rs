//! Whose a function is: the newest socket that has it, those before it, and who takes the place of an older socket.

use super::*;

#[test]
fn calls_of_a_callee_that_leaves_are_stopped_and_its_functions_gone() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let (mut caller, mut callee) = pair(&server);
        let ids: Vec<String> = (0..3).map(|n| caller.start("f", json!(n))).collect();
        callee.next_call();
        drop(callee);
        for id in &ids {
            assert_eq!(
                error_in(&caller.result(id)),
                error("invocation_stopped", "Invocation stopped")
            );
        }
        assert_eq!(
            caller.error_of("f", json!({})),
            error("function_not_found", "Function f not found")
        );
    });
}

#[test]
fn the_newest_socket_owns_a_function_and_the_end_of_the_older_does_not_remove_it() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, older) = pair(&server);
    let mut newer = SdkWorker::connect(&server);
    newer.register("f");
    newer.register("f"); // twice on one socket is once
    drop(older);
    let mut answer = |server_says: &str| {
        let id = caller.start("f", json!({}));
        let call = newer.next_call();
        newer.answer(&call, json!({"result": server_says}));
        assert_eq!(caller.result(&id)["result"], json!(server_says));
    };
    (0..20).for_each(|_| answer("newer"));
    newer.send(&json!({"type": "unregisterfunction", "id": "f"}));
    newer.settle();
    assert_eq!(caller.error_of("f", json!({})).0, "function_not_found");
}

#[test]
fn when_the_newest_owner_of_a_function_ends_the_one_before_it_serves_again() {
    let server = TestServer::start(ONE_WORKER);
    let (mut caller, mut older) = pair(&server);
    let ask = |caller: &mut SdkWorker, callee: &mut SdkWorker, says: &str| {
        let id = caller.start("f", json!({}));
        let call = callee.next_call();
        callee.answer(&call, json!({"result": says}));
        assert_eq!(caller.result(&id)["result"], json!(says));
    };
    let mut middle = SdkWorker::connect(&server);
    middle.register("f");
    let mut newest = SdkWorker::connect(&server);
    newest.register("f");
    ask(&mut caller, &mut newest, "newest");
    newest.send(&json!({"type": "unregisterfunction", "id": "f"}));
    newest.settle();
    ask(&mut caller, &mut middle, "middle");
    newest.register("f");
    ask(&mut caller, &mut newest, "newest");
    let ids = [middle.worker_id.clone(), newest.worker_id.clone()];
    drop(middle);
    drop(newest);
    for id in ids {
        let deadline = Instant::now() + Duration::from_secs(20);
        let asked = json!({"worker_id": id});
        while caller.call("engine::workers::list", asked.clone())["result"]["workers"] != json!([])
        {
            assert!(Instant::now() < deadline);
        }
    }
    ask(&mut caller, &mut older, "older");
}

#[test]
fn a_built_in_function_that_was_taken_over_comes_back() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut caller = SdkWorker::connect(&server);
        let room = ("taken", "over");
        caller.set(room, "i", json!("ours"));
        let mut taker = SdkWorker::connect(&server);
        taker.register("stream::get");
        let id = caller.start("stream::get", json!({}));
        let call = taker.next_call();
        taker.answer(&call, json!({"result": "theirs"}));
        assert_eq!(caller.result(&id)["result"], "theirs");
        taker.send(&json!({"type": "unregisterfunction", "id": "stream::get"}));
        taker.settle();
        assert_eq!(caller.get(room, "i"), Some(json!("ours")));
        taker.register("stream::get");
        let waits = caller.start("stream::get", json!({}));
        taker.next_call();
        drop(taker);
        assert_eq!(error_in(&caller.result(&waits)).0, "invocation_stopped");
        assert_eq!(caller.get(room, "i"), Some(json!("ours")));
    });
}

/// Connects as a worker does that has lost its connection: `token` is what the older socket was given.
fn reattached(server: &TestServer, older: &SdkWorker, token: &str) -> SdkWorker {
    let mut newer = SdkWorker::connect(server);
    newer.send(
        &json!({"type": "reattach", "previous_worker_id": older.worker_id, "reattach_token": token}),
    );
    newer
}

#[test]
fn a_worker_that_has_connected_again_takes_the_place_of_its_older_socket() {
    let server = TestServer::start(ONE_WORKER);
    let mut caller = SdkWorker::connect(&server);
    let mut older = SdkWorker::connect(&server);
    older.register("f");
    older.register("g");
    let token = older.reattach_token.clone();
    assert_eq!(token.len(), 64);
    let mut newer = reattached(&server, &older, &token);
    assert_ne!(newer.reattach_token, token, "a token counts once");
    newer.register("f");
    // The older one is closed, and what it had alone is gone with it.
    match older.next_message() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1000),
        other => panic!("expected a close frame, got {other:?}"),
    }
    let id = caller.start("f", json!({}));
    let call = newer.next_call();
    newer.answer(&call, json!({"result": 5}));
    assert_eq!(caller.result(&id)["result"], 5);
    assert_eq!(caller.error_of("g", json!({})).0, "function_not_found");
}

#[test]
fn nobody_takes_the_place_of_another_without_its_token_or_later_than_first() {
    let server = TestServer::start(ONE_WORKER);
    let mut caller = SdkWorker::connect(&server);
    let mut older = SdkWorker::connect(&server);
    older.register("f");
    let token = older.reattach_token.clone();
    let others = caller.reattach_token.clone();
    let mut tries = vec![
        String::new(),
        token[1..].to_owned(),
        format!("{token}0"),
        others,
    ];
    tries.push("0".repeat(64));
    let mut workers: Vec<SdkWorker> = tries
        .iter()
        .map(|token| reattached(&server, &older, token))
        .collect();
    let mut late = SdkWorker::connect(&server);
    late.register("other");
    late.send(
        &json!({"type": "reattach", "previous_worker_id": older.worker_id, "reattach_token": token}),
    );
    workers.push(late);
    workers.iter_mut().for_each(SdkWorker::settle);
    // One that is replaced afterwards is closed: the first one would have been before it.
    let mut marker = SdkWorker::connect(&server);
    let marked = reattached(&server, &marker, &marker.reattach_token);
    assert!(matches!(marker.next_message(), Message::Close(_)));
    let id = caller.start("f", json!({}));
    let call = older.next_call();
    older.answer(&call, json!({"result": 5}));
    assert_eq!(caller.result(&id)["result"], 5);
    drop(marked);
}
