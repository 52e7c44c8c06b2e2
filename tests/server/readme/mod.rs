//! The README and the topics of `iii-stream help`: every block of them is run as it stands there, every
//! command that a sentence names is one, and what tables say holds.
//!
//! Here: the pages, their sections and blocks, and which test runs which. `desk` is where a stranger sits;
//! `words` are the tests of sentences, tables and links, `steps` those of first steps and programs, `members` those of
//! members, `operating` those of what operators run and set, `metrics` those of the admin port.
//!
//! A stranger's ports and directories become those of the test: 3112, 49134, 9464, `/var/lib/iii-stream`,
//! `/srv/backup`, `/etc/iii-stream`. Lines that cannot run in a test stand in [`NOT_RUN`], with the reason.

mod desk;
mod members;
mod metrics;
mod operating;
mod steps;
mod words;

use std::path::{Path, PathBuf};

/// Beginnings of lines that no test runs, and why.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo install ", "builds in release mode, for minutes"),
    (
        "cargo run --release ",
        "likewise; the harness has tests of its own",
    ),
    (
        "npm init ",
        "tests/run installs the same packages, which a test here holds it to",
    ),
    (
        "apt install ",
        "needs a package that takes a release build, and changes the machine",
    ),
    (
        "tests/by_hand/",
        "needs a release build, and proxies or a Prometheus",
    ),
];

/// Where blocks are, page and section: each is run by the test of that section.
const SECTIONS: [(&str, &str); 13] = [
    ("README.md", "Start it"),
    ("README.md", "First steps without a program"),
    ("README.md", "The same as a program"),
    ("README.md", "Who is there"),
    ("README.md", "Operating"),
    ("README.md", "How it is built and tested"),
    ("config.md", ""),
    ("durability.md", ""),
    ("redis.md", ""),
    ("presence.md", "Members without code"),
    ("tls.md", ""),
    ("metrics.md", "The admin port"),
    ("metrics.md", "Prometheus and Grafana"),
];

const TOPICS: [&str; 10] = [
    "config",
    "durability",
    "redis",
    "auth",
    "triggers",
    "presence",
    "limits",
    "metrics",
    "tls",
    "engine",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where a page is, by the name of its file.
fn path_of(page: &str) -> PathBuf {
    match page {
        "README.md" => root().join(page),
        _ => root().join("src/assets/help").join(page),
    }
}

fn page(name: &str) -> String {
    std::fs::read_to_string(path_of(name)).unwrap()
}

/// All pages with their names.
fn pages() -> Vec<(String, String)> {
    let topics = TOPICS.iter().map(|topic| format!("{topic}.md"));
    let names = std::iter::once("README.md".to_owned()).chain(topics);
    names.map(|name| (name.clone(), page(&name))).collect()
}

/// A block of code: the section that it stands in, its language and its text.
#[derive(Debug, Clone)]
struct Block {
    section: String,
    language: String,
    text: String,
    /// The last line of words before it.
    before: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut section, mut before) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut section);
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                line.clone_into(&mut before);
            }
            continue;
        };
        let inside = lines.by_ref().take_while(|line| !line.starts_with("```"));
        found.push(Block {
            section: section.clone(),
            language: language.to_owned(),
            text: inside.map(|line| format!("{line}\n")).collect(),
            before: before.clone(),
        });
    }
    found
}

/// The blocks of a section, which have to be run to the last.
struct Section {
    name: String,
    blocks: std::vec::IntoIter<Block>,
}

impl Section {
    fn of(page_name: &str, section: &str) -> Section {
        assert!(
            SECTIONS.contains(&(page_name, section)),
            "{page_name}: {section}"
        );
        let mut blocks = blocks(&page(page_name));
        blocks.retain(|block| block.section == section);
        let name = format!("{page_name}: {section}");
        Section {
            name,
            blocks: blocks.into_iter(),
        }
    }

    fn next(&mut self, language: &str) -> Block {
        let block = self
            .blocks
            .next()
            .unwrap_or_else(|| panic!("{}: no block", self.name));
        assert_eq!(block.language, language, "{}", self.name);
        block
    }

    fn end(mut self) {
        let left = self.blocks.next();
        assert!(left.is_none(), "{}: not run: {left:?}", self.name);
    }
}

/// The lines of a block of commands that are to be run.
fn commands(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", "");
    let lines = joined.lines().filter(|line| !line.is_empty());
    let is_run = |line: &&str| !NOT_RUN.iter().any(|(begin, _)| line.starts_with(begin));
    lines.filter(is_run).map(str::to_owned).collect()
}

#[test]
fn every_block_stands_in_a_section_that_a_test_runs() {
    for (name, text) in pages() {
        for block in blocks(&text) {
            let has_test = SECTIONS.contains(&(&name, &block.section));
            assert!(has_test, "{name}: {}: {}", block.section, block.text);
        }
    }
    for (begin, _) in NOT_RUN {
        let is_there = |(_, text): &(String, String)| text.contains(&format!("\n{begin}"));
        assert!(pages().iter().any(is_there), "{begin}: no page says so");
    }
}
