//! What one proxy process holds of one key: it spends, or says what to ask.
//!
//! The workers of a process share one holder and go to it with a [`Purse`]; a process of
//! one worker may do with the holder alone. Per request:
//!
//! ```text
//! purse.take | purse.denies ──no──► holder.exchange (or holder.take)
//!     Admitted            go on; if holder.due(..) is not Nothing, ask with no one waiting
//!     Denied { wait }     refuse; nothing is asked
//!     Waits               an ask is on its way: queue behind it
//!     Asks                queue, and send holder.ask(..)
//!     Trusted             go on, and send holder.ask(..): it tells what was used
//! ```
//!
//! and when there is a reply: `on_reply`; the requests that wait share what it served for
//! them, and who gets nothing of that is decided by [`Holder::take_again`]. When there is none
//! in time: `on_lost`, and the reply, should it come, must be thrown away.

use super::demand::Demand;
use super::lots::Lots;
use super::record::scatter;
use super::{Grant, HolderId, LIFE, Purse, SOON_EPOCH, SOON_LIFE, Terms, Want};
use crate::ask::LimitTag;
use crate::key::Key;
use crate::limit::Standing;
use crate::time::{Instant, Span};

/// What lapses sooner than this is returned rather than kept: a tick, and a round trip.
const RETURN_AHEAD: Span = Span::from_millis(60);

/// What was spent is told at least so often, so that a budget that is nearly full refills.
const TELL_EVERY: Span = Span::from_millis(100);

/// The longest that a refusal is believed: a store that was emptied, or a limit that was raised, is
/// noticed after so long.
const DENY_MAX: Span = Span::from_secs(5);

const SECOND: Span = Span::from_secs(1);

/// Of budgets below this nothing is held ahead: it would be a large part of them, and mostly in the
/// wrong proxy.
const AHEAD_BURST_MIN: u32 = 32;

/// Nothing is held ahead for one unit that comes alone: it reads as 6.93 a second while it is new,
/// and whatever was taken ahead for it would go back.
const AHEAD_RATE_MIN_MILLI: u64 = 7_300;

/// How long one ask keeps others of its key waiting, if nobody says that it was lost.
const FLIGHT_MAX: Span = Span::from_millis(250);

/// Shares are kept in so many parts per million.
const SHARE_PPM: u32 = 16;

/// A holder has no lease below this demand per horizon, in thousandths: it asks as it needs.
const LEASE_MIN_MILLI: u64 = 1_500;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is let through.
    Admitted,
    /// It is let through without a grant; an ask must be sent at once to tell of it.
    Trusted,
    /// It is refused: nothing is to be had for so long.
    Denied {
        /// The time until this holder will ask again.
        wait: Span,
    },
    /// It must wait for the ask that is on its way.
    Waits,
    /// It must wait, and an ask must be sent.
    Asks,
    /// It costs more than can ever be granted.
    Never,
}

/// Whether there is something to ask for that no request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// No.
    Nothing,
    /// Something to tell, or to return.
    Settlement,
    /// What is held runs out soon.
    Refill,
}

/// An ask on its way: keep it until its fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    sent: Instant,
    owed: u32,
}

/// What a reply brought to the requests that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Units to hand to them within this callback; what they do not use is lost.
    pub units: u32,
}

/// What one process holds of one key. The default holds nothing, and knows nothing.
///
/// All times are on one monotone clock of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pub(super) lots: Lots,
    pub(super) era: u32,
    pub(super) version: u32,
    /// τ of 144 ms: sizes leases.
    pub(super) demand: Demand<100>,
    /// Our share of the limit's demand, in parts of 1/62,500, as the store last said.
    pub(super) share: u16,
    pub(super) tried: u32,
    pub(super) remaining: u32,
    /// Used without a grant; told until there is a reply.
    pub(super) owed: u32,
    /// Taken of the budget and not refilled, by what this holder knows, at `heard_at`.
    pub(super) known: u32,
    /// Whether the store had too little when it was last asked.
    pub(super) is_scarce: bool,
    pub(super) horizon: Span,
    pub(super) round_trip: Span,
    /// Until when nothing is to be had, by what the store said.
    pub(super) empty_until: Instant,
    /// Until when it is believed, without asking again.
    pub(super) deny_until: Instant,
    pub(super) flight_until: Instant,
    pub(super) heard_at: Instant,
    pub(super) told_at: Instant,
}

impl Holder {
    /// Decides a request of `cost` units.
    pub fn take(&mut self, now: Instant, terms: &Terms, cost: u32) -> Take {
        self.note(now, cost);
        self.decide(now, terms, cost)
    }

