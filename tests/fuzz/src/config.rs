//! A file of settings, whatever is in it.

use std::path::{Path, PathBuf};

use iii_stream::config::{self, Sources};

/// The file's bytes.
pub fn run(input: &[u8]) {
    let is_own = input.len().is_multiple_of(2);
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
    let json: serde_json::Value =
        serde_json::from_str(&config::json(&reading)).expect("what `check --json` prints");
    assert!(json.is_object());
    assert!(!config::human(&reading).is_empty() || !reading.faults.is_empty());
    let first = config::load(&sources);
    assert_eq!(first.is_ok(), reading.faults.is_empty());
    if let Ok(config) = first {
        let limits = &config.limits;
        assert!(limits.connections > 0 && limits.json_depth > 0 && limits.mailbox_len > 0);
    }
}
