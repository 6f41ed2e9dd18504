//! Claims out of JSON, held against `serde_json`.

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use tidegate_core::token::claims::{CLAIM_BYTES_MAX, Claims, SECS_MAX, WrongType};
use tidegate_core::token::json::{DEPTH_MAX, read};
use tidegate_core::token::{Malformed, PAYLOAD_BYTES_MAX};

const NAMES: [&str; 5] = ["iss", "jti", "sub", "iat", "a \"q\" \u{1f511}"];

pub(crate) fn claims() -> Claims {
    Claims::new(NAMES.map(Box::from).into())
}

/// What is to be said of a claim with this value.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    id: Result<Option<Vec<u8>>, WrongType>,
    secs: Result<Option<u64>, WrongType>,
    text: Option<Vec<u8>>,
}

impl Said {
    pub(crate) fn of(claims: &Claims, place: usize) -> Self {
        Self {
            id: claims.id(place).map(|id| id.map(<[u8]>::to_vec)),
            secs: claims.secs(place),
            text: claims.text(place).map(<[u8]>::to_vec),
        }
    }

    pub(crate) fn wanted(value: Option<&Value>) -> Self {
        let Some(value) = value else { return Self { id: Ok(None), secs: Ok(None), text: None } };
        let number = value.as_f64();
        let id = match value {
            Value::String(text) if text.len() <= CLAIM_BYTES_MAX => Some(text.clone()),
            Value::Number(_) => number
                .filter(|number| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0)
                .map(|number| format!("{}", number as i64)),
            _ => None,
        };
        let secs =
            number.filter(|it| *it >= 0.0 && *it < (SECS_MAX + 1) as f64).map(|it| it as u64);
        let text = match value {
            Value::Bool(flag) => Some(flag.to_string()),
            _ => id.clone(),
        };
        Self {
            id: id.map(String::into_bytes).ok_or(WrongType).map(Some),
            secs: secs.ok_or(WrongType).map(Some),
            text: text.map(String::into_bytes),
        }
    }
}

/// Values a few levels deep, as people write them and as they do not.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..2_000_000_000).prop_map(Value::from),
        any::<f64>()
            .prop_filter_map("finite", |it| serde_json::Number::from_f64(it).map(Value::from)),
        any::<String>().prop_map(Value::from),
        "[a-z0-9-]{1,40}".prop_map(Value::from),
        Just(Value::from("x".repeat(CLAIM_BYTES_MAX))),
        Just(Value::from("x".repeat(CLAIM_BYTES_MAX + 1))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// A payload: wanted claims and others.
pub(crate) fn payload() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((name(), value()), 0..8).prop_map(|fields| fields.into_iter().collect())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(&NAMES[..]).prop_map(String::from), 1 => any::<String>()]
}

/// Writes a value with all the freedom that JSON gives: spaces, and any character escaped.
fn write_freely(value: &Value, choices: &mut impl FnMut() -> u8, to: &mut String) {
    let mut space = |to: &mut String| {
        for _ in 0..choices() % 3 {
            to.push([' ', '\n', '\r', '\t'][usize::from(choices() % 4)]);
        }
    };
    space(to);
    match value {
        Value::String(text) => write_text(text, choices, to),
        Value::Array(items) => {
            to.push('[');
            for (place, item) in items.iter().enumerate() {
                to.push_str(if place > 0 { "," } else { "" });
                write_freely(item, choices, to);
            }
            to.push(']');
        }
        Value::Object(fields) => {
            to.push('{');
            for (place, (name, value)) in fields.iter().enumerate() {
                to.push_str(if place > 0 { "," } else { "" });
                write_freely(&Value::from(name.as_str()), choices, to);
                to.push(':');
                write_freely(value, choices, to);
            }
            to.push('}');
        }
        other => write!(to, "{other}").unwrap(),
    }
    to.push_str(["", " "][usize::from(choices() % 2)]);
}

