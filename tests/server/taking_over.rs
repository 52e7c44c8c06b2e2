//! The engine's own files: taken over exactly, written back to the byte, and refused where they are
//! not whole. The sample files were written by an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use iii_stream::config::FileStore;
use iii_stream::id::WorkerId;
use iii_stream::shard::{Cursor, Decides, Shard, SliceLimits, Store, ValueLimits};
use iii_stream::store::files::{Files, StoreError, export, inspect, recover};
use serde_json::value::RawValue;

use crate::support::process::Directory;

/// With a copy of sample files.
fn directory_of(test: &str, sample: &str) -> Directory {
    let directory = Directory::new(test);
    for (name, bytes) in files(&sample_path(sample)) {
        fs::write(directory.0.join(name), bytes).unwrap();
    }
    directory
}

fn names(directory: &Directory) -> BTreeSet<String> {
    files(&directory.0).into_keys().collect()
}

fn sample_path(sample: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{sample}/store"))
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap();
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(&path).unwrap())
    };
    entries.map(file).collect()
}

/// Items by the joined names of their group.
type Groups = BTreeMap<String, Vec<(String, String)>>;

fn load(directory: &Path) -> Result<Groups, StoreError> {
    let limits = ValueLimits {
        json_depth: 0,
        value_bytes: 0,
    };
    let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
    let settings = FileStore::at(directory);
    let mut started = Files::start(&settings, 1, &mut |restored| shard.restore(restored))?;
    shard.restored(started.time);
    shard.check_invariants();
    started.files.close();
    let all = SliceLimits {
        items: usize::MAX,
        bytes: usize::MAX,
        groups: usize::MAX,
    };
    let pieces = shard.slice(Cursor::default(), all).pieces.into_iter();
    let groups = pieces.map(|piece| {
        let items = piece.items.iter();
        let items = items.map(|(name, value)| (name.to_string(), value.to_string()));
        (piece.key.joined().to_owned(), items.collect())
    });
    Ok(groups.collect())
}

#[derive(serde::Deserialize)]
struct Expected {
    stream: String,
    group: String,
    items: Vec<(String, Box<RawValue>)>,
}

#[test]
fn the_samples_load_exactly_and_stay_as_they_are() {
    for sample in ["kv-basic", "kv-sizes"] {
        let directory = directory_of(&format!("load-{sample}"), sample);
        let groups = load(&directory.0).unwrap();
        let values = sample_path(sample).with_file_name("values.json");
        let expected: Vec<Expected> = serde_json::from_slice(&fs::read(values).unwrap()).unwrap();
        let expected: Groups = expected
            .into_iter()
            .map(|group| {
                let items = group.items.into_iter();
                let items = items.map(|(name, value)| (name, value.get().to_owned()));
                (format!("{}:{}", group.stream, group.group), items.collect())
            })
            .collect();
        assert_eq!(groups, expected);
        for (name, bytes) in files(&sample_path(sample)) {
            assert_eq!(fs::read(directory.0.join(name)).unwrap(), bytes);
        }
        assert_eq!(load(&directory.0).unwrap(), expected, "a second start");
    }
}

#[test]
fn taking_over_and_going_back_gives_the_same_bytes() {
    for sample in ["kv-basic", "kv-sizes"] {
        let data = directory_of(&format!("data-{sample}"), sample);
        load(&data.0).unwrap();
        let out = Directory::new(&format!("out-{sample}"));
        let exported = export(&data.0, &out.0, false).unwrap();
        let expected = files(&sample_path(sample));
        assert_eq!(exported.groups, expected.len());
        assert_eq!(exported.left_out, [""; 0]);
        assert_eq!(files(&out.0), expected);
    }
}

#[test]
fn going_back_needs_an_empty_directory_and_something_to_write() {
    let data = directory_of("export-data", "kv-basic");
    let out = Directory::new("export-out");
    let nothing = export(&data.0, &out.0, false).unwrap_err().to_string();
    assert!(nothing.ends_with("holds no log and no snapshot of iii-stream"));
    load(&data.0).unwrap();
    fs::write(out.0.join("other"), "x").unwrap();
    let refused = export(&data.0, &out.0, false).unwrap_err().to_string();
    assert!(refused.contains("not empty"), "{refused}");
    assert_eq!(names(&out), BTreeSet::from(["other".to_owned()]));
}

