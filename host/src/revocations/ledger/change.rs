//! One change of the file: all of it becomes durable, or none.

use super::run::Run;
use super::standing::Standing;
use super::{ENTRIES, HELD, RECENT, SETTLING, STANDING, VALUE_BYTES, entry, record, value};
use crate::revocations::Fault;
use redb::{Database, ReadableTable as _, WriteTransaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Position, Record};

/// How many of the newest entries are kept …
const ENTRIES_KEPT: u64 = 65_536;

/// … and of how many records: 17 MB.
const ENTRY_RECORDS_KEPT: u64 = 500_000;

type Table<'t> = redb::Table<'t, &'static [u8; 16], &'static [u8; VALUE_BYTES]>;

/// What is being changed.
pub(in crate::revocations) struct Change<'t> {
    standing: &'t mut Standing,
    recent: Table<'t>,
    settling: Option<Table<'t>>,
    run: Option<Arc<Run>>,
    entries: redb::Table<'t, u64, &'static [u8]>,
    held: Table<'t>,
}

/// Changes the file. When this returns, what `work` did is durable.
pub(super) fn commit<T>(
    database: &Database,
    standing: &mut Standing,
    run: Option<Arc<Run>>,
    work: impl FnOnce(&mut Change<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = begin(database)?;
    let done = {
        let settling = match standing.is_settling {
            true => Some(transaction.open_table(SETTLING)?),
            false => None,
        };
        let mut change = Change {
            standing,
            recent: transaction.open_table(RECENT)?,
            settling,
            run,
            entries: transaction.open_table(ENTRIES)?,
            held: transaction.open_table(HELD)?,
        };
        let done = work(&mut change)?;
        change.trim()?;
        done
    };
    end(transaction, standing)?;
    Ok(done)
}

/// Changes which tables there are, and what the file says of itself.
pub(super) fn transact(
    database: &Database,
    standing: &Standing,
    work: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let transaction = begin(database)?;
    work(&transaction)?;
    end(transaction, standing)
}

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    // First all pages, and when they are on the disk the root: so a root that does not fit its
    // pages is damage, and never a commit that was cut short.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn end(transaction: WriteTransaction, standing: &Standing) -> Result<(), Fault> {
    transaction.open_table(STANDING)?.insert((), &standing.to_bytes())?;
    Ok(transaction.commit()?)
}

impl Change<'_> {
    /// Takes these records in, and tells what each id then is revoked with: see
    /// [`Delta::before_secs`](tidegate_core::revoke::message::Delta::before_secs). In the order
    /// of ids, each once.
    pub(in crate::revocations) fn take(
        &mut self,
        records: &[Record],
    ) -> Result<Vec<(Id, u64)>, Fault> {
        let mut by_id: BTreeMap<Id, Record> = BTreeMap::new();
        for record in records {
            by_id.entry(record.id).and_modify(|held| *held = held.and(record)).or_insert(*record);
        }
        let mut told = Vec::with_capacity(by_id.len());
        for (id, new) in by_id {
            let old = self.get(id)?;
            let both = old.map_or(new, |old| old.and(&new));
            if old != Some(both) {
                self.put(old, both)?;
            }
            told.push((id, if both.lifts { 0 } else { both.before_secs }));
        }
        Ok(told)
    }

    fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        for table in [Some(&self.recent), self.settling.as_ref()].into_iter().flatten() {
            if let Some(value) = table.get(&id.0)? {
                return record(&id.0, value.value()).map(Some);
            }
        }
        self.run.as_ref().map_or(Ok(None), |run| run.get(id))
    }

    fn put(&mut self, old: Option<Record>, new: Record) -> Result<(), Fault> {
        if self.recent.insert(&new.id.0, &value(&new))?.is_none() {
            self.standing.recent += 1;
        }
        if let Some(old) = old {
            self.standing.tally.take(&old);
        }
        self.standing.tally.add(&new);
        Ok(())
    }

    /// Forgets a record that is recent, if it is still this one and nothing is under it.
    pub(in crate::revocations) fn forget(&mut self, gone: &Record) -> Result<(), Fault> {
        let is_alone = self.run.is_none() && self.settling.is_none();
        let old = self.recent.get(&gone.id.0)?.map(|value| *value.value());
        if is_alone && old == Some(value(gone)) {
            self.recent.remove(&gone.id.0)?;
            self.standing.recent -= 1;
            self.standing.tally.take(gone);
        }
        Ok(())
    }

    /// The log goes on with this entry, whose records were [taken](Self::take).
    pub(in crate::revocations) fn log(
        &mut self,
        position: Position,
        records: &[Record],
    ) -> Result<(), Fault> {
        let mut bytes = Vec::with_capacity(8 + records.len() * RECORD_BYTES);
        bytes.extend(position.chain.to_le_bytes());
        records.iter().for_each(|record| bytes.extend(record.to_bytes()));
        self.entries.insert(position.number, bytes.as_slice())?;
        self.standing.position = position;
        self.standing.logged += records.len() as u64;
        Ok(())
    }

    /// From now on another log is known, up to there, or the same one only up to there; it may
    /// lack whatever is known.
    pub(in crate::revocations) fn begin_anew(&mut self, position: Position) -> Result<(), Fault> {
        let log = self.standing.position.log;
        let there = self.entries.get(position.number)?;
        let there = there.map(|value| entry(log, position.number, value.value())).transpose()?;
        // What is kept must lead there.
        let is_kept = there.is_some_and(|entry| entry.position == position);
        let mut logged = 0;
        self.entries.retain(|number, value| {
            let stays = is_kept && number <= position.number;
            logged += if stays { records_of(value) } else { 0 };
            stays
        })?;
        self.standing.logged = logged;
        self.standing.position = position;
        self.standing.owes = true;
        Ok(())
    }

    /// The shared log has everything.
    pub(in crate::revocations) const fn paid(&mut self) {
        self.standing.owes = false;
    }

    /// The shared log lacks this one yet.
    pub(in crate::revocations) fn hold(&mut self, record: &Record) -> Result<(), Fault> {
        self.held.insert(&record.id.0, &value(record))?;
        Ok(())
    }

    /// The shared log has it.
    pub(in crate::revocations) fn release(&mut self, id: Id) -> Result<(), Fault> {
        self.held.remove(&id.0)?;
        Ok(())
    }

    /// Forgets the oldest entries beyond those that are kept. Their numbers have no gaps.
    fn trim(&mut self) -> Result<(), Fault> {
        loop {
            let Some((number, _)) = self.entries.first()? else { return Ok(()) };
            let kept = self.standing.position.number - number.value() + 1;
            drop(number);
            if kept <= ENTRIES_KEPT && self.standing.logged <= ENTRY_RECORDS_KEPT {
                return Ok(());
            }
            if let Some((_, gone)) = self.entries.pop_first()? {
                self.standing.logged -= records_of(gone.value());
            }
        }
    }
}

/// How many records an entry has, as it is stored.
const fn records_of(entry: &[u8]) -> u64 {
    ((entry.len() - 8) / RECORD_BYTES) as u64
}
