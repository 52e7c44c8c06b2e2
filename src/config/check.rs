//! What `iii-stream check` shows of a reading. Prints nothing itself.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::Reading;

/// Keys and origins in columns, as long as the values are short.
const KEY_LEN: usize = 46;
const VALUE_LEN: usize = 12;

/// `key = value   # origin`, a line each, and `ok` when there is no fault.
pub fn human(reading: &Reading) -> String {
    let mut out = String::new();
    for setting in &reading.settings {
        let value = match &setting.value {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:KEY_LEN$} = {value:VALUE_LEN$}   # {}",
            setting.key, setting.origin
        );
    }
    if reading.faults.is_empty() {
        out.push_str("ok\n");
    }
    out
}

/// The same as one JSON object on one line, with the faults and the lines that the log would get.
pub fn json(reading: &Reading) -> String {
    let settings: Vec<Json> = reading
        .settings
        .iter()
        .map(
            |setting| json!({"key": setting.key, "value": setting.value, "origin": setting.origin}),
        )
        .collect();
    let errors: Vec<String> = reading.faults.iter().map(ToString::to_string).collect();
    json!({
        "ok": errors.is_empty(),
        "settings": settings,
        "errors": errors,
        "warnings": reading.config.warnings,
        "notices": reading.config.notices,
    })
    .to_string()
}
