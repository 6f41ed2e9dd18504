//! Keeps requests from waiting for a store that is known to be away.
//!
//! One failure opens it, if nothing else was heard meanwhile: a deadline is paid for at most
//! once, not by each request. While it is open no request asks; ticks probe, first soon, then at twice the time, up to the
//! policy's `breaker` period, and a probe that is answered closes it.

use crate::time::{Instant, Span};

/// The first probe comes this long after a failure: long enough for a host to be
/// restarted by its supervisor to be the exception, short enough that a lost packet costs
/// little exactness.
const PROBE_FIRST: Span = Span::from_millis(100);

pub(super) struct Breaker {
    longest: Span,
    open: Option<Open>,
}

struct Open {
    since: Instant,
    next_probe: Instant,
    pause: Span,
}

impl Breaker {
    pub(super) const fn new(longest: Span) -> Self {
        Self { longest, open: None }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When it opened.
    pub(super) fn since(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since)
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Opens, or stays open after a failed probe. Failures of requests that were already
    /// waiting when it opened do not lengthen the pause.
    pub(super) fn trip(&mut self, now: Instant) {
        match &self.open {
            Some(open) if now < open.next_probe => {}
            Some(open) => self.schedule(now, Span(open.pause.0.saturating_mul(2))),
            None => self.schedule(now, PROBE_FIRST),
        }
    }

    /// Whether a probe is due; if so, the caller sends it.
    pub(super) fn probes(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else { return false };
        let is_due = now >= open.next_probe;
        if is_due {
            // Should the probe's outcome never be told, the next one still comes.
            open.pause = Span(open.pause.0.saturating_mul(2).min(self.longest.0));
            open.next_probe = now.after(open.pause);
        }
        is_due
    }

    fn schedule(&mut self, now: Instant, pause: Span) {
        let pause = pause.min(self.longest);
        let since = self.since().unwrap_or(now);
        self.open = Some(Open { since, next_probe: now.after(pause), pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_once_per_pause_and_pauses_grow_to_the_period() {
        let mut breaker = Breaker::new(Span::from_millis(350));
        let at = |ms| Instant::default().after(Span::from_millis(ms));
        breaker.trip(at(0));
        let due: [u64; 4] = core::array::from_fn({
            let mut ms = 0;
            move |_| {
                while !breaker.probes(at(ms)) {
                    ms += 1;
                }
                breaker.trip(at(ms + 20)); // the probe ran into its deadline
                ms
            }
        });
        assert_eq!(due, [100, 300, 650, 1000]);
    }

    #[test]
    fn an_answer_closes_it() {
        let mut breaker = Breaker::new(Span::from_secs(1));
        breaker.trip(Instant(5));
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open() && !breaker.probes(Instant(u64::MAX)));
    }
}
