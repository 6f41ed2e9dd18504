//! The real program: what was acknowledged is there however it ends, and proxies are told.

use crate::common::{Caller, DEADLINE, Host, ask_request};
use crate::opened::now_secs;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_core::revoke::message::{Check, ChunkAsk, Form, News, NewsAsk};
use tidegate_core::revoke::{EVER, Id, Kind, Position};
use tidegate_core::wire::revoke;

const ISSUER: &str = "https://issuer.example";

/// A host with a ledger in a folder, and an API where tokens are revoked.
pub fn serve(folder: &Path, more: &str) -> (Host, SocketAddr) {
    let section = format!(
        "revocations:\n  data_dir: {}\n  api: {{ listen: 127.0.0.1:0, requests_per_second: 100000 }}\n{more}",
        folder.display()
    );
    let host = Host::serve(&section);
    let line = host.logs().line_with(&["\"listening\"", "\"door\":\"revocations\""]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let api = line["address"].as_str().unwrap().parse().unwrap();
    (host, api)
}

pub fn revoke_request(jti: &str) -> Request<Full<Bytes>> {
    let exp = now_secs() + 3_600;
    let body = format!(r#"{{"iss":"{ISSUER}","jti":"{jti}","exp":{exp}}}"#);
    Request::post("http://tidegate/v1/revocations")
        .header("content-type", "application/json")
        .header("host", "tidegate")
        .body(Full::from(body))
        .unwrap()
}

pub async fn api_caller(api: SocketAddr) -> Caller {
    Caller::http1(tokio::net::TcpStream::connect(api).await.unwrap()).await
}

pub async fn revoke(caller: &mut Caller, jti: &str) {
    let (head, body) = caller.send(revoke_request(jti)).await;
    assert_eq!(head.status(), 200, "{body:?}");
}

pub fn id(jti: &str) -> Id {
    Id::of(Kind::Token, &[ISSUER.as_bytes(), jti.as_bytes()])
}

/// An ask about revocations, of a proxy that waits so long.
async fn ask(proxy: &mut Caller, body: Vec<u8>, waits_ms: u32) -> (Response<()>, Bytes) {
    let mut request = ask_request(body);
    request.headers_mut().insert("x-tidegate-waits-ms", waits_ms.into());
    proxy.send(request).await
}

pub async fn news(proxy: &mut Caller, known: Position, waits_ms: u32) -> News {
    let body =
        revoke::encode_news_ask(&NewsAsk { known, cut: 0, form: Form::Fuse, wants_keys: true });
    let (head, body) = ask(proxy, body, waits_ms).await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["x-tidegate"]),
        (200, &"1".parse().unwrap())
    );
    revoke::decode_news(&body).unwrap()
}

pub async fn before_secs(proxy: &mut Caller, ids: &[Id]) -> Vec<u64> {
    let (head, body) = ask(proxy, revoke::encode_check(&Check { ids: ids.to_vec() }), 1_000).await;
    assert_eq!(head.status(), 200);
    revoke::decode_checked(&body).unwrap().before_secs
}

