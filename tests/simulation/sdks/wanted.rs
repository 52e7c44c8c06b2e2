//! What programs register in one run: functions of a custom store, and triggers.

use iii_stream::protocol::custom;
use iii_stream::protocol::input::StreamFunction;
use serde_json::{Value, json};

use crate::engine::CUSTOM_STREAM;
use crate::pace::Pace;

/// What programs register.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) custom: Vec<StreamFunction>,
    /// Triggers: their types and configs.
    pub(super) triggers: Vec<(&'static str, Value)>,
}

impl Wanted {
    pub(super) fn of_seed(pace: &mut Pace) -> Wanted {
        let mut custom = Vec::new();
        for function in [
            StreamFunction::Set,
            StreamFunction::Update,
            StreamFunction::Delete,
            StreamFunction::Get,
            StreamFunction::List,
        ] {
            if pace.below(4) == 0 {
                custom.push(function);
            }
        }
        let of_streams = |pace: &mut Pace| match pace.below(4) {
            0 => None,
            1 => Some(json!({})),
            2 => Some(json!({"stream_name": "s"})),
            _ => Some(json!({"stream_name": "t"})),
        };
        let mut triggers = Vec::new();
        triggers.extend(of_streams(pace).map(|config| ("stream:join", config)));
        triggers.extend(of_streams(pace).map(|config| ("stream:leave", config)));
        match pace.below(4) {
            0 => {}
            1 => triggers.push(("stream", json!({"stream_name": "s"}))),
            2 => triggers.push(("stream", json!({"stream_name": "t", "group_id": "a@0"}))),
            _ => triggers.push((
                "stream",
                json!({"stream_name": "s", "group_id": "b@1", "item_id": "u1"}),
            )),
        }
        Wanted { custom, triggers }
    }

    /// The ids of all functions that are called by the server.
    pub(super) fn functions(&self) -> Vec<String> {
        let of_custom = |function: &StreamFunction| custom::function_id(*function, CUSTOM_STREAM);
        let custom = self.custom.iter().map(of_custom);
        let named = ["joins", "leaves", "events", "auth"].map(str::to_owned);
        named.into_iter().chain(custom).collect()
    }

    /// The registrations of triggers of such types.
    pub(super) fn registrations(&self, is_of: impl Fn(&str) -> bool) -> Vec<String> {
        let wanted = self.triggers.iter().filter(|(of_type, _)| is_of(of_type));
        let message = |(of_type, config): &(&str, Value)| {
            let function = match *of_type {
                "stream:join" => "joins",
                "stream:leave" => "leaves",
                _ => "events",
            };
            json!({"type": "registertrigger", "id": function, "trigger_type": of_type,
                "function_id": function, "config": config})
            .to_string()
        };
        wanted.map(message).collect()
    }
}
