//! What happened to each limit, as the proxy's counters.
//!
//! Counted in the gate and told on ticks, so that no request pays for it. Their number is
//! bounded by the policy: five for each limit, none of a client's making.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use tidegate_core::gate::Gate;
use tidegate_core::policy::Policy;

/// The metrics of one policy.
pub(crate) struct Metrics {
    limits: Vec<LimitMetrics>,
    workers_store_away: Option<u32>,
    is_store_away: bool,
}

struct LimitMetrics {
    allowed: Option<u32>,
    limited: Option<u32>,
    shadowed: Option<u32>,
    degraded: Option<u32>,
    waited: Option<u32>,
}

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
        }
    }

    /// Tells what happened since the last time.
    pub(crate) fn tell(&mut self, gate: &mut Gate) {
        let is_away = gate.is_store_away();
        if is_away != self.is_store_away {
            self.is_store_away = is_away;
            add(self.workers_store_away, if is_away { 1 } else { -1 });
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

fn add(metric: Option<u32>, amount: i64) {
    if let Some(metric) = metric {
        let _ = hostcalls::increment_metric(metric, amount);
    }
}
