//! To revoke, to lift, and to look at what came of it.

use crate::home::{Answer, Home, ID_KEY, base64, now_secs};
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_core::revoke::{Id, Kind};

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

#[tokio::test]
async fn a_token_in_a_form_is_revoked_by_what_it_says() {
    let home = Home::new();
    let exp = now_secs() + 600;
    let with_jti = signed(&json!({"iss": "i", "jti": "j", "sub": "s", "iat": 1, "exp": exp}));
    let without = signed(&json!({"iss": "i", "sub": "s", "exp": exp}));
    let critical = format!("{}.{}.c2ln", base64(br#"{"alg":"RS256","crit":["x"]}"#), base64(b"{}"));
    let hashed = |token: &str| {
        let digest = Sha256::digest(token.rsplit_once('.').unwrap().0);
        Id::of(Kind::TokenHash, &[&digest]).to_string()
    };
    let keyed = |token: &str| Id::keyed(Kind::Opaque, &ID_KEY, token.as_bytes()).to_string();
    for (token, ids, exp) in [
        (with_jti.as_str(), vec![id(Kind::Token, &["i", "j"])], json!(exp)),
        (&without, vec![hashed(&without)], json!(exp)),
        ("opaque~1", vec![keyed("opaque~1")], Value::Null),
        // It looks signed and cannot be read: as a secret, and as the hash that others may take.
        (&critical, vec![keyed(&critical), hashed(&critical)], Value::Null),
    ] {
        let checked = home.form("/v1/revocations/check", token).await.json();
        assert_eq!(checked["revoked"], false, "{token}: {checked}");
        let answer = home.form("/v1/revoke", token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let results = page["results"].as_array().unwrap();
        let found: Vec<&str> = results.iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{token}: {page}");
        assert_eq!(results[0].get("exp").cloned().unwrap_or_default(), exp, "{token}: {page}");
        let checked = home.form("/v1/revocations/check", &format!("Bearer {token}")).await.json();
        assert_eq!(checked["revoked"], true, "{token}: {checked}");
    }
}

#[tokio::test]
async fn what_can_be_no_live_token_is_as_good_as_revoked() {
    let home = Home::new();
    let expired = signed(&json!({"iss": "i", "jti": "j", "exp": now_secs() - 120}));
    let long = "x".repeat(17_000);
    for (token, why) in [(expired.as_str(), "over"), (&long, "no_token"), ("Bearer", "no_token")] {
        let answer = home.form("/v1/revoke", token).await;
        assert_eq!(
            (answer.status, &answer.json()["nothing_to_do"]),
            (200, &json!(why)),
            "{answer:?}"
        );
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
    logs.line_with(&["\"action\":\"export\"", "\"outcome\":\"done\"", "\"count\":3"]);
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
