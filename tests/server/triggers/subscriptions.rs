//! Triggers of joins and leaves: who is asked, who decides, and what each is told.

use super::*;

#[test]
fn a_leave_is_not_lost_when_more_conditions_wait_than_calls_may_be_in_flight() {
    const LEAVES: usize = 100;
    let server = TestServer::with(ONE_WORKER, |config| config.limits.calls_in_flight = 4);
    let mut sdk = with_functions(&server);
    sdk.register("may");
    let config = json!({"condition_function_id": "may"});
    sdk.trigger("l", "stream:leave", "f", config);
    let mut client = Subscriber::connect(&server);
    for n in 0..LEAVES {
        client.leave(&format!("s{n}"));
    }
    for left in 0..LEAVES {
        let asked = sdk.next_call_of("may");
        sdk.answer(&asked, json!({"result": true}));
        let call = sdk.next_call_of("f");
        assert_eq!(call["data"]["subscription_id"], *format!("s{left}"));
    }
}

#[test]
fn joins_and_leaves_are_told_of_the_streams_that_are_watched() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("e", "stream:leave", "g", json!({"stream_name": ""}));
        let mut client = Subscriber::connect(&server);
        client.join("other", ("other", "room")); // nobody is asked
        client.start_join("s", ROOM, Some("i"));
        let asked = sdk.next_call();
        assert_eq!(asked["function_id"], "f");
        assert_eq!(
            asked["data"],
            json!({"context": null, "group_id": "room", "id": "i", "stream_name": "chat",
                "subscription_id": "s"})
        );
        sdk.answer(&asked, json!({"result": null}));
        client.sync();
        client.leave("unknown");
        let told = sdk.next_call();
        assert_eq!(told["function_id"], "g");
        assert_eq!(
            told["data"],
            json!({"context": null, "group_id": "any", "id": null, "stream_name": "any",
                "subscription_id": "unknown"}),
            "the message's names"
        );
        // A socket without subscriptions, and one that goes.
        Subscriber::connect(&server).close();
        sdk.send(&json!({"type": "unregistertrigger", "id": "e"}));
        sdk.trigger("l", "stream:leave", "h", json!({"stream_name": "chat"}));
        drop(client);
        let told = sdk.next_call();
        assert_eq!(told["function_id"], "h");
        assert_eq!(told["data"]["subscription_id"], "s", "and not `other`");
    });
}

#[test]
fn a_join_is_decided_when_all_functions_have_answered() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({}));
        let mut client = Subscriber::connect(&server);
        let refuses = json!({"unauthorized": true, "other": 1});
        let admits = [
            json!({"unauthorized": false}),
            json!({"unauthorized": "true"}),
            json!({"unauthorized": 1}),
            json!({"any": 1}),
            json!(true),
            json!([true]),
            json!([{"unauthorized": true}]),
            json!("no"),
            json!(null),
        ];
        for answer in admits {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call();
            sdk.answer(&asked, json!({"result": answer}));
            client.sync();
        }
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        sdk.answer(&asked, json!({"error": {"code": "x", "message": "boom"}}));
        client.sync(); // many only log
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call();
        sdk.answer(&asked, json!({"result": refuses}));
        let told = client.next();
        assert_eq!((&*told.kind, &*told.group), ("unauthorized", "room"));

        // All are asked at once, also after one has refused.
        sdk.trigger("k", "stream:join", "g", json!({}));
        client.start_join("t", ROOM, None);
        let (first, second) = (sdk.next_call_of("f"), sdk.next_call_of("g"));
        sdk.answer(&second, json!({"result": {"unauthorized": true}}));
        sdk.answer(&first, json!({"result": {}}));
        assert_eq!(client.next().kind, "unauthorized");
        // Silence refuses when its time is over; other ids, and pings, do not wait for it.
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        let began = Instant::now();
        client.start_join("u", ROOM, None);
        let silent = sdk.next_call_of("f");
        client.start_join("v", ROOM, Some("i"));
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({}));
        assert_eq!(client.sync().id.as_deref(), Some("i"));
        assert_eq!(client.next().kind, "unauthorized");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "told when the next thing happened to come"
        );
        sdk.answer(&silent, json!({}));
        // A function that is missing, or goes while it is asked, admits.
        let mut other = SdkWorker::connect(&server);
        other.register("f");
        client.start_join("w", ROOM, None);
        other.next_call();
        drop(other);
        client.sync();
        // The one before it serves again, and then nobody.
        client.start_join("x", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        assert_eq!(client.next().kind, "unauthorized");
        sdk.send(&json!({"type": "unregisterfunction", "id": "f"}));
        sdk.settle();
        client.start_join("y", ROOM, None);
        client.sync();
    });
}

