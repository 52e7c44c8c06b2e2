//! What the eight stream functions take: the `data` of a call to one checked [`StreamInput`].
//!
//! What does not fit is refused here, in the words of the reference, before any shard hears of
//! it. May not know what the functions do with their input.

mod ops;

use std::borrow::Cow;

pub use self::ops::{AppendPath, UpdateOp};
use super::call::ErrorBody;
use super::function::refused;
pub use super::function::{StreamFunction, failed, limit_exceeded};
use super::json::number::Number;
use super::json::value::ValueError;
use super::json::{checked, phrase, raw, text, value};
use super::ttl::Ttl;

/// How much an input may hold.
#[derive(Debug, Clone, Copy)]
pub struct InputLimits {
    /// Bytes of a stream's, group's or item's name.
    pub name_bytes: usize,
    /// Levels of a value.
    pub json_depth: usize,
    /// Bytes of a value's text.
    pub value_bytes: usize,
    /// Operations of one `stream::update`.
    pub update_ops: usize,
}

/// A checked input. Values are JSON texts without blanks around them.
#[derive(Debug, PartialEq)]
pub enum StreamInput<'a> {
    /// `stream::set`
    Set {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
        /// Name of the item.
        item: Cow<'a, str>,
        /// The new value.
        data: &'a str,
        /// How long it lasts unless it is written again; none: as before.
        ttl: Option<Ttl>,
    },
    /// `stream::get`
    Get {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
        /// Name of the item.
        item: Cow<'a, str>,
    },
    /// `stream::delete`
    Delete {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
        /// Name of the item.
        item: Cow<'a, str>,
    },
    /// `stream::list`
    List {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
    },
    /// `stream::list_groups`
    ListGroups {
        /// Name of the stream.
        stream: Cow<'a, str>,
    },
    /// `stream::list_all`
    ListAll,
    /// `stream::send`
    Send {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
        /// The item that the event is about, if it is about one.
        id: Option<Cow<'a, str>>,
        /// The event's `type`.
        kind: Cow<'a, str>,
        /// The event's `data`.
        data: &'a str,
    },
    /// `stream::update`
    Update {
        /// Name of the stream.
        stream: Cow<'a, str>,
        /// Name of the group.
        group: Cow<'a, str>,
        /// Name of the item.
        item: Cow<'a, str>,
        /// What to do, in this order.
        ops: Vec<UpdateOp>,
        /// As of a set.
        ttl: Option<Ttl>,
    },
}

/// Reads the input of a call. `data` is one JSON text by its grammar, as `call::parse` gives it.
///
/// Err: what the caller is to be told. A fault in the shape is told before a limit.
pub fn parse<'a>(
    function: StreamFunction,
    data: &'a str,
    limits: &InputLimits,
) -> Result<StreamInput<'a>, ErrorBody> {
    let fields = Fields::read(function, data.trim_ascii(), limits)
        .and_then(|mut fields| Ok((fields.over_limit.take(), fields.into_input(function)?)));
    match fields {
        Ok((None, input)) => Ok(input),
        Ok((Some(cause), _)) => Err(failed(function, &cause)),
        Err(phrase) => Err(refused(function.id(), &phrase)),
    }
}

/// The fields of a function's input in the order in which an array gives them.
fn fields_of(function: StreamFunction) -> &'static [Field] {
    use Field::{Data, Group, Id, Item, Kind, Ops, Stream};
    match function {
        StreamFunction::Set => &[Stream, Group, Item, Data],
        StreamFunction::Get | StreamFunction::Delete => &[Stream, Group, Item],
        StreamFunction::List => &[Stream, Group],
        StreamFunction::ListGroups => &[Stream],
        StreamFunction::ListAll => &[],
        StreamFunction::Send => &[Stream, Group, Id, Kind, Data],
        StreamFunction::Update => &[Stream, Group, Item, Ops],
    }
}

/// A field of some input. The order is that of the keys' bytes, in which wrong ones are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Group,
    Id,
    Item,
    Ops,
    Stream,
    Kind,
}

impl Field {
    const BY_KEY: [Field; 7] = [
        Field::Data,
        Field::Group,
        Field::Id,
        Field::Item,
        Field::Ops,
        Field::Stream,
        Field::Kind,
    ];

