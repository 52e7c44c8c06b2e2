//! What a run of `fanout` is told: how many groups and subscribers, and how fast.
//!
//! Plain data, for all files of that scenario.

use serde_json::{Value, json};

use crate::scenario::{Pace, Setup};

/// Everything a run of `fanout` is told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) groups: u32,
    /// Of each group.
    pub(crate) subscribers: u32,
    /// Sockets over which one subscriber of each group is spread: as many as groups, or fewer,
    /// which then follow several groups each.
    pub(crate) spread: u32,
    pub(crate) pace: Pace,
    /// What subscribers ask for, in ms: two writes to one of them are at least so far apart.
    pub(crate) pace_ms: Option<u16>,
    pub(crate) void: bool,
    /// Frames are only counted.
    pub(crate) unchecked: bool,
}

impl Plan {
    pub(crate) fn subscribers_in_all(&self) -> usize {
        self.groups as usize * self.subscribers as usize
    }

    pub(crate) fn connections_in_all(&self) -> usize {
        self.spread as usize * self.subscribers as usize
    }

    /// Thread `thread`'s share: the same number of each group.
    pub(crate) fn subscribers_of(&self, thread: usize) -> usize {
        self.groups as usize * self.of_each_group(thread)
    }

    pub(crate) fn connections_of(&self, thread: usize) -> usize {
        self.spread as usize * self.of_each_group(thread)
    }

    fn of_each_group(&self, thread: usize) -> usize {
        (self.subscribers as usize + self.setup.threads - 1 - thread) / self.setup.threads
    }

    /// For the report.
    pub(crate) fn title(&self) -> String {
        let Self {
            groups,
            subscribers,
            setup,
            ..
        } = self;
        let pace = match self.pace {
            Pace::InFlight(sets) => format!("{sets} in flight"),
            Pace::Rate(rate) => format!("{rate} sets/s"),
        };
        let unchecked = if self.unchecked { ", unchecked" } else { "" };
        let paced = self
            .pace_ms
            .map_or(String::new(), |ms| format!(", pace {ms} ms"));
        format!(
            "fanout {groups} x {subscribers}, {pace}{paced}, {} s{unchecked}",
            setup.seconds
        )
    }

    /// For the report.
    pub(crate) fn settings(&self) -> Vec<(&'static str, Value)> {
        let (in_flight, rate) = match self.pace {
            Pace::InFlight(sets) => (Some(sets), None),
            Pace::Rate(rate) => (None, Some(rate)),
        };
        let mut settings = self.setup.settings();
        settings.extend([
            ("groups", json!(self.groups)),
            ("subscribers", json!(self.subscribers)),
            ("connections", json!(self.connections_in_all())),
            ("in_flight", json!(in_flight)),
            ("rate", json!(rate)),
            ("pace_ms", json!(self.pace_ms)),
            ("void", json!(self.void)),
            ("unchecked", json!(self.unchecked)),
        ]);
        settings
    }
}
