//! Whether clocks agree. Counts are kept by the master's clock: with a successor's that is ahead,
//! budgets fill up at once by so much; with one that is behind, clients wait that much longer.

use crate::doctor::finding::{Finding, Level};
use tidegate_redis::inspect::{ServerSight, Told};

/// Apart by so much: tokens of 100 ms too many, or too few. And by so much: it shows.
const APART_US: [u64; 2] = [100_000, 5_000_000];

/// This machine's clock counts nothing, but tells certificates' ends, and stands in logs.
const AWAY_US_MAX: u64 = 2_000_000;

pub(super) fn findings(servers: &[ServerSight]) -> Vec<Finding> {
    let mut clocks = Vec::new();
    let mut findings = Vec::new();
    for server in servers.iter().filter(|server| server.entry.is_ok()) {
        match &server.clock {
            Told::Is((ahead, off)) => clocks.push((server.address.to_string(), *ahead, *off)),
            told => findings.extend(Finding::unanswered("clock", &server.address, told, "TIME")),
        }
    }
    let ahead = clocks.iter().max_by_key(|(_, ahead, _)| *ahead);
    let behind = clocks.iter().min_by_key(|(_, ahead, _)| *ahead);
    if let (Some((first, most, off_first)), Some((last, least, off_last))) = (ahead, behind)
        && clocks.len() > 1
    {
        // Only what cannot be the round trips' doing.
        let apart = most.abs_diff(*least).saturating_sub(off_first + off_last);
        let found = format!("{} ms apart, {first} and {last} most", apart / 1_000);
        findings.push(by_distance(apart, found));
    }
    for (subject, ahead, off) in &clocks {
        let away = ahead.unsigned_abs().saturating_sub(*off);
        if away > AWAY_US_MAX {
            let side = if *ahead > 0 { "ahead of" } else { "behind" };
            let found = format!("{} ms {side} this machine's", away / 1_000);
            findings.push(
                Finding::warning("clock", subject, found).remedy("set both by NTP; one is wrong"),
            );
        }
    }
    if findings.is_empty() && !clocks.is_empty() {
        findings.push(Finding::ok("clock", "", "as this machine's"));
    }
    findings
}

fn by_distance(apart: u64, found: String) -> Finding {
    let [much, more] = APART_US;
    let level = match apart {
        apart if apart >= more => Level::Critical,
        apart if apart >= much => Level::Warning,
        _ => Level::Ok,
    };
    let finding = Finding::new(level, "clock", "", found);
    match level {
        Level::Ok => finding,
        _ => finding.remedy("set the nodes' clocks by NTP: at a fail-over counts jump by so much"),
    }
}
