//! `kv`, `in_memory`: nothing is kept beside the shards' own items, so every write is accepted.

use crate::shard::{Answer, Decides, Learned, Request, Store, Verdict};

/// Accepts everything at once; values end with the process.
#[derive(Debug, Default)]
pub struct Memory;

impl Store for Memory {
    fn decides(&self) -> Decides {
        Decides::Owner
    }

    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
        learned.extend(requests.iter().map(|request| {
            Learned::Answer(Answer {
                shard: request.shard,
                epoch: request.epoch,
                number: request.number,
                verdict: Verdict::Accepted,
            })
        }));
    }
}
