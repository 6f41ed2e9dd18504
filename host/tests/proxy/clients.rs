//! Clients that want too much, take too long, or are gone.

use crate::common::{DEADLINE, await_some};
use crate::home::{Client, Proxy, get};
use crate::origin::{Origin, channel};
use hyper::Request;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes and reads until the proxy closes.
async fn raw(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    // Perhaps it is closed before all was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(DEADLINE, read).await.expect("the connection's end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and reads the start of the answer: its status.
async fn first(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut first = [0; 12];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut first)).await;
    read.expect("an answer").unwrap();
    String::from_utf8_lossy(&first).into_owned()
}

const RESPOND: &str = "respond: { body: ok }\n";

#[tokio::test]
async fn headers_have_a_bound() {
    let proxy = Proxy::serve(RESPOND);
    let fill = "x".repeat(50 << 10);
    let mut request = get("/");
    request.headers_mut().insert("x-fill", fill.parse().unwrap());
    assert_eq!(Client::http1(proxy.address).await.send(request).await.status, 200);
    // A little too long, and far too long.
    for kib in [60, 62, 1_000] {
        let fill = "x".repeat(kib << 10);
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-fill: {fill}\r\n\r\n");
        assert_eq!(first(&proxy, head.as_bytes()).await, "HTTP/1.1 431", "{kib} KiB");
    }
    let mut request = get("/");
    request.headers_mut().insert("x-fill", "x".repeat(62 << 10).parse().unwrap());
    let refused = Client::http2(proxy.address).await.begin(request).await;
    assert_eq!(refused.unwrap().status(), 431);
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let proxy = Proxy::serve(&format!("access_log: {{ format: json }}\n{RESPOND}"));
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for\r\n\r\n", "400"),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", "405"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "403"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400"),
    ] {
        let said = first(&proxy, bytes).await;
        assert_eq!(said, format!("HTTP/1.1 {status}"), "{}", String::from_utf8_lossy(bytes));
    }
    // What could be read at all is logged.
    proxy.out().line_with(&["\"details\":\"upgrade_failed\"", "\"status\":403"]);
    assert_eq!(proxy.metric("tidegate_proxy_requests_total{status=\"4xx\"}").await, 5.0);
}

