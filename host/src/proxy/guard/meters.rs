//! What guards count, by the names under which filters count it: whoever watches the one watches
//! the other.

use crate::component::world::guard::{RevocationTally, Tallies};
use crate::proxy::shared::Shared;
use proxy_wasm_host::worker::Process;
use std::sync::Arc;

/// One lane's part.
pub(super) struct Meters {
    process: Arc<Process>,
    is_store_away: bool,
    /// Whether everything has been told once: what is zero is there from the start.
    is_known: bool,
    /// What gauges hold of this lane's knowledge of revocations.
    known: Option<Known>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    is_fresh: bool,
    image_bytes: i64,
}

impl Meters {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            process: Arc::clone(&shared.process),
            is_store_away: false,
            is_known: false,
            known: None,
        }
    }

    /// Adds what happened.
    pub(super) fn tell(&mut self, tallies: &Tallies) {
        for tally in &tallies.limits {
            for (outcome, count) in [
                ("allowed", tally.allowed),
                ("limited", tally.limited),
                ("shadowed", tally.shadowed),
                ("degraded", tally.degraded),
                ("waited", tally.waited),
            ] {
                self.count(&format!("limit.{}.{outcome}", tally.limit), count);
            }
        }
        for tally in &tallies.plugins {
            for (outcome, count) in [
                ("answered", tally.answered),
                ("defaulted", tally.defaulted),
                ("mismatched", tally.mismatched),
                ("nonsense", tally.nonsense),
            ] {
                self.count(&format!("plugin.{}.{outcome}", tally.plugin), count);
            }
        }
        self.tell_store(tallies.is_store_away);
        self.tell_revocation(tallies.revocation.as_ref());
        if !self.is_known {
            self.level("workers_store_away", 0);
            self.count("component.failures", 0);
        }
        self.is_known = true;
    }

    /// The instance is gone, and all that it knew.
    pub(super) fn failed(&mut self) {
        self.count("component.failures", 1);
        self.tell_store(false);
        self.tell_revocation(None);
    }

    fn tell_store(&mut self, is_away: bool) {
        if is_away != std::mem::replace(&mut self.is_store_away, is_away) {
            self.level("workers_store_away", if is_away { 1 } else { -1 });
        }
    }

    fn tell_revocation(&mut self, told: Option<&RevocationTally>) {
        if let Some(told) = told {
            for (outcome, count) in [
                ("clear", told.clear),
                ("revoked", told.revoked),
                ("unfit", told.unfit),
                ("asked_positive", told.asked_positive),
                ("asked_unsure", told.asked_unsure),
                ("degraded", told.degraded),
            ] {
                self.count(&format!("revocation.{outcome}"), count);
            }
            for lag in &told.lags {
                let name = "wasm_filter.tidegate.revocation.lag_ms";
                self.process.sample(name, lag.div_ceil(1_000_000));
            }
            self.raise("revocation.number", told.log_number);
        }
        let image_bytes = |told: &RevocationTally| i64::try_from(told.image_bytes).unwrap_or(0);
        let known =
            told.map(|told| Known { is_fresh: told.is_fresh, image_bytes: image_bytes(told) });
        let before = std::mem::replace(&mut self.known, known);
        if known != before {
            let is = |known: Option<Known>, fresh: bool| {
                i64::from(known.is_some_and(|known| known.is_fresh == fresh))
            };
            self.level("revocation.workers_sure", is(known, true) - is(before, true));
            self.level("revocation.workers_unsure", is(known, false) - is(before, false));
            let bytes = |known: Option<Known>| known.map_or(0, |known| known.image_bytes);
            self.level("revocation.image_bytes", bytes(known) - bytes(before));
        }
    }

    fn count(&self, name: &str, by: u64) {
        if by > 0 || !self.is_known {
            self.process.count(&format!("wasm_filter.tidegate.{name}"), by);
        }
    }

    fn level(&self, name: &str, by: i64) {
        if by != 0 || !self.is_known {
            self.process.level(&format!("wasm_filter.tidegate.{name}"), by);
        }
    }

    /// Sets a gauge of the process that only goes up.
    fn raise(&self, name: &str, to: u64) {
        let full = format!("wasm_filter.tidegate.{name}");
        let now = self.process.metric(&full).unwrap_or(0);
        let to = i64::try_from(to).unwrap_or(i64::MAX);
        self.level(name, (to - now).max(0));
    }
}

impl Drop for Meters {
    /// A guard that is replaced leaves no trace in gauges.
    fn drop(&mut self) {
        self.tell_store(false);
        self.tell_revocation(None);
    }
}
