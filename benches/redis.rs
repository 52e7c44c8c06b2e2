//! What does Redis as the store cost? Sets a second with their events delivered, beside a client that
//! does as the reference does (one connection, one call at a time: the script, then PUBLISH); what an
//! event costs a host that nobody follows it on; and how many events a second one host can hear.
//!
//! Starts a redis-server of its own on port 16399, or takes the one that `REDIS_URL` names.

#![allow(clippy::print_stdout, reason = "its output")]

#[path = "../tests/support/frame.rs"]
#[allow(dead_code, reason = "this bench uses a part of it")]
mod frame;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use iii_stream::config::{Config, Endpoint, RedisStore, StoreConfig, Threads};
use iii_stream::server::{Options, Server};
use redis::Connection;

const PORT: u16 = 16_399;
const SETS: usize = 100_000;
const SOCKETS: usize = 4;
const STAND_IN_SETS: usize = 10_000;
const EVENTS: usize = 500_000;
const BATCH: usize = 500;
const MARKER: &str = "the last one";
const ID: &str = "00000000-0000-4000-8000-000000000001";

fn main() {
    let Some((url, child)) = redis_url() else {
        return println!("skipped: there is no redis-server, and REDIS_URL names none");
    };
    let mut connection = connect(&url);
    let server = start(&url);
    let stand_in = stand_in(&mut connection);
    println!("one call at a time, as the reference: {stand_in:.0} sets/s");
    let ours = sets(&server);
    println!(
        "iii-stream, {SOCKETS} sockets: {ours:.0} sets/s with their events delivered: {:.1} times",
        ours / stand_in
    );
    for (name, group, follows) in [
        ("nobody follows", "quiet", false),
        ("one follows", "g", true),
    ] {
        let (rate, cost) = heard(&server, &mut connection, group, follows);
        println!(
            "events of a group that {name}: {rate:.0}/s, {cost:.2} µs of the store thread each"
        );
    }
    server.drain();
    if let Some(mut child) = child {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}

fn redis_url() -> Option<(String, Option<Child>)> {
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Some((url, None));
    }
    let child = Command::new("redis-server")
        .args([
            "--port",
            &PORT.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .args(["--client-output-buffer-limit", "pubsub 0 0 0"])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    Some((format!("redis://127.0.0.1:{PORT}"), Some(child)))
}

fn connect(url: &str) -> Connection {
    let client = redis::Client::open(url).expect("an address");
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match client.get_connection() {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(url: &str) -> Server {
    let config = Config {
        stream: Endpoint::new("127.0.0.1", 0),
        worker_listeners: vec![Endpoint::new("127.0.0.1", 0).into()],
        threads: Threads::Count(1),
        drain_ms: 100,
        store: StoreConfig::Redis(RedisStore::at(url).expect("an address")),
        ..Config::default()
    };
    Server::start(&config, Options::default()).expect("a server")
}

fn stand_in(connection: &mut Connection) -> f64 {
    let script = redis::Script::new(
        "local old = redis.call('HGET', KEYS[1], ARGV[1]) \
         redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return old",
    );
    let began = Instant::now();
    for n in 0..STAND_IN_SETS {
        let mut call = script.key("stream:bench:stand-in");
        let set = call.arg(format!("i{}", n % 100)).arg(value(n));
        let _: Option<String> = set.invoke(connection).expect("Redis answers");
        let publish = redis::cmd("PUBLISH")
            .arg("stream::events:of-the-stand-in")
            .arg(event("stand-in", n))
            .exec(connection);
        publish.expect("Redis answers");
    }
    STAND_IN_SETS as f64 / began.elapsed().as_secs_f64()
}

fn value(n: usize) -> String {
    format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(80))
}

fn event(group: &str, n: usize) -> String {
    format!(
        r#"{{"type":"stream","timestamp":1795474423599,"streamName":"bench","groupId":"{group}","id":"i","event":{{"type":"update","data":{}}},"iii-stream":""}}"#,
        value(n)
    )
}

/// From the first set to the last event at a subscriber.
fn sets(server: &Server) -> f64 {
    let subscriber = Socket::subscriber(server.stream_address());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let hearing = scope.spawn(move || subscriber.count_frames(SETS));
        for socket in 0..SOCKETS {
            scope.spawn(move || call_sets(server.worker_addresses()[0], socket));
        }
        hearing.join().expect("all were heard");
    });
    SETS as f64 / began.elapsed().as_secs_f64()
}

fn call_sets(address: SocketAddr, socket: usize) {
    let mut caller = Socket::open(address);
    caller.next_frame(); // workerregistered
    let mut writer = caller.stream.get_ref().try_clone().expect("a live socket");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut frames = Vec::new();
            for n in 0..SETS / SOCKETS {
                let text = format!(
                    r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"stream::set","data":{{"stream_name":"bench","group_id":"g","item_id":"i{socket}-{}","data":{}}}}}"#,
                    n % 100,
                    value(n)
                );
                frames.extend_from_slice(&frame::text(&text));
                if frames.len() > 32 * 1024 {
                    writer.write_all(&frames).expect("the server is there");
                    frames.clear();
                }
            }
            writer.write_all(&frames).expect("the server is there");
        });
        (0..SETS / SOCKETS).for_each(|_| caller.next_frame());
    });
}

