//! What is said on fresh connections before the first call: login, what kind of server it is, what its
//! user may do, and the scripts.
//!
//! Calls go out once all of it has been answered. May not know how the connections come about.

use std::time::Instant;

use redis::{Cmd, Value};

use super::Redis;
use super::answers;
use super::error::Fault;
use super::message::EVENTS;
use super::names::{ENDS, GROUPS, PREFIX, RUNS, TIMES, TTLS, run_key};
use super::scripts::Script;
use super::work::{Job, Step, Work};

/// Channels that are followed.
pub(super) const CHANNELS_LEN: usize = 2;

impl Redis {
    pub(super) fn say_first(&mut self) {
        let has_login = self.settings.address.password.is_some();
        let has_database = self.settings.address.database != 0;
        let steps = [
            has_login.then_some(Step::Login),
            has_database.then_some(Step::Select),
            Some(Step::Info),
            Some(Step::Policy),
            Some(Step::Notices),
            Some(Step::Role),
        ];
        let loads = Script::ALL.map(|script| Some(Step::Load(script)));
        let last = [Some(Step::Rights), Some(Step::Time)];
        let steps = steps.into_iter().chain(loads).chain(last);
        for step in steps.flatten() {
            self.calls.push(Job::own(Work::Setup(step)));
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
            Step::Notices => {
                command.arg("CONFIG").arg("GET");
                command.arg("notify-keyspace-events");
            }
            Step::Role => {
                command.arg("ROLE");
            }
            Step::Rights => {
                command.arg("EVALSHA").arg(self.scripts.sha(Script::Rights));
                command.arg(0).arg(format!("{PREFIX}a:b"));
                command.arg(GROUPS).arg(TIMES).arg(EVENTS);
                command.arg(&self.hearing.cut_channel);
                command.arg(ENDS).arg(TTLS).arg(RUNS);
                command.arg(format!("iii-stream:members:{PREFIX}a:b"));
                command.arg(run_key("a"));
            }
        }
        command
    }

    /// Once both channels are followed nothing is missed.
    pub(super) fn has_subscribed(&mut self, now: Instant) {
        self.link.subscribed_len += 1;
        self.may_be_up(now);
    }

    fn may_be_up(&mut self, now: Instant) {
        let link = &self.link;
        let is_fit = link.is_told && link.fatal().is_none();
        if link.subscribed_len == CHANNELS_LEN && is_fit && !link.is_up() {
            self.is_up_again(now);
        }
    }

    pub(super) fn take_step(&mut self, step: Step, value: Value, now: Instant) {
        let error = answers::error_of(&value);
        let error = error.map(|said| self.settings.address.without_login(&said));
        match (step, error) {
            // Not allowed to ask, or an old server: nothing rests on it.
            (Step::Info | Step::Policy | Step::Notices | Step::Role, Some(said)) => {
                self.link.has_said(Fault::Said(said));
            }
            (Step::Load(_), None) => {}
            (_, Some(said)) => self.link.has_wrong_server(Fault::Said(said)),
            (Step::Login | Step::Select, None) => {}
            (Step::Info, None) => {
                let info = answers::bytes(value).unwrap_or_default();
                if String::from_utf8_lossy(&info).contains("cluster_enabled:1") {
                    self.link.fatal = Some(Fault::Cluster);
                }
            }
            (Step::Policy, None) => self.take_policy(value),
            (Step::Notices, None) => self.link.notices = setting(value),
            (Step::Role, None) => self.take_role(value),
            (Step::Rights, None) => self.take_rights(value),
            (Step::Time, None) => {
                self.take_time(answers::time(value), now);
                self.link.is_told = true;
                self.may_be_up(now);
            }
        }
    }

    fn take_policy(&mut self, value: Value) {
        let policy = setting(value);
        if policy.starts_with("allkeys-") && !self.link.has_warned {
            self.link.has_warned = true;
            tracing::warn!(
                "{}: maxmemory-policy is {policy}: values will vanish when its memory is full",
                self.shown
            );
        }
    }

    fn take_role(&mut self, value: Value) {
        let is_replica = !answers::is_master(value);
        if is_replica && !self.link.is_replica {
            tracing::warn!(
                "{}: is a replica: values are read, and every change is refused until it is a master or \
                 another server answers at its address",
                self.shown
            );
        }
        self.link.is_replica = is_replica;
    }

    fn take_rights(&mut self, value: Value) {
        let Value::Array(lists) = value else {
            return self.link.has_wrong_server(Fault::Unexpected);
        };
        let mut lists = lists.into_iter().map(|list| {
            let list = answers::bytes(list).unwrap_or_default();
            String::from_utf8_lossy(&list).into_owned()
        });
        let mut next = || lists.next().filter(|list| !list.is_empty());
        let (must, should, ends, members) = (next(), next(), next(), next());
        self.ends.may = ends.is_none();
        let are_members = self.members.are_set();
        let of_ends = ends.clone().filter(|_| are_members || self.ends.are_set());
        let of_members = members.filter(|_| are_members);
        let must: Vec<String> = [must, of_ends, of_members].into_iter().flatten().collect();
        if !must.is_empty() {
            let fault = Fault::NoRights(must.join(", "));
            self.link.fatal.get_or_insert(fault.clone());
            return self.link.has_wrong_server(fault);
        }
        if std::mem::replace(&mut self.link.has_named_rights, true) {
            return;
        }
        if let Some(should) = should {
            tracing::warn!(
                "{}: its user may not {should}: what that would tell is not looked at",
                self.shown
            );
        }
        if let Some(ends) = ends {
            tracing::warn!(
                "{}: its user may not {ends}: changes with ttl_ms are refused, and those of items that end",
                self.shown
            );
        }
    }
}

/// The one setting that was asked for.
fn setting(value: Value) -> String {
    let pairs = answers::pairs(value);
    let mut found = pairs.filter_map(|(_, value)| answers::bytes(value));
    let found = found.next();
    String::from_utf8(found.unwrap_or_default()).unwrap_or_default()
}
