//! Who a client is, is what the proxy trusts, and never what the client says.

use crate::{policy, policy_with};
use harness::client::get;
use harness::envoy::{Envoy, Policy, envoy};
use harness::origin::Origin;
use harness::{Result, stage, tokens};
use serde_json::json;

async fn start(policy: Policy, trusted_hops: u32) -> Result<(Envoy, Origin)> {
    let origin = Origin::start().await?;
    let plan = envoy(policy).origin(origin.address());
    Ok((plan.trusted_hops(trusted_hops).start().await?, origin))
}

fn per_client() -> Policy {
    policy(json!([{ "name": "client", "key": ["client_ip"], "rate": "1/1h", "burst": 2 }]))
}

async fn statuses_from(envoy: &Envoy, forwarded_for: &[&str]) -> Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for addresses in forwarded_for {
        let call = get("/").header("x-forwarded-for", addresses);
        statuses.push(envoy.send(call).await?.status.as_u16());
    }
    Ok(statuses)
}

#[test]
fn what_a_client_says_of_its_address_is_not_believed() -> Result<()> {
    stage(async {
        let (envoy, _origin) = start(per_client(), 0).await?;
        let forged = ["203.0.113.1", "203.0.113.2", "203.0.113.3, 203.0.113.4", "::1"];
        assert_eq!(statuses_from(&envoy, &forged).await?, [200, 200, 429, 429]);
        Ok(())
    })
}

#[test]
fn behind_a_trusted_proxy_its_word_counts_and_no_other() -> Result<()> {
    stage(async {
        let (envoy, _origin) = start(per_client(), 1).await?;
        // The last element is what the trusted proxy wrote; those before it the client.
        let same = ["198.51.100.7", "203.0.113.9, 198.51.100.7", "10.0.0.1, ::1, 198.51.100.7"];
        assert_eq!(statuses_from(&envoy, &same).await?, [200, 200, 429]);
        let other = ["198.51.100.8", "198.51.100.7, 198.51.100.8", "198.51.100.8"];
        assert_eq!(statuses_from(&envoy, &other).await?, [200, 200, 429]);
        Ok(())
    })
}

#[test]
fn an_ipv6_client_is_its_64_bit_network() -> Result<()> {
    stage(async {
        let (envoy, _origin) = start(per_client(), 1).await?;
        let network = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"];
        assert_eq!(statuses_from(&envoy, &network).await?, [200, 200, 429]);
        assert_eq!(statuses_from(&envoy, &["2001:db8:0:1::1"]).await?, [200]);
        Ok(())
    })
}

#[test]
fn prefixes_of_a_policys_own_choice_hold() -> Result<()> {
    stage(async {
        let key = json!([{ "client_ip": { "v4": 24, "v6": 48 } }]);
        let limit = json!([{ "name": "network", "key": key, "rate": "1/1h" }]);
        let (envoy, _origin) = start(policy(limit), 1).await?;
        let v4 = ["198.51.100.7", "198.51.100.200", "198.51.101.7"];
        assert_eq!(statuses_from(&envoy, &v4).await?, [200, 429, 200]);
        let v6 = ["2001:db8:5::1", "2001:db8:5:99::1", "2001:db8:6::1"];
        assert_eq!(statuses_from(&envoy, &v6).await?, [200, 429, 200]);
        Ok(())
    })
}

#[test]
fn allow_listed_networks_are_never_limited() -> Result<()> {
    stage(async {
        let limit = json!([{ "name": "client", "key": ["client_ip"], "rate": "1/1h" }]);
        let allow = json!({ "allow": ["198.51.100.0/24", "2001:db8:7::/48"] });
        let (envoy, _origin) = start(policy_with(limit, allow), 1).await?;
        assert_eq!(statuses_from(&envoy, &["198.51.100.7"; 4]).await?, [200; 4]);
        assert_eq!(statuses_from(&envoy, &["2001:db8:7:1::1"; 4]).await?, [200; 4]);
        let outside = ["198.51.101.7", "198.51.101.7", "198.51.100.7, 198.51.101.7"];
        assert_eq!(statuses_from(&envoy, &outside).await?, [200, 429, 429]);
        Ok(())
    })
}

