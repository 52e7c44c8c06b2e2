//! What a worker asks of functions and tells them: joins, leaves, events, custom stores. The engine is
//! the test's own, which answers late, refuses, or is asked for more than it takes.

use std::sync::atomic::Ordering;

use iii_stream::id::{GroupKey, SlotId};
use iii_stream::mesh::{JoinRequest, Presence, ToEngine, ToWorker};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::input::StreamFunction;
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{Ask, Command, CustomAnswer, CustomAnswered, CustomCall, Fired};
use serde_json::json;
use tungstenite::Message;

use crate::support::lone::{LoneWorker, name};
use crate::support::raw;
use crate::support::{Subscriber, wait_until};

const ROOM: (&str, &str) = ("chat", "room-1");

/// Joins and leaves of every stream are watched.
fn presence() -> Hooks {
    let mut hooks = Hooks::default();
    hooks.joins.all = true;
    hooks.leaves.all = true;
    hooks
}

fn subscriber(lone: &LoneWorker) -> Subscriber {
    let stream = raw::upgrade(raw::connect(lone.stream), "/");
    Subscriber::upgraded(stream)
}

fn next_join(lone: &mut LoneWorker) -> Box<JoinRequest> {
    match lone.next() {
        ToEngine::Join(request) => request,
        other => panic!("no join but {}", name(&other)),
    }
}

fn names(presence: &Presence) -> (&str, &str, &str, Option<&str>) {
    let key = &presence.key;
    let item = presence.item.as_deref();
    (&presence.subscription, key.stream(), key.group(), item)
}

#[test]
fn a_join_waits_for_its_functions_and_other_ids_do_not() {
    let mut lone = LoneWorker::start(presence());
    let mut client = subscriber(&lone);
    client.start_join("a", ROOM, Some("u1"));
    client.start_join("b", ROOM, None);
    client.leave("a"); // waits behind the join of its id
    client.send_message(Message::Ping(vec![1].into()));
    let first = next_join(&mut lone);
    assert_eq!(names(&first.presence), ("a", "chat", "room-1", Some("u1")));
    assert!(
        matches!(client.next_message(), Message::Pong(_)),
        "a ping waits for nobody"
    );
    let second = next_join(&mut lone);
    lone.tell(ToWorker::JoinDecided(second, true));
    assert_eq!(client.sync().id, None);
    lone.tell(ToWorker::JoinDecided(first, true));
    assert_eq!(client.sync().id.as_deref(), Some("u1"));
    let left = lone.take_leaves(1);
    assert_eq!(names(&left[0]).0, "a");
}

#[test]
fn a_refused_join_is_told_so_and_changes_nothing() {
    let mut lone = LoneWorker::start(presence());
    let mut client = subscriber(&lone);
    client.start_join("a", ROOM, None);
    let admitted = next_join(&mut lone);
    lone.tell(ToWorker::JoinDecided(admitted, true));
    client.sync();
    client.start_join("a", ("chat", "room-2"), Some("u"));
    let refused = next_join(&mut lone);
    lone.tell(ToWorker::JoinDecided(refused, false));
    let told = client.next();
    assert_eq!(
        (&*told.kind, &*told.group, told.id.as_deref()),
        ("unauthorized", "room-2", Some("u"))
    );
    assert_eq!(lone.shared.workers[0].joins_unauthorized.get(), 1);
    drop(client);
    let left = lone.take_leaves(1);
    assert_eq!(
        names(&left[0]),
        ("a", "chat", "room-1", None),
        "the older one went on"
    );
    assert_eq!(
        lone.shared.owed.load(Ordering::Acquire),
        0,
        "and no other is owed"
    );
}

#[test]
fn leaves_are_owed_for_messages_and_for_what_a_socket_held_in_order_of_joining() {
    let mut hooks = presence();
    hooks.joins.all = false;
    let mut lone = LoneWorker::start(hooks);
    let mut client = subscriber(&lone);
    let ids: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    for id in &ids {
        client.join(id, ROOM);
    }
    client.join("s3", ROOM); // replaced: its place is a new one
    client.leave("s7");
    client.leave("s7");
    client.leave("nobody");
    let left = lone.take_leaves(3);
    let left: Vec<&str> = left.iter().map(|left| names(left).0).collect();
    assert_eq!(left, ["s7", "s7", "nobody"]);
    drop(client);
    let left = lone.take_leaves(39);
    let left: Vec<&str> = left.iter().map(|left| names(left).0).collect();
    let mut held: Vec<&str> = ids.iter().map(|id| &**id).collect();
    held.retain(|id| !["s3", "s7"].contains(id));
    held.push("s3");
    assert_eq!(left, held);
    assert_eq!(lone.shared.owed.load(Ordering::Acquire), 0);
}

#[test]
fn streams_that_nobody_watches_are_asked_and_told_of_nothing() {
    let mut hooks = Hooks::default();
    hooks.joins.named.insert("watched".into());
    hooks.leaves.named.insert("watched".into());
    let mut lone = LoneWorker::start(hooks);
    let mut client = subscriber(&lone);
    client.join("a", ROOM);
    client.leave("a");
    client.start_join("b", ("watched", "g"), None);
    let asked = next_join(&mut lone);
    assert_eq!(names(&asked.presence).1, "watched");
    lone.tell(ToWorker::JoinDecided(asked, true));
    client.sync();
    client.join("c", ROOM);
    drop(client);
    assert_eq!(names(&lone.take_leaves(1)[0]).0, "b");
}

