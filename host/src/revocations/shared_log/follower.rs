//! Brings what is in the log into the ledger, in the log's order, and notices when the log lacks
//! something that the ledger has.
//!
//! What is read is durable before more is read: entries that come meanwhile come together, and
//! share one sync of the disk.
//!
//! ## When the log has lost something
//!
//! The ledger goes back to the newest entry that is in both, or, if there is none (a flush, an
//! eviction, a server that came back empty), begins at the log's head; and with the same write it
//! notes that it owes the log whatever it knows. What is revoked stays so all the time. From
//! there the log is followed as ever, while [`mending`](super::mending) pays the debt.

use super::appender::Appender;
use super::mending::{self, Lacking};
use super::stage::Situation;
use crate::revocations::{Entry, Fault, NotApplied, Position, Record, Revocations};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidegate_redis::Error;
use tidegate_redis::log::{self, Appended, BLOCK_MAX, Known, Log, News, Read, Reader, Writer};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The pause after something that did not work; who connects paces itself besides.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The pause after the ledger could not be written.
const FAULT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long appending what is held waits for the log.
const HELD_WITHIN: Duration = Duration::from_secs(5);

/// Follows the log.
pub(super) struct Follower {
    ledger: Weak<Revocations>,
    log: Log,
    reader: Reader,
    writer: Writer,
    situation: Arc<Situation>,
    appender: Appender,
    /// By which turns are told apart.
    who: u64,
    /// The ledger stands before the log's head, of which only the head itself is known.
    at_head: bool,
    /// How often the log lacked something.
    epoch: u64,
    /// Records that it lacks, as far as it is known which.
    lacking: Lacking,
    mending: Option<Going>,
    sending_held: Option<Going>,
}

/// A task, which ends with this.
struct Going(JoinHandle<()>);

/// Why the log is not followed at the moment.
enum Hitch {
    /// The log's server.
    Server(Error),
    /// The ledger.
    Ledger(Fault),
    /// The log changed under our hands: look again.
    Changed,
    /// The process is ending.
    Ending,
}

impl Follower {
    pub(super) fn new(
        ledger: Weak<Revocations>,
        log: &Log,
        situation: Arc<Situation>,
        appender: Appender,
    ) -> Self {
        Self {
            ledger,
            log: log.clone(),
            reader: log.reader(),
            writer: log.writer(),
            situation,
            appender,
            who: fastrand::u64(1..),
            at_head: false,
            epoch: 0,
            lacking: Lacking::All,
            mending: None,
            sending_held: None,
        }
    }

