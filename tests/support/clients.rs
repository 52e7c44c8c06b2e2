//! A subscriber and an SDK worker, as programs are that use the two ports.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use uuid::Uuid;

use super::raw::Patient;
use super::{TestServer, raw, wait_until};

pub(crate) type Socket = WebSocket<Patient>;

/// Opens a WebSocket, whose reads and writes have a deadline.
pub(crate) fn open(stream: TcpStream, address: SocketAddr, path: &str) -> Socket {
    let request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let (socket, _) =
        client_with_config(request, Patient(stream), Some(config)).expect("an upgrade");
    socket
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heard {
    pub(crate) timestamp: u64,
    pub(crate) stream: String,
    pub(crate) group: String,
    pub(crate) id: Option<String>,
    /// `sync`, `create`, `update`, `delete`, `event` or `unauthorized`.
    pub(crate) kind: String,
    /// The value; of an `event` its type and data.
    pub(crate) data: Value,
}

impl Heard {
    fn read(text: &str) -> Heard {
        let mut message: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(message["type"], "stream", "{message}");
        let event = message["event"].take();
        let name = |key: &str| message[key].as_str().expect("a name").to_owned();
        Heard {
            timestamp: message["timestamp"].as_u64().expect("a whole number"),
            stream: name("streamName"),
            group: name("groupId"),
            id: message["id"].as_str().map(str::to_owned),
            kind: event["type"].as_str().expect("a kind").to_owned(),
            data: match event["type"].as_str() {
                Some("event") => event["event"].clone(),
                _ => event["data"].clone(),
            },
        }
    }

    /// What matters in most tests: kind, item and value.
    pub(crate) fn told(&self) -> (&str, Option<&str>, &Value) {
        (&self.kind, self.id.as_deref(), &self.data)
    }
}

/// A client of the stream port. It reads only when it is asked for what came.
pub(crate) struct Subscriber {
    socket: Socket,
}

impl Subscriber {
    pub(crate) fn connect(server: &TestServer) -> Subscriber {
        Subscriber::at(server, "/")
    }

    /// Of a server in another process.
    pub(crate) fn to(address: SocketAddr) -> Subscriber {
        Subscriber {
            socket: open(raw::connect(address), address, "/"),
        }
    }

    /// Of a socket that is open already.
    pub(crate) fn of(socket: Socket) -> Subscriber {
        Subscriber { socket }
    }

    /// The next frame; `None` when the server is gone.
    pub(crate) fn next_if_any(&mut self) -> Option<Heard> {
        match self.socket.read() {
            Ok(Message::Text(text)) => Some(Heard::read(&text)),
            _ => None,
        }
    }

    /// With a path, which may name a group or an item.
    pub(crate) fn at(server: &TestServer, path: &str) -> Subscriber {
        let stream = raw::connect(server.stream());
        Subscriber {
            socket: open(stream, server.stream(), path),
        }
    }

    /// Its socket stands on that worker.
    pub(crate) fn on_worker(server: &TestServer, worker: usize) -> Subscriber {
        server.steer_to(worker);
        let subscriber = Subscriber::connect(server);
        server.steer_to(usize::MAX);
        subscriber
    }

    /// On a stream that is a WebSocket already.
    #[allow(
        dead_code,
        reason = "for tests that look at the memory of their process"
    )]
    pub(crate) fn upgraded(stream: TcpStream) -> Subscriber {
        Subscriber {
            socket: WebSocket::from_raw_socket(Patient(stream), Role::Client, None),
        }
    }

    /// With a connection of the test's own making.
    pub(crate) fn over(stream: TcpStream, server: &TestServer) -> Subscriber {
        Subscriber {
            socket: open(stream, server.stream(), "/"),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub(crate) fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    pub(crate) fn start_join(
        &mut self,
        subscription: &str,
        (stream, group): (&str, &str),
        item: Option<&str>,
    ) {
        self.send(&join(subscription, (stream, group), item));
    }

    /// Joins a group and waits for its `sync`.
    pub(crate) fn join(&mut self, subscription: &str, group: (&str, &str)) -> Heard {
        self.start_join(subscription, group, None);
        self.sync()
    }

    /// Joins an item and waits for its `sync`.
    pub(crate) fn join_item(
        &mut self,
        subscription: &str,
        group: (&str, &str),
        item: &str,
    ) -> Heard {
        self.start_join(subscription, group, Some(item));
        self.sync()
    }

    pub(crate) fn leave(&mut self, subscription: &str) {
        self.send(&leave(subscription));
    }

    /// The next frame that is no ping, which is one text frame.
    pub(crate) fn next_text(&mut self) -> String {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return text.as_str().to_owned(),
                Ok(Message::Ping(_)) => {} // answered by the library
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Heard {
        Heard::read(&self.next_text())
    }

    /// Whether a byte waits to be read.
    pub(crate) fn has_something(&self) -> bool {
        let stream = self.socket.get_ref();
        stream.set_nonblocking(true).unwrap();
        let has_something = stream.peek(&mut [0]).is_ok_and(|len| len > 0);
        stream.set_nonblocking(false).unwrap();
        has_something
    }

    pub(crate) fn next_message(&mut self) -> Message {
        self.socket.read().expect("a message in time")
    }

    /// The next frame, which is a `sync`.
    pub(crate) fn sync(&mut self) -> Heard {
        let heard = self.next();
        assert_eq!(heard.kind, "sync", "{heard:?}");
        heard
    }

    /// The next `count` frames, as kind, item and value.
    pub(crate) fn take(&mut self, count: usize) -> Vec<(String, Option<String>, Value)> {
        (0..count)
            .map(|_| self.next())
            .map(|heard| (heard.kind, heard.id, heard.data))
            .collect()
    }

    /// Nothing has come for this group before the marker that is sent now.
    pub(crate) fn hears_only_the_marker(&mut self, sdk: &mut SdkWorker, group: (&str, &str)) {
        self.hears_only(sdk, group, None);
    }

    /// The same for a subscription of one item.
    pub(crate) fn hears_only_the_marker_of_item(
        &mut self,
        sdk: &mut SdkWorker,
        group: (&str, &str),
        item: &str,
    ) {
        self.hears_only(sdk, group, Some(item));
    }

    fn hears_only(&mut self, sdk: &mut SdkWorker, group: (&str, &str), item: Option<&str>) {
        sdk.send_event(group, item, "marker", json!(null));
        let heard = self.next();
        assert_eq!(
            heard.told(),
            ("event", item, &json!({"type": "marker", "data": null}))
        );
    }

    /// Reads on to the end: the code of the close frame, if there was one with a code.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(error) => panic!("expected a close frame, got {error}"),
            }
        }
    }

    pub(crate) fn close(mut self) {
        self.socket.close(None).unwrap();
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(
                    Error::ConnectionClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => {
                    return;
                }
                Err(error) => panic!("the close was not answered: {error}"),
            }
        }
    }

    /// Ends the connection as a lost client does, without a word.
    pub(crate) fn reset(self) {
        let stream = socket2::SockRef::from(&**self.socket.get_ref());
        stream.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    #[allow(
        dead_code,
        reason = "for tests that look at the memory of their process"
    )]
    pub(crate) fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }
}

