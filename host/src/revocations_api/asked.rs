//! What a revocation written in JSON means: of what, what was issued until when, and how long it
//! has to be kept. The one place where an absurd one is refused.
//!
//! | said | revoked | kept until |
//! |---|---|---|
//! | `jti` + `iss`, `token_hash`, `opaque` | the token | its `exp`, or `until`, or the longest that one lives |
//! | `sid` + `iss`, `cookie` | the session | `until`, or the longest that one lives |
//! | `sub`, `client`, `tenant` + `iss`; `iss` alone | what was issued at or before `before`, or now | `until`, or as long after as a token lives |
//! | `kid` + `iss` | what is signed with the key, ever | lifted |
//! | `id` + `kind` | as of that kind | as of that kind |

use super::bounds::{at_ms, before, time, until};
use super::fields::{Field, Fields, Value};
use super::wrong::{Wrong, nearest};
use tidegate_core::revoke::id::IdKey;
use tidegate_core::revoke::identity::secret_form;
use tidegate_core::revoke::{Id, Kind, Record};

/// The longest part of an id, in bytes: as the reader of tokens has it, so what is longer could
/// never be found in one.
pub(super) const PART_BYTES_MAX: usize = 1_024;

/// The longest secret: a token of no known structure, a cookie's value.
pub(super) const SECRET_BYTES_MAX: usize = 16 * 1_024;

/// The longest reason, in bytes; it stands in the audit log.
const REASON_BYTES_MAX: usize = 256;

/// Whole numbers of larger magnitude are not the same to all who read JSON.
const WHOLE_MAX: u64 = 1 << 53;

/// By what revocations are judged, and completed.
#[derive(Clone)]
pub(super) struct Terms {
    /// Now, in milliseconds of Unix time.
    pub(super) now_ms: u64,
    /// How far clocks may be apart.
    pub(super) leeway_secs: u64,
    /// How long a token lives at most.
    pub(super) token_ttl_secs: u64,
    /// How long a session, or a token that does not say, lives at most.
    pub(super) session_ttl_secs: u64,
    /// How long anything with an end may be kept.
    pub(super) retention_secs: u64,
    /// Under what secrets are hashed; the one in use first, none if there is none.
    pub(super) id_keys: Vec<IdKey>,
}

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// To have this in force …
    pub(super) record: Record,
    /// … and the same of this id: a secret's under the other key.
    pub(super) also: Option<Id>,
    /// Whether there is nothing to do: what it revokes was over before.
    pub(super) is_over: bool,
}

/// What is to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) kind: Kind,
    pub(super) id: Id,
    /// Its id under another key: a secret's, while a key replaces another.
    pub(super) also: Option<Id>,
}

impl Terms {
    pub(super) const fn now_secs(&self) -> u64 {
        self.now_ms / 1_000
    }
}

/// What these fields ask to have revoked, or lifted if they say so.
///
/// # Errors
///
/// The first thing in them that is wrong.
pub(super) fn wish(fields: &Fields<'_>, terms: &Terms) -> Result<Wish, Wrong> {
    let thing = what(fields, terms)?;
    let Thing { kind, id, also } = thing;
    let at_ms = at_ms(fields, terms)?;
    let record = if lifted(fields)? {
        let until_secs = time(fields, Field::Until)?
            .or(time(fields, Field::Exp)?)
            .unwrap_or_else(|| terms.now_secs() + terms.retention_secs);
        lifting(kind, id, at_ms, until_secs)
    } else {
        let before_secs = before(fields, kind, terms)?;
        let (until_secs, by_exp) = until(fields, kind, before_secs, terms)?;
        Record { id, kind, lifts: false, before_secs, until_secs, by_exp, at_ms }
    };
    let is_over = record.until_secs.saturating_add(terms.leeway_secs) <= terms.now_secs();
    Ok(Wish { record, also, is_over })
}

/// A lifting of what has this id, which is kept until then.
pub(super) const fn lifting(kind: Kind, id: Id, at_ms: u64, until_secs: u64) -> Record {
    Record { id, kind, lifts: true, before_secs: 0, until_secs, by_exp: false, at_ms }
}

