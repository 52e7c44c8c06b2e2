//! Triggers of our own types: what a trigger's `config` says, and what the answers of triggered
//! functions mean. What these functions are sent stands in [`payload`].
//!
//! May not know which triggers there are, whose they are, or when they fire.

pub mod payload;

use serde_json::value::RawValue;

use super::call::ErrorBody;
use super::json::{raw, text};

/// A trigger type that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TriggerType {
    /// An item was changed, or an event sent.
    Stream,
    /// A subscription is asked for.
    Join,
    /// A subscription has ended.
    Leave,
    /// Something was logged.
    Log,
    /// Something was published under a topic.
    Subscribe,
    /// The set of functions has changed.
    FunctionsAvailable,
    /// An SDK worker has come, gone or described itself.
    WorkersAvailable,
}

impl TriggerType {
    /// All of them.
    pub const ALL: [TriggerType; 7] = [
        TriggerType::Stream,
        TriggerType::Join,
        TriggerType::Leave,
        TriggerType::Log,
        TriggerType::Subscribe,
        TriggerType::FunctionsAvailable,
        TriggerType::WorkersAvailable,
    ];

    /// Finds a type by the id with which triggers are registered.
    pub fn from_id(id: &str) -> Option<TriggerType> {
        TriggerType::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// The id with which triggers are registered.
    pub fn id(self) -> &'static str {
        match self {
            TriggerType::Stream => "stream",
            TriggerType::Join => "stream:join",
            TriggerType::Leave => "stream:leave",
            TriggerType::Log => "log",
            TriggerType::Subscribe => "subscribe",
            TriggerType::FunctionsAvailable => "engine::functions-available",
            TriggerType::WorkersAvailable => "engine::workers-available",
        }
    }
}

/// What a `stream` trigger listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTrigger {
    /// Name of the stream, which may be empty.
    pub stream: Box<str>,
    /// Name of the group. None: every group.
    pub group: Option<Box<str>>,
    /// Name of the item. None: every event, those about no item too.
    pub item: Option<Box<str>>,
    /// The function that is asked first.
    pub condition: Option<Box<str>>,
}

impl StreamTrigger {
    /// Reads a `config`. Err: why the trigger is refused.
    pub fn read(config: Option<&RawValue>) -> Result<StreamTrigger, ErrorBody> {
        let wrong = || refused("Failed to deserialize stream trigger".to_owned());
        let keys = [
            "stream_name",
            "group_id",
            "item_id",
            "condition_function_id",
        ];
        let [stream, group, item, condition] =
            raw::pick(text_of(config), keys).map_err(|_| wrong())?;
        let read = |json| optional_string(json).map_err(|NotAString| wrong());
        let (stream, group, item, condition) =
            (read(stream)?, read(group)?, read(item)?, read(condition)?);
        let stream =
            stream.ok_or_else(|| refused("stream trigger needs `stream_name`".to_owned()))?;
        Ok(StreamTrigger {
            stream,
            group: group.filter(is_given),
            item: item.filter(is_given),
            condition: condition.filter(is_given),
        })
    }

    /// Whether an event fires it. `id` is the event's item, if it is about one.
    pub fn matches(&self, stream: &str, group: &str, id: Option<&str>) -> bool {
        *self.stream == *stream
            && self.group.as_deref().is_none_or(|wanted| wanted == group)
            && self.item.as_deref().is_none_or(|wanted| id == Some(wanted))
    }
}

/// What a `stream:join` or `stream:leave` trigger listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceTrigger {
    /// Name of the stream. None: every stream.
    pub stream: Option<Box<str>>,
    /// The function that is asked first.
    pub condition: Option<Box<str>>,
}

