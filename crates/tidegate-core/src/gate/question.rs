//! What a gate asks a store, and what it does with the answer.

use super::Ticket;
use super::debts::Carried;
use crate::ask;
use crate::lease::{self, Sent};
use crate::plan::Applied;
use crate::revoke::Position;
use crate::revoke::message::{Check, Checked, ChunkAsk, NewsAsk};
use crate::time::{Instant, Span};
use alloc::vec::Vec;

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
    /// Whether these are revoked.
    Check(Check),
    /// What is newly revoked: the host answers when there is something, or shortly before the
    /// question's time is over.
    News(NewsAsk),
    /// A piece of an image.
    Chunk(ChunkAsk),
}

/// What a store answers, each to its kind of question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// To [`Asked::Exact`].
    Exact(ask::Reply),
    /// To [`Asked::Leases`].
    Leases(lease::Reply),
    /// To [`Asked::Check`].
    Checked(Checked),
    /// To [`Asked::News`], as it came: other workers read the same bytes.
    News(Vec<u8>),
    /// To [`Asked::Chunk`], as it came.
    Chunk(Vec<u8>),
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
    /// Whether what a request shows is revoked.
    Check(Ticket),
    /// What came after this position; and when it was asked.
    News(Position, Instant),
    Chunk(ChunkAsk),
    /// Only to tell: nothing is done with the answer.
    Told,
}

impl Purpose {
    /// Whether no request waits for it, and its failing says nothing of how requests would fare.
    pub(super) const fn is_pull(&self) -> bool {
        matches!(self, Self::News(..) | Self::Chunk(_))
    }
}
