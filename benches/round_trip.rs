//! What does a call take, there and back, over a real socket: a bare echo by the engine's loop
//! (`ping`), a `stream::get` that goes to its owner and back, and that `get` while others do their
//! worst? Prints quantiles: for these the median alone says little.

#![allow(clippy::print_stdout, reason = "its output")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, frame};

const CALLS: usize = 20_000;
/// Each takes some ms.
const CALLS_BESIDE_OTHERS: usize = 3_000;
const ID: &str = "00000000-0000-4000-8000-000000000001";

fn main() {
    let server = support::server();
    let worker_port = server.worker_address().expect("a port for SDK workers");
    let worker_port = worker_port.to_string();
    let mut caller = Client::open(&worker_port);
    let set = call("stream::set", r#""item_id":"u1","data":{"n":1}"#);
    caller.send(&set);
    caller.wait_for(1);
    let get = call("stream::get", r#""item_id":"u1""#);
    let ping = r#"{"type":"ping"}"#.to_owned();

    let echo = measure("echo of a ping", &mut caller, &ping, CALLS);
    let alone = measure("get, alone", &mut caller, &get, CALLS);
    println!("get / echo, medians: {:.2}", alone / echo);

    let ended = Arc::new(AtomicBool::new(false));
    let hostile = [
        hostile(server.stream_address().to_string(), &ended, large_messages),
        hostile(worker_port, &ended, pipelined_sets),
    ];
    measure(
        "get, beside a flood of 1 MiB messages and a pipeline of sets",
        &mut caller,
        &get,
        CALLS_BESIDE_OTHERS,
    );
    ended.store(true, Ordering::Relaxed);
    for thread in hostile {
        let _ = thread.join();
    }
    server.drain();
}

fn call(function: &str, data: &str) -> String {
    format!(
        r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"{function}","data":{{"stream_name":"s","group_id":"g",{data}}}}}"#
    )
}

fn measure(name: &str, client: &mut Client, message: &str, calls: usize) -> f64 {
    let frame = frame(message);
    let mut times: Vec<Duration> = (0..calls)
        .map(|_| {
            let begin = Instant::now();
            client.stream.write_all(&frame).expect("a live socket");
            client.wait_for(1);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let micros = |share: f64| times[((calls - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{name}: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs",
        micros(0.5),
        micros(0.99),
        micros(0.999)
    );
    micros(0.5)
}

fn hostile(
    address: String,
    ended: &Arc<AtomicBool>,
    make: fn() -> Vec<u8>,
) -> std::thread::JoinHandle<()> {
    let ended = Arc::clone(ended);
    std::thread::spawn(move || {
        let mut client = Client::open(&address);
        let bytes = make();
        let timeout = Some(Duration::from_millis(100));
        client
            .stream
            .set_write_timeout(timeout)
            .expect("a live socket");
        let mut sent = 0;
        // Ends with the measurement. A write that timed out has sent nothing.
        while !ended.load(Ordering::Relaxed) {
            sent = (sent + client.stream.write(&bytes[sent..]).unwrap_or(0)) % bytes.len();
        }
    })
}

fn large_messages() -> Vec<u8> {
    frame(&" ".repeat((1 << 20) - 64))
}

/// Void sets, so that nothing comes back that would have to be read.
fn pipelined_sets() -> Vec<u8> {
    let data = format!(r#""item_id":"u2","data":"{}""#, "x".repeat(100));
    let set = call("stream::set", &data).replace(&format!("\"{ID}\""), "null");
    frame(&set).repeat(500)
}
