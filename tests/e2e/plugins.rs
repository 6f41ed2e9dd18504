//! Plugins of policies: what they compute counts, in Envoy by the host service and in `tidegate
//! proxy` by itself; and whatever one does, requests are as quick as without it.

use crate::{policy_with, statuses};
use anyhow::{Context, ensure};
use harness::bundled::Bundled;
use harness::client::{Answer, Client, get};
use harness::envoy::{Envoy, Policy, envoy};
use harness::host::Host;
use harness::origin::Origin;
use harness::{Result, parts, plugin, stage, wait};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest that a plugin may take here: far more than it needs on a busy machine.
const DEADLINE: Duration = Duration::from_millis(500);

/// What a request may take with a plugin that takes all of its deadline: so much more on a machine
/// that is busy, and less than the 2 s that the filter waits by itself, half of the policy's 4 s.
const NEVER_SLOW: Duration = Duration::from_millis(1_500);

/// Three costs of [`good_and_bad`] are no numbers.
const NONSENSE: &str = "wasmcustom_wasm_filter_tidegate_plugin_tiers_nonsense 3";

/// Two units an hour for each tier, and a request takes as many as the plugin says.
fn document() -> Value {
    json!({
        "plugins": plugin::section(),
    })
}

fn limits() -> Value {
    json!([{
        "name": "tiers", "rate": "2/1h", "key": { "plugin": "tiers.tier" },
        "cost": { "plugin": "tiers.cost", "max": 2 },
    }])
}

fn policy() -> Policy {
    policy_with(limits(), document())
}

fn setting(folder: &TempDir) -> Value {
    let millis = DEADLINE.as_millis();
    json!({ "tiers": {
        "file": file(folder), "instances": 2, "deadline": format!("{millis}ms"), "memory_max": 8,
    } })
}

fn file(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("tiers.wasm")
}

/// A host service that runs the plugin.
async fn host(folder: &TempDir) -> Result<Host> {
    plugin::write(&file(folder), "1.0")?;
    Host::with_file(Vec::new(), &json!({ "plugins": setting(folder) }).to_string()).await
}

/// An Envoy that asks it.
async fn in_envoy(folder: &TempDir) -> Result<(Envoy, Host, Origin)> {
    let (host, origin) = (host(folder).await?, Origin::start().await?);
    let plan = envoy(policy()).origin(origin.address()).host(host.address()).in_envoy();
    Ok((plan.start().await?, host, origin))
}

/// `tidegate proxy`, which runs the plugin and has no host service.
async fn in_proxy_with(plugins: Value, origin: &Origin) -> Result<Bundled> {
    let Policy::Struct(policy) = policy() else { anyhow::bail!("a policy of another kind") };
    Bundled::start(&proxy(plugins, origin, &policy)).await
}

/// One lane, so that whoever holds it up holds up everybody.
fn proxy(plugins: Value, origin: &Origin, policy: &Value) -> Value {
    json!({
        "listeners": [{ "filters": [{ "name": "tidegate", "configuration": policy }] }],
        "upstream": format!("http://{}", origin.address()),
        "plugins": plugins,
        "workers": 1,
    })
}

/// Has requests answered one after the other, none slower than the plugin's deadline allows.
async fn sent(client: &mut Client, does: &[&str]) -> Result<Vec<Answer>> {
    let answers = answered(client, does).await?;
    for (does, Answer { took, .. }) in does.iter().zip(&answers) {
        ensure!(*took < NEVER_SLOW, "{does}: {took:?}");
    }
    Ok(answers)
}

/// Has requests answered one after the other.
async fn answered(client: &mut Client, does: &[&str]) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for does in does {
        answers.push(client.send(get("/").header("x-do", does)).await?);
    }
    Ok(answers)
}

