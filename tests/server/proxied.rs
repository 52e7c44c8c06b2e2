//! Clients that come through a proxy: where they are counts as the proxy says, and no stranger's word does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use iii_stream::config::Config;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::process::Directory;
use crate::support::tls::{Localhost, TlsStream, Tunnel, connect};
use crate::support::{ONE_WORKER, SdkWorker, TestServer, raw};

fn server(trusted: &[&str], change: impl FnOnce(&mut Config)) -> (TestServer, SdkWorker) {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.auth.function = Some("auth".to_owned());
        config.trusted_proxies.0 = trusted.iter().map(|text| text.parse().unwrap()).collect();
        change(config);
    });
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("auth");
    sdk.settle();
    (server, sdk)
}

/// A request behind these bytes, with these headers.
fn request(address: SocketAddr, before: &[u8], headers: &str) -> TcpStream {
    let mut stream = raw::connect(address);
    let head = raw::upgrade_request("/", headers);
    stream
        .write_all(&[before, head.as_bytes()].concat())
        .unwrap();
    stream
}

/// What the auth function is told of a request of such bytes, and the status when it admits.
fn asked(
    server: &TestServer,
    sdk: &mut SdkWorker,
    before: &[u8],
    headers: &str,
) -> (Value, String) {
    let mut stream = request(server.stream(), before, headers);
    let call = sdk.next_call_of("auth");
    sdk.answer(&call, json!({"result": {}}));
    let status = raw::read_head(&mut stream)[9..12].to_owned();
    (call["data"]["addr"].clone(), status)
}

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 3112\r\n";
const FORWARDED: &str = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n";

#[test]
fn the_word_of_a_trusted_proxy_is_the_address_that_the_auth_function_gets() {
    let (server, mut sdk) = server(&["127.0.0.0/8"], |_| {});
    let admitted = |addr: &str| (json!(addr), "101".to_owned());
    assert_eq!(
        asked(&server, &mut sdk, b"", FORWARDED),
        admitted("203.0.113.7:0")
    );
    assert_eq!(
        asked(&server, &mut sdk, LINE, ""),
        admitted("203.0.113.9:4711")
    );
    // Who has come by the line is a client, whose own header is no proxy's word.
    assert_eq!(
        asked(&server, &mut sdk, LINE, FORWARDED),
        admitted("203.0.113.9:4711")
    );
    let (addr, status) = asked(&server, &mut sdk, b"", "");
    assert!(addr.as_str().unwrap().starts_with("127.0.0.1:") && status == "101");
}

#[test]
fn a_lying_header_of_a_stranger_changes_nothing_and_its_line_is_no_request() {
    let (server, mut sdk) = server(&["10.0.0.0/8"], |_| {});
    let (addr, status) = asked(&server, &mut sdk, b"", FORWARDED);
    assert!(addr.as_str().unwrap().starts_with("127.0.0.1:"), "{addr}");
    assert_eq!(status, "101");
    let head = raw::read_head(&mut request(server.stream(), LINE, ""));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let head = raw::read_head(&mut request(server.worker(), LINE, ""));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[test]
fn clients_of_a_proxy_are_counted_each_by_its_own_address() {
    let (server, _) = server(&["127.0.0.1"], |config| {
        config.auth.function = None;
        config.limits.connections_per_address = 1;
    });
    let status = |ip: &str| {
        let header = format!("X-Forwarded-For: {ip}\r\n");
        let mut stream = request(server.stream(), b"", &header);
        (raw::read_head(&mut stream)[9..12].to_owned(), stream)
    };
    let (first, held) = status("203.0.113.1");
    let (other, _held) = status("203.0.113.2");
    assert_eq!((&*first, &*other), ("101", "101"));
    assert_eq!(status("203.0.113.1").0, "503");
    drop(held);
    crate::support::wait_until("its place is free", || status("203.0.113.1").0 == "101");
}

/// The line in its other form: from 203.0.113.9, port 4711.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\x12\x67\x0c\x28";

/// A server whose ports are both under TLS, behind proxies at these addresses.
struct UnderTls {
    server: TestServer,
    localhost: Localhost,
    sdk: SdkWorker,
    _tunnel: Tunnel,
    _directory: Directory,
}

impl UnderTls {
    fn start(trusted: &[&str]) -> UnderTls {
        let localhost = Localhost::make();
        let directory = Directory::new("proxied");
        let files = localhost.write(&directory.0);
        let server = TestServer::with(ONE_WORKER, |config| {
            config.auth.function = Some("auth".to_owned());
            config.trusted_proxies.0 = trusted.iter().map(|text| text.parse().unwrap()).collect();
            config.tls = Some(files.clone());
            config.worker_tls = Some(files);
        });
        let tunnel = Tunnel::to(server.worker(), localhost.client(&[&TLS12, &TLS13]));
        let mut sdk = SdkWorker::to(tunnel.address);
        sdk.register("auth");
        sdk.settle();
        UnderTls {
            server,
            localhost,
            sdk,
            _tunnel: tunnel,
            _directory: directory,
        }
    }

    /// A socket that sends these bytes, and then begins a session. `at_once`: in one go.
    fn connect(&self, to: SocketAddr, before: &[u8], at_once: bool) -> TlsStream {
        let mut stream = connect(to, self.localhost.client(&[&TLS12, &TLS13]));
        let mut first = before.to_vec();
        if at_once {
            stream.conn.write_tls(&mut first).unwrap();
        }
        stream.sock.write_all(&first).unwrap();
        stream
    }
}

/// Asks for an upgrade, and gives the first line of the answer.
fn upgraded(stream: &mut TlsStream, headers: &str) -> io::Result<String> {
    stream.write_all(raw::upgrade_request("/", headers).as_bytes())?;
    answered(stream)
}

fn answered(stream: &mut TlsStream) -> io::Result<String> {
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[test]
fn a_proxy_that_hands_tls_through_says_before_the_handshake_where_the_client_is() {
    let mut tls = UnderTls::start(&["127.0.0.1"]);
    for before in [LINE, BINARY] {
        for at_once in [true, false] {
            let mut stream = tls.connect(tls.server.stream(), before, at_once);
            // The header is the client's own, for the proxy does not see it.
            let request = raw::upgrade_request("/", FORWARDED);
            stream.write_all(request.as_bytes()).unwrap();
            let call = tls.sdk.next_call_of("auth");
            assert_eq!(call["data"]["addr"], "203.0.113.9:4711");
            tls.sdk.answer(&call, json!({"result": {}}));
            assert_eq!(answered(&mut stream).unwrap(), "HTTP/1.1 101");
            let mut stream = tls.connect(tls.server.worker(), before, at_once);
            assert_eq!(upgraded(&mut stream, "").unwrap(), "HTTP/1.1 101");
        }
    }
    // Whom the proxy speaks for says nothing of the kind.
    let mut stream = tls.connect(tls.server.stream(), LINE, true);
    stream.write_all(LINE).unwrap();
    assert_eq!(upgraded(&mut stream, "").unwrap(), "HTTP/1.1 400");
}

#[test]
fn a_line_of_a_stranger_before_the_handshake_ends_the_connection_and_costs_nobody_else() {
    let tls = UnderTls::start(&["10.0.0.0/8"]);
    for to in [tls.server.stream(), tls.server.worker()] {
        for before in [LINE, BINARY] {
            let mut stream = tls.connect(to, before, true);
            upgraded(&mut stream, "").unwrap_err();
        }
        let mut stream = tls.connect(to, b"", true);
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        assert!(answered(&mut stream).unwrap().starts_with("HTTP/1.1 "));
    }
}
