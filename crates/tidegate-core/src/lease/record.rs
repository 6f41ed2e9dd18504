//! What the store knows of one key: it settles, and grants.

use super::demand;
use super::ledger::Ledger;
use super::outstanding::{Outstanding, epoch_of};
use super::{Grant, HolderId, LAPSE, Settled, Terms, Want};
use crate::ask::SHARE_WHOLE_PPM;
use crate::limit::Weight;
use crate::time::{Instant, Span};

/// Demand fades with a τ of 462 ms.
const DEMAND_HALF_LIFE: Span = Span::from_millis(320);

/// The most demand that is told apart, in thousandths: four billion in a half-life, or
/// some nine billion a second. More, and a script's doubles would not hold the products.
const DEMAND_MAX_MILLI: u64 = 4_000_000_000_000;
const RATE_MAX_MILLI: u64 = 9_000_000_000_000;

/// Holders are counted over one to two of these.
const HOLDERS_SPAN: Span = Span::from_millis(500);

/// How long after a store's history began a key that it does not have may be one that it
/// lost, rather than one never seen: longer than a replica may lag and a fail-over take.
const DOUBT: Span = Span::from_secs(10);

/// Where and when a record is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The store's clock. It may go back, or begin again with another stamp; a step forward
    /// by `t` gives away at most `rate × t` and what is outstanding.
    pub now: Instant,
    /// The history of writes that the store goes on with: of Redis a hash of the replication
    /// id of the master that this connection was made to, so that another master is another
    /// stamp. One that is known to have lost nothing may keep its predecessor's.
    pub stamp: u64,
    /// When that history began, on the store's clock, if keys may have been lost before it.
    pub began: Option<Instant>,
}

/// What the store knows of one key.
///
/// The default is a key never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `None` for a key never seen.
    pub(super) ledger: Option<Ledger>,
    /// Which history grants and settlements belong to. Drawn from time and stamp.
    pub(super) era: u32,
    /// Whether this era began with nothing to grant.
    pub(super) began_empty: bool,
    /// Counts asks. Stops at the end, after which only a stamp tells of what was lost.
    pub(super) version: u32,
    /// Which holders asked: one bit of 32 each, of this span and the one before.
    pub(super) holders: [u32; 2],
    pub(super) demand_milli: u64,
    pub(super) out: Outstanding,
    pub(super) stamp: u64,
    /// The latest time it was asked at, in whole microseconds.
    pub(super) last: Instant,
}

impl Record {
    /// Answers a holder: lets time pass, settles, charges what is owed, grants.
    ///
    /// `may_settle` says that this want has not come before (see [`super::Replays`]);
    /// otherwise what it settles is ignored, which errs on the safe side.
    ///
    /// A record that is asked under another stamp, or by a holder that knows a later version
    /// of it, has lost grants. It then begins a new era with nothing to grant, and with a whole
    /// burst outstanding until it would have lapsed: one half, which may have been granted to
    /// requests that waited, for up to 125 ms, the other half for up to 1.25 s. A store that
    /// has lost a key wholly, because it made room for others, is told by each holder what it
    /// knows to be taken.
    ///
    /// Costs no allocation: some hundred additions and five divisions of 128 bits.
    pub fn answer(&mut self, place: &Place, who: HolderId, want: &Want, may_settle: bool) -> Grant {
        let Some(terms) = Terms::new(want.quota, Span::ZERO, want.reserve) else {
            return Grant::default();
        };
        let mut ledger = self.open(place, &terms, want);
        if may_settle && want.era == self.era {
            self.settle(&mut ledger, &want.settled);
        }
        ledger.charge(&want.quota, want.owed);
        if want.era != 0 && want.era != self.era && !self.began_empty {
            ledger.charge(&want.quota, want.known);
        }
        self.note(who, want.tried);
        self.version = self.version.saturating_add(1);
        let grant = self.grant(&mut ledger, &terms, want);
        self.ledger = Some(ledger);
        grant
    }

    /// How long it has to be kept when nobody asks any more; then it may be forgotten.
    ///
    /// Longer than any holder remembers it, and so long that nothing is forgiven.
    pub fn keep_for(&self, terms: &Terms) -> Span {
        let drained = self.ledger.map_or(Span::ZERO, |ledger| {
            ledger.wait(terms, self.last, &self.out, terms.quota().burst())
        });
        let least = terms.memory().0.max(drained.0.saturating_add(LAPSE.0 * 2));
        Span(least.saturating_add(least / 512).saturating_add(2_000_000_000))
    }

    /// What would be forgiven by forgetting it.
    pub fn weight(&self, terms: &Terms) -> Weight {
        let used = self.ledger.map_or(0, |ledger| ledger.used(&self.out));
        let used = u64::from(used) + u64::from(self.out.total());
        let fresh_at = self.last.after(self.keep_for(terms));
        Weight::new(used, terms.quota().burst().into(), fresh_at)
    }

    /// Units that holders may still spend, for all that is known.
    pub fn outstanding(&self) -> u32 {
        self.out.total()
    }

    /// Brings it up to now, whatever happened to the store meanwhile.
    fn open(&mut self, place: &Place, terms: &Terms, want: &Want) -> Ledger {
        let quota = terms.quota();
        // Redis knows no finer time; and what is packed must be what is computed with.
        let now = Instant(place.now.micros().saturating_mul(1_000));
        let Some(mut ledger) = self.ledger else {
            let mut ledger = Ledger::new(quota);
            self.begin_era(place, now);
            let in_doubt = terms.refill().min(DOUBT);
            if place.began.is_some_and(|began| now < began.after(in_doubt)) {
                self.forget(&mut ledger, terms);
            }
            return ledger;
        };
        if self.stamp == place.stamp {
            self.advance(&mut ledger, now);
        }
        if !ledger.is_of(quota) {
            ledger = ledger.converted(quota, &self.out);
        }
        let is_behind = want.era == self.era && want.version > self.version;
        if self.stamp != place.stamp || is_behind {
            let version = self.version.max(want.version);
            self.begin_era(place, now.max(if is_behind { self.last } else { now }));
            self.version = version;
            self.forget(&mut ledger, terms);
        }
        ledger
    }

