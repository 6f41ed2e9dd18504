//! The play itself: who is there, what they send, and what must come of it.

use crate::account::{self, Row};
use anyhow::{Context, ensure};
use harness::client::{Answer, Call, Client, get, post};
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, wait};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Instant;

/// Threads of each proxy, so that what is counted is counted across threads.
const WORKERS: u32 = 2;

/// The two clients: both are this machine, under two of its addresses.
const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// `per-client` of `envoy.yaml`: 100 a minute, 20 at once.
const RATE_PER_S: f64 = 100.0 / 60.0;
const BURST: usize = 20;

/// `login` of `envoy.yaml`: 5 in any minute, through any proxy.
const LOGINS: usize = 5;

/// Everybody on stage.
pub(crate) struct Scene {
    a: Envoy,
    b: Envoy,
    host: Host,
    // Serves until it is dropped.
    _origin: Origin,
}

impl Scene {
    /// Starts the origin, the host service on its memory, and two proxies.
    pub(crate) async fn set() -> Result<Self> {
        let (origin, host) = (Origin::start().await?, Host::on_memory().await?);
        let Policy::Struct(mut policy) = Policy::shipped()? else {
            unreachable!("a Struct is the readable form")
        };
        // A busy machine must not be taken for a host that is away.
        policy["host"]["deadline"] = json!("1s");
        let proxy = || {
            let plan = envoy(Policy::Struct(policy.clone())).workers(WORKERS);
            plan.origin(origin.address()).host(host.address()).start()
        };
        let (a, b) = tokio::try_join!(proxy(), proxy())?;
        Ok(Self { a, b, host, _origin: origin })
    }

    /// Sends everything, and tells of it as it happens.
    pub(crate) async fn play(&mut self) -> Result<()> {
        account::open();
        let refusal = self.one_client_too_fast().await?;
        self.the_same_client_by_grpc().await?;
        self.another_client().await?;
        self.logins_through_both().await?;
        self.the_host_dies_and_comes_back().await?;
        account::refusal(&refusal);
        account::counters(&[("A", &self.a), ("B", &self.b)])?;
        Ok(())
    }

    /// Says where everything is.
    pub(crate) fn signpost(&self) {
        account::signpost(&self.a, &self.b, &self.host);
    }

    /// A token bucket for each client: what it holds passes at once, then only what flows in.
    async fn one_client_too_fast(&self) -> Result<Answer> {
        let begun = Instant::now();
        let answers = from(CLIENT, &self.a, 30, &get("/api/items")).await?;
        let flown_in = (begun.elapsed().as_secs_f64() * RATE_PER_S) as usize;
        let row = self.row("/api/items", "GET  /api/items, through A", &answers).await?;
        ensure!(
            (BURST..=BURST + flown_in).contains(&row.admitted),
            "{} admitted; wanted {BURST} and at most {flown_in} more",
            row.admitted
        );
        answers.into_iter().find(|answer| answer.status == 429).context("a refusal")
    }

    /// The same bucket, and a refusal that gRPC clients understand.
    async fn the_same_client_by_grpc(&self) -> Result<()> {
        let call = post("/api/shop.Items/List", vec![0; 5]);
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let mut client = Client::http2(self.a.address()).await?;
        let mut answers = vec![client.send(call.clone()).await?];
        // On a machine that is slow enough, a token flows in before.
        if answers[0].grpc_status() == Some("0") {
            answers.push(client.send(call).await?);
        }
        let row = self
            .row("/api/shop.Items/List", "gRPC /api/shop.Items/List, the same client", &answers)
            .await?;
        ensure!(row.refused == 1 && row.status == "grpc-status 8", "{row:?}");
        Ok(())
    }

    async fn another_client(&self) -> Result<()> {
        let answers = from(OTHER_CLIENT, &self.a, 5, &get("/api/items")).await?;
        let row = self.row("/api/items", "GET  /api/items, another client", &answers).await?;
        ensure!((row.admitted, row.refused) == (5, 0), "{row:?}");
        Ok(())
    }

    /// A window for each device that holds whichever proxy it comes through.
    async fn logins_through_both(&self) -> Result<()> {
        let mut answers = Vec::new();
        for turn in 0..7 {
            let proxy = if turn % 2 == 0 { &self.a } else { &self.b };
            answers.push(proxy.send(login()).await?);
        }
        let row = self.row("/login", "POST /login, through A and B in turn", &answers).await?;
        ensure!((row.admitted, row.refused) == (LOGINS, 7 - LOGINS), "{row:?}");
        Ok(())
    }

    /// Each limit's `on_error` says what happens; limits without a host do not notice.
    async fn the_host_dies_and_comes_back(&mut self) -> Result<()> {
        self.host.kill()?;
        account::note("the host service is killed");
        let answers = from(CLIENT, &self.a, 3, &login()).await?;
        let row = self.row("/login", "POST /login, through A", &answers).await?;
        ensure!(row.refused == 3 && row.status == "503", "{row:?}");
        let answers = from(OTHER_CLIENT, &self.a, 5, &get("/api/items")).await?;
        let row = self.row("/api/items", "GET  /api/items, the other client", &answers).await?;
        ensure!((row.admitted, row.refused) == (5, 0), "{row:?}");
        told(&self.a, "limit.login.degraded", 3).await?;
        self.host.revive().await?;
        told(&self.a, "workers_store_away", 0).await?;
        account::note("it is back, and begins anew: its memory is its own (Redis would remember)");
        let answers = from(CLIENT, &self.a, 1, &login()).await?;
        let row = self.row("/login", "POST /login, through A", &answers).await?;
        ensure!((row.admitted, row.refused) == (1, 0), "{row:?}");
        told(&self.a, "limit.login.allowed", 4).await
    }

    /// Prints what became of some requests, with the reason that A's access log gives.
    async fn row(&self, path: &str, what: &str, answers: &[Answer]) -> Result<Row> {
        let row = Row::of(what, answers);
        let reason = match row.refused {
            0 => String::new(),
            _ => self.reason(path, &row.status).await?,
        };
        row.print(&reason);
        Ok(row)
    }

    async fn reason(&self, path: &str, status: &str) -> Result<String> {
        let is_one = |entry: &Value| {
            // To HTTP, all that gRPC refuses is a success.
            let same_status =
                status.starts_with("grpc") || entry["status"].as_u64() == status.parse().ok();
            entry["path"] == path && same_status
        };
        wait::until("refusals in the access log", async || {
            let refused = self.a.accesses().into_iter().find(is_one)?;
            Some(refused["details"].as_str()?.to_owned())
        })
        .await
    }
}

/// One login of one device.
fn login() -> Call {
    post("/login", "").header("x-device", "phone")
}

/// Sends `count` requests one after the other, each on a connection of its own, so that
/// they reach all workers.
async fn from(client: Ipv4Addr, proxy: &Envoy, count: usize, call: &Call) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let mut client = Client::http1_from(client, proxy.address()).await?;
        answers.push(client.send(call.clone()).await?);
    }
    Ok(answers)
}

/// Waits until the filter says so in `/stats`, which it does on ticks.
async fn told(proxy: &Envoy, name: &str, value: u64) -> Result<()> {
    wait::until(&format!("{name} to be {value}"), async || {
        let now = proxy.stat(&format!("{}{name}", account::PREFIX)).ok()?;
        (now == value).then_some(())
    })
    .await
}
