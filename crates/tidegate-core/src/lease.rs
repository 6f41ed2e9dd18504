//! Our share of a global budget: settled adaptive leases.
//!
//! A proxy that asked the store for each request would pay a round trip for each. Here it
//! takes some units ahead, a *lease*, and spends them with no I/O, and yet what all proxies
//! together let through conforms to the quota in every window of every length: at most
//! `burst + rate × t` of a token bucket in any time `t`, at most `count` of a sliding window
//! in any period. Nothing is estimated in that; estimates only size the leases.
//!
//! Two state machines, one at each end of the wire, and messages between them:
//!
//! - [`Holder`]: what one proxy process holds of one key. It spends, or says what to ask.
//! - [`Record`]: what the store knows of one key, at most [`RECORD_BYTES`] bytes. It settles,
//!   and grants.
//! - [`Ask`], [`Want`], [`Reply`], [`Grant`], [`Away`]: between them; [`wire`](crate::wire) writes them.
//! - [`Purse`]: what one worker took of its process's holder, so that it spends without
//!   touching what workers share.
//! - [`Replays`]: which messages a store has had already, so that none settles twice.
//! - [`Till`]: all of one worker's purses and asks, and the holders that it shares through
//!   compare-and-swap ([`Shelf`]): what a gate decides with.
//! - [`Pool`]: the holders of a process, for a shell that has one memory.
//! - [`Store`]: many records in bounded memory.
//!
//! ## Why it is exact
//!
//! Call *outstanding* the units that were granted and of which the store does not know that
//! they were spent or came back. The record keeps, for every key:
//!
//! ```text
//! level + outstanding ≤ burst        level: what it may still grant
//! ```
//!
//! A grant moves units from level to outstanding. Time refills the level, but never above
//! `burst − outstanding`. A holder tells what it spent, which ends being outstanding and
//! leaves room to refill; or returns, which moves units back. So whatever can still be
//! spent without asking, plus what can still be granted, never exceeds the burst, and what
//! is admitted in a time `t` from any moment on is at most that plus what refills in `t`.
//! A sliding window counts outstanding units as if they were spent this moment, always; they
//! enter the ring of sub-counters when they are settled, which is after they were spent.
//!
//! What is lost on the way only leaves more outstanding than there is. The rest is order:
//!
//! 1. Time first, **under the units that were outstanding then**: a unit may have been
//!    spent until the moment it lapsed, so what it kept from refilling begins to refill at
//!    that moment, not when the record was last written.
//! 2. Then settlements, each out of exactly the epoch that granted it; one for an epoch
//!    that has lapsed is ignored, for its units have begun to refill.
//! 3. Then debts, which were used without a grant; then the grant.
//!
//! A unit may be spent until [`LIFE`] after its holder asked, by the holder's own monotone
//! clock; the record counts it for at least [`LAPSE`] after the grant. Spans cross the wire,
//! never dates, so no two clocks are compared; the difference covers clocks that disagree
//! about the length of a second by [`DRIFT_MAX_PPM`].
//!
//! Units that are granted to requests which are waiting for them are spent as the reply
//! comes, or never: they are outstanding for [`SOON_LIFE`] and need no settlement, so a key
//! that is asked for once costs one message. That is what leases become when the budget is
//! smaller than the fleet: take one and use it now.
//!
//! ## When the store forgets
//!
//! A fail-over may lose the last second of grants. A record whose stamp is not that of the
//! history its store is part of begins a new *era*: nothing is left to grant, and all that
//! could have been granted is taken to be outstanding, until it would have lapsed. As at
//! most half the burst is ever outstanding for longer than [`SOON_LIFE`], that costs at most
//! one burst, once. Settlements of another era are ignored. See [`Record::answer`].
//!
//! ## What it does not cover
//!
//! - A clock of the store that is set *forward* by `t` gives away `rate × t`, and what is
//!   outstanding: at most half the burst. One that goes back costs time, and gives nothing.
//! - A store that has forgotten a key, because it made room for others or because all of the key
//!   was written in the second that a fail-over lost, gives up to a burst again, until a holder
//!   comes that knows better; or, for 10 s after a fail-over, nothing (see [`Place::began`]).
//! - Shares of an outage are let through on trust and charged when the store is back. Until then
//!   more than a burst may come at once: what was leased is still spent while shares fill up, and
//!   who comes back first finds a budget that others have not paid for yet. If all shares were
//!   told at one moment, that is two and a half bursts at the worst. Where demand has gone from
//!   proxy to proxy, each may have been told nearly all, and has as much. Who alone cannot reach
//!   the store has its share on top, until it can pay; who learns late that it is back, so long.
//! - Proxies are believed. One that lies about what it spent is granted more.
//!
//! ## Source
//!
//! Prepaid rights that are moved by messages are O'Neil's escrow method (1986); sizing by a
//! fraction of what is left is guided self-scheduling (Polychronopoulos and Kuck, 1987);
//! the bucket is GCRA (see [`token_bucket`](crate::limit::token_bucket)).

mod demand;
mod holder;
mod ledger;
mod lots;
mod message;
mod outstanding;
mod packed;
mod pool;
mod purse;
mod record;
mod replay;
mod shelf;
mod store;
mod terms;
mod till;

pub use holder::{Due, Flight, Holder, Served, Take};
pub use lots::{LOTS_MAX, Purchase};
pub use message::{Ask, Away, Grant, HolderId, Reply, SETTLED_MAX, Settled, WANTS_MAX, Want};
pub use packed::{HOLDER_BYTES, RECORD_BYTES};
pub use pool::{Call, Flights, Pool};
pub use purse::Purse;
pub use record::{Place, Record};
pub use replay::{HOLDERS_MAX, Heard, Replays};
pub use shelf::Shelf;
pub use store::Store;
pub use terms::Terms;
pub use till::{Budget, Queue, Sent, Till};

use crate::time::Span;

/// Units are outstanding by the epoch in which they were granted.
pub const EPOCH: Span = Span::from_millis(250);

/// Epochs whose units are outstanding: the present one and those before it.
pub(crate) const EPOCHS: usize = 5;

/// How long at least the store counts units as outstanding: until five epochs from
/// the beginning of the one that granted them.
pub const LAPSE: Span = Span(EPOCH.0 * (EPOCHS as u64 - 1));

/// How long after it asked a holder may spend what it was granted.
pub const LIFE: Span = Span(LAPSE.0 - LAPSE.0 / 200);

/// How far two clocks may disagree about the length of a second: by what [`LIFE`] is
/// shorter than [`LAPSE`]. Quartz is good for 100 ppm, a clock being slewed for 500.
pub const DRIFT_MAX_PPM: u64 = 5_000;

/// Units for requests that wait are outstanding by shorter epochs, the present one and
/// the one before.
pub const SOON_EPOCH: Span = Span(62_500_000);

/// How long after it asked a holder may hand units to the requests that waited for them: a
/// reply that takes longer brings them nothing. Three times the default deadline.
pub const SOON_LIFE: Span = Span::from_millis(60);

/// The longest a lease is meant to last, and so the time between two asks of a calm key.
pub const HORIZON_MAX: Span = Span::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_holder_may_spend_is_still_counted() {
        let shrunk = |span: Span| span.0 + span.0 * DRIFT_MAX_PPM / 1_000_000;
        assert!(shrunk(LIFE) <= LAPSE.0);
        assert!(shrunk(SOON_LIFE) <= SOON_EPOCH.0);
        assert!(EPOCH.0.is_multiple_of(1_000) && SOON_EPOCH.0.is_multiple_of(1_000));
    }
}