#[test]
fn an_admitted_join_whose_socket_has_ended_is_owed_a_leave() {
    let mut lone = LoneWorker::start(presence());
    let mut client = subscriber(&lone);
    client.start_join("a", ROOM, None);
    client.start_join("b", ROOM, None);
    client.start_join("c", ROOM, None);
    let asked = [(); 3].map(|()| next_join(&mut lone));
    drop(client);
    // The end is known when the socket is not counted any more.
    wait_until("the socket ends", || lone.shared.connections_len() == 0);
    for (request, is_admitted) in asked.into_iter().zip([true, false, true]) {
        lone.tell(ToWorker::JoinDecided(request, is_admitted));
    }
    let left = lone.take_leaves(2);
    assert_eq!(
        left.iter().map(|left| names(left).0).collect::<Vec<_>>(),
        ["a", "c"]
    );
}

#[test]
fn an_id_that_was_joined_anew_has_one_leave_though_its_socket_ends_before_that_enters() {
    let mut hooks = presence();
    let custom = hooks.custom.get_or_default("chat");
    custom.add(StreamFunction::List);
    let mut lone = LoneWorker::start(hooks);
    let mut client = subscriber(&lone);
    for (id, stream) in [("a", "other"), ("b", "other")] {
        client.start_join(id, (stream, "room-1"), None);
        let admitted = next_join(&mut lone);
        lone.tell(ToWorker::JoinDecided(admitted, true));
        client.sync();
    }
    client.start_join("a", ROOM, None);
    let admitted = next_join(&mut lone);
    lone.tell(ToWorker::JoinDecided(admitted, true));
    let ToEngine::Custom(_) = lone.next() else {
        panic!("its list is not asked for");
    };
    drop(client);
    let left = lone.take_leaves(2);
    let left: Vec<_> = left.iter().map(names).collect();
    assert_eq!(
        left,
        [
            ("b", "other", "room-1", None),
            ("a", "chat", "room-1", None)
        ]
    );
    assert_eq!(
        lone.shared.owed.load(Ordering::Acquire),
        0,
        "and no other is owed"
    );
}

#[test]
fn the_join_of_a_path_is_asked_about_too() {
    let mut lone = LoneWorker::start(presence());
    let mut stream = lone.request("/stream/chat/room-1/u%201", "");
    let asked = next_join(&mut lone);
    let (_, stream_name, group, item) = names(&asked.presence);
    assert_eq!((stream_name, group, item), ("chat", "room-1", Some("u 1")));
    assert!(raw::read_head(&mut stream).starts_with("HTTP/1.1 101"));
    let mut client = Subscriber::upgraded(stream);
    lone.tell(ToWorker::JoinDecided(asked, true));
    client.sync();
    drop(client);
    assert_eq!(names(&lone.take_leaves(1)[0]).3, Some("u 1"));
}

#[test]
fn a_drain_leaves_debts_that_are_still_served() {
    let mut hooks = presence();
    hooks.joins.all = false;
    let mut lone = LoneWorker::start(hooks);
    let mut clients: Vec<Subscriber> = (0..5).map(|_| subscriber(&lone)).collect();
    for client in &mut clients {
        client.join("a", ROOM);
    }
    lone.shared.drain();
    for client in &mut clients {
        assert_eq!(client.close_code(), Some(1012));
    }
    drop(clients);
    assert!(lone.is_drained());
    assert_eq!(lone.shared.owed.load(Ordering::Acquire), 5);
    assert_eq!(lone.take_leaves(5).len(), 5);
}

#[test]
fn events_and_custom_stores_go_through_the_engine() {
    let mut hooks = Hooks {
        version: 3,
        ..Hooks::default()
    };
    hooks.events.add("chat", None, None);
    let custom = hooks.custom.get_or_default("chat");
    custom.add(StreamFunction::Set);
    custom.add(StreamFunction::List);
    let mut lone = LoneWorker::start(hooks);
    let mut client = subscriber(&lone);
    client.start_join("a", ROOM, None);
    let answer = |lone: &mut LoneWorker, function, text: &str| {
        let ToEngine::Custom(CustomCall {
            slot,
            number,
            function: asked,
            ..
        }) = lone.next()
        else {
            panic!("no custom call");
        };
        assert_eq!(asked, function);
        let answer = CustomAnswer::Result(Some(text.into()));
        lone.tell(ToWorker::CustomAnswered(CustomAnswered {
            slot,
            number,
            answer,
        }));
    };
    answer(&mut lone, StreamFunction::List, r#"{"theirs":1}"#);
    assert_eq!(client.sync().data, json!({"theirs": 1}));
    let call = SlotId {
        slot: 4,
        generation: 1,
    };
    let ask = Ask::Set {
        item: "u".into(),
        data: "1".into(),
        ttl: None,
        call: Some(call),
    };
    lone.command(Command::Group {
        key: GroupKey::new(ROOM.0, ROOM.1),
        ask,
    });
    answer(&mut lone, StreamFunction::Set, r#"{"new_value":2}"#);
    let ToEngine::Reply(reply) = lone.next() else {
        panic!("no reply");
    };
    assert_eq!(
        reply.outcome,
        Outcome::Set {
            new: "2".into(),
            old: None
        }
    );
    let Fired { version, frame, .. } = lone.next_fired();
    assert!(version == 3 && frame.item() == Some("u"));
    assert_eq!(client.next().told(), ("create", Some("u"), &json!(2)));
}
