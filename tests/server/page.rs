//! The live page in a browser: what it draws, that a set shows up while it is looked at, that names are names,
//! and that it can be used without a mouse.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::admin::{HOSTILE, open_port};
use crate::support::browser::{self, Alone, Page};
use crate::support::clients::set_input;
use crate::support::{SdkWorker, Subscriber, THREE_WORKERS, TestServer, wait_until};

const SIZE: (u32, u32) = (1400, 1000);

fn start(token: Option<&str>) -> (TestServer, SocketAddr) {
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.admin = Some(open_port(token));
    });
    let address = server.running().admin_address().unwrap();
    (server, address)
}

fn show(alone: Alone, admin: SocketAddr, place: &str) -> Page {
    Page::open_at(alone, &format!("http://{admin}/{place}"), SIZE)
}

/// How many points of each plot have the colour of a line.
const DRAWN: &str = "PLOTS.map(({ canvas }) => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const lines = [1, 2, 3, 4, 5, 6].map((line) =>
    colour(`line-${line}`).slice(1).match(/../g).map((hex) => parseInt(hex, 16)));
  let points = 0;
  for (let at = 0; at < data.length; at += 4) {
    const far = ([r, g, b]) => Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b);
    if (data[at + 3] > 128 && lines.some((line) => far(line) < 60)) points += 1;
  }
  return points;
})";

#[test]
fn the_page_draws_its_plots_and_tells_what_runs() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    subscriber.join("1", ("chat", "room"));
    let mut page = show(alone, admin, "");
    page.wait_for(
        "the figures are there",
        "byId('status').textContent === 'ready'",
    );
    let script = format!("{DRAWN}.every((points) => points > 1)");
    wait_until("every plot has a line", || {
        sdk.set(("chat", "room"), "i", json!(1));
        subscriber.take(1);
        page.eval(&script) == true
    });
    let connections = "[...document.querySelectorAll('#now div')]
        .find((pair) => pair.firstElementChild.textContent === 'Connections').lastElementChild.textContent";
    assert_eq!(page.eval(connections), "1");
    page.wait_for(
        "the group is listed",
        "document.querySelector('#groups a')?.textContent === 'chat / room'",
    );
    page.wait_for(
        "the socket is listed",
        "document.querySelector('#sockets tbody').textContent.includes('takes what it is sent')",
    );
    let labels = page.eval("PLOTS.map(({ canvas }) => canvas.getAttribute('aria-label'))");
    assert!(
        labels[0]
            .as_str()
            .unwrap()
            .starts_with("Events a second: events "),
        "{labels}"
    );
    for theme in ["light", "dark"] {
        page.eval(&format!("setTheme('{theme}')"));
        page.wait_for("the plots are drawn in this theme", &script);
    }
    assert_eq!(page.complaints, Vec::<Value>::new());
}

#[test]
fn a_set_shows_up_live_and_one_of_the_page_goes_the_way_of_an_sdk_call() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    let room = ("chat", "room");
    subscriber.join("1", room);
    sdk.register("app::heard");
    sdk.trigger("t", "stream", "app::heard", json!({"stream_name": "chat"}));
    let mut page = show(alone, admin, "#/chat/room");
    page.wait_for(
        "the group is shown",
        "byId('group-title').textContent === 'chat / room'",
    );
    page.wait_for("where subscribers connect is known", "streamPort !== ''");
    page.eval("byId('watch').click()");
    let events = "[...document.querySelectorAll('#events tbody tr')].map((row) => [...row.children].slice(1).map((cell) => cell.textContent))";
    page.wait_for("the sync is heard", &format!("{events}[0]?.[0] === 'sync'"));

    sdk.set(room, "a", json!({"n": 1}));
    page.wait_for(
        "the set is heard",
        &format!("JSON.stringify({events}[0]) === JSON.stringify(['create', 'a', '{{\"n\":1}}'])"),
    );
    page.wait_for(
        "the item is listed",
        "document.querySelector('#items tbody').textContent.includes('{\"n\":1}')",
    );
    subscriber.take(1);
    sdk.next_call_of("app::heard");

    // A number that no script can hold stays what it is.
    page.eval("byId('set-item').value = 'b'; byId('set-value').value = '{\"big\": 12345678901234567890}'; byId('set').requestSubmit()");
    let heard = subscriber.next_text();
    assert!(
        heard.contains(r#""type":"create","data":{"big":12345678901234567890}"#)
            || heard.contains("12345678901234567890"),
        "{heard}"
    );
    let fired = sdk.next_call_of("app::heard");
    assert_eq!(fired["data"]["id"], "b", "{fired}");
    page.wait_for(
        "it says so",
        "byId('set-result').textContent === 'b is set.'",
    );
    page.wait_for(
        "as it was written",
        "document.querySelector('#items tbody').textContent.includes('{\"big\": 12345678901234567890}')
            || document.querySelector('#items tbody').textContent.includes('{\"big\":12345678901234567890}')",
    );
    page.wait_for("it is heard", &format!("{events}[0]?.[1] === 'b'"));
    page.wait_for(
        "it is listed",
        "document.querySelectorAll('#items tbody tr').length === 2",
    );

    let remove = "[...document.querySelectorAll('#items button')].find((button) => button.ariaLabel === 'Delete b')";
    page.eval(&format!("{remove}.click()"));
    assert_eq!(page.eval(&format!("{remove}.textContent")), "Really?");
    page.eval(&format!("{remove}.click()"));
    assert_eq!(subscriber.next().kind, "delete");
    assert_eq!(sdk.get(room, "b"), None);
    page.wait_for(
        "it is gone",
        "document.querySelectorAll('#items tbody tr').length === 1",
    );

    page.eval("byId('set-value').value = '{'; byId('set').requestSubmit()");
    page.wait_for(
        "no JSON is said to be none",
        "byId('set-result').textContent.startsWith('That is no JSON')",
    );
    assert_eq!(page.complaints, Vec::<Value>::new());
}

