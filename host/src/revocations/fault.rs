//! What can go wrong with the file: while it is used ([`Fault`]), and when it is opened
//! ([`Problem`]).

use std::fmt;
use std::io;
use std::path::Path;

/// The file could not be written, or read. It is tried again with the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no room on the disk.
    Full,
    /// It may not be written: its file system is read-only, or not ours.
    ReadOnly,
    /// The disk failed, with this message.
    Io(String),
    /// The file is not as it was written.
    Damaged(String),
}

/// Why the ledger could not be opened, as a message to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    what: String,
    hint: Option<&'static str>,
}

/// What to do about a file that is not as it was written.
const RESTORE: &str = "move the folder away, keep it, and start again: with Redis this host fetches \
                       everything from there and from other hosts; without, restore a copy of it, or import the last export (`tidegate revocations import`)";

impl Fault {
    pub(super) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Io(error.to_string()),
        }
    }

    /// Its name in metrics: one of a fixed few.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Io(_) => "io",
            Self::Damaged(_) => "damaged",
        }
    }
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(error) => Self::of_io(&error),
            redb::StorageError::Corrupted(what) => Self::Damaged(what),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            other => Self::Io(other.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("there is no room on the disk of revocations.data_dir"),
            Self::ReadOnly => f.write_str("the file in revocations.data_dir may not be written"),
            Self::Io(what) => write!(f, "the disk of revocations.data_dir fails: {what}"),
            Self::Damaged(what) => {
                write!(f, "the file in revocations.data_dir is not as it was written: {what}")
            }
        }
    }
}

impl std::error::Error for Fault {}

impl Problem {
    pub(super) fn folder(folder: &Path, error: &io::Error) -> Self {
        let what = format!("revocations.data_dir: {}: {error}", folder.display());
        let hint = "wanted a folder that this process may write to and that outlives it: \
                    a volume, in a container";
        Self { what, hint: Some(hint) }
    }

    pub(super) fn in_use(file: &Path) -> Self {
        let what = format!("{}: another process has it open", file.display());
        let hint = "each host has a folder of its own: set revocations.data_dir";
        Self { what, hint: Some(hint) }
    }

    pub(super) fn newer(file: &Path, version: u8) -> Self {
        let what = format!("{}: of version {version}, and this is made for 1", file.display());
        Self { what, hint: Some("run the version of tidegate that wrote it, or a newer one") }
    }

    pub(super) fn damaged(file: &Path, what: &str) -> Self {
        let what = format!("{}: not as it was written: {what}", file.display());
        Self { what, hint: Some(RESTORE) }
    }

    pub(super) fn id_key(what: String) -> Self {
        Self { what: format!("revocations.id_key_files: {what}"), hint: None }
    }

    pub(super) fn thread(error: &io::Error) -> Self {
        Self { what: format!("revocations: cannot start a thread: {error}"), hint: None }
    }

    pub(super) fn other(file: &Path, what: &dyn fmt::Display) -> Self {
        Self { what: format!("{}: {what}", file.display()), hint: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl std::error::Error for Problem {}
