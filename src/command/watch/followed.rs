//! One connection that is told of a group, an item or a whole stream.
//!
//! May not print, and tries nothing twice.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tungstenite::Message;
use uuid::Uuid;

use super::super::call::{Port, Said};
use super::super::client::{Client, ClientError};
use super::super::output::name;
use super::super::place::Looks;
use super::Watch;

/// A server that says nothing is pinged so often.
const PING_EVERY: Duration = Duration::from_secs(15);
/// One that has said nothing for so long, not even a pong, is given up.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// What has come.
pub(super) enum Heard {
    /// A frame, as it is.
    Frame(String),
    /// There will be none: why.
    Refused(String),
}

/// A connection, and how frames come over it.
pub(super) struct Followed {
    client: Client,
    heard_at: Instant,
    way: Way,
    described: String,
}

enum Way {
    /// As a subscriber.
    Joined,
    /// As a worker program, whose function a trigger calls.
    Trigger { function: String },
}

/// What a message on the stream port is.
#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
}

impl Followed {
    pub(super) fn open(looks: &Looks, watch: &Watch<'_>) -> anyhow::Result<Followed> {
        match watch.group {
            Some(group) => Followed::join(looks, watch, group),
            None => Followed::trigger(looks, watch),
        }
    }

    /// What is followed, and where.
    pub(super) fn described(&self) -> &str {
        &self.described
    }

    fn join(looks: &Looks, watch: &Watch<'_>, group: &str) -> anyhow::Result<Followed> {
        let place = looks.for_subscribers()?;
        let mut client = Client::connect(&place, watch.within)?;
        let mut data = json!({
            "subscriptionId": Uuid::new_v4().to_string(),
            "streamName": watch.stream,
            "groupId": group,
        });
        if let Some(item) = watch.item {
            data["id"] = item.into();
        }
        client.send(json!({"type": "join", "data": data}).to_string())?;
        let names = [Some(watch.stream), Some(group), watch.item];
        let names: Vec<String> = names.into_iter().flatten().map(name).collect();
        Ok(Followed {
            client,
            heard_at: Instant::now(),
            way: Way::Joined,
            described: format!("{} at {}", names.join(" "), place.shown()),
        })
    }

    /// Waits until the trigger is in force: what is said behind it is answered.
    fn trigger(looks: &Looks, watch: &Watch<'_>) -> anyhow::Result<Followed> {
        let mut port = Port::open(looks, watch.within)?;
        let function = format!("iii-stream::watch::{}", Uuid::new_v4());
        port.send(json!({"type": "registerfunction", "id": function}).to_string())?;
        let trigger = json!({
            "type": "registertrigger",
            "id": function,
            "trigger_type": "stream",
            "function_id": function,
            "config": {"stream_name": watch.stream},
        });
        port.send(trigger.to_string())?;
        port.send(json!({"type": "ping"}).to_string())?;
        let until = Instant::now() + watch.within;
        loop {
            let Some(text) = port.next(until)? else {
                anyhow::bail!("{} does not answer within {:?}", port.place(), watch.within);
            };
            if let Some(why) = refusal_of(&text) {
                anyhow::bail!("{} refuses the trigger: {why}", port.place());
            }
            if serde_json::from_str::<Said<'_>>(&text).is_ok_and(|said| said.kind == "pong") {
                break;
            }
        }
        let described = format!("stream {} at {}", name(watch.stream), port.place());
        Ok(Followed {
            client: port.into_client(),
            heard_at: Instant::now(),
            way: Way::Trigger { function },
            described,
        })
    }

    /// Waits for what comes next. Err: the connection is gone.
    pub(super) fn next(&mut self) -> Result<Heard, ClientError> {
        loop {
            match self.client.next(Instant::now() + PING_EVERY)? {
                Some(message) => {
                    self.heard_at = Instant::now();
                    if let Message::Text(text) = message
                        && let Some(heard) = self.heard(text.as_str())?
                    {
                        return Ok(heard);
                    }
                }
                None if self.heard_at.elapsed() >= SILENCE_MAX => {
                    return Err(self.client.silent(SILENCE_MAX));
                }
                None => self.client.ping()?,
            }
        }
    }

    fn heard(&mut self, text: &str) -> Result<Option<Heard>, ClientError> {
        match &self.way {
            Way::Joined => Ok(of_subscriber(text)),
            Way::Trigger { function } => {
                if let Some(why) = refusal_of(text) {
                    return Ok(Some(Heard::Refused(format!(
                        "the trigger is refused: {why}"
                    ))));
                }
                let Ok(said) = serde_json::from_str::<Said<'_>>(text) else {
                    return Ok(None);
                };
                let is_ours = said.function_id.as_ref() == Some(function);
                let (true, Some(frame)) = (said.kind == "invokefunction" && is_ours, said.data)
                else {
                    return Ok(None);
                };
                let frame = frame.get().to_owned();
                if let Some(id) = said.invocation_id {
                    let answer = json!({
                        "type": "invocationresult",
                        "invocation_id": id,
                        "function_id": function,
                        "result": null,
                    });
                    self.client.send(answer.to_string())?;
                }
                Ok(Some(Heard::Frame(frame)))
            }
        }
    }
}

fn of_subscriber(text: &str) -> Option<Heard> {
    let frame: Frame = serde_json::from_str(text).ok()?;
    if frame.kind == "workerregistered" {
        return Some(Heard::Refused(
            "this is a worker port; subscribers connect to the stream port".to_owned(),
        ));
    }
    let event = frame.event.filter(|_| frame.kind == "stream")?;
    Some(match &*event.kind {
        "unauthorized" => Heard::Refused(
            "unauthorized: a join function or a limit of the server refuses the subscription; its log may say which"
                .to_owned(),
        ),
        _ => Heard::Frame(text.to_owned()),
    })
}

/// Why a trigger is not registered, if the message says so.
fn refusal_of(text: &str) -> Option<String> {
    let said: Said<'_> = serde_json::from_str(text).ok()?;
    let failure = said
        .error
        .filter(|_| said.kind == "triggerregistrationresult")?;
    Some(failure.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_that_is_refused_or_at_the_wrong_port_hears_so() {
        let heard = |text: &str| match of_subscriber(text) {
            Some(Heard::Frame(frame)) => frame,
            Some(Heard::Refused(why)) => why.split([' ', ':']).next().unwrap().to_owned(),
            None => String::new(),
        };
        let sync = r#"{"type":"stream","event":{"type":"sync","data":[]}}"#;
        assert_eq!(heard(sync), sync);
        let refused = r#"{"type":"stream","event":{"type":"unauthorized"}}"#;
        assert_eq!(heard(refused), "unauthorized");
        assert_eq!(
            heard(r#"{"type":"workerregistered","worker_id":"1"}"#),
            "this"
        );
        assert_eq!(heard("1"), "");
    }
}
