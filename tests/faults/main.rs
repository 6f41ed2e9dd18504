//! What each fault of Redis costs: clients, limits, time. `cargo xtask test faults` runs it.
//!
//! A real Envoy with the filter, the host service and a real Redis (one, Sentinel, Cluster)
//! are under a steady load, open loop: requests are sent when they are due, whatever became
//! of those before. Then a fault is made, mended after a while, and what all requests got is
//! held against what each `on_error` promises. One load for each of the three, at once, in one
//! Envoy.

mod fault;
mod figures;
mod lab;
mod load;
#[path = "../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;

use anyhow::ensure;
use fault::Fault;
use figures::Figures;
use harness::client::get;
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, perform, wait};
use lab::{Lab, Stage};
use load::{KEY, Stream, Whose};
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What may become of a limit while its store is away: each has a limit, a path and a load.
const MODES: [&str; 3] = ["local_share", "open", "closed"];

/// Of each limit: so many a second, and at once.
const RATE: f64 = 40.0;
const BURST: u32 = 40;

/// How long the load goes on after the fault is mended.
const AFTER: Duration = Duration::from_secs(5);

/// How long after its mending everybody knows whom to ask.
const SETTLED: Duration = Duration::from_secs(1);

/// The most keys that are tried until one is in the shard that is wanted.
const KEYS_TRIED_MAX: usize = 100;

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
    let mut ran = Ran::default();
    all_of::<lab::one::One>(wanted, &mut ran).await?;
    all_of::<lab::behind::Behind>(wanted, &mut ran).await?;
    all_of::<lab::tls::Tls>(wanted, &mut ran).await?;
    all_of::<server::sentinel::Fleet>(wanted, &mut ran).await?;
    all_of::<lab::split::Split>(wanted, &mut ran).await?;
    all_of::<server::cluster::Cluster>(wanted, &mut ran).await?;
    let unknown: Vec<_> = wanted.iter().filter(|it| !ran.names.contains(&it.as_str())).collect();
    ensure!(
        unknown.is_empty(),
        "no table or fault is called {unknown:?}; there are {:?}",
        ran.names
    );
    ensure!(ran.broken.is_empty(), "promises that were not kept:\n{}", ran.broken.join("\n"));
    Ok(())
}

/// What came of all.
#[derive(Default)]
struct Ran {
    /// Of all tables and faults, wanted or not.
    names: Vec<&'static str>,
    broken: Vec<String>,
}

/// Every fault that is wanted of one kind of Redis, by its name or by the lab's.
async fn all_of<L: Lab>(wanted: &[String], ran: &mut Ran) -> Result<()> {
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name || it == L::NAME);
    ran.names.push(L::NAME);
    ran.names.extend(L::FAULTS.iter().map(|fault| fault.name));
    let mut rows = Vec::new();
    for fault in L::FAULTS.iter().filter(|fault| is_wanted(fault.name)) {
        eprintln!("{}: {}", L::NAME, fault.name);
        match under(fault).await {
            Ok(figures) => {
                ran.broken.extend(figures.broken(fault));
                rows.push((fault.name, figures));
            }
            Err(error) => ran.broken.push(format!("{}: {error:#}", fault.name)),
        }
    }
    if !rows.is_empty() {
        figures::print(L::NAME, L::UNDER, &rows);
    }
    Ok(())
}

/// The load through one fault.
async fn under<L: Lab>(fault: &'static Fault<L>) -> Result<Figures> {
    let stage = Stage::<L>::open().await?;
    let (environment, mut hosts) = stage.run(|lab| (lab.environment(), lab.hosts())).await?;
    let mut host = None;
    if hosts.is_empty() {
        hosts.push(host.insert(Host::with(environment).await?).address());
    }
    let origin = Origin::start().await?;
    let (mut envoys, mut streams) = (Vec::new(), Vec::new());
    for host in hosts {
        let plan = envoy(policy()).workers(1).origin(origin.address()).host(host);
        let envoy = plan.start().await?;
        streams.extend(streams_to(&envoy, &stage).await?);
        envoys.push(envoy);
    }
    let begun = Instant::now();
    let at = |after: Duration| tokio::time::sleep_until((begun + after).into());
    let mended = L::BEFORE + L::UNDER;
    let load = load::run(&streams, begun, mended + AFTER);
    let script = async {
        at(L::BEFORE).await;
        stage.run(fault.make).await?;
        at(mended).await;
        stage.run(fault.mend).await?;
        at(mended + SETTLED).await;
        let settled = stage.run(|lab| lab.stale_calls()).await?;
        at(mended + AFTER).await;
        let stale = stage.run(|lab| lab.stale_calls()).await?;
        Ok::<u64, anyhow::Error>(stale.saturating_sub(settled))
    };
    let (outcomes, stale) = tokio::join!(load, script);
    Ok(Figures::of(fault, &outcomes?, L::BEFORE..mended, stale?))
}

/// A stream of each mode, for each kind of key.
async fn streams_to<L: Lab>(envoy: &Envoy, stage: &Stage<L>) -> Result<Vec<Stream>> {
    let has_shards = !stage.run(|lab| lab.keys()).await?.is_empty();
    let kinds = if has_shards { &[Whose::Hit, Whose::Elsewhere][..] } else { &[Whose::Hit] };
    let mut streams = Vec::new();
    for mode in 0..MODES.len() {
        for &whose in kinds {
            let key = match has_shards {
                true => key_of(envoy, stage, mode, whose).await?,
                false => "any".to_owned(),
            };
            streams.push(Stream { at: envoy.address(), mode, key, whose });
        }
    }
    // What finding the keys took is back by then.
    wait::pass(Duration::from_secs(1)).await;
    Ok(streams)
}

/// A key whose budget is in the shard that breaks, or in another: found by trying.
async fn key_of<L: Lab>(
    envoy: &Envoy,
    stage: &Stage<L>,
    mode: usize,
    whose: Whose,
) -> Result<String> {
    for number in 0..KEYS_TRIED_MAX {
        let key = format!("{whose:?}-{number}");
        let before = stage.run(|lab| lab.keys()).await?;
        envoy.send(get(&format!("/{}", MODES[mode])).header(KEY, &key)).await?;
        let after = stage.run(|lab| lab.keys()).await?;
        let grown = (0..after.len()).find(|&shard| after[shard] > before[shard]);
        let found = grown.map(|shard| if shard == 0 { Whose::Hit } else { Whose::Elsewhere });
        if found == Some(whose) {
            return Ok(key);
        }
    }
    anyhow::bail!("none of {KEYS_TRIED_MAX} keys is of the shard that is wanted")
}

fn policy() -> Policy {
    let limits = MODES.map(|mode| {
        json!({
            "name": mode,
            "when": { "path": format!("/{mode}") },
            "key": [{ "header": KEY }],
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
