//! What was typed: a tree of text, each piece with the place where it was typed.
//!
//! Scalars stay text here. What `0`, `no` or `1e3` means is decided by the field that it
//! is for (`read.rs`), so a password of `0123` stays what it is, and a variable from the
//! environment is read by the same rules as the file.
//!
//! `${NAME}` and `${NAME:-default}` are replaced within scalars, after the YAML was read:
//! a value can so never add a line or a field, whatever it contains.

use super::Problem;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::fmt;

/// The longest file read. A configuration has some dozens of lines; one with filters' own
/// configurations in it may have some hundred.
pub(super) const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The deepest nesting read: settings have five levels, and a filter's own configuration
/// among them as many as a policy may have.
const DEPTH_MAX: usize = 40;

/// How much of a value a message quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// Where a value was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Line and column in the file, both from 1.
    File { line: usize, column: usize },
    /// This environment variable.
    Environment(&'static str),
}

/// A value and where it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Text(Text),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A scalar: as typed, and as meant once variables are filled in.
#[derive(Clone)]
pub(crate) struct Text {
    pub(super) typed: String,
    pub(super) meant: String,
    /// Without quotes: then it may be meant as a number, or as true or false.
    pub(super) is_plain: bool,
}

impl fmt::Debug for Text {
    /// Only as typed: what a variable stood for may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.typed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line, column } => write!(f, "{line}:{column}"),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

impl Node {
    /// The tree of an empty file.
    pub(super) const fn empty() -> Self {
        Self { origin: Origin::File { line: 1, column: 1 }, value: Value::Map(Vec::new()) }
    }

    /// Reads a YAML document, filling in variables from `lookup`.
    ///
    /// # Errors
    ///
    /// The first thing in it that is no YAML, or YAML that a configuration has no use for.
    pub(super) fn parse(
        yaml: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problem> {
        let mut reader = Reader { parser: Parser::new_from_str(yaml), lookup };
        loop {
            let (event, span) = reader.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Self::empty()),
                event => {
                    let root = reader.node(event, span, 0)?;
                    return match root.value {
                        Value::Null => Ok(Self::empty()),
                        Value::Map(_) => Ok(root),
                        _ => Err(Problem::found(&root, "a map of settings")),
                    };
                }
            }
        }
    }

    /// The value at a dotted path such as `a.b[2].c`, if one was typed.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        let names = path.split(['.', '[']).filter(|name| !name.is_empty());
        names.into_iter().try_fold(self, |node, name| match &node.value {
            Value::Map(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            Value::List(items) => items.get(name.strip_suffix(']')?.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Puts a value at a dotted path, in place of what was typed there.
    pub(super) fn put(&mut self, path: &str, node: Self) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(n, r)| (n, Some(r)));
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(fields) = &mut self.value else { return };
        let origin = node.origin;
        let place = fields.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
            fields.push((name.to_owned(), Self { origin, value: Value::Null }));
            fields.len() - 1
        });
        match rest {
            None => fields[place].1 = node,
            Some(rest) => fields[place].1.put(rest, node),
        }
    }

    /// Takes away what was typed at a dotted path.
    pub(super) fn remove(&mut self, path: &str) {
        let Value::Map(fields) = &mut self.value else { return };
        match path.split_once('.') {
            None => fields.retain(|(key, _)| key != path),
            Some((name, rest)) => {
                for (_, node) in fields.iter_mut().filter(|(key, _)| key == name) {
                    node.remove(rest);
                }
            }
        }
    }