    /// As [`Self::take`], for a worker: what it did with its purse is noted, what is left
    /// there goes back, and it is filled again with up to a `2 × workers`th of what is held.
    pub fn exchange(
        &mut self,
        now: Instant,
        terms: &Terms,
        purse: &mut Purse,
        cost: u32,
        workers: u32,
    ) -> Take {
        self.empty(now, purse);
        let take = self.take(now, terms, cost);
        if take == Take::Admitted {
            let part = self.lots.left(now) / workers.saturating_mul(2).max(1);
            purse.bought = self.lots.sell(now, self.era, part);
            purse.left = purse.bought.units;
        }
        (purse.empty_until, purse.deny_until) = match take {
            Take::Denied { .. } => (self.empty_until, self.deny_until),
            _ => (Instant::default(), Instant::default()),
        };
        take
    }

    /// As [`Self::take`], for a request that others may still refuse: what it is to use is in the
    /// purse, outstanding until that is emptied again. `is_new` says that it has not waited yet.
    ///
    /// Were its units told as spent before they are used, they would refill too soon.
    pub fn take_for_later(
        &mut self,
        now: Instant,
        terms: &Terms,
        cost: u32,
        is_new: bool,
    ) -> (Take, Purse) {
        if is_new {
            self.note(now, cost);
        }
        if cost == 0 {
            return (Take::Admitted, Purse::default());
        }
        if cost <= terms.grantable()
            && let Some(bought) = self.lots.reserve(now, self.era, cost)
        {
            return (Take::Admitted, Purse::holding(bought));
        }
        (self.refuse_or_ask(now, terms, cost), Purse::default())
    }

    /// Takes back all that a worker has left.
    pub fn empty(&mut self, now: Instant, purse: &mut Purse) {
        self.note(now, purse.tried);
        if purse.bought.era == self.era {
            let spent = purse.bought.units - purse.left;
            self.lots.redeem(purse.bought.epoch, purse.left, spent);
        }
        *purse = Purse::default();
    }

    /// Decides again a request that has waited, whose demand is noted already.
    pub fn take_again(&mut self, now: Instant, terms: &Terms, cost: u32) -> Take {
        self.decide(now, terms, cost)
    }

    /// Gives back what a request took that is not going on after all: what it took of a lease,
    /// and what has not been told as spent by now.
    pub fn give_back(&mut self, now: Instant, cost: u32) {
        let mut back = cost;
        // Newest first: they live longest.
        for lot in self.lots.0.iter_mut().rev().filter(|lot| now < lot.until) {
            let units = lot.spent.min(back);
            lot.spent -= units;
            lot.left = lot.left.saturating_add(units);
            back -= units;
        }
    }

    /// Whether to ask although no request waits. Ask a process's holders at each tick, of
    /// about 25 ms, and one that admitted from its lots at each exchange.
    pub fn due(&mut self, now: Instant, terms: &Terms) -> Due {
        if now < self.flight_until {
            return Due::Nothing;
        }
        self.lots.lapse(now);
        let left = self.lots.left(now);
        let target = self.target(now, terms);
        let ahead = Span(self.round_trip.0.saturating_mul(2).min(self.horizon.0 / 4));
        let rate_milli = self.demand.rate_milli(now);
        if target > 0 && now >= self.deny_until && u64::from(left) <= units(rate_milli, ahead) {
            return Due::Refill;
        }
        let idle = self.idle(now, target).1;
        let pause = Span(self.horizon.0.max(TELL_EVERY.0));
        let untold = self.lots.spent() > 0 && now.since(self.told_at) >= pause;
        let owes = self.owed > 0;
        if idle > 0 || untold || owes {
            Due::Settlement
        } else {
            self.forget_what_is_old(now, terms)
        }
    }

