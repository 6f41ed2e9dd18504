//! How many asks for leases one proxy may have in flight.
//!
//! As many as there are places left for asks of anybody. One proxy that floods this host has
//! half of all places then, and every other finds some free; of two that do each has a third,
//! of `n` an `n + 1`th. Nobody's number has to be set, and a proxy that is alone is not held back
//! while it needs no more than half. A proxy that has none in flight may always have one, if
//! there is any place at all.
//!
//! Until its body is there nobody knows whose an ask is; so long it has a place like any other,
//! for `request_timeout` at most.
//!
//! A proxy is a process here, by the number that it drew when it started, not a name: a name is
//! for shares, and several may bear the same.

use crate::in_flight::{InFlight, One};

/// Asks for leases in flight, by process.
#[derive(Default)]
pub(super) struct Turns(InFlight<u64>);

/// An ask in flight, for as long as this exists.
pub(super) type Turn<'a> = One<'a, u64>;

impl Turns {
    /// A turn for an ask of `process`, while `free` places are left beside the one that it has
    /// itself. `None` if it has too many in flight.
    pub(super) fn take(&self, process: u64, free: usize) -> Option<Turn<'_>> {
        self.0.one_of(process, free.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes until it gets no more; each turn is a place less for all.
    fn flood<'a>(turns: &'a Turns, process: u64, free: &mut usize) -> Vec<Turn<'a>> {
        let mut taken = Vec::new();
        while *free > 0
            && let Some(turn) = turns.take(process, *free - 1)
        {
            *free -= 1;
            taken.push(turn);
        }
        taken
    }

    #[test]
    fn however_many_flood_the_next_one_finds_a_place() {
        let (turns, mut free) = (Turns::default(), 1_000);
        let of_one = flood(&turns, 1, &mut free);
        assert_eq!(of_one.len(), 500, "half");
        let of_another = flood(&turns, 2, &mut free);
        assert_eq!((of_another.len(), free), (250, 250), "half of what is left");
        assert!(turns.take(1, free).is_none(), "who floods gets no more");
        assert!(turns.take(3, free).is_some());
        drop(of_one);
        assert_eq!(turns.0.keys(), [2]);
        assert!(turns.take(1, free).is_some());
    }

    #[test]
    fn the_last_place_is_for_whoever_has_none() {
        let turns = Turns::default();
        let first = turns.take(1, 0);
        assert!(first.is_some() && turns.take(1, 0).is_none());
        assert!(turns.take(2, 0).is_some());
    }
}
