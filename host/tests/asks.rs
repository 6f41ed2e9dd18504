//! Asks to the real service, over every way in.

mod common;

use common::{Caller, Host, ask_request, one};
use http_body_util::Full;
use hyper::Request;
use hyper::header::HeaderName;
use tidegate_core::ask::Ask;
use tidegate_core::limit::Refused;
use tidegate_core::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn every_way_in_leads_to_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("asks.sock");
    let host = Host::serve(&format!("unix_socket: {}\n", socket.display()));
    let mut ways = [host.http1().await, host.http2().await, Caller::unix(&socket).await];
    for (way, left) in ways.iter_mut().zip([2, 1, 0]) {
        let reply = way.reply(&one(1, 3)).await;
        assert_eq!(reply.answers[0].outcome.as_ref().unwrap().remaining, left);
        assert_eq!(reply.answers[0].share_ppm, 1_000_000, "the only proxy's share is all");
    }
    let reply = ways[0].reply(&one(1, 3)).await;
    let Err(Refused::Wait { wait, .. }) = reply.answers[0].outcome else { panic!("{reply:?}") };
    assert!(wait.secs_ceil() > 1000 && wait.secs_ceil() <= 1200, "{wait}");
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"admitted\"}").await, 3.0);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"refused\"}").await, 1.0);
    assert_eq!(host.metric("tidegate_ask_seconds_count").await, 4.0);
    drop(host);
}

#[tokio::test]
async fn one_item_refused_charges_none() {
    let host = Host::serve("");
    let mut proxy = host.http2().await;
    proxy.reply(&one(1, 1)).await;
    let both = Ask { items: vec![one(1, 1).items.remove(0), one(2, 5).items.remove(0)] };
    let reply = proxy.reply(&both).await;
    assert!(reply.answers[0].outcome.is_err());
    assert_eq!(reply.answers[1].outcome.as_ref().unwrap().remaining, 5, "not charged");
}

#[tokio::test]
async fn two_proxies_share_by_demand() {
    let host = Host::serve("");
    let mut proxy = host.http2().await;
    for _ in 0..3 {
        proxy.reply(&one(1, 100)).await;
    }
    let mut other = ask_request(wire::encode_ask(&one(1, 100)));
    other.headers_mut().insert("x-tidegate-proxy", "proxy-2".parse().unwrap());
    let (_, body) = proxy.send(other).await;
    let share = wire::decode_reply(&body).unwrap().answers[0].share_ppm;
    assert!((274_000..277_000).contains(&share), "a quarter of 90 %, half of 10 %: {share}");
}

#[tokio::test]
async fn what_is_no_ask_gets_one_clear_line() {
    let host = Host::serve("");
    let good = wire::encode_ask(&one(1, 3));
    let mut cut = good.clone();
    cut.pop();
    for mut caller in [host.http1().await, host.http2().await] {
        for (body, status, says) in [
            (Vec::new(), 400, "malformed ask: "),
            (cut.clone(), 400, "malformed ask: "),
            (vec![0xff; 100], 400, "malformed ask: "),
            (vec![1; wire::LEASE_ASK_BYTES_MAX + 1], 413, "an ask has at most "),
        ] {
            let (head, body) = caller.ask(body).await;
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!(head.status(), status, "{body}");
            assert_eq!(head.headers()["x-tidegate"], "1");
            assert!(body.starts_with(says) && body.trim_end().lines().count() == 1, "{body:?}");
        }
        let mut other = ask_request(good.clone());
        other.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(caller.send(other).await.0.status(), 415);
        for (method, path, status) in [
            ("GET", "/v1/ask", 405),
            ("GET", "/", 404),
            ("GET", "/metrics", 404),
            ("GET", "/healthz", 200),
        ] {
            let request = Request::builder().method(method).uri(format!("http://tidegate{path}"));
            let (head, _) = caller.send(request.body(Full::default()).unwrap()).await;
            assert_eq!(head.status(), status, "{method} {path}");
        }
        caller.reply(&one(1, 100)).await;
    }
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"malformed\"}").await, 6.0);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"too_large\"}").await, 2.0);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431_and_harms_nobody() {
    let host = Host::serve("");
    for mut caller in [host.http1().await, host.http2().await] {
        let mut request = ask_request(wire::encode_ask(&one(1, 3)));
        for n in 0..3 {
            let name = HeaderName::try_from(format!("x-filler-{n}")).unwrap();
            request.headers_mut().insert(name, "a".repeat(7_000).parse().unwrap());
        }
        assert_eq!(caller.send(request).await.0.status(), 431);
    }
    assert!(host.http2().await.reply(&one(1, 3)).await.admits());
}

#[tokio::test]
async fn bytes_that_are_no_http_end_their_connection_only() {
    let host = Host::serve("");
    for noise in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnoise noise!",
        b"\r\n\r\n\0\0\r\n\r\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(host.asks).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // However it ends, it ends.
        let read = tokio::time::timeout(common::DEADLINE, stream.read_to_end(&mut answer));
        let _ = read.await.expect("the connection ends");
    }
    assert!(host.http1().await.reply(&one(1, 3)).await.admits());
}

#[tokio::test]
async fn ids_come_back_and_are_logged_and_nothing_else_of_a_callers_is() {
    let host = Host::serve("log_level: debug\n");
    let mut proxy = host.http1().await;
    let mut request = ask_request(wire::encode_ask(&one(1, 3)));
    let headers = request.headers_mut();
    headers.insert("x-request-id", "id-1234".parse().unwrap());
    headers.insert(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap(),
    );
    headers.insert("x-other", "canary".parse().unwrap());
    let (head, _) = proxy.send(request).await;
    assert_eq!(head.headers()["x-request-id"], "id-1234");
    assert!(head.headers().contains_key("traceparent"));
    host.logs().line_with(&["\"id-1234\"", "0af7651916cd43dd8448eb211c80319c", "\"admitted\""]);
    let mut strange = ask_request(wire::encode_ask(&one(1, 3)));
    strange.headers_mut().insert("x-request-id", "a".repeat(129).parse().unwrap());
    let (head, _) = proxy.send(strange).await;
    assert!(!head.headers().contains_key("x-request-id"));
    assert!(!host.logs().text().contains("canary"));
}

#[tokio::test]
async fn health_and_metrics_are_for_the_operator() {
    let host = Host::serve("");
    assert_eq!(host.admin("/healthz").await, (200, "alive\n".to_owned()));
    let ready = r#"{"ready":true,"store":"memory"}"#;
    assert_eq!(host.admin("/readyz").await, (200, format!("{ready}\n")));
    let (status, page) = host.admin("/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("tidegate_store_up{store=\"memory\"} 1") && page.ends_with("# EOF\n"));
    assert_eq!(host.admin("/v1/ask").await.0, 404);
}
