//! Policy files: YAML for people, JSON for machines, with the place of every value.
//!
//! Only `true`, `false`, `null` and plain whole numbers are anything but text here. YAML
//! would also read `1.10` as 1.1 and `0x1f` or `010` as some number; no policy has a use
//! for that, and a version in a header pattern stays what was typed.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde::de::Deserialize as _;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use tidegate_core::policy::Policy;
use tidegate_policy::resolve::{Resolved, resolve};
use tidegate_policy::text::{
    DEPTH_MAX, DOCUMENT_BYTES_MAX, Document, Field, Mark, NODES_MAX, Node, Value,
};

/// Why a file holds no document.
#[derive(Debug)]
pub struct Unreadable {
    /// Where, if the file could be read at all.
    pub mark: Option<Mark>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Mark { line, column }) = self.mark {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.what)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl std::error::Error for Unreadable {}

/// Reads a policy file: JSON if its name ends in `.json`, else YAML.
///
/// # Errors
///
/// [`Unreadable`], with the first thing that is wrong.
pub fn read(file: &Path) -> Result<Document, Unreadable> {
    let bytes = bounded(file).map_err(|failure| failed(failure.to_string()))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(failed(format!("longer than {} KiB", DOCUMENT_BYTES_MAX / 1024)));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("this is no UTF-8 text".into()))?;
    match file.extension() {
        Some(extension) if extension == "json" => from_json(&text),
        _ => from_yaml(&text),
    }
}

/// Reads a document from JSON; without marks.
///
/// # Errors
///
/// [`Unreadable`].
pub fn from_json(text: &str) -> Result<Document, Unreadable> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Document::deserialize(&mut reader).and_then(|document| {
        reader.end()?;
        Ok(document)
    });
    read.map_err(|failure| {
        let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let mark = Mark { line: place(failure.line()), column: place(failure.column()) };
        let what = failure.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Unreadable { mark: Some(mark), what: format!("this is no JSON policy: {what}"), hint: None }
    })
}

/// Reads a document from YAML, with marks.
///
/// # Errors
///
/// [`Unreadable`]; also for anchors, aliases, tags and a second document, which a policy
/// has no use for and other readers disagree about.
pub fn from_yaml(text: &str) -> Result<Document, Unreadable> {
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes_left: NODES_MAX };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
            (_, span) if root.is_some() => {
                let hint = "a file holds one policy; put the second in a file of its own";
                return Err(refused(span, "found a second document", Some(hint)));
            }
            (event, span) => root = Some(reader.node(event, span, 0)?),
        }
    }
    let start = Some(Mark { line: 1, column: 1 });
    Ok(Document { root: root.unwrap_or(Node { value: Value::Null, mark: start }) })
}

/// A policy file, looked over.
pub struct Judged {
    /// What is wrong or odd, a line for each, in the order of the file: it will be mended so.
    pub lines: Vec<String>,
    /// The document and what it means, unless it is refused.
    pub usable: Option<(Document, Policy)>,
}

/// Reads a policy file and says whether it can be used, and all there is to say against it.
pub fn judge(file: &Path) -> Judged {
    judged(&file.display(), read(file))
}

/// As [`judge`], of a policy as JSON that is no file; `name` is what lines call it.
pub fn judge_json(name: &str, text: &str) -> Judged {
    judged(&name, from_json(text))
}

fn judged(name: &dyn fmt::Display, document: Result<Document, Unreadable>) -> Judged {
    let line = |mark: Option<Mark>, what: &dyn fmt::Display| {
        format!("{name}:{}{what}", if mark.is_some() { "" } else { " " })
    };
    let document = match document {
        Ok(document) => document,
        Err(unreadable) => {
            return Judged { lines: vec![line(unreadable.mark, &unreadable)], usable: None };
        }
    };
    let Resolved { policy, mut diagnostics } = resolve(&document);
    diagnostics.sort_by_key(|diagnostic| diagnostic.mark);
    let lines = diagnostics.iter().map(|diagnostic| line(diagnostic.mark, diagnostic)).collect();
    Judged { lines, usable: policy.map(|policy| (document, policy)) }
}

