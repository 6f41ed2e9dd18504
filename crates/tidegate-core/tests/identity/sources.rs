//! Which of a request's tokens counts, and which limits believe it.

use crate::request::{Request, base64url, policy, token, verified};
use serde_json::{Value, json};
use tidegate_core::facts::{Facts as _, Want, WantId};
use tidegate_core::policy::{Policy, Source};
use tidegate_core::token::{Reading, Unfit, WithClaims};

fn sources(from: Value) -> Policy {
    let claims = json!([{ "claim": "sub" }, { "unverified_claim": "sub" }]);
    let from_claims = from.as_array().unwrap().iter().any(|it| it.get("opaque").is_none());
    let mut rules = json!({ "token": { "from": from }, "revocation": {} });
    if from_claims {
        let verified = from_verified(&rules["token"]["from"]);
        let key = if verified { claims } else { json!([claims[1]]) };
        rules["limits"] = json!([{ "name": "l", "rate": "1/s", "key": key }]);
    }
    policy(rules)
}

fn from_verified(from: &Value) -> bool {
    let is_verified = |it: &Value| it.get("jwt_authn").or(it.get("payload_header")).is_some();
    from.as_array().unwrap().iter().any(is_verified)
}

/// The place of the source whose token counts.
fn source(policy: &Policy, mut request: Request) -> Result<Option<usize>, Unfit> {
    let mut reading = Reading::new(policy);
    reading.begin();
    let found = reading.source(policy, &mut request)?;
    let from = &policy.token.as_ref().unwrap().from;
    Ok(found.map(|found| from.iter().position(|it| std::ptr::eq(it, found)).unwrap()))
}

/// What limits see of `sub`: keyed on claims, and on claims that nobody has verified.
fn subs(policy: &Policy, mut request: Request) -> [Option<String>; 2] {
    let mut reading = Reading::new(policy);
    reading.begin();
    let mut facts = WithClaims::new(&mut request, &mut reading, policy);
    let mut sub = |unverified: bool| {
        let is_it =
            |want: &&Want| matches!(want, Want::Claim { unverified: it, .. } if *it == unverified);
        let place = policy.wants.iter().position(|want| is_it(&want))?;
        let value = facts.read(WantId(place as u16), &policy.wants[place])?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    };
    [sub(false), sub(true)]
}

fn alice() -> Value {
    json!({ "iss": "i", "jti": "t", "sub": "alice" })
}

fn bob() -> Value {
    json!({ "iss": "i", "jti": "u", "sub": "bob" })
}

fn bearer(payload: &Value) -> String {
    format!("Bearer {}", token(payload))
}

#[test]
fn the_first_source_that_has_a_token_counts() {
    let policy = sources(json!([
        { "jwt_authn": {} },
        { "payload_header": "x-payload" },
        { "bearer": { "header": "authorization", "unverified": true } },
    ]));
    let request = Request::default;
    assert_eq!(source(&policy, request()), Ok(None));
    let unverified = request().header("authorization", bearer(&bob()));
    assert_eq!(source(&policy, unverified.clone()), Ok(Some(2)));
    let forwarded = unverified.header("x-payload", base64url(alice().to_string()));
    assert_eq!(source(&policy, forwarded.clone()), Ok(Some(1)));
    assert_eq!(source(&policy, forwarded.metadata(verified(&alice()))), Ok(Some(0)));
}

#[test]
fn a_verified_token_that_cannot_be_read_is_not_passed_over_for_another() {
    let policy = sources(json!([
        { "jwt_authn": {} },
        { "payload_header": "x-payload" },
        { "bearer": { "header": "authorization", "unverified": true } },
    ]));
    let other = || Request::default().header("authorization", bearer(&bob()));
    let broken = other().metadata(verified(&json!("text")));
    assert_eq!(source(&policy, broken), Err(Unfit::Malformed));
    assert_eq!(source(&policy, other().header("x-payload", "{}")), Err(Unfit::Malformed));
    let twice = other().header("x-payload", "e30").header("x-payload", "e30");
    assert_eq!(source(&policy, twice), Err(Unfit::Malformed));
    assert_eq!(subs(&policy, other().header("x-payload", "{}")), [None, None]);
}

