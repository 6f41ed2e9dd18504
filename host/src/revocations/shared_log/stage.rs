//! How it is with the log: whether it is followed, and who waits for which of its entries.

use super::Counts;
use crate::revocations::{Position, Revocations};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// How it is with the log, for all who deal with it.
pub(super) struct Situation {
    stage: watch::Sender<Stage>,
    /// Who waits for an entry to be durable here: callers whose revocation is in it, of whom
    /// there are no more than the appender takes.
    waiting: Mutex<HashMap<Position, Vec<oneshot::Sender<()>>>>,
    /// The log that takes no more entries, as whoever would append has found; 0 is none.
    damaged: AtomicU64,
    pub(super) counts: Counts,
}

/// Whether the log is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is not, for this reason.
    Away(String),
    /// It is: what the ledger knows of it is in it.
    Followed {
        /// How many times it was not, so far: what was appended in an earlier time may be lost.
        epoch: u64,
    },
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is durable here.
    Here,
    /// The log has lost it since.
    Lost,
}

impl Default for Situation {
    fn default() -> Self {
        let stage = Stage::Away("this host is only just starting".to_owned());
        Self {
            stage: watch::Sender::new(stage),
            waiting: Mutex::default(),
            damaged: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }
}

impl Situation {
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.stage.borrow() {
            Stage::Away(why) => Some(why.clone()),
            Stage::Followed { .. } => None,
        }
    }

    /// It is away. True if that was not known before.
    pub(super) fn away(&self, why: &str) -> bool {
        let was_followed = matches!(&*self.stage.borrow(), Stage::Followed { .. });
        self.stage.send_if_modified(|stage| {
            let is_new = !matches!(stage, Stage::Away(known) if known == why);
            if is_new {
                *stage = Stage::Away(why.to_owned());
            }
            is_new
        });
        was_followed
    }

    /// It is followed. True if that was not known before.
    pub(super) fn followed(&self, epoch: u64) -> bool {
        self.stage.send_if_modified(|stage| {
            let is_new = *stage != Stage::Followed { epoch };
            *stage = Stage::Followed { epoch };
            is_new
        })
    }

    /// This log takes no more entries: only the follower can put another in its place.
    pub(super) fn set_damaged(&self, log: u64) {
        self.damaged.store(log, Ordering::Relaxed);
    }

    pub(super) fn is_damaged(&self, log: u64) -> bool {
        self.damaged.load(Ordering::Relaxed) == log
    }

    /// Waits until that entry is durable here, or lost.
    pub(super) async fn arrival(&self, ledger: &Revocations, position: Position) -> Arrival {
        let (tell, told) = oneshot::channel();
        self.waiting().entry(position).or_default().push(tell);
        // Looked at after that: if it comes now, it is told.
        let known = ledger.position();
        if known.log == position.log && known.number >= position.number {
            // Its number is known: either it is this one, or it is lost. What is so old that it
            // is kept no more was not appended a moment ago.
            return match ledger.position_at(position.number) {
                Ok(Some(there)) if there == position => Arrival::Here,
                _ => Arrival::Lost,
            };
        }
        match told.await {
            Ok(()) => Arrival::Here,
            Err(_) => Arrival::Lost,
        }
    }

    /// These are durable here.
    pub(super) fn arrived(&self, positions: impl Iterator<Item = Position>) {
        let mut waiting = self.waiting();
        for told in positions.filter_map(|position| waiting.remove(&position)).flatten() {
            let _ = told.send(());
        }
        // Those who wait no longer are forgotten.
        waiting.retain(|_, waiting| {
            waiting.retain(|tell| !tell.is_closed());
            !waiting.is_empty()
        });
    }

    /// Whoever waits for an entry may wait for ever.
    pub(super) fn lost(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Position, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
