//! Calls that filters make.

use crate::filters::{CALL, GRPC, put};
use crate::home::{Proxy, get};
use crate::origin::{self, Origin};

/// A proxy whose filter calls `helper`.
fn calling(clusters: &str) -> Proxy {
    let yaml = format!(
        "filters: [{{ wasm: FOLDER/f.wasm, configuration: helper }}]\n\
         respond: {{ body: passed }}\nclusters: {clusters}\n"
    );
    Proxy::serve_with(&yaml, |folder| put(folder, "f.wasm", CALL))
}

#[tokio::test]
async fn a_call_gets_its_answer_over_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("helper.sock");
    let (tcp, _unix) = (Origin::start().await, Origin::start_unix(&socket));
    for url in [tcp.url(), format!("unix:{}", socket.display())] {
        for http2 in [false, true] {
            let proxy = calling(&format!("{{ helper: {{ url: '{url}', http2: {http2} }} }}"));
            for _ in 0..3 {
                let answer = proxy.get("/").await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "/asked"));
            }
            proxy.await_metric("tidegate_proxy_callouts_total", 3.0).await;
            assert_eq!(proxy.metric("tidegate_proxy_callouts_failed_total").await, 0.0);
        }
    }
}

#[tokio::test]
async fn a_call_that_fails_is_answered_too() {
    let silent = origin::raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let (nobody, silent) = (origin::nobody().await, silent.await);
    let hangs_up = origin::raw(|stream| async move { drop(stream) }).await;
    for (address, said, length) in [
        (nobody, "reset reason: remote connection failure", 98),
        (hangs_up, "reset reason: connection termination", 95),
        (silent, "upstream request timeout", 24),
    ] {
        let proxy = calling(&format!("{{ helper: 'http://{address}' }}"));
        let answer = proxy.get("/").await;
        assert!(answer.text().ends_with(said), "{}", answer.text());
        assert_eq!(answer.body.len(), length, "as long as Envoy's");
        assert_eq!(proxy.metric("tidegate_proxy_callouts_failed_total").await, 1.0);
    }
}

/// A proxy whose filter makes gRPC calls to `helper`.
fn grpc(url: &str) -> Proxy {
    let yaml = format!(
        "filters: [{{ wasm: FOLDER/f.wasm }}]\nrespond: {{ body: passed }}\n\
         clusters: {{ helper: {{ url: '{url}', http2: true }} }}\n"
    );
    Proxy::serve_with(&yaml, |folder| put(folder, "f.wasm", GRPC))
}

#[tokio::test]
async fn grpc_calls_and_streams_get_their_messages_and_their_end() {
    let origin = Origin::start().await;
    let proxy = grpc(&origin.url());
    for (path, said) in [
        ("/echo", "hello"),
        ("/fails", "status 05"),
        ("/fails-later", "status 07"),
        ("/no-grpc", "status 12"),
        ("/never", "status 14"),
        ("/secho", "hello"),
        ("/sfails", "status 05"),
    ] {
        assert_eq!(proxy.get(path).await.text(), said, "{path}");
    }
    let last = origin.last();
    assert_eq!(last.uri().path(), "/helper/sfails");
    assert_eq!(
        (&last.headers()["te"], &last.headers()["content-type"]),
        (&"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
    );
    proxy.await_metric("tidegate_proxy_callouts", 0.0).await;
    let proxy = grpc(&format!("http://{}", origin::nobody().await));
    for path in ["/echo", "/secho"] {
        assert_eq!(proxy.get(path).await.text(), "status 14", "{path}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_cannot_be_called() {
    let proxy = calling("{ another: 'http://127.0.0.1:9' }");
    assert_eq!(proxy.get("/").await.text(), "passed");
}

#[tokio::test]
async fn a_call_outlives_the_exchange_that_it_was_made_for() {
    let origin = Origin::start().await;
    let proxy = calling(&format!("{{ helper: {{ url: '{}', http2: true }} }}", origin.url()));
    for _ in 0..20 {
        let mut client = crate::home::Client::http1(proxy.address).await;
        let asked = tokio::spawn(async move { client.begin(get("/")).await });
        tokio::task::yield_now().await;
        asked.abort();
    }
    proxy.await_metric("tidegate_proxy_exchanges", 0.0).await;
    proxy.await_metric("tidegate_proxy_callouts", 0.0).await;
    assert_eq!(proxy.get("/").await.text(), "/asked");
}
