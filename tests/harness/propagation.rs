//! How long it takes from an acknowledged revocation until each worker of each proxy enforces it:
//! two hosts that share a log, a proxy at each.

use crate::client::{Call, Client, get};
use crate::envoy::{Envoy, Policy, answer_directly, envoy};
use crate::host::Environment;
use crate::revoker::Revoker;
use crate::tokens::{ISSUER, claims, sign, verify};
use crate::{Result, wait};
use anyhow::ensure;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Workers of each proxy: its connections are spread evenly, one to each.
const WORKERS: u32 = 4;

/// How often each worker is asked whether it knows by now.
const PROBED_EVERY: Duration = Duration::from_millis(2);

/// Clients of each proxy that go on with tokens of their own, and how often each sends.
const OTHERS: usize = 4;
const OTHERS_EVERY: Duration = Duration::from_millis(5);

/// Everything that it takes.
pub struct Lab {
    revokers: [Revoker; 2],
    proxies: Vec<Envoy>,
    /// A connection to each worker.
    probes: Vec<Client>,
    load: JoinSet<Result<()>>,
    revoked: u32,
}

/// What became of some revocations.
#[derive(Default)]
pub struct Account {
    /// From each acknowledgement to each worker's refusal.
    pub lags: Vec<Duration>,
    /// The longest that one took to be acknowledged.
    pub acknowledged_after: Duration,
}

impl Account {
    /// This one and another together.
    pub fn add(&mut self, other: Self) {
        self.lags.extend(other.lags);
        self.acknowledged_after = self.acknowledged_after.max(other.acknowledged_after);
    }
}

impl Lab {
    /// Starts it with hosts that are told this of their Redis, and waits until all workers decide
    /// by what they know.
    ///
    /// # Errors
    ///
    /// If anything does not come up.
    pub async fn start(environment: Environment) -> Result<Self> {
        let revokers =
            [Revoker::with(environment.clone()).await?, Revoker::with(environment).await?];
        let (mut proxies, mut probes, mut load) = (Vec::new(), Vec::new(), JoinSet::new());
        for revoker in &revokers {
            let plan = envoy(policy()).workers(WORKERS).host(revoker.host.address()).in_envoy();
            let plan = plan.http(|http| verify(http, false)).http(answer_directly);
            let proxy = plan
                .edit(|config| {
                    let listener = &mut config["static_resources"]["listeners"][0];
                    listener["connection_balance_config"] = json!({ "exact_balance": {} });
                })
                .start()
                .await?;
            for _ in 0..WORKERS {
                let mut probe = Client::http1(proxy.address()).await?;
                // It is given to a worker when it is accepted, which may be after it is connected.
                probe.send(get("/")).await?;
                probes.push(probe);
            }
            proxies.push(proxy);
        }
        let lab = Self { revokers, proxies, probes, load: JoinSet::new(), revoked: 0 };
        lab.is_ready().await?;
        for proxy in &lab.proxies {
            for client in 0..OTHERS {
                load.spawn(go_on(proxy.address(), client));
            }
        }
        Ok(Self { load, ..lab })
    }

    /// Revokes one token after the other, through either host in turn; each again until it is
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// If one is not acknowledged within 20 s, or after that not refused by all within as long.
    pub async fn revoke(&mut self, count: u32) -> Result<Account> {
        let mut account = Account::default();
        for _ in 0..count {
            self.revoked += 1;
            let claims = claims(&format!("r{}", self.revoked), &json!({}));
            let call = shows(&sign(&claims));
            for probe in &mut self.probes {
                let status = probe.send(call.clone()).await?.status;
                ensure!(status == 200, "{status} for what is not revoked");
            }
            let what = json!({ "iss": ISSUER, "jti": claims["jti"], "exp": claims["exp"] });
            let revoker = &self.revokers[self.revoked as usize % 2];
            let begun = Instant::now();
            wait::until("it to be acknowledged", async || revoker.revoke(&what).await.ok()).await?;
            let acknowledged = Instant::now();
            account.acknowledged_after = account.acknowledged_after.max(begun.elapsed());
            let mut refused = JoinSet::new();
            for mut probe in self.probes.drain(..) {
                let call = call.clone();
                refused.spawn(async move {
                    let when = is_refused(&mut probe, &call).await?;
                    Result::Ok((probe, when))
                });
            }
            while let Some(done) = refused.join_next().await {
                let (probe, when) = done??;
                account.lags.push(when.saturating_duration_since(acknowledged));
                self.probes.push(probe);
            }
        }
        if let Some(ended) = self.load.try_join_next() {
            ended??;
        }
        Ok(account)
    }

    async fn is_ready(&self) -> Result<()> {
        let sure = "wasmcustom.wasm_filter.tidegate.revocation.workers_sure";
        for proxy in &self.proxies {
            wait::until("the workers to know what is revoked", async || {
                (proxy.stat(sure).ok()? >= u64::from(WORKERS)).then_some(())
            })
            .await?;
        }
        Ok(())
    }
}

fn policy() -> Policy {
    Policy::Struct(json!({
        "tidegate": 1, "domain": "propagation", "limits": [],
        "host": { "cluster": "tidegate_host" },
        "token": { "from": [{ "jwt_authn": { "payload": "payload", "header": "header" } }] },
        "revocation": {},
    }))
}

fn shows(token: &str) -> Call {
    get("/").header("authorization", format!("Bearer {token}"))
}

/// When it is refused at the latest: the refusal is here.
async fn is_refused(probe: &mut Client, call: &Call) -> Result<Instant> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = probe.send(call.clone()).await?;
        if answer.status == 401 {
            return Ok(answer.sent + answer.took);
        }
        ensure!(answer.status == 200, "{} instead of a refusal", answer.status);
        ensure!(Instant::now() < deadline, "not refused within 20 s");
        wait::pass(PROBED_EVERY).await;
    }
}

/// A client with a token that nobody revokes.
async fn go_on(address: std::net::SocketAddr, number: usize) -> Result<()> {
    let call = shows(&sign(&claims(&format!("other{number}"), &json!({}))));
    let mut client = Client::http1(address).await?;
    loop {
        let status = client.send(call.clone()).await?.status;
        ensure!(status == 200, "{status} for somebody else");
        wait::pass(OTHERS_EVERY).await;
    }
}
