//! Whether every slot is somebody's, and whether all nodes agree whose.

use super::Situation;
use crate::doctor::finding::Finding;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_redis::Address;
use tidegate_redis::inspect::{ClusterView, ServerSight, Told};

/// Slots of a cluster.
const SLOTS: u32 = 16_384;

pub(super) fn findings(situation: &Situation<'_>) -> Vec<Finding> {
    let servers = &situation.sight.servers;
    let views: Vec<(&Address, &ClusterView)> = servers
        .iter()
        .filter_map(|server| Some((&server.address, server.cluster.as_ref()?.is()?)))
        .collect();
    let mut findings: Vec<Finding> =
        servers.iter().filter(|server| server.entry.is_ok()).filter_map(unseen).collect();
    if views.is_empty() {
        findings.push(
            Finding::critical("cluster", "", "no node tells how the cluster is")
                .remedy("see the findings on each node"),
        );
        return findings;
    }
    findings.extend(views.iter().filter_map(|(subject, view)| state(subject, view)));
    findings.push(coverage(&views));
    findings.push(agreement(&views));
    findings.extend(moving(&views));
    findings.extend(failed(&views));
    findings.extend(servers.iter().filter_map(full_coverage));
    findings.extend(servers.iter().filter_map(asking));
    let not_told = |server: &&ServerSight| server.full_coverage == Some(Told::NotAllowed);
    if let Some(told) = servers.iter().find(not_told).and_then(|it| it.full_coverage.as_ref()) {
        let what = "CONFIG GET cluster-require-full-coverage";
        findings.extend(Finding::unanswered("coverage", "", told, what));
    }
    findings
}

fn unseen(server: &ServerSight) -> Option<Finding> {
    match server.cluster.as_ref()? {
        Told::Is(_) => None,
        Told::NotAllowed => Some(
            Finding::critical("cluster", &server.address, "does not tell us how the cluster is")
                .remedy("give the user +cluster|slots +cluster|nodes +asking (ACL SETUSER)"),
        ),
        Told::Failed(why) => Some(
            Finding::critical("cluster", &server.address, why.clone())
                .remedy("is it a node of a cluster? Otherwise leave cluster_mode out"),
        ),
    }
}

fn state(subject: &Address, view: &ClusterView) -> Option<Finding> {
    (!view.is_ok).then(|| {
        Finding::critical("cluster", subject, "takes no requests: cluster_state is fail")
            .remedy("bring back whoever served the slots that are missing, below")
    })
}

/// By the node that sees most: a single one may be cut off.
fn coverage(views: &[(&Address, &ClusterView)]) -> Finding {
    let covered = |view: &ClusterView| {
        let alive = view.nodes.iter().filter(|node| !node.is("fail"));
        let ranges = alive.flat_map(|node| &node.slots);
        let mut slots: Vec<(u16, u16)> =
            ranges.map(|range| (*range.start(), *range.end())).collect();
        slots.sort_unstable();
        slots
    };
    let best = views.iter().map(|(_, view)| covered(view)).max_by_key(|slots| size(slots));
    let best = best.unwrap_or_default();
    let count = size(&best);
    if count >= SLOTS {
        return Finding::ok("slots", "", "all are served");
    }
    let missing = SLOTS - count;
    Finding::critical("slots", "", format!("{missing} of {SLOTS} are not served: {}", gaps(&best)))
        .remedy("bring their master or its replica back; else `redis-cli --cluster fix`")
}

fn size(slots: &[(u16, u16)]) -> u32 {
    slots.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
}

/// What is between.
fn gaps(slots: &[(u16, u16)]) -> String {
    let mut next = 0;
    let mut gaps = Vec::new();
    let end = [(SLOTS as u16, SLOTS as u16)];
    for (first, last) in slots.iter().chain(&end) {
        if *first > next {
            gaps.push(format!("{next}-{}", first - 1));
        }
        next = last.saturating_add(1);
    }
    gaps.join(", ")
}

fn agreement(views: &[(&Address, &ClusterView)]) -> Finding {
    let mut by_view: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (subject, view) in views {
        by_view.entry(view.owners()).or_default().push(subject.to_string());
    }
    if by_view.len() == 1 {
        return Finding::ok(
            "agreement",
            "",
            format!("{} nodes agree who serves what", views.len()),
        );
    }
    let few = by_view.into_values().min_by_key(Vec::len).unwrap_or_default();
    Finding::warning("agreement", "", format!("{} see other owners of slots", few.join(", ")))
        .remedy("wait some seconds; if they still do, see the network to them")
}

fn moving(views: &[(&Address, &ClusterView)]) -> Option<Finding> {
    let moving: usize = views
        .iter()
        .flat_map(|(_, view)| view.nodes.iter().filter(|node| node.is("myself")))
        .map(|node| node.moving)
        .sum();
    (moving > 0).then(|| {
        Finding::warning("slots", "", format!("some are on their way ({moving} ends)"))
            .remedy("let the reshard end; `redis-cli --cluster fix` mends one that was cut off")
    })
}

/// Nodes that others take for failed.
fn failed(views: &[(&Address, &ClusterView)]) -> Vec<Finding> {
    let mut failed: BTreeMap<&str, (bool, BTreeSet<String>)> = BTreeMap::new();
    for (subject, view) in views {
        for node in view.nodes.iter().filter(|node| node.is("fail") || node.is("fail?")) {
            let entry = failed.entry(&node.address).or_default();
            entry.0 |= !node.slots.is_empty();
            entry.1.insert(subject.to_string());
        }
    }
    failed
        .into_iter()
        .map(|(who, (serves, by))| {
            let found = format!("{} of {} nodes take it for failed", by.len(), views.len());
            let finding = match serves {
                true => Finding::critical("nodes", who, format!("{found}, and it serves slots")),
                false => Finding::warning("nodes", who, found),
            };
            finding.remedy("bring it back; CLUSTER FORGET, on all, if it is gone for good")
        })
        .collect()
}

fn asking(server: &ServerSight) -> Option<Finding> {
    match server.asking.as_ref()? {
        Told::NotAllowed => Some(
            Finding::warning("rights", &server.address, "keys on their way cannot be followed")
                .remedy("give the user +asking (ACL SETUSER)"),
        ),
        _ => None,
    }
}

fn full_coverage(server: &ServerSight) -> Option<Finding> {
    match server.full_coverage.as_ref()?.is()? {
        false => None,
        true => Some(
            Finding::warning("coverage", &server.address, "one lost shard stops all others")
                .remedy("set cluster-require-full-coverage no"),
        ),
    }
}
