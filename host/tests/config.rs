//! Configurations that are wrong: one file and its exact message each, in `config/NAME.yaml`
//! and `config/NAME.stderr`. And those that are right, from file and environment.
//!
//! `TIDEGATE_BLESS=1` writes the messages as they are now; read them before committing.

mod common;

use common::{Host, Logs, tidegate};
use std::path::Path;
use std::process::{Output, Stdio};

/// `EX_USAGE`, `EX_CONFIG`.
const USAGE: i32 = 64;
const CONFIG: i32 = 78;

#[test]
fn every_wrong_file_gets_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|file| {
            file.unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_suffix(".yaml")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        let mut command = tidegate();
        command.current_dir(&folder).args(["serve", "--config", &format!("{name}.yaml")]);
        command.env("SOME_SECRET", "hunter2");
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(CONFIG), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{name}: {said}");
        let golden = folder.join(format!("{name}.stderr"));
        if std::env::var("TIDEGATE_BLESS").is_ok_and(|bless| bless == "1") {
            std::fs::write(&golden, &said).unwrap();
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(said, wanted, "{name}.yaml");
    }
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (name, value, says) in [
        (
            "TIDEGATE_REDIS_DB",
            "x",
            "TIDEGATE_REDIS_DB: redis.db: found \"x\", wanted a whole number",
        ),
        (
            "TIDEGATE_LISTEN",
            "8081",
            "TIDEGATE_LISTEN: listen: found \"8081\", wanted an IP address",
        ),
        (
            "TIDEGATE_PROVIDER",
            "etcd",
            "TIDEGATE_PROVIDER: provider: found \"etcd\", wanted one of memory, redis",
        ),
        (
            "TIDEGATE_REDIS_URL",
            "rediss://:hunter2@h",
            "TIDEGATE_REDIS_URL: redis.url: rediss:// (TLS) is not served yet",
        ),
        (
            "TIDEGATE_REDIS_URL",
            "h:hunter2",
            "TIDEGATE_REDIS_URL: redis.url: does not begin with redis://",
        ),
        (
            "TIDEGATE_REDIS_SENTINEL_MASTER",
            "m",
            "TIDEGATE_REDIS_SENTINEL_MASTER: redis.sentinel_master_name: Sentinel is not served yet",
        ),
        (
            "TIDEGATE_REDIS_CLUSTER_NODES",
            "a:1",
            "TIDEGATE_REDIS_CLUSTER_NODES: Cluster is not served yet",
        ),
        (
            "TIDEGATE_REDIS_ADDRESSES",
            "a:1,b:2",
            "TIDEGATE_REDIS_ADDRESSES: redis.addresses: more than one address",
        ),
        (
            "TIDEGATE_RATE_LIMIT_FAIL_OPEN",
            "true",
            "TIDEGATE_RATE_LIMIT_FAIL_OPEN: what happens without a store",
        ),
    ] {
        let output = tidegate().arg("serve").env(name, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(CONFIG), "{said}");
        assert!(said.starts_with(&format!("tidegate: {says}")), "{name}={value}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn the_environment_overrides_the_file() {
    let yaml = "provider: redis\nredis:\n  addresses: [127.0.0.1:1]\nlog_level: off\n";
    let environment = [
        ("TIDEGATE_PROVIDER", "memory"),
        ("TIDEGATE_LOG_LEVEL", "info"),
        ("TIDEGATE_UNIX_SOCKET", ""),
        ("TIDEGATE_LITSEN", "typo"),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_PORT_8081_TCP", "tcp://10.0.0.1:8081"),
    ];
    let host = Host::serve_with(yaml, &environment);
    host.logs().line_with(&["\"serving\"", "\"store\":\"memory\""]);
    host.logs().line_with(&["WARN", "TIDEGATE_LITSEN sets nothing"]);
    host.logs().line_with(&["WARN", "the redis settings have no effect"]);
    let text = host.logs().text();
    assert!(!text.contains("SERVICE_HOST") && !text.contains("8081_TCP"), "{text}");
}

#[tokio::test]
async fn the_file_may_use_variables_with_defaults() {
    let yaml = "log_level: ${LEVEL}\nmemory: { keys_max: \"${KEYS:-1000}\" }\n";
    let host = Host::serve_with(yaml, &[("LEVEL", "debug")]);
    assert_eq!(host.admin("/readyz").await.0, 200);
}

#[test]
fn a_url_in_the_environment_takes_the_place_of_addresses_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, "redis:\n  addresses: [a:1]\n").unwrap();
    let load = |url: &str, addresses: Option<&str>| {
        let lookup = |name: &str| match name {
            "TIDEGATE_REDIS_URL" => Some(url.to_owned()),
            "TIDEGATE_REDIS_ADDRESSES" => addresses.map(str::to_owned),
            _ => None,
        };
        tidegate::config::load(Some(&file), &lookup, &[])
    };
    let config = load("redis://u:hunter2@redis.example:7000/2", None).unwrap().config;
    let tidegate::config::Provider::Redis(settings) = &config.provider else { panic!() };
    assert_eq!((settings.host.as_str(), settings.port, settings.db), ("redis.example", 7000, 2));
    assert!(!format!("{config:?}").contains("hunter2"), "Debug shows no secret");
    let both = load("redis://h", Some("a:1")).unwrap_err().to_string();
    assert!(both.contains("redis.url: is set, and redis.addresses too"), "{both}");
}

