//! Who may ask the admin port, and what is asked wrongly.

use super::*;

#[test]
fn of_the_admin_port_the_stream_port_has_health_and_readiness_alone() {
    let (server, _) = start();
    let stream = server.stream();
    let health = get(stream, "/health");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(get(stream, "/ready").status, 200);
    for path in [
        "/metrics",
        "/admin/overview",
        "/admin/groups",
        "/admin/sockets",
        "/admin/history",
    ] {
        let answer = get(stream, path);
        assert!(answer.status >= 400, "{path}: {answer:?}");
        assert!(!answer.body.contains("iii_stream"), "{path}: {answer:?}");
    }
}

#[test]
fn without_the_token_nothing_is_told_but_whether_the_server_is_there() {
    let (_server, admin) = start_with(Some("s3cret"));
    for path in ["/health", "/ready", "/"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    let told = [
        "/metrics",
        "/admin/overview",
        "/admin/history",
        "/admin/groups",
        "/admin/sockets",
        "/admin/closed",
        "/admin/group/s/g",
        "/admin/nothing",
    ];
    for path in told {
        for token in [
            "",
            "authorization: Bearer s3cre\r\n",
            "authorization: s3cret\r\n",
        ] {
            let answer = get_with(admin, path, token);
            assert_eq!(answer.status, 401, "{path} {token}");
            assert!(
                answer.head.contains("www-authenticate: Bearer"),
                "{answer:?}"
            );
            assert!(!answer.body.contains("s3cret"), "{answer:?}");
        }
        let answer = get_with(admin, path, "authorization: Bearer s3cret\r\n");
        assert_ne!(answer.status, 401, "{path}");
    }
}

#[test]
fn a_page_of_elsewhere_gets_nothing() {
    let (_server, admin) = start();
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:9464",
    ] {
        for path in ["/", "/metrics", "/admin/overview"] {
            let answer = ask(
                admin,
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            );
            assert_eq!(answer.status, 403, "{host} {path}");
        }
    }
    for origin in ["http://evil.example", "null", "http://localhost"] {
        let answer = get_with(admin, "/admin/overview", &format!("origin: {origin}\r\n"));
        assert_eq!(answer.status, 403, "{origin}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
    }
    let own = get_with(
        admin,
        "/admin/overview",
        &format!("origin: http://{admin}\r\n"),
    );
    assert_eq!(own.status, 200);
    let without_host = ask(admin, "GET /metrics HTTP/1.1\r\n\r\n");
    assert_eq!(without_host.status, 400);
}

#[test]
fn what_is_asked_wrongly_is_answered_with_its_status() {
    let (_server, admin) = start();
    let ask_line = |line: &str, more: &str| {
        let answer = ask(
            admin,
            format!("{line} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n"),
        );
        assert!(answer.json()["error"].is_string(), "{line}: {answer:?}");
        (answer.status, answer.head)
    };
    for path in [
        "/nothing",
        "/admin",
        "/admin/",
        "/admin/other",
        "/metrics/",
        "/admin/group/s",
        "/../etc/passwd",
    ] {
        assert_eq!(ask_line(&format!("GET {path}"), "").0, 404, "{path}");
    }
    assert_eq!(ask_line("GET /admin/group/s/nobody-knows", "").0, 404);
    let own = "origin: http://localhost\r\n";
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let (status, head) = ask_line(&format!("{method} /admin/overview"), own);
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: GET, HEAD"), "{head}");
    }
    for query in [
        "groups?limit=0",
        "groups?sort=x",
        "closed?reason=x",
        "history?seconds=-1",
    ] {
        assert_eq!(
            ask_line(&format!("GET /admin/{query}"), "").0,
            400,
            "{query}"
        );
    }
    assert_eq!(
        ask_line("POST /metrics", "content-length: 1048577\r\n").0,
        413
    );
    let long = format!("x: {}\r\n", "x".repeat(40_000));
    assert_eq!(ask_line("GET /metrics", &long).0, 431);
    assert_eq!(ask(admin, "\x16\x03\x01\x02\0\x01\r\n\r\n").status, 400);
}
