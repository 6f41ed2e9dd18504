//! The order in which all records stand, and a place in it that can be checked.
//!
//! A log's entries are numbered without gaps, and each is chained to those before it: so who
//! holds a position can tell whether another's log goes on from there, or has lost or rewritten
//! what came before (a fail-over does that). There is no need to agree on who is right: records
//! go together in any order, and what a log lacks is put into it again.

use sha2::{Digest as _, Sha256};

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
    /// little-endian number, of SHA-256 over the last link (8 bytes, little-endian) and the entry.
    pub fn then(&self, entry: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(self.chain.to_le_bytes()).chain_update(entry);
        let chain = u64::from_le_bytes(crate::field::get(&digest.finalize(), 0));
        Self { log: self.log, number: self.number + 1, chain }
    }
}
