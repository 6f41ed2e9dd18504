//! What happens to a request, and what its client may be told about it.

use crate::limit::Standing;
use crate::time::Span;
use alloc::vec::Vec;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on. Standings are collected only if the policy shows them on responses
    /// that were let through.
    Allow(Vec<LimitStanding>),
    /// It ends here: a limit refuses it.
    Deny(Denial),
    /// It ends here for what it shows, or does not show.
    Reject(Rejection),
}

/// Why what a request shows is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It was revoked: 401.
    Revoked,
    /// It cannot be read, or lacks what is to be looked at: 401.
    Unfit,
    /// There is no token, and the policy wants one: 401.
    NoToken,
    /// Nobody could tell whether it was revoked, and the policy says `closed`: 503.
    Unknown,
}

/// Why a request ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The kind of refusal, which chooses the status.
    pub reason: Reason,
    /// The limit that fired: of several, the one that will hold longest.
    pub limit: LimitIndex,
    /// The longest wait among all limits that refused. `None`: waiting will not help,
    /// or nobody knows how long.
    pub retry_after: Option<Span>,
    /// Where the client stands with the limits that refused.
    pub standings: Vec<LimitStanding>,
}

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The budget is used up for now: 429.
    Limited,
    /// The request costs more than the budget can ever hold: 429 without `Retry-After`.
    CostTooHigh,
    /// The shared budget is out of reach and the policy says `closed`: 503.
    StoreAway,
}

/// The place of a limit in its policy's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitIndex(pub u16);

/// Where a client stands with one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStanding {
    /// Which limit.
    pub limit: LimitIndex,
    /// The most that it admits at once (`q` of `RateLimit-Policy`).
    pub burst: u32,
    /// The time that an empty budget takes to fill (`w` of `RateLimit-Policy`).
    pub window: Span,
    /// What is left, and when that changes.
    pub standing: Standing,
}