impl PresenceTrigger {
    /// Reads the `config` of a trigger of that type. Err: why the trigger is refused.
    pub fn read(
        trigger_type: TriggerType,
        config: Option<&RawValue>,
    ) -> Result<PresenceTrigger, ErrorBody> {
        const KEYS: [&str; 2] = ["stream_name", "condition_function_id"];
        // What is not an object says as little as an empty one.
        let given = raw::pick(text_of(config), KEYS).unwrap_or_default();
        let read = |at: usize| match optional_string(given[at]) {
            Ok(name) => Ok(name.filter(is_given)),
            Err(NotAString) => Err(refused(format!(
                "Failed to deserialize {} trigger: `{}` must be a string",
                trigger_type.id(),
                KEYS[at]
            ))),
        };
        Ok(PresenceTrigger {
            stream: read(0)?,
            condition: read(1)?,
        })
    }

    /// Whether joins and leaves of that stream fire it.
    pub fn matches(&self, stream: &str) -> bool {
        self.stream.as_deref().is_none_or(|wanted| wanted == stream)
    }
}

/// What a `log` trigger listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTrigger {
    /// Which entries.
    pub level: Level,
}

/// Which log entries a trigger hears of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// All of them.
    All,
    /// Those whose severity is this word; not the more severe ones.
    Only(Box<str>),
}

impl LogTrigger {
    /// Reads a `config`. Nothing is refused.
    pub fn read(config: Option<&RawValue>) -> LogTrigger {
        let [level] = raw::pick(text_of(config), ["level"]).unwrap_or_default();
        let level = match level.map(RawValue::get) {
            Some(json) if json.starts_with('"') => {
                match &*text::read_string(json).unwrap_or_default() {
                    "all" => Level::All,
                    word => Level::Only(word.into()),
                }
            }
            _ => Level::All,
        };
        LogTrigger { level }
    }

    /// Whether an entry of that `severity_text` fires it.
    pub fn matches(&self, severity_text: &str) -> bool {
        match &self.level {
            Level::All => true,
            Level::Only(word) => {
                !severity_text.is_empty() && **word == *severity_text.to_lowercase()
            }
        }
    }
}

/// What a `subscribe` trigger listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeTrigger {
    /// The topic. None: it never fires.
    pub topic: Option<Box<str>>,
}

impl SubscribeTrigger {
    /// Reads a `config`. Nothing is refused; a condition is not looked at.
    pub fn read(config: Option<&RawValue>) -> SubscribeTrigger {
        let [topic] = raw::pick(text_of(config), ["topic"]).unwrap_or_default();
        let topic = optional_string(topic).unwrap_or_default();
        SubscribeTrigger {
            topic: topic.filter(is_given),
        }
    }
}

/// Whether the answer of a join function refuses the join. `result`: a JSON text, if there was one.
pub fn is_unauthorized(result: Option<&str>) -> bool {
    let picked = raw::pick(result.unwrap_or("null"), ["unauthorized"]);
    matches!(picked, Ok([Some(verdict)]) if verdict.get() == "true")
}

/// Whether the answer of a condition holds its handler back. `result`: a JSON text, if there was one.
pub fn is_false(result: Option<&str>) -> bool {
    result.is_some_and(|json| json.trim_ascii() == "false")
}

/// The error with which a registration is refused.
fn refused(message: String) -> ErrorBody {
    ErrorBody::new("trigger_registration_failed", message)
}

fn text_of(config: Option<&RawValue>) -> &str {
    config.map_or("null", RawValue::get)
}

/// A member that should have been a string is none.
#[derive(Debug)]
struct NotAString;

/// None: absent or `null`.
fn optional_string(json: Option<&RawValue>) -> Result<Option<Box<str>>, NotAString> {
    match json.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) if json.starts_with('"') => match text::read_string(json) {
            Ok(content) => Ok(Some(content.into())),
            Err(text::LoneSurrogate) => Err(NotAString),
        },
        Some(_) => Err(NotAString),
    }
}

