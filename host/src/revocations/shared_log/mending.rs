//! Puts into the log what it lacks and this host knows.
//!
//! One host at a time, by a turn that is kept in Redis: it reads all of the log, or what came
//! after the newest entry that both have, and appends whatever of its own is not there. The next
//! one finds that there, and has little to do. A turn that is lost with the data harms nobody:
//! then two append the same, and records go together.
//!
//! It takes no more than half of the server's time: after each call it rests as long as that
//! took. Until it is done the ledger knows that it owes, whatever happens to this process.

use super::stage::Situation;
use super::turn::{Broken, Turn};
use crate::revocations::{Fault, Id, Position, Record, Revocations};
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate_core::revoke::EVER;
use tidegate_redis::Error;
use tidegate_redis::log::{
    Appended, CALL_ENTRIES_MAX, ENTRY_RECORDS_MAX, Known, Log, Read, Reader, Writer,
};
use tokio::time::{Instant, sleep};

/// How often whoever waits for a turn asks for it.
const TURN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The pause after something that did not work.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What has expired for longer than this is not put back. Clocks differ.
pub(super) const EXPIRED_SECS: u64 = 600;

/// How many records behind a gap are saved: 34 MB of them. What is beyond, other hosts know.
const SALVAGED_MAX: usize = 1 << 20;

/// What the log may lack.
pub(super) enum Lacking {
    /// Anything.
    All,
    /// These, and up to there it is whole.
    These {
        /// The newest position that both have.
        after: Position,
        /// What was known to come after it.
        records: Vec<Record>,
    },
}

