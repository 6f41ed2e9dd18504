//! To revoke, to lift, and to look at what came of it.

use crate::home::{Answer, Home, ID_KEY, base64, now_secs};
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::revoke::identity::Parts;
use tidegate_core::revoke::{Id, Identity, Kind};
use tidegate_core::token::Reading;
use tidegate_policy::resolve::resolve;

/// A signed token of these claims.
fn signed(claims: &Value) -> String {
    let header = base64(br#"{"alg":"RS256","kid":"k1"}"#);
    format!("{header}.{}.c2ln", base64(claims.to_string().as_bytes()))
}

/// The one result of an answer.
fn result(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    assert_eq!(page["results"].as_array().unwrap().len(), 1, "{page}");
    page["results"][0].clone()
}

fn id(kind: Kind, parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    Id::of(kind, &parts).to_string()
}

#[tokio::test]
async fn every_kind_is_revoked_by_its_id_and_lifted_again() {
    let home = Home::new();
    let (now, exp) = (now_secs(), now_secs() + 3_600);
    let (iss, day) = ("https://id.example", 86_400);
    let hash: String = Sha256::digest("h.p").iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = Sha256::digest("h.p");
    let keyed = |kind, secret: &str| Id::keyed(kind, &ID_KEY, secret.as_bytes()).to_string();
    let ever = || json!("ever");
    for (said, kind, id, before, until) in [
        (
            json!({"jti": "a", "iss": iss, "exp": exp}),
            "token",
            id(Kind::Token, &[iss, "a"]),
            ever(),
            json!(exp),
        ),
        (
            json!({"jti": 7, "iss": iss}),
            "token",
            id(Kind::Token, &[iss, "7"]),
            ever(),
            json!(now + day),
        ),
        (
            json!({"jti": "b", "iss": "", "until": exp}),
            "token",
            id(Kind::Token, &["", "b"]),
            ever(),
            json!(exp),
        ),
        (
            json!({"sub": "s", "iss": iss}),
            "subject",
            id(Kind::Subject, &[iss, "s"]),
            json!(now),
            json!(now + day),
        ),
        (
            json!({"client": "c", "iss": iss, "before": now - 60}),
            "client",
            id(Kind::Client, &[iss, "c"]),
            json!(now - 60),
            json!(now - 60 + day),
        ),
        (
            json!({"tenant": "t", "iss": iss, "before": "ever"}),
            "tenant",
            id(Kind::Tenant, &[iss, "t"]),
            ever(),
            ever(),
        ),
        (
            json!({"sid": "s", "iss": iss}),
            "session",
            id(Kind::Session, &[iss, "s"]),
            ever(),
            json!(now + 30 * day),
        ),
        (json!({"kid": "k", "iss": iss}), "key", id(Kind::Key, &[iss, "k"]), ever(), ever()),
        (json!({"iss": iss}), "issuer", id(Kind::Issuer, &[iss]), json!(now), json!(now + day)),
        (
            json!({"cookie": "s%41", "until": exp}),
            "cookie",
            keyed(Kind::Cookie, "sA"),
            ever(),
            json!(exp),
        ),
        (json!({"opaque": "o"}), "opaque", keyed(Kind::Opaque, "o"), ever(), json!(now + 30 * day)),
        (
            json!({"token_hash": hash, "exp": exp}),
            "token_hash",
            Id::of(Kind::TokenHash, &[&digest]).to_string(),
            ever(),
            json!(exp),
        ),
        (
            json!({"id": "00".repeat(16), "kind": "subject", "before": 1_000_000_000, "until": exp}),
            "subject",
            "00".repeat(16),
            json!(1_000_000_000),
            json!(exp),
        ),
    ] {
        let revoked = result(&home.post("/v1/revocations", &said.to_string()).await);
        let found = |name: &str| revoked[name].clone();
        assert_eq!(
            (found("outcome"), found("kind"), found("id")),
            (json!("revoked"), json!(kind), json!(id)),
            "{said}"
        );
        let end = revoked.get("exp").unwrap_or(&revoked["until"]);
        // A second may have passed.
        let near = |found: &Value, wanted: &Value| match (found.as_u64(), wanted.as_u64()) {
            (Some(found), Some(wanted)) => (wanted..wanted + 5).contains(&found),
            _ => found == wanted,
        };
        assert!(near(&found("before"), &before) && near(end, &until), "{said}: {revoked}");
        assert_eq!(revoked.get("exp").is_some(), said.get("exp").is_some(), "{said}: {revoked}");

        let known = home.get(&format!("/v1/revocations/{id}")).await;
        assert_eq!(known.json()["before"], found("before"), "{said}");
        let lifted = result(&home.post("/v1/revocations/lift", &said.to_string()).await);
        assert_eq!((&lifted["outcome"], &lifted["id"]), (&json!("lifted"), &json!(id)), "{said}");
        let known = home.get(&format!("/v1/revocations/{id}")).await.json();
        assert_eq!(known["lifted"], true, "{said}: {known}");
    }
}

#[tokio::test]
async fn the_same_twice_is_the_same_and_what_was_lifted_can_be_revoked_again() {
    let home = Home::new();
    let said = json!({"jti": "a", "iss": "b", "exp": now_secs() + 60}).to_string();
    let id = id(Kind::Token, &["b", "a"]);
    let (one, other) =
        (home.post("/v1/revocations", &said).await, home.post("/v1/revocations", &said).await);
    let but_when = |answer: &Answer| {
        let mut result = result(answer);
        result["at_ms"].take();
        result
    };
    assert_eq!(but_when(&one), but_when(&other));
    let path = id_path("token", &id);
    let delete = || home.send(Method::DELETE, &path, None);
    assert_eq!(result(&delete().await)["outcome"], "lifted");
    assert_eq!(result(&delete().await)["outcome"], "not_revoked");
    // Another host's clock, and so its lifting, may be ahead of ours.
    let ahead_ms = (now_secs() + 50) * 1_000;
    let until = now_secs() + 60;
    let lifted =
        json!({"kind": "token", "id": id, "lifted": true, "at_ms": ahead_ms, "until": until});
    let kind = "application/x-ndjson";
    let body = lifted.to_string();
    let sent = home.send(Method::POST, "/v1/revocations/import", Some((kind, body.as_bytes())));
    assert_eq!(sent.await.json()["accepted"], 1);
    home.post("/v1/revocations", &said).await;
    let known = home.get(&format!("/v1/revocations/{id}")).await.json();
    assert_eq!((&known["lifted"], &known["before"]), (&Value::Null, &json!("ever")), "{known}");
    // And it is lifted again, although it was revoked in what is yet to come.
    assert_eq!(result(&delete().await)["outcome"], "lifted");
    let known = home.get(&format!("/v1/revocations/{id}")).await.json();
    assert_eq!(known["lifted"], true, "{known}");

    let other = home.send(Method::DELETE, &id_path("subject", &id), None).await;
    assert_eq!(
        (other.status, other.detail()),
        (404, format!("{id} is of kind token, not subject"))
    );
}

fn id_path(kind: &str, id: &str) -> String {
    format!("/v1/revocations/{kind}/{id}")
}

/// The ids of what came of a token.
fn ids_of(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    let results = page["results"].as_array().unwrap().iter();
    results.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

fn token_of(header: &str, payload: &str) -> String {
    format!("{}.{}.c2ln", base64(header.as_bytes()), base64(payload.as_bytes()))
}

fn hashed(token: &str) -> String {
    let digest = Sha256::digest(token.rsplit_once('.').unwrap().0);
    Id::of(Kind::TokenHash, &[&digest]).to_string()
}

fn keyed(token: &str) -> String {
    Id::keyed(Kind::Opaque, &ID_KEY, token.as_bytes()).to_string()
}

#[tokio::test]
async fn a_token_in_a_form_is_revoked_by_what_it_says() {
    let home = Home::new();
    let exp = now_secs() + 600;
    let with_jti = signed(&json!({"iss": "i", "jti": "j", "sub": "s", "iat": 1, "exp": exp}));
    let without = signed(&json!({"iss": "i", "sub": "s", "exp": exp}));
    let unreadable = token_of("{}", r#"{"jti":"j","jti":"k"}"#);
    for (token, ids, ends) in [
        (with_jti.as_str(), vec![id(Kind::Token, &["i", "j"]), keyed(&with_jti)], true),
        (&without, vec![hashed(&without), keyed(&without)], true),
        ("opaque~1", vec![keyed("opaque~1")], false),
        ("with blanks", vec![keyed("with blanks")], false), // as a cookie may have it
        // It looks signed and cannot be read: as a secret, and as the hash that others may take.
        (&unreadable, vec![hashed(&unreadable), keyed(&unreadable)], false),
    ] {
        let checked = home.form("/v1/revocations/check", token).await.json();
        assert_eq!(checked["revoked"], false, "{token}: {checked}");
        let answer = home.form("/v1/revoke", token).await;
        assert_eq!(ids_of(&answer), ids, "{token}: {answer:?}");
        for result in answer.json()["results"].as_array().unwrap() {
            // Of a secret nobody is shown the end, so it is not looked for by its end.
            let (told, other) = match result["kind"].as_str() {
                Some("opaque") => (&result["until"], &result["exp"]),
                _ if ends => (&result["exp"], &result["until"]),
                _ => (&result["until"], &result["exp"]),
            };
            assert_eq!((told == exp, other.is_null()), (ends, true), "{token}: {result}");
        }
        let checked = home.form("/v1/revocations/check", &format!("Bearer {token}")).await.json();
        assert_eq!(checked["revoked"], true, "{token}: {checked}");
    }
}

/// What proxies look up of a token depends on where their policy finds it, and on who verified it:
/// Envoy's verifier knows nothing of `crit`, and pays no heed to claims that are not its own.
#[tokio::test]
async fn whatever_a_proxy_may_look_a_token_up_by_is_revoked() {
    const HEADER: &str = r#"{"alg":"RS256","kid":"k1"}"#;
    let home = Home::new();
    let exp = now_secs() + 600;
    let claims = |n: u32| format!(r#""iss":"i","jti":"j{n}","exp":{exp}"#);
    let padded = token_of(HEADER, &format!("{{{}}} ", claims(1)));
    let (start, signature) = padded.rsplit_once('.').unwrap();
    let missing = (4 - start.rsplit_once('.').unwrap().1.len() % 4) % 4;
    let padded = format!("{start}{}.{signature}", "=".repeat(missing));
    for (n, token) in [
        token_of(HEADER, &format!("{{{}}}", claims(0))),
        padded,
        token_of(r#"{"alg":"RS256","crit":["x"],"x":1}"#, &format!("{{{}}}", claims(2))),
        token_of(r#"{"alg":"none","kid":["k"]}"#, &format!("{{{}}}", claims(3))),
        token_of("[]", &format!("{{{}}}", claims(4))),
        token_of(HEADER, &format!(r#"{{{},"sub":["s"],"sid":null,"azp":{{}}}}"#, claims(5))),
        token_of(HEADER, &format!(r#"{{{},"sub":"a","sub":"b"}}"#, claims(6))),
        token_of(r#"{"alg":"RS256","crit":["x"]}"#, &format!(r#"{{"iss":"i","exp":{exp}}}"#)),
        token_of(HEADER, &format!(r#"{{"iss":"i","jti":["j"],"exp":{exp}}}"#)),
        "a.b.c".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let revoked = ids_of(&home.form("/v1/revoke", token).await);
        let looked_up = looked_up(token);
        assert!(looked_up.contains(&keyed(token)), "{token}");
        for id in &looked_up {
            assert!(revoked.contains(id), "{n}: {id} of {token}: {revoked:?}");
        }
        let by_claims = id(Kind::Token, &["i", &format!("j{n}")]);
        assert_eq!(revoked.contains(&by_claims), n <= 5, "{n}: {token}");
        let checked = home.form("/v1/revocations/check", token).await.json();
        let checked = checked["ids"].as_array().unwrap().iter();
        let found: Vec<&str> = checked
            .filter(|id| id["revoked"] == true)
            .map(|id| id["id"].as_str().unwrap())
            .collect();
        assert_eq!(found, revoked, "{n}: {token}");
    }
}

/// The ids of a token as proxies come to them, under policies that find it in one place or
/// another, and look at it alone.
fn looked_up(token: &str) -> Vec<String> {
    let payload = token.split('.').nth(1).unwrap();
    let mut ids = Vec::new();
    for (source, shown) in [
        (json!({"bearer": {"header": "x", "unverified": true}}), token),
        (json!({"bearer": {"cookie": "x", "unverified": true}}), &format!("x={token}")),
        (json!({"payload_header": "x"}), payload),
        (json!({"opaque": {"header": "x"}}), &format!("Bearer {token}")),
        (json!({"opaque": {"cookie": "x"}}), &format!("y=z; x=\"{token}\"")),
    ] {
        let policy = json!({
            "tidegate": 1, "domain": "d", "host": {"cluster": "h"},
            "token": {"from": [source]}, "revocation": {"check": ["token"], "missing": "allow"},
        });
        let policy = resolve(&serde_json::from_value(policy).unwrap()).policy.unwrap();
        let (mut identity, mut reading) = (Identity::default(), Reading::new(&policy));
        let facts = (&policy, &mut Shows(shown.as_bytes()));
        let rules = policy.revocation.as_ref().unwrap();
        // What cannot be read is refused without being looked up.
        let make = &mut |parts: Parts<'_>| parts.id();
        if identity.read(rules, facts, &mut reading, &[ID_KEY], make).is_ok() {
            ids.extend(identity.ids.iter().map(|(_, id)| id.to_string()));
        }
    }
    ids
}

/// A request with one header.
struct Shows<'a>(&'a [u8]);

impl Facts for Shows<'_> {
    fn read(&mut self, _: WantId, _: &Want) -> Option<&[u8]> {
        Some(self.0)
    }
}

#[tokio::test]
async fn a_token_that_is_over_is_as_good_as_revoked_and_none_that_is_too_long() {
    let home = Home::new();
    let expired = signed(&json!({"iss": "i", "jti": "j", "exp": now_secs() - 120}));
    let answer = home.form("/v1/revoke", &expired).await;
    assert_eq!((answer.status, &answer.json()["nothing_to_do"]), (200, &json!("over")));
    // A verifier may take a longer token than we read: nobody is told that it is revoked.
    let long = format!("{}.{}.c2ln", base64(b"{}"), "x".repeat(17_000));
    for (token, says) in [
        (long.as_str(), "token: has 17009 bytes, wanted at most 16384: revoke it by jti and iss"),
        ("Bearer", "token: is empty"),
        ("\"\"", "token: is empty"),
    ] {
        let answer = home.form("/v1/revoke", token).await;
        let page = answer.json();
        assert_eq!((answer.status, &page["error"]), (400, &json!("invalid_request")), "{page}");
        assert!(page["error_description"].as_str().unwrap().starts_with(says), "{page}");
        let answer = home.form("/v1/revocations/check", token).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.detail().starts_with(says), "{answer:?}");
    }
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 0);
    // What only just expired may be alive where clocks are behind.
    let just = signed(&json!({"iss": "i", "jti": "j", "exp": now_secs() - 5}));
    assert_eq!(home.form("/v1/revoke", &just).await.json()["results"][0]["outcome"], "revoked");

    let endless = signed(&json!({"iss": "i", "jti": "j", "exp": 40_000_000_000_u64}));
    for (form, error) in [
        (format!("token={endless}"), "invalid_request"),
        ("token_type_hint=access_token".to_owned(), "invalid_request"),
        ("token=a&token=b".to_owned(), "invalid_request"),
    ] {
        let body = Some(("application/x-www-form-urlencoded", form.as_bytes()));
        let answer = home.send(Method::POST, "/v1/revoke", body).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{answer:?}");
    }
}

/// Proxies look for a token where its own `exp` says: a record with another is lost to them.
#[tokio::test]
async fn a_token_revoked_with_another_exp_is_not_told_to_be() {
    let home = Home::new();
    let exp = now_secs() + 86_400;
    let token = signed(&json!({"iss": "i", "jti": "j", "exp": exp}));
    let said = json!({"iss": "i", "jti": "j", "exp": exp - 60});
    assert_eq!(
        result(&home.post("/v1/revocations", &said.to_string()).await)["outcome"],
        "revoked"
    );
    let check = async || home.form("/v1/revocations/check", &token).await.json();
    let page = check().await;
    assert_eq!((&page["revoked"], &page["ids"][0]["revoked"]), (&json!(false), &json!(false)));
    assert_eq!(page["ids"][0]["other_exp"], exp - 60, "{page}");
    std::fs::write(home.path("token.jwt"), &token).unwrap();
    let run = home.run(&["revocations", "check", "token.jwt"]).await;
    let told = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(0), "{told}");
    assert!(told.contains(" revoked with another exp, "), "{told}");
    // With its own as well it is looked for wherever it may be.
    assert_eq!(home.form("/v1/revoke", &token).await.status, 200);
    let page = check().await;
    assert_eq!((&page["revoked"], &page["ids"][0]["revoked"]), (&json!(true), &json!(true)));
    assert_eq!(page["ids"][0].get("other_exp"), None, "{page}");
}

#[tokio::test]
async fn without_a_key_secrets_cannot_be_revoked_and_that_is_said() {
    let section = "id_key_files: []\n  api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";
    let home = Home::with(section, "");
    let answer = home.form("/v1/revoke", "opaque").await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("unsupported_token_type")));
    let answer = home.post("/v1/revocations", r#"{"cookie": "c"}"#).await;
    assert!(answer.detail().contains("revocations.id_key_files"), "{answer:?}");
}

#[tokio::test]
async fn a_check_tells_which_of_its_ids_revoke_a_token() {
    let home = Home::with(
        "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens, claims: { client: cid, tenant: tid } }",
        "",
    );
    let issued = now_secs() - 100;
    let claims = json!({"iss": "i", "jti": "j", "sub": "s", "cid": "c", "tid": "t", "sid": "x",
        "iat": issued, "exp": issued + 3_600});
    let token = signed(&claims);
    let revoked = async || {
        let page = home.form("/v1/revocations/check", &token).await.json();
        let ids = page["ids"].as_array().unwrap().clone();
        let by: Vec<String> = ids
            .iter()
            .filter(|id| id["revoked"] == true)
            .map(|id| id["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(page["revoked"], !by.is_empty(), "{page}");
        assert_eq!(page["issued"], issued);
        by
    };
    assert!(revoked().await.is_empty());
    home.post(
        "/v1/revocations",
        &json!({"sub": "s", "iss": "i", "before": issued - 1}).to_string(),
    )
    .await;
    assert!(revoked().await.is_empty(), "it was issued afterwards");
    home.post("/v1/revocations", &json!({"sub": "s", "iss": "i", "before": issued}).to_string())
        .await;
    assert_eq!(revoked().await, ["subject"]);
    for (said, kind) in [
        (json!({"client": "c", "iss": "i"}), "client"),
        (json!({"tenant": "t", "iss": "i"}), "tenant"),
        (json!({"sid": "x", "iss": "i"}), "session"),
        (json!({"kid": "k1", "iss": "i"}), "key"),
        (json!({"iss": "i"}), "issuer"),
        (json!({"jti": "j", "iss": "i"}), "token"),
    ] {
        home.post("/v1/revocations", &said.to_string()).await;
        assert!(revoked().await.contains(&kind.to_owned()), "{said}");
    }
}

#[tokio::test]
async fn lists_are_told_page_by_page_and_by_kind() {
    let home = Home::new();
    let many: Vec<Value> = (0..50).map(|n| json!({"jti": n, "iss": "i"})).collect();
    home.post("/v1/revocations", &json!(many).to_string()).await;
    home.post("/v1/revocations", r#"{"sub": "s", "iss": "i"}"#).await;
    let (mut ids, mut next) = (Vec::new(), String::new());
    loop {
        let page = home.get(&format!("/v1/revocations?limit=7&kind=token{next}")).await.json();
        let told = page["revocations"].as_array().unwrap();
        assert!(told.len() <= 7 && told.iter().all(|it| it["kind"] == "token"), "{page}");
        ids.extend(told.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
    }
    assert!(ids.is_sorted() && ids.len() == 50, "{ids:?}");
    let stats = home.get("/v1/revocations/stats").await.json();
    assert_eq!(
        (&stats["revoked"], &stats["by_kind"]["token"]),
        (&json!(51), &json!(50)),
        "{stats}"
    );
    assert_eq!(home.get(&format!("/v1/revocations/{}", "ab".repeat(16))).await.status, 404);
}

#[tokio::test]
async fn what_is_revoked_outlives_the_process() {
    let home = Home::new();
    home.post("/v1/revocations", r#"{"jti": "a", "iss": "b"}"#).await;
    let home = home.killed_and_served_again();
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 1);
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_no_secret() {
    const SECRETS: [&str; 3] = ["hunter2", "https://id.example", crate::home::TOKEN];
    let home = Home::new();
    let token = signed(&json!({"iss": SECRETS[1], "jti": "hunter2", "exp": now_secs() + 60}));
    for said in [
        json!({"jti": "hunter2", "iss": SECRETS[1], "reason": "lost phone"}),
        json!({"cookie": "hunter2"}),
        json!({"opaque": "hunter2"}),
        json!({"jti": ["hunter2"], "iss": SECRETS[1]}),
    ] {
        home.post("/v1/revocations", &said.to_string()).await;
    }
    home.form("/v1/revoke", &token).await;
    home.form("/v1/revocations/check", &token).await;
    home.post("/v1/revocations/lift", &json!({"cookie": "hunter2"}).to_string()).await;
    home.get("/v1/revocations/export").await;
    home.send_as(Some("hunter2hunter2hunter2"), Method::GET, "/v1/revocations", None).await;
    let id = id(Kind::Token, &[SECRETS[1], "hunter2"]);
    let logs = home.host.logs();
    logs.line_with(&["\"action\":\"revoke\"", "\"outcome\":\"revoked\"", &id, "lost phone"]);
    let line = logs.line_with(&["\"action\":\"revoke_token\"", &id]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["who"], &line["peer"]), (&json!("token tests"), &json!("127.0.0.1")));
    logs.line_with(&["\"action\":\"lift\"", "\"outcome\":\"lifted\"", "\"kind\":\"cookie\""]);
    logs.line_with(&["\"action\":\"export\"", "\"outcome\":\"done\"", "\"count\":4"]);
    logs.line_with(&["\"outcome\":\"wrong_token\""]);
    let (_, metrics) = home.host.admin("/metrics").await;
    for secret in SECRETS {
        assert!(!logs.text().contains(secret), "{secret} in {}", logs.text());
        assert!(!metrics.contains(secret), "{secret} in {metrics}");
    }
    assert!(
        metrics.contains("tidegate_revocations_api_answers_total{status=\"400\"} 1"),
        "{metrics}"
    );
}
