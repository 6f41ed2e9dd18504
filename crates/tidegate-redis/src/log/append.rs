//! Writing the log: appending to it, cutting its head, and whose turn it is to put back what is
//! missing.

use super::entry::{self, Entry, Raw};
use super::line::Line;
use super::{ENTRY_RECORDS_MAX, LOG, REHEARSAL, TURN};
use crate::call::Script;
use crate::error::Error;
use redis::{Cmd, Value};
use std::time::Duration;
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Position, Record};

/// The most entries of one call: the server is busy with them, full ones, for half a
/// millisecond, and every other client of it waits.
pub const CALL_ENTRIES_MAX: usize = 4;

/// Writes the log.
pub struct Writer {
    line: Line,
}

/// What an appender goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// This is in the log.
    Position(Position),
    /// There is no log: begin one, if that is still so.
    Nothing,
    /// The log of this id is damaged: begin another in its place, if it is still there, or if
    /// there is none.
    Damaged(u64),
}

/// Which replicas are to have what was appended, before an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// So many.
    pub count: u32,
    /// But no longer than this; rounded up to milliseconds.
    pub within: Duration,
}

/// What came of appending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log.
    Done {
        /// The position after each entry.
        positions: Vec<Position>,
        /// How many replicas have it; `None` if that was not asked, or cannot be told.
        replicas: Option<u32>,
    },
    /// The log lacks what is known of it, or there is none, or another than was said. Nothing
    /// was written.
    Lost,
    /// The log takes no entries any more: its last ones were deleted. Nothing was written.
    Damaged,
}

impl Writer {
    pub(super) const fn new(line: Line) -> Self {
        Self { line }
    }

    /// Appends entries, at most [`CALL_ENTRIES_MAX`] of at most [`ENTRY_RECORDS_MAX`] records
    /// each (what is beyond is left out: see the positions that are returned), all or none.
    ///
    /// # Errors
    ///
    /// [`Error`]. If it [may have run](Error::may_have_run), the entries may be in the log. To
    /// append them again does no harm: records go together.
    pub async fn append(
        &mut self,
        known: Known,
        entries: &[&[Record]],
        replicas: Option<Replicas>,
    ) -> Result<Appended, Error> {
        let begun = fastrand::u64(1..);
        let mut commands = vec![append(known, begun, entries)];
        let mut blocks = Duration::ZERO;
        if let Some(replicas) = replicas {
            let mut wait = redis::cmd("WAIT");
            // 0 would be for ever.
            let within_ms = replicas.within.as_micros().div_ceil(1_000).max(1);
            wait.arg(replicas.count).arg(u64::try_from(within_ms).unwrap_or(u64::MAX));
            commands.push(wait);
            blocks = replicas.within;
        }
        let mut replies = self.run(Script::Append, commands, blocks).await?.into_iter();
        let said = replies.next().unwrap_or(Err(Error::Garbled("no reply")))?;
        let log = match known {
            Known::Position(position) => position.log,
            Known::Nothing | Known::Damaged(_) => begun,
        };
        let appended = appended(log, said)?;
        let acknowledged = replies.next().and_then(|reply| match reply {
            Ok(Value::Int(count)) => u32::try_from(count).ok(),
            _ => None,
        });
        Ok(match appended {
            Appended::Done { positions, .. } => {
                Appended::Done { positions, replicas: acknowledged }
            }
            other => other,
        })
    }

