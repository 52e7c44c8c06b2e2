//! What others do past the channel: a flush, a key removed, a field written by hand. Groups that
//! somebody follows are looked at in turn, so that what is told here is what Redis holds.
//!
//! Each beat counts the items of some groups, and reads again those that are small, or whose number
//! changed while nothing was told. Where Redis gives notices of its keyspace, a change that no message
//! follows is seen at once. May not know what events say.

use std::collections::VecDeque;
use std::time::Instant;

use redis::Value;

use crate::id::GroupKey;

use super::Redis;
use super::answers;
use super::names::PREFIX;
use super::work::{Job, Work};

/// Groups that are looked at in one beat.
const LOOK_LEN: usize = 64;
/// A group with more items is read only when their number has changed.
const LOOK_ITEMS_MAX: u64 = 1024;
/// So is a group that had more bytes when it was last read.
const LOOK_BYTES_MAX: usize = 256 * 1024;
/// What is read in one beat.
const BEAT_BYTES_MAX: usize = 1024 * 1024;
/// What a reading costs beside its bytes.
const READING_BYTES: usize = 256;

/// Which groups are looked at.
#[derive(Default)]
pub(super) struct Looks {
    /// Groups that were not looked at in this round.
    round: VecDeque<GroupKey>,
    is_under_way: bool,
    /// What may be read until the next beat.
    bytes_left: usize,
    /// How many keys there were.
    keys_len: Option<u64>,
}

/// Redis's own word on what is done to keys.
#[derive(Default)]
pub(super) enum Notices {
    /// It gives none.
    #[default]
    Off,
    Asked,
    /// It gives them; the joined name of the last, unless its message has come.
    On(Option<String>),
}

impl Notices {
    pub(super) fn stand(&mut self) {
        *self = Notices::On(None);
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self, Notices::On(Some(_)))
    }
}

impl Redis {
    /// With each beat.
    pub(super) fn look(&mut self) {
        let hearing = &mut self.hearing;
        hearing.looks.bytes_left = BEAT_BYTES_MAX;
        if hearing.looks.is_under_way {
            return;
        }
        if hearing.looks.round.is_empty() {
            let followed = hearing.followed.values().flatten();
            let on = followed.filter(|followed| followed.is_on);
            hearing.looks.round = on.map(|followed| followed.key.clone()).collect();
        }
        let looks = &mut hearing.looks;
        let len = looks.round.len().min(LOOK_LEN);
        if len > 0 {
            looks.is_under_way = true;
            let keys = looks.round.drain(..len).collect();
            self.calls.push(Job::own(Work::Look(keys)));
        }
    }

    /// How many items each has.
    pub(super) fn take_looks(&mut self, keys: Vec<GroupKey>, lens: Vec<Value>) {
        self.hearing.looks.is_under_way = false;
        for (key, len) in keys.into_iter().zip(lens) {
            let hearing = &mut self.hearing;
            let (Some(len), Some(followed)) = (answers::number(len), hearing.find(&key)) else {
                continue;
            };
            let now = (len, followed.told);
            let before = followed.counted.replace(now);
            let is_odd = before.is_some_and(|(len, told)| told == now.1 && len != now.0);
            let is_small = len <= LOOK_ITEMS_MAX && followed.bytes <= LOOK_BYTES_MAX;
            if followed.is_due || !followed.is_on {
                continue;
            }
            let cost = followed.bytes + READING_BYTES;
            if is_odd || (is_small && hearing.looks.bytes_left >= cost) {
                hearing.looks.bytes_left = hearing.looks.bytes_left.saturating_sub(cost);
                self.read_now(key);
            } else if is_small {
                hearing.looks.round.push_front(key); // with the next beat
            }
        }
    }

    fn read_now(&mut self, key: GroupKey) {
        if let Some(followed) = self.hearing.find(&key)
            && !followed.is_due
        {
            followed.is_due = true;
            self.hearing.to_read.push_back((key, false));
        }
    }

    /// How many keys there are, with each beat. Where most are gone they were flushed: all that is
    /// known of groups is read again.
    pub(super) fn take_keys_len(&mut self, len: Option<u64>) {
        let before = std::mem::replace(&mut self.hearing.looks.keys_len, len);
        self.known.keys_len = len;
        let (Some(len), Some(before)) = (len, before) else {
            return;
        };
        if len >= before.div_ceil(2) {
            return;
        }
        let followed = self.hearing.followed.values().flatten();
        let keys: Vec<GroupKey> = followed.map(|followed| followed.key.clone()).collect();
        for key in keys {
            self.read_now(key);
        }
        self.load_names();
    }

    /// Where Redis is set to give notices of hashes and of keys that go.
    pub(super) fn ask_for_notices(&mut self, flags: &str) {
        let gives = |kind| flags.contains('A') || flags.contains(kind);
        if !flags.contains('K') || !gives('g') || !gives('h') {
            return;
        }
        let database = self.settings.address.database;
        let pattern = format!("__keyspace@{database}__:{PREFIX}*");
        if let Some(channel) = &mut self.link.channel {
            channel.queue(redis::cmd("PSUBSCRIBE").arg(pattern));
            self.hearing.notices = Notices::Asked;
        }
    }

    /// An error on the channel, which is that they are not allowed if they were asked for.
    pub(super) fn notices_are_refused(&mut self) -> bool {
        let was_asked = matches!(self.hearing.notices, Notices::Asked);
        if was_asked {
            self.hearing.notices = Notices::Off;
        }
        was_asked
    }

    /// Something was done to a key. A change of ours, and of other servers, is followed by its message.
    pub(super) fn hear_notice(&mut self, channel: &[u8], what: &[u8], now: Instant) {
        let channel = String::from_utf8_lossy(channel);
        let Some((_, joined)) = channel.split_once(PREFIX) else {
            return;
        };
        if matches!(&self.hearing.notices, Notices::On(Some(last)) if last != joined) {
            self.settle_notice(None, now);
        }
        self.hearing.notices = Notices::On(Some(joined.to_owned()));
        if matches!(what, b"del" | b"expired" | b"evicted" | b"rename_from") {
            self.forget_later(joined.to_owned(), true, now);
        }
    }

    /// What came next: the message of that group if it names one. Else others have changed it.
    pub(super) fn settle_notice(&mut self, told: Option<&str>, now: Instant) {
        let Notices::On(last) = &mut self.hearing.notices else {
            return;
        };
        let Some(joined) = last.take().filter(|joined| Some(&**joined) != told) else {
            return;
        };
        let with_name = self.hearing.followed.get(&joined).into_iter().flatten();
        let keys: Vec<GroupKey> = with_name.map(|followed| followed.key.clone()).collect();
        for key in keys {
            self.read_soon(&key, now);
        }
    }
}
