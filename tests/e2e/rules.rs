//! What a policy says is what happens: which limits apply, to whom, at what cost.

use crate::{admitted, policy, policy_with};
use harness::client::{Call, Client, call, get};
use harness::envoy::{Envoy, Policy, envoy};
use harness::origin::Origin;
use harness::{Result, stage, stage_for_workers, wait};
use hyper::Method;
use serde_json::json;

async fn start(policy: Policy, workers: u32) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let envoy = envoy(policy).workers(workers).origin(origin.address()).start().await?;
    Ok((envoy, origin))
}

/// The statuses of these requests, one connection each.
async fn ask(envoy: &Envoy, calls: impl IntoIterator<Item = Call>) -> Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(envoy.send(call).await?.status.as_u16());
    }
    Ok(statuses)
}

#[test]
fn a_limit_applies_to_what_its_matchers_say_and_to_nothing_else() -> Result<()> {
    stage(async {
        let when = json!({
            "path": ["/api/*", "/login"],
            "method": ["GET", "POST"],
            "not": { "header": { "x-internal": true } },
        });
        let limit = json!([{ "name": "api", "when": when, "rate": "1/1h" }]);
        let (envoy, _origin) = start(policy(limit), 1).await?;
        let calls = [
            get("/"),
            get("/api"),
            get("/api/a?path=/b"),
            get("/api/b"),
            get("/x/../api/c"),
            get("//api//d"),
            call(Method::POST, "/login"),
            get("/login?x=1"),
            call(Method::DELETE, "/api/a"),
            get("/api/a").header("x-internal", "1"),
        ];
        let expected = [200, 200, 200, 429, 429, 429, 429, 429, 200, 200];
        assert_eq!(ask(&envoy, calls).await?, expected);
        Ok(())
    })
}

#[test]
fn a_denied_request_charges_no_other_limit() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limits = json!([
            { "name": "all", "rate": "1/1h", "burst": 10 },
            { "name": "writes", "when": { "method": "POST" }, "rate": "1/1h", "burst": 2 },
        ]);
        let (envoy, _origin) = start(policy(limits), workers).await?;
        let writes = vec![call(Method::POST, "/"); 8];
        assert_eq!(ask(&envoy, writes).await?, [200, 200, 429, 429, 429, 429, 429, 429]);
        // Two of ten are used; eight are left, whichever worker has them.
        let mut sum = 0;
        wait::until("what was left to be admitted", async || {
            sum += admitted(&envoy.burst(16, 2, &get("/")).await.ok()?);
            (sum >= 8).then_some(())
        })
        .await?;
        sum += admitted(&envoy.burst(16, 2, &get("/")).await?);
        assert_eq!(sum, 8);
        Ok(())
    })
}

#[test]
fn a_shadow_limit_counts_and_refuses_nobody() -> Result<()> {
    stage_for_workers(|workers| async move {
        let limit = json!([{ "name": "trial", "rate": "1/1h", "burst": 3, "shadow": true }]);
        let (envoy, _origin) = start(policy(limit), workers).await?;
        assert_eq!(ask(&envoy, vec![get("/"); 10]).await?, [200; 10]);
        wait::until("seven to be told as shadowed", async || {
            (envoy.outcomes("trial", "shadowed").ok()? == 7).then_some(())
        })
        .await?;
        assert_eq!(envoy.outcomes("trial", "limited")?, 0);
        Ok(())
    })
}

#[test]
fn overrides_give_particular_clients_another_quota() -> Result<()> {
    stage(async {
        let overrides = json!([
            { "key": "partner", "rate": "unlimited" },
            { "key": "trial", "rate": "1/1h" },
        ]);
        let key = json!([{ "header": "x-plan" }]);
        let limit = json!({ "name": "plan", "key": key, "rate": "3/1h", "overrides": overrides });
        let (envoy, _origin) = start(policy(json!([limit])), 1).await?;
        let of = |plan: &str| vec![get("/").header("x-plan", plan); 5];
        assert_eq!(ask(&envoy, of("partner")).await?, [200; 5]);
        assert_eq!(ask(&envoy, of("trial")).await?, [200, 429, 429, 429, 429]);
        assert_eq!(ask(&envoy, of("other")).await?, [200, 200, 200, 429, 429]);
        Ok(())
    })
}

