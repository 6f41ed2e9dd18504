//! Who keeps the truth: this process's memory, or Redis.

use crate::config::Provider;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_core::ask::{Ask, MemoryStore, Reply};
use tidegate_core::key::Key;
use tidegate_core::lease::{self, Grant, Place};
use tidegate_core::time::Instant;
use tidegate_redis::Error;

/// Answers asks.
pub(super) enum Store {
    /// In this process.
    Memory(Memory),
    /// A Redis, of whatever kind.
    Redis(tidegate_redis::Store),
}

/// What a process keeps. A lock for each kind of ask: each budget of it takes about a
/// microsecond.
pub(super) struct Memory {
    exact: Mutex<MemoryStore>,
    leases: Mutex<lease::Store>,
    /// Where leases are granted, but for the time.
    origin: Place,
}

/// Whether there was a process before this one that granted leases of the same budgets from its
/// memory, which may still be spent.
#[derive(Clone, Copy)]
pub(super) enum Predecessor {
    /// There may have been, and it took all that it knew along. So leases of this process are of
    /// an era of their own, and holders tell what they know to be taken. Whose holders are gone
    /// too begins anew, as exact limits do: a memory that forgets is no reason to refuse.
    Perhaps,
    /// There was none, as where whoever holds leases ends with the process. Then nothing is
    /// left to chance.
    None,
}

impl Memory {
    fn new(keys_max: u32, predecessor: Predecessor) -> Self {
        let origin = match predecessor {
            Predecessor::Perhaps => {
                Place { now: Instant(0), stamp: fastrand::u64(1..), began: None }
            }
            Predecessor::None => Place { now: Instant(0), stamp: 1, began: None },
        };
        Self {
            exact: Mutex::new(MemoryStore::new(keys_max)),
            leases: Mutex::new(lease::Store::new(keys_max)),
            origin,
        }
    }

    fn leases(&self) -> MutexGuard<'_, lease::Store> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Connects in the background, where there is something to connect to. A Redis tells itself
    /// what was there before.
    pub(super) fn new(provider: &Provider, predecessor: Predecessor) -> Self {
        match provider {
            Provider::Memory { keys_max } => Self::Memory(Memory::new(*keys_max, predecessor)),
            Provider::Redis(settings) => {
                Self::Redis(tidegate_redis::Store::start(settings.as_ref().clone()))
            }
        }
    }

    /// The log of revocations that hosts share, if there is one.
    pub(super) fn log(&self) -> Option<tidegate_redis::log::Log> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.log()),
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
            Self::Memory(memory) => {
                let mut store = memory.exact.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(store.answer(now, ask))
            }
            Self::Redis(store) => match patience {
                Some(patience) => store.answer_within(ask.clone(), patience).await,
                None => store.answer(ask.clone()).await,
            },
        }
    }

    /// Answers an ask for leases, as [`Self::answer`]: of each want by itself. `None` if it has
    /// come before.
    pub(super) async fn lease(
        &self,
        now: Instant,
        ask: &Arc<lease::Ask>,
        patience: Option<Duration>,
    ) -> Option<Vec<Result<Grant, Error>>> {
        match self {
            Self::Memory(memory) => {
                let reply = memory.leases().answer(&Place { now, ..memory.origin }, ask)?;
                let grants = reply.grants.into_iter();
                Some(grants.map(|grant| grant.map_err(|_| Error::Away)).collect())
            }
            Self::Redis(store) => store.lease(ask.clone(), patience).await,
        }
    }

    /// How many asks for leases settled nothing, for their holders were not heard of before.
    pub(super) fn unsettled_leases(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.leases().unsettled(),
            Self::Redis(store) => store.unsettled_leases(),
        }
    }

    /// How long nobody has answered this ask for; `None` if that is not known to be so, and
    /// `error` has another reason.
    pub(super) fn away_for(&self, ask: &Ask, error: &Error) -> Option<Duration> {
        let known = self.redis().and_then(|redis| redis.away_for(ask));
        known.or_else(|| just_back(error))
    }

    /// As [`Self::away_for`], of one key.
    pub(super) fn away_for_key(&self, key: Key, error: &Error) -> Option<Duration> {
        let known = self.redis().and_then(|redis| redis.away_for_key(key));
        known.or_else(|| just_back(error))
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

/// Who is not known to be away any more may have been when there was this error.
fn just_back(error: &Error) -> Option<Duration> {
    matches!(error, Error::Away | Error::Unknown(_)).then_some(Duration::ZERO)
}
