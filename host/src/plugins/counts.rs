//! What is counted of plugins. Every label is an operator's name or one of a fixed few.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// Seconds: from what a small plugin takes to the longest deadline.
const SECONDS: [f64; 12] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0,
];

/// Of all plugins.
pub(super) struct Counts {
    calls: Family<Name, Counter>,
    failures: Family<Reason, Counter>,
    seconds: Family<Name, Histogram, fn() -> Histogram>,
    instances: Family<Name, Gauge>,
    swaps: Family<Outcome, Counter>,
    /// Asks for plugins that there are not.
    pub(super) unknown: Counter<u64, AtomicU64>,
}

/// Of one.
#[derive(Clone)]
pub(super) struct OfPlugin {
    name: String,
    failures: Family<Reason, Counter>,
    swaps: Family<Outcome, Counter>,
    pub(super) calls: Counter,
    pub(super) seconds: Histogram,
    pub(super) instances: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    plugin: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    plugin: String,
    outcome: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            failures: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            instances: Family::default(),
            swaps: Family::default(),
            unknown: Counter::default(),
        }
    }
}

impl Counts {
    pub(super) fn of(&self, name: &str) -> OfPlugin {
        let plugin = Name { plugin: name.to_owned() };
        OfPlugin {
            name: name.to_owned(),
            failures: self.failures.clone(),
            swaps: self.swaps.clone(),
            calls: self.calls.get_or_create(&plugin).clone(),
            seconds: self.seconds.get_or_create(&plugin).clone(),
            instances: self.instances.get_or_create(&plugin).clone(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("plugin_calls", "Calls that a plugin answered", self.calls.clone());
        registry.register(
            "plugin_failures",
            "Asks without an answer of the plugin, by reason: the policy's defaults held",
            self.failures.clone(),
        );
        registry.register(
            "plugin_call_seconds",
            "What a call took in its instance, however it ended",
            self.seconds.clone(),
        );
        registry.register("plugin_instances", "Instances that are ready", self.instances.clone());
        registry.register(
            "plugin_swaps",
            "Changes of a plugin's file, by what became of them",
            self.swaps.clone(),
        );
        registry.register(
            "plugin_unknown",
            "Asks for plugins that are not set here",
            self.unknown.clone(),
        );
    }
}

impl OfPlugin {
    /// The defaults hold, for this reason: one of a fixed few.
    pub(super) fn failed(&self, reason: &'static str) {
        let label = Reason { plugin: self.name.clone(), reason };
        self.failures.get_or_create(&label).inc();
    }

    /// A changed file was taken, or refused.
    pub(super) fn swapped(&self, is_taken: bool) {
        let outcome = if is_taken { "taken" } else { "refused" };
        self.swaps.get_or_create(&Outcome { plugin: self.name.clone(), outcome }).inc();
    }
}
