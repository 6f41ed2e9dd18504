//! What is counted, as OpenMetrics text for Prometheus.
//!
//! Every label has a fixed few values: nothing that a caller sends becomes one.

use super::Site;
use super::asks::Outcome;
use super::door::Use;
use super::routes::Reply;
use super::store::Store;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidegate_redis::{BATCH_SIZES, Backend, BackendKind};

/// Seconds. 50 µs is a good answer from memory, 1 s the longest wait for a body.
const SECONDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5,
    1.0,
];

pub(super) struct Metrics {
    registry: Registry,
    asks: Family<OutcomeLabel, Counter>,
    items: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    store_errors: Family<KindLabel, Counter>,
    connections: Family<DoorLabel, Gauge>,
    in_flight: Gauge,
    store_up: Family<StoreLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabel {
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabel {
    store: &'static str,
}

/// A server or a sentinel: as many as there are, and named by who runs them, not by callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    kind: &'static str,
    address: String,
}

/// A connection that is counted for as long as this exists.
pub(super) struct Counted(Gauge);

impl Metrics {
    pub(super) fn new(store: &Arc<Store>) -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let metrics = Self {
            asks: Family::default(),
            items: Family::default(),
            seconds: Histogram::new(SECONDS),
            store_errors: Family::default(),
            connections: Family::default(),
            in_flight: Gauge::default(),
            store_up: Family::default(),
            registry: Registry::default(),
        };
        registry.register("asks", "Asks, by how they ended", metrics.asks.clone());
        registry.register("items", "Budgets asked for, by answer", metrics.items.clone());
        registry.register(
            "ask_seconds",
            "From an ask's head to its reply",
            metrics.seconds.clone(),
        );
        registry.register(
            "store_errors",
            "Asks that the store did not answer, by reason",
            metrics.store_errors.clone(),
        );
        registry.register("connections", "Connections, by door", metrics.connections.clone());
        registry.register("asks_in_flight", "Asks in flight", metrics.in_flight.clone());
        registry.register("store_up", "Whether the store answers", metrics.store_up.clone());
        if store.redis_stats().is_some() {
            registry.register_collector(Box::new(RedisStats(store.clone())));
        }
        Self { registry, ..metrics }
    }

    /// Counts a connection.
    pub(super) fn connection(&self, used_for: Use) -> Counted {
        let gauge = self.connections.get_or_create(&DoorLabel { door: used_for.name() }).clone();
        gauge.inc();
        Counted(gauge)
    }

    /// Counts an ask that has ended.
    pub(super) fn ask(&self, outcome: &Outcome, took: Duration) {
        self.asks.get_or_create(&OutcomeLabel { outcome: outcome.name() }).inc();
        self.seconds.observe(took.as_secs_f64());
        match outcome {
            Outcome::Answered(reply) => {
                for answer in &reply.answers {
                    let outcome = if answer.outcome.is_ok() { "admitted" } else { "refused" };
                    self.items.get_or_create(&OutcomeLabel { outcome }).inc();
                }
            }
            Outcome::NoStore(error) | Outcome::FailedOpen(_, error) => {
                self.store_errors.get_or_create(&KindLabel { kind: error.kind() }).inc();
            }
            _ => {}
        }
    }

    /// The page for Prometheus.
    pub(super) fn page(&self, site: &Site) -> Reply {
        let mut page = String::new();
        let written = self.write(site, &mut page);
        let mut reply = Response::new(Full::from(page));
        if written.is_err() {
            *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        reply
    }

    /// What the page says.
    pub(super) fn write(&self, site: &Site, page: &mut String) -> fmt::Result {
        self.in_flight.set(i64::try_from(site.in_flight()).unwrap_or(i64::MAX));
        let up = self.store_up.get_or_create(&StoreLabel { store: site.store.name() }).clone();
        up.set(i64::from(site.store.trouble().is_none()));
        prometheus_client::encoding::text::encode(page, &self.registry)
    }
}

/// What the Redis store counts itself, read when the page is made.
struct RedisStats(Arc<Store>);

impl Collector for RedisStats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stats) = self.0.redis_stats() else { return Ok(()) };
        for (name, help, count) in [
            ("redis_asks", "Asks sent to Redis", stats.asks()),
            ("redis_dials", "Attempts to connect to Redis", stats.dials()),
            ("redis_dials_failed", "Attempts to connect in vain", stats.dials_failed()),
            ("redis_retries", "Commands sent again that had not run", stats.retries()),
            ("redis_timeouts", "Batches without a reply in time", stats.timeouts()),
            ("redis_fail_overs", "Times that another server took over", stats.fail_overs()),
            (
                "redis_fail_over_lost_asks",
                "Answered asks that fail-overs may have forgotten, at most",
                stats.lost_asks_max(),
            ),
            ("redis_resets", "Times that a server came back without its data", stats.resets()),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let Some(health) = self.0.health() else { return Ok(()) };
        let label = |backend: &Backend| BackendLabel {
            kind: backend.kind.name(),
            address: backend.address.clone(),
        };
        let mut up = encoder.encode_descriptor(
            "redis_backend_up",
            "Whether a server, or a sentinel, is connected to",
            None,
            MetricType::Gauge,
        )?;
        for backend in &health.backends {
            let gauge = ConstGauge::new(i64::from(backend.is_up));
            gauge.encode(up.encode_family(&label(backend))?)?;
        }
        let counts: [(&str, &str, fn(&Backend) -> u64); 3] = [
            ("redis_backend_connects", "Connections made, by server", |b| b.connects),
            ("redis_backend_losses", "Connections lost or given up, by server", |b| b.losses),
            ("redis_backend_misses", "Batches without a reply, by server", |b| b.misses),
        ];
        for (name, help, count) in counts {
            let mut each = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            let servers = health.backends.iter().filter(|b| b.kind != BackendKind::Sentinel);
            for backend in servers {
                let counter = ConstCounter::new(count(backend));
                counter.encode(each.encode_family(&label(backend))?)?;
            }
        }
        let mut batches = encoder.encode_descriptor(
            "redis_batch_asks",
            "Asks in one round trip to Redis",
            None,
            MetricType::Histogram,
        )?;
        let mut sizes: Vec<(f64, u64)> =
            BATCH_SIZES.iter().map(|bound| *bound as f64).zip(stats.batches()).collect();
        let count = sizes.iter().map(|(_, batches)| batches).sum();
        sizes.push((f64::INFINITY, 0));
        batches.encode_histogram::<[(&str, &str); 0]>(stats.asks() as f64, count, &sizes, None)
    }
}

impl fmt::Debug for RedisStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisStats").field(&self.0.redis_stats()).finish()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
