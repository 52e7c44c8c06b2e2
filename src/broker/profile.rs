//! What an SDK worker tells about itself.
//!
//! Pure.

use crate::protocol::listing::WorkerRow;
use crate::protocol::listing::inputs::RegisterWorker;

/// What an SDK worker tells about itself.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) struct Profile {
    runtime: Box<str>,
    version: Option<Box<str>>,
    name: Option<Box<str>>,
    os: Option<Box<str>>,
    isolation: Option<Box<str>>,
    pid: Option<u32>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            runtime: "unknown".into(),
            version: None,
            name: None,
            os: None,
            isolation: None,
            pid: None,
        }
    }
}

impl Profile {
    pub(in crate::broker) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(in crate::broker) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// It has described itself.
    pub(in crate::broker) fn has_pid(&self) -> bool {
        self.pid.is_some()
    }

    /// What a list tells of it; the rest is for the caller.
    pub(in crate::broker) fn row(&self) -> WorkerRow<'_> {
        WorkerRow {
            id: "",
            name: self.name.as_deref(),
            function_count: 0,
            functions: "[]",
            active_invocations: 0,
            connected_at_ms: 0,
            is_built_in: false,
            is_internal: false,
            ip_address: None,
            isolation: self.isolation.as_deref(),
            os: self.os.as_deref(),
            pid: self.pid,
            runtime: &self.runtime,
            version: self.version.as_deref(),
        }
    }

    /// Runtime and version are those of the latest word, the others stay until they are given anew.
    pub(in crate::broker) fn update(&mut self, told: RegisterWorker<'_>) {
        self.runtime = told.runtime.as_deref().unwrap_or("unknown").into();
        self.version = told.version.as_deref().map(Box::from);
        for (kept, told) in [
            (&mut self.name, told.name),
            (&mut self.os, told.os),
            (&mut self.isolation, told.isolation),
        ] {
            if let Some(told) = told {
                *kept = Some((*told).into());
            }
        }
        self.pid = told.pid.or(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::listing::inputs;

    #[test]
    fn runtime_and_version_are_replaced_and_the_rest_stays() {
        let mut profile = Profile::default();
        let first = r#"{"runtime":"node","version":"1","name":"h:1","os":"linux","pid":7,"isolation":"vm"}"#;
        profile.update(inputs::register_worker(first).unwrap());
        profile.update(inputs::register_worker(r#"{"name":"h:2"}"#).unwrap());
        let wanted = Profile {
            runtime: "unknown".into(),
            version: None,
            name: Some("h:2".into()),
            os: Some("linux".into()),
            isolation: Some("vm".into()),
            pid: Some(7),
        };
        assert_eq!(profile, wanted);
    }
}
