//! `redis-sentinel/`: three servers and three sentinels, through what happens to such.

use crate::lab::{Lab, with_ports};
use anyhow::{Context, ensure};
use harness::{Result, stage, wait};
use std::time::{Duration, Instant};

pub(crate) const SERVERS: [&str; 3] = ["tidegate-redis-0", "tidegate-redis-1", "tidegate-redis-2"];
pub(crate) const SENTINELS: [&str; 3] =
    ["tidegate-sentinel-0", "tidegate-sentinel-1", "tidegate-sentinel-2"];

/// After a crash, with the shipped `down-after-milliseconds` of 1 s, Sentinel announces a new
/// master within 2.3 s where nothing else runs. A machine that is busy with other tests gets
/// some more.
const FAIL_OVER_MAX: Duration = Duration::from_secs(12);

/// A vote that was split is repeated, after twice the shipped `failover-timeout`.
const VOTE_AGAIN_AFTER: Duration = Duration::from_secs(2 * 10);

/// All of them, ready.
pub(crate) async fn trio() -> Result<Lab> {
    with_ports(async |ports| {
        let lab = pods(ports)?;
        for pod in SENTINELS.iter().chain(&SERVERS) {
            lab.start(pod)?;
        }
        settled(&lab).await?;
        Ok(lab)
    })
    .await
}

/// Waits until all are ready, and all sentinels know the replicas: they learn of those from the
/// master, whom they ask every ten seconds, so one that was started just now may know none.
pub(crate) async fn settled(lab: &Lab) -> Result<()> {
    lab.ready("server", &SERVERS).await?;
    lab.ready("sentinel", &SENTINELS).await?;
    wait::until("all sentinels to know the replicas", async || {
        let knows = |pod: &&str| {
            lab.admin(pod, &["SENTINEL", "REPLICAS", "tidegate"])
                .is_ok_and(|told| told.lines().filter(|line| *line == "name").count() == 2)
        };
        SENTINELS.iter().all(knows).then_some(())
    })
    .await
}

/// All of them, none started.
pub(crate) fn pods(ports: [u16; 6]) -> Result<Lab> {
    let lab = Lab::new(&["redis", "redis-sentinel"])?;
    let (servers, sentinels) = ports.split_at(3);
    let told = sentinels.iter().map(|port| format!("localhost:{port}")).collect::<Vec<_>>();
    let told = ("SENTINELS", told.join(" "));
    for (name, port) in SERVERS.iter().zip(servers) {
        lab.add(name, "server.sh", *port, std::slice::from_ref(&told));
    }
    let first = ("FIRST", format!("localhost:{}", servers[0]));
    for (name, port) in SENTINELS.iter().zip(sentinels) {
        lab.add(name, "sentinel.sh", *port, std::slice::from_ref(&first));
    }
    Ok(lab)
}

