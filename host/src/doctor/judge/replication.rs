//! Masters and their replicas: whether another could take over, and with which data.

use super::Situation;
use crate::doctor::finding::Finding;
use tidegate_redis::Servers;
use tidegate_redis::inspect::{Info, ServerSight, Told};

/// A replica acknowledges once a second. So many seconds without, and what it would lack after a
/// fail-over is no longer a little.
const LAG_SECONDS_MAX: u64 = 3;

pub(super) fn findings(situation: &Situation<'_>, server: &ServerSight) -> Vec<Finding> {
    let Told::Is(info) = &server.info else { return Vec::new() };
    let subject = server.address.to_string();
    match info.is_master() {
        Some(true) => of_master(situation, server, info, &subject),
        Some(false) => vec![of_replica(info, &subject)],
        None => Vec::new(),
    }
}

fn of_master(
    situation: &Situation<'_>,
    server: &ServerSight,
    info: &Info,
    subject: &str,
) -> Vec<Finding> {
    // Nobody replaces the one server there is.
    let is_replaced = !matches!(situation.settings.servers, Servers::Standalone(_));
    let serves =
        server.cluster.as_ref().and_then(Told::is).is_none_or(|it| !it.own_slots().is_empty());
    let replicas = info.replicas();
    let written = info.number("master_repl_offset").unwrap_or(0);
    let mut findings: Vec<Finding> = replicas
        .iter()
        .map(|replica| {
            let behind = written.saturating_sub(replica.offset);
            let who = format!("replica {}", replica.address);
            let lag = replica.lag_seconds.unwrap_or(u64::MAX);
            if !replica.is_online {
                Finding::warning("replicas", subject, format!("{who} receives all data"))
                    .remedy("wait; if it begins again and again, raise repl-backlog-size")
            } else if lag > LAG_SECONDS_MAX {
                let found = match replica.lag_seconds {
                    Some(lag) => format!("{who} is silent for {lag} s, {behind} bytes behind"),
                    None => format!("{who} has not acknowledged anything"),
                };
                Finding::warning("replicas", subject, found)
                    .remedy("see that it runs, and the network between")
            } else {
                Finding::ok("replicas", subject, format!("{who} is {behind} bytes behind"))
            }
        })
        .collect();
    if replicas.is_empty() && is_replaced && serves {
        findings.push(
            Finding::critical("replicas", subject, "has none: if it is lost, nobody replaces it")
                .remedy(
                    "see why its replicas do not follow: their logs, masteruser and masterauth",
                ),
        );
    }
    if is_replaced && server.cluster.is_none() {
        findings.push(min_replicas(info, subject));
    }
    findings
}

/// `INFO` has a line on it only where it is set; how many it wants, only `CONFIG` would tell,
/// and whether they are enough, the script does.
fn min_replicas(info: &Info, subject: &str) -> Finding {
    let check = "min-replicas-to-write";
    match info.number("min_slaves_good_slaves") {
        None => Finding::warning(
            check,
            subject,
            "not set: a master that was replaced goes on taking writes, which are lost",
        )
        .remedy("set min-replicas-to-write 1 and min-replicas-max-lag 2"),
        Some(0) => Finding::critical(check, subject, "no replica follows: it takes no writes")
            .remedy("bring its replicas back"),
        Some(good) => Finding::ok(check, subject, format!("set, and {good} follow")),
    }
}

fn of_replica(info: &Info, subject: &str) -> Finding {
    let master = [info.text("master_host"), info.text("master_port")];
    let master = master.map(|part| part.unwrap_or("?")).join(":");
    if info.text("master_link_status") == Some("up") {
        return Finding::ok("replica", subject, format!("follows {master}"));
    }
    let since = info.number("master_link_down_since_seconds");
    let since = since.map_or(String::new(), |seconds| format!(" for {seconds} s"));
    Finding::warning("replica", subject, format!("has lost its master {master}{since}"))
        .remedy("see its log: the network, or masteruser and masterauth")
}
