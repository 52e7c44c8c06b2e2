//! Two servers on one engine, and an engine that takes us for two: older engines let the newest take
//! all, newer ones refuse it, name who serves a function, and let a link take an older one's place.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{ROOM, attached, attached_to};
use crate::support::clients::{item_input, set_input};
use crate::support::script::{STREAM_FUNCTIONS, ScriptedEngine, ScriptedLink, trigger};
use crate::support::{ONE_WORKER, SdkWorker, Subscriber, TestServer, wait_until};

/// The rows of newer engines for the functions of streams.
fn rows_of(worker: &str) -> Vec<Value> {
    let row = |id: &&str| json!({"function_id": id, "worker_name": worker, "namespace": "default"});
    STREAM_FUNCTIONS.iter().map(row).collect()
}

fn named(config: &mut iii_stream::config::Config) {
    config.known_as.name = Some("b".to_owned());
}

fn greet(link: &mut ScriptedLink, token: Option<&str>) -> Uuid {
    let id = Uuid::new_v4();
    let mut greeting = json!({"type": "workerregistered", "worker_id": id.to_string()});
    if let Some(token) = token {
        greeting["reattach_token"] = json!(token);
    }
    link.send(&greeting);
    id
}

/// Reads on to the next question about functions, and gives what was said before it.
fn until_list(link: &mut ScriptedLink) -> (Vec<Value>, Value) {
    let mut said = link.registrations();
    let list = said.pop().unwrap();
    (said, list)
}

fn kinds(said: &[Value]) -> Vec<&str> {
    said.iter()
        .map(|said| said["type"].as_str().unwrap())
        .collect()
}

#[test]
fn the_functions_of_another_server_are_left_to_it_until_it_ends() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), named);
    let mut link = engine.accept();
    let (said, list) = until_list(&mut link);
    for said in said
        .iter()
        .filter(|said| said["type"] == "registerfunction")
    {
        link.send(
            &json!({"type": "registrationrejected", "code": "FUNCTION_NAMESPACE_CONFLICT",
            "namespace": "default", "function_id": said["id"], "owner_worker_id": "a-id"}),
        );
    }
    link.answer_rows(&list, rows_of("a"));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    // It looks again and again, and says nothing else: no type is taken from the other one.
    for _ in 0..3 {
        let (said, list) = until_list(&mut link);
        assert!(said.is_empty(), "{said:?}");
        link.answer_rows(&list, rows_of("a"));
    }
    // The other one has ended: that is told at once, and everything is registered, types last.
    let list = until_list(&mut link).1;
    link.answer_rows(&list, Vec::new());
    let (said, list) = until_list(&mut link);
    assert_eq!(kinds(&said), ["registerfunction"; 9]);
    link.answer_rows(&list, rows_of("b"));
    let list = link.types();
    let gate = trigger("j", "stream:join", "gate", json!({"stream_name": "chat"}));
    link.send(&gate);
    assert_eq!(link.next()["type"], "triggerregistrationresult");
    link.answer_rows(&list, rows_of("b"));
    // The join has waited for that, or was refused while it had to wait too long: never let in.
    let mut is_asked = false;
    wait_until("the join is decided", || {
        if subscriber.has_something() {
            return true;
        }
        if !is_asked {
            let call = link.next_call("gate");
            link.answer(&call, json!({"result": {"unauthorized": true}}));
            is_asked = true;
        }
        false
    });
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn joins_beside_another_server_are_refused_soon() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), named);
    let mut link = engine.accept();
    let list = until_list(&mut link).1;
    link.answer_rows(&list, rows_of("a"));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.start_join("s", ROOM, None);
    let mut answers = 0;
    while !subscriber.has_something() {
        let list = until_list(&mut link).1;
        link.answer_rows(&list, rows_of("a"));
        answers += 1;
    }
    assert!(answers < 15, "a second each");
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn a_name_that_is_taken_is_tried_again_until_it_is_free() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), named);
    for _ in 0..2 {
        let mut link = engine.accept();
        greet(&mut link, Some("of a link that was refused"));
        let said = link.registrations();
        assert_eq!(
            said[0]["type"], "registerfunction",
            "nothing to take the place of"
        );
        link.send(
            &json!({"type": "registrationrejected", "code": "WORKER_NAMESPACE_CONFLICT",
            "namespace": "default", "worker_name": "b", "owner_worker_id": "other"}),
        );
        link.end();
    }
    engine.attach(&[], &[]);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
}

#[test]
fn the_next_link_takes_the_place_of_the_last_one_first_of_all() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let first = greet(&mut link, Some("token \"1\""));
    link.greet(&[]);
    link.end();
    // Of this one the engine refuses all: the one to take the place of is still the first.
    for _ in 0..2 {
        let mut link = engine.accept();
        greet(&mut link, Some("2"));
        assert_eq!(
            link.next(),
            json!({"type": "reattach", "previous_worker_id": first.to_string(), "reattach_token": "token \"1\""})
        );
        assert_eq!(link.next()["type"], "registerfunction");
        link.send(
            &json!({"type": "registrationrejected", "code": "WORKER_NAMESPACE_CONFLICT",
            "worker_name": "x"}),
        );
        link.end();
    }
    let mut link = engine.accept();
    let last = greet(&mut link, Some("3"));
    assert_eq!(link.next()["previous_worker_id"], json!(first.to_string()));
    let list = link.registrations().pop().unwrap();
    link.answer_list(&list, &[]);
    link.types();
    // Cut before it was settled, but not refused: it may have taken everything over.
    link.end();
    let mut link = engine.accept();
    assert_eq!(link.next()["previous_worker_id"], json!(last.to_string()));
}

