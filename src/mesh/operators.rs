//! Calls that operators make by hand through the admin thread, and the way back of their answers.
//!
//! Nobody waits: what a full queue does not take is not called, and an answer that nobody takes is dropped.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::protocol::function::StreamFunction;

/// Calls that may wait for the engine thread.
const WAITING_MAX: usize = 16;
/// Answers that may wait for the admin thread.
const ANSWERS_MAX: usize = 256;

/// A call of one of the functions of streams.
pub struct OperatorCall {
    /// Which one.
    pub function: StreamFunction,
    /// Its input: a JSON text, not checked.
    pub input: Box<str>,
    /// The caller's name for it.
    pub number: u32,
}

/// Its answer.
pub struct OperatorAnswer {
    /// As in the call.
    pub number: u32,
    /// As an SDK worker would be told it.
    pub message: Vec<u8>,
}

/// Both ways between the admin thread and the engine thread.
pub struct Operators {
    calls: (Sender<OperatorCall>, Receiver<OperatorCall>),
    answers: (Sender<OperatorAnswer>, Receiver<OperatorAnswer>),
}

impl Default for Operators {
    fn default() -> Operators {
        Operators {
            calls: bounded(WAITING_MAX),
            answers: bounded(ANSWERS_MAX),
        }
    }
}

impl Operators {
    /// False: too many wait. The caller wakes the engine thread.
    pub fn call(&self, call: OperatorCall) -> bool {
        self.calls.0.try_send(call).is_ok()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.calls.1.is_empty()
    }

    /// The next call.
    pub fn take_call(&self) -> Option<OperatorCall> {
        self.calls.1.try_recv().ok()
    }

    /// Gives an answer back. The caller wakes the admin thread.
    pub fn answer(&self, answer: OperatorAnswer) {
        // One that finds no room is waited for by nobody: as many may not wait.
        let _ = self.answers.0.try_send(answer);
    }

    /// The next answer.
    pub fn take_answer(&self) -> Option<OperatorAnswer> {
        self.answers.1.try_recv().ok()
    }
}