#[test]
fn a_client_on_ipv6_itself_is_known_by_it() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let key = json!([{ "client_ip": { "v4": 32, "v6": 64 } }]);
        let when = json!({ "client_ip": "::1/128" });
        let limit = json!([{ "name": "v6", "when": when, "key": key, "rate": "1/1h" }]);
        let plan = envoy(policy(limit)).origin(origin.address()).edit(|config| {
            let listener = &mut config["static_resources"]["listeners"][0];
            listener["address"] =
                json!({ "socket_address": { "address": "::1", "port_value": 0 } });
        });
        let envoy = plan.start().await?;
        assert_eq!(envoy.send(get("/")).await?.status, 200);
        assert_eq!(envoy.send(get("/")).await?.status, 429);
        Ok(())
    })
}

#[test]
fn claims_are_keys_once_they_are_verified() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let limits = json!([
            { "name": "person", "key": [{ "jwt": "sub" }], "missing": "skip", "rate": "2/1h" },
            { "name": "nested", "key": [{ "jwt": ["realm", "tenant"] }], "missing": "skip",
              "when": { "path": "/nested" }, "rate": "1/1h" },
            // Claims that are null, lists and maps within maps: they must do no harm.
            { "name": "null", "key": [{ "jwt": "nothing" }, { "jwt": "realm" }, { "jwt": "groups" }],
              "rate": "1000/1h" },
        ]);
        let plan = envoy(policy(limits)).origin(origin.address());
        let plan = plan.http(|http| tokens::verify(http, false));
        let envoy = plan.start().await?;
        // Alice's has claims that no key can be made of, too.
        let alice = tokens::sign(&json!({
            "iss": tokens::ISSUER, "sub": "alice", "nothing": null, "groups": ["a", { "b": [2] }],
            "realm": { "tenant": "acme", "deep": { "list": [1, { "a": null }] } },
        }));
        let bob = tokens::sign(&json!({ "iss": tokens::ISSUER, "sub": "bob" }));
        let by =
            |path: &str, token: &str| get(path).header("authorization", format!("Bearer {token}"));
        let ask = async |calls: Vec<harness::client::Call>| -> Result<Vec<u16>> {
            let mut statuses = Vec::new();
            for call in calls {
                statuses.push(envoy.send(call).await?.status.as_u16());
            }
            Ok(statuses)
        };
        let alice = ["/nested", "/nested", "/", "/"].map(|path| by(path, &alice)).into();
        assert_eq!(ask(alice).await?, [200, 429, 200, 429]);
        assert_eq!(ask(vec![by("/", &bob); 3]).await?, [200, 200, 429]);
        // Without a token the rule is skipped; a forged one never comes this far.
        assert_eq!(ask(vec![get("/"); 4]).await?, [200; 4]);
        let forged = format!("{}.bad", &bob[..bob.len() - 4]);
        assert_eq!(ask(vec![by("/", &forged)]).await?, [401]);
        Ok(())
    })
}

#[test]
fn routes_are_keys_by_their_name() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let limit = json!([{ "name": "route", "key": ["route"], "rate": "1/1h" }]);
        let plan = envoy(policy(limit)).origin(origin.address()).http(|http| {
            let routes = &mut http["route_config"]["virtual_hosts"][0]["routes"];
            let mut cart = routes[0].clone();
            cart["name"] = json!("cart");
            cart["match"] = json!({ "prefix": "/cart" });
            let mut rest = routes[0].clone();
            rest["name"] = json!("rest");
            *routes = json!([cart, rest]);
        });
        let envoy = plan.start().await?;
        let mut statuses = Vec::new();
        for path in ["/cart/1", "/cart/2", "/other", "/other/2"] {
            statuses.push(envoy.send(get(path)).await?.status.as_u16());
        }
        assert_eq!(statuses, [200, 429, 200, 429]);
        Ok(())
    })
}
