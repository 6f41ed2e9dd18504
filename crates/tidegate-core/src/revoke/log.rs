//! The order in which all records stand, and a place in it that can be checked.
//!
//! A log's entries are numbered without gaps, and each is chained to those before it: so who
//! holds a position can tell whether another's log goes on from there, or has lost or rewritten
//! what came before (a fail-over does that). There is no need to agree on who is right: records
//! go together in any order, and what a log lacks is put into it again.

use core::fmt::{self, Write as _};
use sha1_smol::Sha1;

/// After which entry of which log: everything up to there is known, and nothing behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log: drawn at random when it was begun; 0 is none.
    pub log: u64,
    /// How many entries there are up to here.
    pub number: u64,
    /// What they were: see [`Position::then`].
    pub chain: u64,
}

impl Position {
    /// Before the first entry of a log.
    pub const fn start(log: u64) -> Self {
        Self { log, number: 0, chain: log }
    }

    /// The position after one more entry: the chain's next link is the first 8 bytes, as a
    /// big-endian number, of SHA-1 over the last link, as 16 hex digits, and the entry.
    ///
    /// SHA-1 because a script within Redis has no other hash. The chain is to tell histories
    /// apart, not to resist whoever writes the log: they could write a whole other one.
    pub fn then(&self, entry: &[u8]) -> Self {
        let mut hash = Sha1::new();
        // Writing into a hash does not fail.
        let _ = write!(Into(&mut hash), "{:016x}", self.chain);
        hash.update(entry);
        let chain = u64::from_be_bytes(crate::field::get(&hash.digest().bytes(), 0));
        Self { log: self.log, number: self.number + 1, chain }
    }
}

/// Text as input of a hash.
struct Into<'a>(&'a mut Sha1);

impl fmt::Write for Into<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
