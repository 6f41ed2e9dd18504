//! A run: most records, in a file that is written once, in the order of ids.
//!
//! 34 bytes a record, and one read of a block to find one: which block is known from the ids that
//! begin them, in memory, 16 bytes for 120 records. Each block tells whether it is whole, and is
//! what was written in that place of that file.
//!
//! ```text
//! blocks of 4096 bytes, the first of which is the head; numbers little-endian
//! head    "tidegate run 1\n\0"   8 number of the run   8 records   8 XXH64 of the 32 bytes before
//! block   120 records of 34 bytes, the last block filled up with zeros
//!         8 XXH64 of these, of the run's number and of the block's   8 zeros
//! ```

use crate::revocations::Fault;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Record};
use tidegate_core::wire::revoke::checksum;

const BLOCK_BYTES: usize = 4_096;
const BLOCK_RECORDS: usize = 120;
const RECORDS_BYTES: usize = BLOCK_RECORDS * RECORD_BYTES;

const MAGIC: &[u8; 16] = b"tidegate run 1\n\0";
const HEAD_BYTES: usize = 40;

/// Blocks read at once by who reads all.
const READ_BLOCKS: usize = 32;

const PREFIX: &str = "revocations-";
const SUFFIX: &str = ".run";

/// A run that is there, and stays until nobody reads it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) records: u64,
    file: File,
    /// The ids that begin the blocks.
    firsts: Vec<Id>,
}

/// A run that is being written.
pub(super) struct Writer {
    number: u64,
    path: PathBuf,
    file: BufWriter<File>,
    block: Vec<u8>,
    records: u64,
    firsts: Vec<Id>,
}

impl Run {
    /// Opens a run.
    pub(super) fn open(folder: &Path, number: u64) -> Result<Self, Fault> {
        let file = File::open(path(folder, number)).map_err(|error| Fault::of_io(&error))?;
        let mut head = [0; HEAD_BYTES];
        read(&file, &mut head, 0)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
        let is_one = head.starts_with(MAGIC) && word(16) == number;
        if !is_one || word(32) != checksum(&head[..32]) {
            return Err(damaged(number, "its head is another's"));
        }
        let mut run = Self { number, records: word(24), file, firsts: Vec::new() };
        let length = run.file.metadata().map_err(|error| Fault::of_io(&error))?.len();
        let blocks = run.records.div_ceil(BLOCK_RECORDS as u64);
        if length != (blocks + 1) * BLOCK_BYTES as u64 {
            return Err(damaged(number, "its length is another's"));
        }
        run.firsts = run.read_firsts(blocks)?;
        Ok(run)
    }

    pub(super) fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        let Some(at) = self.firsts.partition_point(|first| *first <= id).checked_sub(1) else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_BYTES];
        read(&self.file, &mut block, offset(at as u64))?;
        let records = self.checked(at as u64, &block)?;
        let found = records.binary_search_by(|record| record[..16].cmp(&id.0));
        found.ok().map(|at| self.record(&records[at])).transpose()
    }

    /// All records behind `after`, in the order of ids.
    pub(super) fn after(
        self: &Arc<Self>,
        after: Option<Id>,
    ) -> impl Iterator<Item = Result<Record, Fault>> + use<> {
        let run = self.clone();
        let first = after.map_or(0, |after| {
            run.firsts.partition_point(|first| *first <= after).saturating_sub(1)
        });
        let blocks = (first..run.firsts.len()).step_by(READ_BLOCKS);
        let pieces = blocks.map(move |at| run.some(at, after));
        pieces.flat_map(|piece| {
            let (records, fault) = match piece {
                Ok(records) => (records, None),
                Err(fault) => (Vec::new(), Some(Err(fault))),
            };
            records.into_iter().map(Ok).chain(fault)
        })
    }

    /// What begins the blocks. They are checked by who reads all records.
    fn read_firsts(&self, blocks: u64) -> Result<Vec<Id>, Fault> {
        let first = |at| {
            let mut id = Id([0; 16]);
            read(&self.file, &mut id.0, offset(at)).map(|()| id)
        };
        (0..blocks).map(first).collect()
    }

    pub(super) fn bytes(&self) -> u64 {
        offset(self.firsts.len() as u64)
    }

    /// Whether there is any in this folder.
    pub(super) fn is_any(folder: &Path) -> bool {
        numbers(folder).next().is_some()
    }

    /// Removes the file. Who reads it goes on.
    pub(super) fn remove(folder: &Path, number: u64) {
        let _ = fs::remove_file(path(folder, number));
    }

    /// Removes what a process that ended in the middle of writing left behind: all but this run.
    pub(super) fn remove_others(folder: &Path, number: u64) {
        for other in numbers(folder).filter(|other| *other != number) {
            Self::remove(folder, other);
        }
    }

    /// The records of some blocks, from behind `after`.
    fn some(&self, at: usize, after: Option<Id>) -> Result<Vec<Record>, Fault> {
        let count = READ_BLOCKS.min(self.firsts.len() - at);
        let mut blocks = vec![0; count * BLOCK_BYTES];
        read(&self.file, &mut blocks, offset(at as u64))?;
        let mut records = Vec::with_capacity(count * BLOCK_RECORDS);
        for (at, block) in (at..).zip(blocks.as_chunks().0) {
            for record in self.checked(at as u64, block)? {
                records.push(self.record(record)?);
            }
        }
        if let Some(after) = after {
            records.retain(|record| record.id > after);
        }
        Ok(records)
    }

    /// The records of a block.
    fn checked<'b>(
        &self,
        at: u64,
        block: &'b [u8; BLOCK_BYTES],
    ) -> Result<&'b [[u8; RECORD_BYTES]], Fault> {
        let (bytes, rest) = block.split_at(RECORDS_BYTES);
        if rest != seal(self.number, at, bytes) {
            return Err(damaged(self.number, "a block is not whole"));
        }
        let (records, _) = bytes.as_chunks();
        let before = at * BLOCK_RECORDS as u64;
        let here = usize::try_from(self.records - before).unwrap_or(usize::MAX);
        Ok(&records[..here.min(BLOCK_RECORDS)])
    }

    fn record(&self, bytes: &[u8; RECORD_BYTES]) -> Result<Record, Fault> {
        Record::from_bytes(bytes).ok_or_else(|| damaged(self.number, "a record is none"))
    }
}