#[test]
fn names_of_markup_are_text_wherever_the_page_shows_them() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    let group = (HOSTILE, HOSTILE);
    subscriber.join("1", group);
    sdk.set(group, HOSTILE, json!({HOSTILE: HOSTILE}));
    let mut page = show(alone, admin, "");
    let name = json!(HOSTILE).to_string();
    page.wait_for(
        "the stream is listed",
        &format!("document.querySelector('#streams a span')?.textContent === {name}"),
    );
    page.eval("document.querySelector('#streams a').click()");
    page.wait_for(
        "the group is listed",
        &format!("document.querySelector('#names a span')?.textContent === {name}"),
    );
    page.eval("document.querySelector('#names a').click()");
    page.wait_for(
        "the item is listed",
        &format!("document.querySelector('#items tbody td')?.textContent === {name}"),
    );
    page.eval("byId('watch').click()");
    page.wait_for(
        "its sync is heard",
        "document.querySelector('#events tbody').textContent.includes('sync')",
    );
    sdk.set(group, HOSTILE, json!(HOSTILE));
    page.wait_for(
        "its event is heard",
        "document.querySelector('#events tbody').textContent.includes('update')",
    );
    assert_eq!(
        page.eval("document.querySelectorAll('img, b b, iframe').length"),
        0
    );
    assert_eq!(page.complaints, Vec::<Value>::new());
}

#[test]
fn every_control_is_reached_by_the_keyboard_in_the_order_in_which_they_stand() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(("chat", "room"), "a", json!(1));
    let mut page = show(alone, admin, "#/chat/room");
    page.wait_for(
        "the item is listed",
        "document.querySelectorAll('#items button').length === 2",
    );
    page.wait_for(
        "the lists are there",
        "document.querySelector('#groups a') && document.querySelector('#names a') && true",
    );
    page.eval("byId('pause').click(); document.activeElement.blur(); window.scrollTo(0, 0)");
    let controls = "[...document.querySelectorAll('a, button, select, input, textarea')]
        .filter((control) => control.checkVisibility() && !control.closest('dialog'))";
    let expected = page.eval(&format!("{controls}.length")).as_u64().unwrap();
    assert!(expected >= 15, "{expected} controls");
    page.eval(&format!("window.wanted = {controls}; window.reached = []"));
    for _ in 0..expected + 20 {
        page.press("Tab", 9);
        page.eval("if (wanted.includes(document.activeElement)) reached.push(wanted.indexOf(document.activeElement))");
    }
    let reached = page.eval("[...new Set(reached)]");
    let in_order: Vec<u64> = (0..expected).collect();
    assert_eq!(reached, json!(in_order));
    let unnamed = page.eval("wanted.filter((control) => !(control.ariaLabel || control.textContent.trim() || control.labels?.length)).map((control) => control.outerHTML)");
    assert_eq!(unnamed, json!([]), "a screen reader has a name for each");
    assert_eq!(page.complaints, Vec::<Value>::new());
}

