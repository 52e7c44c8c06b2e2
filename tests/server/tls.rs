//! Both ports under TLS: who connects, what goes over it, what is turned away, and new certificates while
//! sockets are open. Its files, and what is wrong with them, are in `tls_files`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iii_stream::config::{Config, MinVersion, TlsFiles};
use iii_stream::net::tls::trust_only;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::admin;
use crate::sdks::SDKS;
use crate::support::browser::is_there;
use crate::support::process::Directory;
use crate::support::program::Program;
use crate::support::tls::{Localhost, Tunnel, connect, shown};
use crate::support::{
    DEADLINE, SdkWorker, Shape, Subscriber, THREE_WORKERS, TestServer, on_each_shape, raw,
    wait_until,
};

const ROOM: (&str, &str) = ("chat", "room-1");

/// A server whose ports are both under TLS.
struct Secured {
    server: TestServer,
    localhost: Localhost,
    directory: Directory,
}

impl Secured {
    fn start(shape: Shape) -> Secured {
        Secured::with(shape, |_, _| {})
    }

    fn with(shape: Shape, change: impl FnOnce(&mut TlsFiles, &mut Config)) -> Secured {
        let localhost = Localhost::make();
        let directory = Directory::new("tls");
        let mut files = localhost.write(&directory.0);
        let server = TestServer::with(shape, |config| {
            change(&mut files, config);
            config.tls = Some(files.clone());
            config.worker_tls = Some(files);
        });
        Secured {
            server,
            localhost,
            directory,
        }
    }

    fn tunnel(&self, to: SocketAddr) -> Tunnel {
        Tunnel::to(to, self.localhost.client(&[&TLS12, &TLS13]))
    }

    /// Ways to both ports for clients that speak no TLS.
    fn tunnels(&self) -> (Tunnel, Tunnel) {
        let ports = (self.server.stream(), self.server.worker());
        (self.tunnel(ports.0), self.tunnel(ports.1))
    }

    fn ports(&self) -> [SocketAddr; 2] {
        [self.server.stream(), self.server.worker()]
    }

    /// What the port shows to one more client.
    fn shown(&self, port: SocketAddr) -> Vec<u8> {
        shown(port, self.localhost.client(&[&TLS13])).unwrap()
    }
}

#[test]
fn subscribers_and_sdk_workers_hear_and_call_through_tls() {
    on_each_shape(|shape| {
        let secured = Secured::start(shape);
        let (stream, worker) = secured.tunnels();
        let mut sdk = SdkWorker::to(worker.address);
        let mut subscribers: Vec<Subscriber> =
            (0..12).map(|_| Subscriber::to(stream.address)).collect();
        for subscriber in &mut subscribers {
            subscriber.join("s", ROOM);
        }
        // Larger than any record, buffer or socket on the way, and smaller than any.
        for size in [1, 100, 16_384, 300_000, 3_000_000] {
            let value = json!("x".repeat(size));
            sdk.set(ROOM, "i", value.clone());
            for subscriber in &mut subscribers {
                let heard = subscriber.next();
                assert!(heard.data == value, "{size}");
            }
        }
        assert_eq!(
            Subscriber::to(stream.address).join("late", ROOM).kind,
            "sync"
        );
        for subscriber in subscribers {
            subscriber.close();
        }
    });
}

