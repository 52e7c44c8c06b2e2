//! The files of the server, of its program and of the load program name each other in no circle but those
//! that stand in [`ALLOWED`].
//!
//! An arrow goes from a file to the file that defines what it imports, whoever passes the name on. In
//! each folder an entry is a file or a folder with all that is in it. A module and the file that
//! declares it are one thing in two files, so arrows between them do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, sources_in};

/// The circles that may be: the folder, and the entries of it that name each other. Whoever opens one
/// takes it off this list.
const ALLOWED: &[(&str, &[&str])] = &[];

/// What is not of the library but of the program that names it: the root of that is `main`.
const OF_PROGRAM: [&str; 2] = ["main", "command"];

/// The way to a module, from the root of the crate.
type Path = Vec<String>;

/// What one file says about others.
#[derive(Default)]
struct Module {
    /// What each imported name stands for.
    imports: BTreeMap<String, Path>,
    /// Everything that is named, as a whole path.
    named: BTreeSet<Path>,
}

/// Every module of a crate, by its path.
struct Modules(BTreeMap<Path, Module>);

impl Modules {
    /// The library in that folder.
    fn read(folder: &str) -> Modules {
        Modules::read_those(folder, |module| !OF_PROGRAM.contains(&module))
    }

    fn read_those(folder: &str, is_in: impl Fn(&str) -> bool) -> Modules {
        let all: Vec<Source> = sources_in(folder);
        let of_tests = modules_of_tests(&all);
        let is_read = |source: &&Source| {
            let path = path_of(source);
            let is_test = of_tests.iter().any(|test| path.starts_with(test));
            !is_test && is_in(&source.module)
        };
        let read = all.iter().filter(is_read);
        Modules(
            read.map(|source| (path_of(source), Module::read(source)))
                .collect(),
        )
    }

    /// The file that defines what a path names: imports are followed.
    fn file_of(&self, path: &[String], depth: usize) -> Option<Path> {
        let known = |len: &usize| self.0.contains_key(&path[..*len]);
        let len = (0..=path.len()).rev().find(known)?;
        let (module, rest) = path.split_at(len);
        if let Some((name, behind)) = rest.split_first()
            && let Some(import) = self.0[module].imports.get(name)
            && depth > 0
        {
            let further: Path = import.iter().chain(behind).cloned().collect();
            return self.file_of(&further, depth - 1);
        }
        Some(module.to_vec())
    }

    /// Which entry of which folder names which other one.
    fn arrows(&self) -> BTreeMap<Path, BTreeMap<Path, BTreeSet<Path>>> {
        let mut folders: BTreeMap<Path, BTreeMap<Path, BTreeSet<Path>>> = BTreeMap::new();
        for (from, module) in &self.0 {
            for named in &module.named {
                let Some(to) = self.file_of(named, 8) else {
                    continue;
                };
                let pairs = from.iter().zip(&to);
                let common = pairs.take_while(|(one, other)| one == other).count();
                if common < from.len().min(to.len()) {
                    let folder = folders.entry(from[..common].to_vec()).or_default();
                    let arrows = folder.entry(from[..=common].to_vec()).or_default();
                    arrows.insert(to[..=common].to_vec());
                }
            }
        }
        folders
    }

    /// The entries that name each other, by folder.
    fn circles(&self) -> Vec<(String, Vec<String>)> {
        let mut circles = Vec::new();
        for (folder, arrows) in self.arrows() {
            let reached: BTreeMap<&Path, BTreeSet<&Path>> = arrows
                .keys()
                .map(|entry| (entry, reached_from(entry, &arrows)))
                .collect();
            let mut seen = BTreeSet::new();
            for (entry, all) in &reached {
                let comes_back = |other: &&&Path| {
                    let back = reached.get(**other);
                    back.is_some_and(|back| back.contains(*entry))
                };
                let circle: Vec<&Path> = all
                    .iter()
                    .copied()
                    .filter(|path| comes_back(&path))
                    .collect();
                if !circle.is_empty() && seen.insert(circle.clone()) {
                    let name = |path: &&Path| path.last().cloned().unwrap_or_default();
                    circles.push((folder.join("/"), circle.iter().map(name).collect()));
                }
            }
        }
        circles
    }
}

