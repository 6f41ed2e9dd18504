//! Reads from the proxy what a policy wants to know of a request, when it comes to it.
//!
//! One header alone is read by itself; where a policy wants several, the whole map is
//! fetched at once, because two single reads already cost as much. So it is for one that may not
//! be repeated, because a single read tells of its first value only.

use crate::abi::memory::Bytes;
use crate::abi::{self, Map};
use tidegate_core::facts::{Facts, REPEATED, Want, WantId};

/// How one policy's wants are best read; made once for each policy.
pub(crate) struct Reader {
    /// Headers, if the whole map is to be fetched.
    mapped: Vec<Mapped>,
    cache: Vec<Fact>,
    map: Bytes,
}

/// One request's facts, as far as they were read.
pub(crate) struct RequestFacts<'r> {
    reader: &'r mut Reader,
}

/// A header that is read off the map.
struct Mapped {
    name: Box<str>,
    /// Its want.
    place: usize,
    /// Whether it may be there once only.
    is_sole: bool,
}

enum Fact {
    Unread,
    Absent,
    Repeated,
    Value(Bytes),
    /// Bytes of the map, from where and how many.
    Mapped(usize, usize),
}

impl Reader {
    pub(crate) fn new(wants: &[Want]) -> Self {
        let header = |(place, want): (usize, &Want)| match want {
            Want::Header(name) => Some(Mapped { name: name.clone(), place, is_sole: false }),
            Want::SoleHeader(name) => Some(Mapped { name: name.clone(), place, is_sole: true }),
            _ => None,
        };
        let mut mapped: Vec<_> = wants.iter().enumerate().filter_map(header).collect();
        if mapped.len() < 2 && !mapped.iter().any(|header| header.is_sole) {
            mapped.clear();
        }
        let cache = wants.iter().map(|_| Fact::Unread).collect();
        Self { mapped, cache, map: Bytes::default() }
    }

    /// Starts a new request. Drops what the last one read: the scratch memory it lay in
    /// is another's now.
    pub(crate) fn request(&mut self) -> RequestFacts<'_> {
        self.cache.fill_with(|| Fact::Unread);
        self.map = Bytes::default();
        RequestFacts { reader: self }
    }

    fn fetch_map(&mut self) {
        for header in &self.mapped {
            if let Some(fact) = self.cache.get_mut(header.place) {
                *fact = Fact::Absent;
            }
        }
        self.map = abi::headers(Map::Request);
        let start = self.map.as_ptr() as usize;
        for (name, value) in abi::pairs(&self.map) {
            for header in self.mapped.iter().filter(|header| header.name.as_bytes() == name) {
                let Some(fact) = self.cache.get_mut(header.place) else { continue };
                if matches!(fact, Fact::Absent) {
                    *fact = Fact::Mapped(value.as_ptr() as usize - start, value.len());
                } else if header.is_sole {
                    *fact = Fact::Repeated;
                }
            }
        }
    }
}

impl Facts for RequestFacts<'_> {
    fn read(&mut self, id: WantId, want: &Want) -> Option<&[u8]> {
        let place = usize::from(id.0);
        if let Some(Fact::Unread) = self.reader.cache.get(place) {
            match want {
                Want::Header(_) | Want::SoleHeader(_) if !self.reader.mapped.is_empty() => {
                    self.reader.fetch_map();
                }
                _ => {
                    let fact = fetch(want).map_or(Fact::Absent, Fact::Value);
                    *self.reader.cache.get_mut(place)? = fact;
                }
            }
        }
        match self.reader.cache.get(place)? {
            Fact::Unread | Fact::Absent => None,
            Fact::Repeated => Some(REPEATED),
            Fact::Value(value) => Some(value),
            Fact::Mapped(start, len) => self.reader.map.get(*start..)?.get(..*len),
        }
    }
}

fn fetch(want: &Want) -> Option<Bytes> {
    match want {
        Want::Header(name) => abi::header(Map::Request, name),
        // As the connection manager trusts it: with hops and headers already considered.
        Want::ClientAddress => abi::property(b"source\0address"),
        // Proxies before 1.33 know it by its old name.
        Want::Route => abi::property(b"xds\0route_name").or_else(|| abi::property(b"route_name")),
        Want::Property(path) => abi::property(path.join("\0").as_bytes()),
        // Read off the map, worked out of other facts, and asked of plugins.
        Want::SoleHeader(_) | Want::Claim { .. } | Want::Output { .. } => None,
    }
}
