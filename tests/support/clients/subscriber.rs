//! A client of the stream port, and what it is told.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use super::{SdkWorker, Socket, open};
use crate::support::raw::Patient;
use crate::support::{TestServer, raw};

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
