//! All records, and the newest entries of the log, in one file.
//!
//! redb: a copy-on-write B-tree with a checksum for each page. A transaction is on the disk
//! whole, or not at all, when its commit returns (two phases: first the pages, then the root),
//! and opening checks every page. On top of that the file says how many records of each kind it
//! holds, and the sum of their checksums: whatever is lost or changed shows, and is never served.
//!
//! ```text
//! records   16 id   -> 1 kind   1 flags   5 before   5 until   6 at     (Record::to_bytes)
//! entries   8 number -> 8 chain   34 each record
//! held      16 id   -> as records                    not in the shared log yet
//! owed              ->                               there if the shared log may lack others
//! standing            -> 1 version   24 position   11 x 8 counts   8 sum of checksums   8 logged
//! ```

mod change;
mod standing;

pub(super) use change::Change;
pub(super) use standing::Standing;

use super::{Entry, Fault, Held, Home, Problem};
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, TableDefinition};
use standing::STANDING_BYTES;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Position, Record};

/// The file's name in its folder.
const FILE: &str = "revocations.redb";

/// What of the file is kept in memory: the branches of ten million records, and the leaves that
/// are looked at most. The rest is in the system's cache.
const CACHE_BYTES: usize = 64 << 20;

/// What must be free on the disk to write at all …
const ROOM_BYTES: u64 = 16 << 20;

/// … and for each record: at worst a page of its own, and its part of those above.
const RECORD_ROOM_BYTES: u64 = 4_608;

/// How many records [`Ledger::entries_after`] tells at once.
const ENTRY_RECORDS_TOLD: usize = 65_536;

/// How many of the newest records are told again to proxies after a start.
const RECENT_MAX: usize = 16_384;

const VERSION: u8 = 1;
const VALUE_BYTES: usize = RECORD_BYTES - 16;

const RECORDS: TableDefinition<&[u8; 16], &[u8; VALUE_BYTES]> = TableDefinition::new("records");
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const HELD: TableDefinition<&[u8; 16], &[u8; VALUE_BYTES]> = TableDefinition::new("held");
const OWED: TableDefinition<(), ()> = TableDefinition::new("owed");
const STANDING: TableDefinition<(), &[u8; STANDING_BYTES]> = TableDefinition::new("standing");

/// The file, while it can be used.
pub(super) struct Ledger {
    /// `None` after a fault, until it could be opened again.
    database: RwLock<Option<Database>>,
    file: Option<PathBuf>,
}

/// What an opened file says.
pub(super) struct Opened {
    pub(super) ledger: Ledger,
    pub(super) standing: Standing,
    pub(super) held: Vec<Held>,
    /// Whether the shared log may lack something.
    pub(super) owes: bool,
    /// The newest entries, oldest first, and what each of their ids is revoked with, or 0.
    pub(super) recent: Vec<(Entry, Vec<(Id, u64)>)>,
}

/// The records as they were at one moment, whatever is written meanwhile.
pub(super) struct Snapshot {
    read: ReadTransaction,
    standing: Standing,
    pub(super) position: Position,
}

