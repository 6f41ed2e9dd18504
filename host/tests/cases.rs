//! `tidegate test` as a user runs it: the examples, what is said of files that cannot be run,
//! and of cases that fail.
//!
//! Each file in `host/tests/cases/bad` breaks one rule, and its `.stderr` is what is said about
//! it. A case of each in `host/tests/cases/failing` fails, and its `.txt` is the report.
//! `BLESS=1` writes what is said now; read the difference before keeping it.
//!
//! What runs cases takes the filter: `TIDEGATE_FILTER`, or what `cargo xtask build filter`
//! made. Without it a test skips aloud, or fails if `TIDEGATE_REQUIRE_REAL=1`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tidegate::shipped::Build;
use tidegate::test::{Ended, Options};

/// Where this package is.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Modules compiled by one test serve the others.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// Runs the command as a user in a folder does.
fn test_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env("XDG_CACHE_HOME", cache()).current_dir(folder);
    command.arg("test").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Whether this machine has the filter.
fn can_run() -> bool {
    let missing = [Build::Plain, Build::Standing].iter().find_map(|build| build.find(None).err());
    let Some(missing) = missing else { return true };
    let must = std::env::var("TIDEGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!must, "{missing}");
    eprintln!("SKIPPED: {missing}");
    false
}

/// The files of cases in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().ends_with(".test.yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    files
}

/// Holds what was said against the golden file, or writes that.
fn hold(golden: &Path, said: &str, different: &mut Vec<String>) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(golden, said).unwrap();
        return;
    }
    let wanted = fs::read_to_string(golden).unwrap_or_default();
    if wanted != said {
        different.push(format!("{}\n--- wanted\n{wanted}--- said\n{said}", golden.display()));
    }
}

fn golden(file: &Path, extension: &str) -> PathBuf {
    file.with_extension("").with_extension(extension)
}

/// A report without what is never the same twice.
fn timeless(report: &str) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((rest, "ms")) => match rest.rsplit_once(' ') {
            Some((rest, _)) => format!("{rest} N ms"),
            None => line.to_owned(),
        },
        _ => line.to_owned(),
    };
    report.lines().map(|it| line(it) + "\n").collect()
}