fn write_text(text: &str, choices: &mut impl FnMut() -> u8, to: &mut String) {
    to.push('"');
    for char in text.chars() {
        match (char, choices() % 4) {
            ('"' | '\\' | '/', 0) => write!(to, "\\{char}").unwrap(),
            ('\n', 0) => to.push_str("\\n"),
            ('\u{8}', 0) => to.push_str("\\b"),
            ('"' | '\\' | '\0'..' ', _) | (_, 1) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    match choices() % 2 {
                        0 => write!(to, "\\u{unit:04x}").unwrap(),
                        _ => write!(to, "\\u{unit:04X}").unwrap(),
                    }
                }
            }
            _ => to.push(char),
        }
    }
    to.push('"');
}

/// The members of an object as they stand, duplicates and all.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// Holds what we say of a text against what `serde_json` says.
fn hold(json: &[u8]) -> Result<(), TestCaseError> {
    let mut claims = claims();
    let read = read(json, &mut claims);
    match serde_json::from_slice::<Members>(json) {
        Ok(Members(members)) => {
            let of = |name: &str| members.iter().filter(|(it, _)| it == name).count();
            let is_twice = NAMES.iter().any(|name| of(name) > 1);
            prop_assert_eq!(read.is_err(), is_twice);
            if !is_twice {
                for (place, name) in NAMES.iter().enumerate() {
                    let value = members.iter().find(|(it, _)| it == name).map(|(_, value)| value);
                    prop_assert_eq!(claims.is_there(place), value.is_some());
                    // A double may be whole where the number that was written is not.
                    if value.is_some_and(Value::is_f64) {
                        continue;
                    }
                    prop_assert_eq!(Said::of(&claims, place), Said::wanted(value), "{}", name);
                }
            }
        }
        // Ours has no need to hold the number, so none is out of its range.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => prop_assert_eq!(read, Err(Malformed), "{}", error),
    }
    Ok(())
}

proptest! {
    #[test]
    fn claims_are_what_another_reader_reads(payload in payload(), choices in any::<Vec<u8>>()) {
        let mut choices = choices.into_iter().cycle();
        let mut json = String::new();
        let mut next = || choices.next().unwrap_or(2);
        write_freely(&Value::Object(payload.clone()), &mut next, &mut json);
        prop_assume!(json.len() <= PAYLOAD_BYTES_MAX);
        let mut claims = claims();
        prop_assert_eq!(read(json.as_bytes(), &mut claims), Ok(()), "{}", json);
        for (place, name) in NAMES.iter().enumerate() {
            prop_assert_eq!(Said::of(&claims, place), Said::wanted(payload.get(*name)), "{}", json);
        }
    }

    #[test]
    fn whatever_is_damaged_is_told_from_what_is_not(
        payload in payload(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..5), 1..4),
    ) {
        let mut json = Value::Object(payload).to_string().into_bytes();
        for (place, byte, kind) in damages {
            let place = place.index(json.len());
            match kind {
                0 => json[place] = byte,
                1 => json.insert(place, byte),
                2 => drop(json.remove(place)),
                3 => json.insert(place, b"{}[],:\"\\ue-.019tfn "[usize::from(byte) % 19]),
                _ => json.truncate(place.max(1)),
            }
            if json.is_empty() {
                break;
            }
        }
        hold(&json)?;
    }

    #[test]
    fn fragments_of_json_are_read_as_by_another_reader(
        parts in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", " ", "\"jti\"", "\"iss\"", "\"\\u006ati\"", "\"x\"", "1",
            "-0", "1.5e3", "true", "null", "\"\\ud83d\\udd11\"", "\"\\ud83d\"", "01", "\"a\\\\\"",
        ][..]), 0..12),
        wrapped in any::<bool>(),
    ) {
        let inner = parts.concat();
        hold(if wrapped { format!("{{\"jti\":{inner}}}") } else { inner }.as_bytes())?;
    }
}

