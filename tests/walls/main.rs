//! The house plan, as tests: which crate may use which, how thin shells stay, and that
//! what files say of other files is so.

use harness::parts::root;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The doors: each crate of ours, and every normal dependency that it may list.
///
/// To open a door, change this in the same commit and say why in its message.
const DOORS: &[(&str, &[&str])] = &[
    ("tidegate-core", &["serde", "sha2", "siphasher"]),
    (
        "tidegate-tests",
        &[
            "anyhow",
            "bytes",
            "http-body-util",
            "hyper",
            "hyper-util",
            "rustix",
            "saphyr",
            "serde_json",
            "tempfile",
            "tokio",
        ],
    ),
];

/// Shells only carry: the filter's lines of code, in percent of core's.
const SHELL_PERCENT_MAX: usize = 15;

/// Folders that hold nothing of ours.
const NOT_OURS: &[&str] = &["target", ".git"];

#[test]
fn every_dependency_goes_through_a_door() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let row = DOORS.iter().find(|(crate_name, _)| *crate_name == name);
        let (_, doors) = row.unwrap_or_else(|| panic!("`{name}` has no row in DOORS"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let wanted = dependency["name"].as_str().expect("a name");
            let normal = dependency["kind"].is_null();
            assert!(
                !normal || doors.contains(&wanted),
                "`{name}` may not depend on `{wanted}`: DOORS allows {doors:?}"
            );
        }
    }
}

#[test]
fn every_door_leads_somewhere() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    for (name, doors) in DOORS {
        let package = packages.iter().find(|package| package["name"] == *name);
        let package = package.unwrap_or_else(|| panic!("DOORS speaks of `{name}`; it is gone"));
        for door in *doors {
            let listed = package["dependencies"].as_array().expect("dependencies").iter();
            let used = listed.filter(|it| it["kind"].is_null()).any(|it| it["name"] == *door);
            assert!(used, "`{name}` no longer depends on `{door}`: close the door");
        }
    }
}

#[test]
fn the_filter_stays_thin() {
    let lines = |crate_name: &str| -> usize {
        let files = files_under(&root().join("crates").join(crate_name).join("src"));
        let sources = files.iter().filter(|path| is(path, "rs") && !is_test(path));
        sources.map(|path| code_lines(&read(path))).sum()
    };
    let (filter, core) = (lines("tidegate-filter"), lines("tidegate-core"));
    assert!(
        filter * 100 <= core * SHELL_PERCENT_MAX,
        "the filter has {filter} lines of code, core {core}: more than {SHELL_PERCENT_MAX} %. \
         What decides belongs in core"
    );
}

/// Lines that are neither blank nor comments.
fn code_lines(source: &str) -> usize {
    source.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with("//")).count()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output();
    serde_json::from_slice(&output.expect("cargo metadata").stdout).expect("JSON")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// Sibling tests are named `…_tests.rs` or `tests.rs`.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// Every file under a folder; none if the folder is not there.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !NOT_OURS.contains(&name.as_str()) {
            files.extend(files_under(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files
}
