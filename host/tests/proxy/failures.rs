//! Origins that are not there, that are slow, and that break.

use crate::common::DEADLINE;
use crate::home::{Answer, Client, Proxy, get, post};
use crate::origin::{self, Origin, channel};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What an exchange's line in the access log says of it.
fn details(proxy: &Proxy, path: &str) -> String {
    let line = proxy.out().line_with(&[&format!("\"path\":\"{path}\"")]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["details"].as_str().unwrap().to_owned()
}

const LOG: &str = "access_log: { format: json }\n";

#[tokio::test]
async fn nobody_there_is_503() {
    let proxy = Proxy::serve(&format!("{LOG}upstream: http://{}\n", origin::nobody().await));
    let answer = proxy.get("/a").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.text(),
        "upstream connect error or disconnect/reset before headers. reset reason: remote \
         connection failure, transport failure reason: delayed connect error: Connection refused"
    );
    assert_eq!(
        details(&proxy, "/a"),
        "upstream_reset_before_response_started{remote_connection_failure|\
         delayed_connect_error:_Connection_refused}"
    );
    assert_eq!(
        proxy.metric("tidegate_proxy_upstream_failures_total{reason=\"connect\"}").await,
        1.0
    );
}

#[tokio::test]
async fn no_answer_in_time_is_504() {
    let origin = Origin::start().await;
    let timeouts = "timeouts: { request: 100ms }\n";
    let proxy = Proxy::serve(&format!("{LOG}{timeouts}upstream: {}\n", origin.url()));
    for request in [get("/never"), post("/never", "x")] {
        let answer = Client::http1(proxy.address).await.send(request).await;
        assert_eq!((answer.status, answer.text().as_str()), (504, "upstream request timeout"));
    }
    assert_eq!(details(&proxy, "/never"), "response_timeout");
}

#[tokio::test]
async fn what_is_no_http_is_502() {
    let address = origin::raw(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    });
    let proxy = Proxy::serve(&format!("{LOG}upstream: http://{}\n", address.await));
    let answer = proxy.get("/a").await;
    assert_eq!(answer.status, 502);
    assert_eq!(details(&proxy, "/a"), "upstream_reset_before_response_started{protocol_error}");
}

#[tokio::test]
async fn an_origin_that_hangs_up_is_503() {
    let proxy = Proxy::serve(&format!(
        "{LOG}upstream: http://{}\n",
        origin::raw(|stream| async move { drop(stream) }).await
    ));
    let answer = proxy.get("/a").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().ends_with("reset reason: connection termination"), "{}", answer.text());
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_request() {
    // Answers once on each connection, and closes it without a word.
    let address = origin::raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let proxy = Proxy::serve(&format!("workers: 1\nupstream: http://{address}\n"));
    let mut client = Client::http1(proxy.address).await;
    for round in 0..50 {
        assert_eq!(client.send(get("/")).await.status, 200, "round {round}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_cut_off_for_the_client_too() {
    let origin = Origin::start().await;
    for http2 in [false, true] {
        let upstream = format!("{LOG}upstream: {{ url: {}, http2: {http2} }}\n", origin.url());
        let proxy = Proxy::serve(&upstream);
        for mut client in [Client::http1(proxy.address).await, Client::http2(proxy.address).await] {
            // Its head may have been on its way when the rest broke off.
            let Ok(response) = client.begin(get("/dies")).await else { continue };
            let body = tokio::time::timeout(DEADLINE, response.into_body().collect()).await;
            assert!(body.unwrap().is_err(), "half a response is not a whole one");
        }
        assert_eq!(details(&proxy, "/dies"), "upstream_reset_after_response_started");
    }
}

#[tokio::test]
async fn silence_on_both_sides_ends_an_exchange() {
    let origin = Origin::start().await;
    let timeouts = "timeouts: { stream_idle: 100ms, request: 0 }\n";
    let proxy = Proxy::serve(&format!("{LOG}{timeouts}upstream: {}\n", origin.url()));
    // The origin is silent, …
    let answer = proxy.get("/never").await;
    assert_eq!((answer.status, answer.text().as_str()), (504, "stream timeout"));
    // … or the client is, …
    let (to, body) = channel();
    let request = Request::post("/slow").header("host", "shop").body(body).unwrap();
    let mut client = Client::http1(proxy.address).await;
    let begun = client.begin(request);
    to.send(Ok(Frame::data("some".into()))).await.unwrap();
    let answer = Answer::of(begun.await.unwrap()).await;
    // (the origin has answered without reading it all)
    assert!([200, 408].contains(&answer.status), "{answer:?}");
    // … or the origin has answered in part.
    let response = Client::http1(proxy.address).await.begin(get("/parts")).await.unwrap();
    let body = tokio::time::timeout(DEADLINE, response.into_body().collect()).await;
    assert!(body.unwrap().is_err());
    proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
}

#[tokio::test]
async fn an_answer_before_all_was_asked_is_an_answer() {
    let origin = Origin::start().await;
    for http2 in [false, true] {
        let proxy =
            Proxy::serve(&format!("upstream: {{ url: {}, http2: {http2} }}\n", origin.url()));
        let (to, body) = channel();
        let request = Request::post("/early").header("host", "shop").body(body).unwrap();
        let mut client = Client::http2(proxy.address).await;
        let begun = client.begin(request);
        to.send(Ok(Frame::data("some".into()))).await.unwrap();
        let answer = Answer::of(begun.await.unwrap()).await;
        assert_eq!(answer.text(), "no need to send it all");
        // The next one finds everything in order.
        assert_eq!(proxy.get("/a").await.status, 200);
        proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
    }
}
