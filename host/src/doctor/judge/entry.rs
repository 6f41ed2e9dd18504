//! Who lets us in, with which certificate, and as whom.

use super::Situation;
use crate::doctor::finding::Finding;
use std::time::{Duration, SystemTime};
use tidegate_redis::Tls;
use tidegate_redis::inspect::{Entry, Expected, NoEntry, ServerSight, Stage};

/// Days before its end when a certificate is to be replaced, and when it is an emergency.
const CERTIFICATE_DAYS: [u64; 2] = [30, 7];

/// On a server.
pub(super) fn of_server(situation: &Situation<'_>, server: &ServerSight) -> Vec<Finding> {
    let is_needed = !server.is_replica() && server.expected != Expected::Replica;
    let tls = situation.settings.access.tls.as_ref();
    let mut findings =
        entry(&server.address.to_string(), &server.entry, tls, situation.now, is_needed);
    // Who may not ask for its own name has few rights, as it should be.
    if let Some(user) = server.user.is() {
        let mut found = Finding::ok("user", &server.address, user.clone());
        if server.may_flush.is() == Some(&true) {
            found.found += ", who may do everything";
            found = found.remedy("a user of its own, with few rights, would do less harm");
        }
        findings.push(found);
    }
    findings
}

/// On anybody: `is_needed` is whether nothing goes on without.
pub(super) fn entry(
    subject: &str,
    entry: &Result<Entry, NoEntry>,
    tls: Option<&Tls>,
    now: SystemTime,
    is_needed: bool,
) -> Vec<Finding> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(why) => {
            let found = match is_needed {
                true => Finding::critical("reach", subject, why.text.clone()),
                false => Finding::warning("reach", subject, why.text.clone()),
            };
            return vec![found.remedy(way_in(why.stage))];
        }
    };
    let millis = entry.took.as_secs_f64() * 1e3;
    let mut findings = vec![Finding::ok("reach", subject, format!("in {millis:.1} ms"))];
    let Some(tls) = tls else { return findings };
    if tls.insecure_skip_verify {
        findings.push(
            Finding::warning("certificate", subject, "any would do: insecure_skip_verify is set")
                .remedy("name whoever signs it in tls.ca_file, and unset insecure_skip_verify"),
        );
    }
    if let Some(certificate) = entry.certificate {
        findings.push(certificate_ends(subject, certificate.expires, now));
    }
    findings
}

fn certificate_ends(subject: &str, expires: SystemTime, now: SystemTime) -> Finding {
    const DAY: Duration = Duration::from_secs(86_400);
    let left = expires.duration_since(now).unwrap_or_default();
    let days = left.as_secs() / DAY.as_secs();
    let found = match left.is_zero() {
        true => "has ended".to_owned(),
        false => format!("ends in {days} days"),
    };
    let [soon, now] = CERTIFICATE_DAYS;
    let remedy = "give the server a new one; it is used by the next connection";
    match days {
        days if days < now => Finding::critical("certificate", subject, found).remedy(remedy),
        days if days < soon => Finding::warning("certificate", subject, found).remedy(remedy),
        _ => Finding::ok("certificate", subject, found),
    }
}

const fn way_in(stage: Stage) -> &'static str {
    match stage {
        Stage::Files => "let this user read the files that the configuration names",
        Stage::Resolve => "make the name known here, or give an address that is",
        Stage::Connect => "see that it runs, and that nothing on the way blocks its port",
        Stage::Tls => "see tls.ca_file, tls.server_name and the server's certificate",
        Stage::SignIn => "see what the server says, above, and in its log",
        Stage::Refused => "see the user and its password, here and on the server (ACL LIST)",
    }
}
