//! What is said on fresh connections before the first call: login, what kind of server it is, scripts,
//! and which groups there are.
//!
//! Calls go out once all of it has been answered. May not know how the connections come about.

use std::collections::HashSet;
use std::time::Instant;

use redis::{Cmd, Value};

use super::Redis;
use super::answers;
use super::calls::{Job, Work};
use super::commands::{GROUPS, TIMES};
use super::message::{EVENTS, read_names};
use super::names::PREFIX;
use super::scripts::Script;

/// Channels that are followed.
const CHANNELS_LEN: usize = 2;
/// Keys that Redis looks at for one answer of SCAN.
const SCAN_COUNT: usize = 1000;

/// What is said before the first call.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Login,
    Select,
    /// Whether it is a cluster.
    Info,
    Policy,
    Load(Script),
    Time,
    /// The names that ours have given.
    Index,
    /// The keys that there are, whoever made them.
    Scan(String),
    /// The groups whose last time is kept.
    Times,
}

impl Redis {
    pub(super) fn say_first(&mut self, now: Instant) {
        let until = now + self.settings.connect_timeout;
        let has_login = self.settings.address.password.is_some();
        let has_database = self.settings.address.database != 0;
        let steps = [
            has_login.then_some(Step::Login),
            has_database.then_some(Step::Select),
            Some(Step::Info),
            Some(Step::Policy),
            Some(Step::Time),
        ];
        let loads = Script::ALL.map(|script| Some(Step::Load(script)));
        for step in steps.into_iter().chain(loads).flatten() {
            let work = Work::Setup(step);
            self.calls.push(Job { until, work });
        }
        let login = has_login.then(|| self.pack_step(&Step::Login));
        let cut_channel = &self.hearing.cut_channel;
        if let Some(channel) = &mut self.link.channel {
            login.iter().for_each(|login| channel.queue(login));
            channel.queue(redis::cmd("SUBSCRIBE").arg(EVENTS).arg(cut_channel));
        }
    }

    pub(super) fn pack_step(&self, step: &Step) -> Cmd {
        let address = &self.settings.address;
        let mut command = Cmd::new();
        match step {
            Step::Login => {
                command
                    .arg("AUTH")
                    .arg(&address.user)
                    .arg(&address.password);
            }
            Step::Select => {
                command.arg("SELECT").arg(address.database);
            }
            Step::Info => {
                command.arg("INFO").arg("cluster");
            }
            Step::Policy => {
                command.arg("CONFIG").arg("GET").arg("maxmemory-policy");
            }
            Step::Load(script) => {
                command
                    .arg("SCRIPT")
                    .arg("LOAD")
                    .arg(self.scripts.text(*script));
            }
            Step::Time => {
                command.arg("TIME");
            }
            Step::Index => {
                command.arg("HGETALL").arg(GROUPS);
            }
            Step::Scan(cursor) => {
                command.arg("SCAN").arg(cursor);
                command.arg("MATCH").arg(format!("{PREFIX}*"));
                command.arg("COUNT").arg(SCAN_COUNT);
            }
            Step::Times => {
                command.arg("HKEYS").arg(TIMES);
            }
        }
        command
    }

    /// Both channels are followed: from here on nothing is missed, and the names can be loaded.
    pub(super) fn has_subscribed(&mut self, now: Instant) {
        self.link.subscribed_len += 1;
        if self.link.subscribed_len == CHANNELS_LEN {
            self.names = Default::default();
            self.hearing.touched = Some(HashSet::new());
            self.push_step(Step::Index, now);
        }
    }

    fn push_step(&mut self, step: Step, now: Instant) {
        let until = now + self.settings.connect_timeout;
        let work = Work::Setup(step);
        self.calls.push(Job { until, work });
    }

