//! A component that misbehaves in `tidegate proxy`: whatever it does, requests are answered in bounded
//! time, and the next instance decides again.

use anyhow::{Context, ensure};
use bytes::Bytes;
use harness::bundled::Bundled;
use harness::client::{Client, get};
use harness::origin::Origin;
use harness::{Result, guard, stage, wait};
use proxy_wasm_host::plugin::Limits;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tidegate::component::world::log::Level;
use tidegate::component::world::store::Question;
use tidegate::component::{Engine, Instance, Shell};
use tokio::time::timeout;

/// How long a call may take here, and what a request then takes at most, on a busy machine too.
const CALL: Duration = Duration::from_millis(250);
const NEVER_SLOW: Duration = Duration::from_millis(1_500);

/// Who has no answer by then is held; for five seconds, if nobody ends it.
const HELD: Duration = Duration::from_secs(1);

/// A proxy of one worker whose component decides by itself what becomes of requests; the policy only
/// says what becomes of those that nobody decides.
async fn proxy(origin: &Origin, on_error: &str) -> Result<(Bundled, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let wasm = file(&folder);
    std::fs::write(&wasm, guard::component()?)?;
    let policy = json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "tidegate_host" },
        "limits": [{ "name": "any", "rate": "1000/1s", "scope": "global", "on_error": on_error }],
    });
    let call = format!("{}ms", CALL.as_millis());
    let limits = json!({ "memory_mib": 4, "callback": call, "start": "3s" });
    let component = json!({ "wasm": wasm, "configuration": policy, "limits": limits });
    let proxy = Bundled::start(&json!({
        "listeners": [{ "component": component, "filters": [] }],
        "upstream": format!("http://{}", origin.address()),
        "workers": 1,
    }))
    .await?;
    Ok((proxy, folder))
}

fn file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("guard.wasm")
}

/// Answers of one request, and how long it took.
async fn sent(client: &mut Client, does: &str) -> Result<(u16, Duration)> {
    let start = Instant::now();
    let answer = client.send(get("/").header("x-do", does)).await?;
    Ok((answer.status.as_u16(), start.elapsed()))
}

async fn failures(proxy: &Bundled) -> Result<u64> {
    metric(proxy, "component_failures").await
}

/// What the first series has of which this is a part; 0 if there is none yet.
async fn metric(proxy: &Bundled, series: &str) -> Result<u64> {
    let mut client = Client::http1(proxy.admin()).await?;
    let page = String::from_utf8(client.send(get("/metrics")).await?.body.to_vec())?;
    let count = page
        .lines()
        .find_map(|line| line.contains(series).then(|| line.rsplit(' ').next()?.parse().ok())?);
    Ok(count.unwrap_or_default())
}

/// Until there is an instance: nobody else holds a request.
async fn is_back(proxy: &Bundled) -> Result<()> {
    wait::until("another instance", async || {
        let mut client = Client::http1(proxy.listeners()[0]).await.ok()?;
        let held = client.send(get("/").header("x-do", "H"));
        timeout(HELD, held).await.is_err().then_some(())
    })
    .await
}

#[test]
fn a_component_that_loops_traps_or_answers_nonsense_ends_and_another_follows() -> Result<()> {
    for (on_error, undecided) in [("open", 200), ("closed", 500)] {
        stage(async {
            let origin = Origin::start().await?;
            let (proxy, _folder) = proxy(&origin, on_error).await?;
            let mut client = Client::http1(proxy.listeners()[0]).await?;
            ensure!(sent(&mut client, "a").await?.0 == 200);
            for does in ["L", "T", "N"] {
                let failed = failures(&proxy).await?;
                let (status, took) = sent(&mut client, does).await?;
                ensure!(status == undecided, "{does}, {on_error}: {status}");
                ensure!(took < NEVER_SLOW, "{does}: {took:?}");
                ensure!(failures(&proxy).await? == failed + 1, "{does} is counted");
                is_back(&proxy).await?;
            }
            let log = proxy.log();
            for why in ["interrupt", "unreachable", "discriminant"] {
                ensure!(log.contains(why), "{why}: {log}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn one_that_takes_all_memory_gets_what_its_bound_allows() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let (proxy, _folder) = proxy(&origin, "closed").await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        for _ in 0..10 {
            let (status, took) = sent(&mut client, "M").await?;
            ensure!(status == 200 && took < NEVER_SLOW, "{status} after {took:?}");
        }
        ensure!(failures(&proxy).await? == 0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("its memory")?;
        let kib: u64 = line.split_whitespace().nth(1).context("kB")?.parse()?;
        ensure!(kib < 512 << 10, "{kib} KiB");
        Ok(())
    })
}

#[test]
fn what_it_prints_and_asks_in_a_call_is_bounded() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let (proxy, _folder) = proxy(&origin, "closed").await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        for does in ["P", "Q"] {
            let (status, took) = sent(&mut client, does).await?;
            ensure!(status == 200 && took < NEVER_SLOW, "{does}: {status} after {took:?}");
        }
        let lines = || proxy.log().lines().filter(|line| line.contains("x-do")).count();
        ensure!((20..100).contains(&lines()), "{} lines", lines());
        ensure!(failures(&proxy).await? == 0);
        Ok(())
    })
}