/// Events a second, and what one of them costs the store thread.
fn heard(server: &Server, connection: &mut Connection, group: &str, follows: bool) -> (f64, f64) {
    let subscriber = Socket::subscriber(server.stream_address());
    let before = store_thread_ticks();
    let began = Instant::now();
    let counted = if follows { EVENTS } else { 0 };
    let hearing = std::thread::spawn(move || subscriber.count_frames(counted + 1));
    for batch in 0..EVENTS / BATCH {
        let mut pipeline = redis::pipe();
        for n in 0..BATCH {
            let event = event(group, batch * BATCH + n);
            pipeline
                .cmd("PUBLISH")
                .arg("stream::events")
                .arg(event)
                .ignore();
        }
        pipeline.exec(connection).expect("Redis answers");
    }
    let last = event("g", 0).replace("\"i\"", &format!("\"{MARKER}\""));
    let publish = redis::cmd("PUBLISH")
        .arg("stream::events")
        .arg(last)
        .exec(connection);
    publish.expect("Redis answers");
    hearing.join().expect("the last was heard");
    let took = began.elapsed().as_secs_f64();
    let micros = (store_thread_ticks() - before) as f64 * 10_000.0;
    (EVENTS as f64 / took, micros / EVENTS as f64)
}

/// CPU time of the thread named `store`, in hundredths of a second.
fn store_thread_ticks() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let stats =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let of_store = stats.filter(|stat| stat.contains("(store)"));
    of_store
        .map(|stat| {
            let fields: Vec<u64> = stat
                .split(") ")
                .nth(1)
                .unwrap_or_default()
                .split(' ')
                .map(|field| field.parse().unwrap_or(0))
                .collect();
            fields.iter().skip(11).take(2).sum::<u64>()
        })
        .sum()
}

/// A WebSocket of which only the frames are counted.
struct Socket {
    stream: BufReader<TcpStream>,
}

impl Socket {
    fn open(address: SocketAddr) -> Socket {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a live socket");
        let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream
            .write_all(head.as_bytes())
            .expect("the server is there");
        let mut stream = BufReader::with_capacity(256 * 1024, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        Socket { stream }
    }

    fn subscriber(address: SocketAddr) -> Socket {
        let mut socket = Socket::open(address);
        let join =
            r#"{"type":"join","data":{"subscriptionId":"s","streamName":"bench","groupId":"g"}}"#;
        let stream = socket.stream.get_mut();
        stream
            .write_all(&frame::text(join))
            .expect("the server is there");
        socket.next_frame(); // sync
        socket
    }

    fn count_frames(mut self, len: usize) {
        (0..len).for_each(|_| self.next_frame());
    }

    fn next_frame(&mut self) {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).expect("a frame");
        let len = match header[1] {
            126 => {
                let mut len = [0; 2];
                self.stream.read_exact(&mut len).expect("a frame");
                u64::from(u16::from_be_bytes(len))
            }
            127 => {
                let mut len = [0; 8];
                self.stream.read_exact(&mut len).expect("a frame");
                u64::from_be_bytes(len)
            }
            len => u64::from(len),
        };
        let mut payload = (&mut self.stream).take(len);
        std::io::copy(&mut payload, &mut std::io::sink()).expect("a frame");
    }
}
