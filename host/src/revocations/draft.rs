//! What will be known when a change of the file is durable.

use super::ledger::Change;
use super::scribe::NotDone;
use super::tail::Line;
use super::{Entry, Fault, HELD_MAX, Held, Now};
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Position, Record};

/// One thing to write: what is not divided.
pub(super) enum Step {
    /// One more entry of this host's own log.
    Append(Vec<Record>),
    /// One of the shared log. What does not follow is refused.
    Apply(Entry),
    /// Records that wait for the shared log.
    Hold(Vec<Record>),
    /// Another log, or the same one less far.
    BeginAnew(Position),
    /// The shared log lacks nothing.
    Paid,
    /// Records that nothing can be alive of any more.
    Forget(Vec<Record>),
}

/// What will be known.
pub(super) struct Draft {
    pub(super) position: Position,
    pub(super) held: Vec<Held>,
    pub(super) lines: Vec<Line>,
    /// Where the log begins, if it is another one.
    pub(super) anew: Option<Position>,
    now_ms: u64,
}

impl Step {
    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Append(records) | Self::Hold(records) | Self::Forget(records) => records.len(),
            Self::Apply(entry) => entry.records.len(),
            Self::BeginAnew(_) | Self::Paid => 1,
        }
    }

    /// How many records there may be more of after it.
    pub(super) fn adds(&self) -> usize {
        match self {
            Self::Forget(_) | Self::BeginAnew(_) | Self::Paid => 0,
            _ => self.len(),
        }
    }

    /// When the entry was made that it is, and how many records it has; `None` if it is none.
    pub(super) fn entry(&self, now_ms: u64) -> Option<(u64, u64)> {
        let (made_ms, records) = match self {
            Self::Append(records) => (now_ms, records),
            Self::Apply(entry) => (newest_ms(&entry.records), &entry.records),
            _ => return None,
        };
        Some((made_ms, records.len() as u64))
    }
}

impl Draft {
    pub(super) fn of(now: &Now, now_ms: u64) -> Self {
        let (position, held) = (now.standing.position, now.held.clone());
        Self { position, held, lines: Vec::new(), anew: None, now_ms }
    }

    /// Adds a step to the change. What is wrong with it alone is its own end, and changes nothing.
    pub(super) fn add(
        &mut self,
        change: &mut Change<'_>,
        step: &Step,
    ) -> Result<Result<Position, NotDone>, Fault> {
        match step {
            Step::Append(records) => {
                self.entry(change, self.position.then(&bytes(records)), records, self.now_ms)?;
            }
            Step::Apply(Entry { position, records }) => {
                let last = (self.position.log, self.position.number + 1);
                if (position.log, position.number) != last {
                    return Ok(Err(NotDone::Gap));
                }
                // Who says that it was accepted in the future has a clock that is ahead.
                let accepted_ms = newest_ms(records).min(self.now_ms);
                self.entry(change, *position, records, accepted_ms)?;
                self.release(change, records)?;
            }
            Step::Hold(records) => {
                if self.held.len() + records.len() > HELD_MAX {
                    return Ok(Err(NotDone::HeldMax));
                }
                self.hold(change, records)?;
            }
            Step::BeginAnew(position) => {
                change.begin_anew(*position)?;
                self.position = *position;
                self.lines.clear();
                self.anew = Some(*position);
            }
            Step::Paid => change.paid(),
            Step::Forget(records) => {
                for record in records {
                    change.forget(record)?;
                }
            }
        }
        Ok(Ok(self.position))
    }

    fn entry(
        &mut self,
        change: &mut Change<'_>,
        position: Position,
        records: &[Record],
        accepted_ms: u64,
    ) -> Result<(), Fault> {
        let told = change.take(records)?;
        change.log(position, records)?;
        // Proxies are told of what is held behind the entries, and the last word holds.
        for held in &mut self.held {
            if let Ok(at) = told.binary_search_by_key(&held.record.id, |(id, _)| *id) {
                held.before_secs = told[at].1;
            }
        }
        self.lines.push(Line { position, told, accepted_ms });
        self.position = position;
        Ok(())
    }

    fn hold(&mut self, change: &mut Change<'_>, records: &[Record]) -> Result<(), Fault> {
        let told = change.take(records)?;
        for record in records {
            let before_secs =
                told.binary_search_by_key(&record.id, |(id, _)| *id).map_or(0, |at| told[at].1);
            let held = match self.held.binary_search_by_key(&record.id, |held| held.record.id) {
                Ok(at) => {
                    let held = &mut self.held[at];
                    *held = Held { record: held.record.and(record), before_secs };
                    held.record
                }
                Err(at) => {
                    self.held.insert(at, Held { record: *record, before_secs });
                    *record
                }
            };
            change.hold(&held)?;
        }
        Ok(())
    }

    /// What is held and adds nothing to these is held no more.
    fn release(&mut self, change: &mut Change<'_>, records: &[Record]) -> Result<(), Fault> {
        for record in records {
            if let Ok(at) = self.held.binary_search_by_key(&record.id, |held| held.record.id)
                && record.and(&self.held[at].record) == *record
            {
                let gone: Id = self.held.remove(at).record.id;
                change.release(gone)?;
            }
        }
        Ok(())
    }
}

/// An entry of this host's own log, as it is chained.
fn bytes(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
    records.iter().for_each(|record| bytes.extend(record.to_bytes()));
    bytes
}

fn newest_ms(records: &[Record]) -> u64 {
    records.iter().map(|record| record.at_ms).max().unwrap_or_default()
}
