//! Whom an event is about: subject identifiers of RFC 9493, as far as tokens name the same.

use super::Refused;
use serde_json::{Value, json};

/// How deep identifiers hold others: `aliases` of what a complex one has.
const DEPTH_MAX: usize = 2;

/// What of this subject is revoked, of tokens of these issuers: a session or a token if it is
/// about one, otherwise whatever was issued until then.
///
/// # Errors
///
/// If no token could name it.
pub(super) fn things(
    subject: &Value,
    issuers: &[String],
    before: u64,
) -> Result<Vec<Value>, Refused> {
    Reader { issuers, before }.any(subject, DEPTH_MAX)
}

struct Reader<'a> {
    issuers: &'a [String],
    before: u64,
}

impl Reader<'_> {
    fn any(&self, subject: &Value, depth: usize) -> Result<Vec<Value>, Refused> {
        let format = subject.get("format").or_else(|| subject.get("subject_type"));
        // Of RISC's first form.
        let format = format.and_then(Value::as_str).map(|format| format.replace('-', "_"));
        match format.as_deref() {
            Some("iss_sub") => self.whole(subject),
            Some("jwt_id") => {
                let (iss, jti) = (self.issuer(subject)?, text(subject, "jti")?);
                Ok(vec![json!({ "iss": iss, "jti": jti })])
            }
            // CAEP 1.0 section 3.1: by itself it is a session's.
            Some("opaque") => self.session(subject),
            Some("aliases") if depth > 0 => self.first_of(subject, depth),
            // Without a format it may be complex, as drafts have it.
            Some("complex") | None if depth > 0 => self.complex(subject, depth),
            Some(other) => Err(Refused::request(format!(
                "sub_id: of format {:?}, which no token names; wanted iss_sub, jwt_id, opaque, aliases, \
                 or complex with session or user",
                super::super::wrong::quoted(other)
            ))),
            None => Err(Refused::request("sub_id: says no format")),
        }
    }

    /// The narrowest part of it: a session rather than all that its user has.
    fn complex(&self, subject: &Value, depth: usize) -> Result<Vec<Value>, Refused> {
        match (subject.get("session"), subject.get("user")) {
            (Some(session), _) => match session.get("id") {
                Some(_) => self.session(session),
                None => self.any(session, depth - 1),
            },
            (None, Some(user)) => self.any(user, depth - 1),
            (None, None) => {
                Err(Refused::request("sub_id: wanted a format, or session or user within"))
            }
        }
    }

    /// They all name the same: the first that tokens name.
    fn first_of(&self, subject: &Value, depth: usize) -> Result<Vec<Value>, Refused> {
        let names = subject.get("identifiers").and_then(Value::as_array);
        let mut tried = names.into_iter().flatten().map(|name| self.any(name, depth - 1));
        let nothing = || Err(Refused::request("sub_id: identifiers: none that a token names"));
        tried.find(Result::is_ok).unwrap_or_else(nothing)
    }

    fn whole(&self, subject: &Value) -> Result<Vec<Value>, Refused> {
        let (iss, sub) = (self.issuer(subject)?, text(subject, "sub")?);
        Ok(vec![json!({ "iss": iss, "sub": sub, "before": self.before })])
    }

    fn session(&self, subject: &Value) -> Result<Vec<Value>, Refused> {
        let sid = text(subject, "id")?;
        Ok(self.issuers.iter().map(|iss| json!({ "iss": iss, "sid": sid })).collect())
    }

    /// Whose tokens are meant: nobody revokes another's.
    fn issuer<'a>(&self, subject: &'a Value) -> Result<&'a str, Refused> {
        let iss = text(subject, "iss")?;
        match self.issuers.iter().any(|known| known == iss) {
            true => Ok(iss),
            false => Err(Refused::request(
                "sub_id: iss: is none of the receiver's token_issuers, or its issuer if it names none",
            )),
        }
    }
}

fn text<'a>(subject: &'a Value, name: &str) -> Result<&'a str, Refused> {
    let text = subject.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| Refused::request(format!("sub_id: {name}: wanted a string")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(subject: Value) -> Result<Vec<Value>, String> {
        let issuers = ["i".to_owned(), "j".to_owned()];
        things(&subject, &issuers, 9).map_err(|refused| refused.what)
    }

    #[test]
    fn it_is_a_session_a_token_or_somebody() {
        let alice = json!({ "format": "iss_sub", "iss": "j", "sub": "alice" });
        let all = json!({ "iss": "j", "sub": "alice", "before": 9 });
        let session = [json!({ "iss": "i", "sid": "s" }), json!({ "iss": "j", "sid": "s" })];
        let opaque = json!({ "format": "opaque", "id": "s" });
        let mail = json!({ "format": "email", "email": "a@b.example" });
        for (subject, things) in [
            (alice.clone(), vec![all.clone()]),
            (json!({ "user": alice }), vec![all.clone()]),
            (json!({ "format": "complex", "user": alice, "session": opaque }), session.to_vec()),
            (json!({ "user": mail, "session": { "id": "s" } }), session.to_vec()),
            (opaque, session.to_vec()),
            (
                json!({ "format": "jwt_id", "iss": "i", "jti": "t" }),
                vec![json!({ "iss": "i", "jti": "t" })],
            ),
            (json!({ "format": "aliases", "identifiers": [mail, alice] }), vec![all]),
        ] {
            assert_eq!(read(subject.clone()), Ok(things), "{subject}");
        }
    }

    #[test]
    fn whom_no_token_names_is_not_taken_for_somebody_else() {
        let mail = json!({ "format": "email", "email": "a@b.example" });
        let mut deep = json!({ "format": "opaque", "id": "s" });
        for _ in 0..100 {
            deep = json!({ "user": deep });
        }
        for (subject, says) in [
            (mail.clone(), "of format \"email\""),
            (json!({ "user": mail }), "of format \"email\""),
            (json!({ "format": "aliases", "identifiers": [mail] }), "none that a token names"),
            (json!({ "format": "iss_sub", "iss": "other", "sub": "alice" }), "token_issuers"),
            (json!({ "format": "iss_sub", "iss": "i" }), "sub: wanted a string"),
            (json!({ "format": "opaque", "id": "" }), "id: wanted a string"),
            (json!({ "format": "opaque", "id": 7 }), "id: wanted a string"),
            (json!({}), "wanted a format"),
            (json!("alice"), "wanted a format"),
            (deep, "says no format"),
        ] {
            let wrong = read(subject.clone()).unwrap_err();
            assert!(wrong.contains(says), "{subject}: {wrong}");
        }
    }
}
