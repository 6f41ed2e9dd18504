//! The time of a case, which passes only where a case says so.
//!
//! The filter ticks every 100 ms, or every 25 ms if it leases: it gives back what it holds ahead,
//! probes a store that is away, and tells what it has counted. A history of a month has 26 million
//! ticks or more, nearly all without effect, so a case runs those that can matter:
//!
//! - after each request, each change of the store, and when a filter has found it back, all
//!   ticks of [`rests_after`];
//! - if the filter holds the store for away, all ticks until its pauses between probes are
//!   as long as they get ([`rests_after_outage`]);
//! - the last one before the next step.
//!
//! So a filter under test is where it would be after ticks without a gap, but for the phase
//! of its probes. How long after `store: back` a proxy takes notice lies anywhere between
//! nothing and the policy's `host.breaker`; after a gap it is the whole of it, since the last
//! tick before the step has just probed in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_core::lease::LAPSE;
use tidegate_core::policy::{Limit, Policy, Scope};
use tidegate_core::time::Span;

/// The filter's tick, or four of them.
const TICK: Span = Span::from_millis(100);

/// Within this time the filter tells what it has counted.
pub(super) const METRICS_TOLD_WITHIN: Span = TICK;

/// When a filter has given back what it held: at the second tick of 100 ms without requests; if it
/// leases, before its leases lapse, and has told of that by the next tick.
pub(super) fn rests_after(policy: &Policy) -> Span {
    let is_leased = |limit: &Limit| matches!(limit.scope, Scope::Global { exact: false, .. });
    if policy.limits.iter().any(is_leased) { LEASES_REST } else { LOCAL_RESTS }
}

const LOCAL_RESTS: Span = Span::from_millis(400);

/// A lease's life, and some ticks.
const LEASES_REST: Span = Span(LAPSE.0 + LOCAL_RESTS.0);

/// The zero of virtual time on the calendar: 2026-01-01T00:00:00Z, in milliseconds.
pub(super) const WALL_START_MS: u64 = 1_767_225_600_000;

/// The time of a case, in nanoseconds since its start. All who hold it see it pass.
///
/// It starts at zero, so that windows which begin at round times of a clock begin at round
/// times of a case.
#[derive(Clone, Default)]
pub(super) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(super) fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn wall_ns(&self) -> u64 {
        (WALL_START_MS * 1_000_000).saturating_add(self.now_ns())
    }

    /// Lets time pass until then; never back.
    pub(super) fn pass_to(&self, then_ns: u64) {
        self.0.fetch_max(then_ns, Ordering::Relaxed);
    }

    /// The count itself, for those who read it in their own way.
    pub(super) fn nanos(&self) -> Arc<AtomicU64> {
        self.0.clone()
    }
}

/// The last tick up to `then_ns`, if the next is due at `due_ns`.
pub(super) const fn last_tick_ns(due_ns: u64, then_ns: u64) -> u64 {
    then_ns - then_ns.saturating_sub(due_ns) % TICK.0
}

/// When a filter that holds the store for away has grown its pauses between probes to
/// `breaker`: each is twice the one before, so all shorter ones together are less than that.
pub(super) const fn rests_after_outage(breaker: Span, rests_after: Span) -> Span {
    Span(breaker.0.saturating_mul(3).saturating_add(rests_after.0))
}
