//! Where each key of ours stands, for those who write it elsewhere.

/// The keys by their places.
const HOMES: [(&str, &[&str]); 11] = [
    ("server", &KEYS_OF_SERVER),
    (
        "server.limits",
        &[
            "connections",
            "worker_connections",
            "connections_per_address",
            "accepts_per_s",
            "joins_per_s",
            "read_bytes_per_s",
            "calls_per_s",
            "worker_read_bytes_per_s",
            "memory_bytes",
            "handshake_ms",
            "handshake_bytes",
            "handshakes",
            "handshakes_bytes",
            "message_bytes",
            "call_bytes",
            "partial_call_bytes",
            "name_bytes",
            "json_depth",
            "value_bytes",
            "update_ops",
            "subscriptions",
            "equal_subscriptions",
            "members_per_group",
            "behind_bytes",
            "custom_events_behind",
            "behind_bytes_worker",
            "mailbox_len",
            "mailbox_bytes",
            "calls_in_flight",
            "joins_in_flight",
            "call_queue_bytes",
            "early_triggers",
            "early_triggers_bytes",
        ],
    ),
    (
        "server.tls or server.worker_tls",
        &["cert", "key", "client_ca", "min_version"],
    ),
    (
        "server.streams",
        &["stream", "members", "ttl_ms", "pace_ms"],
    ),
    ("server.streams members", &["grace_ms", "restart_grace_ms"]),
    ("server.log", &["format", "level"]),
    ("server.admin", &["token", "page"]),
    (
        "server.redis",
        &["connect_timeout_ms", "in_flight", "lease_ms"],
    ),
    ("config", &["port", "host", "auth_function", "adapter"]),
    (
        "adapter.config",
        &[
            "store_method",
            "file_path",
            "save_interval_ms",
            "fsync",
            "segment_bytes",
            "snapshot_factor",
            "redis_url",
        ],
    ),
    (
        "config of iii-worker-manager",
        &["rbac", "middleware_function_id"],
    ),
];

/// What stands under `server`.
pub const KEYS_OF_SERVER: [&str; 27] = [
    "engine",
    "threads",
    "pin",
    "place_below",
    "io",
    "backlog",
    "auth_failure",
    "auth_timeout_ms",
    "join_required",
    "join_failure",
    "streams",
    "allowed_origins",
    "worker_origins",
    "trusted_proxies",
    "tls",
    "worker_tls",
    "acme_webroot",
    "acme_port",
    "call_timeout_ms",
    "drain_ms",
    "ping_interval_ms",
    "pong_timeout_ms",
    "stall_timeout_ms",
    "log",
    "admin",
    "redis",
    "limits",
];

/// Where that key stands. None: it is none of ours.
pub(super) fn home_of(key: &str) -> Option<&'static str> {
    let mut homes = HOMES.iter();
    homes
        .find(|(_, keys)| keys.contains(&key))
        .map(|(home, _)| *home)
}

#[cfg(test)]
mod tests {
    use super::super::sources::tests::reading_of;
    use super::*;

    #[test]
    fn every_setting_is_known_by_its_home() {
        let file = "workers: [{name: iii-stream, config: {adapter: {name: kv, config: {store_method: file_based}}}}]";
        let reading = reading_of(&[("c.yaml", file)]);
        assert!(reading.settings.len() > 40);
        for setting in reading.settings {
            let (home, key) = setting.key.rsplit_once('.').unwrap_or_default();
            if key != "name" && !home.starts_with("iii-worker-manager") {
                // Where it listens stands in several places.
                let is_admin = home.ends_with("server.admin") && ["port", "host"].contains(&key);
                let found = home_of(key).filter(|_| !is_admin);
                let found = found.unwrap_or(if is_admin { "admin" } else { "" });
                assert!(
                    home.ends_with(found) && !found.is_empty(),
                    "{}",
                    setting.key
                );
            }
        }
    }
}
