use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

fn read(json: &str) -> Result<Document, serde_json::Error> {
    serde_json::from_str(json)
}

fn text(text: &str) -> Node {
    Value::Text(text.into()).into()
}

#[test]
fn json_keeps_order_duplicates_and_whole_numbers() {
    let document = read(r#"{"b": 1, "a": [true, null, 1.5, "x"], "b": 9007199254740993}"#).unwrap();
    let Value::Map(fields) = document.root.value else { panic!("not a map") };
    let names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
    assert_eq!(names, ["b", "a", "b"]);
    assert_eq!(fields[0].node.value, Value::Whole(1));
    let list =
        vec![Value::Bool(true).into(), Value::Null.into(), Value::Fraction(1.5).into(), text("x")];
    assert_eq!(fields[1].node.value, Value::List(list));
    assert_eq!(fields[2].node.value, Value::Whole(9_007_199_254_740_993));
}

#[test]
fn json_too_deep_is_refused() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(&nested(DEPTH_MAX as usize)).is_ok());
    let refused = read(&nested(DEPTH_MAX as usize + 1)).unwrap_err();
    assert!(refused.to_string().contains("32 levels"), "{refused}");
}

#[test]
fn json_with_too_many_values_is_refused() {
    let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
    assert!(read(&list(NODES_MAX as usize)).is_ok());
    let refused = read(&list(NODES_MAX as usize + 1)).unwrap_err();
    assert!(refused.to_string().contains("65536 values"), "{refused}");
}

/// `{"n": 5, "t": "x", "l": [true, null], "s": {"f": 0.5}}`, as `protoc --encode` writes it.
const STRUCT: &[u8] = &[
    0x0a, 0x0e, 0x0a, 0x01, b'n', 0x12, 0x09, 0x11, 0, 0, 0, 0, 0, 0, 0x14, 0x40, //
    0x0a, 0x08, 0x0a, 0x01, b't', 0x12, 0x03, 0x1a, 0x01, b'x', //
    0x0a, 0x0f, 0x0a, 0x01, b'l', 0x12, 0x0a, 0x32, 0x08, 0x0a, 0x02, 0x20, 0x01, 0x0a, 0x02, 0x08,
    0x00, //
    0x0a, 0x19, 0x0a, 0x01, b's', 0x12, 0x14, 0x2a, 0x12, 0x0a, 0x10, 0x0a, 0x03, b'f', b'u', b'n',
    0x12, 0x09, 0x11, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f,
];

#[test]
fn a_struct_reads_as_the_same_json_would() {
    let json = r#"{"n": 5, "t": "x", "l": [true, null], "s": {"fun": 0.5}}"#;
    assert_eq!(from_struct(STRUCT), Ok(read(json).unwrap()));
    assert_eq!(from_struct(b""), Ok(read("{}").unwrap()));
}

#[test]
fn a_struct_cut_anywhere_is_refused_or_ends_after_a_field() {
    let whole_fields = [0, 16, 26, 43, STRUCT.len()];
    for length in 0..=STRUCT.len() {
        let read = from_struct(&STRUCT[..length]);
        assert_eq!(read.is_ok(), whole_fields.contains(&length), "cut at {length}: {read:?}");
    }
}

#[test]
fn a_struct_with_any_one_byte_changed_reads_or_is_refused() {
    for at in 0..STRUCT.len() {
        for byte in 0..=u8::MAX {
            let mut bytes = STRUCT.to_vec();
            bytes[at] = byte;
            let _ = from_struct(&bytes); // and does not panic
        }
    }
}

#[test]
fn json_is_no_struct() {
    for json in ["{}", "\n{}", "\n{\"tidegate\": 1}", "\n\n{\"a\": 1}", "[]", "1", "\n"] {
        assert!(from_struct(json.as_bytes()).is_err(), "{json:?}");
    }
}

#[test]
fn a_struct_too_deep_is_refused() {
    let mut bytes = Vec::new();
    let mut deepest_read = 0;
    for depth in 1..=40 {
        // Wrap: Struct { fields: { "": Value { struct_value: … } } }, with two-byte lengths.
        let length = |n: usize| [0x80 | (n & 0x7f) as u8, (n >> 7) as u8];
        let mut value = vec![0x2a];
        value.extend(length(bytes.len()));
        value.append(&mut bytes);
        let mut entry = vec![0x12];
        entry.extend(length(value.len()));
        entry.append(&mut value);
        bytes.push(0x0a);
        bytes.extend(length(entry.len()));
        bytes.append(&mut entry);
        if from_struct(&bytes).is_ok() {
            deepest_read = depth;
        }
    }
    assert_eq!(deepest_read, DEPTH_MAX);
}

#[test]
fn a_length_beyond_the_end_is_refused() {
    let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(from_struct(&huge).is_err());
    let endless = [0xff; 32];
    assert!(from_struct(&endless).is_err());
}
