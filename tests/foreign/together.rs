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

/// The languages of the plugins, by whose names policy and host know them; to compile Python takes a
/// build for tests too long.
const PLUGINS: [&str; 2] = ["rust", "javascript"];

/// The policy, beside the examples.
const POLICY: &str = "plugins.json";

/// Three units an hour for each tier, in each server; for each plugin by paths of its own.
fn policy() -> Value {
    let plugin = json!({
        "wants": [{ "header": "x-api-key" }, "path"], "defaults": { "tier": "default" },
    });
    let plugins: Map<_, _> =
        PLUGINS.map(|name| (name.to_owned(), plugin.clone())).into_iter().collect();
    let limit = |name: &str| {
        json!({
            "name": name, "when": { "path": format!("/{name}") }, "rate": "1/1h", "burst": 3,
            "key": { "plugin": format!("{name}.tier") },
        })
    };
    json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "tidegate", "deadline": "4s" },
        "plugins": plugins, "limits": PLUGINS.map(limit),
    })
}

/// A host service with the plugins of the examples; nobody waits for a machine that is busy.
async fn host(workshop: &Workshop) -> Result<Host> {
    let mut plugins = Map::new();
    for language in PLUGINS {
        workshop.run(&format!("{language}-plugin"))?;
        let file = workshop.example(language).join("plugin.wasm");
        let settings = json!({ "file": file, "instances": 1, "deadline": "1s" });
        plugins.insert(language.to_owned(), settings);
    }
    Host::with_file(Vec::new(), &json!({ "plugins": plugins }).to_string()).await
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
        let workshop = with_guard()?;
        fs::write(workshop.example(POLICY), policy().to_string())?;
        let mut host = host(&workshop).await?;
        let mut servers = Vec::new();
        for language in LANGUAGES {
            servers.push(Server::start(&workshop, language, POLICY, host.address()).await?);
        }
        for (server, plugin) in servers.iter().flat_map(|server| PLUGINS.map(|it| (server, it))) {
            let path = format!("/{plugin}");
            let gold = statuses(server, &path, ["gk_1", "gk_2", "gk_3", "gk_4"]).await?;
            ensure!(gold == [200, 200, 200, 429], "{plugin}: {gold:?}");
            let others = statuses(server, &path, ["sk_1", "unknown", "gk_5"]).await?;
            ensure!(others == [200, 200, 429], "{plugin}: {others:?}");
        }
        for plugin in PLUGINS {
            let calls = format!("tidegate_plugin_calls_total{{plugin=\"{plugin}\"}}");
            assert_eq!(host.metric(&calls).await?, 7 * LANGUAGES.len() as u64);
        }
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
