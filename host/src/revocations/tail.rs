//! What came last, in memory, as proxies are told of it.

use std::collections::VecDeque;
use std::time::Instant;
use tidegate_core::revoke::{Id, Position};

/// How many records it keeps beyond those after the last cut: 5 MB.
const RECORDS_KEPT: usize = 131_072;

/// The newest entries of the log.
pub(super) struct Tail {
    /// Before the first line.
    start: Position,
    lines: VecDeque<Line>,
    records: usize,
}

/// One entry, as far as it matters to proxies.
pub(super) struct Line {
    /// Behind it.
    pub(super) position: Position,
    /// What each id is revoked with since then, or 0.
    pub(super) told: Vec<(Id, u64)>,
    /// When this host knew of it.
    pub(super) known: Instant,
    /// How long before that it was accepted, in milliseconds.
    pub(super) age_ms: u64,
}

impl Tail {
    /// Nothing yet, behind `position`.
    pub(super) const fn new(position: Position) -> Self {
        Self { start: position, lines: VecDeque::new(), records: 0 }
    }

    /// One more entry.
    pub(super) fn push(&mut self, line: Line) {
        self.records += line.told.len();
        self.lines.push_back(line);
        while self.records > RECORDS_KEPT
            && let Some(gone) = self.lines.pop_front()
        {
            self.records -= gone.told.len();
            self.start = gone.position;
        }
    }
}