    /// What to ask, with `waiting` units wanted by requests that wait, the first of which
    /// wants `least`. Tells and returns what there is to tell and to return.
    ///
    /// `at_once` says that whatever comes for those requests will be used by them. A request
    /// that further limits may still refuse is not such a one: what comes for it is held as
    /// a lease, and can go back.
    pub fn ask(
        &mut self,
        now: Instant,
        terms: &Terms,
        (key, limit): (Key, LimitTag),
        (waiting, least): (u32, u32),
        at_once: bool,
    ) -> (Want, Flight) {
        self.forget_what_is_old(now, terms);
        self.lots.lapse(now);
        let target = self.target(now, terms);
        let may_refill = waiting > 0 || now >= self.deny_until;
        // What is on its way was asked for already.
        let target = if now < self.flight_until { 0 } else { target };
        let more = target.saturating_sub(self.lots.left(now));
        let units = waiting.saturating_add(if may_refill { more } else { 0 });
        let (by, most) = if units > 0 { (now, 0) } else { self.idle(now, target) };
        let settled = self.lots.settle(by, most);
        self.told_at = now;
        self.flight_until = now.after(FLIGHT_MAX);
        let want = Want {
            key,
            limit,
            quota: *terms.quota(),
            reserve: terms.reserve(),
            era: self.era,
            version: self.version,
            settled,
            known: self.known_now(now, terms),
            owed: self.owed,
            units,
            soon: if at_once && terms.is_prompt() { waiting } else { 0 },
            least: least.min(units),
            rate_milli: self.demand.rate_milli(now),
            tried: core::mem::take(&mut self.tried),
        };
        (want, Flight { sent: now, owed: self.owed })
    }

    /// Learns what was granted to an ask that was not given up as lost. `who` and `seq` are
    /// the ask's: they make what is left to chance.
    pub fn on_reply(
        &mut self,
        now: Instant,
        terms: &Terms,
        flight: Flight,
        (who, seq): (HolderId, u64),
        grant: &Grant,
    ) -> Served {
        if grant.era != self.era {
            // The store began again: what it granted before, it does not know of.
            self.lots = Lots::default();
            self.era = grant.era;
            self.version = 0;
        }
        let known = self.known_now(now, terms);
        self.known = known.saturating_add(grant.units).saturating_add(flight.owed);
        self.known = self.known.min(terms.quota().burst());
        self.version = self.version.max(grant.version);
        self.share = u16::try_from(grant.share_ppm / SHARE_PPM).unwrap_or(u16::MAX);
        self.heard_at = now;
        self.flight_until = Instant::default();
        self.owed = self.owed.saturating_sub(flight.owed);
        (self.remaining, self.horizon) = (grant.remaining, grant.horizon);
        let took = now.since(flight.sent);
        self.round_trip = Span(took.0.max(self.round_trip.0 - self.round_trip.0 / 8));
        self.is_scarce = grant.wait > Span::ZERO;
        (self.empty_until, self.deny_until) = match grant.wait {
            Span::ZERO => (Instant::default(), Instant::default()),
            wait => {
                // Units that others were just granted begin to refill when they have lapsed.
                let told = Span(wait.0.saturating_add(2 * SOON_EPOCH.0));
                (now.after(told), now.after(jittered(wait.min(DENY_MAX), who.0 ^ seq)))
            }
        };
        if took < LIFE {
            self.lots.add(flight.sent, grant);
        }
        Served { units: if took < SOON_LIFE { grant.soon } else { 0 } }
    }

    /// Learns that an ask was given up. What it told is lost, and lapses; what it owed is
    /// told again. A reply to it must not be looked at any more.
    pub fn on_lost(&mut self, _flight: Flight) {
        self.flight_until = Instant::default();
    }

    /// Returns all that is held; afterwards, nothing is. `None` if there is nothing to tell.
    pub fn drain(&mut self, now: Instant, terms: &Terms, of: (Key, LimitTag)) -> Option<Want> {
        let worth = self.lots.left(now) > 0 || self.lots.spent() > 0 || self.owed > 0;
        let settled = self.lots.settle(Instant(u64::MAX), u32::MAX);
        let (want, _) = self.ask(now, terms, of, (0, 0), false);
        // Another policy may have more to give.
        (self.empty_until, self.deny_until) = (Instant::default(), Instant::default());
        worth.then_some(Want { settled, units: 0, ..want })
    }

    /// Notes units that were used without a grant, to be charged.
    pub fn owe(&mut self, units: u32) {
        self.owed = self.owed.saturating_add(units);
    }

    /// How its key stands, by what the store said last.
    pub fn standing(&self, now: Instant, terms: &Terms) -> Standing {
        let left = self.lots.left(now);
        let others = u64::from(self.remaining) * u64::from(self.share_ppm()) / 1_000_000;
        let remaining = u64::from(left).saturating_add(others).min(terms.quota().burst().into());
        let reset = self.empty_until.since(now).max(terms.time_for(1));
        Standing { remaining: u32::try_from(remaining).unwrap_or(u32::MAX), reset }
    }

    /// Its share of the limit's demand, as the store last said, in parts per million; 0 if not
    /// known.
    pub const fn share_ppm(&self) -> u32 {
        self.share as u32 * SHARE_PPM
    }

