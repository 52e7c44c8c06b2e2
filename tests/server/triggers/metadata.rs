//! Metadata of triggers and functions: with which calls it goes, and how much of it.

use super::*;

#[test]
fn metadata_goes_with_each_call_of_a_trigger_and_with_direct_calls_and_not_to_conditions() {
    on_each_shape(|shape| {
        let server = TestServer::start(shape);
        let mut sdk = with_functions(&server);
        sdk.register("is-wanted");
        let metadata = r#"{"tenant" : "acme","n":1.10}"#;
        let types = [("j", "stream:join"), ("l", "stream:leave"), ("t", "stream")];
        for (id, trigger_type) in types {
            sdk.send_text(&format!(
                r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{trigger_type}","function_id":"f","config":{{"stream_name":"chat","condition_function_id":"is-wanted"}},"metadata":{metadata}}}"#
            ));
        }
        sdk.settle();
        let heard = |sdk: &mut SdkWorker| {
            let asked = sdk.next_call();
            assert_eq!(asked["function_id"], "is-wanted");
            assert!(asked.get("metadata").is_none(), "{asked}");
            sdk.answer(&asked, json!({"result": true}));
            let call = sdk.next_call_of("f");
            sdk.answer(&call, json!({"result": null}));
            call["metadata"].clone()
        };
        let wanted = json!({"tenant": "acme", "n": 1.10});
        let mut subscriber = Subscriber::connect(&server);
        subscriber.start_join("s", ROOM, None);
        assert_eq!(heard(&mut sdk), wanted);
        assert_eq!(subscriber.next().kind, "sync");
        sdk.set(ROOM, "a", json!(1));
        assert_eq!(heard(&mut sdk), wanted);
        subscriber.close();
        assert_eq!(heard(&mut sdk), wanted);

        let mut caller = SdkWorker::connect(&server);
        for (metadata, wanted) in [("[1,{}]", Some(json!([1, {}]))), ("null", None)] {
            caller.send_text(&format!(
                r#"{{"type":"invokefunction","function_id":"g","data":1,"metadata":{metadata}}}"#
            ));
            assert_eq!(sdk.next_call_of("g").get("metadata").cloned(), wanted);
        }
        caller.send_text(
            r#"{"type":"invokefunction","invocation_id":"00000001-0000-4000-8000-000000000000","function_id":"g","data":1,"metadata":"\ud83d"}"#,
        );
        let refused = caller.result("00000001-0000-4000-8000-000000000000");
        assert_eq!(refused["error"]["code"], "invocation_error", "{refused}");
    });
}

#[test]
fn metadata_that_every_small_event_would_send_on_has_a_bound() {
    let server = TestServer::start(ONE_WORKER);
    let mut sdk = with_functions(&server);
    let mut register = |bytes: usize| {
        sdk.send(
            &json!({"type": "registertrigger", "id": "t", "trigger_type": "stream",
            "function_id": "f", "config": {"stream_name": "chat"}, "metadata": "x".repeat(bytes)}),
        );
    };
    register(64 * 1024 - 2);
    register(64 * 1024 - 1);
    let (id, code, message) = sdk.refusal();
    assert_eq!((&*id, &*code), ("t", "trigger_registration_failed"));
    assert!(message.contains("65537 > 65536 bytes"), "{message}");
}
