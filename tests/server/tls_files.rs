//! The files of the ports under TLS, as the program meets them: what it says of each at fault, how it takes
//! new ones, what the commands make of them, and the challenges of ACME.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustix::process::Signal;
use rustls::version::TLS13;
use serde_json::json;

use crate::support::clients::item_input;
use crate::support::process::{Directory, Process, config, config_at, outcome};
use crate::support::tls::{Localhost, Tunnel, shown};
use crate::support::{Subscriber, raw, wait_until};

const FILES: &str =
    "tls: {cert: cert.pem, key: key.pem}, worker_tls: {cert: cert.pem, key: key.pem}";

/// A folder with a certificate, its key and its authority.
fn directory(test: &str, server: &str) -> (Directory, Localhost) {
    let directory = Directory::new(test).with_file(&config("adapter: {name: kv}", server));
    let localhost = Localhost::make();
    localhost.write(&directory.0);
    (directory, localhost)
}

/// A certificate that counted for some days long ago, and its key.
fn expired() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 2, 3);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn each_file_at_fault_ends_the_start_with_one_line_and_check_and_doctor_say_the_same() {
    let (directory, _) = directory("tls-faults", FILES);
    let write = |name: &str, text: &str| std::fs::write(directory.0.join(name), text).unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.0.join(name)).unwrap();
    let (cert, key) = (read("cert.pem"), read("key.pem"));
    let stranger = KeyPair::generate().unwrap().serialize_pem();
    let (old, old_key) = expired();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (cert, key, wanted) in [
        ("", &*key, "server.tls: cert.pem: holds no certificate"),
        (&*cert, "", "server.tls: key.pem: holds no private key"),
        (
            &*cert,
            &*stranger,
            "server.tls: key.pem: is not the key of cert.pem",
        ),
        (
            &*cert,
            locked,
            "server.tls: key.pem: has a passphrase, and nobody is there to type it; openssl pkey -in key.pem",
        ),
        (
            &*old,
            &*old_key,
            "server.tls: cert.pem: has expired at Mon, 03 Feb 2020 00:00:00 GMT; have a new one issued",
        ),
    ] {
        write("cert.pem", cert);
        write("key.pem", key);
        for command in [&["serve"][..], &["check"], &["doctor"]] {
            let (code, text) = outcome(directory.command(command).output().unwrap());
            assert_eq!(code, Some(1), "{command:?}: {text}");
            let lines = text.lines().filter(|line| line.contains(wanted));
            assert_eq!(lines.count(), 1, "{command:?} lacks {wanted:?}: {text}");
        }
    }
    std::fs::remove_file(directory.0.join("cert.pem")).unwrap();
    let (code, text) = outcome(directory.command(&["serve"]).output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("server.tls: cert.pem: there is no such file; name the one that is meant")
    );
    assert!(!directory.0.join("data").exists(), "nothing was begun");
}

#[test]
fn files_that_change_are_taken_and_what_is_wrong_with_them_is_said_once() {
    let (directory, first) = directory("tls-reload", FILES);
    let folder = directory.0.clone();
    let process = Process::start(directory.command(&[]));
    let line = process.line_with("server.tls: the certificate counts until ");
    assert!(line.contains(" GMT"), "{line}");
    let tunnel = Tunnel::to(process.stream, first.client(&[&TLS13]));
    let mut subscriber = Subscriber::to(tunnel.address);
    subscriber.join("s", ("chat", "room-1"));

    // The new certificate without its key: half of what is to come, or all that there is.
    let second = Localhost::make();
    std::fs::write(folder.join("cert.pem"), second.certificate.pem()).unwrap();
    let fault = "server.tls: key.pem: is not the key of cert.pem; name the two that belong together; the certificate before is still shown";
    process.line_with(fault);
    let shows = |localhost: &Localhost| {
        let found = shown(process.stream, localhost.client(&[&TLS13]));
        found.is_ok_and(|found| found == localhost.certificate.der().to_vec())
    };
    assert!(shows(&first));
    std::fs::write(folder.join("key.pem"), second.key.serialize_pem()).unwrap();
    process.line_with("server.tls: the next handshake shows the new certificate, until ");
    assert!(shows(&second) && !shows(&first));
    // Asked for, they are read again.
    process.signal(Signal::HUP);
    process.line_with("server.tls: the next handshake shows the new certificate, until ");
    let log = process.log.borrow();
    assert_eq!(
        log.iter().filter(|line| line.contains(fault)).count(),
        1,
        "{log:#?}"
    );
    drop(log);

    let worker = Tunnel::to(process.worker, second.client(&[&TLS13]));
    let mut sdk = crate::support::SdkWorker::to(worker.address);
    sdk.set(("chat", "room-1"), "i", json!(1));
    assert_eq!(
        subscriber.next().data,
        json!(1),
        "who was there before is there still"
    );
}

