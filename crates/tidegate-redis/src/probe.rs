//! What tells a server that works from one that merely answers: the scripts themselves, run on
//! a key of our own, reading, counting and writing as asks do.
//!
//! PING would not do: while a server holds back writes (`CLIENT PAUSE WRITE`), has no memory
//! left or is a replica, PING is answered as ever.

use crate::call::Script;
use crate::error::Error;
use crate::lease::{self, Leasing};
use crate::lineage::Lineage;
use crate::take::{self, Kind, Taking};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::lease::{Ask as LeaseAsk, HolderId, Terms, Want};
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;

/// A key of this process's own, and what is asked about it.
pub(crate) struct Probe(Mutex<Option<Asked>>);

/// What a server is tried with: one call of each script.
#[derive(Clone)]
pub(crate) struct Asked {
    ask: Arc<Ask>,
    lease: Arc<LeaseAsk>,
    terms: Terms,
}

/// What a probe found.
pub(crate) struct Probed {
    /// What the scripts said, or why they did not run.
    pub(crate) script: Result<(), Error>,
    /// Which history of writes the server is part of; `None` if it does not tell.
    pub(crate) lineage: Option<Lineage>,
}

impl Probe {
    /// A probe of a key by chance.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Asked::about(Key(fastrand::u128(..).to_be_bytes()))))
    }

    /// From now on asks about this key, or nothing at all: a cluster's node without slots
    /// runs no script.
    pub(crate) fn use_key(&self, key: Option<Key>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key.and_then(Asked::about);
    }

    /// The key that is asked about.
    pub(crate) fn key(&self) -> Option<Key> {
        self.asked().map(|asked| asked.ask.items[0].key)
    }

    /// Runs the scripts, loading them if they are not there.
    ///
    /// # Errors
    ///
    /// If the server does not answer at all.
    pub(crate) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Probed, Error> {
        // Of a cluster's node, slots may be known only a moment after it was dialled: then the
        // scripts are there when the first ask comes.
        let mut probed = self.once(connection, self.key().is_none()).await?;
        if matches!(&probed.script, Err(error) if error.is_no_script()) {
            probed = self.once(connection, true).await?;
        }
        Ok(probed)
    }

    async fn once(
        &self,
        connection: &mut MultiplexedConnection,
        load: bool,
    ) -> Result<Probed, Error> {
        let asked = self.asked();
        let mut pipeline = Pipeline::new();
        if load {
            for script in Script::OF_ASKS {
                pipeline.add_command(script.load());
            }
        }
        pipeline.cmd("INFO").arg("replication");
        match &asked {
            Some(asked) => {
                let [take, lease] = asked.commands();
                pipeline.add_command(take);
                pipeline.add_command(lease);
            }
            None => {
                pipeline.cmd("PING");
            }
        }
        let count = pipeline.len();
        let sent = connection.req_packed_commands(&pipeline, 0, count).await;
        let mut values = sent.map_err(Error::of)?.into_iter().rev();
        let mut next = || match values.next().ok_or(Error::Garbled("no reply"))? {
            Value::ServerError(error) => Err(Error::of(RedisError::from(error))),
            value => Ok(value),
        };
        let script = match &asked {
            Some(asked) => {
                let (leased, taken) = (next(), next());
                asked.judge([taken, leased])
            }
            None => next().map(|_| ()),
        };
        let lineage = match next() {
            Ok(Value::BulkString(info)) => Lineage::of_info(&String::from_utf8_lossy(&info)),
            // A user without the right to look: then only writing tells a replica.
            _ => None,
        };
        Ok(Probed { script, lineage })
    }

    fn asked(&self) -> Option<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Asked {
    pub(crate) fn about(key: Key) -> Option<Self> {
        // A million a second: the probe itself is never refused.
        let second = Span::from_secs(1);
        let quota = Quota::new(Algorithm::TokenBucket, 1_000_000, second, 1_000_000).ok()?;
        let limit = LimitTag(0);
        let want = Want::nothing(key, limit, quota);
        Some(Self {
            terms: lease::terms(&want)?,
            ask: Arc::new(Ask { items: vec![Item { key, limit, quota, cost: 1, owed: 0 }] }),
            lease: Arc::new(LeaseAsk { holder: HolderId(0), seq: 0, wants: vec![want] }),
        })
    }

    /// In the order of [`Script::OF_ASKS`].
    pub(crate) fn commands(&self) -> [Cmd; 2] {
        let leasing = Leasing::new(self.lease.clone(), 0, false, None);
        [Taking::all(self.ask.clone(), 0, Kind::Take).command(), leasing.command(None)]
    }

    /// What is wrong with the replies to them, if anything is.
    pub(crate) fn judge(&self, replies: [Result<Value, Error>; 2]) -> Result<(), Error> {
        let [taken, leased] = replies;
        taken.and_then(|value| take::reply(&self.ask.items, &value))?;
        leased.and_then(|value| lease::grant(&self.terms, &value)).map(drop)
    }
}
