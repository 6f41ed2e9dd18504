//! Who did what: events of the target `audit`, written at any `log_level` but `off`.
//!
//! They name ids as hashes, and never what these are made of; no token, no cookie, no claim.

use crate::logs::AUDIT;
use std::net::IpAddr;
use tidegate_core::revoke::{Id, Kind};

/// A request, for whoever reads the log.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The caller, by token or certificate.
    pub(super) who: String,
    pub(super) peer: IpAddr,
    /// `x-request-id` as sent, or one made here.
    pub(super) request_id: String,
}

impl Call {
    /// One thing was revoked, lifted, or found not to be revoked.
    pub(super) fn thing(
        &self,
        action: &str,
        outcome: &str,
        (kind, id): (Kind, Id),
        reason: Option<&str>,
    ) {
        tracing::info!(
            target: AUDIT,
            action,
            outcome,
            kind = kind.name(),
            %id,
            reason,
            who = self.who,
            peer = %self.peer,
            request_id = self.request_id,
            "revocations"
        );
    }

    /// So many things were.
    pub(super) fn many(&self, action: &str, outcome: &str, count: u64) {
        tracing::info!(
            target: AUDIT,
            action,
            outcome,
            count,
            who = self.who,
            peer = %self.peer,
            request_id = self.request_id,
            "revocations"
        );
    }
}

/// Somebody was not let in.
pub(super) fn stranger(peer: IpAddr, why: &str, request_id: &str) {
    tracing::warn!(target: AUDIT, outcome = why, %peer, request_id, "not let in");
}
