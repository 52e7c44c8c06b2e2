//! `top`: what a server does, looked at again and again through its admin port.
//!
//! Computes nothing: the figures are the server's.

use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::client::get_whole;
use super::output::{goes_on, json_line, name, say};
use super::place::{Looks, Place};

/// A longer answer is none of ours.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Clears the screen and puts the cursor at its beginning.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// What is looked at.
pub(crate) struct Top<'a> {
    pub(crate) groups: &'a str,
    pub(crate) sockets: &'a str,
    pub(crate) rows: u16,
    pub(crate) every: Duration,
    pub(crate) once: bool,
    pub(crate) json: bool,
    pub(crate) within: Duration,
}

/// Exit code 1: nobody answers, or not as the admin port does.
pub(crate) fn top(looks: &Looks, top: &Top<'_>) -> anyhow::Result<ExitCode> {
    let place = looks.for_operators()?;
    let clears = !top.once && std::io::stdout().is_terminal();
    loop {
        let look = look(&place, top)?;
        let text = match top.json {
            true => json_line(&look.to_string()) + "\n",
            false => screen(&look),
        };
        if top.once {
            say(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let before = if clears && !top.json { CLEAR } else { "" };
        if !goes_on(&format!("{before}{text}"))? {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(top.every);
    }
}

fn look(place: &Place, top: &Top<'_>) -> anyhow::Result<Value> {
    let (groups, sockets, rows) = (top.groups, top.sockets, top.rows);
    Ok(json!({
        "overview": ask(place, "/admin/overview", top.within)?,
        "groups": ask(place, &format!("/admin/groups?sort={groups}&limit={rows}"), top.within)?,
        "sockets": ask(place, &format!("/admin/sockets?sort={sockets}&limit={rows}"), top.within)?,
        "closed": ask(place, &format!("/admin/closed?limit={rows}"), top.within)?,
    }))
}

fn ask(place: &Place, path: &str, within: Duration) -> anyhow::Result<Value> {
    let (code, words, body) = get_whole(place, path, within, ANSWER_BYTES_MAX)?;
    let answer = serde_json::from_str::<Value>(&body);
    if code != 200 {
        let error = answer
            .ok()
            .and_then(|answer| Some(answer["error"].as_str()?.to_owned()));
        let error = name(&error.unwrap_or_default());
        bail!("{} answers {code} {words}: {error}", place.shown());
    }
    answer.with_context(|| format!("{} is no admin port", place.shown()))
}

fn screen(look: &Value) -> String {
    let (overview, figures) = (&look["overview"], &look["overview"]["figures"]);
    let (rates, times) = (&overview["rates"], &overview["times"]);
    let mut out = String::new();
    let ready = match overview["not_ready_because"].as_str() {
        None => "ready",
        Some(why) => why,
    };
    let uptime_s = overview["uptime_ms"].as_u64().unwrap_or(0) / 1000;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "iii-stream {} on {}, pid {}, up {uptime_s} s, {ready}; {}; {}",
        text(&overview["version"]),
        text(&overview["host"]),
        overview["pid"],
        text(&overview["cores"]),
        text(&overview["store"]["described"]),
    );
    let _ = writeln!(
        out,
        "connections {}   subscriptions {}   groups {}   items {}   blocked {}   far behind {}   behind {} B   open files {}",
        figures["connections"],
        figures["subscriptions"],
        figures["groups"],
        figures["items"],
        figures["blocked"],
        figures["far_behind"],
        figures["behind_bytes"],
        figures["open_files"],
    );
    let _ = writeln!(
        out,
        "a second: events {}   deliveries {}   writes {}   bytes {}   calls {} ({} fail)   joins {}   closed {}",
        rates["events"],
        rates["deliveries"],
        rates["writes"],
        rates["bytes_out"],
        rates["calls"],
        rates["calls_failed"],
        rates["joins"],
        rates["closed"],
    );
    out.push_str("p50/p99 ms:");
    for kind in [
        "delivery", "call", "store", "fsync", "redis", "join", "turn",
    ] {
        let time = &times[kind];
        if time["count"].as_u64().unwrap_or(0) > 0 {
            let _ = write!(out, "   {kind} {}/{}", time["p50_ms"], time["p99_ms"]);
        }
    }
    out.push_str("\ncpu:");
    for thread in rows(&overview["threads"]) {
        let share = thread["cpu"].as_f64().unwrap_or(0.0) * 100.0;
        let _ = write!(out, "   {} {share:.0} %", text(&thread["name"]));
    }
    let _ = writeln!(
        out,
        "\n\ngroups by {} (of {})\n{:>10} {:>10} {:>10} {:>8} {:>12}  GROUP",
        text(&look["groups"]["sort"]),
        look["groups"]["total"],
        "EVENTS/S",
        "EVENTS",
        "FOLLOWERS",
        "ITEMS",
        "BYTES"
    );
    for group in rows(&look["groups"]["groups"]) {
        let _ = writeln!(
            out,
            "{:>10} {:>10} {:>10} {:>8} {:>12}  {} {}",
            group["events_per_second"].to_string(),
            group["events"].to_string(),
            group["subscribers"].to_string(),
            group["items"].to_string(),
            group["bytes"].to_string(),
            text(&group["stream"]),
            text(&group["group"]),
        );
    }
    let _ = writeln!(
        out,
        "\nsockets by {} (of {})\n{:>12} {:>8} {:>8} {:>7}  {:<22} WHY",
        text(&look["sockets"]["sort"]),
        look["sockets"]["total"],
        "BEHIND B",
        "EVENTS",
        "AGE S",
        "SUBS",
        "PEER"
    );
    for socket in rows(&look["sockets"]["sockets"]) {
        let _ = writeln!(
            out,
            "{:>12} {:>8} {:>8} {:>7}  {:<22} {}",
            socket["behind_bytes"].to_string(),
            socket["behind_events"].to_string(),
            socket["age_ms"].as_u64().unwrap_or(0) / 1000,
            socket["subscriptions"].to_string(),
            socket["peer"].as_str().unwrap_or("gone"),
            socket["why"].as_str().unwrap_or_default(),
        );
    }
    let _ = writeln!(
        out,
        "\nlately closed\n{:<10} {:>5} {:>8} {:>12}  PEER",
        "WHY", "CODE", "AGE S", "BEHIND B"
    );
    for socket in rows(&look["closed"]["closed"]) {
        let code = socket["code"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), |code| code.to_string());
        let _ = writeln!(
            out,
            "{:<10} {code:>5} {:>8} {:>12}  {}",
            text(&socket["reason"]),
            socket["age_ms"].as_u64().unwrap_or(0) / 1000,
            socket["behind_bytes"].to_string(),
            socket["peer"].as_str().unwrap_or("gone"),
        );
    }
    out
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text that harms no terminal.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let is_plain = text.chars().all(|char| !char.is_control());
    match is_plain && text.is_ascii() {
        true => text.to_owned(),
        false => name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_break_no_line_and_steer_no_terminal() {
        let look = json!({
            "overview": {"threads": [{"name": "worker-0", "cpu": 0.5}]},
            "groups": {"sort": "pace", "groups": [{"stream": "s", "group": "a\"\n{b}\u{1b}[2J<img>"}]},
            "sockets": {"sockets": [{"peer": null, "why": "takes what it is sent"}]},
            "closed": {"closed": [{"reason": "behind", "code": 1013}]},
        });
        let shown = screen(&look);
        assert!(shown.contains(r#"s "a\"\n{b}\u001b[2J<img>""#), "{shown}");
        assert!(!shown.contains('\u{1b}'));
        assert!(shown.contains("worker-0 50 %") && shown.contains("behind      1013"));
    }
}