fn reached_from<'a>(
    from: &'a Path,
    arrows: &'a BTreeMap<Path, BTreeSet<Path>>,
) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(entry) = open.pop() {
        for next in arrows.get(entry).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

impl Module {
    fn read(source: &Source) -> Module {
        let path = path_of(source);
        let mut module = Module::default();
        for import in imports(&source.code) {
            for (name, said) in import {
                let whole = absolute(&said, &path);
                if let Some(whole) = &whole {
                    module.named.insert(whole.clone());
                }
                // A path that begins with no root begins with a module below, or with a foreign crate.
                let below = || path.iter().chain(&said).cloned().collect();
                module.imports.insert(name, whole.unwrap_or_else(below));
            }
        }
        let inline = inline_paths(&source.code);
        module
            .named
            .extend(inline.iter().filter_map(|said| absolute(said, &path)));
        module
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
fn path_of(source: &Source) -> Path {
    let parts = source.path.iter().map(|part| part.to_string_lossy());
    let parts: Vec<_> = parts.collect();
    let root = parts.iter().rposition(|part| part == "src");
    let below = &parts[root.map_or(0, |root| root + 1)..];
    let names = below
        .iter()
        .map(|part| part.trim_end_matches(".rs").to_owned());
    names
        .filter(|name| !["mod", "lib", "main"].contains(&&**name))
        .collect()
}

/// Modules that are compiled for tests only.
fn modules_of_tests(sources: &[Source]) -> Vec<Path> {
    let mut found = Vec::new();
    for source in sources {
        for (at, marked) in source.code.match_indices("#[cfg(test)]") {
            let behind = source.code[at + marked.len()..].trim_start();
            let behind = behind
                .trim_start_matches("pub ")
                .trim_start_matches("pub(super) ");
            if let Some(name) = behind.strip_prefix("mod ").and_then(super::word) {
                let mut path = path_of(source);
                path.push(name);
                found.push(path);
            }
        }
    }
    found
}

/// From the root of the crate. None: it begins elsewhere.
fn absolute(said: &[String], at: &[String]) -> Option<Path> {
    let (first, rest) = said.split_first()?;
    let mut base = match &**first {
        "crate" => Vec::new(),
        "self" | "super" => at.to_vec(),
        _ => return None,
    };
    let mut rest = rest;
    if first == "super" {
        base.pop();
        while let Some((_, behind)) = rest.split_first().filter(|(next, _)| *next == "super") {
            base.pop();
            rest = behind;
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Each `use`, as the names that it makes and the paths that they stand for.
fn imports(code: &str) -> Vec<Vec<(String, Path)>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = next_use(rest) {
        let text = &rest[at..];
        let end = text.find(';').unwrap_or(text.len());
        let mut names = Vec::new();
        tree(&text[..end], &[], &mut names);
        found.push(names);
        rest = &text[end..];
    }
    found
}

/// Where the path of the next `use` begins.
fn next_use(code: &str) -> Option<usize> {
    let begins = |(at, word): &(usize, &str)| {
        let line = code[..*at].rfind('\n').map_or(0, |end| end + 1);
        let before = code[line..*at].trim();
        let is_first = before.is_empty() || before.starts_with("pub");
        is_first.then_some(at + word.len())
    };
    code.match_indices("use ").find_map(|found| begins(&found))
}

/// `a::{b, c as d}`: b is `a::b`, d is `a::c`.
fn tree(text: &str, before: &[String], names: &mut Vec<(String, Path)>) {
    let text = text.trim();
    let (path, group) = match text.split_once('{') {
        Some((path, group)) => (path, group.rsplit_once('}').map(|(group, _)| group)),
        None => (text, None),
    };
    let (path, alias) = match path.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim())),
        None => (path, None),
    };
    let parts = path
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let mut whole: Path = before
        .iter()
        .cloned()
        .chain(parts.map(str::to_owned))
        .collect();
    if let Some(group) = group {
        for entry in entries(group) {
            tree(entry, &whole, names);
        }
        return;
    }
    whole.pop_if(|last| last == "self" || last == "*");
    if let Some(last) = whole.last().cloned() {
        names.push((alias.map_or(last, str::to_owned), whole));
    }
}

/// What stands between the commas of a group, whatever groups are in it.
fn entries(group: &str) -> Vec<&str> {
    let (mut found, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[begin..]);
    found
}

/// Paths that begin with a root, wherever they stand in the code.
fn inline_paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let begins = |last: char| !last.is_alphanumeric() && !"_:".contains(last);
            if code[..at].chars().next_back().is_none_or(begins) {
                let is_part = |one: char| one.is_alphanumeric() || "_:".contains(one);
                let len = code[at..].find(|one| !is_part(one));
                let text = &code[at..at + len.unwrap_or(code.len() - at)];
                let parts = text.split("::").filter(|part| !part.is_empty());
                found.push(parts.map(str::to_owned).collect());
            }
        }
    }
    found
}