#[test]
fn ten_thousand_groups_are_shown_by_a_few_rows_and_none_of_its_work_takes_long() {
    let Some(alone) = browser::alone() else {
        return;
    };
    const GROUPS: usize = 10_000;
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    for n in 0..GROUPS {
        let group = format!("g{n:05}");
        sdk.void("stream::set", set_input(("many", &group), "i", json!(n)));
    }
    sdk.settle();
    let mut page = show(alone, admin, "#/many");
    page.wait_for(
        "the first groups are listed",
        "document.querySelectorAll('#names a').length === NAMES",
    );
    page.eval("byId('names-more').click()");
    page.wait_for(
        "more are listed",
        "document.querySelectorAll('#names a').length === 2 * NAMES",
    );
    let order = page.eval("[...document.querySelectorAll('#names a span:first-child')].map((name) => name.textContent)");
    let names: Vec<String> = (0..200).map(|n| format!("g{n:05}")).collect();
    assert_eq!(order, json!(names));
    page.eval("byId('names-filter').value = '9999'; byId('names-filter').dispatchEvent(new Event('input'))");
    page.wait_for(
        "the last one is found",
        "document.querySelector('#names a').textContent.startsWith('g09999')",
    );
    page.wait_for(
        "the hottest are listed",
        "document.querySelectorAll('#groups a').length === ROWS",
    );
    assert!(page.eval("document.querySelectorAll('*').length").as_u64() < Some(3000));
    assert_eq!(page.complaints, Vec::<Value>::new());
}

/// What a subscriber is sent in a second is more than anybody reads, and the page is to stay usable.
#[test]
fn a_hot_group_is_watched_a_few_rows_at_a_time_and_the_last_event_is_shown() {
    let Some(alone) = browser::alone() else {
        return;
    };
    const EVENTS: usize = 20_000;
    let (server, admin) = start(None);
    let mut sdk = SdkWorker::connect(&server);
    let room = ("chat", "room");
    sdk.set(room, "a", json!(0));
    let mut page = show(alone, admin, "#/chat/room");
    page.wait_for("where subscribers connect is known", "streamPort !== ''");
    page.eval(
        "window.most = 0;
        new MutationObserver((changes) => {
          const made = changes.flatMap(({ addedNodes }) => [...addedNodes]);
          most = Math.max(most, made.length);
        }).observe(document.querySelector('#events tbody'), { childList: true });
        byId('watch').click()",
    );
    let first = "document.querySelector('#events tbody tr')?.textContent";
    page.wait_for("the sync is heard", &format!("{first}.includes('sync')"));
    for n in 0..EVENTS {
        let item = format!("i{}", n % 200);
        sdk.void("stream::set", set_input(room, &item, json!({"n": n})));
    }
    sdk.set(room, "last", json!({"big": 12345678901234567890_u64}));
    let last = r#"last{"big":12345678901234567890}"#;
    page.wait_for("the last is shown", &format!("{first}.endsWith('{last}')"));
    let most = page.eval("most").as_u64().unwrap();
    assert!((5..=20).contains(&most), "{most} rows at a time");
    let rows = page.eval("document.querySelectorAll('#events tbody tr').length");
    assert_eq!(rows, 100);
    let note = page.eval("byId('watch-note').textContent");
    assert!(
        note.as_str().unwrap().contains("too fast to show"),
        "{note}"
    );
    assert_eq!(page.complaints, Vec::<Value>::new());
}

#[test]
fn the_page_asks_for_the_token_and_shows_nothing_before() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let (server, admin) = start(Some("s3cret"));
    let mut sdk = SdkWorker::connect(&server);
    sdk.set(("chat", "room"), "a", json!(1));
    let mut page = show(alone, admin, "");
    page.wait_for("it asks", "byId('ask-token').open");
    assert_eq!(
        page.eval("document.querySelectorAll('#groups a').length"),
        0
    );
    page.eval(
        "byId('token').value = 's3cret'; document.querySelector('#ask-token button').click()",
    );
    page.wait_for(
        "it shows",
        "document.querySelectorAll('#groups a').length === 1 && !byId('ask-token').open",
    );
    page.wait_for(
        "the figures are there",
        "byId('status').textContent === 'ready'",
    );
}

#[test]
fn where_the_page_may_not_subscribe_it_watches_by_looking_again_and_again() {
    let Some(alone) = browser::alone() else {
        return;
    };
    let server = TestServer::with(THREE_WORKERS, |config| {
        config.admin = Some(open_port(None));
        config.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    let admin = server.running().admin_address().unwrap();
    let mut sdk = SdkWorker::connect(&server);
    let room = ("chat", "room");
    sdk.set(room, "a", json!(1));
    let mut page = show(alone, admin, "#/chat/room");
    page.wait_for(
        "the item is listed",
        "document.querySelectorAll('#items tbody tr').length === 1 && streamPort !== ''",
    );
    page.eval("byId('watch').click()");
    page.wait_for(
        "it says how it looks",
        "byId('watch-note').textContent.includes('looks once a second')",
    );
    sdk.set(room, "a", json!(2));
    let told = |kind: &str, id: &str, text: &str| {
        format!(
            "[...document.querySelectorAll('#events tbody tr')].some((row) => JSON.stringify(
                [...row.children].slice(1).map((cell) => cell.textContent)) === JSON.stringify(['{kind}', '{id}', '{text}']))"
        )
    };
    page.wait_for("the change is seen", &told("update", "a", "2"));
    sdk.set(room, "b", json!(3));
    page.wait_for("what is new is seen", &told("create", "b", "3"));
}