impl Writer {
    /// Begins a run, in place of whatever is there.
    pub(super) fn begin(folder: &Path, number: u64) -> Result<Self, Fault> {
        let path = path(folder, number);
        let file = File::create(&path).map_err(|error| Fault::of_io(&error))?;
        let mut file = BufWriter::with_capacity(READ_BLOCKS * BLOCK_BYTES, file);
        // The head comes last.
        file.write_all(&[0; BLOCK_BYTES]).map_err(|error| Fault::of_io(&error))?;
        let block = Vec::with_capacity(BLOCK_BYTES);
        Ok(Self { number, path, file, block, records: 0, firsts: Vec::new() })
    }

    /// One more record. They come in the order of ids.
    pub(super) fn put(&mut self, record: &Record) -> Result<(), Fault> {
        if self.block.is_empty() {
            self.firsts.push(record.id);
        }
        self.block.extend(record.to_bytes());
        self.records += 1;
        if self.block.len() == RECORDS_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Ends it: when this returns it is on the disk.
    pub(super) fn end(mut self) -> Result<Run, Fault> {
        if !self.block.is_empty() {
            self.block.resize(RECORDS_BYTES, 0);
            self.end_block()?;
        }
        let Self { number, path, file, records, firsts, .. } = self;
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(MAGIC);
        head[16..24].copy_from_slice(&number.to_le_bytes());
        head[24..32].copy_from_slice(&records.to_le_bytes());
        let sum = checksum(&head[..32]);
        head[32..].copy_from_slice(&sum.to_le_bytes());
        let end = || -> io::Result<()> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.write_all_at(&head, 0)?;
            file.sync_all()?;
            // The name of a file is its folder's.
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        end().map_err(|error| Fault::of_io(&error))?;
        let file = File::open(&path).map_err(|error| Fault::of_io(&error))?;
        Ok(Run { number, records, file, firsts })
    }

    fn end_block(&mut self) -> Result<(), Fault> {
        let at = self.firsts.len() as u64 - 1;
        let rest = seal(self.number, at, &self.block);
        self.block.extend(rest);
        self.file.write_all(&self.block).map_err(|error| Fault::of_io(&error))?;
        self.block.clear();
        Ok(())
    }
}

/// What ends a block.
fn seal(number: u64, at: u64, records: &[u8]) -> [u8; BLOCK_BYTES - RECORDS_BYTES] {
    let place = checksum(&[number.to_le_bytes(), at.to_le_bytes()].concat());
    let mut seal = [0; BLOCK_BYTES - RECORDS_BYTES];
    seal[..8].copy_from_slice(&(checksum(records) ^ place).to_le_bytes());
    seal
}

fn read(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Fault> {
    file.read_exact_at(bytes, offset).map_err(|error| Fault::of_io(&error))
}

const fn offset(block: u64) -> u64 {
    (block + 1) * BLOCK_BYTES as u64
}

/// The numbers of all runs in a folder.
fn numbers(folder: &Path) -> impl Iterator<Item = u64> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| {
        let name = file.file_name();
        name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
    })
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{number}{SUFFIX}"))
}

fn damaged(number: u64, what: &str) -> Fault {
    Fault::Damaged(format!("{PREFIX}{number}{SUFFIX}: {what}"))
}
