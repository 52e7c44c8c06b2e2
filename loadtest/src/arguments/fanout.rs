//! The flags of `fanout`.

use clap::Args;

use crate::arguments::common::{Common, PaceFlags};
use crate::fanout;

#[derive(Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pace: PaceFlags,
    /// How many groups.
    #[arg(long, value_name = "G", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    groups: u32,
    /// Subscribers of each group.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Publish with `action: void`: a set ends with its deliveries, no answer is awaited.
    #[arg(long)]
    void: bool,
}

impl Fanout {
    pub(super) fn plan(self) -> Result<fanout::Plan, String> {
        if self.common.threads > self.subscribers {
            return Err(
                "each thread needs a subscriber of each group: --threads is above --subscribers"
                    .to_owned(),
            );
        }
        if self.common.publishers > self.groups {
            return Err("a group keeps to one socket: --publishers is above --groups".to_owned());
        }
        let subscribers_in_all = self.groups as usize * self.subscribers as usize;
        Ok(fanout::Plan {
            setup: self.common.setup(subscribers_in_all, false)?,
            groups: self.groups,
            subscribers: self.subscribers,
            pace: self.pace.pace(),
            void: self.void,
        })
    }
}