    pub(super) fn take_step(&mut self, step: Step, value: Value, now: Instant) {
        let error = answers::error_of(&value);
        let error = error.map(|said| self.settings.address.without_login(&said));
        match (step, error) {
            // Not allowed to ask, or an old server: nothing rests on it.
            (Step::Info | Step::Policy, Some(_)) => {}
            (Step::Load(_), None) => {}
            (_, Some(error)) => self.link.has_wrong_server(Some(error)),
            (Step::Login | Step::Select, None) => {}
            (Step::Info, None) => {
                let info = answers::bytes(value).unwrap_or_default();
                if String::from_utf8_lossy(&info).contains("cluster_enabled:1") {
                    self.link.fatal = Some(
                        "is a cluster, which is not supported: a group and its \
                         index would lie on different nodes"
                            .to_owned(),
                    );
                }
            }
            (Step::Policy, None) => self.take_policy(value),
            (Step::Time, None) => {
                self.clock = answers::time(value).map(|ms| (ms, now)).or(self.clock);
            }
            (Step::Index, None) => {
                self.take_index(value);
                self.push_step(Step::Scan("0".to_owned()), now);
            }
            (Step::Scan(_), None) => self.take_scanned(value, now),
            (Step::Times, None) => self.take_times(value, now),
        }
    }

    fn take_policy(&mut self, value: Value) {
        let pairs = answers::pairs(value).into_iter();
        let policy = pairs
            .filter_map(|(_, policy)| answers::bytes(policy))
            .next();
        let policy = String::from_utf8(policy.unwrap_or_default()).unwrap_or_default();
        if policy.starts_with("allkeys-") && !self.link.has_warned {
            self.link.has_warned = true;
            tracing::warn!(
                "{}: maxmemory-policy is {policy}: values will vanish when its memory is full",
                self.shown
            );
        }
    }

    fn take_index(&mut self, value: Value) {
        self.link.indexed.clear();
        self.link.found.clear();
        for (_, names) in answers::pairs(value) {
            let key = answers::bytes(names).and_then(|names| read_names(&names));
            if let Some(key) = key
                && !self.was_touched(key.joined())
            {
                self.link.indexed.insert(key.joined().to_owned());
                self.names.enter(&key);
            }
        }
    }

    fn was_touched(&self, joined: &str) -> bool {
        let touched = self.hearing.touched.as_ref();
        touched.is_some_and(|touched| touched.contains(joined))
    }

    fn take_scanned(&mut self, value: Value, now: Instant) {
        let Value::Array(parts) = value else {
            return self.link.has_wrong_server(Some(answers::unexpected()));
        };
        let mut parts = parts.into_iter();
        let cursor = parts.next().and_then(answers::bytes);
        let cursor = cursor.and_then(|bytes| String::from_utf8(bytes).ok());
        let cursor = cursor.unwrap_or_else(|| "0".to_owned());
        if let Some(Value::Array(keys)) = parts.next() {
            for key in keys.into_iter().filter_map(answers::bytes) {
                let key = String::from_utf8(key).unwrap_or_default();
                let Some(joined) = key.strip_prefix(PREFIX) else {
                    continue;
                };
                if !self.link.indexed.contains(joined) && !self.was_touched(joined) {
                    self.names.enter_unnamed(joined);
                }
                self.link.found.insert(joined.to_owned());
            }
        }
        if cursor == "0" {
            self.push_step(Step::Times, now);
        } else {
            self.push_step(Step::Scan(cursor), now);
        }
    }

    /// The last step. Groups that others have emptied, and times that a crash left behind, go.
    fn take_times(&mut self, value: Value, now: Instant) {
        let found = std::mem::take(&mut self.link.found);
        let indexed = std::mem::take(&mut self.link.indexed);
        for joined in indexed.difference(&found) {
            self.forget_later(joined.clone(), true, now);
        }
        if let Value::Array(keys) = value {
            for key in keys.into_iter().filter_map(answers::bytes) {
                let key = String::from_utf8(key).unwrap_or_default();
                if let Some(joined) = key.strip_prefix(PREFIX)
                    && !found.contains(joined)
                {
                    self.forget_later(joined.to_owned(), false, now);
                }
            }
        }
        self.is_up_again(now);
    }
}