#[test]
fn functions_that_have_gone_are_registered_again_and_types_after_them() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let said = link.greet(&[]);
    let changed = said[8]["id"].as_str().unwrap().to_owned();
    // A newer server has taken all and ended: the engine has nobody's functions any more.
    link.start(&changed, json!({"event": "functions_changed"}));
    assert_eq!(link.next()["function_id"], json!(changed));
    let list = link.next();
    assert_eq!(list["data"], json!({"include_internal": true}));
    link.answer_rows(&list, vec![json!({"function_id": "stream::get"})]);
    let (said, list) = until_list(&mut link);
    assert_eq!(kinds(&said), ["registerfunction"; 9]);
    link.answer_list(&list, &[]);
    let list = link.types();
    link.answer_list(&list, &[]);
    link.settle();
}

#[test]
fn an_older_engine_s_list_of_workers_shows_who_has_taken_over() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let ours = greet(&mut link, None);
    let said = link.greet(&[]);
    let changed = said[8]["id"].as_str().unwrap().to_owned();
    let worker = |id: String, at: u64| {
        json!({"id": id, "name": "iii-stream:other:1", "connected_at_ms": at,
        "functions": ["stream::set"], "runtime": "rust"})
    };
    let others = "iii-stream::functions-changed::another";
    let look = |at: u64, link: &mut ScriptedLink| {
        link.start(&changed, json!({"event": "worker_connected"}));
        assert_eq!(link.next()["function_id"], json!(changed));
        let list = link.next_call("engine::functions::list");
        link.answer_list(&list, &[others]);
        let workers = link.next_call("engine::workers::list");
        let rows = [worker(ours.to_string(), 5), worker("other".to_owned(), at)];
        link.answer(&workers, json!({"result": {"workers": rows}}));
    };
    // One that was there before us has lost everything to us.
    look(4, &mut link);
    link.settle();
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("s", ROOM);
    // A newer one has taken all: its end is waited for.
    look(6, &mut link);
    let list = link.next_call("engine::functions::list");
    link.answer_list(&list, &[]);
    let (said, list) = until_list(&mut link);
    assert_eq!(kinds(&said), ["registerfunction"; 9], "it has ended");
    link.answer_list(&list, &[]);
    link.types();
}

#[test]
fn a_second_server_serves_when_the_first_one_ends_and_the_other_way_round() {
    let engine = TestServer::start(ONE_WORKER);
    let mut sdk = SdkWorker::connect(&engine);
    let hears = |server: &TestServer, sdk: &mut SdkWorker| {
        let mut subscriber = Subscriber::connect(server);
        let mut tries = 0;
        wait_until("its subscribers hear of changes", || {
            tries += 1;
            let (name, group) = (format!("s{tries}"), ("probe", format!("g{tries}")));
            subscriber.start_join(&name, (group.0, &group.1), None);
            match &*subscriber.next().kind {
                "sync" => {
                    sdk.set((group.0, &group.1), "i", json!(tries));
                    false
                }
                kind => kind == "create",
            }
        });
    };
    let first = attached_to(&engine);
    hears(&first, &mut sdk);
    // Rolling: the second one comes, and then the first one goes.
    let second = attached_to(&engine);
    hears(&second, &mut sdk);
    let mut subscriber = Subscriber::connect(&first);
    let mut tries = 0;
    wait_until("the first one knows that its streams are another's", || {
        tries += 1;
        subscriber.start_join(&format!("late{tries}"), ROOM, None);
        subscriber.next().kind == "unauthorized"
    });
    drop(subscriber);
    drop(first);
    hears(&second, &mut sdk);
    // Standby: the older of two serves again when the newer one ends.
    let third = attached_to(&engine);
    hears(&third, &mut sdk);
    drop(third);
    hears(&second, &mut sdk);
    // A gate that is registered now is asked by it.
    sdk.register("gate");
    sdk.send(&trigger(
        "j",
        "stream:join",
        "gate",
        json!({"stream_name": "chat"}),
    ));
    sdk.settle();
    sdk.set(("other", "g"), "i", json!(1)); // behind the trigger on the link
    let mut subscriber = Subscriber::connect(&second);
    subscriber.start_join("s", ROOM, None);
    let call = sdk.next_call();
    assert_eq!(call["function_id"], "gate");
    sdk.answer(&call, json!({"result": {"unauthorized": true}}));
    assert_eq!(subscriber.next().kind, "unauthorized");
}

#[test]
fn what_the_rules_of_a_listener_hide_stops_nothing_else() {
    let engine = ScriptedEngine::start();
    let server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let list = link.registrations().pop().unwrap();
    link.answer_rows(&list, Vec::new());
    let list = link.types();
    link.answer_rows(&list, Vec::new());
    link.settle();
    // Calls come all the same, and nothing is registered again and again.
    let id = link.start("stream::set", set_input(ROOM, "i", json!(1)));
    assert_eq!(link.next()["invocation_id"], json!(id));
    let id = link.start("stream::get", item_input(ROOM, "i"));
    assert_eq!(link.next()["invocation_id"], json!(id));
    Subscriber::connect(&server).join("s", ROOM);
}

#[test]
fn many_changes_at_once_are_few_questions() {
    const CHANGES: usize = 200;
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.accept();
    let said = link.greet(&[]);
    let changed = said[8]["id"].as_str().unwrap().to_owned();
    for _ in 0..CHANGES {
        link.start(&changed, json!({"event": "worker_connected"}));
    }
    // The last question comes behind the last change, however late.
    let (mut answered, mut asked) = (0, 0);
    while answered < CHANGES || asked < 2 {
        let message = link.next();
        if message["function_id"] == "engine::functions::list" {
            asked += 1;
            link.answer_list(&message, &[]);
        } else {
            answered += 1;
        }
    }
    assert!(asked < CHANGES / 10, "{asked} questions");
}
