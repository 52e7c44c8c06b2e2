//! The admin port: who may ask it, what it tells, and what it does to those who ask too much. Also the two
//! paths of it that the stream port has for load balancers.

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

#[test]
fn of_the_admin_port_the_stream_port_has_health_and_readiness_alone() {
    let (server, _) = start();
    let stream = server.stream();
    let health = get(stream, "/health");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(get(stream, "/ready").status, 200);
    for path in [
        "/metrics",
        "/admin/overview",
        "/admin/groups",
        "/admin/sockets",
        "/admin/history",
    ] {
        let answer = get(stream, path);
        assert!(answer.status >= 400, "{path}: {answer:?}");
        assert!(!answer.body.contains("iii_stream"), "{path}: {answer:?}");
    }
}

#[test]
fn without_the_token_nothing_is_told_but_whether_the_server_is_there() {
    let (_server, admin) = start_with(Some("s3cret"));
    for path in ["/health", "/ready", "/"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    let told = [
        "/metrics",
        "/admin/overview",
        "/admin/history",
        "/admin/groups",
        "/admin/sockets",
        "/admin/closed",
        "/admin/group/s/g",
        "/admin/nothing",
    ];
    for path in told {
        for token in [
            "",
            "authorization: Bearer s3cre\r\n",
            "authorization: s3cret\r\n",
        ] {
            let answer = get_with(admin, path, token);
            assert_eq!(answer.status, 401, "{path} {token}");
            assert!(
                answer.head.contains("www-authenticate: Bearer"),
                "{answer:?}"
            );
            assert!(!answer.body.contains("s3cret"), "{answer:?}");
        }
        let answer = get_with(admin, path, "authorization: Bearer s3cret\r\n");
        assert_ne!(answer.status, 401, "{path}");
    }
}

#[test]
fn a_page_of_elsewhere_gets_nothing() {
    let (_server, admin) = start();
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:9464",
    ] {
        for path in ["/", "/metrics", "/admin/overview"] {
            let answer = ask(
                admin,
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            );
            assert_eq!(answer.status, 403, "{host} {path}");
        }
    }
    for origin in ["http://evil.example", "null", "http://localhost"] {
        let answer = get_with(admin, "/admin/overview", &format!("origin: {origin}\r\n"));
        assert_eq!(answer.status, 403, "{origin}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
    }
    let own = get_with(
        admin,
        "/admin/overview",
        &format!("origin: http://{admin}\r\n"),
    );
    assert_eq!(own.status, 200);
    let without_host = ask(admin, "GET /metrics HTTP/1.1\r\n\r\n");
    assert_eq!(without_host.status, 400);
}

#[test]
fn what_is_asked_wrongly_is_answered_with_its_status() {
    let (_server, admin) = start();
    let ask_line = |line: &str, more: &str| {
        let answer = ask(
            admin,
            format!("{line} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n"),
        );
        assert!(answer.json()["error"].is_string(), "{line}: {answer:?}");
        (answer.status, answer.head)
    };
    for path in [
        "/nothing",
        "/admin",
        "/admin/",
        "/admin/other",
        "/metrics/",
        "/admin/group/s",
        "/../etc/passwd",
    ] {
        assert_eq!(ask_line(&format!("GET {path}"), "").0, 404, "{path}");
    }
    assert_eq!(ask_line("GET /admin/group/s/nobody-knows", "").0, 404);
    let own = "origin: http://localhost\r\n";
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let (status, head) = ask_line(&format!("{method} /admin/overview"), own);
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: GET, HEAD"), "{head}");
    }
    for query in [
        "groups?limit=0",
        "groups?sort=x",
        "closed?reason=x",
        "history?seconds=-1",
    ] {
        assert_eq!(
            ask_line(&format!("GET /admin/{query}"), "").0,
            400,
            "{query}"
        );
    }
    assert_eq!(
        ask_line("POST /metrics", "content-length: 1048577\r\n").0,
        413
    );
    let long = format!("x: {}\r\n", "x".repeat(40_000));
    assert_eq!(ask_line("GET /metrics", &long).0, 431);
    assert_eq!(ask(admin, "\x16\x03\x01\x02\0\x01\r\n\r\n").status, 400);
}

#[test]
fn who_is_slow_is_let_go_after_its_time_and_holds_nobody_up() {
    let (_server, admin) = start();
    let began = Instant::now();
    let mut silent = raw::connect(admin);
    let mut slow = raw::connect(admin);
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: local")
        .unwrap();
    for _ in 0..20 {
        assert_eq!(get(admin, "/admin/overview").status, 200);
    }
    let others = began.elapsed();
    assert!(others < Duration::from_secs(8), "{others:?} for 20 answers");
    assert_eq!(raw::read_to_end(&mut silent), b"");
    assert_eq!(raw::read_to_end(&mut slow), b"");
    let held = began.elapsed();
    assert!(held >= Duration::from_secs(9), "let go after {held:?}");
}