/// A lane does nothing else while it starts an instance.
#[test]
fn one_that_loops_when_it_gets_its_policy_is_not_taken_and_holds_nobody_up() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let (proxy, folder) = proxy(&origin, "closed").await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        ensure!(sent(&mut client, "a").await?.0 == 200);
        harness::plugin::write_bytes(&file(&folder), &guard::stubborn()?)?;
        while metric(&proxy, "reloads_total{outcome=\"refused\"}").await? == 0 {
            let (status, took) = sent(&mut client, "a").await?;
            ensure!(status == 200 && took < NEVER_SLOW, "{status} after {took:?}");
        }
        ensure!(proxy.log().contains("interrupt"), "{}", proxy.log());
        ensure!(sent(&mut client, "a").await?.0 == 200);
        Ok(())
    })
}

#[test]
fn one_that_cannot_start_again_holds_nobody_up_longer_than_a_call() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let (proxy, _folder) = proxy(&origin, "closed").await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        ensure!(sent(&mut client, "S").await?.0 == 500);
        // After pauses that grow, it is tried again and again.
        while failures(&proxy).await? < 4 {
            let (status, took) = sent(&mut client, "a").await?;
            ensure!(status == 500 && took < NEVER_SLOW, "{status} after {took:?}");
        }
        Ok(())
    })
}

#[test]
fn all_of_its_memories_count_together() -> Result<()> {
    let engine = Engine::for_guards(None).map_err(|why| anyhow::anyhow!(why))?;
    // Four pages are in its first memory.
    let limits = Limits { memory_bytes: 20 << 16, ..Limits::default() };
    for (pages, told) in [(16, None), (17, Some("exceeds memory limits"))] {
        let component = engine.load(&guard::roomy(pages)?).map_err(|why| anyhow::anyhow!(why))?;
        let made = Instance::new(&component, Box::new(Nobody), limits);
        let why = made.err().map(|failed| failed.to_string());
        let is_so = why.as_deref().unwrap_or_default().contains(told.unwrap_or_default());
        ensure!(why.is_some() == told.is_some() && is_so, "{pages} pages: {why:?}");
    }
    Ok(())
}

/// Answers nothing.
struct Nobody;

impl Shell for Nobody {
    fn now(&self) -> u64 {
        0
    }

    fn log(&self, _: Level, _: &str) {}

    fn shared(&self, _: &[u8]) -> Option<(Bytes, u32)> {
        None
    }

    fn share(&self, _: &[u8], _: Vec<u8>, _: Option<u32>) -> bool {
        false
    }

    fn send(&self, _: Question) -> bool {
        false
    }
}

#[test]
fn a_request_that_is_held_for_ever_is_not() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let (proxy, _folder) = proxy(&origin, "closed").await?;
        let mut held = Client::http1(proxy.listeners()[0]).await?;
        let held = tokio::spawn(async move { sent(&mut held, "H").await });
        // Others are decided meanwhile; one whose client leaves is forgotten.
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        ensure!(sent(&mut client, "a").await?.0 == 200);
        let left = client.send(get("/").header("x-do", "H"));
        ensure!(timeout(HELD, left).await.is_err());
        drop(client);
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        ensure!(sent(&mut client, "a").await?.0 == 200);
        let (status, took) = held.await??;
        ensure!(status == 500, "{status}");
        ensure!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
        ensure!(failures(&proxy).await? == 0);
        Ok(())
    })
}

#[test]
fn a_component_of_another_world_is_refused_by_name_before_anything_starts() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let folder = tempfile::tempdir()?;
        let wasm = folder.path().join("plugin.wasm");
        harness::plugin::write(&wasm, "1.0")?;
        let policy: Value = json!({
            "tidegate": 1, "domain": "shop", "limits": [{ "name": "any", "rate": "1/1s" }],
        });
        let component = json!({ "wasm": wasm, "configuration": policy });
        let config = json!({
            "listeners": [{ "component": component, "filters": [] }],
            "upstream": format!("http://{}", origin.address()),
        });
        let Err(refused) = Bundled::start(&config).await else { anyhow::bail!("it started") };
        let told = format!("{refused:#}");
        for part in ["tidegate:edge/guard@0.1.0", "found tidegate:edge/policy@0.1.0"] {
            ensure!(told.contains(part), "{told}");
        }
        Ok(())
    })
}

/// The policy alone would let through all that the component refuses here, as it would in the filter.
#[test]
fn a_component_named_by_a_flag_decides() -> Result<()> {
    stage(async {
        let origin = Origin::start().await?;
        let folder = tempfile::tempdir()?;
        let (wasm, policy) = (folder.path().join("guard.wasm"), folder.path().join("shop.yaml"));
        std::fs::write(&wasm, guard::component()?)?;
        let limit =
            json!({ "name": "any", "rate": "1000/1s", "scope": "global", "on_error": "closed" });
        let text = json!({
            "tidegate": 1, "domain": "shop", "host": { "cluster": "tidegate" }, "limits": [limit],
        });
        std::fs::write(&policy, text.to_string())?;
        let (address, admin) = (harness::ports::free()?, harness::ports::free()?);
        let mut command = std::process::Command::new(harness::parts::host()?);
        command.args([
            "proxy",
            "--no-cache",
            "--upstream",
            &format!("http://{}", origin.address()),
        ]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.arg("--policy").arg(&policy).arg("--component").arg(&wasm);
        let proxy = harness::process::Process::start("proxy", &mut command, folder.path())?;
        let mut client =
            wait::until("the proxy to serve", async || Client::http1(address).await.ok()).await?;
        ensure!(sent(&mut client, "a").await?.0 == 200);
        let (status, _) = sent(&mut client, "Trap").await?;
        ensure!(status == 500, "{status}: {}", proxy.log());
        ensure!(proxy.log().contains("unreachable"), "{}", proxy.log());
        Ok(())
    })
}
