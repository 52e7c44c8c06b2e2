//! What `iii-stream check` shows of a reading. Prints nothing itself.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::Reading;

/// A longer value, as a list of origins, does not move the column behind it.
const VALUE_LEN_MAX: usize = 24;

/// `key = value   # origin`, a line each, and `ok` when there is no fault.
pub fn human(reading: &Reading) -> String {
    let mut out = String::new();
    let settings = reading.settings.iter();
    let values: Vec<String> = settings.map(|setting| shown(&setting.value)).collect();
    let keys = reading.settings.iter().map(|setting| setting.key.len());
    let key_len = keys.max().unwrap_or(0);
    let value_lens = values.iter().map(String::len);
    let value_len = value_lens.max().unwrap_or(0).min(VALUE_LEN_MAX);
    for (setting, value) in reading.settings.iter().zip(&values) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:key_len$} = {value:value_len$}   # {}",
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

fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
