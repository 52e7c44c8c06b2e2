//! Planted faults: each takes the place of one expression of the product, and some seed must find it.
//!
//! A copy of the sources gets all of them at once, each behind a number that the process is started
//! with, so one build serves them all and the product itself has no trace of them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An expression of the product, marked in the text around it, and what stands there instead.
struct Fault {
    what: &'static str,
    /// Some file of it has the text, once. With a stroke: it shows where the workers are the real ones.
    layer: &'static str,
    /// The expression stands between « and ».
    of: &'static str,
    is: &'static str,
}

const EVERY_SEED: &str = "every_seed_keeps_what_is_promised";
const TOGETHER: &str = "the_broker_and_the_workers_keep_together_what_each_has_promised";
const BROKER: &str = "broker::whatever_programs_and_owners_do_each_has_its_one_answer";

impl Fault {
    /// The test that has to find it.
    fn test(&self) -> &'static str {
        match self.layer {
            "broker" => BROKER,
            "broker/" => TOGETHER,
            _ => EVERY_SEED,
        }
    }
}

const fn fault(
    what: &'static str,
    layer: &'static str,
    of: &'static str,
    is: &'static str,
) -> Fault {
    Fault {
        what,
        layer,
        of,
        is,
    }
}

#[rustfmt::skip]
const FAULTS: [Fault; 52] = [
    // The mesh.
    fault("a push wakes nobody",
        "mesh", "«self.address.shared.wake.wake()»;", "()"),
    fault("who finds a mailbox full leaves no mark",
        "mesh", "«self.address.shared.waiters.mark(self.thread)»;", "()"),
    fault("a message overtakes those that found no room",
        "mesh", "if «!self.backlog.is_empty()» {\n            return Err(message);", "false"),
    fault("what was sent first goes last",
        "mesh", "«self.backlog.push_front(message)»;", "self.backlog.push_back(message)"),
    // The worker's core.
    fault("who waits for room in a command mailbox is not woken",
        "subscribers", "«commands.tell_waiters(|thread| shared.wake(thread))»;", "()"),
    fault("messages do not wait for a join of their id",
        "subscribers", "fn holds(&self, id: &str) -> bool {\n        «self.pending.iter().any(|pending| *pending.id == *id)»", "false"),
    fault("an id that was joined anew has two leaves",
        "subscribers", "«admitted.iter().any(|(joined, ..)| **joined == *held)»;", "false"),
    fault("a join that was admitted too late is owed no leave",
        "subscribers", "(None, true) => «self.owe(presence)»,", "drop(presence)"),
    fault("leaves that found no room are lost",
        "subscribers", "=> «self.debts.put_back(leaves)»,", "drop(leaves)"),
    fault("who asked for too many leaves is never read again",
        "subscribers", "is_behind_debts = false;\n                «self.queue(id)»;", "()"),
    fault("a parked join is forgotten",
        "subscribers", "«self.go_on_with_parked(id)»;", "()"),
    fault("who has taken what waited is never read again",
        "subscribers", "«self.queue(id)»; // it may have been left unread for what it had not taken", "()"),
    fault("a full socket is read on",
        "life", "match «self.must_wait(id)» {\n            true => Flow::Pause,", "false"),
    fault("one equal subscription too many",
        "subscribers", "«joining + held >= self.limits.equal_subscriptions»", "joining + held > self.limits.equal_subscriptions"),
    fault("who is not answered by the auth function is let in",
        "subscribers", "if «self.auth.as_ref().is_some_and(|auth| auth.admits_failures)» {\n            return self.let_in(id);", "true"),
    fault("one that was let in is counted for ever",
        "subscribers", "«shared.uncount_let_in()»;", "()"),
    fault("a socket without a request stays",
        "life", "while let Some(id) = «self.schedule().handshakes.pop_due(now)»", "None"),
    fault("a drain closes nobody",
        "subscribers", "for id in «left.split_off(keep)»", "Vec::new()"),
    fault("an owner is not told that nobody follows its group",
        "subscribers", "«self.command(key, Ask::Leave { worker, local })»;", "drop((key, worker, local))"),
    fault("who goes to another worker never arrives",
        "subscribers", "«outbox.send(ToOwner::Placed(Handed::new(moving, held_bytes)))»;", "drop((outbox, moving, held_bytes))"),
    fault("what has come behind the head is read before the socket goes",
        "subscribers", "|| «self.home == Home::Departing»", "false"),
    fault("what was read of a socket that goes over is lost",
        "subscribers", "connection.phase = Phase::Open(«moving.frames»);", "Default::default()"),
    // The broker.
    fault("commands that found their owner full are lost",
        "broker", "«parked.push_front(owner, command)»;", "drop((owner, command))"),
    fault("a leave is told again and again",
        "broker", "taken.from = «next.order + 1»;", "next.order"),
    fault("leaves whose function has no room are lost",
        "broker", "return «self.leaves.taken.push_front(taken)»;", "drop(taken)"),
    fault("a join is never decided",
        "broker", "deciding.are_all_asked = «true»;", "false"),
    fault("who waits for a worker that has gone waits on",
        "broker", "«self.hear_call(call, Answered::Gone(&ending.error))»;", "drop(call)"),
    fault("who has gone is remembered for ever",
        "broker", "«self.functions.has_ended(ending.id)»;", "()"),
    fault("who waits for room in the engine's mailbox is not woken",
        "broker", "«ports.mailbox.tell_waiters(|thread| shared.wake(thread))»;", "()"),
    // The life of a socket.
    fault("who is silent is never pinged",
        "life", "false if «age >= quiet» => (Due::Ping, now + answered(pong)),", "false"),
    fault("who answers no ping stays",
        "life", "true if «age >= pong && late <= LATE» => return Due::Dead,", "false"),
    fault("who answers is given up",
        "life", "«self.schedule().silence.hear(id.slot)»;", "()"),
    fault("who is left unread is given up",
        "life", "let is_heard = «turn.unread.is_there() || phase.is_paused()»;", "false"),
    fault("who takes a byte at a time is stalled",
        "life", "if «has_taken || since.is_none()» {", "since.is_none()"),
    fault("who blocks again is stalled for what it did not take long ago",
        "life", "«*since = None»;", "()"),
    fault("who takes nothing stays",
        "life", "if is_open && «self.try_write(id) == Some(false)»", "false"),
    fault("who waits for room for events is not woken",
        "broker/", "«fired.tell_waiters(|thread| shared.wake(thread))»;", "()"),
    fault("a call overtakes those of its caller that found no room",
        "broker/", "Some(peer) => «peer.parked.is_empty()»,", "true"),
    fault("an event is told to a trigger again and again",
        "broker/", "firing.from = «next.order + 1»;", "next.order"),
    fault("who is refused by a function may join",
        "broker/", "if is_unauthorized(result) => «Word::Refuses»,", "Word::Admits"),
    fault("joins that wait for an engine are not looked at again",
        "broker/", "self.waiting_joins = «self.joins.len()»;", "0"),
    // The fan-out.
    fault("a subscription that has left still hears",
        "fanout", "«extra.remove(subscription.item.as_ref(), subscription.from)»;", "()"),
    fault("frames go before the slowest has them",
        "fanout", "list.forget_before(«sweep.slowest», FORGOTTEN_AT_ONCE)", "list.end()"),
    fault("a slow reader is not reported",
        "fanout", "if «behind_bytes(&group.list, next, reader) + held > allowed» {", "false"),
    fault("a change is the same to all readers far behind, whatever each held before",
        "fanout", "held = «older.held.after(&change, standpoints, told)»;", "HeldBefore::by_all(was_there)"),
    fault("who held an item is not told that it is gone",
        "fanout", "frame.kind() == Kind::Delete && «held.is_by_none()»", "true"),
    // The shard.
    fault("an answer goes out before the store has accepted",
        "shard", "«!front.awaits_answer()» || (front.awaits_store() && self.is_refused())", "true"),
    fault("an item's sync has the time of the last event",
        "shard", "self.last.event.saturating_add(«u64::from(of_item)»)", "u64::from(of_item && now == 0)"),
    fault("no epoch begins after a refusal",
        "shard", "self.epoch = «self.epoch.wrapping_add(1)»;", "self.epoch"),
    fault("a leave of an entry that is gone ends the one that is there",
        "shard", "«listener.worker != worker || listener.local != local»", "listener.worker != worker"),
    fault("a join does not see what was answered before it",
        "shard", "«!self.is_whole || self.heard >= self.answered»", "true"),
    fault("what was known before a loss is taken for whole",
        "shard", "following.is_whole = «false»;", "true"),
];

