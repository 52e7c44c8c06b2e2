//! Names on the admin port: whatever they are they stay names, they are found, and no series bears them.

use super::*;

/// What is read by a parser of Prometheus, JSON or HTML stays what it is: a name.
#[test]
fn a_name_of_quotes_lines_and_markup_is_inert_wherever_it_is_told() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let mut subscriber = Subscriber::connect(&server);
    let group = (HOSTILE, HOSTILE);
    subscriber.join("1", group);
    sdk.set(group, HOSTILE, json!({HOSTILE: HOSTILE}));

    let metrics = get(admin, "/metrics").body;
    assert!(!metrics.contains("onerror"), "{metrics}");
    let groups = json_at(admin, "/admin/groups");
    let row = &rows(&groups, "groups")[0];
    assert_eq!(
        (&row["stream"], &row["group"]),
        (&json!(HOSTILE), &json!(HOSTILE))
    );
    let sockets = json_at(admin, "/admin/sockets");
    assert_eq!(
        rows(&sockets, "sockets")[0]["groups"],
        json!([[HOSTILE, HOSTILE]])
    );
    let shown = json_at(
        admin,
        &format!("/admin/group/{HOSTILE_ESCAPED}/{HOSTILE_ESCAPED}"),
    );
    let item = &rows(&shown, "items")[0];
    assert_eq!(item["id"], HOSTILE);
    assert_eq!(item["value"], json!({HOSTILE: HOSTILE}));
    for path in ["/admin/groups", "/admin/sockets"] {
        let answer = get(admin, path);
        assert!(
            answer.head.contains("content-type: application/json"),
            "{answer:?}"
        );
        assert!(
            answer.head.contains("x-content-type-options: nosniff"),
            "{answer:?}"
        );
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'self'"),
            "{answer:?}"
        );
    }
    // What is said of a path that is not there does not repeat it.
    let missing = get(admin, &format!("/{HOSTILE_ESCAPED}?{HOSTILE_ESCAPED}=1"));
    assert!(
        missing.status == 404 && !missing.body.contains("onerror"),
        "{missing:?}"
    );
}

/// Series of that server's metrics: family and labels, and how many there are of each family.
fn series(metrics: &str) -> BTreeMap<String, usize> {
    let lines = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut families = BTreeMap::new();
    for line in lines {
        let end = line.find(['{', ' ']).unwrap();
        *families.entry(line[..end].to_owned()).or_default() += 1;
    }
    families
}

#[test]
fn there_are_as_many_series_with_ten_thousand_groups_as_with_ten() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let fill = |sdk: &mut SdkWorker, from: usize, to: usize| {
        for n in from..to {
            let (group, item) = (format!("g{n}"), format!("i{n}"));
            sdk.void("stream::set", set_input(("many", &group), &item, json!(n)));
        }
        sdk.settle();
    };
    let mut subscriber = Subscriber::connect(&server);
    fill(&mut sdk, 0, 10);
    subscriber.join("1", ("many", "g0"));
    let few = series(&get(admin, "/metrics").body);
    fill(&mut sdk, 10, 10_000);
    for n in 1..100 {
        subscriber.join(&format!("s{n}"), ("many", &format!("g{n}")));
    }
    wait_until("all groups are counted", || {
        json_at(admin, "/admin/overview")["figures"]["groups"] == 10_000
    });
    let many = series(&get(admin, "/metrics").body);
    assert_eq!(few, many);
    assert!(few.values().sum::<usize>() > 250, "{few:?}");
    let groups = json_at(admin, "/admin/groups?limit=100000");
    assert_eq!(groups["total"], 10_000);
    assert_eq!(rows(&groups, "groups").len(), 200, "rows are bounded");
}

#[test]
fn streams_and_their_groups_are_found_by_name_a_page_at_a_time() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    for stream in ["chat", "game", HOSTILE] {
        for n in 0..25 {
            sdk.set((stream, &format!("room-{n:02}")), "i", json!(n));
        }
    }
    let names = |shown: &Value, rows_of: &str, key: &str| -> Vec<String> {
        let rows = rows(shown, rows_of);
        rows.iter()
            .map(|row| row[key].as_str().unwrap().to_owned())
            .collect()
    };
    let streams = json_at(admin, "/admin/streams");
    assert_eq!(
        names(&streams, "streams", "stream"),
        [HOSTILE, "chat", "game"]
    );
    assert_eq!(streams["streams"][1]["groups"], 25);
    assert_eq!(streams["next"], Value::Null);
    let found = json_at(admin, "/admin/streams?contains=onerror%3D");
    assert_eq!(names(&found, "streams", "stream"), [HOSTILE]);
    let first = json_at(admin, "/admin/streams?limit=1");
    assert_eq!(first["next"], HOSTILE);

    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/admin/groups?sort=name&stream=chat&limit=10&after={after}");
        let page = json_at(admin, &path);
        all.extend(names(&page, "groups", "group"));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("room-{n:02}")).collect();
    assert_eq!(all, expected);
    let found = json_at(admin, "/admin/groups?sort=name&stream=game&contains=-1");
    assert_eq!(names(&found, "groups", "group").len(), 10);
    assert_eq!(found["groups"][0]["items"], 1, "{found}");
    let none = json_at(admin, "/admin/groups?sort=name&stream=nobody");
    assert_eq!(none["groups"], json!([]));
}

#[test]
fn any_name_leads_to_its_group_by_the_query_and_a_value_is_told_as_it_was_written() {
    let (server, admin) = start();
    let mut sdk = SdkWorker::connect(&server);
    let value = r#"{"z":12345678901234567890,"a":1.50}"#;
    for (stream, group) in [("..", "."), ("", ""), ("a/b", "%2F"), (HOSTILE, "&=#?+ ")] {
        let set = json!({"stream_name": stream, "group_id": group, "item_id": "i"}).to_string();
        let set = format!(r#"{},"data":{value}}}"#, &set[..set.len() - 1]);
        let own = format!("origin: http://{admin}\r\n");
        assert_eq!(
            post(admin, "/admin/set", &own, &set).status,
            200,
            "{stream} {group}"
        );
        let escaped =
            |name: &str| -> String { name.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let names = format!("stream={}&group={}", escaped(stream), escaped(group));
        let shown = json_at(admin, &format!("/admin/group?{names}&as=text"));
        assert_eq!(
            (&shown["stream"], &shown["group"]),
            (&json!(stream), &json!(group))
        );
        assert_eq!(shown["items"][0]["text"], value);
        let raw = get(admin, &format!("/admin/group?{names}")).body;
        assert!(raw.contains(&format!("\"value\":{value}")), "{raw}");
        let listed = json_at(
            admin,
            &format!("/admin/groups?sort=name&stream={}", escaped(stream)),
        );
        assert_eq!(listed["groups"][0]["group"], group, "{listed}");
    }
    assert_eq!(rows(&json_at(admin, "/admin/streams"), "streams").len(), 4);
    sdk.settle();
    for query in ["", "?stream=s", "?stream=s&group=g&as=x"] {
        assert_eq!(
            get(admin, &format!("/admin/group{query}")).status,
            400,
            "{query}"
        );
    }
}
