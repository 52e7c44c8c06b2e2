//! What has been found: a state, what it means and what to do; as lines, and as JSON.
//!
//! Looks at nothing.

use serde_json::{Value as Json, json};

use super::super::output::name;

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It may hurt.
    Warning,
    /// It will hurt.
    Bad,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Unknown => "unknown",
            State::Warning => "warning",
            State::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) name: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What that means. Empty where all is well.
    pub(super) means: String,
    /// What to do. Empty: nothing.
    pub(super) todo: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            name,
            state: State::Ok,
            found: found.into(),
            means: String::new(),
            todo: String::new(),
        }
    }

    pub(super) fn unknown(name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            state: State::Unknown,
            ..Finding::ok(name, found)
        }
    }

    /// What it means and what to do; [`Finding::ok`] where the state is ok after all.
    pub(super) fn with(
        self,
        state: State,
        means: impl Into<String>,
        todo: impl Into<String>,
    ) -> Finding {
        match state {
            State::Ok => self,
            _ => Finding {
                state,
                means: means.into(),
                todo: todo.into(),
                ..self
            },
        }
    }
}

/// The widest state, and a little.
const STATE_LEN: usize = 9;

/// A line each, and how many of each state at the end.
pub(super) fn human(findings: &[Finding]) -> String {
    let names = findings.iter().map(|finding| finding.name.len());
    let name_len = names.max().unwrap_or(0) + 2;
    let mut out = String::new();
    for finding in findings {
        let (state, name) = (finding.state.word(), finding.name);
        out += &format!(
            "{state:STATE_LEN$}{name:name_len$}{}\n",
            shown(&finding.found)
        );
        for (word, text) in [("means", &finding.means), ("do", &finding.todo)] {
            if !text.is_empty() {
                out += &format!("{:STATE_LEN$}  {word}: {}\n", "", shown(text));
            }
        }
    }
    let counts = [State::Bad, State::Warning, State::Unknown, State::Ok].map(|state| {
        let count = findings.iter().filter(|it| it.state == state).count();
        format!("{count} {}", state.word())
    });
    out + &counts.join(", ") + "\n"
}

/// The same as one object on one line.
pub(super) fn json(findings: &[Finding]) -> String {
    let checks: Vec<Json> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "state": finding.state.word(),
                "found": finding.found,
                "means": finding.means,
                "do": finding.todo,
            })
        })
        .collect();
    let is_good = findings.iter().all(|finding| finding.state != State::Bad);
    format!("{}\n", json!({"ok": is_good, "checks": checks}))
}

/// Texts hold names of files and what Redis says.
fn shown(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => name(text),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_and_what_is_wrong_says_what_to_do() {
        let findings = [
            Finding::ok("clock", "tsc"),
            Finding::ok("disk", "/a\nb").with(State::Bad, "It is full.", "Make room."),
        ];
        assert_eq!(
            human(&findings),
            "ok       clock  tsc\n\
             bad      disk   \"/a\\nb\"\n           means: It is full.\n           do: Make room.\n\
             1 bad, 0 warning, 0 unknown, 1 ok\n"
        );
        let value: Json = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(value["checks"][1]["do"], "Make room.");
    }
}
