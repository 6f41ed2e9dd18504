//! One ask, from bytes to bytes.

use super::outcome::Outcome;
use super::routes::{Reply, id_text};
use super::{Site, leases, resolves, revokes};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tidegate_core::ask::{self, Answer, Ask};
use tidegate_core::limit::State;
use tidegate_core::wire::plugin::RESOLVE_BYTES_MAX;
use tidegate_core::wire::{self, ASK_BYTES_MAX, ASK_TYPE, Kind, LEASE_ASK_BYTES_MAX};

/// The longest name of a proxy that is told from others.
const PROXY_BYTES_MAX: usize = 64;

/// The longest ask, but for those to plugins, which have facts in them.
pub(super) const BODY_BYTES_MAX: usize =
    if ASK_BYTES_MAX > LEASE_ASK_BYTES_MAX { ASK_BYTES_MAX } else { LEASE_ASK_BYTES_MAX };
const _: () = assert!(RESOLVE_BYTES_MAX >= BODY_BYTES_MAX);

/// A request's body: from a connection, or from a filter in this very process.
pub(super) trait Asked: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> {}

impl<B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>> Asked for B {}

pub(super) async fn answer<B: Asked>(site: &Site, request: Request<B>) -> Reply {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let proxy = head.headers.get(wire::PROXY).map_or(&b""[..], |name| name.as_bytes());
    let proxy = proxy.get(..PROXY_BYTES_MAX).unwrap_or(proxy);
    let is_ask = head.headers.get(CONTENT_TYPE).is_some_and(|value| value == ASK_TYPE);
    let outcome = match is_ask {
        true => outcome(site, body, proxy, patience(&head.headers)).await,
        false => Outcome::NotAnAsk,
    };
    let took = start.elapsed();
    site.metrics.ask(&outcome, took);
    let reply = outcome.reply();
    tracing::debug!(
        request_id = id_text(&head.headers, "x-request-id"),
        traceparent = id_text(&head.headers, "traceparent"),
        outcome = outcome.name(),
        status = reply.status().as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "ask"
    );
    reply
}

/// How long the store may take, so that the proxy hears of it if it takes longer: what the
/// proxy waits, less a fifth, or 2 ms if that is more, for the way to here and back.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let waits_ms: u32 = headers.get(wire::WAITS_MS)?.to_str().ok()?.parse().ok()?;
    let waits = Duration::from_millis(u64::from(waits_ms));
    Some(waits.saturating_sub((waits / 5).max(Duration::from_millis(2))))
}

async fn outcome<B: Asked>(
    site: &Site,
    body: B,
    proxy: &[u8],
    patience: Option<Duration>,
) -> Outcome {
    let Ok(place) = site.in_flight.try_acquire() else { return Outcome::Busy };
    let body = match read(site, body).await {
        Ok(body) => body,
        Err(outcome) => return outcome,
    };
    let kind = wire::kind(&body);
    if body.len() > BODY_BYTES_MAX && kind != Some(Kind::Resolve) {
        return Outcome::TooLarge;
    }
    match kind {
        Some(Kind::LeaseAsk) => leases::outcome(site, &body, proxy, patience).await,
        Some(kind @ (Kind::NewsAsk | Kind::ChunkAsk | Kind::Check)) => {
            revokes::outcome(site, kind, &body, place, patience).await
        }
        Some(Kind::Resolve) => resolves::outcome(site, &body, patience).await,
        // What is none of these is told what is wrong with it as an exact ask.
        _ => exact(site, &body, proxy, patience).await,
    }
}

async fn exact(site: &Site, body: &[u8], proxy: &[u8], patience: Option<Duration>) -> Outcome {
    let ask = match wire::decode_ask(body) {
        Ok(ask) => Arc::new(ask),
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    // Demand is what was asked for, whether or not it can be answered.
    let shares = shares(site, &ask, proxy);
    let owed = ask.items.iter().map(|item| u64::from(item.owed)).sum();
    match site.store.answer(site.clock.elapsed(), &ask, patience).await {
        Ok(mut reply) => {
            site.metrics.charged_back(owed);
            for (answer, share) in reply.answers.iter_mut().zip(shares) {
                answer.share_ppm = share;
            }
            Outcome::Answered(reply)
        }
        Err(error) if site.fail_open => {
            Outcome::FailedOpen(wire::encode_reply(&as_if_fresh(&ask)), error)
        }
        Err(error) => {
            let away = site.store.away_for(&ask, &error);
            Outcome::NoStore(error, away)
        }
    }
}

/// The reply if nobody had asked before: only what never fits is refused.
fn as_if_fresh(ask: &Ask) -> ask::Reply {
    let answers = ask.items.iter().map(|item| Answer {
        outcome: item.quota.check(&State::default(), tidegate_core::time::Instant(0), item.cost),
        share_ppm: 0,
    });
    ask::Reply { answers: answers.collect() }
}

async fn read<B: Asked>(site: &Site, body: B) -> Result<Bytes, Outcome> {
    if body.size_hint().lower() > RESOLVE_BYTES_MAX as u64 {
        return Err(Outcome::TooLarge);
    }
    let whole = Limited::new(body, RESOLVE_BYTES_MAX).collect();
    match tokio::time::timeout(site.bounds.request_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Outcome::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Outcome::Incomplete),
    }
}

fn shares(site: &Site, ask: &Ask, proxy: &[u8]) -> Vec<u32> {
    let mut shares = site.shares.lock().unwrap_or_else(PoisonError::into_inner);
    let now = site.clock.now();
    ask.items.iter().map(|item| shares.record(item.limit, proxy, item.cost, now)).collect()
}
