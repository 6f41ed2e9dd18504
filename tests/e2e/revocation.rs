//! What is revoked is refused by every worker of every proxy, verified tokens and others, and what
//! is not is let through, whatever becomes of the host.

use crate::policy_with;
use anyhow::ensure;
use harness::client::{Answer, Call, Client, call, get, post};
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::patient;
use harness::origin::Origin;
use harness::propagation::Lab;
use harness::redis::Redis;
use harness::revoker::Revoker;
use harness::tokens::{ISSUER, KEY_ID, Provider, claims, now_secs, sign, sign_with, verify};
use harness::way::Way;
use harness::{Result, stage, stage_for_workers, wait};
use hyper::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync;

/// A proxy that verifies tokens, and asks this host what of them is revoked.
struct Stage {
    revoker: Revoker,
    envoy: Envoy,
    /// A connection to each worker.
    probes: sync::Mutex<Vec<Client>>,
    _origin: Origin,
}

/// Verified claims, and the key of the token's header.
fn verified() -> Value {
    json!({ "from": [{ "jwt_authn": { "payload": "payload", "header": "header" } }] })
}

fn rules(token: Value, revocation: Value) -> Policy {
    policy_with(json!([]), json!({ "token": token, "revocation": revocation }))
}

impl Stage {
    async fn start(policy: Policy, workers: u32) -> Result<Self> {
        Self::with(policy, workers, Revoker::alone().await?, false).await
    }

    async fn with(policy: Policy, workers: u32, revoker: Revoker, forward: bool) -> Result<Self> {
        let host = revoker.host.address();
        Self::at(host, policy, workers, revoker, forward).await
    }

    /// Of which the proxy finds the host somewhere else.
    async fn at(
        host: SocketAddr,
        policy: Policy,
        workers: u32,
        revoker: Revoker,
        forward: bool,
    ) -> Result<Self> {
        let origin = Origin::start().await?;
        let plan = envoy(policy).workers(workers).origin(origin.address());
        let plan = plan.host(host).in_envoy().updatable().edit(balance);
        let envoy = plan.http(move |http| verify(http, forward)).start().await?;
        let probes = sync::Mutex::new(probes(&envoy, workers).await?);
        let stage = Self { revoker, envoy, probes, _origin: origin };
        stage.is_ready(workers).await?;
        Ok(stage)
    }

    /// Until all workers decide by what they know.
    async fn is_ready(&self, workers: u32) -> Result<()> {
        wait::until("the workers to know what is revoked", async || {
            (self.gauge("workers_sure")? >= u64::from(workers)).then_some(())
        })
        .await
    }

    fn gauge(&self, name: &str) -> Option<u64> {
        self.envoy.stat(&format!("wasmcustom.wasm_filter.tidegate.revocation.{name}")).ok()
    }

    async fn status(&self, call: Call) -> Result<u16> {
        Ok(self.envoy.send(call).await?.status.as_u16())
    }

    /// Revokes as RFC 7009 has it.
    async fn form(&self, form: &str) -> Result<()> {
        let form = post("/v1/revoke", form.to_owned());
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let answer = Client::http1(self.revoker.api()).await?.send(form).await?;
        ensure!(answer.status == 200, "{}: {:?}", answer.status, answer.body);
        Ok(())
    }

    /// Until this gets that status from each worker.
    async fn comes_to(&self, call: &Call, status: u16) -> Result<()> {
        let mut probes = self.probes.lock().await;
        wait::until("it to be known", async || {
            for probe in &mut *probes {
                let answer = probe.send(call.clone()).await.ok()?;
                (answer.status == status).then_some(())?;
            }
            Some(())
        })
        .await
    }
}

/// Spreads connections evenly over the workers.
fn balance(config: &mut Value) {
    let listener = &mut config["static_resources"]["listeners"][0];
    listener["connection_balance_config"] = json!({ "exact_balance": {} });
}

