//! JSON (RFC 8259), as a proxy hands over a configuration that was written as text.
//!
//! By hand, because a filter pays for each byte of code in every worker: a general reader
//! through serde is 17 KiB there, and this one three. A test holds it against `serde_json`,
//! with which the host reads the same documents.

use super::{DEPTH_MAX, Document, Field, Mark, NODES_MAX, Node, Value};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use tidegate_core::json::escaped;

/// Why a text is no JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// What is wrong, or what was wanted.
    pub what: &'static str,
    /// Where.
    pub mark: Mark,
}

/// Reads a document from JSON; without marks.
///
/// Duplicate fields are kept, whole numbers that fit [`Value::Whole`] are exact, and any other
/// number is near enough for an error to show it.
///
/// # Errors
///
/// [`NotJson`] for anything that is not one JSON value, and for one beyond [`DEPTH_MAX`] or
/// [`NODES_MAX`].
pub fn from_json(bytes: &[u8]) -> Result<Document, NotJson> {
    let text = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let mark = mark(bytes, error.valid_up_to());
            return Err(NotJson { what: "text that is not UTF-8", mark });
        }
    };
    let mut reader = Reader { text, at: 0, nodes_left: NODES_MAX };
    match reader.document() {
        Ok(root) => Ok(Document { root }),
        Err(what) => {
            let what = if reader.at < text.len() { what } else { "the text ends too early" };
            Err(NotJson { what, mark: mark(bytes, reader.at) })
        }
    }
}

/// The place of the byte at `at`.
fn mark(bytes: &[u8], at: usize) -> Mark {
    let mut mark = Mark { line: 1, column: 1 };
    for byte in bytes.iter().take(at) {
        match byte {
            b'\n' => mark = Mark { line: mark.line + 1, column: 1 },
            0x80..=0xbf => {} // goes on with a character
            _ => mark.column += 1,
        }
    }
    mark
}

/// What was read, or what is wrong with what stands at [`Reader::at`].
type Read<T> = Result<T, &'static str>;

const MALFORMED: &str = "a number as JSON does not write it";

struct Reader<'a> {
    text: &'a str,
    /// The next byte; always a character's first.
    at: usize,
    nodes_left: u32,
}

/// A number's digits, as many as fit: `significand * 10^exponent`.
#[derive(Default)]
struct Decimal {
    significand: u64,
    exponent: i32,
}

