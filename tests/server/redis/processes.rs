//! Processes on a real Redis, each with an environment of its own: whom it trusts behind TLS, and what
//! its clock says.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::clients::{error_in, item_input, set_input};
use crate::support::process::{Directory, Process, config, outcome};
use crate::support::redis::{RedisServer, free_port};
use crate::support::tls::Localhost;
use crate::support::{Heard, Subscriber, wait_until};

const ROOM: (&str, &str) = ("chat", "room");

/// The program on a Redis, with these variables in its environment.
fn start(name: &str, url: &str, variables: &[(&str, &str)]) -> Process {
    let directory = Directory::new(name).with_file(&on_redis(url));
    let mut command = directory.command(&[]);
    command.envs(variables.iter().copied());
    let mut host = Process::start(command);
    host.directory = Some(directory);
    host
}

fn on_redis(url: &str) -> String {
    let adapter = format!("adapter: {{name: redis, config: {{redis_url: '{url}'}}}}");
    config(
        &adapter,
        "threads: 1, drain_ms: 500, redis: {connect_timeout_ms: 3000}",
    )
}

/// Files for a server that is `localhost`, and whom to trust for that.
struct Certificates(Directory);

impl Certificates {
    fn make(name: &str) -> Certificates {
        let localhost = Localhost::make();
        let certificates = Certificates(Directory::new(name));
        for (name, text) in [
            ("authority.pem", localhost.authority),
            ("certificate.pem", localhost.certificate.pem()),
            ("key.pem", localhost.key.serialize_pem()),
        ] {
            std::fs::write(certificates.path(name), text).unwrap();
        }
        certificates
    }