/// What holds in both homes.
async fn good_and_bad(address: SocketAddr) -> Result<()> {
    let mut client = Client::http1(address).await?;
    let answers = sent(&mut client, &["a", "a", "a", "b", "3", "3", "b", "b"]).await?;
    assert_eq!(statuses(&answers), [200, 200, 429, 200, 200, 429, 200, 429]);
    // A cost that is none is the default of 1.
    let answers = sent(&mut client, &["Cx", "Cx", "Cx"]).await?;
    assert_eq!(statuses(&answers), [200, 200, 429]);
    // All that fail have one budget together: the default tier's.
    let answers = sent(&mut client, &["L", "M", "T", "N", "X", "E"]).await?;
    assert_eq!(statuses(&answers), [200, 200, 429, 429, 429, 429]);
    // And who did nothing wrong is told apart again, once the plugin has rested.
    wait::until("the plugin to answer", async || {
        let answer = client.send(get("/").header("x-do", "d")).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
}

/// The page of metrics, once each way to fail is counted there: a call that took too long may end a
/// moment after its answer.
async fn all_failures(admin: SocketAddr) -> Result<String> {
    let reasons = ["deadline", "memory", "trap", "nonsense", "cannot_tell"];
    wait::until("all failures to be counted", async || {
        let page = page(admin).await.ok()?;
        let is_there = |reason: &&str| {
            let series = format!("plugin_failures_total{{plugin=\"tiers\",reason=\"{reason}\"}} ");
            page.contains(&series)
        };
        reasons.iter().all(is_there).then_some(page)
    })
    .await
}

async fn page(admin: SocketAddr) -> Result<String> {
    let answer = Client::http1(admin).await?.send(get("/metrics")).await?;
    Ok(String::from_utf8(answer.body.to_vec())?)
}

#[test]
fn in_envoy_a_plugin_tells_requests_apart_and_a_bad_one_does_no_harm() -> Result<()> {
    stage(async {
        let folder = tempfile::tempdir()?;
        let (envoy, host, _origin) = in_envoy(&folder).await?;
        good_and_bad(envoy.address()).await?;
        all_failures(host.admin()).await?;
        wait::until("the filter to count", async || {
            let stat = |name: &str| {
                envoy.stat(&format!("wasmcustom.wasm_filter.tidegate.plugin.tiers.{name}"))
            };
            let (defaulted, nonsense) = (stat("defaulted").ok()?, stat("nonsense").ok()?);
            (defaulted >= 6 && nonsense == 3).then_some(())
        })
        .await
    })
}

/// As a filter and as a component; with a host service that has no plugins, and without any.
#[test]
fn in_tidegate_proxy_a_plugin_tells_requests_apart_and_a_bad_one_does_no_harm() -> Result<()> {
    for (has_host, is_component) in [(false, false), (true, false), (false, true), (true, true)] {
        stage(async {
            let (folder, origin) = (tempfile::tempdir()?, Origin::start().await?);
            let host = Host::on_memory().await?;
            plugin::write(&file(&folder), "1.0")?;
            let Policy::Struct(policy) = policy() else { anyhow::bail!("of another kind") };
            let mut config = proxy(setting(&folder), &origin, &policy);
            if has_host {
                config["host"] = json!({ "url": format!("http://{}", host.address()) });
            }
            if is_component {
                let component = json!({ "wasm": parts::component()?, "configuration": policy });
                config["listeners"] = json!([{ "component": component }]);
            }
            let proxy = Bundled::start(&config).await?;
            good_and_bad(proxy.listeners()[0]).await?;
            let page = all_failures(proxy.admin()).await?;
            assert!(page.contains("tidegate_asks_total{outcome=\"resolved\"}"), "{page}");
            wait::until("the filter's or the component's own count", async || {
                let page = self::page(proxy.admin()).await.ok()?;
                page.contains(NONSENSE).then_some(())
            })
            .await
        })
        .with_context(|| format!("with a host: {has_host}; as a component: {is_component}"))?;
    }
    Ok(())
}

/// Neither does who needs no plugin wait for one, nor who does for longer than its policy says.
#[test]
fn a_plugin_that_loops_in_tidegate_proxy_holds_up_nobody_else() -> Result<()> {
    const LONG: Duration = Duration::from_secs(1);
    stage(async {
        let (folder, origin) = (tempfile::tempdir()?, Origin::start().await?);
        plugin::write(&file(&folder), "1.0")?;
        for (deadline, longest) in [("4s", 2 * LONG), ("20ms", LONG / 2)] {
            let mut limits = limits();
            limits[0]["when"] = json!({ "header": { "x-do": "*" } });
            let host = json!({ "cluster": "tidegate_host", "deadline": deadline });
            let mut fields = document();
            fields["host"] = host;
            let Policy::Struct(policy) = policy_with(limits, fields) else {
                anyhow::bail!("a policy of another kind")
            };
            let mut setting = setting(&folder);
            setting["tiers"]["deadline"] = json!("1s");
            let proxy = Bundled::start(&proxy(setting, &origin, &policy)).await?;
            let mut looping = Client::http1(proxy.listeners()[0]).await?;
            let looping =
                tokio::spawn(async move { looping.send(get("/").header("x-do", "L")).await });
            let mut other = Client::http1(proxy.listeners()[0]).await?;
            let mut slowest = Duration::ZERO;
            while !looping.is_finished() {
                let answer = other.send(get("/")).await?;
                assert_eq!(answer.status, 200);
                slowest = slowest.max(answer.took);
            }
            let held = looping.await??;
            assert_eq!(held.status, 200);
            assert!(held.took < longest, "{deadline}: {:?}", held.took);
            assert!(slowest < LONG / 2, "{deadline}: another took {slowest:?}");
        }
        Ok(())
    })
}

/// Nothing of it runs then that could be interrupted.
#[test]
fn a_plugin_that_waits_for_ever_is_ended_and_that_is_logged() -> Result<()> {
    stage(async {
        let (folder, origin) = (tempfile::tempdir()?, Origin::start().await?);
        plugin::write_bytes(&file(&folder), &plugin::patient()?)?;
        let plugin = json!({ "file": file(&folder), "instances": 1, "deadline": "100ms" });
        let proxy = in_proxy_with(json!({ "tiers": plugin }), &origin).await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        assert_eq!(statuses(&sent(&mut client, &["a"]).await?), [200]);
        let ended = "tidegate_plugin_failures_total{plugin=\"tiers\",reason=\"deadline\"} 1";
        wait::until("it to end", async || {
            (page(proxy.admin()).await.ok()?.contains(ended)).then_some(())
        })
        .await?;
        ensure!(proxy.log().contains("deadline: it was waiting"), "{}", proxy.log());
        Ok(())
    })
}

/// Neither memory nor time would end it before the host had run out of memory.
#[test]
fn a_plugin_that_takes_handles_without_end_is_ended() -> Result<()> {
    stage(async {
        let (folder, origin) = (tempfile::tempdir()?, Origin::start().await?);
        plugin::write_bytes(&file(&folder), &plugin::greedy()?)?;
        let plugin = json!({ "file": file(&folder), "instances": 1, "deadline": "1s" });
        let proxy = in_proxy_with(json!({ "tiers": plugin }), &origin).await?;
        let mut client = Client::http1(proxy.listeners()[0]).await?;
        assert_eq!(client.send(get("/").header("x-do", "a")).await?.status, 200);
        let page = page(proxy.admin()).await?;
        let trapped = "tidegate_plugin_failures_total{plugin=\"tiers\",reason=\"trap\"} 1";
        assert!(page.contains(trapped), "{page}");
        Ok(())
    })
}

#[test]
fn a_plugin_that_always_loops_costs_nobody_more_than_its_deadline() -> Result<()> {
    stage(async {
        let folder = tempfile::tempdir()?;
        let (envoy, host, _origin) = in_envoy(&folder).await?;
        let mut client = Client::http1(envoy.address()).await?;
        let answers = sent(&mut client, &["L"; 100]).await?;
        assert_eq!(statuses(&answers)[..3], [200, 200, 429]);
        let resting = "tidegate_plugin_failures_total{plugin=\"tiers\",reason=\"resting\"}";
        assert!(host.metric(resting).await? > 50, "most were answered at once");
        Ok(())
    })
}

#[test]
fn a_host_that_is_gone_is_not_waited_for() -> Result<()> {
    stage(async {
        let folder = tempfile::tempdir()?;
        let (envoy, mut host, _origin) = in_envoy(&folder).await?;
        let mut client = Client::http1(envoy.address()).await?;
        assert_eq!(statuses(&sent(&mut client, &["a"]).await?), [200]);
        host.kill()?;
        let answers = sent(&mut client, &["a", "b", "c", "d"]).await?;
        assert_eq!(statuses(&answers), [200, 200, 429, 429], "by the defaults");
        host.revive().await?;
        wait::until("the plugin to be asked again", async || {
            let answer = client.send(get("/").header("x-do", "e")).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await
    })
}

#[test]
fn a_swap_under_load_loses_no_request_and_a_bad_one_is_refused() -> Result<()> {
    stage(async {
        let folder = tempfile::tempdir()?;
        let (envoy, host, _origin) = in_envoy(&folder).await?;
        let mut client = Client::http1(envoy.address()).await?;
        assert_eq!(statuses(&sent(&mut client, &["V", "V", "V"]).await?), [200, 200, 429]);
        let taken = "tidegate_plugin_swaps_total{plugin=\"tiers\",outcome=\"taken\"}";
        let failed = "tidegate_plugin_failures_total{plugin=\"tiers\",reason=\"";
        write_and_wait(&file(&folder), &host, taken, &mut client).await?;
        assert_eq!(statuses(&sent(&mut client, &["V", "V", "V"]).await?), [200, 200, 429]);
        assert!(!page(host.admin()).await?.contains(failed), "every call was answered");

        plugin::write_bytes(&file(&folder), b"no component")?;
        let refused = "tidegate_plugin_swaps_total{plugin=\"tiers\",outcome=\"refused\"}";
        wait::until("the file to be refused", async || {
            (host.metric(refused).await.ok()? == 1).then_some(())
        })
        .await?;
        assert_eq!(statuses(&sent(&mut client, &["V", "other"]).await?), [429, 200]);
        assert!(host.log().contains("not replaced"), "{}", host.log());
        Ok(())
    })
}

/// Puts another version in place and keeps on asking until it is taken; every request is answered
/// by one version or the other.
async fn write_and_wait(file: &Path, host: &Host, taken: &str, client: &mut Client) -> Result<()> {
    plugin::write(file, "2.0")?;
    let start = Instant::now();
    for number in 0.. {
        let tier = format!("load-{number}");
        let answers = answered(client, &[&tier, &tier, &tier]).await?;
        ensure!(statuses(&answers) == [200, 200, 429], "{tier}: {:?}", statuses(&answers));
        if number % 20 == 0 && host.metric(taken).await? == 1 {
            return Ok(());
        }
        ensure!(start.elapsed() < wait::PATIENCE, "the file was not taken");
    }
    Ok(())
}