/// A document as JSON, which is what the filter reads: what a control plane makes of the
/// same file for Envoy.
pub fn to_json(document: &Document) -> String {
    json(&document.root).to_string()
}

/// Of fields that stand twice the last stays; a policy with such was refused before.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Whole(value) => (*value).into(),
        Value::Fraction(value) => (*value).into(),
        Value::Text(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(fields) => {
            let field = |field: &Field| (field.name.to_string(), json(&field.node));
            serde_json::Value::Object(fields.iter().map(field).collect())
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    nodes_left: u32,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Unreadable> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(next)) => Ok(next),
            Some(Err(scan)) => {
                let what = format!("this is no YAML: {}", scan.info());
                // The commonest trap of globs in YAML.
                let is_star = what.contains("anchor") || what.contains("alias");
                let hint = is_star.then_some("put a text that starts with * in quotes");
                let mark = mark_of(scan.marker().line(), scan.marker().col());
                Err(Unreadable { mark: Some(mark), what, hint })
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: u32) -> Result<Node, Unreadable> {
        let Some(left) = self.nodes_left.checked_sub(1) else {
            return Err(refused(span, "more values than any policy has", None));
        };
        self.nodes_left = left;
        let is_nest = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if is_nest && depth >= DEPTH_MAX {
            return Err(refused(span, "nested deeper than any policy is", None));
        }
        let value = match event {
            Event::Alias(_) => {
                let hint = "write the value out, or put a text that starts with * in quotes";
                return Err(refused(span, "found an alias (*name)", Some(hint)));
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                let hint = "put a text that starts with ! in quotes";
                return Err(refused(span, "found a tag (!name)", Some(hint)));
            }
            Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => {
                let hint =
                    "write the value out where it is used; put a text that starts with & in quotes";
                return Err(refused(span, "found an anchor (&name)", Some(hint)));
            }
            Event::Scalar(text, style, _, _) => scalar(&text, style),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(refused(span, "the document ends too early", None)),
        };
        Ok(Node { value, mark: Some(mark_at(span)) })
    }

    fn list(&mut self, depth: u32) -> Result<Value, Unreadable> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(nodes)),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Value, Unreadable> {
        let mut fields = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Value::Map(fields)),
                Event::Scalar(text, _, 0, None) => text.into_owned().into_boxed_str(),
                Event::Alias(_) => {
                    let hint = "put a text that starts with * in quotes";
                    return Err(refused(span, "found an alias (*name)", Some(hint)));
                }
                _ => return Err(refused(span, "found no plain text for a field's name", None)),
            };
            let mark = Some(mark_at(span));
            let (event, span) = self.next()?;
            let mut node = self.node(event, span, depth + 1)?;
            if node.value == Value::Null {
                // Nothing has no place of its own; its name does.
                node.mark = mark;
            }
            fields.push(Field { name, mark, node });
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .ok()
            // `010`, `+1` and `-0` are other things to other readers.
            .filter(|number| number.to_string() == text)
            .map_or_else(|| Value::Text(text.into()), Value::Whole),
    }
}

/// Reads one byte more than a document may have, so that its length can be judged.
fn bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failed(what: String) -> Unreadable {
    Unreadable { mark: None, what, hint: None }
}

fn refused(span: Span, what: &str, hint: Option<&'static str>) -> Unreadable {
    Unreadable { mark: Some(mark_at(span)), what: what.into(), hint }
}

fn mark_at(span: Span) -> Mark {
    mark_of(span.start.line(), span.start.col())
}

/// From the parser's place, whose columns count from 0.
fn mark_of(line: usize, column: usize) -> Mark {
    let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Mark { line: place(line), column: place(column.saturating_add(1)) }
}
