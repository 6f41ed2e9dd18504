//! What is known of a request whose global limits are still to be decided.

use super::leases::{Leased, LeasedState};
use super::local::Taken;
use crate::plan::Applied;
use crate::time::Instant;
use crate::verdict::LimitStanding;
use alloc::vec::Vec;

#[derive(Default)]
pub(super) struct Held {
    /// Local limits, taken already.
    pub(super) local: Vec<Taken>,
    /// Leased limits, taken or awaited.
    pub(super) leased: Vec<Leased>,
    /// Limits that are asked for once all others let it through.
    pub(super) exact: Vec<Applied>,
    /// Global limits that only look on; asked once the request is let through, so that
    /// they never delay it.
    pub(super) shadows: Vec<Applied>,
    pub(super) standings: Vec<LimitStanding>,
    /// When its deadline is over.
    pub(super) until: Instant,
    /// No request at all: a limit that looks on waits for units, and nobody for it.
    pub(super) is_shadow: bool,
}

impl Held {
    /// Whether anything is still to be heard of the store.
    pub(super) fn waits(&self) -> bool {
        !self.exact.is_empty() || self.waits_for_units()
    }

    /// Whether units of a lease are awaited.
    pub(super) fn waits_for_units(&self) -> bool {
        self.leased.iter().any(|leased| leased.state == LeasedState::Waits)
    }
}