    fn key(self) -> &'static str {
        match self {
            Field::Data => "data",
            Field::Group => "group_id",
            Field::Id => "id",
            Field::Item => "item_id",
            Field::Ops => "ops",
            Field::Stream => "stream_name",
            Field::Kind => "type",
        }
    }
}

/// What many callers write in place of `type`.
const EVENT_TYPE: &str = "event_type";
/// Beside the fields that the reference knows, where an object gives them.
const TTL_MS: &str = "ttl_ms";

/// What an input's fields hold, each of the right type.
#[derive(Default)]
struct Fields<'a> {
    stream: Option<Cow<'a, str>>,
    group: Option<Cow<'a, str>>,
    item: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    data: Option<&'a str>,
    ops: Option<Vec<UpdateOp>>,
    ttl: Option<Ttl>,
    /// The first limit found to be exceeded, as the cause of an error.
    over_limit: Option<String>,
}

impl<'a> Fields<'a> {
    /// Err, here and below: the phrase that says what is wrong.
    fn read(
        function: StreamFunction,
        data: &'a str,
        limits: &InputLimits,
    ) -> Result<Fields<'a>, String> {
        let mut fields = Fields::default();
        match data.as_bytes().first() {
            Some(b'{') => fields.read_object(function, data, limits)?,
            Some(b'[') => fields.read_array(function, data, limits)?,
            _ if data == "null" && function == StreamFunction::ListAll => {}
            _ => return Err(phrase::invalid_type(data, function.input())),
        }
        Ok(fields)
    }

    fn read_object(
        &mut self,
        function: StreamFunction,
        data: &'a str,
        limits: &InputLimits,
    ) -> Result<(), String> {
        let wanted = fields_of(function);
        let mut given: [Option<&'a str>; Field::BY_KEY.len()] = Default::default();
        let mut event_type = None;
        let mut ttl_ms = None;
        let takes_ttl = matches!(function, StreamFunction::Set | StreamFunction::Update);
        checked::members(data, |key, value| {
            let key = text::read_string(key).unwrap_or_default();
            if let Some(field) = wanted.iter().find(|field| field.key() == key) {
                given[*field as usize] = Some(value); // of a doubled key the last one counts
            } else if function == StreamFunction::Send && key == EVENT_TYPE {
                event_type = Some(value);
            } else if takes_ttl && key == TTL_MS {
                ttl_ms = Some(value);
            }
        });
        let kind = &mut given[Field::Kind as usize];
        *kind = kind.or(event_type);
        for (field, json) in Field::BY_KEY.into_iter().zip(given) {
            if let Some(json) = json {
                self.read_field(field, json, limits)?;
            }
        }
        self.ttl = ttl_ms.map_or(Ok(None), read_ttl)?;
        Ok(())
    }

    fn read_array(
        &mut self,
        function: StreamFunction,
        data: &'a str,
        limits: &InputLimits,
    ) -> Result<(), String> {
        let wanted = fields_of(function);
        let mut given = Vec::with_capacity(wanted.len());
        let len = raw::elements(data, |element| {
            given.push(element);
            given.len() < wanted.len()
        })
        .map_err(|error| error.to_string())?;
        for (field, json) in wanted.iter().zip(given) {
            self.read_field(*field, json.get(), limits)?;
        }
        match wanted.len() {
            wanted if len < wanted => {
                let plural = if wanted == 1 { "" } else { "s" };
                let input = function.input();
                Err(format!(
                    "invalid length {len}, expected {input} with {wanted} element{plural}"
                ))
            }
            wanted if len > wanted => Err(format!(
                "invalid length {len}, expected fewer elements in array"
            )),
            _ => Ok(()),
        }
    }

    fn read_field(
        &mut self,
        field: Field,
        json: &'a str,
        limits: &InputLimits,
    ) -> Result<(), String> {
        match field {
            Field::Stream => self.stream = Some(self.read_name(json, limits)?),
            Field::Group => self.group = Some(self.read_name(json, limits)?),
            Field::Item => self.item = Some(self.read_name(json, limits)?),
            Field::Id if json == "null" => self.id = None,
            Field::Id => self.id = Some(self.read_name(json, limits)?),
            Field::Kind => self.kind = Some(phrase::read_string(json)?),
            Field::Data => self.data = Some(self.read_value(json, limits)?),
            Field::Ops => {
                let (ops, len) = ops::parse(json, limits.update_ops)?;
                self.check_limit("limits.update_ops", len, limits.update_ops);
                self.ops = Some(ops);
            }
        }
        Ok(())
    }

    fn read_name(&mut self, json: &'a str, limits: &InputLimits) -> Result<Cow<'a, str>, String> {
        let name = phrase::read_string(json)?;
        self.check_limit("limits.name_bytes", name.len(), limits.name_bytes);
        Ok(name)
    }

    fn read_value(&mut self, json: &'a str, limits: &InputLimits) -> Result<&'a str, String> {
        match value::check(json, limits.json_depth) {
            Ok(()) => {}
            Err(ValueError::TooDeep { depth }) => {
                self.check_limit("limits.json_depth", depth, limits.json_depth);
            }
            Err(fault) => return Err(fault.to_string()),
        }
        self.check_limit("limits.value_bytes", json.len(), limits.value_bytes);
        Ok(json)
    }

    fn check_limit(&mut self, limit_name: &str, n: usize, limit: usize) {
        if n > limit && self.over_limit.is_none() {
            self.over_limit = Some(limit_exceeded(limit_name, n, limit));
        }
    }

    /// What is missing is told in the order in which the fields stand here.
    fn into_input(self, function: StreamFunction) -> Result<StreamInput<'a>, String> {
        fn given<T>(value: Option<T>, field: Field) -> Result<T, String> {
            value.ok_or_else(|| phrase::missing(field.key()))
        }
        Ok(match function {
            StreamFunction::Set => StreamInput::Set {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
                item: given(self.item, Field::Item)?,
                data: given(self.data, Field::Data)?,
                ttl: self.ttl,
            },
            StreamFunction::Get => StreamInput::Get {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
                item: given(self.item, Field::Item)?,
            },
            StreamFunction::Delete => StreamInput::Delete {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
                item: given(self.item, Field::Item)?,
            },
            StreamFunction::List => StreamInput::List {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
            },
            StreamFunction::ListGroups => StreamInput::ListGroups {
                stream: given(self.stream, Field::Stream)?,
            },
            StreamFunction::ListAll => StreamInput::ListAll,
            StreamFunction::Send => StreamInput::Send {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
                id: self.id,
                kind: given(self.kind, Field::Kind)?,
                data: given(self.data, Field::Data)?,
            },
            StreamFunction::Update => StreamInput::Update {
                stream: given(self.stream, Field::Stream)?,
                group: given(self.group, Field::Group)?,
                item: given(self.item, Field::Item)?,
                ops: given(self.ops, Field::Ops)?,
                ttl: self.ttl,
            },
        })
    }
}

/// Milliseconds, as an integer.
fn read_ttl(json: &str) -> Result<Option<Ttl>, String> {
    if json == "null" {
        return Ok(None);
    }
    let expected = "an integer of milliseconds in `ttl_ms`";
    let ms = match Number::read(json) {
        Some(Number::Integer(ms)) => u64::try_from(ms).ok(),
        _ => return Err(phrase::invalid_type(json, expected)),
    };
    let ttl = ms.and_then(Ttl::of_ms);
    let max = Ttl::MS_MAX;
    ttl.map(Some).ok_or_else(|| {
        format!("invalid value: integer `{json}`, expected {expected} from 0 to {max}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use StreamFunction::{Delete, Get, List, ListAll, ListGroups, Send, Set, Update};

    const LIMITS: InputLimits = InputLimits {
        name_bytes: 8,
        json_depth: 3,
        value_bytes: 30,
        update_ops: 2,
    };

    /// The phrase of a `deserialization_error`.
    fn phrase(function: StreamFunction, data: &str) -> String {
        let error = parse(function, data, &LIMITS).unwrap_err();
        assert_eq!(
            (&*error.code, error.stacktrace),
            ("deserialization_error", None),
            "{data}"
        );
        let head = format!("Failed to deserialize input for {}: ", function.id());
        error.message.strip_prefix(&head).unwrap().to_owned()
    }

    fn refusal(function: StreamFunction, data: &str) -> (String, String) {
        let error = parse(function, data, &LIMITS).unwrap_err();
        (error.code.into_owned(), error.message)
    }

    fn op_phrase(op: &str) -> String {
        phrase(
            Update,
            &format!(r#"{{"stream_name":"s","group_id":"g","item_id":"i","ops":[{op}]}}"#),
        )
    }

    fn ops(json: &str) -> Vec<UpdateOp> {
        let data = format!(r#"["s","g","i",{json}]"#);
        match parse(Update, &data, &LIMITS) {
            Ok(StreamInput::Update { ops, .. }) => ops,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn functions_have_ids() {
        for function in StreamFunction::ALL {
            assert_eq!(StreamFunction::from_id(function.id()), Some(function));
        }
        assert_eq!(StreamFunction::from_id("stream::Set"), None);
    }

    #[test]
    fn inputs_are_read_as_objects_and_as_arrays() {
        let (s, g, i) = (Cow::Borrowed("s"), Cow::Borrowed("g"), Cow::Borrowed("i"));
        let (stream, group, item) = (s, g, i);
        let rows = [
            (
                Set,
                r#" {"data": [1, 2] ,"_caller_worker_id":"x","item_id":"i","group_id":"g","stream_name":"s"} "#,
                r#"["s","g","i",[1, 2]]"#,
                StreamInput::Set {
                    stream: stream.clone(),
                    group: group.clone(),
                    item: item.clone(),
                    data: "[1, 2]",
                    ttl: None,
                },
            ),
            (
                Get,
                r#"{"stream_name":"s","group_id":"g","item_id":"i","data":1e999}"#,
                r#"["s","g","i"]"#,
                StreamInput::Get {
                    stream: stream.clone(),
                    group: group.clone(),
                    item: item.clone(),
                },
            ),
            (
                Delete,
                r#"{"stream_name":"s","group_id":"g","item_id":5,"item_id":"i"}"#,
                r#"["s","g","\u0069"]"#,
                StreamInput::Delete {
                    stream: stream.clone(),
                    group: group.clone(),
                    item: item.clone(),
                },
            ),
            (
                List,
                r#"{"\u0073tream_name":"s","group_id":"g","item_id":5}"#,
                r#"["s","g"]"#,
                StreamInput::List {
                    stream: stream.clone(),
                    group: group.clone(),
                },
            ),
            (
                ListGroups,
                r#"{"stream_name":"s","\ud83d":1}"#,
                r#"["s"]"#,
                StreamInput::ListGroups {
                    stream: stream.clone(),
                },
            ),
            (
                ListAll,
                r#"{"x":[[[[[1e999]]]]]}"#,
                "[]",
                StreamInput::ListAll,
            ),
            (
                Send,
                r#"{"stream_name":"s","group_id":"g","type":"t","data":null}"#,
                r#"["s","g",null,"t",null]"#,
                StreamInput::Send {
                    stream: stream.clone(),
                    group: group.clone(),
                    id: None,
                    kind: Cow::Borrowed("t"),
                    data: "null",
                },
            ),
            (
                Send,
                r#"{"stream_name":"s","group_id":"g","id":"","type":"","data":1}"#,
                r#"["s","g","","",1]"#,
                StreamInput::Send {
                    stream: stream.clone(),
                    group: group.clone(),
                    id: Some(Cow::Borrowed("")),
                    kind: Cow::Borrowed(""),
                    data: "1",
                },
            ),
            (
                Update,
                r#"{"stream_name":"s","group_id":"g","item_id":"i","ops":[]}"#,
                r#"["s","g","i",[]]"#,
                StreamInput::Update {
                    stream,
                    group,
                    item,
                    ops: vec![],
                    ttl: None,
                },
            ),
        ];
        for (function, object, array, input) in rows {
            assert_eq!(
                parse(function, object, &LIMITS).as_ref(),
                Ok(&input),
                "{object}"
            );
            assert_eq!(
                parse(function, array, &LIMITS).as_ref(),
                Ok(&input),
                "{array}"
            );
        }
        assert_eq!(parse(ListAll, "null", &LIMITS), Ok(StreamInput::ListAll));
    }

    #[test]
    fn how_long_an_item_lasts_is_read_where_it_counts_and_passed_over_elsewhere() {
        let ttl = |function, ttl: &str| {
            let data = format!(
                r#"{{"stream_name":"s","group_id":"g","item_id":"i","data":1,"ops":[],"ttl_ms":{ttl}}}"#
            );
            match parse(function, &data, &LIMITS) {
                Ok(StreamInput::Set { ttl, .. } | StreamInput::Update { ttl, .. }) => Ok(ttl),
                Ok(_) => Ok(None),
                Err(error) => Err(error.message),
            }
        };
        for function in [Set, Update] {
            assert_eq!(ttl(function, "60000"), Ok(Ttl::of_ms(60_000)));
            assert_eq!(ttl(function, "0"), Ok(Some(Ttl::NEVER)));
            assert_eq!(ttl(function, "null"), Ok(None));
            for wrong in ["\"1s\"", "-1", "1.5", "true", "[1]", "999999999999999999"] {
                let error = ttl(function, wrong).unwrap_err();
                assert!(error.contains("of milliseconds in `ttl_ms`"), "{error}");
            }
        }
        assert_eq!(ttl(Delete, "\"1s\""), Ok(None));
    }

    #[test]
    fn names_without_escapes_are_borrowed() {
        let Ok(StreamInput::Get { stream, group, .. }) =
            parse(Get, r#"["é:/","\n\"","i"]"#, &LIMITS)
        else {
            panic!("is an input");
        };
        assert!(matches!(stream, Cow::Borrowed("é:/")));
        assert_eq!(group, "\n\"");
    }

    #[test]
    fn what_is_no_input_is_named() {
        let rows = [
            (
                Get,
                "null",
                "invalid type: null, expected struct StreamGetInput",
            ),
            (
                Set,
                "5",
                "invalid type: integer `5`, expected struct StreamSetInput",
            ),
            (
                Delete,
                "true",
                "invalid type: boolean `true`, expected struct StreamDeleteInput",
            ),
            (
                List,
                "1.0",
                "invalid type: floating point `1.0`, expected struct StreamListInput",
            ),
            (
                ListGroups,
                "\"x\"",
                "invalid type: string \"x\", expected struct StreamListGroupsInput",
            ),
            (
                ListAll,
                "5",
                "invalid type: integer `5`, expected struct StreamListAllInput",
            ),
            (
                Send,
                "null",
                "invalid type: null, expected struct StreamSendInput",
            ),
            (
                Update,
                "\"x\"",
                "invalid type: string \"x\", expected struct StreamUpdateInput",
            ),
            (Get, "1e999", "number out of range"),
        ];
        for (function, data, wanted) in rows {
            assert_eq!(phrase(function, data), wanted);
        }
    }

    #[test]
    fn missing_fields_are_told_as_declared_and_wrong_ones_before_them_by_key() {
        let rows = [
            (Set, "{}", "missing field `stream_name`"),
            (Set, r#"{"stream_name":"s"}"#, "missing field `group_id`"),
            (
                Set,
                r#"{"stream_name":"s","group_id":"g"}"#,
                "missing field `item_id`",
            ),
            (
                Set,
                r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#,
                "missing field `data`",
            ),
            (
                Update,
                r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#,
                "missing field `ops`",
            ),
            (
                Send,
                r#"{"stream_name":"s","group_id":"g","data":1}"#,
                "missing field `type`",
            ),
            (
                Send,
                r#"{"stream_name":"s","group_id":"g","type":"t"}"#,
                "missing field `data`",
            ),
            (
                Get,
                r#"{"item_id":5}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                Get,
                r#"{"stream_name":6,"group_id":5}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                Get,
                r#"{"stream_name":null}"#,
                "invalid type: null, expected a string",
            ),
            (
                Send,
                r#"{"type":1,"id":2}"#,
                "invalid type: integer `2`, expected a string",
            ),
            (
                Send,
                r#"{"type":{},"stream_name":[]}"#,
                "invalid type: sequence, expected a string",
            ),
            (
                Update,
                r#"{"stream_name":1,"ops":{}}"#,
                "invalid type: map, expected a sequence",
            ),
            (
                Update,
                r#"{"ops":null}"#,
                "invalid type: null, expected a sequence",
            ),
            (
                Update,
                r#"{"ops":"x"}"#,
                "invalid type: string \"x\", expected a sequence",
            ),
            (Set, r#"{"data":1e999,"group_id":5}"#, "number out of range"),
            (
                Set,
                r#"{"data":"\ud83d"}"#,
                "lone surrogate in a \\u escape",
            ),
            (
                Set,
                r#"{"stream_name":"\ud83d"}"#,
                "lone surrogate in a \\u escape",
            ),
        ];
        for (function, data, wanted) in rows {
            assert_eq!(phrase(function, data), wanted, "{data}");
        }
    }

    #[test]
    fn a_send_takes_event_type_where_type_is_missing() {
        let kind = |data: &str| match parse(Send, data, &LIMITS) {
            Ok(StreamInput::Send { kind, .. }) => kind.into_owned(),
            other => panic!("{data}: {other:?}"),
        };
        let head = r#"{"stream_name":"s","group_id":"g","data":1"#;
        assert_eq!(kind(&format!(r#"{head},"event_type":"a"}}"#)), "a");
        assert_eq!(
            kind(&format!(r#"{head},"type":"b","event_type":"a"}}"#)),
            "b"
        );
        assert_eq!(kind(&format!(r#"{head},"event_type":5,"type":"b"}}"#)), "b");
        assert_eq!(
            phrase(Send, &format!(r#"{head},"event_type":5}}"#)),
            "invalid type: integer `5`, expected a string"
        );
        assert_eq!(phrase(Send, &format!("{head}}}")), "missing field `type`");
        let other = r#"{"stream_name":"s","event_type":5}"#;
        assert!(parse(ListGroups, other, &LIMITS).is_ok());
    }

    #[test]
    fn arrays_of_a_wrong_length_are_told_after_their_elements() {
        let rows = [
            (
                Get,
                r#"["s","g"]"#,
                "invalid length 2, expected struct StreamGetInput with 3 elements",
            ),
            (Get, "[1]", "invalid type: integer `1`, expected a string"),
            (
                Get,
                r#"["s","g","i",1]"#,
                "invalid length 4, expected fewer elements in array",
            ),
            (
                ListGroups,
                "[]",
                "invalid length 0, expected struct StreamListGroupsInput with 1 element",
            ),
            (
                ListAll,
                "[1,2]",
                "invalid length 2, expected fewer elements in array",
            ),
            (
                Send,
                r#"["s","g","t",1]"#,
                "invalid type: integer `1`, expected a string",
            ),
            (
                Send,
                r#"["s","g",null]"#,
                "invalid length 3, expected struct StreamSendInput with 5 elements",
            ),
            (
                Update,
                r#"["s","g","i"]"#,
                "invalid length 3, expected struct StreamUpdateInput with 4 elements",
            ),
            (
                Update,
                r#"["s","g","i",[],1]"#,
                "invalid length 5, expected fewer elements in array",
            ),
        ];
        for (function, data, wanted) in rows {
            assert_eq!(phrase(function, data), wanted, "{data}");
        }
    }

    #[test]
    fn operations_are_read() {
        let text = |s: &str| s.into();
        let rows = [
            (
                r#"{"value": [1] ,"path":"a","type":"set","x":1}"#,
                UpdateOp::Set {
                    path: text("a"),
                    value: text("[1]"),
                },
            ),
            (
                r#"{"type":"set","path":""}"#,
                UpdateOp::Set {
                    path: text(""),
                    value: text("null"),
                },
            ),
            (
                r#"{"type":"merge","value":{}}"#,
                UpdateOp::Merge {
                    path: vec![],
                    value: text("{}"),
                },
            ),
            (
                r#"{"type":"merge","path":null,"value":5}"#,
                UpdateOp::Merge {
                    path: vec![],
                    value: text("5"),
                },
            ),
            (
                r#"{"type":"merge","path":"","value":5}"#,
                UpdateOp::Merge {
                    path: vec![],
                    value: text("5"),
                },
            ),
            (
                r#"{"type":"merge","path":"a.b","value":5}"#,
                UpdateOp::Merge {
                    path: vec![text("a.b")],
                    value: text("5"),
                },
            ),
            (
                r#"{"type":"merge","path":["a",""],"value":5}"#,
                UpdateOp::Merge {
                    path: vec![text("a"), text("")],
                    value: text("5"),
                },
            ),
            (
                r#"{"type":"increment","path":"n","by":5,"by":-9223372036854775808}"#,
                UpdateOp::Increment {
                    path: text("n"),
                    by: i64::MIN,
                },
            ),
            (
                r#"{"type":"decrement","path":"n","by":9223372036854775807}"#,
                UpdateOp::Decrement {
                    path: text("n"),
                    by: i64::MAX,
                },
            ),
            (
                r#"{"type":"append","path":"a","value":null}"#,
                UpdateOp::Append {
                    path: AppendPath::Key(text("a")),
                    value: text("null"),
                },
            ),
            (
                r#"{"type":"append","value":1}"#,
                UpdateOp::Append {
                    path: AppendPath::Key(text("")),
                    value: text("1"),
                },
            ),
            (
                r#"{"type":"append","path":null,"value":1}"#,
                UpdateOp::Append {
                    path: AppendPath::Key(text("")),
                    value: text("1"),
                },
            ),
            (
                r#"{"type":"append","path":[ ],"value":1}"#,
                UpdateOp::Append {
                    path: AppendPath::Key(text("")),
                    value: text("1"),
                },
            ),
            (
                r#"{"type":"append","path":["a",""],"value":1}"#,
                UpdateOp::Append {
                    path: AppendPath::Keys(vec![text("a"), text("")]),
                    value: text("1"),
                },
            ),
            (
                r#"{"type":"remove","path":"\u0061","value":1e999}"#,
                UpdateOp::Remove { path: text("a") },
            ),
        ];
        for (json, op) in rows {
            assert_eq!(ops(&format!("[{json}]")), [op], "{json}");
        }
        assert_eq!(ops("[]"), []);
    }

    #[test]
    fn the_first_bad_operation_is_told() {
        const UNKNOWN: &str =
            "expected one of `set`, `merge`, `increment`, `decrement`, `append`, `remove`";
        let rows = [
            (
                "5",
                "invalid type: integer `5`, expected internally tagged enum UpdateOp",
            ),
            (
                "null",
                "invalid type: null, expected internally tagged enum UpdateOp",
            ),
            (
                "\"set\"",
                "invalid type: string \"set\", expected internally tagged enum UpdateOp",
            ),
            (
                r#"["set","q",1]"#,
                "invalid type: sequence, expected internally tagged enum UpdateOp",
            ),
            ("{}", "missing field `type`"),
            ("[ ]", "missing field `type`"),
            (r#"{"path":5}"#, "missing field `type`"),
            (
                r#"{"type":5}"#,
                "invalid type: integer `5`, expected variant identifier",
            ),
            (
                r#"{"type":null}"#,
                "invalid type: null, expected variant identifier",
            ),
            (
                r#"{"type":"nope"}"#,
                &format!("unknown variant `nope`, {UNKNOWN}"),
            ),
            (
                r#"{"type":"Set"}"#,
                &format!("unknown variant `Set`, {UNKNOWN}"),
            ),
            (r#"{"type":"set"}"#, "missing field `path`"),
            (r#"{"type":"append"}"#, "missing field `value`"),
            (
                r#"{"type":"append","path":[1]}"#,
                "data did not match any variant of untagged enum MergePath",
            ),
            (r#"{"type":"increment"}"#, "missing field `path`"),
            (r#"{"type":"remove"}"#, "missing field `path`"),
            (
                r#"{"type":"set","path":null}"#,
                "invalid type: null, expected a string",
            ),
            (
                r#"{"type":"set","path":["a"]}"#,
                "invalid type: sequence, expected a string",
            ),
            (
                r#"{"type":"remove","path":1}"#,
                "invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"type":"append","path":{}}"#,
                "invalid type: map, expected a string",
            ),
            (r#"{"type":"merge"}"#, "missing field `value`"),
            (r#"{"type":"append","path":"a"}"#, "missing field `value`"),
            (r#"{"type":"increment","path":"a"}"#, "missing field `by`"),
            (r#"{"type":"decrement","path":"a"}"#, "missing field `by`"),
            (
                r#"{"type":"increment","path":5,"by":"1"}"#,
                "invalid type: string \"1\", expected i64",
            ),
            (
                r#"{"type":"set","path":5,"value":1e999}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (r#"{"type":"set","value":1e999}"#, "number out of range"),
            (
                r#"{"type":"append","value":"\ud83d"}"#,
                "lone surrogate in a \\u escape",
            ),
            (
                r#"{"type":"set","path":"a"},{"type":"x"}"#,
                &format!("unknown variant `x`, {UNKNOWN}"),
            ),
        ];
        for (op, wanted) in rows {
            assert_eq!(op_phrase(op), wanted, "{op}");
        }
        for path in ["5", "true", "{}", "[1]"] {
            assert_eq!(
                op_phrase(&format!(r#"{{"type":"merge","path":{path}}}"#)),
                "data did not match any variant of untagged enum MergePath"
            );
        }
    }

    #[test]
    fn by_is_a_whole_number_of_64_bits() {
        let rows = [
            ("1.0", "invalid type: floating point `1.0`, expected i64"),
            ("1.5", "invalid type: floating point `1.5`, expected i64"),
            ("\"1\"", "invalid type: string \"1\", expected i64"),
            ("null", "invalid type: null, expected i64"),
            ("true", "invalid type: boolean `true`, expected i64"),
            ("[]", "invalid type: sequence, expected i64"),
            ("{}", "invalid type: map, expected i64"),
            (
                "9223372036854775808",
                "invalid value: integer `9223372036854775808`, expected i64",
            ),
            (
                "-9223372036854775809",
                "invalid type: floating point `-9.223372036854776e+18`, expected i64",
            ),
            ("1e999", "number out of range"),
        ];
        for (by, wanted) in rows {
            let op = format!(r#"{{"type":"decrement","path":"a","by":{by}}}"#);
            assert_eq!(op_phrase(&op), wanted);
        }
    }

    #[test]
    fn functions_fail_with_their_own_codes() {
        let rows = [
            (Set, "STREAM_SET_ERROR", "Failed to set value: x"),
            (Get, "STREAM_GET_ERROR", "Failed to get value: x"),
            (Delete, "STREAM_DELETE_ERROR", "Failed to delete value: x"),
            (List, "STREAM_GET_GROUP_ERROR", "Failed to get group: x"),
            (
                ListGroups,
                "STREAM_LIST_GROUPS_ERROR",
                "Failed to list groups: x",
            ),
            (ListAll, "STREAM_LIST_ALL_ERROR", "Failed to list stream: x"),
            (Send, "STREAM_SEND_ERROR", "Failed to send event: x"),
            (Update, "STREAM_UPDATE_ERROR", "Failed to update value: x"),
        ];
        for (function, code, message) in rows {
            assert_eq!(failed(function, "x"), ErrorBody::new(code, message));
        }
    }

    #[test]
    fn limits_are_told_after_the_shape() {
        let op = r#"{"type":"remove","path":"a"}"#;
        let ops_3 = format!(r#"["s","g","i",[{op},{op},5]]"#);
        let long = format!(r#"["s","g","i","{}"]"#, "x".repeat(29));
        let rows = [
            (
                Set,
                r#"["s","g","i",[[[[1]]]]]"#,
                "STREAM_SET_ERROR",
                "set value: limits.json_depth exceeded: 4 > 3",
            ),
            (
                Send,
                r#"["s","g",null,"t",[[[[1]]]]]"#,
                "STREAM_SEND_ERROR",
                "send event: limits.json_depth exceeded: 4 > 3",
            ),
            (
                Set,
                &long,
                "STREAM_SET_ERROR",
                "set value: limits.value_bytes exceeded: 31 > 30",
            ),
            (
                Get,
                r#"["s","éééé1","i"]"#,
                "STREAM_GET_ERROR",
                "get value: limits.name_bytes exceeded: 9 > 8",
            ),
            (
                Send,
                r#"["s","g","123456789","t",1]"#,
                "STREAM_SEND_ERROR",
                "send event: limits.name_bytes exceeded: 9 > 8",
            ),
            (
                Update,
                &ops_3,
                "STREAM_UPDATE_ERROR",
                "update value: limits.update_ops exceeded: 3 > 2",
            ),
        ];
        for (function, data, code, message) in rows {
            let wanted = (code.to_owned(), format!("Failed to {message}"));
            assert_eq!(refusal(function, data), wanted, "{data}");
        }
        assert!(parse(Get, r#"["s","éééé","i"]"#, &LIMITS).is_ok());
        assert!(parse(Set, r#"["s","g","i",[[[1]]]]"#, &LIMITS).is_ok());
        let both = r#"{"data":[[[[1]]]],"stream_name":"123456789","group_id":5}"#;
        assert_eq!(
            phrase(Set, both),
            "invalid type: integer `5`, expected a string"
        );
        let both = r#"{"data":[[[[1]]]],"stream_name":"123456789"}"#;
        assert_eq!(phrase(Set, both), "missing field `group_id`");
    }

    #[test]
    fn what_is_not_json_does_no_harm() {
        for function in StreamFunction::ALL {
            for data in [
                "",
                " ",
                "{",
                "[",
                "nul",
                "{\"data\"",
                "[1,",
                "\"",
                "{}x",
                "é",
                "-",
            ] {
                // The one without fields may take it for an empty object: its grammar is another's affair.
                let refuses = parse(function, data, &LIMITS).is_err();
                assert!(refuses || function == ListAll, "{data}");
            }
        }
    }
}
