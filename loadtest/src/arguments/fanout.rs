//! The flags of `fanout`.

use std::time::Duration;

use clap::Args;

use crate::arguments::common::{Common, PaceFlags, parse_value_bytes};
use crate::plan::Plan;
use crate::sweep::{Axis, Sweep};

#[derive(Clone, Args)]
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
    /// At most so many sockets in all, which then follow several groups each
    /// [default: one for each subscriber].
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// One run at each of several sizes, one table, one plot of each figure. The axis is subscribers,
    /// groups or bytes: subscribers=1,10,100,1000.
    #[arg(long, value_name = "AXIS=V,V,…", conflicts_with = "against")]
    pub(crate) sweep: Option<Sweep>,
    /// Subscribers ask for this pace: two writes to one are at least so many ms apart, and a change stands for
    /// those before it. What is not sent is counted as merged; the last value has to come.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pace_ms: Option<u16>,
    /// Publish with `action: void`: a set ends with its deliveries, no answer is awaited.
    #[arg(long)]
    void: bool,
    /// Count frames by their lengths, and neither check nor time them: what checking costs is the
    /// difference. A socket has to follow one group only.
    #[arg(long, conflicts_with_all = ["connections", "pace_ms"])]
    unchecked: bool,
}

impl Fanout {
    /// The run at each of the sweep's sizes.
    pub(crate) fn plans(&self, sweep: &Sweep) -> Result<Vec<(u32, Plan)>, String> {
        let plan = |value: &u32| {
            let plan = self.clone().at(sweep.axis, *value)?.plan();
            let plan = plan.map_err(|why| format!("{}={value}: {why}", sweep.axis.name()))?;
            Ok((*value, plan))
        };
        sweep.values.iter().map(plan).collect()
    }

    fn at(mut self, axis: Axis, value: u32) -> Result<Self, String> {
        match axis {
            Axis::Bytes => self.common.value_bytes = parse_value_bytes(&value.to_string())?,
            Axis::Groups | Axis::Subscribers if !(1..=1_000_000).contains(&value) => {
                return Err(format!("{}={value} is not 1 to 1000000", axis.name()));
            }
            Axis::Groups => self.groups = value,
            Axis::Subscribers => self.subscribers = value,
        }
        Ok(self)
    }

    pub(super) fn plan(self) -> Result<Plan, String> {
        if self.common.threads > self.subscribers {
            return Err(
                "each client thread needs a subscriber of each group: --client-threads is above \
                 --subscribers"
                    .to_owned(),
            );
        }
        if self.common.publishers > self.groups {
            return Err("a group keeps to one socket: --publishers is above --groups".to_owned());
        }
        let spread = self.spread()?;
        let pace = self.pace_ms.map(u64::from).map(Duration::from_millis);
        if pace >= Some(self.common.drain_timeout) {
            return Err(
                "what waits for its time is awaited: --pace-ms is not below --drain-timeout"
                    .to_owned(),
            );
        }
        let connections = spread as usize * self.subscribers as usize;
        Ok(Plan {
            setup: self.common.setup(connections, false)?,
            groups: self.groups,
            subscribers: self.subscribers,
            spread,
            pace: self.pace.pace(),
            pace_ms: self.pace_ms,
            void: self.void,
            unchecked: self.unchecked,
        })
    }

    /// How many sockets share the groups of one subscriber of each.
    fn spread(&self) -> Result<u32, String> {
        let Some(connections) = self.connections else {
            return Ok(self.groups);
        };
        match connections / self.subscribers {
            0 => Err(
                "the subscribers of one group need a socket each: --connections is below \
                 --subscribers"
                    .to_owned(),
            ),
            spread => Ok(spread.min(self.groups)),
        }
    }
}
