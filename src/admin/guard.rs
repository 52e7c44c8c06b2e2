//! Who may ask the admin port: the token, and the two headers by which a page of elsewhere would be told.
//!
//! Pure. May not know what is asked.

use std::net::IpAddr;

use super::http::Request;

/// Who may ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    /// None: whoever reaches the port.
    pub(super) token: Option<String>,
    /// Names by which the port may be called beside addresses and `localhost`.
    pub(super) names: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

impl Guard {
    /// `is_open`: nothing is told there that is worth a token. `changes`: something is changed.
    pub(super) fn check(
        &self,
        request: &Request,
        is_open: bool,
        changes: bool,
    ) -> Result<(), Refused> {
        let host = request.host.as_deref();
        match host {
            // A page of elsewhere may have its own name lead here, and can then read what is answered.
            Some(host) if !self.is_ours(host) => {
                return Err(Refused(403, "the Host is none of this server's"));
            }
            None if !request.is_old => return Err(Refused(400, "the Host is missing")),
            _ => {}
        }
        let is_own = |origin: &str| {
            let rest = origin
                .strip_prefix("http://")
                .or(origin.strip_prefix("https://"));
            host.is_some_and(|host| rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host)))
        };
        let origin = request.origin.as_deref();
        if origin.is_some_and(|origin| !is_own(origin)) {
            return Err(Refused(403, "the page is of elsewhere"));
        }
        let given = request.authorization.as_deref().map(bearer);
        match (&self.token, given) {
            (Some(token), Some(given)) if given.is_some_and(|given| is_same(given, token)) => {
                return Ok(());
            }
            (Some(_), Some(_)) => return Err(Refused(401, "the token is wrong")),
            (Some(_), None) if !is_open => {
                return Err(Refused(
                    401,
                    "a token is needed: Authorization: Bearer TOKEN",
                ));
            }
            _ => {}
        }
        if changes && origin.is_none() {
            return Err(Refused(
                403,
                "a change needs the token, or the Origin of this server's page",
            ));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        // Nobody has an address lead elsewhere.
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self
                .names
                .iter()
                .any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Takes as long wherever they differ.
fn is_same(given: &str, token: &str) -> bool {
    let (given, token) = (given.as_bytes(), token.as_bytes());
    let differs = given
        .iter()
        .zip(token)
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == token.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: &str, token: &str) -> Request {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Request {
            host: some(host),
            origin: some(origin),
            authorization: some(token),
            ..Request::default()
        }
    }

    fn guard(token: Option<&str>) -> Guard {
        Guard {
            token: token.map(str::to_owned),
            names: vec!["box.internal".to_owned()],
        }
    }

    fn status(guard: &Guard, request: &Request, changes: bool) -> u16 {
        let checked = guard.check(request, false, changes);
        checked.map_or_else(|Refused(status, _)| status, |()| 200)
    }

    #[test]
    fn a_name_of_elsewhere_that_leads_here_is_refused() {
        let open = guard(None);
        for host in [
            "127.0.0.1:9464",
            "localhost",
            "LOCALHOST:80",
            "[::1]:9464",
            "10.0.0.3",
            "box.internal:1",
        ] {
            assert_eq!(status(&open, &request(host, "", ""), false), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[evil]",
        ] {
            assert_eq!(status(&open, &request(host, "", ""), false), 403, "{host}");
        }
        assert_eq!(status(&open, &request("", "", ""), false), 400);
        let old = Request {
            is_old: true,
            ..request("", "", "")
        };
        assert_eq!(status(&open, &old, false), 200);
    }

    #[test]
    fn a_page_of_elsewhere_may_neither_read_nor_change() {
        let open = guard(None);
        let at = |origin: &str| request("localhost:9464", origin, "");
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost",
            "http://localhost:80",
            "ftp://localhost:9464",
        ] {
            for changes in [false, true] {
                assert_eq!(status(&open, &at(origin), changes), 403, "{origin}");
            }
        }
        assert_eq!(status(&open, &at("http://localhost:9464"), true), 200);
        assert_eq!(
            status(&open, &at(""), true),
            403,
            "nobody says whose page it is"
        );
        assert_eq!(status(&open, &at(""), false), 200);
    }

    #[test]
    fn the_token_is_asked_for_and_has_to_be_right() {
        let shut = guard(Some("s3cret"));
        let with = |token: &str| request("localhost", "", token);
        for token in ["Bearer s3cret", "bearer  s3cret"] {
            assert_eq!(status(&shut, &with(token), true), 200);
        }
        for token in [
            "",
            "Bearer s3cre",
            "Bearer s3crets",
            "s3cret",
            "Basic s3cret",
            "Bearer",
        ] {
            assert_eq!(status(&shut, &with(token), false), 401, "{token}");
        }
        assert!(shut.check(&with(""), true, false).is_ok());
        assert!(shut.check(&with("Bearer x"), true, false).is_err());
    }
}
