//! The rules, by table: each line is one fact that is not as it should be, and what is said.

use super::*;
use crate::doctor::finding::Level;
use std::collections::HashMap;
use std::time::Duration;
use tidegate_redis::inspect::{
    Certificate, ClusterView, Entry, Expected, Info, NoEntry, NodeLine, Script, SentinelSight,
    ServerSight, Stage, Told, Watched,
};
use tidegate_redis::{Access, Address, Tls};

/// A master that is well, with a replica.
const MASTER: &str = "role:master\nredis_version:7.2.4\nused_memory:1000\nmaxmemory:100000\n\
    maxmemory_policy:noeviction\nevicted_keys:0\nrdb_last_bgsave_status:ok\n\
    aof_last_write_status:ok\nconnected_clients:3\nmaxclients:100\nmaster_repl_offset:50\n\
    slave0:ip=10.0.0.2,port=6379,state=online,offset=50,lag=1\nmin_slaves_good_slaves:1\n";

const REPLICA: &str = "role:slave\nredis_version:7.2.4\nmaster_host:10.0.0.1\nmaster_port:6379\n\
    master_link_status:up\n";

fn entered() -> Result<Entry, NoEntry> {
    Ok(Entry { took: Duration::from_millis(1), certificate: None })
}

fn server(host: &str, expected: Expected, info: &str) -> ServerSight {
    let ran =
        Script::Ran { median: Duration::from_micros(200), slowest: Duration::from_micros(900) };
    ServerSight {
        address: Address::new(host, 6379),
        expected,
        entry: entered(),
        info: Told::Is(Info::of(info)),
        user: Told::NotAllowed,
        clock: Told::Is((0, 500)),
        script: (expected != Expected::Replica).then_some(ran),
        may_flush: Told::NotAllowed,
        asking: None,
        full_coverage: None,
        cluster: None,
    }
}

/// What is found on one server, under Sentinel.
fn on(server: ServerSight) -> Vec<Finding> {
    let sight = Sight { servers: vec![server], ..sentinels([&[], &[], &[]]) };
    under_sentinel(&sight).into_iter().filter(|it| !it.subject.starts_with('s')).collect()
}

fn under_sentinel(sight: &Sight) -> Vec<Finding> {
    let settings = Settings::new(Servers::Sentinel {
        master_name: "truth".to_owned(),
        sentinels: sight.sentinels.iter().map(|it| it.address.clone()).collect(),
        access: Access::default(),
    });
    redis(&Situation { settings: &settings, sight, now: SystemTime::now() })
}

fn watched(host: &str, fields: &[(&str, &str)]) -> Watched {
    let all = [("ip", host), ("port", "6379"), ("flags", "master"), ("config-epoch", "4")];
    let all = all.iter().chain(fields);
    let all: HashMap<String, String> =
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Watched::of(all).unwrap()
}

/// A sentinel that is well and knows two others, but says this of the master.
fn sentinel(host: &str, of_master: &[(&str, &str)]) -> SentinelSight {
    SentinelSight {
        address: Address::new(host, 26379),
        entry: entered(),
        master: Told::Is(watched("10.0.0.1", of_master)),
        replicas: Told::Is(vec![watched("10.0.0.2", &[("flags", "slave")])]),
        others: Told::Is(vec![
            watched("s8", &[("flags", "sentinel")]),
            watched("s9", &[("flags", "sentinel")]),
        ]),
        quorum: Told::Is("OK 3 usable Sentinels".to_owned()),
        news: Told::Is(()),
    }
}

/// Three that say so.
fn sentinels(said: [&[(&str, &str)]; 3]) -> Sight {
    let all = ["s1", "s2", "s3"].into_iter().zip(said);
    Sight {
        sentinels: all.map(|(host, said)| sentinel(host, said)).collect(),
        servers: vec![
            server("10.0.0.1", Expected::Master, MASTER),
            server("10.0.0.2", Expected::Replica, REPLICA),
        ],
        unseen: 0,
    }
}

#[track_caller]
fn says(findings: &[Finding], level: Level, check: &str, found: &str) {
    let fits = |it: &&Finding| it.level == level && it.check == check && it.found.contains(found);
    let finding = findings.iter().find(fits);
    let finding = finding.unwrap_or_else(|| panic!("no {level:?} {check} {found}: {findings:#?}"));
    let is_well = matches!(level, Level::Ok | Level::NotAllowed);
    assert!(is_well || finding.remedy.is_some(), "{finding:?}");
}