/// Why it is done, for the audit log.
///
/// # Errors
///
/// If it is no short line of text.
pub(super) fn reason<'a>(fields: &'a Fields<'_>) -> Result<Option<&'a str>, Wrong> {
    match fields.at(Field::Reason) {
        None => Ok(None),
        Some(Value::Text(text)) if text.len() > REASON_BYTES_MAX => Err(Wrong::at(
            "reason",
            format!("has {} bytes, wanted at most {REASON_BYTES_MAX}", text.len()),
        )),
        Some(Value::Text(text)) if text.chars().any(char::is_control) => {
            Err(Wrong::at("reason", "holds a control character, wanted one line of text"))
        }
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(other) => Err(found(Field::Reason, other, "one line of text")),
    }
}

/// Of what these fields are, times left aside.
///
/// # Errors
///
/// As [`wish`].
pub(super) fn what(fields: &Fields<'_>, terms: &Terms) -> Result<Thing, Wrong> {
    const NAMED: [(Field, Kind); 9] = [
        (Field::Jti, Kind::Token),
        (Field::Sub, Kind::Subject),
        (Field::Client, Kind::Client),
        (Field::Tenant, Kind::Tenant),
        (Field::Sid, Kind::Session),
        (Field::Kid, Kind::Key),
        (Field::Cookie, Kind::Cookie),
        (Field::Opaque, Kind::Opaque),
        (Field::TokenHash, Kind::TokenHash),
    ];
    let mut said = NAMED.into_iter().filter(|(field, _)| fields.at(*field).is_some());
    let named = said.next();
    let other = said.next().map(|(field, _)| field);
    let raw = fields.at(Field::Id).is_some().then_some(Field::Id);
    match (named, other.or(raw)) {
        (Some((field, _)), Some(other)) => Err(Wrong::new(format!(
            "says {} and {}: one revocation is of one thing",
            field.name(),
            other.name()
        ))),
        (Some((field, kind)), None) => {
            leave_out(fields, Field::Kind, "goes with id alone")?;
            named_thing(fields, field, kind, terms)
        }
        (None, Some(_)) => {
            leave_out(fields, Field::Iss, "has no meaning beside id, which is made of it")?;
            Ok(Thing { kind: kind(fields)?, id: id(fields)?, also: None })
        }
        (None, None) if fields.at(Field::Iss).is_some() => {
            leave_out(fields, Field::Kind, "goes with id alone")?;
            let id = Id::of(Kind::Issuer, &[part(fields, Field::Iss)?.as_bytes()]);
            Ok(Thing { kind: Kind::Issuer, id, also: None })
        }
        (None, None) => Err(Wrong::new(
            "does not say what: wanted jti, sub, client, tenant, sid or kid, each with iss; iss \
             alone; cookie, opaque or token_hash; or id with kind",
        )),
    }
}

fn named_thing(
    fields: &Fields<'_>,
    field: Field,
    kind: Kind,
    terms: &Terms,
) -> Result<Thing, Wrong> {
    let id = match kind {
        Kind::TokenHash => {
            leave_out(fields, Field::Iss, "has no meaning beside token_hash")?;
            Id::of(kind, &[&digest(fields)?])
        }
        Kind::Cookie | Kind::Opaque => {
            leave_out(fields, Field::Iss, "has no meaning beside a secret")?;
            return keyed(kind, secret(fields, field)?.as_bytes(), terms)
                .map_err(|what| Wrong::at(field.name(), what));
        }
        _ => {
            let value = part(fields, field)?;
            if fields.at(Field::Iss).is_none() {
                return Err(Wrong::new(format!(
                    "says {} without iss: only issuer and {} together name one thing",
                    field.name(),
                    field.name()
                )));
            }
            Id::of(kind, &[part(fields, Field::Iss)?.as_bytes(), value.as_bytes()])
        }
    };
    Ok(Thing { kind, id, also: None })
}

/// The ids of a secret: under the key in use, and under one that replaces it or is replaced.
///
/// # Errors
///
/// If there is no key.
pub(super) fn keyed(kind: Kind, secret: &[u8], terms: &Terms) -> Result<Thing, String> {
    let Some(secret) = secret_form(secret) else {
        return Err(format!("is empty, or longer than {SECRET_BYTES_MAX} bytes"));
    };
    let mut ids = terms.id_keys.iter().map(|key| Id::keyed(kind, key, &secret));
    let no_key = "wants a key, and this host has none: set revocations.id_key_files";
    let id = ids.next().ok_or(no_key)?;
    Ok(Thing { kind, id, also: ids.next() })
}

