//! A ledger of many entries: how long until they are in it, how large it is, how soon a host that
//! starts again has it, and a proxy that starts.

use crate::revocation_tokens::Tokens;
use crate::{Cost, policy};
use anyhow::{Context, ensure};
use harness::envoy::{Envoy, Policy, envoy};
use harness::revoker::Revoker;
use harness::{Result, load, parts, wait};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Workers of the proxies that start: one, and so many that they share images.
const WORKERS: [u32; 2] = [1, 8];

/// Fills the ledger of `revoker`, and starts it again twice.
///
/// # Errors
///
/// If not all is in force after that.
pub(crate) async fn fill(revoker: &mut Revoker, entries: u64, tokens: Tokens) -> Result<()> {
    println!("| {entries} revocations in a host's own ledger | |\n|---|--:|");
    let imported = import(revoker.api(), entries, tokens)?;
    println!("| s for `tidegate revocations import` | {:.1} |", imported.as_secs_f64());
    resident("after it", revoker)?;
    println!("| MB on disk | {:.0} |", mb(size_bytes(revoker.ledger())?));
    for (how, is_killed) in [("SIGTERM", false), ("SIGKILL", true)] {
        if is_killed {
            revoker.host.kill()?;
        } else {
            revoker.host.end().await?;
        }
        let begun = Instant::now();
        revoker.host.revive_within(PATIENCE).await?;
        println!("| s until ready again after {how} | {:.1} |", begun.elapsed().as_secs_f64());
        let made = "tidegate_revocation_images_made_seconds";
        wait::within(PATIENCE, "images", async || {
            let count = revoker.host.metric(&format!("{made}_count")).await.ok()?;
            (count > 0).then_some(())
        })
        .await?;
        let took = revoker.host.seconds(&format!("{made}_sum")).await?;
        let since = begun.elapsed().as_secs_f64();
        println!("| s for all images; they are there after {since:.1} s | {took:.1} |");
    }
    resident("started again", revoker)?;
    Ok(())
}

fn import(api: SocketAddr, entries: u64, tokens: Tokens) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("revocations.ndjson");
    let mut file = BufWriter::new(File::create(&lines)?);
    tokens.write(entries, &mut file)?;
    file.flush()?;
    let begun = Instant::now();
    let output = Command::new(parts::host()?)
        .args(["revocations", "import", "--json", "--server", &format!("http://{api}")])
        .arg(&lines)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let took = begun.elapsed();
    let said: Value = serde_json::from_slice(&output.stdout).context("what the import says")?;
    ensure!(output.status.success() && said["accepted"] == entries, "the import says {said}");
    Ok(took)
}

fn resident(when: &str, revoker: &Revoker) -> Result<()> {
    let [now, most] = load::resident_bytes(revoker.host.id())?.map(mb);
    println!("| MB resident, {when}; {most:.0} at most | {now:.0} |");
    Ok(())
}

/// Starts proxies that know nothing, where nothing is revoked and where `entries` are.
///
/// # Errors
///
/// If one does not come to know all.
pub(crate) async fn cold_proxies(empty: &Revoker, full: &Revoker, entries: u64) -> Result<()> {
    println!(
        "\n| a cold Envoy | s until all workers know | MB on the wire | machines that know | \
         MB of images in each | MB resident |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for workers in WORKERS {
        for (revoker, revoked) in [(empty, 0), (full, entries)] {
            let started = Instant::now();
            let plan = envoy(Policy::Struct(policy(Cost::Revocation, "tidegate_host")));
            let plan = plan.workers(workers).host(revoker.host.address()).in_envoy();
            let envoy = plan.start().await?;
            let machines = all_know(&envoy, 1, workers).await?;
            let took = started.elapsed().as_secs_f64();
            let wire = envoy.stat("cluster.tidegate_host.upstream_cx_rx_bytes_total")?;
            let images = gauge(&envoy, "image_bytes").context("a gauge")? / machines;
            let [resident, _] = load::resident_bytes(envoy.id())?;
            let [wire, images, resident] = [wire, images, resident].map(mb);
            println!(
                "| {workers} workers, {revoked} revoked | {took:.2} | {wire:.2} | {machines} | \
                 {images:.2} | {resident:.1} |"
            );
        }
    }
    Ok(())
}

/// Waits until all machines of so many filters decide by what they know; how many these are: one for
/// each worker, and that of the main thread, which hears of news as well.
///
/// # Errors
///
/// If that does not come.
pub(crate) async fn all_know(envoy: &Envoy, filters: u32, workers: u32) -> Result<u64> {
    let machines = u64::from(filters * (workers + 1));
    wait::within(PATIENCE, "all workers to know", async || {
        (gauge(envoy, "workers_sure")? == machines).then_some(machines)
    })
    .await
}

/// One of a proxy's gauges of revocations.
pub(crate) fn gauge(envoy: &Envoy, name: &str) -> Option<u64> {
    envoy.stat(&format!("wasmcustom.wasm_filter.tidegate.revocation.{name}")).ok()
}

fn size_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { size_bytes(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
