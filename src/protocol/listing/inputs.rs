//! What the engine's own functions are asked: the `data` of a call to checked values, or to the
//! error that its caller is told.
//!
//! Unknown members are passed over. May not know what the functions do. Values are taken by their
//! grammar alone: what they may hold is for the caller to check.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::call::ErrorBody;
use crate::protocol::function::refused;
use crate::protocol::json::{phrase, raw, text};

/// SDK workers describe themselves with it.
pub const REGISTER_WORKER: &str = "engine::workers::register";
/// Which workers there are.
pub const LIST_WORKERS: &str = "engine::workers::list";
/// What can be called.
pub const LIST_FUNCTIONS: &str = "engine::functions::list";
/// Which triggers there are.
pub const LIST_TRIGGERS: &str = "engine::triggers::list";
/// Which trigger types there are.
pub const LIST_TRIGGER_TYPES: &str = "engine::trigger-types::list";
/// How the server is.
pub const CHECK_HEALTH: &str = "engine::health::check";
/// Tells all subscribers of a topic something.
pub const PUBLISH: &str = "publish";

/// `WorkersListInput`: the id of the one worker that is asked for.
pub fn workers_list(data: &str) -> Result<Option<Cow<'_, str>>, ErrorBody> {
    phrase::members(data, "WorkersListInput", ["worker_id"])
        .and_then(|[worker_id]| phrase::optional_string(worker_id))
        .map_err(|phrase| refused(LIST_WORKERS, &phrase))
}

/// `FunctionsListInput`: whether internal functions are asked for.
pub fn functions_list(data: &str) -> Result<bool, ErrorBody> {
    include_internal(data, LIST_FUNCTIONS, "FunctionsListInput")
}

/// `TriggersListInput`: whether internal triggers are asked for.
pub fn triggers_list(data: &str) -> Result<bool, ErrorBody> {
    include_internal(data, LIST_TRIGGERS, "TriggersListInput")
}

/// `TriggerTypesListInput`: whether internal trigger types are asked for.
pub fn trigger_types_list(data: &str) -> Result<bool, ErrorBody> {
    include_internal(data, LIST_TRIGGER_TYPES, "TriggerTypesListInput")
}

/// `HealthCheckInput`: nothing.
pub fn health_check(data: &str) -> Result<(), ErrorBody> {
    phrase::members(data, "HealthCheckInput", [])
        .map(|[]| ())
        .map_err(|phrase| refused(CHECK_HEALTH, &phrase))
}

/// What an SDK worker tells about itself. None: nothing, or `null`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RegisterWorker<'a> {
    /// What it is written in.
    pub runtime: Option<Cow<'a, str>>,
    /// Its version, or that of its SDK.
    pub version: Option<Cow<'a, str>>,
    /// As it calls itself.
    pub name: Option<Cow<'a, str>>,
    /// The system that it runs on.
    pub os: Option<Cow<'a, str>>,
    /// How it is kept apart from others.
    pub isolation: Option<Cow<'a, str>>,
    /// Its process.
    pub pid: Option<u32>,
    /// Where its functions stand. What is no string says nothing.
    pub namespace: Option<Cow<'a, str>>,
}

/// `RegisterWorkerInput`. What it tells of its telemetry is checked and goes no further.
pub fn register_worker(data: &str) -> Result<RegisterWorker<'_>, ErrorBody> {
    read_worker(data).map_err(|phrase| refused(REGISTER_WORKER, &phrase))
}

/// Err, here and below: the phrase for the first wrong member in the order of the keys.
fn read_worker(data: &str) -> Result<RegisterWorker<'_>, String> {
    const KEYS: [&str; 8] = [
        "isolation",
        "name",
        "namespace",
        "os",
        "pid",
        "runtime",
        "telemetry",
        "version",
    ];
    let [
        isolation,
        name,
        namespace,
        os,
        pid,
        runtime,
        telemetry,
        version,
    ] = phrase::members(data, "RegisterWorkerInput", KEYS)?;
    let (isolation, name) = (
        phrase::optional_string(isolation)?,
        phrase::optional_string(name)?,
    );
    let os = phrase::optional_string(os)?;
    let pid = pid
        .filter(|json| json.get() != "null")
        .map(|json| phrase::read_unsigned(json, u64::from(u32::MAX), "u32"))
        .transpose()?;
    let runtime = phrase::optional_string(runtime)?;
    check_telemetry(telemetry)?;
    Ok(RegisterWorker {
        runtime,
        version: phrase::optional_string(version)?,
        name,
        os,
        isolation,
        pid: pid.and_then(|pid| u32::try_from(pid).ok()),
        namespace: phrase::optional_string(namespace).unwrap_or_default(),
    })
}

