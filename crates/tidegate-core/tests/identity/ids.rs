//! By which ids what a request shows can be revoked.

use crate::request::{Request, base64url, metadata, policy, token, token_of, verified};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_core::policy::Policy;
use tidegate_core::revoke::id::IdKey;
use tidegate_core::revoke::identity::{IDS_MAX, secret_form};
use tidegate_core::revoke::{Id, Identity, Kind};
use tidegate_core::token::{Reading, Unfit};

const KEYS: [IdKey; 2] = [[1; 32], [2; 32]];

fn rules(from: Value, revocation: Value) -> Policy {
    policy(json!({ "token": { "from": from }, "revocation": revocation }))
}

fn unverified() -> Value {
    json!([{ "bearer": { "header": "authorization", "unverified": true } }])
}

/// Ids, `iat` and `exp`; `None` if the request shows nothing.
type Shown = Option<(Vec<(Kind, Id)>, Option<u64>, Option<u64>)>;

fn shown_under(keys: &[IdKey], policy: &Policy, mut request: Request) -> Result<Shown, Unfit> {
    let (mut identity, mut reading) = (Identity::default(), Reading::new(policy));
    reading.begin();
    let rules = policy.revocation.as_ref().unwrap();
    let facts = (policy, &mut request);
    let shows = identity.read(rules, facts, &mut reading, keys, &mut |parts| parts.id())?;
    assert!(identity.ids.len() <= IDS_MAX);
    Ok(shows.then_some((identity.ids, identity.issued_secs, identity.expires_secs)))
}

fn shown(policy: &Policy, request: Request) -> Result<Shown, Unfit> {
    shown_under(&KEYS, policy, request)
}

fn ids(policy: &Policy, request: Request) -> Vec<(Kind, Id)> {
    shown(policy, request).unwrap().unwrap().0
}

fn bearer(token: &str) -> Request {
    Request::default().header("authorization", format!("Bearer {token}"))
}

fn id(kind: Kind, parts: &[&str]) -> (Kind, Id) {
    (kind, Id::of(kind, &parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>()))
}

fn whole() -> Value {
    json!({
        "iss": "https://i", "jti": "t1", "sub": "alice", "client_id": "app", "azp": "other",
        "tid": "acme", "sid": "s1", "iat": 1_700_000_000.9, "exp": 1_700_003_600,
    })
}

fn all_of_whole() -> Vec<(Kind, Id)> {
    vec![
        id(Kind::Token, &["https://i", "t1"]),
        id(Kind::Subject, &["https://i", "alice"]),
        id(Kind::Client, &["https://i", "app"]),
        id(Kind::Tenant, &["https://i", "acme"]),
        id(Kind::Session, &["https://i", "s1"]),
        id(Kind::Key, &["https://i", "k1"]),
        id(Kind::Issuer, &["https://i"]),
    ]
}

#[test]
fn a_token_has_the_same_ids_wherever_it_is_read() {
    let tenant = || json!({ "claims": { "tenant": "tid" } });
    let wanted = Some((all_of_whole(), Some(1_700_000_000), Some(1_700_003_600)));
    let from_token = rules(unverified(), tenant());
    assert_eq!(shown(&from_token, bearer(&token(&whole()))), Ok(wanted.clone()));
    let from_metadata = rules(json!([{ "jwt_authn": { "header": "header" } }]), tenant());
    let noted = json!({ "payload": whole(), "header": { "kid": "k1", "alg": "ES256" } });
    let metadata = metadata(&json!({ "envoy.filters.http.jwt_authn": noted }));
    assert_eq!(shown(&from_metadata, Request::default().metadata(metadata)), Ok(wanted));
    // A payload alone does not tell which key signed it.
    let from_payload = rules(json!([{ "payload_header": "x-payload" }]), tenant());
    let request = Request::default().header("x-payload", base64url(whole().to_string()));
    let mut without_key = all_of_whole();
    without_key.remove(5);
    assert_eq!(ids(&from_payload, request), without_key);
}

