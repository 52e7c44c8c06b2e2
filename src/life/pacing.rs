//! How much one peer may bring about in a second: messages and bytes. Beyond that its socket is not read for
//! a while; it is never closed for it, and nothing is lost.
//!
//! Only sockets that have just brought something about stand here, so one that is idle costs nothing.
//! Pure: the time is handed in.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::id::SlotId;

/// A message that asks for something is so many units; a ping, or what is passed over, is one.
pub const UNITS_A_MESSAGE: usize = 16;
/// What may come in a second may come at once.
const AT_ONCE: u64 = 1_000_000_000;
/// From this part of it on a socket is read in small pieces, for what it may not ask for yet is kept.
const NEAR: u64 = AT_ONCE / 2;
/// How much is read at once of a socket that is near its bound.
const NEAR_BYTES: usize = 4096;
/// Of what may come in a second so much is read at once at most, so that no read is worth seconds.
const PARTS_A_SECOND: usize = 16;
/// At least so much is read.
const READ_BYTES_MIN: usize = 1024;
/// So often it is looked which sockets have done nothing for long enough; so many of them are.
const LOOK_EVERY_NS: u64 = 50_000_000;
const LOOKS_MAX: usize = 4096;

/// What one socket may bring about in a second; 0: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Messages that ask for something.
    pub messages: usize,
    /// Bytes that are read.
    pub bytes: usize,
}

/// Those who have just brought something about.
#[derive(Debug, Default)]
pub struct Pacing {
    /// When somebody was charged first.
    began: Option<Instant>,
    spent: HashMap<SlotId, Spent>,
    /// All of these, from the one that was not looked at for longest.
    order: VecDeque<SlotId>,
    /// When some of them are looked at; in ns since `began`.
    look_at: u64,
    /// Those over their bound, by when they are not.
    over: BinaryHeap<Reverse<(u64, SlotId)>>,
}

/// Until when that would have taken one after the other, in ns.
#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    messages: u64,
    bytes: u64,
    is_over: bool,
}

impl Pacing {
    /// It has brought about so many units of messages, of so many messages a second.
    pub(super) fn charge_units(&mut self, id: SlotId, units: usize, rate: usize, now: Instant) {
        let rate = rate.saturating_mul(UNITS_A_MESSAGE);
        self.charge(id, units, rate, now, |spent| &mut spent.messages);
    }

    /// So many bytes were read of it, of so many a second.
    pub(super) fn charge_bytes(&mut self, id: SlotId, bytes: usize, rate: usize, now: Instant) {
        self.charge(id, bytes, rate, now, |spent| &mut spent.bytes);
    }

    fn charge(
        &mut self,
        id: SlotId,
        amount: usize,
        rate: usize,
        now: Instant,
        of: impl FnOnce(&mut Spent) -> &mut u64,
    ) {
        if rate == 0 || amount == 0 {
            return;
        }
        self.began.get_or_insert(now);
        let now = self.ns(now);
        if self.order.is_empty() {
            self.look_at = now + LOOK_EVERY_NS;
        }
        let spent = self.spent.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Spent::default()
        });
        let took = amount as u128 * u128::from(AT_ONCE) / rate as u128;
        let until = of(spent);
        *until = (*until)
            .max(now)
            .saturating_add(u64::try_from(took).unwrap_or(u64::MAX));
        let free_at = spent.free_at();
        if free_at > now && !spent.is_over {
            spent.is_over = true;
            self.over.push(Reverse((free_at, id)));
        }
    }

    /// Whether it is left unread for now.
    pub(super) fn holds(&self, id: SlotId, now: Instant) -> bool {
        let spent = self.spent.get(&id);
        spent.is_some_and(|spent| spent.free_at() > self.ns(now))
    }

    /// How much is read of it at once.
    pub(super) fn read_bytes_max(&self, id: SlotId, rate: usize, now: Instant) -> usize {
        let near = self.ns(now) + NEAR;
        let is_near = |spent: &Spent| spent.messages > near || spent.bytes > near;
        let most = match self.spent.get(&id).is_some_and(is_near) {
            true => NEAR_BYTES,
            false => usize::MAX,
        };
        match rate {
            0 => most,
            rate => most.min((rate / PARTS_A_SECOND).max(READ_BYTES_MIN)),
        }
    }

    /// The next that may be read again.
    pub(super) fn pop_freed(&mut self, now: Instant) -> Option<SlotId> {
        let now = self.ns(now);
        while let Some(Reverse((at, id))) = self.over.peek().copied() {
            if at > now {
                return None;
            }
            self.over.pop();
            let Some(spent) = self.spent.get_mut(&id) else {
                continue;
            };
            let free_at = spent.free_at();
            if free_at <= now {
                spent.is_over = false;
                return Some(id);
            }
            self.over.push(Reverse((free_at, id)));
        }
        None
    }

    /// Whether somebody is left unread for now.
    pub fn holds_any(&self) -> bool {
        !self.over.is_empty()
    }

    /// When there is something to do: somebody may be read again, or is to be forgotten.
    pub fn next_at(&self) -> Option<Instant> {
        let freed = self.over.peek().map(|Reverse((at, _))| *at);
        let look = (!self.order.is_empty()).then_some(self.look_at);
        let next = freed.into_iter().chain(look).min()?;
        Some(self.began? + Duration::from_nanos(next))
    }

    /// Forgets some of those that have done nothing for long enough.
    pub(super) fn forget_some(&mut self, now: Instant) {
        let now = self.ns(now);
        if now < self.look_at || self.order.is_empty() {
            return;
        }
        self.look_at = now + LOOK_EVERY_NS;
        for _ in 0..LOOKS_MAX.min(self.order.len()) {
            let Some(id) = self.order.pop_front() else {
                return;
            };
            match self.spent.get(&id) {
                Some(spent) if spent.messages.max(spent.bytes) > now || spent.is_over => {
                    self.order.push_back(id);
                }
                _ => drop(self.spent.remove(&id)),
            }
        }
        if self.spent.is_empty() {
            (self.spent, self.order) = (HashMap::new(), VecDeque::new());
        }
    }

    fn ns(&self, now: Instant) -> u64 {
        let since = self.began.map(|began| now.saturating_duration_since(began));
        since.unwrap_or_default().as_nanos() as u64
    }
}

