//! What a client is told that is refused.

use crate::{policy, policy_with, statuses};
use harness::client::{Client, get, post};
use harness::envoy::{Policy, envoy};
use harness::origin::Origin;
use harness::{Result, parts, stage, stage_for_workers, wait};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_refusal_is_a_problem_document_that_names_the_limit() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "per-client", "rate": "6/1m", "burst": 1 }]);
        let origin = Origin::start().await?;
        let plan = envoy(policy(limit)).workers(workers).origin(origin.address());
        let envoy = plan.start().await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        let refused = envoy.send(get("/refused")).await?;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.header("cache-control"), "no-store");
        assert_eq!(refused.header("retry-after"), "10");
        assert_eq!(refused.header("ratelimit-policy"), r#""per-client";q=1;w=10"#);
        assert_eq!(refused.header("ratelimit"), r#""per-client";r=0;t=10"#);
        assert_eq!(refused.header("x-ratelimit-limit"), "", "only if the policy asks for it");
        let body = refused.json()?;
        let quota_exceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded";
        assert_eq!(body["type"], quota_exceeded);
        assert_eq!((&body["status"], &body["title"]), (&json!(429), &json!("Too many requests")));
        assert_eq!(body["violated-policies"], json!(["per-client"]));
        assert_eq!(envoy.access("/refused").await?["details"], "tidegate{limit=per-client}");
        assert_eq!(origin.seen().len(), 1, "a refused request does not reach the origin");
        Ok(())
    })
}

#[test]
fn a_client_that_waits_as_told_is_admitted() -> Result<()> {
    stage(async {
        let limit = json!([{ "name": "slow", "rate": "1/2s", "burst": 1 }]);
        let origin = Origin::start().await?;
        let envoy = envoy(policy(limit)).origin(origin.address()).start().await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        let refused = envoy.send(get("/")).await?;
        let wait_s: u64 = refused.header("retry-after").parse()?;
        assert!((1..=2).contains(&wait_s), "{wait_s}");
        wait::pass(Duration::from_secs(wait_s)).await;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        Ok(())
    })
}

#[test]
fn of_several_violated_limits_the_longest_wait_counts() -> Result<()> {
    stage(async {
        let limits = json!([
            { "name": "minute", "rate": "2/1m", "burst": 1 },
            { "name": "hour", "rate": "2/1h", "burst": 1 },
            { "name": "roomy", "rate": "100/1s" },
        ]);
        let origin = Origin::start().await?;
        let envoy = envoy(policy(limits)).origin(origin.address()).start().await?;
        let answers = envoy.burst(1, 2, &get("/")).await?;
        assert_eq!(statuses(&answers), [200, 429]);
        let refused = &answers[1];
        assert_eq!(refused.header("retry-after"), "1800");
        let fired = refused.json()?["violated-policies"].clone();
        assert_eq!(fired, json!(["hour", "minute"]));
        assert_eq!(envoy.access("/").await?["status"], 200);
        Ok(())
    })
}

#[test]
fn a_request_that_can_never_pass_is_not_told_to_retry() -> Result<()> {
    stage_for_workers(|workers| async move {
        let cost = json!({ "header": "x-cost", "max": 100 });
        let limit = json!([{ "name": "units", "rate": "10/1h", "cost": cost }]);
        let origin = Origin::start().await?;
        let plan = envoy(policy(limit)).workers(workers).origin(origin.address());
        let envoy = plan.start().await?;
        let refused = envoy.send(get("/dear").header("x-cost", "11")).await?;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, ""));
        assert_eq!(envoy.access("/dear").await?["details"], "tidegate{limit=units,cost}");
        // And it was not charged.
        assert_eq!(envoy.send(get("/").header("x-cost", "10")).await?.status, 200);
        Ok(())
    })
}

#[test]
fn legacy_fields_come_by_option_and_the_standard_ones_can_go() -> Result<()> {
    stage(async {
        let limit = json!([{ "name": "six", "rate": "6/1m", "burst": 1 }]);
        let fields = json!({ "headers": { "x_ratelimit": true, "ratelimit": false } });
        let envoy = envoy(policy_with(limit, fields)).start().await?;
        let answers = envoy.burst(1, 2, &get("/")).await?;
        let refused = &answers[1];
        assert_eq!(refused.header("x-ratelimit-limit"), "1");
        assert_eq!(refused.header("x-ratelimit-remaining"), "0");
        assert_eq!(refused.header("x-ratelimit-reset"), "10");
        assert_eq!((refused.header("ratelimit"), refused.header("ratelimit-policy")), ("", ""));
        Ok(())
    })
}

