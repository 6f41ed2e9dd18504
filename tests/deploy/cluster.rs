//! `redis-cluster/`: six nodes, made one cluster, through what happens to such.

use crate::lab::{Lab, with_ports};
use anyhow::{Context, ensure};
use harness::{Result, stage, wait};
use std::collections::BTreeSet;
use std::time::Instant;

pub(crate) const NODES: [&str; 6] = [
    "tidegate-redis-0",
    "tidegate-redis-1",
    "tidegate-redis-2",
    "tidegate-redis-3",
    "tidegate-redis-4",
    "tidegate-redis-5",
];

/// A node's bus is so far below its port. Free ports begin at 10,000, so that takes no privileges;
/// and tests go round in them, so who was given one so far back has most likely ended.
const TO_THE_BUS: u16 = 5_000;

/// A node's address: all of 127/8 is this machine, and each has one of its own, as a pod has.
fn address(generation: u8, node: usize) -> String {
    format!("127.0.{generation}.{}", 10 + node)
}

/// Tells all nodes where all are, as of their next start.
fn place(lab: &Lab, generation: u8) -> Result<()> {
    let mut all = Vec::new();
    for (at, pod) in NODES.iter().enumerate() {
        all.push(format!("{}:{}", address(generation, at), lab.port(pod)?));
    }
    for (at, pod) in NODES.iter().enumerate() {
        lab.set(pod, "ADDRESS", address(generation, at))?;
        // Clients are told names. Nobody knows ours here, but what looks like an address.
        lab.set(pod, "NAME", address(generation, at))?;
        lab.set(pod, "NODES", all.join(" "))?;
    }
    Ok(())
}

/// All of them, one cluster.
pub(crate) async fn cluster() -> Result<Lab> {
    with_ports(async |ports: [u16; 6]| {
        let lab = Lab::new(&["redis", "redis-cluster"])?;
        for (name, port) in NODES.iter().zip(ports) {
            let variables = [("BUS_PORT", (port - TO_THE_BUS).to_string())];
            lab.add(name, "node.sh", port, &variables);
        }
        place(&lab, 0)?;
        for pod in NODES {
            lab.start(pod)?;
        }
        lab.script("tidegate-redis-0", "form.sh", &[])?;
        lab.ready("node", &NODES).await?;
        wait::until("every master to have its replica", async || {
            let all = NODES.iter().map(|pod| lab.admin(pod, &["ROLE"]).unwrap_or_default());
            let connected = all.filter(|role| role.lines().nth(3) == Some("connected")).count();
            // Its master may still be sending it the data.
            let told = NODES.iter().map(|pod| lab.admin(pod, &["INFO", "replication"]));
            let online = told.flatten().filter(|told| told.contains("state=online")).count();
            (connected == 3 && online == 3).then_some(())
        })
        .await?;
        Ok(lab)
    })
    .await
}

/// The nodes of this role.
fn of_role(lab: &Lab, role: &str) -> Vec<&'static str> {
    let is = |pod: &&str| lab.admin(pod, &["ROLE"]).is_ok_and(|told| told.starts_with(role));
    NODES.into_iter().filter(is).collect()
}

/// Writes a key as the host service's user, wherever its slot is.
fn write(lab: &Lab, key: &str) -> Result<String> {
    let slot = lab.admin("tidegate-redis-5", &["CLUSTER", "KEYSLOT", key])?;
    let masters = of_role(lab, "master");
    let mut said = format!("no master takes slot {slot}");
    for pod in masters {
        said = lab.say(pod, "tidegate", &["SET", key, "counted"])?;
        if !said.starts_with("MOVED") {
            break;
        }
    }
    Ok(said)
}

#[test]
fn six_nodes_become_a_cluster_once_and_survive_a_crash_and_new_addresses() -> Result<()> {
    stage(async {
        let lab = cluster().await?;
        let told = lab.admin("tidegate-redis-0", &["CLUSTER", "SLOTS"])?;
        // Named by name; what follows is what else is known: the address.
        ensure!(told.contains("\nip\n"), "clients are told names: {told}");
        let keys: Vec<String> = (0..12).map(|key| format!("tidegate:0:{{{key}}}")).collect();
        for key in &keys {
            ensure!(write(&lab, key)? == "OK");
        }
        let before = of_role(&lab, "slave");
        lab.script("tidegate-redis-3", "form.sh", &[]).context("a second time")?;
        ensure!(of_role(&lab, "slave") == before);

        let crashed = of_role(&lab, "master")[0];
        let start = Instant::now();
        lab.kill(crashed)?;
        wait::until("its replica in its place", async || {
            (of_role(&lab, "master").len() == 3).then_some(())
        })
        .await?;
        eprintln!("a crashed master was replaced in {:?}", start.elapsed());
        lab.start(crashed)?;
        lab.ready("node", &NODES).await?;
        wait::until("it to come back as a replica", async || {
            lab.admin(crashed, &["ROLE"]).ok().filter(|role| role.starts_with("slave"))
        })
        .await?;

        // All at once, as after a power cut, and none where it was.
        NODES.iter().try_for_each(|pod| lab.kill(pod))?;
        place(&lab, 1)?;
        NODES.iter().try_for_each(|pod| lab.start(pod))?;
        wait::until("all to know all at the new addresses", async || {
            let new: BTreeSet<String> = (0..NODES.len()).map(|node| address(1, node)).collect();
            let knows = |pod: &&str| {
                let told = lab.admin(pod, &["CLUSTER", "NODES"]).unwrap_or_default();
                let alive = told.lines().filter(|line| line.contains(" connected"));
                let at = alive.filter_map(|line| Some(line.split([' ', ':']).nth(1)?.to_owned()));
                at.collect::<BTreeSet<_>>() == new
            };
            NODES.iter().all(knows).then_some(())
        })
        .await
        .with_context(|| {
            lab.admin("tidegate-redis-0", &["CLUSTER", "NODES"]).unwrap_or_default()
        })?;
        lab.ready("node", &NODES).await?;
        for key in &keys {
            let told = of_role(&lab, "master").into_iter().map(|pod| lab.admin(pod, &["GET", key]));
            ensure!(told.filter_map(Result::ok).any(|value| value == "counted"), "{key} is lost");
        }
        ensure!(lab.refusals()? == [""; 0], "{:?}", lab.refusals()?);
        Ok(())
    })
}

#[test]
fn a_node_that_ends_on_purpose_hands_over_first() -> Result<()> {
    stage(async {
        let lab = cluster().await?;
        let leaves = of_role(&lab, "master")[0];
        let start = Instant::now();
        lab.script(leaves, "leave.sh", &[])?;
        let took = start.elapsed();
        ensure!(of_role(&lab, "slave").contains(&leaves), "still a master after {took:?}");
        eprintln!("a node handed over in {took:?}");
        // A replica goes at once.
        lab.script(leaves, "leave.sh", &[])?;
        ensure!(of_role(&lab, "master").len() == 3);
        Ok(())
    })
}
