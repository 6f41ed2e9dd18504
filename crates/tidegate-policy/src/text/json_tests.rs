use super::*;
use alloc::format;
use alloc::string::ToString;
use proptest::prelude::*;

/// As the host reads it.
fn theirs(text: &[u8]) -> Option<Document> {
    serde_json::from_slice(text).ok()
}

fn near(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= theirs.abs() * 1e-12 + f64::MIN_POSITIVE
        && ours.is_sign_negative() == theirs.is_sign_negative()
}

fn is_same(ours: &Node, theirs: &Node) -> bool {
    match (&ours.value, &theirs.value) {
        (Value::Fraction(ours), Value::Fraction(theirs)) => near(*ours, *theirs),
        (Value::List(ours), Value::List(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| is_same(a, b))
        }
        (Value::Map(ours), Value::Map(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.name == b.name && is_same(&a.node, &b.node))
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Fails unless both readers take the text for the same, or both refuse it.
fn agrees(text: &[u8]) {
    let (ours, theirs) = (from_json(text), theirs(text));
    let agrees = match (&ours, &theirs) {
        (Ok(ours), Some(theirs)) => is_same(&ours.root, &theirs.root),
        (Err(_), None) => true,
        _ => false,
    };
    assert!(agrees, "{:?}: {ours:?}, not {theirs:?}", text.escape_ascii().to_string());
}

#[test]
fn the_corners_of_the_grammar_read_as_the_host_reads_them() {
    let texts = [
        "",
        " ",
        "{}",
        " {} ",
        "{}x",
        "[]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{,}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\" : [ ] , \"a\":{}}",
        "{a:1}",
        "{1:1}",
        "[1",
        "{\"a\":",
        "\"a",
        "nul",
        "null",
        "true",
        "false",
        "truex",
        "True",
        "0",
        "-0",
        "00",
        "-01",
        "-",
        "1.",
        ".5",
        "+1",
        "1.5",
        "-1.50",
        "1e3",
        "1E+3",
        "1e-3",
        "1e",
        "1e+",
        "0e999",
        "1e308",
        "1e309",
        "-1e309",
        "1e-999",
        "1e99999999999",
        "0.0000000000000000000000000000001",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551619",
        "123456789012345678901234567890",
        "0.12345678901234567890123",
        "1234567890123456789012345e-10",
        "NaN",
        "\"\\u0041\\n\\/\\\"\"",
        "\"\\u00e9\\uD83D\\uDE00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\n\"",
        "\"\\ud83d\\u0041\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\x\"",
        "\"\t\"",
        "\"\u{7f}é😀\"",
        "\u{feff}{}",
        "{}\u{a0}",
        "{}\0",
        "[1]//",
    ];
    for text in texts {
        agrees(text.as_bytes());
    }
    for bytes in [&b"\"\xff\""[..], b"{}\xc3", b"\"\xed\xa0\x80\"", b"\"\\\xc3\xa9\""] {
        agrees(bytes);
    }
}

#[test]
fn the_bounds_are_those_of_every_reader() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
    let (depth, nodes) = (DEPTH_MAX as usize, NODES_MAX as usize);
    for text in [nested(depth), nested(depth + 1), list(nodes), list(nodes + 1)] {
        agrees(text.as_bytes());
    }
    let why = |text: &str| from_json(text.as_bytes()).unwrap_err().what;
    assert!(why(&nested(depth + 1)).contains("32 levels"));
    assert!(why(&list(nodes + 1)).contains("65536 values"));
}

#[test]
fn an_error_says_where_and_what() {
    let why = |text: &str| from_json(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(why("{\n  \"é\": 1\n  \"b\""), "expected `,` or `}` at line 3 column 3");
    assert_eq!(why("{\"é\" 1}"), "expected `:` at line 1 column 6");
    assert_eq!(why("{\"a\": nope}"), "expected a value at line 1 column 7");
    assert_eq!(why("[01, 2]"), "a number as JSON does not write it at line 1 column 2");
    assert_eq!(why("{\"tidegate\": 1,"), "the text ends too early at line 1 column 16");
    assert_eq!(why("{} {}"), "expected nothing more at line 1 column 4");
}

/// JSON, nearly: its tokens in any order, and some that it does not have.
fn tokens() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[-+]?[0-9]{0,22}(\\.[0-9]{0,22})?([eE][-+]?[0-9]{0,3})?",
        "\"([a-é]|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude[0-9a-f]{2})*\"",
        "[\\[\\]{},: \n\t]|null|true|false|\\PC",
    ];
    proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

/// A JSON value.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..5);
        let map = proptest::collection::vec((any::<String>(), inner), 0..5);
        prop_oneof![
            list.prop_map(Into::into),
            map.prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_reads_as_the_host_reads_it(text in tokens()) {
        agrees(text.as_bytes());
    }

    #[test]
    fn any_json_reads_as_the_host_reads_it(value in value(), pretty in any::<bool>()) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        prop_assert!(from_json(text.as_bytes()).is_ok());
        agrees(text.as_bytes());
    }

    #[test]
    fn what_is_cut_or_changed_reads_as_the_host_reads_it(
        value in value(), at in any::<prop::sample::Index>(), byte in any::<Option<u8>>(),
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        agrees(&bytes);
    }
}
