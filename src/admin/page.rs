//! The files of the live page, as they are served.

/// Content type and bytes of that path. None: there is no such file.
pub(super) fn file(path: &str) -> Option<(&'static str, &'static [u8])> {
    match path {
        "/" => Some(("text/html; charset=utf-8", INDEX.as_bytes())),
        _ => None,
    }
}

const INDEX: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>iii-stream</title>\
    <p>What runs here, as JSON: <a href=\"/admin/overview\">/admin/overview</a>; \
    as Prometheus reads it: <a href=\"/metrics\">/metrics</a>.</p></html>\n";
