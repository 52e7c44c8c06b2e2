//! Settings that were read again, on their way to all threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{AuthFailure, Config};
use crate::mesh::NewSettings;

use super::Server;

/// How soon it is looked again whether all threads have taken them.
const AGAIN: Duration = Duration::from_millis(2);

impl Server {
    /// Has every thread go by what of these settings can change while it runs. False: some thread has not
    /// taken them within that time, and will as soon as it has room.
    pub fn reload(&mut self, config: &Config, within: Duration) -> bool {
        let settings = Arc::new(NewSettings {
            limits: self.files.fit(&config.limits),
            allowed_origins: config.allowed_origins.clone(),
            worker_origins: config.worker_origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            auth_timeout: Duration::from_millis(config.auth.timeout_ms),
            auth_admits_failures: config.auth.failure == AuthFailure::Allow,
            join_required: config.join_required.clone(),
            refuses_failed_joins: config.join_failure == AuthFailure::Refuse,
        });
        if let (Some(operators), Some(admin)) = (&self.operators, &config.admin) {
            operators.set_token(&self.shared, admin.token.clone());
        }
        let until = Instant::now() + within;
        self.settings_ports.send(&settings);
        // Who has taken them has let go of them.
        while Arc::strong_count(&settings) > 1 && Instant::now() < until {
            std::thread::sleep(AGAIN);
            self.settings_ports.flush();
        }
        Arc::strong_count(&settings) == 1
    }
}
