//! What the host service is told in each form is what it works with: asks are answered, and
//! `tidegate doctor` finds nothing to complain of.

use crate::cluster::{self, NODES};
use crate::lab::{Lab, free_ports};
use crate::sentinel::{self, SENTINELS};
use anyhow::{Context, ensure};
use harness::client::{Client, get};
use harness::envoy::{Policy, envoy};
use harness::origin::Origin;
use harness::process::Process;
use harness::{Result, parts, stage, wait};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// `tidegate`, with nothing of the tests' own in its environment.
fn tidegate(arguments: &[&str], settings: &Path) -> Result<Command> {
    let mut command = Command::new(parts::host()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).arg("--config").arg(settings);
    Ok(command)
}

/// Starts the host service with a configuration as it ships, and waits until it is ready.
async fn serves(lab: &Lab, file: &str, pods: &[&str]) -> Result<Process> {
    let settings = lab.settings(file, pods)?;
    let [asks, admin] = free_ports()?;
    let mut command = tidegate(&["serve"], &settings)?;
    command
        .env("TIDEGATE_LISTEN", format!("127.0.0.1:{asks}"))
        .env("TIDEGATE_ADMIN", format!("127.0.0.1:{admin}"));
    let socket = lab.folder().join("asks.sock");
    if std::fs::read_to_string(&settings)?.contains("unix_socket:") {
        command.env("TIDEGATE_UNIX_SOCKET", &socket);
    }
    let process = Process::start("tidegate", &mut command, lab.folder())?;
    let ready = wait::until("the host service to be ready", async || {
        let mut client = Client::http1(([127, 0, 0, 1], admin).into()).await.ok()?;
        let answer = client.send(get("/readyz")).await.ok()?;
        answer.status.is_success().then_some(())
    });
    ready.await.with_context(|| format!("{file}: {}", process.log()))?;
    ensure!(!process.log().contains("sets nothing"), "{}", process.log());
    Ok(process)
}

/// What the doctor says with a configuration as it ships: all is well.
fn is_well(lab: &Lab, file: &str, pods: &[&str]) -> Result<()> {
    let settings = lab.settings(file, pods)?;
    let output = tidegate(&["doctor", "--json"], &settings)?.output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let findings = report["findings"].as_array().context("findings")?;
    let is_odd = |finding: &&Value| !["OK", "NOT_ALLOWED"].iter().any(|it| finding["level"] == *it);
    let odd: Vec<&Value> = findings.iter().filter(is_odd).collect();
    ensure!(output.status.code() == Some(0) && odd.is_empty(), "{file}: {odd:#?}");
    ensure!(findings.len() > 20, "{} findings", findings.len());
    Ok(())
}

#[test]
fn under_sentinel_it_serves_and_the_doctor_is_content() -> Result<()> {
    stage(async {
        let lab = sentinel::trio().await?;
        for file in ["host/tidegate.yaml", "sidecar/tidegate.yaml"] {
            drop(serves(&lab, file, &SENTINELS).await?);
            is_well(&lab, file, &SENTINELS)?;
        }
        ensure!(lab.refusals()? == [""; 0], "{:?}", lab.refusals()?);
        Ok(())
    })
}

/// As in `host/deploy/sidecar/gateway.yaml`: Envoy asks through the socket that both have mounted.
#[test]
fn beside_a_proxy_it_is_asked_through_a_socket() -> Result<()> {
    stage(async {
        let lab = sentinel::trio().await?;
        let _host = serves(&lab, "sidecar/tidegate.yaml", &SENTINELS).await?;
        let limit = json!({ "name": "few", "rate": "2/1h", "scope": "global", "exact": true });
        let policy = json!({
            "tidegate": 1, "domain": "shop", "limits": [limit],
            "host": { "cluster": "tidegate_host", "deadline": "4s" },
        });
        let socket = lab.folder().join("asks.sock").display().to_string();
        let origin = Origin::start().await?;
        let plan = envoy(Policy::Struct(policy)).in_envoy().origin(origin.address());
        let plan = plan.edit(move |config| {
            let clusters = config["static_resources"]["clusters"].as_array_mut();
            for cluster in clusters.into_iter().flatten() {
                if cluster["name"] == "tidegate_host" {
                    cluster["type"] = "STATIC".into();
                    let endpoint = &mut cluster["load_assignment"]["endpoints"][0];
                    endpoint["lb_endpoints"][0]["endpoint"]["address"] =
                        json!({ "pipe": { "path": socket } });
                }
            }
        });
        let envoy = plan.start().await?;
        let answers = envoy.burst(1, 3, &get("/")).await?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        ensure!(statuses == [200, 200, 429], "{statuses:?}");
        Ok(())
    })
}

#[test]
fn on_a_cluster_it_serves_and_the_doctor_is_content() -> Result<()> {
    stage(async {
        let lab = cluster::cluster().await?;
        let file = "redis-cluster/tidegate.yaml";
        drop(serves(&lab, file, &NODES).await?);
        is_well(&lab, file, &NODES)?;
        // Of all that the doctor asks, only this is beyond the rights that we need.
        let refused = lab.refusals()?;
        ensure!(refused.iter().all(|it| it.ends_with("tidegate config|get")), "{refused:?}");
        Ok(())
    })
}
