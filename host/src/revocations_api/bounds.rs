//! What was issued until when is revoked, how long that is kept, and since when it has been: as
//! said, or as its kind has it. Absurd times are refused here.

use super::asked::{Terms, found};
use super::fields::{Field, Fields, Value};
use super::when;
use super::wrong::{Wrong, quoted};
use tidegate_core::revoke::{EVER, Kind};

/// How a revocation of a kind is bounded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// One token: whole, until its end.
    Token,
    /// One session: whole unless it is said, until an end that nobody knows.
    Session,
    /// Many tokens: those issued until then.
    Many,
    /// All that a key signs, whoever has it.
    Key,
}

fn class(kind: Kind) -> Class {
    match kind {
        Kind::Token | Kind::TokenHash | Kind::Opaque => Class::Token,
        Kind::Session | Kind::Cookie => Class::Session,
        Kind::Subject | Kind::Client | Kind::Tenant | Kind::Issuer => Class::Many,
        Kind::Key => Class::Key,
    }
}

/// Tokens issued at or before then are revoked.
///
/// # Errors
///
/// A time that makes no sense for the kind, or at all.
pub(super) fn before(fields: &Fields<'_>, kind: Kind, terms: &Terms) -> Result<u64, Wrong> {
    let said = time(fields, Field::Before)?;
    match (class(kind), said) {
        (Class::Token, Some(EVER) | None) | (Class::Session | Class::Key, None) => Ok(EVER),
        (Class::Token, Some(_)) => {
            Err(Wrong::at("before", "has no meaning for one token, which is revoked whole"))
        }
        (Class::Many, None) => Ok(terms.now_secs()),
        (_, Some(0)) => Err(Wrong::at("before", "nothing was issued at 0")),
        (_, Some(EVER)) => Ok(EVER),
        (_, Some(secs)) if secs > terms.now_secs() + terms.leeway_secs => Err(Wrong::at(
            "before",
            format!(
                "{secs} is {} s ahead: what is yet to be issued would be revoked; wanted at most \
                 now, or \"ever\"{}",
                secs - terms.now_secs(),
                in_millis(secs, terms)
            ),
        )),
        (_, Some(secs)) => Ok(secs),
    }
}

/// Until when it is kept, and whether that is the very `exp` of one token.
///
/// # Errors
///
/// As [`before`].
pub(super) fn until(
    fields: &Fields<'_>,
    kind: Kind,
    before_secs: u64,
    terms: &Terms,
) -> Result<(u64, bool), Wrong> {
    let (exp, until) = (time(fields, Field::Exp)?, time(fields, Field::Until)?);
    let class = class(kind);
    let is_endless = before_secs == EVER && matches!(class, Class::Many | Class::Key);
    match (exp, until) {
        (Some(_), Some(_)) => Err(Wrong::new(
            "says exp and until: say exp if it is the token's own, until if it is not known",
        )),
        (Some(_), None) if class != Class::Token => {
            Err(Wrong::at("exp", "is one token's; for anything else say until"))
        }
        (Some(secs), None) => Ok((bounded("exp", secs, terms)?, true)),
        (None, Some(EVER)) if is_endless => Ok((EVER, false)),
        (None, Some(EVER)) => Err(Wrong::at(
            "until",
            "\"ever\" is for keys, and for what is revoked whenever it was issued (before: ever)",
        )),
        (None, Some(secs)) => Ok((bounded("until", secs, terms)?, false)),
        (None, None) if is_endless => Ok((EVER, false)),
        (None, None) => Ok((unless_said(class, before_secs, kind, terms), false)),
    }
}

/// How long it is kept if nothing is said.
fn unless_said(class: Class, before_secs: u64, kind: Kind, terms: &Terms) -> u64 {
    match class {
        Class::Token if kind != Kind::Opaque => terms.now_secs() + terms.token_ttl_secs,
        Class::Token | Class::Session => terms.now_secs() + terms.session_ttl_secs,
        Class::Many | Class::Key => before_secs + terms.token_ttl_secs,
    }
}

pub(super) fn bounded(name: &str, secs: u64, terms: &Terms) -> Result<u64, Wrong> {
    let ahead = secs.saturating_sub(terms.now_secs());
    if ahead <= terms.retention_secs {
        return Ok(secs);
    }
    Err(Wrong::at(
        name,
        format!(
            "{secs} is {} days ahead, beyond revocations.retention_max of {} days{}",
            ahead / 86_400,
            terms.retention_secs / 86_400,
            in_millis(secs, terms)
        ),
    ))
}

/// A guess about a time that is much too late.
fn in_millis(secs: u64, terms: &Terms) -> &'static str {
    let ahead = (secs / 1_000).saturating_sub(terms.now_secs());
    let is_sane = secs / 1_000 > 1_000_000_000 && ahead <= terms.retention_secs;
    if is_sane { "; is it in milliseconds? Wanted seconds" } else { "" }
}

/// When it was revoked, as an export has it.
pub(super) fn at_ms(fields: &Fields<'_>, terms: &Terms) -> Result<u64, Wrong> {
    match fields.at(Field::At) {
        None => Ok(terms.now_ms),
        Some(Value::Whole(millis)) => match u64::try_from(*millis) {
            Ok(millis) if millis <= terms.now_ms + terms.leeway_secs * 1_000 => Ok(millis),
            _ => Err(Wrong::at("at_ms", format!("{millis} is not in the past"))),
        },
        Some(other) => Err(found(Field::At, other, "milliseconds of Unix time")),
    }
}

/// A time: seconds of Unix time, a fraction cut off; a date; or "ever".
pub(super) fn time(fields: &Fields<'_>, field: Field) -> Result<Option<u64>, Wrong> {
    const WANTED: &str = "seconds of Unix time, such as 1790000000, or 2026-09-21T14:13:20Z";
    let secs = match fields.at(field) {
        None => return Ok(None),
        Some(Value::Whole(secs)) => u64::try_from(*secs).ok(),
        Some(Value::Fraction(secs)) => (*secs >= 0.0).then_some(*secs as u64),
        Some(Value::Text(text)) if text == "ever" => Some(EVER),
        Some(Value::Text(text)) => Some(when::rfc3339_secs(text).ok_or_else(|| {
            Wrong::at(field.name(), format!("found {:?}, wanted {WANTED}", quoted(text)))
        })?),
        Some(other) => return Err(found(field, other, WANTED)),
    };
    match secs {
        Some(secs) if secs <= EVER => Ok(Some(secs)),
        Some(secs) => {
            let hint =
                if secs / 1_000 <= EVER { "; is it in milliseconds? Wanted seconds" } else { "" };
            Err(Wrong::at(field.name(), format!("{secs} is no time that ever comes{hint}")))
        }
        None => Err(Wrong::at(field.name(), format!("is below 0, wanted {WANTED}"))),
    }
}