/// Sees to it that the log lacks nothing. Returns when that is so, or when it has lost something
/// again.
pub(super) async fn run(
    ledger: Arc<Revocations>,
    log: Log,
    lacking: Lacking,
    situation: Arc<Situation>,
    who: u64,
) {
    let mut mender = Mender {
        turn: Turn::of(who),
        reader: log.reader(),
        writer: log.writer(),
        ledger,
        situation,
    };
    loop {
        match mender.mend(&lacking).await {
            Ok(count) => {
                mender.situation.counts.add_mended(1);
                tracing::info!(records = count, "the shared log has all that is known here");
                return;
            }
            Err(Broken::Changed) => return,
            Err(Broken::Server(error)) => tracing::debug!(%error, "mending was broken off"),
            Err(Broken::Ledger(fault)) => tracing::warn!(%fault, "mending was broken off"),
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// The records of all entries that there are, whatever is between them.
pub(super) async fn salvage(writer: &mut Writer) -> Result<Vec<Record>, Error> {
    let (mut records, mut after) = (Vec::new(), None);
    while records.len() < SALVAGED_MAX {
        let entries = writer.loose(after, CALL_ENTRIES_MAX * 16).await?;
        let Some(last) = entries.last() else { break };
        after = Some(last.position);
        records.extend(entries.into_iter().flat_map(|entry| entry.records));
    }
    records.truncate(SALVAGED_MAX);
    Ok(records)
}

struct Mender {
    turn: Turn,
    ledger: Arc<Revocations>,
    reader: Reader,
    writer: Writer,
    situation: Arc<Situation>,
}

/// Records that were seen, by 64 bits of a hash that nobody can foresee: among ten million others
/// one is taken for seen that was not once in a million such mendings.
#[derive(Default)]
struct Seen {
    hash: RandomState,
    marks: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

impl Seen {
    fn add(&mut self, record: &Record) {
        self.marks.insert(self.hash.hash_one(record.to_bytes()));
    }

    fn has(&self, record: &Record) -> bool {
        self.marks.contains(&self.hash.hash_one(record.to_bytes()))
    }
}

impl Mender {
    /// Returns how many records the log lacked.
    async fn mend(&mut self, lacking: &Lacking) -> Result<usize, Broken> {
        while !self.turn.take(&mut self.writer).await? {
            sleep(TURN_AGAIN_AFTER).await;
        }
        let after = match lacking {
            Lacking::All => Position::default(),
            Lacking::These { after, .. } => *after,
        };
        let (mut seen, mut at) = (Seen::default(), after);
        let mut count = 0;
        match lacking {
            Lacking::These { records, .. } => {
                let known = records.iter().map(|record| {
                    // As it is by now, with what has come since.
                    Ok(self.ledger.get(record.id)?.unwrap_or(*record))
                });
                let known = known.collect::<Result<Vec<_>, Fault>>()?;
                count += self.put_back(&mut at, &mut seen, known).await?;
            }
            Lacking::All => {
                let mut next = Some(None);
                while let Some(from) = next {
                    let ledger = self.ledger.clone();
                    let pages = tokio::task::spawn_blocking(move || pages(&ledger, from)).await;
                    let (known, more) = pages.map_err(|_| Broken::Changed)??;
                    count += self.put_back(&mut at, &mut seen, known).await?;
                    next = more.map(Some);
                }
            }
        }
        self.ledger.paid().await?;
        self.writer.end_turn().await?;
        Ok(count)
    }

    /// Sees what is in the log after that, and where it ends.
    async fn see(&mut self, after: &mut Position, seen: &mut Seen) -> Result<(), Broken> {
        loop {
            let Read::News(news) = self.reader.read(*after, Duration::ZERO).await? else {
                return Err(Broken::Changed);
            };
            *after = news.entries.last().map_or(*after, |entry| entry.position);
            news.entries.iter().flat_map(|entry| &entry.records).for_each(|it| seen.add(it));
            if news.complete_at.is_some() {
                return Ok(());
            }
            self.turn.keep(&mut self.writer).await?;
        }
    }

    /// Appends those of these that are not in the log and are in force; returns how many.
    async fn put_back(
        &mut self,
        at: &mut Position,
        seen: &mut Seen,
        known: Vec<Record>,
    ) -> Result<usize, Broken> {
        // Only now: what the ledger has learnt from the log meanwhile is in it.
        self.see(at, seen).await?;
        let now_secs = now_secs();
        let is_lacking = |record: &Record| !has_expired(record, now_secs) && !seen.has(record);
        let lacking: Vec<_> = known.into_iter().filter(is_lacking).collect();
        for part in lacking.chunks(CALL_ENTRIES_MAX * ENTRY_RECORDS_MAX) {
            let entries: Vec<_> = part.chunks(ENTRY_RECORDS_MAX).collect();
            let start = Instant::now();
            match self.writer.append(Known::Position(*at), &entries, None).await? {
                Appended::Done { positions, .. } => *at = positions.last().copied().unwrap_or(*at),
                Appended::Lost => return Err(Broken::Changed),
                Appended::Damaged => {
                    self.situation.set_damaged(at.log);
                    return Err(Broken::Changed);
                }
            }
            self.situation.counts.add_put_back(part.len() as u64);
            sleep(start.elapsed()).await;
            self.turn.keep(&mut self.writer).await?;
        }
        Ok(lacking.len())
    }
}

/// Some pages of the ledger, as many as fill a call, and where to go on.
fn pages(ledger: &Revocations, mut after: Option<Id>) -> Result<(Vec<Record>, Option<Id>), Fault> {
    let mut records = Vec::new();
    loop {
        let page = ledger.page(None, after, ENTRY_RECORDS_MAX)?;
        records.extend(page.records);
        after = page.next;
        if after.is_none() || records.len() >= CALL_ENTRIES_MAX * ENTRY_RECORDS_MAX {
            return Ok((records, after));
        }
    }
}

/// Whether nothing that it revokes can be alive, on any clock that is roughly right.
pub(super) const fn has_expired(record: &Record, now_secs: u64) -> bool {
    record.until_secs < EVER && record.until_secs + EXPIRED_SECS < now_secs
}

/// By this machine's clock; a clock before 1970 expires nothing.
pub(super) fn now_secs() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// For what is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        // Numbers are all that is looked for here.
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
