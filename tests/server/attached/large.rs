//! Messages of many MiB on the link. The scripted engine takes frames of 16 MiB and messages of 64 MiB
//! at most, as engines do: whatever is longer ends its end of the link.

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{ROOM, attached};
use crate::support::clients::{item_input, set_input};
use crate::support::script::{ScriptedEngine, ScriptedLink, trigger};

const MIB: usize = 1024 * 1024;

fn text(len: usize) -> Value {
    json!("x".repeat(len))
}

fn set(link: &mut ScriptedLink, item: &str, len: usize) -> Value {
    let id = link.start("stream::set", set_input(ROOM, item, text(len)));
    let answer = link.next();
    assert_eq!(answer["invocation_id"], json!(id));
    answer
}

#[test]
fn answers_longer_than_a_frame_of_an_engine_arrive() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    // The answer of the second one holds the old value and the new one: 18 MiB.
    for _ in 0..2 {
        let answer = set(&mut link, "a", 9 * MIB);
        assert_eq!(
            answer["result"]["new_value"].as_str().unwrap().len(),
            9 * MIB
        );
    }
    for item in ["b", "c", "d", "e", "f"] {
        set(&mut link, item, 9 * MIB);
    }
    let group = json!({"stream_name": ROOM.0, "group_id": ROOM.1});
    let id = link.start("stream::list", group.clone());
    let answer = link.next();
    assert_eq!(answer["invocation_id"], json!(id));
    assert_eq!(answer["result"].as_array().unwrap().len(), 6);
    // Two at once, and what is called beside them is served too.
    let ids = [(); 2].map(|()| link.start("stream::list", group.clone()));
    let beside = link.start("stream::get", item_input(("other", "g"), "i"));
    let answered = [(); 3].map(|()| link.next()["invocation_id"].clone());
    for id in ids.iter().chain([&beside]) {
        assert!(answered.contains(&json!(id)), "{id} is not answered");
    }
    // What an engine cannot take at all is the function's own error, and the link stays.
    for item in ["g", "h"] {
        set(&mut link, item, 9 * MIB);
    }
    link.start("stream::list", group);
    let error = &link.next()["error"];
    assert_eq!(error["code"], "STREAM_GET_GROUP_ERROR", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("67108864"),
        "{error}"
    );
    link.settle();
}

#[test]
fn triggers_and_custom_stores_are_called_with_values_longer_than_a_frame() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let on_chat = trigger("t", "stream", "on-chat", json!({"stream_name": "chat"}));
    let mut link = engine.attach(&[on_chat], &["stream::set(kept)"]);
    link.start("stream::set", set_input(ROOM, "i", text(15 * MIB)));
    let mut seen = [link.next(), link.next()];
    seen.sort_by_key(|message| message["type"].to_string());
    assert_eq!(seen[0]["type"], "invocationresult");
    let event = &seen[1]["data"]["event"]["data"];
    assert_eq!(event.as_str().map(str::len), Some(15 * MIB));
    link.answer(&seen[1], json!({}));

    let id = link.start("stream::set", set_input(("kept", "g"), "i", text(15 * MIB)));
    let call = link.next_call("stream::set(kept)");
    assert_eq!(call["data"]["data"].as_str().map(str::len), Some(15 * MIB));
    link.answer(&call, json!({"result": {"new_value": 1}}));
    let answer = link.next();
    assert_eq!(
        (&answer["invocation_id"], &answer["result"]["new_value"]),
        (&json!(id), &json!(1))
    );
}

#[test]
fn what_an_engine_sends_in_fragments_is_one_message() {
    let engine = ScriptedEngine::start();
    let _server = attached(&engine.url(), |_| {});
    let mut link = engine.attach(&[], &[]);
    let id = "00000001-0000-4000-8000-000000000000";
    let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set",
        "data": set_input(ROOM, "i", text(12 * MIB))});
    let call = call.to_string();
    let parts: Vec<&[u8]> = call.as_bytes().chunks(5 * MIB).collect();
    for (n, part) in parts.iter().enumerate() {
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        let is_last = n + 1 == parts.len();
        let frame = Frame::message(part.to_vec(), OpCode::Data(kind), is_last);
        link.socket.send(Message::Frame(frame)).unwrap();
        if !is_last {
            link.socket.send(Message::Ping("between".into())).unwrap();
        }
    }
    let mut messages = Vec::new();
    while messages.is_empty() {
        match link.socket.read().unwrap() {
            Message::Text(text) => messages.push(serde_json::from_str::<Value>(&text).unwrap()),
            other => assert_eq!(other, Message::Pong("between".into())),
        }
    }
    assert_eq!(messages[0]["invocation_id"], id);
    let new = messages[0]["result"]["new_value"].as_str();
    assert_eq!(new.map(str::len), Some(12 * MIB));
}
