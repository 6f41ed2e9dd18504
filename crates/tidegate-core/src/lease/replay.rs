//! Which asks a store has had already, so that none settles twice.
//!
//! A message may come twice, when somebody between holder and store sends it again; units
//! that are settled twice would leave too little outstanding. Each holder numbers its asks,
//! and for each holder the last [`WINDOW`] numbers are remembered, as IPsec does against
//! replay (RFC 4303, section 3.4.3). What cannot be told is taken to have come before.

use super::HolderId;
use crate::time::{Instant, Span};
use alloc::collections::BTreeMap;

/// The most workers of all proxies that are remembered, 48 bytes each. Beyond that the ones longest silent
/// make room; while all have been heard of lately, new ones are served but settle nothing.
pub const HOLDERS_MAX: usize = 16_384;

/// An ask that is overtaken by more than this many of the same holder is not heard.
const WINDOW: u64 = 128;

/// A holder that was silent for so long may be forgotten: nothing it holds is alive.
const SILENCE: Span = Span::from_secs(10);

/// What is known of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It comes for the first time: answer it, and settle.
    First,
    /// It may have come before, to a store that remembers nothing of it: answer it, but
    /// settle nothing.
    Perhaps,
    /// It has come before: do not answer it.
    Again,
}

/// The asks of many holders.
#[derive(Clone, Default)]
pub struct Replays(BTreeMap<HolderId, Seen>);

#[derive(Clone)]
struct Seen {
    highest: u64,
    /// Bit n: whether `highest − n` has come.
    bits: u128,
    at: Instant,
}

impl Replays {
    /// Notes that an ask has come. `now` is on the store's clock.
    pub fn hear(&mut self, now: Instant, holder: HolderId, seq: u64) -> Heard {
        if let Some(seen) = self.0.get_mut(&holder) {
            seen.at = seen.at.max(now);
            return if seen.note(seq) { Heard::First } else { Heard::Again };
        }
        if self.0.len() >= HOLDERS_MAX {
            let eldest = self.0.iter().min_by_key(|(_, seen)| seen.at);
            let silent = eldest.filter(|(_, seen)| now.since(seen.at) > SILENCE);
            match silent.map(|(holder, _)| *holder) {
                Some(holder) => self.0.remove(&holder),
                None => return Heard::Perhaps,
            };
        }
        // Of what came before nothing is known, so all of it is taken to have come.
        self.0.insert(holder, Seen { highest: seq, bits: u128::MAX, at: now });
        Heard::Perhaps
    }
}

impl Seen {
    /// Whether it is new.
    fn note(&mut self, seq: u64) -> bool {
        if seq > self.highest {
            let ahead = seq - self.highest;
            let kept = if ahead < WINDOW { self.bits << ahead } else { 0 };
            (self.highest, self.bits) = (seq, kept | 1);
            return true;
        }
        let behind = self.highest - seq;
        if behind >= WINDOW {
            return false;
        }
        let bit = 1_u128 << behind;
        let is_new = self.bits & bit == 0;
        self.bits |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Heard::{Again, First, Perhaps};

    const NOW: Instant = Instant(1);

    #[test]
    fn an_ask_settles_once_in_whatever_order_they_come() {
        let mut replays = Replays::default();
        let mut hear = |seq| replays.hear(NOW, HolderId(7), seq);
        assert_eq!([5, 5, 4].map(&mut hear), [Perhaps, Again, Again]);
        assert_eq!([8, 6, 7, 6, 8].map(&mut hear), [First, First, First, Again, Again]);
        assert_eq!([500, 373, 372, 501].map(&mut hear), [First, First, Again, First]);
    }

    #[test]
    fn only_a_silent_holder_makes_room() {
        let mut replays = Replays::default();
        for holder in 0..HOLDERS_MAX as u64 {
            replays.hear(NOW, HolderId(holder), 1);
        }
        let new = HolderId(u64::MAX);
        assert_eq!([1, 2].map(|seq| replays.hear(NOW, new, seq)), [Perhaps, Perhaps]);
        let later = NOW.after(SILENCE).after(Span(1));
        assert_eq!([1, 2].map(|seq| replays.hear(later, new, seq)), [Perhaps, First]);
        assert_eq!(replays.0.len(), HOLDERS_MAX);
    }
}
