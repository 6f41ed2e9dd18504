//! Plugins of several languages in `tidegate serve`, asked by servers of several languages: whatever
//! one is written in, all that its policy says of it holds.

use crate::hosts::{LANGUAGES, Server, with_guard};
use anyhow::ensure;
use harness::client::get;
use harness::host::Host;
use harness::workshop::Workshop;
use harness::{Result, stage, wait};
use serde_json::{Map, Value, json};
use std::fs;
use std::time::Duration;

/// The languages of the plugins, by whose names policy and host know them.
const PLUGINS: [&str; 2] = ["rust", "javascript"];

/// That of Python has a test of its own: it is 18 MB, which a build for tests compiles anew for each
/// start, in 20 s where nothing else runs.
const PYTHON: [&str; 1] = ["python"];

/// For a host service to compile its plugins.
const COMPILED_MAX: Duration = Duration::from_secs(240);

/// The policy, beside the examples.
const POLICY: &str = "plugins.json";

/// Three units an hour for each tier, in each server; for each plugin by paths of its own.
fn policy(plugins: &[&str]) -> Value {
    let plugin = json!({
        "wants": [{ "header": "x-api-key" }, "path"], "defaults": { "tier": "default" },
    });
    let limit = |name: &&str| {
        json!({
            "name": name, "when": { "path": format!("/{name}") }, "rate": "1/1h", "burst": 3,
            "key": { "plugin": format!("{name}.tier") },
        })
    };
    let limits: Vec<_> = plugins.iter().map(limit).collect();
    let plugins: Map<_, _> =
        plugins.iter().map(|name| ((*name).to_owned(), plugin.clone())).collect();
    json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "tidegate", "deadline": "4s" },
        "plugins": plugins, "limits": limits,
    })
}

/// A host service with the plugins of the examples; nobody waits for a machine that is busy.
async fn host(workshop: &Workshop, plugins: &[&str]) -> Result<Host> {
    let mut settings = Map::new();
    for language in plugins {
        workshop.run(&format!("{language}-plugin"))?;
        let file = workshop.example(language).join("plugin.wasm");
        let plugin = json!({ "file": file, "instances": 1, "deadline": "1s" });
        settings.insert((*language).to_owned(), plugin);
    }
    let config = json!({ "plugins": settings }).to_string();
    Host::with_file_within(COMPILED_MAX, Vec::new(), &config).await
}

/// That host service, and a server of each language which asks it.
async fn stand(plugins: &[&str]) -> Result<(Workshop, Host, Vec<Server>)> {
    let workshop = with_guard()?;
    fs::write(workshop.example(POLICY), policy(plugins).to_string())?;
    let host = host(&workshop, plugins).await?;
    let mut servers = Vec::new();
    for language in LANGUAGES {
        servers.push(Server::start(&workshop, language, POLICY, host.address()).await?);
    }
    Ok((workshop, host, servers))
}

/// Each server counts by the tiers that each plugin gives.
async fn check_tiers(host: &Host, servers: &[Server], plugins: &[&str]) -> Result<()> {
    for (server, plugin) in servers.iter().flat_map(|it| plugins.iter().map(move |of| (it, of))) {
        let path = format!("/{plugin}");
        let gold = statuses(server, &path, ["gk_1", "gk_2", "gk_3", "gk_4"]).await?;
        ensure!(gold == [200, 200, 200, 429], "{plugin}: {gold:?}");
        let others = statuses(server, &path, ["sk_1", "unknown", "gk_5"]).await?;
        ensure!(others == [200, 200, 429], "{plugin}: {others:?}");
    }
    for plugin in plugins {
        let calls = format!("tidegate_plugin_calls_total{{plugin=\"{plugin}\"}}");
        assert_eq!(host.metric(&calls).await?, 7 * servers.len() as u64);
    }
    Ok(())
}

async fn statuses<const N: usize>(
    server: &Server,
    path: &str,
    keys: [&str; N],
) -> Result<[u16; N]> {
    let mut statuses = [0; N];
    for (status, key) in statuses.iter_mut().zip(keys) {
        let request = get(path).header("x-api-key", key);
        *status = server.send(request).await?.status.as_u16();
    }
    Ok(statuses)
}

#[test]
fn plugins_of_any_language_are_asked_by_servers_of_any_language() -> Result<()> {
    stage(async {
        let (_workshop, mut host, servers) = stand(&PLUGINS).await?;
        check_tiers(&host, &servers, &PLUGINS).await?;
        // And without it the defaults hold: one tier for all.
        host.kill()?;
        for server in &servers {
            let keys = ["gk_1", "sk_1", "unknown", "gk_2"];
            assert_eq!(statuses(server, "/rust", keys).await?, [200, 200, 200, 429]);
        }
        host.revive().await?;
        for server in &servers {
            wait::until("the plugin to be asked again", async || {
                (statuses(server, "/rust", ["sk_2"]).await.ok()? == [200]).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn a_plugin_in_python_is_asked_by_servers_of_any_language() -> Result<()> {
    stage(async {
        let (_workshop, host, servers) = stand(&PYTHON).await?;
        check_tiers(&host, &servers, &PYTHON).await
    })
}
