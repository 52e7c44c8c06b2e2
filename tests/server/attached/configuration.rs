//! A newer engine keeps the server's configuration, and says when it has changed. Its words are those
//! of the documentation; where the configuration stands in them is not told there.

use super::*;
use crate::support::process::{Directory, Process, config};

const ON_CONFIG_CHANGE: &str = "iii-stream::on-config-change";

/// Says that the configuration has changed; it has taken effect when this returns.
fn change(link: &mut ScriptedLink, said: Value) -> Value {
    let id = link.start(ON_CONFIG_CHANGE, said);
    let answer = link.next();
    assert_eq!(answer["invocation_id"], id, "{answer}");
    answer
}

/// The status of an upgrade about which no function is asked.
fn status(server: &TestServer) -> u16 {
    let mut stream = raw::connect(server.stream());
    let request = raw::upgrade_request("/", "");
    stream.write_all(request.as_bytes()).unwrap();
    let head = raw::read_head(&mut stream);
    head[9..12].parse().unwrap()
}

/// The same of one about which that function is asked, which refuses.
fn status_refused_by(server: &TestServer, link: &mut ScriptedLink, function: &str) -> u16 {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| status(server));
        let call = link.next_call(function);
        link.answer(&call, json!({"result": {"unauthorized": true}}));
        asked.join().unwrap()
    })
}

#[test]
fn the_auth_function_of_a_changed_configuration_is_asked_at_once() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    assert_eq!(status(&server), 101, "nobody is asked");
    let with = |function: Value| json!({"id": "iii-stream", "value": {"auth_function": function, "port": 3112}});
    let done = change(&mut link, with(json!("first")));
    assert_eq!((done.get("error"), &done["result"]), (None, &Value::Null));
    assert_eq!(status_refused_by(&server, &mut link, "first"), 401);
    change(&mut link, json!({"auth_function": "second"}));
    assert_eq!(status_refused_by(&server, &mut link, "second"), 401);
    // What does not name it, or names nonsense, opens no door.
    change(&mut link, json!({"value": {"host": "127.0.0.1"}}));
    let refused = change(&mut link, with(json!(5)));
    assert_eq!(refused["error"]["code"], "deserialization_error");
    assert_eq!(status_refused_by(&server, &mut link, "second"), 401);
    change(&mut link, with(Value::Null));
    assert_eq!(status(&server), 101, "it was taken away by name");
}

#[test]
fn a_change_that_does_not_tell_the_configuration_makes_the_server_ask_for_it() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |config| {
        config.auth.function = Some("before".to_owned());
    });
    let mut link = engine.attach(&[], &[]);
    // Two changes are one question while it is not answered.
    let ids = [0, 1].map(|_| link.start(ON_CONFIG_CHANGE, json!({"id": "iii-stream"})));
    let asked = link.next_call("configuration::get");
    assert_eq!(asked["data"], json!({"id": "iii-stream"}));
    for id in ids {
        let answer = link.next();
        assert_eq!(answer["invocation_id"], id, "{answer}");
    }
    let missing =
        json!({"code": "function_not_found", "message": "Function configuration::get not found"});
    link.answer(&asked, json!({"error": missing}));
    assert_eq!(status_refused_by(&server, &mut link, "before"), 401);
    link.start(ON_CONFIG_CHANGE, Value::Object(Default::default()));
    let asked = link.next_call("configuration::get");
    link.next();
    link.answer(
        &asked,
        json!({"result": {"value": {"auth_function": "after"}}}),
    );
    link.settle();
    assert_eq!(status_refused_by(&server, &mut link, "after"), 401);
}

#[test]
fn the_log_names_the_auth_function_that_was_asked() {
    let engine = ScriptedEngine::start();
    let file = config("auth_function: before", "threads: 1, drain_ms: 500");
    let directory = Directory::new("changed-auth").with_file(&file);
    let mut process = Process::spawn(directory.command(&["--engine", &engine.url()]));
    process.directory = Some(directory);
    let started = process.line_with("serves subscribers on ");
    let behind = started.split_once("subscribers on ").unwrap().1;
    process.stream = behind[..behind.find([' ', ',', ';']).unwrap()]
        .parse()
        .unwrap();
    let mut link = engine.attach(&[], &[]);
    change(&mut link, json!({"auth_function": "after"}));
    let mut stream = raw::connect(process.stream);
    let request = raw::upgrade_request("/", "");
    stream.write_all(request.as_bytes()).unwrap();
    let call = link.next_call("after");
    link.answer(&call, json!({"result": {"unauthorized": true}}));
    assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 401 "));
    let line = process.line_with(": it says no");
    assert!(line.contains("is refused by after: "), "{line}");
}
