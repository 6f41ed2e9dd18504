//! To revoke, and to lift: a token as RFC 7009 hands it over, or one to a thousand things in JSON.
//!
//! A list is judged as a whole before any of it is done. Whatever is sent again does no harm:
//! records of one id go together, and the answer is the same but for the place in the log.

use super::asked::{self, Terms, Thing, Wish};
use super::audit::Call;
use super::fields::{Field, Fields};
use super::in_force::{self, Over, Said};
use super::query::Query;
use super::reply::{self, Reply, Shown, durability, fault, not_accepted, position, problem};
use super::token::{Refused, Sense};
use super::wrong::Wrong;
use super::{Api, form};
use crate::revocations::{Accepted, Fault, NotAccepted};
use hyper::StatusCode;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_json::json;
use std::collections::HashMap;
use std::fmt;
use tidegate_core::revoke::{Id, Kind, Record};

/// The most things of one request; more go by import.
const LIST_MAX: usize = 1_000;

/// Things of one request.
pub(super) struct List<'a>(Vec<Fields<'a>>);

/// What became of one thing.
#[derive(Serialize)]
struct Became {
    outcome: &'static str,
    #[serde(flatten)]
    record: Shown,
}

/// Revokes the token of a form.
pub(super) async fn token(api: &Api, call: &Call, query: &Query, body: &[u8]) -> Reply {
    let wrong = |error: &str, what: &str| {
        // RFC 7009 section 2.2.1, RFC 6749 section 5.2.
        let page = json!({ "error": error, "error_description": what });
        reply::json(StatusCode::BAD_REQUEST, &page)
    };
    let token = match form::token(body) {
        Ok(token) => token,
        Err(what) => return wrong("invalid_request", &what),
    };
    let records = match api.tokens.sense(&token, &api.terms()) {
        Ok(Sense::Revoke(records)) => records,
        // A token that is over is as good as revoked: RFC 7009 section 2.2.
        Ok(Sense::Over) => return nothing(call, "over"),
        Err(Refused::Unsupported(what)) => return wrong("unsupported_token_type", &what),
        Err(Refused::Wrong(what)) => return wrong("invalid_request", &what),
    };
    match put(api, records, query).await {
        Ok((accepted, records)) => {
            for record in &records {
                call.thing("revoke_token", "revoked", (record.kind, record.id), None);
            }
            let became: Vec<_> =
                records.iter().map(|record| Became::of("revoked", record)).collect();
            let reply = done(api, query, became, accepted);
            // RFC 7009 knows 200 alone; how durable it is stands in the page.
            with_status(reply, StatusCode::OK)
        }
        Err(why) => refused(call, "revoke_token", &why),
    }
}

/// Revokes what is said in JSON.
pub(super) async fn revoke(api: &Api, call: &Call, query: &Query, body: &[u8]) -> Reply {
    let terms = api.terms();
    let wishes = match read(body).and_then(|list| wishes(&list, &terms)) {
        Ok(wishes) => wishes,
        Err(wrong) => return bad(call, "revoke", &wrong),
    };
    let records = wishes.iter().filter(|(wish, _)| !wish.is_over).flat_map(|(wish, _)| {
        let also = wish.also.map(|id| Record { id, ..wish.record });
        [Some(wish.record), also].into_iter().flatten()
    });
    let accepted = match put(api, records.collect(), query).await {
        Ok((accepted, _)) => accepted,
        Err(why) => return refused(call, "revoke", &why),
    };
    let mut became = Vec::with_capacity(wishes.len());
    for (Wish { record, is_over, .. }, reason) in &wishes {
        let outcome = if *is_over { "over" } else { "revoked" };
        call.thing("revoke", outcome, (record.kind, record.id), reason.as_deref());
        became.push(Became::of(outcome, record));
    }
    done(api, query, became, accepted)
}

/// Lifts what is said in JSON.
pub(super) async fn lift(api: &Api, call: &Call, query: &Query, body: &[u8]) -> Reply {
    let terms = api.terms();
    let things = read(body).and_then(|list| {
        let things = list.each(|fields| {
            let reason = asked::reason(fields)?.map(str::to_owned);
            Ok((asked::what(fields, &terms)?, reason))
        })?;
        distinct(things.iter().map(|(thing, _)| thing.id))?;
        Ok(things)
    });
    match things {
        Ok(things) => lift_all(api, call, query, &terms, &things).await,
        Err(wrong) => bad(call, "lift", &wrong),
    }
}

/// Lifts what has this id, if it is of this kind.
pub(super) async fn lift_one(
    api: &Api,
    call: &Call,
    query: &Query,
    (kind, id): (Kind, Id),
) -> Reply {
    match api.revocations.get(id) {
        Err(why) => fault(&why),
        Ok(Some(known)) if known.kind != kind => {
            let what = format!("{id} is of kind {}, not {}", known.kind.name(), kind.name());
            problem(StatusCode::NOT_FOUND, &what)
        }
        Ok(_) => {
            let things = [(Thing { kind, id, also: None }, None)];
            lift_all(api, call, query, &api.terms(), &things).await
        }
    }
}

