//! Recorded conversations with the reference, replayed: what comes back must be what came then.
//!
//! A step and what it yields stand in `tests/conformance/README.md`. Stream names get a suffix of
//! their own in each run; uuids, timestamps and addresses are compared as such only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iii_stream::config::{FileStore, StoreConfig};
use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use uuid::Uuid;

use crate::support::clients::{Socket, open};
use crate::support::raw::Patient;
use crate::support::redis::RedisServer;
use crate::support::{DEADLINE, ONE_WORKER, Shape, THREE_WORKERS, TestServer, raw};

/// Cases play side by side: most of their time is spent waiting for what must not come.
const PLAYERS: usize = 4;
/// Stands where something was waited for and did not come.
const NOTHING_MORE: &str = "<nothing more>";
/// How long that is waited for.
const QUIET: Duration = Duration::from_millis(500);

#[test]
fn three_workers_answer_as_the_reference_did() {
    play_all(&TestServer::start(THREE_WORKERS));
}

#[test]
fn one_worker_answers_as_the_reference_did() {
    play_all(&TestServer::start(ONE_WORKER));
}

#[test]
fn three_workers_on_redis_answer_as_the_reference_did() {
    let redis = RedisServer::start();
    play_all(&redis.server(THREE_WORKERS));
}

#[test]
fn one_worker_on_redis_answers_as_the_reference_did() {
    let redis = RedisServer::start();
    play_all(&redis.server(ONE_WORKER));
}

#[test]
fn three_workers_on_files_answer_as_the_reference_did() {
    play_all_on_files(THREE_WORKERS);
}

#[test]
fn one_worker_on_files_answers_as_the_reference_did() {
    play_all_on_files(ONE_WORKER);
}

/// With the file store below; small segments, so that snapshots are made meanwhile.
fn play_all_on_files(shape: Shape) {
    let name = format!("iii-conformance-{}-{}", std::process::id(), shape.threads);
    let path = std::env::temp_dir().join(name);
    let server = TestServer::with(shape, |config| {
        config.store = StoreConfig::Files(FileStore {
            segment_bytes: 4096,
            ..FileStore::at(&path)
        });
    });
    play_all(&server);
    drop(server);
    std::fs::remove_dir_all(path).unwrap();
}

fn play_all(server: &TestServer) {
    let side_by_side = [
        include_str!("../conformance/functions.json"),
        include_str!("../conformance/values.json"),
        include_str!("../conformance/updates.json"),
        include_str!("../conformance/subscriptions.json"),
    ];
    // A join trigger hears of every stream: other cases would disturb these.
    let alone = [
        include_str!("../conformance/engine.json"),
        include_str!("../conformance/triggers.json"),
        include_str!("../conformance/overrides.json"),
    ];
    let mut differences = play(server, &side_by_side, PLAYERS);
    differences.extend(play(server, &alone, 1));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What differed in the cases of these files, played by so many at once.
fn play(server: &TestServer, files: &[&str], players: usize) -> Vec<String> {
    let cases: Vec<Value> = files
        .iter()
        .flat_map(|file| serde_json::from_str::<Vec<Value>>(file).unwrap())
        .collect();
    let next = AtomicUsize::new(0);
    let differences = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..players {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = Case::new(case).play(server);
                    differences.lock().unwrap().extend(found);
                }
            });
        }
    });
    differences.into_inner().unwrap()
}

/// One conversation, with its own suffix to the names of its streams.
struct Case<'a> {
    case: &'a Value,
    salt: String,
    connections: HashMap<String, Connection>,
}

