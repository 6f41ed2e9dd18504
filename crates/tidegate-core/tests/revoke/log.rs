//! Positions in the log: of two histories, however alike, no two positions are the same.

use proptest::prelude::*;
use std::collections::HashSet;
use tidegate_core::revoke::Position;

/// What a script within Redis computes: `redis.sha1hex(chain .. entry):sub(1, 16)`.
#[test]
fn a_link_is_what_redis_makes_it() {
    let start = Position::start(0x0123_4567_89ab_cdef);
    let next = start.then(b"entry");
    let wanted = Position { log: start.log, number: 1, chain: 0x8be8_b4a3_fdc3_cc93 };
    assert_eq!(next, wanted);
}

proptest! {
    #[test]
    fn another_history_is_another_position(
        log: u64,
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        changed: prop::sample::Index,
        byte: u8,
    ) {
        let ends = |log, entries: &[Vec<u8>]| {
            let mut at = Position::start(log);
            entries.iter().map(|entry| { at = at.then(entry); at }).collect::<Vec<_>>()
        };
        let one = ends(log, &entries);
        let mut other = entries.clone();
        let changed = changed.index(other.len());
        other[changed].push(byte);
        let other = ends(log, &other);
        prop_assert_eq!(&one[..changed], &other[..changed]);
        let seen: HashSet<_> = one.iter().copied().collect();
        prop_assert!(other[changed..].iter().all(|position| !seen.contains(position)));
        let stranger = ends(log.wrapping_add(1), &entries);
        prop_assert!(stranger.iter().all(|position| !seen.contains(position)));
    }
}
