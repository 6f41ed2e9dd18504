//! What is counted, as OpenMetrics text for Prometheus.
//!
//! Every label has a fixed few values: nothing that a caller sends becomes one.

mod leases;
mod redis;
mod revocations;
mod shared_log;

use super::Site;
use super::door::Use;
use super::outcome::Outcome;
use super::revoking::Kept;
use super::routes::Reply;
use super::store::Store;
use crate::plugins::Plugins;
use crate::revocations::SharedLog;
use crate::revocations_api::Counts;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidegate_core::lease::{Ask, Grant};
use tidegate_redis::Error;

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
    charged_back: Counter,
    leases: leases::Leases,
    pub(super) revocations_api: Counts,
    connections: Family<DoorLabel, Gauge>,
    in_flight: Gauge,
    store_up: Family<StoreLabel, Gauge>,
    fleet: Fleet,
}

/// What this host has heard of the others.
#[derive(Default)]
struct Fleet {
    hosts: Gauge,
    proxies: Gauge<f64, AtomicU64>,
    age: Gauge<f64, AtomicU64>,
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

/// A connection that is counted for as long as this exists.
pub(super) struct Counted(Gauge);

impl Metrics {
    pub(super) fn new(
        store: &Arc<Store>,
        kept: &Kept,
        shared_log: Option<Arc<SharedLog>>,
        plugins: &Plugins,
    ) -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let metrics = Self {
            asks: Family::default(),
            items: Family::default(),
            seconds: Histogram::new(SECONDS),
            store_errors: Family::default(),
            charged_back: Counter::default(),
            leases: leases::Leases::default(),
            revocations_api: Counts::default(),
            connections: Family::default(),
            in_flight: Gauge::default(),
            store_up: Family::default(),
            fleet: Fleet::default(),
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
            "Asks that the store did not answer, or not all of, by reason",
            metrics.store_errors.clone(),
        );
        registry.register(
            "charged_back_units",
            "Units that proxies let through on their own shares, charged afterwards",
            metrics.charged_back.clone(),
        );
        metrics.leases.register(&mut registry, store);
        metrics.revocations_api.register(&mut registry);
        registry.register("connections", "Connections, by door", metrics.connections.clone());
        registry.register("asks_in_flight", "Asks in flight", metrics.in_flight.clone());
        registry.register("store_up", "Whether the store answers", metrics.store_up.clone());
        plugins.register(&mut registry);
        if let Some(revocations) = kept.open() {
            revocations.register(&mut registry);
            registry.register_collector(Box::new(revocations::Collected(revocations.clone())));
        }
        if let Some(log) = shared_log {
            registry.register_collector(Box::new(shared_log::Collected(log)));
        }
        if store.redis_stats().is_some() {
            metrics.fleet.register(&mut registry);
            registry.register_collector(Box::new(redis::Collected(store.clone())));
        }
        Self { registry, ..metrics }
    }

    /// Counts a connection.
    pub(super) fn connection(&self, used_for: Use) -> Counted {
        let gauge = self.connections.get_or_create(&DoorLabel { door: used_for.name() }).clone();
        gauge.inc();
        Counted(gauge)
    }

    /// Counts what an answered ask told of debts, in units.
    pub(super) fn charged_back(&self, units: u64) {
        self.charged_back.inc_by(units);
    }

    /// Counts an ask that has ended.
    pub(super) fn ask(&self, outcome: &Outcome, took: Duration) {
        self.asks.get_or_create(&OutcomeLabel { outcome: outcome.name() }).inc();
        if !matches!(outcome, Outcome::News(_) | Outcome::Unready) {
            // Those wait, and how long says nothing.
            self.seconds.observe(took.as_secs_f64());
        }
        if let Outcome::Answered(reply) = outcome {
            for answer in &reply.answers {
                let outcome = if answer.outcome.is_ok() { "admitted" } else { "refused" };
                self.items.get_or_create(&OutcomeLabel { outcome }).inc();
            }
        }
        if let Some(error) = outcome.store_error() {
            self.store_errors.get_or_create(&KindLabel { kind: error.kind() }).inc();
        }
    }

    /// Counts what became of an ask for leases, want by want.
    pub(super) fn leases(&self, ask: &Ask, grants: &[Result<Grant, Error>]) {
        self.leases.count(ask, grants);
        let answered = ask.wants.iter().zip(grants).filter(|(_, grant)| grant.is_ok());
        self.charged_back(answered.map(|(want, _)| u64::from(want.owed)).sum());
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
        let shares = site.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = shares.news(site.clock.now()) {
            self.fleet.hosts.set(news.hosts.into());
            self.fleet.proxies.set(news.proxies);
            self.fleet.age.set(news.age.as_secs_f64());
        }
        drop(shares);
        prometheus_client::encoding::text::encode(page, &self.registry)
    }
}

impl Fleet {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "fleet_hosts",
            "Hosts that tell each other of demand, this one too; 0 before the first census",
            self.hosts.clone(),
        );
        registry.register(
            "fleet_proxies",
            "Proxies of all of these hosts, among which shares of limits are divided",
            self.proxies.clone(),
        );
        registry.register(
            "fleet_census_age_seconds",
            "How old the census is by which shares of limits are divided",
            self.age.clone(),
        );
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