#[test]
fn limits_believe_what_nobody_has_verified_only_where_they_say_so() {
    let policy = sources(json!([
        { "jwt_authn": {} },
        { "bearer": { "header": "authorization", "unverified": true } },
    ]));
    let some = |name: &str| Some(name.to_owned());
    let unverified = Request::default().header("authorization", bearer(&bob()));
    assert_eq!(subs(&policy, unverified.clone()), [None, some("bob")]);
    let both = unverified.metadata(verified(&alice()));
    assert_eq!(subs(&policy, both), [some("alice"), some("alice")]);
    assert_eq!(subs(&policy, Request::default()), [None, None]);
    let damaged = Request::default().header("authorization", "Bearer a.b.c");
    assert_eq!(subs(&policy, damaged), [None, None]);
}

#[test]
fn a_request_with_two_unverified_tokens_has_too_many() {
    let policy = sources(json!([
        { "bearer": { "header": "authorization", "unverified": true } },
        { "bearer": { "cookie": "access", "unverified": true } },
        { "opaque": { "header": "x-api-key" } },
    ]));
    let request = Request::default;
    let header = || request().header("authorization", bearer(&alice()));
    assert_eq!(source(&policy, header()), Ok(Some(0)));
    let cookie = format!("a=b; access={}; c=d", token(&bob()));
    assert_eq!(source(&policy, request().header("cookie", &cookie)), Ok(Some(1)));
    assert_eq!(source(&policy, request().header("x-api-key", "secret")), Ok(Some(2)));
    assert_eq!(source(&policy, header().header("cookie", &cookie)), Err(Unfit::Several));
    assert_eq!(source(&policy, header().header("x-api-key", "secret")), Err(Unfit::Several));
    // One header twice, one cookie twice with another value, the cookie header twice.
    assert_eq!(
        source(&policy, header().header("authorization", bearer(&bob()))),
        Err(Unfit::Several)
    );
    let twice = format!("access={}; access={}", token(&alice()), token(&bob()));
    assert_eq!(source(&policy, request().header("cookie", twice)), Err(Unfit::Several));
    let same = format!("access={0}; access={0}", token(&alice()));
    assert_eq!(source(&policy, request().header("cookie", same)), Ok(Some(1)));
    let split = request().header("cookie", "a=b").header("cookie", &cookie);
    assert_eq!(source(&policy, split), Err(Unfit::Several));
    // Those of no token are nobody's business.
    let others = request().header("cookie", "a=b; a=c").header("authorization", "Basic YTpi");
    assert_eq!(source(&policy, others), Ok(None));
}

#[test]
fn an_opaque_token_beside_signed_ones_is_told_by_its_shape() {
    let both = sources(json!([
        { "bearer": { "header": "authorization", "unverified": true } },
        { "opaque": { "header": "authorization" } },
    ]));
    let signed_only = sources(json!([
        { "bearer": { "header": "authorization", "unverified": true } },
        { "opaque": { "header": "x-api-key" } },
    ]));
    let with = |token: &str| Request::default().header("authorization", format!("Bearer {token}"));
    assert_eq!(source(&both, with("7f3a9c")), Ok(Some(1)));
    assert_eq!(source(&both, with("v1.7f3a9c")), Ok(Some(1)));
    assert_eq!(source(&both, with(&token(&alice()))), Ok(Some(0)));
    assert_eq!(source(&both, with("a.b.c")), Err(Unfit::Malformed));
    assert_eq!(source(&signed_only, with("7f3a9c")), Err(Unfit::Malformed));
}

#[test]
fn one_request_leaves_nothing_to_the_next() {
    let policy = sources(json!([{ "payload_header": "x-payload" }]));
    let mut reading = Reading::new(&policy);
    let mut first = Request::default().header("x-payload", base64url(alice().to_string()));
    reading.begin();
    assert!(matches!(reading.source(&policy, &mut first), Ok(Some(Source::PayloadHeader(_)))));
    let mut second = Request::default();
    // Asked again for the same request, it is read once only.
    assert!(matches!(reading.source(&policy, &mut second), Ok(Some(_))));
    reading.begin();
    assert!(matches!(reading.source(&policy, &mut second), Ok(None)));
    assert_eq!(reading.payload().id(0), Ok(None));
}
