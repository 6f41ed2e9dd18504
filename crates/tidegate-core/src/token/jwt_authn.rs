//! The claims that Envoy's JWT filter has verified, from where it notes them.
//!
//! It keeps payload and header as `Struct`s in the request's dynamic metadata, which a filter can
//! have claim by claim or as a whole. Claim by claim loses types: a number comes as the eight bytes
//! of a double, and so does a string of eight bytes. So this walks the whole:
//!
//! ```text
//! Metadata { map<string, Struct> filter_metadata = 1; … }
//! Struct   { map<string, Value> fields = 1; }                    a map is a list of entries,
//! Value    { double number_value = 2; string string_value = 3;   each { key = 1, value = 2 }
//!            bool bool_value = 4; Struct struct_value = 5; … }
//! ```
//!
//! Nothing recurses: claims lie four messages deep, and what lies deeper is skipped by its length.

use super::Malformed;
use super::claims::{Claims, Number};
use crate::protobuf::{self, Payload};

/// The most metadata that is read. All of a request's headers are 60 KiB, and other filters may
/// have added to it.
pub const METADATA_BYTES_MAX: usize = 1 << 20;

/// Where the JWT filter notes what it has verified.
pub const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// The payload or header that the JWT filter noted under `key`, as a `Struct`; `None` if there is
/// none, for then it has not verified a token.
///
/// # Errors
///
/// [`Malformed`] for what is no `Metadata`, is longer than [`METADATA_BYTES_MAX`], or has no map
/// there.
pub fn noted<'a>(metadata: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, Malformed> {
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(filter) = entry(metadata, NAMESPACE)? else { return Ok(None) };
    let Some(mut value) = entry(filter, key)? else { return Ok(None) };
    match protobuf::next(&mut value)? {
        Some((5, Payload::Bytes(fields))) if value.is_empty() => Ok(Some(fields)),
        _ => Err(Malformed),
    }
}

/// Reads the wanted claims of a `Struct`.
///
/// # Errors
///
/// [`Malformed`] for what is no `Struct`, and for a wanted claim that is there twice.
pub fn read(mut fields: &[u8], claims: &mut Claims) -> Result<(), Malformed> {
    claims.clear();
    while let Some((name, mut value)) = next_entry(&mut fields)? {
        let Some(place) = claims.place(name) else { continue };
        match protobuf::next(&mut value)? {
            Some((2, Payload::Double(double))) => match Number::from_double(double) {
                Some(number) => claims.put_number(place, number),
                None => claims.put_other(place),
            },
            Some((3, Payload::Bytes(text))) => {
                let start = claims.text.len();
                claims.text.extend_from_slice(text);
                claims.put_string(place, start)
            }
            Some((4, Payload::Varint(flag))) => claims.put_flag(place, flag != 0),
            _ => claims.put_other(place),
        }?;
        if !value.is_empty() {
            return Err(Malformed);
        }
    }
    Ok(())
}

/// The value of the entry of this name; it may be there once.
fn entry<'a>(mut map: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Malformed> {
    let mut found = None;
    while let Some((key, value)) = next_entry(&mut map)? {
        if key == name.as_bytes() && found.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    Ok(found)
}

/// An entry of a map: its key and its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// Takes the next entry off a map that is its message's field 1; other fields are skipped.
fn next_entry<'a>(map: &mut &'a [u8]) -> Result<Option<Entry<'a>>, Malformed> {
    while let Some((number, payload)) = protobuf::next(map)? {
        let (1, Payload::Bytes(mut entry)) = (number, payload) else { continue };
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        while let Some(field) = protobuf::next(&mut entry)? {
            match field {
                (1, Payload::Bytes(bytes)) => key = bytes,
                (2, Payload::Bytes(bytes)) => value = bytes,
                _ => return Err(Malformed),
            }
        }
        return Ok(Some((key, value)));
    }
    Ok(None)
}
