//! What goes through, in every mix of HTTP/1.1 and HTTP/2.

use crate::common::{DEADLINE, await_some};
use crate::home::{Answer, Client, Proxy, get, post};
use crate::origin::{Origin, channel};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Frame;

/// A proxy before an origin, for each mix of protocols, with a client.
async fn mixes() -> Vec<(&'static str, Origin, Proxy, Client)> {
    let mut mixes = Vec::new();
    for (name, is_client_http2, is_upstream_http2) in [
        ("1 to 1", false, false),
        ("1 to 2", false, true),
        ("2 to 1", true, false),
        ("2 to 2", true, true),
    ] {
        let origin = Origin::start().await;
        let upstream =
            format!("upstream: {{ url: {}, http2: {is_upstream_http2} }}\n", origin.url());
        let proxy = Proxy::serve(&upstream);
        let client = match is_client_http2 {
            true => Client::http2(proxy.address).await,
            false => Client::http1(proxy.address).await,
        };
        mixes.push((name, origin, proxy, client));
    }
    mixes
}

#[tokio::test]
async fn requests_and_responses_pass_in_every_mix() {
    for (mix, origin, _proxy, mut client) in mixes().await {
        let answer = client.send(get("/a?b=c")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "/a"), "{mix}");
        assert_eq!(answer.header("server"), "tidegate", "{mix}");
        assert!(!answer.header("date").is_empty(), "{mix}");
        let last = origin.last();
        assert_eq!(last.uri().path_and_query().unwrap(), "/a?b=c", "{mix}");
        let authority = last.uri().authority().map(ToString::to_string);
        let host = last.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        assert_eq!(authority.or(host).as_deref(), Some("shop"), "{mix}");

        let big = Bytes::from(vec![b'x'; 3 << 20]);
        let answer = client.send(post("/echo", big.clone())).await;
        assert_eq!(answer.body, big, "{mix}");
        let head = Request::head("/a").header("host", "shop").body(crate::home::empty()).unwrap();
        let answer = client.send(head).await;
        assert_eq!((answer.status, answer.header("content-length")), (200, "2"), "{mix}");
    }
}

#[tokio::test]
async fn a_response_is_passed_on_as_it_comes() {
    for (mix, origin, _proxy, mut client) in mixes().await {
        let mut request = get("/parts");
        // Who speaks HTTP/1.1 is only sent trailers if it wants some.
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = client.begin(request).await.unwrap();
        let mut body = response.into_body();
        for part in ["one", "two", "three"] {
            origin.go();
            let frame = tokio::time::timeout(DEADLINE, body.frame()).await.unwrap();
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), part, "{mix}");
        }
        let rest = tokio::time::timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
        // HTTP/1.1 has trailers only where both sides asked for them.
        let trailers = rest.trailers().map(|trailers| trailers["x-sum"].clone());
        assert_eq!(trailers.is_some(), mix == "2 to 2", "{mix}: {trailers:?}");
        assert!(rest.to_bytes().is_empty(), "{mix}");
    }
}

#[tokio::test]
async fn both_directions_go_on_at_once() {
    for (mix, _origin, _proxy, mut client) in mixes().await {
        let (to, body) = channel();
        let request = Request::post("/echo").header("host", "shop").body(body).unwrap();
        let begun = client.begin(request);
        to.send(Ok(Frame::data("first".into()))).await.unwrap();
        let mut response = begun.await.unwrap().into_body();
        for part in ["first", "second", "third"] {
            if part != "first" {
                to.send(Ok(Frame::data(part.into()))).await.unwrap();
            }
            let frame = tokio::time::timeout(DEADLINE, response.frame()).await.unwrap();
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), part, "{mix}");
        }
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("x-end", "1".parse().unwrap());
        to.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(to);
        let rest = tokio::time::timeout(DEADLINE, response.collect()).await.unwrap().unwrap();
        if mix == "2 to 2" {
            assert_eq!(rest.trailers().unwrap()["x-end"], "1");
        }
    }
}

