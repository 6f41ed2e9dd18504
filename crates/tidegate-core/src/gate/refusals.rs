//! Several refusals of one request, as the one denial that its client sees.

use crate::limit::{Quota, Refused, Standing};
use crate::plan::Applied;
use crate::time::Span;
use crate::verdict::{Denial, LimitIndex, LimitStanding, Reason};
use alloc::vec::Vec;

/// Refusals of one request, gathered into the denial that its client will see.
#[derive(Default)]
pub(super) struct Refusals {
    pub(super) denial: Option<Denial>,
}

impl Refusals {
    pub(super) fn add(&mut self, applied: &Applied, refused: Refused) {
        match refused {
            Refused::Never => self.keep_longest(applied.limit, Reason::CostTooHigh, None),
            Refused::Wait { wait, standing } => {
                self.keep_longest(applied.limit, Reason::Limited, Some(wait));
                if let Some(denial) = &mut self.denial {
                    denial.standings.push(told(applied, standing));
                }
            }
        }
    }

    pub(super) fn close(&mut self, applied: &Applied) {
        self.keep_longest(applied.limit, Reason::StoreAway, None);
    }

    /// "Never" outlasts every wait, and a budget that is used up is told before a store
    /// that is away: the first is the client's doing.
    fn keep_longest(&mut self, limit: LimitIndex, reason: Reason, wait: Option<Span>) {
        let rank = |reason, wait: Option<Span>| match reason {
            Reason::CostTooHigh => (2, Span::ZERO),
            Reason::Limited => (1, wait.unwrap_or_default()),
            Reason::StoreAway => (0, Span::ZERO),
        };
        match &mut self.denial {
            Some(denial) if rank(denial.reason, denial.retry_after) >= rank(reason, wait) => {}
            Some(denial) => {
                (denial.reason, denial.limit, denial.retry_after) = (reason, limit, wait);
            }
            none => {
                let standings = Vec::new();
                *none = Some(Denial { reason, limit, retry_after: wait, standings });
            }
        }
    }
}

/// How a limit stands, as clients are told.
pub(super) fn told(applied: &Applied, standing: Standing) -> LimitStanding {
    let Applied { limit, quota, .. } = applied;
    LimitStanding { limit: *limit, burst: quota.burst(), window: window(quota), standing }
}

/// The time in which an empty budget fills: `burst / rate` for a bucket, the window itself
/// otherwise.
pub(super) fn window(quota: &Quota) -> Span {
    let nanos =
        u128::from(quota.period().0) * u128::from(quota.burst()) / u128::from(quota.count());
    Span(u64::try_from(nanos).unwrap_or(u64::MAX))
}
