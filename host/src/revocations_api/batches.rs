//! Records on their way into the ledger, in batches of which some are under way at once.

use super::in_force::{self, Said};
use crate::revocations::{
    Accepted, Durability, ENTRY_RECORDS_MAX, NotAccepted, Reach, Revocations,
};
use futures_util::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::sync::Arc;
use tokio::task::{JoinError, JoinHandle};

/// Batches under way at once: they share syncs of the disk, and trips to Redis. As many as one sync
/// takes (16), and as many behind them.
const UNDER_WAY_MAX: usize = 32;

/// Two acknowledgements as one: as of the later place, and no more durable than both are.
pub(super) fn both(one: &Accepted, other: &Accepted) -> Accepted {
    let is_later = one.position.number > other.position.number;
    let position = if is_later { one.position } else { other.position };
    let reach = match (one.reach, other.reach) {
        (Reach::Held, _) | (_, Reach::Held) => Reach::Held,
        (Reach::Shared { replicas: one }, Reach::Shared { replicas: other }) => {
            Reach::Shared { replicas: one.min(other) }
        }
        _ => Reach::ThisHost,
    };
    Accepted { position, reach }
}

/// How many records a batch has, and what became of it.
type Ended = (usize, Result<Option<Accepted>, NotAccepted>);

/// Records on their way.
pub(super) struct Batches {
    revocations: Arc<Revocations>,
    durability: Durability,
    waiting: Vec<Said>,
    under_way: FuturesOrdered<JoinHandle<Ended>>,
    accepted: u64,
    last: Option<Accepted>,
}

impl Batches {
    pub(super) fn new(revocations: Arc<Revocations>, durability: Durability) -> Self {
        Self {
            revocations,
            durability,
            waiting: Vec::new(),
            under_way: FuturesOrdered::new(),
            accepted: 0,
            last: None,
        }
    }

    /// One more; it goes with the next [`Self::send`].
    pub(super) fn put(&mut self, said: Said) {
        self.waiting.push(said);
    }

    /// Sends whole batches off. Waits if too many are under way.
    ///
    /// # Errors
    ///
    /// Why one of them was not accepted; those before it were.
    pub(super) async fn send(&mut self) -> Result<(), NotAccepted> {
        while self.waiting.len() >= ENTRY_RECORDS_MAX {
            let rest = self.waiting.split_off(ENTRY_RECORDS_MAX);
            let batch = std::mem::replace(&mut self.waiting, rest);
            self.begin(batch).await?;
        }
        while let Some(Some(ended)) = self.under_way.next().now_or_never() {
            self.end(ended)?;
        }
        Ok(())
    }

    /// Sends the rest off, and waits for all.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(super) async fn finish(&mut self) -> Result<(), NotAccepted> {
        self.send().await?;
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            self.begin(rest).await?;
        }
        while let Some(ended) = self.under_way.next().await {
            self.end(ended)?;
        }
        Ok(())
    }

    /// How many are in force.
    pub(super) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How durable all of them are, and as of where.
    pub(super) const fn last(&self) -> Option<Accepted> {
        self.last
    }

    async fn begin(&mut self, batch: Vec<Said>) -> Result<(), NotAccepted> {
        if self.under_way.len() >= UNDER_WAY_MAX
            && let Some(ended) = self.under_way.next().await
        {
            self.end(ended)?;
        }
        let (revocations, durability) = (self.revocations.clone(), self.durability);
        self.under_way.push_back(tokio::spawn(async move {
            (batch.len(), in_force::accept(&revocations, batch, durability).await)
        }));
        Ok(())
    }

    fn end(&mut self, ended: Result<Ended, JoinError>) -> Result<(), NotAccepted> {
        let (count, accepted) = ended.map_err(|_| NotAccepted::Ending)?;
        let accepted = accepted?;
        self.accepted += count as u64;
        let all = self.last.into_iter().chain(accepted);
        self.last = all.reduce(|one, other| both(&one, &other));
        Ok(())
    }
}
