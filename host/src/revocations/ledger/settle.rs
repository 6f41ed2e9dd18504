//! From recent to settled: a new run is written beside the old one, and then takes its place.
//!
//! B-trees copy each page that a record is put into, which for ids in no order is one page for
//! each; a run takes an eleventh of the room and is written from end to end. So records wait in
//! the B-tree until there are enough of them.

use super::run::{Run, Writer};
use super::tally::Tally;
use super::view::{View, rows};
use super::{Ledger, RECENT, SETTLING, Standing, change, not_open};
use crate::revocations::Fault;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_core::revoke::Record;

/// What is to become a run: nothing of it changes any more.
pub(in crate::revocations) struct Settling {
    view: View,
    folder: PathBuf,
    number: u64,
}

/// A run that can take the old one's place.
pub(in crate::revocations) struct Settled {
    run: Run,
    /// Of what was left out, for it was over.
    gone: Tally,
    is_over: Box<dyn Fn(&Record) -> bool + Send>,
}

impl Settling {
    /// Writes the run; what is over is left out. Fails as soon as `goes_on` does.
    pub(in crate::revocations) fn write(
        &self,
        is_over: impl Fn(&Record) -> bool + Send + 'static,
        goes_on: impl Fn() -> Result<(), Fault>,
    ) -> Result<Settled, Fault> {
        let mut gone = Tally::default();
        let mut writer = Writer::begin(&self.folder, self.number)?;
        let mut write = || -> Result<(), Fault> {
            for record in self.view.settled_after(None)? {
                let record = record?;
                goes_on()?;
                match is_over(&record) {
                    true => gone.add(&record),
                    false => writer.put(&record)?,
                }
            }
            Ok(())
        };
        let written = write().and_then(|()| writer.end());
        if written.is_err() {
            Run::remove(&self.folder, self.number);
        }
        Ok(Settled { run: written?, gone, is_over: Box::new(is_over) })
    }
}

impl Ledger {
    /// From now on what is recent is settling, unless something still is; `None` in memory, where
    /// nothing settles.
    pub(in crate::revocations) fn settle(
        &self,
        standing: &mut Standing,
    ) -> Result<Option<Settling>, Fault> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        if !standing.is_settling {
            let mut then = standing.clone();
            (then.is_settling, then.recent) = (true, 0);
            let database = self.database();
            let database = database.as_ref().ok_or_else(not_open)?;
            change::transact(database, &then, |transaction| {
                transaction.rename_table(RECENT, SETTLING)?;
                transaction.open_table(RECENT)?;
                Ok(())
            })?;
            *standing = then;
        }
        let view = self.view()?;
        Ok(Some(Settling { view, folder, number: standing.run + 1 }))
    }

    /// Puts the new run in the place of the old one and of what was settling.
    ///
    /// Whoever reads begins a transaction first and looks at the run then: so it may see the new
    /// run with the old tables, which together say the same as before, and never the old run
    /// without what was settling.
    pub(in crate::revocations) fn settled(
        &self,
        standing: &mut Standing,
        settled: Settled,
    ) -> Result<(), Fault> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let Settled { run, mut gone, is_over } = settled;
        let mut then = standing.clone();
        let old = {
            let database = self.database();
            let database = database.as_ref().ok_or_else(not_open)?;
            let view = self.view_of(database)?;
            if gone != Tally::default() {
                // What was left out and has come anew since is counted as that.
                for record in rows(&view.recent, None)? {
                    let under = view.settled(record?.id)?.filter(&is_over);
                    under.iter().for_each(|record| gone.take(record));
                }
            }
            then.tally.take_all(&gone);
            (then.is_settling, then.run) = (false, run.number);
            let old = self.exchange_run(Some(Arc::new(run)));
            let done = change::transact(database, &then, |transaction| {
                transaction.delete_table(SETTLING)?;
                Ok(())
            });
            if let Err(fault) = done {
                self.exchange_run(old);
                return Err(fault);
            }
            old
        };
        *standing = then;
        if let Some(old) = old {
            Run::remove(&folder, old.number);
        }
        Ok(())
    }
}
