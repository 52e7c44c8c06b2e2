//! The server's own functions beside the eight of streams: `engine::*`.

use crate::id::SlotId;
use crate::protocol::answer::ResultBody;
use crate::protocol::input;

use super::Engine;
use super::calls::Caller;

/// SDK workers tell about themselves with this function when they connect.
const REGISTER_WORKER: &str = "engine::workers::register";

/// What can be called, with descriptions and schemas.
const LIST_FUNCTIONS: &str = "engine::functions::list";

impl Engine {
    /// Whether the server itself has a function of that id.
    pub(super) fn has_own(&self, function_id: &str) -> bool {
        input::StreamFunction::from_id(function_id).is_some()
            || [REGISTER_WORKER, LIST_FUNCTIONS].contains(&function_id)
    }

    /// A call of one of the server's own functions. `id`: the socket that it came from.
    pub(super) fn invoke_own(
        &mut self,
        _id: Option<SlotId>,
        caller: Option<Caller>,
        function_id: &str,
        data: &str,
    ) {
        match function_id {
            LIST_FUNCTIONS => {
                match input::include_internal(data, LIST_FUNCTIONS, "FunctionsListInput") {
                    Ok(include_internal) => {
                        let list = self.functions.list(include_internal);
                        self.answer(caller, LIST_FUNCTIONS, ResultBody::Json(&list));
                    }
                    Err(error) => self.answer_error(caller, LIST_FUNCTIONS, &error),
                }
            }
            _ => {
                let done = ResultBody::Json(r#"{"success":true}"#);
                self.answer(caller, function_id, done);
            }
        }
    }
}
