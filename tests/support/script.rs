//! An engine that does what a test tells it to, word for word: the port that an attached server
//! connects to.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, accept};

use super::clients::answer_to;
use super::{DEADLINE, wait_until};

/// What the server registers, in this order.
pub(crate) const STREAM_FUNCTIONS: [&str; 8] = [
    "stream::set",
    "stream::get",
    "stream::delete",
    "stream::list",
    "stream::list_groups",
    "stream::list_all",
    "stream::send",
    "stream::update",
];

pub(crate) struct ScriptedEngine {
    listener: TcpListener,
}

impl ScriptedEngine {
    pub(crate) fn start() -> ScriptedEngine {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        ScriptedEngine { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// The next socket, before its upgrade.
    pub(crate) fn accept_bare(&self) -> TcpStream {
        let mut accepted = None;
        wait_until("the server connects", || match self.listener.accept() {
            Ok((stream, _)) => {
                accepted = Some(stream);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        });
        let stream = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The next socket, upgraded.
    pub(crate) fn accept(&self) -> ScriptedLink {
        ScriptedLink {
            socket: accept(self.accept_bare()).unwrap(),
            deferred: None,
        }
    }

    /// The next socket, its registrations taken and its questions answered.
    pub(crate) fn attach(&self, triggers: &[Value], functions: &[&str]) -> ScriptedLink {
        let mut link = self.accept();
        let list = link.registrations().pop().unwrap();
        link.answer_list(&list, functions);
        let list = link.types();
        for trigger in triggers {
            link.send(trigger);
        }
        for trigger in triggers {
            let result = link.next();
            assert_eq!(result["type"], "triggerregistrationresult", "{result}");
            assert_eq!(result["id"], trigger["id"]);
            assert!(result.get("error").is_none(), "{result}");
        }
        link.answer_list(&list, functions);
        link.settle();
        link
    }
}

/// The engine's end of the link.
pub(crate) struct ScriptedLink {
    pub(crate) socket: WebSocket<TcpStream>,
    /// A question that is answered together with the next one about functions.
    deferred: Option<(Value, Value)>,
}

impl ScriptedLink {
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(text.as_str()).expect("JSON");
                }
                Ok(Message::Ping(_)) => {} // answered by the next read
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
    }

    /// All that a server says of its own accord: the last message asks which functions there are.
    pub(crate) fn registrations(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            let message = self.next();
            let is_last = message["function_id"] == "engine::functions::list";
            messages.push(message);
            if is_last {
                return messages;
            }
        }
    }

    /// Hears all that a server says of its own accord and answers its questions: there are the functions
    /// of streams, and these. What it has said is given, up to the first question about functions.
    pub(crate) fn greet(&mut self, functions: &[&str]) -> Vec<Value> {
        let said = self.registrations();
        self.answer_list(said.last().unwrap(), functions);
        let list = self.types();
        self.answer_list(&list, functions);
        self.settle();
        said
    }

    /// The types follow when the first list has been answered. Answers the question about them, and
    /// gives the second one about functions: what is said before its answer is known with it.
    pub(crate) fn types(&mut self) -> Value {
        let types = ["stream", "stream:join", "stream:leave"];
        for id in types {
            let message = self.next();
            assert_eq!(message["type"], "registertriggertype", "{message}");
            assert_eq!(message["id"], id);
        }
        let asked = self.next_call("engine::trigger-types::list");
        let list = self.next_call("engine::functions::list");
        let listed = types.map(|id| json!({"id": id, "description": ""}));
        self.deferred = Some((asked, json!({"result": {"trigger_types": listed}})));
        list
    }

    /// Tells of the eight functions of streams, which are the server's, and of these.
    pub(crate) fn answer_list(&mut self, call: &Value, functions: &[&str]) {
        let ours = STREAM_FUNCTIONS.iter().chain(functions);
        let entries = ours.map(|id| json!({"function_id": id, "description": null}));
        self.answer_rows(call, entries.collect());
    }

    /// Tells of just these functions.
    pub(crate) fn answer_rows(&mut self, call: &Value, rows: Vec<Value>) {
        assert_eq!(call["function_id"], "engine::functions::list");
        if let Some((asked, answer)) = self.deferred.take() {
            self.answer(&asked, answer);
        }
        self.answer(call, json!({"result": {"functions": rows}}));
    }

    pub(crate) fn answer(&mut self, call: &Value, fields: Value) {
        self.send(&answer_to(call, &fields));
    }

    /// Calls one of the server's functions.
    pub(crate) fn start(&mut self, function_id: &str, data: Value) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        self.send(&json!({
            "type": "invokefunction", "invocation_id": id, "function_id": function_id, "data": data,
        }));
        id
    }

    /// Everything that it has sent so far has taken effect, and nothing else has come.
    pub(crate) fn settle(&mut self) {
        self.send(&json!({"type": "ping"}));
        assert_eq!(self.next(), json!({"type": "pong"}));
    }

    /// The next message is a call of that function.
    pub(crate) fn next_call(&mut self, function_id: &str) -> Value {
        let call = self.next();
        assert_eq!(call["type"], "invokefunction", "{call}");
        assert_eq!(call["function_id"], function_id, "{call}");
        call
    }

    /// Ends the link; when it returns, the server knows.
    pub(crate) fn end(mut self) {
        self.socket.close(None).unwrap();
        while self.socket.read().is_ok() {}
    }
}

/// A trigger as an engine hands it over.
pub(crate) fn trigger(id: &str, trigger_type: &str, function_id: &str, config: Value) -> Value {
    json!({"type": "registertrigger", "id": id, "trigger_type": trigger_type,
        "function_id": function_id, "config": config})
}