/// Each answer is larger than the kernel takes for a reader that reads nothing.
#[test]
fn who_asks_and_never_reads_is_bounded_and_let_go_and_harms_nobody() {
    const ITEMS: usize = 100;
    const VALUE_BYTES: usize = 9_000;
    let (server, admin) = start();
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("chat", "room"));
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..ITEMS {
        sdk.set(
            ("large", "group"),
            &n.to_string(),
            json!("x".repeat(VALUE_BYTES)),
        );
    }
    let request = b"GET /admin/group/large/group?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let whole = ask(admin, request).body.len();
    assert!(whole > ITEMS * VALUE_BYTES, "{whole}");

    let began = Instant::now();
    let mut deaf: Vec<TcpStream> = (0..2 * PEERS_MAX)
        .map(|_| {
            let mut stream = deaf_socket(admin);
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    for n in 0..20 {
        let began = Instant::now();
        assert_eq!(get(admin, "/health").status, 200);
        sdk.set(("chat", "room"), &n.to_string(), json!(n));
        subscriber.take(1);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} beside them");
    }
    assert!(
        established(admin) <= PEERS_MAX,
        "the first made room for the others"
    );
    wait_until("all are let go", || established(admin) == 0);
    let held = began.elapsed();
    assert!(
        held > Duration::from_secs(9) && held < Duration::from_secs(25),
        "let go after {held:?}"
    );
    let mut last = deaf.pop().unwrap();
    let got = raw::read_to_end(&mut last).len(); // what the kernel had, and the end
    assert!(got > 0 && got < whole, "{got} of {whole} bytes");
    assert_eq!(get(admin, "/health").status, 200);
}

/// A socket for which the other side's kernel takes little: by its segments it reckons how much.
fn deaf_socket(address: SocketAddr) -> TcpStream {
    let tcp = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, tcp, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// How many connections the kernel knows of at that port that neither side has ended.
fn established(port: SocketAddr) -> usize {
    let shown = format!(" 0100007F:{:04X} ", port.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_port = table.lines().filter_map(|line| line.split_once(&*shown));
    // Local address, the other one, state.
    let is_first = |before: &str| before.trim_end().ends_with(':');
    let states = of_port.filter(|(before, _)| is_first(before));
    states
        .filter(|(_, behind)| behind.split(' ').nth(1) == Some("01"))
        .count()
}

/// The turn that reads it is not its alone, before its request is whole and behind it.
#[test]
fn who_sends_without_end_holds_nobody_up_and_is_let_go() {
    let (_server, admin) = start();
    let began = Instant::now();
    let floods: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                let mut stream = raw::connect(admin);
                let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
                stream.write_all(request).unwrap();
                let block = vec![b'x'; 256 * 1024];
                while stream.write_all(&block).is_ok() {}
                began.elapsed()
            })
        })
        .collect();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(get(admin, "/health").status, 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} beside them");
    }
    for flood in floods {
        let ended = flood.join().unwrap();
        assert!(ended < Duration::from_secs(8), "let go after {ended:?}");
    }
}

#[test]
fn of_very_many_connections_no_more_are_kept_than_may_be_and_a_request_is_answered() {
    const CONNECTIONS: usize = 400;
    let (_server, admin) = start();
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| raw::connect(admin)).collect();
    assert_eq!(get(admin, "/health").status, 200);
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        // Nothing was asked, so whatever can be read is the end.
        let mut reader = stream;
        let is_open = reader
            .read(&mut [0])
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        is_open
    };
    // They were accepted before the one that was answered.
    let open_len = silent.iter().filter(|stream| is_open(stream)).count();
    assert!(open_len <= PEERS_MAX, "{open_len} are open");
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

