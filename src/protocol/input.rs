//! What the eight stream functions take: the `data` of a call to one checked [`StreamInput`].
//!
//! What does not fit is refused here, in the words of the reference, before any shard hears of
//! it. May not know what the functions do with their input.

mod ops;
mod phrase;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use self::ops::UpdateOp;
use super::call::ErrorBody;
use super::value::ValueError;
use super::{raw, text, value};

/// One of the eight functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamFunction {
    /// Stores a value.
    Set,
    /// Reads one.
    Get,
    /// Removes one.
    Delete,
    /// Reads the values of a group.
    List,
    /// Names the groups of a stream.
    ListGroups,
    /// Names all streams and their groups.
    ListAll,
    /// Tells subscribers something that is not stored.
    Send,
    /// Changes parts of a value.
    Update,
}

impl StreamFunction {
    /// All of them.
    pub const ALL: [StreamFunction; 8] = [
        StreamFunction::Set,
        StreamFunction::Get,
        StreamFunction::Delete,
        StreamFunction::List,
        StreamFunction::ListGroups,
        StreamFunction::ListAll,
        StreamFunction::Send,
        StreamFunction::Update,
    ];

    /// Finds a function by the id that callers use.
    pub fn from_id(id: &str) -> Option<StreamFunction> {
        StreamFunction::ALL
            .into_iter()
            .find(|function| function.id() == id)
    }

    /// The id that callers use.
    pub fn id(self) -> &'static str {
        match self {
            StreamFunction::Set => "stream::set",
            StreamFunction::Get => "stream::get",
            StreamFunction::Delete => "stream::delete",
            StreamFunction::List => "stream::list",
            StreamFunction::ListGroups => "stream::list_groups",
            StreamFunction::ListAll => "stream::list_all",
            StreamFunction::Send => "stream::send",
            StreamFunction::Update => "stream::update",
        }
    }

    /// What its input is, as errors name it.
    fn input(self) -> &'static str {
        match self {
            StreamFunction::Set => "struct StreamSetInput",
            StreamFunction::Get => "struct StreamGetInput",
            StreamFunction::Delete => "struct StreamDeleteInput",
            StreamFunction::List => "struct StreamListInput",
            StreamFunction::ListGroups => "struct StreamListGroupsInput",
            StreamFunction::ListAll => "struct StreamListAllInput",
            StreamFunction::Send => "struct StreamSendInput",
            StreamFunction::Update => "struct StreamUpdateInput",
        }
    }

    /// Its fields in the order in which an array gives them.
    fn fields(self) -> &'static [Field] {
        use Field::{Data, Group, Id, Item, Kind, Ops, Stream};
        match self {
            StreamFunction::Set => &[Stream, Group, Item, Data],
            StreamFunction::Get | StreamFunction::Delete => &[Stream, Group, Item],
            StreamFunction::List => &[Stream, Group],
            StreamFunction::ListGroups => &[Stream],
            StreamFunction::ListAll => &[],
            StreamFunction::Send => &[Stream, Group, Id, Kind, Data],
            StreamFunction::Update => &[Stream, Group, Item, Ops],
        }
    }
}

/// The error with which a function fails as a whole, for a cause that is not its input's shape.
pub fn failed(function: StreamFunction, cause: &str) -> ErrorBody {
    let (code, what) = match function {
        StreamFunction::Set => ("STREAM_SET_ERROR", "set value"),
        StreamFunction::Get => ("STREAM_GET_ERROR", "get value"),
        StreamFunction::Delete => ("STREAM_DELETE_ERROR", "delete value"),
        StreamFunction::List => ("STREAM_GET_GROUP_ERROR", "get group"),
        StreamFunction::ListGroups => ("STREAM_LIST_GROUPS_ERROR", "list groups"),
        StreamFunction::ListAll => ("STREAM_LIST_ALL_ERROR", "list stream"),
        StreamFunction::Send => ("STREAM_SEND_ERROR", "send event"),
        StreamFunction::Update => ("STREAM_UPDATE_ERROR", "update value"),
    };
    ErrorBody::new(code, format!("Failed to {what}: {cause}"))
}

/// The cause to tell when a limit refuses something.
pub fn limit_exceeded(limit_name: &str, n: usize, limit: usize) -> String {
    format!("{limit_name} exceeded: {n} > {limit}")
}

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
        Err(phrase) => Err(ErrorBody::new(
            "deserialization_error",
            format!(
                "Failed to deserialize input for {}: {phrase}",
                function.id()
            ),
        )),
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
        let wanted = function.fields();
        let mut given: [Option<&'a RawValue>; Field::BY_KEY.len()] = Default::default();
        raw::members(data, |key, value| {
            let key = text::read_string(key).unwrap_or_default();
            if let Some(field) = wanted.iter().find(|field| field.key() == key) {
                given[*field as usize] = Some(value); // of a doubled key the last one counts
            }
        })
        .map_err(|error| error.to_string())?;
        for (field, json) in Field::BY_KEY.into_iter().zip(given) {
            if let Some(json) = json {
                self.read_field(field, json, limits)?;
            }
        }
        Ok(())
    }

    fn read_array(
        &mut self,
        function: StreamFunction,
        data: &'a str,
        limits: &InputLimits,
    ) -> Result<(), String> {
        let wanted = function.fields();
        let mut given = Vec::with_capacity(wanted.len());
        let len = raw::elements(data, |element| {
            given.push(element);
            given.len() < wanted.len()
        })
        .map_err(|error| error.to_string())?;
        for (field, json) in wanted.iter().zip(given) {
            self.read_field(*field, json, limits)?;
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
        json: &'a RawValue,
        limits: &InputLimits,
    ) -> Result<(), String> {
        match field {
            Field::Stream => self.stream = Some(self.read_name(json, limits)?),
            Field::Group => self.group = Some(self.read_name(json, limits)?),
            Field::Item => self.item = Some(self.read_name(json, limits)?),
            Field::Id if json.get() == "null" => self.id = None,
            Field::Id => self.id = Some(self.read_name(json, limits)?),
            Field::Kind => self.kind = Some(phrase::read_string(json.get())?),
            Field::Data => self.data = Some(self.read_value(json.get(), limits)?),
            Field::Ops => {
                let (ops, len) = ops::parse(json.get(), limits.update_ops)?;
                self.check_limit("limits.update_ops", len, limits.update_ops);
                self.ops = Some(ops);
            }
        }
        Ok(())
    }

    fn read_name(
        &mut self,
        json: &'a RawValue,
        limits: &InputLimits,
    ) -> Result<Cow<'a, str>, String> {
        let name = phrase::read_string(json.get())?;
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
            },
        })
    }
}
