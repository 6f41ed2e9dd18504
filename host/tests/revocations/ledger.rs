//! What was acknowledged is there when the file is opened again, and nothing else is.

use crate::made_up::{lifted, token};
use crate::opened::{accept, entries, open, open_shared};
use tidegate::revocations::{
    Durability, HELD_MAX, NotAccepted, NotApplied, PAGE_RECORDS_MAX, Reach, Stats,
};
use tidegate_core::revoke::{Id, Kind, Position, Record};

#[tokio::test]
async fn what_is_accepted_is_known_and_still_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let start = first.position();
    let accepted = accept(&first, vec![token(1), token(2)]).await;
    assert_eq!(accepted.reach, Reach::ThisHost);
    assert_eq!((accepted.position.log, accepted.position.number), (start.log, 1));
    accept(&first, vec![lifted(token(2))]).await;
    assert_eq!(first.get(token(1).id), Ok(Some(token(1))));
    let stats = first.stats();
    drop(first);

    let again = open(folder.path());
    let timeless = |stats: Stats| Stats { images: None, ..stats };
    assert_eq!(timeless(again.stats()), timeless(stats.clone()));
    assert_eq!((stats.records[0], stats.lifted, stats.position.number), (1, 1, 2));
    assert_eq!(again.get(token(2).id), Ok(Some(lifted(token(2)))));
    let ids = [token(1).id, token(2).id, token(3).id];
    let checked = again.checked(&ids).unwrap();
    assert_eq!(checked.before_secs, [token(1).before_secs, 0, 0]);
    assert_eq!((checked.position, checked.age_ms), (stats.position, 0));
}

#[tokio::test]
async fn callers_at_the_same_time_get_an_entry_each() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let calls = (0..500).map(|number| {
        let revocations = revocations.clone();
        tokio::spawn(async move { accept(&revocations, vec![token(number)]).await.position })
    });
    let mut numbers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        numbers.push(call.await.unwrap().number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
    assert_eq!(revocations.entries_after(0).unwrap().len(), 500);
    let last = revocations.entries_after(499).unwrap();
    assert_eq!(last[0].position, revocations.position());
}

#[tokio::test]
async fn pages_hold_each_record_once_and_a_rare_kind_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let rare = Record {
        id: Id::of(Kind::Subject, &[b"iss", b"sub"]),
        kind: Kind::Subject,
        by_exp: false,
        ..token(0)
    };
    let mut all: Vec<Record> = (0..3_000).map(token).chain([rare]).collect();
    for batch in all.chunks(1_000) {
        accept(&revocations, batch.to_vec()).await;
    }
    all.sort_by_key(|record| record.id);
    let exported: Vec<Record> = revocations.export().flat_map(Result::unwrap).collect();
    assert_eq!(exported, all);
    let page = revocations.page(Some(Kind::Subject), None, 10).unwrap();
    assert_eq!((page.records, page.next), (vec![rare], None));
    let page = revocations.page(None, None, usize::MAX).unwrap();
    assert_eq!(page.records.len(), PAGE_RECORDS_MAX);
    assert_eq!(page.next, Some(all[PAGE_RECORDS_MAX - 1].id));
}

#[tokio::test]
async fn a_host_that_follows_accepts_nothing_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open_shared(folder.path());
    let not = revocations.accept(vec![token(1)], Durability::ThisHost).await;
    assert!(matches!(not, Err(NotAccepted::Away(_))), "{not:?}");
    assert_eq!(revocations.stats().age, None);
    revocations.set_fresh(std::time::Instant::now());
    assert!(revocations.stats().age.is_some());
}

#[tokio::test]
async fn entries_of_another_log_are_applied_in_order_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open_shared(folder.path());
    let log = Position::start(77);
    let told = entries(log, &[vec![token(1)], vec![token(2), token(3)], vec![token(4)]]);
    assert_eq!(revocations.apply(told.clone()).await, Err(NotApplied::Gap), "of another log");
    revocations.begin_anew(log).await.unwrap();
    assert_eq!(revocations.apply(told[1..].to_vec()).await, Err(NotApplied::Gap));
    let torn = vec![told[0].clone(), told[2].clone()];
    assert_eq!(revocations.apply(torn).await, Err(NotApplied::Gap));
    assert_eq!(revocations.get(token(1).id), Ok(None), "all or none");
    assert_eq!(revocations.apply(told.clone()).await, Ok(told[2].position));
    drop(revocations);
    let again = open_shared(folder.path());
    assert_eq!(again.position(), told[2].position);
    assert_eq!(again.entries_after(0), Ok(told.clone()));
    assert_eq!(again.entries_after(2), Ok(told[2..].to_vec()));

    again.begin_anew(Position::start(78)).await.unwrap();
    assert_eq!(again.entries_after(0), Ok(Vec::new()));
    assert_eq!(again.get(token(4).id), Ok(Some(token(4))), "what was revoked stays so");
}

#[tokio::test]
async fn what_waits_for_the_shared_log_is_durable_until_the_log_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open_shared(folder.path());
    let log = revocations.position();
    revocations.hold(vec![token(1), token(2)]).await.unwrap();
    drop(revocations);
    let again = open_shared(folder.path());
    assert_eq!((again.held().len(), again.get(token(1).id)), (2, Ok(Some(token(1)))));
    assert_eq!(again.position(), log);

    // An older word on the same id does not stand for it.
    let older = Record { at_ms: token(2).at_ms - 1, until_secs: 1, ..token(2) };
    again.apply(entries(log, &[vec![token(1), older]])).await.unwrap();
    assert_eq!(again.held(), [token(2)]);
    drop(again);
    assert_eq!(open_shared(folder.path()).held(), [token(2)]);
}

#[tokio::test]
async fn no_more_wait_for_the_shared_log_than_proxies_can_be_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open_shared(folder.path());
    revocations.hold((0..HELD_MAX as u64).map(token).collect()).await.unwrap();
    let more = revocations.hold(vec![token(99_999)]).await;
    assert_eq!(more, Err(NotAccepted::HeldMax));
    assert_eq!(revocations.get(token(99_999).id), Ok(None));
}

#[tokio::test]
async fn neither_nothing_nor_too_much_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = open(folder.path());
    let none = revocations.accept(Vec::new(), Durability::Shared).await;
    assert_eq!(none, Err(NotAccepted::Count(0)));
    let many = revocations.accept((0..1_025).map(token).collect(), Durability::Shared).await;
    assert_eq!(many, Err(NotAccepted::Count(1_025)));
    let replicas = revocations.accept(vec![token(1)], Durability::Replicas(1)).await;
    assert_eq!(replicas, Err(NotAccepted::NoReplicas));
    assert_eq!(revocations.position().number, 0);
}