/// The text of a join.
pub(crate) fn join(subscription: &str, group: (&str, &str), item: Option<&str>) -> String {
    json!({"type": "join", "data": {
        "subscriptionId": subscription, "streamName": group.0, "groupId": group.1, "id": item,
    }})
    .to_string()
}

/// The text of a leave, whose names need not fit the subscription.
pub(crate) fn leave(subscription: &str) -> String {
    json!({"type": "leave", "data": {
        "subscriptionId": subscription, "streamName": "any", "groupId": "any",
    }})
    .to_string()
}

/// A client of the worker port.
pub(crate) struct SdkWorker {
    socket: Socket,
    pub(crate) worker_id: String,
    /// With which a later socket takes its place.
    pub(crate) reattach_token: String,
    /// Came while something else was waited for.
    came: VecDeque<Value>,
}

impl SdkWorker {
    pub(crate) fn connect(server: &TestServer) -> SdkWorker {
        SdkWorker::to(server.worker())
    }

    /// Of a server in another process.
    pub(crate) fn to(address: SocketAddr) -> SdkWorker {
        let mut sdk = SdkWorker::over(address, "/");
        sdk.wait_for_hello();
        sdk
    }

    /// At that listener, whose rules may have to be asked before it is let in.
    pub(crate) fn over(listener: SocketAddr, path: &str) -> SdkWorker {
        SdkWorker::on(raw::connect(listener), listener, path)
    }

