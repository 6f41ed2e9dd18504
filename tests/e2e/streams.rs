//! Requests that are more than a head and an answer: upgrades, large bodies, HTTP/2.

use crate::policy;
use harness::client::{Client, get, post};
use harness::envoy::{Envoy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, stage_for_workers, wait};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than all buffers on the way together.
const LARGE_BYTES: usize = 5 << 20;

async fn start(scope: &str, rate: &str, workers: u32) -> Result<(Envoy, Origin, Host)> {
    let (origin, host) = (Origin::start().await?, Host::on_memory().await?);
    let mut limit = json!({ "name": "streams", "rate": rate, "scope": scope });
    if scope == "exact" {
        (limit["scope"], limit["exact"]) = (json!("global"), json!(true));
    }
    let limit = json!([limit]);
    let plan = envoy(policy(limit)).workers(workers).origin(origin.address());
    Ok((plan.host(host.address()).start().await?, origin, host))
}

#[test]
fn websockets_open_and_carry_bytes_or_are_refused() -> Result<()> {
    stage_for_workers(|workers| async move {
        for scope in ["local", "global", "exact"] {
            let (envoy, _origin, _host) = start(scope, "1/1h", workers).await?;
            let call = get("/socket").header("upgrade", "websocket");
            let call = call.header("connection", "upgrade").header("sec-websocket-version", "13");
            let call = call.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let response = Client::http1(envoy.address()).await?.start(call.clone()).await?;
            assert_eq!(response.status(), 101, "{scope}");
            let mut socket = TokioIo::new(hyper::upgrade::on(response).await?);
            let mut echo = [0; 5];
            socket.write_all(b"tides").await?;
            socket.read_exact(&mut echo).await?;
            assert_eq!(&echo, b"tides", "{scope}");
            let refused = envoy.send(call).await?;
            assert_eq!(refused.status, 429, "{scope}");
        }
        Ok(())
    })
}

#[test]
fn a_large_body_waits_for_the_host_with_its_head() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (envoy, origin, host) = start("exact", "2/1h", workers).await?;
        let call = post("/large/echo", vec![b'x'; LARGE_BYTES]);
        let h1 = Client::http1(envoy.address()).await?;
        let h2 = Client::http2(envoy.address()).await?;
        for (mut client, version) in [(h1, "HTTP/1.1"), (h2, "HTTP/2")] {
            host.signal(Signal::STOP)?;
            let call = call.clone();
            let sending = tokio::spawn(async move { (client.send(call).await, client) });
            wait::until("the request to wait for the host", async || {
                let asking = envoy.stat("cluster.tidegate_host.upstream_rq_active").ok()?;
                (asking == 1).then_some(())
            })
            .await?;
            host.signal(Signal::CONT)?;
            let (answer, mut client) = sending.await?;
            let answer = answer?;
            assert_eq!(
                (answer.status.as_u16(), answer.body.len()),
                (200, LARGE_BYTES),
                "{version}"
            );
            // And once the budget is used up, the refusal comes without the body's being read.
            if version == "HTTP/2" {
                let refused = client.send(post("/large", vec![b'x'; LARGE_BYTES])).await?;
                assert_eq!(refused.status, 429);
            }
        }
        let bodies: Vec<usize> = origin.seen().iter().map(|seen| seen.body_bytes).collect();
        assert_eq!(bodies, [LARGE_BYTES; 2]);
        Ok(())
    })
}

#[test]
fn streams_of_one_connection_are_counted_one_by_one() -> Result<()> {
    stage_for_workers(|workers| async move {
        for scope in ["local", "global", "exact"] {
            let (envoy, _origin, _host) = start(scope, "10/1h", workers).await?;
            let mut client = Client::http2(envoy.address()).await?;
            // All heads are out before the first answer is read.
            let mut statuses = Vec::new();
            let mut pending = Vec::new();
            for _ in 0..25 {
                pending.push(client.launch(get("/")).await?);
            }
            for answer in pending {
                statuses.push(answer.await?.status().as_u16());
            }
            let admitted = statuses.iter().filter(|status| **status == 200).count();
            assert_eq!(admitted, 10, "{scope}: {statuses:?}");
        }
        Ok(())
    })
}
