//! How many of something are in flight, for each of whoever sends it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts by key; only of those that have any: no more than there are in flight.
pub(crate) struct InFlight<K>(Mutex<HashMap<K, usize>>);

/// One that is in flight, for as long as this exists.
pub(crate) struct One<'a, K: Copy + Eq + Hash> {
    all: &'a InFlight<K>,
    of: K,
}

impl<K: Copy + Eq + Hash> InFlight<K> {
    /// One more of these; `None` if there are `most` already.
    pub(crate) fn one_of(&self, of: K, most: usize) -> Option<One<'_, K>> {
        let mut all = self.all();
        if all.get(&of).is_some_and(|count| *count >= most) || most == 0 {
            return None;
        }
        *all.entry(of).or_default() += 1;
        Some(One { all: self, of })
    }

    /// Who has any.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> Vec<K> {
        self.all().keys().copied().collect()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Default for InFlight<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash> Drop for One<'_, K> {
    fn drop(&mut self) {
        let mut all = self.all.all();
        if let Some(count) = all.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_nobody_who_has_none_is_remembered() {
        let in_flight = InFlight::default();
        let one_of = |who: u8| in_flight.one_of(who, 3);
        let mut ours: Vec<_> = (0..3).map(|_| one_of(1).unwrap()).collect();
        assert!(one_of(1).is_none() && one_of(2).is_some());
        ours.pop();
        let again = one_of(1);
        assert!(again.is_some() && one_of(1).is_none());
        assert!(in_flight.one_of(3, 0).is_none());
        drop((ours, again));
        assert!(in_flight.keys().is_empty());
    }
}
