//! A serialised `google.protobuf.Struct`, which is how Envoy hands over a plugin
//! configuration that was written as one.
//!
//! Source: protobuf's `struct.proto`; the fields are taken apart by
//! [`tidegate_core::protobuf`]. Left out: packed lists, for no message here has one.

use super::{DEPTH_MAX, DOCUMENT_BYTES_MAX, Document, Field, NODES_MAX, Node, Value};
use alloc::vec::Vec;
use core::fmt;
use tidegate_core::protobuf::{self, Payload, next};

/// Why bytes are no `Struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
}

/// Reads a document from a serialised `google.protobuf.Struct`.
///
/// A number without a fraction is [`Value::Whole`] here, because `Struct` has no other
/// numbers than doubles. Text that is JSON never reads as a `Struct` by chance, although
/// both may begin with the byte `0x0a`; so try this first, then JSON.
///
/// # Errors
///
/// [`Malformed`] for anything that is not exactly a `Struct` within [`DEPTH_MAX`],
/// [`NODES_MAX`] and [`DOCUMENT_BYTES_MAX`].
pub fn from_struct(bytes: &[u8]) -> Result<Document, Malformed> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(malformed("longer than 1 MiB"));
    }
    let mut nodes_left = NODES_MAX;
    let root = structure(bytes, DEPTH_MAX, &mut nodes_left)?;
    Ok(Document { root })
}

/// `Struct { map<string, Value> fields = 1; }`: a map is a list of entries on the wire.
fn structure(mut bytes: &[u8], depth: u32, nodes_left: &mut u32) -> Result<Node, Malformed> {
    let mut fields = Vec::new();
    while let Some((tag, payload)) = next(&mut bytes)? {
        match (tag, payload) {
            (1, Payload::Bytes(entry)) => fields.push(entry_of(entry, depth, nodes_left)?),
            _ => return Err(malformed("a field that Struct does not have")),
        }
    }
    Ok(Value::Map(fields).into())
}

/// `{ string key = 1; Value value = 2; }`
fn entry_of(mut bytes: &[u8], depth: u32, nodes_left: &mut u32) -> Result<Field, Malformed> {
    let (mut name, mut node) = ("", Node::from(Value::Null));
    while let Some((tag, payload)) = next(&mut bytes)? {
        match (tag, payload) {
            (1, Payload::Bytes(text)) => name = utf8(text)?,
            (2, Payload::Bytes(inner)) => node = value(inner, depth, nodes_left)?,
            _ => return Err(malformed("a field that a map entry does not have")),
        }
    }
    Ok(Field { name: name.into(), mark: None, node })
}

/// `Value`: of its one-of, the last one written holds, as protobuf says.
fn value(mut bytes: &[u8], depth: u32, nodes_left: &mut u32) -> Result<Node, Malformed> {
    let too_large = malformed("too deep or too many values");
    *nodes_left = nodes_left.checked_sub(1).ok_or(too_large)?;
    let deeper = depth.checked_sub(1).ok_or(too_large)?;
    let mut node = Node::from(Value::Null);
    while let Some((tag, payload)) = next(&mut bytes)? {
        node = match (tag, payload) {
            (1, Payload::Varint(_)) => Value::Null.into(),
            (2, Payload::Double(number)) => numeric(number).into(),
            (3, Payload::Bytes(text)) => Value::Text(utf8(text)?.into()).into(),
            (4, Payload::Varint(flag)) => Value::Bool(flag != 0).into(),
            (5, Payload::Bytes(inner)) => structure(inner, deeper, nodes_left)?,
            (6, Payload::Bytes(inner)) => list(inner, deeper, nodes_left)?,
            _ => return Err(malformed("a field that Value does not have")),
        };
    }
    Ok(node)
}

/// `ListValue { repeated Value values = 1; }`
fn list(mut bytes: &[u8], depth: u32, nodes_left: &mut u32) -> Result<Node, Malformed> {
    let mut nodes = Vec::new();
    while let Some((tag, payload)) = next(&mut bytes)? {
        match (tag, payload) {
            (1, Payload::Bytes(inner)) => nodes.push(value(inner, depth, nodes_left)?),
            _ => return Err(malformed("a field that ListValue does not have")),
        }
    }
    Ok(Value::List(nodes).into())
}

fn numeric(number: f64) -> Value {
    let whole = number as i64;
    if whole as f64 == number { Value::Whole(whole) } else { Value::Fraction(number) }
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(bytes).map_err(|_| malformed("text that is not UTF-8"))
}

const fn malformed(what: &'static str) -> Malformed {
    Malformed { what }
}

impl From<protobuf::Malformed> for Malformed {
    fn from(malformed: protobuf::Malformed) -> Self {
        Self { what: malformed.0 }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a google.protobuf.Struct: {}", self.what)
    }
}

impl core::error::Error for Malformed {}