/// What is read by a parser of Prometheus, JSON or HTML stays what it is: a name.
#[test]
fn a_name_of_quotes_lines_and_markup_is_inert_wherever_it_is_told() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    let group = (HOSTILE, HOSTILE);
    subscriber.join("1", group);
    sdk.set(group, HOSTILE, json!({HOSTILE: HOSTILE}));

    let metrics = get(admin, "/metrics").body;
    assert!(!metrics.contains("onerror"), "{metrics}");
    let groups = json_at(admin, "/admin/groups");
    let row = &rows(&groups, "groups")[0];
    assert_eq!(
        (&row["stream"], &row["group"]),
        (&json!(HOSTILE), &json!(HOSTILE))
    );
    let sockets = json_at(admin, "/admin/sockets");
    assert_eq!(
        rows(&sockets, "sockets")[0]["groups"],
        json!([[HOSTILE, HOSTILE]])
    );
    let shown = json_at(
        admin,
        &format!("/admin/group/{HOSTILE_ESCAPED}/{HOSTILE_ESCAPED}"),
    );
    let item = &rows(&shown, "items")[0];
    assert_eq!(item["id"], HOSTILE);
    assert_eq!(item["value"], json!({HOSTILE: HOSTILE}));
    for path in ["/admin/groups", "/admin/sockets"] {
        let answer = get(admin, path);
        assert!(
            answer.head.contains("content-type: application/json"),
            "{answer:?}"
        );
        assert!(
            answer.head.contains("x-content-type-options: nosniff"),
            "{answer:?}"
        );
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'self'"),
            "{answer:?}"
        );
    }
    // What is said of a path that is not there does not repeat it.
    let missing = get(admin, &format!("/{HOSTILE_ESCAPED}?{HOSTILE_ESCAPED}=1"));
    assert!(
        missing.status == 404 && !missing.body.contains("onerror"),
        "{missing:?}"
    );
}

/// Series of that server's metrics: family and labels, and how many there are of each family.
fn series(metrics: &str) -> BTreeMap<String, usize> {
    let lines = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut families = BTreeMap::new();
    for line in lines {
        let end = line.find(['{', ' ']).unwrap();
        *families.entry(line[..end].to_owned()).or_default() += 1;
    }
    families
}

#[test]
fn there_are_as_many_series_with_ten_thousand_groups_as_with_ten() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let fill = |sdk: &mut SdkWorker, from: usize, to: usize| {
        for n in from..to {
            let (group, item) = (format!("g{n}"), format!("i{n}"));
            sdk.void("stream::set", set_input(("many", &group), &item, json!(n)));
        }
        sdk.settle();
    };
    let mut subscriber = Subscriber::connect(&server);
    fill(&mut sdk, 0, 10);
    subscriber.join("1", ("many", "g0"));
    let few = series(&get(admin, "/metrics").body);
    fill(&mut sdk, 10, 10_000);
    for n in 1..100 {
        subscriber.join(&format!("s{n}"), ("many", &format!("g{n}")));
    }
    wait_until("all groups are counted", || {
        json_at(admin, "/admin/overview")["figures"]["groups"] == 10_000
    });
    let many = series(&get(admin, "/metrics").body);
    assert_eq!(few, many);
    assert!(few.values().sum::<usize>() > 250, "{few:?}");
    let groups = json_at(admin, "/admin/groups?limit=100000");
    assert_eq!(groups["total"], 10_000);
    assert_eq!(rows(&groups, "groups").len(), 200, "rows are bounded");
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

