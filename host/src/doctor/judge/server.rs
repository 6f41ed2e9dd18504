//! One server by itself: its version, memory, eviction, disk, clients, and the script.

use super::mebibytes;
use crate::doctor::finding::{Finding, Level};
use std::time::Duration;
use tidegate_redis::Settings;
use tidegate_redis::inspect::{Expected, Info, Script, ServerSight, Told};

/// What all of this is tested with, and with what scripts count right at all: since 5.0 their
/// effects are replicated, not they themselves.
const VERSIONS: [(u64, u64); 2] = [(7, 0), (5, 0)];

/// Percent of `maxmemory` in use.
const MEMORY_PERCENT: [u64; 2] = [80, 95];

/// Percent of all memory of its machine, where there is no `maxmemory`.
const MACHINE_PERCENT_MAX: u64 = 60;

/// Percent of `maxclients` connected.
const CLIENTS_PERCENT_MAX: u64 = 90;

/// A median beyond this leaves little of the 20 ms that proxies wait by default.
const SCRIPT_SLOW: Duration = Duration::from_millis(5);

pub(super) fn findings(settings: &Settings, server: &ServerSight) -> Vec<Finding> {
    let subject = server.address.to_string();
    let mut findings = Vec::new();
    match &server.info {
        Told::Is(info) => {
            findings.extend(version(&subject, info));
            findings.extend(role(&subject, server, info));
            findings.extend(memory(&subject, info));
            findings.extend(eviction(&subject, info));
            findings.extend(disk(&subject, info));
            findings.extend(clients(&subject, info));
        }
        Told::NotAllowed => findings.push(
            Finding::new(Level::NotAllowed, "info", &subject, "not allowed to ask (INFO)").remedy(
                "give the user +info: without, a fail-over that lost writes is not noticed",
            ),
        ),
        Told::Failed(why) => {
            findings.push(Finding::warning("info", &subject, format!("INFO: {why}")));
        }
    }
    if let Some(ran) = &server.script {
        findings.push(script(&subject, settings, ran));
    }
    findings
}

fn version(subject: &str, info: &Info) -> Option<Finding> {
    let version = info.version()?;
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let number = (parts.next()?, parts.next().unwrap_or(0));
    let [tested, least] = VERSIONS;
    Some(if number < least {
        Finding::critical("version", subject, format!("{version}: too old to count right"))
            .remedy("use Redis 7 or later, or Valkey")
    } else if number < tested {
        Finding::warning("version", subject, format!("{version}: nobody tries that any more"))
            .remedy("use Redis 7 or later, or Valkey")
    } else {
        Finding::ok("version", subject, version)
    })
}

fn role(subject: &str, server: &ServerSight, info: &Info) -> Option<Finding> {
    let is_master = info.is_master()?;
    if info.number("loading") == Some(1) {
        return Some(
            Finding::critical("role", subject, "it reads its data from disk")
                .remedy("wait; if it takes long, give it less data or a faster disk"),
        );
    }
    match (server.expected, is_master) {
        (Expected::Master, false) => Some(
            Finding::critical("role", subject, "it is a replica, and takes no writes")
                .remedy("give the master's address, or let sentinels name it"),
        ),
        (Expected::Replica, true) => Some(
            Finding::critical("role", subject, "a second master: sentinels call it a replica")
                .remedy("make it a replica again (REPLICAOF); sentinels do so after ten seconds"),
        ),
        _ => None,
    }
}

fn memory(subject: &str, info: &Info) -> Option<Finding> {
    let used = info.number("used_memory")?;
    let max = info.number("maxmemory").unwrap_or(0);
    if max == 0 {
        let machine = info.number("total_system_memory").unwrap_or(0);
        let found = format!("{} used, of any number: maxmemory is not set", mebibytes(used));
        return Some(if machine > 0 && used * 100 > machine * MACHINE_PERCENT_MAX {
            Finding::warning("memory", subject, found)
                .remedy("set maxmemory: the system kills what takes all of its memory")
        } else {
            Finding::ok("memory", subject, found)
        });
    }
    let percent = used * 100 / max;
    let found = format!("{} of {} used, {percent} %", mebibytes(used), mebibytes(max));
    let [high, full] = MEMORY_PERCENT;
    let remedy = "raise maxmemory, or find the limit that makes so many keys";
    Some(match percent {
        percent if percent >= full => Finding::critical("memory", subject, found).remedy(remedy),
        percent if percent >= high => Finding::warning("memory", subject, found).remedy(remedy),
        _ => Finding::ok("memory", subject, found),
    })
}

