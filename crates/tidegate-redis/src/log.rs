//! The log of revocations in Redis: one stream, to which each host appends and which each host
//! follows.
//!
//! Its key is `tidegate:{revocations}:log`. Entry *n* of log *l* has the id `n-l`, so numbers
//! have no gaps, and the log's own id costs a byte in each (a stream keeps differences). Its
//! fields are `c`, the [chain](tidegate_core::revoke::Position::then) in 16 hex digits, and `r`,
//! [records](tidegate_core::revoke::Record) of 34 bytes. An entry of one record takes about 75
//! bytes of the server's memory, one of 1,024 records 34 each. The stream has no TTL.
//!
//! A server may forget: by a fail-over that lost the last writes, a flush, an eviction, a
//! restart. The log does not resist that, it shows it: whoever holds a position is told
//! [`Read::Lost`] as soon as that is not in the stream any more, and puts back what is missing.
//!
//! Readers wait by `XREAD BLOCK`. The server answers it in the very turn of its loop in which an
//! entry came, so a message on a channel would come no sooner, and could be lost. What no
//! blocked reader is woken by is a stream that is gone: so they look again four times a second.
//!
//! Both wait on connections of their own: a command that blocks would hold up asks.

mod append;
mod entry;
mod line;
mod read;

pub use append::{Appended, CALL_ENTRIES_MAX, Known, Replicas, Writer};
pub use entry::Entry;
pub use read::{BLOCK_MAX, News, Read, Reader};

use crate::settings::Settings;
use crate::stats::Stats;
pub(crate) use line::Home;
use line::Line;
use std::sync::Arc;

/// All names share it, and so their slot.
pub(crate) const HASH_TAG: &str = "revocations";

/// The stream.
const LOG: &str = "tidegate:{revocations}:log";

/// Whoever has it puts back what is missing; the others wait.
const TURN: &str = "tidegate:{revocations}:turn";

/// What commands are tried on.
const REHEARSAL: &str = "tidegate:{revocations}:rehearsal";

/// The most records of one entry: 34 KiB of them.
pub const ENTRY_RECORDS_MAX: usize = 1_024;

/// The log, wherever it is now.
#[derive(Clone)]
pub struct Log {
    home: Home,
    settings: Arc<Settings>,
    stats: Arc<Stats>,
}

impl Log {
    pub(crate) const fn new(home: Home, settings: Arc<Settings>, stats: Arc<Stats>) -> Self {
        Self { home, settings, stats }
    }

    /// One who reads it, over a connection of its own. Call within a tokio runtime.
    pub fn reader(&self) -> Reader {
        Reader::new(self.line())
    }

    /// One who writes it, over a connection of its own. Call within a tokio runtime.
    pub fn writer(&self) -> Writer {
        Writer::new(self.line())
    }

    fn line(&self) -> Line {
        Line::new(self.home.clone(), self.settings.clone(), self.stats.clone())
    }
}
