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
        let slots = |b: &Backend| u64::from(b.slots);
        let help = "Slots of a cluster, by server";
        each(&mut encoder, "redis_backend_slots", help, MetricType::Gauge, &servers, slots)?;
        let counter = MetricType::Counter;
        let help = "Connections made, by server";
        each(&mut encoder, "redis_backend_connects", help, counter, &servers, |b| b.connects)?;
        let help = "Connections lost or given up, by server";
        each(&mut encoder, "redis_backend_losses", help, counter, &servers, |b| b.losses)?;
        let help = "Whether a server is not asked for now, being known not to answer";
        let gauge = MetricType::Gauge;
        each(&mut encoder, "redis_breaker_open", help, gauge, &servers, |b| b.is_shunned.into())?;
        let help = "Times that a server was found not to answer, and asked no more for now";
        each(&mut encoder, "redis_breaker_opens", help, counter, &servers, |b| b.shunned)?;
        let help = "Batches without a reply in time, by server";
        each(&mut encoder, "redis_backend_misses", help, counter, &servers, |b| b.misses)
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
    each(encoder, "redis_backend_up", help, MetricType::Gauge, &all, |b| u64::from(b.is_up))
}

/// One metric, with a value for each of these.
fn each(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    backends: &[&Backend],
    value: impl Fn(&Backend) -> u64,
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