    /// Follows it until the ledger is gone.
    pub(super) async fn run(mut self) {
        while let Some(ledger) = self.ledger.upgrade() {
            match self.step(&ledger).await {
                Ok(()) => {}
                Err(Hitch::Changed) => sleep(AGAIN_AFTER).await,
                Err(Hitch::Ending) => return,
                Err(Hitch::Server(error)) => {
                    let why = self.reader.trouble().map_or_else(|| text(&error), str::to_owned);
                    self.away(&why);
                    sleep(AGAIN_AFTER).await;
                }
                Err(Hitch::Ledger(fault)) => {
                    self.away(&fault.to_string());
                    sleep(FAULT_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// One reading, and what follows from it.
    async fn step(&mut self, ledger: &Arc<Revocations>) -> Result<(), Hitch> {
        let after = if self.at_head { Position::default() } else { ledger.position() };
        if self.situation.is_damaged(ledger.position().log) {
            return self.damaged(ledger).await;
        }
        match self.reader.read(after, BLOCK_MAX).await? {
            Read::News(news) => self.take_in(ledger, news).await,
            Read::Lost if after.log == 0 => Err(Hitch::Changed),
            Read::Lost => self.lost(ledger).await,
            Read::Damaged(_) => self.damaged(ledger).await,
        }
    }

    async fn take_in(&mut self, ledger: &Arc<Revocations>, news: News) -> Result<(), Hitch> {
        let News { entries, complete_at } = news;
        if self.at_head && entries.is_empty() {
            // It is gone again.
            return self.lost(ledger).await;
        }
        if !entries.is_empty() {
            let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
            let count: usize = entries.iter().map(|entry| entry.records.len()).sum();
            let unknown: usize = entries.iter().map(|entry| entry.unknown).sum();
            match ledger.apply(entries.into_iter().map(Entry::from).collect()).await {
                Ok(_) => {}
                Err(NotApplied::Gap) => return self.cut_meanwhile(ledger).await,
                Err(why) => return Err(why.into()),
            }
            self.at_head = false;
            self.situation.arrived(positions.into_iter());
            self.situation.counts.add_followed(count as u64);
            self.situation.counts.add_unknown(unknown as u64);
        }
        if self.situation.followed(self.epoch) {
            tracing::info!(entries = ledger.position().number, "following the shared log");
        }
        if let Some(complete_at) = complete_at {
            ledger.set_fresh(complete_at.into_std());
            self.pay(ledger);
        }
        Ok(())
    }

    /// Sends what the log lacks, now that all of it is known.
    fn pay(&mut self, ledger: &Arc<Revocations>) {
        if ledger.owes() && !self.mending.as_ref().is_some_and(Going::goes_on) {
            let lacking = std::mem::replace(&mut self.lacking, Lacking::All);
            let (log, situation) = (self.log.clone(), self.situation.clone());
            let mending = mending::run(ledger.clone(), log, lacking, situation, self.who);
            self.mending = Some(Going(tokio::spawn(mending)));
        }
        let held = ledger.held();
        if !held.is_empty() && !self.sending_held.as_ref().is_some_and(Going::goes_on) {
            tracing::info!(records = held.len(), "appending what waited for the shared log");
            let appender = self.appender.clone();
            let sending = async move {
                // They are held until they come back: if this fails it is tried again.
                let _ = appender.append(held, None, Instant::now() + HELD_WITHIN).await;
                sleep(AGAIN_AFTER).await;
            };
            self.sending_held = Some(Going(tokio::spawn(sending)));
        }
    }

    /// What the ledger knows is not in the log.
    async fn lost(&mut self, ledger: &Arc<Revocations>) -> Result<(), Hitch> {
        let known = ledger.position();
        let is_empty = known.number == 0 && ledger.stats().is_empty();
        let common = self.find(ledger).await?;
        if is_empty {
            // A host without a past has lost nothing.
            ledger.paid().await?;
            return Ok(());
        }
        self.situation.counts.add_losses(1);
        tracing::warn!(
            known = known.number,
            in_both = common.map_or(0, |common| common.number),
            "the shared log lacks what is known here: it is put back"
        );
        Ok(())
    }

    /// The head was cut between two looks.
    async fn cut_meanwhile(&mut self, ledger: &Arc<Revocations>) -> Result<(), Hitch> {
        let is_empty = ledger.stats().is_empty();
        self.find(ledger).await?;
        if is_empty {
            // Who knows nothing owes nothing.
            ledger.paid().await?;
        }
        Ok(())
    }

    /// Finds where to go on from: the newest position in both, or, where there is none, the log's
    /// head. From then on the ledger owes.
    async fn find(&mut self, ledger: &Arc<Revocations>) -> Result<Option<Position>, Hitch> {
        if let Some(mending) = self.mending.take() {
            // From now on nobody may say that it is paid.
            mending.end().await;
        }
        let known = ledger.position();
        let common = match self.reader.last().await? {
            Some(last) if last.log == known.log && !self.at_head => {
                self.common(ledger, last.number.min(known.number)).await?
            }
            _ => None,
        };
        let lacking = match common {
            // What was owed before is owed still, and nobody has a list of it.
            Some(common) if !ledger.owes() => Lacking::These {
                after: common,
                records: records_after(ledger, common.number).await?,
            },
            Some(_) | None => Lacking::All,
        };
        let at = match common {
            Some(common) => common,
            None => self.head().await?,
        };
        ledger.begin_anew(at).await?;
        self.epoch += 1;
        self.at_head = common.is_none();
        self.lacking = lacking;
        self.situation.lost();
        Ok(common)
    }

    /// The newest position that the ledger and the log have in common, up to this number.
    async fn common(
        &mut self,
        ledger: &Arc<Revocations>,
        number: u64,
    ) -> Result<Option<Position>, Hitch> {
        // Mostly the log has simply lost its end.
        if let Some(common) = self.is_common(ledger, number).await? {
            return Ok(Some(common));
        }
        let kept = reading(ledger, |ledger| ledger.entries_after(0)).await?;
        let Some(first) = kept.first().map(|entry| entry.position.number) else { return Ok(None) };
        // Up to some number all are in both, and none after it.
        let (mut low, mut high, mut common) = (first, number, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.is_common(ledger, middle).await? {
                Some(there) => (common, low) = (Some(there), middle + 1),
                None => high = middle,
            }
        }
        Ok(common)
    }

    async fn is_common(
        &mut self,
        ledger: &Revocations,
        number: u64,
    ) -> Result<Option<Position>, Hitch> {
        let known = ledger.position_at(number)?;
        Ok(self.reader.at(number).await?.filter(|there| known == Some(*there)))
    }

    /// The place before the log's head; if there is no log, begins one.
    async fn head(&mut self) -> Result<Position, Hitch> {
        let first = match self.reader.first().await? {
            Some(first) => first,
            // It begins with an entry that says nothing: so all hosts have a log to agree on.
            None => match self.writer.append(Known::Nothing, &[&[]], None).await? {
                Appended::Done { positions, .. } => {
                    self.situation.counts.add_begun(1);
                    positions.first().copied().ok_or(Hitch::Changed)?
                }
                Appended::Lost | Appended::Damaged => return Err(Hitch::Changed),
            },
        };
        Ok(match first.number {
            1 => Position::start(first.log),
            // What led there is gone: it is never asked for.
            number => Position { log: first.log, number: number - 1, chain: 0 },
        })
    }

    /// The log has a gap: nobody who begins to read it would know everything. Another takes its
    /// place, into which all hosts then put what they know.
    async fn damaged(&mut self, ledger: &Arc<Revocations>) -> Result<(), Hitch> {
        let log = self.writer.log_id().await?.ok_or(Hitch::Changed)?;
        self.situation.set_damaged(0);
        // What is behind the gap perhaps nobody else knows.
        let salvaged = mending::salvage(&mut self.writer).await?;
        tracing::error!(
            records = salvaged.len(),
            "the shared log has a gap: entries were deleted or changed there; it is begun anew"
        );
        let entries: Vec<&[Record]> = match salvaged.chunks(log::ENTRY_RECORDS_MAX).next() {
            Some(first) => vec![first],
            None => vec![&[]],
        };
        let Appended::Done { positions, .. } =
            self.writer.append(Known::Damaged(log), &entries, None).await?
        else {
            return Err(Hitch::Changed);
        };
        self.situation.counts.add_damages(1);
        let mut at = positions.first().copied().ok_or(Hitch::Changed)?;
        let rest = salvaged.get(log::ENTRY_RECORDS_MAX..).unwrap_or_default();
        for part in rest.chunks(log::ENTRY_RECORDS_MAX) {
            match self.writer.append(Known::Position(at), &[part], None).await? {
                Appended::Done { positions, .. } => at = positions.first().copied().unwrap_or(at),
                Appended::Lost | Appended::Damaged => break,
            }
        }
        self.lost(ledger).await
    }

    fn away(&self, why: &str) {
        if self.situation.away(why) {
            tracing::warn!(why, "the shared log is not followed");
        }
    }
}

/// All records of entries after this number, as far back as they are kept.
async fn records_after(ledger: &Arc<Revocations>, mut number: u64) -> Result<Vec<Record>, Hitch> {
    let mut records = Vec::new();
    loop {
        let entries = reading(ledger, move |ledger| ledger.entries_after(number)).await?;
        let Some(last) = entries.last() else { return Ok(records) };
        number = last.position.number;
        records.extend(entries.into_iter().flat_map(|entry| entry.records));
    }
}

/// Does what blocks for some milliseconds where that harms nobody.
async fn reading<T: Send + 'static>(
    ledger: &Arc<Revocations>,
    read: impl FnOnce(&Revocations) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Hitch> {
    let ledger = ledger.clone();
    let read = tokio::task::spawn_blocking(move || read(&ledger)).await;
    Ok(read.map_err(|_| Hitch::Ending)??)
}

fn text(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Going {
    fn goes_on(&self) -> bool {
        !self.0.is_finished()
    }

    /// Ends it, and returns when it has.
    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl From<log::Entry> for Entry {
    fn from(entry: log::Entry) -> Self {
        Self { position: entry.position, records: entry.records }
    }
}

impl From<Error> for Hitch {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Fault> for Hitch {
    fn from(fault: Fault) -> Self {
        Self::Ledger(fault)
    }
}

impl From<NotApplied> for Hitch {
    fn from(not: NotApplied) -> Self {
        match not {
            NotApplied::Gap => Self::Changed,
            NotApplied::Fault(fault) => Self::Ledger(fault),
            NotApplied::Ending => Self::Ending,
        }
    }
}