#[test]
fn a_claim_that_is_there_twice_is_refused_however_it_is_written() {
    for json in [
        r#"{"jti":"a","jti":"a"}"#,
        r#"{"jti":"a","\u006a\u0074i":"b"}"#,
        r#"{"jti":null,"x":{"jti":1},"jti":"b"}"#,
        r#"{"jti":[],"jti":"b"}"#,
        r#"{"jti":true,"jti":7}"#,
    ] {
        assert_eq!(read(json.as_bytes(), &mut claims()), Err(Malformed), "{json}");
    }
    // What nobody wants, and what lies deeper, may be there as often as it likes.
    let mut claims = claims();
    let json = br#"{"x":1,"x":2,"jti":"a","y":{"jti":"b","jti":"c"},"z":[{"jti":"d"}]}"#;
    assert_eq!(read(json, &mut claims), Ok(()));
    assert_eq!(claims.id(1), Ok(Some(&b"a"[..])));
}

#[test]
fn one_token_leaves_nothing_to_the_next() {
    let mut claims = claims();
    read(br#"{"iss":"i","jti":"secret","iat":5}"#, &mut claims).unwrap();
    read(br#"{"iss":"j"}"#, &mut claims).unwrap();
    assert_eq!(Said::of(&claims, 0), Said::wanted(Some(&json!("j"))));
    for place in 1..4 {
        assert_eq!(Said::of(&claims, place), Said::wanted(None));
    }
}

#[test]
fn no_depth_of_nesting_does_harm() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!(r#"{{"x":{}1{},"jti":"a"}}"#, open.repeat(levels), close.repeat(levels))
    };
    let most = DEPTH_MAX as usize - 1; // the root is a level too
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"b":"#, "}]")] {
        let levels = most / open.matches(['[', '{']).count();
        assert_eq!(read(nested(open, close, levels).as_bytes(), &mut claims()), Ok(()), "{open}");
        let deeper = nested(open, close, levels + 1);
        assert_eq!(read(deeper.as_bytes(), &mut claims()), Err(Malformed), "{open}");
        let bomb = format!("{{\"x\":{}", open.repeat(2_000));
        assert_eq!(read(bomb.as_bytes(), &mut claims()), Err(Malformed), "{open}");
    }
    // Brackets are told apart on every level.
    for json in [r#"{"x":[}]}"#, r#"{"x":[[]}}"#, r#"{"x":{"y":[1}]}"#] {
        assert_eq!(read(json.as_bytes(), &mut claims()), Err(Malformed), "{json}");
    }
}

#[test]
fn payloads_are_bounded() {
    let of = |bytes: usize| format!(r#"{{"jti":"a","x":"{}"}}"#, "x".repeat(bytes - 18));
    let most = of(PAYLOAD_BYTES_MAX);
    assert_eq!(most.len(), PAYLOAD_BYTES_MAX);
    assert_eq!(read(most.as_bytes(), &mut claims()), Ok(()));
    let longer = of(PAYLOAD_BYTES_MAX + 1);
    assert_eq!(read(longer.as_bytes(), &mut claims()), Err(Malformed));
    let megabyte = of(1 << 20);
    assert_eq!(read(megabyte.as_bytes(), &mut claims()), Err(Malformed));
}

#[test]
fn what_is_no_object_in_utf8_is_refused() {
    let cases: [&[u8]; 12] = [
        b"",
        b" ",
        b"null",
        b"\"jti\"",
        b"[{\"jti\":\"a\"}]",
        b"{\"jti\":\"a\"} x",
        b"{\"jti\":\"a\"}{}",
        b"{\"jti\":\"a\",}",
        b"{\"jti\":\"\xff\"}",
        b"{\"jti\":\"\xed\xa0\x80\"}",
        b"\xef\xbb\xbf{\"jti\":\"a\"}",
        b"{\"jti\":\"a\nb\"}",
    ];
    for json in cases {
        assert_eq!(read(json, &mut claims()), Err(Malformed), "{}", json.escape_ascii());
    }
}
