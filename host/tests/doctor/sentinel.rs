//! A master under Sentinel: what fails when it must not, and what fails first.

use crate::doctor;
use crate::server::sentinel::{Fleet, NAME, PASSWORD, SENTINEL_PASSWORD};
use crate::server::{Server, wait};
use rustix::process::Signal;

fn of(fleet: &Fleet) -> String {
    named(fleet, NAME)
}

fn named(fleet: &Fleet, name: &str) -> String {
    let sentinels: Vec<String> =
        fleet.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
    format!(
        "redis:\n  addresses: [{}]\n  sentinel_master_name: {name}\n  password: {PASSWORD}\n  \
         sentinel_password: {SENTINEL_PASSWORD}\n",
        sentinels.join(", ")
    )
}

#[test]
fn a_fleet_is_looked_at_as_a_whole() {
    let Some(mut fleet) = Fleet::start() else { return };
    let told = doctor(&of(&fleet));
    // These servers are as Redis comes.
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("WARNING", "min-replicas-to-write", "not set");
    told.has("OK", "sentinels", "3 of 3 reached");
    told.has("OK", "quorum", "OK 3 usable Sentinels");
    told.has("OK", "agreement", &format!("all say 127.0.0.1:{}", fleet.servers[0].port));
    told.has("OK", "master", "no sentinel takes it for down");
    told.has("OK", "replica", "follows");
    told.has("OK", "clock", "ms apart");

    let set = ["CONFIG", "SET", "min-replicas-to-write", "1", "min-replicas-max-lag", "10"];
    assert_eq!(fleet.servers[0].command(&set), "+OK");
    doctor(&of(&fleet)).is_well();

    // One that is there and not configured: nobody listens to it.
    let last = format!(", 127.0.0.1:{}", fleet.sentinels[2].port);
    let told = doctor(&of(&fleet).replace(&last, ""));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("WARNING", "sentinels", "3 there are, 2 are configured");

    // A name that nobody knows.
    let told = doctor(&named(&fleet, "another"));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "sentinel", "");

    // A replica that is silent: first it lags, then its sentinels notice.
    fleet.servers[2].signal(Signal::STOP);
    wait("its lag", || {
        let info = fleet.servers[0].command(&["INFO", "replication"]);
        info.lines().any(|line| {
            let lag = line.trim().rsplit_once("lag=").and_then(|(_, lag)| lag.parse::<u64>().ok());
            line.starts_with("slave") && lag.is_some_and(|lag| lag > 3)
        })
    });
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("WARNING", "replicas", "is silent for");
    told.has("WARNING", "watched", "a replica that is lost to");
    fleet.servers[2].signal(Signal::CONT);

    // One sentinel of three.
    fleet.sentinels[2].kill();
    wait("the others to notice", || {
        let said = fleet.sentinels[0].command(&["SENTINEL", "SENTINELS", NAME]);
        said.contains("s_down")
    });
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("WARNING", "reach", "connect");
    told.has("WARNING", "sentinels", "2 of 3 reached");
    told.has("OK", "quorum", "OK 2 usable Sentinels");
    told.has("WARNING", "watched", "a sentinel that is lost to");

    // Two of three: nobody could be replaced.
    fleet.sentinels[1].kill();
    wait("the last one to notice", || {
        let said = fleet.sentinels[0].command(&["SENTINEL", "CKQUORUM", NAME]);
        said.starts_with("-NOQUORUM")
    });
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "quorum", "NOQUORUM");
    told.has("CRITICAL", "sentinels", "no majority");

    // And so it is not.
    fleet.servers[0].kill();
    wait("the last one to notice", || {
        fleet.sentinels[0].command(&["SENTINEL", "MASTER", NAME]).contains("s_down")
    });
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "master", "s_down");
    told.has("CRITICAL", "reach", "connect");
    told.has("WARNING", "replica", "has lost its master");
}

#[test]
fn a_master_that_just_died_and_its_successor() {
    let Some(mut fleet) = Fleet::start() else { return };
    let old = fleet.master(0);
    fleet.servers[old].kill();
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 2, "{}", told.all());
    wait("another master", || fleet.master(0) != old && fleet.master(1) == fleet.master(0));
    wait("all sentinels to agree", || fleet.master(2) == fleet.master(0));
    let now = fleet.servers[fleet.master(0)].port;
    wait("its replica", || fleet.servers[fleet.master(0)].info("connected_slaves") == "1");
    wait("the fail-over to end", || {
        let said = |it: &Server| it.command(&["SENTINEL", "MASTER", NAME]);
        fleet.sentinels.iter().all(|it| said(it).contains("\nmaster\n"))
    });
    let told = doctor(&of(&fleet));
    assert_eq!(told.exit, 1, "{}", told.all());
    told.has("OK", "agreement", &format!("all say 127.0.0.1:{now}"));
    told.has("OK", "script", "half of the runs");
    // The old one is a replica by now, and away.
    told.has("WARNING", "reach", "connect");
}
