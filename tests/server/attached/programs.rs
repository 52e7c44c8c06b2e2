//! A whole engine, and programs connected to it, in front of an attached server.

use super::*;

#[test]
fn programs_of_an_engine_use_the_attached_server_s_streams() {
    on_each_shape(|shape| {
        let engine = TestServer::start(shape);
        let server = attached_to(&engine);
        let mut sdk = SdkWorker::connect(&engine);
        let mut subscriber = Subscriber::connect(&server);
        wait_for_link(&mut sdk, &mut subscriber);
        subscriber.join("s", ROOM);
        sdk.register("on-chat");
        sdk.send(&trigger(
            "t",
            "stream",
            "on-chat",
            json!({"stream_name": "chat"}),
        ));
        sdk.settle();
        // The engine hands the trigger over before the call that comes after it.
        assert_eq!(
            sdk.set(ROOM, "i", json!({"z": 1, "a": 2})),
            json!({"old_value": null, "new_value": {"z": 1, "a": 2}})
        );
        let heard = subscriber.next();
        assert_eq!(
            heard.told(),
            ("create", Some("i"), &json!({"z": 1, "a": 2}))
        );
        let call = sdk.next_call();
        assert_eq!(call["function_id"], "on-chat");
        assert_eq!(call["data"]["event"]["type"], "create");
        assert!(
            call["data"]["_caller_worker_id"].is_string(),
            "the engine adds it"
        );
        sdk.answer(&call, json!({}));
        let many: Vec<String> = (0..200)
            .map(|n| sdk.start("stream::set", set_input(ROOM, &format!("i{n}"), json!(n))))
            .collect();
        for id in &many {
            assert!(sdk.result(id).get("error").is_none());
        }
        let heard = subscriber.take(200);
        assert!(
            heard
                .iter()
                .enumerate()
                .all(|(n, (_, _, data))| *data == json!(n))
        );
        assert_eq!(sdk.get(ROOM, "i199"), Some(json!(199)));
        assert_eq!(sdk.list(ROOM).as_array().unwrap().len(), 201);
    });
}

#[test]
fn join_and_leave_functions_of_an_engine_s_programs_are_called() {
    let (_engine, _server, mut sdk, mut subscriber) = linked();
    for (id, kind) in [("gate", "stream:join"), ("bye", "stream:leave")] {
        sdk.register(id);
        sdk.send(&trigger(id, kind, id, json!({"stream_name": "chat"})));
    }
    sdk.settle();
    sdk.set(("other", "g"), "i", json!(1)); // behind the triggers on the link
    subscriber.start_join("s", ROOM, None);
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "gate");
    sdk.answer(&call, json!({"result": {"unauthorized": false}}));
    subscriber.sync();
    subscriber.close();
    let call = sdk.next_call();
    assert_eq!(
        (&call["function_id"], &call["data"]["subscription_id"]),
        (&json!("bye"), &json!("s"))
    );
}

#[test]
fn a_custom_store_of_an_engine_s_program_is_asked_once_the_engine_has_told_of_it() {
    let (engine, _server, mut sdk, _subscriber) = linked();
    sdk.register("stream::get(chat)");
    let mut caller = SdkWorker::connect(&engine);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let call = sdk.next_call();
            assert_eq!(call["function_id"], "stream::get(chat)");
            sdk.answer(&call, json!({"result": "theirs"}));
        });
        wait_until("the custom store is asked", || {
            caller.get(ROOM, "i") == Some(json!("theirs"))
        });
    });
}

#[test]
fn the_engine_lists_our_functions_as_it_lists_its_own() {
    let engine = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&engine);
    let list = |sdk: &mut SdkWorker| -> Vec<Value> {
        let result = sdk.call("engine::functions::list", json!({}));
        let functions = result["result"]["functions"].as_array().unwrap();
        let of_streams = |entry: &&Value| {
            entry["function_id"]
                .as_str()
                .unwrap()
                .starts_with("stream::")
        };
        functions.iter().filter(of_streams).cloned().collect()
    };
    let before = list(&mut sdk);
    let server = attached_to(&engine);
    let mut subscriber = Subscriber::connect(&server);
    wait_for_link(&mut sdk, &mut subscriber);
    assert_eq!(list(&mut sdk), before);
}

#[test]
fn subscribers_stay_when_the_engine_is_started_again() {
    let engine = TestServer::start(ONE_WORKER);
    let port = engine.worker().port();
    let server = attached_to(&engine);
    let mut sdk = SdkWorker::connect(&engine);
    let mut subscriber = Subscriber::connect(&server);
    wait_for_link(&mut sdk, &mut subscriber);
    subscriber.join("s", ROOM);
    sdk.set(ROOM, "i", json!(1));
    subscriber.next();
    drop(sdk);
    drop(engine);
    // State and `sync` are ours.
    assert_eq!(subscriber.join("t", ROOM).data, json!([1]));
    subscriber.leave("t");
    let engine = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners = vec![Endpoint::new("127.0.0.1", port).into()];
    });
    let mut sdk = SdkWorker::connect(&engine);
    sdk.register("on-chat");
    sdk.send(&trigger(
        "t",
        "stream",
        "on-chat",
        json!({"stream_name": "chat"}),
    ));
    let mut probe = Subscriber::connect(&server);
    wait_until("the server is attached again", || {
        sdk.get(ROOM, "i") == Some(json!(1))
    });
    sdk.set(ROOM, "i", json!(2));
    assert_eq!(subscriber.next().told(), ("update", Some("i"), &json!(2)));
    let call = sdk.next_call();
    assert_eq!(call["data"]["event"], json!({"type": "update", "data": 2}));
    assert_eq!(probe.join("s", ROOM).data, json!([2]));
}

#[test]
fn a_server_starts_before_its_engine_does() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = attached(&format!("ws://localhost:{port}"), |_| {});
    let mut subscriber = Subscriber::connect(&server);
    // Nothing is known of gates yet.
    subscriber.start_join("s", ROOM, None);
    let engine = TestServer::with(ONE_WORKER, |config| {
        config.worker_listeners = vec![Endpoint::new("127.0.0.1", port).into()];
    });
    let mut sdk = SdkWorker::connect(&engine);
    assert_eq!(subscriber.sync().data, json!([]));
    wait_for_link(&mut sdk, &mut subscriber);
    sdk.set(ROOM, "i", json!(1));
    assert_eq!(subscriber.next().told(), ("create", Some("i"), &json!(1)));
}