#[track_caller]
fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|it| it.level).max().unwrap()
}

#[test]
fn who_is_well_is_not_bothered() {
    let findings = under_sentinel(&sentinels([&[], &[], &[]]));
    assert_eq!(worst(&findings), Level::Ok, "{findings:#?}");
    assert!(findings.iter().all(|it| it.remedy.is_none()));
}

#[test]
fn each_line_of_info_is_judged() {
    use Level::{Critical, Ok, Warning};
    for (line, level, check, found) in [
        ("redis_version:4.0.9", Critical, "version", "too old"),
        ("redis_version:6.2.14", Warning, "version", "nobody tries"),
        ("valkey_version:9.1.2", Ok, "version", "9.1.2"),
        ("loading:1", Critical, "role", "reads its data"),
        ("used_memory:85000", Warning, "memory", "85 %"),
        ("used_memory:96000", Critical, "memory", "96 %"),
        ("maxmemory:0", Ok, "memory", "maxmemory is not set"),
        ("maxmemory:0\ntotal_system_memory:1200", Warning, "memory", "maxmemory is not set"),
        ("maxmemory_policy:allkeys-lru", Warning, "eviction", "any key"),
        ("maxmemory_policy:volatile-lru\nevicted_keys:7", Warning, "eviction", "evicted 7 keys"),
        ("evicted_keys:7", Warning, "eviction", "noeviction now"),
        ("rdb_last_bgsave_status:err", Warning, "disk", "snapshot failed"),
        ("aof_last_write_status:err", Warning, "disk", "write to the log failed"),
        ("connected_clients:95", Warning, "clients", "95 of 100"),
        (
            "slave0:ip=r,port=1,state=online,offset=20,lag=9",
            Warning,
            "replicas",
            "silent for 9 s, 30",
        ),
        (
            "slave0:ip=r,port=1,state=wait_bgsave,offset=0,lag=0",
            Warning,
            "replicas",
            "receives all",
        ),
        (
            "slave0:ip=r,port=1,state=online,offset=0,lag=-1",
            Warning,
            "replicas",
            "not acknowledged",
        ),
        ("min_slaves_good_slaves:0", Critical, "min-replicas-to-write", "takes no writes"),
    ] {
        // The later line counts.
        let info = format!("{MASTER}{line}\n");
        let findings = on(server("10.0.0.1", Expected::Master, &info));
        says(&findings, level, check, found);
        assert_eq!(worst(&findings).max(Ok), level, "{line}: {findings:#?}");
    }
    let without = |name: &str| {
        let lines = MASTER.lines().map(str::trim).filter(|line| !line.starts_with(name));
        lines.collect::<Vec<_>>().join("\n")
    };
    let findings = on(server("10.0.0.1", Expected::Master, &without("slave0")));
    says(&findings, Critical, "replicas", "has none");
    let findings = on(server("10.0.0.1", Expected::Master, &without("min_slaves")));
    says(&findings, Warning, "min-replicas-to-write", "not set");
    let findings = on(server("10.0.0.2", Expected::Replica, &REPLICA.replace(":up", ":down")));
    says(&findings, Warning, "replica", "has lost its master 10.0.0.1:6379");
    let findings = on(server("10.0.0.2", Expected::Replica, MASTER));
    says(&findings, Critical, "role", "a second master");
    let findings = on(server("10.0.0.1", Expected::Master, REPLICA));
    says(&findings, Critical, "role", "it is a replica");
}

#[test]
fn what_may_not_be_asked_is_told_and_harms_nobody() {
    let mut silent = server("10.0.0.1", Expected::Master, MASTER);
    silent.info = Told::NotAllowed;
    silent.clock = Told::NotAllowed;
    let findings = on(silent);
    says(&findings, Level::NotAllowed, "info", "INFO");
    says(&findings, Level::NotAllowed, "clock", "TIME");
    assert_eq!(worst(&findings).exit_code(), 0);
}

