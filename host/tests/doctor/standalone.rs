//! One server: well, closed to us, or not as it should be.

use crate::server::Server;
use crate::{doctor, run, text};
use rustix::process::Signal;

const PASSWORD: &str = "hunter2-of-the-doctor";

fn at(server: &Server, more: &str) -> String {
    format!("redis:\n  addresses: [127.0.0.1:{}]\n{more}", server.port)
}

#[test]
fn a_server_that_is_well_is_well_and_nothing_is_left_on_it() {
    let Some(server) = Server::start() else { return };
    let told = doctor(&at(&server, ""));
    told.is_well();
    for (check, found) in [
        ("reach", "ms"),
        ("version", "7."),
        ("memory", "maxmemory is not set"),
        ("eviction", "noeviction"),
        ("script", "half of the runs within"),
        ("clock", "as this machine's"),
    ] {
        told.has("OK", check, found);
    }
    told.has("OK", "user", "default, who may do everything");
    // The scripts' keys alone, which expire.
    let keys = server.command(&["KEYS", "*"]);
    assert!(keys.lines().count() <= 2, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with("tidegate:"), "{key}");
        assert_ne!(server.command(&["TTL", key]), ":-1");
    }
    let table = text(&run(&at(&server, ""), &[]).stdout);
    assert!(table.ends_with("as they should be, 0 not asked\n"), "{table}");
}

#[test]
fn a_server_that_is_away_or_frozen_is_critical() {
    let Some(mut server) = Server::start() else { return };
    server.signal(Signal::STOP);
    let told = doctor(&at(&server, "  dial_timeout: 100ms\n"));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "reach", "sign in");
    server.signal(Signal::CONT);
    server.kill();
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "reach", "connect");
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let arguments = ["--requirepass", PASSWORD];
    let Some(server) = Server::start_with(&arguments, Some(PASSWORD)) else { return };
    doctor(&at(&server, &format!("  password: {PASSWORD}\n"))).is_well();
    for more in ["  password: hunter2-but-wrong\n", ""] {
        let output = run(&at(&server, more), &[]);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("CRITICAL") && said.contains("sign in"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let missing = doctor(&at(&server, "  password_file: /nowhere/password\n"));
    missing.has("CRITICAL", "reach", "password file");
}

#[test]
fn commands_that_were_renamed_away_are_not_asked_and_nothing_is_guessed() {
    let renamed = ["CONFIG", "KEYS", "FLUSHALL", "FLUSHDB", "ACL", "DEBUG"]
        .map(|command| ["--rename-command".to_owned(), command.to_owned(), String::new()]);
    let arguments: Vec<&str> = renamed.iter().flatten().map(String::as_str).collect();
    let Some(server) = Server::start_with(&arguments, None) else { return };
    let told = doctor(&at(&server, ""));
    told.is_well();
    told.has("OK", "eviction", "noeviction");
    assert!(!told.findings.iter().any(|it| it["check"] == "user"), "{}", told.all());
}

#[test]
fn a_user_with_the_documented_rights_is_enough_and_less_is_not() {
    let Some(server) = Server::start() else { return };
    let user = |rights: &str| {
        let words = format!("ACL SETUSER limited reset on >{PASSWORD} {rights}");
        assert_eq!(server.command(&words.split(' ').collect::<Vec<_>>()), "+OK");
    };
    let yaml = at(&server, &format!("  username: limited\n  password: {PASSWORD}\n"));
    user("~tidegate:* +evalsha +script|load +mget +set +time +info");
    let told = doctor(&yaml);
    told.is_well();
    told.has("OK", "script", "half of the runs");

    user("~tidegate:* +evalsha +script|load +mget +set +time");
    let told = doctor(&yaml);
    told.is_well();
    told.has("NOT_ALLOWED", "info", "not allowed to ask");

    // A right to what exact asks keep, and to nothing that leases do.
    user("~tidegate:0* +evalsha +script|load +mget +set +time +info");
    let told = doctor(&yaml);
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "script", "");

    user("~tidegate:* +evalsha +script|load +mget +time +info");
    let told = doctor(&yaml);
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "script", "");
    user("~other:* +evalsha +script|load +mget +set +time +info");
    assert_eq!(doctor(&yaml).exit, 2);
}

#[test]
fn a_server_that_evicts_is_a_warning() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", policy];
        let Some(server) = Server::start_with(&arguments, None) else { return };
        let told = doctor(&at(&server, ""));
        assert_eq!(told.exit, 1, "{}", told.all());
        told.has("WARNING", "eviction", policy);
        told.has("OK", "memory", "of 100 MiB");
    }
}

#[test]
fn a_full_server_is_critical() {
    let Some(server) = Server::start_with(&["--maxmemory", "2mb"], None) else { return };
    let filler = "x".repeat(64 * 1024);
    let full = (0..).find(|key| server.command(&["SET", &format!("k{key}"), &filler]) != "+OK");
    assert!(full.is_some());
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "memory", "of 2 MiB used");
    told.has("CRITICAL", "script", "out_of_memory");
}

#[test]
fn a_server_that_cannot_save_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--dir", dir.path().to_str().unwrap(), "--save", "3600 1"];
    let Some(server) = Server::start_with(&arguments, None) else { return };
    assert_eq!(server.command(&["SET", "k", "v"]), "+OK");
    // Nothing can be renamed onto a folder.
    std::fs::create_dir(dir.path().join("dump.rdb")).unwrap();
    assert!(server.command(&["SAVE"]).starts_with("-ERR"));
    let _ = server.command(&["BGSAVE"]);
    crate::server::wait("the snapshot to fail", || server.info("rdb_last_bgsave_status") == "err");
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 2, "{}", told.all());
    told.has("WARNING", "disk", "its last snapshot failed");
    told.has("CRITICAL", "script", "no_writes");
}

#[test]
fn a_replica_in_the_masters_place_is_critical() {
    let Some(server) = Server::start() else { return };
    assert_eq!(server.command(&["REPLICAOF", "127.0.0.1", "1"]), "+OK");
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "role", "it is a replica");
    told.has("WARNING", "replica", "has lost its master 127.0.0.1:1");
}
