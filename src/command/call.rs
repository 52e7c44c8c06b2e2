//! `call FUNCTION [JSON]`: one call through the worker port, as an SDK makes it.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use iii_stream::notes::Shown;
use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::Message;
use uuid::Uuid;

use super::client::{Client, ClientError};
use super::output::{complain, json_line, say};
use super::place::Looks;

/// More than this is not read of standard input: no server takes it.
const INPUT_BYTES_MAX: u64 = 256 << 20;
/// A worker port greets at once, or after it has asked an auth function.
const GREETING: Duration = Duration::from_secs(10);
/// The exit code of wrong arguments.
const WRONG: u8 = 2;

/// What is called, and how.
pub(crate) struct Call<'a> {
    /// As `stream::get`.
    pub(crate) function: &'a str,
    /// `-`: standard input.
    pub(crate) input: &'a str,
    /// Where the function is looked for first.
    pub(crate) namespace: Option<&'a str>,
    /// How long the whole may take.
    pub(crate) within: Duration,
}

/// What a worker port says, as far as it is of interest here.
#[derive(Deserialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) invocation_id: Option<String>,
    #[serde(default)]
    pub(super) function_id: Option<String>,
    #[serde(default, borrow)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) error: Option<Failure>,
}

/// Why something was not done.
#[derive(Deserialize)]
pub(super) struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// As one line.
    pub(super) fn line(&self) -> String {
        let (code, message) = (Shown(&self.code), Shown(&self.message));
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => message.to_string(),
            (_, true) => code.to_string(),
            _ => format!("{code}: {message}"),
        }
    }
}

/// Prints the result. Exit code 1: the answer is an error, or there is none.
pub(crate) fn call(looks: &Looks, asked: &Call<'_>) -> anyhow::Result<ExitCode> {
    let input = match asked.input {
        "-" => from_stdin()?,
        text => text.to_owned(),
    };
    if let Err(error) = serde_json::from_str::<&RawValue>(&input) {
        complain(&format!("what the function is to get is no JSON: {error}"));
        return Ok(ExitCode::from(WRONG));
    }
    let until = Instant::now() + asked.within;
    let mut port = Port::open(looks, asked.within.min(GREETING))?;
    let id = port.invoke(asked.function, &input, asked.namespace)?;
    let answer = loop {
        let Some(text) = port.next(until)? else {
            bail!(
                "{} has not answered within {:?}: whether it was done is not known",
                Shown(asked.function),
                asked.within
            );
        };
        if let Some(answer) = answer_of(&text, &id) {
            break answer;
        }
    };
    match answer {
        Ok(result) => {
            say(&format!("{result}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            complain(&failure.line());
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The answer to that call, if the message is one.
fn answer_of(text: &str, id: &str) -> Option<Result<String, Failure>> {
    let said: Said<'_> = serde_json::from_str(text).ok()?;
    if said.kind != "invocationresult" || said.invocation_id.as_deref() != Some(id) {
        return None;
    }
    Some(match said.error {
        Some(failure) => Err(failure),
        None => Ok(said
            .result
            .map_or("null".to_owned(), |raw| json_line(raw.get()))),
    })
}

fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().take(INPUT_BYTES_MAX + 1);
    stdin.read_to_string(&mut text).context("standard input")?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        bail!("standard input has more than {INPUT_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// A worker port, as the program of an SDK meets it.
pub(super) struct Port(Client);

impl Port {
    /// Connects, and waits for the greeting: a stream port has none.
    pub(super) fn open(looks: &Looks, within: Duration) -> anyhow::Result<Port> {
        let place = looks.for_workers()?;
        let mut client = Client::connect(&place, within)?;
        let until = Instant::now() + within;
        loop {
            let Some(message) = client.next(until)? else {
                bail!(
                    "{} does not greet as a worker port within {within:?}; is it the stream port?",
                    place.shown()
                );
            };
            let Message::Text(text) = message else {
                continue;
            };
            let said = serde_json::from_str::<Said<'_>>(&text);
            match said {
                Ok(said) if said.kind == "workerregistered" => return Ok(Port(client)),
                Ok(Said {
                    error: Some(failure),
                    ..
                }) => bail!("{} does not let us in: {}", place.shown(), failure.line()),
                _ => bail!("{} is no worker port", place.shown()),
            }
        }
    }

    /// Calls a function. Gives the id that its answer bears.
    pub(super) fn invoke(
        &mut self,
        function: &str,
        input: &str,
        namespace: Option<&str>,
    ) -> Result<String, ClientError> {
        let id = Uuid::new_v4().to_string();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let namespace = namespace.map(|name| format!(r#","namespace":{}"#, quoted(name)));
        self.send(format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":{}{},"data":{input}}}"#,
            quoted(function),
            namespace.unwrap_or_default()
        ))?;
        Ok(id)
    }

    /// Its address, without secrets.
    pub(super) fn place(&self) -> &str {
        self.0.place()
    }

    /// For whoever hears more than answers.
    pub(super) fn into_client(self) -> Client {
        self.0
    }

    /// Sends a message.
    pub(super) fn send(&mut self, text: String) -> Result<(), ClientError> {
        self.0.send(text)
    }

    /// The next message that is a text. None: there was none until then.
    pub(super) fn next(&mut self, until: Instant) -> Result<Option<String>, ClientError> {
        loop {
            match self.0.next(until)? {
                Some(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_id_and_kept_as_it_came() {
        let answer = |text: &str| answer_of(text, "1").map(|answer| answer.map_err(|it| it.line()));
        let result =
            r#"{"type":"invocationresult","invocation_id":"1","result":{"b": 1.50, "a":1}}"#;
        assert_eq!(answer(result), Some(Ok(r#"{"b":1.50,"a":1}"#.to_owned())));
        let null = r#"{"type":"invocationresult","invocation_id":"1"}"#;
        assert_eq!(answer(null), Some(Ok("null".to_owned())));
        let error = r#"{"type":"invocationresult","invocation_id":"1","error":{"code":"c","message":"m\n\u001b[2J"}}"#;
        assert_eq!(answer(error), Some(Err(r"c: m\n\u{1b}[2J".to_owned())));
        for other in [
            r#"{"type":"invocationresult","invocation_id":"2","result":1}"#,
            r#"{"type":"pong"}"#,
            "x",
        ] {
            assert_eq!(answer(other), None);
        }
    }
}
