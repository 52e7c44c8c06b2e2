//! The last word of a run: what the server itself says each group holds, and whether clients show
//! the same.
//!
//! Asks `stream::list` of each group and `stream::get` of its first item, once everything published
//! has its answer. May not touch a socket: it writes texts and reads them.

use std::collections::BTreeMap;

use crate::check::faults::{Fault, Faults, excerpt};
use crate::check::model::Model;
use crate::event::EventReader;
use crate::message::{Answer, Asked, CallWriter};
use crate::stamp::Value;

/// Shown for a value that another run left behind.
pub(crate) const FOREIGN: u32 = u32::MAX;
/// Groups that are asked for at a time.
const UNDER_WAY_MAX: usize = 64;

/// Item and sequence, by item.
type Items = Vec<(u32, u32)>;

/// What is known of one group.
#[derive(Default)]
struct Group {
    list: Option<Items>,
    /// What `get` said of item 0.
    first: Option<Option<u32>>,
}

/// The questions of one thread's groups, and their answers.
pub(crate) struct Audit {
    run: u32,
    to_ask: Vec<u32>,
    groups: BTreeMap<u32, Group>,
    under_way: usize,
}

impl Audit {
    pub(crate) fn new(run: u32, groups: impl Iterator<Item = u32>) -> Self {
        Self {
            run,
            to_ask: groups.collect(),
            groups: BTreeMap::new(),
            under_way: 0,
        }
    }

    /// The next group to ask for, and its two calls.
    pub(crate) fn next_calls(&mut self, writer: &CallWriter) -> Option<(u32, [Vec<u8>; 2])> {
        if self.under_way == UNDER_WAY_MAX {
            return None;
        }
        let group = self.to_ask.pop()?;
        self.under_way += 1;
        self.groups.insert(group, Group::default());
        let mut calls = [Vec::new(), Vec::new()];
        writer.list(group, &mut calls[0]);
        writer.get(group, &mut calls[1]);
        Some((group, calls))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.to_ask.is_empty() && self.under_way == 0
    }

    /// Groups that lack an answer.
    pub(crate) fn left(&self) -> usize {
        self.to_ask.len() + self.under_way
    }

    pub(crate) fn hear(&mut self, answer: &Answer<'_>, events: &EventReader, faults: &mut Faults) {
        let number = u32::try_from(answer.number).ok();
        let Some(group) = number.and_then(|group| self.groups.get_mut(&group)) else {
            return;
        };
        let who = format_args!("group {}", answer.number);
        let mut items = Items::new();
        for Value { stamp, is_whole } in events.values(answer.text) {
            if stamp.run != self.run {
                continue;
            }
            items.push((stamp.item, stamp.sequence));
            if !is_whole || number != Some(stamp.group) {
                faults.tell(Fault::Altered, who, || {
                    format!("the value of item {} was not published so", stamp.item)
                });
            }
        }
        if answer.is_error {
            faults.tell(Fault::Refused, who, || excerpt(answer.text));
        }
        match answer.asked {
            Asked::List => {
                items.sort_unstable();
                group.list = Some(items);
            }
            Asked::Get => group.first = Some(items.first().map(|(_, sequence)| *sequence)),
            Asked::Change => return,
        }
        if group.list.is_some() && group.first.is_some() {
            self.under_way -= 1;
        }
    }

    /// Counts what was never answered, and where `get` and `list` disagree.
    pub(crate) fn finish(self, faults: &mut Faults) -> Truth {
        faults.add(Fault::Unaudited, self.to_ask.len() as u64);
        let mut truth = Truth::default();
        for (number, group) in self.groups {
            let who = format_args!("group {number}");
            let (Some(list), Some(first)) = (group.list, group.first) else {
                faults.tell(Fault::Unaudited, who, || {
                    "stream::list or stream::get was not answered".to_owned()
                });
                continue;
            };
            let listed = list.first().filter(|(item, _)| *item == 0);
            if listed.map(|(_, sequence)| *sequence) != first {
                faults.tell(Fault::Model, who, || {
                    format!(
                        "stream::get and stream::list differ: item 0 is {first:?} and {listed:?}"
                    )
                });
            }
            truth.groups.insert(number, list);
        }
        truth
    }
}

/// What each group holds, as far as the server said so.
#[derive(Default)]
pub(crate) struct Truth {
    groups: BTreeMap<u32, Items>,
}

