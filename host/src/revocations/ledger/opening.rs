//! Opening: all of it is read once, and held against what it says of itself.

use super::run::Run;
use super::standing::Standing;
use super::{
    ENTRIES, FILE, HELD, Ledger, MISCOUNTED, RECENT, STANDING, VERSION, change, entry, record,
};
use crate::revocations::{Entry, Fault, Held, Home, Problem};
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadableDatabase as _, TableError};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tidegate_core::revoke::{Id, Position, Record};

/// What of the B-tree's file is kept in memory: its branches, and the leaves that are looked at
/// most. The rest is in the system's cache.
const CACHE_BYTES: usize = 64 << 20;

/// How many of the newest records are told again to proxies after a start.
const RECENT_MAX: usize = 16_384;

/// What is known when it is open.
pub(in crate::revocations) struct Opened {
    pub(in crate::revocations) ledger: Ledger,
    pub(in crate::revocations) standing: Standing,
    pub(in crate::revocations) held: Vec<Held>,
    /// The newest entries, oldest first.
    pub(in crate::revocations) recent: Vec<Told>,
}

/// An entry, and what each of its ids is revoked with by now, or 0.
pub(in crate::revocations) type Told = (Entry, Vec<(Id, u64)>);

impl Ledger {
    /// Opens it, or begins one with a log of this host's own.
    pub(in crate::revocations) fn open(home: &Home) -> Result<Opened, Problem> {
        let folder = match home {
            Home::Memory => None,
            Home::Folder(folder) => {
                fs::create_dir_all(folder).map_err(|error| Problem::folder(folder, &error))?;
                Some(folder.as_path())
            }
        };
        let path = folder.unwrap_or(Path::new("memory")).join(FILE);
        // What redb does with a file that is not as it was written is to say so; but a damaged
        // file is no reason to rely on that.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::read(folder, &path)));
        opened.unwrap_or_else(|_| Err(Problem::damaged(&path, "it cannot be read")))
    }

    fn read(folder: Option<&Path>, path: &Path) -> Result<Opened, Problem> {
        let damaged = |fault: Fault| Problem::damaged(path, &fault.to_string());
        let database = database(folder.map(|_| path))?;
        let standing = match stored(&database, path)? {
            Some(standing) => standing,
            None => begin(&database, folder, path)?,
        };
        let run = match (folder, standing.run) {
            (Some(folder), number @ 1..) => Some(Run::open(folder, number).map_err(damaged)?),
            _ => None,
        };
        let ledger = Self {
            database: RwLock::new(Some(database)),
            run: Mutex::new(run.map(Arc::new)),
            folder: folder.map(Path::to_owned),
        };
        ledger.hold_against(&standing).map_err(damaged)?;
        if let Some(folder) = folder {
            Run::remove_others(folder, standing.run);
        }
        let held = ledger.held().map_err(damaged)?;
        let recent = ledger.newest(standing.position.log).map_err(damaged)?;
        Ok(Opened { ledger, standing, held, recent })
    }

