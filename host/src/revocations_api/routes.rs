//! Which request is for whom. Nobody is told what is here who may not come in.

use super::asked::{from_hex, kind_named};
use super::audit::{self, Call};
use super::body::{JSON_BYTES_MAX, TOKEN_BODY_BYTES_MAX, expect_type, read};
use super::callers::Stranger;
use super::door::Guest;
use super::query::Query;
use super::reply::{NDJSON, Refusal, Reply, later, problem, refusal};
use super::wrong::Wrong;
use super::{Api, change, export, import, look};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use std::sync::Arc;
use tidegate_core::revoke::{Id, Kind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken over. A UUID has 36 characters.
const ID_BYTES_MAX: usize = 128;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// What is here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    RevokeToken,
    Revoke,
    Lift,
    LiftOne(Kind, Id),
    Check,
    Import,
    Export,
    List,
    One(Id),
    Stats,
}

/// Answers a request.
pub(super) async fn answer(api: &Arc<Api>, guest: &Guest, request: Request<Incoming>) -> Reply {
    let request_id = request_id(request.headers());
    let notice = api.receivers.at(request.method(), request.uri().path());
    let mut reply = match notice {
        // Its signature is all that it shows.
        Some(notice) => notice.answer(api, guest, &request_id, request).await,
        None => answer_caller(api, guest, &request_id, request).await,
    };
    api.counts.answered(reply.status());
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        reply.headers_mut().insert(REQUEST_ID, id);
    }
    reply
}

async fn answer_caller(
    api: &Arc<Api>,
    guest: &Guest,
    request_id: &str,
    request: Request<Incoming>,
) -> Reply {
    match enter(api, guest, request.headers(), request_id) {
        Err(refusal) => *refusal,
        Ok(call) => match route(request.method(), request.uri().path()) {
            Err(refusal) => *refusal,
            Ok(route) => route.answer(api, &call, request).await,
        },
    }
}

/// Whether this guest may come in, and as whom.
fn enter(api: &Api, guest: &Guest, headers: &HeaderMap, request_id: &str) -> Result<Call, Refusal> {
    let who = match api.callers.who(guest.certificate.as_ref(), headers) {
        Ok(who) => who,
        Err(stranger) => {
            api.counts.stranger(stranger);
            if let Err(wait) = api.wrong.of_peer(guest.peer) {
                let what = "too many requests without the right credentials";
                return Err(Box::new(later(StatusCode::TOO_MANY_REQUESTS, what, wait)));
            }
            audit::stranger(guest.peer, stranger.name(), request_id);
            return Err(Box::new(unauthorized(stranger)));
        }
    };
    if let Err(wait) = api.requests.of_caller(&who) {
        let what = "more requests than revocations.api.requests_per_second allows a caller";
        return Err(Box::new(later(StatusCode::TOO_MANY_REQUESTS, what, wait)));
    }
    Ok(Call { who, peer: guest.peer, request_id: request_id.to_owned() })
}

/// As RFC 6750 section 3 has it.
fn unauthorized(stranger: Stranger) -> Reply {
    let (status, what, challenge) = match stranger {
        Stranger::NoToken => {
            (StatusCode::UNAUTHORIZED, "wanted authorization: Bearer TOKEN", "Bearer")
        }
        Stranger::WrongToken => (
            StatusCode::UNAUTHORIZED,
            "this token is not one of revocations.api.token_file",
            "Bearer error=\"invalid_token\"",
        ),
        Stranger::WrongName => {
            let what = "the certificate bears none of revocations.api.tls.client_names";
            return problem(StatusCode::FORBIDDEN, what);
        }
        Stranger::Browser | Stranger::NoHandshake | Stranger::WrongNotice => {
            let what = "requests of browsers' pages are not answered";
            return problem(StatusCode::FORBIDDEN, what);
        }
    };
    let mut reply = problem(status, what);
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    reply
}

