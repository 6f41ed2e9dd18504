//! How an ask ended, and what is said of it.

use super::asks::BODY_BYTES_MAX;
use super::routes::{Reply, text};
use crate::revocations::Fault;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use std::time::Duration;
use tidegate_core::plugin::Resolved;
use tidegate_core::revoke::message::{Checked, Chunk, News};
use tidegate_core::wire::{self, ASK_TYPE, Malformed, plugin, revoke};
use tidegate_core::{ask, lease};
use tidegate_redis::Error;

/// A reply, or the reason that there is none.
pub(super) enum Outcome {
    Answered(ask::Reply),
    /// An ask for leases; with the reason, where the store gave no answer to a part of it.
    Leased(lease::Reply, Option<Error>),
    /// The store gave no answer to it, or to a part, and then this host is to admit by itself:
    /// the reply's bytes.
    FailedOpen(Vec<u8>, Error),
    /// As many asks as may be are in flight.
    Busy,
    /// As many asks for leases of this proxy are in flight as may be now.
    BusyProxy,
    /// This ask for leases has come before.
    Again,
    /// The body is no ask.
    Malformed(Malformed),
    /// The body says that it is something else.
    NotAnAsk,
    /// The body is longer than any ask.
    TooLarge,
    /// The body did not come in time, or not whole.
    Incomplete,
    /// The store gave no answer; for how long by now, if it is away.
    NoStore(Error, Option<Duration>),
    /// Of revocations: what is new.
    News(Box<News>),
    /// A piece of an image.
    Piece(Chunk),
    /// Whether some ids are revoked.
    Checked(Checked),
    /// The image is not here, or has no such piece.
    NoPiece,
    /// There are no images yet.
    Unready,
    /// Revocations cannot be read.
    NoLedger(Fault),
    /// Revocations are not kept here.
    NoRevocations,
    /// What a plugin says, or why it does not; and whether the proxy that asks runs it itself.
    Resolved(Resolved, bool),
}

impl Outcome {
    /// Its name in metrics and logs: one of a fixed few.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Answered(reply) if reply.admits() => "admitted",
            Self::Answered(_) => "refused",
            Self::Leased(_, None) => "leased",
            Self::Leased(_, Some(_)) => "leased_in_part",
            Self::FailedOpen(..) => "failed_open",
            Self::Busy => "busy",
            Self::BusyProxy => "busy_proxy",
            Self::Again => "again",
            Self::Malformed(_) => "malformed",
            Self::NotAnAsk => "not_an_ask",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
            Self::NoStore(..) => "no_store",
            Self::News(_) => "news",
            Self::Piece(_) => "piece",
            Self::Checked(_) => "checked",
            Self::NoPiece => "no_piece",
            Self::Unready => "unready",
            Self::NoLedger(_) => "no_ledger",
            Self::NoRevocations => "no_revocations",
            Self::Resolved(Ok(_), _) => "resolved",
            Self::Resolved(Err(_), _) => "unresolved",
        }
    }

    /// Why the store gave no answer, or none to a part.
    pub(super) const fn store_error(&self) -> Option<&Error> {
        match self {
            Self::NoStore(error, _) | Self::FailedOpen(_, error) | Self::Leased(_, Some(error)) => {
                Some(error)
            }
            _ => None,
        }
    }

    pub(super) fn reply(&self) -> Reply {
        match self {
            Self::Answered(reply) => whole(wire::encode_reply(reply)),
            Self::Leased(reply, _) => whole(wire::encode_lease_reply(reply)),
            Self::FailedOpen(bytes, _) => whole(bytes.clone()),
            Self::Busy => text(StatusCode::SERVICE_UNAVAILABLE, "too many asks in flight"),
            Self::BusyProxy => {
                text(StatusCode::SERVICE_UNAVAILABLE, "too many asks of this proxy in flight")
            }
            Self::Again => text(StatusCode::CONFLICT, "this ask has come before"),
            Self::Malformed(malformed) => {
                text(StatusCode::BAD_REQUEST, &format!("malformed ask: {malformed}"))
            }
            Self::NotAnAsk => text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                &format!("an ask's content-type is {ASK_TYPE}"),
            ),
            Self::TooLarge => text(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("an ask has at most {BODY_BYTES_MAX} bytes"),
            ),
            Self::Incomplete => text(StatusCode::REQUEST_TIMEOUT, "the ask did not come in time"),
            Self::NoStore(error, away) => {
                let mut response = text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
                if let Some(away) = away {
                    let millis = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
                    response.headers_mut().insert(wire::AWAY_MS, HeaderValue::from(millis));
                }
                response
            }
            Self::News(news) => whole(revoke::encode_news(news)),
            Self::Piece(piece) => {
                whole(revoke::encode_chunk(piece.image, piece.offset, &piece.bytes))
            }
            Self::Checked(checked) => whole(revoke::encode_checked(checked)),
            Self::Resolved(resolved, is_own) => whole(plugin::encode_resolved(resolved, *is_own)),
            Self::NoPiece => text(StatusCode::NOT_FOUND, "this image is not here, any more or yet"),
            Self::Unready => {
                text(StatusCode::SERVICE_UNAVAILABLE, "images of revocations are being made")
            }
            Self::NoLedger(fault) => text(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
            Self::NoRevocations => text(
                StatusCode::NOT_IMPLEMENTED,
                "this host keeps no revocations: set revocations.data_dir",
            ),
        }
    }
}

fn whole(body: Vec<u8>) -> Reply {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(ASK_TYPE));
    response
}
