//! The census on real servers: what hosts tell comes together, fades, and is forgotten.

mod rights;
mod server;

use server::cluster::{self, Cluster, MASTERS};
use server::{Server, until};
use std::time::{Duration, Instant};
use tidegate_core::ask::LimitTag;
use tidegate_redis::{Address, Census, Counted, Password, Record, Servers, Settings, Store};

const ROLL: &str = "tidegate:{census}";
/// Far longer than any test takes: nothing fades by so much that it is rounded to another number.
const HALF_LIFE: Duration = Duration::from_secs(3_600);
const LIMIT: Counted = Counted::Limit(LimitTag(7));
const PROXY: Counted = Counted::Proxy(8);

#[tokio::test]
async fn hosts_hear_of_each_other_and_nothing_is_counted_twice() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let alone = store.census(&census(1, 0.0)).await.unwrap();
    assert_eq!((alone.hosts, alone.proxies, near(&alone.units)), (1, 1.0, vec![100, 50]));
    // Its own goes in place of what it told before; the other's comes on top of that.
    let again = store.census(&census(1, 100.0)).await.unwrap();
    assert_eq!((again.hosts, near(&again.units)), (1, vec![100, 50]));
    let both = store.census(&census(2, 0.0)).await.unwrap();
    assert_eq!((both.hosts, both.proxies, near(&both.units)), (2, 2.0, vec![200, 100]));
    assert!(both.age < Duration::from_secs(10), "{:?}", both.age);
    // What it says that it told was never heard: nothing of others' is taken for it.
    let stranger = store.census(&census(3, 1_000.0)).await.unwrap();
    assert_eq!((stranger.hosts, near(&stranger.units)), (3, vec![300, 150]));
    // As after a fail-over that lost more than there was of it.
    let lost = store.census(&census(3, 1_000.0)).await.unwrap();
    assert_eq!(near(&lost.units), [100, 50], "its own, at least");
}

#[tokio::test]
async fn demand_fades_and_all_of_it_expires() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let quick = |host, units| Census {
        half_life: Duration::from_millis(100),
        records: vec![Record { of: LIMIT, units, told: 0.0 }],
        ..census(host, 0.0)
    };
    let start = Instant::now();
    store.census(&quick(1, 1e6)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let left = store.census(&quick(2, 0.0)).await.unwrap().units[0];
    let halvings = start.elapsed().as_secs_f64() / 0.1;
    let least = 1e6 * (-halvings - 0.5).exp2();
    assert!((least..=125_000.0).contains(&left), "{left} after {halvings} half-lives");
    for key in [ROLL, "tidegate:{census}:limit:0000000000000007"] {
        let ttl_ms = integer(&server, &["PTTL", key]);
        assert!((110_000..=120_000).contains(&ttl_ms), "{key}: {ttl_ms}");
    }
}

#[tokio::test]
async fn more_records_than_fit_one_call_are_told_in_several() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let record = |limit| Record { of: Counted::Limit(LimitTag(limit)), units: 9.0, told: 9.0 };
    let large = Census { records: (0..1_000).map(record).collect(), ..census(1, 0.0) };
    for _ in 0..3 {
        let fleet = store.census(&large).await.unwrap();
        assert_eq!((fleet.hosts, near(&fleet.units)), (1, vec![9; 1_000]));
    }
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(store.census(&large).await.unwrap().hosts, 1, "the script is loaded anew");
}

#[tokio::test]
async fn the_dead_leave_the_roll_and_it_has_a_bound() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let now_us = now_us(&server);
    set_roll(&server, now_us, (0..1_023).map(|n| (n, if n < 23 { 61e6 } else { 59e6 })));
    let fleet = store.census(&census(5_000, 0.0)).await.unwrap();
    assert_eq!((fleet.hosts, fleet.proxies), (1_001, 1_001.0));
    assert!(fleet.age >= Duration::from_secs(100));

    set_roll(&server, now_us, (0..1_024).map(|n| (n, 0.0)));
    let full = store.census(&census(5_000, 0.0)).await.unwrap();
    assert_eq!((full.hosts, full.units), (1_024, vec![]), "one too many");
    let known = store.census(&census(1_023, 0.0)).await.unwrap();
    assert_eq!((known.hosts, known.units.len()), (1_024, 2));

    // Whatever else is there is no roll.
    for strange in ["", "x", &"\u{1}".repeat(60)] {
        server.command(&["SET", ROLL, strange]);
        assert_eq!(store.census(&census(1, 0.0)).await.unwrap().hosts, 1, "{strange:?}");
    }
}

/// The least rights that the host needs for asks are all that it needs.
#[tokio::test]
async fn least_rights_are_enough() {
    let Some(server) = Server::start() else { return };
    let settings = patient(Servers::Standalone(Address::new("127.0.0.1", server.port)));
    let store = Store::start(rights::least(&server, settings));
    until(|| store.trouble().is_none()).await;
    assert_eq!(store.census(&census(1, 0.0)).await.unwrap().hosts, 1);
}

