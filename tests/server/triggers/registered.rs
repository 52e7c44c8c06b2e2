//! Triggers as they are registered, taken over and ended.

use super::*;

#[test]
fn registrations_that_are_wrong_are_refused_and_others_say_nothing() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    let shape = "Failed to deserialize stream trigger";
    let of_stream = [
        (json!([]), shape),
        (json!(["chat", null, null, null]), shape),
        (json!("chat"), shape),
        (json!({"stream_name": 1}), shape),
        (json!({"stream_name": "chat", "group_id": 1}), shape),
        (json!({"stream_name": "chat", "item_id": {}}), shape),
        (
            json!({"stream_name": "chat", "condition_function_id": true}),
            shape,
        ),
        (json!(null), shape),
        (json!({}), "stream trigger needs `stream_name`"),
        (
            json!({"stream_name": null}),
            "stream trigger needs `stream_name`",
        ),
    ];
    for (config, message) in of_stream {
        sdk.trigger("t", "stream", "f", config);
        let refused = ["t", "trigger_registration_failed", message];
        assert_eq!(texts(&sdk.refusal()), refused);
    }
    for trigger_type in ["stream:join", "stream:leave"] {
        for field in ["stream_name", "condition_function_id"] {
            sdk.trigger("t", trigger_type, "f", json!({field: 1}));
            let message =
                format!("Failed to deserialize {trigger_type} trigger: `{field}` must be a string");
            assert_eq!(
                texts(&sdk.refusal()),
                ["t", "trigger_registration_failed", &message]
            );
        }
        for config in [json!(null), json!([1]), json!("x"), json!({"other": 1})] {
            sdk.trigger("t", trigger_type, "f", config);
        }
    }
    // Without `config` it is as with null: in order for a join, wrong for a stream.
    for (id, trigger_type) in [("a", "stream:join"), ("b", "stream")] {
        sdk.send(
            &json!({"type": "registertrigger", "id": id, "trigger_type": trigger_type,
            "function_id": "f"}),
        );
    }
    assert_eq!(texts(&sdk.refusal())[0], "b");
    sdk.trigger("c", "stream", "f", json!({"stream_name": "chat"}));
    // The worker of all these is served as before, and was told of nothing else.
    sdk.hears_nothing_more();
}

#[test]
fn the_newest_registration_of_an_id_has_it() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let watching = |stream: &str| json!({"stream_name": stream});
        sdk.trigger("t", "stream", "f", watching("chat"));
        sdk.trigger("t", "stream", "f", watching("chat"));
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(functions(&mut sdk, ROOM), ["f"], "once");
        sdk.trigger("t", "stream", "g", watching("other"));
        sdk.set(ROOM, "a", json!(2));
        assert!(functions(&mut sdk, ROOM).is_empty(), "only the new stream");
        sdk.set(("other", "room"), "a", json!(2));
        assert_eq!(functions(&mut sdk, ("other", "room")), ["g"]);

        // Of another type: one id is one trigger.
        sdk.trigger("t", "stream:join", "f", json!({}));
        sdk.set(("other", "room"), "a", json!(3));
        assert!(functions(&mut sdk, ("other", "room")).is_empty());
        sdk.trigger("t", "stream:join", "g", json!({}));
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        assert_eq!(asked["function_id"], "g", "the new function alone");
        sdk.answer(&asked, json!({}));
        client.sync();

        // Another worker's from here on: the end of the older takes nothing away.
        let mut newer = with_functions(&server);
        newer.trigger("t", "stream", "f", watching("chat"));
        drop(sdk);
        newer.call("stream::list_all", json!({}));
        newer.set(ROOM, "a", json!(4));
        assert_eq!(functions(&mut newer, ROOM), ["f"]);
    });
}

#[test]
fn an_id_is_enough_to_unregister_and_unknown_ones_do_nothing() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    for more in [
        json!({}),
        json!({"trigger_type": null}),
        json!({"trigger_type": "log"}),
    ] {
        sdk.trigger("t", "stream", "f", json!({"stream_name": "chat"}));
        let mut message = json!({"type": "unregistertrigger", "id": "t"});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        sdk.send(&message);
        sdk.send(&json!({"type": "unregistertrigger", "id": "unknown"}));
        sdk.set(ROOM, "a", json!(1));
        assert!(functions(&mut sdk, ROOM).is_empty(), "{message}");
    }
}

#[test]
fn a_late_word_of_an_older_socket_does_not_end_what_a_newer_one_has_taken_over() {
    let server = TestServer::start(ONE_WORKER);
    let mut older = with_functions(&server);
    let mut newer = with_functions(&server);
    let watching = json!({"stream_name": "chat"});
    older.trigger("t", "stream", "f", watching.clone());
    newer.trigger("t", "stream", "f", watching.clone());
    older.send(&json!({"type": "unregistertrigger", "id": "t"}));
    older.settle();
    newer.set(ROOM, "a", json!(1));
    assert_eq!(functions(&mut newer, ROOM), ["f"]);
    // Whoever has never had it may end it, and the older one what it has taken back.
    let mut third = SdkWorker::connect(&server);
    third.send(&json!({"type": "unregistertrigger", "id": "t"}));
    third.settle();
    newer.set(ROOM, "a", json!(2));
    assert!(functions(&mut newer, ROOM).is_empty());
    newer.trigger("t", "stream", "f", watching.clone());
    older.trigger("t", "stream", "f", watching);
    older.send(&json!({"type": "unregistertrigger", "id": "t"}));
    older.settle();
    newer.set(ROOM, "a", json!(3));
    assert!(functions(&mut newer, ROOM).is_empty());
}

#[test]
fn a_trigger_goes_with_who_registered_it_and_not_with_its_function() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        let mut owner = SdkWorker::connect(&server);
        let mut callee = SdkWorker::connect(&server);
        owner.trigger("o", "stream", "f", json!({"stream_name": "chat"}));
        owner.trigger("j", "stream:join", "f", json!({}));
        sdk.trigger("t", "stream", "late", json!({"stream_name": "chat"}));
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(functions(&mut sdk, ROOM), ["f"], "`late` is not there yet");
        callee.register("late");
        sdk.set(ROOM, "a", json!(2));
        assert_eq!(callee.next_call()["data"]["event"]["data"], 2);
        assert_eq!(functions(&mut sdk, ROOM), ["f"]);
        // The end of the callee leaves the trigger; the end of the owner takes all that it owns.
        drop(callee);
        wait_until("the function is gone", || {
            let list = sdk.call("engine::functions::list", json!({}));
            !list["result"].to_string().contains("\"late\"")
        });
        sdk.set(ROOM, "a", json!(3));
        assert_eq!(functions(&mut sdk, ROOM), ["f"]);
        let mut callee = SdkWorker::connect(&server);
        callee.register("late");
        sdk.set(ROOM, "a", json!(4));
        assert_eq!(callee.next_call()["data"]["event"]["data"], 4);
        let _ = functions(&mut sdk, ROOM);
        drop(owner);
        wait_until("the triggers are gone", || {
            sdk.set(ROOM, "a", json!(5));
            functions(&mut sdk, ROOM).is_empty()
        });
        Subscriber::connect(&server).join("s", ROOM); // nobody is asked
    });
}
