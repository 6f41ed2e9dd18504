//! What a request costs in Envoy: three listeners of one Envoy with one worker, each with a machine
//! of its own, and each round's turns held against each other.

use crate::connection::Connection;
use crate::listeners::{self, Pattern};
use crate::revocation_ledger::{all_know, gauge};
use crate::revocation_table::{Cell, Figures, Shown};
use crate::revocation_tokens::{PAYLOAD_HEADER, Tokens};
use crate::revocation_wasm::Hosts;
use crate::{Cost, policy};
use anyhow::{Context, ensure};
use harness::envoy::{Envoy, HTTP, Policy, answer_directly, envoy};
use harness::{Result, load, wait};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Connections that are kept busy, with one request under way on each.
const CONNECTIONS: usize = 8;

/// Requests of one turn: a fraction of a second.
const REQUESTS: usize = 6_000;

/// Of a hundred requests, so few may be asked about because news were late.
const UNSURE_PERCENT_MAX: u64 = 1;

/// Where the host of the full ledger is, as Envoy calls it.
const FULL_HOST: &str = "tidegate_host_full";

/// Tokens from this number on were not shown to any other.
const FIRST: u64 = 1 << 36;

/// # Errors
///
/// If a request is not let through, or the machine is too busy to measure on.
pub(crate) async fn measure(
    rounds: usize,
    entries: u64,
    tokens: Tokens,
    hosts: Hosts,
) -> Result<()> {
    let plan = envoy(Policy::Text(String::new())).host(hosts.empty).in_envoy();
    let plan = plan.filters(Cell::ALL.len() as u32).edit(move |config| edit(config, hosts.full));
    let envoy = plan.start().await?;
    // Two of the filters look.
    all_know(&envoy, 2, 1).await?;
    let listeners = envoy.listeners()?;
    let place = |cell: Cell| listeners.get(cell.name()).copied().context("a listener of its own");
    let few = requests(tokens, FIRST, Shown::FEW);
    let again: Vec<_> = few.iter().cycle().take(REQUESTS).cloned().collect();
    let again: Arc<[Vec<u8>]> = again.into();
    let mut figures = Figures::default();
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        let first = FIRST + (Shown::FEW + round * REQUESTS) as u64;
        let new = requests(tokens, first, REQUESTS);
        for (shown, requests) in Shown::ALL.into_iter().zip([&new, &again]) {
            for turn in 0..Cell::ALL.len() {
                // Each round begins with another: none always follows the same one.
                let cell = Cell::ALL[(round + turn) % Cell::ALL.len()];
                let before_ns = load::cpu_ns(envoy.id())?;
                send(place(cell)?, requests).await?;
                let spent_us = (load::cpu_ns(envoy.id())? - before_ns) as f64 / 1e3;
                // The first compiles, connects and fills tables: not what a request costs.
                if round > 0 {
                    figures.push(shown, cell, spent_us / REQUESTS as f64);
                }
            }
        }
    }
    figures.print("CPU µs per request in Envoy", entries);
    tell_asks(&envoy, (rounds as u64 + 1) * REQUESTS as u64).await
}

/// A look that asked each time, or none at all, would cost something else.
async fn tell_asks(envoy: &Envoy, requests: u64) -> Result<()> {
    // By both machines, of both ways to show tokens; told with the next tick.
    let [looked, unsure, degraded] = wait::until("all requests to be looked at", async || {
        let (unsure, degraded) = (gauge(envoy, "asked_unsure")?, gauge(envoy, "degraded")?);
        let looked = gauge(envoy, "clear")? + degraded;
        (looked >= 4 * requests).then_some([looked, unsure, degraded])
    })
    .await?;
    ensure!(
        (unsure + degraded) * 100 <= looked * UNSURE_PERCENT_MAX,
        "{unsure} of {looked} requests were asked about because news were late, and {degraded} \
         had no answer: this machine is too busy to measure on"
    );
    let asked = gauge(envoy, "asked_positive").context("a counter")? as f64 * 1e6 / requests as f64;
    println!("\nAsked about, per million requests whose token is new: {asked:.0}.");
    Ok(())
}

fn edit(config: &mut Value, full: SocketAddr) {
    let Some(pattern) = Pattern::of(config) else { return };
    let listener = |cell: Cell| {
        let filter = pattern.filter(cell.name(), &cell.policy());
        let mut listener = pattern.listener(cell.name(), Some(filter));
        listener.pointer_mut(HTTP).into_iter().for_each(answer_directly);
        listener
    };
    config["static_resources"]["listeners"] = Cell::ALL.into_iter().map(listener).collect();
    listeners::add_cluster(config, FULL_HOST, full);
}

impl Cell {
    const fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Empty => "empty",
            Self::Full => "full",
        }
    }

    fn policy(self) -> Value {
        match self {
            Self::Without => policy(Cost::Limit, "tidegate_host"),
            Self::Empty => policy(Cost::Revocation, "tidegate_host"),
            Self::Full => policy(Cost::Revocation, FULL_HOST),
        }
    }
}

/// Requests that show tokens of these numbers, none revoked.
fn requests(tokens: Tokens, first: u64, count: usize) -> Arc<[Vec<u8>]> {
    let request = |number| {
        let payload = tokens.clean(number).payload();
        let head = "GET / HTTP/1.1\r\nhost: shop.example\r\nx-key: a\r\n";
        format!("{head}{PAYLOAD_HEADER}: {payload}\r\n\r\n").into_bytes()
    };
    (first..).take(count).map(request).collect()
}

/// Sends all of them; each must be let through.
async fn send(at: SocketAddr, requests: &Arc<[Vec<u8>]>) -> Result<()> {
    let mut sending = JoinSet::new();
    for first in 0..CONNECTIONS {
        let requests = requests.clone();
        sending.spawn(async move {
            let mut connection = Connection::to(at).await?;
            for request in requests.iter().skip(first).step_by(CONNECTIONS) {
                let status = connection.send(request).await?;
                ensure!(status == 200, "what is not revoked is answered with {status}");
            }
            Result::Ok(())
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(())
}