#[tokio::test]
async fn a_slow_head_is_not_waited_for() {
    let proxy = Proxy::serve(&format!("timeouts: {{ request_headers: 200ms }}\n{RESPOND}"));
    assert_eq!(raw(&proxy, b"").await, "", "nothing at all");
    assert_eq!(raw(&proxy, b"GET / HT").await, "", "half a head");
    // Behind a whole exchange.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        answer.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"GET / HT").await.unwrap();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    read.expect("the connection's end").unwrap();
    assert!(answer.ends_with(b"ok"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_slow_one_is_not() {
    let origin = Origin::start().await;
    let timeouts = "timeouts: { idle: 200ms, request_headers: 200ms }\n";
    let proxy = Proxy::serve(&format!("{timeouts}upstream: {}\n", origin.url()));
    for http2 in [false, true] {
        let mut client = match http2 {
            false => Client::http1(proxy.address).await,
            true => Client::http2(proxy.address).await,
        };
        {
            let mut asked = std::pin::pin!(client.send(get("/held")));
            // Longer than an idle connection may live.
            let longer = std::time::Duration::from_millis(600);
            assert!(tokio::time::timeout(longer, &mut asked).await.is_err());
            origin.go();
            assert_eq!(asked.await.text(), "late");
        }
        await_some("the end of it", || match &client {
            Client::Http1(sender) => sender.is_closed().then_some(()),
            Client::Http2(sender) => sender.is_closed().then_some(()),
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_told_to_the_origin() {
    let origin = Origin::start().await;
    for upstream_http2 in [false, true] {
        let log = "access_log: { format: json }\n";
        let proxy = Proxy::serve(&format!(
            "{log}upstream: {{ url: {}, http2: {upstream_http2} }}\n",
            origin.url()
        ));
        for client_http2 in [false, true] {
            for path in ["/never", "/cancelled"] {
                let before = origin.cancelled();
                let mut client = match client_http2 {
                    false => Client::http1(proxy.address).await,
                    true => Client::http2(proxy.address).await,
                };
                match path {
                    "/never" => {
                        let before = origin.asked();
                        let asked = tokio::spawn(async move { client.begin(get("/never")).await });
                        await_some("it", || (origin.asked() > before).then_some(())).await;
                        asked.abort();
                    }
                    _ => {
                        let response = client.begin(get(path)).await.unwrap();
                        drop((response, client));
                    }
                }
                let name = format!("{path} from {client_http2} to {upstream_http2}");
                await_some(&name, || (origin.cancelled() > before).then_some(())).await;
                proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
            }
        }
        proxy.out().line_with(&["downstream_remote_disconnect"]);
    }
}

#[tokio::test]
async fn a_client_that_is_gone_while_it_sends_is_told_to_the_origin() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    for http2 in [false, true] {
        let before = origin.received();
        let (to, body) = channel();
        let request = Request::post("/echo").header("host", "shop").body(body).unwrap();
        let mut client = match http2 {
            false => Client::http1(proxy.address).await,
            true => Client::http2(proxy.address).await,
        };
        let asked = tokio::spawn(async move {
            let response = client.begin(request).await;
            std::future::pending::<()>().await;
            drop((response, client));
        });
        to.send(Ok(Frame::data("some".into()))).await.unwrap();
        await_some("some", || (origin.received() > before).then_some(())).await;
        asked.abort();
        drop(to);
        proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
    }
}

#[tokio::test]
async fn more_exchanges_than_there_is_room_for_are_refused() {
    let origin = Origin::start().await;
    let bounds = "workers: 1\nbounds: { exchanges_max: 2 }\n";
    let proxy = Proxy::serve(&format!("{bounds}upstream: {}\n", origin.url()));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::http1(proxy.address).await;
        held.push(tokio::spawn(async move { client.send(get("/held")).await }));
    }
    proxy.await_metric("tidegate_proxy_exchanges", 2.0).await;
    let answer = proxy.get("/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "overload"));
    for exchange in held {
        origin.go();
        // One may be let go by the other's word: both are.
        await_some("it", || {
            origin.go();
            exchange.is_finished().then_some(())
        })
        .await;
        assert_eq!(exchange.await.unwrap().text(), "late");
    }
    assert_eq!(proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait() {
    let proxy = Proxy::serve(&format!("workers: 1\nbounds: {{ connections_max: 1 }}\n{RESPOND}"));
    let mut first = Client::http1(proxy.address).await;
    assert_eq!(first.send(get("/")).await.status, 200);
    let mut second = Client::http1(proxy.address).await;
    let mut waits = std::pin::pin!(second.send(get("/")));
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut waits).await;
    assert!(early.is_err(), "let in beside the first");
    drop(first);
    assert_eq!(waits.await.status, 200);
}

#[tokio::test]
async fn trusted_hops_say_who_the_client_is() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!(
        "listeners: [{{ address: 127.0.0.1:0, trusted_hops: 1 }}]\n\
         access_log: {{ format: json }}\nupstream: {}\n",
        origin.url()
    ));
    let mut request = get("/who");
    request.headers_mut().insert("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
    Client::http1(proxy.address).await.send(request).await;
    assert_eq!(origin.last().headers()["x-forwarded-for"], "6.6.6.6, 1.2.3.4,127.0.0.1");
    proxy.out().line_with(&["\"client\":\"1.2.3.4\"", "\"path\":\"/who\""]);
}

#[tokio::test]
async fn connections_spread_over_workers() {
    let proxy = Proxy::serve(RESPOND);
    let mut held = Vec::new();
    let both = |page: String| {
        let used = |line: &&str| {
            line.starts_with("tidegate_proxy_worker_connections_total{") && !line.ends_with(" 0")
        };
        page.lines().filter(used).count() == 2
    };
    for _ in 0..200 {
        let mut client = Client::http1(proxy.address).await;
        assert_eq!(client.send(get("/")).await.status, 200);
        held.push(client);
        if both(proxy.page("/metrics").await.1) {
            return;
        }
    }
    panic!("200 connections went to one worker");
}
