//! Members that the server keeps: persons, their tabs, graces, and what a restart makes of them.
//!
//! That nothing is heard of somebody is shown by somebody else, who left later and whose end is heard.

use std::time::{Duration, Instant};

use iii_stream::metrics::WorkerMetrics;
use iii_stream::protocol::members::{IdPath, Keys};
use iii_stream::protocol::pace::Pace;
use iii_stream::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use iii_stream::protocol::ttl::Ttl;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::open;
use crate::support::process::{Directory, Process, config};
use crate::support::{
    Heard, SdkWorker, Shape, Subscriber, TestServer, on_each_shape, raw, wait_until,
};

const ROOM: (&str, &str) = ("presence", "room");
/// What a turn of a worker may take of its own CPU time here, in a test build.
const TURN_MAX: Duration = Duration::from_millis(150);
const GRACE: Duration = Duration::from_millis(600);

fn rules(id: &str, data: Option<&str>) -> StreamRules {
    StreamRules::new(vec![StreamRule {
        streams: StreamPattern::read("presence").unwrap(),
        ttl: Ttl::NEVER,
        pace: Pace::NONE,
        members: Some(MembersRule {
            id: IdPath::read(id).unwrap(),
            data: data.and_then(Keys::read),
            grace_ms: GRACE.as_millis() as u64,
            restart_grace_ms: MembersRule::RESTART_GRACE_MS,
        }),
    }])
}

fn server(shape: Shape) -> TestServer {
    TestServer::with(shape, |config| config.streams = rules("query.user", None))
}

/// A tab of that person.
fn tab(server: &TestServer, user: &str) -> Subscriber {
    Subscriber::at(server, &format!("/?user={user}"))
}

/// Nobody in particular, who follows the room.
fn watcher(server: &TestServer) -> Subscriber {
    let mut watcher = Subscriber::connect(server);
    watcher.join("w", ROOM);
    watcher
}

fn there(user: &str, connections: usize) -> Value {
    json!({"id": user, "connections": connections})
}

fn told(kind: &str, user: &str, connections: usize) -> (String, Option<String>, Value) {
    (
        kind.to_owned(),
        Some(user.to_owned()),
        there(user, connections),
    )
}

fn count(server: &TestServer, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    server.shared().workers.iter().map(of).sum()
}

#[test]
fn a_person_is_one_member_however_many_tabs_and_goes_after_the_last_of_them() {
    on_each_shape(|shape| {
        let server = server(shape);
        let mut watcher = watcher(&server);
        let mut tabs: Vec<Subscriber> = (0..3).map(|_| tab(&server, "ann")).collect();
        for (at, tab) in tabs.iter_mut().enumerate() {
            let sync = tab.join("s", ROOM);
            assert_eq!(sync.data, json!([there("ann", at + 1)]), "it sees itself");
            let kind = if at == 0 { "create" } else { "update" };
            assert_eq!(watcher.take(1), [told(kind, "ann", at + 1)]);
        }
        // A second subscription of a socket is not a second socket.
        tabs[2].start_join("again", ROOM, None);
        tabs[2].take(1);
        tabs[2].leave("again");
        let mut tabs = tabs.into_iter();
        tabs.next().unwrap().close();
        assert_eq!(watcher.take(1), [told("update", "ann", 2)]);
        tabs.next().unwrap().reset();
        assert_eq!(watcher.take(1), [told("update", "ann", 1)]);
        let left = Instant::now();
        tabs.next().unwrap().reset(); // nobody says goodbye
        let gone = watcher.next();
        assert_eq!(gone.told(), ("delete", Some("ann"), &there("ann", 1)));
        assert!(left.elapsed() >= GRACE, "{:?}", left.elapsed());
    });
}

#[test]
fn whoever_is_back_in_time_was_never_away() {
    on_each_shape(|shape| {
        let server = server(shape);
        let mut watcher = watcher(&server);
        let mut ann = tab(&server, "ann");
        ann.join("s", ROOM);
        assert_eq!(watcher.take(1), [told("create", "ann", 1)]);
        for round in 0..20 {
            match round % 3 {
                0 => {
                    ann.leave("s");
                    ann.join("other", ("other", "room")); // the leave was read before
                    ann.close();
                }
                1 => ann.close(),
                _ => ann.reset(),
            }
            wait_until("its socket is gone", || {
                server.shared().connections_len() == 1
            });
            ann = tab(&server, "ann");
            ann.join("s", ROOM);
        }
        let mut bob = tab(&server, "bob");
        bob.join("s", ROOM);
        assert_eq!(watcher.take(1), [told("create", "bob", 1)]);
        bob.close();
        assert_eq!(watcher.take(1), [told("delete", "bob", 1)]);
        // A leave, too, has its grace.
        ann.leave("s");
        assert_eq!(watcher.take(1), [told("delete", "ann", 1)]);
    });
}

