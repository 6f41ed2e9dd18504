//! A policy can be replaced while requests run: counts stay, and a bad one changes nothing.

use crate::{admitted, policy, policy_with, statuses};
use harness::client::{Client, get};
use harness::envoy::{Envoy, Policy, Update, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, parts, stage, stage_for_workers, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

async fn start(policy: Policy, workers: u32) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let plan = envoy(policy).workers(workers).origin(origin.address()).updatable();
    Ok((plan.start().await?, origin))
}

/// Sends until the budget is known to be used up; how many were admitted.
async fn use_up(envoy: &Envoy, at_least: usize) -> Result<usize> {
    let mut sum = 0;
    wait::until("the budget to be used up", async || {
        sum += admitted(&envoy.burst(16, 2, &get("/")).await.ok()?);
        (sum >= at_least).then_some(())
    })
    .await?;
    Ok(sum + admitted(&envoy.burst(16, 2, &get("/")).await?))
}

#[test]
fn an_update_keeps_every_count() -> Result<()> {
    stage_for_workers(|workers| async move {
        let per = |burst| json!({ "name": "kept", "rate": "1/1h", "burst": burst });
        let (mut envoy, _origin) = start(policy(json!([per(20)])), workers).await?;
        assert_eq!(admitted(&envoy.burst(14, 1, &get("/")).await?), 14);
        // Another limit comes along; of this one, six are left.
        let more = json!([per(20), { "name": "new", "rate": "1000/1s" }]);
        assert_eq!(envoy.update(policy(more)).await?, Update::Accepted);
        assert_eq!(use_up(&envoy, 6).await?, 6);
        // A wider quota adds what it is wider by: what was used stays used.
        assert_eq!(envoy.update(policy(json!([per(30)]))).await?, Update::Accepted);
        assert_eq!(use_up(&envoy, 10).await?, 10);
        Ok(())
    })
}

#[test]
fn an_update_takes_hold_at_once() -> Result<()> {
    stage_for_workers(|workers| async move {
        let named = |name: &str| json!([{ "name": name, "rate": "1/1h" }]);
        let (mut envoy, _origin) = start(policy(named("before")), workers).await?;
        assert_eq!(statuses(&envoy.burst(1, 2, &get("/")).await?), [200, 429]);
        // A new name is a new budget.
        assert_eq!(envoy.update(policy(named("after"))).await?, Update::Accepted);
        assert_eq!(use_up(&envoy, 1).await?, 1);
        assert_eq!(envoy.update(policy(json!([]))).await?, Update::Accepted);
        assert_eq!(admitted(&envoy.burst(8, 4, &get("/")).await?), 32);
        Ok(())
    })
}

#[test]
fn the_spelling_of_a_policy_does_not_matter_to_its_counts() -> Result<()> {
    stage(async {
        let document = json!({
            "tidegate": 1,
            "domain": "shop",
            "limits": [{ "name": "same", "rate": "10/1h", "key": [{ "const": "all" }] }],
        });
        let (mut envoy, _origin) = start(Policy::Struct(document.clone()), 1).await?;
        assert_eq!(admitted(&envoy.burst(6, 1, &get("/")).await?), 6);
        assert_eq!(envoy.update(Policy::Json(document.clone())).await?, Update::Accepted);
        assert_eq!(use_up(&envoy, 4).await?, 4);
        assert_eq!(envoy.update(Policy::Struct(document)).await?, Update::Accepted);
        assert_eq!(admitted(&envoy.burst(6, 1, &get("/")).await?), 0);
        Ok(())
    })
}

#[test]
fn a_bad_policy_is_refused_with_words_and_the_old_one_stays() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "old", "rate": "1/1h", "burst": 5 }]);
        let (mut envoy, _origin) = start(policy(limit), workers).await?;
        assert_eq!(admitted(&envoy.burst(3, 1, &get("/")).await?), 3);
        let bad = [
            (policy(json!([{ "name": "new", "rate": "5 per minute" }])), "limits[0].rate"),
            (policy(json!([{ "name": "new", "rate": "5/1m", "brust": 3 }])), "brust"),
            // In the filter's words, or those of a proxy that looks before it starts one.
            (Policy::Text("limits: [".to_owned()), "neither JSON nor a Struct|no JSON policy"),
            (Policy::Text("{\"tidegate\": 1,".to_owned()), "not JSON|no JSON policy"),
            (Policy::Text(String::new()), "no configuration|no JSON policy"),
        ];
        for (policy, words) in bad {
            assert_eq!(envoy.update(policy).await?, Update::Refused, "{words}");
            let log = envoy.log();
            let is_said = words.split('|').any(|words| log.contains(words));
            assert!(is_said, "the log does not say {words:?}");
        }
        assert_eq!(use_up(&envoy, 2).await?, 2, "the old policy, with its count");
        Ok(())
    })
}