/// Seeds that a fault may take to be found.
const SEEDS: &str = "200";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What stands around the expression, the expression itself, and the whole without marks.
fn parts(fault: &Fault) -> (&str, &str, String) {
    let (before, rest) = fault.of.split_once('«').expect("a mark");
    let (expression, _) = rest.split_once('»').expect("its end");
    (before, expression, fault.of.replace(['«', '»'], ""))
}

/// Every file of the layer that has the fault's text, as often as it has it.
fn places(root: &Path, fault: &Fault) -> Vec<PathBuf> {
    let (_, _, whole) = parts(fault);
    let mut found = Vec::new();
    let mut left = vec![root.join("src").join(fault.layer)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            let text = fs::read_to_string(&path).expect("a file");
            found.extend(text.matches(&whole).map(|_| path.clone()));
        }
    }
    found
}

#[test]
fn each_planted_fault_has_its_place() {
    let is_lost = |fault: &&Fault| places(&root(), fault).len() != 1;
    let lost: Vec<&str> = FAULTS
        .iter()
        .filter(is_lost)
        .map(|fault| fault.what)
        .collect();
    assert!(lost.is_empty(), "they have no place, or several: {lost:#?}");
}

/// `cargo test --test simulation planted -- --ignored`: builds a copy once, beside what is built already.
/// With `FAULTS=10..20` only those are run, of the copy as it is where `FAULTS_BUILT=PROGRAM` names it.
#[test]
#[ignore = "it builds the whole program once more"]
fn each_planted_fault_is_found() {
    let program = env::var_os("FAULTS_BUILT").map_or_else(built, PathBuf::from);
    let run = |number: usize, test: &str| {
        let mut command = Command::new(&program);
        command.args(["--exact", test, "--nocapture"]);
        command
            .env("PLANTED", number.to_string())
            .env("SIM_SEEDS", SEEDS);
        command.output().expect("it runs")
    };
    let asked = env::var("FAULTS").unwrap_or_default();
    let asked = asked.split_once("..");
    let asked = asked.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
    let (from, to) = asked.unwrap_or((0, FAULTS.len()));
    for test in [EVERY_SEED, TOGETHER, BROKER] {
        let is_sound = from > 0 || run(FAULTS.len(), test).status.success();
        assert!(is_sound, "{test} fails without a fault");
    }
    let mut missed = Vec::new();
    for (number, fault) in FAULTS.iter().enumerate().take(to).skip(from) {
        let output = run(number, fault.test());
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let seed = log.lines().find(|line| line.starts_with("seed "));
        match seed {
            Some(seed) if !output.status.success() => eprintln!("{}: {seed}", fault.what),
            _ => missed.push(fault.what),
        }
    }
    assert!(missed.is_empty(), "never found: {missed:#?}");
}

