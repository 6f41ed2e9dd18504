//! What tells a server that works from one that merely answers: the script itself, run on a
//! key of our own, reading, counting and writing as asks do.
//!
//! PING would not do: while a server holds back writes (`CLIENT PAUSE WRITE`), has no memory
//! left or is a replica, PING is answered as ever.

use crate::error::Error;
use crate::lineage::Lineage;
use crate::script::{self, Call, Kind};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, RedisError, Value};
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;

/// A key of this process's own, and what is asked about it.
pub(crate) struct Probe(Mutex<Option<Arc<Ask>>>);

/// What a probe found.
pub(crate) struct Probed {
    /// What the script said, or why it did not run.
    pub(crate) script: Result<(), Error>,
    /// Which history of writes the server is part of; `None` if it does not tell.
    pub(crate) lineage: Option<Lineage>,
}

impl Probe {
    /// A probe of a key by chance.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ask_of(Key(fastrand::u128(..).to_be_bytes()))))
    }

    /// From now on asks about this key, or nothing at all: a cluster's node without slots
    /// runs no script.
    pub(crate) fn use_key(&self, key: Option<Key>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key.and_then(ask_of);
    }

    /// The key that is asked about.
    pub(crate) fn key(&self) -> Option<Key> {
        self.ask().map(|ask| ask.items[0].key)
    }

    /// Runs the script, loading it if it is not there.
    ///
    /// # Errors
    ///
    /// If the server does not answer at all.
    pub(crate) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Probed, Error> {
        let mut probed = self.once(connection, false).await?;
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
        let call = self.ask().map(|ask| Call::all(ask, 0, Kind::Take));
        let mut pipeline = Pipeline::new();
        if load {
            pipeline.add_command(script::load());
        }
        pipeline.cmd("INFO").arg("replication");
        match &call {
            Some(call) => pipeline.add_command(call.command()),
            None => pipeline.add_command(redis::cmd("PING")),
        };
        let count = pipeline.len();
        let sent = connection.req_packed_commands(&pipeline, 0, count).await;
        let mut values = sent.map_err(Error::of)?.into_iter().rev();
        let script = match (values.next().ok_or(Error::Garbled("no reply"))?, &call) {
            (Value::ServerError(error), _) => Err(Error::of(RedisError::from(error))),
            (value, Some(call)) => script::reply(call.items(), &value).map(|_| ()),
            (_, None) => Ok(()),
        };
        let lineage = match values.next() {
            Some(Value::BulkString(info)) => Lineage::of_info(&String::from_utf8_lossy(&info)),
            // A user without the right to look: then only writing tells a replica.
            _ => None,
        };
        Ok(Probed { script, lineage })
    }

    fn ask(&self) -> Option<Arc<Ask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn ask_of(key: Key) -> Option<Arc<Ask>> {
    // A million a second: the probe itself is never refused.
    let second = Span::from_secs(1);
    let quota = Quota::new(Algorithm::TokenBucket, 1_000_000, second, 1_000_000).ok()?;
    Some(Arc::new(Ask { items: vec![Item { key, limit: LimitTag(0), quota, cost: 1, owed: 0 }] }))
}
