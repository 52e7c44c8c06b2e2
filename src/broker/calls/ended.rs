//! Calls that end where they are made: nobody is there, or there is no room. Whoever awaits them hears it
//! once that is done which has made them, so that nothing that hears of a call is in its own midst.

use std::borrow::Cow;

use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::calls::{Answered, Awaits};

/// A call that has ended, and whoever awaits it.
pub(in crate::broker) struct Ended {
    awaits: Awaits,
    function_id: Box<str>,
    how: How,
}

/// How a call has ended where it was made.
pub(in crate::broker) enum How {
    NotFound,
    Refused(Cow<'static, str>),
    Failed(ErrorBody),
    /// Who serves it is away.
    Gone(ErrorBody),
}

impl Broker {
    /// A call has ended: whoever awaits it hears that soon.
    pub(in crate::broker) fn end_call(&mut self, awaits: Awaits, function_id: &str, how: How) {
        self.ended.push_back(Ended {
            awaits,
            function_id: function_id.into(),
            how,
        });
    }

    /// Tells whoever awaits what has ended.
    pub(in crate::broker) fn hear_ended(&mut self) {
        while let Some(ended) = self.ended.pop_front() {
            let answered = match &ended.how {
                How::NotFound => Answered::NotFound,
                How::Refused(cause) => Answered::Refused(cause),
                How::Failed(error) => Answered::Failed(error),
                How::Gone(error) => Answered::Gone(error),
            };
            self.hear(ended.awaits, &ended.function_id, answered);
        }
    }
}