#[test]
fn both_versions_are_spoken_and_others_or_too_old_ones_refused() {
    let secured = Secured::start(THREE_WORKERS);
    for port in secured.ports() {
        for version in [&TLS12, &TLS13] {
            let mut client = connect(port, secured.localhost.client(&[version]));
            hears_http(&mut client, &format!("{version:?}"));
            assert_eq!(client.conn.alpn_protocol(), None, "none was asked for");
        }
        let mut config = secured.localhost.client(&[&TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = connect(port, config);
        client.write_all(b"x").unwrap();
        assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut config = secured.localhost.client(&[&TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        assert!(shown(port, config).is_err(), "HTTP/2 alone is not spoken");
    }
    let strict = Secured::with(THREE_WORKERS, |files, _| {
        files.min_version = MinVersion::Tls13
    });
    for port in strict.ports() {
        assert!(shown(port, strict.localhost.client(&[&TLS12])).is_err());
        strict.shown(port);
    }
}

/// It is up to the client whether a name suits it.
#[test]
fn whatever_name_is_asked_for_the_certificate_is_the_same() {
    let secured = Secured::start(THREE_WORKERS);
    for port in secured.ports() {
        // By an address no name is asked for at all.
        for name in [
            "localhost",
            "other.example",
            "a.b.localhost",
            "127.0.0.1",
            "::1",
        ] {
            let config = trust_only(&secured.directory.0.join("cert.pem")).unwrap();
            let session = ClientConnection::new(config, name.try_into().unwrap()).unwrap();
            let mut client = StreamOwned::new(session, raw::Patient(raw::connect(port)));
            hears_http(&mut client, name);
            let shown = client.conn.peer_certificates().unwrap();
            assert_eq!(shown[0], *secured.localhost.certificate.der(), "{name}");
        }
    }
}

#[test]
fn openssl_speaks_what_is_spoken_and_is_refused_what_is_old() {
    let secured = Secured::start(THREE_WORKERS);
    let said = |port: SocketAddr, version: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_client", version, "-alpn", "http/1.1", "-brief", "-connect",
        ]);
        openssl.arg(port.to_string());
        openssl
            .arg("-CAfile")
            .arg(secured.directory.0.join("ca.pem"));
        openssl.args(["-cipher", "DEFAULT:@SECLEVEL=0", "-verify_return_error"]);
        let output = openssl.stdin(Stdio::null()).output();
        let Ok(output) = output else {
            return None; // not on this machine
        };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Some((output.status.success(), text))
    };
    for port in secured.ports() {
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let Some((is_connected, text)) = said(port, version) else {
                return;
            };
            assert!(is_connected && text.contains(name), "{version}: {text}");
            assert!(text.contains("Verification: OK"), "{version}: {text}");
        }
        for version in ["-tls1", "-tls1_1"] {
            let (is_connected, text) = said(port, version).unwrap();
            assert!(
                !is_connected && !text.contains("CONNECTION ESTABLISHED"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_client_that_came_before_comes_back_by_a_ticket_to_whatever_worker() {
    let secured = Secured::start(THREE_WORKERS);
    let config = secured.localhost.client(&[&TLS13]);
    let mut kinds = Vec::new();
    for worker in [0, 1, 2] {
        secured.server.steer_to(worker);
        let mut client = connect(secured.server.stream(), config.clone());
        client
            .write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        client.read_exact(&mut [0]).unwrap(); // the ticket has come before
        kinds.push(client.conn.handshake_kind());
    }
    let resumed = Some(rustls::HandshakeKind::Resumed);
    assert_eq!(kinds[1..], [resumed, resumed], "{kinds:?}");
}

#[test]
fn who_reads_slowly_hears_all_in_order_and_who_reads_nothing_holds_nobody_up() {
    let secured = Secured::with(THREE_WORKERS, |_, config| {
        config.limits.behind_bytes = 8 * 1024 * 1024;
    });
    let (_, worker) = secured.tunnels();
    let mut sdk = SdkWorker::to(worker.address);
    // Straight under TLS: nothing on the way takes what the client does not read.
    let join = || {
        let mut client = connect(secured.server.stream(), secured.localhost.client(&[&TLS13]));
        let request = raw::upgrade_request("/stream/chat/room-1/", "");
        client.write_all(request.as_bytes()).unwrap();
        while client.conn.is_handshaking() {
            client.conn.complete_io(&mut client.sock).unwrap();
        }
        client
    };
    let (mut slow, _silent) = (join(), join());
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\"sync\"") {
        let len = slow.read(&mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..len]);
    }
    let value = "x".repeat(60_000);
    for number in 0..100 {
        sdk.set(ROOM, "i", json!(format!("{number:03}{value}")));
    }
    let mut heard = 0;
    let mut rest = text.into_bytes();
    while heard < 100 {
        let len = slow.read(&mut buffer).unwrap();
        assert!(len > 0, "after {heard}");
        rest.extend_from_slice(&buffer[..len]);
        let wanted = format!("\"{heard:03}xxx");
        if let Some(at) = rest.windows(7).position(|part| part == wanted.as_bytes()) {
            rest.drain(..at);
            heard += 1;
        }
    }
    let closed = || {
        let workers = secured.server.shared().workers.iter();
        workers
            .map(|worker| worker.slow_readers_closed.get())
            .sum::<u64>()
    };
    for number in 0..200 {
        sdk.set(ROOM, "i", json!(format!("{number:03}{value}")));
    }
    assert_eq!(closed(), 0, "nobody is closed for what waits");
}

#[test]
fn a_new_certificate_is_shown_to_the_next_while_all_sockets_stay() {
    let secured = Secured::start(THREE_WORKERS);
    let (stream, worker) = secured.tunnels();
    let mut sdk = SdkWorker::to(worker.address);
    let mut subscribers: Vec<Subscriber> =
        (0..60).map(|_| Subscriber::to(stream.address)).collect();
    for subscriber in &mut subscribers {
        subscriber.join("s", ROOM);
    }
    let first = secured.shown(secured.server.stream());
    assert_eq!(first, secured.localhost.certificate.der().to_vec());

    // A file that is broken changes nothing, and is told of once.
    let key = secured.directory.0.join("key.pem");
    let whole = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "broken").unwrap();
    let server = secured.server.running();
    let faults = server.certificates().reload();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].contains("key.pem: holds no private key"),
        "{faults:?}"
    );
    assert_eq!(secured.shown(secured.server.stream()), first);
    std::fs::write(&key, whole).unwrap();

    // Another one of another authority, which the clients from now on trust.
    let other = Localhost::make();
    other.write(&secured.directory.0);
    for port in secured.ports() {
        let began = Instant::now();
        wait_until("the new certificate is shown", || {
            let config = other.client(&[&TLS13]);
            shown(port, config).is_ok_and(|found| found == other.certificate.der().to_vec())
        });
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(server.certificates().not_after_s().count(), 2);
    sdk.set(ROOM, "i", json!("after"));
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next().data, json!("after"));
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_let_in() {
    let clients = Localhost::make();
    let secured = Secured::with(THREE_WORKERS, |files, _| {
        let path = files.cert.with_file_name("clients.pem");
        std::fs::write(&path, &clients.authority).unwrap();
        files.client_ca = Some(path);
    });
    let stranger = Localhost::make();
    for port in secured.ports() {
        let none = secured.localhost.client(&[&TLS12, &TLS13]);
        assert!(answers(port, none).is_err());
        let strange = secured.localhost.client_with_certificate(&stranger);
        assert!(answers(port, strange).is_err());
        let known = secured.localhost.client_with_certificate(&clients);
        answers(port, known).unwrap();
    }
    let refused = |counter: u64| assert!(counter >= 2, "{counter}");
    let shared = secured.server.shared();
    refused(
        shared
            .workers
            .iter()
            .map(|worker| worker.tls_refused.get())
            .sum(),
    );
    refused(shared.engine.tls_refused.get());
    let known = secured.localhost.client_with_certificate(&clients);
    let tunnel = Tunnel::to(secured.server.stream(), known);
    Subscriber::to(tunnel.address).join("s", ROOM);
}

/// A request is answered by HTTP. `why`: what was tried.
fn hears_http(client: &mut (impl Read + Write), why: &str) {
    client
        .write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")
        .unwrap();
    let mut answer = [0; 9];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 ", "{why}");
}

/// Whether a request is answered there.
fn answers(port: SocketAddr, config: rustls::ClientConfig) -> std::io::Result<()> {
    let mut client = connect(port, config);
    client.write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")?;
    client.read_exact(&mut [0])
}

#[test]
fn a_handshake_that_takes_too_long_is_closed_in_time_and_holds_up_nobody() {
    let secured = Secured::with(THREE_WORKERS, |_, config| {
        config.limits.handshake_ms = 400;
    });
    let (stream, worker) = secured.tunnels();
    let mut sdk = SdkWorker::to(worker.address);
    let mut subscriber = Subscriber::to(stream.address);
    subscriber.join("s", ROOM);
    for port in secured.ports() {
        // Nothing, a piece of a hello, a whole hello and no more, and a handshake without a request.
        let silent = raw::connect(port);
        let mut piece = raw::connect(port);
        piece.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
        let mut hello = connect(port, secured.localhost.client(&[&TLS13]));
        let mut said = Vec::new();
        hello.conn.write_tls(&mut said).unwrap();
        hello.sock.write_all(&said).unwrap();
        let mut whole = connect(port, secured.localhost.client(&[&TLS13]));
        while whole.conn.is_handshaking() {
            whole.conn.complete_io(&mut whole.sock).unwrap();
        }
        let began = Instant::now();
        let sockets = [silent, piece, hello.sock.0, whole.sock.0];
        for mut socket in sockets {
            raw::read_to_end(&mut socket);
        }
        assert!(began.elapsed() < DEADLINE / 4, "{:?}", began.elapsed());
    }
    sdk.set(ROOM, "i", json!(1));
    assert_eq!(subscriber.next().data, json!(1));
}

#[test]
fn what_is_no_tls_is_turned_away_on_both_ports_and_told_so_where_it_speaks_http() {
    let secured = Secured::start(THREE_WORKERS);
    for port in secured.ports() {
        let mut client = raw::connect(port);
        client
            .write_all(raw::upgrade_request("/", "").as_bytes())
            .unwrap();
        let answer = String::from_utf8(raw::read_to_end(&mut client)).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(
            answer.ends_with("this port speaks TLS: use https:// or wss://"),
            "{answer}"
        );
        for garbage in [
            &b"\x00\x00\x00\x00"[..],
            b"\x80\x2e\x01\x00\x02",
            b"\n\n",
            &[0xff; 5000],
        ] {
            let mut client = raw::connect(port);
            client.write_all(garbage).unwrap();
            raw::read_to_end(&mut client);
        }
        // A record of a handshake with garbage in it, and one that is longer than any.
        for record in [
            &[22, 3, 1, 0, 5, 1, 2, 3, 4, 5][..],
            &[22, 3, 1, 0xff, 0xff, 1],
        ] {
            let mut client = raw::connect(port);
            client.write_all(record).unwrap();
            let answer = raw::read_to_end(&mut client);
            assert!(answer.is_empty() || answer[0] == 21, "an alert: {answer:?}");
        }
    }
    let (stream, _) = secured.tunnels();
    Subscriber::to(stream.address).join("s", ROOM);
}

#[test]
fn an_end_is_said_in_tls_as_well() {
    let secured = Secured::start(THREE_WORKERS);
    for port in secured.ports() {
        let mut client = connect(port, secured.localhost.client(&[&TLS13]));
        client
            .write_all(raw::upgrade_request("/", "").as_bytes())
            .unwrap();
        client
            .write_all(&raw::frame(0x88, &1000_u16.to_be_bytes()))
            .unwrap();
        let mut answer = Vec::new();
        // Without that word of TLS the end would be an error here.
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.ends_with(&[0x88, 2, 3, 0xe8]), "{answer:?}");
    }
    let mut client = connect(secured.server.stream(), secured.localhost.client(&[&TLS13]));
    client
        .write_all(raw::upgrade_request("/", "").as_bytes())
        .unwrap();
    client.read_exact(&mut [0]).unwrap();
    drop(secured.server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(2).any(|code| code == 1012_u16.to_be_bytes()));
}

