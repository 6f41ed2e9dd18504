//! The house plan, as tests: which crate may use which, how thin shells stay, and that
//! what files say of other files is so.

mod wit;

use harness::parts::root;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The doors: each crate of ours, and every normal dependency that it may list.
///
/// To open a door, change this in the same commit and say why in its message.
const DOORS: &[(&str, &[&str])] = &[
    ("tidegate-core", &["hmac", "sha1_smol", "sha2", "siphasher", "xxhash-rust"]),
    ("tidegate-policy", &["serde", "tidegate-core"]),
    ("tidegate-filter", &["proxy-wasm", "tidegate-core", "tidegate-policy"]),
    ("tidegate-component", &["tidegate-core", "tidegate-policy", "wit-bindgen"]),
    (
        "tidegate-redis",
        &[
            "arc-swap",
            "fastrand",
            "futures-util",
            "percent-encoding",
            "redis",
            "rustls",
            "rustls-native-certs",
            "sha1_smol",
            "socket2",
            "tidegate-core",
            "tokio",
            "tokio-rustls",
            "tracing",
            "url",
            "x509-parser",
        ],
    ),
    (
        "proxy-wasm-host",
        &[
            "bytes",
            "cel",
            "chrono",
            "flate2",
            "regex",
            "ring",
            "rustls-pki-types",
            "sha2",
            "wasmtime",
        ],
    ),
    (
        "tidegate",
        &[
            "base64ct",
            "bytes",
            "chrono",
            "clap",
            "fastrand",
            "form_urlencoded",
            "futures-util",
            "h2",
            "http-body-util",
            "hyper",
            "hyper-util",
            "indicatif",
            "jsonwebtoken",
            "prometheus-client",
            "proxy-wasm-host",
            "redb",
            "ring",
            "rustix",
            "rustls",
            "rustls-native-certs",
            "saphyr-parser",
            "serde",
            "serde_json",
            "sha2",
            "signature",
            "siphasher",
            "strsim",
            "subtle",
            "tidegate-core",
            "tidegate-policy",
            "tidegate-redis",
            "tokio",
            "tokio-rustls",
            "tracing",
            "tracing-subscriber",
            "wasmtime",
            "wasmtime-wasi",
            "x509-parser",
            "xorf",
        ],
    ),
    (
        "tidegate-tests",
        &[
            "anyhow",
            "base64ct",
            "bytes",
            "hmac",
            "http-body-util",
            "hyper",
            "hyper-util",
            "proxy-wasm-host",
            "rcgen",
            "rustix",
            "saphyr",
            "serde_json",
            "sha2",
            "tempfile",
            "tidegate",
            "tidegate-core",
            "tidegate-policy",
            "tokio",
            "wat",
            "wit-component",
            "wit-parser",
        ],
    ),
    ("edge-server", &["getrandom", "http-body-util", "hyper", "hyper-util", "tokio", "wasmtime"]),
    ("guest-puppet", &[]),
    ("guest-sdk", &["log", "proxy-wasm"]),
    (
        "xtask",
        &["anyhow", "lexopt", "serde_json", "sha2", "wasm-encoder", "wasmparser", "wit-component"],
    ),
];

/// Shells only carry: the filter's lines of code, in percent of core's and the policy reader's.
const SHELL_PERCENT_MAX: usize = 15;

/// Not counted: the proxy's interface said in Rust, and the memory for it. Neither holds
/// anything that could be decided elsewhere.
const GROUNDWORK: &[&str] = &["abi.rs", "memory.rs"];

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
        let sources =
            files.iter().filter(|path| is(path, "rs") && !is_test(path) && !is_groundwork(path));
        sources.map(|path| code_lines(&read(path))).sum()
    };
    let filter = lines("tidegate-filter");
    let core = lines("tidegate-core") + lines("tidegate-policy");
    assert!(
        filter * 100 <= core * SHELL_PERCENT_MAX,
        "the filter has {filter} lines of code, core {core}: more than {SHELL_PERCENT_MAX} %. \
         What decides belongs in core"
    );
}

/// What a file says of another file is so: every path in backquotes, or that a link leads
/// to, is there.
#[test]
fn every_path_that_is_named_exists() {
    let files = files_under(root());
    let mut named = 0;
    let mut stale = Vec::new();
    for file in files.iter().filter(|path| is(path, "rs") || is(path, "md") || is_config(path)) {
        for token in prose(file).lines().flat_map(|line| tokens(line).collect::<Vec<_>>()) {
            if !is_path(&token) {
                continue;
            }
            named += 1;
            if !leads_somewhere(file, &token, &files) {
                stale.push(format!("{}: `{token}`", shown(file)));
            }
        }
    }
    assert!(stale.is_empty(), "these lead nowhere:\n{}", stale.join("\n"));
    assert!(named > 10, "only {named} paths found in all files: is the search right?");
}

/// A configuration that nobody runs is a configuration that does not work.
#[test]
fn every_configuration_for_envoy_is_run_by_a_test() {
    let tests: String = files_under(&root().join("tests")).iter().map(|path| read(path)).collect();
    for file in files_under(&root().join("envoy")).iter().filter(|path| is(path, "yaml")) {
        let name = shown(file);
        let name = name.trim_start_matches("envoy/");
        assert!(tests.contains(&format!("{name}\"")), "no test runs envoy/{name}");
    }
}

/// The part of a file that is for people: all of a page, the comments of anything else.
fn prose(file: &Path) -> String {
    let text = read(file);
    if is(file, "md") {
        return text;
    }
    let mark = if is(file, "rs") { "//" } else { "#" };
    text.lines().filter_map(|line| Some(line.split_once(mark)?.1)).fold(
        String::new(),
        |mut prose, line| {
            prose.push_str(line);
            prose.push('\n');
            prose
        },
    )
}

/// What stands between backquotes in a line, and what its links lead to.
fn tokens(line: &str) -> impl Iterator<Item = String> {
    let quoted = line.split('`').skip(1).step_by(2);
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    quoted.chain(linked).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Whether a token is meant as a path of ours: relative, with the name of a file of a kind
/// that we write by hand, and not a pattern.
fn is_path(token: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let is_made = token.starts_with("target/");
    let kinds = ["rs", "md", "yaml", "toml", "lua", "sh"];
    let stem = Path::new(token).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let stands_for_another = !stem.is_empty()
        && !stem.chars().any(|c| c.is_ascii_lowercase())
        && !["README", "CHANGELOG", "CONTRIBUTING", "LICENSE"].contains(&stem);
    token.chars().all(plain)
        && !token.starts_with('/')
        && !is_made
        && !stands_for_another
        && kinds.iter().any(|kind| is(Path::new(token), kind))
}

/// Whether a path is there: from the root, from a folder above the file that names it
/// (or its `src`), or, for a bare name, anywhere.
fn leads_somewhere(file: &Path, token: &str, files: &[PathBuf]) -> bool {
    let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root()));
    let mut places = above.flat_map(|folder| [folder.join(token), folder.join("src").join(token)]);
    places.any(|place| place.exists())
        || (!token.contains('/') && files.iter().any(|path| path.ends_with(token)))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn is_config(path: &Path) -> bool {
    is(path, "yaml") || is(path, "toml")
}

fn is_groundwork(path: &Path) -> bool {
    GROUNDWORK.iter().any(|name| path.ends_with(name))
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

/// As text; some files are bad on purpose.
fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// Sibling tests are named `…_tests`, or `tests` within a folder.
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
