//! What happened to each limit and to what requests showed, as the proxy's counters.
//!
//! Counted in the gate and told on ticks, so that no request pays for it. Their number is
//! bounded by the policy: five for each limit and ten for revocations, none of a client's making.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use tidegate_core::gate::{Gate, RevocationState};
use tidegate_core::policy::Policy;

/// The metrics of one policy.
pub(crate) struct Metrics {
    limits: Vec<LimitMetrics>,
    workers_store_away: Option<u32>,
    is_store_away: bool,
    revocation: Option<RevocationMetrics>,
}

struct LimitMetrics {
    allowed: Option<u32>,
    limited: Option<u32>,
    shadowed: Option<u32>,
    degraded: Option<u32>,
    waited: Option<u32>,
}

struct RevocationMetrics {
    /// In the order of their [`NAMES`].
    counters: [Option<u32>; NAMES.len()],
    lag_ms: Option<u32>,
    /// How many workers ask about each request, because images are missing or the news are old.
    workers_unsure: Option<u32>,
    image_bytes: Option<u32>,
    /// The entry of the log up to which this process knows it.
    number: Option<u32>,
    told: RevocationState,
}

const NAMES: [&str; 6] =
    ["clear", "revoked", "unfit", "asked_positive", "asked_unsure", "degraded"];

impl Metrics {
    /// Defines them. Those of the same name are the same, also under an earlier policy.
    pub(crate) fn define(policy: &Policy) -> Self {
        let limit = |name: &str| {
            let counter = |outcome| {
                let name = format!("wasm_filter.tidegate.limit.{name}.{outcome}");
                hostcalls::define_metric(MetricType::Counter, &name).ok()
            };
            LimitMetrics {
                allowed: counter("allowed"),
                limited: counter("limited"),
                shadowed: counter("shadowed"),
                degraded: counter("degraded"),
                waited: counter("waited"),
            }
        };
        let away = "wasm_filter.tidegate.workers_store_away";
        Self {
            limits: policy.limits.iter().map(|told| limit(&told.name)).collect(),
            workers_store_away: hostcalls::define_metric(MetricType::Gauge, away).ok(),
            is_store_away: false,
            revocation: policy.revocation.as_ref().map(|_| RevocationMetrics::define()),
        }
    }

    /// Tells what happened since the last time.
    pub(crate) fn tell(&mut self, gate: &mut Gate) {
        let is_away = gate.is_store_away();
        if is_away != self.is_store_away {
            self.is_store_away = is_away;
            add(self.workers_store_away, if is_away { 1 } else { -1 });
        }
        if let Some(revocation) = &mut self.revocation {
            revocation.tell(gate);
        }
        for (metrics, (_, tally)) in self.limits.iter().zip(gate.take_tallies()) {
            for (metric, count) in [
                (metrics.allowed, tally.allowed),
                (metrics.limited, tally.limited),
                (metrics.shadowed, tally.shadowed),
                (metrics.degraded, tally.degraded),
                (metrics.waited, tally.waited),
            ] {
                if count > 0 {
                    add(metric, i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
        }
    }
}

impl RevocationMetrics {
    fn define() -> Self {
        let define = |kind, name: &str| {
            let name = format!("wasm_filter.tidegate.revocation.{name}");
            hostcalls::define_metric(kind, &name).ok()
        };
        let workers_unsure = define(MetricType::Gauge, "workers_unsure");
        add(workers_unsure, 1);
        Self {
            counters: NAMES.map(|name| define(MetricType::Counter, name)),
            lag_ms: define(MetricType::Histogram, "lag_ms"),
            workers_unsure,
            image_bytes: define(MetricType::Gauge, "image_bytes"),
            number: define(MetricType::Gauge, "number"),
            told: RevocationState::default(),
        }
    }

    fn tell(&mut self, gate: &mut Gate) {
        let Some(tally) = gate.take_revocation_tally() else { return };
        let counts = [
            tally.clear,
            tally.revoked,
            tally.unfit,
            tally.asked_positive,
            tally.asked_unsure,
            tally.degraded,
        ];
        for (metric, count) in self.counters.iter().zip(counts).filter(|(_, count)| *count > 0) {
            add(*metric, i64::try_from(count).unwrap_or(i64::MAX));
        }
        for lag in gate.take_revocation_lags() {
            if let Some(metric) = self.lag_ms {
                let _ = hostcalls::record_metric(metric, lag.millis_ceil());
            }
        }
        let Some(state) = gate.revocation_state() else { return };
        self.tell_state(state);
    }

    fn tell_state(&mut self, state: RevocationState) {
        let told = core::mem::replace(&mut self.told, state);
        if state.is_fresh != told.is_fresh {
            add(self.workers_unsure, if state.is_fresh { -1 } else { 1 });
        }
        if state.image_bytes != told.image_bytes {
            add(self.image_bytes, state.image_bytes as i64 - told.image_bytes as i64);
        }
        if let Some(metric) = self.number.filter(|_| state.number != told.number) {
            let _ = hostcalls::record_metric(metric, state.number);
        }
    }
}

impl Drop for RevocationMetrics {
    /// A policy that is replaced leaves no trace in gauges.
    fn drop(&mut self) {
        self.tell_state(RevocationState { is_fresh: true, image_bytes: 0, ..self.told });
    }
}

fn add(metric: Option<u32>, amount: i64) {
    if let Some(metric) = metric {
        let _ = hostcalls::increment_metric(metric, amount);
    }
}