    /// With a connection of the test's own making.
    pub(crate) fn on(stream: TcpStream, listener: SocketAddr, path: &str) -> SdkWorker {
        SdkWorker {
            socket: open(stream, listener, path),
            worker_id: String::new(),
            reattach_token: String::new(),
            came: VecDeque::new(),
        }
    }

    /// On a stream that is a WebSocket already.
    #[allow(
        dead_code,
        reason = "for tests that look at the memory of their process"
    )]
    pub(crate) fn upgraded(stream: TcpStream) -> SdkWorker {
        SdkWorker {
            socket: WebSocket::from_raw_socket(Patient(stream), Role::Client, None),
            worker_id: String::new(),
            reattach_token: String::new(),
            came: VecDeque::new(),
        }
    }

    pub(crate) fn wait_for_hello(&mut self) {
        let hello = self.next();
        assert_eq!(hello["type"], "workerregistered", "{hello}");
        self.worker_id = hello["worker_id"].as_str().unwrap().to_owned();
        self.reattach_token = hello["reattach_token"].as_str().unwrap().to_owned();
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub(crate) fn send_message(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// Results as they come; `None` when the server is gone.
    pub(crate) fn next_result(&mut self) -> Option<Value> {
        loop {
            let message = match self.socket.read().ok()? {
                Message::Ping(_) => continue, // answered by the library
                message => message,
            };
            let message: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
            if message["type"] == "invocationresult" {
                return Some(message);
            }
        }
    }

    fn read(&mut self) -> Value {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(text.as_str()).expect("JSON");
                }
                Ok(Message::Ping(_)) => {} // answered by the library
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// The next frame, which may end the connection.
    pub(crate) fn next_message(&mut self) -> Message {
        self.socket.read().expect("a message in time")
    }

    /// The next message, whatever it is.
    pub(crate) fn next(&mut self) -> Value {
        match self.came.pop_front() {
            Some(message) => message,
            None => self.read(),
        }
    }

    /// The next message that is wanted; others are kept.
    fn next_with(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.came.iter().position(&is_wanted) {
            return self.came.remove(found).unwrap();
        }
        loop {
            let message = self.read();
            if is_wanted(&message) {
                return message;
            }
            self.came.push_back(message);
        }
    }

    /// Sends a call and gives its id.
    pub(crate) fn start(&mut self, function_id: &str, data: Value) -> String {
        let id = Uuid::new_v4().to_string();
        self.start_as(&id, function_id, data);
        id
    }

    pub(crate) fn start_as(&mut self, id: &str, function_id: &str, data: Value) {
        self.send(&json!({
            "type": "invokefunction", "invocation_id": id, "function_id": function_id, "data": data,
        }));
    }

    /// The result message of that call.
    pub(crate) fn result(&mut self, id: &str) -> Value {
        self.next_with(|message| {
            message["type"] == "invocationresult" && message["invocation_id"] == id
        })
    }

    /// Calls and waits: the whole result message.
    pub(crate) fn call(&mut self, function_id: &str, data: Value) -> Value {
        let id = self.start(function_id, data);
        self.result(&id)
    }

    /// Calls and waits: the code and the message of the error.
    pub(crate) fn error_of(&mut self, function_id: &str, data: Value) -> (String, String) {
        let result = self.call(function_id, data);
        error_in(&result)
    }

    pub(crate) fn void(&mut self, function_id: &str, data: Value) {
        self.send(&json!({
            "type": "invokefunction", "function_id": function_id, "data": data,
            "action": {"type": "void"},
        }));
    }

    pub(crate) fn set(&mut self, group: (&str, &str), item: &str, data: Value) -> Value {
        let result = self.call("stream::set", set_input(group, item, data));
        assert!(result.get("error").is_none(), "{result}");
        result["result"].clone()
    }

    pub(crate) fn delete(&mut self, group: (&str, &str), item: &str) {
        let result = self.call("stream::delete", item_input(group, item));
        assert!(result.get("error").is_none(), "{result}");
    }

    pub(crate) fn get(&mut self, group: (&str, &str), item: &str) -> Option<Value> {
        let result = self.call("stream::get", item_input(group, item));
        assert!(result.get("error").is_none(), "{result}");
        result.get("result").cloned()
    }

    pub(crate) fn list(&mut self, group: (&str, &str)) -> Value {
        let input = json!({"stream_name": group.0, "group_id": group.1});
        self.call("stream::list", input)["result"].clone()
    }

    pub(crate) fn send_event(
        &mut self,
        group: (&str, &str),
        id: Option<&str>,
        kind: &str,
        data: Value,
    ) {
        let result = self.call(
            "stream::send",
            json!({
                "stream_name": group.0, "group_id": group.1, "id": id, "type": kind, "data": data,
            }),
        );
        assert_eq!(result.get("result"), Some(&Value::Null), "{result}");
    }

    /// Registers a function; when it returns, everybody's calls reach it.
    pub(crate) fn register(&mut self, function_id: &str) {
        self.send(&json!({"type": "registerfunction", "id": function_id}));
        self.settle();
    }

    /// Registers a trigger; when it returns, what is called from here on fires it.
    pub(crate) fn trigger(&mut self, id: &str, trigger_type: &str, function: &str, config: Value) {
        self.send(&json!({
            "type": "registertrigger", "id": id, "trigger_type": trigger_type,
            "function_id": function, "config": config,
        }));
        self.settle();
    }

    /// The refusal of a trigger: its id, and the code and the message of the error.
    pub(crate) fn refusal(&mut self) -> (String, String, String) {
        let refusal = self.next_with(|message| message["type"] == "triggerregistrationresult");
        let (code, message) = error_in(&refusal);
        (refusal["id"].as_str().unwrap().to_owned(), code, message)
    }

    /// The next call of that function.
    pub(crate) fn next_call_of(&mut self, function: &str) -> Value {
        self.next_with(|message| {
            message["type"] == "invokefunction" && message["function_id"] == function
        })
    }

    /// Everything that it has sent so far has taken effect.
    pub(crate) fn settle(&mut self) {
        self.send(&json!({"type": "ping"}));
        self.next_with(|message| message["type"] == "pong");
    }

    /// Everything that it has sent so far has taken effect, and nothing has come that was not taken.
    pub(crate) fn hears_nothing_more(&mut self) {
        self.send(&json!({"type": "ping"}));
        assert_eq!(self.next(), json!({"type": "pong"}));
    }

    /// The next call of one of its functions.
    pub(crate) fn next_call(&mut self) -> Value {
        self.next_with(|message| message["type"] == "invokefunction")
    }

    /// Answers that call with these fields: `result`, `error`, or none.
    pub(crate) fn answer(&mut self, call: &Value, fields: Value) {
        self.send(&answer_to(call, &fields));
    }

    /// Reads on to the end: code and reason of the close frame, if there was one with a code.
    pub(crate) fn close_reason(&mut self) -> Option<(u16, String)> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Ok(Message::Text(_)) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    #[allow(
        dead_code,
        reason = "for tests that look at the memory of their process"
    )]
    pub(crate) fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }
}

