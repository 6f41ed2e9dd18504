//! Security events: of Continuous Access Evaluation (CAEP 1.0) and of Risk Incident Sharing
//! (RISC 1.0), those after which somebody's tokens are to be refused.
//!
//! A receiver that does not know an event leaves it (RFC 8417 section 2), and so do we with those
//! that leave sessions as they are, and with the transmitter's looks whether we are there.

use super::Refused;
use super::claims::{Claims, secs};
use super::subject;
use super::told::{Told, Whose};
use serde_json::Value;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A session, or all of a user's.
    Session,
    /// An account, and so all that it was issued.
    Account,
}

/// Events after which what the subject holds is refused.
const REVOKING: [(&str, About); 6] = [
    ("https://schemas.openid.net/secevent/caep/event-type/session-revoked", About::Session),
    ("https://schemas.openid.net/secevent/risc/event-type/sessions-revoked", About::Account),
    ("https://schemas.openid.net/secevent/risc/event-type/account-disabled", About::Account),
    ("https://schemas.openid.net/secevent/risc/event-type/account-purged", About::Account),
    ("https://schemas.openid.net/secevent/risc/event-type/credential-compromise", About::Account),
    ("https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked", About::Account),
];

/// What these events have revoked, and when each happened: at the latest when it was told.
///
/// # Errors
///
/// If one of them is about somebody whom no token names.
pub(super) fn told(claims: &Claims, whose: &Whose<'_>) -> Result<Vec<(Told, u64)>, Refused> {
    let mut all = Vec::new();
    for (kind, event) in &claims.events {
        let Some((_, about)) = REVOKING.iter().find(|(known, _)| known == kind) else { continue };
        // Drafts, and RISC as it was first built, have it in the event.
        let Some(subject) = claims.sub_id.as_ref().or_else(|| event.get("subject")) else {
            return Err(Refused::request("sub_id: is missing, wanted whom it is about"));
        };
        let happened = match event.get("event_timestamp") {
            Some(Value::Number(at)) => secs(at),
            _ => claims.happened_secs(),
        };
        let happened = happened.min(claims.issued_secs());
        let told = subject::told(subject, *about, whose)?;
        all.extend(told.into_iter().map(|told| (told, happened)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CAEP: &str = REVOKING[0].0;
    const RISC: &str = REVOKING[2].0;

    fn read(claims: Value) -> Result<Vec<(Value, u64)>, String> {
        let whose = Whose { issuer: "i", token_issuers: &["i".to_owned()] };
        let told = told(&Claims::made_up(claims), &whose).map_err(|refused| refused.what)?;
        Ok(told.iter().map(|(told, at)| (told.named(), *at)).collect())
    }

    #[test]
    fn it_holds_from_when_it_happened() {
        let alice = json!({ "format": "iss_sub", "iss": "i", "sub": "alice" });
        let revoked = |at: u64| Ok(vec![(json!({ "iss": "i", "sub": "alice" }), at)]);
        let event = |event: Value| json!({ "iat": 30, "sub_id": alice, "events": { CAEP: event } });
        assert_eq!(read(event(json!({}))), revoked(30));
        assert_eq!(read(event(json!({ "event_timestamp": 20 }))), revoked(20));
        assert_eq!(read(event(json!({ "event_timestamp": 20_000 }))), revoked(30));
        let toe = json!({ "iat": 30, "toe": 10, "sub_id": alice, "events": { CAEP: {} } });
        assert_eq!(read(toe), revoked(10));
        let old = json!({ "subject_type": "iss-sub", "iss": "i", "sub": "alice" });
        let old =
            json!({ "iat": 30, "events": { RISC: { "subject": old, "reason": "hijacking" } } });
        assert_eq!(read(old), revoked(30));
    }

    #[test]
    fn what_leaves_sessions_as_they_are_is_left() {
        for kind in [
            "https://schemas.openid.net/secevent/ssf/event-type/verification",
            "https://schemas.openid.net/secevent/caep/event-type/assurance-level-change",
            "http://schemas.openid.net/event/backchannel-logout",
            "",
        ] {
            assert_eq!(read(json!({ "iat": 1, "events": { kind: {} } })), Ok(vec![]), "{kind}");
        }
        assert_eq!(read(json!({ "iat": 1, "events": {} })), Ok(vec![]));
        let nobody = read(json!({ "iat": 1, "events": { CAEP: {} } })).unwrap_err();
        assert!(nobody.contains("sub_id: is missing"), "{nobody}");
    }
}