    fn path(&self, name: &str) -> String {
        self.0.0.join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn both_connections_go_through_tls_to_a_server_that_is_trusted() {
    let certificates = Certificates::make("ours");
    let port = free_port().to_string();
    let redis = RedisServer::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificates.path("certificate.pem"),
        "--tls-key-file",
        &certificates.path("key.pem"),
        "--tls-ca-cert-file",
        &certificates.path("authority.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://localhost:{port}");
    let trusted = certificates.path("authority.pem");
    let host = start("tls", &url, &[("SSL_CERT_FILE", &trusted)]);
    let mut sdk = host.sdk();
    let mut subscriber = host.subscriber();
    subscriber.join("s", ROOM);
    // Larger than any buffer on the way.
    for value in [json!(1), json!("ü".repeat(500_000)), json!(2)] {
        sdk.set(ROOM, "i", value.clone());
        assert_eq!(subscriber.next().data, value);
        assert_eq!(sdk.get(ROOM, "i"), Some(value));
    }
    let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(subscriber.sync().data, json!([2]), "it connects again");

    let others = Certificates::make("others");
    let trusted = others.path("authority.pem");
    let directory = Directory::new("refused").with_file(&on_redis(&url));
    let mut command = directory.command(&[]);
    let (code, line) = outcome(command.env("SSL_CERT_FILE", &trusted).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(line.contains("certificate"), "{line}");
}

/// What a deployed client shows: it drops what is not newer.
struct Model {
    subscriber: Subscriber,
    value: Value,
    time: u64,
}

impl Model {
    fn join(host: &Process) -> Model {
        let mut subscriber = host.subscriber();
        let Heard {
            data, timestamp, ..
        } = subscriber.join_item("s", ROOM, "i");
        Model {
            subscriber,
            value: data,
            time: timestamp,
        }
    }

    fn hear_until(&mut self, last: &Value) {
        loop {
            let heard = self.subscriber.next();
            if heard.timestamp > self.time {
                self.value = heard.data.clone();
                self.time = heard.timestamp;
            }
            if heard.data == *last {
                return;
            }
        }
    }
}

fn library_of_clocks() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let paths = folders.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let mut found = paths.filter(|path| path.exists());
    let found = found.next().expect("Debian's package libfaketime");
    found.to_str().unwrap().to_owned()
}

#[test]
fn hosts_whose_clocks_are_5_s_apart_show_every_client_what_redis_has() {
    let library = library_of_clocks();
    let redis = RedisServer::start();
    for (round, offset) in ["+5s", "-5s"].into_iter().enumerate() {
        let other_clock = [
            ("LD_PRELOAD", &*library),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let hosts = [
            start(&format!("right-{round}"), &redis.url(), &[]),
            start(&format!("wrong-{round}"), &redis.url(), &other_clock),
        ];
        let mut callers = [hosts[0].sdk(), hosts[1].sdk()];
        let mut models: Vec<Model> = Vec::new();
        for n in 0..60 {
            if n % 20 == 0 {
                models.extend(hosts.iter().map(Model::join));
            }
            callers[n % 2].set(ROOM, "i", json!([round, n]));
        }
        let last = json!([round, 59]);
        let stored: String = redis.ask(&["HGET", "stream:chat:room", "i"]);
        assert_eq!(stored, last.to_string());
        for model in &mut models {
            model.hear_until(&last);
            assert_eq!(model.value, last, "the clock is at {offset}");
        }
    }
}

#[test]
fn a_redis_that_hangs_is_warned_of_long_before_calls_fail() {
    let redis = RedisServer::start();
    let host = start("hang", &redis.url(), &[]);
    redis.signal(Signal::STOP);
    let began = Instant::now();
    wait_until("it is said", || host.says("no answer for 1"));
    let waited = began.elapsed();
    redis.signal(Signal::CONT);
    assert!(waited < Duration::from_millis(3500), "{waited:?}");
    wait_until("so is its end", || host.says("answers again"));
    assert!(!host.says("connection lost"));
}

#[test]
fn a_start_on_a_replica_says_so_and_so_does_a_refused_change() {
    let redis = RedisServer::start();
    let _: () = redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let host = start("replica", &redis.url(), &[]);
    assert!(host.says("is a replica"));
    let input = crate::support::clients::set_input(ROOM, "i", json!(1));
    host.sdk().error_of("stream::set", input);
    wait_until("it is said", || host.says("takes no writes"));
    let _: () = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    // A call may be under way while the connections move to the master.
    let mut sdk = host.sdk();
    wait_until("writes are taken again", || {
        let input = crate::support::clients::set_input(ROOM, "i", json!(1));
        let set = sdk.start("stream::set", input);
        sdk.result(&set).get("error").is_none()
    });
    wait_until("it is said", || host.says("takes writes again"));
}

#[test]
fn a_start_waits_for_a_redis_that_still_loads_its_data() {
    let mut redis = RedisServer::with(&[
        "--key-load-delay",
        "20000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    for n in 0..250 {
        let (key, value) = (format!("stream:many:{n}"), "x".repeat(500));
        let _: () = redis.ask(&["HSET", &*key, "i", &format!("\"{value}\"")]);
    }
    redis.reload();
    // It takes longer than `connect_timeout_ms`.
    let host = start("loads", &redis.url(), &[]);
    assert!(host.says("still loads its data"));
    assert!(host.sdk().get(("many", "7"), "i").is_some());
}

#[test]
fn the_log_says_once_why_a_redis_that_is_there_does_not_take_it_back() {
    let redis = RedisServer::start();
    let mut own = redis.connection();
    let mut tell = |words: &[&str]| {
        let command = &mut redis::cmd(words[0]);
        command.arg(&words[1..]).exec(&mut own).unwrap();
    };
    tell(&["CONFIG", "SET", "requirepass", "first"]);
    let host = start("back", &redis.url().replace("://", "://:first@"), &[]);
    tell(&["CONFIG", "SET", "requirepass", "second"]);
    tell(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let line = host.line_with("does not connect again");
    assert!(line.contains("WRONGPASS"), "{line}");
    assert!(!line.contains("first"), "{line}");
    tell(&["CONFIG", "SET", "requirepass", "first"]);
    host.line_with("connected again");
}

#[test]
fn who_waits_for_a_redis_that_stands_still_is_told_when_the_process_ends() {
    let redis = RedisServer::start();
    let mut host = start("still", &redis.url(), &[]);
    let mut sdk = host.sdk();
    sdk.set(ROOM, "i", json!(1));
    redis.signal(Signal::STOP);
    let set = sdk.start("stream::set", set_input(ROOM, "i", json!(2)));
    let get = sdk.start("stream::get", item_input(ROOM, "i"));
    host.signal(Signal::TERM);
    let told = |result: &Value| error_in(result).1;
    let of_set = told(&sdk.result(&set));
    assert_eq!(
        of_set,
        "Failed to set value: the server ends, unknown whether the change was stored"
    );
    let of_get = told(&sdk.result(&get));
    assert_eq!(of_get, "Failed to get value: the server ends");
    redis.signal(Signal::CONT);
    assert_eq!(host.exit_code(), Some(0));
}
