//! A listing of very many groups, made over turns: it shows the names that were known at its beginning.
//!
//! May not know where names come from.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::id::GroupKey;
use crate::protocol::groups;

use super::work::Asker;

/// What a name costs of what a turn may spend.
pub(super) const NAME_UNITS: usize = 256;

/// A group, as it is known.
#[derive(Clone, Copy)]
pub(super) enum Name<'n> {
    /// By both names.
    Of(&'n str, &'n str),
    /// By the joined name alone.
    Joined(&'n str),
}

/// The names that there are.
pub(super) trait Known {
    /// Streams and groups behind those two, in order: of one stream, or all.
    fn named<'n>(
        &'n self,
        of: Option<&'n str>,
        after: Option<&'n (String, String)>,
    ) -> impl Iterator<Item = (&'n str, &'n str)>;

    /// Joined names behind that one, in order, that nobody has said the names of: all, or those that
    /// may be of that stream.
    fn unnamed<'n>(
        &'n self,
        of: Option<&'n str>,
        after: Option<&'n str>,
    ) -> impl Iterator<Item = &'n str>;
}

pub(super) struct Listing {
    pub(super) asker: Asker,
    /// Of that stream; `None`: of all.
    pub(super) stream: Option<Box<str>>,
    pub(super) until: Instant,
    at: At,
    /// What has come or gone since it began, and was not looked at before.
    since: BTreeSet<(String, String)>,
    since_joined: BTreeSet<String>,
    names: groups::Names,
}

/// How far it is: behind that name, or at the first.
enum At {
    Named(Option<(String, String)>),
    Unnamed(Option<String>),
}

impl Listing {
    pub(super) fn new(asker: Asker, stream: Option<Box<str>>, until: Instant) -> Listing {
        Listing {
            asker,
            stream,
            until,
            at: At::Named(None),
            since: BTreeSet::new(),
            since_joined: BTreeSet::new(),
            names: groups::Names::default(),
        }
    }

    /// All names are others: it begins anew.
    pub(super) fn restart(self) -> Listing {
        Listing::new(self.asker, self.stream, self.until)
    }

    /// Goes on while there are units; true when it is whole.
    pub(super) fn go_on(&mut self, names: &impl Known, units: &mut usize) -> bool {
        let stream = self.stream.as_deref();
        if let At::Named(after) = &mut self.at {
            let before = after.take();
            let mut last = None;
            for (stream, group) in names.named(stream, before.as_ref()) {
                if *units == 0 {
                    break;
                }
                *units = units.saturating_sub(NAME_UNITS);
                last = Some((stream, group));
                let is_old = self.since.is_empty()
                    || !self.since.contains(&(stream.to_owned(), group.to_owned()));
                if is_old {
                    self.names.add(stream, group);
                }
            }
            let last = last.map(|(stream, group)| (stream.to_owned(), group.to_owned()));
            *after = last.or(before);
            if *units == 0 {
                return false;
            }
            self.at = At::Unnamed(None);
        }
        let At::Unnamed(after) = &mut self.at else {
            return false;
        };
        let mut last = None;
        for joined in names.unnamed(stream, after.as_deref()) {
            if *units == 0 {
                break;
            }
            *units = units.saturating_sub(NAME_UNITS);
            last = Some(joined);
            if !self.since_joined.contains(joined)
                && let Some(key) = split(joined, stream)
            {
                self.names.add(key.stream(), key.group());
            }
        }
        *after = last.map(str::to_owned).or(after.take());
        *units > 0
    }

    /// A name has come or gone.
    pub(super) fn note_change(&mut self, name: Name<'_>, was_there: bool) {
        let stream = self.stream.as_deref();
        match (name, &self.at) {
            (Name::Of(of, group), At::Named(at)) => {
                let is_ahead = at.as_ref().is_none_or(|(s, g)| (of, group) > (&**s, &**g));
                if is_ahead
                    && stream.is_none_or(|stream| stream == of)
                    && self.since.insert((of.to_owned(), group.to_owned()))
                    && was_there
                {
                    self.names.add(of, group);
                }
            }
            (Name::Of(..), At::Unnamed(_)) => {}
            (Name::Joined(joined), at) => {
                let is_behind = matches!(at, At::Unnamed(Some(at)) if joined <= at.as_str());
                if !is_behind
                    && let Some(key) = split(joined, stream)
                    && self.since_joined.insert(joined.to_owned())
                    && was_there
                {
                    self.names.add(key.stream(), key.group());
                }
            }
        }
    }

    pub(super) fn end(self) -> groups::Names {
        self.names
    }
}

/// As whose group an unnamed one shows: in each stream that it may be of, and among all of them split
/// at its first colon.
fn split(joined: &str, stream: Option<&str>) -> Option<GroupKey> {
    match stream {
        Some(stream) => {
            let key = GroupKey::of_joined(joined, stream.len())?;
            (key.stream() == stream).then_some(key)
        }
        None => GroupKey::of_joined(joined, joined.find(':')?),
    }
}
