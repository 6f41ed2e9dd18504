//! Configurations that are wrong: one file and its exact message each, in `config/NAME.yaml`
//! and `config/NAME.stderr`. And those that are right, from file and environment.
//!
//! `TIDEGATE_BLESS=1` writes the messages as they are now; read them before committing.

mod common;

use common::{Host, Logs, tidegate};
use std::path::Path;
use std::process::{Output, Stdio};
use tidegate_redis::{Address, Password, Servers, Settings};

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
            "h:hunter2",
            "TIDEGATE_REDIS_URL: redis.url: does not begin with redis:// or rediss://",
        ),
        (
            "TIDEGATE_REDIS_SENTINEL_MASTER",
            "truth",
            "TIDEGATE_REDIS_SENTINEL_MASTER: redis: has neither url nor addresses",
        ),
        (
            "TIDEGATE_REDIS_SENTINEL_HOSTS",
            "a:26379,b:26379",
            "TIDEGATE_REDIS_SENTINEL_HOSTS: redis.addresses: are sentinels, but not of which master",
        ),
        (
            "TIDEGATE_REDIS_SENTINEL_HOSTS",
            "a,b",
            "TIDEGATE_REDIS_SENTINEL_HOSTS: redis.addresses[0]: found \"a\", wanted host:port",
        ),
        (
            "TIDEGATE_REDIS_CLUSTER_NODES",
            "a",
            "TIDEGATE_REDIS_CLUSTER_NODES: redis.addresses[0]: found \"a\", wanted host:port",
        ),
        (
            "TIDEGATE_REDIS_CLUSTER_MODE",
            "on",
            "TIDEGATE_REDIS_CLUSTER_MODE: redis.cluster_mode: found \"on\", wanted true or false",
        ),
        (
            "TIDEGATE_REDIS_ADDRESSES",
            "a:1,b:2",
            "TIDEGATE_REDIS_ADDRESSES: redis.addresses: are several, and neither",
        ),
        (
            "TIDEGATE_RATE_LIMIT_FAIL_OPEN",
            "1",
            "TIDEGATE_RATE_LIMIT_FAIL_OPEN: rate_limit_fail_open: found \"1\", wanted true or false",
        ),
        (
            "TIDEGATE_LOG_LEVEL",
            "loud",
            "TIDEGATE_LOG_LEVEL: log_level: found \"loud\", wanted one of",
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
async fn whoever_trusts_anybody_is_told_so_loudly() {
    let host = Host::serve_with(
        "",
        &[
            ("TIDEGATE_REDIS_URL", "rediss://:hunter2@127.0.0.1:1"),
            ("TIDEGATE_REDIS_TLS_INSECURE_SKIP_VERIFY", "true"),
        ],
    );
    host.logs().line_with(&["WARN", "INSECURE", "tls.ca_file"]);
    assert!(!host.logs().text().contains("hunter2"));
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
    let address = Address::new("redis.example", 7000);
    assert!(matches!(&settings.servers, Servers::Standalone(found) if *found == address));
    assert_eq!(settings.db, 2);
    assert!(!format!("{config:?}").contains("hunter2"), "Debug shows no secret");
    let both = load("redis://h", Some("a:1")).unwrap_err().to_string();
    assert!(both.contains("redis.url: is set, and redis.addresses too"), "{both}");
}

/// What the environment alone says.
fn in_environment(variables: &[(&'static str, &'static str)]) -> Result<Settings, String> {
    let lookup = |name: &str| {
        let set = variables.iter().find(|(known, _)| *known == name);
        set.map(|(_, value)| (*value).to_owned())
    };
    let loaded = tidegate::config::load(None, &lookup, &[]).map_err(|p| p.to_string())?;
    match loaded.config.provider {
        tidegate::config::Provider::Redis(settings) => Ok(*settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_environment_alone_says_sentinel_and_cluster() {
    const HOSTS: (&str, &str) = ("TIDEGATE_REDIS_SENTINEL_HOSTS", "s1:26379, s2:26379,[::1]:5");
    const MASTER: (&str, &str) = ("TIDEGATE_REDIS_SENTINEL_MASTER", "truth");
    let settings = in_environment(&[HOSTS, MASTER, ("TIDEGATE_REDIS_PASSWORD", "hunter2")]);
    let settings = settings.unwrap();
    let Servers::Sentinel { master_name, sentinels, access } = &settings.servers else { panic!() };
    assert_eq!(master_name, "truth");
    let wanted = [("s1", 26379), ("s2", 26379), ("::1", 5)];
    assert_eq!(*sentinels, wanted.map(|(host, port)| Address::new(host, port)));
    assert!(matches!(access.credentials.password, Password::None), "theirs is their own");
    assert!(matches!(settings.access.credentials.password, Password::Text(_)));

    const NODES: (&str, &str) = ("TIDEGATE_REDIS_CLUSTER_NODES", "c1:6379,c2:6379");
    let cluster = |more: &[(&'static str, &'static str)]| {
        in_environment(&[&[NODES], more].concat()).map(|settings| settings.servers)
    };
    for mode in [&[][..], &[("TIDEGATE_REDIS_CLUSTER_MODE", "true")]] {
        let Ok(Servers::Cluster { seeds }) = cluster(mode) else { panic!("{mode:?}") };
        assert_eq!(seeds, [Address::new("c1", 6379), Address::new("c2", 6379)]);
    }
    for (more, says) in [
        (("TIDEGATE_REDIS_CLUSTER_MODE", "false"), "redis.cluster_mode: is false, and"),
        (HOSTS, "redis.addresses: is set, and TIDEGATE_REDIS_SENTINEL_HOSTS too"),
        (MASTER, "redis.sentinel_master_name: is set, and redis.cluster_mode is true"),
        (("TIDEGATE_REDIS_URL", "redis://h"), "redis.url: is set, and redis.addresses too"),
        (("TIDEGATE_REDIS_DB", "3"), "redis.db: a cluster has no database 3, only 0"),
    ] {
        let said = cluster(&[more]).unwrap_err();
        assert!(said.contains(says), "{more:?}: {said}");
    }
    let one = [("TIDEGATE_REDIS_URL", "rediss://:t@c"), ("TIDEGATE_REDIS_CLUSTER_MODE", "true")];
    let one = in_environment(&one).unwrap();
    assert!(one.access.tls.is_some());
    assert!(
        matches!(one.servers, Servers::Cluster { seeds } if seeds == [Address::new("c", 6379)])
    );
}

#[test]
fn sentinels_are_spoken_to_as_the_servers_are_unless_said_otherwise() {
    let with = |more: &[(&'static str, &'static str)]| {
        let base = [
            ("TIDEGATE_REDIS_SENTINEL_HOSTS", "s:26379"),
            ("TIDEGATE_REDIS_SENTINEL_MASTER", "truth"),
            ("TIDEGATE_REDIS_TLS_ENABLED", "true"),
            ("TIDEGATE_REDIS_TLS_CA_FILE", "/ca.pem"),
            ("TIDEGATE_REDIS_TLS_CERT_FILE", "/c.pem"),
            ("TIDEGATE_REDIS_TLS_KEY_FILE", "/c.key"),
            ("TIDEGATE_REDIS_TLS_SERVER_NAME", "redis.example"),
            ("TIDEGATE_REDIS_SENTINEL_PASSWORD", "s"),
        ];
        let settings = in_environment(&[&base, more].concat()).unwrap();
        let Servers::Sentinel { access, .. } = settings.servers else { panic!() };
        (settings.access.tls.unwrap(), access)
    };
    let (servers, sentinels) = with(&[]);
    assert_eq!(format!("{servers:?}"), format!("{:?}", sentinels.tls.unwrap()));
    assert_eq!(servers.server_name.as_deref(), Some("redis.example"));
    assert!(servers.ca_file.is_some() && servers.certificate.is_some());
    assert!(matches!(sentinels.credentials.password, Password::Text(_)));
    let (_, plain) = with(&[("TIDEGATE_REDIS_SENTINEL_TLS_ENABLED", "false")]);
    assert!(plain.tls.is_none());
    let (_, own) = with(&[
        ("TIDEGATE_REDIS_SENTINEL_TLS_ENABLED", "true"),
        ("TIDEGATE_REDIS_SENTINEL_TLS_SERVER_NAME", "sentinel.example"),
    ]);
    let own = own.tls.unwrap();
    assert_eq!(own.server_name.as_deref(), Some("sentinel.example"));
    assert!(own.ca_file.is_none() && own.certificate.is_none());
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
        let known = match *name {
            "TIDEGATE_REDIS_SENTINEL_MASTER" => "TIDEGATE_REDIS_SENTINEL_MASTER_NAME",
            "TIDEGATE_REDIS_SENTINEL_HOSTS" | "TIDEGATE_REDIS_CLUSTER_NODES" => {
                "TIDEGATE_REDIS_ADDRESSES"
            }
            name => name,
        };
        assert_eq!(known, wanted, "{name} sets {path}");
    }
}
