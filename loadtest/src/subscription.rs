//! How far one subscriber of one group is, and what all of a group on one thread have in common.
//!
//! Pure. May not know sockets, other groups, or how texts are read.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use crate::check::checker::Checker;
use crate::check::faults::{Fault, Faults};
use crate::check::model::Model;
use crate::transcript::{self, Transcript};

/// Which subscriber of which group.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) group: u32,
    pub(crate) number: u32,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "group {} subscriber {}", self.group, self.number)
    }
}

/// What one subscriber of one group has heard.
#[derive(Default)]
pub(crate) enum Subscription {
    /// Nothing.
    #[default]
    Waiting,
    /// Its `sync`, and all that others have heard up to this place.
    Following {
        place: transcript::Place,
        synced_ms: u64,
    },
    /// Something else than others.
    Alone(Box<Alone>),
    /// So many frames, which nobody looks into, and so many bytes are left of the one after them.
    Counted { frames: u32, left: u64 },
}

/// One that is judged by itself.
#[derive(Default)]
pub(crate) struct Alone {
    pub(crate) checker: Checker,
    /// What it shows: the one item of its group.
    pub(crate) model: Model,
}

impl Subscription {
    /// What it has heard, and what it shows.
    pub(crate) fn shown(&self, group: &Group) -> (Cow<'_, Checker>, Cow<'_, Model>) {
        match self {
            Self::Waiting => (Cow::Owned(Checker::default()), Cow::Owned(Model::default())),
            Self::Following { place, .. } => {
                let mut checker = Checker::default();
                checker.begin_at(place.frame);
                let model = group.transcript.model_before(place.frame);
                (Cow::Owned(checker), Cow::Owned(model))
            }
            Self::Alone(alone) => (Cow::Borrowed(&alone.checker), Cow::Borrowed(&alone.model)),
            Self::Counted { frames, .. } => {
                let mut checker = Checker::default();
                checker.begin_at(*frames);
                (Cow::Owned(checker), Cow::Owned(Model::default()))
            }
        }
    }

    /// From now on it is judged by itself.
    pub(crate) fn leave(&mut self, transcript: &mut Transcript) -> &mut Alone {
        match self {
            Self::Alone(_) => {}
            Self::Waiting | Self::Counted { .. } => *self = Self::Alone(Box::default()),
            Self::Following { place, synced_ms } => {
                let mut checker = Checker::default();
                checker.sync();
                checker.begin_at(place.frame);
                checker.is_in_time(transcript.time_before(place.frame).max(*synced_ms));
                let model = transcript.model_before(place.frame);
                transcript.leave(*place);
                *self = Self::Alone(Box::new(Alone { checker, model }));
            }
        }
        let Self::Alone(alone) = self else {
            unreachable!("it was made so above");
        };
        alone
    }
}

/// One group on one thread.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) transcript: Transcript,
    /// Until all have one.
    pub(crate) syncs: Vec<Sync>,
}

/// When a `sync` was asked for and heard, and the time in it.
pub(crate) struct Sync {
    pub(crate) asked_ns: u64,
    pub(crate) heard_ns: u64,
    pub(crate) at_ms: u64,
}

impl Group {
    /// A `sync` that was asked for after another had come has no earlier time than that one.
    pub(crate) fn judge_syncs(&mut self, who: impl Display, faults: &mut Faults) {
        let mut asked = std::mem::take(&mut self.syncs);
        let mut heard: Vec<(u64, u64)> = asked
            .iter()
            .map(|sync| (sync.heard_ns, sync.at_ms))
            .collect();
        heard.sort_unstable();
        asked.sort_unstable_by_key(|sync| sync.asked_ns);
        let mut heard = heard.into_iter().peekable();
        let mut least_ms = 0;
        for sync in &asked {
            while let Some((_, at_ms)) = heard.next_if(|(heard_ns, _)| *heard_ns < sync.asked_ns) {
                least_ms = least_ms.max(at_ms);
            }
            if sync.at_ms < least_ms {
                faults.tell(Fault::WentBack, &who, || {
                    let (time, least) = (sync.at_ms, least_ms);
                    format!("a sync has the time {time}, and one before it had {least}")
                });
            }
        }
    }
}

/// Counts the frames that begin in `bytes`, by the lengths in their headers. How many bytes belong to
/// frames whose header is whole.
pub(crate) fn count(bytes: &[u8], frames: &mut u32, left: &mut u64) -> usize {
    let mut at = 0;
    loop {
        let here = (*left).min((bytes.len() - at) as u64);
        at += here as usize;
        *left -= here;
        let header = match bytes[at..] {
            _ if *left > 0 => return at,
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            [_, 126, high, low, ..] => (4, u64::from(u16::from_be_bytes([high, low]))),
            [_, len, ..] if len < 126 => (2, u64::from(len)),
            _ => return at,
        };
        *left = header.0 + header.1;
        *frames += 1;
    }
}

/// Whether the first change has no earlier time than this `sync`.
pub(crate) fn is_behind_sync(transcript: &Transcript, synced_ms: u64) -> bool {
    transcript
        .change(0)
        .is_none_or(|first| first.at_ms >= synced_ms)
}
