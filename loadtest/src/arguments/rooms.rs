//! The flags of the scenarios whose members come and go.

use std::time::Duration;

use clap::Args;

use crate::arguments::common::{Common, PaceFlags, parse_rate, parse_seconds};
use crate::members;
use crate::rooms::{self, Kind};
use crate::scenario::Pace;

#[derive(Args)]
pub(crate) struct Presence {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Members of all rooms.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// How many rooms.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// Sizes by a power law: the room of rank r has a share of 1 / r^X; 0: all alike.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_exponent)]
    exponent: f64,
    /// New values a second over all members, at times fixed beforehand.
    #[arg(long, value_name = "R", default_value = "500", value_parser = parse_rate)]
    updates: f64,
    /// Members a second that leave, at times fixed beforehand.
    #[arg(long, value_name = "R", default_value = "20", value_parser = parse_rate)]
    leaves: f64,
    /// How long a member is away, in seconds.
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = parse_seconds)]
    away: Duration,
    /// The server keeps the members itself: its settings need `streams: [{stream: load, members: {id: query.user}}]`.
    /// Members reload, open a second tab and go, --leaves a second in all.
    #[arg(long)]
    pub(crate) members_by_server: bool,
    /// The `grace_ms` of those members, in seconds.
    #[arg(long, value_name = "S", default_value = "15", requires = "members_by_server", value_parser = parse_seconds)]
    grace: Duration,
}

#[derive(Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pace: PaceFlags,
    /// Connections that stay open; the oldest goes when its place is needed.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// New values a second over all groups, so that each sync can be checked.
    #[arg(long, value_name = "R", default_value = "100", value_parser = parse_rate)]
    updates: f64,
}

#[derive(Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
}

#[derive(Args)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// New values a second over all groups, so that each sync can be checked.
    #[arg(long, value_name = "R", default_value = "100", value_parser = parse_rate)]
    updates: f64,
    /// From one drop of all to the next, in seconds, if all are back by then.
    #[arg(long, value_name = "S", default_value = "4", value_parser = parse_seconds)]
    every: Duration,
    /// How long they wait before they come back, in seconds; deployed clients wait 2.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds)]
    after: Duration,
}

/// Sizes of rooms of one size, or nearly.
fn even(members: u32, rooms: u32) -> Vec<u32> {
    rooms::power_law(members, rooms, 0.0)
}

/// What the room scenarios have in common.
fn rooms_plan(
    common: Common,
    rooms: Vec<u32>,
    updates: f64,
    kind: Kind,
) -> Result<rooms::Plan, String> {
    let members = rooms.iter().map(|members| *members as usize).sum();
    if common.threads as usize > rooms.len() {
        return Err("client threads share no room: --client-threads is above --rooms".to_owned());
    }
    let churn = !matches!(kind, Kind::Idle);
    Ok(rooms::Plan {
        setup: common.setup(members, churn)?,
        rooms,
        updates,
        kind,
    })
}

/// A room has at least one member.
fn check_rooms(members: u32, rooms: u32) -> Result<(), String> {
    if rooms > members {
        return Err("each room has a member: --rooms is above --members".to_owned());
    }
    Ok(())
}

impl Presence {
    pub(super) fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = rooms::power_law(self.members, self.rooms, self.exponent);
        let kind = Kind::Presence {
            leaves: self.leaves,
            away: self.away,
        };
        rooms_plan(self.common, sizes, self.updates, kind)
    }
}

impl Presence {
    /// Of rooms whose members the server keeps.
    pub(super) fn members_plan(self) -> Result<members::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        if self.away >= self.grace {
            return Err("who reloads is back in time: --away is below --grace".to_owned());
        }
        if self.common.threads > 1 {
            return Err(
                "members that the server keeps are moved by one thread: --client-threads is above 1"
                    .to_owned(),
            );
        }
        let connections = self.members as usize + self.rooms as usize;
        Ok(members::Plan {
            setup: self.common.setup(connections, true)?,
            rooms: rooms::power_law(self.members, self.rooms, self.exponent),
            moves: self.leaves,
            away: self.away,
            grace: self.grace,
        })
    }
}

impl Connect {
    pub(super) fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let pace = self.pace.pace();
        if matches!(pace, Pace::InFlight(most) if most > u64::from(self.members)) {
            return Err("--in-flight is above --members".to_owned());
        }
        let sizes = even(self.members, self.rooms);
        rooms_plan(self.common, sizes, self.updates, Kind::Connect { pace })
    }
}

impl Idle {
    pub(super) fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = even(self.members, self.rooms);
        rooms_plan(self.common, sizes, 0.0, Kind::Idle)
    }
}

impl Storm {
    pub(super) fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = even(self.members, self.rooms);
        let kind = Kind::Storm {
            every: self.every,
            after: self.after,
        };
        rooms_plan(self.common, sizes, self.updates, kind)
    }
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.0..=4.0).contains(&exponent) {
        Ok(exponent)
    } else {
        Err("must be 0 to 4".to_owned())
    }
}