    fn advance(&mut self, ledger: &mut Ledger, now: Instant) {
        let from = self.last;
        if now <= from {
            return;
        }
        ledger.advance(from, now, &self.out);
        self.out.advance(from, now);
        self.demand_milli = demand::faded(self.demand_milli, now.since(from), DEMAND_HALF_LIFE);
        let spans = now.0 / HOLDERS_SPAN.0 - from.0 / HOLDERS_SPAN.0;
        super::outstanding::shift(&mut self.holders, spans);
        self.last = now;
    }

    fn begin_era(&mut self, place: &Place, now: Instant) {
        let era = scatter(now.micros() ^ place.stamp.rotate_left(32)) as u32;
        *self = Self { era: era.max(1), stamp: place.stamp, last: now, ..Self::default() };
    }

    /// Takes all to be outstanding that could have been granted.
    fn forget(&mut self, ledger: &mut Ledger, terms: &Terms) {
        let leased = terms.out_max();
        self.began_empty = true;
        self.out = Outstanding::default();
        self.out.add(leased, terms.quota().burst().saturating_sub(leased));
        ledger.empty(terms.quota());
    }

    fn settle(&mut self, ledger: &mut Ledger, settled: &[Settled]) {
        for Settled { epoch, spent, returned } in settled {
            let units = self.out.settle(self.last, *epoch, spent.saturating_add(*returned));
            let returned = units.saturating_sub(*spent);
            ledger.settle(units - returned, returned, &self.out);
        }
    }

    /// Notes who asks, and how much is wanted there.
    fn note(&mut self, who: HolderId, tried: u32) {
        let [newest, _] = &mut self.holders;
        *newest |= 1 << who.place();
        let more = u64::from(tried).saturating_mul(1_000);
        self.demand_milli = self.demand_milli.saturating_add(more).min(DEMAND_MAX_MILLI);
    }

    fn grant(&mut self, ledger: &mut Ledger, terms: &Terms, want: &Want) -> Grant {
        let level = ledger.room(terms, &self.out);
        let holders = self.count_holders();
        let here_milli = want.rate_milli.min(RATE_MAX_MILLI);
        let rate_milli = demand::rate(self.demand_milli, DEMAND_HALF_LIFE).max(here_milli);
        let share_ppm = part_ppm(here_milli, rate_milli);
        let pause = terms.pause(holders);
        let scarce_below = terms.units_in(pause).saturating_mul(2);
        let scarce_below = scarce_below.min(u64::from(terms.quota().burst() / 2));
        let is_scarce = |level: u32| u64::from(level) < scarce_below;

        let soon_wanted = want.soon.min(want.units);
        let least = want.least.max(1);
        // Half of this holder's part, so that one round of all holders leaves something; all
        // of it where they come at the pace at which it refills.
        let rounds = if is_scarce(level) { 1 } else { 2 };
        let part = u64::from(share_ppm.max(SHARE_WHOLE_PPM / holders));
        let part = u64::from(level) * part / u64::from(SHARE_WHOLE_PPM) / rounds;
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let waiting = if is_scarce(level) { 0 } else { soon_wanted.min(level / 4) };
        let units = want.units.min(part.max(waiting).max(least)).min(level);
        let soon = soon_wanted.min(units);
        let leased = (units - soon).min(terms.out_max().saturating_sub(self.out.leased()));
        let enough = want.units > 0 && soon + leased >= least;
        let (soon, leased) = if enough { (soon, leased) } else { (0, 0) };
        let units = soon + leased;

        ledger.grant(units);
        self.out.add(leased, soon);
        let left = level - units;
        let wait = if units == 0 && (want.units > 0 || left == 0) {
            let wait = ledger.wait(terms, self.last, &self.out, least);
            // What others hold may come back before that.
            let longest = if self.out.leased() > 0 { LAPSE } else { Span(u64::MAX) };
            wait.min(longest).max(pause)
        } else if units < want.units && is_scarce(left) {
            pause
        } else {
            Span::ZERO
        };
        Grant {
            units,
            soon,
            era: self.era,
            epoch: epoch_of(self.last),
            version: self.version,
            wait,
            horizon: terms.horizon(left, rate_milli),
            remaining: left,
            rate_milli,
            share_ppm: 0,
        }
    }

    /// About how many holders asked lately: linear counting (Whang and others, 1990).
    fn count_holders(&self) -> u32 {
        /// −32 ln((32 − n) / 32), rounded: how many fill n places of 32, most likely.
        const LIKELY: [u32; 33] = [
            1, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 17, 18, 20, 22, 24, 26, 29, 31, 34, 37, 41,
            44, 49, 54, 59, 67, 76, 89, 111, 160,
        ];
        let [newest, before] = self.holders;
        LIKELY.get((newest | before).count_ones() as usize).copied().unwrap_or(1)
    }
}

/// A part of a whole, in parts per million; at most the whole.
pub(super) fn part_ppm(part: u64, whole: u64) -> u32 {
    let ppm = u128::from(part) * u128::from(SHARE_WHOLE_PPM) / u128::from(whole.max(1));
    u32::try_from(ppm).unwrap_or(SHARE_WHOLE_PPM).min(SHARE_WHOLE_PPM)
}

/// Numbers that are near to each other come out far apart (the finalizer of SplitMix64).
pub(super) const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
