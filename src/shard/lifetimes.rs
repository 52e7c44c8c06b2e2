//! How long the items of one group last: when each of them ends, and which is to be looked at when.
//!
//! A renewal moves nothing: an item stands in a queue at a tick that is not after its end, and when that
//! comes it is put off, or is due. Items are named by their slots. May not know a clock, or what is done
//! with an item that is due.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::protocol::ttl::Ttl;

/// Ends are kept in ticks: so late may an item go, and so seldom does an idle worker look.
const TICK_MS: u64 = 128;
/// That tick never comes.
pub(super) const NEVER: u32 = u32::MAX;

/// Items whose lifetimes stand beside each other.
const PAGE_LEN: usize = 64;

/// The two highest bits of a state: it stands in the queue; it lasts as long as it was told itself.
const QUEUED: u32 = 1 << 31;
const OWN: u32 = 1 << 30;
/// Beside these: it lasts as long as its stream's items do.
const OF_STREAM: u32 = 1;

/// No slot: the queue of a tick ends.
const NONE: u32 = u32::MAX;

/// The tick in which that moment is.
pub(super) fn tick_of(ms: u64) -> u32 {
    u32::try_from(ms / TICK_MS)
        .unwrap_or(NEVER - 1)
        .min(NEVER - 1)
}

/// The first tick that is not before that moment.
pub(super) fn tick_after(ms: u64) -> u32 {
    tick_of(ms.saturating_add(TICK_MS - 1))
}

/// When a tick begins.
pub(super) fn ms_of(tick: u32) -> u64 {
    u64::from(tick) * TICK_MS
}

/// The lifetimes of a group's items.
pub(super) struct Lifetimes {
    pages: Vec<Option<Box<[Lifetime; PAGE_LEN]>>>,
    /// The first tick in which something is to be looked at.
    next: u32,
    /// Items that have one.
    len: usize,
    /// For each tick the first of the items that are to be looked at in it: each names the one behind it.
    queue: BTreeMap<u32, u32>,
    sooner: Sooner,
}

/// Items that end before the tick at which they stand in the queue: they were told a shorter time than before.
#[derive(Default)]
struct Sooner {
    /// Slots by the tick in which they are to be looked at. What is not said of a slot in `ticks` as well has
    /// been overtaken: a slot has at most eight of those for each time that its time was halved.
    queue: BTreeMap<u32, Vec<u32>>,
    /// The tick of each slot; [`NEVER`]: it has been looked at.
    ticks: HashMap<u32, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime {
    /// The last end, also of an item that is gone: it stands in the queue not after that, but for those that
    /// are looked at sooner.
    ends: u32,
    /// 0 beside [`QUEUED`]: it has none.
    state: u32,
    /// The slot behind it in the queue of its tick.
    behind: u32,
}

/// What the queue had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing up to that tick.
    Nothing,
    /// An item that has been renewed, or is gone.
    Later,
    /// The item in that slot has had its time.
    Due(u32),
}

impl Lifetime {
    const UNKNOWN: Lifetime = Lifetime {
        ends: 0,
        state: 0,
        behind: NONE,
    };

    fn is_there(self) -> bool {
        self.state & !QUEUED != 0
    }

    fn own(self) -> Option<Ttl> {
        (self.state & OWN != 0).then(|| Ttl::of_bits(self.state & (OWN - 1)))
    }
}

impl Sooner {
    fn put(&mut self, slot: u32, tick: u32) {
        self.queue.entry(tick).or_default().push(slot);
        self.ticks.insert(slot, tick);
    }

    fn tick_of(&self, slot: u32) -> Option<u32> {
        self.ticks.get(&slot).copied()
    }

    /// Takes one of the first tick; none where it was overtaken.
    fn take(&mut self) -> Option<u32> {
        let mut first = self.queue.first_entry()?;
        let tick = *first.key();
        let slot = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        let known = self.ticks.get_mut(&slot?).filter(|known| **known == tick)?;
        *known = NEVER;
        slot
    }
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        Lifetimes {
            pages: Vec::new(),
            next: NEVER,
            len: 0,
            queue: BTreeMap::new(),
            sooner: Sooner::default(),
        }
    }
}

