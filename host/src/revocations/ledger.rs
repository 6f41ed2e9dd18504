//! All records, and the newest entries of the log, on the disk.
//!
//! What is recent is in redb: a copy-on-write B-tree with a checksum for each page. A transaction
//! is on the disk whole, or not at all, when its commit returns, and opening checks every page.
//! When there is enough of it, it settles into a [`run`]: a file in the order of ids that is
//! written once, of which the B-tree knows the number. On top of that the B-tree says how many
//! records of each kind there are in all, and the sum of their checksums: whatever is lost or
//! changed shows when it is opened, and when images are made, and is never served.
//!
//! ```text
//! recent    16 id    -> 1 kind   1 flags   5 before   5 until   6 at     (Record::to_bytes)
//! settling  as recent, while a run is made of it
//! entries   8 number -> 8 chain   34 each record
//! held      16 id    -> as recent              what the shared log does not have yet
//! standing           -> what the file says of itself: see Standing
//! ```
//!
//! - [`view`]: all records of one moment; [`change`]: how they become others
//! - [`settle`]: from recent to settled; [`run`]: what that is
//! - [`opening`]: reading all of it, and holding it against what it says of itself ([`standing`],
//!   [`tally`])

mod change;
mod opening;
mod run;
mod settle;
mod standing;
mod tally;
mod view;

pub(super) use change::Change;
pub(super) use opening::Told;
pub(super) use settle::{Settled, Settling};
pub(super) use standing::Standing;

use super::{Entry, Fault};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use run::Run;
use standing::STANDING_BYTES;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Position, Record};
use view::View;

/// The name of the B-tree's file in the folder.
const FILE: &str = "revocations.redb";

/// What must be free on the disk to write at all …
const ROOM_BYTES: u64 = 16 << 20;

/// … and for each record: at worst a page of its own, and its part of those above.
const RECORD_ROOM_BYTES: u64 = 4_608;

/// How many records [`Ledger::entries_after`] tells at once.
const ENTRY_RECORDS_TOLD: usize = 65_536;

/// While the file is opened again after a fault of the disk a look into it is tried so often, and
/// takes so much longer.
const LOOKS_MAX: usize = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

const VERSION: u8 = 1;
const VALUE_BYTES: usize = RECORD_BYTES - 16;

const RECENT: TableDefinition<&[u8; 16], &[u8; VALUE_BYTES]> = TableDefinition::new("recent");
const SETTLING: TableDefinition<&[u8; 16], &[u8; VALUE_BYTES]> = TableDefinition::new("settling");
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const HELD: TableDefinition<&[u8; 16], &[u8; VALUE_BYTES]> = TableDefinition::new("held");
const STANDING: TableDefinition<(), &[u8; STANDING_BYTES]> = TableDefinition::new("standing");

/// The files, while they can be used.
pub(super) struct Ledger {
    /// `None` after a fault, until it could be opened again.
    database: RwLock<Option<Database>>,
    run: Mutex<Option<Arc<Run>>>,
    /// `None` in memory.
    folder: Option<PathBuf>,
}

/// The records as they were at one moment, whatever is written meanwhile.
pub(super) struct Snapshot {
    view: View,
    standing: Standing,
}

impl Ledger {
    /// Changes the file: when this returns, what `work` did is durable. If it fails nothing was
    /// done, and `standing` is as before. `records` is how many there may be more of then.
    pub(super) fn change<T>(
        &self,
        standing: &mut Standing,
        records: usize,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut then = standing.clone();
        let done = {
            let database = self.database();
            let database = database.as_ref().ok_or_else(not_open)?;
            self.has_room(&then, records)?;
            change::commit(database, &mut then, self.run(), work)?
        };
        *standing = then;
        Ok(done)
    }

