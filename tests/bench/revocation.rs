//! What revocation costs where a great many tokens are revoked, and whether it is true.
//!
//! - [`revocation_ledger`]: a host takes them all in, is started again, and proxies that know
//!   nothing learn from it
//! - [`revocation_wasm`]: the shipped module by itself, shown every revoked token and as many
//!   others: none may be missed; and what a look costs
//! - [`revocation_cells`]: what a request costs in Envoy, all in all
//!
//! Tokens come in a header that an earlier filter would have written: what it costs to verify one
//! is not measured. What is revoked is told by the tokens' numbers alone ([`revocation_tokens`]).

mod connection;
mod listeners;
mod revocation_cells;
mod revocation_ledger;
mod revocation_machine;
mod revocation_table;
mod revocation_tokens;
mod revocation_wasm;
mod spread;

use harness::revoker::Revoker;
use harness::{Result, load};
use revocation_tokens::{PAYLOAD_HEADER, Tokens};
use revocation_wasm::Hosts;
use serde_json::{Value, json};
use std::process::ExitCode;

/// As many as the aims are about.
const ENTRIES: u64 = 10_000_000;

fn main() -> ExitCode {
    load::main_with("bench-revocation", [("entries", ENTRIES)], async |rounds, [entries]| {
        measure(rounds, entries).await
    })
}

async fn measure(rounds: usize, entries: u64) -> Result<()> {
    let tokens = Tokens::from_now();
    let (mut full, empty) = (Revoker::alone().await?, Revoker::alone().await?);
    revocation_ledger::fill(&mut full, entries, tokens).await?;
    revocation_ledger::cold_proxies(&empty, &full, entries).await?;
    let hosts = Hosts { full: full.host.address(), empty: empty.host.address() };
    revocation_wasm::measure(rounds, entries, tokens, hosts).await?;
    revocation_cells::measure(rounds, entries, tokens, hosts).await?;
    println!("\n`cargo xtask bench revocation --rounds {rounds} --entries {entries}`");
    Ok(())
}

/// What a policy has requests pay for.
#[derive(Clone, Copy, PartialEq)]
enum Cost {
    /// A limit that refuses nothing.
    Limit,
    /// That, and a look whether their token is revoked.
    Revocation,
}

fn policy(cost: Cost, cluster: &str) -> Value {
    let mut policy = json!({
        "tidegate": 1,
        "domain": "bench",
        // Every ask is to be answered, on a busy machine too.
        "host": { "cluster": cluster, "deadline": "1s" },
        // A burst for all that is shown while the clock stands.
        "limits": [{
            "name": "one", "key": [{ "header": "x-key" }],
            "rate": "1000000/1s", "burst": 2_000_000_000,
        }],
    });
    if cost == Cost::Revocation {
        policy["token"] = json!({ "from": [{ "payload_header": PAYLOAD_HEADER }] });
        policy["revocation"] = json!({});
    }
    policy
}
