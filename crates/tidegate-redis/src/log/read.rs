//! Reading the log: what came after a position, checked link by link.
//!
//! Each reading begins with a look that does not block: is the position still there, and what
//! came after? With it goes a write that changes nothing (`XTRIM … MINID 0`), which a replica
//! refuses, and which a server that holds back writes holds back: so nobody takes for fresh what
//! such a server says. A server that takes no writes for want of disk or memory has nothing new.

use super::entry::{self, Entry, Raw};
use super::line::Line;
use super::{ENTRY_RECORDS_MAX, LOG};
use crate::error::{Error, Refusal};
use redis::{Cmd, Value};
use std::time::Duration;
use tidegate_core::revoke::Position;
use tidegate_core::revoke::record::RECORD_BYTES;
use tokio::time::Instant;

/// What a reply should have at most, as far as entries so far tell: a millisecond or two of a
/// server's time.
const REPLY_BYTES: usize = 1 << 20;

/// The most entries asked for at once; the fewest are as many as may fill a reply.
const COUNT_MAX: usize = 4_096;
const COUNT_MIN: usize = REPLY_BYTES / (ENTRY_RECORDS_MAX * RECORD_BYTES);

/// The longest wait for something new, without a look whether all is still there.
pub const BLOCK_MAX: Duration = Duration::from_millis(250);

/// Reads the log.
pub struct Reader {
    line: Line,
    /// How many entries to ask for.
    count: usize,
}

/// What there is after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The position is in the log, and this came after it.
    News(News),
    /// The position is not in the log, or there is none: what it led to may be lost.
    Lost,
    /// Up to here the log is whole; what comes next in it does not follow.
    Damaged(Position),
}

/// Entries that follow on a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// All that came after, or the first of it, in order.
    pub entries: Vec<Entry>,
    /// When there was nothing more than that, or than what was known before; `None` if there
    /// may have been all the time.
    pub complete_at: Option<Instant>,
}

impl Reader {
    pub(super) const fn new(line: Line) -> Self {
        Self { line, count: COUNT_MIN }
    }

    /// What came after a position; of a position in no log ([`Position::default`]), what there is
    /// from the log's head on: everything that is in force, since what is cut from the head
    /// was appended again before, or has expired. If there is nothing yet, waits for it up to
    /// `patience`, or [`BLOCK_MAX`] if that is less.
    ///
    /// # Errors
    ///
    /// [`Error`]. Nothing is known then; try again, no pause is needed.
    pub async fn read(&mut self, after: Position, patience: Duration) -> Result<Read, Error> {
        let asked = Instant::now();
        let from = if after.number == 0 { "-".to_owned() } else { entry::id(after) };
        let mut range = redis::cmd("XRANGE");
        // One more: the first is the one that is known.
        range.arg(LOG).arg(from).arg("+").arg("COUNT").arg(self.count + 1);
        let [written, found] = self.ask([probe(), range], Duration::ZERO).await?;
        is_master(written)?;
        let mut found = entry::of_range(found?)?.into_iter().peekable();
        let complete_at = (found.len() <= self.count).then_some(asked);
        if after.number > 0 && found.next().flatten().map(|known| known.position) != Some(after) {
            return Ok(Read::Lost);
        }
        if found.peek().is_some() {
            let (entries, is_whole) = self.checked(after, found);
            return Ok(match (entries.is_empty(), is_whole) {
                (false, true) => Read::News(News { entries, complete_at }),
                // What does not follow on them is found next time.
                (false, false) => Read::News(News { entries, complete_at: None }),
                (true, _) if after.log != 0 && after.number == 0 => Read::Lost,
                (true, _) => Read::Damaged(after),
            });
        }
        if after.log != 0 && after.number == 0 {
            return Ok(Read::Lost);
        }
        if patience.is_zero() {
            return Ok(Read::News(News { entries: Vec::new(), complete_at }));
        }
        let found = self.wait(after, patience.min(BLOCK_MAX)).await?;
        // What does not follow may be another log's, begun a moment ago: the next look tells.
        let (entries, _) = self.checked(after, found.into_iter());
        Ok(Read::News(News { entries, complete_at }))
    }

    /// The position after the entry of that number, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub async fn at(&mut self, number: u64) -> Result<Option<Position>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(LOG).arg(number).arg(number).arg("COUNT").arg(1);
        self.one(range).await
    }

    /// The position after the first entry that there is.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub async fn first(&mut self) -> Result<Option<Position>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(LOG).arg("-").arg("+").arg("COUNT").arg(1);
        self.one(range).await
    }

    /// The position after the last entry.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub async fn last(&mut self) -> Result<Option<Position>, Error> {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(LOG).arg("+").arg("-").arg("COUNT").arg(1);
        self.one(range).await
    }

    /// Why the log cannot be read now, as far as that is a matter of connections.
    pub fn trouble(&self) -> Option<&str> {
        self.line.trouble()
    }

    async fn one(&mut self, range: Cmd) -> Result<Option<Position>, Error> {
        let [written, found] = self.ask([probe(), range], Duration::ZERO).await?;
        is_master(written)?;
        let found = entry::of_range(found?)?.pop().flatten();
        Ok(found.map(|entry| entry.position))
    }

    async fn wait(
        &mut self,
        after: Position,
        patience: Duration,
    ) -> Result<Vec<Option<Raw>>, Error> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(self.count).arg("BLOCK").arg(patience.as_millis().max(1) as u64);
        read.arg("STREAMS").arg(LOG).arg(entry::id(after));
        let [said] = self.ask([read], patience).await?;
        entry::of_read(said?)
    }

    /// Those entries, as far as each follows on the one before, and whether all do.
    fn checked(
        &mut self,
        after: Position,
        found: impl ExactSizeIterator<Item = Option<Raw>>,
    ) -> (Vec<Entry>, bool) {
        let count = found.len();
        let mut entries = Vec::with_capacity(count);
        let (mut last, mut bytes) = (after, 0);
        for raw in found.map_while(|raw| raw) {
            let position = raw.position;
            let follows = match last.log {
                // The head: of what came before it, if anything did, nothing can be said.
                0 => position.number > 1 || raw.follows(Position::start(position.log)),
                _ => raw.follows(last),
            };
            if !follows {
                break;
            }
            last = position;
            bytes += raw.bytes.len();
            entries.push(raw.read());
        }
        if let Some(mean) = bytes.checked_div(entries.len()) {
            self.count = (REPLY_BYTES / mean.max(1)).clamp(COUNT_MIN, COUNT_MAX);
        }
        let is_whole = entries.len() == count;
        (entries, is_whole)
    }

    async fn ask<const N: usize>(
        &mut self,
        commands: [Cmd; N],
        blocks: Duration,
    ) -> Result<[Result<Value, Error>; N], Error> {
        let replies = self.line.ask(&commands, blocks).await?;
        replies.try_into().map_err(|_| Error::Garbled("another number of replies"))
    }
}

/// By the reply to [`probe`].
fn is_master(probed: Result<Value, Error>) -> Result<(), Error> {
    match probed {
        Ok(_) | Err(Error::Refused(Refusal::NoWrites | Refusal::OutOfMemory, _)) => Ok(()),
        Err(why) => Err(why),
    }
}

/// A write that changes nothing.
fn probe() -> Cmd {
    let mut probe = redis::cmd("XTRIM");
    probe.arg(LOG).arg("MINID").arg(0);
    probe
}