#[test]
fn a_script_that_does_not_run_has_a_remedy_for_each_reason() {
    for (kind, remedy) in [
        ("not_allowed", "ACL SETUSER"),
        ("out_of_memory", "raise maxmemory"),
        ("no_writes", "replicas back"),
        ("read_only", "master's address"),
        ("unknown_outcome", "frozen"),
        ("anything else", "log"),
    ] {
        let mut refused = server("10.0.0.1", Expected::Master, MASTER);
        refused.script = Some(Script::Refused { kind, text: "said so".to_owned() });
        let findings = on(refused);
        says(&findings, Level::Critical, "script", "said so");
        let script = findings.iter().find(|it| it.check == "script").unwrap();
        assert!(script.remedy.as_ref().unwrap().contains(remedy), "{script:?}");
    }
    for (median_ms, level) in [(1, Level::Ok), (6, Level::Warning), (50, Level::Critical)] {
        let mut slow = server("10.0.0.1", Expected::Master, MASTER);
        let median = Duration::from_millis(median_ms);
        slow.script = Some(Script::Ran { median, slowest: median });
        says(&on(slow), level, "script", "half of the runs");
    }
}

#[test]
fn clocks_are_compared_as_exactly_as_the_round_trips_allow() {
    for (ahead, off, level) in [
        (0, 0, Level::Ok),
        (90_000, 0, Level::Ok),
        (300_000, 110_000, Level::Ok),
        (300_000, 10_000, Level::Warning),
        (-300_000, 10_000, Level::Warning),
        (6_000_000, 10_000, Level::Critical),
    ] {
        let mut one = server("10.0.0.1", Expected::Master, MASTER);
        let mut other = server("10.0.0.2", Expected::Replica, REPLICA);
        one.clock = Told::Is((0, off));
        other.clock = Told::Is((ahead, off));
        let findings = clock::findings(&[one, other]);
        says(&findings, level, "clock", "apart");
    }
    let mut alone = server("10.0.0.1", Expected::Master, MASTER);
    alone.clock = Told::Is((-3_000_000, 0));
    says(&clock::findings(&[alone]), Level::Warning, "clock", "behind this machine's");
}

#[test]
fn certificates_end() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (seconds, level, found) in [
        (-5_i64, Level::Critical, "has ended"),
        (86_400, Level::Critical, "in 1 days"),
        (20 * 86_400, Level::Warning, "in 20 days"),
        (90 * 86_400, Level::Ok, "in 90 days"),
    ] {
        let expires = SystemTime::UNIX_EPOCH
            + Duration::from_secs(1_000_000_u64.saturating_add_signed(seconds));
        let entry = Ok(Entry { took: Duration::ZERO, certificate: Some(Certificate { expires }) });
        let findings = entry::entry("s", &entry, Some(&Tls::default()), now, true);
        says(&findings, level, "certificate", found);
    }
    let any = Tls { insecure_skip_verify: true, ..Tls::default() };
    let findings = entry::entry("s", &entered(), Some(&any), now, true);
    says(&findings, Level::Warning, "certificate", "any would do");
}

#[test]
fn who_does_not_let_us_in_matters_by_what_he_is() {
    let closed = || Err(NoEntry { stage: Stage::Connect, text: "connect: refused".to_owned() });
    let mut master = server("10.0.0.1", Expected::Master, MASTER);
    (master.entry, master.info) = (closed(), Told::Failed(String::new()));
    says(&on(master), Level::Critical, "reach", "refused");
    let mut replica = server("10.0.0.2", Expected::Replica, REPLICA);
    (replica.entry, replica.info) = (closed(), Told::Failed(String::new()));
    says(&on(replica), Level::Warning, "reach", "refused");
}