/// The attached server serves the streams of that engine, as its SDK workers see it.
pub(crate) fn wait_for_link(sdk: &mut SdkWorker, subscriber: &mut Subscriber) {
    let group = ("probe", "g");
    subscriber.join("probe", group);
    let mut number = 0;
    wait_until("events of the engine reach subscribers", || {
        number += 1;
        sdk.set(group, "i", json!(number));
        subscriber.has_something()
    });
    // What came before the link went to the engine's own streams.
    let mut heard = subscriber.next();
    assert_eq!(heard.kind, "create");
    while heard.data != json!(number) {
        heard = subscriber.next();
    }
}

/// The answer to that call with these fields: `result`, `error`, or none.
pub(crate) fn answer_to(call: &Value, fields: &Value) -> Value {
    let mut message = json!({
        "type": "invocationresult", "invocation_id": call["invocation_id"],
        "function_id": call["function_id"],
    });
    for (key, value) in fields.as_object().unwrap() {
        message[key] = value.clone();
    }
    message
}

/// The code and the message of a result that is an error.
pub(crate) fn error_in(result: &Value) -> (String, String) {
    let text = |key: &str| {
        let text = result["error"][key].as_str();
        text.unwrap_or_else(|| panic!("no error: {result}"))
            .to_owned()
    };
    (text("code"), text("message"))
}

pub(crate) fn item_input(group: (&str, &str), item: &str) -> Value {
    json!({"stream_name": group.0, "group_id": group.1, "item_id": item})
}

pub(crate) fn set_input(group: (&str, &str), item: &str, data: Value) -> Value {
    json!({"stream_name": group.0, "group_id": group.1, "item_id": item, "data": data})
}
