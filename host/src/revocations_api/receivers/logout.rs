//! OpenID Connect Back-Channel Logout 1.0: a session is over, or all of somebody's.

use super::Refused;
use super::claims::Claims;
use super::told::{Told, Whose};
use serde_json::Value;

/// What makes a logout token one (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a logout token has revoked: the session that it names, or, where it names none, whatever
/// the subject was issued until then.
///
/// # Errors
///
/// By which step of section 2.6 it is no logout token.
pub(super) fn told(claims: &Claims, whose: &Whose<'_>) -> Result<Vec<Told>, Refused> {
    if !claims.events.get(EVENT).is_some_and(Value::is_object) {
        return Err(Refused::request(format!("events: wanted an object by the name {EVENT}")));
    }
    if claims.nonce.is_some() {
        return Err(Refused::request("nonce: a logout token has none"));
    }
    match (&claims.sid, &claims.sub) {
        (Some(sid), _) => Ok(whose.session(sid)),
        (None, Some(sub)) => Ok(whose.all_of_own(sub)),
        (None, None) => Err(Refused::request("says neither sid nor sub")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_session_is_revoked_and_without_one_what_the_subject_was_issued() {
        let with = |more: Value| {
            let mut claims = json!({ "iat": 1_790_000_000, "events": { EVENT: {} } });
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let whose = Whose { issuer: "idp", token_issuers: &["i".to_owned()] };
            let told = told(&Claims::made_up(claims), &whose).map_err(|refused| refused.what)?;
            Ok::<_, String>(told.iter().map(Told::named).collect::<Vec<_>>())
        };
        let session = vec![json!({ "iss": "i", "sid": "s" })];
        assert_eq!(with(json!({ "sid": "s" })), Ok(session.clone()));
        assert_eq!(with(json!({ "sid": "s", "sub": "alice" })), Ok(session));
        let all = json!({ "iss": "i", "sub": "alice" });
        assert_eq!(with(json!({ "sub": "alice" })), Ok(vec![all]));
        for (more, says) in [
            (json!({}), "neither sid nor sub"),
            (json!({ "sub": "alice", "nonce": "n" }), "nonce: a logout token has none"),
            (json!({ "sub": "alice", "events": {} }), "events: wanted"),
            (json!({ "sub": "alice", "events": { EVENT: true } }), "events: wanted"),
        ] {
            let wrong = with(more.clone()).unwrap_err();
            assert!(wrong.contains(says), "{more}: {wrong}");
        }
    }
}
