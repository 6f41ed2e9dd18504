//! A master under Sentinel that is killed, frozen, switched, or that comes back from the dead:
//! how long nothing is answered, and that nobody but the master is ever asked.
//!
//! Sentinel itself takes its time: `down-after` (1 s here), then 1.3 s to elect, promote and
//! tell after a crash, and up to 2.1 s after a freeze; and 4 s more each time that its vote is
//! split, as happens on a busy machine. So the bounds are on what comes on top of that; what was
//! measured is printed.

mod load;
mod server;

use load::{Load, one};
use rustix::process::Signal;
use server::sentinel::{Fleet, NAME, PASSWORD, SENTINEL_PASSWORD};
use server::until;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_redis::{Access, Address, Credentials, Password, Servers, Settings, Store};

/// How soon a new master is found once a sentinel names it, on a busy machine.
const FOUND_WITHIN: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_replaced_and_the_loss_is_bounded() {
    let Some(mut fleet) = Fleet::start() else { return };
    let store = connected(&fleet).await;
    let load = Load::start(&store, vec![1]);
    load.answered_after(Instant::now()).await;
    // A probe later, so that it is known where the master stood.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // From now on no replica hears of what is charged.
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::STOP);
    }
    fleet.servers[0].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    load.answered_after(Instant::now()).await;
    let start = Instant::now();
    fleet.servers[0].kill();
    for replica in &fleet.servers[1..] {
        replica.signal(Signal::CONT);
    }
    let promoted = promotion(&fleet, start).await;
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    let stats = store.stats();
    let left = store.answer(load::none(1)).await.unwrap().answers[0].outcome.unwrap().remaining;
    let lost = report.admitted() as u64 - (60_000 - u64::from(left));
    println!(
        "killed: {:?} without an answer, of which the sentinels took {promoted:?}, {:?}; {lost} \
         charges lost, at most {} by the count",
        report.outage(),
        report.errors(),
        stats.lost_asks_max()
    );
    assert!(report.outage() < promoted + FOUND_WITHIN, "{:?}", report.outage());
    assert!(report.slowest() < Duration::from_secs(1), "nobody waits for a fail-over");
    assert_eq!((stats.fail_overs(), stats.resets()), (1, 0));
    // One for each 5 ms, and a probe a second: the bound is no larger than it must be.
    assert!(lost >= 10, "{lost} were lost");
    assert!((lost..lost + 600).contains(&stats.lost_asks_max()), "{}", stats.lost_asks_max());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_master_is_left_and_not_asked_again_when_it_wakes() {
    let Some(fleet) = Fleet::start() else { return };
    let store = connected(&fleet).await;
    let load = Load::start(&store, vec![1]);
    load.answered_after(Instant::now()).await;
    let start = Instant::now();
    fleet.servers[0].signal(Signal::STOP);
    let promoted = promotion(&fleet, start).await;
    load.answered_after(Instant::now()).await;
    fleet.servers[0].signal(Signal::CONT);
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    println!(
        "frozen: {:?} without an answer, of which the sentinels took {promoted:?}, {:?}",
        report.outage(),
        report.errors()
    );
    assert!(report.outage() < promoted + FOUND_WITHIN, "{:?}", report.outage());
    assert!(report.slowest() < Duration::from_secs(1), "nobody waits for a fail-over");
    // Only what was under way was given up on; then there was no connection to wait for.
    assert!(report.errors().get("unknown_outcome").is_none_or(|&errors| errors < 200));
    until(|| fleet.master(1) != 0).await;
    let master = store.health().backends[0].address.clone();
    assert_ne!(master, format!("127.0.0.1:{}", fleet.servers[0].port));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_is_followed_though_the_old_master_still_answers() {
    let Some(fleet) = Fleet::start() else { return };
    let store = connected(&fleet).await;
    let load = Load::start(&store, vec![1]);
    load.answered_after(Instant::now()).await;
    let said = fleet.sentinels[1].command(&["SENTINEL", "FAILOVER", NAME]);
    assert_eq!(said, "+OK");
    until(|| fleet.master(0) != 0 && fleet.master(1) != 0 && fleet.master(2) != 0).await;
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    println!("switched: {:?} without an answer, {:?}", report.outage(), report.errors());
    assert!(report.outage() < Duration::from_secs(2), "{:?}", report.outage());
    // From now on nothing reaches the old one, though it takes writes for ten seconds.
    let (old, new) = (&fleet.servers[0], &fleet.servers[fleet.master(1)]);
    let calls = |server: &server::Server| {
        let stats = server.command(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok());
        calls.unwrap_or(0)
    };
    let (old_before, new_before) = (calls(old), calls(new));
    for _ in 0..100 {
        store.answer(one(2, 60_000)).await.unwrap();
    }
    assert_eq!(calls(old), old_before);
    assert!(calls(new) >= new_before + 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sentinel_lost_the_others_suffice() {
    let Some(mut fleet) = Fleet::start() else { return };
    let store = connected(&fleet).await;
    fleet.sentinels[0].kill();
    let troubled = || store.health().backends[1].trouble.is_some();
    until(troubled).await;
    assert_eq!(store.trouble(), None, "the master is well");
    let load = Load::start(&store, vec![1]);
    load.answered_after(Instant::now()).await;
    let start = Instant::now();
    fleet.servers[0].kill();
    let promoted = promotion(&fleet, start).await;
    load.answered_after(Instant::now()).await;
    let report = load.stop().await;
    println!(
        "sentinel lost: {:?} without an answer, of which the others took {promoted:?}",
        report.outage()
    );
    assert!(report.outage() < promoted + FOUND_WITHIN, "{:?}", report.outage());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_of_yesterday_takes_nobody_back() {
    let Some(mut fleet) = Fleet::start() else { return };
    // It hears nothing from anybody, and will say for ever what it says now.
    let old_port = fleet.servers[0].port;
    fleet.start_sentinel(old_port, None);
    let store = connected(&fleet).await;
    let sample = [("127.0.0.1", old_port)];
    assert_eq!(store.health().backends[0].address, format!("{}:{}", sample[0].0, sample[0].1));
    fleet.servers[0].kill();
    until(|| fleet.master(0) != 0 && fleet.master(1) != 0 && fleet.master(2) != 0).await;
    until(|| store.trouble().is_none()).await;
    let master = store.health().backends[0].address.clone();
    let new = fleet.master(0);
    assert_eq!(master, format!("127.0.0.1:{}", fleet.servers[new].port));
    // The old master is there again and says that it is one; and only yesterday's sentinel
    // can be asked.
    for sentinel in &fleet.sentinels[..3] {
        sentinel.signal(Signal::STOP);
    }
    fleet.servers[0].set_arguments(&["--requirepass", PASSWORD]);
    fleet.servers[0].restart();
    let connects = store.health().backends[0].connects;
    fleet.servers[new].command(&["CLIENT", "KILL", "TYPE", "normal"]);
    until(|| store.health().backends[0].connects > connects && store.trouble().is_none()).await;
    for key in 0..50 {
        store.answer(one(key, 5)).await.unwrap();
    }
    assert_eq!(store.health().backends[0].address, master);
    assert_eq!(fleet.servers[0].command(&["DBSIZE"]), ":0", "nothing was asked of it");
}

#[tokio::test]
async fn old_connections_to_sentinels_are_replaced_without_a_gap() {
    let Some(fleet) = Fleet::start() else { return };
    let mut settings = settings(&fleet);
    settings.max_conn_age = Some(Duration::from_millis(100));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SENTINEL_PASSWORD).unwrap();
    let Servers::Sentinel { access, .. } = &mut settings.servers else { panic!() };
    access.credentials.password = Password::File(file.path().to_owned());
    let store = Store::start(settings);
    let is_well = || store.health().backends.iter().all(|backend| backend.trouble.is_none());
    until(is_well).await;
    // Nobody else subscribes to a sentinel.
    let ours = || -> Vec<String> {
        let clients = fleet.sentinels[0].command(&["CLIENT", "LIST"]);
        let ours = clients.lines().filter(|line| line.contains(" sub=1 "));
        ours.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    until(|| {
        let now = ours();
        assert!(!now.is_empty(), "somebody always listens");
        assert!(is_well(), "{:?}", store.health());
        seen.extend(now);
        seen.len() >= 5
    })
    .await;
    // The last one hears as the first did.
    let said = fleet.sentinels[1].command(&["SENTINEL", "FAILOVER", NAME]);
    assert_eq!(said, "+OK");
    let old = format!("127.0.0.1:{}", fleet.servers[0].port);
    until(|| store.health().backends[0].address != old && store.trouble().is_none()).await;
    // Where no new ones are let in, those that are there stay.
    std::fs::write(file.path(), "another").unwrap();
    until(|| fleet.sentinels[0].command(&["ACL", "LOG"]).contains("auth")).await;
    assert!(is_well() && !ours().is_empty(), "{:?}", store.health());
}

#[tokio::test]
async fn what_a_sentinel_does_not_know_or_does_not_tell_is_said() {
    let Some(fleet) = Fleet::start() else { return };
    let mut settings = settings(&fleet);
    let Servers::Sentinel { master_name, access, .. } = &mut settings.servers else { panic!() };
    *master_name = "nobody".to_owned();
    access.credentials.password = Password::Text(SENTINEL_PASSWORD.to_owned());
    let store = Store::start(settings.clone());
    let says = |store: &Store, what: &str| store.trouble().is_some_and(|said| said.contains(what));
    until(|| says(&store, "it knows no master named \"nobody\"")).await;
    let Servers::Sentinel { access, .. } = &mut settings.servers else { panic!() };
    access.credentials.password = Password::Text("hunter2".to_owned());
    let store = Store::start(settings);
    until(|| says(&store, "sign in")).await;
    let said = format!("{:?}", store.health());
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn the_rights_that_the_settings_name_suffice_for_sentinels() {
    let Some(fleet) = Fleet::start() else { return };
    let rights = "+sentinel|master +sentinel|get-master-addr-by-name +subscribe";
    for sentinel in &fleet.sentinels {
        let user = "ACL SETUSER watcher on >token resetchannels &+switch-master -@all";
        let words: Vec<_> = user.split(' ').chain(rights.split(' ')).collect();
        assert_eq!(sentinel.command(&words), "+OK");
    }
    let mut settings = settings(&fleet);
    let Servers::Sentinel { access, .. } = &mut settings.servers else { panic!() };
    access.credentials = Credentials {
        username: Some("watcher".to_owned()),
        password: Password::Text("token".to_owned()),
    };
    let store = Store::start(settings);
    until(|| store.trouble().is_none()).await;
    until(|| store.health().backends.iter().all(|backend| backend.trouble.is_none())).await;
    for sentinel in &fleet.sentinels {
        assert_eq!(sentinel.command(&["ACL", "LOG"]), "", "nothing was tried that it may not");
    }
}

/// How long the sentinels took to replace the first master, by the word of those that no test
/// loses.
async fn promotion(fleet: &Fleet, start: Instant) -> Duration {
    until(|| (1..3).any(|sentinel| fleet.master(sentinel) != 0)).await;
    start.elapsed()
}

fn settings(fleet: &Fleet) -> Settings {
    let word = |password: &str| Password::Text(password.to_owned());
    let access = |password: &str| Access {
        credentials: Credentials { username: None, password: word(password) },
        tls: None,
    };
    let sentinels = fleet.sentinels.iter().map(|one| Address::new("127.0.0.1", one.port));
    let mut settings = Settings::new(Servers::Sentinel {
        master_name: NAME.to_owned(),
        sentinels: sentinels.collect(),
        access: access(SENTINEL_PASSWORD),
    });
    settings.access = access(PASSWORD);
    // A busy machine stalls for longer than a server that is frozen is waited for by default.
    settings.read_timeout = Duration::from_millis(200);
    settings.pool_timeout = Duration::from_millis(200);
    settings
}

async fn connected(fleet: &Fleet) -> Arc<Store> {
    let store = Arc::new(Store::start(settings(fleet)));
    until(|| store.trouble().is_none()).await;
    store
}