#[test]
fn workers_write_of_members_what_they_like_and_what_they_delete_is_away_until_the_next_join() {
    on_each_shape(|shape| {
        let server = server(shape);
        let mut sdk = SdkWorker::connect(&server);
        let mut watcher = watcher(&server);
        let mut first = tab(&server, "ann");
        first.join("s", ROOM);
        let set_status = json!({
            "stream_name": ROOM.0, "group_id": ROOM.1, "item_id": "ann",
            "ops": [{"type": "set", "path": "status", "value": "busy"}],
        });
        sdk.call("stream::update", set_status);
        let mut second = tab(&server, "ann");
        second.join("s", ROOM);
        let heard: Vec<Value> = watcher.take(3).into_iter().map(|(.., data)| data).collect();
        assert_eq!(
            heard[2],
            json!({"status": "busy", "id": "ann", "connections": 2})
        );
        sdk.delete(ROOM, "ann");
        assert_eq!(watcher.next().kind, "delete");
        second.close();
        let mut third = tab(&server, "ann");
        third.join("s", ROOM);
        assert_eq!(watcher.take(1), [told("create", "ann", 2)]);
        // An item is no group, and an item of the group's stream makes nobody a member.
        let mut bob = tab(&server, "bob");
        bob.join_item("s", ROOM, "ann");
        watcher.hears_only_the_marker(&mut sdk, ROOM);
    });
}

#[test]
fn whoever_has_no_id_subscribes_and_is_no_member_and_so_does_whoever_is_too_many() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.streams = rules("query.user", None);
            config.limits.members_per_group = 2;
            config.limits.name_bytes = 8;
        });
        let mut sdk = SdkWorker::connect(&server);
        let mut watcher = watcher(&server);
        let mut nobodies: Vec<Subscriber> = ["/", "/?user=", "/?user=ninebytes", "/?user=%ff"]
            .into_iter()
            .map(|path| Subscriber::at(&server, path))
            .collect();
        for nobody in &mut nobodies {
            assert_eq!(nobody.join("s", ROOM).data, json!([]));
        }
        assert_eq!(count(&server, |worker| worker.members_without_id.get()), 5);
        let mut persons: Vec<Subscriber> = ["a", "b", "c"].map(|user| tab(&server, user)).into();
        for person in &mut persons {
            person.join("s", ROOM);
        }
        assert_eq!(
            watcher.take(2),
            [told("create", "a", 1), told("create", "b", 1)]
        );
        watcher.hears_only_the_marker(&mut sdk, ROOM);
        assert_eq!(
            persons[2].next().kind,
            "event",
            "it hears what the others hear"
        );
        assert_eq!(count(&server, |worker| worker.members_refused.get()), 1);
        // Whoever is no member leaves unheard, and makes room for nobody.
        persons.pop().unwrap().close();
        persons.pop().unwrap().close();
        assert_eq!(watcher.take(1), [told("delete", "b", 1)]);
    });
}

#[test]
fn a_path_is_a_join_and_a_header_may_say_who_it_is() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.streams = rules("header.x-user", None)
        });
        let mut watcher = watcher(&server);
        let mut stream = raw::connect(server.stream());
        let head = raw::upgrade_request("/stream/presence/room", "X-User: ann\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        raw::read_head(&mut stream);
        assert_eq!(watcher.take(1), [told("create", "ann", 1)]);
        drop(stream);
        assert_eq!(watcher.take(1), [told("delete", "ann", 1)]);
    });
}

