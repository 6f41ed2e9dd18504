//! The log of revocations: fit to be shared, or why not.

use crate::doctor;
use crate::server::Server;

const PASSWORD: &str = "hunter2-of-the-doctor";

/// With revocations, and more on how to reach the server.
fn at(server: &Server, more: &str) -> String {
    format!(
        "revocations:\n  data_dir: /nowhere\nredis:\n  addresses: [127.0.0.1:{}]\n{more}",
        server.port
    )
}

#[test]
fn a_log_that_is_not_there_yet_is_no_trouble_but_one_that_is_kept_nowhere_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let Some(server) = Server::start_with(&["--dir", &dir], None) else { return };
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("OK", "revocations", "there is no log of them yet");
    told.has("WARNING", "revocations", "appendonly is off");
    assert_eq!(server.command(&["EXISTS", "tidegate:{revocations}:rehearsal"]), ":0");
    server.command(&["CONFIG", "SET", "appendonly", "yes"]);
    for number in ["4-7", "5-7", "6-7"] {
        server.command(&["XADD", "tidegate:{revocations}:log", number, "c", "0", "r", ""]);
    }
    let told = doctor(&at(&server, ""));
    told.is_well();
    told.has("OK", "revocations", "their log has 3 entries");
}

#[test]
fn a_server_that_would_evict_the_log_is_a_warning() {
    let arguments = ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy"];
    for (policy, count) in [("allkeys-lru", 1), ("volatile-ttl", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let all = [&arguments[..], &[policy, "--dir", &dir]].concat();
        let Some(server) = Server::start_with(&all, None) else { return };
        let told = doctor(&at(&server, ""));
        let warned = told
            .findings
            .iter()
            .filter(|finding| finding["check"] == "revocations" && finding["level"] == "WARNING");
        assert_eq!(warned.count(), count, "{}", told.all());
    }
}

#[test]
fn rights_that_are_missing_are_named() {
    let Some(server) = Server::start() else { return };
    let rights = "~tidegate:* +evalsha +script|load +mget +set +time +info";
    let user = |more: &str| {
        let words = format!("ACL SETUSER limited reset on >{PASSWORD} {rights} {more}");
        assert_eq!(server.command(&words.split(' ').collect::<Vec<_>>()), "+OK");
    };
    let yaml = at(&server, &format!("  username: limited\n  password: {PASSWORD}\n"));
    user("+xadd +xread +xrange +xrevrange +unlink");
    let told = doctor(&yaml);
    assert_eq!(told.exit, 2, "{}", told.all());
    told.has("CRITICAL", "revocations", "XTRIM, WAIT on their log refused");
    user("+xadd +xread +xrange +xrevrange +xtrim +unlink +wait");
    doctor(&yaml).has("OK", "revocations", "there is no log of them yet");
}

#[test]
fn a_log_that_cannot_be_reached_is_critical() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    let told = doctor(&at(&server, ""));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "revocations", "their log cannot be reached: ");
}
