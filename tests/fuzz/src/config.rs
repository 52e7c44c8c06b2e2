//! A file of settings, whatever is in it, and the value of each single setting.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use iii_stream::config::{self, KEYS_OF_SERVER, Reading, Sources};
use serde_json::value::RawValue;

use super::Steer;

/// The first byte of an input that is one setting: no text begins with it.
const ONE_SETTING: u8 = 0xff;
const UNITS: [(&str, i128); 12] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("ms", 1),
    ("min", 60_000),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("k", 1000),
    ("K", 1000),
    ("M", 1_000_000),
];

/// The file's bytes. Behind `ONE_SETTING`: which of all settings, and the text of its value, so that a
/// small input gets as far as what reads it.
pub fn run(input: &[u8]) {
    let mut steer = Steer(input);
    if steer.byte() == ONE_SETTING {
        let keys = keys();
        let key = &keys[usize::from(steer.byte()) % keys.len()];
        return one_setting(key, steer.0);
    }
    check(input.len().is_multiple_of(2), input);
}

/// Reads those bytes, and prints what came of it as `check` does.
fn check(is_own: bool, input: &[u8]) -> Reading {
    let variable = |name: &str| match name {
        "STREAM_PORT" => Some("3112".to_owned()),
        "III_CONFIG" if is_own => Some("config.yaml".to_owned()),
        _ => None,
    };
    let sources = Sources {
        config: (!is_own).then(|| PathBuf::from("config.yaml")),
        engine: None,
        namespace: None,
        expand_env: true,
        default_config: false,
        variable: &variable,
        read: &|_: &Path| Ok(input.to_vec()),
    };
    let reading = config::read(&sources);
    let json = config::json(&reading);
    // By its grammar alone: a tree of it would take longer than the reading.
    serde_json::from_str::<&RawValue>(&json).expect("what `check --json` prints");
    assert!(json.starts_with('{'));
    assert!(!config::human(&reading).is_empty() || !reading.faults.is_empty());
    if reading.faults.is_empty() {
        let limits = &reading.config.limits;
        assert!(limits.connections > 0 && limits.json_depth > 0 && limits.mailbox_len > 0);
    }
    reading
}

/// All settings that there are without a file, and what may stand under `server` besides.
fn keys() -> &'static [String] {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let reading = check(
            false,
            b"workers: [{name: iii-stream}, {name: iii-worker-manager}]",
        );
        let shown = reading.settings.into_iter().map(|setting| setting.key);
        let of_server = KEYS_OF_SERVER.iter();
        let of_server = of_server.map(|key| format!("iii-stream.server.{key}"));
        let keys: BTreeSet<String> = shown.chain(of_server).collect();
        keys.into_iter().collect()
    })
}

/// A file in which this value stands behind this key. A number that is taken is the one that is shown.
fn one_setting(key: &str, value: &[u8]) {
    let mut names = key.split('.');
    let worker = names.next().unwrap_or_default();
    let mut text = format!("workers:\n- name: {worker}").into_bytes();
    for (depth, name) in names.enumerate() {
        text.push(b'\n');
        text.resize(text.len() + 2 * (depth + 1), b' ');
        text.extend(name.as_bytes());
        text.push(b':');
    }
    text.push(b' ');
    text.extend(value);
    let reading = check(false, &text);
    let Some(number) = number(value).filter(|_| reading.faults.is_empty()) else {
        return;
    };
    let shown = reading.settings.iter().find(|setting| setting.key == key);
    if let Some(shown) = shown.and_then(|setting| setting.value.as_u64()) {
        assert_eq!(i128::from(shown), number, "{key}: {}", value.escape_ascii());
    }
}

/// What digits mean, with the unit that may follow them.
fn number(value: &[u8]) -> Option<i128> {
    let text = str::from_utf8(value).ok()?;
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits
        .parse::<i64>()
        .ok()
        .filter(|_| is_number)
        .map(|number| i128::from(number) * unit)
}