/// Gives the simulation of a copy with all faults in it.
fn built() -> PathBuf {
    let copy = root().join("target/planted");
    let _ = fs::remove_dir_all(&copy); // it may not be there
    for name in ["src", "tests", "benches", "Cargo.toml", "Cargo.lock"] {
        copy_all(&root().join(name), &copy.join(name));
    }
    rename(&copy);
    plant_all(&copy);
    let program = build(&copy);
    eprintln!("FAULTS_BUILT={}", program.display());
    program
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            copy_all(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.exists() {
        fs::copy(from, to).expect("a file");
    }
}

/// Another package without a program, so that nothing that is built of the real one is touched.
fn rename(copy: &Path) {
    let manifest = copy.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("the manifest");
    let text = text.replace("members = [\"loadtest\"]", "");
    let text = text.replace("default-run = \"iii-stream\"", "autobins = false");
    let text = text.replacen("name = \"iii-stream\"", "name = \"planted\"", 1);
    let (before, program) = text.split_once("[[bin]]").expect("a program");
    let (_, after) = program.split_once("\n[").expect("more");
    fs::write(&manifest, format!("{before}[{after}")).expect("the manifest");
    let lock = copy.join("Cargo.lock");
    let text = fs::read_to_string(&lock).expect("the lock file");
    let text = text.replace("name = \"iii-stream\"", "name = \"planted\"");
    fs::write(&lock, text).expect("the lock file");
}

fn plant_all(copy: &Path) {
    for (number, fault) in FAULTS.iter().enumerate() {
        let places = places(copy, fault);
        let [path] = &places[..] else {
            panic!("{}: it has {} places", fault.what, places.len());
        };
        let text = fs::read_to_string(path).expect("a file");
        let (before, expression, whole) = parts(fault);
        let after = &whole[before.len() + expression.len()..];
        let is = fault.is;
        let planted = format!(
            "{before}(if crate::planted::is({number}) {{ {is} }} else {{ {expression} }}){after}"
        );
        fs::write(path, text.replacen(&whole, &planted, 1)).expect("a file");
    }
    let library = copy.join("src/lib.rs");
    let text = fs::read_to_string(&library).expect("the library");
    let planted = r#"
pub mod planted {
    //! Which fault this process has.
    pub fn is(number: usize) -> bool {
        static PLANTED: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let planted = || std::env::var("PLANTED").map_or(usize::MAX, |text| text.parse().unwrap_or(usize::MAX));
        *PLANTED.get_or_init(planted) == number
    }
}
"#;
    fs::write(&library, text + planted).expect("the library");
}

/// Gives the copy's simulation.
fn build(copy: &Path) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "test",
        "--offline",
        "--test",
        "simulation",
        "--no-run",
        "--message-format=json",
        "--config",
        "profile.dev.package.planted.opt-level=1",
    ]);
    command
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", root().join("target"));
    let output = command.output().expect("cargo runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut programs = lines.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    programs.next_back().expect("a program")
}