/// A claim's text, as the reader of tokens has it.
fn part(fields: &Fields<'_>, field: Field) -> Result<String, Wrong> {
    const WANTED: &str = "a string, or a whole number of at most 2^53";
    match fields.at(field) {
        Some(Value::Text(text)) => checked(field, text, PART_BYTES_MAX),
        Some(Value::Whole(number)) if number.unsigned_abs() <= WHOLE_MAX => Ok(number.to_string()),
        Some(other) => Err(found(field, other, WANTED)),
        None => Err(Wrong::at(field.name(), format!("is missing, wanted {WANTED}"))),
    }
}

fn secret(fields: &Fields<'_>, field: Field) -> Result<String, Wrong> {
    match fields.at(field) {
        Some(Value::Text(text)) => checked(field, text, SECRET_BYTES_MAX),
        Some(other) => Err(found(field, other, "a string")),
        None => Err(Wrong::at(field.name(), "is missing, wanted a string")),
    }
}

fn checked(field: Field, text: &str, bytes_max: usize) -> Result<String, Wrong> {
    let wrong = |what: String| Err(Wrong::at(field.name(), what));
    // A token may be without an issuer; without anything else that is asked for it has no such id.
    if text.is_empty() && field != Field::Iss {
        return wrong("is empty".to_owned());
    }
    if text.len() > bytes_max {
        return wrong(format!("has {} bytes, wanted at most {bytes_max}", text.len()));
    }
    if text.contains('\0') {
        return wrong("holds a NUL, which no issuer puts there".to_owned());
    }
    Ok(text.to_owned())
}

fn digest(fields: &Fields<'_>) -> Result<[u8; 32], Wrong> {
    hex(fields, Field::TokenHash, "64 hex digits, the SHA-256 of header.payload")
}

fn id(fields: &Fields<'_>) -> Result<Id, Wrong> {
    hex(fields, Field::Id, "32 hex digits").map(Id)
}

fn hex<const N: usize>(fields: &Fields<'_>, field: Field, wanted: &str) -> Result<[u8; N], Wrong> {
    match fields.at(field) {
        Some(Value::Text(text)) => from_hex(text)
            .ok_or_else(|| Wrong::at(field.name(), format!("found other text, wanted {wanted}"))),
        Some(other) => Err(found(field, other, wanted)),
        None => Err(Wrong::at(field.name(), format!("is missing, wanted {wanted}"))),
    }
}

/// Bytes of exactly so many hex digits.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit =
            |at: usize| char::from(pair[at]).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

fn kind(fields: &Fields<'_>) -> Result<Kind, Wrong> {
    let wanted = || format!("one of {}", kind_names().join(", "));
    match fields.at(Field::Kind) {
        Some(Value::Text(name)) => kind_named(name).map_err(|what| Wrong::at("kind", what)),
        Some(other) => Err(found(Field::Kind, other, &wanted())),
        None => Err(Wrong::at("kind", format!("is missing beside id, wanted {}", wanted()))),
    }
}

/// The kind of this name.
///
/// # Errors
///
/// That there is none, with the one that was probably meant.
pub(super) fn kind_named(name: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| nearest("kind", name, &kind_names()))
}

fn kind_names() -> [&'static str; Kind::ALL.len()] {
    Kind::ALL.map(Kind::name)
}

fn lifted(fields: &Fields<'_>) -> Result<bool, Wrong> {
    match fields.at(Field::Lifted) {
        None => Ok(false),
        Some(Value::Flag(flag)) => Ok(*flag),
        Some(other) => Err(found(Field::Lifted, other, "true or false")),
    }
}

fn leave_out(fields: &Fields<'_>, field: Field, why: &str) -> Result<(), Wrong> {
    match fields.at(field) {
        None => Ok(()),
        Some(_) => Err(Wrong::at(field.name(), why)),
    }
}

pub(super) fn found(field: Field, value: &Value<'_>, wanted: &str) -> Wrong {
    Wrong::at(field.name(), format!("found {}, wanted {wanted}", value.describe()))
}
