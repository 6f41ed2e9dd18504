//! What the Redis store counts itself, read when the page is made.

use crate::service::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use tidegate_redis::{BATCH_SIZES, Backend, BackendKind, Stats};

/// The store that is read.
pub(super) struct Collected(pub(super) Arc<Store>);

/// A server or a sentinel: as many as there are, and named by who runs them, not by callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabel {
    kind: &'static str,
    address: String,
}

/// What is told of a server: name, meaning, kind, and where it stands.
type OfServer = (&'static str, &'static str, MetricType, fn(&Backend) -> f64);

const OF_SERVERS: &[OfServer] = &[
    ("redis_backend_slots", "Slots of a cluster, by server", GAUGE, |b| b.slots.into()),
    ("redis_backend_connects", "Connections made, by server", COUNTER, |b| b.connects as f64),
    ("redis_backend_losses", "Connections lost or given up, by server", COUNTER, |b| {
        b.losses as f64
    }),
    ("redis_backend_misses", "Batches without a reply in time, by server", COUNTER, |b| {
        b.misses as f64
    }),
    (
        "redis_breaker_open",
        "Whether a server is not asked for now, being known not to answer",
        GAUGE,
        |b| b.is_shunned.into(),
    ),
    (
        "redis_breaker_opens",
        "Times that a server was found not to answer, and asked no more for now",
        COUNTER,
        |b| b.shunned as f64,
    ),
    (
        "redis_backend_away_seconds",
        "For how long a server has given no answers by now; 0 if it does",
        GAUGE,
        |b| b.outage.map_or(0.0, |outage| outage.lasts.as_secs_f64()),
    ),
    (
        "redis_backend_downtime_seconds",
        "For how long a server has given no answers, in all",
        COUNTER,
        |b| b.downtime.as_secs_f64(),
    ),
    (
        "redis_backend_unanswered_units",
        "Units of budgets asked of a server in vain: decided by on_error, not counted",
        COUNTER,
        |b| b.unanswered_units as f64,
    ),
];

const COUNTER: MetricType = MetricType::Counter;
const GAUGE: MetricType = MetricType::Gauge;

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (Some(stats), Some(health)) = (self.0.redis_stats(), self.0.health()) else {
            return Ok(());
        };
        counters(&mut encoder, stats)?;
        batches(&mut encoder, stats)?;
        up(&mut encoder, &health.backends)?;
        let servers: Vec<_> =
            health.backends.iter().filter(|b| b.kind != BackendKind::Sentinel).collect();
        for (name, help, kind, value) in OF_SERVERS {
            each(&mut encoder, name, help, *kind, &servers, value)?;
        }
        Ok(())
    }
}

fn counters(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> fmt::Result {
    for (name, help, count) in [
        ("redis_asks", "Calls of the script sent to Redis", stats.asks()),
        ("redis_dials", "Attempts to connect to Redis", stats.dials()),
        ("redis_dials_failed", "Attempts to connect in vain", stats.dials_failed()),
        ("redis_retries", "Commands sent again that had not run", stats.retries()),
        ("redis_timeouts", "Batches without a reply in time", stats.timeouts()),
        ("redis_redirects", "Calls that a cluster sent on to another node", stats.redirects()),
        ("redis_fail_overs", "Times that another server took over", stats.fail_overs()),
        (
            "redis_fail_over_lost_asks",
            "Answered asks that fail-overs may have forgotten, at most",
            stats.lost_asks_max(),
        ),
        ("redis_resets", "Times that a server came back without its data", stats.resets()),
        (
            "redis_given_back",
            "Charges given back because another shard refused",
            stats.given_back(),
        ),
        ("redis_kept_charges", "Charges that could not be given back", stats.kept_charges()),
        (
            "redis_unanswered_units",
            "Units of budgets asked for in vain: decided by on_error, not counted",
            stats.unanswered_units(),
        ),
    ] {
        let counter = ConstCounter::new(count);
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }
    Ok(())
}

fn batches(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> fmt::Result {
    let mut batches = encoder.encode_descriptor(
        "redis_batch_asks",
        "Calls in one round trip to Redis",
        None,
        MetricType::Histogram,
    )?;
    let mut sizes: Vec<(f64, u64)> =
        BATCH_SIZES.iter().map(|bound| *bound as f64).zip(stats.batches()).collect();
    let count = sizes.iter().map(|(_, batches)| batches).sum();
    sizes.push((f64::INFINITY, 0));
    batches.encode_histogram::<[(&str, &str); 0]>(stats.asks() as f64, count, &sizes, None)
}

fn up(encoder: &mut DescriptorEncoder<'_>, backends: &[Backend]) -> fmt::Result {
    let all: Vec<_> = backends.iter().collect();
    let help = "Whether a server, or a sentinel, is connected to";
    each(encoder, "redis_backend_up", help, MetricType::Gauge, &all, |b| b.is_up.into())
}

/// One metric, with a value for each of these.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    backends: &[&Backend],
    value: impl Fn(&Backend) -> f64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for backend in backends {
        let label = BackendLabel { kind: backend.kind.name(), address: backend.address.clone() };
        let metric = metric.encode_family(&label)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value(backend)).encode(metric)?,
            _ => ConstGauge::new(value(backend)).encode(metric)?,
        }
    }
    Ok(())
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collected").field(&self.0.redis_stats()).finish()
    }
}
