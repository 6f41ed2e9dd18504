//! Requests, tokens and metadata, written by hand.

use serde_json::{Value, json};
use std::collections::HashMap;
use tidegate_core::facts::{Facts, REPEATED, Want, WantId};
use tidegate_core::policy::Policy;
use tidegate_policy::resolve::resolve;

pub(crate) fn policy(policy: Value) -> Policy {
    let mut whole = json!({ "tidegate": 1, "domain": "d", "host": { "cluster": "h" } });
    for (name, value) in policy.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let resolved = resolve(&serde_json::from_value(whole.clone()).unwrap());
    assert_eq!(resolved.diagnostics, [], "{whole}");
    resolved.policy.unwrap()
}

/// A request's headers, and its metadata under the empty name.
#[derive(Clone, Default)]
pub(crate) struct Request(HashMap<String, Vec<u8>>);

impl Request {
    /// With a header; a second one of the same name makes it repeated.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0
            .entry(name.into())
            .and_modify(|value| *value = REPEATED.into())
            .or_insert_with(|| value.as_ref().into());
        self
    }

    pub(crate) fn metadata(self, metadata: Vec<u8>) -> Self {
        self.header("", metadata)
    }
}

impl Facts for Request {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        let name = match want {
            Want::Header(name) | Want::SoleHeader(name) => name,
            Want::Property(path) if **path == ["metadata".into()] => "",
            other => panic!("no shell is asked for {other:?}"),
        };
        self.0.get(name).map(Vec::as_slice)
    }
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.as_ref().chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |at: usize| char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]);
        text.extend((0..=three.len()).map(digit));
    }
    text
}

/// A token of these parts, as text; its signature is of no account.
pub(crate) fn token_of(header: &str, payload: &str) -> String {
    format!("{}.{}.c2lnbmVk", base64url(header), base64url(payload))
}

pub(crate) fn token(payload: &Value) -> String {
    token_of(r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#, &payload.to_string())
}

/// The metadata of a request whose token the proxy has verified.
pub(crate) fn verified(payload: &Value) -> Vec<u8> {
    metadata(&json!({ "envoy.filters.http.jwt_authn": { "payload": payload } }))
}

/// Metadata as Envoy hands it over: `Metadata.filter_metadata`, a map of `Struct`s.
pub(crate) fn metadata(filters: &Value) -> Vec<u8> {
    entries(filters, &structure)
}

/// A `Struct`: a map of `Value`s in its first field.
pub(crate) fn structure(fields: &Value) -> Vec<u8> {
    entries(fields, &value)
}

fn entries(map: &Value, write: &dyn Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let entry = |(name, value): (&String, &Value)| {
        field(1, &[field(1, name.as_bytes()), field(2, &write(value))].concat())
    };
    map.as_object().unwrap().iter().flat_map(entry).collect()
}

fn value(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![1 << 3, 0],
        Value::Number(number) => {
            [&[2 << 3 | 1], &number.as_f64().unwrap().to_le_bytes()[..]].concat()
        }
        Value::String(text) => field(3, text.as_bytes()),
        Value::Bool(flag) => vec![4 << 3, u8::from(*flag)],
        Value::Object(_) => field(5, &structure(value)),
        Value::Array(items) => field(
            6,
            &items.iter().flat_map(|item| field(1, &self::value(item))).collect::<Vec<_>>(),
        ),
    }
}

/// A field of bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut field, mut length) = (vec![number << 3 | 2], bytes.len());
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}