/// A connection to each worker.
async fn probes(envoy: &Envoy, workers: u32) -> Result<Vec<Client>> {
    let mut probes = Vec::new();
    for _ in 0..workers {
        let mut probe = Client::http1(envoy.address()).await?;
        // It is given to a worker when it is accepted, which may be after it is connected.
        probe.send(get("/")).await?;
        probes.push(probe);
    }
    Ok(probes)
}

fn shows(token: &str) -> Call {
    get("/").header("authorization", format!("Bearer {token}"))
}

fn token(jti: &str) -> String {
    sign(&claims(jti, &json!({})))
}

#[test]
fn a_revoked_token_gets_401_from_all_workers_and_others_pass() -> Result<()> {
    stage_for_workers(|workers| async move {
        let stage = Stage::start(rules(verified(), json!({})), workers).await?;
        let (bad, good) = (claims("bad", &json!({})), token("good"));
        let bad_token = sign(&bad);
        assert_eq!(stage.status(shows(&bad_token)).await?, 200);
        stage.revoker.revoke(&json!({ "iss": ISSUER, "jti": "bad", "exp": bad["exp"] })).await?;
        stage.comes_to(&shows(&bad_token), 401).await?;
        let Answer { headers, body, .. } = stage.envoy.send(shows(&bad_token)).await?;
        let challenge =
            "Bearer error=\"invalid_token\", error_description=\"The token was revoked\"";
        assert_eq!(headers["www-authenticate"], challenge);
        assert_eq!(body, r#"{"title":"The token was revoked","status":401}"#);
        assert!(stage.envoy.burst(8, 2, &shows(&good)).await?.iter().all(|it| it.status == 200));
        assert_eq!(stage.status(get("/")).await?, 200, "who shows nothing");
        stage.revoker.lift(&json!({ "iss": ISSUER, "jti": "bad", "exp": bad["exp"] })).await?;
        stage.comes_to(&shows(&bad_token), 200).await
    })
}

#[test]
fn every_kind_is_refused_by_what_its_tokens_claim() -> Result<()> {
    stage(async {
        let names =
            json!({ "claims": { "client": "client_id", "tenant": "tid", "session": "sid" } });
        let stage = Stage::start(rules(verified(), names), 2).await?;
        let more = json!({ "sub": "bob", "client_id": "app", "tid": "acme", "sid": "s-1" });
        let now = now_secs();
        let cases = [
            ("sub", json!({ "sub": "bob" })),
            ("client", json!({ "client": "app" })),
            ("tenant", json!({ "tenant": "acme" })),
            ("sid", json!({ "sid": "s-1" })),
            ("kid", json!({ "kid": KEY_ID })),
            ("iss", json!({})),
        ];
        for (name, what) in cases {
            let mut what = what;
            what["iss"] = json!(ISSUER);
            let mine = sign(&claims(name, &more));
            assert_eq!(stage.status(shows(&mine)).await?, 200, "{name}");
            stage.revoker.revoke(&what).await?;
            stage.comes_to(&shows(&mine), 401).await?;
            if matches!(name, "sub" | "client" | "tenant") {
                let mut later = claims(name, &more);
                later["iat"] = json!(now + 5);
                assert_eq!(stage.status(shows(&sign(&later))).await?, 200, "{name}: issued later");
            }
            if !matches!(name, "kid" | "iss") {
                assert_eq!(stage.status(shows(&token("other"))).await?, 200, "{name}: another's");
            }
            stage.revoker.lift(&what).await?;
            stage.comes_to(&shows(&mine), 200).await?;
        }
        Ok(())
    })
}

/// Nobody of ours is asked: the provider's signature is all that it shows.
#[test]
fn a_logout_at_the_provider_is_one_at_every_proxy() -> Result<()> {
    stage_for_workers(|workers| async move {
        let (provider, folder) = (Provider::new()?, tempfile::tempdir()?);
        let jwks_file = folder.path().join("jwks");
        std::fs::write(&jwks_file, provider.jwks().to_string())?;
        let receiver = json!({ "issuer": ISSUER, "audiences": ["shop"], "jwks_file": jwks_file });
        let receivers = json!({ "api": { "receivers": { "idp": receiver } } });
        let config = json!({ "provider": "memory", "revocations": receivers }).to_string();
        let revoker = Revoker::with_file(Vec::new(), &config).await?;
        let stage = Stage::with(rules(verified(), json!({})), workers, revoker, false).await?;
        let told = async |to: &str, kind: &str, body: String| {
            let call = post(&format!("/v1/receivers/idp/{to}"), body).header("content-type", kind);
            let answer = Client::http1(stage.revoker.api()).await?.send(call).await?;
            ensure!(answer.status.is_success(), "{}: {:?}", answer.status, answer.body);
            Ok(())
        };
        let of = |sid: &str| sign(&claims(sid, &json!({ "sub": "bob", "sid": sid })));
        let [one, other] = ["s-1", "s-2"].map(of);
        stage.comes_to(&shows(&one), 200).await?;
        let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
        let logout = provider.sign(&json!({ "sub": "bob", "sid": "s-1", "events": event }))?;
        let form = "application/x-www-form-urlencoded";
        told("logout", form, format!("logout_token={logout}")).await?;
        stage.comes_to(&shows(&one), 401).await?;
        assert_eq!(stage.status(shows(&other)).await?, 200, "another session");
        let event = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
        let bob = json!({ "format": "iss_sub", "iss": ISSUER, "sub": "bob" });
        let event = provider.sign(&json!({ "sub_id": bob, "events": { event: {} } }))?;
        told("events", "application/secevent+jwt", event).await?;
        stage.comes_to(&shows(&other), 401).await?;
        let later = json!({ "sub": "bob", "sid": "s-3", "iat": now_secs() + 5 });
        assert_eq!(stage.status(shows(&sign(&claims("s-3", &later)))).await?, 200, "a new login");
        assert_eq!(stage.status(shows(&token("alice's"))).await?, 200, "another's");
        Ok(())
    })
}

#[test]
fn a_token_without_an_id_is_known_by_what_was_signed() -> Result<()> {
    stage(async {
        let from = json!({ "from": [{ "jwt_authn": {
            "payload": "payload", "forwarded": "authorization",
        } }] });
        let revoker = Revoker::alone().await?;
        let stage = Stage::with(rules(from, json!({})), 1, revoker, true).await?;
        let [one, other] = ["1", "2"].map(|n| sign(&claims("", &json!({ "jti": null, "n": n }))));
        assert_eq!(stage.status(shows(&one)).await?, 200);
        stage.form(&format!("token={one}")).await?;
        stage.comes_to(&shows(&one), 401).await?;
        assert_eq!(stage.status(shows(&other)).await?, 200);
        Ok(())
    })
}

#[test]
fn opaque_tokens_and_session_cookies_are_known_by_a_key_that_may_be_replaced() -> Result<()> {
    stage(async {
        let keys = tempfile::tempdir()?;
        let paths = ["new", "old"].map(|name| keys.path().join(name));
        std::fs::write(&paths[0], "11".repeat(32))?;
        std::fs::write(&paths[1], "22".repeat(32))?;
        let files = paths.map(|path| path.to_string_lossy().into_owned()).join(",");
        let revoker = Revoker::with(vec![
            ("TIDEGATE_PROVIDER", "memory".to_owned()),
            ("TIDEGATE_REVOCATIONS_ID_KEY_FILES", files),
        ])
        .await?;
        let from = json!({ "from": [{ "opaque": { "header": "x-token" } }] });
        let policy = rules(from, json!({ "session_cookie": "sid" }));
        let stage = Stage::with(policy, 2, revoker, false).await?;
        let token = |secret: &str| get("/").header("x-token", secret);
        let cookie = |value: &str| get("/").header("cookie", format!("a=b; sid={value}"));
        for call in [token("t-1"), cookie("c-1")] {
            stage.comes_to(&call, 200).await?;
        }
        stage.form("token=t-1").await?;
        stage.revoker.revoke(&json!({ "cookie": "c-1" })).await?;
        stage.comes_to(&token("t-1"), 401).await?;
        stage.comes_to(&cookie("c-1"), 401).await?;
        assert_eq!(stage.status(token("t-2")).await?, 200);
        assert_eq!(stage.status(cookie("c-2")).await?, 200);
        // Another key takes the place of the old one, and the one in use becomes that: what was
        // revoked under it stays so, and new ones are known by the new one.
        std::fs::write(keys.path().join("old"), "11".repeat(32))?;
        std::fs::write(keys.path().join("new"), "33".repeat(32))?;
        wait::until("something to be known by the new key", async || {
            stage.form("token=t-3").await.ok()?;
            (stage.status(token("t-3")).await.ok()? == 401).then_some(())
        })
        .await?;
        stage.comes_to(&token("t-1"), 401).await?;
        stage.comes_to(&cookie("c-1"), 401).await?;
        assert_eq!(stage.status(token("t-2")).await?, 200);
        Ok(())
    })
}

/// What origins of many languages read as the revoked secret is refused, however it is spelled,
/// and so is what they may find it in beside a decoy.
#[test]
fn no_spelling_of_a_revoked_secret_passes() -> Result<()> {
    stage(async {
        let keys = tempfile::tempdir()?;
        let path = keys.path().join("key");
        std::fs::write(&path, "11".repeat(32))?;
        let revoker = Revoker::with(vec![
            ("TIDEGATE_PROVIDER", "memory".to_owned()),
            ("TIDEGATE_REVOCATIONS_ID_KEY_FILES", path.to_string_lossy().into_owned()),
        ])
        .await?;
        // Envoy's own filter for tokens looks at any in `authorization`.
        let from = json!({ "from": [{ "opaque": { "header": "x-token" } }] });
        let more = json!({
            "token": from,
            "revocation": { "session_cookie": "sid", "no_token": "refuse" },
            "cors_preflight": "bypass",
        });
        let stage = Stage::with(policy_with(json!([]), more), 1, revoker, false).await?;
        let cookie = |cookies: &str| get("/").header("cookie", cookies);
        let header = |value: &str| get("/").header("x-token", value);
        for call in [cookie("sid=bad"), header("Bearer bad")] {
            stage.comes_to(&call, 200).await?;
        }
        stage.form("token=bad").await?;
        stage.revoker.revoke(&json!({ "cookie": "bad" })).await?;
        for call in [cookie("sid=bad"), header("Bearer bad")] {
            stage.comes_to(&call, 401).await?;
        }
        for cookies in [
            "sid =bad",
            "sid\t= bad",
            "sid =bad; sid=decoy",
            "sid=decoy; sid =bad",
            r#"sid="\142%61d""#,
        ] {
            assert_eq!(stage.status(cookie(cookies)).await?, 401, "{cookies:?}");
        }
        for value in ["Bearer bad x", "Bearer bad,x", "bearer \t bad", "Basic x, Bearer bad"] {
            assert_eq!(stage.status(header(value)).await?, 401, "{value:?}");
        }
        let preflight = |call: Call| {
            let call = call.header("origin", "https://shop.example");
            call.header("access-control-request-method", "PUT")
        };
        let options = || preflight(call(Method::OPTIONS, "/"));
        assert_eq!(stage.status(options()).await?, 200, "a browser's");
        assert_eq!(stage.status(options().header("cookie", "sid=bad")).await?, 401);
        for call in [cookie("sid =good"), header("Bearer good")] {
            assert_eq!(stage.status(call).await?, 200);
        }
        Ok(())
    })
}

#[test]
fn tokens_that_nobody_verified_count_where_the_policy_says_so() -> Result<()> {
    stage(async {
        let from = json!({ "from": [{ "bearer": { "header": "x-token", "unverified": true } }] });
        let stage = Stage::start(rules(from, json!({ "no_token": "refuse" })), 1).await?;
        let by = |token: &str| get("/").header("x-token", token);
        let exp = now_secs() + 600;
        let mine =
            sign_with(&json!({ "alg": "none-of-ours" }), &claims("x", &json!({ "exp": exp })));
        assert_eq!(stage.status(by(&mine)).await?, 200);
        stage.revoker.revoke(&json!({ "iss": ISSUER, "jti": "x", "exp": exp })).await?;
        stage.comes_to(&by(&mine), 401).await?;
        assert_eq!(stage.status(get("/")).await?, 401, "no token");
        for broken in ["a.b", "a.b.c", "a.b.c.d", "%", &format!("{mine}=")] {
            let answer = stage.envoy.send(get("/").header("x-token", broken)).await;
            assert!(answer.is_err() || answer?.status == 401, "{broken:?}");
        }
        assert_eq!(stage.status(by(&mine).header("x-token", &mine)).await?, 401, "two of them");
        Ok(())
    })
}

#[test]
fn while_nothing_is_known_the_host_is_asked_and_without_it_the_policy_decides() -> Result<()> {
    stage(async {
        for (on_error, status) in [("closed", 503), ("open", 200)] {
            let rules = rules(verified(), json!({ "on_error": on_error, "stale_after": "500ms" }));
            let mut stage = Stage::start(rules, 2).await?;
            let bad = claims("bad", &json!({}));
            let what = json!({ "iss": ISSUER, "jti": "bad", "exp": bad["exp"] });
            stage.revoker.revoke(&what).await?;
            stage.comes_to(&shows(&sign(&bad)), 401).await?;
            stage.revoker.host.kill()?;
            wait::until("the news to be old", async || {
                (stage.gauge("workers_unsure")? > 0).then_some(())
            })
            .await?;
            stage.comes_to(&shows(&token("good")), status).await?;
            // What is known to be revoked stays so.
            stage.comes_to(&shows(&sign(&bad)), 401).await?;
            assert_eq!(stage.status(get("/")).await?, 200, "who shows nothing");
            stage.revoker.host.revive().await?;
            stage.is_ready(2).await?;
            stage.comes_to(&shows(&token("good")), 200).await?;
            stage.comes_to(&shows(&sign(&bad)), 401).await?;
        }
        Ok(())
    })
}

#[test]
fn what_one_host_acknowledged_all_workers_at_both_hosts_enforce_soon() -> Result<()> {
    stage(async {
        let redis = Redis::start().await?;
        let mut lab = Lab::start(patient(&redis)).await?;
        let lags = lab.revoke(20).await?.lags;
        assert_eq!(lags.len(), 20 * 8);
        // `cargo xtask bench propagation` measures; here it is only said that nothing waits for a
        // poll's end or a stale state.
        let most = lags.iter().max();
        assert!(most < Some(&Duration::from_secs(1)), "{most:?}");
        Ok(())
    })
}

#[test]
fn workers_share_one_copy_of_images_and_an_update_that_gives_each_its_own_forgets_nothing()
-> Result<()> {
    stage(async {
        const WORKERS: u32 = 4;
        let mut revoker = Revoker::alone().await?;
        let exp = now_secs() + 3_600;
        import(&mut revoker, 3_000, exp).await?;
        let shared = rules(verified(), json!({ "copies_mib": 0 }));
        let mut stage = Stage::with(shared, WORKERS, revoker, false).await?;
        let mut n = 0;
        wait::until("an image to be looked at", async || {
            n = (n + 1) % 3_000;
            (stage.status(shows_imported(n, exp)).await.ok()? == 401).then_some(())?;
            (stage.gauge("asked_positive")? > 0).then_some(())
        })
        .await?;
        assert_eq!(stage.gauge("image_bytes"), Some(0), "no worker has a copy");
        let are_all = async |stage: &Stage, call: Call, status: u16| {
            let answers = stage.envoy.burst(16, 4, &call).await?;
            ensure!(answers.iter().all(|it| it.status == status), "{answers:?}");
            Ok(())
        };
        are_all(&stage, shows_imported(2_999, exp), 401).await?;
        are_all(&stage, shows(&token("good")), 200).await?;
        let unsure = stage.gauge("asked_unsure");

        stage.envoy.update(rules(verified(), json!({}))).await?;
        are_all(&stage, shows_imported(1_999, exp), 401).await?;
        wait::until("each worker to have its own copy", async || {
            (stage.gauge("image_bytes")? > 0).then_some(())
        })
        .await?;
        stage.is_ready(WORKERS).await?;
        are_all(&stage, shows_imported(2_998, exp), 401).await?;
        are_all(&stage, shows(&token("good")), 200).await?;
        assert_eq!(stage.gauge("asked_unsure"), unsure, "nothing had to be learnt anew");
        Ok(())
    })
}

#[test]
fn images_that_arrive_damaged_are_fetched_again_and_nothing_passes_meanwhile() -> Result<()> {
    stage(async {
        const CHUNK: u8 = b'K';
        const NEWS: u8 = b'M';
        let mut revoker = Revoker::alone().await?;
        let exp = now_secs() + 3_600;
        import(&mut revoker, 1_000, exp).await?;
        // Each piece comes damaged in one way after the other, and then whole; news come twice.
        let (pieces, last) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let way = Way::to(revoker.host.address(), move |body| match body.get(1) {
            Some(&CHUNK) => match pieces.fetch_add(1, Ordering::Relaxed) % 6 {
                0 => body[40] ^= 1,
                1 => body.truncate(body.len() / 2),
                2 => body.clear(),
                3 => body[4] ^= 1,
                4 => body.extend([0; 7]),
                _ => {}
            },
            Some(&NEWS) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                let is_repeated = last.len() % 2 == 1;
                last.push(body.clone());
                if let Some(before) = last.len().checked_sub(2).filter(|_| is_repeated) {
                    body.clone_from(&last[before]);
                }
            }
            _ => {}
        })
        .await?;
        let rules = rules(verified(), json!({}));
        let stage = Stage::at(way.address(), rules, 2, revoker, false).await?;
        for n in (0..1_000).step_by(37) {
            assert_eq!(stage.status(shows_imported(n, exp)).await?, 401, "{n}");
        }
        assert_eq!(stage.status(shows(&token("good"))).await?, 200);
        let what = json!({ "iss": ISSUER, "jti": "late", "exp": exp });
        stage.revoker.revoke(&what).await?;
        stage.comes_to(&shows(&sign(&claims("late", &json!({ "exp": exp })))), 401).await
    })
}