impl Lifetimes {
    /// Whether no item has one.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first tick in which something is to be looked at.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// How long that item lasts by its own word, and when it ends. None: it has no lifetime.
    pub(super) fn of(&self, slot: u32) -> Option<(Option<Ttl>, u32)> {
        let lifetime = self.lifetime(slot);
        let lifetime = lifetime.filter(|lifetime| lifetime.is_there())?;
        Some((lifetime.own(), lifetime.ends))
    }

    /// An item is written at `now_ms`. `given`: what is said with it; `of_stream`: how long the others of its
    /// stream last.
    pub(super) fn renew(
        &mut self,
        slot: u32,
        given: Option<Ttl>,
        of_stream: Option<Ttl>,
        now_ms: u64,
    ) {
        let own = given.or_else(|| self.lifetime(slot)?.own());
        let Some(lasts) = own.or(of_stream) else {
            return;
        };
        match lasts.ms() {
            Some(ms) => self.put(slot, own, tick_after(now_ms.saturating_add(ms)), now_ms),
            // Where its stream's items last so long it is told from them.
            None if of_stream.is_some() => self.put(slot, own, NEVER, now_ms),
            None => self.forget(slot),
        }
    }

    /// The item ends in that tick.
    pub(super) fn put(&mut self, slot: u32, own: Option<Ttl>, ends: u32, now_ms: u64) {
        let lifetime = self.enter(slot);
        let (was_there, had, last_end) = (lifetime.is_there(), lifetime.state, lifetime.ends);
        lifetime.ends = ends;
        lifetime.state = (had & QUEUED) | own.map_or(OF_STREAM, |ttl| OWN | ttl.bits());
        self.len += usize::from(!was_there);
        let stands_at = match had & QUEUED {
            0 => NEVER,
            _ => self.sooner.tick_of(slot).unwrap_or(last_end),
        };
        if stands_at > ends {
            self.stand(slot, looked_at(ends, tick_of(now_ms)));
        }
    }

    /// The item is gone, or stays for good.
    pub(super) fn forget(&mut self, slot: u32) {
        let page = self.pages.get_mut(slot as usize / PAGE_LEN);
        if let Some(Some(page)) = page {
            let lifetime = &mut page[slot as usize % PAGE_LEN];
            self.len -= usize::from(lifetime.is_there());
            lifetime.state &= QUEUED;
        }
    }

    /// Takes the next of the queue, up to that tick. What is due has to be removed, put off or renewed.
    pub(super) fn look(&mut self, tick: u32) -> Look {
        if self.next > tick {
            return Look::Nothing;
        }
        let slot = match self.queue.first_key_value() {
            Some((first, _)) if *first == self.next => self.take_first(),
            _ => self.sooner.take(),
        };
        self.find_next();
        let Some(slot) = slot else {
            return Look::Later;
        };
        let lifetime = *self.enter(slot);
        if !lifetime.is_there() || lifetime.ends == NEVER {
            return Look::Later;
        }
        if lifetime.ends <= tick {
            return Look::Due(slot);
        }
        self.stand(slot, looked_at(lifetime.ends, tick));
        Look::Later
    }

    /// An item that is due is looked at again in that tick.
    pub(super) fn put_off(&mut self, slot: u32, tick: u32) {
        self.stand(slot, tick);
    }

    /// It is looked at in that tick, at the latest.
    fn stand(&mut self, slot: u32, tick: u32) {
        self.next = self.next.min(tick);
        let lifetime = self.enter(slot);
        if lifetime.state & QUEUED != 0 {
            return self.sooner.put(slot, tick);
        }
        lifetime.state |= QUEUED;
        let behind = self.queue.insert(tick, slot);
        self.enter(slot).behind = behind.unwrap_or(NONE);
    }

    /// Takes the first of the queue out of it; it need not be looked at sooner than that.
    fn take_first(&mut self) -> Option<u32> {
        let mut first = self.queue.first_entry()?;
        let slot = *first.get();
        let lifetime = place(&mut self.pages, slot);
        match lifetime.behind {
            NONE => drop(first.remove()),
            behind => drop(first.insert(behind)),
        }
        lifetime.state &= !QUEUED;
        self.sooner.ticks.remove(&slot);
        Some(slot)
    }