#[test]
fn sentinels_must_be_many_and_of_one_mind() {
    use Level::{Critical, Warning};
    let down: &[(&str, &str)] = &[("flags", "master,s_down")];
    let gone: &[(&str, &str)] = &[("flags", "master,s_down,o_down")];
    let leads: &[(&str, &str)] = &[("flags", "master,s_down,o_down,failover_in_progress")];
    let behind: &[(&str, &str)] = &[("config-epoch", "3")];
    let other: &[(&str, &str)] = &[("ip", "10.0.0.9")];
    let well: &[(&str, &str)] = &[];
    for (said, level, check, found) in [
        ([well, well, down], Critical, "master", "1 of 3 sentinels"),
        ([gone, gone, down], Critical, "master", "o_down"),
        ([leads, gone, down], Warning, "master", "under way"),
        ([well, well, behind], Warning, "agreement", "earlier vote than 4"),
        ([well, well, other], Critical, "agreement", "10.0.0.1:6379, 10.0.0.9:6379"),
    ] {
        let findings = under_sentinel(&sentinels(said));
        says(&findings, level, check, found);
        assert_eq!(worst(&findings), level, "{findings:#?}");
    }

    let closed = || Err(NoEntry { stage: Stage::Connect, text: "connect: refused".to_owned() });
    let mut sight = sentinels([well, well, well]);
    sight.sentinels[0].entry = closed();
    says(&under_sentinel(&sight), Warning, "sentinels", "2 of 3");
    sight.sentinels[1].entry = closed();
    says(&under_sentinel(&sight), Critical, "sentinels", "no majority");

    let mut sight = sentinels([well, well, well]);
    sight.sentinels[0].quorum = Told::Failed("NOQUORUM 1 usable".to_owned());
    says(&under_sentinel(&sight), Critical, "quorum", "NOQUORUM");
    sight.sentinels[0].quorum = Told::NotAllowed;
    says(&under_sentinel(&sight), Level::NotAllowed, "quorum", "CKQUORUM");
    sight.sentinels[0].news = Told::NotAllowed;
    says(&under_sentinel(&sight), Warning, "news", "+switch-master");
    sight.sentinels[0].master = Told::NotAllowed;
    says(&under_sentinel(&sight), Critical, "sentinel", "does not tell us");
    sight.sentinels.truncate(2);
    says(&under_sentinel(&sight), Warning, "sentinels", "3 there are, 2 are configured");
}

/// Two masters, as one of them sees them.
fn view(own: &str, other: &str) -> ClusterView {
    let nodes = [own, other].map(|line| NodeLine::of(line).unwrap());
    ClusterView { is_ok: true, nodes: nodes.into(), reached_at: Vec::new() }
}

fn of_cluster(views: Vec<ClusterView>) -> Vec<Finding> {
    let servers = views.into_iter().enumerate().map(|(at, view)| {
        let mut node = server(&format!("10.0.0.{at}"), Expected::Node, MASTER);
        node.cluster = Some(Told::Is(view));
        node
    });
    let sight = Sight { sentinels: Vec::new(), servers: servers.collect(), unseen: 0 };
    let settings = Settings::new(Servers::Cluster { seeds: vec![Address::new("10.0.0.0", 6379)] });
    redis(&Situation { settings: &settings, sight: &sight, now: SystemTime::now() })
}

#[test]
fn every_slot_must_be_somebodys_and_all_must_agree_whose() {
    use Level::{Critical, Ok, Warning};
    let a = "a 10.0.0.0:1@2 myself,master - 0 0 1 connected 0-8191";
    let b = "b 10.0.0.1:1@2 master - 0 0 2 connected 8192-16383";
    let of = |own: &str, other: &str| of_cluster(vec![view(own, other)]);
    let findings = of(a, b);
    says(&findings, Ok, "slots", "all are served");
    assert_eq!(worst(&findings), Ok, "{findings:#?}");

    let findings = of(a, &b.replace("8192-16383", "8193-16380 16382-16383"));
    says(&findings, Critical, "slots", "2 of 16384 are not served: 8192-8192, 16381-16381");
    let findings = of(a, &b.replace("master", "master,fail"));
    says(&findings, Critical, "slots", "8192 of 16384");
    says(&findings, Critical, "nodes", "it serves slots");
    let findings = of(&format!("{a} [5->-b]"), b);
    says(&findings, Warning, "slots", "on their way");
    let c = "c 10.0.0.2:1@2 slave,fail? a 0 0 1 disconnected";
    let mut with_replica = view(a, b);
    with_replica.nodes.push(NodeLine::of(c).unwrap());
    says(&of_cluster(vec![with_replica]), Warning, "nodes", "1 of 1 nodes");

    let own = |line: &str| line.replace("myself,", "");
    let moved = view(&own(a).replace("0-8191", "0-8190"), &b.replace("8192", "8191"));
    let findings = of_cluster(vec![view(a, b), view(a, b), moved]);
    says(&findings, Warning, "agreement", "10.0.0.2:6379 see other owners");
    let mut failed = view(a, b);
    failed.is_ok = false;
    says(&of_cluster(vec![failed]), Critical, "cluster", "cluster_state is fail");
}

#[test]
fn what_does_not_fit_this_machine_is_told() {
    assert_eq!(worst(&memory(1_000, Some(1 << 30))), Level::Ok);
    says(&memory(4_000_000, Some(1 << 30)), Level::Warning, "memory", "1024 MiB");
    assert_eq!(worst(&memory(10_000_000, None)), Level::Ok);
}
