//! The certificates of both ports: whether they can be used, and for how long.

use std::time::Duration;

use super::Certificates;
use super::finding::{Finding, State};

const NAME: &str = "certificates";
/// Whoever renews them by a program does so well before.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// `now`: since 1970. Nothing where no port is under TLS.
pub(super) fn look(certificates: &Certificates, now: Duration) -> Vec<Finding> {
    let ports = match certificates {
        Ok(ports) => ports,
        Err(why) => {
            let finding = Finding::ok(NAME, why);
            let todo = "mend what the line says; iii-stream check looks again";
            return vec![finding.with(State::Bad, "the server does not start", todo)];
        }
    };
    let look = |(key, not_after_s, until): &(&'static str, u64, String)| {
        let left = Duration::from_secs(*not_after_s).saturating_sub(now);
        let days = left.as_secs() / (24 * 60 * 60);
        let state = match left < SOON {
            true => State::Warning,
            false => State::Ok,
        };
        Finding::ok(NAME, format!("server.{key}: until {until}, {days} days")).with(
            state,
            "then clients refuse to connect",
            "have a new one issued; the server takes it as soon as the files are there",
        )
    };
    ports.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(days: u64) -> Vec<(State, String)> {
        let day = 24 * 60 * 60;
        let ports = vec![("tls", (1000 + days) * day, "then".to_owned())];
        let findings = look(&Ok(ports), Duration::from_secs(1000 * day));
        let findings = findings.into_iter();
        findings
            .map(|finding| (finding.state, finding.found))
            .collect()
    }

    #[test]
    fn one_that_ends_soon_is_a_warning() {
        let found = |days| format!("server.tls: until then, {days} days");
        assert_eq!(states(90), [(State::Ok, found(90))]);
        assert_eq!(states(13), [(State::Warning, found(13))]);
        assert_eq!(states(0), [(State::Warning, found(0))]);
    }

    #[test]
    fn one_that_cannot_be_used_is_bad_and_none_is_nothing() {
        let why = Err("server.tls: cert.pem: there is no such file".to_owned());
        let findings = look(&why, Duration::ZERO);
        assert_eq!(findings[0].state, State::Bad);
        assert!(findings[0].found.contains("no such file"));
        assert_eq!(look(&Ok(Vec::new()), Duration::ZERO), []);
    }
}
