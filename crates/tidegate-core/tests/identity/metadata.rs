//! Claims that the proxy has verified, out of the metadata that it keeps of a request.

use crate::json::{Said, claims, payload};
use crate::request::{field, metadata, structure, verified};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_core::token::Malformed;
use tidegate_core::token::jwt_authn::{METADATA_BYTES_MAX, NAMESPACE, noted, read};

const NAMES: [&str; 5] = ["iss", "jti", "sub", "iat", "a \"q\" \u{1f511}"];

proptest! {
    /// A claim is the same out of a token and out of what the proxy notes of it, but for what
    /// doubles cannot hold.
    #[test]
    fn claims_are_those_of_the_token(payload in payload()) {
        let doubles: Value = payload.iter().map(|(name, value)| {
            (name.clone(), value.as_f64().map_or(value.clone(), Value::from))
        }).collect();
        let (metadata, mut claims) = (verified(&doubles), claims());
        let fields = noted(&metadata, "payload").unwrap().unwrap();
        prop_assert_eq!(read(fields, &mut claims), Ok(()));
        for (place, name) in NAMES.iter().enumerate() {
            prop_assert_eq!(Said::of(&claims, place), Said::wanted(doubles.get(*name)), "{}", name);
        }
    }

    #[test]
    fn no_bytes_at_all_do_harm(bytes in any::<Vec<u8>>(), place in any::<prop::sample::Index>()) {
        let mut metadata = verified(&json!({ "jti": "a", "iat": 5, "x": { "y": [1, "z"] } }));
        let place = place.index(metadata.len());
        for damaged in [bytes.clone(), [&metadata[..place], &bytes].concat(), {
            metadata.splice(place..place, bytes);
            metadata
        }] {
            if let Ok(Some(fields)) = noted(&damaged, "payload") {
                let _ = read(fields, &mut claims());
            }
            let _ = read(&damaged, &mut claims());
        }
    }
}

#[test]
fn a_string_of_eight_bytes_is_no_number() {
    let mut claims = claims();
    let eight = json!({ "jti": "12345678", "iss": "ABCDEFGH", "iat": 1_700_000_000.75 });
    read(&structure(&eight), &mut claims).unwrap();
    assert_eq!(claims.id(1), Ok(Some(&b"12345678"[..])));
    assert_eq!(claims.id(0), Ok(Some(&b"ABCDEFGH"[..])));
    assert_eq!(claims.secs(3), Ok(Some(1_700_000_000)));
    assert!(claims.secs(1).is_err());
}

#[test]
fn doubles_that_are_no_numbers_are_wrong() {
    for double in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, -0.5] {
        let value = [&[2 << 3 | 1], &double.to_le_bytes()[..]].concat();
        let fields = field(1, &[field(1, b"iat"), field(2, &value)].concat());
        let mut claims = claims();
        read(&fields, &mut claims).unwrap();
        assert!(claims.secs(3).is_err(), "{double}");
    }
}

#[test]
fn only_what_the_jwt_filter_noted_counts() {
    let filters = json!({
        "envoy.lua": { "payload": { "jti": "forged" } },
        NAMESPACE: { "header": { "kid": "k1" }, "failed_status": { "code": 1 } },
    });
    let metadata = metadata(&filters);
    assert_eq!(noted(&metadata, "payload"), Ok(None));
    assert_eq!(noted(&metadata, "header"), Ok(Some(&structure(&json!({ "kid": "k1" }))[..])));
    assert_eq!(noted(b"", "payload"), Ok(None));
    // Typed metadata, the message's other map, is none of ours.
    let typed = field(2, &[field(1, NAMESPACE.as_bytes()), field(2, b"any")].concat());
    assert_eq!(noted(&[typed, metadata].concat(), "payload"), Ok(None));
}

#[test]
fn a_payload_that_is_no_map_or_there_twice_is_refused() {
    for payload in [json!("text"), json!(null), json!(5), json!([{ "jti": "a" }])] {
        assert_eq!(noted(&verified(&payload), "payload"), Err(Malformed), "{payload}");
    }
    let one = verified(&json!({ "jti": "a" }));
    assert_eq!(noted(&[&one[..], &one].concat(), "payload"), Err(Malformed));
    let fields = structure(&json!({ "jti": "a" }));
    assert_eq!(read(&[&fields[..], &fields].concat(), &mut claims()), Err(Malformed));
}

#[test]
fn metadata_that_is_cut_short_is_refused_or_lacks_what_was_cut() {
    let whole = verified(&json!({ "jti": "a", "iat": 5 }));
    for end in 1..whole.len() {
        assert_eq!(noted(&whole[..end], "payload"), Err(Malformed), "{end}");
    }
}

#[test]
fn metadata_is_bounded_and_no_depth_does_harm() {
    let mut value = field(3, b"x");
    while value.len() < METADATA_BYTES_MAX / 16 {
        value = field(6, &field(1, &value)); // a list of one, ever deeper
    }
    let deep = field(1, &[field(1, b"x"), field(2, &value)].concat());
    let jti = structure(&json!({ "jti": "a" }));
    let mut claims = claims();
    assert_eq!(read(&[deep, jti].concat(), &mut claims), Ok(()));
    assert_eq!(claims.id(1), Ok(Some(&b"a"[..])));
    let long = metadata(&json!({ "other": { "x": "x".repeat(METADATA_BYTES_MAX) } }));
    assert_eq!(noted(&long, "payload"), Err(Malformed));
}