impl Spent {
    /// From when on it is within its bounds.
    fn free_at(&self) -> u64 {
        self.messages.max(self.bytes).saturating_sub(AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> SlotId {
        SlotId::first(slot)
    }

    fn after(pacing: &Pacing, ms: u64) -> Instant {
        pacing.began.unwrap() + Duration::from_millis(ms)
    }

    #[test]
    fn what_may_come_in_a_second_may_come_at_once_and_the_rest_at_its_pace() {
        let mut pacing = Pacing::default();
        let mut now = Instant::now();
        pacing.charge_units(id(9), 1, 100, now);
        let mut came = 0;
        while now < after(&pacing, 3000) {
            if pacing.holds(id(1), now) {
                assert!(pacing.pop_freed(now).is_none());
                pacing.forget_some(now);
                now = pacing.next_at().unwrap();
                let freed = pacing.pop_freed(now);
                assert!(freed.is_none_or(|freed| freed == id(1)), "{freed:?}");
                assert_eq!(freed.is_some(), !pacing.holds(id(1), now));
                continue;
            }
            pacing.charge_units(id(1), UNITS_A_MESSAGE, 100, now);
            came += 1;
        }
        assert!((399..=402).contains(&came), "{came}");
        assert!(!pacing.holds(id(2), now), "it is another's");
    }

    #[test]
    fn bytes_and_messages_are_bounded_each_for_itself() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        pacing.charge_bytes(id(1), 100_000, 100_000, now);
        assert!(!pacing.holds(id(1), now));
        pacing.charge_units(id(1), UNITS_A_MESSAGE, 2, now);
        assert!(!pacing.holds(id(1), now));
        pacing.charge_bytes(id(1), 50_000, 100_000, now);
        assert!(pacing.holds(id(1), after(&pacing, 499)));
        assert!(!pacing.holds(id(1), after(&pacing, 500)));
        pacing.charge_units(id(2), usize::MAX, 0, now);
        pacing.charge_bytes(id(2), usize::MAX, 0, now);
        assert!(
            !pacing.holds(id(2), now),
            "without a rate there is no bound"
        );
        pacing.charge_bytes(id(3), usize::MAX, 1, now);
        assert!(pacing.holds(id(3), after(&pacing, 1_000_000)));
    }

    #[test]
    fn who_is_near_its_bound_is_read_in_small_pieces() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        assert_eq!(pacing.read_bytes_max(id(1), 0, now), usize::MAX);
        assert_eq!(pacing.read_bytes_max(id(1), 4 << 20, now), 256 << 10);
        assert_eq!(pacing.read_bytes_max(id(1), 1, now), READ_BYTES_MIN);
        pacing.charge_units(id(1), UNITS_A_MESSAGE * 51, 100, now);
        assert_eq!(pacing.read_bytes_max(id(1), 4 << 20, now), NEAR_BYTES);
        assert_eq!(
            pacing.read_bytes_max(id(1), 4 << 20, after(&pacing, 20)),
            256 << 10
        );
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_done_nothing_for_a_while() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        for n in 0..1000 {
            pacing.charge_units(id(n), UNITS_A_MESSAGE, 1000, now);
        }
        pacing.charge_units(id(7), UNITS_A_MESSAGE * 3000, 1000, now);
        assert_eq!(pacing.spent.len(), 1000);
        pacing.forget_some(after(&pacing, 49));
        assert_eq!(pacing.spent.len(), 1000, "it is not time for that");
        pacing.forget_some(pacing.next_at().unwrap());
        assert_eq!((pacing.spent.len(), pacing.order.len()), (1, 1));
        assert!(pacing.pop_freed(after(&pacing, 60)).is_none());
        assert_eq!(pacing.pop_freed(after(&pacing, 2001)), Some(id(7)));
        pacing.forget_some(after(&pacing, 4000));
        assert!(pacing.next_at().is_none());
        assert_eq!((pacing.spent.capacity(), pacing.order.capacity()), (0, 0));
    }
}
