//! The page about members: its file is all that the server needs, and its HTML shows who is there.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Section;
use super::desk::Desk;
use crate::support::browser::{self, Page};
use crate::support::program::{Sdk, folder};
use crate::support::{Subscriber, raw};

#[test]
fn members_take_the_file_of_the_page_and_no_program() {
    let mut section = Section::of("presence.md", "Members without code");
    let (file, html) = (section.next("yaml"), section.next("html"));
    section.end();
    assert!(
        html.text
            .contains("addEventListener('pagehide', () => stream.close())")
    );
    let desk = Desk::new("members");
    desk.save("config.yaml", &file.text);
    desk.run("iii-stream check");
    let server = desk.start("iii-stream");
    let watching = desk.watch("iii-stream watch presence room-1");
    assert_eq!(watching.line(), "sync   []");
    // As the client of the page does it.
    let mut page = Subscriber::upgraded(raw::upgrade(raw::connect(server.stream), "/?user=ada"));
    page.join("s", ("presence", "room-1"));
    let line = watching.line();
    assert!(line.starts_with("create ada"), "{line}");
}

/// The published client for pages.
const PAGE_CLIENT: Sdk = Sdk {
    name: "the client for pages",
    program: "",
    arguments: &[],
    installed: "node-page/node_modules/@motiadev/stream-client-browser/package.json",
};

/// Where the page takes it from, and what it takes it from here.
const MODULES: &str = r#"<script type="importmap">{"imports": {
    "https://esm.sh/@motiadev/stream-client-browser@0.17.14-beta.196": "/@motiadev/stream-client-browser/dist/index.js",
    "@motiadev/stream-client": "/@motiadev/stream-client/dist/index.js",
    "uuid": "/uuid/dist/index.js"}}</script>"#;

/// Serves that page, and the modules that are installed.
fn serve_page(html: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let modules = folder().join("node-page/node_modules");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = raw::read_head(&mut stream);
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (kind, body) = match path.strip_suffix(".js") {
                Some(_) => ("text/javascript", std::fs::read(modules.join(&path[1..]))),
                None => ("text/html", Ok(html.clone().into_bytes())),
            };
            let body = body.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A browser that has ended reads no more.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn the_page_of_members_shows_in_a_browser_who_is_there() {
    let Some(alone) = browser::alone().filter(|_| PAGE_CLIENT.is_installed()) else {
        return;
    };
    let mut section = Section::of("presence.md", "Members without code");
    let (file, html) = (section.next("yaml"), section.next("html"));
    section.end();
    assert!(html.text.lines().count() <= 20);
    let desk = Desk::new("members-page");
    let members = "members: {id: query.user";
    assert!(file.text.contains(members));
    let file = file
        .text
        .replace(members, &format!("{members}, grace_ms: 1s"));
    desk.save("config.yaml", &file);
    let _server = desk.start("iii-stream");
    let page = serve_page(desk.here(&format!("{MODULES}{}", html.text)));
    let of = |user: &str| format!("http://{page}/?user={user}");
    let mut watching = Page::open_at(alone, &of("ada"), (600, 400));
    let shows = |page: &mut Page, lines: &[&str]| {
        let there = "[...document.querySelectorAll('#who li')].map((line) => line.textContent)";
        page.wait_for(
            &format!("{lines:?} are shown"),
            &format!(
                "JSON.stringify({there}.sort()) === {:?}",
                json!(lines).to_string()
            ),
        );
    };
    shows(&mut watching, &["ada"]);
    let bob = watching.open_tab(&of("bob"));
    shows(&mut watching, &["ada", "bob"]);
    let bob_again = watching.open_tab(&of("bob"));
    shows(&mut watching, &["ada", "bob (2 tabs)"]);
    watching.close_tab(&bob);
    shows(&mut watching, &["ada", "bob"]);
    let closed = Instant::now();
    watching.close_tab(&bob_again);
    shows(&mut watching, &["ada"]);
    assert!(closed.elapsed() >= Duration::from_secs(1), "the grace");
    assert_eq!(watching.complaints, Vec::<Value>::new());
}
