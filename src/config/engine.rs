//! Whether there is an engine to attach to, and where. May not connect to it.
//!
//! ```text
//! --engine → server.engine → III_URL → III_ENGINE_URL → the default
//! ```
//! The variables count where no file is read or the file is a bare mapping, the default only in the
//! latter case: containers often carry the variables for other programs.

use serde_json::Value as Json;

use super::address::{EngineAddress, shown};
use super::entries::STREAM;
use super::report::Setting;
use super::section::Section;
use super::words::mismatch;
use super::yaml::Value;
use super::{Config, KnownAs};

/// Where the engine that started us is, unless somebody says otherwise.
const URL_DEFAULT: &str = "ws://localhost:49134";
/// What a worker or a namespace may be called.
const NAME_BYTES_MAX: usize = 256;
/// What this server is called where nobody names it.
const NAME_DEFAULT: &str = "iii-stream:<host>:<pid>";

/// What is read, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// No file.
    NoFile,
    /// An engine's own file, with workers.
    Whole,
    /// What an engine hands to a worker that it starts.
    Bare,
}

/// What is said of an engine beside the file.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// `--engine URL`.
    pub(super) flag: Option<String>,
    /// The variables that are set, name and value. The first one counts.
    pub(super) variables: Vec<(&'static str, String)>,
    /// By what the engine is to know this server, and who says so.
    pub(super) name: Option<(&'static str, String)>,
    /// And where.
    pub(super) namespace: Option<(&'static str, String)>,
}

impl Said {
    /// Whether somebody beside the file names an engine.
    pub(super) fn names_engine(&self) -> bool {
        self.flag.is_some() || !self.variables.is_empty()
    }

    /// `III_URL and III_ENGINE_URL`.
    fn names(&self) -> String {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| *name).collect();
        names.join(" and ")
    }
}

/// Where the engine is, and who says so.
struct Address {
    /// Err: what is wrong with it.
    parsed: Result<EngineAddress, String>,
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Flag,
    File,
    Variable(&'static str),
    Default,
}

/// Reads `engine` in the `server` mapping, and settles whom to attach to, if anybody.
pub(super) fn read(server: &mut Section<'_, '_>, config: &mut Config, kind: FileKind, said: &Said) {
    let in_file = server.value("engine", None, |node| match &node.value {
        Value::Null => Ok(None),
        Value::Text(url) => url.parse().map(Some),
        _ => Err(mismatch(node, "ws://host:port or wss://host:port")),
    });
    let Some(in_file) = in_file else {
        return;
    };
    let address = choose(kind, said, in_file);
    config
        .notices
        .extend(passed_over(&server.report.file, said, address.as_ref()));
    show(server, address.as_ref());
    config.engine = address.and_then(|address| address.parsed.ok());
    known_as(server, config, said);
}

/// By what the engine knows this server. Without an engine nobody asks.
fn known_as(server: &mut Section<'_, '_>, config: &mut Config, said: &Said) {
    let both = [&said.name, &said.namespace];
    if config.engine.is_none() {
        let names: Vec<&str> = both.into_iter().flatten().map(|(who, _)| *who).collect();
        if !names.is_empty() {
            let names = names.join(" and ");
            let line = format!("{names} passed over: this server attaches to no engine");
            config.notices.push(line);
        }
        return;
    }
    for (who, text) in both.into_iter().flatten() {
        if let Err(what) = check_name(text) {
            server.report.fault_without_place(format!("{who}: {what}"));
        }
    }
    let mut show = |key: &str, said: &Option<(&str, String)>, default: Json| {
        let origin = |who: &str| match who.starts_with("--") {
            true => "flag".to_owned(),
            false => format!("variable {who}"),
        };
        let (value, origin) = match said {
            Some((who, text)) => (text.as_str().into(), origin(who)),
            None => (default, "default".to_owned()),
        };
        let key = format!("{STREAM}.worker.{key}");
        server.report.settings.push(Setting { key, value, origin });
    };
    show("name", &said.name, NAME_DEFAULT.into());
    show("namespace", &said.namespace, Json::Null);
    let text = |said: &Option<(&str, String)>| said.as_ref().map(|(_, text)| text.clone());
    config.known_as = KnownAs {
        name: text(&said.name),
        namespace: text(&said.namespace),
    };
}

/// What may stand for a worker, or for a namespace.
fn check_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!(
            "{:?} is no name, expected 1 to {NAME_BYTES_MAX} bytes without control characters",
            shown(text)
        ));
    }
    Ok(())
}

/// The first of those that count.
fn choose(kind: FileKind, said: &Said, in_file: Option<EngineAddress>) -> Option<Address> {
    let flag = said.flag.as_ref().map(|url| (url.parse(), From::Flag));
    let file = in_file.map(|address| (Ok(address), From::File));
    let variable = said.variables.first();
    let variable = variable.map(|(name, url)| (url.parse(), From::Variable(name)));
    let chosen = match kind {
        FileKind::NoFile => flag.or(variable),
        FileKind::Whole => flag.or(file),
        FileKind::Bare => {
            let default = (URL_DEFAULT.parse(), From::Default);
            flag.or(file).or(variable).or(Some(default))
        }
    };
    chosen.map(|(parsed, from)| Address { parsed, from })
}

/// The line about variables that lose.
fn passed_over(file: &str, said: &Said, address: Option<&Address>) -> Option<String> {
    let names = said.names();
    let why = match address.map(|address| address.from) {
        None => format!("with {file} this server is the engine"),
        Some(From::Flag) => "--engine says where the engine is".to_owned(),
        Some(From::File) => format!("server.engine in {file} says where the engine is"),
        Some(From::Variable(_) | From::Default) => return None,
    };
    (!names.is_empty()).then(|| format!("{names} passed over: {why}"))
}

/// Among the settings; or, for what does not stand in the file, what is wrong with it.
fn show(server: &mut Section<'_, '_>, address: Option<&Address>) {
    let Some(Address { parsed, from }) = address else {
        return server.show("engine", Json::Null);
    };
    let (name, origin) = match from {
        From::File | From::Default => ("server.engine", None),
        From::Flag => ("--engine", Some("flag".to_owned())),
        From::Variable(name) => (*name, Some(format!("variable {name}"))),
    };
    match (parsed, origin) {
        (Ok(address), None) => server.show("engine", address.shown.as_str().into()),
        (Ok(address), Some(origin)) => {
            server.show_from("engine", address.shown.as_str().into(), origin);
        }
        (Err(what), _) => server.report.fault_without_place(format!("{name}: {what}")),
    }
}
