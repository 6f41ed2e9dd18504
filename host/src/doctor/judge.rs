//! Facts in, findings out: every rule of what is well and what is not. Nothing is asked here.
//!
//! - `entry`: who lets us in, and with which certificate
//! - `server`: one server by itself: version, memory, eviction, disk, the script
//! - `replication`: masters and their replicas
//! - `clock`: whether the nodes' clocks agree
//! - `sentinel`: whether a master could be replaced
//! - `log`: whether the log of revocations is fit to be shared
//! - `cluster`: whether every slot is somebody's, and all agree whose

mod clock;
mod cluster;
mod entry;
mod log;
mod replication;
mod sentinel;
mod server;
#[cfg(test)]
mod tests;

use super::finding::Finding;
use crate::config::{Config, Provider};
use std::time::SystemTime;
use tidegate_redis::inspect::{LogSight, Sight};
use tidegate_redis::{Servers, Settings};

/// All that there is to judge.
pub(super) struct Situation<'a> {
    pub(super) settings: &'a Settings,
    pub(super) sight: &'a Sight,
    pub(super) now: SystemTime,
}

/// Bytes that a key in this process's memory takes, about: 100 where it is asked for exactly,
/// and 150 where leases are asked of it.
const KEY_BYTES: u64 = 250;

/// What is examined.
pub(super) fn title(config: &Config) -> String {
    let settings = match &config.provider {
        Provider::Memory { .. } => return "The memory of this process: no Redis is set".to_owned(),
        Provider::Redis(settings) => settings,
    };
    match &settings.servers {
        Servers::Standalone(address) => format!("Redis at {address}"),
        Servers::Sentinel { master_name, sentinels, .. } => {
            format!("Redis master {master_name:?}, by the word of {} sentinels", sentinels.len())
        }
        Servers::Cluster { seeds } => format!("Redis Cluster, found from {} nodes", seeds.len()),
    }
}

/// The findings on a Redis, those about all of it first.
pub(super) fn redis(situation: &Situation<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Servers::Sentinel { .. } = &situation.settings.servers {
        findings.extend(sentinel::findings(situation));
    }
    if let Servers::Cluster { .. } = &situation.settings.servers {
        findings.extend(cluster::findings(situation));
    }
    for server in &situation.sight.servers {
        findings.extend(entry::of_server(situation, server));
        if server.entry.is_ok() {
            findings.extend(server::findings(situation.settings, server));
            findings.extend(replication::findings(situation, server));
        }
    }
    findings.extend(clock::findings(&situation.sight.servers));
    if situation.sight.unseen > 0 {
        findings.push(Finding::warning(
            "reach",
            "",
            format!("{} more servers were not looked at", situation.sight.unseen),
        ));
    }
    findings
}

/// The findings on the log of revocations, where hosts share one.
pub(super) fn shared_log(sight: &Sight, seen: &Result<LogSight, String>) -> Vec<Finding> {
    log::findings(&sight.servers, seen)
}

/// The findings on a store in this process's memory, on a machine of so many bytes.
pub(super) fn memory(keys_max: u32, machine_bytes: Option<u64>) -> Vec<Finding> {
    let bytes = u64::from(keys_max) * KEY_BYTES;
    let keys = format!("at most {keys_max} keys, about {}", mebibytes(bytes));
    let kept = Finding::ok(
        "store",
        "",
        "kept in memory: every key gets its budget once more when this process restarts, and \
         each process counts for itself",
    );
    let bound = match machine_bytes {
        Some(machine) if bytes > machine / 2 => {
            Finding::warning("memory", "", format!("{keys}, of {}", mebibytes(machine)))
                .remedy("lower memory.keys_max, or use Redis")
        }
        _ => Finding::ok("memory", "", keys),
    };
    vec![kept, bound]
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        some => format!("{some} MiB"),
    }
}
