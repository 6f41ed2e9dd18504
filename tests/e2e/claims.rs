//! What a token claims, as a real Envoy hands it over: out of the metadata of its JWT filter, a
//! header that this filter forwards, and tokens that nobody has verified.

use crate::{policy_with, statuses};
use harness::client::{Call, Client, get};
use harness::envoy::{Envoy, envoy};
use harness::origin::Origin;
use harness::tokens::{claims, sign, verify};
use harness::{Result, stage};
use serde_json::{Value, json};

/// A proxy that verifies tokens, with limits that a request takes one unit of: those without the
/// part of the key are not counted.
async fn start(
    from: Value,
    keys: Value,
    edit: impl Fn(&mut Value) + 'static,
) -> Result<(Envoy, Origin)> {
    let limits: Vec<Value> = keys
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, key)| {
            json!({ "name": format!("l{at}"), "key": [key], "rate": "1/1h", "missing": "skip" })
        })
        .collect();
    let policy = policy_with(json!(limits), json!({ "token": { "from": from } }));
    let origin = Origin::start().await?;
    let plan = envoy(policy).origin(origin.address()).http(move |http| {
        verify(http, false);
        edit(http);
    });
    Ok((plan.start().await?, origin))
}

/// What the JWT filter is told of its provider.
fn provider(http: &mut Value) -> &mut Value {
    &mut http["http_filters"][0]["typed_config"]["providers"]["tests"]
}

fn bearer(token: &str) -> Call {
    get("/").header("authorization", format!("Bearer {token}"))
}

async fn ask(envoy: &Envoy, calls: Vec<Call>) -> Result<Vec<u16>> {
    let mut answers = Vec::new();
    for call in calls {
        answers.push(envoy.send(call).await?);
    }
    Ok(statuses(&answers))
}

#[test]
fn a_verified_claim_is_a_key_by_its_text_whatever_its_type() -> Result<()> {
    stage(async {
        let from = json!([{ "jwt_authn": {} }]);
        let (envoy, _origin) = start(from, json!([{ "claim": "tier" }]), |_| {}).await?;
        let with = |tier: Value| {
            // Beside claims that come one by one in no readable form.
            let more = json!({ "tier": tier, "x": { "y": [null, { "z": [1, []] }] }, "n": null });
            bearer(&sign(&claims("t", &more)))
        };
        let pairs = [
            // As long as a double.
            (json!("12345678"), [200, 429]),
            (json!(12_345_678), [429, 429]),
            (json!("gold"), [200, 429]),
            (json!("g\u{f6}ld \u{1f511} \"x\"\\"), [200, 429]),
            (json!(-7.0), [200, 429]),
            (json!("-7"), [429, 429]),
            (json!(true), [200, 429]),
            (json!("true"), [429, 429]),
            (json!(9_007_199_254_740_992_u64), [200, 429]),
            // Nothing that could be told apart.
            (json!(18_014_398_509_481_985_u64), [200, 200]),
            (json!(1.5), [200, 200]),
            (json!(["gold"]), [200, 200]),
            (json!({ "a": "gold" }), [200, 200]),
            (json!(null), [200, 200]),
            (json!("x".repeat(1_025)), [200, 200]),
        ];
        for (tier, wanted) in pairs {
            let found = ask(&envoy, vec![with(tier.clone()), with(tier.clone())]).await?;
            assert_eq!(found, wanted, "{tier}");
        }
        assert_eq!(ask(&envoy, vec![get("/"), get("/")]).await?, [200, 200], "no token");
        Ok(())
    })
}

