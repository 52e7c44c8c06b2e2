//! The published SDKs against this server: what a worker program can do, done by one on each of them.
//! `tests/run` installs their packages; a test says which it passes over for want of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iii_stream::config::Endpoint;
use serde_json::{Value, json};

use crate::support::clients::wait_for_link;
use crate::support::program::{Program, Sdk, folder};
use crate::support::{
    DEADLINE, SdkWorker, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw, wait_until,
};

pub(crate) const SDKS: [Sdk; 5] = [
    Sdk {
        name: "iii-sdk 0.11.6 for Node",
        program: "node",
        arguments: &["worker.mjs", "node-0.11.6"],
        installed: "node-0.11.6/node_modules/iii-sdk",
    },
    Sdk {
        name: "iii-sdk 0.22.1 for Node",
        program: "node",
        arguments: &["worker.mjs", "node-0.22.1"],
        installed: "node-0.22.1/node_modules/iii-sdk",
    },
    Sdk {
        name: "iii-sdk 0.11.6 for Python",
        program: "python-0.11.6/venv/bin/python",
        arguments: &["worker.py"],
        installed: "python-0.11.6/venv/installed.txt",
    },
    Sdk {
        name: "iii-sdk 0.25.0 for Python",
        program: "python-0.25.0/venv/bin/python",
        arguments: &["worker.py"],
        installed: "python-0.25.0/venv/installed.txt",
    },
    Sdk {
        name: "iii-sdk 0.25.0 for Rust",
        program: "rust/target/debug/sdk-worker",
        arguments: &[],
        installed: "rust/target/debug/sdk-worker",
    },
];

const ROOM: (&str, &str) = ("chat", "room-1");

/// What holds has to hold for each. The output of a failed test ends with the one it failed on.
fn on_each_sdk(test: impl Fn(&Sdk)) {
    for sdk in SDKS.iter().filter(|sdk| sdk.is_installed()) {
        eprintln!("on {}", sdk.name);
        test(sdk);
    }
}

/// Where programs and subscribers connect: to one server, or subscribers to another one that is
/// attached to it and has its streams.
struct Servers {
    attached: Option<TestServer>,
    engine: TestServer,
}

impl Servers {
    fn one() -> Servers {
        Servers {
            attached: None,
            engine: TestServer::start(THREE_WORKERS),
        }
    }

    fn two() -> Servers {
        let engine = TestServer::start(THREE_WORKERS);
        let url = format!("ws://{}", engine.worker());
        let attached = TestServer::attached(THREE_WORKERS, &url, |_| {});
        let mut sdk = SdkWorker::connect(&engine);
        let mut subscriber = Subscriber::connect(&attached);
        wait_for_link(&mut sdk, &mut subscriber);
        sdk.delete(("probe", "g"), "i");
        Servers {
            attached: Some(attached),
            engine,
        }
    }

    fn program(&self, sdk: &Sdk) -> Program {
        Program::start(sdk, &self.engine)
    }

    fn subscriber(&self) -> Subscriber {
        Subscriber::connect(self.attached.as_ref().unwrap_or(&self.engine))
    }

    /// What our server has sent a function. An engine in between adds who called: the attached server.
    fn sent(&self, mut data: Value) -> Value {
        if self.attached.is_some() {
            let fields = data.as_object_mut().expect("an object");
            assert!(fields.remove("_caller_worker_id").is_some(), "{fields:?}");
        }
        data
    }
}

/// The same beside an engine, whose programs and subscribers notice no difference.
fn on_each_sdk_and_beside_an_engine(test: impl Fn(&Sdk, &Servers)) {
    on_each_sdk(|sdk| {
        test(sdk, &Servers::one());
        eprintln!("beside an engine");
        test(sdk, &Servers::two());
    });
}

fn room(more: Value) -> Value {
    let mut input = json!({"stream_name": ROOM.0, "group_id": ROOM.1});
    let fields = input.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    input
}

fn item(id: &str) -> Value {
    room(json!({"item_id": id}))
}

fn set(id: &str, data: Value) -> Value {
    room(json!({"item_id": id, "data": data}))
}

