//! A small server of this protocol for tests, with a fault of choice planted in it.
//!
//! One thread a socket, one lock around everything: slow, and plain enough to be right. The program's
//! own tests and those of the finished program share it, so it names nothing of either.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

type Socket = WebSocket<TcpStream>;

/// What the server does wrong. Numbers count the changes of the whole server from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    Drops(u64),
    Repeats(u64),
    /// Sends it only after the next change of the same group.
    Swaps(u64),
    /// Sends it only after this time.
    Delays(u64, Duration),
    /// Changes one letter of the value on its way to subscribers.
    Alters(u64),
    /// Gives it and every later change the same time.
    StampsAlike(u64),
    GoesBack(u64),
    LiesInList,
    ListsAnOldValue,
    /// Leaves the newest item out of each `sync`.
    CutsSyncShort,
    /// Changes one value of each `sync`.
    AltersSync,
    /// Answers a join with the value of each item as an event, and only then with the `sync`.
    SpeaksBeforeSync,
    /// Tells the subscribers of every group.
    TellsAll(u64),
    Refuses(u64),
    /// Does the change and gives no answer.
    AnswersNot(u64),
    /// Ends every subscriber's socket.
    HangsUp(u64),
    /// Of the frames to all subscribers, headers and `sync`s included, changes one bit of the one with
    /// this number; the bit is counted modulo what the frame has.
    FlipsBit(u64, u64),
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) engine: SocketAddr,
    pub(crate) stream: SocketAddr,
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
    /// Frames sent to subscribers.
    frames: u64,
}

/// Starts one on ports of its own. Its threads end with their sockets, or with the test.
pub(crate) fn serve(planted: Planted) -> Ports {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("a bound socket");
    let (engine, stream) = (listen(), listen());
    let ports = Ports {
        engine: address(&engine),
        stream: address(&stream),
    };
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
    ports
}

fn receive(socket: &mut Socket) -> Option<Value> {
    serde_json::from_str(socket.read().ok()?.to_text().ok()?).ok()
}

fn serve_subscriber(mut socket: Socket, state: &Mutex<State>, planted: Planted) {
    while let Some(join) = receive(&mut socket) {
        let name = join["data"]["groupId"].as_str().unwrap_or_default();
        let mut state = state.lock().expect("nobody dies with it");
        let at_ms = state.latest_ms.max(now_ms());
        let mut values = state.list(name);
        match (planted, values.first_mut()) {
            (Planted::CutsSyncShort, _) => drop(values.pop()),
            (Planted::AltersSync, Some(first)) => first["x"] = json!("a lie"),
            (Planted::SpeaksBeforeSync, Some(first)) => {
                let event = json!({"type": "update", "data": first});
                let early = frame(at_ms, name, &first["id"], &event);
                if socket.send(Message::text(early)).is_err() {
                    return;
                }
            }
            _ => {}
        }
        let frame = frame(
            at_ms,
            name,
            &Value::Null,
            &json!({"type": "sync", "data": values}),
        );
        let mut frames = state.frames;
        if send(socket.get_ref(), &frame, planted, &mut frames).is_err() {
            return;
        }
        state.frames = frames;
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
        let mut state = state.lock().expect("nobody dies with it");
        let number = state.changes;
        let result = state.call(&call, planted);
        let is_change = state.changes > number;
        drop(state);
        let mut answer = json!({"type": "invocationresult",
            "invocation_id": call["invocation_id"], "function_id": call["function_id"]});
        match (planted, result) {
            (Planted::AnswersNot(at), _) if is_change && at == number => continue,
            (Planted::Refuses(at), _) if is_change && at == number => {
                answer["error"] = json!({"code": "STREAM_SET_ERROR", "message": "no"});
            }
            (_, Some(result)) => answer["result"] = result,
            (_, None) => {}
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
            (Planted::LiesInList, Some(first), _) => first["x"] = json!("a lie"),
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
            told["x"] = json!(told["x"].as_str().unwrap_or_default().replacen('x', "y", 1));
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
            Planted::Delays(at, wait) if at == number => {
                self.tell_later(name, text, wait);
                vec![]
            }
            _ => [Some(text), held_back].into_iter().flatten().collect(),
        };
        let frames = &mut self.frames;
        self.subscribers.retain(|(of, socket)| {
            let hears = of == name || planted == Planted::TellsAll(number);
            let mut send_text = |text: &String| send(socket, text, planted, frames).is_ok();
            !hears || texts.iter().all(&mut send_text)
        });
        if planted == Planted::HangsUp(number) {
            for (_, socket) in self.subscribers.drain(..) {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
        json!({"old_value": old, "new_value": new})
    }

    /// On a thread of its own: the others do not wait.
    fn tell_later(&self, name: &str, text: String, wait: Duration) {
        let sockets: Vec<TcpStream> = self
            .subscribers
            .iter()
            .filter(|(of, _)| of == name)
            .filter_map(|(_, socket)| socket.try_clone().ok())
            .collect();
        thread::spawn(move || {
            thread::sleep(wait);
            for socket in sockets {
                let _ = send(&socket, &text, Planted::Nothing, &mut 0);
            }
        });
    }

    fn next_ms(&mut self, number: u64, planted: Planted) -> u64 {
        match planted {
            Planted::StampsAlike(from) if number > from => self.latest_ms,
            Planted::GoesBack(at) if at == number => self.latest_ms - 100_000,
            _ => {
                self.latest_ms = now_ms().max(self.latest_ms + 1);
                self.latest_ms
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The keys in the order of the protocol.
fn frame(at_ms: u64, group: &str, id: &Value, event: &Value) -> String {
    let (kind, data) = (&event["type"], &event["data"]);
    format!(
        r#"{{"type":"stream","timestamp":{at_ms},"streamName":"load","groupId":"{group}","id":{id},"event":{{"type":{kind},"data":{data}}}}}"#
    )
}

fn send(socket: &TcpStream, text: &str, planted: Planted, frames: &mut u64) -> std::io::Result<()> {
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
    if let Planted::FlipsBit(frame, bit) = planted
        && frame == *frames
    {
        let bit = (bit % (8 * bytes.len() as u64)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    *frames += 1;
    (&*socket).write_all(&bytes)
}
