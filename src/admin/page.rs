//! The files of the live page, as they are served.

use std::net::SocketAddr;

use super::http::{Answer, Request};

/// Content type and text of that path. None: there is no such file.
pub(super) fn file(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path {
        "/" => (
            "text/html; charset=utf-8",
            include_str!("../assets/page/index.html"),
        ),
        "/page.js" => (
            "text/javascript; charset=utf-8",
            include_str!("../assets/page/page.js"),
        ),
        "/page.css" => (
            "text/css; charset=utf-8",
            include_str!("../assets/page/page.css"),
        ),
        "/icon.svg" => ("image/svg+xml", ICON),
        _ => return None,
    })
}

const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">\
    <rect width=\"16\" height=\"16\" rx=\"3\" fill=\"#1f57c3\"/>\
    <path d=\"M2 11h3l2-6 3 8 2-5h2\" fill=\"none\" stroke=\"#fff\" stroke-width=\"1.5\"/></svg>\n";

/// That file. The page may connect to the stream port as well, under the name by which it was asked for.
pub(super) fn answer(request: &Request, stream: &str) -> Option<Answer> {
    let (content_type, text) = file(&request.path)?;
    let answer = Answer::of(content_type, text.as_bytes().to_vec());
    let stream: Option<SocketAddr> = stream.parse().ok();
    let host = request.host.as_deref().and_then(name_in);
    let watches = stream.zip(host).map(|(stream, host)| {
        let port = stream.port();
        format!("ws://{host}:{port} wss://{host}:{port}")
    });
    Some(answer.with_connections(watches.as_deref().unwrap_or_default()))
}

/// The name in a `Host`, if it can stand in a policy.
fn name_in(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_adds_nothing_to_the_policy_but_its_name() {
        for (host, name) in [
            ("127.0.0.1:9464", Some("127.0.0.1")),
            ("localhost", Some("localhost")),
            ("[::1]:9464", None),
            ("a; script-src *:1", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(name_in(host), name, "{host}");
        }
    }

    #[test]
    fn the_page_names_no_place_of_elsewhere_and_has_no_script_or_style_within() {
        let (_, page) = file("/").unwrap();
        for path in page
            .split("src=\"")
            .skip(1)
            .chain(page.split("href=\"").skip(1))
        {
            assert!(path.starts_with('/') || path.starts_with('#'), "{path:.40}");
        }
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" onc"));
        for (path, banned) in [
            ("/page.js", "innerHTML"),
            ("/page.js", "http://"),
            ("/page.css", "url("),
        ] {
            let (_, text) = file(path).unwrap();
            assert!(!text.contains(banned), "{path} has {banned}");
        }
        assert_eq!(file("/other"), None);
    }
}
