//! What OpenID providers tell of themselves: that somebody has logged out, that a session or an
//! account is over.
//!
//! - [`logout`]: OpenID Connect Back-Channel Logout 1.0
//! - [`events`]: Security Event Tokens (RFC 8417), pushed (RFC 8935), of CAEP and RISC
//! - [`subject`]: whom an event is about (RFC 9493)
//! - [`told`]: what that has revoked, and of whose tokens
//! - [`keys`]: the provider's keys, in a JWKS file; [`signatures`]: verified with ring
//!
//! Senders show no credentials of ours: what they send is signed, and by nobody else's key than
//! that of the receiver's issuer. An issuer revokes what is its own, or what `token_issuers` says.
//!
//! Whatever is sent again does nothing new: what is revoked is told by when the notice was
//! issued, not by when it comes; and one that an operator lifted since stays lifted.
//!
//! A notice that is not what it should be is answered 400. One that is, and that this host cannot keep
//! now, is answered 503 (429, 507), although Back-Channel Logout 1.0 has 400 for that too (section
//! 2.8): 400 says that it is of no use to send it again, and a logout that is not would be lost.
//!
//! Until it is verified a notice costs as little as can be: a bound on its length and on how many of
//! an address are in hand, and what no key can have signed is refused at once.

mod claims;
mod events;
mod keys;
mod logout;
mod signatures;
mod subject;
mod told;

use super::asked::Terms;
use super::audit::{self, Call};
use super::body::{expect_type, read};
use super::callers::Stranger;
use super::door::Guest;
use super::in_force::{self, Over, Said};
use super::reply::{self, Refusal, Reply, fault, later, not_accepted};
use super::{Api, attempts, form};
use crate::config::{Receiver as Settings, RevocationsApi};
use crate::files::Kept;
use crate::in_flight::InFlight;
use crate::revocations::Durability;
use claims::Claims;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LANGUAGE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use keys::Keys;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;
use tidegate_core::revoke::Record;
use tidegate_core::token::jws::TOKEN_BYTES_MAX;
use tokio::sync::Semaphore;
use told::Whose;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most things that one notice revokes: a few of one person's, for a few issuers.
const THINGS_MAX: usize = 64;

/// When to come again with what is too much at once.
const SOON: Duration = Duration::from_secs(1);

/// Notices of one address that are read or verified at once: more than a provider sends.
const IN_HAND_MAX: usize = 32;

/// The longest body: a token, none of whose characters a form would write as three.
const BODY_BYTES_MAX: usize = TOKEN_BYTES_MAX + 1_024;

/// All receivers.
pub(super) struct Receivers {
    by_name: BTreeMap<String, Receiver>,
    /// By address: what one sends must not keep another's waiting.
    in_hand: InFlight<Ipv6Addr>,
}

/// Takes what one issuer sends.
struct Receiver {
    settings: Settings,
    keys: Kept<Keys>,
    /// Verifying is the dear part, and anybody may ask for it: one at a time, in turn.
    verifying: Semaphore,
}

/// What is sent where.
#[derive(Clone, Copy)]
pub(super) struct Notice<'a> {
    name: &'a str,
    receiver: &'a Receiver,
    form: Form,
}

/// The forms in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A logout token in a form.
    Logout,
    /// A security event token as it is.
    Event,
}

/// Why a notice is not taken: a code of RFC 8935 section 2.4, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    code: Code,
    what: String,
}

/// Codes of RFC 8935.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidRequest,
    InvalidKey,
    InvalidIssuer,
    InvalidAudience,
    AuthenticationFailed,
}

impl Receivers {
    /// Reads their files.
    ///
    /// # Errors
    ///
    /// The first file that is not what it should be, as a message.
    pub(super) fn new(settings: &RevocationsApi) -> Result<Self, String> {
        let each = settings.receivers.iter().map(|(name, settings)| {
            let keys = Kept::read(|files| Keys::read(&settings.jwks_file, files))?;
            let (settings, verifying) = (settings.clone(), Semaphore::new(1));
            Ok((name.clone(), Receiver { settings, keys, verifying }))
        });
        let by_name = each.collect::<Result<_, String>>()?;
        Ok(Self { by_name, in_hand: InFlight::default() })
    }

