//! What calls cost, with a server of any kind on loopback and a client that is not the bottleneck.
//!
//! Without arguments all of it, briefly, against a server in this process, which shares its cores. For
//! figures the server, or what it is compared with, runs on its own:
//!
//! ```text
//! calls get ADDRESS                one SDK socket pipelines stream::get of a small value
//! calls set ADDRESS [TRIGGERS]     the same with stream::set, with triggers on other streams
//! calls circle ADDRESS             a trigger's function fires it again, 10,000 times a second:
//!                                  what an unrelated stream::get waits
//! calls connect ADDRESS            upgrades on the stream port, 64 at a time
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement for the terminal"
)]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Client, frame, upgrade};

/// Calls that are under way at a time.
const WINDOW_LEN: usize = 512;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(4);
const MEASURED_BRIEFLY: Duration = Duration::from_secs(2);
/// Before that.
const WARM_UP: Duration = Duration::from_secs(1);
const CHAINED_A_SECOND: u32 = 10_000;
const CONNECTS_AT_A_TIME: usize = 64;

fn main() {
    let arguments = support::arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => all_briefly(),
        ["get" | "set", address] => pipeline(address, arguments[0], 0, MEASURED),
        ["set", address, triggers] => pipeline(address, "set", triggers.parse().unwrap(), MEASURED),
        ["circle", address] => circle(address, MEASURED),
        ["connect", address] => connect(address, MEASURED),
        _ => println!("usage: calls [get|set|circle|connect ADDRESS [TRIGGERS]]"),
    }
}

/// On a server of its own each: triggers stay.
fn all_briefly() {
    let with_server = |measure: &dyn Fn(&str, &str)| {
        let server = support::server();
        let worker_port = server.worker_address().unwrap().to_string();
        measure(&worker_port, &server.stream_address().to_string());
        server.drain();
    };
    with_server(&|worker_port, _| pipeline(worker_port, "get", 0, MEASURED_BRIEFLY));
    with_server(&|worker_port, _| pipeline(worker_port, "set", 0, MEASURED_BRIEFLY));
    with_server(&|worker_port, _| pipeline(worker_port, "set", 10_000, MEASURED_BRIEFLY));
    with_server(&|worker_port, _| circle(worker_port, MEASURED_BRIEFLY));
    with_server(&|_, stream_port| connect(stream_port, MEASURED_BRIEFLY));
}

fn pipeline(address: &str, what: &str, triggers: usize, measured: Duration) {
    let mut client = Client::open(address);
    for n in 0..triggers {
        client.send(&format!(
            r#"{{"type":"registertrigger","id":"t{n}","trigger_type":"stream","function_id":"f","config":{{"stream_name":"other-{n}"}}}}"#
        ));
    }
    client.send(&call("stream::set", ITEM_WITH_DATA));
    client.wait_for(1);
    let data = if what == "get" { ITEM } else { ITEM_WITH_DATA };
    let one = frame(&call(&format!("stream::{what}"), data));
    let many = one.repeat(WINDOW_LEN);
    client.stream.write_all(&many).unwrap();
    let mut began = Instant::now() + WARM_UP;
    let (mut counted, until) = (0, began + measured);
    loop {
        let answers = client.read();
        client
            .stream
            .write_all(&many[..answers * one.len()])
            .unwrap();
        let now = Instant::now();
        if now >= until {
            let rate = counted as f64 / (now - began).as_secs_f64();
            return println!("{what}: {rate:.0} calls/s, {triggers} triggers on other streams");
        }
        if counted == 0 && now >= began {
            began = now;
        }
        counted += if now >= began { answers } else { 0 };
    }
}

fn circle(address: &str, measured: Duration) {
    const CHAINS: usize = 64;
    println!("alone:       {}", latency(address, measured));
    let stopping = Arc::new(AtomicBool::new(false));
    let called = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn({
        let (address, stopping, called) = (address.to_owned(), stopping.clone(), called.clone());
        move || {
            let mut client = Client::open(&address);
            client.send(r#"{"type":"registerfunction","id":"circle"}"#);
            client.send(r#"{"type":"registertrigger","id":"c","trigger_type":"stream","function_id":"circle","config":{"stream_name":"circle"}}"#);
            let set = frame(
                r#"{"type":"invokefunction","function_id":"stream::set","action":{"type":"void"},"data":{"stream_name":"circle","group_id":"g","item_id":"i","data":1}}"#,
            );
            client.stream.write_all(&set.repeat(CHAINS)).unwrap();
            let began = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                for _ in 0..client.read() {
                    let n = called.fetch_add(1, Ordering::Relaxed) as u32 + 1;
                    let due = began + Duration::from_secs(1) * n / CHAINED_A_SECOND;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.stream.write_all(&set).unwrap();
                }
            }
        }
    });
    std::thread::sleep(WARM_UP);
    let (before, began) = (called.load(Ordering::Relaxed), Instant::now());
    let waits = latency(address, measured);
    let rate = (called.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    println!("with chains: {waits}; {rate:.0} chained calls/s");
    stopping.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

/// Of one `stream::get` after another, one each ms.
fn latency(address: &str, measured: Duration) -> String {
    let mut client = Client::open(address);
    let get = frame(&call("stream::get", ITEM));
    let (until, mut waited) = (Instant::now() + measured, Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        client.stream.write_all(&get).unwrap();
        client.wait_for(1);
        waited.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(1).saturating_sub(began.elapsed()));
    }
    waited.sort();
    let at = |part: f64| waited[(waited.len() as f64 * part) as usize];
    let (p50, p99, max) = (at(0.5), at(0.99), waited[waited.len() - 1]);
    format!(
        "{} gets, p50 {p50:.0?}, p99 {p99:.0?}, max {max:.0?}",
        waited.len()
    )
}

fn connect(address: &str, measured: Duration) {
    let opened = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + measured;
    let threads: Vec<_> = (0..CONNECTS_AT_A_TIME)
        .map(|_| {
            let (address, opened, refused) = (address.to_owned(), opened.clone(), refused.clone());
            std::thread::spawn(move || {
                while Instant::now() < until {
                    match upgrade(&address) {
                        Some(_) => opened.fetch_add(1, Ordering::Relaxed),
                        None => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let rate = opened.load(Ordering::Relaxed) as f64 / measured.as_secs_f64();
    println!(
        "{rate:.0} connects/s, {} refused",
        refused.load(Ordering::Relaxed)
    );
}

const ITEM: &str = r#""stream_name":"s","group_id":"g","item_id":"i""#;
const ITEM_WITH_DATA: &str =
    r#""stream_name":"s","group_id":"g","item_id":"i","data":{"x":1,"name":"someone"}"#;

fn call(function_id: &str, data: &str) -> String {
    format!(
        r#"{{"type":"invokefunction","invocation_id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","function_id":"{function_id}","data":{{{data}}}}}"#
    )
}
