//! What differs between the settings in force and those that were read again, and what of it can change
//! while the server runs.
//!
//! Pure. May not know how a change reaches whom it concerns.

use std::fmt;

use serde_json::Value as Json;

use super::{Config, Limits, Reading, Setting};

/// What holds from the next look at it on.
const LIVE: [&str; 12] = [
    "allowed_origins",
    "worker_origins",
    "trusted_proxies",
    "auth_failure",
    "auth_timeout_ms",
    "join_required",
    "join_failure",
    "log.level",
    "admin.token",
    "ping_interval_ms",
    "pong_timeout_ms",
    "stall_timeout_ms",
];
/// The limits that the mailboxes were made with.
const LIMITS_OF_THE_START: [&str; 2] = ["mailbox_len", "mailbox_bytes"];
const SERVER: &str = "iii-stream.server.";

/// One setting that is another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As `iii-stream.server.limits.connections`.
    pub key: String,
    /// None: there was none.
    pub before: Option<Json>,
    /// None: there is none any more.
    pub after: Option<Json>,
    /// Whether it can take effect while the server runs.
    pub is_live: bool,
}

/// `server.limits.connections 1000 → 2000`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.strip_prefix("iii-stream.").unwrap_or(&self.key);
        let shown = |value: &Option<Json>| match value {
            None => "nothing".to_owned(),
            Some(Json::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        write!(f, "{key} {} → {}", shown(&self.before), shown(&self.after))
    }
}

impl Reading {
    /// Why nothing is taken from the file as it is now: it is gone, or says nothing where it did. What
    /// holds without it may be open where the file closes.
    pub fn lost_in(&self, new: &Reading) -> Option<String> {
        let file = self.config.file.as_ref()?;
        let place = format!("{file}:");
        let says = |reading: &Reading| {
            let mut settings = reading.settings.iter();
            settings.any(|setting| setting.origin.contains(&place))
        };
        let fault = match &new.config.file {
            None => "is not there any more",
            Some(_) if says(self) && !says(new) => "says nothing any more",
            Some(_) => return None,
        };
        Some(format!(
            "{file}: {fault}; put its settings back, or restart without them"
        ))
    }

    /// Takes over from a later reading without faults what can change while the server runs, and gives
    /// all that differs.
    pub fn take_over(&mut self, new: Reading) -> Vec<Change> {
        let changes = changes(&self.settings, &new.settings);
        let mut changes: Vec<Change> = changes.collect();
        let with_live = live_part(&self.config, &new.config);
        if !changes.iter().any(|change| !change.is_live) && !is_same(&with_live, &new.config) {
            // A password, which is shown nowhere.
            changes.push(Change {
                key: "a secret, or something else that is not shown,".to_owned(),
                before: Some("one".into()),
                after: Some("another".into()),
                is_live: false,
            });
        }
        self.config = with_live;
        let mut settings = new.settings;
        settings.retain(|setting| is_live(&setting.key));
        let old = self.settings.drain(..);
        settings.extend(old.filter(|setting| !is_live(&setting.key)));
        self.settings = settings;
        changes
    }
}

fn changes<'a>(old: &'a [Setting], new: &'a [Setting]) -> impl Iterator<Item = Change> + 'a {
    let value_in = |settings: &[Setting], key: &str| {
        let found = settings.iter().find(|setting| setting.key == key);
        found.map(|setting| setting.value.clone())
    };
    let is_new = |setting: &&Setting| !old.iter().any(|other| other.key == setting.key);
    let keys = old.iter().chain(new.iter().filter(is_new));
    keys.filter_map(move |Setting { key, .. }| {
        let change = Change {
            key: key.clone(),
            before: value_in(old, key),
            after: value_in(new, key),
            is_live: is_live(key),
        };
        (change.before != change.after).then_some(change)
    })
}

fn is_live(key: &str) -> bool {
    let Some(key) = key.strip_prefix(SERVER) else {
        return false;
    };
    match key.strip_prefix("limits.") {
        Some(limit) => !LIMITS_OF_THE_START.contains(&limit),
        None => LIVE.contains(&key),
    }
}

/// `old`, with what of `new` can change while the server runs.
fn live_part(old: &Config, new: &Config) -> Config {
    let mut config = old.clone();
    config.allowed_origins.clone_from(&new.allowed_origins);
    config.worker_origins.clone_from(&new.worker_origins);
    config.trusted_proxies.clone_from(&new.trusted_proxies);
    config.auth.failure = new.auth.failure;
    config.auth.timeout_ms = new.auth.timeout_ms;
    config.join_required.clone_from(&new.join_required);
    config.join_failure = new.join_failure;
    config.log.level = new.log.level;
    if let (Some(admin), Some(new)) = (&mut config.admin, &new.admin)
        && (new.token.is_some() || admin.endpoint == new.endpoint)
    {
        admin.token.clone_from(&new.token);
    }
    config.limits = Limits {
        mailbox_len: old.limits.mailbox_len,
        mailbox_bytes: old.limits.mailbox_bytes,
        ..new.limits.clone()
    };
    config
}

/// But for what the log would be told.
fn is_same(a: &Config, b: &Config) -> bool {
    let bare = |config: &Config| Config {
        warnings: Vec::new(),
        notices: Vec::new(),
        file: None,
        ..config.clone()
    };
    bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::super::sources::tests::reading_of;
    use super::*;

    fn reading(text: &str) -> Reading {
        let reading = reading_of(&[("c.yaml", text)]);
        assert!(reading.faults.is_empty(), "{:?}", reading.faults);
        reading
    }

    fn file(config: &str, server: &str) -> String {
        format!("workers: [{{name: iii-stream, config: {{{config}}}, server: {{{server}}}}}]")
    }

    #[test]
    fn each_difference_is_told_and_what_can_change_is_taken_over() {
        let mut kept = reading(&file(
            "port: 1",
            "limits: {connections: 10, mailbox_len: 100}",
        ));
        let new = file(
            "port: 2",
            "limits: {connections: 20, mailbox_len: 200}, log: {level: debug}, join_required: [a]",
        );
        let changes = kept.take_over(reading(&new));
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "config.port 1 → 2",
                "server.join_required [] → [\"a\"]",
                "server.log.level info → debug",
                "server.limits.connections 10 → 20",
                "server.limits.mailbox_len 100 → 200",
            ]
        );
        let live: Vec<bool> = changes.iter().map(|change| change.is_live).collect();
        assert_eq!(live, [false, true, true, true, false]);
        assert_eq!(kept.config.limits.connections, 20);
        assert_eq!(kept.config.limits.mailbox_len, 100);
        assert_eq!(kept.config.stream.port, 1);
        // The rest is still not in force, and the same is no change.
        let again = kept.take_over(reading(&new));
        let told: Vec<&str> = again.iter().map(|change| &*change.key).collect();
        assert_eq!(
            told,
            [
                "iii-stream.config.port",
                "iii-stream.server.limits.mailbox_len"
            ]
        );
    }

    #[test]
    fn a_new_password_is_told_of_and_not_shown() {
        let of = |password: &str| {
            let url = format!("\"redis://:{password}@localhost\"");
            let adapter = format!("adapter: {{name: redis, config: {{redis_url: {url}}}}}");
            reading(&file(&adapter, ""))
        };
        let mut kept = of("0ld-s3cret");
        assert!(kept.take_over(of("0ld-s3cret")).is_empty());
        let changes = kept.take_over(of("n3w-s3cret"));
        assert!(!changes[0].is_live && changes.len() == 1);
        assert!(!changes[0].to_string().contains("s3cret"), "{changes:?}");
    }
}
