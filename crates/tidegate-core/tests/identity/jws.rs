//! Signed tokens as they travel, and payloads that an earlier filter forwards.

use crate::request::{base64url, token, token_of};
use proptest::prelude::*;
use serde_json::json;
use tidegate_core::token::Malformed;
use tidegate_core::token::claims::Claims;
use tidegate_core::token::jws::{
    TOKEN_BYTES_MAX, bare, bare_of_cookie, read, read_payload, signed,
};

const PAYLOAD: &str = r#"{"jti":"t"}"#;

/// A claim.
type Id = Option<Vec<u8>>;

/// Reads a token; its `jti` and `kid`.
fn read_both(token: &str) -> Result<(Id, Id), Malformed> {
    let mut header = Claims::new(["kid", "alg", "crit"].map(Box::from).into());
    let mut payload = Claims::new(["jti"].map(Box::from).into());
    read(token.as_bytes(), &mut header, &mut payload, &mut Vec::new())?;
    let id = |claims: &Claims| claims.id(0).unwrap().map(<[u8]>::to_vec);
    Ok((id(&payload), id(&header)))
}

fn payload_of(value: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Malformed> {
    let mut payload = Claims::new(["jti"].map(Box::from).into());
    read_payload(value.as_ref(), &mut payload, &mut Vec::new())?;
    Ok(payload.id(0).unwrap().map(<[u8]>::to_vec))
}

#[test]
fn a_token_is_read_with_its_header() {
    let token = token(&json!({ "jti": "t" }));
    assert_eq!(read_both(&token), Ok((Some(b"t".into()), Some(b"k1".into()))));
    let without_kid = token_of(r#"{"alg":"HS256"}"#, PAYLOAD);
    assert_eq!(read_both(&without_kid), Ok((Some(b"t".into()), None)));
}

#[test]
fn a_header_that_nobody_may_trust_is_refused() {
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"NoNe"}"#,
        r#"{"kid":"k1"}"#,
        r#"{"alg":7.5}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":"ES256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"ES256","crit":[]}"#,
        r#"{"alg":"ES256","crit":null}"#,
        r#"{"alg":"ES256","\u0063rit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","alg":"none"}"#,
        r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
        r#"["ES256"]"#,
        "ES256",
    ] {
        assert_eq!(read_both(&token_of(header, PAYLOAD)), Err(Malformed), "{header}");
    }
}

#[test]
fn a_token_has_three_parts_and_no_other_digits() {
    let token = token(&json!({ "jti": "t" }));
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token}") };
    for wrong in [
        String::new(),
        ".".into(),
        "..".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{token}.{signature}"),
        format!("{token}.{signature}.{signature}"),
        format!("{header}.{payload}==.{signature}"),
        format!("{header}. {payload}.{signature}"),
        format!("{header}.{payload}\n.{signature}"),
        format!("{header}.{payload},{token}.{signature}"),
        format!("{header}.{}+.{signature}", &payload[1..]),
        format!("{header}.{}/.{signature}", &payload[1..]),
        format!("{header}.{}\u{e9}.{signature}", &payload[2..]),
    ] {
        assert_eq!(read_both(&wrong), Err(Malformed), "{wrong:?}");
    }
}