    /// Reads the files again whenever they change, for as long as it is polled.
    pub(super) async fn look(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.by_name.iter().for_each(|(name, receiver)| receiver.look_once(name));
        }
    }

    /// What is sent to this path; `None` if that is nothing of ours.
    pub(super) fn at<'a>(&'a self, method: &Method, path: &str) -> Option<Notice<'a>> {
        let (name, form) = path.strip_prefix("/v1/receivers/")?.split_once('/')?;
        let form = match form {
            "logout" => Form::Logout,
            "events" => Form::Event,
            _ => return None,
        };
        let (name, receiver) = self.by_name.get_key_value(name)?;
        (method == Method::POST).then_some(Notice { name, receiver, form })
    }
}

impl Receiver {
    fn look_once(&self, name: &str) {
        match self.keys.look(|files| Keys::read(&self.settings.jwks_file, files)) {
            None => {}
            Some(Ok(keys)) => {
                tracing::info!(
                    receiver = name,
                    keys = keys.len(),
                    "the issuer's keys were read anew"
                );
            }
            Some(Err(problem)) => {
                tracing::warn!(
                    receiver = name,
                    problem,
                    "the issuer's keys cannot be read anew: they are as they were"
                );
            }
        }
    }

    /// What a token says, if it is signed by the issuer, for us, and not over.
    async fn verified(&self, token: &[u8], form: Form, terms: &Terms) -> Result<Claims, Refused> {
        let keys = self.keys.now();
        let shown = keys.look(token, form)?;
        // It is never closed.
        let _turn = self.verifying.acquire().await;
        shown.verify(&self.settings, terms)
    }

    fn whose(&self) -> Whose<'_> {
        Whose { issuer: &self.settings.issuer, token_issuers: &self.settings.token_issuers }
    }
}

