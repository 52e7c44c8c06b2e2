//! The eight stream functions by their names, and the errors with which functions fail.
//!
//! May not know what a function takes, or what it does.

use super::call::ErrorBody;

/// The cause of an error where more waits than may.
pub const OVERLOADED: &str = "server is overloaded";
/// The cause of an error where a call would add to what is kept, and there is no memory for it.
pub const OUT_OF_MEMORY: &str = "server is out of memory";

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
    pub(super) fn input(self) -> &'static str {
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

/// The cause to tell where a change was asked for and its answer is lost.
pub fn unknown_whether_stored(cause: &str) -> String {
    format!("{cause}, unknown whether the change was stored")
}

/// The error of a function whose input does not fit.
pub(super) fn refused(function_id: &str, phrase: &str) -> ErrorBody {
    ErrorBody::new(
        "deserialization_error",
        format!("Failed to deserialize input for {function_id}: {phrase}"),
    )
}

/// The cause to tell when a limit refuses something.
pub fn limit_exceeded(limit_name: &str, n: usize, limit: usize) -> String {
    format!("{limit_name} exceeded: {n} > {limit}")
}
