//! `tidegate check` against the golden files of `crates/tidegate-core/tests/policy`.
//!
//! Each `bad/NAME.yaml` (or `.json`) breaks one rule, and `bad/NAME.stderr` is what is said
//! about it; names that begin with `warning-` are taken all the same. Each `good/NAME.yaml`
//! is taken without a word, and `good/NAME.txt` is the account of it. `BLESS=1` writes what
//! is said now; read the difference before keeping it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tidegate::policy_file;
use tidegate_policy::resolve::{Resolved, resolve};
use tidegate_policy::text::{Document, Node, Value, from_struct};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/tidegate-core/tests/policy").join(name)
}

/// The policies of a folder, by name.
fn policies(name: &str) -> Vec<PathBuf> {
    let is_policy =
        |path: &PathBuf| matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "json"));
    let entries = std::fs::read_dir(folder(name)).unwrap();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(is_policy).collect();
    files.sort();
    assert!(!files.is_empty(), "no policies in {name}");
    files
}

/// Runs the command as a user in the file's folder does.
fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .current_dir(file.parent().unwrap())
        .arg("check")
        .arg(file.file_name().unwrap())
        .output()
        .unwrap()
}

/// Holds what was said against the golden file, or writes that.
fn hold(golden: &Path, said: &[u8], different: &mut Vec<String>) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(golden, said).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(golden).unwrap_or_default();
    let said = String::from_utf8_lossy(said);
    if wanted != said {
        different.push(format!("{}\n--- wanted\n{wanted}--- said\n{said}", golden.display()));
    }
}

