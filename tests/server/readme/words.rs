//! What pages say in sentences, tables and links: commands, settings, defaults, topics, places.

use clap::Parser;
use iii_stream::cli::Cli;
use serde_json::Value;

use super::desk::Desk;
use super::{TOPICS, blocks, page, pages, path_of, root};

#[test]
fn the_readme_is_short_and_says_things_in_lines_that_can_be_read() {
    let text = page("README.md");
    assert!(text.lines().count() <= 400, "{}", text.lines().count());
    for (name, text) in pages() {
        let prose = blocks(&text)
            .into_iter()
            .fold(text, |text, block| text.replace(&block.text, ""));
        for line in prose.lines().filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 170, "{name}: {line}");
        }
    }
}

#[test]
fn help_prints_each_topic_and_says_which_there_are() {
    let desk = Desk::new("help");
    let list = desk.run("iii-stream help");
    let readme = page("README.md");
    for topic in TOPICS {
        assert!(list.contains(&format!("\n  {topic} ")), "{list}");
        assert!(
            readme.contains(&format!("[{topic}](src/assets/help/{topic}.md)")),
            "{topic}"
        );
        let told = desk.run(&format!("iii-stream help {topic}"));
        // Every word of code in the page is in what is printed.
        let text = page(&format!("{topic}.md"));
        let flat: String = told.split_whitespace().collect();
        let prose = blocks(&text)
            .into_iter()
            .fold(text, |text, block| text.replace(&block.text, ""));
        for code in prose.replace("```", "").split('`').skip(1).step_by(2) {
            let code: String = code.split_whitespace().collect();
            assert!(flat.contains(&code) || code.len() <= 4, "{topic}: {code}");
        }
    }
    let listed = std::fs::read_dir(root().join("src/assets/help"))
        .unwrap()
        .count();
    assert_eq!(listed, TOPICS.len());
    let output = desk.shell("iii-stream help 'no such'").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "\"no such\" is no topic of help, expected {}\n",
        TOPICS.join(", ")
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

/// Code within sentences and tables, of a page without its blocks.
fn spans(text: &str) -> Vec<String> {
    let prose = blocks(text)
        .into_iter()
        .fold(text.to_owned(), |text, block| text.replace(&block.text, ""));
    let prose = prose.replace("```", "").replace('\n', " ");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_that_a_sentence_names_is_one() {
    let mut count = 0;
    for (name, text) in pages() {
        for span in spans(&text) {
            if !span.starts_with("iii-stream ") && span != "iii-stream" {
                continue;
            }
            let words = span.split_whitespace().map(|word| match word {
                "TOPIC" => "limits",
                "WHAT" => "systemd",
                "COMMAND" => "top",
                other => other,
            });
            if let Err(error) = Cli::try_parse_from(words) {
                use clap::error::ErrorKind::{DisplayHelp, MissingRequiredArgument};
                // A command may be named without what it needs.
                let is_named =
                    error.kind() == MissingRequiredArgument && span.split(' ').count() == 2;
                assert!(
                    is_named || error.kind() == DisplayHelp,
                    "{name}: {span}: {error}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// A default as a table says it, as `check` shows it. None: it is told in words.
fn default_of(text: &str) -> Option<String> {
    let text = text.trim().trim_matches('`').trim();
    let text = text.strip_suffix(" MiB").map_or(text.to_owned(), |mib| {
        (mib.parse::<u64>().unwrap() * 1024 * 1024).to_string()
    });
    let text = text.strip_suffix(" KiB").map_or(text.clone(), |kib| {
        (kib.parse::<u64>().unwrap() * 1024).to_string()
    });
    let is_value = !text.contains(' ') && !text.contains('{');
    is_value.then_some(text)
}

#[test]
fn tables_name_every_setting_and_its_default() {
    let desk = Desk::new("defaults");
    let told: Value = serde_json::from_str(&desk.run("iii-stream check --json")).unwrap();
    let settings = told["settings"].as_array().unwrap();
    let mut named = Vec::new();
    for (page, text) in pages() {
        let mut is_settings = false;
        for line in text.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, names, defaults, ..] = cells[..] else {
                is_settings = false;
                continue;
            };
            if defaults == "default" {
                is_settings = true;
                continue;
            }
            if !is_settings || names.starts_with("---") {
                continue;
            }
            let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
            let each: Vec<&str> = defaults.split(", ").collect();
            for (index, name) in names.iter().enumerate() {
                let ends = format!(".{name}");
                let is_it = |setting: &&Value| setting["key"].as_str().unwrap().ends_with(&ends);
                let Some(setting) = settings.iter().find(is_it) else {
                    let is_part = |setting: &Value| {
                        setting["key"]
                            .as_str()
                            .unwrap()
                            .contains(&format!("{ends}."))
                    };
                    assert!(settings.iter().any(is_part), "{page}: {name} is no setting");
                    named.push((*name).to_owned());
                    continue;
                };
                named.push((*name).to_owned());
                let shown = match each.len() == names.len() {
                    true => each[index],
                    false => each[0],
                };
                let value = &setting["value"];
                let value = value.as_str().map_or(value.to_string(), str::to_owned);
                let is_from_here = setting["origin"] != "default";
                let holds = match default_of(shown) {
                    None => true,
                    Some(none) if none == "none" || none == "none:" => {
                        matches!(&*value, "none" | "null" | "[]")
                    }
                    Some(default) => default == value,
                };
                assert!(
                    holds || is_from_here,
                    "{page}: {name} = {value}, the page says {shown}"
                );
            }
        }
    }
    // What a file shows in its `config:` is the engine's; all else is told.
    for setting in settings {
        let key = setting["key"].as_str().unwrap();
        let Some((_, key)) = key.split_once(".server.") else {
            continue;
        };
        let is_named = |name: &String| key == *name || key.starts_with(&format!("{name}."));
        assert!(named.iter().any(is_named), "no page has a row for {key}");
    }
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in pages() {
        let folder = path_of(&name);
        let folder = folder.parent().unwrap();
        let headings: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .replace(' ', "-")
            })
            .collect();
        for after in text.split("](").skip(1) {
            let target = after.split(')').next().unwrap();
            match target.strip_prefix('#') {
                Some(anchor) => assert!(headings.iter().any(|it| it == anchor), "{name}: {target}"),
                None => assert!(folder.join(target).exists(), "{name}: {target}"),
            }
        }
    }
}
