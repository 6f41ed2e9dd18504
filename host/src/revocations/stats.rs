//! How it is with the revocations of a host, and some of them at a time.

use super::Fault;
use std::time::Duration;
use tidegate_core::revoke::{Id, Kind, Position, Record};

/// Some of all records, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that were asked for; there may be none and still be more behind.
    pub records: Vec<Record>,
    /// Ask for what comes after this one; `None` if this was the last page.
    pub next: Option<Id>,
}

/// How it is with the revocations of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Records that revoke, by kind, in the order of [`Kind::ALL`].
    pub records: [u64; Kind::ALL.len()],
    /// Records that lift, which are kept until what they lift cannot come back.
    pub lifted: u64,
    /// Records that wait for the shared log.
    pub held: usize,
    /// How far the log is known.
    pub position: Position,
    /// Whether hosts share the log.
    pub is_shared: bool,
    /// How long ago this host last knew that it knew everything; nothing if the log is its own,
    /// `None` if it never did.
    pub age: Option<Duration>,
    /// The size of the files, with whatever is free in them; 0 in memory.
    pub file_bytes: u64,
    /// Why it cannot be written, since the last try; or that it is damaged.
    pub fault: Option<Fault>,
    /// What proxies fetch; `None` while the first is being made.
    pub images: Option<Images>,
}

/// Images that proxies fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The entry of the log up to which they hold all.
    pub cut: u64,
    /// How long ago they were made.
    pub age: Duration,
    /// How long a generation is, in seconds.
    pub span_secs: u32,
    /// One for each that has any id.
    pub generations: Vec<Generation>,
}

/// The image of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Which: tokens with an `exp` of this number less 1, times the span, and later; 0 is what is
    /// looked at for all.
    pub number: u32,
    /// How many ids are in it.
    pub ids: u64,
    /// Its size.
    pub bytes: u32,
}

impl Stats {
    /// Whether nothing at all is known.
    pub fn is_empty(&self) -> bool {
        self.lifted == 0 && self.held == 0 && self.records.iter().all(|count| *count == 0)
    }
}