#[test]
fn a_missing_key_part_shares_a_budget_or_skips_the_limit() -> Result<()> {
    stage(async {
        let limits = json!([
            { "name": "shared", "when": { "path": "/shared" }, "rate": "2/1h",
              "key": ["client_ip", { "header": "x-device" }] },
            { "name": "skipped", "when": { "path": "/skipped" }, "rate": "2/1h",
              "key": [{ "header": "x-device" }], "missing": "skip" },
        ]);
        let (envoy, _origin) = start(policy(limits), 1).await?;
        // Leaving the header out is no way around a limit.
        assert_eq!(ask(&envoy, vec![get("/shared"); 3]).await?, [200, 200, 429]);
        // An empty value is a value.
        let empty = get("/shared").header("x-device", "");
        assert_eq!(ask(&envoy, vec![empty; 3]).await?, [200, 200, 429]);
        assert_eq!(ask(&envoy, vec![get("/skipped"); 5]).await?, [200; 5]);
        let there = get("/skipped").header("x-device", "d");
        assert_eq!(ask(&envoy, vec![there; 3]).await?, [200, 200, 429]);
        Ok(())
    })
}

#[test]
fn cost_is_what_a_header_says_within_bounds() -> Result<()> {
    stage(async {
        let cost = json!({ "header": "x-cost", "default": 2, "max": 8 });
        let limit = json!([{ "name": "units", "rate": "10/1h", "cost": cost,
                            "key": [{ "header": "x-case" }] }]);
        let (envoy, _origin) = start(policy(limit), 1).await?;
        let of = |case: &str, cost: &str| get("/").header("x-case", case).header("x-cost", cost);
        let asked = [("5", "a"), ("5", "a"), ("1", "a"), ("0", "a")];
        let calls = asked.map(|(cost, case)| of(case, cost));
        assert_eq!(ask(&envoy, calls).await?, [200, 200, 429, 200]);
        // More than the most counts as the most; what is no number as the default.
        let asked = [("4000000000000", "b"), ("many", "b"), ("-1", "b")];
        let calls = asked.map(|(cost, case)| of(case, cost));
        assert_eq!(ask(&envoy, calls).await?, [200, 200, 429]);
        let without = vec![get("/").header("x-case", "c"); 6];
        assert_eq!(ask(&envoy, without).await?, [200, 200, 200, 200, 200, 429]);
        Ok(())
    })
}

#[test]
fn preflights_pass_uncounted_if_the_policy_says_so() -> Result<()> {
    stage(async {
        for (bypass, expected) in [("bypass", [200, 200, 200]), ("count", [200, 429, 429])] {
            let limit = json!([{ "name": "one", "rate": "1/1h" }]);
            let policy = policy_with(limit, json!({ "cors_preflight": bypass }));
            let (envoy, _origin) = start(policy, 1).await?;
            let preflight = call(Method::OPTIONS, "/").header("origin", "https://shop.example");
            let preflight = preflight.header("access-control-request-method", "PUT");
            assert_eq!(ask(&envoy, vec![preflight; 3]).await?, expected, "{bypass}");
            if bypass == "bypass" {
                // OPTIONS alone is no preflight.
                let plain = call(Method::OPTIONS, "/");
                assert_eq!(ask(&envoy, [plain.clone(), plain]).await?, [200, 429]);
            }
        }
        Ok(())
    })
}