#[test]
fn envoy_does_not_start_with_a_bad_policy_and_says_why() -> Result<()> {
    stage(async {
        let limit = json!([{ "name": "hurried", "rate": "5 per minute" }]);
        let error = match envoy(policy(limit)).start().await {
            Ok(_) => anyhow::bail!("it did start"),
            Err(error) if error.is::<parts::Missing>() => return Err(error),
            Err(error) => error.to_string(),
        };
        for words in ["limits[0].rate", "5 per minute", "write 5/m"] {
            assert!(error.contains(words), "Envoy does not say {words:?}:\n{error}");
        }
        Ok(())
    })
}

/// Requests that are under way while the policy changes are neither lost nor let through
/// beyond the limit.
#[test]
fn updates_under_load_lose_no_request_and_no_count() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = |extra: u32| {
            policy(json!([
                { "name": "kept", "rate": "1/1h", "burst": 200 },
                { "name": format!("extra-{extra}"), "rate": "100000/1s" },
            ]))
        };
        let (mut envoy, _origin) = start(limit(0), workers).await?;
        let address = envoy.address();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..8 {
            running.spawn(async move {
                let mut sum = 0;
                for _ in 0..100 {
                    // A draining connection may be closed between requests, so one each.
                    let mut client = harness::client::Client::http1(address).await?;
                    let answer = client.send(get("/")).await?;
                    assert!([200, 429].contains(&answer.status.as_u16()), "{answer:?}");
                    sum += usize::from(answer.status == 200);
                }
                Result::Ok(sum)
            });
        }
        for extra in 1..=5 {
            assert_eq!(envoy.update(limit(extra)).await?, Update::Accepted);
        }
        let mut sum = 0;
        while let Some(done) = running.join_next().await {
            sum += done??;
        }
        assert!(sum <= 200, "{sum} admitted of 200");
        sum += use_up(&envoy, 200 - sum).await?;
        assert_eq!(sum, 200);
        Ok(())
    })
}

/// A request that waits for the host is decided as it was begun, whatever policy comes
/// meanwhile; it neither hangs nor is forgotten.
#[test]
fn a_request_that_waits_for_the_host_survives_an_update() -> Result<()> {
    stage_for_workers(|workers| async move {
        let host = Host::on_memory().await?;
        let origin = Origin::start().await?;
        let limit = json!([{ "name": "global", "rate": "1/1h", "scope": "global", "exact": true }]);
        let plan = envoy(policy(limit)).workers(workers).host(host.address()).updatable();
        let mut envoy = plan.origin(origin.address()).start().await?;
        host.signal(Signal::STOP)?;
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut client = Client::http1(envoy.address()).await?;
            waiting.push(tokio::spawn(async move { client.send(get("/")).await }));
        }
        wait::until("both to wait for the host", async || {
            (envoy.stat("cluster.tidegate_host.upstream_rq_active").ok()? == 2).then_some(())
        })
        .await?;
        assert_eq!(envoy.update(policy(json!([]))).await?, Update::Accepted);
        assert_eq!(envoy.send(get("/")).await?.status, 200, "by the new policy");
        host.signal(Signal::CONT)?;
        let mut statuses = Vec::new();
        for answer in waiting {
            statuses.push(answer.await??.status.as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 429], "by the policy under which they asked");
        Ok(())
    })
}

#[test]
fn what_the_last_requests_of_an_old_policy_owe_is_charged() -> Result<()> {
    stage(async {
        let (host, origin) = (Host::on_memory().await?, Origin::start().await?);
        let shared = |more: &[Value]| {
            let limit = json!({
                "name": "shared", "rate": "50/1s", "scope": "global", "exact": true
            });
            // A listener that drains keeps its requests for a second: they end before that.
            let host = json!({ "cluster": "tidegate_host", "deadline": "900ms" });
            policy_with([&[limit], more].concat().into(), json!({ "host": host }))
        };
        let plan = envoy(shared(&[])).host(host.address()).updatable();
        let mut envoy = plan.origin(origin.address()).start().await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200, "the whole share is its own");
        host.signal(Signal::STOP)?;
        let mut waiting = Vec::new();
        for count in 1..=2 {
            // Between them a share grows by five; within the first one's end it must not by one.
            wait::pass(Duration::from_millis(100)).await;
            let mut client = Client::http1(envoy.address()).await?;
            waiting.push(tokio::spawn(async move { client.send(get("/")).await }));
            wait::until("one more to wait for the host", async || {
                let active = envoy.stat("cluster.tidegate_host.upstream_rq_active").ok()?;
                (active == count).then_some(())
            })
            .await?;
        }
        let more = [json!({ "name": "new", "rate": "1000/1s" })];
        assert_eq!(envoy.update(shared(&more)).await?, Update::Accepted);
        // The host is away from when the first gives up; the share has grown for the second.
        let mut statuses = Vec::new();
        for answer in waiting {
            statuses.push(answer.await??.status.as_u16());
        }
        assert_eq!(statuses, [429, 200]);
        host.signal(Signal::CONT)?;
        let charged = wait::until("the second to be charged", async || {
            let units = host.metric("tidegate_charged_back_units_total").await.ok()?;
            (units > 0).then_some(units)
        })
        .await?;
        assert_eq!(charged, 1);
        Ok(())
    })
}
