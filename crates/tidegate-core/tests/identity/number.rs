//! Numbers as JSON may write them, held against decimal arithmetic on their digits.

use crate::json::claims;
use proptest::prelude::*;
use tidegate_core::token::claims::{SECS_MAX, WrongType};
use tidegate_core::token::json::read;

const JTI: usize = 1;

/// The whole part of a number's magnitude, and whether there is anything behind it.
fn split(digits: &str, fraction: &str, exponent: i64) -> (String, bool) {
    let all = format!("{digits}{fraction}");
    let point = digits.len() as i64 + exponent;
    let (whole, rest) = if point <= 0 {
        (String::new(), all)
    } else if point as usize >= all.len() {
        (format!("{all}{}", "0".repeat(point as usize - all.len())), String::new())
    } else {
        (all[..point as usize].to_owned(), all[point as usize..].to_owned())
    };
    let whole = whole.trim_start_matches('0');
    (if whole.is_empty() { "0" } else { whole }.to_owned(), rest.bytes().all(|it| it == b'0'))
}

/// Whether a number written in digits is at most `most`.
fn is_at_most(digits: &str, most: u64) -> bool {
    digits.len() < 20 && digits.parse::<u64>().is_ok_and(|number| number <= most)
}

fn hold(
    sign: &str,
    digits: &str,
    fraction: &str,
    exponent: Option<i64>,
) -> Result<(), TestCaseError> {
    let point = if fraction.is_empty() { "" } else { "." };
    let power = exponent.map_or(String::new(), |exponent| format!("e{exponent}"));
    let number = format!("{sign}{digits}{point}{fraction}{power}");
    let mut claims = claims();
    prop_assert!(
        read(format!(r#"{{"jti":{number}}}"#).as_bytes(), &mut claims).is_ok(),
        "{}",
        number
    );
    let (whole, is_whole) = split(digits, fraction, exponent.unwrap_or(0));
    let is_zero = whole == "0" && is_whole;
    let sign = if is_zero { "" } else { sign };
    let id = if is_whole && is_at_most(&whole, 1 << 53) {
        Ok(Some(format!("{sign}{whole}").into_bytes()))
    } else {
        Err(WrongType)
    };
    prop_assert_eq!(claims.id(JTI).map(|id| id.map(<[u8]>::to_vec)), id, "{}", number);
    let secs = if sign.is_empty() && is_at_most(&whole, SECS_MAX) {
        Ok(Some(whole.parse().unwrap()))
    } else {
        Err(WrongType)
    };
    prop_assert_eq!(claims.secs(JTI), secs, "{}", number);
    Ok(())
}

proptest! {
    #[test]
    fn numbers_are_what_their_digits_say(
        sign in "-?",
        digits in "0|[1-9][0-9]{0,24}",
        fraction in "|[0-9]{1,24}|0{1,30}[0-9]?",
        exponent in prop::option::of(-60_i64..60),
    ) {
        hold(&sign, &digits, &fraction, exponent)?;
    }
}

#[test]
fn numbers_at_the_edges() -> Result<(), TestCaseError> {
    for digits in [
        "0",
        "9007199254740992",
        "9007199254740993",
        "1099511627775",
        "1099511627776",
        "18446744073709551615",
        "18446744073709551616",
        "100000000000000000000000000000",
        "999999999999999999",
        "1000000000000000000",
        "9999999999999999999",
    ] {
        for (fraction, exponent) in
            [("", None), ("0", None), ("5", None), ("000000000000000000001", None), ("", Some(-3))]
        {
            hold("", digits, fraction, exponent)?;
            hold("-", digits, fraction, exponent)?;
        }
    }
    hold("", "1", "7", Some(9))?;
    hold("", "1", "", Some(400))?;
    hold("", "1", "", Some(-400))?;
    hold("", "0", "", Some(400))
}

#[test]
fn no_exponent_is_too_large_to_be_read_as_wrong() {
    for (number, is_zero) in
        [("1e999999999999999999999999", false), ("0e99999999999", true), ("0.0e-99999999999", true)]
    {
        let mut claims = claims();
        read(format!(r#"{{"jti":{number}}}"#).as_bytes(), &mut claims).unwrap();
        assert_eq!(claims.secs(JTI).is_ok(), is_zero, "{number}");
        assert_eq!(claims.id(JTI).is_ok(), is_zero, "{number}");
    }
    // So small that it is a moment of the first second, and no whole number.
    let mut claims = claims();
    read(br#"{"jti":1e-999999999999999999999}"#, &mut claims).unwrap();
    assert_eq!((claims.secs(JTI), claims.id(JTI)), (Ok(Some(0)), Err(WrongType)));
}

#[test]
fn what_is_no_number_is_refused() {
    for number in
        ["01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1f", "1_000", "NaN", "Infinity", "-a", "1.e3"]
    {
        assert!(
            read(format!(r#"{{"jti":{number}}}"#).as_bytes(), &mut claims()).is_err(),
            "{number}"
        );
    }
}
