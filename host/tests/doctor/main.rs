//! `tidegate doctor` before real servers that are well, and that are not: one of each kind of
//! trouble, its level, its remedy, and the program's exit code.

#[path = "../../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;

mod cluster;
mod memory;
mod revocations;
mod sentinel;
mod standalone;
mod tls;

use serde_json::Value;
use std::fmt::Write;
use std::process::{Command, Stdio};

/// What the doctor said, and how the program ended.
struct Told {
    exit: i32,
    findings: Vec<Value>,
}

/// Runs it with this configuration.
fn doctor(yaml: &str) -> Told {
    let output = run(yaml, &["--json"]);
    let exit = output.status.code().expect("it ends by itself");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    });
    assert_eq!(report["exit_code"], exit, "{report}");
    Told { exit, findings: report["findings"].as_array().expect("findings").clone() }
}

/// Runs it with this configuration and these arguments.
fn run(yaml: &str, arguments: &[&str]) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(["doctor", "--config"]).arg(&file).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Told {
    /// A finding of this level and check whose text contains this; it must have a remedy
    /// unless all is well.
    #[track_caller]
    fn has(&self, level: &str, check: &str, found: &str) {
        let fits = |finding: &&Value| {
            finding["level"] == level
                && finding["check"] == check
                && finding["found"].as_str().unwrap().contains(found)
        };
        let Some(finding) = self.findings.iter().find(fits) else {
            panic!("no {level} {check} {found:?} in{}", self.all());
        };
        let needs_remedy = ["WARNING", "CRITICAL"].contains(&level);
        assert!(!needs_remedy || finding["remedy"].is_string(), "{finding}");
    }

    /// Nothing is worse than well.
    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.exit, 0, "{}", self.all());
    }

    fn all(&self) -> String {
        self.findings.iter().fold(String::new(), |mut all, finding| {
            let _ = write!(all, "\n{finding}");
            all
        })
    }
}