    fn find_next(&mut self) {
        let first = self.queue.keys().next().copied().unwrap_or(NEVER);
        let sooner = self.sooner.queue.keys().next().copied();
        self.next = first.min(sooner.unwrap_or(NEVER));
    }

    fn lifetime(&self, slot: u32) -> Option<Lifetime> {
        let page = self.pages.get(slot as usize / PAGE_LEN)?.as_ref()?;
        Some(page[slot as usize % PAGE_LEN])
    }

    fn enter(&mut self, slot: u32) -> &mut Lifetime {
        place(&mut self.pages, slot)
    }

    pub(super) fn check_invariants(&self) {
        let mut queued = HashMap::new();
        for (tick, first) in &self.queue {
            let mut slot = *first;
            while slot != NONE {
                debug_assert_eq!(queued.insert(slot, *tick), None, "{slot} stands once");
                slot = self.lifetime(slot).map_or(NONE, |lifetime| lifetime.behind);
            }
        }
        let ticks = self.queue.keys().chain(self.sooner.queue.keys());
        debug_assert_eq!(self.next, ticks.min().copied().unwrap_or(NEVER));
        let mut len = 0;
        for slot in 0..(self.pages.len() * PAGE_LEN) as u32 {
            let lifetime = self.lifetime(slot).unwrap_or(Lifetime::UNKNOWN);
            len += usize::from(lifetime.is_there());
            let queued_at = queued.get(&slot).copied();
            debug_assert_eq!(lifetime.state & QUEUED != 0, queued_at.is_some());
            let sooner = self.sooner.tick_of(slot);
            debug_assert!(sooner.is_none() || queued_at.is_some());
            // One that was put off stands behind its end.
            let stands = sooner.or(queued_at).is_some_and(|tick| tick < NEVER);
            debug_assert!(stands || !lifetime.is_there() || lifetime.ends == NEVER);
        }
        debug_assert_eq!(self.len, len);
        for (slot, tick) in &self.sooner.ticks {
            let slots = self.sooner.queue.get(tick);
            debug_assert!(*tick == NEVER || slots.is_some_and(|slots| slots.contains(slot)));
        }
    }
}

fn place(pages: &mut Vec<Option<Box<[Lifetime; PAGE_LEN]>>>, slot: u32) -> &mut Lifetime {
    let page = slot as usize / PAGE_LEN;
    if page >= pages.len() {
        pages.resize_with(page + 1, || None);
    }
    let page = pages[page].get_or_insert_with(|| Box::new([Lifetime::UNKNOWN; PAGE_LEN]));
    &mut page[slot as usize % PAGE_LEN]
}

