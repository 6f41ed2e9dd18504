//! What proxies are told, and when.

use crate::made_up::{lifted, token};
use crate::opened::{accept, entries, in_memory, open, open_shared, settings, told};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate::revocations::{Revocations, Settings};
use tidegate_core::revoke::message::{Form, News, NewsAsk};
use tidegate_core::revoke::{EVER, Id, Kind, Position, Record};

/// A proxy: it knows what it was told, and nothing else.
#[derive(Default)]
struct Proxy {
    known: Position,
    cut: u64,
    deltas: Vec<(Id, u64)>,
}

impl Proxy {
    async fn asks(&mut self, host: &Revocations, patience: Duration) -> News {
        let ask = NewsAsk { known: self.known, cut: self.cut, form: Form::Fuse, wants_keys: true };
        let news = host.news(&ask, patience).await.unwrap();
        if news.anew {
            self.deltas.clear();
        }
        self.known = news.position;
        self.cut = news.manifest.as_ref().map_or(self.cut, |manifest| manifest.cut);
        self.deltas.extend(news.deltas.iter().map(|delta| (delta.id, delta.before_secs)));
        news
    }
}

fn memory() -> Arc<Revocations> {
    in_memory(&Arc::new(AtomicU64::new(0)))
}

#[tokio::test]
async fn a_proxy_that_knows_nothing_begins_with_images_and_goes_on_with_what_comes() {
    let (host, mut proxy) = (memory(), Proxy::default());
    let first = proxy.asks(&host, Duration::ZERO).await;
    assert!(first.anew && first.manifest.unwrap().images.is_empty());
    assert_eq!(proxy.known, host.position());
    accept(&host, vec![token(1)]).await;
    accept(&host, vec![lifted(token(1)), token(2)]).await;
    let news = proxy.asks(&host, Duration::ZERO).await;
    assert_eq!((news.position, news.anew, news.age_ms), (host.position(), false, 0));
    let mut said: Vec<_> = news.deltas.iter().map(|d| (d.number, d.id, d.before_secs)).collect();
    said.sort_unstable();
    let mut wanted = [(1, token(1).id, EVER), (2, token(1).id, 0), (2, token(2).id, EVER)];
    wanted.sort_unstable();
    assert_eq!(said, wanted);
    assert!(proxy.asks(&host, Duration::ZERO).await.deltas.is_empty());
}

#[tokio::test]
async fn much_at_once_comes_in_answers_that_have_room_for_it() {
    let (host, mut proxy) = (memory(), Proxy::default());
    proxy.asks(&host, Duration::ZERO).await;
    let all: Vec<_> = (0..4_000).map(token).collect();
    for batch in all.chunks(1_000) {
        accept(&host, batch.to_vec()).await;
    }
    let mut answers = 0;
    while proxy.asks(&host, Duration::ZERO).await.more {
        answers += 1;
    }
    assert_eq!((answers, proxy.deltas.len()), (1, 4_000));
    assert_eq!(proxy.known, host.position());
}

