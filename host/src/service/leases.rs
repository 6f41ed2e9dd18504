//! One ask for leases, from bytes to grants.
//!
//! Its keys may lie on several shards of a cluster, so some may be answered and others not: the
//! reply says so of each. Only if none was is there no reply.
//!
//! An ask that comes twice is refused, for what it settles must be settled once. Which have come
//! each host remembers by itself, of every worker of every proxy: so a worker's first ask to a
//! host settles nothing, and what it told lapses (see [`Replays`](tidegate_core::lease::Replays)).
//! It costs a worker that once for each host that it comes to, however often it changes among
//! them later; `tidegate_lease_asks_unsettled` counts it. What a mesh sends again must come to
//! the host that had it, and is answered 409 there: another host would settle it again if it
//! knows that worker. So nothing on the way may send asks again: see `host/deploy/README.md`.

use super::Site;
use super::outcome::Outcome;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tidegate_core::lease::{Ask, Away, Grant, Reply, Want};
use tidegate_core::time::Span;
use tidegate_core::wire;
use tidegate_redis::Error;

pub(super) async fn outcome(
    site: &Site,
    body: &[u8],
    proxy: &[u8],
    patience: Option<Duration>,
) -> Outcome {
    let ask = match wire::decode_lease_ask(body) {
        Ok(ask) => Arc::new(ask),
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    let free = site.in_flight.available_permits();
    let Some(_turn) = site.turns.take(ask.holder.process(), free) else {
        return Outcome::BusyProxy;
    };
    let shares = shares(site, &ask, proxy);
    let grants = site.store.lease(site.clock.elapsed(), &ask, patience).await;
    let Some(mut grants) = grants else { return Outcome::Again };
    for (grant, share_ppm) in grants.iter_mut().zip(shares) {
        if let Ok(grant) = grant {
            grant.share_ppm = share_ppm;
        }
    }
    site.metrics.leases(&ask, &grants);
    conclude(site, &ask, grants)
}

fn conclude(site: &Site, ask: &Ask, grants: Vec<Result<Grant, Error>>) -> Outcome {
    let away = |want: &Want, error: &Error| site.store.away_for_key(want.key, error);
    let Some(error) = grants.iter().find_map(|grant| grant.as_ref().err()).cloned() else {
        let grants = grants.into_iter().flatten().map(Ok).collect();
        return Outcome::Leased(Reply { seq: ask.seq, grants }, None);
    };
    let each = || ask.wants.iter().zip(&grants);
    if !site.fail_open && grants.iter().all(Result::is_err) {
        let away = each().filter_map(|(want, grant)| away(want, grant.as_ref().err()?)).max();
        return Outcome::NoStore(error, away);
    }
    let said = each().map(|(want, grant)| match grant {
        Ok(grant) => Ok(*grant),
        Err(_) if site.fail_open => Ok(as_if_free(want)),
        Err(error) => Err(Away(span(away(want, error).unwrap_or_default()))),
    });
    let reply = Reply { seq: ask.seq, grants: said.collect() };
    match site.fail_open {
        true => Outcome::FailedOpen(wire::encode_lease_reply(&reply), error),
        false => Outcome::Leased(reply, Some(error)),
    }
}

/// What requests that wait get where everything is admitted: all that is wanted for them, and
/// nothing to go on with.
///
/// Where they can only be served by a lease, it is of an epoch that has long lapsed, so that the
/// store, when it is back, takes nothing that is told of it. All else stays as the holder knows
/// it. That what it owes is then taken for charged is what failing open means.
fn as_if_free(want: &Want) -> Grant {
    let units = match (want.soon, want.least) {
        (0, 0) => 0,
        (0, _) => want.units,
        (soon, _) => soon,
    };
    let Want { soon, era, version, rate_milli, .. } = *want;
    Grant { units, soon, era, version, rate_milli, ..Grant::default() }
}

/// The proxy's shares of what it asks for. Demand is what was asked for, whether or not it can
/// be answered.
fn shares(site: &Site, ask: &Ask, proxy: &[u8]) -> Vec<u32> {
    let mut shares = site.shares.lock().unwrap_or_else(PoisonError::into_inner);
    let now = site.clock.now();
    ask.wants.iter().map(|want| shares.record(want.limit, proxy, want.tried, now)).collect()
}

fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
