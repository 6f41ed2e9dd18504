//! What a history is made of: a fleet, a network, demand, and what goes wrong.

use crate::rng::Rng;
use tidegate_core::limit::Quota;
use tidegate_core::policy::OnError;

/// One history, before it is played.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// One for each leased limit.
    pub(crate) quotas: Vec<Quota>,
    /// Whether the policy is replaced.
    pub(crate) replacement: Option<Replacement>,
    pub(crate) proxies: usize,
    pub(crate) workers: usize,
    pub(crate) length_ns: u64,
    pub(crate) reserve: u32,
    pub(crate) on_error: OnError,
    /// Whether whatever comes for requests that wait is for them alone.
    pub(crate) at_once: bool,
    /// How often workers are in each other's way, in parts per million.
    pub(crate) conflicts_ppm: u32,
    pub(crate) net: Net,
    /// How far clocks are off, at most.
    pub(crate) drift_ppm: u64,
    pub(crate) faults: Vec<(u64, Fault)>,
    pub(crate) cost_max: u32,
    /// How many of the requests that wait die meanwhile, in parts per million.
    pub(crate) deaths_ppm: u32,
}

/// Another policy for all: as many limits as before, counted by the same algorithms.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    pub(crate) quotas: Vec<Quota>,
    pub(crate) at_ns: u64,
    /// Each worker has it at some moment until then.
    pub(crate) until_ns: u64,
}

impl Scenario {
    pub(crate) fn all_quotas(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.iter().chain(self.replacement.iter().flat_map(|it| &it.quotas))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) loss_ppm: u32,
    pub(crate) twice_ppm: u32,
    /// Messages that take up to 1.5 s longer.
    pub(crate) late_ppm: u32,
    /// Replies that say that nobody could say; half the time the store heard of the want. With
    /// it, a host says so while its store is down; without it, nobody says anything then.
    pub(crate) away_ppm: u32,
}

pub(crate) const CALM_NET: Net = Net { loss_ppm: 0, twice_ppm: 0, late_ppm: 0, away_ppm: 0 };

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The store answers nobody.
    Down,
    Up,
    /// What a replica has at this moment, should it be promoted later.
    Snapshot,
    /// The replica is promoted: what came after the snapshot is lost, its clock is another.
    Failover {
        clock_ms: i64,
    },
    /// The host forgets whose messages it has had.
    RestartHost,
    /// The key moved to another server with all that is known of it.
    Reshard,
    /// The store's clock is set.
    StepClock {
        ms: i64,
    },
    /// Everybody wants everything: all that is held is spent, and all that is left is asked for.
    Rush,
    /// A proxy does nothing for so long; what comes to it waits.
    Pause {
        proxy: usize,
        ms: u64,
    },
    /// The same, when it has next asked: the reply is there long before it is looked at.
    PauseMidAsk {
        proxy: usize,
        ms: u64,
    },
}

/// How many requests come a second, and to whom.
pub(crate) trait Demand {
    /// Requests a second of all proxies; where this is zero, asked again after 10 ms.
    fn rate(&mut self, now_ns: u64) -> f64;
    fn pick(&mut self, now_ns: u64, rng: &mut Rng) -> usize;
}
