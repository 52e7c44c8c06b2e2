//! YAML text into a tree in which every key and value knows its place.
//!
//! Types are the 1.2 core's as serde_yaml 0.9 resolves them, for a file must mean here what it
//! means to the reference: `yes` is a text, `017` too, `"3112"` is no number. Typed deserialisation
//! would convert and stop at the first fault, so the tree is built from the parser's events and
//! each key is checked by whoever knows what it should be.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use super::address::shown;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// How deep values may be, aliases followed. The parser has the same bound for what is written out.
const DEPTH_MAX: usize = 255;

/// One value and its place in the text, in bytes.
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Range<usize>,
    /// 1 for a scalar, else one more than the deepest child.
    depth: usize,
}

/// What a node holds.
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    /// Kept as written, for nothing here takes one.
    Decimal(String),
    Text(String),
    List(Vec<Rc<Node>>),
    /// In the order of the file, doubled keys included.
    Mapping(Vec<(Key, Rc<Node>)>),
    /// With a tag that YAML itself does not define, which no key takes.
    Tagged(String),
}

/// A key of a mapping. What is no scalar stands here as `?`, which no known key is.
pub(super) struct Key {
    pub(super) text: String,
    pub(super) at: usize,
}

/// What is wrong with the YAML itself.
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) what: String,
}

/// The value as a message shows it: `"3112" is a text`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("is null"),
            Value::Bool(value) => write!(f, "{value} is a boolean"),
            Value::Integer(value) => write!(f, "{value} is an integer"),
            Value::Decimal(text) => write!(f, "{text} is a decimal number"),
            Value::Text(text) => write!(f, "{:?} is a text", shown(text)),
            Value::List(_) => f.write_str("is a list"),
            Value::Mapping(_) => f.write_str("is a mapping"),
            Value::Tagged(tag) => write!(f, "has the tag {tag}"),
        }
    }
}

/// The one document of `text`; None when it holds nothing. `scalar` hears the place of each scalar,
/// keys included, also of those before a problem.
pub(super) fn parse(
    text: &str,
    mut scalar: impl FnMut(Range<usize>),
) -> Result<Option<Rc<Node>>, Problem> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Problem {
            at: error.marker().byte_offset().unwrap_or(text.len()),
            what: format!("is not YAML: {}", error.info()),
        })?;
        let span = byte_range(&span, text.len());
        match event {
            Event::DocumentStart(..) if builder.root.is_some() => {
                return Err(Problem {
                    at: span.start,
                    what: "a second document begins, expected one".to_owned(),
                });
            }
            Event::Scalar(value, style, anchor, tag) => {
                scalar(span.clone());
                builder.scalar(value.into_owned(), style, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                builder.open(Kind::List, anchor, tag.as_deref(), span.start)
            }
            Event::MappingStart(_, anchor, tag) => {
                builder.open(Kind::Mapping, anchor, tag.as_deref(), span.start)
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(span.end)?,
            Event::Alias(anchor) => builder.alias(anchor, span.start)?,
            _ => {}
        }
    }
    Ok(builder.root)
}

fn byte_range(span: &Span, len: usize) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or(0).min(len);
    start..span.end.byte_offset().unwrap_or(start).clamp(start, len)
}

/// The tree as far as the events have come.
#[derive(Default)]
struct Builder {
    /// The collections that are open, outermost first.
    open: Vec<Open>,
    /// Finished nodes that an alias may name.
    anchored: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

struct Open {
    kind: Kind,
    start: usize,
    anchor: usize,
    tag: Option<String>,
    children: Vec<Rc<Node>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Mapping,
}

impl Builder {
    fn open(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, start: usize) {
        let tag = tag
            .filter(|tag| tag.core_suffix().is_none())
            .map(|tag| tag.to_string());
        self.open.push(Open {
            kind,
            start,
            anchor,
            tag,
            children: Vec::new(),
        });
    }

    fn close(&mut self, end: usize) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let depth = 1 + open
            .children
            .iter()
            .map(|child| child.depth)
            .max()
            .unwrap_or(0);
        let value = match (open.tag, open.kind) {
            (Some(tag), _) => Value::Tagged(tag),
            (None, Kind::List) => Value::List(open.children),
            (None, Kind::Mapping) => Value::Mapping(pairs(open.children)),
        };
        self.add(
            Node {
                value,
                span: open.start..end.max(open.start),
                depth,
            },
            open.anchor,
        )
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Range<usize>,
    ) -> Result<(), Problem> {
        let value = match tag {
            None if style == ScalarStyle::Plain => resolve(text),
            None => Value::Text(text),
            Some(tag) => match tag.core_suffix() {
                Some("str") => Value::Text(text),
                Some(_) => resolve(text),
                None => Value::Tagged(tag.to_string()),
            },
        };
        self.add(
            Node {
                value,
                span,
                depth: 1,
            },
            anchor,
        )
    }

