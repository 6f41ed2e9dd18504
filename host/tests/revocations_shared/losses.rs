//! Redis forgets: all of it, or the log alone, or some of it. It is put back, once, and soon.

use crate::hosts::{Host, LOG, are_shared, log_records, redis, tokens, until, until_at_same_place};
use crate::server::Server;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_flushed_is_put_back_by_one_of_the_hosts() {
    const RECORDS: u64 = 20_000;
    let Some(server) = Server::start() else { return };
    let hosts = [Host::new(&redis(&server)), Host::new(&redis(&server))];
    hosts[0].until_following().await;
    let records = tokens(0..RECORDS);
    hosts[0].accept(&records).await;
    until("both know", || hosts[1].knows_all(&records)).await;
    let start = Instant::now();
    server.command(&["FLUSHALL"]);
    until("both noticed", || hosts.iter().all(|host| host.shared.counts().losses() > 0)).await;
    until("nothing is owed", || hosts.iter().all(|host| !host.ledger.owes())).await;
    println!("{RECORDS} records are back {:?} after they were flushed", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let put_back: u64 = hosts.iter().map(|host| host.shared.counts().put_back()).sum();
    // Of a host that is slow the turn may lapse; whoever goes on may repeat its last entries.
    assert!((RECORDS..RECORDS * 3 / 2).contains(&put_back), "by one of them: {put_back}");
    assert_eq!(log_records(&redis(&server)).await, put_back as usize);
    until_at_same_place(&hosts[0], &hosts[1]).await;
    are_shared(&redis(&server), &records).await;
}

/// Each host knows something that the other does not, when the log is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_host_knows_is_put_back_by_that_one() {
    let Some(server) = Server::start() else { return };
    let [one, other] = [Host::new(&redis(&server)), Host::new(&redis(&server))];
    one.until_following().await;
    let (common, own) = (tokens(0..2_000), tokens(2_000..3_000));
    one.accept(&common).await;
    until("both know", || other.knows_all(&common)).await;
    let disk = other.stop();
    one.accept(&own).await;
    server.command(&["FLUSHALL"]);
    let other = Host::on(disk, &redis(&server));
    until("the other knows", || other.knows_all(&own)).await;
    until("nothing is owed", || !one.ledger.owes() && !other.ledger.owes()).await;
    are_shared(&redis(&server), &[common, own].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_while_the_log_is_gone_is_revoked() {
    let Some(server) = Server::start() else { return };
    let hosts = [Host::new(&redis(&server)), Host::new(&redis(&server))];
    hosts[0].until_following().await;
    hosts[1].until_following().await;
    let old = tokens(0..100);
    hosts[0].accept(&old).await;
    let mut all = old;
    for round in 1..=5_u64 {
        server.command(&["FLUSHALL"]);
        // At once, before anybody has noticed.
        let records = tokens(round * 1_000..round * 1_000 + 10);
        let start = Instant::now();
        hosts[round as usize % 2].accept(&records).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        all.extend(records);
    }
    for host in &hosts {
        until("both know all", || host.knows_all(&all)).await;
    }
    are_shared(&redis(&server), &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_evicted_is_put_back() {
    let arguments = ["--maxmemory", "6mb", "--maxmemory-policy", "allkeys-random"];
    let Some(server) = Server::start_with(&arguments, None) else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    let records = tokens(0..500);
    host.accept(&records).await;
    let losses = || host.shared.counts().losses();
    let mut rounds = 0;
    for evicted in 1..=3 {
        // Other keys come, few and large, until by chance the log is what goes.
        while server.command(&["EXISTS", LOG]) == ":1" && losses() < evicted {
            rounds += 1;
            assert!(rounds < 10_000, "the log is never evicted");
            server.command(&["DEBUG", "POPULATE", "50", &format!("limits:{rounds}"), "100000"]);
        }
        until("it was noticed", || losses() >= evicted).await;
        until("it is there again", || server.command(&["EXISTS", LOG]) == ":1").await;
    }
    println!("evicted {} times in {rounds} rounds", losses());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    until("nothing is owed", || !host.ledger.owes() && host.shared.trouble().is_none()).await;
    are_shared(&redis(&server), &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_a_gap_is_begun_anew_and_nothing_is_lost() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    let records = tokens(0..50);
    for record in &records {
        host.accept(&[*record]).await;
    }
    let log = host.ledger.position().log;
    let newcomer = Host::new(&redis(&server));
    until("it knows everything", || newcomer.knows_all(&records)).await;
    let disk = newcomer.stop();
    // The one with the whole of it is away, the other has nothing: it finds the gap, and saves
    // what is around it.
    host.stop();
    assert_eq!(server.command(&["XDEL", LOG, &format!("20-{log}")]), ":1");
    let empty = Host::new(&redis(&server));
    until("a new log", || empty.ledger.position().log != log).await;
    until("it has what was around the gap", || {
        empty.shared.trouble().is_none()
            && records.iter().filter(|record| empty.knows(record)).count() == 49
    })
    .await;
    // And whoever comes back brings the rest.
    let _back = Host::on(disk, &redis(&server));
    until("it has everything", || empty.knows_all(&records)).await;
    assert_eq!(empty.shared.counts().damages(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_end_was_deleted_is_written_again() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    host.accept(&tokens(0..10)).await;
    let at = host.ledger.position();
    assert_eq!(server.command(&["XDEL", LOG, &format!("{}-{}", at.number, at.log)]), ":1");
    until("it was noticed", || host.shared.counts().losses() >= 1).await;
    // That id the server takes no more: the log must begin anew.
    host.accept(&tokens(10..20)).await;
    until("nothing is owed", || !host.ledger.owes()).await;
    are_shared(&redis(&server), &tokens(0..20)).await;
}
