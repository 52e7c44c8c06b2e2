//! A client of the worker port: its calls, and calls of its functions.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use uuid::Uuid;

use super::{Socket, open};
use crate::support::raw::Patient;
use crate::support::{TestServer, raw};

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
