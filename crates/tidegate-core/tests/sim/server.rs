//! The store, and the host before it: records, and what each of the two remembers or forgets.

use crate::clock::Clock;
use crate::request::{LIMITS_MAX, tags};
use crate::rng::Rng;
use tidegate_core::ask::LimitTag;
use tidegate_core::lease::{Ask, Away, Grant, Heard, Place, RECORD_BYTES, Record, Replays};
use tidegate_core::time::{Instant, Span};

type Records = [[u8; RECORD_BYTES]; LIMITS_MAX];

pub(crate) struct Server {
    pub(crate) clock: Clock,
    pub(crate) is_down: bool,
    pub(crate) operations: u64,
    tags: [LimitTag; LIMITS_MAX],
    /// One key of each limit, as a server keeps it.
    records: Records,
    snapshot: Records,
    stamp: u64,
    began: Option<Instant>,
    /// Of the host, which lives and dies apart from the server.
    replays: Replays,
    /// Of the host as well: what each proxy has wanted of each limit lately, and when it said so.
    wanted: Vec<[(f64, u64); LIMITS_MAX]>,
}

/// What an ask was answered.
pub(crate) struct Answer {
    pub(crate) grants: Vec<Result<Grant, Away>>,
    /// By limit: units that were used without a grant, and are charged now.
    pub(crate) charged: Vec<(usize, u32)>,
}

impl Server {
    pub(crate) fn new(clock: Clock, stamp: u64, proxies: usize) -> Self {
        Self {
            clock,
            is_down: false,
            operations: 0,
            tags: tags(),
            records: [[0; RECORD_BYTES]; LIMITS_MAX],
            snapshot: [[0; RECORD_BYTES]; LIMITS_MAX],
            stamp,
            began: None,
            replays: Replays::default(),
            wanted: vec![[(0.0, 0); LIMITS_MAX]; proxies],
        }
    }

    /// Answers a proxy's ask; not if it has had this one.
    pub(crate) fn hear(&mut self, now: u64, proxy: usize, ask: &Ask) -> Option<Answer> {
        let limits: Vec<_> = ask.wants.iter().map(|want| self.limit(want.limit)).collect();
        let shares: Vec<_> = limits
            .iter()
            .zip(&ask.wants)
            .map(|(limit, want)| self.share(now, proxy, *limit, want.tried))
            .collect();
        self.operations += 1;
        let place = Place { now: self.clock.at(now), stamp: self.stamp, began: self.began };
        let may_settle = match self.replays.hear(place.now, ask.holder, ask.seq) {
            Heard::First => true,
            Heard::Perhaps => false,
            Heard::Again => return None,
        };
        let mut answer = Answer { grants: Vec::new(), charged: Vec::new() };
        for ((limit, want), share_ppm) in limits.into_iter().zip(&ask.wants).zip(shares) {
            let mut record = Record::from_bytes(&self.records[limit]);
            let grant = record.answer(&place, ask.holder, want, may_settle);
            self.records[limit] = record.to_bytes();
            answer.grants.push(Ok(Grant { share_ppm, ..grant }));
            answer.charged.push((limit, want.owed));
        }
        Some(answer)
    }

    /// What no server was asked, as far as the host can say.
    pub(crate) fn is_away(ask: &Ask) -> Vec<Result<Grant, Away>> {
        vec![Err(Away(Span::ZERO)); ask.wants.len()]
    }

    pub(crate) fn restart_host(&mut self) {
        self.replays = Replays::default();
    }

    pub(crate) fn take_snapshot(&mut self) {
        self.snapshot = self.records;
    }

    pub(crate) fn fail_over(&mut self, now: u64, clock_ms: i64, rng: &mut Rng) {
        self.records = self.snapshot;
        self.reshard(clock_ms, rng);
        self.began = Some(self.clock.at(now));
    }

    pub(crate) fn reshard(&mut self, clock_ms: i64, rng: &mut Rng) {
        self.stamp = rng.next();
        self.step_clock(clock_ms);
    }

    pub(crate) fn step_clock(&mut self, ms: i64) {
        self.clock.zero_ns = self.clock.zero_ns.saturating_add_signed(ms * 1_000_000);
    }

    fn limit(&self, tag: LimitTag) -> usize {
        self.tags.iter().position(|known| *known == tag).expect("one of the policy's limits")
    }

    /// A proxy's share of a limit as hosts tell it: nine tenths by demand, the rest evenly.
    fn share(&mut self, now: u64, proxy: usize, limit: usize, tried: u32) -> u32 {
        const HALF_LIFE_NS: f64 = 10e9;
        let units =
            |(units, at): &(f64, u64)| units * 0.5_f64.powf((now - at) as f64 / HALF_LIFE_NS);
        let own = &mut self.wanted[proxy][limit];
        *own = (units(own) + f64::from(tried), now);
        let own = own.0;
        let all: f64 = self.wanted.iter().map(|of| units(&of[limit])).sum();
        let by_demand = if all > 0.0 { own / all } else { 0.0 };
        ((by_demand * 0.9 + 0.1 / self.wanted.len() as f64) * 0.95 * 1e6) as u32
    }
}