#[test]
fn files_name_each_other_in_no_circle_but_those_that_may_be() {
    let circles: BTreeSet<String> = Modules::read("src")
        .circles()
        .iter()
        .map(|(folder, circle)| format!("{folder}: {}", circle.join(", ")))
        .collect();
    let allowed: BTreeSet<String> = ALLOWED
        .iter()
        .map(|(folder, circle)| format!("{folder}: {}", circle.join(", ")))
        .collect();
    let new: Vec<_> = circles.difference(&allowed).collect();
    assert!(new.is_empty(), "circles that may not be: {new:#?}");
    let open: Vec<_> = allowed.difference(&circles).collect();
    assert!(
        open.is_empty(),
        "no circles any more, take them off the list: {open:#?}"
    );
}

#[test]
fn files_of_the_program_name_each_other_in_no_circle() {
    let program = Modules::read_those("src", |module| OF_PROGRAM.contains(&module));
    let files = ["serve", "reload"].map(|name| vec![name.to_owned()]);
    assert!(files.iter().all(|file| program.0.contains_key(file)));
    assert_eq!(program.circles(), []);
}

#[test]
fn files_of_the_load_program_name_each_other_in_no_circle() {
    assert_eq!(Modules::read("loadtest/src").circles(), []);
}

#[test]
fn imports_lead_to_where_a_name_is_defined() {
    let module = |path: &str, code: &str| {
        let path = std::path::PathBuf::from(path);
        let source = Source {
            path,
            module: String::new(),
            code: code.to_owned(),
        };
        (path_of(&source), Module::read(&source))
    };
    let modules = Modules(BTreeMap::from([
        module("src/lib.rs", ""),
        module(
            "src/a/mod.rs",
            "mod one;\nmod two;\npub use one::{Name, Other as Alias};",
        ),
        module("src/a/one.rs", "use super::two;\nfn x() -> two::X {}"),
        module("src/a/two.rs", "use super::{\n    Alias,\n};"),
        module("src/b.rs", "use crate::a::Name;\nfn y() -> super::c::Z {}"),
        module("src/c.rs", "struct Z;"),
    ]));
    let circle = ["one", "two"].map(str::to_owned).to_vec();
    assert_eq!(modules.circles(), [("a".to_owned(), circle)]);
    let arrows = &modules.arrows()[&Path::new()];
    let to = |name: &str| vec![name.to_owned()];
    assert_eq!(arrows[&to("b")], BTreeSet::from([to("a"), to("c")]));
}
