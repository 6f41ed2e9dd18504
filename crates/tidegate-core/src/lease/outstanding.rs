//! Units that were granted and may still be spent, by when they lapse.

use super::{EPOCH, EPOCHS, SOON_EPOCH};
use crate::time::Instant;

/// Units that stop being outstanding together, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lapse {
    pub(super) units: u32,
    pub(super) at: Instant,
}

/// Units outstanding, by the epoch that granted them, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub(super) leased: [u32; EPOCHS],
    pub(super) soon: [u32; 2],
}

impl Outstanding {
    /// All of them.
    pub(super) fn total(&self) -> u32 {
        self.soon.iter().fold(self.leased(), |sum, units| sum.saturating_add(*units))
    }

    /// Those that may be spent until they lapse or are settled.
    pub(super) fn leased(&self) -> u32 {
        self.leased.iter().fold(0, |sum: u32, units| sum.saturating_add(*units))
    }

    /// Adds units granted now.
    pub(super) fn add(&mut self, leased: u32, soon: u32) {
        let [newest, ..] = &mut self.leased;
        *newest = newest.saturating_add(leased);
        let [newest, _] = &mut self.soon;
        *newest = newest.saturating_add(soon);
    }

    /// Takes out units of one epoch; returns how many were there to take.
    pub(super) fn settle(&mut self, now: Instant, epoch: u32, units: u32) -> u32 {
        let age = usize::try_from(epoch_of(now).wrapping_sub(epoch));
        let Some(of_epoch) = age.ok().and_then(|age| self.leased.get_mut(age)) else { return 0 };
        let settled = units.min(*of_epoch);
        *of_epoch -= settled;
        settled
    }

    /// When they lapse, if it is `now`. In no order.
    pub(super) fn lapses(&self, now: Instant) -> [Lapse; EPOCHS + 2] {
        let mut lapses = [Lapse { units: 0, at: now }; EPOCHS + 2];
        let end = |number: u64, kept: usize, age: usize| {
            number.saturating_add(kept as u64).saturating_sub(age as u64)
        };
        let leased = self.leased.iter().enumerate().map(|(age, units)| {
            let at = end(now.0 / EPOCH.0, EPOCHS, age).saturating_mul(EPOCH.0);
            Lapse { units: *units, at: Instant(at) }
        });
        let soon = self.soon.iter().enumerate().map(|(age, units)| {
            let at = end(now.0 / SOON_EPOCH.0, 2, age).saturating_mul(SOON_EPOCH.0);
            Lapse { units: *units, at: Instant(at) }
        });
        for (place, lapse) in lapses.iter_mut().zip(leased.chain(soon)) {
            *place = lapse;
        }
        lapses
    }

    /// Forgets what lapses until `now`, which is not before `from`.
    pub(super) fn advance(&mut self, from: Instant, now: Instant) {
        shift(&mut self.leased, now.0 / EPOCH.0 - from.0 / EPOCH.0);
        shift(&mut self.soon, now.0 / SOON_EPOCH.0 - from.0 / SOON_EPOCH.0);
    }
}

/// The number of the epoch of `now`, which begins again at zero each 34 years: a clock that
/// counts from 1970 is past that, and nobody settles what is as old.
pub(super) const fn epoch_of(now: Instant) -> u32 {
    (now.0 / EPOCH.0 % (1 << 32)) as u32
}

/// Makes all entries older by so many places.
pub(super) fn shift(newest_first: &mut [u32], places: u64) {
    let places = usize::try_from(places).unwrap_or(usize::MAX).min(newest_first.len());
    newest_first.rotate_right(places);
    newest_first.iter_mut().take(places).for_each(|units| *units = 0);
}