#[test]
fn programs_call_each_others_functions() {
    on_each_sdk(|sdk| {
        let server = TestServer::start(THREE_WORKERS);
        let mut caller = Program::start(sdk, &server);
        let mut callee = Program::start(sdk, &server);
        callee.function("test::greet", json!({"text": "hello"}));
        callee.failing_function("test::fail", "boom");
        callee.settle();

        let answer = caller.result("test::greet", json!({"n": 1}));
        assert_eq!(answer, json!({"text": "hello"}));
        let mut heard = callee.called("test::greet");
        assert!(heard["_caller_worker_id"].take().is_string(), "{heard}");
        assert_eq!(heard, json!({"n": 1, "_caller_worker_id": null}));

        let (code, message) = caller.call("test::fail", json!({})).unwrap_err();
        assert_eq!(code, "invocation_failed");
        assert!(message.contains("boom"), "{message}");
        let (code, _) = caller.call("test::nowhere", json!({})).unwrap_err();
        assert_eq!(code, "function_not_found");

        caller.void("test::greet", json!([2]));
        assert_eq!(callee.called("test::greet"), json!([2]));
        assert_eq!(
            callee.result("test::greet", json!([3])),
            json!({"text": "hello"})
        );

        callee.unregister_function("test::greet");
        callee.settle();
        let (code, _) = caller.call("test::greet", json!({})).unwrap_err();
        assert_eq!(code, "function_not_found");
    });
}

#[test]
fn the_eight_stream_functions_answer_and_are_heard() {
    on_each_sdk_and_beside_an_engine(|sdk, servers| {
        let mut program = servers.program(sdk);
        let mut subscriber = servers.subscriber();
        subscriber.join("s", ROOM);
        let (first, second) = (json!({"n": 1}), json!({"n": 3}));

        let changed = program.result("stream::set", set("u1", first.clone()));
        assert_eq!(changed, json!({"old_value": null, "new_value": first}));
        let ops = json!([{"type": "increment", "path": "n", "by": 2}]);
        let changed = program.result("stream::update", room(json!({"item_id": "u1", "ops": ops})));
        assert_eq!(changed, json!({"old_value": first, "new_value": second}));
        assert_eq!(program.result("stream::get", item("u1")), second);
        assert_eq!(program.result("stream::get", item("nobody")), json!(null));
        assert_eq!(
            program.result("stream::list", room(json!({}))),
            json!([second])
        );
        let groups = program.result("stream::list_groups", json!({"stream_name": "chat"}));
        assert_eq!(groups, json!(["room-1"]));
        let all = program.result("stream::list_all", json!({}));
        assert_eq!(all["stream"], json!([{"id": "chat", "groups": ["room-1"]}]));
        let event = json!({"type": "typing", "data": [1]});
        assert_eq!(
            program.result("stream::send", room(event.clone())),
            json!(null)
        );
        let changed = program.result("stream::delete", item("u1"));
        assert_eq!(changed, json!({"old_value": second}));
        program.void("stream::set", set("u2", json!("void")));

        let (u1, u2) = (Some("u1".to_owned()), Some("u2".to_owned()));
        let heard = [
            ("create", u1.clone(), first),
            ("update", u1.clone(), second.clone()),
            ("event", None, event),
            ("delete", u1, second),
            ("create", u2, json!("void")),
        ]
        .map(|(kind, id, data)| (kind.to_owned(), id, data));
        assert_eq!(subscriber.take(heard.len()), heard);

        let (code, _) = program
            .call("stream::set", json!({"stream_name": "chat"}))
            .unwrap_err();
        assert_eq!(code, "deserialization_error");
    });
}