#[test]
fn commands_reach_a_server_under_tls_by_its_settings_or_by_its_name() {
    // The commands look at the ports of the file.
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    };
    let directory = Directory::new("tls-commands").with_file(&config_at(free(), free(), FILES));
    Localhost::make().write(&directory.0);
    let process = Process::start(directory.command(&[]));
    let by_name = format!("wss://localhost:{}", process.stream.port());
    let worker = format!("wss://localhost:{}", process.worker.port());
    let input = item_input(("chat", "room-1"), "i").to_string();
    for arguments in [
        &["health"][..],
        &["health", "--stream", &by_name],
        &["call", "stream::get", &input],
        &["call", "stream::get", &input, "--engine", &worker],
        &["watch", "chat", "room-1", "--count", "1"],
    ] {
        let mut command = directory.command(arguments);
        command.env("SSL_CERT_FILE", "ca.pem");
        let (code, text) = outcome(command.output().unwrap());
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
    }
    // Somebody else's certificate is not taken for it.
    let other = Localhost::make();
    std::fs::write(directory.0.join("other.pem"), other.certificate.pem()).unwrap();
    let text = std::fs::read_to_string(directory.0.join("config.yaml")).unwrap();
    std::fs::write(
        directory.0.join("other.yaml"),
        text.replace("cert.pem", "other.pem"),
    )
    .unwrap();
    let arguments = ["health", "-c", "other.yaml"];
    let (code, text) = outcome(directory.command(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("certificate"), "{text}");
    let plain = format!("ws://localhost:{}", process.stream.port());
    let arguments = ["health", "--stream", &plain];
    let (code, text) = outcome(directory.command(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("this port speaks TLS: use https:// or wss://"),
        "{text}"
    );
}

/// As `openssl req -x509` makes it unless told otherwise: what has signed itself is an authority.
#[test]
fn a_server_that_shows_the_certificate_of_an_authority_is_refused_with_what_to_do() {
    let (directory, _) = directory("tls-authority", FILES);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let write = |name: &str, text: String| std::fs::write(directory.0.join(name), text).unwrap();
    write("cert.pem", params.self_signed(&key).unwrap().pem());
    write("key.pem", key.serialize_pem());
    let process = Process::start(directory.command(&[]));
    let stream = format!("wss://localhost:{}", process.stream.port());
    let worker = format!("wss://localhost:{}", process.worker.port());
    for arguments in [
        &["health", "--stream", &stream][..],
        &["call", "stream::list_all", "--engine", &worker],
        &["watch", "chat", "room-1", "-n1", "--stream", &stream],
    ] {
        let mut command = directory.command(arguments);
        let output = command.env("SSL_CERT_FILE", "cert.pem").output();
        let (code, text) = outcome(output.unwrap());
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        let says = ["(CA:TRUE)", "basicConstraints=critical,CA:FALSE"];
        let is_one_line = text.lines().count() == 1;
        assert!(
            is_one_line && says.iter().all(|said| text.contains(said)),
            "{text}"
        );
    }
    process.stop();
}

#[test]
fn commands_show_a_certificate_of_their_own_where_one_is_asked_for() {
    let files = FILES.replace("key.pem}", "key.pem, client_ca: clients.pem}");
    let (directory, _) = directory("tls-own", &files);
    let clients = Localhost::make();
    let write = |name: &str, text: String| std::fs::write(directory.0.join(name), text).unwrap();
    write("clients.pem", clients.authority.clone());
    write("own.pem", clients.certificate.pem());
    write("own-key.pem", clients.key.serialize_pem());
    let process = Process::start(directory.command(&[]));
    let stream = format!("wss://localhost:{}", process.stream.port());
    let worker = format!("wss://localhost:{}", process.worker.port());
    let run = |arguments: &[&str]| {
        let mut command = directory.command(arguments);
        outcome(command.env("SSL_CERT_FILE", "ca.pem").output().unwrap())
    };
    let own = ["--cert", "own.pem", "--key", "own-key.pem"];
    for arguments in [
        &["health", "--stream", &stream][..],
        &["call", "stream::list_all", "--engine", &worker],
        &["watch", "chat", "room-1", "-n1", "--stream", &stream],
    ] {
        let (code, text) = run(&[arguments, &own].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        let (code, text) = run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        let (code, text) = run(&[arguments, &["--cert", "own.pem", "--key", "key.pem"]].concat());
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        let why = "certificates: key.pem: is not the key of own.pem";
        assert!(text.contains(why) && text.lines().count() == 1, "{text}");
        let (code, _) = run(&[arguments, &["--cert", "own.pem"]].concat());
        assert_eq!(code, Some(2));
    }
    process.stop();
}

#[test]
fn doctor_tells_until_when_the_certificates_count() {
    let (directory, _) = directory("tls-doctor", FILES);
    let (_, text) = outcome(directory.command(&["doctor"]).output().unwrap());
    for key in ["server.tls: until ", "server.worker_tls: until "] {
        assert!(text.contains(key), "{text}");
    }
    let (code, text) = outcome(directory.command(&["check"]).output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("iii-stream.server.tls.cert"), "{text}");
}

#[test]
fn challenges_of_acme_are_answered_by_plain_http_and_the_rest_is_sent_to_tls() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = format!("{FILES}, acme_webroot: web, acme_port: {free}");
    let (directory, _) = directory("tls-acme", &server);
    let challenges = directory.0.join("web/.well-known/acme-challenge");
    std::fs::create_dir_all(&challenges).unwrap();
    let process = Process::start(directory.command(&[]));
    std::fs::write(challenges.join("token_1-x"), "token_1-x.key").unwrap();
    let ask = |path: &str| {
        let mut socket = raw::connect(([127, 0, 0, 1], free).into());
        write!(socket, "GET {path} HTTP/1.1\r\nhost: example.com\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("/.well-known/acme-challenge/token_1-x");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ntoken_1-x.key"));
    let answer = ask("/.well-known/acme-challenge/../../../config.yaml");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let answer = ask("/stream/chat/room-1");
    let port = process.stream.port();
    let location = format!("\r\nlocation: https://example.com:{port}/stream/chat/room-1\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 308 ") && answer.contains(&location),
        "{answer}"
    );

    // A port that somebody has ends the start.
    let second = second_server(&directory.0, &server);
    let (code, text) = outcome(second.command(&[]).output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!(
            "127.0.0.1:{free} is already in use; server.acme_port names another"
        )),
        "{text}"
    );
    process.stop();
    wait_until("nobody listens there", || {
        std::net::TcpStream::connect(("127.0.0.1", free)).is_err()
    });
}

/// In a folder of its own, with the same certificate.
fn second_server(first: &Path, server: &str) -> Directory {
    let directory = Directory::new("tls-second").with_file(&config("adapter: {name: kv}", server));
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(first.join(name), directory.0.join(name)).unwrap();
    }
    directory
}
