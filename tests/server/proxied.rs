//! Clients that come through a proxy: where they are counts as the proxy says, and no stranger's word does.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use iii_stream::config::Config;
use serde_json::{Value, json};

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