impl Ledger {
    /// Opens it, or begins one with a log of this host's own, and reads all of it.
    pub(super) fn open(home: &Home) -> Result<Opened, Problem> {
        let file = match home {
            Home::Memory => None,
            Home::Folder(folder) => {
                fs::create_dir_all(folder).map_err(|error| Problem::folder(folder, &error))?;
                Some(folder.join(FILE))
            }
        };
        let path = file.clone().unwrap_or_default();
        // What redb does with a file that is not as it was written is to say so; but a damaged
        // file is no reason to rely on that.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = open(file.as_deref())?;
            let read = read(&database, &path)?;
            Ok((database, read))
        }));
        let opened = opened.unwrap_or_else(|_| Err(Problem::damaged(&path, "it cannot be read")));
        let (database, (standing, held, owes, recent)) = opened?;
        let ledger = Self { database: RwLock::new(Some(database)), file };
        let told = |entry: Entry| {
            let before = |record: &Record| Ok((record.id, ledger.before(record.id)?));
            let told = entry.records.iter().map(before).collect::<Result<_, Fault>>()?;
            Ok((entry, told))
        };
        let recent = recent.into_iter().map(told).collect::<Result<_, Fault>>();
        let hold = |record: Record| Ok(Held { record, before_secs: ledger.before(record.id)? });
        let held = held.into_iter().map(hold).collect::<Result<_, Fault>>();
        let damaged = |fault: Fault| Problem::damaged(&path, &fault.to_string());
        let (held, recent) = (held.map_err(damaged)?, recent.map_err(damaged)?);
        Ok(Opened { ledger, standing, held, owes, recent })
    }

    /// Changes the file: when this returns, what `work` did is durable. If it fails nothing was
    /// done, and `standing` is as before.
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
            change::commit(database, &mut then, work)?
        };
        *standing = then;
        Ok(done)
    }

    pub(super) fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(not_open)?.begin_read()?;
        let records = read.open_table(RECORDS)?;
        let value = records.get(&id.0)?;
        value.map(|value| record(&id.0, value.value())).transpose()
    }

    /// What an id is revoked with, or 0.
    pub(super) fn before(&self, id: Id) -> Result<u64, Fault> {
        let record = self.get(id)?.filter(|record| !record.lifts);
        Ok(record.map_or(0, |record| record.before_secs))
    }

    /// Looks at records in the order of their ids, from behind `after`, until `look` has enough.
    pub(super) fn scan(
        &self,
        after: Option<Id>,
        mut look: impl FnMut(&Record) -> bool,
    ) -> Result<(), Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(not_open)?.begin_read()?;
        let records = read.open_table(RECORDS)?;
        let first = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.0));
        for row in records.range::<&[u8; 16]>((first, Bound::Unbounded))? {
            let (id, value) = row?;
            if !look(&record(id.value(), value.value())?) {
                break;
            }
        }
        Ok(())
    }

    /// The records as they are now. While it is kept no page of it is used anew.
    pub(super) fn snapshot(&self, standing: &Standing) -> Result<Snapshot, Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(not_open)?.begin_read()?;
        Ok(Snapshot { read, standing: standing.clone(), position: standing.position })
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

    /// Its size; 0 in memory.
    pub(super) fn file_bytes(&self) -> u64 {
        let length = |file: &PathBuf| fs::metadata(file).map_or(0, |file| file.len());
        self.file.as_ref().map_or(0, length)
    }

    /// Closes and opens it again, which is what makes it usable after a fault of the disk. What
    /// it says then must be what was known: no more was durable, and no less.
    pub(super) fn reopen(&self, standing: &Standing) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        let again = open(Some(file)).map_err(|problem| Fault::Io(problem.to_string()))?;
        let said = stored(&again, file).map_err(|problem| Fault::Io(problem.to_string()))?;
        if said.as_ref() != Some(standing) {
            return Err(Fault::Damaged("it is not what was last written".to_owned()));
        }
        *database = Some(again);
        Ok(())
    }

    /// A disk that fills up while the file is written makes it useless until it is opened again:
    /// so it is not written before there is room, on the disk or within the file, for `records`
    /// and what they make necessary.
    fn has_room(&self, standing: &Standing, records: usize) -> Result<(), Fault> {
        let Some(file) = self.file.as_ref().filter(|_| records > 0) else { return Ok(()) };
        let wanted = ROOM_BYTES + records as u64 * RECORD_ROOM_BYTES;
        // What cannot be asked is tried.
        let Ok(disk) = rustix::fs::statvfs(file) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= wanted {
            return Ok(());
        }
        let taken = fs::metadata(file).map_or(0, |file| file.blocks() * 512);
        let inside = taken.saturating_sub(standing.bytes());
        if free + inside >= wanted { Ok(()) } else { Err(Fault::Full) }
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Looks at all records in the order of their ids, and whether they are those that were
    /// written.
    pub(super) fn each(&self, mut look: impl FnMut(&Record)) -> Result<(), Fault> {
        let mut found = Standing::at(self.position);
        for row in self.read.open_table(RECORDS)?.range::<&[u8; 16]>(..)? {
            let (id, value) = row?;
            let record = record(id.value(), value.value())?;
            found.comes(&record);
            look(&record);
        }
        match found.has_records_of(&self.standing) {
            true => Ok(()),
            false => Err(Fault::Damaged("its records are not those that it counted".to_owned())),
        }
    }
}

