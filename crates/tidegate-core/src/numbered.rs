//! Things known by numbers that count up: what waits, by ticket or token.
//!
//! Kept in the order of their numbers, so adding is at the end but for the wrap-around, and
//! finding is a binary search. A fraction of the code of a tree, where each byte of code is
//! loaded by every worker.

use alloc::vec::Vec;

/// Things by number.
#[derive(Debug)]
pub struct Numbered<T>(Vec<(u32, T)>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Numbered<T> {
    /// Adds a thing under its number, in place of the one that has it.
    pub fn insert(&mut self, number: u32, thing: T) {
        match self.find(number) {
            Ok(at) => {
                if let Some(place) = self.0.get_mut(at) {
                    place.1 = thing;
                }
            }
            Err(at) => self.0.insert(at, (number, thing)),
        }
    }

    /// The thing of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.find(number).ok().and_then(|at| self.0.get(at)).map(|(_, thing)| thing)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let at = self.find(number).ok()?;
        self.0.get_mut(at).map(|(_, thing)| thing)
    }

    /// Takes out the thing of a number. Later ones move up: some microseconds for ten thousand.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let at = self.find(number).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(u32, &T) -> bool) {
        self.0.retain(|(number, thing)| keep(*number, thing));
    }

    /// Takes out all, with their numbers.
    pub fn take_all(&mut self) -> Vec<(u32, T)> {
        core::mem::take(&mut self.0)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(known, _)| *known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_found_by_their_numbers_in_whatever_order_they_came() {
        let mut row = Numbered::default();
        for number in [7, 9, u32::MAX, 0, 8] {
            row.insert(number, number.wrapping_add(1));
        }
        row.insert(9, 1);
        assert_eq!((row.len(), row.get(9), row.get(6)), (5, Some(&1), None));
        assert_eq!((row.remove(7), row.remove(7)), (Some(8), None));
        row.retain(|number, _| number != 0);
        assert_eq!(row.take_all(), [(8, 9), (9, 1), (u32::MAX, 0)]);
        assert!(row.is_empty());
    }
}
