//! What happened to each limit and to what requests showed, as the proxy's counters.
//!
//! Counted in the gate and told on ticks, so that no request pays for it. Their number is
//! bounded by the policy: five for each limit, four for each plugin and ten for
//! revocations, none of a client's making.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;
use tidegate_core::gate::{Gate, PluginTally, RevocationState};
use tidegate_core::policy::Policy;

/// The metrics of one policy.
pub(crate) struct Metrics {
    limits: Vec<LimitMetrics>,
    workers_store_away: Option<u32>,
    is_store_away: bool,
    revocation: Option<RevocationMetrics>,
    /// By plugin, in the order of [`OF_PLUGIN`].
    plugins: Vec<[Option<u32>; OF_PLUGIN.len()]>,
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
    /// How many workers decide by what they know, and how many ask about each request, because
    /// images are missing or the news are old.
    workers_sure: Option<u32>,
    workers_unsure: Option<u32>,
    image_bytes: Option<u32>,
    /// The entry of the log up to which this process knows it.
    number: Option<u32>,
    /// Nothing before the first tick: a VM that has none serves no requests.
    told: Option<RevocationState>,
}

const OF_PLUGIN: [&str; 4] = ["answered", "defaulted", "mismatched", "nonsense"];

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
        let of_plugin = |name: &str| {
            OF_PLUGIN.map(|outcome| {
                let name = format!("wasm_filter.tidegate.plugin.{name}.{outcome}");
                hostcalls::define_metric(MetricType::Counter, &name).ok()
            })
        };
        let away = "wasm_filter.tidegate.workers_store_away";
        Self {
            limits: policy.limits.iter().map(|told| limit(&told.name)).collect(),
            workers_store_away: hostcalls::define_metric(MetricType::Gauge, away).ok(),
            is_store_away: false,
            revocation: policy.revocation.as_ref().map(|_| RevocationMetrics::define()),
            plugins: policy.plugins.iter().map(|plugin| of_plugin(&plugin.name)).collect(),
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
        for (metrics, (_, tally)) in self.plugins.iter().zip(gate.take_plugin_tallies()) {
            let PluginTally { answered, defaulted, mismatched, nonsense } = tally;
            for (metric, count) in metrics.iter().zip([answered, defaulted, mismatched, nonsense]) {
                add(*metric, i64::try_from(count).unwrap_or(i64::MAX));
            }
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
        Self {
            counters: NAMES.map(|name| define(MetricType::Counter, name)),
            lag_ms: define(MetricType::Histogram, "lag_ms"),
            workers_sure: define(MetricType::Gauge, "workers_sure"),
            workers_unsure: define(MetricType::Gauge, "workers_unsure"),
            image_bytes: define(MetricType::Gauge, "image_bytes"),
            number: define(MetricType::Gauge, "number"),
            told: None,
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
        self.tell_state(gate.revocation_state());
    }

    fn tell_state(&mut self, state: Option<RevocationState>) {
        let told = core::mem::replace(&mut self.told, state);
        if state == told {
            return;
        }
        let counts = |of: Option<RevocationState>| {
            let is_fresh = of.map(|state| state.is_fresh);
            let bytes = of.map_or(0, |state| state.image_bytes as i64);
            [i64::from(is_fresh == Some(true)), i64::from(is_fresh == Some(false)), bytes]
        };
        let gauges = [self.workers_sure, self.workers_unsure, self.image_bytes];
        for (gauge, (now, then)) in
            gauges.into_iter().zip(counts(state).into_iter().zip(counts(told)))
        {
            add(gauge, now - then);
        }
        if let (Some(metric), Some(state)) = (self.number, state) {
            let _ = hostcalls::record_metric(metric, state.number);
        }
    }
}

impl Drop for RevocationMetrics {
    /// A policy that is replaced leaves no trace in gauges.
    fn drop(&mut self) {
        self.tell_state(None);
    }
}

fn add(metric: Option<u32>, amount: i64) {
    if let Some(metric) = metric.filter(|_| amount != 0) {
        let _ = hostcalls::increment_metric(metric, amount);
    }
}