    /// What stands here, in a few words; a variable is named, never what it stood for.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Text(text) if text.typed.chars().count() > QUOTED_CHARS_MAX => {
                let start: String = text.typed.chars().take(QUOTED_CHARS_MAX).collect();
                format!("{start:?}…")
            }
            Value::Text(text) => format!("{:?}", text.typed),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(next)) => Ok(next),
            Some(Err(scan)) => {
                let marker = scan.marker();
                let origin = Origin::File { line: marker.line(), column: marker.col() + 1 };
                Err(Problem::new(format!("this is no YAML: {}", scan.info())).at(origin))
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let origin = Origin::File { line: span.start.line(), column: span.start.col() + 1 };
        let refuse = |what: &str| Err(Problem::new(what.to_owned()).at(origin));
        if depth > DEPTH_MAX {
            return refuse("nested deeper than any setting is");
        }
        let value = match event {
            Event::Alias(_) => return refuse("found an alias (*name); write the value out"),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return refuse("found a tag (!name); settings need none");
            }
            Event::Scalar(text, style, _, None) => self.scalar(&text, style, origin)?,
            Event::SequenceStart(_, None) => self.list(depth)?,
            Event::MappingStart(_, None) => self.map(depth)?,
            _ => return refuse("the document ends too early"),
        };
        Ok(Node { origin, value })
    }

    fn scalar(&self, typed: &str, style: ScalarStyle, origin: Origin) -> Result<Value, Problem> {
        if style == ScalarStyle::Plain && matches!(typed, "" | "~" | "null") {
            return Ok(Value::Null);
        }
        let meant = fill_in(typed, self.lookup).map_err(|problem| problem.at(origin))?;
        let is_plain = style == ScalarStyle::Plain;
        Ok(Value::Text(Text { typed: typed.to_owned(), meant, is_plain }))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(fields));
            }
            let key = self.node(event, span, depth + 1)?;
            let name = match &key.value {
                Value::Text(text) => text.typed.clone(),
                _ => return Err(Problem::found(&key, "the name of a setting")),
            };
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(Problem::new("is set twice".to_owned()).within(&name).at(key.origin));
            }
            let (event, span) = self.next()?;
            let mut node = self.node(event, span, depth + 1).map_err(|p| p.within(&name))?;
            if matches!(node.value, Value::Null) {
                // An empty value's own place is somewhere past the colon; its name's is of more use.
                node.origin = key.origin;
            }
            fields.push((name, node));
        }
    }
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for a plain `${`.
fn fill_in(typed: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let mut meant = String::with_capacity(typed.len());
    let mut rest = typed;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            meant.push_str(&rest[..start]);
            meant.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        meant.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let Some(end) = after.find('}') else {
            return Err(Problem::new("found ${ without its }".to_owned())
                .hint("write $${ for a plain ${".to_owned()));
        };
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Problem::new(format!("${{{name}}} names no environment variable"))
                .hint("write ${NAME}, ${NAME:-default}, or $${ for a plain ${".to_owned()));
        }
        // As in a shell, `:-` takes an empty variable for one that is not set.
        let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => meant.push_str(&value),
            (None, Some(default)) => meant.push_str(default),
            (None, None) => {
                return Err(Problem::new(format!("the environment variable {name} is not set"))
                    .hint(format!("set it, or give a default: ${{{name}:-default}}")));
            }
        }
        rest = &after[end + 1..];
    }
    meant.push_str(rest);
    Ok(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value: [x]".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in_and_cannot_add_structure() {
        for (typed, meant) in [
            ("plain", "plain"),
            ("${SET}", "value: [x]"),
            ("a${SET}b${EMPTY}c", "avalue: [x]bc"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-}", ""),
            ("$${SET}", "${SET}"),
            ("$5", "$5"),
        ] {
            assert_eq!(fill_in(typed, &lookup).unwrap(), meant, "{typed}");
        }
        let tree = Node::parse("a: ${SET}\n", &lookup).unwrap();
        let Value::Text(text) = &tree.at("a").unwrap().value else { panic!("{tree:?}") };
        assert_eq!(text.meant, "value: [x]");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let problem = Node::parse("redis:\n  db: ${NONE}\n", &lookup).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "2:7: redis.db: the environment variable NONE is not set\n  hint: set it, or give a default: ${NONE:-default}"
        );
    }

    #[test]
    fn what_stands_for_a_variable_is_never_shown() {
        let tree = Node::parse("a: ${SET}\n", &lookup).unwrap();
        assert!(!format!("{tree:?}").contains("[x]"), "{tree:?}");
        assert_eq!(tree.at("a").unwrap().describe(), "\"${SET}\"");
    }

    #[test]
    fn paths_are_put_and_removed() {
        let mut tree = Node::parse("redis:\n  db: 1\n  url: x\n", &lookup).unwrap();
        let node = Node { origin: Origin::Environment("E"), value: Value::Null };
        tree.put("redis.db", node.clone());
        tree.put("http.request_timeout", node);
        tree.remove("redis.url");
        assert_eq!(tree.at("redis.db").unwrap().origin, Origin::Environment("E"));
        assert!(tree.at("http.request_timeout").is_some());
        assert!(tree.at("redis.url").is_none());
    }

    #[test]
    fn paths_lead_into_lists() {
        let tree = Node::parse("a:\n- b: 1\n- b: 2\n", &lookup).unwrap();
        assert_eq!(tree.at("a[1].b").unwrap().origin, Origin::File { line: 3, column: 6 });
        assert!(tree.at("a[2].b").is_none() && tree.at("a.b").is_none());
    }

    #[test]
    fn unreadable_files_say_where() {
        for (yaml, message) in [
            ("a: 1\na: 2\n", "2:1: a: is set twice"),
            ("- a\n", "1:1: found a list, wanted a map of settings"),
            ("a: *b\n", "1:4: this is no YAML: while parsing node, found unknown anchor"),
            ("a: !x b\n", "1:4: a: found a tag (!name); settings need none"),
        ] {
            assert_eq!(Node::parse(yaml, &lookup).unwrap_err().to_string(), message);
        }
        for empty in ["", "# nothing\n", "---\n", "~"] {
            assert!(Node::parse(empty, &lookup).is_ok(), "{empty:?}");
        }
    }
}