#[test]
fn a_forwarded_payload_counts_and_one_that_a_client_sends_does_not() -> Result<()> {
    stage(async {
        for is_padded in [false, true] {
            let from = json!([{ "payload_header": "X-Jwt-Payload" }]);
            let edit = move |http: &mut Value| {
                provider(http)["forward_payload_header"] = json!("x-jwt-payload");
                provider(http)["pad_forward_payload_header"] = json!(is_padded);
            };
            let (envoy, _origin) = start(from, json!([{ "claim": "sub" }]), edit).await?;
            // Of every length modulo three, so with every padding.
            for sub in ["bob", "bobb", "bobby"] {
                let call = || bearer(&sign(&claims("t", &json!({ "sub": sub }))));
                assert_eq!(ask(&envoy, vec![call(), call()]).await?, [200, 429], "{sub}");
            }
            // eyJzdWIiOiJib2IifQ is bob's, whose budget is spent.
            let forged = || get("/").header("x-jwt-payload", "eyJzdWIiOiJib2IifQ");
            assert_eq!(ask(&envoy, vec![forged(), forged()]).await?, [200, 200], "stripped");
            let eve = bearer(&sign(&claims("t", &json!({ "sub": "eve" }))))
                .header("x-jwt-payload", "eyJzdWIiOiJib2IifQ");
            assert_eq!(ask(&envoy, vec![eve]).await?, [200], "a budget of her own");
        }
        Ok(())
    })
}

#[test]
fn a_limit_takes_claims_of_tokens_that_nobody_verified_only_if_it_says_so() -> Result<()> {
    stage(async {
        let from = json!([
            { "jwt_authn": {} },
            { "bearer": { "header": "x-token", "unverified": true } },
        ]);
        let keys = json!([{ "claim": "sub" }]);
        let (envoy, _origin) = start(from.clone(), keys, |_| {}).await?;
        let token = sign(&claims("t", &json!({})));
        let unverified = || get("/").header("x-token", &token);
        assert_eq!(ask(&envoy, vec![unverified(), unverified()]).await?, [200, 200]);
        let verified = || bearer(&token);
        assert_eq!(ask(&envoy, vec![verified(), verified()]).await?, [200, 429]);
        let keys = json!([{ "unverified_claim": "sub" }]);
        let (envoy, _origin) = start(from, keys, |_| {}).await?;
        assert_eq!(ask(&envoy, vec![unverified(), verified()]).await?, [200, 429]);
        Ok(())
    })
}

/// Of several tokens nobody knows which others believe, so none counts; a header that is read by
/// its first value would let the first one hide the second.
#[test]
fn of_several_tokens_in_one_request_none_counts() -> Result<()> {
    stage(async {
        let from = json!([
            { "bearer": { "header": "authorization", "unverified": true } },
            { "bearer": { "cookie": "access", "unverified": true } },
        ]);
        let keys = json!([{ "unverified_claim": "sub" }]);
        let edit = |http: &mut Value| {
            http["http_filters"].as_array_mut().map(|filters| filters.remove(0));
        };
        let (envoy, _origin) = start(from, keys, edit).await?;
        let token = |sub: &str| sign(&claims("t", &json!({ "sub": sub })));
        let (alice, bob) = (token("alice"), token("bob"));
        let cookie = |token: &str| format!("a=b; access={token}");
        let spent = vec![bearer(&alice), bearer(&alice), get("/").header("cookie", cookie(&alice))];
        assert_eq!(ask(&envoy, spent).await?, [200, 429, 429]);
        // HTTP/2 sends cookies one by one (RFC 9113 8.2.3), and Envoy joins them; in HTTP/1 a
        // second line of them is for nobody to read.
        let lines = || get("/").header("cookie", "a=b").header("cookie", cookie(&alice));
        let mut http2 = Client::http2(envoy.address()).await?;
        assert_eq!(http2.send(lines()).await?.status, 429);
        assert_eq!(ask(&envoy, vec![lines()]).await?, [200]);
        let both = vec![
            bearer(&alice).header("authorization", format!("Bearer {bob}")),
            bearer(&alice).header("authorization", format!("Bearer {alice}")),
            bearer(&alice).header("cookie", cookie(&bob)),
            get("/").header("cookie", format!("{}; access={bob}", cookie(&alice))),
            get("/").header("cookie", cookie(&alice)).header("cookie", cookie(&bob)),
        ];
        assert_eq!(ask(&envoy, both).await?, [200; 5]);
        assert_eq!(ask(&envoy, vec![bearer(&bob), bearer(&bob)]).await?, [200, 429]);
        Ok(())
    })
}