#[test]
fn tokens_are_bounded() {
    let payload = |len: usize| format!(r#"{{"jti":"t","x":"{}"}}"#, "x".repeat(len));
    let long = token_of(r#"{"alg":"ES256"}"#, &payload(12_000));
    assert!(long.len() < TOKEN_BYTES_MAX && read_both(&long).is_ok());
    let too_long = token_of(r#"{"alg":"ES256"}"#, &payload(12_400));
    assert!(too_long.len() > TOKEN_BYTES_MAX);
    assert_eq!(read_both(&too_long), Err(Malformed));
    assert_eq!(read_both(&"a.".repeat(1 << 20)), Err(Malformed));
    assert_eq!(payload_of(base64url(payload(1 << 20))), Err(Malformed));
}

/// A part whose last digit says more bits than its octets have is another spelling of the same
/// octets: who takes it has two tokens for one.
#[test]
fn bits_that_no_octet_has_are_refused() {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for spaces in 0..3 {
        let exact = base64url(format!("{PAYLOAD}{}", " ".repeat(spaces)));
        let (start, last) = exact.split_at(exact.len() - 1);
        let is_read = |digit: char| payload_of(format!("{start}{digit}")).is_ok();
        let read: Vec<char> = DIGITS.chars().filter(|digit| is_read(*digit)).collect();
        match exact.len() % 4 {
            // No bits are left over: other digits are other octets, of which some are spaces.
            0 => assert!(read.contains(&last.chars().next().unwrap())),
            _ => assert_eq!(read, last.chars().collect::<Vec<_>>(), "{exact}"),
        }
    }
    // One digit alone in the end is no octet at all.
    let exact = base64url(format!("{PAYLOAD} "));
    assert_eq!(exact.len() % 4, 0);
    assert_eq!(payload_of(format!("{exact}A")), Err(Malformed));
}

#[test]
fn a_forwarded_payload_may_be_padded_as_it_ought_to_be() {
    for spaces in 0..3 {
        let bare = base64url(format!("{PAYLOAD}{}", " ".repeat(spaces)));
        let missing = (4 - bare.len() % 4) % 4;
        for padding in 0..=4 {
            let read = payload_of(format!("{bare}{}", "=".repeat(padding)));
            let is_right = padding == 0 || padding == missing;
            assert_eq!(read.is_ok(), is_right, "{bare} and {padding} of padding");
        }
    }
    for wrong in ["", "=", "====", " ", "{}", "bnVsbA", ","] {
        assert_eq!(payload_of(wrong), Err(Malformed), "{wrong:?}");
    }
}

#[test]
fn schemes_and_quotes_are_taken_off() {
    for (credential, token) in [
        ("Bearer abc", Some("abc")),
        ("bEARER \t abc ", Some("abc")),
        ("\tBearer   abc\t", Some("abc")),
        ("DPoP abc", Some("abc")),
        ("abc", Some("abc")),
        ("\"abc\"", Some("abc")),
        ("Bearer \"abc\"", Some("abc")),
        ("Bearer aZ9-._~+/==", Some("aZ9-._~+/==")),
        ("Bearer 17|nXq:9", Some("17|nXq:9")),
        ("1|a:b,c", Some("1|a:b,c")), // a key of somebody's own, whole
        ("Basic abc", None),
        ("Digest username=\"bearer\", uri=\"/\"", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        ("\"\"", None),
        ("\"", Some("\"")),
    ] {
        let found = bare(credential.as_bytes()).unwrap();
        let found = found.map(|it| std::str::from_utf8(it).unwrap());
        assert_eq!(found, token, "{credential:?}");
    }
    // No cookie is passed over for what looks like another scheme.
    for (cookie, token) in [("Basic abc", "Basic abc"), ("Bearer abc", "abc"), ("\"a b\"", "a b")] {
        assert_eq!(bare_of_cookie(cookie.as_bytes()), Some(token.as_bytes()), "{cookie:?}");
    }
}

/// Whoever has two words, or more than a token's characters, hopes for a reader behind us who
/// takes a part of it: `header.split(' ')[1]`, a pattern without an end, the last `Bearer `.
#[test]
fn a_header_that_others_may_take_another_token_from_is_refused() {
    for credential in [
        &b"Bearer abc def"[..],
        b"Bearer abc\tdef",
        b"Bearer abc  x",
        b"Bearer Bearer abc",
        b"Bearer x Bearer abc",
        b"Bearer abc,def",
        b"Bearer abc;x",
        b"Bearer abc\\x",
        b"Bearer abc%20",
        b"Bearer \"abc",
        b"Bearer \"abc def\"",
        b"Bearer abc=x",
        b"Bearer =",
        b"DPoP abc def",
        b"Bearer\xa0abc",
        b"Bearer\xa0 abc",
        b"Bearer \xa0abc",
        b"Bearer abc\x85",
        b"Bearer abc\x0b",
        b"Bearer abc\0",
        b"abc\xff",
        b"Basic x, Bearer abc",
        b"Basic x bearer\tabc",
        b"xBearer abc",
    ] {
        assert_eq!(bare(credential), Err(Malformed), "{}", credential.escape_ascii());
    }
}

#[test]
fn what_is_signed_is_all_but_the_signature() {
    assert_eq!(signed(b"aa.bb.cc"), Some(&b"aa.bb"[..]));
    assert_eq!(signed(b"aabbcc"), None);
}

proptest! {
    #[test]
    fn payloads_of_any_text_come_through(text in any::<String>()) {
        prop_assume!(text.len() <= 1_000);
        let payload = json!({ "jti": text }).to_string();
        prop_assert_eq!(payload_of(base64url(&payload)), Ok(Some(text.clone().into_bytes())));
        let token = token(&json!({ "jti": text }));
        prop_assert_eq!(read_both(&token).map(|it| it.0), Ok(Some(text.into_bytes())));
    }

    #[test]
    fn no_bytes_at_all_do_harm(bytes in any::<Vec<u8>>(), text in "[A-Za-z0-9_.=-]{0,80}") {
        let _ = payload_of(&bytes);
        let _ = read_both(&text);
        let _ = read_both(&String::from_utf8_lossy(&bytes));
        let _ = (bare(&bytes), bare_of_cookie(&bytes));
    }

    #[test]
    fn a_token_with_a_digit_changed_is_another_or_none(
        place in any::<prop::sample::Index>(),
        digit in "[A-Za-z0-9_-]",
    ) {
        let token = token(&json!({ "jti": "t", "exp": 1_700_000_000 }));
        let end = signed(token.as_bytes()).unwrap().len();
        let place = place.index(end);
        prop_assume!(token.as_bytes()[place] != b'.' && token[place..=place] != digit);
        let changed = format!("{}{digit}{}", &token[..place], &token[place + 1..]);
        prop_assert_ne!(signed(changed.as_bytes()), signed(token.as_bytes()));
        let _ = read_both(&changed);
    }
}
