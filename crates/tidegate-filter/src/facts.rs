//! Reads from the proxy what a policy wants to know of a request, when it comes to it.
//!
//! One header alone is read by itself; where a policy wants several, the whole map is
//! fetched at once, because two single reads already cost as much.

use crate::abi::memory::Bytes;
use crate::abi::{self, Map};
use tidegate_core::facts::{Facts, Want, WantId};

/// How one policy's wants are best read; made once for each policy.
pub(crate) struct Reader {
    /// Header names and their wants, if the whole map is to be fetched.
    mapped: Vec<(Box<str>, usize)>,
    cache: Vec<Fact>,
    map: Bytes,
}

/// One request's facts, as far as they were read.
pub(crate) struct RequestFacts<'r> {
    reader: &'r mut Reader,
}

enum Fact {
    Unread,
    Absent,
    Value(Bytes),
    /// Bytes of the map, from where and how many.
    Mapped(usize, usize),
}

impl Reader {
    pub(crate) fn new(wants: &[Want]) -> Self {
        let name = |(place, want): (usize, &Want)| match want {
            Want::Header(name) => Some((name.clone(), place)),
            _ => None,
        };
        let mut mapped: Vec<_> = wants.iter().enumerate().filter_map(name).collect();
        if mapped.len() < 2 {
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
        for (_, place) in &self.mapped {
            if let Some(fact) = self.cache.get_mut(*place) {
                *fact = Fact::Absent;
            }
        }
        self.map = abi::headers(Map::Request);
        let start = self.map.as_ptr() as usize;
        for (name, value) in abi::pairs(&self.map) {
            let wanted = self.mapped.iter().find(|(wanted, _)| wanted.as_bytes() == name);
            if let Some(fact) = wanted.and_then(|(_, place)| self.cache.get_mut(*place))
                && matches!(fact, Fact::Absent)
            {
                *fact = Fact::Mapped(value.as_ptr() as usize - start, value.len());
            }
        }
    }
}

impl Facts for RequestFacts<'_> {
    fn read(&mut self, id: WantId, want: &Want) -> Option<&[u8]> {
        let place = usize::from(id.0);
        if let Some(Fact::Unread) = self.reader.cache.get(place) {
            match want {
                Want::Header(_) if !self.reader.mapped.is_empty() => self.reader.fetch_map(),
                _ => {
                    let fact = fetch(want).map_or(Fact::Absent, Fact::Value);
                    *self.reader.cache.get_mut(place)? = fact;
                }
            }
        }
        match self.reader.cache.get(place)? {
            Fact::Unread | Fact::Absent => None,
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
    }
}
