//! What a gate asks a store, and what it does with the answer.

use super::Ticket;
use super::debts::Carried;
use crate::ask;
use crate::lease::{self, Sent};
use crate::plan::Applied;
use crate::plugin::{Resolve, Resolved};
use crate::revoke::Position;
use crate::revoke::message::{Check, Checked, ChunkAsk, NewsAsk};
use crate::time::{Instant, Span};
use crate::wire::{self, Kind, Malformed, plugin, revoke};
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
    /// What a plugin says of a request.
    Resolve(Resolve),
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
    /// To [`Asked::Resolve`].
    Resolved {
        /// What the plugin says.
        said: Resolved,
        /// Whether the proxy that asked runs it itself.
        is_own: bool,
    },
}

impl Asked {
    /// Itself as bytes, and of which kind its answer is.
    pub fn encode(&self) -> (Vec<u8>, Kind) {
        match self {
            Self::Exact(ask) => (wire::encode_ask(ask), Kind::Reply),
            Self::Leases(ask) => (wire::encode_lease_ask(ask), Kind::LeaseReply),
            Self::Check(check) => (revoke::encode_check(check), Kind::Checked),
            Self::News(ask) => (revoke::encode_news_ask(ask), Kind::News),
            Self::Chunk(ask) => (revoke::encode_chunk_ask(ask), Kind::Chunk),
            Self::Resolve(ask) => (plugin::encode_resolve(ask), Kind::Resolved),
        }
    }
}

impl Answered {
    /// The longest answer of a kind: more need not be read.
    pub const fn bytes_max(kind: Kind) -> usize {
        match kind {
            Kind::LeaseReply => wire::LEASE_REPLY_BYTES_MAX,
            Kind::Checked => revoke::CHECKED_BYTES_MAX,
            Kind::News => revoke::NEWS_BYTES_MAX,
            Kind::Chunk => revoke::CHUNK_MESSAGE_BYTES_MAX,
            Kind::Resolved => plugin::RESOLVED_BYTES_MAX,
            _ => wire::REPLY_BYTES_MAX,
        }
    }

    /// Reads the answer of a kind. News and chunks are read when they are heard.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for bytes that are no answer of this kind, or more than one can have.
    pub fn decode(kind: Kind, bytes: Vec<u8>) -> Result<Self, Malformed> {
        let most = Self::bytes_max(kind);
        if bytes.len() > most {
            return Err(Malformed { what: "longer than any answer", at: most });
        }
        match kind {
            Kind::LeaseReply => wire::decode_lease_reply(&bytes).map(Self::Leases),
            Kind::Checked => revoke::decode_checked(&bytes).map(Self::Checked),
            Kind::News => Ok(Self::News(bytes)),
            Kind::Chunk => Ok(Self::Chunk(bytes)),
            Kind::Resolved => {
                let (said, is_own) = plugin::decode_resolved(&bytes)?;
                Ok(Self::Resolved { said, is_own })
            }
            _ => wire::decode_reply(&bytes).map(Self::Exact),
        }
    }
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
    /// What the plugin of this place says of a request.
    Resolve(Ticket, u8),
    /// Only to tell: nothing is done with the answer.
    Told,
}

impl Purpose {
    /// Whether no request waits for it, and its failing says nothing of how requests would fare.
    pub(super) const fn is_pull(&self) -> bool {
        matches!(self, Self::News(..) | Self::Chunk(_))
    }
}
