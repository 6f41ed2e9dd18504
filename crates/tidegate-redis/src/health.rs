//! How a store is, as a whole and server by server.

use crate::link::Link;
use crate::outage::Outage;
use crate::settings::Address;
use std::time::Duration;

/// How a store is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether asks can be answered: all of them, or of a cluster those of some shard.
    pub answers: bool,
    /// What is wrong, in words; `None` if all is well.
    pub trouble: Option<String>,
    /// Each server, and each sentinel.
    pub backends: Vec<Backend>,
}

/// One server, or one sentinel.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it is.
    pub kind: BackendKind,
    /// `host:port`; empty while nobody knows.
    pub address: String,
    /// Whether there is a connection to it.
    pub is_up: bool,
    /// What is wrong, in words.
    pub trouble: Option<String>,
    /// Slots of a cluster that are its own.
    pub slots: u16,
    /// Connections made to it so far.
    pub connects: u64,
    /// Connections to it that were lost, or given up.
    pub losses: u64,
    /// Batches whose replies did not come in time.
    pub misses: u64,
    /// Whether it is not asked for now, being known not to answer.
    pub is_shunned: bool,
    /// How often that has begun.
    pub shunned: u64,
    /// Since when it gives no answers, and what was asked of it meanwhile; `None` if it does.
    /// Of a server, not of a sentinel.
    pub outage: Option<Outage>,
    /// How long it gave no answers so far, in all.
    pub downtime: Duration,
    /// Units of its budgets that were asked for in vain so far: what others may have let
    /// through in its place, and it has not counted.
    pub unanswered_units: u64,
}

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// The one server that is asked.
    Master,
    /// A master of a cluster, asked for its slots.
    Shard,
    /// A sentinel, asked who the master is.
    Sentinel,
}

impl Backend {
    pub(crate) fn server(
        kind: BackendKind,
        address: Option<&Address>,
        slots: u16,
        link: &Link,
    ) -> Self {
        let [connects, losses, misses] = link.counts();
        Self {
            kind,
            address: address.map(ToString::to_string).unwrap_or_default(),
            is_up: link.is_up(),
            trouble: link.trouble(),
            slots,
            connects,
            losses,
            misses,
            is_shunned: link.breaker.is_open(),
            shunned: link.breaker.opens(),
            outage: link.outages.current(),
            downtime: link.outages.total(),
            unanswered_units: link.outages.unanswered_units(),
        }
    }

    pub(crate) fn sentinel(address: &Address, trouble: Option<String>) -> Self {
        Self {
            kind: BackendKind::Sentinel,
            address: address.to_string(),
            is_up: trouble.is_none(),
            trouble,
            slots: 0,
            connects: 0,
            losses: 0,
            misses: 0,
            is_shunned: false,
            shunned: 0,
            outage: None,
            downtime: Duration::ZERO,
            unanswered_units: 0,
        }
    }
}

impl BackendKind {
    /// Its name, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Shard => "shard",
            Self::Sentinel => "sentinel",
        }
    }
}
