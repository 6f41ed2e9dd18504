//! Whether a lost master would be replaced, and whether we would hear of it.

use super::{Situation, entry};
use crate::doctor::finding::Finding;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_redis::inspect::{SentinelSight, Told, Watched};
use tidegate_redis::{Address, Servers};

/// Two can agree on nothing once one is lost.
const SENTINELS_MIN: usize = 3;

pub(super) fn findings(situation: &Situation<'_>) -> Vec<Finding> {
    let Servers::Sentinel { access, .. } = &situation.settings.servers else { return Vec::new() };
    let sentinels = &situation.sight.sentinels;
    let mut findings = Vec::new();
    for sentinel in sentinels {
        let subject = sentinel.address.to_string();
        let tls = access.tls.as_ref();
        findings.extend(entry::entry(&subject, &sentinel.entry, tls, situation.now, false));
        if sentinel.entry.is_ok() {
            findings.extend(of_one(sentinel, &subject));
        }
    }
    findings.extend(count(sentinels));
    findings.extend(agreement(sentinels));
    findings.extend(of_master(sentinels));
    findings.extend(of_watched(sentinels));
    findings
}

/// What only concerns one of them.
fn of_one(sentinel: &SentinelSight, subject: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &sentinel.master {
        Told::Is(_) => {}
        Told::NotAllowed => findings.push(
            Finding::critical("sentinel", subject, "does not tell us who the master is").remedy(
                "give the user +sentinel|master +sentinel|get-master-addr-by-name (ACL SETUSER)",
            ),
        ),
        Told::Failed(why) => findings.push(
            Finding::critical("sentinel", subject, why.clone())
                .remedy("see sentinel_master_name: SENTINEL MASTERS tells the names it knows"),
        ),
    }
    match &sentinel.quorum {
        Told::Is(said) => findings.push(Finding::ok("quorum", subject, said.clone())),
        Told::NotAllowed => findings.extend(Finding::unanswered(
            "quorum",
            subject,
            &sentinel.quorum,
            "SENTINEL CKQUORUM",
        )),
        Told::Failed(why) => findings.push(
            Finding::critical("quorum", subject, why.clone())
                .remedy("bring sentinels back: a lost master would not be replaced"),
        ),
    }
    if let Told::NotAllowed | Told::Failed(_) = &sentinel.news {
        let why = match &sentinel.news {
            Told::Failed(why) => why.clone(),
            _ => "not allowed to".to_owned(),
        };
        findings.push(
            Finding::warning("news", subject, format!("cannot subscribe to +switch-master: {why}"))
                .remedy(
                    "give the user +subscribe &+switch-master: a switch is noticed later without",
                ),
        );
    }
    findings
}

fn count(sentinels: &[SentinelSight]) -> Vec<Finding> {
    let reached = sentinels.iter().filter(|sentinel| sentinel.entry.is_ok()).count();
    let known = sentinels.iter().filter_map(|sentinel| sentinel.others.is());
    let known = known.map(|others| others.len() + 1).max().unwrap_or(0);
    let all = known.max(sentinels.len());
    let found = format!("{reached} of {all} reached");
    let mut findings = vec![if reached * 2 <= all {
        Finding::critical("sentinels", "", format!("{found}: no majority"))
            .remedy("bring sentinels back: a lost master would not be replaced")
    } else if reached < sentinels.len() {
        Finding::warning("sentinels", "", found).remedy("bring the others back")
    } else {
        Finding::ok("sentinels", "", found)
    }];
    if all < SENTINELS_MIN {
        findings.push(
            Finding::warning("sentinels", "", format!("only {all}: none may be lost"))
                .remedy("run three, on three machines"),
        );
    }
    if known > sentinels.len() {
        let found = format!("{known} there are, {} are configured", sentinels.len());
        findings
            .push(Finding::warning("sentinels", "", found).remedy(
                "name all in redis.addresses; forget those that are gone (SENTINEL RESET)",
            ));
    }
    findings
}

/// Whether all call the same server the master, by the same vote.
fn agreement(sentinels: &[SentinelSight]) -> Option<Finding> {
    let views: Vec<(&Address, &Watched)> = sentinels
        .iter()
        .filter_map(|sentinel| Some((&sentinel.address, sentinel.master.is()?)))
        .collect();
    let masters: BTreeSet<String> =
        views.iter().map(|(_, master)| master.address.to_string()).collect();
    let mut epochs: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (sentinel, master) in &views {
        let epoch = master.number("config-epoch").unwrap_or(0);
        epochs.entry(epoch).or_default().push(sentinel.to_string());
    }
    let (epoch, _) = epochs.last_key_value()?;
    let one = masters.first()?;
    Some(if masters.len() > 1 {
        let masters: Vec<String> = masters.into_iter().collect();
        Finding::critical("agreement", "", format!("sentinels differ: {}", masters.join(", ")))
            .remedy("wait two seconds; if they still do, see the network between sentinels")
    } else if epochs.len() > 1 {
        let behind: Vec<&String> =
            epochs.iter().filter(|(other, _)| *other != epoch).flat_map(|(_, who)| who).collect();
        let found = format!("{one}, but {behind:?} know only an earlier vote than {epoch}");
        Finding::warning("agreement", "", found).remedy("see the network between sentinels")
    } else {
        Finding::ok("agreement", "", format!("all say {one}, by vote {epoch}"))
    })
}

/// What sentinels think of the master.
fn of_master(sentinels: &[SentinelSight]) -> Option<Finding> {
    let masters: Vec<&Watched> =
        sentinels.iter().filter_map(|sentinel| sentinel.master.is()).collect();
    let subject = masters.first()?.address.to_string();
    let by = |flag: &str| masters.iter().filter(|master| master.is(flag)).count();
    let (objectively, down) = (by("o_down"), by("s_down"));
    let remedy = "see the server; a new master is chosen within a second, or not at all";
    Some(if by("failover_in_progress") > 0 {
        Finding::warning("master", subject, "a fail-over is under way").remedy("wait some seconds")
    } else if objectively > 0 {
        Finding::critical("master", subject, "most sentinels take it for down (o_down)")
            .remedy(remedy)
    } else if down > 0 {
        let found = format!("{down} of {} sentinels take it for down (s_down)", masters.len());
        Finding::critical("master", subject, found).remedy(remedy)
    } else {
        Finding::ok("master", subject, "no sentinel takes it for down")
    })
}

/// Replicas and other sentinels that some sentinel has lost.
fn of_watched(sentinels: &[SentinelSight]) -> Vec<Finding> {
    let mut lost: BTreeMap<(&'static str, String), BTreeSet<String>> = BTreeMap::new();
    for sentinel in sentinels {
        let by = sentinel.address.to_string();
        for (what, watched) in [("replica", &sentinel.replicas), ("sentinel", &sentinel.others)] {
            // Links come and go; down is who was silent for long enough.
            for one in watched.is().into_iter().flatten().filter(|it| it.is("s_down")) {
                lost.entry((what, one.address.to_string())).or_default().insert(by.clone());
            }
        }
    }
    lost.into_iter()
        .map(|((what, who), by)| {
            let by: Vec<String> = by.into_iter().collect();
            Finding::warning("watched", &who, format!("a {what} that is lost to {}", by.join(", ")))
                .remedy("bring it back; if it is gone for good, SENTINEL RESET forgets it")
        })
        .collect()
}