/// What an engine loads of the damaged samples, by the ends of their names.
const WHOLE: [&str; 10] = [
    "good.bin",
    "pad-not-zero.bin",
    "plain-json-8.bin",
    "inline-ff-hole.bin",
    "json-space.bin",
    "doubled-key.bin",
    "deep-126.bin",
    "bitflip-value.bin",
    "lower-hex.bin",
    "raw-colons.bin",
];

#[test]
fn a_damaged_file_stops_the_start_and_changes_nothing_until_it_is_moved_aside() {
    let directory = directory_of("damaged", "kv-damaged");
    let before = names(&directory);
    let error = load(&directory.0).unwrap_err().to_string();
    for name in [
        "empty-file",
        "short-7",
        "cut-front-1",
        "cut-end-8",
        "extra-front-1",
        "extra-front-4",
        "extra-end-4",
        "plain-json.bin",
        "not-utf8",
        "offset-wrong",
        "offset-positive",
        "inline-array",
        "all-ff",
        "zeros",
        "not-json",
        "cut-json",
        "json-array",
        "json-trailing",
        "bitflip-quote",
        "len-plus-1",
        "deep-127",
        "deep-128",
        "num-too-big",
        "stream:d:good2.bin",
    ] {
        assert!(error.contains(name), "{name} is in {error}");
    }
    for name in WHOLE
        .iter()
        .chain(&["state%3Ax", "bad-escape", "inline-empty", "no-ext"])
    {
        assert!(!error.contains(name), "{name} is not in {error}");
    }
    assert!(
        error
            .lines()
            .last()
            .unwrap()
            .contains("iii-stream recover --data")
    );
    let mut after = before.clone();
    after.insert("lock".to_owned());
    assert_eq!(names(&directory), after);

    let report = recover(&directory.0, false).unwrap();
    assert_eq!(report.faults.len(), error.lines().count() - 1);
    assert_eq!(names(&directory), after, "without --yes it only tells");
    recover(&directory.0, true).unwrap();
    let groups = load(&directory.0).unwrap();
    assert_eq!(groups["d:doubled-key"][0], ("a".to_owned(), "3".to_owned()));
    assert_eq!(groups["d:good2"][0].1, "\"key, escaped name\"");
    let is_there = |end: &str| {
        let name = end.trim_end_matches(".bin");
        groups.keys().any(|key| key.ends_with(name))
    };
    assert!(WHOLE.iter().all(|end| is_there(end)), "{:?}", groups.keys());
    assert!(names(&directory).contains("stream%3Ad%3Azeros.bin.refused"));
}

#[test]
fn damage_in_the_middle_stops_the_start_and_the_rest_can_be_saved() {
    let directory = directory_of("middle", "kv-basic");
    let whole = load(&directory.0).unwrap();
    let snapshot = directory.0.join("00000000000000000001.snapshot");
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    let error = load(&directory.0).unwrap_err().to_string();
    let names_both = error.contains("1.snapshot: damaged at byte") && error.contains("recover");
    assert!(names_both, "{error}");
    assert!(!inspect(&directory.0).unwrap().is_healthy());
    assert!(!recover(&directory.0, true).unwrap().losses.is_empty());
    let saved = load(&directory.0).unwrap();
    assert_eq!(saved.len(), whole.len() - 1, "one piece was damaged");
    assert!(saved.iter().all(|(key, items)| whole[key] == *items));
    assert!(inspect(&directory.0).unwrap().is_healthy());
    assert!(names(&directory).contains("00000000000000000001.snapshot.damaged"));
}

#[test]
fn a_newer_version_is_refused() {
    let directory = directory_of("newer", "kv-basic");
    load(&directory.0).unwrap();
    let snapshot = directory.0.join("00000000000000000001.snapshot");
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[8] = 3;
    // That alone is a changed bit: the checksum says so.
    fs::write(&snapshot, &bytes).unwrap();
    let error = load(&directory.0).unwrap_err().to_string();
    assert!(error.contains("damaged at byte 0"), "{error}");
    bytes[12] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    let error = load(&directory.0).unwrap_err().to_string();
    let expected = "written by a newer version of iii-stream (format 3, this one reads 2)";
    assert!(error.ends_with(expected), "{error}");
}
