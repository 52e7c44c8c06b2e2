//! The admin port: what it tells. Also the two paths of it that the stream port has for load balancers.

mod access;
mod changes;
mod costs;
mod names;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iii_stream::admin::PEERS_MAX;
use iii_stream::config::{self, Endpoint};
use iii_stream::metrics::BOUNDS_US;
use iii_stream::shard::Decides;
use serde_json::{Value, json};

use crate::support::clients::set_input;
use crate::support::raw;
use crate::support::{
    DEADLINE, ONE_WORKER, SdkWorker, SharedCues, Subscriber, THREE_WORKERS, TestServer, wait_until,
};

/// A name that breaks what does not escape it: quotes, lines, braces, markup.
pub(crate) const HOSTILE: &str = "a\"\n{b}<img src=x onerror=alert(1)>";
/// The same as a part of a path.
const HOSTILE_ESCAPED: &str = "a%22%0A%7Bb%7D%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E";

/// An admin port on a free port.
pub(crate) fn open_port(token: Option<&str>) -> config::Admin {
    config::Admin {
        endpoint: Endpoint::new("127.0.0.1", 0),
        token: token.map(str::to_owned),
        ..config::Admin::default()
    }
}

/// A server with an admin port, and where that is.
fn start() -> (TestServer, SocketAddr) {
    start_with(None)
}

fn start_with(token: Option<&str>) -> (TestServer, SocketAddr) {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.admin = Some(open_port(token));
    });
    let address = server.running().admin_address().unwrap();
    (server, address)
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Asks in these very words.
pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = raw::connect(address);
    // It may be answered, and ended, before all of a large request is taken.
    let _ = stream.write_all(request.as_ref());
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> Answer {
    let text = String::from_utf8(raw::read_to_end(stream)).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Asks for a path as a browser does, with further header lines.
fn get_with(address: SocketAddr, path: &str, headers: &str) -> Answer {
    ask(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n"),
    )
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, "")
}

