//! How long does one turn of a thread take while a peer asks for what is large? Prints for each step,
//! by thread, how many turns were longer than 1 ms and below what the longest was: a group of many
//! items that is listed, joined and left, an item that very many watch, listings of very many groups.
//!
//! Times are those of the clock, so they mean something on an idle machine only.

#![allow(clippy::print_stdout, reason = "its output")]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use iii_stream::metrics::LoopTurns;
use iii_stream::server::Server;
use support::{Client, frame, wire};

const ITEMS: usize = 100_000;
const GROUPS: usize = 100_000;
const WATCHERS: usize = 5_000;
const SOCKETS_WITH_MANY: usize = 20;
const SUBSCRIPTIONS: usize = 5_000;
/// How long a room is joined and left in a loop.
const LOOPING: Duration = Duration::from_secs(3);
/// Longer than a group keeps the texts of its list.
const COOLING: Duration = Duration::from_millis(1500);
const ID: &str = "00000000-0000-4000-8000-000000000001";

fn main() {
    let server = support::server();
    let mut caller = Client::open(&server.worker_address().expect("a port").to_string());
    let address = server.stream_address().to_string();
    let mut steps = Steps::new(&server);

    fill(&mut caller);
    steps.end("fill (void sets)");

    for _ in 0..3 {
        caller.send(&call("stream::list", r#""group_id":"large""#));
        caller.wait_for(1);
        std::thread::sleep(COOLING);
    }
    steps.end("list of 100,000 items, cold, 3 times");

    for _ in 0..3 {
        let mut joins = Client::open(&address);
        joins.send(&join("s", "large", None));
        joins.wait_for(1);
        drop(joins);
        std::thread::sleep(COOLING);
    }
    steps.end("join and end of it, cold, 3 times");

    // Before, beside a socket that joins and leaves in a loop, and beside one while the room changes.
    for (loops, changes) in [(false, false), (true, false), (true, true)] {
        let waits = waits_of_others(&address, &mut caller, loops, changes);
        steps.end(&format!(
            "loop: {loops}, changes: {changes}; others' pings took {waits}"
        ));
    }

    for _ in 0..3 {
        caller.send(&call("stream::list_groups", r#""x":1"#));
        caller.wait_for(1);
    }
    steps.end("list_groups of 100,000 groups, 3 times");

    for _ in 0..3 {
        caller.send(&call("stream::list_all", r#""x":1"#));
        caller.wait_for(1);
    }
    steps.end("list_all of them, 3 times");

    // Beside watchers of an item, as many who follow a group whole: what the writes alone cost.
    let mut watchers: Vec<Client> = Vec::new();
    for (group, item) in [("whole", None), ("watched", Some("u"))] {
        drop(std::mem::take(&mut watchers));
        while server.shared().connections_len() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        watchers = (0..WATCHERS).map(|_| Client::open(&address)).collect();
        for watcher in &mut watchers {
            watcher.send(&join("s", group, item));
            watcher.wait_for(1);
        }
        steps.end(&format!("5,000 sockets join {group}"));
        for n in 0..20 {
            let data = format!(r#""group_id":"{group}","item_id":"u","data":{n}"#);
            caller.send(&call("stream::set", &data));
            caller.wait_for(1);
            for watcher in &mut watchers {
                watcher.wait_for(1);
            }
        }
        steps.end("20 events of it");
    }

    let mut many: Vec<Client> = (0..SOCKETS_WITH_MANY)
        .map(|_| Client::open(&address))
        .collect();
    for socket in &mut many {
        for n in 0..SUBSCRIPTIONS {
            socket.send(&join(&n.to_string(), "many", Some(&format!("u{n}"))));
            socket.wait_for(1);
        }
    }
    steps.end("20 sockets join 5,000 items each");
    for _ in 0..5 {
        for socket in &mut many {
            socket.send(&join("whole", "many", None));
            socket.wait_for(1);
            socket.send(&leave("whole", "many"));
        }
    }
    many[0].send(&join("last", "many", None));
    many[0].wait_for(1);
    steps.end("each joins and leaves the whole group, 5 times");
    drop(many);
    drop(watchers);
    while server.shared().connections_len() > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    steps.end("all sockets end");

    let object: Vec<String> = (0..50_000).map(|n| format!(r#""key {n}":{n}"#)).collect();
    let object = format!("{{{}}}", object.join(","));
    let data = format!(r#""group_id":"object","item_id":"u","data":{object}"#);
    caller.send(&call("stream::set", &data));
    caller.wait_for(1);
    steps.end("set of an object of 0.9 MB");
    for _ in 0..5 {
        let ops = r#""ops":[{"type":"increment","path":"key 49999","by":1}]"#;
        let data = format!(r#""group_id":"object","item_id":"u",{ops}"#);
        caller.send(&call("stream::update", &data));
        caller.wait_for(1);
    }
    steps.end("5 updates of it");
    server.drain();
}

/// How long the answers to another socket's pings take, median and p99.
fn waits_of_others(address: &str, caller: &mut Client, loops: bool, changes: bool) -> String {
    let until = Instant::now() + LOOPING;
    let mut looping = Client::open(address);
    let looping = std::thread::spawn(move || {
        let mut rooms = 0;
        while loops && Instant::now() < until {
            looping.send(&join("s", "large", None));
            looping.wait_for(1);
            looping.send(&leave("s", "large"));
            rooms += 1;
        }
        rooms
    });
    let mut other = Client::open(address);
    let ping = wire::frame(0x89, b"p");
    let mut took = Vec::new();
    while Instant::now() < until {
        if changes {
            let data = r#""group_id":"large","item_id":"item 7","data":1"#;
            caller.send(&call("stream::set", data));
        }
        let sent = Instant::now();
        other.stream.write_all(&ping).expect("a live socket");
        other.wait_for(1);
        took.push(sent.elapsed());
        if changes {
            caller.wait_for(1);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let rooms = looping.join().expect("a socket that reads");
    format!("{:?} and {:?}, {rooms} rooms", at(50), at(99))
}

fn fill(caller: &mut Client) {
    let set = |group: &str, item: &str| {
        let data = r#"{"id":"user-000000000001","name":"somebody","status":"online"}"#;
        let set = call(
            "stream::set",
            &format!(r#""group_id":"{group}","item_id":"{item}","data":{data}"#),
        );
        frame(&set.replace(&format!("\"{ID}\""), "null"))
    };
    let mut sets = Vec::new();
    for n in 0..ITEMS {
        sets.extend(set("large", &format!("item {n}")));
    }
    for n in 0..GROUPS {
        sets.extend(set(&format!("group {n}"), "u"));
    }
    caller.stream.write_all(&sets).expect("a live socket");
    caller.send(&call("stream::get", r#""group_id":"g","item_id":"u""#));
    caller.wait_for(1);
    std::thread::sleep(Duration::from_secs(1));
}

fn call(function: &str, data: &str) -> String {
    format!(
        r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"{function}","data":{{"stream_name":"s",{data}}}}}"#
    )
}

fn join(id: &str, group: &str, item: Option<&str>) -> String {
    let item = item.map_or_else(String::new, |item| format!(r#","id":"{item}""#));
    format!(
        r#"{{"type":"join","data":{{"subscriptionId":"{id}","streamName":"s","groupId":"{group}"{item}}}}}"#
    )
}

fn leave(id: &str, group: &str) -> String {
    let names = format!(r#""streamName":"s","groupId":"{group}""#);
    format!(r#"{{"type":"leave","data":{{"subscriptionId":"{id}",{names}}}}}"#)
}

/// What the turns of each thread took since the last step.
struct Steps<'a> {
    server: &'a Server,
    before: [Vec<u64>; 2],
    began: Instant,
}

impl<'a> Steps<'a> {
    fn new(server: &'a Server) -> Steps<'a> {
        Steps {
            server,
            before: [Vec::new(), Vec::new()],
            began: Instant::now(),
        }
    }

    fn end(&mut self, name: &str) {
        std::thread::sleep(Duration::from_millis(20)); // the turn that answered ends
        let took = self.began.elapsed();
        let shared = self.server.shared();
        let threads = [
            ("worker", &shared.workers[0].loop_turns),
            ("engine", &shared.engine.loop_turns),
        ];
        print!("{name} ({:.2} s):", took.as_secs_f64());
        for ((thread, turns), before) in threads.into_iter().zip(&mut self.before) {
            print!("  {thread} {}", since(turns, before));
        }
        println!();
        self.began = Instant::now();
    }
}

fn since(turns: &LoopTurns, before: &mut Vec<u64>) -> String {
    let now: Vec<(Duration, u64)> = turns.steps().collect();
    before.resize(now.len(), 0);
    let new = now.iter().zip(before.iter());
    let new: Vec<(Duration, u64)> = new
        .map(|((below, count), before)| (*below, count - before))
        .collect();
    *before = now.iter().map(|(_, count)| *count).collect();
    let longest = new.iter().rfind(|(_, count)| *count > 0);
    let longest = longest.map_or(Duration::ZERO, |(below, _)| *below);
    let long = new
        .iter()
        .filter(|(below, _)| *below > Duration::from_micros(1024));
    let long: u64 = long.map(|(_, count)| count).sum();
    let all: u64 = new.iter().map(|(_, count)| count).sum();
    format!("{long} of {all} turns above 1 ms, the longest below {longest:?}")
}
