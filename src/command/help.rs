//! `help`: the pages of `src/assets/help`, laid out for a terminal.
//!
//! The pages are the Markdown that the README links to, so that nothing is told twice. Knows only what of
//! Markdown they use: headings, paragraphs, lists, tables, code.

use std::process::ExitCode;

use anyhow::bail;

use super::output::say;

/// Columns of a line, but for code and for words that are longer.
const WIDTH: usize = 80;

/// Name and page, as they are listed.
const TOPICS: [(&str, &str); 10] = [
    ("config", include_str!("../assets/help/config.md")),
    ("durability", include_str!("../assets/help/durability.md")),
    ("redis", include_str!("../assets/help/redis.md")),
    ("auth", include_str!("../assets/help/auth.md")),
    ("triggers", include_str!("../assets/help/triggers.md")),
    ("presence", include_str!("../assets/help/presence.md")),
    ("limits", include_str!("../assets/help/limits.md")),
    ("metrics", include_str!("../assets/help/metrics.md")),
    ("tls", include_str!("../assets/help/tls.md")),
    ("engine", include_str!("../assets/help/engine.md")),
];

/// Prints a page, or what pages there are.
pub(crate) fn help(topic: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(topic) = topic else {
        let mut list = "iii-stream help TOPIC, with one of these:\n".to_owned();
        for (name, page) in TOPICS {
            let about = page.lines().next().and_then(|line| line.split_once(": "));
            list += &format!("  {name:<11} {}\n", about.map_or("", |(_, about)| about));
        }
        list += "Flags, ports, signals, exit codes: iii-stream --help\n";
        say(&list)?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some((_, page)) = TOPICS.into_iter().find(|(name, _)| *name == topic) else {
        let names = TOPICS.map(|(name, _)| name);
        bail!(
            "{} is no topic of help, expected {}",
            super::output::name(topic),
            names.join(", ")
        );
    };
    say(&laid_out(page))?;
    Ok(ExitCode::SUCCESS)
}

/// The page for a terminal.
fn laid_out(page: &str) -> String {
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                out += format!("    {code}").trim_end();
                out.push('\n');
            }
        } else if let Some(heading) = line.strip_prefix("## ") {
            out += &format!("{}\n", heading.to_uppercase());
        } else if let Some(title) = line.strip_prefix("# ") {
            out += &format!("{title}\n");
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(line));
            }
            push_table(&mut out, rows);
        } else if line.is_empty() {
            out.push('\n');
        } else {
            let begins = ["- ", "|", "```", "#"];
            let goes_on =
                |line: &&str| !line.is_empty() && !begins.iter().any(|it| line.starts_with(it));
            let mut text = line.to_owned();
            while let Some(line) = lines.next_if(goes_on) {
                text.push(' ');
                text += line.trim_start();
            }
            let hang = if text.starts_with("- ") { 2 } else { 0 };
            push_wrapped(&mut out, &said(&text), 0, hang);
        }
    }
    out
}

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| said(cell.trim())).collect()
}

/// Side by side where all of them fit into a line; else each under the first of its row.
fn push_table(out: &mut String, mut rows: Vec<Vec<String>>) {
    let header = rows.remove(0);
    rows.retain(|row| !row[0].starts_with("---"));
    let columns = header.len();
    let width_of = |column: usize| {
        let cells = rows.iter().chain([&header]).map(|row| &row[column]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width_of).collect();
    let has_names = header.iter().any(|name| !name.is_empty());
    if widths.iter().sum::<usize>() + 2 * columns <= WIDTH {
        for row in has_names.then_some(&header).into_iter().chain(&rows) {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            *out += format!("  {}", line.join("  ")).trim_end();
            out.push('\n');
        }
        return;
    }
    if !header[0].is_empty() {
        *out += &format!("{}:\n", header[0]);
    }
    for row in &rows {
        push_wrapped(out, &row[0], 2, 2);
        for (name, cell) in header.iter().zip(row).skip(1) {
            match (&**name, &**cell) {
                (_, "") => {}
                ("", cell) => push_wrapped(out, cell, 6, 0),
                (name, cell) => push_wrapped(out, &format!("{name}: {cell}"), 6, 0),
            }
        }
    }
}

/// Words up to the width, indented; lines but the first by so much more.
fn push_wrapped(out: &mut String, text: &str, indent: usize, hang: usize) {
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        let width = line.chars().count() + 1 + word.chars().count();
        if !is_empty && width > WIDTH {
            *out += &format!("{line}\n");
            line = " ".repeat(indent + hang);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    *out += &format!("{line}\n");
}

/// Without what Markdown marks. A link to another page is the command that prints it.
fn said(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (label, target, after))) = link(rest) {
        out += before;
        out += &match target.strip_suffix(".md") {
            Some(topic) => format!("`iii-stream help {topic}`"),
            None => label.to_owned(),
        };
        rest = after;
    }
    out += rest;
    out.replace("**", "")
}

/// What stands before the next link, and its label, its target and what stands behind it.
fn link(text: &str) -> Option<(&str, (&str, &str, &str))> {
    let middle = text.find("](")?;
    let begin = text[..middle].rfind('[')?;
    let target = &text[middle + 2..];
    let end = target.find(')')?;
    let label = &text[begin + 1..middle];
    Some((&text[..begin], (label, &target[..end], &target[end + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_laid_out_for_a_terminal() {
        let page = "\
# t: a page

A paragraph that is **longer** than a line of a terminal has columns, so that it goes on in
`the next`: [redis](redis.md), [elsewhere](http://e).

```yaml
   kept:  as it is
```

## Tables
| a | b |
|---|---|
| 1 | `two` |

| setting | default | |
|---|---|---|
| `x.y` | 5 | what it does is told at such length that no line of a terminal would take it |
- a list whose items go on in a line of their own, with what Markdown marks taken away
  from them
- and `another`
";
        let expected = "\
t: a page

A paragraph that is longer than a line of a terminal has columns, so that it
goes on in `the next`: `iii-stream help redis`, elsewhere.

       kept:  as it is

TABLES
  a  b
  1  `two`

setting:
  `x.y`
      default: 5
      what it does is told at such length that no line of a terminal would take
      it
- a list whose items go on in a line of their own, with what Markdown marks
  taken away from them
- and `another`
";
        assert_eq!(laid_out(page), expected);
    }

    #[test]
    fn no_line_of_a_page_is_wider_than_a_terminal_but_for_code_and_long_words() {
        for (name, page) in TOPICS {
            assert!(page.starts_with(&format!("# {name}: ")), "{name}");
            let words = page.split("```").step_by(2).collect::<String>();
            for line in laid_out(&words).lines() {
                let is_long = line.chars().count() > WIDTH && line.trim().contains(' ');
                assert!(!is_long, "{name}: {line}");
            }
        }
    }
}
