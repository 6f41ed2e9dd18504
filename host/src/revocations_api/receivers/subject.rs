//! Whom an event is about: subject identifiers of RFC 9493, as far as tokens name the same.

use super::told::{Told, Whose};
use super::{Refused, events::About};
use serde_json::Value;

/// How deep identifiers hold others: `aliases` of what a complex one has.
const DEPTH_MAX: usize = 2;

/// What of this subject is revoked.
///
/// # Errors
///
/// If no token could name it.
pub(super) fn told(subject: &Value, about: About, whose: &Whose<'_>) -> Result<Vec<Told>, Refused> {
    Reader { about, whose }.any(subject, DEPTH_MAX)
}

struct Reader<'a> {
    about: About,
    whose: &'a Whose<'a>,
}

impl Reader<'_> {
    fn any(&self, subject: &Value, depth: usize) -> Result<Vec<Told>, Refused> {
        let format = subject.get("format").or_else(|| subject.get("subject_type"));
        // Of RISC's first form.
        let format = format.and_then(Value::as_str).map(|format| format.replace('-', "_"));
        match (format.as_deref(), self.about) {
            (Some("iss_sub"), _) => self.whose.all_of(text(subject, "iss")?, text(subject, "sub")?),
            (Some("jwt_id"), _) => self.whose.token(text(subject, "iss")?, text(subject, "jti")?),
            // CAEP 1.0 section 3.1. Of an account it is a name that no token has.
            (Some("opaque"), About::Session) => Ok(self.whose.session(text(subject, "id")?)),
            (Some("aliases"), _) if depth > 0 => self.each_of(subject, depth),
            // Without a format it may be complex, as drafts have it.
            (Some("complex") | None, _) if depth > 0 => self.complex(subject, depth),
            (Some(_), _) => Err(Refused::request(
                "sub_id: of a format that no token names; wanted iss_sub, jwt_id, aliases of these, \
                 opaque for a session, or complex with session or user",
            )),
            (None, _) => Err(Refused::request("sub_id: says no format")),
        }
    }

    /// The part that the event is about, and all of the user's if that is not said.
    fn complex(&self, subject: &Value, depth: usize) -> Result<Vec<Told>, Refused> {
        let session = subject.get("session").filter(|_| self.about == About::Session);
        match (session, subject.get("user")) {
            (Some(session), _) if session.get("id").is_some() => {
                Ok(self.whose.session(text(session, "id")?))
            }
            (Some(session), _) => self.any(session, depth - 1),
            (None, Some(user)) => {
                Reader { about: About::Account, whose: self.whose }.any(user, depth - 1)
            }
            (None, None) => Err(Refused::request(
                "sub_id: wanted a format, or user within, or session if it is about one",
            )),
        }
    }

    /// They all name the same: as many as tokens name.
    fn each_of(&self, subject: &Value, depth: usize) -> Result<Vec<Told>, Refused> {
        let names = subject.get("identifiers").and_then(Value::as_array).into_iter().flatten();
        let told: Vec<Told> =
            names.filter_map(|name| self.any(name, depth - 1).ok()).flatten().collect();
        match told.is_empty() {
            true => Err(Refused::request("sub_id: identifiers: none that a token names")),
            false => Ok(told),
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
    use serde_json::json;

    fn read(about: About, subject: &Value) -> Result<Vec<Value>, String> {
        let issuers = ["i".to_owned(), "j".to_owned()];
        let whose = Whose { issuer: "idp", token_issuers: &issuers };
        let told = told(subject, about, &whose).map_err(|refused| refused.what)?;
        Ok(told.iter().map(Told::named).collect())
    }

    #[test]
    fn it_is_a_session_a_token_or_somebody() {
        let alice = json!({ "format": "iss_sub", "iss": "j", "sub": "alice" });
        let of_provider = json!({ "subject_type": "iss-sub", "iss": "idp", "sub": "alice" });
        let all = json!({ "iss": "j", "sub": "alice" });
        let everywhere = [json!({ "iss": "i", "sub": "alice" }), all.clone()];
        let session = [json!({ "iss": "i", "sid": "s" }), json!({ "iss": "j", "sid": "s" })];
        let opaque = json!({ "format": "opaque", "id": "s" });
        let mail = json!({ "format": "email", "email": "a@b.example" });
        let token = vec![json!({ "iss": "i", "jti": "t" })];
        let both = json!({ "format": "complex", "user": alice, "session": opaque });
        for (about, subject, told) in [
            (About::Session, alice.clone(), vec![all.clone()]),
            (About::Account, of_provider, everywhere.to_vec()),
            (About::Session, json!({ "user": alice }), vec![all.clone()]),
            (About::Session, both.clone(), session.to_vec()),
            (About::Account, both, vec![all.clone()]),
            (About::Session, json!({ "user": mail, "session": { "id": "s" } }), session.to_vec()),
            (About::Session, opaque.clone(), session.to_vec()),
            (About::Session, json!({ "format": "jwt_id", "iss": "i", "jti": "t" }), token),
            (
                About::Account,
                json!({ "format": "aliases", "identifiers": [mail, opaque, alice] }),
                vec![all],
            ),
        ] {
            assert_eq!(read(about, &subject), Ok(told), "{subject}");
        }
    }

    #[test]
    fn whom_no_token_names_is_not_taken_for_somebody_else() {
        let mail = json!({ "format": "email", "email": "a@b.example" });
        let opaque = json!({ "format": "opaque", "id": "u-1" });
        let mut deep = opaque.clone();
        for _ in 0..100 {
            deep = json!({ "user": deep });
        }
        for (about, subject, says) in [
            (About::Session, mail.clone(), "that no token names"),
            (About::Session, json!({ "user": mail }), "that no token names"),
            (About::Session, json!({ "user": opaque }), "that no token names"),
            (About::Account, opaque.clone(), "that no token names"),
            (About::Account, json!({ "session": opaque }), "wanted a format, or user"),
            (
                About::Session,
                json!({ "format": "aliases", "identifiers": [mail] }),
                "none that a token names",
            ),
            (
                About::Session,
                json!({ "format": "iss_sub", "iss": "other", "sub": "alice" }),
                "token_issuers",
            ),
            (About::Session, json!({ "format": "iss_sub", "iss": "i" }), "sub: wanted a string"),
            (About::Session, json!({ "format": "opaque", "id": "" }), "id: wanted a string"),
            (About::Session, json!({ "format": "opaque", "id": 7 }), "id: wanted a string"),
            (About::Session, json!({}), "wanted a format"),
            (About::Session, json!("alice"), "wanted a format"),
            (About::Session, deep, "says no format"),
        ] {
            let wrong = read(about, &subject).unwrap_err();
            assert!(wrong.contains(says), "{subject}: {wrong}");
        }
    }
}
