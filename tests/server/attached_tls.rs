//! The process attached to an engine behind TLS: it trusts whom the system, or `SSL_CERT_FILE`, trusts.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket, accept, accept_hdr};

use crate::support::DEADLINE;
use crate::support::process::{Directory, Process, outcome};
use crate::support::tls::Localhost;

type Link = WebSocket<StreamOwned<ServerConnection, TcpStream>>;

/// An engine's port with a certificate for `localhost` of an authority of its own.
struct Engine {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    authority: String,
}

impl Engine {
    fn start() -> Engine {
        let localhost = Localhost::make();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![localhost.certificate.der().clone()],
                PrivateKeyDer::Pkcs8(localhost.key.serialize_der().into()),
            )
            .unwrap();
        Engine {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            config: Arc::new(config),
            authority: localhost.authority,
        }
    }

    fn url(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!("wss://localhost:{port}")
    }

    fn accept_bare(&self) -> StreamOwned<ServerConnection, TcpStream> {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let session = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        StreamOwned::new(session, stream)
    }

    fn accept(&self) -> Link {
        accept(self.accept_bare()).unwrap()
    }
}

/// The program, attached to an engine; it trusts whom a file says.
fn start(test: &str, url: &str, trusted: &str) -> Process {
    let directory = Directory::new(test).with_file("host: 127.0.0.1\nport: 0\n");
    std::fs::write(directory.0.join("trusted.pem"), trusted).unwrap();
    let mut command = directory.command(&["--config", "config.yaml", "--engine", url]);
    command.env("SSL_CERT_FILE", "trusted.pem");
    let mut process = Process::spawn(command);
    process.directory = Some(directory);
    process
}

fn next(link: &mut Link) -> Value {
    match link.read() {
        Ok(Message::Text(text)) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("expected a text frame, got {other:?}"),
    }
}

#[test]
fn the_link_goes_through_tls() {
    let engine = Engine::start();
    let process = start("tls", &engine.url(), &engine.authority);
    let mut link = engine.accept();
    while next(&mut link)["function_id"] != "engine::functions::list" {}
    // Larger than any buffer on the way, in both directions.
    let value = "x".repeat(900_000);
    for number in 0..3 {
        let input = json!({"stream_name": "s", "group_id": "g", "item_id": "i", "data": value});
        let id = format!("00000001-0000-4000-8000-00000000000{number}");
        let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set", "data": input});
        link.send(Message::text(call.to_string())).unwrap();
        let result = next(&mut link);
        assert_eq!(result["invocation_id"], json!(id));
        assert_eq!(result["result"]["new_value"], json!(value));
    }
    drop(process);
}

#[test]
fn an_engine_that_nobody_vouches_for_is_not_attached_to() {
    let (engine, stranger) = (Engine::start(), Engine::start());
    let process = start("untrusted", &engine.url(), &stranger.authority);
    let mut socket = engine.accept_bare();
    let mut byte = [0];
    assert!(
        socket.read(&mut byte).is_err(),
        "no byte of ours gets through"
    );
    let line = process.line_with("cannot attach to the engine at wss://localhost:");
    assert!(line.contains("invalid peer certificate"), "{line}");
}

#[test]
fn a_call_from_the_command_line_goes_through_tls_and_bears_a_login() {
    let engine = Engine::start();
    let directory = Directory::new("tls-call");
    std::fs::write(directory.0.join("trusted.pem"), &engine.authority).unwrap();
    let url = engine.url().replace("wss://", "wss://me:s3cret@");
    let mut command = directory.command(&["call", "f", "{\"a\":1}", "--engine", &url]);
    command.env("SSL_CERT_FILE", "trusted.pem");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut login = None;
    #[allow(clippy::result_large_err, reason = "tungstenite's own")]
    let heads = |request: &Request, response: Response| {
        login = request.headers().get("authorization").cloned();
        Ok(response)
    };
    let mut link = accept_hdr(engine.accept_bare(), heads).unwrap();
    link.send(Message::text(
        r#"{"type":"workerregistered","worker_id":"1"}"#,
    ))
    .unwrap();
    let call = next(&mut link);
    assert_eq!(
        (&call["function_id"], &call["data"]),
        (&json!("f"), &json!({"a": 1}))
    );
    let value = "x".repeat(900_000);
    let answer = json!({
        "type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "f",
        "result": value,
    });
    link.send(Message::text(answer.to_string())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, format!("\"{value}\"\n"));
    assert_eq!(login.unwrap(), "Basic bWU6czNjcmV0");

    // Nobody who is not trusted gets the login, and no message shows it.
    let mut command = directory.command(&["call", "f", "--engine", &url]);
    command.env("SSL_CERT_FILE", "none.pem");
    let (code, said) = outcome(command.output().unwrap());
    assert_eq!(code, Some(1));
    assert!(
        said.contains("certificates: ") && !said.contains("s3cret"),
        "{said}"
    );
}