#[test]
fn many_handshakes_at_once_all_come_through() {
    let secured = Secured::start(THREE_WORKERS);
    let (_, worker) = secured.tunnels();
    let mut sdk = SdkWorker::to(worker.address);
    let shared = secured.server.shared();
    let before = shared.connections_len();
    let clients: Vec<_> = (0..300)
        .map(|_| connect(secured.server.stream(), secured.localhost.client(&[&TLS13])))
        .collect();
    let mut clients: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let request = raw::upgrade_request("/stream/chat/room-1/", "");
            client.write_all(request.as_bytes()).unwrap();
            client
        })
        .collect();
    for client in &mut clients {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        while !text.windows(6).any(|part| part == b"\"sync\"") {
            let len = client.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..len]);
        }
    }
    assert_eq!(shared.connections_len(), before + 300);
    sdk.set(ROOM, "i", json!("all"));
    drop(clients);
    wait_until("all are gone", || shared.connections_len() == before);
    assert_eq!(shared.steered_to.load(Ordering::Relaxed), usize::MAX);
}

#[test]
fn a_program_on_the_sdk_for_node_works_over_tls() {
    let nodes = SDKS.iter().filter(|sdk| sdk.program == "node");
    for sdk in nodes.filter(|sdk| sdk.is_installed()) {
        eprintln!("on {}", sdk.name);
        let secured = Secured::start(THREE_WORKERS);
        let (stream, _) = secured.tunnels();
        let mut subscriber = Subscriber::to(stream.address);
        subscriber.join("s", ROOM);
        let address = format!("wss://localhost:{}", secured.server.worker().port());
        let authority = secured.directory.0.join("ca.pem");
        let mut program = Program::start_at(sdk, &address, Some(&authority));
        let input = json!({"stream_name": ROOM.0, "group_id": ROOM.1, "item_id": "i", "data": 7});
        program.result("stream::set", input);
        assert_eq!(subscriber.next().data, json!(7));
    }
}

