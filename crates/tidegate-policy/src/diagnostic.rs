//! What is wrong with a document: where, what was found, what was wanted, and a guess.
//!
//! `14:11: limits[2].rate: found "1 min", wanted a rate such as 100/1m or 5/s`, and on
//! the next line `  hint: write 1/1m`. Whatever comes from the document is escaped and
//! cut, so a diagnostic can stand in a log.

use crate::text::{Mark, Node, Value};
use alloc::format;
use alloc::string::String;
use core::fmt;

/// The most diagnostics for one document: nobody reads further, and logs stay readable.
pub const DIAGNOSTICS_MAX: usize = 64;

/// How much of a document's own text a diagnostic repeats, in characters.
pub const FOUND_CHARS_MAX: usize = 80;

/// One thing that is wrong, or looks wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the document can be used all the same.
    pub severity: Severity,
    /// Where in the tree: `limits[2].rate`; empty for the document as a whole.
    pub path: String,
    /// Where in the text, if the document's reader knew.
    pub mark: Option<Mark>,
    /// What stands there, escaped.
    pub found: String,
    /// What could stand there.
    pub wanted: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is taken, but probably does not mean what its author thinks.
    Warning,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Mark { line, column }) = self.mark {
            write!(f, "{line}:{column}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "found {}, wanted {}", self.found, self.wanted)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Says what a node holds, in a few words.
pub fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".into(),
        Value::Bool(flag) => if *flag { "true" } else { "false" }.into(),
        Value::Whole(number) => format!("{number}"),
        Value::Fraction(number) => fraction(*number),
        Value::Text(text) => quoted(text),
        Value::List(nodes) if nodes.is_empty() => "an empty list".into(),
        Value::List(_) => "a list".into(),
        Value::Map(fields) if fields.is_empty() => "an empty map".into(),
        Value::Map(_) => "a map".into(),
    }
}

/// A number to three decimals. By hand: the formatting of floats is 10 KiB in a filter.
fn fraction(number: f64) -> String {
    if !(-1e15..1e15).contains(&number) {
        return "a number too large to count with".into();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let thousandths = (number * 1e3) as i64;
    let (whole, rest) = (thousandths.unsigned_abs() / 1_000, thousandths.unsigned_abs() % 1_000);
    let decimals = format!("{rest:03}");
    let decimals = decimals.trim_end_matches('0');
    format!("{sign}{whole}.{}", if decimals.is_empty() { "0" } else { decimals })
}

/// A document's text in quotes, escaped and cut.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (at, char) in text.chars().enumerate() {
        if at == FOUND_CHARS_MAX {
            quoted.push_str("...");
            break;
        }
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        push_escaped(&mut quoted, char);
    }
    quoted.push('"');
    quoted
}

/// A hint that may repeat a document's text: escaped, and none at all if it is too long to
/// be of help.
pub(super) fn hinted(hint: &str) -> Option<String> {
    let mut escaped = String::new();
    hint.chars().for_each(|char| push_escaped(&mut escaped, char));
    (escaped.len() <= 2 * FOUND_CHARS_MAX).then_some(escaped)
}

/// Escapes whatever is not printable ASCII, so that it can neither break a log line nor
/// turn one around.
fn push_escaped(text: &mut String, char: char) {
    match char {
        ' '..='~' => text.push(char),
        _ => text.extend(char.escape_default()),
    }
}