/// The pod that a sentinel calls the master.
pub(crate) fn master(lab: &Lab, sentinel: &str) -> Result<String> {
    let told = lab.admin(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tidegate"])?;
    let port = told.lines().nth(1).context("an address")?.parse()?;
    lab.at(port)
}

/// Waits until this sentinel calls another than `old` the master; that one.
pub(crate) async fn replaced(lab: &Lab, old: &str, sentinel: &str) -> Result<String> {
    let is_other = async || master(lab, sentinel).ok().filter(|now| now != old);
    wait::within(VOTE_AGAIN_AFTER + FAIL_OVER_MAX, "another master", is_other).await
}

/// In which vote the master of now was made it, by what a sentinel says; 0 for the first master.
fn vote(lab: &Lab, sentinel: &str) -> Result<u32> {
    let told = lab.admin(sentinel, &["SENTINEL", "MASTER", "tidegate"])?;
    let epoch = told.lines().skip_while(|line| *line != "config-epoch").nth(1);
    Ok(epoch.context("an epoch")?.parse()?)
}

/// Has the first master take a write, and waits until the replicas have it.
async fn counted(lab: &Lab) -> Result<()> {
    ensure!(lab.say("tidegate-redis-0", "tidegate", &["SET", "tidegate:it", "counted"])? == "OK");
    wait::until("the replicas to have it", async || {
        (lab.admin("tidegate-redis-0", &["WAIT", "2", "100"]).ok()? == "2").then_some(())
    })
    .await
}

#[test]
fn a_crashed_master_is_replaced_keeps_no_write_to_itself_and_comes_back_as_a_replica() -> Result<()>
{
    stage(async {
        let lab = trio().await?;
        ensure!(
            master(&lab, "tidegate-sentinel-0")? == "tidegate-redis-0",
            "the first is the first master"
        );
        counted(&lab).await?;

        lab.kill("tidegate-redis-0")?;
        let crashed = Instant::now();
        let new = replaced(&lab, "tidegate-redis-0", "tidegate-sentinel-1").await?;
        // It takes writes once the other replica follows it: `min-replicas-to-write`.
        wait::until("a write", async || {
            (lab.say(&new, "tidegate", &["SET", "tidegate:more", "counted"]).ok()? == "OK")
                .then_some(())
        })
        .await?;
        let took = crashed.elapsed();
        let votes = vote(&lab, "tidegate-sentinel-1")?;
        ensure!(took < FAIL_OVER_MAX || votes > 1, "{took:?}, by the first vote");
        eprintln!("a crashed master was replaced, and its successor took a write, in {took:?}");
        ensure!(lab.admin(&new, &["GET", "tidegate:it"])? == "counted");

        // A sentinel that starts anew remembers, whatever its settings call the first.
        replaced(&lab, "tidegate-redis-0", "tidegate-sentinel-0").await?;
        lab.kill("tidegate-sentinel-0")?;
        lab.start("tidegate-sentinel-0")?;
        lab.ready("sentinel", &["tidegate-sentinel-0"]).await?;
        ensure!(master(&lab, "tidegate-sentinel-0")? == new);

        lab.start("tidegate-redis-0")?;
        lab.ready("server", &SERVERS).await?;
        ensure!(
            !lab.log("tidegate-redis-0")?.contains("starting as the master"),
            "never, not for a moment"
        );
        ensure!(lab.admin("tidegate-redis-0", &["GET", "tidegate:more"])? == "counted");
        ensure!(lab.refusals()? == [""; 0], "{:?}", lab.refusals()?);
        Ok(())
    })
}

#[test]
fn a_master_whose_disk_is_lost_leaves_its_place_to_a_replica_that_has_the_data() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        counted(&lab).await?;
        lab.kill("tidegate-redis-0")?;
        lab.wipe("tidegate-redis-0")?;
        // At once, as Kubernetes would: the sentinels still call it the master.
        lab.start("tidegate-redis-0")?;
        let new = replaced(&lab, "tidegate-redis-0", "tidegate-sentinel-0").await?;
        lab.ready("server", &SERVERS).await?;
        ensure!(lab.log("tidegate-redis-0")?.contains("waiting for one of them to be it"));
        for pod in [new.as_str(), "tidegate-redis-0"] {
            ensure!(lab.admin(pod, &["GET", "tidegate:it"])? == "counted", "{pod}");
        }
        Ok(())
    })
}

#[test]
fn no_server_is_master_by_its_own_word() -> Result<()> {
    stage(async {
        with_ports(async |ports| {
            let lab = pods(ports)?;
            let waits = |times: usize| {
                let text = "waiting for most sentinels";
                let lab = &lab;
                async move {
                    wait::until("it to wait", async || {
                        (lab.log("tidegate-redis-0").ok()?.matches(text).count() >= times)
                            .then_some(())
                    })
                    .await
                }
            };
            lab.start("tidegate-redis-0")?;
            waits(2).await?;
            lab.start("tidegate-sentinel-0")?;
            wait::until("the sentinel to answer", async || {
                master(&lab, "tidegate-sentinel-0").ok().filter(|pod| pod == "tidegate-redis-0")
            })
            .await?;
            // One sentinel may be the part that was cut off.
            let before = lab.log("tidegate-redis-0")?.matches("waiting for most sentinels").count();
            waits(before + 2).await?;
            ensure!(lab.probe("tidegate-redis-0", &["alive"])?.is_some(), "it listens already");
            lab.start("tidegate-sentinel-1")?;
            lab.ready("server", &["tidegate-redis-0"]).await?;
            ensure!(lab.log("tidegate-redis-0")?.contains("starting as the master"));
            Ok(())
        })
        .await
    })
}

#[test]
fn a_master_that_ends_on_purpose_hands_over_first() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        lab.script("tidegate-redis-1", "leave.sh", &[])?;
        ensure!(
            master(&lab, "tidegate-sentinel-0")? == "tidegate-redis-0",
            "a replica has nothing to hand over"
        );
        let start = Instant::now();
        lab.script("tidegate-redis-0", "leave.sh", &[])?;
        let took = start.elapsed();
        let is_other = |pod: &str| master(&lab, pod).is_ok_and(|now| now != "tidegate-redis-0");
        ensure!(SENTINELS.into_iter().any(is_other), "still the master after {took:?}");
        // The others hear of it from the one that did it.
        let new = replaced(&lab, "tidegate-redis-0", "tidegate-sentinel-0").await?;
        lab.kill("tidegate-redis-0")?;
        wait::until("a write", async || {
            (lab.say(&new, "tidegate", &["SET", "tidegate:it", "1"]).ok()? == "OK").then_some(())
        })
        .await?;
        eprintln!("a master handed over in {took:?}");
        Ok(())
    })
}