#[test]
fn the_standing_build_tells_admitted_clients_what_is_left() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "ten", "rate": "10/1h" }]);
        let policy = policy_with(limit, json!({ "headers": { "send": "always" } }));
        let origin = Origin::start().await?;
        let plan = envoy(policy).workers(workers).origin(origin.address());
        let envoy = plan.filter(parts::filter_standing()?).start().await?;
        for left in [9, 8] {
            let answer = envoy.send(get("/")).await?;
            assert_eq!(answer.status, 200);
            let told = answer.header("ratelimit");
            assert!(told.starts_with(&format!(r#""ten";r={left};t="#)), "{told}");
            assert_eq!(answer.header("ratelimit-policy"), r#""ten";q=10;w=3600"#);
        }
        Ok(())
    })
}

#[test]
fn the_plain_build_refuses_a_policy_that_wants_more_of_it() -> Result<()> {
    stage(async {
        let limit = json!([{ "name": "ten", "rate": "10/1h" }]);
        let policy = policy_with(limit, json!({ "headers": { "send": "always" } }));
        let refused = envoy(policy).validate().expect_err("the plain build cannot do that");
        let told = refused.to_string();
        if refused.is::<parts::Missing>() {
            return Err(refused);
        }
        assert!(told.contains("tidegate-standing.wasm"), "{told}");
        Ok(())
    })
}

#[test]
fn grpc_clients_get_resource_exhausted() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "rpc", "rate": "6/1m", "burst": 1 }]);
        let origin = Origin::start().await?;
        let edit = |config: &mut serde_json::Value| {
            // The origin speaks HTTP/2 as gRPC servers do.
            let host = &config["static_resources"]["clusters"][0];
            let http2 = host["typed_extension_protocol_options"].clone();
            config["static_resources"]["clusters"][1]["typed_extension_protocol_options"] = http2;
        };
        let plan = envoy(policy(limit)).workers(workers).origin(origin.address()).edit(edit);
        let envoy = plan.start().await?;
        let mut client = Client::http2(envoy.address()).await?;
        let call = post("/shop.Cart/Add", vec![0; 5]).header("content-type", "application/grpc");
        let call = call.header("te", "trailers");
        let admitted = client.send(call.clone()).await?;
        assert_eq!((admitted.status.as_u16(), admitted.grpc_status()), (200, Some("0")));
        let refused = client.send(call).await?;
        assert_eq!((refused.status.as_u16(), refused.grpc_status()), (200, Some("8")));
        assert_eq!(refused.header("retry-after"), "10");
        Ok(())
    })
}

#[test]
fn a_grpc_client_of_a_closed_limit_is_told_to_come_back() -> Result<()> {
    stage(async {
        let limit = json!([
            { "name": "rpc", "rate": "6/1m", "scope": "global", "on_error": "closed" },
        ]);
        let envoy = envoy(policy(limit)).start().await?;
        let mut client = Client::http2(envoy.address()).await?;
        let call = post("/shop.Cart/Add", vec![0; 5]).header("content-type", "application/grpc");
        let refused = client.send(call).await?;
        assert_eq!(refused.grpc_status(), Some("14"), "unavailable: {refused:?}");
        Ok(())
    })
}

/// `Struct` and `StringValue` are two spellings of one policy.
#[test]
fn a_policy_means_the_same_as_struct_and_as_json() -> Result<()> {
    stage(async {
        let document = json!({
            "tidegate": 1,
            "domain": "shop",
            "limits": [{ "name": "spelled", "rate": "7/1h", "burst": 3, "cost": 1 }],
        });
        for policy in [Policy::Struct(document.clone()), Policy::Json(document.clone())] {
            let envoy = envoy(policy).start().await?;
            let answers = envoy.burst(1, 4, &get("/")).await?;
            // Nothing is behind this Envoy: what is admitted gets a 503 of its own.
            assert_eq!(statuses(&answers), [503, 503, 503, 429]);
            assert_eq!(answers[3].header("ratelimit-policy"), r#""spelled";q=3;w=1543"#);
        }
        Ok(())
    })
}
