//! What is counted of revocations.

use super::{Accepted, NotAccepted, Reach};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tidegate_core::revoke::message::News;

/// Seconds. 1 ms is a quick disk, 1 s a shared log that is looked for.
const ACCEPT_SECONDS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Seconds. 250 ms is what is aimed at, all in all; beyond a minute something was put back.
const AGE_SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0];

/// Seconds. Ten million ids take some.
const MAKE_SECONDS: [f64; 8] = [0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0];

/// Counters, for as long as the process lives.
pub(super) struct Meters {
    accepts: Family<OutcomeLabel, Counter>,
    accept_seconds: Histogram,
    deltas: Counter,
    delta_seconds: Histogram,
    made_seconds: Histogram,
    not_made: Counter,
    polls: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// A poll that waits, for as long as this exists.
pub(super) struct Waits<'a>(&'a Gauge);

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            accepts: Family::default(),
            accept_seconds: Histogram::new(ACCEPT_SECONDS),
            deltas: Counter::default(),
            delta_seconds: Histogram::new(AGE_SECONDS),
            made_seconds: Histogram::new(MAKE_SECONDS),
            not_made: Counter::default(),
            polls: Gauge::default(),
        }
    }

    /// Puts all of them on a page.
    pub(super) fn register(&self, registry: &mut Registry) {
        // What has not happened yet is seen not to have.
        for outcome in ["accepted", "held", "away", "unknown", "full"] {
            drop(self.accepts.get_or_create(&OutcomeLabel { outcome }));
        }
        registry.register(
            "revocation_accepts",
            "Calls to revoke or lift, by how they ended",
            self.accepts.clone(),
        );
        registry.register(
            "revocation_accept_seconds",
            "From such a call to its being durable",
            self.accept_seconds.clone(),
        );
        registry.register(
            "revocation_deltas_sent",
            "Revocations sent to proxies, each to each",
            self.deltas.clone(),
        );
        registry.register(
            "revocation_delta_age_seconds",
            "How long before an answer the newest revocation in it was accepted",
            self.delta_seconds.clone(),
        );
        registry.register(
            "revocation_images_made_seconds",
            "How long it took to make images of all revocations",
            self.made_seconds.clone(),
        );
        registry.register(
            "revocation_images_failed",
            "Times that no images could be made",
            self.not_made.clone(),
        );
        registry.register(
            "revocation_polls_waiting",
            "Proxies' polls that wait for news",
            self.polls.clone(),
        );
    }

    pub(super) fn accepted(&self, end: &Result<Accepted, NotAccepted>, took: Duration) {
        let outcome = match end {
            Ok(Accepted { reach: Reach::Held, .. }) => "held",
            Ok(_) => "accepted",
            Err(not) => not.name(),
        };
        self.accepts.get_or_create(&OutcomeLabel { outcome }).inc();
        self.accept_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn told(&self, news: &News) {
        if let Some(age_ms) = news.deltas.iter().map(|delta| delta.age_ms).min() {
            self.deltas.inc_by(news.deltas.len() as u64);
            self.delta_seconds.observe(f64::from(age_ms) / 1_000.0);
        }
    }

    pub(super) fn made(&self, took: Duration) {
        self.made_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn not_made(&self) {
        self.not_made.inc();
    }

    pub(super) fn waits(&self) -> Waits<'_> {
        self.polls.inc();
        Waits(&self.polls)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
