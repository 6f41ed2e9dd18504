//! All records as they were at one moment: those in the run, over them those that are settling,
//! and over these the recent ones.

use super::run::Run;
use super::tally::Tally;
use super::{RECENT, SETTLING, VALUE_BYTES, record};
use crate::revocations::Fault;
use redb::{ReadOnlyTable, ReadTransaction, TableError};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use tidegate_core::revoke::{Id, Record};

type Table = ReadOnlyTable<&'static [u8; 16], &'static [u8; VALUE_BYTES]>;

/// Records one after the other, in the order of ids.
type Records = Box<dyn Iterator<Item = Result<Record, Fault>>>;

/// All records of one moment.
pub(super) struct View {
    pub(super) recent: Table,
    pub(super) settling: Option<Table>,
    run: Option<Arc<Run>>,
}

impl View {
    /// What a transaction sees. The run must be looked at after that began: see
    /// [`Ledger::settled`](super::Ledger::settled).
    pub(super) fn new(read: &ReadTransaction, run: Option<Arc<Run>>) -> Result<Self, Fault> {
        let settling = match read.open_table(SETTLING) {
            Err(TableError::TableDoesNotExist(_)) => None,
            table => Some(table?),
        };
        Ok(Self { recent: read.open_table(RECENT)?, settling, run })
    }

    pub(super) fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        if let Some(found) = look_up(&self.recent, id)? {
            return Ok(Some(found));
        }
        self.settled(id)
    }

    /// As it is without the recent ones.
    pub(super) fn settled(&self, id: Id) -> Result<Option<Record>, Fault> {
        if let Some(settling) = &self.settling
            && let Some(found) = look_up(settling, id)?
        {
            return Ok(Some(found));
        }
        self.run.as_ref().map_or(Ok(None), |run| run.get(id))
    }

    /// All records behind `after`.
    pub(super) fn after(&self, after: Option<Id>) -> Result<Merged, Fault> {
        let mut sources = self.settled_after(after)?;
        sources.0.insert(0, rows(&self.recent, after)?.peekable());
        Ok(sources)
    }

    /// The same, without the recent ones.
    pub(super) fn settled_after(&self, after: Option<Id>) -> Result<Merged, Fault> {
        let mut sources = Vec::with_capacity(3);
        if let Some(settling) = &self.settling {
            sources.push(rows(settling, after)?.peekable());
        }
        if let Some(run) = &self.run {
            let records: Records = Box::new(run.after(after));
            sources.push(records.peekable());
        }
        Ok(Merged(sources))
    }

    /// All of them, counted.
    pub(super) fn tally(
        &self,
        mut look: impl FnMut(&Record) -> Result<(), Fault>,
    ) -> Result<Tally, Fault> {
        let mut tally = Tally::default();
        for record in self.after(None)? {
            let record = record?;
            tally.add(&record);
            look(&record)?;
        }
        Ok(tally)
    }
}

/// Several sources as one: of the same id the first one's counts.
pub(super) struct Merged(Vec<Peekable<Records>>);

impl Iterator for Merged {
    type Item = Result<Record, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, Id)> = None;
        for (at, source) in self.0.iter_mut().enumerate() {
            match source.peek() {
                None => {}
                Some(Err(_)) => return source.next(),
                Some(Ok(record)) if first.is_none_or(|(_, id)| record.id < id) => {
                    first = Some((at, record.id));
                }
                // The same id, or a later one.
                Some(Ok(_)) => {}
            }
        }
        let (at, id) = first?;
        for other in &mut self.0[at + 1..] {
            other.next_if(|record| record.as_ref().is_ok_and(|record| record.id == id));
        }
        self.0[at].next()
    }
}

fn look_up(table: &Table, id: Id) -> Result<Option<Record>, Fault> {
    table.get(&id.0)?.map(|value| record(&id.0, value.value())).transpose()
}

pub(super) fn rows(table: &Table, after: Option<Id>) -> Result<Records, Fault> {
    let first = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.0));
    let rows = table.range::<&[u8; 16]>((first, Bound::Unbounded))?;
    Ok(Box::new(rows.map(|row| {
        let (id, value) = row?;
        record(id.value(), value.value())
    })))
}
