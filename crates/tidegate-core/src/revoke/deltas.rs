//! What was revoked or lifted since the images were made: exact, by id.
//!
//! An open-addressed table, at most half full; ids are hashes, so their own bytes say where
//! they go.

use super::Id;
use alloc::vec::Vec;

/// The most ids. A host makes new images long before there are so many; a worker that has so many
/// all the same takes no more news, and asks exactly once these are old.
pub const HELD_MAX: usize = 65_536;

/// The number of what stands in no entry of the log yet: no images hold it, so it is forgotten only
/// once an entry has it, or when there is no room. Whoever holds it goes on telling of it.
pub const UNNUMBERED: u64 = u64::MAX;

/// There are [`HELD_MAX`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The set.
#[derive(Default)]
pub struct Deltas {
    /// A power of two of them, or none.
    places: Vec<Option<Held>>,
    held: usize,
}

#[derive(Clone, Copy)]
struct Held {
    id: Id,
    number: u64,
    before_secs: u64,
}

impl Deltas {
    /// What holds of an id, if anything was heard of it: tokens issued at or before this second
    /// are revoked; 0: none.
    pub fn get(&self, id: &Id) -> Option<u64> {
        let held = self.places.get(self.find(id)?)?;
        held.map(|held| held.before_secs)
    }

    /// Notes what holds of an id from an entry of the log on, or as long as it is [`UNNUMBERED`].
    ///
    /// # Errors
    ///
    /// [`Full`]; then nothing is noted.
    pub fn put(&mut self, id: Id, number: u64, before_secs: u64) -> Result<(), Full> {
        if self.held == HELD_MAX && self.get(&id).is_none() {
            self.rebuild(self.places.len(), |held| held.number != UNNUMBERED);
        }
        if (self.held + 1) * 2 > self.places.len() {
            self.grow();
        }
        let Some(place) = self.find(&id).and_then(|at| self.places.get_mut(at)) else {
            return Err(Full);
        };
        if place.is_none() {
            if self.held == HELD_MAX {
                return Err(Full);
            }
            self.held += 1;
        }
        *place = Some(Held { id, number, before_secs });
        Ok(())
    }

    /// Forgets what is in entries up to this one: images hold it now.
    pub fn forget(&mut self, cut: u64) {
        self.rebuild(self.places.len(), |held| held.number > cut);
    }

    /// How many ids there are.
    pub const fn len(&self) -> usize {
        self.held
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn grow(&mut self) {
        let places = (self.places.len() * 2).clamp(64, HELD_MAX * 2);
        if places != self.places.len() {
            self.rebuild(places, |_| true);
        }
    }

    fn rebuild(&mut self, places: usize, keep: impl Fn(&Held) -> bool) {
        let old = core::mem::replace(&mut self.places, alloc::vec![None; places]);
        self.held = 0;
        for held in old.into_iter().flatten().filter(keep) {
            let place = self.find(&held.id).and_then(|at| self.places.get_mut(at));
            if let Some(place) = place {
                *place = Some(held);
                self.held += 1;
            }
        }
    }

    /// Where an id is, or would go. There is always a place free, so the search ends.
    fn find(&self, id: &Id) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        let first = id.short() as usize;
        let at = |step: usize| first.wrapping_add(step) & mask;
        let fits = |at: &usize| {
            self.places.get(*at).is_some_and(|place| place.is_none_or(|held| held.id == *id))
        };
        (0..=mask).map(at).find(fits)
    }
}
