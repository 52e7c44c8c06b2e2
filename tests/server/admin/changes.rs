//! What the admin port changes: values are set and deleted as by an SDK call.

use super::*;

fn item(data: &str) -> String {
    format!(r#"{{"stream_name":"s","group_id":"g","item_id":"i"{data}}}"#)
}

#[test]
fn a_change_needs_the_ports_own_origin_or_the_token() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let set = item(r#","data":1"#);
    for headers in ["", "origin: http://evil.example\r\n", "origin: null\r\n"] {
        for path in ["/admin/set", "/admin/delete"] {
            assert_eq!(post(admin, path, headers, &set).status, 403, "{headers}");
        }
    }
    assert_eq!(sdk.get(("s", "g"), "i"), None);
    let own = format!("origin: http://{admin}\r\n");
    assert_eq!(post(admin, "/admin/set", &own, &set).status, 200);
    for path in ["/admin/set", "/admin/delete"] {
        let answer = get(admin, path);
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: POST"), "{answer:?}");
    }

    let (_guarded, admin) = start_with(Some("s3cret"));
    let own = format!("origin: http://{admin}\r\n");
    let token = "authorization: Bearer s3cret\r\n";
    assert_eq!(post(admin, "/admin/set", &own, &set).status, 401);
    assert_eq!(post(admin, "/admin/set", token, &set).status, 200);
    let elsewhere = format!("{token}origin: http://evil.example\r\n");
    assert_eq!(post(admin, "/admin/set", &elsewhere, &set).status, 403);
}

#[test]
fn a_change_goes_the_way_of_an_sdk_call() {
    let (server, admin) = start();
    let own = format!("origin: http://{admin}\r\n");
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("app::heard");
    sdk.trigger("t", "stream", "app::heard", json!({"stream_name": "s"}));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("s", "g"));
    let big = r#"{"big":12345678901234567890,"b":1,"a":2}"#;
    let answer = post(
        admin,
        "/admin/set",
        &own,
        &item(&format!(r#","data":{big}"#)),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.body,
        format!(r#"{{"result":{{"new_value":{big},"old_value":null}}}}"#)
    );
    assert!(subscriber.next_text().contains(big), "as it was written");
    let fired = sdk.next_call();
    assert_eq!(
        (&fired["function_id"], &fired["data"]["id"]),
        (&json!("app::heard"), &json!("i"))
    );
    let answer = post(admin, "/admin/delete", &own, &item(""));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(subscriber.next().kind, "delete");
    assert_eq!(sdk.get(("s", "g"), "i"), None);

    for body in ["", "{", "{}", "[]", "\"x\"", &item(",\"data\":\"\\ud800\"")] {
        let answer = post(admin, "/admin/set", &own, body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let told = answer.json();
        assert!(
            told["error"].is_string() && told["code"].is_string(),
            "{told}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = post(
        admin,
        "/admin/set",
        &own,
        &item(&format!(r#","data":{deep}"#)),
    );
    assert_eq!(answer.status, 400, "{}", answer.body);
    let long = "x".repeat(2 * 1024 * 1024);
    assert_eq!(
        post(
            admin,
            "/admin/set",
            &own,
            &item(&format!(r#","data":"{long}""#))
        )
        .status,
        413
    );
    assert_eq!(
        post(admin, "/admin/set", &own, &item(",\"data\":1")).status,
        200
    );
}
