//! Calls that end where they are made: nobody is there, or there is no room. Whoever awaits them hears it
//! once that is done which has made them, so that nothing that hears of a call is in its own midst.

use std::borrow::Cow;

use crate::protocol::call::ErrorBody;

use crate::broker::awaits::{Answered, Awaits};

/// A call that has ended, and whoever awaits it.
pub(in crate::broker) struct Ended {
    pub(in crate::broker) awaits: Awaits,
    pub(in crate::broker) function_id: Box<str>,
    pub(in crate::broker) how: How,
}

/// How a call has ended where it was made.
pub(in crate::broker) enum How {
    NotFound,
    Refused(Cow<'static, str>),
    Failed(ErrorBody),
    /// Who serves it is away.
    Gone(ErrorBody),
}

impl Ended {
    pub(in crate::broker) fn new(awaits: Awaits, function_id: &str, how: How) -> Ended {
        Ended {
            awaits,
            function_id: function_id.into(),
            how,
        }
    }
}

impl How {
    /// As whoever awaits the call hears it.
    pub(in crate::broker) fn answered(&self) -> Answered<'_> {
        match self {
            How::NotFound => Answered::NotFound,
            How::Refused(cause) => Answered::Refused(cause),
            How::Failed(error) => Answered::Failed(error),
            How::Gone(error) => Answered::Gone(error),
        }
    }
}