impl<'a> Case<'a> {
    fn new(case: &'a Value) -> Case<'a> {
        let salt = format!(".{}", &Uuid::new_v4().simple().to_string()[..8]);
        Case {
            case,
            salt,
            connections: HashMap::new(),
        }
    }

    /// What differed, each with its step.
    fn play(mut self, server: &TestServer) -> Vec<String> {
        let steps = self.case["steps"].as_array().unwrap();
        let expected = self.case["expected"].as_array().unwrap();
        let mut differences = Vec::new();
        for (step, wanted) in steps.iter().zip(expected) {
            // Only where nothing is to come is its absence worth a short wait.
            let patience = match wanted.to_string().contains(NOTHING_MORE) {
                true => QUIET,
                false => DEADLINE,
            };
            let got = self.step(&self.salted(step, ""), server, patience);
            let got: Value =
                serde_json::from_str(&got.to_string().replace(&self.salt, "")).unwrap();
            let (mut wanted, mut got) = (wanted.clone(), got);
            if step.get("any_order").is_some() {
                sort(&mut wanted);
                sort(&mut got);
            }
            if !is_same(&wanted, &got, step.get("invoked").is_some()) {
                let name = &self.case["name"];
                differences.push(format!("{name}: {step}\n  wanted {wanted}\n  got    {got}"));
            }
        }
        self.end();
        differences
    }

    /// Workers go before subscribers, each to its end: a later case hears nothing of this one.
    fn end(&mut self) {
        let (workers, subscribers): (Vec<_>, Vec<_>) = std::mem::take(&mut self.connections)
            .into_values()
            .partition(|connection| connection.is_engine);
        for mut connection in workers.into_iter().chain(subscribers) {
            connection.close();
        }
    }

    fn step(&mut self, step: &Value, server: &TestServer, patience: Duration) -> Value {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let count = || step["count"].as_u64().unwrap() as usize;
        let function = text("function_id");
        if step.get("open").is_some() {
            let path = step["path"].as_str().unwrap_or("/");
            let connection = Connection::open(server, &step["to"], path);
            self.connections.insert(text("open"), connection);
            return json!("open");
        }
        if step.get("sleep").is_some() {
            // Part of the recording, so that two moments differ.
            std::thread::sleep(Duration::from_millis(step["sleep"].as_u64().unwrap()));
            return Value::Null;
        }
        let verbs = [
            "send",
            "call",
            "void",
            "serve",
            "trigger",
            "untrigger",
            "invoked",
            "recv",
            "quiet",
            "close",
        ];
        let verb = verbs.into_iter().find(|verb| step.get(verb).is_some());
        let verb = verb.unwrap_or_else(|| panic!("no such step: {step}"));
        let connection = self.connections.get_mut(&text(verb)).unwrap();
        match verb {
            "send" => {
                let message = match (step.get("json"), step.get("binary")) {
                    (Some(json), _) => Message::text(json.to_string()),
                    (_, Some(_)) => Message::binary(text("binary").into_bytes()),
                    _ => Message::text(text("text")),
                };
                connection.send(message);
                Value::Null
            }
            "call" => connection.call(&function, &step["data"], step.get("action")),
            "void" => {
                let call = json!({"type": "invokefunction", "function_id": function,
                    "data": step["data"], "action": {"type": "void"}});
                connection.send(Message::text(call.to_string()));
                Value::Null
            }
            "serve" => {
                connection.serve(function, step["reply"].clone());
                Value::Null
            }
            "trigger" => {
                let registration = json!({"type": "registertrigger", "id": step["id"],
                    "trigger_type": step["type"], "function_id": function, "config": step["config"]});
                connection.send(Message::text(registration.to_string()));
                connection.settle();
                Value::Null
            }
            "untrigger" => {
                let end = json!({"type": "unregistertrigger", "id": step["id"],
                    "trigger_type": step["type"]});
                connection.send(Message::text(end.to_string()));
                connection.settle();
                Value::Null
            }
            "close" => {
                connection.close();
                Value::Null
            }
            "invoked" => {
                let calls = (0..count()).map(|_| take(&connection.calls[&function], patience));
                normal(Value::Array(calls.collect()), "")
            }
            "recv" => {
                let came = (0..count()).map(|_| take(&connection.inbox, patience));
                normal(Value::Array(came.collect()), "")
            }
            "quiet" => {
                std::thread::sleep(Duration::from_millis(step["ms"].as_u64().unwrap()));
                normal(connection.inbox.try_iter().collect(), "")
            }
            _ => unreachable!("one of the verbs"),
        }
    }

    /// The same step, with stream names of this run's own.
    fn salted(&self, value: &Value, key: &str) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (key.clone(), self.salted(value, key)))
                .collect(),
            Value::Array(values) => values.iter().map(|value| self.salted(value, key)).collect(),
            Value::String(id)
                if key == "function_id" && id.starts_with("stream::") && id.ends_with(')') =>
            {
                json!(format!("{}{})", &id[..id.len() - 1], self.salt))
            }
            Value::String(name) if ["stream_name", "streamName"].contains(&key) => {
                json!(format!("{name}{}", self.salt))
            }
            Value::String(text)
                if ["text", "binary"].contains(&key) && text.contains("streamName") =>
            {
                match serde_json::from_str(text) {
                    Ok(message) => json!(self.salted(&message, "").to_string()),
                    Err(_) => value.clone(),
                }
            }
            other => other.clone(),
        }
    }
}