#[test]
fn only_what_is_checked_has_ids() {
    for (place, check) in
        ["token", "subject", "client", "tenant", "session", "key", "issuer"].iter().enumerate()
    {
        let revocation = json!({ "check": [check], "claims": { "tenant": "tid" } });
        let policy = rules(unverified(), revocation);
        assert_eq!(ids(&policy, bearer(&token(&whole()))), [all_of_whole()[place]], "{check}");
    }
}

#[test]
fn claims_go_by_the_names_that_a_policy_gives_them() {
    let claims = json!({ "client": ["app", "azp"], "session": "state", "tenant": "tid" });
    let policy = rules(unverified(), json!({ "check": ["client", "session"], "claims": claims }));
    let named = |payload| ids(&policy, bearer(&token(&payload)));
    let payload = json!({ "iss": "i", "app": "a", "azp": "b", "state": 7, "sid": "no" });
    assert_eq!(named(payload), [id(Kind::Client, &["i", "a"]), id(Kind::Session, &["i", "7"])]);
    assert_eq!(named(json!({ "iss": "i", "azp": "b" })), [id(Kind::Client, &["i", "b"])]);
    assert_eq!(named(json!({ "iss": "i" })), []);
}

#[test]
fn a_token_without_jti_goes_by_its_hash_which_no_signature_changes() {
    let policy = rules(unverified(), json!({ "check": "token" }));
    let token = token(&json!({ "iss": "i", "sub": "alice" }));
    let hashed = ids(&policy, bearer(&token));
    // SHA-256 of `header.payload`, told by another: see `sha256sum`.
    let signed = &token[..token.rfind('.').unwrap()];
    let digest = <sha2::Sha256 as sha2::Digest>::digest(signed);
    assert_eq!(hashed, [(Kind::TokenHash, Id::of(Kind::TokenHash, &[&digest]))]);
    assert_eq!(ids(&policy, bearer(&format!("{signed}.b3RoZXI"))), hashed);
    let other = token_of(r#"{"alg":"ES256"}"#, r#"{"iss":"i","sub":"alice"}"#);
    assert_ne!(ids(&policy, bearer(&other)), hashed);
}

#[test]
fn a_verified_token_without_jti_goes_by_its_hash_if_it_is_forwarded() {
    let payload = json!({ "iss": "i", "sub": "alice" });
    let token = token(&payload);
    let noted = || Request::default().metadata(verified(&payload));
    let forwarded = rules(
        json!([{ "jwt_authn": { "forwarded": "authorization" } }]),
        json!({ "check": ["token"] }),
    );
    let with_token = || noted().header("authorization", format!("Bearer {token}"));
    let by_hash = ids(&rules(unverified(), json!({ "check": ["token"] })), bearer(&token));
    assert_eq!(ids(&forwarded, with_token()), by_hash);
    assert_eq!(shown(&forwarded, noted()), Err(Unfit::Lacking));
    assert_eq!(
        shown(&forwarded, with_token().header("authorization", "Bearer x")),
        Err(Unfit::Several)
    );
    // Envoy passes over what is no digit of a token, before it and behind it.
    let lax = json!({ "check": ["token"], "missing": "allow" });
    let lax = rules(json!([{ "jwt_authn": { "forwarded": "authorization" } }]), lax);
    for around in [
        format!("Bearer ~{token}"),
        format!("Bearer {token}~.x"),
        format!("Bearer {token}+"),
        format!("Bearer {token}.x"),
        "Bearer x".to_owned(),
    ] {
        let request = noted().header("authorization", &around);
        assert_eq!(shown(&lax, request), Err(Unfit::Malformed), "{around}");
    }
    assert_eq!(ids(&lax, with_token()), by_hash);
    let unseen = rules(json!([{ "jwt_authn": {} }]), json!({ "check": ["token"] }));
    assert_eq!(shown(&unseen, with_token()), Err(Unfit::Lacking));
}

#[test]
fn a_token_that_lacks_what_tells_it_apart_is_refused_unless_the_policy_lets_it_be() {
    let from = || json!([{ "payload_header": "x-payload" }]);
    let with =
        |payload: Value| Request::default().header("x-payload", base64url(payload.to_string()));
    let strict = rules(from(), json!({}));
    let lax = rules(from(), json!({ "missing": "allow" }));
    let no_issuer = || with(json!({ "jti": "t", "sub": "alice" }));
    assert_eq!(shown(&strict, no_issuer()), Err(Unfit::Lacking));
    let of_nobody =
        [id(Kind::Token, &["", "t"]), id(Kind::Subject, &["", "alice"]), id(Kind::Issuer, &[""])];
    assert_eq!(ids(&lax, no_issuer()), of_nobody);
    let no_jti = || with(json!({ "iss": "i", "sub": "alice" }));
    assert_eq!(shown(&strict, no_jti()), Err(Unfit::Lacking));
    let by_others = [id(Kind::Subject, &["i", "alice"]), id(Kind::Issuer, &["i"])];
    assert_eq!(ids(&lax, no_jti()), by_others);
    // Who does not check tokens one by one needs no `jti`; a token without `sub` has no subject.
    let subjects = rules(from(), json!({ "check": ["subject"] }));
    assert_eq!(ids(&subjects, no_jti()), by_others[..1]);
    assert_eq!(ids(&subjects, with(json!({ "iss": "i" }))), []);
}

#[test]
fn a_claim_of_the_wrong_type_makes_a_token_unfit() {
    let policy = rules(unverified(), json!({ "claims": { "tenant": "tid" }, "missing": "allow" }));
    for name in ["iss", "jti", "sub", "client_id", "tid", "sid"] {
        for wrong in
            [json!(["a"]), json!({ "a": 1 }), json!(null), json!(true), json!(1.5), json!(1e18)]
        {
            let mut payload = whole();
            payload[name] = wrong;
            let unfit = shown(&policy, bearer(&token(&payload)));
            assert_eq!(unfit, Err(Unfit::Malformed), "{payload}");
        }
    }
    for name in ["iat", "exp"] {
        for wrong in [json!("1700000000"), json!(-1), json!(1_u64 << 40), json!(1e300), json!([5])]
        {
            let mut payload = whole();
            payload[name] = wrong;
            let unfit = shown(&policy, bearer(&token(&payload)));
            assert_eq!(unfit, Err(Unfit::Malformed), "{payload}");
        }
    }
    let mut payload = whole();
    payload["jti"] = json!("x".repeat(1_025));
    assert_eq!(shown(&policy, bearer(&token(&payload))), Err(Unfit::Malformed));
    // The wrong type of what is not checked harms nobody.
    let subjects = rules(unverified(), json!({ "check": ["subject"] }));
    let mut payload = whole();
    payload["jti"] = json!(["t"]);
    assert_eq!(
        ids(&subjects, bearer(&token(&payload))),
        [id(Kind::Subject, &["https://i", "alice"])]
    );
    let key = token_of(r#"{"alg":"ES256","kid":["k1"]}"#, &whole().to_string());
    assert_eq!(shown(&policy, bearer(&key)), Err(Unfit::Malformed));
    assert!(shown(&subjects, bearer(&key)).is_ok());
}

fn opaque() -> Value {
    json!([{ "opaque": { "header": "authorization" } }])
}

fn keyed(kind: Kind, secret: &str) -> Vec<(Kind, Id)> {
    KEYS.iter().map(|key| (kind, Id::keyed(kind, key, secret.as_bytes()))).collect()
}

#[test]
fn secrets_have_an_id_under_each_key() {
    let policy = rules(opaque(), json!({ "session_cookie": "sid" }));
    assert_eq!(ids(&policy, bearer("7f3a9c")), keyed(Kind::Opaque, "7f3a9c"));
    let both = bearer("7f3a9c").header("cookie", "a=b; sid=abc");
    let wanted = [keyed(Kind::Opaque, "7f3a9c"), keyed(Kind::Cookie, "abc")].concat();
    assert_eq!(ids(&policy, both), wanted);
    let cookie = || Request::default().header("cookie", "sid=abc");
    assert_eq!(ids(&policy, cookie()), keyed(Kind::Cookie, "abc"));
    assert_eq!(shown(&policy, Request::default()), Ok(None));
    // Without a key nobody can tell.
    assert_eq!(shown_under(&[], &policy, cookie()), Err(Unfit::Keyless));
    assert_eq!(shown_under(&[], &policy, bearer("7f3a9c")), Err(Unfit::Keyless));
    assert_eq!(shown_under(&[], &policy, Request::default()), Ok(None));
    assert_eq!(ids(&policy, bearer("x")).len(), 2);
    let many = [[1; 32], [2; 32], [3; 32]];
    assert_eq!(shown_under(&many, &policy, bearer("x")).unwrap().unwrap().0.len(), 2);
}

/// What many origins take the first word of is no other token than that word.
#[test]
fn a_word_behind_a_token_does_not_make_another_of_it() {
    let policy = rules(opaque(), json!({}));
    let with = |header: &str| shown(&policy, Request::default().header("authorization", header));
    for header in ["Bearer 7f3a9c x", "Bearer 7f3a9c,x", "DPoP 7f3a9c\tx", "Basic x, Bearer 7f3a9c"]
    {
        assert_eq!(with(header), Err(Unfit::Malformed), "{header:?}");
    }
    assert_eq!(with("Basic eDp5"), Ok(None), "no token");
    // Nor does one in the header of another source.
    let both = rules(
        json!([{ "jwt_authn": { "forwarded": "authorization" } }]),
        json!({ "check": ["token"], "missing": "allow" }),
    );
    let payload = json!({ "iss": "i" });
    let noted = Request::default().metadata(verified(&payload));
    let two = noted.header("authorization", format!("Basic x Bearer {}", token(&payload)));
    assert_eq!(shown(&both, two), Err(Unfit::Malformed));
}

/// Whoever reads a cookie may take off quotes, decode `%41` or `\101`, or do none of it: however a
/// secret is spelled, what it is taken for has the same id.
#[test]
fn spellings_of_one_secret_have_one_id() {
    let policy = policy(json!({ "revocation": { "session_cookie": "sid" } }));
    let plain = ids(&policy, Request::default().header("cookie", "sid=a/b c"));
    for spelling in ["a%2Fb%20c", "a%2fb+c", "\"a/b c\"", "\"a%2Fb%20c\"", "%61/b%20c"] {
        let cookie = Request::default().header("cookie", format!("x=y; sid={spelling}"));
        assert_eq!(ids(&policy, cookie), plain, "{spelling}");
    }
    // So does Python, in quotes.
    for spelling in [r#""\141/b\040c""#, r#""\a/\b c""#, r#""a\0452Fb\053c""#, r#""\141%2Fb+c""#] {
        let cookie = Request::default().header("cookie", format!("sid={spelling}"));
        assert_eq!(ids(&policy, cookie), plain, "{spelling}");
    }
    assert_eq!(secret_form(br#""\1412\400\18\""#).as_deref(), Some(&br"a240018\"[..]));
    assert_eq!(secret_form(b"Bearer a%2Fb").as_deref(), Some(&b"a/b"[..]));
    assert_eq!(secret_form(b""), None);
}

#[test]
fn a_session_cookie_is_there_once_and_of_sane_size() {
    let policy = policy(json!({ "revocation": { "session_cookie": "sid" } }));
    let with = |cookies: &str| shown(&policy, Request::default().header("cookie", cookies));
    assert_eq!(with("sid=a; sid=b"), Err(Unfit::Several));
    assert_eq!(with(&format!("sid={}", "x".repeat(16 * 1024 + 1))), Err(Unfit::Malformed));
    assert!(with(&format!("sid={}", "x".repeat(16 * 1024))).is_ok());
    assert_eq!(with("sid="), Ok(None));
    assert_eq!(with("sidecar=a; SID=b; xsid=c"), Ok(None));
}

/// Many servers take blanks off a cookie's name and value, each those of its language: who puts
/// one there shows the same session, not none, and not another beside a decoy.
#[test]
fn blanks_around_a_cookies_name_and_value_hide_no_session() {
    let policy = policy(json!({ "revocation": { "session_cookie": "sid" } }));
    let with = |cookies: &[u8]| shown(&policy, Request::default().header("cookie", cookies));
    let plain = with(b"sid=abc").unwrap().unwrap().0;
    assert_eq!(plain, keyed(Kind::Cookie, "abc"));
    for blank in [" ", "\t", " \t ", "\x0b", "\x0c", "\x1f"] {
        for cookies in [
            format!("sid{blank}=abc"),
            format!("sid={blank}abc"),
            format!("a=b;{blank}sid{blank}={blank}abc{blank}; c=d"),
        ] {
            assert_eq!(with(cookies.as_bytes()).unwrap().unwrap().0, plain, "{cookies:?}");
        }
        let decoy = format!("sid{blank}=abc; sid=decoy");
        assert_eq!(with(decoy.as_bytes()), Err(Unfit::Several), "{decoy:?}");
        let twice = format!("sid{blank}=abc; sid=abc{blank}");
        assert_eq!(with(twice.as_bytes()).unwrap().unwrap().0, plain, "{twice:?}");
    }
    // Python takes these off what it reads as Latin-1, and Node one of them.
    for cookies in [&b"sid\xa0=abc"[..], b"\x85sid=abc", b"sid=\xa0abc\x85"] {
        assert_eq!(with(cookies).unwrap().unwrap().0, plain, "{cookies:?}");
    }
    assert_eq!(with(b"s id=abc"), Ok(None), "another name");
    assert_eq!(with(b"sid= "), Ok(None), "nothing");
}

#[test]
fn blanks_around_a_cookies_name_hide_no_token() {
    let opaque = rules(json!([{ "opaque": { "cookie": "access" } }]), json!({}));
    let with = |cookies: &str| Request::default().header("cookie", cookies);
    assert_eq!(ids(&opaque, with("access =7f3a9c")), keyed(Kind::Opaque, "7f3a9c"));
    assert_eq!(shown(&opaque, with("access =7f3a9c; access=decoy")), Err(Unfit::Several));
    let from = json!([{ "bearer": { "cookie": "access", "unverified": true } }]);
    let signed = rules(from, json!({ "check": ["token"] }));
    let token = token(&whole());
    assert_eq!(ids(&signed, with(&format!("access\t= {token}"))), all_of_whole()[..1]);
}

proptest! {
    /// No two texts make one id by where one claim ends and another begins.
    #[test]
    fn ids_tell_claims_apart(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
        let policy = rules(unverified(), json!({ "check": ["token", "subject"] }));
        let of = |iss: &str, jti: &str| {
            ids(&policy, bearer(&token(&json!({ "iss": iss, "jti": jti, "sub": jti }))))
        };
        let (one, other) = (of(&a, &b), of(&c, &d));
        prop_assert_eq!((&a, &b) == (&c, &d), one == other);
        prop_assert_ne!(one[0].1, one[1].1);
    }

    #[test]
    fn no_request_at_all_does_harm(header in any::<Vec<u8>>(), cookie in any::<Vec<u8>>(), meta in any::<Vec<u8>>()) {
        let policy = policy(json!({
            "token": { "from": [
                { "jwt_authn": { "header": "h", "forwarded": "authorization" } },
                { "bearer": { "header": "authorization", "unverified": true } },
                { "opaque": { "header": "authorization" } },
                { "bearer": { "cookie": "a", "unverified": true } },
            ] },
            "revocation": { "session_cookie": "sid" },
        }));
        let request = || Request::default().header("authorization", &header).header("cookie", &cookie);
        let _ = shown(&policy, request());
        let _ = shown(&policy, request().metadata(meta.clone()));
    }
}
