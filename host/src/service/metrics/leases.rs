//! What is counted of leases.

use super::OutcomeLabel;
use crate::service::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use tidegate_core::lease::{Ask, Grant, Want};
use tidegate_redis::Error;

/// What holders wanted, and what became of it.
#[derive(Default)]
pub(super) struct Leases {
    wants: Family<OutcomeLabel, Counter>,
    units: Family<WhatLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

/// Counted where asks are told apart.
struct Unsettled(Arc<Store>);

impl Leases {
    pub(super) fn register(&self, registry: &mut Registry, store: &Arc<Store>) {
        registry.register(
            "lease_wants",
            "Budgets that leases were asked of, by answer; told wanted nothing",
            self.wants.clone(),
        );
        registry.register(
            "lease_units",
            "Units of leases: granted; and told by holders, as spent or as returned unspent",
            self.units.clone(),
        );
        registry.register_collector(Box::new(Unsettled(store.clone())));
        // There from the start, so that the first of a kind is an increase.
        for outcome in ["granted", "told", "refused", "away"] {
            drop(self.wants.get_or_create(&OutcomeLabel { outcome }));
        }
        for what in ["granted", "spent", "returned"] {
            drop(self.units.get_or_create(&WhatLabel { what }));
        }
    }

    /// Counts an ask, each want of which has come to one of these.
    pub(super) fn count(&self, ask: &Ask, grants: &[Result<Grant, Error>]) {
        let [mut granted, mut spent, mut returned] = [0; 3];
        for (want, grant) in ask.wants.iter().zip(grants) {
            let outcome = outcome(want, grant);
            self.wants.get_or_create(&OutcomeLabel { outcome }).inc();
            if let Ok(grant) = grant {
                granted += u64::from(grant.units);
                spent += want.settled.iter().map(|it| u64::from(it.spent)).sum::<u64>();
                returned += want.settled.iter().map(|it| u64::from(it.returned)).sum::<u64>();
            }
        }
        for (what, units) in [("granted", granted), ("spent", spent), ("returned", returned)] {
            self.units.get_or_create(&WhatLabel { what }).inc_by(units);
        }
    }
}

const fn outcome(want: &Want, grant: &Result<Grant, Error>) -> &'static str {
    match grant {
        Err(_) => "away",
        Ok(grant) if grant.units > 0 => "granted",
        Ok(_) if want.units == 0 => "told",
        Ok(_) => "refused",
    }
}

impl Collector for Unsettled {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Asks of holders new to this host, whose settlements are not believed";
        let counter = ConstCounter::new(self.0.unsettled_leases());
        let descriptor =
            encoder.encode_descriptor("lease_asks_unsettled", help, None, MetricType::Counter)?;
        counter.encode(descriptor)
    }
}

impl fmt::Debug for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unsettled").field(&self.0.unsettled_leases()).finish()
    }
}
