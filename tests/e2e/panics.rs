//! A panic in the filter is a bug, and costs one request its verdict: never the machine that
//! decides all others, and never an answer.
//!
//! These run a build of the filter that panics where a request asks for it.

use crate::{count, policy, policy_with, statuses};
use harness::client::{Call, get};
use harness::envoy::envoy;
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, stage_for_workers};
use serde_json::json;

fn faulty(place: &str) -> Call {
    get("/").header("x-fault", place)
}

#[test]
fn a_panic_lets_its_request_pass_and_leaves_all_others_limited() -> Result<()> {
    stage_for_workers(|workers| async move {
        let origin = Origin::start().await?;
        let plan = envoy(policy(json!([{ "name": "a", "rate": "2/1h" }])));
        let envoy = plan.workers(workers).origin(origin.address()).faulty()?.start().await?;
        assert_eq!(statuses(&envoy.burst(1, 3, &faulty("headers")).await?), [200, 200, 200]);
        assert_eq!(statuses(&envoy.burst(1, 3, &get("/")).await?), [200, 200, 429]);
        assert_eq!(statuses(&envoy.burst(1, 2, &faulty("headers")).await?), [200, 200]);
        assert_eq!(envoy.send(get("/")).await?.status, 429);
        // A bug that anybody can cause must not fill the log.
        assert!(envoy.log().matches("a bug was caught at").count() < 5 * workers as usize);
        Ok(())
    })
}

#[test]
fn a_panic_under_a_closed_limit_is_a_clean_500() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (origin, host) = (Origin::start().await?, Host::on_memory().await?);
        let limits = json!([
            { "name": "a", "rate": "2/1h", "scope": "global", "on_error": "closed" }
        ]);
        let plan = envoy(policy(limits)).workers(workers).host(host.address());
        let envoy = plan.origin(origin.address()).faulty()?.start().await?;
        assert_eq!(envoy.send(faulty("headers")).await?.status, 500);
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        Ok(())
    })
}

#[test]
fn a_panic_where_revocations_are_closed_lets_nothing_pass_unchecked() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (origin, host) = (Origin::start().await?, Host::on_memory().await?);
        for (on_error, expected) in [("closed", 500), ("open", 200)] {
            let more = json!({
                "token": { "from": [{ "payload_header": "x-payload" }] },
                "revocation": { "on_error": on_error },
            });
            let plan = envoy(policy_with(json!([]), more)).workers(workers).host(host.address());
            let envoy = plan.origin(origin.address()).faulty()?.start().await?;
            assert_eq!(envoy.send(faulty("headers")).await?.status, expected);
            assert_eq!(envoy.send(get("/")).await?.status, 200);
        }
        Ok(())
    })
}

/// Left alone, a request whose callout's answer meets a panic hangs for ever.
#[test]
fn a_panic_at_the_stores_answer_hangs_nobody() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (origin, host) = (Origin::start().await?, Host::on_memory().await?);
        for (on_error, expected, exact) in [
            ("open", 200, true),
            ("closed", 500, true),
            ("open", 200, false),
            ("closed", 500, false),
        ] {
            // What was leased to an answer that met a panic is lost: enough for a dozen of them.
            let limits = json!([{
                "name": "a", "rate": "1000000/1h", "scope": "global", "on_error": on_error,
                "exact": exact,
            }]);
            let plan = envoy(policy(limits)).workers(workers).host(host.address());
            let envoy = plan.origin(origin.address()).faulty()?.start().await?;
            let answers = envoy.burst(4, 3, &faulty("reply")).await?;
            let met = answers.iter().filter(|answer| answer.status == expected).count();
            // With a lease one answer serves many requests, and some need none.
            let most = if exact { 12..=12 } else { 1..=12 };
            assert!(most.contains(&met), "{on_error}, exact: {exact}: {:?}", statuses(&answers));
            let all = met + count(&answers, 200) * usize::from(expected != 200);
            assert_eq!(all, 12, "{on_error}, exact: {exact}: {:?}", statuses(&answers));
            assert_eq!(envoy.send(get("/")).await?.status, 200);
        }
        Ok(())
    })
}
