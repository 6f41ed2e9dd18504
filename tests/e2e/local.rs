//! Local limits hold for the whole process, however many workers it has.

use crate::oracle::{
    assert_never_above, assert_refused_only_when_full, possible, sliding_window, token_bucket,
};
use crate::{admitted, count, policy, statuses};
use harness::client::get;
use harness::envoy::{Envoy, Policy, envoy};
use harness::origin::Origin;
use harness::{Result, stage_for_workers, wait};
use serde_json::json;
use std::time::Duration;

/// Enough connections that each of four workers is sure to get some.
const CONNECTIONS: usize = 32;

async fn start(policy: Policy, workers: u32) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let envoy = envoy(policy).workers(workers).origin(origin.address()).start().await?;
    Ok((envoy, origin))
}

#[test]
fn a_burst_is_admitted_once_whatever_the_number_of_workers() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "burst", "rate": "1/1h", "burst": 100 }]);
        let (envoy, origin) = start(policy(limit), workers).await?;
        // Workers may hold a few tokens that others would have used; those come back.
        let mut sum = 0;
        wait::until("the whole burst to be admitted", async || {
            let answers = envoy.burst(CONNECTIONS, 10, &get("/")).await.ok()?;
            sum += admitted(&answers);
            (sum >= 100).then_some(())
        })
        .await?;
        sum += admitted(&envoy.burst(CONNECTIONS, 10, &get("/")).await?);
        assert_eq!((sum, origin.seen().len()), (100, 100));
        assert_eq!(envoy.workers_used()?, workers as usize);
        Ok(())
    })
}

#[test]
fn a_token_bucket_is_never_above_its_bound_in_any_window() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "bucket", "rate": "100/1s", "burst": 20 }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        let answers = envoy.flood(CONNECTIONS, Duration::from_secs(3), &get("/")).await?;
        assert_never_above(&answers, token_bucket(20, 100.0));
        // And it is not stingy either: at least nine tenths of what it may.
        let (admitted, most) = (admitted(&answers), possible(&answers, 20, 100.0));
        assert!(admitted as f64 >= 0.9 * most, "{admitted} of {most:.0} were admitted");
        assert_eq!(admitted + count(&answers, 429), answers.len());
        Ok(())
    })
}

#[test]
fn a_sliding_window_is_exact_in_any_window() -> Result<()> {
    stage_for_workers(|workers| async move {
        let algorithm = "sliding_window";
        let limit = json!([{ "name": "window", "rate": "50/1s", "algorithm": algorithm }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        let answers = envoy.flood(CONNECTIONS, Duration::from_millis(3_500), &get("/")).await?;
        assert_never_above(&answers, sliding_window(50, Duration::from_secs(1)));
        // A sub-counter may hold a request up to a tenth of a period longer than needed, and a
        // worker a few that others would have used.
        assert_refused_only_when_full(&answers, 45, Duration::from_millis(1_100));
        Ok(())
    })
}

#[test]
fn an_interpolated_counter_stays_below_twice_its_count() -> Result<()> {
    stage_for_workers(|workers| async move {
        let algorithm = "sliding_counter";
        let limit = json!([{ "name": "counter", "rate": "50/1s", "algorithm": algorithm }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        let answers = envoy.flood(CONNECTIONS, Duration::from_secs(3), &get("/")).await?;
        assert_never_above(&answers, sliding_window(100, Duration::from_secs(1)));
        // What counts is of this period and the one before.
        assert_refused_only_when_full(&answers, 45, Duration::from_secs(2));
        Ok(())
    })
}

#[test]
fn every_key_has_a_budget_of_its_own() -> Result<()> {
    stage_for_workers(|workers| async move {
        let key = json!([{ "header": "x-tenant" }]);
        let limit = json!([{ "name": "tenant", "key": key, "rate": "1/1h", "burst": 2 }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        for tenant in ["acme", "umbrella", "acme ", "acme2"] {
            // Field values are trimmed on their way, so the third is the first again.
            let fresh = tenant != "acme ";
            let answers = envoy.burst(1, 3, &get("/").header("x-tenant", tenant)).await?;
            let expected = if fresh { [200, 200, 429] } else { [429; 3] };
            assert_eq!(statuses(&answers), expected, "{tenant:?}");
        }
        Ok(())
    })
}

#[test]
fn ten_thousand_keys_are_each_counted() -> Result<()> {
    stage_for_workers(|workers| async move {
        if workers == 1 {
            return Ok(()); // four find the same and more
        }
        let key = json!([{ "header": "x-tenant" }]);
        let limit = json!([{ "name": "tenant", "key": key, "rate": "1/1h", "burst": 1 }]);
        // So many slots that no set is expected to overflow.
        let policy = crate::policy_with(limit, json!({ "table_keys_max": 131_072 }));
        let (envoy, _origin) = start(policy, workers).await?;
        for expected in [200, 429] {
            let mut clients = Vec::new();
            for _ in 0..16 {
                clients.push(harness::client::Client::http1(envoy.address()).await?);
            }
            let mut running = tokio::task::JoinSet::new();
            for (part, mut client) in clients.into_iter().enumerate() {
                running.spawn(async move {
                    for tenant in (part..10_000).step_by(16) {
                        let call = get("/").header("x-tenant", format!("tenant-{tenant}"));
                        let status = client.send(call).await?.status.as_u16();
                        assert_eq!(status, expected, "tenant-{tenant}");
                    }
                    Result::Ok(())
                });
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
        }
        Ok(())
    })
}