fn route(method: &Method, path: &str) -> Result<Route, Refusal> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let routes: &[(Method, Route)] = match parts.as_slice() {
        ["v1", "revoke"] => &[(Method::POST, Route::RevokeToken)],
        ["v1", "revocations"] => &[(Method::GET, Route::List), (Method::POST, Route::Revoke)],
        ["v1", "revocations", "lift"] => &[(Method::POST, Route::Lift)],
        ["v1", "revocations", "check"] => &[(Method::POST, Route::Check)],
        ["v1", "revocations", "import"] => &[(Method::POST, Route::Import)],
        ["v1", "revocations", "export"] => &[(Method::GET, Route::Export)],
        ["v1", "revocations", "stats"] => &[(Method::GET, Route::Stats)],
        ["v1", "revocations", id] => &[(Method::GET, Route::One(self::id(id)?))],
        ["v1", "revocations", kind, id] => {
            let kind = kind_named(kind).map_err(|what| refusal(StatusCode::NOT_FOUND, &what))?;
            &[(Method::DELETE, Route::LiftOne(kind, self::id(id)?))]
        }
        _ => return Err(refusal(StatusCode::NOT_FOUND, HERE)),
    };
    let found = routes.iter().find(|(known, _)| known == method);
    found.map(|(_, route)| *route).ok_or_else(|| {
        let allowed: Vec<&str> = routes.iter().map(|(method, _)| method.as_str()).collect();
        let allowed = allowed.join(", ");
        let what = format!("{method} is not for this: {allowed}");
        let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED, &what);
        if let Ok(allowed) = HeaderValue::from_str(&allowed) {
            reply.headers_mut().insert(ALLOW, allowed);
        }
        reply
    })
}

const HERE: &str = "here are POST /v1/revoke; GET and POST /v1/revocations; POST lift, check and \
                    import, and GET stats and export below it; GET /v1/revocations/ID; DELETE \
                    /v1/revocations/KIND/ID; POST logout and events to /v1/receivers/NAME";

fn id(text: &str) -> Result<Id, Refusal> {
    let id = from_hex(text).map(Id);
    id.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "an id has 32 hex digits"))
}

impl Route {
    async fn answer(self, api: &Arc<Api>, call: &Call, request: Request<Incoming>) -> Reply {
        match self.try_answer(api, call, request).await {
            Ok(reply) => reply,
            Err(refusal) => *refusal,
        }
    }

    async fn try_answer(
        self,
        api: &Arc<Api>,
        call: &Call,
        request: Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let bad = |wrong: Wrong| refusal(StatusCode::BAD_REQUEST, &wrong.to_string());
        let query = Query::read(request.uri().query(), self.parameters()).map_err(bad)?;
        if let Some((kinds, _)) = self.takes() {
            expect_type(request.headers(), kinds)?;
        }
        if self == Self::Import {
            return Ok(import::start(api, call, query, request.into_body()));
        }
        let body = match self.takes() {
            Some((_, bytes_max)) => read(request, bytes_max).await?,
            None => bytes::Bytes::new(),
        };
        Ok(match self {
            Self::RevokeToken => change::token(api, call, &query, &body).await,
            Self::Revoke => change::revoke(api, call, &query, &body).await,
            Self::Lift => change::lift(api, call, &query, &body).await,
            Self::LiftOne(kind, id) => change::lift_one(api, call, &query, (kind, id)).await,
            Self::Check => look::check(api, call, &body),
            Self::Export => export::start(api, call),
            Self::List => look::list(api, &query),
            Self::One(id) => look::one(api, id),
            Self::Stats | Self::Import => look::stats(api),
        })
    }

    /// What may stand behind the `?`.
    const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::RevokeToken | Self::Revoke | Self::Lift | Self::LiftOne(..) => &["durability"],
            Self::Import => &["durability", "on_error"],
            Self::List => &["kind", "after", "limit"],
            Self::Check | Self::Export | Self::One(_) | Self::Stats => &[],
        }
    }

    /// What its body may be, and how long.
    const fn takes(self) -> Option<(&'static [&'static str], usize)> {
        match self {
            Self::RevokeToken | Self::Check => Some((&[FORM], TOKEN_BODY_BYTES_MAX)),
            Self::Revoke | Self::Lift => Some((&[JSON], JSON_BYTES_MAX)),
            Self::Import => Some((&[NDJSON, JSON], 0)),
            Self::LiftOne(..) | Self::Export | Self::List | Self::One(_) | Self::Stats => None,
        }
    }
}

/// The id that a caller sent, if it is printable and short, or one of our own.
fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_sane = |id: &&str| {
        (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    sent.filter(is_sane).map_or_else(|| format!("{:032x}", fastrand::u128(..)), str::to_owned)
}