#[tokio::test]
async fn what_nobody_takes_is_not_fetched() {
    for (mix, origin, proxy, mut client) in mixes().await {
        let response = client.begin(get("/flood")).await.unwrap();
        // Until nothing moves any more: what lies in sockets and windows is bounded.
        let mut before = usize::MAX;
        while origin.sent() != before {
            before = origin.sent();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert!(before < 32 << 20, "{mix}: {before} bytes are held");
        drop((response, client));
        await_some("the origin's end of it", || (origin.cancelled() == 1).then_some(())).await;
        proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
    }
}

#[tokio::test]
async fn what_upstream_does_not_take_is_not_read() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    // `/held` does not read its request's body.
    let (to, body) = channel();
    let request = Request::post("/held").header("host", "shop").body(body).unwrap();
    let mut client = Client::http1(proxy.address).await;
    let begun = tokio::spawn(async move { client.begin(request).await });
    let part = Bytes::from(vec![b'x'; 64 << 10]);
    let mut sent = 0;
    let stalled = std::time::Duration::from_millis(500);
    while let Ok(Ok(())) =
        tokio::time::timeout(stalled, to.send(Ok(Frame::data(part.clone())))).await
    {
        sent += part.len();
        assert!(sent < 64 << 20, "all of it was read");
    }
    origin.go();
    assert_eq!(Answer::of(begun.await.unwrap().unwrap()).await.text(), "late");
    drop(to);
    proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
}

#[tokio::test]
async fn connections_to_the_origin_are_kept_for_the_next() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("workers: 1\nupstream: {}\n", origin.url()));
    let mut client = Client::http1(proxy.address).await;
    for _ in 0..20 {
        client.send(get("/a")).await;
        client.send(post("/echo", "b")).await;
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn many_exchanges_share_one_http2_connection() {
    let origin = Origin::start().await;
    let upstream = format!("workers: 1\nupstream: {{ url: {}, http2: true }}\n", origin.url());
    let proxy = Proxy::serve(&upstream);
    let mut clients = Vec::new();
    for _ in 0..50 {
        let address = proxy.address;
        clients
            .push(tokio::spawn(async move { Client::http2(address).await.send(get("/a")).await }));
    }
    for client in clients {
        assert_eq!(client.await.unwrap().status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn fields_for_one_hop_stay_there() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    let mut request = get("/hop");
    for (name, value) in [
        ("connection", "x-mine, keep-alive"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("x-theirs", "2"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = Client::http1(proxy.address).await.send(request).await;
    let last = origin.last();
    let names: Vec<&str> = last.headers().keys().map(|name| name.as_str()).collect();
    let wanted = ["host", "x-theirs", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];
    assert_eq!(names, wanted);
    assert_eq!((answer.header("keep-alive"), answer.header("x-seen")), ("", "1"));
}

#[tokio::test]
async fn paths_have_one_way_to_be_written() {
    let origin = Origin::start().await;
    let proxy = Proxy::serve(&format!("upstream: {}\n", origin.url()));
    assert_eq!(proxy.get("/a/../b//%63?x=/../").await.text(), "/b/c");
    assert_eq!(origin.last().uri(), "/b/c?x=/../");
    let answer = proxy.get("/a%2fb?c").await;
    assert_eq!((answer.status, answer.header("location")), (307, "/a/b?c"));
}

#[tokio::test]
async fn an_answer_needs_no_upstream() {
    let proxy = Proxy::serve("respond: { status: 418, body: tea, headers: { x-pot: '1' } }\n");
    for mut client in [Client::http1(proxy.address).await, Client::http2(proxy.address).await] {
        let answer: Answer = client.send(get("/")).await;
        assert_eq!((answer.status, answer.text().as_str()), (418, "tea"));
        assert_eq!(answer.header("x-pot"), "1");
        let answer = client.send(post("/", "milk")).await;
        assert_eq!(answer.status, 418);
    }
}