impl Truth {
    /// The first difference between what a client shows and what the group holds, in words.
    pub(crate) fn difference(&self, group: u32, model: &Model) -> Option<String> {
        let list = self.groups.get(&group)?;
        let mut listed = list.iter().copied().peekable();
        let items = list
            .last()
            .map_or(0, |(item, _)| item + 1)
            .max(model.items_len());
        (0..items).find_map(|item| {
            let held = listed
                .next_if(|(listed, _)| *listed == item)
                .map(|(_, sequence)| sequence);
            let shown = model.shown(item).filter(|sequence| *sequence != FOREIGN);
            (held != shown).then(|| {
                format!(
                    "shows {} of item {item}, and stream::list has {}",
                    said(shown),
                    said(held)
                )
            })
        })
    }
}

fn said(sequence: Option<u32>) -> String {
    sequence.map_or("nothing".to_owned(), |sequence| {
        format!("sequence {sequence}")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::message::AnswerReader;
    use crate::stamp::VALUE_BYTES_MIN;

    const RUN: u32 = 0xfeed_0001;

    /// The value that a `stream::set` of these publishes.
    fn value(run: u32, item: u32, sequence: u32) -> String {
        let mut text = Vec::new();
        CallWriter::new(run, "load", VALUE_BYTES_MIN, false).set(
            0,
            [3, item, sequence],
            0,
            &mut text,
        );
        let call: serde_json::Value = serde_json::from_slice(&text).unwrap();
        call["data"]["data"].to_string()
    }

    fn audit(list: &str, get: &str) -> (Truth, Faults) {
        let mut audit = Audit::new(RUN, [3].into_iter());
        let mut faults = Faults::default();
        let writer = CallWriter::new(RUN, "load", VALUE_BYTES_MIN, false);
        let (group, _) = audit.next_calls(&writer).unwrap();
        assert_eq!(group, 3);
        let events = EventReader::new("load", VALUE_BYTES_MIN);
        for (asked, result) in [("9000", list), ("a000", get)] {
            let text = format!(
                r#"{{"type":"invocationresult","invocation_id":"feed0001-0000-4000-{asked}-000000000003"{result}}}"#
            );
            let mut answers = AnswerReader::new(RUN);
            audit.hear(
                &answers.read(text.as_bytes()).unwrap(),
                &events,
                &mut faults,
            );
        }
        assert!(audit.is_done());
        (audit.finish(&mut faults), faults)
    }

    fn sum(faults: &Faults) -> u64 {
        faults.checks().iter().map(|check| check.count).sum()
    }

    #[test]
    fn a_client_that_shows_what_is_held_passes() {
        let list = format!(
            r#","result":[{},{},{}]"#,
            value(RUN, 2, 9),
            value(RUN, 0, 4),
            value(RUN ^ 1, 7, 1)
        );
        let (truth, faults) = audit(&list, &format!(r#","result":{}"#, value(RUN, 0, 4)));
        assert_eq!(sum(&faults), 0, "{faults:?}");
        let mut model = Model::default();
        model.sync(1, [(0, 4), (2, 8), (7, FOREIGN)].into_iter());
        assert_eq!(
            truth.difference(3, &model).unwrap(),
            "shows sequence 8 of item 2, and stream::list has sequence 9"
        );
        model.update(2, 2, 9);
        assert_eq!(truth.difference(3, &model), None);
        model.create(1, 1);
        assert!(truth.difference(3, &model).is_some());
        assert_eq!(truth.difference(4, &model), None, "nothing is known of it");
    }

    #[test]
    fn a_server_that_lies_in_one_of_its_answers_is_found() {
        let list = format!(r#","result":[{}]"#, value(RUN, 0, 4));
        let (_, faults) = audit(&list, &format!(r#","result":{}"#, value(RUN, 0, 3)));
        assert_eq!(sum(&faults), 1);
        let (_, faults) = audit(&list, "");
        assert_eq!(sum(&faults), 1);
        let altered = list.replace(r#""x":"""#, r#""x":"y""#);
        let (_, faults) = audit(&altered, &format!(r#","result":{}"#, value(RUN, 0, 4)));
        assert_eq!(sum(&faults), 1);
    }

    #[test]
    fn what_is_not_answered_is_not_taken_for_equal() {
        let audit = Audit::new(RUN, 0..5);
        let mut faults = Faults::default();
        audit.finish(&mut faults);
        assert_eq!(sum(&faults), 5);
    }
}