/// Of the policy that `INFO` tells: `CONFIG` is often forbidden.
fn eviction(subject: &str, info: &Info) -> Option<Finding> {
    let policy = info.text("maxmemory_policy")?;
    let evicted = info.number("evicted_keys").unwrap_or(0);
    let lost = match evicted {
        0 => String::new(),
        some => format!(", and has evicted {some} keys"),
    };
    if policy == "noeviction" {
        return Some(match evicted {
            0 => Finding::ok("eviction", subject, policy),
            _ => Finding::warning("eviction", subject, format!("{policy} now{lost} before"))
                .remedy("give it more memory before it is full again"),
        });
    }
    let what = match policy.starts_with("allkeys-") {
        true => "drops any key when it is full: counts, and the log of revocations",
        false => "drops keys that expire when it is full: counts",
    };
    Some(
        Finding::warning("eviction", subject, format!("{policy} {what}{lost}"))
            .remedy("set maxmemory-policy noeviction, and alert on memory"),
    )
}

fn disk(subject: &str, info: &Info) -> Option<Finding> {
    let failed = [
        ("rdb_last_bgsave_status", "its last snapshot failed"),
        ("aof_last_write_status", "its last write to the log failed"),
        ("aof_last_bgrewrite_status", "the log's last rewrite failed"),
    ];
    let failed: Vec<&str> = failed
        .into_iter()
        .filter(|(name, _)| info.text(name).is_some_and(|status| status != "ok"))
        .map(|(_, what)| what)
        .collect();
    if failed.is_empty() {
        let status = info.text("rdb_last_bgsave_status")?;
        return Some(Finding::ok("disk", subject, status));
    }
    Some(
        Finding::warning("disk", subject, failed.join(", "))
            .remedy("free its disk, or see its log: with stop-writes-on-bgsave-error it stops"),
    )
}

fn clients(subject: &str, info: &Info) -> Option<Finding> {
    let (clients, max) = (info.number("connected_clients")?, info.number("maxclients")?);
    let found = format!("{clients} of {max}");
    Some(if clients * 100 >= max * CLIENTS_PERCENT_MAX {
        Finding::warning("clients", subject, found)
            .remedy("raise maxclients, or see CLIENT LIST for who keeps so many connections")
    } else {
        Finding::ok("clients", subject, found)
    })
}

fn script(subject: &str, settings: &Settings, script: &Script) -> Finding {
    let (median, slowest) = match script {
        Script::Ran { median, slowest } => (*median, *slowest),
        Script::Refused { kind, text } => {
            return Finding::critical("script", subject, text.clone()).remedy(way_to_run(kind));
        }
    };
    let millis = |span: Duration| span.as_secs_f64() * 1e3;
    let found = format!(
        "half of the runs within {:.2} ms, all within {:.2} ms",
        millis(median),
        millis(slowest)
    );
    let remedy = "look for a slow network, a busy processor, or commands in SLOWLOG";
    if median >= settings.read_timeout {
        let late = format!("{found}: read_timeout is {:?}", settings.read_timeout);
        return Finding::critical("script", subject, late).remedy(remedy);
    }
    if median >= SCRIPT_SLOW {
        return Finding::warning("script", subject, found).remedy(remedy);
    }
    Finding::ok("script", subject, found)
}

/// What lets the script run, by why it did not.
fn way_to_run(kind: &str) -> &'static str {
    match kind {
        "not_allowed" => {
            "give the user ~tidegate:* +evalsha +script|load +mget +set +time (ACL SETUSER)"
        }
        "out_of_memory" => "raise maxmemory, or find the limit that makes so many keys",
        "no_writes" => "bring its replicas back, or its disk: it takes no writes meanwhile",
        "read_only" => "give the master's address, or let sentinels name it",
        "loading" => "wait until it has read its data",
        "blocked" => "end the script that runs (SCRIPT KILL)",
        "moved" | "ask" | "cluster_down" => {
            "see the findings on the cluster; a node of one wants cluster_mode: true"
        }
        "cluster_stopped" => {
            "bring the lost shard back; cluster-require-full-coverage no keeps the others going"
        }
        "unknown_outcome" => "look for a frozen or very busy server",
        _ => "see the server's log",
    }
}
