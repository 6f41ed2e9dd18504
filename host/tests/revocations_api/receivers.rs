//! What OpenID providers send by themselves: taken if it is signed by them, for us, and of now.

mod provider;

use crate::common::{Caller, DEADLINE};
use crate::home::{Answer, Home, base64, now_secs};
use crate::server::Server;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use provider::{Provider, Signs};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Instant;
use tidegate_core::revoke::{Id, Kind};
use tokio::net::TcpSocket;

const ISSUER: &str = "https://id.example";
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
const SECTION: &str = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, receivers: { idp: { \
                       issuer: https://id.example, audiences: [shop], jwks_file: FOLDER/jwks } } }";

/// A host that takes what this provider sends.
fn home(provider: &Provider) -> Home {
    Home::prepared(SECTION, "", |folder| {
        std::fs::write(folder.join("jwks"), provider.jwks().to_string()).unwrap();
    })
}

/// Claims of a logout, with others put in or, if they are null, taken out.
fn logout(more: Value) -> Value {
    let now = now_secs();
    with(
        json!({ "iss": ISSUER, "aud": "shop", "iat": now, "exp": now + 120, "jti": "n1",
                "sub": "alice", "sid": "s1", "events": { LOGOUT: {} } }),
        more,
    )
}

/// Claims of an event about alice, likewise.
fn event(more: Value) -> Value {
    let alice = json!({ "format": "iss_sub", "iss": ISSUER, "sub": "alice" });
    with(
        json!({ "iss": ISSUER, "aud": ["other", "shop"], "iat": now_secs(), "jti": "n2",
                "sub_id": alice, "events": { SESSION_REVOKED: {} } }),
        more,
    )
}

fn with(mut claims: Value, more: Value) -> Value {
    let all = claims.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    all.retain(|_, value| !value.is_null());
    claims
}

async fn send_logout(home: &Home, token: &str) -> Answer {
    let form = format!("logout_token={token}");
    send(home, 1, "logout", "application/x-www-form-urlencoded", &form).await
}

async fn send_event(home: &Home, token: &str) -> Answer {
    send(home, 1, "events", "application/secevent+jwt", token).await
}

/// From an address of its own, without any credentials.
async fn send(home: &Home, from: u8, to: &str, kind: &str, body: &str) -> Answer {
    let request = Request::post(format!("/v1/receivers/idp/{to}"))
        .header("host", "t")
        .header("content-type", kind)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 1, from), 0).into()).unwrap();
    let stream = socket.connect(home.api).await.unwrap();
    let (head, body) = Caller::http1(stream).await.send(request).await;
    Answer {
        status: head.status().as_u16(),
        headers: head.headers().clone(),
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// What the API knows of something; `None` if nothing.
async fn known(home: &Home, kind: Kind, parts: &[&str]) -> Option<Value> {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let answer = home.get(&format!("/v1/revocations/{}", Id::of(kind, &parts))).await;
    (answer.status == 200).then(|| answer.json())
}

async fn revoked(home: &Home) -> u64 {
    home.get("/v1/revocations/stats").await.json()["revoked"].as_u64().unwrap()
}

#[tokio::test]
async fn a_logout_ends_the_session_or_all_of_the_subjects() {
    let provider = Provider::new();
    let home = home(&provider);
    let answer = send_logout(&home, &provider.sign(Signs::Es256, &logout(json!({})))).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let session = known(&home, Kind::Session, &[ISSUER, "s1"]).await.unwrap();
    assert_eq!((&session["kind"], &session["before"]), (&json!("session"), &json!("ever")));
    assert_eq!(known(&home, Kind::Subject, &[ISSUER, "alice"]).await, None);
    home.host.logs().line_with(&[
        "\"target\":\"audit\"",
        "\"action\":\"logout\"",
        "\"outcome\":\"revoked\"",
        "\"kind\":\"session\"",
        "\"who\":\"receiver idp\"",
        "\"peer\":\"127.0.1.1\"",
    ]);

    let all = logout(json!({ "sid": null, "iat": 1_790_000_000 }));
    let answer = send_logout(&home, &provider.sign(Signs::Rs256, &all)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // So long ago that nothing of it can live: no token lives longer than a day.
    assert_eq!(known(&home, Kind::Subject, &[ISSUER, "alice"]).await, None);
    let issued = now_secs() - 5;
    let all = logout(json!({ "sid": null, "iat": issued }));
    let answer = send_logout(&home, &provider.sign(Signs::Rs256, &all)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let subject = known(&home, Kind::Subject, &[ISSUER, "alice"]).await.unwrap();
    assert_eq!(subject["before"], issued, "what was issued later is of a later login");
    let text = home.host.logs().text();
    assert!(!text.contains("alice") && !text.contains("\"s1\""), "{text}");
}

#[tokio::test]
async fn events_of_every_signature_are_taken() {
    let provider = Provider::new();
    let home = home(&provider);
    for (number, signs) in Signs::ALL.into_iter().enumerate() {
        let who = format!("user-{number}");
        let sub_id = json!({ "format": "iss_sub", "iss": ISSUER, "sub": who });
        let token = provider.sign(signs, &event(json!({ "sub_id": sub_id })));
        let answer = send_event(&home, &token).await;
        assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{signs:?}: {answer:?}");
        assert!(known(&home, Kind::Subject, &[ISSUER, &who]).await.is_some(), "{signs:?}");
    }
    let before = revoked(&home).await;
    let verification = event(json!({ "events": { VERIFICATION: { "state": "x" } } }));
    let answer = send_event(&home, &provider.sign(Signs::Es256, &verification)).await;
    assert_eq!((answer.status, revoked(&home).await), (202, before), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_the_issuers_own_word_is_refused() {
    let (provider, other) = (Provider::new(), Provider::new());
    let home = home(&provider);
    let now = now_secs();
    let claims = |more: Value| provider.sign(Signs::Es256, &logout(more));
    let header = |header: Value| provider.sign_as(Signs::Es256, header, &logout(json!({})));
    let good = claims(json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = head.split_once('.').unwrap();
    let unsigned = format!("{}.{payload}.", base64(br#"{"alg":"none"}"#));
    let swapped = format!("{}.{}.{signature}", head.split('.').next().unwrap(), base64(b"{}"));
    let twice = provider.sign_text(Signs::Es256, r#"{"iat":1,"iat":2,"iss":"x","events":{}}"#);
    let wrong: Vec<(String, &str)> = vec![
        (other.sign(Signs::Es256, &logout(json!({}))), "signature"),
        (swapped, "signature"),
        (unsigned, "alg"),
        (provider.sign_hmac(&logout(json!({}))), "alg: wanted one of a public key"),
        (header(json!({ "alg": "ES256", "kid": "unknown" })), "kid: is of no key"),
        (header(json!({ "alg": "RS256", "kid": "es256" })), "kid: is of no key"),
        (header(json!({ "alg": "ES256", "kid": "es256", "crit": ["x"], "x": 1 })), "crit"),
        (header(json!({ "alg": "ES256", "kid": "es256", "typ": "at+jwt" })), "typ: wanted"),
        (claims(json!({ "iss": "https://other.example" })), "iss: is not"),
        (claims(json!({ "iss": [ISSUER] })), "wanted a known alg, iss"),
        (claims(json!({ "iss": null })), "wanted a known alg, iss"),
        (claims(json!({ "aud": "other" })), "aud: has none"),
        (claims(json!({ "aud": null })), "aud: is missing"),
        (claims(json!({ "exp": now - 120 })), "exp: it is over"),
        (claims(json!({ "exp": null, "iat": now - 600 })), "exp: is missing"),
        (claims(json!({ "exp": "tomorrow" })), "exp: is"),
        (claims(json!({ "nbf": now + 3_600 })), "nbf: it is not yet valid"),
        (claims(json!({ "iat": null })), "wanted a known alg, iss"),
        (claims(json!({ "jti": null })), "wanted a known alg, iss, jti"),
        (claims(json!({ "jti": 7 })), "wanted a known alg, iss, jti"),
        (claims(json!({ "iat": now + 3_600 })), "iat: is 3"),
        (claims(json!({ "nonce": "n" })), "nonce"),
        (claims(json!({ "events": {} })), "events: wanted an object"),
        (claims(json!({ "events": [LOGOUT] })), "events as an object"),
        (claims(json!({ "sid": null, "sub": null })), "neither sid nor sub"),
        (claims(json!({ "sid": "s".repeat(1_025) })), "sid: has 1025 bytes"),
        (claims(json!({ "x": "x".repeat(12_300) })), "wanted at most 16384"),
        (twice, "wanted a known alg, iss"),
        ("a.b.c".to_owned(), "no signed JWT"),
        ("a".to_owned(), "no signed JWT"),
        (String::new(), "wanted a form with logout_token=…"),
        (format!("{good}&logout_token={good}"), "has logout_token more than once"),
    ];
    for (from, (token, says)) in (1..).zip(wrong) {
        let form = format!("logout_token={token}");
        let kind = "application/x-www-form-urlencoded";
        let answer = send(&home, from, "logout", kind, &form).await;
        assert_eq!(answer.status, 400, "{says}: {answer:?}");
        let page = answer.json();
        assert_eq!(page["error"], "invalid_request");
        let what = page["error_description"].as_str().unwrap();
        assert!(what.contains(says), "{what} is not {says}");
    }
    let form = "application/x-www-form-urlencoded";
    for (kind, body, status) in [("application/json", "{}", 415), (form, &*"x".repeat(18_000), 413)]
    {
        let answer = send(&home, 100, "logout", kind, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(revoked(&home).await, 0);
    assert_eq!(send_logout(&home, &good).await.status, 200);
    let endless = claims(json!({ "exp": null, "sid": "s2" }));
    assert_eq!(send_logout(&home, &endless).await.status, 200, "some providers' have no exp");
}

#[tokio::test]
async fn an_event_is_refused_with_the_codes_of_its_protocol() {
    let (provider, other) = (Provider::new(), Provider::new());
    let home = home(&provider);
    let claims = |more: Value| provider.sign(Signs::Es256, &event(more));
    let of = |subject: Value| claims(json!({ "sub_id": subject }));
    for (from, (token, code, says)) in (1..).zip([
        (other.sign(Signs::Es256, &event(json!({}))), "authentication_failed", "signature"),
        (claims(json!({ "iss": "https://other.example" })), "invalid_issuer", "iss"),
        (claims(json!({ "aud": [] })), "invalid_audience", "aud"),
        (claims(json!({ "exp": 1_790_000_000 })), "invalid_request", "exp: it is over"),
        (claims(json!({ "sub_id": null })), "invalid_request", "sub_id: is missing"),
        (of(json!({ "format": "email", "email": "a@b" })), "invalid_request", "no token names"),
        // An issuer has no say about what others issue.
        (
            of(json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "alice" })),
            "invalid_request",
            "token_issuers",
        ),
        ("x".to_owned(), "invalid_request", "no signed JWT"),
    ]) {
        let answer = send(&home, from, "events", "application/secevent+jwt", &token).await;
        assert_eq!(answer.status, 400, "{says}: {answer:?}");
        assert_eq!(answer.headers["content-language"], "en");
        let page = answer.json();
        let what = page["description"].as_str().unwrap();
        assert!(page["err"] == code && what.contains(says), "{page} is not {code}: {says}");
    }
    assert_eq!(revoked(&home).await, 0);
    // Whoever is to blame, somebody's session goes on: it is counted, and said why.
    let counted = "tidegate_revocations_api_strangers_total{why=\"wrong_notice\"}";
    assert_eq!(home.host.metric(counted).await, 8.0);
    home.host.logs().line_with(&["WARN", "a notice was refused", "that no token names"]);
}

#[tokio::test]
async fn a_flood_of_wrong_notices_is_cut_short_and_keeps_no_right_one_out() {
    let (provider, other) = (Provider::new(), Provider::new());
    let home = home(&provider);
    let wrong = other.sign(Signs::Es256, &logout(json!({})));
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(send_logout(&home, &wrong).await.status);
    }
    let refused = statuses.iter().filter(|status| **status == 400).count();
    assert!((10..30).contains(&refused), "10, and one more each 6 s: {refused}");
    assert!(statuses.iter().all(|status| [400, 429].contains(status)));
    let right = provider.sign(Signs::Es256, &logout(json!({})));
    assert_eq!(send_logout(&home, &right).await.status, 200, "from the same address");
    let counted = "tidegate_revocations_api_strangers_total{why=\"wrong_notice\"}";
    assert_eq!(home.host.metric(counted).await, 60.0);
    // What is nobody's tells nobody that it is.
    for path in ["/v1/receivers/other/logout", "/v1/receivers/idp/other", "/v1/receivers/idp"] {
        let request = Request::post(path).header("host", "t").body(Full::default()).unwrap();
        assert!([401, 429].contains(&home.request(request).await.status), "{path}");
    }
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart_and_a_wrong_file_changes_nothing() {
    let (old, new) = (Provider::new(), Provider::new());
    let home = home(&old);
    let put = |text: &str| {
        std::fs::write(home.path("next"), text).unwrap();
        std::fs::rename(home.path("next"), home.path("jwks")).unwrap();
    };
    // As providers do: both for a while.
    let keys = |providers: &[&Provider]| {
        let all = providers.iter().flat_map(|it| it.jwks()["keys"].as_array().unwrap().clone());
        json!({ "keys": all.collect::<Vec<_>>() }).to_string()
    };
    let status = async |provider: &Provider| {
        let token = provider.sign(Signs::Es256, &logout(json!({})));
        send_logout(&home, &token).await.status
    };
    let until = async |provider: &Provider, wanted: u16| {
        let end = Instant::now() + DEADLINE;
        while status(provider).await != wanted {
            assert!(Instant::now() < end, "no {wanted} in time");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    put(&keys(&[&old, &new]));
    until(&new, 200).await;
    assert_eq!(status(&old).await, 200);
    put(&keys(&[&new]));
    home.host.logs().line_with(&["read anew", "\"receiver\":\"idp\"", "\"keys\":5"]);
    put("{\"keys\": []}");
    home.host.logs().line_with(&["WARN", "they are as they were", "jwks: holds no public key"]);
    assert_eq!(status(&new).await, 200);
    // Refused, or one of too many refused: in any case not taken.
    assert!([400, 429].contains(&status(&old).await));
}

#[tokio::test]
async fn a_notice_that_is_sent_again_does_nothing_new() {
    let provider = Provider::new();
    let home = home(&provider);
    let past = provider.sign(Signs::Es256, &logout(json!({ "iat": now_secs() - 30 })));
    assert_eq!(send_logout(&home, &past).await.status, 200);
    let position = async || home.get("/v1/revocations/stats").await.json()["position"].clone();
    let at = position().await;
    assert_eq!((send_logout(&home, &past).await.status, position().await), (200, at));
    home.host.logs().line_with(&["\"outcome\":\"revoked_before\"", "\"kind\":\"session\""]);
    // And what an operator lifted since stays lifted.
    let session = json!({ "iss": ISSUER, "sid": "s1" }).to_string();
    let lifted = home.post("/v1/revocations/lift", &session).await;
    assert_eq!(lifted.status, 200, "{lifted:?}");
    assert_eq!(send_logout(&home, &past).await.status, 200);
    assert_eq!(known(&home, Kind::Session, &[ISSUER, "s1"]).await.unwrap()["lifted"], true);
    home.host.logs().line_with(&["\"outcome\":\"lifted_since\"", "\"kind\":\"session\""]);
    let now = provider.sign(Signs::Es256, &logout(json!({ "iat": now_secs() + 2 })));
    assert_eq!(send_logout(&home, &now).await.status, 200);
    let session = known(&home, Kind::Session, &[ISSUER, "s1"]).await.unwrap();
    assert_eq!((&session["lifted"], &session["before"]), (&Value::Null, &json!("ever")));
}

#[tokio::test]
async fn while_redis_is_away_this_host_takes_it_and_tells_it_later() {
    let Some(mut server) = Server::start() else { return };
    let provider = Provider::new();
    let redis = format!("redis:\n  addresses: [127.0.0.1:{}]\n", server.port);
    let home = Home::prepared(SECTION, &redis, |folder| {
        std::fs::write(folder.join("jwks"), provider.jwks().to_string()).unwrap();
    });
    let stats = async || home.get("/v1/revocations/stats").await.json();
    let until = async |what: &str, is_so: fn(&Value) -> bool| {
        let end = Instant::now() + DEADLINE;
        while !is_so(&stats().await) {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    until("it follows the log", |page| page["age_seconds"].is_f64()).await;
    server.kill();
    let token = provider.sign(Signs::Es256, &logout(json!({})));
    let answer = send_logout(&home, &token).await;
    assert_eq!(answer.status, 200, "who sends it may never send it again: {answer:?}");
    assert!(known(&home, Kind::Session, &[ISSUER, "s1"]).await.is_some());
    assert_eq!(stats().await["waits_for_shared"], 1);
    server.restart();
    until("it is shared", |page| page["waits_for_shared"] == 0).await;
}