impl Reader<'_> {
    fn document(&mut self) -> Read<Node> {
        let root = self.value(DEPTH_MAX)?;
        self.skip_space();
        if self.at < self.text.len() {
            return Err("expected nothing more");
        }
        Ok(root)
    }

    fn value(&mut self, depth_left: u32) -> Read<Node> {
        self.skip_space();
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or("more than 65536 values")?;
        let value = match self.peek() {
            Some(opening @ (b'[' | b'{')) => {
                let deeper = depth_left.checked_sub(1);
                let deeper = deeper.ok_or("lists and maps more than 32 levels deep")?;
                self.at += 1;
                if opening == b'[' { self.list(deeper)? } else { self.map(deeper)? }
            }
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(value.into())
    }

    fn list(&mut self, depth_left: u32) -> Read<Value> {
        let mut nodes = Vec::new();
        while self.goes_on(b']', nodes.is_empty())? {
            nodes.push(self.value(depth_left)?);
        }
        Ok(Value::List(nodes))
    }

    fn map(&mut self, depth_left: u32) -> Read<Value> {
        let mut fields = Vec::new();
        while self.goes_on(b'}', fields.is_empty())? {
            let name = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err("expected `:`");
            }
            fields.push(Field { name, mark: None, node: self.value(depth_left)? });
        }
        Ok(Value::Map(fields))
    }

    /// Takes what stands before an item: nothing if it is the first, else a comma. `false`: there
    /// is none, and what was taken is the `end`.
    fn goes_on(&mut self, end: u8, is_first: bool) -> Read<bool> {
        self.skip_space();
        if self.take(end) {
            return Ok(false);
        }
        if !is_first {
            if !self.take(b',') {
                return Err(if end == b']' {
                    "expected `,` or `]`"
                } else {
                    "expected `,` or `}`"
                });
            }
            self.skip_space();
        }
        Ok(true)
    }

    fn word(&mut self) -> Read<Value> {
        let words =
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err("expected a value")
    }

    fn string(&mut self) -> Read<Box<str>> {
        if !self.take(b'"') {
            return Err("expected a text in double quotes");
        }
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let ends = |byte| matches!(byte, b'"' | b'\\' | ..b' ');
            let plain = rest.bytes().position(ends).unwrap_or(rest.len());
            text.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            if self.take(b'"') {
                return Ok(text.into());
            }
            if !self.take(b'\\') {
                return Err("a control character in a text: expected an escape");
            }
            text.push(escaped(self.text.as_bytes(), &mut self.at)?);
        }
    }

    fn number(&mut self) -> Read<Value> {
        let start = self.at;
        let is_negative = self.take(b'-');
        let read = self.decimal().and_then(|(decimal, is_whole)| {
            let whole = match is_negative {
                _ if !is_whole || decimal.exponent != 0 => None,
                true if decimal.significand == 0 => None, // as -0.0 it is no whole number
                true => 0_i64.checked_sub_unsigned(decimal.significand),
                false => i64::try_from(decimal.significand).ok(),
            };
            if let Some(whole) = whole {
                return Ok(Value::Whole(whole));
            }
            let number = decimal.value();
            if number.is_infinite() {
                return Err("a number out of range");
            }
            Ok(Value::Fraction(if is_negative { -number } else { number }))
        });
        if read.is_err() && self.at < self.text.len() {
            self.at = start;
        }
        read
    }

    /// `12`, `0.5` or `1e3`, and whether it is of the first kind.
    fn decimal(&mut self) -> Read<(Decimal, bool)> {
        let (mut decimal, start) = (Decimal::default(), self.at);
        let starts_with_zero = self.peek() == Some(b'0');
        self.digits(&mut |digit| decimal.exponent += i32::from(!decimal.push(digit)))?;
        let whole_end = self.at;
        if starts_with_zero && whole_end > start + 1 {
            return Err(MALFORMED);
        }
        if self.take(b'.') {
            self.digits(&mut |digit| decimal.exponent -= i32::from(decimal.push(digit)))?;
        }
        if self.take(b'e') || self.take(b'E') {
            let is_negative = self.take(b'-');
            let _ = is_negative || self.take(b'+');
            let mut power = 0_i32;
            self.digits(&mut |digit| {
                power = power.saturating_mul(10).saturating_add(i32::from(digit));
            })?;
            let power = if is_negative { -power } else { power };
            decimal.exponent = decimal.exponent.saturating_add(power);
        }
        Ok((decimal, self.at == whole_end))
    }

    /// One digit or more.
    fn digits(&mut self, each: &mut dyn FnMut(u8)) -> Read<()> {
        let start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            each(byte - b'0');
            self.at += 1;
        }
        if self.at == start { Err(MALFORMED) } else { Ok(()) }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_here = self.peek() == Some(byte);
        self.at += usize::from(is_here);
        is_here
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

impl Decimal {
    /// Adds a digit; `false` if there is no room for it, nor for any other.
    fn push(&mut self, digit: u8) -> bool {
        let has_room = self.significand <= (u64::MAX - 9) / 10;
        if has_room {
            self.significand = self.significand * 10 + u64::from(digit);
        }
        has_room
    }

    /// Exact to the last place for numbers as people write them, and to twelve digits for any.
    fn value(&self) -> f64 {
        if self.significand == 0 {
            return 0.0; // and not infinitely many times zero
        }
        // A power of ten beyond 308 is none, but a number may have it in two steps. More than
        // 400 make of any significand the same as 400.
        let tens = self.exponent.unsigned_abs().min(400);
        let scales = [tens.min(300), tens.saturating_sub(300)].map(power_of_ten);
        let significand = self.significand as f64;
        scales.iter().fold(significand, |number, scale| match self.exponent {
            ..0 => number / scale,
            _ => number * scale,
        })
    }
}

fn power_of_ten(tens: u32) -> f64 {
    (0..tens).fold(1.0, |power, _| power * 10.0)
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { line, column } = self.mark;
        write!(f, "{} at line {line} column {column}", self.what)
    }
}

impl core::error::Error for NotJson {}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
