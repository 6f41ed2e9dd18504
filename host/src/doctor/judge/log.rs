//! Whether the log of revocations is fit for hosts that share it. They notice what it loses, and
//! put it back; what is found here is why they would have to.

use crate::doctor::finding::Finding;
use tidegate_redis::inspect::{Info, LogSight, ServerSight, Told};

/// Since this version a stream is cut by the id of an entry.
const VERSION_LEAST: (u64, u64) = (6, 2);

const CHECK: &str = "revocations";

/// `seen` is what came of looking at it, or why it could not be looked at.
pub(super) fn findings(servers: &[ServerSight], seen: &Result<LogSight, String>) -> Vec<Finding> {
    let mut findings = vec![log(seen)];
    for server in servers.iter().filter(|server| !server.is_replica()) {
        if let Told::Is(info) = &server.info {
            let subject = server.address.to_string();
            findings.extend(version(&subject, info));
            findings.extend(eviction(&subject, info));
            findings.extend(disk(&subject, info));
        }
    }
    findings
}

fn log(seen: &Result<LogSight, String>) -> Finding {
    match seen {
        Err(why) => Finding::critical(CHECK, "", format!("their log cannot be reached: {why}"))
            .remedy("see the findings on each server; until then nothing can be revoked"),
        Ok(LogSight { refused, .. }) if !refused.is_empty() => {
            let (_, why) = &refused[0];
            let commands: Vec<_> = refused.iter().map(|(command, _)| *command).collect();
            let found = format!("{} on their log refused: {why}", commands.join(", "));
            Finding::critical(CHECK, "", found).remedy(match why.contains("not_allowed") {
                true => {
                    "give the user ~tidegate:* +xadd +xread +xrange +xrevrange +xtrim +unlink \
                     +wait (ACL SETUSER)"
                }
                false => "see what the server says, above; until then nothing can be revoked",
            })
        }
        Ok(LogSight { entries: 0, .. }) => {
            Finding::ok(CHECK, "", "there is no log of them yet: the first host begins it")
        }
        Ok(LogSight { entries, .. }) => {
            Finding::ok(CHECK, "", format!("their log has {entries} entries"))
        }
    }
}

fn version(subject: &str, info: &Info) -> Option<Finding> {
    let version = info.version()?;
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let number = (parts.next()?, parts.next().unwrap_or(0));
    (number < VERSION_LEAST).then(|| {
        Finding::critical(CHECK, subject, format!("{version} cannot cut their log"))
            .remedy("use Redis 7 or later, or Valkey")
    })
}

fn eviction(subject: &str, info: &Info) -> Option<Finding> {
    let policy = info.text("maxmemory_policy")?;
    policy.starts_with("allkeys-").then(|| {
        let found = format!("{policy} drops their log when it is full; hosts put it back");
        Finding::warning(CHECK, subject, found)
            .remedy("set maxmemory-policy noeviction, or one of volatile-*: the log has no TTL")
    })
}

fn disk(subject: &str, info: &Info) -> Option<Finding> {
    (info.number("aof_enabled") == Some(0)).then(|| {
        let found =
            "appendonly is off: after a restart what was revoked last is with the hosts alone";
        Finding::warning(CHECK, subject, found)
            .remedy("set appendonly yes; and keep revocations.data_dir of two hosts on volumes")
    })
}
