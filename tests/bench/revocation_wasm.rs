//! The shipped module by itself: whether it misses anything, how often it asks for nothing, and
//! what a look costs it.

use crate::revocation_machine::{Machine, request};
use crate::revocation_table::{Cell, Figures, Shown};
use crate::revocation_tokens::Tokens;
use crate::{Cost, policy};
use anyhow::{Context, ensure};
use harness::{Result, parts};
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::maps::HeaderMap;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

/// Requests of one turn: some ten milliseconds.
const REQUESTS: usize = 3_000;

/// How many probes are told of at once.
const TOLD_EVERY: u64 = 1_000_000;

/// Where there is something revoked, and where there is nothing.
#[derive(Clone, Copy)]
pub(crate) struct Hosts {
    pub(crate) full: SocketAddr,
    pub(crate) empty: SocketAddr,
}

/// # Errors
///
/// If a token that is revoked is let through, or one that is not refused.
pub(crate) async fn measure(
    rounds: usize,
    entries: u64,
    tokens: Tokens,
    hosts: Hosts,
) -> Result<()> {
    let engine = Engine::new(None).map_err(|error| anyhow::anyhow!(error.0))?;
    let module = engine.load(&fs::read(parts::filter()?)?);
    let module = module.map_err(|error| anyhow::anyhow!(error.0))?;
    let scout = knowing(&module, hosts.full).await?;
    println!("\n| in the shipped module, in wasmtime | |\n|---|--:|");
    println!("| MB of images | {:.2} |", scout.metric("image_bytes") as f64 / 1e6);
    misses_nothing(&scout, entries, tokens)?;
    let next = asks_for_nothing(&scout, entries, tokens)?;

    let without = Machine::start(&module, &policy(Cost::Limit, "tidegate_host"))?;
    without.stop();
    let machines =
        [without, knowing(&module, hosts.empty).await?, knowing(&module, hosts.full).await?];
    costs(rounds, &scout, &machines, Fresh { tokens, next })?
        .print("CPU ns per request in the shipped module", entries);
    Ok(())
}

/// A machine that knows what this host knows.
async fn knowing(module: &Module, host: SocketAddr) -> Result<Machine> {
    let machine = Machine::start(module, &policy(Cost::Revocation, "tidegate_host"))?;
    machine.learn(host).await?;
    Ok(machine)
}

/// Shows each token that is revoked once.
fn misses_nothing(machine: &Machine, entries: u64, tokens: Tokens) -> Result<()> {
    let mut missed = 0;
    for number in 0..entries {
        told("revoked", number);
        missed += u64::from(machine.shows(&tokens.revoked(number), true)?.passed);
    }
    println!("| revoked tokens let through, of {entries} shown | {missed} |");
    ensure!(missed == 0, "{missed} of {entries} tokens that are revoked were let through");
    Ok(())
}

/// Shows as many that are not revoked; the number of the next such token.
fn asks_for_nothing(machine: &Machine, entries: u64, tokens: Tokens) -> Result<u64> {
    let (mut asked, begun) = (0_u64, Instant::now());
    for number in 0..entries {
        told("clean", number);
        let seen = machine.shows(&tokens.clean(number), false)?;
        ensure!(seen.passed, "a token that is not revoked was refused");
        asked += u64::from(seen.asked);
    }
    let permillion = asked as f64 * 1e6 / entries as f64;
    println!("| asks per million clean requests, of {entries} shown | {permillion:.0} |");
    eprintln!("that took {:?}", begun.elapsed());
    Ok(entries)
}

fn told(what: &str, number: u64) {
    if number > 0 && number.is_multiple_of(TOLD_EVERY) {
        eprintln!("{number} {what} tokens shown");
    }
}

fn costs(
    rounds: usize,
    scout: &Machine,
    machines: &[Machine; Cell::ALL.len()],
    mut fresh: Fresh,
) -> Result<Figures> {
    let few = fresh.requests(Shown::FEW, scout)?;
    let again: Vec<HeaderMap> = few.iter().cycle().take(REQUESTS).cloned().collect();
    let mut figures = Figures::default();
    for round in 0..=rounds {
        let new = fresh.requests(REQUESTS, scout)?;
        for (shown, requests) in Shown::ALL.into_iter().zip([&new, &again]) {
            for turn in 0..Cell::ALL.len() {
                // Each round begins with another: none always follows the same one.
                let cell = Cell::ALL[(round + turn) % Cell::ALL.len()];
                let spent_ns = turn_ns(&machines[cell as usize], requests)?;
                // The first fills tables: not what a request costs.
                if round > 0 {
                    figures.push(shown, cell, spent_ns / REQUESTS as f64);
                }
            }
        }
    }
    Ok(figures)
}

/// What this thread takes for these requests, which is all that works here.
fn turn_ns(machine: &Machine, requests: &[HeaderMap]) -> Result<f64> {
    // Made before: what a proxy has read is not what a filter costs.
    let requests = requests.to_vec();
    let before = clock_gettime(ClockId::ThreadCPUTime);
    for request in requests {
        machine.passes(request)?;
    }
    let spent = clock_gettime(ClockId::ThreadCPUTime) - before;
    Ok(spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64)
}

/// Tokens that were never shown and are not revoked. Those that would be asked about are left out:
/// how often that is, is counted, and what it costs is the host's and the network's affair.
struct Fresh {
    tokens: Tokens,
    next: u64,
}

impl Fresh {
    fn requests(&mut self, count: usize, scout: &Machine) -> Result<Vec<HeaderMap>> {
        let mut requests = Vec::with_capacity(count);
        while requests.len() < count {
            let token = self.tokens.clean(self.next);
            self.next = self.next.checked_add(1).context("tokens enough")?;
            if !scout.shows(&token, false)?.asked {
                requests.push(request(&token.payload()));
            }
        }
        Ok(requests)
    }
}
