//! Header maps as filters see them: in order, names lower-case, values of any bytes.
//!
//! And their encoding at the module's edge: a count, the lengths, then each name and value
//! with a NUL behind it; all numbers little-endian `u32`.

use bytes::Bytes;
use std::sync::Arc;

/// The most fields that a filter may hand over at once.
pub const FIELDS_MAX: usize = 1024;

/// The most bytes that an encoded map which a filter hands over may have.
pub const ENCODED_BYTES_MAX: usize = 1 << 20;

/// Fields in the order in which they came; a name may come several times. Cheap to clone:
/// what is sent on is kept to be logged.
#[derive(Clone, Default)]
pub struct HeaderMap {
    /// Copied when one of several that share them is changed.
    fields: Option<Arc<Vec<(Bytes, Bytes)>>>,
}

/// An encoded map that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl HeaderMap {
    /// A map without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: None }
    }

    fn fields(&self) -> &[(Bytes, Bytes)] {
        self.fields.as_deref().map_or(&[], Vec::as_slice)
    }

    fn fields_mut(&mut self) -> &mut Vec<(Bytes, Bytes)> {
        Arc::make_mut(self.fields.get_or_insert_default())
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields().is_empty()
    }

    /// How many bytes all names and values have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields().iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The first value of a name, however that is written.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.fields().iter().map(|(name, value)| (name, value))
    }

    /// Adds a field behind the others; a pseudo header behind the other pseudo headers.
    pub fn add(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (name, value) = (lower(name.into()), value.into());
        let fields = self.fields_mut();
        if !is_pseudo(&name) {
            return fields.push((name, value));
        }
        let place = fields.iter().position(|(known, _)| !is_pseudo(known));
        fields.insert(place.unwrap_or(fields.len()), (name, value));
    }

    /// Gives a name one value: its fields are removed, and one is added, as in Envoy.
    pub fn replace(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.add(name, value);
    }

    /// Removes all fields of a name.
    pub fn remove(&mut self, name: &[u8]) {
        if self.get(name).is_some() {
            self.fields_mut().retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        }
    }

    /// How many bytes [`HeaderMap::encode`] makes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        4 + self.len() * 10 + self.bytes()
    }

    /// The encoding for a module.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.reserve(self.encoded_bytes());
        to.extend_from_slice(&word(self.len()));
        for (name, value) in self.iter() {
            to.extend_from_slice(&word(name.len()));
            to.extend_from_slice(&word(value.len()));
        }
        for (name, value) in self.iter() {
            for text in [name, value] {
                to.extend_from_slice(text);
                to.push(0);
            }
        }
    }

    /// Reads what a module encoded; nothing at all is an empty map.
    ///
    /// # Errors
    ///
    /// If it does not use up `encoded` exactly, lacks a NUL, or is beyond [`FIELDS_MAX`] or
    /// [`ENCODED_BYTES_MAX`].
    pub fn decode(encoded: &[u8]) -> Result<Self, Malformed> {
        if encoded.is_empty() {
            return Ok(Self::new());
        }
        if encoded.len() > ENCODED_BYTES_MAX {
            return Err(Malformed);
        }
        let number = |at: usize| -> Result<usize, Malformed> {
            let bytes = encoded.get(at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize).ok_or(Malformed)
        };
        let count = number(0)?;
        if count > FIELDS_MAX {
            return Err(Malformed);
        }
        let mut at = 4 + count * 8;
        let mut text = |len: usize| -> Result<Bytes, Malformed> {
            let end = at.checked_add(len).ok_or(Malformed)?;
            let found = encoded.get(at..end).ok_or(Malformed)?;
            if encoded.get(end) != Some(&0) {
                return Err(Malformed);
            }
            at = end + 1;
            Ok(Bytes::copy_from_slice(found))
        };
        let mut map = Self { fields: Some(Arc::new(Vec::with_capacity(count))) };
        for place in 0..count {
            let name = text(number(4 + place * 8)?)?;
            let value = text(number(8 + place * 8)?)?;
            map.add(name, value);
        }
        if at == encoded.len() { Ok(map) } else { Err(Malformed) }
    }
}

impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }
}

impl Eq for HeaderMap {}

impl std::fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<Bytes>, V: Into<Bytes>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let lowered = |(name, value): (N, V)| (lower(name.into()), value.into());
        Self { fields: Some(Arc::new(fields.into_iter().map(lowered).collect())) }
    }
}

fn is_pseudo(name: &[u8]) -> bool {
    name.first() == Some(&b':')
}

fn lower(name: Bytes) -> Bytes {
    if name.iter().any(u8::is_ascii_uppercase) {
        return name.to_ascii_lowercase().into();
    }
    name
}

fn word(number: usize) -> [u8; 4] {
    // Nothing here comes near 4 GiB: proxies bound headers far below.
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().copied().collect()
    }

    fn encoded(map: &HeaderMap) -> Vec<u8> {
        let mut bytes = Vec::new();
        map.encode(&mut bytes);
        bytes
    }

    #[test]
    fn names_are_lower_case_and_found_however_they_are_written() {
        let map = map(&[("X-Key", "A"), ("x-key", "b")]);
        assert_eq!(map.get(b"X-KEY").unwrap(), "A");
        assert!(map.iter().all(|(name, _)| name == "x-key"));
    }

    #[test]
    fn replace_leaves_one_field_the_last() {
        let mut fields = map(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]);
        fields.replace("A", "5");
        fields.replace("d", "6");
        assert_eq!(fields, map(&[("b", "2"), ("c", "4"), ("a", "5"), ("d", "6")]));
    }

    #[test]
    fn pseudo_headers_stay_before_fields() {
        let mut fields = map(&[(":path", "/"), (":method", "GET"), ("a", "1")]);
        fields.replace(":path", "/b");
        fields.add(":scheme", "http");
        let wanted = [(":method", "GET"), (":path", "/b"), (":scheme", "http"), ("a", "1")];
        assert_eq!(fields, map(&wanted));
    }

    #[test]
    fn remove_takes_all_fields_of_a_name() {
        let mut fields = map(&[("a", "1"), ("b", "2"), ("a", "3")]);
        fields.remove(b"A");
        assert_eq!(fields, map(&[("b", "2")]));
    }

    #[test]
    fn a_changed_copy_leaves_the_other_alone() {
        let fields = map(&[("a", "1")]);
        let mut copy = fields.clone();
        copy.replace("a", "2");
        assert_eq!(
            (fields.get(b"a").unwrap(), copy.get(b"a").unwrap()),
            (&"1".into(), &"2".into())
        );
        copy.remove(b"a");
        assert_eq!((copy, HeaderMap::new()), (HeaderMap::new(), HeaderMap::default()));
    }

    #[test]
    fn an_encoded_map_is_read_back() {
        let fields = map(&[("a", ""), ("", "b"), ("a", "\0")]);
        let bytes = encoded(&fields);
        assert_eq!(bytes.len(), fields.encoded_bytes());
        assert_eq!(HeaderMap::decode(&bytes), Ok(fields));
        assert_eq!(HeaderMap::decode(&[]), Ok(HeaderMap::new()));
        assert_eq!(HeaderMap::decode(&[0; 4]), Ok(HeaderMap::new()));
    }

    #[test]
    fn what_does_not_fit_exactly_is_refused() {
        let bytes = encoded(&map(&[("ab", "cd")]));
        for end in 1..bytes.len() {
            assert_eq!(HeaderMap::decode(&bytes[..end]), Err(Malformed), "cut at {end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(HeaderMap::decode(&longer), Err(Malformed));
        assert_eq!(HeaderMap::decode(&u32::MAX.to_le_bytes()), Err(Malformed));
    }
}
