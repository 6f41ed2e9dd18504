//! A property's value: how a path leads on into it, and how modules are told it.

use super::View;
use super::groups::Group;
use super::message::Message;
use crate::exchange::Noted;
use crate::maps::HeaderMap;
use crate::status::Status;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The most bytes that names and values of a header map may come to. All values of a name are
/// there as often as the name: a thousand of one would be a thousand times what they are. No
/// map that a proxy lets in comes near this.
const MAP_BYTES_MAX: usize = 4 << 20;

/// A name and a value.
type Pair<'a> = (&'a [u8], Cow<'a, [u8]>);

/// A value, of the kinds that CEL has.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    DurationNs(i64),
    TimestampNs(i64),
    /// A list or map without anything in it.
    Nothing,
    Texts(&'a BTreeMap<String, String>),
    Noted(&'a BTreeMap<String, Noted>),
    /// Without duplicates: a name's values are one, with commas.
    Headers(Option<&'a HeaderMap>),
    Message(Message<'a>),
    /// Has no encoding as a whole.
    Group(Group),
    /// There, but nothing.
    Null,
}

impl<'a> Value<'a> {
    /// What a path's next part leads to.
    pub(crate) fn part(&self, name: &[u8], view: &View<'a>) -> Option<Value<'a>> {
        match self {
            Self::Group(group) => group.part(name, view),
            Self::Message(message) => message.field(name),
            Self::Headers(headers) => joined((*headers)?, name).map(Self::Text),
            Self::Texts(texts) => {
                let text = texts.get(std::str::from_utf8(name).ok()?)?;
                Some(Self::Text(Cow::Borrowed(text.as_bytes())))
            }
            Self::Noted(noted) => match noted.get(std::str::from_utf8(name).ok()?)? {
                Noted::Text(text) => Some(Self::Text(Cow::Borrowed(text.as_bytes()))),
                Noted::Map(fields) => Some(Self::Noted(fields)),
            },
            _ => None,
        }
    }

    /// Appends the encoding for a module.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) -> Result<(), Status> {
        match self {
            Self::Bool(is) => to.push(u8::from(*is)),
            Self::Int(number) | Self::DurationNs(number) | Self::TimestampNs(number) => {
                to.extend_from_slice(&number.to_le_bytes());
            }
            Self::Uint(number) => to.extend_from_slice(&number.to_le_bytes()),
            Self::Text(bytes) | Self::Bytes(bytes) => to.extend_from_slice(bytes),
            Self::Nothing | Self::Headers(None) => encode_pairs(&[], to),
            Self::Headers(Some(headers)) => encode_pairs(&fields(headers)?, to),
            Self::Texts(texts) => {
                let pair = |(name, text): (&'a String, &'a String)| {
                    (name.as_bytes(), Cow::Borrowed(text.as_bytes()))
                };
                encode_pairs(&texts.iter().map(pair).collect::<Vec<_>>(), to);
            }
            Self::Noted(noted) => {
                let pair = |(name, noted): (&'a String, &'a Noted)| {
                    let mut value = Vec::new();
                    match noted {
                        Noted::Text(text) => value.extend_from_slice(text.as_bytes()),
                        Noted::Map(fields) => Self::Noted(fields).encode(&mut value)?,
                    }
                    Ok((name.as_bytes(), Cow::Owned(value)))
                };
                encode_pairs(&noted.iter().map(pair).collect::<Result<Vec<_>, Status>>()?, to);
            }
            Self::Message(message) => message.encode(to),
            Self::Group(_) | Self::Null => return Err(Status::SerializationFailure),
        }
        Ok(())
    }
}

/// The fields of a map, each with all values of its name: one that came twice is there twice,
/// with both values each time.
///
/// # Errors
///
/// `SerializationFailure` beyond [`MAP_BYTES_MAX`].
fn fields(headers: &HeaderMap) -> Result<Vec<Pair<'_>>, Status> {
    let (mut bytes, mut fields) = (0, Vec::with_capacity(headers.len()));
    for (name, _) in headers.iter() {
        let value = joined(headers, name).unwrap_or_default();
        bytes += name.len() + value.len();
        if bytes > MAP_BYTES_MAX {
            return Err(Status::SerializationFailure);
        }
        fields.push((&**name, value));
    }
    Ok(fields)
}

/// All values of a name, with a comma between them.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut values = headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value);
    let mut all = Cow::Borrowed(&**values.next()?);
    for value in values {
        let all = all.to_mut();
        all.push(b',');
        all.extend_from_slice(value);
    }
    Some(all)
}

/// The encoding that header maps have too, but for names of any case.
pub(crate) fn encode_pairs(pairs: &[Pair<'_>], to: &mut Vec<u8>) {
    // Nothing here comes near 4 GiB: exchanges are bounded far below.
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    to.extend_from_slice(&word(pairs.len()));
    for (name, value) in pairs {
        to.extend_from_slice(&word(name.len()));
        to.extend_from_slice(&word(value.len()));
    }
    for text in pairs.iter().flat_map(|(name, value)| [*name, &**value]) {
        to.extend_from_slice(text);
        to.push(0);
    }
}