#[test]
fn only_false_of_a_condition_takes_a_join_function_s_say_away() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.register("ask");
        let config = json!({"condition_function_id": "ask"});
        sdk.trigger("j", "stream:join", "f", config);
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("ask");
        assert_eq!(asked["data"]["subscription_id"], "s");
        sdk.answer(&asked, json!({"result": false}));
        client.sync(); // the function that refuses everything had no say
        let doubts = [
            Some(json!({"result": true})),
            Some(json!({"error": {"code": "x", "message": "boom"}})),
            None, // its time is over
        ];
        for doubt in doubts {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("ask");
            if let Some(fields) = &doubt {
                sdk.answer(&asked, fields.clone());
            }
            let handled = sdk.next_call_of("f");
            assert_eq!(handled["data"], asked["data"]);
            sdk.answer(&handled, json!({"result": {"unauthorized": true}}));
            assert_eq!(client.next().kind, "unauthorized", "{doubt:?}");
        }
        sdk.send(&json!({"type": "unregisterfunction", "id": "ask"}));
        sdk.settle();
        client.start_join("s", ROOM, None);
        let handled = sdk.next_call_of("f");
        sdk.answer(&handled, json!({"result": {"unauthorized": true}}));
        assert_eq!(client.next().kind, "unauthorized", "missing");
    });
}

#[test]
fn a_leave_function_is_called_unless_its_condition_says_no_or_fails() {
    on_each_shape(|shape| {
        let server = quick_calls(shape);
        let mut sdk = with_functions(&server);
        sdk.register("ask");
        let config = json!({"condition_function_id": "ask"});
        sdk.trigger("l", "stream:leave", "f", config);
        let mut client = Subscriber::connect(&server);
        let rows = [
            ("yes", Some(json!({"result": 0}))),
            ("no", Some(json!({"result": false}))),
            (
                "error",
                Some(json!({"error": {"code": "x", "message": "boom"}})),
            ),
            ("silent", None),
            ("nothing", Some(json!({}))),
        ];
        for (id, fields) in rows {
            client.leave(id);
            let asked = sdk.next_call_of("ask");
            assert_eq!(asked["data"]["subscription_id"], id);
            if let Some(fields) = fields {
                sdk.answer(&asked, fields);
            }
        }
        for id in ["yes", "nothing"] {
            assert_eq!(sdk.next_call_of("f")["data"]["subscription_id"], id);
        }
    });
}

#[test]
fn leaves_of_a_socket_are_told_in_the_order_of_joining_and_only_of_what_it_held() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("l", "stream:leave", "g", json!({}));
        let mut client = Subscriber::connect(&server);
        for n in 0..30 {
            let group = format!("room@{}", n % 3);
            client.join(&format!("s{n}"), ("chat", &group));
        }
        client.join("s3", ("chat", "elsewhere")); // replaced: no leave, and joined last
        sdk.trigger("j", "stream:join", "f", json!({}));
        client.start_join("refused", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        client.next();
        client.reset();
        let mut expected: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
        expected.retain(|id| id != "s3");
        expected.push("s3".to_owned());
        for id in &expected {
            let told = sdk.next_call_of("g");
            assert_eq!(told["data"]["subscription_id"], **id);
        }
        // Nothing else: the leave of this one is the next.
        client = Subscriber::connect(&server);
        client.leave("marker");
        assert_eq!(sdk.next_call_of("g")["data"]["subscription_id"], "marker");
    });
}