fn item(data: &str) -> String {
    format!(r#"{{"stream_name":"s","group_id":"g","item_id":"i"{data}}}"#)
}

#[test]
fn a_change_needs_the_ports_own_origin_or_the_token() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let set = item(r#","data":1"#);
    for headers in ["", "origin: http://evil.example\r\n", "origin: null\r\n"] {
        for path in ["/admin/set", "/admin/delete"] {
            assert_eq!(post(admin, path, headers, &set).status, 403, "{headers}");
        }
    }
    assert_eq!(sdk.get(("s", "g"), "i"), None);
    let own = format!("origin: http://{admin}\r\n");
    assert_eq!(post(admin, "/admin/set", &own, &set).status, 200);
    for path in ["/admin/set", "/admin/delete"] {
        let answer = get(admin, path);
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: POST"), "{answer:?}");
    }

    let (_guarded, admin) = start_with(Some("s3cret"));
    let own = format!("origin: http://{admin}\r\n");
    let token = "authorization: Bearer s3cret\r\n";
    assert_eq!(post(admin, "/admin/set", &own, &set).status, 401);
    assert_eq!(post(admin, "/admin/set", token, &set).status, 200);
    let elsewhere = format!("{token}origin: http://evil.example\r\n");
    assert_eq!(post(admin, "/admin/set", &elsewhere, &set).status, 403);
}

#[test]
fn a_change_goes_the_way_of_an_sdk_call() {
    let (server, admin) = start();
    let own = format!("origin: http://{admin}\r\n");
    let mut sdk = SdkWorker::connect(&server);
    sdk.register("app::heard");
    sdk.trigger("t", "stream", "app::heard", json!({"stream_name": "s"}));
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("s", "g"));
    let big = r#"{"big":12345678901234567890,"b":1,"a":2}"#;
    let answer = post(
        admin,
        "/admin/set",
        &own,
        &item(&format!(r#","data":{big}"#)),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.body,
        format!(r#"{{"result":{{"new_value":{big},"old_value":null}}}}"#)
    );
    assert!(subscriber.next_text().contains(big), "as it was written");
    let fired = sdk.next_call();
    assert_eq!(
        (&fired["function_id"], &fired["data"]["id"]),
        (&json!("app::heard"), &json!("i"))
    );
    let answer = post(admin, "/admin/delete", &own, &item(""));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(subscriber.next().kind, "delete");
    assert_eq!(sdk.get(("s", "g"), "i"), None);

    for body in ["", "{", "{}", "[]", "\"x\"", &item(",\"data\":\"\\ud800\"")] {
        let answer = post(admin, "/admin/set", &own, body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let told = answer.json();
        assert!(
            told["error"].is_string() && told["code"].is_string(),
            "{told}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = post(
        admin,
        "/admin/set",
        &own,
        &item(&format!(r#","data":{deep}"#)),
    );
    assert_eq!(answer.status, 400, "{}", answer.body);
    let long = "x".repeat(2 * 1024 * 1024);
    assert_eq!(
        post(
            admin,
            "/admin/set",
            &own,
            &item(&format!(r#","data":"{long}""#))
        )
        .status,
        413
    );
    assert_eq!(
        post(admin, "/admin/set", &own, &item(",\"data\":1")).status,
        200
    );
}

#[test]
fn streams_and_their_groups_are_found_by_name_a_page_at_a_time() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    for stream in ["chat", "game", HOSTILE] {
        for n in 0..25 {
            sdk.set((stream, &format!("room-{n:02}")), "i", json!(n));
        }
    }
    let names = |shown: &Value, rows_of: &str, key: &str| -> Vec<String> {
        let rows = rows(shown, rows_of);
        rows.iter()
            .map(|row| row[key].as_str().unwrap().to_owned())
            .collect()
    };
    let streams = json_at(admin, "/admin/streams");
    assert_eq!(
        names(&streams, "streams", "stream"),
        [HOSTILE, "chat", "game"]
    );
    assert_eq!(streams["streams"][1]["groups"], 25);
    assert_eq!(streams["next"], Value::Null);
    let found = json_at(admin, "/admin/streams?contains=onerror%3D");
    assert_eq!(names(&found, "streams", "stream"), [HOSTILE]);
    let first = json_at(admin, "/admin/streams?limit=1");
    assert_eq!(first["next"], HOSTILE);

    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/admin/groups?sort=name&stream=chat&limit=10&after={after}");
        let page = json_at(admin, &path);
        all.extend(names(&page, "groups", "group"));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("room-{n:02}")).collect();
    assert_eq!(all, expected);
    let found = json_at(admin, "/admin/groups?sort=name&stream=game&contains=-1");
    assert_eq!(names(&found, "groups", "group").len(), 10);
    assert_eq!(found["groups"][0]["items"], 1, "{found}");
    let none = json_at(admin, "/admin/groups?sort=name&stream=nobody");
    assert_eq!(none["groups"], json!([]));
}

#[test]
fn any_name_leads_to_its_group_by_the_query_and_a_value_is_told_as_it_was_written() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let value = r#"{"z":12345678901234567890,"a":1.50}"#;
    for (stream, group) in [("..", "."), ("", ""), ("a/b", "%2F"), (HOSTILE, "&=#?+ ")] {
        let set = json!({"stream_name": stream, "group_id": group, "item_id": "i"}).to_string();
        let set = format!(r#"{},"data":{value}}}"#, &set[..set.len() - 1]);
        let own = format!("origin: http://{admin}\r\n");
        assert_eq!(
            post(admin, "/admin/set", &own, &set).status,
            200,
            "{stream} {group}"
        );
        let escaped =
            |name: &str| -> String { name.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let names = format!("stream={}&group={}", escaped(stream), escaped(group));
        let shown = json_at(admin, &format!("/admin/group?{names}&as=text"));
        assert_eq!(
            (&shown["stream"], &shown["group"]),
            (&json!(stream), &json!(group))
        );
        assert_eq!(shown["items"][0]["text"], value);
        let raw = get(admin, &format!("/admin/group?{names}")).body;
        assert!(raw.contains(&format!("\"value\":{value}")), "{raw}");
        let listed = json_at(
            admin,
            &format!("/admin/groups?sort=name&stream={}", escaped(stream)),
        );
        assert_eq!(listed["groups"][0]["group"], group, "{listed}");
    }
    assert_eq!(rows(&json_at(admin, "/admin/streams"), "streams").len(), 4);
    sdk.settle();
    for query in ["", "?stream=s", "?stream=s&group=g&as=x"] {
        assert_eq!(
            get(admin, &format!("/admin/group{query}")).status,
            400,
            "{query}"
        );
    }
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