fn check_telemetry(json: Option<&RawValue>) -> Result<(), String> {
    const KEYS: [&str; 3] = ["framework", "language", "project_name"];
    let Some(json) = json.filter(|json| json.get() != "null") else {
        return Ok(());
    };
    let members = phrase::members(json.get(), "WorkerTelemetry", KEYS)?;
    for member in members {
        phrase::optional_string(member)?;
    }
    Ok(())
}

/// Something that is published.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Under what; not empty.
    pub topic: Cow<'a, str>,
    /// What, a JSON text.
    pub data: &'a str,
}

/// `PubSubInput`: an object, or an array of topic and data.
pub fn publish(data: &str) -> Result<Publish<'_>, ErrorBody> {
    let input = read_publish(data.trim_ascii()).map_err(|phrase| refused(PUBLISH, &phrase))?;
    match input.topic.is_empty() {
        true => Err(ErrorBody::new("topic_not_set", "Topic is not set")),
        false => Ok(input),
    }
}

fn read_publish(data: &str) -> Result<Publish<'_>, String> {
    let [topic, data] = match data.starts_with('[') {
        true => publish_elements(data)?,
        false => phrase::members(data, "PubSubInput", ["topic", "data"])?,
    };
    let topic = topic
        .map(|json| phrase::read_string(json.get()))
        .transpose()?
        .ok_or_else(|| phrase::missing("topic"))?;
    let data = data.ok_or_else(|| phrase::missing("data"))?.get();
    Ok(Publish { topic, data })
}

/// The elements are looked at from the left, before their number is.
fn publish_elements(array: &str) -> Result<[Option<&RawValue>; 2], String> {
    let mut given = Vec::new();
    let len = raw::elements(array, |element| {
        given.push(element);
        given.len() < 2
    })
    .map_err(|error| error.to_string())?;
    if let Some(topic) = given.first() {
        phrase::read_string(topic.get())?;
    }
    match (given.first(), given.get(1)) {
        (Some(topic), Some(data)) if len == 2 => Ok([Some(topic), Some(data)]),
        _ if len > 2 => Err(format!(
            "invalid length {len}, expected fewer elements in array"
        )),
        _ => Err(format!(
            "invalid length {len}, expected struct PubSubInput with 2 elements"
        )),
    }
}