impl Notice<'_> {
    /// Takes it.
    pub(super) async fn answer(
        self,
        api: &Api,
        guest: &Guest,
        request_id: &str,
        request: Request<Incoming>,
    ) -> Reply {
        match self.take(api, guest, request_id, request).await {
            Ok(reply) => reply,
            Err(refusal) => *refusal,
        }
    }

    async fn take(
        self,
        api: &Api,
        guest: &Guest,
        request_id: &str,
        request: Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let in_hand = &api.receivers.in_hand;
        let Some(_one) = in_hand.one_of(attempts::network(guest.peer), IN_HAND_MAX) else {
            let what = "more notices at once than one address may send";
            return Err(Box::new(later(StatusCode::TOO_MANY_REQUESTS, what, SOON)));
        };
        expect_type(request.headers(), &[self.form.media_type()])?;
        let body = read(request, BODY_BYTES_MAX).await?;
        let terms = api.terms();
        let token = self.form.token(&body);
        // It is held no longer than it takes: verifying is in turn.
        drop(body);
        let verified = match token {
            Ok(token) => self.receiver.verified(&token, self.form, &terms).await,
            Err(refused) => Err(refused),
        };
        let claims = match verified {
            Ok(claims) => claims,
            Err(refused) => return Err(self.stranger(api, guest, request_id, &refused)),
        };
        let who = format!("receiver {}", self.name);
        let call = Call { who, peer: guest.peer, request_id: request_id.to_owned() };
        let records = match self.records(&claims, &terms) {
            Ok(records) => records,
            Err(refused) => {
                call.many(self.form.action(), "bad_request", 0);
                self.note(api, &refused);
                return Err(self.refusal(&refused));
            }
        };
        self.revoke(api, &call, claims.issued_secs(), records).await
    }

    /// What the claims have revoked, but for what is over.
    fn records(self, claims: &Claims, terms: &Terms) -> Result<Vec<Record>, Refused> {
        let whose = self.receiver.whose();
        let told = match self.form {
            Form::Logout => {
                let issued = claims.issued_secs();
                logout::told(claims, &whose)?.into_iter().map(|told| (told, issued)).collect()
            }
            Form::Event => events::told(claims, &whose)?,
        };
        if told.len() > THINGS_MAX {
            let what = format!("is about {} things, wanted at most {THINGS_MAX}", told.len());
            return Err(Refused::request(what));
        }
        let wishes = told.iter().map(|(told, happened)| told.wish(*happened, terms));
        let wishes = wishes.collect::<Result<Vec<_>, _>>()?;
        Ok(wishes.into_iter().filter(|wish| !wish.is_over).map(|wish| wish.record).collect())
    }

    async fn revoke(
        self,
        api: &Api,
        call: &Call,
        issued_secs: u64,
        records: Vec<Record>,
    ) -> Result<Reply, Refusal> {
        let action = self.form.action();
        let mut new = Vec::with_capacity(records.len());
        for mut record in records {
            let known = api.revocations.get(record.id).map_err(|why| Box::new(fault(&why)))?;
            match stands(known, &mut record, issued_secs) {
                Some(outcome) => call.thing(action, outcome, (record.kind, record.id), None),
                None => new.push(record),
            }
        }
        if new.is_empty() {
            call.many(action, "nothing_to_do", 0);
            return Ok(self.form.taken());
        }
        if let Err(wait) = api.requests.of_caller(&call.who) {
            let what = "more notices than revocations.api.requests_per_second allows a receiver";
            return Err(Box::new(later(StatusCode::TOO_MANY_REQUESTS, what, wait)));
        }
        // Who sends it may never send it again: if Redis is away, this host keeps it until it is not.
        let over = Over::UpTo(issued_secs);
        let said = new.iter().map(|record| Said { record: *record, over }).collect();
        let accepted = in_force::accept(&api.revocations, said, Durability::ThisHost).await;
        if let Err(why) = accepted {
            call.many(action, "not_accepted", 0);
            return Err(Box::new(not_accepted(&why)));
        }
        for record in &new {
            call.thing(action, "revoked", (record.kind, record.id), None);
        }
        Ok(self.form.taken())
    }

    /// It is not signed as it should be: by nobody whom we know.
    fn stranger(self, api: &Api, guest: &Guest, request_id: &str, refused: &Refused) -> Refusal {
        if let Err(wait) = api.wrong.of_peer(guest.peer) {
            api.counts.stranger(Stranger::WrongNotice);
            let what = "too many notices that are not signed as they should be";
            return Box::new(later(StatusCode::TOO_MANY_REQUESTS, what, wait));
        }
        audit::stranger(guest.peer, Stranger::WrongNotice.name(), request_id);
        self.note(api, refused);
        self.refusal(refused)
    }

    /// Somebody's logout does not hold, whoever is to blame.
    fn note(self, api: &Api, refused: &Refused) {
        api.counts.stranger(Stranger::WrongNotice);
        tracing::warn!(receiver = self.name, why = refused.what, "a notice was refused");
    }

    fn refusal(self, refused: &Refused) -> Refusal {
        let Refused { code, what } = refused;
        let page = match self.form {
            // OpenID Connect Back-Channel Logout 1.0, section 2.8.
            Form::Logout => json!({ "error": "invalid_request", "error_description": what }),
            Form::Event => json!({ "err": code.name(), "description": what }),
        };
        let mut reply = reply::json(StatusCode::BAD_REQUEST, &page);
        // RFC 8935 section 2.3.
        reply.headers_mut().insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        Box::new(reply)
    }
}

impl Form {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Logout => "application/x-www-form-urlencoded",
            Self::Event => "application/secevent+jwt",
        }
    }

    /// Its name in the audit log.
    const fn action(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Event => "security_event",
        }
    }

    fn token(self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        match self {
            Self::Logout => form::field(body, "logout_token").map_err(Refused::request),
            Self::Event => Ok(body.trim_ascii().to_vec()),
        }
    }

    /// It is durable.
    fn taken(self) -> Reply {
        match self {
            Self::Logout => reply::empty(StatusCode::OK),
            Self::Event => reply::empty(StatusCode::ACCEPTED),
        }
    }
}

impl Refused {
    fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }

    fn request(what: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, what)
    }
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidKey => "invalid_key",
            Self::InvalidIssuer => "invalid_issuer",
            Self::InvalidAudience => "invalid_audience",
            Self::AuthenticationFailed => "authentication_failed",
        }
    }
}

/// Why there is nothing to do, by what is known; if there is, the record is made to hold.
fn stands(known: Option<Record>, record: &mut Record, issued_secs: u64) -> Option<&'static str> {
    let known = known?;
    if known.lifts && known.at_ms / 1_000 > issued_secs {
        return Some("lifted_since");
    }
    if known.lifts {
        // Lifted before, whatever the clock says of the host that did.
        record.at_ms = record.at_ms.max(known.at_ms);
        return None;
    }
    let covers = known.before_secs >= record.before_secs && known.until_secs >= record.until_secs;
    covers.then_some("revoked_before")
}
