//! What the store must hold: a model of all that was accepted, and of what subscribers heard.

use super::*;

/// Items in order, by group: what the store has accepted.
pub(super) type Values = BTreeMap<GroupKey, Vec<(String, String)>>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) values: Values,
    pub(super) times: BTreeMap<GroupKey, u64>,
    /// All that a group has been, in order.
    pub(super) states: BTreeMap<GroupKey, Vec<Vec<(String, String)>>>,
    /// What a subscriber heard, by stream and group.
    pub(super) heard: BTreeMap<(String, String), Heard>,
}

/// The latest times that were told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) last: u64,
    pub(super) event: u64,
}

impl Model {
    pub(super) fn accept(&mut self, kind: &RequestKind) {
        let (group, time) = match kind {
            RequestKind::Put { group, time, .. } | RequestKind::Remove { group, time, .. } => {
                (group, *time)
            }
            RequestKind::Times { .. } | RequestKind::Decide(_) => return,
        };
        let last = self.times.insert(group.clone(), time);
        assert!(last < Some(time), "times rise within a group");
        let items = self.values.entry(group.clone()).or_default();
        match kind {
            RequestKind::Put { item, value, .. } => {
                let known = items.iter_mut().find(|(name, _)| **name == **item);
                match known {
                    Some((_, known)) => *known = value.to_string(),
                    None => items.push((item.to_string(), value.to_string())),
                }
            }
            _ => {
                let RequestKind::Remove { item, .. } = kind else {
                    return;
                };
                items.retain(|(name, _)| **name != **item);
            }
        }
        let states = self.states.entry(group.clone()).or_default();
        states.push(items.clone());
    }

    /// The machine lost its power. Of each group an earlier state may be there, never a mixture.
    pub(super) fn lose(&mut self, found: Values) {
        for key in keys() {
            let now = found.get(&key).cloned().unwrap_or_default();
            let states = self.states.remove(&key).unwrap_or_default();
            assert!(now.is_empty() || states.contains(&now), "{key:?}: {now:?}");
            self.states.insert(key, vec![now]);
        }
        self.values = found;
        self.times.clear();
        self.heard.clear();
    }

    /// What subscribers are told: times rise over every restart.
    pub(super) fn hear(&mut self, out: &Effects) {
        for delivery in &out.deliveries {
            let text = match &delivery.what {
                Delivered::Afresh(_) => unreachable!("files have no channel"),
                Delivered::Event(frame) => frame.text().to_owned(),
                Delivered::Entered { sync, .. } => {
                    let sync = sync.as_ref().unwrap();
                    let bytes = sync.pieces_from(0).collect::<Vec<_>>().concat();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            let field = |name: &str, end: char| {
                let (_, rest) = text.split_once(name).unwrap();
                rest.split(end).next().unwrap().to_owned()
            };
            let time: u64 = field("\"timestamp\":", ',').parse().unwrap();
            let group = (
                field("\"streamName\":\"", '"'),
                field("\"groupId\":\"", '"'),
            );
            let heard = self.heard.entry(group).or_default();
            if text.contains(r#""type":"sync""#) {
                let least = heard.event + u64::from(!text.contains(r#""id":null"#));
                assert!(least <= time, "{heard:?} {text}");
            } else {
                assert!(heard.last < time, "{heard:?} {text}");
                heard.event = time;
            }
            heard.last = heard.last.max(time);
        }
    }

    pub(super) fn last_time(&self) -> u64 {
        let times = self.heard.values().map(|heard| heard.last);
        times.max().unwrap_or(0)
    }

    pub(super) fn values(&self) -> Values {
        let mut values = self.values.clone();
        values.retain(|_, items| !items.is_empty());
        values
    }
}
