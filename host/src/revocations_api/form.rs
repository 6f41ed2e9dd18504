//! A token in a form, as RFC 7009 hands it over: `token=…&token_type_hint=…`.

use form_urlencoded::parse;

/// The token of a form. Other fields are passed over, as RFC 7009 has it: hints are hints.
///
/// # Errors
///
/// That there is none, or several.
pub(super) fn token(form: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut tokens = parse(form).filter(|(name, _)| name == "token").map(|(_, value)| value);
    let token = tokens.next().filter(|token| !token.is_empty());
    match (token, tokens.next()) {
        (Some(token), None) => Ok(token.into_owned().into_bytes()),
        (None, None) => Err("wanted a form with token=…"),
        (_, Some(_)) => Err("has token more than once"),
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
