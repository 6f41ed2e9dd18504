//! What happened, kept until the host takes it: also what a replaced policy had not told yet.

use crate::bindings::exports::tidegate::edge::guard::{
    LimitTally, PluginTally, RevocationTally, Tallies,
};
use tidegate_core::gate::Gate;

/// What replaced policies had still to tell. Bounded by the names of their limits and plugins, of
/// which there are new ones only while the host configures without ever taking tallies.
#[derive(Default)]
pub(crate) struct Leftovers {
    limits: Vec<LimitTally>,
    plugins: Vec<PluginTally>,
    revocation: Option<RevocationTally>,
}

impl Leftovers {
    /// Keeps what a gate whose policy was replaced has to tell.
    pub(crate) fn keep(&mut self, gate: &mut Gate) {
        for told in limits(gate).into_iter().filter(has_any) {
            add(&mut self.limits, told);
        }
        plugins(gate).into_iter().for_each(|told| add_plugin(&mut self.plugins, told));
        if let Some(told) = revocation(gate) {
            self.revocation = Some(sum(told, self.revocation.take()));
        }
    }

    /// What the gate in force has to tell, and all that was kept.
    pub(crate) fn take(&mut self, gate: &mut Gate) -> Tallies {
        let mut told = limits(gate);
        self.limits.drain(..).for_each(|kept| add(&mut told, kept));
        let mut plugins = plugins(gate);
        self.plugins.drain(..).for_each(|kept| add_plugin(&mut plugins, kept));
        let kept = self.revocation.take();
        let revocation = revocation(gate).map(|told| sum(told, kept));
        Tallies { limits: told, plugins, revocation, is_store_away: gate.is_store_away() }
    }
}

fn limits(gate: &mut Gate) -> Vec<LimitTally> {
    let told = gate.take_tallies().map(|(limit, tally)| LimitTally {
        limit: limit.name.to_string(),
        allowed: tally.allowed,
        limited: tally.limited,
        shadowed: tally.shadowed,
        degraded: tally.degraded,
        waited: tally.waited,
    });
    told.collect()
}

fn has_any(tally: &LimitTally) -> bool {
    let LimitTally { allowed, limited, shadowed, degraded, waited, .. } = tally;
    [allowed, limited, shadowed, degraded, waited].into_iter().any(|count| *count > 0)
}

fn add(to: &mut Vec<LimitTally>, more: LimitTally) {
    let Some(tally) = to.iter_mut().find(|tally| tally.limit == more.limit) else {
        return to.push(more);
    };
    tally.allowed += more.allowed;
    tally.limited += more.limited;
    tally.shadowed += more.shadowed;
    tally.degraded += more.degraded;
    tally.waited += more.waited;
}

fn plugins(gate: &mut Gate) -> Vec<PluginTally> {
    let told = gate.take_plugin_tallies().map(|(plugin, tally)| PluginTally {
        plugin: plugin.name.to_string(),
        answered: tally.answered,
        defaulted: tally.defaulted,
        mismatched: tally.mismatched,
        nonsense: tally.nonsense,
    });
    told.collect()
}

fn add_plugin(to: &mut Vec<PluginTally>, more: PluginTally) {
    let Some(tally) = to.iter_mut().find(|tally| tally.plugin == more.plugin) else {
        return to.push(more);
    };
    tally.answered += more.answered;
    tally.defaulted += more.defaulted;
    tally.mismatched += more.mismatched;
    tally.nonsense += more.nonsense;
}

fn revocation(gate: &mut Gate) -> Option<RevocationTally> {
    let tally = gate.take_revocation_tally()?;
    let lags = gate.take_revocation_lags().into_iter().map(|lag| lag.0).collect();
    let state = gate.revocation_state().unwrap_or_default();
    Some(RevocationTally {
        clear: tally.clear,
        revoked: tally.revoked,
        unfit: tally.unfit,
        asked_positive: tally.asked_positive,
        asked_unsure: tally.asked_unsure,
        degraded: tally.degraded,
        lags,
        is_fresh: state.is_fresh,
        log_number: state.number,
        image_bytes: state.image_bytes as u64,
    })
}

/// What is known, by the first; what happened, by both.
fn sum(mut told: RevocationTally, kept: Option<RevocationTally>) -> RevocationTally {
    if let Some(kept) = kept {
        told.clear += kept.clear;
        told.revoked += kept.revoked;
        told.unfit += kept.unfit;
        told.asked_positive += kept.asked_positive;
        told.asked_unsure += kept.asked_unsure;
        told.degraded += kept.degraded;
        told.lags.extend(kept.lags);
    }
    told
}