    /// The first entries, at most so many: the oldest, and those that are cut first.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn head(&mut self, count: usize) -> Result<Vec<Entry>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(LOG).arg("-").arg("+").arg("COUNT").arg(count);
        let found = entry::of_range(self.ask(range).await?)?;
        Ok(found.into_iter().map_while(|raw| raw.map(Raw::read)).collect())
    }

    /// The entry of that number, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn entry(&mut self, number: u64) -> Result<Option<Entry>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(LOG).arg(number).arg(number).arg("COUNT").arg(1);
        let found = entry::of_range(self.ask(range).await?)?.pop().flatten();
        Ok(found.map(Raw::read))
    }

    /// Entries after that one, at most so many, whatever is missing between them, and without
    /// what no host has written: what can be saved of a damaged log.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn loose(
        &mut self,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<Entry>, Error> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({}", entry::id(after)));
        let mut range = redis::cmd("XRANGE");
        range.arg(LOG).arg(from).arg("+").arg("COUNT").arg(count);
        let found = entry::of_range(self.ask(range).await?)?;
        Ok(found.into_iter().flatten().map(Raw::read).collect())
    }

    /// The id of the log that there is, damaged or not, by its last entry.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn log_id(&mut self) -> Result<Option<u64>, Error> {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(LOG).arg("+").arg("-").arg("COUNT").arg(1);
        entry::log_of_range(&self.ask(range).await?)
    }

    /// Cuts off all entries of that log before that of this number, but never its last one, and
    /// returns how many there were; `None` if there is another log, or none. Whoever is not as
    /// far any more must read from the head: so what is in force in them must have been appended
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn cut(&mut self, log: u64, before: u64) -> Result<Option<u64>, Error> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(Script::Cut.sha()).arg(1).arg(LOG).arg(log).arg(before);
        let mut replies = self.run(Script::Cut, vec![call], Duration::ZERO).await?;
        match replies.pop().unwrap_or(Err(Error::Garbled("no reply")))? {
            Value::Int(count) => Ok(u64::try_from(count).ok()),
            _ => Err(Error::Garbled("no number")),
        }
    }

    /// The server's clock, in seconds of Unix time: what expired by one's own clock alone may
    /// not have.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn now_secs(&mut self) -> Result<u64, Error> {
        let Value::Array(parts) = self.ask(redis::cmd("TIME")).await? else {
            return Err(Error::Garbled("no time"));
        };
        match parts.first() {
            Some(Value::BulkString(secs)) => std::str::from_utf8(secs).ok(),
            _ => None,
        }
        .and_then(|secs| secs.parse().ok())
        .ok_or(Error::Garbled("no time"))
    }

    /// Takes the turn to put back what is missing, for so long, or lengthens it; false if it is
    /// somebody else's. That two have it at once (for it is lost with the server's data) costs
    /// only that they do the work twice.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn take_turn(&mut self, who: u64, lasts: Duration) -> Result<bool, Error> {
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = redis::cmd("SET");
        set.arg(TURN).arg(who).arg("PX").arg(lasts_ms);
        let mut set_new = set.clone();
        set_new.arg("NX");
        if self.ask(set_new).await? != Value::Nil {
            return Ok(true);
        }
        let mut whose = redis::cmd("MGET");
        whose.arg(TURN);
        let own = Value::Array(vec![Value::BulkString(who.to_string().into_bytes())]);
        if self.ask(whose).await? != own {
            return Ok(false);
        }
        self.ask(set).await.map(|_| true)
    }

    /// Ends one's turn.
    ///
    /// # Errors
    ///
    /// [`Error`]. It then ends by itself.
    pub async fn end_turn(&mut self) -> Result<(), Error> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(TURN);
        self.ask(unlink).await.map(drop)
    }

    /// Says every command that the log wants, about a key of its own, which it takes away again;
    /// returns those that were refused.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no reply to any.
    pub(crate) async fn rehearse(&mut self) -> Result<Vec<(&'static str, Error)>, Error> {
        let parts: [&[&'static str]; 7] = [
            &["XADD", REHEARSAL, "*", "c", "", "r", ""],
            &["XREAD", "COUNT", "1", "STREAMS", REHEARSAL, "0"],
            &["XRANGE", REHEARSAL, "-", "+"],
            &["XREVRANGE", REHEARSAL, "+", "-"],
            &["XTRIM", REHEARSAL, "MINID", "0"],
            &["WAIT", "0", "1"],
            &["UNLINK", REHEARSAL],
        ];
        let commands = parts.map(|words| {
            let mut command = Cmd::new();
            command.arg(words);
            command
        });
        let replies = self.line.ask(&commands, Duration::ZERO).await?;
        let said = parts.into_iter().zip(replies);
        Ok(said.filter_map(|(words, reply)| Some((words[0], reply.err()?))).collect())
    }

    /// Why the log cannot be written now, as far as that is a matter of connections.
    pub fn trouble(&self) -> Option<&str> {
        self.line.trouble()
    }

    /// Says these, the first of which calls that script; loads it if it is not there.
    async fn run(
        &mut self,
        script: Script,
        mut commands: Vec<Cmd>,
        blocks: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let replies = self.line.ask(&commands, blocks).await?;
        if !matches!(replies.first(), Some(Err(error)) if error.is_no_script()) {
            return Ok(replies);
        }
        commands.insert(0, script.load());
        let mut replies = self.line.ask(&commands, blocks).await?;
        replies.remove(0)?;
        Ok(replies)
    }

    async fn ask(&mut self, command: Cmd) -> Result<Value, Error> {
        let replies = self.line.ask(&[command], Duration::ZERO).await?;
        replies.into_iter().next().unwrap_or(Err(Error::Garbled("no reply")))
    }
}

