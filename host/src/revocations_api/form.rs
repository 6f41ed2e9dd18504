//! A token in a form, as RFC 7009 hands it over: `token=…&token_type_hint=…`.

use form_urlencoded::parse;

/// The token of a form. Other fields are passed over, as RFC 7009 has it: hints are hints.
///
/// # Errors
///
/// That there is none, or several.
pub(super) fn token(form: &[u8]) -> Result<Vec<u8>, String> {
    field(form, "token")
}

/// A form's only field of this name.
///
/// # Errors
///
/// As [`token`].
pub(super) fn field(form: &[u8], wanted: &str) -> Result<Vec<u8>, String> {
    let mut values = parse(form).filter(|(name, _)| name == wanted).map(|(_, value)| value);
    let value = values.next().filter(|value| !value.is_empty());
    match (value, values.next()) {
        (Some(value), None) => Ok(value.into_owned().into_bytes()),
        (None, None) => Err(format!("wanted a form with {wanted}=…")),
        (_, Some(_)) => Err(format!("has {wanted} more than once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_one_token() {
        assert_eq!(token(b"token=a.b%2Bc&token_type_hint=access_token").unwrap(), b"a.b+c");
        assert_eq!(token(b"x=1&token=a+b").unwrap(), b"a b");
        for (form, says) in [
            (&b""[..], "wanted"),
            (b"token=", "wanted"),
            (b"Token=a", "wanted"),
            (b"token=a&token=b", "more than once"),
            (b"token=&token=b", "more than once"),
        ] {
            assert!(token(form).unwrap_err().contains(says), "{form:?}");
        }
    }
}
