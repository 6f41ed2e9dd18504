//! The guards of a plan, on one lane.

use super::party::GuardPlan;
use super::{Calls, Guard, Shared};
use std::rc::Rc;
use std::sync::Arc;

/// Those of a plan, each with what it is to do once the plan is taken.
#[derive(Default)]
pub(in crate::proxy) struct Guards(Vec<Prepared>);

struct Prepared {
    plan: Arc<GuardPlan>,
    guard: Rc<Guard>,
    /// Whether it is still at work by its last plan.
    is_behind: bool,
}

impl Guards {
    /// Makes guards for the next plans. One that is at work here goes on, if its component is the
    /// same; that the component takes the new policy is tried beside it.
    ///
    /// # Errors
    ///
    /// If a component fails at its start, or refuses its policy; nothing has changed.
    pub(in crate::proxy) fn prepare<'a>(
        &self,
        wanted: impl Iterator<Item = &'a Arc<GuardPlan>>,
        shared: &Arc<Shared>,
        calls: &Rc<Calls>,
    ) -> Result<Self, String> {
        let mut next = Self::default();
        for plan in wanted {
            if next.of(plan).is_some() {
                continue;
            }
            let known = self.0.iter().find(|known| known.plan.goes_on_as(plan));
            next.0.push(match known {
                Some(Prepared { plan: old, guard, .. }) if old.is_as(plan) => {
                    Prepared { plan: Arc::clone(plan), guard: Rc::clone(guard), is_behind: false }
                }
                Some(Prepared { guard, .. }) => {
                    Guard::start(plan, shared, calls)?;
                    Prepared { plan: Arc::clone(plan), guard: Rc::clone(guard), is_behind: true }
                }
                None => {
                    let guard = Guard::start(plan, shared, calls)?;
                    Prepared { plan: Arc::clone(plan), guard, is_behind: false }
                }
            });
        }
        Ok(next)
    }

    /// Has all of them work by their plans.
    pub(in crate::proxy) fn commit(&self) {
        for Prepared { plan, guard, .. } in self.0.iter().filter(|it| it.is_behind) {
            guard.configure(plan);
        }
    }

    /// The one of a plan.
    pub(in crate::proxy) fn of(&self, wanted: &Arc<GuardPlan>) -> Option<Rc<Guard>> {
        let found = self.0.iter().find(|known| Arc::ptr_eq(&known.plan, wanted));
        found.map(|known| Rc::clone(&known.guard))
    }
}