#[test]
fn each_bad_policy_is_told_what_is_wrong_with_it() {
    let mut different = Vec::new();
    for file in policies("bad") {
        let name = file.file_name().unwrap().to_string_lossy();
        let Output { status, stdout, stderr } = check(&file);
        let warned_only = name.starts_with("warning-");
        assert_eq!(status.code(), Some(if warned_only { 0 } else { 1 }), "{name}");
        assert_eq!(!stdout.is_empty(), warned_only, "{name}: an account of what cannot be used");
        for line in String::from_utf8_lossy(&stderr).lines() {
            let is_hint = line.starts_with("  hint: ");
            assert!(is_hint || line.starts_with(&format!("{name}:")), "{name}: {line}");
            assert!(is_hint || line.contains(": warning: ") == warned_only, "{name}: {line}");
        }
        hold(&file.with_extension("stderr"), &stderr, &mut different);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn each_good_policy_gets_an_account() {
    let mut different = Vec::new();
    for file in policies("good") {
        let Output { status, stdout, stderr } = check(&file);
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success() && said.is_empty(), "{}: {said}", file.display());
        hold(&file.with_extension("txt"), &stdout, &mut different);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn no_golden_file_has_lost_its_policy() {
    for (name, extension) in [("bad", "stderr"), ("good", "txt")] {
        let golden =
            policies(name).iter().map(|file| file.with_extension(extension)).collect::<Vec<_>>();
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let path = entry.unwrap().path();
            let stray = path.extension() == Some(OsStr::new(extension)) && !golden.contains(&path);
            assert!(!stray, "{} has no policy beside it", path.display());
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = check(&folder("bad").join("none.yaml"));
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.starts_with("none.yaml: No such file"), "{said}");
}

#[test]
fn one_policy_is_the_same_in_yaml_json_and_struct() {
    for file in policies("good") {
        let yaml = policy_file::read(&file).unwrap();
        let json = policy_file::from_json(&to_json(&yaml.root).to_string()).unwrap();
        let structure = from_struct(&to_struct(&yaml)).unwrap();
        let Resolved { policy, diagnostics } = resolve(&yaml);
        assert_eq!(diagnostics, []);
        assert!(policy.is_some());
        assert_eq!(resolve(&json).policy, policy, "{} as JSON", file.display());
        assert_eq!(resolve(&structure).policy, policy, "{} as Struct", file.display());
    }
}

#[test]
fn bad_policies_are_bad_in_json_and_struct_too() {
    for file in policies("bad") {
        let Ok(yaml) = policy_file::read(&file) else { continue };
        let told = |document: &Document| -> Vec<(String, String)> {
            let told = resolve(document).diagnostics.into_iter();
            let mut told: Vec<_> = told.map(|it| (it.path, it.wanted)).collect();
            told.sort(); // JSON's maps have another order
            told
        };
        let wanted = told(&yaml);
        if let Value::Map(_) = yaml.root.value {
            let structure = from_struct(&to_struct(&yaml)).unwrap();
            assert_eq!(told(&structure), wanted, "{} as Struct", file.display());
        }
        // A JSON value of ours cannot say a field twice.
        if !file.to_string_lossy().contains("twice") {
            let json = policy_file::from_json(&to_json(&yaml.root).to_string()).unwrap();
            assert_eq!(told(&json), wanted, "{} as JSON", file.display());
        }
    }
}

#[test]
fn documents_are_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(policy_file::from_yaml(&deep(32)).is_ok());
    assert!(policy_file::from_yaml(&deep(33)).is_err());
    let many = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
    assert!(policy_file::from_yaml(&many(1 << 16)).is_ok());
    assert!(policy_file::from_yaml(&many((1 << 16) + 1)).is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.yaml");
    std::fs::write(&file, "#".repeat(1 << 20)).unwrap();
    assert!(policy_file::read(&file).is_ok());
    std::fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
    let refused = policy_file::read(&file).unwrap_err().to_string();
    assert_eq!(refused, "longer than 1024 KiB");
}

#[test]
fn only_plain_scalars_of_one_meaning_are_no_text() {
    let value = |yaml: &str| match policy_file::from_yaml(yaml).unwrap().root.value {
        Value::List(mut nodes) => nodes.remove(0).value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value("[5]"), Value::Whole(5));
    assert_eq!(value("[-5]"), Value::Whole(-5));
    assert_eq!(value("[true]"), Value::Bool(true));
    assert_eq!(value("[~]"), Value::Null);
    for text in ["010", "0x1f", "1.10", "1e3", "1_000", "+5", "-0", "yes", "on", "5/1m"] {
        assert_eq!(value(&format!("[{text}]")), Value::Text(text.into()), "{text}");
    }
    for text in ["5", "true", "null", ""] {
        assert_eq!(value(&format!("[\"{text}\"]")), Value::Text(text.into()), "{text}");
    }
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Whole(number) => (*number).into(),
        Value::Fraction(number) => (*number).into(),
        Value::Text(text) => (**text).into(),
        Value::List(nodes) => nodes.iter().map(to_json).collect(),
        Value::Map(fields) => {
            fields.iter().map(|field| (field.name.to_string(), to_json(&field.node))).collect()
        }
    }
}

/// A document whose root is a map, as protobuf writes a `google.protobuf.Struct`.
fn to_struct(document: &Document) -> Vec<u8> {
    fields_of(&document.root)
}

fn fields_of(node: &Node) -> Vec<u8> {
    let Value::Map(fields) = &node.value else { panic!("a Struct is a map") };
    let entries = fields.iter().map(|field| {
        let entry = [tagged(1, field.name.as_bytes()), tagged(2, &value_of(&field.node))];
        tagged(1, &entry.concat())
    });
    entries.collect::<Vec<_>>().concat()
}

fn value_of(node: &Node) -> Vec<u8> {
    let double = |number: f64| [&[0x11][..], &number.to_le_bytes()].concat();
    match &node.value {
        Value::Null => vec![0x08, 0],
        Value::Bool(flag) => vec![0x20, u8::from(*flag)],
        Value::Whole(number) => double(*number as f64),
        Value::Fraction(number) => double(*number),
        Value::Text(text) => tagged(3, text.as_bytes()),
        Value::Map(_) => tagged(5, &fields_of(node)),
        Value::List(nodes) => {
            let values: Vec<_> = nodes.iter().map(|node| tagged(1, &value_of(node))).collect();
            tagged(6, &values.concat())
        }
    }
}

/// A length-delimited field.
fn tagged(number: u8, content: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![number << 3 | 2], content.len());
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
    bytes
}
