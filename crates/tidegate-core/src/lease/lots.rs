//! What a holder has in hand: units by the grant that they came with.

use super::{Grant, LIFE, Settled};
use crate::time::{Instant, Span};

/// Lots at once. A lease is meant to last 400 ms at most, and all that is granted in one
/// epoch of 250 ms is one lot; should there be more, the eldest's units are left to lapse.
pub const LOTS_MAX: usize = 3;

/// A part of a lot that a worker took, named so that what is left can go back to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purchase {
    /// The era of its grant.
    pub era: u32,
    /// The epoch of its grant.
    pub epoch: u32,
    /// Units.
    pub units: u32,
    /// From then on they must not be spent.
    pub until: Instant,
}

/// Units granted in one epoch. One that never was has lapsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lot {
    pub(super) epoch: u32,
    pub(super) left: u32,
    /// Spent, and not told yet.
    pub(super) spent: u32,
    pub(super) until: Instant,
}

/// All of one era, eldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lots(pub(super) [Lot; LOTS_MAX]);

impl Lots {
    /// Units that may be spent now.
    pub(super) fn left(&self, now: Instant) -> u32 {
        let alive = self.0.iter().filter(|lot| now < lot.until);
        alive.fold(0, |sum: u32, lot| sum.saturating_add(lot.left))
    }

    /// Units spent that are not told yet.
    pub(super) fn spent(&self) -> u32 {
        self.0.iter().fold(0, |sum: u32, lot| sum.saturating_add(lot.spent))
    }

    /// Spends units of the eldest lots; `false`, and nothing, if there are too few.
    pub(super) fn spend(&mut self, now: Instant, units: u32) -> bool {
        if self.left(now) < units {
            return false;
        }
        let mut wanted = units;
        for lot in self.0.iter_mut().filter(|lot| now < lot.until) {
            let spent = lot.left.min(wanted);
            lot.left -= spent;
            lot.spent = lot.spent.saturating_add(spent);
            wanted -= spent;
        }
        true
    }

    /// Takes up to so many units of the eldest lot that has any, to be spent elsewhere.
    pub(super) fn sell(&mut self, now: Instant, era: u32, most: u32) -> Purchase {
        let lot = self.0.iter_mut().find(|lot| now < lot.until && lot.left > 0);
        lot.map_or_else(Purchase::default, |lot| {
            let units = most.min(lot.left);
            lot.left -= units;
            Purchase { era, epoch: lot.epoch, units, until: lot.until }
        })
    }

    /// Takes so many units of one lot, to be spent later; `None` if no lot has so many.
    pub(super) fn reserve(&mut self, now: Instant, era: u32, units: u32) -> Option<Purchase> {
        let lot = self.0.iter_mut().find(|lot| now < lot.until && lot.left >= units)?;
        lot.left -= units;
        Some(Purchase { era, epoch: lot.epoch, units, until: lot.until })
    }

    /// Learns what became of units that were sold.
    pub(super) fn redeem(&mut self, epoch: u32, left: u32, spent: u32) {
        if let Some(lot) = self.0.iter_mut().find(|lot| lot.epoch == epoch) {
            lot.left = lot.left.saturating_add(left);
            lot.spent = lot.spent.saturating_add(spent);
        }
    }

    /// Adds what was granted to an ask that was sent then.
    pub(super) fn add(&mut self, sent: Instant, grant: &Grant) {
        let (units, until) = (grant.units.saturating_sub(grant.soon), sent.after(LIFE));
        if units == 0 {
            return;
        }
        // All of one epoch lapse together, so those that were there may live as long.
        if let Some(lot) = self.0.iter_mut().find(|lot| lot.epoch == grant.epoch) {
            lot.left = lot.left.saturating_add(units);
            lot.until = lot.until.max(until);
            return;
        }
        self.0.rotate_left(1);
        let [.., newest] = &mut self.0;
        *newest = Lot { epoch: grant.epoch, left: units, spent: 0, until };
    }

    /// Takes up to `most` units out of circulation, the eldest first, of lots that lapse
    /// before `by`; and says of all lots what is to be told. It is said once.
    pub(super) fn settle(&mut self, by: Instant, most: u32) -> [Settled; LOTS_MAX] {
        let mut wanted = most;
        self.0.each_mut().map(|lot| {
            let returned = if lot.until <= by { lot.left.min(wanted) } else { 0 };
            wanted -= returned;
            lot.left -= returned;
            Settled { epoch: lot.epoch, spent: core::mem::take(&mut lot.spent), returned }
        })
    }

    /// Drops lots that have lapsed: what was not told of them, never will be.
    pub(super) fn lapse(&mut self, now: Instant) {
        for lot in self.0.iter_mut().filter(|lot| lot.until <= now) {
            *lot = Lot::default();
        }
    }

    /// Units of lots that lapse within `span`.
    pub(super) fn lapsing(&self, now: Instant, span: Span) -> u32 {
        let by = now.after(span);
        let lapsing = self.0.iter().filter(|lot| now < lot.until && lot.until <= by);
        lapsing.fold(0, |sum: u32, lot| sum.saturating_add(lot.left))
    }
}
