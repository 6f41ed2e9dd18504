//! The document as typed: a tree of values that remembers where each one stood.
//!
//! One tree for three spellings: YAML (a shell reads it and fills in the marks), JSON
//! ([`from_json`], or through serde), and a serialised protobuf `Struct` ([`from_struct`]).
//! Nothing is judged here: duplicate fields are kept, so that [`resolve`](super::resolve) can name
//! them, and a number stays apart from a text. Depth and size are bounded, whoever reads.

mod json;
mod protobuf;

pub use json::{NotJson, from_json};
pub use protobuf::{Malformed, from_struct};

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The longest document that a shell should read, in bytes: over ten times the largest
/// policy that anybody would want to maintain.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// The most levels of lists and maps within each other; readers recurse, and a proxy's
/// stack is small. A policy of ordinary shape has six.
pub const DEPTH_MAX: u32 = 32;

/// The most values in one document, so that its tree is bounded in memory (a few MiB).
pub const NODES_MAX: u32 = 1 << 16;

/// A whole document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its outermost value.
    pub root: Node,
}

/// One value and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What was typed.
    pub value: Value,
    /// Where, if the reader knows.
    pub mark: Option<Mark>,
}

/// A value as typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction, exactly.
    Whole(i64),
    /// Any other number.
    Fraction(f64),
    /// A text.
    Text(Box<str>),
    /// Values in order.
    List(Vec<Node>),
    /// Fields in order, duplicates included.
    Map(Vec<Field>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: Box<str>,
    /// Where the name stood, if the reader knows.
    pub mark: Option<Mark>,
    /// What it holds.
    pub node: Node,
}

/// A place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, mark: None }
    }
}

impl<'de> Deserialize<'de> for Document {
    /// Reads a document from any self-describing format; without marks.
    ///
    /// # Errors
    ///
    /// The format's own, and for a document beyond [`DEPTH_MAX`] or [`NODES_MAX`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nodes_left = Cell::new(NODES_MAX);
        let root = Reader { depth: 0, nodes_left: &nodes_left }.deserialize(deserializer)?;
        Ok(Self { root })
    }
}

/// Reads one value, `depth` levels down.
#[derive(Clone, Copy)]
struct Reader<'a> {
    depth: u32,
    nodes_left: &'a Cell<u32>,
}

impl Reader<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("lists and maps more than 32 levels deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        match self.nodes_left.get().checked_sub(1) {
            Some(left) => self.nodes_left.set(left),
            None => return Err(D::Error::custom("more than 65536 values")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy document")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Value::Null.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Value::Whole(value).into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        // Nothing in a policy is that large; the message only has to show it.
        Ok(i64::try_from(value).map_or(Value::Fraction(value as f64), Value::Whole).into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Value::Fraction(value).into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Value::Text(value.into()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let reader = self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(reader)? {
            nodes.push(node);
        }
        Ok(Value::List(nodes).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let reader = self.deeper()?;
        let mut fields = Vec::new();
        while let Some(name) = map.next_key()? {
            fields.push(Field { name, mark: None, node: map.next_value_seed(reader)? });
        }
        Ok(Value::Map(fields).into())
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
