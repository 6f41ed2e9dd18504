//! The log that hosts share, in Redis: followed into the ledger, written to, and made whole again
//! after Redis has lost some of it.
//!
//! - [`follower`]: brings what is in the log into the ledger, in its order, and notices losses
//! - [`appender`]: takes what is accepted here to the log, many in one call
//! - [`mending`]: puts into the log what it lacks and this host knows
//! - [`trimming`]: keeps the log from growing for ever
//! - [`turn`]: which host does either
//! - [`stage`]: how it is with the log, and who waits for which of its entries
//!
//! What is accepted is first appended, and acknowledged when the follower has brought it back:
//! so it is in the log and durable here, and the ledger has one writer, in the log's order.
//! Of a crash between the two nothing is left but a revocation that nobody was told holds, and
//! that does. If Redis loses an entry in between, its caller still waits, and it is appended
//! again; if it does later, the ledger has it, and puts it back.
//!
//! All tasks end with the [`Revocations`] that they serve.

mod appender;
mod counts;
mod follower;
mod mending;
mod stage;
mod trimming;
mod turn;

pub use counts::Counts;

use super::{Accepted, Accepting, Durability, Follow, NotAccepted, Reach, Record, Revocations};
use appender::{Appended, Appender};
use stage::{Arrival, Situation};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidegate_redis::log::Log;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long a caller waits for a revocation to be in the log: longer than a fail-over whose vote
/// is not split.
const ACCEPT_WITHIN: Duration = Duration::from_secs(5);

/// How long one waits who would have it held here alone.
const HELD_AFTER: Duration = Duration::from_secs(1);

/// How often a host looks whether the log's head can be cut.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// The log, as a host takes part in it.
pub struct SharedLog {
    ledger: Weak<Revocations>,
    situation: Arc<Situation>,
    appender: Appender,
    /// All that goes on, and ends with this.
    _tasks: JoinSet<()>,
}

impl SharedLog {
    /// Follows `log` from now on, and takes to it whatever is accepted. Call within a tokio
    /// runtime, once for each [`Revocations`].
    pub fn start(ledger: &Arc<Revocations>, log: &Log) -> Arc<Self> {
        Self::start_with(ledger, log, TRIM_EVERY)
    }

    /// As [`Self::start`]; looks so often whether the log's head can be cut.
    pub fn start_with(ledger: &Arc<Revocations>, log: &Log, trim_every: Duration) -> Arc<Self> {
        let situation = Arc::new(Situation::default());
        let mut tasks = JoinSet::new();
        let weak = Arc::downgrade(ledger);
        let appender = Appender::start(&mut tasks, &weak, &situation, log);
        let follower =
            follower::Follower::new(weak.clone(), log, situation.clone(), appender.clone());
        tasks.spawn(follower.run());
        tasks.spawn(trimming::run(weak.clone(), log.clone(), situation.clone(), trim_every));
        let this = Arc::new(Self { ledger: weak, situation, appender, _tasks: tasks });
        ledger.follow(this.clone());
        this
    }

    /// Why the log cannot be followed now; `None` if it is.
    pub fn trouble(&self) -> Option<String> {
        self.situation.trouble()
    }

    /// What has been counted so far.
    pub fn counts(&self) -> &Counts {
        &self.situation.counts
    }

    /// Until it is in the log and durable here.
    async fn append(
        &self,
        records: &[Record],
        replicas: Option<u8>,
        until: Instant,
    ) -> Result<Accepted, NotAccepted> {
        let mut may_be_there = None;
        loop {
            let appended = self.appender.append(records.to_vec(), replicas, until).await;
            let Appended { position, replicas } = match appended {
                Ok(appended) => appended,
                // It was there, but the log lost it; or it may be.
                Err(NotAccepted::Away(why)) if may_be_there.is_some() => {
                    return Err(NotAccepted::Unknown(why));
                }
                Err(why) => return Err(why),
            };
            may_be_there = Some(position);
            let Some(ledger) = self.ledger.upgrade() else { return Err(NotAccepted::Ending) };
            match timeout_at(until, self.situation.arrival(&ledger, position)).await {
                Ok(Arrival::Here) => {
                    let reach = Reach::Shared { replicas };
                    return Ok(Accepted { position, reach });
                }
                Ok(Arrival::Lost) => {}
                Err(_) => {
                    let why = "it is in the shared log, but did not come back in time";
                    let why = self.trouble().unwrap_or_else(|| why.to_owned());
                    return Err(NotAccepted::Unknown(why));
                }
            }
        }
    }

    async fn accept(
        &self,
        records: Vec<Record>,
        wanted: Durability,
    ) -> Result<Accepted, NotAccepted> {
        let (replicas, within) = match wanted {
            Durability::Shared => (None, ACCEPT_WITHIN),
            Durability::Replicas(count) => (Some(count), ACCEPT_WITHIN),
            // Whoever would have it held does not wait for a log that is known to be away.
            Durability::ThisHost if self.trouble().is_some() => (None, Duration::ZERO),
            Durability::ThisHost => (None, HELD_AFTER),
        };
        let appended = match within {
            Duration::ZERO => Err(NotAccepted::Away(self.trouble().unwrap_or_default())),
            within => self.append(&records, replicas, Instant::now() + within).await,
        };
        match appended {
            Err(NotAccepted::Away(_) | NotAccepted::Unknown(_))
                if wanted == Durability::ThisHost =>
            {
                let ledger = self.ledger.upgrade().ok_or(NotAccepted::Ending)?;
                let position = ledger.hold(records).await?;
                Ok(Accepted { position, reach: Reach::Held })
            }
            appended => appended,
        }
    }
}

impl Follow for SharedLog {
    fn accept<'a>(&'a self, records: Vec<Record>, wanted: Durability) -> Accepting<'a> {
        Box::pin(self.accept(records, wanted))
    }
}