/// An id is eight bytes of any value: it may be found across two others.
#[tokio::test]
async fn ids_are_not_mistaken() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    for host in [0, 1, 0x0100, 1 << 56, 0] {
        store.census(&census(host, 0.0)).await.unwrap();
    }
    assert_eq!(store.census(&census(1, 0.0)).await.unwrap().hosts, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_it_in_one_shard() {
    let Some(mut cluster) = Cluster::start() else { return };
    let seeds = cluster.nodes.iter().map(|node| Address::new("127.0.0.1", node.port)).collect();
    let mut settings = patient(Servers::Cluster { seeds });
    settings.access.credentials.password = Password::Text(cluster::PASSWORD.to_owned());
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    for host in 1..4 {
        let fleet = store.census(&census(host, 0.0)).await.unwrap();
        assert_eq!(fleet.hosts, u32::try_from(host).unwrap());
    }
    let slot = integer(&cluster.nodes[0], &["CLUSTER", "KEYSLOT", ROLL]) as usize;
    let shard = slot * MASTERS / 16_384;
    let offset = |node: usize| cluster.nodes[node].info("master_repl_offset");
    until(|| offset(shard) == offset(MASTERS + shard)).await;
    cluster.nodes[shard].kill();
    until(|| store.trouble().is_some()).await;
    // Its replica has it all, and is asked once it is a master.
    let end = Instant::now() + server::DEADLINE;
    let fleet = loop {
        match store.census(&census(4, 0.0)).await {
            Ok(fleet) => break fleet,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(fleet.hosts, 4);
}

/// What a census costs the server, with ten limits and one proxy at each host.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost() {
    let Some(server) = Server::start() else { return };
    let master = server.port.to_string();
    // To see what is replicated; a replica writes what it is sent first to a file.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let _replica = Server::start_with(&["--dir", dir, "--replicaof", "127.0.0.1", &master], None);
    let store = connected(&server).await;
    until(|| server.info("connected_slaves") == "1").await;
    for (hosts, limits) in [(10, 10), (1_000, 10), (10, 245), (1_000, 245)] {
        server.command(&["FLUSHALL"]);
        let record = |host: u64| {
            let limits = (0..limits).map(|tag| Counted::Limit(LimitTag(tag)));
            let records = limits.chain([Counted::Proxy(host)]);
            records.map(|of| Record { of, units: 100.0, told: 100.0 }).collect()
        };
        let all =
            (0..hosts).map(|n| Census { records: record(n), ..census(fastrand::u64(..), 0.0) });
        let all: Vec<_> = all.collect();
        for own in &all {
            store.census(own).await.unwrap();
        }
        server.command(&["CONFIG", "RESETSTAT"]);
        let before = written(&server);
        for own in all.iter().cycle().take(2_000) {
            store.census(own).await.unwrap();
        }
        println!(
            "{hosts} hosts, {limits} limits: {} | replicated {} bytes each | roll {} bytes",
            server.info("cmdstat_evalsha"),
            (written(&server) - before) / 2_000,
            integer(&server, &["STRLEN", ROLL])
        );
    }
}

fn written(server: &Server) -> u64 {
    server.info("master_repl_offset").parse().unwrap()
}

fn census(host: u64, told: f64) -> Census {
    let records = vec![
        Record { of: LIMIT, units: 100.0, told },
        Record { of: PROXY, units: 50.0, told: told / 2.0 },
    ];
    Census { host, half_life: HALF_LIFE, proxies: 1.0, records }
}

/// Rounded: some milliseconds have passed between two censuses.
fn near(units: &[f64]) -> Vec<u64> {
    units.iter().map(|units| units.round() as u64).collect()
}

/// A roll of hosts by id, and how long ago each told (us).
fn set_roll(server: &Server, now_us: f64, hosts: impl Iterator<Item = (u64, f64)>) {
    let mut roll = vec![1];
    for number in [now_us - 100e6, 0.0, 0.0] {
        roll.extend(number.to_le_bytes());
    }
    for (id, ago_us) in hosts {
        roll.extend(id.to_le_bytes());
        roll.extend((now_us - ago_us).to_le_bytes());
        roll.extend(1_f64.to_le_bytes());
    }
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    redis::cmd("SET").arg(ROLL).arg(roll).exec(&mut connection).unwrap();
}

fn integer(server: &Server, command: &[&str]) -> u64 {
    let reply = server.command(command);
    reply.strip_prefix(':').and_then(|number| number.parse().ok()).expect(&reply)
}

fn now_us(server: &Server) -> f64 {
    let time = server.command(&["TIME"]);
    let mut parts = time.split_whitespace().map(|part| part.parse::<f64>().unwrap());
    parts.next().unwrap() * 1e6 + parts.next().unwrap()
}

/// Waits longer than anything here takes.
fn patient(servers: Servers) -> Settings {
    let mut settings = Settings::new(servers);
    settings.read_timeout = Duration::from_secs(2);
    settings
}

async fn connected(server: &Server) -> Store {
    let at = Address::new("127.0.0.1", server.port);
    let store = Store::start(patient(Servers::Standalone(at)));
    until(|| store.trouble().is_none()).await;
    store
}
