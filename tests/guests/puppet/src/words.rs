//! The words of a script's line, as what host calls take.
//!
//! A text stands for its bytes, `%2e` for one byte by its hex number, `%` alone for no bytes,
//! `@ADDRESS+LENGTH` for bytes that lie wherever the script says; `N*TEXT` is a text N times.
//! A map is written as a query is: `name=value&name=value`.

use crate::abi::At;

/// One line, without its verb.
pub(crate) struct Words<'a>(Vec<&'a str>);

/// Bytes that the host is to read.
pub(crate) struct In {
    pub(crate) at: At,
    pub(crate) len: usize,
    /// Keeps them where they are.
    _bytes: Vec<u8>,
}

impl<'a> Words<'a> {
    /// The verb of a line, and its other words.
    pub(crate) fn of(line: &'a str) -> (&'a str, Self) {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or_default(), Self(words.collect()))
    }

    /// A word as it stands; empty if there is none.
    pub(crate) fn word(&self, place: usize) -> &'a str {
        self.0.get(place).copied().unwrap_or_default()
    }

    /// A number, decimal or `0x…`, negative too; zero if there is none.
    pub(crate) fn long(&self, place: usize) -> i64 {
        long(self.word(place))
    }

    /// The low 32 bits of [`Self::long`].
    pub(crate) fn num(&self, place: usize) -> u32 {
        self.long(place) as u32
    }

    /// A text's bytes.
    pub(crate) fn bytes(&self, place: usize) -> In {
        match somewhere(self.word(place)) {
            Some(somewhere) => somewhere,
            None => unescaped(self.word(place)).into(),
        }
    }

    /// A property's path: its parts have `.` between them here, and NUL for the host.
    pub(crate) fn path(&self, place: usize) -> In {
        let joined = || {
            let parts: Vec<_> = self.word(place).split('.').map(unescaped).collect();
            parts.join(&0).into()
        };
        somewhere(self.word(place)).unwrap_or_else(joined)
    }

    /// An encoded map.
    pub(crate) fn map(&self, place: usize) -> In {
        match somewhere(self.word(place)) {
            Some(somewhere) => somewhere,
            None => encoded(self.word(place)).into(),
        }
    }
}

impl From<Vec<u8>> for In {
    fn from(bytes: Vec<u8>) -> Self {
        Self { at: bytes.as_ptr() as At, len: bytes.len(), _bytes: bytes }
    }
}

/// A number; zero if it is none.
pub(crate) fn long(word: &str) -> i64 {
    match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).unwrap_or_default(),
        None => word.parse().unwrap_or_default(),
    }
}

fn repeated(word: &str) -> Option<(usize, &str)> {
    let (times, text) = word.split_once('*')?;
    Some((times.parse().ok()?, text))
}

fn somewhere(word: &str) -> Option<In> {
    let (at, len) = word.strip_prefix('@')?.split_once('+')?;
    Some(In { at: long(at) as u32 as At, len: long(len) as u32 as usize, _bytes: Vec::new() })
}

fn unescaped(word: &str) -> Vec<u8> {
    if let Some((times, text)) = repeated(word) {
        return unescaped(text).repeat(times);
    }
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'%', None) => rest = tail,
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// `%` alone is a map without fields, in the four bytes that the Rust SDK writes for it;
/// no word at all is no bytes. `N*name=value` is a field N times.
fn encoded(word: &str) -> Vec<u8> {
    if word.is_empty() {
        return Vec::new();
    }
    let mut pairs = Vec::new();
    for field in word.split('&').filter(|it| *it != "%") {
        let (times, field) = repeated(field).unwrap_or((1, field));
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        for _ in 0..times {
            pairs.push([unescaped(name), unescaped(value)]);
        }
    }
    let word = |len: usize| (len as u32).to_le_bytes();
    let mut encoded = word(pairs.len()).to_vec();
    encoded.extend(pairs.iter().flatten().flat_map(|text| word(text.len())));
    for text in pairs.iter().flatten() {
        encoded.extend_from_slice(text);
        encoded.push(0);
    }
    encoded
}
