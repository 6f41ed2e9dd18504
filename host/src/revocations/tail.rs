//! What came last, in memory, as proxies are told of it.

use std::collections::VecDeque;
use tidegate_core::revoke::{Id, Position};

/// How many records it keeps: 10 MB. A proxy that knows less fetches images.
const RECORDS_KEPT: usize = 262_144;

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
    /// When it was accepted, in milliseconds of Unix time.
    pub(super) accepted_ms: u64,
}

/// Where another's position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the line of this index.
    Before(usize),
    /// In the same log, further on than is known here.
    Ahead,
    /// In another log, or in another past of this one, or too far back.
    Elsewhere,
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

    /// Where this is.
    pub(super) fn place(&self, known: &Position) -> Place {
        let Some(index) = known.number.checked_sub(self.start.number) else {
            return Place::Elsewhere;
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let here = match index {
            0 => Some(&self.start),
            _ => self.lines.get(index - 1).map(|line| &line.position),
        };
        match here {
            Some(here) if here == known => Place::Before(index),
            None if known.log == self.start.log => Place::Ahead,
            _ => Place::Elsewhere,
        }
    }

    /// Behind the last line.
    pub(super) fn end(&self) -> usize {
        self.lines.len()
    }

    /// The lines from this index on.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = &Line> {
        self.lines.range(index.min(self.lines.len())..)
    }

    /// How many records are in entries after number `from` up to `to`; as many as there are, if
    /// not all are kept.
    pub(super) fn records_between(&self, from: u64, to: u64) -> usize {
        let first = from.saturating_sub(self.start.number);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let until = self.from(first).take_while(|line| line.position.number <= to);
        until.map(|line| line.told.len()).sum()
    }
}