    pub(super) fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        self.look_up(|view| view.get(id))
    }

    /// What each of these is revoked with, or 0.
    pub(super) fn before(&self, ids: impl IntoIterator<Item = Id>) -> Result<Vec<u64>, Fault> {
        let ids: Vec<Id> = ids.into_iter().collect();
        self.look_up(|view| {
            let before = |id: &Id| {
                let record = view.get(*id)?.filter(|record| !record.lifts);
                Ok(record.map_or(0, |record| record.before_secs))
            };
            ids.iter().map(before).collect()
        })
    }

    /// Looks at records in the order of their ids, from behind `after`, until `look` has enough.
    pub(super) fn scan(
        &self,
        after: Option<Id>,
        mut look: impl FnMut(&Record) -> bool,
    ) -> Result<(), Fault> {
        for record in self.view()?.after(after)? {
            if !look(&record?) {
                break;
            }
        }
        Ok(())
    }

    /// The records as they are now, by whoever writes them.
    pub(super) fn snapshot(&self, standing: &Standing) -> Result<Snapshot, Fault> {
        Ok(Snapshot { view: self.view()?, standing: standing.clone() })
    }

    /// Entries of the log after this number, oldest first, as far back as they are kept.
    pub(super) fn entries_after(&self, log: u64, number: u64) -> Result<Vec<Entry>, Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(not_open)?.begin_read()?;
        let (mut told, mut count) = (Vec::new(), 0);
        for row in read.open_table(ENTRIES)?.range(number.saturating_add(1)..)? {
            let (number, value) = row?;
            let entry = entry(log, number.value(), value.value())?;
            count += entry.records.len();
            if count > ENTRY_RECORDS_TOLD && !told.is_empty() {
                break;
            }
            told.push(entry);
        }
        Ok(told)
    }

    /// The position behind the entry of that number, if it is kept.
    pub(super) fn position_at(&self, log: u64, number: u64) -> Result<Option<Position>, Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(not_open)?.begin_read()?;
        let found = read.open_table(ENTRIES)?.get(number)?;
        found.map(|value| Ok(entry(log, number, value.value())?.position)).transpose()
    }

    /// The size of all files; 0 in memory.
    pub(super) fn bytes(&self) -> u64 {
        let file = |folder: &PathBuf| fs::metadata(folder.join(FILE)).map_or(0, |it| it.len());
        let run = self.run().map_or(0, |run| run.bytes());
        self.folder.as_ref().map_or(0, file) + run
    }

    /// A disk that fills up while the file is written makes it useless until it is opened again:
    /// so it is not written before there is room, on the disk or within the file, for `records`
    /// and what they make necessary.
    fn has_room(&self, standing: &Standing, records: usize) -> Result<(), Fault> {
        let Some(folder) = self.folder.as_ref().filter(|_| records > 0) else { return Ok(()) };
        let wanted = ROOM_BYTES + records as u64 * RECORD_ROOM_BYTES;
        // What cannot be asked is tried.
        let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= wanted {
            return Ok(());
        }
        let taken = fs::metadata(folder.join(FILE)).map_or(0, |file| file.blocks() * 512);
        let inside = taken.saturating_sub(standing.bytes());
        if free + inside >= wanted { Ok(()) } else { Err(Fault::Full) }
    }

    /// Looks something up, again if the file had failed and was about to be opened anew.
    fn look_up<T>(&self, look: impl Fn(&View) -> Result<T, Fault>) -> Result<T, Fault> {
        for _ in 0..LOOKS_MAX {
            match self.view().and_then(|view| look(&view)) {
                Err(Fault::Io(_)) => thread::sleep(LOOK_PAUSE),
                done => return done,
            }
        }
        self.view().and_then(|view| look(&view))
    }

    fn view(&self) -> Result<View, Fault> {
        let database = self.database();
        self.view_of(database.as_ref().ok_or_else(not_open)?)
    }

    fn view_of(&self, database: &Database) -> Result<View, Fault> {
        let read = database.begin_read()?;
        // In this order: see `settled`.
        View::new(&read, self.run())
    }

    fn run(&self) -> Option<Arc<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn exchange_run(&self, run: Option<Arc<Run>>) -> Option<Arc<Run>> {
        std::mem::replace(&mut *self.run.lock().unwrap_or_else(PoisonError::into_inner), run)
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Where the log was.
    pub(super) const fn position(&self) -> Position {
        self.standing.position
    }

    /// Looks at all records in the order of their ids until `look` fails, and whether they are
    /// those that were written.
    pub(super) fn each(&self, look: impl FnMut(&Record) -> Result<(), Fault>) -> Result<(), Fault> {
        match self.view.tally(look)? == self.standing.tally {
            true => Ok(()),
            false => Err(Fault::Damaged(MISCOUNTED.to_owned())),
        }
    }
}

const MISCOUNTED: &str = "its records are not those that it counted";

fn value(record: &Record) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value.copy_from_slice(&record.to_bytes()[16..]);
    value
}

fn record(id: &[u8; 16], value: &[u8; VALUE_BYTES]) -> Result<Record, Fault> {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(id);
    bytes[16..].copy_from_slice(value);
    Record::from_bytes(&bytes).ok_or_else(|| Fault::Damaged("a record that none is".to_owned()))
}

fn entry(log: u64, number: u64, value: &[u8]) -> Result<Entry, Fault> {
    let damaged = || Fault::Damaged("an entry that none is".to_owned());
    let (chain, records) = value.split_first_chunk().ok_or_else(damaged)?;
    let (records, rest) = records.as_chunks::<RECORD_BYTES>();
    let records = records.iter().map(Record::from_bytes).collect::<Option<Vec<_>>>();
    let records = records.filter(|_| rest.is_empty()).ok_or_else(damaged)?;
    let position = Position { log, number, chain: u64::from_le_bytes(*chain) };
    Ok(Entry { position, records })
}

fn not_open() -> Fault {
    Fault::Io("it could not be opened again after it failed".to_owned())
}
