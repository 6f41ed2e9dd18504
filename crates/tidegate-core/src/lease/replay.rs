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
///
/// Each host remembers what came to it. A holder that goes from one host to another is new to
/// it once: that one ask is answered and settles nothing, so what it told as spent or returned
/// stays outstanding until it lapses, 1.25 s at most. A holder whose asks are dealt out among
/// several hosts leaves gaps in what each of them hears. They do no harm: an ask is not heard
/// only if more than 128 numbers later ones overtook it, at however many hosts.
#[derive(Clone, Default)]
pub struct Replays {
    seen: BTreeMap<HolderId, Seen>,
    unsettled: u64,
}

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
        if let Some(seen) = self.seen.get_mut(&holder) {
            seen.at = seen.at.max(now);
            return if seen.note(seq) { Heard::First } else { Heard::Again };
        }
        self.unsettled = self.unsettled.saturating_add(1);
        if self.seen.len() >= HOLDERS_MAX {
            let eldest = self.seen.iter().min_by_key(|(_, seen)| seen.at);
            let silent = eldest.filter(|(_, seen)| now.since(seen.at) > SILENCE);
            match silent.map(|(holder, _)| *holder) {
                Some(holder) => self.seen.remove(&holder),
                None => return Heard::Perhaps,
            };
        }
        // Of what came before nothing is known, so all of it is taken to have come.
        self.seen.insert(holder, Seen { highest: seq, bits: u128::MAX, at: now });
        Heard::Perhaps
    }

    /// How many asks were [`Heard::Perhaps`].
    pub const fn unsettled(&self) -> u64 {
        self.unsettled
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
        assert_eq!(replays.seen.len(), HOLDERS_MAX);
        assert_eq!(replays.unsettled(), HOLDERS_MAX as u64 + 3);
    }

    /// A fleet's proxies ask whichever host the service in front of them picks.
    #[test]
    fn asks_dealt_out_among_hosts_settle_but_for_the_first_at_each() {
        const HOSTS: usize = 2;
        let mut hosts = [(); HOSTS].map(|()| Replays::default());
        let mut heard = [0; 2];
        // Every other ask comes after the one sent after it.
        for seq in (1..=2_000_u64).map(|seq| seq ^ 1) {
            let host = &mut hosts[(seq / 2) as usize % HOSTS];
            match host.hear(NOW, HolderId(7), seq) {
                First => heard[0] += 1,
                Perhaps => heard[1] += 1,
                Again => {}
            }
        }
        assert_eq!(heard[1], HOSTS);
        assert!(heard[0] >= 2_000 - 2 * HOSTS, "{heard:?}");
    }
}