#[test]
fn files_that_cannot_be_run_are_told_what_is_wrong_with_them() {
    let folder = here().join("tests/cases/bad");
    let mut different = Vec::new();
    for file in files(&folder) {
        let name = file.file_name().and_then(OsStr::to_str).unwrap();
        let Output { status, stdout, stderr } = test_in(&folder, &[name]);
        assert_eq!((status.code(), text(&stdout)), (Some(64), String::new()), "{name}");
        let said = text(&stderr);
        let is_told = |line: &str| line.starts_with("  hint: ") || line.contains(".yaml:");
        assert!(!said.is_empty() && said.lines().all(is_told), "{name}: {said}");
        hold(&golden(&file, "stderr"), &said, &mut different);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_failure_shows_the_step_the_difference_and_the_response() {
    if !can_run() {
        return;
    }
    let folder = here().join("tests/cases/failing");
    let mut different = Vec::new();
    for file in files(&folder) {
        let name = file.file_name().and_then(OsStr::to_str).unwrap();
        let Output { status, stdout, stderr } = test_in(&folder, &[name]);
        assert_eq!((status.code(), text(&stderr)), (Some(1), String::new()), "{name}");
        hold(&golden(&file, "txt"), &timeless(&text(&stdout)), &mut different);
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn no_golden_file_has_lost_its_case() {
    for (name, extension) in [("bad", "stderr"), ("failing", "txt")] {
        let folder = here().join("tests/cases").join(name);
        let known: Vec<PathBuf> =
            files(&folder).iter().map(|file| golden(file, extension)).collect();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stray = path.extension() == Some(OsStr::new(extension)) && !known.contains(&path);
            assert!(!stray, "{} has no case beside it", path.display());
        }
    }
}

#[test]
fn every_example_is_true_and_every_field_has_an_effect() {
    if !can_run() {
        return;
    }
    let Output { status, stdout, stderr } = test_in(here(), &["examples", "tests/cases/good"]);
    assert!(status.success(), "{}{}", text(&stdout), text(&stderr));
    println!("{}", text(&stdout));
}

#[test]
fn the_same_cases_come_out_the_same() {
    if !can_run() {
        return;
    }
    let report = || timeless(&text(&test_in(here(), &["examples", "tests/cases/failing"]).stdout));
    assert_eq!(report(), report());
}

/// 744 hours, a request in each, and a limit that is kept in the store.
const MONTH: &str = "
policy:
  tidegate: 1
  domain: month
  host: { cluster: tidegate }
  limits:
    - { name: local, key: client_ip, rate: 1/1h }
    - { name: global, key: client_ip, rate: 700/31d, algorithm: sliding_window, scope: global }
cases:
  - name: a month of one request an hour
    steps:
      - { times: 744, every: 1h, expect: { allowed: 700, limited: 44, limit: global } }
";

#[test]
fn a_virtual_month_takes_well_under_a_second() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("month.test.yaml");
    fs::write(&file, MONTH).unwrap();
    let options = Options { paths: vec![file], cache: Some(cache()), ..Options::default() };
    let run = || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = tidegate::test::run(&options, &mut out, &mut err).unwrap();
        assert_eq!(ended, Ended::Passed, "{}{}", text(&out), text(&err));
        text(&out)
    };
    // The first time may compile the filter.
    run();
    let started = worked();
    let report = run();
    let took = worked() - started;
    println!("{took:?} of the processor: {report}");
    assert!(report.contains("744 requests over 30 days"), "{report}");
    // Built without optimisation, as tests are, and beside others; as it ships it is a fifth.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// How long this thread has kept a processor busy.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn cases_can_be_named_chosen_and_reported_to_build_servers() {
    let examples = here().join("examples/policies");
    let listed = text(&test_in(&examples, &["--list", "."]).stdout);
    assert!(listed.contains("./shop.test.yaml:9: nobody is limited but under /api/"), "{listed}");
    let chosen = test_in(&examples, &["--list", ".", "--only", "preflights"]);
    assert_eq!(text(&chosen.stdout).lines().count(), 1, "{}", text(&chosen.stdout));
    let none = test_in(&examples, &[".", "--only", "no such"]);
    assert_eq!(none.status.code(), Some(64));
    assert_eq!(text(&none.stderr), "tidegate: no case has \"no such\" in its name\n");
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("report.xml");
    let failing = here().join("tests/cases/failing");
    let arguments = ["second-case.test.yaml", "--junit", junit.to_str().unwrap()];
    assert_eq!(test_in(&failing, &arguments).status.code(), Some(1));
    let xml = fs::read_to_string(&junit).unwrap();
    for part in [
        "<testsuites name=\"tidegate test\" tests=\"2\" failures=\"1\" time=\"",
        "<testsuite name=\"second-case.test.yaml\" tests=\"2\" failures=\"1\" time=\"",
        "name=\"one\" file=\"second-case.test.yaml\" line=\"3\" time=\"",
        "name=\"two &lt;&amp;&gt;\" file=\"second-case.test.yaml\" line=\"4\" time=\"",
        "<failure message=\"at 0s: GET / from 192.0.2.1\">second-case.test.yaml:4\n",
        "  + verdict: allowed\n",
    ] {
        assert!(xml.contains(part), "{part} is not in\n{xml}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    for (arguments, said) in [
        (&["none"][..], "tidegate: none: No such file or directory"),
        (&["src"], "tidegate: src: no cases here, found no *.test.yaml"),
        (
            &["examples", "--filter-file", "none.wasm"],
            "tidegate: none.wasm: cannot be read: No such file",
        ),
        (&["examples", "--filter-file", "Cargo.toml"], "tidegate: "),
    ] {
        let Output { status, stderr, .. } = test_in(here(), arguments);
        assert_eq!(status.code(), Some(64), "{arguments:?}");
        assert!(text(&stderr).starts_with(said), "{}", text(&stderr));
    }
    assert!(text(&test_in(here(), &[]).stderr).contains("Usage:"));
}
