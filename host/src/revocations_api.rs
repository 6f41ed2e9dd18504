//! Where tokens are revoked: an HTTP listener of its own, for issuers and operators.
//!
//! - [`door`]: the listener, its connections and their bounds
//! - [`callers`]: who may come in; [`attempts`]: and how often they may try, and ask
//! - [`routes`]: which request is for whom; [`reply`]: how it is answered
//! - [`body`]: what a request holds, within bounds
//! - [`fields`], [`asked`], [`bounds`]: one revocation as JSON, what it means, and for how long
//! - [`form`], [`token`]: a token, as RFC 7009 hands it over, and what of it is revoked
//! - [`change`]: to revoke and to lift; [`in_force`]: so that it holds; [`look`]: to list, check and
//!   count
//! - [`import`], [`export`]: all of them, line by line
//! - [`receivers`]: what OpenID providers tell by themselves
//! - [`audit`]: who did what, without any secret
//!
//! What can be asked here is described in `host/deploy/REVOCATION.md`.

mod asked;
mod attempts;
mod audit;
mod batches;
mod body;
mod bounds;
mod callers;
mod change;
mod counts;
mod door;
mod export;
mod fields;
mod form;
mod import;
mod in_force;
mod look;
mod query;
mod receivers;
mod reply;
mod routes;
mod splitter;
mod token;
pub(crate) mod when;
mod wrong;

use crate::config::RevocationsApi;
use crate::logs::AUDIT;
use crate::revocations::Revocations;
use asked::Terms;
use attempts::Attempts;
use callers::{Callers, Stranger};
pub(crate) use counts::Counts;
pub(crate) use door::Door;
use receivers::Receivers;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use token::Tokens;
use tokio::sync::Semaphore;

/// How long things live, by which revocations are judged and completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    /// How far clocks may be apart.
    pub(crate) leeway: Duration,
    /// The longest life of a token.
    pub(crate) token: Duration,
    /// The longest life of a session, and of a token that does not say.
    pub(crate) session: Duration,
    /// How long anything with an end may be kept.
    pub(crate) retention: Duration,
}

/// What every request shares.
pub(crate) struct Api {
    revocations: Arc<Revocations>,
    lives: Lives,
    callers: Callers,
    receivers: Receivers,
    /// Attempts to come in without the right credentials.
    wrong: Attempts,
    /// Requests of those who came in.
    requests: Attempts,
    tokens: Tokens,
    imports: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    connections_max: usize,
    counts: Counts,
}

impl Api {
    /// For these revocations.
    ///
    /// # Errors
    ///
    /// The first file that is not what it should be, as a message; or a claim's name.
    pub(crate) fn new(
        settings: &RevocationsApi,
        lives: Lives,
        revocations: Arc<Revocations>,
        counts: Counts,
    ) -> Result<Arc<Self>, String> {
        let callers = Callers::new(settings)?;
        if callers.is_open() {
            tracing::warn!(
                "revocations.api: whoever is on this machine may revoke: there is neither token_file \
                 nor tls.client_ca_file"
            );
        } else if settings.tls.is_none() && !settings.listen.ip().is_loopback() {
            tracing::warn!(
                "revocations.api: tokens come without TLS, for anybody on the way to read"
            );
        }
        Ok(Arc::new(Self {
            revocations,
            lives,
            callers,
            receivers: Receivers::new(settings)?,
            wrong: Attempts::wrong(),
            requests: Attempts::requests(settings.requests_per_second),
            tokens: Tokens::new(&settings.claims)?,
            imports: Arc::new(Semaphore::new(settings.imports_max)),
            exports: Arc::new(Semaphore::new(export::EXPORTS_MAX)),
            connections_max: settings.connections_max,
            counts,
        }))
    }

    fn terms(&self) -> Terms {
        Terms {
            now_ms: when::now_ms(),
            leeway_secs: self.lives.leeway.as_secs(),
            token_ttl_secs: self.lives.token.as_secs(),
            session_ttl_secs: self.lives.session.as_secs(),
            retention_secs: self.lives.retention.as_secs(),
            id_keys: self.revocations.id_keys(),
        }
    }

    fn no_handshake(&self, peer: IpAddr, why: &str) {
        self.counts.stranger(Stranger::NoHandshake);
        if self.wrong.of_peer(peer).is_ok() {
            let outcome = Stranger::NoHandshake.name();
            tracing::warn!(target: AUDIT, outcome, %peer, why, "not let in");
        }
    }
}
