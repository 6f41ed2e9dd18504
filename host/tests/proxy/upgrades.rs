//! Connections that become something else.

use crate::common::DEADLINE;
use crate::home::{Any, Client, Proxy, empty};
use crate::origin::Origin;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn websocket() -> Request<Any> {
    Request::get("/upgrade")
        .header("host", "shop")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(empty())
        .unwrap()
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let origin = Origin::start().await;
    let log = "access_log: { format: json }\n";
    let proxy = Proxy::serve(&format!("{log}upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    let response = client.begin(websocket()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["upgrade"]),
        (101, &"websocket".parse().unwrap())
    );
    assert_eq!(origin.last().headers()["upgrade"], "websocket");
    assert_eq!(origin.last().headers()["connection"], "upgrade");
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut io = TokioIo::new(upgraded);
    let mut bytes = [0; 7];
    let talk = async {
        io.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"welcome");
        for round in 0..100_u8 {
            io.write_all(&[round; 7]).await.unwrap();
            io.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, [round; 7]);
        }
        assert_eq!(proxy.metric("tidegate_proxy_exchanges").await, 1.0);
        // The origin says goodbye: that is the end for the client too.
        io.write_all(b"bye").await.unwrap();
        assert_eq!(io.read(&mut bytes).await.unwrap(), 0);
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
    proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
    proxy.out().line_with(&["\"path\":\"/upgrade\"", "\"status\":101", "\"bytes_sent\":707"]);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_it() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    let response = client.begin(websocket()).await.unwrap();
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    drop(upgraded);
    proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_ordinary_response() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    for _ in 0..2 {
        let mut request = websocket();
        *request.uri_mut() = "/plain".parse().unwrap();
        let answer = client.send(request).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "/plain"));
    }
}

#[tokio::test]
async fn silence_ends_it() {
    let origin = Origin::start().await;
    let timeouts = "timeouts: { stream_idle: 200ms }\n";
    let proxy = Proxy::serve(&format!("{timeouts}upstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    let response = client.begin(websocket()).await.unwrap();
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut all = Vec::new();
    let read = tokio::time::timeout(DEADLINE, io.read_to_end(&mut all)).await.unwrap();
    assert!(read.is_err() || all == b"welcome", "{all:?}");
}
