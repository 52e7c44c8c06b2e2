//! The imports obey the layers: arrows point right only, and the pure parts name nothing impure.
//! `circles` has what holds between single files.
//!
//! ```text
//! main → server → worker | store | engine | admin → subscribers | broker | net → mesh → shard | fanout → protocol → collections → id
//!      → command
//! ```
//! `subscribers` is the core that `worker` runs, and `broker` the one that `engine` runs: cores have no I/O, so
//! neither names `net`, and nobody but its shell names a core.
//! `command`, what the program does beside serving, stands beside `server` and does not name it.
//! `life`, what both ports make of a socket, stands beside `mesh`; it has no I/O either.
//! `config` stands beside `shard` and `fanout`: its settings are made of what `protocol` goes by. Beside
//! `id` at the end stand `chance`, `control`, `log`, `machine`, `metrics`, `reading` and `time`, and behind them `notes`, what `log` is
//! to hear: they name nothing of ours beside, and all may use them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[path = "layers/circles.rs"]
mod circles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Who may be named by whom: only what has a higher number, and itself.
const LAYERS: [(&str, u32); 28] = [
    ("main", 0),
    ("command", 1),
    ("cli", 4),
    ("server", 1),
    ("worker", 2),
    ("store", 2),
    ("engine", 2),
    ("admin", 2),
    ("subscribers", 3),
    ("broker", 3),
    ("net", 3),
    ("mesh", 4),
    ("shard", 5),
    ("fanout", 5),
    ("life", 4),
    ("protocol", 6),
    ("collections", 7),
    ("id", 8),
    ("config", 5),
    ("chance", 8),
    ("control", 8),
    ("log", 8),
    ("machine", 8),
    ("metrics", 8),
    ("time", 8),
    ("reading", 8),
    ("notes", 9),
    ("lib", 9),
];

/// What needs a socket, a file, a thread, a lock, a clock, chance or a log.
const IMPURE: [&str; 16] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "Instant",
    "SystemTime::now",
    "Mutex",
    "RwLock",
    "Condvar",
    "std::sync::atomic",
    "tracing",
    "rand",
    "mio",
    "socket2",
    "crossbeam",
];

/// A file of ours: the module of the first level that it belongs to, and its code.
struct Source {
    path: PathBuf,
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    sources_in("src")
}

/// All files below a folder of the repository.
fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut sources = Vec::new();
    let mut tests = BTreeSet::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue; // a text that is compiled in
            }
            let inside = path.strip_prefix(&root).unwrap();
            let first = inside.components().next().unwrap().as_os_str();
            let module = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let home = match path.ends_with("mod.rs") {
                true => path.with_file_name(""),
                false => path.with_extension(""),
            };
            tests.extend(tests_below(&text).map(|name| home.join(name)));
            let code = code_of(&text);
            sources.push(Source { path, module, code });
        }
    }
    let is_test = |path: &Path| path.ancestors().any(|above| tests.contains(above));
    sources.retain(|source| !is_test(&source.path.with_extension("")));
    assert!(sources.len() > 30, "src was found");
    sources
}

/// The modules that a file has for its tests alone, each in a file of its own.
fn tests_below(text: &str) -> impl Iterator<Item = &str> {
    let declared = text.split("#[cfg(test)]\nmod ").skip(1);
    declared.filter_map(|rest| rest.split_once('\n')?.0.strip_suffix(';'))
}

/// Without comments, and without the tests at the foot of the file.
fn code_of(text: &str) -> String {
    let text = text.split("\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| match line.find("//") {
        Some(comment) => &line[..comment],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of the first level that some code names: `crate::a`, `crate::{a, b::c}`.
fn named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for root in ["crate::", "iii_stream::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => named.extend(heads(group)),
                None => named.extend(word(rest)),
            }
        }
    }
    named
}

/// The first word of each entry of a group of imports, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut is_first = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            _ if is_first && !character.is_whitespace() => {
                heads.extend(word(&group[at..]));
                is_first = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_');
    let word = &text[..end.unwrap_or(text.len())];
    (!word.is_empty()).then(|| word.to_owned())
}