#[tokio::test]
async fn a_poll_is_answered_as_soon_as_there_is_something_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let (host, mut proxy) = (open(folder.path()), Proxy::default());
    proxy.asks(&host, Duration::from_secs(10)).await;
    let began = Instant::now();
    let revoker = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        accept(&host, vec![token(1)]).await;
    };
    let (news, ()) = tokio::join!(proxy.asks(&host, Duration::from_secs(30)), revoker);
    assert_eq!(news.deltas[0].id, token(1).id);
    assert!((150..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());

    let began = Instant::now();
    let news = proxy.asks(&host, Duration::from_millis(80)).await;
    assert!(news.deltas.is_empty() && began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn who_knows_another_past_begins_anew() {
    let host = memory();
    accept(&host, vec![token(1)]).await;
    let at = host.position();
    for other in [
        Position { chain: at.chain ^ 1, ..at },
        Position { log: at.log ^ 1, ..at },
        Position { number: at.number + 1, ..at },
        Position::default(),
    ] {
        let news = told(&host, other, 0).await.unwrap();
        assert!(news.anew && news.manifest.is_some(), "{other:?}");
        assert_eq!(news.position, at);
    }
    assert!(!told(&host, at, 0).await.unwrap().anew);
}

#[tokio::test]
async fn a_host_that_lags_takes_nothing_from_a_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let host = open_shared(folder.path());
    let log = host.position();
    let both = entries(log, &[vec![token(1)], vec![token(2)]]);
    let ahead = both[1].position;
    host.apply(both[..1].to_vec()).await.unwrap();
    let news = told(&host, ahead, 1).await.unwrap();
    assert_eq!((news.position, news.age_ms, news.anew), (ahead, u32::MAX, false));
    assert!(news.deltas.is_empty() && news.manifest.is_none());

    // It waits for what the proxy knows already, and then for more.
    let ask = NewsAsk { known: ahead, cut: 1, form: Form::Fuse, wants_keys: true };
    let later = async {
        host.apply(both[1..].to_vec()).await.unwrap();
        host.apply(entries(ahead, &[vec![token(3)]])).await.unwrap();
    };
    let (news, ()) = tokio::join!(host.news(&ask, Duration::from_secs(30)), later);
    let news = news.unwrap();
    assert_eq!(news.deltas.iter().map(|delta| delta.id).collect::<Vec<_>>(), [token(3).id]);
}

#[tokio::test]
async fn what_was_lost_for_good_is_forgotten_by_proxies_too() {
    let folder = tempfile::tempdir().unwrap();
    let host = open_shared(folder.path());
    let lost = entries(host.position(), &[vec![token(1)]])[0].position;
    let ask = NewsAsk { known: lost, cut: 0, form: Form::Fuse, wants_keys: true };
    let fresh = async {
        loop {
            host.set_fresh(Instant::now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = fresh => {}
        news = host.news(&ask, Duration::from_secs(3)) => assert!(news.unwrap().anew),
    }
}

#[tokio::test]
async fn what_waits_for_the_shared_log_is_told_with_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (host, mut proxy) = (open_shared(folder.path()), Proxy::default());
    proxy.asks(&host, Duration::from_secs(10)).await;
    let hold = async { host.hold(vec![token(1)]).await.unwrap() };
    let (news, at) = tokio::join!(proxy.asks(&host, Duration::from_secs(30)), hold);
    assert_eq!((news.position, news.age_ms), (at, u32::MAX));
    assert_eq!(proxy.deltas, [(token(1).id, EVER)]);
    let began = Instant::now();
    proxy.asks(&host, Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(10), "answers come often");
    assert_eq!(proxy.deltas.len(), 2, "for it may not have come");

    host.apply(entries(at, &[vec![token(1)]])).await.unwrap();
    proxy.asks(&host, Duration::from_secs(30)).await;
    assert_eq!((proxy.known, proxy.deltas.len()), (host.position(), 3));
    assert!(proxy.asks(&host, Duration::ZERO).await.deltas.is_empty());
}

#[tokio::test]
async fn what_is_held_takes_nothing_back_that_the_log_says_of_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (host, mut proxy) = (open_shared(folder.path()), Proxy::default());
    proxy.asks(&host, Duration::from_secs(10)).await;
    let subject = |before_secs, at_ms| Record {
        kind: Kind::Subject,
        by_exp: false,
        before_secs,
        at_ms,
        ..token(1)
    };
    let at = host.hold(vec![subject(100, 200)]).await.unwrap();
    proxy.asks(&host, Duration::ZERO).await;
    assert_eq!(proxy.deltas.last(), Some(&(token(1).id, 100)));
    host.apply(entries(at, &[vec![subject(150, 190)]])).await.unwrap();
    assert_eq!(host.held().len(), 1, "it was made later");
    proxy.asks(&host, Duration::ZERO).await;
    assert_eq!(proxy.deltas[1..], [(token(1).id, 150), (token(1).id, 150)]);
}

#[tokio::test]
async fn a_proxy_goes_on_where_it_was_after_the_host_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let (host, mut proxy) = (open(folder.path()), Proxy::default());
    proxy.asks(&host, Duration::from_secs(10)).await;
    for number in 0..10 {
        accept(&host, vec![token(number)]).await;
    }
    drop(host);
    let host = open(folder.path());
    loop {
        let news = proxy.asks(&host, Duration::from_secs(10)).await;
        assert!(!news.anew);
        if !news.more {
            break;
        }
    }
    assert_eq!(proxy.deltas.len(), 10);
}

#[tokio::test]
async fn keys_of_ids_are_told_with_every_answer_and_others_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "11".repeat(32)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let settings = Settings { id_key_files: vec![path.clone()], ..settings(home.path(), false) };
    let (host, mut proxy) = (Revocations::open(&settings).unwrap(), Proxy::default());
    let begun = proxy.asks(&host, Duration::from_secs(10)).await;
    assert_eq!(begun.id_keys, Some(vec![[0x11; 32]]));
    let began = Instant::now();
    let change = async { std::fs::write(&path, "22".repeat(32)).unwrap() };
    let (others, ()) = tokio::join!(proxy.asks(&host, Duration::from_secs(30)), change);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((others.id_keys, others.manifest), (Some(vec![[0x22; 32]]), None));
    // One that was away then, and hears of something else first.
    accept(&host, vec![token(1)]).await;
    let news = proxy.asks(&host, Duration::ZERO).await;
    assert_eq!((news.deltas.len(), news.id_keys), (1, Some(vec![[0x22; 32]])));
    // One of a release that did not ask for them could not read them.
    let ask = NewsAsk { known: host.position(), cut: 0, form: Form::Fuse, wants_keys: false };
    assert_eq!(host.news(&ask, Duration::ZERO).await.unwrap().id_keys, None);
}

#[tokio::test]
async fn deltas_say_how_old_they_are() {
    let nanos = Arc::new(AtomicU64::new(0));
    let (host, mut proxy) = (in_memory(&nanos), Proxy::default());
    proxy.asks(&host, Duration::ZERO).await;
    accept(&host, vec![token(1)]).await;
    nanos.store(70_000_000, Ordering::Relaxed);
    assert_eq!(proxy.asks(&host, Duration::ZERO).await.deltas[0].age_ms, 70);
}
