//! What each fault of Redis costs: clients, limits, time. `cargo xtask test faults` runs it.
//!
//! A real Envoy with the filter, the host service and a real Redis are under a steady load,
//! open loop: requests are sent when they are due, whatever became of those before. Then a
//! fault is made, mended after a while, and what all requests got is held against what each
//! `on_error` promises. One load for each of the three, at once, in one Envoy.

mod fault;
mod figures;
mod load;

use anyhow::{Context, ensure};
use fault::{FAULTS, Fault};
use figures::Figures;
use harness::envoy::{Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::redis::Redis;
use harness::{Result, perform};
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What may become of a limit while its store is away: each has a limit, a path and a load.
const MODES: [&str; 3] = ["local_share", "open", "closed"];

/// Of each limit: so many a second, and at once.
const RATE: f64 = 40.0;
const BURST: u32 = 40;

/// How long the load goes on before the fault, under it, and after it.
const BEFORE: Duration = Duration::from_secs(2);
const UNDER: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match perform(run(&wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(wanted: &[String]) -> Result<()> {
    let is_wanted = |fault: &&Fault| wanted.is_empty() || wanted.iter().any(|it| it == fault.name);
    let mut table = Vec::new();
    for fault in FAULTS.iter().filter(is_wanted) {
        eprintln!("{}", fault.name);
        let figures = under(fault).await.with_context(|| fault.name)?;
        table.push((fault, figures));
    }
    ensure!(!table.is_empty(), "no fault of that name: {wanted:?}");
    figures::print(&table);
    let broken: Vec<String> =
        table.iter().flat_map(|(fault, figures)| figures.broken(fault)).collect();
    ensure!(broken.is_empty(), "promises that were not kept:\n{}", broken.join("\n"));
    Ok(())
}

/// The load through one fault.
async fn under(fault: &Fault) -> Result<Figures> {
    let mut redis = Redis::start().await?;
    let host = Host::on_redis_by_default(&redis).await?;
    let origin = Origin::start().await?;
    let plan = envoy(policy()).workers(1).origin(origin.address()).host(host.address());
    let envoy = plan.start().await?;
    let begun = Instant::now();
    let load = load::run(envoy.address(), begun, BEFORE + UNDER + AFTER);
    let script = async {
        tokio::time::sleep_until((begun + BEFORE).into()).await;
        (fault.make)(&mut redis).await?;
        tokio::time::sleep_until((begun + BEFORE + UNDER).into()).await;
        (fault.mend)(&mut redis).await
    };
    let (outcomes, done) = tokio::join!(load, script);
    done?;
    Ok(Figures::of(&outcomes?))
}

fn policy() -> Policy {
    let limits = MODES.map(|mode| {
        json!({
            "name": mode,
            "when": { "path": format!("/{mode}") },
            "rate": format!("{RATE}/1s"),
            "burst": BURST,
            "scope": "global",
            "exact": true,
            "on_error": mode,
        })
    });
    Policy::Struct(json!({
        "tidegate": 1,
        "domain": "faults",
        "host": { "cluster": "tidegate_host" },
        "limits": limits,
    }))
}