/// The JSON at a path, which is there.
fn json_at(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// The rows under that key.
fn rows(shown: &Value, key: &str) -> Vec<Value> {
    shown[key].as_array().unwrap().clone()
}

#[test]
fn every_path_tells_what_it_is_asked_for() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("chat", "room"));
    for item in ["a", "b", "c"] {
        sdk.set(("chat", "room"), item, json!({"name": item}));
    }
    subscriber.take(3);

    assert_eq!(
        json_at(admin, "/health"),
        json!({"healthy": true, "silent": null, "silent_ms": null})
    );
    assert_eq!(
        json_at(admin, "/ready"),
        json!({"ready": true, "reason": null})
    );

    let metrics = get(admin, "/metrics");
    let buckets = metrics
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("iii_stream_delivery_seconds_bucket{le=\""));
    let mut ends: Vec<&str> = buckets
        .map(|line| line.split('"').next().unwrap())
        .collect();
    assert_eq!(ends.pop(), Some("+Inf"), "of what took longest");
    let seconds = ends.iter().map(|end| end.parse::<f64>().unwrap());
    let expected = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
    assert!(seconds.eq(expected), "{ends:?}");
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    assert!(
        metrics.body.contains("\niii_stream_ready 1\n"),
        "{metrics:?}"
    );

    // Figures are read once a second.
    wait_until("the three events are counted", || {
        json_at(admin, "/admin/overview")["figures"]["events"] == 3
    });
    let overview = json_at(admin, "/admin/overview");
    assert_eq!(overview["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(overview["stream"], server.stream().to_string());
    assert_eq!(overview["ready"], true);
    assert_eq!(overview["store"]["kind"], "in_memory");
    let threads = rows(&overview, "threads");
    let names: Vec<&str> = threads
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["worker-0", "worker-1", "worker-2", "engine", "admin"]
    );
    for figure in ["connections", "subscriptions", "groups"] {
        assert_eq!(overview["figures"][figure], 1, "{figure}: {overview}");
    }
    assert_eq!(overview["figures"]["items"], 3);

    let history = json_at(
        admin,
        "/admin/history?seconds=600&series=events,connections",
    );
    let times = rows(&history, "at_ms");
    let series = history["series"].as_object().unwrap();
    assert_eq!(series.len(), 2, "{history}");
    assert!(
        !times.is_empty()
            && series
                .values()
                .all(|one| one.as_array().unwrap().len() == times.len())
    );

    let groups = json_at(admin, "/admin/groups?sort=events&limit=5");
    assert_eq!(groups["total"], 1);
    let row = &rows(&groups, "groups")[0];
    let told = ["stream", "group", "items", "events", "subscribers"].map(|key| row[key].clone());
    assert_eq!(json!(told), json!(["chat", "room", 3, 3, 1]));
    for sort in ["pace", "subscribers", "bytes"] {
        let groups = json_at(admin, &format!("/admin/groups?sort={sort}"));
        assert_eq!(rows(&groups, "groups")[0]["group"], "room", "{sort}");
    }

    for sort in ["behind", "oldest", "bytes", "subscriptions"] {
        let sockets = json_at(admin, &format!("/admin/sockets?sort={sort}"));
        assert_eq!(sockets["total"], 1, "{sort}");
        let row = &rows(&sockets, "sockets")[0];
        assert_eq!(row["groups"], json!([["chat", "room"]]), "{row}");
        assert_eq!(row["why"], "takes what it is sent");
        assert!(row["tcp"]["rtt_us"].is_u64(), "{row}");
    }

    let group = json_at(admin, "/admin/group/chat/room?limit=2");
    assert_eq!(
        (&group["items_len"], &group["subscribers"]),
        (&json!(3), &json!(1))
    );
    let ids = |page: &Value| -> Vec<Value> {
        rows(page, "items")
            .iter()
            .map(|item| item["id"].clone())
            .collect()
    };
    assert_eq!(ids(&group).len(), 2);
    let rest = json_at(
        admin,
        &format!("/admin/group/chat/room?limit=2&from={}", group["next"]),
    );
    assert_eq!(rest["next"], Value::Null);
    let mut all = [ids(&group), ids(&rest)].concat();
    all.sort_by_key(Value::to_string);
    assert_eq!(json!(all), json!(["a", "b", "c"]));
    assert_eq!(
        rows(&rest, "items")[0]["value"]["name"],
        rows(&rest, "items")[0]["id"]
    );

    drop(subscriber);
    wait_until("the socket is among the closed", || {
        !rows(&json_at(admin, "/admin/closed"), "closed").is_empty()
    });
    let closed = json_at(admin, "/admin/closed");
    assert_eq!(rows(&closed, "closed")[0]["subscriptions"], 1, "{closed}");
    let of_reason = json_at(admin, "/admin/closed?reason=stalled&limit=4096");
    assert!(rows(&of_reason, "closed").is_empty(), "{of_reason}");
}

#[test]
fn what_is_answered_to_head_is_the_head_alone() {
    let (_server, admin) = start();
    for path in ["/health", "/ready", "/metrics", "/admin/overview", "/"] {
        let head = ask(
            admin,
            format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        );
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        assert!(
            !head.head.contains("content-length: 0"),
            "{path}: {}",
            head.head
        );
    }
}

#[test]
fn without_the_page_its_files_are_not_there_and_all_else_is() {
    let server = TestServer::with(ONE_WORKER, |config| {
        config.admin = Some(config::Admin {
            page: false,
            ..open_port(None)
        });
    });
    let admin = server.running().admin_address().unwrap();
    for path in ["/", "/page.js", "/page.css", "/icon.svg"] {
        assert_eq!(get(admin, path).status, 404, "{path}");
    }
    assert_eq!(json_at(admin, "/admin/overview")["page"], false);
    assert_eq!(get(admin, "/metrics").status, 200);
}

