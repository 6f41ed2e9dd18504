//! How durable a revocation has to be, and how that went.

use super::Fault;
use tidegate_core::revoke::Position;

/// How far a revocation must have got before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Durable here and, if hosts share a log, in that log.
    #[default]
    Shared,
    /// Durable here is enough: if the shared log is away, it gets there when it is back.
    ThisHost,
    /// As `Shared`, and as many replicas of the shared log's server have it.
    Replicas(u8),
}

/// A revocation that was acknowledged: it is durable on this host, whatever happens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who knows the log up to here knows of it. If it is only [held](Reach::Held), that is where
    /// the log was.
    pub position: Position,
    /// Who else has it.
    pub reach: Reach,
}

/// Who has an acknowledged revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This host, and there are no others: the log is its own.
    ThisHost,
    /// The log that all hosts share, and so many replicas of its server, if that was asked for.
    Shared {
        /// Fewer than were asked for, perhaps: the revocation holds all the same.
        replicas: u32,
    },
    /// This host, and its proxies: the shared log is away, and gets it when it is back.
    Held,
}

/// Why a revocation was not accepted. Nothing is known of it then, or (after
/// [`Self::Unknown`]) it may be: sending it again does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// No record, or more than [`ENTRY_RECORDS_MAX`].
    Count(usize),
    /// The file cannot be written: full, read-only, damaged.
    Fault(Fault),
    /// The shared log is away, for this reason, and durable here alone was not enough.
    Away(String),
    /// It is not known whether the shared log has it.
    Unknown(String),
    /// As many records as may already wait for the shared log.
    HeldMax,
    /// Replicas were asked for, and the log is this host's own.
    NoReplicas,
    /// The process is ending.
    Ending,
}

impl NotAccepted {
    /// Its name in metrics: one of a fixed few.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Count(_) => "count",
            Self::Fault(fault) => fault.kind(),
            Self::Away(_) => "away",
            Self::Unknown(_) => "unknown",
            Self::HeldMax => "held_max",
            Self::NoReplicas => "no_replicas",
            Self::Ending => "ending",
        }
    }
}