#[test]
fn what_the_auth_function_says_anew_of_somebody_is_an_update() {
    on_each_shape(|shape| {
        let server = TestServer::with(shape, |config| {
            config.streams = rules("context.user.id", Some("user"));
            config.auth.function = Some("auth".to_owned());
        });
        let mut sdk = SdkWorker::connect(&server);
        sdk.register("auth");
        let mut come = |context: Value| {
            let address = server.stream();
            let stream = raw::connect(address);
            let opening = std::thread::spawn(move || open(stream, address, "/"));
            let asked = sdk.next_call_of("auth");
            sdk.answer(&asked, json!({"result": {"context": context}}));
            Subscriber::of(opening.join().unwrap())
        };
        let mut watcher = come(Value::Null);
        watcher.join("w", ROOM);
        let mut first = come(json!({"user": {"id": 7, "name": "Ann"}}));
        first.join("s", ROOM);
        let ann = |name: &str, connections: usize| json!({"name": name, "id": "7", "connections": connections});
        assert_eq!(watcher.next().told(), ("create", Some("7"), &ann("Ann", 1)));
        let mut second = come(json!({"user": {"id": 7, "name": "Anna"}}));
        second.join("s", ROOM);
        assert_eq!(
            watcher.next().told(),
            ("update", Some("7"), &ann("Anna", 2))
        );
        // Only what an object says is data.
        let mut other = come(json!({"user": {"id": "x"}, "data": 1}));
        other.join("s", ROOM);
        assert_eq!(watcher.take(1), [told("create", "x", 1)]);
    });
}

/// `MEMBERS=10000` has more of them, where so many files may be open.
#[test]
fn very_many_who_leave_at_once_go_once_each_and_whoever_stays_is_not_held_up() {
    let members: usize = std::env::var("MEMBERS").map_or(400, |members| members.parse().unwrap());
    on_each_shape(|shape| {
        let server = server(shape);
        let mut sdk = SdkWorker::connect(&server);
        let tabs: Vec<Subscriber> = (0..members)
            .map(|n| {
                let mut tab = tab(&server, &n.to_string());
                tab.start_join("s", ROOM, None);
                tab
            })
            .collect();
        let mut watcher = Subscriber::connect(&server);
        let mut seen = watcher.join("w", ROOM).data.as_array().unwrap().len();
        while seen < members {
            assert_eq!(watcher.next().kind, "create");
            seen += 1;
        }
        tabs.into_iter().for_each(Subscriber::reset);
        let mut gone = std::collections::BTreeSet::new();
        while gone.len() < members {
            let Heard { kind, id, .. } = watcher.next();
            assert_eq!(kind, "delete");
            assert!(gone.insert(id), "each once");
        }
        assert_eq!(sdk.list(ROOM), json!([]));
        watcher.hears_only_the_marker(&mut sdk, ROOM);
        let turns = server.shared().workers.iter();
        let longest = turns.map(|worker| worker.loop_turns.longest()).max();
        assert!(longest < Some(TURN_MAX), "{longest:?}");
    });
}

/// With values in files, and members who are waited for so long after a start.
fn home(test: &str, restart_grace: &str) -> Directory {
    let adapter = "adapter: {name: kv, config: {store_method: file_based, file_path: ./store}}";
    let members = format!("{{id: query.user, grace_ms: 600, restart_grace_ms: {restart_grace}}}");
    let server =
        format!("threads: 2, drain_ms: 300, streams: [{{stream: presence, members: {members}}}]");
    Directory::new(test).with_file(&config(adapter, &server))
}

fn tab_of(process: &Process, user: &str) -> Subscriber {
    let stream = raw::connect(process.stream);
    let mut tab = Subscriber::of(open(stream, process.stream, &format!("/?user={user}")));
    tab.join("s", ROOM);
    tab
}

#[test]
fn neither_a_kill_nor_a_stop_is_anybodys_leave_and_whoever_does_not_come_back_goes() {
    for signal in [Signal::KILL, Signal::TERM] {
        let home = home("members", "2s");
        let mut process = Process::start(home.command(&[]));
        let tabs: Vec<Subscriber> = ["ann", "ann", "ann", "bob", "cy"]
            .map(|user| tab_of(&process, user))
            .into();
        process.signal(signal);
        process.exit_code();
        drop(tabs);
        let process = Process::start(home.command(&[]));
        let started = Instant::now();
        let mut watcher = process.subscriber();
        let sync = watcher.join("w", ROOM);
        let all = json!([there("ann", 3), there("bob", 1), there("cy", 1)]);
        assert_eq!(sync.data, all, "{signal:?}");
        let _back = ["ann", "bob", "ann"].map(|user| tab_of(&process, user));
        // Nothing is heard of who is back until it is known who is not.
        let mut heard = watcher.take(2);
        heard.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(heard, [told("update", "ann", 2), told("delete", "cy", 1)]);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1_500), "{took:?}");
        watcher.hears_only_the_marker(&mut process.sdk(), ROOM);
    }
}
