//! Processes on a real Redis, each with an environment of its own: whom it trusts behind TLS, and what
//! its clock says.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::redis::{RedisServer, free_port};
use crate::support::tls::Localhost;
use crate::support::{Heard, SdkWorker, Subscriber, wait_until};

const ROOM: (&str, &str) = ("chat", "room");

/// The binary; it is killed when the test ends.
struct Host {
    child: Child,
    directory: PathBuf,
    stream: SocketAddr,
    worker: SocketAddr,
    /// All that it has said so far.
    log: Arc<Mutex<String>>,
}

impl Host {
    fn start(name: &str, url: &str, variables: &[(&str, &str)]) -> Host {
        let name = format!("iii-redis-host-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let mut child = spawn(&directory, url, variables);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let started = lines
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| *log.lock().unwrap() += &format!("{line}\n"))
            .find(|line| line.contains("serves subscribers on "))
            .expect("it starts");
        let said = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *said.lock().unwrap() += &format!("{line}\n");
            }
        });
        let address = |behind: &str| {
            let rest = started.split_once(behind).unwrap().1;
            rest[..rest.find([' ', ';']).unwrap()].parse().unwrap()
        };
        Host {
            stream: address("subscribers on "),
            worker: address("SDK workers on "),
            child,
            directory,
            log,
        }
    }

    fn says(&self, what: &str) -> bool {
        self.log.lock().unwrap().contains(what)
    }

    fn sdk(&self) -> SdkWorker {
        SdkWorker::to(self.worker)
    }

    fn subscriber(&self) -> Subscriber {
        Subscriber::to(self.stream)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended, and its directory may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &Path, url: &str, variables: &[(&str, &str)]) -> Child {
    std::fs::create_dir_all(directory).unwrap();
    let config = format!(
        "workers:\n  - name: iii-worker-manager\n    config: {{host: 127.0.0.1, port: 0}}\n  - name: iii-stream\n    \
         config: {{host: 127.0.0.1, port: 0, adapter: {{name: redis, config: {{redis_url: '{url}'}}}}}}\n    \
         server: {{threads: 1, redis: {{connect_timeout_ms: 3000}}}}\n"
    );
    std::fs::write(directory.join("config.yaml"), config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_iii-stream"))
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .env_remove("SSL_CERT_DIR")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Files for a server that is `localhost`, and whom to trust for that.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make(name: &str) -> Certificates {
        let name = format!("iii-redis-tls-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let localhost = Localhost::make();
        let certificates = Certificates { directory };
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
        self.directory.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
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
    let host = Host::start("tls", &url, &[("SSL_CERT_FILE", &trusted)]);
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
    let directory = certificates.directory.join("refused");
    let refused = spawn(&directory, &url, &[("SSL_CERT_FILE", &trusted)]);
    let output = refused.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("certificate"), "{line}");
}

/// What a deployed client shows: it drops what is not newer.
struct Model {
    subscriber: Subscriber,
    value: Value,
    time: u64,
}

impl Model {
    fn join(host: &Host) -> Model {
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
            Host::start(&format!("right-{round}"), &redis.url(), &[]),
            Host::start(&format!("wrong-{round}"), &redis.url(), &other_clock),
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
    let host = Host::start("hang", &redis.url(), &[]);
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
    let host = Host::start("replica", &redis.url(), &[]);
    assert!(host.says("is a replica"));
    let input = crate::support::clients::set_input(ROOM, "i", json!(1));
    host.sdk().error_of("stream::set", input);
    wait_until("it is said", || host.says("takes no writes"));
    let _: () = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    host.sdk().set(ROOM, "i", json!(1));
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
    // Redis answers while it loads a file of this form.
    let _: () = redis.ask(&["BGREWRITEAOF"]);
    wait_until("it is rewritten", || {
        let state: String = redis.ask(&["INFO", "persistence"]);
        state.contains("aof_rewrite_in_progress:0") && state.contains("aof_rewrite_scheduled:0")
    });
    redis.kill();
    redis.start_to_load();
    // It takes longer than `connect_timeout_ms`.
    let host = Host::start("loads", &redis.url(), &[]);
    assert!(host.says("still loads its data"));
    assert!(host.sdk().get(("many", "7"), "i").is_some());
}
