//! Writes that are not accepted: those that failed, those that rest on them, and those of which nobody
//! knows yet. And what the log is told of it.
//!
//! May not touch a file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::id::WorkerId;
use crate::shard::{Answer, Learned, Request, Verdict};
use crate::time::Rarely;

use super::RARELY;

/// All of them.
pub(super) struct Refusals {
    /// Per shard: the epoch whose writes are refused unseen, until the owner sends the next.
    void_epochs: HashMap<WorkerId, u32>,
    /// A batch that failed and could still be found at a start, and what its shards sent behind it:
    /// neither accepted nor refused until the log says where it ends.
    undecided: Vec<Request>,
    /// Why that batch failed.
    undecided_cause: Arc<str>,
    /// The last batch was refused.
    is_refusing: bool,
    /// A disk may be full for days, or full for large batches only.
    refusing: Rarely,
    still_refusing: Rarely,
    accepting: Rarely,
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals {
            void_epochs: HashMap::new(),
            undecided: Vec::new(),
            undecided_cause: "".into(),
            is_refusing: false,
            refusing: Rarely::default(),
            still_refusing: Rarely::every(RARELY),
            accepting: Rarely::default(),
        }
    }
}

impl Refusals {
    /// The last batch was refused.
    pub(super) fn is_refusing(&self) -> bool {
        self.is_refusing
    }

    /// Some writes are neither accepted nor refused.
    pub(super) fn are_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Refuses what was undecided: it does not count.
    pub(super) fn decide(&mut self, learned: &mut Vec<Learned>) {
        let requests = std::mem::take(&mut self.undecided);
        refuse(&requests, &self.undecided_cause, learned);
    }

    /// A batch has failed. `is_undecided`: a start could still find it.
    pub(super) fn refuse(
        &mut self,
        requests: Vec<Request>,
        cause: Arc<str>,
        is_undecided: bool,
        learned: &mut Vec<Learned>,
    ) {
        let epochs = requests
            .iter()
            .map(|request| (request.shard, request.epoch));
        self.void_epochs.extend(epochs);
        if is_undecided {
            self.undecided = requests;
            self.undecided_cause = cause;
        } else {
            refuse(&requests, &cause, learned);
        }
    }

    /// Gives what is not to be refused unseen: almost always all.
    pub(super) fn without_void(
        &mut self,
        requests: Vec<Request>,
        learned: &mut Vec<Learned>,
    ) -> Vec<Request> {
        let is_void =
            |request: &Request| self.void_epochs.get(&request.shard) == Some(&request.epoch);
        if self.void_epochs.is_empty() || !requests.iter().any(is_void) {
            return requests;
        }
        let (void, rest) = requests.into_iter().partition(is_void);
        self.refuse_unseen(void, learned);
        rest
    }

    /// Refuses what rests on a refusal that its shard has not heard of; behind what is undecided, for
    /// answers come in order.
    fn refuse_unseen(&mut self, void: Vec<Request>, learned: &mut Vec<Learned>) {
        let unseen: Arc<str> = "refused unseen".into();
        for request in void {
            let mut before = self.undecided.iter();
            if before.any(|before| before.shard == request.shard) {
                self.undecided.push(request);
            } else {
                refuse(&[request], &unseen, learned);
            }
        }
    }

    /// Tells the log of a batch that failed. `is_told`: it has been told already why all of them do.
    pub(super) fn note_refusal(&mut self, cause: &str, requests: usize, is_told: bool) {
        let now = Instant::now();
        if is_told {
            self.is_refusing = true;
        } else if !std::mem::replace(&mut self.is_refusing, true) {
            let passed_over = self.refusing.ask(now);
            if passed_over.is_some() {
                tracing::error!("{requests} writes refused: {cause}");
                // The next of these lines comes later.
                let _ = self.still_refusing.ask(now);
            }
        } else if let Some(passed_over) = self.still_refusing.ask(now) {
            tracing::error!(
                "still refusing writes ({passed_over} batches since the last line): {cause}"
            );
        }
    }

    /// Tells the log of the first batch that was accepted again.
    pub(super) fn note_acceptance(&mut self) {
        if std::mem::take(&mut self.is_refusing) && self.accepting.ask(Instant::now()).is_some() {
            tracing::info!("writes are accepted again");
        }
    }
}

fn refuse(requests: &[Request], cause: &Arc<str>, learned: &mut Vec<Learned>) {
    let refused =
        |request: &Request| Learned::Answer(answer(request, Verdict::Refused(Arc::clone(cause))));
    learned.extend(requests.iter().map(refused));
}

pub(super) fn answer(request: &Request, verdict: Verdict) -> Answer {
    Answer {
        shard: request.shard,
        epoch: request.epoch,
        number: request.number,
        verdict,
    }
}