#[test]
fn the_join_that_a_path_implies_is_put_to_functions_as_any_other() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("l", "stream:leave", "g", json!({}));
        let mut client = Subscriber::at(&server, "/stream/chat/room/i%201");
        let asked = sdk.next_call_of("f");
        let id = asked["data"]["subscription_id"].clone();
        assert_eq!(
            asked["data"],
            json!({"context": null, "group_id": "room", "id": "i 1", "stream_name": "chat",
                "subscription_id": id})
        );
        sdk.answer(&asked, json!({}));
        assert_eq!(client.sync().id.as_deref(), Some("i 1"));
        drop(client);
        assert_eq!(sdk.next_call_of("g")["data"]["subscription_id"], id);
        let mut refused = Subscriber::at(&server, "/stream/chat/room");
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": {"unauthorized": true}}));
        assert_eq!(refused.next().kind, "unauthorized");
        refused.join("s", ("other", "room")); // the socket stays open
    });
}

#[test]
fn a_join_whose_function_fails_is_admitted_or_refused_as_the_settings_say() {
    for (failure, kind) in [
        (AuthFailure::Allow, "sync"),
        (AuthFailure::Refuse, "unauthorized"),
    ] {
        let server = TestServer::with(THREE_WORKERS, |config| config.join_failure = failure);
        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        let mut client = Subscriber::connect(&server);
        let mut joined = |sdk: &mut SdkWorker, answer: Value| {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("f");
            sdk.answer(&asked, answer);
            client.next().kind
        };
        let error = json!({"error": {"code": "x", "message": "boom"}});
        assert_eq!(joined(&mut sdk, error), kind);
        assert_eq!(joined(&mut sdk, json!({"result": null})), "sync");
        // A second function that is not there.
        sdk.trigger("k", "stream:join", "nobody", json!({}));
        sdk.settle();
        assert_eq!(joined(&mut sdk, json!({"result": null})), kind);
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        // Its worker goes while it is asked; without any function nobody is refused.
        sdk.settle();
        client.start_join("s", ROOM, None);
        sdk.next_call_of("f");
        drop(sdk);
        assert_eq!(client.next().kind, kind);
        client.join("s", ROOM);
    }
}

#[test]
fn a_required_join_needs_a_function_that_was_asked_and_has_answered() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.join_required = vec!["chat".to_owned()];
            config.call_timeout_ms = 500;
        });
        let mut client = Subscriber::connect(&server);
        client.start_join("s", ROOM, None);
        assert_eq!(client.next().kind, "unauthorized", "nobody has come yet");
        client.join("s", ("other", "g"));

        let mut sdk = with_functions(&server);
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        for (answer, kind) in [
            (json!({"result": null}), "sync"),
            (json!({"result": {"unauthorized": true}}), "unauthorized"),
            (
                json!({"error": {"code": "x", "message": "boom"}}),
                "unauthorized",
            ),
        ] {
            client.start_join("s", ROOM, None);
            let asked = sdk.next_call_of("f");
            sdk.answer(&asked, answer.clone());
            assert_eq!(client.next().kind, kind, "{answer}");
        }
        // A condition that keeps the only function from being asked lets nobody in.
        sdk.register("ask");
        let config = json!({"stream_name": "chat", "condition_function_id": "ask"});
        sdk.trigger("j", "stream:join", "f", config);
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("ask");
        sdk.answer(&asked, json!({"result": false}));
        assert_eq!(client.next().kind, "unauthorized");
        // A second function that is not there is a gate that is away.
        sdk.trigger("j", "stream:join", "f", json!({"stream_name": "chat"}));
        sdk.trigger("k", "stream:join", "nobody", json!({}));
        client.start_join("s", ROOM, None);
        let asked = sdk.next_call_of("f");
        sdk.answer(&asked, json!({"result": null}));
        assert_eq!(client.next().kind, "unauthorized");
        sdk.send(&json!({"type": "unregistertrigger", "id": "k"}));
        // Its worker goes while it is asked, and stays away.
        sdk.settle();
        client.start_join("s", ROOM, None);
        sdk.next_call_of("f");
        drop(sdk);
        assert_eq!(client.next().kind, "unauthorized");
        client.start_join("s", ROOM, None);
        assert_eq!(client.next().kind, "unauthorized");
    });
}
