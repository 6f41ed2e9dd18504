//! What is counted: all of it grows, and is read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one host's part in the shared log.
#[derive(Debug, Default)]
pub struct Counts {
    losses: AtomicU64,
    damages: AtomicU64,
    begun: AtomicU64,
    put_back: AtomicU64,
    mended: AtomicU64,
    appended: AtomicU64,
    not_appended: AtomicU64,
    followed: AtomicU64,
    unknown: AtomicU64,
    cut: AtomicU64,
    carried: AtomicU64,
    entries: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident, $add:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> u64 {
            self.$name.load(Ordering::Relaxed)
        }

        pub(super) fn $add(&self, count: u64) {
            self.$name.fetch_add(count, Ordering::Relaxed);
        }
    )*};
}

impl Counts {
    counts! {
        /// Times that the log lacked what this host knew of it: a fail-over, a flush, an eviction.
        losses, add_losses;
        /// Times that the log itself had a gap, and another was begun in its place.
        damages, add_damages;
        /// Logs that this host began.
        begun, add_begun;
        /// Records that this host put back into the log.
        put_back, add_put_back;
        /// Times that this host saw to it that the log lacks nothing.
        mended, add_mended;
        /// Records that were accepted here and appended.
        appended, add_appended;
        /// Attempts to append that came to nothing.
        not_appended, add_not_appended;
        /// Records of the log that this host took in, its own among them.
        followed, add_followed;
        /// Records of the log that are of a newer version, and that this one does not understand.
        unknown, add_unknown;
        /// Entries that this host cut from the log's head.
        cut, add_cut;
        /// Records that it appended again so that what stood before them could be cut.
        carried, add_carried;
    }

    /// How many entries the log has, as far as this host has looked; 0 if it has not.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn set_entries(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }
}