#[tokio::test]
async fn a_proxy_polls_fetches_and_checks() {
    let folder = tempfile::tempdir().unwrap();
    let (host, api) = serve(folder.path(), "");
    let (mut proxy, mut caller) = (host.http2().await, api_caller(api).await);
    let first = news(&mut proxy, Position::default(), 20_000).await;
    assert!(first.anew);

    let poll = tokio::spawn(async move {
        let news = news(&mut proxy, first.position, 20_000).await;
        (proxy, news)
    });
    until_metric(&host, "tidegate_revocation_polls_waiting", 1.0).await;
    let began = Instant::now();
    revoke(&mut caller, "one").await;
    let (mut proxy, told) = poll.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(told.deltas.iter().map(|delta| delta.id).collect::<Vec<_>>(), [id("one")]);
    assert!(told.held_ms < 20_000 && told.age_ms == 0);
    assert_eq!(before_secs(&mut proxy, &[id("one"), id("two")]).await, [EVER, 0]);

    let chunk = revoke::encode_chunk_ask(&ChunkAsk { image: 1, offset: 0 });
    let (head, body) = ask(&mut proxy, chunk, 1_000).await;
    assert_eq!(head.status(), 404, "{body:?}");
    let (head, _) = ask(&mut proxy, vec![2, b'N', 0], 1_000).await;
    assert_eq!(head.status(), 400);
    for (series, value) in [
        ("tidegate_revocations{kind=\"token\"}", 1.0),
        ("tidegate_revocation_accepts_total{outcome=\"accepted\"}", 1.0),
        ("tidegate_revocation_deltas_sent_total", 1.0),
        ("tidegate_revocation_ledger_up", 1.0),
        ("tidegate_revocation_age_seconds", 0.0),
        ("tidegate_asks_total{outcome=\"news\"}", 2.0),
        ("tidegate_asks_total{outcome=\"checked\"}", 1.0),
        ("tidegate_asks_total{outcome=\"no_piece\"}", 1.0),
    ] {
        assert_eq!(host.metric(series).await, value, "{series}");
    }
}

async fn until_metric(host: &Host, series: &str, value: f64) {
    let end = Instant::now() + DEADLINE;
    while host.metric(series).await != value {
        assert!(Instant::now() < end, "{series} is not {value}");
    }
}

#[tokio::test]
async fn polls_that_wait_do_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut host, _) = serve(folder.path(), "drain_timeout: 60s\n");
    let mut proxy = host.http2().await;
    let known = news(&mut proxy, Position::default(), 20_000).await.position;
    let poll = tokio::spawn(async move { news(&mut proxy, known, 40_000).await });
    until_metric(&host, "tidegate_revocation_polls_waiting", 1.0).await;
    let began = Instant::now();
    host.signal(Signal::TERM);
    assert!(poll.await.unwrap().deltas.is_empty(), "told what there is: nothing");
    assert!(host.ended().await.success());
    assert!(began.elapsed() < DEADLINE);
}

#[tokio::test]
async fn a_host_that_keeps_none_says_so() {
    let host = Host::serve("");
    let mut proxy = host.http2().await;
    let body = revoke::encode_check(&Check { ids: vec![id("one")] });
    let (head, body) = ask(&mut proxy, body, 1_000).await;
    let said = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(head.status(), 501);
    assert!(said.contains("set revocations.data_dir"), "{said}");
}

/// Revokes until the host is gone; what was acknowledged.
async fn revokes(api: SocketAddr, name: String) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(stream) = tokio::net::TcpStream::connect(api).await else { return acknowledged };
    let io = hyper_util::rt::TokioIo::new(stream);
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else {
        return acknowledged;
    };
    tokio::spawn(connection);
    for number in 0.. {
        let jti = format!("{name}-{number}");
        let Ok(()) = sender.ready().await else { break };
        match sender.send_request(revoke_request(&jti)).await {
            Ok(response) if response.status() == 200 => acknowledged.push(jti),
            Ok(_) | Err(_) => break,
        }
    }
    acknowledged
}

/// Ten hosts one after the other, each killed while eight callers revoke: each finds the file as
/// the last one left it in the middle of a write.
#[tokio::test]
async fn a_host_that_is_killed_while_it_writes_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..10_u32 {
        let (host, api) = serve(folder.path(), "");
        let mut proxy = host.http2().await;
        for some in acknowledged.chunks(16) {
            let ids: Vec<Id> = some.iter().map(|jti: &String| id(jti)).collect();
            let found = before_secs(&mut proxy, &ids).await;
            assert!(found.iter().all(|before| *before == EVER), "round {round}: {some:?}");
        }
        let callers: Vec<_> =
            (0..8).map(|caller| tokio::spawn(revokes(api, format!("{round}-{caller}")))).collect();
        tokio::time::sleep(Duration::from_millis(u64::from(40 + 37 * round))).await;
        drop(host);
        for caller in callers {
            acknowledged.extend(caller.await.unwrap());
        }
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}
