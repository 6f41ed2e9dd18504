//! What proxies ask about revocations, from bytes to what is said.
//!
//! Most of it is waiting: a proxy asks what is new, and is told when there is something. A poll
//! that waits takes no place of those that asks have; there are as many places for polls as for
//! connections, and one that finds none is answered at once.

use super::Site;
use super::outcome::Outcome;
use crate::revocations::Unready;
use std::time::Duration;
use tidegate_core::wire::{Kind, revoke};
use tokio::sync::SemaphorePermit;

/// The longest wait: connections that nobody uses are given up after a minute on many ways.
const POLL_MAX: Duration = Duration::from_secs(50);

/// Answers an ask of one of these kinds. `place` is given back while there is nothing to do.
pub(super) async fn outcome(
    site: &Site,
    kind: Kind,
    body: &[u8],
    place: SemaphorePermit<'_>,
    patience: Option<Duration>,
) -> Outcome {
    match kind {
        Kind::NewsAsk => {
            drop(place);
            news(site, body, patience.unwrap_or_default()).await
        }
        Kind::ChunkAsk => piece(site, body),
        _ => check(site, body),
    }
}

async fn news(site: &Site, body: &[u8], patience: Duration) -> Outcome {
    let ask = match revoke::decode_news_ask(body) {
        Ok(ask) => ask,
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    let Some(revocations) = site.revocations.get() else { return Outcome::NoRevocations };
    let room = site.polls.try_acquire();
    let patience = match room {
        Ok(_) if site.clock.goes_by_itself() => patience.min(POLL_MAX),
        // A clock that is given stands still until it is answered.
        Ok(_) | Err(_) => Duration::ZERO,
    };
    let told = tokio::select! {
        told = revocations.news(&ask, patience) => told,
        // Whoever is told to stop keeps nobody waiting.
        () = site.is_told_to_stop() => revocations.news(&ask, Duration::ZERO).await,
    };
    match told {
        Ok(news) => Outcome::News(Box::new(news)),
        Err(Unready) => Outcome::Unready,
    }
}

fn piece(site: &Site, body: &[u8]) -> Outcome {
    let ask = match revoke::decode_chunk_ask(body) {
        Ok(ask) => ask,
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    let Some(revocations) = site.revocations.get() else { return Outcome::NoRevocations };
    revocations.chunk(&ask).map_or(Outcome::NoPiece, Outcome::Piece)
}

fn check(site: &Site, body: &[u8]) -> Outcome {
    let check = match revoke::decode_check(body) {
        Ok(check) => check,
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    let Some(revocations) = site.revocations.get() else { return Outcome::NoRevocations };
    match revocations.checked(&check.ids) {
        Ok(checked) => Outcome::Checked(checked),
        Err(fault) => Outcome::NoLedger(fault),
    }
}
