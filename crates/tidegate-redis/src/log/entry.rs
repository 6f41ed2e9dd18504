//! Entries as Redis gives them, and whether each follows the one before.

use super::LOG;
use crate::error::Error;
use redis::Value;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Position, Record};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position after it.
    pub position: Position,
    /// What it says.
    pub records: Vec<Record>,
    /// Records of it that this version does not understand, and leaves to newer ones.
    pub unknown: usize,
}

/// An entry as it is stored.
pub(super) struct Raw {
    pub(super) position: Position,
    pub(super) bytes: Vec<u8>,
}

impl Raw {
    /// Whether this is the entry after `before`.
    pub(super) fn follows(&self, before: Position) -> bool {
        before.then(&self.bytes) == self.position
    }

    pub(super) fn read(self) -> Entry {
        let (records, rest) = self.bytes.as_chunks::<RECORD_BYTES>();
        let known: Vec<_> = records.iter().filter_map(Record::from_bytes).collect();
        let unknown = records.len() - known.len() + usize::from(!rest.is_empty());
        Entry { position: self.position, records: known, unknown }
    }

    /// `[id, [field, value, …]]`
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [id, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
        let (number, log) = text(&id)?.split_once('-')?;
        let (number, log) = (number.parse().ok()?, log.parse().ok()?);
        let (mut chain, mut bytes) = (None, None);
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match (text(&name)?, value) {
                ("c", value) => chain = link(&value),
                ("r", Value::BulkString(records)) => bytes = Some(records),
                _ => {}
            }
        }
        Some(Self { position: Position { log, number, chain: chain? }, bytes: bytes? })
    }
}

/// The chain that is written so.
pub(super) fn link(value: &Value) -> Option<u64> {
    u64::from_str_radix(text(value)?, 16).ok()
}

/// Entries of `XRANGE` or `XREVRANGE`; `Ok(None)` in place of one that no host has written.
pub(super) fn of_range(value: Value) -> Result<Vec<Option<Raw>>, Error> {
    let Value::Array(entries) = value else { return Err(Error::Garbled("no entries")) };
    Ok(entries.into_iter().map(Raw::of).collect())
}

/// The log's id, of the first entry of a range, whatever else that is.
pub(super) fn log_of_range(value: &Value) -> Result<Option<u64>, Error> {
    let Value::Array(entries) = value else { return Err(Error::Garbled("no entries")) };
    let Some(Value::Array(parts)) = entries.first() else { return Ok(None) };
    let log = parts.first().and_then(|id| text(id)?.split_once('-')?.1.parse().ok());
    log.map(Some).ok_or(Error::Garbled("no id"))
}

/// As [`of_range`], of `XREAD`: `[[key, entries]]`, or nothing.
pub(super) fn of_read(value: Value) -> Result<Vec<Option<Raw>>, Error> {
    let streams = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(streams) => streams,
        _ => return Err(Error::Garbled("no streams")),
    };
    let [Value::Array(stream)] = <[Value; 1]>::try_from(streams).unwrap_or([Value::Nil]) else {
        return Err(Error::Garbled("another number of streams"));
    };
    match <[Value; 2]>::try_from(stream) {
        Ok([key, entries]) if text(&key) == Some(LOG) => of_range(entries),
        _ => Err(Error::Garbled("another stream")),
    }
}

/// The id of the entry at a position.
pub(super) fn id(position: Position) -> String {
    format!("{}-{}", position.number, position.log)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|text| bulk(text)).collect();
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn what_no_host_has_written_is_no_entry() {
        for strange in [
            Value::Nil,
            Value::Array(vec![]),
            entry("5", &["c", "0", "r", ""]),
            entry("x-1", &["c", "0", "r", ""]),
            entry("5-1", &["c", "xyz", "r", ""]),
            entry("5-1", &["c", "0"]),
            entry("5-1", &["r", ""]),
            entry("5-1", &["c"]),
        ] {
            assert!(Raw::of(strange.clone()).is_none(), "{strange:?}");
        }
        let read = Raw::of(entry("5-18446744073709551615", &["c", "0a", "r", "", "x", "y"]));
        assert_eq!(read.unwrap().position, Position { log: u64::MAX, number: 5, chain: 10 });
    }

    #[test]
    fn records_of_newer_versions_are_left_to_them() {
        let mut bytes = vec![0; 2 * RECORD_BYTES + 1];
        bytes[16] = 255;
        bytes[RECORD_BYTES + 16] = tidegate_core::revoke::Kind::Token as u8;
        let entry = Raw { position: Position::start(1), bytes }.read();
        assert_eq!((entry.records.len(), entry.unknown), (1, 2));
    }

    #[test]
    fn strange_replies_are_said_to_be_so() {
        for strange in [
            bulk("x"),
            Value::Array(vec![]),
            Value::Array(vec![Value::Array(vec![bulk("another"), Value::Array(vec![])])]),
        ] {
            assert!(of_read(strange.clone()).is_err(), "{strange:?}");
        }
        assert!(of_read(Value::Nil).unwrap().is_empty());
        assert!(of_range(Value::Nil).is_err());
    }
}
