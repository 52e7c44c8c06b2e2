//! Which groups one socket follows, and where their subscriptions stand.

/// The groups that one socket follows: every `spread`th, from `slice` on.
#[derive(Clone, Copy)]
pub(crate) struct Followed {
    pub(crate) slice: u32,
    pub(crate) spread: u32,
    pub(crate) groups: u32,
    /// The first of them among the subscriptions of the thread.
    pub(crate) first: usize,
}

impl Followed {
    pub(crate) fn groups(self) -> impl Iterator<Item = u32> {
        (0..self.groups).map(move |turn| self.slice + turn * self.spread)
    }

    pub(crate) fn first_group(self) -> u32 {
        self.slice
    }

    /// The group and its subscription, where there is only one.
    #[inline]
    pub(crate) fn only(self) -> Option<(u32, usize)> {
        (self.groups == 1).then_some((self.slice, self.first))
    }

    /// The place of `group` among the subscriptions of the thread; `None`: it is not followed.
    #[inline]
    pub(crate) fn index_of(self, group: u32) -> Option<usize> {
        let (turn, slice) = (group / self.spread, group % self.spread);
        (slice == self.slice && turn < self.groups).then(|| self.first + turn as usize)
    }
}
