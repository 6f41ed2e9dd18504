//! What a notice has revoked, and of whose tokens: nobody revokes another's.

use super::super::asked::{self, Terms, Wish};
use super::super::fields::Fields;
use super::Refused;
use serde_json::{Value, json};

/// One thing that is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    iss: String,
    what: What,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Session,
    Token,
    /// Whatever the subject was issued until then.
    AllOf,
}

/// Who tells it, and whose tokens that may be about.
pub(super) struct Whose<'a> {
    pub(super) issuer: &'a str,
    pub(super) token_issuers: &'a [String],
}

impl Whose<'_> {
    /// A session; sessions have one name for all who issue tokens in them.
    pub(super) fn session(&self, sid: &str) -> Vec<Told> {
        self.everywhere(What::Session, sid)
    }

    /// All that the provider's own subject was issued.
    pub(super) fn all_of_own(&self, sub: &str) -> Vec<Told> {
        self.everywhere(What::AllOf, sub)
    }

    /// All that a subject of this issuer was issued.
    ///
    /// # Errors
    ///
    /// If it is another's.
    pub(super) fn all_of(&self, iss: &str, sub: &str) -> Result<Vec<Told>, Refused> {
        self.by(iss, What::AllOf, sub)
    }

    /// One token of this issuer.
    ///
    /// # Errors
    ///
    /// If it is another's.
    pub(super) fn token(&self, iss: &str, jti: &str) -> Result<Vec<Told>, Refused> {
        self.by(iss, What::Token, jti)
    }

    /// An issuer of tokens means itself. The provider, if it issues none by that name, means all whose
    /// tokens it may revoke.
    fn by(&self, iss: &str, what: What, name: &str) -> Result<Vec<Told>, Refused> {
        if self.token_issuers.iter().any(|known| known == iss) {
            return Ok(vec![Told::of(iss, what, name)]);
        }
        if iss == self.issuer {
            return Ok(self.everywhere(what, name));
        }
        Err(Refused::request(
            "sub_id: iss: is neither the receiver's issuer nor one of its token_issuers",
        ))
    }

    fn everywhere(&self, what: What, name: &str) -> Vec<Told> {
        self.token_issuers.iter().map(|iss| Told::of(iss, what, name)).collect()
    }
}

impl Told {
    fn of(iss: &str, what: What, name: &str) -> Self {
        Self { iss: iss.to_owned(), what, name: name.to_owned() }
    }

    /// What it has revoked if it happened then. It ends when whatever it could be about has: so it
    /// is the same however often and late it is told.
    ///
    /// # Errors
    ///
    /// As callers of the API are told.
    pub(super) fn wish(&self, happened_secs: u64, terms: &Terms) -> Result<Wish, Refused> {
        let mut said = self.named();
        match self.what {
            What::Session => said["until"] = (happened_secs + terms.session_ttl_secs).into(),
            What::Token => said["until"] = (happened_secs + terms.token_ttl_secs).into(),
            What::AllOf => said["before"] = happened_secs.into(),
        }
        let text = said.to_string();
        let fields: Fields<'_> =
            serde_json::from_str(&text).map_err(|error| Refused::request(error.to_string()))?;
        asked::wish(&fields, terms).map_err(|wrong| Refused::request(wrong.to_string()))
    }

    /// As callers of the API name it.
    pub(super) fn named(&self) -> Value {
        let Self { iss, what, name } = self;
        match what {
            What::Session => json!({ "iss": iss, "sid": name }),
            What::Token => json!({ "iss": iss, "jti": name }),
            What::AllOf => json!({ "iss": iss, "sub": name }),
        }
    }
}