async fn lift_all(
    api: &Api,
    call: &Call,
    query: &Query,
    terms: &Terms,
    things: &[(Thing, Option<String>)],
) -> Reply {
    let mut liftings = Vec::new();
    let mut outcomes = Vec::with_capacity(things.len());
    for (thing, _) in things {
        let ids = [Some(thing.id), thing.also].into_iter().flatten();
        let found: Result<Vec<_>, Fault> =
            ids.map(|id| Ok(lifting(api.revocations.get(id)?, terms))).collect();
        let found: Vec<Record> = match found {
            Ok(found) => found.into_iter().flatten().collect(),
            Err(why) => return fault(&why),
        };
        outcomes.push(if found.is_empty() { "not_revoked" } else { "lifted" });
        liftings.extend(found);
    }
    let accepted = match put(api, liftings, query).await {
        Ok((accepted, _)) => accepted,
        Err(why) => return refused(call, "lift", &why),
    };
    let mut became = Vec::with_capacity(things.len());
    for ((thing, reason), outcome) in things.iter().zip(outcomes) {
        call.thing("lift", outcome, (thing.kind, thing.id), reason.as_deref());
        became.push(json!({
            "outcome": outcome,
            "kind": thing.kind.name(),
            "id": thing.id.to_string(),
        }));
    }
    done(api, query, became, accepted)
}

/// What lifts a record; `None` if there is nothing to lift.
///
/// It is made later than the record by the record's own clock, which may be another host's and
/// ahead of ours, and is kept for as long.
fn lifting(known: Option<Record>, terms: &Terms) -> Option<Record> {
    let known = known.filter(|known| !known.lifts)?;
    let at_ms = terms.now_ms.max(known.at_ms + 1);
    Some(asked::lifting(known.kind, known.id, at_ms, known.until_secs))
}

/// Has these in force, whatever was lifted.
async fn put(
    api: &Api,
    records: Vec<Record>,
    query: &Query,
) -> Result<(Option<Accepted>, Vec<Record>), NotAccepted> {
    let mut said: Vec<_> =
        records.into_iter().map(|record| Said { record, over: Over::Any }).collect();
    for said in said.iter_mut().filter(|said| !said.record.lifts) {
        said.outlast(api.revocations.get(said.record.id).map_err(NotAccepted::Fault)?);
    }
    let records = said.iter().map(|said| said.record).collect();
    let accepted = in_force::accept(&api.revocations, said, query.durability).await?;
    Ok((accepted, records))
}

/// An object, or a list of them.
fn read(body: &[u8]) -> Result<List<'_>, Wrong> {
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let read = if is_list {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|fields| List(vec![fields]))
    };
    let list: List<'_> = read.map_err(|error| Wrong::of_body(&error))?;
    match list.0.is_empty() {
        true => Err(Wrong::new("an empty list")),
        false => Ok(list),
    }
}

fn wishes(list: &List<'_>, terms: &Terms) -> Result<Vec<(Wish, Option<String>)>, Wrong> {
    let wishes = list.each(|fields| {
        if fields.at(Field::Lifted).is_some() {
            return Err(Wrong::at("lifted", "is for imports; send it to /v1/revocations/lift"));
        }
        Ok((asked::wish(fields, terms)?, asked::reason(fields)?.map(str::to_owned)))
    })?;
    distinct(wishes.iter().map(|(wish, _)| wish.record.id))?;
    Ok(wishes)
}

/// Who says one thing twice has probably meant another.
fn distinct(ids: impl Iterator<Item = Id>) -> Result<(), Wrong> {
    let mut seen = HashMap::new();
    for (index, id) in ids.enumerate() {
        if let Some(first) = seen.insert(id, index) {
            return Err(Wrong::new(format!("is of the same thing as [{first}]")).within(index));
        }
    }
    Ok(())
}

/// What became of it, as of where, and how durable it is; if there was nothing to do, as of now.
fn done(
    api: &Api,
    query: &Query,
    results: Vec<impl Serialize>,
    accepted: Option<Accepted>,
) -> Reply {
    let place = accepted.map_or_else(|| api.revocations.position(), |accepted| accepted.position);
    let mut page = json!({ "results": results, "position": position(&place) });
    if let Some(accepted) = accepted {
        page["durability"] = durability(accepted.reach);
    }
    let status = accepted.map(|accepted| reply::status(&accepted, query.replicas()));
    reply::json(status.unwrap_or(StatusCode::OK), &page)
}

fn with_status(mut reply: Reply, status: StatusCode) -> Reply {
    *reply.status_mut() = status;
    reply
}

fn nothing(call: &Call, outcome: &str) -> Reply {
    call.many("revoke_token", outcome, 0);
    reply::json(StatusCode::OK, &json!({ "results": [], "nothing_to_do": outcome }))
}

fn bad(call: &Call, action: &str, wrong: &Wrong) -> Reply {
    call.many(action, "bad_request", 0);
    problem(StatusCode::BAD_REQUEST, &wrong.to_string())
}

fn refused(call: &Call, action: &str, why: &NotAccepted) -> Reply {
    call.many(action, "not_accepted", 0);
    not_accepted(why)
}

impl Became {
    fn of(outcome: &'static str, record: &Record) -> Self {
        Self { outcome, record: Shown::of(record) }
    }
}

impl List<'_> {
    /// Each as something else; what is wrong in a list says where.
    fn each<T>(
        &self,
        mut of: impl FnMut(&Fields<'_>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let is_one = self.0.len() == 1;
        let each = self.0.iter().enumerate().map(|(index, fields)| {
            of(fields).map_err(|wrong| if is_one { wrong } else { wrong.within(index) })
        });
        each.collect()
    }
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() == LIST_MAX {
                        return Err(A::Error::custom(format!(
                            "more than {LIST_MAX} in one list: send lists, or an import"
                        )));
                    }
                    list.push(item);
                }
                Ok(List(list))
            }
        }

        from.deserialize_seq(Items)
    }
}
