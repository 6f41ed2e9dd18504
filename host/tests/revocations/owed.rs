//! What is owed to the shared log: known from when its loss is noticed until it is made good,
//! whatever happens to the host between.

use crate::made_up::token;
use crate::opened::settings;
use std::path::Path;
use std::sync::Arc;
use tidegate::revocations::{Entry, Revocations};
use tidegate_core::revoke::Position;

#[tokio::test]
async fn what_is_owed_to_the_shared_log_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    assert!(!ledger.owes());
    ledger.begin_anew(Position::start(7)).await.unwrap();
    drop(ledger);
    let ledger = open(folder.path());
    assert!(ledger.owes());
    ledger.paid().await.unwrap();
    assert!(!ledger.owes());
    drop(ledger);
    assert!(!open(folder.path()).owes());
}

#[tokio::test]
async fn a_log_that_is_known_less_far_keeps_what_led_there() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let start = Position::start(7);
    ledger.begin_anew(start).await.unwrap();
    let entries: Vec<_> = entries(start, 10);
    ledger.apply(entries.clone()).await.unwrap();
    let at = entries[4].position;
    ledger.begin_anew(at).await.unwrap();
    assert_eq!(ledger.position(), at);
    assert_eq!(ledger.entries_after(0).unwrap(), entries[..5]);
    assert_eq!(ledger.position_at(5).unwrap(), Some(at));
    assert_eq!(ledger.position_at(6).unwrap(), None);
    assert!(ledger.get(token(9).id).unwrap().is_some(), "what is revoked stays so");
    // A past that did not lead there is none.
    let stranger = Position { chain: at.chain ^ 1, ..at };
    ledger.begin_anew(stranger).await.unwrap();
    assert_eq!(ledger.entries_after(0).unwrap(), []);
    // And with neither is the file damaged.
    let more = self::entries(stranger, 3);
    ledger.apply(more.clone()).await.unwrap();
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(ledger.entries_after(0).unwrap(), more);
}

/// The least that an entry may say is nothing: a log begins with it.
#[tokio::test]
async fn an_entry_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let start = Position::start(7);
    ledger.begin_anew(start).await.unwrap();
    let empty = Entry { position: start.then(b""), records: Vec::new() };
    ledger.apply(vec![empty.clone()]).await.unwrap();
    drop(ledger);
    assert_eq!(open(folder.path()).position(), empty.position);
}

fn entries(mut at: Position, count: u64) -> Vec<Entry> {
    let entry = |number| {
        let records = vec![token(number)];
        at = at.then(&records[0].to_bytes());
        Entry { position: at, records }
    };
    (0..count).map(entry).collect()
}

fn open(folder: &Path) -> Arc<Revocations> {
    Revocations::open(&settings(folder, true)).unwrap()
}
