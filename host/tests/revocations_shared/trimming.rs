//! The log does not grow for ever, and whoever reads what is left of it knows everything that is
//! in force.

use crate::hosts::{Host, LOG, are_shared, redis, tokens, until};
use crate::server::Server;
use tidegate_core::revoke::Record;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_cut_from_the_head() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    for record in expired(0..50) {
        host.accept(&[record]).await;
    }
    let live = tokens(100..110);
    for record in &live {
        host.accept(&[*record]).await;
    }
    until("the head was cut", || length(&server) <= live.len()).await;
    assert_eq!(host.shared.counts().carried(), 0);
    are_shared(&redis(&server), &live).await;
    // Whoever was away for all of it begins at the head.
    assert_eq!(host.shared.counts().losses(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_force_for_long_is_carried_forward() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    let late = Host::new(&redis(&server));
    host.until_following().await;
    let live = tokens(0..5);
    host.accept(&live).await;
    until("both know", || late.knows_all(&live)).await;
    let disk = late.stop();
    let calls = expired(1_000..2_300).into_iter().map(|record| {
        let ledger = host.ledger.clone();
        let wanted = tidegate::revocations::Durability::Shared;
        async move { ledger.accept(vec![record], wanted).await.unwrap() }
    });
    // One after the other, or they would share entries.
    for call in calls {
        call.await;
    }
    until("the log is short again", || length(&server) < 100).await;
    until("what is in force was carried", || host.shared.counts().carried() >= 5).await;
    are_shared(&redis(&server), &live).await;
    // What it knew is not there any more: it cannot tell whether something was lost, and looks.
    let late = Host::on(disk, &redis(&server));
    until("it follows, and owes nothing", || {
        late.ledger.position() == host.ledger.position() && !late.ledger.owes()
    })
    .await;
    // More than once, if the other still cuts while it looks.
    assert!(late.shared.counts().losses() >= 1);
    assert_eq!(late.shared.counts().put_back(), 0);
}

/// A log that has nothing in force keeps its last entry, so that it is known where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_entry_stays() {
    let Some(server) = Server::start() else { return };
    let host = Host::new(&redis(&server));
    host.until_following().await;
    for record in expired(0..10) {
        host.accept(&[record]).await;
    }
    until("all but one was cut", || length(&server) == 1).await;
    host.accept(&expired(10..11)).await;
    assert_eq!(host.shared.counts().losses(), 0);
    assert_eq!(host.ledger.position().number, 12, "one to begin with, and eleven");
}

fn expired(numbers: std::ops::Range<u64>) -> Vec<Record> {
    let tokens = tokens(numbers).into_iter();
    tokens.map(|record| Record { until_secs: 1_000_000_000, ..record }).collect()
}

fn length(server: &Server) -> usize {
    server.command(&["XLEN", LOG])[1..].parse().unwrap()
}
