//! The protobuf messages among properties: fields by name, and the bytes of a whole one.
//!
//! Only what this proxy knows is in them. A field that Envoy's message has and this proxy has
//! nothing for is empty; a field that there is not is not found.

use super::value::Value;
use crate::exchange::Noted;
use crate::plugin::Node;
use crate::protobuf::{put_bytes, put_text};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A message, by its type in Envoy's API.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    /// `envoy.config.core.v3.Node`.
    Node(&'a Node),
    /// `envoy.config.core.v3.Metadata`: exchanges may have some; routes, clusters and listeners
    /// have none here.
    Metadata(Option<&'a BTreeMap<String, Noted>>),
    /// `envoy.config.core.v3.Locality`: nothing here has any.
    Locality,
    /// `envoy.config.core.v3.BuildVersion`.
    BuildVersion,
}

impl<'a> Message<'a> {
    /// What a field's name leads to.
    pub(crate) fn field(self, name: &[u8]) -> Option<Value<'a>> {
        let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text.as_bytes())));
        match (self, name) {
            (Self::Node(node), b"id") => text(&node.id),
            (Self::Node(node), b"cluster") => text(&node.cluster),
            (Self::Node(node), b"metadata") => Some(Value::Texts(&node.metadata)),
            (Self::Node(_), b"locality") => Some(Value::Message(Message::Locality)),
            (Self::Node(_), b"user_agent_build_version") => {
                Some(Value::Message(Message::BuildVersion))
            }
            (Self::Node(_), b"user_agent_name" | b"user_agent_version")
            | (Self::Locality, b"region" | b"zone" | b"sub_zone") => text(""),
            (Self::Metadata(Some(noted)), b"filter_metadata") => Some(Value::Noted(noted)),
            (
                Self::Node(_),
                b"extensions" | b"client_features" | b"listening_addresses" | b"dynamic_parameters",
            )
            | (Self::Metadata(_), b"filter_metadata" | b"typed_filter_metadata")
            | (Self::BuildVersion, b"metadata") => Some(Value::Nothing),
            _ => None,
        }
    }

    /// The names of fields that there can be something in.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Node(_) => &["cluster", "id", "locality", "metadata"],
            Self::Metadata(_) => &["filter_metadata", "typed_filter_metadata"],
            Self::Locality => &["region", "sub_zone", "zone"],
            Self::BuildVersion => &[],
        }
    }

    /// Appends the message's bytes.
    pub(crate) fn encode(self, to: &mut Vec<u8>) {
        match self {
            Self::Node(node) => {
                put_text(1, &node.id, to);
                put_text(2, &node.cluster, to);
                if !node.metadata.is_empty() {
                    put_bytes(3, &metadata(node), to);
                }
            }
            Self::Metadata(Some(noted)) => {
                for (namespace, value) in noted {
                    let structure = match value {
                        Noted::Map(fields) => structure(fields),
                        // Namespaces hold maps; a bare text has no place in the message.
                        Noted::Text(_) => continue,
                    };
                    put_entry(namespace, &structure, to);
                }
            }
            _ => {}
        }
    }
}

/// A node's metadata as `google.protobuf.Struct`: a map (field 1) whose entries are messages
/// of a key (1) and a value (2), which for text is a message with field 3.
fn metadata(node: &Node) -> Vec<u8> {
    let mut whole = Vec::new();
    for (name, text) in &node.metadata {
        let mut value = Vec::new();
        put_bytes(3, text.as_bytes(), &mut value);
        put_entry(name, &value, &mut whole);
    }
    whole
}

/// The same of values that may be maps again: field 5.
fn structure(fields: &BTreeMap<String, Noted>) -> Vec<u8> {
    let mut whole = Vec::new();
    for (name, noted) in fields {
        let mut value = Vec::new();
        match noted {
            Noted::Text(text) => put_bytes(3, text.as_bytes(), &mut value),
            Noted::Map(fields) => put_bytes(5, &structure(fields), &mut value),
        }
        put_entry(name, &value, &mut whole);
    }
    whole
}

/// An entry of the map in field 1.
fn put_entry(name: &str, value: &[u8], to: &mut Vec<u8>) {
    let mut entry = Vec::new();
    put_bytes(1, name.as_bytes(), &mut entry);
    put_bytes(2, value, &mut entry);
    put_bytes(1, &entry, to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Exchange, Facts};
    use crate::plugin::PluginConfig;
    use crate::properties::{Seen, View, get};
    use crate::status::Status;

    #[test]
    fn what_was_noted_of_an_exchange_is_found_by_its_names() {
        let map = |name: &str, noted| Noted::Map([(name.to_owned(), noted)].into());
        let noted = map("realm", map("tenant", Noted::Text("acme".to_owned())));
        let metadata = [("jwt".to_owned(), noted)].into();
        let facts = Facts { metadata, ..Facts::default() };
        let exchange = Exchange { facts, ..Exchange::default() };
        let config = PluginConfig::default();
        let view = View { exchange: Some(&exchange), config: &config, seen: Seen::default() };
        let read = |path: &[u8]| get(path, &view);
        let tenant = b"metadata\0filter_metadata\0jwt\0realm\0tenant";
        assert_eq!(read(tenant), Ok(b"acme".to_vec()));
        assert_eq!(read(b"metadata\0filter_metadata\0jwt\0sub"), Err(Status::NotFound));
        let realm = b"\x01\0\0\0\x06\0\0\0\x04\0\0\0tenant\0acme\0";
        assert_eq!(read(b"metadata\0filter_metadata\0jwt\0realm"), Ok(realm.to_vec()));
        // Entry by entry: a name (1) and a value (2), which is a map (5) or a text (3).
        let tenant = b"\x0a\x10\x0a\x06tenant\x12\x06\x1a\x04acme";
        let realm = [&b"\x0a\x1d\x0a\x05realm\x12\x14\x2a\x12"[..], tenant].concat();
        let whole = [&b"\x0a\x26\x0a\x03jwt\x12\x1f"[..], &realm].concat();
        assert_eq!(read(b"metadata"), Ok(whole));
    }
}