/// One socket, read by a thread of its own, which also answers the functions that it serves.
struct Connection {
    is_engine: bool,
    writer: Writer,
    /// Messages that are neither results nor calls.
    inbox: Receiver<Value>,
    results: Receiver<Value>,
    /// The payloads that its functions got.
    calls: HashMap<String, Receiver<Value>>,
    served: Served,
    /// Hears of the end of the socket.
    ended: Receiver<()>,
}

type Writer = Arc<Mutex<Socket>>;
type Served = Arc<Mutex<HashMap<String, ServedFunction>>>;

struct ServedFunction {
    reply: Value,
    called: Sender<Value>,
}

impl Connection {
    fn open(server: &TestServer, to: &Value, path: &str) -> Connection {
        let address = match to.as_str() {
            Some("engine") => server.worker(),
            _ => server.stream(),
        };
        let is_engine = address == server.worker();
        let reader = open(raw::connect(address), address, path);
        let stream = reader.get_ref().try_clone().unwrap();
        let writer = WebSocket::from_raw_socket(Patient(stream), Role::Client, None);
        let writer = Arc::new(Mutex::new(writer));
        let (into_inbox, inbox) = channel();
        let (into_results, results) = channel();
        let served = Served::default();
        let (into_ended, ended) = channel();
        let reading = Reading {
            _ends: into_ended,
            writer: Arc::clone(&writer),
            served: Arc::clone(&served),
            is_engine,
            inbox: into_inbox,
            results: into_results,
        };
        std::thread::spawn(move || reading.run(reader));
        Connection {
            is_engine,
            writer,
            inbox,
            results,
            calls: HashMap::new(),
            served,
            ended,
        }
    }

    fn send(&mut self, message: Message) {
        self.writer.lock().unwrap().send(message).unwrap();
    }

    fn call(&mut self, function: &str, data: &Value, action: Option<&Value>) -> Value {
        let mut call = json!({"type": "invokefunction", "invocation_id": Uuid::new_v4().to_string(),
            "function_id": function, "data": data});
        if let Some(action) = action {
            call["action"] = action.clone();
        }
        self.send(Message::text(call.to_string()));
        let mut result = take(&self.results, DEADLINE);
        for header in ["traceparent", "baggage", "invocation_id"] {
            result.as_object_mut().unwrap().remove(header);
        }
        normal(result, "")
    }

    /// From the return on everybody's calls of that function reach it.
    fn serve(&mut self, function: String, reply: Value) {
        let registration = json!({"type": "registerfunction", "id": function});
        let (called, calls) = channel();
        self.calls.insert(function.clone(), calls);
        let served = ServedFunction { reply, called };
        self.served.lock().unwrap().insert(function, served);
        self.send(Message::text(registration.to_string()));
        self.settle();
    }

    /// An answer to whatever comes after them says that registrations have taken effect.
    fn settle(&mut self) {
        self.call("conformance::settled", &Value::Null, None);
    }