/// The input of the `engine::…::list` functions: whether internal entries are asked for.
fn include_internal(data: &str, function_id: &str, input: &str) -> Result<bool, ErrorBody> {
    let mut include = Ok(false);
    let is_object = raw::members(data, |key, value| {
        if text::read_string(key).is_ok_and(|key| key == "include_internal") {
            include = match value.get() {
                "true" => Ok(true),
                "false" | "null" => Ok(false),
                other => Err(phrase::invalid_type(other, "a boolean")),
            };
        }
    });
    if is_object.is_err() {
        include = Err(phrase::invalid_type(data, &format!("struct {input}")));
    }
    include.map_err(|phrase| refused(function_id, &phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phrase of a `deserialization_error` of that function.
    fn phrase_of(function_id: &str, error: ErrorBody) -> String {
        assert_eq!(error.code, "deserialization_error");
        let head = format!("Failed to deserialize input for {function_id}: ");
        error.message.strip_prefix(&head).unwrap().to_owned()
    }

    #[test]
    fn listings_are_asked_with_an_object() {
        assert_eq!(workers_list("{}"), Ok(None));
        assert_eq!(workers_list(r#"{"worker_id":null,"x":5}"#), Ok(None));
        assert_eq!(
            workers_list(r#" {"worker_id":"w"} "#),
            Ok(Some(Cow::Borrowed("w")))
        );
        assert_eq!(
            phrase_of(
                LIST_WORKERS,
                workers_list(r#"{"worker_id":5}"#).unwrap_err()
            ),
            "invalid type: integer `5`, expected a string"
        );
        assert_eq!(
            phrase_of(LIST_WORKERS, workers_list("null").unwrap_err()),
            "invalid type: null, expected struct WorkersListInput"
        );
        assert_eq!(health_check(r#"{"x":1}"#), Ok(()));
        assert_eq!(
            phrase_of(CHECK_HEALTH, health_check("5").unwrap_err()),
            "invalid type: integer `5`, expected struct HealthCheckInput"
        );
    }

    #[test]
    fn internal_entries_are_asked_for_with_a_flag() {
        type Reader = fn(&str) -> Result<bool, ErrorBody>;
        let readers: [(Reader, &str, &str); 3] = [
            (functions_list, LIST_FUNCTIONS, "FunctionsListInput"),
            (triggers_list, LIST_TRIGGERS, "TriggersListInput"),
            (
                trigger_types_list,
                LIST_TRIGGER_TYPES,
                "TriggerTypesListInput",
            ),
        ];
        for (read, function_id, name) in readers {
            assert_eq!(read("{}"), Ok(false));
            assert_eq!(read(r#"{"include_internal":null}"#), Ok(false));
            assert_eq!(read(r#"{"include_internal":false}"#), Ok(false));
            assert_eq!(read(r#"{"include_internal":true,"x":1}"#), Ok(true));
            assert_eq!(
                phrase_of(function_id, read(r#"{"include_internal":5}"#).unwrap_err()),
                "invalid type: integer `5`, expected a boolean"
            );
            assert_eq!(
                phrase_of(function_id, read("[]").unwrap_err()),
                format!("invalid type: sequence, expected struct {name}")
            );
        }
    }

    #[test]
    fn a_worker_describes_itself_as_far_as_it_likes() {
        let all = register_worker(
            r#"{"runtime":"node","version":"0.11.6","name":"host:1","os":"linux","pid":4294967295,"isolation":"vm","telemetry":{"language":"C","project_name":null,"x":5},"_caller_worker_id":"w","namespace":5}"#,
        );
        let wanted = RegisterWorker {
            namespace: None,
            runtime: Some("node".into()),
            version: Some("0.11.6".into()),
            name: Some("host:1".into()),
            os: Some("linux".into()),
            isolation: Some("vm".into()),
            pid: Some(u32::MAX),
        };
        assert_eq!(all, Ok(wanted));
        for data in [
            "{}",
            r#"{"runtime":null,"version":null,"name":null,"os":null,"pid":null,"isolation":null,"telemetry":null}"#,
        ] {
            assert_eq!(
                register_worker(data),
                Ok(RegisterWorker::default()),
                "{data}"
            );
        }
    }

    #[test]
    fn a_description_of_the_wrong_shape_is_told_so() {
        let rows = [
            (r#"{"pid":-1}"#, "invalid value: integer `-1`, expected u32"),
            (
                r#"{"pid":4294967296}"#,
                "invalid value: integer `4294967296`, expected u32",
            ),
            (
                r#"{"pid":"1"}"#,
                r#"invalid type: string "1", expected u32"#,
            ),
            (
                r#"{"pid":1.0}"#,
                "invalid type: floating point `1.0`, expected u32",
            ),
            (
                r#"{"runtime":5}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"version":true,"isolation":[]}"#,
                "invalid type: sequence, expected a string",
            ),
            (
                r#"{"telemetry":{"language":5}}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                "null",
                "invalid type: null, expected struct RegisterWorkerInput",
            ),
        ];
        for (data, phrase) in rows {
            let error = register_worker(data).unwrap_err();
            assert_eq!(phrase_of(REGISTER_WORKER, error), phrase, "{data}");
        }
        assert!(register_worker(r#"{"telemetry":5}"#).is_err());
    }

    #[test]
    fn what_is_published_has_a_topic_and_any_data() {
        let wanted = |topic: &'static str, data| {
            let topic = Cow::Borrowed(topic);
            Ok(Publish { topic, data })
        };
        assert_eq!(
            publish(r#"{"topic":"t","data": {"a":1.0} ,"x":1}"#),
            wanted("t", r#"{"a":1.0}"#)
        );
        assert_eq!(publish(r#"{"topic":"t","data":null}"#), wanted("t", "null"));
        assert_eq!(publish(r#" ["t",[1]] "#), wanted("t", "[1]"));
        for data in [r#"{"topic":"","data":1}"#, r#"["",1]"#] {
            let error = publish(data).unwrap_err();
            assert_eq!(
                (&*error.code, &*error.message),
                ("topic_not_set", "Topic is not set")
            );
        }
    }

    #[test]
    fn what_cannot_be_published_is_told_so() {
        let rows = [
            ("{}", "missing field `topic`"),
            (r#"{"data":1}"#, "missing field `topic`"),
            (r#"{"topic":"t"}"#, "missing field `data`"),
            (r#"{"topic":null}"#, "invalid type: null, expected a string"),
            (
                "5",
                "invalid type: integer `5`, expected struct PubSubInput",
            ),
            (
                "[]",
                "invalid length 0, expected struct PubSubInput with 2 elements",
            ),
            (
                r#"["t"]"#,
                "invalid length 1, expected struct PubSubInput with 2 elements",
            ),
            (
                r#"["t",1,2]"#,
                "invalid length 3, expected fewer elements in array",
            ),
            ("[5]", "invalid type: integer `5`, expected a string"),
        ];
        for (data, phrase) in rows {
            let error = publish(data).unwrap_err();
            assert_eq!(phrase_of(PUBLISH, error), phrase, "{data}");
        }
    }
}