/// Has the host take in so many tokens; started again, it makes images of them at once.
async fn import(revoker: &mut Revoker, count: u32, exp: u64) -> Result<()> {
    let line = |n| format!("{}\n", json!({ "iss": ISSUER, "jti": format!("r{n}"), "exp": exp }));
    let import = post("/v1/revocations/import", (0..count).map(line).collect::<String>());
    let answer = revoker.send(import.header("content-type", "application/x-ndjson")).await?;
    ensure!(answer.status == 200, "{}: {:?}", answer.status, answer.body);
    revoker.host.end().await?;
    revoker.host.revive().await
}

/// A request with one of these.
fn shows_imported(n: u32, exp: u64) -> Call {
    shows(&sign(&claims(&format!("r{n}"), &json!({ "exp": exp }))))
}

#[test]
fn limits_are_keyed_on_claims_and_what_is_revoked_is_not_charged() -> Result<()> {
    stage(async {
        let limits = json!([{ "name": "person", "key": [{ "claim": "sub" }], "rate": "2/1h" }]);
        let more = json!({ "token": verified(), "revocation": {} });
        let stage = Stage::start(policy_with(limits, more), 1).await?;
        let bad = claims("bad", &json!({ "sub": "mallory" }));
        let what = json!({ "iss": ISSUER, "jti": "bad", "exp": bad["exp"] });
        stage.revoker.revoke(&what).await?;
        stage.comes_to(&shows(&sign(&bad)), 401).await?;
        for status in [200, 200, 429] {
            assert_eq!(stage.status(shows(&token("good"))).await?, status);
        }
        let bob = sign(&claims("b", &json!({ "sub": "bob" })));
        assert_eq!(stage.status(shows(&bob)).await?, 200);
        assert_eq!(stage.status(shows(&sign(&bad))).await?, 401);
        Ok(())
    })
}