#[test]
fn keys_are_made_of_any_part_of_a_request() -> Result<()> {
    stage(async {
        let keys = json!([{ "cookie": "session" }, { "query": "shop" }, "path", "method", "host"]);
        let limit = json!([{ "name": "parts", "key": keys, "rate": "1/1h" }]);
        let (envoy, _origin) = start(policy(limit), 1).await?;
        let base = || get("/a?shop=1").header("cookie", "other=x; session=s1");
        let same = get("/a?x=y&shop=%31").header("cookie", "session=s1");
        let answers = ask(&envoy, [base(), same]).await?;
        assert_eq!(answers, [200, 429], "the same client, spelled otherwise");
        let others = [
            get("/a?shop=2").header("cookie", "session=s1"),
            get("/a?shop=1").header("cookie", "session=s2"),
            get("/b?shop=1").header("cookie", "session=s1"),
            call(Method::PUT, "/a?shop=1").header("cookie", "session=s1"),
            get("/a?shop=1").header("cookie", "session=s1").header("host", "other.example"),
        ];
        assert_eq!(ask(&envoy, others).await?, [200; 5], "each another client");
        Ok(())
    })
}

/// What joins two parts of a key must not be something that a part can hold.
#[test]
fn no_two_keys_are_mistaken_for_one() -> Result<()> {
    stage(async {
        let key = json!([{ "header": "x-a" }, { "header": "x-b" }]);
        let limit = json!([{ "name": "pair", "key": key, "rate": "1/1h" }]);
        let (envoy, _origin) = start(policy(limit), 1).await?;
        let pairs =
            [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("a|b", "c"), ("a", "b|c")];
        let call = |(a, b): (&str, &str)| get("/").header("x-a", a).header("x-b", b);
        assert_eq!(ask(&envoy, pairs.map(call)).await?, [200; 6]);
        assert_eq!(ask(&envoy, pairs.map(call)).await?, [429; 6]);
        Ok(())
    })
}

#[test]
fn two_filters_in_one_proxy_each_enforce_their_own_policy() -> Result<()> {
    stage_for_workers(|workers| async move {
        let origin = Origin::start().await?;
        let outer = policy(json!([{ "name": "all", "rate": "1/1h", "burst": 4 }]));
        let plan = envoy(outer).workers(workers).origin(origin.address()).http(|http| {
            // The same module in the same machine; its name is what tells it apart.
            let filters = &mut http["http_filters"];
            let mut inner = filters[0].clone();
            inner["name"] = json!("inner");
            let config = &mut inner["typed_config"]["config"];
            config["name"] = json!("inner");
            config["configuration"]["value"] = json!({
                "tidegate": 1,
                "domain": "inner",
                "limits": [{ "name": "some", "when": { "path": "/some" }, "rate": "1/1h" }],
            });
            if let Some(filters) = filters.as_array_mut() {
                filters.insert(1, inner);
            }
        });
        let envoy = plan.start().await?;
        // One worker's connection: a worker may keep a token that another would have had.
        let mut client = Client::http1(envoy.address()).await?;
        let mut statuses = Vec::new();
        for path in ["/some", "/some", "/", "/", "/", "/some"] {
            statuses.push(client.send(get(path)).await?.status.as_u16());
        }
        assert_eq!(statuses, [200, 429, 200, 200, 429, 429]);
        assert_eq!(origin.seen().len(), 3);
        Ok(())
    })
}

/// HTTP/2 clients may cut their cookies into crumbs; that makes nobody another client.
#[test]
fn cookies_are_the_same_in_one_piece_and_in_crumbs() -> Result<()> {
    stage(async {
        let limits = json!([
            { "name": "session", "key": [{ "cookie": "session" }], "rate": "1/1h" },
            { "name": "roomy", "key": [{ "header": "x-other" }], "rate": "1000/1h" },
        ]);
        let (envoy, _origin) = start(policy(limits), 1).await?;
        let whole = get("/").header("cookie", "a=1; session=s1");
        assert_eq!(envoy.send(whole).await?.status, 200);
        let crumbs = get("/").header("cookie", "a=1").header("cookie", "session=s1");
        let mut client = Client::http2(envoy.address()).await?;
        assert_eq!(client.send(crumbs).await?.status, 429);
        Ok(())
    })
}