#[test]
fn stream_triggers_call_with_what_subscribers_hear_and_conditions_hold_them_back() {
    on_each_sdk_and_beside_an_engine(|sdk, servers| {
        let mut changer = servers.program(sdk);
        let mut program = servers.program(sdk);
        let mut subscriber = servers.subscriber();
        for (id, answer) in [
            ("test::all", json!(null)),
            ("test::of_u2", json!(null)),
            ("test::passed", json!(null)),
            ("test::held", json!(null)),
            ("test::yes", json!(true)),
            ("test::no", json!(false)),
        ] {
            program.function(id, answer);
        }
        for (name, function, more) in [
            ("all", "test::all", json!({})),
            (
                "of_u2",
                "test::of_u2",
                json!({"group_id": "room-1", "item_id": "u2"}),
            ),
            (
                "passed",
                "test::passed",
                json!({"condition_function_id": "test::yes"}),
            ),
            (
                "held",
                "test::held",
                json!({"condition_function_id": "test::no"}),
            ),
        ] {
            let mut config = json!({"stream_name": "chat"});
            config
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            program.trigger(name, "stream", function, config);
        }
        program.settle();
        subscriber.join("s", ROOM);

        let mut next_frame = || -> Value { serde_json::from_str(&subscriber.next_text()).unwrap() };
        for (function, payload, kind) in [
            (
                "stream::set",
                set("u1", json!({"z": 1, "a": [2]})),
                "create",
            ),
            ("stream::set", set("u1", json!(null)), "update"),
            ("stream::delete", item("u1"), "delete"),
            (
                "stream::send",
                room(json!({"type": "typing", "data": {}})),
                "event",
            ),
        ] {
            changer.result(function, payload);
            let frame = next_frame();
            assert_eq!(frame["event"]["type"], kind);
            for told in ["test::all", "test::yes", "test::passed", "test::no"] {
                assert_eq!(servers.sent(program.called(told)), frame, "{told}");
            }
        }
        changer.result("stream::set", set("u2", json!(2)));
        let frame = next_frame();
        assert_eq!(servers.sent(program.called("test::all")), frame);
        assert_eq!(servers.sent(program.called("test::of_u2")), frame);
        program.was_not_called("test::held");

        program.unregister_trigger("all");
        program.settle();
        changer.result("stream::set", set("u2", json!(3)));
        assert_eq!(servers.sent(program.called("test::of_u2")), next_frame());
        program.was_not_called("test::all");
    });
}

#[test]
fn a_trigger_that_a_program_registers_by_a_call_is_listed_and_outlives_it() {
    on_each_sdk(|sdk| {
        let servers = Servers::one();
        let mut other = SdkWorker::connect(&servers.engine);
        other.register("heard");
        let mut program = servers.program(sdk);
        let bound = program.result(
            "engine::register_trigger",
            json!({"trigger_type": "stream", "function_id": "heard", "config": {"stream_name": ROOM.0}}),
        );
        let listed = program.result(
            "engine::registered-triggers::list",
            json!({"function_id": "heard"}),
        );
        let rows = listed["registered_triggers"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["id"]), (1, &bound["id"]));
        drop(program);
        other.set(ROOM, "a", json!(1));
        assert_eq!(other.next_call_of("heard")["data"]["id"], "a");
        let ended = other.call("engine::unregister_trigger", bound.clone());
        assert_eq!(ended["result"], bound);
    });
}

#[test]
fn joins_and_leaves_are_told_and_a_join_function_refuses() {
    on_each_sdk_and_beside_an_engine(|sdk, servers| {
        let mut program = servers.program(sdk);
        program.function("test::joined", json!(null));
        program.function("test::gate", json!({"unauthorized": true}));
        program.function("test::left", json!(null));
        program.trigger("joined", "stream:join", "test::joined", json!({}));
        program.trigger(
            "gate",
            "stream:join",
            "test::gate",
            json!({"stream_name": "closed"}),
        );
        program.trigger(
            "left",
            "stream:leave",
            "test::left",
            json!({"stream_name": "chat"}),
        );
        program.settle();

        let told = |subscription: &str, stream: &str, id: Option<&str>| {
            json!({"context": null, "subscription_id": subscription, "stream_name": stream,
                "group_id": "room-1", "id": id})
        };
        let mut subscriber = servers.subscriber();
        subscriber.join("s1", ROOM);
        assert_eq!(
            servers.sent(program.called("test::joined")),
            told("s1", "chat", None)
        );
        subscriber.join_item("s2", ROOM, "u1");
        assert_eq!(
            servers.sent(program.called("test::joined")),
            told("s2", "chat", Some("u1"))
        );
        program.was_not_called("test::gate");

        subscriber.start_join("s3", ("closed", "room-1"), None);
        assert_eq!(subscriber.next().kind, "unauthorized");
        assert_eq!(
            servers.sent(program.called("test::joined")),
            told("s3", "closed", None)
        );
        assert_eq!(
            servers.sent(program.called("test::gate")),
            told("s3", "closed", None)
        );

        subscriber.send(
            &json!({"type": "leave", "data": {"subscriptionId": "s2", "streamName": "chat",
                "groupId": "room-1", "id": "u1"}})
            .to_string(),
        );
        assert_eq!(
            servers.sent(program.called("test::left")),
            told("s2", "chat", Some("u1"))
        );
        subscriber.reset();
        assert_eq!(
            servers.sent(program.called("test::left")),
            told("s1", "chat", None)
        );
        program.was_not_called("test::left");
    });
}

