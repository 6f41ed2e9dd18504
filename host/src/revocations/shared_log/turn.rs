//! Who mends the log, or cuts it: one host at a time, by a turn that is kept in Redis; and why such
//! work is broken off.

use crate::revocations::{Fault, NotApplied};
use std::time::Duration;
use tidegate_redis::Error;
use tidegate_redis::log::Writer;
use tokio::time::Instant;

/// How long a turn lasts, if it is not lengthened: so long the others wait where whoever had it
/// has died, or a fail-over brought back a turn that had ended.
const LASTS: Duration = Duration::from_secs(5);

/// One host's turn.
pub(super) struct Turn {
    /// Told from all others', drawn at random.
    who: u64,
    since: Instant,
}

/// Why it was broken off.
pub(super) enum Broken {
    Server(Error),
    Ledger(Fault),
    /// The log is not what was known of it: the follower finds that, and begins again.
    Changed,
}

impl Turn {
    /// Somebody's, who does not have it yet.
    pub(super) fn of(who: u64) -> Self {
        Self { who, since: Instant::now() }
    }

    /// Takes it, if it is nobody else's; returns whether it was.
    pub(super) async fn take(&mut self, writer: &mut Writer) -> Result<bool, Error> {
        let is_ours = writer.take_turn(self.who, LASTS).await?;
        self.since = Instant::now();
        Ok(is_ours)
    }

    /// Lengthens it, if a good part of it is over.
    pub(super) async fn keep(&mut self, writer: &mut Writer) -> Result<(), Error> {
        if self.since.elapsed() > LASTS / 4 {
            self.take(writer).await?;
        }
        Ok(())
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Ledger(fault)
    }
}

impl From<NotApplied> for Broken {
    fn from(not: NotApplied) -> Self {
        match not {
            NotApplied::Fault(fault) => Self::Ledger(fault),
            NotApplied::Gap | NotApplied::Ending => Self::Changed,
        }
    }
}
