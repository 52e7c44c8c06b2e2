//! Calls that end where they are made: nobody is there, or there is no room. Whoever awaits them hears it
//! once that is done which has made them, so that nothing that hears of a call is in its own midst. And
//! calls whose time is over.

use std::borrow::Cow;

use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::calls::{Answered, Awaits, OVERDUE_A_TURN};

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
    /// So many at a time: each is a call that nobody has answered.
    pub(in crate::broker) fn end_overdue_calls(&mut self) {
        for _ in 0..OVERDUE_A_TURN {
            let Some(call) = self.calls.pop_overdue(self.now.monotonic) else {
                return;
            };
            let message = format!("invocation timed out after {}ms", call.timeout.as_millis());
            let error = ErrorBody::new("invocation_timeout", message);
            self.hear_call(call, Answered::TimedOut(&error));
        }
    }

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
