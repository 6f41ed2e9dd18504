//! Who keeps the truth: this process's memory, or Redis.

use crate::config::Provider;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_core::ask::{Ask, MemoryStore, Reply};
use tidegate_core::time::Instant;
use tidegate_redis::Error;

/// Answers asks.
pub(super) enum Store {
    /// In this process. One lock: an answer takes about a microsecond.
    Memory(Mutex<MemoryStore>),
    /// A Redis, of whatever kind.
    Redis(tidegate_redis::Store),
}

impl Store {
    /// Connects in the background, where there is something to connect to.
    pub(super) fn new(provider: &Provider) -> Self {
        match provider {
            Provider::Memory { keys_max } => Self::Memory(Mutex::new(MemoryStore::new(*keys_max))),
            Provider::Redis(settings) => {
                Self::Redis(tidegate_redis::Store::start(settings.as_ref().clone()))
            }
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Redis(_) => "redis",
        }
    }

    /// Answers by memory as of `now`; Redis has a clock of its own, and may take no longer than
    /// `patience`, where there is one.
    pub(super) async fn answer(
        &self,
        now: Instant,
        ask: &Arc<Ask>,
        patience: Option<Duration>,
    ) -> Result<Reply, Error> {
        match self {
            Self::Memory(store) => {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(store.answer(now, ask))
            }
            Self::Redis(store) => match patience {
                Some(patience) => store.answer_within(ask.clone(), patience).await,
                None => store.answer(ask.clone()).await,
            },
        }
    }

    /// How long nobody has answered this ask for; `None` if that is not known to be so, and
    /// `error` has another reason.
    pub(super) fn away_for(&self, ask: &Ask, error: &Error) -> Option<Duration> {
        let known = match self {
            Self::Memory(_) => None,
            Self::Redis(store) => store.away_for(ask),
        };
        // It may be back by now.
        known.or_else(|| matches!(error, Error::Away | Error::Unknown(_)).then_some(Duration::ZERO))
    }

    /// Why asks are not answered now, or may not be; `None` if all is well.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => store.trouble(),
        }
    }

    /// How Redis is, server by server, if there is one.
    pub(super) fn health(&self) -> Option<tidegate_redis::Health> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.health()),
        }
    }

    /// Redis, if that is who it is: then there may be other hosts.
    pub(super) const fn redis(&self) -> Option<&tidegate_redis::Store> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store),
        }
    }

    /// What Redis has been sent, if there is one.
    pub(super) fn redis_stats(&self) -> Option<&tidegate_redis::Stats> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.stats()),
        }
    }
}