#[test]
fn the_example_shows_every_setting_with_its_default() {
    let load = |file: Option<&Path>| tidegate::config::load(file, &|_| None, &[]).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tidegate.yaml");
    let loaded = load(Some(&example));
    assert_eq!(format!("{:?}", loaded.config), format!("{:?}", load(None).config));
    assert!(loaded.warnings.is_empty());
    // With what it has commented out it is for Redis, and complete.
    let text = std::fs::read_to_string(&example).unwrap();
    let whole: String = text.lines().map(|line| line.replacen("#~", "", 1) + "\n").collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("whole.yaml");
    std::fs::write(&file, &whole).unwrap();
    let tidegate::config::Provider::Redis(settings) = load(Some(&file)).config.provider else {
        panic!("{whole}");
    };
    let defaults = tidegate_redis::Settings::standalone("127.0.0.1".to_owned(), 6379);
    let times = |s: &tidegate_redis::Settings| {
        let waits = [s.dial_timeout, s.read_timeout, s.write_timeout, s.pool_timeout];
        (waits, s.idle_timeout, s.max_conn_age, s.pool_size, s.max_retries, s.db)
    };
    assert_eq!(times(&settings), times(&defaults));
    for (_, path) in tidegate::config::VARIABLES {
        let name = path.rsplit('.').next().unwrap();
        assert!(whole.contains(&format!("{name}:")), "{path} is not in the example");
    }
}

#[test]
fn wrong_usage_is_told_from_wrong_configuration() {
    for arguments in [&[][..], &["sevre"], &["serve", "--confg", "x"], &["serve", "extra"]] {
        let output = tidegate().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}: {said}");
        assert!(said.contains("Usage:"), "{said}");
    }
    for asked in ["--help", "--version"] {
        let Output { status, stdout, stderr } = tidegate().arg(asked).output().unwrap();
        assert!(status.success() && !stdout.is_empty() && stderr.is_empty(), "{asked}");
    }
    let help = tidegate().args(["serve", "--help"]).output().unwrap().stdout;
    assert!(String::from_utf8(help).unwrap().contains("TIDEGATE_REDIS_PASSWORD_FILE"));
}

#[test]
fn a_door_that_cannot_be_opened_ends_it_with_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = tidegate();
    command.arg("serve").env("TIDEGATE_LISTEN", &address).env("TIDEGATE_LOG_LEVEL", "off");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let said = Logs::of(child.stderr.take().unwrap()).to_end();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.starts_with(&format!("tidegate: cannot listen on {address}: ")), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn every_variable_is_documented_by_what_it_sets() {
    for (name, path) in tidegate::config::VARIABLES {
        let wanted = format!("TIDEGATE_{}", path.replace('.', "_").to_uppercase());
        let known = ["TIDEGATE_REDIS_SENTINEL_MASTER_NAME", name];
        assert!(known.contains(&wanted.as_str()), "{name} sets {path}");
    }
}
