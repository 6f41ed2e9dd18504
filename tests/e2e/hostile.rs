//! Nothing that a client sends harms the filter, and nothing gets it around a limit.

use crate::{assert_never_alone, policy, statuses};
use harness::client::{Client, get, post};
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, stage, stage_for_workers};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Just below Envoy's own bound for all fields of a request, once that is raised.
const HUGE_BYTES: usize = 60 << 10;

async fn start(policy: Policy, workers: u32) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let plan = envoy(policy).workers(workers).origin(origin.address());
    Ok((plan.headers_kib(96).start().await?, origin))
}

fn by_header(name: &str) -> Policy {
    policy(json!([{ "name": "device", "key": [{ "header": name }], "rate": "1/1h" }]))
}

#[test]
fn bytes_that_are_no_utf8_are_a_key_like_any_other() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (envoy, _origin) = start(by_header("x-device"), workers).await?;
        for value in [&b"a\xff"[..], b"a\xfe", b"\x80", b"\xf0\x28\x8c\x28", b"caf\xc3\xa9"] {
            let answers = envoy.burst(1, 2, &get("/").header("x-device", value)).await?;
            assert_eq!(statuses(&answers), [200, 429], "{value:?}");
        }
        Ok(())
    })
}

#[test]
fn bytes_that_are_no_utf8_do_no_harm_anywhere() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let origin = Origin::start().await?;
        let evil = "\u{fffd}";
        let limits = json!([
            { "name": "cookie", "key": [{ "cookie": "s" }], "rate": "100/1h" },
            { "name": "query", "key": [{ "query": "q" }], "rate": "100/1h" },
            { "name": "tier", "when": { "header": { "x-tier": format!("{evil}*") } },
              "rate": "100/1h" },
            { "name": "units", "cost": { "header": "x-cost", "max": 10 }, "rate": "100/1h" },
            // Asks carry the ids of a request along.
            { "name": "asked", "key": ["host"], "rate": "100/1h", "scope": "global" },
        ]);
        let plan = envoy(policy(limits)).workers(workers).host(host.address());
        let envoy = plan.origin(origin.address()).start().await?;
        let names = ["cookie", "x-tier", "x-cost", "x-request-id", "traceparent", "user-agent"];
        for name in names {
            let call = get("/?q=%ff%00%").header(name, b"s=\xff\xfe\x80");
            assert_eq!(envoy.send(call).await?.status, 200, "{name}");
        }
        // And every ask was understood.
        assert_never_alone(&envoy, "asked", &["allowed"], names.len()).await
    })
}

/// Clients may write a whole URL, also without a path (RFC 9112 section 3.2.2).
#[test]
fn no_form_of_a_target_gets_around_a_limit() -> Result<()> {
    stage_for_workers(|workers| async move {
        let when = json!({ "path": "/", "host": "shop.example" });
        let limits =
            json!([{ "name": "a", "when": when, "key": { "const": "a" }, "rate": "1/1h" }]);
        let (envoy, origin) = start(policy(limits), workers).await?;
        assert_eq!(status_of(&envoy, "/").await?, "200");
        let whole = ["", "/", "?a=b", "/?a=b"].map(|rest| format!("http://shop.example{rest}"));
        for target in whole.iter().map(String::as_str).chain(["/", "/?a"]) {
            let status = status_of(&envoy, target).await?;
            // Envoy has no route for one without a path.
            let is_none = status == "404" && target.contains("example?");
            assert!(status == "429" || is_none, "{target}: {status}");
        }
        assert_eq!(origin.seen().len(), 1);
        Ok(())
    })
}

/// Of a request with its target just so.
async fn status_of(envoy: &Envoy, target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(envoy.address()).await?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    Ok(String::from_utf8_lossy(&line[9..]).into_owned())
}

#[test]
fn huge_fields_are_keys_too_and_told_apart_to_the_last_byte() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (envoy, _origin) = start(by_header("x-device"), workers).await?;
        let mut value = vec![b'x'; HUGE_BYTES];
        for last in [b'1', b'2'] {
            value.push(last);
            let answers = envoy.burst(1, 2, &get("/").header("x-device", &value)).await?;
            assert_eq!(statuses(&answers), [200, 429]);
            value.pop();
        }
        Ok(())
    })
}

#[test]
fn many_fields_and_repeated_ones_do_no_harm() -> Result<()> {
    stage(async {
        let device = json!({ "name": "device", "key": [{ "header": "x-device" }], "rate": "1/1h" });
        let other = json!({ "name": "other", "key": [{ "header": "x-1" }], "rate": "1000/1h" });
        // One field is read by itself, several all at once: two ways to go wrong.
        for limits in [json!([device]), json!([device, other])] {
            let (envoy, _origin) = start(policy(limits), 1).await?;
            let many = (0..80).fold(get("/"), |call, n| call.header(&format!("x-{n}"), "value"));
            let repeated = (0..5).fold(many, |call, n| call.header("x-device", n.to_string()));
            // The first value counts, so adding more is no new identity.
            assert_eq!(envoy.send(repeated).await?.status, 200);
            let first = get("/").header("x-device", "0").header("x-device", "other");
            assert_eq!(envoy.send(first).await?.status, 429);
        }
        Ok(())
    })
}

#[test]
fn a_client_that_hangs_up_in_the_middle_costs_nothing_but_its_token() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "all", "rate": "1/1h", "burst": 1000 }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        for _ in 0..20 {
            let mut client = Client::http1(envoy.address()).await?;
            let sending = client.start(post("/slow", vec![b'x'; 1 << 20]));
            // The origin answers after 300 ms; nobody waits for that here.
            let hurry = std::time::Duration::from_millis(5);
            assert!(tokio::time::timeout(hurry, sending).await.is_err(), "it answered at once");
        }
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        Ok(())
    })
}

/// What clients send must not reach a place where it means something else.
#[test]
fn nothing_of_a_client_is_written_into_answers_and_logs_of_ours() -> Result<()> {
    stage(async {
        let (envoy, _origin) = start(by_header("x-device"), 1).await?;
        let value = "\"},{\"evil\":\"<script>\t%0d%0aset-cookie: a=b";
        let answers = envoy.burst(1, 2, &get("/refused").header("x-device", value)).await?;
        let refused = &answers[1];
        assert_eq!(refused.status, 429);
        let told = format!("{:?} {:?} {}", refused.headers, refused.body, envoy.log());
        assert!(!told.contains("evil") && !told.contains("set-cookie"), "{told}");
        Ok(())
    })
}
