//! What a notice claims: the fields of which either kind makes something.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

/// Claims of a logout token, or of a security event token. Of any other nothing is known here;
/// `iss`, `aud` and `exp` have been looked at where the signature was.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// One, as text; that it is the right one has been looked at.
    #[expect(dead_code, reason = "that it is there, and is text, is all that matters")]
    iss: String,
    /// Its own name, which both kinds must have (RFC 8417 section 2.2, Back-Channel Logout 1.0
    /// section 2.4). None is remembered: what is sent again does nothing new.
    #[expect(dead_code, reason = "that it is there, and is text, is all that matters")]
    jti: String,
    iat: Number,
    /// What has happened, by the URI of each kind of event.
    pub(super) events: Map<String, Value>,
    pub(super) sub: Option<String>,
    pub(super) sid: Option<String>,
    /// When it is over; its value has been looked at.
    pub(super) exp: Option<IgnoredAny>,
    /// No logout token has one, and every ID token may.
    pub(super) nonce: Option<IgnoredAny>,
    /// Whom all of its events are about.
    pub(super) sub_id: Option<Value>,
    /// When it happened, if that was not when it was told.
    pub(super) toe: Option<Number>,
}

impl Claims {
    /// Seconds of Unix time, a fraction cut off.
    pub(super) fn issued_secs(&self) -> u64 {
        secs(&self.iat)
    }

    /// For tests of what is made of the others.
    #[cfg(test)]
    pub(super) fn made_up(mut claims: Value) -> Self {
        claims["iss"] = "i".into();
        claims["jti"] = "n".into();
        serde_json::from_value(claims).unwrap()
    }

    /// When something happened that says no more.
    pub(super) fn happened_secs(&self) -> u64 {
        self.toe.as_ref().map_or_else(|| self.issued_secs(), secs)
    }
}

/// A NumericDate of RFC 7519, a fraction cut off; 0 is none.
pub(super) fn secs(number: &Number) -> u64 {
    let fraction = || number.as_f64().filter(|secs| *secs >= 0.0).map_or(0, |secs| secs as u64);
    number.as_u64().unwrap_or_else(fraction)
}
