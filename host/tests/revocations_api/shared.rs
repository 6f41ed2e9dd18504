//! Hosts that share a Redis: what is said of how durable something is, and what is done about it
//! while Redis is away.

use crate::common::DEADLINE;
use crate::home::{Answer, Home, now_secs};
use crate::server::{self, Server};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};
use tidegate_core::revoke::{Id, Kind};

const API: &str = "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }";

/// A host on that Redis, which knows all that is in it.
async fn on(server: &Server) -> Home {
    let home = Home::with(API, &format!("redis:\n  addresses: [127.0.0.1:{}]\n", server.port));
    until(&home, "/v1/revocations/stats", |page| page["age_seconds"].is_f64()).await;
    home
}

/// Until a page is so.
async fn until(home: &Home, path: &str, is_so: impl Fn(&Value) -> bool) {
    let end = Instant::now() + DEADLINE;
    loop {
        let page = home.get(path).await.json();
        if is_so(&page) {
            return;
        }
        assert!(Instant::now() < end, "{path}: {page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn revoke(home: &Home, jti: &str, query: &str) -> Answer {
    let said = json!({"jti": jti, "iss": "i", "exp": now_secs() + 600}).to_string();
    home.post(&format!("/v1/revocations{query}"), &said).await
}

fn path(jti: &str) -> String {
    format!("/v1/revocations/{}", Id::of(Kind::Token, &[b"i", jti.as_bytes()]))
}

#[tokio::test]
async fn what_is_revoked_at_one_host_is_known_and_lifted_at_another() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (on(&server).await, on(&server).await);
    let answer = revoke(&one, "a", "").await;
    let shared = json!({"this_host": true, "shared": true, "replicas": 0});
    assert_eq!((answer.status, &answer.json()["durability"]), (200, &shared), "{answer:?}");
    until(&other, &path("a"), |page| page["before"] == "ever").await;
    let lifted = other.post("/v1/revocations/lift", r#"{"jti": "a", "iss": "i"}"#).await;
    assert_eq!((lifted.status, &lifted.json()["durability"]), (200, &shared), "{lifted:?}");
    until(&one, &path("a"), |page| page["lifted"] == true).await;
    // What was said can be looked up a moment before the position says so.
    let stats = "/v1/revocations/stats";
    let position = other.get(stats).await.json()["position"].clone();
    until(&one, stats, |page| page["position"] == position).await;
}

#[tokio::test]
async fn replicas_that_were_asked_for_and_did_not_answer_are_told() {
    let now = ["--repl-diskless-sync-delay", "0"];
    let Some(server) = Server::start_with(&now, None) else { return };
    let port = server.port.to_string();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port], None).unwrap();
    server::until(|| server.command(&["INFO", "replication"]).contains("state=online")).await;
    let home = on(&server).await;
    let answer = revoke(&home, "a", "?durability=replicas=1").await;
    assert_eq!((answer.status, &answer.json()["durability"]["replicas"]), (200, &json!(1)));
    drop(replica);
    let answer = revoke(&home, "b", "?durability=replicas=1").await;
    assert_eq!((answer.status, &answer.json()["durability"]["replicas"]), (202, &json!(0)));
    // It holds all the same.
    assert_eq!(home.get(&path("b")).await.status, 200);
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_revoked_unless_this_host_will_do() {
    let Some(mut server) = Server::start() else { return };
    let (one, other) = (on(&server).await, on(&server).await);
    revoke(&one, "before", "").await;
    server.kill();
    let refused = revoke(&one, "a", "").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    // Until it is noticed nobody knows whether what was sent has arrived.
    let says = |what: &str| refused.detail().contains(what);
    assert!(says("?durability=this_host") || says("sending it again does no harm"), "{refused:?}");
    assert_eq!(one.form("/v1/revoke", "opaque").await.status, 503);

    let held = revoke(&one, "held", "?durability=this_host").await;
    let waits = json!({"this_host": true, "shared": false, "waits_for_shared": true});
    assert_eq!((held.status, &held.json()["durability"]), (202, &waits), "{held:?}");
    assert_eq!(one.get(&path("held")).await.status, 200);
    let stats = one.get("/v1/revocations/stats").await.json();
    assert_eq!(
        (&stats["log"], &stats["waits_for_shared"]),
        (&json!("shared"), &json!(1)),
        "{stats}"
    );
    let output = one.run(&["revoke", "--jti", "cli", "--iss", "i"]).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");

    server.restart();
    until(&other, "/v1/revocations/stats", |page| page["by_kind"]["token"] == 2).await;
    assert_eq!(other.get(&path("held")).await.status, 200);
    until(&one, "/v1/revocations/stats", |page| page["waits_for_shared"] == 0).await;
}

#[tokio::test]
async fn an_import_at_one_host_is_an_export_of_another() {
    const COUNT: usize = 20_000;
    let Some(server) = Server::start() else { return };
    let (one, other) = (on(&server).await, on(&server).await);
    let exp = now_secs() + 3_600;
    let text = (0..COUNT).fold(String::new(), |mut text, number| {
        writeln!(text, r#"{{"jti":{number},"iss":"i","exp":{exp}}}"#).unwrap();
        text
    });
    std::fs::write(one.path("many.ndjson"), text).unwrap();
    let start = Instant::now();
    let output = one.run(&["revocations", "import", "many.ndjson"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("durable on this host and in the shared log"), "{said}");
    println!("{COUNT} lines through Redis in {:?}", start.elapsed());
    until(&other, "/v1/revocations/stats", |page| page["by_kind"]["token"] == COUNT).await;
    let exported = async |home: &Home| {
        let output = home.run(&["revocations", "export"]).await;
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(exported(&one).await, exported(&other).await);
}