#[test]
fn arrows_point_right_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let from = layer_of(&source.module).unwrap_or_else(|| {
            panic!(
                "{} has no place among the layers: give it one",
                source.module
            )
        });
        for target in named(&source.code) {
            // A name that is no module is one that the crate exports at its top.
            let Some(to) = layer_of(&target) else {
                continue;
            };
            if target != source.module && to <= from {
                wrong.push(format!("{} names {target}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn layer_of(module: &str) -> Option<u32> {
    let found = LAYERS.iter().find(|(name, _)| *name == module);
    found.map(|(_, layer)| *layer)
}

#[test]
fn shard_fanout_and_protocol_are_pure() {
    let mut wrong = Vec::new();
    let pure = ["shard", "fanout", "protocol", "collections", "id"];
    for source in sources() {
        if !pure.contains(&&*source.module) {
            continue;
        }
        for name in IMPURE {
            if names(&source.code, name) {
                wrong.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A core takes part in the mesh, and times are handed to it: it may name a time and not read one. What the
/// log is to hear leaves it as data.
fn check_core(core: &str, more: &[&str]) {
    let reads_time = ["Instant::now", "Now::read", "TurnClock"];
    let impure = IMPURE.iter().filter(|name| **name != "Instant");
    let impure = impure.chain(&reads_time).chain(more);
    let impure: Vec<&str> = impure.copied().collect();
    let mut found = 0;
    for source in sources() {
        if source.module == core {
            found += 1;
            for name in &impure {
                let is_used = names(&source.code, name);
                assert!(!is_used, "{} uses {name}", source.path.display());
            }
            let says = named(&source.code).contains("log");
            assert!(!says, "{} names the log", source.path.display());
        }
    }
    assert!(found > 1, "its files were found");
}

#[test]
fn subscribers_have_no_socket_poll_clock_thread_chance_or_log() {
    check_core("subscribers", &["uuid"]);
}

#[test]
fn the_life_of_a_socket_has_no_socket_poll_clock_thread_chance_or_log() {
    check_core("life", &["uuid"]);
}

/// The broker gives SDK workers and calls their names, which nobody may guess: it may draw them by chance.
#[test]
fn the_broker_has_no_socket_poll_clock_thread_or_log() {
    check_core("broker", &[]);
}

#[test]
fn what_the_log_is_to_hear_is_said_elsewhere() {
    check_core("notes", &["uuid"]);
}

#[test]
fn a_core_is_named_by_its_shell_alone() {
    for (core, shell) in [("subscribers", "worker"), ("broker", "engine")] {
        let all = sources();
        let by = all
            .iter()
            .filter(|source| named(&source.code).contains(core));
        let mut others = by.filter(|source| ![core, shell].contains(&&*source.module));
        let other = others.next().map(|source| source.path.display());
        assert!(other.is_none(), "{other:?} names {core}");
    }
}

/// Whether the code has that name as a whole word.
fn names(code: &str, name: &str) -> bool {
    let is_part = |character: Option<char>| {
        character.is_some_and(|character| character.is_alphanumeric() || character == '_')
    };
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let is_crate = ["crossbeam"].contains(&name);
        !is_part(before) && (is_crate || !is_part(after))
    })
}

#[test]
fn imports_are_read_in_every_form() {
    let code = "use crate::id::{A, B};\nuse crate::{\n    mesh::{self, X},\n    time,\n};\ncrate::net::accept()";
    let wanted = ["id", "mesh", "net", "time"].map(str::to_owned);
    assert_eq!(named(code), BTreeSet::from(wanted));
    assert!(names("use mio::Poll;", "mio") && !names("let premio = 1;", "mio"));
}

#[test]
fn the_map_names_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let lines = map.lines().filter_map(|line| line.strip_prefix("//!"));
    let is_path = |character: char| character.is_ascii_lowercase() || "_/.".contains(character);
    let words = lines.flat_map(|line| line.split(|character| !is_path(character)));
    let paths: BTreeSet<&str> = words.filter(|word| word.contains('/')).collect();
    for path in &paths {
        let bare = path.trim_end_matches('.').trim_end_matches(".rs");
        let is_there = |folder: &str| {
            let file = root.join(folder).join(bare);
            file.is_dir() || file.with_extension("rs").is_file()
        };
        assert!(["src", "."].into_iter().any(is_there), "no file {path}");
    }
    assert!(paths.len() > 15, "{paths:?}");
}