    /// Closes the B-tree's file and opens it again, which is what makes it usable after a fault of
    /// the disk. What it says then must be what was known: no more was durable, and no less.
    pub(in crate::revocations) fn reopen(&self, standing: &Standing) -> Result<(), Fault> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(FILE);
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *place = None;
        let again = || {
            let again = database(Some(&path))?;
            Ok((stored(&again, &path)?, again))
        };
        let opened = catch_unwind(AssertUnwindSafe(again));
        let opened = opened.unwrap_or_else(|_| Err(Problem::damaged(&path, "it cannot be read")));
        let (said, again) = opened.map_err(|problem| Fault::Io(problem.to_string()))?;
        if said.as_ref() != Some(standing) {
            return Err(Fault::Damaged("it is not what was last written".to_owned()));
        }
        *place = Some(again);
        Ok(())
    }

    /// Counts what is there, which checks each block of a run as well.
    fn hold_against(&self, said: &Standing) -> Result<(), Fault> {
        let view = self.view()?;
        let mut found = Standing { recent: 0, logged: 0, ..said.clone() };
        found.tally = view.tally(|_| Ok(()))?;
        found.recent = redb::ReadableTableMetadata::len(&view.recent)?;
        found.is_settling = view.settling.is_some();
        for entry in self.entries(said.position.log)? {
            let entry = entry?;
            found.logged += entry.records.len() as u64;
            found.position = entry.position;
        }
        if found == *said { Ok(()) } else { Err(Fault::Damaged(MISCOUNTED.to_owned())) }
    }

    fn entries(
        &self,
        log: u64,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Entry, Fault>> + use<>, Fault> {
        let database = self.database();
        let read = database.as_ref().ok_or_else(super::not_open)?.begin_read()?;
        let rows = read.open_table(ENTRIES)?.range::<u64>(..)?;
        Ok(rows.map(move |row| {
            let (number, value) = row?;
            entry(log, number.value(), value.value())
        }))
    }

    fn held(&self) -> Result<Vec<Held>, Fault> {
        let records: Vec<Record> = {
            let database = self.database();
            let read = database.as_ref().ok_or_else(super::not_open)?.begin_read()?;
            let rows = read.open_table(HELD)?.range::<&[u8; 16]>(..)?.map(|row| {
                let (id, value) = row?;
                record(id.value(), value.value())
            });
            rows.collect::<Result<_, Fault>>()?
        };
        let before = self.before(records.iter().map(|record| record.id))?;
        let held = records.into_iter().zip(before);
        Ok(held.map(|(record, before_secs)| Held { record, before_secs }).collect())
    }

    /// The newest entries, oldest first, with what holds of their ids.
    fn newest(&self, log: u64) -> Result<Vec<Told>, Fault> {
        let (mut newest, mut count) = (VecDeque::new(), 0);
        for entry in self.entries(log)?.rev() {
            let entry = entry?;
            count += entry.records.len();
            if count > RECENT_MAX {
                break;
            }
            let ids = || entry.records.iter().map(|record| record.id);
            let told = ids().zip(self.before(ids())?).collect();
            newest.push_front((entry, told));
        }
        Ok(newest.into())
    }
}

/// Opens the B-tree's file, or begins one; checks each of its pages.
fn database(path: Option<&Path>) -> Result<Database, Problem> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let Some(path) = path else {
        let made = builder.create_with_backend(InMemoryBackend::new());
        return made.map_err(|error| Problem::other(Path::new("memory"), &error));
    };
    builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Problem::in_use(path),
        DatabaseError::Storage(redb::StorageError::Io(error)) => match error.kind() {
            // What redb says of a file that does not begin as one of its own.
            io::ErrorKind::InvalidData => Problem::damaged(path, &error.to_string()),
            _ => Problem::folder(path, &error),
        },
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
            Problem::damaged(path, &what)
        }
        error => Problem::other(path, &error),
    })
}

fn begin(database: &Database, folder: Option<&Path>, path: &Path) -> Result<Standing, Problem> {
    if folder.is_some_and(Run::is_any) {
        return Err(Problem::damaged(path, "it is empty, and other files of it are there"));
    }
    let standing = Standing::at(Position::start(fastrand::u64(1..)));
    let made = change::transact(database, &standing, |transaction| {
        transaction.open_table(RECENT)?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(HELD)?;
        Ok(())
    });
    made.map_err(|fault| Problem::damaged(path, &fault.to_string()))?;
    Ok(standing)
}

/// What a file says of itself; `None` if nothing was ever written to it.
fn stored(database: &Database, path: &Path) -> Result<Option<Standing>, Problem> {
    let damaged = |fault: Fault| Problem::damaged(path, &fault.to_string());
    let read = database.begin_read().map_err(|error| damaged(error.into()))?;
    let table = match read.open_table(STANDING) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table.map_err(|error| damaged(error.into()))?,
    };
    let Some(bytes) = table.get(()).map_err(|error| damaged(error.into()))? else {
        return Err(Problem::damaged(path, "it does not say what it holds"));
    };
    match bytes.value() {
        [VERSION, ..] => Ok(Some(Standing::from_bytes(bytes.value()))),
        [version, ..] => Err(Problem::newer(path, *version)),
    }
}