#[test]
fn readiness_says_why_not_on_both_ports() {
    let cues = SharedCues::default();
    let server = TestServer::on_double_with(ONE_WORKER, Decides::Owner, &cues, |config| {
        config.admin = Some(open_port(None));
    });
    let admin = server.running().admin_address().unwrap();
    let ports = [admin, server.stream()];
    for port in ports {
        let ready = get(port, "/ready");
        assert_eq!(
            (ready.status, &*ready.body),
            (200, r#"{"ready":true,"reason":null}"#)
        );
    }
    let mut sdk = SdkWorker::connect(&server);
    cues.refuse_after(0);
    sdk.error_of("stream::set", set_input(("s", "g"), "i", json!(1)));
    for port in ports {
        let ready = get(port, "/ready");
        let told = json!({"ready": false, "reason": "store refuses writes"});
        assert_eq!((ready.status, ready.json()), (503, told));
    }
    sdk.set(("s", "g"), "i", json!(1));
    assert_eq!(get(admin, "/ready").status, 200);
    server.shared().drain();
    let ready = get(admin, "/ready");
    let told = json!({"ready": false, "reason": "draining"});
    assert_eq!((ready.status, ready.json()), (503, told));
    assert_eq!(
        get(admin, "/health").status,
        200,
        "it turns as long as it ends"
    );
}

/// A reader that takes nothing is told of within two seconds and with its reason, and again after its end.
#[test]
fn a_stalled_reader_is_the_first_of_the_slowest_and_then_among_the_closed() {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.admin = Some(open_port(None));
    });
    let admin = server.running().admin_address().unwrap();
    let room = ("chat", "room");
    let mut others: Vec<Subscriber> = (0..8).map(|_| Subscriber::connect(&server)).collect();
    for other in &mut others {
        other.join("1", room);
    }
    let mut stalled = raw::upgrade(raw::connect_narrow(server.stream()), "/stream/chat/room/");
    let peer = stalled.local_addr().unwrap().to_string();
    raw::read_frame(&mut stalled); // its `sync`: it is in
    let mut sdk = SdkWorker::connect(&server);
    let value = "x".repeat(100_000);
    for n in 0..100 {
        sdk.set(room, &format!("{n}"), json!(value));
    }
    let began = Instant::now();
    let mut row = Value::Null;
    wait_until("it is the first of the slowest", || {
        let sockets = json_at(admin, "/admin/sockets?sort=behind&limit=3");
        row = rows(&sockets, "sockets")[0].clone();
        row["peer"] == *peer && row["blocked_ms"].as_u64() > Some(0)
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "after {took:?}");
    let why = row["why"].as_str().unwrap();
    assert!(why.contains("has taken no byte for"), "{row}");
    assert!(row["behind_bytes"].as_u64() > Some(100_000), "{row}");
    assert!(row["behind_events"].as_u64() > Some(0), "{row}");

    // It says that it ends, and does not wait for an answer.
    stalled
        .write_all(&raw::frame(
            0x88,
            &[&4001_u16.to_be_bytes()[..], b"enough"].concat(),
        ))
        .unwrap();
    let mut row = Value::Null;
    wait_until("it is among the closed", || {
        let closed = json_at(admin, "/admin/closed?reason=client");
        row = rows(&closed, "closed").first().cloned().unwrap_or_default();
        row["peer"] == *peer
    });
    assert_eq!(
        (&row["reason"], &row["code"]),
        (&json!("client"), &json!(4001)),
        "{row}"
    );
    assert!(row["behind_bytes"].as_u64() > Some(100_000), "{row}");
    assert!(row["behind_events"].as_u64() > Some(0), "{row}");
    assert!(row["blocked_ms"].is_u64(), "{row}");
    drop(others);
}

/// Asks for a change, as the page does: from the port's own origin.
fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    ask(
        address,
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

/// What Prometheus itself says of the metrics: nothing.
#[test]
fn prometheus_has_nothing_against_the_metrics() {
    if !crate::support::browser::is_there("promtool") {
        let required = std::env::var("SDK_TESTS").is_ok_and(|value| value == "required");
        assert!(!required, "promtool is not installed: run tests/run");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: promtool is not installed: run tests/run"
        );
        return;
    }
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    sdk.set((HOSTILE, HOSTILE), HOSTILE, json!(1));
    promtool_says_nothing(&get(admin, "/metrics").body);
}

/// `promtool check metrics` finds no fault.
pub(crate) fn promtool_says_nothing(metrics: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut promtool = promtool
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8(said).unwrap(), "", "{metrics}");
    assert!(output.status.success());
}