    /// The closing handshake, to its end: then the server has seen it.
    fn close(&mut self) {
        let _ = self.writer.lock().unwrap().close(None);
        let ended = self.ended.recv_timeout(DEADLINE);
        assert_ne!(
            ended,
            Err(RecvTimeoutError::Timeout),
            "the socket stays open"
        );
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Ends the reader as well.
        let writer = self.writer.lock().unwrap();
        let _ = writer.get_ref().shutdown(std::net::Shutdown::Both);
    }
}

/// The reading half of a connection.
struct Reading {
    /// Its end tells of the socket's.
    _ends: Sender<()>,
    writer: Writer,
    served: Served,
    is_engine: bool,
    inbox: Sender<Value>,
    results: Sender<Value>,
}

impl Reading {
    fn run(self, mut reader: Socket) {
        loop {
            let text = match reader.read() {
                Ok(Message::Text(text)) => text,
                Ok(_) => continue,
                Err(_) => return,
            };
            let message: Value = serde_json::from_str(text.as_str()).expect("JSON");
            // A case that is over listens no more.
            let _ = match message["type"].as_str() {
                Some("invocationresult") if self.is_engine => self.results.send(message),
                Some("workerregistered") if self.is_engine => Ok(()),
                Some("invokefunction") if self.is_engine => {
                    self.answer(&message);
                    Ok(())
                }
                _ => self.inbox.send(message),
            };
        }
    }

    fn answer(&self, call: &Value) {
        let served = self.served.lock().unwrap();
        let Some(function) = call["function_id"].as_str().and_then(|id| served.get(id)) else {
            return;
        };
        let _ = function.called.send(call["data"].clone());
        let mut result = json!({"type": "invocationresult",
            "invocation_id": call["invocation_id"], "function_id": call["function_id"]});
        match function.reply.get("<error>") {
            Some(error) => result["error"] = error.clone(),
            None => result["result"] = function.reply.clone(),
        }
        let _ = self
            .writer
            .lock()
            .unwrap()
            .send(Message::text(result.to_string()));
    }
}

/// The next of these, or a text in its place when none comes in time.
fn take(queue: &Receiver<Value>, patience: Duration) -> Value {
    queue
        .recv_timeout(patience)
        .unwrap_or_else(|_| json!(NOTHING_MORE))
}

/// Uuids and timestamps are another in every run.
fn normal(value: Value, key: &str) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let value = normal(value, &key);
                (key, value)
            })
            .collect(),
        Value::Array(values) => values.into_iter().map(|value| normal(value, "")).collect(),
        Value::String(text) if text.len() == 36 && Uuid::parse_str(&text).is_ok() => {
            json!("<uuid>")
        }
        Value::Number(_) if ["timestamp", "timestamp_ms"].contains(&key) => json!("<ts>"),
        _ if key == "addr" => json!("<addr>"),
        other => other,
    }
}

/// Where the order is not promised: of a list, of a listing in a result, of a `sync`.
fn sort(value: &mut Value) {
    match value {
        Value::Array(values) => {
            for value in values.iter_mut() {
                if let Some(Value::Array(synced)) = value.pointer_mut("/event/data") {
                    synced.sort_by_key(Value::to_string);
                }
            }
            values.sort_by_key(Value::to_string);
        }
        other => {
            if let Some(Value::Array(listed)) = other.get_mut("result") {
                listed.sort_by_key(Value::to_string);
            }
        }
    }
}

/// Equal as JSON. With `extra` an actual object may have more fields, but not inside values.
fn is_same(wanted: &Value, got: &Value, extra: bool) -> bool {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            (extra || wanted.len() == got.len())
                && wanted.iter().all(|(key, wanted)| {
                    let extra = extra && !["event", "data", "context", "result"].contains(&&**key);
                    got.get(key).is_some_and(|got| is_same(wanted, got, extra))
                })
        }
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len()
                && wanted
                    .iter()
                    .zip(got)
                    .all(|(wanted, got)| is_same(wanted, got, extra))
        }
        (Value::Number(wanted), Value::Number(got)) => {
            wanted == got || (wanted.is_f64() || got.is_f64()) && wanted.as_f64() == got.as_f64()
        }
        (wanted, got) => wanted == got,
    }
}
