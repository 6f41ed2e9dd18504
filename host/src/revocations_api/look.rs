//! To look: what is revoked, whether a token is, and how many are.

use super::audit::Call;
use super::query::Query;
use super::reply::{self, Reply, Shown, fault, position, problem};
use super::token::Refused;
use super::{Api, form};
use crate::revocations::Fault;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tidegate_core::revoke::{EVER, Id, Identity, Kind, Record};

/// A page of a list, in the order of ids; there may be fewer on it than wanted, and still more
/// behind.
pub(super) fn list(api: &Api, query: &Query) -> Reply {
    match api.revocations.page(query.kind, query.after, query.limit) {
        Err(why) => fault(&why),
        Ok(page) => {
            let shown: Vec<Shown> = page.records.iter().map(Shown::of).collect();
            let next = page.next.map(|id| id.to_string());
            reply::json(StatusCode::OK, &json!({ "revocations": shown, "next": next }))
        }
    }
}

/// What is known of one id.
pub(super) fn one(api: &Api, id: Id) -> Reply {
    match api.revocations.get(id) {
        Err(why) => fault(&why),
        Ok(None) => problem(StatusCode::NOT_FOUND, "nothing is known of this id"),
        Ok(Some(record)) => reply::json(StatusCode::OK, &Shown::of(&record)),
    }
}

/// How it is.
pub(super) fn stats(api: &Api) -> Reply {
    let stats = api.revocations.stats();
    let kinds = Kind::ALL.iter().zip(stats.records);
    let by_kind: Map<String, Value> =
        kinds.map(|(kind, count)| (kind.name().to_owned(), count.into())).collect();
    let page = json!({
        "revoked": stats.records.iter().sum::<u64>(),
        "by_kind": by_kind,
        "lifted": stats.lifted,
        "waits_for_shared": stats.held,
        "position": position(&stats.position),
        "log": if stats.is_shared { "shared" } else { "this_host" },
        "age_seconds": stats.age.map(|age| age.as_secs_f64()),
        "file_bytes": stats.file_bytes,
        "trouble": api.revocations.trouble().map(|fault| fault.to_string()),
    });
    reply::json(StatusCode::OK, &page)
}

/// Whether a token is revoked, and by which of its ids.
pub(super) fn check(api: &Api, call: &Call, body: &[u8]) -> Reply {
    let token = match form::token(body) {
        Ok(token) => token,
        Err(what) => return problem(StatusCode::BAD_REQUEST, &what),
    };
    let identity = match api.tokens.identity(&token, &api.terms()) {
        Ok(identity) => identity,
        Err(Refused::Unsupported(what) | Refused::Wrong(what)) => {
            return problem(StatusCode::BAD_REQUEST, &what);
        }
    };
    let ids = identity.ids.iter();
    let found: Result<Vec<(Kind, Id, Option<Record>)>, Fault> =
        ids.map(|(kind, id)| Ok((*kind, *id, api.revocations.get(*id)?))).collect();
    let found = match found {
        Ok(found) => found,
        Err(why) => return fault(&why),
    };
    let revokes = |record: &Option<Record>| {
        record.is_some_and(|it| it.revokes(identity.issued_secs) && !is_misplaced(&it, &identity))
    };
    let is_revoked = found.iter().any(|(_, _, record)| revokes(record));
    let ids: Vec<Value> = found
        .iter()
        .map(|(kind, id, record)| {
            let mut page = json!({
                "kind": kind.name(),
                "id": id.to_string(),
                "revoked": revokes(record),
            });
            if let Some(record) = record.filter(|record| !record.lifts) {
                page["before"] = match record.before_secs {
                    EVER => "ever".into(),
                    secs => secs.into(),
                };
                page["since_ms"] = record.at_ms.into();
                if is_misplaced(&record, &identity) {
                    page["other_exp"] = record.until_secs.into();
                }
            }
            page
        })
        .collect();
    call.many("check", if is_revoked { "revoked" } else { "not_revoked" }, 1);
    let page = json!({ "revoked": is_revoked, "issued": identity.issued_secs, "ids": ids });
    reply::json(StatusCode::OK, &page)
}

/// Whether a record says another `exp` than its token does: proxies look for it by the token's,
/// and once images hold it they may not find it.
fn is_misplaced(record: &Record, identity: &Identity) -> bool {
    record.by_exp && record.kind.shows_end() && Some(record.until_secs) != identity.expires_secs
}
