//! Properties as CEL's values, and CEL's values as modules are told them.

use crate::exchange::Noted;
use crate::maps::HeaderMap;
use crate::properties::{Group, Value, View, encode_pairs, joined};
use crate::status::Status;
use chrono::{DateTime, TimeDelta};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// A property, with all that is in it.
pub(super) fn from_property(value: &Value<'_>, view: &View<'_>) -> cel::Value {
    match value {
        Value::Bool(is) => (*is).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Text(bytes) => text(bytes).into(),
        Value::Bytes(bytes) => bytes.to_vec().into(),
        Value::DurationNs(ns) => cel::Value::Duration(TimeDelta::nanoseconds(*ns)),
        Value::TimestampNs(ns) => {
            cel::Value::Timestamp(DateTime::from_timestamp_nanos(*ns).fixed_offset())
        }
        Value::Nothing | Value::Headers(None) => map([]),
        Value::Texts(texts) => {
            map(texts.iter().map(|(name, text)| (name.clone(), text.clone().into())))
        }
        Value::Noted(noted) => from_noted(noted),
        Value::Headers(Some(headers)) => from_headers(headers),
        Value::Message(message) => map(message.names().iter().filter_map(|name| {
            let field = message.field(name.as_bytes())?;
            Some(((*name).into(), from_property(&field, view)))
        })),
        Value::Group(Group::FilterState) => {
            let state = view.exchange.into_iter().flat_map(|exchange| exchange.filter_state.iter());
            map(state.map(|(name, value)| (text(name), from_property(&value, view))))
        }
        Value::Group(group) => map(group.names().iter().filter_map(|name| {
            let part = group.part(name.as_bytes(), view)?;
            Some(((*name).into(), from_property(&part, view)))
        })),
        Value::Null => cel::Value::Null,
    }
}

/// As deep as whoever noted it made it: not a filter's to say.
fn from_noted(noted: &BTreeMap<String, Noted>) -> cel::Value {
    map(noted.iter().map(|(name, value)| {
        let value = match value {
            Noted::Text(text) => text.clone().into(),
            Noted::Map(fields) => from_noted(fields),
        };
        (name.clone(), value)
    }))
}

/// Each name once, with all its values: so it comes to no more than the headers do.
fn from_headers(headers: &HeaderMap) -> cel::Value {
    let mut by_name = HashMap::<_, cel::Value>::new();
    for (name, _) in headers.iter() {
        by_name
            .entry(text(name))
            .or_insert_with(|| text(&joined(headers, name).unwrap_or_default()).into());
    }
    by_name.into()
}

/// Appends a result's encoding.
pub(super) fn encode(value: &cel::Value, to: &mut Vec<u8>) -> Result<(), Status> {
    let ns = match value {
        cel::Value::Duration(span) => Some(span.num_nanoseconds()),
        cel::Value::Timestamp(time) => Some(time.timestamp_nanos_opt()),
        _ => None,
    };
    let scalar = match (value, ns) {
        (_, Some(ns)) => Value::Int(ns.ok_or(Status::InternalFailure)?),
        (cel::Value::Int(number), _) => Value::Int(*number),
        (cel::Value::UInt(number), _) => Value::Uint(*number),
        (cel::Value::Float(number), _) => Value::Uint(number.to_bits()),
        (cel::Value::Bool(is), _) => Value::Bool(*is),
        (cel::Value::String(text), _) => Value::Text(Cow::Borrowed(text.as_bytes())),
        (cel::Value::Bytes(bytes), _) => Value::Bytes(Cow::Borrowed(bytes)),
        (cel::Value::List(list), _) => return encode_list(list, to),
        (cel::Value::Map(map), _) => return encode_map(map, to),
        _ => Value::Null,
    };
    scalar.encode(to)
}

/// A list is told as a map whose values are empty.
fn encode_list(list: &[cel::Value], to: &mut Vec<u8>) -> Result<(), Status> {
    let encoded = list.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<_> = encoded.iter().map(|bytes| (&**bytes, Cow::default())).collect();
    encode_pairs(&pairs, to);
    Ok(())
}

/// In the order of the keys: maps have none of their own.
fn encode_map(map: &cel::objects::Map, to: &mut Vec<u8>) -> Result<(), Status> {
    let mut entries: Vec<_> = map.map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let entries = entries.into_iter().map(|(key, value)| {
        Ok((encoded(&cel::Value::from(key.clone()))?, Cow::from(encoded(value)?)))
    });
    let entries = entries.collect::<Result<Vec<_>, Status>>()?;
    let pairs: Vec<_> = entries.iter().map(|(key, value)| (&**key, value.clone())).collect();
    encode_pairs(&pairs, to);
    Ok(())
}

fn encoded(value: &cel::Value) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes)?;
    Ok(bytes)
}

fn map(entries: impl IntoIterator<Item = (String, cel::Value)>) -> cel::Value {
    entries.into_iter().collect::<HashMap<_, _>>().into()
}

/// CEL's texts are UTF-8; what is not becomes U+FFFD.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