    fn alias(&mut self, anchor: usize, at: usize) -> Result<(), Problem> {
        match self.anchored.get(&anchor) {
            Some(node) => self.place(Rc::clone(node)),
            None => Err(Problem {
                at,
                what: "an alias stands inside what it names".to_owned(),
            }),
        }
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchored.insert(anchor, Rc::clone(&node));
        }
        self.place(node)
    }

    /// Into the innermost open collection. The depth is bounded, for a node is dropped by
    /// recursion.
    fn place(&mut self, node: Rc<Node>) -> Result<(), Problem> {
        if node.depth + self.open.len() > DEPTH_MAX {
            return Err(Problem {
                at: node.span.start,
                what: format!("is nested deeper than {DEPTH_MAX}"),
            });
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

/// Keys and values come by turns.
fn pairs(children: Vec<Rc<Node>>) -> Vec<(Key, Rc<Node>)> {
    let mut pairs = Vec::with_capacity(children.len() / 2);
    let mut children = children.into_iter();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        let text = match &key.value {
            Value::Text(text) | Value::Decimal(text) => text.clone(),
            Value::Integer(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null => "null".to_owned(),
            Value::List(_) | Value::Mapping(_) | Value::Tagged(_) => "?".to_owned(),
        };
        pairs.push((
            Key {
                text,
                at: key.span.start,
            },
            value,
        ));
    }
    pairs
}

/// What a plain scalar is.
fn resolve(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match integer(&text) {
            Some(value) => Value::Integer(value),
            None if is_decimal(&text) => Value::Decimal(text),
            None => Value::Text(text),
        },
    }
}

/// Beyond 128 bits it is a decimal, and refused as one.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => return None,
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None; // a second sign
    }
    i128::from_str_radix(digits, radix)
        .ok()
        .map(|value| sign * value)
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let bytes = digits.as_bytes();
    let has_leading_zero = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].is_ascii_digit();
    let is_plain = bytes
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    is_plain
        && !has_leading_zero
        && digits.parse::<f64>().is_ok()
        && !digits.starts_with(['-', '+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Rc<Node>>, String> {
        parse(text, |_| {}).map_err(|problem| format!("{}: {}", problem.at, problem.what))
    }

    /// The tree in few signs: `'t'` a text, `n` an integer, `d` a decimal.
    fn sketch(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Decimal(text) => format!("d{text}"),
            Value::Text(text) => format!("'{text}'"),
            Value::Tagged(tag) => tag.clone(),
            Value::List(items) => {
                format!(
                    "[{}]",
                    items
                        .iter()
                        .map(|item| sketch(item))
                        .collect::<Vec<_>>()
                        .join(" ")
                )
            }
            Value::Mapping(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}={}", key.text, sketch(value)))
                    .collect();
                format!("{{{}}}", pairs.join(" "))
            }
        }
    }

    #[test]
    fn scalars_have_the_types_that_the_reference_gives_them() {
        for (text, expected) in [
            ("~", "null"),
            ("NULL", "null"),
            ("nULL", "'nULL'"),
            ("True", "true"),
            ("yes", "'yes'"),
            ("off", "'off'"),
            ("3112", "3112"),
            ("-5", "-5"),
            ("+5", "5"),
            ("+-5", "'+-5'"),
            ("0", "0"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("017", "'017'"),
            ("1_000", "'1_000'"),
            ("3112.0", "d3112.0"),
            ("1e3", "d1e3"),
            (".5", "d.5"),
            (".inf", "d.inf"),
            ("inf", "'inf'"),
            ("00.5", "'00.5'"),
            ("1.2.3", "'1.2.3'"),
            ("\"3112\"", "'3112'"),
            ("'~'", "'~'"),
            ("\"\"", "''"),
            ("!!str 5", "'5'"),
            ("!!int \"5\"", "5"),
            ("!secret x", "!secret"),
            ("|\n  a\n  b\n", "'a\nb\n'"),
        ] {
            let text_of_file = format!("- {text}");
            let tree = parsed(&text_of_file).unwrap().unwrap();
            assert_eq!(sketch(&tree), format!("[{expected}]"), "{text}");
        }
    }

    #[test]
    fn collections_keep_their_order_and_what_aliases_name() {
        for (text, expected) in [
            ("a: 1\nb: [x, {c: 2}]\na: 3\n", "{a=1 b=['x' {c=2}] a=3}"),
            ("{\"json\": [1, null]}", "{json=[1 null]}"),
            (
                "a: &x {p: 1}\nb: *x\n<<: *x\n",
                "{a={p=1} b={p=1} <<={p=1}}",
            ),
            ("\u{feff}a: 1\r\nb:\r\n", "{a=1 b=null}"),
            ("? [a]\n: 1\n", "{?=1}"),
            ("---\na: 1\n...\n", "{a=1}"),
        ] {
            assert_eq!(sketch(&parsed(text).unwrap().unwrap()), expected, "{text}");
        }
        for nothing in ["", "# only a comment\n", "\u{feff}"] {
            assert!(parsed(nothing).unwrap().is_none(), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_not_one_bounded_document_is_refused_with_its_place() {
        for (text, expected) in [
            (
                "a: 1\n---\nb: 2\n",
                "5: a second document begins, expected one",
            ),
            ("a: &x [*x]\n", "7: an alias stands inside what it names"),
        ] {
            assert_eq!(parsed(text).err().unwrap(), expected);
        }
        for text in ["a: [1\n", "a: \"x\n", "a: *none\n", "a: b: c\n"] {
            let problem = parsed(text).err().unwrap_or_default();
            assert!(problem.contains("is not YAML: "), "{text}: {problem}");
        }
        let deep = format!(
            "a: &a {}{}\nb: {}*a{}\n",
            "[".repeat(200),
            "]".repeat(200),
            "[".repeat(60),
            "]".repeat(60)
        );
        assert!(
            parsed(&deep)
                .err()
                .unwrap()
                .ends_with("is nested deeper than 255")
        );
    }

    #[test]
    fn alias_bomb_costs_what_it_takes_to_write() {
        let mut text = "a0: &a0 x\n".to_owned();
        for level in 1..100 {
            let below = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{below}, {below}, {below}, {below}]\n");
        }
        assert!(parsed(&text).unwrap().is_some());
    }
}
