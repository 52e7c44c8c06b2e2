//! A subscriber and an SDK worker, as programs are that use the two ports.

mod sdk_worker;
mod subscriber;

use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use tungstenite::WebSocket;
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::protocol::WebSocketConfig;

use super::raw::Patient;
use super::wait_until;

pub(crate) use sdk_worker::{SdkWorker, answer_to, error_in, item_input, set_input};
pub(crate) use subscriber::{Heard, Subscriber, join, leave};

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
