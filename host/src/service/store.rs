//! Who keeps the truth: this process's memory, or Redis.

use crate::config::Provider;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tidegate_core::ask::{Ask, MemoryStore, Reply};
use tidegate_redis::Error;

/// Answers asks.
pub(super) enum Store {
    /// In this process. One lock: an answer takes about a microsecond.
    Memory { store: Mutex<MemoryStore>, start: Instant },
    /// A Redis server.
    Redis(tidegate_redis::Store),
}

impl Store {
    /// Connects in the background, where there is something to connect to.
    pub(super) fn new(provider: &Provider) -> Self {
        match provider {
            Provider::Memory { keys_max } => Self::Memory {
                store: Mutex::new(MemoryStore::new(*keys_max)),
                start: Instant::now(),
            },
            Provider::Redis(settings) => {
                Self::Redis(tidegate_redis::Store::start(settings.as_ref().clone()))
            }
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
            Self::Redis(_) => "redis",
        }
    }

    pub(super) async fn answer(&self, ask: Ask) -> Result<Reply, Error> {
        match self {
            Self::Memory { store, start } => {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                Ok(store.answer(tidegate_core::time::Instant(nanos), &ask))
            }
            Self::Redis(store) => store.answer(ask).await,
        }
    }

    /// Why asks are not answered now, or may not be; `None` if all is well.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis(store) => store.trouble(),
        }
    }

    /// What Redis has been sent, if there is one.
    pub(super) fn redis_stats(&self) -> Option<&tidegate_redis::Stats> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis(store) => Some(store.stats()),
        }
    }
}