fn append(known: Known, begun: u64, entries: &[&[Record]]) -> Cmd {
    let (at, begun, damaged) = match known {
        Known::Position(position) => (position, 0, 0),
        Known::Nothing => (Position::default(), begun, 0),
        Known::Damaged(log) => (Position::default(), begun, log),
    };
    let mut call = redis::cmd("EVALSHA");
    call.arg(Script::Append.sha()).arg(1).arg(LOG);
    call.arg(at.log).arg(at.number).arg(format!("{:016x}", at.chain));
    call.arg(begun).arg(format!("{begun:016x}")).arg(damaged);
    for records in entries.iter().take(CALL_ENTRIES_MAX) {
        let mut bytes = Vec::with_capacity(records.len().min(ENTRY_RECORDS_MAX) * RECORD_BYTES);
        for record in records.iter().take(ENTRY_RECORDS_MAX) {
            bytes.extend(record.to_bytes());
        }
        call.arg(bytes);
    }
    call
}

/// `[first number, chain, …]`, or `[0, why]`.
fn appended(log: u64, said: Value) -> Result<Appended, Error> {
    let Value::Array(parts) = said else { return Err(Error::Garbled("no array")) };
    let mut parts = parts.into_iter();
    let number = match parts.next() {
        Some(Value::Int(number)) => u64::try_from(number).ok(),
        _ => None,
    };
    let number = number.ok_or(Error::Garbled("no number"))?;
    if number == 0 {
        return match parts.next() {
            Some(Value::BulkString(why)) if why == b"damaged" => Ok(Appended::Damaged),
            Some(Value::BulkString(why)) if why == b"lost" || why == b"none" => Ok(Appended::Lost),
            _ => Err(Error::Garbled("no reason")),
        };
    }
    let position = |(number, chain): (u64, Value)| {
        let chain = entry::link(&chain).ok_or(Error::Garbled("no chain"))?;
        Ok(Position { log, number, chain })
    };
    let positions = (number..).zip(parts).map(position).collect::<Result<_, Error>>()?;
    Ok(Appended::Done { positions, replicas: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_replies_are_said_to_be_so() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for strange in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(-1)]),
            Value::Array(vec![Value::Int(0)]),
            Value::Array(vec![Value::Int(0), bulk("else")]),
            Value::Array(vec![Value::Int(7), bulk("no digits")]),
        ] {
            assert!(appended(1, strange.clone()).is_err(), "{strange:?}");
        }
        let done = Value::Array(vec![Value::Int(7), bulk("000000000000000a"), bulk("0b")]);
        let positions = [(7, 10), (8, 11)];
        let positions = positions.map(|(number, chain)| Position { log: 1, number, chain });
        assert_eq!(
            appended(1, done).unwrap(),
            Appended::Done { positions: positions.to_vec(), replicas: None }
        );
    }
}