    /// Units that may be spent now without asking.
    pub fn left(&self, now: Instant) -> u32 {
        self.lots.left(now)
    }

    /// Whether it may be dropped as if it had never been. One that owes must not be, or it
    /// would be trusted again; one that holds may be, at the price of what it holds.
    pub fn may_be_dropped(&self, now: Instant) -> bool {
        self.owed == 0 && now >= self.deny_until && now >= self.flight_until
    }

    /// Where requests wait for an ask of another worker, of whose reply theirs does not hear:
    /// whether to refuse them for this long, rather than to ask once more for each worker. Where
    /// there is little, most of them would be refused when the reply is there.
    pub(super) fn refuses_meanwhile(&self) -> Option<Span> {
        self.is_scarce.then(|| self.round_trip.max(Span::from_millis(1)))
    }

    fn decide(&mut self, now: Instant, terms: &Terms, cost: u32) -> Take {
        if cost <= terms.grantable() && self.lots.spend(now, cost) {
            return Take::Admitted;
        }
        let may_trust = terms.reserve() > 0 && self.owed == 0 && self.lots.left(now) == 0;
        match self.refuse_or_ask(now, terms, cost) {
            // What is reserved covers one of each proxy that the store has not heard of.
            Take::Asks if cost == 1 && may_trust => {
                self.owed = 1;
                Take::Trusted
            }
            take => take,
        }
    }

    fn refuse_or_ask(&self, now: Instant, terms: &Terms, cost: u32) -> Take {
        if cost > terms.grantable() {
            Take::Never
        } else if now < self.deny_until {
            Take::Denied { wait: self.empty_until.max(self.deny_until).since(now) }
        } else if now < self.flight_until {
            Take::Waits
        } else {
            Take::Asks
        }
    }

    fn note(&mut self, now: Instant, units: u32) {
        if units > 0 {
            self.demand.note(now, units);
            self.tried = self.tried.saturating_add(units);
        }
    }

    /// Units that should be held: what is wanted in a horizon, if that is worth a lease.
    fn target(&self, now: Instant, terms: &Terms) -> u32 {
        let rate_milli = self.demand.rate_milli(now);
        if terms.quota().burst() < AHEAD_BURST_MIN || rate_milli < AHEAD_RATE_MIN_MILLI {
            return 0;
        }
        let milli = u128::from(rate_milli) * u128::from(self.horizon.0);
        let milli = u64::try_from(milli / 1_000_000_000).unwrap_or(u64::MAX);
        let units = if milli >= LEASE_MIN_MILLI { milli.div_ceil(1_000) } else { 0 };
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// How many units are idle, and of lots that lapse until when.
    fn idle(&self, now: Instant, target: u32) -> (Instant, u32) {
        let left = self.lots.left(now);
        let most = target.saturating_mul(2).saturating_add(2);
        if left > most {
            return (Instant(u64::MAX), left - target);
        }
        let needed = units(self.demand.rate_milli(now), RETURN_AHEAD);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        let lapsing = self.lots.lapsing(now, RETURN_AHEAD);
        (now.after(RETURN_AHEAD), lapsing.saturating_sub(needed))
    }

    fn known_now(&self, now: Instant, terms: &Terms) -> u32 {
        let refilled = terms.units_in(now.since(self.heard_at));
        self.known.saturating_sub(u32::try_from(refilled).unwrap_or(u32::MAX))
    }

    /// What was heard so long ago that the store may rightly have forgotten it.
    fn forget_what_is_old(&mut self, now: Instant, terms: &Terms) -> Due {
        if self.era != 0 && now.since(self.heard_at) > terms.memory() {
            (self.era, self.version, self.known) = (0, 0, 0);
            self.lots = Lots::default();
        }
        Due::Nothing
    }
}

/// Units that come in a span at such a rate.
fn units(rate_milli: u64, span: Span) -> u64 {
    let units = u128::from(rate_milli) * u128::from(span.0) / 1_000_000_000_000;
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// A wait that is three to five quarters as long, evenly; or, where that would be seconds, at most
/// a quarter of a second shorter: holders refused together do not come back together, and who comes
/// back when it was told to is not too early.
fn jittered(wait: Span, chance: u64) -> Span {
    let off = wait.0.min(SECOND.0) / 4;
    let to = if wait < SECOND { off * 2 } else { off };
    Span((wait.0 - off).saturating_add(to * (scatter(chance) % 1_024) / 1_024))
}
