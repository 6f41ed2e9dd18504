//! Decisions without the store: each limit as its policy says, and what is owed for it.

use super::held::Held;
use super::leases::LeasedState;
use super::refusals::Refusals;
use super::{Gate, Ground, share};
use crate::ask::{Item, SHARE_WHOLE_PPM};
use crate::plan::Applied;
use crate::policy::OnError;
use crate::time::Instant;
use alloc::vec::Vec;

impl Gate {
    /// Decides what is undecided of a request while its store, which went away then, is away.
    pub(super) fn decide_alone<G: Ground>(
        &mut self,
        ground: &mut G,
        held: &Held,
        since: Option<Instant>,
        refusals: &mut Refusals,
    ) {
        let leased = held.leased.iter().filter(|leased| leased.state == LeasedState::Waits);
        let global: Vec<_> = leased.map(|leased| &leased.applied).chain(&held.exact).collect();
        let mut taken = Vec::new();
        for applied in &global {
            self.count(applied.limit, |tally| tally.degraded += 1);
            match self.on_error(applied) {
                OnError::Open => {}
                OnError::Closed => refusals.close(applied),
                OnError::LocalShare => match self.share(ground, applied) {
                    Some(ours) => match self.local.take_of_empty(ground, &ours, since) {
                        Ok(ours) => taken.push(ours),
                        Err(refused) => self.refuse(applied, refused, refusals),
                    },
                    None => refusals.close(applied),
                },
            }
        }
        if refusals.denial.is_some() {
            return self.give_back_local(ground, &taken);
        }
        for applied in global {
            if self.on_error(applied) != OnError::LocalShare {
                continue;
            }
            let terms = self.leases.terms(applied).copied();
            self.debts.owe(&self.item(applied), terms, ground.now());
        }
    }

    pub(super) fn learn_share(&mut self, applied: &Applied, ppm: u32) {
        if ppm > 0
            && let Some(share) = self.shares_ppm.get_mut(usize::from(applied.limit.0))
        {
            *share = ppm;
        }
    }

    pub(super) fn item(&self, applied: &Applied) -> Item {
        let Applied { key, quota, cost, .. } = *applied;
        Item { key, limit: self.planner.tag(applied.limit), quota, cost, owed: 0 }
    }

    fn on_error(&self, applied: &Applied) -> OnError {
        self.limit(applied).map_or(OnError::Closed, |limit| limit.on_error)
    }

    /// This proxy's share of a limit: as the store last said, else one part of the fleet. `None`
    /// if there is none: a leased limit is never overdrawn, so less than one request is nothing.
    fn share<G: Ground>(&self, ground: &mut G, applied: &Applied) -> Option<Applied> {
        let or_else = SHARE_WHOLE_PPM / self.policy.proxies_max.max(1);
        let Some(budget) = self.budget(applied) else {
            let known = self.shares_ppm.get(usize::from(applied.limit.0)).copied();
            return Some(share::of(applied, known.filter(|ppm| *ppm > 0).unwrap_or(or_else)));
        };
        let known = Some(self.leases.till.standing(ground, &budget).1);
        let ppm = known.filter(|ppm| *ppm > 0).unwrap_or(or_else);
        share::is_any(applied, ppm).then(|| share::of(applied, ppm))
    }
}