/// In which tick an item that ends so is looked at: the sooner that is the more exactly, so that there are
/// few ticks with entries.
fn looked_at(ends: u32, now: u32) -> u32 {
    let left = ends.saturating_sub(now);
    match left.checked_ilog2() {
        Some(log) if log >= 3 => ends & !((1 << (log - 3)) - 1),
        _ => ends.max(now),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ms(ms: u64) -> Option<Ttl> {
        Ttl::of_ms(ms)
    }

    /// Every item that is due up to that tick.
    fn due(lifetimes: &mut Lifetimes, tick: u32) -> Vec<u32> {
        let mut due = Vec::new();
        loop {
            match lifetimes.look(tick) {
                Look::Nothing => break,
                Look::Later => {}
                Look::Due(slot) => {
                    lifetimes.forget(slot);
                    due.push(slot);
                }
            }
        }
        due.sort_unstable();
        due
    }

    /// Against a table of ends.
    #[test]
    fn each_item_is_due_in_the_tick_of_its_end_whatever_was_written_before() {
        for seed in 1..60_u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = |most: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 20) % most
            };
            let (mut lifetimes, mut model) = (Lifetimes::default(), BTreeMap::new());
            let mut now = 0;
            for step in 0..3000 {
                now += below(700);
                let mut late: Vec<u32> = Vec::new();
                model.retain(|slot, (_, ends)| {
                    let is_due = *ends <= tick_of(now);
                    late.extend(is_due.then_some(*slot));
                    !is_due
                });
                assert_eq!(due(&mut lifetimes, tick_of(now)), late);
                let slot = below(100) as u32;
                let of_stream = (seed % 2 == 0).then_some(Ttl::of_ms(5_000).unwrap());
                let ttl = [1, 300, 5_000, 70_000, 4_000_000, 90_000_000][below(6) as usize];
                let given = match below(4) {
                    0 => ms(ttl),
                    1 => Some(Ttl::NEVER),
                    _ => None,
                };
                if below(4) == 0 {
                    model.remove(&slot);
                    lifetimes.forget(slot);
                } else {
                    lifetimes.renew(slot, given, of_stream, now);
                    let own = given.or(model.get(&slot).and_then(|(own, _)| *own));
                    let lasts: Option<Ttl> = own.or(of_stream);
                    let ends = match lasts.map(Ttl::ms) {
                        Some(Some(ms)) => Some(tick_after(now + ms)),
                        Some(None) if of_stream.is_some() => Some(NEVER),
                        _ => None,
                    };
                    model.remove(&slot);
                    model.extend(ends.map(|ends| (slot, (own, ends))));
                }
                if step % 16 == 0 {
                    lifetimes.check_invariants();
                }
                let next = model.values().map(|(_, ends)| *ends).min();
                assert!(lifetimes.next() <= next.unwrap_or(NEVER));
            }
        }
    }

    #[test]
    fn what_is_renewed_again_and_again_takes_thirteen_bytes_and_is_seldom_looked_at() {
        const ITEMS: u32 = 100_000;
        let mut lifetimes = Lifetimes::default();
        let (mut looks, mut now) = (0, 0);
        // Each item once in 10 s, for five minutes.
        for step in 0..30 * ITEMS {
            now = u64::from(step) / 10;
            lifetimes.renew(step % ITEMS, ms(60_000), None, now);
            if step % 1000 == 0 {
                while lifetimes.look(tick_of(now)) != Look::Nothing {
                    looks += 1;
                }
            }
        }
        assert!(lifetimes.next() < NEVER && lifetimes.len == ITEMS as usize);
        assert!(looks < ITEMS * 10, "{looks} looks");
        assert!(lifetimes.sooner.queue.is_empty() && lifetimes.queue.len() < 32);
        let page_bytes = 8 + size_of::<[Lifetime; PAGE_LEN]>();
        let bytes = lifetimes.pages.capacity() * 8 + lifetimes.pages.len() * page_bytes;
        assert!(bytes <= 13 * ITEMS as usize, "{bytes} bytes");
        assert_eq!(
            due(&mut lifetimes, tick_after(now + 60_000)).len(),
            ITEMS as usize
        );
    }

    #[test]
    fn ends_that_come_nearer_and_go_again_do_not_lengthen_the_queue_for_good() {
        let mut lifetimes = Lifetimes::default();
        for n in 0..100_000_u64 {
            lifetimes.renew(
                0,
                ms(if n % 2 == 0 { 80_000_000 } else { 10_000 }),
                None,
                n / 100,
            );
        }
        lifetimes.check_invariants();
        assert!(entries(&lifetimes.sooner) < 2);
        assert_eq!(due(&mut lifetimes, tick_after(1_000 + 10_000)), [0]);
    }

    #[test]
    fn an_end_that_comes_ever_nearer_has_few_entries() {
        let mut lifetimes = Lifetimes::default();
        for tick in (1..600_000).rev() {
            lifetimes.renew(0, ms(ms_of(tick)), None, 0);
        }
        lifetimes.check_invariants();
        let entries = entries(&lifetimes.sooner);
        assert!(entries <= 20 * 8, "{entries}");
        assert_eq!(due(&mut lifetimes, 1), [0]);
    }

    fn entries(sooner: &Sooner) -> usize {
        sooner.queue.values().map(Vec::len).sum()
    }
}
