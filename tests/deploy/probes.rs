//! What Kubernetes is told of the pods: also of those that only look well.

use crate::lab::Lab;
use crate::sentinel::{SERVERS, trio};
use anyhow::{Context, ensure};
use harness::{Result, stage, wait};
use rustix::process::Signal;

/// The probe must complain, of this.
fn complains(lab: &Lab, pod: &str, probe: &[&str], of: &str) -> Result<()> {
    let complaint = lab.probe(pod, probe)?.with_context(|| format!("{probe:?} is content"))?;
    ensure!(complaint.contains(of), "{probe:?} of {pod}: {complaint}");
    Ok(())
}

#[test]
fn a_server_that_does_not_know_us_is_neither_alive_nor_ready() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        lab.set_passwords("probe", &["another"])?;
        for pod in ["tidegate-redis-0", "tidegate-redis-1", "tidegate-sentinel-0"] {
            complains(&lab, pod, &["alive"], "WRONGPASS")?;
        }
        complains(&lab, "tidegate-redis-0", &["ready", "server"], "WRONGPASS")?;
        complains(&lab, "tidegate-sentinel-0", &["ready", "sentinel"], "WRONGPASS")?;
        // As where nobody signs in at all.
        let program = lab.folder().join("bin/redis-cli");
        let port = lab.port("tidegate-redis-0")?.to_string();
        let said = std::process::Command::new(program).args(["-p", &port, "PING"]).output()?;
        ensure!(
            said.status.success() && said.stdout.starts_with(b"NOAUTH"),
            "the reason: {said:?}"
        );
        Ok(())
    })
}

#[test]
fn a_server_that_is_not_what_the_sentinels_say_is_not_ready() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        let port = lab.port("tidegate-redis-0")?.to_string();
        lab.admin("tidegate-redis-1", &["REPLICAOF", "NO", "ONE"])?;
        complains(
            &lab,
            "tidegate-redis-1",
            &["ready", "server"],
            "sentinels say that the master is",
        )?;
        ensure!(lab.probe("tidegate-redis-1", &["alive"])?.is_none(), "but it is alive");
        lab.admin("tidegate-redis-1", &["REPLICAOF", "localhost", &port])?;
        lab.ready("server", &SERVERS).await?;

        // A replica that should be the master. It follows one that has the data, or it would
        // not be connected.
        let other = lab.port("tidegate-redis-1")?.to_string();
        lab.admin("tidegate-redis-2", &["REPLICAOF", "NO", "ONE"])?;
        lab.admin(
            "tidegate-redis-0",
            &["REPLICAOF", "localhost", &lab.port("tidegate-redis-2")?.to_string()],
        )?;
        wait::until("the complaint", async || {
            complains(&lab, "tidegate-redis-0", &["ready", "server"], "sentinels say").ok()
        })
        .await?;
        // One that follows nobody who answers.
        lab.admin("tidegate-redis-2", &["REPLICAOF", "localhost", "1"])?;
        complains(&lab, "tidegate-redis-2", &["ready", "server"], "but connect")?;
        ensure!(!other.is_empty());
        Ok(())
    })
}

#[test]
fn a_frozen_server_is_not_alive_and_a_sentinel_without_the_others_is_not_ready() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        lab.signal("tidegate-redis-1", Signal::STOP)?;
        complains(&lab, "tidegate-redis-1", &["alive"], "no reply")?;
        lab.signal("tidegate-redis-1", Signal::CONT)?;
        for pod in ["tidegate-sentinel-1", "tidegate-sentinel-2"] {
            lab.kill(pod)?;
        }
        wait::until("the complaint", async || {
            complains(&lab, "tidegate-sentinel-0", &["ready", "sentinel"], "NOQUORUM").ok()
        })
        .await?;
        ensure!(lab.probe("tidegate-sentinel-0", &["alive"])?.is_none());
        // The servers are taken as they are: it is not their fault.
        lab.ready("server", &["tidegate-redis-0"]).await
    })
}
