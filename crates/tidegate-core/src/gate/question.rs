//! What a gate asks a store, and what it does with the answer.

use super::Ticket;
use super::debts::Carried;
use crate::ask;
use crate::lease::{self, Sent};
use crate::plan::Applied;
use crate::time::Span;

/// A question to send, and to bring back what came of it with [`Gate::on_reply`](super::Gate).
#[derive(Debug, PartialEq)]
pub struct Question {
    /// Names it.
    pub id: QuestionId,
    /// What to ask.
    pub ask: Asked,
    /// How long to wait for the answer, at most.
    pub waits: Span,
}

/// Stands for a question on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuestionId(pub(super) u32);

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Whether one request may go on: a budget that is asked for each time.
    Exact(ask::Ask),
    /// For units ahead.
    Leases(lease::Ask),
}

/// What a store answers, each to its kind of question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// To [`Asked::Exact`].
    Exact(ask::Reply),
    /// To [`Asked::Leases`].
    Leases(lease::Reply),
}

/// A question on its way.
pub(super) struct OnItsWay {
    pub(super) purpose: Purpose,
    /// With how many replies there had been when it was put.
    pub(super) replies_before: u32,
    /// Whether it waits as long as the policy lets it: who is silent for less may only be slow.
    pub(super) is_patient: bool,
}

/// What a question is for.
pub(super) enum Purpose {
    /// A request's exact limits; and what it carries of debts.
    Request(Ticket, Carried),
    Shadow(Applied),
    Debts(Carried),
    Leases(Sent),
    /// Only to tell: nothing is done with the answer.
    Told,
}
