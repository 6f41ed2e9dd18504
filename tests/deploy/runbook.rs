//! Every command of the pages in `host/deploy/` is run, in the order in which it stands there:
//! in pods that are processes here, and else as far as goes without a Kubernetes.
//!
//! A block names what it is for: `sh redis-sentinel`, `sh redis-cluster`; `tls` with certificates.
//! Those of `promql` are expressions, a line each, checked as the dashboard's are.

use crate::checkers::Checkers;
use crate::cluster::{self, NODES};
use crate::lab::{Lab, shipped, with_ports};
use crate::rotation;
use crate::sentinel::{self, SENTINELS, SERVERS};
use anyhow::{Context, bail, ensure};
use harness::parts::root;
use harness::{Result, stage};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The pages, in the order in which one reads them.
const PAGES: [&str; 2] = ["README.md", "RUNBOOK.md"];

/// A block of commands, and where it stands.
struct Block {
    page: &'static str,
    line: usize,
    kind: String,
    commands: String,
}

fn blocks() -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(shipped(page))?;
        let mut open: Option<Block> = None;
        for (line, text) in text.lines().enumerate() {
            match (&mut open, text.strip_prefix("```")) {
                (None, Some(kind)) => {
                    let kind = kind.to_owned();
                    open = Some(Block { page, line: line + 1, kind, commands: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.commands += &format!("{text}\n"),
                (None, None) => {}
            }
        }
    }
    Ok(blocks)
}

/// Every expression of the pages, by where it stands.
pub(crate) fn expressions() -> Result<Vec<(String, String)>> {
    let blocks = blocks()?.into_iter().filter(|block| block.kind == "promql");
    let lines = blocks.flat_map(|Block { page, line, commands, .. }| {
        let lines: Vec<_> = commands.lines().map(str::to_owned).collect();
        lines.into_iter().map(move |text| (format!("{page}:{line}"), text))
    });
    Ok(lines.collect())
}

/// Runs one block, with `kubectl` for these pods.
fn run(lab: &Lab, block: &Block, kubectl: &std::path::Path) -> Result<()> {
    let stand_in = lab.folder().join("bin/kubectl");
    if !stand_in.exists() {
        symlink(root().join("tests/deploy/kubectl.sh"), &stand_in)?;
        let objects = lab.names().iter().map(|pod| format!("pod/{pod}\n")).collect::<String>()
            + "statefulset/tidegate-redis\nstatefulset/tidegate-sentinel\ndeployment/tidegate\n";
        fs::write(lab.folder().join("objects"), objects)?;
        // What the Secret is made of is what the pods have.
        fs::create_dir(lab.folder().join("desk"))?;
        symlink(lab.folder().join("passwords"), lab.folder().join("desk/passwords"))?;
    }
    lab.describe_pods()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-euc", &block.commands])
        .current_dir(lab.folder().join("desk"))
        .env("PATH", format!("{}:{path}", lab.folder().join("bin").display()))
        .env("LAB", lab.folder())
        .env("ROOT", root())
        .env("KUBECTL", kubectl)
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let place = format!("{}:{}", block.page, block.line);
    // redis-cli ends with 0 though the server refused.
    let refused = said.lines().find(|line| {
        ["ERR ", "NOPERM", "NOAUTH", "WRONGPASS", "Error"].iter().any(|it| line.starts_with(it))
    });
    if let Some(refused) = refused {
        bail!("{place}: {refused}\nin: {said}");
    }
    ensure!(output.status.success(), "{place}: {}: {said}", output.status);
    Ok(())
}

/// Runs all blocks of a kind; between them all pods are up and well, as Kubernetes sees to it.
async fn run_all(
    lab: &Lab,
    kind: &str,
    settled: impl AsyncFn(&Lab) -> Result<()>,
) -> Result<usize> {
    let kubectl = Checkers::find()?.kubectl();
    let mut count = 0;
    for block in blocks()?.iter().filter(|block| block.kind == format!("sh {kind}")) {
        run(lab, block, &kubectl)?;
        lab.revive()?;
        let place = || format!("after {}:{}", block.page, block.line);
        settled(lab).await.with_context(place)?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn every_block_of_commands_is_of_a_kind_that_is_run() -> Result<()> {
    for block in blocks()? {
        // The doctor's are run in `settings`, by that command.
        let kinds = [
            "sh redis-sentinel",
            "sh redis-cluster",
            "sh redis-sentinel tls",
            "sh doctor",
            "promql",
        ];
        ensure!(kinds.contains(&block.kind.as_str()), "{}:{}", block.page, block.line);
        let doctor = "kubectl -n tidegate exec deploy/tidegate -- tidegate doctor --config \
                      /etc/tidegate/tidegate.yaml\n";
        ensure!(block.kind != "sh doctor" || block.commands == doctor, "{}", block.commands);
    }
    Ok(())
}

#[test]
fn the_commands_for_a_redis_under_sentinel_work() -> Result<()> {
    stage(async {
        Checkers::find()?;
        let lab = sentinel::trio().await?;
        // The first makes new passwords, before there is a Redis.
        for pod in SERVERS.iter().chain(&SENTINELS) {
            lab.kill(pod)?;
            lab.wipe(pod)?;
        }
        let count = run_all(&lab, "redis-sentinel", sentinel::settled).await?;
        ensure!(count >= 9, "{count} blocks");
        Ok(())
    })
}

#[test]
fn the_commands_for_a_cluster_work() -> Result<()> {
    stage(async {
        Checkers::find()?;
        let lab = cluster::cluster().await?;
        let count =
            run_all(&lab, "redis-cluster", async |lab| lab.ready("node", &NODES).await).await?;
        ensure!(count >= 4, "{count} blocks");
        Ok(())
    })
}

#[test]
fn the_commands_for_certificates_work() -> Result<()> {
    stage(async {
        Checkers::find()?;
        with_ports(async |ports| {
            let lab = sentinel::pods(ports)?;
            let authority = rotation::certificates(&lab, "authority")?;
            fs::write(lab.folder().join("tls/ca.crt"), authority)?;
            for pod in SENTINELS.iter().chain(&SERVERS) {
                lab.start(pod)?;
            }
            lab.ready("server", &SERVERS).await?;
            let count = run_all(&lab, "redis-sentinel tls", sentinel::settled).await?;
            ensure!(count >= 1, "{count} blocks");
            Ok(())
        })
        .await
    })
}
