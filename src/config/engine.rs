//! Whether there is an engine to attach to, and where. May not connect to it.
//!
//! ```text
//! --engine → server.engine → III_URL → III_ENGINE_URL → the default
//! ```
//! The variables count where no file is read or the file is a bare mapping, the default only in the
//! latter case: containers often carry the variables for other programs.

use serde_json::Value as Json;

use super::Config;
use super::address::{check_engine, without_secrets};
use super::section::{Section, mismatch};
use super::yaml::Value;

/// Where the engine that started us is, unless somebody says otherwise.
const URL_DEFAULT: &str = "ws://localhost:49134";

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
}

impl Said {
    /// `III_URL and III_ENGINE_URL`.
    fn names(&self) -> String {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| *name).collect();
        names.join(" and ")
    }
}

/// Where the engine is, and who says so.
struct Address {
    url: String,
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
        Value::Text(url) => check_engine(url).map(|()| Some(url.clone())),
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
    config.engine = address.map(|address| address.url);
}

/// The first of those that count.
fn choose(kind: FileKind, said: &Said, in_file: Option<String>) -> Option<Address> {
    let flag = said.flag.clone().map(|url| (url, From::Flag));
    let file = in_file.map(|url| (url, From::File));
    let variable = said.variables.first();
    let variable = variable.map(|(name, url)| (url.clone(), From::Variable(name)));
    let chosen = match kind {
        FileKind::NoFile => flag.or(variable),
        FileKind::Whole => flag.or(file),
        FileKind::Bare => {
            let default = (URL_DEFAULT.to_owned(), From::Default);
            flag.or(file).or(variable).or(Some(default))
        }
    };
    chosen.map(|(url, from)| Address { url, from })
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
    let Some(Address { url, from }) = address else {
        return server.show("engine", Json::Null);
    };
    let shown = Json::from(without_secrets(url));
    let (name, origin) = match from {
        From::File | From::Default => return server.show("engine", shown),
        From::Flag => ("--engine", "flag".to_owned()),
        From::Variable(name) => (*name, format!("variable {name}")),
    };
    match check_engine(url) {
        Ok(()) => server.show_from("engine", shown, origin),
        Err(what) => server.report.fault_without_place(format!("{name}: {what}")),
    }
}