/// An empty name is as good as none.
#[allow(clippy::borrowed_box, reason = "handed to Option::filter")]
fn is_given(name: &Box<str>) -> bool {
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Option<&RawValue> {
        Some(serde_json::from_str(json).unwrap())
    }

    fn stream(config: &str) -> Result<StreamTrigger, (String, String)> {
        StreamTrigger::read(raw(config)).map_err(parts)
    }

    fn parts(error: ErrorBody) -> (String, String) {
        assert_eq!(error.stacktrace, None);
        (error.code.into_owned(), error.message)
    }

    fn failed(message: &str) -> (String, String) {
        ("trigger_registration_failed".to_owned(), message.to_owned())
    }

    fn presence(kind: TriggerType, config: &str) -> PresenceTrigger {
        PresenceTrigger::read(kind, raw(config)).unwrap()
    }

    #[test]
    fn types_have_ids() {
        for kind in TriggerType::ALL {
            assert_eq!(TriggerType::from_id(kind.id()), Some(kind));
        }
        assert_eq!(TriggerType::from_id("Stream"), None);
    }

    #[test]
    fn a_stream_trigger_takes_empty_names_as_absent_but_the_streams() {
        let all = r#"{"stream_name":"s","group_id":"g","item_id":"i","condition_function_id":"c","x":[1e999]}"#;
        let wanted = StreamTrigger {
            stream: "s".into(),
            group: Some("g".into()),
            item: Some("i".into()),
            condition: Some("c".into()),
        };
        assert_eq!(stream(all), Ok(wanted));
        let open = StreamTrigger {
            stream: "".into(),
            group: None,
            item: None,
            condition: None,
        };
        for config in [
            r#"{"stream_name":""}"#,
            r#"{"stream_name":"","group_id":null,"item_id":null,"condition_function_id":null}"#,
            r#"{"stream_name":"","group_id":"","item_id":"","condition_function_id":""}"#,
            r#"{"stream_name":5,"stream\u005fname":""}"#,
        ] {
            assert_eq!(stream(config).as_ref(), Ok(&open), "{config}");
        }
    }

    #[test]
    fn a_stream_trigger_of_the_wrong_shape_is_refused() {
        let wrong = failed("Failed to deserialize stream trigger");
        for config in [
            "null",
            "5",
            r#""chat""#,
            r#"["chat",null,null,null]"#,
            r#"{"stream_name":5}"#,
            r#"{"stream_name":"s","group_id":5}"#,
            r#"{"stream_name":"s","item_id":{}}"#,
            r#"{"stream_name":"s","condition_function_id":true}"#,
            r#"{"stream_name":"\ud800"}"#,
            r#"{"group_id":5}"#,
        ] {
            assert_eq!(stream(config), Err(wrong.clone()), "{config}");
        }
        assert_eq!(StreamTrigger::read(None).map_err(parts), Err(wrong));
        for config in ["{}", r#"{"stream_name":null}"#, r#"{"group_id":"g"}"#] {
            let needs = failed("stream trigger needs `stream_name`");
            assert_eq!(stream(config), Err(needs), "{config}");
        }
    }

    #[test]
    fn a_stream_trigger_matches_by_its_names() {
        let rows = [
            (r#"{"stream_name":"s"}"#, Some("i"), true),
            (r#"{"stream_name":"s"}"#, None, true),
            (r#"{"stream_name":"S"}"#, None, false),
            (r#"{"stream_name":""}"#, None, false),
            (r#"{"stream_name":"s","group_id":"g"}"#, None, true),
            (r#"{"stream_name":"s","group_id":"h"}"#, None, false),
            (r#"{"stream_name":"s","item_id":"i"}"#, Some("i"), true),
            (r#"{"stream_name":"s","item_id":"i"}"#, Some("j"), false),
            (r#"{"stream_name":"s","item_id":"i"}"#, None, false),
        ];
        for (config, id, fires) in rows {
            let trigger = stream(config).unwrap();
            assert_eq!(trigger.matches("s", "g", id), fires, "{config} {id:?}");
        }
    }

    #[test]
    fn a_presence_trigger_obeys_its_stream_and_refuses_other_types() {
        let every = PresenceTrigger {
            stream: None,
            condition: None,
        };
        for config in [
            "{}",
            "null",
            r#""x""#,
            "5",
            r#"["s"]"#,
            r#"{"stream_name":null,"condition_function_id":null}"#,
            r#"{"stream_name":"","condition_function_id":"","other":5}"#,
        ] {
            assert_eq!(presence(TriggerType::Join, config), every, "{config}");
        }
        let absent = PresenceTrigger::read(TriggerType::Leave, None);
        assert_eq!(absent, Ok(every));
        let one = presence(
            TriggerType::Leave,
            r#"{"stream_name":"s","condition_function_id":"c"}"#,
        );
        assert_eq!(one.condition.as_deref(), Some("c"));
        assert!(one.matches("s") && !one.matches("S"));

        let refusal = |kind, config| PresenceTrigger::read(kind, raw(config)).map_err(parts);
        assert_eq!(
            refusal(TriggerType::Join, r#"{"stream_name":5}"#),
            Err(failed(
                "Failed to deserialize stream:join trigger: `stream_name` must be a string"
            ))
        );
        assert_eq!(
            refusal(TriggerType::Leave, r#"{"condition_function_id":[]}"#),
            Err(failed(
                "Failed to deserialize stream:leave trigger: `condition_function_id` must be a string"
            ))
        );
    }

    #[test]
    fn a_log_trigger_hears_its_level_alone() {
        for config in [
            "{}",
            "null",
            "5",
            r#"["warn"]"#,
            r#"{"level":null}"#,
            r#"{"level":5}"#,
            r#"{"level":"all"}"#,
        ] {
            let trigger = LogTrigger::read(raw(config));
            for severity in ["TRACE", "Info", "", "whatever"] {
                assert!(trigger.matches(severity), "{config} {severity}");
            }
        }
        assert_eq!(LogTrigger::read(None).level, Level::All);
        let rows = [
            ("warn", "WARN", true),
            ("warn", "ERROR", false),
            ("info", "Info", true),
            ("trace", "TRACE", true),
            ("INFO", "INFO", false),
            ("loud", "INFO", false),
            ("", "", false),
            ("info", "", false),
        ];
        for (level, severity, fires) in rows {
            let config = format!(r#"{{"level":"{level}"}}"#);
            let trigger = LogTrigger::read(raw(&config));
            assert_eq!(trigger.matches(severity), fires, "{level} {severity}");
        }
    }

    #[test]
    fn a_subscription_without_a_topic_is_kept_and_has_none() {
        let topic = |config| SubscribeTrigger::read(raw(config)).topic;
        assert_eq!(
            topic(r#"{"topic":"t","condition_function_id":5}"#).as_deref(),
            Some("t")
        );
        for config in [
            "null",
            "{}",
            r#"{"topic":""}"#,
            r#"{"topic":5}"#,
            r#"["t"]"#,
        ] {
            assert_eq!(topic(config), None, "{config}");
        }
    }

    #[test]
    fn only_unauthorized_exactly_true_refuses_a_join() {
        let rows = [
            (Some(r#"{"unauthorized":true}"#), true),
            (Some(r#" {"x":1,"unauthorized" : true } "#), true),
            (Some(r#"{"unauthorized":false,"unauthorized":true}"#), true),
            (Some(r#"{"unauthorized":true,"unauthorized":false}"#), false),
            (Some(r#"{"unauthorized":false}"#), false),
            (Some(r#"{"unauthorized":"true"}"#), false),
            (Some(r#"{"unauthorized":1}"#), false),
            (Some(r#"{"x":true}"#), false),
            (Some("true"), false),
            (Some("[true]"), false),
            (Some(r#""unauthorized""#), false),
            (Some("null"), false),
            (None, false),
        ];
        for (result, refuses) in rows {
            assert_eq!(is_unauthorized(result), refuses, "{result:?}");
        }
    }

    #[test]
    fn only_false_holds_a_handler_back() {
        assert!(is_false(Some("false")) && is_false(Some(" false\n")));
        for result in [
            "true",
            "null",
            "0",
            r#""""#,
            r#""false""#,
            "[]",
            "{}",
            "[false]",
        ] {
            assert!(!is_false(Some(result)), "{result}");
        }
        assert!(!is_false(None));
    }
}
