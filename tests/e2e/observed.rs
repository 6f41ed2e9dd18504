//! What happens can be seen: counters with bounded labels, and why a request was refused.

use crate::{policy, statuses};
use harness::client::get;
use harness::envoy::{Envoy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, stage, stage_for_workers, wait};
use serde_json::json;

/// Counters are told on ticks; waits until this one is what it must become.
async fn becomes(envoy: &Envoy, limit: &str, outcome: &str, expected: u64) -> Result<()> {
    let name = format!("{limit}.{outcome} to be {expected}");
    wait::until(&name, async || (envoy.outcomes(limit, outcome).ok()? == expected).then_some(()))
        .await
}

#[test]
fn every_outcome_is_counted_by_limit() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limits = json!([
            { "name": "per-client", "rate": "4/1h" },
            { "name": "unused", "when": { "path": "/never" }, "rate": "4/1h" },
        ]);
        let origin = Origin::start().await?;
        let plan = envoy(policy(limits)).workers(workers).origin(origin.address());
        let envoy = plan.start().await?;
        for expected in [200, 200, 200, 200, 429, 429, 429] {
            // One connection each, so that they come to all workers.
            assert_eq!(envoy.send(get("/")).await?.status, expected);
        }
        becomes(&envoy, "per-client", "allowed", 4).await?;
        becomes(&envoy, "per-client", "limited", 3).await?;
        assert_eq!(envoy.outcomes("unused", "allowed")?, 0);
        let page = envoy.admin("/stats/prometheus")?;
        for (limit, outcome, count) in [("per-client", "allowed", 4), ("per-client", "limited", 3)]
        {
            let line = page.lines().find(|line| {
                line.starts_with("wasm_filter_tidegate_limit{")
                    && line.contains(&format!("limit=\"{limit}\""))
                    && line.contains(&format!("outcome=\"{outcome}\""))
            });
            let line = line.unwrap_or_default();
            assert!(line.ends_with(&format!(" {count}")), "{outcome}: {line:?}");
        }
        Ok(())
    })
}

/// However many clients there are, there are as many counters as limits ask for.
#[test]
fn clients_make_no_counters() -> Result<()> {
    stage(async {
        let key = json!([{ "header": "x-client" }]);
        let limit = json!([{ "name": "per-client", "key": key, "rate": "4/1h" }]);
        let envoy = envoy(policy(limit)).start().await?;
        let before = envoy.filters_stats()?;
        for client in 0..50 {
            envoy.send(get("/").header("x-client", format!("c{client}"))).await?;
        }
        assert_eq!(envoy.filters_stats()?, before);
        assert!(before.len() <= 8, "{before:?}");
        Ok(())
    })
}

#[test]
fn a_store_that_is_away_shows() -> Result<()> {
    stage(async {
        let limit =
            json!([{ "name": "global", "rate": "9/1h", "scope": "global", "on_error": "open" }]);
        let mut host = Host::on_memory().await?;
        let origin = Origin::start().await?;
        let plan = envoy(policy(limit)).host(host.address()).origin(origin.address());
        let envoy = plan.start().await?;
        assert_eq!(statuses(&envoy.burst(1, 2, &get("/")).await?), [200, 200]);
        becomes(&envoy, "global", "allowed", 2).await?;
        let away = "wasmcustom.wasm_filter.tidegate.workers_store_away";
        assert_eq!(envoy.stat(away)?, 0);
        host.kill()?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        wait::until("the store to show as away", async || {
            (envoy.stat(away).ok()? == 1).then_some(())
        })
        .await?;
        becomes(&envoy, "global", "degraded", 1).await?;
        // The names that alerts are written with.
        let page = envoy.admin("/stats/prometheus")?;
        for line in
            ["wasm_filter_tidegate_workers_store_away{} 1", "envoy_wasm_tidegate_vm_reload{} 0"]
        {
            assert!(page.lines().any(|told| told == line), "no {line}");
        }
        host.revive().await?;
        wait::until("the store to show as back", async || {
            (envoy.stat(away).ok()? == 0).then_some(())
        })
        .await
    })
}

/// Whoever looks for a request finds it everywhere under one name.
#[test]
fn a_requests_id_goes_with_its_question() -> Result<()> {
    stage(async {
        let limit =
            json!([{ "name": "global", "rate": "9/1h", "scope": "global", "on_error": "open" }]);
        // An origin in the host's place records what it is asked.
        let (host, origin) = (Origin::start().await?, Origin::start().await?);
        let plan = envoy(policy(limit)).host(host.address()).origin(origin.address());
        let envoy = plan.start().await?;
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let call = get("/").header("traceparent", parent).header("authorization", "Bearer secret");
        assert_eq!(envoy.send(call).await?.status, 200);
        let (asked, sent) = (host.seen(), origin.seen());
        assert_eq!((asked[0].path.as_str(), sent.len()), ("/v1/ask", 1));
        let (asked, sent) = (&asked[0].headers, &sent[0].headers);
        assert_eq!(asked.get("x-request-id"), sent.get("x-request-id"));
        assert_eq!(asked.get("traceparent").map(|it| it.as_bytes()), Some(parent.as_bytes()));
        assert!(asked.get("authorization").is_none(), "secrets stay where they are");
        Ok(())
    })
}
