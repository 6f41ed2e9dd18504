//! Requests that are wrong, and what is said of each; the bounds on all of them.

use crate::home::{Home, now_secs};
use hyper::{Method, Request};
use serde_json::json;

#[tokio::test]
async fn every_wrong_request_gets_its_message() {
    let home = Home::new();
    let now = now_secs();
    let long = "x".repeat(1 << 20);
    let late = now + 5_000 * 86_400;
    for (said, says) in [
        ("", "line 1 column 0: EOF while parsing a value"),
        ("{", "line 1 column 1: EOF while parsing an object"),
        ("7", "line 1 column 1: invalid type: integer `7`, expected an object"),
        ("[]", "an empty list"),
        ("{}", "does not say what: wanted jti, sub,"),
        (
            r#"{"jit": "a", "iss": "b"}"#,
            "line 1 column 6: there is no field \"jit\": did you mean \"jti\"?",
        ),
        (
            r#"{"client_id": "a", "iss": "b"}"#,
            "there is no field \"client_id\": did you mean \"client\"?",
        ),
        (r#"{"zzzzzz": 1}"#, "there is no field \"zzzzzz\": wanted one of jti, iss,"),
        (r#"{"jti": "a", "jti": "b", "iss": "c"}"#, "jti: is there twice"),
        (r#"{"jti": null, "iss": "b"}"#, "jti: is null; leave it out"),
        (r#"{"jti": "a"}"#, "says jti without iss: only issuer and jti together name one thing"),
        (
            r#"{"jti": "a", "sub": "b", "iss": "c"}"#,
            "says jti and sub: one revocation is of one thing",
        ),
        (
            r#"{"jti": "a", "id": "b", "iss": "c"}"#,
            "says jti and id: one revocation is of one thing",
        ),
        (
            r#"{"jti": ["a"], "iss": "b"}"#,
            "jti: found a list, wanted a string, or a whole number of at most 2^53",
        ),
        (r#"{"jti": {"a": {}}, "iss": "b"}"#, "jti: found an object, wanted a string"),
        (r#"{"jti": true, "iss": "b"}"#, "jti: found true or false, wanted a string"),
        (r#"{"jti": 1.5, "iss": "b"}"#, "jti: found a number with a fraction"),
        (
            r#"{"jti": 9007199254740993, "iss": "b"}"#,
            "jti: found a number, wanted a string, or a whole number of at most 2^53",
        ),
        (r#"{"jti": "", "iss": "b"}"#, "jti: is empty"),
        (r#"{"jti": "a\u0000", "iss": "b"}"#, "jti: holds a NUL"),
        (
            &format!(r#"{{"jti": "{long}", "iss": "b"}}"#),
            "jti: has 1048576 bytes, wanted at most 1024",
        ),
        (&format!(r#"{{"cookie": "{long}"}}"#), "cookie: has 1048576 bytes, wanted at most 16384"),
        (r#"{"cookie": "a", "iss": "b"}"#, "iss: has no meaning beside a secret"),
        (r#"{"token_hash": "abc"}"#, "token_hash: found other text, wanted 64 hex digits"),
        (r#"{"id": "abc", "kind": "token"}"#, "id: found other text, wanted 32 hex digits"),
        (
            r#"{"id": "000102030405060708090a0b0c0d0e0f"}"#,
            "kind: is missing beside id, wanted one of token,",
        ),
        (
            r#"{"id": "000102030405060708090a0b0c0d0e0f", "kind": "tokn"}"#,
            "kind: there is no kind \"tokn\": did you mean \"token\"?",
        ),
        (r#"{"jti": "a", "iss": "b", "kind": "token"}"#, "kind: goes with id alone"),
        (
            r#"{"jti": "a", "iss": "b", "exp": "soon"}"#,
            "exp: found \"soon\", wanted seconds of Unix time, such as 1790000000, or 2026",
        ),
        (r#"{"jti": "a", "iss": "b", "exp": -1}"#, "exp: is below 0"),
        (r#"{"jti": "a", "iss": "b", "exp": []}"#, "exp: found a list, wanted seconds"),
        (
            r#"{"jti": "a", "iss": "b", "exp": 1e300}"#,
            "exp: 18446744073709551615 is no time that ever comes",
        ),
        (
            r#"{"jti": "a", "iss": "b", "exp": 1790000000000}"#,
            "exp: 1790000000000 is no time that ever comes; is it in milliseconds? Wanted seconds",
        ),
        (
            &format!(r#"{{"jti": "a", "iss": "b", "exp": {late}}}"#),
            "days ahead, beyond revocations.retention_max of 3660 days",
        ),
        (
            &format!(r#"{{"jti": "a", "iss": "b", "exp": {now}, "until": {now}}}"#),
            "says exp and until: say exp if it is the token's own",
        ),
        (
            r#"{"jti": "a", "iss": "b", "until": "ever"}"#,
            "until: \"ever\" is for keys, and for what is revoked whenever",
        ),
        (
            r#"{"jti": "a", "iss": "b", "before": 1}"#,
            "before: has no meaning for one token, which is revoked whole",
        ),
        (
            &format!(r#"{{"sub": "a", "iss": "b", "exp": {now}}}"#),
            "exp: is one token's; for anything else say until",
        ),
        (
            &format!(r#"{{"sub": "a", "iss": "b", "before": {}}}"#, now + 4_000),
            "ahead: what is yet to be issued would be revoked; wanted at most now",
        ),
        (r#"{"sub": "a", "iss": "b", "before": 0}"#, "before: nothing was issued at 0"),
        (
            r#"{"sub": "a", "iss": "b", "at_ms": 99999999999999}"#,
            "at_ms: 99999999999999 is not in the past",
        ),
        (
            r#"{"sub": "a", "iss": "b", "lifted": true}"#,
            "lifted: is for imports; send it to /v1/revocations/lift",
        ),
        (r#"{"sub": "a", "iss": "b", "reason": "a\nb"}"#, "reason: holds a control character"),
        (
            &format!(r#"{{"sub": "a", "iss": "b", "reason": "{}"}}"#, "r".repeat(257)),
            "reason: has 257 bytes, wanted at most 256",
        ),
        (
            r#"[{"sub": "a", "iss": "b"}, {"sub": 1.5, "iss": "b"}]"#,
            "[1].sub: found a number with a fraction",
        ),
        (
            r#"[{"sub": "a", "iss": "b"}, {"iss": "b", "sub": "a"}]"#,
            "[1]: is of the same thing as [0]",
        ),
        (
            &format!("[{}{{}}]", r#"{"iss":"b"},"#.repeat(1_000)),
            "more than 1000 in one list: send lists, or an import",
        ),
        (&"[".repeat(100_000), "line 1 column"),
    ] {
        let answer = home.post("/v1/revocations", said).await;
        let start: String = said.chars().take(200).collect();
        assert_eq!(answer.status, 400, "{start}: {answer:?}");
        assert!(answer.detail().contains(says), "{start}: {}", answer.detail());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.text.len() < 1_000, "{start}: {answer:?}");
    }
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 0, "nothing was done");
}

#[tokio::test]
async fn what_is_over_is_nothing_to_do_and_said_so() {
    let home = Home::new();
    let now = now_secs();
    for said in [
        json!({"jti": "a", "iss": "b", "exp": now - 120}),
        json!({"sub": "a", "iss": "b", "before": now - 2 * 86_400}),
        json!({"jti": "a", "iss": "b", "exp": 0}),
    ] {
        let answer = home.post("/v1/revocations", &said.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["results"][0]["outcome"], "over", "{said}: {answer:?}");
    }
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 0);
}

#[tokio::test]
async fn a_list_is_taken_whole_up_to_its_bound() {
    let home = Home::new();
    let list: Vec<_> = (0..1_000).map(|n| json!({"jti": n, "iss": "x".repeat(1_024)})).collect();
    let answer = home.post("/v1/revocations", &json!(list).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["results"].as_array().unwrap().len(), 1_000);
    // Secrets count twice while a key replaces another; here they do not.
    let list: Vec<_> = (0..1_000).map(|n| json!({"opaque": format!("o{n}")})).collect();
    assert_eq!(home.post("/v1/revocations", &json!(list).to_string()).await.status, 200);
    assert_eq!(home.get("/v1/revocations/stats").await.json()["revoked"], 2_000);
}

#[tokio::test]
async fn paths_methods_types_and_sizes_are_told_what_is_wrong_with_them() {
    let home = Home::new();
    let json = "application/json";
    let large = vec![b' '; 4 << 20];
    let token = [b"token=".as_slice(), &[b'x'; 70_000]].concat();
    let form = "application/x-www-form-urlencoded";
    for (method, path, body, status, says) in [
        (Method::GET, "/", None, 404, "here are POST /v1/revoke;"),
        (Method::GET, "/v1/revocations/", None, 404, "an id has 32 hex digits"),
        (Method::GET, "/v1/revocations/xyz", None, 404, "an id has 32 hex digits"),
        (Method::DELETE, "/v1/revocations/tokn/00", None, 404, "did you mean \"token\"?"),
        (Method::PUT, "/v1/revocations", None, 405, "PUT is not for this: GET, POST"),
        (Method::GET, "/v1/revoke", None, 405, "GET is not for this: POST"),
        (Method::POST, "/v1/revocations", None, 415, "content-type: wanted application/json"),
        (
            Method::POST,
            "/v1/revoke",
            Some((json, &b"{}"[..])),
            415,
            "wanted application/x-www-form-urlencoded",
        ),
        (
            Method::POST,
            "/v1/revocations",
            Some((json, &large)),
            413,
            "a body of more than 3145728 bytes",
        ),
        (Method::POST, "/v1/revoke", Some((form, &token)), 413, "a body of more than 65536 bytes"),
        (
            Method::GET,
            "/v1/revocations?limit=1001",
            None,
            400,
            "?limit: found \"1001\", wanted a whole number, 1 to 1000",
        ),
        (Method::GET, "/v1/revocations?kind=tokens", None, 400, "did you mean \"token\"?"),
        (Method::GET, "/v1/revocations/stats?x=1", None, 400, "?x: nothing can be said there"),
        (
            Method::POST,
            "/v1/revocations?durability=no",
            Some((json, b"{}")),
            400,
            "?durability: found \"no\", wanted shared, this_host, or",
        ),
        (
            Method::POST,
            "/v1/revocations?durability=replicas=1",
            Some((json, br#"{"iss":"a"}"#)),
            400,
            "this host's log is its own: it has no Redis",
        ),
    ] {
        let answer = home.send(method.clone(), path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.detail().contains(says), "{method} {path}: {answer:?}");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let request = Request::get("/v1/revocations").header("host", "t");
    let request = request.header("x-large", "x".repeat(20_000)).body(Default::default()).unwrap();
    assert_eq!(home.request(request).await.status, 431);
    let answer = home.send(Method::PUT, "/v1/revocations", None).await;
    assert_eq!(answer.headers["allow"], "GET, POST");
}

#[tokio::test]
async fn an_id_of_a_request_is_told_back_or_made() {
    let home = Home::new();
    let with = |id: &str| {
        Request::get("/v1/nothing")
            .header("host", "t")
            .header("x-request-id", id)
            .body(Default::default())
            .unwrap()
    };
    assert_eq!(home.request(with("abc-1")).await.headers["x-request-id"], "abc-1");
    for odd in ["a b", &"x".repeat(129)] {
        let made = home.request(with(odd)).await.headers["x-request-id"].clone();
        assert!(made.len() == 32 && made != odd, "{made:?}");
    }
}