#[test]
fn the_metrics_tell_when_certificates_end_and_how_many_handshakes_have_failed() {
    let secured = Secured::with(THREE_WORKERS, |_, config| {
        config.admin = Some(admin::open_port(None));
    });
    let address = secured.server.running().admin_address().unwrap();
    for port in secured.ports() {
        let mut plain = raw::connect(port);
        plain
            .write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")
            .unwrap();
        raw::read_to_end(&mut plain);
    }
    let metrics = || admin::get(address, "/metrics").body;
    for (port, (key, not_after_s)) in ["stream", "worker"]
        .into_iter()
        .zip(secured.server.running().certificates().not_after_s())
    {
        let end =
            format!("iii_stream_certificate_not_after_seconds{{port=\"{port}\"}} {not_after_s}\n");
        assert!(metrics().contains(&end), "{key}: {}", metrics());
        let refused = format!("iii_stream_tls_refused_total{{port=\"{port}\"}} 1\n");
        wait_until("the handshake that fails is counted", || {
            metrics().contains(&refused)
        });
    }
    if is_there("promtool") {
        admin::promtool_says_nothing(&metrics());
    }
    let plain = TestServer::with(THREE_WORKERS, |config| {
        config.admin = Some(admin::open_port(None));
    });
    let metrics = admin::get(plain.running().admin_address().unwrap(), "/metrics").body;
    assert!(
        !metrics.contains("certificate") && !metrics.contains("tls"),
        "{metrics}"
    );
}