/// Opens the file, or begins one; checks each of its pages.
fn open(file: Option<&Path>) -> Result<Database, Problem> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let Some(file) = file else {
        let made = builder.create_with_backend(InMemoryBackend::new());
        return made.map_err(|error| Problem::other(Path::new("memory"), &error));
    };
    builder.create(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Problem::in_use(file),
        DatabaseError::Storage(redb::StorageError::Io(error)) => match error.kind() {
            // What redb says of a file that does not begin as one of its own.
            io::ErrorKind::InvalidData => Problem::damaged(file, &error.to_string()),
            _ => Problem::folder(file, &error),
        },
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
            Problem::damaged(file, &what)
        }
        error => Problem::other(file, &error),
    })
}

type Read = (Standing, Vec<Record>, bool, Vec<Entry>);

/// Reads all of it, and holds what is there against what it says of itself.
fn read(database: &Database, file: &Path) -> Result<Read, Problem> {
    let damaged = |fault: Fault| Problem::damaged(file, &fault.to_string());
    let Some(standing) = stored(database, file)? else {
        let mut standing = Standing::at(Position::start(fastrand::u64(1..)));
        change::commit(database, &mut standing, |_| Ok(())).map_err(damaged)?;
        return Ok((standing, Vec::new(), false, Vec::new()));
    };
    if found(database, &standing).map_err(damaged)? != standing {
        return Err(Problem::damaged(file, "its records are not those that it counted"));
    }
    let held = all_held(database).map_err(damaged)?;
    let owes = owes(database).map_err(damaged)?;
    let recent = recent(database, standing.position.log).map_err(damaged)?;
    Ok((standing, held, owes, recent))
}

/// What a file says of itself; `None` if nothing was ever written to it.
fn stored(database: &Database, file: &Path) -> Result<Option<Standing>, Problem> {
    let damaged = |fault: Fault| Problem::damaged(file, &fault.to_string());
    let read = database.begin_read().map_err(|error| damaged(error.into()))?;
    let table = match read.open_table(STANDING) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table.map_err(|error| damaged(error.into()))?,
    };
    let Some(bytes) = table.get(()).map_err(|error| damaged(error.into()))? else {
        return Err(Problem::damaged(file, "it does not say what it holds"));
    };
    match bytes.value() {
        [VERSION, ..] => Ok(Some(Standing::from_bytes(bytes.value()))),
        [version, ..] => Err(Problem::newer(file, *version)),
    }
}

/// What is there, counted.
fn found(database: &Database, said: &Standing) -> Result<Standing, Fault> {
    let read = database.begin_read()?;
    let mut found = Standing::at(said.position);
    for row in read.open_table(RECORDS)?.range::<&[u8; 16]>(..)? {
        let (id, value) = row?;
        found.comes(&record(id.value(), value.value())?);
    }
    for row in read.open_table(ENTRIES)?.range::<u64>(..)? {
        let (number, value) = row?;
        let entry = entry(said.position.log, number.value(), value.value())?;
        found.logged += entry.records.len() as u64;
        found.position = entry.position;
    }
    Ok(found)
}

fn all_held(database: &Database) -> Result<Vec<Record>, Fault> {
    let read = database.begin_read()?;
    let held = read.open_table(HELD)?;
    let rows = held.range::<&[u8; 16]>(..)?.map(|row| {
        let (id, value) = row?;
        record(id.value(), value.value())
    });
    rows.collect()
}

fn owes(database: &Database) -> Result<bool, Fault> {
    match database.begin_read()?.open_table(OWED) {
        Ok(owed) => Ok(owed.get(())?.is_some()),
        // Written before there was such a table.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The newest entries, oldest first.
fn recent(database: &Database, log: u64) -> Result<Vec<Entry>, Fault> {
    let read = database.begin_read()?;
    let (mut recent, mut count) = (VecDeque::new(), 0);
    for row in read.open_table(ENTRIES)?.range::<u64>(..)?.rev() {
        let (number, value) = row?;
        let entry = entry(log, number.value(), value.value())?;
        count += entry.records.len();
        if count > RECENT_MAX {
            break;
        }
        recent.push_front(entry);
    }
    Ok(recent.into())
}

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