/// The status of an upgrade at the stream port.
fn upgrade_status(server: &TestServer) -> u16 {
    use std::io::Write as _;
    let mut stream = raw::connect(server.stream());
    let request = raw::upgrade_request("/", "");
    stream.write_all(request.as_bytes()).unwrap();
    let head = raw::read_head(&mut stream);
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_auth_function_admits_with_a_context_or_refuses() {
    on_each_sdk(|sdk| {
        let server = TestServer::with(THREE_WORKERS, |config| {
            config.auth.function = Some("test::auth".to_owned());
        });
        assert_eq!(upgrade_status(&server), 503, "nobody can be asked");
        let mut program = Program::start(sdk, &server);
        program.function("test::auth", json!({"context": {"userId": "u7"}}));
        program.function("test::joined", json!(null));
        program.trigger("joined", "stream:join", "test::joined", json!({}));
        program.settle();

        let mut subscriber = Subscriber::at(&server, "/?token=t%201");
        let asked = program.called("test::auth");
        assert_eq!(asked["path"], "/");
        assert_eq!(asked["query_params"], json!({"token": ["t%201"]}));
        assert_eq!(asked["headers"]["host"], server.stream().to_string());
        assert!(asked["addr"].as_str().unwrap().starts_with("127.0.0.1:"));
        subscriber.join("s1", ROOM);
        let joined = program.called("test::joined");
        assert_eq!(joined["context"], json!({"userId": "u7"}));

        program.unregister_function("test::auth");
        program.settle();
        assert_eq!(upgrade_status(&server), 503);
        program.function("test::auth", json!({"unauthorized": true}));
        program.settle();
        assert_eq!(upgrade_status(&server), 401);
        program.unregister_function("test::auth");
        program.failing_function("test::auth", "no such user");
        program.settle();
        assert_eq!(upgrade_status(&server), 401);
    });
}

#[test]
fn a_custom_store_keeps_the_values_of_its_stream() {
    on_each_sdk(|sdk| {
        let server = TestServer::start(THREE_WORKERS);
        let mut keeper = Program::start(sdk, &server);
        keeper.order(json!({"order": "store", "stream": "chat"}));
        keeper.settle();
        let mut caller = Program::start(sdk, &server);
        let mut subscriber = Subscriber::connect(&server);
        assert_eq!(subscriber.join("s", ROOM).data, json!([]));

        let (first, second) = (json!({"n": 1}), json!({"n": 2}));
        let changed = caller.result("stream::set", set("u1", first.clone()));
        assert_eq!(changed, json!({"old_value": null, "new_value": first}));
        assert_eq!(keeper.called("stream::set(chat)"), set("u1", first.clone()));
        let changed = caller.result("stream::set", set("u1", second.clone()));
        assert_eq!(changed, json!({"old_value": first, "new_value": second}));
        assert_eq!(caller.result("stream::get", item("u1")), second);
        assert_eq!(
            caller.result("stream::list", room(json!({}))),
            json!([second])
        );
        let groups = caller.result("stream::list_groups", json!({"stream_name": "chat"}));
        assert_eq!(groups, json!(["room-1"]));
        let mut late = Subscriber::connect(&server);
        assert_eq!(late.join_item("s", ROOM, "u1").data, second);
        let changed = caller.result("stream::delete", item("u1"));
        assert_eq!(changed, json!({"old_value": second}));
        assert_eq!(caller.result("stream::get", item("u1")), json!(null));

        let u1 = Some("u1".to_owned());
        let heard = [
            ("create", first),
            ("update", second.clone()),
            ("delete", second),
        ]
        .map(|(kind, data)| (kind.to_owned(), u1.clone(), data));
        assert_eq!(subscriber.take(heard.len()), heard);
    });
}

/// The loggers for Node and Rust send a severity as a number only, which no level but `all` matches.
#[test]
fn the_logger_feeds_log_triggers() {
    on_each_sdk(|sdk| {
        let server = TestServer::start(THREE_WORKERS);
        let mut program = Program::start(sdk, &server);
        for (id, level) in [("test::all", "all"), ("test::warned", "warn")] {
            program.function(id, json!(null));
            program.trigger(id, "log", id, json!({"level": level}));
        }
        program.settle();
        let logged = [
            ("info", "quiet", 9),
            ("warn", "loud", 13),
            ("error", "louder", 17),
        ];
        for (level, message, _) in logged {
            let data = json!({"n": 1});
            program
                .order(json!({"order": "log", "level": level, "message": message, "data": data}));
        }
        for (level, message, severity) in logged {
            let entry = program.called_with("test::all", |entry| entry["body"] == message);
            assert_eq!(entry["severity_number"], severity, "{entry}");
            assert_eq!(entry["attributes"]["log.data"], json!({"n": 1}), "{entry}");
            let text = entry["severity_text"].as_str().unwrap();
            let sends_text = sdk.name.ends_with("Python");
            let wanted = if sends_text {
                level.to_uppercase()
            } else {
                String::new()
            };
            assert_eq!(text, wanted, "{entry}");
            if sends_text && level == "warn" {
                assert_eq!(program.called("test::warned"), entry);
            }
        }
        program.was_not_called("test::warned");
    });
}

#[test]
fn what_a_program_has_registered_is_there_again_after_a_restart_of_the_server() {
    on_each_sdk(|sdk| {
        let before = TestServer::start(THREE_WORKERS);
        let port = before.worker().port();
        let mut program = Program::start(sdk, &before);
        program.function("test::greet", json!("hello"));
        program.function("test::all", json!(null));
        program.order(json!({"order": "store", "stream": "kept"}));
        program.trigger("all", "stream", "test::all", json!({"stream_name": "chat"}));
        program.settle();
        drop(before);

        let server = TestServer::with(THREE_WORKERS, |config| {
            config.worker_listeners = vec![Endpoint::new("127.0.0.1", port).into()];
        });
        let mut other = Program::start(sdk, &server);
        wait_until("the function of the program is back", || {
            other.call("test::greet", json!({})).is_ok()
        });
        program.settle(); // the trigger stands behind the functions
        let mut subscriber = Subscriber::connect(&server);
        subscriber.join("s", ROOM);
        other.result("stream::set", set("u1", json!(1)));
        let frame: Value = serde_json::from_str(&subscriber.next_text()).unwrap();
        assert_eq!(program.called("test::all"), frame);
        let kept = json!({"stream_name": "kept", "group_id": "g", "item_id": "i", "data": 1});
        other.result("stream::set", kept.clone());
        assert_eq!(program.called("stream::set(kept)"), kept);
    });
}

#[test]
fn the_clients_of_ws_work_unchanged() {
    for sdk in SDKS
        .iter()
        .filter(|sdk| sdk.program == "node" && sdk.is_installed())
    {
        on_each_shape(|shape| {
            let server = TestServer::start(shape);
            let mut program = Command::new("node")
                .arg("streams.mjs")
                .arg(sdk.arguments[1])
                .arg(server.stream().to_string())
                .arg(server.worker().to_string())
                .current_dir(folder())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("node is installed");
            let until = Instant::now() + DEADLINE;
            while program.try_wait().unwrap().is_none() {
                if Instant::now() > until {
                    program.kill().unwrap();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let output = program.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let wrong = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}\n{wrong}");
            let lines: Vec<&str> = said
                .lines()
                .filter(|line| !line.starts_with('[')) // the SDK's own log
                .collect();
            assert_eq!(
                lines,
                [
                    "a path and a join are answered with a sync",
                    "the eight functions answer and are heard",
                    "void calls are made and errors have their codes",
                    "one SDK calls the function of another",
                    "a close is answered",
                    "done",
                ]
            );
        });
    }
}
