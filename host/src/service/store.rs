//! Who keeps the truth: this process's memory.

use super::Failure;
use crate::config::Provider;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tidegate_core::ask::{Ask, MemoryStore, Reply};

/// Answers asks.
pub(super) enum Store {
    /// In this process. One lock: an answer takes about a microsecond.
    Memory { store: Mutex<MemoryStore>, start: Instant },
}

impl Store {
    pub(super) fn new(provider: &Provider) -> Result<Self, Failure> {
        match provider {
            Provider::Memory { keys_max } => Ok(Self::Memory {
                store: Mutex::new(MemoryStore::new(*keys_max)),
                start: Instant::now(),
            }),
            Provider::Redis(_) => Err(Failure {
                what: "provider redis".to_owned(),
                source: std::io::Error::other("is not served yet"),
            }),
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "memory",
        }
    }

    pub(super) async fn answer(&self, ask: Ask) -> Result<Reply, tidegate_redis::Error> {
        match self {
            Self::Memory { store, start } => {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                Ok(store.answer(tidegate_core::time::Instant(nanos), &ask))
            }
        }
    }

    /// Why asks are not answered now, if they are not.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory { .. } => None,
        }
    }
}
