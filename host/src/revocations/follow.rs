//! For whoever follows a log that hosts share: what it brings, and what it must know.

use super::draft::Step;
use super::scribe::Task;
use super::{Accepted, Durability, Fault, NotAccepted, Revocations};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tidegate_core::revoke::{Position, Record};

/// One entry of the shared log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position behind it.
    pub position: Position,
    /// At most [`ENTRY_RECORDS_MAX`], in the order in which they stand there.
    pub records: Vec<Record>,
}

/// Why entries were not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// The first one does not follow on [`Revocations::position`], or a later one not on that
    /// before it, or one has too many records or none. None was applied.
    Gap,
    /// The file cannot be written. Some may have been applied: up to
    /// [`Revocations::position`].
    Fault(Fault),
    /// The process is ending.
    Ending,
}

/// Who takes what is accepted to a log that hosts share, and follows it.
pub trait Follow: Send + Sync {
    /// Appends these to the shared log and calls [`Revocations::apply`] on what came of it, or
    /// [`Revocations::hold`] where that is enough.
    fn accept<'a>(&'a self, records: Vec<Record>, wanted: Durability) -> Accepting<'a>;
}

/// What [`Follow::accept`] will have done.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = Result<Accepted, NotAccepted>> + Send + 'a>>;

/// For whoever follows a log that hosts share.
impl Revocations {
    /// From now on `follow` takes what is accepted to the shared log. Once; whoever comes later
    /// is not heard.
    pub fn follow(&self, follow: Arc<dyn Follow>) {
        let _ = self.follow.set(follow);
    }

    /// How far the log is known, durably. What stands before it can be looked up; what
    /// [`Self::apply`] is just bringing can be a moment before this says so.
    pub fn position(&self) -> Position {
        self.shared.now().standing.position
    }

    /// Takes these in, which follow on [`Self::position`], and returns when they are durable.
    /// What an entry says, and that the log is known up to there, becomes durable at once. Records
    /// that were [held](Self::hold) and stand in these are held no more.
    ///
    /// # Errors
    ///
    /// [`NotApplied`].
    pub async fn apply(&self, entries: Vec<Entry>) -> Result<Position, NotApplied> {
        if entries.is_empty() {
            return Ok(self.position());
        }
        Ok(self.hands.write(Task::Apply(entries)).await?)
    }

    /// Takes these in, durably, although the shared log does not have them yet: proxies of this
    /// host are told, and they are [`Self::held`] until [`Self::apply`] brings them.
    ///
    /// # Errors
    ///
    /// [`NotAccepted::HeldMax`] and [`NotAccepted::Fault`]; then none of them is.
    pub async fn hold(&self, records: Vec<Record>) -> Result<Position, NotAccepted> {
        Ok(self.hands.write(Task::One(Step::Hold(records))).await?)
    }

    /// What waits for the shared log, in the order of ids: at most [`HELD_MAX`].
    pub fn held(&self) -> Vec<Record> {
        self.shared.now().held.iter().map(|held| held.record).collect()
    }

    /// Gives up the log that was known: from now on it is known up to `position` of another, or
    /// of the same one, and [`Self::apply`] goes on from there. Whatever was revoked stays so; what
    /// the log does not have must be put into it, which is up to the caller: see [`Self::export`],
    /// [`Self::owes`].
    ///
    /// # Errors
    ///
    /// [`NotApplied::Fault`].
    pub async fn begin_anew(&self, position: Position) -> Result<Position, NotApplied> {
        Ok(self.hands.write(Task::One(Step::BeginAnew(position))).await?)
    }

    /// Whether [`Self::begin_anew`] was called and [`Self::paid`] was not since: the log may lack
    /// something that is known here. Durable, as the position is.
    pub fn owes(&self) -> bool {
        self.shared.now().standing.owes
    }

    /// Whatever is known here is in the log.
    ///
    /// # Errors
    ///
    /// [`NotApplied::Fault`].
    pub async fn paid(&self) -> Result<Position, NotApplied> {
        Ok(self.hands.write(Task::One(Step::Paid)).await?)
    }

    /// The position behind the entry of that number of the log, if it is kept.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn position_at(&self, number: u64) -> Result<Option<Position>, Fault> {
        self.shared.ledger.position_at(self.position().log, number)
    }

    /// The newest entries of the log after this number, oldest first, as far back as they are
    /// kept (65,536 entries, and half a million records): at most 65,536 records of them at once.
    /// So the newest position that is in another log too can be found, and what came after it be
    /// put there. Blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn entries_after(&self, number: u64) -> Result<Vec<Entry>, Fault> {
        self.shared.ledger.entries_after(self.position().log, number)
    }

    /// All of the shared log was known here at this moment.
    pub fn set_fresh(&self, at: Instant) {
        let mut now = self.shared.now();
        now.fresh = now.fresh.max(Some(at));
    }
}
