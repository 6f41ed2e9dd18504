//! Keeps the log from growing for ever.
//!
//! Entries in which nothing is in force any more are cut from the log's head. Where something is
//! in force for long, and most of what comes after it is not, that is appended again and then
//! cut. So whoever reads the log from its head, however often it was cut, finds all that is in
//! force; and it has at most about twice as many records as there are of those.
//!
//! What has expired is judged by the earlier of two clocks, this machine's and the server's, and
//! ten minutes late: one host whose clock is wrong cuts nothing that lives. A record of a newer
//! version is in force as far as this one can tell, and stays where it is.

use super::mending::{has_expired, now_secs};
use super::stage::{Situation, Stage};
use super::turn::{Broken, Turn};
use crate::revocations::{Id, Position, Record, Revocations};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidegate_redis::log::{
    Appended, CALL_ENTRIES_MAX, ENTRY_RECORDS_MAX, Entry, Known, Log, Writer,
};
use tokio::time::{Instant, sleep};

/// How many entries are looked at in one step: as many as can be appended again in one call.
const STEP_ENTRIES: usize = CALL_ENTRIES_MAX;

/// How many steps are made before a pause.
const STEPS_MAX: usize = 4_096;

/// How many entries are looked at to tell how much of the log is of no more use.
const SAMPLES: u64 = 64;

/// A log so short is not worth the work.
const ENTRIES_MIN: u64 = 1_024;

struct Trimmer<'a> {
    ledger: &'a Revocations,
    writer: &'a mut Writer,
    situation: &'a Situation,
    turn: Turn,
    now_secs: u64,
}

/// Looks every now and then whether something can be cut, until the ledger is gone.
pub(super) async fn run(
    ledger: Weak<Revocations>,
    log: Log,
    situation: Arc<Situation>,
    every: Duration,
) {
    let mut writer = log.writer();
    let who = fastrand::u64(1..);
    loop {
        // Not all hosts at once.
        sleep(every.mul_f64(0.5 + fastrand::f64())).await;
        let Some(ledger) = ledger.upgrade() else { return };
        if !matches!(&*situation.stage().borrow(), Stage::Followed { .. }) || ledger.owes() {
            continue;
        }
        let done = trim(&ledger, &mut writer, &situation, who).await;
        match done {
            Ok(()) | Err(Broken::Changed) => {}
            Err(Broken::Server(error)) => tracing::debug!(%error, "the shared log was not cut"),
            Err(Broken::Ledger(fault)) => tracing::warn!(%fault, "the shared log was not cut"),
        }
    }
}

async fn trim(
    ledger: &Revocations,
    writer: &mut Writer,
    situation: &Situation,
    who: u64,
) -> Result<(), Broken> {
    let mut turn = Turn::of(who);
    if !turn.take(writer).await? {
        return Ok(());
    }
    let now_secs = writer.now_secs().await?.min(now_secs());
    let mut trimmer = Trimmer { ledger, writer, situation, turn, now_secs };
    let trimmed = trimmer.run().await;
    writer.end_turn().await?;
    trimmed
}

impl Trimmer<'_> {
    async fn run(&mut self) -> Result<(), Broken> {
        let mut is_wasteful = None;
        for _ in 0..STEPS_MAX {
            let start = Instant::now();
            let head = self.writer.head(STEP_ENTRIES).await?;
            let Some(first) = head.first() else { return Err(Broken::Changed) };
            let (Position { log, number: first, .. }, known) =
                (first.position, self.ledger.position());
            if log != known.log {
                return Err(Broken::Changed);
            }
            let last = known.number;
            self.situation.counts.set_entries((last + 1).saturating_sub(first));
            let over = head.iter().take_while(|entry| self.is_over(entry)).count();
            let is_cut = match over {
                0 => {
                    let is_wasteful = match is_wasteful {
                        Some(known) => known,
                        None => *is_wasteful.insert(self.is_wasteful(first, last).await?),
                    };
                    is_wasteful && self.carry(log, &head).await?
                }
                over => self.cut(log, head[over - 1].position.number + 1).await?,
            };
            if !is_cut {
                return Ok(());
            }
            // No more than half of the server's time.
            sleep(start.elapsed()).await;
            self.turn.keep(self.writer).await?;
        }
        Ok(())
    }

    /// Appends what is in force in these entries again, and cuts them.
    async fn carry(&mut self, log: u64, head: &[Entry]) -> Result<bool, Broken> {
        let (Some(end), false) = (head.last(), head.iter().any(|entry| entry.unknown > 0)) else {
            return Ok(false);
        };
        let mut carried: BTreeMap<Id, Record> = BTreeMap::new();
        for record in head.iter().flat_map(|entry| &entry.records) {
            // As it is by now, with all that has come since.
            let record = self.ledger.get(record.id)?.unwrap_or(*record);
            if !has_expired(&record, self.now_secs) {
                carried.insert(record.id, record);
            }
        }
        let carried: Vec<_> = carried.into_values().collect();
        let entries: Vec<_> = carried.chunks(ENTRY_RECORDS_MAX).collect();
        let known = Known::Position(self.ledger.position());
        match self.writer.append(known, &entries, None).await? {
            Appended::Done { .. } => {}
            Appended::Lost | Appended::Damaged => return Err(Broken::Changed),
        }
        self.situation.counts.add_carried(carried.len() as u64);
        self.cut(log, end.position.number + 1).await
    }

    /// Cuts what stands before this number, but for the entry up to which this host has read: without
    /// that it would take the log for one that lost its end.
    async fn cut(&mut self, log: u64, before: u64) -> Result<bool, Broken> {
        let before = before.min(self.ledger.position().number);
        let cut = self.writer.cut(log, before).await?.ok_or(Broken::Changed)?;
        self.situation.counts.add_cut(cut);
        Ok(cut > 0)
    }

    /// Whether nothing in it is in force.
    fn is_over(&self, entry: &Entry) -> bool {
        entry.unknown == 0 && entry.records.iter().all(|record| has_expired(record, self.now_secs))
    }

    /// Whether more than half of the log's records are of no more use, by some entries of it.
    async fn is_wasteful(&mut self, first: u64, last: u64) -> Result<bool, Broken> {
        if last.saturating_sub(first) < ENTRIES_MIN {
            return Ok(false);
        }
        let (mut useless, mut all) = (0, 0);
        for _ in 0..SAMPLES {
            let number = fastrand::u64(first..=last);
            let Some(entry) = self.writer.entry(number).await? else { continue };
            all += entry.records.len() + entry.unknown;
            for record in &entry.records {
                let is_said_again = self.ledger.get(record.id)?.is_some_and(|now| now != *record);
                useless += usize::from(is_said_again || has_expired(record, self.now_secs));
            }
        }
        Ok(useless * 2 > all)
    }
}
