//! A small server of this protocol for tests, with a fault of choice planted in it.
//!
//! One thread a socket, one lock around everything: slow, and plain enough to be right.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::target::Target;

type Socket = WebSocket<TcpStream>;

/// What the server does wrong. Numbers count the changes of the whole server from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    Drops(u64),
    Repeats(u64),
    /// Sends it only after the next change of the same group.
    Swaps(u64),
    /// Changes one letter of the value on its way to subscribers.
    Alters(u64),
    /// Gives it and every later change the same time.
    StampsAlike(u64),
    GoesBack(u64),
    LiesInList,
    ListsAnOldValue,
    /// Leaves the newest item out of each `sync`.
    CutsSyncShort,
}

#[derive(Default)]
struct Group {
    items: Vec<(String, Value)>,
    /// What the last changed item was before.
    old: Option<Value>,
    held_back: Option<String>,
}

#[derive(Default)]
struct State {
    groups: HashMap<String, Group>,
    subscribers: Vec<(String, TcpStream)>,
    changes: u64,
    latest_ms: u64,
}

/// Starts one on ports of its own: engine, then stream. Its threads end with their sockets, or with
/// the test.
pub(crate) fn serve(planted: Planted) -> (Target, Target) {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = |listener: &TcpListener| {
        let address = listener.local_addr().expect("a bound socket");
        Target::parse(&format!("ws://{address}")).expect("a whole URL")
    };
    let (engine, stream) = (listen(), listen());
    let targets = (target(&engine), target(&stream));
    let state = Arc::new(Mutex::new(State::default()));
    for (listener, serve_socket) in [
        (engine, serve_worker as fn(Socket, &Mutex<State>, Planted)),
        (stream, serve_subscriber),
    ] {
        let state = Arc::clone(&state);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || {
                    if let Ok(socket) = tungstenite::accept(socket) {
                        serve_socket(socket, &state, planted);
                    }
                });
            }
        });
    }
    targets
}

fn receive(socket: &mut Socket) -> Option<Value> {
    serde_json::from_str(socket.read().ok()?.to_text().ok()?).ok()
}

fn serve_subscriber(mut socket: Socket, state: &Mutex<State>, planted: Planted) {
    while let Some(join) = receive(&mut socket) {
        let name = join["data"]["groupId"].as_str().unwrap_or_default();
        let mut state = state.lock().expect("nobody dies with it");
        let mut values = state.list(name);
        if planted == Planted::CutsSyncShort {
            values.pop();
        }
        let at_ms = state.latest_ms;
        let frame = frame(
            at_ms,
            name,
            &Value::Null,
            &json!({"type": "sync", "data": values}),
        );
        if socket.send(Message::text(frame)).is_err() {
            return;
        }
        let write_half = socket.get_ref().try_clone().expect("a live socket");
        state.subscribers.push((name.to_owned(), write_half));
    }
    let peer = |socket: &TcpStream| socket.peer_addr().ok();
    let own = peer(socket.get_ref());
    let mut state = state.lock().expect("nobody dies with it");
    state.subscribers.retain(|(_, other)| peer(other) != own);
}

fn serve_worker(mut socket: Socket, state: &Mutex<State>, planted: Planted) {
    while let Some(call) = receive(&mut socket) {
        let result = state
            .lock()
            .expect("nobody dies with it")
            .call(&call, planted);
        let mut answer = json!({"type": "invocationresult",
            "invocation_id": call["invocation_id"], "function_id": call["function_id"]});
        if let Some(result) = result {
            answer["result"] = result;
        }
        if socket.send(Message::text(answer.to_string())).is_err() {
            return;
        }
    }
}

impl State {
    fn list(&self, group: &str) -> Vec<Value> {
        let items = self.groups.get(group).map_or(&[][..], |group| &group.items);
        items.iter().map(|(_, value)| value.clone()).collect()
    }

    fn call(&mut self, call: &Value, planted: Planted) -> Option<Value> {
        let data = &call["data"];
        let group = data["group_id"].as_str()?;
        let item = data["item_id"].as_str().unwrap_or_default();
        match call["function_id"].as_str()? {
            "stream::set" => Some(self.change(group, item, Some(&data["data"]), planted)),
            "stream::delete" => Some(self.change(group, item, None, planted)),
            "stream::list" => Some(self.listed(group, planted)),
            "stream::get" => {
                let items = &self.groups.get(group)?.items;
                let found = items.iter().find(|(id, _)| id == item);
                found.map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    fn listed(&self, name: &str, planted: Planted) -> Value {
        let mut values = self.list(name);
        let old = self.groups.get(name).and_then(|group| group.old.clone());
        match (planted, values.first_mut(), old) {
            (Planted::LiesInList, Some(first), _) => first["pad"] = json!("a lie"),
            (Planted::ListsAnOldValue, Some(first), Some(old)) => *first = old,
            _ => {}
        }
        values.into()
    }

    fn change(&mut self, name: &str, item: &str, new: Option<&Value>, planted: Planted) -> Value {
        let number = self.changes;
        self.changes += 1;
        let at_ms = self.next_ms(number, planted);
        let group = self.groups.entry(name.to_owned()).or_default();
        let place = group.items.iter().position(|(id, _)| id == item);
        let old = place.map(|index| group.items[index].1.clone());
        group.old.clone_from(&old);
        let (kind, mut told) = match (place, new) {
            (Some(index), Some(new)) => {
                group.items[index].1 = new.clone();
                ("update", new.clone())
            }
            (None, Some(new)) => {
                group.items.push((item.to_owned(), new.clone()));
                ("create", new.clone())
            }
            (Some(index), None) => ("delete", group.items.remove(index).1),
            (None, None) => return json!({"old_value": null}),
        };
        if planted == Planted::Alters(number) {
            told["pad"] = json!(
                told["pad"]
                    .as_str()
                    .unwrap_or_default()
                    .replacen('x', "y", 1)
            );
        }
        let text = frame(
            at_ms,
            name,
            &json!(item),
            &json!({"type": kind, "data": told}),
        );
        let held_back = group.held_back.take();
        let texts = match planted {
            Planted::Drops(at) if at == number => vec![],
            Planted::Repeats(at) if at == number => vec![text.clone(), text],
            Planted::Swaps(at) if at == number => {
                group.held_back = Some(text);
                vec![]
            }
            _ => [Some(text), held_back].into_iter().flatten().collect(),
        };
        self.subscribers.retain(|(of, socket)| {
            of != name || texts.iter().all(|text| send(socket, text).is_ok())
        });
        json!({"old_value": old, "new_value": new})
    }

    fn next_ms(&mut self, number: u64, planted: Planted) -> u64 {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        match planted {
            Planted::StampsAlike(from) if number > from => self.latest_ms,
            Planted::GoesBack(at) if at == number => self.latest_ms - 100_000,
            _ => {
                self.latest_ms = now.max(self.latest_ms + 1);
                self.latest_ms
            }
        }
    }
}

/// The keys in the order of the protocol.
fn frame(at_ms: u64, group: &str, id: &Value, event: &Value) -> String {
    let (kind, data) = (&event["type"], &event["data"]);
    format!(
        r#"{{"type":"stream","timestamp":{at_ms},"streamName":"load","groupId":"{group}","id":{id},"event":{{"type":{kind},"data":{data}}}}}"#
    )
}

fn send(socket: &TcpStream, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header
        .format(text.len() as u64, &mut bytes)
        .expect("a Vec takes every write");
    bytes.extend_from_slice(text.as_bytes());
    (&*socket).write_all(&bytes)
}
